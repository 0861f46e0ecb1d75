//! A snapshot of the station for people: what the display draws and `elek status` prints.

use crate::station::event::{AlarmKind, Counts, Fate, Verdict};
use crate::units::{Instant, Micros, PartId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub station: String,
    pub recipe: String,
    pub state: State,
    pub permit: bool,
    pub counts: Counts,
    /// Parts that went past the passed eye without a verdict since the start; no part of `counts`,
    /// because the photo-eye did not announce them to this station.
    #[serde(default)]
    pub unjudged: u64,
    /// Parts that crossed the photo-eye per minute, over the last minute.
    pub parts_per_min: f32,
    /// Share of ended parts rejected, over the last 200 parts, 0 to 1.
    pub reject_rate: f32,
    pub belt_mm_s: f32,
    pub last: Option<LastPart>,
    pub last_reject: Option<LastReject>,
    pub margin: Option<TimingMargin>,
    /// How late output lines changed since the start; `None` before the first change.
    #[serde(default)]
    pub outputs: Option<OutputTimes>,
    /// Unacknowledged or present, most severe first.
    pub alarms: Vec<AlarmLine>,
    /// Whether a passed eye proves that good parts went on.
    pub passed_verified: bool,
    pub uptime: Micros,
    pub at: Instant,
}

/// What the station does, in one word for two metres' distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Permit off, waiting for a person to acknowledge.
    Waiting,
    Running,
    /// Permit just went off; parts on the coasting belt are still tracked.
    Coasting,
    /// Permit off because of an alarm.
    Stopped,
    /// SIGTERM received: finishing planned rejects.
    Ending,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastPart {
    pub part: PartId,
    pub verdict: Verdict,
    /// In words: "scratch 0.93, limit 0.60".
    pub words: String,
    pub fate: Option<Fate>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastReject {
    pub part: PartId,
    /// In words.
    pub reason: String,
    /// Small RGB picture of the part with the defect drawn on.
    #[serde(skip)]
    pub picture: Option<std::sync::Arc<Thumbnail>>,
    pub at: Instant,
}

/// RGB, 3 bytes a pixel, no padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
}

/// Time left between verdict and the last moment to plan its reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimingMargin {
    pub last: Micros,
    /// Smallest of the last 200 parts.
    pub smallest: Micros,
}

/// Actual minus planned, of all changes of output lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTimes {
    pub changes: u64,
    pub p50: Micros,
    pub p99: Micros,
    pub max: Micros,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmLine {
    pub kind: AlarmKind,
    /// What happened, for the technician.
    pub text: String,
    /// What to do about it.
    pub advice: String,
    /// The cause is still there (an acknowledge alone will not help).
    pub present: bool,
    /// It keeps the permit off.
    #[serde(default)]
    pub stops: bool,
    pub since: Instant,
}
