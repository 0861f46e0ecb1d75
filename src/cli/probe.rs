//! `elek probe`: what this box has, and what is wrong with it, in words to act on.
//!
//! Each file below `probe/` looks at one kind of thing and gives a [`Section`]. Looking is apart from
//! telling: what the kernel says is gathered first, so that the words can be tested without devices.
//!
//! | file | what |
//! |---|---|
//! | `cameras` | video devices: formats, rates, controls, stamps |
//! | `displays` | framebuffers |
//! | `buses` | SPI and I²C for small panels |
//! | `machine` | processor, instruction sets, memory |
//! | `lines` | GPIO chips, their lines, counters |
//! | `realtime` | rights, kernel, cores |

mod buses;
mod cameras;
mod displays;
mod lines;
pub(super) mod machine;
mod realtime;
mod tree;

use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use tree::Tree;

/// Width of the column of names in the text.
const NAME_COLUMN: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:
  0  looked at everything, also where something is missing
  1  could not look
  2  wrong arguments")]
pub struct Args {
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// What was found of one kind of thing.
#[derive(Debug, PartialEq, Serialize)]
pub struct Section {
    /// One word or two, in lower case: `cameras`.
    pub title: &'static str,
    pub findings: Vec<Finding>,
    pub problems: Vec<Problem>,
}

/// One thing that is there.
#[derive(Debug, PartialEq, Serialize)]
pub struct Finding {
    /// As it is named in a configuration, where it is: `/dev/v4l/by-path/…`. Empty: the section itself.
    pub name: String,
    pub facts: Vec<Fact>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

/// Something wrong or missing, and what a technician can do about it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Problem {
    pub what: String,
    pub advice: String,
}

impl Section {
    pub fn new(title: &'static str) -> Section {
        Section {
            title,
            findings: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub fn problem(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.problems.push(Problem {
            what: what.into(),
            advice: advice.into(),
        });
    }
}

impl Finding {
    pub fn new(name: impl Into<String>) -> Finding {
        Finding {
            name: name.into(),
            facts: Vec::new(),
        }
    }

    pub fn fact(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.facts.push(Fact {
            name: name.into(),
            value: value.into(),
        });
    }
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    system: String,
    sections: &'a [Section],
}

pub fn run(args: Args) -> Result<ExitCode> {
    let tree = Tree::of_this_machine();
    let system = system(&tree).context("cannot look: /proc cannot be read; is it mounted?")?;
    let sections = sections(&tree);
    let mut out = std::io::stdout().lock();
    if args.json {
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            system,
            sections: &sections,
        };
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", text(&system, &sections))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All sections, in the order in which a box is commissioned.
fn sections(tree: &Tree) -> Vec<Section> {
    let mut all = vec![cameras::look(tree)];
    all.extend(lines::look());
    all.extend([displays::look(tree), buses::look(tree)]);
    all.extend([machine::look(tree), realtime::look(tree)]);
    all
}

/// Name of the machine and its kernel.
fn system(tree: &Tree) -> Option<String> {
    let kernel = tree.read("proc/sys/kernel/osrelease")?;
    let host = tree.read("proc/sys/kernel/hostname").unwrap_or_default();
    Some(format!("{host}, Linux {kernel}, {}", std::env::consts::ARCH))
}

fn text(system: &str, sections: &[Section]) -> String {
    let mut text = format!("elek {} on {system}\n", env!("CARGO_PKG_VERSION"));
    for section in sections {
        let _ = writeln!(text, "\n{}", section.title.to_uppercase());
        for finding in &section.findings {
            if !finding.name.is_empty() {
                let _ = writeln!(text, "  {}", finding.name);
            }
            let indent = if finding.name.is_empty() { 2 } else { 4 };
            for fact in &finding.facts {
                let column = NAME_COLUMN.saturating_sub(indent);
                for (n, line) in fact.value.lines().enumerate() {
                    let name = if n == 0 { fact.name.as_str() } else { "" };
                    let _ = writeln!(text, "{:indent$}{name:<column$}  {line}", "");
                }
            }
        }
        for problem in &section.problems {
            let _ = writeln!(text, "  ! {}\n    → {}", problem.what, problem.advice);
        }
    }
    let count: usize = sections.iter().map(|section| section.problems.len()).sum();
    let _ = match count {
        0 => writeln!(text, "\nNothing is wrong."),
        1 => writeln!(text, "\n1 thing to look at, marked with !"),
        n => writeln!(text, "\n{n} things to look at, marked with !"),
    };
    text
}

/// The text of some sections without the head, which names the version.
#[cfg(test)]
fn body(sections: &[Section]) -> String {
    let text = text("box", sections);
    text.split_once('\n')
        .map_or(String::new(), |(_, body)| body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_findings_and_says_what_to_do() {
        let mut section = Section::new("cameras");
        let mut finding = Finding::new("/dev/v4l/by-path/usb-1");
        finding.fact("driver", "uvcvideo");
        finding.fact("formats", "GREY 640 × 480\nMJPG 1280 × 720");
        section.findings.push(finding);
        section.problem("The camera may not be opened.", "Join the group video.");
        let shown = text("box, Linux 6.12, aarch64", &[section]);
        assert_eq!(
            shown.replace(env!("CARGO_PKG_VERSION"), "VERSION"),
            "elek VERSION on box, Linux 6.12, aarch64\n\n\
             CAMERAS\n\
             \x20 /dev/v4l/by-path/usb-1\n\
             \x20   driver            uvcvideo\n\
             \x20   formats           GREY 640 × 480\n\
             \x20                     MJPG 1280 × 720\n\
             \x20 ! The camera may not be opened.\n\
             \x20   → Join the group video.\n\n\
             1 thing to look at, marked with !\n"
        );
    }

    #[test]
    fn this_machine_can_be_looked_at_whatever_it_has() {
        let tree = Tree::of_this_machine();
        assert!(system(&tree).is_some());
        let all = sections(&tree);
        let titles: Vec<&str> = all.iter().map(|section| section.title).collect();
        assert!(
            ["cameras", "lines", "counters", "displays", "panel buses"]
                .iter()
                .chain(&["machine", "real time"])
                .all(|title| titles.contains(title)),
            "{titles:?}"
        );
        for problem in all.iter().flat_map(|section| &section.problems) {
            assert!(
                !problem.what.is_empty() && !problem.advice.is_empty(),
                "{problem:?}"
            );
        }
    }
}
