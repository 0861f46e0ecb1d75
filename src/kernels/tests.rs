//! Every kernel of every instruction set of this processor against the reference, over one matrix of sizes:
//! below, at and above the widths of vectors and tiles; parts of wider tensors; extreme values; rows in parts. A guard
//! around each output tells whether anything else was written.

mod binary;
mod conv;
mod float;
mod spatial;

use super::finish::{Finish, WIDE};
use super::isa::Isa;
use super::layout::Layout;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

/// None, and channel counts around the widths of vectors (4, 8, 16, 32, 64) and tiles.
const CHANNELS: [usize; 17] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 67];

/// A generator of numbers that is the same everywhere (SplitMix64).
struct Dice(u64);

/// Bytes that begin where no vector would.
struct Bytes {
    bytes: Vec<u8>,
    start: usize,
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// The ends of the range come often.
    fn byte(&mut self) -> u8 {
        match self.below(8) {
            0 => 255,
            1 => 0,
            2 => 128,
            _ => self.next() as u8,
        }
    }

    /// On no boundary.
    fn bytes(&mut self, n: usize) -> Bytes {
        let start = 1 + self.below(3);
        let bytes = (0..start + n).map(|_| self.byte()).collect();
        Bytes { bytes, start }
    }

    fn weights(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| self.byte().wrapping_add(128) as i8).collect()
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    fn table(&mut self, n: usize) -> Arc<[u8]> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    fn finish(&mut self) -> Finish {
        let zero = self.byte();
        match self.below(6) {
            0 => Finish::plain(zero),
            1 => Finish {
                low: zero.into(),
                ..Finish::plain(zero)
            },
            2 => Finish {
                low: 1,
                high: 254,
                table: Some(self.table(256)),
                ..Finish::plain(zero)
            },
            // Zero points outside of the steps.
            3 => Finish {
                zero: self.below(601) as i32 - 300,
                low: self.below(3) as i32,
                high: 255 - self.below(3) as i32,
                table: None,
            },
            4 => Finish {
                zero: self.below(32_767) as i32 - 16_383,
                low: self.below(3) as i32,
                high: 255,
                table: (self.below(2) == 0).then(|| self.table(256)),
            },
            _ => Finish {
                zero: self.below(WIDE) as i32,
                low: 0,
                high: WIDE as i32 - 1,
                table: Some(self.table(WIDE)),
            },
        }
    }

    /// Dense, or as part of something wider.
    fn layout(&mut self, height: usize, width: usize, channels: usize) -> Layout {
        let mut layout = Layout::dense(height, width, channels);
        if self.below(2) == 0 {
            layout.pixel += self.below(40);
            layout.row = layout.pixel * (width + self.below(3));
        }
        layout
    }
}

const GUARD: u8 = 0xa5;

/// Guards before an output: it too begins on no boundary.
const BEFORE: usize = 3;

/// Runs `kernel` over the rows in parts; the bytes before, between and behind the values are the guard's.
fn in_parts(
    layout: &Layout,
    parts: &[Range<usize>],
    mut kernel: impl FnMut(Range<usize>, &mut [u8]),
) -> Vec<u8> {
    let mut output = vec![GUARD; BEFORE + layout.span() + 64];
    for rows in parts {
        let part = Layout {
            height: rows.len(),
            ..*layout
        };
        // No row is left behind the last one, and there are no bytes for it either.
        let start = BEFORE + (rows.start * layout.row).min(layout.span());
        kernel(rows.clone(), &mut output[start..start + part.span()]);
    }
    output
}

fn parts(height: usize, dice: &mut Dice) -> Vec<Range<usize>> {
    let cut = dice.below(height + 1);
    vec![0..cut, cut..height]
}

fn wanted(layout: &Layout, kernel: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut output = vec![GUARD; BEFORE + layout.span() + 64];
    kernel(&mut output[BEFORE..]);
    output
}

/// For comparisons to the bit: zeros of both signs are equal, and what is not a number is not.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The output size when as much is padded below and right as above and left.
fn out_length(length: usize, kernel: usize, stride: usize, dilation: usize, pad: isize) -> usize {
    let reach = (dilation * (kernel.max(1) - 1) + 1) as isize;
    let room = length as isize + 2 * pad - reach;
    if room < 0 { 1 } else { room as usize / stride + 1 }
}

/// A test that a machine's lack of instructions makes pass would be no test: whoever knows which processor this is says
/// in `ELEK_EXPECTED_KERNELS` what it has to run.
#[test]
fn the_set_of_kernels_is_the_expected_one() {
    let all = Isa::all();
    let names: Vec<_> = all.iter().map(|isa| isa.name()).collect();
    assert_eq!(names[0], "portable");
    assert_eq!(all.last(), Some(&Isa::best()));
    for isa in &all {
        assert_eq!(Isa::named(&isa.name().to_lowercase()), Some(*isa));
    }
    assert_eq!(Isa::named("sparc"), None);
    // What is in use stays.
    assert_eq!(Isa::limit(Isa::best()), Ok(()));
    if Isa::best() != Isa::PORTABLE {
        assert_eq!(Isa::limit(Isa::PORTABLE), Err(Isa::best()));
    }
    if let Ok(expected) = std::env::var("ELEK_EXPECTED_KERNELS") {
        assert_eq!(names.join(" "), expected);
    }
}
