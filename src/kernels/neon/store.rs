//! From sums to bytes with NEON: [`Finish`] and [`Residual`] to the bit, 16 at a time.

use super::super::finish::{Divisor, Finish, Middle, Residual, Table};
use super::super::store::{self, Output, Place, Store};
use std::arch::aarch64::*;

/// What [`Finish`] and [`Residual`] say, spread over vectors.
#[derive(Clone, Copy)]
pub struct Epilogue {
    low: float32x4_t,
    high: uint8x16_t,
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
    /// Of a `finish` whose steps are bytes: without a wide table.
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
            high: vdupq_n_u8(finish.high as u8),
            zero: vdupq_n_s16(finish.zero as i16),
            add: residual.map(|(r, _)| ResidualVectors {
                zero: spread(r.zero.into()),
                scale: spread(r.scale),
                middle: r.middle.map(between),
                step: Steps::new(r.step),
            }),
        }
    }

    /// Residual added, the lower end cut, rounded: steps from the zero point. `residual` holds the bytes that are
    /// added if `ADD`.
    #[inline]
    #[target_feature(enable = "neon")]
    fn round<const ADD: bool>(&self, sum: int32x4_t, scale: float32x4_t, residual: uint16x4_t) -> int32x4_t {
        let mut value = vmulq_f32(vcvtq_f32_s32(sum), scale);
        if let Some(add) = self.add.as_ref().filter(|_| ADD) {
            if let Some(m) = &add.middle {
                // These take the number where one of two is not one.
                let cut = vminnmq_f32(vmaxnmq_f32(value, m.low), m.high);
                value = vmulq_f32(vcvtq_f32_s32(vcvtnq_s32_f32(cut)), m.scale);
            }
            let bytes = vcvtq_f32_u32(vmovl_u16(residual));
            let other = vmulq_f32(vsubq_f32(bytes, add.zero), add.scale);
            value = add.step.of(vaddq_f32(value, other));
        }
        vcvtnq_s32_f32(vmaxnmq_f32(value, self.low))
    }

    /// 16 sums to bytes, before any table. Of `residual` only if `ADD`: there is one then.
    ///
    /// The upper end is cut last: what is too large for a type on the way becomes its largest, which with any zero point
    /// is more than a byte.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn bytes<const ADD: bool>(
        &self,
        sums: [int32x4_t; 4],
        scale: [float32x4_t; 4],
        residual: uint8x16_t,
    ) -> uint8x16_t {
        let (low, high) = (vmovl_u8(vget_low_u8(residual)), vmovl_high_u8(residual));
        let first = vqmovn_high_s32(
            vqmovn_s32(self.round::<ADD>(sums[0], scale[0], vget_low_u16(low))),
            self.round::<ADD>(sums[1], scale[1], vget_high_u16(low)),
        );
        let second = vqmovn_high_s32(
            vqmovn_s32(self.round::<ADD>(sums[2], scale[2], vget_low_u16(high))),
            self.round::<ADD>(sums[3], scale[3], vget_high_u16(high)),
        );
        let bytes = vqmovun_high_s16(
            vqmovun_s16(vqaddq_s16(first, self.zero)),
            vqaddq_s16(second, self.zero),
        );
        vminq_u8(bytes, self.high)
    }
}

/// Up to 16 bytes; behind them zeros.
#[inline]
#[target_feature(enable = "neon")]
pub fn some(from: &[u8]) -> uint8x16_t {
    if from.len() >= 16 {
        // SAFETY: 16 bytes are there.
        return unsafe { vld1q_u8(from.as_ptr()) };
    }
    let mut all = [0u8; 16];
    all[..from.len()].copy_from_slice(from);
    // SAFETY: 16 bytes are there.
    unsafe { vld1q_u8(all.as_ptr()) }
}

/// The first of 16 bytes, as many as `out` holds.
#[inline]
#[target_feature(enable = "neon")]
pub fn put(bytes: uint8x16_t, out: &mut [u8]) {
    // SAFETY: as many bytes as each writes are there.
    unsafe {
        match out.len() {
            16.. => vst1q_u8(out.as_mut_ptr(), bytes),
            8 => vst1_u8(out.as_mut_ptr(), vget_low_u8(bytes)),
            length => {
                let mut all = [0u8; 16];
                vst1q_u8(all.as_mut_ptr(), bytes);
                out.copy_from_slice(&all[..length]);
            }
        }
    }
}

/// A table of 256 bytes in registers.
pub struct Lookup([uint8x16x4_t; 4]);

impl Lookup {
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn new(table: &[u8; 256]) -> Lookup {
        // SAFETY: each reads 64 of the 256 bytes.
        Lookup([0, 64, 128, 192].map(|i| unsafe { vld1q_u8_x4(table[i..][..64].as_ptr()) }))
    }

    /// Replaces bytes by what the table says of them.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn of(&self, bytes: &mut [u8]) {
        for bytes in bytes.chunks_mut(16) {
            let quarter = vdupq_n_u8(64);
            let mut index = some(bytes);
            // An index that is too large gives zero, or leaves what there is.
            let mut found = vqtbl4q_u8(self.0[0], index);
            for table in &self.0[1..] {
                index = vsubq_u8(index, quarter);
                found = vqtbx4q_u8(found, *table, index);
            }
            put(found, bytes);
        }
    }
}

#[target_feature(enable = "neon")]
pub fn store(tile: Store) {
    let table = tile.finish.table_kind();
    let Output::Bytes(output) = &mut *tile.output else {
        return store::store(tile);
    };
    let rows = match (tile.width, tile.residual.is_some()) {
        (4, false) => rows::<1, false>,
        (8, false) => rows::<2, false>,
        (12, false) => rows::<3, false>,
        (16, false) => rows::<4, false>,
        (4, true) => rows::<1, true>,
        (8, true) => rows::<2, true>,
        (12, true) => rows::<3, true>,
        (16, true) => rows::<4, true>,
        _ => return store::store(tile),
    };
    let lookup = match table {
        Table::None => None,
        Table::Bytes(table) => Some(Lookup::new(table)),
        Table::Wide => return store::store(tile),
    };
    let Store {
        sums,
        channels,
        scale,
        finish,
        residual,
        places,
        ..
    } = tile;
    let epilogue = Epilogue::new(finish, residual);
    let added = residual.map_or(&[][..], |(_, bytes)| bytes);
    rows(&epilogue, sums, scale, channels, places, added, output);
    if let Some(lookup) = lookup {
        for place in places {
            lookup.of(&mut output[place.output..][..channels]);
        }
    }
}

/// The sums of some pixels, `QUADS` vectors each, to bytes.
#[inline]
#[target_feature(enable = "neon")]
fn rows<const QUADS: usize, const ADD: bool>(
    epilogue: &Epilogue,
    sums: &[i32],
    scale: &[f32],
    channels: usize,
    places: &[Place],
    added: &[u8],
    output: &mut [u8],
) {
    let mut scales = [vdupq_n_f32(0.0); 4];
    for (vector, scale) in scales.iter_mut().zip(scale[..QUADS * 4].as_chunks::<4>().0) {
        // SAFETY: four are there.
        *vector = unsafe { vld1q_f32(scale.as_ptr()) };
    }
    for (place, sums) in places.iter().zip(sums.as_chunks::<4>().0.chunks_exact(QUADS)) {
        let out = &mut output[place.output..][..channels];
        let residual = match ADD {
            true => some(&added[place.residual..][..channels]),
            false => vdupq_n_u8(0),
        };
        let mut vectors = [vdupq_n_s32(0); 4];
        for (vector, sums) in vectors.iter_mut().zip(&sums[..QUADS]) {
            // SAFETY: four are there.
            *vector = unsafe { vld1q_s32(sums.as_ptr()) };
        }
        put(epilogue.bytes::<ADD>(vectors, scales, residual), out);
    }
}
