//! Pools, resizes and copies: loops over the channels of a pixel, for the compiler to make vectors of.

use super::super::isa::Work;
use super::super::spatial::{AveragePool, Bilinear, Gather, MaxPool, NOWHERE, Window};
use super::blocks::{BLOCK, SMALL, finished};
use std::ops::Range;

/// For the last channels.
const ONE: usize = 1;

pub struct MaxPoolRows<'a> {
    pub spec: &'a MaxPool,
    pub rows: Range<usize>,
    pub input: &'a [u8],
    pub output: &'a mut [u8],
}

/// Where the pixel of each window position inside of the input begins.
#[inline(always)]
fn places(
    window: &Window,
    [y, x]: [usize; 2],
    [down, across]: [&Range<usize>; 2],
) -> impl Fn(usize, usize) -> usize + Copy {
    let (top, left) = (down.start, across.start);
    let first = if down.is_empty() || across.is_empty() {
        0
    } else {
        window
            .input
            .at(window.source(0, y, top), window.source(1, x, left))
    };
    let (below, right) = (
        window.dilation[0] * window.input.row,
        window.dilation[1] * window.input.pixel,
    );
    move |ky, kx| first + (ky - top) * below + (kx - left) * right
}

/// For `N` channels at a time: visits the values of each pixel of a window (whose channels begin where `place` says),
/// starting from `first`; `put` gets the result. Returns the first channel that is left.
#[inline(always)]
fn over_window<const N: usize, T: Copy>(
    input: &[u8],
    channels: Range<usize>,
    [down, across]: [&Range<usize>; 2],
    place: impl Fn(usize, usize) -> usize,
    first: T,
    visit: impl Fn(&mut T, u8),
    mut put: impl FnMut(usize, &[T; N]),
) -> usize {
    let mut at = channels.start;
    while at + N <= channels.end {
        let mut all = [first; N];
        for ky in down.clone() {
            for kx in across.clone() {
                let source = &input[place(ky, kx) + at..][..N];
                for (one, &value) in all.iter_mut().zip(source) {
                    visit(one, value);
                }
            }
        }
        put(at, &all);
        at += N;
    }
    at
}

impl Work for MaxPoolRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let MaxPoolRows {
            spec,
            rows,
            input,
            output,
        } = self;
        let (window, layout) = (&spec.window, &spec.window.output);
        for y in rows.clone() {
            let down = window.inside(0, y);
            for x in 0..layout.width {
                let across = window.inside(1, x);
                let out = layout.pixel_mut(output, y - rows.start, x);
                let place = places(window, [y, x], [&down, &across]);
                let inside = [&down, &across];
                let largest = |a: &mut u8, b: u8| *a = (*a).max(b);
                macro_rules! channels {
                    ($n:ident, $from:expr) => {
                        over_window::<$n, u8>(
                            input,
                            $from..layout.channels,
                            inside,
                            place,
                            0,
                            largest,
                            |at, all| out[at..at + $n].copy_from_slice(all),
                        )
                    };
                }
                let at = channels!(BLOCK, 0);
                let at = channels!(SMALL, at);
                channels!(ONE, at);
                look_up(spec.table.as_deref(), out);
            }
        }
    }
}

#[inline(always)]
fn look_up(table: Option<&[u8]>, bytes: &mut [u8]) {
    if let Some(table) = table {
        for byte in bytes {
            *byte = table[usize::from(*byte)];
        }
    }
}

pub struct AveragePoolRows<'a> {
    pub spec: &'a AveragePool,
    pub rows: Range<usize>,
    pub input: &'a [u8],
    pub output: &'a mut [u8],
}

impl Work for AveragePoolRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let AveragePoolRows {
            spec,
            rows,
            input,
            output,
        } = self;
        let (window, layout) = (&spec.window, &spec.window.output);
        for y in rows.clone() {
            let down = window.inside(0, y);
            for x in 0..layout.width {
                let factor = spec.factor / (spec.counts[0][y] * spec.counts[1][x]) as f32;
                let across = window.inside(1, x);
                let zeros = (down.len() * across.len()) as i32 * i32::from(spec.zero);
                let out = layout.pixel_mut(output, y - rows.start, x);
                let place = places(window, [y, x], [&down, &across]);
                let inside = [&down, &across];
                let add = |sum: &mut i32, value: u8| *sum += i32::from(value);
                macro_rules! channels {
                    ($n:ident, $from:expr) => {
                        over_window::<$n, i32>(
                            input,
                            $from..layout.channels,
                            inside,
                            place,
                            0,
                            add,
                            |at, sums| {
                                let values = sums.map(|sum| (sum - zeros) as f32 * factor);
                                spec.finish.bytes(&values, &mut out[at..at + $n]);
                            },
                        )
                    };
                }
                let at = channels!(BLOCK, 0);
                let at = channels!(SMALL, at);
                channels!(ONE, at);
            }
        }
    }
}

pub struct GatherRows<'a> {
    pub spec: &'a Gather,
    pub rows: Range<usize>,
    pub input: &'a [u8],
    pub output: &'a mut [u8],
}

impl Work for GatherRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (spec, layout) = (self.spec, &self.spec.output);
        for y in self.rows.clone() {
            for x in 0..layout.width {
                let out = layout.pixel_mut(self.output, y - self.rows.start, x);
                match (spec.rows[y], spec.columns[x]) {
                    (NOWHERE, _) | (_, NOWHERE) => out.fill(spec.fill),
                    (sy, sx) => {
                        let pixel = spec.input.pixel(self.input, sy as usize, sx as usize);
                        out.copy_from_slice(pixel);
                    }
                }
                look_up(spec.table.as_deref(), out);
            }
        }
    }
}

pub struct BilinearRows<'a> {
    pub spec: &'a Bilinear,
    pub rows: Range<usize>,
    pub input: &'a [u8],
    pub output: &'a mut [u8],
}

impl Work for BilinearRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (spec, layout) = (self.spec, &self.spec.output);
        let channels = layout.channels;
        let zero = i32::from(spec.zero);
        for y in self.rows.clone() {
            let row = spec.rows[y];
            for x in 0..layout.width {
                let column = spec.columns[x];
                let [wa, wb, wc, wd] = column.with_row(&row);
                let source =
                    |sy: u32, sx: u32| &spec.input.pixel(self.input, sy as usize, sx as usize)[..channels];
                let (a, b) = (source(row.first, column.first), source(row.first, column.second));
                let (c, d) = (
                    source(row.second, column.first),
                    source(row.second, column.second),
                );
                let out = layout.pixel_mut(self.output, y - self.rows.start, x);
                finished(&spec.finish, out, |at, values| {
                    let n = values.len();
                    let (a, b) = (&a[at..][..n], &b[at..][..n]);
                    let (c, d) = (&c[at..][..n], &d[at..][..n]);
                    let value = |byte: u8| (i32::from(byte) - zero) as f32 * spec.scale;
                    for i in 0..n {
                        let upper = value(a[i]) * wa + value(b[i]) * wb;
                        values[i] = (upper + value(c[i]) * wc + value(d[i]) * wd) / spec.step;
                    }
                });
            }
        }
    }
}
