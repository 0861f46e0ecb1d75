//! Which part of a graph runs in bytes and which is left to tract.
//!
//! Asked for the graph's output, it goes back to what that needs: operators on bytes where the lowering has them, else
//! the node itself and then its inputs. The operators get colours so that whatever leaves a colour never comes back to
//! it: one colour is one region, one node of the graph that tract sees.

use super::function::{Function, Quant};
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
    /// Bytes of tract's that are read in f32, by the value in f32.
    known_again: HashMap<usize, Again>,
    again: Vec<Again>,
    names: Vec<String>,
    /// Operators that are needed, by position in the program.
    live: BTreeSet<usize>,
    /// Who makes each value of the program, of its first `seen` operators.
    made_by: HashMap<Id, Vec<usize>>,
    seen: usize,
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
    let known_again = lowering.again.iter().map(|again| (again.value, *again)).collect();
    let output = graph.output;
    let mut search = Search {
        lowering,
        makers,
        given: BTreeMap::new(),
        left: BTreeMap::new(),
        asked: BTreeSet::new(),
        waiting: vec![output],
        bytes_wanted: Vec::new(),
        known_again,
        again: Vec::new(),
        names,
        live: BTreeSet::new(),
        made_by: HashMap::new(),
        seen: 0,
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
        let graph = self.lowering.graph;
        // Constants of types that are not read here are copied for tract like others.
        let constant = self.lowering.constants[value].is_some() || graph.unread.contains_key(&value);
        if !self.asked.insert(value) || constant || value == graph.input {
            return Ok(());
        }
        if let Some(again) = self.known_again.get(&value) {
            self.again.push(*again);
            self.waiting.push(again.source);
            return Ok(());
        }
        let given = match self.lowering.symbols[value].clone() {
            // The picture is there in f32; what is done to it before the first quantizer, tract does.
            Symbol::Float(float) if float.base == Base::Picture => None,
            Symbol::Float(float) => self.lowering.lower(&float, Target::Float).ok(),
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
        let Ok(float) = self.lowering.table(id, &Function::Variable, Target::Float) else {
            bail!("{:?} cannot be handed on", self.lowering.names[value]);
        };
        let name = format!("{}.f32.{value}", self.lowering.prefix);
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
        for (i, op) in program.ops.iter().enumerate().skip(self.seen) {
            self.made_by.entry(program.root(op.output)).or_default().push(i);
        }
        self.seen = program.ops.len();
        let mut roots = vec![program.root(id)];
        while let Some(root) = roots.pop() {
            for &i in self.made_by.get(&root).into_iter().flatten() {
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
            for &position in self.left.keys() {
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
        let mut program = std::mem::take(&mut self.lowering.program);
        let count = colours.values().copied().max().unwrap_or(0);
        ensure!(
            count <= REGIONS_MAX,
            "it falls into {count} pieces, {REGIONS_MAX} are the most"
        );
        let mut used: Vec<usize> = colours.values().copied().collect();
        used.sort_unstable();
        used.dedup();
        let makers: HashMap<Id, usize> = self
            .live
            .iter()
            .map(|&i| (program.root(program.ops[i].output), i))
            .collect();
        let is_constant = |i: usize| matches!(program.ops[i].kind, OpKind::Constant { .. });
        let constants: BTreeSet<usize> = self.live.iter().copied().filter(|&i| is_constant(i)).collect();
        let colour_of = |id: Id| makers.get(&program.root(id)).map(|i| colours[i]);
        // What passes from one region to a later one does so in f32, which loses nothing.
        let mut passes: BTreeMap<Id, usize> = BTreeMap::new();
        for &i in &self.live {
            for id in program.ops[i].inputs() {
                let constant = makers.get(&program.root(id));
                let constant = constant.is_some_and(|m| constants.contains(m));
                if !constant && colour_of(id) != Some(colours[&i]) {
                    let next = self.names.len();
                    passes.entry(program.root(id)).or_insert_with(|| {
                        self.names.push(format!("{}.bytes.{id}", self.lowering.prefix));
                        next
                    });
                }
            }
        }
        let mut regions = Vec::new();
        for colour in used {
            let cut = Cut {
                source: &mut program,
                passes: &passes,
                makers: &makers,
                constants: &constants,
                colours,
                colour,
                program: Program::default(),
                numbers: HashMap::new(),
                inputs: Vec::new(),
            };
            if let Some(region) = cut.region(&self.live, &self.given, &self.lowering.shapes)? {
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

/// Each is a node of tract's with an arena of its own.
const REGIONS_MAX: usize = 1000;

/// Takes the operators of one colour out of the whole program.
struct Cut<'a> {
    source: &'a mut Program,
    passes: &'a BTreeMap<Id, usize>,
    makers: &'a HashMap<Id, usize>,
    /// Operators that every region has for itself.
    constants: &'a BTreeSet<usize>,
    colours: &'a HashMap<usize, usize>,
    colour: usize,
    /// What becomes of them, with the values that they need under new numbers.
    program: Program,
    numbers: HashMap<Id, Id>,
    inputs: Vec<Input>,
}

impl Cut<'_> {
    fn region(
        mut self,
        live: &BTreeSet<usize>,
        given: &BTreeMap<usize, Id>,
        shapes: &[Option<Vec<usize>>],
    ) -> Result<Option<Region>> {
        let (colours, colour) = (self.colours, self.colour);
        let mut here: BTreeSet<Id> = BTreeSet::new();
        for &i in live.iter().filter(|i| colours[i] == colour) {
            for id in self.source.ops[i].inputs() {
                let root = self.source.root(id);
                if here.insert(root) {
                    self.bring(root)?;
                }
            }
            here.insert(self.source.root(self.source.ops[i].output));
            if let Some(external) = self.source.ops[i].kind.external()
                && self.inputs.iter().all(|input| input.value != external)
            {
                let shape = shapes[external].clone().context("an input without a shape")?;
                self.inputs.push(Input {
                    value: external,
                    shape,
                });
            }
            let op = self.take(i);
            self.push(op);
        }
        let mut outputs: Vec<(Id, usize)> = Vec::new();
        for (&value, &id) in given {
            if self.is_own(self.source.root(id)) {
                outputs.push((self.number(id), value));
            }
        }
        for (&root, &value) in self.passes {
            if self.is_own(root) {
                outputs.push((self.pass_on(root), value));
            }
        }
        if outputs.is_empty() {
            return Ok(None);
        }
        let Cut {
            mut program,
            mut inputs,
            ..
        } = self;
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

    fn is_own(&self, root: Id) -> bool {
        let maker = self.makers.get(&root);
        maker.is_some_and(|m| self.colours[m] == self.colour)
    }

    /// The number of a value here.
    fn number(&mut self, id: Id) -> Id {
        if let Some(&number) = self.numbers.get(&id) {
            return number;
        }
        let mut value = self.source.values[id].clone();
        value.alias = value.alias.map(|of| self.number(of));
        self.program.values.push(value);
        self.numbers.insert(id, self.program.values.len() - 1);
        self.program.values.len() - 1
    }

    /// Weights are large, so they are not copied.
    fn take(&mut self, i: usize) -> Op {
        let op = &mut self.source.ops[i];
        if self.constants.contains(&i) {
            return op.clone();
        }
        let (node, output) = (op.node, op.output);
        let kind = std::mem::replace(&mut op.kind, OpKind::Constant { bytes: Vec::new() });
        Op { kind, output, node }
    }

    fn push(&mut self, mut op: Op) {
        op.renumber(|id| self.number(id));
        self.program.ops.push(op);
    }

    /// A value of this region in f32, for those behind it.
    fn pass_on(&mut self, root: Id) -> Id {
        let from = self.source.values[root].clone();
        let node = self.makers.get(&root).map_or(0, |&m| self.source.ops[m].node);
        let input = self.number(root);
        self.program.values.push(Value {
            kind: Kind::Floats,
            ..from
        });
        let output = self.program.values.len() - 1;
        let function = Function::Variable;
        self.program.ops.push(Op {
            kind: OpKind::Dequantize { input, function },
            output,
            node,
        });
        output
    }

    /// A value of another region, or a constant.
    fn bring(&mut self, root: Id) -> Result<()> {
        let Some(&maker) = self.makers.get(&root) else {
            bail!("a value has no maker");
        };
        if self.colours[&maker] == self.colour {
            return Ok(());
        }
        if self.constants.contains(&maker) {
            let op = self.take(maker);
            self.push(op);
            return Ok(());
        }
        let &external = self.passes.get(&root).context("a value is not passed on")?;
        let value = &self.source.values[root];
        self.inputs.push(Input {
            value: external,
            shape: value.shape.clone(),
        });
        // As ONNX orders it, because tract carries it from node to node.
        let order = match value.order {
            super::ir::Order::ChannelsLast => FloatOrder::Planes,
            super::ir::Order::Rows => FloatOrder::Pixels,
        };
        let node = self.source.ops[maker].node;
        self.push(Op {
            kind: OpKind::Quantize {
                external,
                order,
                function: Function::Variable,
            },
            output: root,
            node,
        });
        Ok(())
    }
}
