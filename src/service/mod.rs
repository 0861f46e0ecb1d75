//! What the service manager (systemd) and the board's watchdog are told.
//!
//! Duties:
//! 1. Say when the process is ready, reloads or stops.
//! 2. Feed the watchdogs while every loop turns and no accepted job is overdue, so that an idle
//!    line stays up and a hung one is started again, with its outputs safe.
//! 3. Show people the state in one line (`systemctl status`).
//!
//! Without a service manager and a watchdog the same thread still says which loop hangs.

mod beat;
mod teller;

pub use beat::{Beat, Beats};

use crate::device::clock;
use crate::device::watchdog::Watchdog;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use teller::{Sign, Teller};

/// Looks at the loops at least this often.
const EVERY: Duration = Duration::from_millis(500);

/// The thread that feeds.
#[derive(Debug)]
pub struct Service {
    /// Dropping it ends the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    teller: Arc<Teller>,
}

impl Service {
    /// Starts feeding. `status` gives the line that people see, if any.
    pub fn start(
        beats: Beats,
        watchdog: Option<Watchdog>,
        status: impl Fn() -> Option<String> + Send + 'static,
    ) -> io::Result<Service> {
        let (end, ended) = bounded(0);
        let teller = Arc::new(Teller::start()?);
        let mut feeder = Feeder {
            systemd: sd_notify::watchdog_enabled(),
            teller: Arc::clone(&teller),
            watchdog,
            silent: None,
            said: None,
        };
        let every = feeder.every();
        let run = move || {
            loop {
                feeder.look(&beats, status());
                match ended.recv_timeout(every) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return feeder.end(),
                }
            }
        };
        let thread = std::thread::Builder::new().name("service".into()).spawn(run)?;
        Ok(Service {
            end: Some(end),
            thread: Some(thread),
            teller,
        })
    }

    /// The station serves: what systemd waits for at start and at the end of a reload.
    pub fn ready(&self) {
        self.teller.tell(Sign::Ready);
    }

    pub fn reloading(&self) {
        self.teller.tell(Sign::Reloading);
    }

    pub fn stopping(&self) {
        self.teller.tell(Sign::Stopping);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the service thread panicked");
        }
    }
}

struct Feeder {
    /// How long the service manager waits for a sign of life, if it wants one.
    systemd: Option<Duration>,
    teller: Arc<Teller>,
    watchdog: Option<Watchdog>,
    /// The loop that was reported as silent.
    silent: Option<String>,
    said: Option<String>,
}

impl Feeder {
    /// A quarter of the shortest patience: three chances to be late.
    fn every(&self) -> Duration {
        let board = self.watchdog.as_ref().map(Watchdog::timeout);
        let shortest = self.systemd.into_iter().chain(board).min();
        shortest.map_or(EVERY, |shortest| (shortest / 4).min(EVERY))
    }

    fn look(&mut self, beats: &Beats, status: Option<String>) {
        let silent = beats.silent(clock::now());
        if let Some((name, since)) = silent {
            if self.silent.as_ref() != Some(&name) {
                tracing::error!(
                    "the loop {name} has not turned for {:.0} ms; the watchdog is not fed until it does",
                    since.as_millis_f64()
                );
                self.silent = Some(name);
            }
            return;
        }
        if let Some(name) = self.silent.take() {
            tracing::warn!("the loop {name} turns again");
        }
        if self.systemd.is_some() {
            self.teller.try_tell(Sign::Alive);
        }
        if let Some(watchdog) = &mut self.watchdog
            && let Err(error) = watchdog.feed()
        {
            tracing::warn!("the board's watchdog cannot be fed: {error}");
        }
        if let Some(status) = status
            && self.said.as_ref() != Some(&status)
            && self.teller.try_tell(Sign::Status(status.clone()))
        {
            self.said = Some(status);
        }
    }

    fn end(self) {
        if let Some(watchdog) = self.watchdog
            && let Err(error) = watchdog.disarm()
        {
            tracing::warn!("the board's watchdog stays armed: {error}");
        }
    }
}
