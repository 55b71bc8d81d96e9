//! What the values of a phase must be to each other.

use super::phase::Context;
use crate::options::EngineOptions;
use crate::spec::error::Sink;
use crate::spec::options::{OptionKey, Setting};
use crate::spec::reader::Item;
use crate::spec::valid::{AgentSpec, Agents, Instances, Phase, Scenario};

/// Where the values stand that may not fit each other.
pub(super) struct Places<'n> {
    pub(super) phase: Item<'n>,
    pub(super) scenario: Option<Item<'n>>,
    pub(super) label: Option<Item<'n>>,
    pub(super) agents: Option<Item<'n>>,
    pub(super) listed: Option<Item<'n>>,
    pub(super) hetero: Option<Item<'n>>,
    pub(super) cap: Option<Item<'n>>,
    /// `num_predict`, else `num_ctx`.
    pub(super) budget: Option<Item<'n>>,
}

impl<'n> Places<'n> {
    fn or_phase<'a>(&'a self, places: [&'a Option<Item<'n>>; 2]) -> &'a Item<'n> {
        places.into_iter().flatten().next().unwrap_or(&self.phase)
    }
}

/// Notes everything about a phase that its values, each good by itself, get wrong together.
pub(super) fn check(phase: &Phase, places: &Places<'_>, context: &Context<'_>, sink: &mut Sink) {
    agents(phase, places, sink);
    hetero(phase, places, sink);
    let agents = phase.agent_count();
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
        && urls.len() < agents as usize
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
    if phase.agent_count() < 2
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

/// A budget that fills the context leaves no room for a prompt, and the engine would cut it.
fn budgets(phase: &Phase, places: &Places<'_>, context: &Context<'_>, sink: &mut Sink) {
    let grid = || {
        phase
            .grid
            .iter()
            .flat_map(|a| a.values.iter().copied())
            .collect::<Vec<_>>()
    };
    let mut worst: Option<(u32, u32)> = None;
    let mut look = |base: Vec<Setting>, over: &[Setting]| {
        let default = EngineOptions::default();
        let numbers = |pick: fn(Setting) -> Option<u32>, default: u32| -> Vec<u32> {
            let own: Vec<u32> = over.iter().copied().filter_map(pick).collect();
            let grid: Vec<u32> = base.iter().copied().filter_map(pick).collect();
            [own, grid, vec![default]]
                .into_iter()
                .find(|v| !v.is_empty())
                .unwrap_or_default()
        };
        let ctx = numbers(num_ctx, default.num_ctx).into_iter().min();
        let predict = numbers(num_predict, default.num_predict).into_iter().max();
        if let (Some(ctx), Some(predict)) = (ctx, predict)
            && predict >= ctx
        {
            worst = Some((predict, ctx));
        }
    };
    match &phase.agents {
        Agents::Listed(list) => list.iter().for_each(|a| look(grid(), &a.options)),
        Agents::Alike(_) => {
            look(grid(), &[]);
            look(grid(), &phase.hetero);
            if phase.scenarios.contains(&Scenario::BaselineVsChimera) {
                let budget = |s: &Setting| s.key() == OptionKey::NumPredict;
                look(
                    grid().into_iter().filter(budget).collect(),
                    context.baseline,
                );
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

fn num_ctx(setting: Setting) -> Option<u32> {
    match setting {
        Setting::NumCtx(value) => Some(value),
        _ => None,
    }
}

fn num_predict(setting: Setting) -> Option<u32> {
    match setting {
        Setting::NumPredict(value) => Some(value),
        _ => None,
    }
}

/// A list that every agent overrides makes tests that do not differ.
fn overridden_axes(phase: &Phase, places: &Places<'_>, sink: &mut Sink) {
    let (Agents::Listed(list), Some(item)) = (&phase.agents, &places.listed) else {
        return;
    };
    for axis in &phase.grid {
        let overrides = |a: &AgentSpec| a.options.iter().any(|s| s.key() == axis.key);
        if list.iter().all(overrides) {
            let problem = format!("every agent overrides {} of the phase", axis.key.as_str());
            item.fault(problem, "drop it from the phase or from an agent", sink);
        }
    }
}
