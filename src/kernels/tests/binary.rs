//! Sums and products of two tensors.

use super::super::binary::{Binary, BinaryOp, Operand};
use super::super::finish::{Divisor, Finish};
use super::super::isa::Isa;
use super::super::layout::Layout;
use super::super::reference;
use super::{CHANNELS, Dice, in_parts, parts, wanted};

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
            for (op, scales) in [
                (BinaryOp::Add, [0.3 + dice.unit(), dice.unit() - 0.5]),
                (BinaryOp::Mul, [0.2 * dice.unit(), 0.1]),
            ] {
                let (h, w) = (1 + dice.below(4), 1 + dice.below(20));
                let mut operands = pairs(h, w, channels)[kind].map(|(h, w, c)| Operand {
                    layout: dice.layout(h, w, c),
                    zero: dice.byte(),
                    scale: 1.0,
                });
                for (operand, scale) in operands.iter_mut().zip(scales) {
                    operand.scale = scale;
                }
                if dice.below(2) == 0 {
                    operands.reverse();
                }
                let spec = Binary {
                    op,
                    a: operands[0],
                    b: operands[1],
                    output: dice.layout(h, w, channels),
                    step: Divisor::Step(0.5 + dice.unit()),
                    finish: dice.finish(),
                };
                assert_eq!(spec.check(), Ok(()), "{spec:?}");
                let (a, b) = (dice.bytes(spec.a.layout.span()), dice.bytes(spec.b.layout.span()));
                let right = wanted(&spec.output, |out| reference::binary(&spec, &a, &b, out));
                let parts = parts(h, &mut dice);
                let quick = spec.clone().quickened();
                for (isa, spec) in Isa::all()
                    .into_iter()
                    .flat_map(|isa| [(isa, &spec), (isa, &quick)])
                {
                    let got = in_parts(&spec.output, &parts, |rows, out| spec.run(isa, rows, &a, &b, out));
                    assert!(got == right, "{} {spec:?}", isa.name());
                }
            }
        }
    }
}

#[test]
fn what_would_not_fit_is_refused() {
    let of = |channels| Layout::dense(4, 4, channels);
    let operand = |layout| Operand {
        layout,
        zero: 0,
        scale: 1.0,
    };
    let binary = |a, b| Binary {
        op: BinaryOp::Mul,
        a: operand(a),
        b: operand(b),
        output: of(3),
        step: Divisor::Step(1.0),
        finish: Finish::plain(0),
    };
    assert!(binary(of(3), of(1)).check().is_ok());
    assert!(binary(of(3), of(2)).check().is_err());
    assert!(binary(Layout::dense(2, 4, 3), of(3)).check().is_err());
}
