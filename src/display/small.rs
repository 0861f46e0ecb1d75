//! The pages of a small coloured panel, 240 × 240 to 320 × 240 or upright.
//!
//! Such a panel is 30 to 60 mm wide and read at arm's length, where type below 2 mm of height is lost:
//! that is about 16 pixels per em on the largest of them and 24 on the smallest. Therefore one matter a
//! page, in few words.
//!
//! ```text
//! running              stopped               any other page
//! ┌────────────────┐   ┌────────────────┐    ┌────────────────┐
//! │ RUNNING 598/min│   │ STOPPED     +1 │    │ STATE    title │
//! ├───────┬────────┤   ├────────────────┤    ├────────────────┤
//! │passed │rejected│   │ what happened  │    │ its matter     │
//! ├───────┴────────┤   │ what to do     │    │                │
//! │ last reject    │   ├────────────────┤    │                │
//! └────────────────┘   │ counts         │    │                │
//! ```

use super::page::*;
use super::pages::{Page, View};
use super::panels::{MARGIN_CARE, duration, further_counts, milliseconds, state_words, thousands};
use super::text::{self, Weight};
use crate::status::{AlarmLine, LastReject, State, Status};
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::pixelcolor::Rgb888;

const GAP: i32 = 4;
/// The banner of the first page, and of the others.
const BANNER: i32 = 52;
const HEAD: i32 = 30;
/// Type of running text: no smaller than this, and no larger where there is room.
const TEXT_MIN: i32 = 17;
const TEXT_MAX: i32 = 24;
/// A line of running text takes this much of its size.
const PITCH: (i32, i32) = (6, 5);

pub fn draw<D: DrawTarget<Color = Rgb888>>(
    status: &Status,
    view: View,
    target: &mut D,
) -> Result<(), D::Error> {
    let size = target.bounding_box().size;
    let whole = Area {
        x: 0,
        y: 0,
        w: size.width as i32,
        h: size.height as i32,
    };
    fill(target, whole, PAGE)?;
    if view.page == Page::Now {
        return now(target, whole, status, view);
    }
    let (top, rest) = whole.split_top(HEAD, GAP);
    head(target, top, status, view)?;
    let body = Area {
        h: rest.h - GAP,
        ..rest.inset_xy(GAP, 0)
    };
    match view.page {
        Page::Now => Ok(()),
        Page::LastReject => match &status.last_reject {
            Some(reject) => last_reject(target, body, status, reject),
            None => Ok(()),
        },
        Page::Alarms => alarms(target, body, status, view),
        Page::Counts => rows(target, body, &counts(status)),
        Page::Times => rows(target, body, &times(status)),
    }
}

fn head<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    status: &Status,
    view: View,
) -> Result<(), D::Error> {
    let (word, _, paper, ink) = state_words(status);
    fill(target, area, paper)?;
    let inner = area.inset_xy(8, 2);
    let style = Style::new(Weight::Bold, 22, ink, paper);
    let (left, right) = inner.split_left(text::width(word, Weight::Bold, style.px), 8);
    line(target, left, word, style)?;
    let title = Style::new(Weight::Regular, 18, ink, paper).align(Align::Right);
    line(target, right, view.page.title(), title)
}

fn now<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    whole: Area,
    status: &Status,
    view: View,
) -> Result<(), D::Error> {
    let (top, rest) = whole.split_top(BANNER, GAP);
    let (word, meaning, paper, ink) = state_words(status);
    fill(target, top, paper)?;
    let inner = top.inset_xy(8, 4);
    let style = Style {
        px_min: 24,
        ..Style::new(Weight::Bold, 40, ink, paper)
    };
    let px = text::fit(word, Weight::Bold, inner.w, style.px, style.px_min);
    let (left, right) = inner.split_left(text::width(word, Weight::Bold, px), 12);
    line(target, left, word, Style { px, ..style })?;
    let beside = match status.alarms.len() {
        0 if status.state == State::Running => format!("{:.0}/min", status.parts_per_min),
        0 | 1 => String::new(),
        count => format!("+{}", count - 1),
    };
    let small = Style::new(Weight::Regular, 22, ink, paper).align(Align::Right);
    // Where there is room for it: half a number would be worse than none.
    if text::width(&beside, Weight::Regular, small.px) <= right.w {
        line(target, right, &beside, small)?;
    }
    let rest = Area {
        h: rest.h - GAP,
        ..rest.inset_xy(GAP, 0)
    };
    if let Some(first) = status.alarms.first() {
        let (middle, foot) = rest.split_top(rest.h - HEAD, 0);
        alarm(target, middle, first, view)?;
        return both_counts(target, foot, status);
    }
    let (big, last) = rest.split_top(rest.h * 40 / 100, GAP);
    let figures = [
        ("PASSED", thousands(status.counts.passed), GOOD),
        ("REJECTED", thousands(status.counts.rejected()), BAD),
    ];
    tiles(target, big, GAP, &figures)?;
    if status.state != State::Running {
        return words(target, last, &[(Weight::Regular, INK, meaning)], view);
    }
    match &status.last_reject {
        Some(reject) if last.h * 5 > last.w * 3 => last_reject(target, last, status, reject),
        Some(reject) => beside_picture(target, last, status, reject),
        None => words(
            target,
            last,
            &[(Weight::Regular, MUTED, "nothing rejected yet")],
            view,
        ),
    }
}

/// Passed and rejected in one line.
fn both_counts<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    status: &Status,
) -> Result<(), D::Error> {
    let figures = [
        ("passed", thousands(status.counts.passed), GOOD),
        ("rejected", thousands(status.counts.rejected()), BAD),
    ];
    let split = |area: Area, label: &str| area.split_left(text::width(label, Weight::Regular, 16), 5);
    // Both numbers in one size.
    let px = |(area, (label, number, _)): (Area, &(&str, String, _))| {
        text::fit(number, Weight::Bold, split(area, label).1.w, 20, 14)
    };
    let px = area.columns(2, 2 * GAP).zip(&figures).map(px).min().unwrap_or(14);
    for (area, (label, number, ink)) in area.columns(2, 2 * GAP).zip(&figures) {
        let (left, right) = split(area, label);
        line(target, left, label, Style::new(Weight::Regular, 16, MUTED, PAGE))?;
        line(target, right, number, Style::new(Weight::Bold, px, *ink, PAGE))?;
    }
    Ok(())
}

/// Whether no single word is too long for a line.
fn is_whole(words: &str, weight: Weight, px: i32, room: i32) -> bool {
    words
        .split_whitespace()
        .all(|word| text::width(word, weight, px) <= room)
}

type Words<'a> = (Weight, Rgb888, &'a str);

/// Words in the largest type in which all of them fit; where they do not, in the smallest and in turns.
fn words<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    parts: &[Words<'_>],
    view: View,
) -> Result<(), D::Error> {
    fill(target, area, PANEL)?;
    let inner = area.inset(8);
    let broken = |px: i32| {
        let lines = parts.iter().flat_map(|(weight, ink, words)| {
            let lines = text::wrap(words, *weight, px, inner.w, usize::MAX);
            lines.into_iter().map(|line| (*weight, *ink, line))
        });
        lines.collect::<Vec<_>>()
    };
    let room = |px: i32| (inner.h / (px * PITCH.0 / PITCH.1)).max(1) as usize;
    let fits = (TEXT_MIN..=TEXT_MAX)
        .rev()
        .map(|px| (px, broken(px)))
        .find(|(px, lines)| {
            let whole = |(weight, _, words): &Words<'_>| is_whole(words, *weight, *px, inner.w);
            lines.len() <= room(*px) && parts.iter().all(whole)
        });
    let (px, lines) = fits.unwrap_or_else(|| (TEXT_MIN, broken(TEXT_MIN)));
    let row = |n: usize| Area {
        y: inner.y + n as i32 * (px * PITCH.0 / PITCH.1),
        h: px * PITCH.0 / PITCH.1,
        ..inner
    };
    // The last row tells which part of the text this is.
    let rows = match lines.len() <= room(px) {
        true => room(px),
        false => (room(px) - 1).max(1),
    };
    let screens: Vec<_> = lines.chunks(rows).collect();
    let at = view.of(screens.len());
    let Some(lines) = screens.get(at) else {
        return Ok(());
    };
    if screens.len() > 1 {
        let which = format!("{}/{}", at + 1, screens.len());
        let style = Style::new(Weight::Regular, px, MUTED, PANEL).align(Align::Right);
        line(target, row(rows), &which, style)?;
    }
    for (n, (weight, ink, words)) in lines.iter().enumerate() {
        let style = Style {
            px_min: px,
            ..Style::new(*weight, px, *ink, PANEL)
        };
        line(target, row(n), words, style)?;
    }
    Ok(())
}

fn alarm<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    alarm: &AlarmLine,
    view: View,
) -> Result<(), D::Error> {
    let color = if alarm.present { BAD } else { CARE };
    let (bar, rest) = area.split_left(6, 0);
    let parts = [
        (Weight::Bold, color, alarm.text.as_str()),
        (Weight::Regular, INK, alarm.advice.as_str()),
    ];
    words(target, rest, &parts, view)?;
    fill(target, bar, color)
}

/// One alarm after the other, each as often as its text needs turns.
fn alarms<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    status: &Status,
    view: View,
) -> Result<(), D::Error> {
    let count = status.alarms.len();
    let at = view.of(count);
    let Some(one) = status.alarms.get(at) else {
        return Ok(());
    };
    let (body, foot) = area.split_top(area.h - HEAD, 0);
    let turns = View {
        turn: view.turn / count.max(1),
        ..view
    };
    alarm(target, body, one, turns)?;
    let (left, right) = foot.split_left(foot.w / 2, 0);
    let style = Style::new(Weight::Regular, 18, MUTED, PAGE);
    line(target, left, &format!("{} of {count}", at + 1), style)?;
    let since = format!("for {}", duration(status.at.since(one.since)));
    line(target, right, &since, style.align(Align::Right))
}

/// When it was, and why; beside its picture where there is one.
fn beside_picture<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    status: &Status,
    reject: &LastReject,
) -> Result<(), D::Error> {
    fill(target, area, PANEL)?;
    let inner = area.inset_xy(6, 5);
    let side = match reject.picture {
        Some(_) => inner.h.min(inner.w * 2 / 5),
        None => 0,
    };
    let (frame, right) = inner.split_left(side, if side > 0 { 8 } else { 0 });
    if let Some(thumbnail) = &reject.picture {
        picture(target, frame, thumbnail)?;
    }
    about(target, right, status, reject)
}

/// Reason in large type, age and part below it.
fn about<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    status: &Status,
    reject: &LastReject,
) -> Result<(), D::Error> {
    let (above, below) = area.split_top(area.h - 20, 0);
    let lines = |px: i32| text::wrap(&reject.reason, Weight::Bold, px, above.w, usize::MAX).len() as i32;
    let px = (TEXT_MIN..=TEXT_MAX)
        .rev()
        .find(|px| lines(*px) * px * 5 / 4 <= above.h && is_whole(&reject.reason, Weight::Bold, *px, above.w))
        .unwrap_or(TEXT_MIN);
    paragraph(
        target,
        above,
        &reject.reason,
        Style::new(Weight::Bold, px, INK, PANEL),
    )?;
    let ago = format!("{} ago", duration(status.at.since(reject.at)));
    let with_part = format!("part {}, {ago}", reject.part);
    let style = Style::new(Weight::Regular, 16, MUTED, PANEL);
    let fits = text::width(&with_part, Weight::Regular, style.px) <= below.w;
    line(target, below, if fits { &with_part } else { &ago }, style)
}

/// The picture as large as can be: beside the words on a lying panel, above them on others.
fn last_reject<D: DrawTarget<Color = Rgb888>>(
    target: &mut D,
    area: Area,
    status: &Status,
    reject: &LastReject,
) -> Result<(), D::Error> {
    fill(target, area, PANEL)?;
    let Some(thumbnail) = &reject.picture else {
        return about(target, area.inset(8), status, reject);
    };
    let (frame, rest) = if area.w > area.h * 5 / 4 {
        area.split_left(area.h.min(area.w * 62 / 100), GAP)
    } else {
        area.split_top((area.h * 68 / 100).min(area.w), GAP)
    };
    picture(target, frame, thumbnail)?;
    about(target, rest.inset_xy(4, 2), status, reject)
}

/// What it is, what it is worth, and the colour of that.
type Row = (&'static str, String, Rgb888);

fn counts(status: &Status) -> Vec<Row> {
    let c = &status.counts;
    let care = |n: u64| if n == 0 { MUTED } else { CARE };
    let mut rows = vec![
        ("passed", thousands(c.passed), GOOD),
        ("rejected", thousands(c.rejected()), BAD),
    ];
    rows.extend(further_counts(status));
    rows.push(("late results", thousands(c.late), care(c.late)));
    rows.push(("unjudged", thousands(status.unjudged), care(status.unjudged)));
    rows
}

fn times(status: &Status) -> Vec<Row> {
    let margin = |time: Option<crate::units::Micros>| match time {
        Some(time) => (milliseconds(time), if time < MARGIN_CARE { CARE } else { INK }),
        None => ("–".to_owned(), MUTED),
    };
    let least = margin(status.margin.map(|m| m.smallest));
    let last = margin(status.margin.map(|m| m.last));
    let late = status.outputs.map(|o| o.max);
    vec![
        ("parts/min", format!("{:.0}", status.parts_per_min), INK),
        ("belt mm/s", format!("{:.0}", status.belt_mm_s), INK),
        ("rejected", format!("{:.1} %", status.reject_rate * 100.0), INK),
        ("least margin", least.0, least.1),
        ("last margin", last.0, last.1),
        (
            "outputs late",
            late.map_or("–".into(), |t| format!("{:.1} ms", t.as_millis_f64())),
            INK,
        ),
        ("up for", duration(status.uptime), INK),
    ]
}

fn rows<D: DrawTarget<Color = Rgb888>>(target: &mut D, area: Area, rows: &[Row]) -> Result<(), D::Error> {
    fill(target, area, PANEL)?;
    let inner = area.inset_xy(8, 2);
    let pitch = (inner.h / rows.len().max(1) as i32).min(34);
    for (n, (label, value, ink)) in rows.iter().enumerate() {
        let row = Area {
            y: inner.y + n as i32 * pitch,
            h: pitch,
            ..inner
        };
        let bold = Style::new(Weight::Bold, (pitch * 9 / 10).min(22), *ink, PANEL).align(Align::Right);
        // The number is what the page is for; its label takes what is left.
        let width = text::width(value, Weight::Bold, bold.px).min(row.w);
        let (left, right) = row.split_left(row.w - width - 8, 8);
        let px = (pitch * 8 / 10).min(18);
        line(target, left, label, Style::new(Weight::Regular, px, MUTED, PANEL))?;
        line(target, right, value, bold)?;
    }
    Ok(())
}
