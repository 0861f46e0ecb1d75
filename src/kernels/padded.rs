//! A copy of some input rows with the padding written out: for inputs of few channels, whose window then is one run of
//! bytes per row instead of a few bytes per pixel.

use super::conv::ConvShape;
use super::gemm::POINTERS;
use super::layout::Layout;
use std::ops::Range;

/// Bytes of a copy, unless one output row needs more: half of a small first-level cache.
const COPY: usize = 16 * 1024;

/// A copy larger than this does not pay off: it leaves the second-level cache. Seven rows of a picture 4096 pixels wide
/// are 86 kB.
const COPY_MAX: usize = 256 * 1024;

/// Inputs of more channels fill their vectors without this.
const CHANNELS: usize = 8;

#[derive(Clone, Debug)]
pub struct PaddedRows {
    input: Layout,
    zero: u8,
    pad: [isize; 2],
    kernel: usize,
    dilation: usize,
    stride: usize,
    /// Bytes from an output column to the next.
    across: usize,
    /// Output columns.
    width: usize,
    /// Pixels and bytes of a row of the copy.
    columns: usize,
    row: usize,
    /// A kernel may read this many bytes from where a window's row begins.
    reach: usize,
    /// Output rows of one copy.
    pub rows: usize,
}

impl PaddedRows {
    /// `None` where this does not pay off or is not possible.
    pub fn new(shape: &ConvShape, zero: u8, reach: usize) -> Option<PaddedRows> {
        let [height, width] = shape.kernel;
        if shape.groups != 1 || !(1..=CHANNELS).contains(&shape.input.channels) || width < 2 || height == 0 {
            return None;
        }
        if shape.dilation[1] != 1 || shape.output.values() == 0 {
            return None;
        }
        let columns = (shape.output.width - 1) * shape.stride[1] + width;
        let row = columns.checked_mul(shape.input.channels)?;
        let first = ((height - 1) * shape.dilation[0] + 1).checked_mul(row)?;
        if first > COPY_MAX {
            return None;
        }
        let rows = 1 + COPY.saturating_sub(first) / (shape.stride[0] * row).max(1);
        let pointers = POINTERS / height.saturating_mul(shape.output.width);
        let rows = rows.min(pointers.max(1));
        Some(PaddedRows {
            input: shape.input,
            zero,
            pad: shape.pad,
            kernel: height,
            dilation: shape.dilation[0],
            stride: shape.stride[0],
            across: shape.stride[1] * shape.input.channels,
            width: shape.output.width,
            columns,
            row,
            reach,
            rows: rows.min(shape.output.height),
        })
    }

    /// Length of the copy, with what may be read behind it.
    pub fn bytes(&self) -> usize {
        self.height(self.rows) * self.row + self.reach
    }

    fn height(&self, rows: usize) -> usize {
        (rows - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
    }

    /// Copies what some output rows see, and fills `pointers`: those of all their pixels for the first row of the
    /// window, then, `step` further, for the next. From each, `reach` bytes can be read while `copy` stays.
    pub fn point(
        &self,
        rows: Range<usize>,
        input: &[u8],
        copy: &mut [u8],
        pointers: &mut [*const u8],
        step: usize,
    ) {
        let first = (rows.start * self.stride) as isize - self.pad[0];
        for (i, row) in copy
            .chunks_exact_mut(self.row)
            .take(self.height(rows.len()))
            .enumerate()
        {
            self.copy_row(first + i as isize, input, row);
        }
        let copy = copy.as_ptr();
        for ky in 0..self.kernel {
            for (i, pointers) in pointers[ky * step..]
                .chunks_exact_mut(self.width)
                .take(rows.len())
                .enumerate()
            {
                let row = copy.wrapping_add((i * self.stride + ky * self.dilation) * self.row);
                for (x, pointer) in pointers.iter_mut().enumerate() {
                    *pointer = row.wrapping_add(x * self.across);
                }
            }
        }
    }

    fn copy_row(&self, y: isize, input: &[u8], out: &mut [u8]) {
        if y < 0 || y as usize >= self.input.height {
            return out.fill(self.zero);
        }
        let (channels, pixel) = (self.input.channels, self.input.pixel);
        // Columns of the copy that the input has.
        let columns = self.columns as isize;
        let start = self.pad[1].clamp(0, columns);
        let end = (self.input.width as isize + self.pad[1]).clamp(start, columns);
        let (start, end) = (start as usize, end as usize);
        out[..start * channels].fill(self.zero);
        out[end * channels..].fill(self.zero);
        let out = &mut out[start * channels..end * channels];
        if out.is_empty() {
            return;
        }
        let from = self.input.at(y as usize, (start as isize - self.pad[1]) as usize);
        if pixel == channels {
            let length = out.len();
            out.copy_from_slice(&input[from..][..length]);
        } else {
            for (out, input) in out.chunks_exact_mut(channels).zip(input[from..].chunks(pixel)) {
                out.copy_from_slice(&input[..channels]);
            }
        }
    }
}
