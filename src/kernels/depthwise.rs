//! Depthwise convolution, row by row: what all instruction sets share.
//!
//! Each channel sees only itself, so that nothing is to be gained from tiles: the kernel of the instruction set takes
//! the channels of one pixel, some dozens at a time, through all positions of the window.

use super::conv::{ConvSpec, PARTS_MAX};
use super::finish::{Finish, Residual};
use super::gemm::{Line, SCRATCH_MAX, flat, lines};
use super::isa::Isa;
use super::layout::Layout;
use super::sources::{self, Sources};
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
    pub order: &'static Order,
    pub pack: Pack,
    /// The kernel takes the input's values less 128.
    pub signed: bool,
    /// See [`super::gemm::Tiles::careful`].
    pub careful: Option<&'static Strips>,
    /// # Safety
    /// The processor has the instruction set of these strips, and the row is as its fields say.
    pub row: unsafe fn(&mut Row),
}

/// The place of each channel of a block.
pub type Order = [u8; WIDEST];

/// Each at its own.
pub const IN_ORDER: Order = {
    let mut order = [0; WIDEST];
    let mut channel = 0;
    while channel < WIDEST {
        order[channel] = channel as u8;
        channel += 1;
    }
    order
};

/// One row's work.
pub struct Row<'a, 'b> {
    /// For the first of `taps` window positions one pointer for each of `pixels`; `step` further those of the next.
    /// `channels` bytes can be read from each.
    pub pointers: &'a [*const u8],
    pub step: usize,
    pub taps: usize,
    pub pixels: usize,
    pub channels: usize,
    pub order: &'static Order,
    /// By block, in the order of [`Strips::pack`]; `weights_block` bytes each. On a boundary of 64 bytes.
    pub weights: &'a [i8],
    pub weights_block: usize,
    /// Of whole blocks, in the order of the strips. On a boundary of 64 bytes.
    pub bias: &'a [i32],
    pub scale: &'a [f32],
    /// In the order of the channels.
    pub channel_scale: &'a [f32],
    pub finish: &'a Finish,
    pub residual: Option<(&'a Residual, &'a [u8])>,
    /// Of the first pixel, and from each pixel to the next.
    pub place: Place,
    pub across: Place,
    pub output: &'a mut Output<'b>,
}

impl Row<'_, '_> {
    /// Where those of a block begin. (A slice would be checked for each block of each pixel.)
    #[inline(always)]
    pub fn weights(&self, block: usize) -> *const i8 {
        self.weights.as_ptr().wrapping_add(block * self.weights_block)
    }

    #[inline(always)]
    pub fn place(&self, pixel: usize) -> Place {
        Place {
            output: self.place.output + pixel * self.across.output,
            residual: self.place.residual + pixel * self.across.residual,
        }
    }

    /// Finishes and stores the sums of a block, in which the pixel's first channel is `first`: the way for all outputs
    /// that the kernel has no faster one for.
    #[inline(always)]
    pub fn store(&mut self, sums: &[i32], pixel: usize, channel: usize, first: usize) {
        let channels = (self.channels - channel).min(sums.len());
        let mut ordered = [0; WIDEST];
        for (sum, &place) in ordered[..channels].iter_mut().zip(&self.order[first..]) {
            *sum = sums[usize::from(place)];
        }
        let mut place = self.place(pixel);
        place.output += channel;
        place.residual += channel;
        store(Store {
            sums: &ordered[..channels],
            width: channels,
            channels,
            scale: &self.channel_scale[channel..][..channels],
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
    /// See [`ConvSpec::parts`]: each is a window of its own over the same pixels.
    parts: usize,
    weights: Vec<Line<[i8; 64]>>,
    weights_block: usize,
    bias: Vec<Line<[i32; 16]>>,
    scale: Vec<Line<[f32; 16]>>,
    channel_scale: Vec<f32>,
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
    pub fn new(isa: Isa, spec: &ConvSpec) -> Option<Depthwise> {
        let strips = isa.strips()?;
        let shape = spec.shape;
        let channels = shape.output.channels;
        let parts = spec.parts();
        if !shape.is_depthwise() || parts > PARTS_MAX {
            return None;
        }
        let sources = Sources::new(&shape, spec.input_zero, channels)?;
        if scratch(&sources, parts, &shape.output) > SCRATCH_MAX {
            return None;
        }
        let strips = match strips.careful {
            Some(careful) if spec.weights.contains(&i8::MIN) => careful,
            _ => strips,
        };
        let taps = shape.depth();
        let shift = if strips.signed { 128 } else { 0 };
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
            let of = |tap: usize, i: usize| channel(i).map_or(0, |c| spec.part(c, tap % taps, tap / taps));
            (strips.pack)(taps * parts, &of, &mut weights);
            weights.resize(weights.len().next_multiple_of(64), 0);
            if start == 0 {
                weights_block = weights.len();
            }
            for i in 0..strips.block {
                let Some(channel) = channel(i) else { continue };
                let slot = start + usize::from(strips.order[i]);
                bias[slot] = spec.folded_bias(channel, shift);
                scale[slot] = spec.scale[channel];
            }
        }
        Some(Depthwise {
            strips,
            output: shape.output,
            input: shape.input,
            sources,
            parts,
            weights: lines(&weights, 0),
            weights_block,
            bias: lines(&bias, 0),
            scale: lines(&scale, 0.0),
            channel_scale: spec.scale.clone(),
            residual: spec.quick_residual(),
            finish: spec.finish.clone(),
        })
    }

    pub fn scratch(&self) -> usize {
        scratch(&self.sources, self.parts, &self.output)
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
        assert!(scratch.len() >= self.scratch() && rows.end <= layout.height);
        assert!(input.len() >= self.input.span());
        let taps = self.sources.taps() * self.parts;
        let (pointers, tail) = sources::pointers(scratch, taps * layout.width);
        let residual = self.residual.as_ref().zip(residual);
        for y in rows.clone() {
            let pixels = y * layout.width..(y + 1) * layout.width;
            self.sources.point(pixels, input, tail, pointers, layout.width);
            sources::repeat(pointers, self.parts);
            let mut work = Row {
                pointers,
                step: layout.width,
                taps,
                pixels: layout.width,
                channels: layout.channels,
                order: self.strips.order,
                weights: flat(&self.weights),
                weights_block: self.weights_block,
                bias: flat(&self.bias),
                scale: flat(&self.scale),
                channel_scale: &self.channel_scale,
                finish: &self.finish,
                residual,
                place: Place {
                    output: (y - rows.start) * layout.row,
                    residual: residual.map_or(0, |(r, _)| y * r.layout.row),
                },
                across: Place {
                    output: layout.pixel,
                    residual: residual.map_or(0, |(r, _)| r.layout.pixel),
                },
                output: &mut output,
            };
            // SAFETY: the strips came from an `Isa`, the proof that the processor can run them. `Sources` made the
            // pointers, good for all channels; `new` made weights, biases and scales of whole blocks.
            unsafe { (self.strips.row)(&mut work) };
        }
    }
}

fn scratch(sources: &Sources, parts: usize, output: &Layout) -> usize {
    sources::room(sources.taps() * parts, output.width).saturating_add(sources.tail())
}
