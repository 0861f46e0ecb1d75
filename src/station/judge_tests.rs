use super::*;
use crate::infer::inspection::Defects;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn rules(pass_if: &[&str], reject_if: &[&str]) -> Rules {
    let classify = strings(&["good", "scratch", "dent"]);
    let mask = strings(&["scratch", "contamination"]);
    let labels = Labels {
        classify: Some(&classify),
        mask: Some(&mask),
    };
    Rules::parse(&strings(pass_if), &strings(reject_if), &labels).unwrap()
}

fn error(rule: &str) -> RuleError {
    let classify = strings(&["good", "scratch"]);
    let mask = strings(&["scratch", "hole"]);
    let labels = Labels {
        classify: Some(&classify),
        mask: Some(&mask),
    };
    let mut errors = Rules::parse(&strings(&["good > 0.5", rule]), &[], &labels).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].list, errors[0].index), (RuleList::PassIf, 1));
    errors.remove(0)
}

fn scores(scores: &[f32]) -> Inspection {
    Inspection {
        scores: Some(scores.iter().copied().collect()),
        ..Inspection::default()
    }
}

fn mask(mut inspection: Inspection, areas: &[f32]) -> Inspection {
    let classes = areas
        .iter()
        .map(|&area_mm2| ClassMeasure {
            count: 1,
            area_mm2,
            length_mm: area_mm2 * 2.0,
            peak: 0.9,
        })
        .collect();
    inspection.defects = Some(Defects {
        classes,
        ..Defects::default()
    });
    inspection
}

#[test]
fn a_rule_is_read_as_written() {
    let r = rules(
        &["good >= 0.90", "defect.area_mm2<=0.3"],
        &["contamination.count > 2"],
    );
    assert_eq!(r.pass_if[0].quantity, Quantity::Score(0));
    assert_eq!(r.pass_if[0].comparison, Comparison::GreaterOrEqual);
    assert_eq!(r.pass_if[0].limit, 0.9);
    assert_eq!(
        r.pass_if[1].quantity,
        Quantity::Defect {
            class: None,
            measure: Measure::AreaMm2
        }
    );
    assert_eq!(r.pass_if[1].comparison, Comparison::LessOrEqual);
    assert_eq!(
        r.reject_if[0].quantity,
        Quantity::Defect {
            class: Some(1),
            measure: Measure::Count
        }
    );
}

#[test]
fn errors_point_at_the_bytes_that_are_wrong() {
    for (rule, span, message) in [
        ("goood >= 0.9", 0..5, "the classifier has no label `goood`"),
        ("good = 0.9", 5..6, "`=` is no comparison for a measured value"),
        ("good", 0..4, "this rule compares nothing"),
        ("", 0..0, "this rule compares nothing"),
        ("  >= 0.9", 2..4, "nothing to compare"),
        ("good >=  ", 5..7, "no limit after the comparison"),
        ("good >= 0,9", 8..11, "`0,9` is not a number"),
        ("good >= NaN", 8..11, "`NaN` is not a number"),
        (
            "good >= 0.2 and good < 0.9",
            8..26,
            "`0.2 and good < 0.9` is not a number",
        ),
        (
            "good >= 90",
            8..10,
            "a score lies between 0 and 1, so 90 is never reached or always",
        ),
        (
            "hole >= 0.5",
            0..4,
            "`hole` is a class of the mask: say what of it to measure",
        ),
        (
            "hole.size > 1",
            5..9,
            "`size` is nothing that is measured of a defect",
        ),
        ("crack.count > 1", 0..5, "the mask has no class `crack`"),
        (
            "hole.area_mm2 > -1",
            16..18,
            "a defect never measures less than 0",
        ),
    ] {
        let error = error(rule);
        assert_eq!((error.span, error.message.as_str()), (span, message), "{rule}");
        assert!(!error.help.is_empty());
    }
}

#[test]
fn all_errors_of_both_lists_come_at_once() {
    let errors = Rules::parse(
        &strings(&["a > 1", "b"]),
        &strings(&["c > x"]),
        &Labels::default(),
    )
    .unwrap_err();
    let places: Vec<_> = errors.iter().map(|e| (e.list, e.index)).collect();
    assert_eq!(
        places,
        [
            (RuleList::PassIf, 0),
            (RuleList::PassIf, 1),
            (RuleList::RejectIf, 0)
        ]
    );
    assert!(errors[0].message.contains("no `classify` model"));
}

#[test]
fn rules_without_models_are_refused() {
    let errors = Rules::parse(&[], &strings(&["defect.count > 0"]), &Labels::default()).unwrap_err();
    assert!(errors[0].message.contains("no `segment` model"), "{errors:?}");
}

#[test]
fn rejecting_comes_before_passing() {
    let r = rules(&["good >= 0.5"], &["scratch >= 0.6"]);
    assert_eq!(judge(&r, &scores(&[0.9, 0.1, 0.0])), Verdict::Pass);
    let both = judge(&r, &scores(&[0.9, 0.7, 0.0]));
    assert_eq!(
        both,
        Verdict::Reject(Reason {
            rule: 0,
            measured: 0.7
        })
    );
    assert_eq!(judge(&r, &scores(&[0.4, 0.1, 0.0])), Verdict::Unsure);
}

#[test]
fn what_is_missing_satisfies_nothing() {
    let r = rules(&["good >= 0.5"], &["scratch >= 0.6"]);
    assert_eq!(judge(&r, &Inspection::default()), Verdict::Unsure);
    assert_eq!(
        judge(&r, &scores(&[0.9])),
        Verdict::Unsure,
        "the reject rule cannot be said"
    );
    assert_eq!(judge(&r, &scores(&[f32::NAN, 0.0, 0.0])), Verdict::Unsure);
    assert_eq!(judge(&r, &scores(&[0.9, f32::NAN, 0.0])), Verdict::Unsure);
    // Not even a rule that any number below would satisfy.
    let r = rules(&["scratch < 0.9"], &[]);
    assert_eq!(judge(&r, &scores(&[0.9, f32::NAN])), Verdict::Unsure);
}

#[test]
fn no_pass_rule_passes_nothing() {
    assert_eq!(
        judge(&rules(&[], &["scratch >= 0.6"]), &scores(&[1.0, 0.0, 0.0])),
        Verdict::Unsure
    );
}

#[test]
fn classes_of_the_mask_are_taken_alone_or_together() {
    let together = rules(&["good >= 0.5"], &["defect.area_mm2 > 0.8"]);
    let one = rules(&["good >= 0.5"], &["contamination.area_mm2 > 0.8"]);
    let seen = mask(scores(&[0.9, 0.0, 0.0]), &[0.5, 0.5]);
    assert_eq!(
        judge(&together, &seen),
        Verdict::Reject(Reason {
            rule: 0,
            measured: 1.0
        })
    );
    assert_eq!(judge(&one, &seen), Verdict::Pass);
    let longest = rules(&["defect.length_mm <= 1.0"], &[]);
    assert_eq!(judge(&longest, &seen), Verdict::Pass);
    let nan = mask(scores(&[0.9, 0.0, 0.0]), &[0.1, f32::NAN]);
    assert_eq!(judge(&longest, &nan), Verdict::Unsure);
    assert_eq!(judge(&together, &nan), Verdict::Unsure);
}

#[test]
fn the_mask_is_made_only_when_it_can_change_the_verdict() {
    let r = rules(&["good >= 0.9", "defect.area_mm2 <= 0.3"], &["scratch >= 0.6"]);
    assert!(
        needs_segment(&r, &scores(&[0.95, 0.1, 0.0])),
        "passing depends on it"
    );
    assert!(!needs_segment(&r, &scores(&[0.95, 0.7, 0.0])), "already rejected");
    assert!(
        !needs_segment(&r, &scores(&[0.5, 0.1, 0.0])),
        "cannot pass any more, nor be rejected"
    );
    assert!(
        !needs_segment(&r, &scores(&[0.95])),
        "the reject rule stays unknown, so it cannot pass"
    );
    assert!(
        !needs_segment(&r, &mask(scores(&[0.95, 0.1, 0.0]), &[0.1, 0.0])),
        "it is there"
    );
    let r = rules(&["good >= 0.9"], &["defect.area_mm2 > 0.8"]);
    assert!(
        needs_segment(&r, &scores(&[0.5, 0.1, 0.0])),
        "it may still be rejected"
    );
    assert!(
        !needs_segment(&rules(&["good >= 0.9"], &[]), &scores(&[0.5])),
        "no rule asks for it"
    );
}

/// The mask is needed exactly when two masks exist that lead to different verdicts.
#[test]
fn needs_segment_agrees_with_trying_masks() {
    let lists: [&[&str]; 4] = [
        &["good >= 0.5"],
        &["defect.area_mm2 <= 1"],
        &["good >= 0.5", "defect.area_mm2 <= 1"],
        &[],
    ];
    let rejects: [&[&str]; 4] = [
        &["scratch >= 0.5"],
        &["defect.area_mm2 > 1"],
        &["scratch >= 0.5", "defect.area_mm2 > 1"],
        &[],
    ];
    let values: [&[f32]; 6] = [
        &[0.9, 0.1],
        &[0.9, 0.9],
        &[0.1, 0.1],
        &[0.1, 0.9],
        &[f32::NAN, 0.1],
        &[0.9],
    ];
    for (pass_if, reject_if) in lists.iter().flat_map(|p| rejects.iter().map(move |r| (p, r))) {
        let r = rules(pass_if, reject_if);
        for value in values {
            let seen = scores(value);
            let kind = |areas: &[f32]| std::mem::discriminant(&judge(&r, &mask(seen.clone(), areas)));
            let matters = kind(&[0.0, 0.0]) != kind(&[9.0, 9.0]);
            assert_eq!(
                needs_segment(&r, &seen),
                matters,
                "{pass_if:?} {reject_if:?} {value:?}"
            );
        }
    }
}

#[test]
fn verdicts_have_words() {
    let r = rules(
        &["good >= 0.90"],
        &["scratch >= 0.60", "defect.area_mm2 > 0.8", "dent >= 0.125"],
    );
    let words = |rule, measured| r.explain(&Verdict::Reject(Reason { rule, measured }));
    assert_eq!(words(0, 0.93), "scratch 0.93, limit 0.60");
    assert_eq!(words(1, 1.234), "defect 1.23 mm², limit 0.80 mm²");
    assert_eq!(words(2, 0.5), "dent 0.50, limit 0.125");
    assert_eq!(words(9, 0.5), "rule 10 of reject_if");
    assert_eq!(
        r.explain(&Verdict::NoResult(NoResult::Late)),
        "result came too late"
    );
    assert_eq!(
        r.doubt(&scores(&[0.42])).as_deref(),
        Some("good 0.42, limit 0.90")
    );
    assert_eq!(r.doubt(&Inspection::default()).as_deref(), Some("good not known"));
    assert_eq!(r.doubt(&scores(&[0.95])), None);
}

#[test]
fn a_clearly_good_part_is_excused_from_the_mask() {
    let r = rules(
        &["good >= 0.50", "defect.area_mm2 <= 0.5 unless good >= 0.95"],
        &["scratch >= 0.90", "defect.area_mm2 > 3.0 unless good >= 0.95"],
    );
    let clear = scores(&[0.97, 0.01, 0.01]);
    assert!(!needs_segment(&r, &clear));
    assert_eq!(judge(&r, &clear), Verdict::Pass);

    let doubtful = scores(&[0.80, 0.10, 0.10]);
    assert!(needs_segment(&r, &doubtful));
    assert_eq!(judge(&r, &doubtful), Verdict::Unsure);
    assert_eq!(judge(&r, &mask(doubtful.clone(), &[0.1, 0.2])), Verdict::Pass);
    assert!(matches!(
        judge(&r, &mask(doubtful, &[2.0, 2.0])),
        Verdict::Reject(_)
    ));

    // What is clearly bad by a score needs no mask either.
    assert!(!needs_segment(&r, &scores(&[0.02, 0.95, 0.03])));
}

#[test]
fn a_missing_score_excuses_nothing() {
    let r = rules(&["defect.area_mm2 <= 0.5 unless good >= 0.95"], &[]);
    assert!(needs_segment(&r, &scores(&[f32::NAN, 0.0, 0.0])));
    assert_eq!(judge(&r, &scores(&[f32::NAN, 0.0, 0.0])), Verdict::Unsure);
    assert_eq!(judge(&r, &Inspection::default()), Verdict::Unsure);
}

#[test]
fn an_excuse_is_a_score() {
    let e = error("good > 0.2 unless hole.area_mm2 > 3");
    assert_eq!(e.message, "only a classifier score can excuse from a rule");
    assert_eq!(
        &"good > 0.2 unless hole.area_mm2 > 3"[e.span],
        "hole.area_mm2 > 3"
    );
    let e = error("good > 0.2 unless better");
    assert_eq!(&"good > 0.2 unless better"[e.span], "better");
    let e = error("good > 0.2 unless goof > 0.4");
    assert_eq!(&"good > 0.2 unless goof > 0.4"[e.span], "goof");
}
