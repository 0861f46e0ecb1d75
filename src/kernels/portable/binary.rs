//! Two tensors, value by value: loops over runs of values, for the compiler to make vectors of.

use super::super::binary::{Binary, BinaryOp, Operand};
use super::super::isa::Work;
use super::blocks::finished;
use std::ops::Range;

pub struct BinaryRows<'a> {
    pub spec: &'a Binary,
    pub rows: Range<usize>,
    pub a: &'a [u8],
    pub b: &'a [u8],
    pub output: &'a mut [u8],
}

impl Work for BinaryRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.spec.op {
            BinaryOp::Add { a_ratio, b_ratio } => {
                self.pairs(|a, b| a as f32 * a_ratio + b as f32 * b_ratio);
            }
            BinaryOp::Mul { ratio } => self.pairs(|a, b| (a * b) as f32 * ratio),
        }
    }
}

impl BinaryRows<'_> {
    /// Where the pixel stands that goes with (y, x) of the output.
    #[inline(always)]
    pub fn start(operand: &Operand, y: usize, x: usize) -> usize {
        let layout = &operand.layout;
        let fit = |at: usize, length: usize| if length == 1 { 0 } else { at };
        layout.at(fit(y, layout.height), fit(x, layout.width))
    }

    /// How many runs there are in a row, and their length: a whole row is one where all three lie alike, else a pixel
    /// is.
    #[inline(always)]
    pub fn runs(&self) -> (usize, usize) {
        let (spec, layout) = (self.spec, &self.spec.output);
        let alike = |operand: &Operand| {
            operand.layout.width == layout.width && operand.layout.channels == layout.channels
        };
        let dense = [&spec.a.layout, &spec.b.layout, layout].map(|l| l.pixel == l.channels);
        if alike(&spec.a) && alike(&spec.b) && dense == [true; 3] {
            (1, layout.width * layout.channels)
        } else {
            (layout.width, layout.channels)
        }
    }

    #[inline(always)]
    fn pairs(self, of: impl Fn(i32, i32) -> f32) {
        let (runs, length) = self.runs();
        let BinaryRows {
            spec,
            rows,
            a,
            b,
            output,
        } = self;
        let layout = &spec.output;
        let (a_zero, b_zero) = (i32::from(spec.a.zero), i32::from(spec.b.zero));
        for y in rows.clone() {
            for x in 0..runs {
                let a = &a[Self::start(&spec.a, y, x)..];
                let b = &b[Self::start(&spec.b, y, x)..];
                let out = &mut output[layout.at(y - rows.start, x)..][..length];
                match (
                    spec.a.layout.channels == layout.channels,
                    spec.b.layout.channels == layout.channels,
                ) {
                    (true, true) => {
                        let (a, b) = (&a[..length], &b[..length]);
                        finished(&spec.finish, out, |at, values| {
                            let (a, b) = (&a[at..][..values.len()], &b[at..][..values.len()]);
                            for ((value, &a), &b) in values.iter_mut().zip(a).zip(b) {
                                *value = of(i32::from(a) - a_zero, i32::from(b) - b_zero);
                            }
                        });
                    }
                    (true, false) => {
                        let (a, b) = (&a[..length], i32::from(b[0]) - b_zero);
                        finished(&spec.finish, out, |at, values| {
                            for (value, &a) in values.iter_mut().zip(&a[at..]) {
                                *value = of(i32::from(a) - a_zero, b);
                            }
                        });
                    }
                    (false, true) => {
                        let (a, b) = (i32::from(a[0]) - a_zero, &b[..length]);
                        finished(&spec.finish, out, |at, values| {
                            for (value, &b) in values.iter_mut().zip(&b[at..]) {
                                *value = of(a, i32::from(b) - b_zero);
                            }
                        });
                    }
                    (false, false) => {
                        let (a, b) = (i32::from(a[0]) - a_zero, i32::from(b[0]) - b_zero);
                        out.fill(spec.finish.byte(of(a, b)));
                    }
                }
            }
        }
    }
}
