//! The real `elek outputs`: fires at its times, and is safe whatever becomes of the other side.
//!
//! No assertion depends on how fast this machine is. What is awaited may take up to
//! [`PATIENCE`]. A pulse that an overloaded machine could not start in time has to be refused
//! in words. And where the machine holds a test up so long that the outputs rightly go safe
//! for want of a heartbeat, the test has shown nothing and begins anew ([`undisturbed`]).

use elek::config::OutputLine;
use elek::device::clock::{self, sleep_until};
use elek::device::simchip::{LineChange, SimChip, SimReader};
use elek::outputs::link::{Link, Peer};
use elek::outputs::protocol::{LineInfo, MESSAGE_BYTES, Receiver, Report, Request, Sender};
use elek::outputs::table::{AHEAD_MAX, Order, SafeCause};
use elek::station::event::{Event, PulsePlan, PulseRefusal, PulseReport};
use elek::units::{Micros, OutputId, PulseId};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, send, sendmsg, socket_with, socketpair,
};
use rustix::process::{Pid, Signal, kill_process};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

const ELEK: &str = env!("CARGO_BIN_EXE_elek");
const PATIENCE: Micros = Micros::from_secs(60);

const REJECT: OutputId = OutputId(0);
const GATE: OutputId = OutputId(1);
const PERMIT: OutputId = OutputId(2);
const BEACON: OutputId = OutputId(3);
const SAFE: [bool; 4] = [false, true, false, true];

/// The reject may stay on longer than any of these tests waits, so that only the safe state ends it.
fn lines() -> Vec<OutputLine> {
    let line = |name: &str, safe_on, max_on| OutputLine {
        chip: "sim".into(),
        name: name.into(),
        active_low: false,
        safe_on,
        max_on,
    };
    let long = Some(Micros::from_secs(600));
    let short = Some(Micros::from_millis(30));
    vec![
        line("REJECT", false, long),
        line("GATE", true, short),
        line("PERMIT", false, None),
        line("BEACON", true, None),
    ]
}

/// What the lines do, as an onlooker at the chip sees it.
struct Onlooker {
    reader: SimReader,
    changes: Vec<LineChange>,
    levels: [bool; 4],
}

impl Onlooker {
    fn new(chip: &SimChip) -> Onlooker {
        Onlooker {
            reader: chip.reader(),
            changes: Vec::new(),
            levels: [false; 4],
        }
    }

    fn look(&mut self) {
        while let Some(change) = self.reader.next_change().expect("the chip is read often enough") {
            self.note(change);
        }
    }

    fn note(&mut self, change: LineChange) {
        self.levels[usize::from(change.output.0)] = change.active;
        self.changes.push(change);
    }

    /// Waits until the lines had these levels, if only for a moment; nobody else is kept
    /// alive meanwhile.
    fn wait_for(&mut self, levels: [bool; 4], why: &str) {
        let until = clock::now() + PATIENCE;
        while self.levels != levels {
            if let Some(change) = self.reader.next_change().expect("the chip is read often enough") {
                self.note(change);
                continue;
            }
            assert!(
                clock::now() < until,
                "{why}: the lines are {:?}, not {levels:?}",
                self.levels
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The outputs went safe for want of a heartbeat that this test owed them.
#[derive(Debug)]
struct HeldUp;

/// Runs a test until the machine lets it come through.
fn undisturbed(attempt: impl Fn() -> Result<(), HeldUp>) {
    for _ in 0..20 {
        if attempt().is_ok() {
            return;
        }
        sleep_until(clock::now() + Micros::from_millis(300));
    }
    panic!("this machine is too busy to keep a heart beating");
}

/// A process that does not outlive its test.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A core that does nothing but what a test tells it.
struct Core {
    link: Link,
    events: mpsc::Receiver<Event>,
}

impl Core {
    fn start(peer: Peer, chip: &SimChip) -> Core {
        let (sender, events) = mpsc::channel();
        let sink = Arc::new(move |event| drop(sender.send(event)));
        Core {
            link: Link::to(peer, &lines(), Some(chip), sink).unwrap(),
            events,
        }
    }

    fn child(chip: &SimChip) -> Result<Core, HeldUp> {
        let mut core = Core::start(Peer::Child(ELEK.into()), chip);
        core.wait_ready()?;
        Ok(core)
    }

    fn wait_ready(&mut self) -> Result<(), HeldUp> {
        self.wait_for(|event| matches!(event, Event::OutputsReady(true)))
            .map(drop)
    }

    /// Keeps the heart beating until an event comes that `is` accepts; returns all up to it.
    fn wait_for(&mut self, is: impl Fn(&Event) -> bool) -> Result<Vec<Event>, HeldUp> {
        let until = clock::now() + PATIENCE;
        let mut seen = Vec::new();
        while clock::now() < until {
            self.link.heartbeat();
            let Ok(event) = self.events.recv_timeout(Duration::from_millis(10)) else {
                continue;
            };
            let wanted = is(&event);
            let lost = is_lost(&event);
            seen.push(event);
            if wanted {
                return Ok(seen);
            }
            if lost {
                return Err(HeldUp);
            }
        }
        panic!("in vain; there came {seen:?}");
    }

    /// The link says so itself, right after its last event.
    fn wait_lost(&self) {
        let until = clock::now() + PATIENCE;
        while !self.link.is_lost() {
            assert!(clock::now() < until, "the link does not notice that it is lost");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Switches away from the safe levels, with a pulse that lasts.
    fn make_unsafe(&mut self) -> Result<(), HeldUp> {
        self.link.set(PERMIT, true);
        self.link.set(BEACON, false);
        // Started at once; refused only if this process is held up just here, so tried again.
        for pulse in 0.. {
            let now = clock::now();
            let on_at = now + Micros::from_millis(1);
            let plan = PulsePlan {
                pulse: PulseId(pulse),
                output: REJECT,
                on_at,
                off_at: now + PATIENCE,
            };
            self.link.fire(plan);
            match self.wait_for(|event| matches!(event, Event::Pulse { .. }))?.pop() {
                Some(Event::Pulse {
                    report: PulseReport::On { .. },
                    ..
                }) => break,
                Some(Event::Pulse {
                    report: PulseReport::Refused(PulseRefusal::TooLate),
                    ..
                }) => {}
                other => panic!("the pulse came to nothing: {other:?}"),
            }
        }
        Ok(())
    }
}

const UNSAFE: [bool; 4] = [true, false, true, false];

fn is_lost(event: &Event) -> bool {
    matches!(event, Event::OutputsReady(false))
}

#[test]
fn pulses_are_fired_in_order_at_their_times_and_measured() {
    undisturbed(|| {
        let chip = SimChip::create().unwrap();
        let mut onlooker = Onlooker::new(&chip);
        let mut core = Core::child(&chip)?;
        let mut fired = 0;
        for round in 0..50 {
            let base = clock::now() + Micros::from_millis(30);
            let at = |ms| base + Micros::from_millis(ms);
            // Given in another order than they are due.
            for (pulse, output, on, off) in [(2, REJECT, 20, 26), (1, GATE, 10, 16), (0, REJECT, 0, 6)] {
                let pulse = PulseId(round * 3 + pulse);
                core.link.fire(PulsePlan {
                    pulse,
                    output,
                    on_at: at(on),
                    off_at: at(off),
                });
            }
            onlooker.look();
            onlooker.changes.clear();
            let last = PulseId(round * 3 + 2);
            let over = |event: &Event| matches!(event, Event::Pulse { pulse, report: PulseReport::Off { .. } | PulseReport::Refused(_) } if *pulse == last);
            let mut reported = Vec::new();
            for event in core.wait_for(over)? {
                let Event::Pulse { pulse, report } = event else {
                    panic!("{event:?}")
                };
                let n = pulse.0 - round * 3;
                let (output, on, off) = [(REJECT, 0, 6), (GATE, 10, 16), (REJECT, 20, 26)][n as usize];
                match report {
                    PulseReport::On { at: actual } => {
                        assert!(actual >= at(on), "pulse {n} went on before its time");
                        reported.push(LineChange {
                            output,
                            active: true,
                            at: actual,
                        });
                    }
                    PulseReport::Off { at: actual } => {
                        assert!(actual >= at(off), "pulse {n} went off before its time");
                        reported.push(LineChange {
                            output,
                            active: false,
                            at: actual,
                        });
                        fired += 1;
                    }
                    PulseReport::Refused(refusal) => assert_eq!(refusal, PulseRefusal::TooLate),
                }
            }
            onlooker.look();
            // What is reported is what the lines did, when they did it.
            assert_eq!(onlooker.changes, reported);
            assert!(reported.is_sorted_by_key(|change| change.at), "{reported:?}");
            if fired >= 6 {
                break;
            }
        }
        assert!(fired >= 6, "only {fired} pulses could be fired in 50 rounds");
        let status = core.link.status();
        assert_eq!(status.lateness.changes, 2 * fired);
        assert!(status.lateness.max >= status.lateness.mean() && status.lateness.mean() >= Micros::ZERO);
        assert!(status.ready);
        core.link.close();
        onlooker.wait_for(SAFE, "after good-bye");
        Ok(())
    });
}

#[test]
fn a_pulse_ends_at_the_longest_on_time_and_that_is_a_fault() {
    undisturbed(|| {
        let chip = SimChip::create().unwrap();
        let mut onlooker = Onlooker::new(&chip);
        let mut core = Core::child(&chip)?;
        let mut cut_at = None;
        for pulse in 0.. {
            let on_at = clock::now() + Micros::from_millis(20);
            let off_at = on_at + PATIENCE;
            core.link.fire(PulsePlan {
                pulse: PulseId(pulse),
                output: GATE,
                on_at,
                off_at,
            });
            let over = |report: &PulseReport| {
                matches!(
                    report,
                    PulseReport::Off { .. } | PulseReport::Refused(PulseRefusal::TooLate)
                )
            };
            let seen = core.wait_for(|event| matches!(event, Event::Pulse { report, .. } if over(report)))?;
            if let [
                Event::Pulse {
                    report: PulseReport::On { at: on },
                    ..
                },
                Event::Pulse {
                    report: PulseReport::Refused(PulseRefusal::MaxOnReached),
                    ..
                },
                Event::Pulse {
                    report: PulseReport::Off { at: off },
                    ..
                },
            ] = seen[..]
            {
                assert!(off.since(on) >= Micros::from_millis(30) && off < off_at);
                cut_at = Some(off);
                break;
            }
            let late = Event::Pulse {
                pulse: PulseId(pulse),
                report: PulseReport::Refused(PulseRefusal::TooLate),
            };
            assert_eq!(seen, [late]);
        }
        onlooker.look();
        let off = onlooker
            .changes
            .iter()
            .rev()
            .find(|change| change.output == GATE && !change.active);
        assert_eq!(off.map(|change| change.at), cut_at);
        Ok(())
    });
}

#[test]
fn a_core_that_hangs_loses_its_outputs() {
    undisturbed(|| {
        let chip = SimChip::create().unwrap();
        let mut onlooker = Onlooker::new(&chip);
        let mut core = Core::child(&chip)?;
        core.make_unsafe()?;
        onlooker.wait_for(UNSAFE, "with a pulse on");
        // No heartbeat from here on; the link's own thread must not keep the outputs alive.
        onlooker.wait_for(SAFE, "without heartbeat");
        let seen = core.wait_for(is_lost)?;
        let pulse_ended = |event: &Event| {
            matches!(
                event,
                Event::Pulse {
                    report: PulseReport::Off { .. },
                    ..
                }
            )
        };
        assert!(
            seen.iter().any(pulse_ended),
            "the pulse's end is missing in {seen:?}"
        );
        // Awake again, its heartbeats and orders are of no use without a new session.
        core.link.set(PERMIT, true);
        core.link.heartbeat();
        core.wait_lost();
        onlooker.wait_for(SAFE, "after waking up");
        core.link.respawn().unwrap();
        core.wait_ready()?;
        core.link.set(PERMIT, true);
        let until = clock::now() + PATIENCE;
        while onlooker.levels != [false, false, true, true] && clock::now() < until {
            core.link.heartbeat();
            onlooker.look();
            std::thread::sleep(Duration::from_millis(5));
            if core.link.is_lost() {
                return Err(HeldUp);
            }
        }
        assert_eq!(onlooker.levels, [false, false, true, true]);
        Ok(())
    });
}

#[test]
fn a_dead_or_stuck_output_process_is_noticed_and_replaced() {
    undisturbed(|| {
        for signal in [Signal::KILL, Signal::STOP] {
            let chip = SimChip::create().unwrap();
            let mut onlooker = Onlooker::new(&chip);
            let mut core = Core::child(&chip)?;
            core.make_unsafe()?;
            onlooker.wait_for(UNSAFE, "with a pulse on");
            let old = core.link.process_id().unwrap();
            kill_process(Pid::from_raw(old as i32).unwrap(), signal).unwrap();
            core.wait_for(is_lost)?;
            core.wait_lost();
            assert!(!core.link.status().ready);
            core.link.respawn().unwrap();
            assert_ne!(core.link.process_id(), Some(old));
            core.wait_ready()?;
            onlooker.wait_for([false, false, false, true], "in a new session");
            let gone = kill_process(Pid::from_raw(old as i32).unwrap(), Signal::CONT);
            assert_eq!(gone, Err(Errno::SRCH), "the stuck process still holds the lines");
        }
        Ok(())
    });
}

/// Not a test of its own: the run side that [`with_run_side`] starts as another process.
#[test]
fn run_side_in_a_process_of_its_own() {
    if std::env::var_os("ELEK_TEST_RUN_SIDE").is_none() {
        return;
    }
    let chip = SimChip::from_fd(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    // Until it is killed; what holds it up must not spoil the test that watches it.
    loop {
        let _ = hold_lines(&chip);
    }
}

fn hold_lines(chip: &SimChip) -> Result<(), HeldUp> {
    let mut core = Core::child(chip)?;
    core.make_unsafe()?;
    core.wait_for(is_lost).map(drop)
}

/// Waits until another process holds the lines away from safe, then lets `act` happen to it.
fn with_run_side(act: impl Fn(&mut Child)) {
    let chip = SimChip::create().unwrap();
    let mut onlooker = Onlooker::new(&chip);
    let command = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "run_side_in_a_process_of_its_own"])
        .env("ELEK_TEST_RUN_SIDE", "1")
        .stdin(Stdio::from(chip.as_fd().try_clone_to_owned().unwrap()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut run_side = Reaped(command.unwrap());
    onlooker.wait_for(UNSAFE, "with a living run side");
    act(&mut run_side.0);
    let until = clock::now() + PATIENCE;
    while onlooker.levels != SAFE {
        assert!(
            clock::now() < until,
            "without a run side the lines are {:?}",
            onlooker.levels
        );
        std::thread::sleep(Duration::from_millis(1));
        onlooker.look();
    }
    // Nothing moves any more: neither the pulse's planned end nor anything else.
    let changes = onlooker.changes.len();
    sleep_until(clock::now() + Micros::from_millis(150));
    onlooker.look();
    assert_eq!(onlooker.changes.len(), changes);
}

#[test]
fn outputs_are_safe_after_the_run_side_is_killed() {
    with_run_side(|run_side| run_side.kill().unwrap());
}

#[test]
fn outputs_are_safe_while_the_run_side_is_stopped() {
    with_run_side(|run_side| {
        kill_process(Pid::from_raw(run_side.id() as i32).unwrap(), Signal::STOP).unwrap();
    });
}

/// A session without a link, to send what a link would never send.
struct Raw {
    socket: OwnedFd,
    sender: Sender,
    receiver: Receiver,
}

impl Raw {
    fn child() -> (Raw, Reaped) {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let child = Command::new(ELEK)
            .args(["outputs", "--fd", "0"])
            .stdin(Stdio::from(theirs))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        (Raw::on(ours), Reaped(child))
    }

    fn on(socket: OwnedFd) -> Raw {
        Raw {
            socket,
            sender: Sender::default(),
            receiver: Receiver::default(),
        }
    }

    fn greet(&mut self, chip: &SimChip) {
        let lines = lines();
        let hello = self.sender.request(Request::Hello {
            lines: lines.len() as u8,
        });
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [chip.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(
            &self.socket,
            &[IoSlice::new(&hello)],
            &mut ancillary,
            SendFlags::empty(),
        )
        .unwrap();
        for (index, line) in lines.iter().enumerate() {
            let info = LineInfo::new(OutputId(index as u8), line).unwrap();
            self.send(Request::Line(info));
        }
        assert!(matches!(self.report(), Some(Report::Ready { .. })));
    }

    fn send(&mut self, request: Request) {
        let packet = self.sender_packet(request);
        self.send_bytes(&packet);
    }

    fn sender_packet(&mut self, request: Request) -> [u8; MESSAGE_BYTES] {
        self.sender.request(request)
    }

    fn send_bytes(&self, bytes: &[u8]) {
        // If the other side is gone already, its last report says why.
        let _ = send(&self.socket, bytes, SendFlags::NOSIGNAL);
    }

    /// `None` when the other side closed.
    fn report(&mut self) -> Option<Report> {
        let patience = Duration::from_secs(60);
        assert!(clock::wait_readable(&self.socket, patience).unwrap(), "no report");
        let mut packet = [0; MESSAGE_BYTES];
        match recv(&self.socket, &mut packet[..], RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => None,
            Ok((bytes, _)) => Some(self.receiver.report(&packet[..bytes]).unwrap()),
            Err(error) => panic!("{error}"),
        }
    }

    /// All causes of the safe state until the other side closes.
    fn end(&mut self) -> Vec<SafeCause> {
        let mut causes = Vec::new();
        while let Some(report) = self.report() {
            if let Report::Safe { cause } = report {
                causes.push(cause);
            }
        }
        causes
    }
}

#[test]
fn nonsense_makes_everything_safe() {
    let fire = |output, on: i64, off: i64| {
        let now = clock::now();
        let (on_at, off_at) = (now + Micros::new(on), now + Micros::new(off));
        Request::Order(Order::Fire(PulsePlan {
            pulse: PulseId(1),
            output,
            on_at,
            off_at,
        }))
    };
    type Bad = Box<dyn Fn(&mut Raw) -> Vec<u8>>;
    let bad: Vec<(&str, Bad)> = vec![
        ("noise", Box::new(|_| (0..MESSAGE_BYTES as u8).collect())),
        ("a short packet", Box::new(|_| vec![1, 2, 3])),
        (
            "a long packet",
            Box::new(|raw| [&raw.sender_packet(Request::Order(Order::Heartbeat))[..], &[0]].concat()),
        ),
        (
            "a changed bit",
            Box::new(|raw| {
                let mut packet = raw.sender_packet(Request::Order(Order::Heartbeat)).to_vec();
                packet[60] ^= 1;
                packet
            }),
        ),
        (
            "a skipped message",
            Box::new(|raw| {
                raw.sender_packet(Request::Order(Order::Heartbeat));
                raw.sender_packet(Request::Order(Order::Heartbeat)).to_vec()
            }),
        ),
        (
            "a second greeting",
            Box::new(|raw| raw.sender_packet(Request::Hello { lines: 4 }).to_vec()),
        ),
        (
            "an unknown line",
            Box::new(move |raw| raw.sender_packet(fire(OutputId(9), 1_000, 2_000)).to_vec()),
        ),
        (
            "a pulse on the permit",
            Box::new(move |raw| raw.sender_packet(fire(PERMIT, 1_000, 2_000)).to_vec()),
        ),
        (
            "off before on",
            Box::new(move |raw| raw.sender_packet(fire(REJECT, 2_000, 1_000)).to_vec()),
        ),
        (
            "the day after tomorrow",
            Box::new(move |raw| {
                raw.sender_packet(fire(REJECT, 1_000, 2 * AHEAD_MAX.get()))
                    .to_vec()
            }),
        ),
        (
            "holding a reject",
            Box::new(|raw| {
                raw.sender_packet(Request::Order(Order::Set {
                    output: REJECT,
                    active: true,
                }))
                .to_vec()
            }),
        ),
    ];
    for (what, bad) in bad {
        undisturbed(|| {
            let chip = SimChip::create().unwrap();
            let mut onlooker = Onlooker::new(&chip);
            let (mut raw, mut child) = Raw::child();
            raw.greet(&chip);
            raw.send(Request::Order(Order::Set {
                output: PERMIT,
                active: true,
            }));
            onlooker.wait_for([false, false, true, true], what);
            let packet = bad(&mut raw);
            raw.send_bytes(&packet);
            let causes = raw.end();
            if causes == [SafeCause::Hung] {
                return Err(HeldUp);
            }
            assert_eq!(causes, [SafeCause::Nonsense], "{what}");
            onlooker.wait_for(SAFE, what);
            assert_eq!(child.0.wait().unwrap().code(), Some(1), "{what}");
            Ok(())
        });
    }
}

#[test]
fn a_greeting_that_makes_no_sense_opens_no_line() {
    let chip = SimChip::create().unwrap();
    let first: [&dyn Fn(&mut Raw); 3] = [
        &|raw| raw.send_bytes(b"GET / HTTP/1.1"),
        // Without the chip's file.
        &|raw| {
            raw.send(Request::Hello { lines: 1 });
            raw.send(Request::Line(LineInfo::new(OutputId(0), &lines()[0]).unwrap()));
        },
        &|raw| raw.send(Request::Order(Order::Heartbeat)),
    ];
    for first in first {
        let (mut raw, mut child) = Raw::child();
        first(&mut raw);
        assert_eq!(raw.end(), []);
        assert_eq!(child.0.wait().unwrap().code(), Some(1));
    }
    assert_eq!(chip.reader().next_change(), Ok(None));
}

fn listen(path: &Path) -> Reaped {
    let spawned = Command::new(ELEK).args(["outputs", "--socket"]).arg(path).spawn();
    let child = Reaped(spawned.unwrap());
    let until = clock::now() + PATIENCE;
    while connect(probe(), &SocketAddrUnix::new(path).unwrap()).is_err() {
        assert!(clock::now() < until, "nobody listens");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn probe() -> OwnedFd {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

#[test]
fn a_listening_process_serves_one_session_after_the_other_and_keeps_lines_safe_between() {
    undisturbed(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outputs.sock");
        // Left behind by a process that died: a bound socket that nobody listens on.
        rustix::net::bind(probe(), &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let mut child = listen(&path);
        let second = Command::new(ELEK)
            .args(["outputs", "--socket"])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(second.status.code(), Some(1));
        let words = String::from_utf8(second.stderr).unwrap();
        assert!(words.contains("is in use"), "{words}");

        for _ in 0..2 {
            let chip = SimChip::create().unwrap();
            let mut onlooker = Onlooker::new(&chip);
            let mut core = Core::start(Peer::Socket(path.clone()), &chip);
            // The probe of `listen`, or of the round before, may still have to time out.
            while core.wait_for(|event| matches!(event, Event::OutputsReady(_)))?
                != [Event::OutputsReady(true)]
            {
                core.link.respawn().unwrap();
            }
            core.make_unsafe()?;
            onlooker.wait_for(UNSAFE, "in a session");
            let mut other = Raw::on(probe());
            connect(&other.socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
            core.link.heartbeat();
            assert_eq!(other.report(), None, "a second session at the same time");
            drop(core);
            onlooker.wait_for(SAFE, "after a session");
        }
        let chip = SimChip::create().unwrap();
        let mut onlooker = Onlooker::new(&chip);
        let mut core = Core::start(Peer::Socket(path.clone()), &chip);
        core.wait_ready()?;
        core.make_unsafe()?;
        kill_process(Pid::from_raw(child.0.id() as i32).unwrap(), Signal::TERM).unwrap();
        core.wait_for(is_lost)?;
        onlooker.wait_for(SAFE, "after SIGTERM");
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
        assert!(!path.exists());
        assert!(core.link.respawn().is_err(), "there is nobody to connect to");
        Ok(())
    });
}

#[test]
fn a_line_on_a_chip_that_cannot_be_driven_is_refused() {
    let chip = SimChip::create().unwrap();
    let mut lines = lines();
    lines[2].chip = "io-out".into();
    let (sender, events) = mpsc::channel();
    let sink = Arc::new(move |event| drop(sender.send(event)));
    let link = Link::to(Peer::Child(ELEK.into()), &lines, Some(&chip), sink).unwrap();
    assert_eq!(
        events.recv_timeout(Duration::from_secs(60)),
        Ok(Event::OutputsReady(false))
    );
    while !link.is_lost() {
        std::thread::sleep(Duration::from_millis(1));
    }
    lines[2].name = "x".repeat(33).as_str().into();
    let sink = Arc::new(|_| ());
    let error = Link::to(Peer::Child(ELEK.into()), &lines, Some(&chip), sink)
        .err()
        .unwrap();
    assert!(error.to_string().contains("32 bytes"), "{error}");
}
