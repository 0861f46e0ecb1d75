//! The belt: its speeds, its permit, and how its position is known.

use super::*;

pub(super) fn belt(s: &Section<'_>, lines: &Lines<'_>) -> Option<Belt> {
    let speeds = s.required(
        "speed_mm_s",
        "speed_mm_s = { min = 150.0, max = 600.0 }",
        speed_range,
    );
    let permit = s.required("permit", "permit = { chip = \"…\", name = \"…\" }", |v| {
        let permit = lines.held_output(v)?;
        if lines.is_safe_on(permit) {
            v.refuse(
                format!("`{}` must be off in its safe state", v.path),
                "safe = \"on\" lets the belt run when the station is dead",
                "the permit is energised to run: write safe = \"off\" and wire it so",
            );
            return None;
        }
        Some(permit)
    });
    let running = s.optional("running", |v| lines.input(v));
    let coast = s.required("coast_mm", "coast_mm = 80.0", |v| v.number(0.0..=MM_MAX));
    let motion = match s.one_of(&["encoder", "time"], "[belt.encoder] or [belt.time]") {
        Some(("encoder", value)) => value.section().and_then(|e| encoder(&e, lines)),
        Some((_, value)) => value.section().and_then(|t| constant_speed(&t, speeds.as_ref())),
        None => None,
    };
    if let (Some(Motion::Time { .. }), Some(None)) = (&motion, &running) {
        s.missing("running", "running = { chip = \"…\", name = \"…\" }");
        return None;
    }
    let (speed_min, speed_max) = speeds?.value;
    Some(Belt {
        lane: LaneId(0),
        speed_min,
        speed_max,
        permit: permit?.value,
        running: running?.map(|at| at.value),
        coast: mm(coast?.value),
        motion: motion?,
    })
}

fn speed_range(v: &Value<'_>) -> Option<(Speed, Speed)> {
    let s = v.section()?;
    let min = s.required("min", "min = 150.0", |v| v.number(1.0..=20_000.0));
    let max = s.required("max", "max = 600.0", |v| v.number(1.0..=20_000.0));
    let (min, max) = (min?, max?);
    ordered(s.problems, &s.path, &min, &max)?;
    Some((speed(min.value), speed(max.value)))
}

fn encoder(s: &Section<'_>, lines: &Lines<'_>) -> Option<Motion> {
    let scale = s.required("pulses_per_mm", "pulses_per_mm = 4.0", |v| {
        v.number(0.01..=1000.0)
    });
    let source = s.required("source", "source = { counter = \"/dev/counter0\" }", |v| {
        if v.is_string() {
            return v.choice(&[("simulated", ())]).map(|()| EncoderSource::Simulated);
        }
        let s = v.section()?;
        match s.one_of(&["counter", "lines", "simulated"], "counter = \"/dev/counter0\"")? {
            ("counter", v) => v.text().map(|path| EncoderSource::Counter(path.into())),
            ("simulated", v) => yes(&v).map(|()| EncoderSource::Simulated),
            (_, v) => {
                let s = v.section()?;
                let a = s.required("a", "a = { chip = \"…\", name = \"…\" }", |v| lines.input(v));
                let b = s.optional("b", |v| lines.input(v));
                Some(EncoderSource::Lines {
                    a: a?.value,
                    b: b?.map(|at| at.value),
                })
            }
        }
    });
    let reverse = s.optional("reverse", Value::flag);
    let (source, reverse) = (source?.value, reverse?);
    if let (Some(reverse), EncoderSource::Simulated | EncoderSource::Lines { b: None, .. }) =
        (&reverse, &source)
        && reverse.value
    {
        let problem = Problem::new(format!(
            "`{}.reverse` needs an encoder that knows its direction",
            s.path
        ))
        .at(reverse.span.clone(), "this one always counts forward")
        .help("delete the key, or name the encoder's second line: `b`");
        s.problems.add(problem);
        return None;
    }
    Some(Motion::Encoder {
        counts_per_mm: scale?.value,
        reverse: reverse.is_some_and(|reverse| reverse.value),
        source,
    })
}

fn constant_speed(s: &Section<'_>, range: Option<&At<(Speed, Speed)>>) -> Option<Motion> {
    let read = s.required("speed_mm_s", "speed_mm_s = 500.0", |v| {
        let value = speed(v.number(1.0..=20_000.0)?);
        if let Some(At {
            value: (min, max), ..
        }) = range
            && !(*min..=*max).contains(&value)
        {
            v.refuse(
                format!("`{}` lies outside `belt.speed_mm_s`", v.path),
                &format!("the belt runs at {} to {}", min, max),
                "give the speed at which the belt really runs",
            );
            return None;
        }
        Some(value)
    });
    Some(Motion::Time { speed: read?.value })
}

/// The encoder belongs to the same world as the camera.
pub(super) fn encoder_agrees(
    root: &Section<'_>,
    simulated: bool,
    encoder: bool,
    belt: Option<&Belt>,
    cx: &Context<'_>,
) {
    let Some(Belt {
        motion: Motion::Encoder { .. },
        ..
    }) = belt
    else {
        return;
    };
    if simulated == encoder {
        return;
    }
    let Some(span) = root.place("belt.encoder.source") else {
        return;
    };
    let (title, label, help) = if simulated {
        (
            "a simulated or folder camera needs the simulated encoder",
            "a real encoder",
            "write source = \"simulated\", or give the camera a v4l2 source",
        )
    } else {
        (
            "a real camera cannot be used with a simulated encoder",
            "it would follow a belt that does not exist",
            "write source = { counter = \"/dev/counter0\" }, or { lines = { a = …, b = … } }",
        )
    };
    cx.problems.add(Problem::new(title).at(span, label).help(help));
}
