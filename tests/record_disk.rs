//! A disk that is full or fails delays nothing, raises an alarm, and loses nothing
//! once it works again.
//!
//! Both tests run in a child process: one under a limit of file sizes, which makes
//! every growing write fail; one on a small file system of its own that is filled up
//! (skipped with a note where such a mount is not permitted).

use elek::config::{Keep, Record};
use elek::record::pictures::{Picture, Square};
use elek::record::{About, Hooks, Journal, Recorder, Ring, Span};
use elek::station::event::{Entry, Fate, Trouble};
use elek::units::{BeltPosition, Instant, LaneId, PartId, RecipeId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LIMITED: &str = "ELEK_TEST_LIMITED";
const FULL: &str = "ELEK_TEST_FULL";

type Troubles = Arc<Mutex<Vec<(Trouble, bool)>>>;

struct Station {
    dir: PathBuf,
    ring: Ring,
    recorder: Recorder,
    troubles: Troubles,
    part: u64,
}

impl Station {
    fn start(dir: &Path) -> Station {
        let (ring, resume) = Ring::open(dir).unwrap();
        let troubles = Troubles::default();
        let log = Arc::clone(&troubles);
        let hooks = Hooks {
            trouble: Box::new(move |trouble, present| log.lock().unwrap().push((trouble, present))),
            thumbnail: Box::new(|_, _| {}),
        };
        let record = Record {
            path: dir.into(),
            rejected: Keep::All,
            passed: Keep::None,
            keep_free_percent: 0,
        };
        let about = About {
            station: "disk".into(),
            recipes: Vec::new(),
            record,
        };
        let recorder = Recorder::spawn_for(about, &ring, hooks).unwrap();
        Station {
            dir: dir.into(),
            ring,
            recorder,
            troubles,
            part: resume.next_part.0,
        }
    }

    /// A part comes and goes; every append must succeed at once, whatever the disk does.
    fn part(&mut self) {
        let (part, at) = (PartId(self.part), Instant::from_micros(self.part as i64));
        let (lane, position, recipe) = (LaneId(0), BeltPosition::ZERO, RecipeId(0));
        self.ring
            .append(&Entry::Seen {
                part,
                lane,
                at,
                position,
                recipe,
            })
            .unwrap();
        self.ring
            .append(&Entry::Ended {
                part,
                fate: Fate::Confirmed,
                at,
            })
            .unwrap();
        // Few pictures: a slow disk must not overflow their queue, which is another alarm.
        if self.part.is_multiple_of(16) {
            let square = Square {
                side: 64,
                rgb: (0..64 * 64 * 3).map(|i| (i * 7 % 251) as u8).collect(),
            };
            let picture = Picture {
                part,
                rejected: true,
                keep: true,
                classify: Some(square),
                ..Picture::default()
            };
            self.recorder.picture(Box::new(picture));
        }
        self.part += 1;
    }

    /// Lets parts pass until the record has reported this.
    fn until(&mut self, trouble: Trouble, present: bool) {
        for _ in 0..6_000 {
            if self.troubles.lock().unwrap().last() == Some(&(trouble, present)) {
                return;
            }
            self.part();
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!(
            "never told {trouble:?} {present}; told {:?}",
            self.troubles.lock().unwrap()
        );
    }

    /// The pictures fail as the journal does, each in its own time.
    fn until_a_picture_is_lost(&mut self) {
        for _ in 0..6_000 {
            if self.recorder.health().pictures_lost() > 0 {
                return;
            }
            self.part();
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("every picture was written");
    }

    fn finish(mut self) {
        let finished = self.recorder.finish(&mut self.ring);
        assert_eq!(finished.left_in_ring, 0);
        assert!(
            finished.pictures_lost > 0,
            "the pictures of those parts cannot have been written"
        );
        let counts = self.ring.counts();
        assert_eq!(
            Journal::summary(&self.dir, Span::Everything).unwrap().counts,
            counts
        );
        assert!(counts.seen > 10);
    }
}

fn run_child(name: &str, variable: &str, dir: &Path, wrap: &[&str]) -> std::process::Output {
    let me = std::env::current_exe().unwrap();
    let words = wrap
        .iter()
        .map(|word| word.to_string())
        .chain([me.display().to_string()]);
    let words: Vec<String> = words
        .chain([name, "--exact", "--nocapture", "--test-threads=1"].map(String::from))
        .collect();
    Command::new(&words[0])
        .args(&words[1..])
        .env(variable, dir)
        .output()
        .unwrap()
}

fn assert_success(output: &std::process::Output) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

/// Not a test of its own: runs in the child.
#[test]
fn limited_child() {
    let Ok(dir) = std::env::var(LIMITED) else { return };
    // Without a handler the signal would end the process; with one, the write fails.
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).unwrap();
    let mut station = Station::start(Path::new(&dir));
    station.part();
    let free = getrlimit(Resource::Fsize);
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(1),
            maximum: free.maximum,
        },
    )
    .unwrap();
    station.until(Trouble::Record, true);
    station.until_a_picture_is_lost();
    setrlimit(Resource::Fsize, free).unwrap();
    station.until(Trouble::Record, false);
    station.finish();
}

#[test]
fn a_disk_that_refuses_every_write_raises_an_alarm_and_delays_no_part() {
    let dir = tempfile::tempdir().unwrap();
    assert_success(&run_child("limited_child", LIMITED, dir.path(), &[]));
}

/// Not a test of its own: runs in the child, on a file system of its own.
#[test]
fn full_child() {
    let Ok(dir) = std::env::var(FULL) else { return };
    let dir = Path::new(&dir);
    let mut station = Station::start(dir);
    station.part();
    let filler = dir.join("filler");
    // As much as goes; what a full disk says to it does not matter.
    let _ = std::io::copy(
        &mut std::io::repeat(1),
        &mut std::fs::File::create(&filler).unwrap(),
    );
    station.until(Trouble::Record, true);
    station.until_a_picture_is_lost();
    std::fs::remove_file(&filler).unwrap();
    station.until(Trouble::Record, false);
    station.finish();
}

#[test]
fn a_full_disk_raises_an_alarm_delays_no_part_and_is_caught_up_with_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    // A mount that only this child sees.
    let mount = format!("mount -t tmpfs -o size=12m elek-test '{at}' && exec \"$0\" \"$@\"");
    let own = ["unshare", "--mount", "--map-root-user", "sh", "-c"];
    let allowed = Command::new(own[0])
        .args(&own[1..])
        .args([&mount, "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !allowed {
        println!("skipped: a small file system of its own cannot be mounted here");
        return;
    }
    let mut wrap = own.to_vec();
    wrap.push(&mount);
    assert_success(&run_child("full_child", FULL, dir.path(), &wrap));
}

#[test]
fn a_disk_that_is_full_at_the_start_is_answered_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let output = run_child("full_at_start_child", "ELEK_TEST_FULL_AT_START", dir.path(), &[]);
    assert_success(&output);
}

/// Not a test of its own: runs in the child.
#[test]
fn full_at_start_child() {
    let Ok(dir) = std::env::var("ELEK_TEST_FULL_AT_START") else {
        return;
    };
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).unwrap();
    let free = getrlimit(Resource::Fsize);
    // Room for the journal's beginnings, none for the ring of 8 MiB.
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(1 << 20),
            maximum: free.maximum,
        },
    )
    .unwrap();
    let error = Ring::open(Path::new(&dir)).unwrap_err().to_string();
    assert!(
        error.contains("cannot make the ring file") && error.contains(&dir),
        "{error}"
    );
    // What was begun is no obstacle once there is room.
    setrlimit(Resource::Fsize, free).unwrap();
    Ring::open(Path::new(&dir)).unwrap();
}
