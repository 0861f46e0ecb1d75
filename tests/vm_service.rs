//! The station as it is shipped: installed by systemd/install.sh, run by systemd as its own user with
//! its own few rights, on simulated hardware. Runs in the guest with the Debian disk.

mod vm;

use elek::station::event::AlarmKind;
use elek::status::State;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use vm::screen::{self, Vfb, furthest, screenshot};
use vm::service::{Services, UNITS, freeze, main_process, property};
use vm::station::{Asked, Station};
use vm::{fixture, run, wait_until, write};

/// Installs what is shipped, on a machine with a camera and lines.
fn installed(edit: impl FnOnce(String) -> String) -> Station {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    // What the test before has counted.
    let _ = std::fs::remove_dir_all("/var/lib/elek");
    run(
        "sh",
        &[&folder.join("systemd/install.sh").display().to_string(), vm::ELEK],
    );
    let mut station = Station::new(|text| {
        edit(text)
            .replace("RECORD", "/var/lib/elek")
            .replace("MODELS/", "")
    });
    station.record_is(Path::new("/var/lib/elek"));
    for file in ["colour.onnx", "manifest.toml"] {
        std::fs::copy(fixture(file), Path::new("/etc/elek").join(file)).expect("a model can be copied");
    }
    std::fs::copy(station.config(), "/etc/elek/station.toml").expect("the configuration can be copied");
    run("udevadm", &["settle"]);
    station
}

fn started() -> (Station, Services) {
    started_with(|text| text)
}

fn started_with(edit: impl FnOnce(String) -> String) -> (Station, Services) {
    let mut station = installed(edit);
    let services = Services;
    run("systemctl", &["start", "elek.service"]);
    station.wait_for("the station to see pictures", |status| {
        !status.has(AlarmKind::CameraLost)
    });
    (station, services)
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn the_units_leave_little_to_attack() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    for unit in UNITS {
        let file = folder.join(unit).display().to_string();
        // An exposure of 1.0 of 10; systemd-analyze fails above it.
        let said = run(
            "systemd-analyze",
            &[
                "security",
                "--offline=true",
                "--threshold=10",
                "--no-pager",
                &file,
            ],
        );
        println!("{}", said.lines().last().unwrap_or_default());
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn it_runs_as_its_own_user_sorts_reloads_and_stops() {
    let (mut station, _services) = started();
    for unit in UNITS {
        assert_eq!(property(unit, "ActiveState"), "active", "{unit}");
        let process = Path::new("/proc").join(main_process(unit));
        let owner = std::fs::metadata(process).expect("the process lives").uid();
        assert_ne!(owner, 0, "{unit} runs as root");
    }
    let node = std::fs::metadata(station.line.outputs().device()).expect("the chip is there");
    assert_eq!(node.mode() & 0o777, 0o660, "the udev rule was applied");
    let granted = station.wait_journal("outputs run with");
    assert!(
        granted.contains("real-time priority and locked memory"),
        "{granted}"
    );

    station.acknowledge();
    station.sorts("gbgb");
    station.assert_nothing_lost();

    run("systemctl", &["reload", "elek.service"]);
    // A configuration read anew is a new station: it waits for a person.
    station.wait_safe();
    station.recover();
    station.sorts("bg");

    run("systemctl", &["stop", "elek.service"]);
    station.wait_safe();
    assert_eq!(property("elek.service", "Result"), "success");
    assert_eq!(
        property("elek-outputs.service", "ActiveState"),
        "active",
        "the lines stay held"
    );
}

/// Stops a process as a hang would, and waits until its watchdog has started it anew.
fn hangs(station: &mut Station, unit: &str) {
    let before = main_process(unit);
    freeze(&before);
    station.wait_safe();
    wait_until("the watchdog to start it anew", || {
        let now = main_process(unit);
        now != before && now != "0" && property(unit, "ActiveState") == "active"
    });
    let why = station.wait_journal("Watchdog timeout");
    assert!(why.contains(unit), "{why}");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_hanging_station_is_started_anew_with_safe_outputs() {
    let (mut station, _services) = started();
    station.unsafe_pulls();
    station.acknowledge();
    station.line.feed("gb");
    wait_until("a part on the belt", || station.line.world().last_lead() > 50.0);
    hangs(&mut station, "elek.service");
    let status = station.wait_for("its alarm", |status| status.has(AlarmKind::PartsUnaccounted));
    assert_ne!(status.state, State::Running, "nobody has acknowledged");
    assert!(!station.line.world().permit);
    station.recover();
    station.sorts("gb");
    station.assert_nothing_lost();
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn hanging_outputs_are_started_anew_and_the_belt_waits_for_a_person() {
    let (mut station, _services) = started();
    station.acknowledge();
    station.line.feed("gb");
    wait_until("a part on the belt", || station.line.world().last_lead() > 50.0);
    let before = main_process("elek-outputs.service");
    freeze(&before);
    station.wait_for("its alarm", |status| {
        status.has(AlarmKind::OutputsLost) && !status.permit
    });
    wait_until("the watchdog to start them anew", || {
        main_process("elek-outputs.service") != before
    });
    station.wait_safe();
    station.recover();
    station.sorts("gb");
    station.assert_nothing_lost();
}

/// Whether what the display shows changes within some seconds.
fn changes() -> bool {
    let before = screenshot();
    (0..15).any(|_| {
        std::thread::sleep(Duration::from_millis(230));
        furthest(&screenshot(), &before) > 0
    })
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn no_cursor_blinks_over_the_display() {
    let vfb = Vfb::load();
    vfb.mode(480, 320, 32);
    let console = Path::new("/dev/tty0");
    // The kernel gives the display to its console when there is something to be read.
    write(console, "\x1b[?25hhere\n");
    assert!(
        changes(),
        "the cursor does not blink, so this test would prove nothing"
    );
    let picture = "/var/lib/elek/display.png";
    let display = format!(
        "\n[display]\nframebuffer = {:?}\nconsole = {console:?}\nwidth = 480\nheight = 320\npng = {picture:?}\n",
        screen::DEVICE
    );
    let (_station, _services) = started_with(|text| text + &display);
    wait_until("a picture", || Path::new(picture).exists());
    wait_until("the same page on display and picture", || {
        furthest(&screenshot(), &screen::picture(Path::new(picture))) == 0
    });
    // It draws no more, so that only a cursor could change anything.
    freeze(&main_process("elek.service"));
    assert!(!changes(), "the cursor blinks over the display");
}
