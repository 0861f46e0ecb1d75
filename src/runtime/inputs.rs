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
mod line;

use super::{Beat, Beats, InputPort, Message, Stop, spawn};
use crate::config::Config;
use crate::device::clock;
use crate::device::gpio::edges::Edges;
use crate::device::lines;
use crate::device::quadrature::Phase;
use crate::device::realtime::{Priority, raise_priority};
use crate::queue::Receiver;
use crate::station::event::{Event, Input, Trouble};
use crate::units::{Instant, Micros};
use anyhow::{Context, Result};
use arrayvec::ArrayVec;
use encoder::Encoder;
use flood::Flood;
use line::{DRAIN, LINES_MAX, Line, Role, State, drain, wanted};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

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
            inputs.tell_level(index, |input, active, at| Event::Level { input, active, at });
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
        self.tell_level(index, |input, active, at| Event::Edge { input, active, at });
        if let Role::Encoder(_) = self.lines[index].role {
            self.restart_encoder();
        }
    }

    /// The core hears the level of an input that is another than the one it knows.
    fn tell_level(&mut self, index: usize, event: fn(Input, bool, Instant) -> Event) {
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
            self.port.send(event(input, active, line.since));
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
