//! The specification of every kernel: one value at a time, as slow and as plain as can be.
//!
//! Each takes whole tensors. A kernel for an instruction set gives the same bytes for every input, and leaves the bytes
//! between the values of its output alone.

use super::binary::{Binary, BinaryOp, Operand};
use super::conv::ConvSpec;
use super::float::{Dequantize, Order, Quantize, Softmax};
use super::spatial::{AveragePool, Bilinear, Gather, MaxPool, NOWHERE};

/// The exact sum for one output value: bias + Σ (x - input zero) × (w - weight zero).
pub fn conv_sum(spec: &ConvSpec, input: &[u8], at: [usize; 2], channel: usize) -> i32 {
    let shape = &spec.shape;
    let inputs = shape.input.channels / shape.groups;
    let group = channel / (shape.output.channels / shape.groups);
    let weight_zero = spec.weight_zero.get(channel).copied().unwrap_or(0);
    let mut weights = spec.weights[channel * shape.depth()..][..shape.depth()].iter();
    let mut sum = spec.bias[channel];
    for ky in 0..shape.kernel[0] {
        for kx in 0..shape.kernel[1] {
            let source = shape.source(at, [ky, kx]);
            for (c, weight) in weights.by_ref().take(inputs).enumerate() {
                // Outside of the input stands its zero point: nothing is added.
                if let Some((y, x)) = source {
                    let value = shape.input.pixel(input, y, x)[group * inputs + c];
                    let value = i32::from(value) - i32::from(spec.input_zero);
                    sum += value * (i32::from(*weight) - weight_zero);
                }
            }
        }
    }
    sum
}

pub fn conv(spec: &ConvSpec, input: &[u8], residual: Option<&[u8]>, output: &mut [u8]) {
    let layout = &spec.shape.output;
    for y in 0..layout.height {
        for x in 0..layout.width {
            for c in 0..layout.channels {
                let mut value = conv_sum(spec, input, [y, x], c) as f32 * spec.scale[c];
                if let (Some(r), Some(bytes)) = (&spec.residual, residual) {
                    value = r.add(value, r.layout.pixel(bytes, y, x)[c]);
                }
                layout.pixel_mut(output, y, x)[c] = spec.finish.byte(value);
            }
        }
    }
}

pub fn conv_f32(spec: &ConvSpec, input: &[u8], output: &mut [f32]) {
    let layout = &spec.shape.output;
    for y in 0..layout.height {
        for x in 0..layout.width {
            for c in 0..layout.channels {
                output[layout.at(y, x) + c] = conv_sum(spec, input, [y, x], c) as f32 * spec.scale[c];
            }
        }
    }
}

/// An operand's value, repeated where it is broadcast.
fn operand(operand: &Operand, bytes: &[u8], y: usize, x: usize, c: usize) -> f32 {
    let layout = &operand.layout;
    let fit = |at: usize, length: usize| if length == 1 { 0 } else { at };
    let pixel = layout.pixel(bytes, fit(y, layout.height), fit(x, layout.width));
    (i32::from(pixel[fit(c, layout.channels)]) - i32::from(operand.zero)) as f32 * operand.scale
}

pub fn binary(spec: &Binary, a: &[u8], b: &[u8], output: &mut [u8]) {
    let layout = &spec.output;
    for y in 0..layout.height {
        for x in 0..layout.width {
            for c in 0..layout.channels {
                let (a, b) = (operand(&spec.a, a, y, x, c), operand(&spec.b, b, y, x, c));
                let value = match spec.op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Mul => a * b,
                };
                layout.pixel_mut(output, y, x)[c] = spec.finish.byte(spec.step.of(value));
            }
        }
    }
}

pub fn max_pool(spec: &MaxPool, input: &[u8], output: &mut [u8]) {
    let (window, layout) = (&spec.window, &spec.window.output);
    for y in 0..layout.height {
        for x in 0..layout.width {
            for c in 0..layout.channels {
                let mut largest = 0;
                for ky in window.inside(0, y) {
                    for kx in window.inside(1, x) {
                        let (sy, sx) = (window.source(0, y, ky), window.source(1, x, kx));
                        largest = largest.max(window.input.pixel(input, sy, sx)[c]);
                    }
                }
                layout.pixel_mut(output, y, x)[c] =
                    spec.table.as_ref().map_or(largest, |t| t[usize::from(largest)]);
            }
        }
    }
}

pub fn average_pool(spec: &AveragePool, input: &[u8], output: &mut [u8]) {
    let (window, layout) = (&spec.window, &spec.window.output);
    for y in 0..layout.height {
        for x in 0..layout.width {
            let count = spec.counts[0][y] * spec.counts[1][x];
            let factor = spec.factor / count as f32;
            for c in 0..layout.channels {
                let mut sum = 0;
                for ky in window.inside(0, y) {
                    for kx in window.inside(1, x) {
                        let (sy, sx) = (window.source(0, y, ky), window.source(1, x, kx));
                        sum += i32::from(window.input.pixel(input, sy, sx)[c]) - i32::from(spec.zero);
                    }
                }
                layout.pixel_mut(output, y, x)[c] = spec.finish.byte(sum as f32 * factor);
            }
        }
    }
}

pub fn gather(spec: &Gather, input: &[u8], output: &mut [u8]) {
    let layout = &spec.output;
    for y in 0..layout.height {
        for x in 0..layout.width {
            for c in 0..layout.channels {
                let byte = match (spec.rows[y], spec.columns[x]) {
                    (NOWHERE, _) | (_, NOWHERE) => spec.fill,
                    (sy, sx) => spec.input.pixel(input, sy as usize, sx as usize)[c],
                };
                layout.pixel_mut(output, y, x)[c] =
                    spec.table.as_ref().map_or(byte, |t| t[usize::from(byte)]);
            }
        }
    }
}

pub fn bilinear(spec: &Bilinear, input: &[u8], output: &mut [u8]) {
    let layout = &spec.output;
    for y in 0..layout.height {
        for x in 0..layout.width {
            for c in 0..layout.channels {
                let (row, column) = (spec.rows[y], spec.columns[x]);
                let ([p, q], [r, s]) = (column.weights, row.weights);
                let mut sum = None;
                for (sy, sx, weight) in [
                    (row.first, column.first, p * r),
                    (row.first, column.second, q * r),
                    (row.second, column.first, p * s),
                    (row.second, column.second, q * s),
                ] {
                    let byte = spec.input.pixel(input, sy as usize, sx as usize)[c];
                    let value = (i32::from(byte) - i32::from(spec.zero)) as f32 * spec.scale;
                    let part = value * weight;
                    sum = Some(sum.map_or(part, |sum: f32| sum + part));
                }
                layout.pixel_mut(output, y, x)[c] = spec.finish.byte(sum.unwrap_or(0.0) / spec.step);
            }
        }
    }
}

fn float_at(order: Order, layout: &super::layout::Layout, y: usize, x: usize, c: usize) -> usize {
    let pixel = y * layout.width + x;
    match order {
        Order::Planes => c * layout.height * layout.width + pixel,
        Order::Pixels => pixel * layout.channels + c,
    }
}

pub fn quantize(spec: &Quantize, input: &[f32], output: &mut [u8]) {
    let layout = &spec.output;
    for y in 0..layout.height {
        for x in 0..layout.width {
            for c in 0..layout.channels {
                let value = input[float_at(spec.order, layout, y, x, c)] / spec.scale;
                layout.pixel_mut(output, y, x)[c] = spec.finish.byte(value);
            }
        }
    }
}

pub fn dequantize(spec: &Dequantize, input: &[u8], output: &mut [f32]) {
    let layout = &spec.input;
    for y in 0..layout.height {
        for x in 0..layout.width {
            for c in 0..layout.channels {
                let step = i32::from(layout.pixel(input, y, x)[c]) - i32::from(spec.zero);
                output[float_at(spec.order, layout, y, x, c)] = step as f32 * spec.scale;
            }
        }
    }
}

pub fn softmax(spec: &Softmax, input: &[u8], output: &mut [f32]) {
    let layout = &spec.input;
    for y in 0..layout.height {
        for x in 0..layout.width {
            let pixel = layout.pixel(input, y, x);
            let mut top = 0;
            for &byte in pixel {
                top = top.max(byte);
            }
            let mut sum = 0.0;
            for &byte in pixel {
                sum += spec.exp[usize::from(top - byte)];
            }
            for (c, &byte) in pixel.iter().enumerate() {
                let share = spec.exp[usize::from(top - byte)] / sum;
                output[float_at(Order::Pixels, layout, y, x, c)] = share;
            }
        }
    }
}
