//! Operators that carry their steps themselves: `QLinearConv` of ONNX, and those of ONNX Runtime.

use super::super::function::{Function, Unary};
use super::super::ir::Id;
use super::super::onnx::Node;
use super::weights::{Bias, by_output};
use super::{Lowering, Reason, Target, Weights, carried};

impl Lowering<'_> {
    pub fn qlinear(&mut self, node: &Node) -> Result<Id, Reason> {
        match node.op.as_str() {
            "QLinearConv" => {
                let bias = self.bias_steps(node.input(8))?;
                self.weighted(node, [3, 4, 5], [6, 7], bias)
            }
            "QLinearMatMul" => self.weighted(node, [3, 4, 5], [6, 7], Bias::None),
            "QGemm" => {
                let bias = self.bias_steps(node.input(6))?;
                self.weighted(node, [3, 4, 5], [7, 8], bias)
            }
            "QLinearAdd" | "QLinearMul" => {
                let target = self.target(node, 6, 7)?;
                let (a, b) = (self.taken(node, 0)?, self.taken(node, 3)?);
                let shape = self.shape_of(node, 0)?;
                self.pair_of(
                    &node.op["QLinear".len()..],
                    a,
                    b,
                    &shape,
                    &Function::Variable,
                    target,
                )
            }
            "QLinearSigmoid" | "QLinearLeakyRelu" => {
                let unary = match node.op.as_str() {
                    "QLinearSigmoid" => Unary::Sigmoid,
                    _ => Unary::Leaky(node.float("alpha", 0.01)),
                };
                let (input, target) = (self.taken(node, 0)?, self.target(node, 3, 4)?);
                self.table(input, &Function::Variable.then(unary), target)
            }
            "QLinearGlobalAveragePool" | "QLinearAveragePool" | "QLinearReduceMean" => {
                let (input, target) = (self.taken(node, 0)?, self.target(node, 3, 4)?);
                self.pooled(node, input, target)
            }
            "QLinearSoftmax" => {
                let (input, target) = (self.taken(node, 0)?, self.target(node, 3, 4)?);
                self.softmax_of(node, input, target)
            }
            "QLinearConcat" => {
                let target = self.target(node, 0, 1)?;
                let mut inputs = Vec::new();
                for at in (2..node.inputs.len()).step_by(3) {
                    inputs.push(self.taken(node, at)?);
                }
                self.concat(node, inputs, &Function::Variable, target)
            }
            other => Err(format!("{other} is not covered")),
        }
    }

    /// The type of the result is that of the first tensor, where no zero point says it.
    fn target(&self, node: &Node, scale: usize, zero: usize) -> Result<Target, Reason> {
        let first = node.input(if node.op == "QLinearConcat" { 2 } else { 0 });
        let stated = self.stated_of(node, first.ok_or("an input is missing")?, scale, zero)?;
        Ok(Target::Bytes {
            quant: stated.quant,
            signed: stated.signed,
        })
    }

    /// Input `at`, whose scale and zero point follow it. The node's word counts, also where the maker's differs.
    fn taken(&mut self, node: &Node, at: usize) -> Result<Id, Reason> {
        let value = node.input(at).ok_or("an input is missing")?;
        let stated = self.stated_of(node, value, at + 1, at + 2)?;
        if let Some(tensor) = self.constants[value].clone() {
            let (bytes, _) = carried(&tensor).ok_or("a constant that is not bytes")?;
            let rank = self.shape_of(node, 0)?.len();
            return self.constant_bytes(bytes, stated.quant, &tensor.shape, rank);
        }
        self.bytes_as(value, &stated)
    }

    /// A convolution or product; `weights` and `target` tell which inputs they are.
    fn weighted(
        &mut self,
        node: &Node,
        [at, scale, zero]: [usize; 3],
        target: [usize; 2],
        bias: Bias,
    ) -> Result<Id, Reason> {
        let input = self.taken(node, 0)?;
        let value = node.input(at).ok_or("its weights are missing")?;
        let tensor = self.constants[value]
            .clone()
            .ok_or("its weights are not constant")?;
        let weights: Weights = self.weights(node, tensor, scale, zero)?;
        let target = match node.input(target[0]) {
            Some(_) => self.target(node, target[0], target[1])?,
            None => return Err("its result is not quantized".to_owned()),
        };
        self.convolve(node, input, &weights, bias, &Function::Variable, target, None)
    }

    fn bias_steps(&self, value: Option<usize>) -> Result<Bias, Reason> {
        let Some(value) = value else { return Ok(Bias::None) };
        let tensor = self.constants[value].clone().ok_or("its bias is not constant")?;
        by_output(&tensor.shape)?;
        let steps = tensor.whole().ok_or("its bias is not of integers")?;
        let steps: Option<Vec<i32>> = steps.into_iter().map(|v| i32::try_from(v).ok()).collect();
        steps
            .map(Bias::Steps)
            .ok_or_else(|| "its bias is too large".to_owned())
    }
}
