//! What a model needs to know about itself: the `manifest.toml` beside it.

use std::path::PathBuf;

/// A model as its manifest describes it, checked against the recipe's sha256.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    pub name: String,
    pub task: Task,
    pub file: ModelFile,
    /// Of the ONNX file; as pinned by the recipe.
    pub sha256: [u8; 32],
    /// Side of the square input in pixels.
    pub size: u32,
    pub input_name: String,
    /// x = (v - mean) / scale per channel, v in 0..=255, channels in `channels` order.
    pub mean: [f32; 3],
    pub scale: [f32; 3],
    pub channels: Channels,
    pub output_name: String,
    pub activation: Activation,
    pub labels: Vec<String>,
    /// Mask probability from which a pixel belongs to a defect.
    pub threshold: f32,
    /// How the picture is shrunk, as in training.
    pub filter: Filter,
    /// Multiply-accumulates of one inference, for `elek check`.
    pub macs: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFile {
    /// Compiled into the binary.
    Builtin(String),
    Path(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Classify,
    Segment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    Rgb,
    Bgr,
}

/// What is already in the graph; the rest is done after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Logits: softmax (classify, several mask classes) or sigmoid (one mask channel) is applied by elek.
    None,
    Softmax,
    Sigmoid,
}

/// Both widened by the shrink factor (antialiased).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Bilinear,
    /// Catmull-Rom, a = -0.5.
    Bicubic,
}
