//! From a sum to a byte: the end of every integer kernel.
//!
//! All of it is f32 arithmetic, each operation rounded by itself (no fused multiply-add) and in the order
//! written here. That is what makes the kernels of all instruction sets equal to the bit.

use super::check::{Misfit, ensure};
use std::sync::Arc;

/// Entries of the larger kind of [`Finish::table`]: sixteen for each step of a byte, and still small beside the
/// first-level cache.
pub const WIDE: usize = 4096;

/// Zero points are nearer to 0 than this: with a step of up to [`WIDE`] they fit 16 bits and the range in which
/// [`round`] is exact.
const ZERO_MAX: u32 = 1 << 14;

/// Rounds, shifts to the zero point, clamps, looks up.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The step that stands for 0, nearer to 0 than 2¹⁴.
    pub zero: i32,
    /// First and last step: 0 and 255, or nearer where an activation cuts.
    pub low: i32,
    pub high: i32,
    /// Of 256 bytes: any function of the step. Of [`WIDE`] bytes: the steps are finer ones, from 0 to 4095, for a
    /// function of what was never quantized itself. Without a table `low` and `high` are within 0..=255.
    pub table: Option<Arc<[u8]>>,
}

/// A [`Finish::table`] by its kind.
#[derive(Clone, Copy, Debug)]
pub enum Table<'a> {
    None,
    Bytes(&'a [u8; 256]),
    Wide,
}

/// 1.5 × 2²³: a float of this size has steps of one, so adding it rounds to the even integer, which then stands in
/// the lowest bits. Unlike a call of `round_ties_even` it compiles to vector instructions everywhere.
const ROUNDER: f32 = 12_582_912.0;

impl Finish {
    /// The whole range of a byte.
    pub fn plain(zero: u8) -> Finish {
        Finish {
            zero: zero.into(),
            low: 0,
            high: 255,
            table: None,
        }
    }

    /// Which kind of table there is.
    pub fn table_kind(&self) -> Table<'_> {
        match self.table.as_deref() {
            None => Table::None,
            Some(table) => table.try_into().map_or(Table::Wide, Table::Bytes),
        }
    }

    /// `value` counts steps from 0: y = table[clamp(round to even(value) + zero, low, high)].
    #[inline(always)]
    pub fn byte(&self, value: f32) -> u8 {
        let step = self.step(value);
        match &self.table {
            None => step as u8,
            Some(table) => table[step as usize],
        }
    }

    /// The ends are integers, so that it is the same to clamp before rounding as after.
    /// What is not a number becomes the lowest.
    #[inline(always)]
    pub fn step(&self, value: f32) -> i32 {
        round(clamp(
            value,
            (self.low - self.zero) as f32,
            (self.high - self.zero) as f32,
        )) + self.zero
    }

    /// [`Self::byte`] of many.
    #[inline(always)]
    pub fn bytes(&self, values: &[f32], bytes: &mut [u8]) {
        // What does not change is not asked for each value again, or the loop would not become vectors.
        match self.table.as_deref() {
            None => {
                for (byte, &value) in bytes.iter_mut().zip(values) {
                    *byte = self.step(value) as u8;
                }
            }
            Some(table) => {
                for (byte, &value) in bytes.iter_mut().zip(values) {
                    *byte = table[self.step(value) as usize];
                }
            }
        }
    }

    /// That all steps have an entry in the table, and that the zero point is far from where lanes of 16 bits end.
    pub fn check(&self) -> Result<(), Misfit> {
        let steps = self.table.as_ref().map_or(256, |t| t.len());
        ensure(
            steps == 256 || steps == WIDE,
            "a table has neither 256 nor 4096 entries",
        )?;
        in_range(self.zero, self.low, self.high, steps)
    }
}

/// For a zero point and the ends of a range of steps.
fn in_range(zero: i32, low: i32, high: i32, steps: usize) -> Result<(), Misfit> {
    ensure(
        zero.unsigned_abs() < ZERO_MAX,
        "a zero point is far outside of the steps",
    )?;
    ensure(
        0 <= low && low <= high && (high as usize) < steps,
        "an activation ends outside of the steps",
    )
}

/// What is not a number becomes `low`. (Written so that it is one instruction each where vectors have maximum and
/// minimum in this form.)
#[inline(always)]
pub fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value > low { value } else { low };
    if value < high { value } else { high }
}

/// To the nearest integer, halves to the even one, for |value| < 2²².
#[inline(always)]
pub fn round(value: f32) -> i32 {
    (value + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32
}

/// How values become steps of the result: divided by the size of a step, as `QuantizeLinear` is defined.
///
/// Divisions are slow: with AVX-512, a sum of two tensors takes 29 % longer by them. Kernels multiply instead, by a factor
/// of which they have made sure that it gives the same byte for whatever there can be: see [`Divisor::quickened`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Divisor {
    Step(f32),
    Factor(f32),
}

impl Divisor {
    #[inline(always)]
    pub fn of(self, value: f32) -> f32 {
        match self {
            Divisor::Step(step) => value / step,
            Divisor::Factor(factor) => value * factor,
        }
    }

    /// A factor, if one of those nearest to the inverse of the step does the same for `of` each two values.
    ///
    /// About one pair in 65,536 lies so near to a half that the last bit of a factor decides, so that some of them go
    /// for most steps; where both tensors have the result's step, for instance, sums are whole steps already.
    pub fn quickened(
        self,
        finish: &Finish,
        first: impl Iterator<Item = f32>,
        second: &[f32; 256],
        of: impl Fn(f32, f32) -> f32,
    ) -> Divisor {
        let Divisor::Step(step) = self else { return self };
        let inverse = step.recip();
        let (up, down) = (inverse.next_up(), inverse.next_down());
        let factors = [inverse, up, down, up.next_up(), down.next_down()];
        let mut alike = [true; 5];
        for first in first {
            let values = second.map(|second| of(first, second));
            let steps = values.map(|value| finish.step(value / step));
            for (alike, factor) in alike.iter_mut().zip(factors).filter(|(alike, _)| **alike) {
                let off = values
                    .iter()
                    .zip(&steps)
                    .map(|(v, s)| finish.step(v * factor) ^ s);
                *alike = off.fold(0, |all, off| all | off) == 0;
            }
            if alike == [false; 5] {
                return self;
            }
        }
        let mut found = factors.into_iter().zip(alike).filter(|(_, alike)| *alike);
        found.next().map_or(self, |(factor, _)| Divisor::Factor(factor))
    }
}

/// What the bytes of a tensor stand for, in f32.
pub fn values(zero: u8, scale: f32) -> [f32; 256] {
    std::array::from_fn(|byte| (byte as i32 - i32::from(zero)) as f32 * scale)
}

/// A second tensor that is added to what a convolution gives, before it is stored. Both are reckoned in f32, as the
/// nodes of the graph say, and then become steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residual {
    pub layout: super::layout::Layout,
    pub zero: u8,
    /// The size of its steps.
    pub scale: f32,
    /// What the convolution's own result is rounded to first; without it nothing is rounded in between.
    pub middle: Option<Middle>,
    /// That of the result.
    pub step: Divisor,
}

/// An intermediate tensor that is never stored: its byte is `clamp(round(value) + zero, low, high)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Middle {
    pub zero: i32,
    pub low: i32,
    pub high: i32,
    /// The size of its steps.
    pub scale: f32,
}

impl Residual {
    /// That its places can be counted, and that what is rounded in the middle is a byte.
    pub fn check(&self) -> Result<(), Misfit> {
        self.layout.check()?;
        match &self.middle {
            None => Ok(()),
            Some(m) => in_range(m.zero, m.low, m.high, 256),
        }
    }

    /// With a factor in the place of the step, if there is one.
    pub fn quickened(self, finish: &Finish) -> Residual {
        let Some(m) = self.middle else { return self };
        let own = (m.low..=m.high).map(|byte| (byte - m.zero) as f32 * m.scale);
        let second = values(self.zero, self.scale);
        Residual {
            step: self.step.quickened(finish, own, &second, |a, b| a + b),
            ..self
        }
    }

    /// value' = ([(clamp(round(value) + zero) - zero) × scale, or value] + (byte - zero) × scale) / step
    #[inline(always)]
    pub fn add(&self, value: f32, byte: u8) -> f32 {
        let own = match self.middle {
            None => value,
            Some(m) => {
                let step = round(clamp(value, (m.low - m.zero) as f32, (m.high - m.zero) as f32));
                step as f32 * m.scale
            }
        };
        let other = (i32::from(byte) - i32::from(self.zero)) as f32 * self.scale;
        self.step.of(own + other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_step_and_the_ends_hold() {
        let finish = Finish {
            low: 3,
            high: 250,
            ..Finish::plain(100)
        };
        for (value, wanted) in [
            (0.5, 100),
            (1.5, 102),
            (2.5, 102),
            (-0.5, 100),
            (-1.5, 98),
            (-2.5, 98),
            (1e30, 250),
            (-1e30, 3),
            (f32::NAN, 3),
            (f32::INFINITY, 250),
        ] {
            assert_eq!(finish.byte(value), wanted, "{value}");
        }
    }

    #[test]
    fn rounding_is_the_standard_librarys() {
        for k in -30_000..30_000 {
            let value = k as f32 * 0.124_9;
            assert_eq!(round(value), value.round_ties_even() as i32, "{value}");
        }
        for value in [-4_194_303.5, 4_194_303.0, 4_194_302.5] {
            assert_eq!(round(value), value.round_ties_even() as i32, "{value}");
        }
    }

    #[test]
    fn a_wide_table_is_reached_to_its_last_entry() {
        let table: Vec<u8> = (0..WIDE).map(|i| (i / 16) as u8).collect();
        let finish = Finish {
            zero: 2048,
            low: 0,
            high: 4095,
            table: Some(table.into()),
        };
        finish.check().unwrap();
        assert_eq!(
            [finish.byte(-1e9), finish.byte(0.0), finish.byte(1e9)],
            [0, 128, 255]
        );
    }

    #[test]
    fn what_would_not_fit_is_refused() {
        let plain = Finish::plain(3);
        let table = |n: usize| Some(vec![0; n].into());
        for (finish, good) in [
            (plain.clone(), true),
            (
                Finish {
                    zero: -16_383,
                    ..plain.clone()
                },
                true,
            ),
            (
                Finish {
                    zero: -16_384,
                    ..plain.clone()
                },
                false,
            ),
            (
                Finish {
                    zero: i32::MIN,
                    ..plain.clone()
                },
                false,
            ),
            (
                Finish {
                    high: 256,
                    ..plain.clone()
                },
                false,
            ),
            (
                Finish {
                    low: -1,
                    ..plain.clone()
                },
                false,
            ),
            (
                Finish {
                    low: 5,
                    high: 4,
                    ..plain.clone()
                },
                false,
            ),
            (
                Finish {
                    table: table(255),
                    ..plain.clone()
                },
                false,
            ),
            (
                Finish {
                    table: table(256),
                    ..plain.clone()
                },
                true,
            ),
            (
                Finish {
                    high: 4095,
                    table: table(WIDE),
                    ..plain.clone()
                },
                true,
            ),
            (
                Finish {
                    high: 4096,
                    table: table(WIDE),
                    ..plain
                },
                false,
            ),
        ] {
            assert_eq!(finish.check().is_ok(), good, "{finish:?}");
        }
        let middle = Middle {
            zero: 1 << 23,
            low: 0,
            high: 255,
            scale: 1.0,
        };
        let of = |middle| Residual {
            layout: super::super::layout::Layout::dense(1, 1, 1),
            zero: 0,
            scale: 1.0,
            middle: Some(middle),
            step: Divisor::Step(1.0),
        };
        assert!(of(middle).check().is_err());
        assert!(
            of(Middle {
                zero: 0,
                high: 256,
                ..middle
            })
            .check()
            .is_err()
        );
        assert!(of(Middle { zero: 0, ..middle }).check().is_ok());
    }

    #[test]
    fn a_residual_is_added_after_the_middle_is_rounded() {
        let mut residual = Residual {
            layout: super::super::layout::Layout::dense(1, 1, 1),
            zero: 10,
            scale: 0.5,
            middle: Some(Middle {
                zero: 128,
                low: 128,
                high: 255,
                scale: 2.0,
            }),
            step: Divisor::Step(0.5),
        };
        assert_eq!(residual.add(1.4, 13), 7.0);
        assert_eq!(residual.add(-7.0, 9), -1.0);
        residual.middle = None;
        assert_eq!(residual.add(1.4, 13), (1.4 + 1.5) / 0.5);
    }

    /// For whatever steps: those that are found do the same for all pairs, and there are some of both kinds.
    #[test]
    fn a_factor_does_what_the_division_does_or_is_none() {
        let finish = Finish::plain(7);
        let (mut factors, mut wrong) = (0, 0);
        for k in 0..40 {
            let step = 0.02 + 0.001_37 * k as f32;
            let (a, b) = (values(3, 0.031_7 + 0.000_9 * k as f32), values(100, 0.027));
            let found = Divisor::Step(step).quickened(&finish, a.into_iter(), &b, |a, b| a + b);
            let pairs = || a.iter().flat_map(|a| b.iter().map(move |b| a + b));
            let differ = |by: Divisor| pairs().any(|v| finish.byte(by.of(v)) != finish.byte(v / step));
            match found {
                Divisor::Factor(_) => factors += 1,
                Divisor::Step(same) => assert_eq!(same, step),
            }
            assert!(!differ(found), "{step}");
            wrong += usize::from(differ(Divisor::Factor(step.recip())));
        }
        assert!(
            factors > 20 && wrong > 0,
            "{factors} factors, {wrong} inverses are none"
        );
    }
}
