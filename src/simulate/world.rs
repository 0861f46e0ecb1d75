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

use super::drive::Drive;
use super::part::{Defect, Part, PartTruth, TruthLog, TruthNote, Whereabouts};
use super::rejecter::{Rejecter, Stuck};
use super::rng::Rng;
use crate::config::{BeltAxis, Camera, CameraMode, CameraSource, Config, Motion, Recipe, Trigger};
use crate::station::event::{Event, Input};
use crate::units::{BeltPosition, CameraId, Instant, LaneId, Length, Micros, OutputId, Speed};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};
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
/// How long a hand covers an eye that it wipes.
const WIPE: Micros = Micros::from_millis(50);
/// How long a person holds a button.
const PRESS: Micros = Micros::from_millis(200);

/// What a camera would see at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Expose {
    pub camera: CameraId,
    /// The camera's own counter; a gap means frames that were lost on the way.
    pub sequence: u32,
    pub mid_exposure: Instant,
    /// Of the belt, since the world began.
    pub position: BeltPosition,
    /// In the direction of travel, foremost first.
    pub parts: ArrayVec<PartInView, IN_VIEW_MAX>,
}

/// A part and its place in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartInView {
    pub part: Part,
    /// Centre of the part ahead of the picture centre, in the direction of travel.
    pub along: Length,
}

impl PartInView {
    /// Centre of the part in pixels of a picture of this size, x right and y down; may lie outside.
    pub fn centre_px(&self, camera: &Camera, width: u32, height: u32) -> (f64, f64) {
        let along = self.along.as_micrometres() as f64 / camera.um_per_px;
        let across = self.part.across.as_micrometres() as f64 / camera.um_per_px;
        let (x, y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
        // `across` is left of the direction of travel; pictures have y downwards.
        match camera.belt_axis {
            BeltAxis::PlusX => (x + along, y - across),
            BeltAxis::MinusX => (x - along, y + across),
            BeltAxis::PlusY => (x + across, y + along),
            BeltAxis::MinusY => (x - across, y - along),
        }
    }
}

/// What the world reports.
#[derive(Clone, Debug, PartialEq)]
pub enum WorldEvent {
    /// A sensor's edge or an encoder sample, as the station is to receive it.
    Sensed(Event),
    /// The camera exposes; whoever drives the world makes a frame of it.
    Expose(Expose),
}

/// Something that goes wrong with the line, until told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorldFault {
    /// The sensor shows this level whatever passes; `None` frees it.
    StickSensor {
        input: Input,
        level: Option<bool>,
    },
    /// The photo-eye overlooks the next part; a hardware-triggered camera then does, too.
    OverlookNextPart,
    /// The next part's leading edge comes with contact bounce shorter than this.
    BounceNextPart {
        within: Micros,
    },
    /// The photo-eye sees something short that is no part.
    Blip {
        length: Micros,
    },
    /// The passed eye overlooks the next part.
    OverlookAtPassedEye,
    /// The encoder's wheel does not follow this share of the way; 0 ends it.
    Slip {
        per_mille: u16,
    },
    /// The counter device loses or gains counts at once.
    JumpEncoder {
        counts: i64,
    },
    /// The belt's speed is set anew.
    SetSpeed(Speed),
    /// The motor runs whatever the permit says.
    Runaway(bool),
    StickActuator(Option<Stuck>),
    /// Somebody takes the part away that is furthest between the photo-eye and the reject.
    TakePart,
    /// Somebody clears the belt behind the photo-eye.
    ClearBelt,
    /// Somebody wipes an eye that nothing covers: it sees the hand come and go.
    Wipe {
        input: Input,
    },
    /// No new parts come.
    StopFeed(bool),
    /// Bin-full or air-low contact.
    Contact {
        input: Input,
        active: bool,
    },
    /// The camera gives no frames; its counter runs on.
    CameraOff(bool),
}

/// How the line is set up, beyond what the configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldOptions {
    pub seed: u64,
    /// Speed of the running belt.
    pub speed: Speed,
    /// Mean distance from leading edge to leading edge; the recipe's smallest is kept.
    pub pitch: Length,
    /// Share of the free way between parts that varies, in thousandths.
    pub pitch_variation: u32,
    /// Parts per thousand that have a defect.
    pub defective: u32,
    /// Furthest a part lies beside the middle of the belt.
    pub across: Length,
    /// How the motor runs up, mm/s per s.
    pub run_up_mm_s2: i64,
    pub encoder_error_ppm: i64,
    pub encoder_period: Micros,
    /// A sensor's stamp is at most this much late.
    pub edge_jitter: Micros,
    /// From the reject's blow to the chute eye, shortest and longest.
    pub fall: (Micros, Micros),
    /// Picture of a camera without a stated format (folder source), for what is in view.
    pub picture: (u32, u32),
    /// No more parts are laid after this many.
    pub parts_max: Option<u64>,
    /// Keep a list of [`TruthNote`]s for the checks.
    pub keep_notes: bool,
}

impl WorldOptions {
    /// The line that `config` describes: rate and share of defects from its camera's source.
    pub fn of(config: &Config, seed: u64) -> WorldOptions {
        let (parts_per_s, defective, picture) = match &config.cameras[0].source {
            CameraSource::Simulated(s) => (s.parts_per_s, s.defective, (s.format.width, s.format.height)),
            CameraSource::Folder(f) => (f.parts_per_s, 0.0, (1280, 960)),
            CameraSource::V4l2(v) => (5.0, 0.0, (v.format.width, v.format.height)),
        };
        let speed = match config.belt.motion {
            Motion::Time { speed } => speed,
            // Somewhat below the fastest, so that the stated limit is not touched by noise.
            Motion::Encoder { .. } => Speed::from_um_per_s(
                (config.belt.speed_max.as_um_per_s() * 4 / 5).max(config.belt.speed_min.as_um_per_s()),
            ),
        };
        let pitch = (speed.as_um_per_s() as f64 / parts_per_s.max(0.01)) as i64;
        let fall = match &config.verify.chute {
            // Well inside the window, which counts from the blow.
            Some(c) => {
                let (low, high) = (c.after_min, c.after_max);
                let quarter = Micros::new(high.get().saturating_sub(low.get()) / 4);
                (low + quarter, high - quarter)
            }
            None => (Micros::from_millis(40), Micros::from_millis(60)),
        };
        WorldOptions {
            seed,
            speed,
            pitch: Length::from_micrometres(pitch),
            pitch_variation: 300,
            defective: (defective.clamp(0.0, 1.0) * 1_000.0) as u32,
            across: Length::from_mm(3),
            run_up_mm_s2: match config.belt.motion {
                // A station that reckons by time needs a motor that knows two speeds only.
                Motion::Time { .. } => 1_000_000,
                Motion::Encoder { .. } => 2_000,
            },
            encoder_error_ppm: 0,
            encoder_period: Micros::from_millis(2),
            edge_jitter: Micros::new(50),
            fall,
            picture,
            parts_max: None,
            keep_notes: false,
        }
    }
}

/// A part and where it is.
#[derive(Clone, Debug)]
struct OnBelt {
    truth: PartTruth,
    offset: i64,
    /// The photo-eye, and so a hardware-triggered camera, notices it.
    sensed: bool,
    bounce: Option<Micros>,
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
        // The belt begins empty: the first part is as far ahead as parts are laid.
        world.last_tail = world.feed_ahead();
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

    fn stick_sensor(&mut self, input: Input, level: Option<bool>, now: Instant) {
        let really = self
            .sensors
            .iter()
            .find(|s| s.input == input)
            .is_some_and(|s| self.covered(s));
        let before = self.stuck.iter().find(|s| s.0 == input).map_or(really, |s| s.1);
        self.stuck.retain(|s| s.0 != input);
        let after = level.unwrap_or(really);
        if after != before {
            self.sense(input, after, now);
        }
        if let Some(level) = level {
            // At most one entry per input, fewer inputs than places.
            self.stuck.push((input, level));
        }
    }

    fn report_motion(&mut self, now: Instant) {
        if self.drive.is_running() != self.running {
            self.running = !self.running;
            self.sense(Input::BeltRunning, self.running, now);
        }
        if now.as_micros() % self.options.encoder_period.get().max(TICK.get()) == 0
            && let Some(counts) = self.drive.counts()
        {
            self.push(
                now,
                WorldEvent::Sensed(Event::Encoder {
                    lane: LaneId(0),
                    counts,
                    at: now,
                }),
            );
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
            // The part laid first runs foremost: its offset is smallest.
            let offset = self.last_tail + gap;
            self.last_tail = offset + length;
            self.laid += 1;
            let truth = PartTruth {
                part,
                crossed_at: None,
                whereabouts: Whereabouts::OnBelt,
                touched: false,
            };
            self.parts.push_back(OnBelt {
                truth,
                offset,
                sensed: true,
                bounce: None,
                overlooked_by_passed_eye: false,
            });
        }
    }

    /// When the belt is at `position` in the tick that began at `from` with the belt at `x0`.
    fn time_at(&self, position: i64, x0: i64, from: Instant) -> Instant {
        let v = self.drive.speed().max(1);
        from + Micros::new(((position - x0) * 1_000_000 + v - 1) / v)
    }

    fn cross_sensors(&mut self, x0: i64, x1: i64, from: Instant) {
        for i in 0..self.parts.len() {
            let offset = self.parts[i].offset;
            if offset > x1 {
                break;
            }
            let tail = offset + self.parts[i].truth.part.length.as_micrometres();
            if x0 < offset {
                let at = self.time_at(offset, x0, from);
                self.enter(i, at);
            }
            for sensor in self.sensors.clone() {
                for (edge, active) in [(offset + sensor.place, true), (tail + sensor.place, false)] {
                    if x0 < edge && edge <= x1 {
                        let at = self.time_at(edge, x0, from);
                        self.part_edge(i, sensor.input, active, at);
                    }
                }
            }
        }
    }

    /// The leading edge reaches the photo-eye.
    fn enter(&mut self, i: usize, at: Instant) {
        let has_eye = self.sensors.iter().any(|s| matches!(s.input, Input::PhotoEye(_)));
        let at = at + Micros::new(self.rng_noise.range(0, self.options.edge_jitter.get()));
        let overlooked = std::mem::take(&mut self.overlook_next) && has_eye;
        let stuck = self.stuck.iter().any(|s| matches!(s.0, Input::PhotoEye(_)));
        let p = &mut self.parts[i];
        p.sensed = !(overlooked || (stuck && has_eye));
        p.bounce = self.bounce_next.take();
        p.truth.crossed_at = Some(at);
        let (part, sensed) = (p.truth.part, p.sensed);
        if sensed {
            self.camera_triggers.push_back(p.offset);
        }
        self.truth.crossed(part, at, sensed);
    }

    fn part_edge(&mut self, i: usize, input: Input, active: bool, at: Instant) {
        let p = &mut self.parts[i];
        match input {
            Input::PhotoEye(_) => {
                // An overlooked part's trailing edge is dropped as a repeated level,
                // unless the sensor came back while the part was in front of it.
                if active && !p.sensed {
                    return;
                }
                if active {
                    let at = p.truth.crossed_at.unwrap_or(at);
                    let bounce = p.bounce;
                    self.sense(input, true, at);
                    if let Some(within) = bounce {
                        self.bounce(input, at, within);
                    }
                    return;
                }
            }
            Input::PassedEye => {
                if active {
                    p.overlooked_by_passed_eye = std::mem::take(&mut self.overlook_passed_next);
                }
                if p.overlooked_by_passed_eye {
                    return;
                }
            }
            _ => {}
        }
        let jitter = self.rng_noise.range(0, self.options.edge_jitter.get());
        self.sense(input, active, at + Micros::new(jitter));
    }

    /// Off and on again a few times after a leading edge.
    fn bounce(&mut self, input: Input, at: Instant, within: Micros) {
        let mut t = at;
        for _ in 0..self.rng_noise.range(1, 3) {
            let step = within.get() / 8;
            t += Micros::new(self.rng_noise.range(step.min(20), step.max(20)));
            self.sense(input, false, t);
            t += Micros::new(self.rng_noise.range(step.min(20), step.max(20)));
            self.sense(input, true, t);
        }
    }

    fn expose(&mut self, x0: i64, x1: i64, from: Instant) {
        match self.camera.mode {
            CameraMode::Triggered => {
                // Exposed where a part of middle length is at the picture centre, whether or
                // not it is still there.
                while let Some(&offset) = self.camera_triggers.front() {
                    let middle = (self.part_min + self.part_max) / 4;
                    let at_centre = offset + self.camera.distance.as_micrometres() + middle;
                    if at_centre > x1 {
                        break;
                    }
                    self.camera_triggers.pop_front();
                    let at = self.time_at(at_centre.max(x0), x0, from);
                    self.shoot(at, from);
                }
            }
            CameraMode::FreeRunning { fps_milli } => {
                let period = (1_000_000_000 / i64::from(fps_milli.max(1))).max(TICK.get());
                // 137 µs: off the tick, so that order does not hang on equal stamps.
                let mut next = (from.as_micros() - 137).div_euclid(period) * period + 137;
                if next < from.as_micros() {
                    next += period;
                }
                if next < from.as_micros() + TICK.get() {
                    self.shoot(Instant::from_micros(next), from);
                }
            }
        }
    }

    fn shoot(&mut self, at: Instant, from: Instant) {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        if self.camera_off {
            return;
        }
        let x = self.drive.position_after(at.since(from));
        let centre = self.camera.distance.as_micrometres();
        let half_view = self.half_view();
        let mut parts = ArrayVec::new();
        for p in &self.parts {
            let length = p.truth.part.length.as_micrometres();
            let along = x - p.offset - length / 2 - centre;
            if along.abs() < half_view + length / 2 && !parts.is_full() {
                parts.push(PartInView {
                    part: p.truth.part,
                    along: Length::from_micrometres(along),
                });
            }
        }
        let expose = Expose {
            camera: CameraId(0),
            sequence,
            mid_exposure: at,
            position: BeltPosition::from_micrometres(x),
            parts,
        };
        self.push(at, WorldEvent::Expose(expose));
    }

    /// Removes what the actuator hits: a part goes when it is hit between the aim point and
    /// three quarters of its length; hit elsewhere it is only touched.
    fn reject(&mut self, from: Instant, to: Instant) {
        let mut stretches = std::mem::take(&mut self.out);
        self.rejecter.out_between(from, to, &mut stretches);
        for &(begin, end) in &stretches {
            let (x_begin, x_end) = (
                self.drive.position_after(begin.since(from)),
                self.drive.position_after(end.since(from)),
            );
            let (near, far) = (
                self.reject_place - self.footprint / 2,
                self.reject_place + self.footprint / 2,
            );
            for i in 0..self.parts.len() {
                let p = &self.parts[i];
                let length = p.truth.part.length.as_micrometres();
                // Reach of a stretch of the part, as belt positions: its front arrives, its rear leaves.
                let under = |front: i64, rear: i64| {
                    x_end >= p.offset + front + near && x_begin <= p.offset + rear + far
                };
                if p.truth.whereabouts != Whereabouts::OnBelt || !under(0, length) {
                    continue;
                }
                if !p.truth.touched {
                    self.parts[i].truth.touched = true;
                    let number = self.parts[i].truth.part.number;
                    self.truth.note(TruthNote::Touched { number, at: begin });
                }
                let p = &self.parts[i];
                let (front, rear) = (p.offset + self.aim + near, p.offset + length * 3 / 4 + far);
                if x_end >= front && x_begin <= rear {
                    let at = match front > x_begin {
                        true => self
                            .time_at(front, self.drive.position(), from)
                            .max(begin)
                            .min(end),
                        false => begin,
                    };
                    self.remove(i, Whereabouts::Removed, at);
                }
            }
        }
        self.out = stretches;
    }

    fn remove(&mut self, i: usize, whereabouts: Whereabouts, at: Instant) {
        let p = &mut self.parts[i];
        p.truth.whereabouts = whereabouts;
        let (truth, offset) = (p.truth, p.offset);
        let x = self.drive.position();
        for sensor in self.sensors.clone() {
            let edge = x - offset - sensor.place;
            if (0..truth.part.length.as_micrometres()).contains(&edge) {
                self.part_edge(i, sensor.input, false, at);
            }
        }
        if whereabouts == Whereabouts::Removed && self.has_chute {
            let (low, high) = self.options.fall;
            let lands = at + Micros::new(self.rng_noise.range(low.get(), high.get()));
            self.sense(Input::ChuteEye, true, lands);
            self.sense(Input::ChuteEye, false, lands + CHUTE_COVERED);
        }
        self.truth.finish(truth, at);
    }

    fn take_part(&mut self, now: Instant) {
        let x = self.drive.position();
        // Clear of the photo-eye and of the reject's air.
        let room = 5_000;
        let taken = self.parts.iter().position(|p| {
            let (front, length) = (x - p.offset, p.truth.part.length.as_micrometres());
            p.truth.whereabouts == Whereabouts::OnBelt
                && front - length > room
                && front < self.reject_place - self.footprint / 2 - room
        });
        if let Some(i) = taken {
            self.remove(i, Whereabouts::Taken, now);
        }
        self.parts.retain(|p| p.truth.whereabouts == Whereabouts::OnBelt);
    }

    fn clear_belt(&mut self, now: Instant) {
        for i in 0..self.parts.len() {
            let truth = &self.parts[i].truth;
            if truth.crossed_at.is_some() && truth.whereabouts == Whereabouts::OnBelt {
                self.remove(i, Whereabouts::Taken, now);
            }
        }
        self.parts.retain(|p| p.truth.whereabouts == Whereabouts::OnBelt);
    }

    /// Parts that are past the last sensor, and removed ones, are off the line.
    fn leave(&mut self, x1: i64, at: Instant) {
        while let Some(p) = self.parts.front() {
            let tail = p.offset + p.truth.part.length.as_micrometres();
            if p.truth.whereabouts == Whereabouts::OnBelt {
                if tail + self.end > x1 {
                    break;
                }
                let truth = PartTruth {
                    whereabouts: Whereabouts::Passed,
                    ..p.truth
                };
                self.truth.finish(truth, at);
            }
            self.parts.pop_front();
        }
        self.parts.retain(|p| p.truth.whereabouts == Whereabouts::OnBelt);
    }

    /// No part is at the photo-eye now nor comes there within `time`.
    fn clear_ahead(&self, time: Micros) -> bool {
        let x = self.drive.position();
        let reach = Speed::from_um_per_s(self.drive.speed())
            .travel(time)
            .as_micrometres()
            + 5_000;
        !self.parts.iter().any(|p| {
            let tail = p.offset + p.truth.part.length.as_micrometres();
            p.offset <= x + reach && tail + 5_000 >= x
        })
    }

    /// Whether a part covers the sensor and is not overlooked by it.
    fn covered(&self, sensor: &Sensor) -> bool {
        let x = self.drive.position();
        self.parts.iter().any(|p| {
            (0..p.truth.part.length.as_micrometres()).contains(&(x - p.offset - sensor.place))
                && p.truth.whereabouts == Whereabouts::OnBelt
                && !(sensor.input == Input::PassedEye && p.overlooked_by_passed_eye)
        })
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
mod tests {
    use super::*;
    use crate::simulate::line::{self, Line};
    use std::collections::HashSet;

    fn at_ms(ms: i64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    /// A line with photo-eye and encoder, whatever else is drawn.
    fn line(seed: u64) -> Line {
        (0..)
            .map(|i| Line::draw(&mut Rng::new(seed * 1_000 + i)))
            .find(|l| {
                matches!(l.config.trigger, Trigger::PhotoEye { .. })
                    && matches!(l.config.belt.motion, Motion::Encoder { .. })
            })
            .expect("an endless search")
    }

    fn run(line: &Line, step: Micros, seconds: i64) -> (World, Vec<WorldEvent>) {
        let mut world = World::with_options(&line.config, line.world.clone(), Instant::ZERO);
        let mut events = Vec::new();
        world.output(line::PERMIT, true, at_ms(100));
        let mut now = Instant::ZERO;
        while now < at_ms(seconds * 1_000) {
            now += step;
            world.advance(now, &mut events);
        }
        (world, events)
    }

    #[test]
    fn what_happens_does_not_hang_on_how_often_one_looks() {
        let line = line(1);
        let (_, fine) = run(&line, Micros::new(100), 5);
        let (_, coarse) = run(&line, Micros::from_millis(50), 5);
        assert!(fine.len() > 1_000);
        assert_eq!(fine, coarse);
    }

    #[test]
    fn stamps_never_go_back_and_every_part_gives_its_edges() {
        for seed in 0..20 {
            let line = line(seed);
            let (world, events) = run(&line, Micros::from_millis(7), 10);
            let (mut last, mut edges, mut frames) = (Instant::ZERO, HashSet::new(), 0);
            for event in &events {
                let at = match event {
                    WorldEvent::Sensed(Event::Edge { input, active, at }) => {
                        if matches!(input, Input::PhotoEye(_)) && *active {
                            edges.insert(*at);
                        }
                        *at
                    }
                    WorldEvent::Sensed(Event::Encoder { at, .. }) => *at,
                    WorldEvent::Sensed(other) => panic!("the world has no {other:?}"),
                    WorldEvent::Expose(e) => {
                        frames += 1;
                        e.mid_exposure
                    }
                };
                assert!(at >= last, "{event:?} after {last:?}");
                last = at;
            }
            let truth = world.truth();
            assert!(truth.counts.crossed > 3, "seed {seed}");
            assert_eq!(edges.len() as u64, truth.counts.crossed, "seed {seed}");
            assert!(frames > 3);
            let on_belt = world.parts_on_belt().count() as u64;
            assert_eq!(
                truth.counts.crossed,
                truth.counts.passed + on_belt,
                "seed {seed}: parts got lost"
            );
        }
    }

    #[test]
    fn no_permit_no_motion_and_no_part() {
        let line = line(2);
        let mut world = World::with_options(&line.config, line.world, Instant::ZERO);
        let mut events = Vec::new();
        world.advance(at_ms(3_000), &mut events);
        assert_eq!(world.truth().counts.crossed, 0);
        assert_eq!(world.speed(), Speed::ZERO);
    }

    /// Fires by the world's own knowledge at exactly the nominal place.
    #[test]
    fn a_well_aimed_pulse_removes_its_part_and_touches_no_other() {
        for seed in 0..30 {
            let line = line(seed);
            let (reject, recipe) = (&line.config.reject, &line.config.recipes[0]);
            let v = line.world.speed;
            let mut world = World::with_options(&line.config, line.world.clone(), Instant::ZERO);
            let mut events = Vec::new();
            world.output(line::PERMIT, true, at_ms(0));
            world.advance(at_ms(4_000), &mut events);
            let before = world.truth().notes.len();
            // The part that crosses next, at constant speed from here on.
            let part = loop {
                world.advance(world.next_event() + TICK, &mut events);
                let crossed = world.truth().notes[before..].iter().find_map(|n| match n {
                    TruthNote::Crossed { part, at, .. } => Some((*part, *at)),
                    _ => None,
                });
                if let Some(found) = crossed {
                    break found;
                }
            };
            let (part, crossed) = part;
            let reach = |d: Length| crossed + v.time_for(d).expect("the belt runs");
            let on = reach(reject.distance + recipe.aim) - reject.lag_on;
            let off = reach(reject.distance + part.length + recipe.pulse_margin) - reject.lag_off;
            world.output(line::REJECT, true, on);
            world.output(line::REJECT, false, off.max(on + Micros::new(1)));
            world.advance(off + Micros::from_millis(2_000), &mut events);
            let hit: Vec<_> = world
                .truth()
                .notes
                .iter()
                .filter_map(|n| match n {
                    TruthNote::Removed { number, .. } | TruthNote::Touched { number, .. } => Some(*number),
                    _ => None,
                })
                .collect();
            assert_eq!(hit, [part.number, part.number], "seed {seed}");
            if line.config.verify.chute.is_some() {
                let chute = events.iter().find_map(|e| match e {
                    WorldEvent::Sensed(Event::Edge {
                        input: Input::ChuteEye,
                        active: true,
                        at,
                    }) => Some(*at),
                    _ => None,
                });
                let (after, c) = (
                    chute.expect("an edge").since(on + reject.lag_on),
                    line.config.verify.chute.as_ref(),
                );
                let c = c.expect("checked above");
                assert!(
                    c.after_min <= after && after <= c.after_max,
                    "seed {seed}: {after} after on"
                );
            }
        }
    }

    #[test]
    fn a_bounce_adds_edges_but_no_part() {
        let line = line(5);
        let mut world = World::with_options(&line.config, line.world.clone(), Instant::ZERO);
        world.output(line::PERMIT, true, at_ms(0));
        world.fault(
            at_ms(10),
            WorldFault::BounceNextPart {
                within: Micros::new(400),
            },
        );
        world.fault(at_ms(2_000), WorldFault::OverlookNextPart);
        let mut events = Vec::new();
        world.advance(at_ms(8_000), &mut events);
        let edges = events
            .iter()
            .filter(|e| {
                matches!(
                    e,
                    WorldEvent::Sensed(Event::Edge {
                        input: Input::PhotoEye(_),
                        active: true,
                        ..
                    })
                )
            })
            .count() as u64;
        let unseen = world
            .truth()
            .notes
            .iter()
            .filter(|n| matches!(n, TruthNote::Crossed { sensed: false, .. }));
        assert_eq!(unseen.count(), 1);
        assert!(
            edges >= world.truth().counts.crossed,
            "a bounce adds, an overlooked part takes one"
        );
    }
}
