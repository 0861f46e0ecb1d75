//! A configuration for tests of the core and of the simulation: the one of DESIGN.md.

pub(crate) mod rig;

use crate::config::*;
use crate::infer::manifest::{Activation, Channels, Filter, ModelFile, ModelInfo, Task};
use crate::station::judge::{Labels, Rules};
use crate::units::{LaneId, Length, Micros, OutputId, RecipeId, Speed};
use crate::vision::frame::PixelFormat;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) const PERMIT: OutputId = OutputId(0);
pub(crate) const BEACON: OutputId = OutputId(1);
pub(crate) const REJECT: OutputId = OutputId(2);

fn line(name: &str) -> InputLine {
    InputLine {
        chip: "sim".into(),
        name: name.into(),
        active_low: false,
        bias: Bias::Kept,
    }
}

fn output(name: &str, safe_on: bool, max_on: Option<Micros>) -> OutputLine {
    OutputLine {
        chip: "sim".into(),
        name: name.into(),
        active_low: false,
        safe_on,
        max_on,
    }
}

/// Labels of the classifier: good, scratch, dent.
pub(crate) fn recipe(name: &str, pass_if: &str, reject_if: &str) -> Recipe {
    let labels: Vec<String> = ["good", "scratch", "dent"].map(String::from).into();
    let known = Labels {
        classify: Some(&labels),
        mask: None,
    };
    let rules = Rules::parse(&[pass_if.into()], &[reject_if.into()], &known).expect("the rules of the test");
    let model = ModelInfo {
        name: "cap".into(),
        task: Task::Classify,
        file: ModelFile::Builtin("cap".into()),
        sha256: [0; 32],
        size: 224,
        input_name: "input".into(),
        mean: [0.0; 3],
        scale: [255.0; 3],
        channels: Channels::Rgb,
        output_name: "output".into(),
        activation: Activation::None,
        labels,
        threshold: 0.5,
        filter: Filter::Bilinear,
        macs: None,
    };
    Recipe {
        name: name.into(),
        part_min: Length::from_mm(26),
        part_max: Length::from_mm(30),
        gap_min: Length::from_mm(8),
        aim: Length::from_mm(2),
        pulse_margin: Length::from_mm(3),
        pulse_min: Micros::from_millis(15),
        crop: Crop::Part {
            margin: Length::from_mm(4),
        },
        classify: Some(Arc::new(model)),
        segment: None,
        rules,
        otherwise: Otherwise {
            reject: true,
            keep_picture: true,
        },
        late_reject: true,
        decide_within: Micros::from_millis(120),
    }
}

/// Two recipes; the second condemns what the first lets pass.
pub(crate) fn config() -> Config {
    let max_on = Micros::from_millis(400);
    Config {
        station: Station {
            id: "TEST".into(),
            recipe: RecipeId(0),
            on_fault: OnFault::StopBelt,
            acknowledge: Some(line("ACK")),
            page: None,
            beacon: Some(BEACON),
            watchdog: None,
        },
        belt: Belt {
            lane: LaneId(0),
            speed_min: Speed::from_um_per_s(150_000),
            speed_max: Speed::from_um_per_s(600_000),
            permit: PERMIT,
            running: Some(line("BELT_FB")),
            coast: Length::from_mm(80),
            motion: Motion::Encoder {
                counts_per_mm: 4.0,
                reverse: false,
                source: EncoderSource::Simulated,
            },
        },
        trigger: Trigger::PhotoEye {
            line: line("PE_TRIG"),
            stable: Micros::new(800),
        },
        cameras: vec![camera()],
        reject: Reject {
            name: "air-blast".into(),
            output: REJECT,
            distance: Length::from_mm(420),
            footprint: Length::from_mm(6),
            lag_on: Micros::from_millis(9),
            lag_off: Micros::from_millis(12),
            lag_spread: Micros::from_millis(2),
            max_on,
        },
        verify: verify(),
        recipes: vec![
            Arc::new(recipe("cap-28mm", "good >= 0.90", "scratch >= 0.60")),
            Arc::new(recipe("cap-28mm-strict", "good >= 0.99", "scratch >= 0.05")),
        ],
        outputs: vec![
            output("BELT_RUN", false, None),
            output("BEACON", true, None),
            output("REJ1", false, Some(max_on)),
        ],
        inference: Inference::default(),
        record: Record {
            path: PathBuf::from("/nonexistent"),
            rejected: Keep::All,
            passed: Keep::OneIn(500),
            keep_free_percent: 15,
        },
        display: Display {
            width: 800,
            height: 480,
            framebuffer: None,
            panel: None,
            console: None,
            png: None,
        },
        base: PathBuf::from("."),
    }
}

fn camera() -> Camera {
    Camera {
        name: "top".into(),
        um_per_px: 120.0,
        belt_axis: BeltAxis::PlusX,
        distance: Length::from_mm(80),
        stamp_offset: Micros::ZERO,
        stamp_jitter: Micros::new(900),
        retry: Micros::from_millis(500),
        stop_after: Micros::from_millis(2_000),
        mode: CameraMode::FreeRunning { fps_milli: 60_000 },
        locate: Locate {
            contrast: Contrast::PartBrighter,
            threshold: None,
        },
        exposure: Micros::new(180),
        readout: None,
        source: CameraSource::Simulated(SimulatedSource {
            seed: 1,
            parts_per_s: 10.0,
            defective: 0.1,
            format: PictureFormat {
                pixels: PixelFormat::Grey,
                width: 1280,
                height: 960,
                fps_milli: 60_000,
            },
        }),
    }
}

fn verify() -> Verify {
    Verify {
        chute: Some(ChuteEye {
            line: line("PE_CHUTE"),
            after_min: Micros::from_millis(30),
            after_max: Micros::from_millis(140),
            missing: CheckAction::StopBelt,
        }),
        passed: Some(PassedEye {
            line: line("PE_PASSED"),
            distance: Length::from_mm(520),
            window: Length::from_mm(12),
            reject_seen: CheckAction::StopBelt,
            good_missing: CheckAction::Alarm,
        }),
        bin_full: Some(Interlock {
            line: line("PE_BIN"),
            hold: Micros::from_millis(4_000),
            action: CheckAction::StopBelt,
        }),
        air_low: Some(Interlock {
            line: line("AIR"),
            hold: Micros::from_millis(500),
            action: CheckAction::StopBelt,
        }),
        consecutive_rejects: Some(ConsecutiveRejects {
            count: 5,
            action: CheckAction::StopBelt,
        }),
    }
}
