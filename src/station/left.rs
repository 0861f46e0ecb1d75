//! Parts on the belt that nobody follows.
//!
//! They lay there when the station started, or positions became void under them, or the
//! ledger had no room. Whoever then acknowledges says that the belt was cleared. A part that
//! an eye meets all the same proves that it was not: nobody judged it, or nobody knows any more
//! which verdict was its own. It stops the belt, every time.
//!
//! - At the passed eye it has left the station as if it were good: always an alarm.
//! - Under the camera it is an alarm once the belt was said to be cleared. Before, people are
//!   about to take it off.

use super::Station;
use crate::station::alarm::About;
use crate::station::event::{AlarmKind, Fate, Unaccounted};
use crate::units::{BeltPosition, Length};

#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// What crossed the photo-eye up to here, nobody could follow.
    until: BeltPosition,
    /// Parts on the belt when the last process ended, by its record.
    before: u64,
    /// A person let the belt run since parts were last left alone.
    cleared: bool,
    /// Such a part was met since the last acknowledge; how many of them at the passed eye.
    met: Option<u64>,
    /// All that went past the passed eye without a verdict since the start, whatever the cause.
    pub unjudged: u64,
}

impl Left {
    /// At the start: whatever is behind the photo-eye, or under it.
    pub fn new(longest: Length, before: u64) -> Left {
        Left {
            until: BeltPosition::ZERO + longest,
            before,
            cleared: false,
            met: None,
            unjudged: 0,
        }
    }

    /// Parts were left alone that a person has to take off.
    pub fn uncleared(&mut self) {
        self.cleared = false;
    }

    pub fn cleared(&self) -> bool {
        self.cleared
    }

    /// Something went past the passed eye unjudged; `left`: it was left on the belt.
    pub fn went_past(&mut self, left: bool) {
        self.unjudged += 1;
        if left {
            *self.met.get_or_insert(0) += 1;
        }
    }

    /// One that was left on the belt is under the camera.
    pub fn under_camera(&mut self) {
        self.met.get_or_insert(0);
    }
}

impl Station {
    /// Nobody follows the parts on the belt any more.
    pub(super) fn leave_all(&mut self, here: BeltPosition) {
        self.belt.forget_furthest();
        self.left.until = here + longest_part(&self.config);
        self.left.uncleared();
    }

    /// The belt runs because a person let it: nothing is on it that they did not see.
    pub(super) fn belt_cleared(&mut self) {
        if !std::mem::replace(&mut self.left.cleared, true) {
            self.frames.forget_strays();
        }
    }

    /// What was met of parts left on the belt is old news when its alarm is gone.
    pub(super) fn forget_met(&mut self) {
        let told = |alarm: &super::interlock::Alarm| alarm.kind == AlarmKind::PartWithoutTrigger;
        if !self.lock.alarms().iter().any(told) {
            self.left.met = None;
        }
    }

    /// A part that crossed the photo-eye at `zero` may be one that nobody could follow:
    /// from before the start, or from before the positions became void.
    pub(super) fn foreign(&self, zero: BeltPosition) -> bool {
        zero <= self.left.until
    }

    /// As [`Station::foreign`], or one for which the ledger had no room.
    pub(super) fn unfollowed(&self, zero: BeltPosition, reach: Length) -> bool {
        self.foreign(zero) || self.ended_near(zero, reach, is_lost)
    }

    /// What else there is to say about an alarm.
    pub(super) fn about(&self, kind: AlarmKind) -> About {
        match (kind, self.left.met) {
            (AlarmKind::PartsUnaccounted, _) => About::OnBelt(self.left.before),
            (AlarmKind::PartWithoutTrigger, Some(passed)) => About::LeftOnBelt { passed },
            _ => About::Nothing,
        }
    }
}

/// Ended in the account, while the part itself went on along the belt, known to nobody.
pub fn is_lost(fate: Fate) -> bool {
    matches!(
        fate,
        Fate::Unaccounted(Unaccounted::LostPosition | Unaccounted::LedgerFull)
    )
}

pub fn longest_part(config: &crate::config::Config) -> Length {
    let lengths = config.recipes.iter().map(|recipe| recipe.part_max);
    lengths.max().unwrap_or(Length::ZERO)
}
