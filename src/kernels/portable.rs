//! Plain loops over channels that a compiler can vectorize: what runs where no kernel of an instruction set exists.

mod conv;
mod rest;

pub use conv::Conv;
pub use rest::{average_pool, bilinear, binary, dequantize, gather, max_pool, quantize};
