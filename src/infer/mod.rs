//! Models: loading and checking them, and running them behind one small interface.
//!
//! | file | duty |
//! |---|---|
//! | [`manifest`] | what a model file is, by the `manifest.toml` beside it; hashes |
//! | [`builtin`] | the models compiled in |
//! | [`sandbox`] | first contact with a file from outside, in a child process |
//! | [`graph`] | reads and checks the ONNX graph, counts its work |
//! | `front` | graphs with the channels last, turned |
//! | [`engine`] | runs it: u8 RGB in, scores or probabilities out |
//! | [`int8`] | what is quantized, lowered to integer kernels |
//! | `rounding` | quantizes as ONNX says, where tract does not |
//! | [`regions`] | probabilities to defect regions in mm² and mm |
//! | [`inspector`] | frame to [`inspection::Inspection`]: classify, segment when needed |

pub mod builtin;
pub mod engine;
mod front;
pub mod graph;
pub mod inspection;
pub mod inspector;
pub mod int8;
pub mod manifest;
pub mod regions;
mod rounding;
pub mod sandbox;
