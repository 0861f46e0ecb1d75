//! The whole station on simulated hardware: pictures through a camera driver, edges and levels
//! through a GPIO driver, both processes, the record and the display.

mod vm;

use elek::status::State;
use vm::line::{PART, REJECT};
use vm::station::{Asked, Station};

/// Each bad part was blown off by a pulse of its own, no good one was, and the station knows it.
fn assert_sorted(station: &mut Station) {
    let status = station.wait_through();
    let world = station.line.world();
    for (index, part) in world.parts.iter().enumerate() {
        assert_eq!(part.blown, part.bad, "part {index} of {:#?}", world.parts);
        assert_eq!(part.passed, !part.bad, "part {index} of {:#?}", world.parts);
    }
    let bad = world.parts.iter().filter(|part| part.bad);
    assert_eq!(world.pulses.len(), bad.clone().count(), "{:#?}", world.pulses);
    for (pulse, part) in world.pulses.iter().zip(bad) {
        // On while the part is at the rejecter: begins behind its leading edge, ends behind its end.
        let lead = pulse.from - part.start;
        assert!((REJECT..REJECT + PART).contains(&lead), "{pulse:?} for {part:?}");
        let end = pulse.to.expect("no pulse is on any more") - part.start;
        assert!(
            (lead..REJECT + PART + 30.0).contains(&end),
            "{pulse:?} for {part:?}"
        );
    }
    let bad = world.parts.iter().filter(|part| part.bad).count();
    let good = world.parts.len() - bad;
    let counts = status.counts;
    assert_eq!(counts.seen, world.parts.len() as u64);
    assert_eq!(counts.passed, good as u64, "{counts:?}");
    assert_eq!(counts.confirmed, bad as u64, "{counts:?}");
    assert!(counts.balances(), "{counts:?}");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn bad_parts_are_blown_off_and_good_ones_pass() {
    let mut station = Station::running();
    station.line.feed("gbggbbgb");
    assert_sorted(&mut station);

    let json = station.elek(&[
        "status",
        "--json",
        "--socket",
        &station.record().display().to_string(),
    ]);
    assert!(json.status.success(), "{json:?}");
    let status: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(status["counts"]["seen"], 8);
    assert_eq!(status["counts"]["confirmed"], 4);
    assert_eq!(status["counts"]["passed"], 4);
    assert_eq!(status["counts"]["in_flight"], 0);

    let ended = station.stop_run();
    assert!(ended.success(), "{ended}");
    let world = station.line.world();
    assert!(!world.permit && !world.reject, "the outputs are safe");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_full_bin_stops_the_belt_until_it_is_emptied_and_a_person_acknowledges() {
    use elek::station::event::AlarmKind;
    let mut station = Station::running();
    station.line.feed("gb");
    station.line.stick("PE_BIN", Some(true));
    let status = station.wait_for("the bin's alarm", |status| status.has(AlarmKind::BinFull));
    assert!(!status.permit);
    vm::wait_until("the permit to go", || !station.line.world().permit);
    station.line.stick("PE_BIN", None);
    station.acknowledge();
    assert_eq!(station.status().map(|status| status.state), Some(State::Running));
    assert_sorted(&mut station);
}
