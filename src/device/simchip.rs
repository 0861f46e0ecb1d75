//! The simulated line chip: a record of line changes in memory shared between the
//! output process, which writes it, and the simulated world, which reads it.
//!
//! A ring of the newest [`RING`] changes behind a count of all changes ever written.
//! One process writes at a time; the record outlives each of them, so that a restarted
//! output process continues where the dead one stopped, like a real chip would.

use crate::device::clock;
use crate::units::{Instant, OutputId};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Changes the ring holds: at 100 parts a second and four changes a part a reader may be
/// away for ten seconds.
pub const RING: usize = 4096;

const WORDS: usize = 2 + 2 * RING;
const BYTES: usize = WORDS * 8;
/// "elkSIM" and a version, so that a foreign file is not taken for a chip.
const MAGIC: u64 = 0x656c_6b53_494d_0001;

/// One change of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineChange {
    pub output: OutputId,
    /// The logical level, polarity already applied.
    pub active: bool,
    pub at: Instant,
}

/// The chip: shared memory that lives as long as any process has it open.
#[derive(Debug)]
pub struct SimChip {
    fd: OwnedFd,
    memory: Arc<Memory>,
}

/// The writing end, in the output process.
#[derive(Debug)]
pub struct SimLines {
    memory: Arc<Memory>,
}

/// The reading end, in the simulated world.
#[derive(Debug)]
pub struct SimReader {
    memory: Arc<Memory>,
    read: u64,
}

/// The reader was away too long: this many changes are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated world read the line changes too seldom; {0} are lost")]
pub struct Overrun(pub u64);

impl SimChip {
    pub fn create() -> io::Result<SimChip> {
        let fd = memfd_create("elek-sim-chip", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, BYTES as u64)?;
        // No process can take the memory away from under the other one.
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let memory = Arc::new(Memory::map(&fd)?);
        memory.word(0).store(MAGIC, Ordering::Release);
        Ok(SimChip { fd, memory })
    }

    /// A chip that another process created.
    pub fn from_fd(fd: OwnedFd) -> io::Result<SimChip> {
        let sealed = fcntl_get_seals(&fd)?.contains(SealFlags::SHRINK);
        let bytes = rustix::fs::fstat(&fd)?.st_size;
        if !sealed || bytes != BYTES as i64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a simulated chip"));
        }
        let memory = Arc::new(Memory::map(&fd)?);
        if memory.word(0).load(Ordering::Acquire) != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a simulated chip of another version",
            ));
        }
        Ok(SimChip { fd, memory })
    }

    /// The writing end. One at a time may be in use.
    pub fn lines(&self) -> SimLines {
        SimLines {
            memory: self.memory.clone(),
        }
    }

    /// A reading end that begins with the oldest change still held.
    pub fn reader(&self) -> SimReader {
        SimReader {
            read: self.memory.written().saturating_sub(RING as u64 - 1),
            memory: self.memory.clone(),
        }
    }
}

impl AsFd for SimChip {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl SimLines {
    /// Switches a line now, and says when that was.
    pub fn set(&mut self, output: OutputId, active: bool) -> Instant {
        let at = clock::now();
        let number = self.memory.written();
        let (when, what) = self.memory.entry(number);
        when.store(at.as_micros() as u64, Ordering::Relaxed);
        what.store(u64::from(output.0) << 1 | u64::from(active), Ordering::Relaxed);
        self.memory.word(1).store(number + 1, Ordering::Release);
        at
    }
}

impl SimReader {
    /// The next change, in the order they were made; `None` when there is no newer one yet.
    pub fn next_change(&mut self) -> Result<Option<LineChange>, Overrun> {
        if self.memory.written() <= self.read {
            return Ok(None);
        }
        let (when, what) = self.memory.entry(self.read);
        let (when, what) = (when.load(Ordering::Acquire), what.load(Ordering::Acquire));
        // Only now is it certain that the entry was not overwritten while it was read: the
        // writer starts on this place again when `written` is a whole ring ahead.
        let behind = self.memory.written() - self.read;
        if behind >= RING as u64 {
            let lost = behind - (RING as u64 - 1);
            self.read += lost;
            return Err(Overrun(lost));
        }
        self.read += 1;
        let (output, active) = (OutputId((what >> 1) as u8), what & 1 == 1);
        Ok(Some(LineChange {
            output,
            active,
            at: Instant::from_micros(when as i64),
        }))
    }
}

/// The mapped words: magic, changes written, then the ring of (when, what).
#[derive(Debug)]
struct Memory {
    map: MmapRaw,
}

impl Memory {
    fn map(fd: &OwnedFd) -> io::Result<Memory> {
        Ok(Memory {
            map: MmapOptions::new().len(BYTES).map_raw(fd)?,
        })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS);
        // SAFETY: the mapping is BYTES long (sealed against shrinking, so it stays backed),
        // page-aligned and lives as long as `self`; `index` is within it; all access by any
        // process is through atomics of this width.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(index)) }
    }

    fn written(&self) -> u64 {
        self.word(1).load(Ordering::Acquire)
    }

    fn entry(&self, number: u64) -> (&AtomicU64, &AtomicU64) {
        let at = 2 + 2 * (number % RING as u64) as usize;
        (self.word(at), self.word(at + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_reads_what_was_written_in_order() {
        let chip = SimChip::create().unwrap();
        let mut reader = SimChip::from_fd(chip.as_fd().try_clone_to_owned().unwrap())
            .unwrap()
            .reader();
        assert_eq!(reader.next_change(), Ok(None));
        let first = chip.lines().set(OutputId(3), true);
        // A restarted writer goes on where the first one stopped.
        let second = chip.lines().set(OutputId(255), false);
        let change = |output, active, at| {
            Ok(Some(LineChange {
                output: OutputId(output),
                active,
                at,
            }))
        };
        assert_eq!(reader.next_change(), change(3, true, first));
        assert_eq!(reader.next_change(), change(255, false, second));
        assert_eq!(reader.next_change(), Ok(None));
        assert!(second >= first);
    }

    #[test]
    fn a_reader_that_was_away_learns_how_much_it_lost() {
        let chip = SimChip::create().unwrap();
        let (mut reader, mut lines) = (chip.reader(), chip.lines());
        for number in 0..RING + 10 {
            lines.set(OutputId((number % 7) as u8), number % 2 == 0);
        }
        assert_eq!(reader.next_change(), Err(Overrun(11)));
        for number in 11..RING + 10 {
            let change = reader.next_change().unwrap().unwrap();
            assert_eq!(change.output, OutputId((number % 7) as u8));
        }
        assert_eq!(reader.next_change(), Ok(None));
    }

    #[test]
    fn a_foreign_file_is_no_chip() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES as u64).unwrap();
        assert!(SimChip::from_fd(file.into()).is_err());
        let blank = memfd_create("blank", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&blank, BYTES as u64).unwrap();
        fcntl_add_seals(&blank, SealFlags::SHRINK).unwrap();
        assert!(SimChip::from_fd(blank).is_err());
    }
}
