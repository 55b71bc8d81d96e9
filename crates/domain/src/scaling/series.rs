//! The series that a report holds: tests that differ in nothing but the number of agents.

use std::collections::{BTreeMap, BTreeSet};

use super::{Point, Scaling, Settings, fit};
use crate::metric::Metric;
use crate::report::{AgentConfig, AgentOptions, Report, TestReport};

/// Tests that differ in the number of agents.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Ids of the tests, by rising number of agents.
    pub tests: Vec<String>,
    /// What a person may call it.
    pub label: String,
    /// The total of each valid run, by rising number of agents.
    pub points: Vec<Point>,
}

/// The series of a report that have three or more numbers of agents, in the order of their first
/// tests.
///
/// Tests belong together if their agents are of the same kinds (engine, model, options but the seed; not
/// role, since one agent alone has only one) and all of them may run at once. Phases and scenarios do
/// not part them: a spec states each number of agents as a phase of its own. The metric must be a total
/// that grows with the agents, such as the aggregate throughput or the gain.
#[must_use]
pub fn series(report: &Report, metric: Metric) -> Vec<Series> {
    let mut found: Vec<(String, Vec<&TestReport>)> = Vec::new();
    for test in &report.tests {
        if (test.max_concurrent as usize) < test.agents.len() {
            continue;
        }
        let key = kind(test);
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, tests)) => tests.push(test),
            None => found.push((key, vec![test])),
        }
    }
    found
        .into_iter()
        .filter_map(|(_, tests)| one(tests, metric))
        .collect()
}

/// The laws of a report's gains: each series that can be fitted, with its fit. Every fit is some
/// hundred resamples, so that whoever writes several documents computes it once.
#[must_use]
pub fn laws(report: &Report) -> Vec<(Series, Scaling)> {
    series(report, Metric::ConcurrencyGain)
        .into_iter()
        .filter_map(|series| {
            let found = fit(&series.points, Settings::default()).ok()?;
            Some((series, found))
        })
        .collect()
}

fn one(mut tests: Vec<&TestReport>, metric: Metric) -> Option<Series> {
    tests.sort_by_key(|test| test.agents.len());
    let counts: BTreeSet<usize> = tests.iter().map(|test| test.agents.len()).collect();
    (counts.len() >= 3).then_some(())?;
    let mut by_agents: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for test in &tests {
        let agents = u32::try_from(test.agents.len()).ok()?;
        let values = test.runs.iter().filter_map(|run| metric.of_run(run));
        by_agents.entry(agents).or_default().extend(values);
    }
    let (least, most) = (counts.first()?, counts.last()?);
    Some(Series {
        label: format!("{least} to {most} agents"),
        tests: tests.iter().map(|test| test.id.clone()).collect(),
        points: by_agents
            .into_iter()
            .map(|(agents, values)| Point { agents, values })
            .collect(),
    })
}

/// What tests of one series have in common, as a text to compare: topology, and all of their agents' configuration
/// but what tells agents of one kind apart.
fn kind(test: &TestReport) -> String {
    let Some(first) = test.agents.first() else {
        return String::new();
    };
    let kinds: BTreeSet<String> = test
        .agents
        .iter()
        .map(|agent| {
            let alike = AgentConfig {
                agent: first.agent.clone(),
                role: first.role.clone(),
                instance: None,
                options: AgentOptions {
                    seed: None,
                    ..agent.options.clone()
                },
                ..agent.clone()
            };
            format!("{alike:?}")
        })
        .collect();
    format!("{:?} {kinds:?}", test.topology)
}
