//! Keeps free space on the record's disk by deleting pictures.
//!
//! Passed parts go first, oldest first. Rejected ones follow only if that helps:
//! when something else fills the disk, deleting all evidence would not make room,
//! so it is kept and the alarm goes up. The order is that of the part numbers in
//! the names and not of dates, because the clock may step. The journal is never
//! shortened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where free space is looked up; tests bring their own.
#[derive(Clone, Copy, Debug)]
pub enum Disk {
    Real,
    /// So many bytes in all, of which the pictures and `other` are used.
    Fake {
        total: u64,
        other: u64,
    },
}

/// One file of a kept part.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    /// Rejected parts sort behind all passed ones.
    rejected: bool,
    part: u64,
    path: PathBuf,
    bytes: u64,
}

/// What was done about free space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Files deleted.
    pub passed: u64,
    pub rejected: u64,
    /// There is still too little.
    pub low: bool,
    pub free_percent: u8,
    pub keep_percent: u8,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low {
            write!(
                f,
                "only {} % of the record's disk is free, {} % are asked for (`record.keep_free_percent`), and deleting \
                 pictures does not help: make room",
                self.free_percent, self.keep_percent
            )?;
        } else {
            write!(f, "made room on the record's disk")?;
        }
        write!(
            f,
            "; deleted files of passed parts: {}, of rejected parts: {}",
            self.passed, self.rejected
        )
    }
}

pub struct Retention {
    folder: PathBuf,
    keep_percent: u8,
    disk: Disk,
}

impl Retention {
    pub fn new(folder: PathBuf, keep_percent: u8, disk: Disk) -> Retention {
        Retention {
            folder,
            keep_percent: keep_percent.min(99),
            disk,
        }
    }

    /// Deletes pictures until enough space is free, or until deleting would not help.
    pub fn make_room(&self) -> io::Result<Outcome> {
        let mut outcome = Outcome {
            keep_percent: self.keep_percent,
            ..Outcome::default()
        };
        let space = self.space()?;
        outcome.free_percent = space.percent();
        let mut missing = space.missing(self.keep_percent);
        if missing == 0 {
            return Ok(outcome);
        }
        let mut kept = list(&self.folder)?;
        kept.sort_unstable();
        let passed = kept.partition_point(|file| !file.rejected);
        let bytes = |files: &[Kept]| files.iter().map(|file| file.bytes).sum::<u64>();
        let reachable = bytes(&kept) >= missing;
        let candidates = if reachable { &kept[..] } else { &kept[..passed] };
        for file in candidates {
            if missing == 0 {
                break;
            }
            match std::fs::remove_file(&file.path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            *if file.rejected {
                &mut outcome.rejected
            } else {
                &mut outcome.passed
            } += 1;
            missing = missing.saturating_sub(file.bytes);
        }
        remove_empty_days(&self.folder);
        let space = self.space()?;
        outcome.free_percent = space.percent();
        // Some file systems free the space a moment later: what was deleted counts.
        outcome.low = missing > 0;
        Ok(outcome)
    }

    fn space(&self) -> io::Result<Space> {
        match self.disk {
            Disk::Real => {
                // The folder may not be there yet; its parent is on the same disk.
                let there = self
                    .folder
                    .ancestors()
                    .find(|path| path.exists())
                    .unwrap_or(Path::new("."));
                let stat = rustix::fs::statvfs(there)?;
                let (total, free) = (stat.f_blocks, stat.f_bavail);
                Ok(Space {
                    total: total.saturating_mul(stat.f_frsize),
                    free: free.saturating_mul(stat.f_frsize),
                })
            }
            Disk::Fake { total, other } => {
                let pictures: u64 = list(&self.folder)?.iter().map(|file| file.bytes).sum();
                Ok(Space {
                    total,
                    free: total.saturating_sub(other + pictures),
                })
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Space {
    total: u64,
    /// For users other than root.
    free: u64,
}

impl Space {
    fn percent(self) -> u8 {
        (u128::from(self.free) * 100 / u128::from(self.total.max(1))) as u8
    }
    /// Bytes that must become free to reach `percent`.
    fn missing(self, percent: u8) -> u64 {
        let wanted = (u128::from(self.total) * u128::from(percent)).div_ceil(100) as u64;
        wanted.saturating_sub(self.free)
    }
}

/// All files of kept parts. Files with other names are not ours to delete.
fn list(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut all = Vec::new();
    let days = match std::fs::read_dir(folder) {
        Ok(days) => days,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        Err(error) => return Err(error),
    };
    for day in days {
        let day = day?;
        if !day.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(day.path())? {
            let file = file?;
            let name = file.file_name();
            let Some((part, rejected)) = name.to_str().and_then(parse_name) else {
                continue;
            };
            let bytes = file.metadata().map(|data| data.len()).unwrap_or(0);
            all.push(Kept {
                rejected,
                part,
                path: file.path(),
                bytes,
            });
        }
    }
    Ok(all)
}

/// Part number and whether it was rejected, from a name such as `000000001234-reject.segment.png`.
fn parse_name(name: &str) -> Option<(u64, bool)> {
    let stem = name.strip_suffix(".png")?;
    let (part, rest) = stem.split_once('-')?;
    let rejected = match rest.split('.').next()? {
        "reject" => true,
        "pass" => false,
        _ => return None,
    };
    part.bytes()
        .all(|digit| digit.is_ascii_digit())
        .then(|| part.parse().ok())?
        .map(|part| (part, rejected))
}

fn remove_empty_days(folder: &Path) {
    for day in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // Fails, as it should, when the folder is not empty.
        let _ = std::fs::remove_dir(day.path());
    }
}

#[cfg(test)]
mod tests {
    use super::super::pictures::stem;
    use super::*;
    use crate::units::PartId;

    const FILE: u64 = 1_000;

    /// Parts with odd numbers rejected, each with one file, in folders whose dates run backwards.
    fn record(parts: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for part in 1..=parts {
            let day = dir.path().join(format!("2026-01-{:02}", 31 - part));
            std::fs::create_dir_all(&day).unwrap();
            let name = format!("{}.png", stem(PartId(part), part % 2 == 1));
            std::fs::write(day.join(name), vec![0; FILE as usize]).unwrap();
        }
        dir
    }

    fn left(dir: &Path) -> Vec<u64> {
        let mut parts: Vec<u64> = list(dir).unwrap().iter().map(|file| file.part).collect();
        parts.sort_unstable();
        parts
    }

    fn make_room(dir: &Path, other: u64) -> Outcome {
        let disk = Disk::Fake {
            total: 100 * FILE,
            other,
        };
        Retention::new(dir.to_owned(), 20, disk).make_room().unwrap()
    }

    #[test]
    fn nothing_is_deleted_while_there_is_room() {
        let dir = record(8);
        let outcome = make_room(dir.path(), 72 * FILE);
        assert_eq!((outcome.passed, outcome.rejected, outcome.low), (0, 0, false));
        assert_eq!(left(dir.path()).len(), 8);
    }

    #[test]
    fn passed_parts_go_first_and_the_oldest_by_number_whatever_the_folders_date_says() {
        let dir = record(8);
        let outcome = make_room(dir.path(), 74 * FILE);
        assert_eq!((outcome.passed, outcome.rejected, outcome.low), (2, 0, false));
        assert_eq!(left(dir.path()), [1, 3, 5, 6, 7, 8]);
        assert!(!dir.path().join("2026-01-29").exists(), "empty folders go too");
    }

    #[test]
    fn rejected_parts_follow_only_if_that_makes_enough_room() {
        let dir = record(8);
        let outcome = make_room(dir.path(), 78 * FILE);
        assert_eq!((outcome.passed, outcome.rejected, outcome.low), (4, 2, false));
        assert_eq!(left(dir.path()), [5, 7]);

        let dir = record(8);
        let outcome = make_room(dir.path(), 90 * FILE);
        assert_eq!((outcome.passed, outcome.rejected, outcome.low), (4, 0, true));
        assert_eq!(left(dir.path()), [1, 3, 5, 7], "evidence is not deleted in vain");
    }

    #[test]
    fn files_that_elek_did_not_write_are_never_deleted() {
        for name in [
            "notes.txt",
            "12-other.png",
            "-reject.png",
            "1a-reject.png",
            ".new-000000000001-pass.png",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
        assert_eq!(parse_name("000000000012-reject.segment.png"), Some((12, true)));
        assert_eq!(
            parse_name("1234567890123-pass.png"),
            Some((1_234_567_890_123, false))
        );
    }
}
