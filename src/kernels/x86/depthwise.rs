//! Depthwise convolution by AVX512-VNNI: 64 channels, four window positions at a time, whose bytes are
//! interleaved so that one instruction multiplies and adds the four of a channel.

use super::super::depthwise::{Row, Strips};
use super::super::store::Output;
use super::finish::{Ends, Slow, Table, bytes};
use std::arch::x86_64::*;

pub const STRIPS: Strips = Strips {
    block: 64,
    slot,
    pack,
    signed: false,
    careful: None,
    row: with_avx512,
};

pub const STRIPS_VBMI: Strips = Strips {
    row: with_avx512_vbmi,
    ..STRIPS
};

/// Interleaving goes by quarters of a register: quarter q of register j gets channels 16 q + 4 j and the next three.
fn slot(channel: usize) -> usize {
    let (quarter, register, lane) = (channel / 16, channel % 16 / 4, channel % 4);
    register * 16 + quarter * 4 + lane
}

/// By four positions and register, then by lane the weights of the four positions.
fn pack(taps: usize, weight: &dyn Fn(usize, usize) -> i8, weights: &mut Vec<i8>) {
    for first in (0..taps).step_by(4) {
        let at = weights.len();
        weights.resize(at + 256, 0);
        for channel in 0..64 {
            for tap in first..taps.min(first + 4) {
                weights[at + slot(channel) * 4 + (tap - first)] = weight(tap, channel);
            }
        }
    }
}

/// Four registers of 64 channels to four of 16, with the four bytes of a channel side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn interleave([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab, ab2) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (cd, cd2) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(ab, cd),
        _mm512_unpackhi_epi16(ab, cd),
        _mm512_unpacklo_epi16(ab2, cd2),
        _mm512_unpackhi_epi16(ab2, cd2),
    ]
}

/// # Safety
/// The processor has these; `from` names a pointer good for `channels` bytes by position, `weights` those of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sums(row: &Row, pixel: usize, channel: usize, weights: *const i8, mask: __mmask64) -> [__m512i; 4] {
    // SAFETY: the caller's promise; no byte outside of the mask is read, and no position beyond the last.
    unsafe {
        let load = |tap: usize| {
            if tap < row.taps {
                let from = *row.pointers.as_ptr().add(tap * row.step + pixel);
                _mm512_maskz_loadu_epi8(mask, from.add(channel).cast())
            } else {
                _mm512_setzero_si512()
            }
        };
        let bias = row.bias.as_ptr().add(channel);
        let mut sums = [
            _mm512_load_si512(bias.cast()),
            _mm512_load_si512(bias.add(16).cast()),
            _mm512_load_si512(bias.add(32).cast()),
            _mm512_load_si512(bias.add(48).cast()),
        ];
        let mut weights = weights;
        let mut tap = 0;
        while tap < row.taps {
            let values = interleave([load(tap), load(tap + 1), load(tap + 2), load(tap + 3)]);
            macro_rules! multiply {
                ($j:literal) => {
                    let weights = _mm512_load_si512(weights.add(64 * $j).cast());
                    sums[$j] = _mm512_dpbusd_epi32(sums[$j], values[$j], weights);
                };
            }
            multiply!(0);
            multiply!(1);
            multiply!(2);
            multiply!(3);
            weights = weights.add(256);
            tap += 4;
        }
        sums
    }
}

macro_rules! row {
    ($name:ident, $features:literal, $table:expr) => {
        /// # Safety
        /// The processor has these, and `row` is as its fields say.
        #[target_feature(enable = $features)]
        unsafe fn $name(row: &mut Row) {
            let table = row.finish.table.as_deref();
            let wide = table.is_some_and(|t| t.len() != 256);
            let table = table.and_then(|t| t.try_into().ok()).map(|t| $table(t));
            let ends = Ends::new(row.finish, row.residual.map(|r| r.0));
            for channel in (0..row.channels).step_by(64) {
                let channels = (row.channels - channel).min(64);
                let mask = bytes(channels);
                for pixel in 0..row.pixels {
                    // SAFETY: `row` is as its fields say; places are looked at before they are written.
                    unsafe {
                        let weights = row.weights.add(channel / 64 * row.weights_block);
                        let sums = sums(row, pixel, channel, weights, mask);
                        let place = row.place(pixel);
                        match row.output {
                            Output::Bytes(output) if !wide => {
                                let out = &mut output[place.output + channel..][..channels];
                                let residual = match row.residual {
                                    None => std::ptr::null(),
                                    Some((_, bytes)) => {
                                        bytes[place.residual + channel..][..channels].as_ptr()
                                    }
                                };
                                let scale = row.scale.as_ptr().add(channel);
                                let mut done = ends.bytes_by_quarters(sums, scale, residual, channels);
                                if let Some(table) = &table {
                                    done = table.look_up(done);
                                }
                                _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), mask, done);
                            }
                            _ => {
                                let sums: [i32; 64] = std::mem::transmute(sums);
                                row.store(&sums, pixel, channel);
                            }
                        }
                    }
                }
            }
        }
    };
}

row!(with_avx512, "avx512f,avx512bw,avx512vl,avx512vnni", Slow);
row!(
    with_avx512_vbmi,
    "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi",
    Table::new
);
