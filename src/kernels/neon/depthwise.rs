//! Depthwise convolution with NEON: 16 channels at a time, products of two window positions added in 16 bits. See
//! `mlal.rs` for when that fits.

use super::super::depthwise::{IN_ORDER, Row, Strips};
use super::super::finish::Table;
use super::super::store::Output;
use super::store::Epilogue;
use std::arch::aarch64::*;

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

/// Adds products, or pairs of them, of 16 channels.
#[inline]
#[target_feature(enable = "neon")]
fn add(sums: &mut [int32x4_t; 4], low: int16x8_t, high: int16x8_t) {
    sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
    sums[1] = vaddw_high_s16(sums[1], low);
    sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
    sums[3] = vaddw_high_s16(sums[3], high);
}

/// The sums of up to 16 channels of a pixel.
///
/// # Safety
/// `row` is as its fields say, `weights` those of the block that begins with `channel`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sums<const CAREFUL: bool>(
    row: &Row,
    pixel: usize,
    channel: usize,
    weights: *const i8,
) -> [i32; 16] {
    let channels = (row.channels - channel).min(16);
    // SAFETY: the caller's promise; where fewer than 16 channels are left, only these are read.
    unsafe {
        let load = |tap: usize| {
            let from = (*row.pointers.as_ptr().add(tap * row.step + pixel)).add(channel);
            let values = if channels == 16 {
                vld1q_u8(from)
            } else {
                let mut some = [0u8; 16];
                std::ptr::copy_nonoverlapping(from, some.as_mut_ptr(), channels);
                vld1q_u8(some.as_ptr())
            };
            vreinterpretq_s8_u8(veorq_u8(values, vdupq_n_u8(0x80)))
        };
        let bias = row.bias.as_ptr().add(channel);
        let mut sums = [0, 4, 8, 12].map(|i| vld1q_s32(bias.add(i)));
        let mut tap = 0;
        while tap < row.taps {
            let (values, w) = (load(tap), vld1q_s8(weights.add(tap * 16)));
            let mut low = vmull_s8(vget_low_s8(values), vget_low_s8(w));
            let mut high = vmull_high_s8(values, w);
            if !CAREFUL && tap + 1 < row.taps {
                let (values, w) = (load(tap + 1), vld1q_s8(weights.add(tap * 16 + 16)));
                low = vmlal_s8(low, vget_low_s8(values), vget_low_s8(w));
                high = vmlal_high_s8(high, values, w);
                tap += 1;
            }
            add(&mut sums, low, high);
            tap += 1;
        }
        let mut all = [0; 16];
        for (i, sum) in sums.into_iter().enumerate() {
            vst1q_s32(all.as_mut_ptr().add(4 * i), sum);
        }
        all
    }
}

/// # Safety
/// `row` is as its fields say.
#[target_feature(enable = "neon")]
unsafe fn row<const CAREFUL: bool>(row: &mut Row) {
    let table = row.finish.table_kind();
    let epilogue = Epilogue::new(row.finish, row.residual);
    for pixel in 0..row.pixels {
        for channel in (0..row.channels).step_by(16) {
            let channels = (row.channels - channel).min(16);
            let weights = row.weights(channel / 16);
            // SAFETY: the caller's promise.
            let sums = unsafe { sums::<CAREFUL>(row, pixel, channel, weights) };
            let place = row.place(pixel);
            match (&mut *row.output, table) {
                (Output::Bytes(output), Table::None | Table::Bytes(_)) => {
                    let out = &mut output[place.output + channel..][..channels];
                    let residual = row
                        .residual
                        .map(|(_, bytes)| &bytes[place.residual + channel..][..channels]);
                    let scale = row.scale[channel..][..16].as_ptr();
                    // SAFETY: 16 sums are there, and 16 scales of the block.
                    unsafe { epilogue.put(sums.as_ptr(), scale, residual, table, out) };
                }
                _ => row.store(&sums, pixel, channel, 0),
            }
        }
    }
}
