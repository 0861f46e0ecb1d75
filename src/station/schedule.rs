//! Rejects planned in belt position, fired at absolute times.
//!
//! A part's *window* is the stretch of belt position during which the reject
//! must act on it: from `position + distance + aim` to
//! `position + distance + length + margin`. Windows that overlap become one
//! pulse. A pulse is handed to the output process shortly before it is due and
//! moved as the belt changes its speed.
//!
//! ```text
//!            due within HORIZON          On report             Off report
//!  Planned ───────────────────▶ Sent ───────────────▶ On ───────────────▶ (gone)
//!     ▲                          │ │
//!     └──────────────────────────┘ └── refused or no report: its parts are missed
//!       belt stands: cancelled
//! ```
//! lag: a command acts `lag_on` (`lag_off`) later, so it is given that much earlier.

use crate::config;
use crate::station::belt::Belt;
use crate::station::event::{Action, Entry, PulsePlan};
use crate::station::ledger::{Ledger, Part};
use crate::units::{BeltPosition, Instant, Length, Micros, OutputId, PulseId, Speed};

/// A pulse is handed over this long before it is due: long enough that a busy
/// computer does not delay it, short enough that few commands go stale.
pub const HORIZON: Micros = Micros::from_millis(250);
/// A command closer than this to its instant may arrive too late to move it.
const FREEZE: Micros = Micros::from_millis(3);
/// A pulse is moved when its time is off by this much, plus a 16th of the time
/// that is left: the speed is measured to some 3 %, and without this every jitter
/// of it would be a command. Near the instant itself only the half millisecond is left.
const MOVE_FROM: Micros = Micros::new(500);
const MOVE_SHARE: i64 = 16;
/// The output process reports within this, or it is not there: it beats every 100 ms.
pub const REPORT_WITHIN: Micros = Micros::from_millis(100);

/// Pulses on one line that are on, or whose report is awaited, at once.
const ON_AT_ONCE: usize = 8;

/// A stretch of belt position in which the reject acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub on: BeltPosition,
    pub off: BeltPosition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Planned,
    Sent {
        on_at: Instant,
        off_at: Instant,
    },
    /// `actual` is when the line went on.
    On {
        on_at: Instant,
        off_at: Instant,
        actual: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    pub id: PulseId,
    pub window: Window,
    pub min: Micros,
    pub state: State,
    /// The longest on-time keeps it from covering its window.
    pub clipped: bool,
}

/// What a round of planning came upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planning {
    /// A pulse could not be fired in time, or its report did not come.
    pub fault: bool,
}

#[derive(Clone, Debug)]
pub struct Schedule {
    /// In the order of their windows.
    pulses: Vec<Pulse>,
    next: PulseId,
    output: OutputId,
    lag_on: Micros,
    lag_off: Micros,
    max_on: Micros,
    #[cfg(test)]
    pub lost_merge: bool,
}

/// The window of one part.
pub fn window(part: &Part, recipe: &config::Recipe, reject: &config::Reject) -> Window {
    #[cfg(test)]
    let zero = part.arrival.unwrap_or(part.position);
    #[cfg(not(test))]
    let zero = part.position;
    let middle = zero + reject.distance;
    // A part always gets a window, however far behind its leading edge it is aimed at.
    let on = middle + recipe.aim;
    let off = middle + part.length + recipe.pulse_margin;
    Window {
        on,
        off: off.max(on + Length::from_mm(1)),
    }
}

impl Schedule {
    pub fn new(reject: &config::Reject, capacity: usize) -> Schedule {
        Schedule {
            pulses: Vec::with_capacity(capacity + ON_AT_ONCE),
            next: PulseId(1),
            output: reject.output,
            lag_on: reject.lag_on,
            lag_off: reject.lag_off,
            max_on: reject.max_on,
            #[cfg(test)]
            lost_merge: false,
        }
    }

    pub fn pulses(&self) -> &[Pulse] {
        &self.pulses
    }

    pub fn get(&self, id: PulseId) -> Option<&Pulse> {
        self.pulses.iter().find(|pulse| pulse.id == id)
    }

    /// Plans a window of its own; overlaps are merged by the next [`Schedule::plan`].
    /// One pulse a part in flight at most, and a few that are on while their parts ended.
    pub fn add(&mut self, window: Window, min: Micros) -> PulseId {
        let id = self.next;
        self.next = PulseId(id.0 + 1);
        let place = self
            .pulses
            .iter()
            .rposition(|p| p.window.on <= window.on)
            .map_or(0, |i| i + 1);
        self.pulses.insert(
            place,
            Pulse {
                id,
                window,
                min,
                state: State::Planned,
                clipped: false,
            },
        );
        id
    }

    /// A part of this pulse turned out longer or elsewhere: the hull of its parts' windows.
    pub fn reshape(&mut self, id: PulseId, windows: impl Iterator<Item = Window>) {
        #[cfg(test)]
        if self.lost_merge {
            return;
        }
        let hull = windows.reduce(|a, b| Window {
            on: a.on.min(b.on),
            off: a.off.max(b.off),
        });
        if let (Some(hull), Some(pulse)) = (hull, self.pulses.iter_mut().find(|pulse| pulse.id == id)) {
            pulse.window = hull;
        }
    }

    pub fn remove(&mut self, id: PulseId) -> Option<Pulse> {
        let index = self.pulses.iter().position(|pulse| pulse.id == id)?;
        Some(self.pulses.remove(index))
    }

    /// The line went on.
    pub fn report_on(&mut self, id: PulseId, actual: Instant) {
        let max_on = self.max_on;
        if let Some(pulse) = self.pulses.iter_mut().find(|pulse| pulse.id == id) {
            pulse.state = match pulse.state {
                State::Sent { on_at, off_at } => State::On {
                    on_at,
                    off_at,
                    actual,
                },
                // It went on while our cancel was under way. Its end is not known to us
                // any more: take it for the longest, and the next plan sends the right one.
                State::Planned => State::On {
                    on_at: actual,
                    off_at: actual + max_on,
                    actual,
                },
                on @ State::On { .. } => on,
            };
        }
    }

    /// The output process is gone, and with it what it was told. What it had switched
    /// on is off now; what it had not is planned anew.
    pub fn outputs_lost(&mut self) {
        for pulse in &mut self.pulses {
            if let State::Sent { .. } = pulse.state {
                pulse.state = State::Planned;
            }
        }
    }

    /// Takes back everything that is not on yet. Positions have become void.
    pub fn cancel_all(&mut self, actions: &mut Vec<Action>) {
        self.pulses.retain(|pulse| match pulse.state {
            State::Planned => false,
            State::Sent { .. } => {
                actions.push(Action::Cancel(pulse.id));
                false
            }
            State::On { .. } => true,
        });
    }

    /// Merges, hands over, moves and takes back pulses for the belt as it is now.
    pub fn plan(
        &mut self,
        ledger: &mut Ledger,
        belt: &Belt,
        now: Instant,
        ready: bool,
        actions: &mut Vec<Action>,
    ) -> Planning {
        let mut result = Planning::default();
        self.merge(ledger, belt.speed(now), now, actions);
        let mut free_from = Instant::from_micros(i64::MIN);
        let mut index = 0;
        while index < self.pulses.len() {
            let before = self.pulses[index];
            let times = self.times(&before, belt, now, free_from);
            let keep = match before.state {
                State::Planned => self.hand_over(index, times, ledger, now, ready, actions),
                State::Sent { on_at, off_at } => self.adjust(index, times, (on_at, off_at), now, actions),
                State::On { .. } => self.hold(index, times, belt.runs_back(now), now, actions),
            };
            if keep {
                if let State::Sent { off_at, .. } | State::On { off_at, .. } = self.pulses[index].state {
                    free_from = off_at;
                }
                index += 1;
            } else {
                result.fault = true;
                miss(ledger, before.id);
                self.pulses.remove(index);
            }
        }
        result
    }

    /// When the line has to go on and off for this pulse; `None` while the belt stands.
    fn times(&self, pulse: &Pulse, belt: &Belt, now: Instant, free_from: Instant) -> Option<Times> {
        let on = belt.when(pulse.window.on, now)? - self.lag_on;
        let off = belt.when(pulse.window.off, now)? - self.lag_off;
        Some(Times {
            on: on.max(free_from),
            off,
        })
    }

    /// The end of a pulse that begins at `on_at`, and whether the longest on-time cuts it.
    fn end(&self, on_at: Instant, wanted: Instant, min: Micros) -> (Instant, bool) {
        let wanted = wanted.max(on_at + min);
        let longest = on_at + self.max_on;
        (wanted.min(longest), wanted > longest)
    }

    /// Windows that overlap, on the belt or in commands, become one pulse.
    fn merge(&mut self, ledger: &mut Ledger, speed: Speed, now: Instant, actions: &mut Vec<Action>) {
        self.pulses
            .sort_unstable_by_key(|pulse| (pulse.window.on, pulse.id));
        let mut index = 1;
        while index < self.pulses.len() {
            let (first, second) = (self.pulses[index - 1], self.pulses[index]);
            if !self.overlap(&first, &second, speed) || !still_open(&first, now) || is_on(&second) {
                index += 1;
                continue;
            }
            if let State::Sent { .. } = second.state {
                actions.push(Action::Cancel(second.id));
            }
            self.pulses.remove(index);
            let into = &mut self.pulses[index - 1];
            #[cfg(test)]
            if self.lost_merge {
                into.window = second.window;
            }
            into.window.off = into.window.off.max(second.window.off);
            into.min = into.min.max(second.min);
            relabel(ledger, second.id, into.id, actions, into.state);
        }
    }

    fn overlap(&self, first: &Pulse, second: &Pulse, speed: Speed) -> bool {
        let speed = speed.max(Speed::ZERO);
        let on = second.window.on - speed.travel(self.lag_on);
        let off = first.window.off - speed.travel(self.lag_off);
        let off_by_min = first.window.on + speed.travel(first.min) - speed.travel(self.lag_on);
        second.window.on <= first.window.off || on <= off.max(off_by_min)
    }

    /// A planned pulse: hand it over when it is due soon. False when it came too late.
    fn hand_over(
        &mut self,
        index: usize,
        times: Option<Times>,
        ledger: &Ledger,
        now: Instant,
        ready: bool,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(times) = times else { return true };
        if times.off <= now {
            return false;
        }
        if !ready || times.on.since(now) > HORIZON {
            return true;
        }
        let on_at = times.on.max(now);
        let (off_at, clipped) = self.end(on_at, times.off, self.pulses[index].min);
        let pulse = &mut self.pulses[index];
        pulse.state = State::Sent { on_at, off_at };
        pulse.clipped = clipped;
        let id = pulse.id;
        for part in ledger.parts().iter().filter(|part| part.pulse == Some(id)) {
            actions.push(Action::Record(Entry::Planned {
                part: part.id,
                pulse: id,
                on_at,
                off_at,
            }));
        }
        actions.push(Action::Fire(PulsePlan {
            pulse: id,
            output: self.output,
            on_at,
            off_at,
        }));
        true
    }

    /// A pulse that was handed over and is not on yet. False when it was never heard of again.
    fn adjust(
        &mut self,
        index: usize,
        times: Option<Times>,
        sent: (Instant, Instant),
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> bool {
        let (on_at, off_at) = sent;
        if now > on_at + REPORT_WITHIN {
            return false;
        }
        let pulse = self.pulses[index];
        let movable = now + FREEZE < on_at;
        let Some(times) = times else {
            if movable {
                actions.push(Action::Cancel(pulse.id));
                self.pulses[index].state = State::Planned;
            }
            return true;
        };
        let new_on = times.on.max(now);
        let on_at = if movable && off_by(new_on, on_at, now) {
            new_on
        } else {
            on_at
        };
        let (new_off, clipped) = self.end(on_at, times.off, pulse.min);
        if on_at != sent.0 || off_by(new_off, off_at, now) {
            let state = State::Sent {
                on_at,
                off_at: new_off,
            };
            self.pulses[index] = Pulse {
                state,
                clipped,
                ..pulse
            };
            actions.push(Action::Fire(self.command(pulse.id, on_at, new_off)));
        }
        true
    }

    /// A pulse that is on: only its end moves. While the belt stands the line is held, up to its longest
    /// on-time. On a belt that is pulled back it ends: what comes to the reject then has passed it before,
    /// and a hand is on the belt. False when the end was never reported.
    fn hold(
        &mut self,
        index: usize,
        times: Option<Times>,
        back: bool,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> bool {
        let pulse = self.pulses[index];
        let State::On {
            on_at,
            off_at,
            actual,
        } = pulse.state
        else {
            return true;
        };
        if now > off_at + REPORT_WITHIN {
            return false;
        }
        if now + FREEZE >= off_at {
            return true;
        }
        let wanted = match times {
            _ if back => now + FREEZE,
            Some(times) => times.off.max(now + FREEZE),
            None => Instant::MAX,
        };
        let (new_off, clipped) = self.end(on_at, wanted, pulse.min);
        self.pulses[index].clipped = clipped || back;
        if off_by(new_off, off_at, now) {
            self.pulses[index].state = State::On {
                on_at,
                off_at: new_off,
                actual,
            };
            actions.push(Action::Fire(self.command(pulse.id, on_at, new_off)));
        }
        true
    }

    fn command(&self, pulse: PulseId, on_at: Instant, off_at: Instant) -> PulsePlan {
        PulsePlan {
            pulse,
            output: self.output,
            on_at,
            off_at,
        }
    }

    /// When planning has to look again, apart from the belt's own news.
    pub fn deadline(&self, belt: &Belt, now: Instant) -> Option<Instant> {
        self.pulses
            .iter()
            .filter_map(|pulse| match pulse.state {
                State::Planned => belt
                    .when(pulse.window.on, now)
                    .map(|on| on - self.lag_on - HORIZON)
                    .filter(|&at| at > now)
                    .or_else(|| belt.when(pulse.window.off, now).map(|off| off - self.lag_off)),
                State::Sent { on_at, .. } => Some(on_at + REPORT_WITHIN + Micros::new(1)),
                State::On { off_at, .. } => Some(off_at + REPORT_WITHIN + Micros::new(1)),
            })
            .filter(|&at| at > now)
            .min()
    }

    pub fn verify(&self, ledger: &Ledger) {
        for (i, pulse) in self.pulses.iter().enumerate() {
            assert!(
                pulse.window.on < pulse.window.off,
                "pulse {} has no window",
                pulse.id
            );
            assert!(
                self.pulses[..i].iter().all(|p| p.id != pulse.id),
                "pulse {} is there twice",
                pulse.id
            );
            if let State::Sent { on_at, off_at } | State::On { on_at, off_at, .. } = pulse.state {
                assert!(on_at < off_at, "pulse {} ends before it begins", pulse.id);
                assert!(
                    off_at.since(on_at) <= self.max_on,
                    "pulse {} is longer than allowed",
                    pulse.id
                );
            }
        }
        for part in ledger.parts() {
            if let Some(id) = part
                .pulse
                .filter(|_| part.will_reject && part.struck.is_none() && !part.missed)
            {
                assert!(
                    self.get(id).is_some(),
                    "part {} waits for pulse {id}, which is gone",
                    part.id
                );
            }
        }
    }
}

/// When the line has to go on and off to cover a window; nothing cut yet.
#[derive(Clone, Copy, Debug)]
struct Times {
    on: Instant,
    off: Instant,
}

fn is_on(pulse: &Pulse) -> bool {
    matches!(pulse.state, State::On { .. })
}

/// Its end can still be moved back.
fn still_open(pulse: &Pulse, now: Instant) -> bool {
    match pulse.state {
        State::Planned => true,
        State::Sent { off_at, .. } | State::On { off_at, .. } => now + FREEZE < off_at,
    }
}

fn off_by(new: Instant, sent: Instant, now: Instant) -> bool {
    let ahead = sent.since(now).get().max(0);
    new.since(sent).get().abs() > MOVE_FROM.get() + ahead / MOVE_SHARE
}

/// The parts of pulse `from` now belong to `into`.
fn relabel(ledger: &mut Ledger, from: PulseId, into: PulseId, actions: &mut Vec<Action>, state: State) {
    for part in ledger
        .parts_mut()
        .iter_mut()
        .filter(|part| part.pulse == Some(from))
    {
        part.pulse = Some(into);
        if let State::Sent { on_at, off_at } | State::On { on_at, off_at, .. } = state {
            actions.push(Action::Record(Entry::Planned {
                part: part.id,
                pulse: into,
                on_at,
                off_at,
            }));
        }
    }
}

/// The parts of this pulse that it had not reached stay on the belt. True if there are any.
pub fn miss(ledger: &mut Ledger, id: PulseId) -> bool {
    let mut any = false;
    for part in ledger.parts_mut() {
        if part.pulse == Some(id) && part.struck.is_none() {
            part.missed = true;
            any = true;
        }
    }
    any
}
