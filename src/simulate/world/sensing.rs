//! What encoder, eyes and camera see in one tick.

use super::*;

impl World {
    pub(super) fn stick_sensor(&mut self, input: Input, level: Option<bool>, now: Instant) {
        let really = self
            .sensors
            .iter()
            .find(|s| s.input == input)
            .is_some_and(|s| self.covered(s));
        let before = self.stuck.iter().find(|s| s.0 == input).map_or(really, |s| s.1);
        self.stuck.retain(|s| s.0 != input);
        let after = level.unwrap_or(really);
        if after != before {
            self.sense(input, after, now);
        }
        // What lies in front of an eye that works again is seen, and seen to go, whichever way.
        if level.is_none() && matches!(input, Input::PhotoEye(_)) {
            let x = self.drive.position();
            let before =
                |p: &&mut OnBelt| (0..p.truth.part.length.as_micrometres()).contains(&(x - p.offset));
            self.parts.iter_mut().filter(before).for_each(|p| p.sensed = true);
        }
        if let Some(level) = level {
            // At most one entry per input, fewer inputs than places.
            self.stuck.push((input, level));
        }
    }

    pub(super) fn report_motion(&mut self, now: Instant) {
        if self.drive.is_running() != self.running {
            self.running = !self.running;
            self.sense(Input::BeltRunning, self.running, now);
        }
        if now.as_micros() % self.options.encoder_period.get().max(TICK.get()) == 0
            && let Some(counts) = self.drive.counts()
        {
            self.push(
                now,
                WorldEvent::Sensed(Event::Encoder {
                    lane: LaneId(0),
                    counts,
                    at: now,
                }),
            );
        }
    }

    pub(super) fn cross_sensors(&mut self, x0: i64, x1: i64, from: Instant) {
        for i in 0..self.parts.len() {
            let offset = self.parts[i].offset;
            if offset > x1 {
                break;
            }
            let tail = offset + self.parts[i].truth.part.length.as_micrometres();
            if x0 < offset && self.parts[i].truth.crossed_at.is_none() {
                let at = self.time_at(offset, x0, from);
                self.enter(i, at);
            }
            for sensor in self.sensors.clone() {
                for (edge, active) in [(offset + sensor.place, true), (tail + sensor.place, false)] {
                    if x0 < edge && edge <= x1 {
                        let at = self.time_at(edge, x0, from);
                        self.part_edge(i, sensor.input, active, at);
                    }
                }
            }
        }
    }

    /// The same on a belt that is pulled back: parts come with their rear and go with their front.
    pub(super) fn cross_back(&mut self, x0: i64, x1: i64, from: Instant) {
        for i in 0..self.parts.len() {
            let p = &self.parts[i];
            let (offset, sensed, overlooked) = (p.offset, p.sensed, p.overlooked_by_passed_eye);
            let tail = offset + p.truth.part.length.as_micrometres();
            for sensor in self.sensors.clone() {
                let seen = match sensor.input {
                    Input::PassedEye => !overlooked,
                    _ => sensed,
                };
                for (edge, active) in [(tail + sensor.place, true), (offset + sensor.place, false)] {
                    if seen && x1 < edge && edge <= x0 {
                        let at = self.time_at(edge, x0, from);
                        let at = self.stamp(sensor.input, at);
                        self.sense(sensor.input, active, at);
                    }
                }
            }
        }
    }

    /// The leading edge reaches the photo-eye.
    pub(super) fn enter(&mut self, i: usize, at: Instant) {
        let has_eye = self.sensors.iter().any(|s| matches!(s.input, Input::PhotoEye(_)));
        let at = at + Micros::new(self.rng_noise.range(0, self.options.edge_jitter.get()));
        let overlooked = std::mem::take(&mut self.overlook_next) && has_eye;
        let stuck = self.stuck.iter().any(|s| matches!(s.0, Input::PhotoEye(_)));
        let p = &mut self.parts[i];
        p.sensed = !(overlooked || (stuck && has_eye));
        p.bounce = self.bounce_next.take();
        p.truth.crossed_at = Some(at);
        let (part, sensed) = (p.truth.part, p.sensed);
        if sensed {
            self.camera_triggers.push_back(p.offset);
        }
        self.truth.crossed(part, at, sensed);
    }

    pub(super) fn part_edge(&mut self, i: usize, input: Input, active: bool, at: Instant) {
        let p = &mut self.parts[i];
        match input {
            Input::PhotoEye(_) => {
                // An overlooked part's trailing edge is dropped as a repeated level,
                // unless the sensor came back while the part was in front of it.
                if active && !p.sensed {
                    return;
                }
                if active && !std::mem::replace(&mut p.met.0, true) {
                    let at = p.truth.crossed_at.unwrap_or(at);
                    let bounce = p.bounce;
                    self.sense(input, true, at);
                    if let Some(within) = bounce {
                        self.bounce(input, at, within);
                    }
                    return;
                }
            }
            Input::PassedEye => {
                if active && !p.met.1 {
                    p.overlooked_by_passed_eye = std::mem::take(&mut self.overlook_passed_next);
                }
                if p.overlooked_by_passed_eye {
                    return;
                }
            }
            _ => {}
        }
        let at = self.stamp(input, at);
        let stuck = self.stuck.iter().any(|s| s.0 == input);
        if matches!(input, Input::PhotoEye(_)) && active && !stuck {
            let number = self.parts[i].truth.part.number;
            self.truth.note(TruthNote::Again { number, at });
        }
        let first = input == Input::PassedEye && active && !std::mem::replace(&mut self.parts[i].met.1, true);
        if first && !stuck {
            let number = self.parts[i].truth.part.number;
            self.truth.note(TruthNote::AtPassedEye { number, at });
        }
        self.sense(input, active, at);
    }

    /// The stamp that a sensor gives to what happens at `at`: somewhat late, and never before the one it gave last.
    fn stamp(&mut self, input: Input, at: Instant) -> Instant {
        let late = at + Micros::new(self.rng_noise.range(0, self.options.edge_jitter.get()));
        match self.stamped.iter_mut().find(|last| last.0 == input) {
            Some((_, last)) => {
                *last = late.max(*last + Micros::new(1));
                *last
            }
            None => {
                self.stamped.push((input, late));
                late
            }
        }
    }

    /// Off and on again a few times after a leading edge.
    pub(super) fn bounce(&mut self, input: Input, at: Instant, within: Micros) {
        let mut t = at;
        for _ in 0..self.rng_noise.range(1, 3) {
            let step = within.get() / 8;
            t += Micros::new(self.rng_noise.range(step.min(20), step.max(20)));
            self.sense(input, false, t);
            t += Micros::new(self.rng_noise.range(step.min(20), step.max(20)));
            self.sense(input, true, t);
        }
    }

    pub(super) fn expose(&mut self, x0: i64, x1: i64, from: Instant) {
        match self.camera.mode {
            CameraMode::Triggered => {
                // Exposed where a part of middle length is at the picture centre, whether or
                // not it is still there.
                while let Some(&offset) = self.camera_triggers.front() {
                    let middle = (self.part_min + self.part_max) / 4;
                    let at_centre = offset + self.camera.distance.as_micrometres() + middle;
                    if at_centre > x1 {
                        break;
                    }
                    self.camera_triggers.pop_front();
                    let at = self.time_at(at_centre.max(x0), x0, from);
                    self.shoot(at, from);
                }
            }
            CameraMode::FreeRunning { fps_milli } => {
                let period = (1_000_000_000 / i64::from(fps_milli.max(1))).max(TICK.get());
                // 137 µs: off the tick, so that order does not hang on equal stamps.
                let mut next = (from.as_micros() - 137).div_euclid(period) * period + 137;
                if next < from.as_micros() {
                    next += period;
                }
                if next < from.as_micros() + TICK.get() {
                    self.shoot(Instant::from_micros(next), from);
                }
            }
        }
    }

    pub(super) fn shoot(&mut self, at: Instant, from: Instant) {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        if self.camera_off {
            return;
        }
        let x = self.drive.position_after(at.since(from));
        let centre = self.camera.distance.as_micrometres();
        let half_view = self.half_view();
        let mut parts = ArrayVec::new();
        for p in &self.parts {
            let length = p.truth.part.length.as_micrometres();
            let along = x - p.offset - length / 2 - centre;
            if along.abs() < half_view + length / 2 && !parts.is_full() {
                parts.push(PartInView {
                    part: p.truth.part,
                    along: Length::from_micrometres(along),
                });
            }
        }
        let expose = Expose {
            camera: CameraId(0),
            sequence,
            mid_exposure: at,
            position: BeltPosition::from_micrometres(x),
            parts,
        };
        self.push(at, WorldEvent::Expose(expose));
    }

    /// No part is at the photo-eye now nor comes there within `time`.
    pub(super) fn clear_ahead(&self, time: Micros) -> bool {
        let x = self.drive.position();
        let reach = Speed::from_um_per_s(self.drive.speed())
            .travel(time)
            .as_micrometres()
            + 5_000;
        !self.parts.iter().any(|p| {
            let tail = p.offset + p.truth.part.length.as_micrometres();
            p.offset <= x + reach && tail + 5_000 >= x
        })
    }

    /// Whether a part covers the sensor and is not overlooked by it.
    pub(super) fn covered(&self, sensor: &Sensor) -> bool {
        let x = self.drive.position();
        self.parts.iter().any(|p| {
            (0..p.truth.part.length.as_micrometres()).contains(&(x - p.offset - sensor.place))
                && p.truth.whereabouts == Whereabouts::OnBelt
                && !(sensor.input == Input::PassedEye && p.overlooked_by_passed_eye)
        })
    }
}
