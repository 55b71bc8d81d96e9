//! A plan beside what was measured: what engines said of themselves when they were pinned, and what
//! the driver saw their processes hold.

use std::collections::BTreeMap;
use std::path::Path;

use analyzer::bundle;
use anyhow::Context as _;
use chimera_domain::event::{AgentRecord, PinFacts};
use chimera_domain::memory::{AgentMemory, Amount, EngineSettings, Layout, ModelFacts};
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::telemetry::TelemetryBatch;
use serde::Serialize;

/// Something that was both planned and measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Comparison {
    pub(super) what: What,
    /// Who measured it.
    pub(super) source: &'static str,
    /// Context as the engine was told.
    pub(super) context: u64,
    pub(super) slots: u64,
    pub(super) planned: Amount,
    pub(super) measured_bytes: u64,
    /// `planned / measured - 1`.
    pub(super) error: f64,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// The tensors in the file.
    Tensors,
    /// Weights, KV cache and compute buffer, wherever they are.
    Loaded,
    /// Of these, what is on the GPU.
    LoadedOnGpu,
    /// All that the process holds on the GPU, at its peak.
    Process,
}

impl What {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tensors => "tensors",
            Self::Loaded => "model loaded",
            Self::LoadedOnGpu => "of it on the GPU",
            Self::Process => "process, peak",
        }
    }
}

/// Compares with every pin of a bundle; equal findings count once.
///
/// # Errors
/// When the bundle cannot be read, or holds nothing that a plan predicts.
pub(super) fn compare(
    folder: &Path,
    facts: &ModelFacts,
    settings: &EngineSettings,
) -> anyhow::Result<Vec<Comparison>> {
    let bundle = bundle::read(folder).with_context(|| {
        format!(
            "--against: {} is no bundle; give the folder that `chimera bench` wrote",
            folder.display()
        )
    })?;
    let peaks = peaks(&bundle.records.telemetry);
    let mut options = BTreeMap::new();
    let mut found: Vec<Comparison> = Vec::new();
    for event in &bundle.records.events {
        match &event.record {
            AgentRecord::Begin(begin) => {
                options.insert(event.key.clone(), begin.options.clone());
            }
            AgentRecord::Pin(pin) => {
                let asked = options.get(&event.key).cloned().unwrap_or_default();
                let peak = pin.facts.pid.and_then(|pid| peaks.get(&pid).copied());
                for row in of_pin(&pin.facts, &asked, peak, facts, settings) {
                    if !found.contains(&row) {
                        found.push(row);
                    }
                }
            }
            _ => {}
        }
    }
    anyhow::ensure!(
        !found.is_empty(),
        "--against: in {} no engine states what its model takes, and no driver saw it; Ollama and \
         llama.cpp state it, and telemetry sees it where NVML is",
        folder.display()
    );
    found.sort_by_key(|row| (row.what, row.context, row.slots));
    Ok(found)
}

/// The most that each process held on any GPU.
fn peaks(telemetry: &[TelemetryBatch]) -> BTreeMap<u32, u64> {
    let mut peaks = BTreeMap::new();
    for sample in telemetry.iter().flat_map(|batch| &batch.samples) {
        let mut now: BTreeMap<u32, u64> = BTreeMap::new();
        let processes = sample.gpus.iter().filter_map(|gpu| gpu.processes.as_ref());
        for process in processes.flatten() {
            if let Some(bytes) = process.memory_used_bytes {
                let sum = now.entry(process.pid).or_default();
                *sum = sum.saturating_add(bytes);
            }
        }
        for (pid, bytes) in now {
            let peak = peaks.entry(pid).or_insert(bytes);
            *peak = bytes.max(*peak);
        }
    }
    peaks
}

/// What of a pin a plan predicts; `peak` is what the driver saw its process hold.
pub(super) fn of_pin(
    pin: &PinFacts,
    asked: &EngineOptions,
    peak: Option<u64>,
    facts: &ModelFacts,
    settings: &EngineSettings,
) -> Vec<Comparison> {
    let slots = pin.parallel_slots.map_or(settings.slots, u64::from).max(1);
    let each = u64::from(pin.context_length.unwrap_or(asked.num_ctx));
    let (layout, context) = match pin.engine {
        Some(EngineKind::Ollama) => (Layout::Ollama, each),
        _ => (Layout::LlamaCpp, each.saturating_mul(slots)),
    };
    // Nothing of it is on a GPU, whatever was asked for: there is none.
    let none = pin.size_vram_bytes == Some(0);
    let plan = AgentMemory::plan(
        facts,
        &EngineSettings {
            layout,
            context,
            slots,
            batch: u64::from(asked.num_batch),
            gpu_layers: if none {
                Some(0)
            } else {
                asked.num_gpu.map(u64::from).or(settings.gpu_layers)
            },
            ..*settings
        },
    );
    let without_context = plan
        .weights
        .device
        .plus(plan.kv_cache.device)
        .plus(plan.compute);
    let pairs = match layout {
        Layout::LlamaCpp => [
            (
                What::Tensors,
                "/v1/models",
                Amount::derived(facts.bytes.total()),
                pin.size_bytes,
            ),
            (What::Process, "NVML", plan.device_total(), peak),
        ]
        .to_vec(),
        Layout::Ollama => [
            (
                What::Loaded,
                "/api/ps",
                // Ollama's own CPU buffer is counted once, wherever the layers are.
                without_context
                    .plus(plan.weights.host)
                    .plus(plan.kv_cache.host)
                    .plus(if none {
                        plan.host_compute
                    } else {
                        Amount::derived(0)
                    }),
                pin.size_bytes,
            ),
            (
                What::LoadedOnGpu,
                "/api/ps",
                without_context,
                pin.size_vram_bytes,
            ),
            (What::Process, "NVML", plan.device_total(), peak),
        ]
        .to_vec(),
    };
    let measured = pairs
        .into_iter()
        .filter_map(|(what, source, planned, measured)| {
            let measured_bytes = measured.filter(|bytes| *bytes > 0)?;
            #[expect(clippy::cast_precision_loss, reason = "2^53 bytes are 9 petabytes")]
            let error = planned.bytes as f64 / measured_bytes as f64 - 1.0;
            Some(Comparison {
                what,
                source,
                context,
                slots,
                planned,
                measured_bytes,
                error,
            })
        });
    measured.collect::<Vec<_>>()
}
