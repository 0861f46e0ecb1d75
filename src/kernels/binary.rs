//! Two tensors, value by value, with broadcast.

use super::check::{Misfit, ensure};
use super::finish::Finish;
use super::isa::Isa;
use super::layout::Layout;
use super::portable::BinaryRows;
use std::ops::Range;

/// One of the two. Where its height, width or channels are 1 and the output's are not, the value is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    pub layout: Layout,
    pub zero: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BinaryOp {
    /// (a − zero) × a_ratio + (b − zero) × b_ratio; each ratio is a step of the operand in steps of the output,
    /// negative to subtract.
    Add { a_ratio: f32, b_ratio: f32 },
    /// ((a − zero) × (b − zero)) × ratio, the inner product an integer.
    Mul { ratio: f32 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub a: Operand,
    pub b: Operand,
    pub output: Layout,
    pub finish: Finish,
}

impl Binary {
    /// That both operands can be repeated to the size of the output.
    pub fn check(&self) -> Result<(), Misfit> {
        self.output.check()?;
        for layout in [self.a.layout, self.b.layout] {
            layout.check()?;
            let fits = |own: usize, whole: usize| own == whole || own == 1;
            ensure(
                fits(layout.height, self.output.height)
                    && fits(layout.width, self.output.width)
                    && fits(layout.channels, self.output.channels),
                "two tensors of sizes that do not go together",
            )?;
        }
        self.finish.check()
    }

    /// `a` and `b` are whole tensors, `output` begins with the first row of `rows`.
    ///
    /// # Panics
    /// Where a slice is shorter, or [`Self::check`] finds something.
    pub fn run(&self, isa: Isa, rows: Range<usize>, a: &[u8], b: &[u8], output: &mut [u8]) {
        isa.binary(BinaryRows {
            spec: self,
            rows,
            a,
            b,
            output,
        });
    }
}
