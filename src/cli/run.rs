//! `elek run`: the station.

use super::session::{Session, Show};
use super::summary;
use crate::config::{self, CameraSource, Config};
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The station's TOML file.
    #[arg(long, short, value_name = "FILE", default_value = "/etc/elek/station.toml")]
    config: PathBuf,
    /// Acknowledge once at the start, as a person at the station would (simulated lines only).
    #[arg(long)]
    acknowledge: bool,
    /// End by itself after this time.
    #[arg(long, value_name = "SECONDS", value_parser = super::seconds)]
    seconds: Option<Duration>,
    /// Threads that run models.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let config = match config::load(&args.config) {
        Ok(config) => Arc::new(config),
        Err(report) => {
            eprint!("{report}");
            return Ok(ExitCode::from(2));
        }
    };
    check_supported(&config)?;
    let session = Session {
        acknowledge: args.acknowledge,
        limit: args.seconds,
        workers: args.workers,
        show: Show::Log,
        seed: None,
    };
    let outcome = session.run(&config)?;
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&summary::Summary::new(&outcome))?
        );
    } else {
        print!("{}", summary::Summary::new(&outcome));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the configuration may describe but this version cannot drive.
fn check_supported(config: &Config) -> Result<()> {
    if let CameraSource::V4l2(source) = &config.cameras[0].source {
        bail!(
            "this version drives simulated cameras and folders of pictures, not the V4L2 device {}. \
             Use [camera.{name}.source.simulated] or [camera.{name}.source.folder]",
            source.device.display(),
            name = config.cameras[0].name
        );
    }
    Ok(())
}
