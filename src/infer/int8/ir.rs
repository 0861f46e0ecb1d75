//! Operators on tensors of bytes: what the lowering makes of an ONNX graph, and what is planned and run.
//!
//! A tensor of bytes is stored in the order height, width, channel, whatever its shape in ONNX is; see [`Order`].

use super::function::{Function, Quant};
use crate::kernels::binary::BinaryOp;
use crate::kernels::finish::Finish;
use crate::kernels::float::Order as FloatOrder;
use crate::kernels::spatial::Tap;
use std::sync::Arc;

impl OpKind {
    /// The value of the ONNX graph that it reads, if it is one that reads from outside.
    pub fn external(&self) -> Option<usize> {
        match self {
            OpKind::Quantize { external, .. } | OpKind::External { external, .. } => Some(*external),
            _ => None,
        }
    }
}

/// Number of a [`Value`] in its [`Program`].
pub type Id = usize;

/// How a shape of ONNX lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As ONNX numbers it, the last dimension innermost. Channels of NHWC graphs; everything of other ranks.
    Rows,
    /// Shape [1, C, H, W], stored as H, W, C. The transposes of NHWC graphs then cost nothing.
    ChannelsLast,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `signed` is what ONNX calls the type; the bytes are unsigned in any case.
    Bytes {
        quant: Quant,
        signed: bool,
    },
    Floats,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// As ONNX says.
    pub shape: Vec<usize>,
    pub order: Order,
    pub kind: Kind,
    /// The same bytes under another shape, order or step as those of this value.
    pub alias: Option<Id>,
}

impl Value {
    /// Height, width, channels.
    pub fn dims(&self) -> [usize; 3] {
        dims(&self.shape, self.order)
    }

    pub fn quant(&self) -> Option<Quant> {
        match self.kind {
            Kind::Bytes { quant, .. } => Some(quant),
            Kind::Floats => None,
        }
    }
}

/// Height, width, channels of a shape as it is stored.
pub fn dims(shape: &[usize], order: Order) -> [usize; 3] {
    match (order, shape) {
        (Order::ChannelsLast, &[_, c, h, w]) => [h, w, c],
        (_, &[1, h, w, c]) => [h, w, c],
        (_, []) => [1, 1, 1],
        (_, [.., last]) => [1, shape[..shape.len() - 1].iter().product(), *last],
    }
}

/// One operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    pub kind: OpKind,
    pub output: Id,
    /// Node of the file that it stands for (the operator itself, not its quantizers).
    pub node: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OpKind {
    /// From f32 that comes from outside (`external` is a value of the ONNX graph), through a function.
    Quantize {
        external: usize,
        order: FloatOrder,
        function: Function,
    },
    /// f32 from outside, as it is.
    External {
        external: usize,
        order: FloatOrder,
    },
    /// Bytes that are always the same.
    Constant {
        bytes: Vec<u8>,
    },
    Conv(Box<Conv>),
    /// Σ of two, or product, in f32 and then in steps.
    Binary {
        op: BinaryOp,
        a: Id,
        b: Id,
        /// Sizes of the steps of both, negative for what is subtracted.
        scales: [f32; 2],
        /// That of the result's.
        step: f32,
        finish: Finish,
    },
    MaxPool {
        input: Id,
        window: Pool,
        table: Option<Arc<[u8]>>,
    },
    AveragePool {
        input: Id,
        window: Pool,
        counts: [Vec<u32>; 2],
        step: f32,
        finish: Finish,
    },
    /// Nearest resize, padding, cropping. `channel` is the first of the input's channels that are taken.
    Gather {
        input: Id,
        rows: Vec<u32>,
        columns: Vec<u32>,
        channel: usize,
        fill: u8,
        table: Option<Arc<[u8]>>,
    },
    Bilinear {
        input: Id,
        rows: Vec<Tap>,
        columns: Vec<Tap>,
        /// The size of the result's steps.
        step: f32,
        finish: Finish,
    },
    /// Side by side along the channels, each after its table.
    Concat {
        inputs: Vec<(Id, Option<Arc<[u8]>>)>,
    },
    /// Values in another order: value i of the output, of the dimensions `lengths`, is at
    /// Σ index × step of the input.
    Permute {
        input: Id,
        lengths: Vec<usize>,
        steps: Vec<usize>,
        table: Option<Arc<[u8]>>,
    },
    /// To f32, through a function.
    Dequantize {
        input: Id,
        function: Function,
    },
    /// From f32 to f32, like the next.
    FloatConv(Box<FloatConv>),
    /// Two neighbours down and across.
    FloatResize {
        input: Id,
        rows: Vec<Tap>,
        columns: Vec<Tap>,
        function: Function,
    },
    /// Over the channels, to f32 (channels innermost).
    Softmax {
        input: Id,
    },
    /// From f32 of this program.
    Requantize {
        input: Id,
    },
}

/// Kernel, stride, dilation, padding above and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pad: [isize; 2],
}

#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    pub input: Id,
    pub groups: usize,
    /// One, or as many as make up a transposed convolution.
    pub parts: Vec<Part>,
    /// By output channel, as are the next two.
    pub weight_zero: Vec<i32>,
    pub bias: Vec<i32>,
    pub scale: Vec<f32>,
    /// Added before `finish`. Without a middle, `scale` then does not reckon in steps of the output but in f32.
    pub residual: Option<Added>,
    pub finish: Finish,
    /// Of the f32 output, where that is what is wanted; `finish` then does nothing.
    pub function: Option<Function>,
}

/// A small convolution in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatConv {
    pub input: Id,
    pub window: Pool,
    /// ky, kx, input channel, output channel; depthwise without the third.
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub function: Function,
}

/// A convolution that writes every `stride`-th output pixel from `first` on.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub window: Pool,
    /// Output channel, ky, kx, input channel of the group.
    pub weights: Vec<i8>,
    pub first: [usize; 2],
    pub stride: [usize; 2],
    /// Output pixels of this part, down and across.
    pub size: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Added {
    pub value: Id,
    /// The size of its steps, negative for what is subtracted.
    pub scale: f32,
    pub middle: Option<crate::kernels::finish::Middle>,
    /// The size of the result's steps.
    pub step: f32,
}

impl Op {
    /// Gives every value that it reads or writes another number.
    pub fn renumber(&mut self, mut number: impl FnMut(Id) -> Id) {
        self.output = number(self.output);
        match &mut self.kind {
            OpKind::Quantize { .. } | OpKind::External { .. } | OpKind::Constant { .. } => {}
            OpKind::Conv(conv) => {
                conv.input = number(conv.input);
                if let Some(added) = &mut conv.residual {
                    added.value = number(added.value);
                }
            }
            OpKind::FloatConv(conv) => conv.input = number(conv.input),
            OpKind::Binary { a, b, .. } => (*a, *b) = (number(*a), number(*b)),
            OpKind::Concat { inputs } => inputs.iter_mut().for_each(|(id, _)| *id = number(*id)),
            OpKind::MaxPool { input, .. }
            | OpKind::AveragePool { input, .. }
            | OpKind::Gather { input, .. }
            | OpKind::Bilinear { input, .. }
            | OpKind::Permute { input, .. }
            | OpKind::Dequantize { input, .. }
            | OpKind::FloatResize { input, .. }
            | OpKind::Softmax { input }
            | OpKind::Requantize { input } => *input = number(*input),
        }
    }

    /// Values that it reads.
    pub fn inputs(&self) -> Vec<Id> {
        match &self.kind {
            OpKind::Quantize { .. } | OpKind::External { .. } | OpKind::Constant { .. } => Vec::new(),
            OpKind::Conv(conv) => std::iter::once(conv.input)
                .chain(conv.residual.map(|r| r.value))
                .collect(),
            OpKind::FloatConv(conv) => vec![conv.input],
            OpKind::Binary { a, b, .. } => vec![*a, *b],
            OpKind::Concat { inputs } => inputs.iter().map(|(id, _)| *id).collect(),
            OpKind::MaxPool { input, .. }
            | OpKind::AveragePool { input, .. }
            | OpKind::Gather { input, .. }
            | OpKind::Bilinear { input, .. }
            | OpKind::Permute { input, .. }
            | OpKind::Dequantize { input, .. }
            | OpKind::FloatResize { input, .. }
            | OpKind::Softmax { input }
            | OpKind::Requantize { input } => vec![*input],
        }
    }

    /// The table that it looks its result up in at last, if it can have one.
    pub fn table_mut(&mut self) -> Option<&mut Option<Arc<[u8]>>> {
        match &mut self.kind {
            OpKind::Conv(conv) => Some(&mut conv.finish.table),
            OpKind::Binary { finish, .. }
            | OpKind::AveragePool { finish, .. }
            | OpKind::Bilinear { finish, .. } => Some(&mut finish.table),
            OpKind::MaxPool { table, .. } | OpKind::Gather { table, .. } | OpKind::Permute { table, .. } => {
                Some(table)
            }
            _ => None,
        }
    }
}

/// Operators in an order in which each comes after what it reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    pub values: Vec<Value>,
    pub ops: Vec<Op>,
}

impl Program {
    /// The value that owns the bytes.
    pub fn root(&self, mut id: Id) -> Id {
        while let Some(next) = self.values[id].alias {
            id = next;
        }
        id
    }

    /// Multiply-accumulates of convolutions and matrix products in integers, padding included.
    pub fn macs(&self) -> u64 {
        let of = |op: &Op| match &op.kind {
            OpKind::Conv(conv) => {
                let of = |part: &Part| (part.size[0] * part.size[1]) as u64 * part.weights.len() as u64;
                conv.parts.iter().map(of).sum()
            }
            _ => 0,
        };
        self.ops.iter().map(of).sum()
    }

    /// Those that are done in f32.
    pub fn float_macs(&self) -> u64 {
        let of = |op: &Op| match &op.kind {
            OpKind::FloatConv(conv) => {
                let [h, w, _] = self.values[op.output].dims();
                (h * w) as u64 * conv.weights.len() as u64
            }
            _ => 0,
        };
        self.ops.iter().map(of).sum()
    }
}
