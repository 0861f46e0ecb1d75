//! From the core to the line: the output process.

use super::*;

impl Run {
    pub(super) fn open_outputs(&mut self) -> Result<(), Failure> {
        if !self.outputs_up || self.station.is_none() {
            return Ok(());
        }
        let mut lines = LineSpec::of(&self.line.config);
        if on_time_not_enforced(self.bug) {
            for line in lines.iter_mut().filter(|l| l.max_on.is_some()) {
                line.max_on = Some(Micros::from_secs(3_600));
            }
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.table.open(self.now, &lines, &mut effects);
        self.effects = effects;
        self.carry_out();
        self.report(Event::OutputsReady(true));
        Ok(())
    }

    pub(super) fn permit_changed(&mut self, on: bool) {
        if self.permit && !on {
            self.operator.next = Some(self.now + self.operator.reacts_after);
        }
        if on {
            self.operator.in_vain = 0;
        }
        self.permit = on;
    }

    pub(super) fn order(&mut self, mut order: Order) {
        if let Order::Fire(plan) = &mut order
            && std::mem::take(&mut self.between.stretch_pulse)
        {
            let longest = self.line.config.reject.max_on;
            plan.off_at = plan.on_at + longest + longest + longest;
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.table.command(self.now, order, &mut effects);
        self.effects = effects;
        self.carry_out();
        self.table_due();
    }

    pub(super) fn table_due(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        self.table.due(self.now, &mut effects);
        self.effects = effects;
        self.table.verify_invariants();
        self.carry_out();
    }

    /// Line changes reach the world at once, reports the core a little later.
    pub(super) fn carry_out(&mut self) {
        let now = self.now;
        for effect in std::mem::take(&mut self.effects) {
            let event = match effect {
                Effect::Level { output, active } => {
                    self.world.output(output, active, now);
                    continue;
                }
                Effect::Started { pulse, .. } => Event::Pulse {
                    pulse,
                    report: PulseReport::On { at: now },
                },
                Effect::Ended { pulse, .. } => Event::Pulse {
                    pulse,
                    report: PulseReport::Off { at: now },
                },
                Effect::Refused { pulse, refusal } => Event::Pulse {
                    pulse,
                    report: PulseReport::Refused(refusal),
                },
                Effect::Safe { .. } => {
                    let back = now + Micros::from_millis(self.rng.range(50, 300));
                    self.schedule(back, Delivery::OutputsOpen);
                    Event::OutputsReady(false)
                }
            };
            self.report(event);
        }
    }
}
