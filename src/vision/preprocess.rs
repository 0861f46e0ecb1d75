//! The piece of the picture that a model sees, at the model's size.
//!
//! Around a part: a square about the middle of its blob, the longer side of the blob plus the margin
//! at both ends. Where the square leaves the picture, the picture's edge is repeated: outside there is
//! more belt, and the last row or column is the best guess at it.
//!
//! Whole pictures follow Pillow to the pixel: `Stretch` scales both sides; `Letterbox` and `Cover`
//! round the other side half to even, and place it or cut it at the lower half of what is left over.

use super::decode::{Opener, Pixel, Raw, row_capacity};
use super::frame::{Frame, FrameError};
use super::resample::{Key, LANES, Weights};
use crate::config::{Crop, Fit};
use crate::infer::manifest::Filter;
use crate::kernels::isa::{Work, widest};
use crate::station::event::Blob;

/// What a model's input shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The rectangle of the full picture, in its pixels; may leave it.
    pub x: i32,
    pub y: i32,
    pub width: u32,
    pub height: u32,
    /// Length on the belt of one input pixel; `None` when the input is not to scale (`Fit::Stretch`).
    pub um_per_input_px: Option<f64>,
}

/// Makes model inputs. Keeps its buffers: after the first frames of a size it allocates nothing.
#[derive(Debug)]
pub struct Preprocessor {
    crop: Crop,
    size: u32,
    filter: Filter,
    um_per_px: f64,
    opener: Opener,
    columns: Weights,
    rows: Weights,
    /// One row of the source, with room for the repeated edge.
    line: Vec<Pixel>,
    piece: Vec<Pixel>,
    /// Some rows of the source, column by column.
    strip: Vec<[Pixel; STRIP]>,
    /// After the horizontal pass: as many rows as the vertical pass reaches.
    middle: Vec<Pixel>,
    /// One row after the vertical pass.
    done: Vec<Pixel>,
    /// Size of the picture that the buffers have room for.
    reserved: (u32, u32),
}

/// Rows that go through the horizontal pass together.
const STRIP: usize = LANES / 4;

/// Largest square around a part, in longer sides of the picture.
const SQUARE_MAX: u32 = 2;

/// What goes where along one axis: `length` samples from `start` become `outputs`, of which those from
/// `cut` on are written from `place` on, as many as fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    start: i64,
    length: u32,
    outputs: u32,
    cut: u32,
    place: u32,
    kept: u32,
}

/// One input to be made, as work for the vector units.
struct Resample<'a> {
    by: &'a mut Preprocessor,
    raw: &'a Raw<'a>,
    across: Axis,
    down: Axis,
    rgb: &'a mut [u8],
}

impl Work for Resample<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.by.resample(self.raw, self.across, self.down, self.rgb);
    }
}

impl Preprocessor {
    /// For inputs of `size` × `size`. `um_per_px` is the camera's scale.
    pub fn new(crop: Crop, size: u32, filter: Filter, um_per_px: f64) -> Self {
        Preprocessor {
            crop,
            size,
            filter,
            um_per_px,
            opener: Opener::default(),
            columns: Weights::default(),
            rows: Weights::default(),
            line: Vec::new(),
            piece: Vec::new(),
            strip: Vec::new(),
            middle: Vec::new(),
            done: Vec::new(),
            reserved: (0, 0),
        }
    }

    /// Fills `rgb`, `size` × `size` pixels of 3 bytes. `blob` is needed when the recipe crops around the part.
    pub fn run(&mut self, frame: &Frame, blob: Option<Blob>, rgb: &mut [u8]) -> Result<View, FrameError> {
        let size = self.size;
        assert_eq!(
            rgb.len(),
            size as usize * size as usize * 3,
            "rgb holds size × size pixels"
        );
        let mut opener = std::mem::take(&mut self.opener);
        let done = opener.open(frame).and_then(|raw| {
            let (across, down, view) = self.plan(&raw, blob)?;
            widest(Resample {
                by: self,
                raw: &raw,
                across,
                down,
                rgb,
            });
            Ok(view)
        });
        self.opener = opener;
        done
    }

    fn plan(&self, raw: &Raw<'_>, blob: Option<Blob>) -> Result<(Axis, Axis, View), FrameError> {
        let (w, h, size) = (raw.width, raw.height, self.size);
        let planned = match self.crop {
            Crop::Part { margin } => {
                let blob = blob.ok_or(FrameError::NoPart)?;
                let margin_px = (margin.as_micrometres() as f64 / self.um_per_px).round().max(0.0) as i64;
                let side = i64::from(blob.width.max(blob.height)) + 2 * margin_px;
                // A margin of more than a whole picture cannot be meant, and must not reserve memory.
                let side = side.clamp(1, i64::from(SQUARE_MAX * w.max(h))) as u32;
                let start = |begin: u16, length: u16| {
                    (2 * i64::from(begin) + i64::from(length) - i64::from(side)) >> 1
                };
                let (x, y) = (start(blob.x, blob.width), start(blob.y, blob.height));
                let axis = |start| Axis {
                    start,
                    length: side,
                    outputs: size,
                    cut: 0,
                    place: 0,
                    kept: size,
                };
                (axis(x), axis(y), self.view(x, y, side))
            }
            Crop::Picture { fit: Fit::Stretch } => {
                let axis = |length| Axis {
                    start: 0,
                    length,
                    outputs: size,
                    cut: 0,
                    place: 0,
                    kept: size,
                };
                (
                    axis(w),
                    axis(h),
                    View {
                        x: 0,
                        y: 0,
                        width: w,
                        height: h,
                        um_per_input_px: None,
                    },
                )
            }
            Crop::Picture { fit: Fit::Letterbox } => {
                let side = w.max(h);
                let axis = |length| {
                    let outputs = scaled(length, size, side);
                    Axis {
                        start: 0,
                        length,
                        outputs,
                        cut: 0,
                        place: (size - outputs) / 2,
                        kept: outputs,
                    }
                };
                let (across, down) = (axis(w), axis(h));
                let back = |place: u32| -i64::from(scaled(place, side, size));
                (
                    across,
                    down,
                    self.view(back(across.place), back(down.place), side),
                )
            }
            Crop::Picture { fit: Fit::Cover } => {
                let side = w.min(h);
                let axis = |length| {
                    let outputs = scaled(length, size, side);
                    Axis {
                        start: 0,
                        length,
                        outputs,
                        cut: (outputs - size) / 2,
                        place: 0,
                        kept: size,
                    }
                };
                let (across, down) = (axis(w), axis(h));
                let back = |cut: u32| i64::from(scaled(cut, side, size));
                (across, down, self.view(back(across.cut), back(down.cut), side))
            }
        };
        Ok(planned)
    }

    /// A square view of `side` picture pixels.
    fn view(&self, x: i64, y: i64, side: u32) -> View {
        let um_per_input_px = Some(self.um_per_px * f64::from(side) / f64::from(self.size));
        View {
            x: x as i32,
            y: y as i32,
            width: side,
            height: side,
            um_per_input_px,
        }
    }

    /// Room for the largest square there can be in a picture of this size, so that a larger part than
    /// any before allocates nothing. Memory that is only reserved costs nothing.
    fn reserve(&mut self, raw: &Raw<'_>) {
        if self.reserved == (raw.width, raw.height) {
            return;
        }
        self.reserved = (raw.width, raw.height);
        let side = SQUARE_MAX * raw.width.max(raw.height);
        self.columns.reserve(self.filter, side, self.size);
        self.rows.reserve(self.filter, side, self.size);
        self.line.reserve_exact(row_capacity(raw.width));
        self.piece.reserve_exact(side as usize);
        self.strip.reserve_exact(side as usize);
        self.middle.reserve_exact(side as usize * self.size as usize);
        self.done.reserve_exact(self.size as usize);
    }

    #[inline(always)]
    fn resample(&mut self, raw: &Raw<'_>, across: Axis, down: Axis, rgb: &mut [u8]) {
        self.reserve(raw);
        let filter = self.filter;
        let key = |a: Axis| Key {
            filter,
            length: a.length,
            outputs: a.outputs,
            from: a.cut,
            to: a.cut + a.kept,
        };
        self.columns.prepare(key(across));
        self.rows.prepare(key(down));
        let kept = across.kept as usize;
        let (x_first, x_end) = self.columns.reach();
        let (y_first, y_end) = self.rows.reach();
        self.line.resize(row_capacity(raw.width), [0; 4]);
        self.piece.resize((x_end - x_first) as usize, [0; 4]);
        self.strip.resize(self.piece.len(), [[0; 4]; STRIP]);
        self.middle.resize((y_end - y_first) as usize * kept, [0; 4]);
        self.done.resize(kept, [0; 4]);
        let count = (y_end - y_first) as usize;
        for top in (0..count).step_by(STRIP) {
            let height = STRIP.min(count - top);
            // A strip of rows, turned so that the samples of one place lie beside each other.
            for i in 0..height {
                let y = clamped(down.start + i64::from(y_first) + (top + i) as i64, raw.height);
                let first = across.start + i64::from(x_first);
                let samples = piece_of_row(raw, y, first, &mut self.line, &mut self.piece);
                for (column, &pixel) in self.strip.iter_mut().zip(samples) {
                    column[i] = pixel;
                }
            }
            for x in 0..kept {
                let mut column = [[0; 4]; STRIP];
                let lines = self.strip.as_flattened().as_flattened();
                self.columns.output(x, lines, x_first, column.as_flattened_mut());
                for (i, &pixel) in column.iter().enumerate().take(height) {
                    self.middle[(top + i) * kept + x] = pixel;
                }
            }
        }
        let (top, left) = (down.place as usize, across.place as usize * 3);
        if down.kept < self.size || across.kept < self.size {
            rgb.fill(0);
        }
        for (i, out) in rgb
            .chunks_exact_mut(self.size as usize * 3)
            .skip(top)
            .take(self.rows.len())
            .enumerate()
        {
            self.rows.output(
                i,
                self.middle.as_flattened(),
                y_first,
                self.done.as_flattened_mut(),
            );
            for (o, p) in out[left..].as_chunks_mut::<3>().0.iter_mut().zip(&self.done) {
                *o = [p[0], p[1], p[2]];
            }
        }
    }
}

/// `piece.len()` pixels of row `y` from `first` on, the edges of the picture repeated outside of it.
#[inline(always)]
fn piece_of_row<'a>(
    raw: &Raw<'_>,
    y: u32,
    first: i64,
    line: &'a mut [Pixel],
    piece: &'a mut [Pixel],
) -> &'a [Pixel] {
    let end = first + piece.len() as i64;
    let x0 = clamped(first, raw.width);
    let x1 = clamped(end - 1, raw.width) + 1;
    let inside = raw.row(y, x0, x1, line);
    if first >= 0 && end <= i64::from(raw.width) {
        return inside;
    }
    let before = (i64::from(x0) - first).clamp(0, piece.len() as i64 - 1) as usize;
    let after = before + inside.len();
    piece[..before].fill(inside[0]);
    piece[before..after].copy_from_slice(inside);
    piece[after..].fill(inside[inside.len() - 1]);
    piece
}

fn clamped(i: i64, length: u32) -> u32 {
    i.clamp(0, i64::from(length) - 1) as u32
}

/// `length · to / from`, rounded half to even, at least 1 for a length that is not 0.
fn scaled(length: u32, to: u32, from: u32) -> u32 {
    let (product, from) = (u64::from(length) * u64::from(to), u64::from(from));
    let (whole, rest) = (product / from, product % from);
    let up = 2 * rest > from || (2 * rest == from && whole % 2 == 1);
    let rounded = (whole + u64::from(up)) as u32;
    rounded.max(u32::from(length > 0))
}

#[cfg(test)]
#[path = "preprocess_tests.rs"]
mod tests;
