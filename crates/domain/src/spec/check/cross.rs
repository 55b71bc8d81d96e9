//! What the values of a phase must be to each other.

use super::phase::Context;
use super::sharing;
use crate::options::EngineOptions;
use crate::spec::change::Override;
use crate::spec::error::Sink;
use crate::spec::options::{OptionKey, Setting};
use crate::spec::phase::{AgentSpec, Agents, Phase, Scenario};
use crate::spec::reader::Item;
use crate::spec::valid::Instances;

/// Where the values stand that may not fit each other.
pub(super) struct Places<'n> {
    pub(super) phase: Item<'n>,
    pub(super) scenario: Option<Item<'n>>,
    pub(super) label: Option<Item<'n>>,
    pub(super) agents: Option<Item<'n>>,
    pub(super) listed: Option<Item<'n>>,
    pub(super) hetero: Option<Item<'n>>,
    pub(super) shared: Option<Item<'n>>,
    pub(super) cap: Option<Item<'n>>,
    /// `num_predict`, else `num_ctx`.
    pub(super) budget: Option<Item<'n>>,
    pub(super) topology: Option<Item<'n>>,
    pub(super) think: Option<Item<'n>>,
    /// The first option that is `best`.
    pub(super) best: Option<Item<'n>>,
}

impl<'n> Places<'n> {
    pub(super) fn or_phase<'a>(&'a self, places: [&'a Option<Item<'n>>; 2]) -> &'a Item<'n> {
        places.into_iter().flatten().next().unwrap_or(&self.phase)
    }
}

/// Notes everything about a phase that its values, each good by itself, get wrong together.
pub(super) fn check(phase: &Phase, places: &Places<'_>, context: &Context<'_>, sink: &mut Sink) {
    agents(phase, places, sink);
    hetero(phase, places, sink);
    steps(phase, places, context, sink);
    sharing::check(phase, places, context, sink);
    let agents = phase.most_agents();
    if let (Some(item), Some(cap)) = (&places.cap, phase.max_concurrent)
        && cap > agents
    {
        let hint = format!("allowed: 1 to {agents}");
        item.fault(
            format!("{cap} of {agents} agents cannot run at once"),
            &hint,
            sink,
        );
    }
    if let Some(Instances::Attach(urls)) = context.instances
        && urls.len() < phase.most_instances() as usize
    {
        let stated = places.or_phase([&places.listed, &places.agents]);
        let item = match &context.instances_at {
            Some(list) if std::ptr::eq(stated, &places.phase) => list,
            _ => stated,
        };
        let problem = format!("{agents} agents for {} instances", urls.len());
        item.fault(
            problem,
            "each agent owns one: add instances or lower agents",
            sink,
        );
    }
    budgets(phase, places, context, sink);
    overridden_axes(phase, places, sink);
}

fn agents(phase: &Phase, places: &Places<'_>, sink: &mut Sink) {
    let scenario = places.or_phase([&places.scenario, &None]);
    if let Some(item) = &places.listed {
        if let Some(stated) = &places.agents {
            stated.fault(
                "agents are counted here and listed too",
                "drop agents = N",
                sink,
            );
        }
        let reads_list = |s: &Scenario| matches!(s, Scenario::Custom | Scenario::ChimeraHetero);
        if let Some(other) = phase.scenarios.iter().find(|s| !reads_list(s)) {
            let problem = format!("{:?} does not take listed agents", other.as_str());
            let hint = "use scenario \"custom\", or agents = N with [phase.hetero]";
            item.fault(problem, hint, sink);
        }
    }
    let compares =
        |s: &&Scenario| matches!(s, Scenario::BaselineVsChimera | Scenario::ChimeraHetero);
    if phase.agent_counts().contains(&1)
        && let Some(found) = phase.scenarios.iter().find(compares)
    {
        let problem = format!("{:?} has one agent", found.as_str());
        scenario.fault(problem, "it compares at least two", sink);
    }
}

fn hetero(phase: &Phase, places: &Places<'_>, sink: &mut Sink) {
    let asked = phase.scenarios.contains(&Scenario::ChimeraHetero);
    if let Some(item) = &places.hetero {
        if !asked {
            let hint = "only scenario \"chimera_hetero\" reads it";
            item.fault("no scenario of this phase reads this table", hint, sink);
        } else if places.listed.is_some() {
            let hint = "put the options into [[phase.agent]]";
            item.fault("agents are listed and overridden too", hint, sink);
        }
    }
    let differ = match &phase.agents {
        Agents::Alike(_) => !phase.hetero.is_empty(),
        Agents::Listed(list) => list
            .iter()
            .any(|a| !a.options.is_empty() || a.model.is_some()),
    };
    if asked && !differ {
        let hint =
            "say how they differ in [phase.hetero] or [[phase.agent]], or use \"chimera_homo\"";
        let item = places.or_phase([&places.scenario, &None]);
        item.fault("all agents of \"chimera_hetero\" are alike", hint, sink);
    }
}

/// A step counts from a value that the phase must have, and must not lead out of bounds.
fn steps(phase: &Phase, places: &Places<'_>, context: &Context<'_>, sink: &mut Sink) {
    let grid = |key| context.candidates(phase, key);
    let on_shared = |key| -> Vec<Setting> {
        let own = phase.shared.iter().find(|change| change.key() == key);
        match own {
            Some(Override::Set(setting)) => vec![*setting],
            Some(change) => grid(key)
                .into_iter()
                .filter_map(|v| change.on(Some(v)))
                .collect(),
            None => Vec::new(),
        }
    };
    if let Some(item) = &places.shared {
        steps_from(&phase.shared, &grid, item, sink);
    }
    if let Some(item) = &places.hetero {
        let both = |key| [grid(key), on_shared(key)].concat();
        steps_from(&phase.hetero, &both, item, sink);
    }
}

fn steps_from(
    changes: &[Override],
    from: &dyn Fn(OptionKey) -> Vec<Setting>,
    item: &Item<'_>,
    sink: &mut Sink,
) {
    for change in changes.iter().filter(|change| change.is_relative()) {
        let key = change.key();
        let name = key.as_str();
        let shown = format!("{name} = {}", change.value_text());
        let from = from(key);
        if from.is_empty() {
            let hint = format!("set {name} in the phase, or give a value here");
            item.fault(format!("{shown} counts from nothing"), &hint, sink);
        }
        if let Some(value) = from.into_iter().find(|v| change.on(Some(*v)).is_none()) {
            let problem = format!(
                "{shown} leads from {} to a value that {name} cannot have",
                value.value_text()
            );
            item.fault(problem, "give a value, or another step", sink);
        }
    }
}

/// A budget that fills the context leaves no room for a prompt, and the engine would cut it.
fn budgets(phase: &Phase, places: &Places<'_>, context: &Context<'_>, sink: &mut Sink) {
    let mut worst: Option<(f64, f64)> = None;
    let mut look = |of_grid: &dyn Fn(OptionKey) -> bool, over: &[Override]| {
        let values = |key: OptionKey| -> Vec<f64> {
            let mut grid = Vec::new();
            if of_grid(key) {
                grid = context.candidates(phase, key);
            }
            grid = match over.iter().find(|change| change.key() == key) {
                Some(Override::Set(value)) => vec![*value],
                Some(change) => grid
                    .into_iter()
                    .filter_map(|v| change.on(Some(v)))
                    .collect(),
                None if grid.is_empty() => key.of(&EngineOptions::default()).into_iter().collect(),
                None => grid,
            };
            grid.into_iter().map(Setting::number).collect()
        };
        let ctx = values(OptionKey::NumCtx).into_iter().min_by(f64::total_cmp);
        let predict = values(OptionKey::NumPredict)
            .into_iter()
            .max_by(f64::total_cmp);
        if let (Some(ctx), Some(predict)) = (ctx, predict)
            && predict >= ctx
        {
            worst = Some((predict, ctx));
        }
    };
    let set = |settings: &[Setting]| -> Vec<Override> {
        settings.iter().copied().map(Override::Set).collect()
    };
    match &phase.agents {
        Agents::Listed(list) => list.iter().for_each(|a| look(&|_| true, &set(&a.options))),
        Agents::Alike(_) => {
            look(&|_| true, &[]);
            look(&|_| true, &phase.hetero);
            look(&|_| true, &phase.shared);
            if phase.scenarios.contains(&Scenario::BaselineVsChimera) {
                look(&|key| key == OptionKey::NumPredict, &set(context.baseline));
            }
        }
    }
    if let Some((predict, ctx)) = worst {
        let item = places.or_phase([&places.budget, &None]);
        let problem =
            format!("num_predict = {predict} leaves no room for a prompt in num_ctx = {ctx}");
        item.fault(problem, "raise num_ctx or lower num_predict", sink);
    }
}

/// A list that every agent overrides makes tests that do not differ.
fn overridden_axes(phase: &Phase, places: &Places<'_>, sink: &mut Sink) {
    let (Agents::Listed(list), Some(item)) = (&phase.agents, &places.listed) else {
        return;
    };
    if places.think.is_some() && list.iter().all(|a| a.think_ms.is_some()) {
        let problem = "every agent overrides think_ms of the phase";
        item.fault(problem, "drop it from the phase or from an agent", sink);
    }
    for axis in &phase.grid {
        let overrides = |a: &AgentSpec| a.options.iter().any(|s| s.key() == axis.key);
        if list.iter().all(overrides) {
            let problem = format!("every agent overrides {} of the phase", axis.key.as_str());
            item.fault(problem, "drop it from the phase or from an agent", sink);
        }
    }
}
