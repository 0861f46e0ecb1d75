//! Functions of one number: activations, and sums and products with constants.

use super::super::function::{Function, Pair, Unary};
use super::super::onnx::Node;
use super::{Base, Float, Lowering, Reason, Symbol, simple};

impl Lowering<'_> {
    /// A number that stands alone.
    fn single(&self, value: usize) -> Option<f32> {
        if let Symbol::Weights(weights) = &self.symbols[value] {
            let ints = weights.tensor.whole()?;
            let &[int] = &ints[..] else { return None };
            return Some((int - weights.zero.first()?) as f32 * weights.scale.first()?);
        }
        self.constants[value].as_ref()?.single()
    }

    /// The function of an operator with one input.
    pub fn unary(&self, node: &Node) -> Result<Option<Unary>, Reason> {
        let single = |at: usize, default: f32| match node.input(at) {
            None => Ok(default),
            Some(value) => self.single(value).ok_or("a limit is not constant".to_owned()),
        };
        Ok(Some(match node.op.as_str() {
            "Relu" => Unary::Clip(0.0, f32::INFINITY),
            "Clip" if node.has("min") || node.has("max") || node.inputs.len() == 1 => Unary::Clip(
                node.float("min", f32::NEG_INFINITY),
                node.float("max", f32::INFINITY),
            ),
            "Clip" => Unary::Clip(single(1, f32::NEG_INFINITY)?, single(2, f32::INFINITY)?),
            "Sigmoid" => Unary::Sigmoid,
            "Tanh" => Unary::Tanh,
            "HardSigmoid" => Unary::HardSigmoid(node.float("alpha", 0.2), node.float("beta", 0.5)),
            "HardSwish" => Unary::HardSwish,
            "LeakyRelu" => Unary::Leaky(node.float("alpha", 0.01)),
            "PRelu" => Unary::Leaky(single(1, 0.0)?),
            "Elu" => Unary::Elu(node.float("alpha", 1.0)),
            "Exp" => Unary::Exp,
            "Sqrt" => Unary::Sqrt,
            "Neg" => Unary::Negate,
            "Abs" => Unary::Absolute,
            "Erf" => Unary::Erf,
            "Softplus" => Unary::Softplus,
            _ => return Ok(None),
        }))
    }

    /// A sum or product that is still a function of one value: with a constant, or of the same base.
    pub fn pair_symbol(&mut self, pair: Pair, node: &Node) -> Result<Option<Symbol>, Reason> {
        let (Some(a), Some(b), true) = (node.input(0), node.input(1), node.inputs.len() == 2) else {
            return Err("two inputs are covered".to_owned());
        };
        let same_shape = |this: &Self, value: usize| {
            this.shapes[value].is_some()
                && node
                    .output()
                    .is_some_and(|o| this.shapes[o] == this.shapes[value])
        };
        let (sa, sb) = (self.symbols[a].clone(), self.symbols[b].clone());
        let float = match (sa, sb, self.single(a), self.single(b)) {
            (Symbol::Float(x), _, _, Some(c)) if same_shape(self, a) => Float {
                function: Function::pair(pair, x.function, Function::Constant(c)),
                ..x
            },
            (_, Symbol::Float(y), Some(c), _) if same_shape(self, b) => Float {
                function: Function::pair(pair, Function::Constant(c), y.function),
                ..y
            },
            (Symbol::Float(x), Symbol::Float(y), _, _) if x.base == y.base && x.views == y.views => Float {
                function: Function::pair(pair, x.function, y.function),
                ..x
            },
            (Symbol::Float(x), ..) if same_shape(self, a) => match self.by_channel(&x, b) {
                None => return Ok(None),
                Some(values) => Float {
                    function: Function::pair(pair, x.function, values),
                    ..x
                },
            },
            (_, Symbol::Float(y), ..) if same_shape(self, b) => match self.by_channel(&y, a) {
                None => return Ok(None),
                Some(values) => Float {
                    function: Function::pair(pair, values, y.function),
                    ..y
                },
            },
            _ => return Ok(None),
        };
        Ok(Some(Symbol::Float(simple(float)?)))
    }

    /// A constant with one value for each channel of the picture, which `float` is a function of.
    fn by_channel(&self, float: &Float, value: usize) -> Option<Function> {
        if float.base != Base::Picture {
            return None;
        }
        let tensor = self.constants[value].as_ref()?;
        // Where the views before have brought the channels.
        let mut axis = 1;
        for &view in &float.views {
            let node = &self.graph.nodes[view];
            let perm = node.ints("perm").filter(|_| node.op == "Transpose")?;
            axis = perm.iter().position(|&p| p == axis as i64)?;
        }
        let from = 4usize.checked_sub(tensor.shape.len())?;
        let along = tensor
            .shape
            .iter()
            .enumerate()
            .all(|(i, &d)| from + i == axis || d == 1);
        let channels = self.shapes[self.graph.input].as_ref()?.get(1)?;
        let values = tensor.floats().filter(|v| along && v.len() == *channels)?;
        Some(Function::Channels(values.into()))
    }
}

pub fn pair(op: &str) -> Option<Pair> {
    Some(match op {
        "Add" => Pair::Add,
        "Sub" => Pair::Subtract,
        "Mul" => Pair::Multiply,
        "Div" => Pair::Divide,
        "Min" => Pair::Minimum,
        "Max" => Pair::Maximum,
        _ => return None,
    })
}
