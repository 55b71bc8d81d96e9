//! What stays the same while a leg is driven, and what its workers' words mean to its machine.

use chimera_domain::control::{Invalid, InvalidReason, Member};
use chimera_domain::event::PinFacts;
use chimera_domain::ids::{AgentId, WorkerId};
use chimera_domain::plan::{Plan, PlannedAgent, PlannedLeg, PlannedTest};
use chimera_domain::session::{Assignment, LegRef, WorkerMessage};

use crate::experiment::Experiment;
use crate::lifecycle::{Input, Seat};
use crate::registry::Heard;

pub(crate) fn members(seats: &[Seat]) -> Vec<Member> {
    seats.iter().map(|s| s.member.clone()).collect()
}

/// What stays the same while a leg is driven.
pub(crate) struct Gang<'a> {
    pub(crate) experiment: &'a Experiment,
    pub(crate) plan: &'a Plan,
    pub(crate) test: &'a PlannedTest,
    pub(crate) leg: &'a PlannedLeg,
    pub(crate) leg_ref: LegRef,
    pub(crate) members: Vec<Member>,
}

impl Gang<'_> {
    pub(crate) fn worker_of(&self, agent: &AgentId) -> Option<&WorkerId> {
        self.members
            .iter()
            .find(|m| m.agent == *agent)
            .map(|m| &m.worker)
    }

    fn planned(&self, agent: &AgentId) -> Option<&PlannedAgent> {
        self.test.agents.iter().find(|a| a.id == *agent)
    }

    pub(crate) fn assignment(&self, agent: &AgentId) -> Option<Assignment> {
        Some(Assignment {
            leg_ref: self.leg_ref.clone(),
            leg: self.leg.clone(),
            agent: self.planned(agent)?.clone(),
            workload: self.plan.workload.clone(),
            topology: self.test.topology,
            plan_seed: self.plan.seed,
        })
    }

    /// The spec may name the digest that a model must have.
    fn wrong_digest(&self, agent: &AgentId, pin: &PinFacts) -> Option<Invalid> {
        let model = &self.planned(agent)?.model;
        let asked = self.plan.model_digests.get(model)?;
        let has = pin.model_digest.as_deref().unwrap_or("an unknown digest");
        let plain = |digest: &str| digest.trim_start_matches("sha256:").to_ascii_lowercase();
        (plain(asked) != plain(has)).then(|| Invalid {
            reason: InvalidReason::NotReady,
            detail: format!("model {model} has {has}, the spec asks for {asked}"),
        })
    }

    /// A session's words as an input, if they are about this attempt.
    pub(crate) fn input(&self, heard: Heard) -> Option<Input> {
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
            // An answer that came too late to be waited for is one of these too.
            WorkerMessage::Appraisal { .. }
            | WorkerMessage::Hello(_)
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
