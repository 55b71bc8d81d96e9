//! Tests in groups, and figures over a group.

use crate::report::{AgentOptions, Report, TestReport};
use crate::stats::{Provenance, Summary};

/// TR110's scenarios, in its order.
pub(super) const KNOWN: [&str; 3] = ["baseline_vs_chimera", "chimera_hetero", "chimera_homo"];

/// Scenarios in TR110's order, and then any other.
pub(super) fn scenarios(report: &Report) -> Vec<&str> {
    let mut found = Vec::new();
    for known in KNOWN {
        if report.tests.iter().any(|test| test.scenario == known) {
            found.push(known);
        }
    }
    for test in &report.tests {
        if !found.contains(&test.scenario.as_str()) {
            found.push(&test.scenario);
        }
    }
    found
}

/// Tests of a scenario, by rising number.
pub(super) fn of_scenario<'r>(
    report: &'r Report,
    scenario: &'r str,
) -> impl Iterator<Item = &'r TestReport> {
    report
        .tests
        .iter()
        .filter(move |test| test.scenario == scenario)
}

/// Whether all agents of a test were asked for the same.
pub(super) fn is_alike(test: &TestReport) -> bool {
    test.agents.windows(2).all(|pair| {
        matches!(pair, [a, b] if a.options == b.options && a.model == b.model
            && a.stated_type == b.stated_type)
    })
}

/// The options by which TR110 lists a test: those of its first agent, and beside a baseline agent those
/// of the last.
pub(super) fn reference(test: &TestReport) -> Option<&AgentOptions> {
    let agent = if test.scenario == "baseline_vs_chimera" {
        test.agents.last()
    } else {
        test.agents.first()
    };
    agent.map(|agent| &agent.options)
}

/// A figure of tests over a group: mean and spread over *tests*, as TR110 averages.
///
/// *Shape*: of one test its own interval and no spread; of several no interval, since tests of different
/// configurations are no sample of anything.
pub(super) fn over<'t>(
    tests: impl IntoIterator<Item = &'t TestReport>,
    of: impl Fn(&'t TestReport) -> Summary,
) -> Summary {
    let found: Vec<Summary> = tests.into_iter().map(of).collect();
    let values: Vec<f64> = found.iter().filter_map(|summary| summary.value).collect();
    let measured = found.iter().filter(|summary| summary.value.is_some());
    let provenance = measured
        .map(|summary| summary.provenance)
        .max()
        .unwrap_or(Provenance::NotMeasured);
    let reason = found
        .iter()
        .find_map(|summary| summary.reason.as_deref())
        .unwrap_or("no test has it");
    let mut summary = Summary::of(&values, provenance, reason);
    let first = found.iter().find(|summary| summary.value.is_some());
    summary.ci95 = match (values.len(), first) {
        (1, Some(only)) => only.ci95,
        _ => None,
    };
    summary
}

/// The concurrency gain of a test.
pub(super) fn gain(test: &TestReport) -> Summary {
    test.aggregate.concurrency_gain.clone()
}

/// The true parallel efficiency of a test.
pub(super) fn efficiency(test: &TestReport) -> Summary {
    test.aggregate.parallel_efficiency.clone()
}

/// TR110's efficiency of a test.
pub(super) fn balance(test: &TestReport) -> Summary {
    test.aggregate.tr110_efficiency.clone()
}

/// An option that can vary between tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Varied {
    /// Context length.
    Context,
    /// Sampling temperature.
    Temperature,
}

impl Varied {
    fn take(self, options: &mut AgentOptions) -> Option<f64> {
        match self {
            Self::Context => options.num_ctx.take().map(f64::from),
            Self::Temperature => options.temperature.take(),
        }
    }
}

/// Tests of agents that are alike, in groups that differ in one option alone; groups of one value are
/// left out. *Shape*: the option's value with each test, rising.
pub(super) fn series(report: &Report, varied: Varied) -> Vec<Vec<(f64, &TestReport)>> {
    let mut groups: Vec<(String, Vec<(f64, &TestReport)>)> = Vec::new();
    for test in report.tests.iter().filter(|test| is_alike(test)) {
        let Some(mut options) = reference(test).cloned() else {
            continue;
        };
        let Some(value) = varied.take(&mut options) else {
            continue;
        };
        let model = test.agents.first().map(|agent| &agent.model);
        let key = format!(
            "{options:?} {model:?} {} {} {}",
            test.scenario,
            test.agents.len(),
            test.max_concurrent
        );
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push((value, test)),
            None => groups.push((key, vec![(value, test)])),
        }
    }
    groups
        .into_iter()
        .map(|(_, mut group)| {
            group.sort_by(|a, b| a.0.total_cmp(&b.0));
            group
        })
        .filter(|group| match (group.first(), group.last()) {
            (Some((low, _)), Some((high, _))) => high > low,
            _ => false,
        })
        .collect()
}

/// An option of every agent as a cell has it: one value if all have it, else `60 / 80`.
pub(super) fn each(test: &TestReport, of: impl Fn(&AgentOptions) -> Option<String>) -> String {
    let values: Vec<String> = test
        .agents
        .iter()
        .map(|agent| of(&agent.options).unwrap_or_else(|| "default".to_owned()))
        .collect();
    match values.split_first() {
        Some((first, rest)) if rest.iter().all(|value| value == first) => first.clone(),
        _ => values.join(" / "),
    }
}

/// `num_gpu` of every agent.
pub(super) fn layers(test: &TestReport) -> String {
    each(test, |options| {
        options.num_gpu.map(|value| value.to_string())
    })
}

/// `num_ctx` of every agent.
pub(super) fn context(test: &TestReport) -> String {
    each(test, |options| {
        options.num_ctx.map(|value| value.to_string())
    })
}

/// Temperature of every agent.
pub(super) fn temperature(test: &TestReport) -> String {
    each(test, |options| {
        options.temperature.map(|value| value.to_string())
    })
}

/// What names a test in a row: its number, and in a report of ours its label, which says what varies.
pub(super) fn name(report: &Report, test: &TestReport) -> String {
    if report.source.is_some() {
        test.id.clone()
    } else {
        format!("{}: {}", test.id, test.label)
    }
}

/// Numbers of tests, in a cell.
pub(super) fn ids<'t>(tests: impl IntoIterator<Item = &'t TestReport>) -> String {
    let ids: Vec<&str> = tests.into_iter().map(|test| test.id.as_str()).collect();
    ids.join(", ")
}
