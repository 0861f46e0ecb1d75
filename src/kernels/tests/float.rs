//! Between f32 and bytes; softmax.

use super::super::float::{Dequantize, Order, Quantize, Softmax};
use super::super::isa::Isa;
use super::super::reference;
use super::{CHANNELS, Dice, bits, in_parts, parts, wanted};

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
