//! A program made ready to run: kernels packed, every tensor at its place in one arena.

mod arena;
mod build;
mod cut;
mod floats;
mod run;

pub use cut::Cutting;
pub use run::{Picture, State};

use super::function::{Function, Quant};
use super::ir::{Id, Kind, OpKind, Order, Program};
use crate::kernels::binary::Binary;
use crate::kernels::conv::{PackedConv, Panels};
use crate::kernels::float::{Dequantize, Order as FloatOrder, Quantize, Softmax};
use crate::kernels::isa::Isa;
use crate::kernels::layout::Layout;
use crate::kernels::spatial::{AveragePool, Bilinear, Gather, MaxPool};
use anyhow::Result;
use floats::{FloatConv, FloatResize};
use std::ops::Range;
use std::sync::Arc;

/// A region of a graph, ready to run. Shared between threads; what changes is in a [`State`].
pub struct Plan {
    isa: Isa,
    steps: Vec<Step>,
    /// Sizes of the two arenas and of the kernels' scratch.
    bytes: usize,
    floats: usize,
    scratch: usize,
    /// Bytes that are always the same, with their place.
    constants: Vec<(usize, Vec<u8>)>,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    /// Multiply-accumulates in integers, and those in f32.
    pub macs: u64,
    pub float_macs: u64,
    /// Numbers in weights and biases.
    pub parameters: u64,
    /// Operators by kind, for the log.
    pub kinds: Vec<(&'static str, usize)>,
}

/// Short: the whole would print every weight.
impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("kinds", &self.kinds)
            .field("macs", &self.macs)
            .finish_non_exhaustive()
    }
}

/// An f32 tensor from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Number of the value in the ONNX graph.
    pub value: usize,
    pub shape: Vec<usize>,
}

/// An f32 tensor for outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub value: usize,
    pub shape: Vec<usize>,
    /// Where it lies in the arena of floats, and in which order.
    place: Range<usize>,
    order: Order,
}

/// A region before it is planned.
#[derive(Clone, Debug)]
pub struct Region {
    pub program: Program,
    pub inputs: Vec<Input>,
    /// Values of the program, each with its number in the ONNX graph.
    pub outputs: Vec<(Id, usize)>,
}

/// One kernel with the places of its tensors in the arena.
#[derive(Debug)]
struct Step {
    kernel: Kernel,
    /// In the arena of bytes.
    output: Range<usize>,
    inputs: [Range<usize>; 2],
    /// In the arena of floats, for those that write it.
    floats: Range<usize>,
    /// The f32 tensor that operators on f32 read.
    float_input: Range<usize>,
    /// Of the output, in bytes or in f32: its rows are what threads can share. Steps that one thread has to do have one.
    layout: Layout,
}

impl Step {
    /// Where the output's channels can be divided.
    fn panels(&self) -> Option<Panels<'_>> {
        match &self.kernel {
            Kernel::Conv { kernel, .. } => kernel.panels(),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Kernel {
    Quantize {
        kernel: Quantize,
        input: usize,
        /// What values go through before, by channel; nothing where there is nothing to do.
        functions: Vec<Function>,
    },
    Conv {
        kernel: PackedConv,
        residual: bool,
        work: u64,
    },
    /// In the arena of floats, `first` values behind where its output begins. The last of several parts works the
    /// function out for all of them.
    ConvF32 {
        kernel: PackedConv,
        first: usize,
        function: Function,
        work: u64,
    },
    Binary(Binary),
    MaxPool(MaxPool),
    AveragePool(AveragePool),
    Gather(Gather),
    Bilinear(Bilinear),
    Permute(Permute),
    Dequantize(Dequantize),
    /// To f32 through any function.
    Values(Box<Values>),
    External {
        input: usize,
        order: FloatOrder,
        channels: usize,
    },
    FloatConv(Box<FloatConv>),
    FloatResize(Box<FloatResize>),
    Softmax(Softmax),
    Requantize(Quantize),
}

/// Bytes in another order: output byte i is at the i-th of the places that lengths and steps make up.
#[derive(Debug)]
struct Permute {
    places: Vec<u32>,
    table: Option<Arc<[u8]>>,
}

/// An f32 for each byte.
#[derive(Debug)]
struct Values {
    input: crate::kernels::layout::Layout,
    table: [f32; 256],
}

impl Plan {
    pub fn new(region: &Region, isa: Isa) -> Result<Plan> {
        build::plan(region, isa)
    }

    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The quantizer of the only input, if there is one: then bytes can be given in the place of f32. It gives the step
    /// of a value by its channel.
    pub fn input_quantizer(&self) -> Option<impl Fn(usize, f32) -> u8> {
        let mut quantizers = self.steps.iter().filter_map(|step| match &step.kernel {
            Kernel::Quantize {
                kernel, functions, ..
            } => Some((kernel, functions)),
            _ => None,
        });
        let (first, more) = (quantizers.next()?, quantizers.next());
        let plain = !self
            .steps
            .iter()
            .any(|step| matches!(step.kernel, Kernel::External { .. }));
        let (kernel, functions) = first;
        let only = plain && more.is_none() && self.inputs.len() == 1;
        only.then_some(move |channel: usize, value: f32| {
            let value = functions
                .get(channel)
                .map_or(value, |function| function.at(value));
            kernel.finish.byte(value / kernel.scale)
        })
    }

    /// Bytes that a [`State`] for one thread takes.
    pub fn memory(&self) -> usize {
        self.bytes + 4 * self.floats + self.scratch
    }
}

fn kind_name(kind: &OpKind) -> &'static str {
    match kind {
        OpKind::Quantize { .. } => "quantize",
        OpKind::External { .. } => "f32 input",
        OpKind::Constant { .. } => "constant",
        OpKind::Conv(_) => "convolution",
        OpKind::Binary { .. } => "add or multiply",
        OpKind::MaxPool { .. } => "max pool",
        OpKind::AveragePool { .. } => "average pool",
        OpKind::Gather { .. } => "gather",
        OpKind::Bilinear { .. } => "resize",
        OpKind::Concat { .. } => "concatenation",
        OpKind::Permute { .. } => "transposition",
        OpKind::FloatConv(_) => "f32 convolution",
        OpKind::FloatResize { .. } => "f32 resize",
        OpKind::Dequantize { .. } => "dequantize",
        OpKind::Softmax { .. } => "softmax",
        OpKind::Requantize { .. } => "requantize",
    }
}

fn quant_of(program: &Program, id: Id) -> Quant {
    match program.values[id].kind {
        Kind::Bytes { quant, .. } => quant,
        Kind::Floats => Quant { scale: 1.0, zero: 0 },
    }
}
