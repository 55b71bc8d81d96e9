//! What the leg machine is given and what it wants done.

use chimera_domain::control::{ControlRecord, Invalid, LegVerdict, Member};
use chimera_domain::event::{AgentFailure, PinFacts};
use chimera_domain::ids::{AgentId, WorkerId};
use chimera_domain::units::MonoNs;

const MS: u64 = 1_000_000;

/// How long each phase may take, and how exact a start must be. All in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegLimits {
    /// From sending the reservations to the last reply.
    pub reserve_ns: u64,
    /// From sending WARM to the last ready vote; a model load fits in it.
    pub warm_ns: u64,
    /// From the start instant to the last agent's last step.
    pub run_ns: u64,
    /// From the last step to the last acknowledged record.
    pub drain_ns: u64,
    /// Largest spread between agents released together.
    pub start_skew_ns: u64,
    /// Least time between COMMIT and the start instant; ten round trips if that is more.
    pub start_lead_ns: u64,
}

impl Default for LegLimits {
    fn default() -> Self {
        Self {
            reserve_ns: 5_000 * MS,
            warm_ns: 300_000 * MS,
            run_ns: 1_800_000 * MS,
            drain_ns: 30_000 * MS,
            start_skew_ns: 10 * MS,
            start_lead_ns: 250 * MS,
        }
    }
}

/// One agent's place in the gang.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Who runs where, and how its clock relates to ours.
    pub member: Member,
    /// Best round trip to its worker, ns.
    pub rtt_ns: u64,
    /// The one GPU that the instance sees, by UUID; `None`: it sees what the host has.
    pub gpu: Option<String>,
    /// Whether the worker says what an agent takes.
    pub appraises: bool,
    /// What the agent takes, bytes; 0: it is not known. Larger ones are told to warm first.
    pub size_bytes: u64,
}

/// What the machine is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A worker answered the reservation.
    LeaseReply {
        /// Which agent.
        agent: AgentId,
        /// Why it refused; `None`: it took it.
        refused: Option<String>,
    },
    /// An instance is loaded and checked.
    Ready {
        /// Which agent.
        agent: AgentId,
        /// What the instance is.
        pin: Box<PinFacts>,
        /// How long it took.
        warm_ns: u64,
    },
    /// An instance cannot be had as asked.
    NotReady {
        /// Which agent.
        agent: AgentId,
        /// Why.
        why: Invalid,
    },
    /// An agent left the barrier.
    Started {
        /// Which agent.
        agent: AgentId,
        /// When it should have gone, on its worker's clock.
        planned: MonoNs,
        /// When it went.
        actual: MonoNs,
    },
    /// An agent's last step ended.
    Idle {
        /// Which agent.
        agent: AgentId,
    },
    /// An agent's records are all stored.
    Finished {
        /// Which agent.
        agent: AgentId,
        /// Why it failed, if it did.
        failure: Option<AgentFailure>,
    },
    /// A worker's session ended.
    WorkerLost {
        /// Which worker.
        worker: WorkerId,
        /// In words.
        detail: String,
    },
    /// A worker was silent for too long.
    LeaseLost {
        /// Which worker.
        worker: WorkerId,
        /// In words.
        detail: String,
    },
    /// Time passed.
    Tick,
    /// A person stopped it.
    Cancel,
    /// The coordinator is stopped; the next one tries the leg again.
    Shutdown,
    /// The log refused a record.
    LogFailed {
        /// In words.
        detail: String,
    },
}

/// What the machine wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Ask the agent's worker to take the work.
    Reserve(AgentId),
    /// Ask it to load and check.
    Warm(AgentId),
    /// Let it go at an instant of its own clock.
    Commit(AgentId, MonoNs),
    /// Let go of it, whatever it does.
    Release(AgentId, String),
    /// Write to the log before anything that follows is sent.
    Record(Box<ControlRecord>),
    /// The leg is over; [`ControlRecord::Closed`] was recorded.
    Close(LegVerdict),
}

impl Effect {
    pub(super) fn record(record: ControlRecord) -> Self {
        Self::Record(Box::new(record))
    }
}
