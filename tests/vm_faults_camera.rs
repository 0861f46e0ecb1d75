//! What can go wrong with a station's camera, one fault a test: the outputs go safe, an alarm says why,
//! the station comes back, and no part is lost from the account; or the line goes on. See `vm_faults.rs`.

mod vm;

use elek::station::event::AlarmKind;
use std::time::Duration;
use vm::faults::{comes_back, goes_on, in_the_middle_of_a_part, stops_and_comes_back};
use vm::station::{Asked, Station};
use vm::vivid::Control;

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

/// How often the camera has failed so far, as the station says.
fn failures(station: &Station) -> usize {
    station.said("run").matches("trying again").count()
}

/// Opened again before `stop_after_ms`, it may or may not have stopped the belt.
fn wait_for_pictures(station: &mut Station) {
    station.wait_for("pictures", |status| {
        !status.alarms.iter().any(|alarm| alarm.present)
    });
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_stops_streaming_for_good_until_opened_anew() {
    let mut station = in_the_middle_of_a_part();
    station.vivid.press(Control::StreamingError);
    vm::wait_until("it to be told", || failures(&station) > 0);
    wait_for_pictures(&mut station);
    comes_back(&mut station);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_refuses_a_buffer() {
    let mut station = in_the_middle_of_a_part();
    vm::wait_until("it to be told", || {
        // Once is not enough: the test's own end of the camera may be the one that is refused.
        station.vivid.press(Control::QueueError);
        std::thread::sleep(Duration::from_millis(200));
        failures(&station) > 0
    });
    wait_for_pictures(&mut station);
    comes_back(&mut station);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_cannot_be_started_at_once() {
    let mut station = Station::running();
    for error in [Control::StreamOnError, Control::RequestBuffersError] {
        let before = failures(&station);
        // It is for the station alone: who starts first is refused.
        station.projector = None;
        station.vivid.press(error);
        station.vivid.press(Control::StreamingError);
        vm::wait_until("the stream to end and its start to fail", || {
            failures(&station) >= before + 2
        });
        station.project();
        wait_for_pictures(&mut station);
    }
    comes_back(&mut station);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_drops_every_third_picture() {
    let mut station = Station::running();
    // The loop drops pictures on their way out, too, so that what the camera gives can have been drawn half a second
    // and more before its stamp. On a slow belt that is a few millimetres.
    station.line.slow_down(0.33);
    station.vivid.set(Control::PercentDropped, 33);
    goes_on(&mut station, "gbgb");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_flags_pictures_as_damaged() {
    let mut station = Station::running();
    station.line.feed("gbgb");
    for _ in 0..10 {
        station.vivid.press(Control::BufferError);
        std::thread::sleep(Duration::from_millis(400));
    }
    let said = station.said("run");
    assert!(
        said.contains("a picture is not used: the driver marked it as broken"),
        "{said}"
    );
    goes_on(&mut station, "gb");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_counts_its_pictures_from_the_start_again() {
    let mut station = Station::running();
    station.vivid.set(Control::WrapSequence, 1);
    // Counters are wound forward when streaming starts.
    station.vivid.press(Control::StreamingError);
    vm::wait_until("it to be opened anew", || failures(&station) > 0);
    wait_for_pictures(&mut station);
    station.recover();
    station.sorts("gbgb");
    station.assert_nothing_lost();
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn camera_stamps_wrap() {
    let station = in_the_middle_of_a_part();
    stops_and_comes_back(
        station,
        AlarmKind::CameraLost,
        // Stamps of another age cannot be believed, and a picture without a stamp shows nobody.
        |station| {
            station.vivid.set(Control::WrapTimestamp, 1);
            // The driver looks at this when streaming starts.
            station.vivid.press(Control::StreamingError);
        },
        |station| {
            let said = station.said("run");
            assert!(said.contains("its time stamp is not credible"), "{said}");
            station.vivid.set(Control::WrapTimestamp, 0);
        },
    );
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
