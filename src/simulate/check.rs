//! What must hold in a simulated run, whatever goes wrong.
//!
//! The checker reads the same stream that a trace holds: what the core was
//! told, what it wanted, and what really happened on the line. It keeps an
//! account of its own and compares.
//!
//! Safety, after every step
//!  1. the core's own invariants hold and its counts are those of its entries;
//!  2. every part that really crosses the photo-eye is seen once, with its stamp, and
//!     nothing else is seen; no part number is used twice, also across restarts;
//!  3. a part is inspected by its own picture and its own recipe;
//!  4. its verdict is what its inspection says by that recipe, or `NoResult` when there
//!     was none in time; and it comes in time;
//!  5. it ends once, as its verdict says;
//!  6. what the core believes of it is true: confirmed parts are gone, parts verified as
//!     passed are there, rejected parts that stayed are not kept quiet;
//!  7. no good part is touched unless it is counted as collateral;
//!  8. the permit is off from every start and every stop until an acknowledge, and alarms
//!     that stop the belt do stop it;
//!  9. a jump of the encoder is noticed;
//! 10. no output is on for longer than its longest on-time;
//! 11. a part that the core does not follow is an alarm when the passed eye sees it, and stops the belt.
//!
//! Liveness, after the last fault: the line runs again, parts are judged by their
//! pictures, and when the belt is empty no part is left in the account.
//!
//! *Disturbed*: while a fault blinds a sensor or the process, or spoils position or
//! actuator, nobody can know what happens to the parts then on the belt. For them the
//! checks of 2, 6 and 7 that such a fault explains are not made. A failure is never
//! excused by a fault of another time.

mod account;
mod belief;
mod left;
mod same;
mod truth;

use super::faults::Fault;
use super::line::{PASS_FROM, PERMIT, REJECT_FROM};
use super::part::{TruthNote, Whereabouts};
use super::world::WorldFault;
use crate::config::{CheckAction, Config, OnFault, Trigger};
use crate::infer::inspection::Inspection;
use crate::station::Station;
use crate::station::event::*;
use crate::units::{FrameId, Instant, Micros, OutputId, PartId, RecipeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A part is seen at most this long after its edge has settled: delivery and debouncing.
const SEEN_WITHIN: Micros = Micros::from_millis(30);
/// A verdict is on record at most this long after its deadline.
const JUDGED_WITHIN: Micros = Micros::from_millis(10);
/// A wiped eye has come to rest within this.
const WIPED_WITHIN: Micros = Micros::from_millis(100);
/// A pressed button is an acknowledge within this.
const BUTTON_WITHIN: Micros = Micros::from_millis(100);
/// A jump of the encoder is an alarm within some samples.
const NOTICED_WITHIN: Micros = Micros::from_millis(40);
/// A line is off at most this long after its longest on-time.
const ON_SLACK: Micros = Micros::from_millis(2);
/// A disturbance still explains what happens this long after its end: falling parts, late reports.
const AFTERMATH: Micros = Micros::from_millis(700);
/// How long the alarm for a part that was not confirmed may take, after the part left the line.
const TOLD_WITHIN: Micros = Micros::from_secs(2);
/// Parts that have to be judged by their pictures after the last fault.
const JUDGED_AFTER_CALM: u32 = 3;

/// Something that must not happen happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub now: Instant,
    /// One word for the rule that was broken.
    pub rule: String,
    pub words: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.now.as_micros() as f64 / 1_000.0;
        write!(f, "at {ms:.3} ms, rule {}: {}", self.rule, self.words)
    }
}

impl Failure {
    pub fn panicked(now: Instant, panic: &(dyn std::any::Any + Send)) -> Failure {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string()))
            .unwrap_or_else(|| "a panic without words".into());
        Failure {
            now,
            rule: "invariants".into(),
            words,
        }
    }
}

impl Failure {
    pub fn stands_still(now: Instant) -> Failure {
        Failure {
            now,
            rule: "loop".into(),
            words: "the core asks to be called again without end".into(),
        }
    }
}

type Checked = Result<(), Failure>;

/// What a disturbance spoils.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoils {
    /// Triggers may be missing or without a part.
    PhotoEye,
    ChuteEye,
    PassedEye,
    /// Belt positions.
    Position,
    Actuator,
    /// The process or its outputs: nothing may be handled, nothing fired.
    Process,
    /// The belt stands, or runs down or up: a part under the reject falls some time before it
    /// would have got to its place, and the chute eye's time does not hold for it.
    Speed,
}

#[derive(Clone, Copy, Debug)]
struct Disturbance {
    spoils: Spoils,
    from: Instant,
    /// `None` while it lasts.
    to: Option<Instant>,
}

/// What really happened to a part.
#[derive(Clone, Copy, Debug)]
struct Real {
    crossed: Instant,
    /// The core's number for it.
    id: Option<PartId>,
    touched: Option<Instant>,
    gone: Option<(Whereabouts, Instant)>,
    settled: bool,
    /// By the encoder it was the part before it: the core cannot know of it.
    same: bool,
}

impl Real {
    fn new(crossed: Instant) -> Real {
        Real {
            crossed,
            id: None,
            touched: None,
            gone: None,
            settled: false,
            same: false,
        }
    }

    /// The core counts it as a part that begins at this stamp. Returns its number of before, which told
    /// another story: what happens to the part from here on is this one's.
    fn seen_as(&mut self, id: PartId, at: Instant) -> Option<PartId> {
        let before = self.id.replace(id);
        self.same = false;
        if before.is_some() || self.crossed != at {
            *self = Real {
                id: self.id,
                gone: self.gone,
                ..Real::new(at)
            };
        }
        before
    }
}

/// What the core said about a part.
#[derive(Clone, Copy, Debug)]
struct Known {
    number: Option<u64>,
    recipe: RecipeId,
    asked: Option<Instant>,
    /// What the inspection said, if it came before the deadline.
    said: Option<Said>,
    judged: Option<(Verdict, bool)>,
    ended: Option<(Fate, Instant)>,
}

/// The verdict an inspection stands for, reckoned without the core's judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Pass,
    Reject,
    Unsure,
    Fault,
}

pub struct Checker {
    config: Arc<Config>,
    alive: bool,
    started: Instant,
    counts: Counts,
    /// Nobody acknowledged since the permit went off.
    need_acknowledge: bool,
    /// When the button was pressed, or a command to acknowledge came, oldest first.
    presses: Vec<Instant>,
    permit: bool,
    recipe: RecipeId,
    real: BTreeMap<u64, Real>,
    /// Stamps at the photo-eye that were sensed while the core was alive.
    stamps: BTreeMap<Instant, u64>,
    /// Not seen yet, oldest first; and what the encoder had told when they crossed.
    unseen: BTreeMap<Instant, (u64, Option<i64>)>,
    told: same::Told,
    known: HashMap<PartId, Known>,
    /// Inspections under way, by deadline.
    deadlines: BTreeMap<(Instant, PartId), ()>,
    frames: HashMap<FrameId, Vec<(Blob, u64)>>,
    disturbances: Vec<Disturbance>,
    on_since: HashMap<OutputId, Instant>,
    /// When each alarm was last raised.
    alarms: HashMap<AlarmKind, Instant>,
    faults: u32,
    calm: Option<Instant>,
    judged_since_calm: u32,
    photo_stuck: bool,
    /// The encoder jumped then, and the core has not said so yet.
    jumped: Option<Instant>,
    /// Beginning of the pulse that ended in this step at its longest on-time.
    cut: Option<Instant>,
    /// A part fell while the belt ran down or up, too early for the chute eye's window.
    fell_early: bool,
    /// Parts that the core does not follow, at the passed eye: stamp and number, until it says so.
    unjudged: BTreeMap<Instant, u64>,
    /// Alarms that were raised and are not gone. One that stands is not raised anew.
    standing: BTreeSet<AlarmKind>,
    /// When the belt was pulled back first: parts cross the photo-eye again from then on.
    pulled_at: Option<Instant>,
    /// Since when the permit has been off.
    off_since: Instant,
    /// Rejected parts that stayed on the belt and whose alarm has not come yet: since when,
    /// and when they crossed the photo-eye.
    untold: Vec<(Instant, Instant, u64)>,
}

impl Checker {
    pub fn new(config: Arc<Config>) -> Checker {
        let recipe = config.station.recipe;
        Checker {
            config,
            alive: false,
            started: Instant::ZERO,
            counts: Counts::default(),
            need_acknowledge: true,
            presses: Vec::new(),
            permit: false,
            recipe,
            real: BTreeMap::new(),
            stamps: BTreeMap::new(),
            unseen: BTreeMap::new(),
            told: same::Told::default(),
            known: HashMap::new(),
            deadlines: BTreeMap::new(),
            frames: HashMap::new(),
            disturbances: Vec::new(),
            on_since: HashMap::new(),
            alarms: HashMap::new(),
            faults: 0,
            calm: None,
            judged_since_calm: 0,
            jumped: None,
            cut: None,
            fell_early: false,
            unjudged: BTreeMap::new(),
            pulled_at: None,
            standing: BTreeSet::new(),
            off_since: Instant::ZERO,
            photo_stuck: false,
            untold: Vec::new(),
        }
    }

    fn has_photo_eye(&self) -> bool {
        matches!(self.config.trigger, Trigger::PhotoEye { .. })
    }

    /// A core begins.
    pub fn started(&mut self, now: Instant, counts: &Counts) {
        self.alive = true;
        self.started = now;
        self.counts = *counts;
        self.need_acknowledge = true;
        self.permit = false;
        self.presses.clear();
        self.standing.clear();
        self.recipe = self.config.station.recipe;
        self.end_disturbance(now, Spoils::Process);
    }

    /// The process is gone; its parts in flight stay without an end of their own.
    pub fn died(&mut self, now: Instant) {
        self.alive = false;
        self.jumped = None;
        if self.permit {
            self.off_since = now;
        }
        self.permit = false;
        self.disturb(now, Spoils::Speed);
        self.unseen.clear();
        self.told = same::Told::default();
        self.unjudged.clear();
        self.deadlines.clear();
        self.frames.clear();
        self.disturb(now, Spoils::Process);
        // What was on the belt is unaccounted for the next process.
        for known in self.known.values_mut().filter(|k| k.ended.is_none()) {
            known.ended = Some((Fate::Unaccounted(Unaccounted::Restart), now));
        }
    }

    pub fn calm(&mut self, now: Instant) {
        self.calm = Some(now);
        // What waited for a next part does not come any more.
        for d in self.disturbances.iter_mut().filter(|d| d.to.is_none()) {
            if !matches!(d.spoils, Spoils::Process | Spoils::Speed) {
                d.to = Some(now);
            }
        }
    }

    /// The line is back: parts are judged by their pictures.
    pub fn has_recovered(&self) -> bool {
        self.judged_since_calm >= JUDGED_AFTER_CALM
    }

    /// Which part each blob of a frame really is.
    pub fn shown(&mut self, frame: FrameId, blobs: impl Iterator<Item = (Blob, u64)>) {
        self.frames.insert(frame, blobs.collect());
    }

    fn disturb(&mut self, from: Instant, spoils: Spoils) {
        self.disturbances.push(Disturbance {
            spoils,
            from,
            to: None,
        });
    }

    fn end_disturbance(&mut self, now: Instant, spoils: Spoils) {
        for d in self
            .disturbances
            .iter_mut()
            .filter(|d| d.spoils == spoils && d.to.is_none())
        {
            d.to = Some(now);
        }
    }

    fn disturb_until(&mut self, from: Instant, to: Instant, spoils: Spoils) {
        self.disturbances.push(Disturbance {
            spoils,
            from,
            to: Some(to),
        });
    }

    /// Whether something that spoils one of these overlapped `from..to`.
    fn disturbed(&self, from: Instant, to: Instant, by: &[Spoils]) -> bool {
        self.disturbances
            .iter()
            .any(|d| by.contains(&d.spoils) && d.from <= to && d.to.is_none_or(|end| end + AFTERMATH >= from))
    }

    pub fn fault(&mut self, now: Instant, fault: &Fault) {
        self.faults += 1;
        let sensor = |input: Input| match input {
            Input::PhotoEye(_) => Some(Spoils::PhotoEye),
            Input::ChuteEye => Some(Spoils::ChuteEye),
            Input::PassedEye => Some(Spoils::PassedEye),
            _ => None,
        };
        match *fault {
            Fault::World(fault) => match fault {
                WorldFault::StickSensor { input, level } => {
                    let Some(spoils) = sensor(input) else { return };
                    if spoils == Spoils::PhotoEye {
                        self.photo_stuck = level.is_some();
                    }
                    match level {
                        Some(_) => self.disturb(now, spoils),
                        None => self.end_disturbance(now, spoils),
                    }
                }
                // It waits for the next part, however long that takes.
                WorldFault::OverlookNextPart => self.disturb(now, Spoils::PhotoEye),
                WorldFault::OverlookAtPassedEye => self.disturb(now, Spoils::PassedEye),
                WorldFault::Slip { per_mille: 0 } => self.end_disturbance(now, Spoils::Position),
                WorldFault::Slip { .. } => self.disturb(now, Spoils::Position),
                WorldFault::StickActuator(Some(_)) => self.disturb(now, Spoils::Actuator),
                WorldFault::StickActuator(None) => self.end_disturbance(now, Spoils::Actuator),
                WorldFault::BounceNextPart { .. }
                | WorldFault::Blip { .. }
                | WorldFault::SetSpeed(_)
                | WorldFault::Runaway(_)
                | WorldFault::TakePart
                | WorldFault::ClearBelt
                | WorldFault::StopFeed(_)
                | WorldFault::Contact { .. }
                | WorldFault::CameraOff(_) => {}
                WorldFault::PullBack { .. } => {
                    self.pulled_at.get_or_insert(now);
                }
                // What the eye sees of the hand is no part.
                WorldFault::Wipe { input } => {
                    if let Some(spoils) = sensor(input) {
                        self.disturb_until(now, now + WIPED_WITHIN, spoils);
                    }
                }
                WorldFault::JumpEncoder { .. } => {
                    self.disturb_until(now, now + NOTICED_WITHIN, Spoils::Position);
                    if self.alive {
                        self.jumped.get_or_insert(now);
                    }
                }
            },
            Fault::LoseEdge { input, .. } => {
                if let Some(spoils) = sensor(input) {
                    self.disturb(now, spoils);
                }
            }
            Fault::StretchPulse => self.disturb(now, Spoils::Actuator),
            Fault::OutputsLost(true) => self.disturb(now, Spoils::Process),
            Fault::OutputsLost(false) => self.end_disturbance(now, Spoils::Process),
            Fault::Hang { length } => self.disturb_until(now, now + length, Spoils::Process),
            Fault::Crash { .. }
            | Fault::LateResults { .. }
            | Fault::FailNextInspection(_)
            | Fault::LoseFrames { .. }
            | Fault::DuplicateFrame
            | Fault::CameraLost(_)
            | Fault::Acknowledge
            | Fault::Changeover(_)
            | Fault::Trouble { .. } => {}
        }
    }
}

fn ended_by_restart(ended: Option<(Fate, Instant)>) -> bool {
    matches!(ended, Some((Fate::Unaccounted(_), _)))
}

fn fail(now: Instant, rule: &str, words: String) -> Checked {
    Err(Failure {
        now,
        rule: rule.into(),
        words,
    })
}

/// What an inspection stands for by the limits of a recipe.
fn said(recipe: RecipeId, result: &Result<Inspection, InspectFault>) -> Said {
    let Ok(Inspection {
        scores: Some(scores), ..
    }) = result
    else {
        return Said::Fault;
    };
    let i = usize::from(recipe.0);
    if scores[1..].iter().any(|&s| s >= REJECT_FROM[i]) {
        Said::Reject
    } else if scores[0] >= PASS_FROM[i] {
        Said::Pass
    } else {
        Said::Unsure
    }
}
