//! Two tensors, value by value, with broadcast.

use super::check::{Misfit, ensure};
use super::finish::{Divisor, Finish, values};
use super::isa::Isa;
use super::layout::Layout;
use super::portable::BinaryRows;
use std::ops::Range;

/// One of the two. Where its height, width or channels are 1 and the output's are not, the value is repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operand {
    pub layout: Layout,
    pub zero: u8,
    /// The size of a step; negative to subtract.
    pub scale: f32,
}

/// As the nodes of a graph in f32 reckon it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// ((a − zero) × scale + (b − zero) × scale) / step
    Add,
    /// ((a − zero) × scale × ((b − zero) × scale)) / step
    Mul,
}

impl BinaryOp {
    #[inline(always)]
    pub fn of(self, a: f32, b: f32) -> f32 {
        match self {
            BinaryOp::Add => a + b,
            BinaryOp::Mul => a * b,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub a: Operand,
    pub b: Operand,
    pub output: Layout,
    /// The size of its steps.
    pub step: Divisor,
    pub finish: Finish,
}

impl Binary {
    /// With a factor in the place of the step, if there is one.
    pub fn quickened(self) -> Binary {
        let [a, b] = [self.a, self.b].map(|operand| values(operand.zero, operand.scale));
        let op = self.op;
        Binary {
            step: self
                .step
                .quickened(&self.finish, a.into_iter(), &b, |a, b| op.of(a, b)),
            ..self
        }
    }

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
