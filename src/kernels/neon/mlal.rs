//! Sums of tiles with NEON alone: products of bytes in lanes of 16 bits, two of them added there before pairs of
//! lanes are added to sums of 32 bits.
//!
//! The input's values are taken less 128, as signed bytes. Two products fit 16 bits, unless all four factors are
//! -128: where a weight is -128, the careful kernels add each product by itself.

use super::super::gemm::{Sums, Tile};
use super::super::unrolled::{each_row, each_vector};
use std::arch::aarch64::*;

/// Two half sums for each of two channels in either part; the last step of a tile adds them.
type Halves = (int32x4_t, int32x4_t);

/// Sixteen products with the values of four input channels.
#[inline]
#[target_feature(enable = "neon")]
fn one(sums: Halves, weights: int8x16_t, values: int8x16_t) -> Halves {
    let low = vmull_s8(vget_low_s8(weights), vget_low_s8(values));
    let high = vmull_high_s8(weights, values);
    (vpadalq_s16(sums.0, low), vpadalq_s16(sums.1, high))
}

/// Sixteen products with each of two times four values.
#[inline]
#[target_feature(enable = "neon")]
fn two<const CAREFUL: bool>(sums: Halves, weights: [int8x16_t; 2], values: [int8x16_t; 2]) -> Halves {
    if CAREFUL {
        return one(one(sums, weights[0], values[0]), weights[1], values[1]);
    }
    let low = vmull_s8(vget_low_s8(weights[0]), vget_low_s8(values[0]));
    let low = vmlal_s8(low, vget_low_s8(weights[1]), vget_low_s8(values[1]));
    let high = vmlal_high_s8(vmull_high_s8(weights[0], values[0]), weights[1], values[1]);
    (vpadalq_s16(sums.0, low), vpadalq_s16(sums.1, high))
}

/// # Safety
/// See [`Sums`].
#[target_feature(enable = "neon")]
unsafe fn sums<const ROWS: usize, const VECTORS: usize, const CAREFUL: bool>(tile: &Tile) {
    // SAFETY: the tile is as its fields say, so all that is read and written here is there.
    unsafe {
        let flip = vdupq_n_u8(0x80);
        let mut sums = [[(vdupq_n_s32(0), vdupq_n_s32(0)); 4]; 16];
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
            let mut at = 0;
            while at + 4 <= tile.quads {
                let mut w = [[vdupq_n_s8(0); 4]; 4];
                macro_rules! load {
                    ($q:tt $j:tt) => {
                        w[$q][$j] = vld1q_s8(weights.add(($q * VECTORS + $j) * 16))
                    };
                }
                each_vector!(VECTORS, load 0);
                each_vector!(VECTORS, load 1);
                each_vector!(VECTORS, load 2);
                each_vector!(VECTORS, load 3);
                macro_rules! row {
                    ($i:tt) => {
                        let values = veorq_u8(vld1q_u8(from[$i].add(at * 4)), flip);
                        let values = vreinterpretq_s32_u8(values);
                        let first = [
                            vreinterpretq_s8_s32(vdupq_laneq_s32::<0>(values)),
                            vreinterpretq_s8_s32(vdupq_laneq_s32::<1>(values)),
                        ];
                        macro_rules! first {
                            ($ii:tt $j:tt) => {
                                sums[$ii][$j] = two::<CAREFUL>(sums[$ii][$j], [w[0][$j], w[1][$j]], first)
                            };
                        }
                        each_vector!(VECTORS, first $i);
                        let second = [
                            vreinterpretq_s8_s32(vdupq_laneq_s32::<2>(values)),
                            vreinterpretq_s8_s32(vdupq_laneq_s32::<3>(values)),
                        ];
                        macro_rules! second {
                            ($ii:tt $j:tt) => {
                                sums[$ii][$j] = two::<CAREFUL>(sums[$ii][$j], [w[2][$j], w[3][$j]], second)
                            };
                        }
                        each_vector!(VECTORS, second $i);
                    };
                }
                each_row!(ROWS, row);
                weights = weights.add(4 * VECTORS * 16);
                at += 4;
            }
            while at < tile.quads {
                let mut w = [vdupq_n_s8(0); 4];
                macro_rules! load {
                    ($q:tt $j:tt) => {
                        w[$j] = vld1q_s8(weights.add($j * 16))
                    };
                }
                each_vector!(VECTORS, load 0);
                macro_rules! row {
                    ($i:tt) => {
                        let four = from[$i].add(at * 4).cast::<u32>().read_unaligned();
                        let values = veorq_u8(vreinterpretq_u8_u32(vdupq_n_u32(four)), flip);
                        let values = vreinterpretq_s8_u8(values);
                        macro_rules! vector {
                            ($ii:tt $j:tt) => { sums[$ii][$j] = one(sums[$ii][$j], w[$j], values) };
                        }
                        each_vector!(VECTORS, vector $i);
                    };
                }
                each_row!(ROWS, row);
                weights = weights.add(VECTORS * 16);
                at += 1;
            }
        }
        macro_rules! store {
            ($i:tt $j:tt) => {
                let (low, high) = sums[$i][$j];
                let sum = vaddq_s32(vld1q_s32(tile.bias.add($j * 4)), vpaddq_s32(low, high));
                vst1q_s32(tile.sums.add(($i * VECTORS + $j) * 4), sum)
            };
        }
        macro_rules! store_row {
            ($i:tt) => { each_vector!(VECTORS, store $i) };
        }
        each_row!(ROWS, store_row);
    }
}

macro_rules! all {
    ($careful:literal) => {
        &[
            &[
                sums::<1, 1, $careful>,
                sums::<2, 1, $careful>,
                sums::<3, 1, $careful>,
                sums::<4, 1, $careful>,
                sums::<5, 1, $careful>,
                sums::<6, 1, $careful>,
            ],
            &[
                sums::<1, 2, $careful>,
                sums::<2, 2, $careful>,
                sums::<3, 2, $careful>,
            ],
        ]
    };
}

/// 32 registers: two of sums for each row and vector, eight of weights, and more of products than one would think, for
/// the compiler lets rows overlap. With four rows of two vectors it keeps sums in memory.
pub static SUMS: &[&[Sums]] = all!(false);
pub static CAREFUL_SUMS: &[&[Sums]] = all!(true);
pub const ROWS: &[usize] = &[6, 3];
