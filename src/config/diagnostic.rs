//! What is wrong with a configuration, for people: file, line, column, a caret
//! under the place, and what to do about it.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// More are counted, not shown: nobody reads the fifty-first, and a megabyte of
/// nonsense must not become a gigabyte of complaints.
const PROBLEMS_SHOWN_MAX: usize = 50;
/// Lines of a span that are shown.
const LINES_SHOWN_MAX: usize = 4;

/// A longer word is no misspelt key, and comparing it would take its length squared.
const WORD_BYTES_MAX: usize = 64;

/// One thing that is wrong, and where.
#[derive(Clone, Debug)]
pub struct Problem {
    pub title: String,
    /// Bytes of the file; `None` when the file as a whole is meant.
    pub span: Option<Range<usize>>,
    /// Stands beside the caret.
    pub label: String,
    /// More to know: the numbers behind it.
    pub note: String,
    /// What to do.
    pub help: String,
    /// Another place that belongs to it.
    pub also: Option<(Range<usize>, String)>,
    /// Something is not there. After a syntax error such a finding may merely echo it.
    pub(super) missing: bool,
}

impl Problem {
    pub fn new(title: impl Into<String>) -> Self {
        Problem {
            title: title.into(),
            span: None,
            label: String::new(),
            note: String::new(),
            help: String::new(),
            also: None,
            missing: false,
        }
    }

    pub fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.span = Some(span);
        self.label = label.into();
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    pub fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }
}

/// Everything that is wrong with one file. Its `Display` is the full text for a terminal without colours.
#[derive(Clone, Debug)]
pub struct Report {
    name: String,
    text: String,
    problems: Vec<Problem>,
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Report {
    /// Sorted by place; problems of the file as a whole come first.
    pub fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| p.span.as_ref().map(|s| s.start));
        Report {
            name: name.to_owned(),
            text: text.to_owned(),
            problems,
        }
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Line and column of a problem, both from 1, the column in characters.
    pub fn position(&self, problem: &Problem) -> Option<(usize, usize)> {
        let span = problem.span.as_ref()?;
        Some(position(&self.text, span.start))
    }

    /// All problems as text, with colours when `styled`.
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        for problem in self.problems.iter().take(PROBLEMS_SHOWN_MAX) {
            out.push_str(&renderer.render(&[self.group(problem)]));
            out.push_str("\n\n");
        }
        let count = self.problems.len();
        if count > PROBLEMS_SHOWN_MAX {
            out.push_str(&format!("… and {} more\n\n", count - PROBLEMS_SHOWN_MAX));
        }
        let noun = if count == 1 { "problem" } else { "problems" };
        out.push_str(&format!("{}: {count} {noun}", self.name));
        out
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let title = Level::ERROR.primary_title(problem.title.as_str());
        let mut group = match &problem.span {
            Some(span) => title.element(self.snippet(span.clone(), &problem.label)),
            None => title.element(Origin::path(self.name.as_str())),
        };
        if let Some((span, label)) = &problem.also {
            group = group.element(self.snippet(span.clone(), label));
        }
        if !problem.note.is_empty() {
            group = group.element(Level::NOTE.message(problem.note.as_str()));
        }
        if !problem.help.is_empty() {
            group = group.element(Level::HELP.message(problem.help.as_str()));
        }
        group
    }

    /// The lines of the span alone, so that a long file is not searched for every problem.
    fn snippet<'a>(
        &'a self,
        span: Range<usize>,
        label: &'a str,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let span = on_characters(&self.text, span);
        let first = self.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let mut last = first;
        for line in self.text[first..].split_inclusive('\n').take(LINES_SHOWN_MAX) {
            last += line.len();
            if last >= span.end {
                break;
            }
        }
        let end = span.end.min(last).max(span.start);
        let mark = AnnotationKind::Primary.span(span.start - first..end - first);
        let mark = if label.is_empty() { mark } else { mark.label(label) };
        Snippet::source(&self.text[first..last])
            .path(self.name.as_str())
            .line_start(position(&self.text, first).0)
            .annotation(mark)
    }
}

/// Line and column of a byte, both from 1, the column in characters.
pub(super) fn position(text: &str, at: usize) -> (usize, usize) {
    let at = on_characters(text, at..at).start;
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[..line_start].bytes().filter(|b| *b == b'\n').count() + 1;
    (line, text[line_start..at].chars().count() + 1)
}

/// The span within the text, its ends on whole characters.
fn on_characters(text: &str, span: Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

/// The known word that was probably meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let folded = word.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .filter_map(|candidate| {
            let plain = candidate.to_lowercase().replace('-', "_");
            // A key whose unit was forgotten is meant more surely than one that looks alike.
            let unit_forgotten = folded.len() >= 3 && plain.starts_with(&format!("{folded}_"));
            let distance = if unit_forgotten {
                0
            } else {
                strsim::damerau_levenshtein(&folded, &plain)
            };
            let near_enough = distance <= 1.max(plain.chars().count().min(folded.chars().count()) / 3);
            near_enough.then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near_or_nothing() {
        let known = ["speed_mm_s", "permit", "running", "coast_mm"];
        assert_eq!(nearest("coast", known), Some("coast_mm"));
        assert_eq!(nearest("premit", known), Some("permit"));
        assert_eq!(nearest("coast-mm", known), Some("coast_mm"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a = 1\nß = ü\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, text.find('ü').expect("is there")), (2, 5));
        assert_eq!(position(text, 10_000), (3, 1));
    }

    #[test]
    fn any_span_renders() {
        let text = "ä = 1\nbb = \"\u{7f}x\"\n\n";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let report = Report::new("x", text, vec![Problem::new("t").at(start..end, "l")]);
                assert!(report.render(false).contains("error: t"));
            }
        }
    }
}
