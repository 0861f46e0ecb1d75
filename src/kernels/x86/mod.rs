//! Kernels for x86-64: AVX2, AVX-VNNI, AVX512-VNNI.

mod avx2;
mod binary;
mod depthwise256;
mod depthwise512;
mod finish;
mod finish256;
mod store;
mod tile;
mod vnni;

use super::gemm::{Tiles, lane_by_lane};

pub use binary::{with_avx512 as binary_avx512, with_avx512_vbmi as binary_avx512_vbmi};
pub use depthwise256::STRIPS as AVX2_STRIPS;
pub use depthwise512::{STRIPS as AVX512_STRIPS, STRIPS_VBMI as AVX512_VBMI_STRIPS};

pub const AVX512_VNNI: Tiles = Tiles {
    lanes: 16,
    rows: vnni::ROWS_512,
    sums: vnni::SUMS_512,
    slot: lane_by_lane,
    signed: false,
    careful: None,
    store: store::with_avx512,
};

pub static AVX512_VNNI_VBMI: Tiles = Tiles {
    store: store::with_avx512_vbmi,
    ..AVX512_VNNI
};

pub static AVX_VNNI: Tiles = Tiles {
    lanes: 8,
    rows: vnni::ROWS_256,
    sums: vnni::SUMS_256,
    slot: lane_by_lane,
    signed: false,
    careful: None,
    store: finish256::with_avx2,
};

pub static AVX2: Tiles = Tiles {
    lanes: 8,
    rows: avx2::ROWS,
    sums: avx2::SUMS,
    slot: avx2::slot,
    signed: false,
    careful: None,
    store: finish256::with_avx2,
};
