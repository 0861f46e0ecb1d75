//! The appender's side of the ring: the first place where anything is put on record.
//!
//! `append` is a few comparisons and 128 bytes stored to memory. It allocates
//! nothing, calls nothing in the kernel and waits for nobody.

use super::entry_codec::{self, Line, encode, encode_entry};
use super::journal::{Journal, JournalError};
use super::lock::{LockError, PathLock};
use super::recovery::{Found, Recovery, recover};
use super::ring_file::{CAPACITY, RingFile, RingFileError};
use super::system::{self, Id};
use crate::device::clock;
use crate::station::Resume;
use crate::station::event::{Counts, Entry};
use crate::units::{Instant, PartId};
use arrayvec::ArrayVec;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Part numbers reserved in one go: 5 s of 50 parts/s, more than a memory card ever stalled a write.
pub const BLOCK_OF_NUMBERS: u64 = 256;
/// Room that only parts already on the belt may use: no new part is taken when the
/// journal is this close to a full lap behind.
const ROOM_FOR_ENDS: u64 = 1_024;
/// As many parts as any belt carries at a time.
const REFUSED_MAX: usize = 256;

/// Why an entry is not on record. Each of them means: the station cannot vouch for
/// what it does, so the permit goes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error("part number {0} is not reserved yet: the disk did not answer for several seconds")]
    NotReserved(PartId),
    #[error("part number {part} comes after {last}: it may have been used before")]
    NumberReused { part: PartId, last: PartId },
    #[error("the ring is full: the journal is {behind} entries behind, see the alarm about the record")]
    Full { behind: u64 },
    #[error("part {0} has no record, so it has no end either: {1} parts are not on record since start")]
    NeverSeen(PartId, u64),
    #[error("a part ended that was not on the belt")]
    Unbalanced,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot make the record folder {}: {cause}. Make it and give it to the user that elek runs as, or change `record.path`", .path.display())]
    Folder { path: PathBuf, cause: std::io::Error },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Ring(#[from] RingFileError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("cannot reserve part numbers in {}: {cause}", .path.display())]
    Reserve { path: PathBuf, cause: std::io::Error },
}

/// How a ring is opened; the default is what a station uses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Records a new ring holds.
    pub capacity: u64,
    /// Which boot this is; tests of power loss say another one.
    pub boot: Option<Id>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            capacity: CAPACITY,
            boot: system::boot_id(),
        }
    }
}

/// The account, open for writing by this process alone.
#[derive(Debug)]
pub struct Ring {
    file: Arc<RingFile>,
    dir: PathBuf,
    counts: Counts,
    sequence: u64,
    last_part: PartId,
    /// Parts that were refused and have not ended yet; their ends must not be booked on others.
    refused: ArrayVec<PartId, REFUSED_MAX>,
    /// Parts refused since start.
    unrecorded: u64,
    recovery: Recovery,
    _lock: PathLock,
}

impl Ring {
    /// Opens the record in `dir` (made if missing), brings the journal up to date
    /// and says what the station starts with.
    pub fn open(dir: &Path) -> Result<(Ring, Resume), OpenError> {
        Ring::open_with(dir, Options::default())
    }

    pub fn open_with(dir: &Path, options: Options) -> Result<(Ring, Resume), OpenError> {
        std::fs::create_dir_all(dir).map_err(|cause| OpenError::Folder {
            path: dir.to_owned(),
            cause,
        })?;
        let lock = PathLock::take(dir)?;
        let mut journal = Journal::open(dir)?;
        let state = journal.state()?;
        let file = RingFile::open(dir, options.capacity, options.boot)?;
        let reservation = file.reservation();
        let rebooted = reservation.is_some_and(|r| options.boot.is_none_or(|boot| boot != r.boot));
        let reserved_until = reservation.map(|r| r.until).unwrap_or_default();
        let found = Found {
            records: file.scan(),
            reserved_until,
            rebooted,
        };
        let recovery = recover(&state, &found, clock::now());

        // First the new numbers, then the journal, then the ring: killed in between, the
        // next start finds the same again and comes to the same end.
        let reserve = PartId(recovery.resume.next_part.0 + 2 * BLOCK_OF_NUMBERS);
        file.reserve(reserve).map_err(|cause| OpenError::Reserve {
            path: dir.join("ring"),
            cause,
        })?;
        journal.take_over(&recovery, &found.records[recovery.replay.clone()], reserve)?;
        drop(journal);
        let ring = Ring {
            counts: recovery.resume.counts,
            sequence: recovery.sequence,
            last_part: PartId(recovery.resume.next_part.0 - 1),
            file: Arc::new(file),
            dir: dir.to_owned(),
            refused: ArrayVec::new(),
            unrecorded: 0,
            recovery: recovery.clone(),
            _lock: lock,
        };
        ring.file
            .write(ring.sequence, &ring.counts, &encode(&Line::Opened(recovery.line)));
        ring.file.set_journaled(ring.sequence);
        ring.file.set_last_part(ring.last_part);
        ring.report();
        Ok((ring, recovery.resume))
    }

    /// Puts an entry on record. When it returns, a kill of this process no longer loses it.
    ///
    /// A part whose `Seen` was refused is not on record at all: its end is refused too.
    pub fn append(&mut self, entry: &Entry) -> Result<(), RingError> {
        if let Entry::Ended { part, .. } = entry
            && let Some(index) = self.refused.iter().position(|refused| refused == part)
        {
            self.refused.swap_remove(index);
            return Err(RingError::NeverSeen(*part, self.unrecorded));
        }
        let result = self.append_checked(entry);
        if let (Err(RingError::NotReserved(part)), _)
        | (Err(RingError::Full { .. }), Entry::Seen { part, .. }) = (&result, entry)
        {
            self.unrecorded += 1;
            // With the permit off only the coasting parts can come here, far fewer than there is room.
            let _ = self.refused.try_push(*part);
        }
        result
    }

    fn append_checked(&mut self, entry: &Entry) -> Result<(), RingError> {
        let behind = self.sequence - self.file.journaled();
        let mut room = self.file.capacity();
        let mut last_part = self.last_part;
        if let Entry::Seen { part, .. } = entry {
            if *part <= last_part {
                return Err(RingError::NumberReused {
                    part: *part,
                    last: last_part,
                });
            }
            if *part >= self.file.reserved_until() {
                return Err(RingError::NotReserved(*part));
            }
            last_part = *part;
            room -= ROOM_FOR_ENDS.min(room / 2);
        }
        if behind >= room {
            return Err(RingError::Full { behind });
        }
        let mut counts = self.counts;
        entry_codec::apply_entry(&mut counts, entry).map_err(|_| RingError::Unbalanced)?;
        self.sequence += 1;
        self.file.write(self.sequence, &counts, &encode_entry(entry));
        self.file.set_last_part(last_part);
        (self.counts, self.last_part) = (counts, last_part);
        Ok(())
    }

    /// The account so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was found at the start.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The shared file, for the journal and the keeper of the reservation.
    pub(super) fn file(&self) -> &Arc<RingFile> {
        &self.file
    }

    /// Says that the process ends on purpose. Whatever is on the belt stays in flight
    /// and becomes unaccounted at the next start.
    pub(super) fn close(&mut self, at: Instant) {
        if self.sequence - self.file.journaled() < self.file.capacity() {
            self.sequence += 1;
            self.file.write(
                self.sequence,
                &self.counts,
                &encode(&Line::Closed {
                    at,
                    reserved_until: self.file.reserved_until(),
                }),
            );
        }
    }

    fn report(&self) {
        let recovery = &self.recovery;
        let Recovery { line, resume, .. } = recovery;
        if resume.unaccounted > 0 {
            tracing::warn!(
                on_the_belt = line.in_flight,
                records_lost = line.lost,
                "{} parts are unaccounted since the last run",
                resume.unaccounted
            );
        }
        if let Some(skipped) = &recovery.skipped {
            tracing::warn!(
                "power was lost: the numbers {} to {} were reserved and have no record; parts of the last moments \
                 before it may have had some of them",
                skipped.start(),
                skipped.end()
            );
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
