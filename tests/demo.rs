//! The whole station as a user runs it: the binary, its output process, real time.
//! What is asserted is what happened and in which order; never how long it took.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn elek(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_elek"))
        .args(args)
        .current_dir(dir)
        .output()
        .expect("the binary under test starts")
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_demo_accounts_for_every_part_and_leaves_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let output = elek(&["demo", "--seconds", "6", "--json"], dir.path());
    let summary = json(&output);
    assert!(output.status.success(), "{summary:#}");
    let count = |key: &str| summary["counts"][key].as_u64().unwrap();
    assert!(count("seen") > 5, "{summary:#}");
    assert_eq!(count("seen"), summary["truth"]["crossed"].as_u64().unwrap());
    assert!(
        count("passed") + count("confirmed") > 0,
        "nothing reached the end of the belt: {summary:#}"
    );
    // No part is fed after the time limit, and the last one is seen off the belt. A machine so slow that
    // it stopped the line for a person leaves parts where they are, and says why.
    assert!(
        count("in_flight") == 0 || !summary["alarms"].as_array().unwrap().is_empty(),
        "{summary:#}"
    );
    let out = dir.path().join("elek-demo");
    let png = image::open(out.join("display.png")).unwrap();
    assert_eq!((png.width(), png.height()), (480, 320));
    assert!(out.join("journal.sqlite").exists());
}

#[test]
fn a_folder_that_no_demo_wrote_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("mine")).unwrap();
    let file = dir.path().join("mine/thesis.txt");
    std::fs::write(&file, "years of work").unwrap();
    let output = elek(&["demo", "--seconds", "1", "--out", "mine"], dir.path());
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("files that no demo wrote"));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "years of work");
}

#[test]
fn a_folder_of_pictures_runs_as_a_camera_until_its_last_picture() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("pictures");
    std::fs::create_dir(&folder).unwrap();
    for n in 0..4 {
        let picture = image::RgbImage::from_pixel(96, 64, image::Rgb([90, 100 + n, 110]));
        picture.save(folder.join(format!("{n}.png"))).unwrap();
    }
    std::fs::write(folder.join("broken.png"), "not a picture").unwrap();
    std::fs::write(dir.path().join("line.toml"), folder_config()).unwrap();

    let check = elek(&["check", "line.toml"], dir.path());
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
    let (output, threads) = run_attended(
        &["run", "--config", "line.toml", "--seconds", "60", "--json"],
        dir.path(),
    );
    let said = String::from_utf8_lossy(&output.stderr);
    let summary = json(&output);
    assert!(output.status.success(), "{said}");
    assert!(summary["balances"].as_bool().unwrap(), "{summary:#}\n{said}");
    assert!(
        summary["counts"]["seen"].as_u64().unwrap() >= 4,
        "{summary:#}\n{said}"
    );
    assert!(said.contains("broken.png is skipped"), "{summary:#}\n{said}");
    let inference = threads.iter().filter(|(name, _)| name.starts_with("infer-"));
    let inference: Vec<_> = inference.collect();
    assert_eq!(inference.len(), inference_threads(), "{threads:?}");
    // SCHED_FIFO and SCHED_RR are 1 and 2.
    assert!(
        inference.iter().all(|(_, policy)| !matches!(policy, 1 | 2)),
        "{inference:?}"
    );
}

/// As many as the machine has, but no more than two.
fn inference_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().min(2))
}

/// Runs a station with a person beside it, who acknowledges what stops the belt: on a machine that
/// stands still for a moment, a late verdict does. Gives its threads, too, by name and scheduling policy.
fn run_attended(args: &[&str], dir: &Path) -> (Output, BTreeSet<(String, u32)>) {
    let mut station = Command::new(env!("CARGO_BIN_EXE_elek"))
        .args(args)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary under test starts");
    let mut threads = BTreeSet::new();
    while station.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(500));
        let tasks = std::fs::read_dir(format!("/proc/{}/task", station.id()));
        for task in tasks.into_iter().flatten().flatten() {
            // Of one that has ended meanwhile there is nothing to be read.
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            threads.extend(name_and_policy(&stat));
        }
        // Before the station listens and after it has ended, this fails: as it should.
        elek(&["ack", "--socket", "elek-data"], dir);
    }
    (station.wait_with_output().unwrap(), threads)
}

/// Of a line of /proc/PID/task/TID/stat, see proc(5): field 41.
fn name_and_policy(stat: &str) -> Option<(String, u32)> {
    let (start, fields) = stat.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let policy = fields.split_whitespace().nth(41 - 3)?;
    Some((name.to_owned(), policy.parse().ok()?))
}

/// The default line with a folder in place of its camera, looking at whole pictures, with a helper for each inference.
fn folder_config() -> String {
    let text = elek::config::DEFAULT;
    let (head, rest) = text.split_once("[camera.top.source.simulated]").unwrap();
    let (_, tail) = rest.split_once("[reject.air-blast]").unwrap();
    let folder = "[camera.top.source.folder]\npath = \"pictures\"\nparts_per_s = 4.0\nrepeat = false\n\n";
    let inference = format!("\n[inference]\nthreads = {}\n", inference_threads());
    format!("{head}{folder}[reject.air-blast]{tail}{inference}").replace(
        "crop = { around = \"part\", margin_mm = 4.0 }",
        "crop = { around = \"picture\", fit = \"letterbox\" }",
    )
}

#[test]
fn a_config_that_cannot_be_used_ends_with_code_2_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.toml"), "schema = 1\n[beltt]\n").unwrap();
    let output = elek(&["run", "--config", "bad.toml"], dir.path());
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("bad.toml:2"), "{said}");
    let output = elek(&["run", "--config", "nowhere.toml"], dir.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere.toml"));
}

#[test]
fn the_pipeline_bench_brings_every_part_to_a_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let output = elek(&["bench", "--pipeline", "--json"], dir.path());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(json(&output).to_string().contains("frame to verdict"));
}

#[test]
fn the_model_bench_gives_times_for_each_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let bench = [
        "bench",
        "--model",
        "builtin:cap-segment",
        "--threads",
        "3",
        "--json",
    ];
    let output = elek(&bench, dir.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report = json(&output);
    let threads: Vec<_> = report["ms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["threads"].as_u64().unwrap())
        .collect();
    assert_eq!(threads, [1, 2, 3]);
    assert!(report["ms"][2]["min"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn the_jitter_bench_fires_every_pulse_without_load_and_with() {
    let dir = tempfile::tempdir().unwrap();
    let bench = ["bench", "--output-jitter", "--pulses", "20", "--disk", "."];
    let output = elek(&[&bench[..], &["--json"]].concat(), dir.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report = json(&output);
    let runs = report["runs"].as_array().expect("two runs");
    assert_eq!(runs.len(), 2);
    for run in runs {
        // How late they were is this machine's matter; every one of them is accounted for.
        let over = run["off"]["count"].as_u64().unwrap() + run["missed"].as_u64().unwrap();
        assert!(over >= 20, "{run}");
        let classes = run["histogram"].as_array().unwrap();
        let counted: u64 = classes.iter().map(|class| class[1].as_u64().unwrap()).sum();
        assert_eq!(
            counted,
            run["on"]["count"].as_u64().unwrap() + run["off"]["count"].as_u64().unwrap()
        );
    }
    let output = elek(&[&bench[..], &["--speed-mm-s", "400"]].concat(), dir.path());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("At 400 mm/s the belt moves"), "{said}");
}
