//! Everything but convolution.

use super::super::binary::{Binary, BinaryOp, Operand};
use super::super::float::{Dequantize, Order, Quantize};
use super::super::isa::Isa;
use super::super::reference;
use super::super::spatial::{AveragePool, Bilinear, Gather, MaxPool, NOWHERE, TAP_ONE, Tap, Window};
use super::{CHANNELS, Dice, in_parts, out_length, parts, wanted};

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
