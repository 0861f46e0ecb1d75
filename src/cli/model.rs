//! `elek model info`: what a model file is, whether it can be used, how fast it
//! is here, and the line that puts it into a recipe.

use crate::infer::engine::Engine;
use crate::infer::graph::{Facts, Left};
use crate::infer::inspection::{CLASSES_MAX, MASK_CLASSES_MAX};
use crate::infer::manifest::{self, Activation, Channels, Filter, ModelInfo, Task};
use crate::infer::sandbox;
use crate::kernels::isa::Isa;
use anyhow::Result;
use clap::Subcommand;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const RUNS: Runs = Runs {
    warm_up: 3,
    most: 50,
    time: Duration::from_secs(2),
};

/// How often an inference is timed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    /// Runs whose time is thrown away: caches and scratch memory fill up.
    pub warm_up: usize,
    /// Enough for a steady median of a fast model; a slow one ends by time, after one run at least.
    pub most: usize,
    pub time: Duration,
}

impl Runs {
    /// What inferences of one picture took in ms, the fastest first.
    pub fn of(self, engine: &mut Engine, rgb: &[u8]) -> Result<Vec<f64>> {
        for _ in 0..self.warm_up {
            engine.run(rgb)?;
        }
        let start = Instant::now();
        let mut taken = Vec::with_capacity(self.most);
        while taken.is_empty() || (taken.len() < self.most && start.elapsed() < self.time) {
            let run = Instant::now();
            engine.run(rgb)?;
            taken.push(run.elapsed().as_secs_f64() * 1e3);
        }
        taken.sort_by(f64::total_cmp);
        Ok(taken)
    }
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Describe a model: shapes, labels, hash, work, time on this machine.
    Info {
        /// An ONNX file with a manifest.toml beside it, or builtin:NAME.
        #[arg(value_name = "FILE|builtin:NAME")]
        model: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The hidden `probe-model`; see [`sandbox`].
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn probe(args: ProbeArgs) -> Result<ExitCode> {
    Ok(sandbox::child(args.args))
}

pub fn run(args: Args) -> Result<ExitCode> {
    let ModelCommand::Info { model, json } = args.command;
    let info = manifest::describe(Path::new(""), &model, None)?;
    let bytes = info.bytes()?;
    let facts = sandbox::examine_bytes(&bytes, &info)?;
    let mut engine = Engine::load(&bytes, &info)?;
    let times = measure(&mut engine, &info)?;
    let report = Report {
        info: &info,
        facts: &facts,
        bytes: bytes.len(),
        times,
    };
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{:#}", report.json())?;
    } else {
        write!(out, "{}", report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fastest and median time of one inference on one thread, in ms.
#[derive(Clone, Copy, Debug)]
struct Times {
    runs: usize,
    median_ms: f64,
    fastest_ms: f64,
}

fn measure(engine: &mut Engine, info: &ModelInfo) -> Result<Times> {
    // A picture of mid grey: the time of the operators used does not depend on the values.
    let rgb = vec![127; info.size as usize * info.size as usize * 3];
    let taken = RUNS.of(engine, &rgb)?;
    Ok(Times {
        runs: taken.len(),
        median_ms: taken[taken.len() / 2],
        fastest_ms: taken[0],
    })
}

struct Report<'a> {
    info: &'a ModelInfo,
    facts: &'a Facts,
    bytes: usize,
    times: Times,
}

impl Report<'_> {
    fn json(&self) -> serde_json::Value {
        let Report {
            info, facts, times, ..
        } = self;
        serde_json::json!({
            "name": info.name,
            "task": info.task.word(),
            "file": info.file_text(),
            "bytes": self.bytes,
            "sha256": manifest::hex(&info.sha256),
            "quantized": facts.quantized(),
            "opset": facts.opset,
            "input": {
                "name": info.input_name,
                "shape": [1, 3, info.size, info.size],
                "channels": channels(info),
                "mean": info.mean,
                "scale": info.scale,
                "filter": filter(info),
            },
            "output": { "name": info.output_name, "shape": facts.output_shape, "activation": activation(info) },
            "labels": info.labels,
            "threshold": (info.task == Task::Segment).then_some(info.threshold),
            "macs": facts.macs,
            "parameters": facts.parameters,
            "integers": facts.integers,
            "kernels": Isa::best().name(),
            "ops": facts.ops,
            "time_ms": { "runs": times.runs, "median": times.median_ms, "fastest": times.fastest_ms },
            "recipe": self.usable().then(|| self.recipe_line()),
        })
    }

    fn text(&self) -> String {
        let Report {
            info, facts, times, ..
        } = self;
        let kind = if facts.quantized() { "int8" } else { "f32" };
        let size = info.size;
        let normalise = format!("x = (v - {}) / {}", three(&info.mean), three(&info.scale));
        let mut ops: Vec<(&String, &u32)> = facts.ops.iter().collect();
        ops.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
        let ops: Vec<String> = ops
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        let mut lines = vec![
            ("model", format!("{}, {}, {kind}", info.name, info.task.word())),
            (
                "file",
                format!(
                    "{}, {:.2} MB, ONNX opset {}",
                    info.file_text(),
                    self.bytes as f64 / 1e6,
                    facts.opset
                ),
            ),
            ("sha256", manifest::hex(&info.sha256)),
            (
                "input",
                format!(
                    "{:?} 1 × 3 × {size} × {size}, {}, {normalise}, {}",
                    info.input_name,
                    channels(info),
                    filter(info)
                ),
            ),
            (
                "output",
                format!(
                    "{:?} {}, {}",
                    info.output_name,
                    shape(&facts.output_shape),
                    after(info)
                ),
            ),
            ("labels", some_of(&info.labels)),
            (
                "work",
                format!(
                    "{:.3} GMAC, {:.2} M parameters",
                    facts.macs as f64 / 1e9,
                    facts.parameters as f64 / 1e6
                ),
            ),
            ("ops", ops.join(", ")),
            ("integers", integers(facts)),
            ("kernels", Isa::best().name().to_owned()),
            (
                "time here",
                format!(
                    "{:.2} ms (median of {} runs on one thread; fastest {:.2} ms)",
                    times.median_ms, times.runs, times.fastest_ms
                ),
            ),
        ];
        if info.task == Task::Segment {
            lines.push(("threshold", format!("{}", info.threshold)));
        }
        let mut text: String = lines
            .iter()
            .map(|(key, value)| format!("{key:<10} {value}\n"))
            .collect();
        if self.usable() {
            text += &format!("\nIn a recipe:\n{}\n", self.recipe_line());
        } else {
            text += &format!(
                "\nRules can judge at most {} labels: this model cannot be used in a recipe.\n",
                self.most()
            );
        }
        text
    }

    fn most(&self) -> usize {
        match self.info.task {
            Task::Classify => CLASSES_MAX,
            Task::Segment => MASK_CLASSES_MAX,
        }
    }

    fn usable(&self) -> bool {
        self.info.labels.len() <= self.most()
    }

    fn recipe_line(&self) -> String {
        // A path as a TOML string, whatever it contains.
        let model = toml::Value::from(self.info.file_text());
        format!(
            "{} = {{ model = {model}, sha256 = \"{}\" }}",
            self.info.task.word(),
            manifest::hex(&self.info.sha256)
        )
    }
}

fn three(values: &[f32; 3]) -> String {
    match values {
        [a, b, c] if a == b && b == c => format!("{a}"),
        other => format!("{other:?}"),
    }
}

fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}

fn some_of(labels: &[String]) -> String {
    const SHOWN: usize = 32;
    match labels.len() {
        n if n <= SHOWN => labels.join(", "),
        n => format!("{}, … ({n} in all)", labels[..SHOWN.min(8)].join(", ")),
    }
}

/// Which share of the work runs in integers, and what does not. (Which operators do run in integers is in the JSON:
/// they are many.)
fn integers(facts: &Facts) -> String {
    let integers = &facts.integers;
    let mut text = if integers.regions == 0 {
        match &integers.why_not {
            Some(why) => format!("nothing, all of it runs in f32: {why}"),
            None => return "nothing; all of it runs in f32".to_owned(),
        }
    } else {
        let share = |macs: u64| 100.0 * macs as f64 / facts.macs.max(1) as f64;
        let regions = match integers.regions {
            1 => "one region".to_owned(),
            n => format!("{n} regions"),
        };
        let mut text = format!(
            "{:.2} % of the work, {} operators in {regions}",
            share(integers.macs),
            integers.nodes.len()
        );
        if !integers.floats.is_empty() {
            text += &format!(
                "; {} small ones in f32 beside them, {:.2} % of the work",
                integers.floats.len(),
                share(integers.float_macs)
            );
            text += &list(&integers.floats);
            text += &format!("\n{:<10}", "");
        } else {
            text += "; ";
        }
        text + &match integers.left.len() {
            0 => "nothing in f32 by tract".to_owned(),
            n => format!("in f32 by tract: {n}"),
        }
    };
    text += &list(&integers.left);
    text
}

fn list(left: &[Left]) -> String {
    let line = |left: &Left| format!("\n{:<10}   {} {:?}: {}", "", left.op, left.name, left.reason);
    left.iter().map(line).collect()
}

fn channels(info: &ModelInfo) -> &'static str {
    match info.channels {
        Channels::Rgb => "RGB",
        Channels::Bgr => "BGR",
    }
}

fn filter(info: &ModelInfo) -> &'static str {
    match info.filter {
        Filter::Bilinear => "bilinear",
        Filter::Bicubic => "bicubic",
    }
}

fn activation(info: &ModelInfo) -> &'static str {
    match info.activation {
        Activation::None => "none",
        Activation::Softmax => "softmax",
        Activation::Sigmoid => "sigmoid",
    }
}

fn after(info: &ModelInfo) -> &'static str {
    match (info.activation, info.task) {
        (Activation::None, Task::Classify) => "logits, softmax by elek",
        (Activation::None, Task::Segment) => "logits, probabilities by elek",
        (Activation::Softmax, _) => "softmax in the graph",
        (Activation::Sigmoid, _) => "sigmoid in the graph",
    }
}
