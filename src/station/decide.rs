//! From results and deadlines to verdicts, and from verdicts to rejects.

use super::Station;
use crate::infer::inspection::Inspection;
use crate::station::event::{Action, AlarmKind, Entry, InspectFault, NoResult, Verdict};
use crate::station::judge::judge;
use crate::station::ledger::Look;
use crate::station::schedule;
use crate::station::view::LastView;
use crate::units::{Instant, Micros, PartId, PulseId};

/// Between verdict and command: a wake-up, a message to the output process and its
/// own wake-up, on a busy computer without real-time priority.
pub const SAFETY: Micros = Micros::from_millis(3);

impl Station {
    pub(super) fn on_inspected(
        &mut self,
        now: Instant,
        id: PartId,
        result: &Result<Inspection, InspectFault>,
        actions: &mut Vec<Action>,
    ) {
        let Some(index) = self.ledger.find(id) else { return };
        let part = &self.ledger.parts()[index];
        if !part.undecided() {
            return; // Too late: its deadline has judged it.
        }
        let recipe = part.recipe;
        #[cfg(test)]
        let recipe = if self.bug(super::PlantedBug::ChangeoverNewRecipe) {
            self.recipe
        } else {
            recipe
        };
        let verdict = match result {
            Ok(inspection) => judge(&self.config.recipes[usize::from(recipe.0)].rules, inspection),
            Err(_) => Verdict::NoResult(NoResult::Fault),
        };
        self.decide(now, index, verdict, actions);
    }

    /// The last moment at which this part's reject can still be planned; `None` while the belt
    /// stands before it. Long past when the part was carried by undecided.
    fn plan_by(&self, now: Instant, index: usize) -> Option<Instant> {
        let part = &self.ledger.parts()[index];
        let recipe = &self.config.recipes[usize::from(part.recipe.0)];
        let reject = &self.config.reject;
        let place = part.position + reject.distance + recipe.aim;
        let belt = &self.belt;
        let reached = belt.when(place, now).or_else(|| belt.reached_at(place, now))?;
        Some(reached - reject.lag_on - reject.lag_spread - SAFETY)
    }

    /// The instant at which this part needs its verdict.
    pub(super) fn decide_by(&self, now: Instant, index: usize) -> Instant {
        let part = &self.ledger.parts()[index];
        let plan_by = self.plan_by(now, index).unwrap_or(Instant::MAX);
        match part.look {
            Look::Inspecting { mid_exposure, .. } => {
                plan_by.min(mid_exposure + self.config.recipes[usize::from(part.recipe.0)].decide_within)
            }
            Look::Waiting | Look::Over => plan_by,
        }
    }

    /// Parts whose time is up get their `late_result`.
    pub(super) fn enforce_deadlines(&mut self, now: Instant, actions: &mut Vec<Action>) {
        #[cfg(test)]
        if self.bug(super::PlantedBug::DropLateVerdict) {
            return;
        }
        for index in 0..self.ledger.parts().len() {
            let Some(part) = self.ledger.parts().get(index) else {
                break;
            };
            if !part.undecided() || self.decide_by(now, index) > now {
                continue;
            }
            match part.look {
                Look::Waiting => self.not_found(now, index, actions),
                Look::Inspecting { .. } | Look::Over => {
                    self.decide(now, index, Verdict::NoResult(NoResult::Late), actions);
                }
            }
        }
    }

    /// The verdict of a part, once.
    pub(super) fn decide(&mut self, now: Instant, index: usize, verdict: Verdict, actions: &mut Vec<Action>) {
        let plan_by = self.plan_by(now, index);
        let decide_by = self.decide_by(now, index);
        let part = &mut self.ledger.parts_mut()[index];
        debug_assert!(part.undecided(), "part {} was judged already", part.id);
        let recipe = &self.config.recipes[usize::from(part.recipe.0)];
        let late = verdict == Verdict::NoResult(NoResult::Late);
        let will_reject = match verdict {
            Verdict::Pass => false,
            Verdict::Reject(_) => true,
            Verdict::Unsure => recipe.otherwise.reject,
            Verdict::NoResult(_) => recipe.late_reject,
        };
        let margin = match plan_by.unwrap_or(decide_by) {
            Instant::MAX => Micros::ZERO,
            by => by.since(now),
        };
        if let Look::Inspecting { frame, .. } = part.look {
            self.frames.release(frame, actions);
        }
        part.look = Look::Over;
        part.verdict = Some(verdict);
        part.will_reject = will_reject;
        let (id, recipe) = (part.id, part.recipe);
        actions.push(Action::Record(Entry::Judged {
            part: id,
            verdict,
            will_reject,
            at: now,
            late,
            margin,
        }));
        if !matches!(verdict, Verdict::NoResult(_)) || late {
            self.stats.margin(margin);
        }
        self.last.part = Some(LastView {
            part: id,
            recipe,
            verdict,
            will_reject,
            fate: None,
            at: now,
        });
        if will_reject {
            self.last.reject = self.last.part;
            #[cfg(test)]
            self.planted_arrival(now, index);
            self.plan_reject(index);
        }
        if late {
            self.ledger.counts.late += 1;
            self.alarm(AlarmKind::LateResult, now, actions);
        }
        self.count_consecutive(now, will_reject, actions);
    }

    /// Planned from the trigger's position, whenever the verdict came (invariant 2).
    pub(super) fn plan_reject(&mut self, index: usize) {
        let part = &mut self.ledger.parts_mut()[index];
        let recipe = &self.config.recipes[usize::from(part.recipe.0)];
        let window = schedule::window(part, recipe, &self.config.reject);
        part.pulse = Some(self.schedule.add(window, recipe.pulse_min));
    }

    /// A part's place or length became better known: so does its pulse.
    pub(super) fn reshape_pulse_of(&mut self, index: usize) {
        if let Some(pulse) = self.ledger.parts()[index].pulse {
            self.reshape(pulse);
        }
    }

    fn reshape(&mut self, pulse: PulseId) {
        let (config, ledger) = (&self.config, &self.ledger);
        let windows = ledger
            .parts()
            .iter()
            .filter(|part| part.pulse == Some(pulse))
            .map(|part| schedule::window(part, &config.recipes[usize::from(part.recipe.0)], &config.reject));
        self.schedule.reshape(pulse, windows);
    }

    fn count_consecutive(&mut self, now: Instant, will_reject: bool, actions: &mut Vec<Action>) {
        self.consecutive = if will_reject { self.consecutive + 1 } else { 0 };
        if let Some(limit) = self.config.verify.consecutive_rejects
            && self.consecutive >= limit.count
        {
            self.consecutive = 0;
            self.alarm(AlarmKind::ConsecutiveRejects, now, actions);
        }
    }
}
