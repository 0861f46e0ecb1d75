//! The shapes of what nodes give.

use super::super::onnx::{Node, RANK_MAX, Tensor, VALUES_MAX, volume};
use super::Known;
use super::windows::{REACH_MAX, pool_windows, transposed_windows, windows};
use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::{AttributeProto, NodeProto};

/// `perm` of a transposition; without one, the dimensions in reverse.
pub fn permutation(perm: Option<&[i64]>, rank: usize) -> Result<Vec<usize>> {
    let Some(perm) = perm else {
        return Ok((0..rank).rev().collect());
    };
    let list: Vec<usize> = perm
        .iter()
        .map(|&p| usize::try_from(if p < 0 { p + rank as i64 } else { p }).ok())
        .collect::<Option<_>>()
        .context("a transposition of negative dimensions")?;
    let mut sorted = list.clone();
    sorted.sort_unstable();
    ensure!(
        sorted == (0..rank).collect::<Vec<_>>(),
        "{perm:?} is no order of {rank} dimensions"
    );
    Ok(list)
}

/// A dimension that counts from the end when it is negative.
pub fn axis(axis: i64, rank: usize) -> Result<usize> {
    let at = if axis < 0 { axis + rank as i64 } else { axis };
    ensure!((0..rank as i64).contains(&at), "dimension {axis} of {rank}");
    Ok(at as usize)
}

/// The shape of a node's first output, where the node is one whose shapes are understood.
pub fn shape(node: &Node, known: &Known, opset: i64) -> Result<Option<Vec<usize>>> {
    let Some(input) = known.shape(0) else {
        return Ok(None);
    };
    if channels_last(node) {
        return pixels(node, input, known);
    }
    let shape = match node.op.as_str() {
        "QLinearConcat" => return concat_shape(node, (2..).step_by(3), known),
        "Concat" => return concat_shape(node, 0.., known),
        "QLinearAdd" | "QLinearMul" => return broadcast(input, known.shape(3)),
        "Add" | "Sub" | "Mul" | "Div" | "Min" | "Max" | "Pow" => return broadcast(input, known.shape(1)),
        "Conv" | "ConvInteger" => conv(node, input, known.shape(1))?,
        "QLinearConv" => conv(node, input, known.shape(3))?,
        "ConvTranspose" => transposed_conv(node, input, known.shape(1))?,
        "MaxPool" | "AveragePool" | "QLinearAveragePool" => Some(pool(node, input)?),
        "GlobalAveragePool" | "GlobalMaxPool" | "QLinearGlobalAveragePool" => {
            ensure!(input.len() > 2, "a pool over {input:?}");
            let mut shape = input.to_vec();
            shape[2..].fill(1);
            Some(shape)
        }
        "ReduceMean" | "QLinearReduceMean" | "ReduceMax" | "ReduceSum" => reduced(node, input, known)?,
        "Gemm" | "QGemm" => {
            let b = known.shape(if node.op == "Gemm" { 1 } else { 3 });
            gemm(node, input, b)?
        }
        "MatMul" => product(input, known.shape(1))?,
        "QLinearMatMul" => product(input, known.shape(3))?,
        "Reshape" => reshape(node, input, known.whole(1))?,
        "Flatten" => {
            let at = node.int("axis", 1);
            let at = if at == input.len() as i64 {
                input.len()
            } else {
                axis(at, input.len())?
            };
            Some(vec![input[..at].iter().product(), input[at..].iter().product()])
        }
        "Squeeze" => squeeze(input, listed(node, known, opset)?)?,
        "Unsqueeze" => unsqueeze(input, listed(node, known, opset)?)?,
        "Transpose" => {
            let perm = permutation(node.ints("perm"), input.len())?;
            Some(perm.iter().map(|&p| input[p]).collect())
        }
        "Resize" | "Upsample" => resize(node, input, known)?,
        "Pad" => pad(node, input, known)?,
        "Slice" => slices(node, input, known)?.map(|slices| {
            let mut shape = input.to_vec();
            for s in slices {
                shape[s.axis] = s.length;
            }
            shape
        }),
        // One in, one out of the same shape.
        "QuantizeLinear"
        | "DequantizeLinear"
        | "Relu"
        | "Clip"
        | "Sigmoid"
        | "HardSigmoid"
        | "HardSwish"
        | "Tanh"
        | "LeakyRelu"
        | "PRelu"
        | "Elu"
        | "Selu"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Neg"
        | "Abs"
        | "Erf"
        | "Softplus"
        | "Softsign"
        | "Softmax"
        | "LogSoftmax"
        | "QLinearSoftmax"
        | "Identity"
        | "Dropout"
        | "Cast"
        | "QLinearSigmoid"
        | "QLinearLeakyRelu"
        | "BatchNormalization"
        | "InstanceNormalization"
        | "LayerNormalization"
        | "Gelu"
        | "Mish"
        | "Round"
        | "Floor"
        | "Ceil"
        | "Not"
        | "Reciprocal"
        | "CumSum"
        | "LRN"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "Swish"
        | "Celu"
        | "ThresholdedRelu"
        | "Sin"
        | "Cos"
        | "Hardmax"
        | "Shrink"
        | "Sign" => Some(input.to_vec()),
        _ => None,
    };
    if let Some(shape) = &shape {
        volume(shape)?;
    }
    Ok(shape)
}

/// Those of ONNX Runtime's operators that take pictures as height, width, channels, if they say so.
pub fn channels_last(node: &Node) -> bool {
    has_pictures(&node.op) && node.int("channels_last", 0) != 0
}

/// The same of a node as it is in the file.
pub fn is_channels_last(node: &NodeProto) -> bool {
    let said = |a: &AttributeProto| a.name == "channels_last" && a.i != 0;
    has_pictures(&node.op_type) && node.attribute.iter().any(said)
}

fn has_pictures(op: &str) -> bool {
    matches!(
        op,
        "QLinearConv" | "QLinearAveragePool" | "QLinearGlobalAveragePool"
    )
}

fn pixels(node: &Node, input: &[usize], known: &Known) -> Result<Option<Vec<usize>>> {
    let &[n, h, w, c] = input else {
        bail!("{input:?}: only pictures (rank 4) are covered");
    };
    let planes = [n, c, h, w];
    let shape = match node.op.as_str() {
        "QLinearConv" => conv(node, &planes, known.shape(3))?,
        "QLinearAveragePool" => Some(pool(node, &planes)?),
        _ => Some(vec![n, c, 1, 1]),
    };
    let shape = shape.map(|s| vec![s[0], s[2], s[3], s[1]]);
    if let Some(shape) = &shape {
        volume(shape)?;
    }
    Ok(shape)
}

fn concat_shape(
    node: &Node,
    inputs: impl Iterator<Item = usize>,
    known: &Known,
) -> Result<Option<Vec<usize>>> {
    let mut all: Option<Vec<usize>> = None;
    for at in inputs.take_while(|&at| at < node.inputs.len()) {
        let Some(shape) = known.shape(at) else {
            return Ok(None);
        };
        match &mut all {
            None => all = Some(shape.to_vec()),
            Some(all) => {
                let axis = axis(node.int("axis", 1), all.len())?;
                ensure!(
                    shape.len() == all.len(),
                    "shapes of other ranks cannot be put together"
                );
                for i in 0..all.len() {
                    ensure!(
                        i == axis || all[i] == shape[i],
                        "{all:?} and {shape:?} cannot be put together"
                    );
                }
                all[axis] = all[axis].checked_add(shape[axis]).context("too large")?;
            }
        }
    }
    if let Some(all) = &all {
        volume(all)?;
    }
    Ok(all)
}

fn broadcast(a: &[usize], b: Option<&[usize]>) -> Result<Option<Vec<usize>>> {
    let Some(b) = b else { return Ok(None) };
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    let shape: Vec<usize> = (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (a, b) if a == b => Ok(a),
            (1, n) | (n, 1) => Ok(n),
            _ => bail!("{a:?} and {b:?} do not fit each other"),
        })
        .collect::<Result<_>>()?;
    volume(&shape)?;
    Ok(Some(shape))
}

fn plane(input: &[usize]) -> Result<[usize; 2]> {
    match input {
        &[_, _, h, w] => Ok([h, w]),
        _ => bail!("{input:?}: only pictures (rank 4) are covered"),
    }
}

fn conv(node: &Node, input: &[usize], weights: Option<&[usize]>) -> Result<Option<Vec<usize>>> {
    let Some(&[outputs, _, kh, kw]) = weights else {
        return Ok(None);
    };
    let windows = windows(node, [kh, kw], plane(input)?)?;
    Ok(Some(vec![
        input[0],
        outputs,
        windows.output[0],
        windows.output[1],
    ]))
}

fn transposed_conv(node: &Node, input: &[usize], weights: Option<&[usize]>) -> Result<Option<Vec<usize>>> {
    let Some(&[_, outputs, kh, kw]) = weights else {
        return Ok(None);
    };
    let groups = usize::try_from(node.int("group", 1)).context("groups")?;
    let windows = transposed_windows(node, [kh, kw], plane(input)?)?;
    let outputs = outputs.checked_mul(groups).context("groups")?;
    Ok(Some(vec![
        input[0],
        outputs,
        windows.output[0],
        windows.output[1],
    ]))
}

fn pool(node: &Node, input: &[usize]) -> Result<Vec<usize>> {
    let windows = pool_windows(node, plane(input)?)?;
    Ok(vec![input[0], input[1], windows.output[0], windows.output[1]])
}

/// Dimensions that a node names, as an attribute or (newer opsets) as an input.
fn listed(node: &Node, known: &Known, _opset: i64) -> Result<Option<Vec<i64>>> {
    if let Some(axes) = node.ints("axes") {
        return Ok(Some(axes.to_vec()));
    }
    match node.input(1) {
        None => Ok(None),
        Some(_) => known
            .whole(1)
            .map(Some)
            .context("its dimensions are not constant"),
    }
}

/// The dimensions over which a reduction goes, sorted.
pub fn reduced_axes(node: &Node, rank: usize, known: &Known) -> Result<Vec<usize>> {
    let axes = listed(node, known, 18)?.filter(|axes| !axes.is_empty());
    let Some(axes) = axes else {
        let none = node.int("noop_with_empty_axes", 0) != 0;
        return Ok(if none { Vec::new() } else { (0..rank).collect() });
    };
    let mut axes: Vec<usize> = axes.into_iter().map(|a| axis(a, rank)).collect::<Result<_>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

fn reduced(node: &Node, input: &[usize], known: &Known) -> Result<Option<Vec<usize>>> {
    let axes = reduced_axes(node, input.len(), known)?;
    let keep = node.int("keepdims", 1) != 0;
    let dims = input
        .iter()
        .enumerate()
        .filter_map(|(i, &d)| match (axes.contains(&i), keep) {
            (false, _) => Some(d),
            (true, true) => Some(1),
            (true, false) => None,
        });
    Ok(Some(dims.collect()))
}

fn gemm(node: &Node, a: &[usize], b: Option<&[usize]>) -> Result<Option<Vec<usize>>> {
    let (&[rows, k], Some(&[x, y])) = (a, b) else {
        return Ok(None);
    };
    ensure!(node.int("transA", 0) == 0, "transA is not covered");
    let (inner, outputs) = if node.int("transB", 0) == 0 {
        (x, y)
    } else {
        (y, x)
    };
    ensure!(inner == k, "a product of {a:?} and {b:?}");
    Ok(Some(vec![rows, outputs]))
}

fn product(a: &[usize], b: Option<&[usize]>) -> Result<Option<Vec<usize>>> {
    let Some(&[inner, outputs]) = b else {
        return Ok(None);
    };
    let Some((&k, rows)) = a.split_last() else {
        return Ok(None);
    };
    ensure!(inner == k, "a product of {a:?} and {b:?}");
    Ok(Some(rows.iter().copied().chain([outputs]).collect()))
}

fn reshape(node: &Node, input: &[usize], wanted: Option<Vec<i64>>) -> Result<Option<Vec<usize>>> {
    let Some(wanted) = wanted else { return Ok(None) };
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &d) in wanted.iter().enumerate() {
        shape.push(match d {
            -1 => {
                ensure!(open.replace(i).is_none(), "two open dimensions");
                1
            }
            0 if node.int("allowzero", 0) == 0 => *input.get(i).context("a dimension too many")?,
            d => usize::try_from(d).context("a negative dimension")?,
        });
    }
    let (have, want) = (volume(input)?, volume(&shape)?);
    if let Some(open) = open {
        ensure!(
            want > 0 && have % want == 0,
            "{input:?} does not fit into {wanted:?}"
        );
        shape[open] = have / want;
    }
    ensure!(volume(&shape)? == have, "{input:?} does not fit into {wanted:?}");
    Ok(Some(shape))
}

fn squeeze(input: &[usize], axes: Option<Vec<i64>>) -> Result<Option<Vec<usize>>> {
    let axes: Vec<usize> = match axes {
        Some(axes) => axes
            .into_iter()
            .map(|a| axis(a, input.len()))
            .collect::<Result<_>>()?,
        None => (0..input.len()).filter(|&i| input[i] == 1).collect(),
    };
    ensure!(
        axes.iter().all(|&a| input[a] == 1),
        "a dimension that is not 1 is squeezed"
    );
    let rest = (0..input.len()).filter(|i| !axes.contains(i)).map(|i| input[i]);
    Ok(Some(rest.collect()))
}

fn unsqueeze(input: &[usize], axes: Option<Vec<i64>>) -> Result<Option<Vec<usize>>> {
    let Some(axes) = axes else { return Ok(None) };
    let rank = input.len() + axes.len();
    ensure!(rank <= RANK_MAX, "{rank} dimensions, {RANK_MAX} are the most");
    let mut at: Vec<usize> = axes.into_iter().map(|a| axis(a, rank)).collect::<Result<_>>()?;
    at.sort_unstable();
    let mut shape = input.to_vec();
    for a in at {
        ensure!(a <= shape.len(), "dimension {a}");
        shape.insert(a, 1);
    }
    Ok(Some(shape))
}

/// Scale of each dimension, and the size it leads to.
pub fn resize_scales(node: &Node, input: &[usize], known: &Known) -> Result<Option<Vec<(f32, usize)>>> {
    ensure!(!node.has("axes"), "`axes` of Resize is not covered");
    let (scales, sizes) = match node.inputs.len() {
        2 => (1, usize::MAX),
        _ => (2, 3),
    };
    let floats = known
        .constant(scales)
        .and_then(Tensor::floats)
        .filter(|s| !s.is_empty());
    if let Some(scales) = floats {
        ensure!(
            scales.len() == input.len(),
            "{} scales for {input:?}",
            scales.len()
        );
        let sized = scales.iter().zip(input).map(|(&scale, &length)| {
            let size = f64::from(length as f32 * scale).floor();
            ensure!(size >= 1.0 && size <= VALUES_MAX as f64, "a scale of {scale}");
            Ok((scale, size as usize))
        });
        return sized.collect::<Result<Vec<_>>>().map(Some);
    }
    if let Some(sizes) = known.whole(sizes) {
        ensure!(sizes.len() == input.len(), "{} sizes for {input:?}", sizes.len());
        let policy = node.text("keep_aspect_ratio_policy", "stretch");
        ensure!(policy == "stretch", "the policy {policy:?} is not covered");
        let sized = sizes.iter().zip(input).map(|(&size, &length)| {
            ensure!(
                size >= 1 && size <= VALUES_MAX as i64 && length > 0,
                "a size of {size}"
            );
            Ok((size as f32 / length as f32, size as usize))
        });
        return sized.collect::<Result<Vec<_>>>().map(Some);
    }
    Ok(None)
}

fn resize(node: &Node, input: &[usize], known: &Known) -> Result<Option<Vec<usize>>> {
    let sized = resize_scales(node, input, known)?;
    Ok(sized.map(|sized| sized.into_iter().map(|(_, size)| size).collect()))
}

/// Padding before and behind each dimension.
pub fn pads(node: &Node, rank: usize, known: &Known) -> Result<Option<Vec<(i64, i64)>>> {
    let list = match node.ints("pads") {
        Some(pads) => pads.to_vec(),
        None => match known.whole(1) {
            Some(pads) => pads,
            None => return Ok(None),
        },
    };
    ensure!(node.input(3).is_none(), "`axes` of Pad is not covered");
    ensure!(
        list.len() == 2 * rank,
        "{} pads for {rank} dimensions",
        list.len()
    );
    ensure!(
        list.iter().all(|p| (-REACH_MAX..=REACH_MAX).contains(p)),
        "pads {list:?}"
    );
    Ok(Some((0..rank).map(|i| (list[i], list[i + rank])).collect()))
}

fn pad(node: &Node, input: &[usize], known: &Known) -> Result<Option<Vec<usize>>> {
    let Some(pads) = pads(node, input.len(), known)? else {
        return Ok(None);
    };
    let padded = input.iter().zip(pads).map(|(&length, (before, after))| {
        let length = length as i64 + before + after;
        ensure!(length > 0, "nothing would be left");
        Ok(length as usize)
    });
    padded.collect::<Result<Vec<_>>>().map(Some)
}

/// One dimension of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    pub axis: usize,
    pub start: usize,
    pub step: usize,
    pub length: usize,
}

pub fn slices(node: &Node, input: &[usize], known: &Known) -> Result<Option<Vec<Slice>>> {
    let list = |name: &str, at: usize| match node.ints(name) {
        Some(ints) => Some(ints.to_vec()),
        None => known.whole(at),
    };
    let (Some(starts), Some(ends)) = (list("starts", 1), list("ends", 2)) else {
        return Ok(None);
    };
    ensure!(
        node.input(3).is_none() || known.constant(3).is_some(),
        "dimensions that are not constant"
    );
    let axes = list("axes", 3).unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list("steps", 4).unwrap_or_else(|| vec![1; starts.len()]);
    ensure!(
        starts.len() == ends.len() && starts.len() == axes.len() && starts.len() == steps.len(),
        "a slice with lists of several lengths"
    );
    let mut slices = Vec::with_capacity(starts.len());
    for i in 0..starts.len() {
        let axis = axis(axes[i], input.len())?;
        let length = input[axis] as i64;
        let at = |v: i64| if v < 0 { v.saturating_add(length) } else { v }.clamp(0, length);
        let (start, end) = (at(starts[i]), at(ends[i]));
        ensure!(steps[i] >= 1 && start < end, "a slice of nothing, or backwards");
        slices.push(Slice {
            axis,
            start: start as usize,
            step: usize::try_from(steps[i]).context("step")?.min(VALUES_MAX),
            length: ((end - start) as u64).div_ceil(steps[i] as u64) as usize,
        });
    }
    Ok(Some(slices))
}
