//! The virtual inspector: knows the truth about the part that a picture shows,
//! tells it late, wrongly or not at all.

use super::line::LABELS;
use super::part::{Defect, Part};
use super::rng::Rng;
use crate::infer::inspection::Inspection;
use crate::station::event::{InspectFault, InspectJob};
use crate::units::{Instant, Micros};

/// Per thousand parts: the models err, or are in doubt in one of two ways.
const WRONG: u32 = 20;
const DOUBTFUL: u32 = 80;

pub struct VirtualInspector {
    rng: Rng,
    late_by: Micros,
    fail_next: Option<InspectFault>,
}

impl VirtualInspector {
    pub fn new(rng: Rng) -> Self {
        VirtualInspector {
            rng,
            late_by: Micros::ZERO,
            fail_next: None,
        }
    }

    pub fn late_by(&mut self, by: Micros) {
        self.late_by = by;
    }

    pub fn fail_next(&mut self, fault: InspectFault) {
        self.fail_next = Some(fault);
    }

    /// When the result is there, and what it says. `part` is what the picture really shows at
    /// the place asked for; `None` when the picture is gone.
    pub fn inspect(
        &mut self,
        job: &InspectJob,
        part: Option<Part>,
        now: Instant,
    ) -> (Instant, Result<Inspection, InspectFault>) {
        let left = job.decide_by.since(now).get().max(1_000);
        let in_time = now + Micros::new(self.rng.range(500, left * 9 / 10));
        let at = match self.late_by {
            Micros::ZERO => in_time,
            by => job.decide_by.max(now) + by,
        };
        let wrong = self.rng.chance(WRONG);
        let doubt = self.rng.chance(DOUBTFUL);
        let any = self.rng.pick(&Defect::ALL);
        let lean = self.rng.chance(500);
        if let Some(fault) = self.fail_next.take() {
            return (at, Err(fault));
        }
        let Some(part) = part else {
            return (at, Err(InspectFault::FrameGone));
        };
        let said = match (part.defect, wrong) {
            (defect, false) => defect,
            (Some(_), true) => None,
            (None, true) => Some(any),
        };
        (at, Ok(inspection(said, doubt, lean)))
    }
}

/// Scores that say so: clearly, or between the limits of the two recipes.
fn inspection(said: Option<Defect>, doubt: bool, lean: bool) -> Inspection {
    let label = said.map_or(0, |d| 1 + Defect::ALL.iter().position(|&k| k == d).unwrap_or(0));
    let mut scores = [0.01f32; LABELS.len()];
    if doubt {
        // Good by recipe 1 alone, or bad by recipe 0 alone; the other is in doubt.
        (scores[0], scores[label.max(1)]) = if lean { (0.70, 0.25) } else { (0.20, 0.75) };
    } else {
        scores[label] = 0.97;
    }
    Inspection {
        scores: Some(scores.into_iter().collect()),
        ..Inspection::default()
    }
}
