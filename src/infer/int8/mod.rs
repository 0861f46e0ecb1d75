//! Quantized parts of a graph, run in integers.
//!
//! | file | duty |
//! |---|---|
//! | [`onnx`] | the graph as the lowering wants it |
//! | [`fold`] | constants and shapes |
//! | [`function`] | functions of one number, and the tables made of them |
//! | [`lower`] | ONNX nodes to operators on bytes |
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

use anyhow::{Result, ensure};
use lower::{Lowering, Symbol, Weights};
use onnx::{Graph, Tensor};
use partition::Partition;
use plan::Region;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use tract_onnx::pb;

/// A graph with its regions.
pub struct Lowered {
    pub graph: Graph,
    pub partition: Partition,
    /// What is known of values that nodes left to tract may read.
    pub constants: Vec<Option<Rc<Tensor>>>,
    pub weights: HashMap<usize, Rc<Weights>>,
}

impl Lowered {
    /// Operators of the file that run in regions, quantizers and constants not counted.
    pub fn nodes_in_regions(&self) -> usize {
        let regions = self.partition.regions.iter();
        let nodes: BTreeSet<usize> = regions
            .flat_map(|r| r.program.ops.iter().map(|op| op.node))
            .collect();
        let quantizer = |&&position: &&usize| {
            self.graph.nodes[position].op.ends_with("quantizeLinear")
                || self.graph.nodes[position].op == "QuantizeLinear"
        };
        nodes.iter().filter(|position| !quantizer(position)).count()
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

/// Divides a graph, whose input has the given name and shape, for its output. An error says that the file is not
/// understood at all; a graph without anything quantized gives no regions.
pub fn lower(proto: &pb::ModelProto, input: &str, shape: &[usize], output: &str) -> Result<Lowered> {
    let graph = Graph::new(proto, input, output)?;
    let nested = |a: &pb::AttributeProto| a.g.is_some() || !a.graphs.is_empty();
    let plain = proto
        .graph
        .iter()
        .flat_map(|g| &g.node)
        .all(|n| !n.attribute.iter().any(nested));
    ensure!(plain, "it has graphs inside of nodes");
    onnx::volume(shape)?;
    let mut lowering = Lowering::run(&graph, shape);
    let partition = partition::partition(&mut lowering)?;
    let weights = lowering
        .symbols
        .iter()
        .enumerate()
        .filter_map(|(value, symbol)| match symbol {
            Symbol::Weights(weights) => Some((value, weights.clone())),
            _ => None,
        });
    let (weights, constants) = (weights.collect(), lowering.constants.clone());
    Ok(Lowered {
        partition,
        constants,
        weights,
        graph,
    })
}
