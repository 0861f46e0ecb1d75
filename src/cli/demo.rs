//! `elek demo`: the station on the built-in simulated line, for half a minute of real time.

use super::session::{Outcome, Session, Show};
use super::summary::Summary;
use crate::config::arithmetic::{self, Facts, Finding, Level};
use crate::config::{self, CameraSource, Config};
use crate::display;
use crate::outputs::link::Peer;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the line runs.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = super::seconds)]
    seconds: Duration,
    /// Where journal and pictures go; what an earlier demo left there is replaced.
    #[arg(long, value_name = "DIR", default_value = "elek-demo")]
    out: PathBuf,
    /// Draws the parts and their defects; another number, other parts.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Parts that the line brings; a slow machine keeps up with fewer.
    #[arg(long, value_name = "N")]
    parts_per_s: Option<f64>,
    /// Threads that run models.
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Left in the folder of a demo, so that no other folder is ever emptied.
const MARK: &str = ".elek-demo";

pub fn run(args: Args) -> Result<ExitCode> {
    let mut config = match config::parse(config::DEFAULT, "the built-in configuration", Path::new(".")) {
        Ok(config) => config,
        Err(report) => anyhow::bail!("{report}"),
    };
    if let Some(rate) = args.parts_per_s {
        feed(&mut config, rate)?;
    }
    let out = fresh_folder(&args.out)?;
    config.record.path = out.clone();
    config.display.png = None;
    let config = Arc::new(config);
    eprintln!(
        "elek {}: a simulated line for {} s. Every frame is rendered, located, classified and judged as in production.",
        env!("CARGO_PKG_VERSION"),
        args.seconds.as_secs()
    );
    let session = Session {
        acknowledge: true,
        limit: Some(args.seconds),
        workers: args.workers,
        outputs: Peer::own_child(),
        show: Show::Live,
        seed: args.seed,
        count_file: None,
        left_on_belt: 0,
        reload: None,
    };
    let outcome = session.run(&config)?;
    let picture = save_display(&config, &outcome, &out)?;
    let summary = Summary::new(&outcome);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        println!("\n{summary}");
        println!("display   {}", picture.display());
        println!(
            "pictures  {} ({} written)",
            out.join("pictures").display(),
            summary.pictures_written
        );
        println!("journal   {}", crate::record::Journal::path(&out).display());
    }
    Ok(if summary.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Another number of parts, if they have room on the belt.
fn feed(config: &mut Config, parts_per_s: f64) -> Result<()> {
    anyhow::ensure!(
        (0.01..=1_000.0).contains(&parts_per_s),
        "--parts-per-s has to be from 0.01 to 1000"
    );
    if let CameraSource::Simulated(source) = &mut config.cameras[0].source {
        source.parts_per_s = parts_per_s;
    }
    let findings = arithmetic::check(config, &Facts::default());
    match findings.iter().find(|finding| finding.level == Level::Error) {
        None => Ok(()),
        Some(Finding { words, numbers, .. }) => {
            anyhow::bail!("{words} ({numbers}); use a smaller --parts-per-s")
        }
    }
}

/// Makes `out`, or empties it when an earlier demo made it.
fn fresh_folder(out: &Path) -> Result<PathBuf> {
    if out.join(MARK).exists() {
        std::fs::remove_dir_all(out)
            .with_context(|| format!("cannot remove the earlier demo in {}", out.display()))?;
    } else if out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        anyhow::bail!(
            "{} has files that no demo wrote; name another folder with --out, or remove it",
            out.display()
        );
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    std::fs::write(
        out.join(MARK),
        "made by `elek demo`, which may replace this folder\n",
    )
    .with_context(|| format!("cannot write to {}", out.display()))?;
    out.canonicalize()
        .with_context(|| format!("cannot find {}", out.display()))
}

fn save_display(config: &Config, outcome: &Outcome, out: &Path) -> Result<PathBuf> {
    let path = out.join("display.png");
    let png = display::png(&outcome.status, config.display.width, config.display.height);
    std::fs::write(&path, png).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
