//! The two services of the coordinator: control for people and tools, sessions for workers.

use std::pin::Pin;
use std::sync::Arc;

use chimera_domain::control::ControlRecord;
use chimera_domain::ids::ExperimentId;
use chimera_domain::plan::Plan;
use chimera_domain::session::{CoordinatorMessage, WorkerMessage};
use chimera_domain::units::MonoNs;
use chimera_runtime::clock;
use chimera_wire::api::{ExperimentSummary, Submission};
use chimera_wire::pb;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use crate::course::Course;
use crate::error::SubmitError;
use crate::experiment::{Experiment, Experiments};
use crate::growth;
use crate::log::{ControlLog, Thread};
use crate::planning;
use crate::registry::{COMMAND_CAPACITY, Registry};

/// Clock exchanges at the begin of a session; the shortest counts.
const PINGS: u64 = 16;

/// How many submissions of one name within one second are told apart.
const IDS_PER_SECOND: u32 = 100;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The control API.
#[derive(Clone)]
pub(crate) struct ControlService {
    pub(crate) experiments: Arc<Experiments>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) log: ControlLog,
    pub(crate) queue: mpsc::Sender<Arc<Experiment>>,
    pub(crate) software: String,
    pub(crate) start_lead_ms: u64,
    /// Whether an analyzer can be asked.
    pub(crate) has_analyzer: bool,
    pub(crate) tasks: TaskTracker,
    /// Ends the watch streams when the server drains.
    pub(crate) shutdown: CancellationToken,
}

impl ControlService {
    fn find(&self, id: &ExperimentId) -> Result<Arc<Experiment>, Status> {
        self.experiments.get(id).ok_or_else(|| {
            Status::not_found(format!(
                "no experiment '{id}'; `chimera list` shows those there are"
            ))
        })
    }

    /// Enters an experiment under the id that its submitter wants, or else under the first of ours
    /// that is free.
    fn enter(
        &self,
        wanted: Option<ExperimentId>,
        plan: &Plan,
        spec_text: &str,
    ) -> Result<Arc<Experiment>, SubmitError> {
        let now = clock::wall_unix_ns();
        let mut nth = 1;
        loop {
            let id = match &wanted {
                Some(id) => id.clone(),
                None => planning::fresh_id(&plan.name, now, nth)?,
            };
            let experiment = Arc::new(Experiment::new(
                id.clone(),
                spec_text.to_owned(),
                Course::new(plan.clone()),
                self.start_lead_ms,
                self.log.epoch(),
            ));
            if self.experiments.insert(experiment.clone()) {
                return Ok(experiment);
            }
            if wanted.is_some() || nth == IDS_PER_SECOND {
                return Err(SubmitError::Taken(id));
            }
            nth += 1;
        }
    }

    async fn take(&self, submission: Submission) -> Result<ExperimentId, SubmitError> {
        let plan = planning::plan(&submission.spec)?;
        if let Some(what) = growth::depends_on(&plan).filter(|_| !self.has_analyzer) {
            return Err(SubmitError::NoAnalyzer { what });
        }
        // A slot first: what is recorded as submitted must also be run.
        let slot = self
            .queue
            .try_reserve()
            .map_err(|_| SubmitError::QueueFull)?;
        let experiment = self.enter(submission.experiment, &plan, &submission.spec.text)?;
        let id = experiment.id.clone();
        let legs = plan.legs.len();
        let record = ControlRecord::Submitted {
            spec_text: submission.spec.text,
            plan,
            software: self.software.clone(),
        };
        match self.log.append(&Thread::experiment(&id), record).await {
            Ok(event) => experiment.take(&event),
            Err(error) => {
                self.experiments.remove(&id);
                return Err(SubmitError::refused(error, legs));
            }
        }
        slot.send(experiment);
        tracing::info!(experiment = %id, "submitted");
        Ok(id)
    }
}

fn summary(experiment: &Experiment) -> ExperimentSummary {
    let p = experiment.progress();
    ExperimentSummary {
        experiment: p.experiment,
        name: p.name,
        legs_total: p.legs_total,
        legs_closed: p.legs_closed,
        legs_valid: p.legs_valid,
        outcome: p.outcome,
    }
}

#[tonic::async_trait]
impl chimera_wire::control_server::Control for ControlService {
    async fn submit(
        &self,
        request: Request<pb::SubmitRequest>,
    ) -> Result<Response<pb::SubmitResponse>, Status> {
        // Its parent is the server's span, which has taken over the caller's trace.
        let span = tracing::info_span!("coordinator.experiment.submit");
        let submission = Submission::try_from(request.into_inner())?;
        // A task of its own: a caller that goes away drops this future, and what is in the log by
        // then must also be run.
        let service = self.clone();
        let taken = async move { service.take(submission).await }.instrument(span);
        let id = self
            .tasks
            .spawn(taken)
            .await
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(|e| e.status())?;
        Ok(Response::new(id.into()))
    }

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::Progress>, Status> {
        let id = ExperimentId::try_from(request.into_inner())?;
        Ok(Response::new(self.find(&id)?.progress().into()))
    }

    async fn list(
        &self,
        _request: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        let all = self.experiments.list();
        Ok(Response::new(all.iter().map(|e| summary(e)).collect()))
    }

    type WatchStream = Answers<pb::Progress>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let id = ExperimentId::try_from(request.into_inner())?;
        let experiment = self.find(&id)?;
        // The last picture has the outcome; after it there is nothing to wait for.
        let pictures = WatchStream::new(experiment.watch()).scan(false, |over, picture| {
            let last = std::mem::replace(over, picture.outcome.is_some());
            futures::future::ready((!last).then(|| Ok(picture.into())))
        });
        let until = self.shutdown.clone().cancelled_owned();
        Ok(Response::new(Box::pin(pictures.take_until(until))))
    }

    async fn cancel(
        &self,
        request: Request<pb::CancelRequest>,
    ) -> Result<Response<pb::CancelResponse>, Status> {
        let id = ExperimentId::try_from(request.into_inner())?;
        let experiment = self.find(&id)?;
        let already = experiment.progress().outcome;
        experiment.cancel.cancel();
        Ok(Response::new(already.into()))
    }

    async fn workers(
        &self,
        _request: Request<pb::WorkersRequest>,
    ) -> Result<Response<pb::WorkersResponse>, Status> {
        Ok(Response::new(self.registry.list().into_iter().collect()))
    }
}

/// The worker sessions.
pub(crate) struct SessionService {
    pub(crate) registry: Arc<Registry>,
    pub(crate) epoch: u64,
    pub(crate) heartbeat_ms: u64,
    pub(crate) fence_ms: u64,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl chimera_wire::worker_sessions_server::WorkerSessions for SessionService {
    type SessionStream = Answers<pb::CoordinatorMessage>;

    async fn session(
        &self,
        request: Request<Streaming<pb::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let Some(WorkerMessage::Hello(hello)) = hear(&mut incoming).await? else {
            return Err(Status::invalid_argument("a session begins with a hello"));
        };
        let worker = hello.worker.clone();
        let (commands, outgoing) = mpsc::channel(COMMAND_CAPACITY);
        let answers = ReceiverStream::new(outgoing).map(|m: CoordinatorMessage| Ok(m.into()));
        let joined = self
            .registry
            .join(hello, commands.clone(), clock::mono())
            .await;
        let first = match &joined {
            Ok(_) => CoordinatorMessage::Welcome {
                epoch: self.epoch,
                heartbeat_ms: self.heartbeat_ms,
                fence_ms: self.fence_ms,
            },
            Err(reason) => {
                tracing::warn!(%worker, %reason, "worker refused");
                CoordinatorMessage::Refused {
                    reason: reason.clone(),
                }
            }
        };
        // Cannot fail: the channel is new and its receiver is here.
        if commands.try_send(first).is_err() {
            return Err(Status::internal("the session could not be opened"));
        }
        if let Ok(serial) = joined {
            tracing::info!(%worker, "worker joined");
            let session = Session {
                registry: self.registry.clone(),
                worker,
                serial,
                commands,
            };
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move {
                let detail = tokio::select! {
                    detail = session.listen(incoming) => detail,
                    () = shutdown.cancelled() => "the coordinator stops".to_owned(),
                };
                tracing::info!(worker = %session.worker, %detail, "worker left");
                session
                    .registry
                    .leave(&session.worker, session.serial, &detail)
                    .await;
            });
        }
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The next message of a worker; `None` at the end of its session.
async fn hear(
    incoming: &mut Streaming<pb::WorkerMessage>,
) -> Result<Option<WorkerMessage>, Status> {
    match incoming.message().await? {
        Some(message) => Ok(Some(message.try_into()?)),
        None => Ok(None),
    }
}

struct Session {
    registry: Arc<Registry>,
    worker: chimera_domain::ids::WorkerId,
    serial: u64,
    commands: mpsc::Sender<CoordinatorMessage>,
}

impl Session {
    /// Hears the worker until its session ends; says why it did.
    async fn listen(&self, mut incoming: Streaming<pb::WorkerMessage>) -> String {
        let mut ping = Ping {
            id: 1,
            sent: clock::mono(),
        };
        self.command(CoordinatorMessage::Ping { id: ping.id }).await;
        loop {
            let message = match hear(&mut incoming).await {
                Ok(Some(message)) => message,
                Ok(None) => return "it closed its session".to_owned(),
                Err(status) => return format!("its session broke: {}", status.message()),
            };
            let now = clock::mono();
            if !self.registry.renew(&self.worker, self.serial, now) {
                return "its lease had run out".to_owned();
            }
            match message {
                WorkerMessage::Heartbeat { seq } => {
                    self.command(CoordinatorMessage::HeartbeatAck { seq }).await;
                    if ping.id > PINGS {
                        // One more exchange a heartbeat: a better one may come in a quiet moment.
                        ping = ping.next();
                        self.command(CoordinatorMessage::Ping { id: ping.id }).await;
                    }
                }
                WorkerMessage::Pong { id, clock } if id == ping.id => {
                    self.registry
                        .clock_exchange(&self.worker, ping.sent, now, &clock);
                    if ping.id < PINGS {
                        ping = ping.next();
                        self.command(CoordinatorMessage::Ping { id: ping.id }).await;
                    } else if ping.id == PINGS {
                        ping.id += 1;
                    }
                }
                WorkerMessage::Pong { .. } => {}
                WorkerMessage::Hello(_) => return "it said hello twice".to_owned(),
                message => self.registry.forward(&self.worker, message).await,
            }
        }
    }

    async fn command(&self, message: CoordinatorMessage) {
        if self.commands.send(message).await.is_err() {
            tracing::debug!(worker = %self.worker, "its session has ended");
        }
    }
}

/// The clock exchange under way.
struct Ping {
    id: u64,
    sent: MonoNs,
}

impl Ping {
    fn next(&self) -> Self {
        Self {
            id: self.id + 1,
            sent: clock::mono(),
        }
    }
}
