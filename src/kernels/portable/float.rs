//! Between f32 and bytes.

use super::super::float::{Dequantize, Order, Quantize};
use super::super::isa::Work;
use std::ops::Range;

/// Pixels that are worked on at a time, where each channel has a plane of its own.
const BLOCK: usize = 64;

pub struct QuantizeRows<'a> {
    pub spec: &'a Quantize,
    pub rows: Range<usize>,
    pub input: &'a [f32],
    pub output: &'a mut [u8],
}

impl Work for QuantizeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.spec.order {
            Order::Planes => self.planes(),
            Order::Pixels => self.pixels(),
        }
    }
}

impl QuantizeRows<'_> {
    #[inline(always)]
    fn pixels(self) {
        let (spec, layout) = (self.spec, &self.spec.output);
        for y in self.rows.clone() {
            for x in 0..layout.width {
                let out = layout.pixel_mut(self.output, y - self.rows.start, x);
                let input = &self.input[(y * layout.width + x) * layout.channels..][..layout.channels];
                for (input, out) in input.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                    block(spec, input, out);
                }
            }
        }
    }

    #[inline(always)]
    fn planes(self) {
        let (spec, layout) = (self.spec, &self.spec.output);
        let plane = layout.height * layout.width;
        for y in self.rows.clone() {
            let out = &mut self.output[(y - self.rows.start) * layout.row..];
            for channel in 0..layout.channels {
                let input = &self.input[channel * plane + y * layout.width..][..layout.width];
                for (i, input) in input.chunks(BLOCK).enumerate() {
                    let mut bytes = [0u8; BLOCK];
                    block(spec, input, &mut bytes[..input.len()]);
                    let out = &mut out[i * BLOCK * layout.pixel + channel..];
                    for (x, &byte) in bytes[..input.len()].iter().enumerate() {
                        out[x * layout.pixel] = byte;
                    }
                }
            }
        }
    }
}

/// At most [`BLOCK`] values.
#[inline(always)]
fn block(spec: &Quantize, input: &[f32], out: &mut [u8]) {
    let mut steps = [0.0; BLOCK];
    let steps = &mut steps[..input.len()];
    for (step, &value) in steps.iter_mut().zip(input) {
        *step = value / spec.scale;
    }
    spec.finish.bytes(steps, out);
}

pub struct DequantizeAll<'a> {
    pub spec: &'a Dequantize,
    pub input: &'a [u8],
    pub output: &'a mut [f32],
}

impl Work for DequantizeAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (spec, layout) = (self.spec, &self.spec.input);
        let zero = i32::from(spec.zero);
        let plane = layout.height * layout.width;
        for y in 0..layout.height {
            match spec.order {
                Order::Pixels => {
                    for x in 0..layout.width {
                        let pixel = layout.pixel(self.input, y, x);
                        let out = &mut self.output[(y * layout.width + x) * layout.channels..];
                        for (out, &byte) in out.iter_mut().zip(pixel) {
                            *out = (i32::from(byte) - zero) as f32 * spec.scale;
                        }
                    }
                }
                Order::Planes => {
                    for channel in 0..layout.channels {
                        let out = &mut self.output[channel * plane + y * layout.width..][..layout.width];
                        let row = &self.input[y * layout.row + channel..];
                        for (x, out) in out.iter_mut().enumerate() {
                            *out = (i32::from(row[x * layout.pixel]) - zero) as f32 * spec.scale;
                        }
                    }
                }
            }
        }
    }
}
