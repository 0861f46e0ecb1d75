//! What goes wrong in a simulated run, drawn from the seed: which kinds, when,
//! how long. Every lasting fault is paired with its end.

use super::rejecter::Stuck;
use super::rng::Rng;
use super::world::WorldFault;
use crate::config::{Config, Motion, Trigger};
use crate::station::event::{Input, InspectFault, Trouble};
use crate::units::{Instant, LaneId, Length, Micros, RecipeId, Speed};
use serde::{Deserialize, Serialize};

/// Something that goes wrong, or that a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// With the line itself.
    World(WorldFault),
    /// Results arrive this much after their deadline, from now on; zero ends it.
    LateResults {
        by: Micros,
    },
    /// The next inspection fails.
    FailNextInspection(InspectFault),
    /// The next frames do not arrive.
    LoseFrames {
        count: u32,
    },
    /// The next frame arrives twice.
    DuplicateFrame,
    /// The driver loses the next edge of this input.
    LoseEdge {
        input: Input,
        told: bool,
    },
    /// The camera is gone (or back), and the station is told.
    CameraLost(bool),
    /// The output process dies (or is started again).
    OutputsLost(bool),
    /// The run process hangs this long: nothing is handled, no heartbeat.
    Hang {
        length: Micros,
    },
    /// The run process is killed after that many actions of the next event that has any.
    Crash {
        after_actions: usize,
        down: Micros,
    },
    /// The next pulse handed to the output process is told to last three times the longest on-time.
    StretchPulse,
    /// A person acknowledges though nobody asked.
    Acknowledge,
    Changeover(RecipeId),
    Trouble {
        trouble: Trouble,
        present: bool,
    },
}

/// The kinds that a seed turns on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    LateResults,
    FailedInspection,
    LostFrames,
    DuplicateFrame,
    OverlookedEdge,
    LostEdge,
    Bounce,
    Blip,
    SpeedChange,
    Slip,
    Jump,
    StretchedPulse,
    StuckActuator,
    Crash,
    TakenPart,
    StuckSensor,
    OutputsLost,
    Hang,
    CameraLost,
    Contact,
    Acknowledge,
    Changeover,
    Trouble,
    Runaway,
    PullBack,
}

pub const KINDS: [Kind; 25] = [
    Kind::LateResults,
    Kind::FailedInspection,
    Kind::LostFrames,
    Kind::DuplicateFrame,
    Kind::OverlookedEdge,
    Kind::LostEdge,
    Kind::Bounce,
    Kind::Blip,
    Kind::SpeedChange,
    Kind::Slip,
    Kind::Jump,
    Kind::StretchedPulse,
    Kind::StuckActuator,
    Kind::Crash,
    Kind::TakenPart,
    Kind::StuckSensor,
    Kind::OutputsLost,
    Kind::Hang,
    Kind::CameraLost,
    Kind::Contact,
    Kind::Acknowledge,
    Kind::Changeover,
    Kind::Trouble,
    Kind::Runaway,
    Kind::PullBack,
];

/// The faults of one run, in order of time.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub kinds: Vec<Kind>,
    pub faults: Vec<(Instant, Fault)>,
}

impl Plan {
    /// Draws some kinds, and of each a few occurrences within `from..to`.
    pub fn draw(config: &Config, rng: &mut Rng, from: Instant, to: Instant) -> Plan {
        let mut plan = Plan::default();
        // Some runs without a fault, most with a few kinds, some with nearly all: rare
        // combinations are found by few kinds that come often.
        let share = rng.pick(&[0, 80, 150, 150, 300, 500]);
        plan.kinds = KINDS.into_iter().filter(|_| rng.chance(share)).collect();
        for kind in plan.kinds.clone() {
            let times = match kind {
                Kind::Crash | Kind::OutputsLost | Kind::Hang | Kind::Runaway => rng.range(1, 2),
                _ => rng.range(1, 4),
            };
            for _ in 0..times {
                let at = Instant::from_micros(rng.range(from.as_micros(), to.as_micros()));
                plan.draw_one(kind, config, rng, at, to);
            }
        }
        plan.faults.sort_by_key(|f| f.0);
        plan
    }

    fn draw_one(&mut self, kind: Kind, config: &Config, rng: &mut Rng, at: Instant, to: Instant) {
        let lasting = Micros::from_millis(rng.range(100, 1_500));
        let end = (at + lasting).min(to);
        let world = Fault::World;
        let mut add = |begins: Fault, ends: Option<Fault>| {
            self.faults.push((at, begins));
            if let Some(ends) = ends {
                self.faults.push((end, ends));
            }
        };
        match kind {
            Kind::LateResults => {
                let by = Micros::from_millis(rng.range(1, 400));
                add(
                    Fault::LateResults { by },
                    Some(Fault::LateResults { by: Micros::ZERO }),
                );
            }
            Kind::FailedInspection => {
                let faults = [
                    InspectFault::Model,
                    InspectFault::Overload,
                    InspectFault::FrameGone,
                ];
                add(Fault::FailNextInspection(rng.pick(&faults)), None);
            }
            Kind::LostFrames => add(
                Fault::LoseFrames {
                    count: rng.range(1, 3) as u32,
                },
                None,
            ),
            Kind::DuplicateFrame => add(Fault::DuplicateFrame, None),
            Kind::OverlookedEdge => match rng.chance(700) {
                true => add(world(WorldFault::OverlookNextPart), None),
                false => add(world(WorldFault::OverlookAtPassedEye), None),
            },
            Kind::LostEdge => {
                let input = rng.pick(&[Input::PhotoEye(LaneId(0)), Input::ChuteEye, Input::PassedEye]);
                add(
                    Fault::LoseEdge {
                        input,
                        told: rng.chance(500),
                    },
                    None,
                );
            }
            Kind::Bounce => {
                let Trigger::PhotoEye { stable, .. } = config.trigger else {
                    return;
                };
                add(world(WorldFault::BounceNextPart { within: stable }), None);
            }
            Kind::Blip => {
                let Trigger::PhotoEye { stable, .. } = config.trigger else {
                    return;
                };
                let length = Micros::new(rng.range(20, stable.get() - 50));
                add(world(WorldFault::Blip { length }), None);
            }
            Kind::SpeedChange => {
                if matches!(config.belt.motion, Motion::Time { .. }) {
                    return;
                }
                let (low, high) = (config.belt.speed_min, config.belt.speed_max);
                let share = |s: Speed, per_mille: i64| s.as_um_per_s() * per_mille / 1_000;
                let speed = Speed::from_um_per_s(rng.range(share(low, 1_050), share(high, 960)));
                add(world(WorldFault::SetSpeed(speed)), None);
            }
            Kind::Slip => {
                let per_mille = rng.range(300, 1_000) as u16;
                add(
                    world(WorldFault::Slip { per_mille }),
                    Some(world(WorldFault::Slip { per_mille: 0 })),
                );
            }
            Kind::Jump => {
                let Motion::Encoder { counts_per_mm, .. } = config.belt.motion else {
                    return;
                };
                // Many times what the belt can move between two samples.
                let counts = (counts_per_mm * rng.range(100, 5_000) as f64) as i64;
                let counts = if rng.chance(500) { counts } else { -counts };
                add(world(WorldFault::JumpEncoder { counts }), None);
            }
            Kind::StretchedPulse => add(Fault::StretchPulse, None),
            Kind::StuckActuator => {
                let late = Stuck::Late(Micros::from_millis(rng.range(10, 80)));
                let stuck = rng.pick(&[Stuck::In, Stuck::In, Stuck::Out, late]);
                add(
                    world(WorldFault::StickActuator(Some(stuck))),
                    Some(world(WorldFault::StickActuator(None))),
                );
            }
            Kind::Crash => {
                let down = Micros::from_millis(rng.range(50, 1_500));
                add(
                    Fault::Crash {
                        after_actions: rng.range(0, 4) as usize,
                        down,
                    },
                    None,
                );
            }
            Kind::TakenPart => add(world(WorldFault::TakePart), None),
            Kind::StuckSensor => {
                let input = rng.pick(&[Input::PhotoEye(LaneId(0)), Input::ChuteEye, Input::PassedEye]);
                let level = Some(rng.chance(500));
                add(
                    world(WorldFault::StickSensor { input, level }),
                    Some(world(WorldFault::StickSensor { input, level: None })),
                );
            }
            Kind::OutputsLost => add(Fault::OutputsLost(true), Some(Fault::OutputsLost(false))),
            Kind::Hang => add(
                Fault::Hang {
                    length: Micros::from_millis(rng.range(20, 400)),
                },
                None,
            ),
            Kind::CameraLost => add(Fault::CameraLost(true), Some(Fault::CameraLost(false))),
            Kind::Contact => {
                let input = rng.pick(&[Input::BinFull, Input::AirLow]);
                add(
                    world(WorldFault::Contact { input, active: true }),
                    Some(world(WorldFault::Contact { input, active: false })),
                );
            }
            Kind::Acknowledge => add(Fault::Acknowledge, None),
            Kind::Changeover => add(Fault::Changeover(RecipeId(rng.range(0, 1) as u16)), None),
            Kind::Trouble => {
                let trouble = rng.pick(&[
                    Trouble::Record,
                    Trouble::Queue,
                    Trouble::DiskLow,
                    Trouble::Display,
                ]);
                add(
                    Fault::Trouble {
                        trouble,
                        present: true,
                    },
                    Some(Fault::Trouble {
                        trouble,
                        present: false,
                    }),
                );
            }
            Kind::PullBack => {
                // By time alone nobody can know of it.
                if matches!(config.belt.motion, Motion::Time { .. }) {
                    return;
                }
                let way = Length::from_mm(rng.range(1, 150));
                let stopped = |present| Fault::Trouble {
                    trouble: Trouble::Queue,
                    present,
                };
                let pulled = (at + Micros::from_millis(200)).min(end);
                add(stopped(true), Some(stopped(false)));
                self.faults.push((pulled, world(WorldFault::PullBack { way })));
            }
            Kind::Runaway => {
                add(
                    world(WorldFault::Runaway(true)),
                    Some(world(WorldFault::Runaway(false))),
                );
            }
        }
    }
}
