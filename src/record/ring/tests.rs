//! The ring and the journal together, over kills, power loss and damage.

use super::*;
use crate::record::summary::{Span, Summary};
use crate::station::event::{Fate, Verdict};
use crate::units::{BeltPosition, LaneId, Micros, RecipeId};
use proptest::prelude::*;
use std::collections::BTreeSet;

const SMALL: u64 = 4_096;
const HERE: Option<Id> = Some([1, 1]);

pub(crate) fn seen(part: u64) -> Entry {
    Entry::Seen {
        part: PartId(part),
        lane: LaneId(0),
        at: Instant::from_micros(part as i64 * 1_000),
        position: BeltPosition::from_micrometres(part as i64),
        recipe: RecipeId(0),
    }
}

pub(crate) fn judged(part: u64, late: bool) -> Entry {
    let at = Instant::from_micros(part as i64 * 1_000 + 50);
    let margin = Micros::new(9_000 - part as i64);
    Entry::Judged {
        part: PartId(part),
        verdict: Verdict::Pass,
        will_reject: false,
        at,
        late,
        margin,
    }
}

pub(crate) fn ended(part: u64, fate: Fate) -> Entry {
    Entry::Ended {
        part: PartId(part),
        fate,
        at: Instant::from_micros(part as i64 * 1_000 + 900),
    }
}

fn open(dir: &Path) -> (Ring, Resume) {
    Ring::open_with(
        dir,
        Options {
            capacity: SMALL,
            boot: HERE,
        },
    )
    .unwrap()
}

/// What the journal thread does, without the thread.
fn commit(ring: &Ring) {
    let mut journal = Journal::open(ring.dir()).unwrap();
    let records: Vec<_> = (ring.file.journaled() + 1..=ring.file.written())
        .map(|s| ring.file.read(s).unwrap())
        .collect();
    journal.write(&records, ring.file.reserved_until()).unwrap();
    ring.file.set_journaled(ring.file.written());
}

fn summary(dir: &Path) -> Summary {
    Journal::summary(dir, Span::Everything).unwrap()
}

#[test]
fn a_new_record_starts_at_part_one_with_an_empty_account() {
    let dir = tempfile::tempdir().unwrap();
    let (_, resume) = open(dir.path());
    assert_eq!(
        (resume.counts, resume.next_part, resume.unaccounted),
        (Counts::default(), PartId(1), 0)
    );
}

#[test]
fn parts_on_the_belt_at_a_kill_are_unaccounted_and_their_numbers_never_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, resume) = open(dir.path());
    let first = resume.next_part.0;
    for part in first..first + 5 {
        ring.append(&seen(part)).unwrap();
        ring.append(&judged(part, part == first)).unwrap();
    }
    ring.append(&ended(first, Fate::Passed { verified: true }))
        .unwrap();
    ring.append(&ended(first + 1, Fate::Confirmed)).unwrap();
    drop(ring);
    let (ring, resume) = open(dir.path());
    let expected = Counts {
        seen: 5,
        passed: 1,
        confirmed: 1,
        unaccounted: 3,
        late: 1,
        ..Counts::default()
    };
    assert_eq!((resume.counts, resume.unaccounted), (expected, 3));
    assert!(resume.next_part.0 >= first + 5);
    assert_eq!(ring.recovery().in_flight.len(), 3);
    assert_eq!(ring.recovery().skipped, None, "the machine did not go down");
    assert_eq!(
        summary(dir.path()).counts,
        expected,
        "the journal's rows say the same"
    );
}

#[test]
fn opening_twice_in_a_row_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, resume) = open(dir.path());
    ring.append(&seen(resume.next_part.0)).unwrap();
    drop(ring);
    let (ring, first) = open(dir.path());
    drop(ring);
    let (_, second) = open(dir.path());
    assert_eq!(first.counts, second.counts);
    assert_eq!((first.unaccounted, second.unaccounted), (1, 0));
    assert!(second.next_part > first.next_part);
}

#[test]
fn a_number_is_taken_only_once_and_only_when_reserved() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, resume) = open(dir.path());
    let first = resume.next_part.0;
    ring.append(&seen(first)).unwrap();
    let (part, last) = (PartId(first), PartId(first));
    assert_eq!(
        ring.append(&seen(first)),
        Err(RingError::NumberReused { part, last })
    );
    let beyond = first + 2 * BLOCK_OF_NUMBERS;
    assert_eq!(
        ring.append(&seen(beyond)),
        Err(RingError::NotReserved(PartId(beyond)))
    );
    ring.append(&seen(beyond - 1)).unwrap();
    assert_eq!(ring.counts().seen, 2);
}

#[test]
fn the_end_of_a_refused_part_is_not_booked_on_another() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, resume) = open(dir.path());
    let first = resume.next_part.0;
    let refused = first + 2 * BLOCK_OF_NUMBERS;
    ring.append(&seen(first)).unwrap();
    ring.append(&seen(refused)).unwrap_err();
    let fate = Fate::Passed { verified: true };
    assert_eq!(
        ring.append(&ended(refused, fate)),
        Err(RingError::NeverSeen(PartId(refused), 1))
    );
    ring.append(&ended(first, fate)).unwrap();
    assert_eq!(
        ring.counts(),
        Counts {
            seen: 1,
            passed: 1,
            ..Counts::default()
        }
    );
}

#[test]
fn a_ring_that_the_journal_does_not_empty_refuses_parts_before_it_refuses_their_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, resume) = open(dir.path());
    ring.file.reserve(PartId(1 << 40)).unwrap();
    let mut part = resume.next_part.0;
    while ring.append(&seen(part)).is_ok() {
        part += 1;
    }
    assert!(matches!(ring.append(&seen(part)), Err(RingError::Full { .. })));
    for open in resume.next_part.0..resume.next_part.0 + ROOM_FOR_ENDS {
        ring.append(&ended(open, Fate::Escaped)).unwrap();
    }
    assert!(matches!(
        ring.append(&judged(1, false)),
        Err(RingError::Full { .. })
    ));
    commit(&ring);
    ring.append(&seen(part)).unwrap();
    let counts = ring.counts();
    drop(ring);
    assert_eq!(open(dir.path()).1.counts.escaped, counts.escaped);
}

#[test]
fn the_account_survives_many_laps_of_the_ring() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, resume) = open(dir.path());
    ring.file.reserve(PartId(1 << 40)).unwrap();
    let parts = 3 * SMALL;
    for part in resume.next_part.0..resume.next_part.0 + parts {
        ring.append(&seen(part)).unwrap();
        ring.append(&ended(part, Fate::Unconfirmed)).unwrap();
        if part % 500 == 0 {
            commit(&ring);
        }
    }
    drop(ring);
    let (_, resume) = open(dir.path());
    assert_eq!(
        resume.counts,
        Counts {
            seen: parts,
            unconfirmed: parts,
            ..Counts::default()
        }
    );
    assert_eq!(summary(dir.path()).counts, resume.counts);
}

#[test]
fn a_torn_record_costs_that_record_and_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, resume) = open(dir.path());
    for part in resume.next_part.0..resume.next_part.0 + 3 {
        ring.append(&seen(part)).unwrap();
    }
    let torn = ring.file.written();
    drop(ring);
    damage(dir.path(), torn);
    let (ring, resume) = open(dir.path());
    assert_eq!((resume.counts.seen, resume.unaccounted), (2, 2));
    assert_eq!(ring.file.written(), torn, "its place is used again");
}

#[test]
fn without_its_journal_the_account_goes_on_from_the_ring_and_without_its_ring_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, resume) = open(dir.path());
    ring.append(&seen(resume.next_part.0)).unwrap();
    ring.append(&ended(resume.next_part.0, Fate::Passed { verified: false }))
        .unwrap();
    commit(&ring);
    ring.append(&seen(resume.next_part.0 + 1)).unwrap();
    drop(ring);
    for file in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _ = std::fs::remove_file(dir.path().join(file));
    }
    let (mut ring, resume) = open(dir.path());
    let expected = Counts {
        seen: 2,
        passed: 1,
        unaccounted: 1,
        ..Counts::default()
    };
    assert_eq!(resume.counts, expected);
    ring.append(&seen(resume.next_part.0)).unwrap();
    commit(&ring);
    drop(ring);
    std::fs::write(dir.path().join("ring"), "nonsense").unwrap();
    let (_, after) = open(dir.path());
    assert_eq!(
        after.counts,
        Counts {
            seen: 3,
            unaccounted: 2,
            ..expected
        }
    );
    assert!(after.next_part > resume.next_part);
    assert!(
        std::fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .any(|entry| { entry.file_name().to_string_lossy().starts_with("ring.damaged-") })
    );
}

#[test]
fn a_clean_end_is_no_power_loss_even_after_a_reboot() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, _) = open(dir.path());
    ring.close(Instant::ZERO);
    drop(ring);
    let other = Options {
        capacity: SMALL,
        boot: Some([2, 2]),
    };
    let (ring, _) = Ring::open_with(dir.path(), other).unwrap();
    assert!(!ring.recovery().line.power_loss);
    drop(ring);
    let (ring, _) = open(dir.path());
    assert!(ring.recovery().line.power_loss, "no clean end, another boot");
    assert!(ring.recovery().skipped.is_some());
}

#[test]
fn a_record_folder_that_cannot_be_is_answered_with_its_name_and_advice() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Ring::open(&file.join("record")).unwrap_err().to_string();
    assert!(
        error.contains("file/record") && error.contains("record.path"),
        "{error}"
    );
    let (_ring, _) = open(dir.path());
    let error = Ring::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("in use by another station"), "{error}");
}

#[test]
fn a_damaged_or_newer_journal_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("journal.sqlite"),
        "this is not a database at all".repeat(100),
    )
    .unwrap();
    let error = Ring::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("journal.sqlite") && error.contains("move it away"),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let db = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let error = Ring::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("newer elek"), "{error}");
}

fn damage(dir: &Path, sequence: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(dir.join("ring"))
        .unwrap();
    file.write_all_at(&[0x5A; 8], 3 * 4096 + sequence % SMALL * 128 + 90)
        .unwrap();
}

/// What happens to a record between two starts.
#[derive(Clone, Debug)]
enum Op {
    Seen,
    /// The n-th part on the belt ends.
    Ended(usize),
    Commit,
    /// All that was stored so far reaches the disk.
    WriteBack,
    Kill,
    /// A clean end and a new start.
    Close,
    /// The machine goes down: each block of the ring is the newer or the older one, by these bits.
    PowerLoss(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => Just(Op::Seen),
        15 => (0usize..8).prop_map(Op::Ended),
        3 => Just(Op::Commit),
        1 => Just(Op::WriteBack),
        1 => Just(Op::Kill),
        1 => Just(Op::Close),
        1 => any::<u64>().prop_map(Op::PowerLoss),
    ]
}

/// A ring with the machine around it: what is on the disk, and what people saw.
struct Machine {
    dir: tempfile::TempDir,
    ring: Option<Ring>,
    boot: u64,
    /// The ring file as the disk has it.
    disk: Vec<u8>,
    on_belt: Vec<u64>,
    next: u64,
    used: BTreeSet<u64>,
    seen: u64,
    /// `seen` that is durable for certain.
    committed: u64,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Machine {
            dir,
            ring: None,
            boot: 1,
            disk: Vec::new(),
            on_belt: Vec::new(),
            next: 1,
            used: BTreeSet::new(),
            seen: 0,
            committed: 0,
        };
        machine.start();
        machine
    }

    fn start(&mut self) -> Resume {
        let options = Options {
            capacity: 128,
            boot: Some([self.boot, 0]),
        };
        let (ring, resume) = Ring::open_with(self.dir.path(), options).unwrap();
        self.next = resume.next_part.0;
        self.ring = Some(ring);
        self.on_belt.clear();
        if self.disk.is_empty() {
            self.disk = self.file();
        }
        // The reservation is flushed, the rest is not yet.
        let now = self.file();
        self.disk[4096..3 * 4096].copy_from_slice(&now[4096..3 * 4096]);
        resume
    }

    fn file(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("ring")).unwrap()
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Seen => self.see(),
            Op::Ended(n) if !self.on_belt.is_empty() => {
                let part = self.on_belt.remove(n % self.on_belt.len());
                let entry = ended(part, Fate::Confirmed);
                self.append(&entry).expect("there is room for ends");
            }
            Op::Ended(_) => {}
            Op::Commit => {
                commit(self.ring.as_ref().unwrap());
                self.committed = self.seen;
            }
            Op::WriteBack => self.disk = self.file(),
            Op::Kill => {
                self.ring = None;
                let resume = self.start();
                assert_eq!(resume.counts.seen, self.seen, "a kill loses nothing");
                self.check(&resume);
            }
            Op::Close => {
                let mut ring = self.ring.take().unwrap();
                commit(&ring);
                ring.close(Instant::ZERO);
                let next = ring.last_part.0 + 1;
                drop(ring);
                let resume = self.start();
                assert_eq!(
                    (resume.counts.seen, resume.next_part.0),
                    (self.seen, next),
                    "numbers go on"
                );
                self.check(&resume);
            }
            Op::PowerLoss(bits) => self.power_loss(*bits),
        }
    }

    fn append(&mut self, entry: &Entry) -> Result<(), RingError> {
        let ring = self.ring.as_mut().unwrap();
        let full = ring.append(entry);
        if let Err(RingError::Full { .. }) = full {
            commit(self.ring.as_ref().unwrap());
            self.committed = self.seen;
            return self.ring.as_mut().unwrap().append(entry);
        }
        full
    }

    fn see(&mut self) {
        let part = self.next;
        match self.append(&seen(part)) {
            Ok(()) => {}
            Err(RingError::NotReserved(_)) => {
                let ring = self.ring.as_ref().unwrap();
                ring.file.reserve(PartId(part + BLOCK_OF_NUMBERS)).unwrap();
                let now = self.file();
                self.disk[4096..3 * 4096].copy_from_slice(&now[4096..3 * 4096]);
                return;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(self.used.insert(part), "number {part} was used before");
        self.on_belt.push(part);
        self.next += 1;
        self.seen += 1;
    }

    fn power_loss(&mut self, bits: u64) {
        self.ring = None;
        let now = self.file();
        let mut mixed = self.disk.clone();
        for (block, (to, from)) in mixed.chunks_mut(4096).zip(now.chunks(4096)).enumerate().skip(3) {
            if bits >> (block % 64) & 1 == 1 {
                to.copy_from_slice(from);
            }
        }
        std::fs::write(self.dir.path().join("ring"), &mixed).unwrap();
        self.disk = mixed;
        self.boot += 1;
        let resume = self.start();
        assert!(
            resume.counts.seen >= self.committed,
            "what was committed is not lost"
        );
        assert!(
            resume.counts.seen <= self.seen,
            "nothing is counted that was not there"
        );
        let missing = self.seen - resume.counts.seen;
        if missing > 0 {
            let skipped = self
                .ring
                .as_ref()
                .unwrap()
                .recovery()
                .skipped
                .clone()
                .expect("a gap is reported");
            assert!(
                skipped.count() as u64 >= missing,
                "the reported gap covers what is missing"
            );
        }
        self.seen = resume.counts.seen;
        self.check(&resume);
    }

    fn check(&mut self, resume: &Resume) {
        self.committed = self.seen;
        assert!(
            resume.counts.balances() && resume.counts.in_flight == 0,
            "{resume:?}"
        );
        assert!(
            self.used.last().is_none_or(|last| *last < resume.next_part.0),
            "numbers go on behind the used ones"
        );
        assert_eq!(self.ring.as_ref().unwrap().counts(), resume.counts);
        let journal = Journal::open(self.dir.path()).unwrap().state().unwrap();
        assert_eq!((journal.counts, journal.in_flight.len()), (resume.counts, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_account_balances_over_kills_and_power_loss(ops in proptest::collection::vec(op(), 1..250)) {
        let mut machine = Machine::new();
        for op in &ops {
            machine.apply(op);
        }
        machine.apply(&Op::Kill);
    }
}
