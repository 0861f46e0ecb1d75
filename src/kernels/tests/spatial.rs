//! Pools, resizes and copies.

use super::super::finish::Finish;
use super::super::isa::Isa;
use super::super::layout::Layout;
use super::super::reference;
use super::super::spatial::{AveragePool, Bilinear, Gather, MaxPool, NOWHERE, Tap, Window};
use super::{CHANNELS, Dice, in_parts, out_length, parts, wanted};

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
                    .map(|_| {
                        let share = dice.unit();
                        Tap {
                            first: dice.below(of) as u32,
                            second: dice.below(of) as u32,
                            weights: [1.0 - share, share],
                        }
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
                scale: 0.2 + dice.unit(),
                step: 0.5 + dice.unit(),
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
    let taps = |second| {
        let tap = Tap {
            first: 0,
            second,
            weights: [0.5; 2],
        };
        vec![tap; 4]
    };
    let bilinear = |rows, columns, input| Bilinear {
        input,
        output: of(3),
        rows,
        columns,
        zero: 0,
        scale: 1.0,
        step: 1.0,
        finish: Finish::plain(0),
    };
    assert!(bilinear(taps(3), taps(3), of(3)).check().is_ok());
    for wrong in [
        bilinear(taps(4), taps(3), of(3)),
        bilinear(taps(3), taps(4), of(3)),
        bilinear(taps(3)[1..].to_vec(), taps(3), of(3)),
        bilinear(taps(3), taps(3), of(4)),
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
}
