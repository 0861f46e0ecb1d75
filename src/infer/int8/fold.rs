//! What can be known without running anything: constants, and the shapes of values.
//!
//! Graphs reckon with shapes (`Shape`, `Gather`, `Concat` before a `Reshape` or `Resize`); with the input's size given
//! by the manifest all of that is constant.

mod shapes;
mod windows;

pub use shapes::{
    Slice, axis, channels_last, is_channels_last, pads, permutation, reduced_axes, resize_scales, shape,
    slices,
};
pub use windows::{Windows, pool_windows, transposed_windows, windows};

use super::onnx::{Data, Node, Tensor, volume};
use std::rc::Rc;

/// Shape arithmetic has few numbers; larger constants are left alone.
const FOLD_MAX: usize = 4096;

/// What a node's inputs are known to be.
pub struct Known<'a> {
    pub constants: Vec<Option<Rc<Tensor>>>,
    pub shapes: Vec<Option<&'a [usize]>>,
}

impl Known<'_> {
    pub fn constant(&self, at: usize) -> Option<&Tensor> {
        self.constants.get(at)?.as_deref()
    }

    fn whole(&self, at: usize) -> Option<Vec<i64>> {
        self.constant(at).and_then(Tensor::whole)
    }

    pub fn shape(&self, at: usize) -> Option<&[usize]> {
        self.shapes.get(at).copied().flatten()
    }
}

/// The constant that a node gives, if it gives one.
pub fn constant(node: &Node, known: &Known) -> Option<Tensor> {
    match node.op.as_str() {
        "Constant" => constant_node(node),
        "Identity" => Some(known.constant(0)?.clone()),
        "Shape" => {
            let shape = known.shape(0)?;
            let rank = shape.len() as i64;
            let at = |v: i64| if v < 0 { v + rank } else { v }.clamp(0, rank) as usize;
            let (start, end) = (at(node.int("start", 0)), at(node.int("end", rank)));
            let dims = shape.get(start..end)?.iter().map(|&d| d as i64);
            Some(Tensor::ints(dims.collect()))
        }
        "Reshape" | "Unsqueeze" | "Squeeze" | "Flatten" => {
            let tensor = known.constant(0)?;
            let shape = shape(node, known, 13).ok().flatten()?;
            (volume(&shape).ok()? == tensor.len()).then(|| Tensor {
                shape,
                data: tensor.data.clone(),
            })
        }
        "Transpose" => transposed(known.constant(0)?, node.ints("perm")),
        "Cast" => cast(node, known.constant(0)?),
        "Gather" => gather(node, known),
        "Slice" => slice(node, known),
        "Concat" => concat(known),
        "Add" | "Sub" | "Mul" | "Div" => arithmetic(&node.op, known),
        "Floor" | "Ceil" => {
            let tensor = known.constant(0)?;
            let round = if node.op == "Floor" { f32::floor } else { f32::ceil };
            let values = tensor.floats().filter(|v| v.len() <= FOLD_MAX)?;
            Some(Tensor {
                shape: tensor.shape.clone(),
                data: Data::F32(values.iter().map(|&v| round(v)).collect()),
            })
        }
        "ConstantOfShape" => {
            let shape: Option<Vec<usize>> = known
                .whole(0)?
                .into_iter()
                .map(|d| usize::try_from(d).ok())
                .collect();
            let shape = shape?;
            let len = volume(&shape).ok().filter(|&v| v <= FOLD_MAX)?;
            let data = match node.tensor("value").map(Tensor::from_proto) {
                None => Data::F32(vec![0.0; len]),
                Some(value) => match value.ok()?.data {
                    Data::F32(v) => Data::F32(vec![*v.first()?; len]),
                    Data::I64(v) => Data::I64(vec![*v.first()?; len]),
                    _ => return None,
                },
            };
            Some(Tensor { shape, data })
        }
        _ => None,
    }
}

fn constant_node(node: &Node) -> Option<Tensor> {
    if let Some(tensor) = node.tensor("value") {
        return Tensor::from_proto(tensor).ok();
    }
    let scalar = |data| Tensor {
        shape: Vec::new(),
        data,
    };
    if node.has("value_float") {
        return Some(scalar(Data::F32(vec![node.float("value_float", 0.0)])));
    }
    if node.has("value_int") {
        return Some(scalar(Data::I64(vec![node.int("value_int", 0)])));
    }
    node.ints("value_ints")
        .filter(|_| node.has("value_ints"))
        .map(|ints| Tensor::ints(ints.to_vec()))
}

/// Numbers as the small lists of shape arithmetic are: whole, up to one dimension.
fn list(tensor: &Tensor) -> Option<Vec<i64>> {
    tensor
        .whole()
        .filter(|v| v.len() <= FOLD_MAX && tensor.shape.len() <= 1)
}

fn cast(node: &Node, tensor: &Tensor) -> Option<Tensor> {
    if tensor.len() > FOLD_MAX {
        return None;
    }
    let shape = tensor.shape.clone();
    let data = match (node.int("to", 0), &tensor.data) {
        (7, Data::F32(v)) => Data::I64(v.iter().map(|&v| v as i64).collect()),
        (7, _) => Data::I64(tensor.whole()?),
        (6, _) => Data::I32(
            tensor
                .whole()?
                .into_iter()
                .map(|v| i32::try_from(v).ok())
                .collect::<Option<_>>()?,
        ),
        (1, Data::F32(v)) => Data::F32(v.clone()),
        (1, _) => Data::F32(tensor.whole()?.into_iter().map(|v| v as f32).collect()),
        _ => return None,
    };
    Some(Tensor { shape, data })
}

/// Whole numbers, of the type of those that they come from: what reads them may want that type. Nobody reckons shapes
/// in bytes.
fn of_type(data: &Data, values: Vec<i64>) -> Option<Data> {
    match data {
        Data::I64(_) => Some(Data::I64(values)),
        Data::I32(_) => {
            let narrow: Option<Vec<i32>> = values.into_iter().map(|v| i32::try_from(v).ok()).collect();
            narrow.map(Data::I32)
        }
        Data::F32(_) | Data::I8(_) | Data::U8(_) => None,
    }
}

fn gather(node: &Node, known: &Known) -> Option<Tensor> {
    let (tensor, at) = (known.constant(0)?, known.constant(1)?);
    let values = list(tensor)?;
    if node.int("axis", 0) != 0 || at.shape.len() > 1 {
        return None;
    }
    let len = values.len() as i64;
    let taken: Option<Vec<i64>> = at
        .whole()?
        .into_iter()
        .map(|i| {
            let i = if i < 0 { i + len } else { i };
            values.get(usize::try_from(i).ok()?).copied()
        })
        .collect();
    Some(Tensor {
        shape: at.shape.clone(),
        data: of_type(&tensor.data, taken?)?,
    })
}

fn slice(node: &Node, known: &Known) -> Option<Tensor> {
    let tensor = known.constant(0)?;
    let values = list(tensor)?;
    let one = |at: usize| known.whole(at).filter(|v| v.len() == 1).map(|v| v[0]);
    // What is there, but not known, is not what stands for it where it is left out.
    let given = |at: usize, otherwise: i64| match node.input(at) {
        None => Some(otherwise),
        Some(_) => one(at),
    };
    let (start, end) = (one(1)?, one(2)?);
    if !matches!(given(3, 0)?, 0 | -1) || given(4, 1)? != 1 || tensor.shape.len() != 1 {
        return None;
    }
    let len = values.len() as i64;
    let at = |v: i64| if v < 0 { v.saturating_add(len) } else { v }.clamp(0, len) as usize;
    let taken = values.get(at(start)..at(end))?.to_vec();
    Some(Tensor {
        shape: vec![taken.len()],
        data: of_type(&tensor.data, taken)?,
    })
}

fn concat(known: &Known) -> Option<Tensor> {
    let first = known.constant(0)?;
    let mut all = Vec::new();
    for tensor in &known.constants {
        let tensor = tensor.as_deref()?;
        if std::mem::discriminant(&tensor.data) != std::mem::discriminant(&first.data) {
            return None;
        }
        all.extend(list(tensor)?);
    }
    Some(Tensor {
        shape: vec![all.len()],
        data: of_type(&first.data, all)?,
    })
}

fn arithmetic(op: &str, known: &Known) -> Option<Tensor> {
    let (a, b) = (known.constant(0)?, known.constant(1)?);
    let len = a.len().max(b.len());
    if len > FOLD_MAX || ![a.len(), b.len()].into_iter().all(|l| l == 1 || l == len) {
        return None;
    }
    // Of the same shape, or one number that does not add dimensions: what shape arithmetic needs.
    let shape = match (a.len(), b.len()) {
        _ if a.shape == b.shape => a.shape.clone(),
        (_, 1) if b.shape.len() <= a.shape.len() => a.shape.clone(),
        (1, _) if a.shape.len() <= b.shape.len() => b.shape.clone(),
        _ => return None,
    };
    let pick = |i: usize, of: usize| if of == 1 { 0 } else { i };
    if let (Some(a), Some(b)) = (a.floats(), b.floats()) {
        let of = |a: f32, b: f32| match op {
            "Add" => a + b,
            "Sub" => a - b,
            "Mul" => a * b,
            _ => a / b,
        };
        let values = (0..len).map(|i| of(a[pick(i, a.len())], b[pick(i, b.len())]));
        return Some(Tensor {
            shape,
            data: Data::F32(values.collect()),
        });
    }
    if std::mem::discriminant(&a.data) != std::mem::discriminant(&b.data) {
        return None;
    }
    let kind = &a.data;
    let (a, b) = (a.whole()?, b.whole()?);
    let of = |a: i64, b: i64| match op {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        _ => a.checked_div(b),
    };
    let values: Option<Vec<i64>> = (0..len)
        .map(|i| of(a[pick(i, a.len())], b[pick(i, b.len())]))
        .collect();
    Some(Tensor {
        shape,
        data: of_type(kind, values?)?,
    })
}

pub fn transposed(tensor: &Tensor, perm: Option<&[i64]>) -> Option<Tensor> {
    let perm = permutation(perm, tensor.shape.len()).ok()?;
    let shape: Vec<usize> = perm.iter().map(|&p| tensor.shape[p]).collect();
    let steps = steps(&tensor.shape);
    let steps: Vec<usize> = perm.iter().map(|&p| steps[p]).collect();
    let order = strided(&shape, &steps);
    fn pick<T: Copy>(values: &[T], order: &[usize]) -> Vec<T> {
        order.iter().map(|&i| values[i]).collect()
    }
    let data = match &tensor.data {
        Data::F32(v) => Data::F32(pick(v, &order)),
        Data::I64(v) => Data::I64(pick(v, &order)),
        Data::I32(v) => Data::I32(pick(v, &order)),
        Data::I8(v) => Data::I8(pick(v, &order)),
        Data::U8(v) => Data::U8(pick(v, &order)),
    };
    Some(Tensor { shape, data })
}

/// Values from one index to the next, of each dimension of a dense tensor.
pub fn steps(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        steps[i - 1] = steps[i] * shape[i];
    }
    steps
}

/// Where the values of `shape` stand, when an index of dimension i is worth `steps[i]`.
pub fn strided(shape: &[usize], steps: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    for (&length, &step) in shape.iter().zip(steps) {
        let next = places
            .iter()
            .flat_map(|&place| (0..length).map(move |i| place + i * step));
        places = next.collect();
    }
    places
}
