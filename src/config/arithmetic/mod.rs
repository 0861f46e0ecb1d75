//! The arithmetic of a station: what cannot work although every value is in range.
//!
//! Each check is a [`Finding`]: the numbers, what they mean in plain words, and
//! what to change. `elek check` prints all of them; those of level `Error` make
//! the station impossible and are refused at load as well, so that the two can
//! never disagree.
//!
//! Terms: *pitch* = leading edge to leading edge, smallest = `part_mm.min + gap_min_mm`.
//! All lengths are along the belt. The formulas are those of the design document,
//! "Arithmetic of a station".

mod network;
mod picture;
mod timing;

pub use network::Soc;
pub use timing::merged_pulse;

use super::{Camera, CheckAction, Config, OnFault, PanelBus, Recipe};
use crate::units::Micros;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// Works, but worse than a person may think.
    Warn,
    /// Cannot work.
    Error,
}

/// One result of the arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What was reckoned, in a word or two.
    pub title: String,
    /// The key of the configuration that it is about, dotted.
    pub key: String,
    pub numbers: String,
    /// What the numbers mean; for an error, what cannot work and why.
    pub words: String,
    /// What to change; empty when all is well.
    pub advice: String,
    /// Beside the caret.
    #[serde(skip)]
    pub label: String,
}

/// What the arithmetic needs beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Size of the first picture of a folder source.
    pub folder_picture: Option<(u32, u32)>,
    /// The box's kind of core, when the networks are to be reckoned too.
    pub soc: Option<Soc>,
    /// Processors of the box, where it is this one.
    pub processors: Option<usize>,
}

/// A finding whose level is not decided yet.
struct Draft {
    title: &'static str,
    key: String,
    numbers: String,
}

fn draft(title: &'static str, key: impl Into<String>, numbers: impl Into<String>) -> Draft {
    Draft {
        title,
        key: key.into(),
        numbers: numbers.into(),
    }
}

impl Draft {
    fn ok(self, words: &str) -> Finding {
        self.finish(Level::Ok, words, "", "")
    }
    fn warn(self, words: &str, advice: &str) -> Finding {
        self.finish(Level::Warn, words, advice, "")
    }
    /// `label` stands beside the caret, `words` say what cannot work.
    fn error(self, label: &str, words: &str, advice: &str) -> Finding {
        self.finish(Level::Error, words, advice, label)
    }
    fn finish(self, level: Level, words: &str, advice: &str, label: &str) -> Finding {
        Finding {
            level,
            title: self.title.to_owned(),
            key: self.key,
            numbers: self.numbers,
            words: words.to_owned(),
            advice: advice.to_owned(),
            label: label.to_owned(),
        }
    }
}

/// What most formulas are about: one recipe on this belt, under this camera.
struct Line<'a> {
    config: &'a Config,
    camera: &'a Camera,
    recipe: &'a Recipe,
    facts: &'a Facts,
}

impl Line<'_> {
    fn recipe_key(&self, key: &str) -> String {
        format!("recipe.{}.{key}", self.recipe.name)
    }
    fn camera_key(&self, key: &str) -> String {
        format!("camera.{}.{key}", self.camera.name)
    }
    fn reject_key(&self, key: &str) -> String {
        format!("reject.{}.{key}", self.config.reject.name)
    }
}

/// Does all of the arithmetic, per recipe where it depends on the recipe.
pub fn check(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(camera) = config.cameras.first() else {
        return findings;
    };
    picture::camera(config, camera, &mut findings);
    timing::encoder(config, &mut findings);
    for recipe in &config.recipes {
        let line = Line {
            config,
            camera,
            recipe,
            facts,
        };
        let first = findings.len();
        timing::recipe(&line, &mut findings);
        picture::recipe(&line, &mut findings);
        network::recipe(&line, &mut findings);
        if config.recipes.len() > 1 {
            for finding in &mut findings[first..] {
                finding.numbers = format!("{}: {}", recipe.name, finding.numbers);
            }
        }
    }
    threads(config, facts, &mut findings);
    proof(config, &mut findings);
    panel(config, &mut findings);
    findings
}

/// Whether there is a processor for each thread of an inference.
fn threads(config: &Config, facts: &Facts, out: &mut Vec<Finding>) {
    let threads = config.inference.threads;
    let Some(processors) = facts.processors.filter(|_| threads > 1) else {
        return;
    };
    let numbers = format!("{threads} threads share an inference; elek may use {processors} processors");
    let draft = draft("inference threads", "inference.threads", numbers);
    out.push(if threads > processors {
        draft.error(
            "more than there are processors",
            "threads that wait for each other's processor make an inference slower",
            &format!("write at most {processors}; for another box than this one, name its core with --soc"),
        )
    } else {
        draft.ok("a processor for each")
    });
}

/// The display is drawn once a second; a panel that needs longer for a whole picture lags behind.
const PANEL_SLOW: Micros = Micros::from_millis(500);

fn panel(config: &Config, out: &mut Vec<Finding>) {
    let Some(panel) = &config.display.panel else {
        return;
    };
    let bus = match &panel.bus {
        PanelBus::Spi { hz, .. } => format!("{} MHz", f64::from(*hz) / 1e6),
        PanelBus::I2c { .. } => "400 kHz".to_owned(),
    };
    let (width, height) = panel.size();
    let full = panel.full_picture();
    let numbers = format!("{width} × {height} at {bus}: {:.0} ms", full.as_millis_f64());
    let draft = draft("panel", "display.panel", numbers);
    out.push(match &panel.bus {
        _ if full > PANEL_SLOW => draft.warn(
            "a whole picture takes so long; pages turn slowly",
            "raise spi_mhz as far as panel and wires allow",
        ),
        PanelBus::Spi { .. } => draft.ok("a whole picture takes so long; then only what changed is sent"),
        PanelBus::I2c { .. } => draft.ok(
            "a whole picture takes so long (four times that at 100 kHz, as most boards come); then only what \
             changed is sent",
        ),
    });
}

/// What the station cannot prove or does not stop for.
fn proof(config: &Config, out: &mut Vec<Finding>) {
    let verify = &config.verify;
    if verify.chute.is_none() {
        out.push(draft("reject proof", "verify", "no [verify.chute]").warn(
            "nobody sees whether a rejected part really left the belt; such rejects count as unconfirmed",
            "fit a sensor at the chute and add [verify.chute]",
        ));
    }
    match &verify.passed {
        None => out.push(draft("pass proof", "verify", "no [verify.passed]").warn(
            "an escaped part is not noticed; the display says \"passed: not verified\"",
            "fit a photo-eye after the reject and add [verify.passed]",
        )),
        Some(eye) => {
            let reach = eye.distance + eye.window + config.belt.coast;
            let numbers = format!(
                "{} + {} + {} = {reach}",
                eye.distance, eye.window, config.belt.coast
            );
            out.push(draft("escape stop", "verify.passed.distance_mm", numbers).ok(
                "so far behind the photo-eye an escaped part comes to rest; the belt must not end before",
            ));
        }
    }
    let stops = [
        (
            config.station.on_fault == OnFault::Alarm,
            "station.on_fault",
            "a fault",
        ),
        (
            verify
                .chute
                .as_ref()
                .is_some_and(|c| c.missing == CheckAction::Alarm),
            "verify.chute.missing",
            "a reject that was not seen",
        ),
        (
            verify
                .passed
                .as_ref()
                .is_some_and(|p| p.reject_seen == CheckAction::Alarm),
            "verify.passed.reject_seen",
            "an escaped part",
        ),
    ];
    for (runs_on, key, what) in stops {
        if runs_on {
            out.push(draft("runs on", key, "action \"alarm\"").warn(
                &format!("the belt runs on after {what}"),
                "write \"stop_belt\" unless something else holds these parts back",
            ));
        }
    }
    for recipe in &config.recipes {
        for (passes, key, what) in [
            (
                !recipe.otherwise.reject,
                "otherwise",
                "a part that is neither proven good nor bad",
            ),
            (
                !recipe.late_reject,
                "late_result",
                "a part without a result in time",
            ),
        ] {
            if passes {
                let key = format!("recipe.{}.{key}", recipe.name);
                out.push(draft("unproven parts", key, "action \"pass\"").warn(
                    &format!("{what} stays on the belt"),
                    "write \"reject\" unless somebody looks at these parts again",
                ));
            }
        }
    }
}
