//! Convolutions, transposed ones, and matrix products: whatever sums products of bytes and weights.

use super::super::fold::{self, Windows};
use super::super::function::Function;
use super::super::ir::{Added, Conv, Id, OpKind, Order, Part, Pool};
use super::super::onnx::Node;
use super::weights::{
    Bias, Kernel, by_output, check_sums, fitted_bias, in_steps, matrix_kernel, picture_kernel, without_zero,
};
use super::{Lowering, Reason, Symbol, Target, Weights, finite};

/// What is added to an operator's result.
pub enum Addend {
    None,
    Bytes(Id),
    /// A constant, one value for all or one for each output channel.
    ByOutput(Vec<f32>),
}

/// Everything about one convolution but its numbers.
pub struct Geometry {
    pub windows: Windows,
    pub groups: usize,
    pub transposed: bool,
}

impl Lowering<'_> {
    /// `Conv`, `ConvTranspose`, `Gemm`, `MatMul` between quantizers. `added` is what a sum without a quantizer in
    /// between adds to it.
    pub fn conv(
        &mut self,
        node: &Node,
        function: &Function,
        target: Target,
        added: Addend,
    ) -> Result<Id, Reason> {
        let weights = node.input(1).map(|v| self.symbols[v].clone());
        let Some(Symbol::Weights(weights)) = weights else {
            return match (target, added) {
                (Target::Float, Addend::None) => self.float_conv(node, function),
                _ => Err("its weights are not quantized".to_owned()),
            };
        };
        let input = self.bytes_of(node.input(0).ok_or("it has no input")?)?;
        let bias = self.float_bias(node.input(2), &weights, input)?;
        let (bias, added) = match (bias, added) {
            (bias, Addend::None) => (bias, None),
            (bias, Addend::Bytes(id)) => (bias, Some(id)),
            (Bias::None, Addend::ByOutput(values)) => (Bias::Values(values), None),
            _ => return Err("a second bias is not covered".to_owned()),
        };
        self.convolve(node, input, &weights, bias, function, target, added)
    }

    /// The bias of an operator between quantizers.
    fn float_bias(&self, value: Option<usize>, weights: &Weights, input: Id) -> Result<Bias, Reason> {
        let Some(value) = value else { return Ok(Bias::None) };
        if let Symbol::Weights(bias) = &self.symbols[value] {
            by_output(&bias.tensor.shape)?;
            let ints = bias.tensor.whole().unwrap_or_default();
            let zero = |i: usize| bias.zero[if bias.zero.len() == 1 { 0 } else { i }];
            let scale = |i: usize| bias.scale[if bias.scale.len() == 1 { 0 } else { i }];
            if bias.scale.len() != 1 && bias.scale.len() != ints.len() {
                return Err("its bias has other scales than channels".to_owned());
            }
            let step = self.program.values[input]
                .quant()
                .ok_or("its input is not quantized")?
                .scale;
            let own = |i: usize| step * weights.scale[if weights.scale.len() == 1 { 0 } else { i }];
            let own_scales = weights.scale.len() == 1 || weights.scale.len() == ints.len();
            // As f32 rounds a product: a bias may be worth many steps of the output.
            let same = |i: usize| (scale(i) / own(i) - 1.0).abs() < 1e-5 && zero(i) == 0;
            if own_scales && (0..ints.len()).all(same) {
                let steps = ints
                    .iter()
                    .map(|&v| i32::try_from(v).map_err(|_| "its bias is too large".to_owned()));
                return Ok(Bias::Steps(steps.collect::<Result<_, _>>()?));
            }
            let values = ints
                .iter()
                .enumerate()
                .map(|(i, v)| (v - zero(i)) as f32 * scale(i));
            return Ok(Bias::Values(values.collect()));
        }
        let constant = self.constants[value].as_ref().filter(|t| t.floats().is_some());
        let constant = constant.ok_or("its bias is not constant")?;
        by_output(&constant.shape)?;
        Ok(Bias::Values(constant.floats().unwrap_or_default().to_vec()))
    }

    #[allow(clippy::too_many_arguments)]
    pub fn convolve(
        &mut self,
        node: &Node,
        input: Id,
        weights: &Weights,
        bias: Bias,
        function: &Function,
        target: Target,
        added: Option<Id>,
    ) -> Result<Id, Reason> {
        if node.op.ends_with("Gemm") || node.op.ends_with("MatMul") {
            return self.product(node, input, weights, bias, function, target, added);
        }
        let pixels = fold::channels_last(node);
        let input = if pixels {
            self.planes_of(input)?
        } else {
            self.channels_last(input)?
        };
        let [height, width, channels] = self.program.values[input].dims();
        let groups = node.int("group", 1);
        let groups = usize::try_from(groups)
            .ok()
            .filter(|g| *g > 0 && channels.is_multiple_of(*g));
        let groups = groups.ok_or("its groups do not divide its channels")?;
        let transposed = node.op == "ConvTranspose";
        let kernel = picture_kernel(weights, groups, transposed)?;
        if kernel.inputs * groups != channels {
            return Err(format!(
                "its weights take {} channels, its input has {channels}",
                kernel.inputs * groups
            ));
        }
        let windows = if transposed {
            fold::transposed_windows(node, kernel.size, [height, width])
        } else {
            fold::windows(node, kernel.size, [height, width])
        };
        let windows = windows.map_err(|e| e.to_string())?;
        let [height, width] = windows.output;
        let shape = vec![1, kernel.outputs, height, width];
        let stated = match pixels {
            true => vec![1, height, width, kernel.outputs],
            false => shape.clone(),
        };
        if self.shape_of(node, 0)? != stated {
            return Err("its output has another shape than its windows give".to_owned());
        }
        let geometry = Geometry {
            windows,
            groups,
            transposed,
        };
        let id = self.emit(
            input,
            kernel,
            bias,
            &geometry,
            function,
            target,
            added,
            shape,
            Order::ChannelsLast,
        )?;
        Ok(if pixels { self.pixels_of(id) } else { id })
    }

    /// Rows of the input times a matrix.
    #[allow(clippy::too_many_arguments)]
    fn product(
        &mut self,
        node: &Node,
        input: Id,
        weights: &Weights,
        bias: Bias,
        function: &Function,
        target: Target,
        added: Option<Id>,
    ) -> Result<Id, Reason> {
        let gemm = node.op.ends_with("Gemm");
        if gemm && (node.float("alpha", 1.0) != 1.0 || node.float("beta", 1.0) != 1.0) {
            return Err("alpha and beta other than 1 are not covered".to_owned());
        }
        let input = self.rows(input)?;
        let shape = self.shape_of(node, 0)?;
        let kernel = matrix_kernel(weights, gemm && node.int("transB", 0) != 0)?;
        let own = &self.program.values[input].shape;
        if own.last() != Some(&kernel.inputs) || shape.last() != Some(&kernel.outputs) {
            return Err("its matrix does not fit its input".to_owned());
        }
        let rows: usize = shape[..shape.len() - 1].iter().product();
        // As one row of pixels, whatever the dimensions are.
        let kind = self.program.values[input].kind.clone();
        let input = self.alias(input, vec![rows, kernel.inputs], Order::Rows, kind);
        let geometry = Geometry {
            windows: Windows {
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pads: [0; 4],
                output: [1, rows],
            },
            groups: 1,
            transposed: false,
        };
        let flat = vec![rows, kernel.outputs];
        let id = self.emit(
            input,
            kernel,
            bias,
            &geometry,
            function,
            target,
            added,
            flat,
            Order::Rows,
        )?;
        let kind = self.program.values[id].kind.clone();
        Ok(self.alias(id, shape, Order::Rows, kind))
    }

    #[allow(clippy::too_many_arguments)]
    fn emit(
        &mut self,
        input: Id,
        kernel: Kernel,
        bias: Bias,
        geometry: &Geometry,
        function: &Function,
        target: Target,
        added: Option<Id>,
        shape: Vec<usize>,
        order: Order,
    ) -> Result<Id, Reason> {
        let quant = self.program.values[input]
            .quant()
            .ok_or("its input is not quantized")?;
        if geometry.transposed {
            let [down, across] = geometry.windows.stride;
            if down * across > PARTS_MAX {
                return Err(format!("a stride of {down} × {across} is not covered"));
            }
        }
        let (mut kernel, zero) = without_zero(kernel);
        let (step, finish) = match target {
            Target::Bytes { quant, .. } => function.finish(quant)?,
            Target::Float => (1.0, crate::kernels::finish::Finish::plain(0)),
        };
        let bias = in_steps(bias, &kernel, quant)?;
        let worth = (target != Target::Float).then(|| f64::from(quant.scale) / f64::from(step));
        let bias = fitted_bias(&mut kernel, &zero, bias, worth)?;
        check_sums(&kernel, &zero, &bias)?;
        let residual = match added {
            None => None,
            Some(value) => {
                let quant = self.program.values[value].quant();
                let scale = quant.ok_or("it adds what is not quantized")?.scale;
                finite(scale / step)?;
                Some(Added {
                    value,
                    scale,
                    middle: None,
                    step,
                })
            }
        };
        // What is added to is a value in f32, as in the graph.
        let unit = if residual.is_some() { 1.0 } else { step };
        let conv = Conv {
            input,
            groups: geometry.groups,
            parts: if geometry.transposed {
                transposed_parts(&kernel, geometry)
            } else {
                vec![part(&kernel, geometry)]
            },
            scale: kernel
                .scale
                .iter()
                .map(|w| finite(quant.scale * w / unit))
                .collect::<Result<_, _>>()?,
            weight_zero: zero,
            bias,
            residual,
            finish,
            function: (target == Target::Float).then(|| function.clone()),
        };
        Ok(self.push(OpKind::Conv(Box::new(conv)), shape, order, target))
    }
}

/// Parts of one transposed convolution, one for each remainder by its strides: networks go up by 32 at most.
const PARTS_MAX: usize = 32 * 32;

fn bytes(weights: &[i32]) -> Vec<i8> {
    weights.iter().map(|&w| w as i8).collect()
}

fn part(kernel: &Kernel, geometry: &Geometry) -> Part {
    let Windows {
        kernel: size,
        stride,
        dilation,
        pads,
        output,
    } = geometry.windows;
    Part {
        window: Pool {
            kernel: size,
            stride,
            dilation,
            pad: [pads[0], pads[1]],
        },
        weights: bytes(&kernel.weights),
        first: [0, 0],
        stride: [1, 1],
        size: output,
    }
}

/// The output pixels that share a remainder by the stride see the same weights, and are a convolution of their own
/// over the input, without zeros in between.
fn transposed_parts(kernel: &Kernel, geometry: &Geometry) -> Vec<Part> {
    let windows = &geometry.windows;
    let mut parts = Vec::new();
    for py in 0..windows.stride[0].min(windows.output[0]) {
        for px in 0..windows.stride[1].min(windows.output[1]) {
            let (ys, xs) = (taps(windows, 0, py), taps(windows, 1, px));
            let mut weights =
                Vec::with_capacity(kernel.outputs * ys.list.len() * xs.list.len() * kernel.inputs);
            for output in 0..kernel.outputs {
                for &ky in &ys.list {
                    for &kx in &xs.list {
                        let at = ((output * kernel.size[0] + ky) * kernel.size[1] + kx) * kernel.inputs;
                        weights.extend(bytes(&kernel.weights[at..at + kernel.inputs]));
                    }
                }
            }
            parts.push(Part {
                window: Pool {
                    kernel: [ys.list.len(), xs.list.len()],
                    stride: [1, 1],
                    dilation: [ys.step, xs.step],
                    pad: [-ys.first, -xs.first],
                },
                weights,
                first: [py, px],
                stride: windows.stride,
                size: [
                    (windows.output[0] - py).div_ceil(windows.stride[0]),
                    (windows.output[1] - px).div_ceil(windows.stride[1]),
                ],
            });
        }
    }
    parts
}

struct Taps {
    /// Of the kernel, in the order of the input they see.
    list: Vec<usize>,
    /// Input index of the first, for output index 0 of this part.
    first: isize,
    /// From one tap's input to the next one's.
    step: usize,
}

/// Output o = i × stride + k × dilation - pad. For o = phase + n × stride, the taps whose remainder fits see input
/// n + (phase + pad - k × dilation) / stride.
fn taps(windows: &Windows, axis: usize, phase: usize) -> Taps {
    let (stride, dilation) = (windows.stride[axis] as isize, windows.dilation[axis] as isize);
    let offset = |k: usize| phase as isize + windows.pads[axis] - k as isize * dilation;
    let mut list: Vec<usize> = (0..windows.kernel[axis])
        .filter(|&k| offset(k).rem_euclid(stride) == 0)
        .collect();
    list.reverse();
    let place = |k: usize| offset(k).div_euclid(stride);
    let first = list.first().map_or(0, |&k| place(k));
    let step = match list[..] {
        [a, b, ..] => (place(b) - place(a)) as usize,
        _ => 1,
    };
    Taps { list, first, step }
}
