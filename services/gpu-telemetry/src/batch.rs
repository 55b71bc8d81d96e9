//! Ticks put together into batches, and the book of gaps. Pure: it is told the time.

use std::collections::BTreeMap;

use chimera_domain::ids::NodeId;
use chimera_domain::telemetry::series::MAX_SPACING_PERIODS;
use chimera_domain::telemetry::{
    Gap, GapReason, GpuError, GpuFacts, ProbeStatus, Sample, Source, TelemetryBatch,
};
use chimera_domain::units::{ClockReading, MonoNs};

use crate::probe::Away;

/// Puts ticks together into batches.
#[derive(Debug)]
pub(crate) struct Assembler {
    node: NodeId,
    started: MonoNs,
    period_ns: u64,
    seq: u64,
    last_tick: Option<MonoNs>,
    /// When each source was read last.
    last_read: BTreeMap<Source, MonoNs>,
    /// Absences that go on.
    open: BTreeMap<Source, Open>,
    samples: Vec<Sample>,
    gaps: Vec<Gap>,
    gpu_errors: Vec<GpuError>,
}

#[derive(Debug)]
struct Open {
    from: MonoNs,
    reason: GapReason,
    detail: String,
}

impl Open {
    fn until(&self, source: &Source, to: MonoNs) -> Gap {
        Gap {
            from: self.from,
            to,
            source: source.clone(),
            reason: self.reason,
            detail: self.detail.clone(),
        }
    }
}

impl Assembler {
    pub(crate) fn new(node: NodeId, started: MonoNs, period_ns: u64) -> Self {
        Self {
            node,
            started,
            period_ns,
            seq: 0,
            last_tick: None,
            last_read: BTreeMap::new(),
            open: BTreeMap::new(),
            samples: Vec::new(),
            gaps: Vec::new(),
            gpu_errors: Vec::new(),
        }
    }

    /// Takes one tick.
    pub(crate) fn tick(&mut self, sample: Sample, away: Vec<Away>) {
        let at = sample.at;
        if let Some(last) = self.last_tick
            && at
                .since(last)
                .is_some_and(|ns| ns > self.period_ns.saturating_mul(MAX_SPACING_PERIODS))
        {
            self.gaps.push(Gap {
                from: last,
                to: at,
                source: Source::Sampler,
                reason: GapReason::Stalled,
                detail: "the sampler came too late to its ticks".to_owned(),
            });
        }
        self.last_tick = Some(at);

        let open = std::mem::take(&mut self.open);
        for (source, gap) in open {
            let same = away
                .iter()
                .any(|a| a.source == source && a.reason == gap.reason);
            if same {
                self.open.insert(source, gap);
            } else {
                self.gaps.push(gap.until(&source, at));
                // If it is still away, for another reason, that absence begins here.
                self.last_read.insert(source, at);
            }
        }
        for Away {
            source,
            reason,
            detail,
        } in away
        {
            let from = self.last_read.get(&source).copied().unwrap_or(at);
            self.open.entry(source).or_insert(Open {
                from,
                reason,
                detail,
            });
        }
        for gpu in &sample.gpus {
            self.last_read.insert(Source::Gpu(gpu.uuid.clone()), at);
        }
        if !sample.gpus.is_empty() {
            self.last_read.insert(Source::Gpus, at);
        }
        self.samples.push(sample);
    }

    /// Takes errors that GPUs reported.
    pub(crate) fn gpu_errors(&mut self, errors: Vec<GpuError>) {
        self.gpu_errors.extend(errors);
    }

    /// Takes a gap that someone else noticed.
    pub(crate) fn gap(&mut self, gap: Gap) {
        self.gaps.push(gap);
    }

    /// Whether there is anything to publish.
    pub(crate) fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.gaps.is_empty()
    }

    /// Closes the batch and begins the next one.
    pub(crate) fn close(
        &mut self,
        clock: ClockReading,
        gpus: Vec<GpuFacts>,
        probes: Vec<ProbeStatus>,
    ) -> TelemetryBatch {
        self.tell_open(clock.mono_ns);
        self.seq += 1;
        let mut gaps = std::mem::take(&mut self.gaps);
        gaps.sort_by(|a, b| (a.from, a.to, &a.source).cmp(&(b.from, b.to, &b.source)));
        TelemetryBatch {
            node: self.node.clone(),
            sampler_started: self.started,
            seq: self.seq,
            clock,
            period_ns: self.period_ns,
            gpus,
            probes,
            samples: std::mem::take(&mut self.samples),
            gaps,
            gpu_errors: std::mem::take(&mut self.gpu_errors),
        }
    }

    /// Forgets the batch, but not the errors of GPUs: they are rare and told by the next one. Gives
    /// the span that is then unknown. Absences that go on are told from `now` on.
    pub(crate) fn discard(&mut self, now: MonoNs) -> (MonoNs, MonoNs) {
        self.tell_open(now);
        let span = span(&self.samples, &self.gaps, self.period_ns, now);
        self.samples.clear();
        self.gaps.clear();
        span
    }

    fn tell_open(&mut self, now: MonoNs) {
        for (source, open) in &mut self.open {
            self.gaps.push(open.until(source, now));
            open.from = now;
        }
    }
}

/// What is unknown of a batch that is lost.
pub(crate) fn span_of(batch: &TelemetryBatch) -> (MonoNs, MonoNs) {
    span(
        &batch.samples,
        &batch.gaps,
        batch.period_ns,
        batch.clock.mono_ns,
    )
}

fn span(samples: &[Sample], gaps: &[Gap], period_ns: u64, end: MonoNs) -> (MonoNs, MonoNs) {
    // Back to the last tick of the batch before: nothing is known of the time in between.
    let first = samples
        .iter()
        .map(|sample| MonoNs(sample.at.0.saturating_sub(period_ns)));
    let from = first.chain(gaps.iter().map(|gap| gap.from)).min();
    (from.unwrap_or(end), end)
}

#[cfg(test)]
mod tests;
