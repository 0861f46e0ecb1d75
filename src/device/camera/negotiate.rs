//! What was asked of the driver against what it gave.

use super::node::{Interval, Layout};
use crate::config::PictureFormat;
use crate::units::Micros;
use crate::vision::frame::PixelFormat;

/// Frame rates are rounded by drivers (30 and 30000/1001 are the same to a belt): one percent.
const RATE_SHARE: u64 = 100;

/// A format that can be used: every length that reading a frame relies on has been compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub pixels: PixelFormat,
    pub width: u32,
    pub height: u32,
    /// 0 for MJPG.
    pub stride: u32,
    /// Bytes of a buffer, at least of a picture.
    pub size: usize,
}

/// The words of a fourcc: "GREY", or its bytes where they cannot be printed.
pub fn fourcc_words(fourcc: [u8; 4]) -> String {
    let printable = fourcc.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    match std::str::from_utf8(&fourcc) {
        Ok(text) if printable => text.trim_end().to_owned(),
        _ => format!("{:#010x}", u32::from_le_bytes(fourcc)),
    }
}

pub fn asked_words(asked: &PictureFormat) -> String {
    let PictureFormat {
        pixels,
        width,
        height,
        fps_milli,
    } = asked;
    format!(
        "{pixels} {width} × {height} at {} frames/s",
        f64::from(*fps_milli) / 1_000.0
    )
}

/// Whether the driver gave what was asked. The error says in words what it gave instead.
pub fn agree(asked: &PictureFormat, given: &Layout) -> Result<Agreed, String> {
    let &PictureFormat {
        pixels,
        width,
        height,
        ..
    } = asked;
    let got = fourcc_words(given.fourcc);
    if given.fourcc != pixels.fourcc() || (given.width, given.height) != (width, height) {
        return Err(format!("{got} {} × {}", given.width, given.height));
    }
    if given.interlaced {
        return Err(format!(
            "{got} in two interlaced halves, which show a moving part at two places"
        ));
    }
    if given.planes != 1 {
        return Err(format!("{got} in {} separate pieces of memory", given.planes));
    }
    let row = pixels.row_bytes(width);
    // Some drivers leave it open; rows then follow each other without a gap.
    let stride = match (pixels, given.stride) {
        (PixelFormat::Mjpg, _) => 0,
        (_, 0) => row,
        (_, stride) => stride,
    };
    if stride < row {
        return Err(format!("{got} with rows of {stride} bytes, {row} are needed"));
    }
    let (size, needed) = (given.size as usize, pixels.picture_bytes(width, height, stride));
    if size < needed {
        return Err(format!("{got} in buffers of {size} bytes, {needed} are needed"));
    }
    Ok(Agreed {
        pixels,
        width,
        height,
        stride,
        size,
    })
}

pub fn interval_of(fps_milli: u32) -> Interval {
    let divisor = gcd(1_000, fps_milli.max(1));
    Interval {
        numerator: 1_000 / divisor,
        denominator: fps_milli.max(1) / divisor,
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Interval {
    pub fn micros(self) -> Micros {
        let us = u64::from(self.numerator) * 1_000_000 / u64::from(self.denominator.max(1));
        Micros::new(i64::try_from(us).unwrap_or(i64::MAX))
    }

    pub fn fps(self) -> f64 {
        f64::from(self.denominator) / f64::from(self.numerator.max(1))
    }

    pub fn words(self) -> String {
        let rounded = (self.fps() * 100.0).round() / 100.0;
        format!("{rounded} frames/s")
    }
}

/// Whether the rate is the one that was asked for.
pub fn same_rate(asked_fps_milli: u32, given: Interval) -> bool {
    let asked = u64::from(asked_fps_milli) * u64::from(given.numerator);
    let got = u64::from(given.denominator) * 1_000;
    asked.abs_diff(got) <= asked / RATE_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pixels: PixelFormat) -> PictureFormat {
        PictureFormat {
            pixels,
            width: 640,
            height: 480,
            fps_milli: 30_000,
        }
    }

    fn given(pixels: PixelFormat) -> Layout {
        let stride = pixels.row_bytes(640);
        Layout {
            fourcc: pixels.fourcc(),
            width: 640,
            height: 480,
            stride,
            size: (stride * 720).max(1_000),
            interlaced: false,
            full_range: false,
            planes: 1,
        }
    }

    #[test]
    fn what_was_asked_is_agreed_in_every_format() {
        for pixels in PixelFormat::ALL {
            let agreed = agree(&asked(pixels), &given(pixels)).unwrap();
            assert_eq!(agreed.stride, pixels.row_bytes(640), "{pixels}");
        }
    }

    #[test]
    fn rows_may_be_padded_and_an_open_stride_is_filled_in() {
        let mut layout = given(PixelFormat::Grey);
        layout.stride = 704;
        assert_eq!(agree(&asked(PixelFormat::Grey), &layout).unwrap().stride, 704);
        layout.stride = 0;
        assert_eq!(agree(&asked(PixelFormat::Grey), &layout).unwrap().stride, 640);
        let mut jpeg = given(PixelFormat::Mjpg);
        jpeg.stride = 640;
        assert_eq!(agree(&asked(PixelFormat::Mjpg), &jpeg).unwrap().stride, 0);
    }

    #[test]
    fn anything_else_is_refused_with_what_came() {
        let base = given(PixelFormat::Mjpg);
        let said = |layout: Layout| agree(&asked(PixelFormat::Mjpg), &layout).unwrap_err();
        let other = Layout {
            fourcc: *b"YUYV",
            ..base
        };
        assert_eq!(said(other), "YUYV 640 × 480");
        assert_eq!(
            said(Layout {
                width: 320,
                height: 180,
                ..base
            }),
            "MJPG 320 × 180"
        );
        assert!(
            said(Layout {
                interlaced: true,
                ..base
            })
            .contains("interlaced")
        );
        assert!(said(Layout { planes: 2, ..base }).contains("2 separate"));
        let grey = given(PixelFormat::Grey);
        let said = |layout: Layout| agree(&asked(PixelFormat::Grey), &layout).unwrap_err();
        assert!(said(Layout { stride: 639, ..grey }).contains("640 are needed"));
        assert!(
            said(Layout {
                size: 640 * 480 - 1,
                ..grey
            })
            .contains("307200 are needed")
        );
    }

    #[test]
    fn rates_are_fractions_and_compared_loosely() {
        assert_eq!(
            interval_of(30_000),
            Interval {
                numerator: 1,
                denominator: 30
            }
        );
        assert_eq!(
            interval_of(7_500),
            Interval {
                numerator: 2,
                denominator: 15
            }
        );
        assert_eq!(
            interval_of(29_970),
            Interval {
                numerator: 100,
                denominator: 2_997
            }
        );
        let ntsc = Interval {
            numerator: 1_001,
            denominator: 30_000,
        };
        assert!(same_rate(30_000, ntsc) && same_rate(30_000, interval_of(30_000)));
        assert!(!same_rate(30_000, interval_of(25_000)));
        assert!(!same_rate(
            30_000,
            Interval {
                numerator: u32::MAX,
                denominator: 1
            }
        ));
        assert_eq!(ntsc.micros(), Micros::new(33_366));
        assert_eq!(ntsc.words(), "29.97 frames/s");
    }

    #[test]
    fn a_fourcc_is_shown_as_it_is_written() {
        assert_eq!(fourcc_words(*b"Y10 "), "Y10");
        assert_eq!(fourcc_words([1, 2, 3, 0x80]), "0x80030201");
    }
}
