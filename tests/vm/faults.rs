//! Things that go wrong, from outside the process under test, and what has to come of them.

use super::station::{Asked, Station};
use super::{run, wait_until, write};
use elek::station::event::AlarmKind;
use elek::status::State;
use rustix::process::Pid;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A station with a good and a bad part on the belt, the bad one between camera and rejecter.
pub fn in_the_middle_of_a_part() -> Station {
    let station = Station::running();
    station.line.feed("gb");
    wait_until("the bad part to be between camera and rejecter", || {
        let world = station.line.world();
        world.parts.len() == 2 && world.last_lead() > 100.0
    });
    station
}

/// Outputs safe by an alarm; the cause ends; a person clears the belt and acknowledges; it sorts on.
pub fn stops_and_comes_back(
    mut station: Station,
    kind: AlarmKind,
    begin: impl FnOnce(&mut Station),
    end: impl FnOnce(&mut Station),
) {
    begin(&mut station);
    station.wait_safe();
    // The lines change before the next snapshot of the status is taken.
    station.wait_for("the alarm", |status| status.has(kind) && !status.permit);
    end(&mut station);
    comes_back(&mut station);
}

/// A person clears the belt and acknowledges; it sorts on, and no part is lost from the account.
pub fn comes_back(station: &mut Station) {
    station.recover();
    station.sorts("gb");
    station.assert_nothing_lost();
}

/// A fault that does not stop the line: parts are sorted while it lasts and afterwards.
pub fn goes_on(station: &mut Station, parts: &str) {
    station.sorts(parts);
    assert_eq!(station.status().map(|status| status.state), Some(State::Running));
    station.assert_nothing_lost();
}

/// Takes a line as another program would; dropped, it is free again.
pub fn hold(chip: &Path, name: &str) -> gpiocdev::Request {
    let found = gpiocdev::Chip::from_path(chip).expect("the chip can be opened");
    let offset = found.find_line_info(name).expect("the chip has this line").offset;
    let mut request = gpiocdev::Request::builder();
    request
        .on_chip(chip)
        .with_consumer("somebody")
        .with_line(offset)
        .as_input();
    request.request().expect("the line is free")
}

/// Steps the wall clock by hours, forward or back.
pub fn step_wall_clock(hours: i64) {
    let mut now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec += hours * 3600;
    let time = libc::timespec {
        tv_sec: now.tv_sec,
        tv_nsec: now.tv_nsec,
    };
    // SAFETY: `time` is a valid timespec that outlives the call.
    let result = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) };
    assert_eq!(result, 0, "the clock cannot be set");
}

/// What the kernel does when memory is out, with this process as the one it chooses.
pub fn out_of_memory(process: Pid) {
    let score = format!("/proc/{}/oom_score_adj", process.as_raw_nonzero());
    write(Path::new(&score), "1000");
    write(Path::new("/proc/sysrq-trigger"), "f");
}

/// A small file system of its own, to be filled up.
pub struct Fill {
    folder: PathBuf,
}

impl Fill {
    pub fn new(size: &str) -> Fill {
        let folder = std::env::temp_dir().join("elek-small-disk");
        fs::create_dir_all(&folder).expect("a folder can be made");
        let options = format!("size={size}");
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &options,
                "small",
                &folder.display().to_string(),
            ],
        );
        Fill { folder }
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    fn file(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// To the last byte.
    pub fn fill(&self) {
        let mut file = File::create(self.file()).expect("a file can be made");
        for size in [65_536, 4_096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    pub fn empty(&self) {
        fs::remove_file(self.file()).expect("the ballast can be removed");
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.folder)
            .status();
    }
}

/// One thread of another process, stopped by a debugger; dropped, it goes on.
pub struct Frozen {
    thread: libc::pid_t,
}

impl Frozen {
    pub fn new(process: Pid, name: &str) -> Frozen {
        let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
        let tasks = fs::read_dir(&tasks).expect("the process lives").flatten();
        let named = tasks
            .map(|task| task.path())
            .find(|task| super::read(&task.join("comm")) == name);
        let thread = named.unwrap_or_else(|| panic!("there is no thread {name}"));
        let thread = thread
            .file_name()
            .and_then(|id| id.to_str())
            .and_then(|id| id.parse().ok());
        let thread: libc::pid_t = thread.expect("threads are named by numbers");
        let call = |request, what: &str| {
            // SAFETY: these requests take no memory of ours.
            let result = unsafe { libc::ptrace(request, thread, 0, 0) };
            assert_eq!(
                result,
                0,
                "cannot {what} {name}: {}",
                std::io::Error::last_os_error()
            );
        };
        call(libc::PTRACE_SEIZE, "watch");
        call(libc::PTRACE_INTERRUPT, "stop");
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let waited = unsafe { libc::waitpid(thread, &mut status, libc::__WALL) };
        assert_eq!(waited, thread, "{name} does not stop");
        Frozen { thread }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: detaching takes no memory of ours; should the thread be gone, it fails.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.thread, 0, 0) };
    }
}
