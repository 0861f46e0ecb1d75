//! Which frame shows which part.
//!
//! The expected place of a part's leading edge in a picture follows from how
//! far the belt moved from its trigger to mid-exposure. A located blob within
//! half the smallest pitch of it is the part. Two candidates, or one candidate
//! claimed by two parts, are never guessed between.
//!
//! - Free-running camera: the first frame that shows the part whole is taken.
//!   A part that left the view unseen was not found, or had no frame.
//! - Triggered camera: the n-th trigger has the n-th frame. Missing sequence
//!   numbers are missing frames; a frame that shows none of the places where a
//!   trigger could be belongs to nothing.
//! - Vision trigger: a blob seen whole, where no part is expected, is a part.

use super::slip::Place;
use super::{Station, left};
use crate::config::{BeltAxis, Camera, CameraMode, Crop, Recipe, Trigger};
use crate::station::event::{
    Action, AlarmKind, Blob, Entry, FrameSeen, InspectJob, NoResult, Stray, Verdict,
};
use crate::station::ledger::{Ledger, Look, Part};
use crate::units::{BeltPosition, CameraId, FrameId, Instant, Length, PartId};
use arrayvec::ArrayVec;
use std::sync::Arc;

/// Frames with inspections under way. More than the workers' queue holds.
const OPEN_FRAMES: usize = 32;
/// Strays remembered so that one object on a free-running camera is told once.
const STRAYS: usize = 16;
/// A frame this little behind the newest is a duplicate or came out of order; further
/// back, the driver started anew.
const REORDERED: u32 = 8;
/// A sequence number this far ahead is a driver that started anew, not a gap.
const RESTARTED: u32 = 1_000;
/// So many frames in a row that do not fit their triggers belong to others.
const OUT_OF_STEP: u32 = 3;

/// Geometry of the camera, in integers.
#[derive(Clone, Copy, Debug)]
pub struct View {
    axis: BeltAxis,
    nm_per_px: i64,
    /// Photo-eye to picture centre.
    distance: Length,
}

/// A frame that some inspection still uses.
#[derive(Clone, Copy, Debug)]
struct OpenFrame {
    camera: CameraId,
    frame: FrameId,
    jobs: u32,
}

#[derive(Clone, Debug)]
pub struct Frames {
    view: View,
    open: ArrayVec<OpenFrame, OPEN_FRAMES>,
    last_sequence: Option<u32>,
    /// Frames in a row that showed another trigger's part, and their own not so that it could be judged.
    out_of_step: u32,
    /// Trigger positions that the latest strays would have had.
    strays: ArrayVec<BeltPosition, STRAYS>,
}

impl View {
    pub fn new(camera: &Camera) -> View {
        View {
            axis: camera.belt_axis,
            nm_per_px: (camera.um_per_px * 1_000.0).round() as i64,
            distance: camera.distance,
        }
    }

    fn length(&self, px: i64) -> Length {
        Length::from_micrometres(px * self.nm_per_px / 1_000)
    }

    /// From the picture's centre to its downstream border.
    pub fn half(&self, width: u16, height: u16) -> Length {
        let side = match self.axis {
            BeltAxis::PlusX | BeltAxis::MinusX => width,
            BeltAxis::PlusY | BeltAxis::MinusY => height,
        };
        self.length(i64::from(side)).half()
    }

    /// From the picture's centre to the blob's leading edge, downstream positive.
    pub fn lead(&self, blob: &Blob, width: u16, height: u16) -> Length {
        let (x, y) = (i64::from(blob.x), i64::from(blob.y));
        // Twice the distance, so that the centre of an odd picture is no fraction.
        let twice = match self.axis {
            BeltAxis::PlusX => 2 * (x + i64::from(blob.width)) - i64::from(width),
            BeltAxis::MinusX => i64::from(width) - 2 * x,
            BeltAxis::PlusY => 2 * (y + i64::from(blob.height)) - i64::from(height),
            BeltAxis::MinusY => i64::from(height) - 2 * y,
        };
        self.length(twice).half()
    }

    /// The blob's size along the belt.
    pub fn extent(&self, blob: &Blob) -> Length {
        self.length(i64::from(match self.axis {
            BeltAxis::PlusX | BeltAxis::MinusX => blob.width,
            BeltAxis::PlusY | BeltAxis::MinusY => blob.height,
        }))
    }
}

impl Frames {
    pub fn new(camera: &Camera) -> Frames {
        Frames {
            view: View::new(camera),
            open: ArrayVec::new(),
            last_sequence: None,
            out_of_step: 0,
            strays: ArrayVec::new(),
        }
    }

    /// The camera was opened anew and may count from anywhere.
    pub fn restarted(&mut self) {
        (self.last_sequence, self.out_of_step) = (None, 0);
    }

    /// Another inspection uses this frame. False when too many frames are in use.
    fn hold(&mut self, camera: CameraId, frame: FrameId) -> bool {
        if let Some(open) = self.open.iter_mut().find(|open| open.frame == frame) {
            open.jobs += 1;
            return true;
        }
        self.open
            .try_push(OpenFrame {
                camera,
                frame,
                jobs: 1,
            })
            .is_ok()
    }

    /// An inspection of this frame is over.
    pub fn release(&mut self, frame: FrameId, actions: &mut Vec<Action>) {
        let Some(index) = self.open.iter().position(|open| open.frame == frame) else {
            return;
        };
        self.open[index].jobs -= 1;
        if self.open[index].jobs == 0 {
            let OpenFrame { camera, frame, .. } = self.open.swap_remove(index);
            actions.push(Action::Release { camera, frame });
        }
    }

    /// Whether a stray at this place was told already; remembers it if not.
    fn known_stray(&mut self, position: BeltPosition, within: Length) -> bool {
        if self
            .strays
            .iter()
            .any(|stray| stray.since(position).abs() < within)
        {
            return true;
        }
        if self.strays.is_full() {
            self.strays.remove(0);
        }
        self.strays.push(position);
        false
    }

    /// What still lies there is to be told again.
    pub fn forget_strays(&mut self) {
        self.strays.clear();
    }

    pub fn verify(&self, ledger: &Ledger) {
        for open in &self.open {
            let users =
                |part: &&Part| matches!(part.look, Look::Inspecting { frame, .. } if frame == open.frame);
            let users = ledger.parts().iter().filter(users).count();
            assert_eq!(
                open.jobs as usize, users,
                "frame {} is held for nothing",
                open.frame
            );
        }
    }
}

/// What a frame says about one part.
enum Found {
    One(Option<Blob>),
    /// Perhaps a later frame shows it.
    Later,
    Nothing,
    Ambiguous,
}

impl Station {
    pub(super) fn on_frame(&mut self, now: Instant, seen: &FrameSeen, actions: &mut Vec<Action>) {
        let duplicate = self.frames.last_sequence.is_some_and(|last| {
            let back = last.wrapping_sub(seen.sequence);
            back < REORDERED
        });
        if duplicate {
            actions.push(Action::Record(Entry::Stray {
                stray: Stray::DuplicateFrame,
                at: seen.mid_exposure,
            }));
            actions.push(Action::Release {
                camera: seen.camera,
                frame: seen.frame,
            });
            return;
        }
        let ahead = self
            .frames
            .last_sequence
            .map(|last| seen.sequence.wrapping_sub(last));
        // How many frames are missing before this one; unknown when the driver's count began anew.
        let lost = ahead.filter(|&ahead| ahead < RESTARTED).map(|ahead| ahead - 1);
        self.frames.last_sequence = Some(seen.sequence);
        let Some(camera) = self.config.cameras.get(usize::from(seen.camera.0)) else {
            actions.push(Action::Release {
                camera: seen.camera,
                frame: seen.frame,
            });
            return;
        };
        match (&self.config.trigger, camera.mode) {
            (Trigger::Vision, _) => {
                self.discover(now, seen, actions);
                self.match_free_running(now, seen, actions);
            }
            (_, CameraMode::FreeRunning { .. }) => {
                self.match_free_running(now, seen, actions);
                self.tell_strays(now, seen, false, actions);
            }
            (_, CameraMode::Triggered) => {
                let told = self.match_triggered(now, seen, lost, actions);
                self.tell_strays(now, seen, told, actions);
            }
        }
        if !self.frames.open.iter().any(|open| open.frame == seen.frame) {
            actions.push(Action::Release {
                camera: seen.camera,
                frame: seen.frame,
            });
        }
    }

    /// Expected place of a part's leading edge at mid-exposure, from the picture's centre.
    fn expected(&self, zero: BeltPosition, seen: &FrameSeen) -> Length {
        let moved = self.belt.position_at(seen.mid_exposure).since(zero);
        Length::from_micrometres(moved.as_micrometres() - self.frames.view.distance.as_micrometres())
    }

    fn half_view(&self, seen: &FrameSeen) -> Length {
        self.frames.view.half(seen.width, seen.height)
    }

    fn match_free_running(&mut self, now: Instant, seen: &FrameSeen, actions: &mut Vec<Action>) {
        for index in 0..self.ledger.parts().len() {
            // The list may have become empty: positions that turned out void end every part.
            let Some(part) = self.ledger.parts().get(index) else {
                break;
            };
            // A frame exposed before the trigger cannot show the part behind it.
            if part.look != Look::Waiting || !part.undecided() || seen.mid_exposure < part.at {
                continue;
            }
            match self.look_for(index, seen) {
                Found::One(blob) => self.inspect(now, index, seen, blob, actions),
                Found::Ambiguous => self.decide(now, index, Verdict::NoResult(NoResult::Ambiguous), actions),
                Found::Nothing => self.not_found(now, index, actions),
                Found::Later => {}
            }
        }
    }

    /// Looks for the part at `index` in a free-running frame.
    fn look_for(&mut self, index: usize, seen: &FrameSeen) -> Found {
        let part = &self.ledger.parts()[index];
        let recipe = &self.config.recipes[usize::from(part.recipe.0)];
        let place = self.expected(part.position, seen);
        let half = self.half_view(seen);
        let whole = place <= half && place >= -half + part.length;
        let gone = place >= half + part.length + recipe.pitch_min().half();
        let covered = part.covered;
        if let Crop::Picture { .. } = recipe.crop {
            let centred = (place + -part.length.half()).abs() <= recipe.pitch_min().half();
            return match (centred, gone) {
                (true, _) if self.alone(index, place, seen) => Found::One(None),
                (true, _) => Found::Ambiguous,
                (false, true) => Found::Nothing,
                (false, false) => Found::Later,
            };
        }
        match self.candidates(index, place, recipe, seen) {
            Candidates::One(blob) if blob.cut => Found::Later,
            Candidates::One(blob) => Found::One(Some(blob)),
            Candidates::Several => Found::Ambiguous,
            Candidates::None if gone => Found::Nothing,
            Candidates::None => {
                self.ledger.parts_mut()[index].covered = covered || whole;
                Found::Later
            }
        }
    }

    /// Blobs within half the smallest pitch of the expected place that no other part claims.
    fn candidates(&self, index: usize, place: Length, recipe: &Recipe, seen: &FrameSeen) -> Candidates {
        let reach = recipe.pitch_min().half();
        let view = &self.frames.view;
        let near = |blob: &&Blob| {
            let off = place + -view.lead(blob, seen.width, seen.height);
            off.abs() < reach && self.may_be_part(blob, recipe)
        };
        let mut near = seen.blobs.iter().filter(near);
        match (near.next(), near.next()) {
            (None, _) => Candidates::None,
            (Some(_), Some(_)) => Candidates::Several,
            (Some(blob), None) => {
                let lead = view.lead(blob, seen.width, seen.height);
                let claimed = self.ledger.parts().iter().enumerate().any(|(other, part)| {
                    other != index && (self.expected(part.position, seen) + -lead).abs() < reach
                });
                let touching = view.extent(blob) > recipe.part_max + recipe.part_min.half();
                if claimed || touching {
                    Candidates::Several
                } else {
                    Candidates::One(*blob)
                }
            }
        }
    }

    /// Something smaller than half a part is dirt, unless it is cut by the border.
    fn may_be_part(&self, blob: &Blob, recipe: &Recipe) -> bool {
        blob.cut || self.frames.view.extent(blob) >= recipe.part_min.half()
    }

    /// No other part is nearer to this place than half the smallest pitch.
    fn alone(&self, index: usize, place: Length, seen: &FrameSeen) -> bool {
        let recipe = &self.config.recipes[usize::from(self.ledger.parts()[index].recipe.0)];
        let reach = recipe.pitch_min().half();
        !self.ledger.parts().iter().enumerate().any(|(other, part)| {
            other != index && (self.expected(part.position, seen) + -place).abs() < reach
        })
    }

    /// True if the frame belongs to no trigger, which is then on record.
    fn match_triggered(
        &mut self,
        now: Instant,
        seen: &FrameSeen,
        lost: Option<u32>,
        actions: &mut Vec<Action>,
    ) -> bool {
        match lost {
            Some(lost) => {
                for _ in 0..lost {
                    let Some(index) = self.first_owed() else { break };
                    self.no_frame(now, index, actions);
                }
            }
            None => self.synchronise(now, seen, actions),
        }
        let half = self.half_view(seen);
        while let Some(index) = self.first_owed() {
            let part = &self.ledger.parts()[index];
            let recipe = &self.config.recipes[usize::from(part.recipe.0)];
            let place = self.expected(part.position, seen);
            let reach = recipe.pitch_min().half();
            // A part that is not whole in the view at its own exposure cannot be judged by it,
            // so a frame is not taken for such a part: more likely its own frame is still to
            // come, or never came, and this one belongs to a part that has ended meanwhile.
            let slack = match recipe.crop {
                Crop::Picture { .. } => reach + part.length,
                Crop::Part { .. } => Length::ZERO,
            };
            if place > half + slack {
                // It had left the view when this was exposed: its own frame never came.
                self.no_frame(now, index, actions);
                continue;
            }
            if place + slack < -half + part.length || seen.mid_exposure < part.at {
                break;
            }
            let found = match recipe.crop {
                Crop::Picture { .. } => Found::One(None),
                Crop::Part { .. } => match self.candidates(index, place, recipe, seen) {
                    Candidates::One(blob) if !blob.cut => Found::One(Some(blob)),
                    Candidates::One(_) | Candidates::None => Found::Nothing,
                    Candidates::Several => Found::Ambiguous,
                },
            };
            self.keep_step(index, &found, seen);
            self.take_owed(now, index, found, seen, actions);
            return false;
        }
        let stray = Stray::FrameWithoutTrigger;
        actions.push(Action::Record(Entry::Stray {
            stray,
            at: seen.mid_exposure,
        }));
        true
    }

    /// A trigger that was none had no frame: then each part gets the frame of the next, in which it is
    /// hardly still to be seen. The next frame's number says nothing then.
    fn keep_step(&mut self, index: usize, found: &Found, seen: &FrameSeen) {
        let first = self.ledger.parts().get(index).map(|part| part.id);
        let fits = matches!(found, Found::One(_)) || self.nearest_owed(seen) == first;
        self.frames.out_of_step = if fits { 0 } else { self.frames.out_of_step + 1 };
        if self.frames.out_of_step >= OUT_OF_STEP {
            self.frames.restarted();
        }
    }

    /// Of the parts that wait for a frame, the one nearest to the picture's centre.
    fn nearest_owed(&self, seen: &FrameSeen) -> Option<PartId> {
        let from_centre = |part: &Part| (self.expected(part.position, seen) + -part.length.half()).abs();
        let owed = self.ledger.parts().iter().filter(|part| part.owed);
        owed.min_by_key(|part| from_centre(part)).map(|part| part.id)
    }

    /// The frame's number says nothing yet: it belongs to the part nearest to the picture's
    /// centre, and the frames of those before it never came.
    fn synchronise(&mut self, now: Instant, seen: &FrameSeen, actions: &mut Vec<Action>) {
        let Some(nearest) = self.nearest_owed(seen) else {
            return;
        };
        while let Some(index) = self
            .first_owed()
            .filter(|&i| self.ledger.parts()[i].id != nearest)
        {
            self.no_frame(now, index, actions);
        }
    }

    fn take_owed(
        &mut self,
        now: Instant,
        index: usize,
        found: Found,
        seen: &FrameSeen,
        actions: &mut Vec<Action>,
    ) {
        let part = &mut self.ledger.parts_mut()[index];
        part.owed = false;
        part.covered = true;
        if part.look != Look::Waiting {
            return; // Its deadline went by while the frame was under way.
        }
        match found {
            Found::One(blob) => self.inspect(now, index, seen, blob, actions),
            Found::Ambiguous => self.decide(now, index, Verdict::NoResult(NoResult::Ambiguous), actions),
            Found::Nothing | Found::Later => {
                if !seen.blobs.is_empty() {
                    self.suspect_elsewhere(now, Place::Picture, actions);
                }
                if index < self.ledger.parts().len() {
                    self.not_found(now, index, actions);
                }
            }
        }
    }

    fn first_owed(&self) -> Option<usize> {
        self.ledger.parts().iter().position(|part| part.owed)
    }

    fn no_frame(&mut self, now: Instant, index: usize, actions: &mut Vec<Action>) {
        let part = &mut self.ledger.parts_mut()[index];
        part.owed = false;
        if part.look == Look::Waiting {
            self.decide(now, index, Verdict::NoResult(NoResult::NoFrame), actions);
        }
    }

    /// Its place was in the view and empty, or it was in no frame at all.
    pub(super) fn not_found(&mut self, now: Instant, index: usize, actions: &mut Vec<Action>) {
        let covered = self.ledger.parts()[index].covered;
        let why = if covered {
            NoResult::NotFound
        } else {
            NoResult::NoFrame
        };
        self.decide(now, index, Verdict::NoResult(why), actions);
        if covered {
            self.suspect_missing(now, Place::Picture, actions);
        }
    }

    fn inspect(
        &mut self,
        now: Instant,
        index: usize,
        seen: &FrameSeen,
        blob: Option<Blob>,
        actions: &mut Vec<Action>,
    ) {
        if let Some(blob) = &blob {
            let lead = self.frames.view.lead(blob, seen.width, seen.height);
            let part = &self.ledger.parts()[index];
            let reach = self.config.recipes[usize::from(part.recipe.0)].pitch_min().half();
            let off = lead + -self.expected(part.position, seen);
            self.suspect_camera(now, off, reach, actions);
        }
        // A suspicion that became certain ended every part.
        let Some(part) = self.ledger.parts().get(index) else {
            return;
        };
        if !self.frames.hold(seen.camera, seen.frame) {
            self.decide(now, index, Verdict::NoResult(NoResult::Fault), actions);
            return;
        }
        let (id, recipe) = (part.id, part.recipe);
        #[cfg(test)]
        let (id, recipe) = self.planted_job(index, id, recipe);
        let part = &mut self.ledger.parts_mut()[index];
        part.covered = true;
        part.look = Look::Inspecting {
            frame: seen.frame,
            mid_exposure: seen.mid_exposure,
        };
        let decide_by = self.decide_by(now, index);
        let (camera, frame) = (seen.camera, seen.frame);
        actions.push(Action::Inspect(InspectJob {
            part: id,
            camera,
            frame,
            blob,
            recipe,
            decide_by,
        }));
    }

    /// Vision trigger: blobs seen whole where no part is become parts.
    fn discover(&mut self, now: Instant, seen: &FrameSeen, actions: &mut Vec<Action>) {
        let recipe = Arc::clone(&self.config.recipes[usize::from(self.recipe.0)]);
        let at_exposure = self.belt.position_at(seen.mid_exposure);
        for blob in seen.blobs.iter().filter(|blob| !blob.cut) {
            if !self.may_be_part(blob, &recipe) {
                continue;
            }
            let lead = self.frames.view.lead(blob, seen.width, seen.height);
            let zero = at_exposure + -(lead + self.frames.view.distance);
            let reach = recipe.pitch_min().half();
            if self
                .ledger
                .parts()
                .iter()
                .any(|part| part.position.since(zero).abs() < reach)
                || self.ended_near(zero, reach, |_| true)
            {
                continue;
            }
            let extent = self.frames.view.extent(blob);
            self.open_part(now, seen.mid_exposure, zero, Some(extent), actions);
        }
    }

    /// Objects that no trigger announced; each is told once. `told`: the frame itself was.
    fn tell_strays(&mut self, now: Instant, seen: &FrameSeen, mut told: bool, actions: &mut Vec<Action>) {
        let recipe = Arc::clone(&self.config.recipes[usize::from(self.recipe.0)]);
        if let Crop::Picture { .. } = recipe.crop {
            return;
        }
        let at_exposure = self.belt.position_at(seen.mid_exposure);
        let reach = recipe.pitch_min().half();
        for blob in seen.blobs.iter().filter(|blob| !blob.cut) {
            if !self.may_be_part(blob, &recipe) {
                continue;
            }
            let lead = self.frames.view.lead(blob, seen.width, seen.height);
            let zero = at_exposure + -(lead + self.frames.view.distance);
            let known = self
                .ledger
                .parts()
                .iter()
                .any(|part| part.position.since(zero).abs() < reach);
            // Upstream of the photo-eye, or crossing it right now: its trigger is still to come.
            let upstream = at_exposure.since(zero) < reach;
            let ended = self.ended_near(zero, reach, |fate| !left::is_lost(fate));
            if known || upstream || ended || self.frames.known_stray(zero, reach) {
                continue;
            }
            let at = seen.mid_exposure;
            if !std::mem::replace(&mut told, false) {
                let stray = Stray::FrameWithoutTrigger;
                actions.push(Action::Record(Entry::Stray { stray, at }));
            }
            if !self.unfollowed(zero, reach) {
                self.alarm(AlarmKind::PartWithoutTrigger, at, actions);
                self.suspect_elsewhere(now, Place::Picture, actions);
            } else if self.left.cleared() {
                self.left.under_camera();
                self.alarm(AlarmKind::PartWithoutTrigger, at, actions);
            }
        }
    }
}

enum Candidates {
    None,
    One(Blob),
    Several,
}
