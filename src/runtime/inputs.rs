//! The input thread: owns all real input lines and the encoder, and tells the core of them.
//!
//! Duties:
//! 1. Hand every edge on raw, with the kernel's stamp; the core debounces.
//! 2. Tell the level of a line when it begins to be watched, and whenever edges cannot have told it.
//! 3. Notice what is wrong: lost edges, a line that flickers, a chip that is gone. Alarm, carry on
//!    with the rest, and come back by itself.
//!
//! ```text
//!              200 edges within 20 ms               read or poll fails
//!    Muted ◀───────────────────────── Open ───────────────────────────▶ Lost
//!      │                               ▲ ▲                               │
//!      └───────────────────────────────┘ └───────────────────────────────┘
//!       quiet again: level told anew           opened again: level told anew
//!   Muted: trouble `EdgesLost`, and nothing of the line reaches the core. Lost: trouble `LinesLost`.
//! ```

mod encoder;
mod flood;

use super::{Beat, Beats, InputPort, Message, Stop, spawn};
use crate::config::{Config, EncoderSource, InputLine, Motion, Trigger};
use crate::device::clock;
use crate::device::gpio::GpioError;
use crate::device::gpio::edges::{BATCH, Edge, EdgeLine, Edges};
use crate::device::lines;
use crate::device::quadrature::Phase;
use crate::device::realtime::{Priority, raise_priority};
use crate::station::event::{Event, Input, Trouble};
use crate::units::{Instant, Micros};
use anyhow::{Context, Result};
use arrayvec::ArrayVec;
use crossbeam_channel::Receiver;
use encoder::Encoder;
use flood::Flood;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Seven inputs and two lines of an encoder.
const LINES_MAX: usize = 9;
/// Longest sleep; the wish to stop and the sign of life are as old as this at most.
const LOOK: Micros = Micros::from_millis(100);
/// How often lost lines are looked for, and levels compared with what the edges said.
const CHECK: Micros = Micros::from_millis(500);
/// A level that contradicts the edges is looked at again after this: the edge may be on its way,
/// even on a computer that is held up.
const DOUBT: Micros = Micros::from_millis(100);
/// How long a flooding line is left alone, and how many edges it may then have to count as quiet:
/// the kernel's queue is not emptied meanwhile, so more than this means that it goes on.
const MUTE: Micros = Micros::from_millis(20);
const QUIET: usize = 8;
/// Reads that empty a queue of 1,024 events.
const DRAIN: usize = 1_024 / BATCH + 1;
/// Lost edges are reported at most this often; each report stops the belt as it is.
const REPORT: Micros = Micros::from_millis(100);

/// Events that wait for a listener, as many as for the core.
const LISTENED_MAX: usize = super::MESSAGES_MAX;

/// Opens the lines before it returns, so that a wrong name is an error at the start.
pub(super) fn start(config: &Arc<Config>, port: InputPort, stop: Stop, beat: Beat) -> Result<JoinHandle<()>> {
    lines::find(&config.outputs).context("an output line cannot be used")?;
    let inputs = Inputs::open(config, port)?;
    spawn("inputs", move || {
        if let Err(error) = raise_priority(Priority::Line) {
            tracing::info!("input lines are read without real-time priority: {error}");
        }
        inputs.run(&stop, &beat);
    })
}

/// The input lines of a configuration without a station behind them: to see what they do.
pub struct Listener {
    events: Receiver<Message>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub fn start(config: &Arc<Config>) -> Result<Listener> {
        let (port, events) = InputPort::alone(LISTENED_MAX);
        let stop = Stop::default();
        let beat = Beats::default().register("inputs", Micros::from_secs(2));
        Ok(Listener {
            events,
            thread: Some(start(config, port, stop.clone(), beat)?),
            stop,
        })
    }

    /// What happened next; `None` when nothing did for so long.
    pub fn next(&self, patience: Duration) -> Option<Event> {
        match self.events.recv_timeout(patience) {
            Ok(Message::Event(event)) => Some(event),
            _ => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the input thread panicked");
        }
    }
}

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Input(Input),
    Encoder(Phase),
}

struct Line {
    role: Role,
    wanted: InputLine,
    state: State,
    flood: Flood,
    /// The last level handed on. The core takes every input to be inactive before it hears of it.
    told: bool,
    /// An edge from before this is part of the level that was told.
    since: Instant,
    /// No edge yet since the level was told.
    fresh: bool,
    /// The level contradicted the edges when it was looked at last, and no edge has come since.
    doubted: bool,
}

enum State {
    Open(EdgeLine),
    Muted(EdgeLine, Instant),
    Lost,
}

struct Inputs {
    lines: ArrayVec<Line, LINES_MAX>,
    encoder: Encoder,
    port: InputPort,
    next_check: Instant,
    next_report: Instant,
    /// What the core was told last.
    told_flood: bool,
    told_lost: bool,
}

/// Every real input line of a station.
fn wanted(config: &Config) -> Vec<(Role, &InputLine)> {
    let mut all = Vec::with_capacity(LINES_MAX);
    let mut add = |role, line| all.push((role, line));
    if let Trigger::PhotoEye { line, .. } = &config.trigger {
        add(Role::Input(Input::PhotoEye(config.belt.lane)), line);
    }
    let verify = &config.verify;
    let inputs = [
        (Input::ChuteEye, verify.chute.as_ref().map(|eye| &eye.line)),
        (Input::PassedEye, verify.passed.as_ref().map(|eye| &eye.line)),
        (Input::BinFull, verify.bin_full.as_ref().map(|input| &input.line)),
        (Input::AirLow, verify.air_low.as_ref().map(|input| &input.line)),
        (Input::BeltRunning, config.belt.running.as_ref()),
        (Input::Acknowledge, config.station.acknowledge.as_ref()),
    ];
    for (input, line) in inputs {
        if let Some(line) = line {
            add(Role::Input(input), line);
        }
    }
    if let Motion::Encoder {
        source: EncoderSource::Lines { a, b },
        ..
    } = &config.belt.motion
    {
        add(Role::Encoder(Phase::A), a);
        if let Some(b) = b {
            add(Role::Encoder(Phase::B), b);
        }
    }
    all.retain(|(_, line)| line.chip != lines::SIMULATED_CHIP);
    all
}

impl Inputs {
    fn open(config: &Config, port: InputPort) -> Result<Inputs> {
        let now = clock::now();
        let mut inputs = Inputs {
            lines: ArrayVec::new(),
            encoder: Encoder::open(config, now)?,
            port,
            next_check: now + CHECK,
            next_report: now,
            told_flood: false,
            told_lost: false,
        };
        for (role, line) in wanted(config) {
            let mut line = Line::new(role, line.clone());
            line.open()?;
            inputs.lines.push(line);
        }
        inputs.say_what_is_used(config);
        for index in 0..inputs.lines.len() {
            inputs.tell_level(index);
        }
        inputs.restart_encoder();
        Ok(inputs)
    }

    fn say_what_is_used(&self, config: &Config) {
        let open = |line: &Line| match &line.state {
            State::Open(open) => Some((open.uapi(), open.has_kernel_stamps())),
            _ => None,
        };
        let Some((uapi, kernel_stamps)) = self.lines.iter().find_map(open) else {
            return;
        };
        tracing::info!(
            "{} input lines, GPIO interface {uapi} of the kernel",
            self.lines.len()
        );
        if !kernel_stamps {
            let per_ms = config.belt.speed_max.as_mm_per_s() / 1_000.0;
            tracing::warn!(
                "this kernel stamps edges by wall clock (Linux before 5.7): the time of waking up is taken \
                 instead, and each ms that takes is {per_ms:.1} mm at the highest speed of the belt"
            );
        }
    }

    fn run(mut self, stop: &Stop, beat: &Beat) {
        while !stop.is_set() {
            beat.tick();
            for (index, event) in self.wait() {
                match event {
                    Ready::Readable => self.take(index),
                    Ready::Gone => self.lose(index, &io::Error::other("its chip is gone")),
                }
            }
            self.turn_encoder();
            let now = clock::now();
            self.unmute(now);
            if now >= self.next_check {
                self.check(now);
            }
            self.tell_troubles();
        }
    }

    /// Sleeps until a line has edges or something is due.
    fn wait(&self) -> ArrayVec<(usize, Ready), LINES_MAX> {
        let now = clock::now();
        let mut until = self.next_check.min(now + LOOK);
        until = until.min(self.encoder.wake().unwrap_or(Instant::MAX));
        let mut fds: ArrayVec<PollFd<'_>, LINES_MAX> = ArrayVec::new();
        let mut indices: ArrayVec<usize, LINES_MAX> = ArrayVec::new();
        for (index, line) in self.lines.iter().enumerate() {
            match (&line.state, line.role) {
                // Read once a sample, so that an encoder does not wake us with each of its edges.
                (State::Open(_), Role::Encoder(_)) if !self.encoder.is_due(now) => {
                    until = until.min(self.encoder.next());
                }
                (State::Open(open), _) => {
                    fds.push(PollFd::new(open, PollFlags::IN));
                    indices.push(index);
                }
                (State::Muted(_, end), _) => until = until.min(*end),
                (State::Lost, _) => {}
            }
        }
        let timeout = clock::timespec(Instant::ZERO + until.since(now).max(Micros::ZERO));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => return ArrayVec::new(),
            Err(error) => {
                tracing::error!("input lines cannot be waited for: {error}");
                std::thread::sleep(Duration::from_millis(10));
                return ArrayVec::new();
            }
        }
        let ready = |(fd, index): (&PollFd<'_>, &usize)| match fd.revents() {
            none if none.is_empty() => None,
            some if some.contains(PollFlags::IN) => Some((*index, Ready::Readable)),
            _ => Some((*index, Ready::Gone)),
        };
        fds.iter().zip(&indices).filter_map(ready).collect()
    }

    /// Hands on what has happened on a line.
    fn take(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let State::Open(open) = &mut line.state else {
            return;
        };
        let mut edges = Edges::new();
        if let Err(error) = open.read(&mut edges) {
            return self.lose(index, &error);
        }
        let lost = edges.iter().any(|edge| edge.gap);
        for edge in edges {
            if line.flood.edge(edge.order) {
                return self.mute(index);
            }
            if line.is_news(edge) {
                line.hand_on(edge, &self.port, &mut self.encoder);
            }
        }
        if lost {
            if let Role::Encoder(_) = line.role {
                self.encoder.void();
            }
            let name = line.wanted.name.clone();
            self.edges_lost(&format!("edges of line {name} were lost"));
        }
    }

    /// Takes all that waits on a line of the encoder, which is not polled between two samples.
    fn take_encoder(&mut self, index: usize) {
        for _ in 0..DRAIN {
            let line = &self.lines[index];
            let (State::Open(open), Role::Encoder(_)) = (&line.state, line.role) else {
                return;
            };
            // An error shows again, and in words, when the line is read or polled next.
            if !clock::wait_readable(open, Duration::ZERO).unwrap_or(false) {
                return;
            }
            self.take(index);
        }
    }

    /// A line that flickers says nothing: it is left alone for a while.
    fn mute(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let name = &line.wanted.name;
        tracing::warn!(
            "line {name} flickers (more than 200 edges in 20 ms); it is not heard until it is quiet"
        );
        line.state = match std::mem::replace(&mut line.state, State::Lost) {
            State::Open(open) | State::Muted(open, _) => State::Muted(open, clock::now() + MUTE),
            State::Lost => State::Lost,
        };
    }

    /// Listens again to lines that have become quiet.
    fn unmute(&mut self, now: Instant) {
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index];
            let State::Muted(open, end) = &mut line.state else {
                continue;
            };
            if now < *end {
                continue;
            }
            match drain(open) {
                Ok(edges) if edges > QUIET => *end = now + MUTE,
                Ok(_) => {
                    line.state = match std::mem::replace(&mut line.state, State::Lost) {
                        State::Muted(open, _) => State::Open(open),
                        other => other,
                    };
                    line.flood = Flood::default();
                    tracing::info!("line {} is quiet again", line.wanted.name);
                    self.resume(index);
                }
                Err(error) => self.lose(index, &error),
            }
        }
    }

    /// A line is followed again after a gap.
    fn resume(&mut self, index: usize) {
        self.tell_level(index);
        if let Role::Encoder(_) = self.lines[index].role {
            self.restart_encoder();
        }
    }

    /// The core hears the level of an input that is another than the one it knows.
    fn tell_level(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let State::Open(open) = &line.state else { return };
        line.since = clock::now();
        line.fresh = true;
        let active = match open.is_active() {
            Ok(active) => active,
            Err(error) => return self.lose(index, &error),
        };
        if line.told == active {
            return;
        }
        line.told = active;
        if let Role::Input(input) = line.role {
            let at = line.since;
            self.port.send(Event::Edge { input, active, at });
        }
    }

    /// The count goes on from where the encoder's lines stand; what they did before is unknown.
    fn restart_encoder(&mut self) {
        let level = |phase| {
            let of = |line: &&Line| line.role == Role::Encoder(phase);
            self.lines.iter().find(of).map(|line| line.told)
        };
        if let Some(a) = level(Phase::A) {
            let b = level(Phase::B);
            self.encoder.restart(a, b);
        }
    }

    fn turn_encoder(&mut self) {
        if self.encoder.is_due(clock::now()) {
            for index in 0..self.lines.len() {
                self.take_encoder(index);
            }
        }
        match self.encoder.turn(clock::now(), &self.port) {
            Ok(turn) if turn.illegal > 0 => self.edges_lost("the lines of the encoder contradict each other"),
            Ok(_) => {}
            Err(error) => tracing::warn!("the encoder is lost: {error}"),
        }
    }

    /// The kernel gave up a line: its chip was removed or does not answer.
    fn lose(&mut self, index: usize, error: &io::Error) {
        let line = &mut self.lines[index];
        line.state = State::Lost;
        tracing::warn!(
            "line {} of chip {} is lost: {error}",
            line.wanted.name,
            line.wanted.chip
        );
    }

    /// Looks for what was lost, and whether levels are what the edges said.
    fn check(&mut self, now: Instant) {
        self.next_check = now + CHECK;
        for index in 0..self.lines.len() {
            match &self.lines[index].state {
                State::Lost => self.reopen(index),
                State::Open(_) => self.compare(index, now),
                State::Muted(..) => {}
            }
        }
        match self.encoder.reopen() {
            Some(Ok(())) => tracing::info!("the encoder is back"),
            Some(Err(error)) => tracing::debug!("the encoder is not back: {error}"),
            None => {}
        }
    }

    fn reopen(&mut self, index: usize) {
        let line = &mut self.lines[index];
        match line.open() {
            Ok(()) => {
                tracing::info!("line {} of chip {} is back", line.wanted.name, line.wanted.chip);
                self.resume(index);
            }
            Err(error) => tracing::debug!("a line is not back: {error}"),
        }
    }

    fn compare(&mut self, index: usize, now: Instant) {
        let line = &mut self.lines[index];
        let State::Open(open) = &line.state else { return };
        let active = match open.is_active() {
            Ok(active) => active,
            Err(error) => return self.lose(index, &error),
        };
        let doubt = active != line.told;
        if !doubt || !line.doubted {
            line.doubted = doubt;
            if doubt {
                self.next_check = now + DOUBT;
            }
            return;
        }
        line.doubted = false;
        let name = line.wanted.name.clone();
        self.resume(index);
        self.edges_lost(&format!("line {name} is not where its edges left it"));
    }

    fn edges_lost(&mut self, why: &str) {
        let now = clock::now();
        if now < self.next_report || self.told_flood {
            return;
        }
        self.next_report = now + REPORT;
        tracing::warn!("{why}");
        self.tell(Trouble::EdgesLost, true);
        self.tell(Trouble::EdgesLost, false);
    }

    fn tell_troubles(&mut self) {
        let flood = self
            .lines
            .iter()
            .any(|line| matches!(line.state, State::Muted(..)));
        let lost = self.encoder.is_lost() || self.lines.iter().any(|line| matches!(line.state, State::Lost));
        if flood != self.told_flood {
            self.told_flood = flood;
            self.tell(Trouble::EdgesLost, flood);
        }
        if lost != self.told_lost {
            self.told_lost = lost;
            self.tell(Trouble::LinesLost, lost);
        }
    }

    fn tell(&self, trouble: Trouble, present: bool) {
        self.port.send(Event::Trouble { trouble, present });
    }
}

#[derive(Clone, Copy, Debug)]
enum Ready {
    Readable,
    Gone,
}

impl Line {
    fn new(role: Role, wanted: InputLine) -> Line {
        Line {
            role,
            wanted,
            state: State::Lost,
            flood: Flood::default(),
            told: false,
            since: Instant::ZERO,
            fresh: true,
            doubted: false,
        }
    }

    fn open(&mut self) -> Result<(), GpioError> {
        self.state = State::Open(EdgeLine::open(&self.wanted)?);
        self.flood = Flood::default();
        Ok(())
    }

    /// Whether an edge says more than the level that was told when the line began to be watched.
    fn is_news(&mut self, edge: Edge) -> bool {
        let fresh = std::mem::take(&mut self.fresh);
        let known = edge.at < self.since || (fresh && edge.active == self.told);
        self.fresh = fresh && edge.at < self.since;
        !known
    }

    fn hand_on(&mut self, edge: Edge, port: &InputPort, encoder: &mut Encoder) {
        let before = std::mem::replace(&mut self.told, edge.active);
        self.doubted = false;
        match self.role {
            Role::Encoder(phase) => encoder.edge(phase, edge),
            Role::Input(input) => {
                let Edge { active, at, gap, .. } = edge;
                if active == before && !gap {
                    // Nothing is missing: the line went there and back before the kernel could look.
                    // For the core that is what it was, a blip, and no part that began unseen.
                    let active = !active;
                    port.send(Event::Edge { input, active, at });
                }
                port.send(Event::Edge { input, active, at });
            }
        }
    }
}

/// Throws away what has gathered in the kernel's queue, and counts it.
fn drain(line: &mut EdgeLine) -> io::Result<usize> {
    let mut edges = Edges::new();
    let mut count = 0;
    for _ in 0..DRAIN {
        if !clock::wait_readable(&*line, Duration::ZERO)? {
            break;
        }
        line.read(&mut edges)?;
        count += edges.len();
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bias, LineName};

    fn edge(active: bool, at: i64) -> Edge {
        Edge {
            active,
            at: Instant::from_micros(at),
            order: at as u64 * 1_000,
            gap: false,
        }
    }

    fn told(active: bool, since: i64) -> Line {
        let wanted = InputLine {
            chip: "chip".into(),
            name: LineName::Offset(0),
            active_low: false,
            bias: Bias::Kept,
        };
        let mut line = Line::new(Role::Input(Input::ChuteEye), wanted);
        line.told = active;
        line.since = Instant::from_micros(since);
        line
    }

    #[test]
    fn an_edge_that_the_level_already_told_is_no_news() {
        // It came between the request and the look at the level.
        let mut line = told(true, 100);
        assert!(!line.is_news(edge(true, 105)));
        assert!(line.is_news(edge(false, 200)));
        // From here on two alike are for the core to judge.
        line.told = false;
        assert!(line.is_news(edge(false, 300)));
        // It came before the look, and so did the one that undid it.
        let mut line = told(false, 100);
        assert!(!line.is_news(edge(true, 90)));
        assert!(!line.is_news(edge(false, 95)));
        assert!(line.is_news(edge(true, 130)));
    }

    #[test]
    fn every_real_line_of_a_station_is_watched() {
        let text = crate::config::DEFAULT
            .replace("chip = \"sim\"", "chip = \"io\"")
            .replace("source.simulated]", "source.v4l2]\ndevice = \"/dev/video0\"")
            .replace("seed = 1\nparts_per_s = 10.0\ndefective = 0.15", "gain = 3")
            .replace(
                "source = \"simulated\" ",
                "source = { lines = { a = { chip = \"io\", line = 7 } } } ",
            )
            .replace("pulses_per_mm = 4.0", "pulses_per_mm = 1.0");
        let config = crate::config::parse(&text, "real.toml", std::path::Path::new("/"));
        let config = config.unwrap_or_else(|report| panic!("{report}"));
        let roles: Vec<Role> = wanted(&config).into_iter().map(|(role, _)| role).collect();
        let lane = config.belt.lane;
        for input in [
            Input::PhotoEye(lane),
            Input::ChuteEye,
            Input::PassedEye,
            Input::BinFull,
            Input::Acknowledge,
        ] {
            assert!(
                roles.contains(&Role::Input(input)),
                "{input:?} is not in {roles:?}"
            );
        }
        assert!(roles.contains(&Role::Encoder(Phase::A)));
        assert!(roles.len() <= LINES_MAX);
        let simulated =
            crate::config::parse(crate::config::DEFAULT, "default.toml", std::path::Path::new("/"));
        assert!(wanted(&simulated.unwrap_or_else(|report| panic!("{report}"))).is_empty());
    }
}
