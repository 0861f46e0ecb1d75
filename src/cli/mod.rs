//! The command line: one file a subcommand.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed while running |
//! | 2 | wrong arguments or a configuration that cannot be used |
//! | 3 | no running station was reached (`status`, `ack`, `changeover`) |

mod ack;
mod bench;
mod changeover;
mod check;
mod completions;
mod config;
mod demo;
mod evaluate;
mod man;
mod model;
mod outputs;
mod probe;
mod run;
mod session;
mod simulate;
mod status;
mod summary;

use crate::kernels::isa::Isa;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::str::FromStr;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A reject station for conveyors: sees each part, judges it, removes it, proves that it left the belt.
#[derive(Debug, Parser)]
#[command(name = "elek", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    /// How much to log.
    #[arg(
        long,
        global = true,
        env = "ELEK_LOG",
        default_value = "info",
        value_name = "LEVEL",
        ignore_case = true,
        value_parser = PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
            .map(|level| LevelFilter::from_str(&level).expect("a level of this list"))
    )]
    log: LevelFilter,
    /// Judge with these instructions instead of the best of this processor; `elek probe` names them.
    #[arg(long, global = true, env = "ELEK_KERNELS", value_name = "NAME", value_parser = instruction_set)]
    kernels: Option<Isa>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the station.
    Run(run::Args),
    /// Run the station on the built-in simulated line for half a minute and report.
    Demo(demo::Args),
    /// Check a configuration and do the arithmetic of its line.
    Check(check::Args),
    /// Print the default configuration, or bring an old one up to date.
    Config(config::Args),
    /// Look into a model file.
    Model(model::Args),
    /// Run a labelled folder of pictures through the station's pipeline and count what it got wrong.
    Evaluate(evaluate::Args),
    /// Show what a running station does.
    Status(status::Args),
    /// Acknowledge the alarms of a running station and let the belt run.
    Ack(ack::Args),
    /// Change a running station over to another recipe.
    Changeover(changeover::Args),
    /// Time the way from frame to verdict on this machine.
    Bench(bench::Args),
    /// Look at this box: cameras, displays, processor, and what is wrong with them.
    Probe(probe::Args),
    /// Own the output lines (started by `elek run`, or by systemd).
    Outputs(outputs::Args),
    /// Print completions for a shell.
    Completions(completions::Args),
    /// Print the manual page.
    Man(man::Args),
    /// Drive the station core with a simulated line and faults, or render labelled pictures.
    Simulate(simulate::Args),
    /// Load a model under limits of memory and time (started by elek itself).
    #[command(hide = true)]
    ProbeModel(model::ProbeArgs),
}

/// Parses the arguments, runs the subcommand and reports its error, if any.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log);
    if let Some(isa) = cli.kernels {
        let limited = Isa::limit(isa);
        assert_eq!(limited, Ok(()), "nothing has run before the arguments are read");
    }
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args),
        Command::Config(args) => config::run(args),
        Command::Model(args) => model::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Status(args) => status::run(args),
        Command::Ack(args) => ack::run(args),
        Command::Changeover(args) => changeover::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Outputs(args) => outputs::run(args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
        Command::Simulate(args) => simulate::run(args),
        Command::ProbeModel(args) => model::probe(args),
    };
    result.unwrap_or_else(|error| {
        // A reader that went away (`elek status | head`) is no failure to report.
        if is_broken_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("elek: {error:#}");
        ExitCode::FAILURE
    })
}

fn instruction_set(name: &str) -> Result<Isa, String> {
    Isa::named(name).ok_or_else(|| format!("this processor has {}", instruction_sets()))
}

/// All of this processor that there are kernels for.
fn instruction_sets() -> String {
    let names: Vec<_> = Isa::all().into_iter().map(Isa::name).collect();
    names.join(", ")
}

fn start_log(level: LevelFilter) {
    // Of tract what is wrong, not what it thinks while it reads a model. Its crates are all named so.
    let wanted = Targets::new()
        .with_default(level)
        .with_target("tract", level.min(LevelFilter::ERROR));
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // Colours are for people at a terminal; a journal or a file would keep them as noise.
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(to_stderr).with(wanted).init();
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// A time in seconds from the command line, above 0 and at most a day.
fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number of seconds"))?;
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        return Err("must be above 0 and at most 86400 seconds".into());
    }
    Ok(std::time::Duration::from_secs_f64(seconds))
}
