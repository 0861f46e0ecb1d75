//! One simulated run in virtual time: the shipped station core and the shipped
//! pulse table of the output process between a virtual line, a virtual
//! inspector and a virtual record.
//!
//! ```text
//!   World ──edges, counts──▶ delivery ──▶ Station ──actions──▶ Table (outputs) ──lines──▶ World
//!     └──exposures──▶ frame ──▶ ┘   ▲        └──inspect──▶ inspector ──┐
//!                                   └──────────────────────────────────┘
//!   first part: faults as drawn, safety checked after every step
//!   second part: faults over, an operator acknowledges: the line must come back
//!   third part: no new parts, the belt runs empty, the core is told to stop
//! ```
//!
//! Everything follows from the seed. See [`super::check`] for what is held.

mod deliver;
mod due;
mod outputs;
mod people;
mod tally;

pub use tally::Tally;

use super::check::{Checker, Failure};
use super::faults::{Fault, Plan};
use super::inspector::VirtualInspector;
use super::line::{Line, PERMIT};
use super::part::Part;
use super::ring::VirtualRing;
use super::rng::Rng;
use super::trace;
use super::world::{Expose, World, WorldEvent, WorldFault};
use crate::outputs::table::{Effect, LineSpec, Order, Table};
use crate::station::event::{
    Action, BLOBS_MAX, Blob, Command, Event, FrameSeen, Input, PulseReport, Trouble,
};
use crate::station::{Resume, Station};
use crate::units::{CameraId, FrameId, Instant, Micros};
use arrayvec::ArrayVec;
use due::{Delivery, Due};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The core's loop turns at least this often.
const HEARTBEAT: Micros = Micros::from_millis(20);
/// Faults may begin from here on: the line has started.
const FAULTS_FROM: Instant = Instant::from_micros(1_500_000);
/// How long the line has to come back after the last fault. Parts may come as seldom as
/// one in three seconds, and the operator takes a second for each stop.
const RECOVERY_MIN: Micros = Micros::from_millis(1_500);
const RECOVERY_MAX: Micros = Micros::from_secs(60);
/// How long the belt may take to run empty, at most; it ends sooner when nothing is left.
const EMPTYING: Micros = Micros::from_secs(30);
/// Pictures kept until the core releases them, as many as the frame pool has.
const FRAMES_MAX: usize = 64;

/// More steps than this at one instant are an endless loop between core and surroundings.
const STILL_MAX: u32 = 10_000;

#[cfg(test)]
pub(crate) use crate::station::PlantedBug;
/// Bugs are planted in tests only.
#[cfg(not(test))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum PlantedBug {}

/// The record does not reserve part numbers, so that a crash gives one twice.
fn forgets_numbers(bug: Option<PlantedBug>) -> bool {
    #[cfg(test)]
    return bug == Some(PlantedBug::NumberReused);
    #[cfg(not(test))]
    return bug.is_some();
}

/// The output process does not end pulses at the line's longest on-time.
fn on_time_not_enforced(bug: Option<PlantedBug>) -> bool {
    #[cfg(test)]
    return bug == Some(PlantedBug::OnTimeNotEnforced);
    #[cfg(not(test))]
    return bug.is_some();
}

/// Runs one seed. With `keep`, the trace is collected.
pub fn simulate(seed: u64, keep: Option<&mut Vec<trace::Line>>) -> Result<Tally, Failure> {
    run(seed, None, keep)
}

/// As [`simulate`], with a bug planted.
pub(crate) fn run(
    seed: u64,
    bug: Option<PlantedBug>,
    keep: Option<&mut Vec<trace::Line>>,
) -> Result<Tally, Failure> {
    let mut run = Run::new(seed, bug, keep.is_some());
    let result = run.go();
    if let Some(keep) = keep {
        *keep = std::mem::take(&mut run.trace);
        if let Err(failure) = &result {
            keep.push(trace::Line::Failure(failure.clone()));
        }
    }
    result.map(|()| run.tally)
}

/// The drawn line and faults of a seed, as `elek simulate --seed` prints them.
pub fn describe(seed: u64) -> (Line, Plan) {
    let mut rng = Rng::new(seed);
    let line = Line::draw(&mut rng.fork());
    let calm = calm_at(&mut rng);
    let plan = Plan::draw(&line.config, &mut rng.fork(), FAULTS_FROM, calm);
    (line, plan)
}

fn calm_at(rng: &mut Rng) -> Instant {
    FAULTS_FROM + Micros::from_millis(rng.range(2_000, 6_000))
}

#[cfg(test)]
pub(super) fn plant(bug: Option<PlantedBug>, station: &mut Station) {
    if let Some(bug) = bug {
        station.plant(bug);
    }
}
#[cfg(not(test))]
pub(super) fn plant(_: Option<PlantedBug>, _: &mut Station) {}

thread_local! {
    static RUNNING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A panic of the core is caught and becomes a failure with a seed; its own report is noise.
pub fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !RUNNING.get() {
                usual(info);
            }
        }));
    });
}

/// Lets the core handle an event; a panic of it, or of its invariants, is a failure.
pub(super) fn guarded(
    station: &mut Station,
    now: Instant,
    event: &Event,
    actions: &mut Vec<Action>,
) -> Result<(), Failure> {
    RUNNING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        station.handle(now, event.clone(), actions);
        station.verify_invariants();
    }));
    RUNNING.set(false);
    outcome.map_err(|panic| Failure::panicked(now, panic.as_ref()))
}

/// Faults between line and core, as they stand.
#[derive(Default)]
struct Between {
    lose_frames: u32,
    duplicate_frame: bool,
    lose_edge: Option<(Input, bool)>,
    stretch_pulse: bool,
    /// The process handles nothing until then.
    hung_until: Option<Instant>,
    /// Die after that many actions; stay down that long.
    crash: Option<(usize, Micros)>,
}

/// The person at the line.
struct Operator {
    /// From the permit's end to the button.
    reacts_after: Micros,
    next: Option<Instant>,
    /// Clears the belt when parts are not accounted for.
    careful: bool,
    clear_first: bool,
    uses_button: bool,
    /// Acknowledges in a row that did not help.
    in_vain: u32,
}

struct Run {
    seed: u64,
    bug: Option<PlantedBug>,
    line: Line,
    plan: Plan,
    calm_at: Instant,
    now: Instant,
    /// Steps without time passing.
    still: u32,
    world: World,
    table: Table,
    station: Option<Station>,
    ring: VirtualRing,
    inspector: VirtualInspector,
    checker: Checker,
    operator: Operator,
    between: Between,
    rng: Rng,
    due: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
    /// Deliveries of one kind keep their order.
    last_edge: Instant,
    last_frame: Instant,
    /// The level of each input as the core was told last.
    told: BTreeMap<Input, bool>,
    frames: BTreeMap<FrameId, Vec<(Blob, Part)>>,
    next_frame: FrameId,
    heartbeat: Instant,
    outputs_up: bool,
    permit: bool,
    world_events: Vec<WorldEvent>,
    actions: Vec<Action>,
    effects: Vec<Effect>,
    keep: bool,
    trace: Vec<trace::Line>,
    tally: Tally,
}

impl Run {
    fn new(seed: u64, bug: Option<PlantedBug>, keep: bool) -> Run {
        let (line, plan) = describe(seed);
        // The same draws as in `describe`, to go on from there.
        let mut rng = Rng::new(seed);
        rng.next_u64();
        let calm_at = calm_at(&mut rng);
        rng.next_u64();
        let world = World::with_options(&line.config, line.world.clone(), Instant::ZERO);
        let operator = Operator {
            // A finger is off the button for a while before it presses again.
            reacts_after: Micros::from_millis(rng.range(300, 900)),
            next: None,
            careful: rng.chance(800),
            clear_first: false,
            uses_button: rng.chance(500),
            in_vain: 0,
        };
        Run {
            seed,
            bug,
            plan,
            calm_at,
            now: Instant::ZERO,
            still: 0,
            world,
            table: Table::new(),
            station: None,
            ring: VirtualRing::new(forgets_numbers(bug), rng.range(1, 40) as u64),
            inspector: VirtualInspector::new(rng.fork()),
            checker: Checker::new(line.config.clone()),
            operator,
            between: Between::default(),
            rng: rng.fork(),
            due: BinaryHeap::new(),
            scheduled: 0,
            last_edge: Instant::ZERO,
            last_frame: Instant::ZERO,
            told: BTreeMap::new(),
            frames: BTreeMap::new(),
            next_frame: FrameId(0),
            heartbeat: Instant::ZERO,
            outputs_up: true,
            permit: false,
            world_events: Vec::new(),
            actions: Vec::new(),
            effects: Vec::new(),
            keep,
            trace: Vec::new(),
            tally: Tally::default(),
            line,
        }
    }

    fn note(&mut self, line: impl FnOnce() -> trace::Line) {
        if self.keep {
            self.trace.push(line());
        }
    }

    fn go(&mut self) -> Result<(), Failure> {
        let seed = self.seed;
        self.note(|| trace::Line::Seed {
            seed,
            version: trace::VERSION,
        });
        self.start()?;
        let mut faults = std::mem::take(&mut self.plan.faults).into_iter().peekable();
        while let Some(at) = faults.peek().map(|f| f.0) {
            self.until(at)?;
            while let Some((_, fault)) = faults.next_if(|f| f.0 <= at) {
                self.fault(fault)?;
            }
        }
        self.until(self.calm_at)?;
        self.calm();
        let deadline = self.now + RECOVERY_MAX;
        self.until(self.now + RECOVERY_MIN)?;
        while self.now < deadline && !self.checker.has_recovered() {
            self.until(self.now + Micros::from_millis(200))?;
        }
        self.run_empty()
    }

    /// No more faults: neither planned ones nor such as wait for something.
    fn calm(&mut self) {
        let now = self.now;
        self.between = Between {
            hung_until: self.between.hung_until,
            ..Between::default()
        };
        self.world.forget_waiting_faults();
        self.inspector.late_by(Micros::ZERO);
        self.note(|| trace::Line::Calm { now });
        self.checker.calm(now);
    }

    /// No new parts; when the belt is empty the core is told to stop.
    fn run_empty(&mut self) -> Result<(), Failure> {
        self.world.fault(self.now, WorldFault::StopFeed(true));
        let deadline = self.now + EMPTYING;
        while self.now < deadline && (!self.world.is_empty() || !self.idle()) {
            self.until(self.now + Micros::from_millis(100))?;
        }
        self.until(self.now + Micros::from_millis(500))?;
        self.handle(Event::Command(Command::Stop))?;
        self.operator.next = Some(Instant::MAX);
        self.until(self.now + Micros::from_secs(2))?;
        let now = self.now;
        self.note(|| trace::Line::Over { now });
        self.tally.crossed = self.world.truth().counts.crossed;
        self.tally.removed = self.world.truth().counts.removed;
        self.checker.over(now, self.station.as_ref())
    }

    fn idle(&self) -> bool {
        self.station.as_ref().is_some_and(|s| s.counts().in_flight == 0)
    }

    /// Lets virtual time pass until `end`.
    fn until(&mut self, end: Instant) -> Result<(), Failure> {
        loop {
            let next = self.next_instant();
            if next > end {
                self.now = self.now.max(end);
                return Ok(());
            }
            self.still = if next > self.now { 0 } else { self.still + 1 };
            if self.still > STILL_MAX {
                return Err(Failure::stands_still(self.now));
            }
            self.now = self.now.max(next);
            self.step()?;
        }
    }

    fn next_instant(&self) -> Instant {
        let mut next = self.world.next_event().min(self.heartbeat);
        if let Some(at) = self.table.next_deadline() {
            next = next.min(at);
        }
        // A process that hangs takes nothing in, and nobody acts on what it shows.
        if let Some(until) = self.between.hung_until {
            return next.min(until);
        }
        let due = self.due.peek().map(|d| d.0.0);
        let core = self.station.as_ref().and_then(Station::next_deadline);
        [due, core, self.operator.next]
            .into_iter()
            .flatten()
            .fold(next, Instant::min)
    }

    fn step(&mut self) -> Result<(), Failure> {
        let now = self.now;
        let mut happened = std::mem::take(&mut self.world_events);
        self.world.advance(now, &mut happened);
        self.take_notes()?;
        for event in happened.drain(..) {
            match event {
                WorldEvent::Sensed(event) => self.deliver_sensed(event),
                WorldEvent::Expose(expose) => self.deliver_frame(expose),
            }
        }
        self.world_events = happened;
        self.table_due();
        if self.between.hung_until.is_some_and(|until| until <= now) {
            self.between.hung_until = None;
        }
        if now >= self.heartbeat {
            self.heartbeat = now + HEARTBEAT;
            if self.station.is_some() && self.between.hung_until.is_none() {
                self.order(Order::Heartbeat);
            }
        }
        if self.between.hung_until.is_none() {
            while self.due.peek().is_some_and(|d| d.0.0 <= now) {
                let Some(Reverse(Due(_, _, delivery))) = self.due.pop() else {
                    break;
                };
                self.receive(delivery)?;
                if self.between.hung_until.is_some() {
                    break;
                }
            }
            if self
                .station
                .as_ref()
                .and_then(Station::next_deadline)
                .is_some_and(|at| at <= now)
            {
                self.handle(Event::Tick)?;
            }
        }
        self.operate()
    }

    fn take_notes(&mut self) -> Result<(), Failure> {
        let notes = std::mem::take(&mut self.world.truth_mut().notes);
        for note in notes {
            self.note(|| trace::Line::Truth(note.clone()));
            self.checker.truth(&note)?;
        }
        Ok(())
    }

    fn schedule(&mut self, at: Instant, delivery: Delivery) {
        self.scheduled += 1;
        self.due.push(Reverse(Due(at, self.scheduled, delivery)));
    }

    fn receive(&mut self, delivery: Delivery) -> Result<(), Failure> {
        match delivery {
            Delivery::Event(event) if self.station.is_some() => {
                if let Event::Edge { input, active, .. } | Event::Level { input, active, .. } = event {
                    self.told.insert(input, active);
                }
                self.handle(event)
            }
            // Nobody listens.
            Delivery::Event(_) => Ok(()),
            Delivery::Restart => self.start(),
            // Unless somebody has opened a session meanwhile.
            Delivery::OutputsOpen if self.table.safe().is_some() => self.open_outputs(),
            Delivery::OutputsOpen => Ok(()),
        }
    }

    /// The process begins: what the record knows, an output session, the inputs' levels.
    fn start(&mut self) -> Result<(), Failure> {
        let now = self.now;
        let resume: Resume = self.ring.resume(now);
        self.note(|| trace::Line::Start { now, resume });
        let mut station = Station::new(self.line.config.clone(), resume, now);
        plant(self.bug, &mut station);
        self.station = Some(station);
        self.checker.started(now, &resume.counts);
        self.permit = false;
        self.told.clear();
        self.frames.clear();
        self.operator.next = Some(now + self.operator.reacts_after);
        self.operator.clear_first |= resume.unaccounted > 0;
        self.tally.restarts += 1;
        // Edges from before the lines were opened are told to nobody; the levels that they led to are.
        let edge = |due: &Due| matches!(due.2, Delivery::Event(Event::Edge { .. }));
        self.due.retain(|Reverse(due)| !edge(due));
        for input in self.world.active_inputs() {
            let (active, at) = (true, now);
            self.schedule(now, Delivery::Event(Event::Level { input, active, at }));
        }
        self.open_outputs()
    }

    /// The core handles an event, and what it wants is done.
    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        let now = self.now;
        let Some(station) = &mut self.station else {
            return Ok(());
        };
        self.tally.events += 1;
        let mut actions = std::mem::take(&mut self.actions);
        actions.clear();
        // `cut` is not known before the actions are.
        let traced = self.keep.then(|| Box::new(event.clone()));
        let outcome = guarded(station, now, &event, &mut actions);
        let cut = match self.between.crash {
            Some((after, _)) if !actions.is_empty() => Some(after.min(actions.len())),
            _ => None,
        };
        if let Some(event) = traced {
            self.trace.push(trace::Line::Event { now, event, cut });
        }
        outcome?;
        actions.truncate(cut.unwrap_or(actions.len()));
        if self.keep && !actions.is_empty() {
            self.trace.push(trace::Line::Did(actions.clone()));
        }
        for action in &actions {
            self.act(action);
        }
        // A dying process is not held to what it could not finish.
        let station = self.station.as_ref().filter(|_| cut.is_none());
        let checked = self.checker.handled(now, &event, &actions, station);
        self.actions = actions;
        checked?;
        if cut.is_some() {
            self.die();
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Record(entry) => {
                use crate::station::event::{Entry, Fate, Stray, Unaccounted};
                self.ring.append(entry);
                if let Entry::Ended {
                    fate: Fate::Unaccounted(Unaccounted::LostPosition | Unaccounted::LedgerFull),
                    ..
                }
                | Entry::Stray {
                    stray: Stray::PassedEyeWithoutPart,
                    ..
                } = entry
                {
                    self.operator.clear_first = true;
                }
            }
            Action::Inspect(job) => {
                let part = self.frames.get(&job.frame).and_then(|blobs| match job.blob {
                    Some(blob) => blobs.iter().find(|b| b.0 == blob).map(|b| b.1),
                    None => blobs.first().map(|b| b.1),
                });
                let (at, result) = self.inspector.inspect(job, part, self.now);
                self.schedule(
                    at,
                    Delivery::Event(Event::Inspected {
                        part: job.part,
                        result,
                    }),
                );
            }
            Action::Release { frame, .. } => {
                self.frames.remove(frame);
            }
            Action::Fire(_) | Action::Cancel(_) | Action::Set { .. } => {
                if let Action::Set {
                    output: PERMIT,
                    active,
                } = action
                {
                    self.permit_changed(*active);
                }
                if let Some(order) = Order::from_action(action) {
                    self.order(order);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "virtual_run_tests.rs"]
mod tests;
