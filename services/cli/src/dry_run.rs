//! What an experiment would do, told without starting anything: no engine, no bus, no folder.

mod paper;

use std::path::Path;

use agent_worker::workload::{self, DataSource};
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::plan::{
    self, Budget, Goal, LaterPhase, Plan, PlannedAgent, PlannedTest, Select, Topology,
};
use chimera_domain::spec::{self, FlagSpec, Instances, Model, Order, Phase, ValidSpec};
use chimera_runtime::exit::{UsageError, chain};
use chimera_runtime::host;
use serde::Serialize;

use crate::args::BenchArgs;
use crate::{output, spec_file};

/// Legs that are shown to a person; a program gets all.
const FIRST_LEGS: usize = 6;
/// What the model is called until an engine is known.
const OPEN_MODEL: &str = "the-engine's-own";

/// `chimera bench --dry-run`.
pub(crate) fn run(args: &BenchArgs, json: bool) -> anyhow::Result<()> {
    args.check()?;
    if args.resume.is_some() {
        let why = "--dry-run tells what a new experiment would do: leave out --resume";
        return Err(UsageError(why.to_owned()).into());
    }
    let spec = match &args.spec {
        Some(path) => from_file(path)?,
        None => from_flags(args)?,
    };
    let outline = Outline::of(&spec)?;
    if json {
        return output::print_json(&outline);
    }
    output::print(paper::render(&outline).as_bytes()).map(|_| ())
}

fn from_file(path: &Path) -> anyhow::Result<ValidSpec> {
    let spec = spec_file::read(path)?.spec;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    check_data(parent.unwrap_or(Path::new(".")), &spec)?;
    Ok(spec)
}

fn from_flags(args: &BenchArgs) -> anyhow::Result<ValidSpec> {
    let mut flags = args.flags.spec();
    let model = flags.model.take();
    let model = model.unwrap_or_else(|| Model::AUTO.to_owned());
    let root = flags.data.take().map(|data| {
        let path = Path::new(&data);
        let name = path.file_name().and_then(|n| n.to_str());
        flags.data = Some(name.unwrap_or(&data).to_owned());
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_owned()
    });
    let spec = if args.quick {
        let cores = host::cores().unwrap_or(1);
        let engine = flags.engine.unwrap_or(EngineKind::Openai);
        spec::quick(cores, engine, &model, &flags)
    } else {
        FlagSpec {
            model: Some(model),
            ..flags
        }
        .to_valid()
    };
    let spec = spec.map_err(|e| UsageError(e.to_string()))?;
    check_data(root.as_deref().unwrap_or(Path::new(".")), &spec)?;
    Ok(spec)
}

fn check_data(root: &Path, spec: &ValidSpec) -> Result<(), UsageError> {
    DataSource::resolve(Some(root), spec.workload().data.as_deref())
        .and_then(|source| workload::validate_data(&source))
        .map(|_| ())
        .map_err(|e| UsageError(format!("the agents' data: {}", chain(&e))))
}

/// The whole of it, as a program reads it.
#[derive(Debug, Serialize)]
struct Outline {
    name: String,
    seed: u64,
    /// `None`: whoever starts it finds out.
    engine: Option<&'static str>,
    /// `None`: the engine's only model, or the one taken where nobody says otherwise.
    model: Option<String>,
    /// Engine instances that the largest test needs.
    instances: u32,
    /// Instances that run already; empty: they are started.
    attached: Vec<String>,
    solo: bool,
    budget: Budget,
    tests: u64,
    runs: u64,
    legs: u64,
    /// Runs, if every test that repeats until its interval is narrow goes on to its cap.
    most_runs: u64,
    phases: Vec<PhaseOutline>,
    /// Names of the legs that are known, in the order of execution.
    order: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PhaseOutline {
    phase: u32,
    order: &'static str,
    runs_each: u32,
    until: Option<Goal>,
    /// `None`: it waits for nothing.
    waits_for: Option<Select>,
    tests: Vec<TestOutline>,
    runs: u64,
    legs: u64,
}

#[derive(Debug, Serialize)]
struct TestOutline {
    id: u32,
    label: String,
    /// `None`: known once the phase that it waits for is measured.
    known: Option<KnownTest>,
}

#[derive(Debug, Serialize)]
struct KnownTest {
    scenario: String,
    topology: Topology,
    max_concurrent: u32,
    legs: u64,
    agents: Vec<AgentOutline>,
}

#[derive(Debug, Serialize)]
struct AgentOutline {
    id: String,
    role: String,
    /// `None`: the experiment's.
    model: Option<String>,
    instance: Option<String>,
    think_ms: u32,
    options: EngineOptions,
}

impl Outline {
    fn of(spec: &ValidSpec) -> anyhow::Result<Self> {
        // Neither of them changes what is planned.
        let settled = spec
            .clone()
            .with_engine(EngineKind::Openai)
            .with_model(OPEN_MODEL);
        let plan = plan::build(&settled).map_err(|e| UsageError(e.to_string()))?;
        let phases: Vec<PhaseOutline> = (1_u32..)
            .zip(spec.phases())
            .map(|(number, phase)| phase_of(&settled, &plan, number, phase))
            .collect();
        let most = |p: &PhaseOutline| {
            let each = p.until.map_or(p.runs_each, |goal| goal.max_runs);
            p.tests.len() as u64 * u64::from(each)
        };
        Ok(Self {
            name: plan.name.clone(),
            seed: plan.seed,
            engine: spec.backend().kind().map(EngineKind::as_str),
            model: (!spec.model().is_auto()).then(|| spec.model().name().to_owned()),
            instances: spec.max_instances(),
            attached: match spec.backend().instances() {
                Instances::Spawn => Vec::new(),
                Instances::Attach(urls) => urls.clone(),
            },
            solo: spec.solo().enabled(),
            budget: plan.budget,
            tests: phases.iter().map(|p| p.tests.len() as u64).sum(),
            runs: phases.iter().map(|p| p.runs).sum(),
            legs: phases.iter().map(|p| p.legs).sum(),
            most_runs: phases.iter().map(most).sum(),
            order: plan.legs.iter().map(|l| l.run_id.to_string()).collect(),
            phases,
        })
    }
}

fn phase_of(spec: &ValidSpec, plan: &Plan, number: u32, phase: &Phase) -> PhaseOutline {
    let later = plan.later.iter().find(|later| later.phase == number);
    let in_phase = || plan.tests.iter().filter(|t| t.phase == number);
    let legs_of = |test: &PlannedTest| plan.legs.iter().filter(|l| l.test == test.id).count() as u64;
    let (tests, legs) = match later {
        Some(LaterPhase { tests, legs, .. }) => {
            let each = tests.iter().map(|(id, label)| TestOutline {
                id: *id,
                label: label.clone(),
                known: None,
            });
            (each.collect(), u64::from(*legs))
        }
        None => {
            let each = in_phase().map(|test| TestOutline {
                id: test.id,
                label: test.label.clone(),
                known: Some(known(spec, test, legs_of(test))),
            });
            (each.collect::<Vec<_>>(), in_phase().map(legs_of).sum())
        }
    };
    PhaseOutline {
        phase: number,
        order: match phase.order() {
            Order::Randomized => "randomized",
            Order::Fixed => "fixed",
        },
        runs_each: phase.runs(),
        until: phase.until(),
        waits_for: later.map(|later| later.select.clone()),
        runs: tests.len() as u64 * u64::from(phase.runs()),
        tests,
        legs,
    }
}

fn known(spec: &ValidSpec, test: &PlannedTest, legs: u64) -> KnownTest {
    let agent = |a: &PlannedAgent| AgentOutline {
        id: a.id.to_string(),
        role: a.role.to_string(),
        model: (a.model != spec.model().name()).then(|| a.model.clone()),
        instance: a.instance.clone(),
        think_ms: a.think_ms,
        options: a.options.clone(),
    };
    KnownTest {
        scenario: test.scenario.clone(),
        topology: test.topology,
        max_concurrent: test.max_concurrent,
        legs,
        agents: test.agents.iter().map(agent).collect(),
    }
}

#[cfg(test)]
mod tests;
