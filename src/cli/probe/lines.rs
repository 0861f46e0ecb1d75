//! GPIO chips with their lines, and counters.

use super::{Finding, Section};
use crate::device::counter::{self, CounterInfo};
use crate::device::gpio::{self, Chip, ChipInfo, GpioError, LineInfo, Uapi};
use std::path::PathBuf;

/// What was seen of a chip.
struct Seen {
    path: PathBuf,
    inside: Result<Inside, GpioError>,
}

struct Inside {
    info: ChipInfo,
    uapis: Vec<Uapi>,
    lines: Vec<LineInfo>,
}

pub fn look() -> Vec<Section> {
    let inside = |path: &PathBuf, info: Result<ChipInfo, GpioError>| {
        Ok(Inside {
            info: info?,
            uapis: gpio::uapis(path)?,
            lines: Chip::open(path)?.lines()?,
        })
    };
    let seen = gpio::chips().into_iter().map(|(path, info)| Seen {
        inside: inside(&path, info),
        path,
    });
    let seen: Vec<Seen> = seen.collect();
    vec![chips(&seen, &gpio::kernel()), counters(&counter::counters())]
}

fn chips(seen: &[Seen], kernel: &(String, (u32, u32))) -> Section {
    let mut section = Section::new("lines");
    if seen.is_empty() {
        section.problem(
            "this machine shows no GPIO chip (no /dev/gpiochip*)",
            "Load the driver of the I/O module or switch it on in the device tree; without one, only \
             the simulated line can be used.",
        );
    }
    for chip in seen {
        match &chip.inside {
            Ok(inside) => section.findings.push(finding(inside)),
            Err(error) => section.problem(
                format!("{} cannot be looked at", chip.path.display()),
                format!("{error}."),
            ),
        }
    }
    let inside: Vec<&Inside> = seen.iter().filter_map(|chip| chip.inside.as_ref().ok()).collect();
    for (at, chip) in inside.iter().enumerate() {
        if let Some(other) = inside[..at]
            .iter()
            .find(|other| other.info.label == chip.info.label)
        {
            section.problem(
                format!(
                    "{} and {} have the same label, {}",
                    other.info.name, chip.info.name, chip.info.label
                ),
                "Name them by a path that stays the same, such as a link made by a udev rule.",
            );
        }
        if let Some(name) = doubled(&chip.lines) {
            section.problem(
                format!("chip {} has several lines called {name}", chip.info.label),
                "Give the number in the configuration: line = N.",
            );
        }
    }
    let v1_only = |chip: &&&Inside| chip.uapis == [Uapi::V1];
    let (release, version) = kernel;
    if inside.iter().find(v1_only).is_some() && *version < (5, 7) {
        section.problem(
            format!("Linux {release} stamps edges by wall clock"),
            "Times of waking up are taken instead, which vary by up to a ms or so. Take Linux 5.7 or newer.",
        );
    }
    section
}

fn finding(chip: &Inside) -> Finding {
    let mut finding = Finding::new(&chip.info.label);
    finding.fact("device", chip.info.path.display().to_string());
    let uapis: Vec<String> = chip.uapis.iter().map(Uapi::to_string).collect();
    finding.fact("interface", uapis.join(", "));
    let used = chip.lines.iter().filter(|line| line.used_by.is_some()).count();
    finding.fact("lines", format!("{}, {used} of them in use", chip.lines.len()));
    // A line without a name that nobody uses is told by its absence.
    for line in &chip.lines {
        if line.name.is_none() && line.used_by.is_none() {
            continue;
        }
        let mut words = vec![line.name.clone().unwrap_or_else(|| "without a name".into())];
        words.push(if line.output { "output" } else { "input" }.into());
        if line.active_low {
            words.push("active low".into());
        }
        if let Some(consumer) = &line.used_by {
            words.push(format!("used by {consumer}"));
        }
        finding.fact(format!("line {}", line.offset), words.join(", "));
    }
    finding
}

/// A name that more than one line has.
fn doubled(lines: &[LineInfo]) -> Option<&str> {
    let mut names: Vec<&str> = lines.iter().filter_map(|line| line.name.as_deref()).collect();
    names.sort_unstable();
    names
        .windows(2)
        .find(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
}

fn counters(found: &[CounterInfo]) -> Section {
    let mut section = Section::new("counters");
    for counter in found {
        let mut finding = Finding::new(format!("/dev/{}", counter.device));
        finding.fact("driver", counter.name.clone());
        finding.fact("counts", counter.counts.join(", "));
        section.findings.push(finding);
    }
    if found.is_empty() {
        let mut finding = Finding::new("");
        finding.fact(
            "none",
            "an encoder can be counted on one or two lines, up to 2,000 edges a second",
        );
        section.findings.push(finding);
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(offset: u32, name: Option<&str>, used_by: Option<&str>) -> LineInfo {
        LineInfo {
            offset,
            name: name.map(Into::into),
            used_by: used_by.map(Into::into),
            output: offset == 0,
            active_low: false,
        }
    }

    fn chip(name: &str, uapis: &[Uapi], lines: Vec<LineInfo>) -> Seen {
        let path = PathBuf::from("/dev").join(name);
        Seen {
            inside: Ok(Inside {
                info: ChipInfo {
                    path: path.clone(),
                    name: name.into(),
                    label: "io".into(),
                    lines: lines.len() as u32,
                },
                uapis: uapis.to_vec(),
                lines,
            }),
            path,
        }
    }

    fn kernel(major: u32, minor: u32) -> (String, (u32, u32)) {
        (format!("{major}.{minor}"), (major, minor))
    }

    #[test]
    fn lines_are_told_with_who_uses_them() {
        let lines = vec![
            line(0, Some("REJ1"), Some("elek")),
            line(1, None, None),
            line(2, Some("ACK"), None),
        ];
        let section = chips(&[chip("gpiochip0", &[Uapi::V2], lines)], &kernel(6, 1));
        assert_eq!(section.problems, []);
        let facts: Vec<(&str, &str)> = section.findings[0]
            .facts
            .iter()
            .map(|fact| (&fact.name[..], &fact.value[..]))
            .collect();
        let told = [
            ("device", "/dev/gpiochip0"),
            ("interface", "v2"),
            ("lines", "3, 1 of them in use"),
            ("line 0", "REJ1, output, used by elek"),
            ("line 2", "ACK, input"),
        ];
        assert_eq!(facts, told);
    }

    #[test]
    fn what_is_wrong_with_lines_is_told_with_what_to_do() {
        let said = |seen: &[Seen], kernel| {
            let section = chips(seen, &kernel);
            let said: Vec<String> = section.problems.into_iter().map(|p| p.what).collect();
            said.join("\n")
        };
        assert!(said(&[], kernel(6, 1)).contains("no GPIO chip"));
        let twice = || {
            chip(
                "gpiochip1",
                &[Uapi::V1],
                vec![line(0, Some("A"), None), line(1, Some("A"), None)],
            )
        };
        let said = said(&[chip("gpiochip0", &[Uapi::V2], vec![]), twice()], kernel(5, 4));
        assert!(
            said.contains("gpiochip0 and gpiochip1 have the same label, io"),
            "{said}"
        );
        assert!(said.contains("several lines called A"), "{said}");
        assert!(said.contains("Linux 5.4 stamps edges by wall clock"), "{said}");
        let denied = Seen {
            path: "/dev/gpiochip0".into(),
            inside: Err(GpioError::Open {
                path: "/dev/gpiochip0".into(),
                cause: std::io::ErrorKind::PermissionDenied.into(),
            }),
        };
        let section = chips(&[denied], &kernel(6, 1));
        assert!(
            section.problems[0].advice.contains("group"),
            "{:?}",
            section.problems
        );
    }

    #[test]
    fn counters_or_what_stands_in_for_them() {
        let found = CounterInfo {
            device: "counter0".into(),
            name: "eqep".into(),
            counts: vec!["count0".into()],
        };
        assert_eq!(counters(&[found]).findings[0].name, "/dev/counter0");
        assert!(counters(&[]).findings[0].facts[0].value.contains("2,000 edges"));
    }
}
