//! Who of the threads still turns: each loop leaves the time of its last turn, and the
//! watchdog is fed only while none is silent. An idle line turns too, so it stays up.

use crate::device::clock;
use crate::units::{Instant, Micros};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// One loop's sign of life.
#[derive(Clone, Debug)]
pub struct Beat(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    name: String,
    /// Longest time between two turns of a healthy loop.
    patience: Micros,
    /// µs of the monotonic clock; [`IDLE`] while the loop waits for work without a time-out.
    last: AtomicI64,
}

/// Nothing is expected of a loop that waits for work.
const IDLE: i64 = i64::MAX;

impl Beat {
    /// The loop turns.
    pub fn tick(&self) {
        self.0.last.store(clock::now().as_micros(), Ordering::Relaxed);
    }

    /// The loop goes to wait for work and may be silent until its next [`Beat::tick`].
    pub fn idle(&self) {
        self.0.last.store(IDLE, Ordering::Relaxed);
    }
}

/// The signs of life of all loops of the process. A loop that has ended is forgotten.
#[derive(Clone, Debug, Default)]
pub struct Beats(Arc<Mutex<Vec<Weak<Slot>>>>);

impl Beats {
    /// A loop that turns at least every `patience`, or says that it is idle.
    pub fn register(&self, name: impl Into<String>, patience: Micros) -> Beat {
        let slot = Arc::new(Slot {
            name: name.into(),
            patience,
            last: AtomicI64::new(clock::now().as_micros()),
        });
        let mut slots = self.lock();
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        Beat(slot)
    }

    /// The first loop that has been silent for too long, and for how long.
    pub fn silent(&self, now: Instant) -> Option<(String, Micros)> {
        self.lock().iter().filter_map(Weak::upgrade).find_map(|slot| {
            let last = slot.last.load(Ordering::Relaxed);
            let silent = Micros::new(now.as_micros().saturating_sub(last));
            (last != IDLE && silent > slot.patience).then(|| (slot.name.clone(), silent))
        })
    }

    /// A panicking thread cannot leave the list half written.
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loop_that_should_turn_and_does_not_is_silent() {
        let beats = Beats::default();
        let core = beats.register("core", Micros::from_millis(500));
        let worker = beats.register("infer-0", Micros::from_secs(5));
        worker.idle();
        core.tick();
        let now = clock::now();
        assert_eq!(beats.silent(now), None);
        let (name, silent) = beats.silent(now + Micros::from_millis(600)).unwrap();
        assert_eq!(name, "core");
        assert!(silent >= Micros::from_millis(600));
        core.idle();
        assert_eq!(beats.silent(now + Micros::from_secs(3_600)), None);
        worker.tick();
        let (name, _) = beats.silent(clock::now() + Micros::from_secs(6)).unwrap();
        assert_eq!(name, "infer-0");
        drop(worker);
        assert_eq!(beats.silent(clock::now() + Micros::from_secs(6)), None);
    }
}
