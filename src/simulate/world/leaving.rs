//! How parts leave the line: hit by the actuator, taken away, or carried past its end.

use super::*;

impl World {
    /// Removes what the actuator hits: a part goes when it is hit between the aim point and
    /// three quarters of its length; hit elsewhere it is only touched.
    pub(super) fn reject(&mut self, from: Instant, to: Instant) {
        let mut stretches = std::mem::take(&mut self.out);
        self.rejecter.out_between(from, to, &mut stretches);
        for &(begin, end) in &stretches {
            let (x_begin, x_end) = (
                self.drive.position_after(begin.since(from)),
                self.drive.position_after(end.since(from)),
            );
            let (near, far) = (
                self.reject_place - self.footprint / 2,
                self.reject_place + self.footprint / 2,
            );
            // A belt that is pulled back passes the reject the other way.
            let (first, last) = (x_begin.min(x_end), x_begin.max(x_end));
            for i in 0..self.parts.len() {
                let p = &self.parts[i];
                let length = p.truth.part.length.as_micrometres();
                // Reach of a stretch of the part, as belt positions: its front arrives, its rear leaves.
                let under =
                    |front: i64, rear: i64| last >= p.offset + front + near && first <= p.offset + rear + far;
                if p.truth.whereabouts != Whereabouts::OnBelt || !under(0, length) {
                    continue;
                }
                if !p.truth.touched {
                    self.parts[i].truth.touched = true;
                    let number = self.parts[i].truth.part.number;
                    self.truth.note(TruthNote::Touched { number, at: begin });
                }
                let p = &self.parts[i];
                let (front, rear) = (p.offset + self.aim + near, p.offset + length * 3 / 4 + far);
                if last >= front && first <= rear {
                    let at = match front > x_begin && x_end > x_begin {
                        true => self
                            .time_at(front, self.drive.position(), from)
                            .max(begin)
                            .min(end),
                        false => begin,
                    };
                    self.remove(i, Whereabouts::Removed, at);
                }
            }
        }
        self.out = stretches;
    }

    pub(super) fn remove(&mut self, i: usize, whereabouts: Whereabouts, at: Instant) {
        let p = &mut self.parts[i];
        p.truth.whereabouts = whereabouts;
        let (truth, offset) = (p.truth, p.offset);
        let x = self.drive.position();
        for sensor in self.sensors.clone() {
            let edge = x - offset - sensor.place;
            if (0..truth.part.length.as_micrometres()).contains(&edge) {
                self.part_edge(i, sensor.input, false, at);
            }
        }
        if whereabouts == Whereabouts::Removed && self.has_chute {
            let (low, high) = self.options.fall;
            let lands = at + Micros::new(self.rng_noise.range(low.get(), high.get()));
            self.sense(Input::ChuteEye, true, lands);
            self.sense(Input::ChuteEye, false, lands + CHUTE_COVERED);
        }
        self.truth.finish(truth, at);
    }

    pub(super) fn take_part(&mut self, now: Instant) {
        let x = self.drive.position();
        // Clear of the photo-eye and of the reject's air.
        let room = 5_000;
        let taken = self.parts.iter().position(|p| {
            let (front, length) = (x - p.offset, p.truth.part.length.as_micrometres());
            p.truth.whereabouts == Whereabouts::OnBelt
                && front - length > room
                && front < self.reject_place - self.footprint / 2 - room
        });
        if let Some(i) = taken {
            self.remove(i, Whereabouts::Taken, now);
        }
        self.parts.retain(|p| p.truth.whereabouts == Whereabouts::OnBelt);
    }

    pub(super) fn clear_belt(&mut self, now: Instant) {
        for i in 0..self.parts.len() {
            let truth = &self.parts[i].truth;
            if truth.crossed_at.is_some() && truth.whereabouts == Whereabouts::OnBelt {
                self.remove(i, Whereabouts::Taken, now);
            }
        }
        self.parts.retain(|p| p.truth.whereabouts == Whereabouts::OnBelt);
    }

    /// Parts that are past the last sensor, and removed ones, are off the line.
    pub(super) fn leave(&mut self, x1: i64, at: Instant) {
        while let Some(p) = self.parts.front() {
            let tail = p.offset + p.truth.part.length.as_micrometres();
            if p.truth.whereabouts == Whereabouts::OnBelt {
                if tail + self.end > x1 {
                    break;
                }
                let truth = PartTruth {
                    whereabouts: Whereabouts::Passed,
                    ..p.truth
                };
                self.truth.finish(truth, at);
            }
            self.parts.pop_front();
        }
        self.parts.retain(|p| p.truth.whereabouts == Whereabouts::OnBelt);
    }
}
