//! Running a plan. Nothing is allocated here.

use super::super::function::Function;
use super::super::ir::Order;
use super::{Kernel, Output, Plan, Step};
use crate::kernels::float::{Order as FloatOrder, Quantize};
use std::ops::Range;
use std::sync::Arc;

/// What one thread needs to run a plan.
#[derive(Clone, Debug)]
pub struct State {
    plan: Arc<Plan>,
    bytes: Lined,
    floats: Vec<f32>,
    scratch: Lined,
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
pub struct Picture<'a> {
    /// Interleaved, three bytes a pixel.
    pub rgb: &'a [u8],
    /// By channel of the model: which of the three it shows, and the byte of each value.
    pub channels: &'a [(usize, [u8; 256]); 3],
}

impl State {
    pub fn new(plan: Arc<Plan>) -> State {
        let mut bytes = Lined::new(plan.bytes);
        for (start, constant) in &plan.constants {
            bytes.all()[*start..start + constant.len()].copy_from_slice(constant);
        }
        State {
            bytes,
            floats: vec![0.0; plan.floats],
            scratch: Lined::new(plan.scratch),
            plan,
        }
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// `inputs` are in the order of [`Plan::inputs`], each as ONNX orders it.
    pub fn run(&mut self, inputs: &[&[f32]]) {
        let plan = self.plan.clone();
        for step in &plan.steps {
            self.step(&plan, step, inputs);
        }
    }

    /// With bytes in the place of the only input; for plans with a [`Plan::input_quantizer`].
    pub fn run_picture(&mut self, picture: &Picture) {
        let plan = self.plan.clone();
        for step in &plan.steps {
            match &step.kernel {
                Kernel::Quantize { kernel, .. } => {
                    let layout = &kernel.output;
                    let out = &mut self.bytes.all()[step.output.clone()];
                    for y in 0..layout.height {
                        for x in 0..layout.width {
                            let rgb = &picture.rgb[3 * (y * layout.width + x)..][..3];
                            let pixel = layout.pixel_mut(out, y, x);
                            for (o, (source, table)) in pixel.iter_mut().zip(picture.channels) {
                                *o = table[usize::from(rgb[*source])];
                            }
                        }
                    }
                }
                _ => self.step(&plan, step, &[]),
            }
        }
    }

    fn step(&mut self, plan: &Plan, step: &Step, inputs: &[&[f32]]) {
        let State {
            bytes,
            floats,
            scratch,
            ..
        } = self;
        let (isa, rows) = (plan.isa, 0..step.rows);
        if !step.float_input.is_empty() {
            let (from, to) = apart(floats, &step.float_input, &step.floats);
            match &step.kernel {
                Kernel::FloatConv(kernel) => kernel.run(isa, from, to),
                Kernel::FloatResize(kernel) => kernel.run(from, to),
                _ => {}
            }
            return;
        }
        let floats = &mut floats[step.floats.clone()];
        let [a, b] = &step.inputs;
        let (bytes, scratch) = (bytes.all(), scratch.all());
        let (output, a, b) = split(bytes, &step.output, a, b);
        match &step.kernel {
            Kernel::Quantize {
                kernel,
                input,
                functions,
            } => match &functions[..] {
                [] => kernel.run(isa, rows, inputs[*input], output),
                functions => quantize(kernel, functions, rows, inputs[*input], output),
            },
            Kernel::Conv { kernel, residual } => {
                kernel.run(rows, a, residual.then_some(b), output, scratch);
            }
            Kernel::ConvF32 {
                kernel,
                first,
                function,
            } => {
                kernel.run_f32(rows, a, &mut floats[*first..], scratch);
                if !function.is_variable() {
                    floats.iter_mut().for_each(|v| *v = function.at(*v));
                }
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
            // Run above: they have an f32 input.
            Kernel::FloatConv(_) | Kernel::FloatResize(_) => {}
            Kernel::Softmax(kernel) => kernel.run(a, floats),
            Kernel::Requantize(kernel) => kernel.run(isa, rows, floats, output),
        }
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
