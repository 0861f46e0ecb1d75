//! `--kernels` and `ELEK_KERNELS`: which instructions a command uses, and what it says about them.

use elek::infer::graph::Expected;
use elek::infer::sandbox::{self, Limits};
use elek::kernels::isa::Isa;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

fn elek(arguments: &[&str], kernels: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_elek"));
    command.args(arguments).env_remove("ELEK_KERNELS");
    if let Some(name) = kernels {
        command.env("ELEK_KERNELS", name);
    }
    command.output().expect("the program of this package runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("elek speaks UTF-8")
}

/// What `elek model info` says of a shipped model.
fn info(before: &[&str], kernels: Option<&str>, model: &str) -> serde_json::Value {
    let arguments = [before, &["model", "info", "--json", model]].concat();
    let output = elek(&arguments, kernels);
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{errors}");
    serde_json::from_str(&out).expect("--json prints JSON")
}

fn used(before: &[&str], kernels: Option<&str>) -> String {
    let info = info(before, kernels, "builtin:cap-classify");
    info["kernels"].as_str().expect("a name").to_owned()
}

#[test]
fn the_shipped_models_are_integers_but_for_a_hundredth() {
    for model in ["builtin:cap-classify", "builtin:cap-segment"] {
        let info = info(&[], None, model);
        let work = |key: &str| info["integers"][key].as_f64().expect("multiply-accumulates");
        let share = work("macs") / (work("macs") + work("float_macs"));
        assert!(share >= 0.99, "{model}: {share}");
        let left = info["integers"]["left"].as_array().expect("what tract does");
        assert!(left.is_empty(), "{model}: {left:?}");
    }
}

#[test]
fn the_best_is_used_unless_another_is_named() {
    let best = Isa::all()
        .last()
        .expect("there is always the portable one")
        .name();
    assert_eq!(used(&[], None), best);
    assert_eq!(used(&["--kernels", "portable"], None), "portable");
    assert_eq!(used(&[], Some("Portable")), "portable");
    // What is said with the command comes before what was said for all.
    assert_eq!(used(&["--kernels", best], Some("portable")), best);
}

#[test]
fn the_probe_names_all_and_the_one_in_use() {
    let output = elek(&["probe", "--kernels", "portable"], None);
    let out = text(&output.stdout);
    assert!(out.contains("; in use: portable"), "{out}");
    for isa in Isa::all() {
        assert!(out.contains(isa.name()), "{out}");
    }
}

#[test]
fn what_this_processor_lacks_ends_with_2_and_the_names_that_it_has() {
    let output = elek(
        &["--kernels", "AltiVec", "model", "info", "builtin:cap-classify"],
        None,
    );
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("this processor has portable"), "{errors}");
}

/// The process that loads a model first gets no environment.
#[test]
fn the_process_that_loads_a_model_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (program, told) = (folder.path().join("program"), folder.path().join("told"));
    let script = format!("#!/bin/sh\necho \"$*\" >'{}'\n", told.display());
    std::fs::write(&program, script).expect("writes to a temporary folder");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).expect("it is the test's own file");
    sandbox::use_program(&program);
    let expected = Expected {
        size: 8,
        input: "in",
        output: "out",
    };
    let answer = sandbox::probe(&[], &expected, Limits::for_file(0));
    assert!(answer.is_err(), "a script answers nothing");
    let told = std::fs::read_to_string(told).expect("the script ran");
    let wanted = format!("--kernels {} {} ", Isa::best().name(), sandbox::SUBCOMMAND);
    assert!(told.starts_with(&wanted), "{told}");
}
