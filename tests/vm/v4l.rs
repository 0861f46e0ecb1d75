//! What both simulated cameras need: finding video devices, and the kernel's requests to them.

use super::read;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The first video device that is so; `is` is given its folder in sysfs.
pub fn node(is: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let entries = std::fs::read_dir("/sys/class/video4linux").ok()?;
    let found = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| is(path))?;
    let device = Path::new("/dev").join(found.file_name()?);
    device.exists().then_some(device)
}

/// The first video device of this name.
pub fn named(name: &str) -> Option<PathBuf> {
    node(|path| path.join("name").exists() && read(&path.join("name")) == name)
}

pub const WRITES: u32 = 1;
pub const READS: u32 = 2;

/// The number of a request of the kernel (`_IOC`).
pub const fn request(direction: u32, kind: u8, number: u32, bytes: u32) -> u64 {
    (direction << 30 | bytes << 16 | (kind as u32) << 8 | number) as u64
}

pub fn ioctl(file: &File, request: u64, words: &mut [u32]) -> io::Result<()> {
    // SAFETY: `words` is as long as the number of the request says, and outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, words.as_mut_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
