//! Depthwise convolution with NEON: 16 channels at a time, products of two window positions added in 16 bits. See
//! `mlal.rs` for when that fits.

use super::super::depthwise::{IN_ORDER, Row, Strips};
use super::super::finish::Table;
use super::super::store::Output;
use super::store::{Epilogue, Lookup, put, some};
use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

/// Pixels through which a block of weights goes before the next one: two at a time, and few enough for what they look at
/// to stay in the first-level cache until all channels are done.
const TOGETHER: usize = 8;

pub static STRIPS: Strips = Strips {
    careful: Some(&CAREFUL_STRIPS),
    row: row::<false>,
    ..CAREFUL
};

static CAREFUL_STRIPS: Strips = CAREFUL;

const CAREFUL: Strips = Strips {
    block: 16,
    fold: 16,
    order: &IN_ORDER,
    pack,
    signed: true,
    careful: None,
    row: row::<true>,
};

/// By window position: a vector.
fn pack(taps: usize, weight: &dyn Fn(usize, usize) -> i8, weights: &mut Vec<i8>) {
    for tap in 0..taps {
        weights.extend((0..16).map(|channel| weight(tap, channel)));
    }
}

/// Sums of 16 channels.
type Sums = [int32x4_t; 4];

/// Adds products of two pixels' values with the same weights. `$more` adds others to them first, where they still have
/// 16 bits.
macro_rules! products {
    ($one:ident, $two:ident, $w:expr, $x:expr, $y:expr; $($more:literal)*; $($operands:tt)*) => {
        asm!(
            "smull {a:v}.8h, {w0:v}.8b, {x0:v}.8b",
            "smull2 {b:v}.8h, {w0:v}.16b, {x0:v}.16b",
            "smull {c:v}.8h, {w0:v}.8b, {y0:v}.8b",
            "smull2 {d:v}.8h, {w0:v}.16b, {y0:v}.16b",
            $($more,)*
            "saddw {s0:v}.4s, {s0:v}.4s, {a:v}.4h",
            "saddw2 {s1:v}.4s, {s1:v}.4s, {a:v}.8h",
            "saddw {s2:v}.4s, {s2:v}.4s, {b:v}.4h",
            "saddw2 {s3:v}.4s, {s3:v}.4s, {b:v}.8h",
            "saddw {t0:v}.4s, {t0:v}.4s, {c:v}.4h",
            "saddw2 {t1:v}.4s, {t1:v}.4s, {c:v}.8h",
            "saddw {t2:v}.4s, {t2:v}.4s, {d:v}.4h",
            "saddw2 {t3:v}.4s, {t3:v}.4s, {d:v}.8h",
            a = out(vreg) _, b = out(vreg) _, c = out(vreg) _, d = out(vreg) _,
            s0 = inout(vreg) $one[0], s1 = inout(vreg) $one[1],
            s2 = inout(vreg) $one[2], s3 = inout(vreg) $one[3],
            t0 = inout(vreg) $two[0], t1 = inout(vreg) $two[1],
            t2 = inout(vreg) $two[2], t3 = inout(vreg) $two[3],
            w0 = in(vreg) $w, x0 = in(vreg) $x, y0 = in(vreg) $y,
            $($operands)*
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// One window position.
macro_rules! one {
    ($one:ident, $two:ident, $w:expr, $x:expr, $y:expr) => {
        products!($one, $two, $w, $x, $y; ;)
    };
}

/// Two window positions.
macro_rules! two {
    ($one:ident, $two:ident, $w:expr, $x:expr, $y:expr) => {
        products!(
            $one, $two, $w[0], $x[0], $y[0];
            "smlal {a:v}.8h, {w1:v}.8b, {x1:v}.8b"
            "smlal2 {b:v}.8h, {w1:v}.16b, {x1:v}.16b"
            "smlal {c:v}.8h, {w1:v}.8b, {y1:v}.8b"
            "smlal2 {d:v}.8h, {w1:v}.16b, {y1:v}.16b";
            w1 = in(vreg) $w[1], x1 = in(vreg) $x[1], y1 = in(vreg) $y[1],
        )
    };
}

/// The sums of two pixels' channels, 16 from `channel` on, or `channels` where fewer are left. (From intrinsics the
/// compiler takes vectors apart, as if there were no instructions for their upper halves.)
///
/// # Safety
/// `row` is as its fields say.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sums<const WHOLE: bool, const CAREFUL: bool>(
    row: &Row,
    pixels: [usize; 2],
    channel: usize,
    channels: usize,
) -> [Sums; 2] {
    let flip = vdupq_n_u8(0x80);
    let mut weights = row.weights(channel / 16);
    let mut pointers = row.pointers.as_ptr();
    // SAFETY: the caller's promise; where fewer than 16 channels are left, only these are read.
    unsafe {
        let bias = row.bias.as_ptr().add(channel);
        let [mut one, mut two] = [[0, 4, 8, 12].map(|i| vld1q_s32(bias.add(i))); 2];
        let load = |pointer: *const *const u8| {
            let from = (*pointer).add(channel);
            let values = match WHOLE {
                true => vld1q_u8(from),
                false => some(std::slice::from_raw_parts(from, channels)),
            };
            veorq_u8(values, flip)
        };
        let mut left = row.taps;
        while left >= 2 {
            let next = pointers.add(row.step);
            let w = [vld1q_s8(weights), vld1q_s8(weights.add(16))];
            let x = [load(pointers.add(pixels[0])), load(next.add(pixels[0]))];
            let y = [load(pointers.add(pixels[1])), load(next.add(pixels[1]))];
            if CAREFUL {
                one!(one, two, w[0], x[0], y[0]);
                one!(one, two, w[1], x[1], y[1]);
            } else {
                two!(one, two, w, x, y);
            }
            (pointers, weights, left) = (next.wrapping_add(row.step), weights.add(32), left - 2);
        }
        if left == 1 {
            let w = vld1q_s8(weights);
            let (x, y) = (load(pointers.add(pixels[0])), load(pointers.add(pixels[1])));
            one!(one, two, w, x, y);
        }
        [one, two]
    }
}

/// What is the same for all pixels of some channels.
struct Block<'a> {
    epilogue: &'a Epilogue,
    channel: usize,
    /// At most 16.
    channels: usize,
    scale: [float32x4_t; 4],
}

/// # Safety
/// As for [`sums`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn finish<const WHOLE: bool, const CAREFUL: bool>(row: &mut Row, pixels: [usize; 2], block: &Block) {
    let Block {
        channel, channels, ..
    } = *block;
    let channels = if WHOLE { 16 } else { channels };
    // SAFETY: the caller's promise.
    let sums = unsafe { sums::<WHOLE, CAREFUL>(row, pixels, channel, channels) };
    for (pixel, sums) in pixels.into_iter().zip(sums) {
        let place = row.place(pixel);
        let bytes = match row.residual {
            Some((_, bytes)) => {
                let residual = some(&bytes[place.residual + channel..][..channels]);
                block.epilogue.bytes::<true>(sums, block.scale, residual)
            }
            None => block.epilogue.bytes::<false>(sums, block.scale, vdupq_n_u8(0)),
        };
        if let Output::Bytes(output) = &mut *row.output {
            put(bytes, &mut output[place.output + channel..][..channels]);
        }
    }
}

/// Pixels in twos; the last one with the one before it, which then is done twice.
fn twos(pixels: Range<usize>) -> impl Iterator<Item = [usize; 2]> {
    let end = pixels.end;
    let first = pixels.start;
    pixels.step_by(2).map(move |pixel| match pixel + 2 <= end {
        true => [pixel, pixel + 1],
        false => [pixel.saturating_sub(1).max(first), pixel],
    })
}

/// # Safety
/// `row` is as its fields say.
#[target_feature(enable = "neon")]
unsafe fn row<const CAREFUL: bool>(row: &mut Row) {
    let table = row.finish.table_kind();
    if matches!(table, Table::Wide) || matches!(row.output, Output::Floats(_)) {
        // SAFETY: the caller's promise.
        return unsafe { any_row::<CAREFUL>(row) };
    }
    let epilogue = Epilogue::new(row.finish, row.residual);
    for first in (0..row.pixels).step_by(TOGETHER) {
        let end = (first + TOGETHER).min(row.pixels);
        for channel in (0..row.channels).step_by(16) {
            let scale = &row.scale[channel..][..16];
            let block = Block {
                epilogue: &epilogue,
                channel,
                channels: (row.channels - channel).min(16),
                // SAFETY: four of 16 each.
                scale: [0, 4, 8, 12].map(|i| unsafe { vld1q_f32(scale.as_ptr().add(i)) }),
            };
            for pixels in twos(first..end) {
                // SAFETY: the caller's promise; the pixels are there.
                unsafe {
                    match block.channels {
                        16 => finish::<true, CAREFUL>(row, pixels, &block),
                        _ => finish::<false, CAREFUL>(row, pixels, &block),
                    }
                }
            }
        }
    }
    if let Table::Bytes(table) = table {
        let lookup = Lookup::new(table);
        for pixel in 0..row.pixels {
            let place = row.place(pixel);
            if let Output::Bytes(output) = &mut *row.output {
                lookup.of(&mut output[place.output..][..row.channels]);
            }
        }
    }
}

/// Where the finish is not one of vectors.
///
/// # Safety
/// `row` is as its fields say.
#[target_feature(enable = "neon")]
unsafe fn any_row<const CAREFUL: bool>(row: &mut Row) {
    for pixels in twos(0..row.pixels) {
        for channel in (0..row.channels).step_by(16) {
            let channels = (row.channels - channel).min(16);
            // SAFETY: the caller's promise.
            let sums = unsafe { sums::<false, CAREFUL>(row, pixels, channel, channels) };
            for (pixel, vectors) in pixels.into_iter().zip(sums) {
                let mut all = [0; 16];
                for (sums, vector) in all.as_chunks_mut::<4>().0.iter_mut().zip(vectors) {
                    // SAFETY: four are there.
                    unsafe { vst1q_s32(sums.as_mut_ptr(), vector) };
                }
                row.store(&all, pixel, channel, 0);
            }
        }
    }
}
