//! What the tests in the virtual machine share: its simulated hardware, and a station to run on it.
#![allow(dead_code)] // each test file uses its part of it

pub mod faults;
pub mod gpio_sim;
pub mod line;
pub mod screen;
pub mod service;
pub mod station;
pub mod v4l;
pub mod vivid;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The binary under test: in the guest, the one that is shipped.
pub const ELEK: &str = env!("CARGO_BIN_EXE_elek");

/// For what must come in the end, by the guest's clock.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Loads a driver; one that is loaded already keeps its options, so unload it first where they matter.
pub fn modprobe(driver: &str, options: &[&str]) {
    run("modprobe", &[&[driver], options].concat());
}

pub fn unload(driver: &str) {
    run("modprobe", &["-r", driver]);
}

/// A command that has to succeed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for what must come; `what` stands in the failure.
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "in vain waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes a file of a kernel file system, in one go.
pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

pub fn read(path: &Path) -> String {
    let text = std::fs::read_to_string(path);
    text.unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
        .trim()
        .to_owned()
}
