//! Every kernel of every instruction set of this processor against the reference, over one matrix of sizes:
//! below, at and above the widths of vectors and tiles; parts of wider tensors; extreme values; rows in parts. A guard
//! around each output tells whether anything else was written.

use super::binary::{Binary, BinaryOp, Operand};
use super::conv::{ConvShape, ConvSpec, PackedConv};
use super::finish::{Finish, Middle, Residual, WIDE};
use super::float::{Dequantize, Order, Quantize};
use super::isa::Isa;
use super::layout::Layout;
use super::reference;
use super::spatial::{AveragePool, Bilinear, Gather, MaxPool, NOWHERE, TAP_ONE, Tap, Window};
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

struct Case {
    inputs: usize,
    outputs: usize,
    groups: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: [isize; 2],
}

/// The output size when as much is padded below and right as above and left.
fn out_length(length: usize, kernel: usize, stride: usize, dilation: usize, pad: isize) -> usize {
    let reach = (dilation * (kernel.max(1) - 1) + 1) as isize;
    let room = length as isize + 2 * pad - reach;
    if room < 0 { 1 } else { room as usize / stride + 1 }
}

fn spec(case: &Case, dice: &mut Dice) -> ConvSpec {
    let of = |axis: usize| {
        out_length(
            case.size[axis],
            case.kernel[axis],
            case.stride[axis],
            case.dilation[axis],
            case.pad[axis],
        )
    };
    let shape = ConvShape {
        input: dice.layout(case.size[0], case.size[1], case.inputs),
        output: dice.layout(of(0), of(1), case.outputs),
        kernel: case.kernel,
        stride: case.stride,
        dilation: case.dilation,
        pad: case.pad,
        groups: case.groups,
    };
    let depth = shape.depth();
    let finish = dice.finish();
    // So that most results fall inside the range of a byte, and some outside.
    let spread = if finish.table.as_ref().is_some_and(|t| t.len() == WIDE) {
        16.0
    } else {
        1.0
    };
    let typical = (depth.max(1) as f32).sqrt() * 128.0 * 74.0;
    let scale = (0..case.outputs)
        .map(|_| spread * (0.2 + dice.unit()) * 100.0 / typical)
        .collect();
    let residual = (dice.below(3) == 0).then(|| Residual {
        layout: dice.layout(shape.output.height, shape.output.width, case.outputs),
        zero: dice.byte(),
        ratio: 0.1 + dice.unit(),
        middle: (dice.below(2) == 0).then(|| Middle {
            zero: dice.byte().into(),
            low: dice.below(2) as i32 * 10,
            high: 255 - dice.below(2) as i32 * 10,
            ratio: 0.1 + dice.unit(),
        }),
    });
    ConvSpec {
        shape,
        weights: {
            let mut weights = dice.weights(case.outputs * depth);
            // There are kernels that take other ways where a weight is -128.
            if dice.below(2) == 0 {
                weights.iter_mut().for_each(|w| *w = (*w).max(-127));
            }
            weights
        },
        weight_zero: if dice.below(4) == 0 {
            (0..case.outputs).map(|_| dice.below(256) as i32 - 128).collect()
        } else {
            Vec::new()
        },
        bias: (0..case.outputs)
            .map(|_| dice.below(20_000) as i32 - 10_000)
            .collect(),
        input_zero: dice.byte(),
        scale,
        residual,
        finish,
    }
}

fn compare_conv(spec: &ConvSpec, dice: &mut Dice) {
    let input = dice.bytes(spec.shape.input.span());
    let residual = spec.residual.map(|r| dice.bytes(r.layout.span()));
    let layout = spec.shape.output;
    let right = wanted(&layout, |out| {
        reference::conv(spec, &input, residual.as_deref(), out)
    });
    let mut right_f32 = vec![0.0; layout.values()];
    reference::conv_f32(spec, &input, &mut right_f32);
    let parts = parts(layout.height, dice);
    for isa in Isa::all() {
        let conv = PackedConv::new(isa, spec);
        let mut scratch = vec![GUARD; conv.scratch()];
        let got = in_parts(&layout, &parts, |rows, out| {
            conv.run(rows, &input, residual.as_deref(), out, &mut scratch);
        });
        assert!(got == right, "{} {spec:?}", isa.name());
        let mut got = vec![0.0; layout.values()];
        let (first, second) = got.split_at_mut(parts[0].len() * layout.width * layout.channels);
        conv.run_f32(parts[0].clone(), &input, first, &mut scratch);
        conv.run_f32(parts[1].clone(), &input, second, &mut scratch);
        assert!(got == right_f32, "f32 {} {spec:?}", isa.name());
    }
}

#[test]
fn dense_convolutions_of_every_number_of_channels() {
    let mut dice = Dice(1);
    for inputs in CHANNELS {
        for outputs in CHANNELS {
            let kernel = [[1, 1], [3, 3]][dice.below(2)];
            let case = Case {
                inputs,
                outputs,
                groups: 1,
                size: [1 + dice.below(5), 1 + dice.below(9)],
                kernel,
                stride: [1, 1],
                dilation: [1, 1],
                pad: [kernel[0] as isize / 2, kernel[1] as isize / 2],
            };
            compare_conv(&spec(&case, &mut dice), &mut dice);
        }
    }
}

/// Kernel, stride, dilation, padding; each also with more padding than kernel, and with none.
fn geometries() -> Vec<([usize; 2], [usize; 2], [usize; 2], [isize; 2])> {
    vec![
        ([1, 1], [1, 1], [1, 1], [0, 0]),
        ([1, 1], [2, 2], [1, 1], [0, 0]),
        ([1, 1], [1, 1], [1, 1], [1, 2]),
        ([3, 3], [1, 1], [1, 1], [1, 1]),
        ([3, 3], [2, 2], [1, 1], [1, 1]),
        ([3, 3], [2, 2], [1, 1], [0, 0]),
        ([3, 3], [1, 1], [2, 2], [2, 2]),
        ([3, 3], [2, 1], [1, 3], [1, 3]),
        ([5, 5], [1, 1], [1, 1], [2, 2]),
        ([5, 5], [2, 2], [1, 1], [2, 2]),
        ([7, 7], [2, 2], [1, 1], [3, 3]),
        ([1, 5], [1, 1], [1, 1], [0, 2]),
        ([4, 2], [1, 2], [1, 1], [1, 0]),
        ([2, 2], [1, 1], [1, 1], [-1, -1]),
        ([0, 0], [1, 1], [1, 1], [0, 0]),
    ]
}

#[test]
fn every_kernel_stride_dilation_and_padding() {
    let mut dice = Dice(2);
    for (kernel, stride, dilation, pad) in geometries() {
        for (inputs, outputs, groups) in [
            (3, 16, 1),
            (3, 40, 1),
            (16, 24, 1),
            (6, 4, 2),
            (32, 64, 4),
            (8, 16, 8),
            (64, 64, 2),
        ] {
            for size in [[5, 7], [9, 13], [2, 1]] {
                let case = Case {
                    inputs,
                    outputs,
                    groups,
                    size,
                    kernel,
                    stride,
                    dilation,
                    pad,
                };
                compare_conv(&spec(&case, &mut dice), &mut dice);
            }
        }
    }
}

#[test]
fn depthwise_convolutions() {
    let mut dice = Dice(3);
    for (kernel, stride, dilation, pad) in geometries() {
        for channels in CHANNELS.into_iter().chain([96, 130]) {
            let case = Case {
                inputs: channels,
                outputs: channels,
                groups: channels,
                size: [1 + dice.below(9), 1 + dice.below(12)],
                kernel,
                stride,
                dilation,
                pad,
            };
            compare_conv(&spec(&case, &mut dice), &mut dice);
        }
    }
}

#[test]
fn long_products_and_many_pixels() {
    let mut dice = Dice(4);
    for (rows, inputs, outputs) in [
        (1, 1280, 10),
        (2, 2048, 33),
        (200, 64, 32),
        (37, 257, 65),
        (1, 5000, 1),
    ] {
        let mut one = spec(
            &Case {
                inputs,
                outputs,
                groups: 1,
                size: [1, rows],
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [0, 0],
            },
            &mut dice,
        );
        one.shape.input = Layout::dense(1, rows, inputs);
        compare_conv(&one, &mut dice);
    }
}

/// Where AVX2's product of bytes saturates, and sums of 16 bits overflow.
#[test]
fn the_largest_values_do_not_saturate() {
    let mut dice = Dice(5);
    for (groups, inputs) in [(1, 64), (64, 64), (2, 64)] {
        for weight in [127, -127, -128] {
            let mut one = spec(
                &Case {
                    inputs,
                    outputs: 64,
                    groups,
                    size: [4, 6],
                    kernel: [3, 3],
                    stride: [1, 1],
                    dilation: [1, 1],
                    pad: [0, 0],
                },
                &mut dice,
            );
            one.weights.fill(weight);
            one.scale.fill(1.0 / (9.0 * 64.0 * 128.0));
            let layout = one.shape.output;
            for value in [0, 255] {
                let input = vec![value; one.shape.input.span()];
                let right = wanted(&layout, |out| {
                    let residual = one.residual.map(|r| vec![7; r.layout.span()]);
                    reference::conv(&one, &input, residual.as_deref(), out);
                });
                for isa in Isa::all() {
                    let conv = PackedConv::new(isa, &one);
                    let mut scratch = vec![0; conv.scratch()];
                    let residual = one.residual.map(|r| vec![7; r.layout.span()]);
                    let got = in_parts(&layout, &[0..layout.height], |rows, out| {
                        conv.run(rows, &input, residual.as_deref(), out, &mut scratch);
                    });
                    assert!(got == right, "{} {one:?}", isa.name());
                }
            }
        }
    }
}

#[test]
fn sums_and_products_of_two_tensors() {
    let mut dice = Dice(6);
    for channels in CHANNELS.into_iter().chain([129, 256]) {
        for kind in 0..6 {
            for op in [
                BinaryOp::Add {
                    a_ratio: 0.3 + dice.unit(),
                    b_ratio: dice.unit() - 0.5,
                },
                BinaryOp::Mul {
                    ratio: 0.02 * dice.unit(),
                },
            ] {
                let (h, w) = (1 + dice.below(4), 1 + dice.below(20));
                let (bh, bw, bc) = [
                    (h, w, channels),
                    (1, 1, channels),
                    (h, w, 1),
                    (1, 1, 1),
                    (1, w, channels),
                    (h, 1, 1),
                ][kind];
                let mut operands = [(h, w, channels), (bh, bw, bc)].map(|(h, w, c)| Operand {
                    layout: dice.layout(h, w, c),
                    zero: dice.byte(),
                });
                if dice.below(2) == 0 {
                    operands.reverse();
                }
                let spec = Binary {
                    op,
                    a: operands[0],
                    b: operands[1],
                    output: dice.layout(h, w, channels),
                    finish: dice.finish(),
                };
                spec.check();
                let (a, b) = (dice.bytes(spec.a.layout.span()), dice.bytes(spec.b.layout.span()));
                let right = wanted(&spec.output, |out| reference::binary(&spec, &a, &b, out));
                let parts = parts(h, &mut dice);
                for isa in Isa::all() {
                    let got = in_parts(&spec.output, &parts, |rows, out| spec.run(isa, rows, &a, &b, out));
                    assert!(got == right, "{} {spec:?}", isa.name());
                }
            }
        }
    }
}

fn windows(dice: &mut Dice) -> Vec<Window> {
    let mut windows = Vec::new();
    for channels in CHANNELS.into_iter().chain([130]) {
        for (kernel, stride, dilation, pad) in [
            ([2, 2], [2, 2], [1, 1], [0, 0]),
            ([3, 3], [2, 2], [1, 1], [1, 1]),
            ([3, 3], [1, 1], [1, 1], [1, 1]),
            ([2, 3], [1, 2], [2, 1], [1, 0]),
            ([6, 9], [1, 1], [1, 1], [0, 0]),
        ] {
            let (h, w) = (6, 9);
            let of = |axis: usize| {
                out_length(
                    [h, w][axis],
                    kernel[axis],
                    stride[axis],
                    dilation[axis],
                    pad[axis],
                )
            };
            windows.push(Window {
                input: dice.layout(h, w, channels),
                output: dice.layout(of(0), of(1), channels),
                kernel,
                stride,
                dilation,
                pad,
            });
        }
    }
    windows
}

#[test]
fn pools() {
    let mut dice = Dice(7);
    for window in windows(&mut dice) {
        let input = dice.bytes(window.input.span());
        let parts = parts(window.output.height, &mut dice);
        let max = MaxPool {
            window,
            table: (dice.below(2) == 0).then(|| dice.table(256)),
        };
        let mut counts: [Vec<u32>; 2] = Default::default();
        for (axis, length) in [window.output.height, window.output.width]
            .into_iter()
            .enumerate()
        {
            let inside = |at| window.inside(axis, at).len() as u32;
            counts[axis] = (0..length).map(inside).collect();
        }
        let average = AveragePool {
            window,
            zero: dice.byte(),
            factor: 0.5 + dice.unit(),
            counts,
            finish: dice.finish(),
        };
        let right_max = wanted(&window.output, |out| reference::max_pool(&max, &input, out));
        let right_average = wanted(&window.output, |out| {
            reference::average_pool(&average, &input, out)
        });
        for isa in Isa::all() {
            let got = in_parts(&window.output, &parts, |rows, out| {
                max.run(isa, rows, &input, out)
            });
            assert!(got == right_max, "{} {max:?}", isa.name());
            let got = in_parts(&window.output, &parts, |rows, out| {
                average.run(isa, rows, &input, out)
            });
            assert!(got == right_average, "{} {average:?}", isa.name());
        }
    }
}

#[test]
fn resizes_and_copies() {
    let mut dice = Dice(8);
    for channels in CHANNELS.into_iter().chain([130]) {
        for (height, width) in [(1, 1), (4, 6), (9, 5)] {
            let (h, w) = (1 + dice.below(5), 1 + dice.below(5));
            let input = dice.layout(h, w, channels);
            let output = dice.layout(height, width, channels);
            let bytes = dice.bytes(input.span());
            let mut map = |length: usize, of: usize| -> Vec<u32> {
                (0..length)
                    .map(|_| {
                        if dice.below(9) == 0 {
                            NOWHERE
                        } else {
                            dice.below(of) as u32
                        }
                    })
                    .collect()
            };
            let (rows, columns) = (map(height, h), map(width, w));
            let gather = Gather {
                input,
                output,
                rows,
                columns,
                fill: dice.byte(),
                table: (dice.below(2) == 0).then(|| dice.table(256)),
            };
            let mut taps = |length: usize, of: usize| -> Vec<Tap> {
                (0..length)
                    .map(|_| Tap {
                        first: dice.below(of) as u32,
                        second: dice.below(of) as u32,
                        weight: dice.below(TAP_ONE as usize + 1) as i32,
                    })
                    .collect()
            };
            let (rows, columns) = (taps(height, h), taps(width, w));
            let bilinear = Bilinear {
                input,
                output,
                rows,
                columns,
                zero: dice.byte(),
                factor: (0.2 + dice.unit()) / (TAP_ONE * TAP_ONE) as f32,
                finish: dice.finish(),
            };
            let copy = Gather::copy(input, dice.layout(h, w, channels), gather.table.clone());
            assert!(copy.is_copy());
            let split = parts(height, &mut dice);
            let right = wanted(&output, |out| reference::gather(&gather, &bytes, out));
            let right_copy = wanted(&copy.output, |out| reference::gather(&copy, &bytes, out));
            let right_bilinear = wanted(&output, |out| reference::bilinear(&bilinear, &bytes, out));
            for isa in Isa::all() {
                let got = in_parts(&output, &split, |rows, out| gather.run(isa, rows, &bytes, out));
                assert!(got == right, "{} {gather:?}", isa.name());
                let got = in_parts(&output, &split, |rows, out| bilinear.run(isa, rows, &bytes, out));
                assert!(got == right_bilinear, "{} {bilinear:?}", isa.name());
                let whole = [0..h];
                let got = in_parts(&copy.output, &whole, |rows, out| copy.run(isa, rows, &bytes, out));
                assert!(got == right_copy, "{} {copy:?}", isa.name());
            }
        }
    }
}

#[test]
fn f32_to_bytes_and_back() {
    let mut dice = Dice(9);
    for channels in CHANNELS {
        for order in [Order::Planes, Order::Pixels] {
            let (h, w) = (1 + dice.below(4), 1 + dice.below(20));
            let output = dice.layout(h, w, channels);
            let quantize = Quantize {
                order,
                output,
                scale: 0.01 + dice.unit(),
                finish: dice.finish(),
            };
            let mut input: Vec<f32> = (0..output.values())
                .map(|_| (dice.unit() - 0.5) * 300.0 * quantize.scale)
                .collect();
            input[0] = f32::NAN;
            if let Some(last) = input.last_mut().filter(|v| v.is_finite()) {
                *last = 2.5 * quantize.scale;
            }
            let right = wanted(&output, |out| reference::quantize(&quantize, &input, out));
            let dequantize = Dequantize {
                order,
                input: output,
                scale: quantize.scale,
                zero: dice.byte(),
            };
            let mut right_f32 = vec![0.0; output.values()];
            reference::dequantize(&dequantize, &right, &mut right_f32);
            let split = parts(h, &mut dice);
            for isa in Isa::all() {
                let got = in_parts(&output, &split, |rows, out| quantize.run(isa, rows, &input, out));
                assert!(got == right, "{} {quantize:?}", isa.name());
                let mut got = vec![0.0; output.values()];
                dequantize.run(isa, &right, &mut got);
                assert!(got == right_f32, "{} {dequantize:?}", isa.name());
            }
        }
    }
}
