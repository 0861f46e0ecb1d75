//! Depthwise convolution by AVX2: 16 channels, two window positions at a time, whose bytes are interleaved and
//! widened so that one instruction multiplies and adds the two of a channel.

use super::super::depthwise::{IN_ORDER, Row, Strips};
use super::super::finish::Table;
use super::super::store::Output;
use super::finish256::Epilogue;
use std::arch::x86_64::*;

pub static STRIPS: Strips = Strips {
    block: 16,
    fold: 16,
    order: &IN_ORDER,
    pack,
    signed: false,
    careful: None,
    row,
};

/// By two positions and channel: their weights, of 16 bits.
fn pack(taps: usize, weight: &dyn Fn(usize, usize) -> i8, weights: &mut Vec<i8>) {
    for first in (0..taps).step_by(2) {
        for channel in 0..16 {
            for tap in [first, first + 1] {
                let weight = if tap < taps { weight(tap, channel) } else { 0 };
                weights.extend(i16::from(weight).to_le_bytes().map(|b| b as i8));
            }
        }
    }
}

/// 16 values of a window position, zeros after the last channel.
///
/// # Safety
/// `channels` bytes can be read, or 16 if there are more.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(from: *const u8, channels: usize) -> __m128i {
    // SAFETY: the caller's promise.
    unsafe {
        if channels >= 16 {
            return _mm_loadu_si128(from.cast());
        }
        let mut some = [0u8; 16];
        std::ptr::copy_nonoverlapping(from, some.as_mut_ptr(), channels);
        _mm_loadu_si128(some.as_ptr().cast())
    }
}

/// # Safety
/// `row` is as its fields say; `weights` are those of the block that begins with `channel`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sums(row: &Row, pixel: usize, channel: usize, weights: *const i8) -> [__m256i; 2] {
    let channels = row.channels - channel;
    // SAFETY: the caller's promise; no position is read beyond the last.
    unsafe {
        let bias = row.bias.as_ptr().add(channel);
        let mut sums = [
            _mm256_loadu_si256(bias.cast()),
            _mm256_loadu_si256(bias.add(8).cast()),
        ];
        let mut weights = weights.cast::<__m256i>();
        // A window of nothing has no pointers.
        let mut pointers = row.pointers.as_ptr().wrapping_add(pixel);
        let mut left = row.taps;
        while left > 0 {
            let first = load((*pointers).add(channel), channels);
            let second = if left > 1 {
                load((*pointers.add(row.step)).add(channel), channels)
            } else {
                _mm_setzero_si128()
            };
            let low = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(first, second));
            let high = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(first, second));
            let low = _mm256_madd_epi16(low, _mm256_load_si256(weights));
            let high = _mm256_madd_epi16(high, _mm256_load_si256(weights.add(1)));
            sums[0] = _mm256_add_epi32(sums[0], low);
            sums[1] = _mm256_add_epi32(sums[1], high);
            weights = weights.add(2);
            // Not beyond the last position, where there is no memory.
            pointers = pointers.wrapping_add(2 * row.step);
            left = left.saturating_sub(2);
        }
        sums
    }
}

/// # Safety
/// The processor has AVX2, and `row` is as its fields say.
#[target_feature(enable = "avx2")]
unsafe fn row(row: &mut Row) {
    let table = row.finish.table_kind();
    let epilogue = Epilogue::new(row.finish, row.residual);
    for pixel in 0..row.pixels {
        for channel in (0..row.channels).step_by(16) {
            let channels = (row.channels - channel).min(16);
            // SAFETY: the caller's promise; biases and scales are there for whole blocks.
            unsafe {
                let weights = row.weights(channel / 16);
                let sums = sums(row, pixel, channel, weights);
                let place = row.place(pixel);
                match (&mut *row.output, table) {
                    (Output::Bytes(output), Table::None | Table::Bytes(_)) => {
                        let out = &mut output[place.output + channel..][..channels];
                        let added = match row.residual {
                            None => _mm_setzero_si128(),
                            Some((_, bytes)) => {
                                let bytes = &bytes[place.residual + channel..][..channels];
                                load(bytes.as_ptr(), channels)
                            }
                        };
                        let scale = row.scale[channel..][..16].as_ptr();
                        let scale = [_mm256_loadu_ps(scale), _mm256_loadu_ps(scale.add(8))];
                        epilogue.put(epilogue.bytes(sums, scale, added), table, out);
                    }
                    _ => {
                        let mut all = [0i32; 16];
                        _mm256_storeu_si256(all.as_mut_ptr().cast(), sums[0]);
                        _mm256_storeu_si256(all.as_mut_ptr().add(8).cast(), sums[1]);
                        row.store(&all, pixel, channel, 0);
                    }
                }
            }
        }
    }
}
