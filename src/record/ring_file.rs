//! The ring on the disk: where a record lies, how it is checked, and which part
//! numbers are reserved.
//!
//! ```text
//! block 0     magic, version, record size, capacity, id of this ring, checksum
//! block 1, 2  reservation, written in turn, so that one of them is always whole
//! block 3 …   `capacity` records of 128 bytes; record n lies at slot n mod capacity
//! ```
//! A record: sequence (8), the running counts after it (9 × 8), the line (44),
//! CRC-32 over the ring's id and all of this (4). A record that was half written
//! when the process died fails its checksum and was never acted on. Because each
//! carries the running counts, wrapping around loses none of the account.

use super::entry_codec::{LINE_BYTES, Line, decode};
use super::system::{self, Id};
use crate::device::mapped::Mapped;
use crate::station::event::Counts;
use crate::units::PartId;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a disk writes in one piece, and a multiple of every record.
const BLOCK: usize = 4096;
const BLOCK_WORDS: usize = BLOCK / 8;
const FIRST_RECORD: usize = 3 * BLOCK;
pub const RECORD_BYTES: usize = 128;
const RECORD_WORDS: usize = RECORD_BYTES / 8;
/// Records in a block.
const PER_BLOCK: u64 = (BLOCK / RECORD_BYTES) as u64;
/// "elekring" as it is read in a hex dump of a little-endian machine.
const MAGIC: u64 = u64::from_le_bytes(*b"elekring");
const VERSION: u64 = 1;
/// 8 MiB: about 16,000 parts, or 27 minutes of 10 parts/s, that the journal may lag behind.
pub const CAPACITY: u64 = 65_536;
/// Most records a ring may claim to hold; beyond it the header is nonsense (8 GiB).
const CAPACITY_MAX: u64 = 1 << 26;

/// One checked record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Counts up from 1 for ever.
    pub sequence: u64,
    /// The account after this line.
    pub counts: Counts,
    pub line: Line,
}

#[derive(Debug, thiserror::Error)]
pub enum RingFileError {
    #[error("cannot {doing} {}: {cause}{}", .path.display(), advice(.cause))]
    Io {
        doing: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    #[error("{} was written by a newer elek (ring format {version}; this one knows {VERSION}). Use that elek, or another `record.path`", .path.display())]
    Newer { path: PathBuf, version: u64 },
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ". The disk is full: make room, or set `record.path` to another disk"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ". The file system is read-only: remount it, or set `record.path` to another disk"
        }
        io::ErrorKind::PermissionDenied => ". This user may not write there: change the owner of the folder",
        _ => "",
    }
}

/// The mapped file. Shared by the appender, the journal and the reservation keeper.
#[derive(Debug)]
pub struct RingFile {
    map: Mapped,
    capacity: u64,
    id: Id,
    boot: Id,
    /// Sequence of the newest record.
    written: AtomicU64,
    /// Sequence up to which the journal has everything.
    journaled: AtomicU64,
    last_part: AtomicU64,
    /// Part numbers below this one are reserved, and the disk knows it.
    reserved_until: AtomicU64,
    /// Generation of the newest reservation; one reservation at a time.
    generation: Mutex<u64>,
}

impl RingFile {
    /// Opens the ring of `dir`, or makes one of `capacity` records.
    pub fn open(dir: &Path, capacity: u64, boot: Option<Id>) -> Result<RingFile, RingFileError> {
        let path = dir.join("ring");
        let failed = |doing| {
            let path = path.clone();
            move |cause| RingFileError::Io { doing, path, cause }
        };
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(dir, &path, capacity).map_err(failed("make the ring file"))?
            }
            Err(error) => return Err(failed("open the ring file")(error)),
        };
        match read_header(&file).map_err(failed("read the ring file"))? {
            Header::Good { capacity, id } => {
                let map = Mapped::open(&file, bytes(capacity)).map_err(failed("map the ring file"))?;
                Ok(RingFile::new(map, capacity, id, boot.unwrap_or_default()))
            }
            Header::Newer(version) => Err(RingFileError::Newer { path, version }),
            Header::Damaged => {
                let aside = dir.join(format!("ring.damaged-{}", system::wall_ms()));
                std::fs::rename(&path, &aside).map_err(failed("move the damaged ring file aside"))?;
                tracing::warn!(
                    "the head of {} is damaged: kept as {}, the account goes on from the journal",
                    path.display(),
                    aside.display()
                );
                RingFile::open(dir, capacity, boot)
            }
        }
    }

    fn new(map: Mapped, capacity: u64, id: Id, boot: Id) -> RingFile {
        if let Err(error) = map.lock() {
            // Without it a store may wait for the disk after memory ran short; the station still works.
            tracing::info!(
                "the ring is not locked in memory ({error}); raise LimitMEMLOCK to 16M to allow it"
            );
        }
        RingFile {
            map,
            capacity,
            id,
            boot,
            written: AtomicU64::new(0),
            journaled: AtomicU64::new(0),
            last_part: AtomicU64::new(0),
            reserved_until: AtomicU64::new(0),
            generation: Mutex::new(0),
        }
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
    pub fn journaled(&self) -> u64 {
        self.journaled.load(Ordering::Acquire)
    }
    pub fn set_journaled(&self, sequence: u64) {
        self.journaled.store(sequence, Ordering::Release);
    }
    pub fn last_part(&self) -> PartId {
        PartId(self.last_part.load(Ordering::Acquire))
    }
    pub fn set_last_part(&self, part: PartId) {
        self.last_part.store(part.0, Ordering::Release);
    }
    pub fn reserved_until(&self) -> PartId {
        PartId(self.reserved_until.load(Ordering::Acquire))
    }

    /// Every whole record, oldest first.
    pub fn scan(&self) -> Vec<Record> {
        let mut found: Vec<Record> = (0..self.capacity)
            .filter_map(|slot| self.read_slot(slot))
            .collect();
        found.sort_unstable_by_key(|record| record.sequence);
        found
    }

    /// The record with this sequence, unless it is damaged or has been overwritten.
    pub fn read(&self, sequence: u64) -> Option<Record> {
        self.read_slot(sequence % self.capacity)
            .filter(|record| record.sequence == sequence)
    }

    /// Stores a record. Only the one appender calls this: no allocation, no call to the kernel.
    pub fn write(&self, sequence: u64, counts: &Counts, line: &[u8; LINE_BYTES]) {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&sequence.to_le_bytes());
        for (to, value) in bytes[8..80].chunks_exact_mut(8).zip(to_words(counts)) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        bytes[80..124].copy_from_slice(line);
        let sum = checksum(&self.id, &bytes[..124]);
        bytes[124..].copy_from_slice(&sum.to_le_bytes());
        for (word, value) in self
            .slot(sequence % self.capacity)
            .iter()
            .zip(bytes.chunks_exact(8))
        {
            word.store(u64::from_le_bytes(array(value)), Ordering::Relaxed);
        }
        // Release: who sees the sequence sees the words.
        self.written.store(sequence, Ordering::Release);
    }

    fn slot(&self, slot: u64) -> &[AtomicU64] {
        let first = FIRST_RECORD / 8 + slot as usize * RECORD_WORDS;
        &self.map.words()[first..first + RECORD_WORDS]
    }

    fn read_slot(&self, slot: u64) -> Option<Record> {
        let words = self.slot(slot);
        if words[0].load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut bytes = [0; RECORD_BYTES];
        for (word, to) in words.iter().zip(bytes.chunks_exact_mut(8)) {
            to.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        if checksum(&self.id, &bytes[..124]).to_le_bytes() != bytes[124..] {
            return None;
        }
        let mut numbers = bytes[..80]
            .chunks_exact(8)
            .map(|chunk| u64::from_le_bytes(array(chunk)));
        let sequence = numbers.next()?;
        let counts = from_words(std::array::from_fn(|_| numbers.next().unwrap_or_default()));
        let line = decode(&array(&bytes[80..124]))?;
        (sequence % self.capacity == slot).then_some(Record {
            sequence,
            counts,
            line,
        })
    }

    /// Writes to each block of the next `records` slots without changing it, so that
    /// the kernel's work for the first store to a clean page is done here and not in
    /// the appender.
    pub fn touch_ahead(&self, from: u64, records: u64) {
        for sequence in (from..from + records).step_by(PER_BLOCK as usize) {
            let word = &self.slot(sequence % self.capacity)[0];
            let value = word.load(Ordering::Relaxed);
            // A compare-and-swap writes even when nothing changes; a lost race means it was just written.
            let _ = word.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Waits until all of the ring is on the disk.
    pub fn flush(&self) -> io::Result<()> {
        self.map.flush(0, bytes(self.capacity))
    }
}

/// What the newest whole reservation says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    pub until: PartId,
    pub boot: Id,
}

impl RingFile {
    /// The newest whole reservation; none in a new ring.
    pub fn reservation(&self) -> Option<Reservation> {
        let (_, reservation) = [1, 2]
            .into_iter()
            .filter_map(|block| self.read_reservation(block))
            .max_by_key(|r| r.0)?;
        Some(reservation)
    }

    fn read_reservation(&self, block: usize) -> Option<(u64, Reservation)> {
        let words = &self.map.words()[block * BLOCK_WORDS..];
        let [generation, until, boot0, boot1, sum] =
            std::array::from_fn(|i| words[i].load(Ordering::Relaxed));
        let good =
            generation != 0 && sum == u64::from(words_checksum(&self.id, &[generation, until, boot0, boot1]));
        good.then_some((
            generation,
            Reservation {
                until: PartId(until),
                boot: [boot0, boot1],
            },
        ))
    }

    /// Reserves all part numbers below `until`. They may be used only after this
    /// returned: then the disk knows of it.
    pub fn reserve(&self, until: PartId) -> io::Result<()> {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if *generation == 0 {
            *generation = [1, 2]
                .into_iter()
                .filter_map(|b| self.read_reservation(b))
                .map(|r| r.0)
                .max()
                .unwrap_or(0);
        }
        let next = *generation + 1;
        // The other block than the newest whole one: that one must stay whole while this one is written.
        let block = 1 + (next % 2) as usize;
        let values = [next, until.0, self.boot[0], self.boot[1]];
        let sum = u64::from(words_checksum(&self.id, &values));
        let words = &self.map.words()[block * BLOCK_WORDS..];
        for (word, value) in words.iter().zip(values.into_iter().chain([sum])) {
            word.store(value, Ordering::Relaxed);
        }
        self.map.flush(block * BLOCK, BLOCK)?;
        *generation = next;
        self.reserved_until.store(until.0, Ordering::Release);
        Ok(())
    }
}

enum Header {
    Good { capacity: u64, id: Id },
    Newer(u64),
    Damaged,
}

/// Size of a ring file in bytes.
fn bytes(capacity: u64) -> usize {
    FIRST_RECORD + capacity as usize * RECORD_BYTES
}

fn read_header(mut file: &File) -> io::Result<Header> {
    let mut raw = [0; 64];
    match file.read_exact(&mut raw) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Header::Damaged),
        Err(error) => return Err(error),
    }
    let mut words = raw.chunks_exact(8).map(|chunk| u64::from_le_bytes(array(chunk)));
    let [magic, version, record, capacity, id0, id1, sum] =
        std::array::from_fn(|_| words.next().unwrap_or_default());
    if magic == MAGIC && version > VERSION {
        return Ok(Header::Newer(version));
    }
    let sound = magic == MAGIC
        && sum
            == u64::from(words_checksum(
                &[0, 0],
                &[magic, version, record, capacity, id0, id1],
            ))
        && record == RECORD_BYTES as u64
        && (PER_BLOCK..=CAPACITY_MAX).contains(&capacity)
        && file.metadata()?.len() >= bytes(capacity) as u64;
    Ok(if sound {
        Header::Good {
            capacity,
            id: [id0, id1],
        }
    } else {
        Header::Damaged
    })
}

/// Makes a ring of which every block is paid for, so that a full disk shows now
/// and not in the middle of a shift. It appears under its name when it is whole.
fn create(dir: &Path, path: &Path, capacity: u64) -> io::Result<File> {
    let temp = dir.join("ring.new");
    let made = fill(&temp, capacity).and_then(|()| std::fs::rename(&temp, path));
    if let Err(error) = made {
        // What was begun must not keep the disk full.
        let _ = std::fs::remove_file(&temp);
        return Err(error);
    }
    File::open(dir)?.sync_all()?;
    OpenOptions::new().read(true).write(true).open(path)
}

fn fill(temp: &Path, capacity: u64) -> io::Result<()> {
    let mut file = File::create(temp)?;
    let id = system::fresh_id();
    let mut head = [MAGIC, VERSION, RECORD_BYTES as u64, capacity, id[0], id[1], 0];
    head[6] = u64::from(words_checksum(&[0, 0], &head[..6]));
    for word in head {
        file.write_all(&word.to_le_bytes())?;
    }
    // Written out rather than only allocated: some file systems need more room to turn
    // an allocation into data, and would find out at the first store, with a SIGBUS.
    let zeros = vec![0; 1 << 16];
    let mut left = bytes(capacity) - head.len() * 8;
    while left > 0 {
        let n = left.min(zeros.len());
        file.write_all(&zeros[..n])?;
        left -= n;
    }
    file.sync_all()
}

fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    slice.try_into().expect("callers cut slices of this length")
}

fn checksum(id: &Id, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id[0].to_le_bytes());
    hasher.update(&id[1].to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn words_checksum(id: &Id, words: &[u64]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for word in id.iter().chain(words) {
        hasher.update(&word.to_le_bytes());
    }
    hasher.finalize()
}

fn to_words(counts: &Counts) -> [u64; 9] {
    let Counts {
        seen,
        passed,
        confirmed,
        unconfirmed,
        collateral,
        escaped,
        unaccounted,
        in_flight,
        late,
    } = *counts;
    [
        seen,
        passed,
        confirmed,
        unconfirmed,
        collateral,
        escaped,
        unaccounted,
        in_flight,
        late,
    ]
}

fn from_words(words: [u64; 9]) -> Counts {
    let [
        seen,
        passed,
        confirmed,
        unconfirmed,
        collateral,
        escaped,
        unaccounted,
        in_flight,
        late,
    ] = words;
    Counts {
        seen,
        passed,
        confirmed,
        unconfirmed,
        collateral,
        escaped,
        unaccounted,
        in_flight,
        late,
    }
}
