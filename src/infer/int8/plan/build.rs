//! From operators to kernels.

use super::super::function::Function;
use super::super::ir::{Conv, Id, Op, OpKind, Part, Pool};
use super::super::onnx::volume;
use super::arena::Arena;
use super::floats::{FloatConv, FloatResize};
use super::{Kernel, Output, Permute, Plan, Region, Step, Values, kind_name, quant_of};
use crate::kernels::binary::{Binary, Operand};
use crate::kernels::check::Misfit;
use crate::kernels::conv::{ConvShape, ConvSpec, PackedConv};
use crate::kernels::finish::{Divisor, Finish, Residual};
use crate::kernels::float::{Dequantize, Order as FloatOrder, Quantize, Softmax};
use crate::kernels::isa::Isa;
use crate::kernels::layout::Layout;
use crate::kernels::spatial::{AveragePool, Bilinear, Gather, MaxPool, Window};
use anyhow::{Context, Result, bail, ensure};
use std::ops::Range;

/// Of one arena: half the memory of a box with 2 GB.
pub const ARENA_MAX: usize = 1 << 30;
/// Of all tensors, whether they share a place or not: what a run goes through. The largest networks for pictures of
/// 1024 × 1024 have a thousandth of it.
const VALUES_ALL_MAX: u64 = 1 << 36;

struct Builder<'a> {
    region: &'a Region,
    isa: Isa,
    arena: Arena,
    steps: Vec<Step>,
    constants: Vec<(usize, Vec<u8>)>,
}

pub fn plan(region: &Region, isa: Isa) -> Result<Plan> {
    let program = &region.program;
    let mut total = 0u64;
    for op in &program.ops {
        total += volume(&program.values[op.output].shape)? as u64;
    }
    ensure!(total <= VALUES_ALL_MAX, "its tensors are too large");
    let arena = Arena::new(program);
    ensure!(
        arena.bytes <= ARENA_MAX && arena.float_count <= ARENA_MAX / 4,
        "it needs more than {} MB for its tensors",
        ARENA_MAX >> 20
    );
    let mut builder = Builder {
        region,
        isa,
        arena,
        steps: Vec::new(),
        constants: Vec::new(),
    };
    for op in &program.ops {
        builder.op(op)?;
    }
    let outputs = region.outputs.iter().map(|&(id, value)| Output {
        value,
        shape: program.values[id].shape.clone(),
        place: builder.arena.floats[id].clone(),
        order: program.values[id].order,
    });
    let outputs = outputs.collect();
    let parameters = program.ops.iter().map(|op| match &op.kind {
        OpKind::Conv(conv) => {
            let weights: usize = conv.parts.iter().map(|p| p.weights.len()).sum();
            (weights + conv.bias.len()) as u64
        }
        OpKind::FloatConv(conv) => (conv.weights.len() + conv.bias.len()) as u64,
        _ => 0,
    });
    let mut kinds: Vec<(&'static str, usize)> = Vec::new();
    for op in &program.ops {
        let name = kind_name(&op.kind);
        match kinds.iter_mut().find(|(kind, _)| *kind == name) {
            Some((_, count)) => *count += 1,
            None => kinds.push((name, 1)),
        }
    }
    let scratch = builder.steps.iter().map(|step| match &step.kernel {
        Kernel::Conv { kernel, .. } | Kernel::ConvF32 { kernel, .. } => kernel.scratch(),
        _ => 0,
    });
    let scratch = scratch.max().unwrap_or(0);
    ensure!(
        scratch <= ARENA_MAX,
        "a convolution needs {} MB beside its tensors",
        scratch >> 20
    );
    Ok(Plan {
        isa,
        scratch,
        bytes: builder.arena.bytes,
        floats: builder.arena.float_count,
        macs: program.macs(),
        float_macs: program.float_macs(),
        parameters: parameters.sum(),
        kinds,
        inputs: region.inputs.clone(),
        outputs,
        constants: builder.constants,
        steps: builder.steps,
    })
}

const NONE: Range<usize> = 0..0;

/// A multiply-accumulate of a depthwise convolution, in those of others, roughly: it has no tile to be shared in.
const DEPTHWISE: u64 = 8;

/// Of a step that is not divided.
fn whole(range: &Range<usize>) -> Layout {
    Layout::dense(1, 1, range.len())
}

impl Kernel {
    /// Nothing that can be wrong with it is left for when it runs. (Convolutions are checked when they are packed.)
    fn check(&self) -> Result<(), Misfit> {
        match self {
            Kernel::Quantize { kernel, .. } | Kernel::Requantize(kernel) => kernel.check(),
            Kernel::Binary(kernel) => kernel.check(),
            Kernel::MaxPool(kernel) => kernel.check(),
            Kernel::AveragePool(kernel) => kernel.check(),
            Kernel::Gather(kernel) => kernel.check(),
            Kernel::Bilinear(kernel) => kernel.check(),
            Kernel::Dequantize(kernel) => kernel.input.check(),
            Kernel::Softmax(kernel) => kernel.input.check(),
            Kernel::Values(values) => values.input.check(),
            Kernel::Conv { .. }
            | Kernel::ConvF32 { .. }
            | Kernel::Permute(_)
            | Kernel::External { .. }
            | Kernel::FloatConv(_)
            | Kernel::FloatResize(_) => Ok(()),
        }
    }
}

impl Builder<'_> {
    fn layout(&self, id: Id) -> Result<Layout> {
        Ok(self.arena.places[id].context("a tensor has no place")?.1)
    }

    fn range(&self, id: Id) -> Result<Range<usize>> {
        let (start, layout) = self.arena.places[id].context("a tensor has no place")?;
        Ok(start..start + layout.span())
    }

    fn step(&mut self, kernel: Kernel, output: Id, inputs: &[Id]) -> Result<()> {
        let mut ranges = [NONE, NONE];
        for (range, &input) in ranges.iter_mut().zip(inputs) {
            *range = self.range(input)?;
        }
        let (range, layout) = (self.range(output)?, self.layout(output)?);
        self.push(kernel, range, ranges, NONE, layout)
    }

    fn push(
        &mut self,
        kernel: Kernel,
        output: Range<usize>,
        inputs: [Range<usize>; 2],
        floats: Range<usize>,
        layout: Layout,
    ) -> Result<()> {
        let apart = |input: &Range<usize>| {
            input.is_empty() || output.is_empty() || input.end <= output.start || output.end <= input.start
        };
        ensure!(
            inputs.iter().all(apart),
            "a tensor is read where another is written"
        );
        kernel.check()?;
        self.steps.push(Step {
            kernel,
            output,
            inputs,
            floats,
            float_input: NONE,
            layout,
        });
        Ok(())
    }

    fn op(&mut self, op: &Op) -> Result<()> {
        let output = op.output;
        match &op.kind {
            OpKind::Constant { bytes } => {
                let range = self.range(output)?;
                ensure!(
                    range.len() == bytes.len(),
                    "a constant has another size than its shape"
                );
                self.constants.push((range.start, bytes.clone()));
                Ok(())
            }
            OpKind::External { external, order } => {
                let input = self.place_of(*external)?;
                let kernel = Kernel::External {
                    input,
                    order: *order,
                    channels: self.region.program.values[output].dims()[2],
                };
                let floats = self.arena.floats[output].clone();
                let layout = whole(&floats);
                self.push(kernel, NONE, [NONE, NONE], floats, layout)
            }
            OpKind::Quantize {
                external,
                order,
                function,
            } => self.quantize(output, *external, *order, function),
            OpKind::Conv(conv) => self.conv(conv, output),
            OpKind::Binary {
                op,
                a,
                b,
                scales,
                step,
                finish,
            } => {
                let kernel = Binary {
                    op: *op,
                    a: self.operand(*a, scales[0])?,
                    b: self.operand(*b, scales[1])?,
                    output: self.layout(output)?,
                    step: Divisor::Step(*step),
                    finish: finish.clone(),
                };
                self.step(Kernel::Binary(kernel.quickened()), output, &[*a, *b])
            }
            OpKind::MaxPool { input, window, table } => {
                let kernel = MaxPool {
                    window: self.window(*input, output, window)?,
                    table: table.clone(),
                };
                self.step(Kernel::MaxPool(kernel), output, &[*input])
            }
            OpKind::AveragePool {
                input,
                window,
                counts,
                step,
                finish,
            } => {
                let kernel = AveragePool {
                    window: self.window(*input, output, window)?,
                    zero: quant_of(&self.region.program, *input).zero,
                    factor: *step,
                    counts: counts.clone(),
                    finish: finish.clone(),
                };
                self.step(Kernel::AveragePool(kernel), output, &[*input])
            }
            OpKind::Gather {
                input,
                rows,
                columns,
                channel,
                fill,
                table,
            } => {
                let to = self.layout(output)?;
                let (start, from) = self.arena.places[*input].context("a tensor has no place")?;
                ensure!(
                    channel + to.channels <= from.channels
                        && rows.len() == to.height
                        && columns.len() == to.width,
                    "a copy of more than there is"
                );
                let from = Layout {
                    channels: to.channels,
                    ..from
                };
                let kernel = Gather {
                    input: from,
                    output: to,
                    rows: rows.clone(),
                    columns: columns.clone(),
                    fill: *fill,
                    table: table.clone(),
                };
                let input = start + channel..start + channel + from.span();
                let range = self.range(output)?;
                self.push(Kernel::Gather(kernel), range, [input, NONE], NONE, to)
            }
            OpKind::Bilinear {
                input,
                rows,
                columns,
                step,
                finish,
            } => {
                let quant = quant_of(&self.region.program, *input);
                let kernel = Bilinear {
                    input: self.layout(*input)?,
                    output: self.layout(output)?,
                    rows: rows.clone(),
                    columns: columns.clone(),
                    zero: quant.zero,
                    scale: quant.scale,
                    step: *step,
                    finish: finish.clone(),
                };
                self.step(Kernel::Bilinear(kernel), output, &[*input])
            }
            OpKind::Concat { inputs } => self.concat(inputs, output),
            OpKind::Permute {
                input,
                lengths,
                steps,
                table,
            } => {
                let places = super::super::fold::strided(lengths, steps);
                let kernel = Permute {
                    places: places.into_iter().map(|p| p as u32).collect(),
                    table: table.clone(),
                };
                let (from, to) = (self.range(*input)?, self.range(output)?);
                let layout = whole(&to);
                self.push(Kernel::Permute(kernel), to, [from, NONE], NONE, layout)
            }
            OpKind::Dequantize { input, function } => self.dequantize(*input, function, output),
            OpKind::Softmax { input } => {
                let kernel = Softmax::new(self.layout(*input)?, quant_of(&self.region.program, *input).scale);
                let (input, floats) = (self.range(*input)?, self.arena.floats[output].clone());
                let layout = whole(&floats);
                self.push(Kernel::Softmax(kernel), NONE, [input, NONE], floats, layout)
            }
            OpKind::FloatConv(conv) => {
                let [input, output_dims] =
                    [conv.input, output].map(|id| self.region.program.values[id].dims());
                let shape = ConvShape {
                    input: Layout::dense(input[0], input[1], input[2]),
                    output: Layout::dense(output_dims[0], output_dims[1], output_dims[2]),
                    kernel: conv.window.kernel,
                    stride: conv.window.stride,
                    dilation: conv.window.dilation,
                    pad: conv.window.pad,
                    groups: 1,
                };
                let taps = conv.window.kernel[0] * conv.window.kernel[1];
                let layout = shape.output;
                let kernel = FloatConv {
                    depthwise: input[2] > 1 && conv.weights.len() == taps * output_dims[2],
                    shape,
                    weights: conv.weights.clone(),
                    bias: conv.bias.clone(),
                    function: conv.function.clone(),
                };
                let kernel = Kernel::FloatConv(Box::new(kernel));
                self.float_step(kernel, conv.input, output, layout)
            }
            OpKind::FloatResize {
                input,
                rows,
                columns,
                function,
            } => {
                let [_, width, channels] = self.region.program.values[*input].dims();
                let layout = Layout::dense(rows.len(), columns.len(), channels);
                let kernel = FloatResize {
                    width,
                    channels,
                    rows: rows.clone(),
                    columns: columns.clone(),
                    function: function.clone(),
                };
                let kernel = Kernel::FloatResize(Box::new(kernel));
                self.float_step(kernel, *input, output, layout)
            }
            OpKind::Requantize { input } => {
                let quant = quant_of(&self.region.program, output);
                let kernel = Quantize {
                    order: FloatOrder::Pixels,
                    output: self.layout(output)?,
                    scale: quant.scale,
                    finish: Finish::plain(quant.zero),
                };
                let (range, layout) = (self.range(output)?, kernel.output);
                self.push(Kernel::Requantize(kernel), range, [NONE, NONE], NONE, layout)?;
                self.reads(*input);
                Ok(())
            }
        }
    }

    /// The f32 tensor that the last step reads.
    fn reads(&mut self, input: Id) {
        if let Some(step) = self.steps.last_mut() {
            step.float_input = self.arena.floats[input].clone();
        }
    }

    fn float_step(&mut self, kernel: Kernel, input: Id, output: Id, layout: Layout) -> Result<()> {
        let (from, to) = (
            self.arena.floats[input].clone(),
            self.arena.floats[output].clone(),
        );
        ensure!(
            from.end <= to.start || to.end <= from.start,
            "a tensor is read where another is written"
        );
        self.push(kernel, NONE, [NONE, NONE], to, layout)?;
        self.reads(input);
        Ok(())
    }

    /// Which of the region's inputs a value from outside is.
    fn place_of(&self, external: usize) -> Result<usize> {
        let mut inputs = self.region.inputs.iter();
        let place = inputs.position(|input| input.value == external);
        place.context("an input is missing")
    }

    fn quantize(
        &mut self,
        output: Id,
        external: usize,
        order: FloatOrder,
        function: &Function,
    ) -> Result<()> {
        let input = self.place_of(external)?;
        let quant = quant_of(&self.region.program, output);
        let kernel = Quantize {
            order,
            output: self.layout(output)?,
            scale: quant.scale,
            finish: Finish::plain(quant.zero),
        };
        let functions = match function.is_variable() {
            true => Vec::new(),
            false => (0..kernel.output.channels)
                .map(|c| function.of_channel(c))
                .collect(),
        };
        let kernel = Kernel::Quantize {
            kernel,
            input,
            functions,
        };
        self.step(kernel, output, &[])
    }

    fn window(&self, input: Id, output: Id, pool: &Pool) -> Result<Window> {
        Ok(Window {
            input: self.layout(input)?,
            output: self.layout(output)?,
            kernel: pool.kernel,
            stride: pool.stride,
            dilation: pool.dilation,
            pad: pool.pad,
        })
    }

    fn conv(&mut self, conv: &Conv, output: Id) -> Result<()> {
        for (number, part) in conv.parts.iter().enumerate() {
            let spec = self.conv_spec(conv, part, output)?;
            let kernel = PackedConv::new(self.isa, &spec)?;
            let of_one = if spec.shape.is_depthwise() { DEPTHWISE } else { 1 };
            let work = spec.shape.macs().saturating_mul(of_one);
            let input = self.range(conv.input)?;
            if let Some(function) = &conv.function {
                let last = number + 1 == conv.parts.len();
                let [_, w, c] = self.region.program.values[output].dims();
                let kernel = Kernel::ConvF32 {
                    kernel,
                    first: (part.first[0] * w + part.first[1]) * c,
                    function: if last {
                        function.clone()
                    } else {
                        Function::Variable
                    },
                    work,
                };
                let floats = self.arena.floats[output].clone();
                self.push(kernel, NONE, [input, NONE], floats, spec.shape.output)?;
                continue;
            }
            let whole = self.layout(output)?;
            let start = |range: Range<usize>, layout: &Layout, part_layout: &Layout| {
                let start = range.start + layout.at(part.first[0], part.first[1]);
                start..start + part_layout.span()
            };
            let range = start(self.range(output)?, &whole, &spec.shape.output);
            let residual = match (&conv.residual, &spec.residual) {
                (Some(added), Some(residual)) => start(
                    self.range(added.value)?,
                    &self.layout(added.value)?,
                    &residual.layout,
                ),
                _ => NONE,
            };
            let kernel = Kernel::Conv {
                kernel,
                residual: spec.residual.is_some(),
                work,
            };
            self.push(kernel, range, [input, residual], NONE, spec.shape.output)?;
        }
        Ok(())
    }

    fn conv_spec(&self, conv: &Conv, part: &Part, output: Id) -> Result<ConvSpec> {
        let sparse = |layout: Layout| Layout {
            height: part.size[0],
            width: part.size[1],
            channels: layout.channels,
            pixel: layout.pixel * part.stride[1],
            row: layout.row * part.stride[0],
        };
        let whole = match conv.function {
            Some(_) => {
                let [h, w, c] = self.region.program.values[output].dims();
                Layout::dense(h, w, c)
            }
            None => self.layout(output)?,
        };
        let residual = match &conv.residual {
            None => None,
            Some(added) => Some(Residual {
                layout: sparse(self.layout(added.value)?),
                zero: quant_of(&self.region.program, added.value).zero,
                scale: added.scale,
                middle: added.middle,
                step: Divisor::Step(added.step),
            }),
        };
        let shape = ConvShape {
            input: self.layout(conv.input)?,
            output: sparse(whole),
            kernel: part.window.kernel,
            stride: part.window.stride,
            dilation: part.window.dilation,
            pad: part.window.pad,
            groups: conv.groups,
        };
        let outputs = shape.output.channels;
        let fits = conv.bias.len() == outputs
            && part.weights.len() == outputs * shape.depth()
            && shape.input.channels.is_multiple_of(conv.groups);
        ensure!(fits, "a convolution whose numbers do not fit its shape");
        Ok(ConvSpec {
            shape,
            weights: part.weights.clone(),
            weight_zero: conv.weight_zero.clone(),
            bias: conv.bias.clone(),
            input_zero: quant_of(&self.region.program, conv.input).zero,
            scale: conv.scale.clone(),
            residual,
            finish: conv.finish.clone(),
        })
    }

    fn operand(&self, id: Id, scale: f32) -> Result<Operand> {
        Ok(Operand {
            layout: self.layout(id)?,
            zero: quant_of(&self.region.program, id).zero,
            scale,
        })
    }

    /// Copies what was not written to its place at once.
    fn concat(&mut self, inputs: &[(Id, Option<std::sync::Arc<[u8]>>)], output: Id) -> Result<()> {
        let (start, whole) = self.arena.places[output].context("a tensor has no place")?;
        let mut channel = 0;
        for (id, table) in inputs {
            let (own, layout) = self.arena.places[*id].context("a tensor has no place")?;
            let to = Layout {
                channels: layout.channels,
                ..whole
            };
            ensure!(
                (layout.height, layout.width) == (to.height, to.width),
                "parts of other sizes cannot be put together"
            );
            let place = start + channel;
            channel += layout.channels;
            ensure!(
                channel <= whole.channels,
                "more is put together than there is room for"
            );
            if own == place && layout == to {
                continue;
            }
            let kernel = Gather::copy(layout, to, table.clone());
            let input = own..own + layout.span();
            self.push(
                Kernel::Gather(kernel),
                place..place + to.span(),
                [input, NONE],
                NONE,
                to,
            )?;
        }
        Ok(())
    }

    fn dequantize(&mut self, input: Id, function: &Function, output: Id) -> Result<()> {
        let quant = quant_of(&self.region.program, input);
        let layout = self.layout(input)?;
        let kernel = if function.is_variable() {
            Kernel::Dequantize(Dequantize {
                order: FloatOrder::Pixels,
                input: layout,
                scale: quant.scale,
                zero: quant.zero,
            })
        } else {
            let table = std::array::from_fn(|byte| function.at(quant.value(byte as u8)));
            Kernel::Values(Box::new(Values { input: layout, table }))
        };
        let (range, floats) = (self.range(input)?, self.arena.floats[output].clone());
        if floats.is_empty() {
            bail!("an output has no place");
        }
        let layout = whole(&floats);
        self.push(kernel, NONE, [range, NONE], floats, layout)
    }
}
