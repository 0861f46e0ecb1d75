//! `QuantizeLinear` as ONNX defines it: y = clamp(round to even(x / scale) + zero point).
//!
//! tract multiplies by the reciprocal of the scale instead. The product may lie on the other side of a
//! half than the quotient; that happened to up to seven of the 12 million values of a U-Net, and every
//! such step of one grows from layer to layer. With the division, what tract quantizes is what ONNX
//! Runtime quantizes, bit for bit, as long as what comes in is.

use std::collections::HashMap;
use tract_core::internal::*;
use tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_core::ops::quant::{QuantizeLinearI8, QuantizeLinearU8};
use tract_onnx::pb;

/// Replaces tract's operator wherever the scale is one number of the file. To be called before declutter.
/// Gives how many were replaced.
pub fn divide_by_scales(model: &mut TypedModel, graph: &pb::GraphProto) -> usize {
    let scales = scales(graph);
    let mut replaced = 0;
    for node in &mut model.nodes {
        let Some(&scale) = scales.get(node.name.as_str()) else {
            continue;
        };
        let Some(op) = node.op_as::<ElementWiseOp>() else {
            continue;
        };
        let zero_point = if let Some(op) = op.0.downcast_ref::<QuantizeLinearU8>() {
            ZeroPoint::U8(op.zero_point)
        } else if let Some(op) = op.0.downcast_ref::<QuantizeLinearI8>() {
            ZeroPoint::I8(op.zero_point)
        } else {
            continue;
        };
        node.op = Box::new(ElementWiseOp(Box::new(Quantize { scale, zero_point }), None));
        replaced += 1;
    }
    replaced
}

/// Of each `QuantizeLinear` with one scale, by the name tract gives its node.
fn scales(graph: &pb::GraphProto) -> HashMap<&str, f32> {
    let constants: HashMap<&str, f32> = graph
        .initializer
        .iter()
        .filter_map(|tensor| Some((tensor.name.as_str(), single(tensor)?)))
        .collect();
    let quantizers = graph.node.iter().filter(|n| n.op_type == "QuantizeLinear");
    quantizers
        .filter_map(|node| {
            let name = if node.name.is_empty() {
                node.output.first()?
            } else {
                &node.name
            };
            Some((name.as_str(), *constants.get(node.input.get(1)?.as_str())?))
        })
        .collect()
}

/// The number of a tensor that has exactly one.
fn single(tensor: &pb::TensorProto) -> Option<f32> {
    if tensor.data_type != pb::tensor_proto::DataType::Float as i32 {
        return None;
    }
    match (&tensor.raw_data[..], &tensor.float_data[..]) {
        (&[a, b, c, d], []) => Some(f32::from_le_bytes([a, b, c, d])),
        ([], &[value]) => Some(value),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ZeroPoint {
    U8(u8),
    I8(i8),
}

#[derive(Clone, Debug, PartialEq)]
struct Quantize {
    scale: f32,
    zero_point: ZeroPoint,
}

// Scales are numbers of a file that was read; one that is no number would have been refused by tract.
impl Eq for Quantize {}

impl ElementWiseMiniOp for Quantize {
    fn name(&self) -> String {
        "QuantizeByDivision".to_owned()
    }

    fn output_type(&self, input_type: DatumType) -> Option<DatumType> {
        (input_type == f32::datum_type()).then_some(match self.zero_point {
            ZeroPoint::U8(_) => u8::datum_type(),
            ZeroPoint::I8(_) => i8::datum_type(),
        })
    }

    fn eval_out_of_place(&self, t: &Tensor, _: Option<DatumType>) -> TractResult<Tensor> {
        let input = t.try_as_plain_ram()?;
        let input = input.as_slice::<f32>()?;
        match self.zero_point {
            ZeroPoint::U8(zero) => {
                let mut output = Tensor::zero::<u8>(t.shape())?;
                let mut plain = output.try_as_plain_ram_mut()?;
                let steps = Steps::new(self.scale, zero.into(), 0, 255);
                for (y, &x) in plain.as_slice_mut::<u8>()?.iter_mut().zip(input) {
                    *y = steps.of(x) as u8;
                }
                Ok(output)
            }
            ZeroPoint::I8(zero) => {
                let mut output = Tensor::zero::<i8>(t.shape())?;
                let mut plain = output.try_as_plain_ram_mut()?;
                let steps = Steps::new(self.scale, zero.into(), -128, 127);
                for (y, &x) in plain.as_slice_mut::<i8>()?.iter_mut().zip(input) {
                    *y = steps.of(x) as i8;
                }
                Ok(output)
            }
        }
    }
}

/// 1.5 × 2²³: a float of this size has steps of one, so adding it rounds to the even integer, which then
/// stands in the lowest bits. Unlike a call of `round_ties_even` it compiles to vector instructions
/// everywhere (without SSE4.1 that is a call of the C library for each value).
const ROUNDER: f32 = 12_582_912.0;

/// Quantization without branches.
#[derive(Clone, Copy)]
struct Steps {
    scale: f32,
    zero: i32,
    low: f32,
    high: f32,
}

impl Steps {
    fn new(scale: f32, zero: i32, low: i32, high: i32) -> Steps {
        Steps {
            scale,
            zero,
            low: (low - zero) as f32,
            high: (high - zero) as f32,
        }
    }

    /// The ends are integers, so that it is the same to clamp before rounding as after. NaN becomes the lowest.
    #[inline(always)]
    fn of(self, x: f32) -> i32 {
        let steps = (x / self.scale).max(self.low).min(self.high);
        (steps + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32 + self.zero
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(scale: f32, zero_point: ZeroPoint, x: f32) -> i32 {
        let out = Quantize { scale, zero_point }
            .eval_out_of_place(&tensor1(&[x]), None)
            .unwrap();
        let out = out.cast_to::<i32>().unwrap();
        out.try_as_plain_ram().unwrap().as_slice::<i32>().unwrap()[0]
    }

    #[test]
    fn halves_go_to_the_even_step_and_the_ends_hold() {
        let steps = [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2)];
        for (x, wanted) in steps {
            assert_eq!(quantized(1.0, ZeroPoint::I8(0), x), wanted, "{x}");
            assert_eq!(quantized(1.0, ZeroPoint::U8(128), x), wanted + 128, "{x}");
        }
        for (x, low, high) in [(1e30, 127, 255), (300.0, 127, 255), (-300.0, -128, 0)] {
            assert_eq!(quantized(1.0, ZeroPoint::I8(5), x), low, "{x}");
            assert_eq!(quantized(1.0, ZeroPoint::U8(5), x), high, "{x}");
        }
    }

    #[test]
    fn every_step_and_what_lies_between_is_rounded_as_the_standard_library_does() {
        for zero in [0_u8, 3, 128, 255] {
            for k in -3_000..3_000 {
                let x = k as f32 * 0.124_9;
                let wanted = (x / 0.5).round_ties_even() as i32 + i32::from(zero);
                assert_eq!(
                    quantized(0.5, ZeroPoint::U8(zero), x),
                    wanted.clamp(0, 255),
                    "{x} {zero}"
                );
            }
        }
        assert_eq!(quantized(0.5, ZeroPoint::U8(7), f32::NAN), 0);
    }

    #[test]
    fn it_divides_where_a_product_would_round_to_the_other_step() {
        // Scales for which x × (1 / scale) misses the half that x / scale meets.
        let mut found = 0;
        for k in 1..20_000_u32 {
            let scale = k as f32 * 1.7e-5;
            let x = 2.5 * scale;
            let (quotient, product) = (x / scale, x * scale.recip());
            if quotient.round_ties_even() != product.round_ties_even() {
                found += 1;
                assert_eq!(
                    quantized(scale, ZeroPoint::U8(0), x),
                    quotient.round_ties_even() as i32
                );
            }
        }
        assert!(found > 100, "only {found} scales tell the two apart");
    }
}
