//! One agent in one leg, on a thread of its own.
//!
//! The thread has its own single-threaded runtime, so that between two token stamps nothing of
//! the session, the recorder or a neighbour's agent can run. What happens is pushed into a bounded
//! queue that is never waited for: waiting would be measured.

use std::path::PathBuf;
use std::time::Duration;

use chimera_domain::control::{Invalid, InvalidReason};
use chimera_domain::event::{
    AgentFailure, AgentRecord, Begin, Finished, PinCheck, PinFacts, PinMoment, RequestErrorKind,
    Started,
};
use chimera_domain::ids::{InstanceId, WorkerId};
use chimera_domain::session::Assignment;
use chimera_domain::units::MonoNs;
use chimera_runtime::clock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::agent::{AgentContext, run_agent};
use crate::engine::{EngineClient, EngineConfig, EngineError, Limits};
use crate::launcher::Endpoint;
use crate::lease::LeaseEnd;
use crate::pin;
use crate::request_name;
use crate::watch::Watching;

/// Records of an agent that may wait for the recorder. An agent makes about a dozen; a full queue
/// means a stuck disk, and the run is then invalid for storage.
pub(crate) const RECORD_CAPACITY: usize = 256;

/// What the session hears from the thread. *Capacity*: five per leg, so 8 never fills.
#[derive(Debug)]
pub(crate) enum JobEvent {
    Ready {
        pin: Box<PinFacts>,
        warm_ns: u64,
    },
    NotReady(Invalid),
    Started {
        planned: MonoNs,
        actual: MonoNs,
    },
    Idle,
    Ended {
        at: MonoNs,
        failure: Option<AgentFailure>,
    },
}

pub(crate) const EVENT_CAPACITY: usize = 8;

/// Pause before an instance that could not be looked at after the work is looked at once more. The
/// agent is idle: nothing is measured.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// What the agent does, and for whom.
pub(crate) struct Work {
    pub(crate) assignment: Assignment,
    pub(crate) lease: LeaseEnd,
    pub(crate) worker: WorkerId,
    pub(crate) instance: InstanceId,
    pub(crate) limits: Limits,
    pub(crate) data_root: Option<PathBuf>,
    pub(crate) templates_dir: Option<PathBuf>,
}

/// Everything the thread has; it shares nothing else.
pub(crate) struct Job {
    pub(crate) work: Work,
    /// Where the instance answers.
    pub(crate) endpoint: Endpoint,
    /// Looks at the instance's state meanwhile, elsewhere.
    pub(crate) watching: Option<Watching>,
    pub(crate) records: mpsc::Sender<AgentRecord>,
    pub(crate) events: mpsc::Sender<JobEvent>,
    pub(crate) commit: oneshot::Receiver<MonoNs>,
    pub(crate) cancel: CancellationToken,
}

impl Job {
    /// Starts the thread. It ends by itself once the agent ended or `cancel` was tripped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn spawn(self) -> std::io::Result<std::thread::JoinHandle<()>> {
        let name = format!("agent-{}", self.work.assignment.agent.id);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || self.thread())
    }

    fn thread(self) {
        let Self {
            work,
            endpoint,
            watching,
            records,
            events,
            commit,
            cancel,
        } = self;
        let order = Order {
            commit,
            cancel,
            watching,
        };
        let mut reporter = Reporter {
            records,
            events,
            overflow: false,
        };
        match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime.block_on(run(&work, &endpoint, &mut reporter, order)),
            Err(error) => reporter.tell(JobEvent::NotReady(not_ready(format!(
                "no runtime for the agent's thread: {error}"
            )))),
        }
    }
}

/// What the thread waits for, and what it lets begin and end.
struct Order {
    commit: oneshot::Receiver<MonoNs>,
    cancel: CancellationToken,
    watching: Option<Watching>,
}

/// The thread's two ways out, neither of which it waits for.
struct Reporter {
    records: mpsc::Sender<AgentRecord>,
    events: mpsc::Sender<JobEvent>,
    overflow: bool,
}

impl Reporter {
    fn emit(&mut self, record: AgentRecord) {
        // Full, or its recorder has failed: either way a record is missing and the run is invalid.
        self.overflow |= self.records.try_send(record).is_err();
    }

    fn tell(&self, event: JobEvent) {
        if self.events.try_send(event).is_err() {
            tracing::warn!("the session no longer listens to its agent");
        }
    }

    /// Last word of the agent, in its stream and to the session.
    fn end(&mut self, at: MonoNs, failure: Option<AgentFailure>) {
        let failure = failure.or_else(|| self.overflow.then(Self::storage));
        self.emit(AgentRecord::Finished(Finished {
            at,
            failure: failure.clone(),
        }));
        let failure = failure.or_else(|| self.overflow.then(Self::storage));
        self.tell(JobEvent::Ended { at, failure });
    }

    fn storage() -> AgentFailure {
        AgentFailure {
            label: "storage".to_owned(),
            detail: "a record could not be handed to the recorder".to_owned(),
        }
    }
}

async fn run(work: &Work, endpoint: &Endpoint, reporter: &mut Reporter, order: Order) {
    let Order {
        commit,
        cancel,
        mut watching,
    } = order;
    reporter.emit(AgentRecord::Begin(Begin {
        worker: work.worker.clone(),
        instance: work.instance.clone(),
        role: work.assignment.agent.role.clone(),
        clock: clock::reading(),
        options: work.assignment.agent.options.clone(),
    }));
    let client = match warm(work, endpoint, reporter, &cancel).await {
        Ok(client) => client,
        Err(why) => {
            let failure = AgentFailure {
                label: "pin".to_owned(),
                detail: why.detail.clone(),
            };
            let at = clock::mono();
            reporter.emit(AgentRecord::Finished(Finished {
                at,
                failure: Some(failure),
            }));
            reporter.tell(JobEvent::NotReady(why));
            return;
        }
    };
    let planned = tokio::select! {
        planned = commit => planned.ok(),
        () = cancel.cancelled() => None,
    };
    let Some(planned) = planned else {
        let detail = "released before the start".to_owned();
        let failure = AgentFailure {
            label: "stopped".to_owned(),
            detail,
        };
        reporter.end(clock::mono(), Some(failure));
        return;
    };
    let actual = clock::sleep_until(planned).await;
    if let Some(watching) = &mut watching {
        watching.begin(actual);
    }
    reporter.emit(AgentRecord::Started(Started { planned, actual }));
    reporter.tell(JobEvent::Started { planned, actual });
    let context = AgentContext {
        assignment: &work.assignment,
        engine: &client,
        data_root: work.data_root.as_deref(),
        templates_dir: work.templates_dir.as_deref(),
        lease: work.lease.clone(),
        cancel,
    };
    let failure = run_agent(&context, &mut |record| reporter.emit(record))
        .await
        .err();
    let at = clock::mono();
    reporter.tell(JobEvent::Idle);
    let unseen = match look_again(&client, failure.is_some()).await {
        Ok(facts) => {
            reporter.emit(pin_record(PinMoment::After, known_better(facts, endpoint)));
            None
        }
        // Said, and not only left out of the stream: the checker refuses the leg for it, and the
        // coordinator would have closed it as valid and gone on.
        Err(error) => {
            tracing::warn!(%error, "the instance could not be looked at after the run");
            Some(AgentFailure {
                label: "pin".to_owned(),
                detail: format!("the instance could not be looked at after the work: {error}"),
            })
        }
    };
    if let Some(watching) = watching
        && let Some(watch) = watching.end(at).await
    {
        reporter.emit(AgentRecord::Engine(watch));
    }
    reporter.end(at, failure.or(unseen));
}

/// Looks at the instance after the work; twice, where the work itself went well: one refused
/// connection should not cost the run.
async fn look_again(client: &EngineClient, failed: bool) -> Result<PinFacts, EngineError> {
    match client.pin_facts().await {
        Err(error) if !failed => {
            tracing::debug!(%error, "the instance is looked at once more");
            tokio::time::sleep(SECOND_LOOK).await;
            client.pin_facts().await
        }
        seen => seen,
    }
}

/// Loads the model with the options of the run and looks at what came of it.
async fn warm(
    work: &Work,
    endpoint: &Endpoint,
    reporter: &mut Reporter,
    cancel: &CancellationToken,
) -> Result<EngineClient, Invalid> {
    let (agent, topology) = (&work.assignment.agent, work.assignment.topology);
    let config = EngineConfig {
        limits: work.limits,
        ..EngineConfig::new(
            endpoint.url.clone(),
            agent.engine,
            agent.model.clone(),
            agent.options.clone(),
        )
    };
    let client = EngineClient::new(config).map_err(|e| not_ready(e.to_string()))?;
    let begin = clock::mono();
    let leg = &work.assignment.leg_ref;
    let ask = async |nth| {
        let id = request_name::warming(leg, &agent.id, nth);
        let id = id.map_err(|e| not_ready(e.to_string()))?;
        client.warm(id, cancel).await.map_err(|error| {
            let reason = match error.kind {
                RequestErrorKind::Cancelled => InvalidReason::Cancelled,
                _ => InvalidReason::NotReady,
            };
            let words = (error.kind.as_str(), error.detail);
            let detail = format!("warming for {}: {}: {}", leg.run, words.0, words.1);
            Invalid { reason, detail }
        })
    };
    let loaded = ask(1).await?;
    // An engine that states load durations is asked again: the first answer has the load in it, the
    // second says what a request costs that loads nothing.
    let warm_load = match loaded.load {
        Some(_) => ask(2).await?.load,
        None => None,
    };
    let end = clock::mono();
    let facts = client
        .pin_facts()
        .await
        .map_err(|e| not_ready(e.to_string()))?;
    let mut facts = known_better(facts, endpoint);
    facts.warm_load_ns = warm_load.and_then(|load| u64::try_from(load.as_nanos()).ok());
    pin::check(agent, topology, &facts, pin::gpu_here())?;
    reporter.emit(pin_record(PinMoment::Before, facts.clone()));
    let warm_ns = end.since(begin).unwrap_or_default();
    reporter.tell(JobEvent::Ready {
        pin: Box::new(facts),
        warm_ns,
    });
    Ok(client)
}

fn not_ready(detail: String) -> Invalid {
    Invalid {
        reason: InvalidReason::NotReady,
        detail,
    }
}

fn pin_record(moment: PinMoment, facts: PinFacts) -> AgentRecord {
    AgentRecord::Pin(PinCheck {
        moment,
        at: clock::mono(),
        facts,
    })
}

/// What the worker knows of an engine that it launched itself and the engine cannot say.
fn known_better(mut facts: PinFacts, endpoint: &Endpoint) -> PinFacts {
    if endpoint.model_digest.is_some() {
        facts.model_digest.clone_from(&endpoint.model_digest);
    }
    if endpoint.pid.is_some() {
        facts.pid = endpoint.pid;
    }
    if let Some(launch) = endpoint.launch {
        facts.instance_epoch = Some(format!("launch-{launch}"));
    }
    facts
}
