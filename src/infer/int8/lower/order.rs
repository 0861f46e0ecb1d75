//! Views: nodes that change the shape or the order of dimensions. Most cost nothing.

use super::super::fold;
use super::super::ir::{Id, OpKind, Order};
use super::super::onnx::{Node, Tensor};
use super::{Float, Lowering, Reason, Symbol, Target, Weights};
use crate::infer::int8::ir::Kind;
use std::rc::Rc;

impl Lowering<'_> {
    pub fn view_symbol(&mut self, position: usize, node: &Node) -> Result<Option<Symbol>, Reason> {
        let input = node.input(0).ok_or("it has no input")?;
        Ok(match self.symbols[input].clone() {
            Symbol::Bytes(id) => Some(Symbol::Bytes(self.view(id, position)?)),
            Symbol::Float(mut float) => {
                if float.views.len() >= super::VIEWS_MAX {
                    return Err("too many views in a row".to_owned());
                }
                float.views.push(position);
                match float.base {
                    super::Base::Bytes(id) if float.views.len() == 1 => {
                        let base = super::Base::Bytes(self.view(id, position)?);
                        Some(Symbol::Float(Float {
                            base,
                            views: Vec::new(),
                            ..float
                        }))
                    }
                    _ => Some(Symbol::Float(float)),
                }
            }
            Symbol::Weights(weights) => {
                let viewed = self.viewed(&weights, node)?;
                Some(Symbol::Weights(Rc::new(viewed)))
            }
            Symbol::Opaque => None,
        })
    }

    /// Weights turned: tools keep them in another order than the operator wants them.
    fn viewed(&self, weights: &Weights, node: &Node) -> Result<Weights, Reason> {
        let rank = weights.tensor.shape.len();
        let several = weights.scale.len() > 1;
        let (tensor, axis) = if node.op == "Transpose" {
            let perm = fold::permutation(node.ints("perm"), rank).map_err(|e| e.to_string())?;
            let axis = perm.iter().position(|&p| p == weights.axis);
            (fold::transposed(&weights.tensor, node.ints("perm")), axis)
        } else if several {
            return Err("a view of weights with several scales is not covered".to_owned());
        } else {
            let shape = self.shape_of(node, 0)?;
            let same = shape.iter().product::<usize>() == weights.tensor.len();
            let data = weights.tensor.data.clone();
            (same.then_some(Tensor { shape, data }), Some(0))
        };
        Ok(Weights {
            tensor: Rc::new(tensor.ok_or("a view of another size")?),
            scale: weights.scale.clone(),
            zero: weights.zero.clone(),
            axis: axis.unwrap_or(0),
        })
    }

    pub fn views(&mut self, mut id: Id, views: &[usize]) -> Result<Id, Reason> {
        for &position in views {
            id = self.view(id, position)?;
        }
        Ok(id)
    }

    fn view(&mut self, id: Id, position: usize) -> Result<Id, Reason> {
        let node = &self.graph.nodes[position];
        if node.op == "Transpose" {
            return self.transpose(id, node);
        }
        let shape = self.shape_of(node, 0)?;
        let id = self.rows(id)?;
        let value = &self.program.values[id];
        if shape.iter().product::<usize>() != value.shape.iter().product::<usize>() {
            return Err("a view of another size".to_owned());
        }
        let kind = value.kind.clone();
        Ok(self.alias(id, shape, Order::Rows, kind))
    }

    fn transpose(&mut self, id: Id, node: &Node) -> Result<Id, Reason> {
        let value = self.program.values[id].clone();
        let rank = value.shape.len();
        let perm = fold::permutation(node.ints("perm"), rank).map_err(|e| e.to_string())?;
        let shape: Vec<usize> = perm.iter().map(|&p| value.shape[p]).collect();
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(id);
        }
        let batch = value.shape.first() == Some(&1);
        match (value.order, &perm[..]) {
            (Order::ChannelsLast, [0, 2, 3, 1]) => {
                return Ok(self.alias(id, shape, Order::Rows, value.kind));
            }
            (Order::Rows, [0, 3, 1, 2]) if batch => {
                return Ok(self.alias(id, shape, Order::ChannelsLast, value.kind));
            }
            _ => {}
        }
        let steps = memory_steps(&value.shape, value.order);
        let steps = perm.iter().map(|&p| steps[p]).collect();
        self.permute(id, shape, Order::Rows, steps)
    }

    fn permute(
        &mut self,
        input: Id,
        shape: Vec<usize>,
        order: Order,
        steps: Vec<usize>,
    ) -> Result<Id, Reason> {
        if self.program.values[input].dims()[..2] == [1, 1] && order == self.program.values[input].order {
            let kind = self.program.values[input].kind.clone();
            return Ok(self.alias(input, shape, order, kind));
        }
        let Kind::Bytes { quant, signed } = self.program.values[input].kind else {
            return Err("a view of floats is not covered".to_owned());
        };
        // Of the output as it is stored.
        let (lengths, steps) = match order {
            Order::Rows => (shape.clone(), steps),
            Order::ChannelsLast => (
                vec![shape[2], shape[3], shape[1]],
                vec![steps[2], steps[3], steps[1]],
            ),
        };
        let kind = OpKind::Permute {
            input,
            lengths,
            steps,
            table: None,
        };
        Ok(self.push(kind, shape, order, Target::Bytes { quant, signed }))
    }

    /// The same values stored as ONNX numbers them.
    pub fn rows(&mut self, id: Id) -> Result<Id, Reason> {
        self.ordered(id, Order::Rows)
    }

    /// A picture stored with its channels innermost.
    pub fn channels_last(&mut self, id: Id) -> Result<Id, Reason> {
        let value = &self.program.values[id];
        match value.shape[..] {
            [1, _, _, _] => self.ordered(id, Order::ChannelsLast),
            _ => Err(format!(
                "{:?}: only one picture at a time is covered",
                value.shape
            )),
        }
    }

    /// A picture of height, width, channels under the shape that it has in other operators: the same bytes.
    pub fn planes_of(&mut self, id: Id) -> Result<Id, Reason> {
        let id = self.rows(id)?;
        let value = &self.program.values[id];
        let &[1, h, w, c] = &value.shape[..] else {
            return Err(format!(
                "{:?}: only one picture at a time is covered",
                value.shape
            ));
        };
        let kind = value.kind.clone();
        Ok(self.alias(id, vec![1, c, h, w], Order::ChannelsLast, kind))
    }

    /// And back.
    pub fn pixels_of(&mut self, id: Id) -> Id {
        let value = &self.program.values[id];
        let ([h, w, c], kind) = (value.dims(), value.kind.clone());
        self.alias(id, vec![1, h, w, c], Order::Rows, kind)
    }

    fn ordered(&mut self, id: Id, order: Order) -> Result<Id, Reason> {
        let value = self.program.values[id].clone();
        if value.order == order {
            return Ok(id);
        }
        let &[_, c, h, w] = &value.shape[..] else {
            return Err(format!("the order of {:?} is not covered", value.shape));
        };
        if c == 1 || h * w == 1 {
            return Ok(self.alias(id, value.shape, order, value.kind));
        }
        let steps = memory_steps(&value.shape, value.order);
        self.permute(id, value.shape, order, steps)
    }
}

/// Bytes from one index to the next, for each dimension of a shape as it is stored.
fn memory_steps(shape: &[usize], order: Order) -> Vec<usize> {
    match (order, shape) {
        (Order::ChannelsLast, &[_, c, h, w]) => vec![c * h * w, 1, w * c, c],
        _ => fold::steps(shape),
    }
}
