//! What the coordinator decides. Its log is the authority: its state is a replay of these records.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::event::PinFacts;
use crate::ids::{AgentId, ExperimentId, InstanceId, NodeId, RunId, WorkerId};
use crate::memory::admission::Admission;
use crate::plan::{Extension, Plan, PlannedLeg, PlannedTest};
use crate::units::{ClockReading, MonoNs};

/// A decision with its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlEvent {
    /// Which experiment.
    pub experiment: ExperimentId,
    /// Which leg; `None` for what concerns the whole experiment.
    pub run: Option<RunId>,
    /// Try at the leg, from 1; 0 for what concerns the whole experiment.
    pub attempt: u32,
    /// Fencing token of the coordinator that wrote it.
    pub epoch: u64,
    /// When, on the coordinator's host.
    pub at: ClockReading,
    /// What.
    pub record: ControlRecord,
}

/// What can be decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ControlRecord {
    /// An experiment was accepted; the plan is final.
    Submitted {
        /// The spec as the person wrote it.
        spec_text: String,
        /// What it unfolds to.
        plan: Plan,
        /// Version and git revision of the coordinator.
        software: String,
    },
    /// A leg's gang is complete: all or none.
    Reserved {
        /// The leg.
        leg: PlannedLeg,
        /// Who runs what. *Shape*: one per agent of the leg, in pin order.
        members: Vec<Member>,
    },
    /// An agent's instance is loaded and checked.
    Ready {
        /// Which agent.
        agent: AgentId,
        /// What its instance is.
        pin: PinFacts,
        /// How long the warm-up took on the worker's clock, ns.
        warm_ns: u64,
    },
    /// All agents were ready; this is the common start.
    Committed {
        /// Start instant, per agent on its worker's own clock; queued agents are absent.
        start_at: Vec<(AgentId, MonoNs)>,
        /// Agents held back by the cap, in the order in which they will go.
        queued: Vec<AgentId>,
    },
    /// A queued agent was let go.
    Dequeued {
        /// Which.
        agent: AgentId,
        /// Its start instant on its worker's clock.
        start_at: MonoNs,
    },
    /// Whether the gang fits in the memory that is free, before anything is reserved. Absent where the
    /// spec says that nobody asks.
    Admission {
        /// What was decided, with its figures.
        admission: Admission,
    },
    /// The leg ended. An attempt closed as valid may be closed again as invalid, if its records did
    /// not stand up to the analyzer's check; the later verdict counts.
    Closed {
        /// The coordinator's verdict. The analyzer may find more against the run, never less.
        verdict: LegVerdict,
    },
    /// The plan grew: more repeats, or a phase that waited for an earlier one.
    Extended {
        /// Why, with the evidence.
        why: Extension,
        /// Tests that are new. *Shape*: none for further repeats.
        tests: Vec<PlannedTest>,
        /// Legs that follow all that were planned before, in order.
        legs: Vec<PlannedLeg>,
    },
    /// The experiment ended.
    ExperimentClosed {
        /// How.
        outcome: ExperimentOutcome,
    },
}

/// One agent of a gang and where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The agent.
    pub agent: AgentId,
    /// Its worker.
    pub worker: WorkerId,
    /// Its instance.
    pub instance: InstanceId,
    /// The worker's host.
    pub node: NodeId,
    /// The worker's clock, read at reservation.
    pub clock: ClockReading,
    /// Coordinator's monotonic clock minus the worker's, ns; 0 within one boot.
    pub clock_offset_ns: i64,
    /// Half the round trip of the best ping: the bound on the offset's error, ns. 0 within one boot.
    pub clock_error_ns: u64,
}

/// Valid, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum LegVerdict {
    /// Nothing against it.
    Valid,
    /// It may not enter any average.
    Invalid(Invalid),
}

/// Why a leg or a run is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalid {
    /// Closed label.
    pub reason: InvalidReason,
    /// In words: which agent, which figure, which limit.
    pub detail: String,
}

/// The closed set of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidReason {
    /// Not enough free workers within the limit.
    NoGang,
    /// Its agents need more memory than is free, within the limit.
    NoRoom,
    /// A worker's session ended.
    WorkerLost,
    /// A worker's lease ran out (no heartbeat).
    LeaseLost,
    /// An instance could not be loaded or is not what was asked for.
    NotReady,
    /// An agent started too far from its instant.
    StartSkew,
    /// An agent failed on a request.
    RequestFailed,
    /// An agent failed outside its requests.
    AgentFailed,
    /// The engine loaded the model again during the run.
    Reload,
    /// The instance is another one, or loaded otherwise, than before the run.
    PinChanged,
    /// Records are missing, disagree with their hash, or cannot be decoded.
    DataLoss,
    /// A record could not be stored.
    Storage,
    /// Options sent differ from options planned.
    OptionDrift,
    /// The engine cut the prompt or the context.
    Truncated,
    /// A solo leg of the run is invalid.
    SoloInvalid,
    /// A leg of the run was never executed.
    Missing,
    /// Stopped by a person.
    Cancelled,
    /// A phase took longer than its limit.
    Timeout,
    /// The coordinator restarted during the leg.
    CoordinatorRestart,
}

impl InvalidReason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 19] = [
        Self::NoGang,
        Self::NoRoom,
        Self::WorkerLost,
        Self::LeaseLost,
        Self::NotReady,
        Self::StartSkew,
        Self::RequestFailed,
        Self::AgentFailed,
        Self::Reload,
        Self::PinChanged,
        Self::DataLoss,
        Self::Storage,
        Self::OptionDrift,
        Self::Truncated,
        Self::SoloInvalid,
        Self::Missing,
        Self::Cancelled,
        Self::Timeout,
        Self::CoordinatorRestart,
    ];

    /// The reason of this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == label)
    }

    /// The label used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoGang => "no_gang",
            Self::NoRoom => "no_room",
            Self::WorkerLost => "worker_lost",
            Self::LeaseLost => "lease_lost",
            Self::NotReady => "not_ready",
            Self::StartSkew => "start_skew",
            Self::RequestFailed => "request_failed",
            Self::AgentFailed => "agent_failed",
            Self::Reload => "reload",
            Self::PinChanged => "pin_changed",
            Self::DataLoss => "data_loss",
            Self::Storage => "storage",
            Self::OptionDrift => "option_drift",
            Self::Truncated => "truncated",
            Self::SoloInvalid => "solo_invalid",
            Self::Missing => "missing",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::CoordinatorRestart => "coordinator_restart",
        }
    }
}

/// How an experiment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ExperimentOutcome {
    /// Every leg was executed.
    Completed,
    /// A person stopped it.
    Cancelled,
    /// It could not go on.
    Failed {
        /// Why.
        detail: String,
    },
}

/// The log as if its plan had been known from the start: every submission holds the plan with all
/// extensions of its experiment taken in.
///
/// *Shape*: the same records in the same order; only submissions may differ. Extensions count in
/// the order of the log, which is by epoch, then by the coordinator's clock, whatever order they
/// are given in.
#[must_use]
pub fn grown(log: &[ControlEvent]) -> Cow<'_, [ControlEvent]> {
    let mut extensions: Vec<&ControlEvent> = log
        .iter()
        .filter(|event| matches!(event.record, ControlRecord::Extended { .. }))
        .collect();
    if extensions.is_empty() {
        return Cow::Borrowed(log);
    }
    extensions.sort_by_key(|event| (event.epoch, event.at.mono_ns));
    let mut log = log.to_vec();
    for event in &mut log {
        let ControlRecord::Submitted { plan, .. } = &mut event.record else {
            continue;
        };
        for extension in &extensions {
            if extension.experiment == event.experiment
                && let ControlRecord::Extended { why, tests, legs } = &extension.record
            {
                plan.extend(why, tests, legs);
            }
        }
    }
    Cow::Owned(log)
}
