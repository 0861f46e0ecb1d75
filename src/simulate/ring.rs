//! The virtual record: every entry is kept at the instant it is appended, as in
//! the memory-mapped ring. What to go on with after a crash is worked out by the
//! shipped [`recover`].

use crate::record::recovery::{Found, JournalState, recover};
use crate::record::{Line, Record, apply_entry};
use crate::station::Resume;
use crate::station::event::{Counts, Entry};
use crate::units::{Instant, PartId};

pub struct VirtualRing {
    /// Up to the last start: the journal has taken over everything until then.
    journal: JournalState,
    /// Since the last start.
    records: Vec<Record>,
    counts: Counts,
    sequence: u64,
    reserved_until: PartId,
    block: u64,
    /// Planted bug: numbers go on after the last *ended* part.
    forgets_numbers: bool,
    last_ended: PartId,
}

impl VirtualRing {
    /// Numbers are reserved `block` at a time.
    pub fn new(forgets_numbers: bool, block: u64) -> Self {
        VirtualRing {
            journal: JournalState::default(),
            records: Vec::new(),
            counts: Counts::default(),
            sequence: 0,
            reserved_until: PartId(1),
            block,
            forgets_numbers,
            last_ended: PartId(0),
        }
    }

    pub fn append(&mut self, entry: &Entry) {
        match *entry {
            Entry::Seen { part, .. } => {
                while self.reserved_until <= part {
                    self.reserved_until = PartId(self.reserved_until.0 + self.block);
                }
            }
            Entry::Ended { part, .. } => self.last_ended = self.last_ended.max(part),
            _ => {}
        }
        // An end of a part that is not on the belt is left out here; the checks find it by their own account.
        if apply_entry(&mut self.counts, entry).is_ok() {
            self.push(Line::Entry(entry.clone()));
        }
    }

    fn push(&mut self, line: Line) {
        self.sequence += 1;
        self.records.push(Record {
            sequence: self.sequence,
            counts: self.counts,
            line,
        });
    }

    /// A process begins: parts on the belt become unaccounted; numbers go on after the reserved block.
    pub fn resume(&mut self, at: Instant) -> Resume {
        let found = Found {
            records: std::mem::take(&mut self.records),
            reserved_until: self.reserved_until,
            rebooted: false,
        };
        let recovery = recover(&self.journal, &found, at);
        let mut resume = recovery.resume;
        self.journal = JournalState {
            sequence: self.sequence,
            counts: resume.counts,
            in_flight: Vec::new(),
            last_part: PartId(resume.next_part.0 - 1),
            reserved_until: self.reserved_until,
        };
        self.counts = resume.counts;
        self.push(Line::Opened(recovery.line));
        if self.forgets_numbers {
            resume.next_part = PartId(self.last_ended.0 + 1);
        }
        resume
    }
}
