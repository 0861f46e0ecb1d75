//! One station per record path: a lock that ends with the process, however it ends.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Held as long as the record is open. The kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct PathLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "the record in {} is in use by another station{}. Stop that one first, or give this one a `record.path` of its own",
        .path.display(), .holder.map_or(String::new(), |pid| format!(" (process {pid})"))
    )]
    Held { path: PathBuf, holder: Option<u32> },
    #[error("cannot write {}: {cause}. The record path must be a folder that this user may write to", .path.display())]
    Io { path: PathBuf, cause: std::io::Error },
}

impl PathLock {
    /// Locks the record in `dir`, at once or not at all.
    pub fn take(dir: &Path) -> Result<PathLock, LockError> {
        let path = dir.join("lock");
        let io = |cause| LockError::Io {
            path: path.clone(),
            cause,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // The holder may be between locking and writing its number; then it stays unnamed.
                let _ = file.take(32).read_to_string(&mut text);
                return Err(LockError::Held {
                    path: dir.to_owned(),
                    holder: text.trim().parse().ok(),
                });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(PathLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_station_is_told_who_has_the_first_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = PathLock::take(dir.path()).unwrap();
        let error = PathLock::take(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
        drop(first);
        PathLock::take(dir.path()).unwrap();
    }
}
