use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const REJECT: OutputId = OutputId(0);
const GATE: OutputId = OutputId(1);
const PERMIT: OutputId = OutputId(2);
const BEACON: OutputId = OutputId(3);
const MAX_ON: Micros = Micros::from_millis(20);

fn lines() -> [LineSpec; 4] {
    [
        LineSpec {
            safe_on: false,
            max_on: Some(MAX_ON),
        },
        LineSpec {
            safe_on: true,
            max_on: Some(MAX_ON),
        },
        LineSpec {
            safe_on: false,
            max_on: None,
        },
        LineSpec {
            safe_on: true,
            max_on: None,
        },
    ]
}

fn us(us: i64) -> Instant {
    Instant::from_micros(us)
}

fn plan(pulse: u64, output: OutputId, on_us: i64, off_us: i64) -> PulsePlan {
    PulsePlan {
        pulse: PulseId(pulse),
        output,
        on_at: us(on_us),
        off_at: us(off_us),
    }
}

fn level(output: OutputId, active: bool) -> Effect {
    Effect::Level { output, active }
}

fn started(pulse: u64, planned_us: i64) -> Effect {
    Effect::Started {
        pulse: PulseId(pulse),
        planned: us(planned_us),
    }
}

fn ended(pulse: u64, planned_us: i64) -> Effect {
    Effect::Ended {
        pulse: PulseId(pulse),
        planned: us(planned_us),
    }
}

fn refused(pulse: u64, refusal: PulseRefusal) -> Effect {
    Effect::Refused {
        pulse: PulseId(pulse),
        refusal,
    }
}

fn open() -> Table {
    let mut table = Table::new();
    assert!(table.open(us(0), &lines(), &mut Vec::new()));
    table
}

fn order(table: &mut Table, now_us: i64, order: Order) -> Vec<Effect> {
    let mut effects = Vec::new();
    table.command(us(now_us), order, &mut effects);
    table.verify_invariants();
    effects
}

/// Lets time pass with the core alive, waking exactly when asked to.
fn pass(table: &mut Table, from_us: i64, to_us: i64) -> Vec<(i64, Effect)> {
    let mut seen = Vec::new();
    let mut now = from_us;
    while now < to_us {
        table.command(us(now), Order::Heartbeat, &mut Vec::new());
        let next = table.next_deadline().map_or(to_us, |at| at.as_micros());
        now = next.min(now + 25_000).min(to_us);
        let mut effects = Vec::new();
        table.due(us(now), &mut effects);
        table.verify_invariants();
        seen.extend(effects.into_iter().map(|effect| (now, effect)));
    }
    seen
}

#[test]
fn a_session_begins_with_pulsed_lines_off_and_held_lines_safe() {
    let mut table = Table::new();
    assert_eq!(table.safe(), Some(SafeCause::Start));
    let mut effects = Vec::new();
    assert!(table.open(us(0), &lines(), &mut effects));
    let levels = [
        level(REJECT, false),
        level(GATE, false),
        level(PERMIT, false),
        level(BEACON, true),
    ];
    assert_eq!(effects, levels);
    assert!(!table.open(us(0), &[lines()[0]; LINES_MAX + 1], &mut effects));
}

#[test]
fn a_pulse_goes_on_and_off_at_its_times() {
    let mut table = open();
    assert_eq!(
        order(&mut table, 0, Order::Fire(plan(7, REJECT, 10_000, 15_000))),
        []
    );
    assert_eq!(table.next_deadline(), Some(us(10_000)));
    let seen = pass(&mut table, 0, 30_000);
    let on = [(10_000, level(REJECT, true)), (10_000, started(7, 10_000))];
    let off = [(15_000, level(REJECT, false)), (15_000, ended(7, 15_000))];
    assert_eq!(seen, [on, off].concat());
}

#[test]
fn overlapping_pulses_keep_the_line_on_until_the_last_ends() {
    let mut table = open();
    order(&mut table, 0, Order::Fire(plan(1, REJECT, 10_000, 15_000)));
    order(&mut table, 0, Order::Fire(plan(2, REJECT, 13_000, 18_000)));
    order(&mut table, 0, Order::Fire(plan(3, REJECT, 18_000, 20_000)));
    let expected = [
        (10_000, level(REJECT, true)),
        (10_000, started(1, 10_000)),
        (13_000, started(2, 13_000)),
        (15_000, ended(1, 15_000)),
        (18_000, started(3, 18_000)),
        (18_000, ended(2, 18_000)),
        (20_000, level(REJECT, false)),
        (20_000, ended(3, 20_000)),
    ];
    assert_eq!(pass(&mut table, 0, 30_000), expected);
}

#[test]
fn a_run_of_pulses_is_cut_at_the_longest_on_time_and_says_so() {
    let mut table = open();
    order(&mut table, 0, Order::Fire(plan(1, REJECT, 10_000, 25_000)));
    order(&mut table, 0, Order::Fire(plan(2, REJECT, 24_000, 40_000)));
    order(&mut table, 0, Order::Fire(plan(3, REJECT, 45_000, 65_000)));
    let seen = pass(&mut table, 0, 80_000);
    let cut = [
        level(REJECT, false),
        refused(2, PulseRefusal::MaxOnReached),
        ended(2, 40_000),
    ]
    .map(|e| (30_000, e));
    assert_eq!(seen[4..7], cut);
    // A pulse of exactly the longest on-time is none too long.
    assert_eq!(
        seen[9..],
        [(65_000, level(REJECT, false)), (65_000, ended(3, 65_000))]
    );
}

#[test]
fn a_late_pulse_is_refused_and_a_slightly_late_one_fired() {
    let mut table = open();
    let late = order(&mut table, 10_000, Order::Fire(plan(1, REJECT, 7_999, 20_000)));
    assert_eq!(late, [refused(1, PulseRefusal::TooLate)]);
    assert_eq!(
        order(&mut table, 10_000, Order::Fire(plan(2, REJECT, 8_000, 20_000))),
        []
    );
    let mut effects = Vec::new();
    table.due(us(10_000), &mut effects);
    assert_eq!(effects, [level(REJECT, true), started(2, 8_000)]);
    // Over before it could begin: no needle-thin pulse.
    let over = order(&mut table, 10_000, Order::Fire(plan(3, REJECT, 9_000, 10_000)));
    assert_eq!(over, [refused(3, PulseRefusal::TooLate)]);
}

#[test]
fn a_process_that_overslept_does_not_fire_at_the_next_part() {
    let mut table = open();
    order(&mut table, 0, Order::Fire(plan(1, REJECT, 10_000, 25_000)));
    let mut effects = Vec::new();
    table.due(us(12_001), &mut effects);
    assert_eq!(effects, [refused(1, PulseRefusal::TooLate)]);
}

#[test]
fn a_replan_moves_both_times_before_the_start_and_the_end_after_it() {
    let mut table = open();
    order(&mut table, 0, Order::Fire(plan(1, REJECT, 10_000, 15_000)));
    order(&mut table, 0, Order::Fire(plan(1, REJECT, 12_000, 17_000)));
    assert_eq!(table.next_deadline(), Some(us(12_000)));
    pass(&mut table, 0, 12_000);
    order(&mut table, 13_000, Order::Fire(plan(1, REJECT, 20_000, 21_000)));
    assert_eq!(table.next_deadline(), Some(us(21_000)));
    let seen = pass(&mut table, 13_000, 30_000);
    assert_eq!(seen, [(21_000, level(REJECT, false)), (21_000, ended(1, 21_000))]);
    // The re-plan that crosses the end changes nothing and is no fault.
    assert_eq!(
        order(&mut table, 30_000, Order::Fire(plan(1, REJECT, 20_000, 32_000))),
        []
    );
    assert_eq!(pass(&mut table, 30_000, 60_000), []);
}

#[test]
fn a_cancel_stops_what_has_not_started() {
    let mut table = open();
    order(&mut table, 0, Order::Fire(plan(1, REJECT, 10_000, 15_000)));
    order(&mut table, 0, Order::Fire(plan(2, REJECT, 20_000, 25_000)));
    order(&mut table, 0, Order::Cancel(PulseId(2)));
    pass(&mut table, 0, 12_000);
    order(&mut table, 12_000, Order::Cancel(PulseId(1)));
    let seen = pass(&mut table, 12_000, 40_000);
    assert_eq!(seen, [(15_000, level(REJECT, false)), (15_000, ended(1, 15_000))]);
}

#[test]
fn a_full_table_refuses() {
    let mut table = open();
    for pulse in 0..PULSES_MAX as u64 {
        assert_eq!(
            order(&mut table, 0, Order::Fire(plan(pulse, REJECT, 10_000, 15_000))),
            []
        );
    }
    let more = order(&mut table, 0, Order::Fire(plan(999, REJECT, 10_000, 15_000)));
    assert_eq!(more, [refused(999, PulseRefusal::Full)]);
}

#[test]
fn silence_makes_everything_safe_and_only_a_new_session_ends_that() {
    let mut table = open();
    order(
        &mut table,
        0,
        Order::Set {
            output: PERMIT,
            active: true,
        },
    );
    order(
        &mut table,
        0,
        Order::Set {
            output: BEACON,
            active: false,
        },
    );
    order(&mut table, 0, Order::Fire(plan(1, GATE, 94_000, 99_000)));
    order(&mut table, 0, Order::Fire(plan(2, REJECT, 200_000, 205_000)));
    let mut effects = Vec::new();
    table.due(us(94_000), &mut effects);
    effects.clear();
    table.due(us(94_999), &mut effects);
    assert_eq!(effects, []);
    table.due(us(95_000), &mut effects);
    let levels = [
        level(REJECT, false),
        level(GATE, true),
        level(PERMIT, false),
        level(BEACON, true),
    ];
    let rest = [
        ended(1, 99_000),
        Effect::Safe {
            cause: SafeCause::Hung,
        },
    ];
    assert_eq!(effects, [&levels[..], &rest].concat());
    table.verify_invariants();
    assert_eq!(table.next_deadline(), None);
    for again in [
        Order::Heartbeat,
        Order::Set {
            output: PERMIT,
            active: true,
        },
        Order::Bye,
    ] {
        assert_eq!(order(&mut table, 96_000, again), []);
    }
    effects.clear();
    assert!(table.open(us(97_000), &lines(), &mut effects));
    assert_eq!(
        order(
            &mut table,
            97_000,
            Order::Set {
                output: PERMIT,
                active: true
            }
        ),
        [level(PERMIT, true)]
    );
}

#[test]
fn nonsense_makes_everything_safe() {
    let day = AHEAD_MAX.get();
    let mut nonsense = vec![
        Order::Set {
            output: REJECT,
            active: true,
        },
        Order::Set {
            output: OutputId(4),
            active: true,
        },
        Order::Cancel(PulseId(0)),
    ];
    let plans = [
        plan(2, OutputId(9), 10_000, 15_000),
        plan(2, PERMIT, 10_000, 15_000),
        plan(2, REJECT, 10_000, 10_000),
        plan(2, REJECT, 10_000, i64::MIN),
        plan(2, REJECT, 10_000, day + 1),
        plan(2, REJECT, i64::MIN, i64::MAX),
        plan(1, GATE, 10_000, 15_000), // the same pulse on another line
    ];
    nonsense.extend(plans.map(Order::Fire));
    for bad in nonsense {
        let mut table = open();
        order(
            &mut table,
            0,
            Order::Set {
                output: PERMIT,
                active: true,
            },
        );
        order(&mut table, 0, Order::Fire(plan(1, REJECT, 10_000, 15_000)));
        let effects = order(&mut table, 0, bad);
        if let Order::Cancel(_) = bad {
            assert_eq!(
                (effects.len(), table.safe()),
                (0, None),
                "an unknown cancel is a race, not nonsense"
            );
            continue;
        }
        assert_eq!(
            effects.last(),
            Some(&Effect::Safe {
                cause: SafeCause::Nonsense
            }),
            "{bad:?}"
        );
        let refusal = effects.iter().any(|e| matches!(e, Effect::Refused { .. }));
        assert_eq!(refusal, matches!(bad, Order::Fire(_)), "{bad:?}");
        assert_eq!(table.level(PERMIT), Some(false), "{bad:?}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Open,
    /// A new pulse, its times relative to now.
    Fire {
        line: u8,
        on_us: i64,
        length_us: i64,
    },
    /// An earlier pulse again, `back` before the newest.
    Replan {
        back: u64,
        on_us: i64,
        length_us: i64,
    },
    Cancel {
        back: u64,
    },
    Set {
        line: u8,
        active: bool,
    },
    Heartbeat,
    Bye,
    /// The driver is asked after `us`, and is this much late for every deadline on the way.
    Advance {
        us: i64,
        late_us: i64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let times = || (-3_000..40_000i64, 1..30_000i64);
    prop_oneof![
        1 => Just(Op::Open),
        12 => (0..2u8, times()).prop_map(|(line, (on_us, length_us))| Op::Fire { line, on_us, length_us }),
        1 => (0..6u8, -10..50_000i64, -10..30_000i64)
            .prop_map(|(line, on_us, length_us)| Op::Fire { line, on_us, length_us }),
        8 => (0..5u64, times()).prop_map(|(back, (on_us, length_us))| Op::Replan { back, on_us, length_us }),
        3 => (0..5u64).prop_map(|back| Op::Cancel { back }),
        3 => (2..4u8, any::<bool>()).prop_map(|(line, active)| Op::Set { line, active }),
        8 => Just(Op::Heartbeat),
        1 => Just(Op::Bye),
        15 => (0..30_000i64, prop_oneof![Just(0), 0..4_000i64])
            .prop_map(|(us, late_us)| Op::Advance { us, late_us }),
    ]
}

/// Knows from the effects alone what an onlooker at the lines would see, and judges it.
#[derive(Default)]
struct Onlooker {
    now: i64,
    live: bool,
    levels: [bool; 4],
    on_since: [i64; 4],
    plans: BTreeMap<u64, (PulsePlan, bool)>,
    newest: u64,
    heartbeat: i64,
    late_us: i64,
}

impl Onlooker {
    fn fire(&mut self, table: &mut Table, pulse: u64, plan: PulsePlan) {
        let was_live = self.live;
        let over = table.ended.contains(&plan.pulse);
        let effects = order(table, self.now, Order::Fire(plan));
        let accepted = effects.is_empty();
        if was_live && !over {
            let known = self.plans.entry(pulse).or_insert((plan, false));
            match known {
                (old, true) if accepted => old.off_at = plan.off_at,
                (_, true) => {}
                (old, false) => *old = plan,
            }
        }
        self.watch(&effects);
        if was_live && !over && !accepted {
            assert!(
                !self.plans.contains_key(&pulse),
                "pulse {pulse} was refused and is still known"
            );
        }
    }

    fn watch(&mut self, effects: &[Effect]) {
        assert!(effects.len() <= EFFECTS_MAX);
        let mut cut = Vec::new();
        let makes_safe = matches!(effects.last(), Some(Effect::Safe { .. }));
        for effect in effects {
            assert!(self.live, "{effect:?} in the safe state");
            match *effect {
                Effect::Level { output, active } => {
                    let line = usize::from(output.0);
                    if self.levels[line] && !active && line < 2 {
                        let on_us = self.now - self.on_since[line];
                        assert!(
                            on_us <= MAX_ON.get() + self.late_us,
                            "line {line} was on for {on_us} µs"
                        );
                    }
                    if !self.levels[line] && active {
                        self.on_since[line] = self.now;
                    }
                    self.levels[line] = active;
                }
                Effect::Started { pulse, planned } => {
                    let (plan, runs) = self.plans.get_mut(&pulse.0).expect("an unknown pulse started");
                    assert!(!*runs, "pulse {pulse} started twice");
                    *runs = true;
                    assert_eq!(planned, plan.on_at);
                    let late = self.now - planned.as_micros();
                    assert!(
                        (0..=LATE_MAX.get()).contains(&late),
                        "pulse {pulse} started {late} µs late"
                    );
                    assert!(
                        self.levels[usize::from(plan.output.0)],
                        "pulse {pulse} started on a dead line"
                    );
                }
                Effect::Ended { pulse, planned } => {
                    let (plan, runs) = self.plans.remove(&pulse.0).expect("an unknown pulse ended");
                    assert!(runs, "pulse {pulse} ended before it started");
                    assert_eq!(planned, plan.off_at);
                    let due = planned.as_micros() <= self.now;
                    assert!(
                        due || makes_safe || cut.contains(&pulse),
                        "pulse {pulse} ended early"
                    );
                }
                Effect::Refused { pulse, refusal } => {
                    let (plan, runs) = self.plans[&pulse.0];
                    let late = self.now - plan.on_at.as_micros() > LATE_MAX.get();
                    match refusal {
                        PulseRefusal::MaxOnReached => {
                            assert!(runs, "pulse {pulse} was cut before it started");
                            cut.push(pulse);
                        }
                        PulseRefusal::TooLate => {
                            assert!(
                                late || plan.off_at.as_micros() <= self.now,
                                "pulse {pulse} was in time"
                            );
                            assert!(!runs, "pulse {pulse} refused while it runs");
                            self.plans.remove(&pulse.0);
                        }
                        PulseRefusal::Full => drop(self.plans.remove(&pulse.0)),
                        PulseRefusal::Nonsense => assert!(makes_safe, "nonsense has to make everything safe"),
                    }
                }
                Effect::Safe { .. } => {
                    self.live = false;
                    assert_eq!(self.levels, [false, true, false, true], "not every line is safe");
                    assert!(
                        self.plans.values().all(|(_, runs)| !runs),
                        "a running pulse has no end"
                    );
                    self.plans.clear();
                }
            }
        }
    }

    fn advance(&mut self, table: &mut Table, us: i64, late_us: i64) {
        self.late_us = self.late_us.max(late_us);
        let until = self.now + us;
        loop {
            let next = table.next_deadline().map_or(i64::MAX, |at| at.as_micros());
            if next > until {
                break;
            }
            self.now = self.now.max(next + late_us);
            self.due(table);
        }
        self.now = self.now.max(until);
        self.due(table);
    }

    fn due(&mut self, table: &mut Table) {
        let mut effects = Vec::new();
        table.due(Instant::from_micros(self.now), &mut effects);
        table.verify_invariants();
        self.watch(&effects);
        assert!(
            table.next_deadline().is_none_or(|at| at.as_micros() > self.now),
            "something due is left"
        );
        let silent_us = self.now - self.heartbeat;
        assert!(
            !self.live || silent_us < HEARTBEAT_MAX.get(),
            "live after {silent_us} µs of silence"
        );
    }

    fn carry_out(&mut self, table: &mut Table, op: &Op) {
        let plan_at = |pulse, line, now, on_us: i64, length_us: i64| {
            plan(pulse, OutputId(line), now + on_us, now + on_us + length_us)
        };
        match *op {
            Op::Open => {
                let mut effects = Vec::new();
                assert!(table.open(us(self.now), &lines(), &mut effects));
                let safe = effects
                    .iter()
                    .position(|effect| matches!(effect, Effect::Safe { .. }));
                let (before, after) = effects.split_at(safe.map_or(0, |at| at + 1));
                self.watch(before);
                *self = Onlooker {
                    now: self.now,
                    live: true,
                    newest: self.newest,
                    ..Default::default()
                };
                self.heartbeat = self.now;
                self.watch(after);
            }
            Op::Fire {
                line,
                on_us,
                length_us,
            } => {
                self.newest += 1;
                let plan = plan_at(self.newest, line, self.now, on_us, length_us);
                self.fire(table, self.newest, plan);
            }
            Op::Replan {
                back,
                on_us,
                length_us,
            } => {
                let pulse = self.newest.saturating_sub(back);
                let line = self.plans.get(&pulse).map_or(0, |(plan, _)| plan.output.0);
                self.fire(table, pulse, plan_at(pulse, line, self.now, on_us, length_us));
            }
            Op::Cancel { back } => {
                let pulse = self.newest.saturating_sub(back);
                let effects = order(table, self.now, Order::Cancel(PulseId(pulse)));
                self.watch(&effects);
                if self.plans.get(&pulse).is_some_and(|(_, runs)| !runs) {
                    self.plans.remove(&pulse);
                }
            }
            Op::Set { line, active } => {
                let effects = order(
                    table,
                    self.now,
                    Order::Set {
                        output: OutputId(line),
                        active,
                    },
                );
                self.watch(&effects);
                assert!(!self.live || self.levels[usize::from(line)] == active);
            }
            Op::Heartbeat => {
                self.heartbeat = self.now;
                self.watch(&order(table, self.now, Order::Heartbeat));
            }
            Op::Bye => {
                self.watch(&order(table, self.now, Order::Bye));
                assert!(!self.live);
            }
            Op::Advance { us, late_us } => self.advance(table, us, late_us),
        }
        for (index, &active) in self.levels.iter().enumerate() {
            let level = table.level(OutputId(index as u8));
            assert!(
                level.is_none_or(|level| level == active),
                "line {index}: an effect is missing"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever is ordered in whatever sequence, an onlooker at the lines sees nothing wrong,
    /// and every pulse that was taken ends when the orders stop.
    #[test]
    fn any_orders_leave_the_lines_in_order(ops in prop::collection::vec(op(), 1..200)) {
        let mut table = Table::new();
        let mut onlooker = Onlooker::default();
        onlooker.carry_out(&mut table, &Op::Open);
        for op in &ops {
            onlooker.carry_out(&mut table, op);
            table.verify_invariants();
        }
        for _ in 0..10 {
            onlooker.carry_out(&mut table, &Op::Heartbeat);
            onlooker.carry_out(&mut table, &Op::Advance { us: 20_000, late_us: 0 });
        }
        prop_assert!(onlooker.plans.is_empty(), "never ended: {:?}", onlooker.plans);
    }
}
