//! What moves or gathers pixels: pooling, resizing, padding, cropping, copies with a table.

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

/// Sum of (value − zero) over a window × (factor / count), then `finish`. What lies outside adds nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct AveragePool {
    pub window: Window,
    pub zero: u8,
    /// A step of the input in steps of the output.
    pub factor: f32,
    /// By output row and by output column; the count is their product. (Whether padding counts is decided here.)
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
    /// Of the windows that belong to output index `at`, those inside the input, along axis 0 (y) or 1 (x).
    #[inline(always)]
    pub fn inside(&self, axis: usize, at: usize) -> Range<usize> {
        let length = [self.input.height, self.input.width][axis] as isize;
        let start = (at * self.stride[axis]) as isize - self.pad[axis];
        let step = self.dilation[axis] as isize;
        let first = (-start).max(0).div_ceil_by(step);
        let last = (length - start).max(0).div_ceil_by(step);
        let kernel = self.kernel[axis];
        (first as usize).min(kernel)..(last as usize).min(kernel)
    }

    /// The input index that window index `k` of output index `at` sees; `k` is one of [`Self::inside`].
    #[inline(always)]
    pub fn source(&self, axis: usize, at: usize, k: usize) -> usize {
        ((at * self.stride[axis] + k * self.dilation[axis]) as isize - self.pad[axis]) as usize
    }
}

trait DivCeil {
    fn div_ceil_by(self, by: isize) -> isize;
}

impl DivCeil for isize {
    /// Of a number that is not negative.
    fn div_ceil_by(self, by: isize) -> isize {
        (self + by - 1) / by
    }
}

/// In [`Gather`]: this output row or column shows no input.
pub const NOWHERE: u32 = u32::MAX;

/// Output pixel (y, x) is input pixel (`rows[y]`, `columns[x]`) or `fill`, then `table`. Nearest resize, padding of all
/// kinds, cropping, and plain copies.
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

    pub fn is_copy(&self) -> bool {
        let straight = |map: &[u32], length: usize| {
            map.len() == length && map.iter().enumerate().all(|(i, &m)| m as usize == i)
        };
        straight(&self.rows, self.input.height) && straight(&self.columns, self.input.width)
    }
}

/// Weights of a [`Tap`] sum to this.
pub const TAP_ONE: i32 = 2048;

/// Between two input rows or columns: `first` × (TAP_ONE − weight) + `second` × weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    pub first: u32,
    pub second: u32,
    pub weight: i32,
}

/// Bilinear resize. With values less `zero`, the integer sum over four pixels with the products of both weights
/// (22 bits), as f32 × `factor`, then `finish`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bilinear {
    pub input: Layout,
    pub output: Layout,
    pub rows: Vec<Tap>,
    pub columns: Vec<Tap>,
    pub zero: u8,
    /// A step of the input in steps of the output, divided by TAP_ONE².
    pub factor: f32,
    pub finish: Finish,
}

impl MaxPool {
    pub fn run(&self, isa: Isa, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
        isa.run(MaxPoolRows {
            spec: self,
            rows,
            input,
            output,
        });
    }
}

impl AveragePool {
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
    pub fn run(&self, isa: Isa, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
        isa.run(GatherRows {
            spec: self,
            rows,
            input,
            output,
        });
    }
}

impl Bilinear {
    pub fn run(&self, isa: Isa, rows: Range<usize>, input: &[u8], output: &mut [u8]) {
        isa.run(BilinearRows {
            spec: self,
            rows,
            input,
            output,
        });
    }
}
