use super::*;
use crate::simulate::part::Defect;
use sha2::{Digest, Sha256};

fn scene(seed: u64, defective: bool) -> Scene {
    let look = PartLook::from_seed(seed, defective);
    Scene {
        belt_um: 1_234_567,
        seed,
        parts: vec![ScenePart {
            x: 340.8,
            y: 229.2,
            look,
        }],
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_everywhere() {
    let mut renderer = Renderer::new(7, 640, 480, 120.0);
    let (mut bytes, mut mask) = (Vec::new(), Mask::default());
    let mut lines = String::new();
    for seed in 0..6 {
        renderer.frame(
            &scene(seed, seed % 3 != 0),
            PixelFormat::Yuyv,
            &mut bytes,
            Some(&mut mask),
        );
        lines += &format!("{seed} {} {}\n", &hash(&bytes)[..16], &hash(&mask.classes)[..16]);
    }
    // A change here means that pictures, and so the shipped models' figures, have changed.
    assert_eq!(lines, PINNED);
}

/// Seed, then the first 16 digits of the sha256 of the picture and of its class map.
const PINNED: &str = "\
0 41fd4548a07a3612 7818f5542a040415
1 c757fcc352b7088a 0f3cfc326ceecacb
2 ed16f32edb30f14d 254cc885d1883950
3 92352df5c385091b 7818f5542a040415
4 9da8ebe117d9b6e8 3080e4021e75def6
5 48ad3f456e01da02 45f675d2c8e5ae47
";

#[test]
fn a_frame_does_not_depend_on_the_frame_before() {
    let mut renderer = Renderer::new(7, 320, 320, 120.0);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    renderer.frame(&scene(1, true), PixelFormat::Rgb3, &mut a, None);
    renderer.frame(&scene(2, true), PixelFormat::Rgb3, &mut b, None);
    assert_ne!(a, b);
    renderer.frame(&scene(1, true), PixelFormat::Rgb3, &mut b, None);
    assert_eq!(a, b);
}

#[test]
fn the_mask_shows_the_drawn_kind_and_only_on_bad_parts() {
    let mut renderer = Renderer::new(1, 320, 320, 120.0);
    let (mut bytes, mut mask) = (Vec::new(), Mask::default());
    for seed in 0..60 {
        for kind in [None, Some(Defect::ALL[seed as usize % 4])] {
            let look = PartLook::with_defect(seed, kind);
            let scene = Scene {
                belt_um: 0,
                seed,
                parts: vec![ScenePart {
                    x: 160.0,
                    y: 160.0,
                    look,
                }],
            };
            renderer.frame(&scene, PixelFormat::Grey, &mut bytes, Some(&mut mask));
            let mut classes: Vec<u8> = mask.classes.iter().copied().filter(|c| *c > 0).collect();
            let pixels = classes.len();
            classes.dedup();
            assert_eq!(
                classes,
                kind.map(Defect::class).into_iter().collect::<Vec<_>>(),
                "seed {seed}"
            );
            // Large enough to be asked for: at least 0.8 mm².
            assert!(
                kind.is_none() || pixels as f32 * 0.0144 > 0.8,
                "seed {seed} {kind:?}: {pixels} pixels"
            );
        }
    }
}

#[test]
fn a_part_is_brighter_than_the_belt_and_lies_where_the_scene_says() {
    let mut renderer = Renderer::new(1, 640, 480, 120.0);
    let mut bytes = Vec::new();
    for seed in 0..40 {
        let look = PartLook::from_seed(seed, false);
        let scene = Scene {
            belt_um: 0,
            seed,
            parts: vec![ScenePart {
                x: 420.0,
                y: 215.0,
                look,
            }],
        };
        renderer.frame(&scene, PixelFormat::Grey, &mut bytes, None);
        let bright: Vec<(usize, usize)> = (0..480 * 640)
            .filter(|&i| bytes[i] > 48)
            .map(|i| (i % 640, i / 640))
            .collect();
        let n = bright.len() as f32;
        let x = bright.iter().map(|p| p.0 as f32).sum::<f32>() / n;
        let y = bright.iter().map(|p| p.1 as f32).sum::<f32>() / n;
        assert!(
            (x - 420.0).abs() < 8.0 && (y - 215.0).abs() < 8.0,
            "seed {seed}: {x} {y}"
        );
        // π/4 · (28 / 0.12)² = 42,761 pixels.
        assert!(
            (37_000.0..45_000.0).contains(&n),
            "seed {seed}: {n} pixels above the belt"
        );
    }
}

#[test]
fn a_part_half_out_of_the_picture_is_drawn_as_far_as_it_shows() {
    let mut renderer = Renderer::new(1, 640, 480, 120.0);
    let mut bytes = Vec::new();
    let corners = [
        (640.0, 240.0),
        (0.0, 240.0),
        (320.0, 480.0),
        (320.0, 0.0),
        (1_070.0, 990.0),
        (1e30, -1e30),
    ];
    for (x, y) in corners {
        let part = ScenePart {
            x,
            y,
            look: PartLook::from_seed(1, true),
        };
        let scene = Scene {
            belt_um: -5,
            seed: 1,
            parts: vec![part],
        };
        renderer.frame(&scene, PixelFormat::Nv12, &mut bytes, None);
        assert_eq!(bytes.len(), 640 * 480 * 3 / 2);
    }
}

#[test]
fn the_belt_moves_with_the_parts() {
    let mut renderer = Renderer::new(1, 640, 480, 120.0);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let empty = |belt_um| Scene {
        belt_um,
        seed: 1,
        parts: Vec::new(),
    };
    renderer.frame(&empty(0), PixelFormat::Grey, &mut a, None);
    renderer.frame(&empty(120 * 50), PixelFormat::Grey, &mut b, None);
    let difference = |shift: usize| -> u32 {
        (0..590)
            .map(|x| u32::from(a[200 * 640 + x].abs_diff(b[200 * 640 + x + shift])))
            .sum()
    };
    assert!(
        difference(50) * 4 < difference(30) * 3,
        "{} {}",
        difference(50),
        difference(30)
    );
}
