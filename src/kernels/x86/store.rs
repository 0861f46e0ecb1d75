//! The end of a tile, with the vectors of AVX-512.

use super::super::finish;
use super::super::store::{Output, Store, store};
use super::finish::{Epilogue, MemoryTable, Table, byte_mask};
use std::arch::x86_64::*;

/// A function that stores tiles; `$table` makes something with a `look_up` of a table of 256 bytes.
macro_rules! with_avx512 {
    ($name:ident, $rows:ident, $features:literal, $table:expr) => {
        #[target_feature(enable = $features)]
        pub fn $name(tile: Store) {
            match (&tile.output, tile.finish.table_kind(), tile.width) {
                (Output::Floats(_), _, _) | (_, finish::Table::Wide, _) => store(tile),
                (_, _, 16) => $rows::<1>(tile),
                (_, _, 32) => $rows::<2>(tile),
                (_, _, 48) => $rows::<3>(tile),
                (_, _, 64) => $rows::<4>(tile),
                _ => store(tile),
            }
        }

        /// For bytes, without a wide table.
        #[target_feature(enable = $features)]
        fn $rows<const VECTORS: usize>(tile: Store) {
            let table = match tile.finish.table_kind() {
                finish::Table::Bytes(table) => Some($table(table)),
                _ => None,
            };
            let epilogue = Epilogue::new(tile.finish, tile.residual);
            let (width, channels) = (16 * VECTORS, tile.channels);
            let Output::Bytes(output) = tile.output else {
                return;
            };
            assert!(channels <= width && tile.scale.len() >= width);
            for (place, from) in tile.places.iter().zip(tile.sums.chunks_exact(width)) {
                let out = &mut output[place.output..][..channels];
                let residual = match tile.residual {
                    None => std::ptr::null(),
                    Some((_, bytes)) => bytes[place.residual..][..channels].as_ptr(),
                };
                // SAFETY: there are `width` scales and sums, and as many bytes as `channels`.
                unsafe {
                    let mut sums = [_mm512_setzero_si512(); 4];
                    for (j, sum) in sums.iter_mut().enumerate().take(VECTORS) {
                        *sum = _mm512_loadu_si512(from.as_ptr().add(16 * j).cast());
                    }
                    let mut done = epilogue.bytes::<VECTORS>(sums, tile.scale.as_ptr(), residual, channels);
                    if let Some(table) = &table {
                        done = table.look_up(done);
                    }
                    _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), byte_mask(channels), done);
                }
            }
        }
    };
}

with_avx512!(with_avx512, rows_avx512, "avx512f,avx512bw,avx512vl", MemoryTable);
with_avx512!(
    with_avx512_vbmi,
    rows_avx512_vbmi,
    "avx512f,avx512bw,avx512vl,avx512vbmi",
    Table::new
);
