//! The shape of all kernels for tiles: straight lines of instructions, written once for every instruction set.

/// A function that makes the sums of `ROWS` pixels and `VECTORS` vectors of output channels in registers.
macro_rules! tile {
    ($name:ident, $features:literal, $lanes:literal,
     $load:ident, $store:ident, $zero:ident, $weights:ident, $no_weights:ident, $spread:ident, $dot:ident) => {
        /// # Safety
        /// See [`Sums`].
        #[target_feature(enable = $features)]
        unsafe fn $name<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
            let mut sums = [[$zero(); 4]; 16];
            let mut weights = tile.weights;
            // SAFETY: the tile is as its fields say, so all that is read and written here is there, and its weights,
            // biases and sums begin on a boundary of 64 bytes: $load, $store and $weights want that of their vector.
            unsafe {
                let mut bias = [$zero(); 4];
                macro_rules! load_bias {
                    ($i:tt $j:tt) => { bias[$j] = $load(tile.bias.add($j * $lanes).cast()) };
                }
                each_vector!(VECTORS, load_bias 0);
                macro_rules! begin {
                    ($i:tt) => { sums[$i] = bias };
                }
                each_row!(ROWS, begin);
                for tap in 0..tile.taps {
                    let pointers = tile.pointers.add(tap * tile.step);
                    let mut from = [std::ptr::null::<u8>(); 16];
                    macro_rules! point {
                        ($i:tt) => { from[$i] = (*pointers.add($i)).add(tile.offset) };
                    }
                    each_row!(ROWS, point);
                    for quad in 0..tile.quads {
                        let mut w = [$no_weights(); 4];
                        macro_rules! load_weights {
                            ($i:tt $j:tt) => { w[$j] = $weights(weights.add($j * $lanes * 4).cast()) };
                        }
                        each_vector!(VECTORS, load_weights 0);
                        weights = weights.add(VECTORS * $lanes * 4);
                        macro_rules! row {
                            ($i:tt) => {
                                let values = $spread(from[$i].add(quad * 4).cast::<i32>().read_unaligned());
                                macro_rules! multiply {
                                    ($ii:tt $j:tt) => { sums[$ii][$j] = $dot(sums[$ii][$j], values, w[$j]) };
                                }
                                each_vector!(VECTORS, multiply $i);
                            };
                        }
                        each_row!(ROWS, row);
                    }
                }
                macro_rules! store_row {
                    ($i:tt) => {
                        macro_rules! store {
                            ($ii:tt $j:tt) => {
                                $store(tile.sums.add(($ii * VECTORS + $j) * $lanes).cast(), sums[$ii][$j])
                            };
                        }
                        each_vector!(VECTORS, store $i);
                    };
                }
                each_row!(ROWS, store_row);
            }
        }
    };
}

/// The kernels of one number of vectors, by rows.
macro_rules! by_rows {
    ($name:ident, $vectors:literal: $($rows:literal)*) => {
        &[$($name::<$rows, $vectors>),*]
    };
}

pub(super) use {by_rows, tile};
