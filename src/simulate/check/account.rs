//! What the core was told, and what it wanted.

use super::*;

impl Checker {
    /// The core handled an event. `station` is `None` when it died while doing so.
    pub fn handled(
        &mut self,
        now: Instant,
        event: &Event,
        actions: &[Action],
        station: Option<&Station>,
    ) -> Checked {
        self.before(now, event);
        self.cut = None;
        for action in actions {
            match action {
                Action::Record(entry) => self.entry(now, entry)?,
                Action::Inspect(job) => self.inspect(now, job)?,
                Action::Set {
                    output: PERMIT,
                    active,
                } => self.set_permit(now, *active)?,
                Action::Fire(_) | Action::Cancel(_) | Action::Set { .. } | Action::Release { .. } => {}
            }
        }
        let Some(station) = station else { return Ok(()) };
        self.stops(now, actions)?;
        self.tells_unjudged(now, actions)?;
        if station.counts() != self.counts {
            let words = format!(
                "counts {:?}, its entries give {:?}",
                station.counts(),
                self.counts
            );
            return fail(now, "counts", words);
        }
        self.overdue(now)?;
        self.told(now)?;
        for (&output, &since) in &self.on_since {
            self.on_time(output, since, now)?;
        }
        Ok(())
    }

    pub(super) fn before(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Inspected { part, result } => {
                if let Some(known) = self.known.get_mut(part)
                    && known.judged.is_none()
                    && known.asked.is_some_and(|decide_by| now <= decide_by)
                {
                    known.said = Some(said(known.recipe, result));
                }
            }
            Event::Command(Command::Acknowledge)
            | Event::Edge {
                input: Input::Acknowledge,
                active: true,
                ..
            } => self.presses.push(now),
            Event::Encoder { at, counts, .. } => {
                self.told.counts = Some(*counts);
                // Already alarmed and not yet acknowledged, it is not raised anew.
                if self.standing.contains(&AlarmKind::EncoderSlip) {
                    self.jumped = self.jumped.filter(|jump| at < jump);
                }
            }
            Event::Command(Command::Changeover(recipe)) => self.recipe = *recipe,
            _ => {}
        }
    }

    pub(super) fn entry(&mut self, now: Instant, entry: &Entry) -> Checked {
        match *entry {
            Entry::Seen { part, at, recipe, .. } => self.seen(now, part, at, recipe),
            Entry::Judged {
                part,
                verdict,
                will_reject,
                late,
                ..
            } => {
                self.counts.late += u64::from(late);
                self.judged(now, part, verdict, will_reject)
            }
            Entry::Ended { part, fate, .. } => self.ended(now, part, fate),
            Entry::Alarm {
                alarm, raised: true, ..
            } => {
                self.alarms.insert(alarm, now);
                self.standing.insert(alarm);
                if alarm == AlarmKind::EncoderSlip {
                    self.jumped = None;
                    self.told.void();
                }
                self.only_with_faults(now, alarm)
            }
            Entry::Alarm {
                alarm, raised: false, ..
            } => {
                self.standing.remove(&alarm);
                Ok(())
            }
            Entry::Fired {
                actual_on,
                actual_off,
                ..
            } => {
                let longest = actual_off.since(actual_on) + ON_SLACK >= self.config.reject.max_on;
                self.cut = longest.then_some(actual_on);
                Ok(())
            }
            // A button counts when it has come to rest, and that may be after a stop.
            Entry::Acknowledged { .. } => {
                let mut presses = std::mem::take(&mut self.presses);
                presses.retain(|&at| {
                    now.since(at) < BUTTON_WITHIN || self.disturbed(at, now, &[Spoils::Process])
                });
                if !presses.is_empty() {
                    presses.remove(0);
                    self.need_acknowledge = false;
                }
                self.presses = presses;
                Ok(())
            }
            Entry::Permit { on, .. } if on && self.need_acknowledge => fail(
                now,
                "permit",
                "permit recorded as on before an acknowledge".into(),
            ),
            _ => Ok(()),
        }
    }

    /// On a line without any fault nothing is wrong, so nothing may be said to be.
    pub(super) fn only_with_faults(&mut self, now: Instant, alarm: AlarmKind) -> Checked {
        let ordinary = matches!(
            alarm,
            AlarmKind::AcknowledgeNeeded | AlarmKind::ConsecutiveRejects | AlarmKind::PartsUnaccounted
        );
        // The belt was stopped under a pulse, and the pulse really reached its longest on-time.
        let stopped = |on: Instant| self.disturbed(on, now, &[Spoils::Speed]);
        let ordinary = ordinary || (alarm == AlarmKind::PulseFault && self.cut.is_some_and(stopped));
        // On a belt that runs down or up, a part falls when the edge of the jet reaches it, long before its
        // middle does: the chute eye sees it too early for its window.
        let fell_early = alarm == AlarmKind::RejectNotConfirmed && stopped(now);
        let ordinary = ordinary || fell_early;
        self.fell_early |= fell_early;
        if self.faults == 0 && !ordinary {
            return fail(now, "false-alarm", format!("{alarm:?} on a line without a fault"));
        }
        Ok(())
    }

    pub(super) fn seen(&mut self, now: Instant, id: PartId, at: Instant, recipe: RecipeId) -> Checked {
        self.counts.seen += 1;
        self.counts.in_flight += 1;
        if self.known.contains_key(&id) {
            return fail(now, "number-reused", format!("part {id} was seen before"));
        }
        if recipe != self.recipe {
            let words = format!("part {id} got recipe {recipe}, in force is {}", self.recipe);
            return fail(now, "recipe", words);
        }
        let mut known = Known {
            number: None,
            recipe,
            asked: None,
            said: None,
            judged: None,
            ended: None,
        };
        if self.has_photo_eye() {
            known.number = self.stamps.remove(&at);
            self.unseen.remove(&at);
            self.told.seen(at, known.number.is_some());
            // A belt that was pulled back shows parts again, and without its position nobody can know them.
            let again = |pulled| self.disturbed(pulled, now, &[Spoils::Position, Spoils::Process]);
            let excused = self.disturbed(at - AFTERMATH, now, &[Spoils::PhotoEye, Spoils::Process])
                || self.pulled_at.is_some_and(again);
            let real = match known.number {
                Some(number) => self.real.get_mut(&number).map(|real| (number, real)),
                None => None,
            };
            let before = match real {
                Some((number, real)) => real.seen_as(id, at).map(|first| (number, first)),
                None if excused => None,
                None => {
                    let words = format!("part {id} seen at {} µs: no part crossed then", at.as_micros());
                    return fail(now, "seen", words);
                }
            };
            // Its first number has ended: with its process, or with its position.
            let ended = |id| self.known.get(&id).is_some_and(|k| ended_by_restart(k.ended));
            if let Some((number, first)) = before.filter(|&(_, first)| !excused && !ended(first)) {
                let words =
                    format!("the line's part {number} was seen as part {first} and again as part {id}");
                return fail(now, "seen", words);
            }
        }
        self.known.insert(id, known);
        Ok(())
    }

    pub(super) fn inspect(&mut self, now: Instant, job: &InspectJob) -> Checked {
        let shown = self.frames.get(&job.frame).and_then(|blobs| match job.blob {
            Some(blob) => blobs.iter().find(|b| b.0 == blob).map(|b| b.1),
            None => blobs.first().map(|b| b.1),
        });
        let id = job.part;
        let Some(known) = self.known.get_mut(&id) else {
            return fail(
                now,
                "picture",
                format!("inspection of part {id}, which was never seen"),
            );
        };
        if known.asked.is_some() {
            return fail(now, "picture", format!("part {id} is inspected twice"));
        }
        if job.recipe != known.recipe {
            let words = format!(
                "part {id} of recipe {} is inspected by recipe {}",
                known.recipe, job.recipe
            );
            return fail(now, "recipe", words);
        }
        known.asked = Some(job.decide_by);
        self.deadlines.insert((job.decide_by, id), ());
        let mine = known.number;
        match (mine, shown) {
            (Some(mine), Some(shown)) if mine != shown => {
                let crossed = self.real.get(&mine).map_or(now, |r| r.crossed);
                if self.disturbed(crossed, now, &[Spoils::Position, Spoils::PhotoEye]) {
                    return Ok(());
                }
                let words = format!("part {id} is the line's part {mine}, but the picture shows {shown}");
                fail(now, "picture", words)
            }
            // Without a photo-eye the first picture tells which part it is.
            (None, Some(shown)) if !self.has_photo_eye() => self.first_picture(now, id, shown),
            _ => Ok(()),
        }
    }

    pub(super) fn first_picture(&mut self, now: Instant, id: PartId, shown: u64) -> Checked {
        if let Some(known) = self.known.get_mut(&id) {
            known.number = Some(shown);
        }
        let Some(real) = self.real.get_mut(&shown) else {
            return Ok(());
        };
        let before = real.id.replace(id);
        let crossed = real.crossed;
        match before {
            // Counted before by a process that is no more.
            Some(first) if self.known.get(&first).is_some_and(|k| ended_by_restart(k.ended)) => Ok(()),
            Some(_) if self.disturbed(crossed, now, &[Spoils::Position, Spoils::Process]) => Ok(()),
            Some(first) => {
                let words =
                    format!("the line's part {shown} was seen as part {first} and again as part {id}");
                fail(now, "seen", words)
            }
            None => Ok(()),
        }
    }

    pub(super) fn judged(
        &mut self,
        now: Instant,
        id: PartId,
        verdict: Verdict,
        will_reject: bool,
    ) -> Checked {
        let Some(known) = self.known.get_mut(&id) else {
            return fail(
                now,
                "verdict",
                format!("verdict for part {id}, which was never seen"),
            );
        };
        if known.judged.replace((verdict, will_reject)).is_some() {
            return fail(now, "verdict", format!("part {id} is judged twice"));
        }
        if let Some(decide_by) = known.asked {
            self.deadlines.remove(&(decide_by, id));
        }
        let right = match known.said {
            Some(Said::Pass) => matches!(verdict, Verdict::Pass),
            Some(Said::Reject) => matches!(verdict, Verdict::Reject(_)),
            Some(Said::Unsure) => matches!(verdict, Verdict::Unsure),
            Some(Said::Fault) | None => matches!(verdict, Verdict::NoResult(_)),
        };
        if !right {
            let words = format!(
                "part {id} of recipe {}: verdict {verdict:?}, its inspection says {:?}",
                known.recipe, known.said
            );
            return fail(now, "verdict", words);
        }
        let recipe = &self.config.recipes[usize::from(known.recipe.0)];
        let rejects = match verdict {
            Verdict::Pass => false,
            Verdict::Reject(_) => true,
            Verdict::Unsure => recipe.otherwise.reject,
            Verdict::NoResult(_) => recipe.late_reject,
        };
        if rejects != will_reject {
            return fail(
                now,
                "verdict",
                format!("part {id}: {verdict:?} must give reject = {rejects}"),
            );
        }
        let by_picture = known.said.is_some_and(|said| said != Said::Fault);
        self.judged_since_calm += u32::from(self.calm.is_some() && by_picture);
        Ok(())
    }

    pub(super) fn ended(&mut self, now: Instant, id: PartId, fate: Fate) -> Checked {
        if self.counts.in_flight == 0 {
            return fail(now, "counts", format!("part {id} ends, but none is in flight"));
        }
        self.counts.end(fate);
        if fate == Fate::Unaccounted(Unaccounted::LostPosition) {
            self.told.void();
        }
        let Some(known) = self.known.get_mut(&id) else {
            return fail(now, "ended", format!("part {id} ends, but was never seen"));
        };
        if let Some((before, _)) = known.ended.replace((fate, now)) {
            return fail(
                now,
                "ended",
                format!("part {id} ends as {fate:?} after {before:?}"),
            );
        }
        if let Some(decide_by) = known.asked {
            self.deadlines.remove(&(decide_by, id));
        }
        let fits = match fate {
            Fate::Unaccounted(_) => true,
            Fate::Passed { .. } | Fate::Collateral => known.judged.is_some_and(|j| !j.1),
            Fate::Confirmed | Fate::Unconfirmed | Fate::Escaped => known.judged.is_some_and(|j| j.1),
        };
        if !fits {
            let words = format!("part {id} ends as {fate:?} with the verdict {:?}", known.judged);
            return fail(now, "ended", words);
        }
        match known.number {
            Some(number) => self.settle(number, now),
            None => Ok(()),
        }
    }

    pub(super) fn set_permit(&mut self, now: Instant, on: bool) -> Checked {
        if on && self.need_acknowledge {
            return fail(now, "permit", "permit on before an acknowledge".into());
        }
        if !on && self.permit {
            self.need_acknowledge = true;
            self.off_since = now;
            self.disturb(now, Spoils::Speed);
        }
        if on {
            // What an eye saw of no part on the standing belt is still at the eye's place.
            for d in self
                .disturbances
                .iter_mut()
                .filter(|d| d.spoils == Spoils::PhotoEye)
            {
                d.to = d.to.map(|to| if to >= self.off_since { to.max(now) } else { to });
            }
            self.end_disturbance(now, Spoils::Speed);
        }
        self.permit = on;
        Ok(())
    }

    /// Alarms that stop the belt have stopped it when the step is over.
    pub(super) fn stops(&self, now: Instant, actions: &[Action]) -> Checked {
        for action in actions {
            let Action::Record(Entry::Alarm {
                alarm, raised: true, ..
            }) = action
            else {
                continue;
            };
            if self.permit && self.must_stop(*alarm) {
                return fail(
                    now,
                    "stop",
                    format!("{alarm:?} was raised and the permit is still on"),
                );
            }
        }
        Ok(())
    }

    pub(super) fn must_stop(&self, alarm: AlarmKind) -> bool {
        let verify = &self.config.verify;
        let stops = |action: Option<CheckAction>| action == Some(CheckAction::StopBelt);
        match alarm {
            AlarmKind::Escape => stops(verify.passed.as_ref().map(|p| p.reject_seen)),
            AlarmKind::GoodPartMissing => stops(verify.passed.as_ref().map(|p| p.good_missing)),
            AlarmKind::RejectNotConfirmed => stops(verify.chute.as_ref().map(|c| c.missing)),
            AlarmKind::BinFull => stops(verify.bin_full.as_ref().map(|i| i.action)),
            AlarmKind::AirLow => stops(verify.air_low.as_ref().map(|i| i.action)),
            AlarmKind::ConsecutiveRejects => stops(verify.consecutive_rejects.map(|c| c.action)),
            AlarmKind::AcknowledgeNeeded
            | AlarmKind::PartsUnaccounted
            | AlarmKind::OutputsLost
            | AlarmKind::LedgerFull
            | AlarmKind::BeltBackward
            | AlarmKind::Trouble(Trouble::Queue | Trouble::LinesLost) => true,
            AlarmKind::PulseFault | AlarmKind::EncoderSlip | AlarmKind::PartWithoutTrigger => {
                self.config.station.on_fault == OnFault::StopBelt
            }
            _ => false,
        }
    }

    /// Parts that should have been seen or judged by now.
    pub(super) fn overdue(&mut self, now: Instant) -> Checked {
        while let Some((&at, &(number, counts))) = self.unseen.first_key_value() {
            if now.since(at) <= SEEN_WITHIN {
                break;
            }
            self.unseen.remove(&at);
            let same = self.is_same_by_counts(at, counts);
            if let Some(real) = self.real.get_mut(&number) {
                real.same = same;
            }
            // Held up, the process may still come to it.
            if same || self.disturbed(at, now, &[Spoils::Process]) {
                continue;
            }
            if self.disturbed(at, now, &[Spoils::PhotoEye, Spoils::Position]) {
                continue;
            }
            let words = format!(
                "the line's part {number} crossed at {} µs and is not seen",
                at.as_micros()
            );
            return fail(now, "seen", words);
        }
        while let Some((&(decide_by, id), ())) = self.deadlines.first_key_value() {
            if now.since(decide_by) <= JUDGED_WITHIN {
                break;
            }
            self.deadlines.pop_first();
            if !self.disturbed(decide_by, now, &[Spoils::Process]) {
                let words = format!(
                    "part {id} has no verdict {} after its deadline",
                    now.since(decide_by)
                );
                return fail(now, "verdict", words);
            }
        }
        Ok(())
    }
}
