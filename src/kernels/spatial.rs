//! What moves or gathers pixels: pooling, resizing, padding, cropping, copies with a table.

use super::check::{self, Misfit, ensure};
use super::finish::Finish;
use super::isa::Isa;
use super::layout::Layout;
use super::portable::{AveragePoolRows, BilinearRows, GatherRows, MaxPoolRows};
use std::ops::Range;
use std::sync::Arc;

/// The largest value of a window, then `table`. What lies outside of the input does not count; every window has to
/// see some of it.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool {
    pub window: Window,
    pub table: Option<Arc<[u8]>>,
}

/// Sum of (value − zero) over a window × (factor / count), then `finish`. What lies outside adds nothing. A window has
/// fewer than 2²³ pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct AveragePool {
    pub window: Window,
    pub zero: u8,
    /// A step of the input in steps of the output.
    pub factor: f32,
    /// By output row and by output column, none of them 0; the count is their product. (Whether padding counts is
    /// decided here.)
    pub counts: [Vec<u32>; 2],
    pub finish: Finish,
}

/// Like the windows of [`super::conv::ConvShape`]; input and output have the same channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub input: Layout,
    pub output: Layout,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pad: [isize; 2],
}

impl Window {
    /// That its indices can be counted, and that input and output have the same channels.
    fn check(&self) -> Result<(), Misfit> {
        same_channels(&self.input, &self.output)?;
        for (axis, length) in [self.output.height, self.output.width].into_iter().enumerate() {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            check::axis(length, kernel, stride, self.dilation[axis], self.pad[axis])?;
        }
        Ok(())
    }

    /// Of the windows that belong to output index `at`, those inside the input, along axis 0 (y) or 1 (x).
    #[inline(always)]
    pub fn inside(&self, axis: usize, at: usize) -> Range<usize> {
        let length = [self.input.height, self.input.width][axis] as isize;
        let start = (at * self.stride[axis]) as isize - self.pad[axis];
        let positions = |distance: isize| {
            let distance = distance.max(0) as usize;
            let count = match self.dilation[axis] {
                // A division for each pixel would be felt.
                1 => distance,
                dilation => distance.div_ceil(dilation),
            };
            count.min(self.kernel[axis])
        };
        positions(-start)..positions(length - start)
    }

    /// The input index that window index `k` of output index `at` sees; `k` is one of [`Self::inside`].
    #[inline(always)]
    pub fn source(&self, axis: usize, at: usize, k: usize) -> usize {
        ((at * self.stride[axis] + k * self.dilation[axis]) as isize - self.pad[axis]) as usize
    }
}

/// In [`Gather`]: this output row or column shows no input.
pub const NOWHERE: u32 = u32::MAX;

/// Output pixel (y, x) is input pixel (`rows[y]`, `columns[x]`) or `fill`, then `table`. Nearest resize, padding of all
/// kinds, cropping, and plain copies. Input and output have the same channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    pub input: Layout,
    pub output: Layout,
    pub rows: Vec<u32>,
    pub columns: Vec<u32>,
    /// Before the table.
    pub fill: u8,
    pub table: Option<Arc<[u8]>>,
}

impl Gather {
    /// Every pixel where it was.
    pub fn copy(input: Layout, output: Layout, table: Option<Arc<[u8]>>) -> Gather {
        Gather {
            input,
            output,
            rows: (0..input.height as u32).collect(),
            columns: (0..input.width as u32).collect(),
            fill: 0,
            table,
        }
    }
}

/// Between two input rows or columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap {
    pub first: u32,
    pub second: u32,
    /// What the two count for, each from 0 to 1.
    pub weights: [f32; 2],
}

/// Bilinear resize, of values in f32 as `Resize` reckons it; where an output lies between the same four pixels again and
/// again, many results are halves of a step, and another order of the same sum would decide them otherwise.
///
/// With a value v = (byte − zero) × scale, the row's weights (r, s) and the column's (p, q), and the pixels one after the
/// other: (v × (p × r) + v × (q × r) + v × (p × s) + v × (q × s)) / step, then `finish`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bilinear {
    pub input: Layout,
    pub output: Layout,
    pub rows: Vec<Tap>,
    pub columns: Vec<Tap>,
    pub zero: u8,
    /// The size of the input's steps.
    pub scale: f32,
    /// That of the output's.
    pub step: f32,
    pub finish: Finish,
}

fn same_channels(input: &Layout, output: &Layout) -> Result<(), Misfit> {
    input.check()?;
    output.check()?;
    ensure(
        input.channels == output.channels,
        "a copy between tensors of different numbers of channels",
    )
}

impl MaxPool {
    /// That it can run.
    pub fn check(&self) -> Result<(), Misfit> {
        self.window.check()?;
        check::table(self.table.as_deref())
    }

    /// `input` is the whole tensor, `output` begins with the first row of `rows`.
    ///
    /// # Panics
    /// Where a slice is shorter, or [`Self::check`] finds something.
    pub fn run(&self, isa: Isa, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
        isa.run(MaxPoolRows {
            spec: self,
            rows,
            input,
            output,
        });
    }
}

/// Pixels of a window of [`AveragePool`]: their sum, of 8 bits each, keeps to 31 bits.
const WINDOW_MAX: usize = 1 << 23;

impl AveragePool {
    /// That it can run, and that no sum overflows.
    pub fn check(&self) -> Result<(), Misfit> {
        let Window {
            input,
            output,
            kernel,
            ..
        } = &self.window;
        self.window.check()?;
        let [height, width] = [kernel[0].min(input.height), kernel[1].min(input.width)];
        ensure(
            height.saturating_mul(width) < WINDOW_MAX,
            "a mean over too many pixels",
        )?;
        let [down, across] = &self.counts;
        ensure(
            down.len() == output.height && across.len() == output.width,
            "a mean with another number of counts than of windows",
        )?;
        let most = |counts: &[u32]| counts.iter().copied().max().unwrap_or(0);
        ensure(
            !down.contains(&0) && !across.contains(&0) && most(down).checked_mul(most(across)).is_some(),
            "a mean over no pixels, or over too many",
        )?;
        self.finish.check()
    }

    /// `input` is the whole tensor, `output` begins with the first row of `rows`.
    ///
    /// # Panics
    /// Where a slice is shorter, or [`Self::check`] finds something.
    pub fn run(&self, isa: Isa, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
        isa.run(AveragePoolRows {
            spec: self,
            rows,
            input,
            output,
        });
    }
}

impl Gather {
    /// That every pixel is there.
    pub fn check(&self) -> Result<(), Misfit> {
        same_channels(&self.input, &self.output)?;
        ensure(
            self.rows.len() == self.output.height && self.columns.len() == self.output.width,
            "a copy of another number of pixels than there are",
        )?;
        let inside =
            |map: &[u32], length: usize| map.iter().all(|&at| at == NOWHERE || (at as usize) < length);
        ensure(
            inside(&self.rows, self.input.height) && inside(&self.columns, self.input.width),
            "a copy of pixels outside of the input",
        )?;
        check::table(self.table.as_deref())
    }

    /// `input` is the whole tensor, `output` begins with the first row of `rows`.
    ///
    /// # Panics
    /// Where a slice is shorter, or [`Self::check`] finds something.
    pub fn run(&self, isa: Isa, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
        isa.run(GatherRows {
            spec: self,
            rows,
            input,
            output,
        });
    }
}

impl Tap {
    /// One row or column, as it is.
    pub fn one(at: u32) -> Tap {
        Tap {
            first: at,
            second: at,
            weights: [1.0, 0.0],
        }
    }

    /// The weights of the four pixels between this column and a row: first row, first column; first row, second column;
    /// and so on.
    #[inline(always)]
    pub fn with_row(&self, row: &Tap) -> [f32; 4] {
        let ([p, q], [r, s]) = (self.weights, row.weights);
        [p * r, q * r, p * s, q * s]
    }
}

impl Bilinear {
    /// That every pixel is there.
    pub fn check(&self) -> Result<(), Misfit> {
        same_channels(&self.input, &self.output)?;
        ensure(
            self.rows.len() == self.output.height && self.columns.len() == self.output.width,
            "a resize of another number of pixels than there are",
        )?;
        let inside = |taps: &[Tap], length: usize| {
            let mut taps = taps.iter();
            taps.all(|tap| (tap.first.max(tap.second) as usize) < length)
        };
        ensure(
            inside(&self.rows, self.input.height) && inside(&self.columns, self.input.width),
            "a resize of pixels outside of the input",
        )?;
        self.finish.check()
    }

    /// `input` is the whole tensor, `output` begins with the first row of `rows`.
    ///
    /// # Panics
    /// Where a slice is shorter, or [`Self::check`] finds something.
    pub fn run(&self, isa: Isa, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
        isa.run(BilinearRows {
            spec: self,
            rows,
            input,
            output,
        });
    }
}
