//! Convolution.

use super::super::conv::{ConvShape, ConvSpec, PackedConv};
use super::super::finish::{Divisor, Finish, Middle, Residual, WIDE};
use super::super::isa::Isa;
use super::super::layout::Layout;
use super::super::reference;
use super::{BEFORE, Bytes, CHANNELS, Dice, GUARD, bits, in_parts, out_length, parts, wanted};

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
        scale: 0.1 + dice.unit(),
        middle: (dice.below(2) == 0).then(|| Middle {
            zero: dice.below(601) as i32 - 300,
            low: dice.below(2) as i32 * 10,
            high: 255 - dice.below(2) as i32 * 10,
            scale: 0.1 + dice.unit(),
        }),
        step: Divisor::Step(0.5 + dice.unit()),
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
    compare_bytes(spec, dice);
    compare_floats(spec, dice);
}

fn packed(isa: Isa, spec: &ConvSpec) -> PackedConv {
    let conv = PackedConv::new(isa, spec).unwrap();
    let portable = isa == Isa::PORTABLE;
    assert_eq!(conv.is_portable(), portable, "{} {spec:?}", isa.name());
    conv
}

/// On no boundary.
fn scratch(conv: &PackedConv) -> Bytes {
    Bytes {
        bytes: vec![GUARD; conv.scratch() + 1],
        start: 1,
    }
}

fn compare_bytes(spec: &ConvSpec, dice: &mut Dice) {
    let input = dice.bytes(spec.shape.input.span());
    let residual = spec.residual.map(|r| dice.bytes(r.layout.span()));
    let layout = spec.shape.output;
    let right = wanted(&layout, |out| {
        reference::conv(spec, &input, residual.as_deref(), out)
    });
    let parts = parts(layout.height, dice);
    for isa in Isa::all() {
        let conv = packed(isa, spec);
        let mut scratch = scratch(&conv);
        let got = in_parts(&layout, &parts, |rows, out| {
            conv.run(rows, &input, residual.as_deref(), out, &mut scratch);
        });
        assert!(got == right, "{} {spec:?}", isa.name());
        compare_panels(&conv, spec, &input, residual.as_deref(), &right[BEFORE..], dice);
    }
}

/// The output channels of some panels, then those of the others.
fn compare_panels(
    conv: &PackedConv,
    spec: &ConvSpec,
    input: &[u8],
    residual: Option<&[u8]>,
    right: &[u8],
    dice: &mut Dice,
) {
    let Some(panels) = conv.panels() else { return };
    let (layout, cut) = (spec.shape.output, dice.below(panels.count() + 1));
    let mut channels = 0;
    for part in [0..cut, cut..panels.count()] {
        let own = panels.channels(part.clone());
        assert!(own.is_empty() || own.start == channels, "{spec:?}");
        channels += own.len();
        let mut out = dice.bytes(layout.height * layout.width * own.len());
        panels.run(part, input, residual, &mut out, &mut scratch(conv));
        let mut pixels = out.chunks_exact(own.len().max(1));
        for y in 0..layout.height {
            for (x, pixel) in (0..layout.width).zip(&mut pixels) {
                assert!(pixel == &layout.pixel(right, y, x)[own.clone()], "{spec:?}");
            }
        }
    }
    assert_eq!(channels, layout.channels, "{spec:?}");
}

fn compare_floats(spec: &ConvSpec, dice: &mut Dice) {
    let input = dice.bytes(spec.shape.input.span());
    let layout = spec.shape.output;
    let mut right = vec![0.0; layout.span()];
    reference::conv_f32(spec, &input, &mut right);
    let parts = parts(layout.height, dice);
    for isa in Isa::all() {
        let conv = packed(isa, spec);
        let mut scratch = scratch(&conv);
        let mut got = vec![0.0; layout.span()];
        let (first, second) = got.split_at_mut((parts[0].len() * layout.row).min(layout.span()));
        conv.run_f32(parts[0].clone(), &input, first, &mut scratch);
        conv.run_f32(parts[1].clone(), &input, second, &mut scratch);
        assert!(bits(&got) == bits(&right), "f32 {} {spec:?}", isa.name());
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
            for size in [[5, 7], [9, 13], [2, 1], [0, 3], [3, 0]] {
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
                groups: channels.max(1),
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
                    let conv = PackedConv::new(isa, &one).unwrap();
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

/// Outputs without rows, columns or channels; windows that see nothing but padding.
#[test]
fn nothing_to_see_and_nothing_to_do() {
    let mut dice = Dice(11);
    for (inputs, outputs, groups) in [(3, 20, 1), (24, 24, 24), (32, 8, 2)] {
        for [height, width] in [[0, 2], [2, 0], [2, 2]] {
            let case = Case {
                inputs,
                outputs,
                groups,
                size: [4, 3],
                kernel: [3, 3],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [1, 30],
            };
            let mut one = spec(&case, &mut dice);
            let cut = |layout: Layout| Layout {
                height,
                width,
                ..layout
            };
            one.shape.output = cut(one.shape.output);
            one.residual = one.residual.map(|r| Residual {
                layout: cut(r.layout),
                ..r
            });
            compare_conv(&one, &mut dice);
        }
    }
}

/// Scales that make results infinite or no numbers: the reference says which byte that is. (As f32 they are not
/// compared: processors differ in the bits of what is not a number.)
#[test]
fn scales_that_are_no_numbers() {
    let mut dice = Dice(12);
    let scales = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e30,
        -1e30,
        0.0,
        f32::MIN_POSITIVE,
    ];
    for (inputs, outputs, groups) in [(5, 70, 1), (70, 70, 70)] {
        for _ in 0..60 {
            let case = Case {
                inputs,
                outputs,
                groups,
                size: [3, 4],
                kernel: [3, 3],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [1, 1],
            };
            let mut one = spec(&case, &mut dice);
            for scale in &mut one.scale {
                *scale = scales[dice.below(scales.len())];
            }
            // Zero times infinity is no number either.
            one.weights[..outputs].fill(0);
            compare_bytes(&one, &mut dice);
        }
    }
}

fn plain(shape: ConvShape) -> ConvSpec {
    let outputs = shape.output.channels;
    ConvSpec {
        weights: vec![1; outputs * shape.depth()],
        weight_zero: Vec::new(),
        bias: vec![0; outputs],
        input_zero: 7,
        scale: vec![0.5; outputs],
        residual: None,
        finish: Finish::plain(3),
        shape,
    }
}

/// Tables and scratch of these would be large although their files are small; plain loops need neither.
#[test]
fn windows_that_would_need_gigabytes() {
    let shape = |[h, w]: [usize; 2], [oh, ow]: [usize; 2], kernel, stride, dilation, pad| ConvShape {
        input: Layout::dense(h, w, 3),
        output: Layout::dense(oh, ow, 1),
        kernel,
        stride,
        dilation,
        pad,
        groups: 1,
    };
    let far = 1 << 15;
    let reach = far as isize;
    let picture = [300, 300];
    let rows = shape(picture, [2, 3], [2, 2], [far, far], [far, 1], [reach, reach]);
    let tables = shape(picture, [33_069, 300], [far, 1], [1, 1], [1, 1], [reach, 0]);
    let pointers = shape([210, 339], [81, 81], [130, 130], [1, 1], [1, 2], [0, 0]);
    let mut apart = shape([2, 5], [2, 5], [1, 1], [1, 1], [1, 1], [0, 0]);
    apart.input.row = 1 << 30;
    let channelwise = |shape: ConvShape| ConvShape {
        output: Layout::dense(shape.output.height, shape.output.width, 3),
        groups: 3,
        ..shape
    };
    for isa in Isa::all() {
        for (name, shape) in [
            ("rows", rows),
            ("tables", tables),
            ("pointers", pointers),
            ("apart", apart),
            ("tables, depthwise", channelwise(tables)),
            ("pointers, depthwise", channelwise(pointers)),
            ("apart, depthwise", channelwise(apart)),
        ] {
            let conv = PackedConv::new(isa, &plain(shape)).unwrap();
            let most = 8 << 20;
            assert!(conv.scratch() <= most, "{name} {}", isa.name());
            // Its rows are many, but far apart, and each pixel is looked at by itself.
            if name != "rows" {
                assert!(conv.is_portable(), "{name} {}", isa.name());
            }
        }
    }
}

#[test]
fn what_would_not_fit_is_refused() {
    let good = plain(ConvShape {
        input: Layout::dense(4, 4, 6),
        output: Layout::dense(4, 4, 4),
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
        groups: 2,
    });
    let residual = Residual {
        layout: good.shape.output,
        zero: 0,
        scale: 1.0,
        middle: None,
        step: Divisor::Step(1.0),
    };
    assert_eq!(good.check(), Ok(()));
    let wrongs: [fn(&mut ConvSpec, Residual); 12] = [
        |spec, _| spec.shape.groups = 0,
        |spec, _| spec.shape.groups = 4,
        |spec, _| spec.shape.input.row = usize::MAX - 5,
        |spec, _| spec.shape.output.pixel = 3,
        |spec, _| spec.shape.kernel = [usize::MAX, 2],
        |spec, _| spec.shape.stride = [usize::MAX, 1],
        |spec, _| spec.shape.pad = [isize::MIN, 0],
        |spec, _| spec.weights.truncate(11),
        |spec, _| spec.weight_zero = vec![0],
        |spec, _| spec.bias.push(0),
        |spec, _| spec.scale.clear(),
        |spec, mut residual| {
            residual.layout.height = 3;
            spec.residual = Some(residual);
        },
    ];
    for (i, wrong) in wrongs.into_iter().enumerate() {
        let mut spec = good.clone();
        wrong(&mut spec, residual);
        assert!(spec.check().is_err(), "{i}");
        assert!(PackedConv::new(Isa::best(), &spec).is_err(), "{i}");
    }
}
