//! Plain loops that a compiler can vectorize: what runs where no kernel of an instruction set exists.

mod conv;
mod float;
mod rest;

pub use conv::Conv;
pub use float::{DequantizeAll, QuantizeRows};
pub use rest::{AveragePoolRows, BilinearRows, BinaryRows, GatherRows, MaxPoolRows};
