//! Conditions that are watched all the time: speed of the belt, coasting,
//! stuck sensors, a lost camera.

use super::Station;
use crate::config::Trigger;
use crate::station::event::{Action, AlarmKind};
use crate::units::{BeltPosition, Instant, Length, Micros, Speed};

/// The belt may be this much outside its limits before it is an alarm: five percent.
const SPEED_SHARE: i64 = 20;
/// Too fast for this long is no noise of the measurement.
const FAST_FOR: Micros = Micros::from_millis(100);
/// Backward for this long is no shaking of a belt that starts.
const BACK_FOR: Micros = Micros::from_millis(100);
/// Slower than allowed for this long is no start or stop of the belt.
const SLOW_FOR: Micros = Micros::from_secs(3);
/// The belt may coast this share further than configured: a quarter, and 20 mm.
const COAST_SHARE: i64 = 4;
const COAST_SLACK: Length = Length::from_mm(20);
/// A photo-eye or passed eye covered over this many part lengths is stuck.
const STUCK_PARTS: i64 = 3;
/// After the permit went off the belt may still move for this long.
const COAST_FOR: Micros = Micros::from_secs(2);
/// A chute eye covered this much longer than any part falls is stuck.
const STUCK_FOR: Micros = Micros::from_secs(1);

#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    fast_since: Option<Instant>,
    slow_since: Option<Instant>,
    back_since: Option<Instant>,
    /// Where the belt was when the permit went off; `None` while it is on, or once told.
    coasting_from: Option<BeltPosition>,
    photo_covered_at: Option<BeltPosition>,
    passed_covered_at: Option<BeltPosition>,
    chute_covered_at: Option<Instant>,
    pub camera_lost_at: Option<Instant>,
    /// When the permit went off; `None` while it is on.
    permit_off_at: Option<Instant>,
}

impl Watch {
    pub fn photo(&mut self, active: bool, here: BeltPosition) {
        self.photo_covered_at = active.then_some(here);
    }
    pub fn passed(&mut self, active: bool, here: BeltPosition) {
        self.passed_covered_at = active.then_some(here);
    }
    pub fn chute(&mut self, active: bool, at: Instant) {
        self.chute_covered_at = active.then_some(at);
    }
}

impl Station {
    pub(super) fn watch(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.watch_speed(now, actions);
        self.watch_coast(now, actions);
        self.watch_sensors(now, actions);
        if let Some(lost) = self.watch.camera_lost_at
            && now.since(lost) >= self.camera_patience()
        {
            self.lock.present(AlarmKind::CameraLost, true, now, actions);
        }
    }

    fn camera_patience(&self) -> Micros {
        self.config
            .cameras
            .first()
            .map_or(Micros::ZERO, |camera| camera.stop_after)
    }

    pub(super) fn on_camera(&mut self, now: Instant, lost: bool, actions: &mut Vec<Action>) {
        if !lost {
            self.watch.camera_lost_at = None;
            self.frames.restarted();
            self.lock.clear(AlarmKind::CameraLost, now, actions);
        } else if self.watch.camera_lost_at.is_none() {
            self.watch.camera_lost_at = Some(now);
            // Not yet a reason to stop: the parts meanwhile have no picture and are rejected.
            self.lock.present(AlarmKind::CameraLost, false, now, actions);
        }
    }

    fn watch_speed(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let belt = &self.config.belt;
        let share = |speed: Speed| speed.as_um_per_s() / SPEED_SHARE;
        let speed = self.belt.speed(now).as_um_per_s();
        let noise = self.belt.speed_noise().as_um_per_s();
        let fast = speed > belt.speed_max.as_um_per_s() + share(belt.speed_max) + noise;
        let slow = self.lock.permit()
            && !self.belt.stands(now)
            && speed < belt.speed_min.as_um_per_s() - share(belt.speed_min) - noise;
        self.watch.fast_since = fast.then(|| self.watch.fast_since.unwrap_or(now));
        self.watch.slow_since = slow.then(|| self.watch.slow_since.unwrap_or(now));
        let over = |since: Option<Instant>, limit| since.is_some_and(|since| now.since(since) >= limit);
        if over(self.watch.fast_since, FAST_FOR) || over(self.watch.slow_since, SLOW_FOR) {
            let stops = self.stops(AlarmKind::BeltSpeed);
            self.lock.present(AlarmKind::BeltSpeed, stops, now, actions);
        } else if !fast && !slow {
            self.lock.clear(AlarmKind::BeltSpeed, now, actions);
        }
        self.watch_direction(now, actions);
    }

    /// The motor runs forward. Counts that go back mean an encoder wired the other way round: no
    /// part would ever come to its reject. Without permit, people may pull the belt as they like.
    fn watch_direction(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let back = self.lock.permit() && self.belt.runs_back(now);
        self.watch.back_since = back.then(|| self.watch.back_since.unwrap_or(now));
        match self.watch.back_since {
            Some(since) if now.since(since) >= BACK_FOR => {
                self.lock.present(AlarmKind::BeltBackward, true, now, actions);
            }
            Some(_) => {}
            None => self.lock.clear(AlarmKind::BeltBackward, now, actions),
        }
    }

    pub(super) fn permit_changed(&mut self, on: bool, now: Instant) {
        self.watch.coasting_from = (!on).then(|| self.belt.position_at(now));
        self.watch.permit_off_at = (!on).then_some(now);
    }

    /// The permit is on, or went off so lately that the belt may not have come to rest.
    pub(super) fn belt_should_move(&self, now: Instant) -> bool {
        self.lock.permit()
            || self
                .watch
                .permit_off_at
                .is_some_and(|off| now.since(off) < COAST_FOR)
    }

    fn watch_coast(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(from) = self.watch.coasting_from else {
            return;
        };
        let coast = self.config.belt.coast;
        let most = coast + Length::from_micrometres(coast.as_micrometres() / COAST_SHARE) + COAST_SLACK;
        if self.belt.position_at(now).since(from) > most {
            self.watch.coasting_from = None;
            self.alarm(AlarmKind::BeltSpeed, now, actions);
        }
    }

    fn watch_sensors(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let here = self.belt.position_at(now);
        let part_max = self.config.recipes[usize::from(self.recipe.0)].part_max;
        let longest = Length::from_micrometres(part_max.as_micrometres() * STUCK_PARTS);
        let over = |from: Option<BeltPosition>| from.is_some_and(|from| here.since(from) > longest);
        let photo =
            matches!(self.config.trigger, Trigger::PhotoEye { .. }) && over(self.watch.photo_covered_at);
        let chute = self.chute_stuck_at().is_some_and(|at| now >= at);
        if photo || over(self.watch.passed_covered_at) || chute {
            let stops = self.stops(AlarmKind::SensorStuck);
            self.lock.present(AlarmKind::SensorStuck, stops, now, actions);
        } else {
            self.lock.clear(AlarmKind::SensorStuck, now, actions);
        }
    }

    fn chute_stuck_at(&self) -> Option<Instant> {
        let eye = self.config.verify.chute.as_ref()?;
        Some(self.watch.chute_covered_at? + eye.after_max + STUCK_FOR)
    }

    /// When watching has to look again although nothing happens.
    pub(super) fn watch_deadline(&self, now: Instant) -> Option<Instant> {
        let camera = self
            .watch
            .camera_lost_at
            .map(|lost| lost + self.camera_patience());
        let fast = self.watch.fast_since.map(|since| since + FAST_FOR);
        let slow = self.watch.slow_since.map(|since| since + SLOW_FOR);
        let back = self.watch.back_since.map(|since| since + BACK_FOR);
        [camera, fast, slow, back, self.chute_stuck_at()]
            .into_iter()
            .flatten()
            .filter(|&at| at > now)
            .min()
    }
}
