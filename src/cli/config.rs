//! `elek config`: a file to start from, and files of other versions.

use crate::config::{self, SCHEMA};
use clap::{Args as ClapArgs, Subcommand};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print a configuration to start from, or bring one up to this version
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a commented configuration that works: the simulated line of `elek demo`
    Default,
    /// Rewrite a configuration of an older schema for this version
    Migrate {
        /// The configuration file
        file: PathBuf,
    },
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Default => {
            let mut out = std::io::stdout().lock();
            out.write_all(config::DEFAULT.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Migrate { file } => Ok(migrate(&file)),
    }
}

/// Schema 1 is the first, so there is nothing older to rewrite yet. What can be
/// said is whether the file has this schema, or one that this elek cannot know.
fn migrate(file: &Path) -> ExitCode {
    match config::schema_of(file) {
        Ok(()) => {
            println!(
                "{}: has schema {SCHEMA}, the first and newest there is; nothing to do",
                file.display()
            );
            ExitCode::SUCCESS
        }
        Err(report) => {
            eprintln!("{}", report.render(std::io::stderr().is_terminal()));
            ExitCode::from(2)
        }
    }
}
