//! Where the windows of a convolution look: one pointer for each window position of each output pixel.
//!
//! The tables are made once. While a kernel runs they become pointers for some pixels at a time, in the caller's
//! scratch memory; those outside of the input point to a pixel of zero points, so that no kernel knows of padding.

use super::conv::ConvShape;
use std::ops::Range;

/// Largest input in bytes. Offsets of 32 bits then keep a sign for what lies outside.
const LARGEST: usize = 1 << 30;

/// Most entries of the tables: a window of 7 × 7 over 4096 × 4096 pixels has 57,000.
const ENTRIES_MAX: usize = 1 << 20;

/// Outside of the input.
const OUTSIDE: i32 = -1;

#[derive(Clone, Debug)]
pub struct Sources {
    /// Output columns.
    width: usize,
    kernel: [usize; 2],
    /// By output row, then ky: where the input row begins.
    rows: Vec<i32>,
    /// By kx, then output column: where the pixel begins in its row.
    columns: Vec<i32>,
    /// By kx: the output columns that look inside.
    inside: Vec<Range<usize>>,
    /// Bytes between the pixels that neighbouring output columns look at.
    across: usize,
    /// What a kernel sees outside.
    padding: Vec<u8>,
    /// A kernel may read this many bytes from where a pixel begins, even where that is more than its channels.
    reach: usize,
    /// Length of the copy of the input's end; 0 where no pixel can reach beyond it.
    tail: usize,
}

impl Sources {
    /// `None` where the input or the tables would be too large.
    pub fn new(shape: &ConvShape, zero: u8, reach: usize) -> Option<Sources> {
        let input = &shape.input;
        let rows = shape.output.height.saturating_mul(shape.kernel[0]);
        let columns = shape.output.width.saturating_mul(shape.kernel[1]);
        if input.span() >= LARGEST || rows.saturating_add(columns) > ENTRIES_MAX {
            return None;
        }
        let offset = |axis: usize, at: usize, k: usize, length: usize, step: usize| {
            let index = (at * shape.stride[axis] + k * shape.dilation[axis]) as isize - shape.pad[axis];
            if index >= 0 && (index as usize) < length {
                (index as usize * step) as i32
            } else {
                OUTSIDE
            }
        };
        let mut rows = Vec::new();
        for y in 0..shape.output.height {
            rows.extend((0..shape.kernel[0]).map(|ky| offset(0, y, ky, input.height, input.row)));
        }
        let (mut columns, mut inside) = (Vec::new(), Vec::new());
        for kx in 0..shape.kernel[1] {
            let from = columns.len();
            columns.extend((0..shape.output.width).map(|x| offset(1, x, kx, input.width, input.pixel)));
            let of = &columns[from..];
            let first = of.iter().position(|&c| c >= 0).unwrap_or(of.len());
            let last = of.iter().rposition(|&c| c >= 0).map_or(first, |last| last + 1);
            inside.push(first..last);
        }
        Some(Sources {
            width: shape.output.width,
            kernel: shape.kernel,
            rows,
            columns,
            inside,
            across: shape.stride[1] * input.pixel,
            padding: vec![zero; reach],
            reach,
            tail: if reach > input.channels { 2 * reach } else { 0 },
        })
    }

    /// Pointers per pixel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Length of the copy that [`Self::point`] makes.
    pub fn tail(&self) -> usize {
        self.tail
    }

    /// Fills `pointers`: those of all `pixels` (counted row by row) for the first window position, then, `step`
    /// further, for the next. From each, `reach` bytes can be read, for as long as `self`, `input` and `tail` live and
    /// stay as they are. `tail` gets a copy of the end of the input, for pixels where reading would run over it.
    pub fn point(
        &self,
        pixels: Range<usize>,
        input: &[u8],
        tail: &mut [u8],
        pointers: &mut [*const u8],
        step: usize,
    ) {
        // From behind here, `reach` bytes may be more than there are.
        let safe = match self.tail {
            0 => input.len(),
            _ => input.len().saturating_sub(self.reach),
        };
        let copied = &input[safe..];
        // The copy is of at most `reach` bytes; from each of them as many can be read.
        assert!(tail.len() >= self.tail, "the copy of the input's end has no room");
        tail[..copied.len()].copy_from_slice(copied);
        let bases = Bases {
            input: input.as_ptr(),
            safe,
            short: self.tail > 0 && input.len() < self.reach,
            tail: tail.as_ptr(),
            padding: self.padding.as_ptr(),
        };
        let [height, width] = self.kernel;
        for ky in 0..height {
            for kx in 0..width {
                let pointers = &mut pointers[(ky * width + kx) * step..][..pixels.len()];
                let columns = &self.columns[kx * self.width..][..self.width];
                let (mut y, mut x, mut at) = (pixels.start / self.width, pixels.start % self.width, 0);
                while at < pointers.len() {
                    let run = (self.width - x).min(pointers.len() - at);
                    let inside = &self.inside[kx];
                    let inside = inside.start.max(x).min(x + run)..inside.end.min(x + run).max(x);
                    let pointers = &mut pointers[at..][..run];
                    let row = self.rows[y * height + ky];
                    if row < 0 || inside.is_empty() {
                        pointers.fill(bases.padding);
                    } else {
                        pointers[..inside.start - x].fill(bases.padding);
                        pointers[inside.end - x..].fill(bases.padding);
                        let pointers = &mut pointers[inside.start - x..inside.end - x];
                        bases.row((row + columns[inside.start]) as usize, self.across, pointers);
                    }
                    (y, x, at) = (y + 1, 0, at + run);
                }
            }
        }
    }
}

/// Where pointers begin.
struct Bases {
    input: *const u8,
    safe: usize,
    /// The whole input is shorter than what may be read: the copy is all there is.
    short: bool,
    tail: *const u8,
    padding: *const u8,
}

impl Bases {
    /// Pixels inside of the input, from offset `first` on.
    #[inline]
    fn row(&self, first: usize, across: usize, pointers: &mut [*const u8]) {
        if self.short || first + (pointers.len() - 1) * across > self.safe {
            for (i, pointer) in pointers.iter_mut().enumerate() {
                let offset = first + i * across;
                *pointer = if offset > self.safe || self.short {
                    self.tail.wrapping_add(offset - self.safe)
                } else {
                    self.input.wrapping_add(offset)
                };
            }
            return;
        }
        let mut at = self.input.wrapping_add(first);
        for pointer in pointers {
            *pointer = at;
            at = at.wrapping_add(across);
        }
    }
}

/// Writes what was made for one part of the weights for the others as well: see [`super::conv::ConvSpec::parts`].
pub fn repeat(pointers: &mut [*const u8], parts: usize) {
    let length = pointers.len() / parts;
    for part in 1..parts {
        pointers.copy_within(..length, part * length);
    }
}

/// Bytes that [`pointers`] needs for `taps` × `step` of them, wherever the memory begins.
pub fn room(taps: usize, step: usize) -> usize {
    let count = taps.saturating_mul(step).saturating_add(1);
    count.saturating_mul(size_of::<*const u8>())
}

/// Takes space for some pointers from the front of `scratch`; also returns what is left.
pub fn pointers(scratch: &mut [u8], count: usize) -> (&mut [*const u8], &mut [u8]) {
    let aligned = scratch.as_ptr().align_offset(align_of::<*const u8>());
    let (space, rest) = scratch[aligned..].split_at_mut(count * size_of::<*const u8>());
    // SAFETY: any bits are a pointer; to follow one is the follower's promise.
    let (_, pointers, _) = unsafe { space.align_to_mut::<*const u8>() };
    (pointers, rest)
}
