//! What attribution looks at: legs with their records and the telemetry of their host.

use std::collections::BTreeMap;

use super::types::{Excess, Parts};
use crate::event::RequestRecord;
use crate::ids::AgentId;
use crate::plan::{PlannedAgent, PlannedTest};
use crate::telemetry::Series;
use crate::timeline::{AgentTimeline, LegLog};
use crate::units::MonoNs;

/// An agent in a leg.
#[derive(Debug, Clone, Copy)]
pub struct AgentView<'a> {
    /// As planned.
    pub planned: &'a PlannedAgent,
    /// Its records.
    pub timeline: &'a AgentTimeline<'a>,
    /// Telemetry of its host and boot, for the whole experiment. `None`: nothing sampled it.
    pub telemetry: Option<&'a Series<'a>>,
}

impl AgentView<'_> {
    /// Its start and its finish on its own host's clock.
    ///
    /// *Undefined when* it has no such record.
    #[must_use]
    pub fn window(&self) -> Option<(MonoNs, MonoNs)> {
        Some((self.timeline.started?.actual, self.timeline.finished?.at))
    }
}

/// A leg that was executed, valid or not: an invalid one may be the very one to explain.
#[derive(Debug, Clone)]
pub struct LegView<'a> {
    /// What was decided.
    pub log: &'a LegLog<'a>,
    /// Its agents that left records, in pin order.
    pub agents: Vec<AgentView<'a>>,
    /// Whether all its agents ran on one host and boot: only then do their instants compare without
    /// a bound on the error of clock offsets.
    pub one_host: bool,
}

/// A run: the together leg, and the solo leg that counts for each agent (an identical agent's, where
/// the spec shares them).
#[derive(Debug, Clone)]
pub struct RunView<'a> {
    /// Number of the run.
    pub run: u32,
    /// The together leg.
    pub together: LegView<'a>,
    /// By agent of the test.
    pub solo: BTreeMap<&'a AgentId, LegView<'a>>,
    /// TR110's speed-up, where it could be computed.
    pub tr110_speedup: Option<f64>,
}

/// All runs of a test of which the together leg was executed, by rising number.
#[derive(Debug, Clone)]
pub struct TestView<'a> {
    /// The test.
    pub test: &'a PlannedTest,
    /// Its runs.
    pub runs: Vec<RunView<'a>>,
}

/// What a part takes alone, over all solo legs of agents with the same configuration and step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// Mean, scaled to this request's work, ms.
    pub mean_ms: f64,
    /// Standard deviation from run to run, ms. `None` below two.
    pub sd_ms: Option<f64>,
    /// Solo requests behind it.
    pub n: u32,
}

/// A request together, taken apart and compared.
#[derive(Debug, Clone)]
pub struct RequestScene<'a> {
    /// Its record.
    pub record: &'a RequestRecord,
    /// Its parts.
    pub parts: Parts,
    /// What its parts are alone, by [`super::Part`]. Missing: not to be compared.
    pub usual: BTreeMap<super::Part, Usual>,
}

/// An agent together, taken apart and compared.
#[derive(Debug, Clone)]
pub struct AgentScene<'a> {
    /// The agent together.
    pub view: AgentView<'a>,
    /// The agent alone in the same run. `None`: it has no solo leg.
    pub solo: Option<AgentView<'a>>,
    /// Its requests, in order.
    pub requests: Vec<RequestScene<'a>>,
    /// Its parts against the usual, summed over its requests.
    pub excess: Vec<Excess>,
}

impl AgentScene<'_> {
    /// The excess of a part, if it is beyond chance.
    #[must_use]
    pub fn slow_in(&self, part: super::Part) -> Option<&Excess> {
        self.excess
            .iter()
            .find(|excess| excess.part == part && excess.beyond_chance)
    }
}

/// What the test of a cause looks at: one run, taken apart and compared.
#[derive(Debug, Clone)]
pub struct Scene<'a> {
    /// The test.
    pub test: &'a PlannedTest,
    /// The run.
    pub run: &'a RunView<'a>,
    /// Its agents, in pin order.
    pub agents: Vec<AgentScene<'a>>,
}
