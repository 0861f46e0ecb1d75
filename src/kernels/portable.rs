//! Plain loops that a compiler can vectorize: what runs where no kernel of an instruction set exists.

mod binary;
mod blocks;
mod conv;
mod float;
mod spatial;

pub use binary::BinaryRows;
pub use conv::Conv;
pub use float::{DequantizeAll, QuantizeRows};
pub use spatial::{AveragePoolRows, BilinearRows, GatherRows, MaxPoolRows};
