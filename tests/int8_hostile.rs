//! Damaged graphs: our own reading of ONNX ends in an error or a graph that runs, never in a panic or an endless loop.
//! (tract's reader has no such promise: it meets files in a child process, see tests/model_files.rs.)

use elek::infer::int8::plan::{Plan, State};
use elek::infer::int8::{self, rewrite};
use elek::kernels::isa::Isa;
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::Framework;

/// The graphs of tests/golden/ops.bin with their input's shape and output's name.
fn graphs() -> &'static [(Vec<u8>, Vec<usize>, String)] {
    static GRAPHS: OnceLock<Vec<(Vec<u8>, Vec<usize>, String)>> = OnceLock::new();
    GRAPHS.get_or_init(|| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ops.bin");
        let bytes = std::fs::read(path).unwrap();
        let mut at = 0;
        let number = |at: &mut usize| {
            *at += 4;
            u32::from_le_bytes(bytes[*at - 4..*at].try_into().unwrap()) as usize
        };
        let count = number(&mut at);
        let mut graphs = Vec::new();
        for _ in 0..count {
            let block = |at: &mut usize| {
                let length = number(at);
                *at += length;
                bytes[*at - length..*at].to_vec()
            };
            let (_name, model, dims) = (block(&mut at), block(&mut at), block(&mut at));
            let output = String::from_utf8(block(&mut at)).unwrap();
            at += 8;
            block(&mut at);
            let shape = dims
                .chunks_exact(4)
                .map(|d| u32::from_le_bytes(d.try_into().unwrap()) as usize);
            graphs.push((model, shape.collect(), output));
        }
        graphs
    })
}

fn read(bytes: &[u8]) -> Option<ModelProto> {
    tract_onnx::onnx().proto_model_for_read(&mut &bytes[..]).ok()
}

/// Lowers, plans and runs whatever can be.
fn try_all(proto: &ModelProto, shape: &[usize], output: &str) {
    let Ok(lowered) = int8::lower(proto, "image", shape, output) else {
        return;
    };
    let mut plans = Vec::new();
    for region in &lowered.partition.regions {
        let work: u64 = region.program.macs();
        let Ok(plan) = Plan::new(region, Isa::best()) else {
            return;
        };
        let plan = Arc::new(plan);
        plans.push(plan.clone());
        // Large ones are allowed, but take their time.
        if work > 5_000_000 || plan.memory() > 50_000_000 {
            continue;
        }
        let inputs: Vec<Vec<f32>> = plan
            .inputs()
            .iter()
            .map(|input| {
                (0..input.shape.iter().product())
                    .map(|i| (i % 37) as f32 - 18.0)
                    .collect()
            })
            .collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(|v| &v[..]).collect();
        let mut state = State::new(plan.clone());
        state.run(&inputs);
        for (i, output) in plan.outputs().iter().enumerate() {
            let mut values = vec![0.0; output.shape.iter().product()];
            state.output(i, &mut values);
        }
    }
    let _ = rewrite::rewrite(proto, &lowered, &plans);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes(which in 0usize..1000, changes in prop::collection::vec((any::<u32>(), any::<u8>()), 1..4)) {
        let (model, shape, output) = &graphs()[which % graphs().len()];
        let mut bytes = model.clone();
        for (at, byte) in changes {
            let at = at as usize % bytes.len();
            bytes[at] = byte;
        }
        if let Some(proto) = read(&bytes) {
            try_all(&proto, shape, output);
        }
    }

    #[test]
    fn cut_and_spliced(which in 0usize..1000, other in 0usize..1000, from in any::<u32>(), to in any::<u32>()) {
        let (model, shape, output) = &graphs()[which % graphs().len()];
        let (second, ..) = &graphs()[other % graphs().len()];
        let (from, to) = (from as usize % model.len(), to as usize % second.len());
        if let Some(proto) = read(&[&model[..from], &second[to..]].concat()) {
            try_all(&proto, shape, output);
        }
    }

    /// Numbers of attributes, sizes and inputs changed, the file still whole: what bytes alone seldom reach.
    #[test]
    fn other_numbers(which in 0usize..1000, seed in any::<u64>()) {
        let (model, shape, output) = &graphs()[which % graphs().len()];
        let mut proto = read(model).unwrap();
        let mut dice = seed;
        let mut next = move || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize
        };
        const NUMBERS: [i64; 14] = [0, 1, -1, 2, 3, 7, 255, 256, -128, 32_768, 1 << 31, i64::MAX, i64::MIN, 1 << 40];
        let graph = proto.graph.as_mut().unwrap();
        for _ in 0..1 + next() % 3 {
            let (a, b, n) = (next(), next(), NUMBERS[next() % NUMBERS.len()]);
            let nodes = graph.node.len();
            match next() % 6 {
                0 => {
                    let node = &mut graph.node[a % nodes];
                    let many = node.attribute.len().max(1);
                    if let Some(attribute) = node.attribute.get_mut(b % many) {
                        attribute.i = n;
                        let count = attribute.ints.len().max(1);
                        if let Some(int) = attribute.ints.get_mut(next() % count) {
                            *int = n;
                        }
                    }
                }
                1 => {
                    let name = graph.node[b % nodes].output[0].clone();
                    let inputs = &mut graph.node[a % nodes].input;
                    let count = inputs.len();
                    inputs[next() % count] = name;
                }
                2 => {
                    let tensors = graph.initializer.len();
                    let tensor = &mut graph.initializer[a % tensors];
                    let dims = tensor.dims.len().max(1);
                    if let Some(dim) = tensor.dims.get_mut(b % dims) {
                        *dim = n;
                    }
                }
                3 => {
                    let tensors = graph.initializer.len();
                    let tensor = &mut graph.initializer[a % tensors];
                    let length = tensor.raw_data.len().max(1);
                    if let Some(byte) = tensor.raw_data.get_mut(b % length) {
                        *byte = n as u8;
                    }
                }
                4 => graph.node[a % nodes].op_type = graph.node[b % nodes].op_type.clone(),
                _ => {
                    graph.node.remove(a % nodes);
                    if graph.node.is_empty() {
                        break;
                    }
                }
            }
        }
        try_all(&proto, shape, output);
    }
}
