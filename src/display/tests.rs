use super::*;
use crate::station::event::{AlarmKind, Counts, NoResult, Reason, Verdict};
use crate::status::{AlarmLine, LastPart, LastReject, State, Thumbnail, TimingMargin};
use crate::units::{Instant, Micros, PartId};
use std::path::PathBuf;
use std::sync::Arc;

/// A red cap with a white scratch, and a frame drawn around the scratch.
fn thumbnail(side: i32) -> Thumbnail {
    let color = |x: i32, y: i32| {
        let (dx, dy) = (x * 200 / side - 100, y * 200 / side - 100);
        let from_middle = dx * dx + dy * dy;
        let on_frame = (dx.abs().max(dy.abs()) - 62).abs() < 3;
        match from_middle {
            _ if on_frame => [255, 216, 0],
            0..3_000 if (dx - dy).abs() < 8 => [240, 226, 214],
            0..6_400 => [198, 44, 40],
            6_400..8_300 => [150, 30, 28],
            _ => [58, 63, 68],
        }
    };
    let rgb = (0..side)
        .flat_map(|y| (0..side).flat_map(move |x| color(x, y)))
        .collect();
    Thumbnail {
        width: side as u32,
        height: side as u32,
        rgb,
    }
}

pub fn running() -> Status {
    let counts = Counts {
        seen: 48_215,
        passed: 47_602,
        confirmed: 598,
        unconfirmed: 2,
        collateral: 4,
        in_flight: 9,
        ..Counts::default()
    };
    let reject = LastReject {
        part: PartId(48_207),
        reason: "scratch 0.93, limit 0.60".into(),
        picture: Some(Arc::new(thumbnail(112))),
        at: Instant::from_micros(8_988_000_000),
    };
    Status {
        station: "L3-REJ-01".into(),
        recipe: "cap-28mm".into(),
        state: State::Running,
        permit: true,
        counts,
        unjudged: 0,
        parts_per_min: 598.0,
        reject_rate: 0.0125,
        belt_mm_s: 400.0,
        last: Some(LastPart {
            part: PartId(48_215),
            verdict: Verdict::Pass,
            words: "good 0.99".into(),
            fate: None,
        }),
        last_reject: Some(reject),
        margin: Some(TimingMargin {
            last: Micros::from_millis(143),
            smallest: Micros::from_millis(86),
        }),
        outputs: None,
        alarms: Vec::new(),
        passed_verified: false,
        uptime: Micros::from_secs(9_000),
        at: Instant::from_micros(9_000_000_000),
    }
}

fn alarm(text: &str, advice: &str, present: bool) -> AlarmLine {
    let (text, advice, since) = (
        text.to_owned(),
        advice.to_owned(),
        Instant::from_micros(8_990_000_000),
    );
    AlarmLine {
        kind: AlarmKind::RejectNotConfirmed,
        text,
        advice,
        present,
        stops: true,
        since,
    }
}

pub fn stopped() -> Status {
    let advice =
        "The chute eye did not see part 48207. Find the part, check air and valve, then acknowledge.";
    let verdict = Verdict::Reject(Reason {
        rule: 0,
        measured: 0.93,
    });
    let last = LastPart {
        part: PartId(48_216),
        verdict,
        words: "scratch 0.93, limit 0.60".into(),
        fate: None,
    };
    Status {
        state: State::Stopped,
        permit: false,
        alarms: vec![
            alarm("Reject not confirmed", advice, true),
            alarm("Bin full", "Empty the bin.", true),
        ],
        counts: Counts {
            escaped: 1,
            seen: 48_216,
            ..running().counts
        },
        last: Some(last),
        passed_verified: true,
        ..running()
    }
}

/// Nothing has happened yet.
pub fn fresh() -> Status {
    Status {
        state: State::Waiting,
        permit: false,
        counts: Counts::default(),
        parts_per_min: 0.0,
        reject_rate: 0.0,
        belt_mm_s: 0.0,
        last: None,
        last_reject: None,
        margin: None,
        alarms: vec![alarm(
            "Acknowledge needed",
            "Check that the belt is clear, then press acknowledge.",
            false,
        )],
        at: Instant::ZERO,
        ..running()
    }
}

/// Everything as long as it can get, and letters the fonts do not have.
pub fn extreme() -> Status {
    let long = "photo-eye covered for longer than any part of this recipe could possibly be, 部品 ".repeat(4);
    let mut reject = running().last_reject.expect("running has one");
    reject.reason = long.clone();
    reject.part = PartId(u64::MAX);
    reject.picture = Some(Arc::new(Thumbnail {
        width: 300,
        height: 40,
        rgb: vec![90; 300 * 40 * 3],
    }));
    Status {
        station: "Werk-Süd-Linie-14-Ausschleusung-links-unten".into(),
        recipe: "closure_38mm_tamper_evident_high_density".into(),
        state: State::Coasting,
        counts: Counts {
            passed: u64::MAX,
            confirmed: u64::MAX,
            escaped: u64::MAX,
            ..Counts::default()
        },
        parts_per_min: f32::MAX,
        belt_mm_s: f32::NAN,
        reject_rate: 1.0,
        last: Some(LastPart {
            verdict: Verdict::NoResult(NoResult::Ambiguous),
            ..running().last.expect("running has one")
        }),
        last_reject: Some(reject),
        margin: Some(TimingMargin {
            last: Micros::MAX,
            smallest: Micros::new(i64::MIN),
        }),
        alarms: vec![alarm(&long, &long, true); 12],
        ..running()
    }
}

const SIZES: [(u32, u32); 12] = [
    (240, 240),
    (240, 320),
    (320, 240),
    (400, 300),
    (480, 272),
    (480, 320),
    (320, 480),
    (640, 480),
    (800, 480),
    (480, 800),
    (1024, 600),
    (1280, 800),
];

/// A canvas on which every pixel of type or picture has to land inside of a panel.
struct Strict(Canvas);

impl Dimensions for Strict {
    fn bounding_box(&self) -> Rectangle {
        self.0.bounding_box()
    }
}

impl DrawTarget for Strict {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let bounds = self.bounding_box();
        for Pixel(at, color) in pixels {
            assert!(bounds.contains(at), "drawn outside of {bounds:?} at {at:?}");
            let place = (at.y as usize * self.0.width as usize + at.x as usize) * 3;
            let below = &self.0.rgb[place..place + 3];
            let page = [page::PAGE.r(), page::PAGE.g(), page::PAGE.b()];
            assert_ne!(below, page, "drawn between panels at {at:?} of {bounds:?}");
            self.0.draw_iter([Pixel(at, color)])?;
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, color: Rgb888) -> Result<(), Infallible> {
        let bounds = self.bounding_box();
        assert_eq!(
            area.intersection(&bounds),
            *area,
            "a panel leaves the display of {bounds:?}"
        );
        self.0.fill_solid(area, color)
    }
}

#[test]
fn at_every_size_everything_stays_in_its_panel() {
    for (width, height) in SIZES {
        for status in [running(), stopped(), fresh(), extreme()] {
            let Ok(()) = draw(&status, &mut Strict(Canvas::new(width, height)));
        }
    }
}

#[test]
fn sizes_nobody_planned_for_are_drawn_without_a_panic() {
    for (width, height) in [
        (0, 0),
        (1, 1),
        (7, 300),
        (300, 9),
        (64, 64),
        (128, 32),
        (2_000, 200),
        (200, 1_500),
    ] {
        for status in [running(), stopped(), extreme()] {
            let Ok(()) = draw(&status, &mut Canvas::new(width, height));
        }
    }
}

#[test]
fn every_state_has_a_picture_of_its_own() {
    let states = [
        State::Waiting,
        State::Running,
        State::Coasting,
        State::Stopped,
        State::Ending,
    ];
    let pictures = states.map(|state| png(&Status { state, ..running() }, 320, 240));
    for i in 0..pictures.len() {
        assert!(
            pictures[i + 1..].iter().all(|p| *p != pictures[i]),
            "{:?}",
            states[i]
        );
    }
}

#[test]
fn a_missing_passed_eye_is_said() {
    let verified = png(
        &Status {
            passed_verified: true,
            ..running()
        },
        800,
        480,
    );
    assert_ne!(png(&running(), 800, 480), verified);
}

#[test]
fn ink_can_be_read_on_its_paper() {
    let luminance = |c: Rgb888| {
        let linear = |v: u8| {
            let v = f64::from(v) / 255.0;
            if v <= 0.040_45 {
                v / 12.92
            } else {
                ((v + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(c.r()) + 0.7152 * linear(c.g()) + 0.0722 * linear(c.b())
    };
    use page::*;
    let on_panel = [INK, MUTED, GOOD, BAD, CARE].map(|ink| (ink, PANEL));
    for (ink, paper) in on_panel
        .into_iter()
        .chain([(INK, GREEN), (INK, RED), (INK, BLUE), (DARK, AMBER)])
    {
        let (a, b) = (luminance(ink), luminance(paper));
        let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
        assert!(contrast >= 4.5, "{ink:?} on {paper:?}: {contrast:.2}");
    }
}

fn golden(name: &str, status: &Status, width: u32, height: u32) {
    // Outlines are filled in f32, whose last bits may differ between processors.
    compare(name, &png(status, width, height), 2);
}

/// Compares with the committed picture; `ELEK_BLESS=1` writes it anew, to be looked at before it is committed.
/// No channel of a pixel may differ by more than `most`.
pub fn compare(name: &str, drawn: &[u8], most: u8) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/display/{name}.png"));
    if std::env::var_os("ELEK_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().expect("it has a folder")).unwrap();
        // Packed better than there is time for at the line: these files stay in the repository.
        let mut small = Vec::new();
        let encoder = PngEncoder::new_with_quality(&mut small, CompressionType::Best, FilterType::Adaptive);
        let rgb = image::load_from_memory(drawn).unwrap().to_rgb8();
        encoder
            .write_image(&rgb, rgb.width(), rgb.height(), ExtendedColorType::Rgb8)
            .unwrap();
        std::fs::write(&file, &small).unwrap();
    }
    let committed =
        std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}; run with ELEK_BLESS=1", file.display()));
    let pixels = |png: &[u8]| image::load_from_memory(png).unwrap().to_rgb8();
    let (drawn, committed) = (pixels(drawn), pixels(&committed));
    assert_eq!(drawn.dimensions(), committed.dimensions());
    let worst = drawn
        .as_raw()
        .iter()
        .zip(committed.as_raw())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(
        worst <= Some(most),
        "{name}: a channel differs by {worst:?}; ELEK_BLESS=1 if that is meant"
    );
}

#[test]
fn running_on_a_panel_display_looks_as_committed() {
    golden("running-800x480", &running(), 800, 480);
}

#[test]
fn stopped_on_a_large_display_looks_as_committed() {
    golden("stopped-1280x800", &stopped(), 1280, 800);
}

#[test]
fn stopped_on_an_upright_display_looks_as_committed() {
    golden("stopped-480x800", &stopped(), 480, 800);
}

#[test]
fn running_on_the_smallest_display_looks_as_committed() {
    golden("running-240x240", &running(), 240, 240);
}

#[test]
fn a_fresh_start_looks_as_committed() {
    golden("fresh-320x240", &fresh(), 320, 240);
}

#[test]
fn too_much_of_everything_looks_as_committed() {
    golden("extreme-480x320", &extreme(), 480, 320);
}

#[test]
fn a_png_is_a_png_of_the_size_asked_for() {
    let file = png(&running(), 480, 272);
    let picture = image::load_from_memory_with_format(&file, image::ImageFormat::Png)
        .unwrap()
        .to_rgb8();
    assert_eq!(picture.dimensions(), (480, 272));
    // The corner belongs to the banner, whose colour is the state.
    assert_eq!(
        picture.get_pixel(1, 1).0,
        [page::GREEN.r(), page::GREEN.g(), page::GREEN.b()]
    );
}
