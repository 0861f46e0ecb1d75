//! `elek status`: what a running station does, for people and for scripts.

use crate::control::{Client, ClientError};
use crate::station::event::{NoResult, Verdict};
use crate::status::{LastPart, OutputTimes, State, Status};
use crate::units::Micros;
use anyhow::Result;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Exit code of `status`, `ack` and `changeover` when no station was reached.
pub const UNREACHABLE: u8 = 3;
const WATCH: Duration = Duration::from_secs(1);
/// Cursor home, and clear from there: no flicker, unlike clearing the whole screen.
const HOME: &str = "\x1b[H\x1b[J";

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:
  0  the station runs, waits for a person, or is ending
  1  the station is stopped by an alarm, or did not answer properly
  2  wrong arguments
  3  no station was reached")]
pub struct Args {
    /// Print the status as JSON, as the station sends it.
    #[arg(long)]
    json: bool,
    /// Again every second, until interrupted.
    #[arg(long)]
    watch: bool,
    /// The station's socket or record folder; without it, the station that runs as a service.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let redraw = args.watch && !args.json && std::io::stdout().is_terminal();
    loop {
        let status = match Client::find(args.socket.as_deref()).and_then(|client| client.status()) {
            Ok(status) => status,
            Err(error) if error.is_unreachable() => return Ok(unreachable(&error)),
            Err(error) => return Err(error.into()),
        };
        let mut text = if redraw { String::from(HOME) } else { String::new() };
        text += &if args.json {
            serde_json::to_string(&status)? + "\n"
        } else {
            table(&status)
        };
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        if !args.watch {
            let stopped = status.state == State::Stopped;
            return Ok(if stopped {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            });
        }
        std::thread::sleep(WATCH);
    }
}

/// Says why no station was reached.
pub fn unreachable(error: &ClientError) -> ExitCode {
    eprintln!("elek: {error}");
    ExitCode::from(UNREACHABLE)
}

/// The status as a table for a terminal.
fn table(status: &Status) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    let permit = if status.permit {
        "belt may run"
    } else {
        "belt is held"
    };
    row(
        "station",
        &format!("{} (up {})", status.station, age(status.uptime)),
    );
    row("state", &format!("{}, {permit}", state(status.state)));
    row("recipe", &status.recipe);
    let counts = &status.counts;
    row("seen", &number(counts.seen));
    let verified = if status.passed_verified {
        "verified by the passed eye"
    } else {
        "not verified: no passed eye"
    };
    row("passed", &format!("{:>9}   {verified}", thousands(counts.passed)));
    let split = format!(
        "{} confirmed, {} unconfirmed, {} collateral",
        thousands(counts.confirmed),
        thousands(counts.unconfirmed),
        thousands(counts.collateral)
    );
    row(
        "rejected",
        &format!("{:>9}   {split}", thousands(counts.rejected())),
    );
    row("escaped", &number(counts.escaped));
    row("unaccounted", &number(counts.unaccounted));
    row("in flight", &number(counts.in_flight));
    if status.unjudged > 0 {
        let unjudged = thousands(status.unjudged);
        row(
            "unjudged",
            &format!("{unjudged:>9}   went past the passed eye without a verdict"),
        );
    }
    row("late", &number(counts.late));
    row(
        "rate",
        &format!(
            "{:.0} parts/min at {:.0} mm/s, {:.1} % rejected",
            status.parts_per_min,
            status.belt_mm_s,
            status.reject_rate * 100.0
        ),
    );
    match &status.margin {
        Some(margin) => row(
            "margin",
            &format!("{} left last, {} at worst", margin.last, margin.smallest),
        ),
        None => row("margin", "no verdict yet"),
    }
    if let Some(times) = &status.outputs {
        let OutputTimes {
            changes,
            p50,
            p99,
            max,
        } = times;
        let late = format!(
            "late by {} µs (p50), {} µs (p99), {} µs at worst",
            p50.get(),
            p99.get(),
            max.get()
        );
        row("outputs", &format!("{late}, {} changes", thousands(*changes)));
    }
    if let Some(last) = &status.last {
        row("last part", &last_part(last));
    }
    if let Some(reject) = &status.last_reject {
        let ago = age(status.at.since(reject.at));
        row(
            "last reject",
            &format!("part {}, {ago} ago: {}", reject.part, reject.reason),
        );
    }
    text + &alarms(status)
}

fn alarms(status: &Status) -> String {
    if status.alarms.is_empty() {
        return format!("{:<12}none\n", "alarms");
    }
    let mut text = String::from("alarms\n");
    for alarm in &status.alarms {
        let tense = if alarm.present { "now, for" } else { "over, began" };
        let ago = if alarm.present { "" } else { " ago" };
        let since = age(status.at.since(alarm.since));
        let _ = writeln!(
            text,
            "  {} ({tense} {since}{ago})\n      {}",
            alarm.text, alarm.advice
        );
    }
    text
}

fn last_part(last: &LastPart) -> String {
    let verdict = match last.verdict {
        Verdict::Pass => "pass",
        Verdict::Reject(_) => "reject",
        Verdict::Unsure => "unsure",
        Verdict::NoResult(NoResult::Late) => "no result in time",
        Verdict::NoResult(_) => "no result",
    };
    let fate = last
        .fate
        .map_or(String::new(), |fate| format!(", {}", fate.word()));
    let words = if last.words.is_empty() {
        String::new()
    } else {
        format!(": {}", last.words)
    };
    format!("part {}, {verdict}{fate}{words}", last.part)
}

fn state(state: State) -> &'static str {
    match state {
        State::Waiting => "WAITING for a person to acknowledge (elek ack)",
        State::Running => "RUNNING",
        State::Coasting => "COASTING",
        State::Stopped => "STOPPED",
        State::Ending => "ENDING",
    }
}

fn number(value: u64) -> String {
    format!("{:>9}", thousands(value))
}

/// `1,234,567`.
fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`.
fn age(time: Micros) -> String {
    let seconds = time.get().max(0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::station::event::{AlarmKind, Counts, Fate, Reason};
    use crate::status::{AlarmLine, LastReject, TimingMargin};
    use crate::units::{Instant, PartId};

    pub fn status() -> Status {
        Status {
            station: "L3-REJ-01".into(),
            recipe: "cap-28mm".into(),
            state: State::Running,
            permit: true,
            counts: Counts {
                seen: 1_234_567,
                passed: 1_234_500,
                confirmed: 60,
                unconfirmed: 1,
                collateral: 2,
                escaped: 0,
                unaccounted: 1,
                in_flight: 3,
                late: 4,
            },
            unjudged: 0,
            parts_per_min: 600.4,
            reject_rate: 0.0251,
            belt_mm_s: 333.3,
            last: Some(LastPart {
                part: PartId(1_234_999),
                verdict: Verdict::Pass,
                words: "good 0.98".into(),
                fate: Some(Fate::Passed { verified: true }),
            }),
            last_reject: Some(LastReject {
                part: PartId(1_234_980),
                reason: "scratch 0.93, limit 0.60".into(),
                picture: None,
                at: Instant::from_micros(990_000_000),
            }),
            margin: Some(TimingMargin {
                last: Micros::from_millis(61),
                smallest: Micros::from_millis(43),
            }),
            outputs: None,
            alarms: Vec::new(),
            passed_verified: true,
            uptime: Micros::from_secs(11_111),
            at: Instant::from_micros(1_000_000_000),
        }
    }

    #[test]
    fn the_table_of_a_running_station() {
        assert_eq!(
            table(&status()),
            "\
station     L3-REJ-01 (up 3 h 05 min)
state       RUNNING, belt may run
recipe      cap-28mm
seen        1,234,567
passed      1,234,500   verified by the passed eye
rejected           63   60 confirmed, 1 unconfirmed, 2 collateral
escaped             0
unaccounted         1
in flight           3
late                4
rate        600 parts/min at 333 mm/s, 2.5 % rejected
margin      61.0 ms left last, 43.0 ms at worst
last part   part 1234999, pass, passed: good 0.98
last reject part 1234980, 10 s ago: scratch 0.93, limit 0.60
alarms      none
"
        );
    }

    #[test]
    fn what_is_not_in_every_table() {
        let mut status = status();
        let plain = table(&status);
        assert!(
            !plain.contains("unjudged") && !plain.contains("outputs"),
            "{plain}"
        );
        status.unjudged = 2;
        status.outputs = Some(OutputTimes {
            changes: 1_204,
            p50: Micros::new(40),
            p99: Micros::new(90),
            max: Micros::new(2_100),
        });
        let text = table(&status);
        assert!(
            text.contains("unjudged            2   went past the passed eye"),
            "{text}"
        );
        assert!(
            text.contains("outputs     late by 40 µs (p50), 90 µs (p99), "),
            "{text}"
        );
        assert!(text.contains("2100 µs at worst, 1,204 changes\n"), "{text}");
    }

    #[test]
    fn alarms_come_with_what_to_do() {
        let mut status = status();
        status.state = State::Stopped;
        status.permit = false;
        status.last = Some(LastPart {
            part: PartId(5),
            verdict: Verdict::Reject(Reason {
                rule: 0,
                measured: 0.93,
            }),
            words: String::new(),
            fate: None,
        });
        status.alarms = vec![AlarmLine {
            kind: AlarmKind::RejectNotConfirmed,
            text: "A reject was not seen in the chute".into(),
            advice: "Look for part 12 on the belt.".into(),
            present: false,
            stops: true,
            since: Instant::from_micros(500_000_000),
        }];
        let text = table(&status);
        assert!(text.contains("state       STOPPED, belt is held\n"), "{text}");
        assert!(text.contains("last part   part 5, reject\n"), "{text}");
        let alarm = "  A reject was not seen in the chute (over, began 8 min ago)\n      Look for part 12 on the belt.\n";
        assert!(text.ends_with(alarm), "{text}");
    }

    #[test]
    fn ages_and_numbers_are_short() {
        assert_eq!(age(Micros::from_secs(-5)), "0 s");
        assert_eq!(age(Micros::from_secs(119)), "119 s");
        assert_eq!(age(Micros::from_secs(120)), "2 min");
        assert_eq!(age(Micros::from_secs(200_000)), "2 d 7 h");
        assert_eq!(
            (thousands(0), thousands(999), thousands(1_000)),
            ("0".into(), "999".into(), "1,000".into())
        );
    }
}
