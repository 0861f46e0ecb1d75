//! The account of all parts in flight. Every part that is opened ends exactly
//! once; the counts balance after each step (invariant 1).

use crate::config::Config;
use crate::station::event::{Counts, Fate, Verdict};
use crate::units::{BeltPosition, FrameId, Instant, LaneId, Length, PartId, PulseId, RecipeId};

/// Room for at least this many parts, and at most that many: beyond it a
/// configuration is not a conveyor of single parts.
const CAPACITY_MIN: usize = 16;
const CAPACITY_MAX: usize = 512;

/// How far a part has come on its way to a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// No frame shows it yet.
    Waiting,
    /// Its inspection is under way.
    Inspecting { frame: FrameId, mid_exposure: Instant },
    /// The verdict is there.
    Over,
}

/// A part on the belt.
#[derive(Clone, Debug)]
pub struct Part {
    pub id: PartId,
    pub lane: LaneId,
    /// In force when its trigger came; a changeover does not touch it.
    pub recipe: RecipeId,
    /// Stamp of its first edge.
    pub at: Instant,
    /// Belt position at that stamp: position zero of the part.
    pub position: BeltPosition,
    /// `position` was predicted, not yet interpolated between samples.
    pub predicted: bool,
    /// From the photo-eye or the picture; until then the longest of the recipe.
    pub length: Length,
    pub measured: bool,
    pub look: Look,
    /// Some frame showed the place where it should have been, whole.
    pub covered: bool,
    /// The camera was triggered for it and its frame has not come.
    pub owed: bool,
    pub verdict: Option<Verdict>,
    pub will_reject: bool,
    pub pulse: Option<PulseId>,
    /// When the reject reached it: meant (`will_reject`) or in passing (collateral).
    pub struck: Option<Instant>,
    /// When a neighbour's pulse reached it, although it has a pulse of its own.
    pub brushed: Option<Instant>,
    /// It should have been rejected, but the line did not go on for it.
    pub missed: bool,
    pub in_chute: bool,
    /// The time in which the chute eye should have seen it is over, and it did not.
    pub chute_over: bool,
    #[cfg(test)]
    pub arrival: Option<BeltPosition>,
}

impl Part {
    pub fn new(id: PartId, lane: LaneId, recipe: RecipeId, at: Instant, position: BeltPosition) -> Part {
        Part {
            id,
            lane,
            recipe,
            at,
            position,
            predicted: false,
            length: Length::ZERO,
            measured: false,
            look: Look::Waiting,
            covered: false,
            owed: false,
            verdict: None,
            will_reject: false,
            pulse: None,
            struck: None,
            brushed: None,
            missed: false,
            in_chute: false,
            chute_over: false,
            #[cfg(test)]
            arrival: None,
        }
    }

    pub fn undecided(&self) -> bool {
        self.verdict.is_none()
    }
}

#[derive(Clone, Debug)]
pub struct Ledger {
    /// In the order of their triggers.
    parts: Vec<Part>,
    capacity: usize,
    pub counts: Counts,
    next: PartId,
}

impl Ledger {
    pub fn new(capacity: usize, counts: Counts, next: PartId) -> Ledger {
        Ledger {
            parts: Vec::with_capacity(capacity),
            capacity,
            counts,
            next,
        }
    }

    /// Twice the parts that fit between the first and the last sensor, and some for
    /// what sits closer than it should.
    pub fn capacity_for(config: &Config, last_sensor: Length) -> usize {
        let pitch = config
            .recipes
            .iter()
            .map(|recipe| recipe.pitch_min().as_micrometres())
            .min();
        let pitch = pitch.unwrap_or(1).max(1);
        let parts = last_sensor.as_micrometres().max(0) / pitch + 2;
        (2 * parts as usize + 8).clamp(CAPACITY_MIN, CAPACITY_MAX)
    }

    /// The number of the part that is seen now. Counted from here on.
    pub fn number(&mut self) -> PartId {
        let id = self.next;
        self.next = PartId(id.0 + 1);
        self.counts.seen += 1;
        self.counts.in_flight += 1;
        id
    }

    pub fn has_room(&self) -> bool {
        self.parts.len() < self.capacity
    }

    /// Takes a part in flight; there must be room. Kept in the order of belt
    /// positions, because a part whose edge was reported late may have been overtaken.
    pub fn insert(&mut self, part: Part) {
        debug_assert!(self.has_room());
        let place = self
            .parts
            .iter()
            .rposition(|p| p.position <= part.position)
            .map_or(0, |i| i + 1);
        self.parts.insert(place, part);
    }

    /// Takes a part out of flight for good.
    pub fn end(&mut self, index: usize, fate: Fate) -> Part {
        self.counts.end(fate);
        self.parts.remove(index)
    }

    /// Ends a part for which there was no room.
    pub fn end_unplaced(&mut self, fate: Fate) {
        self.counts.end(fate);
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub fn parts_mut(&mut self) -> &mut [Part] {
        &mut self.parts
    }

    pub fn find(&self, id: PartId) -> Option<usize> {
        self.parts.iter().position(|part| part.id == id)
    }

    pub fn last(&self) -> Option<&Part> {
        self.parts.last()
    }

    pub fn verify(&self) {
        assert!(
            self.counts.balances(),
            "the counts do not balance: {:?}",
            self.counts
        );
        assert_eq!(
            self.counts.in_flight,
            self.parts.len() as u64,
            "parts in flight and ledger differ"
        );
        assert!(
            self.parts.len() <= self.capacity,
            "more parts than the ledger holds"
        );
        for (i, part) in self.parts.iter().enumerate() {
            assert!(part.id < self.next, "part {} was never numbered", part.id);
            assert!(
                self.parts[..i].iter().all(|p| p.id != part.id),
                "part {} is there twice",
                part.id
            );
            assert_eq!(
                part.undecided(),
                part.look != Look::Over,
                "part {} judged or not?",
                part.id
            );
            assert!(
                !part.undecided() || !part.will_reject,
                "part {} condemned without a verdict",
                part.id
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::testing;

    fn part(ledger: &mut Ledger, um: i64) -> PartId {
        let id = ledger.number();
        let position = BeltPosition::from_micrometres(um);
        ledger.insert(Part::new(id, LaneId(0), RecipeId(0), Instant::ZERO, position));
        id
    }

    #[test]
    fn each_part_ends_once_and_the_counts_balance() {
        let mut ledger = Ledger::new(16, Counts::default(), PartId(7));
        let first = part(&mut ledger, 0);
        let second = part(&mut ledger, 50_000);
        assert_eq!((first, second), (PartId(7), PartId(8)));
        ledger.verify();
        assert_eq!(ledger.end(0, Fate::Passed { verified: true }).id, first);
        assert_eq!(ledger.find(first), None);
        assert_eq!(ledger.end(0, Fate::Confirmed).id, second);
        ledger.verify();
        assert_eq!(
            (ledger.counts.seen, ledger.counts.passed, ledger.counts.rejected()),
            (2, 1, 1)
        );
    }

    #[test]
    fn parts_stand_in_the_order_of_the_belt() {
        let mut ledger = Ledger::new(16, Counts::default(), PartId(1));
        for um in [100, 300, 200, 0] {
            part(&mut ledger, um);
        }
        let order: Vec<_> = ledger
            .parts()
            .iter()
            .map(|p| p.position.as_micrometres())
            .collect();
        assert_eq!(order, [0, 100, 200, 300]);
    }

    /// DESIGN: n = ceil(d_last / pitch) + 1; 532 mm at a pitch of 34 mm are 17 parts.
    #[test]
    fn there_is_room_for_twice_what_fits_on_the_belt() {
        let capacity = Ledger::capacity_for(&testing::config(), Length::from_mm(532));
        assert_eq!(capacity, 2 * (532 / 34 + 2) + 8);
    }

    #[test]
    #[should_panic(expected = "do not balance")]
    fn a_part_lost_from_the_account_is_noticed() {
        let mut ledger = Ledger::new(16, Counts::default(), PartId(1));
        part(&mut ledger, 0);
        ledger.counts.seen += 1;
        ledger.verify();
    }
}
