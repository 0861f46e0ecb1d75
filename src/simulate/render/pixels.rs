//! An RGB picture in the camera's pixel format.
//!
//! YUV is BT.601 with limited range (16 to 235), which V4L2 takes for YUYV,
//! UYVY and NV12 unless a driver says otherwise; greys have the full range.

use crate::vision::frame::PixelFormat;

/// Formats that can be rendered; the others need an encoder or are for real sensors.
pub fn supported(format: PixelFormat) -> bool {
    !matches!(format, PixelFormat::Mjpg)
}

/// Bytes from row to row of the first plane.
pub fn stride(format: PixelFormat, width: u32) -> u32 {
    match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Y10 | PixelFormat::Y16 => width * 2,
        PixelFormat::Rgb3 | PixelFormat::Bgr3 => width * 3,
        PixelFormat::Mjpg => 0,
        _ => width,
    }
}

/// Writes `rgb` (tight rows) to `bytes` in `format`; width and height are even.
/// MJPG cannot be written: `bytes` is then left empty.
pub fn encode(rgb: &[u8], width: usize, format: PixelFormat, bytes: &mut Vec<u8>) {
    bytes.clear();
    match format {
        PixelFormat::Rgb3 => bytes.extend_from_slice(rgb),
        PixelFormat::Bgr3 => bytes.extend(rgb.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]])),
        PixelFormat::Grey => bytes.extend(rgb.chunks_exact(3).map(grey)),
        // Ten bits in the low end of a little-endian word, and all sixteen.
        PixelFormat::Y10 => bytes.extend(rgb.chunks_exact(3).flat_map(|p| wide(grey(p), 10))),
        PixelFormat::Y16 => bytes.extend(rgb.chunks_exact(3).flat_map(|p| wide(grey(p), 16))),
        PixelFormat::Yuyv => bytes.extend(rgb.chunks_exact(6).flat_map(|p| {
            let (y0, y1, u, v) = pair(p);
            [y0, u, y1, v]
        })),
        PixelFormat::Uyvy => bytes.extend(rgb.chunks_exact(6).flat_map(|p| {
            let (y0, y1, u, v) = pair(p);
            [u, y0, v, y1]
        })),
        PixelFormat::Nv12 => nv12(rgb, width, bytes),
        PixelFormat::BayerRggb => bayer(rgb, width, [0, 1, 1, 2], bytes),
        PixelFormat::BayerBggr => bayer(rgb, width, [2, 1, 1, 0], bytes),
        PixelFormat::BayerGrbg => bayer(rgb, width, [1, 0, 2, 1], bytes),
        PixelFormat::BayerGbrg => bayer(rgb, width, [1, 2, 0, 1], bytes),
        PixelFormat::Mjpg => {}
    }
}

/// Full-range luma: 0.299 R + 0.587 G + 0.114 B in 1/65,536.
fn grey(p: &[u8]) -> u8 {
    ((19_595 * u32::from(p[0]) + 38_470 * u32::from(p[1]) + 7_471 * u32::from(p[2]) + 32_768) >> 16) as u8
}

/// A grey value widened to `bits`, its top bits repeated below, little-endian.
fn wide(grey: u8, bits: u32) -> [u8; 2] {
    ((u16::from(grey) * 257) >> (16 - bits)).to_le_bytes()
}

fn luma(p: &[u8]) -> u8 {
    ((66 * i32::from(p[0]) + 129 * i32::from(p[1]) + 25 * i32::from(p[2]) + 128) >> 8) as u8 + 16
}

/// Chroma of a colour summed over 2^`shift` pixels.
fn chroma(sum: [i32; 3], shift: u32) -> (u8, u8) {
    let half = 128 << shift;
    let u = ((-38 * sum[0] - 74 * sum[1] + 112 * sum[2] + half) >> (8 + shift)) + 128;
    let v = ((112 * sum[0] - 94 * sum[1] - 18 * sum[2] + half) >> (8 + shift)) + 128;
    (u as u8, v as u8)
}

fn pair(p: &[u8]) -> (u8, u8, u8, u8) {
    let sum = [0, 1, 2].map(|k| i32::from(p[k]) + i32::from(p[k + 3]));
    let (u, v) = chroma(sum, 1);
    (luma(&p[..3]), luma(&p[3..]), u, v)
}

fn nv12(rgb: &[u8], width: usize, bytes: &mut Vec<u8>) {
    bytes.extend(rgb.chunks_exact(3).map(luma));
    for rows in rgb.chunks_exact(width * 6) {
        let (top, low) = rows.split_at(width * 3);
        for (a, b) in top.chunks_exact(6).zip(low.chunks_exact(6)) {
            let sum = [0, 1, 2]
                .map(|k| i32::from(a[k]) + i32::from(a[k + 3]) + i32::from(b[k]) + i32::from(b[k + 3]));
            let (u, v) = chroma(sum, 2);
            bytes.extend([u, v]);
        }
    }
}

/// One colour a pixel; `order` names the channels of the first two of row 0, then of row 1.
fn bayer(rgb: &[u8], width: usize, order: [usize; 4], bytes: &mut Vec<u8>) {
    for (j, row) in rgb.chunks_exact(width * 3).enumerate() {
        let at = &order[(j & 1) * 2..];
        bytes.extend(row.chunks_exact(3).enumerate().map(|(i, p)| p[at[i & 1]]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_black_and_red_have_the_known_codes() {
        let mut out = Vec::new();
        encode(&[255, 255, 255, 0, 0, 0], 2, PixelFormat::Yuyv, &mut out);
        assert_eq!(out, [235, 128, 16, 128]);
        encode(&[255, 0, 0, 255, 0, 0], 2, PixelFormat::Uyvy, &mut out);
        assert_eq!(out, [90, 82, 240, 82]);
        encode(&[255, 0, 0, 255, 255, 255], 2, PixelFormat::Grey, &mut out);
        assert_eq!(out, [76, 255]);
        encode(&[255, 255, 255, 0, 0, 0], 2, PixelFormat::Y10, &mut out);
        assert_eq!(out, [255, 3, 0, 0]);
    }

    #[test]
    fn every_format_fills_its_frame() {
        let rgb = vec![90; 8 * 6 * 3];
        let mut out = Vec::new();
        for (format, bytes) in [
            (PixelFormat::Yuyv, 96),
            (PixelFormat::Uyvy, 96),
            (PixelFormat::Nv12, 72),
            (PixelFormat::Grey, 48),
            (PixelFormat::Y10, 96),
            (PixelFormat::Y16, 96),
            (PixelFormat::Rgb3, 144),
            (PixelFormat::Bgr3, 144),
            (PixelFormat::BayerRggb, 48),
        ] {
            encode(&rgb, 8, format, &mut out);
            assert_eq!(out.len(), bytes, "{format:?}");
            assert!(supported(format) && stride(format, 8) > 0);
        }
    }

    #[test]
    fn bayer_takes_each_colour_from_its_place() {
        let rgb: Vec<u8> = [[1, 2, 3]; 4].concat();
        let mut out = Vec::new();
        encode(&rgb, 2, PixelFormat::BayerRggb, &mut out);
        assert_eq!(out, [1, 2, 2, 3]);
        encode(&rgb, 2, PixelFormat::BayerGbrg, &mut out);
        assert_eq!(out, [2, 3, 1, 2]);
    }
}
