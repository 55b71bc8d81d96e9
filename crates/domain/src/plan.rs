//! A valid spec unfolded: which agents, which tests, which legs in which order.
//!
//! A **test** is one configuration. It is repeated in **runs**; a run pairs one *together* leg with
//! the *solo* legs of its agents, so that drift hits both alike. A **leg** is what the run
//! protocol executes: a gang that reserves, warms, votes, starts and closes.
//!
//! [`build`] is the way from a spec to a plan. A plan grows on evidence: [`choose`] and [`later`]
//! unfold a phase that waited for an earlier one, [`wants_more`] and [`repeat`] repeat a test, and
//! [`Plan::extend`] takes in what was added.

mod build;
mod cases;
mod evidence;
mod extend;
mod legs;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Role, RunId};
use crate::memory::admission::Schedule;
use crate::options::{EngineKind, EngineOptions};
use crate::slo::Slo;

pub use build::{PlanError, build, later};
pub use evidence::{choose, relative_half_width, wants_more};
pub use extend::{Choice, Extension, Goal, LaterPhase, Select};
pub use legs::repeat;

/// Everything that will be executed, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The experiment's name, as in the spec.
    pub name: String,
    /// Seed of the order and of every derived seed.
    pub seed: u64,
    /// The work every agent does.
    pub workload: Workload,
    /// How long each stage of a leg may take.
    #[serde(default)]
    pub limits: Limits,
    /// Digest that a loaded model must have, by model name; a model that is absent may have any.
    #[serde(default)]
    pub model_digests: BTreeMap<String, String>,
    /// What is done about legs that turn out invalid, and between legs.
    #[serde(default)]
    pub budget: Budget,
    /// When a gang is admitted.
    #[serde(default, skip_serializing_if = "Schedule::is_default")]
    pub schedule: Schedule,
    /// What a request must keep to be good; `None`: nothing says which are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// Configurations, by rising id.
    pub tests: Vec<PlannedTest>,
    /// Legs in the order of execution.
    pub legs: Vec<PlannedLeg>,
    /// Phases whose tests wait for what an earlier phase will show, in order.
    #[serde(default)]
    pub later: Vec<LaterPhase>,
}

/// What is done about legs that turn out invalid, and between legs. Retries never hide: every
/// attempt is kept, shown and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Budget {
    /// Further attempts at one leg; 0: none.
    pub retries_per_leg: u32,
    /// Further attempts in the whole experiment.
    pub retries_total: u32,
    /// Legs that may stay invalid after their retries before the experiment is stopped as failed;
    /// `None`: any number.
    pub failures: Option<u32>,
    /// Invalid attempts in a row that stop the experiment; 0: never.
    pub consecutive_failures: u32,
    /// Pause before each leg but the first, seconds.
    pub cool_down_s: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            retries_per_leg: 0,
            retries_total: 20,
            failures: None,
            consecutive_failures: 10,
            cool_down_s: 0,
        }
    }
}

/// How long each stage of a leg may take, and how far apart its agents may start.
///
/// Part of the plan, so that whoever replays an experiment judges it by the same limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// Longest wait for a complete gang, seconds.
    pub gang_wait_s: u32,
    /// Longest warm-up: model load, pin check and ready votes, seconds.
    pub warm_s: u32,
    /// Longest run, from the common start to the last agent's last step, seconds.
    pub run_s: u32,
    /// Longest wait for the agents' last records, seconds.
    pub drain_s: u32,
    /// Largest distance between the starts of two agents of a leg, milliseconds.
    pub start_skew_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            gang_wait_s: 60,
            warm_s: 300,
            run_s: 1800,
            drain_s: 30,
            start_skew_ms: 10,
        }
    }
}

/// What the agents work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// Name of the template set (`tr110-report`).
    pub template: String,
    /// Data folder, relative to the worker's data root; `None`: the data shipped with Chimera.
    pub data: Option<String>,
}

/// One configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedTest {
    /// Number of the test, unique in the experiment (TR110: 1..18, 100.., 200..).
    pub id: u32,
    /// Phase number, from 1.
    pub phase: u32,
    /// Scenario name (`baseline_vs_chimera`, `chimera_hetero`, `chimera_homo`, `custom`).
    pub scenario: String,
    /// What a person calls it (`1 thread each`).
    pub label: String,
    /// The agents, in pin order. *Shape*: 1 or more.
    pub agents: Vec<PlannedAgent>,
    /// How many agents may run at once; the rest queue in order.
    pub max_concurrent: u32,
    /// Repeats.
    pub runs: u32,
    /// How agents and instances belong together.
    #[serde(default)]
    pub topology: Topology,
    /// Repeat further until an interval is narrow; `None`: exactly [`Self::runs`].
    #[serde(default)]
    pub until: Option<Goal>,
}

/// How the agents of a test and engine instances belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Topology {
    /// One instance for each agent, claimed by it alone.
    #[default]
    Pinned,
    /// All agents on one instance.
    Shared {
        /// Requests that the instance works on at once; the others wait in its queue.
        slots: u32,
    },
}

/// One agent of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedAgent {
    /// Unique within the test.
    pub id: AgentId,
    /// What it is.
    pub role: Role,
    /// Protocol of its engine.
    pub engine: EngineKind,
    /// Model asked for.
    pub model: String,
    /// Options, frozen.
    pub options: EngineOptions,
    /// URL of the instance it must be pinned to; `None`: any free instance of its engine kind.
    pub instance: Option<String>,
    /// Pause before each of its requests but the first, ms: the tools an agent waits for.
    #[serde(default)]
    pub think_ms: u32,
}

/// One execution of the run protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLeg {
    /// Identity on the bus (`t1-r2-together`, `t1-r2-solo-collector`).
    pub run_id: RunId,
    /// [`PlannedTest::id`].
    pub test: u32,
    /// Number of the run within the test, from 1.
    pub run: u32,
    /// Alone or together.
    pub kind: LegKind,
}

/// Alone or together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "leg", rename_all = "snake_case")]
pub enum LegKind {
    /// One agent of the test, by itself.
    Solo {
        /// Which.
        agent: AgentId,
    },
    /// All agents of the test.
    Together,
}

/// The solo leg that an agent of a run is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoloLeg {
    /// The leg.
    pub run_id: RunId,
    /// Whether another agent was measured in place of this one, which is alike.
    pub shared: bool,
}

impl PlannedAgent {
    /// Whether the other agent does the same work in the same way: role, engine, model, options.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.role == other.role
            && self.engine == other.engine
            && self.model == other.model
            && self.options == other.options
            && self.think_ms == other.think_ms
    }
}

impl Plan {
    /// The test with this id.
    #[must_use]
    pub fn test(&self, id: u32) -> Option<&PlannedTest> {
        self.tests
            .binary_search_by_key(&id, |t| t.id)
            .ok()
            .and_then(|i| self.tests.get(i))
    }

    /// For each agent of a run the solo leg to compare it with, in pin order.
    ///
    /// *Undefined when* the spec runs no solo legs, or the plan holds no such run: `None` for the
    /// agent, or no agent at all.
    #[must_use]
    pub fn solo_legs(&self, test: u32, run: u32) -> Vec<(&PlannedAgent, Option<SoloLeg>)> {
        let Some(test) = self.test(test) else {
            return Vec::new();
        };
        let of_run = self
            .legs
            .iter()
            .filter(|l| l.test == test.id && l.run == run);
        let solo: Vec<(&AgentId, &RunId)> = of_run
            .filter_map(|leg| match &leg.kind {
                LegKind::Solo { agent } => Some((agent, &leg.run_id)),
                LegKind::Together => None,
            })
            .collect();
        let find = |agent: &PlannedAgent| {
            if let Some((_, run_id)) = solo.iter().find(|(id, _)| **id == agent.id) {
                return Some(SoloLeg {
                    run_id: (*run_id).clone(),
                    shared: false,
                });
            }
            let alike = test.agents.iter().filter(|a| a.is_like(agent));
            let (_, run_id) = alike
                .filter_map(|a| solo.iter().find(|(id, _)| **id == a.id))
                .next()?;
            Some(SoloLeg {
                run_id: (*run_id).clone(),
                shared: true,
            })
        };
        test.agents
            .iter()
            .map(|agent| (agent, find(agent)))
            .collect()
    }
}

/// The specs that are shipped, by name.
#[cfg(test)]
pub(crate) fn examples() -> Vec<(&'static str, &'static str)> {
    vec![
        ("quick", include_str!("../../../examples/quick.toml")),
        (
            "two-agents",
            include_str!("../../../examples/two-agents.toml"),
        ),
        ("tr110", include_str!("../../../examples/tr110.toml")),
        (
            "tr110-reduced",
            include_str!("../../../examples/tr110-reduced.toml"),
        ),
        ("scale", include_str!("../../../examples/scale.toml")),
        (
            "think-time",
            include_str!("../../../examples/think-time.toml"),
        ),
        (
            "mixed-models",
            include_str!("../../../examples/mixed-models.toml"),
        ),
        ("topology", include_str!("../../../examples/topology.toml")),
    ]
}

#[cfg(test)]
mod tests;
