//! Where the time went and whose fault it is: the picture of the parts, and a card per cause.

use serde::Serialize;

use super::pictures;
use super::select;
use super::view::{Figure, Key, clean};
use crate::attribution::Grade;
use crate::render::why::{
    NOTHING_SLOW, cost_text, evidence_text, not_tested, nothing_slow, settle_word, slow_sentence,
    standing, tr110_line,
};
use crate::report::{CauseSummary, Report, TestReport};

/// The section.
#[derive(Debug, Serialize)]
pub(super) struct WhyView {
    /// Set if no run of any test is slow.
    nothing: Option<&'static str>,
    tests: Vec<TestWhy>,
    /// What was left out, and by which rule.
    note: Option<String>,
}

/// One test.
#[derive(Debug, Serialize)]
struct TestWhy {
    label: String,
    sentence: String,
    causes: Vec<CauseView>,
    not_tested: Option<String>,
    tr110: Option<String>,
    figure: Option<Figure>,
}

/// A cause as a card.
#[derive(Debug, Serialize)]
struct CauseView {
    name: &'static str,
    /// `supported` or `consistent`, also the class of its badge.
    grade: &'static str,
    standing: String,
    cost: Option<String>,
    sentence: String,
    run: u32,
    evidence: Vec<String>,
    settle_word: &'static str,
    settle: Option<String>,
}

/// The section, or nothing where no run was attributed.
pub(super) fn why(report: &Report) -> Option<WhyView> {
    let (tests, note) = select::tests(&report.tests, select::MAX_SPREADS);
    let mut known: Vec<Key> = Vec::new();
    let tests: Vec<TestWhy> = tests
        .into_iter()
        .filter_map(|test| {
            let mut view = of_test(test)?;
            if let Some(figure) = &mut view.figure {
                // What the colours mean is said once, until they change.
                if figure.keys == known {
                    figure.keys.clear();
                } else {
                    known.clone_from(&figure.keys);
                }
            }
            Some(view)
        })
        .collect();
    (!tests.is_empty()).then(|| WhyView {
        nothing: nothing_slow(report).then_some(NOTHING_SLOW),
        tests,
        note,
    })
}

fn of_test(test: &TestReport) -> Option<TestWhy> {
    let slow = test.slow?;
    let named = test.causes.iter().filter(|cause| cause.is_named());
    Some(TestWhy {
        label: clean(&test.label),
        sentence: slow_sentence(slow),
        causes: named.map(card).collect(),
        not_tested: not_tested(&test.causes).map(|line| clean(&line)),
        tr110: tr110_line(test),
        figure: pictures::parts(test),
    })
}

fn card(cause: &CauseSummary) -> CauseView {
    CauseView {
        name: cause.cause.as_str(),
        grade: match cause.grade {
            Grade::Supported => "supported",
            Grade::Consistent | Grade::NotTested => "consistent",
        },
        standing: standing(cause),
        cost: cost_text(cause),
        sentence: clean(&cause.sentence),
        run: cause.run,
        evidence: cause
            .evidence
            .iter()
            .map(|evidence| clean(&evidence_text(evidence)))
            .collect(),
        settle_word: settle_word(cause.grade),
        settle: cause.settle.as_deref().map(clean),
    }
}
