//! What moves, gathers or pools pixels: pools, resizes, padding, slices, concatenation.

use super::super::fold::{self, Known};
use super::super::function::{Function, Quant};
use super::super::ir::{Id, OpKind, Order, Pool};
use super::super::onnx::{Node, Tensor};
use super::coordinates::Coordinates;
use super::{Float, Lowering, Reason, Symbol, Target, carried, finite, simple};
use crate::kernels::spatial::NOWHERE;
use std::ops::Range;
use std::sync::Arc;

pub fn is_covered(op: &str) -> bool {
    keeps_steps(op)
        || matches!(
            op,
            "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean"
        )
}

/// Operators whose output values are values of the input.
pub fn keeps_steps(op: &str) -> bool {
    matches!(
        op,
        "MaxPool" | "GlobalMaxPool" | "Resize" | "Upsample" | "Pad" | "Slice" | "Split" | "Concat"
    )
}

/// Shapes of the outputs of a `Split`.
pub fn split_shapes(node: &Node, known: &Known) -> Result<Vec<Vec<usize>>, Reason> {
    let input = known.shape(0).ok_or("the shape of its input is not known")?;
    let axis = fold::axis(node.int("axis", 0), input.len()).map_err(|e| e.to_string())?;
    let count = node.outputs.len();
    let listed = node.ints("split").map(<[i64]>::to_vec);
    let listed = listed.or_else(|| known.constant(1).and_then(Tensor::whole));
    let lengths: Vec<usize> = match listed {
        Some(list) => list
            .into_iter()
            .map(|l| usize::try_from(l).ok())
            .collect::<Option<_>>()
            .ok_or("a negative length")?,
        None if node.input(1).is_some() => return Err("its lengths are not constant".to_owned()),
        None => {
            let each = input[axis].div_ceil(count.max(1));
            (0..count)
                .map(|i| each.min(input[axis].saturating_sub(i * each)))
                .collect()
        }
    };
    let sum = lengths.iter().try_fold(0usize, |sum, &l| sum.checked_add(l));
    if lengths.len() != count || sum != Some(input[axis]) || lengths.contains(&0) {
        return Err("its lengths do not fit its input".to_owned());
    }
    let shapes = lengths.into_iter().map(|length| {
        let mut shape = input.to_vec();
        shape[axis] = length;
        shape
    });
    Ok(shapes.collect())
}

impl Lowering<'_> {
    pub fn spatial(
        &mut self,
        node: &Node,
        output: usize,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        if node.op == "Concat" {
            return self.joined(node, function, target);
        }
        if let (Target::Float, "Resize") = (target, node.op.as_str()) {
            return self.float_resize(node, function);
        }
        let (input, function) = self.moved(node, function, target)?;
        let function = &function;
        let shape = self.shape_of(node, output)?;
        match node.op.as_str() {
            "MaxPool" => self.max_pool(node, input, shape, function, target),
            "AveragePool" => self.average_pool(node, input, shape, function, target),
            "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean" => {
                self.global_pool(node, input, shape, function, target)
            }
            "Resize" | "Upsample" => self.resize(node, input, shape, function, target),
            "Pad" => self.pad(node, input, shape, function, target),
            _ => self.slice(node, output, input, shape, function, target),
        }
    }

    /// The input, and what is left to do behind the operator: where values only move, they can be quantized before.
    fn moved(&mut self, node: &Node, function: &Function, target: Target) -> Result<(Id, Function), Reason> {
        let value = node.input(0).ok_or("it has no input")?;
        let moves = match node.op.as_str() {
            "MaxPool" | "GlobalMaxPool" => function.limits().is_some(),
            "Resize" | "Upsample" => node.text("mode", "nearest") == "nearest",
            "Slice" | "Split" => true,
            // What is around it would go through the function too.
            "Pad" => function.is_variable(),
            _ => false,
        };
        let allowed = match target {
            Target::Bytes { quant, .. } if !moves => quant.scale / 2.0,
            _ => 0.0,
        };
        let reason = match self.bytes_within(value, allowed) {
            Ok(id) => return Ok((id, function.clone())),
            Err(reason) => reason,
        };
        let Symbol::Float(float) = self.symbols[value].clone() else {
            return Err(reason);
        };
        if !moves || target == Target::Float {
            return Err(reason);
        }
        let function = function.of(&float.function);
        let id = self.lower(&simple(Float { function, ..float })?, target)?;
        Ok((id, Function::Variable))
    }

    /// `Concat`. Values in f32 get the step of the result one by one; bytes are put together as they are, and what
    /// reads them says what they mean.
    fn joined(&mut self, node: &Node, function: &Function, target: Target) -> Result<Id, Reason> {
        target.bytes()?;
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for value in &node.inputs {
            let value = value.ok_or("an input is missing")?;
            inputs.push(match self.symbols[value].clone() {
                Symbol::Bytes(id) => {
                    let own = self.program.values[id].clone();
                    self.alias(id, own.shape, own.order, target.kind())
                }
                Symbol::Float(float) => {
                    let function = function.of(&float.function);
                    self.lower(&simple(Float { function, ..float })?, target)?
                }
                _ => self.bytes_of(value)?,
            });
        }
        self.concat(node, inputs, &Function::Variable, target)
    }

    /// The pools that carry their steps themselves.
    pub fn pooled(&mut self, node: &Node, input: Id, target: Target) -> Result<Id, Reason> {
        let mut shape = self.shape_of(node, 0)?;
        let pixels = fold::channels_last(node);
        let input = if pixels { self.planes_of(input)? } else { input };
        if let (true, &[n, h, w, c]) = (pixels, &shape[..]) {
            shape = vec![n, c, h, w];
        }
        let id = match node.op.as_str() {
            "QLinearAveragePool" => self.average_pool(node, input, shape, &Function::Variable, target),
            _ => self.global_pool(node, input, shape, &Function::Variable, target),
        }?;
        Ok(if pixels { self.pixels_of(id) } else { id })
    }

    fn quant_of(&self, id: Id) -> Result<Quant, Reason> {
        self.program.values[id]
            .quant()
            .ok_or_else(|| "its input is not quantized".to_owned())
    }

    /// What takes bytes of the input to bytes of the output, if they differ.
    fn step_table(
        &self,
        input: Id,
        function: &Function,
        target: Target,
    ) -> Result<Option<Arc<[u8]>>, Reason> {
        let (from, to) = (self.quant_of(input)?, target.bytes()?);
        Ok((!function.is_variable() || from != to).then(|| function.table(from, to)))
    }

    fn max_pool(
        &mut self,
        node: &Node,
        input: Id,
        shape: Vec<usize>,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        if node.outputs.len() > 1 {
            return Err("indices of the largest values are not covered".to_owned());
        }
        let input = self.channels_last(input)?;
        let [h, w, _] = self.program.values[input].dims();
        let windows = fold::pool_windows(node, [h, w]).map_err(|e| e.to_string())?;
        let kind = OpKind::MaxPool {
            input,
            window: checked_pool(&windows, [h, w])?,
            table: self.step_table(input, function, target)?,
        };
        Ok(self.push(kind, shape, Order::ChannelsLast, target))
    }

    fn average_pool(
        &mut self,
        node: &Node,
        input: Id,
        shape: Vec<usize>,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        let input = self.channels_last(input)?;
        let [h, w, _] = self.program.values[input].dims();
        let windows = fold::pool_windows(node, [h, w]).map_err(|e| e.to_string())?;
        let window = checked_pool(&windows, [h, w])?;
        let include = node.int("count_include_pad", 0) != 0;
        let counts = [0, 1].map(|axis| {
            let length = [h, w][axis] as isize;
            let range = match include {
                true => -windows.pads[axis]..length + windows.pads[axis + 2],
                false => 0..length,
            };
            (0..windows.output[axis])
                .map(|at| seen(&windows, axis, at, &range) as u32)
                .collect::<Vec<u32>>()
        });
        self.push_average(
            input,
            window,
            counts,
            shape,
            Order::ChannelsLast,
            function,
            target,
        )
    }

    /// Over all pixels.
    fn global_pool(
        &mut self,
        node: &Node,
        input: Id,
        shape: Vec<usize>,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        let own = self.program.values[input].clone();
        if own.shape.len() != 4 || own.shape[0] != 1 {
            return Err(format!("pooling {:?} is not covered", own.shape));
        }
        let axes = match node.op.as_str() {
            "ReduceMean" | "QLinearReduceMean" => {
                fold::reduced_axes(node, 4, &self.known(node)).map_err(|e| e.to_string())?
            }
            _ => vec![2, 3],
        };
        // The two dimensions that are height and width where the input is stored.
        let wanted: &[usize] = match own.order {
            Order::ChannelsLast => &[2, 3],
            Order::Rows => &[1, 2],
        };
        let input = if axes == wanted {
            input
        } else if axes == [2, 3] {
            self.channels_last(input)?
        } else {
            return Err(format!("a mean over {axes:?} is not covered"));
        };
        let value = self.program.values[input].clone();
        let [h, w, c] = value.dims();
        let kept = match value.order {
            Order::ChannelsLast => vec![1, c, 1, 1],
            Order::Rows => vec![1, 1, 1, c],
        };
        let window = Pool {
            kernel: [h, w],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
        };
        let id = if node.op == "GlobalMaxPool" {
            let kind = OpKind::MaxPool {
                input,
                window,
                table: self.step_table(input, function, target)?,
            };
            self.push(kind, kept, value.order, target)
        } else {
            let count = u32::try_from(h * w)
                .ok()
                .filter(|n| *n < 1 << 23)
                .ok_or("too many pixels")?;
            let counts = [vec![count], vec![1]];
            self.push_average(input, window, counts, kept, value.order, function, target)?
        };
        if self.program.values[id].shape == shape {
            return Ok(id);
        }
        let id = self.rows(id)?;
        Ok(self.alias(id, shape, Order::Rows, target.kind()))
    }

    #[allow(clippy::too_many_arguments)]
    fn push_average(
        &mut self,
        input: Id,
        window: Pool,
        counts: [Vec<u32>; 2],
        shape: Vec<usize>,
        order: Order,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        if counts.iter().flatten().any(|c| *c == 0) || window.kernel[0] * window.kernel[1] >= 1 << 23 {
            return Err("a window sees nothing, or too much".to_owned());
        }
        let (step, finish) = function.finish(target.bytes()?)?;
        let kind = OpKind::AveragePool {
            input,
            window,
            counts,
            step: finite(self.quant_of(input)?.scale / step)?,
            finish,
        };
        Ok(self.push(kind, shape, order, target))
    }

    fn resize(
        &mut self,
        node: &Node,
        input: Id,
        shape: Vec<usize>,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        let own = self.program.values[input].clone();
        let sized = fold::resize_scales(node, &own.shape, &self.known(node)).map_err(|e| e.to_string())?;
        let sized = sized.ok_or("its scales are not constant")?;
        let (mode, modes) = (node.text("mode", "nearest"), Coordinates::of(node)?);
        // NHWC graphs resize dimensions 1 and 2 of four.
        let stored = match own.order {
            Order::ChannelsLast => [2, 3],
            Order::Rows if own.shape.len() == 4 && own.shape[3] == shape[3] => [1, 2],
            Order::Rows => [2, 3],
        };
        let same = |i: usize| shape.get(i) == own.shape.get(i);
        if own.shape.len() != 4 || !(0..4).all(|i| stored.contains(&i) || same(i)) {
            return Err("only height and width may change".to_owned());
        }
        let input = if stored == [2, 3] {
            self.channels_last(input)?
        } else {
            input
        };
        let order = self.program.values[input].order;
        let [h, w, _] = self.program.values[input].dims();
        let lengths = [(h, sized[stored[0]]), (w, sized[stored[1]])];
        let kind = match mode.as_str() {
            "nearest" => {
                let [rows, columns] = lengths.map(|(from, (scale, to))| modes.nearest(from, to, scale));
                OpKind::Gather {
                    input,
                    rows,
                    columns,
                    channel: 0,
                    fill: 0,
                    table: self.step_table(input, function, target)?,
                }
            }
            "linear" => {
                if node.int("antialias", 0) != 0 {
                    return Err("antialias is not covered".to_owned());
                }
                let [rows, columns] = lengths.map(|(from, (scale, to))| modes.between(from, to, scale));
                let (step, finish) = function.finish(target.bytes()?)?;
                finite(self.quant_of(input)?.scale / step)?;
                OpKind::Bilinear {
                    input,
                    rows,
                    columns,
                    step,
                    finish,
                }
            }
            other => return Err(format!("the mode {other:?} is not covered")),
        };
        Ok(self.push(kind, shape, order, target))
    }

    fn pad(
        &mut self,
        node: &Node,
        input: Id,
        shape: Vec<usize>,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        let known = self.known(node);
        let pads = fold::pads(node, shape.len(), &known).map_err(|e| e.to_string())?;
        let pads = pads.ok_or("its pads are not constant")?;
        let mode = node.text("mode", "constant");
        let fill = match mode.as_str() {
            "constant" => self.fill(node, &known, input)?,
            _ => 0,
        };
        let (input, stored) = self.picture(input)?;
        let value = &self.program.values[input];
        let (order, [h, w, _]) = (value.order, value.dims());
        if pads
            .iter()
            .enumerate()
            .any(|(i, p)| !stored.contains(&i) && *p != (0, 0))
        {
            return Err("only height and width may be padded".to_owned());
        }
        let map = |length: usize, (before, after): (i64, i64)| -> Result<Vec<u32>, Reason> {
            let length = length as i64;
            (-before..length + after)
                .map(|i| match mode.as_str() {
                    "constant" if !(0..length).contains(&i) => Ok(NOWHERE),
                    "edge" => Ok(i.clamp(0, length - 1) as u32),
                    "reflect" => {
                        let i = if i < 0 { -i } else { i };
                        let i = if i >= length { 2 * (length - 1) - i } else { i };
                        u32::try_from(i).map_err(|_| "it reflects more than there is".to_owned())
                    }
                    "constant" => Ok(i as u32),
                    other => Err(format!("the mode {other:?} is not covered")),
                })
                .collect()
        };
        let kind = OpKind::Gather {
            rows: map(h, pads[stored[0]])?,
            columns: map(w, pads[stored[1]])?,
            input,
            channel: 0,
            fill,
            table: self.step_table(input, function, target)?,
        };
        Ok(self.push(kind, shape, order, target))
    }

    /// The byte that a `Pad` puts around its input: of bytes themselves it is a byte, of f32 the step of a value.
    fn fill(&self, node: &Node, known: &Known, input: Id) -> Result<u8, Reason> {
        let bytes = node
            .input(0)
            .is_some_and(|v| matches!(self.symbols[v], Symbol::Bytes(_)));
        let given = match known.constant(2) {
            None if node.input(2).is_some() => return Err("its value is not constant".to_owned()),
            given => given,
        };
        if bytes {
            let signed = node.input(0).is_some_and(|v| self.is_signed(v));
            return match given.map(carried) {
                None => Ok(if signed { 128 } else { 0 }),
                Some(Some((list, of))) if list.len() == 1 && of == signed => Ok(list[0]),
                Some(_) => Err("its value is not one byte".to_owned()),
            };
        }
        let value = match given {
            None => node.float("value", 0.0),
            Some(tensor) => tensor.single().ok_or("its value is not one number")?,
        };
        let quant = self.quant_of(input)?;
        let fill = quant.byte(value);
        if (quant.value(fill) - value).abs() > quant.scale / 2.0 {
            return Err("it pads with a value that its input has no step for".to_owned());
        }
        Ok(fill)
    }

    /// A picture, with the dimensions of its shape that are height and width.
    fn picture(&mut self, id: Id) -> Result<(Id, [usize; 2]), Reason> {
        let value = &self.program.values[id];
        match (&value.shape[..], value.order) {
            ([1, _, _, _], Order::ChannelsLast) => Ok((id, [2, 3])),
            ([1, _, _, _], Order::Rows) => Ok((id, [1, 2])),
            _ => Err(format!(
                "{:?}: only one picture at a time is covered",
                value.shape
            )),
        }
    }

    /// `Slice` and `Split`.
    fn slice(
        &mut self,
        node: &Node,
        output: usize,
        input: Id,
        shape: Vec<usize>,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        let (input, stored) = self.picture(input)?;
        let own = self.program.values[input].clone();
        let known = self.known(node);
        let slices = if node.op == "Split" {
            let axis = fold::axis(node.int("axis", 0), 4).map_err(|e| e.to_string())?;
            let before = split_shapes(node, &known)?;
            vec![fold::Slice {
                axis,
                start: before[..output].iter().map(|s| s[axis]).sum(),
                step: 1,
                length: shape[axis],
            }]
        } else {
            let slices = fold::slices(node, &own.shape, &known).map_err(|e| e.to_string())?;
            slices.ok_or("its limits are not constant")?
        };
        let [h, w, _] = own.dims();
        let mut maps: [Vec<u32>; 2] = [(0..h as u32).collect(), (0..w as u32).collect()];
        let mut channel = 0;
        for slice in slices {
            let indices = (0..slice.length).map(|i| (slice.start + i * slice.step) as u32);
            match stored.iter().position(|&d| d == slice.axis) {
                Some(at) => maps[at] = indices.collect(),
                None if slice.axis == 0 => {}
                None if slice.step == 1 || slice.length == 1 => channel = slice.start,
                None => return Err("every n-th channel is not covered".to_owned()),
            }
        }
        let [rows, columns] = maps;
        let kind = OpKind::Gather {
            input,
            rows,
            columns,
            channel,
            fill: 0,
            table: self.step_table(input, function, target)?,
        };
        Ok(self.push(kind, shape, own.order, target))
    }

    pub fn concat(
        &mut self,
        node: &Node,
        inputs: Vec<Id>,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        let shape = self.shape_of(node, 0)?;
        let axis = fold::axis(node.int("axis", 1), shape.len()).map_err(|e| e.to_string())?;
        let order = match (&shape[..], axis) {
            ([1, _, _, _], 1) => Order::ChannelsLast,
            ([1, _, _, _], 3) => Order::Rows,
            ([.., _], axis) if axis + 1 == shape.len() => Order::Rows,
            _ => {
                return Err(format!(
                    "a concatenation of {shape:?} along {axis} is not covered"
                ));
            }
        };
        let mut parts = Vec::with_capacity(inputs.len());
        let mut channels = 0;
        for id in inputs {
            let id = match order {
                Order::ChannelsLast => self.channels_last(id)?,
                Order::Rows => self.rows(id)?,
            };
            channels += self.program.values[id].dims()[2];
            parts.push((id, self.step_table(id, function, target)?));
        }
        if channels != super::super::ir::dims(&shape, order)[2] {
            return Err("its inputs do not make up its output".to_owned());
        }
        Ok(self.push(OpKind::Concat { inputs: parts }, shape, order, target))
    }
}

/// How many places of window `at` are in `range`.
fn seen(windows: &fold::Windows, axis: usize, at: usize, range: &Range<isize>) -> usize {
    let start = (at * windows.stride[axis]) as isize - windows.pads[axis];
    let (kernel, dilation) = (windows.kernel[axis], windows.dilation[axis]);
    // Places before an index.
    let before = |index: isize| match usize::try_from(index - start) {
        Ok(room) => room.div_ceil(dilation).min(kernel),
        Err(_) => 0,
    };
    before(range.end).saturating_sub(before(range.start))
}

fn checked_pool(windows: &fold::Windows, size: [usize; 2]) -> Result<Pool, Reason> {
    for (axis, length) in size.into_iter().enumerate() {
        let inside = 0..length as isize;
        if (0..windows.output[axis]).any(|at| seen(windows, axis, at, &inside) == 0) {
            return Err("a window sees nothing of its input".to_owned());
        }
    }
    Ok(Pool {
        kernel: windows.kernel,
        stride: windows.stride,
        dilation: windows.dilation,
        pad: [windows.pads[0], windows.pads[1]],
    })
}
