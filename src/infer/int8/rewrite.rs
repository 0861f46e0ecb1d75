//! The graph that tract sees: one node for each region, and what was left to tract.

use super::function::Quant;
use super::onnx::Data;
use super::partition::Wanted;
use super::plan::Plan;
use super::{Lowered, region};
use anyhow::{Context, Result};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

pub fn rewrite(proto: &pb::ModelProto, lowered: &Lowered, plans: &[Arc<Plan>]) -> Result<pb::ModelProto> {
    let source = proto.graph.as_ref().context("there is no graph")?;
    let mut graph = pb::GraphProto {
        name: source.name.clone(),
        input: source.input.clone(),
        ..Default::default()
    };
    let names = &lowered.partition.names;
    let output = &names[lowered.graph.output];
    graph.output = source
        .output
        .iter()
        .filter(|o| o.name == *output)
        .cloned()
        .collect();
    for left in &lowered.partition.left {
        let node = &source.node[lowered.graph.nodes[left.position].index];
        match expanded(node) {
            Some(nodes) => graph.node.extend(nodes),
            None => graph.node.push(node.clone()),
        }
    }
    for (index, plan) in plans.iter().enumerate() {
        graph.node.push(pb::NodeProto {
            name: format!("elek.region.{index}"),
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
        quantize_again(&mut graph, names, wanted);
    }
    for again in &lowered.partition.again {
        let (bytes, floats) = (&names[again.source], &names[again.value]);
        let steps = steps(&mut graph, floats, again.quant, again.signed);
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
    let names = [format!("{of}.elek.scale"), format!("{of}.elek.zero")];
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
fn quantize_again(graph: &mut pb::GraphProto, names: &[String], wanted: &Wanted) {
    let name = &names[wanted.value];
    let steps = steps(graph, name, wanted.quant, wanted.signed);
    let inputs = [vec![names[wanted.outside].clone()], steps].concat();
    graph.node.push(node(
        "QuantizeLinear",
        &format!("elek.quantize.{}", wanted.value),
        inputs,
        vec![name.clone()],
    ));
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

/// An operator that carries its steps itself, which tract cannot load: dequantized, done in f32, quantized.
fn expanded(source: &pb::NodeProto) -> Option<Vec<pb::NodeProto>> {
    // Where the inputs stand (value, scale, zero point), where the output's scale and zero point stand.
    let (op, inputs, output): (&str, Vec<usize>, usize) = match source.op_type.as_str() {
        "QLinearConv" => ("Conv", vec![0, 3], 6),
        "QLinearMatMul" => ("MatMul", vec![0, 3], 6),
        "QLinearAdd" => ("Add", vec![0, 3], 6),
        "QLinearMul" => ("Mul", vec![0, 3], 6),
        "QLinearSigmoid" => ("Sigmoid", vec![0], 3),
        "QLinearLeakyRelu" => ("LeakyRelu", vec![0], 3),
        "QLinearGlobalAveragePool" => ("GlobalAveragePool", vec![0], 3),
        "QLinearAveragePool" => ("AveragePool", vec![0], 3),
        "QLinearSoftmax" => ("Softmax", vec![0], 3),
        "QLinearReduceMean" => ("ReduceMean", vec![0], 3),
        "QLinearConcat" => ("Concat", (2..source.input.len()).step_by(3).collect(), 0),
        _ => return None,
    };
    let base = source.output.first()?;
    let mut nodes = Vec::new();
    let mut floats = Vec::new();
    for at in inputs {
        let name = format!("{base}.elek.{at}");
        let triple = source.input.get(at..at + 3)?.to_vec();
        let mut dequantize = node("DequantizeLinear", &name, triple, vec![name.clone()]);
        if op == "Conv" && at == 3 {
            // Weights have a scale for each output channel.
            dequantize.attribute.push(int_attribute("axis", 0));
        }
        nodes.push(dequantize);
        floats.push(name);
    }
    if let Some(bias) = source
        .input
        .get(8)
        .filter(|bias| op == "Conv" && !bias.is_empty())
    {
        // It counts in steps of input × weight.
        let (cast, step, name) = (
            format!("{base}.elek.cast"),
            format!("{base}.elek.step"),
            format!("{base}.elek.bias"),
        );
        let mut to_f32 = node("Cast", &cast, vec![bias.clone()], vec![cast.clone()]);
        to_f32.attribute.push(int_attribute("to", DataType::Float as i64));
        let scales = vec![source.input[1].clone(), source.input[4].clone()];
        nodes.push(to_f32);
        nodes.push(node("Mul", &step, scales, vec![step.clone()]));
        nodes.push(node("Mul", &name, vec![cast, step], vec![name.clone()]));
        floats.push(name);
    }
    let result = format!("{base}.elek.f32");
    let mut float = node(op, &result, floats, vec![result.clone()]);
    let own = |a: &&pb::AttributeProto| !matches!(a.name.as_str(), "channels_last" | "opset");
    float.attribute = source.attribute.iter().filter(own).cloned().collect();
    nodes.push(float);
    let steps = source.input.get(output..output + 2)?;
    let input = vec![result, steps[0].clone(), steps[1].clone()];
    let last = node(
        "QuantizeLinear",
        &format!("{base}.elek.q"),
        input,
        vec![base.clone()],
    );
    nodes.push(last);
    Some(nodes)
}
