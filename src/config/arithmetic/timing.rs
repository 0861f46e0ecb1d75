//! Belt, trigger, reject and eyes: when things happen and whether there is time for them.

use super::super::{
    Belt, Camera, CameraMode, CameraSource, CheckAction, Config, EncoderSource, Motion, Recipe, Reject,
    Trigger,
};
use super::{Finding, Line, draft};
use crate::station::SAFETY;
use crate::units::{Length, Micros, Speed};

/// How late an output may switch without real-time priority on a loaded box.
const OUTPUT_JITTER: Micros = Micros::from_millis(1);
/// GPIO edges are counted one interrupt each; beyond this a small box loses some.
const LINE_EDGES_PER_S_MAX: f64 = 2_000.0;

/// The ledger holds at most 512 parts, and keeps as much room for parts that
/// are not where they should be as for those that are.
const PARTS_MAX: u32 = 250;

/// How long the belt takes at a speed that a valid configuration allows (never zero).
pub(super) fn time_for(speed: Speed, distance: Length) -> Micros {
    speed.time_for(distance).unwrap_or(Micros::MAX)
}

pub(super) fn encoder(config: &Config, out: &mut Vec<Finding>) {
    let Motion::Encoder {
        counts_per_mm,
        source,
        ..
    } = &config.belt.motion
    else {
        return;
    };
    let key = "belt.encoder.pulses_per_mm";
    let per_s = counts_per_mm * config.belt.speed_max.as_mm_per_s();
    let step = 1.0 / counts_per_mm;
    let numbers = format!(
        "{counts_per_mm} per mm × {} = {per_s:.0} edges/s, one step is {step:.2} mm",
        config.belt.speed_max
    );
    let finding = draft("encoder", key, numbers);
    let edges_per_s = match source {
        // Both edges of a single line interrupt, and only one of them counts.
        EncoderSource::Lines { b: None, .. } => 2.0 * per_s,
        EncoderSource::Lines { b: Some(_), .. } => per_s,
        EncoderSource::Counter(_) | EncoderSource::Simulated => 0.0,
    };
    out.push(if edges_per_s > LINE_EDGES_PER_S_MAX {
        finding.error(
            "too many edges per second",
            "so many encoder edges cannot be counted on GPIO lines; some would be lost and every place be wrong",
            "use a counter device (source = { counter = … }), a coarser encoder, or a slower belt; \
             lines count at most 2000 edges/s, and of a single line every other edge counts",
        )
    } else if step > 1.0 {
        finding.warn(
            "the belt's place is known no better than this step",
            "use an encoder with at least one pulse per mm",
        )
    } else {
        finding.ok("fine enough, and slow enough to count")
    });
}

pub(super) fn recipe(line: &Line<'_>, out: &mut Vec<Finding>) {
    rate(line, out);
    deadline(line, out);
    in_flight(line, out);
    gap(line, out);
    on_time(line, out);
    chute(line, out);
    passed(line, out);
    debounce(line, out);
}

fn rate(line: &Line<'_>, out: &mut Vec<Finding>) {
    let fastest = line.config.belt.speed_max;
    let pitch = line.recipe.pitch_min();
    let per_s = fastest.as_mm_per_s() / pitch.as_mm_f64();
    let numbers = format!(
        "{fastest} / {pitch} = {per_s:.1} parts/s, one every {}",
        time_for(fastest, pitch)
    );
    let finding = draft("rate", line.recipe_key("gap_min_mm"), numbers);
    let fed = match &line.camera.source {
        CameraSource::Simulated(source) => source.parts_per_s,
        CameraSource::Folder(source) => source.parts_per_s,
        CameraSource::V4l2(_) => 0.0,
    };
    out.push(if fed > per_s {
        finding.error(
            "a longer pitch than the parts have room for",
            &format!("{fed} parts/s do not fit on this belt with the gap that the recipe promises"),
            "lower parts_per_s of the camera's source, lower gap_min_mm, or raise belt.speed_mm_s.max",
        )
    } else {
        finding.ok("the most the station has to keep up with")
    });
}

/// Time from mid-exposure to the last moment a reject can be planned, on the fastest belt.
fn time_to_plan(line: &Line<'_>) -> Micros {
    let (config, recipe) = (line.config, line.recipe);
    let fastest = config.belt.speed_max;
    // The part is in the middle of the picture, or up to half a frame's travel past it.
    let beat = match line.camera.mode {
        CameraMode::FreeRunning { fps_milli } => fastest
            .travel(Micros::new(1_000_000_000 / i64::from(fps_milli.max(1))))
            .half(),
        CameraMode::Triggered => Length::ZERO,
    };
    let seen_at = line.camera.distance + recipe.part_max.half() + beat;
    let way = config.reject.distance + recipe.aim - seen_at;
    time_for(fastest, way) - config.reject.lag_on - config.reject.lag_spread - SAFETY
}

/// From mid-exposure until the last row is read out; the transfer comes on top.
pub(super) fn camera_takes(camera: &Camera) -> Micros {
    Micros::new(camera.exposure.get() / 2) + camera.readout.unwrap_or(Micros::ZERO)
}

fn deadline(line: &Line<'_>, out: &mut Vec<Finding>) {
    let (config, recipe) = (line.config, line.recipe);
    let left = time_to_plan(line);
    let numbers = format!(
        "at {} the reject must be planned {left} after mid-exposure; decide_within_ms allows {}",
        config.belt.speed_max, recipe.decide_within
    );
    let finding = draft("deadline", line.recipe_key("decide_within_ms"), numbers);
    let camera = camera_takes(line.camera);
    out.push(if recipe.decide_within <= camera {
        finding.error(
            "shorter than the camera takes",
            &format!("the picture itself is only there {camera} after mid-exposure"),
            "allow more time, or use a shorter exposure or a camera that is read out faster",
        )
    } else if left <= Micros::ZERO {
        finding.error(
            "no time at all",
            "the part is at the reject before its picture is taken",
            "put the reject further behind the camera, or correct the two distance_mm",
        )
    } else if recipe.decide_within > left {
        finding.error(
            "longer than the belt gives",
            "a verdict that takes as long as allowed comes after the part has reached the reject",
            &format!(
                "allow at most {:.0} ms, move the reject away from the camera, or slow the belt",
                left.as_millis_f64().floor()
            ),
        )
    } else {
        finding.ok(&format!("{} are left for bad luck", left - recipe.decide_within))
    });
}

fn in_flight(line: &Line<'_>, out: &mut Vec<Finding>) {
    let config = line.config;
    let last = match &config.verify.passed {
        Some(eye) => eye.distance + eye.window,
        None => config.reject.distance + config.reject.footprint.half(),
    } + line.recipe.part_max;
    let pitch = line.recipe.pitch_min();
    let parts = (last.as_mm_f64() / pitch.as_mm_f64()).ceil() + 1.0;
    let numbers = format!("{last} / {pitch} → {parts:.0} parts");
    let most = PARTS_MAX;
    let finding = draft("parts in flight", line.recipe_key("gap_min_mm"), numbers);
    out.push(if parts > f64::from(most) {
        finding.error(
            "too many parts at once",
            &format!("the ledger holds {most} parts; further ones would go by unjudged"),
            "shorten the way from photo-eye to the last sensor, or ask for a larger gap",
        )
    } else {
        finding.ok(&format!("the ledger holds {most}"))
    });
}

/// Whether a reject leaves the neighbours alone.
fn gap(line: &Line<'_>, out: &mut Vec<Finding>) {
    let (config, recipe) = (line.config, line.recipe);
    let reject = &config.reject;
    let step = match &config.belt.motion {
        Motion::Encoder { counts_per_mm, .. } => {
            Length::from_mm_f64(1.0 / counts_per_mm).unwrap_or(Length::ZERO)
        }
        Motion::Time { .. } => Length::ZERO,
    };
    let fastest = config.belt.speed_max;
    let drift = fastest.travel(reject.lag_spread + OUTPUT_JITTER) + step;
    let half = reject.footprint.half();
    // What the pulse reaches behind the part, and, with an early aim, ahead of it.
    let shortest_pulse = recipe.aim + fastest.travel(recipe.pulse_min) - recipe.part_min;
    let behind = half + recipe.pulse_margin.max(shortest_pulse);
    let ahead = half - recipe.aim;
    let nominal = behind.max(ahead);
    let needed = nominal + drift;
    let numbers = format!(
        "{nominal} for the pulse + {drift} for its scatter = {needed}; gap {}",
        recipe.gap_min
    );
    let finding = draft("gap", line.recipe_key("gap_min_mm"), numbers);
    let advice = "ask for a larger gap, or use a smaller footprint, a shorter pulse or a faster actuator";
    out.push(if nominal > recipe.gap_min {
        finding.error(
            "smaller than the reject's reach",
            "every reject also hits the neighbour when the parts lie as close as allowed",
            advice,
        )
    } else if needed > recipe.gap_min {
        finding.warn(
            "now and then a reject takes a good neighbour along (a collateral reject)",
            advice,
        )
    } else {
        finding.ok("a reject leaves its neighbours alone")
    });
}

/// How long a pulse is on for a part of this length on a belt of this speed.
fn pulse(v: Speed, length: Length, reject: &Reject, recipe: &Recipe) -> Micros {
    (time_for(v, length) + (reject.lag_on - reject.lag_off)).max(recipe.pulse_min)
}

/// Belt under the pulse of the longest part.
fn pulse_length(recipe: &Recipe) -> Length {
    recipe.part_max + recipe.pulse_margin - recipe.aim
}

/// The longest that `run` rejects in a row can keep the actuator on, or `None` if pulses of
/// neighbours never merge. They do when windows meet on the belt, or when the command to stop
/// would come after the next one to start.
pub fn merged_pulse(belt: &Belt, reject: &Reject, recipe: &Recipe, run: u32) -> Option<Micros> {
    let lags = reject.lag_on - reject.lag_off;
    let merged_at = |v: Speed| {
        // Gaps up to this one are bridged.
        let bridged = (recipe.pulse_margin - recipe.aim + v.travel(lags))
            .max(v.travel(recipe.pulse_min) - recipe.part_min);
        let gap = (bridged >= recipe.gap_min).then_some(bridged.max(Length::ZERO))?;
        let before = (recipe.part_max + gap).as_micrometres();
        let before = before.saturating_mul(i64::from(run.saturating_sub(1)));
        let length = before.saturating_add(pulse_length(recipe).as_micrometres());
        Some(pulse(v, Length::from_micrometres(length), reject, recipe))
    };
    let longest = merged_at(belt.speed_min).max(merged_at(belt.speed_max))?;
    // The last reject of the run stops the belt, and parts behind it still come while it coasts: evenly
    // braked, it takes twice as long for that way as at full speed.
    Some(longest + time_for(belt.speed_max, belt.coast) + time_for(belt.speed_max, belt.coast))
}

/// The longest pulse, alone and merged with those of its neighbours.
fn on_time(line: &Line<'_>, out: &mut Vec<Finding>) {
    let (config, recipe) = (line.config, line.recipe);
    let reject = &config.reject;
    let slowest = config.belt.speed_min;
    let longest = pulse(slowest, pulse_length(recipe), reject, recipe);
    let key = line.reject_key("line.max_on_ms");
    let numbers = format!(
        "at {slowest} a pulse takes {longest}; max_on_ms is {}",
        reject.max_on
    );
    let finding = draft("longest pulse", key.clone(), numbers);
    if longest > reject.max_on {
        let advice = format!(
            "allow at least {:.0} ms, or a faster smallest speed",
            longest.as_millis_f64().ceil()
        );
        out.push(finding.error(
            "shorter than one pulse",
            "the pulse for the longest part on the slowest belt would be cut, which is a fault",
            &advice,
        ));
        return;
    }
    let limit = config
        .verify
        .consecutive_rejects
        .filter(|limit| limit.action == CheckAction::StopBelt);
    let run = limit.map_or(1, |limit| limit.count);
    let Some(merged) = merged_pulse(&config.belt, reject, recipe, run) else {
        out.push(finding.ok("long enough; pulses of neighbours never merge"));
        return;
    };
    if limit.is_none() {
        out.push(finding.error(
            "pulses can merge without end",
            "rejects in a row become one pulse, and nothing limits how many: it would reach max_on_ms",
            "add `consecutive_rejects = { count = 5, action = \"stop_belt\" }` to [verify], \
             or keep pulses apart with a larger gap",
        ));
        return;
    }
    let numbers = format!(
        "{run} rejects in a row, and those behind them until the belt stands, merge to {merged}; \
         max_on_ms is {}",
        reject.max_on
    );
    let finding = draft("longest pulse", key, numbers);
    out.push(if merged > reject.max_on {
        finding.error(
            "shorter than a merged pulse",
            "rejects in a row merge to one pulse that would be cut, which is a fault",
            "raise max_on_ms if the actuator bears it, lower verify.consecutive_rejects.count, \
             or keep pulses apart with a larger gap",
        )
    } else {
        finding.warn(
            "pulses of neighbours merge; a good part between two bad ones is rejected too",
            "keep them apart with a larger gap or a smaller pulse margin",
        )
    });
}

fn chute(line: &Line<'_>, out: &mut Vec<Finding>) {
    let Some(eye) = &line.config.verify.chute else {
        return;
    };
    let pitch = time_for(line.config.belt.speed_max, line.recipe.pitch_min());
    let width = eye.after_max - eye.after_min;
    let half = Micros::new(pitch.get() / 2);
    let numbers = format!("{width} wide; half the smallest pitch time is {half}");
    let finding = draft("chute window", "verify.chute.after_reject_ms", numbers);
    out.push(if width > half {
        finding.warn(
            "of two rejects in a row it is not sure which one was seen; if one is missing, the other \
             may be called missing",
            "narrow after_reject_ms, mount the chute eye nearer to the reject, or ask for a larger gap",
        )
    } else {
        finding.ok("each reject has a window of its own")
    });
}

fn passed(line: &Line<'_>, out: &mut Vec<Finding>) {
    let Some(eye) = &line.config.verify.passed else {
        return;
    };
    let half_pitch = line.recipe.pitch_min().half();
    let numbers = format!("± {}; half the smallest pitch is {half_pitch}", eye.window);
    let finding = draft("passed window", "verify.passed.window_mm", numbers);
    out.push(if eye.window >= half_pitch {
        finding.error(
            "reaches into the neighbours",
            "an edge at the passed eye could belong to two parts: an escape could not be told from a good part",
            &format!(
                "make it smaller than {:.1} mm, or ask for a larger gap in every recipe",
                half_pitch.as_mm_f64()
            ),
        )
    } else {
        finding.ok("an edge belongs to one part")
    });
    let reject_ends = line.config.reject.distance + line.config.reject.footprint.half();
    if eye.distance - eye.window < reject_ends {
        let numbers = format!(
            "passed eye at {} − {}; the reject ends at {reject_ends}",
            eye.distance, eye.window
        );
        out.push(draft("passed eye", "verify.passed.distance_mm", numbers).error(
            "not behind the reject",
            "the passed eye would see parts before they are rejected, and call each an escape",
            "mount it behind the reject and measure its distance from the photo-eye",
        ));
    }
}

fn debounce(line: &Line<'_>, out: &mut Vec<Finding>) {
    let Trigger::PhotoEye { stable, .. } = &line.config.trigger else {
        return;
    };
    let fastest = line.config.belt.speed_max;
    let (part, gap) = (
        time_for(fastest, line.recipe.part_min),
        time_for(fastest, line.recipe.gap_min),
    );
    let shortest = part.min(gap);
    let numbers =
        format!("{stable}; at {fastest} a part covers the eye for {part}, a gap frees it for {gap}");
    let finding = draft("debounce", "trigger.stable_us", numbers);
    out.push(if *stable >= shortest {
        finding.error(
            "longer than a part or a gap",
            "whole parts or gaps would be taken for noise, and parts go by uncounted",
            "make stable_us much shorter than both; some hundred µs are usual",
        )
    } else if stable.get() * 4 > shortest.get() {
        finding.warn(
            "a part seen askew or a narrow gap may be taken for noise",
            "make stable_us shorter than a quarter of the shorter time",
        )
    } else {
        finding.ok("noise is told from parts and gaps")
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::testing;

    /// 28 mm parts at 500 mm/s, actuator 30 ms slower to come out than to go back.
    fn line(gap_mm: i64) -> (Belt, Reject, Recipe) {
        let config = testing::config();
        let speed = Speed::from_um_per_s(500_000);
        let belt = Belt {
            speed_min: speed,
            speed_max: speed,
            coast: Length::ZERO,
            ..config.belt
        };
        let reject = Reject {
            lag_on: Micros::from_millis(33),
            lag_off: Micros::from_millis(3),
            ..config.reject
        };
        let recipe = Recipe {
            part_min: Length::from_mm(28),
            part_max: Length::from_mm(28),
            gap_min: Length::from_mm(gap_mm),
            aim: Length::from_mm(2),
            pulse_margin: Length::from_mm(3),
            pulse_min: Micros::from_millis(5),
            ..(*config.recipes[0]).clone()
        };
        (belt, reject, recipe)
    }

    #[test]
    fn gaps_up_to_what_the_lags_bridge_count_in_a_merged_pulse() {
        // 30 ms are 15 mm, and the pulse ends 1 mm nearer to the next part than it began: 16 mm are bridged.
        let (belt, reject, recipe) = line(17);
        assert_eq!(merged_pulse(&belt, &reject, &recipe, 5), None);
        let (belt, reject, recipe) = line(10);
        let one = Micros::from_millis(2 * 29 + 30);
        assert_eq!(merged_pulse(&belt, &reject, &recipe, 1), Some(one));
        let three = one + Micros::from_millis(2 * 2 * (28 + 16));
        assert_eq!(merged_pulse(&belt, &reject, &recipe, 3), Some(three));
    }

    #[test]
    fn parts_that_come_while_the_belt_coasts_belong_to_the_run() {
        let (mut belt, reject, recipe) = line(10);
        let standing = merged_pulse(&belt, &reject, &recipe, 3).unwrap();
        belt.coast = Length::from_mm(100);
        let coasting = merged_pulse(&belt, &reject, &recipe, 3).unwrap();
        assert_eq!(coasting - standing, Micros::from_millis(2 * 200));
    }
}
