//! `elek evaluate` and `elek model info` as a person runs them, on pictures and
//! models small enough to know the answer.

use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn elek(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_elek"))
        .args(["--log", "error"])
        .args(args)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The default configuration with another recipe of whole pictures, 1 mm per pixel.
fn config(folder: &Path) -> PathBuf {
    let text = elek::config::DEFAULT;
    let (head, rest) = text.split_once("[recipe.cap-28mm]").unwrap();
    let (_, tail) = rest.split_once("[record]").unwrap();
    let models = fixtures();
    let recipe = format!(
        r#"[recipe.cap-28mm]
part_mm = {{ min = 26.0, max = 30.0 }}
gap_min_mm = 18.0
aim_mm = 2.0
pulse = {{ margin_mm = 3.0, min_ms = 15 }}
crop = {{ around = "picture", fit = "letterbox" }}
classify = {{ model = {:?}, sha256 = {:?} }}
segment = {{ model = {:?}, sha256 = {:?} }}
pass_if = ["green >= 0.5", "defect.area_mm2 <= 20"]
reject_if = ["red >= 0.7", "defect.area_mm2 > 50"]
otherwise = {{ verdict = "unsure", action = "reject", keep_picture = true }}
late_result = "reject"
decide_within_ms = 350

[record]"#,
        models.join("colour.onnx"),
        hash("colour.onnx"),
        models.join("red_mask.onnx"),
        hash("red_mask.onnx"),
    );
    // Pictures of the fixtures' own size, so that a mask pixel is a pixel of the picture.
    let head = head
        .replace("mm_per_px = 0.12", "mm_per_px = 1.0")
        .replace("width = 640, height = 480", "width = 32, height = 32");
    let text = head + &recipe + tail;
    let path = folder.join("line.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn hash(model: &str) -> String {
    let bytes = std::fs::read(fixtures().join(model)).unwrap();
    elek::infer::manifest::hex(&elek::infer::manifest::sha256(&bytes))
}

/// Green, 32 × 32, with a red square of `side` pixels, and its mask.
fn picture(folder: &Path, name: &str, side: u32) {
    let red = |x: u32, y: u32| (4..4 + side).contains(&x) && (4..4 + side).contains(&y);
    let picture = RgbImage::from_fn(32, 32, |x, y| {
        Rgb(if red(x, y) { [255, 0, 0] } else { [0, 255, 0] })
    });
    picture.save(folder.join(format!("{name}.png"))).unwrap();
    let mask = GrayImage::from_fn(32, 32, |x, y| Luma([if red(x, y) { 60 } else { 0 }]));
    mask.save(folder.join(format!("{name}.mask.png"))).unwrap();
}

/// Clean, small spot (unsure), large spot, all red, and a spot labelled good; then what is broken.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, side) in [("clean", 0), ("small", 6), ("large", 8), ("all", 28), ("tiny", 3)] {
        picture(dir.path(), name, side);
    }
    std::fs::write(dir.path().join("empty.png"), b"").unwrap();
    std::fs::write(dir.path().join("text.jpg"), b"no picture at all").unwrap();
    let whole = std::fs::read(dir.path().join("clean.png")).unwrap();
    std::fs::write(dir.path().join("cut.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(dir.path().join("cut.jpg"), [0xff, 0xd8, 0xff, 0xe0, 0, 16]).unwrap();
    let labels = "file,split,label,mask\n\
        clean.png,test,good,\nsmall.png,test,spot,small.mask.png\nlarge.png,test,spot,large.mask.png\n\
        all.png,test,spot,all.mask.png\ntiny.png,test,spot,tiny.mask.png\nlarge.png,test,good,\n\
        empty.png,test,good,\ntext.jpg,test,good,\ncut.png,test,good,\ncut.jpg,test,good,\ngone.png,test,good,\n\
        clean.png,train,good,\n";
    std::fs::write(dir.path().join("labels.csv"), labels).unwrap();
    dir
}

#[test]
fn verdicts_are_counted_against_labels_and_broken_pictures_do_not_stop_it() {
    let dir = folder();
    let (config, labels, dump) = (
        config(dir.path()),
        dir.path().join("labels.csv"),
        dir.path().join("dump"),
    );
    let args = |more: &[&'static str]| -> Vec<String> {
        let own = [
            "evaluate",
            "--config",
            config.to_str().unwrap(),
            "--labels",
            labels.to_str().unwrap(),
        ];
        own.iter().chain(more).map(|s| (*s).to_owned()).collect()
    };
    let run = |args: Vec<String>| elek(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut with_dump = args(&["--split", "test", "--json"]);
    with_dump.extend(["--dump".to_owned(), dump.display().to_string()]);
    let json: Value = serde_json::from_str(&stdout(&run(with_dump))).unwrap();
    assert_eq!(json["pictures"], 6);
    let broken: Vec<&str> = json["broken"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["file"].as_str().unwrap())
        .collect();
    assert_eq!(
        broken,
        ["empty.png", "text.jpg", "cut.png", "cut.jpg", "gone.png"]
    );
    let spot = &json["labels"]["spot"];
    // 36 mm² lies between the limits, 64 above, 9 below; all red is settled by the scores.
    assert_eq!(
        (&spot["pass"], &spot["unsure"], &spot["reject"]),
        (&1.into(), &1.into(), &2.into()),
        "{json:#}"
    );
    assert_eq!(
        (&json["escapes"]["count"], &json["escapes"]["of"]),
        (&1.into(), &4.into())
    );
    assert_eq!(
        (&json["false_rejects"]["count"], &json["false_rejects"]["of"]),
        (&1.into(), &2.into())
    );
    assert_eq!(
        (&json["dice"]["mean"], &json["dice"]["without_mask"]),
        (&1.0.into(), &1.into())
    );
    let lines = std::fs::read_to_string(&dump).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((lines.lines().count(), &first["verdict"]), (6, &"pass".into()));
    assert!(first["scores"]["green"].as_f64().unwrap() > 0.99);

    let text = stdout(&run(args(&[])));
    assert!(
        text.contains("5 pictures could not be read") && text.contains("gone.png"),
        "{text}"
    );
    assert!(text.contains("Clopper-Pearson") && text.contains("p99"), "{text}");
}

#[test]
fn a_wrong_list_or_configuration_is_told() {
    let dir = folder();
    let config = config(dir.path());
    let labels = dir.path().join("labels.csv");
    let run = |config: &Path, labels: &Path, more: &[&str]| {
        let own = [
            "evaluate",
            "--config",
            config.to_str().unwrap(),
            "--labels",
            labels.to_str().unwrap(),
        ];
        let output = elek(&own.iter().chain(more).copied().collect::<Vec<_>>());
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&config, &dir.path().join("none.csv"), &[]).contains("cannot read the labels"));
    assert!(run(&config, &labels, &["--split", "nothing"]).contains("no picture is listed"));
    assert!(run(&config, &labels, &["--recipe", "other"]).contains("the configuration has: cap-28mm"));
    let text = std::fs::read_to_string(&config)
        .unwrap()
        .replace(&hash("colour.onnx"), &"0".repeat(64));
    std::fs::write(&config, text).unwrap();
    let error = run(&config, &labels, &[]);
    assert!(
        error.contains("000000000000") && error.contains(&hash("colour.onnx")[..12]),
        "{error}"
    );
}

#[test]
fn a_model_is_described_with_a_line_for_the_recipe() {
    let model = fixtures().join("red_mask.onnx");
    let text = stdout(&elek(&["model", "info", model.to_str().unwrap()]));
    for words in [
        "red_mask, segment, f32",
        "1 × 3 × 32 × 32",
        "1 Conv",
        &hash("red_mask.onnx"),
        "\nsegment = { model =",
    ] {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
    let json: Value = serde_json::from_str(&stdout(&elek(&[
        "model",
        "info",
        "--json",
        model.to_str().unwrap(),
    ])))
    .unwrap();
    assert_eq!(
        (&json["macs"], &json["labels"][0]),
        (&(32 * 32 * 3).into(), &"red".into())
    );
    let line: toml::Table = json["recipe"].as_str().unwrap().parse().unwrap();
    assert_eq!(line["segment"]["sha256"].as_str().unwrap(), hash("red_mask.onnx"));
}

#[test]
fn a_model_that_cannot_be_used_is_told_in_one_line() {
    let greedy = fixtures().join("greedy.onnx");
    let output = elek(&["model", "info", greedy.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && text.lines().count() == 1 && text.contains("memory"),
        "{text}"
    );
    let text = String::from_utf8(elek(&["model", "info", "builtin:nothing"]).stderr).unwrap();
    assert!(text.contains("there is no built-in model \"nothing\""), "{text}");
}
