//! The planned pulses and held levels of all lines: what is due, and what is safe.
//!
//! Pure: time comes in as a value, line changes and reports go out as [`Effect`]s.
//! `elek outputs` drives it with the monotonic clock, the simulation with virtual time.
//! Nothing here allocates; the caller's list of effects never needs more than [`EFFECTS_MAX`].

use crate::config::{Config, OutputLine};
use crate::station::event::{Action, Event, PulsePlan, PulseRefusal, PulseReport};
use crate::units::{Instant, Micros, OutputId, PulseId};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// Most lines one station has; validation of the config refuses more.
pub const LINES_MAX: usize = 16;

/// Most pulses planned or running at once: many times the parts that fit between
/// photo-eye and reject, so a full table means that the core is out of order.
pub const PULSES_MAX: usize = 64;

/// Most effects of one call: each pulse starts and ends with a line change, or is refused and
/// ends; each line is cut, and made safe; then the word for it.
pub const EFFECTS_MAX: usize = 4 * PULSES_MAX + 2 * LINES_MAX + 2;

/// A pulse that starts later than this after its `on_at` is refused: at 1 m/s the
/// part has moved on by 2 mm, less than any sensible pulse margin.
pub const LATE_MAX: Micros = Micros::from_millis(2);

/// Longest silence of the core. Outputs have to be safe within 100 ms of its
/// death or hang; 5 ms of that are left for waking up and switching.
pub const HEARTBEAT_MAX: Micros = Micros::from_millis(95);

/// A pulse planned further ahead is nonsense: a belt may creep, but not for a day;
/// wall-clock time mistaken for monotonic time is decades ahead.
pub const AHEAD_MAX: Micros = Micros::from_secs(24 * 3600);

/// How many ended pulses are remembered, so that a re-plan that crosses the end of
/// its pulse is not taken for a new one.
const ENDED_MAX: usize = 32;

/// What the table must know of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineSpec {
    /// The logical level in the safe state.
    pub safe_on: bool,
    /// Longest time on: the line is pulsed. `None`: the line is held.
    pub max_on: Option<Micros>,
}

/// What `elek run` wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// A known pulse is replaced: before it starts both times may move, then only its end.
    Fire(PulsePlan),
    /// Forget a pulse that has not started; no report follows.
    Cancel(PulseId),
    /// Hold a level.
    Set { output: OutputId, active: bool },
    /// The core's loop turns.
    Heartbeat,
    /// The core ends on purpose: everything safe, now.
    Bye,
}

/// What comes of an order or of time passing, to be carried out in this sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Switch the line to this logical level now.
    Level { output: OutputId, active: bool },
    /// The pulse began with the line change before this one (or on a line already on).
    Started { pulse: PulseId, planned: Instant },
    /// The pulse is over. The line went off, unless another pulse still holds it on.
    Ended { pulse: PulseId, planned: Instant },
    /// Not carried out; after `MaxOnReached` an `Ended` of the same pulse follows.
    Refused { pulse: PulseId, refusal: PulseRefusal },
    /// Every line is safe and every pulse forgotten; nothing is obeyed before the next `open`.
    Safe { cause: SafeCause },
}

/// Why the lines are in their safe state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SafeCause {
    /// No session has been opened yet.
    Start,
    /// The other side is gone.
    Closed,
    /// The other side said good-bye.
    Bye,
    /// No heartbeat for [`HEARTBEAT_MAX`].
    Hung,
    /// The other side sent something that makes no sense.
    Nonsense,
    /// A line could not be switched.
    LineFault,
    /// The output process itself was asked to end.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Pulse {
    plan: PulsePlan,
    started: bool,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    spec: LineSpec,
    active: bool,
    /// When the pulse or run of overlapping pulses that holds the line on began.
    on_since: Option<Instant>,
}

/// The heart of the output process. See the module's head for the states.
#[derive(Clone, Debug)]
pub struct Table {
    lines: ArrayVec<Line, LINES_MAX>,
    pulses: ArrayVec<Pulse, PULSES_MAX>,
    ended: ArrayVec<PulseId, ENDED_MAX>,
    /// `None` while a session is open.
    safe: Option<SafeCause>,
    heartbeat: Instant,
}

/// A change whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    // In this order at the same instant: a pulse that begins as another one ends keeps
    // the line on without a glitch, and a pulse of exactly the longest on-time is no fault.
    Start(usize),
    End(usize),
    Cut(usize),
    Hung,
}

impl Table {
    /// A table without lines, in the safe state.
    pub fn new() -> Self {
        Table {
            lines: ArrayVec::new(),
            pulses: ArrayVec::new(),
            ended: ArrayVec::new(),
            safe: Some(SafeCause::Start),
            heartbeat: Instant::ZERO,
        }
    }

    /// Begins a session: pulsed lines go off, held lines stay safe until they are set.
    /// Every line gets its level, whatever it had before. More than [`LINES_MAX`] lines are refused.
    pub fn open(&mut self, now: Instant, lines: &[LineSpec], effects: &mut Vec<Effect>) -> bool {
        if lines.len() > LINES_MAX {
            return false;
        }
        self.make_safe(SafeCause::Closed, effects);
        self.lines.clear();
        self.ended.clear();
        for (index, &spec) in lines.iter().enumerate() {
            let active = spec.max_on.is_none() && spec.safe_on;
            self.lines.push(Line {
                spec,
                active,
                on_since: None,
            });
            effects.push(Effect::Level {
                output: OutputId(index as u8),
                active,
            });
        }
        self.safe = None;
        self.heartbeat = now;
        true
    }

    /// Takes an order. Without a session it is not obeyed, whatever it is.
    /// What the order makes due at once is left to [`Table::due`], so that all orders
    /// that have arrived are taken before the silence of the core is judged.
    pub fn command(&mut self, now: Instant, order: Order, effects: &mut Vec<Effect>) {
        if self.safe.is_some() {
            return;
        }
        match order {
            Order::Fire(plan) => self.fire(now, plan, effects),
            Order::Cancel(pulse) => {
                if let Some(at) = self.find(pulse)
                    && !self.pulses[at].started
                {
                    self.pulses.remove(at);
                }
            }
            Order::Set { output, active } => match self.lines.get_mut(usize::from(output.0)) {
                Some(line) if line.spec.max_on.is_none() => {
                    if line.active != active {
                        line.active = active;
                        effects.push(Effect::Level { output, active });
                    }
                }
                _ => self.make_safe(SafeCause::Nonsense, effects),
            },
            Order::Heartbeat => self.heartbeat = self.heartbeat.max(now),
            Order::Bye => self.make_safe(SafeCause::Bye, effects),
        }
    }

    fn fire(&mut self, now: Instant, plan: PulsePlan, effects: &mut Vec<Effect>) {
        if self.ended.contains(&plan.pulse) {
            return; // a re-plan that crossed the end; the pulse's last report is the answer
        }
        let known = self.find(plan.pulse);
        let line = self.lines.get(usize::from(plan.output.0));
        let sane = line.is_some_and(|line| line.spec.max_on.is_some())
            && plan.off_at > plan.on_at
            && plan.off_at.since(now) <= AHEAD_MAX
            && known.is_none_or(|at| self.pulses[at].plan.output == plan.output);
        if !sane {
            effects.push(Effect::Refused {
                pulse: plan.pulse,
                refusal: PulseRefusal::Nonsense,
            });
            return self.make_safe(SafeCause::Nonsense, effects);
        }
        if let Some(at) = known
            && self.pulses[at].started
        {
            self.pulses[at].plan.off_at = plan.off_at;
        } else if too_late(now, &plan) {
            if let Some(at) = known {
                self.pulses.remove(at);
            }
            self.refuse(plan.pulse, PulseRefusal::TooLate, effects);
        } else if let Some(at) = known {
            self.pulses[at].plan = plan;
        } else if self.pulses.try_push(Pulse { plan, started: false }).is_err() {
            self.refuse(plan.pulse, PulseRefusal::Full, effects);
        }
    }

    /// Does all that is due by `now`, in the order of its planned time.
    pub fn due(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while self.safe.is_none() {
            match self.next() {
                Some((at, due)) if at <= now => self.carry_out(now, due, effects),
                _ => return,
            }
        }
    }

    fn carry_out(&mut self, now: Instant, due: Due, effects: &mut Vec<Effect>) {
        match due {
            Due::Start(at) => {
                let plan = self.pulses[at].plan;
                if too_late(now, &plan) {
                    self.pulses.remove(at);
                    return self.refuse(plan.pulse, PulseRefusal::TooLate, effects);
                }
                self.pulses[at].started = true;
                let line = &mut self.lines[usize::from(plan.output.0)];
                if line.on_since.is_none() {
                    line.on_since = Some(now);
                    line.active = true;
                    effects.push(Effect::Level {
                        output: plan.output,
                        active: true,
                    });
                }
                effects.push(Effect::Started {
                    pulse: plan.pulse,
                    planned: plan.on_at,
                });
            }
            Due::End(at) => {
                let plan = self.pulses.remove(at).plan;
                if !self
                    .pulses
                    .iter()
                    .any(|other| other.started && other.plan.output == plan.output)
                {
                    self.switch_off(plan.output, effects);
                }
                self.remember(plan.pulse);
                effects.push(Effect::Ended {
                    pulse: plan.pulse,
                    planned: plan.off_at,
                });
            }
            Due::Cut(line) => {
                let output = OutputId(line as u8);
                self.switch_off(output, effects);
                let cut = |pulse: &Pulse| pulse.started && pulse.plan.output == output;
                while let Some(at) = self.pulses.iter().position(cut) {
                    let plan = self.pulses.remove(at).plan;
                    self.refuse(plan.pulse, PulseRefusal::MaxOnReached, effects);
                    effects.push(Effect::Ended {
                        pulse: plan.pulse,
                        planned: plan.off_at,
                    });
                }
            }
            Due::Hung => self.make_safe(SafeCause::Hung, effects),
        }
    }

    /// When [`Table::due`] has to be called next; `None` without a session.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next().map(|(at, _)| at)
    }

    fn next(&self) -> Option<(Instant, Due)> {
        if self.safe.is_some() {
            return None;
        }
        let pulses = self
            .pulses
            .iter()
            .enumerate()
            .map(|(at, pulse)| match pulse.started {
                false => (pulse.plan.on_at, Due::Start(at)),
                true => (pulse.plan.off_at, Due::End(at)),
            });
        let cuts = self.lines.iter().enumerate().filter_map(|(at, line)| {
            // A line with `on_since` is pulsed, so it has a longest on-time.
            Some((line.on_since? + line.spec.max_on?, Due::Cut(at)))
        });
        let hung = (self.heartbeat + HEARTBEAT_MAX, Due::Hung);
        pulses.chain(cuts).chain([hung]).min()
    }

    /// Puts every line into its safe state and forgets every pulse, running ones with a report.
    /// Every line gets its level again, even if it should have it already. Once is enough.
    pub fn make_safe(&mut self, cause: SafeCause, effects: &mut Vec<Effect>) {
        if self.safe.is_some() {
            return;
        }
        for (index, line) in self.lines.iter_mut().enumerate() {
            line.active = line.spec.safe_on;
            line.on_since = None;
            effects.push(Effect::Level {
                output: OutputId(index as u8),
                active: line.active,
            });
        }
        for pulse in self.pulses.drain(..).filter(|pulse| pulse.started) {
            effects.push(Effect::Ended {
                pulse: pulse.plan.pulse,
                planned: pulse.plan.off_at,
            });
        }
        self.safe = Some(cause);
        effects.push(Effect::Safe { cause });
    }

    /// Why everything is safe; `None` while a session is open.
    pub fn safe(&self) -> Option<SafeCause> {
        self.safe
    }

    /// The logical level of a line; `None` for an unknown line.
    pub fn level(&self, output: OutputId) -> Option<bool> {
        self.lines.get(usize::from(output.0)).map(|line| line.active)
    }

    fn find(&self, pulse: PulseId) -> Option<usize> {
        self.pulses.iter().position(|known| known.plan.pulse == pulse)
    }

    fn switch_off(&mut self, output: OutputId, effects: &mut Vec<Effect>) {
        let line = &mut self.lines[usize::from(output.0)];
        line.active = false;
        line.on_since = None;
        effects.push(Effect::Level {
            output,
            active: false,
        });
    }

    fn refuse(&mut self, pulse: PulseId, refusal: PulseRefusal, effects: &mut Vec<Effect>) {
        self.remember(pulse);
        effects.push(Effect::Refused { pulse, refusal });
    }

    fn remember(&mut self, pulse: PulseId) {
        if self.ended.is_full() {
            self.ended.remove(0);
        }
        self.ended.push(pulse);
    }

    /// Panics with words when the table contradicts itself.
    pub fn verify_invariants(&self) {
        for (at, pulse) in self.pulses.iter().enumerate() {
            let id = pulse.plan.pulse;
            assert_eq!(self.find(id), Some(at), "pulse {id} is planned twice");
            assert!(!self.ended.contains(&id), "pulse {id} is both planned and over");
            let line = self.lines.get(usize::from(pulse.plan.output.0));
            let line = line.unwrap_or_else(|| panic!("pulse {id} is planned on no line"));
            assert!(line.spec.max_on.is_some(), "pulse {id} is planned on a held line");
            assert!(
                !pulse.started || line.active,
                "pulse {id} runs, but its line is off"
            );
        }
        for (index, line) in self.lines.iter().enumerate() {
            if self.safe.is_some() {
                assert_eq!(line.active, line.spec.safe_on, "line {index} is not safe");
                continue;
            }
            let runs = |pulse: &Pulse| pulse.started && usize::from(pulse.plan.output.0) == index;
            let pulsed = self.pulses.iter().any(runs);
            assert_eq!(
                line.on_since.is_some(),
                pulsed,
                "line {index}: on-time and pulses disagree"
            );
            if line.spec.max_on.is_some() {
                assert_eq!(
                    line.active, pulsed,
                    "line {index} is on without a pulse, or off in one"
                );
            }
        }
        assert!(
            self.safe.is_none() || self.pulses.is_empty(),
            "pulses are planned in the safe state"
        );
    }
}

impl Default for Table {
    fn default() -> Self {
        Table::new()
    }
}

fn too_late(now: Instant, plan: &PulsePlan) -> bool {
    now.since(plan.on_at) > LATE_MAX || plan.off_at <= now
}

impl LineSpec {
    /// All lines of a station, in the order of `OutputId`.
    pub fn of(config: &Config) -> Vec<LineSpec> {
        config.outputs.iter().map(LineSpec::from).collect()
    }
}

impl From<&OutputLine> for LineSpec {
    fn from(line: &OutputLine) -> Self {
        LineSpec {
            safe_on: line.safe_on,
            max_on: line.max_on,
        }
    }
}

impl Order {
    /// The order in an action of the station core; `None` for actions that are not for outputs.
    pub fn from_action(action: &Action) -> Option<Order> {
        match *action {
            Action::Fire(plan) => Some(Order::Fire(plan)),
            Action::Cancel(pulse) => Some(Order::Cancel(pulse)),
            Action::Set { output, active } => Some(Order::Set { output, active }),
            Action::Record(_) | Action::Inspect(_) | Action::Release { .. } => None,
        }
    }
}

impl Effect {
    /// What the station core hears of it; `at` is when it really happened.
    pub fn event(self, at: Instant) -> Option<Event> {
        match self {
            Effect::Level { .. } => None,
            Effect::Started { pulse, .. } => Some(Event::Pulse {
                pulse,
                report: PulseReport::On { at },
            }),
            Effect::Ended { pulse, .. } => Some(Event::Pulse {
                pulse,
                report: PulseReport::Off { at },
            }),
            Effect::Refused { pulse, refusal } => Some(Event::Pulse {
                pulse,
                report: PulseReport::Refused(refusal),
            }),
            Effect::Safe { .. } => Some(Event::OutputsReady(false)),
        }
    }
}

impl SafeCause {
    /// In words, for the log.
    pub fn words(self) -> &'static str {
        match self {
            SafeCause::Start => "no session yet",
            SafeCause::Closed => "the other side closed the session",
            SafeCause::Bye => "the other side said good-bye",
            SafeCause::Hung => "no heartbeat for 95 ms: the other side hangs",
            SafeCause::Nonsense => "the other side sent nonsense",
            SafeCause::LineFault => "a line could not be switched",
            SafeCause::Ended => "the output process was asked to end",
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
