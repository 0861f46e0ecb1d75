//! The geometry of windows: convolutions, transposed ones, pools.

use super::super::onnx::Node;
use anyhow::{Context, Result, bail, ensure};

/// Kernel, stride, dilation, padding of a node over two dimensions: all that windows need.
pub struct Windows {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Above, left, below, right.
    pub pads: [isize; 4],
    pub output: [usize; 2],
}

/// Larger ones are no network, and their sums could overflow.
pub const REACH_MAX: i64 = 1 << 15;

fn two(node: &Node, name: &str) -> Result<[usize; 2]> {
    match node.ints(name) {
        None | Some([]) => Ok([1, 1]),
        Some(&[a, b]) if (1..=REACH_MAX).contains(&a) && (1..=REACH_MAX).contains(&b) => {
            Ok([a as usize, b as usize])
        }
        Some(other) => bail!("{name} {other:?}: two numbers are covered"),
    }
}

/// The windows of a convolution or pool over an input of height and width `size`.
pub fn windows(node: &Node, kernel: [usize; 2], size: [usize; 2]) -> Result<Windows> {
    let (stride, dilation) = (two(node, "strides")?, two(node, "dilations")?);
    ensure!(
        kernel.iter().all(|&k| k >= 1 && k as i64 <= REACH_MAX),
        "a kernel of {kernel:?}"
    );
    let reach: [usize; 2] = std::array::from_fn(|i| dilation[i] * (kernel[i] - 1) + 1);
    let mut pads = match node.ints("pads") {
        None | Some([]) => [0; 4],
        Some(&[t, l, b, r]) if [t, l, b, r].iter().all(|p| (-REACH_MAX..=REACH_MAX).contains(p)) => {
            [t as isize, l as isize, b as isize, r as isize]
        }
        Some(other) => bail!("pads {other:?}: four numbers are covered"),
    };
    let mut output = [0; 2];
    let auto = node.text("auto_pad", "NOTSET");
    for i in 0..2 {
        match auto.as_str() {
            "SAME_UPPER" | "SAME_LOWER" => {
                output[i] = size[i].div_ceil(stride[i]);
                let wanted = (output[i].max(1) - 1) * stride[i] + reach[i];
                let total = wanted.saturating_sub(size[i]) as isize;
                let (less, more) = (total / 2, total - total / 2);
                let first = if auto == "SAME_UPPER" { less } else { more };
                (pads[i], pads[i + 2]) = (first, total - first);
            }
            "VALID" => (pads[i], pads[i + 2]) = (0, 0),
            _ => {}
        }
        let room = size[i] as isize + pads[i] + pads[i + 2] - reach[i] as isize;
        ensure!(room >= 0, "a window of {reach:?} does not fit into {size:?}");
        let room = room as usize;
        output[i] = room / stride[i] + 1;
        if node.int("ceil_mode", 0) != 0 {
            let more = room.div_ceil(stride[i]) + 1;
            // A window that starts in the padding behind the input does not count.
            if ((more - 1) * stride[i]) as isize - pads[i] < size[i] as isize {
                output[i] = more;
            }
        }
    }
    Ok(Windows {
        kernel,
        stride,
        dilation,
        pads,
        output,
    })
}

/// Geometry of a transposed convolution: stride, dilation, padding above and left, output size.
pub fn transposed_windows(node: &Node, kernel: [usize; 2], size: [usize; 2]) -> Result<Windows> {
    let (stride, dilation) = (two(node, "strides")?, two(node, "dilations")?);
    ensure!(
        kernel.iter().all(|&k| k >= 1 && k as i64 <= REACH_MAX),
        "a kernel of {kernel:?}"
    );
    let auto = node.text("auto_pad", "NOTSET");
    let same = matches!(auto.as_str(), "SAME_UPPER" | "SAME_LOWER");
    let mut pads = match node.ints("pads") {
        None | Some([]) => [0; 4],
        Some(&[t, l, b, r]) if [t, l, b, r].iter().all(|p| (0..=REACH_MAX).contains(p)) => {
            [t as isize, l as isize, b as isize, r as isize]
        }
        Some(other) => bail!("pads {other:?}"),
    };
    let more = match node.ints("output_padding") {
        None | Some([]) => [0, 0],
        Some(&[a, b]) if (0..=REACH_MAX).contains(&a) && (0..=REACH_MAX).contains(&b) => {
            [a as isize, b as isize]
        }
        Some(other) => bail!("output_padding {other:?}"),
    };
    let given = node.ints("output_shape").is_none_or(|shape| shape.len() == 2);
    ensure!(given, "output_shape: two numbers are covered");
    let mut output = [0; 2];
    for i in 0..2 {
        ensure!(
            size[i] > 0 && size[i] as i64 <= REACH_MAX,
            "a picture of {size:?}"
        );
        let reach = dilation[i] * (kernel[i] - 1) + 1;
        let whole = (stride[i] * (size[i] - 1) + reach) as isize + more[i];
        // Where the size of the output is given, the padding follows from it.
        let wanted = match node.ints("output_shape") {
            Some(shape) => Some(*shape.get(i).context("output_shape")?),
            None if same => Some((stride[i] * size[i]) as i64),
            None => None,
        };
        if let Some(wanted) = wanted {
            let total = isize::try_from(wanted).ok().and_then(|w| whole.checked_sub(w));
            let total = total.filter(|t| (0..=whole).contains(t));
            let total = total.context("an output that is larger than its windows reach")?;
            let less = total / 2;
            let first = if auto == "SAME_UPPER" { less } else { total - less };
            (pads[i], pads[i + 2]) = (first, total - first);
        } else if auto == "VALID" {
            (pads[i], pads[i + 2]) = (0, 0);
        }
        let length = whole - pads[i] - pads[i + 2];
        ensure!(length > 0, "the output would be empty");
        output[i] = length as usize;
    }
    Ok(Windows {
        kernel,
        stride,
        dilation,
        pads,
        output,
    })
}

/// Height, width of a picture, by where its channels are.
pub fn pool_windows(node: &Node, size: [usize; 2]) -> Result<Windows> {
    ensure!(node.has("kernel_shape"), "a pool without a kernel");
    windows(node, two(node, "kernel_shape")?, size)
}
