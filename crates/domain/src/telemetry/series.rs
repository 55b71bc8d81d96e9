//! The batches of a node put in order, and questions about intervals answered from them.
//!
//! Rule: batches of one boot only; duplicates (the same sampler and number) count once, and the order
//! of arrival does not matter. Two samples further apart than [`MAX_SPACING_PERIODS`] periods have a
//! hole between them. Gap handling: a cumulative counter may be differenced across a hole, since it
//! went on counting (one that fell anywhere inside began anew and gives nothing); an end of the interval may not lie in one, since its value there is not known.
//! Non-goals: no smoothing, no resampling, no estimate of what a hole held.

use std::collections::{BTreeMap, BTreeSet};

use crate::telemetry::{
    Gap, GapReason, GpuFacts, GpuSample, GpuUuid, ProbeStatus, ProcessPart, ProcessSample, Sample,
    Source, TelemetryBatch,
};
use crate::units::{BootId, MonoNs, ns_to_s};

mod memory;

pub use memory::{MemoryUse, NoMemory};

/// Samples of one source further apart than this many periods leave a hole.
pub const MAX_SPACING_PERIODS: u64 = 2;

/// Samples and gaps of one node within one boot, in order of time.
#[derive(Debug, Clone, Default)]
pub struct Series<'a> {
    samples: Vec<&'a Sample>,
    gaps: Vec<&'a Gap>,
    max_spacing_ns: u64,
    gpus: BTreeMap<&'a GpuUuid, &'a GpuFacts>,
    probes: &'a [ProbeStatus],
}

/// How much of an interval a source was read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Readings inside the interval.
    pub samples: usize,
    /// Recorded gaps that touch the interval, and holes between readings that no gap explains
    /// (reason [`GapReason::Stalled`]); clipped to the interval, in order of time.
    pub gaps: Vec<Gap>,
}

impl Coverage {
    /// Whether the source was read throughout.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.samples > 0 && self.gaps.is_empty()
    }
}

impl<'a> Series<'a> {
    /// Orders the batches of one node.
    ///
    /// Only batches of `boot` are taken, because instants of another boot do not compare. Batches of
    /// several nodes do not mix: pass those of one.
    #[must_use]
    pub fn of_boot(batches: impl IntoIterator<Item = &'a TelemetryBatch>, boot: &BootId) -> Self {
        let mut chosen: BTreeMap<(MonoNs, u64), &'a TelemetryBatch> = BTreeMap::new();
        for batch in batches {
            if batch.clock.boot_id == *boot {
                chosen
                    .entry((batch.sampler_started, batch.seq))
                    .or_insert(batch);
            }
        }
        let mut series = Self::default();
        for batch in chosen.values() {
            let spacing = batch.period_ns.saturating_mul(MAX_SPACING_PERIODS);
            series.max_spacing_ns = series.max_spacing_ns.max(spacing);
            series.samples.extend(&batch.samples);
            series.gaps.extend(&batch.gaps);
            series
                .gpus
                .extend(batch.gpus.iter().map(|facts| (&facts.uuid, facts)));
            series.probes = &batch.probes;
        }
        series.samples.sort_by_key(|sample| sample.at);
        series
            .gaps
            .sort_by(|a, b| (a.from, a.to, &a.source).cmp(&(b.from, b.to, &b.source)));
        series
    }

    /// Orders the batches of one node, taking the boot of the first batch.
    ///
    /// *Undefined when* batches of several boots are passed: then say which with [`Self::of_boot`].
    #[must_use]
    pub fn new(batches: &'a [TelemetryBatch]) -> Self {
        batches.first().map_or_else(Self::default, |first| {
            Self::of_boot(batches, &first.clock.boot_id)
        })
    }

    /// Static facts of every GPU that was seen, by rising UUID.
    pub fn gpus(&self) -> impl Iterator<Item = &'a GpuFacts> {
        self.gpus.values().copied()
    }

    /// What was measured and what was not, by the latest batch.
    #[must_use]
    pub fn probes(&self) -> &'a [ProbeStatus] {
        self.probes
    }

    /// Samples taken from `from` to `to`, both included.
    #[must_use]
    pub fn between(&self, from: MonoNs, to: MonoNs) -> &[&'a Sample] {
        let first = self.samples.partition_point(|sample| sample.at < from);
        let end = self.samples.partition_point(|sample| sample.at <= to);
        self.samples.get(first..end).unwrap_or_default()
    }

    /// Every engine process seen from `from` to `to`: pid and the name it was found by.
    #[must_use]
    pub fn processes(&self, from: MonoNs, to: MonoNs) -> BTreeSet<(u32, &'a str)> {
        let samples = self.between(from, to).iter();
        samples
            .flat_map(|sample| &sample.processes)
            .filter(|p| p.part == ProcessPart::Engine)
            .map(|p| (p.pid, p.name.as_str()))
            .collect()
    }

    /// Readings of one GPU from `from` to `to`, with their instants.
    pub fn gpu_samples<'s>(
        &'s self,
        uuid: &'s GpuUuid,
        from: MonoNs,
        to: MonoNs,
    ) -> impl Iterator<Item = (MonoNs, &'a GpuSample)> + 's {
        self.between(from, to).iter().filter_map(move |sample| {
            let gpu = sample.gpus.iter().find(|gpu| gpu.uuid == *uuid)?;
            Some((sample.at, gpu))
        })
    }

    /// Cores that a process kept busy from `from` to `to`, on average.
    ///
    /// *Units*: core-seconds per second: 1.5 is one core and a half. Children are not counted.
    /// *Undefined when* the interval is empty, or the process (the same one: a pid can be reused) was
    /// not read within two periods around either end.
    #[must_use]
    pub fn cpu_cores_used(&self, pid: u32, from: MonoNs, to: MonoNs) -> Option<f64> {
        let identity = |sample: &'a Sample| process(sample, pid).map(|p| p.start_ticks);
        let at = |sample: &'a Sample| process(sample, pid)?.cpu_seconds;
        let (used, first, last) = self.used(from, to, at)?;
        (identity(first) == identity(last)).then_some(())?;
        Some(used / ns_to_s(to.since(from)?))
    }

    /// Cores that a process and all processes below it kept busy from `from` to `to`, on average: an
    /// Ollama server computes in a runner that it starts.
    ///
    /// *Shape*: of the processes below it those that are engines by name; others are not read.
    /// *Undefined when* [`Self::cpu_cores_used`] is, of the process or of one below it: a child that
    /// began or ended in between has used an unknown part.
    #[must_use]
    pub fn tree_cores_used(&self, pid: u32, from: MonoNs, to: MonoNs) -> Option<f64> {
        let tree = self.tree(pid, from, to);
        let used = tree.iter().map(|pid| self.cpu_cores_used(*pid, from, to));
        used.sum()
    }

    /// A process and all engine processes seen below it from `from` to `to`.
    #[must_use]
    pub fn tree(&self, pid: u32, from: MonoNs, to: MonoNs) -> BTreeSet<u32> {
        let engines = |p: &&ProcessSample| p.part == ProcessPart::Engine;
        let inside = || {
            let samples = self.between(from, to).iter();
            samples.flat_map(|s| &s.processes).filter(engines)
        };
        let mut tree = BTreeSet::from([pid]);
        loop {
            let below = inside().filter(|p| p.parent_pid.is_some_and(|up| tree.contains(&up)));
            let below: Vec<u32> = below.map(|p| p.pid).collect();
            let before = tree.len();
            tree.extend(below);
            if tree.len() == before {
                return tree;
            }
        }
    }

    /// What a cumulative counter of the samples counted from `from` to `to`.
    ///
    /// *Undefined when* the interval is empty, the counter was not read within two periods around
    /// either end, or it began anew in between.
    pub fn counted<F>(&self, from: MonoNs, to: MonoNs, counter: F) -> Option<f64>
    where
        F: Fn(&'a Sample) -> Option<f64>,
    {
        self.used(from, to, counter).map(|(used, _, _)| used)
    }

    /// Cores that all processes of the host kept busy from `from` to `to`, on average.
    ///
    /// *Undefined when* as in [`Self::cpu_cores_used`].
    #[must_use]
    pub fn host_cores_used(&self, from: MonoNs, to: MonoNs) -> Option<f64> {
        let (used, _, _) = self.used(from, to, |sample| sample.host.cpu_busy_core_seconds)?;
        Some(used / ns_to_s(to.since(from)?))
    }

    /// Energy that a GPU drew from `from` to `to`, joules, by its own counter.
    ///
    /// *Undefined when* the GPU has no counter, was not read within two periods around either end, or
    /// its driver was loaded anew in between.
    #[must_use]
    pub fn gpu_energy_joules(&self, uuid: &GpuUuid, from: MonoNs, to: MonoNs) -> Option<f64> {
        let energy = |sample: &'a Sample| {
            sample
                .gpus
                .iter()
                .find(|gpu| gpu.uuid == *uuid)?
                .energy_joules
        };
        self.used(from, to, energy).map(|(used, _, _)| used)
    }

    /// How much of `from..to` a source was read in.
    ///
    /// A hole is more than two periods between neighbouring readings, or between an end of the
    /// interval and the reading next to it.
    #[must_use]
    pub fn coverage(&self, source: &Source, from: MonoNs, to: MonoNs) -> Coverage {
        self.covered(source, from, to, |sample| has_read(sample, source))
    }

    /// The same, of samples that have what is asked for: a source can be read in part.
    fn covered(
        &self,
        source: &Source,
        from: MonoNs,
        to: MonoNs,
        has: impl Fn(&Sample) -> bool,
    ) -> Coverage {
        let read: Vec<MonoNs> = self
            .between(from, to)
            .iter()
            .filter(|s| has(s))
            .map(|s| s.at)
            .collect();
        let mut gaps: Vec<Gap> = self
            .gaps
            .iter()
            .filter(|gap| gap.source.covers(source) && gap.from < to && gap.to > from)
            .map(|gap| Gap {
                from: gap.from.max(from),
                to: gap.to.min(to),
                ..(*gap).clone()
            })
            .collect();
        let mut last = from;
        for at in read.iter().copied().chain([to]) {
            let hole = at
                .since(last)
                .is_some_and(|distance| distance > self.max_spacing_ns);
            let told = gaps.iter().any(|gap| gap.from < at && gap.to > last);
            if hole && !told {
                gaps.push(Gap {
                    from: last,
                    to: at,
                    source: source.clone(),
                    reason: GapReason::Stalled,
                    detail: "no reading for more than two periods".to_owned(),
                });
            }
            last = at;
        }
        gaps.sort_by(|a, b| (a.from, a.to, &a.source).cmp(&(b.from, b.to, &b.source)));
        Coverage {
            samples: read.len(),
            gaps,
        }
    }

    /// Difference of a cumulative counter over the interval, and the samples that bound it.
    fn used<F>(&self, from: MonoNs, to: MonoNs, counter: F) -> Option<(f64, &'a Sample, &'a Sample)>
    where
        F: Fn(&'a Sample) -> Option<f64>,
    {
        (from < to).then_some(())?;
        let (start, first) = self.value_at(from, &counter)?;
        let (end, last) = self.value_at(to, &counter)?;
        // A counter that began anew may by now exceed its old value: its ends do not tell.
        let inside = self
            .between(from, to)
            .iter()
            .filter_map(|sample| counter(sample));
        let rising = inside.chain([end]).is_sorted();
        (rising && end >= start).then_some((end - start, first, last))
    }

    /// A counter at an instant, on the straight line between the readings on either side of it.
    fn value_at<F>(&self, at: MonoNs, counter: &F) -> Option<(f64, &'a Sample)>
    where
        F: Fn(&'a Sample) -> Option<f64>,
    {
        let split = self.samples.partition_point(|sample| sample.at <= at);
        let (head, tail) = self.samples.split_at_checked(split)?;
        let near = |sample: &&&'a Sample| {
            sample.at.0.abs_diff(at.0) <= self.max_spacing_ns && counter(sample).is_some()
        };
        let before = head
            .iter()
            .rev()
            .take_while(|s| s.at.0.abs_diff(at.0) <= self.max_spacing_ns)
            .find(near);
        let before = before.copied()?;
        let low = counter(before)?;
        if before.at == at {
            return Some((low, before));
        }
        let after = tail
            .iter()
            .take_while(|s| s.at.0.abs_diff(at.0) <= self.max_spacing_ns)
            .find(near);
        let after = after.copied()?;
        let high = counter(after)?;
        let span = after.at.since(before.at)?;
        if span > self.max_spacing_ns || high < low {
            return None;
        }
        let part = ns_to_s(at.since(before.at)?) / ns_to_s(span);
        Some((low + (high - low) * part, before))
    }
}

/// Cores that process `pid` kept busy; see [`Series::cpu_cores_used`].
#[must_use]
pub fn cpu_cores_used(
    batches: &[TelemetryBatch],
    pid: u32,
    from: MonoNs,
    to: MonoNs,
) -> Option<f64> {
    Series::new(batches).cpu_cores_used(pid, from, to)
}

/// Whether `source` was read throughout an interval; see [`Series::coverage`].
#[must_use]
pub fn coverage(batches: &[TelemetryBatch], source: &Source, from: MonoNs, to: MonoNs) -> Coverage {
    Series::new(batches).coverage(source, from, to)
}

fn process(sample: &Sample, pid: u32) -> Option<&ProcessSample> {
    sample.processes.iter().find(|process| process.pid == pid)
}

fn has_read(sample: &Sample, source: &Source) -> bool {
    match source {
        Source::Sampler | Source::Processes => true,
        Source::Host => sample.host.cpu_busy_core_seconds.is_some(),
        Source::Gpus => !sample.gpus.is_empty(),
        Source::Gpu(uuid) => sample.gpus.iter().any(|gpu| gpu.uuid == *uuid),
    }
}

#[cfg(test)]
mod tests;
