//! A whole station on simulated hardware: both processes as a box runs them, camera, lines, parts.

use super::line::{Line, UNSAFE};
use super::vivid::{Projector, Vivid};
use super::{ELEK, PATIENCE, fixture, wait_until};
use elek::control::Client;
use elek::station::event::AlarmKind;
use elek::status::{State, Status};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

/// The two processes, the line, and what they write. Dropped, everything is gone, and a test that
/// failed has shown what the processes said.
pub struct Station {
    pub folder: tempfile::TempDir,
    record: PathBuf,
    run: Option<Child>,
    outputs: Option<Child>,
    pub projector: Option<Projector>,
    pub vivid: Vivid,
    pub line: Line,
}

impl Station {
    /// The hardware, and a configuration for it; `edit` changes its text. Nothing is started.
    pub fn new(edit: impl FnOnce(String) -> String) -> Station {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let line = Line::start();
        let vivid = Vivid::new();
        let projector = Some(Projector::start(&vivid.output, line.scene()));
        let record = folder.path().join("record");
        let station = Station {
            folder,
            record,
            run: None,
            outputs: None,
            projector,
            vivid,
            line,
        };
        let model = std::fs::read(fixture("colour.onnx")).expect("the fixture is there");
        let text = edit(include_str!("station.toml").to_owned())
            .replace("RECORD", &station.record.display().to_string())
            .replace("DEVICE", &station.vivid.capture.display().to_string())
            .replace("MODELS", &fixture("").display().to_string())
            .replace(
                "SHA",
                &elek::infer::manifest::hex(&elek::infer::manifest::sha256(&model)),
            );
        std::fs::write(station.config(), text).expect("the configuration can be written");
        station
    }

    /// The same, started, acknowledged, the belt running.
    pub fn running() -> Station {
        Station::running_with(|text| text)
    }

    pub fn running_with(edit: impl FnOnce(String) -> String) -> Station {
        let mut station = Station::new(edit);
        station.start();
        station
    }

    /// Both processes; acknowledged, the belt running.
    pub fn start(&mut self) {
        self.start_outputs();
        self.start_run();
        self.acknowledge();
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("station.toml")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("outputs.sock")
    }

    pub fn record(&self) -> &Path {
        &self.record
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// What a process has said so far.
    pub fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    fn spawn(&self, name: &str, args: &[&str]) -> Child {
        let log = File::options().create(true).append(true).open(self.log(name));
        let log = log.expect("a log can be written");
        Command::new(ELEK)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("elek starts")
    }

    pub fn start_outputs(&mut self) {
        let socket = self.socket();
        self.outputs = Some(self.spawn("outputs", &["outputs", "--socket", &text(&socket)]));
        wait_until("the socket of the output process", || socket.exists());
    }

    /// Starts the station, whatever becomes of it.
    pub fn start_run_in_any_state(&mut self) {
        let (config, socket) = (text(&self.config()), text(&self.socket()));
        let child = self.spawn("run", &["run", "--config", &config, "--outputs", &socket]);
        self.run = Some(child);
    }

    /// Starts the station and waits until it wants to be acknowledged.
    pub fn start_run(&mut self) {
        self.start_run_in_any_state();
        self.wait_for("the station to wait for a person", |status| {
            status.state != State::Running && !status.has(AlarmKind::CameraLost)
        });
    }

    pub fn status(&self) -> Option<Status> {
        Client::find(Some(&self.record))
            .and_then(|client| client.status())
            .ok()
    }

    /// Waits until the status is so, or fails with the last one and the log.
    pub fn wait_for(&mut self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            if let Some(status) = self.status() {
                if is(&status) {
                    return status;
                }
                last = Some(status);
            }
            if let Some(child) = &mut self.run
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("waiting for {what}: the station has ended, {status}");
            }
            assert!(
                Instant::now() < until,
                "in vain waited for {what}; the last status: {last:#?}"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// A person presses the button once.
    pub fn press(&self) {
        self.line.button(true);
        std::thread::sleep(std::time::Duration::from_millis(200));
        self.line.button(false);
        std::thread::sleep(std::time::Duration::from_millis(300));
    }

    /// A person presses the button until the belt runs.
    pub fn acknowledge(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.status().is_none_or(|status| status.state != State::Running) {
            assert!(
                Instant::now() < until,
                "acknowledged in vain; the last status: {:#?}",
                self.status()
            );
            self.press();
        }
        let line = &self.line;
        wait_until("the permit", || line.world().permit);
    }

    /// Waits until every part has left the belt and its fate is known.
    pub fn wait_through(&mut self) -> Status {
        let line = &self.line;
        wait_until("the belt to be empty", || line.world().is_empty());
        let seen = self.line.world().parts.len() as u64;
        self.wait_for("the fate of every part", |status| {
            status.counts.seen >= seen && status.counts.in_flight == 0
        })
    }

    /// The camera is there, and the test draws for it.
    pub fn project(&mut self) {
        self.projector = Some(Projector::start(&self.vivid.output, self.line.scene()));
    }

    /// Where a person sees it: the belt may not run, nothing is blown, the lamp is on.
    pub fn wait_safe(&self) {
        wait_until("the outputs to be safe", || {
            let world = self.line.world();
            !world.permit && !world.reject && world.beacon
        });
    }

    /// From now on a line that nobody drives lets the belt run, blows, and lights no lamp.
    pub fn unsafe_pulls(&self) {
        self.line.outputs().pull_all(&UNSAFE);
    }

    /// A person does what the display says until the belt runs and is empty: takes the parts away
    /// where it says so, acknowledges, and does it again should the belt stop once more.
    pub fn recover(&mut self) {
        for _ in 0..4 {
            // The lines change before the next snapshot is taken: what an older one advises is not enough.
            let permit = self.line.world().permit;
            self.wait_for("a status of now", |status| status.permit == permit);
            let advice = |status: Status| status.alarms.into_iter().map(|alarm| alarm.advice);
            let clear = |advice: String| advice.contains("lear the belt") || advice.contains("every part");
            if self.status().into_iter().flat_map(advice).any(clear) {
                self.line.clear();
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
            self.acknowledge();
            let line = &self.line;
            let empty = |status: &Status| status.counts.in_flight == 0 && line.world().is_empty();
            let stopped = |status: &Status| status.state != State::Running;
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until {
                match self.status() {
                    Some(status) if stopped(&status) => break,
                    Some(status) if empty(&status) => return,
                    _ => std::thread::sleep(std::time::Duration::from_millis(20)),
                }
            }
        }
        panic!("it does not come back; the last status: {:#?}", self.status());
    }

    /// These parts go where they belong.
    pub fn sorts(&mut self, parts: &str) {
        let before = self.line.world().fed();
        self.line.feed(parts);
        self.wait_through();
        let world = self.line.world();
        assert_eq!(world.parts.len(), before + parts.len());
        for (index, part) in world.parts.iter().enumerate().skip(before) {
            assert_eq!(part.blown, part.bad, "part {index} is {part:?}");
            assert_eq!(part.passed, !part.bad, "part {index} is {part:?}");
        }
    }

    /// Every part that crossed the photo-eye is in the account, once.
    pub fn assert_nothing_lost(&mut self) {
        let crossed = self.line.world().parts.len() as u64;
        let counts = self.wait_through().counts;
        assert_eq!(counts.seen, crossed, "{counts:?}");
        assert!(counts.balances(), "{counts:?}");
        // Whatever happened, no bad part went on to the customer.
        let world = self.line.world();
        assert!(
            !world.parts.iter().any(|part| part.bad && part.passed),
            "{:#?}",
            world.parts
        );
    }

    pub fn has_ended(&mut self) -> bool {
        self.run
            .as_mut()
            .is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// The record is elsewhere than in the station's folder.
    pub fn record_is(&mut self, folder: &Path) {
        self.record = folder.to_owned();
    }

    /// Waits for a line of the system's journal that contains this.
    pub fn wait_journal(&self, words: &str) -> String {
        let mut found = None;
        wait_until(words, || {
            let log = super::run("journalctl", &["--no-pager", "-o", "cat", "-b"]);
            found = log
                .lines()
                .rev()
                .find(|line| line.contains(words))
                .map(str::to_owned);
            found.is_some()
        });
        found.unwrap_or_default()
    }

    pub fn run_id(&self) -> Pid {
        Pid::from_child(self.run.as_ref().expect("the station runs"))
    }

    pub fn outputs_id(&self) -> Pid {
        Pid::from_child(self.outputs.as_ref().expect("the outputs run"))
    }

    pub fn kill_run(&mut self) {
        kill(self.run.take());
    }

    pub fn kill_outputs(&mut self) {
        kill(self.outputs.take());
    }

    /// SIGTERM, and how it ended.
    pub fn stop_run(&mut self) -> ExitStatus {
        kill_process(self.run_id(), Signal::TERM).expect("the station runs");
        self.run_ended()
    }

    pub fn run_ended(&mut self) -> ExitStatus {
        let mut child = self.run.take().expect("the station runs");
        let mut status = None;
        wait_until("the station to end", || {
            status = child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("just seen")
    }

    /// `elek …` as a person runs it.
    pub fn elek(&self, args: &[&str]) -> Output {
        Command::new(ELEK).args(args).output().expect("elek starts")
    }
}

/// What a test asks a status.
pub trait Asked {
    fn has(&self, kind: AlarmKind) -> bool;
}

impl Asked for Status {
    /// Present or not yet acknowledged.
    fn has(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn kill(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        kill(self.run.take());
        kill(self.outputs.take());
        // Its device must be closed before the driver can go.
        self.projector = None;
        if std::thread::panicking() {
            for name in ["run", "outputs"] {
                eprintln!("--- what `elek {name}` said:\n{}", self.said(name));
            }
            eprintln!("--- the line: {:#?}", self.line.world());
        }
    }
}
