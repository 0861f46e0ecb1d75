//! What the tests of pictures and inference share.
#![allow(dead_code)] // each test file uses its part of it

use elek::config::{
    BeltAxis, Camera, CameraMode, CameraSource, Contrast, Crop, Fit, FolderSource, Locate, Otherwise, Recipe,
};
use elek::infer::manifest;
use elek::station::judge::{Labels, Rules};
use elek::units::{Length, Micros};
use elek::vision::{Locator, PartSize, PixelFormat};
use std::path::Path;
use std::sync::Arc;

/// A camera of 1 mm per pixel, so that areas are easy to reckon.
pub fn camera() -> Camera {
    Camera {
        name: "top".to_owned(),
        um_per_px: 1000.0,
        belt_axis: BeltAxis::PlusX,
        distance: Length::from_mm(35),
        stamp_offset: Micros::ZERO,
        stamp_jitter: Micros::ZERO,
        retry: Micros::from_millis(500),
        stop_after: Micros::from_secs(2),
        mode: CameraMode::Triggered,
        locate: Locate {
            contrast: Contrast::PartBrighter,
            threshold: None,
        },
        exposure: Micros::from_millis(1),
        readout: None,
        source: CameraSource::Folder(FolderSource {
            path: ".".into(),
            parts_per_s: 1.0,
            repeat: false,
        }),
    }
}

/// A recipe with models of `folder`.
pub fn recipe(
    folder: &Path,
    crop: Crop,
    classify: Option<&str>,
    segment: Option<&str>,
    pass_if: &[&str],
    reject_if: &[&str],
) -> Recipe {
    let model = |file: &str| Arc::new(manifest::resolve(folder, file, None).unwrap());
    let (classify, segment) = (classify.map(model), segment.map(model));
    let owned = |rules: &[&str]| rules.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>();
    let labels = Labels {
        classify: classify.as_ref().map(|m| m.labels.as_slice()),
        mask: segment.as_ref().map(|m| m.labels.as_slice()),
    };
    let rules = Rules::parse(&owned(pass_if), &owned(reject_if), &labels).unwrap();
    Recipe {
        name: "test".to_owned(),
        part_min: Length::from_mm(10),
        part_max: Length::from_mm(20),
        gap_min: Length::from_mm(8),
        aim: Length::ZERO,
        pulse_margin: Length::from_mm(3),
        pulse_min: Micros::from_millis(15),
        crop,
        classify,
        segment,
        rules,
        otherwise: Otherwise {
            reject: true,
            keep_picture: true,
        },
        late_reject: true,
        decide_within: Micros::from_millis(120),
    }
}

/// Every format but the compressed one.
pub fn raw_formats() -> impl Iterator<Item = PixelFormat> {
    PixelFormat::ALL.into_iter().filter(|f| *f != PixelFormat::Mjpg)
}

/// Every way to cut a picture for a model.
pub fn crops() -> [Crop; 4] {
    [
        Crop::Part {
            margin: Length::from_mm(2),
        },
        Crop::Picture { fit: Fit::Letterbox },
        Crop::Picture { fit: Fit::Cover },
        Crop::Picture { fit: Fit::Stretch },
    ]
}

/// Of bright parts of 20 to 40 mm.
pub fn locator(um_per_px: f64) -> Locator {
    let size = PartSize {
        min: Length::from_mm(20),
        max: Length::from_mm(40),
        gap_min: Length::from_mm(8),
    };
    let locate = Locate {
        contrast: Contrast::PartBrighter,
        threshold: None,
    };
    Locator::with_sizes(locate, um_per_px, BeltAxis::PlusX, size)
}
