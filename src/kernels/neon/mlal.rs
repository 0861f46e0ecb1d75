//! Sums of tiles with NEON alone: products of bytes in lanes of 16 bits, two of them added there before pairs of
//! lanes are added to sums of 32 bits.
//!
//! The input's values are taken less 128, as signed bytes. Two products fit 16 bits, unless all four factors are
//! -128: where a weight is -128, the careful kernels add each product by itself.
//!
//! Neighbouring lanes of 16 bits are two input channels of one output channel, so that the sums of eight output
//! channels need two registers. The steps are assembly: from intrinsics the compiler makes an order in which
//! sums are moved to memory and back. For the same reason nothing says that they leave memory alone: weights would be
//! loaded so early that there is no room for them.

use super::super::gemm::{Sums, Tile};
use super::super::unrolled::{each_row, each_vector};
use std::arch::aarch64::*;
use std::arch::asm;

/// A [`Tiles::slot`](super::super::gemm::Tiles::slot): two input channels of all lanes, then the other two.
pub fn slot(lane: usize, k: usize) -> usize {
    k / 2 * 16 + lane * 2 + k % 2
}

/// Two products in each lane of 16 bits, then both lanes of an output channel to its sum.
macro_rules! quick {
    ($sums:expr, $w:expr, $values:expr, $first:literal, $second:literal) => {
        asm!(
            concat!("dup {a:v}.8h, {x:v}.h[", $first, "]"),
            concat!("dup {b:v}.8h, {x:v}.h[", $second, "]"),
            "smull {p:v}.8h, {w0:v}.8b, {a:v}.8b",
            "smull2 {q:v}.8h, {w0:v}.16b, {a:v}.16b",
            "smlal {p:v}.8h, {w1:v}.8b, {b:v}.8b",
            "smlal2 {q:v}.8h, {w1:v}.16b, {b:v}.16b",
            "sadalp {s0:v}.4s, {p:v}.8h",
            "sadalp {s1:v}.4s, {q:v}.8h",
            a = out(vreg) _, b = out(vreg) _, p = out(vreg) _, q = out(vreg) _,
            s0 = inout(vreg) $sums[0].0, s1 = inout(vreg) $sums[0].1,
            w0 = in(vreg) $w[0].0, w1 = in(vreg) $w[0].1,
            x = in(vreg) $values,
            options(nostack, preserves_flags),
        )
    };
}

/// The same for two vectors, whose steps take turns. `$pairs` has the values already, and gets those of the row that is
/// next: processors that do not reorder instructions would wait for them.
macro_rules! quick_two {
    ($sums:expr, $w:expr, $pairs:ident, $next:expr, $first:literal, $second:literal) => {
        asm!(
            "smull {p:v}.8h, {w0:v}.8b, {a:v}.8b",
            "smull2 {q:v}.8h, {w0:v}.16b, {a:v}.16b",
            "smull {r:v}.8h, {w2:v}.8b, {a:v}.8b",
            "smull2 {t:v}.8h, {w2:v}.16b, {a:v}.16b",
            concat!("dup {a:v}.8h, {x:v}.h[", $first, "]"),
            "smlal {p:v}.8h, {w1:v}.8b, {b:v}.8b",
            "smlal2 {q:v}.8h, {w1:v}.16b, {b:v}.16b",
            "smlal {r:v}.8h, {w3:v}.8b, {b:v}.8b",
            "smlal2 {t:v}.8h, {w3:v}.16b, {b:v}.16b",
            concat!("dup {b:v}.8h, {x:v}.h[", $second, "]"),
            "sadalp {s0:v}.4s, {p:v}.8h",
            "sadalp {s1:v}.4s, {q:v}.8h",
            "sadalp {s2:v}.4s, {r:v}.8h",
            "sadalp {s3:v}.4s, {t:v}.8h",
            a = inout(vreg) $pairs.0, b = inout(vreg) $pairs.1,
            p = out(vreg) _, q = out(vreg) _, r = out(vreg) _, t = out(vreg) _,
            s0 = inout(vreg) $sums[0].0, s1 = inout(vreg) $sums[0].1,
            s2 = inout(vreg) $sums[1].0, s3 = inout(vreg) $sums[1].1,
            w0 = in(vreg) $w[0].0, w1 = in(vreg) $w[0].1,
            w2 = in(vreg) $w[1].0, w3 = in(vreg) $w[1].1,
            x = in(vreg) $next,
            options(nostack, preserves_flags),
        )
    };
}

/// Each product by itself.
#[inline]
#[target_feature(enable = "neon")]
fn careful(sums: Pair32, weights: Pair8, first: int8x16_t, second: int8x16_t) -> Pair32 {
    let mut sums = sums;
    for (weights, values) in [(weights.0, first), (weights.1, second)] {
        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(values));
        sums.0 = vpadalq_s16(sums.0, low);
        sums.1 = vpadalq_s16(sums.1, vmull_high_s8(weights, values));
    }
    sums
}

/// A row's first and second two values, in all lanes of 16 bits.
#[inline]
#[target_feature(enable = "neon")]
fn pairs(values: uint8x16_t) -> (int16x8_t, int16x8_t) {
    let values = vreinterpretq_s16_u8(values);
    (vdupq_laneq_s16::<0>(values), vdupq_laneq_s16::<1>(values))
}

/// Sums of eight output channels.
type Pair32 = (int32x4_t, int32x4_t);

/// Their weights for four input channels.
type Pair8 = (int8x16_t, int8x16_t);

/// # Safety
/// See [`Sums`].
#[allow(unused_assignments)] // what the last step of a loop gets ready for one more
#[target_feature(enable = "neon")]
unsafe fn sums<const ROWS: usize, const VECTORS: usize, const CAREFUL: bool>(tile: &Tile) {
    // SAFETY: the tile is as its fields say, so all that is read and written here is there.
    unsafe {
        let flip = vdupq_n_u8(0x80);
        let none = vdupq_n_s32(0);
        let mut sums = [[(none, none); 4]; 16];
        macro_rules! begin {
            ($i:tt $j:tt) => {
                sums[$i][$j] = (
                    vld1q_s32(tile.bias.add($j * 8)),
                    vld1q_s32(tile.bias.add($j * 8 + 4)),
                )
            };
        }
        macro_rules! begin_row {
            ($i:tt) => { each_vector!(VECTORS, begin $i) };
        }
        each_row!(ROWS, begin_row);
        let Tile { offset, quads, .. } = *tile;
        let (mut pointers, mut weights) = (tile.pointers, tile.weights);
        for _ in 0..tile.taps {
            let mut from = [std::ptr::null::<u8>(); 16];
            macro_rules! point {
                ($i:tt) => {
                    from[$i] = (*pointers.add($i)).add(offset)
                };
            }
            each_row!(ROWS, point);
            pointers = pointers.wrapping_add(tile.step);
            let mut values = [vdupq_n_u8(0); 16];
            let mut next;
            // One step: four of each row's values, in the lanes of 16 bits with these numbers; then those of the next
            // step.
            macro_rules! step {
                ($first:literal $second:literal, $third:literal $fourth:literal) => {
                    let mut w = [(vdupq_n_s8(0), vdupq_n_s8(0)); 4];
                    macro_rules! load {
                        ($i:tt $j:tt) => {
                            w[$j] = (
                                vld1q_s8(weights.add($j * 32)),
                                vld1q_s8(weights.add($j * 32 + 16)),
                            )
                        };
                    }
                    each_vector!(VECTORS, load 0);
                    weights = weights.add(VECTORS * 32);
                    macro_rules! row {
                        ($i:tt) => {
                            if CAREFUL {
                                let values = vreinterpretq_s16_u8(values[$i]);
                                let first = vreinterpretq_s8_s16(vdupq_laneq_s16::<$first>(values));
                                let second = vreinterpretq_s8_s16(vdupq_laneq_s16::<$second>(values));
                                macro_rules! vector {
                                    ($ii:tt $j:tt) => {
                                        sums[$ii][$j] = careful(sums[$ii][$j], w[$j], first, second)
                                    };
                                }
                                each_vector!(VECTORS, vector $i);
                            } else if VECTORS == 2 {
                                if $i + 1 < ROWS {
                                    quick_two!(sums[$i], w, next, values[($i + 1) % 16], $first, $second);
                                } else {
                                    quick_two!(sums[$i], w, next, values[0], $third, $fourth);
                                }
                            } else {
                                quick!(sums[$i], w, values[$i], $first, $second);
                            }
                        };
                    }
                    each_row!(ROWS, row);
                };
            }
            let mut at = 0;
            while at + 4 <= quads {
                macro_rules! load {
                    ($i:tt) => {
                        values[$i] = veorq_u8(vld1q_u8(from[$i].add(at * 4)), flip)
                    };
                }
                each_row!(ROWS, load);
                next = pairs(values[0]);
                step!(0 1, 2 3);
                step!(2 3, 4 5);
                step!(4 5, 6 7);
                step!(6 7, 6 7);
                at += 4;
            }
            while at < quads {
                macro_rules! load {
                    ($i:tt) => {
                        let four = from[$i].add(at * 4).cast::<u32>().read_unaligned();
                        values[$i] = veorq_u8(vreinterpretq_u8_u32(vdupq_n_u32(four)), flip)
                    };
                }
                each_row!(ROWS, load);
                next = pairs(values[0]);
                step!(0 1, 0 1);
                at += 1;
            }
        }
        macro_rules! store {
            ($i:tt $j:tt) => {
                let to = tile.sums.add(($i * VECTORS + $j) * 8);
                vst1q_s32(to, sums[$i][$j].0);
                vst1q_s32(to.add(4), sums[$i][$j].1)
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
                sums::<4, 2, $careful>,
            ],
        ]
    };
}

/// 32 registers: two of sums for each row and vector, one of values for each row, two of weights for each vector, and
/// for a step two of values and two of products for each vector.
pub static SUMS: &[&[Sums]] = all!(false);
pub static CAREFUL_SUMS: &[&[Sums]] = all!(true);
pub const ROWS: &[usize] = &[6, 4];
