//! A part that the core does not follow must not leave the station in silence.
//!
//! It lay on the belt before the start, crossed the photo-eye while the process was down, or
//! ended in the account because its position became void. Whether or not a person said that
//! the belt was cleared: at the passed eye it has gone on as if it were good.

use super::*;

impl Checker {
    /// The passed eye sees a part's leading edge.
    pub(super) fn at_passed_eye(&mut self, number: u64, at: Instant) {
        // Without a photo-eye nobody but the core can say what it follows.
        if !self.alive || !self.has_photo_eye() {
            return;
        }
        let Some(real) = self.real.get(&number) else {
            return;
        };
        let known = real.id.and_then(|id| self.known.get(&id));
        let lost = |fate| {
            use Unaccounted::{LedgerFull, LostPosition, Restart};
            matches!(fate, Fate::Unaccounted(Restart | LostPosition | LedgerFull))
        };
        let unjudged = match known {
            Some(known) => known.ended.is_some_and(|(fate, _)| lost(fate)),
            None => true,
        };
        // From when on the core may be wrong about what is at this place.
        let since = known
            .and_then(|known| known.ended)
            .map_or(real.crossed, |ended| ended.1);
        let astray = |d: &Disturbance| {
            let over = d.to.is_some_and(|to| to <= since + NOTICED_WITHIN);
            d.spoils == Spoils::Position && d.from <= at && !over
        };
        // Taken for the one before it at the photo-eye, it is taken for that one here.
        let excused = real.same
            || self.disturbed(real.crossed, at, &[Spoils::PhotoEye])
            || self.disturbed(at, at, &[Spoils::PassedEye, Spoils::Process])
            || self.disturbances.iter().any(astray);
        if unjudged && !excused {
            self.unjudged.insert(at, number);
        }
    }

    /// The core tells of such a part when its eye has settled, with an alarm that stops the belt.
    pub(super) fn tells_unjudged(&mut self, now: Instant, actions: &[Action]) -> Checked {
        for action in actions {
            let Action::Record(Entry::Stray {
                stray: Stray::PassedEyeWithoutPart,
                at,
            }) = action
            else {
                continue;
            };
            let Some(number) = self.unjudged.remove(at) else {
                continue;
            };
            let raised = actions.iter().any(|action| {
                let kind = AlarmKind::PartWithoutTrigger;
                matches!(action, Action::Record(Entry::Alarm { alarm, raised: true, .. }) if *alarm == kind)
            });
            if !raised && !self.standing.contains(&AlarmKind::PartWithoutTrigger) {
                let words = format!(
                    "the line's part {number}, not judged, went past the passed eye without an alarm"
                );
                return fail(now, "unjudged", words);
            }
            if self.permit && self.must_stop(AlarmKind::PartWithoutTrigger) {
                let words = format!(
                    "the line's part {number}, not judged, went past the passed eye and the belt runs on"
                );
                return fail(now, "unjudged", words);
            }
        }
        while let Some((&at, &number)) = self.unjudged.first_key_value() {
            if now.since(at) <= SEEN_WITHIN {
                break;
            }
            self.unjudged.remove(&at);
            if !self.disturbed(at, now, &[Spoils::PassedEye, Spoils::Process]) {
                let words = format!(
                    "nobody judged the line's part {number}, and the core takes it for another at the passed eye"
                );
                return fail(now, "unjudged", words);
            }
        }
        Ok(())
    }
}
