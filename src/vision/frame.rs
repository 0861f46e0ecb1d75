//! A picture as the camera delivered it, and the check that it is whole.

use crate::units::{CameraId, FrameId, Instant};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest side of a picture. Blobs carry `u16` coordinates, and a length read from a broken header
/// must not make the station reserve gigabytes.
pub const SIDE_MAX: u32 = 16_384;

/// Pixel formats the station reads, by their V4L2 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PixelFormat {
    Yuyv,
    Uyvy,
    Nv12,
    Grey,
    Y10,
    Y16,
    Rgb3,
    Bgr3,
    Mjpg,
    /// 8-bit Bayer, named by the first two rows: RGGB, BGGR, GRBG, GBRG.
    BayerRggb,
    BayerBggr,
    BayerGrbg,
    BayerGbrg,
}

impl PixelFormat {
    pub const ALL: [PixelFormat; 13] = [
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Nv12,
        PixelFormat::Grey,
        PixelFormat::Y10,
        PixelFormat::Y16,
        PixelFormat::Rgb3,
        PixelFormat::Bgr3,
        PixelFormat::Mjpg,
        PixelFormat::BayerRggb,
        PixelFormat::BayerBggr,
        PixelFormat::BayerGrbg,
        PixelFormat::BayerGbrg,
    ];

    /// The four characters V4L2 knows the format by (`V4L2_PIX_FMT_*` in `videodev2.h`).
    pub const fn fourcc(self) -> [u8; 4] {
        *match self {
            PixelFormat::Yuyv => b"YUYV",
            PixelFormat::Uyvy => b"UYVY",
            PixelFormat::Nv12 => b"NV12",
            PixelFormat::Grey => b"GREY",
            PixelFormat::Y10 => b"Y10 ",
            PixelFormat::Y16 => b"Y16 ",
            PixelFormat::Rgb3 => b"RGB3",
            PixelFormat::Bgr3 => b"BGR3",
            PixelFormat::Mjpg => b"MJPG",
            PixelFormat::BayerRggb => b"RGGB",
            PixelFormat::BayerBggr => b"BA81",
            PixelFormat::BayerGrbg => b"GRBG",
            PixelFormat::BayerGbrg => b"GBRG",
        }
    }

    /// As written in a configuration: the fourcc without trailing blanks, except that
    /// V4L2's `BA81` is called `BGGR` like its three brothers.
    pub const fn name(self) -> &'static str {
        match self {
            PixelFormat::Yuyv => "YUYV",
            PixelFormat::Uyvy => "UYVY",
            PixelFormat::Nv12 => "NV12",
            PixelFormat::Grey => "GREY",
            PixelFormat::Y10 => "Y10",
            PixelFormat::Y16 => "Y16",
            PixelFormat::Rgb3 => "RGB3",
            PixelFormat::Bgr3 => "BGR3",
            PixelFormat::Mjpg => "MJPG",
            PixelFormat::BayerRggb => "RGGB",
            PixelFormat::BayerBggr => "BGGR",
            PixelFormat::BayerGrbg => "GRBG",
            PixelFormat::BayerGbrg => "GBRG",
        }
    }

    /// From a name or a fourcc, trailing blanks ignored: `"Y10"`, `"Y10 "`, `"BGGR"`, `"BA81"`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim_end();
        Self::ALL.into_iter().find(|f| {
            let fourcc = f.fourcc();
            name == f.name() || name.as_bytes() == fourcc.trim_ascii_end()
        })
    }

    /// Pixels that share colour samples: width and height must be multiples of these.
    const fn group(self) -> (u32, u32) {
        match self {
            PixelFormat::Yuyv | PixelFormat::Uyvy => (2, 1),
            PixelFormat::Nv12 => (2, 2),
            _ if self.is_bayer() => (2, 2),
            _ => (1, 1),
        }
    }

    pub const fn is_bayer(self) -> bool {
        matches!(
            self,
            PixelFormat::BayerRggb | PixelFormat::BayerBggr | PixelFormat::BayerGrbg | PixelFormat::BayerGbrg
        )
    }

    /// Bytes of one row without padding (of the first plane); 0 for MJPG.
    pub const fn row_bytes(self, width: u32) -> u32 {
        match self {
            PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Y10 | PixelFormat::Y16 => width * 2,
            PixelFormat::Rgb3 | PixelFormat::Bgr3 => width * 3,
            PixelFormat::Mjpg => 0,
            _ => width,
        }
    }

    /// Bytes a whole picture needs at this stride; the last row may end without padding.
    pub const fn picture_bytes(self, width: u32, height: u32, stride: u32) -> usize {
        let rows = match self {
            PixelFormat::Mjpg => return 2,
            PixelFormat::Nv12 => height + height / 2,
            _ => height,
        };
        (rows as usize - 1) * stride as usize + self.row_bytes(width) as usize
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One picture with its stamps. `bytes` is reused from frame to frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub camera: CameraId,
    pub id: FrameId,
    /// The driver's counter.
    pub sequence: u32,
    /// Mid-exposure on CLOCK_MONOTONIC.
    pub mid_exposure: Instant,
    pub format: PixelFormat,
    pub width: u32,
    pub height: u32,
    /// Bytes from row to row (of the first plane); 0 for MJPG.
    pub stride: u32,
    pub bytes: Vec<u8>,
}

/// Why a frame cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the picture is {width} × {height}; each side must be 1 to {SIDE_MAX} pixels")]
    Size { width: u32, height: u32 },
    #[error("{format} needs sides that are multiples of {x} × {y}, the picture is {width} × {height}")]
    Odd {
        format: PixelFormat,
        x: u32,
        y: u32,
        width: u32,
        height: u32,
    },
    #[error("the stride is {stride} bytes, a row of {format} at width {width} needs {needed}")]
    Stride {
        format: PixelFormat,
        width: u32,
        stride: u32,
        needed: u32,
    },
    #[error("the picture is cut short: {got} bytes, {format} {width} × {height} needs {needed}")]
    Short {
        format: PixelFormat,
        width: u32,
        height: u32,
        got: usize,
        needed: usize,
    },
    #[error("the JPEG picture cannot be read: {0}")]
    Jpeg(String),
    #[error("the JPEG picture is {got_width} × {got_height}, the camera said {width} × {height}")]
    JpegSize {
        width: u32,
        height: u32,
        got_width: u32,
        got_height: u32,
    },
    #[error(
        "the rectangle {width} × {height} at ({x}, {y}) leaves the picture of {frame_width} × {frame_height}"
    )]
    Outside {
        x: u32,
        y: u32,
        width: u32,
        height: u32,
        frame_width: u32,
        frame_height: u32,
    },
    #[error("the recipe crops around a part, but no part was located")]
    NoPart,
}

impl Frame {
    /// A picture without padding, of no camera in particular and without stamps.
    pub fn new(format: PixelFormat, width: u32, height: u32, bytes: Vec<u8>) -> Frame {
        Frame {
            camera: CameraId(0),
            id: FrameId(0),
            sequence: 0,
            mid_exposure: Instant::ZERO,
            format,
            width,
            height,
            stride: format.row_bytes(width),
            bytes,
        }
    }

    /// Whether every byte that decoding will read is there. Cheap; a JPEG is looked into only when it is decoded.
    pub fn check(&self) -> Result<(), FrameError> {
        let &Frame {
            format,
            width,
            height,
            stride,
            ..
        } = self;
        let side = 1..=SIDE_MAX;
        if !side.contains(&width) || !side.contains(&height) {
            return Err(FrameError::Size { width, height });
        }
        let (x, y) = format.group();
        // The Bayer filter looks two pixels far and mirrors at the edges.
        let too_small = format.is_bayer() && (width < 4 || height < 4);
        if width % x != 0 || height % y != 0 || too_small {
            return Err(FrameError::Odd {
                format,
                x,
                y,
                width,
                height,
            });
        }
        let needed = format.row_bytes(width);
        if stride < needed {
            return Err(FrameError::Stride {
                format,
                width,
                stride,
                needed,
            });
        }
        let (got, needed) = (self.bytes.len(), format.picture_bytes(width, height, stride));
        if got < needed {
            return Err(FrameError::Short {
                format,
                width,
                height,
                got,
                needed,
            });
        }
        if format == PixelFormat::Mjpg && self.bytes[..2] != [0xff, 0xd8] {
            return Err(FrameError::Jpeg(
                "it does not begin with the start marker FF D8".into(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(format: PixelFormat, width: u32, height: u32) -> Frame {
        let bytes = format.picture_bytes(width.max(1), height.max(1), format.row_bytes(width));
        Frame::new(format, width, height, vec![0; bytes])
    }

    #[test]
    fn names_and_fourccs_lead_back_to_their_format() {
        for format in PixelFormat::ALL {
            assert_eq!(PixelFormat::from_name(format.name()), Some(format));
            let fourcc = format.fourcc();
            assert_eq!(
                PixelFormat::from_name(std::str::from_utf8(&fourcc).unwrap()),
                Some(format)
            );
        }
        assert_eq!(PixelFormat::from_name("YU12"), None);
        assert_eq!(PixelFormat::from_name(""), None);
    }

    #[test]
    fn one_byte_too_few_is_an_error_in_every_format() {
        for format in PixelFormat::ALL {
            let mut whole = frame(format, 8, 4);
            if format == PixelFormat::Mjpg {
                whole.bytes = vec![0xff, 0xd8];
            }
            assert_eq!(whole.check(), Ok(()), "{format}");
            whole.bytes.pop();
            assert!(matches!(whole.check(), Err(FrameError::Short { .. })), "{format}");
        }
    }

    #[test]
    fn the_last_row_needs_no_padding_and_a_short_stride_is_refused() {
        let mut padded = frame(PixelFormat::Rgb3, 5, 3);
        padded.stride = 32;
        padded.bytes = vec![0; 2 * 32 + 15];
        assert_eq!(padded.check(), Ok(()));
        padded.stride = 14;
        assert!(matches!(
            padded.check(),
            Err(FrameError::Stride { needed: 15, .. })
        ));
    }

    #[test]
    fn odd_empty_and_huge_pictures_are_refused() {
        for (format, w, h) in [
            (PixelFormat::Yuyv, 7, 4),
            (PixelFormat::Nv12, 8, 3),
            (PixelFormat::BayerRggb, 6, 5),
            (PixelFormat::BayerRggb, 2, 2),
        ] {
            assert!(
                matches!(frame(format, w, h).check(), Err(FrameError::Odd { .. })),
                "{format} {w}×{h}"
            );
        }
        assert!(matches!(
            frame(PixelFormat::Grey, 0, 4).check(),
            Err(FrameError::Size { .. })
        ));
        assert!(matches!(
            frame(PixelFormat::Grey, SIDE_MAX + 1, 1).check(),
            Err(FrameError::Size { .. })
        ));
    }
}
