//! Anything may happen to the core: after each operation its invariants hold, and
//! when the trouble ends, every part has ended exactly once.

use super::event::*;
use super::testing;
use super::testing::rig::Rig;
use crate::config::{CameraMode, Config, Motion, Trigger};
use crate::units::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What can happen to a station.
#[derive(Clone, Debug)]
enum Op {
    Lay {
        gap_mm: i64,
        good: bool,
    },
    Run {
        ms: i64,
    },
    Speed {
        mm_s: i64,
    },
    Inspection {
        ms: Option<i64>,
    },
    Camera(bool),
    LoseFrames(u32),
    Blind(bool),
    Slip {
        um: i64,
    },
    Actuator(bool),
    Acknowledge,
    Changeover(u16),
    Outputs(bool),
    /// An edge out of nowhere, up to 2 ms old.
    Edge {
        input: Input,
        active: bool,
        age_us: i64,
    },
    Frame {
        sequence_back: u32,
        place_px: u16,
        cut: bool,
    },
    /// An answer that nobody may have asked for.
    Inspected {
        part: u64,
        fails: bool,
    },
    Report {
        pulse: u64,
        report: PulseReport,
    },
    CameraLost(bool),
    Trouble {
        trouble: Trouble,
        present: bool,
    },
    Remove {
        which: usize,
    },
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::PhotoEye(LaneId(0))),
        Just(Input::ChuteEye),
        Just(Input::PassedEye),
        Just(Input::BinFull),
        Just(Input::AirLow),
        Just(Input::BeltRunning),
        Just(Input::Acknowledge),
    ]
}

fn report() -> impl Strategy<Value = PulseReport> {
    let at = Instant::from_micros(0);
    prop_oneof![
        Just(PulseReport::On { at }),
        Just(PulseReport::Off { at }),
        Just(PulseReport::Refused(PulseRefusal::TooLate)),
        Just(PulseReport::Refused(PulseRefusal::MaxOnReached)),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        Just(Trouble::Record),
        Just(Trouble::Queue),
        Just(Trouble::EdgesLost),
        Just(Trouble::LinesLost)
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let edge = (input(), any::<bool>(), 0..2_000i64);
    prop_oneof![
        8 => (1..60i64, prop::bool::weighted(0.6)).prop_map(|(gap_mm, good)| Op::Lay { gap_mm, good }),
        8 => (1..150i64).prop_map(|ms| Op::Run { ms }),
        2 => (-100..700i64).prop_map(|mm_s| Op::Speed { mm_s }),
        2 => prop::option::of(0..200i64).prop_map(|ms| Op::Inspection { ms }),
        1 => any::<bool>().prop_map(Op::Camera),
        1 => (0..4u32).prop_map(Op::LoseFrames),
        1 => any::<bool>().prop_map(Op::Blind),
        1 => (-60_000..60_000i64).prop_map(|um| Op::Slip { um }),
        1 => any::<bool>().prop_map(Op::Actuator),
        2 => Just(Op::Acknowledge),
        1 => (0..3u16).prop_map(Op::Changeover),
        1 => any::<bool>().prop_map(Op::Outputs),
        2 => edge.prop_map(|(input, active, age_us)| Op::Edge { input, active, age_us }),
        1 => (0..3u32, any::<u16>(), any::<bool>())
            .prop_map(|(sequence_back, place_px, cut)| Op::Frame { sequence_back, place_px, cut }),
        1 => (0..30u64, any::<bool>()).prop_map(|(part, fails)| Op::Inspected { part, fails }),
        1 => (0..12u64, report()).prop_map(|(pulse, report)| Op::Report { pulse, report }),
        1 => any::<bool>().prop_map(Op::CameraLost),
        1 => (trouble(), any::<bool>()).prop_map(|(trouble, present)| Op::Trouble { trouble, present }),
        1 => (0..20usize).prop_map(|which| Op::Remove { which }),
    ]
}

fn apply(rig: &mut Rig, op: &Op, last_mm: &mut i64) {
    match *op {
        Op::Lay { gap_mm, good } => {
            // Behind the part laid last, and never on top of the photo-eye.
            let place = (*last_mm + 28 + gap_mm).max(rig.position / 1_000 + 5);
            *last_mm = place;
            rig.lay(place - rig.position / 1_000, good);
        }
        Op::Run { ms } => rig.run(ms),
        Op::Speed { mm_s } => rig.speed = mm_s * 1_000,
        Op::Inspection { ms } => rig.inspection = ms.map(|ms| ms * 1_000),
        Op::Camera(on) => rig.camera_on = on,
        Op::LoseFrames(count) => rig.lose_frames = count,
        Op::Blind(blind) => rig.blind = blind,
        Op::Slip { um } => rig.slipped += um,
        Op::Actuator(works) => rig.actuator_works = works,
        Op::Acknowledge => rig.event(Event::Command(Command::Acknowledge)),
        Op::Changeover(recipe) => rig.event(Event::Command(Command::Changeover(RecipeId(recipe)))),
        Op::Outputs(ready) => rig.event(Event::OutputsReady(ready)),
        Op::Edge {
            input,
            active,
            age_us,
        } => {
            let at = Instant::from_micros(rig.now - age_us);
            rig.event(Event::Edge { input, active, at });
        }
        Op::Frame {
            sequence_back,
            place_px,
            cut,
        } => rig.odd_frame(sequence_back, place_px % 1_000, cut),
        Op::Inspected { part, fails } => {
            let result = if fails {
                Err(InspectFault::Overload)
            } else {
                Ok(Default::default())
            };
            rig.event(Event::Inspected {
                part: PartId(part),
                result,
            });
        }
        Op::Report { pulse, report } => {
            let at = rig.at();
            let report = match report {
                PulseReport::On { .. } => PulseReport::On { at },
                PulseReport::Off { .. } => PulseReport::Off { at },
                refused => refused,
            };
            rig.event(Event::Pulse {
                pulse: PulseId(pulse),
                report,
            });
        }
        Op::CameraLost(lost) => rig.event(Event::CameraLost {
            camera: CameraId(0),
            lost,
        }),
        Op::Trouble { trouble, present } => rig.event(Event::Trouble { trouble, present }),
        Op::Remove { which } => {
            if let Some(thing) = rig.things.get_mut(which) {
                thing.removed = true;
            }
        }
    }
}

/// Four stations that differ in what announces a part and what the belt is measured by.
fn station(kind: u8) -> Config {
    let mut config = testing::config();
    match kind {
        1 => config.cameras[0].mode = CameraMode::Triggered,
        2 => config.trigger = Trigger::Vision,
        3 => {
            config.belt.motion = Motion::Time {
                speed: Speed::from_um_per_s(500_000),
            };
            (config.verify.chute, config.verify.passed) = (None, None);
        }
        _ => {}
    }
    config
}

/// Runs the operations, then lets all trouble end and the belt carry everything out.
fn live(kind: u8, ops: &[Op]) -> Rig {
    let mut rig = Rig::with(station(kind));
    let mut last_mm = 0;
    for op in ops {
        apply(&mut rig, op, &mut last_mm);
    }
    (rig.speed, rig.camera_on, rig.blind, rig.inspection) = (500_000, true, false, Some(30_000));
    rig.actuator_works = true;
    rig.event(Event::OutputsReady(true));
    let at = rig.at();
    rig.event(Event::Edge {
        input: Input::BeltRunning,
        active: true,
        at,
    });
    let ahead = (last_mm - rig.position / 1_000).max(0);
    rig.run(2 * ahead + 2_500);
    rig
}

fn check(rig: &Rig) {
    let mut state: BTreeMap<PartId, (bool, bool)> = BTreeMap::new();
    for entry in rig.entries() {
        match entry {
            Entry::Seen { part, .. } => {
                assert!(
                    state.insert(*part, (false, false)).is_none(),
                    "part {part} seen twice"
                );
            }
            Entry::Judged { part, .. } => {
                let (judged, ended) = state.get_mut(part).expect("judged before it was seen");
                assert!(!*judged && !*ended, "part {part} judged twice or after its end");
                *judged = true;
            }
            Entry::Ended { part, fate, .. } => {
                let (judged, ended) = state.get_mut(part).expect("ended before it was seen");
                assert!(!*ended, "part {part} ended twice");
                *ended = true;
                assert!(
                    *judged || matches!(fate, Fate::Unaccounted(_)),
                    "part {part} {fate:?} without a verdict"
                );
            }
            _ => {}
        }
    }
    let counts = rig.counts();
    assert_eq!(counts.seen as usize, state.len());
    assert_eq!(counts.in_flight, 0, "something never ended: {:?}", rig.alarms());
    assert!(state.values().all(|(_, ended)| *ended));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_part_ends_once(kind in 0u8..4, ops in prop::collection::vec(op(), 1..60)) {
        check(&live(kind, &ops));
    }

    #[test]
    fn the_same_events_give_the_same_actions(kind in 0u8..4, ops in prop::collection::vec(op(), 1..30)) {
        prop_assert_eq!(live(kind, &ops).log, live(kind, &ops).log);
    }

    /// On a line without faults nothing escapes, nothing good is lost, and nothing stops.
    #[test]
    fn a_healthy_line_makes_no_mistakes(
        parts in prop::collection::vec((9..60i64, prop::bool::weighted(0.7)), 1..25),
        mm_s in 200..590i64,
    ) {
        let mut config = testing::config();
        config.verify.consecutive_rejects = None;
        let mut rig = Rig::with(config);
        rig.speed = mm_s * 1_000;
        rig.run(200);
        let mut place = 50;
        for (gap, good) in &parts {
            rig.lay(place, *good);
            place += 28 + gap;
        }
        rig.run((place + 600) * 1_000 / mm_s + 300);
        check(&rig);
        let expected: Vec<_> = parts
            .iter()
            .zip(1..)
            .map(|((_, good), id)| (id, if *good { Fate::Passed { verified: true } } else { Fate::Confirmed }))
            .collect();
        prop_assert_eq!(rig.fates(), expected);
        prop_assert!(rig.permit() && rig.alarms().is_empty(), "{:?}", rig.alarms());
    }
}
