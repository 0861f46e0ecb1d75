//! `QuantizeLinear` and `DequantizeLinear`: where f32 and bytes meet.

use super::super::fold;
use super::super::function::{Function, Quant};
use super::super::ir::{Id, Kind, OpKind, Order};
use super::super::onnx::{Data, Node, Tensor};
use super::{Again, Base, Float, Lowering, Reason, Symbol, Target, Weights, carried};
use crate::kernels::float::Order as FloatOrder;
use std::rc::Rc;

/// Steps of bytes, as a file states them.
pub struct Stated {
    pub quant: Quant,
    pub signed: bool,
}

impl Lowering<'_> {
    /// One scale and zero point, inputs `scale` and `zero` of the node.
    pub fn stated(&self, node: &Node, scale: usize, zero: usize) -> Result<Stated, Reason> {
        let constant = |at: usize| node.input(at).and_then(|v| self.constants[v].as_deref());
        let scale = constant(scale).and_then(Tensor::single);
        let scale = scale.ok_or("its scale is not one constant number")?;
        if !(scale.is_finite() && scale > 0.0) {
            return Err(format!("its scale is {scale}"));
        }
        let (zero, signed) = match node.input(zero) {
            None => {
                let signed = unstated_type(node)?;
                (if signed { 128 } else { 0 }, signed)
            }
            Some(value) => {
                let tensor = constant(zero).ok_or_else(|| self.not_constant(value, "zero point"))?;
                match carried(tensor) {
                    Some((bytes, signed)) if bytes.len() == 1 => (bytes[0], signed),
                    _ => return Err("its zero point is not one byte".to_owned()),
                }
            }
        };
        Ok(Stated {
            quant: Quant { scale, zero },
            signed,
        })
    }

    /// Steps of a tensor that is there already: without a zero point, its type says where zero is.
    pub fn stated_of(&self, node: &Node, value: usize, scale: usize, zero: usize) -> Result<Stated, Reason> {
        let mut stated = self.stated(node, scale, zero)?;
        if node.input(zero).is_none() && self.is_signed(value) {
            (stated.quant.zero, stated.signed) = (128, true);
        }
        Ok(stated)
    }

    /// Bytes that ONNX calls signed.
    pub fn is_signed(&self, value: usize) -> bool {
        if let Some(tensor) = &self.constants[value] {
            return matches!(tensor.data, Data::I8(_));
        }
        match self.symbols[value] {
            Symbol::Bytes(id) => matches!(self.program.values[id].kind, Kind::Bytes { signed: true, .. }),
            _ => false,
        }
    }

    fn not_constant(&self, value: usize, what: &str) -> Reason {
        if self.graph.unread.contains_key(&value) {
            return format!("its {what} is of a type that is not covered (16 bits, f16, f8)");
        }
        format!("its {what} is not constant")
    }

    pub fn quantize(&mut self, node: &Node) -> Result<Option<Symbol>, Reason> {
        let input = node.input(0).ok_or("it has no input")?;
        if let Some(tensor) = self.constants[input].clone() {
            let output = node.output().ok_or("it has no output")?;
            let quantized = self.quantize_constant(node, &tensor)?;
            self.constants[output] = Some(Rc::new(quantized));
            return Ok(None);
        }
        let Stated { quant, signed } = self.stated(node, 1, 2)?;
        let target = Target::Bytes { quant, signed };
        if let Symbol::Float(float) = self.symbols[input].clone()
            && let Ok(id) = self.lower(&float, target)
        {
            return Ok(Some(Symbol::Bytes(id)));
        }
        // f32 that is reckoned here; the graph's own input is quantized as it comes.
        if matches!(self.symbols[input], Symbol::Float(_))
            && let Ok(id) = self.requantized(input, target)
        {
            return Ok(Some(Symbol::Bytes(id)));
        }
        self.quantize_external(input, &Function::Variable, target)
            .map(|id| Some(Symbol::Bytes(id)))
    }

    /// The graph's input, through what graphs do with it before its first quantizer: for a picture that comes in bytes,
    /// all of that is one table for each channel.
    pub fn of_picture(&mut self, function: &Function, target: Target) -> Result<Id, Reason> {
        match target {
            Target::Bytes { .. } => self.quantize_external(self.graph.input, function, target),
            Target::Float if function.is_variable() => self.picture_in_floats(),
            Target::Float => Err("its input is not quantized".to_owned()),
        }
    }

    /// From f32 that tract reckons, or the graph's input.
    fn quantize_external(
        &mut self,
        external: usize,
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        let known = self.quantized.get(&external).map_or(&[][..], |list| list);
        let same = |(of, to, _): &&(Function, Target, Id)| *to == target && of == function;
        if let Some(&(.., id)) = known.iter().find(same) {
            return Ok(id);
        }
        if known.len() >= super::MADE_MAX {
            return Err("too many quantizers read it".to_owned());
        }
        let shape = self.shapes[external]
            .clone()
            .ok_or("the shape of its input is not known")?;
        // Pictures of planes are turned on the way in; everything else keeps its order.
        let (lies, order) = match shape[..] {
            [1, _, _, _] => (Order::ChannelsLast, FloatOrder::Planes),
            _ => (Order::Rows, FloatOrder::Pixels),
        };
        let kind = OpKind::Quantize {
            external,
            order,
            function: function.clone(),
        };
        let id = self.push(kind, shape, lies, target);
        let list = self.quantized.entry(external).or_default();
        list.push((function.clone(), target, id));
        Ok(id)
    }

    /// The bytes of a value with the step that its reader states.
    pub fn bytes_as(&mut self, value: usize, stated: &Stated) -> Result<Id, Reason> {
        let (quant, signed) = (stated.quant, stated.signed);
        let target = Target::Bytes { quant, signed };
        let id = match self.symbols[value] {
            Symbol::Bytes(id) => id,
            // Made by tract: it is dequantized there, and quantized to the same bytes here.
            Symbol::Opaque if value != self.graph.input && self.shapes[value].is_some() => {
                let shape = self.shapes[value].clone();
                let before = self.again_of.get(&value).map_or(&[][..], |list| list);
                let same = |a: &&Again| a.quant == quant && a.signed == signed;
                let known = before.iter().map(|&i| &self.again[i]).find(same);
                if let Some(value) = known.map(|again| again.value) {
                    return self.quantize_external(value, &Function::Variable, target);
                }
                if before.len() >= super::MADE_MAX {
                    return Err("too many operators read it with other steps".to_owned());
                }
                let external = self.names.len();
                self.names.push(format!("{}.again.{external}", self.prefix));
                self.symbols.push(Symbol::Opaque);
                self.constants.push(None);
                self.shapes.push(shape);
                self.again_of.entry(value).or_default().push(self.again.len());
                self.again.push(Again {
                    value: external,
                    source: value,
                    quant,
                    signed,
                });
                self.quantize_external(external, &Function::Variable, target)?
            }
            _ => return Err("its input is not quantized by a node that is covered".to_owned()),
        };
        let own = &self.program.values[id];
        let (shape, order) = (own.shape.clone(), own.order);
        Ok(self.alias(id, shape, order, Kind::Bytes { quant, signed }))
    }

    pub fn dequantize(&mut self, node: &Node) -> Result<Option<Symbol>, Reason> {
        let input = node.input(0).ok_or("it has no input")?;
        if let Some(tensor) = self.constants[input].clone() {
            return self
                .weights(node, tensor, 1, 2)
                .map(|w| Some(Symbol::Weights(Rc::new(w))));
        }
        let mut stated = self.stated_of(node, input, 1, 2)?;
        if let Symbol::Bytes(_) = self.symbols[input] {
            stated.signed = self.is_signed(input);
        }
        let id = self.bytes_as(input, &stated)?;
        Ok(Some(Symbol::Float(Float {
            base: Base::Bytes(id),
            function: Function::Variable,
            views: Vec::new(),
        })))
    }

    /// Integers of the file with their steps: inputs `scale` and `zero` of the node.
    pub fn weights(
        &self,
        node: &Node,
        tensor: Rc<Tensor>,
        scale: usize,
        zero: usize,
    ) -> Result<Weights, Reason> {
        let constant = |at: usize| node.input(at).and_then(|v| self.constants[v].as_deref());
        if tensor.floats().is_some() || node.int("block_size", 0) != 0 {
            return Err("weights of this kind are not covered".to_owned());
        }
        let scales = constant(scale)
            .and_then(Tensor::floats)
            .ok_or("its scale is not constant")?;
        if scales.is_empty() || scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err("a scale is not a positive number".to_owned());
        }
        let zeros = match node.input(zero) {
            None => vec![0; scales.len()],
            Some(value) => constant(zero)
                .and_then(Tensor::whole)
                .ok_or_else(|| self.not_constant(value, "zero point"))?,
        };
        let zeros = match zeros[..] {
            [one] => vec![one; scales.len()],
            _ => zeros,
        };
        let rank = tensor.shape.len();
        let axis = match (scales.len(), rank) {
            (1, _) | (_, 0) => 0,
            // Along the columns of a matrix product, the output channels of a convolution.
            _ if node.op == "DequantizeLinear" => {
                fold::axis(node.int("axis", 1), rank).map_err(|e| e.to_string())?
            }
            _ if node.op == "QGemm" && node.int("transB", 0) != 0 => 0,
            _ if node.op.contains("MatMul") || node.op == "QGemm" => rank - 1,
            _ => 0,
        };
        let fits = scales.len() == 1 || tensor.shape.get(axis) == Some(&scales.len());
        if zeros.len() != scales.len() || !fits {
            return Err("its scales do not fit its weights".to_owned());
        }
        Ok(Weights {
            scale: scales.to_vec(),
            zero: zeros,
            axis,
            tensor,
        })
    }

    fn quantize_constant(&self, node: &Node, tensor: &Tensor) -> Result<Tensor, Reason> {
        let constant = |at: usize| node.input(at).and_then(|v| self.constants[v].as_deref());
        let values = tensor.floats().ok_or("it quantizes integers")?;
        let scales = constant(1)
            .and_then(Tensor::floats)
            .ok_or("its scale is not constant")?;
        let (zeros, signed) = match node.input(2) {
            None => (vec![0; scales.len()], unstated_type(node)?),
            Some(value) => {
                let zero = constant(2).ok_or_else(|| self.not_constant(value, "zero point"))?;
                let signed = match zero.data {
                    Data::I8(_) => true,
                    Data::U8(_) => false,
                    _ => return Err("it does not quantize to bytes".to_owned()),
                };
                (zero.whole().unwrap_or_default(), signed)
            }
        };
        let rank = tensor.shape.len();
        let (length, inner) = match (scales.len(), rank) {
            (1, _) | (_, 0) => (1, values.len().max(1)),
            _ => {
                let axis = fold::axis(node.int("axis", 1), rank).map_err(|e| e.to_string())?;
                (tensor.shape[axis], tensor.shape[axis + 1..].iter().product())
            }
        };
        if scales.len() != length
            || zeros.len() != length
            || scales.iter().any(|s| s.is_nan() || *s <= 0.0)
            || inner == 0
        {
            return Err("its scales do not fit".to_owned());
        }
        let (low, high) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
        let steps = values.iter().enumerate().map(|(i, v)| {
            let at = i / inner % length;
            let step = (v / scales[at]).round_ties_even() + zeros[at] as f32;
            step.clamp(low, high) as i32
        });
        let data = if signed {
            Data::I8(steps.map(|s| s as i8).collect())
        } else {
            Data::U8(steps.map(|s| s as u8).collect())
        };
        Ok(Tensor {
            shape: tensor.shape.clone(),
            data,
        })
    }
}

/// Without a zero point, `QuantizeLinear` has an attribute for what it gives: signed bytes or unsigned ones.
fn unstated_type(node: &Node) -> Result<bool, Reason> {
    match node.int("output_dtype", 0) {
        _ if node.op != "QuantizeLinear" => Ok(false),
        0 | 2 => Ok(false),
        3 => Ok(true),
        other => Err(format!("it quantizes to ONNX type {other}")),
    }
}
