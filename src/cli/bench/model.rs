//! `elek bench --model`: how long an inference takes, by the number of threads that share it.

use crate::infer::engine::Engine;
use crate::infer::manifest;
use crate::infer::sandbox;
use crate::kernels::isa::Isa;
use crate::kernels::team::{THREADS_MAX, Team};
use anyhow::{Context, Result};
use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs whose time is thrown away.
const WARM_UP: usize = 5;
/// For each number of threads: enough for a steady median; slow models end by time.
const RUNS_MAX: usize = 300;
const RUNS_TIME: Duration = Duration::from_secs(4);

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
    let text = match json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => table(&report),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn measure(engine: &mut Engine, rgb: &[u8], threads: usize) -> Result<Times> {
    for _ in 0..WARM_UP {
        engine.run(rgb)?;
    }
    let start = Instant::now();
    let mut taken = Vec::with_capacity(RUNS_MAX);
    while taken.is_empty() || (taken.len() < RUNS_MAX && start.elapsed() < RUNS_TIME) {
        let run = Instant::now();
        engine.run(rgb)?;
        taken.push(run.elapsed().as_secs_f64() * 1e3);
    }
    taken.sort_by(f64::total_cmp);
    let rank = |share: usize| taken[(taken.len() - 1) * share / 100];
    Ok(Times {
        threads,
        runs: taken.len(),
        min: rank(0),
        median: rank(50),
        p99: rank(99),
    })
}

fn table(report: &Report) -> String {
    let Report {
        version,
        machine,
        model,
        kernels,
        ms,
    } = report;
    let build = match cfg!(debug_assertions) {
        true => " (development build: release builds are faster)",
        false => "",
    };
    let mut text = format!("elek {version}{build} on {machine}\n{model}, {kernels}, ms\n\n");
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
