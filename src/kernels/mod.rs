//! Code that depends on the processor. One of the two homes of `unsafe`.

pub mod isa;
