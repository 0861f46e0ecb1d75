//! From a path to a valid [`Config`], or to a report of everything that is wrong.

use super::arithmetic::{self, Facts, Finding, Level};
use super::diagnostic::{Problem, Report, position};
use super::raw::{PROBLEMS_MAX, Problems, Section, place};
use super::validate::{self, Context, Resolve};
use super::{CameraSource, Config};
use crate::infer::manifest;
use std::io::Read;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// A configuration has a few hundred lines; this much is a wrong file.
const BYTES_MAX: u64 = 1 << 20;

/// What is known about a file after all checks.
pub struct Checked {
    /// The configuration, or why it cannot be used.
    pub config: Result<Config, Report>,
    /// The arithmetic, as far as the file could be read at all.
    pub findings: Vec<Finding>,
}

/// Reads a file. The report renders every problem with its place and what to do.
pub fn load(path: &Path) -> Result<Config, Report> {
    check_file(path, None).config
}

/// Like [`load`], for text. `name` stands in messages, relative paths of the text start at `base`.
pub fn parse(text: &str, name: &str, base: &Path) -> Result<Config, Report> {
    parse_with(text, name, base, &manifest::resolve)
}

/// Like [`parse`] with another way to find models.
pub fn parse_with(text: &str, name: &str, base: &Path, resolve: Resolve<'_>) -> Result<Config, Report> {
    check_text(text, name, base, resolve, None).config
}

/// Reads a file and does the arithmetic; with `soc` also that of the networks on this kind of core.
pub fn check_file(path: &Path, soc: Option<arithmetic::Soc>) -> Checked {
    let name = path.display().to_string();
    match read(path) {
        Ok(text) => {
            let base = path.parent().unwrap_or(Path::new("")).to_owned();
            check_text(&text, &name, &base, &manifest::resolve, soc)
        }
        Err(problem) => Checked {
            config: Err(Report::new(&name, "", vec![*problem])),
            findings: Vec::new(),
        },
    }
}

/// Whether a file has the schema of this elek; nothing else of it is looked at.
pub fn schema_of(path: &Path) -> Result<(), Report> {
    let name = path.display().to_string();
    let text = read(path).map_err(|problem| Report::new(&name, "", vec![*problem]))?;
    let text = without_mark(&text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    let problems = Problems::default();
    validate::schema_alone(Section::root(tree.get_ref(), &problems));
    let mut problems = problems.into_vec();
    problems.extend(
        errors
            .iter()
            .take(PROBLEMS_MAX)
            .map(|error| syntax_problem(text, error)),
    );
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Report::new(&name, text, problems))
    }
}

/// Like [`check_file`], for text and with any way to find models.
pub fn check_text(
    text: &str,
    name: &str,
    base: &Path,
    resolve: Resolve<'_>,
    soc: Option<arithmetic::Soc>,
) -> Checked {
    let text = without_mark(text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    let tree = tree.into_inner();
    if errors.is_empty() && tree.is_empty() {
        let problem = Problem::new("the file is empty").help(format!(
            "`elek config default > {name}` writes a commented one that works"
        ));
        return Checked {
            config: Err(Report::new(name, text, vec![problem])),
            findings: Vec::new(),
        };
    }
    let problems = Problems::default();
    let context = Context {
        text,
        // Absolute, so that it names the same folder whatever the process does later.
        base: std::path::absolute(base).unwrap_or_else(|_| base.to_owned()),
        resolve,
        problems: &problems,
    };
    let config = validate::config(Section::root(&tree, &problems), &context);
    let mut problems = problems.into_vec();
    if !errors.is_empty() {
        problems = join_syntax(text, errors, problems);
    }
    let mut findings = Vec::new();
    if let (Some(config), true) = (&config, problems.is_empty()) {
        findings = arithmetic::check(config, &facts(config, soc));
        problems.extend(
            findings
                .iter()
                .filter(|f| f.level == Level::Error)
                .map(|f| as_problem(f, &tree)),
        );
    }
    let config = match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(Report::new(name, text, problems)),
    };
    Checked { config, findings }
}

/// An editor's byte order mark is no part of the text.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn as_problem(finding: &Finding, tree: &DeTable<'_>) -> Problem {
    let problem = Problem::new(finding.words.clone())
        .note(format!("{}: {}", finding.title, finding.numbers))
        .help(finding.advice.clone());
    match place(tree, &finding.key) {
        Some(span) => problem.at(span, finding.label.clone()),
        None => problem,
    }
}

/// What the arithmetic needs from outside the file.
fn facts(config: &Config, soc: Option<arithmetic::Soc>) -> Facts {
    let folder = config.cameras.first().and_then(|camera| match &camera.source {
        CameraSource::Folder(folder) => first_picture(&folder.path),
        _ => None,
    });
    Facts {
        folder_picture: folder.and_then(|path| image::image_dimensions(path).ok()),
        soc,
        processors: match soc {
            None => std::thread::available_parallelism().ok().map(usize::from),
            Some(_) => None,
        },
    }
}

/// The picture of a folder that comes first by name.
fn first_picture(folder: &Path) -> Option<PathBuf> {
    let is_picture = |path: &PathBuf| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png"))
    };
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_picture)
        .min()
}

/// After a syntax error the rest of the file is still read, but some of what is
/// found there merely echoes the error and would hide it.
fn join_syntax(text: &str, mut errors: Vec<toml::de::Error>, found: Vec<Problem>) -> Vec<Problem> {
    errors.truncate(PROBLEMS_MAX);
    let line_of = |span: &Option<std::ops::Range<usize>>| span.as_ref().map(|s| position(text, s.start).0);
    let syntax: Vec<Problem> = errors.iter().map(|error| syntax_problem(text, error)).collect();
    let lines: Vec<Option<usize>> = syntax.iter().map(|p| line_of(&p.span)).collect();
    // With a broken header or bracket, keys end up in a table that is not theirs.
    let structure_broken = errors.iter().any(|error| {
        let start = error.span().map_or(0, |s| s.start.min(text.len()));
        let line_start = text.as_bytes()[..start]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or("").trim_start();
        line.starts_with('[') || error.message().contains("unclosed") || line.is_empty()
    });
    let echo = |p: &Problem| p.missing || structure_broken || lines.contains(&line_of(&p.span));
    let mut all = syntax;
    all.extend(found.into_iter().filter(|p| !echo(p)));
    all
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let message = error.message();
    let span = error.span().unwrap_or(0..0);
    let span = span.start.min(text.len())..span.end.min(text.len());
    let help = if message.contains("duplicate key") {
        "it is set twice: delete one of the two"
    } else if text[span.start..].starts_with(',') {
        "numbers have a point, as in 0.5; a comma only stands between things in a list or in braces"
    } else if message.contains("must be quoted") {
        "put text in double quotes"
    } else if message.contains("string") || message.contains("unclosed") {
        "something is not closed: quotes, brackets or braces. If the file ends here, it was cut off"
    } else if message.contains("recurs") {
        "the file is nested deeper than any configuration"
    } else {
        "a line is a [table] or `key = value`; `#` starts a comment"
    };
    Problem::new(format!("not valid TOML: {message}"))
        .at(span, "here")
        .help(help)
}

fn read(path: &Path) -> Result<String, Box<Problem>> {
    let fail = |title: String, help: &str| Err(Box::new(Problem::new(title).help(help)));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let help = "check the path; `elek config default` prints a file to start from";
            return fail("the configuration file does not exist".to_owned(), help);
        }
        Err(error) => {
            return fail(
                format!("the file cannot be opened: {error}"),
                "check its permissions",
            );
        }
    };
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return fail(
            "this is a directory".to_owned(),
            "name the configuration file in it",
        );
    }
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to know; a device that never ends is not read for ever.
    if let Err(error) = file.take(BYTES_MAX + 1).read_to_end(&mut bytes) {
        return fail(
            format!("the file cannot be read: {error}"),
            "check the disk it is on",
        );
    }
    if bytes.len() as u64 > BYTES_MAX {
        let title = format!("the file is larger than {} KiB", BYTES_MAX >> 10);
        return fail(
            title,
            "this cannot be a configuration: check which file was named",
        );
    }
    String::from_utf8(bytes).map_err(|error| Box::new(not_utf8(&error)))
}

fn not_utf8(error: &std::string::FromUtf8Error) -> Problem {
    let bytes = error.as_bytes();
    let at = error.utf8_error().valid_up_to();
    let line_start = bytes[..at]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |newline| newline + 1);
    let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&bytes[line_start..at]).chars().count() + 1;
    let byte = bytes.get(at).copied().unwrap_or_default();
    Problem::new("the file is not UTF-8 text")
        .note(format!(
            "line {line}, column {column}: byte 0x{byte:02x} belongs to no character"
        ))
        .help("save it as UTF-8; if it is no text at all, check which file was named")
}
