//! What the analyzer is asked, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
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

/// `Analysis.GetEvidence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRequest {
    /// Of which experiment.
    pub experiment: ExperimentId,
    /// Which metrics. Empty: only the legs are asked for.
    pub metrics: BTreeSet<Metric>,
    /// Verdicts on attempts at legs that the answer must have taken in.
    pub verdicts: u32,
    /// How long to wait until they are known; whole milliseconds cross the wire.
    pub wait: Duration,
}

/// What the runs so far show, all of it as of the same records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Verdicts on attempts at legs that were taken in.
    pub verdicts: u32,
    /// The metrics asked for. *Shape*: by rising test and run; runs that are invalid or lack the
    /// metric are absent.
    pub metrics: BTreeMap<Metric, Vec<RunValue>>,
    /// Legs that were closed as valid and do not stand up to the check, in the order of the plan.
    pub refused: Vec<RefusedLeg>,
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

impl From<EvidenceRequest> for pb::GetEvidenceRequest {
    fn from(v: EvidenceRequest) -> Self {
        Self {
            experiment: v.experiment.into(),
            metrics: v.metrics.iter().map(|m| m.name().to_owned()).collect(),
            verdicts: v.verdicts,
            wait_ms: wait_ms(v.wait),
        }
    }
}

impl TryFrom<pb::GetEvidenceRequest> for EvidenceRequest {
    type Error = WireError;
    fn try_from(v: pb::GetEvidenceRequest) -> Result<Self, WireError> {
        let metrics = v.metrics.iter();
        Ok(Self {
            experiment: id(v.experiment, "GetEvidenceRequest.experiment")?,
            metrics: metrics
                .map(|name| metric(name, "GetEvidenceRequest.metrics"))
                .collect::<Result<_, _>>()?,
            verdicts: v.verdicts,
            wait: Duration::from_millis(v.wait_ms),
        })
    }
}

fn metric(name: &str, field: &'static str) -> Result<Metric, WireError> {
    Metric::from_name(name).ok_or(WireError::OutOfRange {
        field,
        why: "no metric has this name; sender and receiver may be of different versions",
    })
}

impl From<Evidence> for pb::Evidence {
    fn from(v: Evidence) -> Self {
        let value = |v: RunValue| pb::RunValue {
            test: v.test,
            run: v.run,
            value: v.value,
        };
        let leg = |v: RefusedLeg| pb::RefusedLeg {
            run_id: v.run.to_string(),
            attempt: v.attempt,
            why: Some((&v.why).into()),
        };
        let metrics = v.metrics.into_iter();
        Self {
            verdicts: v.verdicts,
            metrics: metrics
                .map(|(metric, values)| pb::MetricValues {
                    metric: metric.name().to_owned(),
                    values: values.into_iter().map(value).collect(),
                })
                .collect(),
            refused: v.refused.into_iter().map(leg).collect(),
        }
    }
}

impl TryFrom<pb::Evidence> for Evidence {
    type Error = WireError;
    fn try_from(v: pb::Evidence) -> Result<Self, WireError> {
        let value = |v: pb::RunValue| RunValue {
            test: v.test,
            run: v.run,
            value: v.value,
        };
        let mut metrics = BTreeMap::new();
        for found in v.metrics {
            let values = found.values.into_iter().map(value).collect();
            metrics.insert(metric(&found.metric, "MetricValues.metric")?, values);
        }
        Ok(Self {
            verdicts: v.verdicts,
            metrics,
            refused: list(v.refused)?,
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
