//! Counting verdicts against labels, and saying the result.

use super::interval::Share;
use super::labels::Row;
use super::{Outcome, Overlap};
use crate::station::event::Verdict;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Of this many broken pictures the names are printed.
const BROKEN_SHOWN: usize = 10;

/// Columns of the confusion matrix.
const VERDICTS: [&str; 4] = ["pass", "reject", "unsure", "no result"];

/// A verdict in a word, as in [`VERDICTS`].
pub fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => VERDICTS[0],
        Verdict::Reject(_) => VERDICTS[1],
        Verdict::Unsure => VERDICTS[2],
        Verdict::NoResult(_) => VERDICTS[3],
    }
}

/// Everything counted over a folder.
pub struct Tally {
    good: Vec<String>,
    by_label: BTreeMap<String, Line>,
    broken: Vec<(String, String)>,
    dice: Vec<f64>,
    /// Pictures with a true defect in a mask, but settled without the model's.
    unmasked: u64,
    /// µs per stage, of the pictures that went through it.
    times: BTreeMap<Stage, Vec<u32>>,
}

/// A row of the confusion matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    good: bool,
    verdicts: [u64; 4],
    removed: u64,
}

/// In the order of a part's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Locate,
    Preprocess,
    Classify,
    Segment,
    Regions,
    Total,
}

/// Nearest-rank percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    runs: usize,
    p50_us: u32,
    p99_us: u32,
    max_us: u32,
}

impl Line {
    fn pictures(&self) -> u64 {
        self.verdicts.iter().sum()
    }
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Stage::Locate => "locate",
            Stage::Preprocess => "preprocess",
            Stage::Classify => "classify",
            Stage::Segment => "segment",
            Stage::Regions => "regions",
            Stage::Total => "total",
        }
    }
}

impl Tally {
    pub fn new(good: &[String]) -> Tally {
        Tally {
            good: good.iter().map(|g| g.trim().to_lowercase()).collect(),
            by_label: BTreeMap::new(),
            broken: Vec::new(),
            dice: Vec::new(),
            unmasked: 0,
            times: BTreeMap::new(),
        }
    }

    pub fn broken(&mut self, row: &Row, error: String) {
        self.broken.push((row.name.clone(), error));
    }

    pub fn add(&mut self, row: &Row, outcome: &Outcome, located: bool) {
        let good = self.good.contains(&row.label.to_lowercase());
        let line = self.by_label.entry(row.label.clone()).or_insert(Line {
            good,
            ..Line::default()
        });
        let verdict = word(&outcome.verdict);
        for (count, _) in line
            .verdicts
            .iter_mut()
            .zip(VERDICTS)
            .filter(|(_, v)| *v == verdict)
        {
            *count += 1;
        }
        line.removed += u64::from(outcome.removed);
        match outcome.dice {
            Some(overlap) => self.dice.extend(Overlap::dice(overlap)),
            None => self.unmasked += u64::from(row.mask.is_some() && !good),
        }
        self.add_times(outcome, located);
    }

    fn add_times(&mut self, outcome: &Outcome, located: bool) {
        let inspection = &outcome.inspection;
        let (scored, masked) = (inspection.scores.is_some(), inspection.defects.is_some());
        let t = inspection.times;
        let stages = [
            (located, Stage::Locate, t.locate_us),
            (true, Stage::Preprocess, t.preprocess_us),
            (scored, Stage::Classify, t.classify_us),
            (masked, Stage::Segment, t.segment_us),
            (masked, Stage::Regions, t.regions_us),
        ];
        if !scored && !masked {
            return;
        }
        let total = stages.iter().map(|s| s.2).fold(0, u32::saturating_add);
        for (ran, stage, us) in stages.into_iter().chain([(true, Stage::Total, total)]) {
            if ran {
                self.times.entry(stage).or_default().push(us);
            }
        }
    }

    fn count(&self, good: bool, of: impl Fn(&Line) -> u64) -> u64 {
        self.by_label
            .values()
            .filter(|line| line.good == good)
            .map(of)
            .sum()
    }

    /// Bad parts that would stay on the belt.
    fn escapes(&self) -> Share {
        let bad = self.count(false, Line::pictures);
        Share::new(bad - self.count(false, |line| line.removed), bad)
    }

    /// Good parts that would be taken off.
    fn false_rejects(&self) -> Share {
        Share::new(
            self.count(true, |line| line.removed),
            self.count(true, Line::pictures),
        )
    }

    fn mean_dice(&self) -> Option<f64> {
        (!self.dice.is_empty()).then(|| self.dice.iter().sum::<f64>() / self.dice.len() as f64)
    }

    pub fn json(&self) -> serde_json::Value {
        let labels: serde_json::Map<_, _> = self
            .by_label
            .iter()
            .map(|(label, line)| {
                let mut entry: serde_json::Map<_, _> = VERDICTS
                    .iter()
                    .zip(line.verdicts)
                    .map(|(v, n)| (v.replace(' ', "_"), n.into()))
                    .collect();
                entry.insert("good".into(), line.good.into());
                entry.insert("removed".into(), line.removed.into());
                (label.clone(), entry.into())
            })
            .collect();
        let times: serde_json::Map<_, _> = self
            .times
            .iter()
            .map(|(stage, us)| (stage.word().to_owned(), spread(us).into_json()))
            .collect();
        let broken: Vec<_> = self
            .broken
            .iter()
            .map(|(file, error)| serde_json::json!({ "file": file, "error": error }))
            .collect();
        serde_json::json!({
            "pictures": self.count(true, Line::pictures) + self.count(false, Line::pictures),
            "broken": broken,
            "labels": labels,
            "interval": "Clopper-Pearson, 95 %",
            "escapes": self.escapes(),
            "false_rejects": self.false_rejects(),
            "dice": { "mean": self.mean_dice(), "pictures": self.dice.len(), "without_mask": self.unmasked },
            "times": times,
        })
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        self.write_broken(out)?;
        let wide = self
            .by_label
            .keys()
            .map(|l| l.chars().count())
            .max()
            .unwrap_or(0)
            .max(5);
        write!(out, "{:<wide$}      ", "label")?;
        for verdict in VERDICTS {
            write!(out, "{verdict:>11}")?;
        }
        writeln!(out, "{:>17}", "off the belt")?;
        for (label, line) in &self.by_label {
            write!(out, "{label:<wide$}  {}", if line.good { "good" } else { "bad " })?;
            for n in line.verdicts {
                write!(out, "{n:>11}")?;
            }
            writeln!(out, "{:>17}", format!("{} of {}", line.removed, line.pictures()))?;
        }
        writeln!(out)?;
        for (name, share, meaning) in [
            ("escapes", self.escapes(), "bad parts that would stay on the belt"),
            (
                "false rejects",
                self.false_rejects(),
                "good parts that would be taken off",
            ),
        ] {
            if share.of == 0 {
                let kind = if name == "escapes" { "bad" } else { "good" };
                writeln!(
                    out,
                    "{name:<14} no picture is labelled as a {kind} part (see --good)"
                )?;
                continue;
            }
            let percent = 100.0 * share.count as f64 / share.of as f64;
            writeln!(
                out,
                "{name:<14} {} of {}, {percent:.1} % (95 % Clopper-Pearson interval {:.1} to {:.1} %): {meaning}",
                share.count,
                share.of,
                100.0 * share.low,
                100.0 * share.high
            )?;
        }
        if let Some(dice) = self.mean_dice() {
            let rest = match self.unmasked {
                0 => String::new(),
                n => format!("; {n} more were settled without the mask"),
            };
            writeln!(
                out,
                "mask Dice      {dice:.3} on average over {} pictures with a true defect{rest}",
                self.dice.len()
            )?;
        }
        self.write_times(out)
    }

    fn write_broken(&self, out: &mut String) -> std::fmt::Result {
        if self.broken.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "{} pictures could not be read and are not counted below:",
            self.broken.len()
        )?;
        for (file, error) in self.broken.iter().take(BROKEN_SHOWN) {
            writeln!(out, "  {file}: {error}")?;
        }
        if self.broken.len() > BROKEN_SHOWN {
            writeln!(
                out,
                "  … and {} more (all with --json)",
                self.broken.len() - BROKEN_SHOWN
            )?;
        }
        writeln!(out)
    }

    fn write_times(&self, out: &mut String) -> std::fmt::Result {
        if self.times.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:<12}{:>8}{:>11}{:>11}{:>11}",
            "stage", "runs", "p50 ms", "p99 ms", "max ms"
        )?;
        for (stage, us) in &self.times {
            let s = spread(us);
            let ms = |us: u32| f64::from(us) / 1000.0;
            let (p50, p99, max) = (ms(s.p50_us), ms(s.p99_us), ms(s.max_us));
            writeln!(
                out,
                "{:<12}{:>8}{p50:>11.2}{p99:>11.2}{max:>11.2}",
                stage.word(),
                s.runs
            )?;
        }
        Ok(())
    }
}

impl Spread {
    fn into_json(self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

fn spread(us: &[u32]) -> Spread {
    let mut sorted = us.to_vec();
    sorted.sort_unstable();
    let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
    Spread {
        runs: sorted.len(),
        p50_us: rank(50),
        p99_us: rank(99),
        max_us: rank(100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::inspection::Inspection;
    use crate::station::event::{NoResult, Reason};

    fn add(tally: &mut Tally, label: &str, verdict: Verdict, removed: bool, dice: Option<Overlap>) {
        let row = Row {
            name: "a.png".into(),
            file: "a.png".into(),
            label: label.into(),
            mask: Some("m.png".into()),
        };
        let mut inspection = Inspection {
            scores: Some([0.5f32].into_iter().collect()),
            ..Inspection::default()
        };
        inspection.times.classify_us = 1500;
        let outcome = Outcome {
            verdict,
            words: String::new(),
            removed,
            inspection,
            dice,
            marked: None,
        };
        tally.add(&row, &outcome, false);
    }

    fn some() -> Tally {
        let mut tally = Tally::new(&["Good".into()]);
        let reject = Verdict::Reject(Reason {
            rule: 0,
            measured: 0.9,
        });
        add(&mut tally, "good", Verdict::Pass, false, None);
        add(&mut tally, "good", Verdict::Unsure, true, None);
        add(
            &mut tally,
            "scratch",
            reject,
            true,
            Some(Overlap {
                both: 1,
                model: 2,
                truth: 2,
            }),
        );
        add(&mut tally, "scratch", Verdict::Unsure, false, None);
        add(
            &mut tally,
            "dent",
            Verdict::NoResult(NoResult::NotFound),
            true,
            None,
        );
        let broken = Row {
            name: "b.png".into(),
            file: "b.png".into(),
            label: "good".into(),
            mask: None,
        };
        tally.broken(&broken, "the file is empty".into());
        tally
    }

    #[test]
    fn an_escape_is_what_stays_and_a_false_reject_what_goes() {
        let json = some().json();
        assert_eq!(json["pictures"], 5);
        assert_eq!(
            (&json["escapes"]["count"], &json["escapes"]["of"]),
            (&1.into(), &3.into())
        );
        assert_eq!(
            (&json["false_rejects"]["count"], &json["false_rejects"]["of"]),
            (&1.into(), &2.into())
        );
        assert_eq!(json["labels"]["scratch"]["unsure"], 1);
        assert_eq!(json["labels"]["dent"]["no_result"], 1);
        assert_eq!(json["broken"][0]["error"], "the file is empty");
        assert_eq!(json["dice"]["mean"], 0.5);
        assert_eq!(json["times"]["classify"]["p50_us"], 1500);
    }

    #[test]
    fn the_text_says_the_same_to_people() {
        let text = some().text();
        for line in [
            "1 pictures could not be read and are not counted below:",
            "  b.png: the file is empty",
            "good     good          1          0          1          0           1 of 2",
            "scratch  bad           0          1          1          0           1 of 2",
            "dent     bad           0          0          0          1           1 of 1",
            "mask Dice      0.500 on average over 1 pictures with a true defect; 2 more were settled without the mask",
            "classify           5       1.50       1.50       1.50",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in:\n{text}");
        }
        assert!(
            text.contains("escapes        1 of 3, 33.3 % (95 % Clopper-Pearson interval 0.8 to 90.6 %)"),
            "{text}"
        );
    }

    #[test]
    fn percentiles_are_of_the_values_seen() {
        let us: Vec<u32> = (1..=200).collect();
        assert_eq!(
            spread(&us),
            Spread {
                runs: 200,
                p50_us: 100,
                p99_us: 198,
                max_us: 200
            }
        );
        assert_eq!(
            spread(&[7]),
            Spread {
                runs: 1,
                p50_us: 7,
                p99_us: 7,
                max_us: 7
            }
        );
    }
}
