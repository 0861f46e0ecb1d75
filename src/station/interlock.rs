//! Alarms and the permit: what lets the belt run, and what stops it.
//!
//! An alarm is *present* while its cause is there, and stays *latched* until a
//! person acknowledges it. A *stopping* alarm takes the permit away, and the
//! permit comes back only by an acknowledge after the cause is gone
//! (invariant 6). Nothing else ever switches the permit on.
//!
//! ```text
//!            start                 acknowledge, nothing that stops is present
//!   ──────────────────▶ permit off ───────────────────────────▶ permit on
//!                            ▲                                      │
//!                            └──────────────────────────────────────┘
//!                 stopping alarm · outputs gone · Command::Stop
//! ```

use crate::station::event::{Action, AlarmKind, Entry};
use crate::units::{Instant, OutputId};
use arrayvec::ArrayVec;

/// One of each kind; `alarm::ALL` has fewer.
const ALARMS_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub kind: AlarmKind,
    /// The cause is still there.
    pub present: bool,
    /// It takes the permit away.
    pub stops: bool,
    /// A person took note while it did not stop the belt.
    pub noted: bool,
    pub since: Instant,
    /// When its cause last came up: nobody can have known of it before.
    raised: Instant,
}

#[derive(Clone, Debug)]
pub struct Interlock {
    alarms: ArrayVec<Alarm, ALARMS_MAX>,
    /// A person let the belt run, and nothing stopped it since.
    acknowledged: bool,
    outputs_ready: bool,
    permit: (OutputId, bool),
    beacon: Option<(OutputId, bool)>,
    /// The levels must be told again although they did not change.
    told: bool,
}

impl Interlock {
    pub fn new(permit: OutputId, beacon: Option<OutputId>) -> Interlock {
        Interlock {
            alarms: ArrayVec::new(),
            acknowledged: false,
            outputs_ready: false,
            permit: (permit, false),
            beacon: beacon.map(|output| (output, false)),
            told: false,
        }
    }

    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    pub fn permit(&self) -> bool {
        self.permit.1
    }

    pub fn outputs_ready(&self) -> bool {
        self.outputs_ready
    }

    pub fn stopped(&self) -> bool {
        self.alarms.iter().any(|alarm| alarm.stops)
    }

    /// An alarm that just happened and is over: latched until acknowledged.
    pub fn happened(&mut self, kind: AlarmKind, stops: bool, at: Instant, actions: &mut Vec<Action>) {
        self.raise(kind, false, stops, at, actions);
    }

    /// An alarm whose cause stays until [`Interlock::clear`].
    pub fn present(&mut self, kind: AlarmKind, stops: bool, at: Instant, actions: &mut Vec<Action>) {
        self.raise(kind, true, stops, at, actions);
    }

    fn raise(&mut self, kind: AlarmKind, present: bool, stops: bool, at: Instant, actions: &mut Vec<Action>) {
        self.acknowledged &= !stops;
        if let Some(alarm) = self.alarms.iter_mut().find(|alarm| alarm.kind == kind) {
            if !(present && alarm.present) {
                alarm.raised = at;
            }
            alarm.present |= present;
            alarm.stops |= stops;
            alarm.noted &= !stops;
            return;
        }
        self.alarms.push(Alarm {
            kind,
            present,
            stops,
            noted: false,
            since: at,
            raised: at,
        });
        actions.push(Action::Record(Entry::Alarm {
            alarm: kind,
            raised: true,
            at,
        }));
    }

    /// The cause is gone. What stopped the belt stays latched; the rest goes if noted.
    pub fn clear(&mut self, kind: AlarmKind, at: Instant, actions: &mut Vec<Action>) {
        if let Some(alarm) = self
            .alarms
            .iter_mut()
            .find(|alarm| alarm.kind == kind && alarm.present)
        {
            alarm.present = false;
        }
        self.drop_where(
            |alarm| alarm.kind == kind && !alarm.present && alarm.noted,
            at,
            actions,
        );
    }

    fn drop_where(&mut self, gone: impl Fn(&Alarm) -> bool, at: Instant, actions: &mut Vec<Action>) {
        self.alarms.retain(|alarm| {
            let gone = gone(alarm);
            if gone {
                actions.push(Action::Record(Entry::Alarm {
                    alarm: alarm.kind,
                    raised: false,
                    at,
                }));
            }
            !gone
        });
    }

    /// A person takes note of everything that was to be seen before `acted`. True if the belt may run now.
    pub fn acknowledge(&mut self, acted: Instant, at: Instant, actions: &mut Vec<Action>) -> bool {
        actions.push(Action::Record(Entry::Acknowledged { at }));
        // That nobody has acknowledged since the start is no news to the one who does.
        let unseen = |alarm: &Alarm| alarm.raised >= acted && alarm.kind != AlarmKind::AcknowledgeNeeded;
        let blocked = self
            .alarms
            .iter()
            .any(|alarm| alarm.stops && (alarm.present || unseen(alarm)));
        self.acknowledged = self.outputs_ready && !blocked;
        let acknowledged = self.acknowledged;
        for alarm in &mut self.alarms {
            alarm.noted |= !alarm.stops && !unseen(alarm);
        }
        let gone = |alarm: &Alarm| {
            let answered = acknowledged || alarm.kind != AlarmKind::AcknowledgeNeeded;
            !alarm.present && !unseen(alarm) && answered
        };
        self.drop_where(gone, at, actions);
        acknowledged
    }

    pub fn set_outputs_ready(&mut self, ready: bool) {
        self.outputs_ready = ready;
        self.acknowledged &= ready;
        // A process that comes (again) knows no level: it starts from the safe state.
        self.told = false;
    }

    #[cfg(test)]
    pub fn plant_permit_after_restart(&mut self) {
        self.acknowledged = true;
        self.outputs_ready = true;
    }

    /// Puts permit and beacon to what the alarms ask for. Returns the new permit if it changed.
    pub fn settle(&mut self, ending: bool, at: Instant, actions: &mut Vec<Action>) -> Option<bool> {
        let on = self.acknowledged && self.outputs_ready && !ending && !self.stopped();
        let changed = on != self.permit.1;
        self.permit.1 = on;
        if changed {
            actions.push(Action::Record(Entry::Permit { on, at }));
        }
        let lit = !self.alarms.is_empty();
        let beacon_changed = self.beacon.is_some_and(|(_, active)| active != lit);
        if changed || !self.told {
            actions.push(Action::Set {
                output: self.permit.0,
                active: on,
            });
        }
        if let Some((output, active)) = &mut self.beacon
            && (beacon_changed || !self.told)
        {
            *active = lit;
            actions.push(Action::Set {
                output: *output,
                active: lit,
            });
        }
        self.told = true;
        changed.then_some(on)
    }

    pub fn verify(&self) {
        if self.permit.1 {
            assert!(self.acknowledged, "permit on although nobody acknowledged");
            assert!(self.outputs_ready, "permit on although the outputs are gone");
            assert!(!self.stopped(), "permit on in spite of {:?}", self.alarms);
        }
        for (i, alarm) in self.alarms.iter().enumerate() {
            assert!(
                self.alarms[..i].iter().all(|a| a.kind != alarm.kind),
                "{:?} is there twice",
                alarm.kind
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Instant = Instant::ZERO;
    /// A person who has seen all that was raised at `T`.
    const LATER: Instant = Instant::from_micros(1);

    fn ready() -> (Interlock, Vec<Action>) {
        let mut lock = Interlock::new(OutputId(0), Some(OutputId(1)));
        lock.set_outputs_ready(true);
        (lock, Vec::new())
    }

    fn set(actions: &mut Vec<Action>, id: u8) -> Option<bool> {
        let set = actions.iter().rev().find_map(|action| match action {
            Action::Set { output, active } if output.0 == id => Some(*active),
            _ => None,
        });
        actions.clear();
        set
    }

    #[test]
    fn only_an_acknowledge_lets_the_belt_run() {
        let (mut lock, mut out) = ready();
        lock.settle(false, T, &mut out);
        assert_eq!(set(&mut out, 0), Some(false));
        assert!(lock.acknowledge(LATER, T, &mut out));
        assert_eq!(lock.settle(false, T, &mut out), Some(true));
        assert_eq!(set(&mut out, 0), Some(true));
        lock.settle(false, T, &mut out);
        assert_eq!(out, [], "nothing is said twice");
    }

    #[test]
    fn a_stopping_alarm_needs_its_cause_gone_and_then_a_person() {
        let (mut lock, mut out) = ready();
        lock.acknowledge(LATER, T, &mut out);
        lock.settle(false, T, &mut out);
        lock.present(AlarmKind::BinFull, true, T, &mut out);
        assert_eq!(lock.settle(false, T, &mut out), Some(false));
        assert!(!lock.acknowledge(LATER, T, &mut out), "the bin is still full");
        lock.clear(AlarmKind::BinFull, T, &mut out);
        assert_eq!(
            lock.settle(false, T, &mut out),
            None,
            "it does not start by itself"
        );
        assert_eq!(lock.alarms().len(), 1, "and still says why");
        assert!(lock.acknowledge(LATER, T, &mut out));
        assert_eq!(lock.settle(false, T, &mut out), Some(true));
        assert_eq!(lock.alarms(), []);
    }

    #[test]
    fn a_warning_stays_until_it_is_both_noted_and_over() {
        let (mut lock, mut out) = ready();
        lock.acknowledge(LATER, T, &mut out);
        lock.present(
            AlarmKind::Trouble(crate::station::event::Trouble::Record),
            false,
            T,
            &mut out,
        );
        lock.happened(AlarmKind::LateResult, false, T, &mut out);
        assert_eq!(
            lock.settle(false, T, &mut out),
            Some(true),
            "it does not stop the belt"
        );
        assert_eq!(set(&mut out, 1), Some(true), "but lights the beacon");
        lock.acknowledge(LATER, T, &mut out);
        assert_eq!(lock.alarms().len(), 1);
        lock.clear(
            AlarmKind::Trouble(crate::station::event::Trouble::Record),
            T,
            &mut out,
        );
        assert_eq!(lock.alarms(), []);
        lock.settle(false, T, &mut out);
        assert_eq!(set(&mut out, 1), Some(false));
    }

    #[test]
    fn without_outputs_nobody_can_let_the_belt_run() {
        let (mut lock, mut out) = ready();
        lock.set_outputs_ready(false);
        assert!(!lock.acknowledge(LATER, T, &mut out));
        lock.set_outputs_ready(true);
        lock.settle(false, T, &mut out);
        assert!(!lock.permit(), "the acknowledge of before does not count");
        lock.acknowledge(LATER, T, &mut out);
        lock.settle(false, T, &mut out);
        out.clear();
        lock.set_outputs_ready(false);
        assert_eq!(lock.settle(false, T, &mut out), Some(false));
        out.clear();
        lock.set_outputs_ready(true);
        lock.settle(false, T, &mut out);
        assert_eq!(
            set(&mut out, 0),
            Some(false),
            "a process that comes again is told the level"
        );
    }

    #[test]
    fn an_alarm_that_was_raised_when_the_person_acted_waits_for_the_next_time() {
        let (mut lock, mut out) = ready();
        lock.acknowledge(LATER, T, &mut out);
        lock.settle(false, T, &mut out);
        let alarm = Instant::from_micros(1_000);
        lock.happened(AlarmKind::Escape, true, alarm, &mut out);
        lock.happened(AlarmKind::LateResult, false, alarm, &mut out);
        for acted in [999, 1_000] {
            let acted = Instant::from_micros(acted);
            assert!(!lock.acknowledge(acted, alarm, &mut out), "nobody has seen it");
            lock.settle(false, alarm, &mut out);
            assert!(!lock.permit());
            assert_eq!(lock.alarms().len(), 2, "and both still say why");
        }
        // It comes again before the person is at the button.
        let again = Instant::from_micros(5_000);
        lock.happened(AlarmKind::Escape, true, again, &mut out);
        assert!(!lock.acknowledge(Instant::from_micros(4_000), again, &mut out));
        assert_eq!(lock.alarms().len(), 1, "the one from before is taken note of");
        assert!(lock.acknowledge(Instant::from_micros(5_001), again, &mut out));
        assert_eq!(lock.alarms(), []);
    }

    #[test]
    fn a_cause_that_lasts_is_not_raised_anew_by_being_told_again() {
        let (mut lock, mut out) = ready();
        lock.present(AlarmKind::BinFull, true, T, &mut out);
        let later = Instant::from_micros(9_000);
        lock.present(AlarmKind::BinFull, true, later, &mut out);
        lock.clear(AlarmKind::BinFull, later, &mut out);
        assert!(lock.acknowledge(LATER, later, &mut out));
    }
}
