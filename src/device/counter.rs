//! The kernel's counter devices (`/dev/counterN`): hardware that counts an encoder by itself.
//!
//! The count is read from sysfs, one `pread` of a file kept open, between two looks at the
//! clock. The character device would deliver events instead of counts; the driver decides which,
//! and a belt needs where it is, not what happened.

use crate::device::clock;
use crate::units::{Instant, Micros};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::{Path, PathBuf};

const DEVICES: &str = "/sys/bus/counter/devices";

/// A reading that took longer says too little about when it was: read again.
const READ_MAX: Micros = Micros::new(500);
/// How often a reading is tried again before the best one is taken.
const TRIES: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    #[error("there is no counter {path}; this machine has {found}")]
    Missing { path: String, found: String },
    #[error("counter {path}: {cause}")]
    Io { path: String, cause: io::Error },
    #[error(
        "counter {path} is switched off and cannot be switched on: {cause}. Allow writing to it (udev rule)"
    )]
    Disabled { path: String, cause: io::Error },
    #[error("counter {path} says {found:?}, which is no count")]
    Nonsense { path: String, found: String },
}

/// A counter of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterInfo {
    /// `counter0`.
    pub device: String,
    /// What the driver calls it.
    pub name: String,
    pub counts: Vec<String>,
}

/// All counters, by name.
pub fn counters() -> Vec<CounterInfo> {
    counters_in(Path::new(DEVICES))
}

fn counters_in(devices: &Path) -> Vec<CounterInfo> {
    let names = |folder: &Path, prefix: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names
    };
    let info = |device: String| CounterInfo {
        name: read(&devices.join(&device).join("name")).unwrap_or_default(),
        counts: names(&devices.join(&device), "count"),
        device,
    };
    names(devices, "counter").into_iter().map(info).collect()
}

fn read(path: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

/// A counter that is read.
#[derive(Debug)]
pub struct Counter {
    path: String,
    count: OwnedFd,
    wrap: Wrap,
    last: u64,
    position: i64,
}

/// The count at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Signed, since the counter was opened, wraps undone.
    pub counts: i64,
    pub at: Instant,
}

impl Counter {
    /// Opens `/dev/counterN`, or a folder in sysfs (a device or one of its counts).
    pub fn open(path: &Path) -> Result<Counter, CounterError> {
        Counter::open_in(Path::new(DEVICES), path)
    }

    fn open_in(devices: &Path, path: &Path) -> Result<Counter, CounterError> {
        let shown = path.display().to_string();
        let folder = folder(devices, path).ok_or_else(|| CounterError::Missing {
            path: shown.clone(),
            found: match counters_in(devices) {
                none if none.is_empty() => "none".into(),
                some => some
                    .into_iter()
                    .map(|c| format!("/dev/{}", c.device))
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        })?;
        let error = |cause| CounterError::Io {
            path: shown.clone(),
            cause,
        };
        // Not every driver can be switched off.
        let enable = folder.join("enable");
        if read(&enable).is_ok_and(|state| state == "0") {
            std::fs::write(&enable, "1").map_err(|cause| CounterError::Disabled {
                path: shown.clone(),
                cause,
            })?;
        }
        let file = folder.join("count");
        let count = rustix::fs::open(&file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut counter = Counter {
            count: count.map_err(|errno| error(errno.into()))?,
            wrap: Wrap::of(
                read(&folder.join("ceiling"))
                    .ok()
                    .and_then(|text| text.parse().ok()),
            ),
            path: shown.clone(),
            last: 0,
            position: 0,
        };
        counter.last = counter.value()?;
        Ok(counter)
    }

    /// Where the encoder is now.
    pub fn read(&mut self) -> Result<Reading, CounterError> {
        let mut best: Option<(Micros, u64, Instant)> = None;
        for _ in 0..TRIES {
            let before = clock::now();
            let value = self.value()?;
            let took = clock::now().since(before);
            if best.is_none_or(|(shortest, ..)| took < shortest) {
                best = Some((took, value, before + Micros::new(took.get() / 2)));
            }
            if took <= READ_MAX {
                break;
            }
        }
        let (_, value, at) = best.expect("read at least once");
        self.position += self.wrap.moved(self.last, value);
        self.last = value;
        Ok(Reading {
            counts: self.position,
            at,
        })
    }

    fn value(&self) -> Result<u64, CounterError> {
        let mut text = [0; 32];
        let bytes = rustix::io::pread(&self.count, &mut text, 0).map_err(|errno| CounterError::Io {
            path: self.path.clone(),
            cause: errno.into(),
        })?;
        let text = String::from_utf8_lossy(&text[..bytes]);
        text.trim().parse().map_err(|_| CounterError::Nonsense {
            path: self.path.clone(),
            found: text.trim().to_owned(),
        })
    }
}

/// The folder in sysfs with `count` in it.
fn folder(devices: &Path, path: &Path) -> Option<PathBuf> {
    let device = match path.strip_prefix("/dev") {
        Ok(_) => {
            // A link that a udev rule made leads to the device's own name.
            let path = std::fs::canonicalize(path).unwrap_or(path.to_owned());
            devices.join(path.file_name()?)
        }
        Err(_) => path.to_owned(),
    };
    [device.join("count0"), device]
        .into_iter()
        .find(|folder| folder.join("count").is_file())
}

/// Where the count begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrap {
    /// After the largest count comes 0.
    After(u64),
    /// The driver does not say: a machine word, of 64 bits or of 32.
    Word,
}

impl Wrap {
    fn of(ceiling: Option<u64>) -> Wrap {
        match ceiling {
            // Drivers without a ceiling say 0.
            Some(ceiling) if ceiling > 0 => Wrap::After(ceiling),
            _ => Wrap::Word,
        }
    }

    /// The shorter way from one count to another.
    fn moved(self, from: u64, to: u64) -> i64 {
        const WORD32: i128 = 1 << 32;
        let plain = i128::from(to) - i128::from(from);
        let around = match self {
            Wrap::After(ceiling) => i128::from(ceiling) + 1,
            Wrap::Word if i128::from(from.max(to)) < WORD32 && plain.abs() > WORD32 / 2 => WORD32,
            Wrap::Word => 1 << 64,
        };
        let shortest = if plain > around / 2 {
            plain - around
        } else if plain < -(around / 2) {
            plain + around
        } else {
            plain
        };
        // At most half of 2^64 either way.
        shortest.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_is_no_jump() {
        let nine = Wrap::of(Some(9));
        assert_eq!(nine.moved(8, 1), 3);
        assert_eq!(nine.moved(1, 8), -3);
        assert_eq!(nine.moved(2, 5), 3);
        assert_eq!(Wrap::of(Some(65_535)).moved(65_535, 0), 1);
        let word = Wrap::of(None);
        assert_eq!(word, Wrap::of(Some(0)));
        assert_eq!(word.moved(u64::from(u32::MAX), 4), 5);
        assert_eq!(word.moved(4, u64::from(u32::MAX)), -5);
        assert_eq!(word.moved(u64::MAX, 4), 5);
        assert_eq!(word.moved(100, 90), -10);
        assert_eq!(word.moved(1 << 40, (1 << 40) + 7), 7);
    }

    /// A counter as sysfs shows it.
    fn sysfs() -> tempfile::TempDir {
        let devices = tempfile::tempdir().unwrap();
        let count = devices.path().join("counter3/count0");
        std::fs::create_dir_all(&count).unwrap();
        std::fs::write(count.join("count"), "97\n").unwrap();
        std::fs::write(count.join("ceiling"), "99\n").unwrap();
        std::fs::write(count.join("enable"), "0\n").unwrap();
        std::fs::write(devices.path().join("counter3/name"), "eqep\n").unwrap();
        devices
    }

    #[test]
    fn a_counter_is_read_from_where_it_stood_at_the_start() {
        let devices = sysfs();
        let count = devices.path().join("counter3/count0");
        let mut counter = Counter::open_in(devices.path(), Path::new("/dev/counter3")).unwrap();
        assert_eq!(std::fs::read_to_string(count.join("enable")).unwrap(), "1");
        assert_eq!(counter.read().unwrap().counts, 0);
        std::fs::write(count.join("count"), "3\n").unwrap();
        let before = clock::now();
        let reading = counter.read().unwrap();
        assert_eq!(reading.counts, 6);
        assert!(reading.at >= before && reading.at <= clock::now());
        std::fs::write(count.join("count"), "soon\n").unwrap();
        let error = counter.read().unwrap_err().to_string();
        assert!(error.contains("\"soon\""), "{error}");
    }

    #[test]
    fn a_counter_that_is_not_there_is_told_with_those_that_are() {
        let devices = sysfs();
        let error = Counter::open_in(devices.path(), Path::new("/dev/counter0")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no counter /dev/counter0; this machine has /dev/counter3"
        );
        let found = counters_in(devices.path());
        assert_eq!(found[0].name, "eqep");
        assert_eq!(found[0].counts, ["count0"]);
    }
}
