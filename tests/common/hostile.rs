//! What both the tests of damaged graphs and the fuzz target (fuzz/) do with a graph: read, lower, plan and run it. It ends
//! in an error or in an output, never in a panic, an endless loop or unbounded memory.
#![allow(dead_code)] // each user takes its part of it

use elek::infer::int8::plan::{Plan, State};
use elek::infer::int8::{self, rewrite};
use elek::kernels::isa::Isa;
use std::collections::HashSet;
use std::sync::Arc;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};
use tract_onnx::prelude::Framework;

/// Any bytes: an ONNX file, or, behind a zero, what a graph is made of.
pub fn bytes(data: &[u8]) {
    match data.split_first() {
        Some((0, rest)) => {
            let (proto, shape) = made_of(rest);
            graph(&proto, &shape, "output");
        }
        _ => {
            let Some(proto) = read(data) else { return };
            let outputs = proto.graph.as_ref().map(|g| &g.output);
            let output = outputs.and_then(|o| Some(o.first()?.name.clone()));
            let output = output.unwrap_or_default();
            graph(&proto, &[1, 3, 16, 16], &output);
        }
    }
}

pub fn read(bytes: &[u8]) -> Option<ModelProto> {
    tract_onnx::onnx().proto_model_for_read(&mut &bytes[..]).ok()
}

/// Lowers, plans and runs whatever can be.
pub fn graph(proto: &ModelProto, shape: &[usize], output: &str) {
    let Ok(lowered) = int8::lower(proto, "image", shape, output) else {
        return;
    };
    let mut plans = Vec::new();
    for region in &lowered.partition.regions {
        let work: u64 = region.program.macs();
        let Ok(plan) = Plan::new(region, Isa::best()) else {
            return;
        };
        let plan = Arc::new(plan);
        plans.push(plan.clone());
        // Large ones are allowed, but take their time.
        if work > 5_000_000 || plan.memory() > 50_000_000 {
            continue;
        }
        let inputs: Vec<Vec<f32>> = plan
            .inputs()
            .iter()
            .map(|input| {
                (0..input.shape.iter().product())
                    .map(|i| (i % 37) as f32 - 18.0)
                    .collect()
            })
            .collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(|v| &v[..]).collect();
        let mut state = State::new(plan.clone());
        state.run(&inputs).expect("no kernel panics");
        for (i, output) in plan.outputs().iter().enumerate() {
            let mut values = vec![0.0; output.shape.iter().product()];
            state.output(i, &mut values);
        }
    }
    if let Ok(rewritten) = rewrite::rewrite(proto, &lowered, &plans) {
        made_once(&rewritten);
    }
}

/// Every name is made by one node or constant.
fn made_once(proto: &ModelProto) {
    let Some(graph) = &proto.graph else { return };
    let constants = graph.initializer.iter().map(|t| &t.name);
    let outputs = graph.node.iter().flat_map(|n| &n.output);
    let mut names = HashSet::new();
    for name in constants.chain(outputs).filter(|name| !name.is_empty()) {
        assert!(names.insert(name), "{name:?} is made twice");
    }
}

/// Operators that are lowered, and two that are not.
const OPERATORS: [&str; 34] = [
    "QuantizeLinear",
    "DequantizeLinear",
    "Conv",
    "ConvTranspose",
    "MatMul",
    "Gemm",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Relu",
    "Clip",
    "Sigmoid",
    "HardSwish",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Resize",
    "Pad",
    "Slice",
    "Split",
    "Concat",
    "Transpose",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Softmax",
    "QLinearConv",
    "QLinearAdd",
    "QLinearConcat",
    "Sin",
    "Gather",
];
const ATTRIBUTES: [&str; 14] = [
    "kernel_shape",
    "strides",
    "dilations",
    "pads",
    "group",
    "axis",
    "axes",
    "perm",
    "alpha",
    "mode",
    "transB",
    "ceil_mode",
    "keepdims",
    "output_padding",
];
const NUMBERS: [i64; 16] = [
    1,
    2,
    3,
    0,
    -1,
    1,
    2,
    4,
    8,
    255,
    256,
    -128,
    1 << 31,
    1 << 40,
    i64::MAX,
    i64::MIN,
];

/// A byte after the other; zeros behind the end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first)
    }

    fn number(&mut self) -> i64 {
        NUMBERS[self.next() % NUMBERS.len()]
    }
}

/// A graph whose shape any bytes tell.
fn made_of(data: &[u8]) -> (ModelProto, Vec<usize>) {
    let mut data = Bytes(data);
    let shape = vec![1, 1 + data.next() % 8, 1 + data.next() % 8, 1 + data.next() % 8];
    let mut graph = GraphProto::default();
    let mut names = vec!["image".to_owned(), String::new()];
    for i in 0..data.next() % 8 {
        let kind = [
            DataType::Float,
            DataType::Uint8,
            DataType::Int8,
            DataType::Int32,
            DataType::Int64,
        ][data.next() % 5];
        let size = [4, 1, 1, 4, 8][[1usize, 2, 3, 6, 7]
            .iter()
            .position(|k| *k == kind as usize)
            .unwrap_or(0)];
        let dims: Vec<i64> = (0..data.next() % 5).map(|_| data.number()).collect();
        let volume = dims.iter().try_fold(1i64, |p, d| p.checked_mul(*d)).unwrap_or(0);
        let count = usize::try_from(volume).unwrap_or(0).min(4096) * size;
        let first = data.next();
        // Floats near 0.01, bytes of all kinds.
        let raw_data = (0..count).map(|k| match kind {
            DataType::Float => [0x0a, first as u8, 0x24, 0x3c][k % 4],
            _ if k % size > 0 => 0,
            _ => (first * (k + 1)) as u8,
        });
        graph.initializer.push(TensorProto {
            name: format!("c{i}"),
            dims,
            data_type: kind as i32,
            raw_data: raw_data.collect(),
            ..Default::default()
        });
        names.push(format!("c{i}"));
    }
    let count = 1 + data.next() % 24;
    for i in 0..count {
        let op = OPERATORS[data.next() % OPERATORS.len()];
        // Mostly of what came last.
        let input: Vec<String> = (0..1 + data.next() % 4)
            .map(|_| names[names.len() - 1 - data.next() % names.len()].clone())
            .collect();
        let attribute = (0..data.next() % 4).map(|_| {
            let name = ATTRIBUTES[data.next() % ATTRIBUTES.len()].to_owned();
            let mut attribute = AttributeProto {
                name,
                i: data.number(),
                ints: (0..data.next() % 6).map(|_| data.number()).collect(),
                f: data.next() as f32 / 16.0 - 4.0,
                s: [&b"nearest"[..], b"linear", b"reflect", b""][data.next() % 4].to_vec(),
                ..Default::default()
            };
            let kinds = [
                AttributeType::Int,
                AttributeType::Ints,
                AttributeType::Float,
                AttributeType::String,
            ];
            attribute.r#type = kinds[data.next() % 4] as i32;
            attribute
        });
        let attribute = attribute.collect();
        let name = if i + 1 == count {
            "output".to_owned()
        } else {
            format!("v{i}")
        };
        graph.node.push(NodeProto {
            op_type: op.to_owned(),
            input,
            output: vec![name.clone()],
            attribute,
            domain: if op.starts_with("QLinearA") || op == "QLinearConcat" {
                "com.microsoft"
            } else {
                ""
            }
            .to_owned(),
            ..Default::default()
        });
        names.push(name);
    }
    let named = |name: &str| ValueInfoProto {
        name: name.to_owned(),
        ..Default::default()
    };
    graph.input = vec![named("image")];
    graph.output = vec![named("output")];
    let opset = |domain: &str, version: i64| OperatorSetIdProto {
        domain: domain.to_owned(),
        version,
    };
    let proto = ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 10 + data.next() as i64 % 12), opset("com.microsoft", 1)],
        graph: Some(graph),
        ..Default::default()
    };
    (proto, shape)
}
