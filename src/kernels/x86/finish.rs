//! From sums to bytes, 64 at a time, with the vectors of AVX-512: [`Finish`] and [`Residual`] to the bit.
//!
//! Sixteen values are compared, multiplied and rounded as f32; what is left is done in lanes of 16 and of 8 bits, of
//! which more fit a register: the zero point is added with saturation after the upper end was cut, the lower end is
//! cut as a byte.

use super::super::finish::{Divisor, Finish, Middle, Residual};
use std::arch::x86_64::*;

/// What [`Finish`] and [`Residual`] say, spread over vectors.
#[derive(Clone, Copy)]
pub struct Epilogue {
    high: __m512,
    zero: __m512i,
    low: __m512i,
    add: Option<ResidualVectors>,
}

#[derive(Clone, Copy)]
struct ResidualVectors {
    zero: __m512,
    scale: __m512,
    middle: Option<MiddleVectors>,
    step: Steps,
}

#[derive(Clone, Copy)]
struct MiddleVectors {
    low: __m512,
    high: __m512,
    scale: __m512,
}

/// [`Divisor`].
#[derive(Clone, Copy)]
pub struct Steps {
    by: __m512,
    divide: bool,
}

impl Steps {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn new(divisor: Divisor) -> Steps {
        let (by, divide) = match divisor {
            Divisor::Step(step) => (step, true),
            Divisor::Factor(factor) => (factor, false),
        };
        Steps {
            by: _mm512_set1_ps(by),
            divide,
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn of(self, value: __m512) -> __m512 {
        if self.divide {
            _mm512_div_ps(value, self.by)
        } else {
            _mm512_mul_ps(value, self.by)
        }
    }
}

/// The lanes of vector `j` of 64 channels, of which the first `channels` are there.
#[inline(always)]
pub fn lane_mask(channels: usize, j: usize) -> __mmask16 {
    let rest = channels.saturating_sub(16 * j).min(16);
    ((1u32 << rest) - 1) as u16
}

/// The first `channels` bytes of 64.
#[inline(always)]
pub fn byte_mask(channels: usize) -> __mmask64 {
    if channels >= 64 { !0 } else { (1 << channels) - 1 }
}

impl Epilogue {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn new(finish: &Finish, residual: Option<(&Residual, &[u8])>) -> Epilogue {
        let spread = |v: i32| _mm512_set1_ps(v as f32);
        let between = |m: Middle| MiddleVectors {
            low: spread(m.low - m.zero),
            high: spread(m.high - m.zero),
            scale: _mm512_set1_ps(m.scale),
        };
        Epilogue {
            high: spread(finish.high - finish.zero),
            zero: _mm512_set1_epi16(finish.zero as i16),
            // Of bytes; where the table is a wide one this is not looked at.
            low: _mm512_set1_epi8(finish.low as u8 as i8),
            add: residual.map(|(r, _)| ResidualVectors {
                zero: spread(r.zero.into()),
                scale: _mm512_set1_ps(r.scale),
                middle: r.middle.map(between),
                step: Steps::new(r.step),
            }),
        }
    }

    /// Residual added, upper end cut, rounded: steps from the zero point. What is not a number or below all
    /// integers becomes the lowest integer. `residual` makes the bytes that are added, as integers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn round(&self, value: __m512, residual: __m512i) -> __m512i {
        let mut value = value;
        if let Some(add) = &self.add {
            if let Some(m) = &add.middle {
                // The order of the operands matters: the second is taken where one is not a number.
                let cut = _mm512_min_ps(_mm512_max_ps(value, m.low), m.high);
                value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtps_epi32(cut)), m.scale);
            }
            let bytes = _mm512_cvtepi32_ps(residual);
            let other = _mm512_mul_ps(_mm512_sub_ps(bytes, add.zero), add.scale);
            value = add.step.of(_mm512_add_ps(value, other));
        }
        _mm512_cvtps_epi32(_mm512_min_ps(self.high, value))
    }

    /// 16 × `VECTORS` sums with their scales to bytes, before any table.
    ///
    /// # Safety
    /// `scale` has 16 × `VECTORS` entries; where there is a residual, it has `channels` bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub unsafe fn bytes<const VECTORS: usize>(
        &self,
        sums: [__m512i; 4],
        scale: *const f32,
        residual: *const u8,
        channels: usize,
    ) -> __m512i {
        let mut steps = [_mm512_setzero_si512(); 4];
        macro_rules! vector {
            ($j:literal) => {
                if $j < VECTORS {
                    // SAFETY: the caller's promise; no lane is read that is not there.
                    let (scale, bytes) = unsafe {
                        let scale = _mm512_loadu_ps(scale.add(16 * $j));
                        let bytes = match self.add {
                            None => _mm_setzero_si128(),
                            Some(_) => {
                                let from = residual.wrapping_add(16 * $j).cast();
                                _mm_maskz_loadu_epi8(lane_mask(channels, $j), from)
                            }
                        };
                        (scale, bytes)
                    };
                    let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[$j]), scale);
                    steps[$j] = self.round(value, _mm512_cvtepu8_epi32(bytes));
                }
            };
        }
        vector!(0);
        vector!(1);
        vector!(2);
        vector!(3);
        self.in_order(steps)
    }

    /// 64 values without residual to bytes, before any table.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn finish(&self, values: [__m512; 4]) -> __m512i {
        let none = _mm512_setzero_si512();
        self.in_order([
            self.round(values[0], none),
            self.round(values[1], none),
            self.round(values[2], none),
            self.round(values[3], none),
        ])
    }

    /// Packing goes by quarters of a register: this puts them in order.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn in_order(&self, steps: [__m512i; 4]) -> __m512i {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_permutexvar_epi32(order, self.pack(steps))
    }

    /// 64 sums to bytes. Quarter `q` of register `j` is of channels 16 q + 4 j and the three that follow; `scale`
    /// stands in the order of the registers.
    ///
    /// # Safety
    /// `scale` has 64 entries; where there is a residual, it has `channels` bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub unsafe fn bytes_by_quarters(
        &self,
        sums: [__m512i; 4],
        scale: *const f32,
        residual: *const u8,
        channels: usize,
    ) -> __m512i {
        let none = _mm512_setzero_si512();
        let mut added = [none; 4];
        if self.add.is_some() {
            // SAFETY: the caller's promise.
            let all = unsafe { _mm512_maskz_loadu_epi8(byte_mask(channels), residual.cast()) };
            let (low, high) = (_mm512_unpacklo_epi8(all, none), _mm512_unpackhi_epi8(all, none));
            added = [
                _mm512_unpacklo_epi16(low, none),
                _mm512_unpackhi_epi16(low, none),
                _mm512_unpacklo_epi16(high, none),
                _mm512_unpackhi_epi16(high, none),
            ];
        }
        let mut steps = [none; 4];
        macro_rules! vector {
            ($j:literal) => {
                // SAFETY: the caller's promise.
                let scale = unsafe { _mm512_loadu_ps(scale.add(16 * $j)) };
                let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[$j]), scale);
                steps[$j] = self.round(value, added[$j]);
            };
        }
        vector!(0);
        vector!(1);
        vector!(2);
        vector!(3);
        self.pack(steps)
    }

    /// Zero point, lower end, and the four registers in one.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn pack(&self, steps: [__m512i; 4]) -> __m512i {
        let first = _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), self.zero);
        let second = _mm512_adds_epi16(_mm512_packs_epi32(steps[2], steps[3]), self.zero);
        _mm512_max_epu8(_mm512_packus_epi16(first, second), self.low)
    }
}

/// A table of 256 bytes in registers.
#[derive(Clone, Copy)]
pub struct Table([__m512i; 4]);

/// One without instructions for it: byte by byte.
pub struct MemoryTable<'a>(pub &'a [u8; 256]);

impl MemoryTable<'_> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn look_up(&self, values: __m512i) -> __m512i {
        let mut bytes = [0u8; 64];
        // SAFETY: 64 bytes are there to be written and read.
        unsafe {
            _mm512_storeu_si512(bytes.as_mut_ptr().cast(), values);
            for byte in &mut bytes {
                *byte = self.0[usize::from(*byte)];
            }
            _mm512_loadu_si512(bytes.as_ptr().cast())
        }
    }
}

impl Table {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
    pub fn new(table: &[u8; 256]) -> Table {
        // SAFETY: four times 64 bytes are 256.
        Table(std::array::from_fn(|i| unsafe {
            _mm512_loadu_si512(table.as_ptr().add(64 * i).cast())
        }))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
    pub fn look_up(&self, bytes: __m512i) -> __m512i {
        let [a, b, c, d] = self.0;
        let low = _mm512_permutex2var_epi8(a, bytes, b);
        let high = _mm512_permutex2var_epi8(c, bytes, d);
        _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), low, high)
    }
}
