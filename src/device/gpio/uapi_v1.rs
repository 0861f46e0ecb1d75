//! The kernel's first GPIO interface, by the crate `gpio-cdev`.

use super::{CONSUMER, LineInfo, RawEdge};
use crate::config::Bias;
use crate::device::clock;
use arrayvec::ArrayVec;
use gpio_cdev::{Chip, EventRequestFlags, LineDirection, LineEventHandle, LineRequestFlags, MultiLineHandle};
use rustix::fd::{AsFd, BorrowedFd};
use std::io;
use std::path::Path;

/// Events the kernel keeps for a line; it allows no other number.
const QUEUE: usize = 16;

/// Bytes of an event: `struct gpioevent_data` of linux/gpio.h, padded to 8-byte words.
const EVENT_BYTES: usize = 16;

/// `id` of an event to high.
const RISING: u32 = 1;

/// A stamp so far ahead of the monotonic clock is of another clock.
const AHEAD_MAX_NS: u64 = 1_000_000_000;

/// Flags of linux/gpio.h that the crate does not name.
const BIAS_PULL_UP: u32 = 1 << 5;
const BIAS_PULL_DOWN: u32 = 1 << 6;
const BIAS_DISABLE: u32 = 1 << 7;

/// `None` where the kernel does not speak this version.
pub fn open(path: &Path) -> Option<Chip> {
    let mut chip = Chip::new(path).ok()?;
    chip.get_line(0).ok()?.info().ok()?;
    Some(chip)
}

pub fn line_info(chip: &Chip, offset: u32) -> Result<LineInfo, String> {
    let line = chip.lines().nth(offset as usize).ok_or("no such line")?;
    let info = line.info().map_err(|error| error.to_string())?;
    Ok(LineInfo {
        offset,
        name: info.name().map(Into::into),
        // The flag is called KERNEL, but is set for programs, too.
        used_by: info
            .is_kernel()
            .then(|| info.consumer().unwrap_or("the kernel").into()),
        output: info.direction() == LineDirection::Out,
        active_low: info.is_active_low(),
    })
}

/// An input line with its events.
#[derive(Debug)]
pub struct Watch {
    handle: LineEventHandle,
    /// The queue was full when it was read last: what the kernel has dropped nobody can know.
    was_full: bool,
    monotonic: bool,
}

impl Watch {
    pub fn request(chip: &Chip, offset: u32, bias: Bias, monotonic: bool) -> Result<Watch, String> {
        let bias = match bias {
            Bias::Kept => 0,
            Bias::PullUp => BIAS_PULL_UP,
            Bias::PullDown => BIAS_PULL_DOWN,
            Bias::Disabled => BIAS_DISABLE,
        };
        let flags = LineRequestFlags::INPUT | LineRequestFlags::from_bits_retain(bias);
        let line = chip.lines().nth(offset as usize).ok_or("no such line")?;
        let handle = line
            .events(flags, EventRequestFlags::BOTH_EDGES, CONSUMER)
            .map_err(|error| error.to_string())?;
        Ok(Watch {
            handle,
            was_full: false,
            monotonic,
        })
    }

    pub fn is_high(&self) -> io::Result<bool> {
        Ok(self.handle.get_value().map_err(io::Error::other)? != 0)
    }

    /// Whether stamps are of the monotonic clock.
    pub fn is_monotonic(&self) -> bool {
        self.monotonic
    }

    /// Takes what the kernel has, at most its whole queue; waits if it has nothing.
    pub fn read<const MAX: usize>(&mut self, edges: &mut ArrayVec<RawEdge, MAX>) -> io::Result<()> {
        const { assert!(MAX >= QUEUE) };
        let mut buffer = [0; QUEUE * EVENT_BYTES];
        let bytes = rustix::io::read(&self.handle, &mut buffer)?;
        let (events, _) = buffer[..bytes].as_chunks::<EVENT_BYTES>();
        let ahead = clock::now().as_micros() as u64 * 1_000 + AHEAD_MAX_NS;
        for event in events {
            let [s0, s1, s2, s3, s4, s5, s6, s7, i0, i1, i2, i3, ..] = *event;
            let stamp = u64::from_ne_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
            let high = u32::from_ne_bytes([i0, i1, i2, i3]) == RISING;
            self.monotonic &= stamp < ahead;
            edges.push(RawEdge {
                high,
                stamp,
                gap: std::mem::take(&mut self.was_full),
            });
        }
        // This version drops the newest, so the gap is before the first edge to come.
        self.was_full = events.len() == QUEUE;
        Ok(())
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Output lines of one chip.
#[derive(Debug)]
pub struct Drive {
    handle: MultiLineHandle,
    /// This version sets all lines of a request at once.
    levels: Vec<u8>,
}

impl Drive {
    pub fn request(chip: &Chip, lines: &[(u32, bool)]) -> Result<Drive, String> {
        let offsets: Vec<u32> = lines.iter().map(|(offset, _)| *offset).collect();
        let levels: Vec<u8> = lines.iter().map(|(_, high)| u8::from(*high)).collect();
        // Opened anew because the crate asks for an exclusive chip here.
        let mut chip = Chip::new(chip.path()).map_err(|error| error.to_string())?;
        let handle = chip
            .get_lines(&offsets)
            .and_then(|lines| lines.request(LineRequestFlags::OUTPUT, &levels, CONSUMER))
            .map_err(|error| error.to_string())?;
        Ok(Drive { handle, levels })
    }

    pub fn set(&mut self, place: usize, high: bool) -> io::Result<()> {
        self.levels[place] = u8::from(high);
        self.handle.set_values(&self.levels).map_err(io::Error::other)
    }
}
