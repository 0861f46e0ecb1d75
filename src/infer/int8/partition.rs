//! Which part of a graph runs in bytes and which is left to tract.
//!
//! Asked for the graph's output, it goes back to what that needs: operators on bytes where the lowering has them, else
//! the node itself and then its inputs. The operators get colours so that whatever leaves a colour never comes back to
//! it: one colour is one region, one node of the graph that tract sees.

use super::function::Quant;
use super::ir::{Id, Kind, Op, OpKind, Program, Value};
use super::lower::{Again, Base, Lowering, Symbol, Target};
use super::onnx::Graph;
use super::optimise;
use super::plan::{Input, Region};
use crate::kernels::float::Order as FloatOrder;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A node that tract runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Position in the sorted graph.
    pub position: usize,
    pub reason: String,
}

/// A value that a node of tract's reads as bytes: region output `outside` is quantized to it again.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub value: usize,
    pub outside: usize,
    pub quant: Quant,
    pub signed: bool,
}

pub struct Partition {
    pub regions: Vec<Region>,
    pub left: Vec<Left>,
    /// Values of the graph that regions make for nodes that want bytes: these are quantized again.
    pub bytes_wanted: Vec<Wanted>,
    /// Bytes of tract's that regions read in f32.
    pub again: Vec<Again>,
    /// Names by number: those of the graph, and new ones for what passes between regions.
    pub names: Vec<String>,
}

struct Search<'a, 'g> {
    lowering: &'a mut Lowering<'g>,
    makers: HashMap<usize, usize>,
    /// Float values of the graph that the program gives.
    given: BTreeMap<usize, Id>,
    left: BTreeMap<usize, String>,
    asked: BTreeSet<usize>,
    waiting: Vec<usize>,
    bytes_wanted: Vec<Wanted>,
    again: Vec<Again>,
    names: Vec<String>,
    /// Operators that are needed, by position in the program.
    live: BTreeSet<usize>,
}

pub fn partition(lowering: &mut Lowering) -> Result<Partition> {
    let graph: &Graph = lowering.graph;
    let mut makers = HashMap::new();
    for (position, node) in graph.nodes.iter().enumerate() {
        for &value in node.outputs.iter().flatten() {
            makers.insert(value, position);
        }
    }
    for again in &lowering.again {
        if let Some(&maker) = makers.get(&again.source) {
            makers.insert(again.value, maker);
        }
    }
    let names = lowering.names.clone();
    let output = graph.output;
    let mut search = Search {
        lowering,
        makers,
        given: BTreeMap::new(),
        left: BTreeMap::new(),
        asked: BTreeSet::new(),
        waiting: vec![output],
        bytes_wanted: Vec::new(),
        again: Vec::new(),
        names,
        live: BTreeSet::new(),
    };
    while let Some(value) = search.waiting.pop() {
        search.demand(value)?;
    }
    let colours = search.colours();
    search.regions(&colours)
}

impl Search<'_, '_> {
    /// Sees to it that somebody makes this value in f32.
    fn demand(&mut self, value: usize) -> Result<()> {
        if !self.asked.insert(value) || self.lowering.constants[value].is_some() {
            return Ok(());
        }
        if value == self.lowering.graph.input {
            return Ok(());
        }
        if let Some(again) = self.lowering.again.iter().find(|again| again.value == value) {
            self.again.push(*again);
            self.waiting.push(again.source);
            return Ok(());
        }
        let given = match self.lowering.symbols[value].clone() {
            // A view or function of an input that tract has anyway is tract's.
            Symbol::Float(float) => {
                if let Base::Node(position, _) = float.base {
                    self.lowering.reasons.remove(&position);
                }
                self.lowering.lower(&float, Target::Float).ok()
            }
            Symbol::Weights(_) => return Ok(()),
            Symbol::Bytes(_) | Symbol::Opaque => None,
        };
        if let Some(id) = given {
            self.given.insert(value, id);
            self.enliven(id);
            return Ok(());
        }
        if let Symbol::Bytes(id) = self.lowering.symbols[value] {
            return self.demand_bytes(value, id);
        }
        let position = *self
            .makers
            .get(&value)
            .with_context(|| format!("nothing makes {:?}", self.lowering.names[value]))?;
        let node = &self.lowering.graph.nodes[position];
        let reason = match self.lowering.reasons.get(&position) {
            Some(reason) => reason.clone(),
            None => "its input is not quantized".to_owned(),
        };
        self.left.insert(position, reason);
        self.waiting.extend(node.inputs.iter().flatten());
        Ok(())
    }

    /// For a node that wants bytes: f32 under another name, which is quantized again outside.
    fn demand_bytes(&mut self, value: usize, id: Id) -> Result<()> {
        let Ok(float) = self
            .lowering
            .table(id, &super::function::Function::Variable, Target::Float)
        else {
            bail!("{:?} cannot be handed on", self.lowering.names[value]);
        };
        let name = format!("elek.f32.{value}");
        self.names.push(name);
        let outside = self.names.len() - 1;
        if let Kind::Bytes { quant, signed } = self.lowering.program.values[id].kind {
            self.bytes_wanted.push(Wanted {
                value,
                outside,
                quant,
                signed,
            });
        }
        self.given.insert(outside, float);
        self.enliven(float);
        Ok(())
    }

    /// Marks the operators behind a value, and asks for what they read from outside.
    fn enliven(&mut self, id: Id) {
        let program = &self.lowering.program;
        let mut makers: HashMap<Id, Vec<usize>> = HashMap::new();
        for (i, op) in program.ops.iter().enumerate() {
            makers.entry(program.root(op.output)).or_default().push(i);
        }
        let mut roots = vec![program.root(id)];
        while let Some(root) = roots.pop() {
            for &i in makers.get(&root).into_iter().flatten() {
                if !self.live.insert(i) {
                    continue;
                }
                let op = &program.ops[i];
                roots.extend(op.inputs().into_iter().map(|id| program.root(id)));
                self.waiting.extend(op.kind.external());
            }
        }
    }

    /// Of each live operator, from 1 on. What a node of tract's stands between has a higher one behind it.
    fn colours(&self) -> HashMap<usize, usize> {
        let graph = self.lowering.graph;
        let program = &self.lowering.program;
        let mut ops: HashMap<usize, usize> = self.live.iter().map(|&i| (i, 1)).collect();
        let mut nodes: HashMap<usize, usize> = self.left.keys().map(|&p| (p, 0)).collect();
        let makers: HashMap<Id, usize> = self
            .live
            .iter()
            .map(|&i| (program.root(program.ops[i].output), i))
            .collect();
        let outside: HashMap<usize, usize> = self.bytes_wanted.iter().map(|w| (w.value, w.outside)).collect();
        loop {
            let mut changed = false;
            for (&position, _) in &self.left {
                let inputs = graph.nodes[position].inputs.iter().flatten();
                let colour = inputs.map(|value| {
                    let given = self.given.get(outside.get(value).unwrap_or(value));
                    let op = given.and_then(|&id| makers.get(&program.root(id)));
                    let node = self.makers.get(value).and_then(|p| nodes.get(p));
                    op.map_or(0, |i| ops[i]).max(node.copied().unwrap_or(0))
                });
                let colour = colour.max().unwrap_or(0);
                changed |= nodes.insert(position, colour) != Some(colour);
            }
            for &i in &self.live {
                let op = &program.ops[i];
                let inputs = op
                    .inputs()
                    .into_iter()
                    .filter_map(|id| makers.get(&program.root(id)));
                let mut colour = inputs.map(|maker| ops[maker]).max().unwrap_or(1);
                if let Some(external) = op.kind.external() {
                    let node = self.makers.get(&external).and_then(|p| nodes.get(p));
                    colour = colour.max(node.map_or(1, |c| c + 1));
                }
                changed |= ops.insert(i, colour) != Some(colour);
            }
            if !changed {
                return ops;
            }
        }
    }

    fn regions(mut self, colours: &HashMap<usize, usize>) -> Result<Partition> {
        let program = self.lowering.program.clone();
        let count = colours.values().copied().max().unwrap_or(0);
        ensure!(count <= 1000, "it falls into {count} pieces");
        let mut used: Vec<usize> = colours.values().copied().collect();
        used.sort_unstable();
        used.dedup();
        let makers: HashMap<Id, usize> = self
            .live
            .iter()
            .map(|&i| (program.root(program.ops[i].output), i))
            .collect();
        let colour_of = |id: Id| makers.get(&program.root(id)).map(|i| colours[i]);
        // What passes from one region to a later one does so in f32, which loses nothing.
        let mut passes: BTreeMap<Id, usize> = BTreeMap::new();
        for &i in &self.live {
            for id in program.ops[i].inputs() {
                let constant = makers
                    .get(&program.root(id))
                    .is_some_and(|&m| matches!(program.ops[m].kind, OpKind::Constant { .. }));
                if !constant && colour_of(id) != Some(colours[&i]) {
                    let next = self.names.len();
                    passes.entry(program.root(id)).or_insert_with(|| {
                        self.names.push(format!("elek.bytes.{id}"));
                        next
                    });
                }
            }
        }
        let mut regions = Vec::new();
        for colour in used {
            let builder = Cut {
                program: &program,
                passes: &passes,
                colours,
                makers: &makers,
                colour,
            };
            if let Some(region) = builder.region(&self.live, &self.given, &self.lowering.shapes)? {
                regions.push(region);
            }
        }
        let left = self
            .left
            .into_iter()
            .map(|(position, reason)| Left { position, reason });
        Ok(Partition {
            regions,
            left: left.collect(),
            bytes_wanted: self.bytes_wanted,
            again: self.again,
            names: self.names,
        })
    }
}

/// Takes the operators of one colour out of the whole program.
struct Cut<'a> {
    program: &'a Program,
    passes: &'a BTreeMap<Id, usize>,
    colours: &'a HashMap<usize, usize>,
    makers: &'a HashMap<Id, usize>,
    colour: usize,
}

impl Cut<'_> {
    fn region(
        &self,
        live: &BTreeSet<usize>,
        given: &BTreeMap<usize, Id>,
        shapes: &[Option<Vec<usize>>],
    ) -> Result<Option<Region>> {
        let mut program = Program {
            values: self.program.values.clone(),
            ops: Vec::new(),
        };
        let mut inputs: Vec<Input> = Vec::new();
        let mut here: BTreeSet<Id> = BTreeSet::new();
        for &i in live.iter().filter(|i| self.colours[i] == self.colour) {
            let op = &self.program.ops[i];
            for id in op.inputs() {
                let root = self.program.root(id);
                if here.insert(root) {
                    self.bring(root, &mut program, &mut inputs)?;
                }
            }
            here.insert(self.program.root(op.output));
            if let Some(external) = op.kind.external()
                && inputs.iter().all(|input| input.value != external)
            {
                let shape = shapes[external].clone().context("an input without a shape")?;
                inputs.push(Input {
                    value: external,
                    shape,
                });
            }
            program.ops.push(op.clone());
        }
        let mut outputs: Vec<(Id, usize)> = Vec::new();
        for (&value, &id) in given {
            let maker = self.makers.get(&self.program.root(id));
            if maker.is_some_and(|m| self.colours[m] == self.colour) {
                outputs.push((id, value));
            }
        }
        for (&root, &value) in self.passes {
            let maker = self.makers.get(&root);
            if maker.is_some_and(|m| self.colours[m] == self.colour) {
                let from = self.program.values[root].clone();
                let node = maker.map_or(0, |&m| self.program.ops[m].node);
                program.values.push(Value {
                    kind: Kind::Floats,
                    ..from
                });
                let output = program.values.len() - 1;
                program.ops.push(Op {
                    kind: OpKind::Dequantize {
                        input: root,
                        function: super::function::Function::Variable,
                    },
                    output,
                    node,
                });
                outputs.push((output, value));
            }
        }
        if outputs.is_empty() {
            return Ok(None);
        }
        let ids: Vec<Id> = outputs.iter().map(|(id, _)| *id).collect();
        optimise::run(&mut program, &ids);
        inputs.retain(|input| {
            let reads = |op: &Op| op.kind.external() == Some(input.value);
            program.ops.iter().any(reads)
        });
        Ok(Some(Region {
            program,
            inputs,
            outputs,
        }))
    }

    /// A value of another region, or a constant.
    fn bring(&self, root: Id, program: &mut Program, inputs: &mut Vec<Input>) -> Result<()> {
        let Some(&maker) = self.makers.get(&root) else {
            bail!("a value has no maker");
        };
        let op = &self.program.ops[maker];
        if self.colours[&maker] == self.colour {
            return Ok(());
        }
        if matches!(op.kind, OpKind::Constant { .. }) {
            program.ops.push(op.clone());
            return Ok(());
        }
        let &external = self.passes.get(&root).context("a value is not passed on")?;
        let value = &self.program.values[root];
        inputs.push(Input {
            value: external,
            shape: value.shape.clone(),
        });
        // As ONNX orders it, because tract carries it from node to node.
        let order = match value.order {
            super::ir::Order::ChannelsLast => FloatOrder::Planes,
            super::ir::Order::Rows => FloatOrder::Pixels,
        };
        program.ops.push(Op {
            kind: OpKind::Quantize { external, order },
            output: root,
            node: op.node,
        });
        Ok(())
    }
}
