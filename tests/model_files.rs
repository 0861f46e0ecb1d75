//! Model files as they come: good, damaged, foreign, hostile. Each is met by a
//! child process first, and each bad one ends in an error a person can act on.

use elek::infer::engine::Engine;
use elek::infer::graph::{Expected, Facts};
use elek::infer::manifest::{self, ModelInfo};
use elek::infer::sandbox::{self, Limits};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn fixtures() -> PathBuf {
    sandbox::use_program(env!("CARGO_BIN_EXE_elek"));
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn info(model: &str) -> ModelInfo {
    manifest::resolve(&fixtures(), model, None).unwrap()
}

fn load(model: &str) -> anyhow::Result<(Engine, Facts)> {
    let info = info(model);
    let facts = sandbox::examine(&info)?;
    Ok((Engine::load(&info.bytes()?, &info)?, facts))
}

/// Probes `bytes` as if they were the file of `colour.onnx`.
fn probe(bytes: &[u8], limits: Limits) -> anyhow::Result<Facts> {
    sandbox::probe(bytes, &Expected::from(&info("colour.onnx")), limits)
}

fn limits() -> Limits {
    Limits::for_file(1000)
}

fn plain(size: usize, rgb: [u8; 3]) -> Vec<u8> {
    rgb.repeat(size * size)
}

#[test]
fn a_classifier_gives_the_scores_one_reckons_by_hand() {
    for model in ["colour.onnx", "colour_batch.onnx"] {
        let (mut engine, facts) = load(model).unwrap();
        assert_eq!(
            (facts.macs, facts.output_shape.as_slice()),
            (6, &[1, 2][..]),
            "{model}"
        );
        assert_eq!(facts.ops["Gemm"], 1);
        assert!(!facts.quantized());
        // Normalised: red 1, green -1, so the logits differ by 16.
        let red = engine.run(&plain(16, [255, 0, 127])).unwrap().to_vec();
        let logits = [8.0 * (0.0 - 127.0) / 128.0, 8.0 * (255.0 - 127.0) / 128.0f64];
        let wanted = 1.0 / (1.0 + (logits[0] - logits[1]).exp());
        assert!(
            (f64::from(red[1]) - wanted).abs() < 1e-6 && (red[0] + red[1] - 1.0).abs() < 1e-6,
            "{red:?}"
        );
        let mut other = engine.fork().unwrap();
        assert_eq!(other.run(&plain(16, [255, 0, 127])).unwrap(), red);
        assert_eq!(engine.run(&plain(16, [9, 9, 9])).unwrap(), [0.5, 0.5]);
    }
}

#[test]
fn a_mask_marks_what_is_red() {
    let (mut engine, _) = load("red_mask.onnx").unwrap();
    let mut rgb = plain(32, [40, 200, 40]);
    rgb[3 * (5 * 32 + 7)..][..3].copy_from_slice(&[250, 10, 40]);
    let mask = engine.run(&rgb).unwrap();
    let marked: Vec<usize> = (0..mask.len()).filter(|&i| mask[i] > 0.5).collect();
    assert_eq!(marked, [5 * 32 + 7]);
}

#[test]
fn work_is_counted_for_convolutions_and_transposed_ones() {
    let (_, facts) = load("transposed.onnx").unwrap();
    assert_eq!(facts.macs, 16 * 16 * (3 * 4 * 4) + 16 * 16 * (4 * 2 * 2));
    assert_eq!(facts.parameters, 3 * 4 * 4 + 4 * 4);
}

#[test]
fn a_wrong_number_of_bytes_is_refused() {
    let (mut engine, _) = load("colour.onnx").unwrap();
    let error = engine.run(&[0; 10]).unwrap_err().to_string();
    assert_eq!(error, "the input has 10 bytes, the model takes 768");
}

#[test]
fn a_model_that_gives_no_numbers_fails_each_time_and_stays_usable() {
    let (mut engine, _) = load("endless.onnx").unwrap();
    for _ in 0..2 {
        let error = engine.run(&plain(16, [1, 2, 3])).unwrap_err().to_string();
        assert!(error.contains("not finite"), "{error}");
    }
}

#[test]
fn every_truncation_of_a_file_is_an_error_or_a_whole_answer() {
    let bytes = std::fs::read(fixtures().join("colour.onnx")).unwrap();
    let whole = probe(&bytes, limits()).unwrap();
    // The child costs some milliseconds, so a sample of the lengths.
    for length in (0..bytes.len()).step_by(13) {
        match probe(&bytes[..length], limits()) {
            Ok(facts) => assert_eq!(facts, whole, "cut at {length}"),
            Err(error) => readable(&format!("{error:#}")),
        }
    }
}

#[test]
fn flipped_bits_end_in_a_readable_error_or_a_model_of_the_same_shape() {
    let bytes = std::fs::read(fixtures().join("colour.onnx")).unwrap();
    for at in (0..bytes.len()).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        match probe(&damaged, limits()) {
            Ok(facts) => assert_eq!(facts.output_shape, [1, 2], "byte {at}"),
            Err(error) => readable(&format!("{error:#}")),
        }
    }
}

/// What a technician can be shown: one line, not too long, no back-trace.
fn readable(error: &str) {
    assert!(
        !error.is_empty() && error.len() < 600 && !error.contains('\n'),
        "{error:?}"
    );
    assert!(
        !error.contains("is not elek"),
        "the child was not our program: {error}"
    );
}

#[test]
fn foreign_files_are_told_apart_from_models() {
    let manifest = std::fs::read(fixtures().join("manifest.toml")).unwrap();
    for bytes in [
        &b""[..],
        b"\x89PNG\r\n\x1a\n",
        b"\x7fELF\x02\x01\x01",
        &manifest,
        &[0xff; 4096],
    ] {
        let error = format!("{:#}", probe(bytes, limits()).unwrap_err());
        assert!(
            error.starts_with("this is not an ONNX file, or a damaged one"),
            "{error}"
        );
        readable(&error);
    }
}

#[test]
fn a_model_of_other_shape_or_names_than_the_manifest_says_is_refused() {
    let bytes = std::fs::read(fixtures().join("colour.onnx")).unwrap();
    for (size, input, output, words) in [
        (
            32,
            "image",
            "logits",
            "the manifest says that the input is [1, 3, 32, 32], the graph says [1, 3, 16, 16]",
        ),
        (
            16,
            "picture",
            "logits",
            "the manifest names one input \"picture\", the graph has [\"image\"]",
        ),
        (
            16,
            "image",
            "mask",
            "the manifest names the output \"mask\", the graph has [\"logits\"]",
        ),
    ] {
        let error = sandbox::probe(&bytes, &Expected { size, input, output }, limits()).unwrap_err();
        assert_eq!(error.to_string(), words);
    }
    let more = ModelInfo {
        labels: vec!["a".into(), "b".into(), "c".into()],
        ..info("colour.onnx")
    };
    let error = format!("{:#}", sandbox::examine(&more).unwrap_err());
    assert!(error.contains("3 labels need [1, 3]"), "{error}");
}

#[test]
fn a_model_that_asks_for_all_memory_is_refused() {
    let error = format!("{:#}", load("greedy.onnx").unwrap_err());
    assert!(
        error.contains("greedy.onnx") && error.contains("memory"),
        "{error}"
    );
    readable(&error);
    // A megabyte to read needs memory that the child, already larger than its limit, cannot get.
    let bytes = elek::infer::builtin::file("cap-segment.int8.onnx").expect("it is shipped");
    let error = probe(
        bytes,
        Limits {
            memory_bytes: 16 << 20,
            ..limits()
        },
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("more than 16 MB of memory"), "{error}");
}

#[test]
fn a_child_that_takes_too_long_is_ended() {
    let bytes = std::fs::read(fixtures().join("colour.onnx")).unwrap();
    let error = probe(
        &bytes,
        Limits {
            wall: Duration::ZERO,
            ..limits()
        },
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("longer than 0 s"), "{error}");
}

#[test]
fn the_hidden_subcommand_is_not_for_people() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_elek"))
        .arg(sandbox::SUBCOMMAND)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("started by elek itself"), "{text}");
}
