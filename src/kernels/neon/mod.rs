//! Kernels for 64-bit ARM: NEON, and NEON with the dot product instructions.

mod depthwise;
mod dot;
mod mlal;
mod store;

use super::gemm::{Tiles, lane_by_lane};

pub static DOT: Tiles = Tiles {
    lanes: 4,
    rows: dot::ROWS,
    sums: dot::SUMS,
    slot: lane_by_lane,
    signed: true,
    careful: None,
    store: store::store,
};

pub static NEON: Tiles = Tiles {
    sums: mlal::SUMS,
    careful: Some(&NEON_CAREFUL),
    ..CAREFUL
};

static NEON_CAREFUL: Tiles = CAREFUL;

const CAREFUL: Tiles = Tiles {
    lanes: 8,
    rows: mlal::ROWS,
    sums: mlal::CAREFUL_SUMS,
    slot: mlal::slot,
    signed: true,
    careful: None,
    store: store::store,
};

pub use depthwise::STRIPS;
