//! Pictures of a labelled folder, as frames.

use crate::vision::frame::{Frame, PixelFormat};
use anyhow::{Context, Result, bail, ensure};
use image::ImageFormat;
use std::io::Cursor;
use std::path::Path;

/// Larger files are no pictures of a camera.
const BYTES_MAX: u64 = 64 << 20;

/// A JPEG goes to the station undecoded, as from a camera that sends MJPG; a PNG as RGB.
pub fn read(path: &Path) -> Result<Frame> {
    let (bytes, kind) = read_file(path)?;
    let (format, width, height, bytes) = if kind == ImageFormat::Jpeg {
        let reader = image::ImageReader::with_format(Cursor::new(&bytes), kind);
        let (width, height) = reader.into_dimensions().context("the JPEG picture is broken")?;
        (PixelFormat::Mjpg, width, height, bytes)
    } else {
        let rgb = image::load_from_memory_with_format(&bytes, kind)
            .context("the PNG picture is broken")?
            .into_rgb8();
        (PixelFormat::Rgb3, rgb.width(), rgb.height(), rgb.into_raw())
    };
    let frame = Frame::new(format, width, height, bytes);
    frame.check()?;
    Ok(frame)
}

/// Where a true defect is: grey above `above`. Has the size of the picture it belongs to.
pub fn read_mask(path: &Path, frame: &Frame, above: u8) -> Result<Vec<bool>> {
    let read = || -> Result<Vec<bool>> {
        let (bytes, kind) = read_file(path)?;
        let grey = image::load_from_memory_with_format(&bytes, kind)?.into_luma8();
        let (width, height) = (frame.width, frame.height);
        ensure!(
            grey.dimensions() == (width, height),
            "it is {} × {}, its picture {width} × {height}",
            grey.width(),
            grey.height()
        );
        Ok(grey.into_raw().into_iter().map(|v| v > above).collect())
    };
    read().with_context(|| format!("mask {}", path.display()))
}

fn read_file(path: &Path) -> Result<(Vec<u8>, ImageFormat)> {
    let length = std::fs::metadata(path)?.len();
    ensure!(
        length <= BYTES_MAX,
        "the file has {} MB, too many for a picture",
        length >> 20
    );
    let bytes = std::fs::read(path)?;
    let kind = match &bytes[..] {
        [] => bail!("the file is empty"),
        [0xff, 0xd8, ..] => ImageFormat::Jpeg,
        [0x89, b'P', b'N', b'G', ..] => ImageFormat::Png,
        _ => bail!("the file is neither JPEG nor PNG"),
    };
    Ok((bytes, kind))
}
