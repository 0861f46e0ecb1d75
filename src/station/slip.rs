//! Does the belt position still tell the truth?
//!
//! The encoder slips, loses counts or stands still; or a hand moves the belt.
//! The sensors then contradict the positions, and they do so consistently:
//!
//! - counts jump further than the belt can move;
//! - parts are seen off their expected place, time and again to the same side
//!   (camera, passed eye);
//! - parts are missing where expected while others are seen where none is
//!   (camera, passed eye, chute eye);
//! - parts measure far too long or too short at the photo-eye;
//! - parts pass the photo-eye while the encoder stands.
//!
//! When it is certain, every position is void: planned rejects are taken back,
//! the parts in flight are unaccounted, and the belt stops.

use super::Station;
use crate::station::event::{Action, AlarmKind, Fate, Unaccounted};
use crate::units::{Instant, Length};

/// Off to the same side this often is no accident.
const RUN: u32 = 3;
/// Missing here and present there: twice is enough, because each is two contradictions.
const MISSING: u32 = 2;

/// Consecutive deviations to the same side.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    length: u32,
    positive: bool,
}

impl Run {
    /// Counts a deviation beyond half of what is tolerated. True when it has become certain.
    fn add(&mut self, off: Length, tolerated: Length) -> bool {
        if off.abs() <= tolerated.half() {
            *self = Run::default();
            return false;
        }
        let positive = off > Length::ZERO;
        self.length = if positive == self.positive {
            self.length + 1
        } else {
            1
        };
        self.positive = positive;
        self.length >= RUN
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Suspicion {
    camera: Run,
    passed: Run,
    lengths: Run,
    in_picture: Absent,
    behind_reject: Absent,
    in_chute: Absent,
}

/// Where parts are expected and looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Picture,
    BehindReject,
    Chute,
}

/// Parts not at their place, and objects where no part is, since a part was found last.
#[derive(Clone, Copy, Debug, Default)]
struct Absent {
    missing: u32,
    elsewhere: u32,
}

impl Station {
    /// A part was found this far from its expected place in the picture.
    pub(super) fn suspect_camera(
        &mut self,
        now: Instant,
        off: Length,
        reach: Length,
        actions: &mut Vec<Action>,
    ) {
        self.suspicion.in_picture = Absent::default();
        if self.suspicion.camera.add(off, reach) {
            self.slipped(now, actions);
        }
    }

    /// A part was seen this far from its place behind the rejecter.
    pub(super) fn suspect_passed(
        &mut self,
        now: Instant,
        off: Length,
        window: Length,
        actions: &mut Vec<Action>,
    ) {
        self.suspicion.behind_reject = Absent::default();
        if self.suspicion.passed.add(off, window) {
            self.slipped(now, actions);
        }
    }

    /// A part fell into the chute at its time.
    pub(super) fn trust_chute(&mut self) {
        self.suspicion.in_chute = Absent::default();
    }

    /// A part measured this length at the photo-eye.
    pub(super) fn suspect_length(
        &mut self,
        now: Instant,
        length: Length,
        min: Length,
        max: Length,
        actions: &mut Vec<Action>,
    ) {
        // Half as short, or half as long again, as any part may be.
        let off = match length {
            l if l < min.half() => l + -min,
            l if l > max + min.half() => l + -max,
            _ => Length::ZERO,
        };
        if self.suspicion.lengths.add(off, min.half()) {
            self.slipped(now, actions);
        }
    }

    /// A part is not where it should be.
    pub(super) fn suspect_missing(&mut self, now: Instant, place: Place, actions: &mut Vec<Action>) {
        self.absent(place).missing += 1;
        self.weigh(now, place, actions);
    }

    /// Something is where no part should be.
    pub(super) fn suspect_elsewhere(&mut self, now: Instant, place: Place, actions: &mut Vec<Action>) {
        self.absent(place).elsewhere += 1;
        self.weigh(now, place, actions);
    }

    fn absent(&mut self, place: Place) -> &mut Absent {
        match place {
            Place::Picture => &mut self.suspicion.in_picture,
            Place::BehindReject => &mut self.suspicion.behind_reject,
            Place::Chute => &mut self.suspicion.in_chute,
        }
    }

    fn weigh(&mut self, now: Instant, place: Place, actions: &mut Vec<Action>) {
        let Absent { missing, elsewhere } = *self.absent(place);
        if missing >= MISSING && elsewhere >= MISSING {
            self.slipped(now, actions);
        }
    }

    /// Positions are void.
    pub(super) fn slipped(&mut self, now: Instant, actions: &mut Vec<Action>) {
        #[cfg(test)]
        if self.bug(super::PlantedBug::IgnoredSlip) {
            return;
        }
        self.suspicion = Suspicion::default();
        self.eye.forget();
        self.alarm(AlarmKind::EncoderSlip, now, actions);
        self.schedule.cancel_all(actions);
        while let Some(part) = self.ledger.parts().first() {
            let fate = match part.verdict {
                Some(_) if part.in_chute && part.will_reject => Fate::Confirmed,
                Some(_) if part.in_chute => Fate::Collateral,
                _ => Fate::Unaccounted(Unaccounted::LostPosition),
            };
            self.end(now, 0, fate, actions);
        }
        self.leave_all(self.belt.position_at(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_consistent_deviations_count() {
        let mm = Length::from_mm;
        let mut run = Run::default();
        assert!(!run.add(mm(7), mm(12)));
        assert!(!run.add(mm(-7), mm(12)));
        assert!(!run.add(mm(-7), mm(12)));
        assert!(
            !run.add(mm(5), mm(12)),
            "within half of the tolerance: all is well"
        );
        assert!(!run.add(mm(-7), mm(12)));
        assert!(!run.add(mm(-8), mm(12)));
        assert!(run.add(mm(-9), mm(12)));
    }
}
