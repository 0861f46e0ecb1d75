//! What the core believes, against what is true; and what must be settled in the end.

use super::*;

impl Checker {
    /// Compares when both the core and the line are done with a part.
    pub(super) fn settle(&mut self, number: u64, now: Instant) -> Checked {
        let Some(real) = self.real.get(&number) else {
            return Ok(());
        };
        let (Some(id), Some((whereabouts, left))) = (real.id, real.gone) else {
            return Ok(());
        };
        let Some(&Known {
            ended: Some((fate, ended)),
            judged,
            ..
        }) = self.known.get(&id)
        else {
            return Ok(());
        };
        if real.settled {
            return Ok(());
        }
        let (crossed, touched) = (real.crossed, real.touched);
        let real = self.real.get_mut(&number);
        if let Some(real) = real {
            real.settled = true;
        }
        let until = now.max(left);
        let excused = |by: &[Spoils]| self.disturbed(crossed, until, by);
        use Spoils::*;
        let believed = format!("part {id} (the line's {number}) ended as {fate:?}");
        match (fate, whereabouts) {
            (Fate::Confirmed, Whereabouts::Passed | Whereabouts::Taken)
                if !excused(&[ChuteEye, Actuator, Position, PhotoEye]) =>
            {
                fail(
                    now,
                    "confirmed",
                    format!("{believed}, but really {whereabouts:?}"),
                )
            }
            (Fate::Passed { .. }, Whereabouts::Removed)
                if !excused(&[PassedEye, Actuator, Position, PhotoEye, Process]) =>
            {
                fail(now, "good-hit", format!("{believed}, but was thrown out"))
            }
            (Fate::Passed { verified: true }, Whereabouts::Taken)
                if ended > left && !excused(&[PassedEye, Actuator, Position, PhotoEye]) =>
            {
                fail(now, "verified", format!("{believed}, but was taken off by hand"))
            }
            (Fate::Passed { .. }, Whereabouts::Passed)
                if touched.is_some() && !excused(&[Actuator, Position, PhotoEye, Process]) =>
            {
                fail(now, "good-hit", format!("{believed}, but was touched"))
            }
            // Without a passed eye it is a conclusion from a report that did not come.
            (Fate::Escaped, Whereabouts::Removed | Whereabouts::Taken)
                if ended > left
                    && !excused(&[PassedEye, Actuator, Position, PhotoEye])
                    && (self.config.verify.passed.is_some() || !excused(&[Process])) =>
            {
                fail(now, "escaped", format!("{believed}, but really {whereabouts:?}"))
            }
            (Fate::Unconfirmed, Whereabouts::Removed)
                if self.config.verify.chute.is_some()
                    && !excused(&[ChuteEye, Actuator, Position, PhotoEye, Process, Speed]) =>
            {
                fail(now, "confirmed", format!("{believed}, but the chute eye saw it"))
            }
            (Fate::Unconfirmed, Whereabouts::Passed) => self.stayed(
                number,
                id,
                now,
                excused(&[Actuator, Position, PhotoEye, Process, PassedEye]),
            ),
            _ => {
                debug_assert!(judged.is_some() || matches!(fate, Fate::Unaccounted(_)));
                Ok(())
            }
        }
    }

    /// A part that was to be rejected stayed on the belt and was not seen to escape.
    pub(super) fn stayed(&mut self, number: u64, id: PartId, now: Instant, excused: bool) -> Checked {
        if self.config.verify.chute.is_some() {
            // Nobody saw it fall: that is an alarm, whatever the cause.
            let crossed = self.real.get(&number).map_or(now, |real| real.crossed);
            self.untold.push((now, crossed, number));
            return Ok(());
        }
        if !excused {
            let words = format!("part {id} (the line's {number}) was to be rejected and stayed");
            return fail(now, "missed", words);
        }
        Ok(())
    }

    pub(super) fn told(&mut self, now: Instant) -> Checked {
        if let Some(since) = self.jumped.filter(|&since| now.since(since) > NOTICED_WITHIN) {
            self.jumped = None;
            if !self.disturbed(since, now, &[Spoils::Process]) {
                return fail(now, "slip", "the encoder jumped and nobody was told".into());
            }
        }
        let (alarms, standing) = (&self.alarms, &self.standing);
        let told = |crossed: Instant| {
            [
                AlarmKind::RejectNotConfirmed,
                AlarmKind::Escape,
                AlarmKind::PulseFault,
            ]
            .iter()
            .any(|kind| standing.contains(kind) || alarms.get(kind).is_some_and(|&at| at >= crossed))
        };
        // The belt may have stood long between the alarm and the part's end.
        self.untold.retain(|&(_, crossed, _)| !told(crossed));
        match self.untold.iter().find(|u| now.since(u.0) > TOLD_WITHIN) {
            Some((_, _, number)) => {
                let words =
                    format!("the line's part {number} was to be rejected and stayed, without an alarm");
                fail(now, "missed", words)
            }
            None => Ok(()),
        }
    }

    /// The belt is empty and the core was told to stop.
    pub fn over(&mut self, now: Instant, station: Option<&Station>) -> Checked {
        let Some(station) = station else {
            return fail(now, "liveness", "the process is not there".into());
        };
        if self.judged_since_calm < JUDGED_AFTER_CALM {
            let words = format!(
                "only {} parts judged after the last fault",
                self.judged_since_calm
            );
            return fail(now, "liveness", words);
        }
        if self.counts.in_flight > 0 {
            let left: Vec<_> = self
                .known
                .iter()
                .filter(|k| k.1.ended.is_none())
                .map(|k| k.0.0)
                .collect();
            return fail(now, "liveness", format!("parts {left:?} never end"));
        }
        if !station.is_finished() {
            return fail(now, "liveness", "told to stop, but never finished".into());
        }
        let c = &self.counts;
        let explained = self.fell_early || self.config.verify.chute.is_none();
        let clean = c.unaccounted + c.escaped == 0 && (c.unconfirmed == 0 || explained);
        if self.faults == 0 && !clean {
            return fail(
                now,
                "false-alarm",
                format!("a line without a fault ends with {c:?}"),
            );
        }
        Ok(())
    }
}
