//! How a line is set up.

use crate::config::{CameraSource, Config, Motion};
use crate::units::{Length, Micros, Speed};
use serde::{Deserialize, Serialize};

/// How the line is set up, beyond what the configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldOptions {
    pub seed: u64,
    /// Speed of the running belt.
    pub speed: Speed,
    /// Mean distance from leading edge to leading edge; the recipe's smallest is kept.
    pub pitch: Length,
    /// Share of the free way between parts that varies, in thousandths.
    pub pitch_variation: u32,
    /// Parts per thousand that have a defect.
    pub defective: u32,
    /// Furthest a part lies beside the middle of the belt.
    pub across: Length,
    /// How the motor runs up, mm/s per s.
    pub run_up_mm_s2: i64,
    pub encoder_error_ppm: i64,
    pub encoder_period: Micros,
    /// A sensor's stamp is at most this much late.
    pub edge_jitter: Micros,
    /// From the reject's blow to the chute eye, shortest and longest.
    pub fall: (Micros, Micros),
    /// Picture of a camera without a stated format (folder source), for what is in view.
    pub picture: (u32, u32),
    /// No more parts are laid after this many.
    pub parts_max: Option<u64>,
    /// Parts that lie between photo-eye and last sensor from the beginning, as many as there is room for.
    pub left_on_belt: u32,
    /// Keep a list of [`TruthNote`](crate::simulate::part::TruthNote)s for the checks.
    pub keep_notes: bool,
}

impl WorldOptions {
    /// The line that `config` describes: rate and share of defects from its camera's source.
    pub fn of(config: &Config, seed: u64) -> WorldOptions {
        let (parts_per_s, defective, picture) = match &config.cameras[0].source {
            CameraSource::Simulated(s) => (s.parts_per_s, s.defective, (s.format.width, s.format.height)),
            CameraSource::Folder(f) => (f.parts_per_s, 0.0, (1280, 960)),
            CameraSource::V4l2(v) => (5.0, 0.0, (v.format.width, v.format.height)),
        };
        let speed = match config.belt.motion {
            Motion::Time { speed } => speed,
            // Somewhat below the fastest, so that the stated limit is not touched by noise.
            Motion::Encoder { .. } => Speed::from_um_per_s(
                (config.belt.speed_max.as_um_per_s() * 4 / 5).max(config.belt.speed_min.as_um_per_s()),
            ),
        };
        let pitch = (speed.as_um_per_s() as f64 / parts_per_s.max(0.01)) as i64;
        let fall = match &config.verify.chute {
            // Well inside the window, which counts from the blow.
            Some(c) => {
                let (low, high) = (c.after_min, c.after_max);
                let quarter = Micros::new(high.get().saturating_sub(low.get()) / 4);
                (low + quarter, high - quarter)
            }
            None => (Micros::from_millis(40), Micros::from_millis(60)),
        };
        WorldOptions {
            seed,
            speed,
            pitch: Length::from_micrometres(pitch),
            pitch_variation: 300,
            defective: (defective.clamp(0.0, 1.0) * 1_000.0) as u32,
            across: Length::from_mm(3),
            run_up_mm_s2: match config.belt.motion {
                // A station that reckons by time needs a motor that knows two speeds only.
                Motion::Time { .. } => 1_000_000,
                Motion::Encoder { .. } => 2_000,
            },
            encoder_error_ppm: 0,
            encoder_period: Micros::from_millis(2),
            edge_jitter: Micros::new(50),
            fall,
            picture,
            parts_max: None,
            left_on_belt: 0,
            keep_notes: false,
        }
    }
}
