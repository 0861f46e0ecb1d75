//! The graph that tract sees: one node for each region, and what was left to tract.

use super::function::Quant;
use super::onnx::Data;
use super::partition::Wanted;
use super::plan::Plan;
use super::{Lowered, fold, region};
use anyhow::{Context, Result};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

pub fn rewrite(proto: &pb::ModelProto, lowered: &Lowered, plans: &[Arc<Plan>]) -> Result<pb::ModelProto> {
    let source = proto.graph.as_ref().context("there is no graph")?;
    let mut graph = pb::GraphProto {
        name: source.name.clone(),
        ..Default::default()
    };
    let names = &lowered.partition.names;
    // The picture alone: older files list initializers as inputs too, and not all of them are kept.
    let input = &names[lowered.graph.input];
    graph.input = source
        .input
        .iter()
        .filter(|i| i.name == *input)
        .cloned()
        .collect();
    let output = &names[lowered.graph.output];
    graph.output = source
        .output
        .iter()
        .filter(|o| o.name == *output)
        .cloned()
        .collect();
    let mut signed = lowered.signed.clone();
    // In the order in which they are done.
    for left in &lowered.partition.left {
        let node = &source.node[lowered.graph.nodes[left.position].index];
        let mut gives_signed = hands_on_signed(left.position, lowered, &signed);
        match Expansion::new(node, lowered, &signed, &mut graph) {
            Some(expansion) => {
                gives_signed = expansion.gives_signed(left.position);
                expansion.write().context("a QLinear node lacks inputs")?;
            }
            None => graph.node.push(node.clone()),
        }
        if gives_signed {
            signed.extend(node.output.iter().cloned());
        }
    }
    for (index, plan) in plans.iter().enumerate() {
        graph.node.push(pb::NodeProto {
            name: format!("{}.region.{index}", lowered.prefix),
            op_type: region::OPERATOR.to_owned(),
            input: plan
                .inputs()
                .iter()
                .map(|input| names[input.value].clone())
                .collect(),
            output: plan
                .outputs()
                .iter()
                .map(|output| names[output.value].clone())
                .collect(),
            attribute: vec![int_attribute(region::INDEX, index as i64)],
            ..Default::default()
        });
    }
    for wanted in &lowered.partition.bytes_wanted {
        quantize_again(&mut graph, lowered, wanted);
    }
    for again in &lowered.partition.again {
        let (bytes, floats) = (&names[again.source], &names[again.value]);
        let of = lowered.own(floats, "");
        let steps = steps(&mut graph, &of, again.quant, again.signed);
        let inputs = [vec![bytes.clone()], steps].concat();
        graph
            .node
            .push(node("DequantizeLinear", floats, inputs, vec![floats.clone()]));
    }
    constants(&mut graph, source, lowered);
    Ok(pb::ModelProto {
        graph: Some(graph),
        ..pb::ModelProto {
            ir_version: proto.ir_version,
            opset_import: proto.opset_import.clone(),
            ..Default::default()
        }
    })
}

/// Scale and zero point as constants; gives their names.
fn steps(graph: &mut pb::GraphProto, of: &str, quant: Quant, signed: bool) -> Vec<String> {
    let names = [format!("{of}.scale"), format!("{of}.zero")];
    let zero = if signed {
        Data::I8(vec![(quant.zero ^ 0x80) as i8])
    } else {
        Data::U8(vec![quant.zero])
    };
    graph
        .initializer
        .push(tensor(&names[0], &[], &Data::F32(vec![quant.scale])));
    graph.initializer.push(tensor(&names[1], &[], &zero));
    names.to_vec()
}

/// The f32 output of a region as bytes, for a node that wants them.
fn quantize_again(graph: &mut pb::GraphProto, lowered: &Lowered, wanted: &Wanted) {
    let names = &lowered.partition.names;
    let name = &names[wanted.value];
    let own = lowered.own(name, "q");
    let steps = steps(graph, &own, wanted.quant, wanted.signed);
    let inputs = [vec![names[wanted.outside].clone()], steps].concat();
    graph
        .node
        .push(node("QuantizeLinear", &own, inputs, vec![name.clone()]));
}

/// The initializers that are read, and constants that the file reckons by nodes.
fn constants(graph: &mut pb::GraphProto, source: &pb::GraphProto, lowered: &Lowered) {
    let made: HashSet<&str> = graph
        .node
        .iter()
        .flat_map(|n| &n.output)
        .map(String::as_str)
        .collect();
    let read: BTreeSet<&str> = graph
        .node
        .iter()
        .flat_map(|n| &n.input)
        .map(String::as_str)
        .filter(|name| !name.is_empty() && !made.contains(name))
        .collect();
    let mut found: Vec<pb::TensorProto> = Vec::new();
    let mut have: HashSet<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
    for initializer in source
        .initializer
        .iter()
        .filter(|t| read.contains(t.name.as_str()))
    {
        have.insert(initializer.name.clone());
        found.push(initializer.clone());
    }
    for (value, name) in lowered.graph.names.iter().enumerate() {
        if !read.contains(name.as_str()) || have.contains(name) {
            continue;
        }
        if let Some(constant) = &lowered.constants[value] {
            found.push(tensor(name, &constant.shape, &constant.data));
        } else if let Some(weights) = lowered.weights.get(&value) {
            found.push(tensor(name, &weights.tensor.shape, &Data::F32(weights.values())));
        }
    }
    graph.initializer.extend(found);
}

fn node(op: &str, name: &str, input: Vec<String>, output: Vec<String>) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op.to_owned(),
        name: name.to_owned(),
        input,
        output,
        ..Default::default()
    }
}

fn int_attribute(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.to_owned(),
        r#type: pb::attribute_proto::AttributeType::Int as i32,
        i,
        ..Default::default()
    }
}

fn tensor(name: &str, shape: &[usize], data: &Data) -> pb::TensorProto {
    let mut proto = pb::TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&d| d as i64).collect(),
        ..Default::default()
    };
    let (kind, raw): (DataType, Vec<u8>) = match data {
        Data::F32(v) => (DataType::Float, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Data::I64(v) => (DataType::Int64, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Data::I32(v) => (DataType::Int32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Data::I8(v) => (DataType::Int8, v.iter().map(|v| *v as u8).collect()),
        Data::U8(v) => (DataType::Uint8, v.clone()),
    };
    proto.data_type = kind as i32;
    proto.raw_data = raw;
    proto
}

/// Whether the zero point that a node reads there is signed; `None` where it is left out.
fn zero_is_signed(position: usize, at: usize, lowered: &Lowered) -> Option<bool> {
    let value = lowered.graph.nodes[position].inputs.get(at).copied().flatten()?;
    let constant = lowered.constants[value].as_ref();
    Some(constant.is_some_and(|zero| matches!(zero.data, Data::I8(_))))
}

/// Whether a node that tract knows gives signed bytes: as a quantizer, or because it moves such.
fn hands_on_signed(position: usize, lowered: &Lowered, signed: &HashSet<String>) -> bool {
    let node = &lowered.graph.nodes[position];
    match &*node.op {
        "QuantizeLinear" => zero_is_signed(position, 2, lowered).unwrap_or(false),
        "DequantizeLinear" | "Cast" => false,
        _ => node
            .input(0)
            .is_some_and(|value| signed.contains(&lowered.graph.names[value])),
    }
}

/// An operator that carries its steps itself, which tract cannot load: dequantized, done in f32, quantized.
struct Expansion<'a> {
    source: &'a pb::NodeProto,
    lowered: &'a Lowered,
    /// Names of bytes that ONNX calls signed, as far as they are made before this.
    signed: &'a HashSet<String>,
    graph: &'a mut pb::GraphProto,
    /// The operator in f32.
    op: &'static str,
    /// Where its inputs stand, each a value, a scale, a zero point.
    inputs: Vec<usize>,
    /// Where the output's scale and zero point stand.
    output: usize,
    /// Where a bias stands, which counts in steps of input × weight.
    bias: Option<usize>,
}

impl<'a> Expansion<'a> {
    /// `None` for operators that tract may know.
    fn new(
        source: &'a pb::NodeProto,
        lowered: &'a Lowered,
        signed: &'a HashSet<String>,
        graph: &'a mut pb::GraphProto,
    ) -> Option<Expansion<'a>> {
        let (op, inputs, output, bias): (&str, Vec<usize>, usize, Option<usize>) =
            match source.op_type.as_str() {
                "QLinearConv" => ("Conv", vec![0, 3], 6, Some(8)),
                "QLinearMatMul" => ("MatMul", vec![0, 3], 6, None),
                "QGemm" => ("Gemm", vec![0, 3], 7, Some(6)),
                "QLinearAdd" => ("Add", vec![0, 3], 6, None),
                "QLinearMul" => ("Mul", vec![0, 3], 6, None),
                "QLinearSigmoid" => ("Sigmoid", vec![0], 3, None),
                "QLinearLeakyRelu" => ("LeakyRelu", vec![0], 3, None),
                "QLinearGlobalAveragePool" => ("GlobalAveragePool", vec![0], 3, None),
                "QLinearAveragePool" => ("AveragePool", vec![0], 3, None),
                "QLinearSoftmax" => ("Softmax", vec![0], 3, None),
                "QLinearReduceMean" => ("ReduceMean", vec![0], 3, None),
                "QLinearConcat" => ("Concat", (2..source.input.len()).step_by(3).collect(), 0, None),
                _ => return None,
            };
        Some(Expansion {
            source,
            lowered,
            signed,
            graph,
            op,
            inputs,
            output,
            bias,
        })
    }

    /// `None` where an input is missing.
    fn write(mut self) -> Option<()> {
        let mut floats = Vec::new();
        for at in std::mem::take(&mut self.inputs) {
            let float = self.dequantized(at)?;
            floats.push(self.turned(float, &at.to_string(), [0, 3, 1, 2], floats.is_empty()));
        }
        if let Some(bias) = self.bias.and_then(|at| self.source.input.get(at))
            && !bias.is_empty()
        {
            floats.push(self.bias(bias.clone()));
        }
        let base = self.source.output.first()?.clone();
        // Without a scale the result stays in f32 (QGemm).
        let stays = self.source.input.get(self.output).is_none_or(String::is_empty);
        let result = match stays {
            true => base.clone(),
            false => self.own("f32"),
        };
        let mut float = node(self.op, &result, floats, vec![result.clone()]);
        let own = |a: &&pb::AttributeProto| !matches!(a.name.as_str(), "channels_last" | "opset");
        float.attribute = self.source.attribute.iter().filter(own).cloned().collect();
        // The last dimension, where ONNX's own operator would take the second before opset 13.
        if self.op == "Softmax" && float.attribute.iter().all(|a| a.name != "axis") {
            float.attribute.push(int_attribute("axis", -1));
        }
        self.graph.node.push(float);
        if stays {
            return Some(());
        }
        let result = self.turned(result, "pixels", [0, 2, 3, 1], true);
        let mut input = vec![result, self.source.input[self.output].clone()];
        match self
            .source
            .input
            .get(self.output + 1)
            .filter(|zero| !zero.is_empty())
        {
            Some(zero) => input.push(zero.clone()),
            None if self.is_signed() => input.push(self.constant("zero", &Data::I8(vec![0]))),
            None => {}
        }
        let name = self.own("q");
        let quantize = node("QuantizeLinear", &name, input, vec![base]);
        self.graph.node.push(quantize);
        Some(())
    }

    fn dequantized(&mut self, at: usize) -> Option<String> {
        let name = self.own(&at.to_string());
        let mut input = self.source.input.get(at..at + 2)?.to_vec();
        input.extend(
            self.source
                .input
                .get(at + 2)
                .filter(|zero| !zero.is_empty())
                .cloned(),
        );
        let mut dequantize = node("DequantizeLinear", &name, input, vec![name.clone()]);
        // Weights have a scale for each output channel.
        let transposed = |a: &pb::AttributeProto| a.name == "transB" && a.i != 0;
        if at == 3 && (self.op == "Conv" || self.source.attribute.iter().any(transposed)) {
            dequantize.attribute.push(int_attribute("axis", 0));
        }
        self.graph.node.push(dequantize);
        Some(name)
    }

    fn bias(&mut self, bias: String) -> String {
        let [cast, step, name] = ["cast", "step", "bias"].map(|what| self.own(what));
        let mut to_f32 = node("Cast", &cast, vec![bias], vec![cast.clone()]);
        to_f32.attribute.push(int_attribute("to", DataType::Float as i64));
        let scales = vec![self.source.input[1].clone(), self.source.input[4].clone()];
        self.graph.node.push(to_f32);
        self.graph
            .node
            .push(node("Mul", &step, scales, vec![step.clone()]));
        let product = node("Mul", &name, vec![cast, step], vec![name.clone()]);
        self.graph.node.push(product);
        // QGemm takes it times this too.
        let alpha = self.source.attribute.iter().find(|a| a.name == "alpha");
        match alpha.map(|a| a.f).filter(|alpha| *alpha != 1.0) {
            None => name,
            Some(alpha) => {
                let factor = self.constant("alpha", &Data::F32(vec![alpha]));
                let scaled = self.own("scaled");
                let product = node("Mul", &scaled, vec![name, factor], vec![scaled.clone()]);
                self.graph.node.push(product);
                scaled
            }
        }
    }

    /// Pictures of height, width, channels are turned, because the operators in f32 take planes.
    fn turned(&mut self, value: String, what: &str, perm: [i64; 4], picture: bool) -> String {
        if !picture || !fold::is_channels_last(self.source) {
            return value;
        }
        let name = self.own(&format!("{what}-turned"));
        let mut transpose = node("Transpose", &name, vec![value], vec![name.clone()]);
        transpose.attribute.push(pb::AttributeProto {
            name: "perm".to_owned(),
            r#type: pb::attribute_proto::AttributeType::Ints as i32,
            ints: perm.to_vec(),
            ..Default::default()
        });
        self.graph.node.push(transpose);
        name
    }

    /// A name that is this node's alone.
    fn own(&self, what: &str) -> String {
        let base = self.source.output.first().map_or("", |name| name);
        self.lowered.own(base, what)
    }

    fn constant(&mut self, what: &str, data: &Data) -> String {
        let name = self.own(what);
        self.graph.initializer.push(tensor(&name, &[], data));
        name
    }

    /// What it reads is signed.
    fn is_signed(&self) -> bool {
        let first = if self.op == "Concat" { 2 } else { 0 };
        let name = self.source.input.get(first);
        name.is_some_and(|name| self.signed.contains(name))
    }

    /// So is what it gives, if its zero point says nothing else.
    fn gives_signed(&self, position: usize) -> bool {
        zero_is_signed(position, self.output + 1, self.lowered).unwrap_or_else(|| self.is_signed())
    }
}
