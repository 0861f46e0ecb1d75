//! `elek outputs`: the process that owns the output lines.

use crate::outputs::process::{self, Door};
use crate::outputs::table::SafeCause;
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;

/// Own the output lines and switch them for `elek run`
///
/// `elek run` starts this process itself. It is run by hand or by systemd only with
/// --socket, when it is to outlive `elek run` and keep the lines safe meanwhile.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Args {
    /// Serve one session on this inherited socket, then end
    #[arg(long, value_name = "N", hide = true)]
    fd: Option<i32>,
    /// Listen on this socket and serve one session after the other
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Exit code 0 when the last session ended as it should, 1 when the lines had to be
/// made safe because the other side hung, died or sent nonsense.
pub fn run(args: Args) -> Result<ExitCode> {
    let door = match (args.fd, &args.socket) {
        (Some(fd), _) => Door::Inherited(fd),
        (None, Some(path)) => Door::Socket(path),
        (None, None) => anyhow::bail!("give --socket PATH"),
    };
    Ok(match process::run(door)? {
        SafeCause::Bye | SafeCause::Ended | SafeCause::Start => ExitCode::SUCCESS,
        SafeCause::Closed | SafeCause::Hung | SafeCause::Nonsense | SafeCause::LineFault => ExitCode::FAILURE,
    })
}
