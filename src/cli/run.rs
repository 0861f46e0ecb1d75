//! `elek run`: the station.

use super::session::{Session, Show};
use super::summary;
use crate::config::{self, CameraSource};
use crate::outputs::link::Peer;
use anyhow::{Result, anyhow, bail};
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
    /// Use the output process that listens on this socket (`elek outputs --socket`) instead of starting one.
    #[arg(long, value_name = "SOCKET")]
    outputs: Option<PathBuf>,
    /// A simulated line counts its parts in this file, beside the station's own record.
    #[arg(long, value_name = "FILE", hide = true)]
    count_file: Option<PathBuf>,
    /// So many parts lie on a simulated belt at the start, as after a stop that nobody cleaned up behind.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    left_on_belt: u32,
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
    if args.acknowledge && matches!(config.cameras[0].source, CameraSource::V4l2(_)) {
        bail!("--acknowledge is for simulated lines; at a real belt a person looks before it starts");
    }
    let path = args.config.clone();
    let session = Session {
        acknowledge: args.acknowledge,
        limit: args.seconds,
        workers: args.workers,
        outputs: args.outputs.map_or_else(Peer::own_child, Peer::Socket),
        show: Show::Log,
        seed: None,
        count_file: args.count_file,
        left_on_belt: args.left_on_belt,
        reload: Some(Box::new(move || {
            let config = config::load(&path).map_err(|report| anyhow!("\n{report}"))?;
            Ok(Arc::new(config))
        })),
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
