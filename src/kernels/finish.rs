//! From a sum to a byte: the end of every integer kernel.
//!
//! All of it is f32 arithmetic, each operation rounded by itself (no fused multiply-add) and in the order
//! written here. That is what makes the kernels of all instruction sets equal to the bit.

use std::sync::Arc;

/// Entries of the larger kind of [`Finish::table`].
pub const WIDE: usize = 4096;

/// Rounds, shifts to the zero point, clamps, looks up.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The step that stands for 0.
    pub zero: i32,
    /// First and last step: 0 and 255, or nearer where an activation cuts.
    pub low: i32,
    pub high: i32,
    /// Of 256 bytes: any function of the step. Of [`WIDE`] bytes: the steps are finer ones, from 0 to 4095, for a
    /// function of what was never quantized itself. Without a table `low` and `high` are within 0..=255.
    pub table: Option<Arc<[u8]>>,
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

    pub fn check(&self) {
        let steps = self.table.as_ref().map_or(256, |t| t.len());
        assert!(steps == 256 || steps == WIDE, "a table has 256 or {WIDE} entries");
        // Far from where lanes of 16 bits end.
        assert!(
            self.zero.unsigned_abs() < 1 << 14,
            "the zero point is far outside of the steps"
        );
        assert!(0 <= self.low && self.low <= self.high && (self.high as usize) < steps);
    }
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

/// A second tensor that is added to what a convolution gives, before it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residual {
    pub layout: super::layout::Layout,
    pub zero: u8,
    /// Its step in steps of the output.
    pub ratio: f32,
    /// The step that the convolution's own result is rounded to first; without it nothing is
    /// rounded in between.
    pub middle: Option<Middle>,
}

/// An intermediate tensor that is never stored: its byte is `clamp(round(value) + zero, low, high)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Middle {
    pub zero: i32,
    pub low: i32,
    pub high: i32,
    /// Its step in steps of the output.
    pub ratio: f32,
}

impl Residual {
    /// value' = [(clamp(round(value) + zero) - zero) × ratio, or value] + (byte - zero) × ratio
    #[inline(always)]
    pub fn add(&self, value: f32, byte: u8) -> f32 {
        let own = match self.middle {
            None => value,
            Some(m) => {
                let step = round(clamp(value, (m.low - m.zero) as f32, (m.high - m.zero) as f32));
                step as f32 * m.ratio
            }
        };
        own + (i32::from(byte) - i32::from(self.zero)) as f32 * self.ratio
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
        finish.check();
        assert_eq!(
            [finish.byte(-1e9), finish.byte(0.0), finish.byte(1e9)],
            [0, 128, 255]
        );
    }

    #[test]
    fn a_residual_is_added_after_the_middle_is_rounded() {
        let mut residual = Residual {
            layout: super::super::layout::Layout::dense(1, 1, 1),
            zero: 10,
            ratio: 0.5,
            middle: Some(Middle {
                zero: 128,
                low: 128,
                high: 255,
                ratio: 2.0,
            }),
        };
        assert_eq!(residual.add(1.4, 13), 3.5);
        assert_eq!(residual.add(-7.0, 9), -0.5);
        residual.middle = None;
        assert_eq!(residual.add(1.4, 13), 1.4 + 1.5);
    }
}
