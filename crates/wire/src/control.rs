//! The coordinator's decisions. Experiment and run are not part of a message: they come from the
//! subject.

use std::borrow::Cow;

use chimera_domain::control as d;
use chimera_domain::ids::AgentId;
use chimera_domain::plan::{Extension, PlannedLeg, PlannedTest};
use chimera_domain::units::MonoNs;
use serde::{Deserialize, Serialize};

use crate::common::{convert, enum_twins, enumeration, id, number, required};
use crate::error::WireError;
use crate::pb;
use crate::pb::control_record::Record;
use crate::pb::experiment_outcome::Outcome;
use crate::pb::leg_verdict::Verdict;

enum_twins!(d::InvalidReason {
    NoGang,
    NoRoom,
    WorkerLost,
    LeaseLost,
    NotReady,
    StartSkew,
    RequestFailed,
    AgentFailed,
    Reload,
    PinChanged,
    DataLoss,
    Storage,
    OptionDrift,
    Truncated,
    SoloInvalid,
    Missing,
    Cancelled,
    Timeout,
    CoordinatorRestart,
});

impl From<&d::Invalid> for pb::Invalid {
    fn from(v: &d::Invalid) -> Self {
        Self {
            reason: number::<pb::InvalidReason, _>(v.reason),
            detail: v.detail.clone(),
        }
    }
}

impl TryFrom<pb::Invalid> for d::Invalid {
    type Error = WireError;
    fn try_from(v: pb::Invalid) -> Result<Self, WireError> {
        Ok(Self {
            reason: enumeration::<pb::InvalidReason, _>(v.reason, "Invalid.reason")?,
            detail: v.detail,
        })
    }
}

impl From<&d::LegVerdict> for pb::LegVerdict {
    fn from(v: &d::LegVerdict) -> Self {
        Self {
            verdict: Some(match v {
                d::LegVerdict::Valid => Verdict::Valid(pb::Nothing {}),
                d::LegVerdict::Invalid(why) => Verdict::Invalid(why.into()),
            }),
        }
    }
}

impl TryFrom<pb::LegVerdict> for d::LegVerdict {
    type Error = WireError;
    fn try_from(v: pb::LegVerdict) -> Result<Self, WireError> {
        Ok(match required(v.verdict, "LegVerdict.verdict")? {
            Verdict::Valid(pb::Nothing {}) => Self::Valid,
            Verdict::Invalid(why) => Self::Invalid(why.try_into()?),
        })
    }
}

impl From<&d::ExperimentOutcome> for pb::ExperimentOutcome {
    fn from(v: &d::ExperimentOutcome) -> Self {
        Self {
            outcome: Some(match v {
                d::ExperimentOutcome::Completed => Outcome::Completed(pb::Nothing {}),
                d::ExperimentOutcome::Cancelled => Outcome::Cancelled(pb::Nothing {}),
                d::ExperimentOutcome::Failed { detail } => Outcome::Failed(detail.clone()),
            }),
        }
    }
}

impl TryFrom<pb::ExperimentOutcome> for d::ExperimentOutcome {
    type Error = WireError;
    fn try_from(v: pb::ExperimentOutcome) -> Result<Self, WireError> {
        Ok(match required(v.outcome, "ExperimentOutcome.outcome")? {
            Outcome::Completed(pb::Nothing {}) => Self::Completed,
            Outcome::Cancelled(pb::Nothing {}) => Self::Cancelled,
            Outcome::Failed(detail) => Self::Failed { detail },
        })
    }
}

impl From<&d::Member> for pb::Member {
    fn from(v: &d::Member) -> Self {
        Self {
            agent: v.agent.to_string(),
            worker: v.worker.to_string(),
            instance: v.instance.to_string(),
            node: v.node.to_string(),
            clock: Some((&v.clock).into()),
            clock_offset_ns: v.clock_offset_ns,
            clock_error_ns: v.clock_error_ns,
        }
    }
}

impl TryFrom<pb::Member> for d::Member {
    type Error = WireError;
    fn try_from(v: pb::Member) -> Result<Self, WireError> {
        Ok(Self {
            agent: id(v.agent, "Member.agent")?,
            worker: id(v.worker, "Member.worker")?,
            instance: id(v.instance, "Member.instance")?,
            node: id(v.node, "Member.node")?,
            clock: convert(v.clock, "Member.clock")?,
            clock_offset_ns: v.clock_offset_ns,
            clock_error_ns: v.clock_error_ns,
        })
    }
}

fn start_at(agent: &AgentId, at: MonoNs) -> pb::StartAt {
    pb::StartAt {
        agent: agent.to_string(),
        start_mono_ns: at.0,
    }
}

fn from_start_at(v: pb::StartAt) -> Result<(AgentId, MonoNs), WireError> {
    Ok((id(v.agent, "StartAt.agent")?, MonoNs(v.start_mono_ns)))
}

/// Converts a list item by item.
pub(crate) fn list<P, D>(items: Vec<P>) -> Result<Vec<D>, WireError>
where
    D: TryFrom<P, Error = WireError>,
{
    items.into_iter().map(D::try_from).collect()
}

/// Converts a list of agent ids.
pub(crate) fn agents(items: Vec<String>, field: &'static str) -> Result<Vec<AgentId>, WireError> {
    items.into_iter().map(|agent| id(agent, field)).collect()
}

/// What [`pb::Extended`] carries: the parts of a plan travel as JSON, like the plan.
#[derive(Serialize, Deserialize)]
struct ExtensionDocument<'a> {
    why: Cow<'a, Extension>,
    tests: Cow<'a, [PlannedTest]>,
    legs: Cow<'a, [PlannedLeg]>,
}

/// The one conversion towards the wire that can fail: the plan travels as JSON.
impl TryFrom<&d::ControlRecord> for pb::ControlRecord {
    type Error = WireError;
    fn try_from(v: &d::ControlRecord) -> Result<Self, WireError> {
        let record = match v {
            d::ControlRecord::Submitted {
                spec_text,
                plan,
                software,
            } => Record::Submitted(pb::Submitted {
                spec_text: spec_text.clone(),
                plan_json: serde_json::to_string(plan).map_err(|source| WireError::BadJson {
                    field: "Submitted.plan_json",
                    source,
                })?,
                software: software.clone(),
            }),
            d::ControlRecord::Reserved { leg, members } => Record::Reserved(pb::Reserved {
                leg: Some(leg.into()),
                members: members.iter().map(Into::into).collect(),
            }),
            d::ControlRecord::Ready {
                agent,
                pin,
                warm_ns,
            } => Record::Ready(pb::AgentReady {
                agent: agent.to_string(),
                pin: Some(pin.into()),
                warm_ns: *warm_ns,
            }),
            d::ControlRecord::Committed {
                start_at: starts,
                queued,
            } => Record::Committed(pb::Committed {
                start_at: starts
                    .iter()
                    .map(|(agent, at)| start_at(agent, *at))
                    .collect(),
                queued: queued.iter().map(ToString::to_string).collect(),
            }),
            d::ControlRecord::Dequeued {
                agent,
                start_at: at,
            } => Record::Dequeued(pb::Dequeued {
                start_at: Some(start_at(agent, *at)),
            }),
            d::ControlRecord::Admission { admission } => Record::Admission(pb::Admission {
                admission_json: serde_json::to_string(admission).map_err(|source| {
                    WireError::BadJson {
                        field: "Admission.admission_json",
                        source,
                    }
                })?,
            }),
            d::ControlRecord::Closed { verdict } => Record::Closed(pb::Closed {
                verdict: Some(verdict.into()),
            }),
            d::ControlRecord::Extended { why, tests, legs } => Record::Extended(pb::Extended {
                extension_json: serde_json::to_string(&ExtensionDocument {
                    why: Cow::Borrowed(why),
                    tests: Cow::Borrowed(tests),
                    legs: Cow::Borrowed(legs),
                })
                .map_err(|source| WireError::BadJson {
                    field: "Extended.extension_json",
                    source,
                })?,
            }),
            d::ControlRecord::ExperimentClosed { outcome } => {
                Record::ExperimentClosed(pb::ExperimentClosed {
                    outcome: Some(outcome.into()),
                })
            }
        };
        Ok(Self {
            record: Some(record),
        })
    }
}

impl TryFrom<pb::ControlRecord> for d::ControlRecord {
    type Error = WireError;
    fn try_from(v: pb::ControlRecord) -> Result<Self, WireError> {
        Ok(match required(v.record, "ControlRecord.record")? {
            Record::Submitted(v) => Self::Submitted {
                spec_text: v.spec_text,
                plan: serde_json::from_str(&v.plan_json).map_err(|source| WireError::BadJson {
                    field: "Submitted.plan_json",
                    source,
                })?,
                software: v.software,
            },
            Record::Reserved(v) => Self::Reserved {
                leg: convert(v.leg, "Reserved.leg")?,
                members: list(v.members)?,
            },
            Record::Ready(v) => Self::Ready {
                agent: id(v.agent, "AgentReady.agent")?,
                pin: convert(v.pin, "AgentReady.pin")?,
                warm_ns: v.warm_ns,
            },
            Record::Committed(v) => Self::Committed {
                start_at: v
                    .start_at
                    .into_iter()
                    .map(from_start_at)
                    .collect::<Result<_, _>>()?,
                queued: agents(v.queued, "Committed.queued")?,
            },
            Record::Dequeued(v) => {
                let (agent, start_at) = from_start_at(required(v.start_at, "Dequeued.start_at")?)?;
                Self::Dequeued { agent, start_at }
            }
            Record::Admission(v) => Self::Admission {
                admission: serde_json::from_str(&v.admission_json).map_err(|source| {
                    WireError::BadJson {
                        field: "Admission.admission_json",
                        source,
                    }
                })?,
            },
            Record::Closed(v) => Self::Closed {
                verdict: convert(v.verdict, "Closed.verdict")?,
            },
            Record::Extended(v) => {
                let read: ExtensionDocument<'_> =
                    serde_json::from_str(&v.extension_json).map_err(|source| {
                        WireError::BadJson {
                            field: "Extended.extension_json",
                            source,
                        }
                    })?;
                Self::Extended {
                    why: read.why.into_owned(),
                    tests: read.tests.into_owned(),
                    legs: read.legs.into_owned(),
                }
            }
            Record::ExperimentClosed(v) => Self::ExperimentClosed {
                outcome: convert(v.outcome, "ExperimentClosed.outcome")?,
            },
        })
    }
}
