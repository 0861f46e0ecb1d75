//! elek: a reject station for conveyors in one binary.
//!
//! The modules in the order a part meets them; `units` and `config` come first
//! because everything speaks in them.

pub mod cli;
pub mod config;
pub mod device;
pub mod infer;
pub mod outputs;
pub mod simulate;
pub mod station;
pub mod status;
pub mod units;
pub mod vision;
