//! The simulated line's own count of parts, kept in a file: it outlives a kill of the process,
//! so that what the station's record says can be held against it.

use crate::device::mapped::Mapped;
use crate::units::Instant;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Stamps kept: far more than parts can be under way between the line and the record.
pub const STAMPS: usize = 64;
const WORDS: usize = 1 + STAMPS;

/// Counts parts that crossed the photo-eye, over all runs that used the same file.
#[derive(Debug)]
pub struct LineCount {
    words: Mapped,
}

impl LineCount {
    /// Opens the file, or makes it; an existing count goes on.
    pub fn open(path: &Path) -> io::Result<LineCount> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let bytes = WORDS * size_of::<u64>();
        file.set_len(bytes as u64)?;
        Ok(LineCount {
            words: Mapped::open(&file, bytes)?,
        })
    }

    /// A part crossed the photo-eye. To be called before the station can know of it.
    pub fn crossed(&self, at: Instant) {
        let words = self.words.words();
        let number = words[0].load(Ordering::Relaxed);
        words[1 + (number % STAMPS as u64) as usize].store(at.as_micros() as u64, Ordering::Relaxed);
        words[0].store(number + 1, Ordering::Release);
    }

    /// All parts so far.
    pub fn count(&self) -> u64 {
        self.words.words()[0].load(Ordering::Acquire)
    }

    /// How many of the last parts crossed after an instant; at most [`STAMPS`].
    pub fn after(&self, at: Instant) -> u64 {
        let words = self.words.words();
        let count = self.count();
        let young = |number: &u64| {
            let stamp = words[1 + (number % STAMPS as u64) as usize].load(Ordering::Relaxed);
            stamp as i64 > at.as_micros()
        };
        (count.saturating_sub(STAMPS as u64)..count)
            .rev()
            .take_while(young)
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_goes_on_and_tells_the_young_from_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("count");
        let count = LineCount::open(&path).unwrap();
        assert_eq!((count.count(), count.after(Instant::ZERO)), (0, 0));
        for at in 1..=100 {
            count.crossed(Instant::from_micros(at * 1_000));
        }
        drop(count);
        let count = LineCount::open(&path).unwrap();
        assert_eq!(count.count(), 100);
        assert_eq!(count.after(Instant::from_micros(97_000)), 3);
        assert_eq!(count.after(Instant::from_micros(100_000)), 0);
        assert_eq!(count.after(Instant::ZERO), STAMPS as u64);
    }
}
