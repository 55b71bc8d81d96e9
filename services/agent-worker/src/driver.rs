//! Drives one assignment from WARM to its last acknowledged record: engine, agent thread, recorder.

use std::path::PathBuf;
use std::sync::Arc;

use chimera_domain::control::{Invalid, InvalidReason};
use chimera_domain::event::AgentFailure;
use chimera_domain::ids::AgentKey;
use chimera_domain::session::{Assignment, WorkerMessage};
use chimera_runtime::bus::Publisher;
use chimera_runtime::clock;
use chimera_runtime::exit::chain;
use tokio::sync::{Mutex, mpsc};

use crate::hold::Orders;
use crate::job::{EVENT_CAPACITY, Job, JobEvent, RECORD_CAPACITY, Work};
use crate::launcher::Launcher;
use crate::recorder::{self, RecordError, Recorded};
use crate::session::send;
use crate::watch::{self, Watches};

/// Takes one assignment from WARM to its last acknowledged record.
pub(crate) struct Driver {
    pub(crate) work: Work,
    pub(crate) launcher: Arc<Mutex<Launcher>>,
    pub(crate) watches: Watches,
    pub(crate) publisher: Publisher,
    pub(crate) spool_dir: PathBuf,
    pub(crate) outbox: mpsc::Sender<WorkerMessage>,
}

impl Driver {
    pub(crate) async fn run(self, orders: Orders) {
        let Orders {
            warm,
            commit,
            closed,
            cancel,
        } = orders;
        tokio::select! {
            warm = warm => if warm.is_err() { return },
            () = cancel.cancelled() => return,
        }
        let Assignment {
            agent, topology, ..
        } = &self.work.assignment;
        let launched = tokio::select! {
            // Agents that share the instance come here one after the other: the first launches it,
            // the others find it as they want it.
            launched = async { self.launcher.lock().await.ensure(agent, *topology).await } => launched,
            // Dropping a half-started engine kills it.
            () = cancel.cancelled() => return,
        };
        let leg = self.work.assignment.leg_ref.clone();
        let agent = self.work.assignment.agent.id.clone();
        let endpoint = match launched {
            Ok(endpoint) => endpoint,
            Err(error) => {
                let detail = chain(&error);
                let why = Invalid {
                    reason: InvalidReason::NotReady,
                    detail,
                };
                send(&self.outbox, WorkerMessage::NotReady { leg, agent, why }).await;
                return;
            }
        };
        let (records_tx, records_rx) = mpsc::channel(RECORD_CAPACITY);
        let (events_tx, mut events) = mpsc::channel(EVENT_CAPACITY);
        let key = AgentKey {
            experiment: leg.experiment.clone(),
            run: leg.run.clone(),
            attempt: leg.attempt,
            agent: agent.clone(),
        };
        let mut recorder = tokio::task::JoinSet::new();
        recorder.spawn(recorder::record(
            self.publisher.clone(),
            self.spool_dir.clone(),
            key,
            leg.epoch,
            records_rx,
        ));
        // On this runtime, not the agent's: its thread has nothing to do but to measure.
        let mut watcher = tokio::task::JoinSet::new();
        let watching = self
            .watches
            .reader(&leg, &endpoint, self.work.assignment.agent.engine)
            .map(|reader| {
                let (watching, work) = watch::pair(reader, self.watches.period());
                watcher.spawn(work);
                watching
            });
        let job = Job {
            watching,
            work: self.work,
            endpoint,
            records: records_tx,
            events: events_tx,
            commit,
            cancel: cancel.clone(),
        };
        let thread = match job.spawn() {
            Ok(thread) => thread,
            Err(error) => {
                let detail = format!("no thread for the agent: {error}");
                let why = Invalid {
                    reason: InvalidReason::NotReady,
                    detail,
                };
                send(&self.outbox, WorkerMessage::NotReady { leg, agent, why }).await;
                return;
            }
        };
        let mut ended = None;
        // Closed when the thread ends, whatever it ended of.
        while let Some(event) = events.recv().await {
            let (leg, agent) = (leg.clone(), agent.clone());
            let message = match event {
                JobEvent::Ready { pin, warm_ns } => WorkerMessage::Ready {
                    leg,
                    agent,
                    pin,
                    warm_ns,
                },
                JobEvent::NotReady(why) => WorkerMessage::NotReady { leg, agent, why },
                JobEvent::Started { planned, actual } => WorkerMessage::Started {
                    leg,
                    agent,
                    planned,
                    actual,
                },
                JobEvent::Idle => WorkerMessage::Idle { leg, agent },
                JobEvent::Ended { at, failure } => {
                    ended = Some((at, failure));
                    continue;
                }
            };
            send(&self.outbox, message).await;
        }
        // Its senders are gone, but a panic may still be unwinding: only the join tells.
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        let panicked = !matches!(joined, Ok(Ok(())));
        let recorded = match recorder.join_next().await {
            Some(Ok(recorded)) => recorded,
            _ => Err(RecordError::Lost),
        };
        let Some((at, failure)) = ended.or_else(|| {
            panicked.then(|| {
                let detail = "the agent's thread panicked".to_owned();
                (
                    clock::mono(),
                    Some(AgentFailure {
                        label: "panic".to_owned(),
                        detail,
                    }),
                )
            })
        }) else {
            return;
        };
        let (records, sha256, storage, spool) = match recorded {
            Ok(Recorded { end, spool }) => (end.records, end.sha256, None, Some(spool)),
            Err(error) => {
                let detail = chain(&error);
                let failure = AgentFailure {
                    label: "storage".to_owned(),
                    detail,
                };
                (0, String::new(), Some(failure), None)
            }
        };
        let failure = failure.or(storage);
        send(
            &self.outbox,
            WorkerMessage::Finished {
                leg,
                agent,
                at,
                failure,
                records,
                sha256,
            },
        )
        .await;
        // Until the coordinator has closed the leg the local copy may be the only whole one.
        if closed.await.is_ok()
            && let Some(spool) = spool
            && let Err(error) = spool.remove()
        {
            tracing::warn!(%error, "a spool file of a closed leg stays behind");
        }
    }
}
