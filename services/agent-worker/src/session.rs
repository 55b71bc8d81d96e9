//! The worker's session with the coordinator: says hello, keeps its lease, takes the agents of one
//! leg at a time, and stops by itself when the lease can no longer be renewed.

use std::path::PathBuf;
use std::sync::Arc;

use chimera_domain::ids::{InstanceId, NodeId, WorkerId};
use chimera_domain::session::{Assignment, CoordinatorMessage, Hello, WorkerMessage};
use chimera_runtime::bus::Publisher;
use chimera_runtime::clock;
use chimera_wire::worker_sessions_client::WorkerSessionsClient;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::appraise::appraise;
use crate::driver::Driver;
use crate::engine::Limits;
use crate::error::WorkerError;
use crate::fence::Fence;
use crate::hold::Hold;
use crate::job::Work;
use crate::launcher::{EngineSource, Launcher};
use crate::lease::{Lease, LeaseEnd};
use crate::pin;
use crate::watch::Watches;

/// Messages to the coordinator that may wait: a leg has six for each agent, of which a shared
/// instance may have 64, and a heartbeat a second; more means that the coordinator is away, and the
/// fence ends the wait.
const OUTBOX_CAPACITY: usize = 512;

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
    pub(crate) watches: Watches,
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
            gpu: match &self.source {
                EngineSource::Attach { .. } => None,
                EngineSource::SpawnOllama { gpu, .. } | EngineSource::SpawnLlama { gpu, .. } => {
                    gpu.clone()
                }
            },
            appraises: true,
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
        let mut hold = Hold::default();
        let end = self
            .serve(
                &mut incoming,
                &outbox,
                &mut lease,
                fence,
                &mut hold,
                shutdown,
            )
            .await;
        hold.stop().await;
        end
    }

    async fn serve(
        &self,
        incoming: &mut Streaming<chimera_wire::pb::CoordinatorMessage>,
        outbox: &mpsc::Sender<WorkerMessage>,
        lease: &mut Lease,
        fence: &mut Fence,
        hold: &mut Hold,
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
                    if let Some(end) = self.obey(message, outbox, lease, fence, hold).await? {
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
        hold: &mut Hold,
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
            CoordinatorMessage::Appraise {
                id,
                agent,
                topology,
            } => {
                let (launcher, outbox) = (self.launcher.clone(), outbox.clone());
                hold.answer(async move {
                    // Not held over the look itself: an agent may need it meanwhile.
                    let subject = launcher.lock().await.subject(&agent);
                    let appraisal = match subject {
                        Ok(subject) => appraise(subject, &agent, topology).await,
                        Err(error) => Err(error.to_string()),
                    };
                    let appraisal = appraisal.map(Box::new);
                    send(&outbox, WorkerMessage::Appraisal { id, appraisal }).await;
                });
            }
            CoordinatorMessage::Reserve(assignment) => {
                self.reserve(*assignment, outbox, lease.end(), fence, hold)
                    .await?;
            }
            CoordinatorMessage::Warm { leg, agent } => {
                if fence.admits(leg.epoch)? {
                    hold.warm(&leg, &agent);
                }
            }
            CoordinatorMessage::Commit {
                leg,
                agent,
                start_at,
            } => {
                if fence.admits(leg.epoch)? {
                    hold.commit(&leg, &agent, start_at);
                }
            }
            CoordinatorMessage::Release { leg, agent, reason } => {
                if hold.release(&leg, &agent) {
                    tracing::debug!(run_id = %leg.run, %agent, %reason, "released");
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
        hold: &mut Hold,
    ) -> Result<(), WorkerError> {
        let leg = assignment.leg_ref.clone();
        let agent = assignment.agent.id.clone();
        let refused = if fence.admits(leg.epoch)? {
            self.take(assignment, outbox, lease, hold).err()
        } else {
            Some(format!("epoch {} is stale", leg.epoch))
        };
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

    /// Takes the assignment, or says why not. Taking it twice changes nothing.
    fn take(
        &self,
        assignment: Assignment,
        outbox: &mpsc::Sender<WorkerMessage>,
        lease: &LeaseEnd,
        hold: &mut Hold,
    ) -> Result<(), String> {
        let agent = &assignment.agent;
        pin::check_options(&self.source, agent).map_err(|why| why.detail)?;
        if !hold.admits(&assignment)? {
            return Ok(());
        }
        for other in hold.company(&assignment.leg_ref) {
            pin::check_company(&self.source, agent, other)?;
        }
        hold.take(assignment, |assignment, orders| {
            let driver = Driver {
                work: Work {
                    assignment,
                    lease: lease.clone(),
                    worker: self.id.clone(),
                    instance: self.instance.clone(),
                    limits: self.limits,
                    data_root: self.data_root.clone(),
                    templates_dir: self.templates_dir.clone(),
                },
                launcher: self.launcher.clone(),
                watches: self.watches.clone(),
                publisher: self.publisher.clone(),
                spool_dir: self.spool_dir.clone(),
                outbox: outbox.clone(),
            };
            driver.run(orders)
        });
        Ok(())
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
