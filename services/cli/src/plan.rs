//! `plan`: how many agents fit on a GPU, before anything is started.

mod against;
mod device;
mod paper;
mod source;

use chimera_domain::memory::{
    AgentMemory, CacheSettings, Device, EngineSettings, Fit, KvType, LayerBudget, Layout,
    ModelFacts, fit, largest_count, layer_budget,
};
use chimera_domain::options::EngineKind;
use serde::Serialize;

use crate::args::{Contexts, Counts, PlanArgs};
use crate::output;
use against::Comparison;

/// Contexts where nobody says which.
const CONTEXTS: [u64; 5] = [512, 1024, 2048, 4096, 8192];
/// Agents where nobody says how many.
const AGENTS: [u64; 4] = [1, 2, 3, 4];

/// Everything that a plan says.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Plan {
    /// Where the model was found.
    model_from: String,
    model: ModelFacts,
    /// As for the first context.
    settings: EngineSettings,
    /// Where the GPU's size comes from.
    gpu_from: String,
    gpu: Device,
    /// By rising context.
    agents: Vec<PerContext>,
    /// By rising context, then by rising number of agents.
    cells: Vec<Cell>,
    /// Measured beside planned; empty unless asked for.
    against: Vec<Comparison>,
}

/// One agent with this context.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct PerContext {
    context: u64,
    memory: AgentMemory,
    /// How many of them fit; `None`: they take no GPU memory.
    largest_count: Option<u64>,
}

/// So many agents with this context.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Cell {
    agents: u64,
    context: u64,
    fit: Fit,
    /// Set where they do not fit with all layers that were asked for.
    layer_budget: Option<LayerBudget>,
}

/// `chimera plan`.
pub(crate) async fn run(args: &PlanArgs, json: bool) -> anyhow::Result<()> {
    // What needs no model first: a wrong option is told at once.
    let gpu = device::find(args).await?;
    let source = source::find(args).await?;
    let layout = args.engine.map_or(source.layout, layout);
    let mut plan = plan(&source.facts, &settings(args, layout), args, &gpu.device);
    plan.model_from = source.from;
    plan.gpu_from = gpu.from;
    if let Some(folder) = &args.against {
        plan.against = against::compare(folder, &plan.model, &plan.settings)?;
    }
    if json {
        return output::print_json(&plan);
    }
    output::print(paper::text(&plan).as_bytes()).map(|_| ())
}

fn layout(engine: EngineKind) -> Layout {
    match engine {
        EngineKind::Ollama => Layout::Ollama,
        EngineKind::Openai => Layout::LlamaCpp,
    }
}

fn settings(args: &PlanArgs, layout: Layout) -> EngineSettings {
    let default = EngineSettings::new(layout, 0);
    EngineSettings {
        slots: args.slots.map_or(default.slots, u64::from),
        batch: args.batch.map_or(default.batch, u64::from),
        gpu_layers: args.num_gpu.map(u64::from),
        flash_attention: !args.no_flash_attention,
        cache: CacheSettings {
            kv_type: args.kv_type.unwrap_or(KvType::F16),
            swa_full: args.swa_full,
            unified: args.kv_unified,
        },
        ..default
    }
}

fn plan(facts: &ModelFacts, settings: &EngineSettings, args: &PlanArgs, gpu: &Device) -> Plan {
    let contexts = match &args.ctx {
        Some(Contexts(contexts)) => contexts.as_slice(),
        None => &CONTEXTS,
    };
    let counts = match &args.agents {
        Some(Counts(counts)) => counts.as_slice(),
        None => &AGENTS,
    };
    let with = |context: u64| EngineSettings {
        context,
        ..*settings
    };
    let mut agents = Vec::new();
    let mut cells = Vec::new();
    for context in contexts.iter().copied() {
        let settings = with(context);
        let memory = AgentMemory::plan(facts, &settings);
        let each = memory.device_total();
        agents.push(PerContext {
            context,
            memory,
            largest_count: largest_count(each, gpu),
        });
        let mut all = Vec::new();
        for count in counts.iter().copied() {
            all.resize(usize::try_from(count).unwrap_or(usize::MAX), each);
            let fit = fit(&all, gpu);
            let budget = (!fit.fits).then(|| layer_budget(facts, &settings, count, gpu));
            cells.push(Cell {
                agents: count,
                context,
                fit,
                layer_budget: budget,
            });
        }
    }
    Plan {
        model_from: String::new(),
        model: facts.clone(),
        settings: with(contexts.first().copied().unwrap_or(0)),
        gpu_from: String::new(),
        gpu: *gpu,
        agents,
        cells,
        against: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
