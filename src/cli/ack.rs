//! `elek ack`: a person takes note of the alarms and lets the belt run.

use super::status::{UNREACHABLE, unreachable};
use crate::control::{Client, ClientError};
use crate::status::{State, Status};
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The core acts within milliseconds and publishes ten times a second.
const PATIENCE: Duration = Duration::from_millis(1_500);
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:
  0  acknowledged, the belt may run
  1  acknowledged, but something still keeps the belt from running (it is printed)
  2  wrong arguments
  3  no station was reached")]
pub struct Args {
    /// The station's socket or record folder; without it, the station that runs as a service.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let told = Client::find(args.socket.as_deref()).and_then(|client| client.acknowledge().map(|()| client));
    let client = match told {
        Ok(client) => client,
        Err(error) if error.is_unreachable() => return Ok(unreachable(&error)),
        Err(error) => return Err(error.into()),
    };
    match outcome(&client) {
        Ok(status) if status.permit => {
            println!("acknowledged: the belt may run");
            Ok(ExitCode::SUCCESS)
        }
        Ok(status) => {
            eprint!("{}", still_stopped(&status));
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            eprintln!("elek: told the station, but do not know what came of it: {error}");
            Ok(if error.is_unreachable() {
                ExitCode::from(UNREACHABLE)
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

/// The status once the permit is on, or after a patient wait.
fn outcome(client: &Client) -> Result<Status, ClientError> {
    let end = Instant::now() + PATIENCE;
    loop {
        // First wait: the snapshot from before the acknowledge says nothing.
        std::thread::sleep(LOOK);
        let status = client.status()?;
        if status.permit || Instant::now() > end {
            return Ok(status);
        }
    }
}

fn still_stopped(status: &Status) -> String {
    let mut text = String::from("acknowledged, but the belt stays off");
    let causes: Vec<_> = status.alarms.iter().filter(|alarm| alarm.present).collect();
    if status.state == State::Ending {
        text.push_str(": the station is ending\n");
    } else if causes.is_empty() {
        text.push_str("; `elek status` tells more\n");
    } else {
        text.push_str(" as long as this lasts:\n");
    }
    for alarm in causes {
        text.push_str(&format!(
            "  {}. {}\n",
            alarm.text.trim_end_matches('.'),
            alarm.advice
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::event::AlarmKind;
    use crate::status::AlarmLine;

    #[test]
    fn what_still_stops_the_belt_is_named_with_what_to_do() {
        let mut status = crate::cli::status::tests::status();
        status.permit = false;
        let line = |text: &str, present| AlarmLine {
            kind: AlarmKind::BinFull,
            text: text.into(),
            advice: "Empty it.".into(),
            present,
            stops: true,
            since: status.at,
        };
        status.alarms = vec![line("The reject bin is full", true), line("An old story", false)];
        let text = still_stopped(&status);
        assert!(text.contains("The reject bin is full. Empty it."), "{text}");
        assert!(!text.contains("old story"), "{text}");
    }
}
