//! From folded records to what attribution looks at.

use std::collections::BTreeMap;

use super::build::{Folded, Results};
use super::host::Nodes;
use crate::attribution::{
    AgentView, Attribution, LegView, RunView, TestView, attribute, tr110_speedup,
};
use crate::ids::AgentId;
use crate::plan::{LegKind, PlannedLeg, PlannedTest};
use crate::timeline::Log;
use crate::validity::{SoloSource, solo_source};

/// The attribution of every run of which the together leg left records, by test and run.
///
/// The together leg may be invalid: a run refused for a reload is the very one to explain. A solo leg
/// must be valid, because it says what is usual.
pub(super) fn explain(
    log: &Log<'_>,
    folded: &Folded<'_>,
    results: &Results<'_>,
    nodes: &Nodes<'_>,
) -> BTreeMap<(u32, u32), Attribution> {
    let mut found = BTreeMap::new();
    for test in &log.plan.tests {
        let mut by_run: BTreeMap<u32, Vec<&PlannedLeg>> = BTreeMap::new();
        for leg in log.plan.legs.iter().filter(|leg| leg.test == test.id) {
            by_run.entry(leg.run).or_default().push(leg);
        }
        let runs = by_run
            .iter()
            .filter_map(|(run, legs)| run_view(test, *run, legs, (log, folded, results, nodes)));
        let view = TestView {
            test,
            runs: runs.collect(),
        };
        let numbers = view.runs.iter().map(|run| (test.id, run.run));
        found.extend(numbers.zip(attribute(&view)));
    }
    found
}

/// Everything that was folded.
type Records<'a> = (&'a Log<'a>, &'a Folded<'a>, &'a Results<'a>, &'a Nodes<'a>);

fn run_view<'a>(
    test: &'a PlannedTest,
    run: u32,
    legs: &[&'a PlannedLeg],
    records: Records<'a>,
) -> Option<RunView<'a>> {
    let (_, _, results, _) = records;
    let planned = legs.iter().find(|leg| leg.kind == LegKind::Together)?;
    let together = leg_view(test, planned, records)?;
    let solo_of = |id: &AgentId| {
        legs.iter()
            .find(|leg| matches!(&leg.kind, LegKind::Solo { agent } if agent == id))
    };
    let solo = test.agents.iter().filter_map(|agent| {
        let alone = match solo_source(test, agent, |id| solo_of(id).is_some()) {
            SoloSource::Own => &agent.id,
            SoloSource::Shared(twin) => twin,
            SoloSource::None => return None,
        };
        let leg = solo_of(alone)?;
        results.get(&leg.run_id)?.as_ref().ok()?;
        Some((&agent.id, leg_view(test, leg, records)?))
    });
    Some(RunView {
        run,
        tr110_speedup: tr110_speedup(test, &together),
        solo: solo.collect(),
        together,
    })
}

/// *Undefined when* the leg was not executed, or no agent of it left records.
fn leg_view<'a>(
    test: &'a PlannedTest,
    leg: &PlannedLeg,
    (log, folded, _, nodes): Records<'a>,
) -> Option<LegView<'a>> {
    let log = log.legs.get(&leg.run_id)?;
    let timelines = folded.get(&leg.run_id)?;
    let agents = test.agents.iter().filter_map(|planned| {
        let timeline = timelines.get(&planned.id)?;
        let member = log.members.iter().find(|m| m.agent == planned.id);
        Some(AgentView {
            planned,
            timeline,
            telemetry: member.and_then(|member| nodes.series(member)),
        })
    });
    let agents: Vec<AgentView<'a>> = agents.collect();
    let first = log.members.first()?;
    (!agents.is_empty()).then(|| LegView {
        log,
        agents,
        one_host: log
            .members
            .iter()
            .all(|m| m.node == first.node && m.clock.boot_id == first.clock.boot_id),
    })
}
