//! What goes wrong, and the operator who puts it right.

use super::*;

impl Run {
    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), Failure> {
        let now = self.now;
        self.tally.faults += 1;
        self.note(|| trace::Line::Fault { now, fault });
        self.checker.fault(now, &fault);
        match fault {
            Fault::World(fault) => self.world.fault(now, fault),
            Fault::LateResults { by } => self.inspector.late_by(by),
            Fault::FailNextInspection(fault) => self.inspector.fail_next(fault),
            Fault::LoseFrames { count } => self.between.lose_frames += count,
            Fault::DuplicateFrame => self.between.duplicate_frame = true,
            Fault::LoseEdge { input, told } => self.between.lose_edge = Some((input, told)),
            Fault::CameraLost(lost) => {
                self.world.fault(now, WorldFault::CameraOff(lost));
                let told = now + Micros::from_millis(if lost { 100 } else { 105 });
                self.schedule(
                    told,
                    Delivery::Event(Event::CameraLost {
                        camera: CameraId(0),
                        lost,
                    }),
                );
            }
            Fault::StretchPulse => self.between.stretch_pulse = true,
            Fault::OutputsLost(lost) => {
                self.outputs_up = !lost;
                if lost {
                    let mut effects = std::mem::take(&mut self.effects);
                    self.table
                        .make_safe(crate::outputs::table::SafeCause::Ended, &mut effects);
                    self.effects = effects;
                    self.carry_out();
                } else {
                    self.schedule(now, Delivery::OutputsOpen);
                }
            }
            Fault::Hang { length } => self.between.hung_until = Some(now + length),
            Fault::Crash { after_actions, down } => self.between.crash = Some((after_actions, down)),
            // A process that hangs takes them in afterwards, one that is down never does.
            Fault::Acknowledge => self.tell(Event::Command(Command::Acknowledge)),
            Fault::Changeover(recipe) => self.tell(Event::Command(Command::Changeover(recipe))),
            Fault::Trouble { trouble, present } => self.tell(Event::Trouble { trouble, present }),
        }
        Ok(())
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.schedule(self.now, Delivery::Event(event));
    }

    /// The run process is gone: nothing listens, the outputs notice the closed link.
    pub(super) fn die(&mut self) {
        let now = self.now;
        let down = self.between.crash.take().map_or(Micros::ZERO, |c| c.1);
        self.note(|| trace::Line::Died { now });
        self.checker.died(now);
        self.station = None;
        self.permit = false;
        let mut effects = std::mem::take(&mut self.effects);
        self.table
            .make_safe(crate::outputs::table::SafeCause::Closed, &mut effects);
        self.effects = effects;
        self.carry_out();
        // What was under way inside the process is gone with it; what the kernel holds is not read again.
        self.due.clear();
        self.frames.clear();
        self.schedule(now + down, Delivery::Restart);
    }

    /// The operator sees the station waiting, puts the line in order and acknowledges.
    pub(super) fn operate(&mut self) -> Result<(), Failure> {
        if self.operator.next.is_none_or(|at| at > self.now) || self.between.hung_until.is_some() {
            return Ok(());
        }
        self.operator.next = None;
        if self.station.is_none() || self.permit {
            return Ok(());
        }
        self.operator.next = Some(self.now + self.operator.reacts_after);
        if std::mem::take(&mut self.operator.clear_first) && self.operator.careful {
            self.world.fault(self.now, WorldFault::ClearBelt);
            return Ok(());
        }
        // Something still covers a sensor, or the station believes so because an edge was lost:
        // whoever stands there takes it away and wipes the eyes.
        self.operator.in_vain += 1;
        if self.operator.in_vain > 3 {
            self.operator.in_vain = 0;
            self.world.fault(self.now, WorldFault::ClearBelt);
            for (input, _) in self.told.clone().into_iter().filter(|told| told.1) {
                self.fault(Fault::World(WorldFault::Wipe { input }))?;
            }
        }
        self.tally.acknowledges += 1;
        if self.operator.uses_button {
            self.world.press_acknowledge(self.now);
            Ok(())
        } else {
            self.handle(Event::Command(Command::Acknowledge))
        }
    }
}
