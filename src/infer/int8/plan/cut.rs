//! How the steps of a plan are cut into shares for a [`Team`](crate::kernels::team::Team).
//!
//! A step is cut between rows of its output, or, where rows are few, between panels of its output channels. Both give
//! the same bits as one thread alone: no sum is cut. Small steps stay whole: to hand out shares and to wait for the last
//! takes a few µs.

use super::{Kernel, Step};
use crate::kernels::conv::Panels;
use crate::kernels::isa::Isa;
use crate::kernels::layout::Layout;
use crate::kernels::team::THREADS_MAX;
use arrayvec::ArrayVec;
use std::ops::Range;

/// Whether to cut whatever can be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cutting {
    /// Only where it pays.
    #[default]
    Worthwhile,
    /// For tests, whose networks are small.
    Always,
}

/// Into how many shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Whole,
    Rows(usize),
    Panels(usize),
}

/// Shares for each thread of a large step: when a thread comes late, the others find something to do.
const SHARES_EACH: usize = 4;

pub const SHARES_MAX: usize = THREADS_MAX * SHARES_EACH;

/// A share that takes less time is not worth handing out, in ns.
const SHARE_NS: u64 = 4_000;

/// Pixels of a share of a convolution: with fewer, it waits for its weights.
const SHARE_PIXELS: usize = 64;

/// Rows that leave threads without work for more than a tenth of the time are cut by panels, which have to be put
/// together afterwards.
const EVEN_ENOUGH: f64 = 0.9;

impl Cut {
    pub fn new(step: &Step, isa: Isa, threads: usize, cutting: Cutting) -> Cut {
        let (rows, panels) = (step.layout.height, step.panels().map_or(1, Panels::count));
        let most = match cutting {
            _ if threads < 2 || step.layout.values() == 0 => 1,
            Cutting::Worthwhile => (nanoseconds(step, isa) / SHARE_NS).min(SHARES_MAX as u64) as usize,
            Cutting::Always => SHARES_MAX,
        };
        let threads = threads.min(most);
        if threads < 2 {
            return Cut::Whole;
        }
        let (by_rows, by_panels) = (evenness(rows, threads), evenness(panels, threads));
        if by_rows < EVEN_ENOUGH && by_panels > by_rows {
            return Cut::Panels(threads.min(panels));
        }
        let pixels = match step.kernel {
            Kernel::Conv { .. } | Kernel::ConvF32 { .. } if cutting == Cutting::Worthwhile => {
                rows * step.layout.width / SHARE_PIXELS
            }
            _ => usize::MAX,
        };
        let each = (most.min(pixels) / threads).clamp(1, SHARES_EACH);
        match (threads * each).min(rows) {
            0 | 1 => Cut::Whole,
            shares => Cut::Rows(shares),
        }
    }
}

/// Share of the time in which threads work, if each gets as many of these as another, or one less.
fn evenness(parts: usize, threads: usize) -> f64 {
    parts as f64 / parts.next_multiple_of(threads).max(1) as f64
}

/// Roughly: what matters is whether it is a few µs or many.
fn nanoseconds(step: &Step, isa: Isa) -> u64 {
    let values = step.layout.values() as u64;
    // What plain kernels look at for each value.
    let seen = |[height, width]: [usize; 2]| values * height.saturating_mul(width).min(64) as u64;
    match &step.kernel {
        Kernel::Conv { work, .. } | Kernel::ConvF32 { work, .. } => {
            work.saturating_mul(1_000) / isa.macs_per_us()
        }
        Kernel::FloatConv(conv) => conv.shape.macs() / 4,
        Kernel::FloatResize(_) => values * 4,
        Kernel::MaxPool(pool) => seen(pool.window.kernel) / 4,
        Kernel::AveragePool(pool) => seen(pool.window.kernel) / 2,
        Kernel::Bilinear(_) => values,
        Kernel::Quantize { .. } | Kernel::Requantize(_) => values / 2,
        Kernel::Binary(_) | Kernel::Gather(_) => values / 4,
        // Not cut.
        Kernel::Permute(_)
        | Kernel::Dequantize(_)
        | Kernel::Values(_)
        | Kernel::External { .. }
        | Kernel::Softmax(_) => 0,
    }
}

/// The `i`-th of `shares` even parts of so many rows, or of whatever else there are so many of.
pub fn part(of: usize, i: usize, shares: usize) -> Range<usize> {
    of * i / shares..of * (i + 1) / shares
}

/// Some rows of a step's output, with their place.
pub struct RowShare<'a> {
    pub rows: Range<usize>,
    /// What of it is bytes, and what is f32: one of the two is empty.
    pub bytes: &'a mut [u8],
    pub floats: &'a mut [f32],
}

/// All rows of a step's output, in shares.
pub fn rows<'a>(
    layout: &Layout,
    shares: usize,
    mut bytes: &'a mut [u8],
    mut floats: &'a mut [f32],
) -> ArrayVec<RowShare<'a>, SHARES_MAX> {
    let share = |i| {
        let rows = part(layout.height, i, shares);
        // The last row ends with its last value, not where a next one would begin.
        let length = match rows.end == layout.height {
            true => usize::MAX,
            false => rows.len() * layout.row,
        };
        RowShare {
            bytes: cut_off(&mut bytes, length),
            floats: cut_off(&mut floats, length),
            rows,
        }
    };
    (0..shares).map(share).collect()
}

/// Some panels of a convolution's output channels, with where they are put first: the channels of these panels alone,
/// pixel by pixel.
pub struct PanelShare<'a> {
    pub panels: Range<usize>,
    pub channels: Range<usize>,
    pub bytes: &'a mut [u8],
}

/// All panels of a convolution, in shares; `bytes` has room for its output.
pub fn panels<'a>(
    layout: &Layout,
    shares: usize,
    divided: Panels,
    mut bytes: &'a mut [u8],
) -> ArrayVec<PanelShare<'a>, SHARES_MAX> {
    let share = |i| {
        let panels = part(divided.count(), i, shares);
        let channels = divided.channels(panels.clone());
        let bytes = cut_off(&mut bytes, layout.height * layout.width * channels.len());
        PanelShare {
            panels,
            channels,
            bytes,
        }
    };
    (0..shares).map(share).collect()
}

impl PanelShare<'_> {
    /// Copies what was made to its place in the output.
    pub fn put(&self, layout: &Layout, output: &mut [u8]) {
        let width = self.channels.len();
        let mut pixels = self.bytes.chunks_exact(width.max(1));
        for y in 0..layout.height {
            for (x, from) in (0..layout.width).zip(&mut pixels) {
                layout.pixel_mut(output, y, x)[self.channels.clone()].copy_from_slice(from);
            }
        }
    }
}

/// Takes up to `length` values from the front.
fn cut_off<'a, T>(rest: &mut &'a mut [T], length: usize) -> &'a mut [T] {
    let all = std::mem::take(rest);
    let (front, behind) = all.split_at_mut(length.min(all.len()));
    *rest = behind;
    front
}

#[cfg(test)]
mod tests {
    use super::super::{Function, PackedConv};
    use super::*;
    use crate::kernels::conv::{ConvShape, ConvSpec};
    use crate::kernels::finish::Finish;
    use crate::kernels::spatial::Gather;

    fn step(kernel: Kernel, layout: Layout) -> Step {
        Step {
            kernel,
            output: 0..layout.span(),
            inputs: [0..0, 0..0],
            floats: 0..0,
            float_input: 0..0,
            layout,
        }
    }

    /// 1 × 1.
    fn conv([height, width]: [usize; 2], inputs: usize, outputs: usize) -> (PackedConv, ConvShape) {
        let shape = ConvShape {
            input: Layout::dense(height, width, inputs),
            output: Layout::dense(height, width, outputs),
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
            groups: 1,
        };
        let spec = ConvSpec {
            shape,
            weights: vec![1; inputs * outputs],
            weight_zero: Vec::new(),
            bias: vec![0; outputs],
            input_zero: 0,
            scale: vec![1.0; outputs],
            residual: None,
            finish: Finish::plain(0),
        };
        (PackedConv::new(Isa::best(), &spec).expect("it fits"), shape)
    }

    fn cut_of(size: [usize; 2], inputs: usize, outputs: usize, threads: usize) -> Cut {
        let (kernel, shape) = conv(size, inputs, outputs);
        let kernel = Kernel::Conv {
            kernel,
            residual: false,
            work: shape.macs(),
        };
        Cut::new(
            &step(kernel, shape.output),
            Isa::best(),
            threads,
            Cutting::Worthwhile,
        )
    }

    #[test]
    fn large_steps_are_cut_and_small_ones_are_not() {
        assert_eq!(cut_of([64, 64], 64, 256, 1), Cut::Whole);
        assert_eq!(cut_of([2, 2], 8, 8, 4), Cut::Whole);
        assert_eq!(cut_of([64, 64], 64, 256, 4), Cut::Rows(16));
        // Nothing to be divided, however many threads there are.
        assert_eq!(cut_of([0, 64], 64, 256, 4), Cut::Whole);
        let (kernel, shape) = conv([16, 4], 8, 8);
        let floats = Kernel::ConvF32 {
            kernel,
            first: 0,
            function: Function::Variable,
            work: shape.macs(),
        };
        let step = step(floats, shape.output);
        assert_eq!(Cut::new(&step, Isa::best(), 4, Cutting::Worthwhile), Cut::Whole);
        assert_eq!(Cut::new(&step, Isa::best(), 4, Cutting::Always), Cut::Rows(16));
    }

    #[test]
    fn few_rows_are_cut_by_panels_of_which_none_is_empty() {
        let (kernel, _) = conv([1, 1], 2_048, 4_000);
        let cut = cut_of([1, 1], 2_048, 4_000, 3);
        match kernel.panels() {
            Some(_) => assert_eq!(cut, Cut::Panels(3)),
            None => assert_eq!(cut, Cut::Whole),
        }
        let (kernel, shape) = conv([1, 1], 4, 70);
        let Some(divided) = kernel.panels() else { return };
        let count = divided.count();
        let mut bytes = [0; 70];
        for shares in 1..=count {
            let cut = panels(&shape.output, shares, divided, &mut bytes);
            assert!(cut.iter().all(|share| share.bytes.len() == share.channels.len()));
            assert!(cut.iter().all(|share| !share.panels.is_empty()));
            assert_eq!(cut.iter().map(|share| share.bytes.len()).sum::<usize>(), 70);
        }
        let kernel = Kernel::Conv {
            kernel,
            residual: false,
            work: 0,
        };
        let step = step(kernel, shape.output);
        for threads in 2..=THREADS_MAX {
            let cut = Cut::new(&step, Isa::best(), threads, Cutting::Always);
            let wanted = match count {
                1 => Cut::Whole,
                _ => Cut::Panels(threads.min(count)),
            };
            assert_eq!(cut, wanted);
        }
    }

    #[test]
    fn shares_begin_with_their_rows_and_leave_nothing_out() {
        let layout = Layout {
            height: 5,
            width: 3,
            channels: 2,
            pixel: 4,
            row: 20,
        };
        for shares in 1..=5 {
            let mut bytes: Vec<u8> = (0..layout.span() as u8).collect();
            let mut at = 0;
            for share in rows(&layout, shares, &mut bytes, &mut []) {
                assert_eq!(usize::from(share.bytes[0]), share.rows.start * layout.row);
                let of_rows = Layout {
                    height: share.rows.len(),
                    ..layout
                };
                assert!(share.bytes.len() >= of_rows.span() && share.floats.is_empty());
                at += share.bytes.len();
            }
            assert_eq!(at, layout.span());
        }
    }

    #[test]
    fn the_most_there_can_be_of_shares_have_room() {
        let layout = Layout::dense(4_096, 64, 8);
        let kernel = Kernel::Gather(Gather::copy(layout, layout, None));
        let cut = Cut::new(&step(kernel, layout), Isa::best(), THREADS_MAX, Cutting::Always);
        assert_eq!(cut, Cut::Rows(SHARES_MAX));
        assert_eq!(
            rows(&layout, SHARES_MAX, &mut vec![0; layout.span()], &mut []).len(),
            SHARES_MAX
        );
    }
}
