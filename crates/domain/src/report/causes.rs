//! Where the time of a test's runs went and whose fault it is: its runs' attributions, side by side.
//!
//! Rule. Every run that was attributed counts, an invalid one too: a run that was refused for a reload
//! is the very one to explain. A cause is summed up by its best finding (the better grade, then the
//! larger cost), whose run is named; counts say in how many runs it was found. Means of parts are over
//! the runs whose wall time could be laid out; a part that one run could not tell apart is 0 there, for
//! its time is in `unsplit_ms`, so that means sum to the mean wall time as each run does.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::RunReport;
use crate::attribution::{
    AgentTime, Attribution, Cause, CauseFinding, Evidence, Grade, Part, Parts,
};
use crate::ids::AgentId;
use crate::stats::mean;

/// A cause over the runs of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CauseSummary {
    /// Which.
    pub cause: Cause,
    /// The best that any run has.
    pub grade: Grade,
    /// Runs in which its own evidence was read.
    pub runs_supported: u32,
    /// Runs in which only its effect was seen.
    pub runs_consistent: u32,
    /// Runs in which it could not be tested.
    pub runs_not_tested: u32,
    /// Runs that were attributed.
    pub runs: u32,
    /// Agents that it struck in any run. Empty: all, or not tested.
    pub agents: Vec<AgentId>,
    /// Time lost to it, mean over the runs that name it and can tell. `null`: none can.
    pub cost_ms: Option<f64>,
    /// The run that the evidence and the sentence are of: the one where it is strongest.
    pub run: u32,
    /// What speaks for it there.
    pub evidence: Vec<Evidence>,
    /// In a sentence.
    pub sentence: String,
    /// What would settle it, or make it go away. `null`: nothing is open.
    pub settle: Option<String>,
}

impl CauseSummary {
    /// Runs in which it was found, by whatever evidence.
    #[must_use]
    pub fn runs_named(&self) -> u32 {
        self.runs_supported.saturating_add(self.runs_consistent)
    }

    /// Whether any run names it.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.grade != Grade::NotTested
    }
}

/// How many runs of a test are slow, by our rule and by TR110's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SlowRuns {
    /// Runs that were attributed, valid or not.
    pub runs: u32,
    /// Of these, runs that could be held against solo legs.
    pub runs_compared: u32,
    /// Of these, runs in which something is slow beyond chance.
    pub runs_slow: u32,
    /// Runs that TR110's rule judges: two agents or more, with a speed-up.
    pub runs_tr110: u32,
    /// Of these, runs that it calls contended: speed-up below 1.5.
    pub runs_tr110_contended: u32,
}

/// An agent's mean time over the runs of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeanTime {
    /// Runs behind it.
    pub runs: u32,
    /// Mean wall time of these runs.
    pub wall_ms: f64,
    /// Its share of it, part by part.
    pub together: AgentTime,
    /// The parts of its requests that the same work takes alone, where they could be compared. Empty:
    /// there is nothing to compare with.
    pub alone: Parts,
}

impl MeanTime {
    /// Whether any part could be compared with what it is alone.
    #[must_use]
    pub fn has_alone(&self) -> bool {
        Part::ALL
            .iter()
            .any(|part| *part != Part::Unsplit && self.alone.get(*part).is_some())
            || self.alone.unsplit_ms > 0.0
    }
}

/// The attributions of a test's runs, with their numbers.
fn attributed(runs: &[RunReport]) -> impl Iterator<Item = (u32, &Attribution)> {
    runs.iter()
        .filter_map(|run| Some((run.run, run.attribution.as_ref()?)))
}

/// What was found, in most runs first and then the costliest; then what could not be tested.
pub(super) fn causes(runs: &[RunReport]) -> Vec<CauseSummary> {
    let of = number(attributed(runs).count());
    let mut found: BTreeMap<Cause, Vec<(u32, &CauseFinding)>> = BTreeMap::new();
    for (run, attribution) in attributed(runs) {
        for finding in &attribution.causes {
            found.entry(finding.cause).or_default().push((run, finding));
        }
    }
    let mut causes: Vec<CauseSummary> = found
        .values()
        .filter_map(|findings| summary(findings, of))
        .collect();
    causes.sort_by(|a, b| {
        let cost = |cause: &CauseSummary| cause.cost_ms.unwrap_or(0.0);
        b.is_named()
            .cmp(&a.is_named())
            .then(b.runs_named().cmp(&a.runs_named()))
            .then(cost(b).total_cmp(&cost(a)))
            .then(a.cause.cmp(&b.cause))
    });
    causes
}

fn summary(findings: &[(u32, &CauseFinding)], of: u32) -> Option<CauseSummary> {
    let cost = |finding: &CauseFinding| finding.cost_ms.unwrap_or(0.0);
    let (run, best) = findings
        .iter()
        .min_by(|(_, a), (_, b)| a.grade.cmp(&b.grade).then(cost(b).total_cmp(&cost(a))))?;
    let count = |grade: Grade| {
        number(
            findings
                .iter()
                .filter(|(_, finding)| finding.grade == grade)
                .count(),
        )
    };
    let named = || {
        findings
            .iter()
            .filter(|(_, finding)| finding.grade != Grade::NotTested)
    };
    let costs: Vec<f64> = named().filter_map(|(_, finding)| finding.cost_ms).collect();
    let mut agents: Vec<AgentId> = Vec::new();
    // A finding without agents struck all of them.
    if named().all(|(_, finding)| !finding.agents.is_empty()) {
        for agent in named().flat_map(|(_, finding)| &finding.agents) {
            if !agents.contains(agent) {
                agents.push(agent.clone());
            }
        }
    }
    Some(CauseSummary {
        cause: best.cause,
        grade: best.grade,
        runs_supported: count(Grade::Supported),
        runs_consistent: count(Grade::Consistent),
        runs_not_tested: count(Grade::NotTested),
        runs: of,
        agents,
        cost_ms: mean(&costs),
        run: *run,
        evidence: best.evidence.clone(),
        sentence: best.sentence.clone(),
        settle: best.settle.clone(),
    })
}

/// How many runs are slow. *Undefined when* no run was attributed.
pub(super) fn slow(runs: &[RunReport]) -> Option<SlowRuns> {
    let mut slow = SlowRuns::default();
    for (_, attribution) in attributed(runs) {
        slow.runs += 1;
        slow.runs_compared += u32::from(attribution.slow.is_some());
        slow.runs_slow += u32::from(attribution.slow == Some(true));
        slow.runs_tr110 += u32::from(attribution.tr110_contention.is_some());
        slow.runs_tr110_contended += u32::from(attribution.tr110_contention == Some(true));
    }
    (slow.runs > 0).then_some(slow)
}

/// The agents' mean times, in pin order. *Shape*: empty where no run could be laid out.
pub(super) fn times(runs: &[RunReport]) -> Vec<MeanTime> {
    let laid: Vec<(f64, &AgentTime, &Attribution)> = attributed(runs)
        .filter_map(|(_, attribution)| Some((attribution.decomposition.as_ref()?, attribution)))
        .flat_map(|(laid, attribution)| {
            let agents = laid.agents.iter();
            agents.map(move |agent| (laid.wall_ms, agent, attribution))
        })
        .collect();
    let mut ids: Vec<&AgentId> = Vec::new();
    for (_, time, _) in &laid {
        if !ids.contains(&&time.agent) {
            ids.push(&time.agent);
        }
    }
    ids.into_iter()
        .map(|id| {
            let own = laid.iter().filter(|(_, time, _)| time.agent == *id);
            let own: Vec<_> = own.copied().collect();
            mean_time(id, &own)
        })
        .collect()
}

fn mean_time(id: &AgentId, own: &[(f64, &AgentTime, &Attribution)]) -> MeanTime {
    let n = own.len().max(1) as f64;
    let over = |of: fn(&AgentTime) -> f64| own.iter().map(|(_, time, _)| of(time)).sum::<f64>() / n;
    let requests = Parts::of(|part| {
        let known = own
            .iter()
            .filter_map(|(_, time, _)| time.requests.get(part));
        let known: Vec<f64> = known.collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / n)
    });
    let alone = Parts::of(|part| {
        let usual = own.iter().flat_map(|(_, _, attribution)| {
            let all = attribution.excess.iter();
            all.filter(|excess| excess.agent == *id && excess.part == part)
                .map(|excess| excess.usual_ms)
        });
        mean(&usual.collect::<Vec<f64>>())
    });
    MeanTime {
        runs: number(own.len()),
        wall_ms: own.iter().map(|(wall, _, _)| wall).sum::<f64>() / n,
        together: AgentTime {
            agent: id.clone(),
            start_ms: over(|time| time.start_ms),
            local_ms: over(|time| time.local_ms),
            think_ms: over(|time| time.think_ms),
            requests,
            closing_ms: over(|time| time.closing_ms),
            idle_tail_ms: over(|time| time.idle_tail_ms),
            harness_ms: over(|time| time.harness_ms),
            residual_ms: over(|time| time.residual_ms),
        },
        alone,
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
