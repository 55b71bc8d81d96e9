//! What the data show of themselves: sentences with their evidence, computed, never typed in.
//!
//! Each finding states its rule, how often it holds and over how many runs. One that the data give no
//! occasion for is absent. Rules look at valid runs only.

mod imported;
mod no_op;
mod speedup;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::{AgentConfig, Report, RunReport, TestReport};
use crate::stats::{Provenance, holm, welch_t};

/// Probability below which two tests are called different, after Holm's correction.
const ALPHA: f64 = 0.05;
/// Pieces of evidence that a finding lists; its sentence counts them all.
const MAX_EVIDENCE: usize = 200;

/// Something that the data show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Closed label (`balance_identity`).
    pub id: String,
    /// What it is, with its figures.
    pub sentence: String,
    /// The figures behind the sentence, at most 200.
    pub evidence: Vec<Evidence>,
}

/// One figure behind a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// What it is a figure of, with its unit.
    pub what: String,
    /// Where it was found (`test 105, run 4, insight`). `null`: over the whole report.
    pub place: Option<String>,
    /// The figure.
    pub value: f64,
    /// How it came about.
    pub provenance: Provenance,
}

impl Finding {
    fn new(id: &str, sentence: String, mut evidence: Vec<Evidence>) -> Self {
        evidence.truncate(MAX_EVIDENCE);
        Self {
            id: id.to_owned(),
            sentence,
            evidence,
        }
    }
}

/// The valid runs of a report with their tests.
fn runs(report: &Report) -> impl Iterator<Item = (&TestReport, &RunReport)> {
    report
        .tests
        .iter()
        .flat_map(|test| test.runs.iter().map(move |run| (test, run)))
        .filter(|(_, run)| run.valid)
}

fn place(test: &TestReport, run: &RunReport) -> String {
    format!("test {}, run {}", test.id, run.run)
}

/// Of figures that a run of this kind states or that we computed from stamps.
fn provenance(run: &RunReport) -> Provenance {
    if run.tr110.is_some() {
        Provenance::Imported
    } else {
        Provenance::Measured
    }
}

/// What the data of a report show, in a fixed order.
#[must_use]
pub fn findings(report: &Report) -> Vec<Finding> {
    [
        speedup::balance_identity(report),
        speedup::hidden_loss(report),
        imported::contention_flag(report),
        same_configuration(report),
        imported::reload_like(report),
        imported::zeroed_requests(report),
        no_op::layers(report),
        no_op::context(report),
        imported::signs(report),
        imported::not_completed(report),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether two tests asked for the same: scenario and agents, whatever their instances are called.
fn is_same(a: &TestReport, b: &TestReport) -> bool {
    let alike = |a: &AgentConfig, b: &AgentConfig| {
        a.role == b.role
            && a.engine == b.engine
            && a.model == b.model
            && a.options == b.options
            && a.stated_type == b.stated_type
    };
    a.scenario == b.scenario
        && a.max_concurrent == b.max_concurrent
        && a.agents.len() == b.agents.len()
        && a.agents.iter().zip(&b.agents).all(|(a, b)| alike(a, b))
}

/// Tests that asked for the same and came out otherwise.
fn same_configuration(report: &Report) -> Option<Finding> {
    let speedups = |test: &TestReport| -> Vec<f64> {
        let valid = test.runs.iter().filter(|run| run.valid);
        valid.filter_map(|run| run.tr110_speedup).collect()
    };
    let mut pairs = Vec::new();
    for (place, first) in report.tests.iter().enumerate() {
        let later = report.tests.iter().skip(place + 1);
        for second in later.filter(|second| is_same(first, second)) {
            if let Some(test) = welch_t(&speedups(first), &speedups(second)) {
                pairs.push((first, second, test));
            }
        }
    }
    if pairs.is_empty() {
        return None;
    }
    let raw: Vec<f64> = pairs.iter().map(|(_, _, test)| test.p_two_sided).collect();
    let corrected = holm(&raw);
    let differ = corrected.iter().filter(|p| **p < ALPHA).count();
    let mut told = Vec::new();
    let mut evidence = Vec::new();
    for ((first, second, test), p) in pairs.iter().zip(&corrected) {
        let names = format!("tests {} and {}", first.id, second.id);
        told.push(format!(
            "{names} differ by {:.3} (Welch p {}, after Holm {})",
            test.difference.abs(),
            p_text(test.p_two_sided),
            p_text(*p)
        ));
        let provenance = first
            .aggregate
            .tr110_speedup
            .provenance
            .max(second.aggregate.tr110_speedup.provenance);
        for (what, value) in [
            (
                "difference of TR110's speed-up, first minus second",
                test.difference,
            ),
            ("Welch p, two-sided", test.p_two_sided),
        ] {
            evidence.push(Evidence {
                what: what.to_owned(),
                place: Some(names.clone()),
                value,
                provenance,
            });
        }
    }
    let count = pairs.len();
    let lead = match (count, differ) {
        (1, 0) => "One pair of tests asked for the same and shows no difference".to_owned(),
        (1, _) => "One pair of tests asked for the same and disagrees".to_owned(),
        (_, 0) => format!("{count} pairs of tests asked for the same and show no difference"),
        _ => format!("{count} pairs of tests asked for the same, and {differ} of them disagree"),
    };
    let mean = if differ > 0 {
        " What differs between them is something that neither the configuration nor the repeats show."
    } else {
        ""
    };
    Some(Finding::new(
        "same_configuration",
        format!("{lead} in TR110's speed-up: {}.{mean}", told.join("; ")),
        evidence,
    ))
}

/// A probability as people write it.
pub(crate) fn p_text(p: f64) -> String {
    if p < 0.001 {
        "< 0.001".to_owned()
    } else {
        format!("{p:.3}")
    }
}
