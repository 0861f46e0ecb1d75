//! From a raw picture to 8-bit RGB, only where it is looked at.
//!
//! Everything but JPEG is integer arithmetic on single samples, so every machine computes the same
//! bits (invariant 9). The unit of work is a piece of a row: the callers resample or pack it at
//! once, and the whole picture never exists in RGB.
//!
//! Choices, for formats that leave one:
//! - YUV is BT.601 limited range (Y 16–235, chroma 16–240), what UVC cameras deliver unless they say
//!   otherwise. Factors are those of ITU-R BT.601-7 §2.5.3 and §2.5.4 solved for RGB:
//!   255/219 = 1.164383, 1.402·255/224 = 1.596027, 1.772·255/224 = 2.017232, and the two for green
//!   0.391762, 0.812968; here in units of 2⁻¹³. Chroma samples are repeated, not interpolated.
//! - Y10 is 10 bits in a little-endian u16 and drops the two lowest; Y16 keeps its upper byte.
//! - Bayer is interpolated with the 5 × 5 linear filters of Malvar, He and Cutler, "High-quality linear
//!   interpolation for demosaicing of Bayer-patterned color images" (2004), mirrored at the edges.

use super::frame::{Frame, FrameError, PixelFormat};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Red, green, blue and a byte of nothing: four lanes make every later step simpler and faster.
pub type Pixel = [u8; 4];

/// A piece of a picture, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// A whole picture whose samples can be read in place.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    pub format: PixelFormat,
    pub width: u32,
    pub height: u32,
    pub stride: usize,
    pub bytes: &'a [u8],
}

/// Opens frames; keeps the buffer that MJPG pictures are unpacked into.
#[derive(Debug, Default)]
pub struct Opener {
    unpacked: Vec<u8>,
}

impl Opener {
    /// The frame, checked; MJPG is decoded to RGB3 here (the one step that may allocate).
    pub fn open<'a>(&'a mut self, frame: &'a Frame) -> Result<Raw<'a>, FrameError> {
        frame.check()?;
        let &Frame {
            width,
            height,
            stride,
            ..
        } = frame;
        if frame.format != PixelFormat::Mjpg {
            return Ok(Raw {
                format: frame.format,
                width,
                height,
                stride: stride as usize,
                bytes: &frame.bytes,
            });
        }
        unpack_jpeg(frame, &mut self.unpacked)?;
        let bytes = &self.unpacked;
        Ok(Raw {
            format: PixelFormat::Rgb3,
            width,
            height,
            stride: width as usize * 3,
            bytes,
        })
    }
}

/// The whole frame as RGB, 3 bytes a pixel, rows without padding.
pub fn to_rgb(frame: &Frame) -> Result<Vec<u8>, FrameError> {
    let whole = Rect {
        x: 0,
        y: 0,
        width: frame.width,
        height: frame.height,
    };
    let mut rgb = Vec::new();
    rect_to_rgb(frame, whole, &mut rgb)?;
    Ok(rgb)
}

/// A rectangle of the frame as RGB, 3 bytes a pixel, rows without padding; replaces what `rgb` held.
pub fn rect_to_rgb(frame: &Frame, rect: Rect, rgb: &mut Vec<u8>) -> Result<(), FrameError> {
    let mut opener = Opener::default();
    let raw = opener.open(frame)?;
    let fits = |start: u32, length: u32, side: u32| length <= side && start <= side - length;
    if !fits(rect.x, rect.width, raw.width) || !fits(rect.y, rect.height, raw.height) {
        let Rect { x, y, width, height } = rect;
        return Err(FrameError::Outside {
            x,
            y,
            width,
            height,
            frame_width: raw.width,
            frame_height: raw.height,
        });
    }
    let mut row = vec![[0; 4]; row_capacity(rect.width)];
    rgb.clear();
    rgb.reserve(rect.width as usize * rect.height as usize * 3);
    for y in rect.y..rect.y + rect.height {
        let pixels = raw.row(y, rect.x, rect.x + rect.width, &mut row);
        rgb.extend(pixels.iter().flat_map(|p| [p[0], p[1], p[2]]));
    }
    Ok(())
}

/// Pixels a row buffer needs for a piece of `width`: whole colour groups may reach one pixel further at both ends.
pub const fn row_capacity(width: u32) -> usize {
    width as usize + 2
}

fn unpack_jpeg(frame: &Frame, rgb: &mut Vec<u8>) -> Result<(), FrameError> {
    // Strict: a picture that ends early must not be judged by what a decoder makes up for it.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(super::frame::SIDE_MAX as usize)
        .set_max_height(super::frame::SIDE_MAX as usize)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&frame.bytes[..]), options);
    let wrong = |e: zune_jpeg::errors::DecodeErrors| FrameError::Jpeg(e.to_string());
    decoder.decode_headers().map_err(wrong)?;
    let info = decoder
        .info()
        .ok_or_else(|| FrameError::Jpeg("it has no header".into()))?;
    let (got_width, got_height) = (u32::from(info.width), u32::from(info.height));
    let &Frame { width, height, .. } = frame;
    if (got_width, got_height) != (width, height) {
        return Err(FrameError::JpegSize {
            width,
            height,
            got_width,
            got_height,
        });
    }
    rgb.resize(width as usize * height as usize * 3, 0);
    decoder.decode_into(rgb).map_err(wrong)
}

impl<'a> Raw<'a> {
    #[inline(always)]
    fn samples(&self, y: u32, bytes: usize) -> &'a [u8] {
        &self.bytes[y as usize * self.stride..][..bytes]
    }

    #[inline(always)]
    /// Pixels `x0..x1` of row `y` as RGB, in a part of `out`, which holds `row_capacity(x1 - x0)`.
    /// The caller keeps `x0 < x1 <= width` and `y < height`.
    pub fn row<'b>(&self, y: u32, x0: u32, x1: u32, out: &'b mut [Pixel]) -> &'b [Pixel] {
        debug_assert!(x0 < x1 && x1 <= self.width && y < self.height);
        let (w, a, b) = (self.width as usize, x0 as usize, x1 as usize);
        let n = b - a;
        // For formats whose pixels come in pairs: the pairs that cover x0..x1.
        let (even, pairs) = (a & !1, b.div_ceil(2) - a / 2);
        match self.format {
            PixelFormat::Grey => grey(&self.samples(y, w)[a..b], |&v| v, out),
            PixelFormat::Y10 => grey(words(&self.samples(y, 2 * w)[2 * a..2 * b]), y10, out),
            PixelFormat::Y16 => grey(words(&self.samples(y, 2 * w)[2 * a..2 * b]), |v| v[1], out),
            PixelFormat::Rgb3 | PixelFormat::Mjpg => {
                for (o, s) in out
                    .iter_mut()
                    .zip(self.samples(y, 3 * w)[3 * a..3 * b].as_chunks::<3>().0)
                {
                    *o = [s[0], s[1], s[2], 0];
                }
            }
            PixelFormat::Bgr3 => {
                for (o, s) in out
                    .iter_mut()
                    .zip(self.samples(y, 3 * w)[3 * a..3 * b].as_chunks::<3>().0)
                {
                    *o = [s[2], s[1], s[0], 0];
                }
            }
            PixelFormat::Yuyv => {
                let quads = self.samples(y, 2 * w)[2 * even..][..4 * pairs].as_chunks::<4>().0;
                yuv_row(pairs, |i| quads[i], |[y0, u, y1, v]| [y0, y1, u, v], out);
                return &out[a - even..][..n];
            }
            PixelFormat::Uyvy => {
                let quads = self.samples(y, 2 * w)[2 * even..][..4 * pairs].as_chunks::<4>().0;
                yuv_row(pairs, |i| quads[i], |[u, y0, v, y1]| [y0, y1, u, v], out);
                return &out[a - even..][..n];
            }
            PixelFormat::Nv12 => {
                let luma = self.samples(y, w)[even..][..2 * pairs].as_chunks::<2>().0;
                let chroma = self.samples(self.height + y / 2, w)[even..][..2 * pairs]
                    .as_chunks::<2>()
                    .0;
                let pair = |i: usize| [luma[i][0], luma[i][1], chroma[i][0], chroma[i][1]];
                yuv_row(pairs, pair, |p| p, out);
                return &out[a - even..][..n];
            }
            PixelFormat::BayerRggb => self.bayer_row(y, x0, x1, 0, 0, out),
            PixelFormat::BayerGrbg => self.bayer_row(y, x0, x1, 1, 0, out),
            PixelFormat::BayerGbrg => self.bayer_row(y, x0, x1, 0, 1, out),
            PixelFormat::BayerBggr => self.bayer_row(y, x0, x1, 1, 1, out),
        }
        &out[..n]
    }

    /// Brightness of single places of row `y`, at `x0`, `x0 + step`, …, for finding parts.
    /// For colour formats without a luma sample of their own, (77 R + 150 G + 29 B) / 256, which are the
    /// BT.601 weights; for Bayer the mean of the four samples that begin there.
    #[inline(always)]
    pub fn luma(&self, y: u32, x0: u32, step: u32, out: &mut [u8]) {
        let (w, x0, step) = (self.width as usize, x0 as usize, step as usize);
        let rgb =
            |r: u8, g: u8, b: u8| ((77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b)) >> 8) as u8;
        match self.format {
            PixelFormat::Grey | PixelFormat::Nv12 => pick::<1>(self.samples(y, w), x0, step, out, |s| s[0]),
            PixelFormat::Yuyv => pick::<2>(self.samples(y, 2 * w), x0, step, out, |s| s[0]),
            PixelFormat::Uyvy | PixelFormat::Y16 => {
                pick::<2>(self.samples(y, 2 * w), x0, step, out, |s| s[1])
            }
            PixelFormat::Y10 => pick::<2>(self.samples(y, 2 * w), x0, step, out, y10),
            PixelFormat::Rgb3 | PixelFormat::Mjpg => {
                pick::<3>(self.samples(y, 3 * w), x0, step, out, |s| rgb(s[0], s[1], s[2]));
            }
            PixelFormat::Bgr3 => pick::<3>(self.samples(y, 3 * w), x0, step, out, |s| rgb(s[2], s[1], s[0])),
            _ => {
                let (above, below) = (self.samples(y & !1, w), self.samples(y | 1, w));
                for (i, o) in out.iter_mut().enumerate() {
                    let x = (x0 + i * step) & !1;
                    let sum: u32 = [above[x], above[x + 1], below[x], below[x + 1]]
                        .map(u32::from)
                        .iter()
                        .sum();
                    *o = (sum / 4) as u8;
                }
            }
        }
    }

    /// One row of a Bayer picture. `red_x` and `red_y` say which columns and rows hold red.
    #[inline(always)]
    fn bayer_row(&self, y: u32, x0: u32, x1: u32, red_x: u32, red_y: u32, out: &mut [Pixel]) {
        let (w, h) = (self.width as usize, self.height as usize);
        let rows: [&[u8]; 5] =
            std::array::from_fn(|i| self.samples(mirror(y as isize + i as isize - 2, h) as u32, w));
        let red_row = y % 2 == red_y;
        for (x, o) in (x0 as usize..x1 as usize).zip(out) {
            let inner = x >= 2 && x + 2 < w;
            let at = |dx: isize, dy: usize| {
                let x = x as isize + dx;
                i32::from(rows[dy][if inner { x as usize } else { mirror(x, w) }])
            };
            *o = malvar(at, x as u32 % 2 == red_x, red_row);
        }
    }
}

#[inline(always)]
fn y10(v: &[u8; 2]) -> u8 {
    (u16::from_le_bytes(*v) >> 2).min(255) as u8
}

#[inline(always)]
fn words(bytes: &[u8]) -> &[[u8; 2]] {
    bytes.as_chunks().0
}

#[inline(always)]
fn grey<S>(samples: &[S], value: impl Fn(&S) -> u8, out: &mut [Pixel]) {
    for (o, s) in out.iter_mut().zip(samples) {
        let v = value(s);
        *o = [v, v, v, 0];
    }
}

/// Every `step`-th group of `N` bytes from group `x0` on.
#[inline(always)]
fn pick<const N: usize>(row: &[u8], x0: usize, step: usize, out: &mut [u8], value: impl Fn(&[u8; N]) -> u8) {
    let groups = row.as_chunks::<N>().0;
    for (o, s) in out.iter_mut().zip(groups[x0..].iter().step_by(step)) {
        *o = value(s);
    }
}

// BT.601 limited range, see the head of the file. All factors and operands fit into i16, which lets
// compilers use 16-bit multiplications.
const SHIFT: u32 = 13;
const Y_TO_ALL: i32 = 9539;
const V_TO_R: i32 = 13075;
const U_TO_G: i32 = -3209;
const V_TO_G: i32 = -6660;
const U_TO_B: i32 = 16525;

/// Pairs of pixels that are converted together, so that the compiler fills vectors with them.
const BLOCK: usize = 8;

/// `pairs` pairs of pixels: `load` gives the four bytes of one, `order` puts them as y0, y1, u, v.
#[inline(always)]
fn yuv_row(
    pairs: usize,
    load: impl Fn(usize) -> [u8; 4],
    order: impl Fn([u8; 4]) -> [u8; 4],
    out: &mut [Pixel],
) {
    let (whole, rest) = out[..2 * pairs].as_chunks_mut::<{ 2 * BLOCK }>();
    let done = whole.len() * BLOCK;
    for (block, out) in whole.iter_mut().enumerate() {
        *out = yuv_block(&std::array::from_fn(|i| order(load(block * BLOCK + i))));
    }
    let last = yuv_block(&std::array::from_fn(|i| order(load((done + i).min(pairs - 1)))));
    rest.copy_from_slice(&last[..rest.len()]);
}

#[inline(always)]
fn yuv_block(pairs: &[[u8; 4]; BLOCK]) -> [Pixel; 2 * BLOCK] {
    let mut pixels = [[0; 4]; 2 * BLOCK];
    // Wrapping, so that builds with overflow checks are vectorized too; the largest sum is below 2²³.
    for (two, &[y0, y1, u, v]) in pixels.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        let (u, v) = (i32::from(u).wrapping_sub(128), i32::from(v).wrapping_sub(128));
        let colour = [
            V_TO_R.wrapping_mul(v),
            U_TO_G.wrapping_mul(u).wrapping_add(V_TO_G.wrapping_mul(v)),
            U_TO_B.wrapping_mul(u),
        ];
        for (pixel, y) in two.iter_mut().zip([y0, y1]) {
            let luma = Y_TO_ALL
                .wrapping_mul(i32::from(y).wrapping_sub(16))
                .wrapping_add(1 << (SHIFT - 1));
            let [r, g, b] = colour.map(|c| u32::from(clip(luma.wrapping_add(c) >> SHIFT)));
            *pixel = (r | g << 8 | b << 16).to_le_bytes();
        }
    }
    pixels
}

#[inline(always)]
fn clip(v: i32) -> u8 {
    v.clamp(0, 255) as u8
}

/// Index `i` mirrored into `0..n` about the first and last sample, so that a Bayer pattern keeps its beat.
#[inline(always)]
fn mirror(i: isize, n: usize) -> usize {
    let last = n as isize - 1;
    let i = i.abs();
    (if i > last { 2 * last - i } else { i }) as usize
}

/// Red, green and blue at a place from its 5 × 5 surroundings; `at(dx, row)` with row 2 the middle one.
#[inline(always)]
fn malvar(at: impl Fn(isize, usize) -> i32, red_column: bool, red_row: bool) -> Pixel {
    let c = at(0, 2);
    let beside = at(-1, 2) + at(1, 2);
    let above = at(0, 1) + at(0, 3);
    let diagonal = at(-1, 1) + at(1, 1) + at(-1, 3) + at(1, 3);
    let beside2 = at(-2, 2) + at(2, 2);
    let above2 = at(0, 0) + at(0, 4);
    // All in sixteenths, rounded once.
    let done = |v: i32| clip((v + 8) >> 4);
    let here = c as u8;
    if red_column == red_row {
        let green = done(8 * c + 4 * (beside + above) - 2 * (beside2 + above2));
        let other = done(12 * c + 4 * diagonal - 3 * (beside2 + above2));
        if red_row {
            [here, green, other, 0]
        } else {
            [other, green, here, 0]
        }
    } else {
        let from_beside = done(10 * c + 8 * beside - 2 * diagonal - 2 * beside2 + above2);
        let from_above = done(10 * c + 8 * above - 2 * diagonal - 2 * above2 + beside2);
        if red_row {
            [from_beside, here, from_above, 0]
        } else {
            [from_above, here, from_beside, 0]
        }
    }
}
