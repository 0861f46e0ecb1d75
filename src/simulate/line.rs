//! A drawn line: one seed decides on belt, sensors, reject, recipes and times,
//! always within the arithmetic of a station (DESIGN.md), so that whatever goes
//! wrong is either a fault of the plan or a bug.

use super::rng::Rng;
use super::world::WorldOptions;
use crate::config::arithmetic::merged_pulse;
use crate::config::*;
use crate::infer::manifest::{Activation, Channels, Filter, ModelFile, ModelInfo, Task};
use crate::station::judge::{Comparison, Quantity, Rule, Rules};
use crate::units::{LaneId, Length, Micros, OutputId, RecipeId, Speed};
use crate::vision::frame::PixelFormat;
use std::path::PathBuf;
use std::sync::Arc;

/// Labels of the virtual classifier; `good` first, then [`super::part::Defect::ALL`] in order.
pub const LABELS: [&str; 5] = ["good", "scratch", "dent", "contamination", "missing"];

/// Score from which recipe 0 and recipe 1 pass a part, and from which they reject it.
/// Apart, so that a part judged by the wrong recipe shows.
pub const PASS_FROM: [f32; 2] = [0.90, 0.50];
pub const REJECT_FROM: [f32; 2] = [0.60, 0.90];

pub const PERMIT: OutputId = OutputId(0);
pub const REJECT: OutputId = OutputId(1);
pub const BEACON: OutputId = OutputId(2);

/// Everything a seed decides about the line.
#[derive(Clone, Debug)]
pub struct Line {
    pub config: Arc<Config>,
    pub world: WorldOptions,
}

/// Lengths in µm and times in µs, as drawn.
struct Draw {
    speed_max: i64,
    speed_min: i64,
    speed: i64,
    coast: i64,
    part_min: i64,
    part_max: i64,
    gap_min: i64,
    aim: i64,
    margin: i64,
    footprint: i64,
    counts_per_mm: f64,
    run_up_mm_s2: i64,
    lag_on: i64,
    lag_off: i64,
    spread: i64,
    decide_within: i64,
    camera: i64,
    reject: i64,
    passed: i64,
}

impl Draw {
    fn new(rng: &mut Rng) -> Draw {
        let speed_max = rng.range(200, 1_000) * 1_000;
        let speed_min = speed_max * rng.range(350, 550) / 1_000;
        let speed = speed_max * rng.range(600, 950) / 1_000;
        // Travel at no more than 3 m/s² of braking; firmer belts spill what lies on them.
        let coast = (rng.range(30, 150) * 1_000).max(speed_max * 13 / 20 * speed_max / 3_000_000);
        let part_min = rng.range(10, 60) * 1_000;
        let part_max = part_min + rng.range(0, 8) * 1_000;
        let footprint = rng.range(4, 12) * 1_000;
        let margin = rng.range(1, 4) * 1_000;
        let aim = rng.range(-1, 3) * 1_000;
        // A third of the actuators come out much later than they go back: then the commands of
        // neighbouring pulses overlap although their windows do not.
        let (lag_on, lag_off) = match rng.chance(330) {
            true => (rng.range(20, 35) * 1_000, rng.range(2, 4) * 1_000),
            false => (rng.range(3, 20) * 1_000, rng.range(3, 20) * 1_000),
        };
        let spread = rng.range(0, 2_000);
        let counts_per_mm = rng.range(30, 400) as f64 / 10.0;
        let run_up_mm_s2 = rng.range(500, 3_000);
        // How wrong a plan is that was made one lag ahead while the belt brakes or speeds up
        // at `a`: the speed is known as it was half a measurement ago (60 ms at most), and
        // then there are a lag and 6 ms of sampling and delivery: a·(30 ms·t + t²/2).
        let brake = speed_max * 13 / 20 * speed_max / coast;
        let lag = lag_on.max(lag_off) + 6_000;
        let ramp = brake.max(run_up_mm_s2 * 1_000) * lag / 1_000_000 * (30_000 + lag / 2) / 1_000_000;
        let least_gap = footprint / 2 + margin.max(-aim) + speed_max * (spread + 2_000) / 1_000_000 + ramp;
        let gap_min = least_gap + rng.pick(&[3, 3, 8, 15, 30]) * 1_000;
        let decide_within = rng.range(40, 150) * 1_000;
        let camera = part_max / 2 + rng.range(5, 120) * 1_000;
        let way = |time: i64| speed_max * time / 1_000_000;
        // The whole of the deadline's sum, and room to re-plan.
        let reject = camera + part_max + way(decide_within + lag_on + 15_000) + rng.range(20, 200) * 1_000;
        let passed = reject + footprint + part_max + way(lag_off + spread) + rng.range(20, 150) * 1_000;
        Draw {
            speed_max,
            speed_min,
            speed,
            coast,
            part_min,
            part_max,
            gap_min,
            aim,
            margin,
            footprint,
            counts_per_mm,
            run_up_mm_s2,
            lag_on,
            lag_off,
            spread,
            decide_within,
            camera,
            reject,
            passed,
        }
    }

    fn pitch_min(&self) -> i64 {
        self.part_min + self.gap_min
    }

    /// How much sooner than planned a part goes when the actuator is already out for the one before.
    fn early(&self) -> i64 {
        self.footprint / 2 * 1_000_000 / self.speed_min
    }
}

fn um(um: i64) -> Length {
    Length::from_micrometres(um)
}

fn input(name: &str) -> InputLine {
    InputLine {
        chip: "sim".into(),
        name: name.into(),
        active_low: false,
        bias: Bias::Kept,
    }
}

fn output(name: &str, max_on: Option<Micros>) -> OutputLine {
    OutputLine {
        chip: "sim".into(),
        name: name.into(),
        active_low: false,
        safe_on: false,
        max_on,
    }
}

impl Line {
    /// The line of a seed.
    pub fn draw(rng: &mut Rng) -> Line {
        let d = Draw::new(rng);
        let vision = rng.chance(150);
        let free = vision || rng.chance(400);
        let camera = camera(&d, free, rng);
        let by_time = rng.chance(120);
        // Until a part longer than any has been pushed out at the slowest speed, three times over.
        let mut max_on = Micros::new((d.part_max + d.margin) * 1_000_000 / d.speed_min * 3 + 60_000);
        let mut verify = verify(&d, rng);
        let otherwise = Otherwise {
            reject: !rng.chance(150),
            keep_picture: false,
        };
        let late_reject = !rng.chance(150);
        let recipes = (0..2)
            .map(|i| Arc::new(recipe(&d, i, otherwise, late_reject)))
            .collect::<Vec<_>>();
        let motion = if by_time {
            Motion::Time {
                speed: Speed::from_um_per_s(d.speed),
            }
        } else {
            Motion::Encoder {
                counts_per_mm: d.counts_per_mm,
                reverse: false,
                source: EncoderSource::Simulated,
            }
        };
        let trigger = match vision {
            true => Trigger::Vision,
            false => Trigger::PhotoEye {
                line: input("PE_TRIG"),
                stable: Micros::new(
                    rng.range(200, 1_500)
                        .min(d.part_min * 1_000_000 / d.speed_max / 4),
                ),
            },
        };
        let mut world = world_options(&d, &camera, rng);
        if by_time {
            world.run_up_mm_s2 = 1_000_000;
        }
        if let Some(chute) = &verify.chute {
            let low = chute.after_min.get() + d.spread + d.early() + 1_000;
            let high = chute.after_max.get() - d.spread - 1_000;
            world.fall = (Micros::new(low), Micros::new(high.max(low)));
        }
        let station = Station {
            id: "SIM".into(),
            recipe: RecipeId(0),
            on_fault: if rng.chance(150) {
                OnFault::Alarm
            } else {
                OnFault::StopBelt
            },
            acknowledge: Some(input("ACK")),
            page: None,
            beacon: rng.chance(500).then_some(BEACON),
            watchdog: None,
        };
        let belt = Belt {
            lane: LaneId(0),
            speed_min: Speed::from_um_per_s(d.speed_min),
            speed_max: Speed::from_um_per_s(d.speed_max),
            permit: PERMIT,
            running: (by_time || rng.chance(500)).then(|| input("BELT_FB")),
            coast: um(if by_time { 0 } else { d.coast }),
            motion,
        };
        let mut reject = Reject {
            name: "air".into(),
            output: REJECT,
            distance: um(d.reject),
            footprint: um(d.footprint),
            lag_on: Micros::new(d.lag_on),
            lag_off: Micros::new(d.lag_off),
            lag_spread: Micros::new(d.spread),
            max_on,
        };
        // Where pulses merge, as `elek check` demands: a limit to the run, and time for all of it. Half as
        // much again, for a belt that runs up meanwhile.
        let run = verify.consecutive_rejects.map_or(3, |limit| limit.count);
        if let Some(merged) = merged_pulse(&belt, &reject, &recipes[0], run) {
            verify.consecutive_rejects = Some(ConsecutiveRejects {
                count: run,
                action: CheckAction::StopBelt,
            });
            max_on = max_on.max(Micros::new(merged.get() * 3 / 2 + 60_000));
            reject.max_on = max_on;
        }
        let config = Config {
            station,
            belt,
            trigger,
            cameras: vec![camera],
            reject,
            verify,
            recipes,
            outputs: vec![
                output("BELT_RUN", None),
                output("REJ1", Some(max_on)),
                output("BEACON", None),
            ],
            inference: Inference::default(),
            record: Record {
                path: PathBuf::from("/nonexistent"),
                rejected: Keep::None,
                passed: Keep::None,
                keep_free_percent: 1,
            },
            display: Display {
                width: 240,
                height: 240,
                framebuffer: None,
                panel: None,
                console: None,
                png: None,
            },
            base: PathBuf::from("/nonexistent"),
        };
        Line {
            config: Arc::new(config),
            world,
        }
    }
}

fn camera(d: &Draw, free: bool, rng: &mut Rng) -> Camera {
    let (width, height) = (1280, 960);
    // So wide that a part is seen whole in at least two pictures of the free-running camera.
    let fps = rng.range(40, 90);
    let view = 2 * d.part_max + d.pitch_min() / 2 + 3 * d.speed_max / fps;
    Camera {
        name: "top".into(),
        um_per_px: view as f64 / f64::from(height),
        belt_axis: rng.pick(&[
            BeltAxis::PlusX,
            BeltAxis::MinusX,
            BeltAxis::PlusY,
            BeltAxis::MinusY,
        ]),
        distance: um(d.camera),
        stamp_offset: Micros::ZERO,
        stamp_jitter: Micros::new(500),
        retry: Micros::from_millis(200),
        stop_after: Micros::from_millis(1_000),
        mode: match free {
            true => CameraMode::FreeRunning {
                fps_milli: fps as u32 * 1_000,
            },
            false => CameraMode::Triggered,
        },
        locate: Locate {
            contrast: Contrast::PartBrighter,
            threshold: None,
        },
        exposure: Micros::new(100),
        readout: None,
        source: CameraSource::Simulated(SimulatedSource {
            seed: 0,
            parts_per_s: 1.0,
            defective: 0.1,
            format: PictureFormat {
                pixels: PixelFormat::Grey,
                width,
                height,
                fps_milli: fps as u32 * 1_000,
            },
        }),
    }
}

fn verify(d: &Draw, rng: &mut Rng) -> Verify {
    let action = |rng: &mut Rng| {
        if rng.chance(200) {
            CheckAction::Alarm
        } else {
            CheckAction::StopBelt
        }
    };
    // Both windows below half of what lies between two parts.
    let width = d.pitch_min() * 1_000_000 / d.speed_max * 45 / 100;
    let after_min = d.spread + d.early() + rng.range(10, 40) * 1_000;
    let chute = ChuteEye {
        line: input("PE_CHUTE"),
        after_min: Micros::new(after_min),
        after_max: Micros::new(after_min + width),
        missing: action(rng),
    };
    let passed = PassedEye {
        line: input("PE_PASSED"),
        distance: um(d.passed),
        window: um(d.pitch_min() * rng.range(250, 450) / 1_000),
        reject_seen: action(rng),
        good_missing: action(rng),
    };
    let contact = |name: &str, rng: &mut Rng| Interlock {
        line: input(name),
        hold: Micros::from_millis(rng.range(0, 300)),
        action: action(rng),
    };
    Verify {
        // Too narrow to hold what the actuator itself varies: such a line has no chute eye.
        chute: (rng.chance(850) && width > d.early() + 2 * d.spread + 6_000).then_some(chute),
        passed: rng.chance(850).then_some(passed),
        bin_full: rng.chance(400).then(|| contact("PE_BIN", rng)),
        air_low: rng.chance(400).then(|| contact("AIR", rng)),
        consecutive_rejects: rng.chance(200).then(|| ConsecutiveRejects {
            count: rng.range(3, 8) as u32,
            action: action(rng),
        }),
    }
}

fn recipe(d: &Draw, index: usize, otherwise: Otherwise, late_reject: bool) -> Recipe {
    let rule = |label: usize, limit: f32| Rule {
        text: format!("{} >= {limit:.2}", LABELS[label]),
        quantity: Quantity::Score(label as u8),
        comparison: Comparison::GreaterOrEqual,
        limit,
        unless: None,
    };
    Recipe {
        name: format!("recipe-{index}"),
        part_min: um(d.part_min),
        part_max: um(d.part_max),
        gap_min: um(d.gap_min),
        aim: um(d.aim),
        pulse_margin: um(d.margin),
        pulse_min: Micros::from_millis(5),
        crop: Crop::Part {
            margin: Length::from_mm(2),
        },
        classify: Some(Arc::new(virtual_model())),
        segment: None,
        rules: Rules {
            pass_if: vec![rule(0, PASS_FROM[index])],
            reject_if: (1..LABELS.len())
                .map(|label| rule(label, REJECT_FROM[index]))
                .collect(),
        },
        otherwise,
        late_reject,
        decide_within: Micros::new(d.decide_within),
    }
}

/// A classifier that exists on paper only: the inspector of the simulation answers for it.
fn virtual_model() -> ModelInfo {
    ModelInfo {
        name: "virtual".into(),
        task: Task::Classify,
        file: ModelFile::Builtin("virtual".into()),
        sha256: [0; 32],
        size: 224,
        input_name: "input".into(),
        mean: [0.0; 3],
        scale: [1.0; 3],
        channels: Channels::Rgb,
        output_name: "output".into(),
        activation: Activation::Softmax,
        labels: LABELS.iter().map(|l| (*l).into()).collect(),
        threshold: 0.5,
        filter: Filter::Bilinear,
        macs: None,
    }
}

fn world_options(d: &Draw, camera: &Camera, rng: &mut Rng) -> WorldOptions {
    let CameraSource::Simulated(source) = &camera.source else {
        unreachable!("drawn lines have simulated cameras");
    };
    let seed = rng.next_u64();
    // A generator of its own: the rest of the line does not hang on it.
    let mut left = Rng::new(!seed);
    WorldOptions {
        seed,
        speed: Speed::from_um_per_s(d.speed),
        pitch: um(d.pitch_min() * rng.range(1_000, 3_000) / 1_000),
        pitch_variation: rng.range(0, 1_000) as u32,
        defective: rng.pick(&[20, 100, 300, 600]),
        across: Length::from_mm(3),
        run_up_mm_s2: d.run_up_mm_s2,
        encoder_error_ppm: rng.range(-300, 300),
        encoder_period: Micros::from_millis(rng.pick(&[2, 2, 4, 5])),
        edge_jitter: Micros::new(rng.range(0, 200)),
        fall: (Micros::ZERO, Micros::ZERO),
        picture: (source.format.width, source.format.height),
        parts_max: None,
        left_on_belt: match left.chance(250) {
            true => left.range(1, 6) as u32,
            false => 0,
        },
        keep_notes: true,
    }
}
