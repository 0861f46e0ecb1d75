//! Input and output lines against the kernel's drivers, on simulated chips.
//!
//! Where the kernel speaks both versions of its GPIO interface, everything is run by v2, and then
//! once more by v1 (see [`everything_again_by_v1`]).

mod vm;

use elek::config::{Bias, Config, InputLine, LineName, OutputLine};
use elek::device::clock;
use elek::device::gpio::edges::{EdgeLine, Edges};
use elek::device::gpio::{self, Chip, GpioError, UAPI_VARIABLE, Uapi};
use elek::outputs::link::{Link, Peer};
use elek::runtime::Listener;
use elek::station::event::{Event, Input, PulsePlan, PulseReport, Trouble};
use elek::units::{Instant, LaneId, Micros, OutputId, PulseId};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use vm::gpio_sim::{GpioSim, Pull};
use vm::{PATIENCE, wait_until};

const NAMES: [&str; 11] = [
    "ACK",
    "BEACON",
    "BELT_RUN",
    "PE_TRIG",
    "REJ1",
    "PE_BIN",
    "AIR_LOW",
    "PE_CHUTE",
    "PE_PASSED",
    "ENC_A",
    "ENC_B",
];

fn input(chip: &str, name: impl Into<LineName>) -> InputLine {
    InputLine {
        chip: chip.into(),
        name: name.into(),
        active_low: false,
        bias: Bias::Kept,
    }
}

fn forced() -> bool {
    std::env::var_os(UAPI_VARIABLE).is_some()
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn everything_again_by_v1() {
    if forced() {
        return;
    }
    let chip = GpioSim::new("versions", &["A"]);
    let spoken = gpio::uapis(chip.device()).expect("the chip can be looked at");
    drop(chip);
    let (release, version) = gpio::kernel();
    println!("Linux {release} speaks {spoken:?}");
    assert_eq!(
        spoken[0],
        Uapi::V2,
        "both kernels of the harness speak v2, and it comes first"
    );
    // Debian's 6.12 is taken because it still has v1; its newer kernels have not.
    assert_eq!(
        spoken.contains(&Uapi::V1),
        version < (6, 13),
        "{release}: {spoken:?}"
    );
    if !spoken.contains(&Uapi::V1) {
        return;
    }
    let again = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--ignored", "--test-threads=1"])
        .env(UAPI_VARIABLE, "1")
        .status();
    assert!(
        again.expect("this test starts").success(),
        "by uAPI v1 something failed, see above"
    );
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn chips_and_lines_are_found_by_what_they_are_called() {
    let sim = GpioSim::new("io-in", &["PE", "TWICE", "TWICE", "ACK"]);
    let _other = GpioSim::new("io-out", &["REJ"]);
    let device = sim.device().display().to_string();
    let name = sim.device().file_name().unwrap().to_str().unwrap().to_owned();
    for wanted in ["io-in", &device, &name] {
        let chip = Chip::find(wanted).unwrap_or_else(|error| panic!("{wanted}: {error}"));
        assert_eq!(chip.info().label, "io-in");
        assert_eq!(chip.uapi(), if forced() { Uapi::V1 } else { Uapi::V2 });
        assert_eq!(chip.offset(&"ACK".into()).unwrap(), 3);
        assert_eq!(chip.offset(&LineName::Offset(2)).unwrap(), 2);
    }
    let error = Chip::find("io").unwrap_err().to_string();
    assert!(
        error.contains("no GPIO chip is called io;") && error.contains("io-in (gpiochip"),
        "{error}"
    );
    let chip = Chip::find("io-in").unwrap();
    let error = |line: LineName| chip.offset(&line).unwrap_err().to_string();
    assert_eq!(
        error("PEE".into()),
        "chip io-in has no line PEE; it has PE, TWICE, TWICE, ACK"
    );
    assert_eq!(
        error(LineName::Offset(4)),
        "chip io-in has no line number 4; it has the numbers 0 to 3"
    );
    assert!(error("TWICE".into()).ends_with("give the number instead (line = 1, 2)"));
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_busy_line_names_who_has_it() {
    let _sim = GpioSim::new("busy", &["A", "B"]);
    let _held = EdgeLine::open(&input("busy", "A")).unwrap();
    let error = EdgeLine::open(&input("busy", "A")).unwrap_err();
    assert!(matches!(error, GpioError::Busy { .. }), "{error}");
    assert_eq!(error.to_string(), "line A of chip busy is in use by \"elek\"");
    let chip = Chip::find("busy").unwrap();
    let error = chip
        .drive(&[("B".into(), false), ("A".into(), false)])
        .unwrap_err();
    assert_eq!(error.to_string(), "line A of chip busy is in use by \"elek\"");
    let lines = chip.lines().unwrap();
    assert_eq!(lines[0].used_by.as_deref(), Some("elek"));
    assert_eq!(lines[1].used_by, None);
}

/// The next edges, at least one.
fn edges(line: &mut EdgeLine) -> Edges {
    assert!(clock::wait_readable(&*line, PATIENCE).unwrap(), "no edge came");
    let mut edges = Edges::new();
    line.read(&mut edges).unwrap();
    edges
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn every_edge_comes_with_its_stamp_and_polarity() {
    let sim = GpioSim::new("edges", &["HIGH", "LOW"]);
    for (name, active_low) in [("HIGH", false), ("LOW", true)] {
        let mut wanted = input("edges", name);
        wanted.active_low = active_low;
        let mut line = EdgeLine::open(&wanted).unwrap();
        assert!(line.has_kernel_stamps());
        assert_eq!(line.is_active().unwrap(), active_low);
        let mut bounds = vec![clock::now()];
        for n in 0..400 {
            sim.pull(name, Pull::to(n % 2 == 0));
            bounds.push(clock::now());
            let one = edges(&mut line);
            assert!(one.len() == 1 && !one[0].gap, "edge {n}: {one:?}");
            assert_eq!(one[0].active, (n % 2 == 0) != active_low, "edge {n}");
            // Stamped in the interrupt, which is handled some time after the line is pulled.
            assert!(
                one[0].at >= bounds[n] - Micros::new(1),
                "edge {n} is stamped before it happened"
            );
            assert!(one[0].at <= clock::now(), "edge {n} is stamped in the future");
        }
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn bias_holds_a_line_that_nothing_drives() {
    let sim = GpioSim::new("bias", &["UP", "DOWN", "KEPT"]);
    sim.pull("DOWN", Pull::Up);
    sim.pull("KEPT", Pull::Up);
    for (name, bias, high) in [
        ("UP", Bias::PullUp, true),
        ("DOWN", Bias::PullDown, false),
        ("KEPT", Bias::Kept, true),
    ] {
        let mut wanted = input("bias", name);
        wanted.bias = bias;
        let line = EdgeLine::open(&wanted).unwrap();
        assert_eq!(line.is_active().unwrap(), high, "{name}");
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_queue_that_overflows_says_so_and_goes_on() {
    let sim = GpioSim::new("overflow", &["A"]);
    let mut line = EdgeLine::open(&input("overflow", "A")).unwrap();
    for n in 0..2_000 {
        sim.pull("A", Pull::to(n % 2 == 0));
        // The kernel looks at the level in a thread of its own; what it cannot see it cannot queue.
        std::thread::sleep(Duration::from_millis(1));
    }
    let (mut count, mut gap) = (0, false);
    while clock::wait_readable(&line, Duration::from_millis(500)).unwrap() {
        let some = edges(&mut line);
        count += some.len();
        gap |= some.iter().any(|edge| edge.gap);
    }
    assert!(count < 2_000, "all {count} edges came");
    // v2 drops the oldest and v1 the newest: there the gap shows with the next edge.
    for n in 0..3 {
        sim.pull("A", Pull::to(n % 2 == 0));
        let one = edges(&mut line);
        assert_eq!((one.len(), one[0].active), (1, n % 2 == 0));
        if n == 0 {
            assert!(gap || one[0].gap, "{count} edges came, and no gap");
        } else {
            assert!(!one[0].gap);
        }
    }
}

/// A station whose lines are all on one chip; `encoder` is what follows `source = `.
fn station(chip: &str, encoder: &str) -> Arc<Config> {
    let text = elek::config::DEFAULT
        .replace("chip = \"sim\"", &format!("chip = \"{chip}\""))
        .replace("name = \"PE_TRIG\" }", "name = \"PE_TRIG\", active = \"low\" }")
        .replace("source.simulated]", "source.v4l2]\ndevice = \"/dev/video0\"")
        .replace("seed = 1\nparts_per_s = 20.0\ndefective = 0.15", "gain = 3")
        .replace("source = \"simulated\" ", &format!("source = {encoder} "))
        .replace("pulses_per_mm = 4.0", "pulses_per_mm = 1.0");
    let config = elek::config::parse(&text, "station.toml", Path::new("/tmp"));
    Arc::new(config.unwrap_or_else(|report| panic!("{report}")))
}

fn encoder_lines(chip: &str) -> String {
    format!(
        "{{ lines = {{ a = {{ chip = \"{chip}\", name = \"ENC_A\" }}, b = {{ chip = \"{chip}\", line = 10 }} }} }}"
    )
}

/// The next event that is wanted; others are passed over.
fn until(listener: &Listener, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = listener.next(PATIENCE);
        let event = event.unwrap_or_else(|| panic!("in vain waited for {what}"));
        if wanted(&event) {
            return event;
        }
    }
}

fn trouble(listener: &Listener, trouble: Trouble, present: bool) {
    let wanted = Event::Trouble { trouble, present };
    until(listener, &format!("{wanted:?}"), |event| *event == wanted);
}

fn edge(listener: &Listener, wanted: Input, level: bool) -> Instant {
    let what = format!("{wanted:?} {level}");
    let is = |event: &Event| matches!(event, Event::Edge { input, active, .. } if (*input, *active) == (wanted, level));
    match until(listener, &what, is) {
        Event::Edge { at, .. } => at,
        other => panic!("{other:?}"),
    }
}

const TRIGGER: Input = Input::PhotoEye(LaneId(0));

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn the_station_hears_levels_at_the_start_and_every_edge_then() {
    let sim = GpioSim::new("station", &NAMES);
    sim.pull("PE_TRIG", Pull::Up);
    sim.pull("PE_BIN", Pull::Up);
    let listener = Listener::start(&station("station", &encoder_lines("station"))).unwrap();
    // Only what is active needs telling: the core takes the rest to be inactive.
    let first = until(&listener, "the level of the bin", |event| {
        matches!(event, Event::Edge { .. } | Event::Level { .. })
    });
    assert!(
        matches!(
            first,
            Event::Level {
                input: Input::BinFull,
                active: true,
                ..
            }
        ),
        "{first:?}"
    );
    let mut last = Instant::ZERO;
    for n in 0..100 {
        let covered = n % 2 == 0;
        sim.pull("PE_TRIG", Pull::to(!covered));
        let at = edge(&listener, TRIGGER, covered);
        assert!(at > last);
        last = at;
    }
    for (name, input) in [
        ("ACK", Input::Acknowledge),
        ("AIR_LOW", Input::AirLow),
        ("PE_CHUTE", Input::ChuteEye),
        ("PE_PASSED", Input::PassedEye),
    ] {
        sim.pull(name, Pull::Up);
        edge(&listener, input, true);
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_wrong_name_is_an_error_at_the_start() {
    let _sim = GpioSim::new("names", &NAMES[..8]);
    let error = |config| format!("{:#}", Listener::start(&config).err().expect("a line is missing"));
    let said = error(station("names", "{ counter = \"/dev/counter0\" }"));
    assert!(said.contains("there is no counter /dev/counter0"), "{said}");
    let said = error(station("names", &encoder_lines("names")));
    assert!(
        said.contains("chip names has no line PE_PASSED; it has ACK, BEACON"),
        "{said}"
    );
    let said = error(station("nowhere", &encoder_lines("nowhere")));
    assert!(said.contains("no GPIO chip is called nowhere"), "{said}");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn thousands_of_edges_do_no_harm() {
    let sim = GpioSim::new("flood", &NAMES);
    let listener = Listener::start(&station("flood", &encoder_lines("flood"))).unwrap();
    let flood = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            for n in 0..5_000 {
                sim.pull("PE_CHUTE", Pull::to(n % 2 == 0));
            }
        });
        let (mut edges, mut lost, mut level) = (0, false, false);
        loop {
            match listener.next(Duration::from_secs(3)) {
                Some(Event::Edge {
                    input: Input::ChuteEye,
                    active,
                    ..
                }) => {
                    edges += 1;
                    assert!(
                        lost || active != level,
                        "edge {edges} is like the one before, and nothing was said"
                    );
                    level = active;
                }
                Some(Event::Trouble {
                    trouble: Trouble::EdgesLost,
                    ..
                }) => lost = true,
                Some(_) => {}
                None if flooding.is_finished() => break (edges, lost, level),
                None => {}
            }
        }
    });
    // What was over before the kernel looked at the line is no edge that was lost.
    println!("{} edges of 5000 pulls, loss told: {}", flood.0, flood.1);
    assert!(flood.0 > 0);
    assert!(!flood.2, "the last level is wrong");
    // Another line was not disturbed, and this one is heard again.
    for name in ["PE_PASSED", "PE_CHUTE"] {
        sim.pull(name, Pull::Up);
        edge(
            &listener,
            if name == "PE_CHUTE" {
                Input::ChuteEye
            } else {
                Input::PassedEye
            },
            true,
        );
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_chip_that_is_pulled_out_raises_trouble_and_is_taken_up_again() {
    let mut sim = GpioSim::new("gone", &NAMES);
    sim.pull("PE_BIN", Pull::Up);
    let listener = Listener::start(&station("gone", &encoder_lines("gone"))).unwrap();
    let full = |event: &Event| {
        matches!(
            event,
            Event::Level {
                input: Input::BinFull,
                active: true,
                ..
            }
        )
    };
    until(&listener, "the level of the bin", full);
    for _ in 0..2 {
        sim.unplug();
        trouble(&listener, Trouble::LinesLost, true);
        sim.plug();
        sim.pull("PE_CHUTE", Pull::Up);
        trouble(&listener, Trouble::LinesLost, false);
        sim.pull("PE_TRIG", Pull::Up);
        edge(&listener, TRIGGER, false);
        sim.pull("PE_TRIG", Pull::Down);
        edge(&listener, TRIGGER, true);
    }
}

/// Turns the disc by whole steps, each after the one before was counted: an edge that comes before
/// the kernel's thread has looked at the last one is lost on every line, but this machine is slow.
fn turn(sim: &GpioSim, from: i64, steps: i64, counted: impl Fn(i64)) -> i64 {
    for n in 1..=steps.abs() {
        let place = from + n * steps.signum();
        let (a, b) = match place.rem_euclid(4) {
            0 => (false, false),
            1 => (true, false),
            2 => (true, true),
            _ => (false, true),
        };
        // One of the two is there already.
        if sim.level("ENC_A") != a {
            sim.pull("ENC_A", Pull::to(a));
        }
        if sim.level("ENC_B") != b {
            sim.pull("ENC_B", Pull::to(b));
        }
        counted(place);
    }
    from + steps
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn an_encoder_on_two_lines_is_counted_forward_and_back() {
    let mut sim = GpioSim::new("encoder", &NAMES);
    let listener = Listener::start(&station("encoder", &encoder_lines("encoder"))).unwrap();
    let counts = |wanted: i64| {
        let is = |event: &Event| matches!(event, Event::Encoder { counts, .. } if *counts == wanted);
        until(&listener, &format!("count {wanted}"), is);
    };
    counts(0);
    let mut place = 0;
    for steps in [90, -30, 1, -1, 12, -80] {
        place = turn(&sim, place, steps, counts);
    }
    assert_eq!(place, -8);
    // Out of sight for a while, the place is void, which the core sees by a count far away.
    sim.unplug();
    trouble(&listener, Trouble::LinesLost, true);
    sim.plug();
    let far = |event: &Event| matches!(event, Event::Encoder { counts, .. } if *counts > 1 << 40);
    until(&listener, "a count far away", far);
}

/// Beacon (on when safe), permit, and a reject that is active low.
fn outputs(chip: &str) -> Vec<OutputLine> {
    let line = |name: &str, active_low, safe_on, max_on| OutputLine {
        chip: chip.into(),
        name: name.into(),
        active_low,
        safe_on,
        max_on,
    };
    let mut all = vec![
        line("BEACON", false, true, None),
        line("BELT_RUN", false, false, None),
        line("REJ1", true, false, Some(Micros::from_secs(60))),
    ];
    all[1].name = LineName::Offset(2);
    all
}

/// Electrical levels of beacon, permit and reject.
fn levels(sim: &GpioSim) -> [bool; 3] {
    ["BEACON", "BELT_RUN", "REJ1"].map(|name| sim.level(name))
}

const SAFE: [bool; 3] = [true, false, true];
const UNSAFE: [bool; 3] = [false, true, false];
const UNSAFE_PULLS: [(&str, bool); 3] = [
    ("BEACON", UNSAFE[0]),
    ("BELT_RUN", UNSAFE[1]),
    ("REJ1", UNSAFE[2]),
];

struct Station {
    link: Link,
    events: mpsc::Receiver<Event>,
}

/// This slow machine held us up for so long that the outputs rightly went safe.
#[derive(Debug)]
struct Disturbed;

/// Begins anew where the machine has disturbed, and nothing was shown.
fn undisturbed(mut test: impl FnMut() -> Result<(), Disturbed>) {
    let calm = (0..20).any(|_| test().is_ok());
    assert!(
        calm,
        "this machine is too slow: outputs went safe for want of heartbeats each time"
    );
}

impl Station {
    fn new(peer: Peer, chip: &str) -> Station {
        let (sender, events) = mpsc::channel();
        let sink = Arc::new(move |event| drop(sender.send(event)));
        let link = Link::to(peer, &outputs(chip), None, sink).expect("the output process can be had");
        Station { link, events }
    }

    /// Keeps the outputs alive until this happens.
    fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event, Disturbed> {
        let until = clock::now() + Micros::from_secs(120);
        loop {
            self.link.heartbeat();
            match self.events.recv_timeout(Duration::from_millis(5)) {
                Ok(event) if wanted(&event) => return Ok(event),
                Ok(Event::OutputsReady(false)) => return Err(Disturbed),
                _ => assert!(clock::now() < until, "in vain waited for {what}"),
            }
        }
    }

    fn ready(&mut self, ready: bool) -> Result<(), Disturbed> {
        let what = format!("outputs ready: {ready}");
        self.until(&what, |event| *event == Event::OutputsReady(ready))?;
        Ok(())
    }

    fn respawn(&mut self) {
        while !self.link.is_lost() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.link.respawn().expect("the output process can be had again");
    }

    /// Beacon off and permit on; then the lines are like this.
    fn run_belt(&mut self, sim: &GpioSim) -> Result<(), Disturbed> {
        self.link.set(OutputId(0), false);
        self.link.set(OutputId(1), true);
        while levels(sim) != [false, true, true] {
            self.link.heartbeat();
            if let Ok(Event::OutputsReady(false)) = self.events.recv_timeout(Duration::from_millis(5)) {
                return Err(Disturbed);
            }
        }
        Ok(())
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn lines_are_requested_in_their_safe_state() {
    let sim = GpioSim::new("safe", &NAMES);
    sim.pull_all(&UNSAFE_PULLS);
    assert_eq!(levels(&sim), UNSAFE);
    let chip = Chip::find("safe").unwrap();
    let lines = [
        ("REJ1".into(), true),
        ("BEACON".into(), true),
        (LineName::Offset(2), false),
    ];
    let mut drive = chip.drive(&lines).unwrap();
    assert_eq!(levels(&sim), SAFE);
    drive.set(1, false).unwrap();
    assert_eq!(levels(&sim), [false, false, true]);
    drop(drive);
    assert_eq!(levels(&sim), UNSAFE);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn outputs_switch_real_lines_and_report_it() {
    let sim = GpioSim::new("outputs", &NAMES);
    sim.pull_all(&UNSAFE_PULLS);
    undisturbed(|| {
        let mut station = Station::new(Peer::Child(vm::ELEK.into()), "outputs");
        station.ready(true)?;
        station.run_belt(&sim)?;
        let on_at = clock::now() + Micros::from_millis(300);
        let plan = PulsePlan {
            pulse: PulseId(1),
            output: OutputId(2),
            on_at,
            off_at: on_at + Micros::from_secs(3),
        };
        station.link.fire(plan);
        let of_pulse = |event: &Event| matches!(event, Event::Pulse { .. });
        let Event::Pulse { report, .. } = station.until("the pulse", of_pulse)? else {
            unreachable!()
        };
        let PulseReport::On { at } = report else {
            return Err(Disturbed); // Refused, because its time was over before this machine got to it.
        };
        assert!(at >= on_at);
        assert!(!sim.level("REJ1"), "active is low");
        let Event::Pulse { report, .. } = station.until("its end", of_pulse)? else {
            unreachable!()
        };
        assert!(matches!(report, PulseReport::Off { .. }), "{report:?}");
        assert!(sim.level("REJ1"));
        station.link.close();
        Ok(())
    });
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_killed_output_process_leaves_lines_to_the_wiring_until_the_next_one_holds_them() {
    let sim = GpioSim::new("killed", &NAMES);
    sim.pull_all(&UNSAFE_PULLS);
    undisturbed(|| {
        let mut station = Station::new(Peer::Child(vm::ELEK.into()), "killed");
        station.ready(true)?;
        assert_eq!(levels(&sim), SAFE);
        station.run_belt(&sim)?;
        let child = station.link.process_id().expect("it is a child");
        let child = Pid::from_raw(child as i32).expect("a process number");
        kill_process(child, Signal::KILL).unwrap();
        station.ready(false)?;
        // No process can do anything about this: the pull has the lines, as a resistor has real ones.
        wait_until("the lines to fall to their pull", || levels(&sim) == UNSAFE);
        station.respawn();
        station.ready(true)?;
        assert_eq!(levels(&sim), SAFE);
        Ok(())
    });
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn outputs_that_outlive_the_station_hold_the_lines_safe() {
    let sim = GpioSim::new("outlive", &NAMES);
    sim.pull_all(&UNSAFE_PULLS);
    let socket = Path::new("/tmp/outlive.sock");
    let mut process = Command::new(vm::ELEK)
        .args(["outputs", "--socket"])
        .arg(socket)
        .spawn()
        .expect("elek starts");
    let peer = || Peer::Socket(socket.into());
    wait_until("the socket", || {
        Link::to(peer(), &outputs("outlive"), None, Arc::new(|_| ())).is_ok()
    });
    for _ in 0..3 {
        undisturbed(|| {
            let mut station = Station::new(peer(), "outlive");
            station.ready(true)?;
            assert_eq!(levels(&sim), SAFE);
            station.run_belt(&sim)?;
            // The station dies: as with kill -9, its socket closes without a word.
            drop(station);
            wait_until("safe lines", || levels(&sim) == SAFE);
            Ok(())
        });
    }
    process.kill().unwrap();
    process.wait().unwrap();
    wait_until("the lines to fall to their pull", || levels(&sim) == UNSAFE);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn outputs_whose_chip_is_pulled_out_report_it_and_come_back() {
    let mut sim = GpioSim::new("pulled", &NAMES);
    undisturbed(|| {
        let mut station = Station::new(Peer::Child(vm::ELEK.into()), "pulled");
        station.ready(true)?;
        sim.unplug();
        // Nothing is switched meanwhile; it is noticed all the same.
        station.ready(false).expect("this is what is wanted");
        sim.plug();
        sim.pull_all(&UNSAFE_PULLS);
        station.respawn();
        station.ready(true)?;
        assert_eq!(levels(&sim), SAFE);
        Ok(())
    });
}

/// The kernel's interrupt-cnt on a simulated line, where the guest has it (see cross/vm/modules).
#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn an_encoder_is_counted_by_the_kernel() {
    let mut sim = GpioSim::new("counter", &NAMES);
    let on_line = |chip: &str| {
        let load = Command::new("modprobe")
            .args(["cnt-on-line", &format!("chip={chip}"), "line=9"])
            .status();
        load.is_ok_and(|status| status.success())
    };
    vm::run("sh", &["-c", "modprobe interrupt-cnt || true"]);
    if !on_line("counter") {
        let (release, version) = gpio::kernel();
        assert!(
            version > (6, 12),
            "Linux {release} of the harness should have a counter"
        );
        println!("Linux {release} has no counter for a simulated line");
        return;
    }
    wait_until("the counter", || {
        Path::new("/sys/bus/counter/devices/counter0/count0/count").exists()
    });
    let listener = Listener::start(&station("counter", "{ counter = \"/dev/counter0\" }")).unwrap();
    let counts = |wanted: i64| {
        let is = |event: &Event| matches!(event, Event::Encoder { counts, .. } if *counts == wanted);
        until(&listener, &format!("count {wanted}"), is);
    };
    counts(0);
    for n in 1..=50 {
        sim.pull("ENC_A", Pull::Up);
        counts(n);
        sim.pull("ENC_A", Pull::Down);
    }
    // The counter goes away with its line, and comes back from 0: the place is void.
    vm::unload("cnt-on-line");
    trouble(&listener, Trouble::LinesLost, true);
    assert!(on_line("counter"));
    let far = |event: &Event| matches!(event, Event::Encoder { counts, .. } if *counts > 1 << 40);
    until(&listener, "a count far away", far);
    drop(listener);
    vm::unload("cnt-on-line");
    sim.unplug();
}
