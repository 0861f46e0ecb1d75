//! Small f32 operators before, between and behind integer ones: the first layer or the head of a network, which
//! quantizers are often told to leave out.
//!
//! Large ones are left to tract, whose kernels for f32 are made for that.

use super::super::fold;
use super::super::function::Function;
use super::super::ir::{FloatConv, Id, Kind, OpKind, Order, Pool};
use super::super::onnx::Node;
use super::coordinates::Coordinates;
use super::weights::by_output;
use super::{Lowering, Reason, Symbol, Target};
use crate::kernels::float::Order as FloatOrder;
use crate::kernels::spatial::Tap;

/// Multiply-accumulates of an f32 convolution that is done here: the first layer of a small network at most.
const MACS_MAX: usize = 8_000_000;

/// Where the weight of an output channel, a tap and an input channel stands in the file.
type Place = Box<dyn Fn(usize, usize, usize) -> usize>;

impl Lowering<'_> {
    /// A value in f32, reckoned here from bytes.
    pub fn floats_of(&mut self, value: usize) -> Result<Id, Reason> {
        if let Some(&id) = self.floats.get(&value) {
            return Ok(id);
        }
        let id = match self.symbols[value].clone() {
            Symbol::Float(float) => self.lower(&float, Target::Float)?,
            _ => return Err("an input is not quantized".to_owned()),
        };
        self.floats.insert(value, id);
        Ok(id)
    }

    /// The graph's input, turned so that channels are innermost.
    pub fn picture_in_floats(&mut self) -> Result<Id, Reason> {
        let external = self.graph.input;
        if let Some(&id) = self.floats.get(&external) {
            return Ok(id);
        }
        match self.shapes[external].clone() {
            Some(shape) if matches!(shape[..], [1, _, _, _]) => {
                let order = FloatOrder::Planes;
                let kind = OpKind::External { external, order };
                let id = self.push(kind, shape, Order::ChannelsLast, Target::Float);
                self.floats.insert(external, id);
                Ok(id)
            }
            _ => Err("an input is not quantized".to_owned()),
        }
    }

    /// Bytes of a float that is reckoned in f32 here.
    pub fn requantized(&mut self, value: usize, target: Target) -> Result<Id, Reason> {
        let input = self.floats_of(value)?;
        let own = self.program.values[input].clone();
        Ok(self.push(OpKind::Requantize { input }, own.shape, own.order, target))
    }

    /// `Conv`, `Gemm`, `MatMul` with weights in f32.
    pub fn float_conv(&mut self, node: &Node, function: &Function) -> Result<Id, Reason> {
        let constant = |this: &Self, at: usize| node.input(at).and_then(|v| this.constants[v].clone());
        let weights = constant(self, 1).filter(|t| t.floats().is_some());
        let weights = weights.ok_or("its weights are not quantized")?;
        let shape = self.shape_of(node, 0)?;
        let per_output = weights.len() / weights.shape.first().copied().unwrap_or(1).max(1);
        let work = match node.op.as_str() {
            "Conv" => per_output.saturating_mul(shape.iter().product()),
            _ => {
                let rows = shape.split_last().map_or(1, |(_, rows)| rows.iter().product());
                weights.len().saturating_mul(rows)
            }
        };
        if work > MACS_MAX {
            return Err(format!(
                "its weights are not quantized, and {} M products are too many to do in f32 here",
                work / 1_000_000
            ));
        }
        let bias = match node.input(2) {
            None => None,
            Some(_) => Some(
                constant(self, 2)
                    .filter(|t| t.floats().is_some())
                    .ok_or("its bias is not constant")?,
            ),
        };
        let numbers = weights.floats().unwrap_or_default();
        // Input channels that an output channel sees.
        let depth;
        let input = self.floats_of(node.input(0).ok_or("it has no input")?)?;
        let (input, window, outputs, at): (Id, Pool, usize, Place) =
            match (node.op.as_str(), &weights.shape[..]) {
                ("Conv", &[outputs, inputs, kh, kw]) => {
                    let value = &self.program.values[input];
                    let [h, w, channels] = value.dims();
                    let dense = node.int("group", 1) == 1 && channels == inputs;
                    let depthwise =
                        node.int("group", 1) == channels as i64 && inputs == 1 && outputs == channels;
                    if value.order != Order::ChannelsLast || !(dense || depthwise) {
                        return Err(
                            "its weights are not quantized, and it has groups or another order".to_owned(),
                        );
                    }
                    depth = if depthwise && channels > 1 { 1 } else { inputs };
                    let windows = fold::windows(node, [kh, kw], [h, w]).map_err(|e| e.to_string())?;
                    let window = Pool {
                        kernel: windows.kernel,
                        stride: windows.stride,
                        dilation: windows.dilation,
                        pad: [windows.pads[0], windows.pads[1]],
                    };
                    (
                        input,
                        window,
                        outputs,
                        Box::new(move |o, tap, i| (o * inputs + i) * kh * kw + tap),
                    )
                }
                ("Gemm" | "MatMul", &[x, y]) => {
                    if node.op == "Gemm"
                        && (node.float("alpha", 1.0) != 1.0 || node.float("beta", 1.0) != 1.0)
                    {
                        return Err("alpha and beta other than 1 are not covered".to_owned());
                    }
                    let transposed = node.op == "Gemm" && node.int("transB", 0) != 0;
                    let (inputs, outputs) = if transposed { (y, x) } else { (x, y) };
                    depth = inputs;
                    let value = self.program.values[input].clone();
                    if value.order != Order::Rows || value.shape.last() != Some(&inputs) {
                        return Err(
                            "its weights are not quantized, and its input has another order".to_owned()
                        );
                    }
                    let rows = value.shape[..value.shape.len() - 1].iter().product();
                    let input = self.alias(input, vec![rows, inputs], Order::Rows, Kind::Floats);
                    let window = Pool {
                        kernel: [1, 1],
                        stride: [1, 1],
                        dilation: [1, 1],
                        pad: [0, 0],
                    };
                    let at = move |o: usize, _: usize, i: usize| {
                        if transposed {
                            o * inputs + i
                        } else {
                            i * outputs + o
                        }
                    };
                    (input, window, outputs, Box::new(at))
                }
                _ => {
                    return Err(
                        "its weights are not quantized, and of a shape that is not covered".to_owned(),
                    );
                }
            };
        let taps = window.kernel[0] * window.kernel[1];
        if numbers.len() != taps * depth * outputs {
            return Err("its weights do not fit its input".to_owned());
        }
        let mut ordered = Vec::with_capacity(numbers.len());
        for tap in 0..taps {
            for i in 0..depth {
                ordered.extend((0..outputs).map(|o| numbers[at(o, tap, i)]));
            }
        }
        let bias = match &bias {
            None => vec![0.0; outputs],
            Some(tensor) => {
                by_output(&tensor.shape)?;
                match tensor.floats() {
                    Some(values) if values.len() == outputs => values.to_vec(),
                    Some(&[value]) => vec![value; outputs],
                    _ => return Err("its bias does not fit its channels".to_owned()),
                }
            }
        };
        let conv = FloatConv {
            input,
            window,
            weights: ordered,
            bias,
            function: function.clone(),
        };
        let picture = node.op == "Conv";
        let order = if picture { Order::ChannelsLast } else { Order::Rows };
        if picture {
            return Ok(self.push(OpKind::FloatConv(Box::new(conv)), shape, order, Target::Float));
        }
        let flat = vec![shape[..shape.len() - 1].iter().product(), outputs];
        let id = self.push(OpKind::FloatConv(Box::new(conv)), flat, order, Target::Float);
        Ok(self.alias(id, shape, order, Kind::Floats))
    }

    /// Nearest or bilinear, height and width.
    pub fn float_resize(&mut self, node: &Node, function: &Function) -> Result<Id, Reason> {
        let input = self.floats_of(node.input(0).ok_or("it has no input")?)?;
        let own = self.program.values[input].clone();
        let shape = self.shape_of(node, 0)?;
        let sized = fold::resize_scales(node, &own.shape, &self.known(node)).map_err(|e| e.to_string())?;
        let sized = sized.ok_or("its scales are not constant")?;
        if own.order != Order::ChannelsLast || shape[..2] != own.shape[..2] || node.int("antialias", 0) != 0 {
            return Err("only height and width may change".to_owned());
        }
        let coordinates = Coordinates::of(node)?;
        let [h, w, _] = own.dims();
        let lengths = [(h, sized[2]), (w, sized[3])];
        let [rows, columns] = match node.text("mode", "nearest").as_str() {
            "linear" => lengths.map(|(from, (scale, to))| coordinates.between(from, to, scale)),
            "nearest" => lengths.map(|(from, (scale, to))| {
                let nearest = coordinates.nearest(from, to, scale);
                nearest.into_iter().map(Tap::one).collect()
            }),
            other => return Err(format!("the mode {other:?} is not covered")),
        };
        let kind = OpKind::FloatResize {
            input,
            rows,
            columns,
            function: function.clone(),
        };
        Ok(self.push(kind, shape, own.order, Target::Float))
    }
}
