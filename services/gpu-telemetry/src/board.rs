//! The latest of everything, and what the service has counted, for Prometheus.
//!
//! The sampler writes it once a second, when a batch is closed: never at a tick. A value that is
//! absent in the last sample has no series; what is read once a second or in turn is taken from the
//! last sample of the batch that has it. Readings older than [`MAX_AGE_NS`] are not shown, so that a
//! sampler that hangs does not look alive.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chimera_domain::ids::NodeId;
use chimera_domain::telemetry::{GapReason, GpuFacts, GpuUuid, Sample, TelemetryBatch};
use chimera_domain::units::MonoNs;

mod series;

/// Age from which readings are no longer shown; at long periods, three of them.
const MAX_AGE_NS: u64 = 5_000_000_000;

/// What is shown; clones show the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Shown>);

#[derive(Debug, Default)]
struct Shown {
    ticks: AtomicU64,
    missed_ticks: AtomicU64,
    stored: AtomicU64,
    publish_failures: AtomicU64,
    lost: Mutex<BTreeMap<GapReason, u64>>,
    gaps: Mutex<BTreeMap<GapReason, Gaps>>,
    latest: Mutex<Option<Latest>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Gaps {
    count: u64,
    ns: u64,
}

#[derive(Debug, Clone)]
struct Latest {
    node: NodeId,
    period_ns: u64,
    sample: Sample,
    facts: Vec<GpuFacts>,
    /// Of each GPU that ever reported an error, the last one.
    xids: BTreeMap<GpuUuid, u64>,
}

impl Board {
    /// A tick was taken, and the next one is `ahead` periods away: 1 if none is missed.
    pub(crate) fn ticked(&self, ahead: u64) {
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
        let missed = ahead.saturating_sub(1);
        self.0.missed_ticks.fetch_add(missed, Ordering::Relaxed);
    }

    /// A batch was stored.
    pub(crate) fn stored(&self) {
        self.0.stored.fetch_add(1, Ordering::Relaxed);
    }

    /// An offer of a batch failed; it may be offered again.
    pub(crate) fn publish_failed(&self) {
        self.0.publish_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A batch was lost for good.
    pub(crate) fn lost(&self, reason: GapReason) {
        *lock(&self.0.lost).entry(reason).or_default() += 1;
    }

    /// Shows a batch that was just closed.
    pub(crate) fn show(&self, batch: &TelemetryBatch) {
        let mut gaps = lock(&self.0.gaps);
        for gap in &batch.gaps {
            let sum = gaps.entry(gap.reason).or_default();
            sum.count += 1;
            sum.ns = sum.ns.saturating_add(gap.to.since(gap.from).unwrap_or(0));
        }
        drop(gaps);
        let mut latest = lock(&self.0.latest);
        let mut xids = latest.take().map(|before| before.xids).unwrap_or_default();
        for error in &batch.gpu_errors {
            xids.insert(error.uuid.clone(), error.xid);
        }
        *latest = last_of(&batch.samples).map(|sample| Latest {
            node: batch.node.clone(),
            period_ns: batch.period_ns,
            sample,
            facts: batch.gpus.clone(),
            xids,
        });
    }

    /// Everything as OpenMetrics text.
    pub(crate) fn render(&self, now: MonoNs) -> String {
        let latest = lock(&self.0.latest).clone().filter(|latest| {
            let limit = latest.period_ns.saturating_mul(3).max(MAX_AGE_NS);
            now.since(latest.sample.at).unwrap_or(0) <= limit
        });
        series::text(&self.0, latest)
    }
}

/// The last sample, with what it lacks and an earlier one of the same batch has, where that is read
/// at some ticks only.
fn last_of(samples: &[Sample]) -> Option<Sample> {
    let (last, earlier) = samples.split_last()?;
    let mut shown = last.clone();
    for sample in earlier.iter().rev() {
        if shown.host.busy_others.is_none() {
            shown.host.busy_others.clone_from(&sample.host.busy_others);
        }
        for process in &mut shown.processes {
            let same = |p: &&chimera_domain::telemetry::ProcessSample| {
                p.pid == process.pid && p.start_ticks == process.start_ticks
            };
            let Some(before) = sample.processes.iter().find(same) else {
                continue;
            };
            process.run_delay_seconds = process.run_delay_seconds.or(before.run_delay_seconds);
            process.voluntary_switches = process.voluntary_switches.or(before.voluntary_switches);
            process.involuntary_switches =
                process.involuntary_switches.or(before.involuntary_switches);
        }
        for gpu in &mut shown.gpus {
            let Some(before) = sample.gpus.iter().find(|g| g.uuid == gpu.uuid) else {
                continue;
            };
            gpu.pcie_rx_bytes_per_s = gpu.pcie_rx_bytes_per_s.or(before.pcie_rx_bytes_per_s);
            gpu.pcie_tx_bytes_per_s = gpu.pcie_tx_bytes_per_s.or(before.pcie_tx_bytes_per_s);
            gpu.ecc_corrected = gpu.ecc_corrected.or(before.ecc_corrected);
            gpu.ecc_uncorrected = gpu.ecc_uncorrected.or(before.ecc_uncorrected);
            if gpu.processes.is_none() {
                gpu.processes.clone_from(&before.processes);
            }
        }
    }
    Some(shown)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
