//! Real-time priority and locked memory, as far as the kernel allows.

use rustix::mm::{MlockAllFlags, mlockall};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Fixed real-time priorities (`SCHED_FIFO`). All are above ordinary threads and below the kernel's
/// threaded interrupt handlers (50), without which neither edges nor timers come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The output process: nothing of elek may delay a pulse.
    Outputs = 40,
    /// Whatever stands in for interrupts on a simulated line.
    Line = 30,
    /// The core thread: a verdict is worthless after its deadline. Sleeps most of the time.
    Core = 20,
}

/// Keeps all memory of the process, present and future, in RAM.
pub fn lock_memory() -> io::Result<()> {
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?)
}

/// Gives the calling thread a fixed real-time priority; processes it starts do not inherit it.
pub fn raise_priority(to: Priority) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: to as i32,
    };
    // SAFETY: `parameters` is a valid sched_param that outlives the call, which only
    // reads it; pid 0 names the calling thread.
    let result =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes over a file descriptor that the parent process passed on by number.
///
/// To be called once, at the start of the process, before it has opened anything itself.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer and fails cleanly on a number that is not open.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the descriptor is open, as just seen, and was handed over by the parent
    // for this purpose, so that nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_number_that_is_not_open_is_refused() {
        assert!(super::inherited(-1).is_err());
        assert!(super::inherited(1_000_000).is_err());
    }
}
