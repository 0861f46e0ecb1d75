//! What people at the line see, drawn from a snapshot of the status.
//!
//! Duties: say from two metres whether the station runs, how much it passed and rejected, what it
//! rejected last and why, how much time is left before a reject, and, when something is wrong, what and
//! what to do about it. Any size from 240 × 240 to 1280 × 800; nothing is ever drawn over something
//! else: lines that do not fit shrink, then end in an ellipsis.
//!
//! Panels too small for that have pages, turned by a button, with one matter each in type that can be read
//! at arm's length.
//!
//! Nothing here reads a clock or a device: the same status gives the same picture.
//!
//! | file | what |
//! |---|---|
//! | `panels` | which panel goes where, for wide and for narrow displays |
//! | `page` | tiles, lines and pictures that the panels are made of |
//! | `text` | antialiased type |
//! | [`pages`] | which page a small panel shows |
//! | `small` | the pages of small coloured panels |
//! | `mono` | the pages of 128 × 64 dots, light or dark |

mod mono;
mod page;
pub mod pages;
mod panels;
mod small;
mod text;

use crate::status::Status;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::{DrawTarget, DrawTargetExt};
use embedded_graphics::geometry::{Dimensions, OriginDimensions, Size};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::primitives::Rectangle;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use pages::View;
use std::convert::Infallible;

/// Draws the status over the whole target.
pub fn draw<D: DrawTarget<Color = Rgb888>>(status: &Status, target: &mut D) -> Result<(), D::Error> {
    panels::draw(status, target)
}

/// Draws a page of a small coloured panel, from 240 × 240 to 320 × 240 or upright.
pub fn draw_small<D: DrawTarget<Color = Rgb888>>(
    status: &Status,
    view: View,
    target: &mut D,
) -> Result<(), D::Error> {
    small::draw(status, view, target)
}

/// Draws a page of a panel with 128 × 64 dots, in white on black and nothing between.
pub fn draw_mono<D: DrawTarget<Color = Rgb888>>(
    status: &Status,
    view: View,
    target: &mut D,
) -> Result<(), D::Error> {
    mono::draw(status, view, &mut target.color_converted())
}

/// The status as a PNG file.
pub fn png(status: &Status, width: u32, height: u32) -> Vec<u8> {
    let mut canvas = Canvas::new(width, height);
    let Ok(()) = draw(status, &mut canvas);
    let mut file = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Adaptive);
    // Fails only when the buffer does not match its size, or when writing to memory does.
    encoder
        .write_image(&canvas.rgb, width, height, ExtendedColorType::Rgb8)
        .expect("the canvas has width × height pixels");
    file
}

/// A picture in memory to draw on: RGB, 3 bytes a pixel, rows without padding.
#[derive(Clone, Debug)]
pub struct Canvas {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
}

impl Canvas {
    pub fn new(width: u32, height: u32) -> Self {
        Canvas {
            width,
            height,
            rgb: vec![0; width as usize * height as usize * 3],
        }
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(at, color) in pixels {
            let inside = |v: i32, side: u32| u32::try_from(v).ok().filter(|v| *v < side);
            if let (Some(x), Some(y)) = (inside(at.x, self.width), inside(at.y, self.height)) {
                let place = (y as usize * self.width as usize + x as usize) * 3;
                self.rgb[place..place + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, color: Rgb888) -> Result<(), Infallible> {
        let area = area.intersection(&self.bounding_box());
        let (x, y) = (area.top_left.x as usize, area.top_left.y as usize);
        for row in y..y + area.size.height as usize {
            let start = (row * self.width as usize + x) * 3;
            let line = &mut self.rgb[start..start + area.size.width as usize * 3];
            line.as_chunks_mut::<3>()
                .0
                .fill([color.r(), color.g(), color.b()]);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
