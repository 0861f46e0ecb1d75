//! The station under a service manager: what it says, what it does with signals, and that a bad
//! file changes nothing. The manager is this test, at the other end of NOTIFY_SOCKET.

use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Far above anything a loaded computer needs; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Manager {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { dir, socket }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, args: &[&str]) -> Service {
        self.start_with(args, Duration::from_secs(2))
    }

    /// `watchdog`: how long the manager waits for a sign of life.
    fn start_with(&self, args: &[&str], watchdog: Duration) -> Service {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_elek"))
            .args(args)
            .current_dir(self.dir.path())
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Service {
            child,
            log: self.path("log"),
        }
    }

    /// The next message that is not merely a sign of life or a status line.
    fn next(&self) -> String {
        loop {
            let text = self.any();
            if text != "WATCHDOG=1" && !text.starts_with("STATUS=") {
                return text;
            }
        }
    }

    fn any(&self) -> String {
        let mut buffer = [0; 4096];
        let bytes = self.socket.recv(&mut buffer).expect("the service says something");
        String::from_utf8_lossy(&buffer[..bytes]).trim().to_owned()
    }

    /// Waits for a message that begins like this.
    fn wait_for(&self, begin: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.any().starts_with(begin) {
            assert!(Instant::now() < until, "no {begin}");
        }
    }
}

struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(dir: &Path, station: &str) -> PathBuf {
    let file = dir.join("station.toml");
    let text = elek::config::DEFAULT.replace("L1-REJ-01", station);
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_station_says_that_it_is_ready_lives_and_stops() {
    let manager = Manager::new();
    config(manager.dir.path(), "L1-REJ-01");
    let mut station = manager.start(&["run", "--config", "station.toml", "--acknowledge"]);
    assert_eq!(manager.next(), "READY=1");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("STATUS=running: seen");
    station.signal(Signal::TERM);
    assert_eq!(manager.next(), "STOPPING=1");
    let status = station.end();
    assert!(status.success(), "{status}: {}", station.log());
}

#[test]
fn a_bad_file_keeps_the_old_configuration_and_a_good_one_replaces_it() {
    let manager = Manager::new();
    let file = config(manager.dir.path(), "L1-REJ-01");
    let mut station = manager.start(&["run", "--config", "station.toml", "--acknowledge"]);
    assert_eq!(manager.next(), "READY=1");
    manager.wait_for("STATUS=running");

    std::fs::write(&file, "schema = 1\nstation = \"nonsense\"\n").unwrap();
    station.signal(Signal::HUP);
    assert!(manager.next().starts_with("RELOADING=1"));
    assert_eq!(manager.next(), "READY=1");
    assert!(
        station.log().contains("the old configuration stays in force"),
        "{}",
        station.log()
    );
    manager.wait_for("STATUS=running");

    config(manager.dir.path(), "L2-REJ-07");
    station.signal(Signal::HUP);
    assert!(manager.next().starts_with("RELOADING=1"));
    assert_eq!(manager.next(), "READY=1");
    // A changed station stands until it is acknowledged; here `--acknowledge` does that.
    manager.wait_for("STATUS=running");
    let status = Command::new(env!("CARGO_BIN_EXE_elek"))
        .args(["status", "--json", "--socket", "elek-data"])
        .current_dir(manager.dir.path())
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(json["station"], "L2-REJ-07");
    station.signal(Signal::TERM);
    assert_eq!(manager.next(), "STOPPING=1");
    assert!(station.end().success(), "{}", station.log());
}

#[test]
fn the_output_process_is_a_service_of_its_own_and_the_station_finds_it() {
    let manager = Manager::new();
    config(manager.dir.path(), "L1-REJ-01");
    let mut outputs = manager.start(&["outputs", "--socket", "outputs.sock"]);
    assert_eq!(manager.next(), "READY=1");
    manager.wait_for("WATCHDOG=1");
    // Its own log, so that the two do not write over each other.
    let station = Manager::new();
    config(station.dir.path(), "L1-REJ-01");
    let socket = manager.path("outputs.sock");
    let socket = socket.to_str().unwrap();
    let mut run = station.start(&[
        "run",
        "--config",
        "station.toml",
        "--acknowledge",
        "--outputs",
        socket,
    ]);
    assert_eq!(station.next(), "READY=1");
    station.wait_for("STATUS=running");
    run.signal(Signal::TERM);
    assert!(run.end().success(), "{}", run.log());
    // Nobody has read what the output process said meanwhile: that does not keep it.
    outputs.signal(Signal::TERM);
    assert!(outputs.end().success(), "{}", outputs.log());
}

#[test]
fn a_manager_that_does_not_read_keeps_nobody_from_ending() {
    let manager = Manager::new();
    // A sign of life every 5 ms: far more than the kernel holds for a reader that sleeps.
    let mut outputs = manager.start_with(
        &["outputs", "--socket", "outputs.sock"],
        Duration::from_millis(20),
    );
    assert_eq!(manager.next(), "READY=1");
    std::thread::sleep(Duration::from_secs(2));
    outputs.signal(Signal::TERM);
    assert!(outputs.end().success(), "{}", outputs.log());
    assert!(outputs.log().contains("does not read"), "{}", outputs.log());
}

/// Nothing is locked and nothing has priority: the station runs all the same, and says so.
#[test]
fn without_any_rights_it_runs_and_says_what_it_lacks() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can take rights away for certain");
        return;
    }
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    // The folder of the build may be closed to others.
    let elek = dir.path().join("elek");
    std::fs::copy(env!("CARGO_BIN_EXE_elek"), &elek).unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let output = Command::new(&elek)
        .args(["demo", "--seconds", "3", "--json"])
        .current_dir(dir.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["outputs_realtime"], false);
    assert!(summary["counts"]["seen"].as_u64().unwrap() > 0, "{summary:#}");
    assert!(log.contains("outputs run without real-time priority"), "{log}");
    assert!(log.contains("LimitRTPRIO"), "what to do about it: {log}");
}
