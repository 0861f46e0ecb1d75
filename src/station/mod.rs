//! The station core: a deterministic machine without clock, file or thread
//! (invariant 7). Events with their stamps go in, actions come out.

pub mod event;
pub mod judge;
