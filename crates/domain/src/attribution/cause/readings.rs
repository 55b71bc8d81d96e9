//! What telemetry read of an agent's host and GPU while a leg ran.
//!
//! Everything is of the agent's own window on its own host's clock, so that a run is held against the
//! same agent's solo leg. A figure that would need a reading from a gap is absent.

use std::collections::{BTreeMap, BTreeSet};

use super::super::view::{AgentScene, AgentView, Scene};
use crate::event::RequestRecord;
use crate::telemetry::{
    GpuProcess, GpuProcessKind, GpuSample, GpuUuid, ProcessPart, Sample, Series, Source,
    ThrottleReason,
};
use crate::units::{MonoNs, ns_to_s};

/// One window of one host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Readings<'a> {
    series: &'a Series<'a>,
    pub(super) from: MonoNs,
    pub(super) to: MonoNs,
    pid: Option<u32>,
}

impl<'a> Readings<'a> {
    /// Of an agent's window. *Undefined when* nothing sampled its host, or it has no start or end.
    pub(super) fn of(agent: &AgentView<'a>) -> Option<Self> {
        let (from, to) = agent.window().filter(|(from, to)| from < to)?;
        Some(Self {
            series: agent.telemetry?,
            from,
            to,
            pid: agent.timeline.pin_before.and_then(|pin| pin.facts.pid),
        })
    }

    /// The window, as evidence names it.
    pub(super) fn source(&self) -> String {
        format!(
            "telemetry of {:.1} s",
            self.to.since(self.from).map_or(0.0, ns_to_s)
        )
    }

    fn seconds(&self) -> Option<f64> {
        self.to.since(self.from).map(ns_to_s)
    }

    fn samples(&self) -> impl Iterator<Item = &'a Sample> {
        self.series.between(self.from, self.to).iter().copied()
    }

    /// Whether a source was read throughout.
    pub(super) fn covers(&self, source: &Source) -> bool {
        self.series
            .coverage(source, self.from, self.to)
            .is_complete()
    }

    /// Cores of the host.
    pub(super) fn cores(&self) -> Option<f64> {
        let all = self
            .samples()
            .map(|sample| sample.host.core_busy_fractions.len());
        let cores = all.max().filter(|cores| *cores > 0)?;
        u32::try_from(cores).ok().map(f64::from)
    }

    /// Cores busy on average.
    pub(super) fn host_cores(&self) -> Option<f64> {
        self.series.host_cores_used(self.from, self.to)
    }

    /// Cores that the agent's engine kept busy.
    pub(super) fn engine_cores(&self) -> Option<f64> {
        self.series.tree_cores_used(self.pid?, self.from, self.to)
    }

    /// Threads of the agent's engine that waited for a core, on average.
    ///
    /// *Undefined when* the kernel does not say, or a process of it began or ended in between.
    pub(super) fn engine_delay(&self) -> Option<f64> {
        let tree = self.series.tree(self.pid?, self.from, self.to);
        let delay = |pid: u32| {
            let of = move |sample: &'a Sample| {
                let process = sample.processes.iter().find(|process| process.pid == pid)?;
                process.run_delay_seconds
            };
            self.series.counted(self.from, self.to, of)
        };
        let delays: Option<f64> = tree.into_iter().map(delay).sum();
        Some(delays? / self.seconds()?)
    }

    /// Part of the time in which some task of the host waited for a core.
    pub(super) fn pressure(&self) -> Option<f64> {
        let counter = |sample: &'a Sample| sample.host.cpu_pressure_some_seconds;
        Some(self.series.counted(self.from, self.to, counter)? / self.seconds()?)
    }

    /// Bytes a second between memory and processor.
    pub(super) fn traffic(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "below 2^53 bytes for months")]
        let counter = |sample: &'a Sample| sample.host.memory_traffic_bytes.map(|b| b as f64);
        Some(self.series.counted(self.from, self.to, counter)? / self.seconds()?)
    }

    /// Cores that processes used which are neither engines nor ours: what is left of the host's, or
    /// where a process began or ended in between, what was seen of the busy ones.
    pub(super) fn others_cores(&self) -> Option<f64> {
        let pids: BTreeSet<u32> = self
            .samples()
            .flat_map(|sample| &sample.processes)
            .map(|process| process.pid)
            .collect();
        let known: Option<f64> = pids
            .iter()
            .map(|pid| self.series.cpu_cores_used(*pid, self.from, self.to))
            .sum();
        let rest = self
            .host_cores()
            .zip(known)
            .map(|(all, known)| (all - known).max(0.0));
        rest.or_else(|| Some(self.busy_others()?.values().sum()))
    }

    /// The busy processes of others, by name: cores used, mean over the looks at them.
    pub(super) fn busy_others(&self) -> Option<BTreeMap<&'a str, f64>> {
        let mut looks = 0_u32;
        let mut by_name: BTreeMap<&'a str, f64> = BTreeMap::new();
        for busy in self
            .samples()
            .filter_map(|sample| sample.host.busy_others.as_ref())
        {
            looks = looks.saturating_add(1);
            for process in busy {
                *by_name.entry(process.name.as_str()).or_default() += process.cores_used;
            }
        }
        (looks > 0).then(|| {
            by_name
                .values_mut()
                .for_each(|cores| *cores /= f64::from(looks));
            by_name
        })
    }

    /// The GPU that the agent's engine is on: the one on which its process is seen, or the only one.
    pub(super) fn gpu(&self) -> Option<Gpu<'a>> {
        let engine = self
            .pid
            .map(|pid| self.series.tree(pid, self.from, self.to));
        let seen = engine.as_ref().and_then(|tree| {
            self.samples().flat_map(|sample| &sample.gpus).find(|gpu| {
                let listed = gpu.processes.iter().flatten();
                listed
                    .into_iter()
                    .any(|process| tree.contains(&process.pid))
            })
        });
        let uuid = match seen {
            Some(gpu) => &gpu.uuid,
            None => {
                let mut all = self.series.gpus();
                let only = all.next().filter(|_| all.next().is_none())?;
                &only.uuid
            }
        };
        Some(Gpu {
            readings: *self,
            uuid,
            located: seen.is_some(),
        })
    }
}

/// Whether an agent's model is on a GPU, by its engine's own word, that telemetry did not read.
pub(super) fn gpu_unread(agent: &AgentView<'_>) -> bool {
    let pin = agent.timeline.pin_before.map(|pin| &pin.facts);
    let on_gpu = pin.is_some_and(|pin| pin.size_vram_bytes.is_some_and(|bytes| bytes > 0));
    let read = Readings::of(agent).and_then(|readings| readings.gpu());
    on_gpu && !read.is_some_and(|gpu| gpu.is_covered())
}

/// One GPU in one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gpu<'a> {
    readings: Readings<'a>,
    pub(super) uuid: &'a GpuUuid,
    /// Whether the agent's engine was seen on it, so that process ids compare.
    pub(super) located: bool,
}

impl<'a> Gpu<'a> {
    fn samples(&self) -> impl Iterator<Item = (MonoNs, &'a GpuSample)> {
        let uuid = self.uuid;
        self.readings.samples().filter_map(move |sample| {
            let gpu = sample.gpus.iter().find(|gpu| gpu.uuid == *uuid)?;
            Some((sample.at, gpu))
        })
    }

    /// Whether it was read throughout.
    pub(super) fn is_covered(&self) -> bool {
        self.readings.covers(&Source::Gpu(self.uuid.clone()))
    }

    /// Mean of a figure over the samples that have it.
    pub(super) fn mean(&self, of: impl Fn(&GpuSample) -> Option<f64>) -> Option<f64> {
        crate::stats::mean(
            &self
                .samples()
                .filter_map(|(_, gpu)| of(gpu))
                .collect::<Vec<_>>(),
        )
    }

    /// The same over the samples inside the given spans only.
    pub(super) fn mean_in(
        &self,
        spans: &[(MonoNs, MonoNs)],
        of: impl Fn(&GpuSample) -> Option<f64>,
    ) -> Option<f64> {
        crate::stats::mean(&self.values_in(spans, of))
    }

    /// The median instead.
    pub(super) fn median_in(
        &self,
        spans: &[(MonoNs, MonoNs)],
        of: impl Fn(&GpuSample) -> Option<f64>,
    ) -> Option<f64> {
        crate::stats::median(&self.values_in(spans, of))
    }

    fn values_in(
        &self,
        spans: &[(MonoNs, MonoNs)],
        of: impl Fn(&GpuSample) -> Option<f64>,
    ) -> Vec<f64> {
        let inside = |at: MonoNs| spans.iter().any(|(from, to)| (*from..=*to).contains(&at));
        let samples = self.samples().filter(|(at, _)| inside(*at));
        samples.filter_map(|(_, gpu)| of(gpu)).collect()
    }

    /// Whether processes run kernels on it beside each other. *Undefined when* it is not told.
    pub(super) fn shared_by_mps(&self) -> Option<bool> {
        let mut facts = self.readings.series.gpus();
        facts.find(|facts| facts.uuid == *self.uuid)?.mps_active
    }

    /// Highest part of its memory in use.
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 bytes")]
    pub(super) fn memory_used_ratio(&self) -> Option<f64> {
        let facts = self
            .readings
            .series
            .gpus()
            .find(|facts| facts.uuid == *self.uuid)?;
        let total = facts.memory_total_bytes.filter(|total| *total > 0)?;
        let used = self
            .samples()
            .filter_map(|(_, gpu)| gpu.memory_used_bytes)
            .max()?;
        Some(used as f64 / total as f64)
    }

    /// Bytes a second over PCIe, both ways: the means of what was read of each.
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 bytes")]
    pub(super) fn pcie(&self) -> Option<f64> {
        let to = self.mean(|gpu| gpu.pcie_rx_bytes_per_s.map(|bytes| bytes as f64))?;
        let from = self.mean(|gpu| gpu.pcie_tx_bytes_per_s.map(|bytes| bytes as f64))?;
        Some(to + from)
    }

    /// Clock of the processors while something ran.
    pub(super) fn clock(&self) -> Option<f64> {
        self.mean(|gpu| {
            let idle = gpu
                .throttle_reasons
                .as_ref()?
                .contains(&ThrottleReason::GpuIdle);
            gpu.sm_clock_mhz.filter(|_| !idle).map(f64::from)
        })
    }

    /// Part of the working samples in which heat or power held the clocks down, and how it is called.
    pub(super) fn held_down(&self) -> Option<(f64, BTreeSet<ThrottleReason>)> {
        let (mut all, mut held, mut names) = (0_u32, 0_u32, BTreeSet::new());
        for reasons in self
            .samples()
            .filter_map(|(_, gpu)| gpu.throttle_reasons.as_ref())
        {
            if reasons.contains(&ThrottleReason::GpuIdle) {
                continue;
            }
            all = all.saturating_add(1);
            let hard = reasons.iter().filter(|reason| {
                matches!(
                    reason,
                    ThrottleReason::SoftwarePowerCap
                        | ThrottleReason::HardwareSlowdown
                        | ThrottleReason::SoftwareThermal
                        | ThrottleReason::HardwareThermal
                        | ThrottleReason::HardwarePowerBrake
                )
            });
            let before = held;
            for reason in hard {
                held = before.saturating_add(1);
                names.insert(*reason);
            }
        }
        (all > 0).then(|| (f64::from(held) / f64::from(all), names))
    }

    /// Compute processes on it that are no engines of this host. *Undefined when* none of the engines'
    /// processes was seen on it: then process ids do not compare (another pid namespace).
    pub(super) fn strangers(&self) -> Option<BTreeMap<u32, Stranger>> {
        self.located.then_some(())?;
        let engines: BTreeSet<u32> = self
            .readings
            .samples()
            .flat_map(|sample| &sample.processes)
            .filter(|process| process.part == ProcessPart::Engine)
            .map(|process| process.pid)
            .collect();
        let (mut looks, mut found) = (0_u32, BTreeMap::<u32, Stranger>::new());
        for processes in self.samples().filter_map(|(_, gpu)| gpu.processes.as_ref()) {
            looks = looks.saturating_add(1);
            for process in processes
                .iter()
                .filter(|process| stranger(process, &engines))
            {
                let known = found.entry(process.pid).or_default();
                known.memory_bytes = known.memory_bytes.max(process.memory_used_bytes);
                if let Some(used) = process.utilisation {
                    *known.utilisation.get_or_insert(0.0) += used;
                }
            }
        }
        (looks > 0).then(|| {
            for used in found
                .values_mut()
                .filter_map(|one| one.utilisation.as_mut())
            {
                *used /= f64::from(looks);
            }
            found
        })
    }
}

fn stranger(process: &GpuProcess, engines: &BTreeSet<u32>) -> bool {
    process.kind == GpuProcessKind::Compute && !engines.contains(&process.pid)
}

/// A compute process on a GPU that is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Stranger {
    /// Most memory that it held.
    pub(super) memory_bytes: Option<u64>,
    /// Mean part of the driver's windows in which its kernels ran. `None`: the driver does not say.
    pub(super) utilisation: Option<f64>,
}

/// From the first to the last chunk of each request.
pub(super) fn decoding(agent: &AgentView<'_>) -> Vec<(MonoNs, MonoNs)> {
    spans(agent, |request| {
        Some((*request.chunk_ns.first()?, *request.chunk_ns.last()?))
    })
}

/// From the start of each request's prefill, as far as the engine states how long it took, to its last
/// chunk.
pub(super) fn serving(agent: &AgentView<'_>) -> Vec<(MonoNs, MonoNs)> {
    spans(agent, |request| {
        let first = *request.chunk_ns.first()?;
        let prefill = request.engine_times.prompt_eval_ns.unwrap_or(0);
        Some((first.saturating_sub(prefill), *request.chunk_ns.last()?))
    })
}

fn spans(
    agent: &AgentView<'_>,
    of: impl Fn(&RequestRecord) -> Option<(u64, u64)>,
) -> Vec<(MonoNs, MonoNs)> {
    let requests = agent.timeline.requests.iter();
    requests
        .filter_map(|request| {
            let (from, to) = of(request)?;
            Some((request.sent.plus(from), request.sent.plus(to)))
        })
        .collect()
}

/// The other agents of a run whose engines are on the same GPU, their solo readings with them.
pub(super) fn beside<'s, 'a>(
    scene: &'s Scene<'a>,
    agent: &AgentScene<'a>,
    gpu: &Gpu<'a>,
) -> Vec<&'s AgentScene<'a>> {
    let same = |other: &&AgentScene<'a>| {
        other.view.planned.id != agent.view.planned.id
            && Readings::of(&other.view)
                .and_then(|readings| readings.gpu())
                .is_some_and(|other| other.uuid == gpu.uuid)
    };
    scene.agents.iter().filter(same).collect()
}
