//! One `[[phase]]`: its scenarios, its agents and its grid.

use super::{MAX_AGENTS, MAX_RUNS, MAX_TESTS, agents, cross};
use crate::spec::error::Sink;
use crate::spec::node::Kind;
use crate::spec::options::{self, Setting};
use crate::spec::reader::{Item, Table};
use crate::spec::valid::{Agents, Instances, Labels, Order, Phase, Scenario};

/// Longest label.
const MAX_LABEL: usize = 120;
/// Highest first test id.
const MAX_FIRST_ID: u32 = 1_000_000;

/// What a phase is checked against.
pub(super) struct Context<'a> {
    /// Where instances come from; `None` if that could not be read.
    pub(super) instances: Option<&'a Instances>,
    /// The list of instances, if there is one.
    pub(super) instances_at: Option<Item<'a>>,
    pub(super) baseline: &'a [Setting],
}

/// Reads a phase, and the first test id if it is stated.
pub(super) fn read(
    mut table: Table<'_>,
    context: &Context<'_>,
    sink: &mut Sink,
) -> Option<(Phase, Option<u32>)> {
    let before = sink.count();
    let places = cross::Places {
        scenario: table.take("scenario"),
        label: table.take("label"),
        agents: table.take("agents"),
        listed: table.take("agent"),
        hetero: table.take("hetero"),
        cap: table.take("max_concurrent"),
        budget: table.take("num_predict").or_else(|| table.take("num_ctx")),
        phase: table.item(),
    };
    let scenarios = scenarios(&mut table, sink);
    let runs = table
        .take("runs")
        .map_or(Some(3), |i| i.whole(1..=MAX_RUNS, sink));
    let order = table
        .take("order")
        .map_or(Some(Order::Randomized), |i| i.one_of(&Order::ALL, sink));
    let first = table
        .take("first_test_id")
        .and_then(|i| i.whole(1..=MAX_FIRST_ID, sink));
    let grid = options::grid(&mut table, sink);
    let count = places
        .agents
        .as_ref()
        .map_or(Some(2), |i| i.whole(1..=MAX_AGENTS, sink));
    let agents = match &places.listed {
        Some(item) => agents::read(item, context.instances, sink).map(Agents::Listed),
        None => count.map(Agents::Alike),
    };
    let hetero = match places.hetero.as_ref().and_then(|i| i.table(sink)) {
        Some(mut table) => {
            let found = options::settings(&mut table, sink);
            table.finish(sink);
            found
        }
        None => Vec::new(),
    };
    let max_concurrent = places
        .cap
        .as_ref()
        .and_then(|i| i.whole(1..=MAX_AGENTS, sink));
    table.finish(sink);
    if sink.count() > before {
        // What follows compares values: with one of them wrong it would report nonsense.
        return None;
    }

    let mut phase = Phase {
        labels: Labels::Derived,
        scenarios: scenarios?,
        agents: agents?,
        hetero,
        grid,
        runs: runs?,
        max_concurrent,
        order: order?,
        first_test_id: 1,
    };
    phase.labels = labels(places.label.as_ref(), phase.test_count(), sink)?;
    cross::check(&phase, &places, context, sink);
    (sink.count() == before).then_some((phase, first))
}

fn scenarios(table: &mut Table<'_>, sink: &mut Sink) -> Option<Vec<Scenario>> {
    let items = table.need("scenario", "\"chimera_homo\"", sink)?;
    let mut found = Vec::new();
    for item in items.list_or_one(Scenario::ALL.len(), sink)? {
        match item.one_of(&Scenario::ALL, sink) {
            Some(scenario) if found.contains(&scenario) => {
                let problem = format!("{:?} is listed twice", scenario.as_str());
                item.fault(problem, "to repeat a test, raise runs", sink);
            }
            Some(scenario) => found.push(scenario),
            None => {}
        }
    }
    Some(found)
}

fn labels(item: Option<&Item<'_>>, tests: u64, sink: &mut Sink) -> Option<Labels> {
    let Some(item) = item else {
        return Some(Labels::Derived);
    };
    if matches!(item.node.kind, Kind::Text(_)) {
        return item.line(MAX_LABEL, sink).map(Labels::Common);
    }
    let most = usize::try_from(MAX_TESTS).unwrap_or(usize::MAX);
    let items = item.list(most, sink)?;
    if items.len() as u64 != tests {
        let problem = format!("{} labels for {tests} tests", items.len());
        item.fault(
            problem,
            "one label for each test, or one text for all",
            sink,
        );
        return None;
    }
    let found: Vec<String> = items
        .iter()
        .filter_map(|i| i.line(MAX_LABEL, sink))
        .collect();
    (found.len() == items.len()).then_some(Labels::PerTest(found))
}

/// Test ids already given to earlier phases.
#[derive(Default)]
pub(super) struct UsedIds {
    ranges: Vec<std::ops::RangeInclusive<u64>>,
}

impl UsedIds {
    /// Gives a phase its ids: from the one it states; else, as in TR110, the first phase counts
    /// from 1 and each later one from the next free hundred.
    pub(super) fn claim(
        &mut self,
        item: &Item<'_>,
        stated: Option<u32>,
        tests: u64,
        sink: &mut Sink,
    ) -> u32 {
        let next = self
            .ranges
            .iter()
            .map(|r| r.end() / 100 * 100 + 100)
            .max()
            .unwrap_or(1);
        let first = stated.map_or(next, u64::from);
        let last = first.saturating_add(tests.max(1) - 1);
        if let Some(other) = self
            .ranges
            .iter()
            .position(|r| first <= *r.end() && *r.start() <= last)
        {
            let problem = format!("test ids {first} to {last} are also those of phase[{other}]");
            item.fault(problem, "set first_test_id", sink);
        }
        self.ranges.push(first..=last);
        u32::try_from(first).unwrap_or(u32::MAX)
    }
}
