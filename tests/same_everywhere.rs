//! The same on every processor, to the last bit: pictures, shifts, and networks that run in integers. Pictures and
//! the networks of tests/golden/nets are compared with stored hashes; simulated shifts and the shipped models with what
//! another processor has left in the folder `ELEK_SAME`: the first run there writes, later ones compare. `make test-arm`
//! runs this natively, then on emulated ARM cores.

mod common;
#[path = "common/nets.rs"]
mod nets;

use arrayvec::ArrayVec;
use elek::config::Crop;
use elek::infer::engine::Engine;
use elek::infer::int8;
use elek::infer::int8::plan::{Plan, State};
use elek::infer::manifest::{self, Filter, hex, sha256};
use elek::kernels::isa::Isa;
use elek::simulate::render::{Mask, PartLook, Renderer, Scene, ScenePart, supported};
use elek::simulate::virtual_run::simulate;
use elek::units::Length;
use elek::vision::{Frame, PixelFormat, Preprocessor};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;
const UM_PER_PX: f64 = 200.0;

fn hash(bytes: &[u8]) -> String {
    hex(&sha256(bytes))[..16].to_owned()
}

fn renderer() -> Renderer {
    Renderer::new(7, WIDTH, HEIGHT, UM_PER_PX)
}

/// One whole cap, defective for odd seeds, and one that the picture's edge cuts.
fn scene(seed: u64) -> Scene {
    let part = |x, y, seed: u64| ScenePart {
        x,
        y,
        look: PartLook::from_seed(seed, seed % 2 == 1),
    };
    Scene {
        belt_um: 12_345 * seed as i64,
        seed,
        parts: vec![part(118.3, 121.7, seed), part(301.0, 15.5, seed + 100)],
    }
}

fn frame(renderer: &mut Renderer, format: PixelFormat, seed: u64) -> (Frame, Mask) {
    let (mut bytes, mut mask) = (Vec::new(), Mask::default());
    renderer.frame(&scene(seed), format, &mut bytes, Some(&mut mask));
    let stride = renderer.stride(format);
    (
        Frame {
            stride,
            ..Frame::new(format, WIDTH, HEIGHT, bytes)
        },
        mask,
    )
}

/// Random samples in a format that the renderer does not draw.
fn noise(format: PixelFormat) -> Frame {
    let mut bytes = vec![0; format.picture_bytes(WIDTH, HEIGHT, format.row_bytes(WIDTH))];
    let mut state = 12_345u32;
    for byte in &mut bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    Frame::new(format, WIDTH, HEIGHT, bytes)
}

/// Frame, blobs and model inputs in every format: one line each.
fn pictures() -> String {
    let (mut renderer, mut locator, mut lines) = (renderer(), common::locator(UM_PER_PX), String::new());
    for format in common::raw_formats() {
        let frame = match supported(format) {
            true => frame(&mut renderer, format, 3).0,
            false => noise(format),
        };
        let mut blobs = ArrayVec::new();
        locator.locate(&frame, &mut blobs).expect("the frame is whole");
        let mut inputs = Vec::new();
        for (crop, filter) in common::crops()
            .into_iter()
            .flat_map(|c| [(c, Filter::Bilinear), (c, Filter::Bicubic)])
        {
            for size in [96, 160, 224] {
                let mut rgb = vec![0; (size * size * 3) as usize];
                let blob = blobs.first().copied();
                if blob.is_none() && matches!(crop, Crop::Part { .. }) {
                    continue;
                }
                Preprocessor::new(crop, size, filter, UM_PER_PX)
                    .run(&frame, blob, &mut rgb)
                    .expect("the frame is whole");
                inputs.extend_from_slice(&rgb);
            }
        }
        let found = format!("{blobs:?}");
        writeln!(
            lines,
            "{format}: frame {} blobs {} {} inputs {}",
            hash(&frame.bytes),
            blobs.len(),
            hash(found.as_bytes()),
            hash(&inputs)
        )
        .expect("a string takes everything");
    }
    lines
}

/// Events and actions of simulated shifts with faults.
fn shifts() -> String {
    let mut lines = String::new();
    for seed in 0..12 {
        let mut trace = Vec::new();
        simulate(seed, Some(&mut trace)).unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
        let text: String = trace
            .iter()
            .map(|line| serde_json::to_string(line).expect("a trace is JSON") + "\n")
            .collect();
        writeln!(
            lines,
            "seed {seed}: {} lines {}",
            trace.len(),
            hash(text.as_bytes())
        )
        .expect("a string takes everything");
    }
    lines
}

#[test]
fn pictures_are_the_same_to_the_bit() {
    let lines = pictures();
    println!("{lines}");
    insta::assert_snapshot!("pictures", lines);
}

/// What another processor has left under this name; without one, `own` is left for others.
fn of_another(name: &str, own: &str) -> Option<String> {
    let path = PathBuf::from(std::env::var_os("ELEK_SAME")?).join(name);
    if !path.exists() {
        std::fs::write(&path, own).expect("the folder ELEK_SAME can be written");
        return None;
    }
    Some(std::fs::read_to_string(&path).expect("the folder ELEK_SAME can be read"))
}

#[test]
fn shifts_are_the_same_to_the_bit() {
    let lines = shifts();
    println!("{lines}");
    let other = of_another("shifts", &lines).unwrap_or_else(shifts);
    assert_eq!(lines, other);
}

const PICTURES: u64 = 4;

/// A line for each shipped model and rendered cap: the scores, or what a mask adds up to, and the hash of all bits.
fn outputs() -> String {
    let (mut renderer, mut locator, mut lines) = (renderer(), common::locator(UM_PER_PX), String::new());
    for name in ["cap-classify", "cap-segment"] {
        let info =
            manifest::resolve(Path::new("."), &format!("builtin:{name}"), None).expect("it is built in");
        let model = info.bytes().expect("it is built in");
        let mut engine = Engine::load(&model, &info).expect("the shipped models load");
        assert!(matches!(engine, Engine::Int8(_)), "{name} runs in integers");
        for seed in 0..PICTURES {
            let (frame, _) = frame(&mut renderer, PixelFormat::Rgb3, seed);
            let mut blobs = ArrayVec::new();
            locator.locate(&frame, &mut blobs).expect("the frame is whole");
            let mut rgb = vec![0; (info.size * info.size * 3) as usize];
            let margin = Length::from_mm(2);
            Preprocessor::new(Crop::Part { margin }, info.size, info.filter, UM_PER_PX)
                .run(&frame, blobs.first().copied(), &mut rgb)
                .expect("the cap is found");
            let values = engine.run(&rgb).expect("the model runs");
            let bits: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let shown = match values.len() {
                ..100 => format!("{values:?}"),
                _ => values.iter().map(|v| f64::from(*v)).sum::<f64>().to_string(),
            };
            lines += &format!(
                "{name} {} picture {seed}: {shown} {}\n",
                hash(&model),
                hash(&bits)
            );
        }
    }
    lines
}

#[test]
fn the_shipped_models_give_the_same_to_the_bit() {
    let own = outputs();
    println!("{own}");
    let other = of_another("models", &own).unwrap_or_else(outputs);
    assert_eq!(own, other);
}

/// A hash of what each whole network gives for one picture.
fn networks() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nets");
    let lines = nets::files(&folder).into_iter().map(|file| {
        let net = nets::read(&file);
        let side = net.side;
        let lowered = int8::lower(&net.proto, "image", &[1, 3, side, side], "output").expect("a graph");
        let region = lowered.whole().expect("all of it is in integers");
        let plan = Arc::new(Plan::new(region, Isa::best()).expect("a plan"));
        let mut output = vec![0.0; plan.outputs()[0].shape.iter().product()];
        let mut state = State::new(plan);
        state.run(&[&nets::picture(0, side)]).expect("no kernel panics");
        state.output(0, &mut output);
        let bits: Vec<u8> = output.iter().flat_map(|v| v.to_le_bytes()).collect();
        format!("{}: {}\n", net.name, hash(&bits))
    });
    lines.collect()
}

#[test]
fn whole_networks_give_the_same_to_the_bit() {
    insta::assert_snapshot!("networks", networks());
}
