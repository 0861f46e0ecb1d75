//! The pages of 128 × 64 dots, each light or dark: no colours, no shades, and type made of whole dots.
//!
//! ```text
//! ┌─────────────────────┐  ┌─────────────────────┐  ┌─────────────────────┐
//! │ RUNNING     598/min │  │▓STOPPED▓▓▓▓▓▓▓▓▓1/3▓│  │▓RUNNING▓▓▓▓▓counts▓▓│
//! │─────────────────────│  │ Reject not         │  │ passed       47,602 │
//! │ PASSED     REJECTED │  │ confirmed          │  │ rejected        604 │
//! │ 47,602          604 │  │ The chute eye did  │  │ escaped           1 │
//! │ scratch 0.93, limit │  │ (and so on)        │  │ unaccounted       0 │
//! └─────────────────────┘  └─────────────────────┘  └─────────────────────┘
//! ```
//! A dark banner means that the belt may run, a light one that it may not: that much carries without
//! reading. What does not fit is shown in turns.

use super::pages::{Page, View};
use super::panels::{duration, milliseconds, state_words, thousands};
use crate::status::{AlarmLine, LastReject, State, Status};
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::mono_font::iso_8859_1::{
    FONT_6X10, FONT_6X13, FONT_7X13, FONT_7X13_BOLD, FONT_9X15_BOLD, FONT_9X18_BOLD, FONT_10X20,
};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{Drawable, Point, Size};
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

const WIDTH: i32 = 128;
/// Height of the banner of the first page, and of the others.
const BANNER: i32 = 18;
const HEAD: i32 = 13;
/// Lines of running text below the banner, and how far apart they are.
const LINES: usize = 3;
const PITCH: i32 = 15;
/// Rows below a head.
const ROWS: usize = 4;

pub fn draw<D: DrawTarget<Color = BinaryColor>>(
    status: &Status,
    view: View,
    target: &mut D,
) -> Result<(), D::Error> {
    target.clear(BinaryColor::Off)?;
    match (view.page, status.alarms.first(), &status.last_reject) {
        (Page::Now, Some(alarm), _) => stopped(target, status, alarm, view),
        (Page::Now, None, _) => running(target, status, view),
        (Page::Alarms, ..) => alarms(target, status, view),
        (Page::LastReject, _, Some(reject)) => last_reject(target, status, reject, view),
        (Page::LastReject, _, None) => head(target, status, Page::LastReject.title()),
        (Page::Counts, ..) => rows(target, status, view, &counts(status)),
        (Page::Times, ..) => rows(target, status, view, &times(status)),
    }
}

/// The fonts have the letters of western Europe; what else texts contain is written with these.
fn printable(words: &str) -> String {
    let mut plain = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '–' | '—' => plain.push('-'),
            '…' => plain.push_str("..."),
            '≤' => plain.push_str("<="),
            '≥' => plain.push_str(">="),
            '’' | '‘' => plain.push('\''),
            '“' | '”' => plain.push('"'),
            ' '..='~' | '\u{a1}'..='\u{ff}' => plain.push(letter),
            other if other.is_whitespace() => plain.push(' '),
            _ => plain.push('?'),
        }
    }
    plain
}

fn width(words: &str, font: &MonoFont<'_>) -> i32 {
    words.chars().count() as i32 * font.character_size.width as i32
}

/// How many letters fit into so many dots.
fn letters(room: i32, font: &MonoFont<'_>) -> usize {
    (room.max(0) / font.character_size.width as i32) as usize
}

/// Lines of at most `most` letters, broken between words where that is possible.
fn wrap(words: &str, most: usize) -> Vec<String> {
    let most = most.max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in printable(words).split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let length = line.chars().count();
        if length > 0 && length + 1 + word.len() > most {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > most {
            lines.push(word.drain(..most).collect());
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    lines.push(line);
    lines.retain(|line| !line.is_empty());
    lines
}

fn write<D: DrawTarget<Color = BinaryColor>>(
    target: &mut D,
    words: &str,
    (x, y): (i32, i32),
    font: &MonoFont<'_>,
    ink: BinaryColor,
) -> Result<(), D::Error> {
    let words = printable(words);
    let style = MonoTextStyle::new(font, ink);
    Text::with_baseline(&words, Point::new(x, y), style, Baseline::Top).draw(target)?;
    Ok(())
}

fn bar<D: DrawTarget<Color = BinaryColor>>(target: &mut D, y: i32, height: i32) -> Result<(), D::Error> {
    let area = Rectangle::new(Point::new(0, y), Size::new(WIDTH as u32, height as u32));
    target.fill_solid(&area, BinaryColor::On)
}

/// State on the left, something short on the right; light while the belt may not run.
fn banner<D: DrawTarget<Color = BinaryColor>>(
    target: &mut D,
    status: &Status,
    right: &str,
) -> Result<(), D::Error> {
    let ink = paper(target, status, BANNER)?;
    let word = state_words(status).0;
    write(target, word, (2, 0), &FONT_9X18_BOLD, ink)?;
    let x = WIDTH - 2 - width(right, &FONT_6X13);
    if x < 2 + width(word, &FONT_9X18_BOLD) {
        return Ok(());
    }
    write(target, right, (x, 3), &FONT_6X13, ink)
}

fn head<D: DrawTarget<Color = BinaryColor>>(
    target: &mut D,
    status: &Status,
    title: &str,
) -> Result<(), D::Error> {
    let ink = paper(target, status, HEAD)?;
    write(target, state_words(status).0, (1, 0), &FONT_6X13, ink)?;
    write(
        target,
        title,
        (WIDTH - 1 - width(title, &FONT_6X13), 0),
        &FONT_6X13,
        ink,
    )
}

/// What a banner is drawn on; gives back the ink for it.
fn paper<D: DrawTarget<Color = BinaryColor>>(
    target: &mut D,
    status: &Status,
    height: i32,
) -> Result<BinaryColor, D::Error> {
    if status.state == State::Running {
        bar(target, height - 1, 1)?;
        return Ok(BinaryColor::On);
    }
    bar(target, 0, height)?;
    Ok(BinaryColor::Off)
}

fn running<D: DrawTarget<Color = BinaryColor>>(
    target: &mut D,
    status: &Status,
    view: View,
) -> Result<(), D::Error> {
    let right = match status.state {
        State::Running => format!("{:.0}/min", status.parts_per_min),
        _ => String::new(),
    };
    banner(target, status, &right)?;
    let numbers = [
        ("PASSED", thousands(status.counts.passed)),
        ("REJECTED", thousands(status.counts.rejected())),
    ];
    // One to the left edge and one to the right, in one size, with a gap that tells them apart.
    let fonts = [&FONT_10X20, &FONT_9X15_BOLD, &FONT_7X13_BOLD, &FONT_6X10];
    let both = |font: &&MonoFont<'_>| numbers.iter().map(|(_, n)| width(n, font)).sum::<i32>() <= WIDTH - 16;
    let font = fonts.into_iter().find(both).unwrap_or(&FONT_6X10);
    let y = BANNER + 31 - font.character_size.height as i32;
    for (n, (label, number)) in numbers.iter().enumerate() {
        let x = |words: &str, font: &MonoFont<'_>| match n {
            0 => 2,
            _ => WIDTH - 2 - width(words, font),
        };
        write(
            target,
            label,
            (x(label, &FONT_6X10), BANNER + 1),
            &FONT_6X10,
            BinaryColor::On,
        )?;
        write(target, number, (x(number, font), y), font, BinaryColor::On)?;
    }
    let (_, meaning, ..) = state_words(status);
    let words = match (&status.last_reject, status.state) {
        (Some(reject), State::Running) => reject.reason.as_str(),
        (None, State::Running) => "nothing rejected yet",
        _ => meaning,
    };
    let lines = wrap(words, letters(WIDTH - 2, &FONT_6X13));
    let line = lines.get(view.of(lines.len())).map_or("", String::as_str);
    write(target, line, (2, 51), &FONT_6X13, BinaryColor::On)
}

/// What happened in bold, then what to do, as many lines as fit at a time.
fn alarm_lines(alarm: &AlarmLine) -> Vec<(&'static MonoFont<'static>, String)> {
    let most = letters(WIDTH - 2, &FONT_7X13);
    let part = |font, words: &str| wrap(words, most).into_iter().map(move |line| (font, line));
    part(&FONT_7X13_BOLD, &alarm.text)
        .chain(part(&FONT_7X13, &alarm.advice))
        .collect()
}

fn stopped<D: DrawTarget<Color = BinaryColor>>(
    target: &mut D,
    status: &Status,
    alarm: &AlarmLine,
    view: View,
) -> Result<(), D::Error> {
    let lines = alarm_lines(alarm);
    let screens: Vec<_> = lines.chunks(LINES).collect();
    let at = view.of(screens.len());
    let right = match screens.len() {
        0 | 1 => String::new(),
        count => format!("{}/{count}", at + 1),
    };
    banner(target, status, &right)?;
    let lines = screens.get(at).copied().unwrap_or_default();
    for (n, (font, line)) in lines.iter().enumerate() {
        write(
            target,
            line,
            (1, BANNER + 2 + n as i32 * PITCH),
            font,
            BinaryColor::On,
        )?;
    }
    Ok(())
}

/// All screens of all alarms, one after the other.
fn alarms<D: DrawTarget<Color = BinaryColor>>(
    target: &mut D,
    status: &Status,
    view: View,
) -> Result<(), D::Error> {
    let count = status.alarms.len();
    let mut screens = Vec::new();
    for (n, alarm) in status.alarms.iter().enumerate() {
        let lines = alarm_lines(alarm);
        screens.extend(lines.chunks(LINES).map(|lines| (n + 1, lines.to_vec())));
    }
    let Some((n, lines)) = screens.get(view.of(screens.len())) else {
        return head(target, status, Page::Alarms.title());
    };
    head(target, status, &format!("alarm {n}/{count}"))?;
    for (n, (font, line)) in lines.iter().enumerate() {
        write(
            target,
            line,
            (1, HEAD + 4 + n as i32 * PITCH),
            font,
            BinaryColor::On,
        )?;
    }
    Ok(())
}

fn last_reject<D: DrawTarget<Color = BinaryColor>>(
    target: &mut D,
    status: &Status,
    reject: &LastReject,
    view: View,
) -> Result<(), D::Error> {
    head(target, status, Page::LastReject.title())?;
    let lines = wrap(&reject.reason, letters(WIDTH - 2, &FONT_7X13));
    let screens: Vec<_> = lines.chunks(2).collect();
    let lines = screens.get(view.of(screens.len())).copied().unwrap_or_default();
    for (n, line) in lines.iter().enumerate() {
        write(
            target,
            line,
            (1, HEAD + 3 + n as i32 * PITCH),
            &FONT_7X13_BOLD,
            BinaryColor::On,
        )?;
    }
    let ago = format!("{} ago", duration(status.at.since(reject.at)));
    write(target, &ago, (1, 51), &FONT_6X13, BinaryColor::On)?;
    let part = format!("part {}", reject.part);
    let x = WIDTH - 1 - width(&part, &FONT_6X13);
    if x < 1 + width(&ago, &FONT_6X13) {
        return Ok(());
    }
    write(target, &part, (x, 51), &FONT_6X13, BinaryColor::On)
}

fn counts(status: &Status) -> [(&'static str, String); 8] {
    let c = &status.counts;
    [
        ("passed", thousands(c.passed)),
        ("rejected", thousands(c.rejected())),
        ("escaped", thousands(c.escaped)),
        ("unaccounted", thousands(c.unaccounted)),
        ("unconfirmed", thousands(c.unconfirmed)),
        ("collateral", thousands(c.collateral)),
        ("late", thousands(c.late)),
        ("unjudged", thousands(status.unjudged)),
    ]
}

fn times(status: &Status) -> [(&'static str, String); 7] {
    let margin = |time: Option<crate::units::Micros>| time.map_or("-".into(), milliseconds);
    let late = status.outputs.map(|o| format!("{:.1} ms", o.max.as_millis_f64()));
    [
        ("parts/min", format!("{:.0}", status.parts_per_min)),
        ("belt mm/s", format!("{:.0}", status.belt_mm_s)),
        ("rejected", format!("{:.1} %", status.reject_rate * 100.0)),
        ("margin", margin(status.margin.map(|m| m.smallest))),
        ("last", margin(status.margin.map(|m| m.last))),
        ("out late", late.unwrap_or_else(|| "-".into())),
        ("up for", duration(status.uptime)),
    ]
}

/// Four rows at a time; the number is what they are for, its label takes what is left.
fn rows<D: DrawTarget<Color = BinaryColor>>(
    target: &mut D,
    status: &Status,
    view: View,
    rows: &[(&'static str, String)],
) -> Result<(), D::Error> {
    let screens: Vec<_> = rows.chunks(ROWS).collect();
    let at = view.of(screens.len());
    head(
        target,
        status,
        &format!("{} {}/{}", view.page.title(), at + 1, screens.len()),
    )?;
    for (n, (label, value)) in screens[at].iter().enumerate() {
        let y = HEAD - 1 + n as i32 * 13;
        let x = WIDTH - 1 - width(value, &FONT_7X13_BOLD);
        let label: String = label.chars().take(letters(x - 4, &FONT_7X13)).collect();
        write(target, &label, (1, y), &FONT_7X13, BinaryColor::On)?;
        write(target, value, (x, y), &FONT_7X13_BOLD, BinaryColor::On)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{extreme, fresh, running, stopped};
    use super::super::{Canvas, draw_mono};
    use super::*;

    fn view(page: Page, turn: usize) -> View {
        View { page, turn }
    }

    const PAGES: [Page; 5] = [
        Page::Now,
        Page::LastReject,
        Page::Alarms,
        Page::Counts,
        Page::Times,
    ];

    #[test]
    fn every_dot_is_light_or_dark() {
        for status in [running(), stopped(), fresh(), extreme()] {
            for page in PAGES {
                for turn in 0..30 {
                    let mut canvas = Canvas::new(128, 64);
                    let Ok(()) = draw_mono(&status, view(page, turn), &mut canvas);
                    assert!(canvas.rgb.iter().all(|v| *v == 0 || *v == 255));
                    assert!(canvas.rgb.contains(&255), "{page:?} is empty");
                }
            }
        }
    }

    #[test]
    fn lines_fit_and_no_word_is_lost() {
        let words = "The chute eye did not see part 48207. Find the part, check air and valve.";
        let lines = wrap(words, 18);
        assert!(lines.iter().all(|line| line.chars().count() <= 18), "{lines:?}");
        assert_eq!(lines.join(" "), words);
        let lines = wrap("Donaudampfschifffahrtsgesellschaft ab", 10);
        assert_eq!(lines, ["Donaudampf", "schifffahr", "tsgesellsc", "haft ab"]);
        assert!(wrap("  ", 10).is_empty());
    }

    #[test]
    fn letters_that_the_fonts_lack_are_written_otherwise() {
        assert_eq!(
            printable("0.8 mm² ≥ 5 µm – “für” 部…"),
            "0.8 mm² >= 5 µm - \"für\" ?..."
        );
    }

    #[test]
    fn all_of_an_alarm_is_shown_in_turns() {
        let status = stopped();
        let lines = alarm_lines(&status.alarms[0]);
        let screens = lines.len().div_ceil(LINES);
        let shown = |turn| {
            let mut canvas = Canvas::new(128, 64);
            let Ok(()) = draw_mono(&status, view(Page::Now, turn), &mut canvas);
            canvas.rgb
        };
        let all: Vec<_> = (0..screens).map(shown).collect();
        assert!(screens > 1);
        for turn in 1..screens {
            assert!(
                !all[..turn].contains(&all[turn]),
                "screen {turn} has been there before"
            );
        }
        assert_eq!(shown(screens), all[0]);
    }
}
