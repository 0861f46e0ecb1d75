//! `elek completions SHELL`

use anyhow::Result;
use clap::Command;
use clap_complete::Shell;
use std::io::Write;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to complete for.
    shell: Shell,
}

/// Prints a completion script for `command`, the whole command line of elek.
pub fn run(args: Args, mut command: Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "elek", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
