//! From a raw frame to a model's input.

pub mod frame;
