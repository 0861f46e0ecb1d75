//! One camera: opened for one format, streaming into mapped buffers.
//!
//! ```text
//! open → format → rate → controls → buffers mapped and queued → stream on
//!                     ┌────────────── next_into ──────────────┐
//!                     └→ wait → dequeue → check → copy → queue ┘
//! drop → stream off → unmapped → buffers given back → closed
//! ```
//! After an error the camera is dropped and opened anew: a driver that lost its device needs all of the
//! way again. Buffers are copied: they often lie in memory without cache, where decoding would read every
//! pixel several times, and the driver gets them back at once.

use super::controls::{self, ControlError, Step};
use super::describe;
use super::negotiate::{self, Agreed};
use super::node::{Filled, Interval, Node, Woken};
use super::stamps::{self, StampClock, Stamping};
use super::{CameraError, Capture, Damage, advice_on_open};
use crate::config::V4l2Source;
use crate::device::clock;
use crate::units::{Instant, Micros};
use crate::vision::frame::{Frame, PixelFormat};
use memmap2::MmapRaw;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use v4l::v4l_sys::V4L2_BUF_FLAG_ERROR;

/// One being filled, one filled, and two for a machine that is busy for some frames' time.
const BUFFERS: u32 = 4;
/// Fewer, and the driver stands still while we copy.
const BUFFERS_MIN: u32 = 2;

/// An open camera that streams.
#[derive(Debug)]
pub struct V4l2Camera {
    device: PathBuf,
    // Before `node`: unmapped before the device is closed.
    maps: Vec<MmapRaw>,
    node: Node,
    agreed: Agreed,
    /// Longest time that the buffers of the queue can hold pictures.
    queue: Micros,
    about: About,
}

/// What is worth knowing of an open camera.
#[derive(Clone, Debug)]
pub struct About {
    pub driver: String,
    pub card: String,
    /// `None` when the driver has no say in it.
    pub fps: Option<f64>,
    /// Of the next buffers, as far as an unused one tells; see [`V4l2Camera::stamping`].
    pub stamping: Stamping,
    /// What is not as good as it could be, in words to act on.
    pub notes: Vec<String>,
}

impl V4l2Camera {
    /// Opens without waiting, sets and reads back format, rate and controls, maps buffers, streams on.
    pub fn open(source: &V4l2Source) -> Result<V4l2Camera, CameraError> {
        let device = source.device.clone();
        let node = Node::open(&device).map_err(|error| not_open(&device, error))?;
        if !node.caps().captures() || !node.caps().streams() {
            return Err(no_camera(&device, &node));
        }
        let mut notes = Vec::new();
        if describe::is_unstable(&device) {
            notes.push(unstable_words(&device));
        }
        let (agreed, interval) = agree(&node, source, &mut notes)?;
        set_controls(&node, source, &mut notes).map_err(|failed| match failed {
            Failed::Control(cause) => CameraError::Control {
                device: device.clone(),
                cause,
            },
            Failed::Gone => CameraError::Gone {
                device: device.clone(),
            },
        })?;
        let (maps, flags) = map_buffers(&node, &device, agreed.size)?;
        let interval = interval.unwrap_or(negotiate::interval_of(source.format.fps_milli));
        let camera = V4l2Camera {
            // One more than buffers: the picture being exposed.
            queue: Micros::new(interval.micros().get().saturating_mul(maps.len() as i64 + 1)),
            about: About {
                driver: node.caps().driver.clone(),
                card: node.caps().card.clone(),
                fps: interval_fps(interval),
                stamping: Stamping::of(flags),
                notes,
            },
            device,
            maps,
            node,
            agreed,
        };
        for index in 0..camera.maps.len() as u32 {
            let queued = camera.node.queue(index);
            queued.map_err(|error| camera.failed("take back its buffers", error))?;
        }
        let on = camera.node.stream(true);
        on.map_err(|error| camera.failed("start streaming", error))?;
        Ok(camera)
    }

    pub fn about(&self) -> &About {
        &self.about
    }

    /// How the buffers seen so far were stamped.
    pub fn stamping(&self) -> Stamping {
        self.about.stamping
    }

    /// Waits at most `timeout` for a buffer and copies it into `frame`: everything but camera and id.
    /// `mid_exposure` is the driver's stamp; `stamp.offset_us` is the caller's to add.
    pub fn next_into(&mut self, timeout: Duration, frame: &mut Frame) -> Result<Capture, CameraError> {
        let Some((filled, woke)) = self.take(timeout)? else {
            return Ok(Capture::Nothing);
        };
        let capture = match self.check(&filled, woke) {
            Ok(stamp) => {
                self.copy(&filled, stamp, frame);
                Capture::Frame
            }
            Err(damage) => Capture::Damaged(damage),
        };
        self.give_back(filled.index)?;
        Ok(capture)
    }

    /// Drops the next buffer, if one comes within `timeout`: nobody has room for it.
    pub fn skip(&mut self, timeout: Duration) -> Result<(), CameraError> {
        match self.take(timeout)? {
            Some((filled, _)) => self.give_back(filled.index),
            None => Ok(()),
        }
    }

    fn take(&mut self, timeout: Duration) -> Result<Option<(Filled, Instant)>, CameraError> {
        const WHAT: &str = "deliver pictures";
        let woken = self.node.wait(timeout);
        let woken = woken.map_err(|error| self.failed(WHAT, error))?;
        if woken == Woken::Nothing {
            return Ok(None);
        }
        let woke = clock::now();
        match self.node.dequeue() {
            Ok(Some(filled)) if (filled.index as usize) < self.maps.len() => Ok(Some((filled, woke))),
            Ok(None) if woken == Woken::Ready => Ok(None),
            // Trouble that dequeue knows nothing of; waiting for it again would spin.
            Ok(_) => Err(self.failed(WHAT, io::Error::from_raw_os_error(libc::EIO))),
            Err(error) => Err(self.failed(WHAT, error)),
        }
    }

    fn give_back(&self, index: u32) -> Result<(), CameraError> {
        let queued = self.node.queue(index);
        queued.map_err(|error| self.failed("take back its buffers", error))
    }

    /// Whether the buffer holds a picture, and when that was taken.
    fn check(&mut self, filled: &Filled, woke: Instant) -> Result<Instant, Damage> {
        let stamping = Stamping::of(filled.flags);
        self.about.stamping = stamping;
        if filled.flags & V4L2_BUF_FLAG_ERROR != 0 {
            return Err(Damage::Flagged);
        }
        let Agreed {
            pixels,
            width,
            height,
            stride,
            ..
        } = self.agreed;
        let end = filled.end.min(self.maps[filled.index as usize].len());
        let bytes = end.saturating_sub(filled.start);
        // Only a decoder can tell where a JPEG should end; it looks when it gets there.
        let needed = match pixels {
            PixelFormat::Mjpg => 2,
            _ => pixels.picture_bytes(width, height, stride),
        };
        if bytes < needed {
            return Err(Damage::Short);
        }
        stamps::credible(stamping, filled.stamp, woke, self.queue).ok_or(Damage::Stamp)
    }

    fn copy(&self, filled: &Filled, stamp: Instant, frame: &mut Frame) {
        let map = &self.maps[filled.index as usize];
        let (start, end) = (filled.start, filled.end.min(map.len()));
        // SAFETY: `start..end` lies in the mapping, as `check` has found; the mapping lives as long as
        // `self`; and the driver does not write to a buffer between dequeue and queue.
        let bytes = unsafe { std::slice::from_raw_parts(map.as_ptr().add(start), end - start) };
        frame.sequence = filled.sequence;
        frame.mid_exposure = stamp;
        frame.format = self.agreed.pixels;
        frame.width = self.agreed.width;
        frame.height = self.agreed.height;
        frame.stride = self.agreed.stride;
        frame.bytes.clear();
        // JPEGs vary in length; the largest possible one is made room for at once, so that no later
        // picture allocates.
        frame.bytes.reserve(self.agreed.size.max(bytes.len()));
        frame.bytes.extend_from_slice(bytes);
    }

    fn failed(&self, what: &'static str, error: io::Error) -> CameraError {
        failed(&self.device, what, error)
    }
}

impl Drop for V4l2Camera {
    fn drop(&mut self) {
        // Of a camera that is gone all of this fails, and there is nobody left to tell.
        let _ = self.node.stream(false);
        self.maps.clear();
        let _ = self.node.request_buffers(0);
    }
}

fn interval_fps(interval: Interval) -> Option<f64> {
    (interval.numerator > 0).then(|| interval.fps())
}

fn not_open(device: &Path, error: io::Error) -> CameraError {
    match error.raw_os_error() {
        Some(libc::EBUSY) => CameraError::Busy {
            device: device.to_owned(),
        },
        Some(libc::ENODEV | libc::ENXIO) => CameraError::Gone {
            device: device.to_owned(),
        },
        Some(libc::ENOTTY | libc::EINVAL) => CameraError::NoCamera {
            device: device.to_owned(),
            why: "it does not answer as a video device".into(),
            advice: "`elek probe` lists the cameras.".into(),
        },
        _ => CameraError::Open {
            advice: advice_on_open(device, &error),
            device: device.to_owned(),
            cause: error,
        },
    }
}

fn no_camera(device: &Path, node: &Node) -> CameraError {
    let caps = node.caps();
    let why = if caps.captures() {
        "it cannot stream into buffers"
    } else {
        "this node of the device delivers no pictures (many cameras have a second one for statistics)"
    };
    CameraError::NoCamera {
        device: device.to_owned(),
        why: format!("{} ({}): {why}", caps.card, caps.driver),
        advice: "`elek probe` lists the ones that do.".into(),
    }
}

fn unstable_words(device: &Path) -> String {
    let name = device
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let links = describe::stable_paths(Path::new("/"));
    let better = match links.iter().find(|(_, target)| target == name) {
        Some((link, _)) => format!("write `device = \"{}\"`", link.display()),
        None => "name it by a path below /dev/v4l/by-path".to_owned(),
    };
    format!(
        "{} may be another camera after the next boot: {better}",
        device.display()
    )
}

/// Format and rate, set and read back.
fn agree(
    node: &Node,
    source: &V4l2Source,
    notes: &mut Vec<String>,
) -> Result<(Agreed, Option<Interval>), CameraError> {
    let device = &source.device;
    let asked = &source.format;
    let set = node.set_layout(asked.pixels.fourcc(), asked.width, asked.height);
    let refused = |given: String, advice: String| CameraError::Refused {
        device: device.clone(),
        asked: negotiate::asked_words(asked),
        given,
        advice,
    };
    let offer = || describe::offer(&describe::formats(node), asked);
    let layout = match set {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return Err(refused("nothing".into(), offer()));
        }
        set => set.map_err(|error| failed(device, "set its format", error))?,
    };
    negotiate::agree(asked, &layout).map_err(|given| refused(given, offer()))?;
    let set = node.set_interval(negotiate::interval_of(asked.fps_milli));
    let interval = set.map_err(|error| failed(device, "set its frame rate", error))?;
    match interval {
        Some(given) if !negotiate::same_rate(asked.fps_milli, given) => {
            return Err(refused(given.words(), offer()));
        }
        Some(_) => {}
        None => notes.push(format!(
            "its driver has no say in the frame rate; check that it is {} frames/s",
            f64::from(asked.fps_milli) / 1_000.0
        )),
    }
    // Some drivers change the format along with the rate; what counts is what is in force now.
    let layout = node
        .layout()
        .map_err(|error| failed(device, "tell its format", error))?;
    let agreed = negotiate::agree(asked, &layout).map_err(|given| refused(given, offer()))?;
    if layout.full_range
        && matches!(
            asked.pixels,
            PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Nv12
        )
    {
        notes.push(
            "its colours use the full range, elek reads them as limited: pictures have more contrast than the \
             part; train with pictures of this camera"
                .into(),
        );
    }
    Ok((agreed, interval))
}

enum Failed {
    Control(ControlError),
    Gone,
}

impl From<ControlError> for Failed {
    fn from(error: ControlError) -> Failed {
        Failed::Control(error)
    }
}

/// Sets what the plan says and reads all of it back at the end: a later control may move an earlier one.
fn set_controls(node: &Node, source: &V4l2Source, notes: &mut Vec<String>) -> Result<(), Failed> {
    let plan = controls::plan(source, &node.controls())?;
    notes.extend(plan.notes);
    let gone = |error: &io::Error| error.raw_os_error() == Some(libc::ENODEV);
    for step in &plan.steps {
        match node.set_control(step.id, step.value) {
            Ok(()) => {}
            Err(error) if gone(&error) => return Err(Failed::Gone),
            Err(error) => return Err(refused_control(step, &error).into()),
        }
    }
    for step in plan.steps.iter().filter(|step| step.keeps) {
        let got = match node.control(step.id) {
            Ok(got) => got,
            Err(error) if gone(&error) => return Err(Failed::Gone),
            Err(error) => return Err(refused_control(step, &error).into()),
        };
        if got != step.value {
            return Err(Failed::Control(ControlError::NotKept {
                name: step.name.clone(),
                wanted: step.value,
                got,
            }));
        }
    }
    let after = node.controls();
    for step in plan.steps.iter().filter(|step| step.must_act) {
        if after
            .iter()
            .any(|control| control.id == step.id && control.inactive())
        {
            return Err(Failed::Control(ControlError::Overridden {
                name: step.name.clone(),
                switches: controls::switches_on(&after),
            }));
        }
    }
    Ok(())
}

fn refused_control(step: &Step, error: &io::Error) -> ControlError {
    let advice = match error.raw_os_error() {
        Some(libc::EBUSY) => "Another program streams from the camera; end it",
        Some(libc::EACCES | libc::EPERM) => {
            "The driver does not let it be changed; delete it from the configuration"
        }
        Some(libc::EIO | libc::ETIMEDOUT | libc::EPROTO | libc::EPIPE) => {
            "Check cable and power of the camera"
        }
        _ => "See what the kernel says about it (dmesg)",
    };
    ControlError::Failed {
        name: step.name.clone(),
        value: step.value,
        error: error.to_string(),
        advice,
    }
}

/// Maps the driver's buffers; also returns the flags of the first.
fn map_buffers(node: &Node, device: &Path, size: usize) -> Result<(Vec<MmapRaw>, u32), CameraError> {
    const WHAT: &str = "give buffers";
    let count = node
        .request_buffers(BUFFERS)
        .map_err(|error| failed(device, WHAT, error))?;
    if count < BUFFERS_MIN {
        return Err(failed(device, WHAT, io::Error::from_raw_os_error(libc::ENOMEM)));
    }
    let mut maps = Vec::with_capacity(count as usize);
    let mut first = 0;
    for index in 0..count {
        let (map, flags) = node.map(index).map_err(|error| failed(device, WHAT, error))?;
        if map.len() < size {
            return Err(failed(device, WHAT, io::Error::from_raw_os_error(libc::ENOMEM)));
        }
        maps.push(map);
        first = if index == 0 { flags } else { first };
    }
    Ok((maps, first))
}

fn failed(device: &Path, what: &'static str, error: io::Error) -> CameraError {
    let device = device.to_owned();
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => CameraError::Gone { device },
        Some(libc::EBUSY) => CameraError::Busy { device },
        code => CameraError::Driver {
            advice: match code {
                Some(libc::ENOMEM) => {
                    "Give the kernel more memory for it (cma=… on its command line), or take a smaller picture."
                }
                Some(libc::ENOSPC) => {
                    "Its bus has no bandwidth left: use another USB port, a smaller picture or fewer frames/s."
                }
                _ => "Check its cable and power; if it comes again, see what the kernel says (dmesg).",
            },
            device,
            what,
            cause: error,
        },
    }
}

impl About {
    /// For the log: who it is and how it stamps.
    pub fn words(&self) -> String {
        let rate = self.fps.map_or(String::new(), |fps| {
            format!(", {} frames/s", (fps * 100.0).round() / 100.0)
        });
        format!(
            "{} ({}){rate}, stamps {}",
            self.card,
            self.driver,
            self.stamping.words()
        )
    }

    /// What to say of `stamp.offset_us`: that it is missing, or that there is no clock.
    pub fn stamp_note(&self, offset: Micros, exposure: Micros, readout: Option<Micros>) -> Option<String> {
        if self.stamping.clock == StampClock::Unknown {
            return Some(
                "its driver does not stamp pictures with the monotonic clock; the time of waking up stands in, \
                 which jitters by milliseconds: state it in `stamp.jitter_us`, or use another camera"
                    .into(),
            );
        }
        let usual = self.stamping.usual_offset(exposure, readout);
        (offset == Micros::ZERO && usual.get().abs() >= OFFSET_MATTERS_US).then(|| {
            format!(
                "`stamp.offset_us` is not set, but it stamps {}: measure it, or begin with `stamp = {{ \
                 offset_us = {} }}`{}",
                self.stamping.words(),
                usual.get(),
                if readout.is_none() {
                    " minus the time it takes to read the picture out"
                } else {
                    ""
                },
            )
        })
    }
}

/// At a metre per second this is a twentieth of a millimetre, below what any station resolves.
const OFFSET_MATTERS_US: i64 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use v4l::v4l_sys as sys;

    fn about(flags: u32) -> About {
        About {
            driver: "uvcvideo".into(),
            card: "Cam".into(),
            fps: Some(29.97),
            stamping: Stamping::of(flags),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_missing_offset_is_said_with_a_number_to_begin_with() {
        let monotonic = sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        let end = about(monotonic);
        let note = |offset| end.stamp_note(Micros::new(offset), Micros::new(400), Some(Micros::new(9_000)));
        assert!(note(0).unwrap().contains("offset_us = -9200"));
        assert_eq!(note(-9_000), None);
        let start = about(monotonic | sys::V4L2_BUF_FLAG_TSTAMP_SRC_SOE);
        assert_eq!(start.stamp_note(Micros::ZERO, Micros::new(90), None), None);
        assert!(
            about(0)
                .stamp_note(Micros::new(-200), Micros::ZERO, None)
                .unwrap()
                .contains("jitter_us")
        );
        assert_eq!(
            end.words(),
            "Cam (uvcvideo), 29.97 frames/s, stamps at the end of the frame"
        );
    }

    #[test]
    fn errors_say_what_to_do() {
        let device = Path::new("/dev/v4l/by-path/top");
        let said = |code| failed(device, "start streaming", io::Error::from_raw_os_error(code)).to_string();
        assert!(said(libc::ENODEV).contains("plug it in"));
        assert!(said(libc::EBUSY).contains("end it"));
        assert!(said(libc::ENOSPC).contains("bandwidth"));
        assert!(said(libc::EIO).contains("cable"));
        let opened = |code| not_open(device, io::Error::from_raw_os_error(code)).to_string();
        assert!(opened(libc::EACCES).contains("group `video`"));
        assert!(opened(libc::ENOENT).contains("cable"));
        assert!(opened(libc::ENOTTY).contains("elek probe"));
    }

    #[test]
    fn what_is_no_camera_is_refused() {
        let source = V4l2Source {
            device: "/dev/null".into(),
            format: crate::config::PictureFormat {
                pixels: PixelFormat::Grey,
                width: 640,
                height: 480,
                fps_milli: 30_000,
            },
            exposure_us: 100,
            set_exposure: true,
            gain: None,
            power_line: None,
            controls: Vec::new(),
        };
        let error = V4l2Camera::open(&source).unwrap_err();
        assert!(matches!(error, CameraError::NoCamera { .. }), "{error}");
    }
}
