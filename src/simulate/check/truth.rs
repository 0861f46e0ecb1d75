//! What really happens on the line.

use super::*;

impl Checker {
    pub fn truth(&mut self, note: &TruthNote) -> Checked {
        match *note {
            TruthNote::Crossed { part, at, sensed } => {
                self.real.insert(part.number, Real::new(at));
                // Overlooked, as announced; a sensor that is stuck stays so.
                if !sensed && !self.photo_stuck {
                    self.end_disturbance(at, Spoils::PhotoEye);
                }
                if sensed && self.alive && self.has_photo_eye() {
                    self.stamps.insert(at, part.number);
                    self.unseen.insert(at, (part.number, self.told.counts));
                }
                Ok(())
            }
            // Whether the core takes it for new hangs on what it knows: on the belt's way back and forth.
            TruthNote::Again { number, at } => {
                if self.alive && self.has_photo_eye() {
                    self.stamps.insert(at, number);
                }
                Ok(())
            }
            // Something was wrong before the station came.
            TruthNote::Left { part, at } => {
                self.faults += 1;
                self.real.insert(part.number, Real::new(at));
                Ok(())
            }
            TruthNote::AtPassedEye { number, at } => {
                self.at_passed_eye(number, at);
                Ok(())
            }
            TruthNote::Touched { number, at } => {
                if let Some(real) = self.real.get_mut(&number) {
                    real.touched = Some(at);
                }
                Ok(())
            }
            TruthNote::Removed { number, at } => self.gone(number, Whereabouts::Removed, at),
            TruthNote::Passed { number, at } => self.gone(number, Whereabouts::Passed, at),
            TruthNote::Taken { number, at } => self.gone(number, Whereabouts::Taken, at),
            TruthNote::Line { output, active, at } => self.line(output, active, at),
        }
    }

    pub(super) fn gone(&mut self, number: u64, whereabouts: Whereabouts, at: Instant) -> Checked {
        let Some(real) = self.real.get_mut(&number) else {
            return Ok(());
        };
        real.gone = Some((whereabouts, at));
        self.settle(number, at)
    }

    pub(super) fn line(&mut self, output: OutputId, active: bool, at: Instant) -> Checked {
        if active {
            self.on_since.entry(output).or_insert(at);
            return Ok(());
        }
        match self.on_since.remove(&output) {
            Some(since) => self.on_time(output, since, at),
            None => Ok(()),
        }
    }

    pub(super) fn on_time(&self, output: OutputId, since: Instant, now: Instant) -> Checked {
        let max = self
            .config
            .outputs
            .get(usize::from(output.0))
            .and_then(|line| line.max_on);
        let on_for = now.since(since);
        match max {
            Some(max) if on_for > max + ON_SLACK => fail(
                now,
                "on-time",
                format!("output {output} was on for {on_for}, longest {max}"),
            ),
            _ => Ok(()),
        }
    }
}
