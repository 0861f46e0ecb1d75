//! Sums of tiles with the dot product instructions: four products of bytes and their sum per lane.
//!
//! `sdot` multiplies signed bytes; the input's values become signed by turning their highest bit over, which takes
//! 128 off. The intrinsics for it are not stable yet, hence the assembly.

use super::super::gemm::{Sums, Tile};
use super::super::unrolled::{each_row, each_vector};
use std::arch::aarch64::*;
use std::arch::asm;

/// Adds the products of each lane's four weights with the four values of lane `$lane`.
macro_rules! dot {
    ($sum:expr, $weights:expr, $values:expr, $lane:literal) => {
        asm!(
            concat!("sdot {sum:v}.4s, {weights:v}.16b, {values:v}.4b[", $lane, "]"),
            sum = inout(vreg) $sum,
            weights = in(vreg) $weights,
            values = in(vreg) $values,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// # Safety
/// See [`Sums`].
#[target_feature(enable = "neon,dotprod")]
unsafe fn sums<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the tile is as its fields say, so all that is read and written here is there.
    unsafe {
        let flip = vdupq_n_u8(0x80);
        let mut sums = [[vdupq_n_s32(0); 4]; 16];
        macro_rules! begin {
            ($i:tt $j:tt) => {
                sums[$i][$j] = vld1q_s32(tile.bias.add($j * 4))
            };
        }
        macro_rules! begin_row {
            ($i:tt) => { each_vector!(VECTORS, begin $i) };
        }
        each_row!(ROWS, begin_row);
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let pointers = tile.pointers.add(tap * tile.step);
            let mut from = [std::ptr::null::<u8>(); 16];
            macro_rules! point {
                ($i:tt) => {
                    from[$i] = (*pointers.add($i)).add(tile.offset)
                };
            }
            each_row!(ROWS, point);
            let mut values = [vdupq_n_u8(0); 16];
            // One step: the weights of each vector against lane `$lane` of each row's values.
            macro_rules! step {
                ($lane:literal) => {
                    macro_rules! vector {
                        ($ii:tt $j:tt) => {
                            let w = vld1q_s8(weights.add($j * 16));
                            macro_rules! row {
                                ($i:tt) => { dot!(sums[$i][$j], w, values[$i], $lane) };
                            }
                            each_row!(ROWS, row);
                        };
                    }
                    each_vector!(VECTORS, vector 0);
                    weights = weights.add(VECTORS * 16);
                };
            }
            let mut at = 0;
            while at + 4 <= tile.quads {
                macro_rules! load {
                    ($i:tt) => {
                        values[$i] = veorq_u8(vld1q_u8(from[$i].add(at * 4)), flip)
                    };
                }
                each_row!(ROWS, load);
                step!(0);
                step!(1);
                step!(2);
                step!(3);
                at += 4;
            }
            while at < tile.quads {
                macro_rules! load {
                    ($i:tt) => {
                        let four = from[$i].add(at * 4).cast::<u32>().read_unaligned();
                        values[$i] = veorq_u8(vreinterpretq_u8_u32(vdupq_n_u32(four)), flip)
                    };
                }
                each_row!(ROWS, load);
                step!(0);
                at += 1;
            }
        }
        macro_rules! store {
            ($i:tt $j:tt) => {
                vst1q_s32(tile.sums.add(($i * VECTORS + $j) * 4), sums[$i][$j])
            };
        }
        macro_rules! store_row {
            ($i:tt) => { each_vector!(VECTORS, store $i) };
        }
        each_row!(ROWS, store_row);
    }
}

/// 32 registers: sums, one of values for each row, and some of weights.
pub static SUMS: &[&[Sums]] = &[
    &[
        sums::<1, 1>,
        sums::<2, 1>,
        sums::<3, 1>,
        sums::<4, 1>,
        sums::<5, 1>,
        sums::<6, 1>,
        sums::<7, 1>,
        sums::<8, 1>,
        sums::<9, 1>,
        sums::<10, 1>,
        sums::<11, 1>,
        sums::<12, 1>,
    ],
    &[
        sums::<1, 2>,
        sums::<2, 2>,
        sums::<3, 2>,
        sums::<4, 2>,
        sums::<5, 2>,
        sums::<6, 2>,
        sums::<7, 2>,
        sums::<8, 2>,
    ],
    &[
        sums::<1, 3>,
        sums::<2, 3>,
        sums::<3, 3>,
        sums::<4, 3>,
        sums::<5, 3>,
        sums::<6, 3>,
    ],
    &[
        sums::<1, 4>,
        sums::<2, 4>,
        sums::<3, 4>,
        sums::<4, 4>,
        sums::<5, 4>,
    ],
];
pub const ROWS: &[usize] = &[12, 8, 6, 5];
