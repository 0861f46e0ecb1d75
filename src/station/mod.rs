//! The station core: a deterministic machine without clock, file or thread
//! (invariant 7). Events with their stamps go in, actions come out; the same
//! events give the same actions.
//!
//! # Duties
//! - account for every part that crosses the photo-eye, exactly once (`ledger`);
//! - find each part's picture (`matching`) and have it inspected with the recipe of
//!   its trigger;
//! - judge by rules on positive evidence only (`judge`), or by deadline (`decide`);
//! - plan each reject from the trigger's position and move it with the belt (`schedule`);
//! - prove by chute eye and passed eye what became of each part (`confirm`);
//! - take the permit away when it cannot vouch for any of this (`interlock`, `watch`, `slip`), also
//!   when a part is met that nobody followed (`left`).
//!
//! # Terms
//! *Position zero* of a part is the belt position at the first edge of its trigger.
//! A *window* is the belt positions in which the reject must act. A part is
//! *struck* when a pulse that is on reaches it, *missed* when its pulse failed.
//! *Foreign* is what crossed the photo-eye while nobody could follow it.
//!
//! # States
//! of the station (`status::State`):
//! ```text
//!             acknowledge                     stopping alarm
//!  Waiting ───────────────▶ Running ─────────────────────────────▶ Coasting
//!     ▲                        ▲                                      │ belt stands
//!     │ start                  └──────────── acknowledge ────────── Stopped
//!                      any state ── Command::Stop ──▶ Ending
//! ```
//! of a part:
//! ```text
//!             frame            result or deadline      will_reject: planned → struck | missed
//!  Waiting ─────────▶ Inspecting ─────────▶ judged ──┤
//!     └──── not found, no frame ────────────▲        └ passes: seen by the passed eye | missing
//!                                                          └▶ Ended, once
//! ```

pub mod alarm;
pub mod belt;
mod confirm;
pub mod debounce;
mod decide;
pub mod event;
pub mod interlock;
pub mod judge;
pub mod ledger;
mod left;
mod matching;
pub mod schedule;
mod slip;
mod stats;
mod trigger;
mod view;
mod watch;

#[cfg(test)]
pub(crate) mod testing;

pub use decide::SAFETY;
pub use view::{AlarmView, LastView, StationView};

use crate::config::{CheckAction, Config, Interlock as InterlockInput, OnFault, Trigger};
use crate::units::{Instant, Length, Micros, PartId, RecipeId};
use belt::{Belt, Reading};
use debounce::{Debouncer, Settled};
use event::{Action, AlarmKind, Command, Counts, Entry, Event, Input, Trouble};
use interlock::Interlock;
use ledger::Ledger;
use schedule::Schedule;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Chute and passed eye: contacts and light curtains come to rest within this.
const EYE_STABLE: Micros = Micros::new(500);
/// An edge reaches the core at most this much after its stamp, on a computer that keeps
/// up. A level has not settled before the edge that ends it could have come: else a blip
/// shorter than `stable` would be a part whenever its second edge is handed in late.
const HANDED_IN: Micros = Micros::from_millis(2);
/// An edge that comes later than this has waited for a process that was held up.
const HELD_UP: Micros = Micros::from_millis(5);
/// A push-button bounces for some milliseconds and is held for more than this.
const BUTTON_STABLE: Micros = Micros::from_millis(20);
/// Who acknowledges by command has seen what was published, and that may be this old: an alarm
/// raised since waits for the next acknowledge. The runtime publishes as often as that.
pub const SHOWN_WITHIN: Micros = Micros::from_millis(100);
/// After `Command::Stop` the core waits this long for the belt to carry the last
/// parts out, and gives up when the belt has stood for that long. The service is to
/// have ended within 5 s.
const END_WITHIN: Micros = Micros::from_secs(4);
const END_STANDING: Micros = Micros::from_secs(1);

/// What is known from before: the account, and what nobody can say any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// `in_flight` is 0: those parts are in `unaccounted` already.
    pub counts: Counts,
    /// Reserved durably, never used before.
    pub next_part: PartId,
    /// Parts that were on the belt when the process ended.
    pub unaccounted: u64,
}

/// Bugs that tests plant, to prove that the simulation finds them.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PlantedBug {
    FireFromArrival,
    DropLateVerdict,
    OffByOnePart,
    LostMerge,
    IgnoredSlip,
    ConfirmToNeighbour,
    /// Lives in the resume of part numbers.
    NumberReused,
    /// Lives in the output process.
    OnTimeNotEnforced,
    PermitAfterRestart,
    ChangeoverNewRecipe,
    LeftPartsExcused,
}

/// The inputs, debounced.
#[derive(Clone, Debug)]
struct Eyes {
    photo: Debouncer,
    chute: Debouncer,
    passed: Debouncer,
    bin_full: Debouncer,
    air_low: Debouncer,
    running: Debouncer,
    acknowledge: Debouncer,
}

impl Eyes {
    fn new(config: &Config) -> Eyes {
        let photo = match config.trigger {
            Trigger::PhotoEye { stable, .. } => stable,
            Trigger::Vision => EYE_STABLE,
        };
        let hold = |input: &Option<InterlockInput>| input.as_ref().map_or(BUTTON_STABLE, |input| input.hold);
        Eyes {
            photo: Debouncer::new(photo),
            chute: Debouncer::new(EYE_STABLE),
            passed: Debouncer::new(EYE_STABLE.max(photo)),
            bin_full: Debouncer::new(hold(&config.verify.bin_full)),
            air_low: Debouncer::new(hold(&config.verify.air_low)),
            running: Debouncer::new(Micros::ZERO),
            acknowledge: Debouncer::new(BUTTON_STABLE),
        }
    }

    fn of(&mut self, input: Input) -> &mut Debouncer {
        match input {
            Input::PhotoEye(_) => &mut self.photo,
            Input::ChuteEye => &mut self.chute,
            Input::PassedEye => &mut self.passed,
            Input::BinFull => &mut self.bin_full,
            Input::AirLow => &mut self.air_low,
            Input::BeltRunning => &mut self.running,
            Input::Acknowledge => &mut self.acknowledge,
        }
    }

    fn all(&self) -> [&Debouncer; 7] {
        let Eyes {
            photo,
            chute,
            passed,
            bin_full,
            air_low,
            running,
            acknowledge,
        } = self;
        [photo, chute, passed, bin_full, air_low, running, acknowledge]
    }

    /// How long after its stamp an edge of chute or passed eye is settled.
    fn slowest(&self) -> Micros {
        self.chute.stable().max(self.passed.stable())
    }
}

/// Edges that waited for a process that was held up are being handed in, one event each.
#[derive(Clone, Copy, Debug)]
struct Behind {
    /// When the last of them came; they follow each other at once, so it is over `HANDED_IN` later.
    told: Instant,
    /// The stamp that they have got to: what came earlier has been handed in.
    heard: Instant,
}

/// The station core. See the module's words.
#[derive(Clone, Debug)]
pub struct Station {
    config: Arc<Config>,
    now: Instant,
    /// Old news is coming in.
    behind: Option<Behind>,
    belt: Belt,
    eyes: Eyes,
    eye: trigger::AtEye,
    ledger: Ledger,
    frames: matching::Frames,
    schedule: Schedule,
    lock: Interlock,
    watch: watch::Watch,
    suspicion: slip::Suspicion,
    stats: stats::Stats,
    last: view::Last,
    /// Of the parts from now on.
    recipe: RecipeId,
    consecutive: u32,
    left: left::Left,
    /// When `Command::Stop` came.
    ending: Option<Instant>,
    /// Not yet told: the alarms of the start, and whether parts were left unaccounted.
    start: Option<bool>,
    stood_since: Option<Instant>,
    #[cfg(test)]
    planted: Option<PlantedBug>,
}

impl Station {
    /// A station that knows nothing of the belt yet; its first actions come with the first event.
    pub fn new(config: Arc<Config>, resume: Resume, now: Instant) -> Station {
        let mut counts = resume.counts;
        debug_assert_eq!(counts.in_flight, 0, "parts of a former run cannot be in flight");
        counts.in_flight = 0;
        let capacity = Ledger::capacity_for(&config, last_sensor(&config));
        Station {
            now,
            behind: None,
            belt: Belt::new(&config.belt, now),
            eyes: Eyes::new(&config),
            eye: trigger::AtEye::default(),
            ledger: Ledger::new(capacity, counts, resume.next_part),
            frames: matching::Frames::new(&config.cameras[0]),
            schedule: Schedule::new(&config.reject, capacity),
            lock: Interlock::new(config.belt.permit, config.station.beacon),
            watch: watch::Watch::default(),
            suspicion: slip::Suspicion::default(),
            stats: stats::Stats::new(now),
            last: view::Last::default(),
            recipe: config.station.recipe,
            consecutive: 0,
            left: left::Left::new(left::longest_part(&config), resume.unaccounted),
            ending: None,
            start: Some(resume.unaccounted > 0),
            stood_since: None,
            config,
            #[cfg(test)]
            planted: None,
        }
    }

    /// Takes one event and appends what is to be done. `now` never runs backwards;
    /// the stamps in the event say when it happened.
    pub fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        let before = self.now;
        self.now = now.max(self.now);
        let now = self.now;
        self.fall_behind(before, now, &event);
        if let Some(unaccounted) = self.start.take() {
            self.lock
                .happened(AlarmKind::AcknowledgeNeeded, false, now, actions);
            if unaccounted {
                self.lock
                    .happened(AlarmKind::PartsUnaccounted, false, now, actions);
            }
        }
        // Time first: what was due before this event came is not changed by it.
        self.advance(now, actions);
        self.apply(now, event, actions);
        self.advance(now, actions);
    }

    /// Notices when this event, or a long silence before it, tells that the process was held up.
    ///
    /// An input settles when it has not changed for a while. Held up, the core would call it settled
    /// at once, by the clock, although the edge that undoes it is already on its way: so while old
    /// edges come in, inputs settle by *their* stamps (`heard_until`), as they would have in time.
    fn fall_behind(&mut self, before: Instant, now: Instant, event: &Event) {
        let late = |at: Instant| now.since(at) > HELD_UP;
        match *event {
            Event::Edge { at, .. } if late(at) => self.behind = Some(Behind { told: now, heard: at }),
            // In time: all older ones have been handed in before it.
            Event::Edge { .. } => self.behind = None,
            // No edge yet, but the core should have been called long ago: edges may follow.
            _ if self.behind.is_none() && late(before) => {
                let due = self.eyes.all().into_iter().filter_map(Debouncer::deadline);
                if due.min().is_some_and(late) {
                    self.behind = Some(Behind {
                        told: now,
                        heard: before,
                    });
                }
            }
            _ => {}
        }
        if self
            .behind
            .is_some_and(|behind| now.since(behind.told) > HANDED_IN)
        {
            self.behind = None;
        }
    }

    /// All edges with a stamp before this have been handed in.
    fn heard_until(&self, now: Instant) -> Instant {
        self.behind.map_or(now, |behind| behind.heard) - HANDED_IN
    }

    fn apply(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Edge { input, active, at } => self.on_edge(now, input, active, at.min(now), actions),
            Event::Level { input, active, at } => {
                self.on_first_level(now, input, active, at.min(now), actions)
            }
            Event::Encoder { counts, at, .. } => match self.belt.encoder(counts, at.min(now)) {
                Reading::Moved => self.settle_positions(),
                Reading::Jump => self.slipped(now, actions),
                Reading::Ignored => {}
            },
            Event::Frame(seen) => self.on_frame(now, &seen, actions),
            Event::CameraLost { lost, .. } => self.on_camera(now, lost, actions),
            Event::Inspected { part, result } => self.on_inspected(now, part, &result, actions),
            Event::Pulse { pulse, report } => self.on_pulse(now, pulse, report, actions),
            Event::OutputsReady(ready) => self.on_outputs(now, ready, actions),
            Event::Trouble { trouble, present } => self.on_trouble(now, trouble, present, actions),
            Event::Command(command) => self.on_command(now, command, actions),
            Event::Tick => {}
        }
    }

    /// Everything that time alone brings about.
    fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let heard = self.heard_until(now);
        self.belt.heard(heard, now);
        for input in INPUTS {
            if let Some(settled) = self.eyes.of(input).poll(heard) {
                self.on_settled(now, input, settled, actions);
            }
        }
        self.enforce_deadlines(now, actions);
        let ready = self.lock.outputs_ready();
        if self
            .schedule
            .plan(&mut self.ledger, &self.belt, now, ready, actions)
            .fault
        {
            self.alarm(AlarmKind::PulseFault, now, actions);
        }
        self.strike_all(now);
        self.conclude(now, actions);
        self.watch(now, actions);
        self.stood_since = self.belt.stands(now).then(|| self.stood_since.unwrap_or(now));
        if let Some(on) = self.lock.settle(self.ending.is_some(), now, actions) {
            self.permit_changed(on, now);
        }
    }

    fn on_edge(&mut self, now: Instant, input: Input, active: bool, at: Instant, actions: &mut Vec<Action>) {
        let seen = self.eyes.of(input).edge(active, at);
        for settled in seen.settled {
            self.on_settled(now, input, settled, actions);
        }
        // What is not debounced has settled with its edge; where the belt is hangs on it at once.
        let eye = self.eyes.of(input);
        if eye.stable() == Micros::ZERO
            && let Some(settled) = eye.poll(at)
        {
            self.on_settled(now, input, settled, actions);
        }
        if let (Some(lost), Input::PhotoEye(_)) = (seen.lost, input) {
            self.on_photo_eye_lost(lost, at, actions);
        }
    }

    /// What covers photo-eye or chute eye when the station begins to watch has come there unseen: nobody
    /// knows where that part begins or what threw it out. And a button that is held then was pressed
    /// before there was anything to acknowledge, or is stuck.
    fn on_first_level(
        &mut self,
        now: Instant,
        input: Input,
        active: bool,
        at: Instant,
        actions: &mut Vec<Action>,
    ) {
        match input {
            Input::PhotoEye(_) => self.watch.photo(active, self.belt.position_at(at)),
            Input::ChuteEye => self.watch.chute(active, at),
            Input::Acknowledge => {}
            _ => return self.on_edge(now, input, active, at, actions),
        }
        self.eyes.of(input).begin(active);
    }

    fn on_settled(&mut self, now: Instant, input: Input, settled: Settled, actions: &mut Vec<Action>) {
        let Settled { active, at } = settled;
        match input {
            Input::PhotoEye(_) => {
                self.watch.photo(active, self.belt.position_at(at));
                self.on_photo_eye(now, settled, actions);
            }
            Input::ChuteEye => {
                self.watch.chute(active, at);
                if active {
                    self.on_chute(now, at, actions);
                }
            }
            Input::PassedEye => {
                self.watch.passed(active, self.belt.position_at(at));
                if active {
                    self.on_passed(now, at, actions);
                }
            }
            Input::BinFull => self.on_level(AlarmKind::BinFull, active, now, actions),
            Input::AirLow => self.on_level(AlarmKind::AirLow, active, now, actions),
            Input::BeltRunning => self.belt.running(active, at),
            Input::Acknowledge if active => self.acknowledge(at, now, actions),
            Input::Acknowledge => {}
        }
    }

    fn on_level(&mut self, kind: AlarmKind, active: bool, now: Instant, actions: &mut Vec<Action>) {
        if active {
            let stops = self.stops(kind);
            self.lock.present(kind, stops, now, actions);
        } else {
            self.lock.clear(kind, now, actions);
        }
    }

    fn on_outputs(&mut self, now: Instant, ready: bool, actions: &mut Vec<Action>) {
        let was_ready = self.lock.outputs_ready();
        self.lock.set_outputs_ready(ready);
        if ready {
            self.lock.clear(AlarmKind::OutputsLost, now, actions);
        } else if was_ready {
            self.schedule.outputs_lost();
            self.lock.present(AlarmKind::OutputsLost, true, now, actions);
        }
    }

    fn on_trouble(&mut self, now: Instant, trouble: Trouble, present: bool, actions: &mut Vec<Action>) {
        let kind = AlarmKind::Trouble(trouble);
        if present {
            let stops = self.stops(kind);
            self.lock.present(kind, stops, now, actions);
        } else {
            self.lock.clear(kind, now, actions);
        }
    }

    fn on_command(&mut self, now: Instant, command: Command, actions: &mut Vec<Action>) {
        match command {
            Command::Acknowledge => self.acknowledge(now - SHOWN_WITHIN, now, actions),
            Command::Changeover(recipe) => {
                // The sender has checked it; one that does not exist changes nothing.
                if usize::from(recipe.0) < self.config.recipes.len() && recipe != self.recipe {
                    self.recipe = recipe;
                    actions.push(Action::Record(Entry::Changeover { recipe, at: now }));
                }
            }
            Command::Stop => self.ending = Some(self.ending.unwrap_or(now)),
        }
    }

    /// A person acted at `acted`, and takes note of what was to be seen until then.
    fn acknowledge(&mut self, acted: Instant, now: Instant, actions: &mut Vec<Action>) {
        if self.lock.acknowledge(acted, now, actions) {
            self.belt_cleared();
        }
        self.forget_met();
        self.consecutive = 0;
    }

    /// Something happened that a person has to know.
    fn alarm(&mut self, kind: AlarmKind, at: Instant, actions: &mut Vec<Action>) {
        let stops = self.stops(kind);
        self.lock.happened(kind, stops, at, actions);
    }

    /// Whether this alarm takes the permit away: as its own setting says, or as
    /// `on_fault` does; always when the station can no longer vouch for what it does.
    fn stops(&self, kind: AlarmKind) -> bool {
        let on_fault = self.config.station.on_fault == OnFault::StopBelt;
        let check = |action: Option<CheckAction>| action.map_or(on_fault, |a| a == CheckAction::StopBelt);
        let verify = &self.config.verify;
        match kind {
            AlarmKind::RejectNotConfirmed => check(verify.chute.as_ref().map(|eye| eye.missing)),
            AlarmKind::Escape => check(verify.passed.as_ref().map(|eye| eye.reject_seen)),
            AlarmKind::GoodPartMissing => check(verify.passed.as_ref().map(|eye| eye.good_missing)),
            AlarmKind::BinFull => check(verify.bin_full.as_ref().map(|input| input.action)),
            AlarmKind::AirLow => check(verify.air_low.as_ref().map(|input| input.action)),
            AlarmKind::ConsecutiveRejects => check(verify.consecutive_rejects.map(|limit| limit.action)),
            AlarmKind::OutputsLost
            | AlarmKind::LedgerFull
            | AlarmKind::EncoderSlip
            | AlarmKind::BeltBackward
            | AlarmKind::CameraLost
            | AlarmKind::Trouble(Trouble::Queue | Trouble::LinesLost) => true,
            AlarmKind::BeltSpeed
            | AlarmKind::PulseFault
            | AlarmKind::PartWithoutTrigger
            | AlarmKind::SensorStuck
            | AlarmKind::Trouble(Trouble::EdgesLost) => on_fault,
            AlarmKind::AcknowledgeNeeded
            | AlarmKind::PartsUnaccounted
            | AlarmKind::LateResult
            | AlarmKind::Trouble(Trouble::Record | Trouble::DiskLow | Trouble::Display) => false,
        }
    }

    /// When to call `handle` with [`Event::Tick`] if nothing else happens; always after
    /// the last `now`.
    pub fn next_deadline(&self) -> Option<Instant> {
        let now = self.now;
        let settled = |eye: &Debouncer| eye.deadline().map(|at| at + HANDED_IN);
        let eyes = self.eyes.all().into_iter().filter_map(settled);
        let parts = (0..self.ledger.parts().len()).filter_map(|index| {
            let part = &self.ledger.parts()[index];
            let decide = part.undecided().then(|| self.decide_by(now, index));
            decide
                .filter(|&at| at < Instant::MAX)
                .into_iter()
                .chain(self.conclude_deadline(now, index))
                .min()
        });
        let ending = self.ending.map(|since| since + END_WITHIN);
        let standing = self
            .ending
            .and(self.stood_since)
            .map(|since| since + END_STANDING);
        let rest: [Option<Instant>; 6] = [
            self.schedule.deadline(&self.belt, now),
            self.behind.map(|behind| behind.told + HANDED_IN + Micros::new(1)),
            self.belt.slower_at(now),
            self.watch_deadline(now),
            ending,
            standing,
        ];
        eyes.chain(parts)
            .chain(rest.into_iter().flatten())
            .filter(|&at| at > now)
            .min()
    }

    /// After `Command::Stop`: no part is in flight and nothing planned, or the belt stands
    /// and nothing more will come.
    pub fn is_finished(&self) -> bool {
        let Some(since) = self.ending else { return false };
        let empty = self.ledger.parts().is_empty() && self.schedule.pulses().is_empty();
        let firing = self
            .schedule
            .pulses()
            .iter()
            .any(|p| matches!(p.state, schedule::State::On { .. }));
        let stands = self
            .stood_since
            .is_some_and(|stood| self.now.since(stood.max(since)) >= END_STANDING);
        empty || (stands && !firing) || self.now.since(since) >= END_WITHIN
    }

    /// Panics, in words, when the core contradicts itself.
    pub fn verify_invariants(&self) {
        self.ledger.verify();
        self.schedule.verify(&self.ledger);
        self.frames.verify(&self.ledger);
        self.lock.verify();
        if self.ending.is_some() {
            assert!(!self.lock.permit(), "permit on while ending");
        }
        if let Some(deadline) = self.next_deadline() {
            assert!(deadline > self.now, "the next deadline is over already");
        }
    }

    #[cfg(test)]
    pub(crate) fn plant(&mut self, bug: PlantedBug) {
        self.planted = Some(bug);
        self.schedule.lost_merge = bug == PlantedBug::LostMerge;
        if bug == PlantedBug::PermitAfterRestart {
            self.lock.plant_permit_after_restart();
        }
    }

    #[cfg(test)]
    fn bug(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }
}

/// In the order in which their news is taken when several settle at once.
const INPUTS: [Input; 7] = [
    Input::BeltRunning,
    Input::PhotoEye(crate::units::LaneId(0)),
    Input::ChuteEye,
    Input::PassedEye,
    Input::BinFull,
    Input::AirLow,
    Input::Acknowledge,
];

/// Photo-eye to the place behind which nothing is heard of a part any more.
fn last_sensor(config: &Config) -> Length {
    let longest = config
        .recipes
        .iter()
        .map(|recipe| recipe.part_max + recipe.pulse_margin)
        .max();
    let reject = config.reject.distance + config.reject.footprint + longest.unwrap_or(Length::ZERO);
    let passed = config.verify.passed.as_ref().map(|eye| eye.distance + eye.window);
    reject.max(passed.unwrap_or(Length::ZERO))
}

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
