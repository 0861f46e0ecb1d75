//! How `Resize` maps an output index to the input.

use super::super::onnx::Node;
use super::Reason;
use crate::kernels::spatial::Tap;

/// Where an output index lies in the input, and which neighbour is nearest.
pub struct Coordinates {
    transform: Transform,
    nearest: Nearest,
}

#[derive(Clone, Copy)]
enum Nearest {
    Floor,
    Ceil,
    PreferFloor,
    PreferCeil,
    /// Before opset 11, where the standard says nothing: as ONNX Runtime does.
    Old,
}

#[derive(Clone, Copy)]
enum Transform {
    HalfPixel,
    PytorchHalfPixel,
    Asymmetric,
    AlignCorners,
}

impl Coordinates {
    pub fn of(node: &Node) -> Result<Coordinates, Reason> {
        if node.op == "Upsample" {
            return Ok(Coordinates {
                transform: Transform::Asymmetric,
                nearest: Nearest::Old,
            });
        }
        let old = node.inputs.len() == 2;
        let default = if old { "asymmetric" } else { "half_pixel" };
        let transform = match node.text("coordinate_transformation_mode", default).as_str() {
            "half_pixel" => Transform::HalfPixel,
            "pytorch_half_pixel" => Transform::PytorchHalfPixel,
            "asymmetric" => Transform::Asymmetric,
            "align_corners" => Transform::AlignCorners,
            other => return Err(format!("the coordinates {other:?} are not covered")),
        };
        let default = if old { "old" } else { "round_prefer_floor" };
        let nearest = match node.text("nearest_mode", default).as_str() {
            "old" if old => Nearest::Old,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            "round_prefer_floor" => Nearest::PreferFloor,
            "round_prefer_ceil" => Nearest::PreferCeil,
            other => return Err(format!("the nearest mode {other:?} is not covered")),
        };
        Ok(Coordinates { transform, nearest })
    }

    /// In f32, as ONNX Runtime reckons.
    fn place(&self, at: usize, from: usize, to: usize, scale: f32) -> f32 {
        let x = at as f32;
        match self.transform {
            _ if scale == 1.0 => x,
            Transform::HalfPixel => (x + 0.5) / scale - 0.5,
            Transform::PytorchHalfPixel if to == 1 => 0.0,
            Transform::PytorchHalfPixel => (x + 0.5) / scale - 0.5,
            Transform::Asymmetric => x / scale,
            Transform::AlignCorners if to == 1 => 0.0,
            Transform::AlignCorners => x * (from - 1) as f32 / (to - 1) as f32,
        }
    }

    /// The nearest neighbour of each output index.
    pub fn nearest(&self, from: usize, to: usize, scale: f32) -> Vec<u32> {
        let index = |at: usize| {
            let x = self.place(at, from, to, scale);
            let nearest = match self.nearest {
                Nearest::Old if scale < 1.0 => x.ceil(),
                Nearest::Floor | Nearest::Old => x.floor(),
                Nearest::Ceil => x.ceil(),
                Nearest::PreferCeil => (x + 0.5).floor(),
                Nearest::PreferFloor => (x - 0.5).ceil(),
            };
            nearest.clamp(0.0, (from - 1) as f32) as u32
        };
        (0..to).map(index).collect()
    }

    /// Two neighbours, and what they count for. At the end, where both are one, half each, as ONNX Runtime reckons.
    pub fn between(&self, from: usize, to: usize, scale: f32) -> Vec<Tap> {
        let place = |at: usize| {
            let x = self.place(at, from, to, scale).clamp(0.0, (from - 1) as f32);
            let first = x as u32;
            let second = (first + 1).min(from as u32 - 1);
            let weights = match first == second {
                true => [0.5; 2],
                false => [second as f32 - x, x - first as f32],
            };
            Tap {
                first,
                second,
                weights,
            }
        };
        (0..to).map(place).collect()
    }
}
