//! The whole station on simulated hardware: pictures through a camera driver, edges and levels
//! through a GPIO driver, both processes, the record and the display.

mod vm;

use elek::display::Canvas;
use elek::station::event::Counts;
use elek::status::{State, Status};
use std::path::Path;
use vm::line::{PART, REJECT};
use vm::screen::{self, Vfb, furthest, screenshot};
use vm::station::{Asked, Station};

/// The page has the display's size.
const PAGE: (u32, u32) = (480, 320);

/// Each bad part was blown off by a pulse of its own, no good one was, and the station knows it.
fn assert_sorted(station: &mut Station) {
    let status = station.wait_through();
    let reason = status.last_reject.as_ref().map(|last| last.reason.as_str());
    println!("the last reject's reason: {}", reason.unwrap_or("none"));
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

fn drawn(status: &Status) -> Canvas {
    let mut canvas = Canvas::new(PAGE.0, PAGE.1);
    let Ok(()) = elek::display::draw(status, &mut canvas);
    canvas
}

fn pixels(canvas: &Canvas) -> &[[u8; 3]] {
    canvas.rgb.as_chunks().0
}

/// Of the pixels that depend on the counts: how many of this picture are as they should be, and how many not.
fn counts_shown(shot: &Canvas, status: &Status) -> (usize, usize) {
    let right = drawn(status);
    let zero = drawn(&Status {
        counts: Counts::default(),
        ..status.clone()
    });
    let all = pixels(shot).iter().zip(pixels(&right)).zip(pixels(&zero));
    let counts = all.filter(|((_, right), zero)| right != zero);
    let (same, other): (Vec<_>, Vec<_>) = counts.partition(|((shot, right), _)| shot == right);
    (same.len(), other.len())
}

/// The display shows the page of this state: the counts, what elek writes as a picture, and the part that
/// was blown off last.
fn assert_shown(station: &Station, picture: &Path) {
    let status = station.status().expect("the station answers");
    // A page is drawn once a second.
    vm::wait_until("the counts on the display", || {
        let (same, other) = counts_shown(&screenshot(), &status);
        same > 100 && other == 0
    });
    vm::wait_until("the same page on display and picture", || {
        furthest(&screenshot(), &screen::picture(picture)) == 0
    });
    let (shot, right) = (screenshot(), drawn(&status));
    let (same, other) = counts_shown(&shot, &status);
    println!("{same} pixels of the counts are right, {other} are not");
    assert_eq!(other, 0);
    // What `elek status` does not pass on: the picture of the last reject, a red square.
    let others = pixels(&shot).iter().zip(pixels(&right));
    let others = others.filter(|(shot, right)| shot != right);
    let red = |[red, green, blue]: [u8; 3]| red > 180 && green < 80 && blue < 80;
    let red = others.filter(|(shot, _)| red(**shot)).count();
    println!("{red} red pixels of the last reject");
    assert!(red > 50);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn bad_parts_are_blown_off_and_good_ones_pass() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let picture = folder.path().join("display.png");
    let vfb = Vfb::load();
    vfb.mode(PAGE.0, PAGE.1, 32);
    let display = format!(
        "\n[display]\nframebuffer = {:?}\nwidth = {}\nheight = {}\npng = {picture:?}\n",
        screen::DEVICE,
        PAGE.0,
        PAGE.1
    );
    let mut station = Station::running_with(|text| text + &display);
    station.line.feed("gbggbbgb");
    assert_sorted(&mut station);
    assert_shown(&station, &picture);

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
