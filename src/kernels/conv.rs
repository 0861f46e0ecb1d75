//! Convolution: dense, grouped, depthwise. A matrix product is one with a kernel of 1 × 1; a transposed one is
//! several that each write every n-th pixel.

use super::depthwise::Depthwise;
use super::finish::{Finish, Residual};
use super::gemm::Gemm;
use super::isa::Isa;
use super::layout::Layout;
use super::portable;
use super::store::Output;
use std::ops::Range;

/// Which values meet. Window (ky, kx) of output pixel (y, x) looks at input pixel
/// (y·stride + ky·dilation − pad, …); outside of the input it sees the input's zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    pub input: Layout,
    pub output: Layout,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Above and left; negative where the first window starts inside. What lies below and right follows from
    /// the output's size.
    pub pad: [isize; 2],
    /// Input and output channels are divided into as many parts that do not see each other.
    pub groups: usize,
}

impl ConvShape {
    /// A matrix product of `rows` × `inputs` with `inputs` × `outputs`.
    pub fn product(rows: usize, inputs: usize, outputs: usize) -> ConvShape {
        ConvShape {
            input: Layout::dense(1, rows, inputs),
            output: Layout::dense(1, rows, outputs),
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
            groups: 1,
        }
    }

    /// Weights of one output channel.
    pub fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * (self.input.channels / self.groups)
    }

    /// Multiply-accumulates, padding included.
    pub fn macs(&self) -> u64 {
        self.output.values() as u64 * self.depth() as u64
    }

    /// Every channel by itself.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.input.channels && self.groups == self.output.channels
    }

    /// The input pixel that window (ky, kx) of output pixel (y, x) sees.
    #[inline(always)]
    pub fn source(&self, [y, x]: [usize; 2], [ky, kx]: [usize; 2]) -> Option<(usize, usize)> {
        let iy = (y * self.stride[0] + ky * self.dilation[0]) as isize - self.pad[0];
        let ix = (x * self.stride[1] + kx * self.dilation[1]) as isize - self.pad[1];
        let inside =
            iy >= 0 && ix >= 0 && (iy as usize) < self.input.height && (ix as usize) < self.input.width;
        inside.then_some((iy as usize, ix as usize))
    }
}

/// All that a convolution needs to know once. Sums are exact: the caller makes sure that
/// 255 × the sum of |weight − zero| of a channel, plus |bias|, stays below 2³¹.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvSpec {
    pub shape: ConvShape,
    /// In the order output channel, ky, kx, input channel of the group.
    pub weights: Vec<i8>,
    /// Zero point of the weights by output channel; empty when all are 0.
    pub weight_zero: Vec<i32>,
    /// By output channel, in steps of input × weight.
    pub bias: Vec<i32>,
    pub input_zero: u8,
    /// By output channel: a step of input × weight in steps of the output (of the middle, where the
    /// residual has one), or in units of an f32 output.
    pub scale: Vec<f32>,
    pub residual: Option<Residual>,
    pub finish: Finish,
}

impl ConvSpec {
    pub fn check(&self) {
        let shape = &self.shape;
        let outputs = shape.output.channels;
        assert!(shape.groups > 0 && shape.input.channels.is_multiple_of(shape.groups));
        assert!(outputs.is_multiple_of(shape.groups));
        assert_eq!(self.weights.len(), outputs * shape.depth());
        assert!(self.weight_zero.is_empty() || self.weight_zero.len() == outputs);
        assert_eq!((self.bias.len(), self.scale.len()), (outputs, outputs));
        if let Some(residual) = &self.residual {
            let wanted = (shape.output.height, shape.output.width, outputs);
            let Layout {
                height,
                width,
                channels,
                ..
            } = residual.layout;
            assert_eq!((height, width, channels), wanted);
        }
        self.finish.check();
    }
}

/// A convolution made ready for one instruction set.
#[derive(Clone, Debug)]
pub struct PackedConv(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Portable(portable::Conv),
    Gemm(Gemm),
    Depthwise(Depthwise),
}

impl PackedConv {
    pub fn new(isa: Isa, spec: &ConvSpec) -> PackedConv {
        spec.check();
        if let Some(depthwise) = isa.strips().and_then(|strips| Depthwise::new(strips, spec)) {
            return PackedConv(Kind::Depthwise(depthwise));
        }
        if !spec.shape.is_depthwise()
            && let Some(gemm) = isa.tiles().and_then(|tiles| Gemm::new(tiles, spec))
        {
            return PackedConv(Kind::Gemm(gemm));
        }
        PackedConv(Kind::Portable(portable::Conv::new(spec)))
    }

    /// Made by no kernel of an instruction set.
    #[cfg(test)]
    pub fn is_portable(&self) -> bool {
        matches!(self.0, Kind::Portable(_))
    }

    /// Bytes that [`Self::run`] wants to scribble in; the content before and after does not matter.
    pub fn scratch(&self) -> usize {
        match &self.0 {
            Kind::Portable(_) => 0,
            Kind::Gemm(gemm) => gemm.scratch(),
            Kind::Depthwise(conv) => conv.scratch(),
        }
    }

    /// `input` and `residual` are whole tensors, `output` begins with the first row of `rows`. Bytes between
    /// the output's values stay as they are.
    pub fn run(
        &self,
        rows: Range<usize>,
        input: &[u8],
        residual: Option<&[u8]>,
        output: &mut [u8],
        scratch: &mut [u8],
    ) {
        match &self.0 {
            Kind::Portable(conv) => conv.run(rows, input, residual, output),
            Kind::Gemm(gemm) => gemm.run(rows, input, residual, Output::Bytes(output), scratch),
            Kind::Depthwise(conv) => conv.run(rows, input, residual, Output::Bytes(output), scratch),
        }
    }

    /// Sum × scale as f32, without residual and finish. `output` is dense and begins with the first row of `rows`.
    pub fn run_f32(&self, rows: Range<usize>, input: &[u8], output: &mut [f32], scratch: &mut [u8]) {
        match &self.0 {
            Kind::Portable(conv) => conv.run_f32(rows, input, output),
            Kind::Gemm(gemm) => gemm.run(rows, input, None, Output::Floats(output), scratch),
            Kind::Depthwise(conv) => conv.run(rows, input, None, Output::Floats(output), scratch),
        }
    }
}
