//! Sums of tiles by VNNI: four products of bytes and their sum in one instruction, which does not saturate.

use super::super::gemm::{Sums, Tile};
use super::super::unrolled::{each_row, each_vector};
use super::tile::{by_rows, tile};
use std::arch::x86_64::*;

tile!(
    sums_512,
    "avx512f,avx512bw,avx512vl,avx512vnni",
    16,
    _mm512_load_si512,
    _mm512_store_si512,
    _mm512_setzero_si512,
    _mm512_load_si512,
    _mm512_setzero_si512,
    _mm512_set1_epi32,
    _mm512_dpbusd_epi32
);

tile!(
    sums_256,
    "avx2,avxvnni",
    8,
    _mm256_load_si256,
    _mm256_store_si256,
    _mm256_setzero_si256,
    _mm256_load_si256,
    _mm256_setzero_si256,
    _mm256_set1_epi32,
    _mm256_dpbusd_avx_epi32
);

/// 32 registers: sums, the weights of a step, and the values of one pixel.
pub static SUMS_512: &[&[Sums]] = &[
    by_rows!(sums_512, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
    by_rows!(sums_512, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
    by_rows!(sums_512, 3: 1 2 3 4 5 6 7 8),
    by_rows!(sums_512, 4: 1 2 3 4 5 6),
];
pub const ROWS_512: &[usize] = &[16, 12, 8, 6];

/// 16 registers.
pub static SUMS_256: &[&[Sums]] = &[
    by_rows!(sums_256, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
    by_rows!(sums_256, 2: 1 2 3 4 5 6),
];
pub const ROWS_256: &[usize] = &[12, 6];
