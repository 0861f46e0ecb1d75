use super::*;
use std::fs;

const CLASSIFIER: &str = r#"
format = 1
[[model]]
name = "cap"
task = "classify"
int8 = { file = "cap.int8.onnx", sha256 = "HASH", bytes = 3 }
input = { name = "image", shape = [1, 3, 224, 224], layout = "NCHW", dtype = "f32", channels = "RGB" }
mean = [127.0, 127.0, 127.0]
scale = [128.0, 128.0, 128.0]
recipe = "stretch"
output = { name = "logits", shape = [1, 2], activation = "none" }
labels = ["good", "bad"]
note = "an extra key"
[[model.metric]]
on = "nothing"
"#;

const MODEL: &[u8] = b"not really a model";

/// A folder with the manifest (each `from` replaced by its `to`) and the model.
fn folder(changes: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut text = CLASSIFIER.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in the manifest");
        text = text.replace(from, to);
    }
    fs::write(
        dir.path().join("manifest.toml"),
        text.replace("HASH", &hex(&sha256(MODEL))),
    )
    .unwrap();
    fs::write(dir.path().join("cap.int8.onnx"), MODEL).unwrap();
    dir
}

fn error(changes: &[(&str, &str)]) -> String {
    let dir = folder(changes);
    let text = resolve(dir.path(), "cap.int8.onnx", None)
        .unwrap_err()
        .to_string();
    text.replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn a_model_is_found_with_all_it_says() {
    let dir = folder(&[]);
    let pin = hex(&sha256(MODEL));
    let info = resolve(dir.path(), "cap.int8.onnx", Some(&pin)).unwrap();
    assert_eq!(info.name, "cap");
    assert_eq!(
        (info.task, info.size, info.filter),
        (Task::Classify, 224, Filter::Bilinear)
    );
    assert_eq!(info.labels, ["good", "bad"]);
    assert_eq!(info.bytes().unwrap().as_ref(), MODEL);
    assert!(info.expect(Task::Classify).is_ok());
    assert!(
        info.expect(Task::Segment)
            .unwrap_err()
            .to_string()
            .contains("is a model for `classify`")
    );
}

#[test]
fn the_filter_key_wins_over_the_recipe() {
    let dir = folder(&[(
        "recipe = \"stretch\"",
        "recipe = \"stretch\"\nfilter = \"bicubic\"",
    )]);
    assert_eq!(
        resolve(dir.path(), "cap.int8.onnx", None).unwrap().filter,
        Filter::Bicubic
    );
    assert!(error(&[("recipe = \"stretch\"", "recipe = \"own\"")]).contains("how pictures are shrunk"));
}

#[test]
fn another_file_than_pinned_is_refused_with_both_hashes() {
    let dir = folder(&[]);
    let pin = "ab".repeat(32);
    let by_recipe = resolve(dir.path(), "cap.int8.onnx", Some(&pin)).unwrap_err();
    assert_eq!(by_recipe.about, About::Sha256);
    let found = hex(&sha256(MODEL));
    assert!(by_recipe.message.contains("abababababab") && by_recipe.message.contains(&found[..12]));
    assert!(by_recipe.help.contains(&found));

    fs::write(dir.path().join("cap.int8.onnx"), b"swapped").unwrap();
    let by_manifest = resolve(dir.path(), "cap.int8.onnx", None).unwrap_err();
    assert_eq!(by_manifest.about, About::Model);
    assert!(by_manifest.message.contains("manifest.toml means"));
}

#[test]
fn a_file_that_changes_after_the_check_is_noticed() {
    let dir = folder(&[]);
    let info = resolve(dir.path(), "cap.int8.onnx", None).unwrap();
    fs::write(dir.path().join("cap.int8.onnx"), b"swapped").unwrap();
    assert!(info.bytes().unwrap_err().message.contains("is not the file"));
}

#[test]
fn missing_empty_and_unlisted_files_are_named() {
    let dir = folder(&[]);
    let missing = resolve(dir.path(), "cap.onnx", None).unwrap_err();
    assert!(
        missing.message.contains("does not exist") && missing.help.contains("cap.int8.onnx"),
        "{missing}"
    );
    assert!(
        resolve(dir.path(), ".", None)
            .unwrap_err()
            .message
            .contains("is not a file")
    );
    fs::write(dir.path().join("other.onnx"), MODEL).unwrap();
    let unlisted = resolve(dir.path(), "other.onnx", None).unwrap_err();
    assert!(unlisted.message.contains("no model with the file") && unlisted.help.contains("cap.int8.onnx"));
    fs::write(dir.path().join("other.onnx"), b"").unwrap();
    assert!(
        resolve(dir.path(), "other.onnx", None)
            .unwrap_err()
            .message
            .contains("is empty")
    );
    fs::remove_file(dir.path().join("manifest.toml")).unwrap();
    assert!(
        resolve(dir.path(), "cap.int8.onnx", None)
            .unwrap_err()
            .message
            .contains("there is no manifest.toml")
    );
}

#[test]
fn a_broken_manifest_is_told_by_line() {
    assert!(
        error(&[("[[model]]", "[[model]")]).contains("manifest.toml line 3"),
        "{}",
        error(&[("[[model]]", "[[model]")])
    );
    assert!(error(&[("format = 1", "format = 2")]).contains("this version reads format = 1"));
    let dir = folder(&[]);
    fs::write(dir.path().join("manifest.toml"), b"\xff\xfe").unwrap();
    assert!(
        resolve(dir.path(), "cap.int8.onnx", None)
            .unwrap_err()
            .message
            .contains("not UTF-8")
    );
}

#[test]
fn nonsense_is_refused_in_words() {
    for (from, to, words) in [
        ("\"classify\"", "\"detect\"", "task = \"detect\""),
        ("[1, 3, 224, 224]", "[1, 3, 224, 200]", "input.shape"),
        ("[1, 3, 224, 224]", "[1, 3, 8, 8]", "input.shape"),
        ("\"RGB\"", "\"GBR\"", "input.channels"),
        ("\"NCHW\"", "\"NHWC\"", "input.layout"),
        ("\"f32\"", "\"u8\"", "input.dtype"),
        ("[127.0, 127.0, 127.0]", "[127.0]", "mean = [127.0]"),
        ("[128.0, 128.0, 128.0]", "[128.0, 0.0, 128.0]", "scale has a 0"),
        ("[128.0, 128.0, 128.0]", "[128.0, nan, 128.0]", "scale = "),
        ("\"none\"", "\"relu\"", "output.activation"),
        ("[1, 2]", "[1, 3]", "2 labels for an output of shape [1, 3]"),
        ("[1, 2]", "[2]", "a classifier has [1, labels]"),
        ("[\"good\", \"bad\"]", "[\"good\", \"good\"]", "there twice"),
        ("[\"good\", \"bad\"]", "[]", "no label"),
        ("HASH", "12", "not 64 hexadecimal digits"),
        (
            "labels = [\"good\", \"bad\"]",
            "labels_file = \"../secret\"",
            "file of the same folder",
        ),
        (
            "labels = [\"good\", \"bad\"]",
            "labels_file = \"gone.txt\"",
            "cannot be read",
        ),
    ] {
        let text = error(&[(from, to)]);
        assert!(text.contains(words), "{to}: {text}");
    }
}

#[test]
fn a_mask_needs_a_threshold_and_a_shape_that_divides_its_input() {
    let mask = |shape: &str, activation: &str, labels: &str, threshold: &str| {
        let output =
            format!("output = {{ name = \"mask\", shape = {shape}, activation = \"{activation}\" }}");
        let changes = [
            ("\"classify\"", "\"segment\""),
            (
                "output = { name = \"logits\", shape = [1, 2], activation = \"none\" }",
                output.as_str(),
            ),
            ("labels = [\"good\", \"bad\"]", labels),
            ("note =", threshold),
        ];
        let dir = folder(&changes);
        resolve(dir.path(), "cap.int8.onnx", None).map_err(|e| e.to_string())
    };
    let one = "labels = [\"scratch\"]";
    let t = "threshold = 0.5\nnote =";
    assert!(mask("[1, 1, 224, 224]", "sigmoid", one, t).is_ok());
    assert!(mask("[1, 1, 112, 112]", "none", one, t).is_ok());
    assert!(
        mask("[1, 2, 224, 224]", "softmax", one, t).is_ok(),
        "channel 0 is the background"
    );
    for (shape, activation, threshold, words) in [
        ("[1, 1, 224, 224]", "sigmoid", "note =", "needs a `threshold`"),
        (
            "[1, 1, 224, 224]",
            "sigmoid",
            "threshold = 1.5\nnote =",
            "between 0 and 1",
        ),
        ("[1, 1, 100, 100]", "sigmoid", t, "divisor of 224"),
        ("[1, 2, 224, 224]", "sigmoid", t, "1 labels for a sigmoid output"),
        ("[1, 3, 224, 224]", "softmax", t, "1 labels for an output"),
    ] {
        let text = mask(shape, activation, one, threshold).unwrap_err();
        assert!(text.contains(words), "{shape}: {text}");
    }
}

#[test]
fn more_labels_than_rules_can_judge_are_for_information_only() {
    let many: Vec<String> = (0..40).map(|i| format!("\"c{i}\"")).collect();
    let labels = format!("[{}]", many.join(", "));
    let dir = folder(&[("[1, 2]", "[1, 40]"), ("[\"good\", \"bad\"]", &labels)]);
    assert!(describe(dir.path(), "cap.int8.onnx", None).is_ok());
    let text = resolve(dir.path(), "cap.int8.onnx", None)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("has 40 labels; rules can judge at most 32"),
        "{text}"
    );
}

#[test]
fn an_unknown_builtin_says_what_there_is() {
    let text = resolve(Path::new("."), "builtin:nothing-like-it", None)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("there is no built-in model \"nothing-like-it\""),
        "{text}"
    );
}

#[test]
fn a_pin_that_is_no_hash_is_told() {
    let dir = folder(&[]);
    for pin in ["", "…", "zz", &"g".repeat(64), &"a".repeat(63)] {
        let e = resolve(dir.path(), "cap.int8.onnx", Some(pin)).unwrap_err();
        assert_eq!(e.about, About::Sha256);
        assert!(e.message.contains("64 hexadecimal digits"), "{e}");
    }
}
