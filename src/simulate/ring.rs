//! The virtual record: every entry is kept at the instant it is appended, as in
//! the memory-mapped ring, and tells after a crash what to go on with.

use crate::station::Resume;
use crate::station::event::{Counts, Entry};
use crate::units::PartId;

pub struct VirtualRing {
    counts: Counts,
    /// The part numbered last.
    last: PartId,
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
            counts: Counts::default(),
            last: PartId(0),
            reserved_until: PartId(1),
            block,
            forgets_numbers,
            last_ended: PartId(0),
        }
    }

    pub fn append(&mut self, entry: &Entry) {
        match *entry {
            Entry::Seen { part, .. } => {
                self.counts.seen += 1;
                self.counts.in_flight += 1;
                self.last = self.last.max(part);
                while self.reserved_until <= self.last {
                    self.reserved_until = PartId(self.reserved_until.0 + self.block);
                }
            }
            Entry::Ended { part, fate, .. } => {
                self.counts.end(fate);
                self.last_ended = self.last_ended.max(part);
            }
            Entry::Judged { late, .. } => self.counts.late += u64::from(late),
            _ => {}
        }
    }

    /// Parts on the belt become unaccounted; numbers go on after the reserved block.
    pub fn resume(&mut self) -> Resume {
        let unaccounted = self.counts.in_flight;
        self.counts.unaccounted += unaccounted;
        self.counts.in_flight = 0;
        let next_part = match self.forgets_numbers {
            true => PartId(self.last_ended.0 + 1),
            false => self.reserved_until,
        };
        Resume {
            counts: self.counts,
            next_part,
            unaccounted,
        }
    }
}
