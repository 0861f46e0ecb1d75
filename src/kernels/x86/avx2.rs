//! Sums of tiles by AVX2.
//!
//! `vpmaddubsw`, which multiplies bytes, saturates; `vpmaddwd` does not: two products of 16 bits and their sum.
//! So bytes are widened: of four input values in a lane of 32 bits, the even ones by a mask and the odd ones by a
//! shift. The weights stand in that order, those for the even ones of all lanes first.

use super::super::gemm::{Sums, Tile};
use super::super::unrolled::{each_row, each_vector};
use super::tile::{by_rows, tile};
use std::arch::x86_64::*;

pub fn slot(lane: usize, k: usize) -> usize {
    (k % 2) * 16 + lane * 2 + k / 2
}

/// Even, odd.
type Pair = (__m256i, __m256i);

#[inline]
#[target_feature(enable = "avx2")]
fn nothing() -> Pair {
    (_mm256_setzero_si256(), _mm256_setzero_si256())
}

/// # Safety
/// 32 bytes can be read; they begin on a boundary of 16.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widened(weights: *const __m128i) -> Pair {
    // SAFETY: the caller's promise.
    unsafe {
        (
            _mm256_cvtepi8_epi16(_mm_load_si128(weights)),
            _mm256_cvtepi8_epi16(_mm_load_si128(weights.add(1))),
        )
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn spread(four: i32) -> Pair {
    let four = _mm256_set1_epi32(four);
    (
        _mm256_and_si256(four, _mm256_set1_epi16(255)),
        _mm256_srli_epi16::<8>(four),
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot(sum: __m256i, values: Pair, weights: Pair) -> __m256i {
    let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(values.0, weights.0));
    _mm256_add_epi32(sum, _mm256_madd_epi16(values.1, weights.1))
}

tile!(
    sums,
    "avx2",
    8,
    _mm256_load_si256,
    _mm256_store_si256,
    _mm256_setzero_si256,
    widened,
    nothing,
    spread,
    dot
);

/// 16 registers.
pub static SUMS: &[&[Sums]] = &[by_rows!(sums, 1: 1 2 3 4 5 6 7 8), by_rows!(sums, 2: 1 2 3 4)];
pub const ROWS: &[usize] = &[8, 4];
