//! What is wrong with the record, told to the core once when it begins and once when it ends.

use crate::station::event::Trouble;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Told of each trouble and of its end; must not block.
pub type OnTrouble = Box<dyn Fn(Trouble, bool) + Send + Sync>;

/// The parts of the record that can fail on their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The journal cannot be written.
    Journal,
    /// Part numbers cannot be reserved, or the ring cannot be flushed.
    Reservation,
    /// Pictures cannot be written.
    Pictures,
    /// More pictures to keep than can be written.
    PictureQueue,
    /// Less free space than the configuration asks for.
    Disk,
    /// The journal lags so far behind that the ring may fill up.
    Backlog,
}

const SOURCES: usize = 6;

impl Source {
    fn trouble(self) -> Trouble {
        match self {
            Source::Journal | Source::Reservation | Source::Pictures | Source::PictureQueue => {
                Trouble::Record
            }
            Source::Disk => Trouble::DiskLow,
            // A full ring would drop entries: that is an overflow of a queue, so the permit goes off.
            Source::Backlog => Trouble::Queue,
        }
    }
}

/// Shared by the threads of the record.
pub struct Health {
    present: Mutex<[bool; SOURCES]>,
    tell: OnTrouble,
    muted: AtomicBool,
    pictures_written: AtomicU64,
    pictures_lost: AtomicU64,
    pictures_dropped: AtomicU64,
}

impl Health {
    pub fn new(tell: OnTrouble) -> Arc<Health> {
        Arc::new(Health {
            present: Mutex::default(),
            tell,
            muted: AtomicBool::new(false),
            pictures_written: AtomicU64::new(0),
            pictures_lost: AtomicU64::new(0),
            pictures_dropped: AtomicU64::new(0),
        })
    }

    /// Something failed; says why in the log when it begins.
    pub fn failed(&self, source: Source, why: &dyn std::fmt::Display) {
        if self.set(source, true) {
            tracing::warn!("{why}");
        }
    }

    /// It works again.
    pub fn works(&self, source: Source) {
        if self.set(source, false) {
            tracing::info!("the record works again ({source:?})");
        }
    }

    /// Whether this changed.
    fn set(&self, source: Source, present: bool) -> bool {
        let mut all = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if all[source as usize] == present {
            return false;
        }
        let of_kind = |all: &[bool; SOURCES]| {
            SOURCE_LIST
                .iter()
                .any(|s| s.trouble() == source.trouble() && all[*s as usize])
        };
        let before = of_kind(&all);
        all[source as usize] = present;
        let after = of_kind(&all);
        // Told under the lock, so that a begin and an end never change places.
        if before != after && !self.muted.load(Ordering::Relaxed) {
            (self.tell)(source.trouble(), after);
        }
        true
    }

    /// Nobody listens any more: the core is waiting for the record's threads to end.
    pub(super) fn mute(&self) {
        self.muted.store(true, Ordering::Relaxed);
    }

    pub fn is_failing(&self, source: Source) -> bool {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)[source as usize]
    }

    pub(super) fn picture_written(&self) {
        self.pictures_written.fetch_add(1, Ordering::Relaxed);
    }
    /// The disk did not take it.
    pub(super) fn picture_lost(&self) {
        self.pictures_lost.fetch_add(1, Ordering::Relaxed);
    }
    /// There was no room for it to wait in.
    pub(super) fn picture_dropped(&self) {
        self.pictures_dropped.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn pictures_dropped(&self) -> u64 {
        self.pictures_dropped.load(Ordering::Relaxed)
    }
    /// Parts of which the pictures were written since start.
    pub fn pictures_written(&self) -> u64 {
        self.pictures_written.load(Ordering::Relaxed)
    }
    /// Parts of which the pictures should have been kept and were not.
    pub fn pictures_lost(&self) -> u64 {
        self.pictures_lost.load(Ordering::Relaxed) + self.pictures_dropped()
    }
}

const SOURCE_LIST: [Source; SOURCES] = [
    Source::Journal,
    Source::Reservation,
    Source::Pictures,
    Source::PictureQueue,
    Source::Disk,
    Source::Backlog,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_of_a_kind_are_one_trouble_that_ends_with_the_last() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let health = Health::new(Box::new(move |trouble, present| {
            log.lock().unwrap().push((trouble, present))
        }));
        health.failed(Source::Journal, &"journal");
        health.failed(Source::Journal, &"journal again");
        health.failed(Source::Pictures, &"pictures");
        health.works(Source::Journal);
        assert_eq!(*told.lock().unwrap(), [(Trouble::Record, true)]);
        health.works(Source::Pictures);
        health.works(Source::Pictures);
        health.failed(Source::Backlog, &"behind");
        assert_eq!(
            told.lock().unwrap()[1..],
            [(Trouble::Record, false), (Trouble::Queue, true)]
        );
    }
}
