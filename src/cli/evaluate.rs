//! `elek evaluate`: labelled pictures through the station's own way from frame
//! to verdict, and how often that was right.
//!
//! It locates, inspects and judges as the station does; only the line around it
//! is missing. A picture that cannot be read is reported and counted, and the
//! next one follows.

mod interval;
mod labels;
mod picture;
mod tally;

use crate::config::{self, Config, Crop, Recipe};
use crate::infer::inspection::Inspection;
use crate::infer::inspector::{Inspector, Mask};
use crate::station::event::{Blob, InspectFault, NoResult, Verdict};
use crate::station::judge;
use crate::vision::frame::Frame;
use crate::vision::locate::Locator;
use anyhow::{Context, Result};
use arrayvec::ArrayVec;
use labels::Row;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use tally::Tally;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The station's TOML file: camera scale, crop, models and rules are taken from it.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Recipe to judge by, instead of the one in force at start.
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// CSV with the columns file, label and perhaps mask and split; or JSON with
    /// the keys names, train, val, test, the label being the end of the folder's name.
    #[arg(long, short, value_name = "FILE")]
    labels: PathBuf,
    /// Only the pictures of this split.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Labels of parts that belong on the belt (upper and lower case alike).
    #[arg(
        long,
        value_name = "LABEL",
        value_delimiter = ',',
        default_value = "good,normal,ok,free"
    )]
    good: Vec<String>,
    /// Grey value above which a pixel of a mask picture counts as defect.
    #[arg(long, value_name = "GREY", default_value_t = 30)]
    mask_above: u8,
    /// Write a line of JSON for each picture: scores, defects, verdict.
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What became of one picture.
struct Outcome {
    verdict: Verdict,
    /// In words: why it was rejected or remained unsure.
    words: String,
    /// The part would be taken off the belt.
    removed: bool,
    inspection: Inspection,
    /// With the true mask where both exist.
    dice: Option<Overlap>,
    /// Pixels of the mask that belong to a defect.
    marked: Option<usize>,
}

/// Pixels of two masks: marked in both, in the model's, in the true one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Overlap {
    both: u64,
    model: u64,
    truth: u64,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(report) => {
            eprint!("{report}");
            return Ok(ExitCode::from(2));
        }
    };
    let recipe = chosen_recipe(&config, args.recipe.as_deref())?;
    let rows = labels::read(&args.labels, args.split.as_deref())?;
    let mut way = Way::new(&config, recipe)?;
    let mut dump = match &args.dump {
        None => None,
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Some(BufWriter::new(file))
        }
    };
    let mut tally = Tally::new(&args.good);
    for row in &rows {
        match way.go(row, args.mask_above) {
            Ok(outcome) => {
                if let Some(dump) = &mut dump {
                    writeln!(dump, "{}", dump_line(row, &outcome, &way.recipe))?;
                }
                tally.add(row, &outcome, way.located());
            }
            Err(error) => tally.broken(row, format!("{error:#}")),
        }
    }
    if let Some(dump) = &mut dump {
        dump.flush()?;
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", tally.json())?;
    } else {
        write!(out, "{}", tally.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn chosen_recipe(config: &Config, name: Option<&str>) -> Result<Arc<Recipe>> {
    let Some(name) = name else {
        return Ok(config.recipes[usize::from(config.station.recipe.0)].clone());
    };
    let known = || {
        config
            .recipes
            .iter()
            .map(|r| r.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = config.recipes.iter().find(|r| r.name == name);
    found
        .cloned()
        .with_context(|| format!("there is no recipe {name:?}; the configuration has: {}", known()))
}

/// The station's way from a frame to a verdict.
struct Way {
    recipe: Arc<Recipe>,
    locator: Option<Locator>,
    inspector: Inspector,
}

impl Way {
    fn new(config: &Config, recipe: Arc<Recipe>) -> Result<Way> {
        // One camera for now, as the configuration's own check says.
        let camera = &config.cameras[0];
        let inspector = Inspector::load(&recipe, camera)?;
        let locator =
            matches!(recipe.crop, Crop::Part { .. }).then(|| Locator::new(camera.locate, camera, &recipe));
        Ok(Way {
            recipe,
            locator,
            inspector,
        })
    }

    fn located(&self) -> bool {
        self.locator.is_some()
    }

    /// An error means that the picture is broken.
    fn go(&mut self, row: &Row, mask_above: u8) -> Result<Outcome> {
        let frame = picture::read(&row.file)?;
        let truth = row
            .mask
            .as_ref()
            .map(|path| picture::read_mask(path, &frame, mask_above))
            .transpose()?;
        let start = Instant::now();
        let blob = match &mut self.locator {
            None => None,
            Some(locator) => {
                let mut blobs = ArrayVec::new();
                locator.locate(&frame, &mut blobs)?;
                match nearest_to_middle(&blobs, &frame) {
                    None => return Ok(self.judged(Err(NoResult::NotFound), None)),
                    found => found,
                }
            }
        };
        let locate_us = start.elapsed().as_micros().min(u128::from(u32::MAX)) as u32;
        let mut inspection = match self.inspector.inspect(&frame, blob) {
            Ok(inspection) => inspection,
            Err(InspectFault::Picture) => anyhow::bail!("the picture cannot be decoded"),
            Err(_) => return Ok(self.judged(Err(NoResult::Fault), None)),
        };
        inspection.times.locate_us = if self.located() { locate_us } else { 0 };
        let dice = truth
            .zip(self.inspector.inputs().mask)
            .map(|(truth, mask)| overlap(&mask, &truth, &frame));
        Ok(self.judged(Ok(inspection), dice))
    }

    fn judged(&self, inspected: Result<Inspection, NoResult>, dice: Option<Overlap>) -> Outcome {
        let recipe = &self.recipe;
        let (verdict, inspection) = match inspected {
            Ok(inspection) => (judge::judge(&recipe.rules, &inspection), inspection),
            Err(none) => (Verdict::NoResult(none), Inspection::default()),
        };
        let removed = match verdict {
            Verdict::Pass => false,
            Verdict::Reject(_) => true,
            Verdict::Unsure => recipe.otherwise.reject,
            Verdict::NoResult(_) => recipe.late_reject,
        };
        let marked = inspection
            .defects
            .as_ref()
            .and_then(|_| self.inspector.inputs().mask);
        let marked = marked.map(|mask| mask.classes.iter().filter(|c| **c != 0).count());
        Outcome {
            verdict,
            words: recipe.rules.explain(&verdict),
            removed,
            inspection,
            dice,
            marked,
        }
    }
}

/// Each picture shows one part; a neighbour at the edge is not the one meant.
fn nearest_to_middle(blobs: &[Blob], frame: &Frame) -> Option<Blob> {
    let distance = |b: &Blob| {
        let dx = 2 * i64::from(b.x) + i64::from(b.width) - i64::from(frame.width);
        let dy = 2 * i64::from(b.y) + i64::from(b.height) - i64::from(frame.height);
        dx * dx + dy * dy
    };
    blobs
        .iter()
        .filter(|b| !b.cut)
        .min_by_key(|b| distance(b))
        .copied()
}

/// Compares at the model's resolution, what lies inside the picture; `truth` has the picture's size.
fn overlap(mask: &Mask<'_>, truth: &[bool], frame: &Frame) -> Overlap {
    let (size, view) = (i64::from(mask.size), mask.view);
    let (width, height) = (i64::from(frame.width), i64::from(frame.height));
    let place = |i: i64, start: i32, extent: u32| {
        i64::from(start) + ((2 * i + 1) * i64::from(extent)).div_euclid(2 * size)
    };
    let mut overlap = Overlap::default();
    for j in 0..size {
        for i in 0..size {
            let (x, y) = (place(i, view.x, view.width), place(j, view.y, view.height));
            if !(0..width).contains(&x) || !(0..height).contains(&y) {
                continue;
            }
            let model = mask.classes[(j * size + i) as usize] != 0;
            let truth = truth[(y * width + x) as usize];
            overlap.both += u64::from(model && truth);
            overlap.model += u64::from(model);
            overlap.truth += u64::from(truth);
        }
    }
    overlap
}

impl Overlap {
    /// 2·|both| / (|model| + |truth|); `None` where nothing is to be found.
    fn dice(self) -> Option<f64> {
        (self.truth > 0).then(|| 2.0 * self.both as f64 / (self.model + self.truth) as f64)
    }
}

fn dump_line(row: &Row, outcome: &Outcome, recipe: &Recipe) -> serde_json::Value {
    let by_label = |labels: &[String], value: &dyn Fn(usize) -> serde_json::Value| -> serde_json::Value {
        labels
            .iter()
            .enumerate()
            .map(|(i, label)| (label.clone(), value(i)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let scores = outcome.inspection.scores.as_ref().zip(recipe.classify.as_ref());
    let defects = outcome.inspection.defects.as_ref().zip(recipe.segment.as_ref());
    serde_json::json!({
        "file": row.name,
        "label": row.label,
        "verdict": tally::word(&outcome.verdict),
        "words": outcome.words,
        "removed": outcome.removed,
        "scores": scores.map(|(scores, model)| by_label(&model.labels, &|i| scores[i].into())),
        "defects": defects.map(|(defects, model)| {
            by_label(&model.labels, &|i| serde_json::to_value(defects.classes[i]).unwrap_or_default())
        }),
        "mask_pixels": outcome.marked,
        "dice": outcome.dice.and_then(Overlap::dice),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::frame::PixelFormat;
    use crate::vision::preprocess::View;

    fn frame(width: u32, height: u32) -> Frame {
        Frame::new(PixelFormat::Grey, width, height, Vec::new())
    }

    #[test]
    fn masks_are_compared_where_the_model_looked() {
        // A view of 4 × 4 picture pixels at (2, 1), seen as 2 × 2; the last column lies outside.
        let view = View {
            x: 2,
            y: 1,
            width: 4,
            height: 4,
            um_per_input_px: None,
        };
        let mask = Mask {
            size: 2,
            classes: &[1, 1, 0, 2],
            view,
        };
        let mut truth = vec![false; 5 * 6];
        truth[2 * 5 + 3] = true; // under the mask's (0, 0), whose middle is at (3, 2)
        truth[4 * 5 + 3] = true; // under (0, 1), which the model does not mark
        let found = overlap(&mask, &truth, &frame(5, 6));
        assert_eq!(
            found,
            Overlap {
                both: 1,
                model: 1,
                truth: 2
            }
        );
        assert_eq!(found.dice(), Some(2.0 / 3.0));
        assert_eq!(
            Overlap {
                model: 3,
                ..Overlap::default()
            }
            .dice(),
            None
        );
    }

    #[test]
    fn the_part_in_the_middle_is_meant() {
        let blob = |x, cut| Blob {
            x,
            y: 40,
            width: 20,
            height: 20,
            area_px: 400,
            cut,
        };
        let blobs = [blob(0, true), blob(45, false), blob(10, false)];
        assert_eq!(nearest_to_middle(&blobs, &frame(100, 100)), Some(blobs[1]));
        assert_eq!(nearest_to_middle(&blobs[..1], &frame(100, 100)), None);
    }
}
