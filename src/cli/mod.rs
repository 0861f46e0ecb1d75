//! The command line: one file a subcommand.

mod outputs;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A reject station for conveyors: sees each part, judges it, removes it, proves that it left the belt.
#[derive(Debug, Parser)]
#[command(name = "elek", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Own the output lines (started by `elek run`, or by systemd).
    Outputs(outputs::Args),
}

/// Parses the arguments, runs the subcommand and reports its error, if any.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Outputs(args) => outputs::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("elek: {error:#}");
        ExitCode::FAILURE
    })
}
