//! From the TOML tree to a valid [`Config`], or to all that keeps it from being one.
//!
//! One file a part of the station: here the station, trigger, reject and record;
//! [`belt`], [`camera`], [`verify`], [`recipe`], [`display`] and [`lines`] have their own. What needs numbers of
//! several parts at once (deadlines, windows, blur) is `arithmetic`, which runs
//! on the finished `Config`.

mod belt;
mod camera;
mod display;
mod lines;
mod recipe;
mod verify;

use super::diagnostic::{Problem, nearest};
use super::raw::{At, Problems, Section, Value};
use super::*;
use crate::infer::manifest::ManifestError;
use crate::kernels::team::THREADS_MAX;
use lines::Lines;
use std::path::Path;

/// The version of the file format that this elek reads and writes.
pub const SCHEMA: i64 = 1;

/// Finds a model: folder, model as written, pinned sha256.
pub type Resolve<'a> = &'a dyn Fn(&Path, &str, Option<&str>) -> Result<ModelInfo, ManifestError>;

/// What reading needs besides the tree.
pub(super) struct Context<'a> {
    pub text: &'a str,
    pub base: PathBuf,
    pub resolve: Resolve<'a>,
    pub problems: &'a Problems,
}

/// Longest times and distances that make sense; beyond them a unit was mistaken.
const MM_MAX: f64 = 100_000.0;
const MS_MAX: f64 = 600_000.0;

const ON_FAIL: [(&str, CheckAction); 2] = [
    ("stop_belt", CheckAction::StopBelt),
    ("alarm", CheckAction::Alarm),
];

pub(super) fn mm(value: f64) -> Length {
    Length::from_mm_f64(value).expect("every range of a length ends far below 1e9 mm")
}

pub(super) fn ms(value: f64) -> Micros {
    Micros::from_millis_f64(value).expect("every range of a time ends far below 1e9 ms")
}

fn speed(value: f64) -> Speed {
    Speed::from_mm_per_s(value).expect("every range of a speed ends far below 1e9 mm/s")
}

/// Reads the whole file. `None` when a problem was noted.
pub(super) fn config(mut root: Section<'_>, cx: &Context<'_>) -> Option<Config> {
    if !schema(&root) {
        root.any_key();
        return None;
    }
    let lines = Lines::new(cx.problems);
    let station = table(&root, "station", "[station]").map(|s| station(&s, &lines));
    let belt = table(&root, "belt", "[belt]").map(|s| belt::belt(&s, &lines));
    let trigger = table(&root, "trigger", "[trigger]").map(|s| trigger(&s, &lines));
    let vision = matches!(trigger, Some(Some(Trigger::Vision)));
    let cameras = named(&root, "camera", "[camera.top]", Some(1), |name, s| {
        camera::camera(name, &s, vision, cx)
    });
    let rejects = named(&root, "reject", "[reject.air-blast]", Some(1), |name, s| {
        reject(name, &s, &lines)
    });
    let verify = match root.get("verify") {
        Some(value) => value.section().map(|s| verify::verify(&s, &lines)),
        None => Some(Some(Verify::default())),
    };
    let recipes = named(&root, "recipe", "[recipe.NAME]", None, |name, s| {
        recipe::recipe(name, &s, cx)
    });
    let inference = match root.get("inference") {
        Some(value) => value.section().map(|s| inference(&s)),
        None => Some(Some(Inference::default())),
    };
    let record = table(&root, "record", "[record]").map(|s| record(&s, cx));
    let display = match root.get("display") {
        Some(value) => value.section().map(|s| display::display(&s, &lines, cx)),
        None => Some(Some(Display {
            width: 480,
            height: 320,
            framebuffer: None,
            panel: None,
            console: None,
            png: None,
        })),
    };
    display::page_has_a_panel(&root, cx);

    let simulated = cameras
        .as_ref()
        .and_then(|c| c.first())
        .map(|c| !matches!(c.source, CameraSource::V4l2(_)));
    let simulated_encoder = root.get("belt").is_some()
        && matches!(
            &belt,
            Some(Some(Belt {
                motion: Motion::Encoder {
                    source: EncoderSource::Simulated,
                    ..
                },
                ..
            }))
        );
    if let Some(simulated) = simulated {
        lines.agree_with_camera(simulated);
        belt::encoder_agrees(
            &root,
            simulated,
            simulated_encoder,
            belt.as_ref().and_then(Option::as_ref),
            cx,
        );
    }
    let locate_needed = recipes
        .iter()
        .flatten()
        .any(|r| matches!(r.crop, Crop::Part { .. }));
    if let Some(camera) = cameras.as_ref().and_then(|c| c.first()) {
        camera::locate_is_there(&root, camera, locate_needed || vision, cx);
    }
    let (recipe, mut station) = match (station?, &recipes) {
        (Some((wanted, station)), Some(recipes)) => (start_recipe(&wanted, recipes, cx), station),
        _ => return None,
    };
    station.recipe = recipe?;
    Some(Config {
        station,
        belt: belt??,
        trigger: trigger??,
        cameras: cameras?,
        reject: rejects?.pop()?,
        verify: verify??,
        recipes: recipes?.into_iter().map(Arc::new).collect(),
        outputs: lines.outputs(),
        inference: inference??,
        record: record??,
        display: display??,
        base: cx.base.clone(),
    })
}

/// Looks at the schema and lets the rest be.
pub(super) fn schema_alone(mut root: Section<'_>) {
    schema(&root);
    root.any_key();
}

/// A newer file may mean anything, so nothing else of it is judged.
fn schema(root: &Section<'_>) -> bool {
    let Some(value) = root.get("schema") else {
        root.missing("schema", "schema = 1");
        return true;
    };
    let Some(found) = value.integer(0..=i64::MAX) else {
        return true;
    };
    if found > SCHEMA {
        value.refuse(
            format!("this file has schema {found}, newer than this elek reads"),
            &format!("this elek reads schema {SCHEMA}"),
            "update elek, or go back to the file that belonged to this version",
        );
        return false;
    }
    if found < SCHEMA {
        value.refuse(
            format!("there is no schema {found}"),
            &format!("the first schema is {SCHEMA}"),
            format!("write `schema = {SCHEMA}`"),
        );
    }
    true
}

/// A table that must be there.
fn table<'t>(parent: &Section<'t>, key: &'static str, example: &str) -> Option<Section<'t>> {
    match parent.get(key) {
        Some(value) => value.section(),
        None => {
            parent.missing(key, example);
            None
        }
    }
}

/// Tables by name, at least one, at most `most`.
fn named<T>(
    root: &Section<'_>,
    key: &'static str,
    example: &str,
    most: Option<usize>,
    mut read: impl FnMut(&At<String>, Section<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut parent = table(root, key, example)?;
    if parent.is_empty() {
        parent.missing("NAME", example);
    }
    let tables = parent.tables(example);
    if tables.is_empty() {
        return None;
    }
    let mut all = Some(Vec::new());
    for (index, (name, mut section)) in tables.into_iter().enumerate() {
        if most.is_some_and(|most| index >= most) {
            let problem = Problem::new(format!("a station has one {key} in this version"))
                .at(name.span.clone(), "one too many")
                .help("delete it, or run a station of its own for it");
            parent.problems.add(problem);
            section.any_key();
            all = None;
            continue;
        }
        match (read(&name, section), &mut all) {
            (Some(item), Some(list)) => list.push(item),
            _ => all = None,
        }
    }
    all
}

fn start_recipe(wanted: &At<String>, recipes: &[Recipe], cx: &Context<'_>) -> Option<RecipeId> {
    let found = recipes.iter().position(|recipe| recipe.name == wanted.value);
    if found.is_none() {
        let names: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        let label = match nearest(&wanted.value, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "no [recipe] has this name".to_owned(),
        };
        let title = format!("there is no recipe \"{}\"", wanted.value.escape_debug());
        let problem = Problem::new(title)
            .at(wanted.span.clone(), label)
            .help(format!("recipes of this file: {}", names.join(", ")));
        cx.problems.add(problem);
    }
    found.and_then(|index| u16::try_from(index).ok()).map(RecipeId)
}

fn station(s: &Section<'_>, lines: &Lines<'_>) -> Option<(At<String>, Station)> {
    let id = s.required("id", "id = \"L1-REJ-01\"", Value::name);
    let recipe = s.required("recipe", "recipe = \"NAME\"", Value::text);
    let on_fault = s.or("on_fault", OnFault::StopBelt, |v| {
        v.choice(&[("stop_belt", OnFault::StopBelt), ("alarm", OnFault::Alarm)])
    });
    // The only behaviour there is (invariant 6); the key lets the file say so.
    let restart = s.or("restart", (), |v| v.choice(&[("acknowledge", ())]));
    let (acknowledge, page, beacon) = match s.get("lines") {
        None => (Some(None), Some(None), Some(None)),
        Some(value) => match value.section() {
            None => (None, None, None),
            Some(l) => (
                l.optional("acknowledge", |v| lines.input(v)),
                l.optional("page", |v| lines.page_button(v)),
                l.optional("beacon", |v| lines.held_output(v)),
            ),
        },
    };
    let watchdog = s.optional("watchdog", Value::text);
    restart?;
    let station = Station {
        id: id?.value,
        recipe: RecipeId(0),
        on_fault: on_fault?,
        acknowledge: acknowledge?.map(|at| at.value),
        page: page?.map(|at| at.value),
        beacon: beacon?.map(|at| at.value),
        watchdog: watchdog?.map(|at| PathBuf::from(at.value)),
    };
    Some((recipe?, station))
}

/// Refuses a smallest value above the largest.
fn ordered(problems: &Problems, path: &str, min: &At<f64>, max: &At<f64>) -> Option<()> {
    if min.value <= max.value {
        return Some(());
    }
    let problem = Problem::new(format!("`{path}.min` is above `{path}.max`"))
        .at(min.span.clone(), "larger than max")
        .help("swap the two, or correct one of them");
    problems.add(problem);
    None
}

/// A key whose presence says all; `false` would say nothing.
fn yes(v: &Value<'_>) -> Option<()> {
    if v.flag()? {
        return Some(());
    }
    v.refuse(
        format!("`{}` can only be true", v.path),
        "false says nothing",
        "delete the key, or write true",
    );
    None
}

fn trigger(s: &Section<'_>, lines: &Lines<'_>) -> Option<Trigger> {
    let found = s.one_of(
        &["line", "vision"],
        "line = { chip = \"…\", name = \"…\" }, or vision = true",
    );
    let stable = s.optional("stable_us", |v| v.integer(0..=1_000_000));
    match found? {
        ("line", v) => {
            let line = lines.input(&v)?;
            // Electrical noise of a photo-eye ends within a few hundred µs.
            let stable = stable?.map_or(500, |at| at.value);
            Some(Trigger::PhotoEye {
                line,
                stable: Micros::new(stable),
            })
        }
        (_, v) => {
            yes(&v)?;
            if let Some(at) = stable? {
                let problem = Problem::new("`trigger.stable_us` is for a photo-eye")
                    .at(at.span, "nothing to debounce without one")
                    .help("delete this line");
                s.problems.add(problem);
                return None;
            }
            Some(Trigger::Vision)
        }
    }
}

fn reject(name: &At<String>, s: &Section<'_>, lines: &Lines<'_>) -> Option<Reject> {
    let line = s.required(
        "line",
        "line = { chip = \"…\", name = \"…\", max_on_ms = 400 }",
        |v| {
            let (output, max_on) = lines.pulsed_output(v)?;
            if lines.is_safe_on(output) {
                v.refuse(
                    format!("`{}` must be off in its safe state", v.path),
                    "safe = \"on\" would hold the reject for ever",
                    "write safe = \"off\"",
                );
                return None;
            }
            Some((output, max_on))
        },
    );
    let distance = s.required("distance_mm", "distance_mm = 420.0", |v| v.number(1.0..=MM_MAX));
    let footprint = s.required("footprint_mm", "footprint_mm = 6.0", |v| v.number(0.1..=1_000.0));
    let lag = s.required("lag_ms", "lag_ms = { on = 9.0, off = 12.0, spread = 2.0 }", |v| {
        let s = v.section()?;
        let on = s.required("on", "on = 9.0", |v| v.number(0.0..=1_000.0));
        let off = s.required("off", "off = 12.0", |v| v.number(0.0..=1_000.0));
        let spread = s.required("spread", "spread = 2.0", |v| v.number(0.0..=1_000.0));
        Some((ms(on?.value), ms(off?.value), ms(spread?.value)))
    });
    let (output, max_on) = line?.value;
    let (lag_on, lag_off, lag_spread) = lag?.value;
    Some(Reject {
        name: name.value.clone(),
        output,
        distance: mm(distance?.value),
        footprint: mm(footprint?.value),
        lag_on,
        lag_off,
        lag_spread,
        max_on,
    })
}

fn inference(s: &Section<'_>) -> Option<Inference> {
    let most = i64::try_from(THREADS_MAX).ok()?;
    let threads = s.or("threads", 1, |v| v.integer(1..=most));
    Some(Inference {
        threads: usize::try_from(threads?).ok()?,
    })
}

fn record(s: &Section<'_>, cx: &Context<'_>) -> Option<Record> {
    let path = s.required("path", "path = \"/var/lib/elek\"", Value::text);
    let rejected = s.or("rejected", Keep::All, keep);
    let passed = s.or("passed", Keep::None, keep);
    let free = s.or("keep_free_percent", 15, |v| v.integer(1..=90));
    Some(Record {
        path: cx.base.join(path?.value),
        rejected: rejected?,
        passed: passed?,
        keep_free_percent: u8::try_from(free?).ok()?,
    })
}

fn keep(v: &Value<'_>) -> Option<Keep> {
    if !v.is_table() {
        return v.choice(&[("all", Keep::All), ("none", Keep::None)]);
    }
    let s = v.section()?;
    let one_in = s.required("one_in", "one_in = 500", |v| v.integer(1..=i64::from(u32::MAX)));
    Some(Keep::OneIn(u32::try_from(one_in?.value).ok()?))
}

/// A device is named by its whole path.
fn device_path(v: &Value<'_>, example: &str) -> Option<PathBuf> {
    let path = PathBuf::from(v.text()?);
    if !path.is_absolute() {
        v.refuse(
            format!("`{}` must be the whole path of a device", v.path),
            "does not begin with /",
            format!("write it as in \"{example}\""),
        );
        return None;
    }
    Some(path)
}
