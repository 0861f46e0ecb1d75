//! The system calls of a V4L2 device, with the kernel's structures turned into values.
//!
//! Both buffer interfaces are spoken: the plain one, and the one for several memory planes, as far as a
//! picture lies in one of them (which is all that the formats of elek need).

use super::controls::{ControlInfo, Kind};
use crate::units::Instant;
use memmap2::{MmapOptions, MmapRaw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use v4l::v4l_sys as sys;
use v4l::v4l2::vidioc;

/// No driver lists more of anything; one that does is broken and would keep us for ever.
const LIST_MAX: u32 = 512;

/// An open device.
#[derive(Debug)]
pub struct Node {
    fd: OwnedFd,
    caps: Caps,
}

/// Who the device says it is.
#[derive(Clone, Debug)]
pub struct Caps {
    pub driver: String,
    pub card: String,
    pub bus: String,
    pub flags: u32,
}

impl Caps {
    /// Delivers pictures (and not only statistics, sound or radio).
    pub fn captures(&self) -> bool {
        self.flags & (sys::V4L2_CAP_VIDEO_CAPTURE | sys::V4L2_CAP_VIDEO_CAPTURE_MPLANE) != 0
    }

    pub fn streams(&self) -> bool {
        self.flags & sys::V4L2_CAP_STREAMING != 0
    }

    fn multi(&self) -> bool {
        self.flags & sys::V4L2_CAP_VIDEO_CAPTURE == 0 && self.flags & sys::V4L2_CAP_VIDEO_CAPTURE_MPLANE != 0
    }
}

/// A picture format as the driver tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub fourcc: [u8; 4],
    pub width: u32,
    pub height: u32,
    pub stride: u32,
    /// Bytes of a buffer.
    pub size: u32,
    pub interlaced: bool,
    pub full_range: bool,
    /// Memory planes; 1 in the plain interface.
    pub planes: u8,
}

/// Seconds per frame as the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub numerator: u32,
    pub denominator: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    One(u32, u32),
    /// Smallest, largest, step.
    Range([u32; 2], [u32; 2], [u32; 2]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intervals {
    One(Interval),
    /// Shortest and longest.
    Range(Interval, Interval),
}

/// A buffer taken from the driver.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    pub index: u32,
    /// Where the picture begins in the buffer, and where it ends.
    pub start: usize,
    pub end: usize,
    pub flags: u32,
    pub sequence: u32,
    pub stamp: Instant,
}

/// What ended a [`Node::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The time-out, or a signal.
    Nothing,
    Ready,
    /// Something is wrong; the next dequeue tells what.
    Trouble,
}

/// Structures of the kernel that are all numbers.
///
/// # Safety
/// Every bit pattern, all zeros included, must be a valid value.
unsafe trait Plain {}

macro_rules! plain {
    ($($name:ident)*) => {
        // SAFETY: C structures of integers, and unions and pointers that may be zero, made by bindgen
        // from the kernel's header.
        $(unsafe impl Plain for sys::$name {})*
    };
}

plain! {
    v4l2_capability v4l2_fmtdesc v4l2_frmsizeenum v4l2_frmivalenum v4l2_format v4l2_streamparm
    v4l2_queryctrl v4l2_querymenu v4l2_control v4l2_requestbuffers v4l2_buffer v4l2_plane
}

fn zeroed<T: Plain>() -> T {
    // SAFETY: all zeros is a valid value of a `Plain`.
    unsafe { std::mem::zeroed() }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

impl Node {
    /// Opens without waiting, and so that child processes do not inherit it.
    pub fn open(path: &Path) -> io::Result<Node> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let mut caps: sys::v4l2_capability = zeroed();
        call(&fd, vidioc::VIDIOC_QUERYCAP, &mut caps)?;
        // A device of several nodes tells in `device_caps` what this one can do.
        let own = caps.capabilities & sys::V4L2_CAP_DEVICE_CAPS != 0;
        let caps = Caps {
            driver: text(&caps.driver),
            card: text(&caps.card),
            bus: text(&caps.bus_info),
            flags: if own { caps.device_caps } else { caps.capabilities },
        };
        Ok(Node { fd, caps })
    }

    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    fn kind(&self) -> u32 {
        if self.caps.multi() {
            sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE
        } else {
            sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE
        }
    }

    fn call<T: Plain>(&self, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
        call(&self.fd, request, argument)
    }

    /// Asks with index 0, 1, … until the driver says that there is no more.
    fn list<T: Plain>(&self, request: vidioc::_IOC_TYPE, of: impl Fn(u32) -> T) -> Vec<T> {
        (0..LIST_MAX)
            .map_while(|index| {
                let mut item = of(index);
                self.call(request, &mut item).is_ok().then_some(item)
            })
            .collect()
    }

    /// Four characters and description of every picture format.
    pub fn formats(&self) -> Vec<([u8; 4], String)> {
        let of = |index| sys::v4l2_fmtdesc {
            index,
            type_: self.kind(),
            ..zeroed()
        };
        let found = self.list(vidioc::VIDIOC_ENUM_FMT, of);
        let known = |f: &sys::v4l2_fmtdesc| (f.pixelformat.to_le_bytes(), text(&f.description));
        found.iter().map(known).collect()
    }

    pub fn sizes(&self, fourcc: [u8; 4]) -> Vec<Sizes> {
        let of = |index| sys::v4l2_frmsizeenum {
            index,
            pixel_format: u32::from_le_bytes(fourcc),
            ..zeroed()
        };
        let found = self.list(vidioc::VIDIOC_ENUM_FRAMESIZES, of);
        let size = |s: &sys::v4l2_frmsizeenum| {
            if s.type_ == sys::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE {
                // SAFETY: the driver says that it filled in this member; both are integers anyway.
                let one = unsafe { s.__bindgen_anon_1.discrete };
                return Sizes::One(one.width, one.height);
            }
            // SAFETY: as above.
            let range = unsafe { s.__bindgen_anon_1.stepwise };
            Sizes::Range(
                [range.min_width, range.min_height],
                [range.max_width, range.max_height],
                [range.step_width, range.step_height],
            )
        };
        found.iter().map(size).collect()
    }

    pub fn intervals(&self, fourcc: [u8; 4], width: u32, height: u32) -> Vec<Intervals> {
        let of = |index| sys::v4l2_frmivalenum {
            index,
            pixel_format: u32::from_le_bytes(fourcc),
            width,
            height,
            ..zeroed()
        };
        let found = self.list(vidioc::VIDIOC_ENUM_FRAMEINTERVALS, of);
        let interval = |i: &sys::v4l2_frmivalenum| {
            if i.type_ == sys::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE {
                // SAFETY: the driver says that it filled in this member; both are integers anyway.
                return Intervals::One(unsafe { i.__bindgen_anon_1.discrete }.into());
            }
            // SAFETY: as above.
            let range = unsafe { i.__bindgen_anon_1.stepwise };
            Intervals::Range(range.min.into(), range.max.into())
        };
        found.iter().map(interval).collect()
    }

    /// Asks for a format and returns what the driver makes of it.
    pub fn set_layout(&self, fourcc: [u8; 4], width: u32, height: u32) -> io::Result<Layout> {
        let mut format: sys::v4l2_format = zeroed();
        format.type_ = self.kind();
        let pixelformat = u32::from_le_bytes(fourcc);
        // Stride and size stay 0: a value left over from another format would be kept by some drivers.
        if self.caps.multi() {
            format.fmt.pix_mp = sys::v4l2_pix_format_mplane {
                width,
                height,
                pixelformat,
                field: sys::v4l2_field_V4L2_FIELD_NONE,
                num_planes: 1,
                // SAFETY: all zeros is valid for this structure of integers.
                ..unsafe { std::mem::zeroed() }
            };
        } else {
            format.fmt.pix = sys::v4l2_pix_format {
                width,
                height,
                pixelformat,
                field: sys::v4l2_field_V4L2_FIELD_NONE,
                // SAFETY: all zeros is valid for this structure of integers.
                ..unsafe { std::mem::zeroed() }
            };
        }
        self.call(vidioc::VIDIOC_S_FMT, &mut format)?;
        Ok(self.layout_of(&format))
    }

    /// The format in force.
    pub fn layout(&self) -> io::Result<Layout> {
        let mut format: sys::v4l2_format = zeroed();
        format.type_ = self.kind();
        self.call(vidioc::VIDIOC_G_FMT, &mut format)?;
        Ok(self.layout_of(&format))
    }

    fn layout_of(&self, format: &sys::v4l2_format) -> Layout {
        let progressive = [sys::v4l2_field_V4L2_FIELD_NONE, sys::v4l2_field_V4L2_FIELD_ANY];
        let full = sys::v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE;
        if self.caps.multi() {
            // SAFETY: the member that belongs to the buffer type asked for; integers.
            let pix = unsafe { format.fmt.pix_mp };
            let plane = { pix.plane_fmt }[0];
            return Layout {
                fourcc: { pix.pixelformat }.to_le_bytes(),
                width: pix.width,
                height: pix.height,
                stride: { plane.bytesperline },
                size: { plane.sizeimage },
                interlaced: !progressive.contains(&{ pix.field }),
                full_range: u32::from(pix.quantization) == full,
                planes: pix.num_planes,
            };
        }
        // SAFETY: the member that belongs to the buffer type asked for; integers.
        let pix = unsafe { format.fmt.pix };
        Layout {
            fourcc: pix.pixelformat.to_le_bytes(),
            width: pix.width,
            height: pix.height,
            stride: pix.bytesperline,
            size: pix.sizeimage,
            interlaced: !progressive.contains(&pix.field),
            full_range: pix.quantization == full,
            planes: 1,
        }
    }

    /// Asks for a time per frame and returns what the driver makes of it; `None` when it has no say.
    pub fn set_interval(&self, interval: Interval) -> io::Result<Option<Interval>> {
        let mut parameters: sys::v4l2_streamparm = zeroed();
        parameters.type_ = self.kind();
        parameters.parm.capture = sys::v4l2_captureparm {
            timeperframe: sys::v4l2_fract {
                numerator: interval.numerator,
                denominator: interval.denominator,
            },
            // SAFETY: all zeros is valid for this structure of integers.
            ..unsafe { std::mem::zeroed() }
        };
        match self.call(vidioc::VIDIOC_S_PARM, &mut parameters) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        // SAFETY: the member for capturing, which was asked about; integers.
        let capture = unsafe { parameters.parm.capture };
        let told = capture.capability & sys::V4L2_CAP_TIMEPERFRAME != 0;
        let given = Interval::from(capture.timeperframe);
        Ok((told && given.numerator > 0 && given.denominator > 0).then_some(given))
    }

    /// All controls with a single value. `value` is what the device says at this moment.
    pub fn controls(&self) -> Vec<ControlInfo> {
        let mut found = Vec::new();
        let mut id = 0;
        for _ in 0..LIST_MAX {
            let mut query = sys::v4l2_queryctrl {
                id: id | sys::V4L2_CTRL_FLAG_NEXT_CTRL,
                ..zeroed()
            };
            if self.call(vidioc::VIDIOC_QUERYCTRL, &mut query).is_err() || query.id <= id {
                break;
            }
            id = query.id;
            let kind = Kind::from_number(query.type_);
            if kind == Kind::Heading || query.flags & sys::V4L2_CTRL_FLAG_DISABLED != 0 {
                continue;
            }
            let value = kind.has_value().then(|| self.control(id).ok()).flatten();
            found.push(ControlInfo {
                id,
                name: text(&query.name),
                kind,
                min: query.minimum,
                max: query.maximum,
                step: query.step.max(1),
                default: query.default_value,
                flags: query.flags,
                items: self.menu(&query, kind),
                value,
            });
        }
        found
    }

    /// The items of a menu; drivers leave some out.
    fn menu(&self, query: &sys::v4l2_queryctrl, kind: Kind) -> Vec<(i32, String)> {
        if !matches!(kind, Kind::Menu | Kind::NumberMenu) {
            return Vec::new();
        }
        let last = query.maximum.min(query.minimum.saturating_add(LIST_MAX as i32));
        let item = |index: i32| {
            let mut item = sys::v4l2_querymenu {
                id: query.id,
                index: u32::try_from(index).ok()?,
                ..zeroed()
            };
            self.call(vidioc::VIDIOC_QUERYMENU, &mut item).ok()?;
            let name = if kind == Kind::Menu {
                let entry = item.__bindgen_anon_1;
                // SAFETY: the member that menus of names fill in; bytes.
                text(&unsafe { entry.name })
            } else {
                let entry = item.__bindgen_anon_1;
                // SAFETY: the member that menus of numbers fill in; an integer.
                unsafe { entry.value }.to_string()
            };
            Some((index, name))
        };
        (query.minimum..=last).filter_map(item).collect()
    }

    pub fn control(&self, id: u32) -> io::Result<i32> {
        let mut control = sys::v4l2_control { id, value: 0 };
        self.call(vidioc::VIDIOC_G_CTRL, &mut control)?;
        Ok(control.value)
    }

    pub fn set_control(&self, id: u32, value: i32) -> io::Result<()> {
        self.call(vidioc::VIDIOC_S_CTRL, &mut sys::v4l2_control { id, value })
    }

    /// Asks for buffers to map; 0 gives all back. Returns how many there are.
    pub fn request_buffers(&self, count: u32) -> io::Result<u32> {
        let mut request = sys::v4l2_requestbuffers {
            count,
            type_: self.kind(),
            memory: sys::v4l2_memory_V4L2_MEMORY_MMAP,
            ..zeroed()
        };
        self.call(vidioc::VIDIOC_REQBUFS, &mut request)?;
        Ok(request.count)
    }

    /// A call about one buffer, in either interface. Returns the buffer and its (first) plane.
    fn buffer_call(
        &self,
        request: vidioc::_IOC_TYPE,
        index: u32,
    ) -> io::Result<(sys::v4l2_buffer, sys::v4l2_plane)> {
        let mut planes: [sys::v4l2_plane; sys::VIDEO_MAX_PLANES as usize] = [zeroed(); _];
        let mut buffer = sys::v4l2_buffer {
            index,
            type_: self.kind(),
            memory: sys::v4l2_memory_V4L2_MEMORY_MMAP,
            ..zeroed()
        };
        if self.caps.multi() {
            // The kernel writes at most `length` planes through this pointer, during the call only.
            buffer.m.planes = planes.as_mut_ptr();
            buffer.length = planes.len() as u32;
        }
        self.call(request, &mut buffer)?;
        Ok((buffer, planes[0]))
    }

    /// Maps a buffer for reading; also returns its flags, which tell how the driver takes its stamps.
    pub fn map(&self, index: u32) -> io::Result<(MmapRaw, u32)> {
        let (buffer, plane) = self.buffer_call(vidioc::VIDIOC_QUERYBUF, index)?;
        // SAFETY: offsets are what the kernel fills in for buffers to map; integers.
        let (offset, length) = unsafe {
            if self.caps.multi() {
                (plane.m.mem_offset, plane.length)
            } else {
                (buffer.m.offset, buffer.length)
            }
        };
        let map = MmapOptions::new()
            .offset(u64::from(offset))
            .len(length as usize)
            .map_raw_read_only(self.fd.as_raw_fd())?;
        Ok((map, buffer.flags))
    }

    /// The flags of a buffer that is not in use.
    pub fn buffer_flags(&self, index: u32) -> io::Result<u32> {
        Ok(self.buffer_call(vidioc::VIDIOC_QUERYBUF, index)?.0.flags)
    }

    /// Hands a buffer to the driver.
    pub fn queue(&self, index: u32) -> io::Result<()> {
        self.buffer_call(vidioc::VIDIOC_QBUF, index).map(drop)
    }

    /// Takes a filled buffer; `None` when there is none at this moment.
    pub fn dequeue(&self) -> io::Result<Option<Filled>> {
        let (buffer, plane) = match self.buffer_call(vidioc::VIDIOC_DQBUF, 0) {
            Ok(both) => both,
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (start, end) = if self.caps.multi() {
            (plane.data_offset, plane.bytesused)
        } else {
            (0, buffer.bytesused)
        };
        Ok(Some(Filled {
            index: buffer.index,
            start: start as usize,
            end: end as usize,
            flags: buffer.flags,
            sequence: buffer.sequence,
            stamp: stamp(&buffer),
        }))
    }

    pub fn stream(&self, on: bool) -> io::Result<()> {
        // The kernel takes the buffer type through a pointer to an int.
        let mut kind = self.kind() as libc::c_int;
        let request = if on {
            vidioc::VIDIOC_STREAMON
        } else {
            vidioc::VIDIOC_STREAMOFF
        };
        // SAFETY: the request reads one int, which lives until the call returns.
        unsafe { v4l::v4l2::ioctl(self.fd.as_raw_fd(), request, (&raw mut kind).cast()) }
    }

    /// Waits until a buffer may be taken, or something is wrong.
    pub fn wait(&self, timeout: Duration) -> io::Result<Woken> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // Errors are reported by poll unasked; which one, the next dequeue tells.
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(Woken::Nothing),
            Ok(_)
                if fds[0]
                    .revents()
                    .intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) =>
            {
                Ok(Woken::Trouble)
            }
            Ok(_) => Ok(Woken::Ready),
            Err(error) => Err(error.into()),
        }
    }
}

/// When the buffer was filled. Seconds and microseconds are of 32 bits each on a 32-bit box.
#[allow(clippy::useless_conversion, reason = "on 64 bits they are an i64 already")]
fn stamp(buffer: &sys::v4l2_buffer) -> Instant {
    let (seconds, us) = (
        i64::from(buffer.timestamp.tv_sec),
        i64::from(buffer.timestamp.tv_usec),
    );
    Instant::from_micros(seconds.saturating_mul(1_000_000).saturating_add(us))
}

/// One request, again when a signal interrupted it.
fn call<T: Plain>(fd: &OwnedFd, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
    // The request carries the size of its structure in bits 16 to 29.
    assert_eq!(
        (request >> 16) as usize & 0x3fff,
        size_of::<T>(),
        "the request fits the structure"
    );
    loop {
        // SAFETY: the kernel reads and writes exactly the structure that the request names, whose size was
        // just compared; it lives and is not aliased until the call returns.
        let done = unsafe { v4l::v4l2::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument).cast()) };
        match done {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl From<sys::v4l2_fract> for Interval {
    fn from(fraction: sys::v4l2_fract) -> Interval {
        Interval {
            numerator: fraction.numerator,
            denominator: fraction.denominator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_camera_is_an_error_and_not_a_panic() {
        let error = Node::open(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert!(Node::open(Path::new("/dev/no-such-camera")).is_err());
        let nul = Path::new("/dev/vi\0deo");
        assert!(Node::open(nul).is_err());
    }

    #[test]
    fn a_box_that_has_run_for_years_still_tells_the_time() {
        let mut buffer: sys::v4l2_buffer = zeroed();
        buffer.timestamp.tv_sec = 100_000_000;
        buffer.timestamp.tv_usec = 999_999;
        assert_eq!(stamp(&buffer), Instant::from_micros(100_000_000_999_999));
    }

    #[test]
    fn text_of_the_kernel_ends_at_its_zero() {
        assert_eq!(text(b"vivid\0\0x"), "vivid");
        assert_eq!(text(b" full\xff"), "full\u{fffd}");
    }
}
