//! Two tensors, value by value: loops over runs of values, for the compiler to make vectors of.

use super::super::binary::{Binary, BinaryOp, Operand};
use super::super::finish::Divisor;
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
        // One loop for each, in which nothing is left to be decided.
        match (self.spec.op, self.spec.step) {
            (BinaryOp::Add, Divisor::Step(step)) => self.pairs(|a, b| (a + b) / step),
            (BinaryOp::Add, Divisor::Factor(factor)) => self.pairs(|a, b| (a + b) * factor),
            (BinaryOp::Mul, Divisor::Step(step)) => self.pairs(|a, b| a * b / step),
            (BinaryOp::Mul, Divisor::Factor(factor)) => self.pairs(|a, b| a * b * factor),
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
    fn pairs(self, of: impl Fn(f32, f32) -> f32) {
        let (runs, length) = self.runs();
        let BinaryRows {
            spec,
            rows,
            a,
            b,
            output,
        } = self;
        let layout = &spec.output;
        let value = |operand: Operand| {
            let zero = i32::from(operand.zero);
            move |byte: u8| (i32::from(byte) - zero) as f32 * operand.scale
        };
        let (of_a, of_b) = (value(spec.a), value(spec.b));
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
                                *value = of(of_a(a), of_b(b));
                            }
                        });
                    }
                    (true, false) => {
                        let (a, b) = (&a[..length], of_b(b[0]));
                        finished(&spec.finish, out, |at, values| {
                            for (value, &a) in values.iter_mut().zip(&a[at..]) {
                                *value = of(of_a(a), b);
                            }
                        });
                    }
                    (false, true) => {
                        let (a, b) = (of_a(a[0]), &b[..length]);
                        finished(&spec.finish, out, |at, values| {
                            for (value, &b) in values.iter_mut().zip(&b[at..]) {
                                *value = of(a, of_b(b));
                            }
                        });
                    }
                    (false, false) => {
                        let (a, b) = (of_a(a[0]), of_b(b[0]));
                        out.fill(spec.finish.byte(of(a, b)));
                    }
                }
            }
        }
    }
}
