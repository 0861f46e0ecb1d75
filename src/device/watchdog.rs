//! The board's own watchdog: resets the box when nobody feeds it.
//!
//! For boxes whose service manager does not feed it already; a device can have one owner only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// `WDIOC_SETTIMEOUT` and `WDIOC_GETTIMEOUT` of linux/watchdog.h: `_IOWR('W', 6, int)`, `_IOR('W', 7, int)`.
const SET_TIMEOUT: libc::c_ulong = 0xc004_5706;
const GET_TIMEOUT: libc::c_ulong = 0x8004_5707;

/// Resets the box this long after the last feeding. Longer than any start of models, which
/// happens beside the thread that feeds.
const TIMEOUT_S: libc::c_int = 15;

/// An armed watchdog. Dropping it without [`Watchdog::disarm`] lets it bite.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    timeout: Duration,
}

impl Watchdog {
    /// Opens and thereby arms it.
    pub fn arm(path: &Path) -> io::Result<Watchdog> {
        let device = OpenOptions::new().write(true).open(path)?;
        let mut seconds = TIMEOUT_S;
        // SAFETY: the request reads and writes one int, which outlives the call; on a file that is no
        // watchdog it fails without touching it.
        let set = unsafe { libc::ioctl(device.as_raw_fd(), SET_TIMEOUT as _, &raw mut seconds) };
        if set != 0 {
            // Some boards have a fixed time: then that one counts.
            // SAFETY: as above; the request writes one int.
            let got = unsafe { libc::ioctl(device.as_raw_fd(), GET_TIMEOUT as _, &raw mut seconds) };
            if got != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let timeout = Duration::from_secs(u64::try_from(seconds.max(1)).unwrap_or(1));
        Ok(Watchdog { device, timeout })
    }

    /// How long it waits for the next feeding, as the driver granted it.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn feed(&mut self) -> io::Result<()> {
        self.device.write_all(b"\0")
    }

    /// An orderly end: the box stays up. Drivers with "nowayout" ignore it.
    pub fn disarm(mut self) -> io::Result<()> {
        // The "magic close" of the kernel's watchdog API.
        self.device.write_all(b"V")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_watchdog_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Watchdog::arm(file.path()).is_err());
        assert_eq!(std::fs::read(file.path()).unwrap(), b"");
        assert!(Watchdog::arm(Path::new("/nowhere/watchdog")).is_err());
    }
}
