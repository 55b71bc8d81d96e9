//! What an experiment would do, told without starting anything: no engine, no bus, no folder.

mod paper;

use std::collections::BTreeMap;
use std::path::Path;

use agent_worker::workload::{self, DataSource};
use chimera_domain::gate::Threshold;
use chimera_domain::options::EngineKind;
use chimera_domain::plan::{
    self, Budget, Choice, Goal, LaterPhase, Plan, PlannedAgent, PlannedLeg, PlannedTest, Select,
    Topology,
};
use chimera_domain::slo::Slo;
use chimera_domain::spec::{
    self, FlagSpec, Instances, Model, OptionKey, Order, Phase, Setting, ValidSpec,
};
use chimera_runtime::exit::{UsageError, chain};
use chimera_runtime::host;
use serde::Serialize;
use serde_json::Value;

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
    /// `None`: nothing says which requests are good.
    slo: Option<Slo>,
    gate: Vec<Threshold>,
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
    /// By name: a number, or `best` and a step from it, as long as it is not known.
    options: BTreeMap<&'static str, Value>,
}

impl Outline {
    fn of(spec: &ValidSpec) -> anyhow::Result<Self> {
        // Neither of them changes what is planned.
        let settled = spec
            .clone()
            .with_engine(EngineKind::Openai)
            .with_model(OPEN_MODEL);
        let usage = |e: plan::PlanError| UsageError(e.to_string());
        let plan = plan::build(&settled).map_err(usage)?;
        let mut phases = Vec::new();
        for (number, phase) in (1_u32..).zip(spec.phases()) {
            phases.push(phase_of(&settled, &plan, number, phase).map_err(usage)?);
        }
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
            slo: plan.slo,
            gate: spec.gate().to_vec(),
            tests: phases.iter().map(|p| p.tests.len() as u64).sum(),
            runs: phases.iter().map(|p| p.runs).sum(),
            legs: phases.iter().map(|p| p.legs).sum(),
            most_runs: phases.iter().map(most).sum(),
            order: plan.legs.iter().map(|l| l.run_id.to_string()).collect(),
            phases,
        })
    }
}

fn phase_of(
    spec: &ValidSpec,
    plan: &Plan,
    number: u32,
    phase: &Phase,
) -> Result<PhaseOutline, plan::PlanError> {
    let tests: Vec<TestOutline> = match plan.later.iter().find(|later| later.phase == number) {
        Some(later) => waiting(spec, later, phase)?,
        None => {
            let in_phase = plan.tests.iter().filter(|t| t.phase == number);
            let each = in_phase.map(|test| test_of(spec, test, &plan.legs));
            each.collect()
        }
    };
    Ok(PhaseOutline {
        phase: number,
        order: match phase.order() {
            Order::Randomized => "randomized",
            Order::Fixed => "fixed",
        },
        runs_each: phase.runs(),
        until: phase.until(),
        waits_for: phase.select().cloned(),
        runs: tests.len() as u64 * u64::from(phase.runs()),
        legs: tests.iter().map(|t| t.legs).sum(),
        tests,
    })
}

/// Tests that wait for another phase: unfolded for two of the values that they may come to, so that
/// what is the same for both is known, and what is not is `best`.
fn waiting(
    spec: &ValidSpec,
    later: &LaterPhase,
    phase: &Phase,
) -> Result<Vec<TestOutline>, plan::PlanError> {
    let choose = |pick: fn(&[Setting]) -> Option<&Setting>| {
        let keys = later.select.options.iter();
        let keys = keys.filter_map(|name| OptionKey::from_name(name));
        let chosen: Vec<Setting> = keys
            .filter_map(|key| pick(&spec.candidates(later.phase, key)).copied())
            .collect();
        let options = chosen.iter();
        let choice = Choice {
            test: 0,
            value: 0.0,
            runner_up: None,
            clear: None,
            options: options
                .map(|s| (s.key().as_str().to_owned(), s.value_text()))
                .collect(),
        };
        plan::later(spec, later.phase, &choice).map(|(tests, legs)| (chosen, tests, legs))
    };
    let (chosen, tests, legs) = choose(<[Setting]>::first)?;
    let (_, others, _) = choose(<[Setting]>::last)?;
    let mut outlines = Vec::with_capacity(tests.len());
    for ((test, other), (_, label)) in tests.iter().zip(&others).zip(&later.tests) {
        let mut outline = test_of(spec, test, &legs);
        outline.label.clone_from(label);
        let agents = test.agents.iter().zip(&other.agents);
        for ((agent, other), shown) in agents.zip(&mut outline.agents) {
            for setting in &chosen {
                let key = setting.key();
                let value = key.of(&agent.options);
                if value != key.of(&other.options) {
                    let step = if value == Some(*setting) {
                        String::new()
                    } else {
                        step(phase, key)
                    };
                    shown
                        .options
                        .insert(key.as_str(), Value::String(format!("best{step}")));
                }
            }
        }
        outlines.push(outline);
    }
    Ok(outlines)
}

/// How an agent's value comes of the best one (`+20`, `x2`).
fn step(phase: &Phase, key: OptionKey) -> String {
    let changes = phase.hetero().iter().chain(phase.shared());
    let steps = changes.filter(|change| change.key() == key);
    steps.map(|change| change.step_text()).collect()
}

fn test_of(spec: &ValidSpec, test: &PlannedTest, legs: &[PlannedLeg]) -> TestOutline {
    let agent = |a: &PlannedAgent| AgentOutline {
        id: a.id.to_string(),
        role: a.role.to_string(),
        model: (a.model != spec.model().name()).then(|| a.model.clone()),
        instance: a.instance.clone(),
        think_ms: a.think_ms,
        options: OptionKey::ALL
            .into_iter()
            .filter_map(|key| {
                let text = key.of(&a.options)?.value_text();
                let number = text.parse().map(Value::Number);
                Some((key.as_str(), number.unwrap_or(Value::String(text))))
            })
            .collect(),
    };
    TestOutline {
        id: test.id,
        label: test.label.clone(),
        scenario: test.scenario.clone(),
        topology: test.topology,
        max_concurrent: test.max_concurrent,
        legs: legs.iter().filter(|l| l.test == test.id).count() as u64,
        agents: test.agents.iter().map(agent).collect(),
    }
}

#[cfg(test)]
mod tests;
