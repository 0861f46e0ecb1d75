//! The player of the line: a belt with parts that a test knows, moved along the real clock.
//!
//! It plays everything outside the box: photo-eye, encoder, chute eye, passed eye, bin, button, and
//! the parts in the camera's picture. It reads what the station does from the simulated chip: permit,
//! reject, beacon. Nothing is asserted against a clock: when the guest is held up, so is the belt.
//!
//! ```text
//!   photo-eye      camera            rejecter    passed eye
//!      0 ────────── 60 ─────────────── 150 ──────── 210 mm
//! ```

use super::gpio_sim::{GpioSim, Pull};
use super::vivid::{GREEN, RED, SCALE, Square};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Chips, as the configuration names them.
pub const INPUTS: &str = "io-in";
pub const OUTPUTS: &str = "io-out";
pub const INPUT_LINES: [&str; 8] = [
    "PE_TRIG",
    "ENC_A",
    "ENC_B",
    "PE_CHUTE",
    "PE_PASSED",
    "PE_BIN",
    "BELT_FB",
    "ACK",
];
pub const OUTPUT_LINES: [&str; 3] = ["REJ1", "BELT_RUN", "BEACON"];
/// It blows, the belt runs, and no lamp is lit.
pub const UNSAFE: [(&str, bool); 3] = [("REJ1", true), ("BELT_RUN", true), ("BEACON", false)];

/// Lengths in mm.
pub const PART: f64 = 28.0;
pub const PITCH: f64 = 64.0;
pub const CAMERA: f64 = 60.0;
pub const REJECT: f64 = 150.0;
pub const PASSED: f64 = 210.0;
pub const MM_PER_PX: f64 = 0.5;
const PICTURE: [f64; 2] = [1280.0 / SCALE as f64, 720.0 / SCALE as f64];
/// As fast as the guest can be relied on: what a test waits for most is parts that travel.
const SPEED: f64 = 60.0;
/// mm/s per second: the belt runs on for a millimetre after the permit went off.
const RAMP: f64 = 1_600.0;
const COUNTS_PER_MM: f64 = 2.0;
/// From the blow to the chute eye, and how long it is covered there.
const FALL: Duration = Duration::from_millis(150);
const COVER: Duration = Duration::from_millis(80);
const TURN: Duration = Duration::from_millis(4);
/// A belt does not jump because the guest was held up; and gpio-sim takes two edges of a line that come
/// at once for one, so a turn moves it by less than a count.
const TURN_MAX: f64 = 0.9 / (SPEED * COUNTS_PER_MM);

/// A part and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub bad: bool,
    /// Belt position at which its leading edge covered the photo-eye.
    pub start: f64,
    pub blown: bool,
    /// It reached the passed eye.
    pub passed: bool,
    /// A person took it away.
    pub taken: bool,
}

impl Part {
    pub fn on_belt(&self) -> bool {
        !self.blown && !self.taken
    }
}

/// The reject was on from here to there, in belt positions.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    pub from: f64,
    pub to: Option<f64>,
}

#[derive(Debug, Default)]
pub struct World {
    pub parts: Vec<Part>,
    waiting: VecDeque<bool>,
    pub position: f64,
    pub speed: f64,
    /// That it runs at, permitted to.
    full_speed: f64,
    pub pulses: Vec<Pulse>,
    pub permit: bool,
    pub reject: bool,
    pub beacon: bool,
    /// How often the permit went on.
    pub permits: u32,
    /// Covers of the chute eye to come.
    falls: VecDeque<Instant>,
    counts: i64,
    chute: bool,
    stuck: HashMap<&'static str, bool>,
    /// What the lines show; emptied, all are set anew.
    shown: HashMap<&'static str, bool>,
    acknowledge: bool,
}

/// The running line.
pub struct Line {
    world: Arc<Mutex<World>>,
    inputs: Arc<Mutex<GpioSim>>,
    outputs: Arc<Mutex<GpioSim>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    pub fn start() -> Line {
        let inputs = GpioSim::new(INPUTS, &INPUT_LINES);
        let outputs = GpioSim::new(OUTPUTS, &OUTPUT_LINES);
        let line = Line {
            world: Arc::new(Mutex::new(World {
                full_speed: SPEED,
                ..World::default()
            })),
            inputs: Arc::new(Mutex::new(inputs)),
            outputs: Arc::new(Mutex::new(outputs)),
            stop: Arc::default(),
            thread: None,
        };
        line.run()
    }

    fn run(mut self) -> Line {
        let (world, stop) = (Arc::clone(&self.world), Arc::clone(&self.stop));
        let (inputs, outputs) = (Arc::clone(&self.inputs), Arc::clone(&self.outputs));
        let run = move || {
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let now = Instant::now();
                let dt = (now - last).as_secs_f64().min(TURN_MAX);
                last = now;
                let mut world = lock(&world);
                world.look(&lock(&outputs));
                world.turn(dt, now);
                world.show(&lock(&inputs));
                drop(world);
                std::thread::sleep(TURN);
            }
        };
        let thread = std::thread::Builder::new().name("line".into()).spawn(run);
        self.thread = Some(thread.expect("a thread can be started"));
        self
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub fn inputs(&self) -> MutexGuard<'_, GpioSim> {
        lock(&self.inputs)
    }

    pub fn outputs(&self) -> MutexGuard<'_, GpioSim> {
        lock(&self.outputs)
    }

    /// A person takes every part off the belt.
    pub fn clear(&self) {
        let mut world = self.world();
        world.waiting.clear();
        for part in &mut world.parts {
            part.taken = true;
        }
    }

    /// Puts parts on the belt, a letter each: g is good, b is bad.
    pub fn feed(&self, parts: &str) {
        self.world().waiting.extend(parts.chars().map(|part| part == 'b'));
    }

    /// Runs slower from now on, by this share of the usual speed.
    pub fn slow_down(&self, share: f64) {
        self.world().full_speed = SPEED * share;
    }

    /// A line that shows this whatever happens; `None` ends it.
    pub fn stick(&self, name: &'static str, level: Option<bool>) {
        let stuck = &mut self.world().stuck;
        match level {
            Some(level) => stuck.insert(name, level),
            None => stuck.remove(name),
        };
    }

    /// Presses or releases the button.
    pub fn button(&self, down: bool) {
        self.world().acknowledge = down;
    }

    /// After a chip was put back: all its lines are pulled anew.
    pub fn show_anew(&self) {
        self.world().shown.clear();
    }

    /// What the camera sees now, in pixels of the captured picture.
    pub fn scene(&self) -> impl Fn() -> Vec<Square> + Send + 'static {
        let world = Arc::clone(&self.world);
        move || {
            let world = lock(&world);
            let here = world.position;
            let on_belt = world.parts.iter().filter(|part| part.on_belt());
            let side = (PART / MM_PER_PX) as i64;
            on_belt
                .map(|part| {
                    let lead = (here - part.start - CAMERA) / MM_PER_PX + PICTURE[0] / 2.0;
                    let colour = if part.bad { RED } else { GREEN };
                    let top = PICTURE[1] as i64 / 2 - side / 2;
                    Square {
                        left: lead.round() as i64 - side,
                        top,
                        side,
                        colour,
                    }
                })
                .filter(|square| square.left < PICTURE[0] as i64 && square.left + side > 0)
                .collect()
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl World {
    /// Nothing waits to be put on the belt, and what was put on it has left it.
    pub fn is_empty(&self) -> bool {
        let left = |part: &Part| !part.on_belt() || self.position - part.start > PASSED + PART;
        self.waiting.is_empty() && self.parts.iter().all(left)
    }

    /// Parts on the belt, behind it, and waiting to be put on it.
    pub fn fed(&self) -> usize {
        self.parts.len() + self.waiting.len()
    }

    /// The leading edge of the part that was put on the belt last, from the photo-eye.
    pub fn last_lead(&self) -> f64 {
        self.parts
            .last()
            .map_or(f64::NEG_INFINITY, |part| self.position - part.start)
    }

    fn look(&mut self, outputs: &GpioSim) {
        // A chip that is unplugged switches nothing on.
        let on = |name| outputs.try_level(name).unwrap_or(false);
        let permit = on("BELT_RUN");
        self.permits += u32::from(permit && !self.permit);
        self.permit = permit;
        self.beacon = on("BEACON");
        let reject = on("REJ1");
        if reject && !self.reject {
            self.pulses.push(Pulse {
                from: self.position,
                to: None,
            });
        }
        if let (false, true, Some(pulse)) = (reject, self.reject, self.pulses.last_mut()) {
            pulse.to = Some(self.position);
        }
        self.reject = reject;
    }

    fn turn(&mut self, dt: f64, now: Instant) {
        let wanted = if self.permit { self.full_speed } else { 0.0 };
        let change = RAMP * dt;
        self.speed += (wanted - self.speed).clamp(-change, change);
        self.position += self.speed * dt;
        if !self.waiting.is_empty() && self.speed > 0.0 && self.last_lead().abs() >= PITCH {
            let bad = self.waiting.pop_front().unwrap_or_default();
            let start = self.position;
            self.parts.push(Part {
                bad,
                start,
                blown: false,
                passed: false,
                taken: false,
            });
        }
        let (here, reject) = (self.position, self.reject);
        for part in self.parts.iter_mut().filter(|part| part.on_belt()) {
            let lead = here - part.start;
            if reject && lead >= REJECT && lead - PART <= REJECT {
                part.blown = true;
                self.falls.push_back(now + FALL);
            }
            part.passed |= lead >= PASSED;
        }
        while self.falls.front().is_some_and(|&at| now >= at + COVER) {
            self.falls.pop_front();
        }
        self.chute = self.falls.iter().any(|&at| now >= at);
    }

    fn show(&mut self, inputs: &GpioSim) {
        let covers = |at: f64, part: &Part| (0.0..PART).contains(&(self.position - part.start - at));
        let on_belt = || self.parts.iter().filter(|part| part.on_belt());
        let trigger = on_belt().any(|part| covers(0.0, part));
        let passed = on_belt().any(|part| covers(PASSED, part));
        let levels = [
            ("PE_TRIG", trigger),
            ("PE_PASSED", passed),
            ("PE_CHUTE", self.chute),
            ("PE_BIN", false),
            ("BELT_FB", self.speed > 0.0),
            ("ACK", self.acknowledge),
        ];
        self.turn_encoder(inputs);
        for (name, level) in levels {
            self.pull(inputs, name, level);
        }
    }

    /// Two lines, one edge a count, a ahead of b.
    fn turn_encoder(&mut self, inputs: &GpioSim) {
        while self.counts < (self.position * COUNTS_PER_MM) as i64 {
            self.counts += 1;
            let phase = self.counts.rem_euclid(4);
            self.pull(inputs, "ENC_A", phase == 1 || phase == 2);
            self.pull(inputs, "ENC_B", phase >= 2);
        }
    }

    fn pull(&mut self, inputs: &GpioSim, name: &'static str, level: bool) {
        let level = self.stuck.get(name).copied().unwrap_or(level);
        if self.shown.get(name) != Some(&level) && inputs.try_pull(name, Pull::to(level)) {
            self.shown.insert(name, level);
        }
    }
}
