//! The belt (dark woven rubber), its light, and the camera's noise.

use super::random::{Random, smooth};

/// The weave repeats along the belt after this many pixels; a power of two.
const REPEAT: usize = 1_024;
/// Numbers of noise in stock; a power of two, and far more than a row has.
const NOISE: usize = 16_384;

/// The belt's brightness, one row of `REPEAT` pixels per row of the picture.
pub struct Belt {
    grey: Vec<f32>,
}

impl Belt {
    /// Brightness 18 to 36: well below any cap, so that a part can be found by its brightness.
    pub fn new(seed: u64, height: usize) -> Self {
        let coarse = Lattice::new(seed ^ 1, 64);
        let fine = Lattice::new(seed ^ 2, 8);
        let mut r = Random::new(seed ^ 3);
        let mut grey = Vec::with_capacity(REPEAT * height);
        for y in 0..height {
            for x in 0..REPEAT {
                // A twill: diagonal ribs of 8 pixels.
                let rib = ((x + 3 * y) % 8) as f32 / 8.0 - 0.5;
                let weave = 3.5 * (1.0 - 4.0 * rib * rib);
                let wear = 6.0 * coarse.at(x, y) + 3.0 * fine.at(x, y);
                grey.push(19.0 + weave + wear + 1.2 * r.bell());
            }
        }
        // Lint and old scuffs, for the locator to ignore.
        for _ in 0..height / 8 {
            let (x, y) = (r.below(REPEAT as u32) as usize, r.below(height as u32) as usize);
            let light = r.range(10.0, 45.0);
            for k in 0..r.below(9) as usize + 1 {
                grey[y * REPEAT + (x + k) % REPEAT] += light;
            }
        }
        Belt { grey }
    }

    /// Row `y`, to be read from `(x + offset) % REPEAT` on.
    #[inline]
    pub fn row(&self, y: usize) -> &[f32] {
        &self.grey[y * REPEAT..][..REPEAT]
    }

    #[inline]
    pub fn wrap(x: usize) -> usize {
        x & (REPEAT - 1)
    }
}

/// Random values at the points of a square lattice, blended in between; from 0 to 1, repeats as the belt does.
struct Lattice {
    values: Vec<f32>,
    step: usize,
}

impl Lattice {
    fn new(seed: u64, step: usize) -> Self {
        let mut r = Random::new(seed);
        let across = REPEAT / step;
        Lattice {
            values: (0..across * across).map(|_| r.unit()).collect(),
            step,
        }
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        let across = REPEAT / self.step;
        let value = |i: usize, j: usize| self.values[(j % across) * across + i % across];
        let (i, j) = (x / self.step, y / self.step);
        let part = |v: usize| smooth(0.0, 1.0, (v % self.step) as f32 / self.step as f32);
        let (u, v) = (part(x), part(y));
        let top = value(i, j) + (value(i + 1, j) - value(i, j)) * u;
        let low = value(i, j + 1) + (value(i + 1, j + 1) - value(i, j + 1)) * u;
        top + (low - top) * v
    }
}

/// Sensor noise in stock; a row takes it from a place of its own.
pub struct Noise {
    stock: Vec<f32>,
}

impl Noise {
    pub fn new(seed: u64) -> Self {
        let mut r = Random::new(seed ^ 4);
        Noise {
            stock: (0..NOISE).map(|_| r.bell()).collect(),
        }
    }

    /// `n` numbers for a row, n ≤ 8,192.
    #[inline]
    pub fn row(&self, r: &mut Random, n: usize) -> &[f32] {
        &self.stock[r.below((NOISE - n) as u32) as usize..][..n]
    }
}

/// The light of one frame, as every frame has its own.
#[derive(Clone, Copy, Debug)]
pub struct Light {
    /// At the picture's centre; 1 = nominal.
    pub gain: f32,
    /// Change from the centre to the right and to the lower edge.
    pub gradient: [f32; 2],
    /// Of red, green, blue.
    pub tint: [f32; 3],
    /// Unit vector to the main lamp: right, down, up from the belt.
    pub lamp: [f32; 3],
    /// Between the lamp and the camera: where this is the normal, the lacquer shines.
    pub shine: [f32; 3],
    /// Standard deviation of the noise, in grey levels.
    pub noise: f32,
}

impl Light {
    pub fn from_seed(seed: u64) -> Self {
        let mut r = Random::stream(seed, 5);
        let unit = |v: [f32; 3]| {
            let n = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
            [v[0] / n, v[1] / n, v[2] / n]
        };
        // From the upper left, as the lamp of the line is fixed; it only sits a little loose.
        let lamp = unit([-0.46 + r.range(-0.1, 0.1), -0.36 + r.range(-0.1, 0.1), 0.8]);
        Light {
            gain: r.range(0.86, 1.14),
            gradient: [r.range(-0.12, 0.12), r.range(-0.12, 0.12)],
            tint: [r.range(0.96, 1.04), 1.0, r.range(0.96, 1.04)],
            lamp,
            shine: unit([lamp[0], lamp[1], lamp[2] + 1.0]),
            noise: r.range(1.2, 3.0),
        }
    }
}
