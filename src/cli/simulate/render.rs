//! `elek simulate --render DIR`: a labelled set of pictures, to learn from or to try elek on.

use crate::simulate::render::{RenderSet, render_set};
use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write pictures, masks and labels.csv to this folder
    #[arg(long, value_name = "DIR")]
    pub render: Option<PathBuf>,
    /// How many pictures
    #[arg(long, value_name = "N", default_value_t = 100)]
    count: u32,
    /// Width of a picture, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 640, value_parser = clap::value_parser!(u32).range(256..=4_096))]
    width: u32,
    /// Height of a picture, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 480, value_parser = clap::value_parser!(u32).range(256..=4_096))]
    height: u32,
    /// Share of parts with a defect, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    defective: f32,
}

/// Exit code 0 when everything was written.
pub fn run(args: &Args, seed: u64) -> Result<ExitCode> {
    let Some(dir) = &args.render else {
        anyhow::bail!("give --render DIR, the folder to write to");
    };
    ensure!(
        (0.0..=1.0).contains(&args.defective),
        "--defective is a share from 0 to 1, not {}",
        args.defective
    );
    let set = RenderSet {
        count: args.count,
        seed,
        width: args.width,
        height: args.height,
        defective: args.defective,
        ..RenderSet::default()
    };
    render_set(dir, &set)?;
    println!(
        "{} pictures, masks and {}",
        set.count,
        dir.join("labels.csv").display()
    );
    Ok(ExitCode::SUCCESS)
}
