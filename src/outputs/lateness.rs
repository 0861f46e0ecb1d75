//! How late output lines change: actual minus planned, in classes of a fixed number.
//!
//! Up to 16 µs each microsecond is a class; above, every doubling is cut into eight, so that a
//! percentile is told to an eighth and nothing is ever allocated or sorted.

use crate::units::{Instant, Micros};

/// Microseconds with a class of their own.
const EXACT: usize = 16;
/// Classes in a doubling.
const STEPS: usize = 8;
/// From 16 µs to about a second; what is later counts as that, and in `max`.
const DOUBLINGS: usize = 16;
const CLASSES: usize = EXACT + DOUBLINGS * STEPS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    pub changes: u64,
    pub max: Micros,
    pub total: Micros,
    classes: [u32; CLASSES],
}

impl Default for Lateness {
    fn default() -> Self {
        Lateness {
            changes: 0,
            max: Micros::ZERO,
            total: Micros::ZERO,
            classes: [0; CLASSES],
        }
    }
}

impl Lateness {
    pub fn note(&mut self, planned: Instant, actual: Instant) {
        let late = actual.since(planned);
        self.changes += 1;
        self.max = self.max.max(late);
        self.total += late;
        self.classes[class(late.get().max(0) as u64)] += 1;
    }

    pub fn mean(&self) -> Micros {
        Micros::new(self.total.get() / self.changes.max(1) as i64)
    }

    /// This share of all changes, in thousandths, was no later; up to an eighth too large. Zero without changes.
    pub fn percentile(&self, per_mille: u64) -> Micros {
        let wanted = (self.changes * per_mille).div_ceil(1_000).max(1);
        let mut counted = 0;
        for (index, &count) in self.classes.iter().enumerate() {
            counted += u64::from(count);
            if counted >= wanted {
                return Micros::new(last_of(index) as i64).min(self.max);
            }
        }
        self.max
    }
}

fn class(us: u64) -> usize {
    if us < EXACT as u64 {
        return us as usize;
    }
    let doubling = us.ilog2() as usize - EXACT.ilog2() as usize;
    // The three bits behind the first one.
    let step = (us >> (doubling + 1)) as usize % STEPS;
    (EXACT + doubling * STEPS + step).min(CLASSES - 1)
}

/// The largest time of a class.
fn last_of(class: usize) -> u64 {
    if class < EXACT {
        return class as u64;
    }
    let (doubling, step) = ((class - EXACT) / STEPS, (class - EXACT) % STEPS);
    (((STEPS + step + 1) as u64) << (doubling + 1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_its_class() {
        let mut before = 0;
        for us in (0..5_000).chain([99_999, 700_000, 1_048_575]) {
            let class = class(us);
            assert!(class >= before && last_of(class) >= us, "{us}");
            assert!(
                last_of(class) <= us + us / 8,
                "{us} is told as {}",
                last_of(class)
            );
            before = class;
        }
        assert_eq!(class(u64::MAX), CLASSES - 1);
    }

    #[test]
    fn percentiles_of_a_thousand_changes() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.percentile(500), Micros::ZERO);
        for us in 1..=1_000 {
            lateness.note(Instant::ZERO, Instant::from_micros(us));
        }
        for (per_mille, us) in [(500, 500), (990, 990)] {
            let told = lateness.percentile(per_mille).get();
            assert!((us..=us + us / 8).contains(&told), "{told}");
        }
        assert_eq!(lateness.percentile(1_000), Micros::new(1_000));
        assert_eq!((lateness.changes, lateness.mean()), (1_000, Micros::new(500)));
    }

    /// The clock that stamps is not the one that plans: a change may seem early.
    #[test]
    fn an_early_change_is_not_late() {
        let mut lateness = Lateness::default();
        lateness.note(Instant::from_micros(9), Instant::ZERO);
        assert_eq!(lateness.percentile(990), Micros::ZERO);
    }
}
