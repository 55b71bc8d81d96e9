//! A spec that has been checked. Its fields are private: holding one is the proof.

use super::options::{OptionKey, Setting};
use super::phase::Phase;
use super::write;
use crate::gate::Threshold;
use crate::ids::ExperimentId;
use crate::memory::admission::Schedule;
use crate::options::EngineKind;
use crate::plan::{Budget, Limits, Workload};
use crate::slo::Slo;

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
    pub(super) budget: Budget,
    pub(super) schedule: Schedule,
    pub(super) slo: Option<Slo>,
    pub(super) gate: Vec<Threshold>,
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

    /// What is done about legs that turn out invalid, and between legs.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// When a gang is admitted.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// What a request must keep to be good; `None`: nothing says which are. *Shape*: one limit or more,
    /// each positive.
    #[must_use]
    pub fn slo(&self) -> Option<Slo> {
        self.slo
    }

    /// What a result must reach, in the order written. *Shape*: no quantity twice.
    #[must_use]
    pub fn gate(&self) -> &[Threshold] {
        &self.gate
    }

    /// The phases, in the order of execution. *Shape*: one or more.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// Most agents that any test has.
    #[must_use]
    pub fn max_agents(&self) -> u32 {
        self.phases
            .iter()
            .map(Phase::most_agents)
            .max()
            .unwrap_or(1)
    }

    /// Most engine instances that any test needs: one for each agent that is pinned, one for all
    /// agents that share.
    #[must_use]
    pub fn max_instances(&self) -> u32 {
        self.phases
            .iter()
            .map(Phase::most_instances)
            .max()
            .unwrap_or(1)
    }

    /// What an option of a phase (counted from 1) can come to: its values in the grid, or where it
    /// is `best`, those of the phase that it is taken from. *Shape*: empty if the phase leaves the
    /// option to the engine.
    #[must_use]
    pub fn candidates(&self, phase: u32, key: OptionKey) -> Vec<Setting> {
        let at = |number: u32| {
            let at = usize::try_from(number).ok()?.checked_sub(1)?;
            self.phases.get(at)
        };
        candidates(at, phase, key)
    }

    /// The same experiment on this engine: settles `kind = "auto"` once it is known what the
    /// machine has. A kind that the spec states itself is kept.
    #[must_use]
    pub fn with_engine(mut self, kind: EngineKind) -> Self {
        self.backend.kind.get_or_insert(kind);
        self
    }

    /// The same experiment with this model: settles `name = "auto"` once it is known what the engine
    /// has. A name that the spec states itself is kept.
    #[must_use]
    pub fn with_model(mut self, name: &str) -> Self {
        if self.model.is_auto() {
            name.clone_into(&mut self.model.name);
        }
        self
    }

    /// The spec as canonical TOML. Parsing it gives an equal value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        write::spec(self)
    }
}

/// See [`ValidSpec::candidates`].
pub(super) fn candidates<'p>(
    phase: impl Fn(u32) -> Option<&'p Phase>,
    number: u32,
    key: OptionKey,
) -> Vec<Setting> {
    let mut number = number;
    loop {
        let asked =
            phase(number).and_then(|p| Some((p, p.grid().iter().find(|a| a.key() == key)?)));
        let Some((phase, axis)) = asked else {
            return Vec::new();
        };
        match phase.select() {
            // Each step leads to an earlier phase.
            Some(select) if axis.is_best() && select.from_phase < number => {
                number = select.from_phase;
            }
            _ => return axis.values().to_vec(),
        }
    }
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub(super) name: String,
    pub(super) digest: Option<String>,
}

impl Model {
    /// Stands for the engine's only model, or the one that Chimera takes where nobody says
    /// otherwise.
    pub const AUTO: &'static str = "auto";

    /// Name that the engine knows it by; `auto` while [`Self::is_auto`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether whoever starts the workers finds out which model it is.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        self.name == Self::AUTO
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
    /// two alike, at least as many as any test needs.
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
