//! Which panel goes where.
//!
//! ```text
//! wide (landscape)                          narrow (portrait, square, small)
//! ┌──────────────────────────────────┐      ┌──────────────────┐
//! │ STATE              station recipe│      │ STATE            │
//! ├──────────────────────────────────┤      ├──────────────────┤
//! │ alarm: what, what to do          │      │ alarm            │
//! ├─────────┬─────────┬──────────────┤      ├─────────┬────────┤
//! │ passed  │ rejected│ last reject  │      │ passed  │rejected│
//! ├─────────┴─────────┤ picture      │      ├─────────┴────────┤
//! │ further counts    │ reason       │      │ last reject      │
//! ├────┬────┬────┬────┴──────────────┤      ├──────┬───────────┤
//! │rate│part│belt│margin  last part  │      │ rate │ margin    │
//! └────┴────┴────┴───────────────────┘      └──────┴───────────┘
//! ```

use super::page::*;
use super::text::{self, Weight};
use crate::station::event::Verdict;
use crate::status::{AlarmLine, State, Status};
use crate::units::Micros;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::pixelcolor::Rgb888;

/// Reject rates from here on are shown as a warning: one part in ten is not a good line.
const RATE_CARE: f32 = 0.1;
/// Margins below this are shown as a warning.
pub(super) const MARGIN_CARE: Micros = Micros::from_millis(20);

pub fn draw<D: DrawTarget<Color = Rgb888>>(status: &Status, target: &mut D) -> Result<(), D::Error> {
    let size = target.bounding_box();
    let whole = Area {
        x: size.top_left.x,
        y: size.top_left.y,
        w: size.size.width as i32,
        h: size.size.height as i32,
    };
    fill(target, whole, PAGE)?;
    let gap = (whole.w.min(whole.h) / 60).clamp(3, 12);
    let wide = whole.w * 5 >= whole.h * 6 && whole.w >= 400;
    let share = if wide { 19 } else { 17 };
    let (top, rest) = whole.split_top((whole.h * share / 100).max(40), gap);
    banner(target, top, status)?;
    let rest = Area {
        h: rest.h - gap,
        ..rest.inset_xy(gap, 0)
    };
    let rest = if status.alarms.is_empty() {
        rest
    } else {
        let (panel, rest) = rest.split_top(whole.h * if wide { 20 } else { 22 } / 100, gap);
        alarms(target, panel, &status.alarms)?;
        rest
    };
    if wide {
        wide_page(target, rest, gap, status)
    } else {
        narrow_page(target, rest, gap, status)
    }
}

/// State in a word, its colour and what it means.
pub(super) fn state_words(status: &Status) -> (&'static str, &'static str, Rgb888, Rgb888) {
    match status.state {
        State::Running => ("RUNNING", "belt may run", GREEN, INK),
        State::Waiting => ("WAITING", "acknowledge to let the belt run", AMBER, DARK),
        State::Coasting => (
            "COASTING",
            "belt coming to rest, parts still tracked",
            AMBER,
            DARK,
        ),
        State::Stopped => ("STOPPED", "belt stopped by the station", RED, INK),
        State::Ending => ("ENDING", "finishing planned rejects", BLUE, INK),
    }
}

fn banner<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    status: &Status,
) -> Result<(), D::Error> {
    let (word, meaning, paper, ink) = state_words(status);
    fill(target, area, paper)?;
    let inner = area.inset_xy((area.w / 40).clamp(8, 28), (area.h / 10).max(3));
    let side = if area.w >= 400 { 36 } else { 38 };
    let right_width = inner.w * side / 100;
    let (left, right) = inner.split_left(inner.w - right_width, (inner.w / 40).max(6));
    let (upper, lower) = left.split_top(left.h * 66 / 100, 0);
    line(
        target,
        upper,
        word,
        Style {
            px_min: 16,
            ..Style::new(Weight::Bold, upper.h * 11 / 10, ink, paper)
        },
    )?;
    let small = (lower.h * 3 / 4).clamp(11, 26);
    line(
        target,
        lower,
        meaning,
        Style::new(Weight::Regular, small, ink, paper),
    )?;
    let (upper, lower) = right.split_top(right.h / 2, 0);
    let px = (upper.h * 11 / 20).clamp(11, 34);
    line(
        target,
        upper,
        &status.station,
        Style::new(Weight::Bold, px, ink, paper).align(Align::Right),
    )?;
    line(
        target,
        lower,
        &status.recipe,
        Style::new(Weight::Regular, px, ink, paper).align(Align::Right),
    )
}

/// The most severe alarm in full; the others by name if there is room, else by number.
fn alarms<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    alarms: &[AlarmLine],
) -> Result<(), D::Error> {
    let Some((first, others)) = alarms.split_first() else {
        return Ok(());
    };
    let color = if first.present { BAD } else { CARE };
    fill(target, area, PANEL)?;
    let (bar, rest) = area.split_left((area.w / 80).clamp(4, 12), 0);
    fill(target, bar, color)?;
    let inner = rest.inset_xy((area.w / 60).clamp(5, 16), (area.h / 12).clamp(2, 10));
    let px = (inner.h * 32 / 100).clamp(13, 36);
    let (upper, lower) = inner.split_top(px * 5 / 4, 0);
    let small = Style::new(Weight::Regular, px * 3 / 4, MUTED, PANEL).align(Align::Right);
    let more = if others.is_empty() {
        String::new()
    } else {
        format!("+{} more", others.len())
    };
    let more_width = text::width(&more, Weight::Regular, small.px);
    let (headline, beside) = upper.split_left(upper.w - more_width - px / 2, px / 2);
    line(
        target,
        headline,
        &first.text,
        Style::new(Weight::Bold, px, color, PANEL),
    )?;
    line(target, beside, &more, small)?;
    let advice_px = (lower.h * 2 / 5).min(px * 4 / 5).max(11);
    let used = paragraph(
        target,
        lower,
        &first.advice,
        Style::new(Weight::Regular, advice_px, INK, PANEL),
    )?;
    let (_, below) = lower.split_top(used, 0);
    if !others.is_empty() && below.h >= advice_px * 5 / 4 {
        let names: Vec<&str> = others.iter().map(|a| a.text.as_str()).collect();
        let (row, _) = below.split_top(advice_px * 5 / 4, 0);
        let style = Style {
            px_min: advice_px,
            ..Style::new(Weight::Regular, advice_px, MUTED, PANEL)
        };
        line(target, row, &format!("also: {}", names.join(", ")), style)?;
    }
    Ok(())
}

fn wide_page<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    gap: i32,
    status: &Status,
) -> Result<(), D::Error> {
    let (main, foot) = area.split_top(area.h * 76 / 100, gap);
    let (left, right) = main.split_left(main.w * 57 / 100, gap);
    let (big, small) = left.split_top(left.h * 62 / 100, gap);
    passed_and_rejected(target, big, gap, status)?;
    tiles(target, small, gap, &further_counts(status))?;
    last_reject(target, right, gap, status)?;
    tiles(target, foot, gap, &figures(status))
}

/// Where the height does not suffice for everything, the last reject stays and the figures go.
const NARROW_WHOLE_MIN: i32 = 170;

fn narrow_page<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    gap: i32,
    status: &Status,
) -> Result<(), D::Error> {
    let tall = area.h * 10 >= area.w * 13;
    if area.h < NARROW_WHOLE_MIN {
        let (big, last) = area.split_top((area.h - gap) / 2, gap);
        passed_and_rejected(target, big, gap, status)?;
        return last_reject(target, last, gap, status);
    }
    let (big, rest) = area.split_top(area.h * if tall { 24 } else { 34 } / 100, gap);
    passed_and_rejected(target, big, gap, status)?;
    let foot_height = area.h * 24 / 100;
    let (last, foot) = rest.split_top(rest.h - foot_height - gap, gap);
    last_reject(target, last, gap, status)?;
    let figures = figures(status);
    if tall && area.h >= 2 * area.w / 3 * 2 {
        let (upper, lower) = foot.split_top((foot.h - gap) / 2, gap);
        tiles(target, upper, gap, &further_counts(status))?;
        return tiles(target, lower, gap, &figures[..4]);
    }
    tiles(target, foot, gap, &figures[..if area.w >= 400 { 4 } else { 3 }])
}

/// A large number, its label above it, and below it what it is worth.
struct Large {
    label: &'static str,
    number: String,
    ink: Rgb888,
    note: String,
    note_ink: Rgb888,
}

fn passed_and_rejected<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    gap: i32,
    status: &Status,
) -> Result<(), D::Error> {
    let (note, note_ink) = if status.passed_verified {
        ("passed: verified", MUTED)
    } else {
        ("passed: not verified", CARE)
    };
    let number = thousands(status.counts.passed);
    let passed = Large {
        label: "PASSED",
        number,
        ink: GOOD,
        note: note.to_owned(),
        note_ink,
    };
    let note = format!("{:.1} % of last 200", status.reject_rate * 100.0);
    let note_ink = if status.reject_rate >= RATE_CARE {
        CARE
    } else {
        MUTED
    };
    let number = thousands(status.counts.rejected());
    let rejected = Large {
        label: "REJECTED",
        number,
        ink: BAD,
        note,
        note_ink,
    };
    let both = [passed, rejected];
    let inner = |a: &Area| a.inset_xy((a.w / 18).clamp(5, 18), (a.h / 14).clamp(3, 14));
    let parts: Vec<Area> = area.columns(2, gap).collect();
    let size = |px: i32, weight: Weight, px_min: i32, words: fn(&Large) -> &str| {
        let sizes = both
            .iter()
            .zip(&parts)
            .map(|(l, a)| text::fit(words(l), weight, inner(a).w, px, px_min));
        sizes.min().unwrap_or(px)
    };
    let height = inner(&parts[0]).h;
    let px = (height * 17 / 100).clamp(11, 30);
    let number_height = height - 2 * (px * 5 / 4);
    let number_px = size(number_height * 11 / 10, Weight::Bold, 12, |l| &l.number);
    let note_px = size(px, Weight::Regular, 10, |l| &l.note);
    for (part, large) in parts.iter().zip(&both) {
        fill(target, *part, PANEL)?;
        let (above, rest) = inner(part).split_top(px * 5 / 4, 0);
        let (middle, below) = rest.split_top(number_height, 0);
        line(
            target,
            above,
            large.label,
            Style::new(Weight::Bold, px, MUTED, PANEL),
        )?;
        line(
            target,
            middle,
            &large.number,
            Style::new(Weight::Bold, number_px, large.ink, PANEL),
        )?;
        line(
            target,
            below,
            &large.note,
            Style::new(Weight::Regular, note_px, large.note_ink, PANEL),
        )?;
    }
    Ok(())
}

/// Counts that should be 0, the gravest first.
pub(super) fn further_counts(status: &Status) -> [Figure; 4] {
    let c = &status.counts;
    let count = |label, n: u64, ink| (label, thousands(n), if n == 0 { MUTED } else { ink });
    [
        count("escaped", c.escaped, BAD),
        count("unaccounted", c.unaccounted, CARE),
        count("unconfirmed", c.unconfirmed, CARE),
        count("collateral", c.collateral, CARE),
    ]
}

/// Rates and times, the most asked for first.
fn figures(status: &Status) -> [Figure; 5] {
    let margin = status.margin.map_or(("–".to_owned(), MUTED), |m| {
        (
            milliseconds(m.smallest),
            if m.smallest < MARGIN_CARE { CARE } else { INK },
        )
    });
    let last = status
        .last
        .as_ref()
        .map_or(("–", MUTED), |last| verdict_word(&last.verdict));
    let late = status.counts.late;
    [
        ("parts/min", format!("{:.0}", status.parts_per_min), INK),
        ("least margin", margin.0, margin.1),
        ("last part", last.0.to_owned(), last.1),
        ("belt mm/s", format!("{:.0}", status.belt_mm_s), INK),
        (
            "late results",
            thousands(late),
            if late == 0 { MUTED } else { CARE },
        ),
    ]
}

pub(super) fn verdict_word(verdict: &Verdict) -> (&'static str, Rgb888) {
    match verdict {
        Verdict::Pass => ("PASS", GOOD),
        Verdict::Reject(_) => ("REJECT", BAD),
        Verdict::Unsure => ("UNSURE", CARE),
        Verdict::NoResult(_) => ("NO RESULT", CARE),
    }
}

fn last_reject<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    gap: i32,
    status: &Status,
) -> Result<(), D::Error> {
    fill(target, area, PANEL)?;
    let inner = area.inset(gap.max(4));
    let label_px = (area.h.min(area.w) / 13).clamp(11, 26);
    let label = Style::new(Weight::Bold, label_px, MUTED, PANEL);
    let Some(last) = &status.last_reject else {
        return line(target, inner, "nothing rejected yet", label.align(Align::Centre));
    };
    // Beside the picture when there is room, else below it.
    let beside = inner.w * 10 >= inner.h * 14;
    let (frame, words) = match &last.picture {
        None => (None, inner),
        Some(_) if beside => {
            let (frame, words) = inner.split_left(inner.h.min(inner.w * 55 / 100), gap * 2);
            (
                Some(Area {
                    h: frame.h.min(frame.w),
                    ..frame
                }),
                words,
            )
        }
        Some(_) => {
            let (frame, words) = inner.split_top(inner.h * 62 / 100, gap);
            (Some(frame), words)
        }
    };
    if let (Some(frame), Some(thumbnail)) = (frame, &last.picture) {
        picture(target, frame, thumbnail)?;
    }
    let (head, body) = words.split_top(label_px * 5 / 4, 0);
    let ago = status.at.since(last.at);
    let ago = format!("{} ago", duration(ago));
    // Cut off, it would say everything but when.
    let title = [format!("LAST REJECT, {ago}"), format!("REJECT, {ago}")]
        .into_iter()
        .find(|title| text::width(title, Weight::Bold, label.px_min) <= head.w)
        .unwrap_or(ago);
    line(target, head, &title, label)?;
    let px = (words.h / 4).clamp(13, 40).min((words.w / 8).max(13));
    let used = paragraph(
        target,
        body,
        &last.reason,
        Style::new(Weight::Bold, px, INK, PANEL),
    )?;
    let (_, rest) = body.split_top(used, 0);
    if rest.h >= label_px * 5 / 4 {
        let (row, _) = rest.split_top(label_px * 5 / 4, 0);
        let number = format!("part {}", last.part);
        line(
            target,
            row,
            &number,
            Style::new(Weight::Regular, label_px, MUTED, PANEL),
        )?;
    }
    Ok(())
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

pub(super) fn milliseconds(time: Micros) -> String {
    format!("{:.0} ms", time.as_millis_f64())
}

/// A length of time in its largest unit: "40 s", "3 min", "2 h", "5 d".
pub(super) fn duration(time: Micros) -> String {
    let s = time.get().max(0) / 1_000_000;
    match s {
        0..=99 => format!("{s} s"),
        100..=5_999 => format!("{} min", s / 60),
        6_000..=172_799 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (n, words) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(n), words);
        }
    }

    #[test]
    fn durations_have_one_unit() {
        for (s, words) in [
            (-4, "0 s"),
            (99, "99 s"),
            (100, "1 min"),
            (7_200, "2 h"),
            (200_000, "2 d"),
        ] {
            assert_eq!(duration(Micros::from_secs(s)), words);
        }
    }
}
