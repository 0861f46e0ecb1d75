//! Antialiased type for any draw target.
//!
//! A draw target cannot be read back, so text is blended with a background that the caller names.
//! Sizes are in whole pixels per em; glyphs are rasterised once per size and kept.

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::Point;
use fontdue::{Font, FontSettings, Metrics};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weight {
    Regular,
    Bold,
}

/// B612, made for cockpit displays: legible from afar and in bad light. Licence beside the files.
static REGULAR: LazyLock<Font> = LazyLock::new(|| font(include_bytes!("fonts/B612-Regular.otf")));
static BOLD: LazyLock<Font> = LazyLock::new(|| font(include_bytes!("fonts/B612-Bold.otf")));

fn font(bytes: &'static [u8]) -> Font {
    Font::from_bytes(bytes, FontSettings::default())
        .expect("the fonts in the binary are whole; tests load them")
}

type Glyph = (Metrics, Vec<u8>);

thread_local! {
    static GLYPHS: RefCell<HashMap<(Weight, char, i32), Glyph>> = RefCell::default();
}

/// Glyphs kept per thread. One display uses some 300; the cache is emptied when sizes change a lot.
const GLYPHS_MAX: usize = 2_000;

fn with_glyph<R>(weight: Weight, letter: char, px: i32, use_it: impl FnOnce(&Glyph) -> R) -> R {
    let font = match weight {
        Weight::Regular => &*REGULAR,
        Weight::Bold => &*BOLD,
    };
    let letter = if font.has_glyph(letter) { letter } else { '?' };
    GLYPHS.with_borrow_mut(|glyphs| {
        if glyphs.len() >= GLYPHS_MAX {
            glyphs.clear();
        }
        use_it(
            glyphs
                .entry((weight, letter, px))
                .or_insert_with(|| font.rasterize(letter, px as f32)),
        )
    })
}

/// Advance in 1/64 pixel, so that a line is as wide as the sum of its letters on every machine.
fn advance(weight: Weight, letter: char, px: i32) -> i32 {
    with_glyph(weight, letter, px, |(metrics, _)| {
        (metrics.advance_width * 64.0).round() as i32
    })
}

/// Width of a line in pixels.
pub fn width(text: &str, weight: Weight, px: i32) -> i32 {
    (text.chars().map(|c| advance(weight, c, px)).sum::<i32>() + 63) / 64
}

/// Height of a capital letter: what the eye takes for the height of a line.
pub fn cap_height(weight: Weight, px: i32) -> i32 {
    with_glyph(weight, 'H', px, |(metrics, _)| metrics.height as i32)
}

/// The largest size from `px` down to `px_min` at which the line fits into `room`.
pub fn fit(text: &str, weight: Weight, room: i32, px: i32, px_min: i32) -> i32 {
    let mut size = px;
    while size > px_min && width(text, weight, size) > room {
        size -= 1.max(size / 16);
    }
    size.max(px_min)
}

/// The line, cut short with an ellipsis if it does not fit into `room`.
pub fn shorten(text: &str, weight: Weight, px: i32, room: i32) -> String {
    if width(text, weight, px) <= room {
        return text.to_owned();
    }
    let mut left = room * 64 - advance(weight, '…', px);
    let mut short: String = text
        .chars()
        .take_while(|&c| {
            left -= advance(weight, c, px);
            left >= 0
        })
        .collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

/// Broken into at most `lines_max` lines between words; what is too much ends in an ellipsis.
pub fn wrap(text: &str, weight: Weight, px: i32, room: i32, lines_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut words = text.split_whitespace().peekable();
    while lines.len() < lines_max {
        let Some(first) = words.next() else { break };
        let mut line = first.to_owned();
        if lines.len() + 1 == lines_max {
            words.by_ref().for_each(|word| line = format!("{line} {word}"));
        }
        while let Some(word) = words.peek() {
            let longer = format!("{line} {word}");
            if width(&longer, weight, px) > room {
                break;
            }
            line = longer;
            words.next();
        }
        lines.push(shorten(&line, weight, px, room));
    }
    lines
}

/// Draws a line; `at` is the left end of its baseline.
pub fn draw<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    text: &str,
    (weight, px): (Weight, i32),
    at: Point,
    (ink, paper): (Rgb888, Rgb888),
) -> Result<(), D::Error> {
    let mut pen = at.x * 64;
    for letter in text.chars() {
        with_glyph(weight, letter, px, |(metrics, coverage)| {
            let left = (pen + 32).div_euclid(64) + metrics.xmin;
            let top = at.y - metrics.ymin - metrics.height as i32;
            let pixels = coverage
                .iter()
                .enumerate()
                .filter(|(_, c)| **c > 0)
                .map(|(i, &c)| {
                    let (x, y) = ((i % metrics.width) as i32, (i / metrics.width) as i32);
                    Pixel(Point::new(left + x, top + y), blend(ink, paper, c))
                });
            target.draw_iter(pixels)
        })?;
        pen += advance(weight, letter, px);
    }
    Ok(())
}

/// `coverage` of 255 parts ink on paper.
fn blend(ink: Rgb888, paper: Rgb888, coverage: u8) -> Rgb888 {
    let mix = |a: u8, b: u8| {
        let (a, b, c) = (u32::from(a), u32::from(b), u32::from(coverage));
        ((a * c + b * (255 - c) + 127) / 255) as u8
    };
    Rgb888::new(
        mix(ink.r(), paper.r()),
        mix(ink.g(), paper.g()),
        mix(ink.b(), paper.b()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "photo-eye covered for longer than any part";

    #[test]
    fn a_shortened_line_fits_and_says_so() {
        for room in [40, 90, 200, 260] {
            let short = shorten(LONG, Weight::Bold, 18, room);
            assert!(width(&short, Weight::Bold, 18) <= room, "{short}");
            assert!(short.ends_with('…'), "{short}");
        }
        assert_eq!(shorten("ok", Weight::Bold, 18, 100), "ok");
    }

    #[test]
    fn wrapped_lines_fit_and_keep_every_word() {
        let lines = wrap(LONG, Weight::Regular, 16, 150, 9);
        assert_eq!(lines.join(" "), LONG);
        assert!(lines.len() > 1 && lines.iter().all(|l| width(l, Weight::Regular, 16) <= 150));
        let two = wrap(LONG, Weight::Regular, 16, 150, 2);
        assert_eq!(two.len(), 2);
        assert!(two[1].ends_with('…'));
    }

    #[test]
    fn the_size_that_fits_is_the_largest_tried() {
        assert_eq!(fit("1", Weight::Bold, 500, 80, 10), 80);
        let px = fit("123,456,789", Weight::Bold, 120, 80, 10);
        assert!(px < 80 && width("123,456,789", Weight::Bold, px) <= 120);
        assert_eq!(fit(LONG, Weight::Bold, 10, 80, 12), 12);
    }

    #[test]
    fn every_letter_the_display_uses_is_in_the_fonts() {
        for letter in "RUNNINGabcxyz0123456789,.%·…–:#/()≥≤²µ×".chars() {
            for font in [&*REGULAR, &*BOLD] {
                assert!(font.has_glyph(letter), "{letter}");
            }
        }
    }
}
