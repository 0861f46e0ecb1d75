//! `elek simulate`: the simulated line without a station around it.

mod render;

use anyhow::Result;
use std::process::ExitCode;

/// Render labelled pictures of the simulated line's parts.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    render: render::Args,
}

/// Exit code 0 when everything was written.
pub fn run(args: Args) -> Result<ExitCode> {
    render::run(&args.render)
}
