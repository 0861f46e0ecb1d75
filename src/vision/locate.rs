//! Where the parts are: blobs that stand out from the belt.
//!
//! ```text
//! luma of a coarse grid → threshold (fixed, or Otsu's) → runs per row → union of touching runs
//!   → specks dropped → pieces of one part joined → size checked → the largest BLOBS_MAX
//! ```
//! Pieces nearer to each other than half the smallest gap between parts belong to one part: a scratch
//! or a glare line must not make two parts of one. What is left has to be a part's length along the
//! belt (half to one and a half times the recipe's), except that a blob cut by the edge of the picture
//! may be shorter. A blob that is too long (parts touching, a light gone out) is dropped, so its parts
//! end as "not found", never as a pass.

use super::decode::{Opener, Raw};
use super::frame::{Frame, FrameError};
use crate::config::{self, BeltAxis, Contrast, Recipe};
use crate::station::event::{BLOBS_MAX, Blob};
use crate::units::Length;
use arrayvec::ArrayVec;

/// Cells along the smallest part. Finer does not place the crop better than the margin forgives.
const CELLS_PER_PART: f64 = 48.0;
/// Coarsest grid, in pixels per cell; keeps parts apart that are a gap of a few mm apart.
const STEP_MAX: u32 = 8;
/// Grey levels between the mean of part and belt below which Otsu's threshold only splits noise.
const CONTRAST_MIN: f64 = 20.0;
/// Pieces of this share of the smallest part's square are specks: dust, grain, a bright seam.
const SPECK_SHARE: f64 = 1.0 / 256.0;
/// Most pieces that are looked at for joining; the largest ones. Joining is quadratic.
const PIECES_MAX: usize = 64;

/// Finds blobs. Keeps its buffers: after the first frame of a size it allocates nothing.
#[derive(Debug)]
pub struct Locator {
    locate: config::Locate,
    limits: Limits,
    opener: Opener,
    cells: Vec<u8>,
    /// Cell index at the ends of each run, its row, and its parent in the forest of touching runs.
    runs: Vec<Run>,
    pieces: Vec<Piece>,
}

/// Length of parts along the belt, and the smallest gap between two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartSize {
    pub min: Length,
    pub max: Length,
    pub gap_min: Length,
}

/// Sizes in pixels, from the recipe.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limits {
    along_x: bool,
    /// Length along the belt.
    along_min: f64,
    along_max: f64,
    speck_px: f64,
    /// Pieces nearer than this are one part.
    join_px: f64,
    step: u32,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    row: u32,
    start: u32,
    end: u32,
    parent: u32,
}

/// Cells that touch each other: bounds (end exclusive) and number.
#[derive(Clone, Copy, Debug)]
struct Piece {
    x0: u32,
    y0: u32,
    x1: u32,
    y1: u32,
    cells: u32,
}

impl Limits {
    fn new(um_per_px: f64, axis: BeltAxis, size: PartSize) -> Self {
        let px = |length: Length| length.as_micrometres() as f64 / um_per_px;
        let part = px(size.min).max(1.0);
        let fitting = (part / CELLS_PER_PART).max(1.0) as u32;
        Limits {
            along_x: matches!(axis, BeltAxis::PlusX | BeltAxis::MinusX),
            along_min: part * 0.5,
            along_max: px(size.max) * 1.5,
            speck_px: part * part * SPECK_SHARE,
            join_px: px(size.gap_min) * 0.5,
            step: (1 << fitting.ilog2()).min(STEP_MAX),
        }
    }
}

impl Locator {
    pub fn new(locate: config::Locate, camera: &config::Camera, recipe: &Recipe) -> Self {
        let part = PartSize {
            min: recipe.part_min,
            max: recipe.part_max,
            gap_min: recipe.gap_min,
        };
        Self::with_sizes(locate, camera.um_per_px, camera.belt_axis, part)
    }

    /// As [`Locator::new`], from the few values that matter.
    pub fn with_sizes(locate: config::Locate, um_per_px: f64, axis: BeltAxis, part: PartSize) -> Self {
        Self::with_limits(locate, Limits::new(um_per_px, axis, part))
    }

    fn with_limits(locate: config::Locate, limits: Limits) -> Self {
        Locator {
            locate,
            limits,
            opener: Opener::default(),
            cells: Vec::new(),
            runs: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Fills `blobs`, largest first. None found is not an error.
    pub fn locate(&mut self, frame: &Frame, blobs: &mut ArrayVec<Blob, BLOBS_MAX>) -> Result<(), FrameError> {
        blobs.clear();
        let mut opener = std::mem::take(&mut self.opener);
        let done = opener.open(frame).map(|raw| self.find(&raw, blobs));
        self.opener = opener;
        done
    }

    fn find(&mut self, raw: &Raw<'_>, blobs: &mut ArrayVec<Blob, BLOBS_MAX>) {
        let step = self.limits.step;
        let (columns, rows) = (raw.width.div_ceil(step), raw.height.div_ceil(step));
        let count = columns as usize * rows as usize;
        self.cells.resize(count, 0);
        // The most runs a row can have is one every other cell; reserving them all means never again.
        let most = columns.div_ceil(2) as usize * rows as usize;
        self.runs.clear();
        self.runs.reserve(most);
        self.pieces.clear();
        self.pieces.reserve(most);
        sample(raw, step, columns, &mut self.cells);
        let Some(threshold) = self.locate.threshold.or_else(|| otsu(&self.cells)) else {
            return;
        };
        let brighter = self.locate.contrast == Contrast::PartBrighter;
        collect_runs(
            &self.cells,
            columns,
            |luma| (luma > threshold) == brighter,
            &mut self.runs,
        );
        collect_pieces(&mut self.runs, &mut self.pieces);
        let speck_cells = self.limits.speck_px / f64::from(step * step);
        self.pieces.retain(|p| f64::from(p.cells) >= speck_cells);
        self.pieces
            .sort_unstable_by_key(|p| (std::cmp::Reverse(p.cells), p.y0, p.x0));
        self.pieces.truncate(PIECES_MAX);
        self.join_pieces();
        self.pieces
            .sort_unstable_by_key(|p| (std::cmp::Reverse(p.cells), p.y0, p.x0));
        let limits = self.limits;
        let wanted = self
            .pieces
            .iter()
            .map(|p| p.blob(step, raw.width, raw.height))
            .filter(|b| limits.admit(b));
        blobs.extend(wanted.take(BLOBS_MAX));
    }

    /// Unites pieces that are too near to each other to be two parts.
    fn join_pieces(&mut self) {
        let (step, limits) = (self.limits.step, self.limits);
        let near = (limits.join_px / f64::from(step)) as u32;
        let mut i = 0;
        while i < self.pieces.len() {
            let close = |a: &Piece, b: &Piece| {
                a.distance(b) < near
                    && a.with(b).along(limits.along_x) as f64 * f64::from(step) <= limits.along_max
            };
            let piece = self.pieces[i];
            match (i + 1..self.pieces.len()).find(|&j| close(&piece, &self.pieces[j])) {
                Some(j) => {
                    self.pieces[i] = piece.with(&self.pieces[j]);
                    self.pieces.swap_remove(j);
                    // The grown piece may now be near to one that was passed over.
                    i = 0;
                }
                None => i += 1,
            }
        }
    }
}

impl Limits {
    fn admit(&self, blob: &Blob) -> bool {
        let along = f64::from(if self.along_x { blob.width } else { blob.height });
        along <= self.along_max && (blob.cut || along >= self.along_min)
    }
}

impl Piece {
    fn with(&self, other: &Piece) -> Piece {
        Piece {
            x0: self.x0.min(other.x0),
            y0: self.y0.min(other.y0),
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
            cells: self.cells + other.cells,
        }
    }

    /// Free cells between the two, the larger of both directions; 0 when they overlap or touch.
    fn distance(&self, other: &Piece) -> u32 {
        let apart = |a0: u32, a1: u32, b0: u32, b1: u32| b0.saturating_sub(a1).max(a0.saturating_sub(b1));
        apart(self.x0, self.x1, other.x0, other.x1).max(apart(self.y0, self.y1, other.y0, other.y1))
    }

    fn along(&self, x: bool) -> u32 {
        if x { self.x1 - self.x0 } else { self.y1 - self.y0 }
    }

    fn blob(&self, step: u32, width: u32, height: u32) -> Blob {
        let (x, y) = (self.x0 * step, self.y0 * step);
        let (x1, y1) = ((self.x1 * step).min(width), (self.y1 * step).min(height));
        Blob {
            // Pictures have sides of at most `frame::SIDE_MAX`, so all of these fit.
            x: x as u16,
            y: y as u16,
            width: (x1 - x) as u16,
            height: (y1 - y) as u16,
            area_px: self.cells * step * step,
            cut: x == 0 || y == 0 || x1 == width || y1 == height,
        }
    }
}

/// The luma in the middle of each cell.
fn sample(raw: &Raw<'_>, step: u32, columns: u32, cells: &mut [u8]) {
    let middle = step / 2;
    for (row, line) in cells.chunks_exact_mut(columns as usize).enumerate() {
        let y = (row as u32 * step + middle).min(raw.height - 1);
        let whole = (raw.width - 1).saturating_sub(middle) / step + 1;
        let (inner, rest) = line.split_at_mut(whole.min(columns) as usize);
        raw.luma(y, middle.min(raw.width - 1), step, inner);
        // The last cell may be narrower than half a step: it has no middle.
        let last = inner[inner.len() - 1];
        rest.fill(last);
    }
}

/// Otsu's threshold (1979): the darker class is `<=` it. `None` when nothing stands out.
fn otsu(cells: &[u8]) -> Option<u8> {
    // Four histograms, so that equal neighbours do not wait for each other.
    let mut counts = [[0u32; 256]; 4];
    let (fours, rest) = cells.as_chunks::<4>();
    for four in fours {
        for (histogram, &v) in counts.iter_mut().zip(four) {
            histogram[usize::from(v)] += 1;
        }
    }
    for &v in rest {
        counts[0][usize::from(v)] += 1;
    }
    let count = |v: usize| -> u64 { counts.iter().map(|h| u64::from(h[v])).sum() };
    let all = cells.len() as u64;
    let sum: u64 = (0..256).map(|v| v as u64 * count(v)).sum();
    let (mut dark, mut dark_sum) = (0u64, 0u64);
    let mut best = (0.0, None);
    for v in 0..255 {
        dark += count(v);
        dark_sum += v as u64 * count(v);
        let bright = all - dark;
        if dark == 0 || bright == 0 {
            continue;
        }
        let apart = (sum - dark_sum) as f64 / bright as f64 - dark_sum as f64 / dark as f64;
        let between = dark as f64 * bright as f64 * apart * apart;
        if between > best.0 {
            best = (between, (apart >= CONTRAST_MIN).then_some(v as u8));
        }
    }
    best.1
}

/// Runs of cells that belong to an object, each united with the runs of the row above that it touches,
/// also over a corner.
fn collect_runs(cells: &[u8], columns: u32, object: impl Fn(u8) -> bool, runs: &mut Vec<Run>) {
    let mut above = 0..0;
    for (row, line) in cells.chunks_exact(columns as usize).enumerate() {
        let first = runs.len();
        let mut x = 0;
        while let Some(skip) = line[x..].iter().position(|&v| object(v)) {
            let start = x + skip;
            let length = line[start..]
                .iter()
                .position(|&v| !object(v))
                .unwrap_or(line.len() - start);
            x = start + length;
            let parent = runs.len() as u32;
            runs.push(Run {
                row: row as u32,
                start: start as u32,
                end: x as u32,
                parent,
            });
        }
        let mut i = above.start;
        for j in first..runs.len() {
            while i < above.end && runs[i].end < runs[j].start {
                i += 1;
            }
            let mut k = i;
            while k < above.end && runs[k].start <= runs[j].end {
                unite(runs, k, j);
                k += 1;
            }
        }
        above = first..runs.len();
    }
}

fn root(runs: &mut [Run], mut i: usize) -> usize {
    while runs[i].parent as usize != i {
        let grandparent = runs[runs[i].parent as usize].parent;
        runs[i].parent = grandparent;
        i = grandparent as usize;
    }
    i
}

/// The lower index becomes the root, so a root always comes before its members.
fn unite(runs: &mut [Run], a: usize, b: usize) {
    let (a, b) = (root(runs, a), root(runs, b));
    runs[a.max(b)].parent = a.min(b) as u32;
}

/// One piece per tree of runs.
fn collect_pieces(runs: &mut [Run], pieces: &mut Vec<Piece>) {
    for i in 0..runs.len() {
        let run = runs[i];
        let piece = Piece {
            x0: run.start,
            y0: run.row,
            x1: run.end,
            y1: run.row + 1,
            cells: run.end - run.start,
        };
        let top = root(runs, i);
        if top == i {
            // From here on the root's row is not needed: it holds the number of its piece.
            runs[i].row = pieces.len() as u32;
            pieces.push(piece);
        } else {
            let whole = &mut pieces[runs[top].row as usize];
            *whole = whole.with(&piece);
        }
    }
}

#[cfg(test)]
#[path = "locate_tests.rs"]
mod tests;
