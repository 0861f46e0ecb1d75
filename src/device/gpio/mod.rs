//! Lines of the kernel's GPIO chips (`/dev/gpiochipN`).
//!
//! The kernel offers two interfaces (uAPI). v2 came with Linux 5.10; newer kernels may be built
//! without v1. Which one is used is asked of the kernel when a chip is opened.
//!
//! | | v2 (`uapi_v2`) | v1 (`uapi_v1`) |
//! |---|---|---|
//! | events the kernel keeps per line | 1,024, then the oldest are dropped | 16, then the newest are dropped |
//! | lost events | seen by gaps in the line's own numbering | a full queue may have lost some |
//! | stamps | `CLOCK_MONOTONIC`, taken in the interrupt | the same from Linux 5.7 on; before, wall-clock, so that the time of waking up is taken instead |
//! | bias | yes | from Linux 5.5 on |
//!
//! Every input line is a request of its own, so that a line that flickers cannot push the edges
//! of another one out of its queue. The output lines of a chip are one request, held together.
//! Levels here are electrical (high, low); [`edges`] and `lines` apply the polarity. The kernel's
//! own debounce is never used: it stamps late by jiffies.
//!
//! With both versions the kernel stamps an edge in the interrupt, but looks at the level a little
//! later. A line that has gone back meanwhile gives two edges alike, with nothing lost between.

pub mod edges;
mod uapi_v1;
mod uapi_v2;

use super::words;
use crate::config::{Bias, LineName};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What `gpioinfo` shows as the user of our lines.
pub const CONSUMER: &str = "elek";

/// For tests: speak this version of the uAPI (1 or 2) and no other.
pub const UAPI_VARIABLE: &str = "ELEK_GPIO_UAPI";

/// Names listed in an error before it says how many more there are.
const LISTED_MAX: usize = 24;

/// The kernel's interface for lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Uapi {
    V1,
    V2,
}

impl fmt::Display for Uapi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Uapi::V1 => "v1",
            Uapi::V2 => "v2",
        })
    }
}

/// Why a chip or line cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GpioError {
    #[error(
        "this machine has no GPIO chip (no /dev/gpiochip*), so there is no {wanted}: is its driver loaded?"
    )]
    NoChips { wanted: String },
    #[error("no GPIO chip is called {wanted}; there are {found}")]
    NoChip { wanted: String, found: String },
    #[error("{} chips are called {wanted}: name one by its path ({})", .paths.len(), Joined(.paths))]
    ManyChips { wanted: String, paths: Vec<String> },
    #[error("{path} cannot be opened: {cause}. {}", advice(.cause))]
    Open { path: String, cause: io::Error },
    #[error("chip {chip} has no line {wanted}; it has {found}")]
    NoLine {
        chip: String,
        wanted: LineName,
        found: String,
    },
    #[error("chip {chip} has {} lines called {wanted}: give the number instead (line = {})", .numbers.len(), Joined(.numbers))]
    ManyLines {
        chip: String,
        wanted: LineName,
        numbers: Vec<String>,
    },
    #[error("line {line} of chip {chip} is in use by \"{consumer}\"")]
    Busy {
        chip: String,
        line: LineName,
        consumer: String,
    },
    #[error("the kernel speaks neither version of the GPIO interface that elek knows on {chip}")]
    NoUapi { chip: String },
    #[error("{UAPI_VARIABLE}={wanted} is asked for, but the kernel does not speak it on {chip}")]
    Forced { chip: String, wanted: String },
    #[error("bias on chip {chip}: this kernel ({release}) sets it from Linux 5.5 on; use a resistor")]
    NoBias { chip: String, release: String },
    #[error("{what} of chip {chip}: {message}")]
    Kernel {
        chip: String,
        what: String,
        message: String,
    },
}

struct Joined<'a>(&'a [String]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "Add the user to the group that owns it (usually gpio), or install the udev rule of elek"
        }
        _ => "Is the device still there?",
    }
}

/// A chip as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipInfo {
    pub path: PathBuf,
    /// `gpiochip0`: the number may change from boot to boot.
    pub name: String,
    /// What the driver or device tree calls it: stays the same.
    pub label: String,
    pub lines: u32,
}

impl ChipInfo {
    fn is_called(&self, wanted: &str) -> bool {
        wanted == self.label || wanted == self.name
    }
}

/// A line as the chip presents it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineInfo {
    pub offset: u32,
    pub name: Option<String>,
    /// Taken by a program or driver, of this name if it told one.
    pub used_by: Option<String>,
    pub output: bool,
    pub active_low: bool,
}

/// All chips of this machine, by number; or why one cannot be looked at.
pub fn chips() -> Vec<(PathBuf, Result<ChipInfo, GpioError>)> {
    let paths = gpiocdev::chip::chips().unwrap_or_default();
    let look = |path: PathBuf| {
        let info = look_at(&path).map(|(_, info)| info);
        (path, info)
    };
    paths.into_iter().map(look).collect()
}

/// Opens a chip far enough to ask its name, which both versions of the interface answer alike.
fn look_at(path: &Path) -> Result<(gpiocdev::Chip, ChipInfo), GpioError> {
    let shown = path.display().to_string();
    let open = std::fs::File::open(path).map_err(|cause| GpioError::Open {
        path: shown.clone(),
        cause,
    });
    drop(open?);
    let kernel = |error: gpiocdev::Error| GpioError::Kernel {
        chip: shown.clone(),
        what: "the name".into(),
        message: error.to_string(),
    };
    let chip = gpiocdev::Chip::from_path(path).map_err(kernel)?;
    let info = chip.info().map_err(kernel)?;
    let info = ChipInfo {
        path: chip.path().to_owned(),
        name: info.name,
        label: info.label,
        lines: info.num_lines,
    };
    Ok((chip, info))
}

/// An open chip.
#[derive(Debug)]
pub struct Chip {
    info: ChipInfo,
    door: Door,
}

#[derive(Debug)]
enum Door {
    V1(gpio_cdev::Chip),
    V2(gpiocdev::Chip),
}

impl Chip {
    /// The chip of this label, name or path.
    pub fn find(wanted: &str) -> Result<Chip, GpioError> {
        if wanted.starts_with('/') {
            return Chip::open(Path::new(wanted));
        }
        let mut matching = Vec::new();
        let mut others = Vec::new();
        let mut closed = None;
        for (path, info) in chips() {
            match info {
                Ok(info) if info.is_called(wanted) => matching.push(path),
                Ok(info) => others.push(format!("{} ({})", info.label, info.name)),
                Err(error) => closed = Some(error),
            }
        }
        match &matching[..] {
            [one] => Chip::open(one),
            // One that could not be looked at may be the one.
            [] if closed.is_some() => Err(closed.expect("just seen")),
            [] if others.is_empty() => Err(GpioError::NoChips {
                wanted: wanted.into(),
            }),
            [] => Err(GpioError::NoChip {
                wanted: wanted.into(),
                found: words::listed(others, LISTED_MAX),
            }),
            many => Err(GpioError::ManyChips {
                wanted: wanted.into(),
                paths: many.iter().map(|path| path.display().to_string()).collect(),
            }),
        }
    }

    /// The chip of this path.
    pub fn open(path: &Path) -> Result<Chip, GpioError> {
        let (v2, info) = look_at(path)?;
        let forced = std::env::var(UAPI_VARIABLE).unwrap_or_default();
        let spoken = spoken(v2, &info.path);
        let door = spoken
            .into_iter()
            .find(|door| forced.is_empty() || forced == door.number());
        match door {
            Some(door) => Ok(Chip { info, door }),
            None if forced.is_empty() => Err(GpioError::NoUapi { chip: info.label }),
            None => Err(GpioError::Forced {
                chip: info.label,
                wanted: forced,
            }),
        }
    }

    pub fn info(&self) -> &ChipInfo {
        &self.info
    }

    /// The version in use.
    pub fn uapi(&self) -> Uapi {
        match self.door {
            Door::V1(_) => Uapi::V1,
            Door::V2(_) => Uapi::V2,
        }
    }

    /// All lines, by number.
    pub fn lines(&self) -> Result<Vec<LineInfo>, GpioError> {
        (0..self.info.lines)
            .map(|offset| self.line_info(offset))
            .collect()
    }

    fn line_info(&self, offset: u32) -> Result<LineInfo, GpioError> {
        let info = match &self.door {
            Door::V1(chip) => uapi_v1::line_info(chip, offset),
            Door::V2(chip) => uapi_v2::line_info(chip, offset),
        };
        info.map_err(|message| self.kernel(&format!("line {offset}"), message))
    }

    /// The number of a line.
    pub fn offset(&self, wanted: &LineName) -> Result<u32, GpioError> {
        let chip = self.info.label.clone();
        let name = match wanted {
            LineName::Offset(offset) if *offset < self.info.lines => return Ok(*offset),
            LineName::Offset(_) => {
                return Err(GpioError::NoLine {
                    chip,
                    wanted: wanted.clone(),
                    found: format!("the numbers 0 to {}", self.info.lines.saturating_sub(1)),
                });
            }
            LineName::Name(name) => name,
        };
        let lines = self.lines()?;
        let called: Vec<u32> = lines
            .iter()
            .filter(|line| line.name.as_ref() == Some(name))
            .map(|line| line.offset)
            .collect();
        match called[..] {
            [one] => Ok(one),
            [] => Err(GpioError::NoLine {
                chip,
                wanted: wanted.clone(),
                found: listed(&lines),
            }),
            _ => Err(GpioError::ManyLines {
                chip,
                wanted: wanted.clone(),
                numbers: called.iter().map(u32::to_string).collect(),
            }),
        }
    }

    fn kernel(&self, what: &str, message: String) -> GpioError {
        GpioError::Kernel {
            chip: self.info.label.clone(),
            what: what.to_owned(),
            message,
        }
    }

    /// Why a request failed: most often somebody else holds the line.
    fn refused(&self, offset: u32, line: &LineName, message: String) -> GpioError {
        match self.line_info(offset) {
            Ok(LineInfo {
                used_by: Some(consumer),
                ..
            }) => GpioError::Busy {
                chip: self.info.label.clone(),
                line: line.clone(),
                consumer,
            },
            _ => self.kernel(&format!("line {line}"), message),
        }
    }

    /// Requests an input line with events for both edges.
    fn watch(&self, line: &LineName, bias: Bias) -> Result<Watch, GpioError> {
        let offset = self.offset(line)?;
        let refused = |message| self.refused(offset, line, message);
        match &self.door {
            Door::V1(chip) => {
                let (release, version) = kernel();
                if bias != Bias::Kept && version < (5, 5) {
                    let chip = self.info.label.clone();
                    return Err(GpioError::NoBias { chip, release });
                }
                let monotonic = version >= (5, 7);
                let watch = uapi_v1::Watch::request(chip, offset, bias, monotonic).map_err(refused)?;
                Ok(Watch::V1(watch))
            }
            Door::V2(chip) => {
                let watch = uapi_v2::Watch::request(chip.path(), offset, bias).map_err(refused)?;
                Ok(Watch::V2(watch))
            }
        }
    }

    /// Requests output lines; each has its level from the very request on, so nothing glitches.
    pub fn drive(&self, lines: &[(LineName, bool)]) -> Result<Drive, GpioError> {
        let offsets = lines.iter().map(|(name, high)| Ok((self.offset(name)?, *high)));
        let offsets: Vec<(u32, bool)> = offsets.collect::<Result<_, GpioError>>()?;
        let driven = match &self.door {
            Door::V1(chip) => uapi_v1::Drive::request(chip, &offsets).map(Drive::V1),
            Door::V2(chip) => uapi_v2::Drive::request(chip.path(), &offsets).map(Drive::V2),
        };
        driven.map_err(|message| {
            // One of them is to blame, and only its state tells which.
            let busy = offsets.iter().zip(lines).find_map(|((offset, _), (name, _))| {
                let error = self.refused(*offset, name, message.clone());
                matches!(error, GpioError::Busy { .. }).then_some(error)
            });
            busy.unwrap_or_else(|| self.kernel("the output lines", message))
        })
    }
}

impl Door {
    fn number(&self) -> &'static str {
        match self {
            Door::V1(_) => "1",
            Door::V2(_) => "2",
        }
    }
}

/// What the kernel speaks on this chip, best first.
fn spoken(v2: gpiocdev::Chip, path: &Path) -> Vec<Door> {
    let mut doors = Vec::new();
    if uapi_v2::is_spoken(&v2) {
        doors.push(Door::V2(v2));
    }
    if let Some(v1) = uapi_v1::open(path) {
        doors.push(Door::V1(v1));
    }
    doors
}

/// All versions that the kernel speaks on a chip.
pub fn uapis(path: &Path) -> Result<Vec<Uapi>, GpioError> {
    let (v2, info) = look_at(path)?;
    let version = |door: &Door| match door {
        Door::V1(_) => Uapi::V1,
        Door::V2(_) => Uapi::V2,
    };
    Ok(spoken(v2, &info.path).iter().map(version).collect())
}

/// A requested input line.
#[derive(Debug)]
enum Watch {
    V1(uapi_v1::Watch),
    V2(uapi_v2::Watch),
}

/// Requested output lines of one chip.
#[derive(Debug)]
pub enum Drive {
    V1(uapi_v1::Drive),
    V2(uapi_v2::Drive),
}

impl Drive {
    /// Switches the line at this place of the request, by one call to the kernel; allocates nothing.
    pub fn set(&mut self, place: usize, high: bool) -> io::Result<()> {
        match self {
            Drive::V1(drive) => drive.set(place, high),
            Drive::V2(drive) => drive.set(place, high),
        }
    }
}

/// An edge as the kernel reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RawEdge {
    high: bool,
    /// ns of the kernel's stamp.
    stamp: u64,
    /// Edges before this one were lost, or may have been.
    gap: bool,
}

fn listed(lines: &[LineInfo]) -> String {
    let named: Vec<String> = lines.iter().filter_map(|line| line.name.clone()).collect();
    match named.is_empty() {
        true => format!(
            "{} lines without names: give a number instead (line = N)",
            lines.len()
        ),
        false => words::listed(named, LISTED_MAX),
    }
}

/// Release of the running kernel, and its first two numbers.
pub fn kernel() -> (String, (u32, u32)) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_owned();
    let version = version(&release);
    (release, version)
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_kernels() {
        assert_eq!(version("6.12.117+deb12-amd64"), (6, 12));
        assert_eq!(version("5.4.0-rc1"), (5, 4));
        assert_eq!(version("7.3"), (7, 3));
        assert_eq!(version(""), (0, 0));
        assert!(kernel().1 > (3, 0));
    }

    #[test]
    fn lines_are_listed_by_name() {
        let line = |offset, name: Option<&str>| LineInfo {
            offset,
            name: name.map(Into::into),
            used_by: None,
            output: false,
            active_low: false,
        };
        assert_eq!(listed(&[line(0, Some("ACK")), line(1, None)]), "ACK");
        assert!(listed(&[line(0, None)]).contains("line = N"));
    }

    #[test]
    fn a_chip_that_is_not_there_is_an_error_that_says_so() {
        let error = Chip::find("elek-has-no-such-chip").unwrap_err().to_string();
        assert!(
            error.contains("elek-has-no-such-chip") || error.contains("cannot be opened"),
            "{error}"
        );
        let error = Chip::find("/dev/gpiochip987").unwrap_err().to_string();
        assert!(error.contains("/dev/gpiochip987 cannot be opened"), "{error}");
    }
}
