//! Drives one experiment after the other: finds the gang of each leg, feeds its machine, and does
//! what the machine wants. One leg at a time: a second would be measured by the first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chimera_domain::control::{ControlRecord, ExperimentOutcome, Invalid, LegVerdict, Member};
use chimera_domain::ids::{AgentId, RunId};
use chimera_domain::plan::PlannedLeg;
use chimera_domain::session::{CoordinatorMessage, LegRef};
use chimera_runtime::bus::Bus;
use chimera_runtime::clock;
use chimera_runtime::exit::chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::analysis::Analysis;
use crate::course::Next;
use crate::experiment::Experiment;
use crate::gang::{Gang, members};
use crate::growth;
use crate::lifecycle::{Effect, Input, LegMachine, Seat};
use crate::log::{ControlLog, Thread};
use crate::rates;
use crate::registry::{Heard, Registry};

/// The driver's parts.
pub(crate) struct Runner {
    pub(crate) registry: Arc<Registry>,
    pub(crate) log: ControlLog,
    pub(crate) bus: Bus,
    pub(crate) analysis: Option<Analysis>,
    pub(crate) heard: mpsc::Receiver<Heard>,
    pub(crate) queue: mpsc::Receiver<Arc<Experiment>>,
    /// Counts the questions put to workers.
    pub(crate) questions: u64,
}

impl Runner {
    /// Executes what is queued until told to stop, or until another coordinator has taken over.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let replaced = self.log.replaced().clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = replaced.cancelled() => return,
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
            legs = experiment.plan().legs.len()
        );
        let outcome = self.legs(experiment, shutdown).instrument(span).await;
        let Some(outcome) = outcome else {
            // The coordinator stops, the experiment does not: the next one resumes it.
            return;
        };
        if self.log.replaced().is_cancelled() {
            // It goes on elsewhere; what failed here is only that this one is no longer asked.
            return;
        }
        if let ExperimentOutcome::Failed { detail } = &outcome {
            tracing::error!(experiment = %experiment.id, %detail, "the experiment failed");
        }
        let closed = ControlRecord::ExperimentClosed {
            outcome: outcome.clone(),
        };
        let thread = Thread::experiment(&experiment.id);
        if let Err(error) = self.record(experiment, &thread, closed).await {
            tracing::error!(%error, "the end of the experiment could not be recorded");
            experiment.ended(&outcome);
        }
    }

    /// Writes a record, and only then lets the experiment know of it.
    ///
    /// # Errors
    /// In words, when the log cannot be written.
    pub(crate) async fn record(
        &self,
        experiment: &Experiment,
        thread: &Thread,
        record: ControlRecord,
    ) -> Result<(), String> {
        let event = self.log.append(thread, record).await;
        experiment.take(&event.map_err(|error| chain(&error))?);
        Ok(())
    }

    /// Does what is to be done next until the experiment ends; `None`: the coordinator stops.
    async fn legs(
        &mut self,
        experiment: &Experiment,
        shutdown: &CancellationToken,
    ) -> Option<ExperimentOutcome> {
        let mut executed = false;
        loop {
            if shutdown.is_cancelled() {
                return None;
            }
            if experiment.cancel.is_cancelled() {
                return Some(ExperimentOutcome::Cancelled);
            }
            let done = match experiment.next() {
                Next::Over => return None,
                Next::End(outcome) => return Some(outcome),
                Next::Grow => match self.grow(experiment, shutdown).await {
                    Ok(true) => Ok(()),
                    Ok(false) => return Some(ExperimentOutcome::Completed),
                    Err(detail) => Err(detail),
                },
                Next::Leg(leg, attempt) => {
                    if executed && !self.cool_down(experiment, shutdown).await {
                        continue;
                    }
                    executed = true;
                    let span =
                        tracing::info_span!("coordinator.leg.run", run_id = %leg.run_id, attempt);
                    self.leg(experiment, &leg, attempt, shutdown)
                        .instrument(span)
                        .await
                }
            };
            if let Err(detail) = done {
                return Some(ExperimentOutcome::Failed { detail });
            }
        }
    }

    /// Lets the machine cool, or whatever else needs a pause; `false`: cut short by a stop.
    async fn cool_down(&mut self, experiment: &Experiment, shutdown: &CancellationToken) -> bool {
        let seconds = experiment.plan().budget.cool_down_s;
        if seconds == 0 {
            return true;
        }
        experiment.say(&format!("cooling down for {seconds} s"));
        let pause = tokio::time::sleep(Duration::from_secs(u64::from(seconds)));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return true,
                () = experiment.cancel.cancelled() => return false,
                () = shutdown.cancelled() => return false,
                // Between legs nobody waits for a session's words, and it must not wait either.
                _ = self.heard.recv() => {}
            }
        }
    }

    /// Lets the plan grow by what was measured; `false`: it is complete.
    ///
    /// # Errors
    /// In words, when it cannot.
    async fn grow(
        &mut self,
        experiment: &Experiment,
        shutdown: &CancellationToken,
    ) -> Result<bool, String> {
        experiment.say("asking the analyzer what the runs show");
        let analysis = self.analysis.clone();
        let decided = growth::grow(experiment, analysis.as_ref());
        tokio::pin!(decided);
        let records = loop {
            tokio::select! {
                records = &mut decided => break records?,
                () = experiment.cancel.cancelled() => return Ok(true),
                () = shutdown.cancelled() => return Ok(true),
                _ = self.heard.recv() => {}
            }
        };
        let grown = !records.is_empty();
        for (about, record) in records {
            let thread = match &about {
                Some((run, attempt)) => Thread::leg(&experiment.id, run, *attempt),
                None => Thread::experiment(&experiment.id),
            };
            if let ControlRecord::Extended { why, tests, legs } = &record {
                tracing::info!(
                    ?why,
                    tests = tests.len(),
                    legs = legs.len(),
                    "the plan grows"
                );
            }
            self.record(experiment, &thread, record).await?;
        }
        Ok(grown)
    }

    /// One attempt at a leg, from reservation to close.
    ///
    /// # Errors
    /// In words, when the log cannot be written or the plan is broken: nothing can be trusted then.
    async fn leg(
        &mut self,
        experiment: &Experiment,
        leg: &PlannedLeg,
        attempt: u32,
        shutdown: &CancellationToken,
    ) -> Result<(), String> {
        let plan = experiment.plan();
        let test = plan
            .test(leg.test)
            .ok_or_else(|| format!("the plan has no test {}", leg.test))?;
        let thread = Thread::leg(&experiment.id, &leg.run_id, attempt);
        let mut gang = Gang {
            experiment,
            plan: &plan,
            test,
            leg,
            leg_ref: LegRef {
                experiment: experiment.id.clone(),
                run: leg.run_id.clone(),
                attempt,
                epoch: self.log.epoch(),
            },
            members: Vec::new(),
        };
        let seats = match self.seats(&gang, &thread, shutdown).await {
            Ok(seats) => seats,
            // Nothing has begun, so nothing is recorded: the next coordinator begins it.
            Err(_) if shutdown.is_cancelled() => return Ok(()),
            Err(why) => {
                warn(leg, &why);
                let verdict = LegVerdict::Invalid(why);
                let record = ControlRecord::Closed { verdict };
                return self.record(experiment, &thread, record).await;
            }
        };
        gang.members = members(&seats);
        self.mark_busy(&gang.members, Some(&leg.run_id));
        let verdict = self.drive(&gang, seats, &thread, shutdown).await;
        self.mark_busy(&gang.members, None);
        match verdict? {
            LegVerdict::Valid => {
                tracing::info!(run_id = %leg.run_id, "leg valid");
                experiment.rates(rates::of_attempt(&self.bus, &gang).await);
            }
            LegVerdict::Invalid(why) => warn(leg, &why),
        }
        Ok(())
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
                machine.failed(failed, &mut todo, clock::mono());
            }
            let done: Vec<AgentId> = machine.agents_done().cloned().collect();
            let attempt = gang.leg_ref.attempt;
            gang.experiment.show(
                gang.leg,
                attempt,
                machine.stage_name(),
                &gang.members,
                &done,
            );
            let input = tokio::select! {
                heard = self.heard.recv() => match heard.and_then(|h| gang.input(h)) {
                    Some(input) => input,
                    None => continue,
                },
                () = tokio::time::sleep(clock::until(machine.deadline())) => Input::Tick,
                () = gang.experiment.cancel.cancelled() => Input::Cancel,
                () = shutdown.cancelled() => Input::Shutdown,
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
                    .record(gang.experiment, thread, *record)
                    .await
                    .map_err(|detail| Input::LogFailed { detail });
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

    fn mark_busy(&self, members: &[Member], run: Option<&RunId>) {
        for member in members {
            self.registry.set_busy(&member.worker, run.cloned());
        }
    }
}

fn warn(leg: &PlannedLeg, why: &Invalid) {
    tracing::warn!(
        run_id = %leg.run_id,
        reason = why.reason.as_str(),
        detail = %why.detail,
        "leg invalid"
    );
}
