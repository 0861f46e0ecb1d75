//! What a video device offers: for error messages, and for `elek probe`.

use super::negotiate::fourcc_words;
use super::node::{Intervals, Node, Sizes};
use super::stamps::Stamping;
use crate::config::PictureFormat;
use crate::device::words;
use crate::vision::frame::PixelFormat;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// More sizes than this in one message help nobody.
const LISTED_MAX: usize = 16;

/// A device as a technician wants to know it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    pub driver: String,
    pub card: String,
    pub bus: String,
    /// Delivers pictures; other nodes of a camera deliver statistics.
    pub captures: bool,
    pub streams: bool,
    pub formats: Vec<Format>,
    pub controls: Vec<Control>,
    /// `None` when it could not be asked, because another program uses the camera.
    pub stamps: Option<Stamping>,
    pub busy: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Format {
    pub fourcc: String,
    pub description: String,
    /// elek reads this format.
    pub readable: bool,
    pub sizes: Vec<Size>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Size {
    /// `640 × 480`, or a range.
    pub words: String,
    /// The largest of the range.
    pub width: u32,
    pub height: u32,
    /// Frames per second, highest first.
    pub rates: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Control {
    pub name: String,
    pub id: u32,
    pub range: String,
    pub value: Option<i32>,
    pub inactive: bool,
}

/// Opens the device and asks it everything. Does not disturb a program that streams from it.
pub fn describe(device: &Path) -> io::Result<Description> {
    let node = Node::open(device)?;
    let caps = node.caps().clone();
    let (captures, streams) = (caps.captures(), caps.streams());
    let mut description = Description {
        driver: caps.driver,
        card: caps.card,
        bus: caps.bus,
        captures,
        streams,
        formats: Vec::new(),
        controls: Vec::new(),
        stamps: None,
        busy: false,
    };
    if !captures {
        return Ok(description);
    }
    description.formats = formats(&node);
    let control = |control: super::controls::ControlInfo| Control {
        range: control.range(),
        inactive: control.inactive(),
        name: control.name,
        id: control.id,
        value: control.value,
    };
    description.controls = node.controls().into_iter().map(control).collect();
    if streams {
        // A buffer that was never used already carries the flags of its stamps.
        match node.request_buffers(1) {
            Ok(_) => {
                description.stamps = node.buffer_flags(0).ok().map(Stamping::of);
                let _ = node.request_buffers(0);
            }
            Err(error) => description.busy = error.raw_os_error() == Some(libc::EBUSY),
        }
    }
    Ok(description)
}

pub(super) fn formats(node: &Node) -> Vec<Format> {
    let format = |(fourcc, description): ([u8; 4], String)| Format {
        fourcc: fourcc_words(fourcc),
        description,
        readable: PixelFormat::ALL.iter().any(|known| known.fourcc() == fourcc),
        sizes: sizes(node, fourcc),
    };
    node.formats().into_iter().map(format).collect()
}

pub(super) fn sizes(node: &Node, fourcc: [u8; 4]) -> Vec<Size> {
    let size = |size: Sizes| {
        let (words, width, height) = match size {
            Sizes::One(width, height) => (format!("{width} × {height}"), width, height),
            Sizes::Range([w0, h0], [w1, h1], [dw, dh]) => {
                let steps = if (dw, dh) > (1, 1) {
                    format!(" in steps of {dw} × {dh}")
                } else {
                    String::new()
                };
                (format!("{w0} × {h0} to {w1} × {h1}{steps}"), w1, h1)
            }
        };
        let rates = rates(&node.intervals(fourcc, width, height));
        Size {
            words,
            width,
            height,
            rates,
        }
    };
    node.sizes(fourcc).into_iter().map(size).collect()
}

fn rates(intervals: &[Intervals]) -> Vec<f64> {
    let mut rates: Vec<f64> = Vec::new();
    for interval in intervals {
        match interval {
            Intervals::One(one) => rates.push(one.fps()),
            Intervals::Range(shortest, longest) => rates.extend([shortest.fps(), longest.fps()]),
        }
    }
    for rate in &mut rates {
        *rate = (*rate * 100.0).round() / 100.0;
    }
    rates.sort_by(|a, b| b.total_cmp(a));
    rates.dedup();
    rates
}

impl Size {
    /// `640 × 480 at 30, 15 frames/s`
    pub fn full_words(&self) -> String {
        match self.rates.as_slice() {
            [] => self.words.clone(),
            rates => format!(
                "{} at {} frames/s",
                self.words,
                listed(rates.iter().map(f64::to_string))
            ),
        }
    }
}

fn listed(items: impl Iterator<Item = String>) -> String {
    words::listed(items, LISTED_MAX)
}

/// What to write into `format` instead of `asked`: the first of format, size and rate that does not fit.
pub fn offer(formats: &[Format], asked: &PictureFormat) -> String {
    let PictureFormat {
        pixels,
        width,
        height,
        ..
    } = *asked;
    let Some(format) = formats.iter().find(|format| is(format, pixels)) else {
        return other_formats(formats);
    };
    if format.sizes.is_empty() {
        return format!("It offers {pixels} in other sizes; its papers say which.");
    }
    match format
        .sizes
        .iter()
        .find(|size| (size.width, size.height) == (width, height))
    {
        Some(size) if !size.rates.is_empty() => format!("In {pixels} it offers {}.", size.full_words()),
        _ => {
            let sizes = listed(format.sizes.iter().map(|size| size.words.clone()));
            format!("In {pixels} it offers {sizes}.")
        }
    }
}

fn other_formats(formats: &[Format]) -> String {
    let readable = formats.iter().filter(|format| format.readable);
    let readable = listed(readable.map(config_name));
    if !readable.is_empty() {
        return format!(
            "Write into `format` what it offers: {readable}; `elek probe` lists sizes and rates."
        );
    }
    let names = listed(formats.iter().map(|format| format.fourcc.clone()));
    let names = if names.is_empty() {
        "no format at all".to_owned()
    } else {
        names
    };
    format!("It offers {names}, none of which elek reads: use another camera.")
}

fn is(format: &Format, pixels: PixelFormat) -> bool {
    PixelFormat::from_name(&format.fourcc) == Some(pixels)
}

/// As the configuration calls it.
pub fn config_name(format: &Format) -> String {
    PixelFormat::from_name(&format.fourcc).map_or(format.fourcc.clone(), |pixels| pixels.name().to_owned())
}

/// The paths below `/dev/v4l` that stay the same across boots, each with the device it leads to
/// (`video0`). By-path names the socket a camera is plugged into, by-id the camera.
pub fn stable_paths(root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for kind in ["by-path", "by-id"] {
        let Ok(links) = fs::read_dir(root.join("dev/v4l").join(kind)) else {
            continue;
        };
        let mut links: Vec<PathBuf> = links.filter_map(|link| Some(link.ok()?.path())).collect();
        links.sort();
        for link in links {
            let Ok(target) = fs::read_link(&link) else {
                continue;
            };
            let Some(name) = target.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let shown = link
                .strip_prefix(root)
                .map(|rest| Path::new("/").join(rest))
                .unwrap_or(link.clone());
            found.push((shown, name.to_owned()));
        }
    }
    found
}

/// A path that may lead to another camera after the next boot.
pub fn is_unstable(device: &Path) -> bool {
    let name = device
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let number = name.strip_prefix("video").unwrap_or_default();
    let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    numbered && device.parent() == Some(Path::new("/dev"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::camera::node::Interval;

    fn format(fourcc: &str, sizes: &[(&str, &[f64])]) -> Format {
        let size = |(words, rates): &(&str, &[f64])| Size {
            words: (*words).into(),
            width: words.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0),
            height: 480,
            rates: rates.to_vec(),
        };
        Format {
            fourcc: fourcc.into(),
            description: String::new(),
            readable: PixelFormat::from_name(fourcc).is_some(),
            sizes: sizes.iter().map(size).collect(),
        }
    }

    #[test]
    fn an_offer_names_what_to_write_instead() {
        let usb = [
            format("YUYV", &[("640 × 480", &[30.0, 15.0]), ("1280 × 720", &[10.0])]),
            format("MJPG", &[("1920 × 1080", &[30.0])]),
            format("H264", &[]),
        ];
        let said = |formats: &[Format], pixels, width| {
            let asked = PictureFormat {
                pixels,
                width,
                height: 480,
                fps_milli: 60_000,
            };
            offer(formats, &asked)
        };
        assert_eq!(
            said(&usb, PixelFormat::Yuyv, 640),
            "In YUYV it offers 640 × 480 at 30, 15 frames/s."
        );
        assert_eq!(
            said(&usb, PixelFormat::Yuyv, 641),
            "In YUYV it offers 640 × 480, 1280 × 720."
        );
        assert_eq!(
            said(&usb, PixelFormat::Grey, 640),
            "Write into `format` what it offers: YUYV, MJPG; `elek probe` lists sizes and rates."
        );
        assert!(said(&usb[2..], PixelFormat::Grey, 640).contains("H264, none of which elek reads"));
        assert!(said(&[], PixelFormat::Grey, 640).contains("no format at all"));
        // V4L2's name for it is another.
        assert!(said(&[format("BA81", &[])], PixelFormat::Grey, 640).contains("offers: BGGR;"));
        assert!(said(&[format("BA81", &[])], PixelFormat::BayerBggr, 640).contains("in other sizes"));
    }

    #[test]
    fn rates_are_listed_once_and_the_highest_first() {
        let every = |numerator, denominator| {
            Intervals::One(Interval {
                numerator,
                denominator,
            })
        };
        let list = [every(1, 15), every(1001, 30000), every(1, 15)];
        assert_eq!(rates(&list), [29.97, 15.0]);
        let range = Intervals::Range(
            Interval {
                numerator: 1,
                denominator: 120,
            },
            Interval {
                numerator: 1,
                denominator: 5,
            },
        );
        assert_eq!(rates(&[range]), [120.0, 5.0]);
        let many = listed((0..18).map(|n| n.to_string()));
        assert!(many.ends_with("14, 15 and 2 more"), "{many}");
    }

    #[test]
    fn stable_paths_are_found_and_numbers_are_unstable() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(stable_paths(dir.path()), []);
        let folder = dir.path().join("dev/v4l/by-path");
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("../../video2", folder.join("usb-1-video-index0")).unwrap();
        assert_eq!(
            stable_paths(dir.path()),
            [(
                PathBuf::from("/dev/v4l/by-path/usb-1-video-index0"),
                "video2".to_owned()
            )]
        );
        for (path, unstable) in [
            ("/dev/video0", true),
            ("/dev/video12", true),
            ("/dev/video", false),
            ("/dev/v4l/by-path/video0", false),
            ("/dev/top-camera", false),
        ] {
            assert_eq!(is_unstable(Path::new(path)), unstable, "{path}");
        }
    }
}
