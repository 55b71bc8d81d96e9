//! What workers and the coordinator say to each other on a session.

use chimera_domain::plan::Topology;
use chimera_domain::session as d;
use chimera_domain::units::MonoNs;

use crate::common::{attempt, convert, engine_kind, engine_number, id, required};
use crate::error::WireError;
use crate::pb;
use crate::pb::coordinator_message::Message as ToWorker;
use crate::pb::worker_message::Message as ToCoordinator;

impl From<&d::LegRef> for pb::LegRef {
    fn from(v: &d::LegRef) -> Self {
        Self {
            experiment: v.experiment.to_string(),
            run: v.run.to_string(),
            attempt: v.attempt,
            epoch: v.epoch,
        }
    }
}

impl TryFrom<pb::LegRef> for d::LegRef {
    type Error = WireError;
    fn try_from(v: pb::LegRef) -> Result<Self, WireError> {
        Ok(Self {
            experiment: id(v.experiment, "LegRef.experiment")?,
            run: id(v.run, "LegRef.run")?,
            attempt: attempt(v.attempt, "LegRef.attempt")?,
            epoch: v.epoch,
        })
    }
}

impl From<&d::Hello> for pb::Hello {
    fn from(v: &d::Hello) -> Self {
        Self {
            worker: v.worker.to_string(),
            instance: v.instance.to_string(),
            url: v.url.clone(),
            engine: engine_number(v.engine),
            node: v.node.to_string(),
            clock: Some((&v.clock).into()),
            software: v.software.clone(),
            gpu: v.gpu.clone(),
            appraises: v.appraises,
        }
    }
}

impl TryFrom<pb::Hello> for d::Hello {
    type Error = WireError;
    fn try_from(v: pb::Hello) -> Result<Self, WireError> {
        Ok(Self {
            worker: id(v.worker, "Hello.worker")?,
            instance: id(v.instance, "Hello.instance")?,
            url: v.url,
            engine: engine_kind(v.engine, "Hello.engine")?,
            node: id(v.node, "Hello.node")?,
            clock: convert(v.clock, "Hello.clock")?,
            software: v.software,
            gpu: v.gpu,
            appraises: v.appraises,
        })
    }
}

fn shared_slots(topology: Topology) -> Option<u32> {
    match topology {
        Topology::Pinned => None,
        Topology::Shared { slots } => Some(slots),
    }
}

fn topology(shared_slots: Option<u32>) -> Topology {
    shared_slots.map_or(Topology::Pinned, |slots| Topology::Shared { slots })
}

impl From<&d::Assignment> for pb::Assignment {
    fn from(v: &d::Assignment) -> Self {
        Self {
            leg_ref: Some((&v.leg_ref).into()),
            leg: Some((&v.leg).into()),
            agent: Some((&v.agent).into()),
            workload: Some((&v.workload).into()),
            plan_seed: v.plan_seed,
            shared_slots: shared_slots(v.topology),
        }
    }
}

impl TryFrom<pb::Assignment> for d::Assignment {
    type Error = WireError;
    fn try_from(v: pb::Assignment) -> Result<Self, WireError> {
        Ok(Self {
            leg_ref: convert(v.leg_ref, "Assignment.leg_ref")?,
            leg: convert(v.leg, "Assignment.leg")?,
            agent: convert(v.agent, "Assignment.agent")?,
            workload: convert(v.workload, "Assignment.workload")?,
            plan_seed: v.plan_seed,
            topology: topology(v.shared_slots),
        })
    }
}

impl From<&d::WorkerMessage> for pb::WorkerMessage {
    fn from(v: &d::WorkerMessage) -> Self {
        use d::WorkerMessage as M;
        Self {
            message: Some(match v {
                M::Hello(v) => ToCoordinator::Hello(v.into()),
                M::Heartbeat { seq } => ToCoordinator::Heartbeat(pb::Heartbeat { seq: *seq }),
                M::Pong { id, clock } => ToCoordinator::Pong(pb::Pong {
                    id: *id,
                    clock: Some(clock.into()),
                }),
                M::Appraisal { id, appraisal } => ToCoordinator::Appraisal(pb::Appraisal {
                    id: *id,
                    need: appraisal.as_ref().ok().map(|need| need.as_ref().into()),
                    unknown: appraisal.as_ref().err().cloned().unwrap_or_default(),
                }),
                M::LeaseReply {
                    leg,
                    agent,
                    refused,
                } => ToCoordinator::LeaseReply(pb::LeaseReply {
                    leg: Some(leg.into()),
                    agent: agent.to_string(),
                    refused: refused.clone(),
                }),
                M::Ready {
                    leg,
                    agent,
                    pin,
                    warm_ns,
                } => ToCoordinator::Ready(pb::ReadyVote {
                    leg: Some(leg.into()),
                    agent: agent.to_string(),
                    pin: Some(pin.as_ref().into()),
                    warm_ns: *warm_ns,
                }),
                M::NotReady { leg, agent, why } => ToCoordinator::NotReady(pb::NotReady {
                    leg: Some(leg.into()),
                    agent: agent.to_string(),
                    why: Some(why.into()),
                }),
                M::Started {
                    leg,
                    agent,
                    planned,
                    actual,
                } => ToCoordinator::Started(pb::AgentStarted {
                    leg: Some(leg.into()),
                    agent: agent.to_string(),
                    planned_mono_ns: planned.0,
                    actual_mono_ns: actual.0,
                }),
                M::Finished {
                    leg,
                    agent,
                    at,
                    failure,
                    records,
                    sha256,
                } => ToCoordinator::Finished(pb::AgentFinished {
                    leg: Some(leg.into()),
                    agent: agent.to_string(),
                    at_mono_ns: at.0,
                    failure: failure.as_ref().map(Into::into),
                    records: *records,
                    sha256: sha256.clone(),
                }),
                M::Idle { leg, agent } => ToCoordinator::Idle(pb::AgentIdle {
                    leg: Some(leg.into()),
                    agent: agent.to_string(),
                }),
            }),
        }
    }
}

impl From<d::WorkerMessage> for pb::WorkerMessage {
    fn from(v: d::WorkerMessage) -> Self {
        (&v).into()
    }
}

impl TryFrom<pb::WorkerMessage> for d::WorkerMessage {
    type Error = WireError;
    fn try_from(v: pb::WorkerMessage) -> Result<Self, WireError> {
        Ok(match required(v.message, "WorkerMessage.message")? {
            ToCoordinator::Hello(v) => Self::Hello(v.try_into()?),
            ToCoordinator::Heartbeat(v) => Self::Heartbeat { seq: v.seq },
            ToCoordinator::Pong(v) => Self::Pong {
                id: v.id,
                clock: convert(v.clock, "Pong.clock")?,
            },
            ToCoordinator::Appraisal(v) => Self::Appraisal {
                id: v.id,
                appraisal: match v.need {
                    Some(need) => Ok(Box::new(need.try_into()?)),
                    None => Err(v.unknown),
                },
            },
            ToCoordinator::LeaseReply(v) => Self::LeaseReply {
                leg: convert(v.leg, "LeaseReply.leg")?,
                agent: id(v.agent, "LeaseReply.agent")?,
                refused: v.refused,
            },
            ToCoordinator::Ready(v) => Self::Ready {
                leg: convert(v.leg, "ReadyVote.leg")?,
                agent: id(v.agent, "ReadyVote.agent")?,
                pin: Box::new(convert(v.pin, "ReadyVote.pin")?),
                warm_ns: v.warm_ns,
            },
            ToCoordinator::NotReady(v) => Self::NotReady {
                leg: convert(v.leg, "NotReady.leg")?,
                agent: id(v.agent, "NotReady.agent")?,
                why: convert(v.why, "NotReady.why")?,
            },
            ToCoordinator::Started(v) => Self::Started {
                leg: convert(v.leg, "AgentStarted.leg")?,
                agent: id(v.agent, "AgentStarted.agent")?,
                planned: MonoNs(v.planned_mono_ns),
                actual: MonoNs(v.actual_mono_ns),
            },
            ToCoordinator::Finished(v) => Self::Finished {
                leg: convert(v.leg, "AgentFinished.leg")?,
                agent: id(v.agent, "AgentFinished.agent")?,
                at: MonoNs(v.at_mono_ns),
                failure: v.failure.map(TryInto::try_into).transpose()?,
                records: v.records,
                sha256: v.sha256,
            },
            ToCoordinator::Idle(v) => Self::Idle {
                leg: convert(v.leg, "AgentIdle.leg")?,
                agent: id(v.agent, "AgentIdle.agent")?,
            },
        })
    }
}

impl From<&d::CoordinatorMessage> for pb::CoordinatorMessage {
    fn from(v: &d::CoordinatorMessage) -> Self {
        use d::CoordinatorMessage as M;
        Self {
            message: Some(match v {
                M::Welcome {
                    epoch,
                    heartbeat_ms,
                    fence_ms,
                } => ToWorker::Welcome(pb::Welcome {
                    epoch: *epoch,
                    heartbeat_ms: *heartbeat_ms,
                    fence_ms: *fence_ms,
                }),
                M::Refused { reason } => ToWorker::Refused(pb::Refused {
                    reason: reason.clone(),
                }),
                M::HeartbeatAck { seq } => ToWorker::HeartbeatAck(pb::HeartbeatAck { seq: *seq }),
                M::Ping { id } => ToWorker::Ping(pb::Ping { id: *id }),
                M::Appraise {
                    id,
                    agent,
                    topology,
                } => ToWorker::Appraise(pb::Appraise {
                    id: *id,
                    agent: Some(agent.as_ref().into()),
                    shared_slots: shared_slots(*topology),
                }),
                M::Reserve(v) => ToWorker::Reserve(v.as_ref().into()),
                M::Warm { leg, agent } => ToWorker::Warm(pb::Warm {
                    leg: Some(leg.into()),
                    agent: agent.to_string(),
                }),
                M::Commit {
                    leg,
                    agent,
                    start_at,
                } => ToWorker::Commit(pb::Commit {
                    leg: Some(leg.into()),
                    agent: agent.to_string(),
                    start_mono_ns: start_at.0,
                }),
                M::Release { leg, agent, reason } => ToWorker::Release(pb::Release {
                    leg: Some(leg.into()),
                    agent: agent.to_string(),
                    reason: reason.clone(),
                }),
            }),
        }
    }
}

impl From<d::CoordinatorMessage> for pb::CoordinatorMessage {
    fn from(v: d::CoordinatorMessage) -> Self {
        (&v).into()
    }
}

impl TryFrom<pb::CoordinatorMessage> for d::CoordinatorMessage {
    type Error = WireError;
    fn try_from(v: pb::CoordinatorMessage) -> Result<Self, WireError> {
        Ok(match required(v.message, "CoordinatorMessage.message")? {
            ToWorker::Welcome(v) => Self::Welcome {
                epoch: v.epoch,
                heartbeat_ms: v.heartbeat_ms,
                fence_ms: v.fence_ms,
            },
            ToWorker::Refused(v) => Self::Refused { reason: v.reason },
            ToWorker::HeartbeatAck(v) => Self::HeartbeatAck { seq: v.seq },
            ToWorker::Ping(v) => Self::Ping { id: v.id },
            ToWorker::Appraise(v) => Self::Appraise {
                id: v.id,
                agent: Box::new(convert(v.agent, "Appraise.agent")?),
                topology: topology(v.shared_slots),
            },
            ToWorker::Reserve(v) => Self::Reserve(Box::new(v.try_into()?)),
            ToWorker::Warm(v) => Self::Warm {
                leg: convert(v.leg, "Warm.leg")?,
                agent: id(v.agent, "Warm.agent")?,
            },
            ToWorker::Commit(v) => Self::Commit {
                leg: convert(v.leg, "Commit.leg")?,
                agent: id(v.agent, "Commit.agent")?,
                start_at: MonoNs(v.start_mono_ns),
            },
            ToWorker::Release(v) => Self::Release {
                leg: convert(v.leg, "Release.leg")?,
                agent: id(v.agent, "Release.agent")?,
                reason: v.reason,
            },
        })
    }
}
