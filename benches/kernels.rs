//! Times the integer kernels of every instruction set of this processor, layer by layer, against each other:
//!
//! `taskset -c 1 cargo bench --bench kernels -- [PART OF A NAME] [MILLISECONDS PER KERNEL]`
//!
//! The kernels take turns, so that a slow moment hits all of them. Shown are the least and the median time that the
//! thread itself ran (waiting for other programs is not in it, what they do to caches and clock is), and what the least
//! comes to in 10⁹ multiply-accumulates (of sums of two tensors and of pools: values read) per second.

use elek::kernels::binary::{Binary, BinaryOp, Operand};
use elek::kernels::conv::{ConvShape, ConvSpec, PackedConv};
use elek::kernels::finish::{Divisor, Finish, Middle, Residual, WIDE};
use elek::kernels::isa::Isa;
use elek::kernels::layout::Layout;
use elek::kernels::spatial::{MaxPool, Window};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a convolution ends with, or what a layer is instead of one.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    /// A second tensor is added.
    Added,
    /// The same, after a rounding of its own.
    Middle,
    Table,
    /// An activation on a sum that was never quantized.
    Wide,
    /// Weights of -128, with which NEON has to be careful.
    Careful,
    Depthwise,
    DepthwiseTable,
    DepthwiseWide,
    DepthwiseCareful,
    Sum,
    /// The same without a factor in the place of the division.
    Divided,
    Pool,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Plain => "",
            Kind::Added => " + residual",
            Kind::Middle => " + residual, rounded",
            Kind::Table => " table",
            Kind::Wide => " wide table",
            Kind::Careful => " of -128",
            Kind::Depthwise => " depthwise",
            Kind::DepthwiseTable => " depthwise table",
            Kind::DepthwiseWide => " depthwise wide table",
            Kind::DepthwiseCareful => " depthwise of -128",
            Kind::Sum => " sum",
            Kind::Divided => " sum divided",
            Kind::Pool => " pool",
        }
    }

    fn is_depthwise(self) -> bool {
        use Kind::{Depthwise, DepthwiseCareful, DepthwiseTable, DepthwiseWide};
        matches!(
            self,
            Depthwise | DepthwiseTable | DepthwiseWide | DepthwiseCareful
        )
    }
}

#[derive(Clone, Copy)]
struct Layer {
    kind: Kind,
    /// Of the input, in pixels.
    side: usize,
    /// Channels.
    inputs: usize,
    outputs: usize,
    /// Side of the window.
    window: usize,
    stride: usize,
}

/// Of ResNet50, then of EfficientNet.
#[rustfmt::skip]
const LAYERS: [Layer; 37] = [
    Layer { kind: Kind::Plain, side: 224, inputs: 3, outputs: 64, window: 7, stride: 2 },
    Layer { kind: Kind::Pool, side: 112, inputs: 64, outputs: 64, window: 3, stride: 2 },
    Layer { kind: Kind::Plain, side: 56, inputs: 64, outputs: 64, window: 3, stride: 1 },
    Layer { kind: Kind::Careful, side: 56, inputs: 64, outputs: 64, window: 3, stride: 1 },
    Layer { kind: Kind::Plain, side: 28, inputs: 128, outputs: 128, window: 3, stride: 1 },
    Layer { kind: Kind::Plain, side: 14, inputs: 256, outputs: 256, window: 3, stride: 1 },
    Layer { kind: Kind::Plain, side: 7, inputs: 512, outputs: 512, window: 3, stride: 1 },
    Layer { kind: Kind::Plain, side: 56, inputs: 256, outputs: 64, window: 1, stride: 1 },
    Layer { kind: Kind::Plain, side: 28, inputs: 512, outputs: 128, window: 1, stride: 1 },
    Layer { kind: Kind::Plain, side: 14, inputs: 1024, outputs: 256, window: 1, stride: 1 },
    Layer { kind: Kind::Plain, side: 7, inputs: 2048, outputs: 512, window: 1, stride: 1 },
    Layer { kind: Kind::Added, side: 56, inputs: 64, outputs: 256, window: 1, stride: 1 },
    Layer { kind: Kind::Middle, side: 56, inputs: 64, outputs: 256, window: 1, stride: 1 },
    Layer { kind: Kind::Added, side: 14, inputs: 256, outputs: 1024, window: 1, stride: 1 },
    Layer { kind: Kind::Added, side: 7, inputs: 512, outputs: 2048, window: 1, stride: 1 },
    Layer { kind: Kind::Sum, side: 56, inputs: 256, outputs: 256, window: 1, stride: 1 },
    Layer { kind: Kind::Divided, side: 56, inputs: 256, outputs: 256, window: 1, stride: 1 },
    Layer { kind: Kind::Plain, side: 1, inputs: 2048, outputs: 1000, window: 1, stride: 1 },
    Layer { kind: Kind::Plain, side: 224, inputs: 3, outputs: 32, window: 3, stride: 2 },
    Layer { kind: Kind::Plain, side: 112, inputs: 32, outputs: 16, window: 1, stride: 1 },
    Layer { kind: Kind::Table, side: 112, inputs: 16, outputs: 96, window: 1, stride: 1 },
    Layer { kind: Kind::Wide, side: 112, inputs: 16, outputs: 96, window: 1, stride: 1 },
    Layer { kind: Kind::Plain, side: 14, inputs: 480, outputs: 80, window: 1, stride: 1 },
    Layer { kind: Kind::Plain, side: 7, inputs: 1152, outputs: 192, window: 1, stride: 1 },
    Layer { kind: Kind::Depthwise, side: 112, inputs: 32, outputs: 32, window: 3, stride: 1 },
    Layer { kind: Kind::DepthwiseTable, side: 112, inputs: 32, outputs: 32, window: 3, stride: 1 },
    Layer { kind: Kind::DepthwiseWide, side: 112, inputs: 32, outputs: 32, window: 3, stride: 1 },
    Layer { kind: Kind::Depthwise, side: 112, inputs: 96, outputs: 96, window: 3, stride: 2 },
    Layer { kind: Kind::Depthwise, side: 56, inputs: 144, outputs: 144, window: 3, stride: 1 },
    Layer { kind: Kind::DepthwiseCareful, side: 56, inputs: 144, outputs: 144, window: 3, stride: 1 },
    Layer { kind: Kind::DepthwiseTable, side: 56, inputs: 144, outputs: 144, window: 3, stride: 1 },
    Layer { kind: Kind::DepthwiseWide, side: 56, inputs: 144, outputs: 144, window: 3, stride: 1 },
    Layer { kind: Kind::Depthwise, side: 28, inputs: 240, outputs: 240, window: 5, stride: 1 },
    Layer { kind: Kind::Depthwise, side: 14, inputs: 672, outputs: 672, window: 5, stride: 1 },
    Layer { kind: Kind::DepthwiseWide, side: 14, inputs: 672, outputs: 672, window: 5, stride: 1 },
    Layer { kind: Kind::Depthwise, side: 7, inputs: 1152, outputs: 1152, window: 5, stride: 1 },
    Layer { kind: Kind::Sum, side: 7, inputs: 192, outputs: 192, window: 1, stride: 1 },
];

fn main() -> ExitCode {
    // Cargo adds an option of its own.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let wanted = words.next().unwrap_or_default();
    let budget = match words.next().map(|word| word.parse()) {
        None => Duration::from_millis(100),
        Some(Ok(budget)) => Duration::from_millis(budget),
        Some(Err(error)) => {
            eprintln!("the second argument is a number of milliseconds: {error}");
            return ExitCode::from(2);
        }
    };
    let isas = Isa::all();
    print!("{:<44}", "");
    isas.iter().for_each(|isa| print!("{:>32}", isa.name()));
    println!();
    for layer in LAYERS {
        let name = layer.name();
        if name.contains(&wanted) {
            layer.time(&name, &isas, budget);
        }
    }
    ExitCode::SUCCESS
}

/// One kernel, ready to run.
type Kernel<'a> = Box<dyn FnMut(&mut [u8]) + 'a>;

impl Layer {
    fn name(&self) -> String {
        let Layer {
            kind,
            side,
            inputs,
            outputs,
            window,
            stride,
        } = self;
        format!(
            "{side}x{side} {inputs}->{outputs} {window}x{window}/{stride}{}",
            kind.name()
        )
    }

    fn input(&self) -> Layout {
        Layout::dense(self.side, self.side, self.inputs)
    }

    fn output(&self) -> Layout {
        let side = (self.side + self.window / 2 * 2 - self.window) / self.stride + 1;
        Layout::dense(side, side, self.outputs)
    }

    fn time(&self, name: &str, isas: &[Isa], budget: Duration) {
        let output = self.output();
        let bytes = |n: usize, step: usize| -> Vec<u8> { (0..n).map(|i| (i * step % 251) as u8).collect() };
        let (input, second) = (bytes(self.input().span(), 7), bytes(output.span(), 11));
        let rows = 0..output.height;
        let (work, kernels): (u64, Vec<Kernel>) = match self.kind {
            Kind::Sum | Kind::Divided => {
                let sum = self.sum();
                let kernel = |isa: &Isa| {
                    let (isa, sum, rows, a, b) = (*isa, sum.clone(), rows.clone(), &input, &second);
                    Box::new(move |out: &mut [u8]| sum.run(isa, rows.clone(), a, b, out)) as Kernel
                };
                (2 * output.values() as u64, isas.iter().map(kernel).collect())
            }
            Kind::Pool => {
                let pool = self.pool();
                let kernel = |isa: &Isa| {
                    let (isa, pool, rows, input) = (*isa, pool.clone(), rows.clone(), &input);
                    Box::new(move |out: &mut [u8]| pool.run(isa, rows.clone(), input, out)) as Kernel
                };
                let work = output.values() * self.window * self.window;
                (work as u64, isas.iter().map(kernel).collect())
            }
            _ => {
                let spec = self.conv();
                let kernel = |isa: &Isa| {
                    let conv = PackedConv::new(*isa, &spec).expect("the layers above fit");
                    let mut scratch = vec![0; conv.scratch()];
                    let (rows, input, second) = (rows.clone(), &input, &second);
                    Box::new(move |out: &mut [u8]| {
                        conv.run(rows.clone(), input, Some(second), out, &mut scratch);
                    }) as Kernel
                };
                (spec.shape.macs(), isas.iter().map(kernel).collect())
            }
        };
        race(name, work, output.span(), kernels, budget);
    }

    fn sum(&self) -> Binary {
        let operand = |zero, scale| Operand {
            layout: self.output(),
            zero,
            scale,
        };
        let sum = Binary {
            op: BinaryOp::Add,
            a: operand(3, 0.7),
            b: operand(90, 0.6),
            output: self.output(),
            step: Divisor::Step(1.1),
            finish: Finish::plain(100),
        };
        match self.kind {
            Kind::Divided => sum,
            _ => sum.quickened(),
        }
    }

    fn pool(&self) -> MaxPool {
        let window = Window {
            input: self.input(),
            output: self.output(),
            kernel: [self.window; 2],
            stride: [self.stride; 2],
            dilation: [1; 2],
            pad: [self.window as isize / 2; 2],
        };
        MaxPool { window, table: None }
    }

    fn conv(&self) -> ConvSpec {
        let shape = ConvShape {
            input: self.input(),
            output: self.output(),
            kernel: [self.window; 2],
            stride: [self.stride; 2],
            dilation: [1; 2],
            pad: [self.window as isize / 2; 2],
            groups: if self.kind.is_depthwise() { self.inputs } else { 1 },
        };
        let finish = match self.kind {
            Kind::Table | Kind::DepthwiseTable => Finish {
                table: Some((0..=255).collect()),
                ..Finish::plain(3)
            },
            Kind::Wide | Kind::DepthwiseWide => Finish {
                zero: WIDE as i32 / 2,
                low: 0,
                high: WIDE as i32 - 1,
                table: Some((0..WIDE).map(|i| (i * 256 / WIDE) as u8).collect()),
            },
            _ => Finish::plain(3),
        };
        let middle = Middle {
            zero: 100,
            low: 0,
            high: 255,
            scale: 0.9,
        };
        let residual = Residual {
            layout: shape.output,
            zero: 4,
            scale: 0.7,
            middle: (self.kind == Kind::Middle).then_some(middle),
            step: Divisor::Step(1.1),
        };
        let mut weights: Vec<i8> = (0..self.outputs * shape.depth())
            .map(|i| ((i * 13 % 255) as i32 - 127) as i8)
            .collect();
        if matches!(self.kind, Kind::Careful | Kind::DepthwiseCareful) {
            weights[0] = i8::MIN;
        }
        ConvSpec {
            weights,
            weight_zero: Vec::new(),
            bias: vec![1000; self.outputs],
            input_zero: 128,
            scale: vec![0.003; self.outputs],
            residual: matches!(self.kind, Kind::Added | Kind::Middle).then_some(residual),
            finish,
            shape,
        }
    }
}

fn race(name: &str, work: u64, bytes: usize, mut kernels: Vec<Kernel>, budget: Duration) {
    // A store over two cache lines costs more than one: tensors of the engine begin with a line.
    let mut space: Vec<_> = kernels.iter().map(|_| vec![0u8; bytes + 64]).collect();
    let mut outputs: Vec<_> = space.iter_mut().map(|space| line(space)).collect();
    let mut times = vec![Vec::new(); kernels.len()];
    let start = Instant::now();
    while start.elapsed() < budget * kernels.len() as u32 {
        for ((kernel, output), times) in kernels.iter_mut().zip(&mut outputs).zip(&mut times) {
            let before = ran();
            kernel(output);
            times.push(ran() - before);
        }
    }
    print!("{name:<44}");
    for (output, times) in outputs.iter().zip(&mut times) {
        assert!(output[..bytes] == outputs[0][..bytes], "two kernels differ");
        times.sort();
        let (least, median) = (times[0].as_secs_f64(), times[times.len() / 2].as_secs_f64());
        print!(
            " {:8.1} {:8.1} us {:7.2} G/s",
            least * 1e6,
            median * 1e6,
            work as f64 / least / 1e9
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
