//! From an ONNX graph to operators on bytes.
//!
//! One walk over the nodes gives every value a [`Symbol`]. Nothing in f32 is turned into an operator until a quantizer
//! asks for its bytes: what stands between `DequantizeLinear` and `QuantizeLinear` is collected as a base (an operator
//! with its inputs), a [`Function`] of its result, and views that only change a shape. The quantizer then lowers the
//! whole of it into one operator. What cannot be lowered keeps its place in the graph, with the reason.

mod conv;
mod coordinates;
mod floats;
mod functions;
mod order;
mod pairs;
mod qlinear;
mod quantizers;
mod softmax;
mod spatial;
mod symbol;
mod weights;

use super::fold::{self, Known};
use super::function::{Function, Quant};
use super::ir::{Id, Kind, Op, OpKind, Order, Program, Value};
use super::onnx::{Data, Graph, Node, Tensor, VALUES_MAX};
use conv::Addend;
use functions::pair;
use std::collections::HashMap;
use std::rc::Rc;
pub use symbol::{Again, Base, Float, Symbol, Target, Weights};

/// Why something is left to tract.
pub type Reason = String;

pub struct Lowering<'g> {
    pub graph: &'g Graph,
    /// Those of the graph, and of what is put between nodes.
    pub names: Vec<String>,
    pub again: Vec<Again>,
    /// Those of one source, by position in the list.
    again_of: HashMap<usize, Vec<usize>>,
    pub program: Program,
    pub symbols: Vec<Symbol>,
    pub shapes: Vec<Option<Vec<usize>>>,
    pub constants: Vec<Option<Rc<Tensor>>>,
    /// Why nodes (by position in the graph) could not be lowered.
    pub reasons: HashMap<usize, Reason>,
    /// Nodes that are not to be lowered, and why.
    barred: HashMap<usize, Reason>,
    /// Bytes that were asked for without a quantizer, by value, and how far they are from what they stand for.
    asked: HashMap<usize, (Id, f32)>,
    /// Values that are reckoned in f32 here.
    floats: HashMap<usize, Id>,
    /// What was made of a base already: several quantizers may stand behind it.
    made: HashMap<Base, Vec<(Function, Target, Id)>>,
    /// Values from outside that were quantized already.
    quantized: HashMap<usize, Vec<(Function, Target, Id)>>,
    /// Begins no name of the file: new values have it in front.
    pub prefix: String,
    /// Values of constants that were made of others.
    folded: usize,
    /// Operators that are being lowered, each for the next.
    depth: usize,
    /// The node that operators are being made for.
    current: usize,
}

/// Operators without a quantizer in a row: networks have four or five, and each needs stack.
const DEPTH_MAX: usize = 64;
/// Different quantizers of one value: networks have two or three, and each may copy the operator's weights.
const MADE_MAX: usize = 64;
/// Views of one value in a row; each value keeps a list of its own.
pub const VIEWS_MAX: usize = 64;

impl<'g> Lowering<'g> {
    /// `input` is the shape of the graph's input; nodes that are `barred` are left to tract.
    pub fn run(graph: &'g Graph, input: &[usize], barred: HashMap<usize, Reason>) -> Lowering<'g> {
        let count = graph.names.len();
        let mut this = Lowering {
            graph,
            names: graph.names.clone(),
            again: Vec::new(),
            again_of: HashMap::new(),
            program: Program::default(),
            symbols: vec![Symbol::Opaque; count],
            shapes: vec![None; count],
            constants: vec![None; count],
            reasons: HashMap::new(),
            barred,
            asked: HashMap::new(),
            floats: HashMap::new(),
            made: HashMap::new(),
            quantized: HashMap::new(),
            prefix: prefix(&graph.names),
            folded: 0,
            depth: 0,
            current: 0,
        };
        for (&value, tensor) in &graph.constants {
            this.set_constant(value, tensor.clone());
        }
        for (&value, shape) in &graph.unread {
            this.shapes[value] = shape.clone();
        }
        this.shapes[graph.input] = Some(input.to_vec());
        this.symbols[graph.input] = Symbol::Float(Float {
            base: Base::Picture,
            function: Function::Variable,
            views: Vec::new(),
        });
        for position in 0..graph.nodes.len() {
            this.current = position;
            this.node(position);
        }
        this
    }

    fn set_constant(&mut self, value: usize, tensor: Rc<Tensor>) {
        self.shapes[value] = Some(tensor.shape.clone());
        self.constants[value] = Some(tensor);
    }

    pub fn known<'a>(&'a self, node: &Node) -> Known<'a> {
        let at = |value: &Option<usize>| *value;
        Known {
            constants: node
                .inputs
                .iter()
                .map(|v| at(v).and_then(|v| self.constants[v].clone()))
                .collect(),
            shapes: node
                .inputs
                .iter()
                .map(|v| at(v).and_then(|v| self.shapes[v].as_deref()))
                .collect(),
        }
    }

    fn node(&mut self, position: usize) {
        let graph = self.graph;
        let node = &graph.nodes[position];
        let Some(output) = node.output() else { return };
        // What the file states is believed where nothing else is known; tract looks again.
        for &value in node.outputs.iter().flatten() {
            self.shapes[value] = graph.stated.get(&value).cloned();
        }
        if !node.is_known_domain() {
            self.leave(position, format!("the domain {:?} is not covered", node.domain));
            return;
        }
        if let Some(tensor) = fold::constant(node, &self.known(node)) {
            self.folded += tensor.len();
            if self.folded > VALUES_MAX {
                self.leave(position, "constants are made of constants without end".to_owned());
                return;
            }
            self.set_constant(output, Rc::new(tensor));
            return;
        }
        match fold::shape(node, &self.known(node), graph.opset) {
            Ok(Some(shape)) if shape.contains(&0) => {
                self.shapes[output] = None;
                self.leave(position, "its output would be empty".to_owned());
                return;
            }
            Ok(Some(shape)) => self.shapes[output] = Some(shape),
            Ok(None) => {}
            Err(error) => {
                self.leave(position, format!("{error:#}"));
                return;
            }
        }
        if let Some(reason) = self.barred.get(&position).cloned() {
            self.leave(position, reason);
            return;
        }
        match self.symbol(position, node) {
            Ok(Some(Symbol::Bytes(id)))
                if self.shapes[output].as_ref() != Some(&self.program.values[id].shape) =>
            {
                self.leave(position, "its shape is not understood".to_owned());
            }
            Ok(Some(symbol)) => self.symbols[output] = symbol,
            Ok(None) => {}
            Err(reason) => self.leave(position, reason),
        }
    }

    fn leave(&mut self, position: usize, reason: Reason) {
        self.reasons.entry(position).or_insert(reason);
    }

    /// The symbol of a node's first output; `None` when all is set already.
    fn symbol(&mut self, position: usize, node: &Node) -> Result<Option<Symbol>, Reason> {
        let op = node.op.as_str();
        if super::is_qoperator(op) {
            return self.qlinear(node).map(|id| Some(Symbol::Bytes(id)));
        }
        match op {
            "DequantizeLinear" => return self.dequantize(node),
            "QuantizeLinear" => return self.quantize(node),
            "Identity" | "Dropout" => return Ok(node.input(0).map(|v| self.symbols[v].clone())),
            _ => {}
        }
        if is_view(op) {
            return self.view_symbol(position, node);
        }
        if let Some(unary) = self.unary(node)? {
            return Ok(match node.input(0).map(|v| self.symbols[v].clone()) {
                Some(Symbol::Float(float)) => {
                    let function = Function::Variable.then(unary).of(&float.function);
                    Some(Symbol::Float(simple(Float { function, ..float })?))
                }
                Some(Symbol::Bytes(_)) => return Err(format!("{op} of bytes is not covered")),
                _ => None,
            });
        }
        if let Some(pair) = pair(op)
            && let Some(symbol) = self.pair_symbol(pair, node)?
        {
            return Ok(Some(symbol));
        }
        self.base_symbol(position, node)
    }

    /// An operator on several values: nothing is done until somebody wants its bytes.
    fn base_symbol(&mut self, position: usize, node: &Node) -> Result<Option<Symbol>, Reason> {
        let op = node.op.as_str();
        let covered = matches!(op, "Add" | "Sub" | "Mul")
            || matches!(op, "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "Softmax")
            || spatial::is_covered(op);
        if !covered {
            return Err(format!("{op} is not covered"));
        }
        let first = node.input(0).map(|v| self.symbols[v].clone());
        let of_bytes = matches!(first, Some(Symbol::Bytes(_)));
        let outputs: Vec<(usize, usize)> = node
            .outputs
            .iter()
            .enumerate()
            .filter_map(|(i, value)| Some((i, (*value)?)))
            .collect();
        if op == "Split" {
            for (i, shape) in spatial::split_shapes(node, &self.known(node))?
                .into_iter()
                .enumerate()
            {
                if let Some(&(_, value)) = outputs.iter().find(|(at, _)| *at == i) {
                    self.shapes[value] = Some(shape);
                }
            }
        }
        for &(i, value) in &outputs {
            self.symbols[value] = if of_bytes {
                // Bytes in, bytes of the same step out.
                let id = self.keep_step(position, i)?;
                Symbol::Bytes(id)
            } else {
                Symbol::Float(Float {
                    base: Base::Node(position, i),
                    function: Function::Variable,
                    views: Vec::new(),
                })
            };
        }
        Ok(None)
    }

    /// Lowers a node that moves bytes and keeps their step.
    fn keep_step(&mut self, position: usize, output: usize) -> Result<Id, Reason> {
        let node = &self.graph.nodes[position];
        if !spatial::keeps_steps(&node.op) {
            return Err(format!("{} of bytes is not covered", node.op));
        }
        if matches!(&*node.op, "Resize" | "Upsample") && node.text("mode", "nearest") != "nearest" {
            return Err("a resize that is not nearest needs a quantizer of its own".to_owned());
        }
        let first = node.input(0).ok_or("an input is missing")?;
        self.deeper()?;
        let id = self.bytes_of(first);
        self.depth -= 1;
        let id = id?;
        let Kind::Bytes { quant, signed } = self.program.values[id].kind else {
            return Err("its input is not quantized".to_owned());
        };
        self.lower_base(
            position,
            output,
            &Function::Variable,
            Target::Bytes { quant, signed },
        )
    }

    /// The bytes of a value, or the reason why there are none.
    pub fn bytes_of(&mut self, value: usize) -> Result<Id, Reason> {
        self.bytes_within(value, 0.0)
    }

    /// The same, where values may be off by `allowed`: without a quantizer, they get steps that the file does not have.
    pub fn bytes_within(&mut self, value: usize, allowed: f32) -> Result<Id, Reason> {
        const COARSE: &str = "what it reads has no quantizer, and 256 steps of its own would be too coarse";
        match self.symbols[value].clone() {
            Symbol::Bytes(id) => Ok(id),
            Symbol::Opaque | Symbol::Weights(_) => Err(match &self.constants[value] {
                Some(_) => "an input is a constant".to_owned(),
                None => "an input is not quantized".to_owned(),
            }),
            Symbol::Float(float) => {
                let known = self.asked.get(&value).copied();
                let (id, off) = match known {
                    Some(known) => known,
                    None => self.unquantized(&float)?,
                };
                self.asked.insert(value, (id, off));
                if off > allowed {
                    return Err(COARSE.to_owned());
                }
                Ok(id)
            }
        }
    }

    /// Bytes of a float that no quantizer stands behind: exact where steps are kept, else on a step of our own. With
    /// the largest distance of a value.
    fn unquantized(&mut self, float: &Float) -> Result<(Id, f32), Reason> {
        let base = match float.base {
            Base::Picture => return Err("an input is not quantized".to_owned()),
            Base::Bytes(id) => id,
            Base::Node(position, output) => {
                let op = &self.graph.nodes[position].op;
                if !spatial::keeps_steps(op) {
                    return Err(format!("the {op} before it has no quantizer"));
                }
                self.keep_step(position, output)?
            }
        };
        let Kind::Bytes { quant, signed } = self.program.values[base].kind else {
            return Err("an input is not quantized".to_owned());
        };
        let values: Vec<f32> = (0..=255).map(|b| float.function.at(quant.value(b))).collect();
        let exact = |v: &f32| {
            let steps = v / quant.scale + f32::from(quant.zero);
            (steps - steps.round()).abs() < 1e-3 && (-0.001..=255.001).contains(&steps)
        };
        if values.iter().any(|v| !v.is_finite()) {
            return Err("a function before it is not finite".to_owned());
        }
        let (quant, off) = if values.iter().all(exact) {
            (quant, 0.0)
        } else {
            let quant = Quant::covering(values.iter().copied());
            (quant, quant.distance(&values))
        };
        let id = self.table(base, &float.function, Target::Bytes { quant, signed })?;
        Ok((self.views(id, &float.views)?, off))
    }

    /// Lowers a float as its quantizer wants it.
    pub fn lower(&mut self, float: &Float, target: Target) -> Result<Id, Reason> {
        let id = match float.base {
            Base::Picture => self.of_picture(&float.function, target)?,
            Base::Bytes(id) => self.table(id, &float.function, target)?,
            Base::Node(position, output) => self.lower_base(position, output, &float.function, target)?,
        };
        self.views(id, &float.views)
    }

    fn lower_base(
        &mut self,
        position: usize,
        output: usize,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        let base = Base::Node(position, output);
        if let Some(id) = self.made_before(base, function, target)? {
            return Ok(id);
        }
        self.deeper()?;
        let node = &self.graph.nodes[position];
        let before = std::mem::replace(&mut self.current, position);
        let id = match node.op.as_str() {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" => self.conv(node, function, target, Addend::None),
            "Add" | "Sub" | "Mul" => self.pair(node, function, target),
            "Softmax" => self.softmax(node, function, target),
            _ => self.spatial(node, output, function, target),
        };
        self.depth -= 1;
        self.current = before;
        match &id {
            Ok(id) => self
                .made
                .entry(base)
                .or_default()
                .push((function.clone(), target, *id)),
            Err(reason) => self.leave(position, reason.clone()),
        }
        id
    }

    /// One operator more that is lowered for the sake of another; `depth` is set back behind it.
    fn deeper(&mut self) -> Result<(), Reason> {
        if self.depth >= DEPTH_MAX {
            return Err("too many operators without a quantizer in front of it".to_owned());
        }
        self.depth += 1;
        Ok(())
    }

    fn made_before(&self, base: Base, function: &Function, target: Target) -> Result<Option<Id>, Reason> {
        let made = self.made.get(&base).map_or(&[][..], |list| list);
        let same = |(f, t, _): &&(Function, Target, Id)| *t == target && f == function;
        match made.iter().find(same) {
            Some((.., id)) => Ok(Some(*id)),
            None if made.len() >= MADE_MAX => Err("too many quantizers read it".to_owned()),
            None => Ok(None),
        }
    }

    /// A function of bytes.
    pub fn table(&mut self, id: Id, function: &Function, target: Target) -> Result<Id, Reason> {
        let value = self.program.values[id].clone();
        let from = value.quant().ok_or("an input is not quantized")?;
        if let Some(id) = self.made_before(Base::Bytes(id), function, target)? {
            return Ok(id);
        }
        let [h, w, _] = value.dims();
        let kind = match target {
            Target::Float => OpKind::Dequantize {
                input: id,
                function: function.clone(),
            },
            Target::Bytes { quant, .. } if function.is_variable() && from == quant => {
                return Ok(self.alias(id, value.shape, value.order, target.kind()));
            }
            Target::Bytes { quant, .. } => OpKind::Gather {
                input: id,
                rows: (0..h as u32).collect(),
                columns: (0..w as u32).collect(),
                channel: 0,
                fill: 0,
                table: Some(function.table(from, quant)),
            },
        };
        let made = self.push(kind, value.shape, value.order, target);
        let list = self.made.entry(Base::Bytes(id)).or_default();
        list.push((function.clone(), target, made));
        Ok(made)
    }

    /// A new operator and the value it gives.
    pub fn push(&mut self, kind: OpKind, shape: Vec<usize>, order: Order, target: Target) -> Id {
        self.program.values.push(Value {
            shape,
            order,
            kind: target.kind(),
            alias: None,
        });
        let output = self.program.values.len() - 1;
        self.program.ops.push(Op {
            kind,
            output,
            node: self.current,
        });
        output
    }

    /// The same bytes under another description.
    pub fn alias(&mut self, id: Id, shape: Vec<usize>, order: Order, kind: Kind) -> Id {
        let value = &self.program.values[id];
        if value.shape == shape && value.order == order && value.kind == kind {
            return id;
        }
        let root = self.program.root(id);
        self.program.values.push(Value {
            shape,
            order,
            kind,
            alias: Some(root),
        });
        self.program.values.len() - 1
    }

    /// The shape of a node's output.
    pub fn shape_of(&self, node: &Node, output: usize) -> Result<Vec<usize>, Reason> {
        let value = node.outputs.get(output).copied().flatten();
        let shape = value.and_then(|v| self.shapes[v].clone());
        shape.ok_or_else(|| "its shape is not known".to_owned())
    }
}

/// A ratio of steps that f32 can hold.
fn finite(ratio: f32) -> Result<f32, Reason> {
    if ratio.is_finite() {
        Ok(ratio)
    } else {
        Err("its steps are too far apart".to_owned())
    }
}

fn simple(float: Float) -> Result<Float, Reason> {
    if float.function.is_too_large() {
        return Err("too many functions in a row".to_owned());
    }
    Ok(float)
}

pub fn is_view(op: &str) -> bool {
    matches!(op, "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose")
}

/// A word that no name begins with.
fn prefix(names: &[String]) -> String {
    const OWN: &str = "elek";
    let longer = |rest: &str| 1 + rest.bytes().take_while(|b| *b == b'_').count();
    let more = names.iter().filter_map(|name| name.strip_prefix(OWN)).map(longer);
    OWN.to_owned() + &"_".repeat(more.max().unwrap_or(0))
}

/// Bytes of a constant tensor, signed ones with 128 added; `None` for other types.
pub fn carried(tensor: &Tensor) -> Option<(Vec<u8>, bool)> {
    match &tensor.data {
        Data::U8(v) => Some((v.clone(), false)),
        Data::I8(v) => Some((v.iter().map(|&v| (v as u8) ^ 0x80).collect(), true)),
        _ => None,
    }
}
