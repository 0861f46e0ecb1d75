//! A station from start to summary: what `run` and `demo` share.
//!
//! ```text
//!            SIGHUP and the new file is good: permit off, belt empties, then the new one
//!   Prepared ──▶ running ──────────────────────────────────────────────▶ Prepared
//!                   │ SIGTERM, SIGINT, time limit, end of the pictures
//!                   ▼
//!                 summary
//! ```

use super::summary;
use crate::config::{CameraSource, Config};
use crate::device::clock::Clock;
use crate::device::watchdog::Watchdog;
use crate::outputs::link::Peer;
use crate::runtime::{Beats, Finished, Options, Prepared, Runtime, Times};
use crate::service::Service;
use crate::simulate::count::LineCount;
use crate::simulate::live::{LineAccount, LiveLine, Ports};
use crate::simulate::world::WorldOptions;
use crate::station::event::Command;
use crate::status::{State, Status};
use crate::units::CameraId;
use anyhow::{Context, Result};
use arc_swap::ArcSwapOption;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the state is looked at; a person notices no difference.
const LOOK: Duration = Duration::from_millis(100);
/// A plain log gets a line this often.
const LOG: Duration = Duration::from_secs(5);
/// After the last picture of a folder, and after the time limit: for the last parts to reach the end of the belt.
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
    pub outputs: Peer,
    pub show: Show,
    /// In place of the configuration's seed.
    pub seed: Option<u64>,
    /// A file in which a simulated line counts its parts.
    pub count_file: Option<PathBuf>,
    /// Parts that lie on a simulated belt at the start.
    pub left_on_belt: u32,
    /// Reads the configuration again on SIGHUP; without it the signal ends the process.
    pub reload: Option<Reload>,
}

/// Reads and checks the configuration file anew.
pub type Reload = Box<dyn Fn() -> Result<Arc<Config>>>;

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
    /// What a simulated line says of itself; a real one cannot tell.
    pub line: Option<LineAccount>,
}

impl Session {
    pub fn run(&self, config: &Arc<Config>) -> Result<Outcome> {
        let around = Around::new(config, self.reload.is_some())?;
        let mut prepared = self.prepare(Arc::clone(config), &around.beats)?;
        // To go back to, should a new configuration fail where only a start can tell.
        let mut fallback = None;
        loop {
            let config = Arc::clone(prepared.config());
            let station = match (Station::start(prepared, self), fallback.take()) {
                (Ok(station), _) => station,
                (Err(error), None) => return Err(error),
                (Err(error), Some(old)) => {
                    tracing::warn!("back to the old configuration, the new one cannot be used: {error:#}");
                    prepared = self.prepare(old, &around.beats)?;
                    continue;
                }
            };
            around.service.ready();
            let next = self.watch(&station, &around);
            if next.is_none() {
                around.service.stopping();
            }
            let outcome = station.stop()?;
            match next {
                None => return Ok(outcome),
                Some(next) => prepared = next,
            }
            fallback = Some(config);
        }
    }

    fn prepare(&self, config: Arc<Config>, beats: &Beats) -> Result<Prepared> {
        let options = Options {
            workers: self.workers,
            outputs: self.outputs.clone(),
            beats: beats.clone(),
        };
        Prepared::new(config, options)
    }

    /// Until a signal, the time limit, or the end of the pictures. `Some`: go on with this one.
    fn watch(&self, station: &Station, around: &Around) -> Option<Prepared> {
        let started = Instant::now();
        let mut screen = Screen::new(self.show);
        let mut acknowledged = !self.acknowledge;
        let (mut through, mut emptying) = (None, None);
        let mut next = None;
        while !around.signals.end() && !station.runtime.has_ended() && next.is_none() {
            let status = station.runtime.status();
            // Refused until the output process is there, so a person would press again.
            if !acknowledged && status.state == State::Waiting {
                station.runtime.command(Command::Acknowledge);
            }
            acknowledged |= status.state == State::Running;
            screen.show(&status);
            around.words.store(Some(Arc::new(summary::line(&status))));
            if self.limit.is_some_and(|limit| started.elapsed() >= limit) {
                let since = *emptying.get_or_insert_with(Instant::now);
                if station.runs_empty(&status) || since.elapsed() >= LAST_PARTS {
                    break;
                }
            }
            if station.is_through() && through.get_or_insert_with(Instant::now).elapsed() >= LAST_PARTS {
                break;
            }
            if let Some(reload) = &self.reload
                && around.signals.reload()
            {
                next = self.read_anew(reload, around);
            }
            std::thread::sleep(LOOK);
        }
        screen.end();
        next
    }

    /// Reads the file and loads its models while the station goes on. A bad file changes nothing
    /// (invariant 11).
    fn read_anew(&self, reload: &Reload, around: &Around) -> Option<Prepared> {
        around.service.reloading();
        match reload().and_then(|config| self.prepare(config, &around.beats)) {
            Ok(next) => {
                tracing::info!("the configuration is read anew: the belt stops until a person acknowledges");
                Some(next)
            }
            Err(error) => {
                tracing::warn!("the old configuration stays in force, the new one cannot be used: {error:#}");
                around.service.ready();
                None
            }
        }
    }
}

/// What outlives a change of the configuration.
struct Around {
    signals: Signals,
    beats: Beats,
    service: Service,
    /// The state in one line, for the service manager.
    words: Arc<ArcSwapOption<String>>,
}

impl Around {
    fn new(config: &Config, reload: bool) -> Result<Around> {
        let signals = Signals::catch(reload).context("cannot catch signals")?;
        let watchdog = match &config.station.watchdog {
            None => None,
            Some(path) => Some(Watchdog::arm(path).with_context(|| {
                format!(
                    "the watchdog {} cannot be had: does the service manager own it already?",
                    path.display()
                )
            })?),
        };
        let beats = Beats::default();
        let words = Arc::new(ArcSwapOption::empty());
        let shown = Arc::clone(&words);
        let service = Service::start(beats.clone(), watchdog, move || shown.load().as_deref().cloned())
            .context("cannot start the service thread")?;
        Ok(Around {
            signals,
            beats,
            service,
            words,
        })
    }
}

/// What the process was asked from outside.
struct Signals {
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    fn catch(reload: bool) -> std::io::Result<Signals> {
        let signals = Signals {
            end: Arc::default(),
            reload: Arc::default(),
        };
        for signal in [SIGINT, SIGTERM] {
            // The second one ends the process at once, should the first not be enough.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&signals.end))?;
            signal_hook::flag::register(signal, Arc::clone(&signals.end))?;
        }
        if reload {
            signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reload))?;
        }
        Ok(signals)
    }

    fn end(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Once per signal.
    fn reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}

/// A running station with whatever plays its line.
struct Station {
    runtime: Runtime,
    /// `None`: the line is real.
    line: Option<LiveLine>,
}

impl Station {
    fn start(prepared: Prepared, session: &Session) -> Result<Station> {
        let config = Arc::clone(prepared.config());
        let mut runtime = Runtime::start(prepared)?;
        let line = match config.cameras[0].source {
            CameraSource::V4l2(_) => runtime.start_devices().map(|()| None),
            CameraSource::Simulated(_) | CameraSource::Folder(_) => {
                simulated_line(&config, &runtime, session).map(Some)
            }
        };
        match line {
            Ok(line) => Ok(Station { runtime, line }),
            Err(error) => {
                runtime.command(Command::Stop);
                // What went wrong first is what the person has to know.
                let _ = runtime.finish();
                Err(error)
            }
        }
    }

    /// Lays no more parts on a simulated line. True when nothing is left on it; at once on a real
    /// one, which nobody can empty from here.
    fn runs_empty(&self, status: &Status) -> bool {
        let Some(line) = &self.line else { return true };
        line.stop_feeding();
        line.is_empty() && status.counts.in_flight == 0
    }

    /// The source has no more pictures.
    fn is_through(&self) -> bool {
        self.line.as_ref().is_some_and(LiveLine::is_through)
    }

    /// Permit off, planned rejects finished, outputs safe, and the account.
    fn stop(self) -> Result<Outcome> {
        let Station { runtime, line } = self;
        runtime.command(Command::Stop);
        let asked = Instant::now();
        while !runtime.has_ended() && asked.elapsed() < STOP_MAX {
            std::thread::sleep(LOOK / 10);
        }
        let status = runtime.status();
        let line = match line {
            None => None,
            Some(line) => Some(
                line.finish()
                    .context("the simulated line failed: this is a bug in elek")?,
            ),
        };
        let times = runtime.times();
        Ok(Outcome {
            finished: runtime.finish()?,
            status,
            times,
            line,
        })
    }
}

fn simulated_line(config: &Arc<Config>, runtime: &Runtime, session: &Session) -> Result<LiveLine> {
    let count = session
        .count_file
        .as_ref()
        .map(|path| LineCount::open(path).with_context(|| format!("cannot count in {}", path.display())));
    let ports = Ports {
        count: count.transpose()?,
        inputs: runtime.inputs(),
        frames: runtime.frames(CameraId(0)),
        chip: runtime
            .chip()
            .context("the lines of a simulated camera must be on the chip `sim`")?,
    };
    let seed = session.seed.unwrap_or(match &config.cameras[0].source {
        CameraSource::Simulated(source) => source.seed,
        CameraSource::Folder(_) | CameraSource::V4l2(_) => 0,
    });
    let options = WorldOptions {
        left_on_belt: session.left_on_belt,
        ..WorldOptions::of(config, seed)
    };
    LiveLine::start(config, options, Clock, ports).context("cannot start the simulated line")
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
