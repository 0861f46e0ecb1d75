//! Invariants of ARCHITECTURE.md that can be read off the sources: which module
//! may know what. Comments do not count, code does, tests included.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below `src/`, with its path relative to it.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path: PathBuf = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(&root)
                    .expect("below src")
                    .to_string_lossy()
                    .replace('\\', "/");
                files.push((name, fs::read_to_string(&path).expect("sources are UTF-8")));
            }
        }
    }
    assert!(
        files.iter().any(|(name, _)| name == "station/mod.rs"),
        "the sources are where they were"
    );
    files
}

/// The file without comments, for searching. Strings stay: a path in a string is harmless,
/// and none of the words looked for below is one that a message would contain.
fn code(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Files of these modules that contain one of `words`, as `file: word`.
fn findings(of: impl Fn(&str) -> bool, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| of(name)) {
        let code = code(&text);
        found.extend(
            words
                .iter()
                .filter(|word| code.contains(**word))
                .map(|word| format!("{name}: {word}")),
        );
    }
    found
}

fn is_test(name: &str) -> bool {
    name.contains("test") || name.contains("/testing/")
}

#[test]
fn the_core_reads_no_clock_opens_no_file_and_starts_no_thread() {
    let worlds = [
        "std::time",
        "std::fs",
        "std::io",
        "std::net",
        "std::thread",
        "std::process",
        "std::env",
        "std::sync::mpsc",
        "SystemTime",
        "crossbeam",
        "crate::queue",
        "rustix",
        "crate::device",
        "crate::runtime",
        "crate::record",
        "crate::outputs",
        "crate::display",
        "println!",
        "tracing::",
    ];
    assert_eq!(findings(|name| name.starts_with("station/"), &worlds), [""; 0]);
}

#[test]
fn the_core_reckons_in_integers() {
    // Scores and limits of the judgement are floats, and so are the rates that people see.
    let floats = [
        "judge.rs",
        "judge_tests.rs",
        "stats.rs",
        "view.rs",
        "event.rs",
        "tests.rs",
    ];
    let of = |name: &str| {
        name.starts_with("station/") && !floats.iter().any(|float| name.ends_with(float)) && !is_test(name)
    };
    assert_eq!(findings(of, &["f32", "f64"]), [""; 0]);
}

#[test]
fn the_core_keeps_no_map_whose_order_differs_from_run_to_run() {
    let of = |name: &str| name.starts_with("station/");
    assert_eq!(findings(of, &["HashMap", "HashSet", "RandomState"]), [""; 0]);
}

#[test]
fn unsafe_lives_in_device_and_kernels_only() {
    let of = |name: &str| !name.starts_with("device/") && !name.starts_with("kernels/");
    assert_eq!(
        findings(of, &["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait"]),
        [""; 0]
    );
}

#[test]
fn nobody_who_judges_can_see_the_truth() {
    let of = |name: &str| {
        ["vision/", "infer/", "station/"]
            .iter()
            .any(|module| name.starts_with(module))
            && !is_test(name)
    };
    assert_eq!(findings(of, &["simulate::", "crate::cli"]), [""; 0]);
}
