//! What can go wrong with a station's lines and the sensors on them, one fault a test: the outputs go
//! safe, an alarm says why, the station comes back, and no part is lost from the account. See
//! `vm_faults.rs`.

mod vm;

use elek::station::event::{AlarmKind, Trouble};
use rustix::process::{Signal, kill_process};
use vm::faults::{self, comes_back, in_the_middle_of_a_part, stops_and_comes_back};
use vm::gpio_sim::Pull;
use vm::line::INPUTS;
use vm::station::{Asked, Station};

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
fn output_chip_is_removed_and_put_back() {
    let mut station = in_the_middle_of_a_part();
    station.line.outputs().unplug();
    station.wait_for("the alarm", |status| {
        status.has(AlarmKind::OutputsLost) && !status.permit
    });
    station.line.outputs().plug();
    comes_back(&mut station);
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
fn output_line_is_in_use_by_somebody_else() {
    let mut station = Station::new(|text| text);
    let held = faults::hold(station.line.outputs().device(), "BELT_RUN");
    station.start_outputs();
    station.start_run_in_any_state();
    vm::wait_until("the line to be named", || {
        (station.said("run") + &station.said("outputs")).contains("BELT_RUN")
    });
    assert_eq!(station.line.world().permits, 0);
    drop(held);
    // An end of the process would be as good: systemd starts it again.
    if station.has_ended() {
        station.start_run();
    }
    station.recover();
    station.sorts("gb");
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

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn lines_are_safe_from_the_start_whatever_their_pull() {
    let mut station = Station::new(|text| text);
    station.unsafe_pulls();
    station.start_outputs();
    station.start_run();
    station.wait_safe();
    assert_eq!(station.status().map(|status| status.permit), Some(false));
}
