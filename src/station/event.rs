//! What goes into the station core and what comes out of it.
//!
//! Everything here is plain data: it can be written to a trace, read back and
//! played again. Times are stamps taken where the thing happened, never the
//! time at which the event was delivered.

use crate::infer::inspection::Inspection;
use crate::units::{
    BeltPosition, CameraId, FrameId, Instant, LaneId, Length, Micros, OutputId, PartId, PulseId, RecipeId,
};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// Most blobs one frame reports; more are dropped smallest first by `vision::locate`.
pub const BLOBS_MAX: usize = 8;

/// An input of the station, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Input {
    PhotoEye(LaneId),
    ChuteEye,
    PassedEye,
    BinFull,
    AirLow,
    BeltRunning,
    Acknowledge,
}

/// Something that happened, with the stamp of when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A raw edge, not debounced. `active` is the level after the edge, polarity already applied.
    Edge {
        input: Input,
        active: bool,
        at: Instant,
    },
    /// The level of an input from which on its edges are told. Inputs of which nothing was told are inactive.
    Level {
        input: Input,
        active: bool,
        at: Instant,
    },
    /// Encoder reading: signed count since the device was opened.
    Encoder {
        lane: LaneId,
        counts: i64,
        at: Instant,
    },
    /// A frame was taken and its blobs located.
    Frame(FrameSeen),
    /// The camera stopped delivering (`true`) or delivers again (`false`).
    CameraLost {
        camera: CameraId,
        lost: bool,
    },
    /// What the models said about a part, answer to [`Action::Inspect`].
    Inspected {
        part: PartId,
        result: Result<Inspection, InspectFault>,
    },
    /// What the output process did with a pulse.
    Pulse {
        pulse: PulseId,
        report: PulseReport,
    },
    /// The output process is there and obeys (`true`) or is gone (`false`).
    OutputsReady(bool),
    /// A fault (or its end) reported by the runtime, which raises its alarm and acts as `Severity` says.
    Trouble {
        trouble: Trouble,
        present: bool,
    },
    Command(Command),
    /// Nothing but time passed: the answer to `next_deadline()`.
    Tick,
}

/// A frame as the core sees it: when, which, and what stands out in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameSeen {
    pub camera: CameraId,
    pub frame: FrameId,
    /// The driver's counter; a gap means lost frames.
    pub sequence: u32,
    /// Mid-exposure, `stamp.offset_us` already applied.
    pub mid_exposure: Instant,
    /// Size of the full picture in pixels; the expected place of a part is reckoned from its centre.
    pub width: u16,
    pub height: u16,
    pub blobs: ArrayVec<Blob, BLOBS_MAX>,
}

/// An object in a frame, in pixels of the full picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub x: u16,
    pub y: u16,
    pub width: u16,
    pub height: u16,
    /// Pixels that belong to the object.
    pub area_px: u32,
    /// The object touches the edge of the picture, so it is not seen whole.
    pub cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A person takes note of all alarms and lets the belt run.
    Acknowledge,
    /// From the next trigger on, parts belong to this recipe.
    Changeover(RecipeId),
    /// Permit off, coast, finish planned rejects; `Station::is_finished` tells when.
    Stop,
}

/// Why a part that should have been inspected was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InspectFault {
    /// The model failed on this picture.
    Model,
    /// No worker was free to take the job.
    Overload,
    /// The frame was gone before the job could read it.
    FrameGone,
    /// The frame could not be read as a picture (broken JPEG, wrong size).
    Picture,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PulseReport {
    /// The line went active at this instant.
    On { at: Instant },
    /// The line went back to inactive at this instant; the pulse is over.
    Off { at: Instant },
    /// Not carried out, and why.
    Refused(PulseRefusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PulseRefusal {
    /// `on_at` already lay too far in the past when the command arrived.
    TooLate,
    /// The pulse reached the line's longest on-time and was ended.
    MaxOnReached,
    /// The table of planned pulses is full.
    Full,
    /// `off_at` not after `on_at`, unknown line, or the like.
    Nonsense,
}

/// Trouble outside the core that the core has to react to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trouble {
    /// The ring file or journal cannot be written.
    Record,
    /// Free space is below `record.keep_free_percent` although passed pictures were deleted.
    DiskLow,
    /// The display cannot be drawn.
    Display,
    /// A bounded queue overflowed; the permit goes off (invariant 4).
    Queue,
    /// Input edges were lost by the driver, or a line flickers so fast that it says nothing.
    EdgesLost,
    /// Input lines cannot be read: their chip was removed or fails. The station is blind.
    LinesLost,
}

/// What the core wants done, in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Put on record before any later action of the same call is carried out.
    Record(Entry),
    /// Inspect a part in a frame; the answer is [`Event::Inspected`].
    Inspect(InspectJob),
    /// The frame will not be asked for again.
    Release { camera: CameraId, frame: FrameId },
    /// Fire at absolute times. A known `pulse` is replaced: before `on_at` both
    /// times may move, while the line is on only `off_at` may.
    Fire(PulsePlan),
    /// Forget a pulse that has not started.
    Cancel(PulseId),
    /// Hold a level: permit and beacon.
    Set { output: OutputId, active: bool },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InspectJob {
    pub part: PartId,
    pub camera: CameraId,
    pub frame: FrameId,
    /// `None` when the recipe looks at the whole picture and does not locate.
    pub blob: Option<Blob>,
    /// The recipe in force when the part crossed the photo-eye.
    pub recipe: RecipeId,
    /// A result after this instant is late.
    pub decide_by: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulsePlan {
    pub pulse: PulseId,
    pub output: OutputId,
    pub on_at: Instant,
    pub off_at: Instant,
}

/// What is known about one part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// Every `pass_if` rule holds and no `reject_if` rule does.
    Pass,
    Reject(Reason),
    /// Neither proven good nor bad; `otherwise` of the recipe acts.
    Unsure,
    /// There is no inspection to judge by; `late_result` of the recipe acts.
    NoResult(NoResult),
}

/// Which rule of `reject_if` held, and the value it saw. In words: `Recipe::explain`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Index into `Recipe::rules.reject_if`.
    pub rule: u8,
    pub measured: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NoResult {
    /// The inspection did not arrive by its deadline.
    Late,
    /// No frame showed the place where the part was.
    NoFrame,
    /// The frame showed nothing at the expected place.
    NotFound,
    /// Two candidates for one part, or two parts for one candidate.
    Ambiguous,
    /// Camera, model or outputs failed.
    Fault,
}

/// How a part ended; given exactly once per part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fate {
    /// Stayed on the belt as meant; `verified` by the passed eye.
    Passed { verified: bool },
    /// Rejected as meant, and seen by the chute eye.
    Confirmed,
    /// Rejected as meant, but not seen (no chute eye, or its edge is missing).
    Unconfirmed,
    /// A good part inside another part's pulse.
    Collateral,
    /// Meant to be rejected, seen on the belt after the rejecter.
    Escaped,
    /// Nobody can say where it is.
    Unaccounted(Unaccounted),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unaccounted {
    /// A good part did not reach the passed eye.
    Missing,
    /// The process ended while the part was on the belt.
    Restart,
    /// The encoder slipped or the belt was moved by hand: positions are void.
    LostPosition,
    /// More parts on the belt than the ledger holds.
    LedgerFull,
}

/// A line of the account. Written to the ring and the journal in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    Seen {
        part: PartId,
        lane: LaneId,
        at: Instant,
        position: BeltPosition,
        recipe: RecipeId,
    },
    Judged {
        part: PartId,
        verdict: Verdict,
        will_reject: bool,
        at: Instant,
        late: bool,
        margin: Micros,
    },
    Planned {
        part: PartId,
        pulse: PulseId,
        on_at: Instant,
        off_at: Instant,
    },
    Fired {
        pulse: PulseId,
        planned_on: Instant,
        actual_on: Instant,
        planned_off: Instant,
        actual_off: Instant,
    },
    Ended {
        part: PartId,
        fate: Fate,
        at: Instant,
    },
    /// A trigger or frame that belongs to nothing.
    Stray {
        stray: Stray,
        at: Instant,
    },
    Alarm {
        alarm: AlarmKind,
        raised: bool,
        at: Instant,
    },
    Acknowledged {
        at: Instant,
    },
    Changeover {
        recipe: RecipeId,
        at: Instant,
    },
    Permit {
        on: bool,
        at: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stray {
    /// A blob or a hardware-triggered frame that no trigger announced.
    FrameWithoutTrigger,
    /// An edge at the passed eye that no part explains.
    PassedEyeWithoutPart,
    /// An edge at the chute eye that no reject explains.
    ChuteEyeWithoutReject,
    /// A duplicate frame of the driver (same sequence number).
    DuplicateFrame,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    /// After start: nobody has acknowledged yet.
    AcknowledgeNeeded,
    /// Parts were on the belt when the process ended; see `Unaccounted`.
    PartsUnaccounted,
    RejectNotConfirmed,
    Escape,
    GoodPartMissing,
    BinFull,
    AirLow,
    ConsecutiveRejects,
    CameraLost,
    OutputsLost,
    LedgerFull,
    /// The result of an inspection came after its deadline.
    LateResult,
    /// The belt runs outside `belt.speed_mm_s`, or moves although the permit is off.
    BeltSpeed,
    /// The belt, or what the encoder counts, runs backward although the permit is on.
    BeltBackward,
    /// The encoder contradicts the sensors (slip) or stands still while parts pass.
    EncoderSlip,
    /// A pulse was refused or cut at its longest on-time.
    PulseFault,
    /// The camera or the passed eye saw a part that no trigger announced: nobody judged it.
    PartWithoutTrigger,
    /// A sensor is stuck (photo-eye, chute eye, passed eye covered too long).
    SensorStuck,
    Trouble(Trouble),
}

impl Fate {
    /// One word for journals and scripts.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Passed { .. } => "passed",
            Fate::Confirmed => "confirmed",
            Fate::Unconfirmed => "unconfirmed",
            Fate::Collateral => "collateral",
            Fate::Escaped => "escaped",
            Fate::Unaccounted(_) => "unaccounted",
        }
    }
}

/// The running account. `seen = passed + rejected + escaped + unaccounted + in_flight` (invariant 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub seen: u64,
    pub passed: u64,
    pub confirmed: u64,
    pub unconfirmed: u64,
    pub collateral: u64,
    pub escaped: u64,
    pub unaccounted: u64,
    pub in_flight: u64,
    /// Verdicts that missed their deadline (also counted in one of the above).
    pub late: u64,
}

impl Counts {
    pub fn rejected(&self) -> u64 {
        self.confirmed + self.unconfirmed + self.collateral
    }

    pub fn balances(&self) -> bool {
        self.seen == self.passed + self.rejected() + self.escaped + self.unaccounted + self.in_flight
    }

    pub fn end(&mut self, fate: Fate) {
        *match fate {
            Fate::Passed { .. } => &mut self.passed,
            Fate::Confirmed => &mut self.confirmed,
            Fate::Unconfirmed => &mut self.unconfirmed,
            Fate::Collateral => &mut self.collateral,
            Fate::Escaped => &mut self.escaped,
            Fate::Unaccounted(_) => &mut self.unaccounted,
        } += 1;
        self.in_flight -= 1;
    }
}

/// How much earlier than needed a verdict came; and the place of the part then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Margin {
    pub part: PartId,
    pub left: Micros,
    pub travel_left: Length,
}
