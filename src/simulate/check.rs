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
//! 10. no output is on for longer than its longest on-time.
//!
//! Liveness, after the last fault: the line runs again, parts are judged by their
//! pictures, and when the belt is empty no part is left in the account.
//!
//! *Disturbed*: while a fault blinds a sensor or the process, or spoils position or
//! actuator, nobody can know what happens to the parts then on the belt. For them the
//! checks of 2, 6 and 7 that such a fault explains are not made. A failure is never
//! excused by a fault of another time.

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
use std::collections::{BTreeMap, HashMap};
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
    /// Not seen yet, oldest first.
    unseen: BTreeMap<Instant, u64>,
    known: HashMap<PartId, Known>,
    /// Inspections under way, by deadline.
    deadlines: BTreeMap<(Instant, PartId), ()>,
    frames: HashMap<FrameId, Vec<(Blob, u64)>>,
    disturbances: Vec<Disturbance>,
    on_since: HashMap<OutputId, Instant>,
    /// When each alarm was last raised or repeated.
    alarms: HashMap<AlarmKind, Instant>,
    faults: u32,
    calm: Option<Instant>,
    judged_since_calm: u32,
    photo_stuck: bool,
    /// The encoder jumped then, and the core has not said so yet.
    jumped: Option<Instant>,
    /// The alarm for a jump stands, not yet acknowledged.
    slip_stands: bool,
    /// Beginning of the pulse that ended in this step at its longest on-time.
    cut: Option<Instant>,
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
            slip_stands: false,
            cut: None,
            off_since: Instant::ZERO,
            photo_stuck: false,
            untold: Vec::new(),
        }
    }

    fn has_photo_eye(&self) -> bool {
        matches!(self.config.trigger, Trigger::PhotoEye { .. })
    }

    // ---- what happens around the core -------------------------------------------------

    /// A core begins.
    pub fn started(&mut self, now: Instant, counts: &Counts) {
        self.alive = true;
        self.started = now;
        self.counts = *counts;
        self.need_acknowledge = true;
        self.permit = false;
        self.presses.clear();
        self.slip_stands = false;
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

    // ---- what really happens on the line ----------------------------------------------

    pub fn truth(&mut self, note: &TruthNote) -> Checked {
        match *note {
            TruthNote::Crossed { part, at, sensed } => {
                let real = Real {
                    crossed: at,
                    id: None,
                    touched: None,
                    gone: None,
                    settled: false,
                };
                self.real.insert(part.number, real);
                // Overlooked, as announced; a sensor that is stuck stays so.
                if !sensed && !self.photo_stuck {
                    self.end_disturbance(at, Spoils::PhotoEye);
                }
                if sensed && self.alive && self.has_photo_eye() {
                    self.stamps.insert(at, part.number);
                    self.unseen.insert(at, part.number);
                }
                Ok(())
            }
            TruthNote::Touched { number, at } => {
                if let Some(real) = self.real.get_mut(&number) {
                    real.touched = Some(at);
                }
                Ok(())
            }
            TruthNote::Removed { number, at } => self.gone(number, Whereabouts::Removed, at),
            TruthNote::Passed { number, at } => self.gone(number, Whereabouts::Passed, at),
            TruthNote::Taken { number, at } => self.gone(number, Whereabouts::Taken, at),
            TruthNote::Line { output, active, at } => self.line(output, active, at),
        }
    }

    fn gone(&mut self, number: u64, whereabouts: Whereabouts, at: Instant) -> Checked {
        let Some(real) = self.real.get_mut(&number) else {
            return Ok(());
        };
        real.gone = Some((whereabouts, at));
        self.settle(number, at)
    }

    fn line(&mut self, output: OutputId, active: bool, at: Instant) -> Checked {
        if active {
            self.on_since.entry(output).or_insert(at);
            return Ok(());
        }
        match self.on_since.remove(&output) {
            Some(since) => self.on_time(output, since, at),
            None => Ok(()),
        }
    }

    fn on_time(&self, output: OutputId, since: Instant, now: Instant) -> Checked {
        let max = self
            .config
            .outputs
            .get(usize::from(output.0))
            .and_then(|line| line.max_on);
        let on_for = now.since(since);
        match max {
            Some(max) if on_for > max + ON_SLACK => fail(
                now,
                "on-time",
                format!("output {output} was on for {on_for}, longest {max}"),
            ),
            _ => Ok(()),
        }
    }

    // ---- what the core does -----------------------------------------------------------

    /// The core handled an event. `station` is `None` when it died while doing so.
    pub fn handled(
        &mut self,
        now: Instant,
        event: &Event,
        actions: &[Action],
        station: Option<&Station>,
    ) -> Checked {
        self.before(now, event);
        self.cut = None;
        for action in actions {
            match action {
                Action::Record(entry) => self.entry(now, entry)?,
                Action::Inspect(job) => self.inspect(now, job)?,
                Action::Set {
                    output: PERMIT,
                    active,
                } => self.set_permit(now, *active)?,
                Action::Fire(_) | Action::Cancel(_) | Action::Set { .. } | Action::Release { .. } => {}
            }
        }
        let Some(station) = station else { return Ok(()) };
        self.stops(now, actions)?;
        if station.counts() != self.counts {
            let words = format!(
                "counts {:?}, its entries give {:?}",
                station.counts(),
                self.counts
            );
            return fail(now, "counts", words);
        }
        self.overdue(now)?;
        self.told(now)?;
        for (&output, &since) in &self.on_since {
            self.on_time(output, since, now)?;
        }
        Ok(())
    }

    fn before(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Inspected { part, result } => {
                if let Some(known) = self.known.get_mut(part)
                    && known.judged.is_none()
                    && known.asked.is_some_and(|decide_by| now <= decide_by)
                {
                    known.said = Some(said(known.recipe, result));
                }
            }
            Event::Command(Command::Acknowledge)
            | Event::Edge {
                input: Input::Acknowledge,
                active: true,
                ..
            } => self.presses.push(now),
            // Already alarmed and not yet acknowledged, it is not raised anew.
            Event::Encoder { at, .. } if self.slip_stands => {
                self.jumped = self.jumped.filter(|jump| at < jump);
            }
            Event::Command(Command::Changeover(recipe)) => self.recipe = *recipe,
            _ => {}
        }
    }

    fn entry(&mut self, now: Instant, entry: &Entry) -> Checked {
        match *entry {
            Entry::Seen { part, at, recipe, .. } => self.seen(now, part, at, recipe),
            Entry::Judged {
                part,
                verdict,
                will_reject,
                late,
                ..
            } => {
                self.counts.late += u64::from(late);
                self.judged(now, part, verdict, will_reject)
            }
            Entry::Ended { part, fate, .. } => self.ended(now, part, fate),
            Entry::Alarm {
                alarm, raised: true, ..
            } => {
                self.alarms.insert(alarm, now);
                if alarm == AlarmKind::EncoderSlip {
                    self.jumped = None;
                    self.slip_stands = true;
                }
                self.only_with_faults(now, alarm)
            }
            Entry::Alarm {
                alarm: AlarmKind::EncoderSlip,
                raised: false,
                ..
            } => {
                self.slip_stands = false;
                Ok(())
            }
            Entry::Fired {
                actual_on,
                actual_off,
                ..
            } => {
                let longest = actual_off.since(actual_on) + ON_SLACK >= self.config.reject.max_on;
                self.cut = longest.then_some(actual_on);
                Ok(())
            }
            // A button counts when it has come to rest, and that may be after a stop.
            Entry::Acknowledged { .. } => {
                let mut presses = std::mem::take(&mut self.presses);
                presses.retain(|&at| {
                    now.since(at) < BUTTON_WITHIN || self.disturbed(at, now, &[Spoils::Process])
                });
                if !presses.is_empty() {
                    presses.remove(0);
                    self.need_acknowledge = false;
                }
                self.presses = presses;
                Ok(())
            }
            Entry::Permit { on, .. } if on && self.need_acknowledge => fail(
                now,
                "permit",
                "permit recorded as on before an acknowledge".into(),
            ),
            _ => Ok(()),
        }
    }

    /// On a line without any fault nothing is wrong, so nothing may be said to be.
    fn only_with_faults(&self, now: Instant, alarm: AlarmKind) -> Checked {
        let ordinary = matches!(
            alarm,
            AlarmKind::AcknowledgeNeeded | AlarmKind::ConsecutiveRejects | AlarmKind::PartsUnaccounted
        );
        // The belt was stopped under a pulse, and the pulse really reached its longest on-time.
        let stopped = |on: Instant| self.disturbed(on, now, &[Spoils::Speed]);
        let ordinary = ordinary || (alarm == AlarmKind::PulseFault && self.cut.is_some_and(stopped));
        if self.faults == 0 && !ordinary {
            return fail(now, "false-alarm", format!("{alarm:?} on a line without a fault"));
        }
        Ok(())
    }

    fn seen(&mut self, now: Instant, id: PartId, at: Instant, recipe: RecipeId) -> Checked {
        self.counts.seen += 1;
        self.counts.in_flight += 1;
        if self.known.contains_key(&id) {
            return fail(now, "number-reused", format!("part {id} was seen before"));
        }
        if recipe != self.recipe {
            let words = format!("part {id} got recipe {recipe}, in force is {}", self.recipe);
            return fail(now, "recipe", words);
        }
        let mut known = Known {
            number: None,
            recipe,
            asked: None,
            said: None,
            judged: None,
            ended: None,
        };
        if self.has_photo_eye() {
            known.number = self.stamps.remove(&at);
            self.unseen.remove(&at);
            let excused = self.disturbed(at - AFTERMATH, now, &[Spoils::PhotoEye, Spoils::Process]);
            let real = match known.number {
                Some(number) => self.real.get_mut(&number),
                None => None,
            };
            match real {
                Some(real) => real.id = Some(id),
                None if excused => {}
                None => {
                    let words = format!("part {id} seen at {} µs: no part crossed then", at.as_micros());
                    return fail(now, "seen", words);
                }
            }
        }
        self.known.insert(id, known);
        Ok(())
    }

    fn inspect(&mut self, now: Instant, job: &InspectJob) -> Checked {
        let shown = self.frames.get(&job.frame).and_then(|blobs| match job.blob {
            Some(blob) => blobs.iter().find(|b| b.0 == blob).map(|b| b.1),
            None => blobs.first().map(|b| b.1),
        });
        let id = job.part;
        let Some(known) = self.known.get_mut(&id) else {
            return fail(
                now,
                "picture",
                format!("inspection of part {id}, which was never seen"),
            );
        };
        if known.asked.is_some() {
            return fail(now, "picture", format!("part {id} is inspected twice"));
        }
        if job.recipe != known.recipe {
            let words = format!(
                "part {id} of recipe {} is inspected by recipe {}",
                known.recipe, job.recipe
            );
            return fail(now, "recipe", words);
        }
        known.asked = Some(job.decide_by);
        self.deadlines.insert((job.decide_by, id), ());
        let mine = known.number;
        match (mine, shown) {
            (Some(mine), Some(shown)) if mine != shown => {
                let crossed = self.real.get(&mine).map_or(now, |r| r.crossed);
                if self.disturbed(crossed, now, &[Spoils::Position, Spoils::PhotoEye]) {
                    return Ok(());
                }
                let words = format!("part {id} is the line's part {mine}, but the picture shows {shown}");
                fail(now, "picture", words)
            }
            // Without a photo-eye the first picture tells which part it is.
            (None, Some(shown)) if !self.has_photo_eye() => self.first_picture(now, id, shown),
            _ => Ok(()),
        }
    }

    fn first_picture(&mut self, now: Instant, id: PartId, shown: u64) -> Checked {
        if let Some(known) = self.known.get_mut(&id) {
            known.number = Some(shown);
        }
        let Some(real) = self.real.get_mut(&shown) else {
            return Ok(());
        };
        let before = real.id.replace(id);
        let crossed = real.crossed;
        match before {
            // Counted before by a process that is no more.
            Some(first) if self.known.get(&first).is_some_and(|k| ended_by_restart(k.ended)) => Ok(()),
            Some(_) if self.disturbed(crossed, now, &[Spoils::Position, Spoils::Process]) => Ok(()),
            Some(first) => {
                let words =
                    format!("the line's part {shown} was seen as part {first} and again as part {id}");
                fail(now, "seen", words)
            }
            None => Ok(()),
        }
    }

    fn judged(&mut self, now: Instant, id: PartId, verdict: Verdict, will_reject: bool) -> Checked {
        let Some(known) = self.known.get_mut(&id) else {
            return fail(
                now,
                "verdict",
                format!("verdict for part {id}, which was never seen"),
            );
        };
        if known.judged.replace((verdict, will_reject)).is_some() {
            return fail(now, "verdict", format!("part {id} is judged twice"));
        }
        if let Some(decide_by) = known.asked {
            self.deadlines.remove(&(decide_by, id));
        }
        let right = match known.said {
            Some(Said::Pass) => matches!(verdict, Verdict::Pass),
            Some(Said::Reject) => matches!(verdict, Verdict::Reject(_)),
            Some(Said::Unsure) => matches!(verdict, Verdict::Unsure),
            Some(Said::Fault) | None => matches!(verdict, Verdict::NoResult(_)),
        };
        if !right {
            let words = format!(
                "part {id} of recipe {}: verdict {verdict:?}, its inspection says {:?}",
                known.recipe, known.said
            );
            return fail(now, "verdict", words);
        }
        let recipe = &self.config.recipes[usize::from(known.recipe.0)];
        let rejects = match verdict {
            Verdict::Pass => false,
            Verdict::Reject(_) => true,
            Verdict::Unsure => recipe.otherwise.reject,
            Verdict::NoResult(_) => recipe.late_reject,
        };
        if rejects != will_reject {
            return fail(
                now,
                "verdict",
                format!("part {id}: {verdict:?} must give reject = {rejects}"),
            );
        }
        let by_picture = known.said.is_some_and(|said| said != Said::Fault);
        self.judged_since_calm += u32::from(self.calm.is_some() && by_picture);
        Ok(())
    }

    fn ended(&mut self, now: Instant, id: PartId, fate: Fate) -> Checked {
        if self.counts.in_flight == 0 {
            return fail(now, "counts", format!("part {id} ends, but none is in flight"));
        }
        self.counts.end(fate);
        let Some(known) = self.known.get_mut(&id) else {
            return fail(now, "ended", format!("part {id} ends, but was never seen"));
        };
        if let Some((before, _)) = known.ended.replace((fate, now)) {
            return fail(
                now,
                "ended",
                format!("part {id} ends as {fate:?} after {before:?}"),
            );
        }
        if let Some(decide_by) = known.asked {
            self.deadlines.remove(&(decide_by, id));
        }
        let fits = match fate {
            Fate::Unaccounted(_) => true,
            Fate::Passed { .. } | Fate::Collateral => known.judged.is_some_and(|j| !j.1),
            Fate::Confirmed | Fate::Unconfirmed | Fate::Escaped => known.judged.is_some_and(|j| j.1),
        };
        if !fits {
            let words = format!("part {id} ends as {fate:?} with the verdict {:?}", known.judged);
            return fail(now, "ended", words);
        }
        match known.number {
            Some(number) => self.settle(number, now),
            None => Ok(()),
        }
    }

    fn set_permit(&mut self, now: Instant, on: bool) -> Checked {
        if on && self.need_acknowledge {
            return fail(now, "permit", "permit on before an acknowledge".into());
        }
        if !on && self.permit {
            self.need_acknowledge = true;
            self.off_since = now;
            self.disturb(now, Spoils::Speed);
        }
        if on {
            // What an eye saw of no part on the standing belt is still at the eye's place.
            for d in self
                .disturbances
                .iter_mut()
                .filter(|d| d.spoils == Spoils::PhotoEye)
            {
                d.to = d.to.map(|to| if to >= self.off_since { to.max(now) } else { to });
            }
            self.end_disturbance(now, Spoils::Speed);
        }
        self.permit = on;
        Ok(())
    }

    /// Alarms that stop the belt have stopped it when the step is over.
    fn stops(&self, now: Instant, actions: &[Action]) -> Checked {
        for action in actions {
            let Action::Record(Entry::Alarm {
                alarm, raised: true, ..
            }) = action
            else {
                continue;
            };
            if self.permit && self.must_stop(*alarm) {
                return fail(
                    now,
                    "stop",
                    format!("{alarm:?} was raised and the permit is still on"),
                );
            }
        }
        Ok(())
    }

    fn must_stop(&self, alarm: AlarmKind) -> bool {
        let verify = &self.config.verify;
        let stops = |action: Option<CheckAction>| action == Some(CheckAction::StopBelt);
        match alarm {
            AlarmKind::Escape => stops(verify.passed.as_ref().map(|p| p.reject_seen)),
            AlarmKind::GoodPartMissing => stops(verify.passed.as_ref().map(|p| p.good_missing)),
            AlarmKind::RejectNotConfirmed => stops(verify.chute.as_ref().map(|c| c.missing)),
            AlarmKind::BinFull => stops(verify.bin_full.as_ref().map(|i| i.action)),
            AlarmKind::AirLow => stops(verify.air_low.as_ref().map(|i| i.action)),
            AlarmKind::ConsecutiveRejects => stops(verify.consecutive_rejects.map(|c| c.action)),
            AlarmKind::AcknowledgeNeeded
            | AlarmKind::PartsUnaccounted
            | AlarmKind::OutputsLost
            | AlarmKind::LedgerFull
            | AlarmKind::Trouble(Trouble::Queue | Trouble::LinesLost) => true,
            AlarmKind::PulseFault | AlarmKind::EncoderSlip => {
                self.config.station.on_fault == OnFault::StopBelt
            }
            _ => false,
        }
    }

    /// Parts that should have been seen or judged by now.
    fn overdue(&mut self, now: Instant) -> Checked {
        while let Some((&at, &number)) = self.unseen.first_key_value() {
            if now.since(at) <= SEEN_WITHIN {
                break;
            }
            if self.disturbed(at, now, &[Spoils::Process]) {
                // It may still be seen, when the process comes to it.
                self.unseen.remove(&at);
                continue;
            }
            self.unseen.remove(&at);
            if self.disturbed(at, now, &[Spoils::PhotoEye, Spoils::Position]) {
                continue;
            }
            let words = format!(
                "the line's part {number} crossed at {} µs and is not seen",
                at.as_micros()
            );
            return fail(now, "seen", words);
        }
        while let Some((&(decide_by, id), ())) = self.deadlines.first_key_value() {
            if now.since(decide_by) <= JUDGED_WITHIN {
                break;
            }
            self.deadlines.pop_first();
            if !self.disturbed(decide_by, now, &[Spoils::Process]) {
                let words = format!(
                    "part {id} has no verdict {} after its deadline",
                    now.since(decide_by)
                );
                return fail(now, "verdict", words);
            }
        }
        Ok(())
    }

    // ---- belief against truth ---------------------------------------------------------

    /// Compares when both the core and the line are done with a part.
    fn settle(&mut self, number: u64, now: Instant) -> Checked {
        let Some(real) = self.real.get(&number) else {
            return Ok(());
        };
        let (Some(id), Some((whereabouts, left))) = (real.id, real.gone) else {
            return Ok(());
        };
        let Some(&Known {
            ended: Some((fate, ended)),
            judged,
            ..
        }) = self.known.get(&id)
        else {
            return Ok(());
        };
        if real.settled {
            return Ok(());
        }
        let (crossed, touched) = (real.crossed, real.touched);
        let real = self.real.get_mut(&number);
        if let Some(real) = real {
            real.settled = true;
        }
        let until = now.max(left);
        let excused = |by: &[Spoils]| self.disturbed(crossed, until, by);
        use Spoils::*;
        let believed = format!("part {id} (the line's {number}) ended as {fate:?}");
        match (fate, whereabouts) {
            (Fate::Confirmed, Whereabouts::Passed | Whereabouts::Taken)
                if !excused(&[ChuteEye, Actuator, Position, PhotoEye]) =>
            {
                fail(
                    now,
                    "confirmed",
                    format!("{believed}, but really {whereabouts:?}"),
                )
            }
            (Fate::Passed { .. }, Whereabouts::Removed)
                if !excused(&[PassedEye, Actuator, Position, PhotoEye, Process]) =>
            {
                fail(now, "good-hit", format!("{believed}, but was thrown out"))
            }
            (Fate::Passed { verified: true }, Whereabouts::Taken)
                if ended > left && !excused(&[PassedEye, Actuator, Position, PhotoEye]) =>
            {
                fail(now, "verified", format!("{believed}, but was taken off by hand"))
            }
            (Fate::Passed { .. }, Whereabouts::Passed)
                if touched.is_some() && !excused(&[Actuator, Position, PhotoEye, Process]) =>
            {
                fail(now, "good-hit", format!("{believed}, but was touched"))
            }
            // Without a passed eye it is a conclusion from a report that did not come.
            (Fate::Escaped, Whereabouts::Removed | Whereabouts::Taken)
                if ended > left
                    && !excused(&[PassedEye, Actuator, Position, PhotoEye])
                    && (self.config.verify.passed.is_some() || !excused(&[Process])) =>
            {
                fail(now, "escaped", format!("{believed}, but really {whereabouts:?}"))
            }
            (Fate::Unconfirmed, Whereabouts::Removed)
                if self.config.verify.chute.is_some()
                    && !excused(&[ChuteEye, Actuator, Position, PhotoEye, Process, Speed]) =>
            {
                fail(now, "confirmed", format!("{believed}, but the chute eye saw it"))
            }
            (Fate::Unconfirmed, Whereabouts::Passed) => self.stayed(
                number,
                id,
                now,
                excused(&[Actuator, Position, PhotoEye, Process, PassedEye]),
            ),
            _ => {
                debug_assert!(judged.is_some() || matches!(fate, Fate::Unaccounted(_)));
                Ok(())
            }
        }
    }

    /// A part that was to be rejected stayed on the belt and was not seen to escape.
    fn stayed(&mut self, number: u64, id: PartId, now: Instant, excused: bool) -> Checked {
        if self.config.verify.chute.is_some() {
            // Nobody saw it fall: that is an alarm, whatever the cause.
            let crossed = self.real.get(&number).map_or(now, |real| real.crossed);
            self.untold.push((now, crossed, number));
            return Ok(());
        }
        if !excused {
            let words = format!("part {id} (the line's {number}) was to be rejected and stayed");
            return fail(now, "missed", words);
        }
        Ok(())
    }

    fn told(&mut self, now: Instant) -> Checked {
        if let Some(since) = self.jumped.filter(|&since| now.since(since) > NOTICED_WITHIN) {
            self.jumped = None;
            if !self.disturbed(since, now, &[Spoils::Process]) {
                return fail(now, "slip", "the encoder jumped and nobody was told".into());
            }
        }
        let alarms = &self.alarms;
        let told = |crossed: Instant| {
            [
                AlarmKind::RejectNotConfirmed,
                AlarmKind::Escape,
                AlarmKind::PulseFault,
            ]
            .iter()
            .any(|kind| alarms.get(kind).is_some_and(|&at| at >= crossed))
        };
        // The belt may have stood long between the alarm and the part's end.
        self.untold.retain(|&(_, crossed, _)| !told(crossed));
        match self.untold.iter().find(|u| now.since(u.0) > TOLD_WITHIN) {
            Some((_, _, number)) => {
                let words =
                    format!("the line's part {number} was to be rejected and stayed, without an alarm");
                fail(now, "missed", words)
            }
            None => Ok(()),
        }
    }

    // ---- the end ----------------------------------------------------------------------

    /// The belt is empty and the core was told to stop.
    pub fn over(&mut self, now: Instant, station: Option<&Station>) -> Checked {
        let Some(station) = station else {
            return fail(now, "liveness", "the process is not there".into());
        };
        if self.judged_since_calm < JUDGED_AFTER_CALM {
            let words = format!(
                "only {} parts judged after the last fault",
                self.judged_since_calm
            );
            return fail(now, "liveness", words);
        }
        if self.counts.in_flight > 0 {
            let left: Vec<_> = self
                .known
                .iter()
                .filter(|k| k.1.ended.is_none())
                .map(|k| k.0.0)
                .collect();
            return fail(now, "liveness", format!("parts {left:?} never end"));
        }
        if !station.is_finished() {
            return fail(now, "liveness", "told to stop, but never finished".into());
        }
        let c = &self.counts;
        let clean =
            c.unaccounted + c.escaped == 0 && (c.unconfirmed == 0 || self.config.verify.chute.is_none());
        if self.faults == 0 && !clean {
            return fail(
                now,
                "false-alarm",
                format!("a line without a fault ends with {c:?}"),
            );
        }
        Ok(())
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
