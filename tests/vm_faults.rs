//! What can go wrong around a station, each on simulated hardware: the outputs go safe, an alarm
//! says why, the station comes back, and no part is lost from the account.
//!
//! One fault, one test. Where a fault must not stop the line (a display, a disk), the test says that
//! the line goes on. `cross/vm/test.sh vm_faults -- camera` runs those with `camera` in their name.

mod vm;

use elek::station::event::{AlarmKind, Trouble};
use elek::status::State;
use rustix::process::{Signal, kill_process};
use std::path::Path;
use std::time::Duration;
use vm::faults::{self, Frozen};
use vm::gpio_sim::Pull;
use vm::line::{INPUTS, OUTPUT_LINES};
use vm::station::{Asked, Station};
use vm::vivid::Control;

/// A station with a good and a bad part on the belt, the bad one between camera and rejecter.
fn in_the_middle_of_a_part() -> Station {
    in_the_middle_with(|text| text)
}

fn in_the_middle_with(edit: impl FnOnce(String) -> String) -> Station {
    let station = Station::running_with(edit);
    station.line.feed("gb");
    vm::wait_until("the bad part to be between camera and rejecter", || {
        let world = station.line.world();
        world.parts.len() == 2 && world.last_lead() > 100.0
    });
    station
}

/// Outputs safe by an alarm; the cause ends; a person clears the belt and acknowledges; it sorts on.
fn stops_and_comes_back(
    mut station: Station,
    kind: AlarmKind,
    begin: impl FnOnce(&mut Station),
    end: impl FnOnce(&mut Station),
) {
    begin(&mut station);
    station.wait_safe();
    let status = station.wait_for("the alarm", |status| status.has(kind));
    assert!(!status.permit, "{status:?}");
    end(&mut station);
    station.recover();
    station.sorts("gbg");
    station.assert_nothing_lost();
}

/// A fault that does not stop the line: parts are sorted while it lasts and afterwards.
fn goes_on(station: &mut Station, parts: &str) {
    station.sorts(parts);
    assert_eq!(station.status().map(|status| status.state), Some(State::Running));
    station.assert_nothing_lost();
}

// --- the camera ---------------------------------------------------------------------------------

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_disconnects() {
    let station = in_the_middle_of_a_part();
    // Nobody may have it open for it to come back, so the test's own end is closed as well.
    stops_and_comes_back(
        station,
        AlarmKind::CameraLost,
        |station| {
            station.vivid.press(Control::Disconnect);
            station.projector = None;
        },
        Station::project,
    );
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_is_unbound_and_bound_again() {
    let station = in_the_middle_of_a_part();
    stops_and_comes_back(
        station,
        AlarmKind::CameraLost,
        |station| station.vivid.unbind(),
        |station| {
            station.projector = None;
            station.vivid.bind();
            station.project();
        },
    );
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_fails_to_start_streaming_once_and_to_give_buffers_once() {
    let mut station = Station::running();
    for error in [
        Control::StreamOnError,
        Control::RequestBuffersError,
        Control::QueueError,
    ] {
        station.vivid.press(error);
        station.vivid.press(Control::StreamingError);
        vm::wait_until("the camera to fail", || {
            station.said("run").matches("trying again").count() > 0
        });
        station.wait_for("pictures", |status| !status.alarms.iter().any(|a| a.present));
    }
    station.recover();
    station.sorts("gbg");
    station.assert_nothing_lost();
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_refuses_a_buffer() {
    let mut station = Station::running();
    station.line.feed("gb");
    station.vivid.press(Control::QueueError);
    vm::wait_until("it to be told", || station.said("run").contains("trying again"));
    station.wait_for("pictures", |status| !status.alarms.iter().any(|a| a.present));
    station.recover();
    station.sorts("gbg");
    station.assert_nothing_lost();
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_drops_every_third_picture() {
    let mut station = Station::running();
    station.vivid.set(Control::PercentDropped, 33);
    goes_on(&mut station, "gbgb");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_counts_its_pictures_from_the_start_again() {
    let mut station = Station::running();
    station.vivid.set(Control::WrapSequence, 1);
    // Counters are wound forward when streaming starts.
    station.vivid.press(Control::StreamingError);
    vm::wait_until("it to be opened anew", || {
        station.said("run").contains("trying again")
    });
    station.wait_for("pictures", |status| !status.alarms.iter().any(|a| a.present));
    station.recover();
    station.sorts("gbgbgb");
    station.assert_nothing_lost();
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_gives_another_format_than_asked() {
    let mut station = Station::new(|text| text.replace("\"YUYV\"", "\"MJPG\""));
    station.start_outputs();
    station.start_run_in_any_state();
    station.wait_for("the alarm", |status| status.has(AlarmKind::CameraLost));
    vm::wait_until("what it got instead", || {
        station.said("run").contains("YUYV 320 × 180")
    });
    station.line.button(true);
    std::thread::sleep(Duration::from_secs(2));
    assert!(!station.line.world().permit, "the belt runs without pictures");
}

// --- lines --------------------------------------------------------------------------------------

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn input_chip_is_removed_and_put_back() {
    let station = in_the_middle_of_a_part();
    stops_and_comes_back(
        station,
        AlarmKind::Trouble(Trouble::LinesLost),
        |station| station.line.inputs().unplug(),
        |station| {
            station.line.inputs().plug();
            station.line.show_anew();
        },
    );
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn input_line_is_in_use_by_somebody_else() {
    let mut station = Station::new(|text| text);
    station.start_outputs();
    let _held = faults::hold(station.line.inputs().device(), "PE_TRIG");
    station.start_run_in_any_state();
    assert!(!station.run_ended().success());
    let said = station.said("run");
    assert!(said.contains("PE_TRIG") && said.contains(INPUTS), "{said}");
    assert!(!station.line.world().permit);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn more_edges_than_the_kernel_keeps() {
    let station = in_the_middle_of_a_part();
    stops_and_comes_back(
        station,
        AlarmKind::Trouble(Trouble::EdgesLost),
        |station| {
            // Nobody reads them meanwhile, and the kernel's queue is finite.
            let run = station.run_id();
            kill_process(run, Signal::STOP).expect("the station runs");
            station.wait_safe();
            for n in 0..3_000 {
                station.line.inputs().pull("PE_PASSED", Pull::to(n % 2 == 0));
            }
            kill_process(run, Signal::CONT).expect("the station runs");
        },
        |_| {},
    );
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn chute_eye_sees_nothing() {
    let station = in_the_middle_of_a_part();
    stops_and_comes_back(
        station,
        AlarmKind::RejectNotConfirmed,
        |station| station.line.stick("PE_CHUTE", Some(false)),
        |station| station.line.stick("PE_CHUTE", None),
    );
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn chute_eye_stays_covered() {
    let station = in_the_middle_of_a_part();
    stops_and_comes_back(
        station,
        AlarmKind::SensorStuck,
        |station| station.line.stick("PE_CHUTE", Some(true)),
        |station| station.line.stick("PE_CHUTE", None),
    );
}

// --- display ------------------------------------------------------------------------------------------

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn framebuffer_goes_away() {
    vm::modprobe("vfb", &["vfb_enable=1"]);
    vm::wait_until("a framebuffer", || Path::new("/dev/fb0").exists());
    let mut station = Station::running_with(|text| text + "\n[display]\nframebuffer = \"/dev/fb0\"\n");
    vm::write(Path::new("/sys/bus/platform/drivers/vfb/unbind"), "vfb.0");
    goes_on(&mut station, "gb");
}

// --- processes and threads ------------------------------------------------------------------------

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
    station.recover();
    station.sorts("gbg");
    station.assert_nothing_lost();
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
    station.recover();
    station.sorts("gbg");
    station.assert_nothing_lost();
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn outputs_are_killed_in_the_middle_of_a_part() {
    let mut station = in_the_middle_of_a_part();
    station.kill_outputs();
    // Until it is started again nobody drives the lines: what they do then is a matter of wiring.
    station.unsafe_pulls();
    let status = station.wait_for("its alarm", |status| status.has(AlarmKind::OutputsLost));
    assert!(!status.permit);
    station.start_outputs();
    station.wait_safe();
    station.recover();
    station.sorts("gbg");
    station.assert_nothing_lost();
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn outputs_hang_in_the_middle_of_a_part() {
    let mut station = in_the_middle_of_a_part();
    let outputs = station.outputs_id();
    kill_process(outputs, Signal::STOP).expect("the outputs run");
    let status = station.wait_for("its alarm", |status| status.has(AlarmKind::OutputsLost));
    assert!(!status.permit);
    kill_process(outputs, Signal::CONT).expect("the outputs run");
    station.wait_safe();
    station.recover();
    station.sorts("gbg");
    station.assert_nothing_lost();
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
    station.recover();
    station.sorts("gbg");
    station.assert_nothing_lost();
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn lines_are_safe_from_the_start_whatever_their_pull() {
    let mut station = Station::new(|text| text);
    for name in OUTPUT_LINES {
        station.line.outputs().pull(name, Pull::to(name != "BEACON"));
    }
    station.start_outputs();
    station.start_run();
    station.wait_safe();
    assert_eq!(station.status().map(|status| status.permit), Some(false));
}
