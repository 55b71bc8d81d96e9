//! What the analyzer is asked, and what it answers.

use std::time::Duration;

use chimera_domain::control::Invalid;
use chimera_domain::ids::{ExperimentId, RunId};
use chimera_domain::metric::Metric;

use crate::common::{convert, id};
use crate::control::list;
use crate::error::WireError;
use crate::pb;

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

/// A wait of over 500 million years is as good as the longest that can be said.
fn wait_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

impl From<ReportRequest> for pb::GetReportRequest {
    fn from(v: ReportRequest) -> Self {
        Self {
            experiment: v.experiment.into(),
            wait_ms: wait_ms(v.wait),
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
            wait_ms: wait_ms(v.wait),
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
            wait_ms: wait_ms(v.wait),
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
