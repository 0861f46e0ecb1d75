//! The picture for people: what the model saw, the defect outlined, the verdict in words.

use super::pictures::{Picture, Square};
use super::system;
use crate::status::Thumbnail;
use embedded_graphics::Pixel;
use embedded_graphics::mono_font::iso_8859_1::FONT_9X15;
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::text::{Baseline, Text};

/// Model inputs are small; twice the size is pleasant to look at, and halves of pixels stay crisp.
const ZOOM: u32 = 2;
/// Thickness of the outline in pixels of the zoomed picture.
const OUTLINE: i32 = 2;
const FONT: MonoFont<'static> = FONT_9X15;
const LINE: u32 = 18;
const BORDER: u32 = 6;
/// One colour per mask class, far from each other and from most products.
const CLASSES: [[u8; 3]; 4] = [[255, 40, 120], [255, 210, 0], [0, 220, 255], [140, 255, 60]];
const BAND_REJECT: Rgb888 = Rgb888::new(150, 20, 30);
const BAND_PASS: Rgb888 = Rgb888::new(15, 95, 50);

/// Draws a part; `None` when no model has looked at it, so there is nothing to show.
pub fn annotate(picture: &Picture) -> Option<Thumbnail> {
    let square = picture
        .segment
        .as_ref()
        .or(picture.classify.as_ref())
        .filter(|square| is_whole(square))?;
    let side = square.side * ZOOM;
    let words = lines(picture, side);
    let height = side + 2 * BORDER + LINE * words.len() as u32;
    let mut canvas = Canvas {
        width: side,
        height,
        rgb: vec![0; (side * height * 3) as usize],
    };
    enlarge(square, &mut canvas.rgb);
    let masked = picture.segment.is_some() && picture.mask.len() == (square.side * square.side) as usize;
    if masked {
        outline(&picture.mask, square.side as i32, &mut canvas.rgb);
    }
    write_words(
        &mut canvas,
        side,
        &words,
        if picture.rejected { BAND_REJECT } else { BAND_PASS },
    );
    Some(Thumbnail {
        width: side,
        height,
        rgb: canvas.rgb,
    })
}

/// The picture alone: a display has the words beside it, in a size to read from afar.
pub fn without_words(mut drawn: Thumbnail) -> Thumbnail {
    drawn.height = drawn.width;
    drawn.rgb.truncate((drawn.width * drawn.height * 3) as usize);
    drawn
}

fn is_whole(square: &Square) -> bool {
    square.side > 0 && square.rgb.len() == (square.side * square.side * 3) as usize
}

/// Every pixel becomes a block of `ZOOM` × `ZOOM`.
fn enlarge(square: &Square, to: &mut [u8]) {
    let (side, zoom) = (square.side as usize, ZOOM as usize);
    for (y, row) in to.chunks_exact_mut(side * zoom * 3).take(side * zoom).enumerate() {
        let from = &square.rgb[y / zoom * side * 3..][..side * 3];
        for (pixel, block) in from.chunks_exact(3).zip(row.chunks_exact_mut(3 * zoom)) {
            block.chunks_exact_mut(3).for_each(|to| to.copy_from_slice(pixel));
        }
    }
}

/// Draws around each defect and never on it: what was judged stays visible.
fn outline(mask: &[u8], side: i32, to: &mut [u8]) {
    let zoom = ZOOM as i32;
    let wide = side * zoom;
    let class = |x: i32, y: i32| {
        let inside = (0..wide).contains(&x) && (0..wide).contains(&y);
        if inside {
            mask[(y / zoom * side + x / zoom) as usize]
        } else {
            0
        }
    };
    for y in 0..wide {
        for x in 0..wide {
            if class(x, y) != 0 {
                continue;
            }
            let near = (-OUTLINE..=OUTLINE)
                .flat_map(|dy| (-OUTLINE..=OUTLINE).map(move |dx| (dx, dy)))
                .find_map(|(dx, dy)| Some(class(x + dx, y + dy)).filter(|class| *class != 0));
            if let Some(near) = near {
                let colour = CLASSES[usize::from(near - 1) % CLASSES.len()];
                to[((y * wide + x) * 3) as usize..][..3].copy_from_slice(&colour);
            }
        }
    }
}

fn lines(picture: &Picture, width: u32) -> Vec<String> {
    let verdict = if picture.rejected { "REJECT" } else { "PASS" };
    let per_line = ((width.saturating_sub(2 * BORDER)) / FONT.character_size.width).max(8) as usize;
    let mut all = Vec::new();
    for text in [
        format!("{verdict}  part {}", picture.part),
        picture.words.clone(),
        format!("{}  {}", picture.recipe, system::date_time(system::wall_ms())),
    ] {
        wrap(&text, per_line, &mut all);
    }
    all
}

/// Breaks text at spaces, and words that are longer than a line anywhere.
fn wrap(text: &str, per_line: usize, into: &mut Vec<String>) {
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if !line.is_empty() && line.chars().count() + 1 + word.len() > per_line {
            into.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        while word.len() > per_line {
            into.push(word.drain(..per_line).collect());
        }
        line.extend(word);
    }
    if !line.trim().is_empty() {
        into.push(line);
    }
}

fn write_words(canvas: &mut Canvas, top: u32, words: &[String], band: Rgb888) {
    let from = (top * canvas.width * 3) as usize;
    let colour = [band.r(), band.g(), band.b()];
    canvas.rgb[from..]
        .chunks_exact_mut(3)
        .for_each(|pixel| pixel.copy_from_slice(&colour));
    let style = MonoTextStyle::new(&FONT, Rgb888::WHITE);
    for (index, line) in words.iter().enumerate() {
        let at = Point::new(BORDER as i32, (top + BORDER + index as u32 * LINE) as i32);
        // A canvas in memory cannot fail.
        let Ok(_) = Text::with_baseline(line, at, style, Baseline::Top).draw(canvas);
    }
}

/// RGB in memory as something to draw on; what lies outside is cut off.
struct Canvas {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        let bounds = self.bounding_box();
        for Pixel(at, colour) in pixels.into_iter().filter(|Pixel(at, _)| bounds.contains(*at)) {
            let index = (at.y as usize * self.width as usize + at.x as usize) * 3;
            self.rgb[index..index + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PartId;

    fn part(side: u32) -> Picture {
        Picture {
            part: PartId(7),
            rejected: true,
            words: "scratch 0.93, limit 0.60".into(),
            recipe: "cap".into(),
            segment: Some(Square {
                side,
                rgb: vec![100; (side * side * 3) as usize],
            }),
            mask: vec![0; (side * side) as usize],
            ..Picture::default()
        }
    }

    fn pixel(picture: &Thumbnail, x: u32, y: u32) -> [u8; 3] {
        let at = ((y * picture.width + x) * 3) as usize;
        picture.rgb[at..at + 3].try_into().unwrap()
    }

    #[test]
    fn the_outline_lies_around_the_defect_and_not_on_it() {
        let mut picture = part(64);
        picture.mask[20 * 64 + 30] = 2;
        let drawn = annotate(&picture).unwrap();
        assert_eq!(
            (drawn.width, drawn.rgb.len()),
            (128, (drawn.width * drawn.height * 3) as usize)
        );
        assert_eq!(pixel(&drawn, 60, 40), [100; 3], "the defect itself");
        assert_eq!(pixel(&drawn, 61, 41), [100; 3]);
        for (x, y) in [(59, 40), (58, 39), (62, 40), (60, 42), (63, 43)] {
            assert_eq!(pixel(&drawn, x, y), CLASSES[1], "{x},{y}");
        }
        assert_eq!(pixel(&drawn, 57, 40), [100; 3]);
        assert_eq!(pixel(&drawn, 64, 40), [100; 3]);
    }

    #[test]
    fn words_stand_below_the_picture_and_long_ones_are_wrapped() {
        let mut picture = part(64);
        let short = annotate(&picture).unwrap();
        assert!(
            short.rgb[128 * 128 * 3..]
                .chunks_exact(3)
                .any(|pixel| pixel == [255; 3]),
            "white letters"
        );
        let bare = without_words(short.clone());
        assert_eq!(
            (bare.width, bare.height, bare.rgb.len()),
            (128, 128, 128 * 128 * 3)
        );
        assert_eq!(bare.rgb[..], short.rgb[..bare.rgb.len()]);
        picture.words = "contamination.area_mm2 123456.789, limit 0.8; ".repeat(3);
        let long = annotate(&picture).unwrap();
        assert!(long.height > short.height);
        let mut lines = Vec::new();
        wrap("a bb averyverylongword c", 5, &mut lines);
        assert!(lines.iter().all(|line| line.chars().count() <= 5), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), "abbaveryverylongwordc");
    }

    #[test]
    fn a_part_without_a_picture_and_a_mask_of_another_size_are_no_harm() {
        assert_eq!(annotate(&Picture::default()), None);
        let mut picture = part(64);
        picture.mask = vec![1; 10];
        assert!(annotate(&picture).is_some());
        picture.segment = Some(Square {
            side: 64,
            rgb: vec![0; 5],
        });
        assert_eq!(annotate(&picture), None);
    }
}
