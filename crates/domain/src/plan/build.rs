//! From a valid spec to tests and legs, the same for the same spec and seed.
//!
//! Rule of the order: phases follow each other. Within a phase, run 1 of every test comes before
//! run 2 of any, so that drift over the session hits all tests alike; within such a round the
//! tests are shuffled, and within a test's run its legs. Legs of one test's run stay together: they
//! share their engines' launch options, and a solo leg is worth most beside the leg it is compared
//! with. The shuffle is Fisher-Yates over ChaCha8 keyed by the seed, one stream a phase, so that a
//! further phase leaves the order of the others as it was.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use thiserror::Error;

use super::{Budget, LegKind, Plan, PlannedAgent, PlannedLeg, PlannedTest, Topology};
use crate::ids::{AgentId, IdError, RunId};
use crate::options::{EngineKind, EngineOptions};
use crate::spec::{
    AgentSpec, Agents, Instances, Labels, OptionKey, Order, Phase, Scenario, Setting, ValidSpec,
    cycled_agents,
};

/// Why a valid spec has no plan yet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The spec leaves the engine open; [`ValidSpec::with_engine`] settles it.
    #[error(
        "the spec leaves the engine open: set backend.kind to \"ollama\" or \"openai\" (only \
         `chimera bench` finds out by itself)"
    )]
    EngineOpen,
    /// A leg cannot be named.
    #[error("a leg cannot be named")]
    RunId(#[source] IdError),
}

/// Unfolds a spec.
///
/// # Errors
/// When the engine is still open. The bounds of a valid spec leave every leg a name.
pub fn build(spec: &ValidSpec) -> Result<Plan, PlanError> {
    let engine = spec.backend().kind().ok_or(PlanError::EngineOpen)?;
    let mut tests = Vec::new();
    let mut legs = Vec::new();
    for (number, phase) in (1_u32..).zip(spec.phases()) {
        let in_phase = phase_tests(spec, engine, number, phase);
        legs.extend(phase_legs(spec, number, phase, &in_phase)?);
        tests.extend(in_phase);
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
        budget: Budget::default(),
        model_digests: BTreeMap::from_iter(digest),
        tests,
        legs,
        later: Vec::new(),
    })
}

fn phase_tests(
    spec: &ValidSpec,
    engine: EngineKind,
    number: u32,
    phase: &Phase,
) -> Vec<PlannedTest> {
    let points = grid_points(phase);
    let cases = phase
        .scenarios()
        .iter()
        .flat_map(|s| points.iter().map(move |p| (*s, p)));
    let ids = phase.first_test_id()..;
    let test = |(i, (id, (scenario, point))): (usize, (u32, (Scenario, &Vec<Setting>)))| {
        let agents = agents(spec, engine, phase, scenario, point);
        PlannedTest {
            id,
            phase: number,
            scenario: scenario.as_str().to_owned(),
            label: label(phase, i, scenario, point),
            max_concurrent: phase
                .max_concurrent()
                .unwrap_or_else(|| phase.agent_count()),
            agents,
            runs: phase.runs(),
            topology: Topology::Pinned,
            until: None,
        }
    };
    ids.zip(cases).enumerate().map(test).collect()
}

/// Every combination of the axes' values, the last axis turning fastest.
fn grid_points(phase: &Phase) -> Vec<Vec<Setting>> {
    phase.grid().iter().fold(vec![Vec::new()], |points, axis| {
        let with = |point: Vec<Setting>| {
            axis.values().iter().map(move |value| {
                let mut point = point.clone();
                point.push(*value);
                point
            })
        };
        points.into_iter().flat_map(with).collect()
    })
}

fn label(phase: &Phase, i: usize, scenario: Scenario, point: &[Setting]) -> String {
    let common = match phase.labels() {
        Labels::PerTest(labels) => return labels.get(i).cloned().unwrap_or_default(),
        Labels::Common(label) => Some(label.as_str()),
        Labels::Derived => None,
    };
    let varies = |s: &&Setting| {
        phase
            .grid()
            .iter()
            .any(|axis| axis.key() == s.key() && axis.values().len() > 1)
    };
    let mut differs: Vec<String> = Vec::new();
    if phase.scenarios().len() > 1 {
        differs.push(scenario.as_str().to_owned());
    }
    let values = point.iter().filter(varies);
    differs.extend(values.map(|s| format!("{}={}", s.key().as_str(), s.value_text())));
    match (common, differs.is_empty()) {
        (Some(label), true) => label.to_owned(),
        (Some(label), false) => format!("{label}: {}", differs.join(" ")),
        (None, true) => scenario.as_str().to_owned(),
        (None, false) => differs.join(" "),
    }
}

fn agents(
    spec: &ValidSpec,
    engine: EngineKind,
    phase: &Phase,
    scenario: Scenario,
    point: &[Setting],
) -> Vec<PlannedAgent> {
    let agent = |id, role, model: Option<&str>, options| PlannedAgent {
        id,
        role,
        engine,
        model: model.unwrap_or_else(|| spec.model().name()).to_owned(),
        options,
        instance: None,
        think_ms: 0,
    };
    let mut agents: Vec<PlannedAgent> = match phase.agents() {
        Agents::Alike(n) => {
            let named = cycled_agents(*n).into_iter().enumerate();
            let each = named.map(|(i, (id, role))| {
                agent(
                    id,
                    role,
                    None,
                    alike_options(spec, phase, scenario, point, i == 0),
                )
            });
            each.collect()
        }
        Agents::Listed(list) => {
            let each = list.iter().map(|a| {
                let options = options(spec, point.iter().chain(a.options()));
                agent(a.id().clone(), a.role().clone(), a.model(), options)
            });
            each.collect()
        }
    };
    pin(spec, phase, &mut agents);
    agents
}

fn alike_options(
    spec: &ValidSpec,
    phase: &Phase,
    scenario: Scenario,
    point: &[Setting],
    first: bool,
) -> EngineOptions {
    match scenario {
        // The token budget is the job's, not the engine's: both agents must write as much.
        Scenario::BaselineVsChimera if first => {
            let budget = point.iter().filter(|s| s.key() == OptionKey::NumPredict);
            options(spec, budget.chain(spec.baseline()))
        }
        Scenario::ChimeraHetero if !first => options(spec, point.iter().chain(phase.hetero())),
        Scenario::BaselineVsChimera
        | Scenario::ChimeraHetero
        | Scenario::ChimeraHomo
        | Scenario::Custom => options(spec, point),
    }
}

fn options<'a>(spec: &ValidSpec, settings: impl IntoIterator<Item = &'a Setting>) -> EngineOptions {
    let mut options = EngineOptions {
        seed: spec.seed(),
        ..EngineOptions::default()
    };
    settings.into_iter().for_each(|s| s.apply(&mut options));
    options
}

/// Gives every agent its instance, where instances are listed: first those that name one, then
/// the others in order. Alone and together an agent thus works on the same instance.
fn pin(spec: &ValidSpec, phase: &Phase, agents: &mut [PlannedAgent]) {
    let Instances::Attach(urls) = spec.backend().instances() else {
        return;
    };
    let stated = stated_instances(phase);
    let mut free = urls.iter().filter(|u| !stated.contains(&Some(u.as_str())));
    for (i, agent) in agents.iter_mut().enumerate() {
        agent.instance = match stated.get(i) {
            Some(Some(url)) => Some((*url).to_owned()),
            _ => free.next().cloned(),
        };
    }
}

/// The instance that each listed agent names.
fn stated_instances(phase: &Phase) -> Vec<Option<&str>> {
    match phase.agents() {
        Agents::Alike(_) => Vec::new(),
        Agents::Listed(list) => list.iter().map(AgentSpec::instance).collect(),
    }
}

fn phase_legs(
    spec: &ValidSpec,
    number: u32,
    phase: &Phase,
    tests: &[PlannedTest],
) -> Result<Vec<PlannedLeg>, PlanError> {
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed());
    rng.set_stream(u64::from(number));
    let mut shuffle = |n: usize| -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        if phase.order() == Order::Randomized {
            fisher_yates(&mut order, &mut rng);
        }
        order
    };
    let measured: Vec<Vec<&AgentId>> = tests.iter().map(|t| solo_agents(spec, phase, t)).collect();
    let mut legs = Vec::new();
    for run in 1..=phase.runs() {
        for at in shuffle(tests.len()) {
            let (Some(test), Some(solo)) = (tests.get(at), measured.get(at)) else {
                continue;
            };
            let mut block = Vec::with_capacity(solo.len() + 1);
            for agent in solo {
                let kind = LegKind::Solo {
                    agent: (*agent).clone(),
                };
                block.push(leg(test.id, run, kind)?);
            }
            block.push(leg(test.id, run, LegKind::Together)?);
            legs.extend(
                shuffle(block.len())
                    .into_iter()
                    .filter_map(|i| block.get(i).cloned()),
            );
        }
    }
    Ok(legs)
}

/// The agents of a test that are measured alone.
fn solo_agents<'t>(spec: &ValidSpec, phase: &Phase, test: &'t PlannedTest) -> Vec<&'t AgentId> {
    let solo = spec.solo();
    if !solo.enabled() {
        return Vec::new();
    }
    let stated = stated_instances(phase);
    // Who names an instance may mean its hardware: such an agent stands for itself.
    let own = |i: usize| matches!(stated.get(i), Some(Some(_)));
    let mut measured: Vec<(usize, &PlannedAgent)> = Vec::new();
    for (i, agent) in test.agents.iter().enumerate() {
        let stood_for = solo.share_identical()
            && !own(i)
            && measured
                .iter()
                .any(|(k, other)| !own(*k) && other.is_like(agent));
        if !stood_for {
            measured.push((i, agent));
        }
    }
    measured.into_iter().map(|(_, agent)| &agent.id).collect()
}

fn leg(test: u32, run: u32, kind: LegKind) -> Result<PlannedLeg, PlanError> {
    let name = match &kind {
        LegKind::Solo { agent } => format!("t{test}-r{run}-solo-{agent}"),
        LegKind::Together => format!("t{test}-r{run}-together"),
    };
    let run_id = RunId::try_new(name).map_err(PlanError::RunId)?;
    Ok(PlannedLeg {
        run_id,
        test,
        run,
        kind,
    })
}

/// Written out, because a library's shuffle may change with its version and the order is part of
/// an experiment. The bias of the remainder is below 2^-45 for the lengths that occur.
fn fisher_yates(order: &mut [usize], rng: &mut ChaCha8Rng) {
    for i in (1..order.len()).rev() {
        let below = i as u64 + 1;
        let j = usize::try_from(rng.next_u64() % below).unwrap_or(0);
        order.swap(i, j);
    }
}
