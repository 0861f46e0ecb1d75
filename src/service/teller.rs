//! Speaks with the service manager, on a thread of its own: what it does not read blocks the writer after a few
//! messages, and a manager that hangs must not keep the station from feeding its board's watchdog or from ending.

use crossbeam_channel::{Receiver, Sender, bounded};
use sd_notify::NotifyState;
use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long something of importance waits for room, and the end for what is still to be said.
const PATIENCE: Duration = Duration::from_millis(500);
/// Messages on their way.
const WAITING: usize = 4;

/// What there is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    Ready,
    Reloading,
    Stopping,
    /// Feeds the manager's watchdog.
    Alive,
    /// A line for people.
    Status(String),
}

#[derive(Debug)]
pub struct Teller {
    signs: Option<Sender<Sign>>,
    thread: Option<JoinHandle<()>>,
}

impl Teller {
    pub fn start() -> io::Result<Teller> {
        let (signs, waiting) = bounded(WAITING);
        let thread = std::thread::Builder::new()
            .name("notify".into())
            .spawn(move || speak(&waiting))?;
        Ok(Teller {
            signs: Some(signs),
            thread: Some(thread),
        })
    }

    /// Says it, or in the log that it could not be said.
    pub fn tell(&self, sign: Sign) {
        let Some(signs) = &self.signs else { return };
        if let Err(lost) = signs.send_timeout(sign, PATIENCE) {
            tracing::warn!(
                "the service manager does not read: {:?} is not said",
                lost.into_inner()
            );
        }
    }

    /// Says it if there is room: the next one will do as well. Whether there was.
    pub fn try_tell(&self, sign: Sign) -> bool {
        self.signs
            .as_ref()
            .is_some_and(|signs| signs.try_send(sign).is_ok())
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.signs.take();
        let Some(thread) = self.thread.take() else { return };
        let until = Instant::now() + PATIENCE;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !thread.is_finished() {
            tracing::warn!("the service manager does not read; the end does not wait for it");
        } else if thread.join().is_err() {
            tracing::error!("the thread that speaks with the service manager panicked");
        }
    }
}

fn speak(waiting: &Receiver<Sign>) {
    for sign in waiting {
        let said = match &sign {
            Sign::Ready => sd_notify::notify(&[NotifyState::Ready]),
            // Both in one message, as newer service managers want it.
            Sign::Reloading => NotifyState::monotonic_usec_now()
                .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
            Sign::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
            Sign::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
            Sign::Status(line) => sd_notify::notify(&[NotifyState::Status(line)]),
        };
        // Without a service manager nothing is sent, and that is no error.
        if let Err(error) = said {
            tracing::warn!("the service manager cannot be told: {error}");
        }
    }
}
