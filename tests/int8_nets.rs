//! Whole networks (`make zoo-small` or `make zoo`, which need Python) against what ONNX Runtime made of them.
//!
//! Looks in `target/zoo`, or where `ELEK_ZOO` says; without that folder it prints a note and passes.

use elek::infer::int8::plan::{Plan, State};
use elek::infer::int8::{self, Lowered};
use elek::kernels::isa::Isa;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tract_onnx::prelude::Framework;

struct Net {
    name: String,
    lowered: Lowered,
    side: usize,
    /// Picture, in integers, operator by operator.
    references: Vec<[Vec<f32>; 3]>,
}

fn nets() -> Vec<PathBuf> {
    let folder = std::env::var_os("ELEK_ZOO").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/zoo"));
    let files = std::fs::read_dir(&folder).into_iter().flatten();
    let mut nets: Vec<PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".int8.onnx"))
        .collect();
    nets.sort();
    if nets.is_empty() {
        println!("skipped: no networks in {} (make zoo-small)", folder.display());
    }
    nets
}

fn read(path: &Path) -> Net {
    let bytes = std::fs::read(path).unwrap();
    let proto = tract_onnx::onnx().proto_model_for_read(&mut &bytes[..]).unwrap();
    let input = &proto.graph.as_ref().unwrap().input[0];
    let Some(tract_onnx::pb::type_proto::Value::TensorType(tensor)) = &input.r#type.as_ref().unwrap().value
    else {
        panic!("the input is no tensor");
    };
    let last = tensor.shape.as_ref().unwrap().dim.last().unwrap().value.clone();
    let Some(tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue(side)) = last else {
        panic!("the input has no fixed size");
    };
    let side = side as usize;
    let lowered = int8::lower(&proto, "image", &[1, 3, side, side], "output").unwrap();
    let name = path
        .file_name()
        .unwrap()
        .to_string_lossy()
        .replace(".int8.onnx", "");
    let reference = std::fs::read(path.with_file_name(format!("{name}.reference.f32"))).unwrap();
    let floats: Vec<f32> = reference
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let picture = 3 * side * side;
    let references = floats.chunks_exact(floats.len() / 3).map(|one| {
        let (x, rest) = one.split_at(picture);
        let (fused, unfused) = rest.split_at(rest.len() / 2);
        [x, fused, unfused].map(<[f32]>::to_vec)
    });
    Net {
        name,
        side,
        references: references.collect(),
        lowered,
    }
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn mean(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

fn top(values: &[f32]) -> (usize, f32) {
    let best = (0..values.len())
        .max_by(|&a, &b| values[a].total_cmp(&values[b]))
        .unwrap();
    let others = values.iter().enumerate().filter(|(i, _)| *i != best);
    let second = others.map(|(_, v)| *v).fold(f32::NEG_INFINITY, f32::max);
    (best, values[best] - second)
}

#[test]
fn whole_networks_are_one_region_and_give_what_onnx_runtime_gives() {
    for path in nets() {
        let net = read(&path);
        let left: Vec<String> = net
            .lowered
            .partition
            .left
            .iter()
            .map(|l| format!("{}: {}", net.lowered.graph.nodes[l.position].op, l.reason))
            .collect();
        let region = net
            .lowered
            .whole()
            .unwrap_or_else(|| panic!("{}: left {left:?}", net.name));
        let plan = Arc::new(Plan::new(region, Isa::best()).unwrap());
        let mut state = State::new(plan.clone());
        // Differences over all pictures: ours from both, and ONNX Runtime's from itself.
        let mut steps = 0.0;
        let (mut own_far, mut far, mut own_mean, mut between) = (0f32, 0f32, 0f32, 0f32);
        for [picture, fused, unfused] in &net.references {
            let mut output = vec![0.0; fused.len()];
            state.run(&[picture]);
            state.output(0, &mut output);
            own_far = own_far.max(furthest(fused, unfused));
            far = far.max(furthest(&output, unfused));
            own_mean += mean(fused, unfused);
            between += mean(&output, unfused);
            // One step of the last quantizer: the smallest difference of two outputs.
            let mut sorted = fused.clone();
            sorted.sort_by(f32::total_cmp);
            let step = sorted
                .windows(2)
                .map(|w| w[1] - w[0])
                .filter(|d| *d > 1e-6)
                .fold(f32::MAX, f32::min);
            steps += step.min(1.0);
            let (best, margin) = top(fused);
            if margin > 3.0 * step {
                assert_eq!(top(&output).0, best, "{}", net.name);
            }
        }
        println!(
            "{}: {} × {}, {:.1} MMAC, from the unfused graph by {far:.4} at most ({:.5} in the mean), ONNX Runtime by \
             {own_far:.4} ({:.5})",
            net.name,
            net.side,
            net.side,
            plan.macs as f64 / 1e6,
            between / net.references.len() as f32,
            own_mean / net.references.len() as f32,
        );
        // Sums of two tensors and bilinear resizes are reckoned in another order, and where they lie at a half, the
        // other step may come out: a little more by chance.
        assert!(
            between <= 1.1 * own_mean + 0.02 * steps,
            "{}: {between} {own_mean}",
            net.name
        );
    }
}
