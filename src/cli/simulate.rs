//! `elek simulate`: the simulated line in virtual time, and pictures of its parts.

mod render;
mod virtual_time;

use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;

/// Drive the station core with a simulated line in virtual time, with seeded faults, and check
/// after each step that nothing wrong happens; or render labelled pictures of its parts.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["seeds", "seed", "replay", "render"]).multiple(true)))]
pub struct Args {
    /// Simulate this many seeds
    #[arg(long, value_name = "N", conflicts_with_all = ["seed", "replay", "render"])]
    seeds: Option<u64>,
    /// The first of them
    #[arg(long, value_name = "S", default_value_t = 0, requires = "seeds")]
    first_seed: u64,
    /// Feed the events of a trace to the station core again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "render"])]
    replay: Option<PathBuf>,
    /// Write the trace of a failed seed to this folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    traces: PathBuf,
    /// Simulate this seed and show its options; with --render, what decides the pictures
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    #[command(flatten)]
    render: render::Args,
}

/// Exit code 0 when nothing wrong happened or everything was written, 1 when something was found.
pub fn run(args: Args) -> Result<ExitCode> {
    if let Some(file) = &args.replay {
        return virtual_time::replay(file);
    }
    if let Some(count) = args.seeds {
        return virtual_time::seeds(args.first_seed, count, &args.traces);
    }
    match (args.seed, args.render.render.is_some()) {
        (Some(seed), false) => virtual_time::one(seed, &args.traces),
        (seed, _) => render::run(&args.render, seed.unwrap_or(1)),
    }
}
