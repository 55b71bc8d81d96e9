//! Which requests keep the spec's `[slo]`, for `report.md`; the page says the same in its own table.

use super::table::{Table, escape};
use crate::report::number::{opt, percent, with_interval};
use crate::report::{Report, TestReport};
use crate::slo::{Goodput, Slo};
use crate::stats::Summary;

/// What the columns mean, in both documents.
pub(super) const HOW: &str = "Goodput is good requests per second of the time together. What the share of \
     good requests falls short together of that alone is what running together costs.";

/// The rule in a sentence.
pub(super) fn rule(slo: &Slo) -> String {
    let each = if slo.limits().count() == 1 {
        "keeps the limit of the spec"
    } else {
        "keeps every limit of the spec at once"
    };
    format!("A request is good if it did not fail and {each}: {slo}.")
}

/// Requests of the valid runs of a test: such that were made, are good, and lack a limited figure.
pub(super) fn counts(test: &TestReport) -> [u32; 3] {
    let valid = test.runs.iter().filter(|run| run.valid);
    let found: Vec<&Goodput> = valid.filter_map(|run| run.goodput.as_ref()).collect();
    let sum = |of: fn(&Goodput) -> u32| found.iter().map(|run| of(run)).sum();
    [
        sum(|run| run.requests),
        sum(|run| run.good),
        sum(|run| run.undefined),
    ]
}

/// A share with its interval, as percentages.
pub(super) fn share(summary: &Summary) -> String {
    match (summary.value, summary.ci95) {
        (Some(value), Some([low, high])) => {
            format!("{} ({} to {})", percent(value), percent(low), percent(high))
        }
        (Some(value), None) => percent(value),
        (None, _) => opt(None),
    }
}

/// The section, or nothing without an `[slo]`.
pub(super) fn section(report: &Report) -> String {
    let Some(slo) = &report.slo else {
        return String::new();
    };
    let mut table = Table::new(&[
        "Test",
        "Good together (95 %)",
        "Good alone (95 %)",
        "Goodput, requests/s (95 %)",
        "Good of all",
        "Lacking a figure",
    ]);
    for test in &report.tests {
        let a = &test.aggregate;
        let [requests, good, undefined] = counts(test);
        table.row([
            test.label.clone(),
            share(&a.good_ratio),
            share(&a.good_solo_ratio),
            with_interval(a.goodput_rps.value, a.goodput_rps.ci95),
            format!("{good} of {requests}"),
            undefined.to_string(),
        ]);
    }
    format!(
        "## Requests that keep the limits\n\n{} {HOW}\n\n{}",
        escape(&rule(slo)),
        table.finish("No tests.")
    )
}
