//! Requests and answers of the `Control` and `Analysis` services as checked values.
//!
//! `From` goes to the generated type, `TryFrom` comes from it. Requests that name an experiment
//! and nothing else convert to and from [`ExperimentId`].

use std::time::Duration;

use chimera_domain::control::{ExperimentOutcome, Invalid};
use chimera_domain::ids::{ExperimentId, RunId};
use chimera_domain::metric::Metric;
use chimera_domain::session::{AgentRate, LegInWords, Progress, Tally, WorkerInfo};

use crate::common::{convert, engine_kind, engine_number, enumeration, id, number, required};
use crate::control::{agents, list};
use crate::error::WireError;
use crate::pb;

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

/// `Analysis.GetReport`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRequest {
    /// Of which experiment.
    pub experiment: ExperimentId,
    /// How long to wait for it to be complete; whole milliseconds cross the wire.
    pub wait: Duration,
}

/// A report, as `report.json` holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportDocument {
    /// Version of the JSON's schema.
    pub schema_version: String,
    /// The report, byte for byte.
    pub json: String,
}

/// One line of `Analysis.ListReports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSummary {
    /// The experiment.
    pub experiment: ExperimentId,
    /// Its name in the spec.
    pub name: String,
    /// Runs attempted.
    pub runs_total: u32,
    /// Of these, valid.
    pub runs_valid: u32,
}

/// `Analysis.GetValues`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuesRequest {
    /// Of which experiment.
    pub experiment: ExperimentId,
    /// Which metric.
    pub metric: Metric,
    /// Verdicts on attempts at legs that the answer must have taken in.
    pub verdicts: u32,
    /// How long to wait until they are known; whole milliseconds cross the wire.
    pub wait: Duration,
}

/// One metric in every valid run so far.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricValues {
    /// Verdicts on attempts at legs that were taken in.
    pub verdicts: u32,
    /// By rising test and run; runs that are invalid or lack the metric are absent.
    pub values: Vec<RunValue>,
}

/// A metric in one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunValue {
    /// Number of the test.
    pub test: u32,
    /// Number of the run within the test, from 1.
    pub run: u32,
    /// The value, in the metric's own unit.
    pub value: f64,
}

/// `Analysis.GetRefusals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalsRequest {
    /// Of which experiment.
    pub experiment: ExperimentId,
    /// Verdicts on attempts at legs that the answer must have taken in.
    pub verdicts: u32,
    /// How long to wait until they are known; whole milliseconds cross the wire.
    pub wait: Duration,
}

/// The legs that were closed as valid and do not stand up to the check of their records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals {
    /// Verdicts on attempts at legs that were taken in.
    pub verdicts: u32,
    /// In the order of the plan.
    pub legs: Vec<RefusedLeg>,
}

/// A leg that was closed as valid, and what stands against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLeg {
    /// Which.
    pub run: RunId,
    /// Its deciding attempt.
    pub attempt: u32,
    /// The weightiest reason.
    pub why: Invalid,
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

impl From<ReportRequest> for pb::GetReportRequest {
    fn from(v: ReportRequest) -> Self {
        // A wait of over 500 million years is as good as the longest that can be said.
        let wait_ms = u64::try_from(v.wait.as_millis()).unwrap_or(u64::MAX);
        Self {
            experiment: v.experiment.into(),
            wait_ms,
        }
    }
}

impl TryFrom<pb::GetReportRequest> for ReportRequest {
    type Error = WireError;
    fn try_from(v: pb::GetReportRequest) -> Result<Self, WireError> {
        Ok(Self {
            experiment: id(v.experiment, "GetReportRequest.experiment")?,
            wait: Duration::from_millis(v.wait_ms),
        })
    }
}

impl From<ReportDocument> for pb::ReportDocument {
    fn from(v: ReportDocument) -> Self {
        Self {
            schema_version: v.schema_version,
            json: v.json,
        }
    }
}

impl From<pb::ReportDocument> for ReportDocument {
    fn from(v: pb::ReportDocument) -> Self {
        Self {
            schema_version: v.schema_version,
            json: v.json,
        }
    }
}

impl From<ReportSummary> for pb::ReportSummary {
    fn from(v: ReportSummary) -> Self {
        Self {
            experiment: v.experiment.into(),
            name: v.name,
            runs_total: v.runs_total,
            runs_valid: v.runs_valid,
        }
    }
}

impl TryFrom<pb::ReportSummary> for ReportSummary {
    type Error = WireError;
    fn try_from(v: pb::ReportSummary) -> Result<Self, WireError> {
        Ok(Self {
            experiment: id(v.experiment, "ReportSummary.experiment")?,
            name: v.name,
            runs_total: v.runs_total,
            runs_valid: v.runs_valid,
        })
    }
}

impl FromIterator<ReportSummary> for pb::ListReportsResponse {
    fn from_iter<I: IntoIterator<Item = ReportSummary>>(items: I) -> Self {
        Self {
            reports: items.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::ListReportsResponse> for Vec<ReportSummary> {
    type Error = WireError;
    fn try_from(v: pb::ListReportsResponse) -> Result<Self, WireError> {
        list(v.reports)
    }
}

impl From<ValuesRequest> for pb::GetValuesRequest {
    fn from(v: ValuesRequest) -> Self {
        Self {
            experiment: v.experiment.into(),
            metric: v.metric.name().to_owned(),
            verdicts: v.verdicts,
            wait_ms: u64::try_from(v.wait.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<pb::GetValuesRequest> for ValuesRequest {
    type Error = WireError;
    fn try_from(v: pb::GetValuesRequest) -> Result<Self, WireError> {
        let metric = Metric::from_name(&v.metric);
        Ok(Self {
            experiment: id(v.experiment, "GetValuesRequest.experiment")?,
            metric: metric.ok_or(WireError::OutOfRange {
                field: "GetValuesRequest.metric",
                why: "no metric has this name; sender and receiver may be of different versions",
            })?,
            verdicts: v.verdicts,
            wait: Duration::from_millis(v.wait_ms),
        })
    }
}

impl From<MetricValues> for pb::MetricValues {
    fn from(v: MetricValues) -> Self {
        let value = |v: RunValue| pb::RunValue {
            test: v.test,
            run: v.run,
            value: v.value,
        };
        Self {
            verdicts: v.verdicts,
            values: v.values.into_iter().map(value).collect(),
        }
    }
}

impl From<pb::MetricValues> for MetricValues {
    fn from(v: pb::MetricValues) -> Self {
        let value = |v: pb::RunValue| RunValue {
            test: v.test,
            run: v.run,
            value: v.value,
        };
        Self {
            verdicts: v.verdicts,
            values: v.values.into_iter().map(value).collect(),
        }
    }
}

impl From<RefusalsRequest> for pb::GetRefusalsRequest {
    fn from(v: RefusalsRequest) -> Self {
        Self {
            experiment: v.experiment.into(),
            verdicts: v.verdicts,
            wait_ms: u64::try_from(v.wait.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<pb::GetRefusalsRequest> for RefusalsRequest {
    type Error = WireError;
    fn try_from(v: pb::GetRefusalsRequest) -> Result<Self, WireError> {
        Ok(Self {
            experiment: id(v.experiment, "GetRefusalsRequest.experiment")?,
            verdicts: v.verdicts,
            wait: Duration::from_millis(v.wait_ms),
        })
    }
}

impl From<Refusals> for pb::Refusals {
    fn from(v: Refusals) -> Self {
        let leg = |v: RefusedLeg| pb::RefusedLeg {
            run_id: v.run.to_string(),
            attempt: v.attempt,
            why: Some((&v.why).into()),
        };
        Self {
            verdicts: v.verdicts,
            legs: v.legs.into_iter().map(leg).collect(),
        }
    }
}

impl TryFrom<pb::Refusals> for Refusals {
    type Error = WireError;
    fn try_from(v: pb::Refusals) -> Result<Self, WireError> {
        Ok(Self {
            verdicts: v.verdicts,
            legs: list(v.legs)?,
        })
    }
}

impl TryFrom<pb::RefusedLeg> for RefusedLeg {
    type Error = WireError;
    fn try_from(v: pb::RefusedLeg) -> Result<Self, WireError> {
        Ok(Self {
            run: id(v.run_id, "RefusedLeg.run_id")?,
            attempt: v.attempt,
            why: convert(v.why, "RefusedLeg.why")?,
        })
    }
}
