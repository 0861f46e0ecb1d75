//! `elek bench --model`: how long an inference takes, by the number of threads that share it.

use super::{heading, print, ranks};
use crate::cli::model::Runs;
use crate::infer::engine::Engine;
use crate::infer::manifest;
use crate::infer::sandbox;
use crate::kernels::isa::Isa;
use crate::kernels::team::{THREADS_MAX, Team};
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// For each number of threads.
const RUNS: Runs = Runs {
    warm_up: 5,
    most: 300,
    time: Duration::from_secs(4),
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One inference of this model, for each number of threads that may share it.
    #[arg(long, value_name = "FILE|builtin:NAME", conflicts_with_all = ["pipeline", "output_jitter"])]
    pub model: Option<String>,
    /// With --model: the most threads [default: one for each processor].
    #[arg(long, value_name = "N", requires = "model")]
    threads: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    machine: String,
    model: String,
    kernels: &'static str,
    ms: Vec<Times>,
}

#[derive(Debug, Serialize)]
struct Times {
    threads: usize,
    runs: usize,
    min: f64,
    median: f64,
    p99: f64,
}

pub fn run(model: &str, args: &Args, json: bool) -> Result<ExitCode> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let most = args.threads.unwrap_or(processors).clamp(1, THREADS_MAX);
    let info = manifest::describe(Path::new(""), model, None)?;
    let bytes = info.bytes()?;
    if !info.is_builtin() {
        sandbox::examine_bytes(&bytes, &info)?;
    }
    // Noise, so that no value is rare.
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let rgb: Vec<u8> = (0..info.size as usize * info.size as usize * 3)
        .map(|_| byte())
        .collect();
    let mut ms = Vec::new();
    for threads in 1..=most {
        let team = Team::new(threads).context("cannot start threads")?;
        let mut engine = Engine::with_team(&bytes, &info, Some(&Arc::new(team)))?;
        ms.push(measure(&mut engine, &rgb, threads)?);
    }
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: super::machine(),
        model: info.name.clone(),
        kernels: Isa::best().name(),
        ms,
    };
    print(&report, json, table)
}

fn measure(engine: &mut Engine, rgb: &[u8], threads: usize) -> Result<Times> {
    let taken = RUNS.of(engine, rgb)?;
    let [min, median, p99] = ranks(&taken);
    Ok(Times {
        threads,
        runs: taken.len(),
        min,
        median,
        p99,
    })
}

fn table(report: &Report) -> String {
    let Report {
        machine,
        model,
        kernels,
        ms,
        ..
    } = report;
    let mut text = heading(machine) + &format!("{model}, {kernels}, ms\n\n");
    text += &format!(
        "{:<10}{:>8}{:>10}{:>10}{:>10}\n",
        "threads", "runs", "min", "median", "p99"
    );
    for t in ms {
        text += &format!(
            "{:<10}{:>8}{:>10.2}{:>10.2}{:>10.2}\n",
            t.threads, t.runs, t.min, t.median, t.p99
        );
    }
    text
}
