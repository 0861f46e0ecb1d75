//! `elek bench --output-jitter`: when lines really change against when they were told to.
//!
//! Pulses go the way that rejects go: planned ahead, through a real `elek outputs` process, onto the
//! simulated chip or (with --config) the station's own reject line. First with an idle machine, then
//! with every core kept busy by arithmetic and memory traffic, and the disk on request.

use crate::config::{self, LineName, OutputLine};
use crate::device::clock;
use crate::device::lines::SIMULATED_CHIP;
use crate::device::realtime::{Priority, raise_priority};
use crate::device::simchip::SimChip;
use crate::outputs::link::{Link, LinkStatus, Peer};
use crate::station::event::{Event, PulsePlan, PulseReport};
use crate::units::{Instant, Micros, OutputId, PulseId, Speed};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// From pulse to pulse on the simulated line, and its length. A valve needs more: see `period`.
const PERIOD: Micros = Micros::from_millis(5);
const LENGTH: Micros = Micros::from_millis(2);
/// Pulses are told this long ahead, as a station does.
const AHEAD: Micros = Micros::from_millis(60);
/// The core's own beat.
const HEARTBEAT: Micros = Micros::from_millis(10);
/// How long the output process may take to be ready, or the last reports to come.
const PATIENCE: Micros = Micros::from_secs(10);
/// More than any cache holds, so that every core fights for the memory.
const TRAFFIC_BYTES: usize = 32 << 20;
const DISK_BYTES: usize = 4 << 20;
/// Speed for the meaning in mm when no configuration gives one.
const MM_PER_S: f64 = 600.0;

/// Upper bounds of the histogram's classes, µs; the last class has none.
const BOUNDS_US: [i64; 10] = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many pulses, with and without load each.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pulses: u32,
    /// Fire the reject line of this station (the valve really fires) instead of a simulated one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// From pulse to pulse [default: 5, or 50 on a real line].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(4..=10_000))]
    period_ms: Option<u32>,
    /// Belt speed for what the times mean in mm [default: the station's highest, or 600].
    #[arg(long, value_name = "MM_S")]
    speed_mm_s: Option<f64>,
    /// The load also writes into this folder.
    #[arg(long, value_name = "FOLDER")]
    disk: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    machine: String,
    line: String,
    speed_mm_s: f64,
    period_ms: f64,
    /// The output process has real-time priority, and its memory cannot be swapped out.
    realtime: bool,
    locked: bool,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    load: &'static str,
    pulses: u32,
    /// Refused because they could not begin within 2 ms of their time, or lost with their session.
    missed: u32,
    /// The output process went safe because this program was held up for 95 ms.
    interruptions: u32,
    on: Times,
    off: Times,
    /// Line changes, on and off, by how late they were: upper bound in µs, count.
    histogram: Vec<(Option<i64>, u64)>,
}

/// How late, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Times {
    count: usize,
    p50: i64,
    p99: i64,
    p999: i64,
    max: i64,
}

impl Times {
    fn of(mut late: Vec<i64>) -> Times {
        late.sort_unstable();
        // The smallest value that at least so many of 1,000 do not exceed.
        let rank = |per_mille: usize| {
            let nth = (late.len() * per_mille).div_ceil(1_000).max(1);
            late.get(nth - 1).copied().unwrap_or(0)
        };
        Times {
            count: late.len(),
            p50: rank(500),
            p99: rank(990),
            p999: rank(999),
            max: rank(1_000),
        }
    }
}

fn histogram(late: &[i64]) -> Vec<(Option<i64>, u64)> {
    let mut classes: Vec<(Option<i64>, u64)> = BOUNDS_US.iter().map(|&bound| (Some(bound), 0)).collect();
    classes.push((None, 0));
    for &us in late {
        let class = BOUNDS_US.partition_point(|&bound| bound <= us);
        classes[class].1 += 1;
    }
    classes
}

pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let (line, highest) = match &args.config {
        Some(path) => match station_line(path) {
            Ok(found) => found,
            Err(report) => {
                eprint!("{report}");
                return Ok(ExitCode::from(2));
            }
        },
        None => (simulated_line(), MM_PER_S),
    };
    let real = line.chip != SIMULATED_CHIP;
    let speed_mm_s = args.speed_mm_s.unwrap_or(highest);
    if Speed::from_mm_per_s(speed_mm_s).is_none_or(|speed| speed <= Speed::ZERO) {
        bail!("--speed-mm-s {speed_mm_s} is no speed of a belt");
    }
    let period = match args.period_ms {
        Some(ms) => Micros::from_millis(ms.into()),
        None if real => Micros::from_millis(50),
        None => PERIOD,
    };
    if let Err(error) = raise_priority(Priority::Core) {
        tracing::info!("measured without real-time priority of the sender: {error}");
    }
    let mut bench = Bench::start(&line, period)?;
    let mut runs = vec![bench.run("idle", args.pulses)?];
    {
        let _load = Load::start(args.disk.as_deref())?;
        let load = if args.disk.is_some() {
            "cores, memory and disk"
        } else {
            "cores and memory"
        };
        runs.push(bench.run(load, args.pulses)?);
    }
    let LinkStatus { realtime, locked, .. } = bench.link.status();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: super::machine(),
        line: format!("{} of chip {}", line.name, line.chip),
        speed_mm_s,
        period_ms: period.as_millis_f64(),
        realtime,
        locked,
        runs,
    };
    super::print(&report, json, text)
}

fn simulated_line() -> OutputLine {
    OutputLine {
        chip: SIMULATED_CHIP.into(),
        name: LineName::from("REJECT"),
        active_low: false,
        safe_on: false,
        max_on: Some(Micros::from_secs(1)),
    }
}

/// The reject line of a station, and the highest speed of its belt in mm/s.
fn station_line(path: &Path) -> Result<(OutputLine, f64), config::Report> {
    let config = config::load(path)?;
    let line = config.outputs[usize::from(config.reject.output.0)].clone();
    Ok((line, config.belt.speed_max.as_mm_per_s()))
}

/// The output process and what came of its pulses.
struct Bench {
    link: Link,
    events: mpsc::Receiver<Event>,
    period: Micros,
    length: Micros,
    next: u64,
}

/// A pulse that was told.
#[derive(Clone, Copy)]
struct Told {
    plan: PulsePlan,
    on: bool,
    over: bool,
}

/// What a run has seen so far.
#[derive(Default)]
struct Seen {
    told: Vec<Told>,
    on: Vec<i64>,
    off: Vec<i64>,
    missed: u32,
    interruptions: u32,
    over: u32,
}

impl Bench {
    fn start(line: &OutputLine, period: Micros) -> Result<Bench> {
        let chip = (line.chip == SIMULATED_CHIP).then(SimChip::create).transpose()?;
        let (sender, events) = mpsc::channel();
        let sink = Arc::new(move |event| {
            // The bench is over when nobody listens.
            let _ = sender.send(event);
        });
        let link = Link::to(Peer::own_child(), std::slice::from_ref(line), chip.as_ref(), sink)?;
        let longest = line.max_on.unwrap_or(LENGTH);
        let length = LENGTH.max(Micros::new(period.get() / 4)).min(longest);
        let mut bench = Bench {
            link,
            events,
            period,
            length,
            next: 0,
        };
        bench
            .wait_ready()
            .context("the output process cannot have the line")?;
        Ok(bench)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let until = clock::now() + PATIENCE;
        while clock::now() < until {
            self.link.heartbeat();
            match self.events.recv_timeout(HEARTBEAT.to_std()) {
                Ok(Event::OutputsReady(true)) => return Ok(()),
                Ok(Event::OutputsReady(false)) => bail!("it ended at once; what it said is above"),
                _ => {}
            }
        }
        bail!("it is not ready after {} s", PATIENCE.as_millis_f64() / 1_000.0)
    }

    fn run(&mut self, load: &'static str, pulses: u32) -> Result<Run> {
        let first = self.next;
        let mut seen = Seen::default();
        let mut begin = clock::now() + AHEAD;
        let mut beat = Instant::ZERO;
        let mut last = clock::now();
        while seen.over < pulses {
            let now = clock::now();
            if now >= beat {
                self.link.heartbeat();
                beat = now + HEARTBEAT;
            }
            while (seen.told.len() as u32) < pulses && begin < now + AHEAD {
                let plan = self.plan(begin);
                self.link.fire(plan);
                seen.told.push(Told {
                    plan,
                    on: false,
                    over: false,
                });
                begin += self.period;
                last = plan.off_at;
            }
            if now > last + PATIENCE {
                bail!("the output process does not report its pulses");
            }
            while let Ok(event) = self.events.recv_timeout(Duration::from_millis(1)) {
                if event == Event::OutputsReady(false) {
                    self.resume(&mut seen)?;
                    begin = clock::now() + AHEAD;
                    break;
                }
                seen.note(first, &event);
                if clock::now() >= beat {
                    break;
                }
            }
        }
        let all: Vec<i64> = seen.on.iter().chain(&seen.off).copied().collect();
        Ok(Run {
            load,
            pulses,
            missed: seen.missed,
            interruptions: seen.interruptions,
            histogram: histogram(&all),
            on: Times::of(seen.on),
            off: Times::of(seen.off),
        })
    }

    /// The next pulse; its phase wanders, so that no beat of the machine is met or missed each time.
    fn plan(&mut self, begin: Instant) -> PulsePlan {
        let number = self.next;
        self.next += 1;
        let on_at = begin + Micros::new((number * 7_919 % 1_000) as i64);
        PulsePlan {
            pulse: PulseId(number),
            output: OutputId(0),
            on_at,
            off_at: on_at + self.length,
        }
    }

    /// The session ended because we were held up: what was told is lost, and it begins anew.
    fn resume(&mut self, seen: &mut Seen) -> Result<()> {
        seen.interruptions += 1;
        for told in seen.told.iter_mut().filter(|told| !told.over) {
            told.over = true;
            seen.over += 1;
            seen.missed += 1;
        }
        while !self.link.is_lost() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.link.respawn()?;
        self.wait_ready()
    }
}

impl Seen {
    fn note(&mut self, first: u64, event: &Event) {
        let Event::Pulse { pulse, report } = event else {
            return;
        };
        // A report of a run before this one has come too late to be counted.
        let told = pulse
            .0
            .checked_sub(first)
            .and_then(|at| self.told.get_mut(at as usize));
        let Some(told) = told.filter(|told| !told.over) else {
            return;
        };
        match *report {
            PulseReport::On { at } => {
                told.on = true;
                self.on.push(at.since(told.plan.on_at).get());
            }
            PulseReport::Off { at } => {
                told.over = true;
                self.over += 1;
                self.off.push(at.since(told.plan.off_at).get());
            }
            PulseReport::Refused(_) => {
                // One that was cut is over with its report of the end.
                if !told.on {
                    told.over = true;
                    self.over += 1;
                }
                self.missed += 1;
            }
        }
    }
}

/// Keeps the machine busy until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(disk: Option<&Path>) -> Result<Load> {
        let mut load = Load {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for core in 0..cores {
            load.spawn(move |stop| churn(stop, core as u64))?;
        }
        if let Some(folder) = disk {
            let path = folder.join(".elek-bench");
            let file = std::fs::File::create(&path);
            let file = file.with_context(|| format!("cannot write {}", path.display()))?;
            // Without a name it is gone with the process, whatever becomes of that.
            std::fs::remove_file(&path)?;
            load.spawn(move |stop| scribble(stop, &file))?;
        }
        Ok(load)
    }

    fn spawn(&mut self, work: impl FnOnce(&AtomicBool) + Send + 'static) -> Result<()> {
        let stop = Arc::clone(&self.stop);
        let thread = std::thread::Builder::new().name("load".into());
        self.threads.push(thread.spawn(move || work(&stop))?);
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A load that ended early has only loaded less.
            let _ = thread.join();
        }
    }
}

/// Arithmetic and memory traffic in turn.
fn churn(stop: &AtomicBool, seed: u64) {
    let mut memory = vec![0u64; TRAFFIC_BYTES / 8];
    let mut state = seed | 1;
    while !stop.load(Ordering::Relaxed) {
        for word in &mut memory {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = word.wrapping_add(state);
        }
        std::hint::black_box(&memory);
    }
}

/// Writes and waits until it is on the disk, again and again in the same place.
fn scribble(stop: &AtomicBool, file: &std::fs::File) {
    use std::os::unix::fs::FileExt;
    let block = vec![0x5a; DISK_BYTES];
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = file.write_all_at(&block, 0).and_then(|()| file.sync_data()) {
            tracing::warn!("the load cannot write: {error}");
            return;
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "elek {} on {}\nline {}, a pulse every {} ms\n",
        report.version, report.machine, report.line, report.period_ms
    );
    text += match (report.realtime, report.locked) {
        (true, true) => "the output process has real-time priority and locked memory\n",
        (true, false) => {
            "the output process has real-time priority, but its memory is not locked: see docs/REALTIME.md\n"
        }
        (false, _) => "the output process has NO real-time priority: see docs/REALTIME.md\n",
    };
    for run in &report.runs {
        text += &run_text(run, report.speed_mm_s);
    }
    text
}

fn run_text(run: &Run, speed_mm_s: f64) -> String {
    let mut text = format!("\nload: {}, {} pulses\n", run.load, run.pulses);
    text += &format!(
        "{:<12}{:>10}{:>10}{:>10}{:>10}\n",
        "late by, µs", "p50", "p99", "p99.9", "max"
    );
    for (name, t) in [("on", run.on), ("off", run.off)] {
        text += &format!(
            "{name:<12}{:>10}{:>10}{:>10}{:>10}\n",
            t.p50, t.p99, t.p999, t.max
        );
    }
    let most = run
        .histogram
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(0)
        .max(1);
    for (bound, count) in &run.histogram {
        let class = match bound {
            Some(us) => format!("< {us}"),
            None => format!(">= {}", BOUNDS_US[BOUNDS_US.len() - 1]),
        };
        // A class that is not empty shows, however small it is.
        let bar = (count * 50).div_ceil(most) as usize;
        text += &format!("{class:>12}{count:>10} {}\n", "#".repeat(bar));
    }
    let mm = |us: i64| us as f64 / 1e6 * speed_mm_s;
    let worst = run.on.max.max(run.off.max);
    let usual = run.on.p999.max(run.off.p999);
    text += &format!(
        "At {speed_mm_s:.0} mm/s the belt moves {:.3} mm in the worst of them, {:.3} mm in all but one of 1,000.\n",
        mm(worst),
        mm(usual)
    );
    if run.missed > 0 {
        text += &format!(
            "{} of {} pulses did NOT fire in time: this machine is not fit to reject with as it is set up.\n",
            run.missed, run.pulses
        );
    }
    if run.interruptions > 0 {
        text += &format!(
            "The outputs went safe {} times because the sender was held up for 95 ms.\n",
            run.interruptions
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_name_a_value_that_was_measured() {
        let times = Times::of((1..=1_000).rev().collect());
        assert_eq!(
            (times.p50, times.p99, times.p999, times.max),
            (500, 990, 999, 1_000)
        );
        assert_eq!(
            Times::of(vec![7]),
            Times {
                count: 1,
                p50: 7,
                p99: 7,
                p999: 7,
                max: 7
            }
        );
        assert_eq!(Times::of(Vec::new()), Times::default());
    }

    #[test]
    fn every_change_is_in_one_class() {
        let classes = histogram(&[-3, 0, 9, 10, 19, 9_999, 10_000, 80_000]);
        assert_eq!(classes[0], (Some(10), 3));
        assert_eq!(classes[1], (Some(20), 2));
        assert_eq!(classes[9], (Some(10_000), 1));
        assert_eq!(classes[10], (None, 2));
    }

    #[test]
    fn what_it_means_on_the_belt_is_said() {
        let run = Run {
            load: "idle",
            pulses: 10,
            missed: 1,
            interruptions: 0,
            on: Times::of(vec![100]),
            off: Times::of(vec![1_000]),
            histogram: histogram(&[100, 1_000]),
        };
        let text = run_text(&run, 600.0);
        assert!(text.contains("moves 0.600 mm in the worst"), "{text}");
        assert!(text.contains("1 of 10 pulses did NOT fire"), "{text}");
    }
}
