//! Running a model: u8 RGB picture in, scores or mask probabilities out.
//!
//! [`Engine`] is an enum so that ways of running a graph stand beside each other without
//! the rest knowing: all in integers, or tract with integer regions inside. Both take the
//! same bytes: what is recorded of a part is what the model saw.

use super::graph::{self, Expected, Facts, Opened};
use super::int8::plan::{Cutting, Picture, State};
use super::int8::region;
use super::manifest::{Activation, Channels, ModelInfo, Task};
use crate::kernels::team::Team;
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use tract_core::internal::*;
use tract_core::prelude::{TypedSimplePlan, TypedSimpleState};

/// One model, ready to run on one thread.
#[derive(Debug)]
pub enum Engine {
    /// All of it in integers; allocates nothing.
    Int8(Int8Engine),
    Tract(TractEngine),
}

impl Engine {
    /// From the bytes of an ONNX file. Files from outside go through
    /// [`super::sandbox::examine`] first.
    pub fn load(bytes: &[u8], info: &ModelInfo) -> Result<Engine> {
        Engine::with_team(bytes, info, None)
    }

    /// The same with a team that helps with the part in integers, unless it helps another engine at the time.
    pub fn with_team(bytes: &[u8], info: &ModelInfo, team: Option<&Arc<Team>>) -> Result<Engine> {
        let load = || {
            let (opened, facts) = graph::open(bytes, &Expected::from(info))?;
            graph::check_output(info, &facts)?;
            let normalise = Arc::new(Normalise::new(info));
            let finish = Finish::new(info, &facts);
            match opened {
                Opened::Whole(plan) => {
                    let state = State::with_team(plan, team.cloned(), Cutting::Worthwhile);
                    Ok(Engine::Int8(Int8Engine::new(state, normalise, finish, facts)))
                }
                Opened::Mixed(mut model) => {
                    if let Some(team) = team {
                        region::help(&mut model, team);
                    }
                    let plan = TypedSimplePlan::new(model)?;
                    TractEngine::with_plan(plan, normalise, finish, facts).map(Engine::Tract)
                }
            }
        };
        load().with_context(|| format!("model {}", info.file_text()))
    }

    /// Another engine for another thread; the weights are shared.
    pub fn fork(&self) -> Result<Engine> {
        match self {
            Engine::Int8(engine) => Ok(Engine::Int8(engine.fork())),
            Engine::Tract(engine) => engine.fork().map(Engine::Tract),
        }
    }

    /// `rgb` has size × size × 3 bytes, rows from the top, red first. Gives the
    /// output after its activation: one score per label, or one plane of
    /// probabilities per channel.
    pub fn run(&mut self, rgb: &[u8]) -> Result<&[f32]> {
        match self {
            Engine::Int8(engine) => engine.run(rgb),
            Engine::Tract(engine) => engine.run(rgb),
        }
    }

    /// For comparisons with reference tensors: the normalised NCHW input itself.
    pub fn run_normalised(&mut self, nchw: &[f32]) -> Result<&[f32]> {
        match self {
            Engine::Int8(engine) => engine.run_normalised(nchw),
            Engine::Tract(engine) => engine.run_normalised(nchw),
        }
    }

    /// [1, labels] or [1, channels, side, side].
    pub fn output_shape(&self) -> &[usize] {
        &self.facts().output_shape
    }

    pub fn facts(&self) -> &Facts {
        match self {
            Engine::Int8(engine) => &engine.facts,
            Engine::Tract(engine) => &engine.facts,
        }
    }
}

/// By channel of the model: which of the picture's three it shows, and the step that each of its bytes becomes.
type Steps = [(usize, [u8; 256]); 3];

/// A whole network as one region.
#[derive(Debug)]
pub struct Int8Engine {
    state: State,
    normalise: Arc<Normalise>,
    /// The step that each byte of a picture becomes, by the model's channels: the picture is quantized straight into
    /// the first operator's input. Without them (the graph does something else first), as f32.
    steps: Option<Arc<Steps>>,
    input: Vec<f32>,
    output: Vec<f32>,
    finish: Finish,
    facts: Facts,
}

impl Int8Engine {
    fn new(state: State, normalise: Arc<Normalise>, finish: Finish, facts: Facts) -> Int8Engine {
        let steps = state.plan().input_quantizer().map(|step| {
            Arc::new(std::array::from_fn(|c| {
                let table = std::array::from_fn(|v| step(c, normalise.table[c][v]));
                (normalise.source[c], table)
            }))
        });
        Self::with_steps(state, normalise, steps, finish, facts)
    }

    fn with_steps(
        state: State,
        normalise: Arc<Normalise>,
        steps: Option<Arc<Steps>>,
        finish: Finish,
        facts: Facts,
    ) -> Int8Engine {
        Int8Engine {
            state,
            input: vec![0.0; normalise.side * normalise.side * 3],
            output: vec![0.0; facts.output_shape.iter().product()],
            normalise,
            steps,
            finish,
            facts,
        }
    }

    fn fork(&self) -> Int8Engine {
        Self::with_steps(
            self.state.clone(),
            self.normalise.clone(),
            self.steps.clone(),
            self.finish,
            self.facts.clone(),
        )
    }

    fn run(&mut self, rgb: &[u8]) -> Result<&[f32]> {
        let wanted = self.input.len();
        ensure!(
            rgb.len() == wanted,
            "the input has {} bytes, the model takes {wanted}",
            rgb.len()
        );
        match &self.steps {
            Some(channels) => self.state.run_picture(Picture { rgb, channels })?,
            None => {
                self.normalise.run(rgb, &mut self.input);
                self.state.run(&[&self.input])?;
            }
        }
        self.finished()
    }

    fn run_normalised(&mut self, nchw: &[f32]) -> Result<&[f32]> {
        let wanted = self.input.len();
        ensure!(
            nchw.len() == wanted,
            "the input has {} numbers, the model takes {wanted}",
            nchw.len()
        );
        self.state.run(&[nchw])?;
        self.finished()
    }

    fn finished(&mut self) -> Result<&[f32]> {
        self.state.output(0, &mut self.output);
        finite(&self.output)?;
        self.finish.run(&mut self.output);
        Ok(&self.output)
    }
}

/// A NaN would satisfy no rule, and so would look like a part without defects.
fn finite(values: &[f32]) -> Result<()> {
    ensure!(
        values.iter().all(|v| v.is_finite()),
        "the model gave a number that is not finite"
    );
    Ok(())
}

/// The graph as tract optimises it. Allocates inside tract only.
pub struct TractEngine {
    plan: Arc<TypedSimplePlan>,
    state: TypedSimpleState,
    /// Normalised input, kept from run to run.
    input: Arc<Tensor>,
    normalise: Arc<Normalise>,
    output: Vec<f32>,
    finish: Finish,
    facts: Facts,
}

/// Short: tract's own prints every weight.
impl std::fmt::Debug for TractEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TractEngine")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl TractEngine {
    fn with_plan(
        plan: Arc<TypedSimplePlan>,
        normalise: Arc<Normalise>,
        finish: Finish,
        facts: Facts,
    ) -> Result<TractEngine> {
        let side = normalise.side;
        let input = Arc::new(Tensor::zero::<f32>(&[1, 3, side, side])?);
        let state = plan.spawn()?;
        let output = vec![0.0; facts.output_shape.iter().product()];
        Ok(TractEngine {
            plan,
            state,
            input,
            normalise,
            output,
            finish,
            facts,
        })
    }

    fn fork(&self) -> Result<TractEngine> {
        Self::with_plan(
            self.plan.clone(),
            self.normalise.clone(),
            self.finish,
            self.facts.clone(),
        )
    }

    fn run(&mut self, rgb: &[u8]) -> Result<&[f32]> {
        let (normalise, wanted) = (
            self.normalise.clone(),
            self.normalise.side * self.normalise.side * 3,
        );
        ensure!(
            rgb.len() == wanted,
            "the input has {} bytes, the model takes {wanted}",
            rgb.len()
        );
        self.run_with(|planes| normalise.run(rgb, planes))
    }

    fn run_normalised(&mut self, nchw: &[f32]) -> Result<&[f32]> {
        let wanted = self.normalise.side * self.normalise.side * 3;
        ensure!(
            nchw.len() == wanted,
            "the input has {} numbers, the model takes {wanted}",
            nchw.len()
        );
        self.run_with(|planes| planes.copy_from_slice(nchw))
    }

    fn run_with(&mut self, fill: impl FnOnce(&mut [f32])) -> Result<&[f32]> {
        // tract has dropped its share after the last run, so nothing is copied here.
        let input = Arc::make_mut(&mut self.input);
        fill(input.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
        let outputs = self
            .state
            .run(tvec!(self.input.clone().into_tvalue()))
            .inspect_err(|_| {
                // A failed run leaves its intermediate values behind; the next one starts clean.
                // Should even that fail, it fails again with the next picture and is told then.
                let _ = self.state.reset_turn();
            })?;
        let values = outputs[0].try_as_plain_ram()?.as_slice::<f32>()?;
        ensure!(
            values.len() == self.output.len(),
            "the model gave {} numbers",
            values.len()
        );
        finite(values)?;
        self.output.copy_from_slice(values);
        self.finish.run(&mut self.output);
        Ok(&self.output)
    }
}

/// x = (v - mean) / scale for each of the 256 values of a channel, and the
/// step from interleaved RGB to planes.
#[derive(Debug)]
struct Normalise {
    side: usize,
    /// By plane of the input, in the model's channel order.
    table: [[f32; 256]; 3],
    /// Which of red, green, blue each plane shows.
    source: [usize; 3],
}

impl Normalise {
    fn new(info: &ModelInfo) -> Self {
        let mut table = [[0.0; 256]; 3];
        for (c, plane) in table.iter_mut().enumerate() {
            for (v, x) in plane.iter_mut().enumerate() {
                *x = (v as f32 - info.mean[c]) / info.scale[c];
            }
        }
        let source = match info.channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
        };
        Normalise {
            side: info.size as usize,
            table,
            source,
        }
    }

    fn run(&self, rgb: &[u8], planes: &mut [f32]) {
        let plane_len = self.side * self.side;
        for (c, plane) in planes.chunks_exact_mut(plane_len).enumerate() {
            let (table, source) = (&self.table[c], self.source[c]);
            for (x, pixel) in plane.iter_mut().zip(rgb.chunks_exact(3)) {
                *x = table[usize::from(pixel[source])];
            }
        }
    }
}

/// What is left to do to the graph's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    Nothing,
    Sigmoid,
    /// Over `channels` planes of equal length.
    Softmax {
        channels: usize,
    },
}

impl Finish {
    fn new(info: &ModelInfo, facts: &Facts) -> Self {
        let channels = facts.output_shape[1];
        match (info.activation, info.task) {
            (Activation::None, Task::Segment) if channels == 1 => Finish::Sigmoid,
            (Activation::None, _) => Finish::Softmax { channels },
            (Activation::Softmax | Activation::Sigmoid, _) => Finish::Nothing,
        }
    }

    fn run(self, values: &mut [f32]) {
        match self {
            Finish::Nothing => {}
            Finish::Sigmoid => values
                .iter_mut()
                .for_each(|v| *v = (1.0 / (1.0 + (-f64::from(*v)).exp())) as f32),
            Finish::Softmax { channels } => softmax(values, channels),
        }
    }
}

/// In f64, so that the last bit of a machine's `exp` does not reach the f32 result.
fn softmax(values: &mut [f32], channels: usize) {
    let plane = values.len() / channels;
    for i in 0..plane {
        let at = |c: usize| c * plane + i;
        let top = (0..channels)
            .map(|c| values[at(c)])
            .fold(f32::NEG_INFINITY, f32::max);
        let e = |v: f32| (f64::from(v) - f64::from(top)).exp();
        let sum: f64 = (0..channels).map(|c| e(values[at(c)])).sum();
        for c in 0..channels {
            values[at(c)] = (e(values[at(c)]) / sum) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::manifest::{Filter, ModelFile};

    fn info(channels: Channels) -> ModelInfo {
        ModelInfo {
            name: "test".to_owned(),
            task: Task::Classify,
            file: ModelFile::Path("test.onnx".into()),
            sha256: [0; 32],
            size: 16,
            input_name: "image".to_owned(),
            mean: [100.0, 110.0, 120.0],
            scale: [10.0, 20.0, 40.0],
            channels,
            output_name: "logits".to_owned(),
            activation: Activation::None,
            labels: vec!["good".to_owned(), "bad".to_owned()],
            threshold: 0.5,
            filter: Filter::Bilinear,
            macs: None,
        }
    }

    #[test]
    fn pixels_become_planes_in_the_models_channel_order() {
        let rgb: Vec<u8> = (0..16 * 16).flat_map(|_| [10, 150, 200]).collect();
        let mut planes = vec![0.0; rgb.len()];
        Normalise::new(&info(Channels::Rgb)).run(&rgb, &mut planes);
        assert_eq!((planes[0], planes[256], planes[767]), (-9.0, 2.0, 2.0));
        Normalise::new(&info(Channels::Bgr)).run(&rgb, &mut planes);
        assert_eq!((planes[0], planes[256], planes[767]), (10.0, 2.0, -2.75));
    }

    #[test]
    fn softmax_sums_to_one_over_channels_and_survives_large_logits() {
        // Two pixels, three channels.
        let mut v = vec![1000.0, 0.0, 999.0, 0.0, -1000.0, 0.0];
        softmax(&mut v, 3);
        assert!(
            (v[0] - 0.731_058_6).abs() < 1e-6 && (v[2] - 0.268_941_4).abs() < 1e-6 && v[4] == 0.0,
            "{v:?}"
        );
        assert!((v[1] + v[3] + v[5] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn sigmoid_and_softmax_of_two_agree() {
        let (mut a, mut b) = (vec![1.5], vec![0.0, 1.5]);
        Finish::Sigmoid.run(&mut a);
        softmax(&mut b, 2);
        assert_eq!(a[0], b[1]);
    }

    #[test]
    fn what_is_no_model_is_an_error_that_names_the_file() {
        for bytes in [
            &b""[..],
            b"\x89PNG\r\n\x1a\n0000",
            &[0xff; 64],
            b"[package]\nname = \"x\"\n",
        ] {
            let error = format!("{:#}", Engine::load(bytes, &info(Channels::Rgb)).unwrap_err());
            assert!(
                error.starts_with("model test.onnx: this is not an ONNX file"),
                "{error}"
            );
        }
    }
}
