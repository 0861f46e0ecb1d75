//! Everything but convolution.

use super::super::binary::{Binary, BinaryOp, Operand};
use super::super::float::{Dequantize, Order, Quantize};
use super::super::isa::{Work, widest};
use super::super::reference;
use super::super::spatial::{AveragePool, Bilinear, Gather, MaxPool, NOWHERE, TAP_ONE};
use std::ops::Range;

/// Sums of this many channels are kept at a time.
const BLOCK: usize = 32;

pub fn binary(spec: &Binary, rows: Range<usize>, a: &[u8], b: &[u8], output: &mut [u8]) {
    let finish = &spec.finish;
    match spec.op {
        BinaryOp::Add { a_ratio, b_ratio } => pairs(spec, rows, a, b, output, |a, b| {
            finish.byte(a as f32 * a_ratio + b as f32 * b_ratio)
        }),
        BinaryOp::Mul { ratio } => pairs(spec, rows, a, b, output, |a, b| {
            finish.byte((a * b) as f32 * ratio)
        }),
    }
}

fn pairs(
    spec: &Binary,
    rows: Range<usize>,
    a: &[u8],
    b: &[u8],
    output: &mut [u8],
    of: impl Fn(i32, i32) -> u8,
) {
    let layout = &spec.output;
    let (a_zero, b_zero) = (i32::from(spec.a.zero), i32::from(spec.b.zero));
    for y in rows.clone() {
        for x in 0..layout.width {
            let (a, b) = (pixel(&spec.a, a, y, x), pixel(&spec.b, b, y, x));
            let out = layout.pixel_mut(output, y - rows.start, x);
            if a.len() == out.len() && b.len() == out.len() {
                for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
                    *o = of(i32::from(a) - a_zero, i32::from(b) - b_zero);
                }
            } else {
                let at = |p: &[u8], c: usize| i32::from(p[if p.len() == 1 { 0 } else { c }]);
                for (c, o) in out.iter_mut().enumerate() {
                    *o = of(at(a, c) - a_zero, at(b, c) - b_zero);
                }
            }
        }
    }
}

fn pixel<'a>(operand: &Operand, bytes: &'a [u8], y: usize, x: usize) -> &'a [u8] {
    let layout = &operand.layout;
    let fit = |at: usize, length: usize| if length == 1 { 0 } else { at };
    layout.pixel(bytes, fit(y, layout.height), fit(x, layout.width))
}

pub fn max_pool(spec: &MaxPool, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
    let (window, layout) = (&spec.window, &spec.window.output);
    for y in rows.clone() {
        for x in 0..layout.width {
            let out = layout.pixel_mut(output, y - rows.start, x);
            out.fill(0);
            for ky in window.inside(0, y) {
                for kx in window.inside(1, x) {
                    let source = window
                        .input
                        .pixel(input, window.source(0, y, ky), window.source(1, x, kx));
                    for (o, &value) in out.iter_mut().zip(source) {
                        *o = (*o).max(value);
                    }
                }
            }
            look_up(spec.table.as_deref(), out);
        }
    }
}

fn look_up(table: Option<&[u8]>, bytes: &mut [u8]) {
    if let Some(table) = table {
        bytes.iter_mut().for_each(|b| *b = table[usize::from(*b)]);
    }
}

pub fn average_pool(spec: &AveragePool, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
    let (window, layout) = (&spec.window, &spec.window.output);
    for y in rows.clone() {
        for x in 0..layout.width {
            let factor = spec.factor / (spec.counts[0][y] * spec.counts[1][x]) as f32;
            let (down, across) = (window.inside(0, y), window.inside(1, x));
            let zeros = (down.len() * across.len()) as i32 * i32::from(spec.zero);
            for (block, out) in layout
                .pixel_mut(output, y - rows.start, x)
                .chunks_mut(BLOCK)
                .enumerate()
            {
                let mut sums = [0i32; BLOCK];
                for ky in down.clone() {
                    for kx in across.clone() {
                        let (sy, sx) = (window.source(0, y, ky), window.source(1, x, kx));
                        let source = &window.input.pixel(input, sy, sx)[block * BLOCK..];
                        for (sum, &value) in sums[..out.len()].iter_mut().zip(source) {
                            *sum += i32::from(value);
                        }
                    }
                }
                for (o, sum) in out.iter_mut().zip(sums) {
                    *o = spec.finish.byte((sum - zeros) as f32 * factor);
                }
            }
        }
    }
}

pub fn gather(spec: &Gather, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
    let layout = &spec.output;
    for y in rows.clone() {
        for x in 0..layout.width {
            let out = layout.pixel_mut(output, y - rows.start, x);
            match (spec.rows[y], spec.columns[x]) {
                (NOWHERE, _) | (_, NOWHERE) => out.fill(spec.fill),
                (sy, sx) => out.copy_from_slice(spec.input.pixel(input, sy as usize, sx as usize)),
            }
            look_up(spec.table.as_deref(), out);
        }
    }
}

pub fn bilinear(spec: &Bilinear, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
    let layout = &spec.output;
    let zero = i32::from(spec.zero);
    for y in rows.clone() {
        let row = spec.rows[y];
        for x in 0..layout.width {
            let column = spec.columns[x];
            let source = |sy: u32, sx: u32| spec.input.pixel(input, sy as usize, sx as usize);
            let (a, b) = (source(row.first, column.first), source(row.first, column.second));
            let (c, d) = (
                source(row.second, column.first),
                source(row.second, column.second),
            );
            let out = layout.pixel_mut(output, y - rows.start, x);
            for (i, o) in out.iter_mut().enumerate() {
                let value = |pixel: &[u8]| i32::from(pixel[i]) - zero;
                let across = |first: &[u8], second: &[u8]| {
                    value(first) * (TAP_ONE - column.weight) + value(second) * column.weight
                };
                let sum = across(a, b) * (TAP_ONE - row.weight) + across(c, d) * row.weight;
                *o = spec.finish.byte(sum as f32 * spec.factor);
            }
        }
    }
}

pub fn quantize(spec: &Quantize, rows: Range<usize>, input: &[f32], output: &mut [u8]) {
    widest(QuantizeRows {
        spec,
        rows,
        input,
        output,
    });
}

struct QuantizeRows<'a> {
    spec: &'a Quantize,
    rows: Range<usize>,
    input: &'a [f32],
    output: &'a mut [u8],
}

impl Work for QuantizeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let QuantizeRows {
            spec,
            rows,
            input,
            output,
        } = self;
        let layout = &spec.output;
        let plane = layout.height * layout.width;
        for y in rows.clone() {
            for x in 0..layout.width {
                let pixel = y * layout.width + x;
                let out = layout.pixel_mut(output, y - rows.start, x);
                match spec.order {
                    Order::Planes => {
                        for (c, o) in out.iter_mut().enumerate() {
                            *o = spec.finish.byte(input[c * plane + pixel] / spec.scale);
                        }
                    }
                    Order::Pixels => {
                        let input = &input[pixel * layout.channels..];
                        for (o, &value) in out.iter_mut().zip(input) {
                            *o = spec.finish.byte(value / spec.scale);
                        }
                    }
                }
            }
        }
    }
}

pub fn dequantize(spec: &Dequantize, input: &[u8], output: &mut [f32]) {
    // At the end of a network, over few values: nothing to be won.
    reference::dequantize(spec, input, output);
}
