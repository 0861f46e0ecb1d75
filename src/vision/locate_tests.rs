use super::*;
use crate::vision::frame::PixelFormat;

const W: u32 = 640;
const H: u32 = 480;

/// 20 mm parts at 0.2 mm a pixel: 100 px, 8 mm gaps: 40 px.
fn locator(contrast: Contrast, threshold: Option<u8>) -> Locator {
    let limits = Limits {
        along_x: true,
        along_min: 50.0,
        along_max: 150.0,
        speck_px: 39.0,
        join_px: 20.0,
        step: 2,
    };
    Locator::with_limits(config::Locate { contrast, threshold }, limits)
}

fn belt() -> Frame {
    // A belt that is not quite even: a gradient and deterministic grain.
    let mut state = 1u32;
    let bytes = (0..W * H).map(|i| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (60 + i % W / 64 + (state >> 29)) as u8
    });
    Frame::new(PixelFormat::Grey, W, H, bytes.collect())
}

fn disc(frame: &mut Frame, cx: i32, cy: i32, radius: i32, value: u8) {
    for y in 0..H as i32 {
        for x in 0..W as i32 {
            if (x - cx).pow(2) + (y - cy).pow(2) <= radius.pow(2) {
                frame.bytes[(y * W as i32 + x) as usize] = value;
            }
        }
    }
}

fn found(locator: &mut Locator, frame: &Frame) -> ArrayVec<Blob, BLOBS_MAX> {
    let mut blobs = ArrayVec::new();
    locator.locate(frame, &mut blobs).unwrap();
    blobs
}

#[test]
fn a_part_is_found_where_it_lies() {
    let mut frame = belt();
    disc(&mut frame, 301, 222, 50, 200);
    for threshold in [None, Some(120)] {
        let blobs = found(&mut locator(Contrast::PartBrighter, threshold), &frame);
        assert_eq!(blobs.len(), 1);
        let b = blobs[0];
        assert!((249..=253).contains(&b.x) && (170..=174).contains(&b.y), "{b:?}");
        assert!(
            (98..=104).contains(&b.width) && (98..=104).contains(&b.height),
            "{b:?}"
        );
        assert!((7_600..8_100).contains(&b.area_px), "{b:?}");
        assert!(!b.cut);
    }
}

#[test]
fn dark_parts_are_found_on_a_bright_belt_and_only_if_asked_for() {
    let mut frame = belt();
    frame.bytes.iter_mut().for_each(|v| *v += 120);
    disc(&mut frame, 320, 240, 50, 30);
    assert_eq!(found(&mut locator(Contrast::PartDarker, None), &frame).len(), 1);
    assert!(
        found(&mut locator(Contrast::PartBrighter, None), &frame).is_empty(),
        "the belt is too long for a part"
    );
}

#[test]
fn an_empty_belt_shows_nothing() {
    assert!(found(&mut locator(Contrast::PartBrighter, None), &belt()).is_empty());
    assert!(found(&mut locator(Contrast::PartDarker, None), &belt()).is_empty());
    let mut black = belt();
    black.bytes.fill(0);
    assert!(found(&mut locator(Contrast::PartBrighter, None), &black).is_empty());
}

#[test]
fn a_part_at_the_edge_is_marked_as_cut_even_if_little_of_it_shows() {
    let mut frame = belt();
    disc(&mut frame, -10, 100, 50, 200);
    disc(&mut frame, 320, 475, 50, 200);
    let blobs = found(&mut locator(Contrast::PartBrighter, None), &frame);
    assert_eq!(blobs.iter().map(|b| b.cut).collect::<Vec<_>>(), [true, true]);
    assert_eq!(blobs[1].x, 0);
    assert_eq!(u32::from(blobs[0].y + blobs[0].height), H);
}

#[test]
fn a_part_cut_in_two_by_a_scratch_is_one_part_and_two_parts_are_two() {
    let mut frame = belt();
    disc(&mut frame, 150, 240, 50, 200);
    for y in 0..H as usize {
        frame.bytes[y * W as usize..][145..151].fill(50);
    }
    disc(&mut frame, 300, 240, 50, 200);
    let blobs = found(&mut locator(Contrast::PartBrighter, None), &frame);
    assert_eq!(blobs.len(), 2, "{blobs:?}");
    assert!(blobs.iter().all(|b| (98..=104).contains(&b.width)), "{blobs:?}");
}

#[test]
fn dust_and_touching_parts_are_no_parts() {
    let mut frame = belt();
    for i in 0..20 {
        disc(&mut frame, 40 + 28 * i, 60, 3, 220);
    }
    disc(&mut frame, 500, 200, 10, 220);
    disc(&mut frame, 200, 300, 50, 200);
    disc(&mut frame, 298, 300, 50, 200);
    assert!(found(&mut locator(Contrast::PartBrighter, None), &frame).is_empty());
}

#[test]
fn of_many_the_largest_are_kept_in_order() {
    let mut frame = belt();
    for i in 0..10 {
        disc(&mut frame, 60 + 125 * (i % 5), 110 + 250 * (i / 5), 30 + i, 200);
    }
    let blobs = found(&mut locator(Contrast::PartBrighter, None), &frame);
    assert_eq!(blobs.len(), BLOBS_MAX);
    assert!(blobs.windows(2).all(|w| w[0].area_px >= w[1].area_px));
    assert!(blobs[0].area_px > 4_500 && blobs[7].area_px > 3_000, "{blobs:?}");
}

#[test]
fn pieces_are_what_a_flood_fill_finds() {
    let mut state = 99u32;
    for columns in [1u32, 2, 7, 31] {
        for density in [10, 40, 60, 90] {
            let cells: Vec<u8> = (0..columns * 23)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    u8::from((state >> 24) % 100 < density)
                })
                .collect();
            let (mut runs, mut pieces) = (Vec::new(), Vec::new());
            collect_runs(&cells, columns, |v| v == 1, &mut runs);
            assert!(runs.len() <= columns.div_ceil(2) as usize * 23);
            collect_pieces(&mut runs, &mut pieces);
            let mut got: Vec<_> = pieces.iter().map(|p| (p.x0, p.y0, p.x1, p.y1, p.cells)).collect();
            let mut expected = flood_fill(cells, columns as i32);
            got.sort_unstable();
            expected.sort_unstable();
            assert_eq!(got, expected);
        }
    }
}

fn flood_fill(mut cells: Vec<u8>, columns: i32) -> Vec<(u32, u32, u32, u32, u32)> {
    let rows = cells.len() as i32 / columns;
    let mut pieces = Vec::new();
    for start in 0..cells.len() as i32 {
        let mut open = vec![(start % columns, start / columns)];
        let (mut x0, mut y0, mut x1, mut y1, mut count) = (i32::MAX, i32::MAX, 0, 0, 0);
        while let Some((x, y)) = open.pop() {
            if x < 0 || y < 0 || x >= columns || y >= rows || cells[(y * columns + x) as usize] == 0 {
                continue;
            }
            cells[(y * columns + x) as usize] = 0;
            (x0, y0, x1, y1, count) = (x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1), count + 1);
            open.extend((-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (x + dx, y + dy))));
        }
        if count > 0 {
            pieces.push((x0 as u32, y0 as u32, x1 as u32, y1 as u32, count));
        }
    }
    pieces
}

#[test]
fn every_format_and_size_is_looked_at_without_a_panic() {
    for format in PixelFormat::ALL {
        for (width, height) in [(4, 4), (6, 10), (32, 18), (130, 4), (4, 130)] {
            let bytes = vec![100; format.picture_bytes(width, height, format.row_bytes(width))];
            let frame = Frame::new(format, width, height, bytes);
            let mut blobs = ArrayVec::new();
            let done = locator(Contrast::PartBrighter, None).locate(&frame, &mut blobs);
            assert_eq!(
                done.is_ok(),
                format != PixelFormat::Mjpg,
                "{format} {width}×{height}"
            );
        }
    }
}
