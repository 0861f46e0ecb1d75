//! What can go wrong around a station, each on simulated hardware: the outputs go safe, an alarm
//! says why, the station comes back, and no part is lost from the account.
//!
//! One fault, one test. Where a fault must not stop the line (a display, a disk), the test says that
//! the line goes on. Here are processes, memory, clock, disk and display; `vm_faults_camera.rs` and
//! `vm_faults_lines.rs` hold the rest. `cross/vm/test.sh vm_faults -- killed` runs those with
//! `killed` in their name.

mod vm;

use elek::station::event::{AlarmKind, Trouble};
use elek::status::AlarmLine;
use rustix::process::{Signal, kill_process};
use vm::faults::{self, Fill, Frozen, comes_back, goes_on, in_the_middle_of_a_part};
use vm::line::Part;
use vm::screen::Vfb;
use vm::station::{Asked, Station};

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn framebuffer_goes_away() {
    let vfb = Vfb::load();
    let mut station = Station::running_with(|text| text + "\n[display]\nframebuffer = \"/dev/fb0\"\n");
    let _plug_in = vfb.unplug();
    goes_on(&mut station, "gb");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn disk_is_full() {
    let fill = Fill::new("24m");
    let record = fill.path().display().to_string();
    let mut station = Station::new(|text| text.replace("RECORD", &record).replace("\"all\"", "\"none\""));
    station.record_is(fill.path());
    station.start();
    fill.fill();
    let disk = |alarm: &AlarmLine| {
        alarm.present && matches!(alarm.kind, AlarmKind::Trouble(Trouble::DiskLow | Trouble::Record))
    };
    station.line.feed("gb");
    station.wait_for("an alarm of the disk", |status| status.alarms.iter().any(disk));
    goes_on(&mut station, "gb");
    fill.empty();
    // What could not be written meanwhile waits in the ring.
    station.wait_for("the end of the alarm", |status| !status.alarms.iter().any(disk));
    goes_on(&mut station, "b");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn wall_clock_steps() {
    let mut station = Station::running();
    for hours in [3, -30, 400 * 24] {
        station.line.feed("gb");
        faults::step_wall_clock(hours);
        goes_on(&mut station, "g");
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn out_of_memory() {
    let mut station = in_the_middle_of_a_part();
    station.unsafe_pulls();
    faults::out_of_memory(station.run_id());
    assert!(!station.run_ended().success(), "the kernel has not killed it");
    station.wait_safe();
    station.start_run();
    station.wait_for("its alarm", |status| status.has(AlarmKind::PartsUnaccounted));
    // Somebody does not clear the belt, as the display says, but lets it run: it stops at the first eye
    // that meets a part, and the bad one does not get away.
    let before = station.line.world().permits;
    vm::wait_until("the belt to be let run", || {
        station.press();
        station.line.world().permits > before
    });
    station.wait_safe();
    assert!(station.line.world().parts.iter().all(Part::on_belt));
    comes_back(&mut station);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn station_is_killed_in_the_middle_of_a_part() {
    let mut station = in_the_middle_of_a_part();
    station.unsafe_pulls();
    station.kill_run();
    // A pull would let the belt run and blow; the living output process holds against it.
    station.wait_safe();
    station.start_run();
    let status = station.wait_for("its alarm", |status| status.has(AlarmKind::PartsUnaccounted));
    assert!(!status.permit && !station.line.world().permit);
    comes_back(&mut station);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn station_hangs_in_the_middle_of_a_part() {
    let mut station = in_the_middle_of_a_part();
    station.unsafe_pulls();
    let run = station.run_id();
    kill_process(run, Signal::STOP).expect("the station runs");
    station.wait_safe();
    kill_process(run, Signal::CONT).expect("the station runs");
    station.wait_for("its alarm", |status| status.has(AlarmKind::OutputsLost));
    assert!(!station.line.world().permit);
    comes_back(&mut station);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn outputs_are_killed_in_the_middle_of_a_part() {
    let mut station = in_the_middle_of_a_part();
    station.kill_outputs();
    // Until it is started again nobody drives the lines: what they do then is a matter of wiring.
    station.unsafe_pulls();
    station.wait_for("its alarm", |status| {
        status.has(AlarmKind::OutputsLost) && !status.permit
    });
    station.start_outputs();
    station.wait_safe();
    comes_back(&mut station);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn outputs_hang_in_the_middle_of_a_part() {
    let mut station = in_the_middle_of_a_part();
    let outputs = station.outputs_id();
    kill_process(outputs, Signal::STOP).expect("the outputs run");
    station.wait_for("its alarm", |status| {
        status.has(AlarmKind::OutputsLost) && !status.permit
    });
    kill_process(outputs, Signal::CONT).expect("the outputs run");
    station.wait_safe();
    comes_back(&mut station);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_thread_of_inference_is_frozen() {
    let mut station = Station::running();
    let frozen = Frozen::new(station.run_id(), "infer-0");
    station.line.feed("g");
    let status = station.wait_for("a late result", |status| status.counts.late > 0);
    assert!(status.counts.balances(), "{:?}", status.counts);
    // Nothing is known of it, so it is rejected, as the recipe says of late results.
    vm::wait_until("the part to be blown off", || {
        station.line.world().parts.first().is_some_and(|part| part.blown)
    });
    drop(frozen);
    comes_back(&mut station);
}
