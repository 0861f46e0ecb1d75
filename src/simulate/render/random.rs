//! Random numbers and the sine, the same on every machine: integers, and float
//! operations that IEEE 754 defines to the last bit (+, -, *, /, sqrt).

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, any seed is good.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// An independent stream for `purpose`, so that a new draw in one place leaves the others as they were.
    pub fn stream(seed: u64, purpose: u64) -> Self {
        let mut mix = Random(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Random(mix.next_u64())
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1, in steps of 2⁻²⁴.
    pub fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / 16_777_216.0
    }

    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// From 0 to below `n`; the bias of at most n / 2³² does not matter here.
    pub fn below(&mut self, n: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(n)) >> 32) as u32
    }

    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// Near a normal distribution with standard deviation 1: the sum of four uniform draws, cut at ±3.46.
    pub fn bell(&mut self) -> f32 {
        let sum = self.unit() + self.unit() + self.unit() + self.unit();
        (sum - 2.0) * 1.732_050_8
    }
}

/// Sine and cosine of `turn`/65,536 of a full turn, within 5·10⁻⁶: the series of the sine to x⁹ in a quadrant.
pub fn sin_cos(turn: u16) -> (f32, f32) {
    let x = f32::from(turn & 0x3fff) / 16_384.0;
    let (s, c) = (quarter_sine(x), quarter_sine(1.0 - x));
    match turn >> 14 {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}

/// sin(x·π/2) for x from 0 to 1.
fn quarter_sine(x: f32) -> f32 {
    let q = x * x;
    x * (1.570_796_4 + q * (-0.645_964_1 + q * (0.079_692_63 + q * (-0.004_681_754 + q * 0.000_160_441))))
}

/// From 0 at `low` to 1 at `high`, smooth at both ends.
pub fn smooth(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_near_the_true_one_all_around() {
        for turn in (0..=u16::MAX).step_by(7) {
            let (s, c) = sin_cos(turn);
            let a = f64::from(turn) / 65_536.0 * std::f64::consts::TAU;
            assert!(
                (f64::from(s) - a.sin()).abs() < 5e-6 && (f64::from(c) - a.cos()).abs() < 5e-6,
                "{turn}"
            );
        }
    }

    #[test]
    fn draws_stay_in_their_range_and_are_pinned() {
        let mut r = Random::new(1);
        assert_eq!(
            r.next_u64(),
            0x910a_2dec_8902_5cc1,
            "SplitMix64 with seed 1, first word"
        );
        for _ in 0..1_000 {
            assert!((0.0..1.0).contains(&r.unit()));
            assert!(r.below(7) < 7);
            assert!(r.bell().abs() <= 3.47);
        }
    }
}
