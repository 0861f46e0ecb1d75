//! Opening an ONNX graph: what it holds, whether it fits its manifest, and how
//! much work one inference is.
//!
//! The reader is tract's. It may panic or ask for any amount of memory on a
//! hostile file; [`super::sandbox`] has met every file from outside before.

use super::front;
use super::int8::{self, plan::Plan};
use super::manifest::{ModelInfo, Task};
use super::rounding;
use crate::kernels::isa::Isa;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, Deconv};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::konst::Const;
use tract_onnx::pb;
use tract_onnx::prelude::{Framework, InferenceFact, InferenceModelExt};

/// A graph, ready to be run.
#[derive(Debug)]
pub enum Opened {
    /// All of it in integers.
    Whole(Arc<Plan>),
    /// By tract, with what is quantized as regions.
    Mixed(TypedModel),
}

/// What a graph says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub opset: i64,
    /// How often each ONNX operator occurs.
    pub ops: BTreeMap<String, u32>,
    pub output_shape: Vec<usize>,
    /// Multiply-accumulates of convolutions and matrix products, padding included.
    pub macs: u64,
    /// Numbers in weights and biases.
    pub parameters: u64,
    /// What of it runs in integers.
    pub integers: Integers,
}

/// The part of a graph that runs in integers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integers {
    /// Of all [`Facts::macs`], and those of the regions that are done in f32.
    pub macs: u64,
    pub float_macs: u64,
    pub regions: usize,
    /// Every node that runs in integers; quantizers and constants are not counted.
    pub nodes: Vec<Node>,
    /// Those that elek does in f32, beside integers.
    pub floats: Vec<Left>,
    /// Every node that is left to tract, with the reason.
    pub left: Vec<Left>,
    /// Why nothing of a quantized graph runs in integers.
    pub why_not: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub op: String,
    /// Its first output.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    pub op: String,
    /// Its first output.
    pub name: String,
    pub reason: String,
}

impl Facts {
    /// Weights and activations go through `QuantizeLinear` or an operator on integers.
    pub fn quantized(&self) -> bool {
        self.ops
            .keys()
            .any(|op| op.contains("QuantizeLinear") || op.starts_with("QLinear"))
    }
}

/// What the manifest says about the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    pub size: usize,
    pub input: &'a str,
    pub output: &'a str,
}

impl<'a> From<&'a ModelInfo> for Expected<'a> {
    fn from(info: &'a ModelInfo) -> Self {
        Expected {
            size: info.size as usize,
            input: &info.input_name,
            output: &info.output_name,
        }
    }
}

/// Reads, checks and optimises a graph.
pub fn open(bytes: &[u8], expected: &Expected) -> Result<(Opened, Facts)> {
    let onnx = tract_onnx::onnx();
    let proto = onnx
        .proto_model_for_read(&mut &bytes[..])
        .map_err(|e| anyhow::anyhow!("this is not an ONNX file, or a damaged one ({})", brief(&e)))?;
    open_model(&proto, expected)
}

/// The same for a file that is parsed already.
pub fn open_model(proto: &pb::ModelProto, expected: &Expected) -> Result<(Opened, Facts)> {
    let graph = proto
        .graph
        .as_ref()
        .context("this is not an ONNX file, or a damaged one (there is no graph)")?;
    let planes = front::with_planes(proto, expected);
    let proto = planes.as_ref().unwrap_or(proto);
    check_input(proto.graph.as_ref().unwrap_or(graph), expected)?;
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    ensure!(
        outputs.contains(&expected.output),
        "the manifest names the output {:?}, the graph has {outputs:?}",
        expected.output
    );
    let mut facts = Facts {
        opset: opset(proto),
        ops: BTreeMap::new(),
        output_shape: Vec::new(),
        macs: 0,
        parameters: 0,
        integers: Integers::default(),
    };
    for node in &graph.node {
        *facts.ops.entry(node.op_type.clone()).or_insert(0) += 1;
    }
    if facts.quantized() {
        match in_integers(proto, expected, &mut facts) {
            Ok(Some(opened)) => return Ok((opened, facts)),
            Ok(None) => {
                let why = "no quantized operator is one that elek has kernels for";
                facts.integers.why_not = Some(why.to_owned());
            }
            Err(error) => {
                facts.integers = Integers {
                    why_not: Some(brief(&error)),
                    ..Integers::default()
                };
            }
        }
    }
    let why_not = facts.integers.why_not.clone();
    let model = by_tract(proto, &[], expected, &mut facts).map_err(|error| match why_not {
        // tract may know nothing of what is quantized: then this is the reason.
        Some(why) => error.context(format!("it does not run in integers ({why}), nor in f32")),
        None => error,
    })?;
    Ok((Opened::Mixed(model), facts))
}

fn opset(proto: &pb::ModelProto) -> i64 {
    let opset = proto
        .opset_import
        .iter()
        .filter(|i| i.domain.is_empty() || i.domain == "ai.onnx");
    opset.map(|i| i.version).max().unwrap_or(0)
}

/// The graph with its quantized parts as regions, or written in f32; `None` when tract is to load it as it is.
fn in_integers(proto: &pb::ModelProto, expected: &Expected, facts: &mut Facts) -> Result<Option<Opened>> {
    let shape = [1, 3, expected.size, expected.size];
    let (lowered, plans) = int8::planned(proto, expected.input, &shape, expected.output, Isa::best())?;
    let regions = &lowered.partition.regions;
    let named = |position: usize| {
        let node = &lowered.graph.nodes[position];
        let name = node.output().map(|value| lowered.graph.names[value].clone());
        Node {
            op: node.op.clone(),
            name: name.unwrap_or_default(),
        }
    };
    let left = |position: usize, reason: &str| {
        let Node { op, name } = named(position);
        Left {
            op,
            name,
            reason: reason.to_owned(),
        }
    };
    let all = lowered.partition.left.iter();
    let tracts = all.map(|l| left(l.position, &l.reason)).collect();
    if regions.is_empty() {
        facts.integers.left = tracts;
        let mut left = facts.integers.left.iter();
        let Some(first) = left.find(|left| int8::is_qoperator(&left.op)) else {
            return Ok(None);
        };
        // tract cannot load these as they stand.
        facts.integers.why_not = Some(format!("{} {:?}: {}", first.op, first.name, first.reason));
        let rewritten = int8::rewrite::rewrite(proto, &lowered, &[])?;
        return by_tract(&rewritten, &[], expected, facts).map(|model| Some(Opened::Mixed(model)));
    }
    let (nodes, floats) = lowered.in_regions();
    let in_f32 = |position: usize| match lowered.graph.nodes[position].op.as_str() {
        "Resize" => left(position, "its result is not quantized"),
        _ => left(position, "its weights are not quantized"),
    };
    facts.integers = Integers {
        macs: plans.iter().map(|plan| plan.macs).sum(),
        float_macs: plans.iter().map(|plan| plan.float_macs).sum(),
        regions: plans.len(),
        nodes: nodes.into_iter().map(named).collect(),
        floats: floats.into_iter().map(in_f32).collect(),
        left: tracts,
        why_not: None,
    };
    if let (Some(_), [plan]) = (lowered.whole(), &plans[..]) {
        facts.output_shape = plan.outputs()[0].shape.clone();
        (facts.macs, facts.parameters) = (plan.macs + plan.float_macs, plan.parameters);
        return Ok(Some(Opened::Whole(plan.clone())));
    }
    let rewritten = int8::rewrite::rewrite(proto, &lowered, &plans)?;
    by_tract(&rewritten, &plans, expected, facts).map(|model| Some(Opened::Mixed(model)))
}

/// A graph as tract runs it; `plans` are those of its regions.
fn by_tract(
    proto: &pb::ModelProto,
    plans: &[Arc<Plan>],
    expected: &Expected,
    facts: &mut Facts,
) -> Result<TypedModel> {
    let shape = [1, 3, expected.size, expected.size];
    let model = read_by_tract(proto, plans, &shape, expected.output)
        .map_err(|e| anyhow::anyhow!("the graph cannot be used: {}", brief(&e)))?;
    let output = model.output_fact(0)?;
    ensure!(
        output.datum_type == f32::datum_type(),
        "the output {:?} has type {:?}, it has to be f32",
        expected.output,
        output.datum_type
    );
    let Some(output_shape) = output.shape.as_concrete().map(<[usize]>::to_vec) else {
        bail!(
            "the output {:?} has no fixed shape: {:?}",
            expected.output,
            output.shape
        );
    };
    facts.output_shape = output_shape;
    let in_regions = plans.iter().map(|plan| plan.macs + plan.float_macs);
    facts.macs = macs(&model)? + in_regions.sum::<u64>();
    facts.parameters = parameters(&model) + plans.iter().map(|plan| plan.parameters).sum::<u64>();
    model
        .into_optimized()
        .map_err(|e| anyhow::anyhow!("the graph cannot be used: {}", brief(&e)))
}

/// A graph as tract reads it, for a picture of this shape; `plans` are those of its regions.
pub fn read_by_tract(
    proto: &pb::ModelProto,
    plans: &[Arc<Plan>],
    shape: &[usize],
    output: &str,
) -> Result<TypedModel> {
    let mut onnx = tract_onnx::onnx();
    int8::region::register(&mut onnx);
    let graph = proto.graph.as_ref().context("there is no graph")?;
    let mut model = onnx.model_for_proto_model(proto)?;
    int8::region::attach(&mut model, plans)?;
    let model = model.with_outputs_by_name([output])?;
    let mut model = model
        .with_input_fact(0, InferenceFact::from(f32::fact(shape)))?
        .into_typed()?;
    rounding::divide_by_scales(&mut model, graph);
    model.into_decluttered()
}

/// Does the graph give what the manifest's labels need?
pub fn check_output(info: &ModelInfo, facts: &Facts) -> Result<()> {
    let (shape, labels) = (&facts.output_shape, info.labels.len());
    match (info.task, &shape[..]) {
        (Task::Classify, &[1, n]) if n == labels => Ok(()),
        (Task::Segment, &[1, n, h, w])
            if (n == labels || n == labels + 1)
                && h == w
                && h > 0
                && (info.size as usize).is_multiple_of(h)
                && h <= usize::from(u16::MAX) =>
        {
            Ok(())
        }
        (Task::Classify, _) => {
            bail!("the graph's output has shape {shape:?}; {labels} labels need [1, {labels}]")
        }
        (Task::Segment, _) => {
            bail!("the graph's output has shape {shape:?}; {labels} mask labels need [1, {labels}, h, h]")
        }
    }
}

fn check_input(graph: &pb::GraphProto, expected: &Expected) -> Result<()> {
    let inputs: Vec<&pb::ValueInfoProto> = graph
        .input
        .iter()
        .filter(|i| graph.initializer.iter().all(|k| k.name != i.name))
        .collect();
    let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
    ensure!(
        names == [expected.input],
        "the manifest names one input {:?}, the graph has {names:?}",
        expected.input
    );
    let tensor = match inputs[0].r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(pb::type_proto::Value::TensorType(tensor)) => tensor,
        None => bail!("the input {:?} has no type", expected.input),
    };
    ensure!(
        tensor.elem_type == pb::tensor_proto::DataType::Float as i32,
        "the input {:?} has ONNX type {}, it has to be 1 (f32)",
        expected.input,
        tensor.elem_type
    );
    let wanted = [1, 3, expected.size as i64, expected.size as i64];
    let dims: Vec<Option<i64>> = tensor.shape.iter().flat_map(|s| &s.dim).map(fixed).collect();
    // A dimension left open (batch, mostly) is set to the manifest's.
    let fits = dims.len() == 4 && dims.iter().zip(wanted).all(|(d, w)| d.is_none_or(|d| d == w));
    ensure!(
        fits,
        "the manifest says that the input is {wanted:?}, the graph says {}",
        shown(&dims)
    );
    Ok(())
}

fn fixed(dim: &pb::tensor_shape_proto::Dimension) -> Option<i64> {
    match dim.value {
        Some(pb::tensor_shape_proto::dimension::Value::DimValue(n)) => Some(n),
        _ => None,
    }
}

fn shown(dims: &[Option<i64>]) -> String {
    let words: Vec<String> = dims
        .iter()
        .map(|d| d.map_or("?".to_owned(), |n| n.to_string()))
        .collect();
    format!("[{}]", words.join(", "))
}

/// Multiply-accumulates of convolutions, transposed ones and matrix products.
fn macs(model: &TypedModel) -> Result<u64> {
    let mut sum = 0u64;
    for node in &model.nodes {
        let inputs = model.node_input_facts(node.id)?;
        if node.op_is::<Conv>() || node.op_is::<EinSum>() {
            for (cost, count) in node.op.cost(&inputs)? {
                if matches!(cost, Cost::FMA(_)) {
                    sum += count.to_usize().unwrap_or(0) as u64;
                }
            }
        } else if let Some(op) = node.op_as::<Deconv>() {
            // Each input value meets the whole kernel of its channel once.
            let volume = |f: &TypedFact| f.shape.volume().to_usize().unwrap_or(0) as u64;
            sum += volume(inputs[1]) * (volume(inputs[0]) / op.pool_spec.input_channels.max(1) as u64);
        }
    }
    Ok(sum)
}

/// All constants but scalars, which are scales, limits and shapes.
fn parameters(model: &TypedModel) -> u64 {
    let constants = model.nodes.iter().filter(|n| n.op_is::<Const>());
    constants
        .filter_map(|n| n.outputs[0].fact.shape.volume().to_usize().ok())
        .filter(|&v| v > 1)
        .sum::<usize>() as u64
}

/// tract's errors carry the whole graph at times; a person reads the first lines.
pub fn brief(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
