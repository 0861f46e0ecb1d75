//! Kill -9 at random instants: afterwards the account holds.
//!
//! A child process puts parts on record at speed. Before and after each step it
//! tells the parent over a socket, so the parent keeps a count of its own. Then it
//! is killed. What the record says afterwards must be the parent's count, give or
//! take the one step that was under way.
//!
//! `ELEK_KILLS=1000 ELEK_SEED=7 cargo test --test record_kill` for more, or again.

use elek::config::{Keep, Record};
use elek::record::{About, Hooks, Journal, Recorder, Ring, RingError, Span};
use elek::station::event::{Counts, Entry, Fate, Verdict};
use elek::units::{BeltPosition, Instant, LaneId, Micros, PartId, RecipeId};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CHILD: &str = "ELEK_TEST_KILL_CHILD";
const KILLS: u64 = 200;

/// What the child tells, nine bytes each: a letter and a part number.
const STARTED: u8 = b'S';
const SEEING: u8 = b'p';
const SEEN: u8 = b'P';
const ENDING: u8 = b'e';
const ENDED: u8 = b'E';

/// A small generator of random numbers (SplitMix64), the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Not a test of its own: what the parent starts and kills.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let tell = |letter: u8, part: u64| {
        let mut message = [letter; 9];
        message[1..].copy_from_slice(&part.to_le_bytes());
        // The parent's socket came as standard input. When the parent is gone, so are we.
        if rustix::io::write(std::io::stdin(), &message) != Ok(9) {
            std::process::exit(1);
        }
    };
    let (mut ring, resume) = Ring::open(Path::new(&dir)).unwrap();
    let record = Record {
        path: dir.into(),
        rejected: Keep::All,
        passed: Keep::None,
        keep_free_percent: 0,
    };
    let about = About {
        station: "kill".into(),
        recipes: vec![("cap".into(), vec!["scratch > 0.6".into()])],
        record,
    };
    let hooks = Hooks {
        trouble: Box::new(|_, _| {}),
        thumbnail: Box::new(|_, _| {}),
    };
    let _recorder = Recorder::spawn_for(about, &ring, hooks).unwrap();
    tell(STARTED, resume.next_part.0);
    let mut random = Random(resume.next_part.0);
    let mut on_belt = Vec::new();
    let mut part = resume.next_part.0;
    loop {
        let at = Instant::from_micros(part as i64 * 100);
        if on_belt.len() < 5 || (on_belt.len() < 12 && random.below(2) == 0) {
            let (lane, position, recipe) = (LaneId(0), BeltPosition::ZERO, RecipeId(0));
            tell(SEEING, part);
            put(
                &mut ring,
                &Entry::Seen {
                    part: PartId(part),
                    lane,
                    at,
                    position,
                    recipe,
                },
            );
            tell(SEEN, part);
            on_belt.push(part);
            let (verdict, margin) = (Verdict::Pass, Micros::new(5));
            let late = random.below(8) == 0;
            put(
                &mut ring,
                &Entry::Judged {
                    part: PartId(part),
                    verdict,
                    will_reject: false,
                    at,
                    late,
                    margin,
                },
            );
            part += 1;
        } else {
            let ends = on_belt.swap_remove(random.below(on_belt.len() as u64) as usize);
            let fate =
                [Fate::Passed { verified: true }, Fate::Confirmed, Fate::Collateral][ends as usize % 3];
            tell(ENDING, ends);
            put(
                &mut ring,
                &Entry::Ended {
                    part: PartId(ends),
                    fate,
                    at,
                },
            );
            tell(ENDED, ends);
        }
        if random.below(16) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(400)));
        }
    }
}

/// Far faster than any line, so the record may ask for patience.
fn put(ring: &mut Ring, entry: &Entry) {
    loop {
        match ring.append(entry) {
            Ok(()) => return,
            Err(RingError::NotReserved(_) | RingError::Full { .. }) => {
                std::thread::sleep(Duration::from_millis(1))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The parent's own account, from what it was told.
#[derive(Debug, Default)]
struct Told {
    seen: u64,
    ended: u64,
    /// The step that had begun and whose end was not told.
    under_way: Option<u8>,
    numbers: BTreeSet<u64>,
}

impl Told {
    fn hear(&mut self, messages: &[u8]) {
        for message in messages.chunks_exact(9) {
            let part = u64::from_le_bytes(message[1..].try_into().unwrap());
            match message[0] {
                SEEING => {
                    assert!(self.numbers.insert(part), "number {part} was given twice");
                    self.under_way = Some(SEEING);
                }
                SEEN => (self.seen, self.under_way) = (self.seen + 1, None),
                ENDING => self.under_way = Some(ENDING),
                ENDED => (self.ended, self.under_way) = (self.ended + 1, None),
                _ => {}
            }
        }
    }

    /// Compares with the record, and takes over whether the step under way was made.
    fn check(&mut self, counts: &Counts) {
        let might = |letter| u64::from(self.under_way == Some(letter));
        let (seen, ended) = (
            self.seen..=self.seen + might(SEEING),
            self.ended..=self.ended + might(ENDING),
        );
        assert!(
            seen.contains(&counts.seen),
            "told {seen:?}, the record has {counts:?}"
        );
        let by_child = counts.passed + counts.rejected();
        assert!(
            ended.contains(&by_child),
            "told {ended:?} ends, the record has {counts:?}"
        );
        assert!(counts.balances() && counts.in_flight == 0, "{counts:?}");
        if might(SEEING) == 1 && counts.seen == self.seen {
            // Never on record, so nobody has acted on it: its number was not given yet.
            self.numbers.pop_last();
        }
        (self.seen, self.ended, self.under_way) = (counts.seen, by_child, None);
    }
}

fn start(dir: &Path) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (child, ours)
}

/// Lets a child run for a random while, kills it, and returns all that it told.
fn run_and_kill(dir: &Path, random: &mut Random) -> Vec<u8> {
    let (mut child, mut socket) = start(dir);
    let mut told = Vec::new();
    if random.below(4) > 0 {
        // Count from when it began; else from its birth, so that the start itself is hit too.
        let mut first = [0; 9];
        socket.read_exact(&mut first).unwrap();
        told.extend(first);
    }
    let listener = std::thread::spawn(move || {
        let _ = socket.read_to_end(&mut told);
        told
    });
    std::thread::sleep(Duration::from_micros(random.below(60_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    listener.join().unwrap()
}

#[test]
fn nothing_is_lost_and_no_number_given_twice_over_200_kills() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let seed = number("ELEK_SEED", std::process::id().into());
    let kills = number("ELEK_KILLS", KILLS);
    println!("seed {seed}: repeat with ELEK_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let mut told = Told::default();
    for kill in 1..=kills {
        told.hear(&run_and_kill(dir.path(), &mut random));
        let (_ring, resume) = Ring::open(dir.path()).unwrap();
        told.check(&resume.counts);
        let last = told.numbers.last().copied().unwrap_or(0);
        assert!(
            resume.next_part.0 > last,
            "kill {kill}, seed {seed}: {} after {last}",
            resume.next_part
        );
        let rows = Journal::summary(dir.path(), Span::Everything).unwrap().counts;
        assert_eq!(
            rows, resume.counts,
            "kill {kill}, seed {seed}: rows of the journal against the ring"
        );
    }
    assert!(told.seen > kills, "the children hardly ran: {} parts", told.seen);
    println!(
        "{} parts seen, {} ended on record, over {kills} kills",
        told.seen, told.ended
    );
    std::io::stdout().flush().unwrap();
}
