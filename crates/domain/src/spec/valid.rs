//! A spec that has been checked. Its fields are private: holding one is the proof.

use super::options::{Axis, Setting};
use super::write;
use crate::ids::{AgentId, ExperimentId, Role};
use crate::options::EngineKind;
use crate::plan::{Limits, Workload};

/// An experiment as asked for, every value within bounds and every name resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidSpec {
    pub(super) name: ExperimentId,
    pub(super) seed: u64,
    pub(super) model: Model,
    pub(super) backend: Backend,
    pub(super) workload: Workload,
    pub(super) solo: Solo,
    pub(super) baseline: Vec<Setting>,
    pub(super) limits: Limits,
    pub(super) phases: Vec<Phase>,
}

impl ValidSpec {
    /// The experiment's name. *Shape*: at most 40 bytes, so that an id can be made of it.
    #[must_use]
    pub fn name(&self) -> &ExperimentId {
        &self.name
    }

    /// Seed of the order of legs and of the engines' sampling.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The model of every agent that names none of its own.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Which engine, and where its instances come from.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// What the agents work on.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Whether and how solo legs are run.
    #[must_use]
    pub fn solo(&self) -> Solo {
        self.solo
    }

    /// What differs from the engine's defaults for the first agent of `baseline_vs_chimera`.
    #[must_use]
    pub fn baseline(&self) -> &[Setting] {
        &self.baseline
    }

    /// How long each stage of a leg may take.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The phases, in the order of execution. *Shape*: one or more.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// Most agents that any test has: as many instances are needed.
    #[must_use]
    pub fn max_agents(&self) -> u32 {
        self.phases
            .iter()
            .map(Phase::agent_count)
            .max()
            .unwrap_or(1)
    }

    /// The same experiment on this engine: settles `kind = "auto"` once it is known what the
    /// machine has. A kind that the spec states itself is kept.
    #[must_use]
    pub fn with_engine(mut self, kind: EngineKind) -> Self {
        self.backend.kind.get_or_insert(kind);
        self
    }

    /// The spec as canonical TOML. Parsing it gives an equal value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        write::spec(self)
    }
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub(super) name: String,
    pub(super) digest: Option<String>,
}

impl Model {
    /// Name that the engine knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 that the loaded model must have, 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

/// Which engine, and where its instances come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub(super) kind: Option<EngineKind>,
    pub(super) instances: Instances,
}

impl Backend {
    /// The engine's protocol; `None` for `auto`: whoever starts the workers finds out.
    #[must_use]
    pub fn kind(&self) -> Option<EngineKind> {
        self.kind
    }

    /// Where the instances come from.
    #[must_use]
    pub fn instances(&self) -> &Instances {
        &self.instances
    }
}

/// Where engine instances come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instances {
    /// Workers start one each and own it.
    Spawn,
    /// They run already. *Shape*: origins without a trailing slash (`http://127.0.0.1:11434`), no
    /// two alike, at least as many as any test has agents.
    Attach(Vec<String>),
}

/// Whether and how solo legs are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solo {
    pub(super) enabled: bool,
    pub(super) share_identical: bool,
}

impl Solo {
    /// Without solo legs there is no concurrency gain, only the balance index.
    #[must_use]
    pub fn enabled(self) -> bool {
        self.enabled
    }

    /// Whether agents with the same role, model and options are measured alone only once a run.
    #[must_use]
    pub fn share_identical(self) -> bool {
        self.share_identical
    }
}

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

/// A set of tests that are run interleaved.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    pub(super) labels: Labels,
    pub(super) scenarios: Vec<Scenario>,
    pub(super) agents: Agents,
    pub(super) hetero: Vec<Setting>,
    pub(super) grid: Vec<Axis>,
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

    /// Its agents.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        &self.agents
    }

    /// What the second and further agents of `chimera_hetero` override.
    #[must_use]
    pub fn hetero(&self) -> &[Setting] {
        &self.hetero
    }

    /// What varies, outermost first.
    #[must_use]
    pub fn grid(&self) -> &[Axis] {
        &self.grid
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

    /// Agents of each test.
    #[must_use]
    pub fn agent_count(&self) -> u32 {
        match &self.agents {
            Agents::Alike(n) => *n,
            Agents::Listed(list) => u32::try_from(list.len()).unwrap_or(u32::MAX),
        }
    }

    /// Tests that it unfolds to. Saturates.
    #[must_use]
    pub fn test_count(&self) -> u64 {
        let axes = self.grid.iter().map(|a| a.values.len() as u64);
        axes.fold(self.scenarios.len() as u64, u64::saturating_mul)
    }
}

/// The agents of a phase's tests.
#[derive(Debug, Clone, PartialEq)]
pub enum Agents {
    /// This many, with roles `collector` and `insight` in turn.
    Alike(u32),
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

    /// What it overrides of the grid's options.
    #[must_use]
    pub fn options(&self) -> &[Setting] {
        &self.options
    }
}
