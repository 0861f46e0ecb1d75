//! Cameras: which there are, what they offer, and what keeps elek from using them.

use super::tree::Tree;
use super::{Finding, Section};
use crate::device::camera::describe::{self, Description, Format, config_name};
use crate::device::camera::{StampClock, Stamping};
use std::io;
use std::path::{Path, PathBuf};

/// More controls than this are for the maker's tool, not for a station; the JSON has all.
const CONTROLS_TOLD: [&str; 12] = [
    "exposure",
    "gain",
    "power line",
    "white balance",
    "brightness",
    "contrast",
    "gamma",
    "focus",
    "trigger",
    "strobe",
    "time",
    "auto",
];

pub fn look(tree: &Tree) -> Section {
    let mut nodes = Vec::new();
    let stable = describe::stable_paths(&tree.path(""));
    for name in tree.list("sys/class/video4linux") {
        if !name.starts_with("video") {
            continue;
        }
        let device = Path::new("/dev").join(&name);
        nodes.push(Node {
            described: describe::describe(&tree.path(device.strip_prefix("/").unwrap_or(&device))),
            link: stable
                .iter()
                .find(|(_, target)| *target == name)
                .map(|(link, _)| link.clone()),
            device,
        });
    }
    tell(&nodes)
}

/// A video node and what became of asking it.
struct Node {
    device: PathBuf,
    /// The path that stays the same across boots.
    link: Option<PathBuf>,
    described: io::Result<Description>,
}

fn tell(nodes: &[Node]) -> Section {
    let mut section = Section::new("cameras");
    let mut cameras = 0;
    for node in nodes {
        match &node.described {
            Ok(described) if described.captures => {
                cameras += 1;
                camera(node, described, &mut section);
            }
            // Statistics, decoders, outputs: not a camera, and nothing wrong with that.
            Ok(_) => {}
            Err(error) => unopened(node, error, &mut section),
        }
    }
    if cameras == 0 && section.problems.is_empty() {
        section.problem(
            "No camera is there.",
            "Check its cable and power. A camera on a ribbon cable also needs its overlay in the boot \
             configuration; `dmesg` says whether the kernel found one.",
        );
    }
    section
}

fn unopened(node: &Node, error: &io::Error, section: &mut Section) {
    let device = node.device.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => section.problem(
            format!("{device} may not be opened by this user."),
            "Join the group `video` (usermod -aG video USER) and log in again; the service has it already.",
        ),
        io::ErrorKind::NotFound => section.problem(
            format!("The kernel has {device}, but the device file is missing."),
            "In a container, hand the device in; elsewhere see whether udev runs.",
        ),
        _ => section.problem(
            format!("{device} cannot be asked: {error}."),
            "Unplug it and plug it in again; see what the kernel says about it (dmesg).",
        ),
    }
}

fn camera(node: &Node, described: &Description, section: &mut Section) {
    let name = node.link.as_ref().unwrap_or(&node.device);
    let mut finding = Finding::new(name.display().to_string());
    if node.link.is_some() {
        finding.fact("node", node.device.display().to_string());
    }
    finding.fact(
        "camera",
        format!("{} ({}, {})", described.card, described.driver, described.bus),
    );
    let (readable, other): (Vec<&Format>, Vec<&Format>) = described.formats.iter().partition(|f| f.readable);
    if !readable.is_empty() {
        let lines: Vec<String> = readable.iter().map(|format| format_words(format)).collect();
        finding.fact("formats", lines.join("\n"));
    }
    if !other.is_empty() {
        let names: Vec<&str> = other.iter().map(|format| format.fourcc.as_str()).collect();
        finding.fact("not read by elek", names.join(", "));
    }
    if let Some(stamps) = described.stamps {
        finding.fact("stamps pictures", stamps.words());
    }
    let told = described.controls.iter().filter(|control| {
        let name = control.name.to_lowercase();
        CONTROLS_TOLD.iter().any(|word| name.contains(word))
    });
    let lines: Vec<String> = told
        .map(|control| {
            let now = control
                .value
                .map_or(String::new(), |value| format!(", now {value}"));
            let inactive = if control.inactive {
                ", overridden by an automatic"
            } else {
                ""
            };
            format!("{}: {}{now}{inactive}", control.name, control.range)
        })
        .collect();
    if !lines.is_empty() {
        finding.fact("controls", lines.join("\n"));
    }
    section.findings.push(finding);
    problems(node, described, &readable, section);
}

fn format_words(format: &Format) -> String {
    let name = config_name(format);
    match format.sizes.as_slice() {
        [] => name,
        sizes => {
            let sizes: Vec<String> = sizes.iter().map(describe::Size::full_words).collect();
            format!("{name}  {}", sizes.join("; "))
        }
    }
}

fn problems(node: &Node, described: &Description, readable: &[&Format], section: &mut Section) {
    let device = node.link.as_ref().unwrap_or(&node.device).display();
    if !described.streams {
        section.problem(
            format!("{device} cannot stream into buffers."),
            "Use another camera; elek needs streaming.",
        );
    }
    if readable.is_empty() {
        section.problem(
            format!("{device} has no picture format that elek reads."),
            "A raw sensor may need its image processor set up first (media-ctl); else use another camera.",
        );
    }
    if matches!(readable, [only] if only.fourcc == "MJPG") {
        section.problem(
            format!("{device} only offers MJPG."),
            "Unpacking takes time, and JPEG smears fine defects: prefer a camera with GREY, YUYV or Bayer; the \
             numbers of `elek check` tell whether the time suffices.",
        );
    }
    if node.link.is_none() {
        section.problem(
            format!("{device} has no path that stays the same across boots."),
            "With udev, /dev/v4l/by-path has one; without, this camera may be another /dev/video after a boot.",
        );
    }
    if described.busy {
        section.problem(
            format!("{device} is in use by another program, so not everything could be asked."),
            "That is right while the station runs. Else end the other program (`fuser` names it).",
        );
    }
    if let Some(Stamping {
        clock: StampClock::Unknown,
        ..
    }) = described.stamps
    {
        section.problem(
            format!("{device} does not stamp its pictures with the monotonic clock."),
            "The time of waking up stands in, which jitters by milliseconds: set `stamp.jitter_us`, slow the \
             belt, or use another camera.",
        );
    }
    let exposure = described
        .controls
        .iter()
        .any(|c| c.name.to_lowercase().contains("exposure"));
    if described.captures && !exposure {
        section.problem(
            format!("{device} has no control for its exposure time."),
            "Set it by the camera's own means and write `set_exposure = false` beside `exposure_us`.",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::probe::body;
    use crate::device::camera::StampPoint;
    use crate::device::camera::describe::{Control, Size};

    fn size(words: &str, rates: &[f64]) -> Size {
        Size {
            words: words.into(),
            width: 1,
            height: 1,
            rates: rates.to_vec(),
        }
    }

    fn format(fourcc: &str, readable: bool, sizes: Vec<Size>) -> Format {
        Format {
            fourcc: fourcc.into(),
            description: String::new(),
            readable,
            sizes,
        }
    }

    fn webcam() -> Description {
        let control = |name: &str, range: &str, value, inactive| Control {
            name: name.into(),
            id: 1,
            range: range.into(),
            value: Some(value),
            inactive,
        };
        Description {
            driver: "uvcvideo".into(),
            card: "Cam 3".into(),
            bus: "usb-0000:01:00.0-1.2".into(),
            captures: true,
            streams: true,
            formats: vec![
                format(
                    "YUYV",
                    true,
                    vec![size("640 × 480", &[30.0, 15.0]), size("1280 × 720", &[10.0])],
                ),
                format("MJPG", true, vec![size("1920 × 1080", &[30.0])]),
                format("H264", false, vec![]),
            ],
            controls: vec![
                control(
                    "Auto Exposure",
                    "1 = Manual Mode, 3 = Aperture Priority Mode",
                    3,
                    false,
                ),
                control("Exposure Time, Absolute", "1 to 5000", 157, true),
                control("Pan, Absolute", "-36000 to 36000", 0, false),
            ],
            stamps: Some(Stamping {
                clock: StampClock::Monotonic,
                point: StampPoint::EndOfFrame,
            }),
            busy: false,
        }
    }

    fn node(described: io::Result<Description>) -> Node {
        Node {
            device: "/dev/video0".into(),
            link: Some("/dev/v4l/by-path/platform-usb-0:1.2:1.0-video-index0".into()),
            described,
        }
    }

    #[test]
    fn a_usual_camera_is_described_and_nothing_is_wrong() {
        let told = tell(&[node(Ok(webcam()))]);
        assert_eq!(told.problems, []);
        insta::assert_snapshot!(body(&[told]));
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_what_to_do() {
        let mut poor = webcam();
        poor.formats.remove(0);
        poor.controls.clear();
        poor.busy = true;
        poor.streams = false;
        let mut unstamped = webcam();
        unstamped.stamps = Some(Stamping {
            clock: StampClock::Unknown,
            point: StampPoint::EndOfFrame,
        });
        let mut raw = webcam();
        raw.formats = vec![format("pRAA", false, vec![])];
        let mut loose = node(Ok(poor));
        loose.link = None;
        let statistics = Description {
            captures: false,
            ..webcam()
        };
        let told = tell(&[
            loose,
            node(Ok(unstamped)),
            node(Ok(raw)),
            node(Ok(statistics)),
            node(Err(io::Error::from_raw_os_error(libc::EACCES))),
            node(Err(io::Error::from_raw_os_error(libc::EIO))),
            node(Err(io::Error::from_raw_os_error(libc::ENOENT))),
        ]);
        assert_eq!(told.findings.len(), 3);
        insta::assert_snapshot!(body(&[Section {
            findings: vec![],
            ..told
        }]));
    }

    #[test]
    fn a_box_without_a_camera_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let told = look(&Tree::at(dir.path()));
        assert_eq!((told.findings.len(), told.problems.len()), (0, 1));
        // The kernel has a camera whose device file was not handed in.
        std::fs::create_dir_all(dir.path().join("sys/class/video4linux/video0")).unwrap();
        let told = look(&Tree::at(dir.path()));
        assert!(
            told.problems[0]
                .what
                .contains("/dev/video0, but the device file is missing"),
            "{told:?}"
        );
    }
}
