//! What the models said about one part. Plain data, no allocation.

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// Most classes a classifier may have to be judged by rules.
pub const CLASSES_MAX: usize = 32;
/// Most classes of a mask.
pub const MASK_CLASSES_MAX: usize = 8;
/// Most regions reported; the largest are kept, all are measured.
pub const REGIONS_MAX: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Score of each label after the output activation, in the order of the model's labels.
    /// `None` when the recipe has no classifier.
    pub scores: Option<ArrayVec<f32, CLASSES_MAX>>,
    /// `None` when no segmentation was run.
    pub defects: Option<Defects>,
    pub times: StageTimes,
}

/// What the mask shows, measured in real units.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Defects {
    /// One per mask label.
    pub classes: ArrayVec<ClassMeasure, MASK_CLASSES_MAX>,
    /// The largest regions of all classes, largest first.
    pub regions: ArrayVec<Region, REGIONS_MAX>,
}

/// All regions of one mask class together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassMeasure {
    pub count: u32,
    /// Sum over all regions.
    pub area_mm2: f32,
    /// Of the longest region.
    pub length_mm: f32,
    /// Largest probability anywhere.
    pub peak: f32,
}

/// A connected group of mask pixels of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub class: u8,
    pub area_mm2: f32,
    /// Longest extent.
    pub length_mm: f32,
    /// Bounding box in pixels of the full picture.
    pub x: u16,
    pub y: u16,
    pub width: u16,
    pub height: u16,
}

/// How long each stage took, in µs. Measured by the runtime; the core only passes them on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes {
    pub locate_us: u32,
    pub preprocess_us: u32,
    pub classify_us: u32,
    pub segment_us: u32,
    pub regions_us: u32,
}
