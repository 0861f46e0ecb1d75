//! Whole networks against what ONNX Runtime makes of them: all topologies at a quarter of the width, from
//! tests/golden/nets (`make zoo-small` makes them), or those of the folder in `ELEK_ZOO` (`make zoo`).

#[path = "common/nets.rs"]
mod nets;

use elek::infer::int8;
use elek::infer::int8::ir::OpKind;
use elek::infer::int8::plan::{Cutting, Plan, Region, State};
use elek::kernels::isa::Isa;
use elek::kernels::team::Team;
use nets::Net;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NETS: [&str; 15] = [
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_lite0",
    "resnet101",
    "resnet152",
    "resnet50",
    "unet_resnet50",
    "unet_resnet50_4",
    "vgg16_resnet50",
];

/// Share of the multiply-accumulates that has to be done in integers.
const INTEGERS: f64 = 0.99;
/// A label may change only where the best two are nearer to each other than so many steps of the output; or where ONNX
/// Runtime's fused graph gives the same output as elek, and so the same label.
const MARGIN: f32 = 3.0;
/// Of the pictures that are named, those for which elek is as far from the unfused graph as ONNX Runtime's fused one.
const EQUAL: f64 = 0.85;
/// Of the pixels that one or the other marks, those that both mark.
const OVERLAP: f64 = 0.98;

/// The references' deviations are stored as f32.
const ROUNDED: f64 = 1.000_01;
/// Networks that are further from the unfused graph in the mean than ONNX Runtime's fused one, by these factors; at most, none
/// is. All operators but convolutions give what the unfused graph gives, and these give the bytes of ONNX Runtime's integer
/// kernels, whose exact sums lie at a half where sums in f32 do not. ONNX Runtime's other operators differ as well; in one
/// picture of this network that takes it back a little.
const BY_CHANCE: [(&str, f64); 1] = [("efficientnet_b4", 1.015)];
/// At full width a picture has hundreds of times as many roundings, and nets of drawn weights (which nothing has trained to
/// be steady) carry each of them on to the output. Which of two ways of reckoning ends nearer to a third is then chance in
/// nearly all pictures, and what can be asked is that it is no more than that: over a network's pictures elek is further
/// away by no more than so many standard errors. One network of a thousand is by chance alone.
const STANDARD_ERRORS: f64 = 3.0;

/// Outputs of one network for all its pictures.
struct Outputs {
    own: Vec<Vec<f32>>,
    /// From what ONNX Runtime gives unfused: the furthest value, and the mean of all.
    furthest: f64,
    mean: f64,
    /// The same of its own fused graph.
    fused_furthest: f64,
    fused_mean: f64,
    /// By picture: both are equally far, at most and in the mean. So they are equal.
    equal: Vec<bool>,
    /// By picture, how much further elek is than the fused graph: at most, and in the mean.
    further: [Vec<f64>; 2],
}

fn region(net: &Net) -> Region {
    let lowered = int8::lower(&net.proto, "image", &[1, 3, net.side, net.side], "output").unwrap();
    let left = lowered.partition.left.iter();
    let left: Vec<String> = left
        .map(|l| format!("{}: {}", lowered.graph.nodes[l.position].op, l.reason))
        .collect();
    let whole = lowered.whole().cloned();
    whole.unwrap_or_else(|| {
        let regions = lowered.partition.regions.len();
        panic!("{}: {regions} regions, left to tract: {left:?}", net.name)
    })
}

/// Multiply-accumulates in integers and in f32.
fn macs(region: &Region) -> (u64, u64) {
    let mut sums = (0, 0);
    for op in &region.program.ops {
        let [h, w, _] = region.program.values[op.output].dims();
        match &op.kind {
            OpKind::Conv(conv) => {
                let parts = conv.parts.iter();
                sums.0 += parts
                    .map(|p| p.size[0] * p.size[1] * p.weights.len())
                    .sum::<usize>();
            }
            OpKind::FloatConv(conv) => sums.1 += h * w * conv.weights.len(),
            _ => {}
        }
    }
    (sums.0 as u64, sums.1 as u64)
}

/// Pictures that teams of threads are tried with, too.
const TOGETHER: usize = 2;

fn outputs(net: &Net, region: &Region) -> Outputs {
    let plan = Arc::new(Plan::new(region, Isa::best()).unwrap());
    let team = |threads| Arc::new(Team::new(threads).unwrap());
    let (two, three) = (team(2), team(3));
    let together = [
        (two.clone(), Cutting::Worthwhile),
        (two, Cutting::Always),
        (three, Cutting::Always),
    ];
    let mut together = together.map(|(team, cutting)| State::with_team(plan.clone(), Some(team), cutting));
    let mut state = State::new(plan);
    let (mut own, mut furthest, mut mean) = (Vec::new(), 0.0, 0.0);
    let (mut fused_furthest, mut fused_mean, mut equal) = (0.0, 0.0, Vec::new());
    let mut further = [Vec::new(), Vec::new()];
    let count = net.references.len() as f64;
    for (number, reference) in net.references.iter().enumerate() {
        let mut output = vec![0.0; reference.output.len()];
        let picture = nets::picture(number, net.side);
        state.run(&[&picture]).unwrap();
        state.output(0, &mut output);
        for state in together.iter_mut().filter(|_| number < TOGETHER) {
            let mut same = vec![0.0; output.len()];
            state.run(&[&picture]).unwrap();
            state.output(0, &mut same);
            assert!(same == output, "{}: other bits by several threads", net.name);
        }
        let off = output.iter().zip(&reference.output);
        let off = off.map(|(a, b)| f64::from((a - b).abs()));
        let own_furthest = off.clone().fold(0.0, f64::max);
        let own_mean = off.sum::<f64>() / output.len() as f64;
        (furthest, mean) = (f64::max(furthest, own_furthest), mean + own_mean / count);
        let alike = |own: f64, fused: f32| (own - f64::from(fused)).abs() < 1e-6;
        let same = alike(own_furthest, reference.furthest) && alike(own_mean, reference.mean);
        equal.push(same);
        let more = |own: f64, fused: f32| if same { 0.0 } else { own - f64::from(fused) };
        further[0].push(more(own_furthest, reference.furthest));
        further[1].push(more(own_mean, reference.mean));
        fused_furthest = f64::max(fused_furthest, reference.furthest.into());
        fused_mean += f64::from(reference.mean) / count;
        own.push(output);
    }
    Outputs {
        own,
        furthest,
        mean,
        fused_furthest,
        fused_mean,
        equal,
        further,
    }
}

/// The mean in standard errors; 0 where there is nothing but zeros.
fn in_standard_errors(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    if mean == 0.0 {
        0.0
    } else {
        mean / (spread / count).sqrt()
    }
}

/// The best, and how much better it is than the second.
fn top(values: &[f32]) -> (usize, f32) {
    let better = |&a: &usize, &b: &usize| values[a].total_cmp(&values[b]);
    let best = (0..values.len()).max_by(better).unwrap();
    let others = (0..values.len()).filter(|i| *i != best);
    let second = others.max_by(better).unwrap();
    (best, values[best] - values[second])
}

/// Pictures whose label is decided, and those of them where elek gives another although it may not.
fn labels(net: &Net, outputs: &Outputs) -> (usize, Vec<usize>) {
    let (step, mut decided, mut others) = (net.output_step(), 0, Vec::new());
    for (number, (own, reference)) in outputs.own.iter().zip(&net.references).enumerate() {
        let (best, margin) = top(&reference.output);
        if margin > MARGIN * step {
            decided += 1;
            if top(own).0 != best && !outputs.equal[number] {
                others.push(number);
            }
        }
    }
    assert!(decided > 0, "{}: no picture has a label", net.name);
    (decided, others)
}

/// Class of each pixel: of one channel marked or not, of several the largest.
fn classes(output: &[f32], channels: usize) -> Vec<usize> {
    let pixels = output.len() / channels;
    let class = |pixel: usize| match channels {
        1 => usize::from(output[pixel] > 0.5),
        // The first of equal ones.
        _ => (0..channels)
            .rev()
            .max_by(|&a, &b| output[a * pixels + pixel].total_cmp(&output[b * pixels + pixel]))
            .unwrap(),
    };
    (0..pixels).map(class).collect()
}

/// Overlap of the masks of all classes and pictures.
fn overlap(net: &Net, own: &[Vec<f32>]) -> f64 {
    let channels = own[0].len() / net.side / net.side;
    let (mut both, mut either) = (vec![0usize; channels.max(2)], vec![0usize; channels.max(2)]);
    for (own, reference) in own.iter().zip(&net.references) {
        let pairs = classes(own, channels)
            .into_iter()
            .zip(classes(&reference.output, channels));
        for (a, b) in pairs {
            either[a] += 1;
            if a == b {
                both[a] += 1;
            } else {
                either[b] += 1;
            }
        }
    }
    let seen = either.iter().filter(|either| **either > 0).count();
    assert!(seen > 1, "{}: one class only", net.name);
    both.iter().sum::<usize>() as f64 / either.iter().sum::<usize>() as f64
}

fn folder() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nets");
    std::env::var_os("ELEK_ZOO").map_or(own, PathBuf::from)
}

#[test]
fn whole_networks_are_one_region_and_give_what_onnx_runtime_gives() {
    let files = nets::files(&folder());
    let names: Vec<_> = files
        .iter()
        .map(|f| f.file_stem().unwrap().to_string_lossy())
        .collect();
    let full = std::env::var_os("ELEK_ZOO").is_some();
    if !full {
        assert_eq!(names, NETS);
    }
    let (mut failures, mut sums, mut named) = (Vec::new(), (0.0, 0.0), (0, 0));
    let mut chances = Vec::new();
    for file in &files {
        let net = nets::read(file);
        let region = region(&net);
        let (integers, floats) = macs(&region);
        let outputs = outputs(&net, &region);
        let equal = outputs.equal.iter().filter(|equal| **equal).count();
        let words = match net.name.starts_with("unet") {
            true => {
                let overlap = overlap(&net, &outputs.own);
                // Drawn weights, again: between two classes that are alike everywhere, a rounding decides.
                if overlap < OVERLAP && equal < net.references.len() {
                    failures.push(format!("{}: masks overlap by {overlap:.4}", net.name));
                }
                format!("masks overlap by {overlap:.4}")
            }
            false => {
                let (decided, others) = labels(&net, &outputs);
                if !others.is_empty() {
                    failures.push(format!("{}: pictures {others:?} get another label", net.name));
                }
                named = (named.0 + equal, named.1 + net.references.len());
                format!("{decided} of {} labels are decided", net.references.len())
            }
        };
        let Outputs {
            furthest,
            mean,
            fused_furthest,
            fused_mean,
            further,
            ..
        } = outputs;
        let further = further.map(|values| in_standard_errors(&values));
        println!(
            "{}: {1} × {1}, {2:.1} MMAC in integers, {3:.2} in f32, {words}; from the unfused graph by {furthest:.5} at \
             most, {mean:.6} in the mean; ONNX Runtime by {fused_furthest:.5}, {fused_mean:.6}, as far for {equal} of {4} \
             pictures; further by {5:.1} and {6:.1} standard errors",
            net.name,
            net.side,
            integers as f64 / 1e6,
            floats as f64 / 1e6,
            net.references.len(),
            further[0],
            further[1],
        );
        // What is done where: nothing is lost but what a 1 × 1 convolution behind an upsampling did too often.
        let done = integers + floats;
        let all = if net.name.starts_with("vgg16") {
            done <= net.macs
        } else {
            done == net.macs
        };
        if !all || (integers as f64) < INTEGERS * done as f64 {
            failures.push(format!(
                "{}: {integers} in integers and {floats} in f32 of {}",
                net.name, net.macs
            ));
        }
        let by_chance = BY_CHANCE.iter().find(|(name, _)| *name == net.name);
        let more = by_chance.map_or(1.0, |(_, factor)| *factor);
        let away = match full {
            false => mean > ROUNDED * more * fused_mean || furthest > ROUNDED * fused_furthest,
            true => further.iter().any(|errors| *errors > STANDARD_ERRORS),
        };
        if away {
            failures.push(format!(
                "{}: further from the unfused graph than ONNX Runtime",
                net.name
            ));
        }
        sums = (sums.0 + mean, sums.1 + fused_mean);
        chances.push(further[1]);
    }
    // Of a sum of independent numbers, each in standard errors.
    let chance = chances.iter().sum::<f64>() / (chances.len() as f64).sqrt();
    println!(
        "together {:.5}, ONNX Runtime {:.5}; further by {chance:.1} standard errors",
        sums.0, sums.1
    );
    println!(
        "{} of {} pictures are as far from it as ONNX Runtime",
        named.0, named.1
    );
    if !full && (named.0 as f64) < EQUAL * named.1 as f64 {
        failures.push(format!(
            "only {} of {} pictures are as far away as ONNX Runtime",
            named.0, named.1
        ));
    }
    let away = if full {
        chance > STANDARD_ERRORS
    } else {
        sums.0 > sums.1
    };
    if away {
        failures.push(format!(
            "all networks together are further away than ONNX Runtime: {sums:?}"
        ));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
