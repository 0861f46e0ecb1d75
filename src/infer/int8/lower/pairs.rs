//! Sums and products of two tensors: residuals, squeeze-and-excite, constants by channel.

use super::super::fold;
use super::super::function::{Function, Quant};
use super::super::ir::{Id, Kind, OpKind, Order};
use super::super::onnx::{Data, Node};
use super::conv::Addend;
use super::{Base, Float, Lowering, Reason, Symbol, Target, carried, finite};
use crate::kernels::binary::BinaryOp;

impl Lowering<'_> {
    pub fn pair(&mut self, node: &Node, function: &Function, target: Target) -> Result<Id, Reason> {
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else {
            return Err("an input is missing".to_owned());
        };
        if node.op == "Add"
            && let Some(id) = self.sum(a, b, node.output(), function, target)
        {
            return Ok(id);
        }
        let shape = self.shape_of(node, 0)?;
        let half = target.bytes()?.scale / 2.0;
        let allowed = |other: f32| match node.op.as_str() {
            "Mul" => half / other.max(f32::MIN_POSITIVE),
            _ => half,
        };
        let (of_a, of_b) = (allowed(self.reach(b)), allowed(self.reach(a)));
        let (a, b) = (
            self.operand(a, shape.len(), of_a)?,
            self.operand(b, shape.len(), of_b)?,
        );
        self.pair_of(&node.op, a, b, &shape, function, target)
    }

    /// The values of a constant that has one, or one for each channel of `own`.
    fn by_output(&self, own: usize, other: usize, output: Option<usize>, op: &str) -> Option<Vec<f32>> {
        let shape = self.shapes[own].as_ref()?;
        if self.shapes[output?].as_ref() != Some(shape) {
            return None;
        }
        let (values, of) = match &self.symbols[other] {
            Symbol::Weights(weights) => (weights.values(), weights.tensor.shape.clone()),
            _ => {
                let tensor = self.constants[other].as_ref()?;
                (tensor.floats()?.to_vec(), tensor.shape.clone())
            }
        };
        let axis = match op {
            "Conv" | "ConvTranspose" => 1,
            _ => shape.len().checked_sub(1)?,
        };
        let of = padded(&of, shape.len()).ok()?;
        let along = of.iter().enumerate().all(|(i, &d)| i == axis || d == 1);
        (along && (values.len() == 1 || of[axis] == shape[axis])).then_some(values)
    }

    /// The largest value, where bytes or constants bound it.
    fn reach(&self, value: usize) -> f32 {
        if let Some(values) = self.constants[value].as_ref().and_then(|t| t.floats()) {
            return values.iter().fold(0.0, |most, v| most.max(v.abs()));
        }
        match &self.symbols[value] {
            Symbol::Weights(weights) => weights.values().iter().fold(0.0, |most, v| most.max(v.abs())),
            Symbol::Float(Float {
                base: Base::Bytes(id),
                function,
                ..
            }) => match self.program.values[*id].quant() {
                Some(quant) => (0..=255)
                    .map(|byte| function.at(quant.value(byte)).abs())
                    .fold(0.0, f32::max),
                None => f32::INFINITY,
            },
            _ => f32::INFINITY,
        }
    }

    /// A convolution or product that is added to without being quantized in between: a residual, or a bias that is a
    /// node of its own.
    fn sum(
        &mut self,
        a: usize,
        b: usize,
        output: Option<usize>,
        function: &Function,
        target: Target,
    ) -> Option<Id> {
        for (own, other) in [(a, b), (b, a)] {
            let Symbol::Float(float) = &self.symbols[own] else {
                continue;
            };
            let Base::Node(position, 0) = float.base else {
                continue;
            };
            let conv = &self.graph.nodes[position];
            let plain = float.function.is_variable() && float.views.is_empty();
            if !plain || !matches!(&*conv.op, "Conv" | "ConvTranspose" | "Gemm" | "MatMul") {
                continue;
            }
            if let Some(values) = self.by_output(own, other, output, &conv.op)
                && let Ok(id) = self.conv(conv, function, target, Addend::ByOutput(values))
            {
                return Some(id);
            }
            if target == Target::Float || conv.op == "ConvTranspose" {
                continue;
            }
            if self.shapes[own].is_none() || self.shapes[own] != self.shapes[other] {
                continue;
            }
            let Ok(half) = target.bytes().map(|quant| quant.scale / 2.0) else {
                continue;
            };
            let Ok(added) = self.bytes_within(other, half) else {
                continue;
            };
            let added = match conv.op.as_str() {
                "Conv" => self.channels_last(added),
                _ => self.rows(added),
            };
            let Ok(added) = added else { continue };
            if let Ok(id) = self.conv(conv, function, target, Addend::Bytes(added)) {
                return Some(id);
            }
        }
        None
    }

    /// Bytes of one side; a constant becomes bytes of its own. Values may be off by `allowed`.
    fn operand(&mut self, value: usize, rank: usize, allowed: f32) -> Result<Id, Reason> {
        if let Symbol::Weights(weights) = self.symbols[value].clone() {
            let zero = weights.zero.first().map(|&zero| match weights.tensor.data {
                Data::I8(_) => zero + 128,
                _ => zero,
            });
            let zero = zero.and_then(|zero| u8::try_from(zero).ok());
            if let (&[scale], Some((bytes, _)), Some(zero)) =
                (&weights.scale[..], carried(&weights.tensor), zero)
            {
                return self.constant_bytes(bytes, Quant { scale, zero }, &weights.tensor.shape, rank);
            }
            return self.constant(&weights.values(), &weights.tensor.shape, rank, allowed);
        }
        if let Some(tensor) = self.constants[value].clone() {
            let values = tensor.floats().ok_or("a constant of integers")?;
            return self.constant(values, &tensor.shape, rank, allowed);
        }
        self.bytes_within(value, allowed)
    }

    /// Rounded to 256 steps of its own range, if that is near enough.
    fn constant(&mut self, values: &[f32], shape: &[usize], rank: usize, allowed: f32) -> Result<Id, Reason> {
        if values.iter().any(|v| !v.is_finite()) {
            return Err("a constant is not finite".to_owned());
        }
        let quant = Quant::covering(values.iter().copied());
        if quant.distance(values) > allowed {
            return Err("its constant has no quantizer, and 256 steps would be too coarse".to_owned());
        }
        let bytes: Vec<u8> = values.iter().map(|&v| quant.byte(v)).collect();
        self.constant_bytes(bytes, quant, shape, rank)
    }

    /// A constant of the file with the steps that it states.
    pub fn constant_bytes(
        &mut self,
        bytes: Vec<u8>,
        quant: Quant,
        shape: &[usize],
        rank: usize,
    ) -> Result<Id, Reason> {
        let shape = padded(shape, rank)?;
        // In the order of a picture at once, if that is what the other side has.
        let (order, bytes) = match shape[..] {
            [1, c, h, w] => {
                let places = fold::strided(&[h, w, c], &[w, 1, h * w]);
                (Order::ChannelsLast, places.iter().map(|&p| bytes[p]).collect())
            }
            _ => (Order::Rows, bytes),
        };
        let target = Target::Bytes { quant, signed: false };
        Ok(self.push(OpKind::Constant { bytes }, shape, order, target))
    }

    /// `Add`, `Sub` or `Mul` of bytes.
    pub fn pair_of(
        &mut self,
        op: &str,
        a: Id,
        b: Id,
        shape: &[usize],
        function: &Function,
        target: Target,
    ) -> Result<Id, Reason> {
        let quant = target.bytes()?;
        let (step, finish) = function.finish(quant)?;
        let order = self.common_order(a, b, shape);
        let (a, b) = (self.fitted(a, shape, order)?, self.fitted(b, shape, order)?);
        let scale = |id: Id| {
            self.program.values[id]
                .quant()
                .map(|q| q.scale)
                .ok_or("it is not quantized")
        };
        let (sa, sb) = (scale(a)?, scale(b)?);
        let (op, scales) = match op {
            "Add" => (BinaryOp::Add, [sa, sb]),
            "Sub" => (BinaryOp::Add, [sa, -sb]),
            _ => (BinaryOp::Mul, [sa, sb]),
        };
        finite(op.of(255.0 * sa, 255.0 * sb) / step)?;
        self.check_broadcast(a, b, shape, order)?;
        let kind = OpKind::Binary {
            op,
            a,
            b,
            scales,
            step,
            finish,
        };
        Ok(self.push(kind, shape.to_vec(), order, target))
    }

    /// The order in which the larger side already is.
    fn common_order(&self, a: Id, b: Id, shape: &[usize]) -> Order {
        if !matches!(shape, [1, _, _, _]) {
            return Order::Rows;
        }
        let whole = |id: &&Id| self.program.values[**id].shape == shape;
        let pick = [a, b].iter().find(whole).map_or(a, |id| *id);
        self.program.values[pick].order
    }

    fn fitted(&mut self, id: Id, shape: &[usize], order: Order) -> Result<Id, Reason> {
        let value = self.program.values[id].clone();
        let wanted = padded(&value.shape, shape.len())?;
        let id = if value.shape == wanted {
            id
        } else {
            let id = self.rows(id)?;
            self.alias(id, wanted, Order::Rows, value.kind)
        };
        match order {
            Order::ChannelsLast => self.channels_last(id),
            Order::Rows => self.rows(id),
        }
    }

    /// The kernels repeat a side along height, width or channels as they are stored.
    fn check_broadcast(&self, a: Id, b: Id, shape: &[usize], order: Order) -> Result<(), Reason> {
        let output = super::super::ir::dims(shape, order);
        for id in [a, b] {
            let value = &self.program.values[id];
            let fits = value.dims().iter().zip(output).all(|(&d, o)| d == o || d == 1);
            // Of other ranks, the leading dimensions are stored as one.
            let whole = matches!(shape, [1, _, _, _]) || {
                let lead = |s: &[usize]| s[..s.len().saturating_sub(1)].iter().product::<usize>();
                lead(&value.shape) == 1 || lead(&value.shape) == lead(shape)
            };
            if !fits || !whole {
                return Err(format!("repeating {:?} to {shape:?} is not covered", value.shape));
            }
            if !matches!(value.kind, Kind::Bytes { .. }) {
                return Err("an input is not quantized".to_owned());
            }
        }
        Ok(())
    }
}

/// With as many leading ones as make up the rank.
fn padded(shape: &[usize], rank: usize) -> Result<Vec<usize>, Reason> {
    let missing = rank
        .checked_sub(shape.len())
        .ok_or("an input has more dimensions than the output")?;
    Ok(std::iter::repeat_n(1, missing)
        .chain(shape.iter().copied())
        .collect())
}
