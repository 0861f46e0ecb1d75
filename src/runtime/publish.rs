//! From the core's view to the snapshot that people see, and the times of the stages.

use crate::config::Config;
use crate::infer::inspection::StageTimes;
use crate::outputs::lateness::Lateness;
use crate::station::event::{Entry, Event};
use crate::station::{AlarmView, LastView, Station, StationView, alarm};
use crate::status::{AlarmLine, LastPart, LastReject, OutputTimes, Status, Thumbnail};
use crate::units::{Instant, PartId};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Enough for p99 to mean something, little enough to keep for ever.
const SAMPLES_MAX: usize = 4_096;

/// Where snapshots are left for the display, the control socket and the summary.
pub struct Board {
    pub status: ArcSwap<Status>,
    /// Picture of the last rejected part, made by the pictures thread.
    pub thumbnail: ArcSwapOption<(PartId, Arc<Thumbnail>)>,
    pub times: Mutex<Times>,
}

impl Board {
    pub fn new(first: Status) -> Self {
        Board {
            status: ArcSwap::from_pointee(first),
            thumbnail: ArcSwapOption::empty(),
            times: Mutex::default(),
        }
    }

    /// The last snapshot, with the picture of the last rejected part if it is of that part.
    pub fn status(&self) -> Status {
        let mut status = Status::clone(&self.status.load());
        if let Some(reject) = &mut status.last_reject
            && let Some((part, picture)) = self.thumbnail.load().as_deref()
            && *part == reject.part
        {
            reject.picture = Some(Arc::clone(picture));
        }
        status
    }

    pub fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Times of the last 4,096 parts by stage, in µs.
#[derive(Clone, Debug, Default)]
pub struct Times {
    pub locate: Samples,
    pub preprocess: Samples,
    pub classify: Samples,
    pub segment: Samples,
    pub regions: Samples,
    /// Time left between verdict and the last moment to plan the reject.
    pub margin: Samples,
    /// Planned against actual begin of a pulse, absolute.
    pub pulse_error: Samples,
}

/// The last values of one quantity.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    values: Vec<i64>,
    next: usize,
}

impl Samples {
    pub fn add(&mut self, value: i64) {
        if self.values.len() < SAMPLES_MAX {
            // Reserved at once, so that adding never allocates after the first value.
            if self.values.is_empty() {
                self.values.reserve_exact(SAMPLES_MAX);
            }
            self.values.push(value);
        } else {
            self.values[self.next] = value;
        }
        self.next = (self.next + 1) % SAMPLES_MAX;
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Nearest-rank percentiles, `None` without values. `ranks` in 0..=1.
    pub fn percentiles<const N: usize>(&self, ranks: [f64; N]) -> Option<[i64; N]> {
        let mut sorted = self.values.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(ranks.map(|rank| sorted[((last as f64 * rank).round() as usize).min(last)]))
    }

    pub fn min(&self) -> Option<i64> {
        self.values.iter().copied().min()
    }
}

impl Times {
    fn inspected(&mut self, times: &StageTimes) {
        let stages = [
            (&mut self.locate, times.locate_us),
            (&mut self.preprocess, times.preprocess_us),
            (&mut self.classify, times.classify_us),
            (&mut self.segment, times.segment_us),
            (&mut self.regions, times.regions_us),
        ];
        for (samples, us) in stages {
            // 0 = the stage did not run for this part.
            if us > 0 {
                samples.add(i64::from(us));
            }
        }
    }
}

/// The core thread's side of the [`Board`].
pub struct Publisher {
    config: Arc<Config>,
    board: Arc<Board>,
    started: Instant,
}

impl Publisher {
    pub fn new(config: Arc<Config>, board: Arc<Board>, started: Instant) -> Self {
        Publisher {
            config,
            board,
            started,
        }
    }

    /// Takes the stage times out of a result on its way to the core.
    pub fn note(&self, event: &Event) {
        if let Event::Inspected {
            result: Ok(inspection),
            ..
        } = event
        {
            self.board.times().inspected(&inspection.times);
        }
    }

    pub fn entry(&self, entry: &Entry) {
        match entry {
            Entry::Judged {
                margin,
                will_reject: true,
                ..
            } => self.board.times().margin.add(margin.get()),
            Entry::Fired {
                planned_on,
                actual_on,
                ..
            } => {
                self.board
                    .times()
                    .pulse_error
                    .add(actual_on.since(*planned_on).get().abs());
            }
            _ => {}
        }
    }

    pub fn publish(&self, station: &Station, outputs: &Lateness, now: Instant) {
        let view = station.view(now);
        self.board
            .status
            .store(Arc::new(status(&self.config, &view, outputs, self.started, now)));
    }
}

/// The snapshot before the core thread has run.
pub fn first(config: &Config, station: &Station, now: Instant) -> Status {
    status(config, &station.view(now), &Lateness::default(), now, now)
}

fn status(config: &Config, view: &StationView, outputs: &Lateness, started: Instant, now: Instant) -> Status {
    Status {
        station: config.station.id.clone(),
        recipe: config.recipes[usize::from(view.recipe.0)].name.clone(),
        state: view.state,
        permit: view.permit,
        counts: view.counts,
        unjudged: view.unjudged,
        parts_per_min: view.parts_per_min,
        reject_rate: view.reject_rate,
        belt_mm_s: view.belt_speed.as_mm_per_s() as f32,
        last: view.last.map(|last| LastPart {
            part: last.part,
            verdict: last.verdict,
            words: explain(config, &last),
            fate: last.fate,
        }),
        last_reject: view.last_reject.map(|last| LastReject {
            part: last.part,
            reason: explain(config, &last),
            picture: None,
            at: last.at,
        }),
        margin: view.margin,
        outputs: (outputs.changes > 0).then(|| OutputTimes {
            changes: outputs.changes,
            p50: outputs.percentile(500),
            p99: outputs.percentile(990),
            max: outputs.max,
        }),
        alarms: view.alarms.iter().map(alarm_line).collect(),
        passed_verified: view.passed_verified,
        uptime: now.since(started),
        at: now,
    }
}

fn explain(config: &Config, last: &LastView) -> String {
    config.recipes[usize::from(last.recipe.0)]
        .rules
        .explain(&last.verdict)
}

fn alarm_line(alarm: &AlarmView) -> AlarmLine {
    let (text, advice) = alarm::words_about(alarm.kind, alarm.about);
    AlarmLine {
        kind: alarm.kind,
        text: text.into_owned(),
        advice: advice.into_owned(),
        present: alarm.present,
        stops: alarm.stops,
        since: alarm.since,
    }
}
