//! The services as systemd runs them.

use super::run;
use rustix::process::{Pid, Signal, kill_process};
use std::process::Command;

pub const UNITS: [&str; 2] = ["elek.service", "elek-outputs.service"];

/// A property of a unit, as systemd tells it.
pub fn property(unit: &str, name: &str) -> String {
    run("systemctl", &["show", "--value", "--property", name, unit])
        .trim()
        .to_owned()
}

pub fn main_process(unit: &str) -> String {
    property(unit, "MainPID")
}

pub fn freeze(process: &str) {
    let id = process.parse().ok().and_then(Pid::from_raw);
    kill_process(id.expect("the service runs"), Signal::STOP).expect("the service runs");
}

/// Shows the journal when a test fails, and leaves no service behind: they are stopped before the hardware
/// goes, whatever happens.
pub struct Services;

impl Drop for Services {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = [
                "journalctl",
                "--no-pager",
                "-o",
                "short-monotonic",
                "-n",
                "120",
                "-u",
                "elek*",
            ];
            let log = Command::new(log[0]).args(&log[1..]).output();
            eprintln!(
                "{}",
                log.map(|log| String::from_utf8_lossy(&log.stdout).into_owned())
                    .unwrap_or_default()
            );
        }
        for unit in UNITS {
            let _ = Command::new("systemctl").args(["stop", unit]).status();
        }
    }
}
