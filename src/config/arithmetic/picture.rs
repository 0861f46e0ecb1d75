//! Camera and picture: sharpness, what is in view, and what a mask pixel is worth.

use super::super::{BeltAxis, Camera, CameraMode, CameraSource, Config, Crop, Fit, Motion, Recipe, Trigger};
use super::{Facts, Finding, Line, draft};
use crate::station::event::BLOBS_MAX;
use crate::station::judge::{Measure, Quantity, Rule};
use crate::units::{Length, Micros, Speed};

/// A limit of fewer mask pixels than this would be decided by noise at the edge of the defect.
const MASK_PIXELS_MIN: f64 = 10.0;
/// Beyond one pixel, blur eats what the lens resolves.
const BLUR_PX_WARN: f64 = 1.0;
/// Ten smeared pixels are all that the smallest allowed limit measures.
const BLUR_PX_MAX: f64 = MASK_PIXELS_MIN;

fn pixels(camera: &Camera, speed: Speed, time: Micros) -> f64 {
    speed.travel(time).as_micrometres() as f64 / camera.um_per_px
}

/// Width and height of a picture, where known.
fn size(camera: &Camera, facts: &Facts) -> Option<(u32, u32)> {
    match &camera.source {
        CameraSource::Simulated(source) => Some((source.format.width, source.format.height)),
        CameraSource::V4l2(source) => Some((source.format.width, source.format.height)),
        CameraSource::Folder(_) => facts.folder_picture,
    }
}

/// The key in which the exposure is written.
fn exposure_key(camera: &Camera) -> String {
    let kind = match camera.source {
        CameraSource::Simulated(_) => "simulated",
        CameraSource::Folder(_) => "folder",
        CameraSource::V4l2(_) => "v4l2",
    };
    format!("camera.{}.source.{kind}.exposure_us", camera.name)
}

pub(super) fn camera(config: &Config, camera: &Camera, out: &mut Vec<Finding>) {
    let fastest = config.belt.speed_max;
    let key = exposure_key(camera);
    if camera.exposure > Micros::ZERO {
        blur(camera, fastest, &key, out);
        if let CameraMode::FreeRunning { fps_milli } = camera.mode {
            let beat = Micros::new(1_000_000_000 / i64::from(fps_milli.max(1)));
            if camera.exposure >= beat {
                let numbers = format!("{} of light; a frame every {beat}", camera.exposure);
                out.push(draft("exposure", &key, numbers).error(
                    "longer than a frame",
                    "the camera cannot expose longer than the time between two frames",
                    "shorten exposure_us (more light), or lower fps",
                ));
            }
        }
    }
    if let Some(readout) = camera.readout {
        let px = pixels(camera, fastest, readout);
        let numbers = format!("{fastest} × {readout} = {px:.1} px from first to last row");
        let finding = draft(
            "rolling shutter",
            format!("camera.{}.readout_ms", camera.name),
            numbers,
        );
        out.push(if px > 5.0 {
            finding.warn(
                "parts look slanted or stretched, other than in pictures of a standing belt",
                "use a global shutter, or teach the models with pictures taken at full speed",
            )
        } else {
            finding.ok("hardly slanted")
        });
    }
}

fn blur(camera: &Camera, fastest: Speed, key: &str, out: &mut Vec<Finding>) {
    let px = pixels(camera, fastest, camera.exposure);
    let numbers = format!("{fastest} × {} µs = {px:.2} px", camera.exposure.get());
    let finding = draft("blur", key, numbers);
    let sharp = (BLUR_PX_WARN * camera.um_per_px / fastest.as_mm_per_s() * 1_000.0).floor();
    let advice = format!("expose at most {sharp:.0} µs with more light, or slow the belt");
    out.push(if px > BLUR_PX_MAX {
        finding.error(
            "too long for this belt",
            "pictures are smeared over more pixels than the smallest limit measures",
            &advice,
        )
    } else if px > BLUR_PX_WARN {
        finding.warn("small defects are smeared", &advice)
    } else {
        finding.ok("sharp")
    });
}

pub(super) fn recipe(line: &Line<'_>, out: &mut Vec<Finding>) {
    in_view(line, out);
    matching(line, out);
    for (key, rules) in [
        ("pass_if", &line.recipe.rules.pass_if),
        ("reject_if", &line.recipe.rules.reject_if),
    ] {
        for (index, rule) in rules.iter().enumerate() {
            mask_pixels(line, &line.recipe_key(&format!("{key}[{index}]")), rule, out);
        }
    }
    let uses_mask = |rule: &Rule| matches!(rule.quantity, Quantity::Defect { .. });
    let rules = &line.recipe.rules;
    let used = rules.pass_if.iter().chain(&rules.reject_if).any(uses_mask);
    if line.recipe.segment.is_some() && !used {
        out.push(
            draft(
                "unused model",
                line.recipe_key("segment"),
                "no rule asks for the mask",
            )
            .warn(
                "the segmentation model is never run",
                "add a rule such as \"defect.area_mm2 > 0.8\" to reject_if, or delete segment",
            ),
        );
    }
}

/// Whether the whole part is in at least one picture.
fn in_view(line: &Line<'_>, out: &mut Vec<Finding>) {
    let (camera, recipe) = (line.camera, line.recipe);
    let Some((width, height)) = size(camera, line.facts) else {
        return;
    };
    // A folder's pictures are of one part each, whatever their scale.
    if matches!(camera.source, CameraSource::Folder(_)) {
        return;
    }
    let along = match camera.belt_axis {
        BeltAxis::PlusX | BeltAxis::MinusX => width,
        BeltAxis::PlusY | BeltAxis::MinusY => height,
    };
    let view = Length::from_micrometres((f64::from(along) * camera.um_per_px).round() as i64);
    let fastest = line.config.belt.speed_max;
    let beat = match camera.mode {
        CameraMode::FreeRunning { fps_milli } => {
            fastest.travel(Micros::new(1_000_000_000 / i64::from(fps_milli.max(1))))
        }
        CameraMode::Triggered => Length::ZERO,
    };
    let needed = recipe.part_max + beat;
    let numbers = format!(
        "part {} + {beat} of travel between frames = {needed}; the picture shows {view}",
        recipe.part_max
    );
    let finding = draft("field of view", line.camera_key("mm_per_px"), numbers);
    let advice = "move the camera away (larger mm_per_px), take more frames per second, or slow the belt";
    out.push(if needed > view {
        finding.error(
            "too small a view",
            "some parts are never whole in any picture",
            advice,
        )
    } else if view.as_mm_f64() / recipe.pitch_min().as_mm_f64() + 1.0 > BLOBS_MAX as f64 {
        finding.warn(
            &format!("a picture can show more parts than the {BLOBS_MAX} that are looked at; the smallest are passed over"),
            "move the camera nearer (smaller mm_per_px), or ask for a larger gap",
        )
    } else if matches!(recipe.crop, Crop::Part { margin } if recipe.part_max + margin + margin > view) {
        finding.warn(
            "the margin of the crop reaches over the edge of the picture and is filled in",
            advice,
        )
    } else {
        finding.ok("every part is whole in at least one picture")
    });
}

/// Whether a part in a picture is surely the part that crossed the photo-eye.
fn matching(line: &Line<'_>, out: &mut Vec<Finding>) {
    if matches!(line.config.trigger, Trigger::Vision) {
        return;
    }
    let (config, camera) = (line.config, line.camera);
    let step = match &config.belt.motion {
        Motion::Encoder { counts_per_mm, .. } => {
            Length::from_mm_f64(1.0 / counts_per_mm).unwrap_or(Length::ZERO)
        }
        Motion::Time { .. } => Length::ZERO,
    };
    let readout = camera.readout.unwrap_or(Micros::ZERO);
    let unsure = config.belt.speed_max.travel(camera.stamp_jitter + readout) + step;
    let half_pitch = line.recipe.pitch_min().half();
    let numbers = format!("place known to {unsure}; half the smallest pitch is {half_pitch}");
    let finding = draft("matching", line.camera_key("stamp"), numbers);
    let advice =
        "use a camera with better stamps or a global shutter, ask for a larger gap, or slow the belt";
    out.push(if unsure >= half_pitch {
        finding.error(
            "too uncertain",
            "a picture could show the neighbour: the wrong part would be judged",
            advice,
        )
    } else if unsure + unsure > half_pitch {
        finding.warn(
            "some parts may be given no result because two could be meant",
            advice,
        )
    } else {
        finding.ok("a picture shows one part, surely")
    });
}

/// Millimetres of one mask pixel, or why there is none.
enum MaskScale {
    Millimetres(f64),
    /// Two scales in one picture.
    NotToScale,
    Unknown,
}

fn mask_scale(recipe: &Recipe, camera: &Camera, facts: &Facts, side: u32) -> MaskScale {
    let side = f64::from(side.max(1));
    let shown_mm = match recipe.crop {
        Crop::Part { margin } => (recipe.part_max + margin + margin).as_mm_f64(),
        Crop::Picture { fit } => {
            let Some((width, height)) = size(camera, facts) else {
                return MaskScale::Unknown;
            };
            let pixels = match fit {
                Fit::Stretch => return MaskScale::NotToScale,
                Fit::Letterbox => width.max(height),
                Fit::Cover => width.min(height),
            };
            f64::from(pixels) * camera.um_per_px / 1_000.0
        }
    };
    // A mask finer than the camera knows no more than the camera.
    MaskScale::Millimetres((shown_mm / side).max(camera.um_per_px / 1_000.0))
}

/// A limit in millimetres must be worth some pixels of the mask.
fn mask_pixels(line: &Line<'_>, key: &str, rule: &Rule, out: &mut Vec<Finding>) {
    let Quantity::Defect { measure, .. } = rule.quantity else {
        return;
    };
    let (unit, power) = match measure {
        Measure::AreaMm2 => ("mm²", 2),
        Measure::LengthMm => ("mm", 1),
        Measure::Count | Measure::Peak => return,
    };
    let Some(model) = &line.recipe.segment else { return };
    let pixel = match mask_scale(line.recipe, line.camera, line.facts, model.size) {
        MaskScale::Millimetres(mm) => mm,
        MaskScale::NotToScale => {
            let numbers = format!("\"{}\" with fit = \"stretch\"", rule.text);
            out.push(draft("mask pixels", key, numbers).error(
                "not to scale",
                "a stretched picture has two scales, so nothing in it can be measured in millimetres",
                "use fit = \"letterbox\" or \"cover\", or crop around the part; count and peak need no scale",
            ));
            return;
        }
        MaskScale::Unknown => {
            let numbers = format!("\"{}\": the folder has no readable picture", rule.text);
            out.push(draft("mask pixels", key, numbers).warn(
                "how many mask pixels this limit is cannot be told",
                "put a .jpg or .png picture into the folder",
            ));
            return;
        }
    };
    let limit = f64::from(rule.limit);
    let worth = limit / pixel.powi(power);
    let least = MASK_PIXELS_MIN * pixel.powi(power);
    let numbers = format!(
        "\"{}\": one mask pixel is {pixel:.3} mm, the limit {worth:.1} pixels",
        rule.text
    );
    let finding = draft("mask pixels", key, numbers);
    out.push(if worth < MASK_PIXELS_MIN {
        let up = (least * 100.0).ceil() / 100.0;
        finding.error(
            "below 10 mask pixels",
            "so small a limit is decided by noise at the edge of the defect",
            &format!(
                "set at least {up:.2} {unit}, crop tighter, or use a model with a larger input; \
                 \"….count\" rules ask whether there is any defect at all"
            ),
        )
    } else {
        finding.ok("large enough to be measured")
    });
}
