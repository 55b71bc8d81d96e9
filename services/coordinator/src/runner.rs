//! Drives one experiment after the other: finds the gang of each leg, feeds its machine, and does
//! what the machine wants. One leg at a time: a second would be measured by the first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chimera_domain::control::{
    ControlRecord, ExperimentOutcome, Invalid, InvalidReason, LegVerdict, Member,
};
use chimera_domain::event::PinFacts;
use chimera_domain::ids::{AgentId, RunId, WorkerId};
use chimera_domain::plan::{LegKind, PlannedAgent, PlannedLeg, PlannedTest};
use chimera_domain::session::{Assignment, CoordinatorMessage, LegRef, WorkerMessage};
use chimera_runtime::clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::experiment::Experiment;
use crate::lifecycle::{Effect, Input, LegMachine, Seat};
use crate::log::{ControlLog, Thread};
use crate::registry::{Heard, Registry};

/// The first try at a leg; a leg that failed is shown, not repeated behind the reader's back.
const ATTEMPT: u32 = 1;

/// The driver's parts.
pub(crate) struct Runner {
    pub(crate) registry: Arc<Registry>,
    pub(crate) log: ControlLog,
    pub(crate) heard: mpsc::Receiver<Heard>,
    pub(crate) queue: mpsc::Receiver<Arc<Experiment>>,
}

impl Runner {
    /// Executes what is queued until told to stop.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                experiment = self.queue.recv() => match experiment {
                    Some(experiment) => self.experiment(&experiment, &shutdown).await,
                    None => return,
                },
                // Between experiments nobody waits for a session's words.
                _ = self.heard.recv() => {}
            }
        }
    }

    async fn experiment(&mut self, experiment: &Experiment, shutdown: &CancellationToken) {
        if experiment.is_over() {
            return;
        }
        let span = tracing::info_span!(
            "coordinator.experiment.run",
            experiment = %experiment.id,
            legs = experiment.plan.legs.len()
        );
        let outcome = self.legs(experiment, shutdown).instrument(span).await;
        let Some(outcome) = outcome else {
            // The coordinator stops, the experiment does not: the next one resumes it.
            return;
        };
        let thread = Thread::experiment(&experiment.id);
        let closed = ControlRecord::ExperimentClosed {
            outcome: outcome.clone(),
        };
        if let Err(error) = self.log.append(&thread, closed).await {
            tracing::error!(error = %error, "the end of the experiment could not be recorded");
        }
        experiment.ended(outcome);
    }

    async fn legs(
        &mut self,
        experiment: &Experiment,
        shutdown: &CancellationToken,
    ) -> Option<ExperimentOutcome> {
        for leg in experiment.remaining() {
            if experiment.cancel.is_cancelled() {
                break;
            }
            let span = tracing::info_span!("coordinator.leg.run", run_id = %leg.run_id);
            let verdict = self.leg(experiment, &leg, shutdown).instrument(span).await;
            match &verdict {
                Ok(LegVerdict::Valid) => tracing::info!(run_id = %leg.run_id, "leg valid"),
                Ok(LegVerdict::Invalid(why)) => {
                    tracing::warn!(
                        run_id = %leg.run_id,
                        reason = why.reason.as_str(),
                        detail = %why.detail,
                        "leg invalid"
                    );
                }
                Err(detail) => {
                    return Some(ExperimentOutcome::Failed {
                        detail: detail.clone(),
                    });
                }
            }
            if let Ok(verdict) = verdict {
                experiment.leg_closed(&leg.run_id, &verdict);
            }
            if shutdown.is_cancelled() {
                return None;
            }
        }
        Some(if experiment.cancel.is_cancelled() {
            ExperimentOutcome::Cancelled
        } else {
            ExperimentOutcome::Completed
        })
    }

    /// One leg from reservation to close.
    ///
    /// # Errors
    /// In words, when the log cannot be written or the plan is broken: nothing can be trusted then.
    async fn leg(
        &mut self,
        experiment: &Experiment,
        leg: &PlannedLeg,
        shutdown: &CancellationToken,
    ) -> Result<LegVerdict, String> {
        let test = experiment
            .plan
            .tests
            .iter()
            .find(|t| t.id == leg.test)
            .ok_or_else(|| format!("the plan has no test {}", leg.test))?;
        let thread = Thread::leg(&experiment.id, &leg.run_id, ATTEMPT);
        let seats = match self.gang(experiment, test, leg, shutdown).await {
            Ok(seats) => seats,
            Err(why) => {
                let verdict = LegVerdict::Invalid(why);
                let record = ControlRecord::Closed {
                    verdict: verdict.clone(),
                };
                self.log
                    .append(&thread, record)
                    .await
                    .map_err(|e| e.to_string())?;
                return Ok(verdict);
            }
        };
        let leg_ref = LegRef {
            experiment: experiment.id.clone(),
            run: leg.run_id.clone(),
            attempt: ATTEMPT,
            epoch: self.log.epoch(),
        };
        let gang = Gang {
            experiment,
            test,
            leg,
            leg_ref,
            members: members(&seats),
        };
        self.mark_busy(&gang.members, Some(&leg.run_id));
        let verdict = self.drive(&gang, seats, &thread, shutdown).await;
        self.mark_busy(&gang.members, None);
        verdict
    }

    async fn drive(
        &mut self,
        gang: &Gang<'_>,
        seats: Vec<Seat>,
        thread: &Thread,
        shutdown: &CancellationToken,
    ) -> Result<LegVerdict, String> {
        let cap = usize::try_from(gang.test.max_concurrent).unwrap_or(usize::MAX);
        let (mut machine, effects) = LegMachine::open(
            gang.leg.clone(),
            seats,
            cap,
            gang.experiment.limits.clone(),
            clock::mono(),
        );
        let mut todo: VecDeque<Effect> = effects.into();
        let mut log_error = None;
        loop {
            while let Some(effect) = todo.pop_front() {
                if let Effect::Close(verdict) = effect {
                    return match log_error {
                        Some(error) => Err(error),
                        None => Ok(verdict),
                    };
                }
                let Err(failed) = self.apply(gang, effect, thread).await else {
                    continue;
                };
                if let Input::LogFailed { detail } = &failed {
                    // The close itself cannot be written either; the leg still must be released.
                    log_error = Some(detail.clone());
                }
                todo.extend(machine.step(failed, clock::mono()));
            }
            let done: Vec<AgentId> = machine.agents_done().cloned().collect();
            gang.experiment
                .show(gang.leg, machine.stage_name(), &gang.members, &done);
            let input = tokio::select! {
                heard = self.heard.recv() => match heard.and_then(|h| gang.input(h)) {
                    Some(input) => input,
                    None => continue,
                },
                () = tokio::time::sleep(clock::until(machine.deadline())) => Input::Tick,
                () = gang.experiment.cancel.cancelled() => Input::Cancel,
                () = shutdown.cancelled() => Input::Cancel,
            };
            todo.extend(machine.step(input, clock::mono()));
        }
    }

    /// Does one thing the machine wants.
    ///
    /// # Errors
    /// The input that the failure is to the machine.
    async fn apply(&self, gang: &Gang<'_>, effect: Effect, thread: &Thread) -> Result<(), Input> {
        let (agent, message) = match effect {
            Effect::Record(record) => {
                return self
                    .log
                    .append(thread, *record)
                    .await
                    .map_err(|e| Input::LogFailed {
                        detail: e.to_string(),
                    });
            }
            Effect::Reserve(agent) => {
                let Some(assignment) = gang.assignment(&agent) else {
                    return Ok(());
                };
                (agent, CoordinatorMessage::Reserve(Box::new(assignment)))
            }
            Effect::Warm(agent) => (
                agent.clone(),
                CoordinatorMessage::Warm {
                    agent,
                    leg: gang.leg_ref.clone(),
                },
            ),
            Effect::Commit(agent, start_at) => (
                agent.clone(),
                CoordinatorMessage::Commit {
                    agent,
                    leg: gang.leg_ref.clone(),
                    start_at,
                },
            ),
            Effect::Release(agent, reason) => (
                agent.clone(),
                CoordinatorMessage::Release {
                    agent,
                    leg: gang.leg_ref.clone(),
                    reason,
                },
            ),
            Effect::Close(_) => return Ok(()),
        };
        let Some(worker) = gang.worker_of(&agent) else {
            return Ok(());
        };
        self.registry
            .send(worker, message)
            .await
            .map_err(|detail| Input::WorkerLost {
                worker: worker.clone(),
                detail,
            })
    }

    /// Waits until every agent of the test has a worker; then takes those of the leg.
    async fn gang(
        &mut self,
        experiment: &Experiment,
        test: &PlannedTest,
        leg: &PlannedLeg,
        shutdown: &CancellationToken,
    ) -> Result<Vec<Seat>, Invalid> {
        let gang_wait = experiment.plan.limits.gang_wait_s;
        let give_up = tokio::time::sleep(Duration::from_secs(u64::from(gang_wait)));
        tokio::pin!(give_up);
        loop {
            // The seats of the whole test, also for a solo leg: an agent must be alone on the very
            // instance that it has together with the others.
            let missing = match self.registry.seats(&test.agents, test.topology) {
                Ok(seats) => {
                    return Ok(seats
                        .into_iter()
                        .filter(|s| match &leg.kind {
                            LegKind::Together => true,
                            LegKind::Solo { agent } => s.member.agent == *agent,
                        })
                        .collect());
                }
                Err(missing) => missing,
            };
            experiment.show(leg, &format!("waiting for workers: {missing}"), &[], &[]);
            let invalid = |reason, detail: &str| {
                Err(Invalid {
                    reason,
                    detail: detail.to_owned(),
                })
            };
            tokio::select! {
                () = &mut give_up => {
                    let detail = format!("{missing} after {gang_wait} s");
                    return invalid(InvalidReason::NoGang, &detail);
                }
                () = experiment.cancel.cancelled() => {
                    return invalid(InvalidReason::Cancelled, "stopped by a person");
                }
                () = shutdown.cancelled() => {
                    return invalid(InvalidReason::Cancelled, "the coordinator was stopped");
                }
                _ = self.heard.recv() => {}
            }
        }
    }

    fn mark_busy(&self, members: &[Member], run: Option<&RunId>) {
        for member in members {
            self.registry.set_busy(&member.worker, run.cloned());
        }
    }
}

fn members(seats: &[Seat]) -> Vec<Member> {
    seats.iter().map(|s| s.member.clone()).collect()
}

/// What stays the same while a leg is driven.
struct Gang<'a> {
    experiment: &'a Experiment,
    test: &'a PlannedTest,
    leg: &'a PlannedLeg,
    leg_ref: LegRef,
    members: Vec<Member>,
}

impl Gang<'_> {
    fn worker_of(&self, agent: &AgentId) -> Option<&WorkerId> {
        self.members
            .iter()
            .find(|m| m.agent == *agent)
            .map(|m| &m.worker)
    }

    fn planned(&self, agent: &AgentId) -> Option<&PlannedAgent> {
        self.test.agents.iter().find(|a| a.id == *agent)
    }

    fn assignment(&self, agent: &AgentId) -> Option<Assignment> {
        Some(Assignment {
            leg_ref: self.leg_ref.clone(),
            leg: self.leg.clone(),
            agent: self.planned(agent)?.clone(),
            workload: self.experiment.plan.workload.clone(),
            topology: self.test.topology,
            plan_seed: self.experiment.plan.seed,
        })
    }

    /// The spec may name the digest that a model must have.
    fn wrong_digest(&self, agent: &AgentId, pin: &PinFacts) -> Option<Invalid> {
        let model = &self.planned(agent)?.model;
        let asked = self.experiment.plan.model_digests.get(model)?;
        let has = pin.model_digest.as_deref().unwrap_or("an unknown digest");
        let plain = |digest: &str| digest.trim_start_matches("sha256:").to_ascii_lowercase();
        (plain(asked) != plain(has)).then(|| Invalid {
            reason: InvalidReason::NotReady,
            detail: format!("model {model} has {has}, the spec asks for {asked}"),
        })
    }

    /// A session's words as an input, if they are about this attempt.
    fn input(&self, heard: Heard) -> Option<Input> {
        match heard {
            Heard::Message(worker, message) => self.message(&worker, *message),
            Heard::Lost(worker, detail) => Some(Input::WorkerLost { worker, detail }),
            Heard::Expired(worker, detail) => Some(Input::LeaseLost { worker, detail }),
            Heard::Joined => None,
        }
    }

    fn message(&self, from: &WorkerId, message: WorkerMessage) -> Option<Input> {
        let (leg, agent, input) = match message {
            WorkerMessage::LeaseReply {
                leg,
                agent,
                refused,
            } => (leg, agent.clone(), Input::LeaseReply { agent, refused }),
            WorkerMessage::Ready {
                leg,
                agent,
                pin,
                warm_ns,
            } => {
                let input = match self.wrong_digest(&agent, &pin) {
                    Some(why) => Input::NotReady {
                        agent: agent.clone(),
                        why,
                    },
                    None => Input::Ready {
                        agent: agent.clone(),
                        pin,
                        warm_ns,
                    },
                };
                (leg, agent, input)
            }
            WorkerMessage::NotReady { leg, agent, why } => {
                (leg, agent.clone(), Input::NotReady { agent, why })
            }
            WorkerMessage::Started {
                leg,
                agent,
                planned,
                actual,
            } => (
                leg,
                agent.clone(),
                Input::Started {
                    agent,
                    planned,
                    actual,
                },
            ),
            WorkerMessage::Idle { leg, agent } => (leg, agent.clone(), Input::Idle { agent }),
            WorkerMessage::Finished {
                leg,
                agent,
                failure,
                ..
            } => (leg, agent.clone(), Input::Finished { agent, failure }),
            WorkerMessage::Hello(_)
            | WorkerMessage::Heartbeat { .. }
            | WorkerMessage::Pong { .. } => return None,
        };
        if leg != self.leg_ref {
            tracing::info!(run_id = %leg.run, epoch = leg.epoch, "words about another attempt ignored");
            return None;
        }
        if self.worker_of(&agent) != Some(from) {
            tracing::warn!(worker = %from, %agent, "a worker spoke for an agent that it does not run");
            return None;
        }
        Some(input)
    }
}
