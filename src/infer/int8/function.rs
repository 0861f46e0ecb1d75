//! Functions of one number: what stands between an operator on integers and its quantizer, and what a table of
//! 256 entries is made of.

use crate::kernels::finish::{Finish, WIDE};
use std::sync::Arc;

/// A step of a tensor of bytes: `(byte - zero) × scale`. Signed tensors are carried as bytes with 128 added, to
/// value and zero point alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    pub scale: f32,
    pub zero: u8,
}

impl Quant {
    pub fn value(&self, byte: u8) -> f32 {
        (i32::from(byte) - i32::from(self.zero)) as f32 * self.scale
    }

    /// As `QuantizeLinear` says: divided, rounded to even, clamped.
    pub fn byte(&self, value: f32) -> u8 {
        Finish::plain(self.zero).byte(value / self.scale)
    }

    /// The largest distance of a value from the step that it gets.
    pub fn distance(&self, values: &[f32]) -> f32 {
        let off = |v: &f32| (self.value(self.byte(*v)) - v).abs();
        values.iter().map(off).fold(0.0, f32::max)
    }

    /// One that covers these values, 0 included.
    pub fn covering(values: impl IntoIterator<Item = f32>) -> Quant {
        let (low, high) = values
            .into_iter()
            .fold((0.0f32, 0.0f32), |(low, high), v| (low.min(v), high.max(v)));
        let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE * 1e6);
        Quant {
            scale,
            zero: (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8,
        }
    }
}

/// An expression in one variable, as ONNX nodes in f32 would reckon it.
#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    Variable,
    Constant(f32),
    /// A constant for each channel of the picture: only in functions of the picture, see [`Function::of_channel`].
    Channels(Arc<[f32]>),
    Unary(Unary, Arc<Function>),
    /// With its size, because the two sides may be one and the same, again and again.
    Binary(Pair, Arc<Function>, Arc<Function>, u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// Between the two.
    Clip(f32, f32),
    Sigmoid,
    Tanh,
    /// max(0, min(1, alpha × x + beta))
    HardSigmoid(f32, f32),
    /// x × max(0, min(1, x / 6 + 0.5))
    HardSwish,
    Leaky(f32),
    Elu(f32),
    Exp,
    Sqrt,
    Negate,
    Absolute,
    Erf,
    Softplus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    Add,
    Subtract,
    Multiply,
    Divide,
    Minimum,
    Maximum,
}

/// Steps to work one value out. An activation has ten; this many still are quick, and nested this deep do not fill
/// the stack.
const SIZE_MAX: u32 = 500;

impl Function {
    pub fn then(self, unary: Unary) -> Function {
        Function::Unary(unary, Arc::new(self))
    }

    pub fn pair(pair: Pair, a: Function, b: Function) -> Function {
        let size = a.size().saturating_add(b.size()).saturating_add(1);
        Function::Binary(pair, Arc::new(a), Arc::new(b), size)
    }

    pub fn is_variable(&self) -> bool {
        *self == Function::Variable
    }

    /// Steps to work it out; a part that occurs twice counts twice.
    fn size(&self) -> u32 {
        match self {
            Function::Variable | Function::Constant(_) | Function::Channels(_) => 1,
            Function::Unary(_, f) => f.size().saturating_add(1),
            Function::Binary(.., size) => *size,
        }
    }

    pub fn is_too_large(&self) -> bool {
        self.size() > SIZE_MAX
    }

    pub fn at(&self, x: f32) -> f32 {
        match self {
            Function::Variable => x,
            Function::Constant(value) => *value,
            // No number, without a channel.
            Function::Channels(_) => f32::NAN,
            Function::Unary(unary, f) => unary.at(f.at(x)),
            Function::Binary(pair, a, b, _) => pair.at(a.at(x), b.at(x)),
        }
    }

    /// [`Self::at`] of each, step by step instead of value by value: cutting off is the usual step, and quick so.
    pub fn of_all(&self, values: &mut [f32]) {
        match self {
            Function::Variable => {}
            Function::Unary(Unary::Clip(low, high), f) => {
                f.of_all(values);
                values.iter_mut().for_each(|v| *v = v.max(*low).min(*high));
            }
            _ => values.iter_mut().for_each(|v| *v = self.at(*v)),
        }
    }

    /// What it is for one channel of the picture.
    pub fn of_channel(&self, channel: usize) -> Function {
        match self {
            Function::Variable | Function::Constant(_) => self.clone(),
            Function::Channels(values) => {
                Function::Constant(values.get(channel).copied().unwrap_or(f32::NAN))
            }
            Function::Unary(unary, f) => f.of_channel(channel).then(*unary),
            Function::Binary(pair, a, b, _) => {
                Function::pair(*pair, a.of_channel(channel), b.of_channel(channel))
            }
        }
    }

    /// `self` of `inner`.
    pub fn of(&self, inner: &Function) -> Function {
        match self {
            Function::Variable => inner.clone(),
            Function::Constant(_) | Function::Channels(_) => self.clone(),
            Function::Unary(unary, f) => f.of(inner).then(*unary),
            Function::Binary(pair, a, b, _) => Function::pair(*pair, a.of(inner), b.of(inner)),
        }
    }

    /// The limits, if all it does is to cut off (ReLU, ReLU6, Clip).
    pub fn limits(&self) -> Option<(f32, f32)> {
        match self {
            Function::Variable => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Function::Unary(Unary::Clip(low, high), f) if low <= high => {
                let (l, h) = f.limits()?;
                Some((l.max(*low).min(*high), h.min(*high).max(*low)))
            }
            _ => None,
        }
    }

    /// The byte of the function of each byte: what `DQ → function → Q` gives.
    pub fn table(&self, from: Quant, to: Quant) -> Arc<[u8]> {
        (0..=255u8)
            .map(|byte| to.byte(self.at(from.value(byte))))
            .collect()
    }

    /// The end of an integer operator whose result goes through this function before it is
    /// quantized: the step to reckon in, and what to do with it. An error says that the function changes faster than
    /// a table of finer steps can follow.
    pub fn finish(&self, to: Quant) -> Result<(f32, Finish), String> {
        if let Some((low, high)) = self.limits() {
            let finish = Finish {
                low: to.byte(low).into(),
                high: to.byte(high).into(),
                ..Finish::plain(to.zero)
            };
            return Ok((to.scale, finish));
        }
        let (low, high) = self.lively(to);
        // With 0 in it, so that the zero point is one of its entries.
        let (low, high) = (low.min(0.0), high.max(0.0));
        let step = ((high - low) / (WIDE - 1) as f32).max(f32::MIN_POSITIVE * 1e6);
        let zero = (-low / step).round_ties_even() as i32;
        let table = (0..WIDE as i32).map(|i| to.byte(self.at((i - zero) as f32 * step)));
        let table: Arc<[u8]> = table.collect();
        // A value is half an entry off at most: up to two steps between entries, the result is one step off at most.
        if table.windows(2).any(|pair| pair[0].abs_diff(pair[1]) > 2) {
            return Err("its activation is too steep for the steps of its result".to_owned());
        }
        let finish = Finish {
            zero,
            low: 0,
            high: WIDE as i32 - 1,
            table: Some(table),
        };
        Ok((step, finish))
    }

    /// The part of the axis outside of which the byte does not change any more.
    fn lively(&self, to: Quant) -> (f32, f32) {
        // From far to near, in steps fine enough for any activation: each is a 64th of an octave. The first is far
        // beyond the last byte of any step up to 4096.
        let ladder = || (-640..=1280).rev().map(|k| (k as f32 / 64.0).exp2());
        let end = |sign: f32| {
            let far = to.byte(self.at(sign * 2f32.powi(20)));
            let mut last = sign * 2f32.powi(20);
            for x in ladder().map(|x| sign * x).chain([0.0]) {
                if to.byte(self.at(x)) != far {
                    break;
                }
                last = x;
            }
            last
        };
        let (low, high) = (end(-1.0), end(1.0));
        if low < high {
            (low, high)
        } else {
            (high - 1.0, low + 1.0)
        }
    }
}

impl Unary {
    pub fn at(self, x: f32) -> f32 {
        let wide = f64::from(x);
        match self {
            Unary::Clip(low, high) => x.max(low).min(high),
            // In f64, so that the last bit of a machine's functions does not reach the f32 result.
            Unary::Sigmoid => sigmoid(x),
            Unary::Tanh => wide.tanh() as f32,
            Unary::HardSigmoid(alpha, beta) => (alpha * x + beta).clamp(0.0, 1.0),
            Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Unary::Leaky(slope) => {
                if x < 0.0 {
                    slope * x
                } else {
                    x
                }
            }
            Unary::Elu(alpha) => {
                if x < 0.0 {
                    (f64::from(alpha) * wide.exp_m1()) as f32
                } else {
                    x
                }
            }
            Unary::Exp => wide.exp() as f32,
            Unary::Sqrt => x.sqrt(),
            Unary::Negate => -x,
            Unary::Absolute => x.abs(),
            Unary::Erf => erf(wide) as f32,
            Unary::Softplus => (wide.max(0.0) + (-wide.abs()).exp().ln_1p()) as f32,
        }
    }
}

impl Pair {
    pub fn at(self, a: f32, b: f32) -> f32 {
        match self {
            Pair::Add => a + b,
            Pair::Subtract => a - b,
            Pair::Multiply => a * b,
            Pair::Divide => a / b,
            Pair::Minimum => a.min(b),
            Pair::Maximum => a.max(b),
        }
    }
}

/// A quotient of two polynomials, good to 2e-7: the one that ONNX Runtime reckons by, to the last bit. A table has 256 of
/// its values, a network a hundred tables; of values that are only as good, one or the other would be rounded to
/// another step than there, and with it every pixel that has that byte.
fn sigmoid(x: f32) -> f32 {
    const ABOVE: [f32; 5] = [
        4.370_31e-11,
        1.156_273_2e-7,
        6.085_749e-5,
        0.008_513_771,
        0.248_287_95,
    ];
    const BELOW: [f32; 6] = [
        6.102_473_7e-13,
        5.761_021_4e-9,
        6.291_068e-6,
        0.001_701_988_2,
        0.116_817_65,
        0.993_151_9,
    ];
    let x = x.clamp(-18.0, 18.0);
    let squared = x * x;
    let polynomial = |of: &[f32]| {
        of.iter()
            .fold(0.0f32, |sum, factor| sum.mul_add(squared, *factor))
    };
    (polynomial(&ABOVE) * x / polynomial(&BELOW) + 0.5).clamp(0.0, 1.0)
}

/// By its series near 0 and its continued fraction far away; good to 1e-12.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..80 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: Quant = Quant {
        scale: 0.05,
        zero: 10,
    };

    #[test]
    fn chains_of_clips_are_limits_and_nothing_else_is() {
        let relu6 = Function::Variable.then(Unary::Clip(0.0, 6.0));
        assert_eq!(relu6.limits(), Some((0.0, 6.0)));
        let both = relu6.clone().then(Unary::Clip(1.0, f32::INFINITY));
        assert_eq!(both.limits(), Some((1.0, 6.0)));
        assert_eq!(Function::Variable.then(Unary::Sigmoid).limits(), None);
        let (step, finish) = relu6.finish(Q).unwrap();
        assert_eq!((step, finish.low, finish.high), (0.05, 10, 130));
    }

    /// x × sigmoid(x), as two nodes.
    fn silu() -> Function {
        Function::pair(
            Pair::Multiply,
            Function::Variable,
            Function::Variable.then(Unary::Sigmoid),
        )
    }

    #[test]
    fn a_wide_table_is_within_one_step_everywhere_or_there_is_none() {
        let mut none = 0;
        let functions = [
            silu(),
            Function::Variable.then(Unary::Sigmoid),
            Function::Variable.then(Unary::Tanh),
            Function::Variable.then(Unary::HardSwish),
            Function::Variable.then(Unary::HardSigmoid(0.2, 0.5)),
            Function::Variable.then(Unary::Leaky(0.1)),
            Function::Variable.then(Unary::Clip(0.0, 6.0)).then(Unary::Exp),
        ];
        let steps = [
            (0.05, 10),
            (1.0 / 256.0, 0),
            (0.01, 128),
            (2e-3, 20),
            (5e-4, 20),
            (1e-4, 128),
        ];
        let steps = steps.map(|(scale, zero)| Quant { scale, zero });
        for (f, to) in functions.iter().flat_map(|f| steps.map(|to| (f, to))) {
            let Ok((step, finish)) = f.finish(to) else {
                none += 1;
                assert!(to.scale < 2e-3, "{f:?} {to:?}");
                continue;
            };
            assert_eq!(finish.check(), Ok(()));
            for k in -40_000..40_000 {
                let x = k as f32 * 0.001;
                let (got, wanted) = (finish.byte(x / step), to.byte(f.at(x)));
                assert!(got.abs_diff(wanted) <= 1, "{f:?} {to:?} at {x}: {got} {wanted}");
            }
        }
        // SiLU among them, whose flat side is wide.
        assert!(none > 0 && silu().finish(steps[4]).is_err(), "{none}");
    }

    #[test]
    fn of_many_is_of_each() {
        let relu6 = Function::Variable.then(Unary::Clip(0.0, 6.0));
        for f in [
            Function::Variable,
            relu6.clone(),
            silu(),
            silu().of(&relu6),
            relu6.of(&silu()),
        ] {
            let mut values: Vec<f32> = (-50..50).map(|k| k as f32 * 0.2).chain([f32::NAN]).collect();
            let wanted: Vec<u32> = values.iter().map(|v| f.at(*v).to_bits()).collect();
            f.of_all(&mut values);
            assert_eq!(
                values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                wanted,
                "{f:?}"
            );
        }
    }

    #[test]
    fn a_function_of_itself_again_and_again_is_told_at_once() {
        let mut f = Function::Variable;
        for _ in 0..1000 {
            f = Function::pair(Pair::Multiply, f.clone(), f);
        }
        assert!(f.is_too_large() && !silu().is_too_large());
    }

    #[test]
    fn a_table_is_what_three_nodes_would_give() {
        let from = Quant {
            scale: 0.1,
            zero: 128,
        };
        let table = silu().table(from, Q);
        let x: f32 = 17.0 * 0.1;
        let wanted = (x / (1.0 + (-x).exp()) / 0.05).round() as u8 + 10;
        assert_eq!(table[145], wanted);
    }

    #[test]
    fn erf_is_the_textbooks() {
        for (x, wanted) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_8),
            (1.0, 0.842_700_792_9),
            (2.0, 0.995_322_265_0),
            (3.0, 0.999_977_909_5),
        ] {
            assert!(
                (erf(x) - wanted).abs() < 1e-9 && (erf(-x) + wanted).abs() < 1e-9,
                "{x}"
            );
        }
    }
}
