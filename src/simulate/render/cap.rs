//! The cap itself, prepared once: a crown cap of 28 mm seen from above, as a
//! map of slopes, print and outline in its own frame. A part is this map
//! turned, scaled, coloured and lit.

use super::random::smooth;

/// Texels along a side; 0.1 mm each, so the map spans 32 mm.
const SIDE: usize = 320;
const TEXELS_PER_MM: f32 = 10.0;
/// Half the map in mm.
const HALF: f32 = SIDE as f32 / TEXELS_PER_MM / 2.0;
/// A crown cap has 21 teeth.
const TEETH: u32 = 21;
/// Mean radius of the outline and half the height of its teeth, mm: 28 mm over all.
const OUTLINE: f32 = 13.72;
const TOOTH: f32 = 0.28;

/// What the map knows of a place on the cap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texel {
    /// Slope of the surface along x and y, mm per mm.
    pub slope: [f32; 2],
    /// Share of print on the base colour, 0 to 1.
    pub ink: f32,
    /// Distance to the outline, mm; positive inside.
    pub inside: f32,
}

pub struct CapMap {
    texels: Vec<[f32; 4]>,
}

impl CapMap {
    pub fn new() -> Self {
        let at = |i: usize| (i as f32 + 0.5) / TEXELS_PER_MM - HALF;
        let step = 0.05;
        let mut texels = Vec::with_capacity(SIDE * SIDE);
        for j in 0..SIDE {
            for i in 0..SIDE {
                let (x, y) = (at(i), at(j));
                let gx = (height(x + step, y) - height(x - step, y)) / (2.0 * step);
                let gy = (height(x, y + step) - height(x, y - step)) / (2.0 * step);
                texels.push([gx, gy, ink(x, y), inside(x, y)]);
            }
        }
        CapMap { texels }
    }

    /// The map at (x, y) mm from the centre, bilinear; `None` outside of it.
    #[inline]
    pub fn at(&self, x: f32, y: f32) -> Option<Texel> {
        let u = (x + HALF) * TEXELS_PER_MM - 0.5;
        let v = (y + HALF) * TEXELS_PER_MM - 0.5;
        let last = (SIDE - 1) as f32;
        if !(u >= 0.0 && v >= 0.0 && u < last && v < last) {
            return None;
        }
        let (i, j) = (u as usize, v as usize);
        let (fu, fv) = (u - i as f32, v - j as f32);
        let at = j * SIDE + i;
        let (a, b) = (&self.texels[at], &self.texels[at + 1]);
        let (c, d) = (&self.texels[at + SIDE], &self.texels[at + SIDE + 1]);
        let mut t = [0.0; 4];
        for k in 0..4 {
            let top = a[k] + (b[k] - a[k]) * fu;
            let low = c[k] + (d[k] - c[k]) * fu;
            t[k] = top + (low - top) * fv;
        }
        Some(Texel {
            slope: [t[0], t[1]],
            ink: t[2],
            inside: t[3],
        })
    }
}

/// cos(21 θ) of the direction (x, y) with length r, by multiplying the unit vector: no arc tangent needed.
fn teeth(x: f32, y: f32, r: f32) -> f32 {
    if r < 1e-3 {
        return 0.0;
    }
    let (ux, uy) = (x / r, y / r);
    let (mut px, mut py) = (1.0, 0.0);
    for _ in 0..TEETH {
        (px, py) = (px * ux - py * uy, px * uy + py * ux);
    }
    px
}

fn inside(x: f32, y: f32) -> f32 {
    let r = (x * x + y * y).sqrt();
    OUTLINE + TOOTH * teeth(x, y, r) - r
}

/// Height of the surface in mm: a slight dome, an embossed ring, the skirt with its flutes.
fn height(x: f32, y: f32) -> f32 {
    let r = (x * x + y * y).sqrt();
    let dome = -0.009 * r * r;
    let ring = 0.16 * (1.0 - smooth(0.0, 0.75, (r - 9.3).abs()));
    let skirt = -2.2 * smooth(10.4, 13.9, r);
    let flutes = 0.42 * smooth(10.6, 13.6, r) * teeth(x, y, r);
    dome + ring + skirt + flutes
}

/// Print: the word "elek", the holes of a sieve under it, a peak above it, and a ring around.
fn ink(x: f32, y: f32) -> f32 {
    let r = (x * x + y * y).sqrt();
    let mut d = (r - 7.75).abs() - 0.22;
    d = d.min(word(x, y));
    for (n, row) in [(5, 3.1), (4, 4.25), (3, 5.4)] {
        for k in 0..n {
            let cx = (k as f32 - (n - 1) as f32 / 2.0) * 1.25;
            d = d.min(length(x - cx, y - row) - 0.38);
        }
    }
    d = d.min(segment([x, y], [-1.9, -4.1], [0.0, -6.3]) - 0.36);
    d = d.min(segment([x, y], [0.0, -6.3], [1.9, -4.1]) - 0.36);
    // Half a texel of softness on either side.
    1.0 - smooth(-0.06, 0.06, d)
}

/// Signed distance to the strokes of "elek", its middle at the origin.
fn word(x: f32, y: f32) -> f32 {
    let p = [x, y];
    let stem = |at: f32| segment(p, [at, -2.9], [at, 1.35]);
    let mut d = letter_e(x + 4.1, y).min(letter_e(x - 0.85, y)).min(stem(-1.55));
    d = d.min(stem(3.35));
    d = d.min(segment(p, [3.5, 0.1], [5.3, -1.35]));
    d = d.min(segment(p, [3.9, -0.3], [5.45, 1.35]));
    d - 0.4
}

/// Distance to the centre line of an "e": a circle open at the lower right, and a bar.
fn letter_e(x: f32, y: f32) -> f32 {
    let bar = segment([x, y], [-1.3, 0.1], [1.3, 0.1]);
    let gap = x > 0.0 && y > 0.1 && y < x * 1.7;
    let ring = if gap {
        // The lower end of the open circle.
        length(x - 0.68, y - 1.16)
    } else {
        (length(x, y) - 1.35).abs()
    };
    bar.min(ring)
}

pub fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// Distance from `p` to the segment from `a` to `b`.
pub fn segment(p: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let (px, py) = (p[0] - a[0], p[1] - a[1]);
    let square = dx * dx + dy * dy;
    let t = if square > 0.0 {
        ((px * dx + py * dy) / square).clamp(0.0, 1.0)
    } else {
        0.0
    };
    length(px - t * dx, py - t * dy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_is_28_mm_across_and_has_21_teeth() {
        let map = CapMap::new();
        let on = |x: f32, y: f32| map.at(x, y).is_some_and(|t| t.inside > 0.0);
        assert!(on(13.9, 0.0) && !on(14.1, 0.0));
        let mut changes = 0;
        let mut last = None;
        for turn in (0..=u16::MAX).step_by(16) {
            let (s, c) = super::super::random::sin_cos(turn);
            let tooth = on(OUTLINE * c, OUTLINE * s);
            changes += u32::from(last.is_some_and(|l| l != tooth));
            last = Some(tooth);
        }
        assert_eq!(changes, 2 * TEETH);
    }

    #[test]
    fn the_middle_is_flat_and_the_skirt_is_steep() {
        let map = CapMap::new();
        let slope = |x: f32| map.at(x, 0.0).map(|t| length(t.slope[0], t.slope[1])).unwrap();
        assert!(slope(0.0) < 0.05 && slope(12.2) > 0.6);
    }
}
