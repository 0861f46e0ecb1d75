//! Quantized parts of a graph, run in integers.
//!
//! | file | duty |
//! |---|---|
//! | [`onnx`] | the graph as the lowering wants it |
//! | [`fold`] | constants and shapes |
//! | [`function`] | functions of one number, and the tables made of them |
//! | [`mod@lower`] | ONNX nodes to operators on bytes |
//! | [`ir`] | these operators |
//! | [`partition`] | which run here and which are left to tract |
//! | [`optimise`] | tables and residuals into the operators before them |
//! | [`plan`] | kernels, one arena, and running them |
//! | [`rewrite`] | the graph that tract sees, one node for each region |
//! | [`region`] | that node |
//!
//! See docs/INFERENCE.md for how a graph goes through them.

pub mod fold;
pub mod function;
pub mod ir;
pub mod lower;
pub mod onnx;
pub mod optimise;
pub mod partition;
pub mod plan;
pub mod region;
pub mod rewrite;

use crate::kernels::isa::Isa;
use anyhow::{Result, bail, ensure};
use lower::{Lowering, Symbol, Weights};
use onnx::{Graph, Tensor};
use partition::Partition;
use plan::{Plan, Region};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use tract_onnx::pb;

/// A graph with its regions.
pub struct Lowered {
    pub graph: Graph,
    pub partition: Partition,
    /// What is known of values that nodes left to tract may read.
    pub constants: Vec<Option<Rc<Tensor>>>,
    pub weights: HashMap<usize, Rc<Weights>>,
    /// Names of bytes that ONNX calls signed.
    pub signed: HashSet<String>,
    /// Begins no name of the file.
    pub prefix: String,
}

impl Lowered {
    /// Operators of the file that run in regions, by position: what the output needs and is neither left to tract nor a
    /// quantizer nor constant. The second list is that of those that are done in f32 there.
    pub fn in_regions(&self) -> (Vec<usize>, Vec<usize>) {
        let graph = &self.graph;
        let mut makers: HashMap<usize, usize> = HashMap::new();
        for (position, node) in graph.nodes.iter().enumerate() {
            makers.extend(node.outputs.iter().flatten().map(|&value| (value, position)));
        }
        let mut needed: BTreeSet<usize> = BTreeSet::new();
        let mut values = vec![graph.output];
        while let Some(value) = values.pop() {
            let known = self.constants[value].is_some() || self.weights.contains_key(&value);
            if let Some(&position) = makers.get(&value).filter(|_| !known)
                && needed.insert(position)
            {
                values.extend(graph.nodes[position].inputs.iter().flatten());
            }
        }
        let left: HashSet<usize> = self.partition.left.iter().map(|left| left.position).collect();
        let quantizer = |op: &str| matches!(op, "QuantizeLinear" | "DequantizeLinear");
        let here = |position: &usize| !left.contains(position) && !quantizer(&graph.nodes[*position].op);
        let ops = self
            .partition
            .regions
            .iter()
            .flat_map(|region| &region.program.ops);
        let in_f32 = |op: &&ir::Op| {
            use ir::OpKind::{FloatConv, FloatResize};
            matches!(op.kind, FloatConv(_) | FloatResize { .. })
        };
        let floats: HashSet<usize> = ops.filter(in_f32).map(|op| op.node).collect();
        needed.into_iter().filter(here).partition(|p| !floats.contains(p))
    }

    /// A name for something that a value of the file or of a region is given beside it.
    pub fn own(&self, of: &str, what: &str) -> String {
        format!("{}.of.{of}.{what}", self.prefix)
    }

    /// Nothing is left to tract: the one region takes the graph's input and gives its output.
    pub fn whole(&self) -> Option<&Region> {
        let Partition { regions, left, .. } = &self.partition;
        let [region] = &regions[..] else { return None };
        let input = region.inputs.len() == 1 && region.inputs[0].value == self.graph.input;
        let output = region.outputs.len() == 1 && region.outputs[0].1 == self.graph.output;
        (left.is_empty() && input && output).then_some(region)
    }
}

/// An operator that carries its steps itself, which tract cannot load.
pub fn is_qoperator(op: &str) -> bool {
    op.starts_with("QLinear") || op == "QGemm"
}

/// Regions that are tried before all of a graph is left to tract.
const TRIES_MAX: usize = 8;

/// As [`fn@lower`], with the plans of all regions. What cannot be planned (its tensors are too large) is left to tract,
/// like what cannot be lowered; all of it where no way to divide it can be planned.
pub fn planned(
    proto: &pb::ModelProto,
    input: &str,
    shape: &[usize],
    output: &str,
    isa: Isa,
) -> Result<(Lowered, Vec<Arc<Plan>>)> {
    divided(proto, input, shape, output, isa).or_else(|error| {
        let nodes = proto.graph.as_ref().map_or(0, |graph| graph.node.len());
        let barred = (0..nodes).map(|position| (position, format!("{error:#}")));
        let lowered = lower_without(proto, input, shape, output, barred.collect())?;
        Ok((lowered, Vec::new()))
    })
}

fn divided(
    proto: &pb::ModelProto,
    input: &str,
    shape: &[usize],
    output: &str,
    isa: Isa,
) -> Result<(Lowered, Vec<Arc<Plan>>)> {
    let mut barred = HashMap::new();
    for _ in 0..TRIES_MAX {
        let lowered = lower_without(proto, input, shape, output, barred.clone())?;
        let mut plans = Vec::new();
        let before = barred.len();
        for region in &lowered.partition.regions {
            match Plan::new(region, isa) {
                Ok(plan) => plans.push(Arc::new(plan)),
                Err(error) => {
                    let nodes = region.program.ops.iter().map(|op| op.node);
                    barred.extend(nodes.map(|node| (node, format!("{error:#}"))));
                }
            }
        }
        if plans.len() == lowered.partition.regions.len() {
            return Ok((lowered, plans));
        }
        ensure!(barred.len() > before, "its regions cannot be planned");
    }
    bail!("none of {TRIES_MAX} ways to divide it can be planned")
}

/// Divides a graph, whose input has the given name and shape, for its output. An error says that the file is not
/// understood at all; a graph without anything quantized gives no regions.
pub fn lower(proto: &pb::ModelProto, input: &str, shape: &[usize], output: &str) -> Result<Lowered> {
    lower_without(proto, input, shape, output, HashMap::new())
}

/// The same, with some nodes, by position, that are left to tract for a reason.
fn lower_without(
    proto: &pb::ModelProto,
    input: &str,
    shape: &[usize],
    output: &str,
    barred: HashMap<usize, String>,
) -> Result<Lowered> {
    let graph = Graph::new(proto, input, output)?;
    let nested = |a: &pb::AttributeProto| a.g.is_some() || !a.graphs.is_empty();
    let plain = proto
        .graph
        .iter()
        .flat_map(|g| &g.node)
        .all(|n| !n.attribute.iter().any(nested));
    ensure!(plain, "it has graphs inside of nodes");
    let own = graph.nodes.iter().any(|node| node.op == region::OPERATOR);
    ensure!(
        !own,
        "it has a node {:?}, which elek has for itself",
        region::OPERATOR
    );
    onnx::volume(shape)?;
    let mut lowering = Lowering::run(&graph, shape, barred);
    // Of the symbols; the partition takes the operators away.
    let values = graph.names.iter().enumerate();
    let signed = values.filter(|(value, _)| lowering.is_signed(*value));
    let signed: HashSet<String> = signed.map(|(_, name)| name.clone()).collect();
    let partition = partition::partition(&mut lowering)?;
    let weights = lowering
        .symbols
        .iter()
        .enumerate()
        .filter_map(|(value, symbol)| match symbol {
            Symbol::Weights(weights) => Some((value, weights.clone())),
            _ => None,
        });
    let weights = weights.collect();
    let Lowering {
        constants, prefix, ..
    } = lowering;
    Ok(Lowered {
        partition,
        constants,
        weights,
        signed,
        prefix,
        graph,
    })
}
