//! What a simulated run consisted of, as JSON lines: enough to feed a station
//! core the same events again and to reach the same failure.

use super::check::Failure;
use super::faults::Fault;
use super::part::TruthNote;
use crate::station::Resume;
use crate::station::event::{Action, Blob, Event};
use crate::units::{FrameId, Instant};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// Grows when the meaning of a seed or of a line changes.
pub const VERSION: u32 = 4;

/// One line of a trace, in the order in which things came about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Line {
    /// First line. The seed decides the configuration.
    Seed {
        seed: u64,
        version: u32,
    },
    /// A station core begins, with what the record knows.
    Start {
        now: Instant,
        #[serde(flatten)]
        resume: Resume,
    },
    /// The core handles an event. `cut`: the process died after that many of its actions.
    Event {
        now: Instant,
        event: Box<Event>,
        cut: Option<usize>,
    },
    /// What the core wanted done, as far as it was done.
    Did(Vec<Action>),
    /// The process is gone.
    Died {
        now: Instant,
    },
    /// Which part each blob of a frame really is.
    Shown {
        frame: FrameId,
        blobs: Vec<(Blob, u64)>,
    },
    Truth(TruthNote),
    Fault {
        now: Instant,
        fault: Fault,
    },
    /// No more faults from here on; the line has to come back.
    Calm {
        now: Instant,
    },
    /// The belt is empty and the core was told to stop.
    Over {
        now: Instant,
    },
    /// Last line of a failed run.
    Failure(Failure),
}

/// Writes the lines to `path`.
pub fn write(path: &Path, lines: &[Line]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    for line in lines {
        serde_json::to_writer(&mut out, line)?;
        out.write_all(b"\n")?;
    }
    out.flush()
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a trace back; a broken line is an error with its number.
pub fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let parsed = serde_json::from_str(&line)
            .with_context(|| format!("{}:{}: not a line of a trace", path.display(), number + 1))?;
        lines.push(parsed);
    }
    match lines.first() {
        Some(Line::Seed { version: VERSION, .. }) => Ok(lines),
        Some(Line::Seed { version, .. }) => {
            bail!(
                "{}: trace version {version}, this elek reads {VERSION}",
                path.display()
            )
        }
        _ => bail!(
            "{}: does not begin with a seed; is it a trace of `elek simulate`?",
            path.display()
        ),
    }
}
