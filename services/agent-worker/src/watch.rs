//! Looks at the engine's state while an agent works, and never on the agent's thread.
//!
//! The looks are made by a task of the worker's runtime, over connections of their own: an engine
//! that does not answer costs nothing but a counted miss. One look takes some 0.3 ms of a core, and
//! what the engine spends on it; the first comes soon after the start, so that short runs have one, the
//! last after the agent's last step.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chimera_domain::event::{EngineState, EngineWatch, MAX_ENGINE_STATES};
use chimera_domain::options::EngineKind;
use chimera_domain::session::LegRef;
use chimera_domain::units::MonoNs;
use chimera_runtime::clock;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::engine::{Look, StateReader};
use crate::launcher::Endpoint;

/// Between two looks where nothing else is said.
pub const DEFAULT_PERIOD: Duration = Duration::from_secs(1);
/// Shortest period: an engine asked more often would spend its time on answers.
pub const MIN_PERIOD: Duration = Duration::from_millis(50);
/// Longest wait for one look. A llama.cpp server answers between two batches.
pub const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// Start to first look: the agent has read its data by then and asks.
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// Most bytes of the states of one record, about; a message of the bus holds at least twice that.
const MAX_BYTES: usize = 512 << 10;
/// Bytes of a state, and of each resident model beside its name, about.
const STATE_BYTES: usize = 40;

/// The readers of a worker's instance: one for the leg at hand, shared by its agents.
#[derive(Debug, Clone)]
pub struct Watches {
    period: Duration,
    current: Arc<Mutex<Option<Current>>>,
}

#[derive(Debug)]
struct Current {
    leg: LegRef,
    endpoint: Endpoint,
    kind: EngineKind,
    reader: Arc<StateReader>,
}

impl Watches {
    /// Looks once in each `period`; 0: never.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self {
            period,
            current: Arc::default(),
        }
    }

    /// Between two looks.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The reader of this instance in this leg. `None`: nobody is to look, or nobody can.
    #[must_use]
    pub fn reader(
        &self,
        leg: &LegRef,
        endpoint: &Endpoint,
        kind: EngineKind,
    ) -> Option<Arc<StateReader>> {
        if self.period.is_zero() {
            return None;
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*current
            && known.leg == *leg
            && known.endpoint == *endpoint
            && known.kind == kind
        {
            return Some(Arc::clone(&known.reader));
        }
        match StateReader::new(&endpoint.url, kind, LOOK_LIMIT) {
            Ok(reader) => {
                let reader = Arc::new(reader);
                *current = Some(Current {
                    leg: leg.clone(),
                    endpoint: endpoint.clone(),
                    kind,
                    reader: Arc::clone(&reader),
                });
                Some(reader)
            }
            Err(error) => {
                // The agent's own client will say the same, and its leg is then not ready.
                tracing::warn!(%error, "the engine's state is not looked at");
                None
            }
        }
    }
}

/// The agent's end of a watch. Dropped, the watch ends without a word.
#[derive(Debug)]
pub struct Watching {
    begin: Option<oneshot::Sender<MonoNs>>,
    end: oneshot::Sender<MonoNs>,
    seen: oneshot::Receiver<EngineWatch>,
}

impl Watching {
    /// The agent started at this instant. Waits for nothing.
    pub fn begin(&mut self, at: MonoNs) {
        if let Some(begin) = self.begin.take()
            && begin.send(at).is_err()
        {
            tracing::debug!("the watch of the engine has ended early");
        }
    }

    /// The agent's last step ended at this instant: looks a last time and hands over what was seen.
    ///
    /// `None`: there was nothing to see. Waits for at most two looks.
    pub async fn end(self, at: MonoNs) -> Option<EngineWatch> {
        if self.end.send(at).is_err() {
            tracing::debug!("the watch of the engine has ended already");
        }
        let watch = timeout(LOOK_LIMIT * 5, self.seen).await.ok()?.ok()?;
        (!watch.states.is_empty() || watch.missed > 0).then_some(watch)
    }
}

/// A watch: the agent's end, and the work, which is to run elsewhere.
pub fn pair(
    reader: Arc<StateReader>,
    period: Duration,
) -> (Watching, impl Future<Output = ()> + Send + 'static) {
    let (begin_tx, begin) = oneshot::channel();
    let (end_tx, end) = oneshot::channel();
    let (seen_tx, seen) = oneshot::channel();
    let work = async move {
        let Ok(start) = begin.await else { return };
        let watch = watch(&reader, period, start, end).await;
        if seen_tx.send(watch).is_err() {
            tracing::debug!("nobody waits for the engine's states any more");
        }
    };
    let watching = Watching {
        begin: Some(begin_tx),
        end: end_tx,
        seen,
    };
    (watching, work)
}

async fn watch(
    reader: &StateReader,
    period: Duration,
    start: MonoNs,
    mut end: oneshot::Receiver<MonoNs>,
) -> EngineWatch {
    let mut seen = Seen::default();
    // A look that takes long moves the later ones: they never queue up.
    let mut ticks = interval_at(Instant::now() + FIRST_LOOK.min(period), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Half a period: somebody else's look is as good, and none is taken twice.
    let fresh = u64::try_from(period.as_nanos() / 2).unwrap_or(u64::MAX);
    loop {
        // Both arms are cancel-safe: the interval keeps its next tick, the channel its word.
        let ended = tokio::select! {
            biased;
            ended = &mut end => ended,
            _ = ticks.tick() => {
                let not_before = start.max(MonoNs(clock::mono().0.saturating_sub(fresh)));
                if !seen.take(reader, not_before).await {
                    return seen.watch;
                }
                continue;
            }
        };
        // An engine that does not answer is not waited for again. Without an end nobody is there.
        if let Ok(at) = ended
            && !seen.last_missed
        {
            seen.take(reader, at).await;
        }
        return seen.watch;
    }
}

#[derive(Default)]
struct Seen {
    watch: EngineWatch,
    bytes: usize,
    last_missed: bool,
}

impl Seen {
    /// Looks once. False: there is nothing to be seen, now and later.
    async fn take(&mut self, reader: &StateReader, not_before: MonoNs) -> bool {
        if self.watch.states.len() >= MAX_ENGINE_STATES || self.bytes >= MAX_BYTES {
            self.miss();
            return true;
        }
        match reader.look(not_before).await {
            Look::State(state) => {
                self.bytes = self.bytes.saturating_add(bytes(&state));
                self.watch.states.push(state);
                self.last_missed = false;
                true
            }
            Look::Missed => {
                self.miss();
                true
            }
            Look::Nothing => false,
        }
    }

    fn miss(&mut self) {
        self.watch.missed = self.watch.missed.saturating_add(1);
        self.last_missed = true;
    }
}

/// How much room a state takes in the record, about.
fn bytes(state: &EngineState) -> usize {
    let resident = state.resident.iter().flatten();
    resident.fold(STATE_BYTES, |sum, model| {
        sum.saturating_add(STATE_BYTES.saturating_add(model.model.len()))
    })
}
