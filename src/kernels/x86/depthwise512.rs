//! Depthwise convolution by AVX512-VNNI: 64 channels, four window positions at a time, whose bytes are
//! interleaved so that one instruction multiplies and adds the four of a channel.

use super::super::depthwise::{Order, Row, Strips};
use super::super::finish;
use super::super::store::Output;
use super::finish::{Epilogue, MemoryTable, Table, byte_mask};
use std::arch::x86_64::*;

pub static STRIPS: Strips = WITHOUT_VBMI;

pub static STRIPS_VBMI: Strips = Strips {
    row: with_avx512_vbmi,
    ..WITHOUT_VBMI
};

const WITHOUT_VBMI: Strips = Strips {
    block: 64,
    fold: 32,
    order: &ORDER,
    pack,
    signed: false,
    careful: None,
    row: with_avx512,
};

/// Interleaving goes by quarters of a register: quarter q of register j gets channels 16 q + 4 j and the next three.
static ORDER: Order = {
    let mut order = [0; 64];
    let mut channel = 0;
    while channel < 64 {
        let (quarter, register, lane) = (channel / 16, channel % 16 / 4, channel % 4);
        order[channel] = (register * 16 + quarter * 4 + lane) as u8;
        channel += 1;
    }
    order
};

/// By four positions and register, then by lane the weights of the four positions.
fn pack(taps: usize, weight: &dyn Fn(usize, usize) -> i8, weights: &mut Vec<i8>) {
    for first in (0..taps).step_by(4) {
        let at = weights.len();
        weights.resize(at + 256, 0);
        for (channel, &slot) in ORDER.iter().enumerate() {
            for tap in first..taps.min(first + 4) {
                weights[at + usize::from(slot) * 4 + (tap - first)] = weight(tap, channel);
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
/// `row` is as its fields say; `weights` are those of the block that begins with `channel`. With a `next` pixel, there
/// are no more than 32 channels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sums<const TAPS: usize>(
    row: &Row,
    pixel: usize,
    channel: usize,
    weights: *const i8,
    mask: __mmask64,
    next: Option<usize>,
) -> [__m512i; 4] {
    // A number that the compiler knows makes a straight line of the loop.
    let taps = if TAPS > 0 { TAPS } else { row.taps };
    // SAFETY: the caller's promise; no byte outside of the mask is read, and no position beyond the last.
    unsafe {
        let load = |tap: usize| {
            if tap >= taps {
                return _mm512_setzero_si512();
            }
            let from = row.pointers.as_ptr().add(tap * row.step);
            match next {
                None => _mm512_maskz_loadu_epi8(mask, (*from.add(pixel)).add(channel).cast()),
                Some(next) => {
                    let mask = mask as __mmask32;
                    let first = _mm256_maskz_loadu_epi8(mask, (*from.add(pixel)).cast());
                    let second = _mm256_maskz_loadu_epi8(mask, (*from.add(next)).cast());
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
                }
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
        while tap < taps {
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
    ($name:ident, $row:ident, $features:literal, $table:expr) => {
        /// # Safety
        /// The processor has these, and `row` is as its fields say.
        #[target_feature(enable = $features)]
        unsafe fn $name(row: &mut Row) {
            // SAFETY: the same promise.
            unsafe {
                match row.taps {
                    9 => $row::<9>(row),
                    _ => $row::<0>(row),
                }
            }
        }

        /// # Safety
        /// As above; there are `TAPS` window positions, or any number if that is 0.
        #[target_feature(enable = $features)]
        unsafe fn $row<const TAPS: usize>(row: &mut Row) {
            let (table, wide) = match row.finish.table_kind() {
                finish::Table::None => (None, false),
                finish::Table::Bytes(table) => (Some($table(table)), false),
                finish::Table::Wide => (None, true),
            };
            let epilogue = Epilogue::new(row.finish, row.residual);
            for channel in (0..row.channels).step_by(64) {
                let channels = (row.channels - channel).min(64);
                let mask = byte_mask(channels);
                let weights = row.weights(channel / 64);
                let mut pixel = 0;
                while pixel < row.pixels {
                    // Two pixels of few channels share the registers; an odd last one is there twice.
                    let next = if row.channels <= 32 {
                        Some((pixel + 1).min(row.pixels - 1))
                    } else {
                        None
                    };
                    // SAFETY: `row` is as its fields say; places are looked at before they are written.
                    unsafe {
                        let sums = sums::<TAPS>(row, pixel, channel, weights, mask, next);
                        let places = [row.place(pixel), row.place(next.unwrap_or(pixel))];
                        match row.output {
                            Output::Bytes(output) if !wide => {
                                let mut both = [0; 64];
                                let residual = match row.residual {
                                    None => std::ptr::null(),
                                    Some((_, bytes)) => {
                                        let [first, second] = places.map(|p| p.residual + channel);
                                        let first = &bytes[first..][..channels];
                                        if next.is_some() {
                                            both[..channels].copy_from_slice(first);
                                            both[32..][..channels]
                                                .copy_from_slice(&bytes[second..][..channels]);
                                            both.as_ptr()
                                        } else {
                                            first.as_ptr()
                                        }
                                    }
                                };
                                let width = if next.is_some() { 64 } else { channels };
                                let scale = row.scale.as_ptr().add(channel);
                                let mut done = epilogue.bytes_by_quarters(sums, scale, residual, width);
                                if let Some(table) = &table {
                                    done = table.look_up(done);
                                }
                                let [first, second] = places.map(|p| p.output + channel);
                                let out = output[first..][..channels].as_mut_ptr();
                                if next.is_some() {
                                    let low = _mm512_castsi512_si256(done);
                                    _mm256_mask_storeu_epi8(out.cast(), mask as __mmask32, low);
                                    let out = output[second..][..channels].as_mut_ptr();
                                    let high = _mm512_extracti64x4_epi64::<1>(done);
                                    _mm256_mask_storeu_epi8(out.cast(), mask as __mmask32, high);
                                } else {
                                    _mm512_mask_storeu_epi8(out.cast(), mask, done);
                                }
                            }
                            _ => {
                                let mut all = [0i32; 64];
                                for (to, sums) in all.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
                                    _mm512_storeu_si512(to.as_mut_ptr().cast(), sums);
                                }
                                row.store(&all, pixel, channel, 0);
                                if let Some(next) = next {
                                    row.store(&all, next, channel, 32);
                                }
                            }
                        }
                    }
                    pixel += if next.is_some() { 2 } else { 1 };
                }
            }
        }
    };
}

row!(
    with_avx512,
    row_avx512,
    "avx512f,avx512bw,avx512vl,avx512vnni",
    MemoryTable
);
row!(
    with_avx512_vbmi,
    row_avx512_vbmi,
    "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi",
    Table::new
);
