//! The way from a frame to an inspection, with models small enough to reckon by hand.

mod common;

use common::{camera, recipe};
use elek::config::{Crop, Fit};
use elek::infer::inspection::Inspection;
use elek::infer::inspector::Inspector;
use elek::infer::sandbox;
use elek::station::event::{Blob, InspectFault, Verdict};
use elek::station::judge::judge;
use elek::units::Length;
use elek::vision::frame::{Frame, PixelFormat};
use std::path::{Path, PathBuf};

const STRETCH: Crop = Crop::Picture { fit: Fit::Stretch };
const LETTERBOX: Crop = Crop::Picture { fit: Fit::Letterbox };

fn fixtures() -> PathBuf {
    sandbox::use_program(env!("CARGO_BIN_EXE_elek"));
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Green, with a red rectangle at x, y, width, height.
fn picture(width: u32, height: u32, red: [u32; 4]) -> Frame {
    let inside = |v: u32, from: u32, length: u32| (from..from + length).contains(&v);
    let pixel = |x, y| match inside(x, red[0], red[2]) && inside(y, red[1], red[3]) {
        true => [255, 0, 0],
        false => [0, 255, 0],
    };
    let bytes = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| pixel(x, y)))
        .collect();
    Frame::new(PixelFormat::Rgb3, width, height, bytes)
}

/// Scores settle clear cases; between 0.3 and 0.7 the mask is asked.
const PASS: [&str; 2] = ["green >= 0.5", "red.area_mm2 <= 3"];
const REJECT: [&str; 2] = ["red >= 0.7", "red.area_mm2 > 8"];

fn mixed(folder: &Path, crop: Crop) -> elek::config::Recipe {
    let mut recipe = recipe(folder, crop, Some("colour.onnx"), None, &PASS[..1], &REJECT[..1]);
    let with_mask = common::recipe(
        folder,
        crop,
        None,
        Some("red_mask.onnx"),
        &PASS[1..],
        &REJECT[1..],
    );
    recipe.segment = with_mask.segment;
    recipe.rules.pass_if.extend(with_mask.rules.pass_if);
    recipe.rules.reject_if.extend(with_mask.rules.reject_if);
    recipe
}

#[test]
fn regions_come_in_millimetres_and_picture_pixels() {
    let recipe = mixed(&fixtures(), STRETCH);
    let mut inspector = Inspector::load(&recipe, &camera()).unwrap();
    // 64 × 32 picture pixels of 1 mm; the mask has 32 × 32, so 2 mm × 1 mm each.
    let inspection = inspector.inspect(&picture(64, 32, [8, 4, 2, 3]), None).unwrap();
    assert!(inspection.scores.as_ref().unwrap()[0] > 0.99);
    let defects = inspection.defects.unwrap();
    let region = defects.regions[0];
    assert_eq!((region.x, region.y, region.width, region.height), (8, 4, 2, 3));
    assert_eq!(
        (
            region.area_mm2,
            defects.classes[0].area_mm2,
            defects.classes[0].count
        ),
        (6.0, 6.0, 1)
    );
    assert!((region.length_mm - 13f32.sqrt()).abs() < 1e-5);
    let inputs = inspector.inputs();
    let mask = inputs.mask.unwrap();
    assert_eq!(
        (mask.size, mask.classes.iter().filter(|c| **c == 1).count()),
        (32, 3)
    );
    assert_eq!(inputs.classify.unwrap().rgb.len(), 16 * 16 * 3);
    // Row 4, column 4 of 32: red, with some green of its neighbours left and right.
    let seen = &inputs.segment.unwrap().rgb[3 * (4 * 32 + 4)..][..3];
    assert!(seen[0] > 150 && seen[1] < 100 && seen[2] == 0, "{seen:?}");
}

#[test]
fn a_letterbox_has_one_scale_and_places_regions_in_the_picture() {
    let recipe = mixed(&fixtures(), LETTERBOX);
    let mut inspector = Inspector::load(&recipe, &camera()).unwrap();
    // 64 × 32 in 32 × 32: 2 mm a mask pixel both ways, 8 mask rows of margin above.
    let inspection = inspector.inspect(&picture(64, 32, [8, 4, 4, 2]), None).unwrap();
    let defects = inspection.defects.unwrap();
    let region = defects.regions[0];
    assert_eq!((region.x, region.y, region.width, region.height), (8, 4, 4, 2));
    assert_eq!(region.area_mm2, 8.0);
}

#[test]
fn a_part_is_cut_out_around_its_blob() {
    let recipe = mixed(
        &fixtures(),
        Crop::Part {
            margin: Length::from_mm(2),
        },
    );
    let mut inspector = Inspector::load(&recipe, &camera()).unwrap();
    let blob = Blob {
        x: 40,
        y: 30,
        width: 28,
        height: 28,
        area_px: 784,
        cut: false,
    };
    // The square of 32 around it is seen pixel by pixel.
    let inspection = inspector
        .inspect(&picture(120, 100, [50, 40, 3, 1]), Some(blob))
        .unwrap();
    let region = inspection.defects.unwrap().regions[0];
    assert_eq!((region.x, region.y, region.width, region.height), (50, 40, 3, 1));
    assert_eq!(region.area_mm2, 3.0);
    let view = inspector.inputs().segment.unwrap().view;
    assert_eq!((view.x, view.y, view.width, view.height), (38, 28, 32, 32));
}

#[test]
fn the_mask_is_only_made_when_the_rules_need_it() {
    let recipe = mixed(&fixtures(), STRETCH);
    let mut inspector = Inspector::load(&recipe, &camera()).unwrap();
    let verdict = |i: &Inspection| judge(&recipe.rules, i);
    // All red: the scores reject, and nothing of an earlier mask is left.
    inspector.inspect(&picture(32, 32, [0, 0, 0, 0]), None).unwrap();
    assert!(inspector.inputs().mask.is_some());
    let red = inspector.inspect(&picture(32, 32, [0, 0, 32, 32]), None).unwrap();
    assert!(
        red.defects.is_none() && inspector.inputs().mask.is_none() && inspector.inputs().segment.is_none()
    );
    assert!(matches!(verdict(&red), Verdict::Reject(reason) if reason.rule == 0));
    // Green by the scores, but with a red spot of 9 mm².
    let spot = inspector.inspect(&picture(32, 32, [5, 5, 3, 3]), None).unwrap();
    assert!(matches!(verdict(&spot), Verdict::Reject(reason) if reason.rule == 1 && reason.measured == 9.0));
    let clean = inspector.inspect(&picture(32, 32, [5, 5, 1, 3]), None).unwrap();
    assert_eq!(verdict(&clean), Verdict::Pass);
    let doubtful = inspector.inspect(&picture(32, 32, [5, 5, 2, 3]), None).unwrap();
    assert_eq!(verdict(&doubtful), Verdict::Unsure);
}

#[test]
fn a_fork_sees_the_same() {
    let recipe = mixed(&fixtures(), STRETCH);
    let mut one = Inspector::load(&recipe, &camera()).unwrap();
    let mut two = one.fork().unwrap();
    let frame = picture(48, 32, [5, 5, 3, 3]);
    let (a, b) = (
        one.inspect(&frame, None).unwrap(),
        two.inspect(&frame, None).unwrap(),
    );
    assert_eq!((a.scores, a.defects), (b.scores, b.defects));
}

#[test]
fn a_broken_picture_or_model_is_a_fault_and_the_next_part_is_seen() {
    let recipe = mixed(&fixtures(), STRETCH);
    let mut inspector = Inspector::load(&recipe, &camera()).unwrap();
    let mut broken = picture(32, 32, [0, 0, 0, 0]);
    broken.bytes.truncate(100);
    assert_eq!(inspector.inspect(&broken, None), Err(InspectFault::Picture));
    assert!(
        inspector.inputs().classify.is_none(),
        "nothing of the part before is shown"
    );
    assert!(inspector.inspect(&picture(32, 32, [0, 0, 0, 0]), None).is_ok());

    let endless = common::recipe(
        &fixtures(),
        STRETCH,
        Some("endless.onnx"),
        None,
        &["green >= 0.5"],
        &[],
    );
    let mut inspector = Inspector::load(&endless, &camera()).unwrap();
    assert_eq!(
        inspector.inspect(&picture(32, 32, [0, 0, 0, 0]), None),
        Err(InspectFault::Model)
    );
}

#[test]
fn what_cannot_work_is_refused_when_it_is_loaded() {
    let mut nothing = mixed(&fixtures(), STRETCH);
    nothing.classify = None;
    nothing.segment = None;
    let error = format!("{:#}", Inspector::load(&nothing, &camera()).unwrap_err());
    assert!(error.contains("recipe \"test\": there is neither"), "{error}");
    let mut swapped = mixed(&fixtures(), STRETCH);
    std::mem::swap(&mut swapped.classify, &mut swapped.segment);
    let error = format!("{:#}", Inspector::load(&swapped, &camera()).unwrap_err());
    assert!(
        error.contains("is a model for `segment`, not for `classify`"),
        "{error}"
    );
    let greedy = common::recipe(
        &fixtures(),
        STRETCH,
        Some("greedy.onnx"),
        None,
        &["green >= 0.5"],
        &[],
    );
    let error = format!("{:#}", Inspector::load(&greedy, &camera()).unwrap_err());
    assert!(error.contains("memory"), "{error}");
}
