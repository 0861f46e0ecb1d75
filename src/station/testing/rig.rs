//! A small line for tests of the core alone: belt, photo-eye, camera, models,
//! output lines, chute eye and passed eye, in steps of half a millisecond.
//! The simulation proper is `simulate/`; this one is for cases that are set up by hand.

use crate::config::{CameraMode, Config, Trigger};
use crate::infer::inspection::Inspection;
use crate::station::event::*;
use crate::station::testing::{self, PERMIT};
use crate::station::{Resume, Station};
use crate::units::*;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const STEP: i64 = 500;
const ENCODER_EVERY: i64 = 2_000;
const FRAME_EVERY: i64 = 16_000;
/// Read-out and locating: from mid-exposure to the event.
const READ_OUT: i64 = 5_000;
const FALL: i64 = 60_000;

/// A part on the rig's belt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thing {
    /// Belt position at which its leading edge is at the photo-eye.
    pub zero: i64,
    pub length: i64,
    pub good: bool,
    pub removed: bool,
}

pub(crate) struct Rig {
    pub config: Arc<Config>,
    pub station: Station,
    pub now: i64,
    pub position: i64,
    pub speed: i64,
    pub things: Vec<Thing>,
    pub log: Vec<Action>,
    /// How long an inspection takes; none answers while this is `None`.
    pub inspection: Option<i64>,
    pub camera_on: bool,
    /// This many frames are lost on their way.
    pub lose_frames: u32,
    /// The photo-eye overlooks what comes.
    pub blind: bool,
    /// Added to what the encoder tells, in µm.
    pub slipped: i64,
    pub actuator_works: bool,
    /// What the encoder told last.
    counted: Option<i64>,
    sequence: u32,
    odd_frames: u64,
    pulses: BTreeMap<PulseId, (PulsePlan, bool)>,
    /// When the reject acts on the belt: (from, to).
    acting: Vec<(i64, Option<i64>)>,
    later: Vec<(i64, Event)>,
    shown: BTreeMap<FrameId, Vec<(Blob, bool)>>,
    pub released: Vec<FrameId>,
    covered: BTreeMap<Input, bool>,
}

impl Rig {
    /// A belt at 500 mm/s, acknowledged, with the configuration of the tests.
    pub fn new() -> Rig {
        Rig::with(testing::config())
    }

    pub fn with(config: Config) -> Rig {
        let mut rig = Rig::boot(
            config,
            Resume {
                next_part: PartId(1),
                ..Resume::default()
            },
        );
        rig.run(100);
        rig.event(Event::OutputsReady(true));
        rig.event(Event::Command(Command::Acknowledge));
        rig
    }

    /// Nobody has acknowledged, and no output process is there.
    pub fn boot(config: Config, resume: Resume) -> Rig {
        let config = Arc::new(config);
        let station = Station::new(Arc::clone(&config), resume, Instant::ZERO);
        Rig {
            config,
            station,
            now: 0,
            position: 0,
            speed: 500_000,
            things: Vec::new(),
            log: Vec::new(),
            inspection: Some(30_000),
            camera_on: true,
            lose_frames: 0,
            blind: false,
            slipped: 0,
            actuator_works: true,
            counted: None,
            sequence: 0,
            odd_frames: 0,
            pulses: BTreeMap::new(),
            acting: Vec::new(),
            later: Vec::new(),
            shown: BTreeMap::new(),
            released: Vec::new(),
            covered: BTreeMap::new(),
        }
    }

    pub fn at(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    /// Lays a part 28 mm long so that it reaches the photo-eye `mm` from now.
    pub fn lay(&mut self, mm: i64, good: bool) {
        let zero = self.position + mm * 1_000;
        self.things.push(Thing {
            zero,
            length: 28_000,
            good,
            removed: false,
        });
    }

    pub fn event(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.station.handle(self.at(), event, &mut actions);
        self.station.verify_invariants();
        for action in actions {
            self.carry_out(&action);
            self.log.push(action);
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Inspect(job) => {
                let Some(after) = self.inspection else { return };
                let shown = self.shown.get(&job.frame).cloned().unwrap_or_default();
                let good = shown.iter().any(|(blob, good)| Some(*blob) == job.blob && *good);
                let scores = if good {
                    [0.95, 0.02, 0.03]
                } else {
                    [0.03, 0.95, 0.02]
                };
                let scores = Some(scores.into_iter().collect());
                let result = Ok(Inspection {
                    scores,
                    ..Inspection::default()
                });
                self.later.push((
                    self.now + after,
                    Event::Inspected {
                        part: job.part,
                        result,
                    },
                ));
            }
            Action::Release { frame, .. } => {
                assert!(!self.released.contains(frame), "{frame:?} released twice");
                self.released.push(*frame);
            }
            Action::Fire(plan) => {
                let entry = self.pulses.entry(plan.pulse).or_insert((*plan, false));
                let on_at = if entry.1 { entry.0.on_at } else { plan.on_at };
                entry.0 = PulsePlan { on_at, ..*plan };
            }
            Action::Cancel(pulse) => {
                if self.pulses.get(pulse).is_some_and(|(_, on)| !on) {
                    self.pulses.remove(pulse);
                }
            }
            Action::Record(_) | Action::Set { .. } => {}
        }
    }

    /// Lets `ms` pass.
    pub fn run(&mut self, ms: i64) {
        for _ in 0..ms * 1_000 / STEP {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        self.position += self.speed * STEP / 1_000_000;
        self.outputs();
        self.reject();
        self.sensors();
        if self.now % ENCODER_EVERY == 0 {
            let counts = (self.position + self.slipped) * 4 / 1_000;
            // As lines have it: while the belt stands there is nothing to tell.
            if self.counted.replace(counts) != Some(counts) {
                self.event(Event::Encoder {
                    lane: LaneId(0),
                    counts,
                    at: self.at(),
                });
            }
        }
        if self.exposes() {
            self.expose();
        }
        while let Some(index) = self.later.iter().position(|(due, _)| *due <= self.now) {
            let (_, event) = self.later.remove(index);
            self.event(event);
        }
        if self.station.next_deadline().is_some_and(|due| due <= self.at()) {
            self.event(Event::Tick);
        }
    }

    fn outputs(&mut self) {
        let due: Vec<_> = self.pulses.values().copied().collect();
        for (plan, on) in due {
            let (pulse, at) = (plan.pulse, self.at());
            if !on && plan.on_at <= at {
                self.pulses.insert(pulse, (plan, true));
                self.acting
                    .push((self.now + self.config.reject.lag_on.get(), None));
                self.event(Event::Pulse {
                    pulse,
                    report: PulseReport::On { at },
                });
            } else if on && plan.off_at <= at {
                self.pulses.remove(&pulse);
                let until = self.now + self.config.reject.lag_off.get();
                self.acting.last_mut().expect("it was on").1 = Some(until);
                self.event(Event::Pulse {
                    pulse,
                    report: PulseReport::Off { at },
                });
            }
        }
    }

    /// What lies in the middle of the reject, 2 mm at least, while it acts leaves the belt.
    fn reject(&mut self) {
        let (now, works) = (self.now, self.actuator_works);
        let acts = self
            .acting
            .iter()
            .any(|(from, to)| *from <= now && to.is_none_or(|to| now < to));
        let here = self.position - self.config.reject.distance.as_micrometres();
        for thing in self.things.iter_mut().filter(|thing| !thing.removed) {
            let under = thing.zero + 2_000 <= here && here <= thing.zero + thing.length;
            if acts && works && under {
                thing.removed = true;
                let edge = |active, at| {
                    (
                        at,
                        Event::Edge {
                            input: Input::ChuteEye,
                            active,
                            at: Instant::from_micros(at),
                        },
                    )
                };
                self.later.push(edge(true, now + FALL));
                self.later.push(edge(false, now + FALL + 8_000));
            }
        }
    }

    fn sensors(&mut self) {
        let passed = &self.config.verify.passed;
        let passed = passed
            .as_ref()
            .map_or(i64::MAX / 2, |eye| eye.distance.as_micrometres());
        for (input, place) in [(Input::PhotoEye(LaneId(0)), 0), (Input::PassedEye, passed)] {
            let here = self.position - place;
            let covers = |t: &Thing| !t.removed && t.zero <= here && here < t.zero + t.length;
            let active = self.things.iter().any(covers);
            let photo = place == 0;
            if photo && (self.blind || matches!(self.config.trigger, Trigger::Vision)) {
                continue;
            }
            if self.covered.insert(input, active).unwrap_or(false) != active {
                self.event(Event::Edge {
                    input,
                    active,
                    at: self.at(),
                });
            }
        }
    }

    /// On its beat, or when a part that the photo-eye announced is in the middle of the picture.
    fn exposes(&self) -> bool {
        let camera = &self.config.cameras[0];
        match camera.mode {
            CameraMode::FreeRunning { .. } => self.now % FRAME_EVERY == 0,
            CameraMode::Triggered => {
                let moved = self.speed * STEP / 1_000_000;
                let centre =
                    |t: &Thing| self.position - camera.distance.as_micrometres() - t.zero - t.length / 2;
                self.things
                    .iter()
                    .any(|t| !t.removed && (0..moved).contains(&centre(t)))
            }
        }
    }

    fn expose(&mut self) {
        self.sequence += 1;
        if self.lose_frames > 0 {
            self.lose_frames -= 1;
            return;
        }
        if !self.camera_on {
            return;
        }
        let centre = self.config.cameras[0].distance.as_micrometres();
        let frame = FrameId(u64::from(self.sequence));
        let (mut blobs, mut shown) = (arrayvec::ArrayVec::new(), Vec::new());
        for thing in self.things.iter().filter(|thing| !thing.removed) {
            let px = |um: i64| (um / 120 + 640).clamp(0, 1_280);
            let front = px(self.position - thing.zero - centre);
            let rear = px(self.position - thing.zero - thing.length - centre);
            if front > rear && !blobs.is_full() {
                let (x, width) = (rear as u16, (front - rear) as u16);
                let (cut, area_px) = (rear == 0 || front == 1_280, u32::from(width) * 233);
                let blob = Blob {
                    x,
                    y: 300,
                    width,
                    height: 233,
                    area_px,
                    cut,
                };
                blobs.push(blob);
                shown.push((blob, thing.good));
            }
        }
        self.shown.insert(frame, shown);
        let (camera, sequence, mid_exposure) = (CameraId(0), self.sequence, self.at());
        let (width, height) = (1_280, 960);
        let seen = FrameSeen {
            camera,
            frame,
            sequence,
            mid_exposure,
            width,
            height,
            blobs,
        };
        self.later.push((self.now + READ_OUT, Event::Frame(seen)));
    }

    /// A frame out of nowhere; `back` 0 repeats the last sequence number.
    pub fn odd_frame(&mut self, back: u32, x: u16, cut: bool) {
        self.odd_frames += 1;
        let frame = FrameId(1_000_000 + self.odd_frames);
        let blob = Blob {
            x,
            y: 300,
            width: 233,
            height: 233,
            area_px: 54_289,
            cut,
        };
        let (camera, mid_exposure) = (CameraId(0), self.at());
        let (sequence, width, height) = (self.sequence.wrapping_sub(back), 1_280, 960);
        let blobs = [blob].into_iter().collect();
        self.event(Event::Frame(FrameSeen {
            camera,
            frame,
            sequence,
            mid_exposure,
            width,
            height,
            blobs,
        }));
    }

    pub fn counts(&self) -> Counts {
        self.station.view(self.at()).counts
    }

    pub fn permit(&self) -> bool {
        let told = self.log.iter().rev().find_map(|action| match action {
            Action::Set {
                output: PERMIT,
                active,
            } => Some(*active),
            _ => None,
        });
        let permit = told.unwrap_or(false);
        assert_eq!(
            permit,
            self.station.view(self.at()).permit,
            "what was told and what is shown differ"
        );
        permit
    }

    pub fn alarms(&self) -> Vec<AlarmKind> {
        self.station
            .view(self.at())
            .alarms
            .iter()
            .map(|alarm| alarm.kind)
            .collect()
    }

    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.log.iter().filter_map(|action| match action {
            Action::Record(entry) => Some(entry),
            _ => None,
        })
    }

    /// Fates by part number.
    pub fn fates(&self) -> Vec<(u64, Fate)> {
        let ended = |entry: &Entry| match entry {
            Entry::Ended { part, fate, .. } => Some((part.0, *fate)),
            _ => None,
        };
        let mut fates: Vec<_> = self.entries().filter_map(ended).collect();
        fates.sort_by_key(|(part, _)| *part);
        fates
    }

    pub fn verdicts(&self) -> Vec<(u64, Verdict)> {
        let judged = |entry: &Entry| match entry {
            Entry::Judged { part, verdict, .. } => Some((part.0, *verdict)),
            _ => None,
        };
        self.entries().filter_map(judged).collect()
    }

    pub fn fires(&self) -> Vec<PulsePlan> {
        let fire = |action: &Action| match action {
            Action::Fire(plan) => Some(*plan),
            _ => None,
        };
        self.log.iter().filter_map(fire).collect()
    }
}
