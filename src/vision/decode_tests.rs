//! Every pixel format against a decode of its own, written here in floating point and without any
//! regard to speed.

use super::decode::*;
use super::frame::{Frame, FrameError, PixelFormat};

pub fn frame(format: PixelFormat, width: u32, height: u32, stride: u32, bytes: Vec<u8>) -> Frame {
    Frame {
        stride,
        ..Frame::new(format, width, height, bytes)
    }
}

/// A smooth coloured scene with values from end to end.
fn scene(x: u32, y: u32) -> [f64; 3] {
    let (x, y) = (f64::from(x), f64::from(y));
    let wave = |fx: f64, fy: f64, shift: f64| 127.5 + 120.0 * (x * fx + y * fy + shift).sin();
    [
        wave(0.11, 0.05, 0.0),
        wave(0.07, -0.09, 1.0),
        wave(-0.05, 0.08, 2.5),
    ]
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares.max(1e-9)).log10()
}

fn to_u8(v: f64) -> u8 {
    v.round().clamp(0.0, 255.0) as u8
}

/// BT.601 from its luma weights alone: R = Y + 2(1 − Kr)·Cr and so on, limited range.
fn bt601(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (kr, kb) = (0.299, 0.114);
    let y = (f64::from(y) - 16.0) / 219.0;
    let (pb, pr) = ((f64::from(u) - 128.0) / 224.0, (f64::from(v) - 128.0) / 224.0);
    let (r, b) = (y + 2.0 * (1.0 - kr) * pr, y + 2.0 * (1.0 - kb) * pb);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|c| to_u8(c * 255.0))
}

const W: u32 = 46;
const H: u32 = 30;

/// Raw bytes with six bytes of padding a row, and what they mean, for formats that store samples plainly.
fn raw_and_meaning(format: PixelFormat) -> (Frame, Vec<u8>) {
    let stride = format.row_bytes(W) + 6;
    let rows = if format == PixelFormat::Nv12 { H + H / 2 } else { H };
    let mut bytes = vec![0xee; (rows * stride) as usize];
    // Deterministic samples of every value and combination, as cameras also deliver them out of range.
    let mut state = 12345u32;
    for byte in &mut bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let at = |x: u32, y: u32| bytes[(y * stride + x) as usize];
    let mut rgb = Vec::new();
    for y in 0..H {
        for x in 0..W {
            let pair = x / 2 * 4;
            rgb.extend(match format {
                PixelFormat::Yuyv => bt601(at(2 * x, y), at(pair + 1, y), at(pair + 3, y)),
                PixelFormat::Uyvy => bt601(at(2 * x + 1, y), at(pair, y), at(pair + 2, y)),
                PixelFormat::Nv12 => bt601(at(x, y), at(x / 2 * 2, H + y / 2), at(x / 2 * 2 + 1, H + y / 2)),
                PixelFormat::Grey => [at(x, y); 3],
                PixelFormat::Y10 => {
                    [(((u32::from(at(2 * x + 1, y)) << 8) | u32::from(at(2 * x, y))) / 4).min(255) as u8; 3]
                }
                PixelFormat::Y16 => [at(2 * x + 1, y); 3],
                PixelFormat::Rgb3 => [at(3 * x, y), at(3 * x + 1, y), at(3 * x + 2, y)],
                PixelFormat::Bgr3 => [at(3 * x + 2, y), at(3 * x + 1, y), at(3 * x, y)],
                _ => unreachable!("not a plain format"),
            });
        }
    }
    (frame(format, W, H, stride, bytes), rgb)
}

const PLAIN: [PixelFormat; 8] = [
    PixelFormat::Yuyv,
    PixelFormat::Uyvy,
    PixelFormat::Nv12,
    PixelFormat::Grey,
    PixelFormat::Y10,
    PixelFormat::Y16,
    PixelFormat::Rgb3,
    PixelFormat::Bgr3,
];

const BAYER: [PixelFormat; 4] = [
    PixelFormat::BayerRggb,
    PixelFormat::BayerBggr,
    PixelFormat::BayerGrbg,
    PixelFormat::BayerGbrg,
];

#[test]
fn plain_formats_mean_what_they_should() {
    for format in PLAIN {
        let (frame, expected) = raw_and_meaning(format);
        let rgb = to_rgb(&frame).unwrap();
        let worst = rgb.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
        let is_yuv = matches!(format, PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Nv12);
        assert!(worst <= Some(u8::from(is_yuv)), "{format}: worst {worst:?}");
        assert!(psnr(&rgb, &expected) >= 50.0, "{format}");
    }
}

#[test]
fn y10_drops_the_two_lowest_bits() {
    let values = [0u16, 3, 4, 512, 1023, 65535];
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let rgb = to_rgb(&frame(PixelFormat::Y10, 6, 1, 12, bytes)).unwrap();
    assert_eq!(
        rgb.iter().step_by(3).copied().collect::<Vec<_>>(),
        [0, 0, 1, 128, 255, 255]
    );
}

fn mosaic(format: PixelFormat, rgb: impl Fn(u32, u32) -> [f64; 3]) -> Frame {
    let name = format.name().as_bytes();
    let bytes = (0..H).flat_map(|y| (0..W).map(move |x| (x, y))).map(|(x, y)| {
        let colour = match name[(y % 2 * 2 + x % 2) as usize] {
            b'R' => 0,
            b'G' => 1,
            _ => 2,
        };
        to_u8(rgb(x, y)[colour])
    });
    frame(format, W, H, W, bytes.collect())
}

#[test]
fn bayer_gives_the_scene_back() {
    let truth: Vec<u8> = (0..H)
        .flat_map(|y| (0..W).flat_map(move |x| scene(x, y).map(to_u8)))
        .collect();
    for format in BAYER {
        let rgb = to_rgb(&mosaic(format, scene)).unwrap();
        let db = psnr(&rgb, &truth);
        assert!(db >= 40.0, "{format}: {db:.1} dB");
    }
}

#[test]
fn a_flat_colour_through_bayer_is_exact_up_to_the_corners() {
    for format in BAYER {
        let rgb = to_rgb(&mosaic(format, |_, _| [200.0, 100.0, 50.0])).unwrap();
        assert!(
            rgb.as_chunks::<3>().0.iter().all(|p| *p == [200, 100, 50]),
            "{format}"
        );
    }
}

#[test]
fn a_rectangle_is_a_piece_of_the_whole_in_every_format() {
    let frames = PLAIN
        .map(|f| raw_and_meaning(f).0)
        .into_iter()
        .chain(BAYER.map(|f| mosaic(f, scene)));
    for frame in frames {
        let whole = to_rgb(&frame).unwrap();
        for (x, y, width, height) in [
            (0, 0, 1, 1),
            (1, 1, 5, 3),
            (2, 3, 4, 7),
            (45, 29, 1, 1),
            (7, 0, 39, 30),
        ] {
            let mut piece = Vec::new();
            rect_to_rgb(&frame, Rect { x, y, width, height }, &mut piece).unwrap();
            let expected: Vec<u8> = (y..y + height)
                .flat_map(|y| whole[((y * W + x) * 3) as usize..][..width as usize * 3].to_vec())
                .collect();
            assert!(piece == expected, "{} at {x}, {y}", frame.format);
        }
    }
}

#[test]
fn a_rectangle_outside_is_refused() {
    let (frame, _) = raw_and_meaning(PixelFormat::Grey);
    let mut rgb = Vec::new();
    for (x, y, width, height) in [(0, 0, W + 1, 1), (W, 0, 1, 1), (u32::MAX, 0, 1, 1), (0, 1, 1, H)] {
        let rect = Rect { x, y, width, height };
        assert!(
            matches!(
                rect_to_rgb(&frame, rect, &mut rgb),
                Err(FrameError::Outside { .. })
            ),
            "{rect:?}"
        );
    }
}

#[test]
fn luma_is_what_the_picture_looks_like() {
    let frames = PLAIN
        .map(|f| raw_and_meaning(f).0)
        .into_iter()
        .chain(BAYER.map(|f| mosaic(f, scene)));
    for frame in frames {
        // Of a YUV format it is the stored Y, in limited range; all others show full range.
        let limited = matches!(
            frame.format,
            PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Nv12
        );
        if limited {
            continue;
        }
        let mut opener = Opener::default();
        let raw = opener.open(&frame).unwrap();
        let (mut line, mut luma) = (vec![[0; 4]; row_capacity(W)], [0; 14]);
        for y in 0..H {
            raw.luma(y, 1, 3, &mut luma);
            let pixels = raw.row(y, 0, W, &mut line);
            for (i, &got) in luma.iter().enumerate() {
                let [r, g, b, _] = pixels[1 + 3 * i].map(f64::from);
                let expected = 0.299 * r + 0.587 * g + 0.114 * b;
                let tolerance = if frame.format.is_bayer() { 40.0 } else { 1.5 };
                assert!(
                    (f64::from(got) - expected).abs() <= tolerance,
                    "{} {y} {i}: {got} {expected}",
                    frame.format
                );
            }
        }
    }
}

// Made with Pillow 13.0.0 (libjpeg-turbo): a drawn cap, quality 90, chroma at half resolution.
const JPEG: &[u8] = include_bytes!("../../tests/data/cap.jpg");
const JPEG_AS_PNG: &[u8] = include_bytes!("../../tests/data/cap.png");

fn jpeg_frame(bytes: &[u8]) -> Frame {
    frame(PixelFormat::Mjpg, 96, 64, 0, bytes.to_vec())
}

#[test]
fn mjpg_agrees_with_another_decoder() {
    let expected = image::load_from_memory(JPEG_AS_PNG).unwrap().to_rgb8();
    let rgb = to_rgb(&jpeg_frame(JPEG)).unwrap();
    let db = psnr(&rgb, expected.as_raw());
    assert!(db >= 40.0, "{db:.1} dB");
}

#[test]
fn a_broken_jpeg_is_an_error_wherever_it_ends() {
    for cut in (0..JPEG.len() - 2).step_by(7) {
        assert!(
            to_rgb(&jpeg_frame(&JPEG[..cut])).is_err(),
            "cut at {cut} of {}",
            JPEG.len()
        );
    }
    let mut other_size = jpeg_frame(JPEG);
    other_size.width = 98;
    assert!(matches!(
        to_rgb(&other_size),
        Err(FrameError::JpegSize { got_width: 96, .. })
    ));
}

#[test]
fn noise_that_calls_itself_jpeg_does_no_harm() {
    let mut state = 7u32;
    for _ in 0..300 {
        let mut bytes = JPEG.to_vec();
        for _ in 0..8 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let place = state as usize % bytes.len();
            bytes[place] = (state >> 24) as u8;
        }
        let _ = to_rgb(&jpeg_frame(&bytes));
    }
}
