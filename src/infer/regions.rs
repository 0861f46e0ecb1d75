//! From mask probabilities to defect regions in real units.
//!
//! A pixel belongs to the class of largest probability if that reaches the
//! model's threshold. Pixels of one class that touch, also by a corner, are a
//! region. Its **area** is its number of pixels times the area of one. Its
//! **length** is the largest distance between two points of its pixels taken as
//! rectangles, that is the largest √((Δx·px)² + (Δy·py)²) over all corners of all
//! its pixels (largest Feret diameter); px and py are a mask pixel's width and
//! height in mm.
//!
//! Regions are found row by row from runs of equal class with a union-find.
//! All buffers have their largest possible size from the start: a picture full
//! of noise allocates as little as an empty one.

use super::inspection::{ClassMeasure, Defects, Region};

/// Ends a chain of runs.
const END: u32 = u32::MAX;

/// Where the mask lies in the picture and how large its pixels are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The rectangle of the picture that the mask covers, in pixels; may leave it.
    pub x: i32,
    pub y: i32,
    pub width: u32,
    pub height: u32,
    /// Size of the whole picture in pixels.
    pub picture: (u32, u32),
    /// Width and height of one pixel of the mask on the belt in µm.
    pub um_per_mask_px: (f64, f64),
}

/// Measures masks of one model. Allocates nothing after `new`.
#[derive(Debug)]
pub struct Regions {
    side: usize,
    labels: usize,
    threshold: f32,
    /// 0 nowhere, else label + 1.
    map: Vec<u8>,
    runs: Vec<Run>,
    left: Vec<(i32, i32)>,
    right: Vec<(i32, i32)>,
    left_hull: Vec<(i32, i32)>,
    right_hull: Vec<(i32, i32)>,
}

/// Pixels x0..x1 of row y, all of one class.
#[derive(Clone, Copy, Debug)]
struct Run {
    x0: u16,
    x1: u16,
    y: u16,
    /// Label + 1.
    class: u8,
    /// Union-find: an earlier run of the same region, or itself.
    parent: u32,
    /// The region's next run in reading order.
    next: u32,
    /// Of a root: the last run of its chain.
    tail: u32,
}

impl Regions {
    /// For masks of `side` × `side` pixels.
    pub fn new(side: usize, labels: usize, threshold: f32) -> Regions {
        assert!(
            side > 0 && side <= usize::from(u16::MAX),
            "checked when the model was loaded"
        );
        let pixels = side * side;
        Regions {
            side,
            labels,
            threshold,
            map: vec![0; pixels],
            runs: Vec::with_capacity(pixels),
            left: Vec::with_capacity(side + 1),
            right: Vec::with_capacity(side + 1),
            left_hull: Vec::with_capacity(side + 1),
            right_hull: Vec::with_capacity(side + 1),
        }
    }

    /// Class of each pixel of the last mask: 0 none, else label + 1.
    pub fn map(&self) -> &[u8] {
        &self.map
    }

    pub fn side(&self) -> usize {
        self.side
    }

    /// `probabilities`: one plane per label; with one plane more, the first is
    /// the background's.
    pub fn measure(&mut self, probabilities: &[f32], place: &Place) -> Defects {
        let pixels = self.side * self.side;
        let planes = &probabilities[probabilities.len() - self.labels * pixels..];
        let background = (planes.len() < probabilities.len()).then(|| &probabilities[..pixels]);
        let mut defects = Defects::default();
        for plane in planes.chunks_exact(pixels) {
            let peak = plane.iter().copied().fold(0.0, f32::max);
            defects.classes.push(ClassMeasure {
                peak,
                ..ClassMeasure::default()
            });
        }
        self.mark(planes, background);
        self.find_runs();
        self.chain_runs();
        for root in 0..self.runs.len() {
            if self.runs[root].parent == root as u32 {
                self.report(root, place, &mut defects);
            }
        }
        let pixel_mm2 = place.um_per_mask_px.0 * place.um_per_mask_px.1 / 1e6;
        for (label, class) in defects.classes.iter_mut().enumerate() {
            let marked = self.runs.iter().filter(|r| usize::from(r.class) == label + 1);
            let pixels: u32 = marked.map(|r| u32::from(r.x1 - r.x0)).sum();
            class.area_mm2 = (f64::from(pixels) * pixel_mm2) as f32;
        }
        defects
    }

    fn mark(&mut self, planes: &[f32], background: Option<&[f32]>) {
        let pixels = self.map.len();
        if self.labels == 1 && background.is_none() {
            for (class, p) in self.map.iter_mut().zip(planes) {
                *class = u8::from(*p >= self.threshold);
            }
            return;
        }
        for (i, class) in self.map.iter_mut().enumerate() {
            let mut best = background.map_or(f32::NEG_INFINITY, |plane| plane[i]);
            *class = 0;
            for label in 0..self.labels {
                let p = planes[label * pixels + i];
                if p > best {
                    best = p;
                    *class = if p >= self.threshold { label as u8 + 1 } else { 0 };
                }
            }
        }
    }

    /// Runs in reading order, joined with those of the row above that they touch.
    fn find_runs(&mut self) {
        self.runs.clear();
        let mut above = 0..0;
        for y in 0..self.side {
            let row = &self.map[y * self.side..(y + 1) * self.side];
            let first = self.runs.len();
            let mut x = 0;
            while x < self.side {
                let class = row[x];
                let x0 = x;
                while x < self.side && row[x] == class {
                    x += 1;
                }
                if class != 0 {
                    let id = self.runs.len() as u32;
                    let (x0, x1, y) = (x0 as u16, x as u16, y as u16);
                    self.runs.push(Run {
                        x0,
                        x1,
                        y,
                        class,
                        parent: id,
                        next: END,
                        tail: id,
                    });
                }
            }
            let mut from = above.start;
            for id in first..self.runs.len() {
                let run = self.runs[id];
                while from < above.end && self.runs[from].x1 < run.x0 {
                    from += 1;
                }
                let mut other = from;
                while other < above.end && self.runs[other].x0 <= run.x1 {
                    if self.runs[other].class == run.class {
                        self.join(other as u32, id as u32);
                    }
                    other += 1;
                }
            }
            above = first..self.runs.len();
        }
    }

    /// The earliest run of a region is its root.
    fn root(&mut self, mut id: u32) -> u32 {
        while self.runs[id as usize].parent != id {
            let above = self.runs[id as usize].parent;
            self.runs[id as usize].parent = self.runs[above as usize].parent;
            id = above;
        }
        id
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.runs[a.max(b) as usize].parent = a.min(b);
    }

    fn chain_runs(&mut self) {
        for id in 0..self.runs.len() as u32 {
            let root = self.root(id);
            if root != id {
                let tail = self.runs[root as usize].tail;
                self.runs[tail as usize].next = id;
                self.runs[root as usize].tail = id;
            }
        }
    }

    fn report(&mut self, root: usize, place: &Place, defects: &mut Defects) {
        let Run { class, y: top, .. } = self.runs[root];
        let mut pixels = 0u32;
        // Left and right ends on each grid line, upper and lower edges of rows both counted.
        self.left.clear();
        self.right.clear();
        let mut id = root as u32;
        while id != END {
            let run = self.runs[id as usize];
            pixels += u32::from(run.x1 - run.x0);
            let (x0, x1, y) = (i32::from(run.x0), i32::from(run.x1), i32::from(run.y));
            let line = usize::from(run.y - top);
            for (at, y) in [(line, y), (line + 1, y + 1)] {
                if self.left.len() <= at {
                    self.left.push((x0, y));
                    self.right.push((x1, y));
                }
                self.left[at].0 = self.left[at].0.min(x0);
                self.right[at].0 = self.right[at].0.max(x1);
            }
            id = run.next;
        }
        hull(&self.left, &mut self.left_hull, 1);
        hull(&self.right, &mut self.right_hull, -1);
        let (um_x, um_y) = place.um_per_mask_px;
        let length_mm = (longest(&self.left_hull, &self.right_hull, um_x, um_y) / 1000.0) as f32;
        let area_mm2 = (f64::from(pixels) * um_x * um_y / 1e6) as f32;
        let total = &mut defects.classes[usize::from(class) - 1];
        total.count += 1;
        total.length_mm = total.length_mm.max(length_mm);

        let at = defects
            .regions
            .iter()
            .position(|r| r.area_mm2 < area_mm2)
            .unwrap_or(defects.regions.len());
        if at == defects.regions.capacity() {
            return;
        }
        if defects.regions.is_full() {
            defects.regions.pop();
        }
        let x0 = self.left.iter().map(|p| p.0).min().unwrap_or(0);
        let x1 = self.right.iter().map(|p| p.0).max().unwrap_or(0);
        let y0 = i32::from(top);
        let y1 = y0 + self.left.len() as i32 - 1;
        let (x, width) = span(x0, x1, self.side, place.x, place.width, place.picture.0);
        let (y, height) = span(y0, y1, self.side, place.y, place.height, place.picture.1);
        defects.regions.insert(
            at,
            Region {
                class: class - 1,
                area_mm2,
                length_mm,
                x,
                y,
                width,
                height,
            },
        );
    }
}

/// Start and length in picture pixels of mask pixels from..to, whole ones, inside the picture.
fn span(from: i32, to: i32, side: usize, start: i32, extent: u32, picture: u32) -> (u16, u16) {
    let (side, start, extent) = (side as i64, i64::from(start), i64::from(extent));
    let most = i64::from(picture.min(u32::from(u16::MAX)));
    let low = (start + (i64::from(from) * extent).div_euclid(side)).clamp(0, most);
    let high = (start + (i64::from(to) * extent + side - 1).div_euclid(side)).clamp(low, most);
    (low as u16, (high - low) as u16)
}

/// The corners of the outline's convex hull on one side; `outwards` 1 for the
/// left ends of rows, -1 for the right ones. Points come in order of y.
fn hull(points: &[(i32, i32)], corners: &mut Vec<(i32, i32)>, outwards: i64) {
    corners.clear();
    for &c in points {
        while let [.., a, b] = corners[..] {
            let turn =
                i64::from(b.0 - a.0) * i64::from(c.1 - a.1) - i64::from(c.0 - a.0) * i64::from(b.1 - a.1);
            // b lies on the line from a to c, or inside of it.
            if turn * outwards < 0 {
                break;
            }
            corners.pop();
        }
        corners.push(c);
    }
}

/// Largest distance between any two of the corners, in the unit of the pixel sizes.
fn longest(left: &[(i32, i32)], right: &[(i32, i32)], x_scale: f64, y_scale: f64) -> f64 {
    let mut best = 0.0f64;
    let corners = || left.iter().chain(right);
    for (i, a) in corners().enumerate() {
        for b in corners().skip(i + 1) {
            let (dx, dy) = (f64::from(a.0 - b.0) * x_scale, f64::from(a.1 - b.1) * y_scale);
            best = best.max(dx * dx + dy * dy);
        }
    }
    best.sqrt()
}

#[cfg(test)]
mod tests;
