//! `elek bench`: `--output-jitter` (see [`jitter`]), `--model` (see [`model`]), and `--pipeline`: how long the station takes
//! from frame to verdict, inference left out.
//!
//! One thread takes the way of a part: locate, core (which asks for the inspection), preprocess, judge,
//! core (which plans). The frame is drawn here, 1280 × 960 YUYV with one part on a grainy belt.

mod jitter;
mod model;

use super::probe::machine::cores;
use crate::config::{self, Config, Crop, EncoderSource, Motion};
use crate::infer::inspection::Inspection;
use crate::infer::manifest::Filter;
use crate::station::event::{Action, Command, Event, FrameSeen, Input};
use crate::station::judge::judge;
use crate::station::{Resume, Station};
use crate::units::{FrameId, Instant, Micros};
use crate::vision::{Frame, Locator, PixelFormat, Preprocessor};
use anyhow::{Context, Result, bail};
use arrayvec::ArrayVec;
use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 960;
/// Runs before the clock counts: caches and buffers are warm on a line, too.
const WARM_UP: usize = 50;
/// From part to part on the virtual belt.
const PERIOD: Micros = Micros::from_millis(200);
/// From reading to reading of the virtual encoder.
const ENCODER_EVERY: Micros = Micros::from_millis(10);
/// Belt speed of the virtual line, within the default configuration's limits.
const MM_PER_S: f64 = 600.0;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Everything but inference, from frame to verdict, on one thread.
    #[arg(long, required_unless_present_any = ["output_jitter", "model"])]
    pipeline: bool,
    /// When output lines really change against when they were told to, without load and with.
    #[arg(long, conflicts_with = "pipeline")]
    output_jitter: bool,
    #[command(flatten)]
    model: model::Args,
    #[command(flatten)]
    jitter: jitter::Args,
    /// How many parts to time.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    runs: u32,
    /// Side of the model input that a part is cropped to.
    #[arg(long, default_value_t = 224, value_name = "PX", value_parser = clap::value_parser!(u32).range(16..=1024))]
    input_px: u32,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// In µs.
#[derive(Debug, Serialize)]
struct Times {
    stage: &'static str,
    min: f64,
    median: f64,
    p99: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    machine: String,
    optimized: bool,
    picture: String,
    input_px: u32,
    runs: u32,
    us: Vec<Times>,
}

const STAGES: [&str; 5] = ["locate", "core", "preprocess", "judge", "frame to verdict"];

pub fn run(args: Args) -> Result<ExitCode> {
    if args.output_jitter {
        return jitter::run(&args.jitter, args.json);
    }
    if let Some(model) = &args.model.model {
        return model::run(model, &args.model, args.json);
    }
    let mut line = Line::new(args.input_px)?;
    for _ in 0..WARM_UP {
        line.part()?;
    }
    let mut samples: [Vec<f64>; STAGES.len()] = Default::default();
    for _ in 0..args.runs {
        let stages = line.part()?;
        for (all, us) in samples
            .iter_mut()
            .zip(stages.into_iter().chain([stages.iter().sum()]))
        {
            all.push(us);
        }
    }
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: machine(),
        optimized: !cfg!(debug_assertions),
        picture: format!("{WIDTH}x{HEIGHT} {}", PixelFormat::Yuyv),
        input_px: line.size,
        runs: args.runs,
        us: STAGES
            .into_iter()
            .zip(samples)
            .map(|(stage, all)| times(stage, all))
            .collect(),
    };
    print(&report, args.json, table)
}

/// As JSON or in words, to the standard output.
fn print<R: Serialize>(report: &R, json: bool, words: impl FnOnce(&R) -> String) -> Result<ExitCode> {
    let text = match json {
        true => serde_json::to_string_pretty(report)? + "\n",
        false => words(report),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What was measured, and where.
fn heading(machine: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let build = match cfg!(debug_assertions) {
        true => " (development build: release builds are faster)",
        false => "",
    };
    format!("elek {version}{build} on {machine}\n")
}

/// The smallest, the median and 99 of 100 of values that are in order, of which there is one at least.
fn ranks(sorted: &[f64]) -> [f64; 3] {
    [0, 50, 99].map(|share| sorted[(sorted.len() - 1) * share / 100])
}

fn times(stage: &'static str, mut all: Vec<f64>) -> Times {
    all.sort_by(f64::total_cmp);
    let [min, median, p99] = ranks(&all);
    Times {
        stage,
        min,
        median,
        p99,
    }
}

fn table(report: &Report) -> String {
    let Report {
        machine,
        picture,
        input_px,
        runs,
        ..
    } = report;
    let mut text = heading(machine) + &format!("{picture} to {input_px}x{input_px}, {runs} parts, µs\n\n");
    text += &format!("{:<18}{:>10}{:>10}{:>10}\n", "stage", "min", "median", "p99");
    for t in &report.us {
        text += &format!(
            "{:<18}{:>10.0}{:>10.0}{:>10.0}\n",
            t.stage, t.min, t.median, t.p99
        );
    }
    text
}

/// The processor's cores as `elek probe` names them.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cores(&info).into_iter();
    let names: Vec<_> = cores.map(|(count, core)| format!("{count} × {core}")).collect();
    if names.is_empty() {
        std::env::consts::ARCH.to_owned()
    } else {
        names.join(", ")
    }
}

/// The default station on a virtual belt, and a frame with one part in the middle.
struct Line {
    config: Arc<Config>,
    station: Station,
    locator: Locator,
    preprocessor: Preprocessor,
    inspection: Inspection,
    size: u32,
    rgb: Vec<u8>,
    frame: Frame,
    actions: Vec<Action>,
    counts_per_mm: f64,
    now: Instant,
}

impl Line {
    fn new(size: u32) -> Result<Line> {
        let parsed = config::parse(config::DEFAULT, "default.toml", Path::new("."));
        let mut config = parsed.map_err(|report| anyhow::anyhow!("the default configuration: {report}"))?;
        // No eyes behind the reject: nothing on this belt would ever reach them.
        config.verify = config::Verify::default();
        let Motion::Encoder {
            counts_per_mm,
            source: EncoderSource::Simulated,
            ..
        } = config.belt.motion
        else {
            bail!("the default configuration has no simulated encoder");
        };
        let recipe = Arc::clone(&config.recipes[config.station.recipe.0 as usize]);
        let camera = config
            .cameras
            .first()
            .context("the default configuration has no camera")?;
        let model = recipe
            .classify
            .as_ref()
            .context("the default recipe has no classifier")?;
        let filter: Filter = model.filter;
        if !matches!(recipe.crop, Crop::Part { .. }) {
            bail!("the default recipe does not crop around the part");
        }
        let mut scores: ArrayVec<f32, { crate::infer::inspection::CLASSES_MAX }> = ArrayVec::new();
        scores.extend(
            model
                .labels
                .iter()
                .map(|label| if label == "good" { 0.99 } else { 0.001 }),
        );
        let locator = Locator::new(camera.locate, camera, &recipe);
        let preprocessor = Preprocessor::new(recipe.crop, size, filter, camera.um_per_px);
        let diameter_px = (recipe.part_max.as_micrometres() as f64 / camera.um_per_px) as u32;
        let config = Arc::new(config);
        let now = Instant::from_micros(1_000_000);
        let mut line = Line {
            station: Station::new(Arc::clone(&config), Resume::default(), now),
            locator,
            preprocessor,
            inspection: Inspection {
                scores: Some(scores),
                ..Inspection::default()
            },
            size,
            rgb: vec![0; size as usize * size as usize * 3],
            frame: draw(diameter_px),
            actions: Vec::with_capacity(64),
            counts_per_mm,
            now,
            config,
        };
        line.tell(Event::OutputsReady(true));
        line.tell(Event::Command(Command::Acknowledge));
        Ok(line)
    }

    fn tell(&mut self, event: Event) {
        self.actions.clear();
        self.station.handle(self.now, event, &mut self.actions);
    }

    /// Lets the belt run until `to`.
    fn run_until(&mut self, to: Instant) {
        while self.now < to {
            self.now = (self.now + ENCODER_EVERY).min(to);
            let seconds = self.now.as_micros() as f64 / 1e6;
            let counts = (seconds * MM_PER_S * self.counts_per_mm) as i64;
            let lane = self.config.belt.lane;
            self.tell(Event::Encoder {
                lane,
                counts,
                at: self.now,
            });
        }
    }

    fn edge(&mut self, active: bool) {
        let input = Input::PhotoEye(self.config.belt.lane);
        self.tell(Event::Edge {
            input,
            active,
            at: self.now,
        });
    }

    /// One part from trigger to verdict: µs of each stage but the last, which is their sum.
    fn part(&mut self) -> Result<[f64; STAGES.len() - 1]> {
        let trigger = self.now;
        let um_per_s = MM_PER_S * 1_000.0;
        let after = |um: i64| Micros::new((um as f64 / um_per_s * 1e6) as i64);
        let recipe = Arc::clone(&self.config.recipes[self.config.station.recipe.0 as usize]);
        let passes = trigger + after(recipe.part_max.as_micrometres());
        // The part's middle, not its leading edge, is drawn at the middle of the picture.
        let middle = self.config.cameras[0].distance + recipe.part_max.half();
        let exposed = trigger + after(middle.as_micrometres());
        self.edge(true);
        self.run_until(passes);
        self.edge(false);
        self.run_until(exposed);
        self.frame.id = FrameId(self.frame.id.0 + 1);
        self.frame.sequence += 1;

        let clock = std::time::Instant::now();
        let mut seen = FrameSeen {
            camera: self.frame.camera,
            frame: self.frame.id,
            sequence: self.frame.sequence,
            mid_exposure: exposed,
            width: WIDTH as u16,
            height: HEIGHT as u16,
            blobs: ArrayVec::new(),
        };
        self.locator.locate(&self.frame, &mut seen.blobs)?;
        let located = clock.elapsed();
        self.tell(Event::Frame(seen));
        let wanted = |action: &Action| {
            if let Action::Inspect(job) = action {
                Some(job.clone())
            } else {
                None
            }
        };
        let Some(job) = self.actions.iter().find_map(wanted) else {
            bail!("the core did not ask for an inspection: {:?}", self.actions);
        };
        let asked = clock.elapsed();
        self.preprocessor.run(&self.frame, job.blob, &mut self.rgb)?;
        let prepared = clock.elapsed();
        std::hint::black_box(judge(&recipe.rules, &self.inspection));
        let judged = clock.elapsed();
        self.tell(Event::Inspected {
            part: job.part,
            result: Ok(self.inspection.clone()),
        });
        let done = clock.elapsed();

        self.run_until(trigger + PERIOD);
        let us = |d: std::time::Duration| d.as_nanos() as f64 / 1e3;
        let core = us(asked - located) + us(done - judged);
        Ok([us(located), core, us(prepared - asked), us(judged - prepared)])
    }
}

/// A bright disc in the middle of a dark belt with a little grain.
fn draw(diameter_px: u32) -> Frame {
    let mut state = 1u32;
    let (cx, cy, r) = (
        i64::from(WIDTH / 2),
        i64::from(HEIGHT / 2),
        i64::from(diameter_px / 2),
    );
    let mut bytes = Vec::with_capacity((WIDTH * HEIGHT * 2) as usize);
    for y in 0..i64::from(HEIGHT) {
        for x in 0..i64::from(WIDTH) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let inside = (x - cx).pow(2) + (y - cy).pow(2) <= r * r;
            let luma = if inside { 180 } else { 50 } + (state >> 28) as u8;
            let chroma = if x % 2 == 0 { 118 } else { 140 };
            bytes.extend([luma, chroma]);
        }
    }
    Frame::new(PixelFormat::Yuyv, WIDTH, HEIGHT, bytes)
}
