//! Convolution: dense, grouped, depthwise. A matrix product is one with a kernel of 1 × 1; a transposed one is
//! several that each write every n-th pixel.

use super::check::{self, Misfit, ensure};
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
    /// residual has one), or as f32 where that is the output or a residual without middle is added.
    pub scale: Vec<f32>,
    pub residual: Option<Residual>,
    pub finish: Finish,
}

impl ConvSpec {
    /// That all lengths fit the shape, and that indices can be counted.
    pub fn check(&self) -> Result<(), Misfit> {
        const LENGTH: &str = "a convolution whose numbers do not fit its shape";
        let shape = &self.shape;
        let (inputs, outputs) = (shape.input.channels, shape.output.channels);
        shape.input.check()?;
        shape.output.check()?;
        ensure(
            shape.groups > 0 && inputs.is_multiple_of(shape.groups) && outputs.is_multiple_of(shape.groups),
            "a convolution whose channels do not divide into its groups",
        )?;
        for (axis, length) in [shape.output.height, shape.output.width].into_iter().enumerate() {
            let (kernel, stride) = (shape.kernel[axis], shape.stride[axis]);
            check::axis(length, kernel, stride, shape.dilation[axis], shape.pad[axis])?;
        }
        let weights = shape.kernel[0].checked_mul(shape.kernel[1]);
        let weights = weights.and_then(|taps| taps.checked_mul(inputs / shape.groups));
        let weights = weights.and_then(|depth| depth.checked_mul(outputs));
        ensure(weights == Some(self.weights.len()), LENGTH)?;
        let zeros = self.weight_zero.len();
        ensure(zeros == 0 || zeros == outputs, LENGTH)?;
        ensure((self.bias.len(), self.scale.len()) == (outputs, outputs), LENGTH)?;
        if let Some(residual) = &self.residual {
            residual.check()?;
            let size = |layout: &Layout| (layout.height, layout.width, layout.channels);
            ensure(
                size(&residual.layout) == size(&shape.output),
                "what is added to a convolution has another size",
            )?;
        }
        self.finish.check()
    }

    /// In how many parts kernels take each weight: less its zero point, it may have more bits than a byte.
    pub fn parts(&self) -> usize {
        if self.weight_zero.iter().all(|zero| *zero == 0) {
            return 1;
        }
        let depth = self.shape.depth().max(1);
        let channels = self.weights.chunks(depth).zip(&self.weight_zero);
        let most = channels.flat_map(|(weights, zero)| weights.iter().map(|w| zero.abs_diff((*w).into())));
        most.max().unwrap_or(0).div_ceil(PART_MAX.unsigned_abs()).max(1) as usize
    }

    /// A part of weight `at` of a channel; of [`Self::parts`], all together are the weight less its zero point.
    pub fn part(&self, channel: usize, at: usize, part: usize) -> i8 {
        let weight = self.weights[channel * self.shape.depth() + at];
        match self.weight_zero.get(channel) {
            None | Some(0) if part == 0 => weight,
            None | Some(0) => 0,
            Some(zero) => {
                let whole = i32::from(weight) - zero;
                let rest = whole.abs() - PART_MAX * part as i32;
                (whole.signum() * rest.clamp(0, PART_MAX)) as i8
            }
        }
    }

    /// What is added, for kernels.
    pub fn quick_residual(&self) -> Option<Residual> {
        self.residual.map(|residual| residual.quickened(&self.finish))
    }

    /// bias + Σ (x - zx)(w - zw) = [bias + (shift - zx) Σ (w - zw)] + Σ (x - shift)(w - zw): what is in brackets, for
    /// kernels that take the input's values less `shift`. (x is zx outside of the input.)
    pub fn folded_bias(&self, channel: usize, shift: i32) -> i32 {
        let depth = self.shape.depth();
        let zero = self.weight_zero.get(channel).copied().unwrap_or(0);
        let weights = &self.weights[channel * depth..][..depth];
        let sum = weights
            .iter()
            .fold(0i32, |sum, w| sum.wrapping_add(i32::from(*w) - zero));
        self.bias[channel].wrapping_add((shift - i32::from(self.input_zero)).wrapping_mul(sum))
    }
}

/// Largest part of a weight.
const PART_MAX: i32 = 127;

/// Most parts that kernels take: of two bytes' distance there are three.
pub const PARTS_MAX: usize = 3;

/// The output channels of a convolution in panels, each of which can be computed by itself.
#[derive(Clone, Copy, Debug)]
pub struct Panels<'a>(&'a Gemm);

impl Panels<'_> {
    pub fn count(self) -> usize {
        self.0.panels()
    }

    /// The output channels of some of them.
    pub fn channels(self, panels: Range<usize>) -> Range<usize> {
        self.0.panel_channels(panels)
    }

    /// As [`PackedConv::run`] for all rows, but only the channels of some panels, which `output` gets pixel by pixel
    /// and without gaps.
    ///
    /// # Panics
    /// As there.
    pub fn run(
        self,
        panels: Range<usize>,
        input: &[u8],
        residual: Option<&[u8]>,
        output: &mut [u8],
        scratch: &mut [u8],
    ) {
        self.0
            .run_panels(panels, input, residual, Output::Bytes(output), scratch);
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
    /// Packs the weights. An error says why `spec` is none: see [`ConvSpec::check`].
    pub fn new(isa: Isa, spec: &ConvSpec) -> Result<PackedConv, Misfit> {
        spec.check()?;
        let depthwise = || Depthwise::new(isa, spec).map(Kind::Depthwise);
        let gemm = || match spec.shape.is_depthwise() {
            true => None,
            false => Gemm::new(isa, spec).map(Kind::Gemm),
        };
        let portable = || Kind::Portable(portable::Conv::new(isa, spec));
        Ok(PackedConv(depthwise().or_else(gemm).unwrap_or_else(portable)))
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
    ///
    /// # Panics
    /// Where a slice is shorter, or `scratch` than [`Self::scratch`].
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

    /// Where its output channels can be divided.
    pub fn panels(&self) -> Option<Panels<'_>> {
        match &self.0 {
            Kind::Gemm(gemm) => Some(Panels(gemm)),
            Kind::Portable(_) | Kind::Depthwise(_) => None,
        }
    }

    /// Sum × scale as f32, without residual and finish, in the same places as bytes would be. `output` begins with the
    /// first row of `rows`.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_f32(&self, rows: Range<usize>, input: &[u8], output: &mut [f32], scratch: &mut [u8]) {
        match &self.0 {
            Kind::Portable(conv) => conv.run_f32(rows, input, output),
            Kind::Gemm(gemm) => gemm.run(rows, input, None, Output::Floats(output), scratch),
            Kind::Depthwise(conv) => conv.run(rows, input, None, Output::Floats(output), scratch),
        }
    }
}
