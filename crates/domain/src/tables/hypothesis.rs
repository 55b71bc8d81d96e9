//! Appendix C.2: is the speed-up above 1.5?

use std::collections::BTreeSet;

use super::group;
use super::{By, Cell, Draft, Form, Table};
use crate::report::{Report, RunReport, TestReport};
use crate::stats::{Provenance, one_sample_t};
use crate::tr110::CONTENTION_BELOW;
use crate::tr110::figures::valid;

/// Significance level of TR110.
const ALPHA: f64 = 0.05;

/// Appendix C.2.
pub(super) fn tests(report: &Report) -> Table {
    let mut draft = Draft::new(
        "C.2",
        "Hypothesis: the speed-up is at most 1.5",
        "One-sided t test over the runs of all tests of a row; p-values of several rows are not corrected, \
         as in TR110. What it tests of TR110's speed-up is whether durations are alike; the same test of \
         the gain asks whether anything is gained.",
    )
    .columns(By::Row, &["Group", "Tests"])
    .columns(By::Tr110, &["Runs", "Mean speed-up", "p", "H0"])
    .columns(By::Ours, &["Runs", "Mean gain", "p", "H0"]);
    for (name, tests) in groups(report) {
        let mut row = vec![
            Cell::text(name),
            Cell::text(group::ids(tests.iter().copied())),
        ];
        row.extend(tested(
            &tests,
            |run| run.tr110_speedup,
            |test| test.aggregate.tr110_speedup.provenance,
        ));
        row.extend(tested(
            &tests,
            |run| run.concurrency_gain,
            |test| test.aggregate.concurrency_gain.provenance,
        ));
        draft.row(row);
    }
    draft.finish("no test of two or more agents has a valid run")
}

/// By scenario and `num_gpu`; where such a group has several contexts, each of them too.
fn groups(report: &Report) -> Vec<(String, Vec<&TestReport>)> {
    let mut found = Vec::new();
    for scenario in group::scenarios(report) {
        let tests: Vec<&TestReport> = group::of_scenario(report, scenario)
            .filter(|test| test.agents.len() > 1 && test.runs_valid > 0)
            .collect();
        // Tests of one of TR110's scenarios are of one kind; others need have nothing in common.
        if !group::KNOWN.contains(&scenario) {
            found.extend(
                tests
                    .iter()
                    .map(|test| (group::name(report, test), vec![*test])),
            );
            continue;
        }
        let layers: BTreeSet<Option<u32>> = tests.iter().map(|test| layers(test)).collect();
        for value in layers {
            let of_layers: Vec<&TestReport> = tests
                .iter()
                .copied()
                .filter(|test| self::layers(test) == value)
                .collect();
            let name = match value {
                Some(value) => format!("{scenario}, num_gpu {value}"),
                None => scenario.to_owned(),
            };
            let contexts: BTreeSet<Option<u32>> =
                of_layers.iter().map(|test| context(test)).collect();
            if contexts.len() > 1 {
                for context in contexts.iter().flatten() {
                    let own = of_layers
                        .iter()
                        .copied()
                        .filter(|test| self::context(test) == Some(*context));
                    found.push((format!("{name}, num_ctx {context}"), own.collect()));
                }
            }
            found.push((name, of_layers));
        }
    }
    found
}

fn layers(test: &TestReport) -> Option<u32> {
    group::reference(test)?.num_gpu
}

fn context(test: &TestReport) -> Option<u32> {
    group::reference(test)?.num_ctx
}

fn tested(
    tests: &[&TestReport],
    of: fn(&RunReport) -> Option<f64>,
    provenance: fn(&TestReport) -> Provenance,
) -> [Cell; 4] {
    let values: Vec<f64> = tests
        .iter()
        .flat_map(|test| valid(test))
        .filter_map(of)
        .collect();
    let provenance = tests
        .iter()
        .map(|test| provenance(test))
        .filter(|provenance| *provenance != Provenance::NotMeasured)
        .max()
        .unwrap_or(Provenance::NotMeasured);
    let found = one_sample_t(&values, CONTENTION_BELOW);
    let mean = found.map(|test| test.difference + CONTENTION_BELOW);
    let p = found.map(|test| test.p_greater);
    let needs = "needs two runs that have it";
    let decision = match p {
        Some(p) if p < ALPHA => "rejected",
        Some(_) => "not rejected",
        None => "-",
    };
    [
        Cell::text(values.len().to_string()),
        Cell::number(mean, Form::Fixed(3), provenance, needs),
        Cell::number(p, Form::Probability, provenance, needs),
        Cell::text(decision),
    ]
}
