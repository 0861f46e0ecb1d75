//! The virtual machine itself: the binary runs in it, and the simulated hardware is there.
//!
//! When this fails, look at cross/vm before at anything else.

mod vm;

use std::path::Path;
use std::process::Command;
use vm::gpio_sim::{GpioSim, Pull};

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn the_binary_runs() {
    let output = Command::new(vm::ELEK)
        .arg("--version")
        .output()
        .expect("elek starts");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("elek "));
    assert!(vm::fixture("colour.onnx").is_file());
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn lines_follow_their_pull_and_a_pulled_chip_is_gone() {
    let chip = GpioSim::new("smoke", &["IN", "OUT"]);
    assert!(chip.device().exists());
    chip.pull("IN", Pull::Up);
    assert!(chip.level("IN"));
    chip.pull("IN", Pull::Down);
    assert!(!chip.level("IN"));
    let device = chip.device().to_owned();
    drop(chip);
    assert!(!device.exists(), "{} is still there", device.display());
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn cameras_displays_and_watchdogs_can_be_had() {
    vm::modprobe("vivid", &["node_types=0x101"]);
    vm::wait_until("two video devices", || {
        Path::new("/dev/video0").exists() && Path::new("/dev/video1").exists()
    });
    vm::screen::Vfb::load();
    vm::modprobe("softdog", &[]);
    vm::wait_until("a watchdog", || Path::new("/dev/watchdog0").exists());
}
