//! Softmax, in f32 from bytes.

use super::super::fold;
use super::super::function::Function;
use super::super::ir::{Id, OpKind, Order};
use super::super::onnx::Node;
use super::{Lowering, Reason, Target};

impl Lowering<'_> {
    /// Over the last dimension, or the channels of a picture.
    pub fn softmax(&mut self, node: &Node, function: &Function, target: Target) -> Result<Id, Reason> {
        let input = self.bytes_of(node.input(0).ok_or("it has no input")?)?;
        if !function.is_variable() {
            return Err("a function of a softmax is not covered".to_owned());
        }
        self.softmax_of(node, input, target)
    }

    pub fn softmax_of(&mut self, node: &Node, input: Id, target: Target) -> Result<Id, Reason> {
        let shape = self.program.values[input].shape.clone();
        // ONNX Runtime's operator says itself which of the two meanings it has.
        let (old, default) = match node.op.as_str() {
            "QLinearSoftmax" => (node.int("opset", self.graph.opset) < 13, -1),
            _ if self.graph.opset >= 13 => (false, -1),
            _ => (true, 1),
        };
        let axis = fold::axis(node.int("axis", default), shape.len()).map_err(|e| e.to_string())?;
        let rest: usize = shape[axis + 1..].iter().product();
        let input = match (axis + 1 == shape.len() || (old && rest == 1), axis, shape.len()) {
            (true, ..) => self.rows(input)?,
            (false, 1, 4) if !old => self.channels_last(input)?,
            _ => return Err(format!("a softmax of {shape:?} over {axis} is not covered")),
        };
        let input = if rest == 1 && axis + 1 != shape.len() {
            // Of the older kind: everything from the axis on, which here is the axis alone.
            let kind = self.program.values[input].kind.clone();
            self.alias(input, shape[..axis + 1].to_vec(), Order::Rows, kind)
        } else {
            input
        };
        let value = self.program.values[input].clone();
        let float = self.push(OpKind::Softmax { input }, value.shape, value.order, Target::Float);
        let id = match target {
            Target::Float => float,
            Target::Bytes { .. } => {
                let value = self.program.values[float].clone();
                self.push(
                    OpKind::Requantize { input: float },
                    value.shape,
                    value.order,
                    target,
                )
            }
        };
        Ok(if self.program.values[id].shape == shape {
            id
        } else {
            let order = self.program.values[id].order;
            let kind = self.program.values[id].kind.clone();
            self.alias(id, shape, order, kind)
        })
    }
}
