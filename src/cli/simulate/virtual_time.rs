//! Seeds of the virtual-time simulation, and replays of their traces.

use crate::simulate::replay::{Outcome, replay_file};
use crate::simulate::virtual_run::{self, Tally};
use crate::simulate::{check::Failure, trace};
use anyhow::Result;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Failed seeds shown one by one; more say nothing new.
const SHOWN_MAX: usize = 20;

/// Runs `count` seeds on all cores; failed ones are shown and the first gets a trace.
pub fn seeds(first: u64, count: u64, traces: &Path) -> Result<ExitCode> {
    virtual_run::quiet_panics();
    let begun = Instant::now();
    let last = first.saturating_add(count);
    let next = AtomicU64::new(first);
    let sum = Mutex::new((Tally::default(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last {
                return;
            }
            let result = virtual_run::simulate(seed, None);
            // Only a panic of this very closure could have poisoned it.
            let Ok(mut sum) = sum.lock() else { return };
            match result {
                Ok(tally) => sum.0.add(&tally),
                Err(failure) => sum.1.push((seed, failure)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (tally, mut failed) = sum.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    failed.sort_by_key(|f| f.0);
    println!(
        "{count} seeds in {:.1} s: {} events, {} parts, {} removed, {} starts, {} acknowledges, {} faults",
        begun.elapsed().as_secs_f64(),
        tally.events,
        tally.crossed,
        tally.removed,
        tally.restarts,
        tally.acknowledges,
        tally.faults
    );
    for (seed, failure) in failed.iter().take(SHOWN_MAX) {
        println!("seed {seed} fails {failure}");
    }
    match failed.first() {
        None => {
            println!("nothing wrong happened");
            Ok(ExitCode::SUCCESS)
        }
        Some((seed, failure)) => {
            println!("{} of {count} seeds fail", failed.len());
            write_trace(*seed, failure, traces)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Runs one seed and shows what it drew.
pub fn one(seed: u64, traces: &Path) -> Result<ExitCode> {
    virtual_run::quiet_panics();
    let (line, plan) = virtual_run::describe(seed);
    let c = &line.config;
    println!("seed {seed}");
    println!("belt     {:?}", c.belt);
    println!("trigger  {:?}", c.trigger);
    println!(
        "camera   {:?}, {} at {:.1} µm/px",
        c.cameras[0].mode, c.cameras[0].distance, c.cameras[0].um_per_px
    );
    println!("reject   {:?}", c.reject);
    println!("verify   {:?}", c.verify);
    println!("line     {:?}", line.world);
    println!("faults   {:?}", plan.kinds);
    for (at, fault) in &plan.faults {
        println!("  {:>12.3} ms  {fault:?}", at.as_micros() as f64 / 1_000.0);
    }
    match virtual_run::simulate(seed, None) {
        Ok(tally) => {
            println!("nothing wrong happened: {tally:?}");
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            println!("fails {failure}");
            write_trace(seed, &failure, traces)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn write_trace(seed: u64, failure: &Failure, folder: &Path) -> Result<()> {
    let mut lines = Vec::new();
    // It fails as before: everything follows from the seed.
    let _ = virtual_run::simulate(seed, Some(&mut lines));
    let path = folder.join(format!("elek-seed-{seed}.jsonl"));
    trace::write(&path, &lines)?;
    println!(
        "seed {seed} ({}): again by `elek simulate --seed {seed}`",
        failure.rule
    );
    println!("its events: `elek simulate --replay {}`", path.display());
    Ok(())
}

/// Exit code 1 when a failure was found, the expected one or another.
pub fn replay(file: &Path) -> Result<ExitCode> {
    virtual_run::quiet_panics();
    let lines = trace::read(file)?;
    match replay_file(&lines) {
        Outcome::Same(failure) => println!("the same failure again: {failure}"),
        Outcome::Other {
            expected: Some(expected),
            found,
        } => {
            println!("another failure: {found}");
            println!("the trace ends with: {expected}");
        }
        Outcome::Other {
            expected: None,
            found,
        } => println!("a failure that the trace does not have: {found}"),
        Outcome::Gone(expected) => {
            println!("no failure any more; the trace ends with: {expected}");
            return Ok(ExitCode::SUCCESS);
        }
        Outcome::Nothing => {
            println!("no failure, as in the trace");
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::FAILURE)
}
