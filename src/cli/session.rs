//! A station and its simulated line, from start to summary: what `run` and `demo` share.

use crate::config::{CameraSource, Config};
use crate::device::clock::Clock;
use crate::runtime::{Finished, Options, Runtime, Times};
use crate::simulate::live::{LineAccount, LiveLine, Ports};
use crate::simulate::world::WorldOptions;
use crate::station::event::Command;
use crate::status::{State, Status};
use crate::units::CameraId;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the state is looked at; a person notices no difference.
const LOOK: Duration = Duration::from_millis(100);
/// A plain log gets a line this often.
const LOG: Duration = Duration::from_secs(5);
/// After the last picture of a folder: time for its part to reach the end of the belt.
const LAST_PARTS: Duration = Duration::from_secs(3);
/// A stopping station has finished long before, or hangs.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How a station is run from the command line.
pub struct Session {
    /// A simulated person acknowledges once, as soon as the station waits for it.
    pub acknowledge: bool,
    /// End by itself after this time.
    pub limit: Option<Duration>,
    pub workers: usize,
    pub show: Show,
    /// In place of the configuration's seed.
    pub seed: Option<u64>,
}

/// What is printed while the station runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Live counts on a terminal, a line every few seconds elsewhere.
    Live,
    /// A line every few seconds.
    Log,
}

/// All that is known at the end.
pub struct Outcome {
    pub status: Status,
    pub times: Times,
    pub finished: Finished,
    pub line: LineAccount,
}

impl Session {
    pub fn run(&self, config: &Arc<Config>) -> Result<Outcome> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The second one ends the process at once, should the first not be enough.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&signalled))?;
            signal_hook::flag::register(signal, Arc::clone(&signalled))?;
        }
        let runtime = Runtime::start(
            Arc::clone(config),
            Options {
                workers: self.workers,
            },
        )?;
        let ports = Ports {
            inputs: runtime.inputs(),
            frames: runtime.frames(CameraId(0)),
            chip: runtime
                .chip()
                .context("the lines of a simulated camera must be on the chip `sim`")?,
        };
        let options = WorldOptions::of(config, self.seed.unwrap_or_else(|| seed(config)));
        let line =
            LiveLine::start(config, options, Clock, ports).context("cannot start the simulated line")?;
        self.watch(&runtime, &line, &signalled);
        let status = stop(&runtime);
        let line = line
            .finish()
            .context("the simulated line failed: this is a bug in elek")?;
        let times = runtime.times();
        Ok(Outcome {
            finished: runtime.finish()?,
            status,
            times,
            line,
        })
    }

    /// Until a signal, the time limit, or the end of the pictures.
    fn watch(&self, runtime: &Runtime, line: &LiveLine, signalled: &AtomicBool) {
        let started = Instant::now();
        let mut screen = Screen::new(self.show);
        let mut acknowledged = !self.acknowledge;
        let mut through = None;
        while !signalled.load(Ordering::Relaxed) && !runtime.has_ended() {
            let status = runtime.status();
            // Refused until the output process is there, so a person would press again.
            if !acknowledged && status.state == State::Waiting {
                runtime.command(Command::Acknowledge);
            }
            acknowledged |= status.state == State::Running;
            screen.show(&status);
            if self.limit.is_some_and(|limit| started.elapsed() >= limit) {
                break;
            }
            if line.is_through() && through.get_or_insert_with(Instant::now).elapsed() >= LAST_PARTS {
                break;
            }
            std::thread::sleep(LOOK);
        }
        screen.end();
    }
}

/// Permit off, planned rejects finished, and the last snapshot.
fn stop(runtime: &Runtime) -> Status {
    runtime.command(Command::Stop);
    let asked = Instant::now();
    while !runtime.has_ended() && asked.elapsed() < STOP_MAX {
        std::thread::sleep(LOOK / 10);
    }
    runtime.status()
}

fn seed(config: &Config) -> u64 {
    match &config.cameras[0].source {
        CameraSource::Simulated(source) => source.seed,
        CameraSource::Folder(_) | CameraSource::V4l2(_) => 0,
    }
}

/// Prints the state while the station runs.
struct Screen {
    /// Lines to go back before drawing again; `None` when plain lines are printed.
    live: Option<u16>,
    next: Instant,
}

impl Screen {
    fn new(show: Show) -> Self {
        let live = show == Show::Live && std::io::stderr().is_terminal();
        Screen {
            live: live.then_some(0),
            next: Instant::now(),
        }
    }

    fn show(&mut self, status: &Status) {
        match &mut self.live {
            Some(back) => {
                let lines = super::summary::live(status);
                let up = if *back > 0 {
                    format!("\x1b[{back}A")
                } else {
                    String::new()
                };
                *back = lines.len() as u16;
                let text: String = lines.iter().map(|line| format!("\x1b[2K{line}\n")).collect();
                // A terminal that went away is no reason to stop the station.
                let _ = write!(std::io::stderr(), "{up}{text}");
            }
            None if Instant::now() >= self.next => {
                self.next = Instant::now() + LOG;
                tracing::info!("{}", super::summary::line(status));
            }
            None => {}
        }
    }

    fn end(&mut self) {
        self.live = None;
    }
}
