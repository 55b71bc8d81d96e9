//! Requests and answers of the `Control` and `Analysis` services as checked values.
//!
//! `From` goes to the generated type, `TryFrom` comes from it. Requests that name an experiment
//! and nothing else convert to and from [`ExperimentId`].

mod analysis;

use chimera_domain::control::ExperimentOutcome;
use chimera_domain::ids::ExperimentId;
use chimera_domain::session::{AgentRate, LegInWords, Progress, Tally, WorkerInfo};

use crate::common::{convert, engine_kind, engine_number, enumeration, id, number, required};
use crate::control::{agents, list};
use crate::error::WireError;
use crate::pb;

pub use analysis::{
    Evidence, EvidenceRequest, RefusedLeg, ReportDocument, ReportRequest, ReportSummary, RunValue,
};

/// The notation of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpecFormat {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

mod format {
    use crate::api;
    use crate::common::enum_twins;
    enum_twins!(api::SpecFormat { Toml, Json });
}

/// A spec as a person wrote it; not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecDocument {
    /// Its notation.
    pub format: SpecFormat,
    /// Its text.
    pub text: String,
}

/// `Control.Submit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The spec.
    pub spec: SpecDocument,
    /// Id chosen by the client, which makes a retry safe; `None`: the coordinator chooses.
    pub experiment: Option<ExperimentId>,
}

/// One line of `Control.List`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExperimentSummary {
    /// Its id.
    pub experiment: ExperimentId,
    /// Its name in the spec.
    pub name: String,
    /// Legs planned.
    pub legs_total: u32,
    /// Legs closed.
    pub legs_closed: u32,
    /// Of these, valid.
    pub legs_valid: u32,
    /// Set once it has ended.
    pub outcome: Option<ExperimentOutcome>,
}

impl From<SpecDocument> for pb::SpecDocument {
    fn from(v: SpecDocument) -> Self {
        Self {
            format: number::<pb::SpecFormat, _>(v.format),
            text: v.text,
        }
    }
}

impl TryFrom<pb::SpecDocument> for SpecDocument {
    type Error = WireError;
    fn try_from(v: pb::SpecDocument) -> Result<Self, WireError> {
        Ok(Self {
            format: enumeration::<pb::SpecFormat, _>(v.format, "SpecDocument.format")?,
            text: v.text,
        })
    }
}

impl From<Submission> for pb::SubmitRequest {
    fn from(v: Submission) -> Self {
        Self {
            spec: Some(v.spec.into()),
            experiment: v.experiment.map(Into::into),
        }
    }
}

impl TryFrom<pb::SubmitRequest> for Submission {
    type Error = WireError;
    fn try_from(v: pb::SubmitRequest) -> Result<Self, WireError> {
        Ok(Self {
            spec: convert(v.spec, "SubmitRequest.spec")?,
            experiment: v
                .experiment
                .map(|experiment| id(experiment, "SubmitRequest.experiment"))
                .transpose()?,
        })
    }
}

/// Messages that hold an experiment's id and nothing else.
macro_rules! names_an_experiment {
    ($($message:ident),+ $(,)?) => {$(
        impl From<ExperimentId> for pb::$message {
            fn from(experiment: ExperimentId) -> Self {
                Self { experiment: experiment.into() }
            }
        }

        impl TryFrom<pb::$message> for ExperimentId {
            type Error = WireError;
            fn try_from(v: pb::$message) -> Result<Self, WireError> {
                id(v.experiment, concat!(stringify!($message), ".experiment"))
            }
        }
    )+};
}
names_an_experiment!(SubmitResponse, GetRequest, WatchRequest, CancelRequest);

/// How the experiment had ended before, if it had.
impl From<Option<ExperimentOutcome>> for pb::CancelResponse {
    fn from(v: Option<ExperimentOutcome>) -> Self {
        Self {
            already: v.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::CancelResponse> for Option<ExperimentOutcome> {
    type Error = WireError;
    fn try_from(v: pb::CancelResponse) -> Result<Self, WireError> {
        v.already.map(TryInto::try_into).transpose()
    }
}

impl From<ExperimentSummary> for pb::ExperimentSummary {
    fn from(v: ExperimentSummary) -> Self {
        Self {
            experiment: v.experiment.into(),
            name: v.name,
            legs_total: v.legs_total,
            legs_closed: v.legs_closed,
            legs_valid: v.legs_valid,
            outcome: v.outcome.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::ExperimentSummary> for ExperimentSummary {
    type Error = WireError;
    fn try_from(v: pb::ExperimentSummary) -> Result<Self, WireError> {
        Ok(Self {
            experiment: id(v.experiment, "ExperimentSummary.experiment")?,
            name: v.name,
            legs_total: v.legs_total,
            legs_closed: v.legs_closed,
            legs_valid: v.legs_valid,
            outcome: v.outcome.map(TryInto::try_into).transpose()?,
        })
    }
}

impl FromIterator<ExperimentSummary> for pb::ListResponse {
    fn from_iter<I: IntoIterator<Item = ExperimentSummary>>(items: I) -> Self {
        Self {
            experiments: items.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::ListResponse> for Vec<ExperimentSummary> {
    type Error = WireError;
    fn try_from(v: pb::ListResponse) -> Result<Self, WireError> {
        list(v.experiments)
    }
}

impl From<&WorkerInfo> for pb::WorkerInfo {
    fn from(v: &WorkerInfo) -> Self {
        Self {
            worker: v.worker.to_string(),
            instance: v.instance.to_string(),
            url: v.url.clone(),
            engine: engine_number(v.engine),
            node: v.node.to_string(),
            busy_with: v.busy_with.as_ref().map(ToString::to_string),
            rtt_ns: v.rtt_ns,
        }
    }
}

impl TryFrom<pb::WorkerInfo> for WorkerInfo {
    type Error = WireError;
    fn try_from(v: pb::WorkerInfo) -> Result<Self, WireError> {
        Ok(Self {
            worker: id(v.worker, "WorkerInfo.worker")?,
            instance: id(v.instance, "WorkerInfo.instance")?,
            url: v.url,
            engine: engine_kind(v.engine, "WorkerInfo.engine")?,
            node: id(v.node, "WorkerInfo.node")?,
            busy_with: v
                .busy_with
                .map(|run| id(run, "WorkerInfo.busy_with"))
                .transpose()?,
            rtt_ns: v.rtt_ns,
        })
    }
}

impl FromIterator<WorkerInfo> for pb::WorkersResponse {
    fn from_iter<I: IntoIterator<Item = WorkerInfo>>(items: I) -> Self {
        Self {
            workers: items.into_iter().map(|worker| (&worker).into()).collect(),
        }
    }
}

impl TryFrom<pb::WorkersResponse> for Vec<WorkerInfo> {
    type Error = WireError;
    fn try_from(v: pb::WorkersResponse) -> Result<Self, WireError> {
        list(v.workers)
    }
}

impl From<&Progress> for pb::Progress {
    fn from(v: &Progress) -> Self {
        Self {
            experiment: v.experiment.to_string(),
            name: v.name.clone(),
            legs_total: v.legs_total,
            legs_closed: v.legs_closed,
            legs_valid: v.legs_valid,
            phase: v.phase.clone(),
            leg: v.leg.as_ref().map(Into::into),
            members: v.members.iter().map(Into::into).collect(),
            agents_done: v.agents_done.iter().map(ToString::to_string).collect(),
            last_invalid: v
                .last_invalid
                .as_ref()
                .map(|(run_id, invalid)| pb::InvalidLeg {
                    run_id: run_id.to_string(),
                    invalid: Some(invalid.into()),
                }),
            outcome: v.outcome.as_ref().map(Into::into),
            about: v.about.as_ref().map(Into::into),
            tally: Some((&v.tally).into()),
            rates: v.rates.iter().map(Into::into).collect(),
        }
    }
}

impl From<&LegInWords> for pb::LegInWords {
    fn from(v: &LegInWords) -> Self {
        Self {
            label: v.label.clone(),
            phase: v.phase,
            runs: v.runs,
            attempt: v.attempt,
        }
    }
}

impl From<pb::LegInWords> for LegInWords {
    fn from(v: pb::LegInWords) -> Self {
        Self {
            label: v.label,
            phase: v.phase,
            runs: v.runs,
            attempt: v.attempt,
        }
    }
}

impl From<&Tally> for pb::Tally {
    fn from(v: &Tally) -> Self {
        Self {
            phases: v.phases,
            tests: v.tests,
            tests_done: v.tests_done,
            runs: v.runs,
            runs_valid: v.runs_valid,
            runs_invalid: v.runs_invalid,
            invalid_attempts: v.invalid_attempts,
            retried: v.retried,
            elapsed_ms: v.elapsed_ms,
            left_ms: v.left_ms,
            left_at_most_ms: v.left_at_most_ms,
        }
    }
}

impl From<pb::Tally> for Tally {
    fn from(v: pb::Tally) -> Self {
        Self {
            phases: v.phases,
            tests: v.tests,
            tests_done: v.tests_done,
            runs: v.runs,
            runs_valid: v.runs_valid,
            runs_invalid: v.runs_invalid,
            invalid_attempts: v.invalid_attempts,
            retried: v.retried,
            elapsed_ms: v.elapsed_ms,
            left_ms: v.left_ms,
            left_at_most_ms: v.left_at_most_ms,
        }
    }
}

impl From<&AgentRate> for pb::AgentRate {
    fn from(v: &AgentRate) -> Self {
        Self {
            agent: v.agent.to_string(),
            tokens_per_s: v.tokens_per_s,
        }
    }
}

impl TryFrom<pb::AgentRate> for AgentRate {
    type Error = WireError;
    fn try_from(v: pb::AgentRate) -> Result<Self, WireError> {
        Ok(Self {
            agent: id(v.agent, "AgentRate.agent")?,
            tokens_per_s: v.tokens_per_s,
        })
    }
}

impl From<Progress> for pb::Progress {
    fn from(v: Progress) -> Self {
        (&v).into()
    }
}

impl TryFrom<pb::Progress> for Progress {
    type Error = WireError;
    fn try_from(v: pb::Progress) -> Result<Self, WireError> {
        Ok(Self {
            experiment: id(v.experiment, "Progress.experiment")?,
            name: v.name,
            legs_total: v.legs_total,
            legs_closed: v.legs_closed,
            legs_valid: v.legs_valid,
            phase: v.phase,
            leg: v.leg.map(TryInto::try_into).transpose()?,
            members: list(v.members)?,
            agents_done: agents(v.agents_done, "Progress.agents_done")?,
            last_invalid: v
                .last_invalid
                .map(|leg| {
                    Ok::<_, WireError>((
                        id(leg.run_id, "InvalidLeg.run_id")?,
                        convert(leg.invalid, "InvalidLeg.invalid")?,
                    ))
                })
                .transpose()?,
            outcome: v.outcome.map(TryInto::try_into).transpose()?,
            about: v.about.map(Into::into),
            tally: required(v.tally, "Progress.tally")?.into(),
            rates: list(v.rates)?,
        })
    }
}
