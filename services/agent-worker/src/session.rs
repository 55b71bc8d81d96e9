//! The worker's session with the coordinator: says hello, keeps its lease, takes one assignment
//! at a time, and stops by itself when the lease can no longer be renewed.

use std::path::PathBuf;
use std::sync::Arc;

use chimera_domain::ids::{InstanceId, NodeId, WorkerId};
use chimera_domain::session::{Assignment, CoordinatorMessage, Hello, LegRef, WorkerMessage};
use chimera_domain::units::MonoNs;
use chimera_runtime::bus::Publisher;
use chimera_runtime::clock;
use chimera_wire::worker_sessions_client::WorkerSessionsClient;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::driver::Driver;
use crate::engine::Limits;
use crate::error::WorkerError;
use crate::fence::Fence;
use crate::job::Work;
use crate::launcher::{EngineSource, Launcher};
use crate::lease::{Lease, LeaseEnd};
use crate::pin;

/// Messages to the coordinator that may wait: a leg has six and a heartbeat a second; more means
/// that the coordinator is away, and the fence ends the wait.
const OUTBOX_CAPACITY: usize = 64;

/// What stays the same over all sessions of a worker.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) instance: InstanceId,
    pub(crate) node: NodeId,
    pub(crate) source: EngineSource,
    pub(crate) software: String,
    pub(crate) publisher: Publisher,
    pub(crate) spool_dir: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) data_root: Option<PathBuf>,
    pub(crate) templates_dir: Option<PathBuf>,
    pub(crate) launcher: Arc<Mutex<Launcher>>,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum SessionEnd {
    /// Told to stop.
    Shutdown,
    /// The coordinator refused this worker.
    Refused(String),
    /// The connection broke, or the lease could not be renewed.
    Lost(String),
}

impl Worker {
    fn hello(&self) -> Hello {
        let url = match &self.source {
            EngineSource::Attach { url, .. } => url.to_string(),
            EngineSource::SpawnOllama { .. } | EngineSource::SpawnLlama { .. } => String::new(),
        };
        Hello {
            worker: self.id.clone(),
            instance: self.instance.clone(),
            url,
            engine: self.source.kind(),
            node: self.node.clone(),
            clock: clock::reading(),
            software: self.software.clone(),
        }
    }

    /// One session from hello to its end. Whatever runs when it ends is stopped.
    pub(crate) async fn session(
        &self,
        channel: Channel,
        fence: &mut Fence,
        shutdown: &CancellationToken,
    ) -> Result<SessionEnd, WorkerError> {
        let asked = clock::mono();
        let (outbox, messages) = mpsc::channel::<WorkerMessage>(OUTBOX_CAPACITY);
        if outbox.try_send(WorkerMessage::Hello(self.hello())).is_err() {
            return Ok(SessionEnd::Lost("the outbox was closed".to_owned()));
        }
        let requests = futures::StreamExt::map(ReceiverStream::new(messages), Into::into);
        let opened = WorkerSessionsClient::new(channel).session(requests).await;
        let mut incoming = match opened {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(SessionEnd::Lost(status.message().to_owned())),
        };
        let mut lease = match next(&mut incoming).await {
            Ok(CoordinatorMessage::Welcome {
                epoch,
                heartbeat_ms,
                fence_ms,
            }) => {
                if !fence.admits(epoch)? {
                    return Ok(SessionEnd::Refused(format!(
                        "the coordinator's epoch {epoch} is lower than one obeyed before"
                    )));
                }
                Lease::new(heartbeat_ms, fence_ms, asked)
            }
            Ok(CoordinatorMessage::Refused { reason }) => return Ok(SessionEnd::Refused(reason)),
            Ok(_) => return Ok(SessionEnd::Lost("no welcome came first".to_owned())),
            Err(detail) => return Ok(SessionEnd::Lost(detail)),
        };
        tracing::info!(worker = %self.id, instance = %self.instance, "session stands");
        let mut slot = Slot::default();
        let end = self
            .serve(
                &mut incoming,
                &outbox,
                &mut lease,
                fence,
                &mut slot,
                shutdown,
            )
            .await;
        slot.stop().await;
        end
    }

    async fn serve(
        &self,
        incoming: &mut Streaming<chimera_wire::pb::CoordinatorMessage>,
        outbox: &mpsc::Sender<WorkerMessage>,
        lease: &mut Lease,
        fence: &mut Fence,
        slot: &mut Slot,
        shutdown: &CancellationToken,
    ) -> Result<SessionEnd, WorkerError> {
        loop {
            let expires = tokio::time::sleep(lease.left());
            // Every arm is cancel-safe: a tonic stream keeps its partial message, the interval
            // its next tick, the sleep its deadline.
            tokio::select! {
                () = shutdown.cancelled() => return Ok(SessionEnd::Shutdown),
                message = next(incoming) => {
                    let message = match message {
                        Ok(message) => message,
                        Err(detail) => return Ok(SessionEnd::Lost(detail)),
                    };
                    if let Some(end) = self.obey(message, outbox, lease, fence, slot).await? {
                        return Ok(end);
                    }
                }
                () = lease.due() => {
                    let message = WorkerMessage::Heartbeat { seq: lease.heartbeat(clock::mono()) };
                    if outbox.try_send(message).is_err() {
                        return Ok(SessionEnd::Lost("the session is stuck".to_owned()));
                    }
                }
                () = expires => {
                    // Earlier than the coordinator's own limit, so that the instance is free when
                    // the coordinator gives it to someone else.
                    let detail = format!("no heartbeat acknowledged for {:?}", lease.fence());
                    return Ok(SessionEnd::Lost(detail));
                }
            }
        }
    }

    async fn obey(
        &self,
        message: CoordinatorMessage,
        outbox: &mpsc::Sender<WorkerMessage>,
        lease: &mut Lease,
        fence: &mut Fence,
        slot: &mut Slot,
    ) -> Result<Option<SessionEnd>, WorkerError> {
        match message {
            CoordinatorMessage::HeartbeatAck { seq } => lease.acknowledged(seq),
            CoordinatorMessage::Ping { id } => {
                let pong = WorkerMessage::Pong {
                    id,
                    clock: clock::reading(),
                };
                if outbox.try_send(pong).is_err() {
                    return Ok(Some(SessionEnd::Lost("the session is stuck".to_owned())));
                }
            }
            CoordinatorMessage::Reserve(assignment) => {
                self.reserve(*assignment, outbox, lease.end(), fence, slot)
                    .await?;
            }
            CoordinatorMessage::Warm { leg, .. } => {
                if fence.admits(leg.epoch)? {
                    slot.warm(&leg);
                }
            }
            CoordinatorMessage::Commit { leg, start_at, .. } => {
                if fence.admits(leg.epoch)? {
                    slot.commit(&leg, start_at);
                }
            }
            CoordinatorMessage::Release { leg, reason, .. } => {
                if slot.holds(&leg) {
                    tracing::debug!(run_id = %leg.run, %reason, "released");
                    slot.release();
                }
            }
            CoordinatorMessage::Refused { reason } => {
                return Ok(Some(SessionEnd::Refused(reason)));
            }
            CoordinatorMessage::Welcome { .. } => {}
        }
        Ok(None)
    }

    async fn reserve(
        &self,
        assignment: Assignment,
        outbox: &mpsc::Sender<WorkerMessage>,
        lease: &LeaseEnd,
        fence: &mut Fence,
        slot: &mut Slot,
    ) -> Result<(), WorkerError> {
        let leg = assignment.leg_ref.clone();
        let agent = assignment.agent.id.clone();
        let refused = if fence.admits(leg.epoch)? {
            pin::check_options(&self.source, &assignment.agent)
                .err()
                .map(|why| why.detail)
        } else {
            Some(format!("epoch {} is stale", leg.epoch))
        };
        if refused.is_none() {
            let before = std::mem::take(slot);
            *slot = self.open(assignment, before, outbox.clone(), lease.clone());
        }
        send(
            outbox,
            WorkerMessage::LeaseReply {
                leg,
                agent,
                refused,
            },
        )
        .await;
        Ok(())
    }

    /// Opens the slot for one assignment: a driver that waits for WARM, and before that for the
    /// agent of the leg before, which may still be letting go of the engine. The session itself
    /// waits for neither: with the bus away that takes long, and heartbeats must go on.
    fn open(
        &self,
        assignment: Assignment,
        mut before: Slot,
        outbox: mpsc::Sender<WorkerMessage>,
        lease: LeaseEnd,
    ) -> Slot {
        let cancel = CancellationToken::new();
        let (warm_tx, warm_rx) = oneshot::channel();
        let (commit_tx, commit_rx) = oneshot::channel();
        let (closed_tx, closed_rx) = oneshot::channel();
        let leg = assignment.leg_ref.clone();
        let driver = Driver {
            work: Work {
                assignment,
                lease,
                worker: self.id.clone(),
                instance: self.instance.clone(),
                limits: self.limits,
                data_root: self.data_root.clone(),
                templates_dir: self.templates_dir.clone(),
            },
            launcher: self.launcher.clone(),
            publisher: self.publisher.clone(),
            spool_dir: self.spool_dir.clone(),
            outbox,
            cancel: cancel.clone(),
        };
        let mut tasks = tokio::task::JoinSet::new();
        before.cancel();
        tasks.spawn(async move {
            before.stop().await;
            driver.run(warm_rx, commit_rx, closed_rx).await;
        });
        Slot {
            held: Some(Held {
                leg,
                cancel,
                warm: Some(warm_tx),
                commit: Some(commit_tx),
                closed: Some(closed_tx),
                tasks,
            }),
        }
    }
}

/// The next message, or in words why there is none.
async fn next(
    incoming: &mut Streaming<chimera_wire::pb::CoordinatorMessage>,
) -> Result<CoordinatorMessage, String> {
    match incoming.message().await {
        Ok(Some(message)) => message
            .try_into()
            .map_err(|e: chimera_wire::WireError| e.to_string()),
        Ok(None) => Err("the coordinator closed the session".to_owned()),
        Err(status) => Err(format!("the session broke: {}", status.message())),
    }
}

pub(crate) async fn send(outbox: &mpsc::Sender<WorkerMessage>, message: WorkerMessage) {
    if outbox.send(message).await.is_err() {
        tracing::debug!("the session has ended; its coordinator no longer hears this agent");
    }
}

/// The one assignment that a worker may hold.
#[derive(Default)]
struct Slot {
    held: Option<Held>,
}

struct Held {
    leg: LegRef,
    cancel: CancellationToken,
    warm: Option<oneshot::Sender<()>>,
    commit: Option<oneshot::Sender<MonoNs>>,
    /// Dropped or sent when the coordinator closed the leg: the spool may go.
    closed: Option<oneshot::Sender<()>>,
    tasks: tokio::task::JoinSet<()>,
}

impl Slot {
    fn holds(&self, leg: &LegRef) -> bool {
        self.held.as_ref().is_some_and(|h| h.leg == *leg)
    }

    fn warm(&mut self, leg: &LegRef) {
        if let Some(held) = self.held.as_mut().filter(|h| h.leg == *leg)
            && let Some(warm) = held.warm.take()
            && warm.send(()).is_err()
        {
            tracing::debug!(run_id = %leg.run, "the agent had ended before it could warm");
        }
    }

    fn commit(&mut self, leg: &LegRef, start_at: MonoNs) {
        if let Some(held) = self.held.as_mut().filter(|h| h.leg == *leg)
            && let Some(commit) = held.commit.take()
            && commit.send(start_at).is_err()
        {
            tracing::debug!(run_id = %leg.run, "the agent had ended before it could start");
        }
    }

    /// The coordinator closed the leg.
    fn release(&mut self) {
        if let Some(held) = &mut self.held {
            held.cancel.cancel();
            if let Some(closed) = held.closed.take()
                && closed.send(()).is_err()
            {
                tracing::debug!("the agent had ended already");
            }
        }
    }

    /// Asks whatever runs to stop.
    fn cancel(&mut self) {
        if let Some(held) = &mut self.held {
            held.cancel.cancel();
            drop(held.closed.take());
        }
    }

    /// Stops whatever runs and waits until it has let go of the engine.
    async fn stop(&mut self) {
        self.cancel();
        if let Some(mut held) = self.held.take() {
            while let Some(ended) = held.tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "an agent's driver panicked");
                }
            }
        }
    }
}
