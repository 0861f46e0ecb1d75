//! elek: a reject station for conveyors in one binary.
//!
//! The modules in the order a part meets them; `units`, `config` and `queue`
//! come first because everything speaks in them or through them.

pub mod units;

pub mod config;

pub mod queue;

pub mod device;

pub mod vision;

pub mod kernels;

pub mod infer;

pub mod station;

pub mod outputs;

pub mod record;

pub mod status;

pub mod display;

pub mod control;

pub mod service;

pub mod runtime;

pub mod simulate;

pub mod cli;
