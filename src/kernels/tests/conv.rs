//! Convolution.

use super::super::conv::{ConvShape, ConvSpec, PackedConv};
use super::super::finish::{Middle, Residual, WIDE};
use super::super::isa::Isa;
use super::super::layout::Layout;
use super::super::reference;
use super::{CHANNELS, Dice, GUARD, in_parts, out_length, parts, wanted};

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
        let portable = isa == Isa::PORTABLE || spec.weight_zero.iter().any(|z| *z != 0);
        assert_eq!(conv.is_portable(), portable, "{} {spec:?}", isa.name());
        // On no boundary.
        let mut scratch = vec![GUARD; conv.scratch() + 1];
        let scratch = &mut scratch[1..];
        let got = in_parts(&layout, &parts, |rows, out| {
            conv.run(rows, &input, residual.as_deref(), out, scratch);
        });
        assert!(got == right, "{} {spec:?}", isa.name());
        let mut got = vec![0.0; layout.values()];
        let (first, second) = got.split_at_mut(parts[0].len() * layout.width * layout.channels);
        conv.run_f32(parts[0].clone(), &input, first, scratch);
        conv.run_f32(parts[1].clone(), &input, second, scratch);
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
type Geometry = ([usize; 2], [usize; 2], [usize; 2], [isize; 2]);

fn geometries() -> Vec<Geometry> {
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
                    let got = in_parts(&layout, std::slice::from_ref(&(0..layout.height)), |rows, out| {
                        conv.run(rows, &input, residual.as_deref(), out, &mut scratch);
                    });
                    assert!(got == right, "{} {one:?}", isa.name());
                }
            }
        }
    }
}

/// More pixels than one group has, by way of pointers and of copied rows; more rows than a tile has.
#[test]
fn pictures_of_several_groups() {
    let mut dice = Dice(10);
    for (inputs, outputs, groups, size, side) in [
        (5, 20, 1, [37, 29], 3),
        (3, 17, 1, [90, 61], 5),
        (12, 20, 1, [37, 29], 3),
        (20, 70, 1, [61, 41], 1),
        (40, 40, 40, [31, 23], 3),
        (24, 48, 2, [29, 31], 3),
        (600, 9, 1, [7, 7], 3),
    ] {
        let case = Case {
            inputs,
            outputs,
            groups,
            size,
            kernel: [side, side],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [side as isize / 2; 2],
        };
        compare_conv(&spec(&case, &mut dice), &mut dice);
    }
}
