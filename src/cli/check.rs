//! `elek check`: whether a configuration can work, and why not.

use crate::config::arithmetic::{Finding, Level, Soc};
use crate::config::{self, Checked, Report};
use clap::Args as ClapArgs;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a configuration: every mistake in it, and the arithmetic of the station
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The configuration file
    pub file: PathBuf,
    /// Also reckon the least time the networks take on this kind of core
    #[arg(long, value_name = "CORE")]
    pub soc: Option<Soc>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Exit code 0 when the station can work, 2 when not.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = config::check_file(&args.file, args.soc);
    let name = args.file.display().to_string();
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json(&name, &checked)?)?;
    } else {
        write!(out, "{}", table(&checked.findings))?;
        out.flush()?;
        match &checked.config {
            Ok(_) => writeln!(out, "{}", summary(&name, &checked.findings, args.soc.is_some()))?,
            Err(report) => eprintln!("{}", report.render(std::io::stderr().is_terminal())),
        }
    }
    Ok(ExitCode::from(if checked.config.is_ok() { 0 } else { 2 }))
}

#[derive(Serialize)]
struct Json<'a> {
    file: &'a str,
    ok: bool,
    problems: Vec<JsonProblem<'a>>,
    findings: &'a [Finding],
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    title: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    note: &'a str,
    help: &'a str,
}

fn json(name: &str, checked: &Checked) -> serde_json::Result<String> {
    let problems = match &checked.config {
        Ok(_) => Vec::new(),
        Err(report) => json_problems(report),
    };
    let whole = Json {
        file: name,
        ok: checked.config.is_ok(),
        problems,
        findings: &checked.findings,
    };
    serde_json::to_string_pretty(&whole)
}

fn json_problems(report: &Report) -> Vec<JsonProblem<'_>> {
    let one = |p: &'_ _| report.position(p);
    report
        .problems()
        .iter()
        .map(|p| JsonProblem {
            title: &p.title,
            line: one(p).map(|at| at.0),
            column: one(p).map(|at| at.1),
            note: &p.note,
            help: &p.help,
        })
        .collect()
}

/// Errors come last, where the eye is when the text stops.
fn table(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.level);
    let mut text = String::new();
    for finding in sorted {
        let mark = match finding.level {
            Level::Ok => "ok   ",
            Level::Warn => "WARN ",
            Level::Error => "ERROR",
        };
        text.push_str(&format!("{mark}  {:<16}  {}\n", finding.title, finding.numbers));
        text.push_str(&format!("       {:<16}  {}\n", "", finding.words));
        if !finding.advice.is_empty() {
            text.push_str(&format!(
                "       {:<16}  → {}  [{}]\n",
                "", finding.advice, finding.key
            ));
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn summary(name: &str, findings: &[Finding], soc: bool) -> String {
    let warnings = findings.iter().filter(|f| f.level == Level::Warn).count();
    let mut text = match warnings {
        0 => format!("{name}: can work"),
        1 => format!("{name}: can work, with 1 warning"),
        n => format!("{name}: can work, with {n} warnings"),
    };
    if !soc {
        text.push_str("\nThe networks' time was not reckoned: name the box's core with --soc.");
    }
    text
}
