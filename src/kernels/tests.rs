//! Every kernel of every instruction set of this processor against the reference, over one matrix of sizes:
//! below, at and above the widths of vectors and tiles; parts of wider tensors; extreme values; rows in parts. A guard
//! around each output tells whether anything else was written.

mod conv;
mod rest;

use super::finish::{Finish, WIDE};
use super::isa::{self, Isa};
use super::layout::Layout;
use std::ops::Range;
use std::sync::Arc;

/// Channel counts around the widths of vectors (4, 8, 16, 32, 64) and tiles.
const CHANNELS: [usize; 16] = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 67];

/// A generator of numbers that is the same everywhere (SplitMix64).
struct Dice(u64);

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

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.byte()).collect()
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
        match self.below(4) {
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

/// Runs `kernel` over the rows in parts; the bytes between the values and behind them are the guard's.
fn in_parts(
    layout: &Layout,
    parts: &[Range<usize>],
    mut kernel: impl FnMut(Range<usize>, &mut [u8]),
) -> Vec<u8> {
    let mut output = vec![GUARD; layout.span() + 64];
    for rows in parts {
        let part = Layout {
            height: rows.len(),
            ..*layout
        };
        // No row is left behind the last one, and there are no bytes for it either.
        let start = (rows.start * layout.row).min(output.len());
        kernel(rows.clone(), &mut output[start..start + part.span()]);
    }
    output
}

fn parts(height: usize, dice: &mut Dice) -> Vec<Range<usize>> {
    let cut = dice.below(height + 1);
    vec![0..cut, cut..height]
}

fn wanted(layout: &Layout, kernel: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut output = vec![GUARD; layout.span() + 64];
    kernel(&mut output);
    output
}

/// The output size when as much is padded below and right as above and left.
fn out_length(length: usize, kernel: usize, stride: usize, dilation: usize, pad: isize) -> usize {
    let reach = (dilation * (kernel.max(1) - 1) + 1) as isize;
    let room = length as isize + 2 * pad - reach;
    if room < 0 { 1 } else { room as usize / stride + 1 }
}

/// A test that a machine's lack of instructions makes pass would be no test: what is here is said by the processor, or,
/// in `ELEK_EXPECTED_KERNELS`, by whoever knows which processor this is.
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
    let found = isa::found();
    for (feature, name) in [
        ("AVX2", "AVX2"),
        ("AVX-VNNI", "AVX-VNNI"),
        ("AVX512-VNNI", "AVX512-VNNI"),
        ("NEON", "NEON"),
        ("dotprod", "NEON-dotprod"),
    ] {
        assert_eq!(found.contains(&feature), names.contains(&name), "{name}");
    }
    if let Ok(expected) = std::env::var("ELEK_EXPECTED_KERNELS") {
        assert_eq!(names.join(" "), expected);
    }
}
