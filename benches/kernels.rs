//! Times the integer kernels of every instruction set of this processor, layer by layer, against each other:
//!
//! `taskset -c 1 cargo bench --bench kernels -- [PART OF A NAME] [MILLISECONDS PER KERNEL]`
//!
//! The kernels take turns, so that a slow moment hits all of them. Shown are the least and the median time that the
//! thread itself ran (waiting for other programs is not in it, what they do to caches and clock is), and what the least
//! comes to in 10⁹ multiply-accumulates per second.

use elek::kernels::conv::{ConvShape, ConvSpec, PackedConv};
use elek::kernels::finish::{Finish, Residual};
use elek::kernels::isa::Isa;
use elek::kernels::layout::Layout;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Added,
    Table,
    Depthwise,
}
use Kind::{Added, Depthwise, Plain, Table};

/// Side of the input, its channels, those of the output, side of the window, stride.
const LAYERS: [(Kind, usize, usize, usize, usize, usize); 24] = [
    // ResNet50
    (Plain, 224, 3, 64, 7, 2),
    (Plain, 56, 64, 64, 3, 1),
    (Plain, 28, 128, 128, 3, 1),
    (Plain, 14, 256, 256, 3, 1),
    (Plain, 7, 512, 512, 3, 1),
    (Plain, 56, 256, 64, 1, 1),
    (Plain, 28, 512, 128, 1, 1),
    (Plain, 14, 1024, 256, 1, 1),
    (Plain, 7, 2048, 512, 1, 1),
    (Added, 56, 64, 256, 1, 1),
    (Added, 14, 256, 1024, 1, 1),
    (Added, 7, 512, 2048, 1, 1),
    (Plain, 1, 2048, 1000, 1, 1),
    // EfficientNet
    (Plain, 224, 3, 32, 3, 2),
    (Plain, 112, 32, 16, 1, 1),
    (Table, 112, 16, 96, 1, 1),
    (Plain, 14, 480, 80, 1, 1),
    (Plain, 7, 1152, 192, 1, 1),
    (Depthwise, 112, 32, 32, 3, 1),
    (Depthwise, 112, 96, 96, 3, 2),
    (Depthwise, 56, 144, 144, 3, 1),
    (Depthwise, 28, 240, 240, 5, 1),
    (Depthwise, 14, 672, 672, 5, 1),
    (Depthwise, 7, 1152, 1152, 5, 1),
];

fn main() {
    // Cargo adds an option of its own.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let wanted = words.next().unwrap_or_default();
    let budget = words.next().and_then(|word| word.parse().ok()).unwrap_or(100);
    let isas = Isa::all();
    print!("{:<36}", "");
    isas.iter().for_each(|isa| print!("{:>32}", isa.name()));
    println!();
    for (kind, side, inputs, outputs, window, stride) in LAYERS {
        let what = match kind {
            Plain => "",
            Added => " + residual",
            Table => " table",
            Depthwise => " depthwise",
        };
        let name = format!("{side}x{side} {inputs}->{outputs} {window}x{window}/{stride}{what}");
        if name.contains(&wanted) {
            let spec = spec(kind, side, inputs, outputs, window, stride);
            layer(&name, &spec, &isas, Duration::from_millis(budget));
        }
    }
}

fn spec(kind: Kind, side: usize, inputs: usize, outputs: usize, window: usize, stride: usize) -> ConvSpec {
    let out = (side + window / 2 * 2 - window) / stride + 1;
    let shape = ConvShape {
        input: Layout::dense(side, side, inputs),
        output: Layout::dense(out, out, outputs),
        kernel: [window; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        pad: [window as isize / 2; 2],
        groups: if kind == Depthwise { inputs } else { 1 },
    };
    let mut finish = Finish::plain(3);
    if kind == Table {
        finish.table = Some((0..=255).collect());
    }
    ConvSpec {
        weights: (0..outputs * shape.depth())
            .map(|i| ((i * 13 % 255) as i32 - 127) as i8)
            .collect(),
        weight_zero: Vec::new(),
        bias: vec![1000; outputs],
        input_zero: 128,
        scale: vec![0.003; outputs],
        residual: (kind == Added).then_some(Residual {
            layout: shape.output,
            zero: 4,
            ratio: 0.7,
            middle: None,
        }),
        finish,
        shape,
    }
}

fn layer(name: &str, spec: &ConvSpec, isas: &[Isa], budget: Duration) {
    let shape = &spec.shape;
    let input: Vec<u8> = (0..shape.input.span()).map(|i| (i * 7 % 251) as u8).collect();
    let residual: Vec<u8> = (0..shape.output.span()).map(|i| (i * 11 % 251) as u8).collect();
    let kernels: Vec<_> = isas.iter().map(|isa| PackedConv::new(*isa, spec)).collect();
    // A store over two cache lines costs more than one: tensors of the engine begin with a line.
    let mut space: Vec<_> = isas.iter().map(|_| vec![0u8; shape.output.span() + 64]).collect();
    let mut outputs: Vec<_> = space.iter_mut().map(|space| line(space)).collect();
    let mut times = vec![Vec::new(); isas.len()];
    let start = Instant::now();
    while start.elapsed() < budget * isas.len() as u32 {
        for ((kernel, output), times) in kernels.iter().zip(&mut outputs).zip(&mut times) {
            let mut scratch = vec![0; kernel.scratch()];
            let before = ran();
            kernel.run(
                0..shape.output.height,
                &input,
                Some(&residual),
                output,
                &mut scratch,
            );
            times.push(ran() - before);
        }
    }
    print!("{name:<36}");
    for (output, times) in outputs.iter().zip(&mut times) {
        let bytes = shape.output.span();
        assert!(output[..bytes] == outputs[0][..bytes], "two kernels differ");
        times.sort();
        let (least, median) = (times[0].as_secs_f64(), times[times.len() / 2].as_secs_f64());
        print!(
            " {:8.1} {:8.1} us {:7.2} G/s",
            least * 1e6,
            median * 1e6,
            shape.macs() as f64 / least / 1e9
        );
    }
    println!();
}

fn line(space: &mut [u8]) -> &mut [u8] {
    let start = space.as_ptr().align_offset(64);
    &mut space[start..]
}

/// How long this thread ran.
fn ran() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
