//! What the lowering knows of the values of a graph.

use super::super::function::{Function, Quant};
use super::super::ir::{Id, Kind};
use super::super::onnx::Tensor;
use super::Reason;
use std::rc::Rc;

/// What is known of a value of the ONNX graph.
#[derive(Clone, Debug)]
pub enum Symbol {
    /// Made by a node that is left to tract, or the graph's input.
    Opaque,
    /// A constant is in [`super::Lowering::constants`]; this one went through `DequantizeLinear`.
    Weights(Rc<Weights>),
    Bytes(Id),
    Float(Float),
}

/// Integers of the file with their steps.
#[derive(Debug)]
pub struct Weights {
    pub tensor: Rc<Tensor>,
    /// One, or one by index of dimension `axis`.
    pub scale: Vec<f32>,
    pub zero: Vec<i64>,
    pub axis: usize,
}

impl Weights {
    /// What `DequantizeLinear` makes of them.
    pub fn values(&self) -> Vec<f32> {
        let shape = &self.tensor.shape;
        let inner: usize = shape.get(self.axis + 1..).unwrap_or_default().iter().product();
        let ints = self.tensor.whole().unwrap_or_default();
        let value = |(i, int): (usize, i64)| {
            let at = if self.scale.len() == 1 {
                0
            } else {
                i / inner.max(1) % self.scale.len()
            };
            (int - self.zero[at]) as f32 * self.scale[at]
        };
        ints.into_iter().enumerate().map(value).collect()
    }
}

/// A value in f32 that nobody has reckoned.
#[derive(Clone, Debug, PartialEq)]
pub struct Float {
    pub base: Base,
    pub function: Function,
    /// Nodes that change the shape, applied after the base, in this order.
    pub views: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// The graph's input.
    Picture,
    /// Bytes, dequantized.
    Bytes(Id),
    /// Output of a node, by its position in the graph.
    Node(usize, usize),
}

/// What the result of an operator becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    Bytes { quant: Quant, signed: bool },
    Float,
}

impl Target {
    pub fn kind(self) -> Kind {
        match self {
            Target::Bytes { quant, signed } => Kind::Bytes { quant, signed },
            Target::Float => Kind::Floats,
        }
    }

    pub fn bytes(self) -> Result<Quant, Reason> {
        match self {
            Target::Bytes { quant, .. } => Ok(quant),
            Target::Float => Err("its result is not quantized".to_owned()),
        }
    }
}

/// Bytes that tract makes and a region reads: they are dequantized on the way, which loses nothing.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// The value in f32, which the graph does not have.
    pub value: usize,
    pub source: usize,
    pub quant: Quant,
    pub signed: bool,
}
