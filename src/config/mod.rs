//! The valid configuration: whatever exists here has been checked (invariant 11).
//!
//! ```text
//! file → load → raw (the TOML tree with places) → validate ─┬→ Config → arithmetic ─┬→ Config
//!                                                            └→ diagnostic            └→ diagnostic
//! ```
//! `load` reads the file, `raw` walks its spanned tree, `validate` turns it into
//! the types below, `arithmetic` finds what cannot work although every value is
//! in range. All problems are collected and shown at once by `diagnostic`, with
//! file, line, column, caret and what to do.

pub mod arithmetic;
mod diagnostic;
mod load;
mod panel;
mod raw;
#[cfg(test)]
mod tests;
mod validate;

pub use diagnostic::{Problem, Report};
pub use load::{Checked, check_file, check_text, load, parse, parse_with, schema_of};
pub use panel::{Panel, PanelBus, PanelDriver, PanelLine, Rotation};
pub use validate::{Resolve, SCHEMA};

use crate::infer::manifest::ModelInfo;
use crate::station::judge::Rules;
use crate::units::{LaneId, Length, Micros, OutputId, RecipeId, Speed};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The commented file that `elek config default` prints: the simulated line of
/// `elek demo` with the built-in models.
pub const DEFAULT: &str = include_str!("default.toml");

/// A checked configuration. Ids index into its lists.
#[derive(Clone, Debug)]
pub struct Config {
    pub station: Station,
    pub belt: Belt,
    pub trigger: Trigger,
    /// One for now; `CameraId` indexes it.
    pub cameras: Vec<Camera>,
    pub reject: Reject,
    pub verify: Verify,
    /// At least one; `RecipeId` indexes it.
    pub recipes: Vec<Arc<Recipe>>,
    /// Every output line, whatever uses it; `OutputId` indexes it.
    pub outputs: Vec<OutputLine>,
    pub inference: Inference,
    pub record: Record,
    pub display: Display,
    /// Where relative paths of the file start.
    pub base: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Station {
    pub id: String,
    /// Recipe in force at start.
    pub recipe: RecipeId,
    pub on_fault: OnFault,
    pub acknowledge: Option<InputLine>,
    /// Turns the pages of `display.panel`; nothing of it reaches the core.
    pub page: Option<InputLine>,
    pub beacon: Option<OutputId>,
    /// The board's watchdog, where the service manager does not feed it.
    pub watchdog: Option<PathBuf>,
}

/// What a fault without an action of its own does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    StopBelt,
    Alarm,
}

/// What to do when a check fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckAction {
    StopBelt,
    Alarm,
}

#[derive(Clone, Debug)]
pub struct Belt {
    pub lane: LaneId,
    pub speed_min: Speed,
    pub speed_max: Speed,
    pub permit: OutputId,
    /// Required with `Motion::Time`.
    pub running: Option<InputLine>,
    /// Travel after permit off.
    pub coast: Length,
    pub motion: Motion,
}

/// How the belt position is known.
#[derive(Clone, Debug)]
pub enum Motion {
    Encoder {
        counts_per_mm: f64,
        /// It counts down while the belt runs forward.
        reverse: bool,
        source: EncoderSource,
    },
    /// Constant speed whenever the `running` input is active.
    Time { speed: Speed },
}

#[derive(Clone, Debug)]
pub enum EncoderSource {
    Simulated,
    Counter(PathBuf),
    Lines { a: InputLine, b: Option<InputLine> },
}

/// What announces a part.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// Edge of a photo-eye; belt position zero of a part.
    PhotoEye { line: InputLine, stable: Micros },
    /// No photo-eye: the camera runs freely and each object seen whole is a part, once.
    Vision,
}

/// An input line. The chip `sim` is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputLine {
    /// Label, name (`gpiochip0`) or path of the chip.
    pub chip: String,
    pub name: LineName,
    pub active_low: bool,
    pub bias: Bias,
}

/// Which line of a chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineName {
    Name(String),
    /// Its number on the chip, for chips whose lines have no names.
    Offset(u32),
}

impl From<&str> for LineName {
    fn from(name: &str) -> LineName {
        LineName::Name(name.to_owned())
    }
}

impl fmt::Display for LineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineName::Name(name) => f.write_str(name),
            LineName::Offset(offset) => write!(f, "number {offset}"),
        }
    }
}

/// What holds an input line that nothing drives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bias {
    /// Left as the chip has it.
    #[default]
    Kept,
    PullUp,
    PullDown,
    Disabled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLine {
    /// Label, name (`gpiochip0`) or path of the chip.
    pub chip: String,
    pub name: LineName,
    pub active_low: bool,
    /// The logical level in the safe state.
    pub safe_on: bool,
    /// Longest time active; enforced by the output process. `None` for held levels.
    pub max_on: Option<Micros>,
}

#[derive(Clone, Debug)]
pub struct Camera {
    pub name: String,
    pub um_per_px: f64,
    pub belt_axis: BeltAxis,
    /// Photo-eye to picture centre.
    pub distance: Length,
    /// Mid-exposure minus driver stamp.
    pub stamp_offset: Micros,
    pub stamp_jitter: Micros,
    pub retry: Micros,
    pub stop_after: Micros,
    pub mode: CameraMode,
    pub locate: Locate,
    /// For `elek check`: blur. Zero where it is not known.
    pub exposure: Micros,
    /// For `elek check`: first to last row of a rolling shutter; `None` = global shutter.
    pub readout: Option<Micros>,
    pub source: CameraSource,
}

/// Direction of travel in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeltAxis {
    PlusX,
    MinusX,
    PlusY,
    MinusY,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameraMode {
    /// Frames come on the camera's own beat; matched by place at mid-exposure.
    FreeRunning { fps_milli: u32 },
    /// n-th trigger = n-th frame.
    Triggered,
}

#[derive(Clone, Debug)]
pub enum CameraSource {
    Simulated(SimulatedSource),
    Folder(FolderSource),
    V4l2(V4l2Source),
}

/// The built-in line: rendered parts on a simulated belt.
#[derive(Clone, Debug)]
pub struct SimulatedSource {
    pub seed: u64,
    pub parts_per_s: f64,
    /// Share of parts with a defect, 0 to 1.
    pub defective: f64,
    pub format: PictureFormat,
}

/// Pictures of a folder replayed as frames; belt, sensors and reject simulated.
#[derive(Clone, Debug)]
pub struct FolderSource {
    pub path: PathBuf,
    pub parts_per_s: f64,
    /// Start again after the last picture.
    pub repeat: bool,
}

#[derive(Clone, Debug)]
pub struct V4l2Source {
    pub device: PathBuf,
    pub format: PictureFormat,
    pub exposure_us: u32,
    /// `false`: the camera's exposure is set in another way; `exposure_us` only says how long it is.
    pub set_exposure: bool,
    pub gain: Option<i32>,
    pub power_line: Option<PowerLine>,
    /// Further controls, in the order of the file.
    pub controls: Vec<ControlSetting>,
}

/// Frequency of the mains, which makes lamps flicker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerLine {
    Off,
    Hz50,
    Hz60,
}

/// A control of the camera by name or by number (`0x…`), and what it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSetting {
    pub name: String,
    pub value: ControlValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlValue {
    Number(i64),
    Flag(bool),
    /// An item of a menu.
    Word(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureFormat {
    pub pixels: crate::vision::frame::PixelFormat,
    pub width: u32,
    pub height: u32,
    pub fps_milli: u32,
}

#[derive(Clone, Debug)]
pub struct Reject {
    pub name: String,
    pub output: OutputId,
    /// Photo-eye to the middle of the reject.
    pub distance: Length,
    pub footprint: Length,
    pub lag_on: Micros,
    pub lag_off: Micros,
    pub lag_spread: Micros,
    pub max_on: Micros,
}

#[derive(Clone, Debug, Default)]
pub struct Verify {
    pub chute: Option<ChuteEye>,
    pub passed: Option<PassedEye>,
    pub bin_full: Option<Interlock>,
    pub air_low: Option<Interlock>,
    pub consecutive_rejects: Option<ConsecutiveRejects>,
}

#[derive(Clone, Debug)]
pub struct ChuteEye {
    pub line: InputLine,
    pub after_min: Micros,
    pub after_max: Micros,
    pub missing: CheckAction,
}

#[derive(Clone, Debug)]
pub struct PassedEye {
    pub line: InputLine,
    pub distance: Length,
    /// Half-width of the place at which a part is expected.
    pub window: Length,
    pub reject_seen: CheckAction,
    pub good_missing: CheckAction,
}

#[derive(Clone, Debug)]
pub struct Interlock {
    pub line: InputLine,
    pub hold: Micros,
    pub action: CheckAction,
}

#[derive(Clone, Copy, Debug)]
pub struct ConsecutiveRejects {
    pub count: u32,
    pub action: CheckAction,
}

/// All that changes with the product.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub name: String,
    pub part_min: Length,
    pub part_max: Length,
    pub gap_min: Length,
    /// Behind the leading edge; negative = ahead of it.
    pub aim: Length,
    pub pulse_margin: Length,
    pub pulse_min: Micros,
    pub crop: Crop,
    pub classify: Option<Arc<ModelInfo>>,
    pub segment: Option<Arc<ModelInfo>>,
    pub rules: Rules,
    pub otherwise: Otherwise,
    /// `true`: a part without a result in time is rejected (the default).
    pub late_reject: bool,
    /// Mid-exposure to verdict.
    pub decide_within: Micros,
}

impl Recipe {
    /// Smallest distance from leading edge to leading edge.
    pub fn pitch_min(&self) -> Length {
        self.part_min + self.gap_min
    }
}

/// How parts stand out from the belt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locate {
    pub contrast: Contrast,
    /// Fixed luma threshold; `None` = chosen per frame (Otsu).
    pub threshold: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contrast {
    PartBrighter,
    PartDarker,
}

/// What of the picture the models see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crop {
    /// A square around the located part, one scale in x and y.
    Part { margin: Length },
    /// The whole picture.
    Picture { fit: Fit },
}

/// How a whole picture becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Both sides scaled on their own: areas and lengths are not to scale, so limits in mm are refused.
    Stretch,
    /// Longer side fits, the rest is filled with 0.
    Letterbox,
    /// Shorter side fits, the rest is cut off at both ends alike.
    Cover,
}

/// What happens with an `Unsure` part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Otherwise {
    pub reject: bool,
    pub keep_picture: bool,
}

/// How models are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inference {
    /// Threads that share one inference.
    pub threads: usize,
}

impl Default for Inference {
    fn default() -> Self {
        Inference { threads: 1 }
    }
}

#[derive(Clone, Debug)]
pub struct Record {
    pub path: PathBuf,
    pub rejected: Keep,
    pub passed: Keep,
    pub keep_free_percent: u8,
}

/// Which pictures are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    All,
    None,
    OneIn(u32),
}

#[derive(Clone, Debug)]
pub struct Display {
    /// Of the picture in `png`; a framebuffer has a size of its own.
    pub width: u32,
    pub height: u32,
    /// The status is drawn on this device, `/dev/fb0`.
    pub framebuffer: Option<PathBuf>,
    /// A small panel on SPI or I²C, with pages of its own.
    pub panel: Option<Panel>,
    /// The text console that shares the framebuffer and is silenced meanwhile.
    pub console: Option<PathBuf>,
    /// A PNG is written here when the picture changes, at most once a second.
    pub png: Option<PathBuf>,
}
