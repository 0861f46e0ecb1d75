//! What is known about the parts after a process has ended, by whatever cause.
//!
//! Pure: from the records of the ring and the last state of the journal to the
//! account that the next process starts with.
//!
//! - **Process killed.** The ring lies in the kernel's page cache, so nothing is
//!   missing but the record that was being written, and that was not acted on.
//!   The journal takes over what it lacks; parts on the belt become unaccounted.
//! - **Power lost.** Any page of the ring may be older than another. The records
//!   that follow the journal without a hole are taken over. Parts that were seen
//!   beyond the hole, by the running counts of any record that survived there,
//!   are counted as seen and unaccounted. Parts seen after the last record that
//!   reached the disk (the journal commits within 200 ms) left no trace but that
//!   their numbers were reserved: these numbers are reported as skipped.

use super::entry_codec::{Line, Opened};
use super::ring_file::Record;
use crate::station::Resume;
use crate::station::event::{Counts, Entry};
use crate::units::{Instant, PartId};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The last state that the journal committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JournalState {
    /// Of the newest record it has; 0 = it has none.
    pub sequence: u64,
    pub counts: Counts,
    /// Parts without an end, by number.
    pub in_flight: Vec<PartId>,
    pub last_part: PartId,
    /// The ring's reservation when the journal last heard of it.
    pub reserved_until: PartId,
}

/// The ring as it was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Whole records, oldest first.
    pub records: Vec<Record>,
    /// Part numbers below this one may have been used.
    pub reserved_until: PartId,
    /// The machine was started anew since the ring was last opened, or may have been.
    pub rebooted: bool,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    pub resume: Resume,
    /// Indices into `Found::records` of what the journal still lacks.
    pub replay: std::ops::Range<usize>,
    /// Parts that were on the belt, as far as their numbers are known.
    pub in_flight: Vec<PartId>,
    /// Numbers of parts whose records are gone, where they are known.
    pub lost: Option<RangeInclusive<u64>>,
    /// Numbers that may have been given to parts in the last moments before a power
    /// loss, without a record of them. At most; mostly none was.
    pub skipped: Option<RangeInclusive<u64>>,
    /// Where the ring goes on.
    pub sequence: u64,
    pub line: Opened,
}

/// Works out what to start with.
pub fn recover(journal: &JournalState, found: &Found, at: Instant) -> Recovery {
    let records = &found.records;
    let fresh = records.partition_point(|record| record.sequence <= journal.sequence);
    let replay = follow(journal, records, fresh);
    let base = replay_base(journal, records, &replay);
    let (mut counts, in_flight, last_part) = base;

    let newest = records.last().filter(|record| record.sequence > journal.sequence);
    let seen = newest.map_or(0, |record| record.counts.seen);
    let lost = seen.saturating_sub(counts.seen);
    let last_known = records
        .iter()
        .filter_map(seen_part)
        .max()
        .unwrap_or_default()
        .max(last_part);
    // Numbers follow each other within a run; where they do not add up, a restart lies between.
    let numbers = last_part.0 + 1..=last_known.0;
    let lost_numbers = (lost > 0 && last_known.0 - last_part.0 == lost).then_some(numbers);

    let reserved_until = found.reserved_until.max(journal.reserved_until);
    let closed = records.last().and_then(|record| match record.line {
        Line::Closed { reserved_until, .. } if record.sequence >= journal.sequence => Some(reserved_until),
        _ => None,
    });
    let power_loss = found.rebooted && closed.is_none() && !records.is_empty();
    // After a clean end the numbers go on without a gap, unless somebody reserved more since.
    let next_part = match closed {
        Some(reserved) if reserved >= reserved_until => PartId(last_known.0 + 1),
        _ => PartId(reserved_until.0.max(last_known.0 + 1)),
    };
    let skipped =
        (power_loss && last_known.0 + 1 < reserved_until.0).then(|| last_known.0 + 1..=reserved_until.0 - 1);

    let line = Opened {
        at,
        next_part,
        in_flight: counts.in_flight,
        lost,
        power_loss,
    };
    let unaccounted = counts.in_flight + lost;
    counts.seen += lost;
    counts.unaccounted += unaccounted;
    counts.in_flight = 0;
    let sequence = newest.map_or(journal.sequence, |record| record.sequence) + 1;
    let resume = Resume {
        counts,
        next_part,
        unaccounted,
    };
    Recovery {
        resume,
        replay,
        in_flight,
        lost: lost_numbers,
        skipped,
        sequence,
        line,
    }
}

/// The records that the journal lacks and that follow without a hole, either on the
/// journal or, failing that, on a record that sums up all before it.
fn follow(journal: &JournalState, records: &[Record], fresh: usize) -> std::ops::Range<usize> {
    let mut start = fresh;
    let mut connected = journal.sequence == 0
        || records
            .get(fresh)
            .is_some_and(|record| record.sequence == journal.sequence + 1);
    let mut end = fresh;
    for index in fresh..records.len() {
        if index > fresh && records[index].sequence != records[index - 1].sequence + 1 {
            connected = false;
        }
        if !connected && matches!(records[index].line, Line::Opened(_)) {
            // Somebody took stock here before us: what lies before it is in its counts.
            (connected, start) = (true, index);
        }
        if connected {
            end = index + 1;
        }
    }
    start..end.max(start)
}

/// Counts, parts on the belt and the last part number after the replay.
fn replay_base(
    journal: &JournalState,
    records: &[Record],
    replay: &std::ops::Range<usize>,
) -> (Counts, Vec<PartId>, PartId) {
    let mut counts = journal.counts;
    let mut open: BTreeSet<PartId> = journal.in_flight.iter().copied().collect();
    let mut last_part = journal.last_part;
    for record in &records[replay.clone()] {
        match &record.line {
            Line::Entry(Entry::Seen { part, .. }) => {
                open.insert(*part);
                last_part = last_part.max(*part);
            }
            Line::Entry(Entry::Ended { part, .. }) => {
                open.remove(part);
            }
            Line::Opened(opened) => {
                open.clear();
                last_part = last_part.max(PartId(opened.next_part.0.saturating_sub(1)));
            }
            _ => {}
        }
        counts = record.counts;
    }
    // A journal that was replaced by hand may name more; the counts are what holds.
    let in_flight = open.into_iter().rev().take(counts.in_flight as usize).collect();
    (counts, in_flight, last_part)
}

fn seen_part(record: &Record) -> Option<PartId> {
    match record.line {
        Line::Entry(Entry::Seen { part, .. }) => Some(part),
        _ => None,
    }
}
