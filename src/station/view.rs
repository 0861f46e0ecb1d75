//! A snapshot of the core for people. The runtime adds words, pictures and clock.

use super::Station;
use crate::station::alarm;
use crate::station::event::{AlarmKind, Counts, Fate, Verdict};
use crate::status::{State, TimingMargin};
use crate::units::{Instant, PartId, RecipeId, Speed};
use arrayvec::ArrayVec;

/// Most alarms in a view: one of each kind.
pub const ALARMS_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub struct StationView {
    pub state: State,
    pub permit: bool,
    pub counts: Counts,
    /// Parts that nobody judged and that went past the passed eye, since the start.
    pub unjudged: u64,
    /// Parts from now on belong to this recipe.
    pub recipe: RecipeId,
    /// Gravest first.
    pub alarms: ArrayVec<AlarmView, ALARMS_MAX>,
    /// The part judged last.
    pub last: Option<LastView>,
    /// The part condemned last.
    pub last_reject: Option<LastView>,
    pub margin: Option<TimingMargin>,
    pub parts_per_min: f32,
    /// Share of the last 200 ended parts that were rejected, 0 to 1.
    pub reject_rate: f32,
    pub belt_speed: Speed,
    /// Whether a passed eye proves that good parts went on.
    pub passed_verified: bool,
}

/// Words: [`alarm::words_about`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmView {
    pub kind: AlarmKind,
    /// The cause is still there.
    pub present: bool,
    /// It keeps the permit off.
    pub stops: bool,
    pub since: Instant,
    pub about: alarm::About,
}

/// Words: `Rules::explain` of its recipe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastView {
    pub part: PartId,
    pub recipe: RecipeId,
    pub verdict: Verdict,
    pub will_reject: bool,
    pub fate: Option<Fate>,
    pub at: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Last {
    pub part: Option<LastView>,
    pub reject: Option<LastView>,
}

impl Station {
    /// The running account alone, for who needs nothing else of the view.
    pub fn counts(&self) -> Counts {
        self.ledger.counts
    }

    pub fn view(&self, now: Instant) -> StationView {
        let mut alarms: ArrayVec<AlarmView, ALARMS_MAX> = self
            .lock
            .alarms()
            .iter()
            .map(|a| AlarmView {
                kind: a.kind,
                present: a.present,
                stops: a.stops,
                since: a.since,
                about: self.about(a.kind),
            })
            .collect();
        alarms.sort_unstable_by_key(|a| (!a.stops, alarm::severity(a.kind), a.since, a.kind));
        StationView {
            state: self.state(now),
            permit: self.lock.permit(),
            counts: self.ledger.counts,
            unjudged: self.left.unjudged,
            recipe: self.recipe,
            alarms,
            last: self.last.part,
            last_reject: self.last.reject,
            margin: self.stats.timing(),
            parts_per_min: self.stats.parts_per_min(now),
            reject_rate: self.stats.reject_rate(),
            belt_speed: self.belt.speed(now),
            passed_verified: self.config.verify.passed.is_some(),
        }
    }

    fn state(&self, now: Instant) -> State {
        if self.ending.is_some() {
            State::Ending
        } else if self.lock.permit() {
            State::Running
        } else if !self.belt.stands(now) {
            State::Coasting
        } else if self.lock.stopped() {
            State::Stopped
        } else {
            State::Waiting
        }
    }
}
