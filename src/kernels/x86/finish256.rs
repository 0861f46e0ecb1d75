//! From sums to bytes with the vectors of AVX2: see [`super::finish`], of which this is the half.

use super::super::finish::{Divisor, Finish, Middle, Residual, Table};
use super::super::store::{Output, Store, store};
use std::arch::x86_64::*;

/// What [`Finish`] and [`Residual`] say, spread over vectors.
#[derive(Clone, Copy)]
pub struct Epilogue {
    high: __m256,
    zero: __m256i,
    low: __m128i,
    add: Option<ResidualVectors>,
}

#[derive(Clone, Copy)]
struct ResidualVectors {
    zero: __m256,
    scale: __m256,
    middle: Option<MiddleVectors>,
    step: Steps,
}

#[derive(Clone, Copy)]
struct MiddleVectors {
    low: __m256,
    high: __m256,
    scale: __m256,
}

/// [`Divisor`].
#[derive(Clone, Copy)]
struct Steps {
    by: __m256,
    divide: bool,
}

impl Steps {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(divisor: Divisor) -> Steps {
        let (by, divide) = match divisor {
            Divisor::Step(step) => (step, true),
            Divisor::Factor(factor) => (factor, false),
        };
        Steps {
            by: _mm256_set1_ps(by),
            divide,
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(self, value: __m256) -> __m256 {
        if self.divide {
            _mm256_div_ps(value, self.by)
        } else {
            _mm256_mul_ps(value, self.by)
        }
    }
}

impl Epilogue {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn new(finish: &Finish, residual: Option<(&Residual, &[u8])>) -> Epilogue {
        let spread = |v: i32| _mm256_set1_ps(v as f32);
        let between = |m: Middle| MiddleVectors {
            low: spread(m.low - m.zero),
            high: spread(m.high - m.zero),
            scale: _mm256_set1_ps(m.scale),
        };
        Epilogue {
            high: spread(finish.high - finish.zero),
            zero: _mm256_set1_epi16(finish.zero as i16),
            low: _mm_set1_epi8(finish.low as u8 as i8),
            add: residual.map(|(r, _)| ResidualVectors {
                zero: spread(r.zero.into()),
                scale: _mm256_set1_ps(r.scale),
                middle: r.middle.map(between),
                step: Steps::new(r.step),
            }),
        }
    }

    /// Residual added, upper end cut, rounded: steps from the zero point.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn round(&self, value: __m256, residual: __m128i) -> __m256i {
        let mut value = value;
        if let Some(add) = &self.add {
            if let Some(m) = &add.middle {
                // The order of the operands matters: the second is taken where one is not a number.
                let cut = _mm256_min_ps(_mm256_max_ps(value, m.low), m.high);
                value = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtps_epi32(cut)), m.scale);
            }
            let bytes = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(residual));
            let other = _mm256_mul_ps(_mm256_sub_ps(bytes, add.zero), add.scale);
            value = add.step.of(_mm256_add_ps(value, other));
        }
        _mm256_cvtps_epi32(_mm256_min_ps(self.high, value))
    }

    /// 16 sums to bytes, before any table. `residual` is not looked at where there is none.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn bytes(&self, sums: [__m256i; 2], scale: [__m256; 2], residual: __m128i) -> __m128i {
        let first = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[0]), scale[0]);
        let second = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[1]), scale[1]);
        let first = self.round(first, residual);
        let second = self.round(second, _mm_srli_si128::<8>(residual));
        // Packing goes by halves of a register: the permutation puts them in order.
        let steps = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(first, second));
        let steps = _mm256_adds_epi16(steps, self.zero);
        let bytes = _mm_packus_epi16(
            _mm256_castsi256_si128(steps),
            _mm256_extracti128_si256::<1>(steps),
        );
        _mm_max_epu8(bytes, self.low)
    }

    /// Stores up to 16 bytes, by way of `table` where there is one of 256 bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn put(&self, bytes: __m128i, table: Table, out: &mut [u8]) {
        let mut done = [0u8; 16];
        // SAFETY: as many bytes are stored as there are.
        unsafe {
            match (table, out.len()) {
                (Table::None, 16) => return _mm_storeu_si128(out.as_mut_ptr().cast(), bytes),
                (Table::None, 8) => return _mm_storel_epi64(out.as_mut_ptr().cast(), bytes),
                _ => _mm_storeu_si128(done.as_mut_ptr().cast(), bytes),
            }
        }
        let bytes = out.iter_mut().zip(&done);
        match table {
            Table::Bytes(table) => bytes.for_each(|(out, &byte)| *out = table[usize::from(byte)]),
            Table::None | Table::Wide => bytes.for_each(|(out, &byte)| *out = byte),
        }
    }
}

#[target_feature(enable = "avx2")]
pub fn with_avx2(tile: Store) {
    let table = tile.finish.table_kind();
    if matches!(table, Table::Wide) {
        return store(tile);
    }
    let epilogue = Epilogue::new(tile.finish, tile.residual);
    let Output::Bytes(output) = &mut *tile.output else {
        return store(tile);
    };
    let width = tile.width;
    assert!(tile.channels <= width && tile.scale.len() >= width && width.is_multiple_of(8));
    for (place, sums) in tile.places.iter().zip(tile.sums.chunks_exact(width)) {
        let out = &mut output[place.output..][..tile.channels];
        let residual = tile
            .residual
            .map(|(_, bytes)| &bytes[place.residual..][..tile.channels]);
        for (i, out) in out.chunks_mut(16).enumerate() {
            let second = 16 * i + 8 < width;
            // SAFETY: the loads are of eight sums and eight scales inside of `width`, and of as many bytes as are
            // there; so are the stores.
            unsafe {
                let added = match residual {
                    None => _mm_setzero_si128(),
                    Some(bytes) if out.len() == 16 => _mm_loadu_si128(bytes.as_ptr().add(16 * i).cast()),
                    Some(bytes) if out.len() == 8 => _mm_loadl_epi64(bytes.as_ptr().add(16 * i).cast()),
                    Some(bytes) => {
                        let mut some = [0u8; 16];
                        some[..out.len()].copy_from_slice(&bytes[16 * i..]);
                        _mm_loadu_si128(some.as_ptr().cast())
                    }
                };
                let (sums, scales) = (sums.as_ptr().add(16 * i), tile.scale.as_ptr().add(16 * i));
                let mut sum = [_mm256_loadu_si256(sums.cast()), _mm256_setzero_si256()];
                let mut scale = [_mm256_loadu_ps(scales), _mm256_setzero_ps()];
                if second {
                    sum[1] = _mm256_loadu_si256(sums.add(8).cast());
                    scale[1] = _mm256_loadu_ps(scales.add(8));
                }
                epilogue.put(epilogue.bytes(sum, scale, added), table, out);
            }
        }
    }
}
