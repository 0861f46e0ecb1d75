//! Real-time priority and locked memory, as far as the kernel allows.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::thread::{CpuSet, Pid, sched_getaffinity};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

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

/// Takes real-time priority from a thread that has it from whoever started this process (`chrt`).
pub fn ordinary_priority<T>(thread: &JoinHandle<T>) -> io::Result<()> {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    let mut policy = libc::SCHED_OTHER;
    // SAFETY: the thread exists until its handle is joined, and both outlive the call, which writes them.
    error_of(unsafe {
        libc::pthread_getschedparam(thread.as_pthread_t(), &raw mut policy, &raw mut parameters)
    })?;
    // What is ordinary stays as it is: out of SCHED_IDLE not everybody may.
    if matches!(policy, libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE) {
        return Ok(());
    }
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the thread exists until its handle is joined, and `parameters` is a valid sched_param that outlives the
    // call, which only reads it.
    error_of(unsafe {
        libc::pthread_setschedparam(thread.as_pthread_t(), libc::SCHED_OTHER, &raw const parameters)
    })
}

/// The processors that a process may use; `None`: this one.
pub fn processors_of(process: Option<Pid>) -> io::Result<CpuSet> {
    Ok(sched_getaffinity(process)?)
}

/// Those of `own` that are not `taken`; all of `own` where that would be none.
pub fn beside(own: &CpuSet, taken: &CpuSet) -> CpuSet {
    let mut rest = CpuSet::new();
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| own.is_set(cpu) && !taken.is_set(cpu)) {
        rest.set(cpu);
    }
    if rest.count() == 0 { *own } else { rest }
}

/// Lets a thread run on these processors only.
pub fn keep_to<T>(thread: &JoinHandle<T>, processors: &CpuSet) -> io::Result<()> {
    // SAFETY: all bits 0 is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| processors.is_set(cpu)) {
        // SAFETY: a set has room for the processors of `CpuSet`, both are the kernel's 1,024.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the thread exists until its handle is joined, and the set is as long as is said.
    error_of(unsafe {
        libc::pthread_setaffinity_np(thread.as_pthread_t(), size_of_val(&set), &raw const set)
    })
}

/// The functions for threads return their error.
fn error_of(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
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
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_number_that_is_not_open_is_refused() {
        assert!(inherited(-1).is_err());
        assert!(inherited(1_000_000).is_err());
    }

    #[test]
    fn a_thread_runs_where_it_is_kept_and_at_ordinary_priority() {
        let (go, wait) = channel();
        let thread = std::thread::spawn(move || {
            let before: Result<(), _> = wait.recv();
            before.map(|()| {
                // SAFETY: 0 names the calling thread; nothing is written.
                let policy = unsafe { libc::sched_getscheduler(0) };
                (processors_of(None).expect("the kernel knows"), policy)
            })
        });
        let own = processors_of(None).expect("the kernel knows");
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| own.is_set(cpu));
        let mut only = CpuSet::new();
        only.set(first.expect("this runs somewhere"));
        keep_to(&thread, &only).expect("these are its own");
        ordinary_priority(&thread).expect("everybody may lower a priority");
        go.send(()).expect("it waits");
        let (seen, policy) = thread.join().expect("it ends").expect("it was told to go");
        assert!(seen == only, "{seen:?} of {own:?}");
        assert!(
            matches!(policy, libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE),
            "{policy}"
        );
    }

    #[test]
    fn what_is_taken_is_left_out_unless_that_is_all() {
        let set = |cpus: &[usize]| {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|&cpu| set.set(cpu));
            set
        };
        assert!(beside(&set(&[0, 1, 2]), &set(&[2, 3])) == set(&[0, 1]));
        assert!(beside(&set(&[0, 1]), &set(&[])) == set(&[0, 1]));
        // The outputs are bound to nothing, or to all there is.
        assert!(beside(&set(&[0, 1]), &set(&[0, 1, 2])) == set(&[0, 1]));
    }
}
