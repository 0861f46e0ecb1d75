//! Cameras behind V4L2, the kernel's one interface to all of them.
//!
//! A camera is opened for one picture format, and refused when the driver gives another: every length on
//! the belt is reckoned from it. Exposure is set and read back for the same reason. Nothing here waits
//! without a time-out, also not after the camera was unplugged.
//!
//! | file | what |
//! |---|---|
//! | [`v4l2`] | the camera: open, stream, close |
//! | `node` | the system calls; the only `unsafe` |
//! | `negotiate` | what was asked against what the driver gave |
//! | `controls` | which controls to set, to what |
//! | `stamps` | when a picture was taken, and whether the driver's word for it can be trusted |
//! | [`describe`] | what a device offers, for errors and for `elek probe` |
//!
//! Of the crate `v4l` the lower layer is used (the kernel's structures and request numbers). Its upper
//! layer leaves the descriptor open in child processes (the output process would hold an unplugged
//! camera), has no time-out in `dequeue` that survives an unplug, and panics on control types and
//! colour spaces that are younger than the crate.

mod controls;
pub mod describe;
mod negotiate;
mod node;
mod stamps;
pub mod v4l2;

pub use controls::ControlError;
pub use stamps::{StampClock, StampPoint, Stamping};
pub use v4l2::V4l2Camera;

use std::io;
use std::path::{Path, PathBuf};

/// What came of waiting for a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// The frame is filled.
    Frame,
    /// Nothing came within the time-out.
    Nothing,
    /// The driver delivered a buffer that cannot be used: broken, cut short, or without a credible stamp.
    Damaged(Damage),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The driver itself says that the picture is broken.
    Flagged,
    /// Fewer bytes than a picture has.
    Short,
    /// The stamp lies in the future or far in the past.
    Stamp,
}

impl Damage {
    pub fn words(self) -> &'static str {
        match self {
            Damage::Flagged => "the driver marked it as broken (cable, power or bandwidth of the camera)",
            Damage::Short => "it is cut short (cable, power or bandwidth of the camera)",
            Damage::Stamp => "its time stamp is not credible (driver of the camera)",
        }
    }
}

/// Why a camera does not deliver. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    #[error("cannot open the camera {device}: {cause}. {advice}")]
    Open {
        device: PathBuf,
        cause: io::Error,
        advice: String,
    },
    #[error("{device} is no camera to stream pictures from: {why}. {advice}")]
    NoCamera {
        device: PathBuf,
        why: String,
        advice: String,
    },
    #[error("the camera {device} is in use by another program: end it (`fuser {device}` names it)")]
    Busy { device: PathBuf },
    #[error("the camera {device} gives {given}, asked for was {asked}. {advice}")]
    Refused {
        device: PathBuf,
        asked: String,
        given: String,
        advice: String,
    },
    #[error("the camera {device}: {cause}")]
    Control { device: PathBuf, cause: ControlError },
    #[error("the camera {device} is gone: plug it in again")]
    Gone { device: PathBuf },
    #[error("the camera {device} fails to {what}: {cause}. {advice}")]
    Driver {
        device: PathBuf,
        what: &'static str,
        cause: io::Error,
        advice: &'static str,
    },
}

/// What to do about a device that cannot be opened.
pub(crate) fn advice_on_open(device: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let mut words = "Check its cable and power".to_owned();
            let stable = describe::stable_paths(Path::new("/"));
            if !stable.is_empty() {
                let listed: Vec<String> = stable
                    .iter()
                    .map(|(link, _)| link.display().to_string())
                    .collect();
                words += &format!("; these are there: {}", listed.join(", "));
            } else if !device.starts_with("/dev/v4l") {
                words += "; no camera is there at all";
            }
            words + "."
        }
        io::ErrorKind::PermissionDenied => {
            "Let the user that runs elek join the group `video` (usermod -aG video USER), or run it as a \
             service."
                .to_owned()
        }
        _ if error.raw_os_error() == Some(libc::EBUSY) => "Another program uses it; end it.".to_owned(),
        _ => "See what the kernel says about it (dmesg).".to_owned(),
    }
}
