//! `elek changeover NAME`: another recipe from the next part on.

use super::status::unreachable;
use crate::control::Client;
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_millis(1_500);
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Parts that have crossed the photo-eye keep the recipe they were seen with.

Exit codes:
  0  changed over
  1  refused (the reason is printed), or not in force within 1.5 s
  2  wrong arguments
  3  no station was reached"
)]
pub struct Args {
    /// Recipe as named in the configuration.
    recipe: String,
    /// The station's socket or record folder; without it, the station that runs as a service.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let told = Client::find(args.socket.as_deref())
        .and_then(|client| client.changeover(&args.recipe).map(|()| client));
    let client = match told {
        Ok(client) => client,
        Err(error) if error.is_unreachable() => return Ok(unreachable(&error)),
        Err(error) => return Err(error.into()),
    };
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        std::thread::sleep(LOOK);
        if client.status()?.recipe == args.recipe {
            println!("from the next part on: {}", args.recipe);
            return Ok(ExitCode::SUCCESS);
        }
    }
    eprintln!("elek: the station was told, but still has another recipe; `elek status` tells more");
    Ok(ExitCode::FAILURE)
}
