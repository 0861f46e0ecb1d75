//! Reading the TOML tree key by key, with the place of everything.
//!
//! serde would stop at the first error, so the spanned tree is walked by hand:
//! every getter names a key and what it must hold, notes what does not fit and
//! goes on. Which keys a table knows is exactly which keys were asked for; when
//! a [`Section`] is dropped, the keys nobody asked for are errors.
//!
//! A getter returns `None` when a problem was noted, so `?` at the end of a
//! function joins what was read one by one.

use super::ControlValue;
use super::diagnostic::{Problem, nearest};
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// All problems found on the way, up to [`PROBLEMS_MAX`].
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

/// A file with more is no configuration with mistakes, it is something else;
/// listing all of it would take longer than a person waits.
pub(super) const PROBLEMS_MAX: usize = 200;

impl Problems {
    pub fn add(&self, problem: Problem) {
        if !self.full() {
            self.0.borrow_mut().push(problem);
        }
    }

    fn full(&self) -> bool {
        self.0.borrow().len() >= PROBLEMS_MAX
    }

    pub fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A table being read.
pub(super) struct Section<'t> {
    pub problems: &'t Problems,
    /// Dotted, as a person would name it; empty at the root.
    pub path: String,
    /// The header `[a.b]`, or the braces of an inline table.
    pub span: Range<usize>,
    table: &'t DeTable<'t>,
    known: RefCell<Vec<&'static str>>,
    any_key: bool,
}

/// A value being read.
pub(super) struct Value<'t> {
    pub problems: &'t Problems,
    pub path: String,
    pub span: Range<usize>,
    pub value: &'t DeValue<'t>,
}

impl<'t> Section<'t> {
    pub fn root(table: &'t DeTable<'t>, problems: &'t Problems) -> Self {
        Section {
            problems,
            path: String::new(),
            span: 0..0,
            table,
            known: RefCell::default(),
            any_key: false,
        }
    }

    /// Path of a key in this table.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub fn get(&self, key: &'static str) -> Option<Value<'t>> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(self.value(key, value))
    }

    fn value(&self, key: &str, value: &'t Spanned<DeValue<'t>>) -> Value<'t> {
        Value {
            problems: self.problems,
            path: self.path_of(key),
            span: value.span(),
            value: value.get_ref(),
        }
    }

    /// Lets every key pass: the table belongs to a format this code does not know.
    pub fn any_key(&mut self) {
        self.any_key = true;
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Where a dotted path below this table is written; see [`place`].
    pub fn place(&self, path: &str) -> Option<Range<usize>> {
        place(self.table, path)
    }

    /// Whether exactly this path is written in the file.
    pub fn written(&self, path: &str) -> bool {
        let mut table = self.table;
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            match table
                .iter()
                .find(|(name, _)| name.get_ref() == step)
                .map(|(_, value)| value.get_ref())
            {
                Some(_) if steps.peek().is_none() => return true,
                Some(DeValue::Table(below)) => table = below,
                _ => return false,
            }
        }
        false
    }

    /// A key that must be there.
    pub fn required<T>(
        &self,
        key: &'static str,
        what: &str,
        read: impl FnOnce(&Value<'t>) -> Option<T>,
    ) -> Option<At<T>> {
        match self.get(key) {
            Some(value) => read(&value).map(|v| At {
                value: v,
                span: value.span.clone(),
            }),
            None => {
                self.missing(key, what);
                None
            }
        }
    }

    /// A key that may be left out: `Some(None)` when it is, `None` when it is wrong.
    pub fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value<'t>) -> Option<T>,
    ) -> Option<Option<At<T>>> {
        match self.get(key) {
            Some(value) => Some(Some(At {
                value: read(&value)?,
                span: value.span.clone(),
            })),
            None => Some(None),
        }
    }

    /// A key with a default.
    pub fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'t>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(value) => read(&value),
            None => Some(default),
        }
    }

    /// Notes that `key` is not there; `what` is an example of how it is written.
    pub fn missing(&self, key: &str, what: &str) {
        let path = self.path_of(key);
        // A misspelt neighbour is reported by itself, as an unknown key.
        let place = if self.path.is_empty() {
            "the file"
        } else {
            "this table"
        };
        let mut problem = Problem::new(format!("`{path}` is missing")).help(format!("add `{what}`"));
        if !self.path.is_empty() {
            problem = problem.at(self.span.clone(), format!("{place} needs `{key}`"));
        }
        problem.missing = true;
        self.problems.add(problem);
    }

    /// The tables below this one, whatever they are called, in the order of the file.
    pub fn tables(&mut self, example: &str) -> Vec<(At<String>, Section<'t>)> {
        self.any_key = true;
        if let Some((name, _)) = self.table.iter().find(|(_, value)| !value.get_ref().is_table()) {
            let problem = Problem::new(format!("`[{}]` needs a name", self.path))
                .at(name.span(), "this key belongs to a table with a name")
                .help(format!("write `{example}` above it, with a name of your choice"));
            self.problems.add(problem);
            return Vec::new();
        }
        let mut found = Vec::new();
        for (name, value) in self.table.iter() {
            let key: &str = name.get_ref();
            if !is_name(key) {
                let shown: String = key.chars().take(64).collect();
                let problem = Problem::new(format!("`{}` cannot be a name", shown.escape_debug()))
                    .at(name.span(), "this name")
                    .help("letters, digits, `-` and `_`, at most 32 of them");
                self.problems.add(problem);
            }
            if let Some(section) = self.value(key, value).section() {
                found.push((
                    At {
                        value: key.to_owned(),
                        span: name.span(),
                    },
                    section,
                ));
            }
        }
        found
    }

    /// All keys with their values, whatever they are called, in the order of the file.
    pub fn entries(&mut self) -> Vec<(At<String>, Value<'t>)> {
        self.any_key = true;
        let mut entries = Vec::new();
        for (name, value) in self.table.iter() {
            let key: &str = name.get_ref();
            let at = At {
                value: key.to_owned(),
                span: name.span(),
            };
            entries.push((at, self.value(key, value)));
        }
        entries.sort_by_key(|(name, _)| name.span.start);
        entries
    }

    /// Exactly one of several keys, each standing for a table or value of its own.
    pub fn one_of(&self, keys: &[&'static str], examples: &str) -> Option<(&'static str, Value<'t>)> {
        let mut found: Vec<_> = keys
            .iter()
            .filter_map(|key| Some((*key, self.get(key)?)))
            .collect();
        found.sort_by_key(|(_, value)| value.span.start);
        let listed = list(keys);
        if found.len() > 1 {
            let problem = Problem::new(format!("only one of {listed} can be in `{}`", self.path))
                .at(found[1].1.span.clone(), "the second one")
                .also(found[0].1.span.clone(), "the first one")
                .help("delete one of the two");
            self.problems.add(problem);
            return None;
        }
        if found.is_empty() {
            let mut problem = Problem::new(format!("`{}` needs one of {listed}", self.path))
                .at(self.span.clone(), "none of them is here")
                .help(format!("add {examples}"));
            problem.missing = true;
            self.problems.add(problem);
        }
        found.pop()
    }
}

/// Keys nobody asked for are unknown. On drop, so that no early return forgets them.
impl Drop for Section<'_> {
    fn drop(&mut self) {
        if self.any_key {
            return;
        }
        let known = self.known.borrow();
        for (name, _) in self.table.iter() {
            let key: &str = name.get_ref();
            if known.contains(&key) || self.problems.full() {
                continue;
            }
            let place = if self.path.is_empty() {
                "at the top of the file".to_owned()
            } else {
                format!("in `{}`", self.path)
            };
            let problem = Problem::new(format!(
                "unknown key `{}` {place}",
                key.chars().take(64).collect::<String>()
            ));
            let problem = match nearest(key, known.iter().copied()) {
                Some(near) => problem.at(name.span(), format!("did you mean `{near}`?")),
                None => problem.at(name.span(), "not known here"),
            };
            let help = if known.is_empty() {
                "nothing can stand here".to_owned()
            } else {
                format!("known here: {}", known.join(", "))
            };
            self.problems.add(problem.help(help));
        }
    }
}

impl<'t> Value<'t> {
    fn wrong_type(&self, wanted: &str, help: &str) {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let problem = Problem::new(format!("`{}` must be {wanted}, not {found}", self.path))
            .at(self.span.clone(), format!("this is {found}"))
            .help(help);
        self.problems.add(problem);
    }

    /// Notes that the value does not do.
    pub fn refuse(&self, title: String, label: &str, help: impl Into<String>) {
        self.problems
            .add(Problem::new(title).at(self.span.clone(), label).help(help));
    }

    pub fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub fn is_string(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    pub fn section(&self) -> Option<Section<'t>> {
        match self.value {
            DeValue::Table(table) => Some(Section {
                problems: self.problems,
                path: self.path.clone(),
                span: self.span.clone(),
                table,
                known: RefCell::default(),
                any_key: false,
            }),
            _ => {
                self.wrong_type(
                    "a table",
                    &format!("write `{} = {{ … }}` or a `[table]`", self.key()),
                );
                None
            }
        }
    }

    /// The last part of the path.
    pub fn key(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }

    pub fn text(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) if text.is_empty() => {
                self.refuse(
                    format!("`{}` is empty", self.path),
                    "nothing between the quotes",
                    "fill it in",
                );
                None
            }
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong_type("a string", "put it in double quotes");
                None
            }
        }
    }

    /// A string that becomes part of file names, messages and the display.
    pub fn name(&self) -> Option<String> {
        let text = self.text()?;
        if text.chars().count() > 64 || text.chars().any(char::is_control) {
            self.refuse(
                format!("`{}` cannot be used as a name", self.path),
                "too long, or with control characters",
                "at most 64 visible characters",
            );
            return None;
        }
        Some(text)
    }

    pub fn flag(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong_type("true or false", "write true or false without quotes");
                None
            }
        }
    }

    /// A number, whole or not, within a range (unit as in the key).
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .map(|i| i as f64),
            DeValue::String(text) if text.trim().parse::<f64>().is_ok() => {
                self.wrong_type("a number", &format!("without quotes: {}", text.trim()));
                return None;
            }
            _ => {
                self.wrong_type("a number", &format!("from {} to {}", range.start(), range.end()));
                return None;
            }
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                self.out_of_range(range.start(), range.end());
                None
            }
        }
    }

    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let DeValue::Integer(integer) = self.value else {
            self.wrong_type(
                "a whole number",
                &format!("from {} to {}", range.start(), range.end()),
            );
            return None;
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                self.out_of_range(range.start(), range.end());
                None
            }
        }
    }

    fn out_of_range(&self, least: &dyn std::fmt::Display, most: &dyn std::fmt::Display) {
        self.refuse(
            format!("`{}` is out of range", self.path),
            &format!("must be from {least} to {most}"),
            format!("set a value from {least} to {most}{}", unit_of(self.key())),
        );
    }

    /// One of several words.
    pub fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let DeValue::String(text) = self.value else {
            self.wrong_type("a string", &format!("one of {}", quoted(&words)));
            return None;
        };
        let found = choices
            .iter()
            .find(|(word, _)| *word == text.as_ref())
            .map(|(_, value)| value.clone());
        if found.is_none() {
            let label = match nearest(text, words.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "not known here".to_owned(),
            };
            let shown: String = text.chars().take(64).collect();
            let title = format!("`{}` cannot be \"{}\"", self.path, shown.escape_debug());
            self.refuse(title, &label, format!("one of {}", quoted(&words)));
        }
        found
    }

    /// What a control of a camera can be: a whole number, a switch, or an item of a menu.
    pub fn control(&self) -> Option<ControlValue> {
        match self.value {
            DeValue::Integer(_) => self.integer(i64::MIN..=i64::MAX).map(ControlValue::Number),
            DeValue::Boolean(flag) => Some(ControlValue::Flag(*flag)),
            DeValue::String(_) => self.name().map(ControlValue::Word),
            _ => {
                self.wrong_type(
                    "a whole number, true, false or a string",
                    "`elek probe` shows what it takes",
                );
                None
            }
        }
    }

    /// A list of strings.
    pub fn texts(&self, most: usize) -> Option<Vec<At<String>>> {
        let DeValue::Array(items) = self.value else {
            self.wrong_type(
                "a list of strings",
                &format!("write `{} = [\"…\", \"…\"]`", self.key()),
            );
            return None;
        };
        if items.len() > most {
            let title = format!("`{}` has {} entries", self.path, items.len());
            self.refuse(title, &format!("at most {most}"), "shorten the list");
            return None;
        }
        let mut texts = Vec::new();
        let mut all_good = true;
        for (index, item) in items.iter().enumerate() {
            let value = Value {
                problems: self.problems,
                path: format!("{}[{index}]", self.path),
                span: item.span(),
                value: item.get_ref(),
            };
            match value.text() {
                Some(text) => texts.push(At {
                    value: text,
                    span: value.span,
                }),
                None => all_good = false,
            }
        }
        all_good.then_some(texts)
    }
}

/// The unit a key names, for messages.
fn unit_of(key: &str) -> &'static str {
    const UNITS: [(&str, &str); 9] = [
        ("mm_per_px", " mm per pixel"),
        ("_per_mm", " per mm"),
        ("_mm_s", " mm/s"),
        ("_mm2", " mm²"),
        ("_mm", " mm"),
        ("_ms", " ms"),
        ("_us", " µs"),
        ("_percent", " %"),
        ("_per_s", " per second"),
    ];
    UNITS
        .iter()
        .find(|(suffix, _)| key.ends_with(suffix))
        .map_or("", |(_, unit)| unit)
}

pub(super) fn list(keys: &[&str]) -> String {
    keys.iter()
        .map(|key| format!("`{key}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Names of cameras, rejects and recipes become file names and command arguments.
fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The place of a dotted path such as `recipe.cap.pass_if[1]`, or of its nearest
/// parent that is written down.
pub(super) fn place(root: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let mut table = root;
    let mut found = None;
    for step in path.split('.') {
        let (key, index) = match step.strip_suffix(']').and_then(|s| s.split_once('[')) {
            Some((key, index)) => (key, index.parse::<usize>().ok()),
            None => (step, None),
        };
        let Some((_, value)) = table.iter().find(|(name, _)| name.get_ref() == key) else {
            break;
        };
        found = Some(value.span());
        match value.get_ref() {
            DeValue::Table(below) => table = below,
            DeValue::Array(items) => {
                return index.and_then(|i| items.get(i)).map(|item| item.span()).or(found);
            }
            _ => break,
        }
    }
    found
}

/// Byte in the file of byte `offset` of a string whose literal (with its quotes) starts at `start`.
///
/// Exact for literals and for escapes; at worst it points at the opening quote.
pub(super) fn in_string(text: &str, span: &Range<usize>, offset: usize) -> usize {
    let literal = text.get(span.clone()).unwrap_or("");
    let raw = literal.starts_with('\'');
    let triple = literal.starts_with("\"\"\"") || literal.starts_with("'''");
    let mut at = if triple { 3 } else { 1 };
    if triple {
        // A line break right after the opening quotes is not part of the string.
        at += literal[at..]
            .strip_prefix("\r\n")
            .map_or(usize::from(literal[at..].starts_with('\n')), |_| 2);
    }
    let mut decoded = 0;
    while decoded < offset {
        let Some(c) = literal.get(at..).and_then(|rest| rest.chars().next()) else {
            return span.start;
        };
        if c != '\\' || raw {
            at += c.len_utf8();
            decoded += c.len_utf8();
            continue;
        }
        let (written, stands_for) = escape(&literal[at..]);
        at += written;
        decoded += stands_for;
    }
    (span.start + at).min(span.end)
}

/// Bytes an escape takes in the file, and bytes of what it stands for.
fn escape(rest: &str) -> (usize, usize) {
    let digits = match rest.as_bytes().get(1) {
        Some(b'x') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        Some(b'\n' | b'\r' | b' ' | b'\t') => {
            // A backslash at the end of a line swallows all blank space after it.
            let blank = rest[1..].len() - rest[1..].trim_start().len();
            return (1 + blank, 0);
        }
        _ => return (2.min(rest.len()), 1),
    };
    let code = rest
        .get(2..2 + digits)
        .and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (
        2 + digits,
        code.and_then(char::from_u32).map_or(1, char::len_utf8),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_string_are_found_through_escapes() {
        for (text, wanted) in [
            (r#""abc""#, 'c'),
            (r"'a\c'", 'c'),
            (r#""\u00e4\tc""#, 'c'),
            ("\"\"\"\nabc\"\"\"", 'c'),
            ("\"\"\"a\\\n   bc\"\"\"", 'c'),
        ] {
            let table = format!("k = {text}");
            let doc = DeTable::parse(&table).expect("valid TOML");
            let (_, value) = doc.get_ref().iter().next().expect("one key");
            let decoded = value.get_ref().as_str().expect("a string");
            let offset = decoded.find(wanted).expect("is in it");
            let at = in_string(&table, &value.span(), offset);
            assert_eq!(table[at..].chars().next(), Some(wanted), "{table}");
        }
    }

    #[test]
    fn places_are_found_by_path_or_by_parent() {
        let text = "[recipe.cap]\npass_if = [\"a\", \"b\"]\n";
        let doc = DeTable::parse(text).expect("valid TOML");
        let shown = |path| place(doc.get_ref(), path).map(|span| &text[span]);
        assert_eq!(shown("recipe.cap.pass_if[1]"), Some("\"b\""));
        assert_eq!(shown("recipe.cap.aim_mm"), Some("[recipe.cap]"));
        assert_eq!(shown("belt"), None);
    }
}
