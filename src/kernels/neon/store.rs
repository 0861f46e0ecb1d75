//! From sums to bytes with NEON: [`Finish`] and [`Residual`] to the bit, 16 at a time.

use super::super::finish::{Divisor, Finish, Middle, Residual, Table};
use super::super::store::{self, Output, Store};
use std::arch::aarch64::*;

/// What [`Finish`] and [`Residual`] say, spread over vectors.
#[derive(Clone, Copy)]
pub struct Epilogue {
    low: float32x4_t,
    high: float32x4_t,
    zero: int16x8_t,
    add: Option<ResidualVectors>,
}

#[derive(Clone, Copy)]
struct ResidualVectors {
    zero: float32x4_t,
    scale: float32x4_t,
    middle: Option<MiddleVectors>,
    step: Steps,
}

#[derive(Clone, Copy)]
struct MiddleVectors {
    low: float32x4_t,
    high: float32x4_t,
    scale: float32x4_t,
}

/// [`Divisor`].
#[derive(Clone, Copy)]
struct Steps {
    by: float32x4_t,
    divide: bool,
}

impl Steps {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(divisor: Divisor) -> Steps {
        let (by, divide) = match divisor {
            Divisor::Step(step) => (step, true),
            Divisor::Factor(factor) => (factor, false),
        };
        Steps {
            by: vdupq_n_f32(by),
            divide,
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn of(self, value: float32x4_t) -> float32x4_t {
        if self.divide {
            vdivq_f32(value, self.by)
        } else {
            vmulq_f32(value, self.by)
        }
    }
}

impl Epilogue {
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn new(finish: &Finish, residual: Option<(&Residual, &[u8])>) -> Epilogue {
        let spread = |v: f32| vdupq_n_f32(v);
        let between = |m: Middle| MiddleVectors {
            low: spread((m.low - m.zero) as f32),
            high: spread((m.high - m.zero) as f32),
            scale: spread(m.scale),
        };
        Epilogue {
            low: spread((finish.low - finish.zero) as f32),
            high: spread((finish.high - finish.zero) as f32),
            zero: vdupq_n_s16(finish.zero as i16),
            add: residual.map(|(r, _)| ResidualVectors {
                zero: spread(r.zero.into()),
                scale: spread(r.scale),
                middle: r.middle.map(between),
                step: Steps::new(r.step),
            }),
        }
    }

    /// Residual added, ends cut, rounded: steps from the zero point. `residual` holds the bytes that are added.
    #[inline]
    #[target_feature(enable = "neon")]
    fn round(&self, sum: int32x4_t, scale: float32x4_t, residual: uint16x4_t) -> int16x4_t {
        let mut value = vmulq_f32(vcvtq_f32_s32(sum), scale);
        if let Some(add) = &self.add {
            if let Some(m) = &add.middle {
                // These take the number where one of two is not one.
                let cut = vminnmq_f32(vmaxnmq_f32(value, m.low), m.high);
                value = vmulq_f32(vcvtq_f32_s32(vcvtnq_s32_f32(cut)), m.scale);
            }
            let bytes = vcvtq_f32_u32(vmovl_u16(residual));
            let other = vmulq_f32(vsubq_f32(bytes, add.zero), add.scale);
            value = add.step.of(vaddq_f32(value, other));
        }
        let cut = vminnmq_f32(vmaxnmq_f32(value, self.low), self.high);
        vmovn_s32(vcvtnq_s32_f32(cut))
    }

    /// 16 sums to bytes, before any table. `residual` is not looked at where there is none.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn bytes(&self, sums: [int32x4_t; 4], scale: [float32x4_t; 4], residual: uint8x16_t) -> uint8x16_t {
        let (low, high) = (vmovl_u8(vget_low_u8(residual)), vmovl_high_u8(residual));
        let first = vcombine_s16(
            self.round(sums[0], scale[0], vget_low_u16(low)),
            self.round(sums[1], scale[1], vget_high_u16(low)),
        );
        let second = vcombine_s16(
            self.round(sums[2], scale[2], vget_low_u16(high)),
            self.round(sums[3], scale[3], vget_high_u16(high)),
        );
        vcombine_u8(
            vqmovun_s16(vqaddq_s16(first, self.zero)),
            vqmovun_s16(vqaddq_s16(second, self.zero)),
        )
    }

    /// Finishes up to 16 sums and stores them, by way of `table` where there is one of 256 bytes.
    ///
    /// # Safety
    /// 16 sums and scales can be read.
    #[inline]
    #[target_feature(enable = "neon")]
    pub unsafe fn put(
        &self,
        sums: *const i32,
        scale: *const f32,
        residual: Option<&[u8]>,
        table: Table,
        out: &mut [u8],
    ) {
        let mut done = [0u8; 16];
        // SAFETY: the caller's promise; a whole vector of bytes is touched only where there is one.
        unsafe {
            let added = match residual {
                None => vdupq_n_u8(0),
                Some(bytes) if bytes.len() == 16 => vld1q_u8(bytes.as_ptr()),
                Some(bytes) => {
                    done[..bytes.len()].copy_from_slice(bytes);
                    vld1q_u8(done.as_ptr())
                }
            };
            let sums = [0, 4, 8, 12].map(|i| vld1q_s32(sums.add(i)));
            let scale = [0, 4, 8, 12].map(|i| vld1q_f32(scale.add(i)));
            let bytes = self.bytes(sums, scale, added);
            if matches!(table, Table::None) && out.len() == 16 {
                return vst1q_u8(out.as_mut_ptr(), bytes);
            }
            vst1q_u8(done.as_mut_ptr(), bytes);
        }
        let bytes = out.iter_mut().zip(&done);
        match table {
            Table::Bytes(table) => bytes.for_each(|(out, &byte)| *out = table[usize::from(byte)]),
            Table::None | Table::Wide => bytes.for_each(|(out, &byte)| *out = byte),
        }
    }
}

#[target_feature(enable = "neon")]
pub fn store(tile: Store) {
    let table = tile.finish.table_kind();
    if matches!(table, Table::Wide) {
        return store::store(tile);
    }
    let epilogue = Epilogue::new(tile.finish, tile.residual);
    let Output::Bytes(output) = &mut *tile.output else {
        return store::store(tile);
    };
    for (place, sums) in tile.places.iter().zip(tile.sums.chunks_exact(tile.width)) {
        let out = &mut output[place.output..][..tile.channels];
        let residual = tile
            .residual
            .map(|(_, bytes)| &bytes[place.residual..][..tile.channels]);
        for (i, out) in out.chunks_mut(16).enumerate() {
            let residual = residual.map(|bytes| &bytes[16 * i..][..out.len()]);
            let (mut some, mut scales) = ([0; 16], [0.0; 16]);
            let (from, scale) = (&sums[16 * i..], &tile.scale[16 * i..]);
            let (from, scale) = if from.len() < 16 {
                some[..from.len()].copy_from_slice(from);
                scales[..from.len()].copy_from_slice(&scale[..from.len()]);
                (some.as_ptr(), scales.as_ptr())
            } else {
                (from.as_ptr(), scale[..16].as_ptr())
            };
            // SAFETY: 16 of each were made sure of in the lines above.
            unsafe { epilogue.put(from, scale, residual, table, out) };
        }
    }
}
