//! Displays: framebuffers and how their pixels lie. Small panels have no driver in the kernel; their
//! buses are in `buses`.

use super::tree::Tree;
use super::{Finding, Section};
use crate::device::framebuffer::{self, Bits, Layout};
use std::io;
use std::path::{Path, PathBuf};

/// The page needs this many pixels each way.
const SIDE_MIN: u32 = 240;

pub fn look(tree: &Tree) -> Section {
    let mut found = Vec::new();
    for name in tree.list("sys/class/graphics") {
        let numbered = name.strip_prefix("fb").is_some_and(|n| n.parse::<u32>().is_ok());
        if numbered {
            let device = Path::new("/dev").join(&name);
            let described = framebuffer::describe(&tree.path(Path::new("dev").join(&name)));
            found.push((device, described));
        }
    }
    let connectors = tree
        .list("sys/class/drm")
        .into_iter()
        .filter_map(|name| {
            let status = tree.read(format!("sys/class/drm/{name}/status"))?;
            Some((name.split_once('-')?.1.to_owned(), status))
        })
        .collect::<Vec<_>>();
    tell(&found, &connectors)
}

type Described = io::Result<Result<Layout, String>>;

fn tell(found: &[(PathBuf, Described)], connectors: &[(String, String)]) -> Section {
    let mut section = Section::new("displays");
    for (device, described) in found {
        let shown = device.display();
        let mut finding = Finding::new(shown.to_string());
        match described {
            Ok(Ok(layout)) => {
                finding.fact("driver", layout.name.as_str());
                finding.fact("size", format!("{} × {}", layout.width, layout.height));
                finding.fact("pixels", pixels(layout));
                if layout.width < SIDE_MIN || layout.height < SIDE_MIN {
                    section.problem(
                        format!("{shown} is too small for the page of elek."),
                        "Use a display of at least 240 × 240 pixels.",
                    );
                }
            }
            Ok(Err(why)) => section.problem(
                format!("{shown} cannot be drawn on: {why}."),
                "Set another mode on the kernel's command line, such as video=HDMI-A-1:1280x800-32.",
            ),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => section.problem(
                format!("{shown} may not be opened by this user."),
                "Join the group `video` (usermod -aG video USER) and log in again; the service has it already.",
            ),
            Err(error) => section.problem(
                format!("{shown} cannot be asked: {error}."),
                "See what the kernel says about it (dmesg).",
            ),
        }
        section.findings.push(finding);
    }
    let plugged: Vec<&str> = connectors
        .iter()
        .filter(|(_, status)| status == "connected")
        .map(|(name, _)| name.as_str())
        .collect();
    if !connectors.is_empty() {
        let mut finding = Finding::new("");
        let words = if plugged.is_empty() {
            "none".to_owned()
        } else {
            plugged.join(", ")
        };
        finding.fact("plugged in", words);
        section.findings.push(finding);
    }
    if found.is_empty() {
        let what = match plugged.as_slice() {
            [] => "No display is there.".to_owned(),
            names => format!(
                "A display is plugged in ({}), but it has no framebuffer.",
                names.join(", ")
            ),
        };
        section.problem(
            what,
            "The station runs without one. Else connect a display and load its driver; a kernel without \
             framebuffer emulation (CONFIG_DRM_FBDEV_EMULATION) offers none.",
        );
    }
    section
}

/// `32 bits: red 16–23, green 8–15, blue 0–7`
fn pixels(layout: &Layout) -> String {
    let place = |name: &str, bits: Bits| format!("{name} {}–{}", bits.offset, bits.offset + bits.length - 1);
    format!(
        "{} bits: {}, {}, {}; rows of {} bytes",
        layout.bits_per_pixel,
        place("red", layout.red),
        place("green", layout.green),
        place("blue", layout.blue),
        layout.line_length
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::probe::body;

    #[test]
    fn displays_are_described_and_what_is_wrong_with_them() {
        let found = [
            ("/dev/fb0".into(), Ok(Ok(framebuffer::sample(1_280, 800)))),
            ("/dev/fb1".into(), Ok(Ok(framebuffer::sample(128, 160)))),
            ("/dev/fb2".into(), Ok(Err("it has 8 bits per pixel".to_owned()))),
            ("/dev/fb3".into(), Err(io::Error::from_raw_os_error(libc::EACCES))),
            ("/dev/fb4".into(), Err(io::Error::from_raw_os_error(libc::ENODEV))),
        ];
        let connectors = [("HDMI-A-1", "connected"), ("DSI-1", "disconnected")]
            .map(|(name, status)| (name.to_owned(), status.to_owned()));
        insta::assert_snapshot!(body(&[tell(&found, &connectors)]));
    }

    #[test]
    fn a_box_without_a_display_says_so_and_that_it_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let told = look(&Tree::at(dir.path()));
        assert!(told.problems[0].what.contains("No display is there"), "{told:?}");
        let hdmi = dir.path().join("sys/class/drm/card1-HDMI-A-1");
        std::fs::create_dir_all(&hdmi).unwrap();
        std::fs::write(hdmi.join("status"), "connected\n").unwrap();
        let told = look(&Tree::at(dir.path()));
        assert!(
            told.problems[0]
                .what
                .contains("(HDMI-A-1), but it has no framebuffer"),
            "{told:?}"
        );
    }
}
