//! `elek check` and `elek config` as a script meets them: output and exit codes.

use std::path::Path;
use std::process::{Command, Output};

fn elek(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_elek"))
        .args(arguments)
        .output()
        .expect("the program of this package runs")
}

fn file(folder: &Path, text: &str) -> String {
    let path = folder.join("elek.toml");
    std::fs::write(&path, text).expect("writes to a temporary folder");
    path.to_str()
        .expect("temporary folders have plain names")
        .to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("elek speaks UTF-8")
}

#[test]
fn the_default_is_printed_and_passes_its_own_check() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let printed = elek(&["config", "default"]);
    assert!(printed.status.success());
    let file = file(folder.path(), &text(&printed.stdout));
    let checked = elek(&["check", &file]);
    let (out, errors) = (text(&checked.stdout), text(&checked.stderr));
    assert!(checked.status.success(), "{out}{errors}");
    assert!(out.contains("can work"), "{out}");
    assert!(!out.contains("WARN"), "{out}");
}

#[test]
fn a_bad_file_ends_with_2_and_says_where() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bad = file(
        folder.path(),
        &elek::config::DEFAULT.replace("coast_mm = 220.0", "coast_mm = \"80\""),
    );
    let checked = elek(&["check", &bad]);
    assert_eq!(checked.status.code(), Some(2));
    let errors = text(&checked.stderr);
    assert!(
        errors.contains("`belt.coast_mm` must be a number, not a string"),
        "{errors}"
    );
    assert!(errors.contains("elek.toml:24:12"), "{errors}");
}

#[test]
fn what_cannot_work_ends_with_2_and_shows_all_of_the_arithmetic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text_of = elek::config::DEFAULT.replace("decide_within_ms = 350", "decide_within_ms = 900");
    let checked = elek(&["check", &file(folder.path(), &text_of)]);
    assert_eq!(checked.status.code(), Some(2));
    let out = text(&checked.stdout);
    assert!(out.contains("ERROR  deadline"), "{out}");
    assert!(out.contains("ok     blur"), "{out}");
}

#[test]
fn json_is_for_scripts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bad = file(
        folder.path(),
        &elek::config::DEFAULT.replace("coast_mm = 220.0", "coast_mm = -1"),
    );
    let checked = elek(&["check", "--json", &bad]);
    assert_eq!(checked.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("prints JSON");
    assert_eq!(json["ok"], false);
    let problem = &json["problems"][0];
    assert_eq!(
        (problem["line"].as_u64(), problem["column"].as_u64()),
        (Some(24), Some(12))
    );
    assert!(
        problem["title"]
            .as_str()
            .is_some_and(|title| title.contains("coast_mm"))
    );
}

#[test]
fn migrating_says_that_there_is_nothing_to_do_or_why_it_cannot() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = file(folder.path(), elek::config::DEFAULT);
    let done = elek(&["config", "migrate", &first]);
    assert!(done.status.success());
    assert!(text(&done.stdout).contains("nothing to do"));
    let newer = file(folder.path(), "schema = 7\nwhatever = 1\n");
    let refused = elek(&["config", "migrate", &newer]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("schema 7, newer than this elek reads"));
    let missing = elek(&["config", "migrate", "/nonexistent/elek.toml"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn a_level_for_the_log_may_be_in_capitals_and_one_that_there_is_not_is_refused() {
    let capitals = elek(&["--log", "OFF", "config", "default"]);
    assert!(capitals.status.success(), "{}", text(&capitals.stderr));
    let unknown = elek(&["--log", "debugg", "config", "default"]);
    let errors = text(&unknown.stderr);
    assert!(!unknown.status.success() && unknown.stdout.is_empty());
    assert!(
        errors.contains("'debugg'") && errors.contains("a similar value exists: 'debug'"),
        "{errors}"
    );
}
