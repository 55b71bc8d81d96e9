//! Memory of the GPUs while the agents ran, as telemetry sampled it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::host::Nodes;
use super::types::RunReport;
use crate::ids::NodeId;
use crate::stats::{Provenance, Summary};
use crate::telemetry::series::{MemoryUse, NoMemory};
use crate::telemetry::{GpuUuid, ProbeState, Series, Source};
use crate::units::{BootId, MonoNs};
use crate::validity::ValidRun;

/// Why a report has no sample of a GPU's memory.
pub(super) const NOT_SAMPLED: &str =
    "this report holds no samples of the GPU's memory during its runs";

/// Memory of the GPUs of the agents' hosts during a together leg.
///
/// From the first agent's start to the last one's finish on each host, by that host's clock. A figure
/// is `null` if telemetry has a gap in that time, and says so; nothing is interpolated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunGpuMemory {
    /// Sum over the GPUs of the highest reading of each, whoever held it.
    pub peak_bytes: Option<u64>,
    /// Sum over the GPUs of the mean reading of each.
    pub mean_bytes: Option<f64>,
    /// The highest `peak_ratio` among the GPUs.
    pub peak_ratio: Option<f64>,
    /// Sum over the GPUs of the most that the engines' processes held of each at once.
    pub engines_peak_bytes: Option<u64>,
    /// Sum over the GPUs of what the engines' processes held of each on average.
    pub engines_mean_bytes: Option<f64>,
    /// Of every figure here that is not `null`.
    pub provenance: Provenance,
    /// Why a figure of all that is in use is `null`.
    pub reason: Option<String>,
    /// Why the figures of the engines are `null`.
    pub engines_reason: Option<String>,
    /// Each GPU, by host and UUID.
    pub devices: Vec<DeviceMemory>,
}

/// Memory of one GPU during a together leg.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceMemory {
    /// Its host.
    pub node: NodeId,
    /// Which.
    pub uuid: GpuUuid,
    /// Installed memory. `null`: the driver does not tell.
    pub total_bytes: Option<u64>,
    /// The highest reading of the memory in use.
    pub peak_bytes: Option<u64>,
    /// The mean reading.
    pub mean_bytes: Option<f64>,
    /// `peak_bytes` over `total_bytes`.
    pub peak_ratio: Option<f64>,
    /// The most that the engines' processes, and those below them, held at once.
    pub engines_peak_bytes: Option<u64>,
    /// What they held on average.
    pub engines_mean_bytes: Option<f64>,
    /// Why the figures of all that is in use are `null`.
    pub reason: Option<String>,
    /// Why the figures of the engines are `null`.
    pub engines_reason: Option<String>,
}

/// The agents of one host: when they ran, and their engines' processes.
struct Place<'a> {
    from: MonoNs,
    to: MonoNs,
    /// `None`: an agent's pin names none.
    engines: Option<BTreeSet<u32>>,
    key: (&'a NodeId, &'a BootId),
}

impl Nodes<'_> {
    /// Memory of the GPUs during the together leg of a run.
    pub(super) fn run_gpu_memory(&self, run: &ValidRun<'_>) -> RunGpuMemory {
        let mut devices = Vec::new();
        let mut reason = None;
        for place in places(run) {
            let Some(series) = self.series.get(&place.key) else {
                let why = format!("nothing sampled {} while the agents ran", place.key.0);
                reason.get_or_insert(why);
                continue;
            };
            let before = devices.len();
            devices.extend(of_place(series, &place));
            if devices.len() == before {
                reason.get_or_insert_with(|| no_gpu(series));
            }
        }
        RunGpuMemory::of(devices, reason)
    }
}

fn places<'a>(run: &ValidRun<'a>) -> Vec<Place<'a>> {
    let leg = run.together();
    let mut places: BTreeMap<(&'a NodeId, &'a BootId), Place<'a>> = BTreeMap::new();
    for agent in leg.agents() {
        let mut members = leg.log().members.iter();
        let Some(member) = members.find(|member| member.agent == *agent.id()) else {
            continue;
        };
        let (from, to) = (agent.started().actual, agent.finished().at);
        let key = (&member.node, &member.clock.boot_id);
        let place = places.entry(key).or_insert_with(|| Place {
            from,
            to,
            engines: Some(BTreeSet::new()),
            key,
        });
        place.from = place.from.min(from);
        place.to = place.to.max(to);
        match agent.pin().pid {
            Some(pid) => {
                if let Some(engines) = &mut place.engines {
                    engines.insert(pid);
                }
            }
            None => place.engines = None,
        }
    }
    places.into_values().collect()
}

fn of_place<'s>(
    series: &'s Series<'_>,
    place: &'s Place<'_>,
) -> impl Iterator<Item = DeviceMemory> + 's {
    let pids: Vec<u32> = place.engines.iter().flatten().copied().collect();
    let engines = series.engine_gpu_memory(&pids, place.from, place.to);
    series.gpus().map(move |facts| {
        let used = series.gpu_memory(&facts.uuid, place.from, place.to);
        let own = engines
            .as_ref()
            .map_err(NoMemory::to_string)
            .and_then(|all| {
                let found = all.get(&facts.uuid).copied();
                found.ok_or_else(|| NOT_SAMPLED.to_owned())
            });
        let used: Result<MemoryUse, String> = used.map_err(|why| why.to_string());
        let total = facts.memory_total_bytes.filter(|total| *total > 0);
        let peak_bytes = used.as_ref().ok().map(|used| used.peak_bytes);
        DeviceMemory {
            node: place.key.0.clone(),
            uuid: facts.uuid.clone(),
            total_bytes: facts.memory_total_bytes,
            peak_bytes,
            mean_bytes: used.as_ref().ok().map(|used| used.mean_bytes),
            peak_ratio: total
                .zip(peak_bytes)
                .map(|(total, peak)| ratio(peak, total)),
            engines_peak_bytes: own.as_ref().ok().map(|own| own.peak_bytes),
            engines_mean_bytes: own.as_ref().ok().map(|own| own.mean_bytes),
            reason: used.err(),
            engines_reason: own.err(),
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Why a sampled host has no GPU.
fn no_gpu(series: &Series<'_>) -> String {
    let told = series.probes().iter().find_map(|probe| match probe {
        crate::telemetry::ProbeStatus {
            source: Source::Gpus,
            state: ProbeState::NotMeasured { detail, .. },
        } => Some(detail.clone()),
        _ => None,
    });
    told.unwrap_or_else(|| NOT_SAMPLED.to_owned())
}

impl RunGpuMemory {
    /// Sums the GPUs. `reason`: why a host has none.
    fn of(devices: Vec<DeviceMemory>, reason: Option<String>) -> Self {
        let whole = !devices.is_empty() && reason.is_none();
        let bytes = |of: fn(&DeviceMemory) -> Option<u64>| -> Option<u64> {
            let sum: Option<u64> = devices.iter().map(of).sum();
            sum.filter(|_| whole)
        };
        let mean = |of: fn(&DeviceMemory) -> Option<f64>| -> Option<f64> {
            let sum: Option<f64> = devices.iter().map(of).sum();
            sum.filter(|_| whole)
        };
        let ratios: Option<Vec<f64>> = devices.iter().map(|device| device.peak_ratio).collect();
        let peak_ratio = ratios
            .filter(|_| whole)
            .and_then(|ratios| ratios.into_iter().reduce(f64::max));
        let first = |of: fn(&DeviceMemory) -> Option<&String>| devices.iter().find_map(of).cloned();
        let untold = || {
            let untold = |device: &&DeviceMemory| device.peak_ratio.is_none();
            let device = devices.iter().find(untold)?;
            Some(format!("how much memory {} has is not known", device.uuid))
        };
        Self {
            peak_bytes: bytes(|device| device.peak_bytes),
            mean_bytes: mean(|device| device.mean_bytes),
            peak_ratio,
            engines_peak_bytes: bytes(|device| device.engines_peak_bytes),
            engines_mean_bytes: mean(|device| device.engines_mean_bytes),
            provenance: if devices.iter().any(|device| device.peak_bytes.is_some()) {
                Provenance::Measured
            } else {
                Provenance::NotMeasured
            },
            engines_reason: reason
                .clone()
                .or_else(|| first(|device| device.engines_reason.as_ref())),
            reason: reason
                .or_else(|| first(|device| device.reason.as_ref()))
                .or_else(untold),
            devices,
        }
    }
}

impl Aggregate {
    /// Adds the memory of the GPUs in the valid runs; n counts the runs that have the figure.
    pub(super) fn with_gpu_memory(mut self, runs: &[RunReport]) -> Self {
        let valid = || runs.iter().filter(|run| run.valid);
        let memories = || valid().filter_map(|run| run.gpu_memory.as_ref());
        let over = |of: fn(&RunGpuMemory) -> Option<f64>,
                    why: fn(&RunGpuMemory) -> Option<&String>| {
            let values: Vec<f64> = memories().filter_map(of).collect();
            let why = memories().find_map(why).map_or(NOT_SAMPLED, String::as_str);
            let why = if valid().next().is_none() {
                "no valid run"
            } else {
                why
            };
            Summary::of(&values, Provenance::Measured, why)
        };
        let all: fn(&RunGpuMemory) -> Option<&String> = |memory| memory.reason.as_ref();
        let own: fn(&RunGpuMemory) -> Option<&String> = |memory| memory.engines_reason.as_ref();
        self.gpu_memory_peak_bytes = over(|m| m.peak_bytes.map(as_f64), all);
        self.gpu_memory_mean_bytes = over(|m| m.mean_bytes, all);
        self.gpu_memory_peak_ratio = over(|m| m.peak_ratio, all);
        self.gpu_engines_peak_bytes = over(|m| m.engines_peak_bytes.map(as_f64), own);
        self.gpu_engines_mean_bytes = over(|m| m.engines_mean_bytes, own);
        self
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

/// What a report says that has no sample of a GPU's memory.
pub(super) fn not_sampled() -> Summary {
    Summary::not_measured(NOT_SAMPLED)
}
