//! The end of a tile, with the vectors of AVX-512.

use super::super::store::{Output, Store, store};
use super::finish::{Ends, Slow, Table, bytes};
use std::arch::x86_64::*;

/// A function that stores tiles; `$table` makes something with a `look_up` of a table of 256 bytes.
macro_rules! with_avx512 {
    ($name:ident, $rows:ident, $features:literal, $table:expr) => {
        /// # Safety
        /// The processor has these.
        #[target_feature(enable = $features)]
        pub unsafe fn $name(tile: Store) {
            let wide = tile.finish.table.as_ref().is_some_and(|t| t.len() != 256);
            // SAFETY: the same features; the widths are those of the tiles of AVX-512.
            unsafe {
                match (&tile.output, tile.width) {
                    (Output::Bytes(_), 16) if !wide => $rows::<1>(tile),
                    (Output::Bytes(_), 32) if !wide => $rows::<2>(tile),
                    (Output::Bytes(_), 48) if !wide => $rows::<3>(tile),
                    (Output::Bytes(_), 64) if !wide => $rows::<4>(tile),
                    _ => store(tile),
                }
            }
        }

        /// # Safety
        /// The processor has these, and the tile is 16 × `VECTORS` wide.
        #[target_feature(enable = $features)]
        unsafe fn $rows<const VECTORS: usize>(tile: Store) {
            let table = tile.finish.table.as_deref();
            let table = table.and_then(|t| t.try_into().ok()).map(|t| $table(t));
            let ends = Ends::new(tile.finish, tile.added());
            let (width, channels) = (16 * VECTORS, tile.channels);
            let Output::Bytes(output) = tile.output else {
                return;
            };
            assert!(tile.scale.len() >= width && tile.sums.len() >= width * tile.places.len());
            for (place, from) in tile.places.iter().zip(tile.sums.chunks_exact(width)) {
                let out = &mut output[place.output..][..channels];
                let residual = match tile.residual {
                    None => std::ptr::null(),
                    Some((_, bytes)) => bytes[place.residual..][..channels].as_ptr(),
                };
                // SAFETY: the lengths were looked at in the lines above.
                unsafe {
                    let mut sums = [_mm512_setzero_si512(); 4];
                    for (j, sum) in sums.iter_mut().enumerate().take(VECTORS) {
                        *sum = _mm512_loadu_si512(from.as_ptr().add(16 * j).cast());
                    }
                    let mut done = ends.bytes::<VECTORS>(sums, tile.scale.as_ptr(), residual, channels);
                    if let Some(table) = &table {
                        done = table.look_up(done);
                    }
                    _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), bytes(channels), done);
                }
            }
        }
    };
}

with_avx512!(with_avx512, rows_avx512, "avx512f,avx512bw,avx512vl", Slow);
with_avx512!(
    with_avx512_vbmi,
    rows_avx512_vbmi,
    "avx512f,avx512bw,avx512vl,avx512vbmi",
    Table::new
);
