//! A clock that steps changes nothing: decisions know `CLOCK_MONOTONIC` only, which nobody
//! can set. Wall-clock time may be written into records, for people.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Places that read the wall clock, outside the folders that may.
fn offences(files: &[(PathBuf, String)]) -> Vec<String> {
    const WALL_CLOCK: [&str; 5] = [
        "SystemTime",
        "UNIX_EPOCH",
        "ClockId::Realtime",
        "TimerfdClockId::Realtime",
        "CLOCK_REALTIME",
    ];
    let mut offences = Vec::new();
    for (path, text) in files {
        if path.starts_with("record") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if WALL_CLOCK.iter().any(|name| line.contains(name)) {
                offences.push(format!("src/{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    offences
}

#[test]
fn only_the_record_knows_the_time_of_day() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_path_buf(), text)
    };
    let files: Vec<_> = paths.into_iter().map(read).collect();
    assert!(
        files.iter().any(|(path, _)| path == Path::new("device/clock.rs")),
        "the sources are not found"
    );
    let offences = offences(&files);
    assert!(
        offences.is_empty(),
        "the wall clock is read outside record/:\n{}",
        offences.join("\n")
    );
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let file = |path: &str, text: &str| (PathBuf::from(path), text.to_string());
    let files = [
        file("station/belt.rs", "let t = std::time::SystemTime::now();"),
        file("record/journal.rs", "let t = std::time::SystemTime::now();"),
        file("device/clock.rs", "clock_gettime(ClockId::Monotonic)"),
    ];
    assert_eq!(
        offences(&files),
        ["src/station/belt.rs:1: let t = std::time::SystemTime::now();"]
    );
}
