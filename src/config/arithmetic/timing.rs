//! Belt, trigger, reject and eyes: when things happen and whether there is time for them.

use super::super::{Camera, CameraMode, CameraSource, CheckAction, Config, EncoderSource, Motion, Trigger};
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

/// The longest pulse, alone and merged with those of its neighbours.
fn on_time(line: &Line<'_>, out: &mut Vec<Finding>) {
    let (config, recipe) = (line.config, line.recipe);
    let reject = &config.reject;
    let (slowest, fastest) = (config.belt.speed_min, config.belt.speed_max);
    let lags = reject.lag_on - reject.lag_off;
    let pulse = |length: Length| (time_for(slowest, length) + lags).max(recipe.pulse_min);
    let alone = recipe.part_max + recipe.pulse_margin - recipe.aim;
    let longest = pulse(alone);
    // Windows meet on the belt, or the command to stop comes after the next one to start.
    let apart = recipe.gap_min + recipe.aim - recipe.pulse_margin;
    let merges_at = |v: Speed| apart <= Length::ZERO || apart <= v.travel(lags);
    let merges =
        merges_at(slowest) || merges_at(fastest) || fastest.travel(recipe.pulse_min) >= recipe.pitch_min();
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
    if !merges {
        out.push(finding.ok("long enough; pulses of neighbours never merge"));
        return;
    }
    let run = match config.verify.consecutive_rejects {
        Some(limit) if limit.action == CheckAction::StopBelt => i64::from(limit.count),
        _ => {
            out.push(finding.error(
                "pulses can merge without end",
                "rejects in a row become one pulse, and nothing limits how many: it would reach max_on_ms",
                "add `consecutive_rejects = { count = 5, action = \"stop_belt\" }` to [verify], \
                 or keep pulses apart with a larger gap",
            ));
            return;
        }
    };
    let pitch = recipe.part_max + recipe.gap_min;
    let merged = pulse(Length::from_micrometres(
        pitch
            .as_micrometres()
            .saturating_mul(run - 1)
            .saturating_add(alone.as_micrometres()),
    ));
    let numbers = format!(
        "{run} rejects in a row merge to {merged}; max_on_ms is {}",
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
