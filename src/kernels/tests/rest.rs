//! Everything but convolution.

use super::super::binary::{Binary, BinaryOp, Operand};
use super::super::finish::Finish;
use super::super::float::{Dequantize, Order, Quantize, Softmax};
use super::super::isa::Isa;
use super::super::layout::Layout;
use super::super::reference;
use super::super::spatial::{AveragePool, Bilinear, Gather, MaxPool, NOWHERE, TAP_ONE, Tap, Window};
use super::{CHANNELS, Dice, bits, in_parts, out_length, parts, wanted};

/// Sizes of two operands, whose larger ones are the output's; or, with 1 for the channels of both, smaller.
fn pairs(h: usize, w: usize, c: usize) -> [[(usize, usize, usize); 2]; 11] {
    [
        [(h, w, c), (h, w, c)],
        [(h, w, c), (1, 1, c)],
        [(h, w, c), (h, w, 1)],
        [(h, w, c), (1, 1, 1)],
        [(h, w, c), (1, w, c)],
        [(h, w, c), (h, 1, 1)],
        [(h, 1, c), (1, w, c)],
        [(h, w, 1), (1, 1, c)],
        [(h, 1, 1), (1, w, c)],
        [(h, w, 1), (h, w, 1)],
        [(1, 1, 1), (1, w, 1)],
    ]
}

#[test]
fn sums_and_products_of_two_tensors() {
    let mut dice = Dice(6);
    for channels in CHANNELS.into_iter().chain([129, 256]) {
        for kind in 0..11 {
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
                let mut operands = pairs(h, w, channels)[kind].map(|(h, w, c)| Operand {
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
                assert_eq!(spec.check(), Ok(()), "{spec:?}");
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
        assert_eq!((max.check(), average.check()), (Ok(()), Ok(())));
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
            assert_eq!(
                (gather.check(), bilinear.check(), copy.check()),
                (Ok(()), Ok(()), Ok(()))
            );
            let split = parts(height, &mut dice);
            let right = wanted(&output, |out| reference::gather(&gather, &bytes, out));
            let right_copy = wanted(&copy.output, |out| reference::gather(&copy, &bytes, out));
            let right_bilinear = wanted(&output, |out| reference::bilinear(&bilinear, &bytes, out));
            for isa in Isa::all() {
                let got = in_parts(&output, &split, |rows, out| gather.run(isa, rows, &bytes, out));
                assert!(got == right, "{} {gather:?}", isa.name());
                let got = in_parts(&output, &split, |rows, out| bilinear.run(isa, rows, &bytes, out));
                assert!(got == right_bilinear, "{} {bilinear:?}", isa.name());
                let whole = 0..h;
                let got = in_parts(&copy.output, std::slice::from_ref(&whole), |rows, out| {
                    copy.run(isa, rows, &bytes, out)
                });
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
            // Below, at and above the blocks that are worked on at a time.
            for w in [1, 20, 63, 64, 65, 130] {
                quantize_and_back(order, 1 + dice.below(3), w, channels, &mut dice);
            }
        }
    }
}

fn quantize_and_back(order: Order, h: usize, w: usize, channels: usize, dice: &mut Dice) {
    let output = dice.layout(h, w, channels);
    let quantize = Quantize {
        order,
        output,
        scale: 0.01 + dice.unit(),
        finish: dice.finish(),
    };
    assert_eq!(quantize.check(), Ok(()));
    let mut input: Vec<f32> = (0..output.values())
        .map(|_| (dice.unit() - 0.5) * 300.0 * quantize.scale)
        .collect();
    let special = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        2.5 * quantize.scale,
    ];
    for value in special {
        if !input.is_empty() {
            let at = dice.below(input.len());
            input[at] = value;
        }
    }
    let right = wanted(&output, |out| reference::quantize(&quantize, &input, out));
    let dequantize = Dequantize {
        order,
        input: output,
        scale: quantize.scale,
        zero: dice.byte(),
    };
    let bytes = dice.bytes(output.span());
    let mut right_f32 = vec![0.0; output.values()];
    reference::dequantize(&dequantize, &bytes, &mut right_f32);
    let split = parts(h, dice);
    for isa in Isa::all() {
        let got = in_parts(&output, &split, |rows, out| quantize.run(isa, rows, &input, out));
        assert!(got == right, "{} {quantize:?}", isa.name());
        let mut got = vec![0.0; output.values()];
        dequantize.run(isa, &bytes, &mut got);
        assert!(bits(&got) == bits(&right_f32), "{} {dequantize:?}", isa.name());
    }
}

#[test]
fn softmax() {
    let mut dice = Dice(13);
    for channels in CHANNELS {
        for alike in [false, true] {
            let (h, w) = (1 + dice.below(3), 1 + dice.below(5));
            let input = dice.layout(h, w, channels);
            let mut bytes = dice.bytes(input.span());
            if alike {
                bytes.fill(200);
            }
            let softmax = Softmax::new(input, 0.01 + dice.unit());
            let mut right = vec![0.0; input.values()];
            reference::softmax(&softmax, &bytes, &mut right);
            let mut got = vec![0.0; input.values()];
            softmax.run(&bytes, &mut got);
            assert!(bits(&got) == bits(&right), "{input:?}");
            for pixel in got.chunks(channels.max(1)) {
                assert!((pixel.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{input:?}");
            }
        }
    }
}

#[test]
fn what_would_not_fit_is_refused() {
    let of = |channels| Layout::dense(4, 4, channels);
    let window = Window {
        input: of(3),
        output: of(3),
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
    };
    let short = Some(vec![0; 255].into());
    let max = |window, table| MaxPool { window, table };
    assert!(max(window, None).check().is_ok());
    assert!(max(window, short.clone()).check().is_err());
    let changes: [fn(&mut Window); 4] = [
        |w| w.dilation = [0, 1],
        |w| w.output.channels = 4,
        |w| w.stride = [1, usize::MAX],
        |w| w.input.row = 1,
    ];
    for change in changes {
        let mut window = window;
        change(&mut window);
        assert!(max(window, None).check().is_err(), "{window:?}");
    }
    let average = |window, down: Vec<u32>| AveragePool {
        window,
        zero: 0,
        factor: 1.0,
        counts: [down, vec![1; 4]],
        finish: Finish::plain(0),
    };
    assert!(average(window, vec![1; 4]).check().is_ok());
    for counts in [vec![1; 3], vec![1, 1, 1, 0]] {
        assert!(average(window, counts).check().is_err());
    }
    let large = Window {
        input: Layout::dense(1 << 12, 1 << 11, 3),
        kernel: [1 << 12, 1 << 11],
        ..window
    };
    assert!(average(large, vec![1; 4]).check().is_err());
    let gather = Gather::copy(of(3), of(3), None);
    assert!(gather.check().is_ok());
    for wrong in [
        Gather {
            rows: vec![0, 1, 2, 4],
            ..gather.clone()
        },
        Gather {
            columns: vec![0; 3],
            ..gather.clone()
        },
        Gather {
            output: of(2),
            ..gather.clone()
        },
        Gather {
            table: short,
            ..gather
        },
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
    let taps = |second, weight| {
        vec![
            Tap {
                first: 0,
                second,
                weight
            };
            4
        ]
    };
    let bilinear = |taps, input| Bilinear {
        input,
        output: of(3),
        rows: taps,
        columns: vec![
            Tap {
                first: 0,
                second: 1,
                weight: 5
            };
            4
        ],
        zero: 0,
        factor: 1.0,
        finish: Finish::plain(0),
    };
    assert!(bilinear(taps(3, TAP_ONE), of(3)).check().is_ok());
    for wrong in [
        bilinear(taps(4, 0), of(3)),
        bilinear(taps(3, TAP_ONE + 1), of(3)),
        bilinear(taps(3, -1), of(3)),
        bilinear(taps(3, 0), of(4)),
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
    let operand = |layout| Operand { layout, zero: 0 };
    let binary = |a, b| Binary {
        op: BinaryOp::Mul { ratio: 1.0 },
        a: operand(a),
        b: operand(b),
        output: of(3),
        finish: Finish::plain(0),
    };
    assert!(binary(of(3), of(1)).check().is_ok());
    assert!(binary(of(3), of(2)).check().is_err());
    assert!(binary(Layout::dense(2, 4, 3), of(3)).check().is_err());
}
