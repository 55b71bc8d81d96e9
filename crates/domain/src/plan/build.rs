//! From a valid spec to tests and legs, the same for the same spec and seed.
//!
//! A phase that takes over what an earlier one showed has no tests yet when the experiment is
//! submitted: [`build`] previews them, [`later`] unfolds them once the choice is known, and gives
//! the tests and legs that [`build`] would have given, had the options been written down.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::cases::{Case, Taken, cases, label};
use super::legs::{legs_of_phase, solo_agents};
use super::{Choice, LaterPhase, Plan, PlannedAgent, PlannedLeg, PlannedTest, Select};
use crate::ids::IdError;
use crate::options::{EngineKind, EngineOptions};
use crate::spec::{
    AgentSpec, Agents, Instances, OptionKey, Phase, Placement, Scenario, Setting, ValidSpec,
    cycled_agents,
};

/// Why a spec has no plan, or a plan cannot grow so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The spec leaves the engine open; [`ValidSpec::with_engine`] settles it.
    #[error(
        "the spec leaves the engine open: set backend.kind to \"ollama\" or \"openai\" (only \
         `chimera bench` finds out by itself)"
    )]
    EngineOpen,
    /// The spec leaves the model open; [`ValidSpec::with_model`] settles it.
    #[error(
        "the spec leaves the model open: set model.name to one that the engine has (only `chimera \
         bench` finds out by itself)"
    )]
    ModelOpen,
    /// A leg cannot be named.
    #[error("a leg cannot be named")]
    RunId(#[source] IdError),
    /// The spec has no such phase, or one that takes nothing over.
    #[error("phase {0} of the spec takes nothing over from an earlier one")]
    NotLater(u32),
    /// What was chosen is not what the phase asks for.
    #[error("the choice for phase {phase} gives {option} = {value:?}, which the phase cannot take")]
    Choice {
        /// The phase.
        phase: u32,
        /// The option.
        option: String,
        /// Its value.
        value: String,
    },
    /// The plan or the spec has no such test.
    #[error("there is no test {0} to repeat")]
    NoTest(u32),
}

/// Unfolds a spec. Phases that wait for an earlier one are previewed in [`Plan::later`].
///
/// # Errors
/// When the engine or the model is still open. The bounds of a valid spec leave every leg a name.
pub fn build(spec: &ValidSpec) -> Result<Plan, PlanError> {
    let mut tests = Vec::new();
    let mut legs = Vec::new();
    let mut waiting = Vec::new();
    let mut earlier = Labels::default();
    for (number, phase) in (1_u32..).zip(spec.phases()) {
        let taken = Taken::Open(spec);
        let in_phase = phase_tests(spec, number, phase, &taken, &earlier)?;
        earlier.note(number, phase, &taken);
        match phase.select() {
            Some(select) => waiting.push(preview(spec, number, phase, select, &in_phase)),
            None => {
                legs.extend(legs_of_phase(spec, number, phase, &in_phase)?);
                tests.extend(in_phase);
            }
        }
    }
    tests.sort_by_key(|t| t.id);
    let model = spec.model();
    let digest = model
        .digest()
        .map(|d| (model.name().to_owned(), d.to_owned()));
    Ok(Plan {
        name: spec.name().as_str().to_owned(),
        seed: spec.seed(),
        workload: spec.workload().clone(),
        limits: spec.limits(),
        budget: spec.budget(),
        schedule: spec.schedule(),
        slo: spec.slo(),
        model_digests: BTreeMap::from_iter(digest),
        tests,
        legs,
        later: waiting,
    })
}

/// Unfolds a phase that waited for an earlier one, with what was chosen there.
///
/// *Shape*: tests by rising id, legs in the order of execution; both are those previewed in
/// [`Plan::later`]. The order comes from the phase's own stream of the seed, whatever was chosen and
/// whenever, so that doing it again gives the same. An option that the choice does not name is not
/// sent.
///
/// # Errors
/// When the spec has no such phase, or the phase takes nothing over; when the choice names an option
/// that the phase does not take over, or a value that the option cannot have; and as [`build`].
pub fn later(
    spec: &ValidSpec,
    phase: u32,
    choice: &Choice,
) -> Result<(Vec<PlannedTest>, Vec<PlannedLeg>), PlanError> {
    let phases = || (1_u32..).zip(spec.phases());
    let (_, asked) = phases()
        .find(|(number, _)| *number == phase)
        .ok_or(PlanError::NotLater(phase))?;
    let select = asked.select().ok_or(PlanError::NotLater(phase))?;
    let taken = Taken::Chosen(chosen(phase, select, choice)?);
    let mut earlier = Labels::default();
    for (number, other) in phases().take_while(|(number, _)| *number < phase) {
        earlier.note(number, other, &Taken::Open(spec));
    }
    let tests = phase_tests(spec, phase, asked, &taken, &earlier)?;
    let legs = legs_of_phase(spec, phase, asked, &tests)?;
    Ok((tests, legs))
}

/// The options of a choice, each checked to be one that the phase takes over.
fn chosen(phase: u32, select: &Select, choice: &Choice) -> Result<Vec<Setting>, PlanError> {
    let read = |(option, value): &(String, String)| {
        OptionKey::from_name(option)
            .filter(|_| select.options.contains(option))
            .and_then(|key| key.parse(value))
            .ok_or_else(|| PlanError::Choice {
                phase,
                option: option.clone(),
                value: value.clone(),
            })
    };
    choice.options.iter().map(read).collect()
}

/// What the tests of a phase will be, as far as it is known before the choice.
fn preview(
    spec: &ValidSpec,
    number: u32,
    phase: &Phase,
    select: &Select,
    tests: &[PlannedTest],
) -> LaterPhase {
    let each = |t: &PlannedTest| solo_agents(spec, phase, t).len() as u64 + 1;
    let a_run: u64 = tests.iter().map(each).sum();
    let of_runs = |runs: u32| {
        let legs = a_run.saturating_mul(u64::from(runs));
        u32::try_from(legs).unwrap_or(u32::MAX)
    };
    LaterPhase {
        phase: number,
        select: select.clone(),
        tests: tests.iter().map(|t| (t.id, t.label.clone())).collect(),
        legs: of_runs(phase.runs()),
        legs_at_most: phase.until().map(|goal| of_runs(goal.max_runs)),
    }
}

/// Labels of the phases so far, so that a later phase's can be told apart from them.
#[derive(Default)]
struct Labels(BTreeSet<String>);

impl Labels {
    fn note(&mut self, number: u32, phase: &Phase, taken: &Taken<'_>) {
        let labels = cases(number, phase, taken);
        let labels = labels.iter().enumerate();
        self.0.extend(labels.map(|(i, case)| label(phase, i, case)));
    }

    fn apart(&self, label: String, number: u32) -> String {
        if self.0.contains(&label) {
            format!("{label} (phase {number})")
        } else {
            label
        }
    }
}

fn phase_tests(
    spec: &ValidSpec,
    number: u32,
    phase: &Phase,
    taken: &Taken<'_>,
    earlier: &Labels,
) -> Result<Vec<PlannedTest>, PlanError> {
    let engine = spec.backend().kind().ok_or(PlanError::EngineOpen)?;
    if spec.model().is_auto() {
        return Err(PlanError::ModelOpen);
    }
    let ids = phase.first_test_id()..;
    let cases = cases(number, phase, taken);
    let test = |(i, (id, case)): (usize, (u32, Case))| PlannedTest {
        id,
        phase: number,
        scenario: case.scenario.as_str().to_owned(),
        label: earlier.apart(label(phase, i, &case), number),
        max_concurrent: phase
            .max_concurrent()
            .map_or(case.agents, |most| most.min(case.agents)),
        runs: phase.runs(),
        topology: case.placement.topology(case.agents),
        until: phase.until(),
        agents: agents(spec, engine, phase, &case),
    };
    Ok(ids.zip(cases).enumerate().map(test).collect())
}

fn agents(spec: &ValidSpec, engine: EngineKind, phase: &Phase, case: &Case) -> Vec<PlannedAgent> {
    let agent = |id, role, options| PlannedAgent {
        id,
        role,
        engine,
        model: spec.model().name().to_owned(),
        options,
        instance: None,
        think_ms: case.think_ms,
    };
    let mut agents: Vec<PlannedAgent> = match phase.agents() {
        Agents::Alike(_) => {
            let named = cycled_agents(case.agents).into_iter().enumerate();
            let each = named
                .map(|(i, (id, role))| agent(id, role, alike_options(spec, phase, case, i == 0)));
            each.collect()
        }
        Agents::Listed(list) => {
            let each = list.iter().map(|a| {
                let own = a.options().iter().copied();
                let options = options(spec, case.settings().chain(own));
                let mut planned = agent(a.id().clone(), a.role().clone(), options);
                if let Some(model) = a.model() {
                    model.clone_into(&mut planned.model);
                }
                planned.think_ms = a.think_ms().unwrap_or(case.think_ms);
                planned
            });
            each.collect()
        }
    };
    pin(spec, phase, case.placement, &mut agents);
    agents
}

fn alike_options(spec: &ValidSpec, phase: &Phase, case: &Case, first: bool) -> EngineOptions {
    match case.scenario {
        // The token budget is the job's, not the engine's: both agents must write as much.
        Scenario::BaselineVsChimera if first => {
            let budget = case.settings().filter(|s| s.key() == OptionKey::NumPredict);
            options(spec, budget.chain(spec.baseline().iter().copied()))
        }
        Scenario::ChimeraHetero if !first => {
            let otherwise = phase.hetero().iter();
            let otherwise = otherwise.filter_map(|change| change.on(case.setting(change.key())));
            options(spec, case.settings().chain(otherwise))
        }
        Scenario::BaselineVsChimera
        | Scenario::ChimeraHetero
        | Scenario::ChimeraHomo
        | Scenario::Custom => options(spec, case.settings()),
    }
}

fn options(spec: &ValidSpec, settings: impl Iterator<Item = Setting>) -> EngineOptions {
    let mut options = EngineOptions {
        seed: spec.seed(),
        ..EngineOptions::default()
    };
    settings.for_each(|s| s.apply(&mut options));
    options
}

/// Gives every agent its instance, where instances are listed: first those that name one, then
/// the others in order. Alone and together an agent thus works on the same instance. Agents that
/// share get the one that any of them names, else the first.
fn pin(spec: &ValidSpec, phase: &Phase, placement: Placement, agents: &mut [PlannedAgent]) {
    let Instances::Attach(urls) = spec.backend().instances() else {
        return;
    };
    let stated = stated_instances(phase);
    if let Placement::Shared(_) = placement {
        let first = urls.first().map(String::as_str);
        let shared = stated.iter().copied().flatten().next().or(first);
        for agent in agents {
            agent.instance = shared.map(str::to_owned);
        }
        return;
    }
    let mut free = urls.iter().filter(|u| !stated.contains(&Some(u.as_str())));
    for (i, agent) in agents.iter_mut().enumerate() {
        agent.instance = match stated.get(i) {
            Some(Some(url)) => Some((*url).to_owned()),
            _ => free.next().cloned(),
        };
    }
}

/// The instance that each listed agent names.
pub(super) fn stated_instances(phase: &Phase) -> Vec<Option<&str>> {
    match phase.agents() {
        Agents::Alike(_) => Vec::new(),
        Agents::Listed(list) => list.iter().map(AgentSpec::instance).collect(),
    }
}
