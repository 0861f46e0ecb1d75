//! What panels are made of: areas, lines of type, tiles and pictures.

use super::text::{self, Weight};
use crate::status::Thumbnail;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::{Point, Size};
use embedded_graphics::primitives::Rectangle;

const fn rgb(hex: u32) -> Rgb888 {
    Rgb888::new((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

// Sober and dark, so that the one coloured band, the state, carries across the hall. Ink on every paper
// it is used on has a contrast of at least 4.5 (WCAG AA); a test holds that.
pub const PAGE: Rgb888 = rgb(0x0e1317);
pub const PANEL: Rgb888 = rgb(0x1a2229);
pub const INK: Rgb888 = rgb(0xf3f6f8);
pub const MUTED: Rgb888 = rgb(0x9fadb8);
pub const GOOD: Rgb888 = rgb(0x3ecf7f);
pub const BAD: Rgb888 = rgb(0xff7468);
pub const CARE: Rgb888 = rgb(0xffb52e);
pub const GREEN: Rgb888 = rgb(0x0d7a3e);
pub const RED: Rgb888 = rgb(0xc3231f);
pub const AMBER: Rgb888 = rgb(0xffb52e);
pub const BLUE: Rgb888 = rgb(0x1f5f9e);
pub const DARK: Rgb888 = rgb(0x1a1300);

/// A part of the display, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub x: i32,
    pub y: i32,
    pub w: i32,
    pub h: i32,
}

impl Area {
    pub fn inset(self, by: i32) -> Area {
        self.inset_xy(by, by)
    }

    pub fn inset_xy(self, x: i32, y: i32) -> Area {
        Area {
            x: self.x + x,
            y: self.y + y,
            w: (self.w - 2 * x).max(0),
            h: (self.h - 2 * y).max(0),
        }
    }

    /// The upper `height`, and what is left below it after `gap`.
    pub fn split_top(self, height: i32, gap: i32) -> (Area, Area) {
        let height = height.min(self.h).max(0);
        let rest = (self.h - height - gap).max(0);
        (
            Area { h: height, ..self },
            Area {
                y: self.y + height + gap,
                h: rest,
                ..self
            },
        )
    }

    /// The left `width`, and what is left beside it after `gap`.
    pub fn split_left(self, width: i32, gap: i32) -> (Area, Area) {
        let width = width.min(self.w).max(0);
        let rest = (self.w - width - gap).max(0);
        (
            Area { w: width, ..self },
            Area {
                x: self.x + width + gap,
                w: rest,
                ..self
            },
        )
    }

    /// `count` columns of the same width with `gap` between them.
    pub fn columns(self, count: i32, gap: i32) -> impl Iterator<Item = Area> {
        let edge = move |i: i32| (self.w + gap) * i / count;
        (0..count).map(move |i| Area {
            x: self.x + edge(i),
            w: edge(i + 1) - edge(i) - gap,
            ..self
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Centre,
    Right,
}

/// How a line is set: size in pixels per em, the smallest it may shrink to, weight, colours.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub weight: Weight,
    pub px: i32,
    pub px_min: i32,
    pub ink: Rgb888,
    pub paper: Rgb888,
    pub align: Align,
}

impl Style {
    pub fn new(weight: Weight, px: i32, ink: Rgb888, paper: Rgb888) -> Style {
        Style {
            weight,
            px,
            px_min: (px * 2 / 3).clamp(10, 14).min(px),
            ink,
            paper,
            align: Align::Left,
        }
    }

    pub fn align(self, align: Align) -> Style {
        Style { align, ..self }
    }
}

pub fn fill<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    color: Rgb888,
) -> Result<(), D::Error> {
    let size = Size::new(area.w.max(0) as u32, area.h.max(0) as u32);
    target.fill_solid(&Rectangle::new(Point::new(area.x, area.y), size), color)
}

/// A line of type in the middle of the area's height, shrunk and shortened until it fits.
pub fn line<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    words: &str,
    style: Style,
) -> Result<(), D::Error> {
    if area.w <= 0 || area.h <= 0 {
        return Ok(());
    }
    let weight = style.weight;
    let px = text::fit(words, weight, area.w, style.px, style.px_min);
    let words = text::shorten(words, weight, px, area.w);
    let left_over = area.w - text::width(&words, weight, px);
    let x = match style.align {
        Align::Left => area.x,
        Align::Centre => area.x + left_over / 2,
        Align::Right => area.x + left_over,
    };
    let baseline = area.y + (area.h + text::cap_height(weight, px)) / 2;
    text::draw(
        target,
        &words,
        (weight, px),
        Point::new(x, baseline),
        (style.ink, style.paper),
    )
}

/// Lines of type from the top of the area down, as many as it holds. Gives back the height used.
pub fn paragraph<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    words: &str,
    style: Style,
) -> Result<i32, D::Error> {
    let pitch = style.px * 5 / 4;
    let lines = text::wrap(
        words,
        style.weight,
        style.px,
        area.w,
        (area.h / pitch).max(0) as usize,
    );
    for (i, words) in lines.iter().enumerate() {
        let row = Area {
            y: area.y + i as i32 * pitch,
            h: pitch,
            ..area
        };
        line(
            target,
            row,
            words,
            Style {
                px_min: style.px,
                ..style
            },
        )?;
    }
    Ok(lines.len() as i32 * pitch)
}

/// A label, a value and its colour.
pub type Figure = (&'static str, String, Rgb888);

/// A row of tiles, each with a label above a value; all labels are set in one size, and all values.
pub fn tiles<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    gap: i32,
    figures: &[Figure],
) -> Result<(), D::Error> {
    let parts: Vec<Area> = area.columns(figures.len() as i32, gap).collect();
    let inner = |a: &Area| a.inset_xy((a.w / 16).clamp(4, 16), (a.h / 10).clamp(3, 12));
    let Some(first) = parts.first().map(inner) else {
        return Ok(());
    };
    // Labels stay readable, values take the rest.
    let label_px = (first.h * 28 / 100).clamp(11, 26);
    let label_height = label_px * 6 / 5;
    let value_px = ((first.h - label_height) * 19 / 20).max(12);
    let smallest = |weight: Weight, px: i32, px_min: i32, words: fn(&Figure) -> &str| {
        let sizes = parts
            .iter()
            .zip(figures)
            .map(|(a, f)| text::fit(words(f), weight, inner(a).w, px, px_min));
        sizes.min().unwrap_or(px)
    };
    let label_px = smallest(Weight::Regular, label_px, 9, |f| f.0);
    let value_px = smallest(Weight::Bold, value_px, 11, |f| &f.1);
    for (part, (label, value, ink)) in parts.iter().zip(figures) {
        fill(target, *part, PANEL)?;
        let (above, below) = inner(part).split_top(label_height, 0);
        line(
            target,
            above,
            label,
            Style::new(Weight::Regular, label_px, MUTED, PANEL),
        )?;
        line(
            target,
            below,
            value,
            Style::new(Weight::Bold, value_px, *ink, PANEL),
        )?;
    }
    Ok(())
}

/// A picture as large as the area allows, in its middle, at whole-number steps of nearest samples.
pub fn picture<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    picture: &Thumbnail,
) -> Result<(), D::Error> {
    let (w, h) = (picture.width as i32, picture.height as i32);
    let whole = picture.rgb.len() == picture.width as usize * picture.height as usize * 3;
    if w == 0 || h == 0 || !whole || area.w <= 0 || area.h <= 0 {
        return Ok(());
    }
    // The longer side, in relation, decides.
    let (tw, th) = if w * area.h >= h * area.w {
        (area.w, (h * area.w / w).max(1))
    } else {
        ((w * area.h / h).max(1), area.h)
    };
    let corner = Point::new(area.x + (area.w - tw) / 2, area.y + (area.h - th) / 2);
    let pixels = (0..th)
        .flat_map(|y| (0..tw).map(move |x| (x, y)))
        .map(|(x, y)| sample(picture, x, y, tw, th));
    target.fill_contiguous(&Rectangle::new(corner, Size::new(tw as u32, th as u32)), pixels)
}

/// Bilinear between the four nearest pixels, in 1/256.
fn sample(picture: &Thumbnail, x: i32, y: i32, tw: i32, th: i32) -> Rgb888 {
    let place = |i: i32, n: i32, side: u32| {
        let at = ((2 * i + 1) * side as i32 * 128 / n - 128).clamp(0, (side as i32 - 1) * 256);
        let low = at / 256;
        (low as usize, (low as usize + 1).min(side as usize - 1), at % 256)
    };
    let (x0, x1, fx) = place(x, tw, picture.width);
    let (y0, y1, fy) = place(y, th, picture.height);
    let at = |x: usize, y: usize, c: usize| i32::from(picture.rgb[(y * picture.width as usize + x) * 3 + c]);
    let channel = |c: usize| {
        let above = at(x0, y0, c) * (256 - fx) + at(x1, y0, c) * fx;
        let below = at(x0, y1, c) * (256 - fx) + at(x1, y1, c) * fx;
        ((above * (256 - fy) + below * fy + 32_768) >> 16) as u8
    };
    Rgb888::new(channel(0), channel(1), channel(2))
}
