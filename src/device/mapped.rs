//! A file in memory, seen as words that several threads may read and write.
//!
//! This is the one door through which the ring file is touched. Every access
//! is an atomic word, so that a reader may run beside the writer, and what is
//! stored here outlives a kill of the process: it lies in the kernel's page
//! cache, not in ours.

use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

const WORD: usize = size_of::<u64>();

/// A shared, writable mapping of the beginning of a file.
#[derive(Debug)]
pub struct Mapped {
    map: MmapRaw,
}

impl Mapped {
    /// Maps the first `bytes` of `file`, which must be that long already and
    /// open for reading and writing. All pages are read at once, so that a
    /// later store does not wait for the disk to read them.
    pub fn open(file: &File, bytes: usize) -> io::Result<Mapped> {
        let length = file.metadata()?.len();
        if bytes == 0 || !bytes.is_multiple_of(WORD) || length < bytes as u64 {
            let words = format!("cannot map {bytes} bytes of a file of {length}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        let map = MmapOptions::new().len(bytes).populate().map_raw(file)?;
        Ok(Mapped { map })
    }

    /// The content as words in this machine's byte order.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping starts on a page, so it is aligned for u64; it is `len` bytes long and
        // lives as long as `self`, which the borrow is bound to; every bit pattern is a valid u64; and
        // this is the only way to its content, so all accesses in this process are atomic. Another
        // process is kept out by the lock on the record path; one that ignores it and shortens the file
        // ends this process (SIGBUS), which is a crash like any other, not a wrong value.
        unsafe {
            std::slice::from_raw_parts(self.map.as_mut_ptr().cast::<AtomicU64>(), self.map.len() / WORD)
        }
    }

    /// Waits until these bytes are on the disk; an error means that they may not be.
    pub fn flush(&self, offset: usize, bytes: usize) -> io::Result<()> {
        self.map.flush_range(offset, bytes)
    }

    /// Keeps the mapping in memory, where the limit on locked memory allows it.
    pub fn lock(&self) -> io::Result<()> {
        self.map.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn what_is_stored_is_in_the_file() {
        let mut temp = tempfile::tempfile().unwrap();
        temp.set_len(4096).unwrap();
        let mapped = Mapped::open(&temp, 4096).unwrap();
        mapped.words()[3].store(0x0102_0304, Relaxed);
        mapped.flush(0, 4096).unwrap();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut temp, &mut bytes).unwrap();
        assert_eq!(bytes[24..32], 0x0102_0304u64.to_ne_bytes());
    }

    #[test]
    fn a_file_that_is_too_short_is_refused_instead_of_mapped_past_its_end() {
        let temp = tempfile::tempfile().unwrap();
        temp.set_len(100).unwrap();
        assert!(Mapped::open(&temp, 4096).is_err());
        assert!(Mapped::open(&temp, 0).is_err());
        assert!(Mapped::open(&temp, 12).is_err());
    }
}
