//! What a run amounted to: for people, and as JSON.

use super::session::Outcome;
use crate::runtime::Samples;
use crate::simulate::part::{PartTruth, Whereabouts};
use crate::station::event::Counts;
use crate::status::{State, Status};
use serde::Serialize;
use std::fmt;

/// The end of a run in figures. `None` where nothing was measured.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub counts: Counts,
    /// `seen = passed + rejected + escaped + unaccounted + in flight`.
    pub balances: bool,
    /// Those that are still up at the end.
    pub alarms: Vec<String>,
    /// Of a simulated line only.
    pub truth: Option<Truth>,
    pub stages_ms: Vec<Stage>,
    /// Time left between verdict and the last moment to plan the reject.
    pub margin_ms: Option<Spread>,
    pub pulse_error_ms: Option<Spread>,
    /// The output process had real-time priority and locked memory.
    pub outputs_realtime: bool,
    pub outputs_locked: bool,
    pub pictures_written: u64,
    pub pictures_lost: u64,
}

/// What really happened on the simulated line, counted by the line itself.
#[derive(Debug, Serialize)]
pub struct Truth {
    /// Leading edges that crossed the photo-eye.
    pub crossed: u64,
    /// How fast they followed each other, stops of the belt included; of the last 4,096.
    pub parts_per_s: Option<f64>,
    /// Parts with a defect among those that left the belt.
    pub defective: u64,
    pub good: u64,
    /// Defective parts that went on.
    pub escapes: u64,
    /// Good parts that were removed.
    pub false_rejects: u64,
}

#[derive(Debug, Serialize)]
pub struct Stage {
    pub stage: &'static str,
    pub parts: usize,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

#[derive(Debug, Serialize)]
pub struct Spread {
    pub smallest: f64,
    pub p50: f64,
    pub largest: f64,
}

impl Summary {
    pub fn new(outcome: &Outcome) -> Self {
        let times = &outcome.times;
        let stages = [
            ("locate", &times.locate),
            ("preprocess", &times.preprocess),
            ("classify", &times.classify),
            ("segment", &times.segment),
            ("regions", &times.regions),
        ];
        Summary {
            counts: outcome.finished.counts,
            balances: outcome.finished.counts.balances(),
            alarms: outcome
                .status
                .alarms
                .iter()
                .map(|alarm| alarm.text.to_string())
                .collect(),
            truth: outcome
                .line
                .as_ref()
                .map(|line| Truth::new(line.counts.crossed, &line.finished)),
            stages_ms: stages
                .into_iter()
                .filter_map(|(name, samples)| Stage::new(name, samples))
                .collect(),
            margin_ms: Spread::new(&times.margin),
            pulse_error_ms: Spread::new(&times.pulse_error),
            outputs_realtime: outcome.finished.outputs.realtime,
            outputs_locked: outcome.finished.outputs.locked,
            pictures_written: outcome.finished.record.pictures_written,
            pictures_lost: outcome.finished.record.pictures_lost,
        }
    }

    /// The station's account balances and its count is the line's own.
    pub fn is_sound(&self) -> bool {
        let agrees = |truth: &Truth| self.counts.seen == truth.crossed;
        self.balances && self.truth.as_ref().is_none_or(agrees)
    }
}

impl Truth {
    fn new(crossed: u64, finished: &[PartTruth]) -> Self {
        let count = |defective: bool, place: Option<Whereabouts>| {
            finished
                .iter()
                .filter(|truth| truth.crossed_at.is_some())
                .filter(|truth| truth.part.defect.is_some() == defective)
                .filter(|truth| place.is_none_or(|place| truth.whereabouts == place))
                .count() as u64
        };
        Truth {
            crossed,
            parts_per_s: rate(finished),
            defective: count(true, None),
            good: count(false, None),
            escapes: count(true, Some(Whereabouts::Passed)),
            false_rejects: count(false, Some(Whereabouts::Removed)),
        }
    }
}

/// From the first leading edge to the last.
fn rate(finished: &[PartTruth]) -> Option<f64> {
    let edges = || finished.iter().filter_map(|truth| truth.crossed_at);
    let (first, last) = (edges().min()?, edges().max()?);
    let gaps = edges().count() - 1;
    (last > first).then(|| gaps as f64 * 1e6 / last.since(first).get() as f64)
}

impl Stage {
    fn new(stage: &'static str, samples: &Samples) -> Option<Self> {
        let [p50, p99, max] = samples.percentiles([0.5, 0.99, 1.0])?.map(ms);
        Some(Stage {
            stage,
            parts: samples.len(),
            p50,
            p99,
            max,
        })
    }
}

impl Spread {
    fn new(samples: &Samples) -> Option<Self> {
        let [smallest, p50, largest] = samples.percentiles([0.0, 0.5, 1.0])?.map(ms);
        Some(Spread {
            smallest,
            p50,
            largest,
        })
    }
}

fn ms(us: i64) -> f64 {
    us as f64 / 1_000.0
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(f, "seen {}", c.seen)?;
        writeln!(f, "  passed       {:>6}", c.passed)?;
        writeln!(
            f,
            "  rejected     {:>6}   confirmed {}, unconfirmed {}, collateral {}",
            c.rejected(),
            c.confirmed,
            c.unconfirmed,
            c.collateral
        )?;
        writeln!(f, "  escaped      {:>6}", c.escaped)?;
        writeln!(f, "  unaccounted  {:>6}", c.unaccounted)?;
        writeln!(f, "  in flight    {:>6}", c.in_flight)?;
        let word = if self.balances {
            "balances"
        } else {
            "DOES NOT BALANCE: this is a bug in elek"
        };
        writeln!(f, "  the account {word}; late verdicts: {}", c.late)?;
        for alarm in &self.alarms {
            writeln!(f, "  ALARM {alarm}")?;
        }
        if let Some(truth) = &self.truth {
            truth.write(f)?;
        }
        self.write_times(f)
    }
}

impl Truth {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nwhat really happened, by the line's own count of {} parts{}",
            self.crossed,
            self.parts_per_s
                .map_or(String::new(), |rate| format!(", {rate:.1} parts/s"))
        )?;
        writeln!(
            f,
            "  escapes        {} of {} defective parts went on",
            self.escapes, self.defective
        )?;
        writeln!(
            f,
            "  false rejects  {} of {} good parts were removed",
            self.false_rejects, self.good
        )
    }
}

impl Summary {
    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nstage          parts     p50 ms     p99 ms     max ms")?;
        for s in &self.stages_ms {
            writeln!(
                f,
                "{:<12} {:>7} {:>10.2} {:>10.2} {:>10.2}",
                s.stage, s.parts, s.p50, s.p99, s.max
            )?;
        }
        if let Some(m) = &self.margin_ms {
            writeln!(
                f,
                "\ntime left before each reject had to be planned: smallest {:.0} ms, median {:.0} ms",
                m.smallest, m.p50
            )?;
        }
        if let Some(e) = &self.pulse_error_ms {
            writeln!(
                f,
                "pulses off their planned time: median {:.2} ms, at most {:.2} ms",
                e.p50, e.largest
            )?;
        }
        let yes_no = |granted| if granted { "granted" } else { "not granted" };
        writeln!(
            f,
            "output process: real-time priority {}, locked memory {}",
            yes_no(self.outputs_realtime),
            yes_no(self.outputs_locked)
        )?;
        if self.pictures_lost > 0 {
            writeln!(
                f,
                "{} pictures were lost because the disk could not keep up",
                self.pictures_lost
            )?;
        }
        Ok(())
    }
}

/// One line for a plain log.
pub fn line(status: &Status) -> String {
    let c = &status.counts;
    let alarm = status
        .alarms
        .first()
        .map_or(String::new(), |alarm| format!("; ALARM {}", alarm.text));
    format!(
        "{}: seen {}, passed {}, rejected {}, escaped {}, unaccounted {}, in flight {}{alarm}",
        word(status.state),
        c.seen,
        c.passed,
        c.rejected(),
        c.escaped,
        c.unaccounted,
        c.in_flight
    )
}

/// A few lines that replace each other on a terminal. Always the same number of lines.
pub fn live(status: &Status) -> Vec<String> {
    let c = &status.counts;
    let last = status
        .last
        .as_ref()
        .map_or(String::new(), |l| format!("part {}: {}", l.part, l.words));
    let margin = status
        .margin
        .map_or(String::new(), |m| format!("{:.0} ms", m.smallest.as_millis_f64()));
    let alarm = status
        .alarms
        .first()
        .map_or(String::from("none"), |a| format!("{} {}", a.text, a.advice));
    vec![
        format!(
            "{} · {} · recipe {}",
            word(status.state),
            status.station,
            status.recipe
        ),
        format!(
            "seen {:>6}   passed {:>6}   rejected {:>5}",
            c.seen,
            c.passed,
            c.rejected()
        ),
        format!(
            "escaped {:>3}   unaccounted {:>3}   late {:>3}   in flight {}",
            c.escaped, c.unaccounted, c.late, c.in_flight
        ),
        format!(
            "{:.0} parts/min at {:.0} mm/s, smallest margin {margin}",
            status.parts_per_min, status.belt_mm_s
        ),
        format!("last   {last}"),
        format!("alarm  {alarm}"),
    ]
}

fn word(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting for acknowledge",
        State::Running => "running",
        State::Coasting => "coasting",
        State::Stopped => "stopped",
        State::Ending => "ending",
    }
}
