//! Single operators between quantizers, as QDQ and as QOperator graphs: what elek's integers give against what ONNX
//! Runtime gives, value by value. `models/zoo/ops.py` makes the file.

#[path = "common/ops.rs"]
mod ops;

use elek::infer::graph::{self, Facts, Opened};
use elek::infer::int8::ir::OpKind;
use elek::infer::int8::plan::{Picture, Plan, State};
use elek::infer::int8::{self, Lowered, rewrite};
use elek::kernels::isa::Isa;
use ops::{Case, Expected, cases, picture};
use std::sync::Arc;
use tract_core::internal::*;
use tract_core::prelude::TypedSimplePlan;
use tract_onnx::pb;

/// Values that may be a step away: sums of f32 in another order, rounded at a half.
const WITHIN_A_STEP: f64 = 0.999;
/// Of f32 outputs, whose inputs are the same bytes: a bias is rounded to steps of input × weight, here 1e-4.
const FLOAT: f32 = 1e-4;

fn lower(case: &Case) -> Lowered {
    lower_model(&case.proto(), case)
}

fn lower_model(proto: &pb::ModelProto, case: &Case) -> Lowered {
    int8::lower(proto, "image", &case.shape, &case.output).unwrap()
}

fn run(lowered: &Lowered, case: &Case) -> Result<Vec<f32>, String> {
    let region = lowered.whole().ok_or_else(|| {
        let left = lowered.partition.left.iter();
        let reasons = left.map(|l| format!("{}: {}", lowered.graph.nodes[l.position].op, l.reason));
        format!(
            "{} regions, left: {:?}",
            lowered.partition.regions.len(),
            reasons.collect::<Vec<_>>()
        )
    })?;
    let plan = Arc::new(Plan::new(region, Isa::best()).map_err(|e| format!("{e:#}"))?);
    let mut state = State::new(plan.clone());
    let input = picture(&case.shape);
    let mut output = vec![0.0; plan.outputs()[0].shape.iter().product()];
    // Twice: what is left in the arena must not matter.
    for _ in 0..2 {
        state.run(&[&input]).map_err(|e| e.to_string())?;
        state.output(0, &mut output);
    }
    Ok(output)
}

fn compare(case: &Case, got: &[f32]) -> Result<(usize, usize), String> {
    compare_with(&case.expected, got)
}

fn compare_with(expected: &Expected, got: &[f32]) -> Result<(usize, usize), String> {
    match expected {
        Expected::Bytes { scale, zero, bytes } => {
            if got.len() != bytes.len() {
                return Err(format!("{} values for {}", got.len(), bytes.len()));
            }
            let steps = got.iter().map(|v| (v / scale).round() as i32 + zero);
            let off: Vec<i32> = steps.zip(bytes).map(|(a, &b)| (a - i32::from(b)).abs()).collect();
            let far = off.iter().filter(|d| **d > 1).count();
            let equal = off.iter().filter(|d| **d == 0).count();
            if far as f64 > (1.0 - WITHIN_A_STEP) * off.len() as f64 {
                let worst = off.iter().max().unwrap();
                return Err(format!(
                    "{far} of {} values are off by up to {worst} steps",
                    off.len()
                ));
            }
            Ok((equal, off.len()))
        }
        Expected::Floats(wanted) => {
            let far = got
                .iter()
                .zip(wanted)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            if got.len() != wanted.len() || far.is_nan() || far > FLOAT {
                return Err(format!(
                    "{} values for {}, off by up to {far}",
                    got.len(),
                    wanted.len()
                ));
            }
            Ok((got.len(), got.len()))
        }
    }
}

#[test]
fn every_operator_is_lowered_and_gives_what_onnx_runtime_gives() {
    let cases = cases();
    assert!(cases.len() > 210, "{}", cases.len());
    let (mut failures, mut equal, mut all) = (Vec::new(), 0, 0);
    for case in cases.iter().filter(|c| !is_apart(c)) {
        let result = run(&lower(case), case).and_then(|got| compare(case, &got));
        match result {
            Ok((same, count)) => {
                println!("{}: {same} of {count} values are equal", case.name);
                (equal, all) = (equal + same, all + count);
            }
            Err(error) => failures.push(format!("{}: {error}", case.name)),
        }
    }
    println!("{equal} of {all} values are equal, the others a step away");
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Through tract, as the station would run it: regions on both sides of what is not covered.
#[test]
fn what_is_not_covered_splits_the_graph_and_gives_what_onnx_runtime_gives() {
    let mut failures = Vec::new();
    for case in &mixed() {
        match split(&case.proto(), case) {
            Ok(facts) => {
                println!("{}: {:?}", case.name, facts.integers);
                // On both sides of what is left.
                let found = facts.integers.regions;
                if found < 2 || facts.integers.left.is_empty() {
                    failures.push(format!("{}: {:?}", case.name, facts.integers));
                }
            }
            Err(error) => failures.push(format!("{}: {error}", case.name)),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn mixed() -> Vec<Case> {
    let mixed: Vec<Case> = cases()
        .into_iter()
        .filter(|c| c.name.starts_with("mixed"))
        .collect();
    assert!(mixed.len() >= 10, "{}", mixed.len());
    mixed
}

/// Opens, runs and compares a case of which a part is left to tract.
fn split(proto: &pb::ModelProto, case: &Case) -> Result<Facts, String> {
    let expected = graph::Expected {
        size: 16,
        input: "image",
        output: &case.output,
    };
    let (opened, facts) = graph::open_model(proto, &expected).map_err(|e| format!("{e:#}"))?;
    let Opened::Mixed(model) = opened else {
        return Err("all of it is a region".to_owned());
    };
    let input = Tensor::from_shape(&case.shape, &picture(&case.shape)).unwrap();
    let plan = TypedSimplePlan::new(model).map_err(|e| format!("{e:#}"))?;
    let mut state = plan.spawn().map_err(|e| format!("{e:#}"))?;
    for _ in 0..2 {
        let output = state.run(tvec!(input.clone().into_tvalue()));
        let output = output.map_err(|e| format!("{e:#}"))?;
        let got = output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap();
        compare(case, got)?;
    }
    Ok(facts)
}

/// As older tools write them: every initializer is an input too, before the picture or behind it.
#[test]
fn initializers_may_be_inputs_too() {
    for case in &mixed() {
        for before in [true, false] {
            let mut proto = case.proto();
            let graph = proto.graph.as_mut().unwrap();
            let info = |tensor: &pb::TensorProto| pb::ValueInfoProto {
                name: tensor.name.clone(),
                ..graph.input[0].clone()
            };
            let more: Vec<pb::ValueInfoProto> = graph.initializer.iter().map(info).collect();
            let picture = graph.input.drain(..).collect::<Vec<_>>();
            let (first, second) = if before { (more, picture) } else { (picture, more) };
            graph.input = [first, second].concat();
            split(&proto, case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        }
    }
}

/// Zero points may be left out; signed bytes then count from 0 as well.
#[test]
fn zero_points_may_be_left_out() {
    let mut seen = 0;
    for case in &cases() {
        if !case.name.ends_with("s8 around zero") {
            continue;
        }
        let mut proto = case.proto();
        for node in &mut proto.graph.as_mut().unwrap().node {
            let zeros: Vec<usize> = match node.op_type.as_str() {
                "QLinearConcat" => vec![1, 4, 7],
                op if op.starts_with("QLinear") => vec![2, 5, 7],
                _ => continue,
            };
            for at in zeros {
                node.input[at].clear();
            }
        }
        let result = match case.name.starts_with("mixed") {
            true => split(&proto, case).map(|_| (0, 0)),
            false => run(&lower_model(&proto, case), case).and_then(|got| compare(case, &got)),
        };
        result.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        seen += 1;
        // Nor from one node that is left to the next.
        if case.name.starts_with("mixed") {
            leave_all(&mut proto);
            split(&proto, case).unwrap_or_else(|error| panic!("{}, all of it left: {error}", case.name));
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}

/// Puts operators with steps of their own under a domain that nobody knows, and gives their number.
fn leave_all(proto: &mut pb::ModelProto) -> usize {
    let nodes = proto.graph.as_mut().unwrap().node.iter_mut();
    let found = nodes.filter(|node| int8::is_qoperator(&node.op_type));
    found.map(|node| node.domain = "elsewhere".to_owned()).count()
}

/// All that is left of them is what elek writes for tract.
#[test]
fn what_tract_cannot_load_is_written_in_f32() {
    let (mut failures, mut seen) = (Vec::new(), 0);
    for case in &cases() {
        let mut proto = case.proto();
        let found = leave_all(&mut proto);
        if found == 0 || is_apart(case) {
            continue;
        }
        seen += 1;
        let lowered = lower_model(&proto, case);
        assert!(lowered.partition.left.len() >= found, "{}", case.name);
        let result = by_tract(&proto, &lowered, case).map_err(|error| format!("{error:#}"));
        if let Err(error) = result.and_then(|got| compare(case, &got)) {
            failures.push(format!("{}: {error}", case.name));
        }
    }
    assert!(seen > 20 && failures.is_empty(), "{seen}: {failures:#?}");
}

fn by_tract(proto: &pb::ModelProto, lowered: &Lowered, case: &Case) -> TractResult<Vec<f32>> {
    let regions = lowered.partition.regions.iter();
    let plans = regions.map(|region| Plan::new(region, Isa::best()).map(Arc::new));
    let plans: Vec<Arc<Plan>> = plans.collect::<TractResult<_>>()?;
    let rewritten = rewrite::rewrite(proto, lowered, &plans)?;
    let model = graph::read_by_tract(&rewritten, &plans, &case.shape, &case.output)?.into_optimized()?;
    let input = Tensor::from_shape(&case.shape, &picture(&case.shape))?;
    let output = TypedSimplePlan::new(model)?.run(tvec!(input.into_tvalue()))?;
    let values = output[0].try_as_plain_ram()?.as_slice::<f32>()?;
    Ok(values.to_vec())
}

/// Those that have tests of their own.
fn is_apart(case: &Case) -> bool {
    case.name.starts_with("mixed") || case.name.starts_with("channels last")
}

/// As Keras has them: they are opened as if they had planes. What stands before the first quantizer costs a camera's picture
/// nothing: its bytes become those of the first operator's input at once.
#[test]
fn pictures_and_masks_with_the_channels_last() {
    let cases = cases();
    let cases: Vec<_> = cases
        .iter()
        .filter(|c| c.name.starts_with("channels last") || c.name.starts_with("front"))
        .collect();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let expected = graph::Expected {
            size: 16,
            input: "image",
            output: &case.output,
        };
        let (opened, facts) = graph::open_model(&case.proto(), &expected).unwrap();
        let picture = match case.shape[3] {
            3 => planes(&picture(&case.shape), 3),
            _ => picture(&case.shape),
        };
        let got = match opened {
            Opened::Whole(plan) => {
                assert!(!case.name.ends_with("mixed"), "{}", case.name);
                bytes_and_floats_give_the_same(&plan, &case.name);
                let mut output = vec![0.0; facts.output_shape.iter().product()];
                let mut state = State::new(plan);
                state.run(&[&picture]).unwrap();
                state.output(0, &mut output);
                output
            }
            Opened::Mixed(model) => {
                assert!(case.name.ends_with("mixed"), "{}: {facts:?}", case.name);
                let input = Tensor::from_shape(&[1, 3, 16, 16], &picture).unwrap();
                let output = TypedSimplePlan::new(model)
                    .unwrap()
                    .run(tvec!(input.into_tvalue()));
                let output = output.unwrap();
                output[0]
                    .try_as_plain_ram()
                    .unwrap()
                    .as_slice::<f32>()
                    .unwrap()
                    .to_vec()
            }
        };
        // What ONNX Runtime gave has the channels last.
        let wanted = match (&case.expected, case.name.ends_with("masks")) {
            (Expected::Bytes { scale, zero, bytes }, true) => {
                assert_eq!(facts.output_shape, [1, 8, 7, 7]);
                let bytes = planes(bytes, 8);
                let (scale, zero) = (*scale, *zero);
                Some(Expected::Bytes { scale, zero, bytes })
            }
            _ => None,
        };
        compare_with(wanted.as_ref().unwrap_or(&case.expected), &got)
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
}

/// Values whose channels are the last dimension, as planes.
fn planes<T: Copy>(values: &[T], channels: usize) -> Vec<T> {
    let plane = |c: usize| values.iter().copied().skip(c).step_by(channels);
    (0..channels).flat_map(plane).collect()
}

/// A picture in bytes, and in f32 what its bytes stand for.
fn bytes_and_floats_give_the_same(plan: &Arc<Plan>, name: &str) {
    let value = |byte: u8| f32::from(byte) / 32.0 - 4.0;
    let rgb: Vec<u8> = (0..16 * 16 * 3).map(|i| (i * 37 % 256) as u8).collect();
    let step = plan.input_quantizer();
    let step = step.unwrap_or_else(|| panic!("{name}: something is done before the input is quantized"));
    let channels = std::array::from_fn(|c| (c, std::array::from_fn(|byte| step(c, value(byte as u8)))));
    let mut states = [State::new(plan.clone()), State::new(plan.clone())];
    states[0]
        .run_picture(Picture {
            rgb: &rgb,
            channels: &channels,
        })
        .unwrap();
    let floats: Vec<f32> = planes(&rgb, 3).into_iter().map(value).collect();
    states[1].run(&[&floats]).unwrap();
    let outputs = states.map(|state| {
        let mut output = vec![0.0; plan.outputs()[0].shape.iter().product()];
        state.output(0, &mut output);
        output
    });
    assert_eq!(outputs[0], outputs[1], "{name}");
}

#[test]
fn an_operator_that_several_quantizers_read_is_done_once() {
    let cases = cases();
    let count = |name: &str, is: fn(&OpKind) -> bool| {
        let case = cases.iter().find(|c| c.name == name).unwrap();
        let lowered = lower(case);
        let ops = &lowered.whole().unwrap().program.ops;
        ops.iter().filter(|op| is(&op.kind)).count()
    };
    let convolution = |kind: &OpKind| matches!(kind, OpKind::Conv(_));
    let quantizer = |kind: &OpKind| matches!(kind, OpKind::Quantize { .. });
    assert_eq!(count("one conv, two quantizers", convolution), 3);
    assert_eq!(count("one picture, two quantizers", quantizer), 1);
}

#[test]
fn what_runs_where_is_told() {
    let cases = cases();
    let case = |name: &str| cases.iter().find(|c| c.name == name).unwrap();
    let names = |lowered: &Lowered, positions: Vec<usize>| -> Vec<String> {
        positions
            .into_iter()
            .map(|p| lowered.graph.nodes[p].op.clone())
            .collect()
    };
    let lowered = lower(case("conv, silu, each quantized"));
    let (nodes, floats) = lowered.in_regions();
    assert_eq!(names(&lowered, nodes), ["Conv", "Sigmoid", "Mul"]);
    assert!(floats.is_empty());
    let lowered = lower(case("f32 head"));
    let (nodes, floats) = lowered.in_regions();
    assert_eq!(names(&lowered, nodes), ["Sigmoid"]);
    assert_eq!(names(&lowered, floats), ["Conv", "Resize"]);
    let program = &lowered.whole().unwrap().program;
    assert_eq!((program.macs(), program.float_macs()), (0, 5 * 6 * 3 * 8));
    let lowered = lower(case("mixed: f32 between two convolutions"));
    let (nodes, _) = lowered.in_regions();
    assert_eq!(names(&lowered, nodes), ["Conv", "Conv", "Add"]);
    let left = &lowered.partition.left[..];
    assert_eq!((left.len(), left[0].reason.as_str()), (1, "Sin is not covered"));
}

#[test]
fn a_model_without_regions_says_why() {
    let case = &mixed()[0];
    let mut proto = case.proto();
    proto.graph.as_mut().unwrap().node[0].op_type = "ElekInt8Region".to_owned();
    let expected = graph::Expected {
        size: 16,
        input: "image",
        output: &case.output,
    };
    let error = format!("{:#}", graph::open_model(&proto, &expected).unwrap_err());
    assert!(error.contains("which elek has for itself"), "{error}");
}

#[test]
fn a_pointwise_convolution_runs_before_the_upsampling_in_front_of_it() {
    let cases = cases();
    let case = cases.iter().find(|c| c.name == "upsampling, conv 1x1").unwrap();
    let lowered = lower(case);
    let region = lowered.whole().unwrap();
    assert_eq!(region.program.macs(), 3 * 4 * 8 * 5);
}

#[test]
fn activations_and_residuals_are_part_of_the_convolution() {
    let cases = cases();
    for (name, steps) in [
        ("conv, quantizer, silu", 3),
        ("conv, silu", 3),
        ("conv, silu, each quantized", 3),
        ("add, relu", 4),
        ("conv, add without a quantizer, relu", 3),
        ("concat of concat, in place", 7),
    ] {
        let case = cases.iter().find(|c| c.name == name).unwrap();
        let lowered = lower(case);
        let program = &lowered.whole().unwrap().program;
        assert_eq!(program.ops.len(), steps, "{name}: {:#?}", program.ops);
    }
}
