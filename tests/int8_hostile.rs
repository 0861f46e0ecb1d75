//! Damaged graphs: our own reading of ONNX ends in an error or a graph that runs, never in a panic or an endless loop.
//! (tract's reader has no such promise: it meets files in a child process, see tests/model_files.rs.)
//! fuzz/ has the same for a fuzzer that looks for its own way.

#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/ops.rs"]
mod ops;

use elek::infer::graph::{Expected, Opened, open_model};
use elek::infer::int8::{self, rewrite};
use hostile::{graph, read};
use proptest::prelude::*;
use std::sync::OnceLock;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};

/// A graph of tests/golden/ops.bin, its input's shape and its output's name.
type Case = (Vec<u8>, Vec<usize>, String);

fn graphs() -> &'static [Case] {
    static GRAPHS: OnceLock<Vec<Case>> = OnceLock::new();
    GRAPHS.get_or_init(|| {
        let cases = ops::cases().into_iter();
        cases.map(|case| (case.model, case.shape, case.output)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The fuzz target's entry, without a corpus.
    #[test]
    fn graphs_of_any_bytes(data in prop::collection::vec(any::<u8>(), 0..300)) {
        hostile::bytes(&[&[0], &data[..]].concat());
        hostile::bytes(&data);
    }

    #[test]
    fn flipped_bytes(which in 0usize..1000, changes in prop::collection::vec((any::<u32>(), any::<u8>()), 1..4)) {
        let (model, shape, output) = &graphs()[which % graphs().len()];
        let mut bytes = model.clone();
        for (at, byte) in changes {
            let at = at as usize % bytes.len();
            bytes[at] = byte;
        }
        if let Some(proto) = read(&bytes) {
            graph(&proto, shape, output);
        }
    }

    #[test]
    fn cut_and_spliced(which in 0usize..1000, other in 0usize..1000, from in any::<u32>(), to in any::<u32>()) {
        let (model, shape, output) = &graphs()[which % graphs().len()];
        let (second, ..) = &graphs()[other % graphs().len()];
        let (from, to) = (from as usize % model.len(), to as usize % second.len());
        if let Some(proto) = read(&[&model[..from], &second[to..]].concat()) {
            graph(&proto, shape, output);
        }
    }

    /// Numbers of attributes, sizes and inputs changed, the file still whole: what bytes alone seldom reach.
    #[test]
    fn other_numbers(which in 0usize..1000, seed in any::<u64>()) {
        let (model, shape, output) = &graphs()[which % graphs().len()];
        let mut proto = read(model).unwrap();
        let mut dice = seed;
        let mut next = move || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize
        };
        const NUMBERS: [i64; 14] = [0, 1, -1, 2, 3, 7, 255, 256, -128, 32_768, 1 << 31, i64::MAX, i64::MIN, 1 << 40];
        let file = proto.graph.as_mut().unwrap();
        for _ in 0..1 + next() % 3 {
            let (a, b, n) = (next(), next(), NUMBERS[next() % NUMBERS.len()]);
            let nodes = file.node.len();
            match next() % 6 {
                0 => {
                    let node = &mut file.node[a % nodes];
                    let many = node.attribute.len().max(1);
                    if let Some(attribute) = node.attribute.get_mut(b % many) {
                        attribute.i = n;
                        let count = attribute.ints.len().max(1);
                        if let Some(int) = attribute.ints.get_mut(next() % count) {
                            *int = n;
                        }
                    }
                }
                1 => {
                    let name = file.node[b % nodes].output[0].clone();
                    let inputs = &mut file.node[a % nodes].input;
                    let count = inputs.len();
                    inputs[next() % count] = name;
                }
                2 => {
                    let tensors = file.initializer.len();
                    let tensor = &mut file.initializer[a % tensors];
                    let dims = tensor.dims.len().max(1);
                    if let Some(dim) = tensor.dims.get_mut(b % dims) {
                        *dim = n;
                    }
                }
                3 => {
                    let tensors = file.initializer.len();
                    let tensor = &mut file.initializer[a % tensors];
                    let length = tensor.raw_data.len().max(1);
                    if let Some(byte) = tensor.raw_data.get_mut(b % length) {
                        *byte = n as u8;
                    }
                }
                4 => file.node[a % nodes].op_type = file.node[b % nodes].op_type.clone(),
                _ => {
                    file.node.remove(a % nodes);
                    if file.node.is_empty() {
                        break;
                    }
                }
            }
        }
        graph(&proto, shape, output);
    }
}

/// Image -> Q -> DQ -> nodes, each of which reads the one before, -> Q.
struct Chain {
    graph: GraphProto,
    last: String,
}

impl Chain {
    fn new() -> Chain {
        let mut chain = Chain {
            graph: GraphProto::default(),
            last: "image".to_owned(),
        };
        chain.tensor("scale", DataType::Float, &[], &0.1f32.to_le_bytes());
        chain.tensor("zero", DataType::Uint8, &[], &[128]);
        chain.node("QuantizeLinear", &["scale", "zero"], &[]);
        chain.node("DequantizeLinear", &["scale", "zero"], &[]);
        chain
    }

    fn tensor(&mut self, name: &str, kind: DataType, dims: &[i64], raw: &[u8]) {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: kind as i32,
            raw_data: raw.to_vec(),
            ..Default::default()
        });
    }

    fn node(&mut self, op: &str, more: &[&str], attributes: &[(&str, &[i64])]) {
        let inputs = std::iter::once(&*self.last).chain(more.iter().copied());
        let output = format!("v{}", self.graph.node.len());
        let attribute = attributes.iter().map(|(name, ints)| AttributeProto {
            name: (*name).to_owned(),
            r#type: AttributeType::Ints as i32,
            ints: ints.to_vec(),
            ..Default::default()
        });
        self.graph.node.push(NodeProto {
            op_type: op.to_owned(),
            input: inputs.map(str::to_owned).collect(),
            output: vec![output.clone()],
            attribute: attribute.collect(),
            ..Default::default()
        });
        self.last = output;
    }

    fn quantized(&mut self) {
        self.node("QuantizeLinear", &["scale", "zero"], &[]);
        self.node("DequantizeLinear", &["scale", "zero"], &[]);
    }

    /// Lowers, plans and runs what there is.
    fn end(self, shape: &[usize]) {
        let (proto, output) = self.whole();
        hostile::graph(&proto, shape, &output);
    }

    /// The file, and its output.
    fn whole(mut self) -> (ModelProto, String) {
        self.quantized();
        let proto = ModelProto {
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto {
                version: 17,
                ..Default::default()
            }],
            ..Default::default()
        };
        (proto, self.last)
    }
}

#[test]
fn a_value_times_itself_forty_times() {
    let mut chain = Chain::new();
    for _ in 0..40 {
        let last = chain.last.clone();
        chain.node("Mul", &[&last], &[]);
    }
    chain.end(&[1, 3, 4, 4]);
}

#[test]
fn thousands_of_operators_without_a_quantizer() {
    for op in ["MaxPool", "AveragePool", "Identity", "Relu"] {
        let mut chain = Chain::new();
        for _ in 0..5000 {
            chain.node(op, &[], &[("kernel_shape", &[1, 1])]);
        }
        chain.end(&[1, 3, 4, 4]);
    }
    let mut chain = Chain::new();
    chain.tensor("weights", DataType::Float, &[3, 3, 1, 1], &[0; 36]);
    for _ in 0..5000 {
        chain.node("Conv", &["weights"], &[]);
    }
    chain.end(&[1, 3, 4, 4]);
}

#[test]
fn thousands_of_views() {
    for raw in [false, true] {
        let mut chain = Chain::new();
        if raw {
            chain.node("QuantizeLinear", &["scale", "zero"], &[]);
        } else {
            chain.node("MaxPool", &[], &[("kernel_shape", &[1, 1])]);
        }
        for _ in 0..20_000 {
            chain.node("Transpose", &[], &[("perm", &[0, 2, 3, 1])]);
        }
        if raw {
            chain.node("DequantizeLinear", &["scale", "zero"], &[]);
        }
        chain.end(&[1, 4, 4, 4]);
    }
}

#[test]
fn thousands_of_quantizers_behind_one_convolution() {
    let mut chain = Chain::new();
    chain.tensor("bytes", DataType::Uint8, &[64, 64, 3, 3], &[130; 64 * 64 * 9]);
    let image = std::mem::replace(&mut chain.last, "bytes".to_owned());
    chain.node("DequantizeLinear", &["scale", "zero"], &[]);
    let weights = std::mem::replace(&mut chain.last, image);
    chain.node("Conv", &[&weights], &[("pads", &[1, 1, 1, 1])]);
    let conv = chain.last.clone();
    for i in 0..3000 {
        let (scale, sum) = (format!("s{i}"), chain.last.clone());
        chain.tensor(&scale, DataType::Float, &[], &(1.0 + i as f32).to_le_bytes());
        chain.last = conv.clone();
        chain.node("QuantizeLinear", &[&scale, "zero"], &[]);
        chain.node("DequantizeLinear", &[&scale, "zero"], &[]);
        chain.node("Add", &[&sum], &[]);
        chain.node("QuantizeLinear", &["scale", "zero"], &[]);
        chain.node("DequantizeLinear", &["scale", "zero"], &[]);
    }
    chain.end(&[1, 64, 4, 4]);
}

#[test]
fn dimensions_beside_a_zero_are_sizes_too() {
    let mut chain = Chain::new();
    chain.tensor("none", DataType::Float, &[1 << 40, 0], &[]);
    chain.tensor("huge", DataType::Float, &[0, 1 << 40, 1 << 40], &[]);
    let image = chain.last.clone();
    for name in ["none", "huge"] {
        chain.last = name.to_owned();
        chain.node("Transpose", &[], &[]);
        let turned = chain.last.clone();
        chain.last = image.clone();
        chain.node("Mul", &[&turned], &[]);
    }
    chain.end(&[1, 3, 4, 4]);
}

#[test]
fn a_transposed_convolution_of_a_huge_stride() {
    let mut chain = Chain::new();
    chain.tensor("bytes", DataType::Uint8, &[3, 3, 1, 1], &[130; 9]);
    let image = std::mem::replace(&mut chain.last, "bytes".to_owned());
    chain.node("DequantizeLinear", &["scale", "zero"], &[]);
    let weights = std::mem::replace(&mut chain.last, image);
    chain.node("ConvTranspose", &[&weights], &[("strides", &[8192, 8192])]);
    chain.end(&[1, 3, 2, 2]);
}

/// Tensors that no box has the memory for are tract's affair; what stands before them still runs in integers, and the
/// reason is told.
#[test]
fn a_region_that_cannot_be_planned_is_left() {
    let mut chain = Chain::new();
    let scales = [1.0f32, 1.0, 128.0, 128.0].map(f32::to_le_bytes).concat();
    chain.tensor("scales", DataType::Float, &[4], &scales);
    chain.node("Relu", &[], &[]);
    chain.quantized();
    chain.node("Sin", &[], &[]);
    chain.quantized();
    chain.node("Resize", &["", "scales"], &[]);
    chain.quantized();
    // 177 MB each, and all are needed to the end.
    let mut kept = Vec::new();
    for _ in 0..7 {
        kept.push(chain.last.clone());
        chain.node(
            "MaxPool",
            &[],
            &[("kernel_shape", &[3, 3]), ("pads", &[1, 1, 1, 1])],
        );
        chain.quantized();
    }
    for other in &kept {
        chain.node("Add", &[other], &[]);
        chain.quantized();
    }
    let few: &[(&str, &[i64])] = &[("kernel_shape", &[1, 1]), ("strides", &[3840, 3840])];
    chain.node("MaxPool", &[], few);
    let (proto, output) = chain.whole();
    let shape = [1, 3, 60, 60];
    let lowered = int8::lower(&proto, "image", &shape, &output).unwrap();
    assert_eq!(lowered.partition.regions.len(), 2, "{:?}", lowered.partition.left);
    let isa = elek::kernels::isa::Isa::best();
    let (lowered, plans) = int8::planned(&proto, "image", &shape, &output, isa).unwrap();
    let left = lowered.partition.left.iter();
    let left: Vec<_> = left
        .filter(|l| l.reason.contains("MB for its tensors"))
        .map(|l| &lowered.graph.nodes[l.position].op[..])
        .collect();
    for op in ["Resize", "MaxPool", "Add"] {
        assert!(left.contains(&op), "{left:?}");
    }
    let (here, _) = lowered.in_regions();
    let here: Vec<_> = here.into_iter().map(|p| &lowered.graph.nodes[p].op[..]).collect();
    assert_eq!(here, ["Relu"]);
    assert!(!plans.is_empty());
    rewrite::rewrite(&proto, &lowered, &plans).unwrap();
}

/// Nothing of it can be planned: tract gets operators that it knows in the place of those with steps of their own.
#[test]
fn a_graph_of_which_no_region_can_be_planned_is_written_in_f32() {
    let mut chain = Chain::new();
    // One quantizer at the beginning and one at the end: between two there would be something small.
    chain.graph.node.pop();
    chain.last = "v0".to_owned();
    for _ in 0..18 {
        let bytes = std::mem::replace(&mut chain.last, "scale".to_owned());
        let inputs = ["zero", &bytes, "scale", "zero", &bytes, "scale", "zero"];
        chain.node("QLinearConcat", &inputs, &[]);
        let node = chain.graph.node.last_mut().unwrap();
        node.attribute.push(AttributeProto {
            name: "axis".to_owned(),
            r#type: AttributeType::Int as i32,
            i: 1,
            ..Default::default()
        });
    }
    // 201 MB each, and all are needed to the end.
    let mut kept = Vec::new();
    for _ in 0..7 {
        kept.push(chain.last.clone());
        chain.node("QLinearSigmoid", &["scale", "zero", "scale", "zero"], &[]);
    }
    for other in &kept {
        chain.node(
            "QLinearAdd",
            &["scale", "zero", other, "scale", "zero", "scale", "zero"],
            &[],
        );
    }
    chain.node("DequantizeLinear", &["scale", "zero"], &[]);
    let output = chain.last.clone();
    let (mut proto, _) = chain.whole();
    let (model, ..) = graphs().iter().find(|case| case.1 == [1, 3, 16, 16]).unwrap();
    let pictures = read(model).unwrap().graph.unwrap();
    let file = proto.graph.as_mut().unwrap();
    file.node.truncate(file.node.len() - 2);
    (file.input, file.output) = (pictures.input, pictures.output);
    file.output[0].name.clone_from(&output);
    file.output[0].r#type = None;
    let expected = Expected {
        size: 16,
        input: "image",
        output: &output,
    };
    let (opened, facts) = open_model(&proto, &expected).unwrap();
    assert!(matches!(opened, Opened::Mixed(_)));
    assert_eq!(facts.integers.regions, 0, "{:?}", facts.integers.left);
    assert_eq!(facts.output_shape, [1, 3 << 18, 16, 16]);
    let why = facts.integers.why_not.unwrap();
    assert!(
        why.starts_with("QLinearConcat") && why.contains("MB for its tensors"),
        "{why}"
    );
}

/// More pieces than there may be regions: all of it is tract's, written so that tract knows every operator.
#[test]
fn a_graph_of_too_many_pieces_is_left() {
    let mut chain = Chain::new();
    for _ in 0..1_001 {
        chain.node("QuantizeLinear", &["scale", "zero"], &[]);
        chain.node("QLinearSigmoid", &["scale", "zero", "scale", "zero"], &[]);
        chain.node("DequantizeLinear", &["scale", "zero"], &[]);
        chain.node("Sin", &[], &[]);
    }
    let (proto, output) = chain.whole();
    let shape = [1, 3, 4, 4];
    assert!(int8::lower(&proto, "image", &shape, &output).is_err());
    let isa = elek::kernels::isa::Isa::best();
    let (lowered, plans) = int8::planned(&proto, "image", &shape, &output, isa).unwrap();
    assert!(lowered.partition.regions.is_empty() && plans.is_empty());
    let told = |reason: &str| reason.contains("pieces");
    assert!(lowered.partition.left.iter().all(|left| told(&left.reason)));
    let rewritten = rewrite::rewrite(&proto, &lowered, &plans).unwrap();
    let nodes = rewritten.graph.unwrap().node;
    assert!(nodes.iter().all(|node| !int8::is_qoperator(&node.op_type)));
    assert_eq!(
        nodes.iter().filter(|node| node.op_type == "Sigmoid").count(),
        1_001
    );
}

#[test]
fn parts_of_a_split_that_together_wrap_around() {
    let mut chain = Chain::new();
    let half = usize::MAX / 2;
    chain.node(
        "Split",
        &[],
        &[("axis", &[]), ("split", &[half as i64, half as i64, 3])],
    );
    let split = chain.graph.node.last_mut().unwrap();
    split.attribute[0].i = 1;
    split.output.extend(["b".to_owned(), "c".to_owned()]);
    chain.last = "c".to_owned();
    chain.end(&[1, 1, 4, 4]);
}

#[test]
fn thousands_of_dimensions() {
    let mut chain = Chain::new();
    let axes: Vec<i64> = (0..100_000).collect();
    let raw: Vec<u8> = axes.iter().flat_map(|a| a.to_le_bytes()).collect();
    chain.tensor("axes", DataType::Int64, &[100_000], &raw);
    chain.node("Unsqueeze", &["axes"], &[]);
    chain.end(&[1, 3, 4, 4]);
}

/// Names that elek would give itself.
#[test]
fn names_that_elek_would_give_are_told_apart() {
    for (model, shape, output) in graphs() {
        let mut proto = read(model).unwrap();
        let graph = proto.graph.as_mut().unwrap();
        let named = |name: &str| match name {
            "" | "image" => name.to_owned(),
            _ if name == output => name.to_owned(),
            _ => match name.bytes().map(usize::from).sum::<usize>() % 3 {
                0 => format!("elek.f32.{name}"),
                1 => format!("elek_.of.{name}"),
                _ => format!("elek.region.{name}"),
            },
        };
        for node in &mut graph.node {
            for name in node.input.iter_mut().chain(&mut node.output) {
                *name = named(name);
            }
        }
        for tensor in &mut graph.initializer {
            tensor.name = named(&tensor.name);
        }
        let lowered = int8::lower(&proto, "image", shape, output).unwrap();
        let ours = |name: &&String| name.starts_with(&lowered.prefix);
        assert_eq!(lowered.graph.names.iter().find(ours), None);
        hostile::graph(&proto, shape, output);
    }
}

/// Which of two constants of one name would count is nobody's to say. Found by the fuzzer.
#[test]
fn a_constant_that_is_there_twice() {
    for (model, shape, output) in graphs() {
        let proto = read(model).unwrap();
        for number in 0..proto.graph.as_ref().unwrap().initializer.len() {
            let mut proto = proto.clone();
            let constants = &mut proto.graph.as_mut().unwrap().initializer;
            let double = constants[number].clone();
            constants.push(double);
            let refused = int8::lower(&proto, "image", shape, output).err();
            let why = refused.map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(why.ends_with("is made more than once"), "{why:?}");
        }
    }
}
