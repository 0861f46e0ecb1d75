//! Kill -9 of the whole station at random instants: afterwards its record says what the line
//! itself counted.
//!
//! The simulated line keeps its count in a file of its own, before the station can know of a
//! part. A part whose edge was still on its way when the process died was seen by nobody; only
//! such young parts may be missing from the record, and they are counted.
//!
//! The simulated line dies with the process: each start finds an empty belt, as if a person had cleared
//! it. A second test leaves the parts where they were, and the acknowledge of it all the same.
//!
//! `ELEK_RUN_KILLS=200 ELEK_SEED=7 cargo test --test run_kill` for more, or again.

use elek::control::Client;
use elek::device::clock;
use elek::infer::manifest::{hex, sha256};
use elek::record::{Journal, Ring, Span};
use elek::simulate::count::LineCount;
use elek::station::event::AlarmKind;
use elek::status::{State, Status};
use elek::units::Micros;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// In a normal run; `make test-kill` does 200.
const KILLS: u64 = 12;

/// An edge that is older than this was surely taken: the core settles it within milliseconds and has
/// a queue and a priority of its own. Generous, for computers that are busy with other tests.
const ON_ITS_WAY: Micros = Micros::from_millis(400);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a whole number"))
    })
}

/// Uniform from 0 to below `n`: a linear congruential generator, its upper bits.
fn below(state: &mut u64, n: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % n
}

/// The built-in line with a folder for its camera and a model that takes no time.
fn config(dir: &Path) {
    let folder = dir.join("pictures");
    std::fs::create_dir(&folder).unwrap();
    for n in 0..4u8 {
        // Green passes, red is rejected.
        let colour = if n == 3 { [250, 0, 0] } else { [0, 250, n] };
        let picture = image::RgbImage::from_pixel(96, 64, image::Rgb(colour));
        picture.save(folder.join(format!("{n}.png"))).unwrap();
    }
    let text = elek::config::DEFAULT;
    let (head, rest) = text.split_once("[camera.top.source.simulated]").unwrap();
    let (_, tail) = rest.split_once("[reject.air-blast]").unwrap();
    let (line, recipe) = tail.split_once("crop = {").unwrap();
    let (_, record) = recipe.split_once("otherwise =").unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/colour.onnx");
    let sha256 = hex(&sha256(&std::fs::read(&model).unwrap()));
    let text = format!(
        "{head}[camera.top.source.folder]\npath = \"pictures\"\nparts_per_s = 10.0\nrepeat = true\n\n\
         [reject.air-blast]{line}crop = {{ around = \"picture\", fit = \"letterbox\" }}\n\
         classify = {{ model = \"{}\", sha256 = \"{sha256}\" }}\npass_if = [\"green >= 0.5\"]\nreject_if = [\"red >= 0.7\"]\n\
         otherwise ={record}",
        model.display()
    );
    std::fs::write(dir.join("line.toml"), text).unwrap();
}

fn start(dir: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_elek"))
        .args([
            "run",
            "--config",
            "line.toml",
            "--acknowledge",
            "--count-file",
            "count",
        ])
        .args(args)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .unwrap()
}

#[test]
fn after_every_kill_the_record_says_what_the_line_counted() {
    let kills = number("ELEK_RUN_KILLS", KILLS);
    let seed = number("ELEK_SEED", u64::from(std::process::id()));
    println!("{kills} kills, ELEK_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    config(dir.path());
    let record = dir.path().join("elek-data");
    let line = LineCount::open(&dir.path().join("count")).unwrap();
    let mut random = seed;
    // Parts whose edge died with the process.
    let mut unseen = 0;
    let mut young_at_death = 0;
    for kill in 0..kills {
        let mut station = start(dir.path(), &[]);
        // Some kills come before the first part, some while models load, most on a running belt.
        std::thread::sleep(Duration::from_millis(200 + below(&mut random, 1_800)));
        let early = station.try_wait().unwrap();
        assert!(
            early.is_none(),
            "{early:?}: {}",
            std::fs::read_to_string(dir.path().join("log")).unwrap()
        );
        let before = clock::now();
        station.kill().unwrap();
        station.wait().unwrap();
        let crossed = line.count();
        let young = line.after(before - ON_ITS_WAY);
        young_at_death += young;

        let (ring, resume) = Ring::open(&record).unwrap();
        let seen = resume.counts.seen;
        drop(ring);
        let missing = crossed - unseen - seen;
        assert!(
            missing <= young,
            "kill {kill}, seed {seed}: the line counted {crossed} parts, the record {seen}; {unseen} were \
             known to be unseen, and only {young} are young enough to be"
        );
        unseen += missing;
        assert!(
            resume.counts.balances(),
            "kill {kill}, seed {seed}: {:?}",
            resume.counts
        );
        assert!(
            resume.next_part.0 > seen,
            "kill {kill}, seed {seed}: a number would be used twice"
        );
    }
    let crossed = line.count();
    println!(
        "{crossed} parts crossed; {young_at_death} were young when the process died, {unseen} of them unseen"
    );
    assert!(crossed > kills, "the line ran: {crossed} parts");

    // One more start writes into the journal what the ring has and the journal lacks.
    let mut station = start(dir.path(), &[]);
    std::thread::sleep(Duration::from_millis(1_500));
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&station),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert!(station.wait().unwrap().success());
    let counts = Journal::summary(&record, Span::Everything).unwrap().counts;
    assert!(counts.balances(), "{counts:?}");
    assert_eq!(counts.seen + unseen, line.count(), "{counts:?}");
}

/// Waits until the status is so; far longer than any loaded computer needs.
fn wait_for(dir: &Path, what: &str, is: impl Fn(&Status) -> bool) -> Status {
    let mut last = None;
    for _ in 0..1_200 {
        let status = Client::find(Some(&dir.join("elek-data"))).and_then(|client| client.status());
        match status {
            Ok(status) if is(&status) => return status,
            Ok(status) => last = Some(status),
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("in vain waited for {what}; the last status: {last:#?}");
}

#[test]
fn parts_left_on_the_belt_by_a_kill_stop_it_although_somebody_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path());
    let mut station = start(dir.path(), &[]);
    wait_for(dir.path(), "parts on the belt", |status| {
        status.counts.in_flight > 0
    });
    station.kill().unwrap();
    station.wait().unwrap();
    let (ring, resume) = Ring::open(&dir.path().join("elek-data")).unwrap();
    drop(ring);
    assert!(resume.unaccounted > 0, "{resume:?}");

    let mut station = start(dir.path(), &["--left-on-belt", "3"]);
    let stopped = |status: &Status| {
        let told = |kind| status.alarms.iter().any(|alarm| alarm.kind == kind);
        status.unjudged > 0 && told(AlarmKind::PartWithoutTrigger)
    };
    let status = wait_for(dir.path(), "the alarm for a part left on the belt", stopped);
    assert!(!status.permit && status.state != State::Running, "{status:#?}");
    let text = &status.alarms[0].text;
    assert!(text.contains("left on the belt went past"), "{text}");
    assert!(status.counts.balances(), "{:?}", status.counts);
    assert!(
        status.counts.unaccounted >= resume.unaccounted,
        "{:?}",
        status.counts
    );
    let pid = rustix::process::Pid::from_child(&station);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(station.wait().unwrap().success());
    let summary = Journal::summary(&dir.path().join("elek-data"), Span::Everything).unwrap();
    assert!(summary.strays > 0 && summary.counts.balances(), "{summary:?}");
}
