//! Convolution as a matrix product over pointers: what all instruction sets share.
//!
//! Output channels are cut into blocks of a few vectors, output pixels into tiles of a few rows. The sums of a tile are
//! made in registers by the instruction set's kernel, which takes four input values of each pixel at a time; then
//! they are finished and stored. Pixels are taken in groups whose input stays in the second-level cache while all
//! blocks of weights go over it.

use super::conv::{ConvShape, ConvSpec, PARTS_MAX};
use super::finish::{Finish, Residual};
use super::isa::Isa;
use super::layout::Layout;
use super::padded::PaddedRows;
use super::sources::{self, Sources};
use super::store::{Output, Place, Store};
use std::ops::Range;

/// Bytes of input that a group of pixels reads: half of the second-level cache that four small ARM cores share, an
/// eighth of what a larger core has for itself.
const GROUP: usize = 256 * 1024;

/// Pointers of a group: they should not push the weights out of the first-level cache.
pub const POINTERS: usize = 2048;

/// Fewer pixels are never a group: whole tiles of 16, 12, 8, 6 and 3 rows.
const TOGETHER: usize = 48;

/// Scratch beyond this (a window of thousands of positions) is no longer in any cache, and nothing that a network
/// needs.
pub const SCRATCH_MAX: usize = 8 << 20;

/// Most rows that are stored together; no tile has as many.
const PLACES: usize = 64;

/// Most sums that are stored together, and most of any tile.
pub const SUMS: usize = 512;

/// What an instruction set brings.
pub struct Tiles {
    /// Output channels of one vector.
    pub lanes: usize,
    /// Most rows of a tile by its number of vectors, less one.
    pub rows: &'static [usize],
    /// By number of vectors, then rows, each less one.
    pub sums: &'static [&'static [Sums]],
    /// Where in a vector of weights that of lane and k (0..4) stands.
    pub slot: fn(usize, usize) -> usize,
    /// The kernels take the input's values less 128.
    pub signed: bool,
    /// What to take instead where a weight is -128: kernels that add two products in 16 bits, where twice -128 × -128
    /// does not fit, have others beside them.
    pub careful: Option<&'static Tiles>,
    /// # Safety
    /// The processor has the instruction set of these tiles.
    pub store: unsafe fn(Store),
}

/// # Safety
/// The processor has the instruction set of the [`Tiles`], and the tile is as its fields say. It has `ROWS` rows of
/// `VECTORS` vectors: that many pointers can be read for each tap, that many weights and biases, and that many sums
/// written.
pub type Sums = unsafe fn(&Tile);

/// One tile's work.
pub struct Tile {
    /// For the first tap, one pointer for each row; `step` further those of the next tap. From `offset` bytes behind
    /// each, 4 × `quads` bytes can be read.
    pub pointers: *const *const u8,
    pub step: usize,
    pub offset: usize,
    pub taps: usize,
    pub quads: usize,
    /// By tap, quad and vector: 4 × lanes bytes. On a boundary of 64 bytes.
    pub weights: *const i8,
    /// By vector: lanes biases. On a boundary of 64 bytes.
    pub bias: *const i32,
    /// By row and vector: lanes sums. On a boundary of as many bytes as those of a vector.
    pub sums: *mut i32,
}

/// A [`Tiles::slot`]: the lanes one behind the other.
pub fn lane_by_lane(lane: usize, k: usize) -> usize {
    lane * 4 + k
}

/// Output channels that are computed together.
#[derive(Clone, Debug)]
struct Block {
    channels: Range<usize>,
    vectors: usize,
    /// Where its weights, and its bias and scale begin.
    weights: usize,
    constants: usize,
    /// Where its group's input channels begin.
    input: usize,
}

/// Where windows look: one pointer for each of their positions, or for each of their rows.
#[derive(Clone, Debug)]
enum Windows {
    Pixels(Sources),
    Rows(PaddedRows),
}

/// A piece of memory that begins with a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line<T>(pub T);

#[derive(Clone)]
pub struct Gemm {
    tiles: &'static Tiles,
    shape: ConvShape,
    windows: Windows,
    /// Weights that have zero points are in several parts. Each is a window of its own over the same pixels.
    parts: usize,
    /// Of all parts.
    taps: usize,
    quads: usize,
    blocks: Vec<Block>,
    weights: Vec<Line<[i8; 64]>>,
    bias: Vec<Line<[i32; 16]>>,
    scale: Vec<Line<[f32; 16]>>,
    /// Pixels of a group; half as many more where that saves a small one at the end.
    together: usize,
    residual: Option<Residual>,
    finish: Finish,
}

impl std::fmt::Debug for Gemm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gemm")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Gemm {
    /// `None` for what these kernels do not do: an `isa` without tiles, zero points of weights that are far from all
    /// bytes, inputs of a gigabyte, and windows so large that tables or scratch would be.
    pub fn new(isa: Isa, spec: &ConvSpec) -> Option<Gemm> {
        let tiles = isa.tiles()?;
        let shape = spec.shape;
        let tiles = match tiles.careful {
            Some(careful) if spec.weights.contains(&i8::MIN) => careful,
            _ => tiles,
        };
        let parts = spec.parts();
        if parts > PARTS_MAX {
            return None;
        }
        let inputs = shape.input.channels / shape.groups;
        let run = (shape.kernel[1] * inputs).next_multiple_of(4);
        let (windows, taps, run) = match PaddedRows::new(&shape, spec.input_zero, run) {
            Some(rows) => (Windows::Rows(rows), shape.kernel[0], run),
            None => {
                let run = inputs.next_multiple_of(4);
                let reach = shape.input.channels - inputs + run;
                let sources = Sources::new(&shape, spec.input_zero, reach)?;
                let taps = sources.taps();
                (Windows::Pixels(sources), taps, run)
            }
        };
        let mut gemm = Gemm {
            tiles,
            shape,
            windows,
            parts,
            taps: taps * parts,
            quads: run / 4,
            blocks: Vec::new(),
            weights: Vec::new(),
            bias: Vec::new(),
            scale: Vec::new(),
            together: 0,
            residual: spec.quick_residual(),
            finish: spec.finish.clone(),
        };
        gemm.together = match &gemm.windows {
            Windows::Rows(rows) => rows.rows * shape.output.width,
            Windows::Pixels(_) => {
                let fit = (GROUP / (taps * run).max(1)).min(POINTERS / gemm.taps.max(1));
                fit.max(TOGETHER)
            }
        };
        if gemm.scratch() > SCRATCH_MAX {
            return None;
        }
        gemm.pack(spec);
        Some(gemm)
    }

    fn pack(&mut self, spec: &ConvSpec) {
        let (shape, lanes) = (&self.shape, self.tiles.lanes);
        let per_group = shape.output.channels / shape.groups;
        let shift = if self.tiles.signed { 128 } else { 0 };
        let (mut weights, mut bias, mut scale) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..shape.groups {
            let mut vectors = per_group.div_ceil(lanes);
            let mut blocks = vectors.div_ceil(self.tiles.rows.len());
            let mut start = group * per_group;
            let end = start + per_group;
            while blocks > 0 {
                // As even as can be: three and three vectors are better than four and two.
                let here = vectors.div_ceil(blocks);
                let block = Block {
                    channels: start..(start + here * lanes).min(end),
                    vectors: here,
                    weights: weights.len(),
                    constants: bias.len(),
                    input: group * (shape.input.channels / shape.groups),
                };
                self.pack_block(spec, &block, &mut weights);
                for i in 0..(here * lanes).next_multiple_of(16) {
                    let channel = block.channels.start + i;
                    let valid = channel < block.channels.end;
                    bias.push(if valid {
                        spec.folded_bias(channel, shift)
                    } else {
                        0
                    });
                    scale.push(if valid { spec.scale[channel] } else { 0.0 });
                }
                start += here * lanes;
                (vectors, blocks) = (vectors - here, blocks - 1);
                self.blocks.push(block);
            }
        }
        self.weights = lines(&weights, 0);
        self.bias = lines(&bias, 0);
        self.scale = lines(&scale, 0.0);
    }

    /// By tap, quad, vector, and in the vector as the instruction set wants it.
    fn pack_block(&self, spec: &ConvSpec, block: &Block, weights: &mut Vec<i8>) {
        let lanes = self.tiles.lanes;
        let taps = self.taps / self.parts;
        // Weights of a tap: without the fill.
        let run = spec.shape.depth() / taps.max(1);
        for (part, tap) in (0..self.parts).flat_map(|part| (0..taps).map(move |tap| (part, tap))) {
            for quad in 0..self.quads {
                for vector in 0..block.vectors {
                    let at = weights.len();
                    weights.resize(at + 4 * lanes, 0);
                    let out = &mut weights[at..];
                    for lane in 0..lanes {
                        let channel = block.channels.start + vector * lanes + lane;
                        if channel >= block.channels.end {
                            continue;
                        }
                        for k in 0..4usize.min(run - (quad * 4).min(run)) {
                            let weight = spec.part(channel, tap * run + quad * 4 + k, part);
                            out[(self.tiles.slot)(lane, k)] = weight;
                        }
                    }
                }
            }
        }
        weights.resize(weights.len().next_multiple_of(64), 0);
    }

    /// Space between the pointers of a tap and those of the next.
    fn step(&self) -> usize {
        let most = match &self.windows {
            Windows::Pixels(_) => self.together + self.together / 2,
            Windows::Rows(_) => self.together,
        };
        most.min(self.shape.output.height * self.shape.output.width)
    }

    fn copy(&self) -> usize {
        match &self.windows {
            Windows::Pixels(sources) => sources.tail(),
            Windows::Rows(rows) => rows.bytes(),
        }
    }

    pub fn scratch(&self) -> usize {
        sources::room(self.taps, self.step()).saturating_add(self.copy())
    }

    /// See [`super::conv::PackedConv::run`].
    pub fn run(
        &self,
        rows: Range<usize>,
        input: &[u8],
        residual: Option<&[u8]>,
        output: Output,
        scratch: &mut [u8],
    ) {
        let panel = Panel {
            blocks: &self.blocks,
            layout: self.shape.output,
            first: 0,
        };
        self.run_panel(panel, rows, input, residual, output, scratch);
    }

    /// See [`super::conv::Panels`], also for the next two.
    pub fn panels(&self) -> usize {
        self.blocks.len()
    }

    pub fn panel_channels(&self, panels: Range<usize>) -> Range<usize> {
        let blocks = &self.blocks[panels];
        match (blocks.first(), blocks.last()) {
            (Some(first), Some(last)) => first.channels.start..last.channels.end,
            _ => 0..0,
        }
    }

    pub fn run_panels(
        &self,
        panels: Range<usize>,
        input: &[u8],
        residual: Option<&[u8]>,
        output: Output,
        scratch: &mut [u8],
    ) {
        let Layout { height, width, .. } = self.shape.output;
        let channels = self.panel_channels(panels.clone());
        let panel = Panel {
            blocks: &self.blocks[panels],
            layout: Layout::dense(height, width, channels.len()),
            first: channels.start,
        };
        self.run_panel(panel, 0..height, input, residual, output, scratch);
    }

    fn run_panel(
        &self,
        panel: Panel,
        rows: Range<usize>,
        input: &[u8],
        residual: Option<&[u8]>,
        output: Output,
        scratch: &mut [u8],
    ) {
        let width = self.shape.output.width;
        if rows.is_empty() || self.shape.output.values() == 0 {
            return;
        }
        assert!(scratch.len() >= self.scratch() && rows.end <= self.shape.output.height);
        assert!(input.len() >= self.shape.input.span());
        let (pointers, copy) = sources::pointers(scratch, self.taps * self.step());
        let mut pass = Pass {
            gemm: self,
            panel,
            first_row: rows.start,
            residual: self.residual.as_ref().zip(residual),
            output,
            pointers,
        };
        let end = rows.end * width;
        let mut at = rows.start * width;
        while at < end {
            let rest = end - at;
            let next = match &self.windows {
                Windows::Pixels(_) => at + rest.div_ceil(((rest + self.together / 2) / self.together).max(1)),
                Windows::Rows(_) => at + self.together.min(rest),
            };
            match &self.windows {
                Windows::Pixels(sources) => {
                    sources.point(at..next, input, copy, pass.pointers, self.step());
                }
                Windows::Rows(padded) => {
                    padded.point(at / width..next / width, input, copy, pass.pointers, self.step());
                }
            }
            sources::repeat(pass.pointers, self.parts);
            pass.group(at..next);
            at = next;
        }
    }
}

/// Some of the output channels, and where they go.
struct Panel<'a> {
    blocks: &'a [Block],
    /// Of the output.
    layout: Layout,
    /// The channel that its first one is.
    first: usize,
}

/// One run over some rows.
struct Pass<'a> {
    gemm: &'a Gemm,
    panel: Panel<'a>,
    first_row: usize,
    residual: Option<(&'a Residual, &'a [u8])>,
    output: Output<'a>,
    pointers: &'a mut [*const u8],
}

impl Pass<'_> {
    /// All output channels of some pixels, whose pointers are there.
    fn group(&mut self, pixels: Range<usize>) {
        let gemm = self.gemm;
        let mut sums = Line([0i32; SUMS]);
        let mut places = [Place::default(); PLACES];
        for block in self.panel.blocks {
            let kernels = gemm.tiles.sums[block.vectors - 1];
            let most = gemm.tiles.rows[block.vectors - 1];
            let width = block.vectors * gemm.tiles.lanes;
            assert!(
                most <= PLACES && most * width <= SUMS,
                "a tile has more sums than room"
            );
            let mut tile = Tile {
                // A window of nothing has no pointers.
                pointers: self.pointers.as_ptr(),
                step: gemm.step(),
                offset: block.input,
                taps: gemm.taps,
                quads: gemm.quads,
                weights: flat(&gemm.weights)[block.weights..].as_ptr(),
                bias: flat(&gemm.bias)[block.constants..].as_ptr(),
                sums: sums.0.as_mut_ptr(),
            };
            let mut place = self.start(block, pixels.start);
            // As even as can be: a tile of one row would wait for its own sums.
            let tiles = pixels.len().div_ceil(most);
            let (rows, larger) = (pixels.len() / tiles, pixels.len() % tiles);
            let mut filled = 0;
            for i in 0..tiles {
                let rows = rows + usize::from(i < larger);
                tile.sums = sums.0[filled * width..].as_mut_ptr();
                // SAFETY: the tiles came from an `Isa`, the proof that the processor can run them. `Sources` or
                // `PaddedRows` filled the pointers of these pixels for every tap, each good for the group's offset and
                // 4 × quads bytes more; `pack` filled weights and bias; room for the sums was
                // asserted above and is made again below.
                unsafe { kernels[rows - 1](&tile) };
                tile.pointers = tile.pointers.wrapping_add(rows);
                for place_of in &mut places[filled..filled + rows] {
                    *place_of = place.next();
                }
                filled += rows;
                // Several tiles are stored at once, for it takes time to prepare that.
                if i + 1 == tiles || filled + most > PLACES.min(SUMS / width) {
                    self.store(block, &sums.0, &places[..filled]);
                    filled = 0;
                }
            }
        }
    }

    fn store(&mut self, block: &Block, sums: &[i32], places: &[Place]) {
        let gemm = self.gemm;
        let width = block.vectors * gemm.tiles.lanes;
        let scale = &flat(&gemm.scale)[block.constants..][..width];
        let store = Store {
            sums,
            width,
            channels: block.channels.len(),
            scale,
            finish: &gemm.finish,
            residual: self.residual,
            places,
            output: &mut self.output,
        };
        // SAFETY: the tiles came from an `Isa`.
        unsafe { (gemm.tiles.store)(store) };
    }

    /// The place of a pixel's first channel of a block.
    fn start(&self, block: &Block, pixel: usize) -> Cursor {
        let layout = &self.panel.layout;
        let (y, x) = (pixel / layout.width, pixel % layout.width);
        let added = self.residual.map(|(residual, _)| &residual.layout);
        Cursor {
            left: layout.width - x,
            width: layout.width,
            place: Place {
                output: layout.at(y - self.first_row, x) + block.channels.start - self.panel.first,
                residual: added.map_or(0, |l| l.at(y, x)) + block.channels.start,
            },
            across: Place {
                output: layout.pixel,
                residual: added.map_or(0, |l| l.pixel),
            },
            down: Place {
                output: layout.row.wrapping_sub(layout.width * layout.pixel),
                residual: added.map_or(0, |l| l.row.wrapping_sub(l.width * l.pixel)),
            },
        }
    }
}

/// Goes over the output's pixels.
struct Cursor {
    /// Pixels from here to the end of the row, and of a whole one.
    left: usize,
    width: usize,
    place: Place,
    /// From a pixel to the next, and from what would be the next at the end of a row to where it is. (Of a layout of one
    /// pixel per row, that may be less than nothing.)
    across: Place,
    down: Place,
}

impl Cursor {
    #[inline]
    fn next(&mut self) -> Place {
        let place = self.place;
        self.go(self.across);
        self.left -= 1;
        if self.left == 0 {
            self.left = self.width;
            self.go(self.down);
        }
        place
    }

    #[inline]
    fn go(&mut self, by: Place) {
        self.place.output = self.place.output.wrapping_add(by.output);
        self.place.residual = self.place.residual.wrapping_add(by.residual);
    }
}

/// Values as lines of memory.
pub fn lines<T: Copy, const N: usize>(values: &[T], fill: T) -> Vec<Line<[T; N]>> {
    let line = |values: &[T]| Line(std::array::from_fn(|i| values.get(i).copied().unwrap_or(fill)));
    values.chunks(N).map(line).collect()
}

/// Lines of memory as values.
pub fn flat<T, const N: usize>(lines: &[Line<[T; N]>]) -> &[T] {
    const { assert!(size_of::<Line<[T; N]>>() == N * size_of::<T>()) };
    // SAFETY: a line is its values and nothing else, as the line above asserts, and they stand side by side.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * N) }
}
