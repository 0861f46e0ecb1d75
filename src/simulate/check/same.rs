//! A part that nobody can tell from the one before it.
//!
//! What comes to the photo-eye within half a part of the last trigger, by the encoder, is the same part to
//! the core: it has a hole, or rocks. So a part is not seen when the encoder slipped between the two, or when
//! the last trigger was none: a hand in front of the eye on a standing belt. Only that part is excused, and
//! not once the core has said that positions are void, for then no trigger of before counts.

use super::*;
use crate::config::Motion;
use crate::units::Length;

/// An edge and the counts told before it are apart by this at most.
const COUNTS_OLD: Micros = Micros::from_millis(10);

/// The last part that the core counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trigger {
    at: Instant,
    counts: i64,
    /// A part really crossed then.
    real: bool,
}

/// What tells two parts at the photo-eye from each other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// The last counts.
    pub counts: Option<i64>,
    trigger: Option<Trigger>,
}

impl Told {
    pub fn seen(&mut self, at: Instant, real: bool) {
        self.trigger = self.counts.map(|counts| Trigger { at, counts, real });
    }

    /// Positions are void.
    pub fn void(&mut self) {
        self.trigger = None;
    }
}

impl Checker {
    /// By the encoder, which read `counts`, the part that crossed at `at` is the one of the last trigger.
    pub(super) fn is_same_by_counts(&self, at: Instant, counts: Option<i64>) -> bool {
        let Motion::Encoder { counts_per_mm, .. } = self.config.belt.motion else {
            return false;
        };
        let (Some(trigger), Some(counts)) = (self.told.trigger, counts) else {
            return false;
        };
        let slipped = |d: &Disturbance| {
            d.spoils == Spoils::Position && d.from <= at && d.to.is_none_or(|to| to >= trigger.at)
        };
        let known = &self.config.recipes[usize::from(self.recipe.0)];
        let moved = Length::from_micrometres(((counts - trigger.counts) as f64 / counts_per_mm * 1e3) as i64);
        let near = known.part_min.half() + self.config.belt.speed_max.travel(COUNTS_OLD);
        trigger.at < at && moved.abs() < near && (!trigger.real || self.disturbances.iter().any(slipped))
    }
}
