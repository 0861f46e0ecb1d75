//! Separable resampling of 8-bit RGB with an antialiasing kernel, rounded as Pillow's `resize` does.
//!
//! The models were trained on pictures that Pillow shrank, so its arithmetic is the specification:
//! the kernel is widened by the shrink factor, weights are normalised in f64 and rounded to 2⁻²², the
//! horizontal pass comes first and is rounded to u8, then the vertical one. `fast_image_resize` does
//! the vertical pass first (other bits) and allocates its weights anew for each picture.

use super::decode::Pixel;
use crate::infer::manifest::Filter;

/// Bits behind the point in weights: 32 less 8 for the sample less 2 for overshoot of the kernel and sign.
const WEIGHT_BITS: u32 = 22;
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Which samples make an output pixel, and their weights, along one axis.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    key: Option<Key>,
    spans: Vec<Span>,
    weights: Vec<i32>,
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

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    /// First sample.
    start: u32,
    /// Place of the first weight.
    first: u32,
    count: u32,
}

impl Weights {
    /// Prepares for `key`; keeps what is there when it is the same. Reuses its memory.
    pub fn prepare(&mut self, key: Key) {
        if self.key == Some(key) {
            return;
        }
        self.key = Some(key);
        self.spans.clear();
        self.weights.clear();
        let scale = f64::from(key.length) / f64::from(key.outputs);
        let widen = scale.max(1.0);
        let support = support(key.filter) * widen;
        for i in key.from..key.to {
            self.add_output(key, (f64::from(i) + 0.5) * scale, support, 1.0 / widen);
        }
    }

    /// Room for up to `length` samples and exactly `outputs` outputs.
    pub fn reserve(&mut self, filter: Filter, length: u32, outputs: u32) {
        let scale = (f64::from(length) / f64::from(outputs)).max(1.0);
        let taps = (support(filter) * scale).ceil() as usize * 2 + 1;
        *self = Weights::default();
        self.spans.reserve_exact(outputs as usize);
        self.weights.reserve_exact(taps * outputs as usize);
    }

    fn add_output(&mut self, key: Key, centre: f64, support: f64, narrow: f64) {
        // Casts to integers cut off the fraction, and negative starts become 0.
        let start = (centre - support + 0.5) as u32;
        let end = ((centre + support + 0.5) as u32).min(key.length);
        let weight = |i: u32| kernel(key.filter, (f64::from(i) - centre + 0.5) * narrow);
        let sum: f64 = (start..end).map(weight).sum();
        let first = self.weights.len() as u32;
        for i in start..end {
            let w = if sum == 0.0 { weight(i) } else { weight(i) / sum };
            let away_from_zero = if w < 0.0 { -0.5 } else { 0.5 };
            self.weights
                .push((w * f64::from(1 << WEIGHT_BITS) + away_from_zero) as i32);
        }
        self.spans.push(Span {
            start,
            first,
            count: end - start,
        });
    }

    /// Output pixels.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Samples that are looked at at all, as first and one past the last.
    pub fn reach(&self) -> (u32, u32) {
        let end = |s: &Span| s.start + s.count;
        (
            self.spans.first().map_or(0, |s| s.start),
            self.spans.last().map_or(0, end),
        )
    }

    fn of(&self, span: Span) -> &[i32] {
        &self.weights[span.first as usize..][..span.count as usize]
    }

    /// One row: `samples[0]` is sample number `offset`. Writes three bytes a pixel.
    pub fn horizontal(&self, samples: &[Pixel], offset: u32, out: &mut [u8]) {
        for (&span, o) in self.spans.iter().zip(out.as_chunks_mut::<3>().0) {
            let mut sum = [HALF; 4];
            let from = &samples[(span.start - offset) as usize..][..span.count as usize];
            for (pixel, &weight) in from.iter().zip(self.of(span)) {
                for (s, &v) in sum.iter_mut().zip(pixel) {
                    *s += i32::from(v) * weight;
                }
            }
            *o = [round(sum[0]), round(sum[1]), round(sum[2])];
        }
    }

    /// Output row `index` from `rows`, which holds the rows from number `offset` on, each `out.len()`
    /// bytes. `sums` has room for one row.
    pub fn vertical(&self, index: usize, rows: &[u8], offset: u32, sums: &mut [i32], out: &mut [u8]) {
        let span = self.spans[index];
        let from = &rows[(span.start - offset) as usize * out.len()..];
        sums.fill(HALF);
        for (row, &weight) in from.chunks_exact(out.len()).zip(self.of(span)) {
            for (s, &v) in sums.iter_mut().zip(row) {
                *s += i32::from(v) * weight;
            }
        }
        for (o, &s) in out.iter_mut().zip(&*sums) {
            *o = round(s);
        }
    }
}

fn round(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
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
        let mut weights = Weights::default();
        weights.prepare(Key {
            filter,
            length: samples.len() as u32,
            outputs,
            from: 0,
            to: outputs,
        });
        let pixels: Vec<Pixel> = samples.iter().map(|&v| [v, v, v, 0]).collect();
        let mut out = vec![0; outputs as usize * 3];
        weights.horizontal(&pixels, 0, &mut out);
        out.as_chunks::<3>().0.iter().map(|p| p[0]).collect()
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
    fn horizontal_and_vertical_agree() {
        let mut weights = Weights::default();
        weights.prepare(Key {
            filter: Filter::Bicubic,
            length: 12,
            outputs: 5,
            from: 0,
            to: 5,
        });
        let wide = line(Filter::Bicubic, &RAMP, 5);
        let (mut sums, mut out) = ([0; 1], [0; 1]);
        for (i, &expected) in wide.iter().enumerate() {
            weights.vertical(i, &RAMP, 0, &mut sums, &mut out);
            assert_eq!(out[0], expected);
        }
    }

    #[test]
    fn a_window_is_a_piece_of_the_whole() {
        let whole = line(Filter::Bilinear, &RAMP, 7);
        let mut weights = Weights::default();
        weights.prepare(Key {
            filter: Filter::Bilinear,
            length: 12,
            outputs: 7,
            from: 2,
            to: 5,
        });
        let (start, end) = weights.reach();
        let pixels: Vec<Pixel> = RAMP[start as usize..end as usize]
            .iter()
            .map(|&v| [v, v, v, 0])
            .collect();
        let mut out = [0; 9];
        weights.horizontal(&pixels, start, &mut out);
        assert_eq!([out[0], out[3], out[6]], whole[2..5]);
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
