//! Weights and biases in the order and the steps that the kernels for convolution want, whatever operator they come from.

use super::super::function::Quant;
use super::super::onnx::Data;
use super::{Reason, Weights};

/// Weights in the order that the kernels want.
pub struct Kernel {
    /// Output channel, ky, kx, input channel of the group.
    pub weights: Vec<i32>,
    pub outputs: usize,
    /// Of one group.
    pub inputs: usize,
    pub size: [usize; 2],
    /// By output channel.
    pub scale: Vec<f32>,
    pub zero: Vec<i32>,
}

/// What is added to each sum.
pub enum Bias {
    None,
    /// In steps of input × weight.
    Steps(Vec<i32>),
    Values(Vec<f32>),
}

/// A bias has a value for each output channel; those of matrix products may have others for each row.
pub fn by_output(shape: &[usize]) -> Result<(), Reason> {
    let lead = shape.split_last().map_or(&[][..], |(_, lead)| lead);
    if lead.iter().any(|d| *d != 1) {
        return Err("a bias that differs from row to row is not covered".to_owned());
    }
    Ok(())
}

fn per_channel(list: &[f32], outputs: usize) -> Vec<f32> {
    if list.len() == 1 {
        vec![list[0]; outputs]
    } else {
        list.to_vec()
    }
}

fn kernel_of(
    weights: &Weights,
    outputs: usize,
    inputs: usize,
    size: [usize; 2],
    at: impl Fn(usize, usize, usize) -> usize,
) -> Result<Kernel, Reason> {
    let byte: Box<dyn Fn(usize) -> i32> = match &weights.tensor.data {
        Data::I8(bytes) => Box::new(|at| bytes[at].into()),
        Data::U8(bytes) => Box::new(|at| bytes[at].into()),
        _ => return Err("its weights are not bytes".to_owned()),
    };
    let taps = size[0] * size[1];
    let mut ordered = Vec::with_capacity(weights.tensor.len());
    for output in 0..outputs {
        for tap in 0..taps {
            ordered.extend((0..inputs).map(|input| byte(at(output, input, tap))));
        }
    }
    let zero: Option<Vec<i32>> = weights.zero.iter().map(|&z| i32::try_from(z).ok()).collect();
    let mut zero = zero
        .filter(|z| z.iter().all(|z| (-128..=255).contains(z)))
        .ok_or("a zero point is no byte")?;
    if zero.len() == 1 {
        zero = vec![zero[0]; outputs];
    }
    let scale = per_channel(&weights.scale, outputs);
    if scale.len() != outputs || zero.len() != outputs {
        return Err("its scales are not along its output channels".to_owned());
    }
    Ok(Kernel {
        weights: ordered,
        outputs,
        inputs,
        size,
        scale,
        zero,
    })
}

/// Of a convolution (output, input, y, x) or a transposed one (input, output of the group, y, x).
pub fn picture_kernel(weights: &Weights, groups: usize, transposed: bool) -> Result<Kernel, Reason> {
    let &[a, b, kh, kw] = &weights.tensor.shape[..] else {
        return Err(format!(
            "weights of shape {:?} are not covered",
            weights.tensor.shape
        ));
    };
    let taps = kh * kw;
    if taps == 0 || a == 0 || b == 0 {
        return Err("it has no weights".to_owned());
    }
    if !transposed {
        if !a.is_multiple_of(groups) || (weights.scale.len() > 1 && weights.axis != 0) {
            return Err("its groups or scales do not fit its weights".to_owned());
        }
        return kernel_of(weights, a, b, [kh, kw], |o, i, tap| (o * b + i) * taps + tap);
    }
    if !a.is_multiple_of(groups) || (weights.scale.len() > 1 && (weights.axis != 1 || groups > 1)) {
        return Err("its groups or scales do not fit its weights".to_owned());
    }
    let inputs = a / groups;
    kernel_of(weights, b * groups, inputs, [kh, kw], |o, i, tap| {
        let (group, o) = (o / b, o % b);
        ((group * inputs + i) * b + o) * taps + tap
    })
}

pub fn matrix_kernel(weights: &Weights, transposed: bool) -> Result<Kernel, Reason> {
    let &[x, y] = &weights.tensor.shape[..] else {
        return Err(format!(
            "weights of shape {:?} are not covered",
            weights.tensor.shape
        ));
    };
    let (inputs, outputs, axis) = if transposed { (y, x, 0) } else { (x, y, 1) };
    if weights.scale.len() > 1 && weights.axis != axis {
        return Err("its scales are not along its columns".to_owned());
    }
    kernel_of(weights, outputs, inputs, [1, 1], |o, i, _| {
        if transposed {
            o * inputs + i
        } else {
            i * outputs + o
        }
    })
}

/// Weights as signed bytes. Where a zero point cannot be taken off without leaving them, it stays.
pub fn without_zero(mut kernel: Kernel) -> (Kernel, Vec<i32>) {
    let depth = kernel.inputs * kernel.size[0] * kernel.size[1];
    let mut zero = std::mem::take(&mut kernel.zero);
    for (weights, zero) in kernel.weights.chunks_mut(depth.max(1)).zip(&mut zero) {
        let free = weights.iter().all(|w| (-128..=127).contains(&(w - *zero)));
        let unsigned = weights.iter().any(|w| *w > 127);
        let shift = match (free, unsigned) {
            (true, _) => *zero,
            (false, true) => 128,
            (false, false) => 0,
        };
        // A channel of unsigned weights that all are small keeps them.
        weights.iter_mut().for_each(|w| *w -= shift);
        *zero -= shift;
    }
    if zero.iter().all(|z| *z == 0) {
        zero.clear();
    }
    (kernel, zero)
}

/// In steps of input × weight, as exact as f64 is.
pub fn in_steps(bias: Bias, kernel: &Kernel, input: Quant) -> Result<Vec<f64>, Reason> {
    let steps: Vec<f64> = match bias {
        Bias::None => vec![0.0; kernel.outputs],
        Bias::Steps(steps) => steps.into_iter().map(f64::from).collect(),
        Bias::Values(values) => {
            let step = |scale: f32| f64::from(input.scale) * f64::from(scale);
            let of = |(i, &scale): (usize, &f32)| match values[..] {
                [all] => Some(f64::from(all) / step(scale)),
                _ => Some(f64::from(*values.get(i)?) / step(scale)),
            };
            if values.len() > kernel.outputs {
                return Err("its bias does not fit its channels".to_owned());
            }
            let steps: Option<Vec<f64>> = kernel.scale.iter().enumerate().map(of).collect();
            steps.ok_or("its bias does not fit its channels")?
        }
    };
    if steps.len() != kernel.outputs || steps.iter().any(|s| !s.is_finite()) {
        return Err("its bias does not fit its channels".to_owned());
    }
    Ok(steps)
}

/// A bias of more steps than this comes with weights that hardly matter (a channel that training has switched off).
const BIAS_MAX: f64 = (1u64 << 29) as f64;

/// The bias as integers. Where it is too large for sums of 32 bits, the step of its channel is doubled until it fits,
/// as long as what the weights lose by that is below half a step of the result (`worth` steps of the result are a step
/// of the input), or in f32 a hundred thousandth of the bias.
pub fn fitted_bias(
    kernel: &mut Kernel,
    zero: &[i32],
    mut bias: Vec<f64>,
    worth: Option<f64>,
) -> Result<Vec<i32>, Reason> {
    let depth = (kernel.inputs * kernel.size[0] * kernel.size[1]).max(1);
    for (i, bias) in bias.iter_mut().enumerate() {
        if bias.abs() <= BIAS_MAX {
            continue;
        }
        if zero.get(i).is_some_and(|z| *z != 0) || depth as f64 * 255.0 * 128.0 > BIAS_MAX {
            return Err("its bias is too large for its steps".to_owned());
        }
        let mut doubled = 1.0f64;
        while bias.abs() > BIAS_MAX {
            *bias /= 2.0;
            doubled *= 2.0;
        }
        // Of the largest sum, in steps of input × weight.
        let mut lost = 0.0;
        for weight in &mut kernel.weights[i * depth..][..depth] {
            let exact = f64::from(*weight) / doubled;
            *weight = exact.round_ties_even() as i32;
            lost += 255.0 * (exact - f64::from(*weight)).abs();
        }
        kernel.scale[i] *= doubled as f32;
        let near = match worth {
            Some(worth) => lost * worth * f64::from(kernel.scale[i]) < 0.5,
            None => lost < bias.abs() / 1e5,
        };
        if !near || !kernel.scale[i].is_finite() {
            return Err("its bias is too large for its steps".to_owned());
        }
    }
    Ok(bias.into_iter().map(|b| b.round_ties_even() as i32).collect())
}

/// No sum may leave 32 bits, whatever the input.
pub fn check_sums(kernel: &Kernel, zero: &[i32], bias: &[i32]) -> Result<(), Reason> {
    let depth = (kernel.inputs * kernel.size[0] * kernel.size[1]).max(1);
    for (i, weights) in kernel.weights.chunks(depth).enumerate() {
        let zero = i64::from(zero.get(i).copied().unwrap_or(0));
        let (plain, own): (i64, i64) = weights.iter().fold((0, 0), |(plain, own), &w| {
            (plain + i64::from(w).abs(), own + (i64::from(w) - zero).abs())
        });
        let room =
            255 * plain.max(own) + i64::from(bias[i]).abs() + 255 * 255 * depth as i64 * i64::from(zero != 0);
        if room >= 1 << 31 {
            return Err("its sums could leave 32 bits".to_owned());
        }
    }
    Ok(())
}
