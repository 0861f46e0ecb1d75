//! elek's inference against ONNX Runtime's outputs, for the models and pictures
//! of the folder `shared` beside this repository (or at `ELEK_SHARED`).
//!
//! Without that folder the tests print a note and pass.

mod common;

use common::{camera, recipe};
use elek::config::{Crop, Fit, Recipe};
use elek::infer::engine::Engine;
use elek::infer::inspector::Inspector;
use elek::infer::manifest::{self, ModelInfo};
use elek::infer::sandbox;
use elek::station::event::Verdict;
use elek::station::judge::judge;
use elek::vision::frame::{Frame, PixelFormat};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// f32 differs by the order of additions alone.
const F32_LOGIT: f64 = 2e-5;
const F32_PROBABILITY: f64 = 1e-5;
/// Integers do not differ. What is left are sums and products of two tensors, which ONNX Runtime reckons in another
/// order, and f32 in the last layer.
const INT8_LOGIT: f64 = 1e-4;
const INT8_PROBABILITY: f64 = 1e-4;

/// Marked pixels may differ at the edges of a mask: f32 by what a JPEG decoder
/// and resizer of our own change, int8 by rounding inside the net as well.
fn marked_near(got: usize, wanted: usize, key: &str) -> bool {
    let allowed = if key == "f32" {
        wanted / 100 + 3
    } else {
        wanted / 20 + 10
    };
    got.abs_diff(wanted) <= allowed
}

fn shared() -> Option<PathBuf> {
    sandbox::use_program(env!("CARGO_BIN_EXE_elek"));
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [here.join("../shared"), here.join("../../shared")];
    let found = std::env::var_os("ELEK_SHARED")
        .map(PathBuf::from)
        .into_iter()
        .chain(places)
        .find(|p| p.join("models/golden.json").is_file());
    if found.is_none() {
        println!("skipped: there is no folder `shared` with models and data beside this repository");
    }
    found
}

fn golden(shared: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(shared.join("models/golden.json")).unwrap()).unwrap()
}

/// File of a model, and the key of its outputs in golden.json.
const MODELS: [(&str, &str, &str); 6] = [
    ("cookie_classifier", "cookie_classifier.onnx", "f32"),
    ("cookie_classifier", "cookie_classifier.int8.onnx", "int8"),
    ("cookie_unet", "cookie_unet.onnx", "f32"),
    ("cookie_unet", "cookie_unet.int8.onnx", "int8"),
    ("tile_unet", "tile_unet.onnx", "f32"),
    ("tile_unet", "tile_unet.int8.onnx", "int8"),
];

fn load(shared: &Path, file: &str) -> (ModelInfo, Engine) {
    let info = manifest::resolve(&shared.join("models"), file, None).unwrap();
    let engine = Engine::load(&info.bytes().unwrap(), &info).unwrap();
    (info, engine)
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

fn largest_difference(got: impl Iterator<Item = f64>, wanted: &[f64]) -> f64 {
    got.zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn outputs_for_the_stored_tensors_are_those_of_onnx_runtime() {
    let Some(shared) = shared() else { return };
    let golden = golden(&shared);
    for (name, file, key) in MODELS {
        let (_, mut engine) = load(&shared, file);
        assert_eq!(matches!(engine, Engine::Int8(_)), key != "f32", "{file}");
        let images = golden["models"][name]["images"].as_array().unwrap();
        let stored: Vec<&Value> = images.iter().filter(|i| i["input_raw"].is_string()).collect();
        assert_eq!(stored.len(), 2);
        for image in stored {
            let raw =
                std::fs::read(shared.join("models").join(image["input_raw"].as_str().unwrap())).unwrap();
            let input: Vec<f32> = raw
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect();
            let output: Vec<f64> = engine
                .run_normalised(&input)
                .unwrap()
                .iter()
                .map(|v| f64::from(*v))
                .collect();
            let wanted = &image[key];
            let what = format!("{file} {}", image["file"]);
            if wanted["logits"].is_array() {
                // elek gives softmax of two: the difference of the logits is the log of the ratio.
                let logits = numbers(&wanted["logits"]);
                let difference = ((output[0] / output[1]).ln() - (logits[0] - logits[1])).abs() / 2.0;
                println!("{what}: logits within {difference:.1e}");
                assert!(
                    difference <= if key == "f32" { F32_LOGIT } else { INT8_LOGIT },
                    "{what}"
                );
            } else {
                let points = image["points"].as_array().unwrap().iter();
                let got = points.map(|p| output[p.as_u64().unwrap() as usize]);
                let difference = largest_difference(got, &numbers(&wanted["samples"]));
                let marked = output.iter().filter(|p| **p > 0.5).count();
                let reference = wanted["positive_at_0.5"].as_u64().unwrap() as usize;
                println!("{what}: mask within {difference:.1e}, {marked} pixels for {reference}");
                assert!(
                    difference
                        <= if key == "f32" {
                            F32_PROBABILITY
                        } else {
                            INT8_PROBABILITY
                        },
                    "{what}"
                );
                assert_eq!(marked, reference, "{what}");
            }
        }
    }
}

/// How a model is judged in the comparison of whole pictures: crop, then a rule
/// that the same golden outputs can be judged by.
struct Trial {
    name: &'static str,
    crop: Crop,
    rules: (&'static str, &'static str),
}

const STRETCH: Crop = Crop::Picture { fit: Fit::Stretch };
const TRIALS: [Trial; 3] = [
    Trial {
        name: "cookie_classifier",
        crop: STRETCH,
        rules: ("normal >= 0.5", "anomaly > 0.5"),
    },
    // 20 pixels of the mask: 576/256 mm × 768/256 mm each at 1 mm per picture pixel.
    Trial {
        name: "cookie_unet",
        crop: STRETCH,
        rules: ("crack.area_mm2 <= 135", "crack.area_mm2 > 135"),
    },
    Trial {
        name: "tile_unet",
        crop: Crop::Picture { fit: Fit::Letterbox },
        rules: ("defect.peak < 0.5", "defect.peak >= 0.5"),
    },
];

/// The verdict that ONNX Runtime's output leads to.
fn golden_rejects(name: &str, wanted: &Value) -> bool {
    match name {
        "cookie_classifier" => numbers(&wanted["logits"])[1] > numbers(&wanted["logits"])[0],
        "cookie_unet" => wanted["positive_at_0.5"].as_u64().unwrap() > 20,
        _ => wanted["max"].as_f64().unwrap() >= 0.5,
    }
}

#[test]
fn verdicts_on_whole_pictures_are_those_of_onnx_runtime() {
    let Some(shared) = shared() else { return };
    let golden = golden(&shared);
    for (name, file, key) in MODELS {
        let trial = TRIALS.iter().find(|t| t.name == name).unwrap();
        let (classify, segment) = if name == "cookie_classifier" {
            (Some(file), None)
        } else {
            (None, Some(file))
        };
        let (pass, reject) = trial.rules;
        let recipe = recipe(
            &shared.join("models"),
            trial.crop,
            classify,
            segment,
            &[pass],
            &[reject],
        );
        let mut inspector = Inspector::load(&recipe, &camera()).unwrap();
        let images = golden["models"][name]["images"].as_array().unwrap();
        let (mut pixels_off, mut same_input) = (0, 0);
        for image in images {
            let path = shared.join("data").join(image["file"].as_str().unwrap());
            let verdict = judged(&mut inspector, &recipe, &path);
            let what = format!("{file} {}: {verdict:?}", image["file"]);
            assert!(verdict != Verdict::Unsure, "{what}");
            // These pixels are Pillow's. Of the very same ones, every verdict is compared below.
            let peak = image[key]["max"].as_f64().unwrap_or(1.0);
            if name == "tile_unet" && key != "f32" && (peak - LIMIT).abs() < UNDECIDED {
                println!("{what}: undecided, ONNX Runtime's peak {peak}");
                continue;
            }
            assert_eq!(
                matches!(verdict, Verdict::Reject(_)),
                golden_rejects(name, &image[key]),
                "{what}"
            );
            let inputs = inspector.inputs();
            let input = inputs.classify.or(inputs.segment).unwrap();
            same_input += usize::from(input_sha256(input.rgb) == image["input_sha256"].as_str().unwrap());
            if let Some(mask) = inputs.mask {
                let marked = mask.classes.iter().filter(|c| **c != 0).count();
                let reference = image[key]["positive_at_0.5"].as_u64().unwrap() as usize;
                assert!(
                    marked_near(marked, reference, key),
                    "{what}: {marked} pixels for {reference}"
                );
                pixels_off = pixels_off.max(marked.abs_diff(reference));
            }
        }
        println!(
            "{file}: {} verdicts agree, {same_input} inputs are equal to the last bit, \
             marked pixels differ by at most {pixels_off}",
            images.len()
        );
    }
}

/// The verdict on one JPEG file as a whole picture.
fn judged(inspector: &mut Inspector, recipe: &Recipe, path: &Path) -> Verdict {
    let jpeg = std::fs::read(path).unwrap();
    let (width, height) = image::image_dimensions(path).unwrap();
    let frame = Frame::new(PixelFormat::Mjpg, width, height, jpeg);
    judge(&recipe.rules, &inspector.inspect(&frame, None).unwrap())
}

/// One picture of a test split, as ONNX Runtime's unfused graphs see it.
struct Reference {
    model: String,
    picture: String,
    /// The int8 graph operator by operator, in f32 between its quantizers.
    int8_peak: f64,
    /// The int8 graph as ONNX Runtime runs it: in integers, as elek does.
    int8_fused_peak: f64,
    /// The int8 graph again, in f32, with picture and kernels transposed: the same sums, added in another order.
    int8_transposed_peak: f64,
}

fn references() -> Vec<Reference> {
    let text = include_str!("golden/onnx_runtime.csv");
    let rows = text.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |i: usize| cells[i].parse().unwrap();
        Reference {
            model: cells[0].to_owned(),
            picture: cells[1].to_owned(),
            int8_peak: number(4),
            int8_transposed_peak: number(6),
            int8_fused_peak: number(7),
        }
    });
    rows.collect()
}

/// Pixels of a U-Net's mask.
const PIXELS: usize = 256 * 256;
/// Of the pixels that elek or ONNX Runtime marks, those that both mark, over all pictures.
const OVERLAP: f64 = 0.98;

/// What ONNX Runtime gives for the very pixels that elek hands to a model.
struct SamePixels<'a> {
    peak: f32,
    mask: &'a [u8],
}

/// `tests/golden/masks.bin` (models/zoo/masks.py): for each of the [`references`] the f32 graph, then the int8 graph.
fn same_pixels() -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(&include_bytes!("golden/masks.bin")[..])
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes.len(), 2 * (4 + PIXELS / 8) * references().len());
    bytes
}

fn same_pixels_of<'a>(all: &'a [u8], row: usize, key: &str) -> SamePixels<'a> {
    let each = 4 + PIXELS / 8;
    let (peak, mask) = all[(2 * row + usize::from(key != "f32")) * each..][..each].split_at(4);
    SamePixels {
        peak: f32::from_le_bytes(peak.try_into().unwrap()),
        mask,
    }
}

/// Pixels that both mark, and that one of them marks.
fn marked(own: &[u8], reference: &[u8]) -> (usize, usize) {
    assert_eq!((own.len(), reference.len()), (PIXELS, PIXELS / 8));
    let wanted = (0..PIXELS).map(|i| reference[i / 8] >> (7 - i % 8) & 1 == 1);
    let pairs = own.iter().map(|class| *class != 0).zip(wanted);
    pairs.fold((0, 0), |(both, either), (a, b)| {
        (both + usize::from(a && b), either + usize::from(a || b))
    })
}

const LIMIT: f64 = 0.5;
/// A largest probability this near to the limit is decided by the order in which an int8 graph's float
/// sums are added: ONNX Runtime differs from itself by as much when picture and kernels are transposed.
const UNDECIDED: f64 = 0.06;

#[test]
fn the_undecided_band_is_what_onnx_runtime_differs_from_itself() {
    let references = references();
    let scatter = |r: &Reference| (r.int8_peak - r.int8_transposed_peak).abs();
    let largest = references.iter().map(scatter).fold(0.0, f64::max);
    assert!((0.8 * UNDECIDED..UNDECIDED).contains(&largest), "{largest}");
    let two = |r: &&Reference| (r.int8_peak >= LIMIT) != (r.int8_transposed_peak >= LIMIT);
    assert_eq!(references.iter().filter(two).count(), 2);
    let fused = |r: &&Reference| (r.int8_peak >= LIMIT) != (r.int8_fused_peak >= LIMIT);
    assert_eq!(references.iter().filter(fused).count(), 1);
    let near = |r: &&Reference| (r.int8_peak - LIMIT).abs() < UNDECIDED;
    assert_eq!(
        (references.len(), references.iter().filter(near).count()),
        (355, 9)
    );
}

#[test]
fn every_picture_of_the_test_splits_is_judged_as_by_onnx_runtime() {
    let Some(shared) = shared() else { return };
    let (references, same_pixels) = (references(), same_pixels());
    for (name, file, key) in MODELS
        .into_iter()
        .filter(|(name, ..)| *name != "cookie_classifier")
    {
        let trial = TRIALS.iter().find(|t| t.name == name).unwrap();
        let label = if name == "tile_unet" { "defect" } else { "crack" };
        let (pass, reject) = (
            format!("{label}.peak < {LIMIT}"),
            format!("{label}.peak >= {LIMIT}"),
        );
        let recipe = recipe(
            &shared.join("models"),
            trial.crop,
            None,
            Some(file),
            &[&pass],
            &[&reject],
        );
        let pictures: Vec<(usize, &Reference)> = references
            .iter()
            .enumerate()
            .filter(|(_, r)| r.model == name)
            .collect();
        let compare = |pictures: &[(usize, &Reference)]| -> (usize, usize, f64) {
            let mut inspector = Inspector::load(&recipe, &camera()).unwrap();
            let (mut both, mut either, mut smallest) = (0, 0, 1f64);
            for (row, r) in pictures {
                let verdict = judged(&mut inspector, &recipe, &shared.join("data").join(&r.picture));
                let inputs = inspector.inputs();
                // For models/zoo/masks.py.
                if let (Some(folder), "int8") = (std::env::var_os("ELEK_INPUTS"), key) {
                    let input = inputs.segment.expect("the U-Net has seen the picture");
                    std::fs::write(Path::new(&folder).join(format!("{row}.rgb")), input.rgb).unwrap();
                    continue;
                }
                let SamePixels { peak, mask } = same_pixels_of(&same_pixels, *row, key);
                let what = format!("{file} {}: {verdict:?}, ONNX Runtime's peak {peak}", r.picture);
                let rejected = match verdict {
                    Verdict::Reject(_) => true,
                    Verdict::Pass => false,
                    _ => panic!("{what}"),
                };
                assert_eq!(rejected, f64::from(peak) >= LIMIT, "{what}");
                let own = inputs.mask.expect("the U-Net has seen the picture").classes;
                let (b, e) = marked(own, mask);
                (both, either) = (both + b, either + e);
                // A few pixels of a small mask are no measure.
                if e > 100 {
                    smallest = smallest.min(b as f64 / e as f64);
                }
            }
            (both, either, smallest)
        };
        let (one, other) = pictures.split_at(pictures.len() / 2);
        let [one, other] = std::thread::scope(|scope| {
            let compare = &compare;
            let halves = [one, other].map(|half| scope.spawn(move || compare(half)));
            halves.map(|half| half.join().unwrap())
        });
        let overlap = (one.0 + other.0) as f64 / (one.1 + other.1).max(1) as f64;
        println!(
            "{file}: {} pictures, the same verdict on each, masks overlap by {overlap:.4}, the least by {:.4}",
            pictures.len(),
            one.2.min(other.2),
        );
        assert!(
            overlap >= OVERLAP || std::env::var_os("ELEK_INPUTS").is_some(),
            "{file}: masks overlap by {overlap}"
        );
    }
}

/// Of the tensor that golden.json was made from: (v - 127) / 128, little-endian f32, NCHW.
fn input_sha256(rgb: &[u8]) -> String {
    let planes = (0..3).flat_map(|c| rgb.iter().skip(c).step_by(3));
    let bytes: Vec<u8> = planes
        .flat_map(|v| ((f32::from(*v) - 127.0) / 128.0).to_le_bytes())
        .collect();
    manifest::hex(&manifest::sha256(&bytes))
}
