use super::*;
use crate::units::Length;
use crate::vision::frame::PixelFormat;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

fn rgb_frame(image: image::RgbImage) -> Frame {
    let (width, height) = image.dimensions();
    Frame::new(PixelFormat::Rgb3, width, height, image.into_raw())
}

fn cap() -> Frame {
    rgb_frame(
        image::load_from_memory(include_bytes!("../../tests/data/cap.png"))
            .unwrap()
            .to_rgb8(),
    )
}

fn input(frame: &Frame, crop: Crop, size: u32, filter: Filter, blob: Option<Blob>) -> (Vec<u8>, View) {
    // Not zero, to see that every byte is written.
    let mut rgb = vec![0xa5; (size * size * 3) as usize];
    let view = Preprocessor::new(crop, size, filter, 100.0)
        .run(frame, blob, &mut rgb)
        .unwrap();
    (rgb, view)
}

/// The first eight bytes of the SHA-256, as hexadecimal.
fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn blob(x: u16, y: u16, width: u16, height: u16) -> Blob {
    Blob {
        x,
        y,
        width,
        height,
        area_px: 0,
        cut: false,
    }
}

// All hashes below are of what Pillow 13.0.0 makes of tests/data/cap.png with Image.resize, paste and crop.

#[test]
fn whole_pictures_are_fitted_as_pillow_does_to_the_last_bit() {
    let cases = [
        (Fit::Stretch, 33, Filter::Bilinear, "dc758a7cf2fb9201"),
        (Fit::Letterbox, 33, Filter::Bilinear, "80d6ac21649e7e1c"),
        (Fit::Cover, 33, Filter::Bilinear, "0dd117162931e19a"),
        (Fit::Stretch, 33, Filter::Bicubic, "a065b7685c42330b"),
        (Fit::Letterbox, 33, Filter::Bicubic, "6ac508905002c255"),
        (Fit::Cover, 33, Filter::Bicubic, "516a084ff23ecf87"),
        (Fit::Stretch, 112, Filter::Bilinear, "503b77d1a769744c"),
        (Fit::Letterbox, 112, Filter::Bilinear, "17b93bd7e47eee5c"),
        (Fit::Cover, 112, Filter::Bilinear, "237423fabb91724e"),
        (Fit::Stretch, 112, Filter::Bicubic, "8d7e7cc51126dccd"),
        (Fit::Letterbox, 112, Filter::Bicubic, "7ee15f84816f52e2"),
        (Fit::Cover, 112, Filter::Bicubic, "69ec8b2e8724e5be"),
    ];
    for (fit, size, filter, expected) in cases {
        let (rgb, _) = input(&cap(), Crop::Picture { fit }, size, filter, None);
        assert_eq!(hash(&rgb), expected, "{fit:?} {size} {filter:?}");
    }
}

#[test]
fn the_square_around_a_part_repeats_the_edge_of_the_picture() {
    let cases = [
        ((30, 20, 40, 22), 5, Filter::Bilinear, "605fb407e47b698a"),
        ((30, 20, 40, 22), 5, Filter::Bicubic, "e2e8159816c8e42c"),
        ((0, 0, 31, 30), 9, Filter::Bilinear, "6e5ec60b0319709f"),
        ((0, 0, 31, 30), 9, Filter::Bicubic, "d602a6e10742a4ef"),
        ((70, 40, 26, 24), 3, Filter::Bilinear, "357e3e47bbce701d"),
        ((70, 40, 26, 24), 3, Filter::Bicubic, "7ac3fb4f31f1c507"),
        ((10, 10, 80, 50), 40, Filter::Bilinear, "c6b3a003fea78416"),
        ((10, 10, 80, 50), 40, Filter::Bicubic, "d57a5262f18c8e36"),
    ];
    for ((x, y, width, height), margin_px, filter, expected) in cases {
        let crop = Crop::Part {
            margin: Length::from_micrometres(margin_px * 100),
        };
        let (rgb, view) = input(&cap(), crop, 33, filter, Some(blob(x, y, width, height)));
        assert_eq!(hash(&rgb), expected, "{x} {y} {width} {height} {filter:?}");
        assert_eq!(view.width, u32::from(width.max(height)) + 2 * margin_px as u32);
    }
}

#[test]
fn the_same_preprocessor_gives_the_same_bits_whatever_it_saw_before() {
    let crop = Crop::Part {
        margin: Length::from_mm(1),
    };
    let mut used = Preprocessor::new(crop, 40, Filter::Bicubic, 100.0);
    for b in [
        blob(0, 0, 90, 60),
        blob(40, 20, 8, 9),
        blob(80, 50, 16, 14),
        blob(40, 20, 8, 9),
    ] {
        let mut rgb = vec![1; 40 * 40 * 3];
        let view = used.run(&cap(), Some(b), &mut rgb).unwrap();
        let (fresh, fresh_view) = input(&cap(), crop, 40, Filter::Bicubic, Some(b));
        assert!(rgb == fresh && view == fresh_view, "{b:?}");
    }
}

#[test]
fn views_say_where_the_input_comes_from() {
    let (_, view) = input(
        &cap(),
        Crop::Picture { fit: Fit::Stretch },
        32,
        Filter::Bilinear,
        None,
    );
    assert_eq!(
        view,
        View {
            x: 0,
            y: 0,
            width: 96,
            height: 64,
            um_per_input_px: None
        }
    );
    let (_, view) = input(
        &cap(),
        Crop::Picture { fit: Fit::Letterbox },
        48,
        Filter::Bilinear,
        None,
    );
    assert_eq!(
        view,
        View {
            x: 0,
            y: -16,
            width: 96,
            height: 96,
            um_per_input_px: Some(200.0)
        }
    );
    let (_, view) = input(
        &cap(),
        Crop::Picture { fit: Fit::Cover },
        32,
        Filter::Bilinear,
        None,
    );
    assert_eq!(
        view,
        View {
            x: 16,
            y: 0,
            width: 64,
            height: 64,
            um_per_input_px: Some(200.0)
        }
    );
    let crop = Crop::Part {
        margin: Length::from_mm(1),
    };
    let (_, view) = input(&cap(), crop, 30, Filter::Bilinear, Some(blob(5, 20, 40, 10)));
    assert_eq!(
        view,
        View {
            x: -5,
            y: -5,
            width: 60,
            height: 60,
            um_per_input_px: Some(200.0)
        }
    );
}

#[test]
fn a_crop_around_a_part_needs_the_part() {
    let crop = Crop::Part { margin: Length::ZERO };
    let mut rgb = vec![0; 3 * 8 * 8];
    let done = Preprocessor::new(crop, 8, Filter::Bilinear, 100.0).run(&cap(), None, &mut rgb);
    assert_eq!(done, Err(FrameError::NoPart));
}

#[test]
fn every_format_can_be_looked_at_up_to_its_edges() {
    let crop = Crop::Part {
        margin: Length::from_mm(2),
    };
    for format in PixelFormat::ALL.into_iter().filter(|f| *f != PixelFormat::Mjpg) {
        let bytes = vec![128; format.picture_bytes(48, 32, format.row_bytes(48))];
        let frame = Frame::new(format, 48, 32, bytes);
        for b in [
            blob(0, 0, 1, 1),
            blob(47, 31, 1, 1),
            blob(0, 0, 48, 32),
            blob(13, 7, 9, 30),
        ] {
            let (rgb, _) = input(&frame, crop, 16, Filter::Bilinear, Some(b));
            // Every sample is the same, so the picture is flat, whatever its colour.
            assert!(
                rgb.as_chunks::<3>().0.iter().all(|p| p == &rgb[..3]),
                "{format} {b:?}"
            );
        }
    }
}

/// Plain instructions against the widest of this machine, on noise in every format.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut state = 3u32;
    let crop = Crop::Part {
        margin: Length::from_mm(1),
    };
    for format in PixelFormat::ALL.into_iter().filter(|f| *f != PixelFormat::Mjpg) {
        let mut bytes = vec![0; format.picture_bytes(98, 66, format.row_bytes(98))];
        for byte in &mut bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        let frame = Frame::new(format, 98, 66, bytes);
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            for b in [blob(3, 5, 60, 31), blob(0, 0, 9, 9), blob(90, 60, 8, 6)] {
                let (widest, _) = input(&frame, crop, 37, filter, Some(b));
                let mut plain = vec![0; 37 * 37 * 3];
                let mut preprocessor = Preprocessor::new(crop, 37, filter, 100.0);
                let mut opener = Opener::default();
                let raw = opener.open(&frame).unwrap();
                let (across, down, _) = preprocessor.plan(&raw, Some(b)).unwrap();
                preprocessor.resample(&raw, across, down, &mut plain);
                assert!(plain == widest, "{format} {filter:?} {b:?}");
            }
        }
    }
}

/// Folder of test models and data beside the repository, or where ELEK_SHARED says; the tests that need it say when it is absent.
fn shared() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = std::env::var_os("ELEK_SHARED").map_or_else(beside, PathBuf::from);
    if !folder.join("models/golden.json").exists() {
        println!("skipped: no shared models beside the repository");
        return None;
    }
    Some(folder)
}

fn golden(shared: &std::path::Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(shared.join("models/golden.json")).unwrap()).unwrap()
}

/// The tensor a model of the shared folder gets: (v − 127) / 128, one plane per channel, little-endian.
fn tensor(rgb: &[u8]) -> Vec<f32> {
    let plane = |c: usize| {
        rgb.iter()
            .skip(c)
            .step_by(3)
            .map(|&v| (f32::from(v) - 127.0) / 128.0)
    };
    (0..3).flat_map(plane).collect()
}

fn tensor_hash(tensor: &[f32]) -> String {
    let bytes: Vec<u8> = tensor.iter().flat_map(|v| v.to_le_bytes()).collect();
    hex(&Sha256::digest(&bytes))
}

#[test]
fn png_photographs_give_the_golden_inputs_bit_by_bit() {
    let Some(shared) = shared() else { return };
    let golden = golden(&shared);
    let mut compared = 0;
    for image in golden["models"]["lite0_imagenet"]["images"].as_array().unwrap() {
        let file = image["file"].as_str().unwrap();
        if !file.ends_with(".png") {
            continue;
        }
        let picture = image::open(shared.join("models").join(file)).unwrap().to_rgb8();
        let cover = Crop::Picture { fit: Fit::Cover };
        let (rgb, _) = input(&rgb_frame(picture), cover, 256, Filter::Bicubic, None);
        // That recipe shrinks to 256 and keeps the middle 224.
        let middle: Vec<u8> = (16..240)
            .flat_map(|y| rgb[(y * 256 + 16) * 3..(y * 256 + 240) * 3].to_vec())
            .collect();
        assert_eq!(
            tensor_hash(&tensor(&middle)),
            image["input_sha256"].as_str().unwrap(),
            "{file}"
        );
        compared += 1;
    }
    assert_eq!(compared, 2);
}

/// Largest difference in grey levels, and the mean one, between our input and the stored tensor of `model`.
fn against_stored_tensors(model: &str, fit: Fit, size: u32, filter: Filter) -> Vec<(f32, f32)> {
    let Some(shared) = shared() else { return Vec::new() };
    let golden = golden(&shared);
    let mut differences = Vec::new();
    for image in golden["models"][model]["images"].as_array().unwrap() {
        let Some(raw) = image["input_raw"].as_str() else {
            continue;
        };
        let stored = std::fs::read(shared.join("models").join(raw)).unwrap();
        let stored = stored.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let jpeg = std::fs::read(shared.join("data").join(image["file"].as_str().unwrap())).unwrap();
        let (width, height) = image::ImageReader::new(std::io::Cursor::new(&jpeg))
            .with_guessed_format()
            .unwrap()
            .into_dimensions()
            .unwrap();
        let (rgb, _) = input(
            &Frame::new(PixelFormat::Mjpg, width, height, jpeg),
            Crop::Picture { fit },
            size,
            filter,
            None,
        );
        let off: Vec<f32> = tensor(&rgb)
            .iter()
            .zip(stored)
            .map(|(a, b)| (a - b).abs() * 128.0)
            .collect();
        let worst = off.iter().copied().fold(0.0, f32::max);
        differences.push((worst, off.iter().sum::<f32>() / off.len() as f32));
    }
    println!("{model}: worst and mean difference in grey levels {differences:?}");
    differences
}

#[test]
fn jpeg_photographs_give_the_golden_inputs_as_far_as_jpeg_decoders_agree() {
    let cases = [
        ("cookie_classifier", Fit::Stretch, 224, Filter::Bilinear),
        ("cookie_unet", Fit::Stretch, 256, Filter::Bilinear),
        ("tile_unet", Fit::Letterbox, 256, Filter::Bicubic),
    ];
    for (model, fit, size, filter) in cases {
        for (worst, mean) in against_stored_tensors(model, fit, size, filter) {
            assert!(
                worst <= 1.0 && mean <= 0.1,
                "{model}: worst {worst}, mean {mean} grey levels"
            );
        }
    }
}
