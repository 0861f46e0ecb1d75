//! The physical line: parts on a belt, a photo-eye, a camera's exposures, a
//! reject, a chute eye, a passed eye. The same world runs in virtual time
//! (`elek simulate`) and in real time (`elek demo`, folder sources).
//!
//! Duties
//! - carries parts along the belt and says when each sensor sees which edge;
//! - says when the camera exposes and what is then in view;
//! - removes a part when the actuator is really out while the part is under it;
//! - keeps its own account of what really happened ([`TruthLog`]).
//!
//! Terms
//! - *tick*: 1 ms of constant belt speed; inside a tick every crossing is
//!   solved to the µs. Commands take effect at the next tick boundary at the
//!   earliest, so a tick can be reckoned in one go and events depend on the
//!   seed and the commands, not on how often [`World::advance`] is called.
//! - *offset* of a part: belt position at which its leading edge is at the
//!   photo-eye. At belt position `x` the edge is `x - offset` behind it.

mod events;
mod leaving;
mod options;
mod sensing;

pub use events::{Expose, PartInView, WorldEvent, WorldFault};
pub use options::WorldOptions;

use super::drive::Drive;
use super::part::{Defect, Part, PartTruth, TruthLog, TruthNote, Whereabouts};
use super::rejecter::Rejecter;
use super::rng::Rng;
use crate::config::{BeltAxis, Camera, CameraMode, Config, Recipe, Trigger};
use crate::station::event::{Event, Input};
use crate::units::{BeltPosition, CameraId, Instant, LaneId, Length, Micros, OutputId, Speed};
use arrayvec::ArrayVec;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Step of the belt's motion. At 2 m/s² the speed is off by 2 mm/s within it, the place by 1 µm.
pub const TICK: Micros = Micros::from_millis(1);
/// Most parts one picture can show.
pub const IN_VIEW_MAX: usize = 8;
/// Parts are laid on the belt this far ahead of the first sensor, so that a camera sees them come.
const FEED_AHEAD_UM: i64 = 100_000;
/// How long the chute eye is covered by a falling part.
const CHUTE_COVERED: Micros = Micros::new(8_000);
/// Parts that were left on the belt keep this far from its sensors.
const CLEAR: i64 = 2_000;
/// How long a hand covers an eye that it wipes.
const WIPE: Micros = Micros::from_millis(50);
/// How long a person holds a button.
const PRESS: Micros = Micros::from_millis(200);

/// A part and where it is.
#[derive(Clone, Debug)]
struct OnBelt {
    truth: PartTruth,
    offset: i64,
    /// The photo-eye, and so a hardware-triggered camera, notices it.
    sensed: bool,
    bounce: Option<Micros>,
    /// It was in front of the photo-eye, of the passed eye, before.
    met: (bool, bool),
    overlooked_by_passed_eye: bool,
}

/// Sensors that a part covers, with their place behind the photo-eye.
#[derive(Clone, Copy, Debug)]
struct Sensor {
    input: Input,
    place: i64,
}

/// Order of events with the same stamp: as they were found.
#[derive(Debug, PartialEq)]
struct Queued(Instant, u64, WorldEvent);
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The line. See the module's opening.
pub struct World {
    options: WorldOptions,
    camera: Camera,
    permit: OutputId,
    reject_output: OutputId,
    reject_place: i64,
    footprint: i64,
    has_chute: bool,
    /// Photo-eye (if any) and passed eye (if any).
    sensors: ArrayVec<Sensor, 2>,
    /// A part past this place has left the line.
    end: i64,
    part_min: i64,
    part_max: i64,
    gap_min: i64,
    aim: i64,

    drive: Drive,
    rejecter: Rejecter,
    rng_parts: Rng,
    rng_noise: Rng,
    /// Foremost first.
    parts: VecDeque<OnBelt>,
    laid: u64,
    feed_stopped: bool,
    /// Trailing edge of the part laid last, as an offset.
    last_tail: i64,
    /// Offsets for which a hardware-triggered camera has yet to expose.
    camera_triggers: VecDeque<i64>,
    sequence: u32,
    camera_off: bool,
    running: bool,
    stuck: ArrayVec<(Input, bool), 8>,
    /// Inputs whose level is active, as reported.
    high: ArrayVec<Input, 8>,
    /// The last stamp of each eye on the belt.
    stamped: ArrayVec<(Input, Instant), 2>,
    overlook_next: bool,
    bounce_next: Option<Micros>,
    overlook_passed_next: bool,

    /// Start of the next tick; everything before is in `queue` or reported.
    horizon: Instant,
    commands: VecDeque<(Instant, OutputId, bool)>,
    faults: VecDeque<(Instant, WorldFault)>,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    out: Vec<(Instant, Instant)>,
    truth: TruthLog,
}

impl World {
    /// The line that `config` describes, its clock at zero.
    pub fn new(config: &Config, seed: u64) -> World {
        World::with_options(config, WorldOptions::of(config, seed), Instant::ZERO)
    }

    /// The same with everything said; `start` is the present.
    pub fn with_options(config: &Config, options: WorldOptions, start: Instant) -> World {
        let mut rng = Rng::new(options.seed);
        let recipe = &config.recipes[config.station.recipe.0 as usize];
        let lane = config.belt.lane;
        let mut sensors = ArrayVec::new();
        if let Trigger::PhotoEye { .. } = config.trigger {
            sensors.push(Sensor {
                input: Input::PhotoEye(lane),
                place: 0,
            });
        }
        let reject_place = config.reject.distance.as_micrometres();
        let mut end = reject_place + config.reject.footprint.as_micrometres() + 20_000;
        if let Some(passed) = &config.verify.passed {
            let place = passed.distance.as_micrometres();
            sensors.push(Sensor {
                input: Input::PassedEye,
                place,
            });
            end = place;
        }
        let truth = TruthLog {
            keep_notes: options.keep_notes,
            ..TruthLog::default()
        };
        let drive = Drive::new(&config.belt, &options, &mut rng);
        let mut world = World {
            camera: config.cameras[0].clone(),
            permit: config.belt.permit,
            reject_output: config.reject.output,
            reject_place,
            footprint: config.reject.footprint.as_micrometres(),
            has_chute: config.verify.chute.is_some(),
            sensors,
            end,
            part_min: 0,
            part_max: 0,
            gap_min: 0,
            aim: 0,
            drive,
            rejecter: Rejecter::new(&config.reject, rng.fork()),
            rng_parts: rng.fork(),
            rng_noise: rng.fork(),
            parts: VecDeque::new(),
            laid: 0,
            feed_stopped: false,
            last_tail: 0,
            camera_triggers: VecDeque::new(),
            sequence: 0,
            camera_off: false,
            running: false,
            stuck: ArrayVec::new(),
            high: ArrayVec::new(),
            stamped: ArrayVec::new(),
            overlook_next: false,
            bounce_next: None,
            overlook_passed_next: false,
            horizon: Instant::from_micros(start.as_micros().div_euclid(TICK.get()) * TICK.get()),
            commands: VecDeque::new(),
            faults: VecDeque::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            out: Vec::new(),
            truth,
            options,
        };
        world.product(recipe);
        // New parts are laid from as far ahead as always.
        world.last_tail = world.feed_ahead();
        world.leave_behind(world.horizon);
        world
    }

    /// From now on parts of this product are laid.
    pub fn product(&mut self, recipe: &Recipe) {
        self.part_min = recipe.part_min.as_micrometres();
        self.part_max = recipe.part_max.as_micrometres();
        self.gap_min = recipe.gap_min.as_micrometres();
        self.aim = recipe.aim.as_micrometres().clamp(0, self.part_min / 2);
    }

    /// An output line changed its logical level at `at`.
    pub fn output(&mut self, output: OutputId, active: bool, at: Instant) {
        let place = self.commands.iter().rposition(|c| c.0 <= at).map_or(0, |i| i + 1);
        self.commands.insert(place, (at, output, active));
        self.truth.note(TruthNote::Line { output, active, at });
    }

    /// Something goes wrong (or right again) at `at`.
    pub fn fault(&mut self, at: Instant, fault: WorldFault) {
        let place = self.faults.iter().rposition(|f| f.0 <= at).map_or(0, |i| i + 1);
        self.faults.insert(place, (at, fault));
    }

    /// Faults that wait for a next part do not come any more.
    pub fn forget_waiting_faults(&mut self) {
        (self.overlook_next, self.overlook_passed_next, self.bounce_next) = (false, false, None);
    }

    /// A person presses the acknowledge button.
    pub fn press_acknowledge(&mut self, at: Instant) {
        let at = at.max(self.horizon);
        self.sense(Input::Acknowledge, true, at);
        self.sense(Input::Acknowledge, false, at + PRESS);
    }

    /// The earliest instant at which something can be reported.
    pub fn next_event(&self) -> Instant {
        self.queue
            .peek()
            .map_or(self.horizon, |q| q.0.0.min(self.horizon))
    }

    /// Lets time pass until `to` and appends all that happened until then, in order of stamps.
    pub fn advance(&mut self, to: Instant, out: &mut Vec<WorldEvent>) {
        while self.horizon <= to {
            self.tick();
        }
        while self.queue.peek().is_some_and(|q| q.0.0 <= to) {
            if let Some(Reverse(Queued(_, _, event))) = self.queue.pop()
                && self.changes_level(&event)
            {
                out.push(event);
            }
        }
    }

    /// Edges alternate: two parts in front of a sensor cover it once.
    fn changes_level(&mut self, event: &WorldEvent) -> bool {
        let WorldEvent::Sensed(Event::Edge { input, active, .. }) = event else {
            return true;
        };
        let high = self.high.iter().position(|i| i == input);
        match (high, active) {
            (None, true) => self.high.push(*input),
            (Some(at), false) => {
                self.high.swap_remove(at);
            }
            _ => return false,
        }
        true
    }

    /// What really happened. For demos, simulations and their checks only.
    pub fn truth(&self) -> &TruthLog {
        &self.truth
    }
    pub fn truth_mut(&mut self) -> &mut TruthLog {
        &mut self.truth
    }
    /// Inputs that are active, as far as was reported.
    pub fn active_inputs(&self) -> ArrayVec<Input, 8> {
        self.high.clone()
    }
    /// Parts really on the belt behind the photo-eye.
    pub fn parts_on_belt(&self) -> impl Iterator<Item = &PartTruth> {
        self.parts
            .iter()
            .map(|p| &p.truth)
            .filter(|t| t.crossed_at.is_some())
    }
    /// No part is on the line, nor on its way to the photo-eye.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
    pub fn speed(&self) -> Speed {
        Speed::from_um_per_s(self.drive.speed())
    }

    fn tick(&mut self) {
        let (from, to) = (self.horizon, self.horizon + TICK);
        self.apply_due(from);
        self.drive.begin_tick();
        self.report_motion(from);
        let (x0, x1) = (self.drive.position(), self.drive.position_after(TICK));
        self.lay_parts(x1);
        if x1 > x0 {
            self.cross_sensors(x0, x1, from);
        } else if x1 < x0 {
            self.cross_back(x0, x1, from);
        }
        self.expose(x0, x1, from);
        self.reject(from, to);
        self.leave(x1, to);
        self.drive.end_tick();
        self.horizon = to;
    }

    fn apply_due(&mut self, now: Instant) {
        // A command is due in the tick it falls into; the actuator's own lag counts from its stamp.
        while self.commands.front().is_some_and(|c| c.0 < now + TICK) {
            let Some((at, output, active)) = self.commands.pop_front() else {
                break;
            };
            if output == self.permit {
                self.drive.permit(active);
            }
            if output == self.reject_output {
                self.rejecter.line(active, at);
            }
        }
        while self.faults.front().is_some_and(|f| f.0 <= now) {
            let Some((_, fault)) = self.faults.pop_front() else {
                break;
            };
            self.apply_fault(fault, now);
        }
    }

    fn apply_fault(&mut self, fault: WorldFault, now: Instant) {
        match fault {
            WorldFault::StickSensor { input, level } => self.stick_sensor(input, level, now),
            WorldFault::OverlookNextPart => self.overlook_next = true,
            WorldFault::BounceNextPart { within } => self.bounce_next = Some(within),
            WorldFault::Blip { length } => {
                let eye = Input::PhotoEye(LaneId(0));
                if self.clear_ahead(length) {
                    self.sense(eye, true, now);
                    self.sense(eye, false, now + length);
                }
            }
            WorldFault::OverlookAtPassedEye => self.overlook_passed_next = true,
            WorldFault::Slip { per_mille } => self.drive.slip(i64::from(per_mille)),
            WorldFault::JumpEncoder { counts } => self.drive.jump(counts),
            WorldFault::SetSpeed(speed) => self.drive.set_speed(speed),
            WorldFault::PullBack { way } => self.drive.pull_back(way.as_micrometres()),
            WorldFault::Runaway(on) => self.drive.runaway(on),
            WorldFault::StickActuator(stuck) => self.rejecter.stick(stuck, now),
            WorldFault::TakePart => self.take_part(now),
            WorldFault::ClearBelt => self.clear_belt(now),
            WorldFault::Wipe { input } => {
                let covered = self.sensors.iter().any(|s| s.input == input && self.covered(s));
                let is_eye = matches!(input, Input::PhotoEye(_) | Input::ChuteEye | Input::PassedEye);
                if is_eye && !covered {
                    self.sense(input, true, now);
                    self.sense(input, false, now + WIPE);
                }
            }
            WorldFault::StopFeed(stop) => {
                // Whoever feeds again lays the first part where the others were laid.
                self.last_tail = self.last_tail.max(self.drive.position() + self.feed_ahead());
                self.feed_stopped = stop;
            }
            WorldFault::Contact { input, active } => self.sense(input, active, now),
            WorldFault::CameraOff(off) => self.camera_off = off,
        }
    }

    fn feed_ahead(&self) -> i64 {
        let half_view = self.half_view();
        (half_view - self.camera.distance.as_micrometres()).max(0) + FEED_AHEAD_UM
    }

    /// Half of what the camera sees along the belt, in µm.
    fn half_view(&self) -> i64 {
        let (width, height) = self.options.picture;
        let px = match self.camera.belt_axis {
            BeltAxis::PlusX | BeltAxis::MinusX => width,
            BeltAxis::PlusY | BeltAxis::MinusY => height,
        };
        (f64::from(px) * self.camera.um_per_px / 2.0) as i64
    }

    fn lay_parts(&mut self, x1: i64) {
        if self.feed_stopped {
            return;
        }
        let ahead = x1 + self.feed_ahead();
        while self.last_tail <= ahead && self.options.parts_max.is_none_or(|max| self.laid < max) {
            let rng = &mut self.rng_parts;
            let length = rng.range(self.part_min, self.part_max);
            let free = (self.options.pitch.as_micrometres() - length - self.gap_min).max(0);
            let varied = free * i64::from(self.options.pitch_variation) / 1_000;
            let gap = (self.gap_min + free + rng.range(-varied, varied)).max(self.gap_min);
            // The part laid first runs foremost: its offset is smallest.
            let offset = self.last_tail + gap;
            self.last_tail = offset + length;
            self.lay(offset, length, None);
        }
    }

    /// Lays a part behind all others.
    fn lay(&mut self, offset: i64, length: i64, crossed_at: Option<Instant>) {
        let rng = &mut self.rng_parts;
        let across = self.options.across.as_micrometres();
        let defect = rng.chance(self.options.defective).then(|| rng.pick(&Defect::ALL));
        let part = Part {
            number: self.laid,
            seed: rng.next_u64(),
            length: Length::from_micrometres(length),
            across: Length::from_micrometres(rng.range(-across, across)),
            angle_mdeg: rng.range(0, 359_999) as i32,
            defect,
        };
        self.laid += 1;
        let truth = PartTruth {
            part,
            crossed_at,
            whereabouts: Whereabouts::OnBelt,
            touched: false,
        };
        self.parts.push_back(OnBelt {
            truth,
            offset,
            sensed: true,
            bounce: None,
            met: (crossed_at.is_some(), false),
            overlooked_by_passed_eye: false,
        });
    }

    /// Parts that nobody took off the belt before the station came. None is in front of a sensor.
    fn leave_behind(&mut self, start: Instant) {
        let mut front = self.end - CLEAR;
        for _ in 0..self.options.left_on_belt {
            let length = self.rng_parts.range(self.part_min, self.part_max);
            front -= self.rng_parts.range(0, self.options.pitch.as_micrometres());
            if front - length < CLEAR {
                return;
            }
            self.lay(-front, length, Some(start));
            if let Some(left) = self.parts.back() {
                let part = left.truth.part;
                self.truth.note(TruthNote::Left { part, at: start });
            }
            front -= length + self.gap_min;
        }
    }

    /// When the belt is at `position` in the tick that began at `from` with the belt at `x0`.
    fn time_at(&self, position: i64, x0: i64, from: Instant) -> Instant {
        let v = self.drive.speed().abs().max(1);
        from + Micros::new(((position - x0).abs() * 1_000_000 + v - 1) / v)
    }

    fn sense(&mut self, input: Input, active: bool, at: Instant) {
        if !self.stuck.iter().any(|s| s.0 == input) {
            self.push(at, WorldEvent::Sensed(Event::Edge { input, active, at }));
        }
    }

    fn push(&mut self, at: Instant, event: WorldEvent) {
        self.queued += 1;
        self.queue.push(Reverse(Queued(at, self.queued, event)));
    }
}

#[cfg(test)]
mod tests;
