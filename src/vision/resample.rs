//! Separable resampling of 8-bit RGB with an antialiasing kernel, rounded as Pillow's `resize` does.
//!
//! The models were trained on pictures that Pillow shrank, so its arithmetic is the specification:
//! the kernel is widened by the shrink factor, weights are normalised in f64 and rounded to 2⁻²², the
//! horizontal pass comes first and is rounded to u8, then the vertical one. `fast_image_resize` does
//! the vertical pass first (other bits) and allocates its weights anew for each picture.

use crate::infer::manifest::Filter;

/// Bits behind the point in weights: 32 less 8 for the sample less 2 for overshoot of the kernel and sign.
const WEIGHT_BITS: u32 = 22;
/// Outputs computed together: enough to fill the vectors, few enough to keep their sums in registers.
pub const LANES: usize = 32;
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Which samples make an output pixel, and their weights, along one axis.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    key: Option<Key>,
    /// First sample of each output pixel.
    starts: Vec<u32>,
    /// `taps` for each output pixel, zeros at either end where fewer samples count.
    weights: Vec<i32>,
    taps: usize,
}

/// What the weights were computed for: `length` samples become `outputs`, of which `window` are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub filter: Filter,
    pub length: u32,
    pub outputs: u32,
    pub from: u32,
    pub to: u32,
}

impl Weights {
    /// Prepares for `key`; keeps what is there when it is the same. Reuses its memory.
    pub fn prepare(&mut self, key: Key) {
        if self.key == Some(key) {
            return;
        }
        self.key = Some(key);
        self.starts.clear();
        self.weights.clear();
        let scale = f64::from(key.length) / f64::from(key.outputs);
        let widen = scale.max(1.0);
        let support = support(key.filter) * widen;
        self.taps = taps(support).min(key.length as usize);
        for i in key.from..key.to {
            self.add_output(key, (f64::from(i) + 0.5) * scale, support, 1.0 / widen);
        }
    }

    /// Room for up to `length` samples and exactly `outputs` outputs.
    pub fn reserve(&mut self, filter: Filter, length: u32, outputs: u32) {
        let widen = (f64::from(length) / f64::from(outputs)).max(1.0);
        *self = Weights::default();
        self.starts.reserve_exact(outputs as usize);
        self.weights
            .reserve_exact(taps(support(filter) * widen) * outputs as usize);
    }

    fn add_output(&mut self, key: Key, centre: f64, support: f64, narrow: f64) {
        // Casts to integers cut off the fraction, and negative starts become 0.
        let start = (centre - support + 0.5) as u32;
        let end = ((centre + support + 0.5) as u32).min(key.length);
        let weight = |i: u32| kernel(key.filter, (f64::from(i) - centre + 0.5) * narrow);
        let sum: f64 = (start..end).map(weight).sum();
        // All pixels have the same number of taps, which makes the loops over them fast.
        let first = start.min(key.length - self.taps as u32);
        self.starts.push(first);
        for i in first..first + self.taps as u32 {
            if i < start || i >= end {
                self.weights.push(0);
                continue;
            }
            let w = if sum == 0.0 { weight(i) } else { weight(i) / sum };
            let away_from_zero = if w < 0.0 { -0.5 } else { 0.5 };
            self.weights
                .push((w * f64::from(1 << WEIGHT_BITS) + away_from_zero) as i32);
        }
    }

    /// Output pixels.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Samples that are looked at at all, as first and one past the last.
    pub fn reach(&self) -> (u32, u32) {
        let ends = (self.starts.first(), self.starts.last());
        if let (Some(&first), Some(&last)) = ends {
            (first, last + self.taps as u32)
        } else {
            (0, 0)
        }
    }

    /// Output `index` of many lines at once. `lines` holds a row of `out.len()` bytes for each sample
    /// from number `offset` on: rows of a picture make a row, pieces of columns a piece of a column.
    #[inline(always)]
    pub fn output(&self, index: usize, lines: &[u8], offset: u32, out: &mut [u8]) {
        let weights = &self.weights[index * self.taps..][..self.taps];
        let pitch = out.len();
        let from = &lines[(self.starts[index] - offset) as usize * pitch..][..self.taps * pitch];
        let (wide, narrow) = out.as_chunks_mut::<LANES>();
        for (i, o) in wide.iter_mut().enumerate() {
            weighted_sums(from, i * LANES, pitch, weights, o);
        }
        let done = wide.len() * LANES;
        for (i, o) in narrow.iter_mut().enumerate() {
            weighted_sums(from, done + i, pitch, weights, std::array::from_mut(o));
        }
    }
}

/// `N` neighbouring outputs, the first of them from the samples at `x`.
#[inline(always)]
fn weighted_sums<const N: usize>(lines: &[u8], x: usize, pitch: usize, weights: &[i32], out: &mut [u8; N]) {
    let mut sums = [HALF; N];
    for (i, &weight) in weights.iter().enumerate() {
        if let Some(samples) = lines[i * pitch + x..].first_chunk::<N>() {
            for (s, &v) in sums.iter_mut().zip(samples) {
                *s = add_product(*s, v, weight);
            }
        }
    }
    for (o, s) in out.iter_mut().zip(sums) {
        *o = round(s);
    }
}

/// Wrapping, so that builds with overflow checks are vectorized too. It cannot overflow: weights sum up
/// to 2²² and their amounts to less than 2 · 2²², so no partial sum exceeds 255 · 2²³ < 2³¹.
#[inline(always)]
fn add_product(sum: i32, sample: u8, weight: i32) -> i32 {
    sum.wrapping_add(i32::from(sample).wrapping_mul(weight))
}

#[inline(always)]
fn round(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// Most samples that can lie within `support` of a place.
fn taps(support: f64) -> usize {
    (2.0 * support) as usize + 1
}

/// Half the width of the kernel.
fn support(filter: Filter) -> f64 {
    match filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
    }
}

fn kernel(filter: Filter, x: f64) -> f64 {
    let x = x.abs();
    match filter {
        Filter::Bilinear => (1.0 - x).max(0.0),
        // Keys' cubic convolution with a = -1/2, in Horner form; the order of operations decides the last bit.
        Filter::Bicubic if x < 1.0 => ((1.5 * x - 2.5) * x) * x + 1.0,
        Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
        Filter::Bicubic => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(filter: Filter, samples: &[u8], outputs: u32) -> Vec<u8> {
        window(filter, samples, outputs, 0, outputs, 1)
    }

    /// As many equal lines as `width` says.
    fn window(filter: Filter, samples: &[u8], outputs: u32, from: u32, to: u32, width: usize) -> Vec<u8> {
        let mut weights = Weights::default();
        weights.prepare(Key {
            filter,
            length: samples.len() as u32,
            outputs,
            from,
            to,
        });
        let (start, end) = weights.reach();
        let lines: Vec<u8> = samples[start as usize..end as usize]
            .iter()
            .flat_map(|&v| std::iter::repeat_n(v, width))
            .collect();
        let value = |i: u32| {
            let mut out = vec![0; width];
            weights.output(i as usize, &lines, start, &mut out);
            assert!(out.iter().all(|&v| v == out[0]), "equal lines give equal values");
            out[0]
        };
        (0..to - from).map(value).collect()
    }

    // Expected values: Pillow 13.0.0, Image.resize of an L picture one pixel high.
    const RAMP: [u8; 12] = [0, 255, 10, 200, 30, 90, 255, 255, 0, 0, 128, 7];

    #[test]
    fn the_same_size_is_the_same_picture() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            assert_eq!(line(filter, &RAMP, 12), RAMP);
        }
    }

    #[test]
    fn a_flat_picture_stays_flat_at_every_size() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            for outputs in [1, 2, 5, 23, 24, 100] {
                assert!(
                    line(filter, &[201; 24], outputs).iter().all(|&v| v == 201),
                    "{filter:?} {outputs}"
                );
            }
        }
    }

    #[test]
    fn a_window_is_a_piece_of_the_whole() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let whole = line(filter, &RAMP, 7);
            assert_eq!(window(filter, &RAMP, 7, 2, 5, 1), whole[2..5]);
        }
    }

    #[test]
    fn any_number_of_lines_gives_the_same() {
        let one = line(Filter::Bicubic, &RAMP, 5);
        for width in [2, LANES - 1, LANES, LANES + 1, 2 * LANES, 3 * LANES + 7] {
            assert_eq!(
                window(Filter::Bicubic, &RAMP, 5, 0, 5, width),
                one,
                "{width} lines"
            );
        }
    }

    #[test]
    fn lines_are_resampled_as_pillow_does() {
        let cases: [(Filter, &[u8]); 8] = [
            (Filter::Bilinear, &[108, 139, 70]),
            (Filter::Bilinear, &[113, 108, 163, 93, 56]),
            (Filter::Bilinear, &[76, 133, 133, 62, 173, 232, 23, 64, 43]),
            (
                Filter::Bilinear,
                &[
                    0, 102, 255, 108, 48, 162, 132, 30, 66, 123, 222, 255, 255, 102, 0, 0, 51, 128, 55, 7,
                ],
            ),
            (Filter::Bicubic, &[106, 146, 64]),
            (Filter::Bicubic, &[113, 98, 173, 97, 48]),
            (Filter::Bicubic, &[77, 135, 133, 47, 175, 255, 2, 67, 44]),
            (
                Filter::Bicubic,
                &[
                    0, 100, 255, 101, 26, 178, 147, 30, 47, 119, 231, 255, 255, 96, 0, 0, 54, 128, 55, 0,
                ],
            ),
        ];
        for (filter, expected) in cases {
            assert_eq!(
                line(filter, &RAMP, expected.len() as u32),
                expected,
                "{filter:?} {}",
                expected.len()
            );
        }
    }
}
