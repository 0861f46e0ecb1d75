//! The pictures of the simulated line: crown caps on a belt, with defects of
//! known place.
//!
//! Duties: draws what the station's camera would see of a [`Scene`], in the
//! camera's own pixel format, and on request the truth as a class map. The
//! same seeds give the same bytes on every machine: integers, and only those
//! float operations that IEEE 754 defines to the last bit; no library
//! function of mathematics.
//!
//! Terms: the *look* of a part is all that its seed decides (turn, size,
//! colour, defects); its *place* is the scene's. A *class map* has one byte a
//! pixel: 0, or the [`Defect`](crate::simulate::part::Defect).
//!
//! How: the belt is a prepared texture, the cap a prepared map of slopes and
//! print (`cap`). A frame lights the belt once, then goes over the square of
//! each part: turn back into the cap's frame, look up, apply defects, light,
//! blend. About 5 ms for 640×480 on one core.

mod belt;
mod cap;
mod look;
mod pixels;
mod random;
mod set;

pub use look::PartLook;
pub use pixels::supported;
pub use set::{RenderSet, render_set};

use crate::vision::frame::PixelFormat;
use belt::{Belt, Light, Noise};
use cap::{CapMap, length};
use look::{Surface, mix3};
use random::{Random, smooth};

/// Radius beyond which a cap and its shadow change nothing, mm.
const REACH_MM: f32 = 17.5;

/// What lies in front of the camera at mid-exposure.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// How far the belt has moved along the picture's +x, µm: its texture moves along.
    pub belt_um: i64,
    /// Decides light and noise of this frame.
    pub seed: u64,
    pub parts: Vec<ScenePart>,
}

/// A part and where its centre lies in the picture.
#[derive(Clone, Debug)]
pub struct ScenePart {
    /// From the picture's upper left corner, pixels; may lie outside.
    pub x: f32,
    pub y: f32,
    pub look: PartLook,
}

/// A class map: 0, or the class of a [`Defect`](crate::simulate::part::Defect), per pixel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    pub width: u32,
    pub height: u32,
    pub classes: Vec<u8>,
}

/// Draws frames of one size. About 5 MB; make one and keep it.
pub struct Renderer {
    width: usize,
    height: usize,
    mm_per_px: f32,
    belt: Belt,
    noise: Noise,
    cap: CapMap,
    rgb: Vec<u8>,
}

impl Renderer {
    /// `seed` decides the belt. `width` and `height` are rounded up to even numbers, between 16 and 4,096.
    pub fn new(seed: u64, width: u32, height: u32, um_per_px: f64) -> Self {
        let even = |v: u32| (v.clamp(16, 4_096).next_multiple_of(2)) as usize;
        let (width, height) = (even(width), even(height));
        Renderer {
            width,
            height,
            mm_per_px: um_per_px as f32 / 1_000.0,
            belt: Belt::new(seed, height),
            noise: Noise::new(seed),
            cap: CapMap::new(),
            rgb: vec![0; width * height * 3],
        }
    }

    pub fn width(&self) -> u32 {
        self.width as u32
    }

    pub fn height(&self) -> u32 {
        self.height as u32
    }

    /// Bytes from row to row of a frame in `format`.
    pub fn stride(&self, format: PixelFormat) -> u32 {
        pixels::stride(format, self.width())
    }

    /// Draws `scene` and writes it to `bytes`, whose memory is reused; its class map to `mask`.
    /// `format` is one that is [`supported`]; `bytes` stays empty otherwise.
    pub fn frame(
        &mut self,
        scene: &Scene,
        format: PixelFormat,
        bytes: &mut Vec<u8>,
        mask: Option<&mut Mask>,
    ) {
        self.draw(scene, mask);
        pixels::encode(&self.rgb, self.width, format, bytes);
    }

    fn draw(&mut self, scene: &Scene, mut mask: Option<&mut Mask>) {
        if let Some(mask) = mask.as_deref_mut() {
            mask.width = self.width as u32;
            mask.height = self.height as u32;
            mask.classes.clear();
            mask.classes.resize(self.width * self.height, 0);
        }
        let light = Light::from_seed(scene.seed);
        let offset = self.belt_offset(scene.belt_um);
        self.draw_belt(&light, offset, scene.seed);
        for (k, part) in scene.parts.iter().enumerate() {
            let noise_seed = scene.seed ^ (k as u64 + 1).wrapping_mul(0x9e37_79b9);
            self.draw_part(part, &light, offset, noise_seed, mask.as_deref_mut());
        }
    }

    /// Column of the belt's texture that lies at the picture's left edge.
    fn belt_offset(&self, belt_um: i64) -> usize {
        let um_per_px = (self.mm_per_px * 1_000.0) as i64;
        // Moving to the right brings columns from the left, hence minus.
        Belt::wrap((-belt_um).div_euclid(um_per_px.max(1)).rem_euclid(1 << 20) as usize)
    }

    /// Strength of the light in pixel (x, y).
    #[inline]
    fn lit(&self, light: &Light, x: usize, y: usize) -> f32 {
        let across = (x as f32 + 0.5) * 2.0 / self.width as f32 - 1.0;
        let down = (y as f32 + 0.5) * 2.0 / self.height as f32 - 1.0;
        light.gain * (1.0 + light.gradient[0] * across + light.gradient[1] * down)
    }

    fn draw_belt(&mut self, light: &Light, offset: usize, seed: u64) {
        let mut r = Random::stream(seed, 6);
        for y in 0..self.height {
            let noise = self.noise.row(&mut r, self.width * 3);
            let belt = self.belt.row(y);
            let (first, last) = (self.lit(light, 0, y), self.lit(light, self.width - 1, y));
            let step = (last - first) / (self.width - 1) as f32;
            let row = &mut self.rgb[y * self.width * 3..][..self.width * 3];
            for (x, (p, n)) in row.chunks_exact_mut(3).zip(noise.chunks_exact(3)).enumerate() {
                let v = belt[Belt::wrap(x + offset)] * (first + step * x as f32);
                for k in 0..3 {
                    p[k] = level(v * light.tint[k] + n[k] * light.noise);
                }
            }
        }
    }

    fn draw_part(
        &mut self,
        part: &ScenePart,
        light: &Light,
        offset: usize,
        seed: u64,
        mut mask: Option<&mut Mask>,
    ) {
        let px = 1.0 / self.mm_per_px;
        let (cx, cy) = (part.x, part.y);
        let reach = REACH_MM * px;
        let clip = |v: f32, end: usize| (v.max(0.0) as usize).min(end);
        let (left, right) = (clip(cx - reach, self.width), clip(cx + reach + 1.0, self.width));
        let (top, low) = (clip(cy - reach, self.height), clip(cy + reach + 1.0, self.height));
        let look = &part.look;
        let (sin, cos) = look.turn;
        let mut r = Random::stream(seed, 7);
        for y in top..low {
            let noise = self.noise.row(&mut r, self.width * 3);
            let belt = self.belt.row(y);
            let dy = (y as f32 + 0.5 - cy) * self.mm_per_px;
            for x in left..right {
                let dx = (x as f32 + 0.5 - cx) * self.mm_per_px;
                let shade = shadow(dx, dy, light);
                if shade >= 1.0 {
                    continue;
                }
                let strength = self.lit(light, x, y);
                let ground = belt[Belt::wrap(x + offset)] * shade;
                let mut colour = [ground; 3];
                let (u, v) = (
                    (dx * cos + dy * sin) / look.scale,
                    (dy * cos - dx * sin) / look.scale,
                );
                if let Some(texel) = self.cap.at(u, v)
                    && texel.inside > -0.5
                {
                    let s = look.surface(texel, u, v, self.mm_per_px);
                    colour = mix3(colour, shine(&s, look.turn, light), s.cover);
                    if let Some(mask) = mask.as_deref_mut()
                        && s.class > 0
                    {
                        mask.classes[y * self.width + x] = s.class;
                    }
                }
                let at = (y * self.width + x) * 3;
                for k in 0..3 {
                    let n = noise[x * 3 + k] * light.noise;
                    self.rgb[at + k] = level(colour[k] * strength * light.tint[k] + n);
                }
            }
        }
    }
}

/// How much light the belt gets beside the cap: 0.45 under it, 1 where no shadow reaches (and no cap).
#[inline]
fn shadow(dx: f32, dy: f32, light: &Light) -> f32 {
    let far = length(dx, dy);
    if far > REACH_MM {
        return 1.0;
    }
    // The cap is some 3 mm high: its shadow falls that much to the side.
    let d = length(dx + light.lamp[0] * 3.0, dy + light.lamp[1] * 3.0);
    0.45 + 0.549 * smooth(13.0, 15.6, d)
}

/// Colour of a lit surface: ambient, lamp, a weaker lamp opposite, and the lacquer's shine.
#[inline]
fn shine(s: &Surface, turn: (f32, f32), light: &Light) -> [f32; 3] {
    let (sin, cos) = turn;
    let gx = s.slope[0] * cos - s.slope[1] * sin;
    let gy = s.slope[0] * sin + s.slope[1] * cos;
    let square: f32 = 1.0 + gx * gx + gy * gy;
    let n = 1.0 / square.sqrt();
    let dot = |v: [f32; 3]| (v[2] - gx * v[0] - gy * v[1]) * n;
    let lamp = dot(light.lamp).max(0.0);
    let fill = dot([-light.lamp[0], -light.lamp[1], light.lamp[2]]).max(0.0);
    let lit = 0.30 + 0.62 * lamp + 0.22 * fill;
    let h = dot(light.shine).max(0.0);
    let h4 = (h * h) * (h * h);
    let h16 = (h4 * h4) * (h4 * h4);
    let h64 = (h16 * h16) * (h16 * h16);
    let gleam = s.gloss * (30.0 * h16 + 95.0 * h64);
    [
        s.colour[0] * lit + gleam,
        s.colour[1] * lit + gleam,
        s.colour[2] * lit + gleam,
    ]
}

/// Nearest grey level.
#[inline]
fn level(v: f32) -> u8 {
    (v + 0.5) as u8
}

#[cfg(test)]
mod tests;
