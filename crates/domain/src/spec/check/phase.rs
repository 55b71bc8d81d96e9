//! One `[[phase]]`: its scenarios, its agents and its grid.

use super::{MAX_AGENTS, MAX_RUNS, MAX_TESTS, agents, cross, growth};
use crate::spec::change::{self, Override};
use crate::spec::error::Sink;
use crate::spec::node::{Kind, quote};
use crate::spec::options::{self, MAX_AXIS, OptionKey, Setting};
use crate::spec::phase::{Agents, Labels, Order, Phase, Placement, Scenario};
use crate::spec::reader::{Item, Table};
use crate::spec::valid::{self, Instances};

/// Longest label.
const MAX_LABEL: usize = 120;
/// Longest think time: ten minutes.
pub(super) const MAX_THINK_MS: u32 = 600_000;
/// Highest first test id.
const MAX_FIRST_ID: u32 = 1_000_000;

/// What a phase is checked against.
pub(super) struct Context<'a> {
    /// Where instances come from; `None` if that could not be read.
    pub(super) instances: Option<&'a Instances>,
    /// The list of instances, if there is one.
    pub(super) instances_at: Option<Item<'a>>,
    pub(super) baseline: &'a [Setting],
    /// Whether there are solo legs; `None` if that could not be read.
    pub(super) solo: Option<bool>,
    /// Whether there is an `[slo]`; `None` if that could not be read.
    pub(super) slo: Option<bool>,
    /// Number of the phase being read, from 1.
    pub(super) number: u32,
    /// The phases before it; `None` for one that could not be read.
    pub(super) earlier: Vec<Option<Phase>>,
}

impl Context<'_> {
    /// An earlier phase, by its number.
    pub(super) fn phase(&self, number: u32) -> Option<&Phase> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.earlier.get(at)?.as_ref()
    }

    /// What an option of the phase being read can come to.
    pub(super) fn candidates(&self, phase: &Phase, key: OptionKey) -> Vec<Setting> {
        let this = |number| match number == self.number {
            true => Some(phase),
            false => self.phase(number),
        };
        valid::candidates(this, self.number, key)
    }
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
        shared: table.take("shared"),
        cap: table.take("max_concurrent"),
        budget: table.take("num_predict").or_else(|| table.take("num_ctx")),
        topology: table.take("topology"),
        think: table.take("think_ms"),
        best: OptionKey::ALL
            .into_iter()
            .filter_map(|key| table.take(key.as_str()))
            .find(options::is_best),
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
    let placements = placements(places.topology.as_ref(), table.take("slots"), sink);
    let think_ms = places.think.as_ref().map_or(Some(vec![0]), |i| {
        i.wholes(MAX_AXIS, &(0..=MAX_THINK_MS), sink)
    });
    let counts = places.agents.as_ref().map_or(Some(vec![2]), |i| {
        i.wholes(MAX_AXIS, &(1..=MAX_AGENTS), sink)
    });
    let agents = match &places.listed {
        Some(item) => {
            let placements = placements.as_deref().unwrap_or(&[Placement::Pinned]);
            agents::read(item, context.instances, placements, sink).map(Agents::Listed)
        }
        None => counts.map(Agents::Alike),
    };
    let select = table
        .take("select")
        .map(|i| growth::select(&i, context, sink));
    let until = table.take("until").map(|i| {
        i.table(sink)
            .and_then(|t| growth::until(t, runs, context, sink))
    });
    let hetero = overrides(places.hetero.as_ref(), sink);
    let shared = overrides(places.shared.as_ref(), sink);
    let max_concurrent = places
        .cap
        .as_ref()
        .and_then(|i| i.whole(1..=MAX_AGENTS, sink));
    table.finish(sink);
    if sink.count() > before {
        // What follows compares values: with one of them wrong it would report nonsense.
        return None;
    }

    let (mut select, select_at) = select.flatten().unzip();
    if let Some(select) = &mut select {
        let best = grid.iter().filter(|axis| axis.is_best());
        select.options = best.map(|axis| axis.key().as_str().to_owned()).collect();
    }
    let mut phase = Phase {
        labels: Labels::Derived,
        scenarios: scenarios?,
        placements: placements?,
        agents: agents?,
        think_ms: think_ms?,
        hetero,
        shared,
        grid,
        select,
        until: until.flatten(),
        runs: runs?,
        max_concurrent,
        order: order?,
        first_test_id: 1,
    };
    phase.labels = labels(places.label.as_ref(), phase.test_count(), sink)?;
    growth::check(
        &phase,
        select_at.as_ref(),
        places.best.as_ref(),
        context,
        sink,
    );
    let from = phase.select().map(|select| select.from_phase);
    if sink.count() == before && from.is_none_or(|from| context.phase(from).is_some()) {
        // What is taken over is judged by what the earlier phase has.
        cross::check(&phase, &places, context, sink);
    }
    (sink.count() == before).then_some((phase, first))
}

fn overrides(item: Option<&Item<'_>>, sink: &mut Sink) -> Vec<Override> {
    let Some(mut table) = item.and_then(|i| i.table(sink)) else {
        return Vec::new();
    };
    let found = change::overrides(&mut table, sink);
    table.finish(sink);
    found
}

/// The topologies: `shared` once for each number of slots.
fn placements(
    item: Option<&Item<'_>>,
    slots_at: Option<Item<'_>>,
    sink: &mut Sink,
) -> Option<Vec<Placement>> {
    const KINDS: [(&str, bool); 2] = [("pinned", false), ("shared", true)];
    let slots = match &slots_at {
        Some(i) => i
            .wholes(MAX_AXIS, &(1..=MAX_AGENTS), sink)?
            .into_iter()
            .map(Some)
            .collect(),
        None => vec![None],
    };
    let items = match item {
        Some(item) => item.list_or_one(KINDS.len(), sink)?,
        None => Vec::new(),
    };
    let mut kinds = Vec::with_capacity(KINDS.len());
    for item in &items {
        match item.one_of(&KINDS, sink) {
            Some(shared) if kinds.contains(&shared) => {
                let problem = format!("{} is listed twice", quote(item.text(sink)?));
                item.fault(problem, "to repeat a test, raise runs", sink);
            }
            Some(shared) => kinds.push(shared),
            None => {}
        }
    }
    if kinds.len() < items.len() {
        return None;
    }
    if kinds.is_empty() {
        kinds.push(false);
    }
    if let Some(slots) = slots_at.filter(|_| !kinds.contains(&true)) {
        let hint = "set topology = \"shared\", or drop slots";
        slots.fault("no agents of this phase share an instance", hint, sink);
        return None;
    }
    let each = kinds.into_iter().flat_map(|shared| match shared {
        true => slots.iter().map(|s| Placement::Shared(*s)).collect(),
        false => vec![Placement::Pinned],
    });
    Some(each.collect())
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
    let mut seen = std::collections::BTreeSet::new();
    for (item, label) in items.iter().zip(&found) {
        if found.len() == items.len() && !seen.insert(label) {
            let problem = format!("two tests are called {}", quote(label));
            item.fault(problem, "labels must differ", sink);
        }
    }
    (seen.len() == items.len()).then_some(Labels::PerTest(found.clone()))
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
