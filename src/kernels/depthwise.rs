//! Depthwise convolution, row by row: what all instruction sets share.
//!
//! Each channel sees only itself, so that nothing is to be gained from tiles: the kernel of the instruction set takes
//! the channels of one pixel, some dozens at a time, through all positions of the window.

use super::conv::ConvSpec;
use super::finish::{Finish, Residual};
use super::gemm::{Line, lines};
use super::layout::Layout;
use super::sources::Sources;
use super::store::{Output, Place, Store, WIDEST, store};
use std::ops::Range;

/// Appends the weights of a block, given their number of window positions, and the weight by position and channel.
pub type Pack = fn(usize, &dyn Fn(usize, usize) -> i8, &mut Vec<i8>);

/// What an instruction set brings.
pub struct Strips {
    /// Channels of a block, at most [`WIDEST`].
    pub block: usize,
    /// As many channels or fewer are repeated as often as a block holds them: its kernel then takes that many pixels.
    pub fold: usize,
    /// Where in a block's biases, scales and sums that of a channel stands.
    pub slot: fn(usize) -> usize,
    pub pack: Pack,
    /// The kernel takes the input's values less 128.
    pub signed: bool,
    /// See [`super::gemm::Tiles::careful`].
    pub careful: Option<&'static Strips>,
    pub row: unsafe fn(&mut Row),
}

/// One row's work.
pub struct Row<'a, 'b> {
    /// For the first window position one pointer per pixel; `step` further those of the next. `channels` bytes can be
    /// read from each.
    pub pointers: &'a [*const u8],
    pub step: usize,
    pub taps: usize,
    pub pixels: usize,
    pub channels: usize,
    pub slot: fn(usize) -> usize,
    /// By block, in the order of [`Strips::pack`]; `weights_block` bytes each. On a boundary of 64 bytes.
    pub weights: *const i8,
    pub weights_block: usize,
    /// By block. On a boundary of 64 bytes.
    pub bias: &'a [i32],
    pub scale: &'a [f32],
    pub finish: &'a Finish,
    pub residual: Option<(&'a Residual, &'a [u8])>,
    /// Of the first pixel, and from each pixel to the next.
    pub place: Place,
    pub across: Place,
    pub output: &'a mut Output<'b>,
}

impl Row<'_, '_> {
    /// What is added to the sums.
    #[inline(always)]
    pub fn added(&self) -> Option<&Residual> {
        self.residual.map(|(residual, _)| residual)
    }

    pub fn place(&self, pixel: usize) -> Place {
        Place {
            output: self.place.output + pixel * self.across.output,
            residual: self.place.residual + pixel * self.across.residual,
        }
    }

    /// Finishes and stores the sums of a block, in which the pixel's first channel is `first`: the way for all outputs that
    /// the kernel has no faster one for.
    #[inline(always)]
    pub fn store(&mut self, sums: &[i32], pixel: usize, channel: usize, first: usize) {
        let (mut ordered, mut scale) = ([0; WIDEST], [0.0; WIDEST]);
        let channels = (self.channels - channel).min(sums.len());
        for i in 0..channels {
            let slot = (self.slot)(first + i);
            ordered[i] = sums[slot];
            scale[i] = self.scale[channel + slot];
        }
        let mut place = self.place(pixel);
        place.output += channel;
        place.residual += channel;
        store(Store {
            sums: &ordered,
            width: WIDEST,
            channels,
            scale: &scale,
            finish: self.finish,
            residual: self.residual,
            places: &[place],
            output: self.output,
        });
    }
}

#[derive(Clone)]
pub struct Depthwise {
    strips: &'static Strips,
    output: Layout,
    input: Layout,
    sources: Sources,
    weights: Vec<Line<[i8; 64]>>,
    weights_block: usize,
    bias: Vec<Line<[i32; 16]>>,
    scale: Vec<Line<[f32; 16]>>,
    residual: Option<Residual>,
    finish: Finish,
}

impl std::fmt::Debug for Depthwise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Depthwise")
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl Depthwise {
    /// `None` for what these kernels do not do: see [`super::gemm::Gemm::new`].
    pub fn new(strips: &'static Strips, spec: &ConvSpec) -> Option<Depthwise> {
        let shape = spec.shape;
        let channels = shape.output.channels;
        if !shape.is_depthwise() || spec.weight_zero.iter().any(|z| *z != 0) {
            return None;
        }
        let strips = match strips.careful {
            Some(careful) if spec.weights.contains(&i8::MIN) => careful,
            _ => strips,
        };
        let taps = shape.depth();
        let blocks = channels.div_ceil(strips.block);
        let mut weights = Vec::new();
        let mut bias = vec![0; blocks * strips.block];
        let mut scale = vec![0.0; blocks * strips.block];
        let mut weights_block = 0;
        for start in (0..channels).step_by(strips.block) {
            let channel = |i: usize| {
                let i = if channels <= strips.fold {
                    i % strips.fold
                } else {
                    i
                };
                Some(start + i).filter(|&c| c < channels)
            };
            let of = |tap: usize, i: usize| channel(i).map_or(0, |c| spec.weights[c * taps + tap]);
            (strips.pack)(taps, &of, &mut weights);
            weights.resize(weights.len().next_multiple_of(64), 0);
            if start == 0 {
                weights_block = weights.len();
            }
            for i in 0..strips.block {
                let Some(channel) = channel(i) else { continue };
                let slot = start + (strips.slot)(i);
                let sum: i32 = (0..taps).map(|tap| i32::from(of(tap, i))).sum();
                let shift = if strips.signed { 128 } else { 0 } - i32::from(spec.input_zero);
                bias[slot] = spec.bias[channel].wrapping_add(shift.wrapping_mul(sum));
                scale[slot] = spec.scale[channel];
            }
        }
        Some(Depthwise {
            strips,
            output: shape.output,
            input: shape.input,
            sources: Sources::new(&shape, spec.input_zero, channels)?,
            weights: lines(&weights, 0),
            weights_block,
            bias: lines(&bias, 0),
            scale: lines(&scale, 0.0),
            residual: spec.residual,
            finish: spec.finish.clone(),
        })
    }

    pub fn scratch(&self) -> usize {
        (self.sources.taps() * self.output.width + 1) * size_of::<*const u8>() + self.sources.tail()
    }

    /// See [`super::conv::PackedConv::run`].
    pub fn run(
        &self,
        rows: Range<usize>,
        input: &[u8],
        residual: Option<&[u8]>,
        mut output: Output,
        scratch: &mut [u8],
    ) {
        let layout = &self.output;
        if self.output.values() == 0 {
            return;
        }
        assert!(rows.end <= layout.height && input.len() >= self.input.span());
        let taps = self.sources.taps();
        let (pointers, tail) = super::sources::pointers(scratch, taps * layout.width);
        let residual = self.residual.as_ref().zip(residual);
        for y in rows.clone() {
            let pixels = y * layout.width..(y + 1) * layout.width;
            self.sources.point(pixels, input, tail, pointers, layout.width);
            let (row, pixel) = match output {
                Output::Bytes(_) => (layout.row, layout.pixel),
                Output::Floats(_) => (layout.width * layout.channels, layout.channels),
            };
            let mut work = Row {
                pointers,
                step: layout.width,
                taps,
                pixels: layout.width,
                channels: layout.channels,
                slot: self.strips.slot,
                weights: self.weights.as_ptr().cast(),
                weights_block: self.weights_block,
                bias: super::gemm::flat(&self.bias),
                scale: super::gemm::flat(&self.scale),
                finish: &self.finish,
                residual,
                place: Place {
                    output: (y - rows.start) * row,
                    residual: residual.map_or(0, |(r, _)| y * r.layout.row),
                },
                across: Place {
                    output: pixel,
                    residual: residual.map_or(0, |(r, _)| r.layout.pixel),
                },
                output: &mut output,
            };
            // SAFETY: whoever has these strips has proved that the processor can run them. `Sources` made the pointers,
            // good for all channels; `new` made weights, biases and scales of whole blocks.
            unsafe { (self.strips.row)(&mut work) };
        }
    }
}
