//! What a part really is, and the line's own account of what really happened to it.
//! Kept apart from the station's account, so that the two can be compared.

use crate::units::{Instant, Length, OutputId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Finished parts remembered one by one; older ones stay in the totals.
const HISTORY_MAX: usize = 4_096;

/// What is wrong with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Defect {
    Scratch,
    Dent,
    Contamination,
    Missing,
}

impl Defect {
    pub const ALL: [Defect; 4] = [
        Defect::Scratch,
        Defect::Dent,
        Defect::Contamination,
        Defect::Missing,
    ];
}

/// One object on the simulated belt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Counted by the world from 0 in the order of the belt; not the station's part number.
    pub number: u64,
    /// Seed of all that a renderer draws for itself: tint, place of the defect, light.
    pub seed: u64,
    pub length: Length,
    /// Centre of the part left of the belt's middle line (seen in the direction of travel).
    pub across: Length,
    /// Rotation in thousandths of a degree, 0 to 359,999.
    pub angle_mdeg: i32,
    /// `None` for a good part.
    pub defect: Option<Defect>,
}

/// Where a part ended in reality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Whereabouts {
    OnBelt,
    /// Thrown out by the reject.
    Removed,
    /// Went on past the last sensor.
    Passed,
    /// Taken off by hand.
    Taken,
}

/// What really happened to one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartTruth {
    pub part: Part,
    /// Stamp of its leading edge at the photo-eye, the very stamp the sensor reports;
    /// `None` before. A station's `Seen` entry with this stamp is this part.
    pub crossed_at: Option<Instant>,
    pub whereabouts: Whereabouts,
    /// The reject touched it, whether or not it left the belt.
    pub touched: bool,
}

/// Something that really happened; for the checks of the virtual-time simulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TruthNote {
    /// The leading edge really was at the photo-eye. `sensed`: the sensor saw it.
    Crossed {
        part: Part,
        at: Instant,
        sensed: bool,
    },
    /// Its leading edge comes to the photo-eye once more, on a belt that was pulled back, with this stamp.
    Again {
        number: u64,
        at: Instant,
    },
    /// It lay behind the photo-eye before the station was there.
    Left {
        part: Part,
        at: Instant,
    },
    /// The passed eye sees its leading edge and says so with this stamp.
    AtPassedEye {
        number: u64,
        at: Instant,
    },
    Touched {
        number: u64,
        at: Instant,
    },
    Removed {
        number: u64,
        at: Instant,
    },
    /// The whole part is past the last sensor.
    Passed {
        number: u64,
        at: Instant,
    },
    Taken {
        number: u64,
        at: Instant,
    },
    /// Level of an output line.
    Line {
        output: OutputId,
        active: bool,
        at: Instant,
    },
}

/// Totals of what really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthCounts {
    /// Leading edges that really crossed the photo-eye.
    pub crossed: u64,
    /// Of those, parts with a defect.
    pub defective: u64,
    pub removed: u64,
    pub passed: u64,
    pub taken: u64,
    /// Good parts among the removed.
    pub good_removed: u64,
    /// Parts with a defect among the passed.
    pub defective_passed: u64,
}

/// The line's own account.
#[derive(Clone, Debug, Default)]
pub struct TruthLog {
    pub counts: TruthCounts,
    /// The last parts that left the belt, oldest first.
    pub finished: VecDeque<PartTruth>,
    /// Filled only when the world was made with `keep_notes`; whoever asked drains it.
    pub notes: Vec<TruthNote>,
    pub(super) keep_notes: bool,
}

impl TruthLog {
    pub(super) fn note(&mut self, note: TruthNote) {
        if self.keep_notes {
            self.notes.push(note);
        }
    }

    pub(super) fn crossed(&mut self, part: Part, at: Instant, sensed: bool) {
        self.counts.crossed += 1;
        self.counts.defective += u64::from(part.defect.is_some());
        self.note(TruthNote::Crossed { part, at, sensed });
    }

    pub(super) fn finish(&mut self, truth: PartTruth, at: Instant) {
        let number = truth.part.number;
        let bad = truth.part.defect.is_some();
        match truth.whereabouts {
            Whereabouts::OnBelt => return,
            Whereabouts::Removed => {
                self.counts.removed += 1;
                self.counts.good_removed += u64::from(!bad);
                self.note(TruthNote::Removed { number, at });
            }
            Whereabouts::Passed => {
                self.counts.passed += 1;
                self.counts.defective_passed += u64::from(bad);
                self.note(TruthNote::Passed { number, at });
            }
            Whereabouts::Taken => {
                self.counts.taken += 1;
                self.note(TruthNote::Taken { number, at });
            }
        }
        if self.finished.len() == HISTORY_MAX {
            self.finished.pop_front();
        }
        self.finished.push_back(truth);
    }
}
