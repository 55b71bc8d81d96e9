//! Memory of a GPU over an interval: its highest and its mean, of everybody and of the engines.
//!
//! Rule: readings inside the interval alone, each counting alike; readings of one tick over its
//! processes are summed. Gap handling: memory does not accumulate, so what was in use inside a hole
//! is not known; an interval with a hole of more than two periods has no figure, not a lower bound.
//! Non-goals: memory that came and went between two ticks is not seen.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::Series;
use crate::telemetry::{Absence, GpuSample, GpuUuid, ProbeState, Sample, Source, TelemetryField};
use crate::units::{MonoNs, ns_to_s};

/// Memory of one GPU over an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryUse {
    /// The highest reading.
    pub peak_bytes: u64,
    /// Arithmetic mean of the readings, bytes.
    pub mean_bytes: f64,
    /// Readings behind it; never 0.
    pub readings: usize,
}

/// Why there is no figure of a GPU's memory.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum NoMemory {
    /// The driver cannot tell.
    #[error("the driver of {uuid} does not tell {what} ({})", why.as_str())]
    NotRead {
        /// Which GPU.
        uuid: GpuUuid,
        /// What was asked for.
        what: &'static str,
        /// Why, by class.
        why: Absence,
    },
    /// Nothing was read in the interval.
    #[error("{what} of {uuid} was not read while the agents ran")]
    NoReading {
        /// Which GPU.
        uuid: GpuUuid,
        /// What was asked for.
        what: &'static str,
    },
    /// It was not read throughout.
    #[error(
        "{what} of {uuid} was not read for {seconds:.2} s while the agents ran: {why}; nothing is \
         interpolated over a gap"
    )]
    Gap {
        /// Which GPU.
        uuid: GpuUuid,
        /// What was asked for.
        what: &'static str,
        /// Length of the longest gap.
        seconds: f64,
        /// Why it is there, in words.
        why: String,
    },
    /// No engine's process is known.
    #[error("an engine does not name its process, so that its part of a GPU cannot be told")]
    NoPid,
    /// An engine's process is on no GPU.
    #[error(
        "process {0} of an engine is on no list of a GPU's processes: it computes on the processor, or \
         runs in a container that numbers processes by itself"
    )]
    NotListed(u32),
    /// The driver lists a process without its memory.
    #[error("the driver does not tell how much memory process {0} holds")]
    Unstated(u32),
}

const MEMORY: &str = "the memory in use";
const PROCESSES: &str = "the list of processes";

impl Series<'_> {
    /// Memory in use on a GPU from `from` to `to`, whoever holds it.
    ///
    /// # Errors
    /// When it was not read throughout: no reading, a recorded gap, or a hole of more than two periods.
    pub fn gpu_memory(
        &self,
        uuid: &GpuUuid,
        from: MonoNs,
        to: MonoNs,
    ) -> Result<MemoryUse, NoMemory> {
        let used = |sample: &Sample| gpu(sample, uuid)?.memory_used_bytes;
        self.throughout(uuid, (from, to), (MEMORY, TelemetryField::GpuMemory), |s| {
            used(s).is_some()
        })?;
        let readings: Vec<u64> = self
            .between(from, to)
            .iter()
            .filter_map(|s| used(s))
            .collect();
        MemoryUse::of(&readings).ok_or_else(|| NoMemory::NoReading {
            uuid: uuid.clone(),
            what: MEMORY,
        })
    }

    /// Memory that the processes `engines`, and the engine processes below them, hold on each GPU of
    /// the node from `from` to `to`; 0 on a GPU on which none of them is, if each is on another.
    ///
    /// *Source*: the driver's list of processes. A process that both computes and draws is listed
    /// twice with the same memory, and counts once.
    ///
    /// # Errors
    /// As [`Self::gpu_memory`]; also when one of `engines` is on no GPU at all, because then the
    /// driver's numbers of processes are not the sampler's, or it has nothing on a GPU: the list
    /// alone cannot tell.
    pub fn engine_gpu_memory(
        &self,
        engines: &[u32],
        from: MonoNs,
        to: MonoNs,
    ) -> Result<BTreeMap<GpuUuid, MemoryUse>, NoMemory> {
        if engines.is_empty() {
            return Err(NoMemory::NoPid);
        }
        let trees: BTreeMap<u32, BTreeSet<u32>> = engines
            .iter()
            .map(|pid| (*pid, self.tree(*pid, from, to)))
            .collect();
        let all: BTreeSet<u32> = trees.values().flatten().copied().collect();
        let mut listed = BTreeSet::new();
        let mut found = BTreeMap::new();
        for uuid in self.gpus.keys().copied() {
            let asked = (PROCESSES, TelemetryField::GpuProcesses);
            self.throughout(uuid, (from, to), asked, |sample| {
                gpu(sample, uuid).is_some_and(|gpu| gpu.processes.is_some())
            })?;
            let mut readings = Vec::new();
            for (_, gpu) in self.gpu_samples(uuid, from, to) {
                let mut by_pid: BTreeMap<u32, u64> = BTreeMap::new();
                let Some(processes) = &gpu.processes else {
                    continue;
                };
                for process in processes.iter().filter(|p| all.contains(&p.pid)) {
                    let bytes = process
                        .memory_used_bytes
                        .ok_or(NoMemory::Unstated(process.pid))?;
                    let known = by_pid.entry(process.pid).or_default();
                    *known = bytes.max(*known);
                }
                readings.push(
                    by_pid
                        .values()
                        .fold(0, |sum: u64, b| sum.saturating_add(*b)),
                );
                listed.extend(by_pid.into_keys());
            }
            let used = MemoryUse::of(&readings).ok_or_else(|| NoMemory::NoReading {
                uuid: uuid.clone(),
                what: PROCESSES,
            })?;
            found.insert(uuid.clone(), used);
        }
        match trees.iter().find(|(_, tree)| tree.is_disjoint(&listed)) {
            Some((pid, _)) => Err(NoMemory::NotListed(*pid)),
            None => Ok(found),
        }
    }

    /// Whether a reading of a GPU was taken throughout an interval.
    fn throughout(
        &self,
        uuid: &GpuUuid,
        (from, to): (MonoNs, MonoNs),
        (what, field): (&'static str, TelemetryField),
        has: impl Fn(&Sample) -> bool,
    ) -> Result<(), NoMemory> {
        let source = Source::Gpu(uuid.clone());
        let coverage = self.covered(&source, from, to, has);
        if coverage.is_complete() {
            return Ok(());
        }
        if coverage.samples == 0
            && let Some(why) = self.missing(&source, field)
        {
            return Err(NoMemory::NotRead {
                uuid: uuid.clone(),
                what,
                why,
            });
        }
        let length = |gap: &crate::telemetry::Gap| gap.to.since(gap.from).unwrap_or(0);
        match coverage.gaps.iter().max_by_key(|gap| length(gap)) {
            Some(gap) => Err(NoMemory::Gap {
                uuid: uuid.clone(),
                what,
                seconds: ns_to_s(length(gap)),
                why: gap.detail.clone(),
            }),
            None => Err(NoMemory::NoReading {
                uuid: uuid.clone(),
                what,
            }),
        }
    }

    /// Why a source cannot give a field, by the latest batch.
    fn missing(&self, source: &Source, field: TelemetryField) -> Option<Absence> {
        let probe = self.probes.iter().find(|probe| probe.source == *source)?;
        match &probe.state {
            ProbeState::Measured { missing } => {
                missing.iter().find(|m| m.field == field).map(|m| m.reason)
            }
            ProbeState::NotMeasured { reason, .. } => Some(*reason),
        }
    }
}

impl MemoryUse {
    /// Summarises readings. *Undefined when* there are none.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB in sum")]
    fn of(readings: &[u64]) -> Option<Self> {
        let peak_bytes = readings.iter().copied().max()?;
        let sum: f64 = readings.iter().map(|bytes| *bytes as f64).sum();
        Some(Self {
            peak_bytes,
            mean_bytes: sum / readings.len() as f64,
            readings: readings.len(),
        })
    }
}

fn gpu<'s>(sample: &'s Sample, uuid: &GpuUuid) -> Option<&'s GpuSample> {
    sample.gpus.iter().find(|gpu| gpu.uuid == *uuid)
}

#[cfg(test)]
mod tests;
