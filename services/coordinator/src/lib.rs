//! The coordinator: checks specs, plans tests and runs, reserves gangs, drives the phases of each
//! leg, and writes every decision to its log before anything follows from it.
//!
//! - [`lifecycle`]: one leg as a pure machine.
//! - `registry`: who is connected; leases, clocks, exclusive claims.
//! - `experiment`: what was submitted, and the replay of the log.
//! - `course`: where one stands, as a fold of its log.
//! - `growth`, `analysis`: plans that depend on what was measured.
//! - `seating`: who sits where, and whether there is room.
//! - `runner`, `gang`: feeds the machine and does what it wants.
//! - `log`: the control stream, with its epoch.
//! - `grpc`: control API and worker sessions.

mod analysis;
mod config;
mod course;
mod error;
mod experiment;
mod gang;
mod growth;
mod grpc;
pub mod lifecycle;
mod log;
mod planning;
mod rates;
mod registry;
mod runner;
mod seating;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chimera_domain::control::{ControlRecord, Invalid, InvalidReason, LegVerdict};
use chimera_runtime::bus::Bus;
use chimera_runtime::server::GrpcServer;
use chimera_runtime::{clock, server};
use chimera_wire::control_server::ControlServer;
use chimera_wire::worker_sessions_server::WorkerSessionsServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::{Args, Config};
pub use error::CoordinatorError;
pub use log::LogError;

use analysis::Analysis;
use experiment::Experiments;
use grpc::{ControlService, SessionService};
use log::{ControlLog, Thread};
use registry::Registry;
use runner::Runner;

/// Words of sessions that may wait for the runner: six per agent and leg, for 64 agents. Full:
/// the sessions wait, and their leases with them.
const HEARD_CAPACITY: usize = 512;
/// Experiments that may wait their turn. Full: a submission is refused with a reply.
const QUEUE_CAPACITY: usize = 64;
/// How often leases are looked at; a tenth of the shortest sensible lease.
const LEASE_CHECK: Duration = Duration::from_millis(200);

/// How long calls may go on after the sessions were told to end.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// A coordinator that owns its address and its log, and serves nobody yet.
pub struct Coordinator {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    log: ControlLog,
    bus: Bus,
    analysis: Option<Analysis>,
    experiments: Arc<Experiments>,
    waiting: Vec<Arc<experiment::Experiment>>,
}

impl Coordinator {
    /// Takes over the address and the log. Legs that an earlier coordinator left open are closed
    /// as invalid; experiments that had not ended go on with their next leg.
    ///
    /// # Errors
    /// When the address is taken, or the bus or the log cannot be had.
    pub async fn bind(config: Config, bus: &Bus) -> Result<Self, CoordinatorError> {
        let listener = server::bind(&config.listen.to_string()).await?;
        let address = listener.local_addr().unwrap_or(config.listen);
        for stream in bus.ensure_streams(&config.streams).await? {
            for difference in &stream.differences {
                tracing::warn!(stream = %stream.stream, %difference, "a stream is not as asked for");
            }
        }
        let (log, events) = ControlLog::open(bus).await?;
        let analysis = config.analyzer.as_deref().map(Analysis::new).transpose()?;
        let replayed = experiment::replay(&events, config.start_lead_ms, log.epoch());
        // Said now: the runs that it needs would else be made for nothing.
        let stranded = replayed.experiments.iter().find(|e| {
            !e.is_over() && analysis.is_none() && growth::depends_on(&e.plan()).is_some()
        });
        if let Some(stranded) = stranded {
            let experiment = stranded.id.clone();
            return Err(CoordinatorError::NoAnalyzer { experiment });
        }
        for (experiment, run, attempt) in &replayed.open_legs {
            let verdict = LegVerdict::Invalid(Invalid {
                reason: InvalidReason::CoordinatorRestart,
                detail: "the coordinator went away during the leg".to_owned(),
            });
            let record = ControlRecord::Closed { verdict };
            let event = log
                .append(&Thread::leg(&experiment.id, run, *attempt), record)
                .await?;
            experiment.take(&event);
        }
        let experiments = Arc::new(Experiments::default());
        let mut waiting = Vec::new();
        for experiment in replayed.experiments {
            experiments.insert(experiment.clone());
            if !experiment.is_over() {
                waiting.push(experiment);
            }
        }
        tracing::info!(%address, epoch = log.epoch(), resumed = waiting.len(), "coordinator ready");
        Ok(Self {
            listener,
            address,
            config,
            log,
            bus: bus.clone(),
            analysis,
            experiments,
            waiting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop; the leg under way is then closed as invalid, and the next
    /// coordinator tries it again and goes on with its experiment.
    ///
    /// # Errors
    /// When the gRPC server fails, or another coordinator has taken over.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), CoordinatorError> {
        let Self {
            listener,
            config,
            log,
            bus,
            analysis,
            experiments,
            waiting,
            ..
        } = self;
        let (heard_tx, heard) = mpsc::channel(HEARD_CAPACITY);
        let (queue_tx, queue) = mpsc::channel(QUEUE_CAPACITY + waiting.len());
        for experiment in waiting {
            if queue_tx.try_send(experiment).is_err() {
                tracing::error!("the queue is smaller than what it must take up");
            }
        }
        let lease_ns = config.lease_ms * 1_000_000;
        let registry = Arc::new(Registry::new(clock::boot_id(), lease_ns, heard_tx));
        let tasks = TaskTracker::new();
        // The runner closes its leg first; the sessions end after it, so that agents hear of it.
        let sessions_end = CancellationToken::new();
        let control = ControlService {
            experiments,
            registry: registry.clone(),
            log: log.clone(),
            queue: queue_tx,
            software: config.software.clone(),
            start_lead_ms: config.start_lead_ms,
            has_analyzer: analysis.is_some(),
            tasks: tasks.clone(),
            shutdown: sessions_end.clone(),
        };
        let sessions = SessionService {
            registry: registry.clone(),
            epoch: log.epoch(),
            heartbeat_ms: config.heartbeat_ms,
            fence_ms: config.fence_ms,
            tasks: tasks.clone(),
            shutdown: sessions_end.clone(),
        };
        let leases = registry.clone();
        let expiry = sessions_end.clone();
        tasks.spawn(async move {
            let mut tick = tokio::time::interval(LEASE_CHECK);
            loop {
                tokio::select! {
                    _ = tick.tick() => leases.expire(clock::mono()).await,
                    () = expiry.cancelled() => return,
                }
            }
        });
        let replaced = log.replaced().clone();
        let runner = Runner {
            registry,
            log,
            bus,
            analysis,
            heard,
            queue,
            questions: 0,
        };
        let end = sessions_end.clone();
        tasks.spawn(async move {
            runner.run(shutdown).await;
            end.cancel();
        });
        tasks.close();
        let served = async {
            let (mut server, health) = GrpcServer::new(chimera_wire::FILE_DESCRIPTOR_SET).await?;
            server
                .routes()
                .add_service(ControlServer::new(control))
                .add_service(WorkerSessionsServer::new(sessions));
            health.set_ready(true).await;
            server
                .serve(listener, sessions_end.clone(), DRAIN_GRACE)
                .await
        }
        .await;
        // The server may have failed by itself: nothing may run on without it.
        sessions_end.cancel();
        tasks.wait().await;
        served?;
        if replaced.is_cancelled() {
            return Err(LogError::Replaced.into());
        }
        Ok(())
    }
}
