//! A bounded queue between threads of different priorities.
//!
//! The usual lock-free queues are not for threads with real-time priority: who takes from
//! them waits *awake* for a slot that a sender has claimed and not yet filled. Where that
//! sender is an ordinary thread which the receiver itself has just pushed off the processor,
//! it waits for something that cannot happen; on a box with one free processor the kernel
//! ends it after about a second. Here nobody waits awake: whoever finds the queue held goes
//! to sleep, so its holder gets on, and the time of holding it is the time of one move.
//!
//! The lock knows no priorities: between holder and waiter another ordinary thread may
//! run for its slice, some milliseconds. What has to be exact to less is not sent through
//! queues: edges carry their own stamps and outputs are fired by the output process.
//!
//! All memory is there from the start; sending and receiving allocate nothing.

use std::collections::VecDeque;
use std::sync::mpsc::{RecvTimeoutError, SendError, TrySendError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A queue for at most `most` values (at least one). Both ends can be cloned; each value
/// goes to one receiver.
pub fn bounded<T>(most: usize) -> (Sender<T>, Receiver<T>) {
    let most = most.max(1);
    let queue = Arc::new(Queue {
        state: Mutex::new(State {
            values: VecDeque::with_capacity(most),
            most,
            senders: 1,
            receivers: 1,
            hungry: 0,
            blocked: 0,
        }),
        filled: Condvar::new(),
        freed: Condvar::new(),
    });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

/// The end where values go in.
pub struct Sender<T>(Arc<Queue<T>>);

/// The end where values come out, in the order in which they went in.
pub struct Receiver<T>(Arc<Queue<T>>);

struct Queue<T> {
    state: Mutex<State<T>>,
    /// Told when a value came, and when the last sender has gone.
    filled: Condvar,
    /// Told when a place became free, and when the last receiver has gone.
    freed: Condvar,
}

struct State<T> {
    values: VecDeque<T>,
    most: usize,
    senders: usize,
    receivers: usize,
    /// Receivers that sleep until there is a value. Nobody is woken who does not sleep:
    /// a wake-up is a system call.
    hungry: usize,
    /// Senders that sleep until there is room.
    blocked: usize,
}

impl<T> Queue<T> {
    /// Nothing that can panic is done while it is held, so the state is whole in any case.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `value` in its place and wakes one who waits for it, once the lock is free again.
    fn put(&self, mut state: MutexGuard<'_, State<T>>, value: T) {
        state.values.push_back(value);
        let wake = state.hungry > 0;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }
}

impl<T> Sender<T> {
    /// Hands over `value` at once or not at all.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let state = self.0.lock();
        if state.receivers == 0 {
            Err(TrySendError::Disconnected(value))
        } else if state.values.len() == state.most {
            Err(TrySendError::Full(value))
        } else {
            self.0.put(state, value);
            Ok(())
        }
    }

    /// Hands over `value`, after waiting for room if need be. Gives it back when nobody
    /// is left to take it.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut state = self.0.lock();
        while state.receivers > 0 && state.values.len() == state.most {
            state.blocked += 1;
            state = self.0.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.blocked -= 1;
        }
        if state.receivers == 0 {
            return Err(SendError(value));
        }
        self.0.put(state, value);
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// The next value, or `None` when there is none and all senders have gone.
    pub fn recv(&self) -> Option<T> {
        self.next(None).ok()
    }

    /// The next value, waited for at most `time`.
    pub fn recv_timeout(&self, time: Duration) -> Result<T, RecvTimeoutError> {
        // A time beyond what the clock can tell is as good as for ever.
        self.next(Instant::now().checked_add(time))
    }

    fn next(&self, until: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let mut state = self.0.lock();
        loop {
            if let Some(value) = state.values.pop_front() {
                let wake = state.blocked > 0;
                drop(state);
                if wake {
                    self.0.freed.notify_one();
                }
                return Ok(value);
            }
            if state.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(RecvTimeoutError::Timeout);
            }
            state = self.sleep(state, left);
        }
    }

    /// Until something was put in or `left` is over; wakes without a reason are allowed.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        left: Option<Duration>,
    ) -> MutexGuard<'a, State<T>> {
        state.hungry += 1;
        let filled = &self.0.filled;
        let mut state = match left {
            Some(left) => filled
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state),
            None => filled.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.hungry -= 1;
        state
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.lock().receivers += 1;
        Receiver(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.senders -= 1;
        let last = state.senders == 0;
        drop(state);
        if last {
            self.0.filled.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receivers -= 1;
        let last = state.receivers == 0;
        // What nobody will take must not be held until the last sender goes. It is dropped
        // after the lock: a value may own much, even a sender of this queue.
        let orphans = if last {
            std::mem::take(&mut state.values)
        } else {
            VecDeque::new()
        };
        drop(state);
        drop(orphans);
        if last {
            self.0.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
