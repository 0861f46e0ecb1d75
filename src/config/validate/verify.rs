//! The eyes and contacts that prove what became of each part.

use super::*;

pub(super) fn verify(s: &Section<'_>, lines: &Lines<'_>) -> Option<Verify> {
    let chute = s.optional("chute", |v| chute(&v.section()?, lines));
    let passed = s.optional("passed", |v| passed(&v.section()?, lines));
    let bin_full = s.optional("bin_full", |v| lines.interlock(v));
    let air_low = s.optional("air_low", |v| lines.interlock(v));
    let consecutive_rejects = s.optional("consecutive_rejects", |v| {
        let s = v.section()?;
        let count = s.required("count", "count = 5", |v| v.integer(2..=10_000));
        let action = s.or("action", CheckAction::StopBelt, |v| v.choice(&ON_FAIL));
        Some(ConsecutiveRejects {
            count: u32::try_from(count?.value).ok()?,
            action: action?,
        })
    });
    Some(Verify {
        chute: chute?.map(|at| at.value),
        passed: passed?.map(|at| at.value),
        bin_full: bin_full?.map(|at| at.value),
        air_low: air_low?.map(|at| at.value),
        consecutive_rejects: consecutive_rejects?.map(|at| at.value),
    })
}

fn chute(s: &Section<'_>, lines: &Lines<'_>) -> Option<ChuteEye> {
    let line = s.required("line", "line = { chip = \"…\", name = \"…\" }", |v| {
        lines.input(v)
    });
    let after = s.required(
        "after_reject_ms",
        "after_reject_ms = { min = 30, max = 140 }",
        |v| {
            let s = v.section()?;
            let min = s.required("min", "min = 30", |v| v.number(0.0..=MS_MAX));
            let max = s.required("max", "max = 140", |v| v.number(0.0..=MS_MAX));
            let (min, max) = (min?, max?);
            ordered(s.problems, &s.path, &min, &max)?;
            Some((ms(min.value), ms(max.value)))
        },
    );
    let missing = s.or("missing", CheckAction::StopBelt, |v| v.choice(&ON_FAIL));
    let (after_min, after_max) = after?.value;
    Some(ChuteEye {
        line: line?.value,
        after_min,
        after_max,
        missing: missing?,
    })
}

fn passed(s: &Section<'_>, lines: &Lines<'_>) -> Option<PassedEye> {
    let line = s.required("line", "line = { chip = \"…\", name = \"…\" }", |v| {
        lines.input(v)
    });
    let distance = s.required("distance_mm", "distance_mm = 520.0", |v| v.number(1.0..=MM_MAX));
    let window = s.required("window_mm", "window_mm = 12.0", |v| v.number(0.5..=10_000.0));
    let reject_seen = s.or("reject_seen", CheckAction::StopBelt, |v| v.choice(&ON_FAIL));
    let good_missing = s.or("good_missing", CheckAction::Alarm, |v| v.choice(&ON_FAIL));
    Some(PassedEye {
        line: line?.value,
        distance: mm(distance?.value),
        window: mm(window?.value),
        reject_seen: reject_seen?,
        good_missing: good_missing?,
    })
}
