//! What becomes of the sums of a tile: bytes or floats in their places.

use super::finish::{Finish, Residual};

/// Most output channels of a tile, filled up to whole vectors.
pub const WIDEST: usize = 64;

/// Where a pixel's first channel of the tile goes, and where the residual's stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub output: usize,
    pub residual: usize,
}

pub enum Output<'a> {
    Bytes(&'a mut [u8]),
    Floats(&'a mut [f32]),
}

pub struct Store<'a, 'b> {
    /// By pixel, then `width` output channels.
    pub sums: &'a [i32],
    /// With the vectors' fill; at most [`WIDEST`].
    pub width: usize,
    /// Without it.
    pub channels: usize,
    /// Of `width`.
    pub scale: &'a [f32],
    pub finish: &'a Finish,
    pub residual: Option<(&'a Residual, &'a [u8])>,
    pub places: &'a [Place],
    pub output: &'a mut Output<'b>,
}

/// In loops that the compiler turns into the vectors of whoever calls this.
#[inline(always)]
pub fn store(store: Store) {
    let Store {
        sums,
        width,
        channels,
        scale,
        finish,
        residual,
        places,
        output,
    } = store;
    for (place, sums) in places.iter().zip(sums.chunks_exact(width)) {
        let mut values = [0.0f32; WIDEST];
        for ((value, &sum), &scale) in values.iter_mut().zip(sums).zip(scale) {
            *value = sum as f32 * scale;
        }
        let values = &mut values[..channels];
        match output {
            Output::Floats(out) => out[place.output..][..channels].copy_from_slice(values),
            Output::Bytes(out) => {
                if let Some((residual, bytes)) = residual {
                    let bytes = &bytes[place.residual..][..channels];
                    for (value, &byte) in values.iter_mut().zip(bytes) {
                        *value = residual.add(*value, byte);
                    }
                }
                finish.bytes(values, &mut out[place.output..][..channels]);
            }
        }
    }
}
