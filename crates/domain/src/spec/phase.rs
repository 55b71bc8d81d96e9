//! A phase of a valid spec: what varies, who the agents are, and what it waits for.

use super::change::Override;
use super::options::{Axis, Setting};
use crate::ids::{AgentId, Role};
use crate::plan::{Goal, Select, Topology};

/// Who does what in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scenario {
    /// The first agent has the engine's defaults, the others the grid's options.
    BaselineVsChimera,
    /// The first agent has the grid's options, the others override some.
    ChimeraHetero,
    /// All agents have the grid's options.
    ChimeraHomo,
    /// Each agent as listed.
    Custom,
}

impl Scenario {
    pub(super) const ALL: [(&'static str, Self); 4] = [
        ("baseline_vs_chimera", Self::BaselineVsChimera),
        ("chimera_hetero", Self::ChimeraHetero),
        ("chimera_homo", Self::ChimeraHomo),
        ("custom", Self::Custom),
    ];

    /// The name used in specs and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BaselineVsChimera => "baseline_vs_chimera",
            Self::ChimeraHetero => "chimera_hetero",
            Self::ChimeraHomo => "chimera_homo",
            Self::Custom => "custom",
        }
    }
}

/// In which order the legs of a phase are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Shuffled by the seed, so that drift hits all alike.
    Randomized,
    /// As written, solo legs first.
    Fixed,
}

impl Order {
    pub(super) const ALL: [(&'static str, Self); 2] =
        [("randomized", Self::Randomized), ("fixed", Self::Fixed)];

    /// The name used in specs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Randomized => "randomized",
            Self::Fixed => "fixed",
        }
    }
}

/// What the tests of a phase are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// After what varies.
    Derived,
    /// By a common name, and after what varies.
    Common(String),
    /// Each by its own. *Shape*: as many as the phase has tests.
    PerTest(Vec<String>),
}

/// How the agents of a test and engine instances belong together, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// One instance for each agent.
    Pinned,
    /// All agents on one instance with this many slots; `None`: as many as there are agents.
    Shared(Option<u32>),
}

impl Placement {
    /// The same for a test of this many agents.
    #[must_use]
    pub fn topology(self, agents: u32) -> Topology {
        match self {
            Self::Pinned => Topology::Pinned,
            Self::Shared(slots) => Topology::Shared {
                slots: slots.unwrap_or(agents),
            },
        }
    }

    /// Whether agents share an instance.
    #[must_use]
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// What tells it from the others of a phase (`pinned`, `shared`, `shared slots=2`).
    pub(crate) fn label(self) -> String {
        match self {
            Self::Pinned => "pinned".to_owned(),
            Self::Shared(None) => "shared".to_owned(),
            Self::Shared(Some(slots)) => format!("shared slots={slots}"),
        }
    }
}

/// A set of tests that are run interleaved.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    pub(super) labels: Labels,
    pub(super) scenarios: Vec<Scenario>,
    pub(super) placements: Vec<Placement>,
    pub(super) agents: Agents,
    pub(super) think_ms: Vec<u32>,
    pub(super) hetero: Vec<Override>,
    pub(super) shared: Vec<Override>,
    pub(super) grid: Vec<Axis>,
    pub(super) select: Option<Select>,
    pub(super) until: Option<Goal>,
    pub(super) runs: u32,
    pub(super) max_concurrent: Option<u32>,
    pub(super) order: Order,
    pub(super) first_test_id: u32,
}

impl Phase {
    /// What its tests are called.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Scenarios, each run over the whole grid. *Shape*: one or more, no two alike.
    #[must_use]
    pub fn scenarios(&self) -> &[Scenario] {
        &self.scenarios
    }

    /// Topologies, each run over the whole grid. *Shape*: one or more, no two alike.
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Its agents.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        &self.agents
    }

    /// Pauses before the requests of agents that state none of their own, ms. *Shape*: one or more,
    /// no two alike.
    #[must_use]
    pub fn think_ms(&self) -> &[u32] {
        &self.think_ms
    }

    /// What the second and further agents of `chimera_hetero` override.
    #[must_use]
    pub fn hetero(&self) -> &[Override] {
        &self.hetero
    }

    /// What the agents of tests on a shared instance have otherwise: one engine for all may be
    /// launched otherwise than one for each (`num_thread`).
    #[must_use]
    pub fn shared(&self) -> &[Override] {
        &self.shared
    }

    /// What varies, outermost first.
    #[must_use]
    pub fn grid(&self) -> &[Axis] {
        &self.grid
    }

    /// What it takes over from an earlier phase, whose result it waits for. *Shape*: the options
    /// are those of the grid that are `best`, one or more.
    #[must_use]
    pub fn select(&self) -> Option<&Select> {
        self.select.as_ref()
    }

    /// Until when its tests are repeated; `None`: exactly [`Self::runs`].
    #[must_use]
    pub fn until(&self) -> Option<Goal> {
        self.until
    }

    /// Repeats of each test.
    #[must_use]
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// Agents that may run at once; `None`: all.
    #[must_use]
    pub fn max_concurrent(&self) -> Option<u32> {
        self.max_concurrent
    }

    /// Order of its legs.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Number of its first test; the others follow.
    #[must_use]
    pub fn first_test_id(&self) -> u32 {
        self.first_test_id
    }

    /// How many agents its tests have, in turn. *Shape*: one number or more, no two alike.
    #[must_use]
    pub fn agent_counts(&self) -> Vec<u32> {
        match &self.agents {
            Agents::Alike(counts) => counts.clone(),
            Agents::Listed(list) => vec![u32::try_from(list.len()).unwrap_or(u32::MAX)],
        }
    }

    /// Agents of its largest test.
    #[must_use]
    pub fn most_agents(&self) -> u32 {
        self.agent_counts().into_iter().max().unwrap_or(1)
    }

    /// Instances that its largest test needs.
    #[must_use]
    pub fn most_instances(&self) -> u32 {
        if self.placements.contains(&Placement::Pinned) {
            self.most_agents()
        } else {
            1
        }
    }

    /// Tests that it unfolds to. Saturates.
    #[must_use]
    pub fn test_count(&self) -> u64 {
        self.tests_of_a_size()
            .saturating_mul(self.agent_counts().len() as u64)
    }

    /// Tests for each number of agents. Saturates.
    pub(super) fn tests_of_a_size(&self) -> u64 {
        let lists = [
            self.scenarios.len(),
            self.placements.len(),
            self.think_ms.len(),
        ];
        let axes = self.grid.iter().map(|a| a.values().len().max(1));
        lists
            .into_iter()
            .chain(axes)
            .fold(1, |product, n| product.saturating_mul(n as u64))
    }
}

/// The agents of a phase's tests.
#[derive(Debug, Clone, PartialEq)]
pub enum Agents {
    /// Each of these many in turn, with roles `collector` and `insight` in turn. *Shape*: one
    /// number or more, no two alike.
    Alike(Vec<u32>),
    /// These.
    Listed(Vec<AgentSpec>),
}

/// One agent as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSpec {
    pub(super) id: AgentId,
    pub(super) role: Role,
    pub(super) model: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) think_ms: Option<u32>,
    pub(super) options: Vec<Setting>,
}

impl AgentSpec {
    /// Unique within the test.
    #[must_use]
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// What it is.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Its model; `None`: the experiment's.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The instance that it must be pinned to, one of the backend's.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// Pause before each of its requests but the first, ms; `None`: the phase's.
    #[must_use]
    pub fn think_ms(&self) -> Option<u32> {
        self.think_ms
    }

    /// What it overrides of the grid's options.
    #[must_use]
    pub fn options(&self) -> &[Setting] {
        &self.options
    }
}
