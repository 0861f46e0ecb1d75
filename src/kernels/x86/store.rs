//! The end of a tile, with the vectors of each instruction set.

use super::super::store::{Output, Store, store};
use super::finish::{Ends, Table, bytes};
use std::arch::x86_64::*;

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn with_avx2(tile: Store) {
    store(tile);
}

/// A function that stores tiles; `$table` makes something with a `look_up` of a table of 256 bytes, where that is possible.
macro_rules! with_avx512 {
    ($name:ident, $features:literal, $table:expr) => {
        /// # Safety
        /// The processor has these.
        #[target_feature(enable = $features)]
        pub unsafe fn $name(tile: Store) {
            let narrow = tile.finish.table.as_deref().map(<&[u8; 256]>::try_from);
            let table = match narrow {
                None => None,
                Some(Ok(table)) => Some($table(table)),
                Some(Err(_)) => return store(tile),
            };
            let Output::Bytes(output) = tile.output else {
                return store(tile);
            };
            let ends = Ends::new(tile.finish, tile.residual.map(|r| r.0));
            let vectors = tile.width / 16;
            assert!(tile.scale.len() >= tile.width && tile.sums.len() >= tile.width * tile.places.len());
            for (i, place) in tile.places.iter().enumerate() {
                let out = &mut output[place.output..][..tile.channels];
                let residual = tile.residual.map_or(std::ptr::null(), |(_, bytes)| {
                    bytes[place.residual..][..tile.channels].as_ptr()
                });
                // SAFETY: the lengths were looked at in the lines above.
                unsafe {
                    let mut sums = [_mm512_setzero_si512(); 4];
                    let from = tile.sums.as_ptr().add(i * tile.width);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        if j < vectors {
                            *sum = _mm512_loadu_si512(from.add(16 * j).cast());
                        }
                    }
                    let mut done = ends.bytes(sums, tile.scale.as_ptr(), residual, tile.channels, vectors);
                    if let Some(table) = &table {
                        done = table.look_up(done);
                    }
                    _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), bytes(tile.channels), done);
                }
            }
        }
    };
}

with_avx512!(
    with_avx512_vbmi,
    "avx512f,avx512bw,avx512vl,avx512vbmi",
    Table::new
);
with_avx512!(with_avx512, "avx512f,avx512bw,avx512vl", Slow);

/// A table without instructions for it.
struct Slow<'a>(&'a [u8; 256]);

impl Slow<'_> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn look_up(&self, values: __m512i) -> __m512i {
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
