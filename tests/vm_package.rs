//! docs/INSTALL.md on a blank box: the commands of its blocks, in their order, typed by a person who may use
//! sudo, with the package that is shipped, under systemd; and between them what has to have come of each.
//! Runs in the guest with the Debian disk; the package lies beside the tests (cross/vm/test.sh).

mod vm;

use elek::control::Client;
use elek::station::event::AlarmKind;
use elek::status::{State, Status};
use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use vm::service::{Services, UNITS, main_process, property};
use vm::station::{Asked, Station};
use vm::{fixture, run, wait_until};

const GUIDE: &str = include_str!("../docs/INSTALL.md");
const CONFIG: &str = "/etc/elek/station.toml";
const RECORD: &str = "/var/lib/elek";

/// As Debian and as the kernel call this kind of box; the guide speaks of the first.
const BOXES: [(&str, &str); 2] = [("arm64", "aarch64"), ("amd64", "x86_64")];
const BOX: (&str, &str) = if cfg!(target_arch = "aarch64") {
    BOXES[0]
} else {
    BOXES[1]
};

/// The guide's way for slow boxes, which a guest is.
const SLOWER: &str = "sudo sed -i 's/^parts_per_s = .*/parts_per_s = 2.0/; s/ max = 1250.0/ max = 600.0/; \
    s/^decide_within_ms = 350/decide_within_ms = 700/' /etc/elek/station.toml";

const PERSON: &str = "pat";
/// What `sudoedit` opens, instead of an editor: it puts this file in place of what is to be edited.
const WANTED: &str = "/home/pat/wanted.toml";

/// The guide's commands that were not typed yet.
struct Guide {
    left: VecDeque<String>,
    began: Instant,
}

impl Guide {
    fn open() -> Guide {
        let mut left = VecDeque::new();
        let mut inside = false;
        for line in GUIDE.lines() {
            match line {
                "```console" | "```sh" => inside = true,
                "```" => inside = false,
                _ if inside => left.push_back(line.split("  #").next().unwrap_or(line).trim().to_owned()),
                _ => {}
            }
        }
        Guide {
            left,
            began: Instant::now(),
        }
    }

    /// The guide's next command, which has to be this one.
    fn next(&mut self, command: &str) {
        let next = self.left.pop_front();
        assert_eq!(
            next.as_deref(),
            Some(command),
            "docs/INSTALL.md and this test go different ways"
        );
    }

    /// Told as it comes, with the guest's own seconds: a run takes minutes.
    fn tell(&self, what: &str) {
        let _ = writeln!(
            std::io::stderr(),
            "    {:5.1} s  {what}",
            self.began.elapsed().as_secs_f64()
        );
    }

    /// The person types the guide's next command; what it prints.
    fn typed(&mut self, command: &str) -> String {
        self.next(command);
        self.tell(&format!("$ {command}"));
        person(&command.replace(BOXES[0].0, BOX.0))
    }

    /// The same with another word in it, or not to its end.
    fn typed_as(&mut self, command: &str, instead: &str) -> String {
        self.next(command);
        self.tell(&format!("$ {instead}"));
        person(&instead.replace(BOXES[0].0, BOX.0))
    }

    /// A command for another computer.
    fn elsewhere(&mut self, command: &str) {
        self.next(command);
    }
}

/// Runs a command as the person who has just logged in, and answers a question with yes.
fn person(command: &str) -> String {
    let mut child = Command::new("runuser")
        .args(["--login", PERSON, "--command", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runuser starts");
    if let Some(mut keyboard) = child.stdin.take() {
        let _ = keyboard.write_all(b"y\n");
    }
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "`{command}` ended with {}:\n{said}{complained}",
        output.status
    );
    println!("$ {command}\n{said}{complained}");
    said
}

/// What Raspberry Pi OS has in its 99-com.rules, after the package's own rules.
const PI_RULES: &str = "SUBSYSTEM==\"gpio\", GROUP=\"gpio\", MODE=\"0660\"\n";

/// A person with a home, who may use sudo, and has copied the package there.
fn moves_in() {
    run("groupadd", &["--system", "gpio"]);
    std::fs::write("/etc/udev/rules.d/99-com.rules", PI_RULES).expect("can be written");
    // As an installer leaves it; sudo asks for the box's own address.
    let name = vm::read(Path::new("/etc/hostname"));
    std::fs::write("/etc/hosts", format!("127.0.0.1 localhost\n127.0.1.1 {name}\n")).expect("can be written");
    run("useradd", &["--create-home", "--shell", "/bin/bash", PERSON]);
    let sudo = "/etc/sudoers.d/person";
    std::fs::write(sudo, format!("{PERSON} ALL=(ALL) NOPASSWD: ALL\n")).expect("can be written");
    let home = Path::new("/home").join(PERSON);
    for entry in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("can be listed") {
        let path = entry.expect("can be listed").path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let name = path.file_name().expect("a file has a name");
            std::fs::copy(&path, home.join(name)).expect("a package can be copied");
        }
    }
    let editor = home.join("editor");
    std::fs::write(&editor, format!("#!/bin/sh\nexec cp {WANTED} \"$1\"\n")).expect("can be written");
    run("chmod", &["755", &editor.display().to_string()]);
    let profile = home.join(".profile");
    std::fs::write(profile, format!("export SUDO_EDITOR={}\n", editor.display())).expect("can be written");
    run(
        "chown",
        &["--recursive", &format!("{PERSON}:"), &home.display().to_string()],
    );
}

fn states() -> [String; 2] {
    UNITS.map(|unit| property(unit, "ActiveState"))
}

/// Both services run, and have told systemd themselves that they are ready.
fn assert_ready() {
    for unit in UNITS {
        assert_eq!(property(unit, "Type"), "notify", "{unit}");
        assert_eq!(property(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(property(unit, "SubState"), "running", "{unit}");
        assert_eq!(property(unit, "NRestarts"), "0", "{unit}");
    }
}

fn status() -> Status {
    let status = Client::find(None).and_then(|client| client.status());
    status.unwrap_or_else(|error| panic!("the service does not answer: {error}"))
}

fn pictures() -> usize {
    let days = std::fs::read_dir(Path::new(RECORD).join("pictures"));
    let days = days.into_iter().flatten().flatten();
    days.filter_map(|day| std::fs::read_dir(day.path()).ok())
        .flatten()
        .count()
}

/// Section 3: the configuration that comes with the package.
fn on_the_simulated_line(guide: &mut Guide) {
    let services = Services;
    let check = guide.typed("elek check /etc/elek/station.toml --soc cortex-a72");
    assert!(check.contains("can work"), "{check}");
    guide.typed(SLOWER);
    let config = vm::read(Path::new(CONFIG));
    for value in ["parts_per_s = 2.0\n", " max = 600.0 ", "decide_within_ms = 700 "] {
        assert!(config.contains(value), "no {value:?} in: {config}");
    }
    guide.typed("sudo systemctl enable --now elek");
    assert_ready();
    assert_eq!(property("elek.service", "UnitFileState"), "enabled");
    let waiting = guide.typed("elek status");
    assert!(
        waiting.contains("WAITING for a person to acknowledge"),
        "{waiting}"
    );
    assert!(waiting.contains("seen                0"), "{waiting}");
    let acknowledged = guide.typed("elek ack");
    assert!(acknowledged.contains("the belt may run"), "{acknowledged}");
    let watched = guide.typed_as(
        "elek status --watch",
        "timeout 3 elek status --watch || [ $? = 124 ]",
    );
    assert!(watched.contains("RUNNING"), "{watched}");
    wait_until(
        "a simulated part to be rejected, as the chute eye confirms",
        || {
            let status = status();
            assert_eq!(status.state, State::Running, "{status:#?}");
            // One at least for what was seen, and not because the verdict came too late.
            status.counts.confirmed > status.counts.late && status.counts.passed > 0
        },
    );
    let status = status();
    guide.tell(&format!(
        "{} seen, {} passed, {} rejected, {:?}",
        status.counts.seen,
        status.counts.passed,
        status.counts.rejected(),
        status.margin
    ));
    assert_eq!(status.counts.escaped, 0, "{status:#?}");
    wait_until("pictures in the record", || pictures() > 0);
    // They go on running.
    std::mem::forget(services);
}

/// Sections 4 and 6: a camera and lines, and a configuration for them.
fn wired(guide: &mut Guide) -> Station {
    let mut station = Station::new(|text| text.replace("RECORD", RECORD).replace("MODELS/", "models/"));
    station.record_is(Path::new(RECORD));
    run("udevadm", &["settle"]);
    let probe = guide.typed("sudo elek probe");
    for found in [vm::line::INPUTS, vm::line::OUTPUTS, "vivid"] {
        assert!(probe.contains(found), "no {found} in: {probe}");
    }
    let chips = vm::run("stat", &["--format", "%U %G %a", "/dev/gpiochip0"]);
    assert_eq!(chips.trim(), "root elek 660");
    guide.typed("sudo systemctl stop elek");
    assert_eq!(states(), ["inactive", "active"], "the lines stay held");
    guide.typed("sudo sh -c 'rm -r /var/lib/elek/*'");
    std::fs::copy(station.config(), WANTED).expect("the configuration can be copied");
    let models = PathBuf::from("/etc/elek/models");
    std::fs::create_dir(&models).expect("a folder can be made");
    for file in ["colour.onnx", "manifest.toml"] {
        std::fs::copy(fixture(file), models.join(file)).expect("a model can be copied");
    }
    guide.typed("sudoedit /etc/elek/station.toml");
    assert_eq!(vm::read(Path::new(CONFIG)), vm::read(&station.config()));
    let check = guide.typed("elek check /etc/elek/station.toml --soc cortex-a72");
    assert!(check.contains("can work"), "{check}");
    station
}

/// Section 7: one good part, one bad part; and the station's end by force.
fn first_reject(guide: &mut Guide, station: &mut Station) {
    guide.typed("sudo systemctl start elek");
    assert_eq!(states(), ["active"; 2]);
    station.wait_for("the station to see pictures", |status| {
        !status.has(AlarmKind::CameraLost)
    });
    let waiting = guide.typed("elek status");
    assert!(
        waiting.contains("WAITING for a person to acknowledge"),
        "{waiting}"
    );
    guide.typed("sudo elek bench --output-jitter --pulses 500");
    guide.typed("elek ack");
    wait_until("the belt to be let run", || station.line.world().permit);
    station.sorts("gb");
    guide.tell("a good part went on, a bad one was blown off");
    station.assert_nothing_lost();
    let done = guide.typed("elek status");
    assert!(done.contains("rejected            1   1 confirmed"), "{done}");
    assert!(done.contains("passed              1 "), "{done}");

    station.unsafe_pulls();
    let before = main_process("elek.service");
    guide.typed("sudo kill -9 $(systemctl show --value --property MainPID elek)");
    station.wait_safe();
    wait_until("systemd to start it anew", || {
        let now = main_process("elek.service");
        now != before && now != "0" && states() == ["active"; 2]
    });
    assert_ne!(status().state, State::Running, "nobody has acknowledged");
    assert!(!station.line.world().permit);
    guide.tell("killed: the belt stands, and the station waits for a person");
}

/// Section 8: another package, and none.
fn exchanged_and_removed(guide: &mut Guide, station: &mut Station) {
    station.recover();
    let before = UNITS.map(main_process);
    guide.typed_as(
        "sudo apt install ./elek_NEW_arm64.deb",
        "sudo apt reinstall ./elek_0.1.0_arm64.deb",
    );
    assert_eq!(UNITS.map(main_process), before, "a running line was stopped");
    assert_eq!(status().state, State::Running);
    guide.typed("sudo systemctl restart elek-outputs elek");
    assert_eq!(states(), ["active"; 2]);
    let after = UNITS.map(main_process);
    for unit in UNITS {
        assert_eq!(property(unit, "NeedDaemonReload"), "no", "{unit}");
    }
    assert!(
        after.iter().zip(&before).all(|(after, before)| after != before),
        "{after:?}"
    );
    station.recover();
    station.sorts("bg");
    station.assert_nothing_lost();
    guide.tell("a bad part was blown off, a good one went on");

    // Nobody drives the lines then: what they are wired to holds them safe, as docs/HARDWARE.md has it.
    let wired = vm::line::UNSAFE.map(|(name, level)| (name, !level));
    station.line.outputs().pull_all(&wired);
    guide.typed("sudo apt remove elek");
    station.wait_safe();
    assert!(!Path::new("/usr/bin/elek").exists());
    for unit in UNITS {
        assert_eq!(property(unit, "MainPID"), "0", "{unit} still runs");
    }
    assert!(Path::new(CONFIG).exists());
    guide.typed("sudo apt purge elek");
    assert!(!Path::new(CONFIG).exists());
    assert!(
        Path::new("/etc/elek/models/manifest.toml").exists(),
        "so are models of one's own"
    );
    assert!(pictures() > 0, "the record is for a person to delete");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm-arm"]
fn from_a_blank_box_to_the_first_reject() {
    let mut guide = Guide::open();
    moves_in();
    assert_eq!(guide.typed("uname -m").trim(), BOX.1);
    assert_eq!(guide.typed("getconf LONG_BIT").trim(), "64");
    assert!(guide.typed("ldd --version | head -1").contains("GLIBC"));

    for command in ["make deb", "scp target/deb/elek_0.1.0_arm64.deb box:", "ssh box"] {
        guide.elsewhere(command);
    }
    guide.typed("sudo apt install ./elek_0.1.0_arm64.deb");
    guide.typed("sudo adduser \"$USER\" elek");
    assert_eq!(states(), ["inactive"; 2], "that is for a person at the belt");

    on_the_simulated_line(&mut guide);
    let mut station = wired(&mut guide);
    let _services = Services;
    first_reject(&mut guide, &mut station);
    exchanged_and_removed(&mut guide, &mut station);
    assert!(guide.left.is_empty(), "not tried: {:?}", guide.left);
}
