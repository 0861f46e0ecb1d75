use super::*;
use crate::simulate::replay::{Outcome, replay};
use crate::station::PlantedBug;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of a normal test run. `ELEK_SEEDS=FIRST..LAST` takes others.
const SEEDS: std::ops::Range<u64> = 0..1_000;

fn seeds() -> std::ops::Range<u64> {
    let Ok(range) = std::env::var("ELEK_SEEDS") else {
        return SEEDS;
    };
    let (first, last) = range.split_once("..").expect("ELEK_SEEDS is FIRST..LAST");
    first.parse().expect("a number")..last.parse().expect("a number")
}

/// Runs seeds on all cores and returns what failed, in order of seeds.
fn failures(seeds: std::ops::Range<u64>, bug: Option<PlantedBug>, stop: bool) -> Vec<(u64, Failure)> {
    quiet_panics();
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let one = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return failed;
            }
            if let Err(failure) = run(seed, bug, None) {
                failed.push((seed, failure));
                if stop {
                    next.store(seeds.end, Ordering::Relaxed);
                }
            }
        }
    };
    let mut failed: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().expect("no panic outside the core"))
            .collect()
    });
    failed.sort_by_key(|f| f.0);
    failed
}

#[test]
fn nothing_wrong_happens() {
    let failed = failures(seeds(), None, false);
    for (seed, failure) in failed.iter().take(100) {
        eprintln!("seed {seed}: {failure}");
        if let Ok(dir) = std::env::var("ELEK_TRACES") {
            let mut lines = Vec::new();
            let _ = run(*seed, None, Some(&mut lines));
            let path = std::path::Path::new(&dir).join(format!("seed-{seed}.jsonl"));
            trace::write(&path, &lines).expect("a trace");
        }
    }
    assert!(
        failed.is_empty(),
        "{} seeds fail; `elek simulate --seed S` shows one",
        failed.len()
    );
}

/// The bug is found within the usual seeds, and its trace leads to the same failure again.
fn is_found(bug: PlantedBug) {
    let failed = failures(SEEDS, Some(bug), true);
    let (seed, failure) = failed.first().unwrap_or_else(|| panic!("{bug:?} is not found"));
    run(*seed, None, None).expect("without the bug nothing is wrong with this seed");
    eprintln!("{bug:?} is found by seed {seed}: {failure}");
    let mut lines = Vec::new();
    let again = run(*seed, Some(bug), Some(&mut lines)).expect_err("the same seed fails again");
    assert_eq!(again, *failure, "the same seed, the same failure");
    assert_eq!(replay(&lines, Some(bug)), Outcome::Same(again), "the trace, too");
}

macro_rules! planted {
    ($($name:ident: $bug:ident;)*) => {$(
        #[test]
        fn $name() {
            is_found(PlantedBug::$bug);
        }
    )*};
}
planted! {
    finds_firing_from_the_arrival_of_the_result: FireFromArrival;
    finds_a_dropped_late_verdict: DropLateVerdict;
    finds_a_picture_of_the_neighbour: OffByOnePart;
    finds_a_lost_merge: LostMerge;
    finds_an_ignored_slip: IgnoredSlip;
    finds_a_confirmation_for_the_neighbour: ConfirmToNeighbour;
    finds_a_number_used_twice: NumberReused;
    finds_an_on_time_that_is_not_enforced: OnTimeNotEnforced;
    finds_a_permit_after_restart: PermitAfterRestart;
    finds_a_changeover_judged_by_the_new_recipe: ChangeoverNewRecipe;
    finds_parts_left_on_the_belt_that_pass_in_silence: LeftPartsExcused;
}

#[test]
fn a_run_without_a_failure_replays_without_one() {
    let mut lines = Vec::new();
    let seed = SEEDS
        .clone()
        .find(|&seed| run(seed, None, None).is_ok())
        .expect("a good seed");
    run(seed, None, Some(&mut lines)).expect("as before");
    let text: Vec<_> = lines
        .iter()
        .map(|l| serde_json::to_string(l).expect("a line"))
        .collect();
    let read: Vec<trace::Line> = text
        .iter()
        .map(|l| serde_json::from_str(l).expect("a line"))
        .collect();
    assert_eq!(
        replay(&read, None),
        Outcome::Nothing,
        "also after writing and reading"
    );
}

/// Twice as many seeds as kinds of faults, and each kind was drawn: nothing is left out by accident.
#[test]
fn every_kind_of_fault_is_drawn() {
    let drawn: std::collections::HashSet<_> = (0..100)
        .flat_map(|seed| describe(seed).1.kinds)
        .map(|kind| format!("{kind:?}"))
        .collect();
    assert_eq!(drawn.len(), super::super::faults::KINDS.len());
}
