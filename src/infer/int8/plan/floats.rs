//! f32 operators at the end of a network.
//!
//! Each sum is made in one order and without fused operations, so that these too give the same bits everywhere.

use super::super::function::Function;
use crate::kernels::conv::ConvShape;
use crate::kernels::isa::{Isa, Work};
use crate::kernels::spatial::Tap;
use std::ops::Range;

#[derive(Debug)]
pub struct FloatConv {
    /// Both layouts dense, in values.
    pub shape: ConvShape,
    /// ky, kx, input channel, output channel; depthwise without the third.
    pub weights: Vec<f32>,
    pub depthwise: bool,
    pub bias: Vec<f32>,
    pub function: Function,
}

#[derive(Debug)]
pub struct FloatResize {
    /// Of the input.
    pub width: usize,
    pub channels: usize,
    pub rows: Vec<Tap>,
    pub columns: Vec<Tap>,
    pub function: Function,
}

impl FloatConv {
    /// `output` begins with the first of `rows`.
    pub fn run(&self, isa: Isa, rows: Range<usize>, input: &[f32], output: &mut [f32]) {
        isa.widest(ConvRun {
            conv: self,
            first: rows.start * self.shape.output.width,
            input,
            output,
        });
        self.function.of_all(output);
    }
}

struct ConvRun<'a> {
    conv: &'a FloatConv,
    /// Pixel of the output.
    first: usize,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Work for ConvRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (conv, shape) = (self.conv, &self.conv.shape);
        let (inputs, outputs) = (shape.input.channels, shape.output.channels);
        for (pixel, sums) in (self.first..).zip(self.output.chunks_exact_mut(outputs)) {
            sums.copy_from_slice(&conv.bias);
            let at = [pixel / shape.output.width, pixel % shape.output.width];
            for ky in 0..shape.kernel[0] {
                for kx in 0..shape.kernel[1] {
                    let Some((y, x)) = shape.source(at, [ky, kx]) else {
                        continue;
                    };
                    let values = &self.input[(y * shape.input.width + x) * inputs..][..inputs];
                    let tap = ky * shape.kernel[1] + kx;
                    if conv.depthwise {
                        let weights = &conv.weights[tap * outputs..][..outputs];
                        for ((sum, &value), &weight) in sums.iter_mut().zip(values).zip(weights) {
                            *sum += value * weight;
                        }
                        continue;
                    }
                    let weights = &conv.weights[tap * inputs * outputs..][..inputs * outputs];
                    for (&value, weights) in values.iter().zip(weights.chunks_exact(outputs)) {
                        for (sum, &weight) in sums.iter_mut().zip(weights) {
                            *sum += value * weight;
                        }
                    }
                }
            }
        }
    }
}

impl FloatResize {
    /// `output` begins with the first of `rows`.
    pub fn run(&self, rows: Range<usize>, input: &[f32], output: &mut [f32]) {
        let (channels, columns) = (self.channels, self.columns.len());
        let pixel = |y: u32, x: u32| &input[(y as usize * self.width + x as usize) * channels..][..channels];
        for (y, row) in self.rows[rows].iter().enumerate() {
            for (x, column) in self.columns.iter().enumerate() {
                let [wa, wb, wc, wd] = column.with_row(row);
                let (a, b) = (pixel(row.first, column.first), pixel(row.first, column.second));
                let (c, d) = (pixel(row.second, column.first), pixel(row.second, column.second));
                let out = &mut output[(y * columns + x) * channels..][..channels];
                for (i, o) in out.iter_mut().enumerate() {
                    *o = a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd;
                }
            }
        }
        self.function.of_all(output);
    }
}
