//! The one clock: `CLOCK_MONOTONIC`, which nobody can set and which never steps.
//!
//! Wall-clock time appears in records for people only, never in a decision.

use crate::units::Instant;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use std::time::Duration;

/// The monotonic clock as a value to hand to a loop that reads it in one place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    pub fn now(self) -> Instant {
        now()
    }
    pub fn sleep_until(self, at: Instant) {
        sleep_until(at);
    }
}

/// Now, in µs since the machine started.
pub fn now() -> Instant {
    let now = clock_gettime(rustix::time::ClockId::Monotonic);
    Instant::from_micros(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000)
}

/// Sleeps until the instant has come; returns at once if it lies in the past.
pub fn sleep_until(at: Instant) {
    // Interrupted by a signal, it goes to sleep again until the same absolute time.
    while now() < at && clock_nanosleep_absolute(ClockId::Monotonic, &timespec(at)) == Err(io::Errno::INTR) {}
}

/// The kernel's form of an instant, or of the time since [`Instant::ZERO`].
pub fn timespec(at: Instant) -> Timespec {
    let us = at.as_micros().max(0);
    Timespec {
        tv_sec: us / 1_000_000,
        tv_nsec: us % 1_000_000 * 1_000,
    }
}

/// Wakes a `poll` at an absolute instant: no time is lost between reading the clock
/// and going to sleep, and the kernel's timer slack does not apply.
#[derive(Debug)]
pub struct Alarm {
    fd: OwnedFd,
}

impl Alarm {
    pub fn new() -> io::Result<Alarm> {
        let fd = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        Ok(Alarm { fd })
    }

    /// From `at` on the alarm is readable (at once if that is past); `None` stops it.
    pub fn set(&self, at: Option<Instant>) -> io::Result<()> {
        // A time of zero would stop the timer instead of ringing at once.
        let it_value = at.map_or(Timespec::default(), |at| {
            timespec(at.max(Instant::from_micros(1)))
        });
        let setting = Itimerspec {
            it_interval: Timespec::default(),
            it_value,
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &setting)?;
        Ok(())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until something can be read from `fd`; `false` after the time-out.
pub fn wait_readable(fd: impl AsFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(io::Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Micros;

    #[test]
    fn a_sleep_ends_after_its_instant_and_never_before() {
        let at = now() + Micros::from_millis(3);
        sleep_until(at);
        assert!(now() >= at);
        sleep_until(Instant::ZERO);
        sleep_until(Instant::from_micros(-5));
    }

    #[test]
    fn an_alarm_rings_at_its_instant_or_at_once_if_it_is_past() {
        let alarm = Alarm::new().unwrap();
        assert!(!wait_readable(&alarm, Duration::ZERO).unwrap());
        let at = now() + Micros::from_millis(3);
        alarm.set(Some(at)).unwrap();
        assert!(wait_readable(&alarm, Duration::from_secs(60)).unwrap());
        assert!(now() >= at);
        for past in [Instant::ZERO, Instant::from_micros(-1)] {
            alarm.set(Some(past)).unwrap();
            assert!(wait_readable(&alarm, Duration::from_secs(60)).unwrap());
        }
        alarm.set(None).unwrap();
        assert!(!wait_readable(&alarm, Duration::ZERO).unwrap());
    }
}
