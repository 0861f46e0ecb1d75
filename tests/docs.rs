//! What the documents say is true: every TOML block in them is read, every key of
//! the default is listed, every command in a block of a shell is run.
//!
//! A block whose commands cannot be run here (they need a device, or never end) has
//! `<!-- not run: REASON -->` on the line before it; their arguments are checked all the same.

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
    files.push(root().join("models/README.md"));
    files.retain(|path| path.extension().is_some_and(|e| e == "md") && path.exists());
    files.sort();
    files
}

/// A fenced block.
struct Block {
    language: String,
    /// The line it begins at.
    line: usize,
    /// Why it is not run.
    not_run: Option<String>,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            None => {
                if let Some(language) = line.trim().strip_prefix("```") {
                    let mark = before.trim().strip_prefix("<!-- not run:");
                    open = Some(Block {
                        language: language.to_owned(),
                        line: number + 1,
                        not_run: mark.map(|m| m.trim_end_matches("-->").trim().to_owned()),
                        text: String::new(),
                    });
                }
            }
            Some(_) if line.trim() == "```" => found.extend(open.take()),
            Some(block) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
        before = line;
    }
    assert!(open.is_none(), "a block is not closed");
    found
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
        for block in blocks(&text).iter().filter(|block| block.language == "toml") {
            let name = format!("{}:{}", path.display(), block.line);
            let over: toml::Table = block.text.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut whole: toml::Table = elek::config::DEFAULT.parse().expect("the default is TOML");
            // A block with a schema is a file of its own.
            if over.contains_key("schema") {
                whole = over;
            } else {
                merge(&mut whole, over, &mut Vec::new());
            }
            let text = toml::to_string(&whole).expect("a table can be written");
            if let Err(report) = elek::config::parse(&text, &name, root()) {
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

/// The commands of a block for a shell: in `console` what follows a prompt, in `sh` every line.
fn commands(block: &Block) -> Vec<String> {
    let joined = block.text.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| match block.language.as_str() {
        "console" => line.trim().strip_prefix("$ "),
        "sh" => Some(line.trim()),
        _ => None,
    });
    lines
        .map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// `elek …` as it stands, and `cargo run … -- …` as the program it runs.
fn as_elek(command: &str) -> Option<String> {
    if command.starts_with("cargo run") {
        let (_, arguments) = command.split_once(" -- ")?;
        return Some(format!("elek {arguments}"));
    }
    (command == "elek" || command.starts_with("elek ")).then(|| command.to_owned())
}

/// Runs a line in `folder`, with the built program first on the path.
fn shell(line: &str, folder: &Path) -> std::process::Output {
    let program = Path::new(env!("CARGO_BIN_EXE_elek"));
    let built = program.parent().expect("a program lies in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    // What never ends has to be marked; here it ends with an error instead of holding up the tests.
    std::process::Command::new("timeout")
        .args(["60", "sh", "-ec", line])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", built.display()))
        .stdin(std::process::Stdio::null())
        .output()
        .expect("`timeout` and `sh` are on every Debian machine")
}

fn make_targets() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("Makefile")).expect("the Makefile can be read");
    let rules = text.lines().filter_map(|line| Some(line.split_once(':')?.0));
    rules
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_in_a_block_works() {
    let targets = make_targets();
    let (mut run, mut parsed, mut made) = (0, 0, 0);
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a document can be read");
        // One folder a document: what a command writes, a later one may read.
        let folder = tempfile::tempdir().expect("a temporary folder");
        for block in blocks(&text) {
            for command in commands(&block) {
                let name = format!("{}:{}: {command}", path.display(), block.line);
                if let Some(line) = as_elek(&command) {
                    let line = match &block.not_run {
                        None => {
                            run += 1;
                            line
                        }
                        Some(reason) => {
                            assert!(reason.len() > 10, "{name}: the mark says no reason");
                            parsed += 1;
                            // The parser meets every argument before it comes to this one.
                            let end = line.find(['>', '|', ';', '&']).unwrap_or(line.len());
                            format!("{} --help", &line[..end])
                        }
                    };
                    let output = shell(&line, folder.path());
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{name}\n{}: {said}", output.status);
                } else if let Some(arguments) = command.strip_prefix("make ") {
                    made += 1;
                    for target in arguments.split_whitespace().filter(|word| !word.contains('=')) {
                        assert!(targets.iter().any(|t| t == target), "{name}: no such target");
                    }
                } else if let Some(script) = command.split_whitespace().find(|word| word.ends_with(".sh")) {
                    assert!(root().join(script).is_file(), "{name}: no such file");
                }
            }
        }
    }
    assert!(
        run >= 2 && parsed >= 2 && made >= 2,
        "found {run}, {parsed}, {made}"
    );
}

/// `elek WORD` and `make WORD` between the lines: there is such a subcommand, such a target.
#[test]
fn every_command_in_the_text_exists() {
    let targets = make_targets();
    let mut found = std::collections::BTreeSet::new();
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a document can be read");
        for span in text.split('`').skip(1).step_by(2) {
            let mut words = span.split_whitespace();
            match (words.next(), words.next()) {
                (Some("elek"), Some(word))
                    if word != "help" && word.chars().all(|c| c.is_ascii_lowercase()) =>
                {
                    found.insert(word.to_owned());
                }
                (Some("make"), Some(word)) => {
                    let name = format!("{}: `{span}`", path.display());
                    assert!(targets.iter().any(|t| t == word), "{name}: no such target");
                }
                _ => {}
            }
        }
    }
    for word in &found {
        let output = shell(&format!("elek {word} --help"), root());
        assert!(output.status.success(), "no such subcommand: `elek {word}`");
    }
    assert!(found.len() >= 5, "{found:?}");
}

/// The guest's test types docs/INSTALL.md and compares as it goes; this tells at once when the two go different ways.
#[test]
fn the_installation_is_the_one_that_is_tried() {
    let test = std::fs::read_to_string(root().join("tests/vm_package.rs")).expect("the test can be read");
    // A literal that goes on in the next line, and one with quotes in it, as they are meant.
    let mut typed = String::new();
    for line in test.lines() {
        match line.trim_start().strip_suffix('\\') {
            Some(begun) => typed.push_str(begun),
            None => typed += line.trim_start(),
        }
    }
    let typed = typed.replace("\\\"", "\"");
    let guide = std::fs::read_to_string(root().join("docs/INSTALL.md")).expect("the guide can be read");
    let mut count = 0;
    for block in blocks(&guide) {
        if !matches!(&*block.language, "sh" | "console") {
            continue;
        }
        for line in block.text.lines() {
            let command = line.split("  #").next().unwrap_or(line).trim();
            assert!(
                typed.contains(&format!("\"{command}\"")),
                "docs/INSTALL.md:{}: tests/vm_package.rs does not type `{command}`",
                block.line
            );
            count += 1;
        }
    }
    assert!(count > 20, "{count} commands in the guide");
}
