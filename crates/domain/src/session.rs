//! What a worker and the coordinator say to each other on the worker's session (gRPC).
//!
//! Every command carries the leg, the attempt and the epoch; a worker obeys none whose epoch is
//! lower than the highest it has seen.

use crate::control::{Invalid, Member};
use crate::event::{AgentFailure, PinFacts};
use crate::ids::{AgentId, ExperimentId, InstanceId, NodeId, RunId, WorkerId};
use crate::memory::admission::Appraisal;
use crate::options::EngineKind;
use crate::plan::{PlannedAgent, PlannedLeg, Topology, Workload};
use crate::units::{ClockReading, MonoNs};

/// Names one attempt at one leg under one coordinator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegRef {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The leg.
    pub run: RunId,
    /// The try, from 1.
    pub attempt: u32,
    /// The coordinator's fencing token.
    pub epoch: u64,
}

/// A worker introduces itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// The worker's name.
    pub worker: WorkerId,
    /// The instance it owns. Claimed exclusively by this session.
    pub instance: InstanceId,
    /// Base URL of the instance; empty while a spawned engine has not been started yet.
    pub url: String,
    /// The wire protocol of the instance.
    pub engine: EngineKind,
    /// The worker's host.
    pub node: NodeId,
    /// The worker's clock.
    pub clock: ClockReading,
    /// Version and git revision.
    pub software: String,
    /// The one GPU that its engine sees, by UUID; `None`: it sees what the host has.
    pub gpu: Option<String>,
    /// Whether it answers [`CoordinatorMessage::Appraise`].
    pub appraises: bool,
}

/// The work of one agent in one leg.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The attempt.
    pub leg_ref: LegRef,
    /// The leg.
    pub leg: PlannedLeg,
    /// The agent to run.
    pub agent: PlannedAgent,
    /// What it works on.
    pub workload: Workload,
    /// Whether the instance is the agent's alone.
    pub topology: Topology,
    /// Seed of the plan; with the leg, agent and step it gives the prompt's nonce.
    pub plan_seed: u64,
}

/// Worker to coordinator.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerMessage {
    /// First message of a session.
    Hello(Hello),
    /// Sent every heartbeat interval; renews the lease.
    Heartbeat {
        /// Counts from 1.
        seq: u64,
    },
    /// Answer to a ping.
    Pong {
        /// The ping's number.
        id: u64,
        /// The worker's clock on receipt.
        clock: ClockReading,
    },
    /// What an agent would take here.
    Appraisal {
        /// The question's number.
        id: u64,
        /// `Err`: why that is not known, in words.
        appraisal: Result<Box<Appraisal>, String>,
    },
    /// Answer to a reservation.
    LeaseReply {
        /// Which leg.
        leg: LegRef,
        /// Which agent.
        agent: AgentId,
        /// `None`: taken. Else why not.
        refused: Option<String>,
    },
    /// The instance is loaded, checked and warm.
    Ready {
        /// Which leg.
        leg: LegRef,
        /// Which agent.
        agent: AgentId,
        /// What the instance is.
        pin: Box<PinFacts>,
        /// How long warming took, ns.
        warm_ns: u64,
    },
    /// It cannot be had as asked.
    NotReady {
        /// Which leg.
        leg: LegRef,
        /// Which agent.
        agent: AgentId,
        /// Why.
        why: Invalid,
    },
    /// The agent left the barrier.
    Started {
        /// Which leg.
        leg: LegRef,
        /// Which agent.
        agent: AgentId,
        /// The instant it was given.
        planned: MonoNs,
        /// The instant it went.
        actual: MonoNs,
    },
    /// The agent ended and all its records are acknowledged by the bus.
    Finished {
        /// Which leg.
        leg: LegRef,
        /// Which agent.
        agent: AgentId,
        /// The instant its last step ended.
        at: MonoNs,
        /// `None` if all went well.
        failure: Option<AgentFailure>,
        /// Records between begin and end.
        records: u64,
        /// As in the stream's end record.
        sha256: String,
    },
    /// The agent's last step ended, its records may still be on their way. Frees its place under
    /// the cap.
    Idle {
        /// Which leg.
        leg: LegRef,
        /// Which agent.
        agent: AgentId,
    },
}

/// Coordinator to worker.
#[derive(Debug, Clone, PartialEq)]
pub enum CoordinatorMessage {
    /// The session stands.
    Welcome {
        /// The coordinator's epoch.
        epoch: u64,
        /// How often to send a heartbeat, ms.
        heartbeat_ms: u64,
        /// Without an acknowledged heartbeat for this long the worker stops by itself, ms.
        fence_ms: u64,
    },
    /// The session is refused and closed.
    Refused {
        /// Why, for a person.
        reason: String,
    },
    /// Renewal of the lease.
    HeartbeatAck {
        /// The heartbeat's number.
        seq: u64,
    },
    /// Clock exchange; answer at once.
    Ping {
        /// Number of the ping.
        id: u64,
    },
    /// Say what an agent would take here. Nothing is loaded or claimed for it.
    Appraise {
        /// Number of the question.
        id: u64,
        /// The agent.
        agent: Box<PlannedAgent>,
        /// Whether the instance would be the agent's alone.
        topology: Topology,
    },
    /// Take this work and claim the instance for it.
    Reserve(Box<Assignment>),
    /// Load and check.
    Warm {
        /// Which leg.
        leg: LegRef,
        /// Which of its agents the worker runs.
        agent: AgentId,
    },
    /// Go at this instant of your own clock.
    Commit {
        /// Which leg.
        leg: LegRef,
        /// Which of its agents the worker runs.
        agent: AgentId,
        /// When.
        start_at: MonoNs,
    },
    /// Stop what you do for this leg and let go of it. Safe to repeat.
    Release {
        /// Which leg.
        leg: LegRef,
        /// Which of its agents the worker runs.
        agent: AgentId,
        /// Why.
        reason: String,
    },
}

/// A worker as the control API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerInfo {
    /// Who.
    pub worker: WorkerId,
    /// Its instance.
    pub instance: InstanceId,
    /// URL of the instance.
    pub url: String,
    /// Protocol.
    pub engine: EngineKind,
    /// Host.
    pub node: NodeId,
    /// The leg it holds.
    pub busy_with: Option<RunId>,
    /// Best round trip seen, ns.
    pub rtt_ns: Option<u64>,
}

/// Progress of an experiment, as `watch` streams it and `get` returns it.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The experiment.
    pub experiment: ExperimentId,
    /// Its name in the spec.
    pub name: String,
    /// Legs planned.
    pub legs_total: u32,
    /// Legs closed.
    pub legs_closed: u32,
    /// Of these, valid.
    pub legs_valid: u32,
    /// What happens now, in words (`t1-r2-together: running`).
    pub phase: String,
    /// The leg under way.
    pub leg: Option<PlannedLeg>,
    /// What a person wants to know of it. `None`: no leg is under way.
    pub about: Option<LegInWords>,
    /// Who is in it.
    pub members: Vec<Member>,
    /// Agents of the leg that have ended.
    pub agents_done: Vec<AgentId>,
    /// Verdict of the leg just closed: `None` while it runs, or if it is valid.
    pub last_invalid: Option<(RunId, Invalid)>,
    /// How far the study is.
    pub tally: Tally,
    /// How fast the agents of the last leg that ended well wrote. Empty: not known.
    pub rates: Vec<AgentRate>,
    /// Set once the experiment has ended.
    pub outcome: Option<crate::control::ExperimentOutcome>,
}

/// What a person wants to know of a leg beside its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegInWords {
    /// Label of its test.
    pub label: String,
    /// Phase of the study that its test belongs to, from 1.
    pub phase: u32,
    /// Runs that its test has, as far as they are planned.
    pub runs: u32,
    /// The try at the leg, from 1.
    pub attempt: u32,
}

/// How far a study is, counted over its whole life, whoever drove it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Phases of the study.
    pub phases: u32,
    /// Tests, those of later phases included.
    pub tests: u32,
    /// Tests whose legs are all closed.
    pub tests_done: u32,
    /// Runs planned, as far as they are known.
    pub runs: u32,
    /// Runs whose legs are all closed as valid.
    pub runs_valid: u32,
    /// Runs of which a leg stays invalid.
    pub runs_invalid: u32,
    /// Attempts at legs that were closed as invalid, those given up for a later one included.
    pub invalid_attempts: u32,
    /// Of these, attempts after which the leg was tried again.
    pub retried: u32,
    /// Time for which a coordinator has driven it, ms.
    pub elapsed_ms: u64,
    /// Time that the legs left will take if they take as long as their likes did, ms.
    ///
    /// *Undefined when* no leg of a kind that is left has been measured, or it has ended.
    pub left_ms: Option<u64>,
    /// The same if every test whose interval is watched is repeated as often as it may be, ms.
    ///
    /// *Undefined when* `left_ms` is, or no test may be repeated any more.
    pub left_at_most_ms: Option<u64>,
}

/// How fast an agent wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRate {
    /// Which agent.
    pub agent: AgentId,
    /// Its output tokens over the time of its work, 1/s.
    pub tokens_per_s: f64,
}
