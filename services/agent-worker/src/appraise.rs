//! What an agent would take on this worker's instance, for the coordinator's admission.
//!
//! Asked before anything is reserved, so nothing is loaded or started for it: a spawned llama.cpp's
//! model file is read as far as its header, an Ollama that runs is asked for its own account. An
//! OpenAI-compatible server that somebody else runs does not say what its model is made of.

use std::path::Path;

use chimera_domain::memory::admission::{Appraisal, Mapped};
use chimera_domain::memory::{AgentMemory, EngineSettings, Layout, ModelFacts};
use chimera_domain::options::EngineKind;
use chimera_domain::plan::{PlannedAgent, Topology};
use chimera_runtime::gguf::{self, HeaderError};
use url::Url;

use crate::engine::model_account;
use crate::launcher::Subject;

/// What the agent would take on this instance.
///
/// # Errors
/// In words, why that is not known.
pub(crate) async fn appraise(
    subject: Subject,
    agent: &PlannedAgent,
    topology: Topology,
) -> Result<Appraisal, String> {
    match subject {
        Subject::File { model, running } => {
            let agent = agent.clone();
            let read = tokio::task::spawn_blocking(move || {
                let (mut need, weights, _) = of_file(&model, &agent, topology)?;
                need.mapped = Some(Mapped {
                    file: model.display().to_string(),
                    bytes: weights,
                });
                if let Some(running) = running {
                    let (held, _, rest) =
                        of_file(&running.model, &running.agent, running.topology)?;
                    need.held_device_bytes = held.device.bytes;
                    // The weights are a mapped file's, and available all the time.
                    need.held_host_bytes = rest;
                }
                Ok(need)
            });
            read.await.map_err(|error| error.to_string())?
        }
        Subject::Asked { url, kind } => asked(&url, kind, agent, topology).await,
        Subject::NotStarted => {
            Err("its engine has not been started yet, so it cannot say what it has".to_owned())
        }
    }
}

async fn asked(
    url: &Url,
    kind: EngineKind,
    agent: &PlannedAgent,
    topology: Topology,
) -> Result<Appraisal, String> {
    if kind != EngineKind::Ollama {
        return Err(
            "an OpenAI-compatible server does not say what its model is made of".to_owned(),
        );
    }
    let account = model_account(url, &agent.model)
        .await
        .map_err(|error| error.to_string())?;
    let facts = ModelFacts::from_show(&account.show).map_err(|error| error.to_string())?;
    let mut need = needs(&facts, agent, Layout::Ollama, topology);
    need.held_device_bytes = account.device_bytes;
    need.held_host_bytes = account.host_bytes;
    Ok(need)
}

/// The engine's defaults with what the agent asks for.
fn settings(agent: &PlannedAgent, layout: Layout, topology: Topology) -> EngineSettings {
    let options = &agent.options;
    let slots = match topology {
        Topology::Pinned => 1,
        Topology::Shared { slots } => u64::from(slots.max(1)),
    };
    // A llama.cpp server is launched with the context of all its slots.
    let context = match layout {
        Layout::LlamaCpp => u64::from(options.num_ctx).saturating_mul(slots),
        Layout::Ollama => u64::from(options.num_ctx),
    };
    let default = EngineSettings::new(layout, context);
    EngineSettings {
        slots,
        batch: u64::from(options.num_batch).min(default.batch),
        gpu_layers: options.num_gpu.map(u64::from),
        ..default
    }
}

fn needs(
    facts: &ModelFacts,
    agent: &PlannedAgent,
    layout: Layout,
    topology: Topology,
) -> Appraisal {
    let settings = settings(agent, layout, topology);
    let with = AgentMemory::plan(facts, &settings);
    let without = AgentMemory::plan(
        facts,
        &EngineSettings {
            gpu_layers: Some(0),
            ..settings
        },
    );
    Appraisal {
        device: with.device_total(),
        host: with.host_total(),
        host_only: without.host_total(),
        mapped: None,
        held_device_bytes: 0,
        held_host_bytes: 0,
    }
}

/// What a llama.cpp server takes with this model file; on a host without GPU, of that the weights,
/// which it maps, and the rest, bytes.
fn of_file(
    model: &Path,
    agent: &PlannedAgent,
    topology: Topology,
) -> Result<(Appraisal, u64, u64), String> {
    let header = gguf::read_header(model).map_err(|error| match error {
        HeaderError::Read(error) => format!("cannot read {}: {error}", model.display()),
        HeaderError::Gguf(error) => error.to_string(),
    })?;
    let facts = ModelFacts::from_gguf(&header).map_err(|error| error.to_string())?;
    let need = needs(&facts, agent, Layout::LlamaCpp, topology);
    let weights = facts.bytes.total().min(need.host_only.bytes);
    let rest = need.host_only.bytes.saturating_sub(weights);
    Ok((need, weights, rest))
}

#[cfg(test)]
mod tests;
