//! Rules of a recipe and the judgement by them.
//!
//! A rule compares one quantity with one limit, for instance `scratch >= 0.60`
//! or `defect.area_mm2 > 0.8`. It is true, false, or unknown: a score that is
//! missing or not a number satisfies nothing, and a mask that was not made says
//! nothing yet.
//!
//! A rule may end in `unless` and a comparison of a score: `defect.area_mm2 > 3.0
//! unless good >= 0.95`. Where that score is known to hold, the rule is settled in
//! the part's favour without its own quantity; so a clearly good part needs no
//! mask. A score that is missing excuses nothing. The verdict (invariant 3):
//!
//! 1. `Reject` when any rule of `reject_if` is true;
//! 2. `Pass` when there are `pass_if` rules, all are true, and every rule of
//!    `reject_if` is false;
//! 3. `Unsure` else.

use crate::infer::inspection::{ClassMeasure, Inspection};
use crate::station::event::{NoResult, Reason, Verdict};
use std::ops::Range;

/// Most rules in one list: `Reason::rule` is a byte, and nobody reads more than this.
pub const RULES_MAX: usize = 64;
/// Stands for all mask classes together.
const ALL_DEFECTS: &str = "defect";

/// The parsed rules of a recipe.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub pass_if: Vec<Rule>,
    pub reject_if: Vec<Rule>,
}

/// One comparison, such as `scratch >= 0.60` or `defect.area_mm2 > 0.8`, and what excuses from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// As written.
    pub text: String,
    pub quantity: Quantity,
    pub comparison: Comparison,
    pub limit: f32,
    pub unless: Option<Excuse>,
}

/// A comparison of a classifier score that settles a rule in the part's favour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excuse {
    /// Index into the classifier's labels.
    pub label: u8,
    pub comparison: Comparison,
    pub limit: f32,
}

/// What a rule measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Score of a classifier label, by index into the model's labels.
    Score(u8),
    /// `LABEL.area_mm2` and so on of one mask class (by index); `None`, written `defect`, means all together.
    Defect { class: Option<u8>, measure: Measure },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    AreaMm2,
    LengthMm,
    Count,
    Peak,
}

const MEASURES: [(&str, Measure); 4] = [
    ("area_mm2", Measure::AreaMm2),
    ("length_mm", Measure::LengthMm),
    ("count", Measure::Count),
    ("peak", Measure::Peak),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, value: f32, limit: f32) -> bool {
        match self {
            Comparison::Less => value < limit,
            Comparison::LessOrEqual => value <= limit,
            Comparison::Greater => value > limit,
            Comparison::GreaterOrEqual => value >= limit,
        }
    }
}

/// The labels that rules may name; `None` where the recipe has no such model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    pub classify: Option<&'a [String]>,
    pub mask: Option<&'a [String]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleList {
    PassIf,
    RejectIf,
}

/// What is wrong with a rule, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    pub list: RuleList,
    pub index: usize,
    /// Bytes within that rule's string.
    pub span: Range<usize>,
    pub message: String,
    pub help: String,
}

/// An error before it is known which rule of which list it is in.
struct Fault {
    span: Range<usize>,
    message: String,
    help: String,
}

impl Rules {
    /// Parses both lists; all errors at once. An empty `pass_if` is no error here:
    /// nothing passes by it.
    pub fn parse(
        pass_if: &[String],
        reject_if: &[String],
        labels: &Labels<'_>,
    ) -> Result<Rules, Vec<RuleError>> {
        let mut errors = Vec::new();
        let mut list = |which, texts: &[String]| {
            let mut rules = Vec::with_capacity(texts.len());
            for (index, text) in texts.iter().enumerate() {
                let rule = match index < RULES_MAX {
                    true => parse_rule(text, labels),
                    false => Err(too_many(text)),
                };
                match rule {
                    Ok(rule) => rules.push(rule),
                    Err(Fault { span, message, help }) => {
                        errors.push(RuleError {
                            list: which,
                            index,
                            span,
                            message,
                            help,
                        });
                    }
                }
            }
            rules
        };
        let rules = Rules {
            pass_if: list(RuleList::PassIf, pass_if),
            reject_if: list(RuleList::RejectIf, reject_if),
        };
        if errors.is_empty() { Ok(rules) } else { Err(errors) }
    }

    /// A verdict of these rules in words: `scratch 0.93, limit 0.60`.
    pub fn explain(&self, verdict: &Verdict) -> String {
        match verdict {
            Verdict::Pass => "passes every rule".into(),
            Verdict::Reject(reason) => match self.reject_if.get(usize::from(reason.rule)) {
                Some(rule) => rule.measured(reason.measured),
                None => format!("rule {} of reject_if", reason.rule + 1),
            },
            Verdict::Unsure => "neither proven good nor bad".into(),
            Verdict::NoResult(NoResult::Late) => "result came too late".into(),
            Verdict::NoResult(NoResult::NoFrame) => "no picture of this part".into(),
            Verdict::NoResult(NoResult::NotFound) => "not found in the picture where it should be".into(),
            Verdict::NoResult(NoResult::Ambiguous) => "two candidates in the picture".into(),
            Verdict::NoResult(NoResult::Fault) => "camera, model or outputs failed".into(),
        }
    }

    /// Why `inspection` does not pass: the first rule of `pass_if` that does not hold.
    pub fn doubt(&self, inspection: &Inspection) -> Option<String> {
        let rule = self
            .pass_if
            .iter()
            .find(|rule| rule.allows(inspection) != Some(true))?;
        Some(match rule.value(inspection) {
            Some(value) => rule.measured(value),
            None => format!("{} not known", rule.name()),
        })
    }
}

impl Rule {
    fn name(&self) -> &str {
        let end = self.text.find(['<', '>']).unwrap_or(self.text.len());
        self.text[..end].trim()
    }

    /// In words: what was measured, and the limit.
    fn measured(&self, value: f32) -> String {
        let (name, unit, digits) = match &self.quantity {
            Quantity::Score(_) => (self.name(), "", 2),
            Quantity::Defect { measure, .. } => {
                let whose = self
                    .name()
                    .rsplit_once('.')
                    .map_or(ALL_DEFECTS, |(label, _)| label);
                match measure {
                    Measure::AreaMm2 => (whose, " mm²", 2),
                    Measure::LengthMm => (whose, " mm", 1),
                    Measure::Count => (whose, " found", 0),
                    Measure::Peak => (whose, " peak", 2),
                }
            }
        };
        // A limit finer than the usual digits is shown as written, or it would look like another.
        let limit = self.limit;
        let shown = format!("{limit:.digits$}");
        let limit = if shown.parse() == Ok(limit) {
            shown
        } else {
            limit.to_string()
        };
        format!("{name} {value:.digits$}{unit}, limit {limit}{unit}")
    }

    /// The measured value; `None` when it is missing or not a number.
    pub fn value(&self, inspection: &Inspection) -> Option<f32> {
        let value = match &self.quantity {
            Quantity::Score(label) => *inspection.scores.as_ref()?.get(usize::from(*label))?,
            Quantity::Defect { class, measure } => {
                let classes = &inspection.defects.as_ref()?.classes;
                match class {
                    Some(class) => one(classes.get(usize::from(*class))?, *measure),
                    None => classes
                        .iter()
                        .map(|c| one(c, *measure))
                        .reduce(|a, b| together(a, b, *measure))?,
                }
            }
        };
        (!value.is_nan()).then_some(value)
    }

    /// Whether the comparison is true; `None` when it cannot be said.
    pub fn holds(&self, inspection: &Inspection) -> Option<bool> {
        Some(self.comparison.holds(self.value(inspection)?, self.limit))
    }

    /// As a rule of `pass_if`: whether it lets the part pass; `None` when that cannot be said yet.
    fn allows(&self, inspection: &Inspection) -> Option<bool> {
        if self.is_excused(inspection) {
            Some(true)
        } else {
            self.holds(inspection)
        }
    }

    /// As a rule of `reject_if`: whether it rejects the part; `None` when that cannot be said yet.
    fn rejects(&self, inspection: &Inspection) -> Option<bool> {
        if self.is_excused(inspection) {
            Some(false)
        } else {
            self.holds(inspection)
        }
    }

    /// A score that is missing or not a number excuses nothing.
    fn is_excused(&self, inspection: &Inspection) -> bool {
        let Some(excuse) = &self.unless else { return false };
        let score = inspection
            .scores
            .as_ref()
            .and_then(|scores| scores.get(usize::from(excuse.label)));
        score.is_some_and(|&score| excuse.comparison.holds(score, excuse.limit))
    }

    fn needs_mask(&self) -> bool {
        matches!(self.quantity, Quantity::Defect { .. })
    }
}

fn one(class: &ClassMeasure, measure: Measure) -> f32 {
    match measure {
        Measure::AreaMm2 => class.area_mm2,
        Measure::LengthMm => class.length_mm,
        Measure::Count => class.count as f32,
        Measure::Peak => class.peak,
    }
}

/// Two classes taken as one; not a number stays not a number.
fn together(a: f32, b: f32, measure: Measure) -> f32 {
    match measure {
        Measure::AreaMm2 | Measure::Count => a + b,
        Measure::LengthMm | Measure::Peak if a.is_nan() || b.is_nan() => f32::NAN,
        Measure::LengthMm | Measure::Peak => a.max(b),
    }
}

/// The verdict of the rules on what the models said.
pub fn judge(rules: &Rules, inspection: &Inspection) -> Verdict {
    let mut none_rejects = true;
    for (index, rule) in rules.reject_if.iter().enumerate() {
        match (rule.rejects(inspection), rule.value(inspection)) {
            (Some(true), Some(measured)) => {
                return Verdict::Reject(Reason {
                    rule: index as u8,
                    measured,
                });
            }
            (Some(false), _) => {}
            _ => none_rejects = false,
        }
    }
    let all_pass = rules
        .pass_if
        .iter()
        .all(|rule| rule.allows(inspection) == Some(true));
    if all_pass && none_rejects && !rules.pass_if.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Unsure
    }
}

/// Whether the mask could still change the verdict. False once the mask is there,
/// and when the scores alone settle it.
pub fn needs_segment(rules: &Rules, inspection: &Inspection) -> bool {
    if inspection.defects.is_some() {
        return false;
    }
    let waits = |rule: &Rule| rule.needs_mask() && !rule.is_excused(inspection);
    let mut rejects = rules.reject_if.iter();
    if rejects.clone().any(|rule| rule.rejects(inspection) == Some(true)) {
        return false;
    }
    if rejects.clone().any(waits) {
        return true;
    }
    // Only `pass_if` asks for the mask: it matters if nothing else already forbids passing.
    let settled = |rule: &&Rule| !waits(rule);
    rejects.all(|rule| rule.rejects(inspection) == Some(false))
        && rules
            .pass_if
            .iter()
            .filter(settled)
            .all(|rule| rule.allows(inspection) == Some(true))
        && rules.pass_if.iter().any(waits)
}

/// Stands between a rule and what excuses from it.
const UNLESS: &str = " unless ";

fn parse_rule(text: &str, labels: &Labels<'_>) -> Result<Rule, Fault> {
    let (own, excuse) = match text.find(UNLESS) {
        Some(at) => (0..at, Some(at + UNLESS.len()..text.len())),
        None => (0..text.len(), None),
    };
    let unless = excuse
        .map(|range| parse_excuse(text, range, labels))
        .transpose()?;
    let (quantity, comparison, limit) = parse_comparison(text, own, labels)?;
    Ok(Rule {
        text: text.to_owned(),
        quantity,
        comparison,
        limit,
        unless,
    })
}

fn parse_excuse(text: &str, range: Range<usize>, labels: &Labels<'_>) -> Result<Excuse, Fault> {
    let (quantity, comparison, limit) = parse_comparison(text, range.clone(), labels)?;
    match quantity {
        Quantity::Score(label) => Ok(Excuse {
            label,
            comparison,
            limit,
        }),
        Quantity::Defect { .. } => Err(Fault {
            span: trimmed(text, range),
            message: "only a classifier score can excuse from a rule".into(),
            help:
                "write `unless LABEL >= LIMIT` with a label of the classifier, such as `unless good >= 0.95`"
                    .into(),
        }),
    }
}

/// `QUANTITY COMPARISON LIMIT` within `range` of the rule's text.
fn parse_comparison(
    text: &str,
    range: Range<usize>,
    labels: &Labels<'_>,
) -> Result<(Quantity, Comparison, f32), Fault> {
    let Some(start) = text[range.clone()].find(['<', '>']).map(|at| range.start + at) else {
        return Err(no_comparison(text, range));
    };
    let or_equal = text[start + 1..range.end].starts_with('=');
    let end = start + 1 + usize::from(or_equal);
    let comparison = match (text.as_bytes()[start], or_equal) {
        (b'<', false) => Comparison::Less,
        (b'<', true) => Comparison::LessOrEqual,
        (_, false) => Comparison::Greater,
        (_, true) => Comparison::GreaterOrEqual,
    };
    let name = trimmed(text, range.start..start);
    let number = trimmed(text, end..range.end);
    if name.is_empty() {
        return Err(Fault {
            span: start..end,
            message: "nothing to compare".into(),
            help: "write a quantity before the comparison, such as `scratch >= 0.60`".into(),
        });
    }
    let quantity = parse_quantity(text, name, labels)?;
    let limit = parse_limit(text, number, start..end, &quantity)?;
    Ok((quantity, comparison, limit))
}

/// The part of `range` without blanks at its ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

fn parse_quantity(text: &str, span: Range<usize>, labels: &Labels<'_>) -> Result<Quantity, Fault> {
    let name = &text[span.clone()];
    // A classifier label may itself contain a dot, so the whole name is tried first.
    if let Some(index) = labels.classify.and_then(|labels| position(labels, name)) {
        return Ok(Quantity::Score(index));
    }
    match name.rsplit_once('.') {
        Some((label, measure)) => parse_defect(span, label, measure, labels),
        None => Err(unknown_score(span, name, labels)),
    }
}

fn position(labels: &[String], name: &str) -> Option<u8> {
    labels
        .iter()
        .position(|label| label == name)
        .and_then(|index| u8::try_from(index).ok())
}

fn parse_defect(
    span: Range<usize>,
    label: &str,
    measure: &str,
    labels: &Labels<'_>,
) -> Result<Quantity, Fault> {
    let measure_span = span.end - measure.len()..span.end;
    let label_span = span.start..span.start + label.len();
    let Some(mask) = labels.mask else {
        return Err(Fault {
            span,
            message: format!("`{label}.{measure}` needs a mask, but the recipe has no `segment` model"),
            help: "add `segment = { model = … }` to the recipe, or use classifier scores only".into(),
        });
    };
    let Some((_, measure)) = MEASURES.iter().find(|(name, _)| *name == measure) else {
        return Err(Fault {
            span: measure_span,
            message: format!("`{measure}` is nothing that is measured of a defect"),
            help: format!("use one of {}", list(MEASURES.iter().map(|(name, _)| *name))),
        });
    };
    let class = match position(mask, label) {
        Some(class) => Some(class),
        None if label == ALL_DEFECTS => None,
        None => {
            let known = list(mask.iter().map(String::as_str).chain([ALL_DEFECTS]));
            return Err(Fault {
                span: label_span,
                message: format!("the mask has no class `{label}`"),
                help: format!("use one of {known} (`{ALL_DEFECTS}` means all together)"),
            });
        }
    };
    Ok(Quantity::Defect {
        class,
        measure: *measure,
    })
}

fn parse_limit(text: &str, span: Range<usize>, comparison: Range<usize>, q: &Quantity) -> Result<f32, Fault> {
    let number = &text[span.clone()];
    if number.is_empty() {
        return Err(Fault {
            span: comparison,
            message: "no limit after the comparison".into(),
            help: "write a number, such as `scratch >= 0.60`".into(),
        });
    }
    let limit = match number.parse::<f32>() {
        Ok(limit) if limit.is_finite() => limit,
        _ => {
            return Err(Fault {
                span,
                message: format!("`{number}` is not a number"),
                help: "write one number with a point, without unit; one rule holds one comparison".into(),
            });
        }
    };
    let share = matches!(
        q,
        Quantity::Score(_)
            | Quantity::Defect {
                measure: Measure::Peak,
                ..
            }
    );
    if share && !(0.0..=1.0).contains(&limit) {
        return Err(Fault {
            span,
            message: format!("a score lies between 0 and 1, so {number} is never reached or always"),
            help: "write a limit between 0 and 1".into(),
        });
    }
    if limit < 0.0 {
        return Err(Fault {
            span,
            message: "a defect never measures less than 0".into(),
            help: "write a limit of 0 or more".into(),
        });
    }
    Ok(limit)
}

fn no_comparison(text: &str, range: Range<usize>) -> Fault {
    let example = "write it as `QUANTITY >= LIMIT` with one of `<`, `<=`, `>`, `>=`";
    match text[range.clone()].find('=') {
        Some(at) => Fault {
            span: range.start + at..range.start + at + 1,
            message: "`=` is no comparison for a measured value".into(),
            help: example.into(),
        },
        None => Fault {
            span: range,
            message: "this rule compares nothing".into(),
            help: example.into(),
        },
    }
}

fn unknown_score(span: Range<usize>, name: &str, labels: &Labels<'_>) -> Fault {
    let mask = labels.mask.unwrap_or(&[]);
    if name == ALL_DEFECTS || position(mask, name).is_some() {
        return Fault {
            span,
            message: format!("`{name}` is a class of the mask: say what of it to measure"),
            help: format!("write `{name}.area_mm2`, `.length_mm`, `.count` or `.peak`"),
        };
    }
    match labels.classify {
        None => Fault {
            span,
            message: format!("`{name}` is a classifier score, but the recipe has no `classify` model"),
            help: "add `classify = { model = … }` to the recipe, or use rules of the mask only".into(),
        },
        Some(known) => Fault {
            span,
            message: format!("the classifier has no label `{name}`"),
            help: format!("use one of {}", list(known.iter().map(String::as_str))),
        },
    }
}

fn too_many(text: &str) -> Fault {
    Fault {
        span: 0..text.len(),
        message: format!("more than {RULES_MAX} rules in one list"),
        help: "leave out or join rules".into(),
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
