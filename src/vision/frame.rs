//! A picture as the camera delivered it.

use crate::units::{CameraId, FrameId, Instant};
use serde::{Deserialize, Serialize};

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
