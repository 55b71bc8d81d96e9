//! The sampling thread: ticks at absolute instants, reads everything, hands batches over.
//!
//! It is an OS thread of its own, since NVML and `/proc` block. Its ticks are a fixed grid: a late
//! tick does not shift those after it, and ticks that were missed are not made up for (they are a
//! gap). It waits for nobody: if the publisher cannot keep up, the batch is dropped, counted, and
//! told as a gap in the next one.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};

use chimera_domain::telemetry::{Gap, GapReason, GpuError, Sample, Source, TelemetryBatch};
use chimera_domain::units::{ClockReading, MonoNs};
use chimera_runtime::clock;
use tokio::sync::mpsc;

use crate::batch::Assembler;
use crate::board::Board;
use crate::host::HostReader;
use crate::probe::{Away, GpuProbe};
use crate::processes::{ProcessReadings, ProcessWatch};

/// Time that one batch spans.
const BATCH_NS: u64 = 1_000_000_000;

/// When to tick. A trait because tests drive it with a clock of their own.
pub(crate) trait Pace {
    /// Waits until `deadline`; the time it then is, or `None` to stop.
    fn wait_until(&mut self, deadline: MonoNs) -> Option<MonoNs>;

    /// Both clocks, now.
    fn reading(&self) -> ClockReading;
}

/// The host's clock; stops when the other end of the channel is dropped.
#[derive(Debug)]
pub(crate) struct RealPace {
    stop: Receiver<()>,
}

impl RealPace {
    pub(crate) fn new(stop: Receiver<()>) -> Self {
        Self { stop }
    }
}

impl Pace for RealPace {
    fn wait_until(&mut self, deadline: MonoNs) -> Option<MonoNs> {
        match self.stop.recv_timeout(clock::until(deadline)) {
            Err(RecvTimeoutError::Timeout) => Some(clock::mono()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn reading(&self) -> ClockReading {
        clock::reading()
    }
}

/// Everything that is read at a tick.
pub(crate) struct Sources {
    pub(crate) host: HostReader,
    pub(crate) processes: ProcessWatch,
    pub(crate) gpus: Box<dyn GpuProbe>,
}

impl Sources {
    fn read(&mut self, at: MonoNs, now: impl Fn() -> MonoNs) -> (Sample, Vec<Away>, Vec<GpuError>) {
        let mut host = self.host.sample();
        let ProcessReadings {
            processes,
            busy_others,
        } = self.processes.sample(at);
        host.busy_others = busy_others;
        let mut readings = self.gpus.sample(at);
        let took_ns = now().since(at).unwrap_or_default();
        self.gpus.sample_slow(&mut readings.gpus);
        (
            Sample {
                at,
                took_ns,
                host,
                processes,
                gpus: readings.gpus,
            },
            readings.away,
            readings.errors,
        )
    }
}

/// Batches that were lost on their way, until the next batch tells of them.
///
/// Losses of one reason become one gap, so this cannot grow without bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Losses {
    waiting: Arc<Mutex<BTreeMap<GapReason, Loss>>>,
    /// Where they are shown, with everything else.
    pub(crate) board: Board,
}

#[derive(Debug, Clone, Copy)]
struct Loss {
    from: MonoNs,
    to: MonoNs,
    batches: u64,
}

impl Losses {
    pub(crate) fn note(&self, (from, to): (MonoNs, MonoNs), reason: GapReason) {
        self.board.lost(reason);
        let mut losses = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let loss = losses.entry(reason).or_insert(Loss {
            from,
            to,
            batches: 0,
        });
        loss.from = loss.from.min(from);
        loss.to = loss.to.max(to);
        loss.batches += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    fn take(&self) -> Vec<Gap> {
        let losses =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        losses
            .into_iter()
            .map(|(reason, loss)| Gap {
                from: loss.from,
                to: loss.to,
                source: Source::Sampler,
                reason,
                detail: format!("{} batches were lost", loss.batches),
            })
            .collect()
    }
}

/// Samples until `pace` says stop, then hands over what is left.
pub(crate) fn sample_until_stopped(
    pace: &mut impl Pace,
    sources: &mut Sources,
    assembler: &mut Assembler,
    period_ns: u64,
    out: &mpsc::Sender<TelemetryBatch>,
    losses: &Losses,
) {
    let mut deadline = pace.reading().mono_ns;
    let mut batch_ends = deadline.plus(BATCH_NS);
    while let Some(now) = pace.wait_until(deadline) {
        let (sample, away, errors) = sources.read(now, || pace.reading().mono_ns);
        assembler.tick(sample, away);
        assembler.gpu_errors(errors);
        if now.plus(period_ns) >= batch_ends {
            hand_over(pace, sources, assembler, out, losses);
            batch_ends = next_on_grid(batch_ends, BATCH_NS, now);
        }
        let next = next_on_grid(deadline, period_ns, pace.reading().mono_ns);
        losses
            .board
            .ticked(next.since(deadline).unwrap_or_default() / period_ns.max(1));
        deadline = next;
    }
    hand_over(pace, sources, assembler, out, losses);
}

/// The first instant of the grid through `last` that is after `now` and after `last`.
fn next_on_grid(last: MonoNs, step_ns: u64, now: MonoNs) -> MonoNs {
    let missed = now.since(last).unwrap_or_default() / step_ns.max(1);
    last.plus(step_ns.saturating_mul(missed.saturating_add(1)))
}

fn hand_over(
    pace: &impl Pace,
    sources: &Sources,
    assembler: &mut Assembler,
    out: &mpsc::Sender<TelemetryBatch>,
    losses: &Losses,
) {
    if assembler.is_empty() && losses.is_empty() {
        return;
    }
    // Never waits: waiting here would stretch the ticks of what is being measured.
    let place = match out.try_reserve() {
        Ok(place) => place,
        Err(mpsc::error::TrySendError::Full(())) => {
            if !assembler.is_empty() {
                tracing::warn!("the bus cannot keep up; a telemetry batch was dropped");
                let span = assembler.discard(pace.reading().mono_ns);
                losses.note(span, GapReason::QueueFull);
            }
            return;
        }
        Err(mpsc::error::TrySendError::Closed(())) => {
            tracing::debug!("nobody takes telemetry batches any more");
            return;
        }
    };
    for gap in losses.take() {
        assembler.gap(gap);
    }
    let mut probes = vec![
        sources.host.status(sources.processes.no_busy_others()),
        sources.processes.status(),
    ];
    probes.extend(sources.gpus.status());
    let batch = assembler.close(pace.reading(), sources.gpus.facts().to_vec(), probes);
    losses.board.show(&batch);
    place.send(batch);
}

#[cfg(test)]
mod tests;
