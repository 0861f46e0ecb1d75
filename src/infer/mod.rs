//! Models: loading and checking them, and running them behind one small interface.

pub mod builtin;
pub mod inspection;
pub mod manifest;
