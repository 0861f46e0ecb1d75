//! One watched line: what it is for, whether it can be heard, and which of its edges are news.

use super::InputPort;
use super::encoder::Encoder;
use super::flood::Flood;
use crate::config::{Config, EncoderSource, InputLine, Motion, Trigger};
use crate::device::clock;
use crate::device::gpio::GpioError;
use crate::device::gpio::edges::{BATCH, Edge, EdgeLine, Edges};
use crate::device::lines;
use crate::device::quadrature::Phase;
use crate::station::event::{Event, Input};
use crate::units::Instant;
use std::io;
use std::time::Duration;

/// Seven inputs and two lines of an encoder.
pub const LINES_MAX: usize = 9;
/// Reads that empty a queue of 1,024 events.
pub const DRAIN: usize = 1_024 / BATCH + 1;

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Input(Input),
    Encoder(Phase),
}

pub struct Line {
    pub role: Role,
    pub wanted: InputLine,
    pub state: State,
    pub flood: Flood,
    /// The last level handed on. The core takes every input to be inactive before it hears of it.
    pub told: bool,
    /// An edge from before this is part of the level that was told.
    pub since: Instant,
    /// No edge yet since the level was told.
    pub fresh: bool,
    /// The level contradicted the edges when it was looked at last, and no edge has come since.
    pub doubted: bool,
}

pub enum State {
    Open(EdgeLine),
    Muted(EdgeLine, Instant),
    Lost,
}

/// Every real input line of a station.
pub fn wanted(config: &Config) -> Vec<(Role, &InputLine)> {
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

impl Line {
    pub fn new(role: Role, wanted: InputLine) -> Line {
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

    pub fn open(&mut self) -> Result<(), GpioError> {
        self.state = State::Open(EdgeLine::open(&self.wanted)?);
        self.flood = Flood::default();
        Ok(())
    }

    /// Whether an edge says more than the level that was told when the line began to be watched.
    pub fn is_news(&mut self, edge: Edge) -> bool {
        let fresh = std::mem::take(&mut self.fresh);
        let known = edge.at < self.since || (fresh && edge.active == self.told);
        self.fresh = fresh && edge.at < self.since;
        !known
    }

    pub fn hand_on(&mut self, edge: Edge, port: &InputPort, encoder: &mut Encoder) {
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
pub fn drain(line: &mut EdgeLine) -> io::Result<usize> {
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
            .replace("seed = 1\nparts_per_s = 20.0\ndefective = 0.15", "gain = 3")
            .replace(
                "source = \"simulated\" ",
                "source = { lines = { a = { chip = \"io\", line = 7 } } } ",
            )
            .replace("pulses_per_mm = 4.0", "pulses_per_mm = 0.75");
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
