//! What became of each part: the pulse's report, chute eye and passed eye.
//!
//! A part meant to be rejected is *struck* when a pulse that is on reaches it;
//! the chute eye has to see it within its time after that. The passed eye has
//! to see good parts at their place, and no other. A part ends when everything
//! that could still tell about it has spoken.

use super::Station;
use super::slip::Place;
use crate::config::Recipe;
use crate::station::event::{Action, AlarmKind, Entry, Fate, PulseRefusal, PulseReport, Stray, Unaccounted};
use crate::station::ledger::Part;
use crate::station::schedule::{self, Pulse, State};
use crate::units::{BeltPosition, Instant, Length, Micros, PulseId};

/// An eye's edge may be handed in this much after its stamp, its debouncing apart.
const DELIVERY: Micros = Micros::from_millis(5);
/// A good part in the way has to fit an edge of the chute eye better by this much than
/// a bad one: it may well have stayed on the belt.
const UNMEANT: Micros = Micros::from_millis(5);

impl Station {
    /// What the output process says about a pulse.
    pub(super) fn on_pulse(
        &mut self,
        now: Instant,
        id: PulseId,
        report: PulseReport,
        actions: &mut Vec<Action>,
    ) {
        match report {
            PulseReport::On { at } => self.schedule.report_on(id, at),
            PulseReport::Off { at } => self.pulse_over(now, id, at, actions),
            PulseReport::Refused(PulseRefusal::MaxOnReached) => {
                self.pulse_over(now, id, now, actions);
                self.alarm(AlarmKind::PulseFault, now, actions);
            }
            PulseReport::Refused(_) => {
                if self.schedule.remove(id).is_some() {
                    schedule::miss(&mut self.ledger, id);
                    self.alarm(AlarmKind::PulseFault, now, actions);
                }
            }
        }
    }

    fn pulse_over(&mut self, now: Instant, id: PulseId, off: Instant, actions: &mut Vec<Action>) {
        let Some(pulse) = self.schedule.get(id).copied() else {
            return;
        };
        let State::On {
            on_at,
            off_at,
            actual,
        } = pulse.state
        else {
            // Over without ever having been on.
            self.schedule.remove(id);
            schedule::miss(&mut self.ledger, id);
            self.alarm(AlarmKind::PulseFault, now, actions);
            return;
        };
        actions.push(Action::Record(Entry::Fired {
            pulse: id,
            planned_on: on_at,
            actual_on: actual,
            planned_off: off_at,
            actual_off: off,
        }));
        self.strike(now, &pulse, Some(off));
        self.schedule.remove(id);
        if pulse.clipped {
            self.plan_again(id, off);
        }
        if schedule::miss(&mut self.ledger, id) || pulse.clipped {
            self.alarm(AlarmKind::PulseFault, now, actions);
        }
    }

    /// The belt came to rest under a pulse, which ended at its longest on-time: parts that
    /// it had not reached are still ahead of the reject, and are rejected when the belt goes on.
    fn plan_again(&mut self, id: PulseId, off: Instant) {
        let acted_to = self.belt.position_at(off + self.config.reject.lag_off);
        for index in 0..self.ledger.parts().len() {
            let part = &self.ledger.parts()[index];
            let recipe = &self.config.recipes[usize::from(part.recipe.0)];
            let ahead = schedule::window(part, recipe, &self.config.reject).on > acted_to;
            if part.pulse == Some(id) && part.struck.is_none() && ahead {
                self.plan_reject(index);
            }
        }
    }

    /// Marks what the pulse has reached by now: its own parts, and good ones in its way.
    fn strike(&mut self, now: Instant, pulse: &Pulse, off: Option<Instant>) {
        let State::On { actual, .. } = pulse.state else {
            return;
        };
        let reject = &self.config.reject;
        let acts_from = actual + reject.lag_on;
        // While it is on, only what is known: a belt that stops is found out after a while.
        let acts_to = off.map_or(now.min(self.belt.known_until()), |off| off + reject.lag_off);
        if acts_to < acts_from || (off.is_none() && now < acts_from) {
            return;
        }
        let (from, to) = (self.belt.position_at(acts_from), self.belt.position_at(acts_to));
        let slack = self.exposure_slack(now);
        for index in 0..self.ledger.parts().len() {
            let part = &self.ledger.parts()[index];
            let recipe = &self.config.recipes[usize::from(part.recipe.0)];
            let own = part.pulse == Some(pulse.id);
            let reached = if own {
                let aim = schedule::window(part, recipe, reject).on;
                (to >= aim).then_some(aim)
            } else {
                let (first, last) = self.exposed(part);
                let (first, last) = (first + -slack, last + slack);
                (to >= first && from <= last).then_some(first)
            };
            let Some(at) =
                reached.map(|place| self.belt.reached_at(place, now).unwrap_or(now).max(acts_from))
            else {
                continue;
            };
            let part = &mut self.ledger.parts_mut()[index];
            // A bad part in the way of its neighbour's pulse may fall with it, or with its own.
            let time = if own || !part.will_reject {
                &mut part.struck
            } else {
                &mut part.brushed
            };
            *time = Some(time.unwrap_or(at));
        }
    }

    /// The reject may act this much of belt travel earlier or later than stated. Where an
    /// eye tells afterwards what really happened, a part this near counts as in the way.
    fn exposure_slack(&self, now: Instant) -> Length {
        match self.config.verify.passed {
            Some(_) => self.belt.speed(now).travel(self.config.reject.lag_spread).abs(),
            None => Length::ZERO,
        }
    }

    /// Belt positions at which some of the part lies under the reject.
    fn exposed(&self, part: &Part) -> (BeltPosition, BeltPosition) {
        let reject = &self.config.reject;
        let middle = part.position + reject.distance;
        let half = reject.footprint.half();
        (middle + -half, middle + part.length + half)
    }

    pub(super) fn strike_all(&mut self, now: Instant) {
        for index in 0..self.schedule.pulses().len() {
            let pulse = self.schedule.pulses()[index];
            self.strike(now, &pulse, None);
        }
    }

    /// The chute eye saw something fall.
    pub(super) fn on_chute(&mut self, now: Instant, at: Instant, actions: &mut Vec<Action>) {
        let Some(eye) = &self.config.verify.chute else {
            return;
        };
        let centre = Micros::new((eye.after_min.get() + eye.after_max.get()) / 2);
        let off_centre = |since: Option<Instant>| {
            let after = at.since(since?);
            let within = after >= eye.after_min && after <= eye.after_max;
            within.then_some(after.get().abs_diff(centre.get()))
        };
        let distance = |part: &Part| {
            let off = off_centre(part.struck)
                .into_iter()
                .chain(off_centre(part.brushed))
                .min()?;
            // Of two that could be it as well, the one that was meant to be rejected.
            let unmeant = if part.will_reject { 0 } else { UNMEANT.get() as u64 };
            (!part.in_chute && !part.chute_over).then_some(off + unmeant)
        };
        let parts = self.ledger.parts().iter().enumerate();
        let nearest = parts.filter_map(|(i, part)| Some((distance(part)?, i))).min();
        #[cfg(test)]
        let nearest = self.planted_neighbour(nearest);
        match nearest {
            Some((_, index)) => {
                self.ledger.parts_mut()[index].in_chute = true;
                self.trust_chute();
            }
            None => {
                let stray = Stray::ChuteEyeWithoutReject;
                actions.push(Action::Record(Entry::Stray { stray, at }));
                self.suspect_elsewhere(now, Place::Chute, actions);
            }
        }
    }

    #[cfg(test)]
    fn planted_neighbour(&self, nearest: Option<(u64, usize)>) -> Option<(u64, usize)> {
        if !self.bug(super::PlantedBug::ConfirmToNeighbour) {
            return nearest;
        }
        let (rank, right) = nearest?;
        let waits = |part: &Part| part.will_reject && !part.in_chute && !part.chute_over;
        let parts = self.ledger.parts().iter().enumerate();
        let other = parts
            .filter(|(i, part)| *i != right && waits(part))
            .map(|(i, _)| i)
            .next();
        Some((rank, other.unwrap_or(right)))
    }

    /// The passed eye saw something on the belt behind the rejecter.
    pub(super) fn on_passed(&mut self, now: Instant, at: Instant, actions: &mut Vec<Action>) {
        let Some(eye) = &self.config.verify.passed else {
            return;
        };
        let (distance, window) = (eye.distance, eye.window);
        let here = self.belt.position_at(at);
        // On a belt that was pulled back it was here before, and was told then.
        if self.belt.seen_before(at) && self.told_before(at, here + -distance, window) {
            return;
        }
        let off = |part: &Part| here.since(part.position + distance);
        let parts = self.ledger.parts().iter().enumerate();
        let nearest = parts
            .map(|(i, part)| (off(part).abs(), i))
            .filter(|(off, _)| *off <= window)
            .min();
        let Some((_, index)) = nearest else {
            self.passed_unexplained(now, at, here + -distance, actions);
            return;
        };
        let part = &self.ledger.parts()[index];
        let off = off(part);
        if part.will_reject {
            self.end(now, index, Fate::Escaped, actions);
            self.alarm(AlarmKind::Escape, at, actions);
        } else {
            self.end(now, index, Fate::Passed { verified: true }, actions);
        }
        self.suspect_passed(now, off, window, actions);
    }

    /// What is at the passed eye, on a belt that was pulled back, is a part that has been there before.
    fn told_before(&self, at: Instant, zero: BeltPosition, window: Length) -> bool {
        self.belt.hardly_moved(at) || self.foreign(zero) || self.ended_over(zero, window)
    }

    /// `zero` is where it would have crossed the photo-eye.
    fn passed_unexplained(
        &mut self,
        now: Instant,
        at: Instant,
        zero: BeltPosition,
        actions: &mut Vec<Action>,
    ) {
        let stray = Stray::PassedEyeWithoutPart;
        actions.push(Action::Record(Entry::Stray { stray, at }));
        // The rear of a part that was judged and is known to be here.
        let rear = self.config.recipes[usize::from(self.recipe.0)].part_min.half();
        let known = |fate| {
            matches!(
                fate,
                Fate::Passed { .. } | Fate::Escaped | Fate::Unaccounted(Unaccounted::Missing)
            )
        };
        if self.ended_near(zero, rear, known) {
            return;
        }
        let left = self.unfollowed(zero, rear);
        #[cfg(test)]
        if left && self.bug(super::PlantedBug::LeftPartsExcused) {
            return;
        }
        self.left.went_past(left);
        // A hole in it is no second part.
        self.remember_end(zero, Fate::Escaped);
        self.alarm(AlarmKind::PartWithoutTrigger, at, actions);
        if !left {
            self.suspect_elsewhere(now, Place::BehindReject, actions);
        }
    }

    /// Ends all parts about which nothing more can come.
    pub(super) fn conclude(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let heard = now - self.eyes.slowest() - DELIVERY;
        let (here, heard_of) = (self.belt.position_at(now), self.belt.position_at(heard));
        self.expire_chute(heard, now, actions);
        let mut index = 0;
        while index < self.ledger.parts().len() {
            match self.conclusion(index, here, heard_of) {
                Some(fate) => {
                    self.end(now, index, fate, actions);
                    if fate == Fate::Unaccounted(Unaccounted::Missing) {
                        self.alarm(AlarmKind::GoodPartMissing, now, actions);
                        self.suspect_missing(now, Place::BehindReject, actions);
                    }
                    if fate == Fate::Escaped {
                        self.alarm(AlarmKind::Escape, now, actions);
                    }
                }
                None => index += 1,
            }
        }
    }

    fn expire_chute(&mut self, heard: Instant, now: Instant, actions: &mut Vec<Action>) {
        let Some(after_max) = self.config.verify.chute.as_ref().map(|eye| eye.after_max) else {
            return;
        };
        let mut missing = 0;
        for part in self.ledger.parts_mut() {
            let waits = !part.in_chute && !part.chute_over;
            if part
                .struck
                .is_some_and(|struck| waits && heard > struck + after_max)
            {
                part.chute_over = true;
                missing += u32::from(part.will_reject);
            }
        }
        // One by one: positions that turn out void end every part.
        for _ in 0..missing {
            self.alarm(AlarmKind::RejectNotConfirmed, now, actions);
            self.suspect_missing(now, Place::Chute, actions);
        }
    }

    /// The fate of the part at `index`, if all has been heard about it.
    fn conclusion(&self, index: usize, here: BeltPosition, heard_of: BeltPosition) -> Option<Fate> {
        let part = &self.ledger.parts()[index];
        let recipe = &self.config.recipes[usize::from(part.recipe.0)];
        let passed_over = match &self.config.verify.passed {
            Some(eye) => heard_of > part.position + eye.distance + eye.window,
            None => here > self.left_reject(part, recipe),
        };
        let chute_settled = self.config.verify.chute.is_none() || part.in_chute || part.chute_over;
        if !passed_over || self.pulse_may_reach(part) {
            return None;
        }
        let watched = self.config.verify.passed.is_some();
        if part.will_reject {
            return match (part.struck, part.missed) {
                (Some(_), _) if !chute_settled => None,
                (Some(_), _) if part.in_chute => Some(Fate::Confirmed),
                (Some(_), _) => Some(Fate::Unconfirmed),
                // Not fired at, and yet not seen behind the rejecter: somebody took it.
                (None, true) if watched => Some(Fate::Unaccounted(Unaccounted::Missing)),
                (None, true) => Some(Fate::Escaped),
                (None, false) => None,
            };
        }
        // A good part in the way: its fall would otherwise be taken for a neighbour's.
        if part.struck.is_some() && !chute_settled {
            return None;
        }
        Some(match (part.struck, watched) {
            (Some(_), _) => Fate::Collateral,
            (None, true) => Fate::Unaccounted(Unaccounted::Missing),
            (None, false) => Fate::Passed { verified: false },
        })
    }

    /// Belt position at which the part has left the reject for good.
    fn left_reject(&self, part: &Part, recipe: &Recipe) -> BeltPosition {
        self.exposed(part).1 + recipe.pulse_margin
    }

    /// A pulse that is on, or will be, may still strike this part.
    fn pulse_may_reach(&self, part: &Part) -> bool {
        let last = self.exposed(part).1;
        self.schedule.pulses().iter().any(|pulse| match pulse.state {
            State::On { .. } => pulse.window.on <= last && part.struck.is_none(),
            State::Planned | State::Sent { .. } => part.pulse == Some(pulse.id),
        })
    }

    /// When time alone, on a moving belt, concludes something.
    pub(super) fn conclude_deadline(&self, now: Instant, index: usize) -> Option<Instant> {
        let part = &self.ledger.parts()[index];
        let recipe = &self.config.recipes[usize::from(part.recipe.0)];
        let slack = self.eyes.slowest() + DELIVERY + Micros::new(5);
        let end = match &self.config.verify.passed {
            Some(eye) => self
                .belt
                .when(part.position + eye.distance + eye.window, now)
                .map(|at| at + slack),
            None => self
                .belt
                .when(self.left_reject(part, recipe), now)
                .map(|at| at + Micros::new(5)),
        };
        let chute = self.config.verify.chute.as_ref().and_then(|eye| {
            let open = !part.in_chute && !part.chute_over;
            Some(part.struck.filter(|_| open)? + eye.after_max + slack)
        });
        [end, chute].into_iter().flatten().filter(|&at| at > now).min()
    }

    /// Ends a part: on record, counted, and its frame let go.
    pub(super) fn end(&mut self, now: Instant, index: usize, fate: Fate, actions: &mut Vec<Action>) {
        let part = self.ledger.end(index, fate);
        actions.push(Action::Record(Entry::Ended {
            part: part.id,
            fate,
            at: now,
        }));
        if let crate::station::ledger::Look::Inspecting { frame, .. } = part.look {
            self.frames.release(frame, actions);
        }
        if let Some(last) = self.last.part.as_mut().filter(|last| last.part == part.id) {
            last.fate = Some(fate);
        }
        if let Some(last) = self.last.reject.as_mut().filter(|last| last.part == part.id) {
            last.fate = Some(fate);
        }
        self.stats.ended(matches!(
            fate,
            Fate::Confirmed | Fate::Unconfirmed | Fate::Collateral
        ));
        self.remember_end(part.position, fate);
    }
}
