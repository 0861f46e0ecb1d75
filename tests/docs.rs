//! What the documents say about the configuration is true: every TOML block in
//! them is read, and every key of the default is listed.

use elek::infer::manifest::{self, Activation, Channels, Filter, ManifestError, ModelFile, ModelInfo, Task};
use std::path::{Path, PathBuf};

/// Alternatives of which a file has exactly one: a block that names one replaces the default's.
const EITHER: [(&[&str], &[&str]); 4] = [
    (&["camera", "*", "source"], &["simulated", "folder", "v4l2"]),
    (&["trigger"], &["line", "vision"]),
    (&["belt"], &["encoder", "time"]),
    (&["belt", "encoder", "source"], &["counter", "lines", "simulated"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("docs"))
        .expect("the folder docs/ is in the repository")
        .map(|entry| entry.expect("docs/ can be listed").path())
        .collect();
    files.push(root().join("README.md"));
    files.retain(|path| path.extension().is_some_and(|e| e == "md") && path.exists());
    files.sort();
    files
}

/// The blocks marked `toml`, each with the line it begins at.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            None if line.trim() == "```toml" => open = Some((number + 1, String::new())),
            Some(_) if line.trim() == "```" => found.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// The built-in models by what the documents say of them; others from their files.
fn resolve(base: &Path, model: &str, pinned: Option<&str>) -> Result<ModelInfo, ManifestError> {
    let defects = ["scratch", "dent", "contamination", "missing"];
    let (task, labels) = match model {
        "builtin:cap-classify" => (Task::Classify, [&["good"][..], &defects[..]].concat()),
        "builtin:cap-segment" => (Task::Segment, defects.to_vec()),
        _ => return manifest::resolve(base, model, pinned),
    };
    Ok(ModelInfo {
        name: model.to_owned(),
        task,
        file: ModelFile::Builtin(model.to_owned()),
        sha256: [0; 32],
        size: 160,
        input_name: "image".into(),
        mean: [127.0; 3],
        scale: [128.0; 3],
        channels: Channels::Rgb,
        output_name: "out".into(),
        activation: Activation::None,
        labels: labels.into_iter().map(str::to_owned).collect(),
        threshold: 0.5,
        filter: Filter::Bilinear,
        macs: None,
    })
}

/// Lays `over` onto `under`, table by table.
fn merge(under: &mut toml::Table, over: toml::Table, path: &mut Vec<String>) {
    for (place, keys) in EITHER {
        let here = place.len() == path.len() && place.iter().zip(&*path).all(|(p, q)| *p == "*" || p == q);
        if here && keys.iter().any(|key| over.contains_key(*key)) {
            for key in keys {
                under.remove(*key);
            }
            // What belongs to the photo-eye goes with it.
            if over.contains_key("vision") {
                under.remove("stable_us");
            }
        }
    }
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            // A crop is said whole: `margin_mm` belongs to one kind of it only.
            (_, value) if key == "crop" => {
                under.insert(key, value);
            }
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => {
                path.push(key);
                merge(under, over, path);
                path.pop();
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[test]
fn every_toml_block_is_a_configuration() {
    let mut count = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a document can be read");
        for (line, block) in blocks(&text) {
            let name = format!("{}:{line}", path.display());
            let over: toml::Table = block.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut whole: toml::Table = elek::config::DEFAULT.parse().expect("the default is TOML");
            // A block with a schema is a file of its own.
            if over.contains_key("schema") {
                whole = over;
            } else {
                merge(&mut whole, over, &mut Vec::new());
            }
            let text = toml::to_string(&whole).expect("a table can be written");
            if let Err(report) = elek::config::parse_with(&text, &name, root(), &resolve) {
                panic!("{report}\n--- the block laid onto the default:\n{text}");
            }
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} blocks were found");
}

#[test]
fn every_key_of_the_default_is_listed() {
    fn keys(table: &toml::Table, named: bool, found: &mut Vec<String>) {
        for (key, value) in table {
            // Below these, keys are names that the user chooses.
            let names_below = ["camera", "reject", "recipe"].contains(&key.as_str()) && !named;
            if !named {
                found.push(key.clone());
            }
            if let toml::Value::Table(below) = value {
                keys(below, names_below, found);
            }
        }
    }
    let text = std::fs::read_to_string(root().join("docs/CONFIG.md")).expect("docs/CONFIG.md can be read");
    let default: toml::Table = elek::config::DEFAULT.parse().expect("the default is TOML");
    let mut found = Vec::new();
    keys(&default, false, &mut found);
    for key in found {
        let listed = [
            format!("`{key}`"),
            format!(".{key}`"),
            format!("`{key}."),
            format!("[{key}"),
            format!("{{ {key}"),
            format!(", {key} }}"),
        ];
        assert!(
            listed.iter().any(|form| text.contains(form)),
            "docs/CONFIG.md does not list `{key}`"
        );
    }
}
