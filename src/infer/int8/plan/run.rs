//! Running a plan. Nothing is allocated here.

use super::super::function::Function;
use super::super::ir::Order;
use super::cut::{self, Cut, Cutting, PanelShare};
use super::{Kernel, Output, Plan, Step};
use crate::kernels::conv::Panels;
use crate::kernels::float::{Order as FloatOrder, Quantize};
use crate::kernels::isa::Isa;
use crate::kernels::layout::Layout;
use crate::kernels::team::{Broken, Lead, Team};
use std::ops::Range;
use std::sync::Arc;

/// What one inference at a time needs to run a plan.
#[derive(Clone, Debug)]
pub struct State {
    plan: Arc<Plan>,
    /// Who helps, unless it helps somebody else at the time.
    team: Option<Arc<Team>>,
    /// By step.
    cuts: Vec<Cut>,
    bytes: Lined,
    floats: Vec<f32>,
    /// The kernels' scratch, for each thread.
    scratch: Vec<Lined>,
    /// Where threads put panels of output channels first.
    panels: Lined,
}

/// Bytes that begin with a cache line: stores across two lines cost twice as much.
#[derive(Debug)]
struct Lined {
    bytes: Vec<u8>,
    start: usize,
}

impl Lined {
    const LINE: usize = 64;

    fn new(length: usize) -> Lined {
        let bytes = vec![0; length + Self::LINE];
        let start = bytes.as_ptr().align_offset(Self::LINE).min(Self::LINE);
        Lined { bytes, start }
    }

    fn all(&mut self) -> &mut [u8] {
        let end = self.bytes.len() - Self::LINE + self.start;
        &mut self.bytes[self.start..end]
    }
}

/// Elsewhere in memory, the line begins elsewhere.
impl Clone for Lined {
    fn clone(&self) -> Lined {
        let mut copy = Lined::new(self.bytes.len() - Self::LINE);
        let end = self.bytes.len() - Self::LINE + self.start;
        copy.all().copy_from_slice(&self.bytes[self.start..end]);
        copy
    }
}

/// A picture as bytes instead of f32.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    /// Interleaved, three bytes a pixel.
    pub rgb: &'a [u8],
    /// By channel of the model: which of the three it shows, and the byte of each value.
    pub channels: &'a [(usize, [u8; 256]); 3],
}

/// What a plan is run on.
#[derive(Clone, Copy)]
enum Given<'a> {
    Floats(&'a [&'a [f32]]),
    Picture(Picture<'a>),
}

impl State {
    /// For one thread.
    pub fn new(plan: Arc<Plan>) -> State {
        State::with_team(plan, None, Cutting::Worthwhile)
    }

    /// The same bits with any team, and with none.
    pub fn with_team(plan: Arc<Plan>, team: Option<Arc<Team>>, cutting: Cutting) -> State {
        let threads = team.as_ref().map_or(1, |team| team.threads());
        let cuts = plan
            .steps
            .iter()
            .map(|step| Cut::new(step, plan.isa, threads, cutting));
        let cuts: Vec<Cut> = cuts.collect();
        let in_panels = plan.steps.iter().zip(&cuts);
        let in_panels = in_panels.filter(|(_, cut)| matches!(cut, Cut::Panels(_)));
        let panels = in_panels.map(|(step, _)| step.layout.values()).max().unwrap_or(0);
        let mut bytes = Lined::new(plan.bytes);
        for (start, constant) in &plan.constants {
            bytes.all()[*start..start + constant.len()].copy_from_slice(constant);
        }
        State {
            cuts,
            bytes,
            floats: vec![0.0; plan.floats],
            scratch: (0..threads).map(|_| Lined::new(plan.scratch)).collect(),
            panels: Lined::new(panels),
            plan,
            team,
        }
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// `inputs` are in the order of [`Plan::inputs`], each as ONNX orders it. After an error the outputs mean nothing.
    pub fn run(&mut self, inputs: &[&[f32]]) -> Result<(), Broken> {
        self.run_on(Given::Floats(inputs))
    }

    /// With bytes in the place of the only input; for plans with a [`Plan::input_quantizer`].
    pub fn run_picture(&mut self, picture: Picture) -> Result<(), Broken> {
        self.run_on(Given::Picture(picture))
    }

    fn run_on(&mut self, given: Given) -> Result<(), Broken> {
        let State {
            plan,
            team,
            cuts,
            bytes,
            floats,
            scratch,
            panels,
        } = self;
        let mut lead = team.as_ref().and_then(|team| team.lead());
        for (step, &cut) in plan.steps.iter().zip(&*cuts) {
            let float_output = &step.floats;
            let (float_input, floats) = match step.float_input.is_empty() {
                true => (&[][..], &mut floats[float_output.clone()]),
                false => apart(floats, &step.float_input, float_output),
            };
            let [a, b] = &step.inputs;
            let (output, a, b) = split(bytes.all(), &step.output, a, b);
            let work = Work {
                step,
                isa: plan.isa,
                given,
                a,
                b,
                floats: float_input,
            };
            match (cut, &mut lead, step.panels()) {
                (Cut::Rows(shares), Some(lead), _) => {
                    work.by_rows(lead, shares, scratch, output, floats)?;
                }
                (Cut::Panels(shares), Some(lead), Some(divided)) => {
                    let mut shares = cut::panels(&step.layout, shares, divided, panels.all());
                    work.by_panels(lead, divided, &mut shares, scratch, output)?;
                }
                _ => work.rows(0..step.layout.height, output, floats, scratch[0].all()),
            }
        }
        Ok(())
    }

    /// Copies an output as ONNX orders it.
    pub fn output(&self, at: usize, to: &mut [f32]) {
        let Output {
            shape, place, order, ..
        } = &self.plan.outputs[at];
        let values = &self.floats[place.clone()];
        match (order, &shape[..]) {
            (Order::ChannelsLast, &[_, c, h, w]) if c > 1 && h * w > 1 => {
                for (channel, plane) in to.chunks_exact_mut(h * w).enumerate() {
                    for (o, pixel) in plane.iter_mut().zip(values.chunks_exact(c)) {
                        *o = pixel[channel];
                    }
                }
            }
            _ => to.copy_from_slice(values),
        }
    }
}

/// A step with all that it reads.
struct Work<'a> {
    step: &'a Step,
    isa: Isa,
    given: Given<'a>,
    a: &'a [u8],
    b: &'a [u8],
    floats: &'a [f32],
}

impl Work<'_> {
    fn by_rows(
        &self,
        lead: &mut Lead,
        shares: usize,
        scratch: &mut [Lined],
        output: &mut [u8],
        floats: &mut [f32],
    ) -> Result<(), Broken> {
        let mut shares = cut::rows(&self.step.layout, shares, output, floats);
        lead.share(scratch, &mut shares, |scratch, share| {
            self.rows(share.rows.clone(), share.bytes, share.floats, scratch.all());
        })
    }

    fn by_panels(
        &self,
        lead: &mut Lead,
        divided: Panels,
        shares: &mut [PanelShare],
        scratch: &mut [Lined],
        output: &mut [u8],
    ) -> Result<(), Broken> {
        let added = matches!(self.step.kernel, Kernel::Conv { residual: true, .. }).then_some(self.b);
        lead.share(scratch, shares, |scratch, share| {
            divided.run(share.panels.clone(), self.a, added, share.bytes, scratch.all());
        })?;
        let layout = &self.step.layout;
        shares.iter().for_each(|share| share.put(layout, output));
        Ok(())
    }

    /// Some rows of the output; `output` and `floats`, of which one is empty, begin with the first of them. Steps that
    /// are never cut do all of it.
    fn rows(&self, rows: Range<usize>, output: &mut [u8], floats: &mut [f32], scratch: &mut [u8]) {
        let (isa, a, b) = (self.isa, self.a, self.b);
        match &self.step.kernel {
            Kernel::Quantize {
                kernel,
                input,
                functions,
            } => match (self.given, &functions[..]) {
                (Given::Picture(picture), _) => picture.rows(&kernel.output, rows, output),
                (Given::Floats(inputs), []) => kernel.run(isa, rows, inputs[*input], output),
                (Given::Floats(inputs), functions) => {
                    quantize(kernel, functions, rows, inputs[*input], output)
                }
            },
            Kernel::Conv { kernel, residual, .. } => {
                kernel.run(rows, a, residual.then_some(b), output, scratch);
            }
            Kernel::ConvF32 {
                kernel,
                first,
                function,
                ..
            } => {
                kernel.run_f32(rows, a, &mut floats[*first..], scratch);
                function.of_all(floats);
            }
            Kernel::Binary(kernel) => kernel.run(isa, rows, a, b, output),
            Kernel::MaxPool(kernel) => kernel.run(isa, rows, a, output),
            Kernel::AveragePool(kernel) => kernel.run(isa, rows, a, output),
            Kernel::Gather(kernel) => kernel.run(isa, rows, a, output),
            Kernel::Bilinear(kernel) => kernel.run(isa, rows, a, output),
            Kernel::Permute(permute) => {
                for (o, &place) in output.iter_mut().zip(&permute.places) {
                    let byte = a[place as usize];
                    *o = permute.table.as_ref().map_or(byte, |t| t[usize::from(byte)]);
                }
            }
            Kernel::Dequantize(kernel) => kernel.run(isa, a, floats),
            Kernel::Values(values) => {
                let layout = &values.input;
                for (i, out) in floats.chunks_mut(layout.channels.max(1)).enumerate() {
                    let pixel = layout.pixel(a, i / layout.width, i % layout.width);
                    for (o, &byte) in out.iter_mut().zip(pixel) {
                        *o = values.table[usize::from(byte)];
                    }
                }
            }
            Kernel::External {
                input,
                order,
                channels,
            } => {
                // A plan that takes a picture has none of these.
                let Given::Floats(inputs) = self.given else { return };
                let input = inputs[*input];
                match order {
                    FloatOrder::Pixels => floats.copy_from_slice(input),
                    FloatOrder::Planes => {
                        let plane = input.len() / channels;
                        for (i, pixel) in floats.chunks_exact_mut(*channels).enumerate() {
                            for (c, value) in pixel.iter_mut().enumerate() {
                                *value = input[c * plane + i];
                            }
                        }
                    }
                }
            }
            Kernel::FloatConv(kernel) => kernel.run(isa, rows, self.floats, floats),
            Kernel::FloatResize(kernel) => kernel.run(rows, self.floats, floats),
            Kernel::Softmax(kernel) => kernel.run(a, floats),
            Kernel::Requantize(kernel) => kernel.run(isa, rows, self.floats, output),
        }
    }
}

impl Picture<'_> {
    /// Its steps; `output` begins with the first of `rows`.
    fn rows(&self, layout: &Layout, rows: Range<usize>, output: &mut [u8]) {
        for y in rows.clone() {
            for x in 0..layout.width {
                let rgb = &self.rgb[3 * (y * layout.width + x)..][..3];
                let pixel = layout.pixel_mut(output, y - rows.start, x);
                for (o, (source, table)) in pixel.iter_mut().zip(self.channels) {
                    *o = table[usize::from(rgb[*source])];
                }
            }
        }
    }
}

/// Values through their functions: for pictures that come in f32, which only comparisons do.
fn quantize(kernel: &Quantize, functions: &[Function], rows: Range<usize>, input: &[f32], output: &mut [u8]) {
    let layout = &kernel.output;
    for y in rows.clone() {
        for x in 0..layout.width {
            let pixel = y * layout.width + x;
            let out = layout.pixel_mut(output, y - rows.start, x);
            for (channel, (out, function)) in out.iter_mut().zip(functions).enumerate() {
                let value = match kernel.order {
                    FloatOrder::Planes => input[channel * layout.height * layout.width + pixel],
                    FloatOrder::Pixels => input[pixel * layout.channels + channel],
                };
                *out = kernel.finish.byte(function.at(value) / kernel.scale);
            }
        }
    }
}

/// The output and two inputs, which it does not overlap.
fn split<'a>(
    bytes: &'a mut [u8],
    output: &Range<usize>,
    a: &Range<usize>,
    b: &Range<usize>,
) -> (&'a mut [u8], &'a [u8], &'a [u8]) {
    if output.is_empty() {
        let bytes: &[u8] = bytes;
        return (&mut [], &bytes[a.clone()], &bytes[b.clone()]);
    }
    let (before, rest) = bytes.split_at_mut(output.start);
    let (output_bytes, after) = rest.split_at_mut(output.len());
    let (before, after): (&[u8], &[u8]) = (before, after);
    let pick = |range: &Range<usize>| {
        if range.is_empty() {
            &[]
        } else if range.start < output.start {
            &before[range.clone()]
        } else {
            &after[range.start - output.end..range.end - output.end]
        }
    };
    (output_bytes, pick(a), pick(b))
}

/// The two parts of the f32 arena, which do not overlap.
fn apart<'a>(floats: &'a mut [f32], from: &Range<usize>, to: &Range<usize>) -> (&'a [f32], &'a mut [f32]) {
    if from.start < to.start {
        let (before, after) = floats.split_at_mut(to.start);
        return (&before[from.clone()], &mut after[..to.len()]);
    }
    let (before, after) = floats.split_at_mut(from.start);
    (&after[..from.len()], &mut before[to.clone()])
}
