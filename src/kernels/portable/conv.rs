//! Convolution with the output channels (depthwise: all channels) in the innermost loop.

use super::super::conv::{ConvShape, ConvSpec};
use super::super::finish::{Finish, Residual};
use super::super::isa::{Isa, Work};
use std::ops::Range;

/// Output channels of one block: their sums stay in registers or near. Eight registers of 128 bits, four of 256.
const BLOCK: usize = 32;

/// Those of one block for one pixel.
type Sums = [i32; BLOCK];

#[derive(Clone, Debug)]
pub struct Conv {
    isa: Isa,
    shape: ConvShape,
    /// By block, then ky, kx, input channel (dense) and the block's output channels, filled up with 0.
    weights: Vec<i8>,
    /// With the input's zero point folded in; by block, filled up with 0.
    bias: Vec<i32>,
    /// Empty when all are 0.
    weight_zero: Vec<i32>,
    scale: Vec<f32>,
    input_zero: u8,
    residual: Option<Residual>,
    finish: Finish,
    /// Output channels that one block covers; groups never share a block.
    blocks: Vec<Range<usize>>,
}

impl Conv {
    pub fn new(isa: Isa, spec: &ConvSpec) -> Conv {
        let shape = spec.shape;
        let blocks = blocks(&shape);
        let depth = shape.depth();
        let mut weights = Vec::new();
        let (mut bias, mut weight_zero, mut scale) = (Vec::new(), Vec::new(), Vec::new());
        for block in &blocks {
            for k in 0..depth {
                weights.extend(filled(block, |c| spec.weights[c * depth + k], 0));
            }
            bias.extend(filled(block, |c| spec.folded_bias(c, 0), 0));
            scale.extend(filled(block, |c| spec.scale[c], 0.0));
            if spec.weight_zero.iter().any(|z| *z != 0) {
                weight_zero.extend(filled(block, |c| spec.weight_zero[c], 0));
            }
        }
        Conv {
            isa,
            shape,
            weights,
            bias,
            weight_zero,
            scale,
            input_zero: spec.input_zero,
            residual: spec.quick_residual(),
            finish: spec.finish.clone(),
            blocks,
        }
    }

    pub fn run(&self, rows: Range<usize>, input: &[u8], residual: Option<&[u8]>, output: &mut [u8]) {
        self.isa.run(Run {
            conv: self,
            rows,
            input,
            destination: Bytes {
                conv: self,
                residual: self.residual.as_ref().zip(residual),
                output,
            },
        });
    }

    pub fn run_f32(&self, rows: Range<usize>, input: &[u8], output: &mut [f32]) {
        self.isa.run(Run {
            conv: self,
            rows,
            input,
            destination: Floats { conv: self, output },
        });
    }
}

/// Blocks of output channels. Depthwise, a block's channels see the input channels of the same number.
fn blocks(shape: &ConvShape) -> Vec<Range<usize>> {
    let (outputs, per_group) = (shape.output.channels, shape.output.channels / shape.groups);
    let run = if shape.is_depthwise() { outputs } else { per_group };
    let mut blocks = Vec::new();
    for start in (0..outputs).step_by(run.max(1)) {
        for at in (start..start + run).step_by(BLOCK) {
            blocks.push(at..(at + BLOCK).min(start + run));
        }
    }
    blocks
}

fn filled<T: Copy>(block: &Range<usize>, of: impl Fn(usize) -> T, rest: T) -> [T; BLOCK] {
    std::array::from_fn(|i| {
        if i < block.len() {
            of(block.start + i)
        } else {
            rest
        }
    })
}

/// What becomes of the sums of one pixel's block.
trait Destination {
    fn store(&mut self, sums: &Sums, block: usize, at: [usize; 2], first_row: usize);
}

struct Bytes<'a> {
    conv: &'a Conv,
    residual: Option<(&'a Residual, &'a [u8])>,
    output: &'a mut [u8],
}

impl Destination for Bytes<'_> {
    #[inline(always)]
    fn store(&mut self, sums: &Sums, block: usize, [y, x]: [usize; 2], first_row: usize) {
        let conv = self.conv;
        let channels = conv.blocks[block].clone();
        let scale = &conv.scale[block * BLOCK..][..BLOCK];
        let out = conv.shape.output.pixel_mut(self.output, y - first_row, x);
        let out = &mut out[channels.clone()];
        match self.residual {
            None => {
                for ((o, &sum), &scale) in out.iter_mut().zip(sums).zip(scale) {
                    *o = conv.finish.byte(sum as f32 * scale);
                }
            }
            Some((residual, bytes)) => {
                let bytes = &residual.layout.pixel(bytes, y, x)[channels];
                for (((o, &sum), &scale), &byte) in out.iter_mut().zip(sums).zip(scale).zip(bytes) {
                    *o = conv.finish.byte(residual.add(sum as f32 * scale, byte));
                }
            }
        }
    }
}

struct Floats<'a> {
    conv: &'a Conv,
    output: &'a mut [f32],
}

impl Destination for Floats<'_> {
    #[inline(always)]
    fn store(&mut self, sums: &Sums, block: usize, [y, x]: [usize; 2], first_row: usize) {
        let channels = self.conv.blocks[block].clone();
        let start = self.conv.shape.output.at(y - first_row, x);
        let out = &mut self.output[start..][channels];
        let scale = &self.conv.scale[block * BLOCK..][..BLOCK];
        for ((o, &sum), &scale) in out.iter_mut().zip(sums).zip(scale) {
            *o = sum as f32 * scale;
        }
    }
}

struct Run<'a, D> {
    conv: &'a Conv,
    rows: Range<usize>,
    input: &'a [u8],
    destination: D,
}

impl<D: Destination> Work for Run<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let width = self.conv.shape.output.width;
        let depthwise = self.conv.shape.is_depthwise();
        for y in self.rows.clone() {
            for block in 0..self.conv.blocks.len() {
                for x in 0..width {
                    let sums = if depthwise {
                        self.depthwise(block, [y, x])
                    } else {
                        self.dense(block, [y, x])
                    };
                    self.destination.store(&sums, block, [y, x], self.rows.start);
                }
            }
        }
    }
}

impl<D: Destination> Run<'_, D> {
    #[inline(always)]
    fn bias(&self, block: usize) -> Sums {
        let bias = &self.conv.bias[block * BLOCK..][..BLOCK];
        std::array::from_fn(|i| bias[i])
    }

    #[inline(always)]
    fn dense(&self, block: usize, at: [usize; 2]) -> Sums {
        let (conv, shape) = (self.conv, &self.conv.shape);
        let mut sums = self.bias(block);
        let inputs = shape.input.channels / shape.groups;
        let group = conv.blocks[block].start / (shape.output.channels / shape.groups);
        let weights = &conv.weights[block * shape.depth() * BLOCK..][..shape.depth() * BLOCK];
        let mut seen = 0i32;
        for ky in 0..shape.kernel[0] {
            for kx in 0..shape.kernel[1] {
                let weights = &weights[(ky * shape.kernel[1] + kx) * inputs * BLOCK..][..inputs * BLOCK];
                let pixel = shape
                    .source(at, [ky, kx])
                    .map(|(y, x)| &shape.input.pixel(self.input, y, x)[group * inputs..][..inputs]);
                for (c, weights) in weights.chunks_exact(BLOCK).enumerate() {
                    let value = i32::from(pixel.map_or(conv.input_zero, |p| p[c]));
                    // Of use only where weights have zero points. There, the limit of the sums bounds it.
                    seen = seen.wrapping_add(value);
                    for (sum, &weight) in sums.iter_mut().zip(weights) {
                        *sum = sum.wrapping_add(value * i32::from(weight));
                    }
                }
            }
        }
        self.without_weight_zero(&mut sums, block, |_| seen);
        sums
    }

    #[inline(always)]
    fn depthwise(&self, block: usize, at: [usize; 2]) -> Sums {
        let (conv, shape) = (self.conv, &self.conv.shape);
        let mut sums = self.bias(block);
        let channels = conv.blocks[block].clone();
        let taps = shape.depth();
        let weights = &conv.weights[block * taps * BLOCK..][..taps * BLOCK];
        let mut seen = [0i32; BLOCK];
        for (tap, weights) in weights.chunks_exact(BLOCK).enumerate() {
            let window = [tap / shape.kernel[1], tap % shape.kernel[1]];
            let mut values = [conv.input_zero; BLOCK];
            if let Some((y, x)) = shape.source(at, window) {
                let pixel = &shape.input.pixel(self.input, y, x)[channels.clone()];
                values[..pixel.len()].copy_from_slice(pixel);
            }
            for i in 0..BLOCK {
                // As above.
                seen[i] = seen[i].wrapping_add(i32::from(values[i]));
                sums[i] = sums[i].wrapping_add(i32::from(values[i]) * i32::from(weights[i]));
            }
        }
        self.without_weight_zero(&mut sums, block, |i| seen[i]);
        sums
    }

    /// Takes zw Σ x off.
    #[inline(always)]
    fn without_weight_zero(&self, sums: &mut Sums, block: usize, seen: impl Fn(usize) -> i32) {
        if let Some(zeros) = self.conv.weight_zero.get(block * BLOCK..(block + 1) * BLOCK) {
            for i in 0..BLOCK {
                sums[i] = sums[i].wrapping_sub(zeros[i].wrapping_mul(seen(i)));
            }
        }
    }
}
