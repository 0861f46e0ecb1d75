//! Whatever happens to a configuration file, it is answered.

use super::*;
use proptest::prelude::*;

/// Pieces that a person might paste, delete or mistype.
fn pieces() -> impl Strategy<Value = String> {
    prop_oneof![
        "[\\[\\]{}=\",.#'\\\\ \n]{1,4}",
        "-?[0-9]{1,20}(\\.[0-9]{1,4})?",
        Just("nan".to_owned()),
        Just("-inf".to_owned()),
        Just("1e308".to_owned()),
        Just("0".to_owned()),
        Just("true".to_owned()),
        Just("\"\"".to_owned()),
        Just("\u{0}ä\u{1F600}".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("1979-05-27".to_owned()),
        "[a-z_]{1,12}",
        "\\PC{0,6}",
    ]
}

#[derive(Clone, Debug)]
enum Change {
    /// Replaces so many characters from a place by a piece.
    Splice(prop::sample::Index, usize, String),
    /// Replaces the value after the n-th `=`.
    Value(prop::sample::Index, String),
    DropLine(prop::sample::Index),
    DoubleLine(prop::sample::Index),
    Truncate(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    use any as anything;
    prop_oneof![
        (anything::<prop::sample::Index>(), 0usize..6, pieces())
            .prop_map(|(at, n, p)| Change::Splice(at, n, p)),
        (anything::<prop::sample::Index>(), pieces()).prop_map(|(at, p)| Change::Value(at, p)),
        anything::<prop::sample::Index>().prop_map(Change::DropLine),
        anything::<prop::sample::Index>().prop_map(Change::DoubleLine),
        anything::<prop::sample::Index>().prop_map(Change::Truncate),
    ]
}

fn apply(text: &str, change: &Change) -> String {
    if text.is_empty() {
        return String::new();
    }
    let chars: Vec<char> = text.chars().collect();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    match change {
        Change::Splice(at, n, piece) => {
            let at = at.index(chars.len());
            let end = (at + n).min(chars.len());
            chars[..at]
                .iter()
                .chain(piece.chars().collect::<Vec<_>>().iter())
                .chain(&chars[end..])
                .collect()
        }
        Change::Value(at, piece) => {
            let places: Vec<usize> = text.match_indices('=').map(|(i, _)| i).collect();
            if places.is_empty() {
                return text.to_owned();
            }
            let from = places[at.index(places.len())] + 1;
            let to = text[from..]
                .find([',', '}', '\n', '#'])
                .map_or(text.len(), |end| from + end);
            format!("{} {piece} {}", &text[..from], &text[to..])
        }
        Change::DropLine(at) => {
            let drop = at.index(lines.len());
            lines
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != drop)
                .map(|(_, line)| *line)
                .collect()
        }
        Change::DoubleLine(at) => {
            let twice = at.index(lines.len());
            lines
                .iter()
                .enumerate()
                .flat_map(|(i, line)| std::iter::repeat_n(*line, 1 + usize::from(i == twice)))
                .collect()
        }
        Change::Truncate(at) => chars[..at.index(chars.len())].iter().collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever happens to the file: no panic, and either a configuration that
    /// works or at least one problem with a place inside the file.
    #[test]
    fn mutations_of_the_default_never_panic(changes in prop::collection::vec(change(), 1..5)) {
        let text = changes.iter().fold(DEFAULT.to_owned(), |text, change| apply(&text, change));
        let checked = check_text(&text, "elek.toml", Path::new("/nowhere"), &resolve, Some(Soc::CortexA76));
        match checked.config {
            Ok(_) => prop_assert!(checked.findings.iter().all(|f| f.level != Level::Error)),
            Err(report) => {
                prop_assert!(!report.problems().is_empty());
                let shown = report.render(false);
                prop_assert!(shown.contains("elek.toml"));
                let lines = text.lines().count() + 1;
                for problem in report.problems() {
                    if let Some((line, _)) = report.position(problem) {
                        prop_assert!((1..=lines).contains(&line));
                    }
                }
            }
        }
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        let _ = read(&text).map_err(|report| report.render(true));
    }
}
