//! From the photo-eye's settled levels to parts in the ledger.

use super::Station;
use crate::config::{CameraMode, Trigger};
use crate::station::debounce::{Lost, Settled};
use crate::station::event::{Action, AlarmKind, Entry, Fate, NoResult, Unaccounted, Verdict};
use crate::station::ledger::Part;
use crate::station::left::longest_part;
use crate::units::{BeltPosition, Instant, Length, PartId};
use arrayvec::ArrayVec;

/// This many triggers without the belt moving on are no part that wobbles: the
/// encoder stands still while parts pass.
const REPEATS_MAX: u32 = 3;
/// Places of parts that ended lately, so that what is left of them in a picture
/// is not taken for something new.
const ENDED: usize = 32;

/// What is at the photo-eye.
#[derive(Clone, Debug, Default)]
pub struct AtEye {
    /// The part that covers it, or covered it last, and where its leading edge was.
    part: Option<(PartId, BeltPosition)>,
    /// Where that part's trailing edge was, if it is past the eye.
    tail: Option<BeltPosition>,
    repeats: u32,
    /// That part began where the belt had been before, by its positions, and where no part was known.
    anew: bool,
    ended: ArrayVec<(BeltPosition, Fate), ENDED>,
}

impl AtEye {
    /// Where the last part began is void. Had it been kept, the next part would be taken for that one
    /// when the encoder counted too little between them.
    pub fn forget(&mut self) {
        (self.part, self.tail, self.repeats, self.anew) = (None, None, 0, false);
    }
}

impl Station {
    pub(super) fn on_photo_eye(&mut self, now: Instant, settled: Settled, actions: &mut Vec<Action>) {
        if !matches!(self.config.trigger, Trigger::PhotoEye { .. }) {
            return;
        }
        let position = self.belt.position_at(settled.at);
        // Pulled back, the belt shows the eye once more what it has seen: neither new parts nor their ends.
        if self.belt.seen_before(settled.at) && !self.comes_anew(settled, position) {
            return;
        }
        if settled.active {
            self.on_leading_edge(now, settled.at, position, actions);
        } else {
            self.on_trailing_edge(now, position, actions);
        }
    }

    /// An edge where the belt has been before, by its positions, on its way forward: no part that was seen then
    /// explains it. The encoder did not follow the belt back and forth, or the eye overlooked the part.
    fn comes_anew(&self, Settled { active, at }: Settled, position: BeltPosition) -> bool {
        if self.belt.hardly_moved(at) {
            return false;
        }
        if !active {
            return self.eye.anew;
        }
        let slack = self.belt.rounding() + self.belt.rounding();
        !self.foreign(position) && !self.was_there(position, slack)
    }

    /// A part that is known, or was, lies over this place.
    fn was_there(&self, position: BeltPosition, slack: Length) -> bool {
        let parts = self.ledger.parts();
        parts
            .iter()
            .any(|part| lies_over(position, part.position, part.length, slack))
            || self.ended_over(position, slack)
    }

    /// A part that has ended lay over this place.
    pub(super) fn ended_over(&self, position: BeltPosition, slack: Length) -> bool {
        let longest = longest_part(&self.config);
        let ended = self.eye.ended.iter();
        ended
            .copied()
            .any(|(zero, _)| lies_over(position, zero, longest, slack))
    }

    fn on_leading_edge(
        &mut self,
        now: Instant,
        at: Instant,
        position: BeltPosition,
        actions: &mut Vec<Action>,
    ) {
        let part_min = self.config.recipes[usize::from(self.recipe.0)].part_min;
        // Nothing follows a part within half its length: it is the same one, with a
        // hole in it, or moved back and forth.
        let within = |lead| position.since(lead).abs() < part_min.half();
        // A belt that stops when a tail has just cleared the eye and is pulled back a little shows that tail again. Were
        // it a part that touches the last one, then that one's length, measured anew at the next edge, says so.
        let at_tail = |tail| position.since(tail) <= self.belt.rounding() && self.belt.hardly_moved(at);
        if self.eye.part.is_some_and(|(_, lead)| within(lead)) || self.eye.tail.is_some_and(at_tail) {
            // Unless the position itself is wrong.
            self.eye.repeats += 1;
            if self.eye.repeats >= REPEATS_MAX && self.belt_should_move(now) {
                self.slipped(now, actions);
            }
            return;
        }
        self.eye.repeats = 0;
        self.eye.tail = None;
        let id = self.open_part(now, at, position, None, actions);
        self.eye.part = Some((id, position));
        self.eye.anew = self.belt.seen_before(at);
    }

    fn on_trailing_edge(&mut self, now: Instant, position: BeltPosition, actions: &mut Vec<Action>) {
        let Some((id, lead)) = self.eye.part else { return };
        self.eye.tail = Some(position);
        let Some(index) = self.ledger.find(id) else { return };
        let part = &mut self.ledger.parts_mut()[index];
        let recipe = &self.config.recipes[usize::from(part.recipe.0)];
        let length = position.since(lead);
        if length <= Length::ZERO {
            return; // The belt ran back; the longest part is assumed.
        }
        part.length = length.max(recipe.part_min);
        part.measured = true;
        let (min, max) = (recipe.part_min, recipe.part_max);
        let touching = length > recipe.part_max + recipe.part_min.half();
        self.reshape_pulse_of(index);
        if touching && self.ledger.parts()[index].undecided() {
            // Two parts without a gap: nobody can judge them as one.
            self.decide(now, index, Verdict::NoResult(NoResult::Ambiguous), actions);
        }
        self.suspect_length(now, length, min, max, actions);
    }

    /// The driver lost an edge of the photo-eye.
    pub(super) fn on_photo_eye_lost(&mut self, lost: Lost, at: Instant, actions: &mut Vec<Action>) {
        // A missing end of a part is made up for by the beginning of the next. A missing
        // beginning is a part that nobody announced, seen only by its end.
        let on_belt_before = self.foreign(self.belt.position_at(at));
        let photo_eye = matches!(self.config.trigger, Trigger::PhotoEye { .. });
        if lost == Lost::Active && photo_eye && !on_belt_before {
            self.alarm(AlarmKind::PartWithoutTrigger, at, actions);
        }
    }

    /// A part begins. It is on record before anything is done about it (invariant 1).
    pub(super) fn open_part(
        &mut self,
        now: Instant,
        at: Instant,
        position: BeltPosition,
        length: Option<Length>,
        actions: &mut Vec<Action>,
    ) -> PartId {
        let (lane, recipe) = (self.config.belt.lane, self.recipe);
        let room = self.ledger.has_room();
        let id = self.ledger.number();
        actions.push(Action::Record(Entry::Seen {
            part: id,
            lane,
            at,
            position,
            recipe,
        }));
        self.stats.seen(now);
        if !room {
            let fate = Fate::Unaccounted(Unaccounted::LedgerFull);
            self.ledger.end_unplaced(fate);
            self.remember_end(position, fate);
            self.left.uncleared();
            actions.push(Action::Record(Entry::Ended {
                part: id,
                fate,
                at: now,
            }));
            self.alarm(AlarmKind::LedgerFull, now, actions);
            return id;
        }
        let settings = &self.config.recipes[usize::from(recipe.0)];
        let mut part = Part::new(id, lane, recipe, at, position);
        part.predicted = at > self.belt.known_until();
        part.length = length.unwrap_or(settings.part_max).max(settings.part_min);
        part.measured = length.is_some();
        part.owed = self.frame_for_each_trigger();
        self.ledger.insert(part);
        id
    }

    fn frame_for_each_trigger(&self) -> bool {
        matches!(self.config.trigger, Trigger::PhotoEye { .. })
            && self
                .config
                .cameras
                .first()
                .is_some_and(|camera| camera.mode == CameraMode::Triggered)
    }

    /// Trigger positions that were predicted become exact once the encoder is heard again.
    pub(super) fn settle_positions(&mut self) {
        let known = self.belt.known_until();
        for index in 0..self.ledger.parts().len() {
            let part = &mut self.ledger.parts_mut()[index];
            if !part.predicted || part.at > known {
                continue;
            }
            part.predicted = false;
            part.position = self.belt.position_at(part.at);
            let (id, position) = (part.id, part.position);
            if let Some((eye, lead)) = &mut self.eye.part
                && *eye == id
            {
                *lead = position;
            }
            self.reshape_pulse_of(index);
        }
    }

    pub(super) fn remember_end(&mut self, position: BeltPosition, fate: Fate) {
        if self.eye.ended.is_full() {
            self.eye.ended.remove(0);
        }
        self.eye.ended.push((position, fate));
    }

    /// A part that began near here has ended lately, in one of these ways.
    pub(super) fn ended_near(
        &self,
        position: BeltPosition,
        reach: Length,
        how: impl Fn(Fate) -> bool,
    ) -> bool {
        let near = |ended: &(BeltPosition, Fate)| ended.0.since(position).abs() < reach && how(ended.1);
        self.eye.ended.iter().any(near)
    }

    #[cfg(test)]
    pub(super) fn planted_job(
        &self,
        index: usize,
        id: PartId,
        recipe: crate::units::RecipeId,
    ) -> (PartId, crate::units::RecipeId) {
        use super::PlantedBug;
        let next = self.ledger.parts().get(index + 1).map(|part| part.id);
        let id = if self.bug(PlantedBug::OffByOnePart) {
            next.unwrap_or(id)
        } else {
            id
        };
        let recipe = if self.bug(PlantedBug::ChangeoverNewRecipe) {
            self.recipe
        } else {
            recipe
        };
        (id, recipe)
    }

    #[cfg(test)]
    pub(super) fn planted_arrival(&mut self, now: Instant, index: usize) {
        if self.bug(super::PlantedBug::FireFromArrival) {
            let seen_at = self.config.cameras[0].distance;
            self.ledger.parts_mut()[index].arrival = Some(self.belt.position_at(now) + -seen_at);
        }
    }
}

/// A part that begins at `zero` lies over `position`, but for `slack`.
fn lies_over(position: BeltPosition, zero: BeltPosition, length: Length, slack: Length) -> bool {
    let behind = position.since(zero);
    behind >= -slack && behind <= length + slack
}
