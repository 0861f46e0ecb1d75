//! Between f32 and bytes, at the edges of a region; softmax.

use super::check::Misfit;
use super::finish::Finish;
use super::isa::Isa;
use super::layout::Layout;
use super::portable::{DequantizeAll, QuantizeRows};
use std::ops::Range;

/// Order of the f32 values of a tensor; both are dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// One plane per channel (NCHW).
    Planes,
    /// The channels of a pixel side by side (NHWC).
    Pixels,
}

/// value / scale, then `finish`: a division, as ONNX says, not a product with the reciprocal.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantize {
    pub order: Order,
    pub output: Layout,
    pub scale: f32,
    pub finish: Finish,
}

/// (byte - zero) × scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Dequantize {
    pub order: Order,
    pub input: Layout,
    pub scale: f32,
    pub zero: u8,
}

/// Softmax over the channels of each pixel: e[largest - byte], divided by the sum of these, in the order of the
/// channels, as f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    pub input: Layout,
    /// exp(-i × scale).
    pub exp: Box<[f32; 256]>,
}

impl Quantize {
    /// That it can run.
    pub fn check(&self) -> Result<(), Misfit> {
        self.output.check()?;
        self.finish.check()
    }

    /// `input` is the whole tensor, `output` begins with the first row of `rows`.
    ///
    /// # Panics
    /// Where a slice is shorter, or [`Self::check`] finds something.
    pub fn run(&self, isa: Isa, rows: Range<usize>, input: &[f32], output: &mut [u8]) {
        isa.run(QuantizeRows {
            spec: self,
            rows,
            input,
            output,
        });
    }
}

impl Dequantize {
    /// Both are whole tensors.
    ///
    /// # Panics
    /// Where a slice is shorter.
    pub fn run(&self, isa: Isa, input: &[u8], output: &mut [f32]) {
        isa.run(DequantizeAll {
            spec: self,
            input,
            output,
        });
    }
}

impl Softmax {
    /// `scale` is a step of the input, a finite number.
    pub fn new(input: Layout, scale: f32) -> Softmax {
        // In f64, so that the last bit of a machine's `exp` does not reach the f32 result.
        let exp = std::array::from_fn(|i| (-f64::from(scale) * i as f64).exp() as f32);
        Softmax {
            input,
            exp: Box::new(exp),
        }
    }

    /// `output` is dense, the channels of a pixel side by side.
    ///
    /// # Panics
    /// Where a slice is shorter.
    pub fn run(&self, input: &[u8], output: &mut [f32]) {
        let layout = &self.input;
        for y in 0..layout.height {
            for x in 0..layout.width {
                let pixel = layout.pixel(input, y, x);
                let top = pixel.iter().copied().max().unwrap_or(0);
                let out = &mut output[(y * layout.width + x) * layout.channels..][..layout.channels];
                let mut sum = 0.0f32;
                for (o, &byte) in out.iter_mut().zip(pixel) {
                    *o = self.exp[usize::from(top - byte)];
                    sum += *o;
                }
                out.iter_mut().for_each(|o| *o /= sum);
            }
        }
    }
}
