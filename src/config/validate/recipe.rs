//! `[recipe.NAME]`: all that changes with the product.

use super::super::diagnostic::Problem;
use super::super::raw::{At, Section, Value, in_string};
use super::super::*;
use super::{Context, mm, ms, ordered};
use crate::infer::manifest::{About, Task};
use crate::station::judge::{Labels, RuleList};

/// More rules than a person can hold in the head; `Reason::rule` would hold 255.
const RULES_MAX: usize = 32;

pub(super) fn recipe(name: &At<String>, s: &Section<'_>, cx: &Context<'_>) -> Option<Recipe> {
    let part = s.required("part_mm", "part_mm = { min = 26.0, max = 30.0 }", |v| {
        let s = v.section()?;
        let min = s.required("min", "min = 26.0", |v| v.number(0.1..=5_000.0));
        let max = s.required("max", "max = 30.0", |v| v.number(0.1..=5_000.0));
        let (min, max) = (min?, max?);
        ordered(s.problems, &s.path, &min, &max)?;
        Some((mm(min.value), mm(max.value)))
    });
    let gap = s.required("gap_min_mm", "gap_min_mm = 8.0", |v| v.number(0.1..=10_000.0));
    let aim = s.required("aim_mm", "aim_mm = 2.0", |v| v.number(-1_000.0..=1_000.0));
    let pulse = s.required("pulse", "pulse = { margin_mm = 3.0, min_ms = 15 }", |v| {
        let s = v.section()?;
        let margin = s.required("margin_mm", "margin_mm = 3.0", |v| v.number(0.0..=1_000.0));
        let least = s.or("min_ms", 0.0, |v| v.number(0.0..=10_000.0));
        Some((mm(margin?.value), ms(least?)))
    });
    let crop = s.required("crop", "crop = { around = \"part\", margin_mm = 4.0 }", crop);
    let classify = s.optional("classify", |v| model(v, Task::Classify, cx));
    let segment = s.optional("segment", |v| model(v, Task::Segment, cx));
    let pass_if = s.required("pass_if", "pass_if = [\"good >= 0.90\"]", |v| pass_if(v));
    let reject_if = s.or("reject_if", Vec::new(), |v| v.texts(RULES_MAX));
    let rules = rules(s, &classify, &segment, pass_if.as_ref(), reject_if.as_ref(), cx);
    let otherwise = s.required("otherwise", "otherwise = { action = \"reject\" }", otherwise);
    let late_reject = s.or("late_result", true, |v| {
        v.choice(&[("reject", true), ("pass", false)])
    });
    let decide = s.required("decide_within_ms", "decide_within_ms = 120", |v| {
        v.number(1.0..=600_000.0)
    });
    let (part_min, part_max) = part?.value;
    let (pulse_margin, pulse_min) = pulse?.value;
    Some(Recipe {
        name: name.value.clone(),
        part_min,
        part_max,
        gap_min: mm(gap?.value),
        aim: mm(aim?.value),
        pulse_margin,
        pulse_min,
        crop: crop?.value,
        classify: classify?.map(|at| at.value),
        segment: segment?.map(|at| at.value),
        rules: rules?,
        otherwise: otherwise?.value,
        late_reject: late_reject?,
        decide_within: ms(decide?.value),
    })
}

/// A part passes only on positive evidence (invariant 3), so there must be some to ask for.
fn pass_if(v: &Value<'_>) -> Option<Vec<At<String>>> {
    let texts = v.texts(RULES_MAX)?;
    if texts.is_empty() {
        v.refuse(
            format!("`{}` is empty", v.path),
            "every part would pass unseen",
            "name what proves a good part, such as \"good >= 0.90\"",
        );
        return None;
    }
    Some(texts)
}

fn crop(v: &Value<'_>) -> Option<Crop> {
    let s = v.section()?;
    let around = s.required("around", "around = \"part\"", |v| {
        v.choice(&[("part", true), ("picture", false)])
    });
    if around?.value {
        let margin = s.required("margin_mm", "margin_mm = 4.0", |v| v.number(0.0..=1_000.0));
        return Some(Crop::Part {
            margin: mm(margin?.value),
        });
    }
    let fit = s.required("fit", "fit = \"letterbox\"", |v| {
        v.choice(&[
            ("stretch", Fit::Stretch),
            ("letterbox", Fit::Letterbox),
            ("cover", Fit::Cover),
        ])
    });
    Some(Crop::Picture { fit: fit?.value })
}

fn otherwise(v: &Value<'_>) -> Option<Otherwise> {
    let s = v.section()?;
    // What such a part is called; there is only one name for it.
    let verdict = s.or("verdict", (), |v| v.choice(&[("unsure", ())]));
    let action = s.required("action", "action = \"reject\"", |v| {
        v.choice(&[("reject", true), ("pass", false)])
    });
    let keep_picture = s.or("keep_picture", true, Value::flag);
    verdict?;
    Some(Otherwise {
        reject: action?.value,
        keep_picture: keep_picture?,
    })
}

fn model(v: &Value<'_>, task: Task, cx: &Context<'_>) -> Option<Arc<ModelInfo>> {
    let s = v.section()?;
    let model = s.required("model", "model = \"cap.int8.onnx\"", Value::text);
    let pin = s.optional("sha256", sha256);
    let (model, pin) = (model?, pin?);
    let builtin = model.value.starts_with(crate::infer::manifest::BUILTIN_PREFIX);
    if pin.is_none() && !builtin {
        let help = format!(
            "pin the file, so that no other can take its place: `sha256sum {}` prints the value",
            cx.base.join(&model.value).display()
        );
        let mut problem = Problem::new(format!("`{}.sha256` is missing", s.path))
            .at(s.span.clone(), "a model from a file needs `sha256`")
            .help(help);
        problem.missing = true;
        cx.problems.add(problem);
    }
    let pinned = pin.as_ref().map(|at| at.value.as_str());
    let found = (cx.resolve)(&cx.base, &model.value, pinned).and_then(|info| {
        info.expect(task)?;
        Ok(info)
    });
    match found {
        Ok(info) => (pin.is_some() || builtin).then(|| Arc::new(info)),
        Err(error) => {
            let place = match (error.about, &pin) {
                (About::Sha256, Some(pin)) => pin.span.clone(),
                _ => model.span.clone(),
            };
            cx.problems.add(
                Problem::new(error.message)
                    .at(place, "this model")
                    .help(error.help),
            );
            None
        }
    }
}

fn sha256(v: &Value<'_>) -> Option<String> {
    let text = v.text()?;
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(text.to_lowercase());
    }
    v.refuse(
        format!("`{}` is not a sha256", v.path),
        &format!("{} characters", text.chars().count()),
        "64 hexadecimal digits, as `sha256sum FILE` prints them",
    );
    None
}

type Model = Option<Option<At<Arc<ModelInfo>>>>;

/// Parses the rules against the labels of the models; errors point into the rule.
fn rules(
    s: &Section<'_>,
    classify: &Model,
    segment: &Model,
    pass_if: Option<&At<Vec<At<String>>>>,
    reject_if: Option<&Vec<At<String>>>,
    cx: &Context<'_>,
) -> Option<Rules> {
    // A model that could not be read has no labels to check rules against.
    let (classify, segment) = (classify.as_ref()?, segment.as_ref()?);
    if classify.is_none() && segment.is_none() {
        let mut problem = Problem::new(format!("`{}` has no model", s.path))
            .at(s.span.clone(), "needs `classify`, `segment` or both")
            .help("add `classify = { model = \"…\", sha256 = \"…\" }`");
        problem.missing = true;
        cx.problems.add(problem);
        return None;
    }
    let (pass_if, reject_if) = (&pass_if?.value, reject_if?);
    let texts = |list: &[At<String>]| list.iter().map(|at| at.value.clone()).collect::<Vec<_>>();
    let labels = Labels {
        classify: classify.as_ref().map(|at| at.value.labels.as_slice()),
        mask: segment.as_ref().map(|at| at.value.labels.as_slice()),
    };
    let errors = match Rules::parse(&texts(pass_if), &texts(reject_if), &labels) {
        Ok(rules) => return Some(rules),
        Err(errors) => errors,
    };
    for error in errors {
        let (key, list) = match error.list {
            RuleList::PassIf => ("pass_if", pass_if),
            RuleList::RejectIf => ("reject_if", reject_if),
        };
        let mut problem = Problem::new(format!("`{}`: {}", s.path_of(key), error.message)).help(error.help);
        if let Some(rule) = list.get(error.index) {
            let from = in_string(cx.text, &rule.span, error.span.start);
            let to = in_string(cx.text, &rule.span, error.span.end).max(from);
            problem = problem.at(from..to, "here");
        }
        cx.problems.add(problem);
    }
    None
}
