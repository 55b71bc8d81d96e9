//! The query API: reports of experiments that have ended, and what the runs show of one that goes
//! on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chimera_domain::control::{ControlEvent, ControlRecord, Invalid, InvalidReason, LegVerdict};
use chimera_domain::ids::{ExperimentId, RunId};
use chimera_domain::metric::Metric;
use chimera_domain::render::report_json;
use chimera_domain::report::{Environment, Report, SCHEMA_VERSION};
use chimera_runtime::clock;
use chimera_runtime::exit::chain;
use chimera_wire::api::{
    Evidence, EvidenceRequest, RefusedLeg, ReportDocument, ReportRequest, ReportSummary, RunValue,
};
use chimera_wire::pb;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::ingest::Ingest;
use crate::records::{Records, ReportError};
use crate::store::{Finished, Store};

/// Longest wait that a caller may ask for in one call; a caller that wants more calls again.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// How often the streams are read again for verdicts that are not there yet.
const POLL: Duration = Duration::from_millis(200);

/// The service.
pub(crate) struct AnalysisService {
    pub(crate) store: Arc<Store>,
    pub(crate) ingest: Ingest,
}

impl AnalysisService {
    async fn find(&self, id: &ExperimentId, wait: Duration) -> Result<Arc<Finished>, Status> {
        let waited = tokio::time::timeout(wait.min(MAX_WAIT), self.store.wait_for(id)).await;
        match waited {
            Ok(Ok(finished)) => Ok(finished),
            Ok(Err(detail)) => Err(Status::failed_precondition(detail)),
            Err(_) => Err(Status::not_found(format!(
                "no report of experiment '{id}': it is unknown here or has not ended yet"
            ))),
        }
    }

    /// The records, once they hold the verdicts that the caller knows of.
    async fn so_far(
        &self,
        experiment: &ExperimentId,
        verdicts: u32,
        wait: Duration,
    ) -> Result<Records, Status> {
        let deadline = clock::deadline(wait.min(MAX_WAIT));
        loop {
            let records = self.ingest.so_far(experiment).await;
            let records = records.map_err(|error| Status::unavailable(chain(&error)))?;
            let known = records.verdicts();
            if known >= verdicts {
                return Ok(records);
            }
            if clock::mono() >= deadline {
                return Err(Status::unavailable(format!(
                    "{known} of {verdicts} verdicts on experiment '{experiment}' are known"
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Computes off the threads that serve: a study of thousands of runs takes seconds.
async fn computed<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReportError> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| Status::not_found(chain(&error)))
}

/// What the records so far show, from one report of them.
fn evidence(records: &Records, metrics: &BTreeSet<Metric>) -> Result<Evidence, ReportError> {
    let report = records.report(&Environment::default())?;
    let metrics = metrics.iter();
    Ok(Evidence {
        verdicts: records.verdicts(),
        metrics: metrics.map(|m| (*m, values(&report, *m))).collect(),
        refused: refused(&report, &records.control),
    })
}

/// Legs that their coordinator closed as valid, in their deciding attempt, and the check does not.
fn refused(report: &Report, control: &[ControlEvent]) -> Vec<RefusedLeg> {
    let mut closed: BTreeMap<(&RunId, u32), bool> = BTreeMap::new();
    for event in control {
        if let (Some(run), ControlRecord::Closed { verdict }) = (&event.run, &event.record) {
            let valid = closed.entry((run, event.attempt)).or_insert(true);
            *valid &= *verdict == LegVerdict::Valid;
        }
    }
    let legs = report.tests.iter().flat_map(|test| &test.runs);
    let refused = legs.flat_map(|run| &run.legs).filter_map(|leg| {
        let attempt = leg.attempt?;
        let believed = closed.get(&(&leg.leg, attempt)).copied();
        let first = leg.invalid.first().filter(|_| believed == Some(true))?;
        Some(RefusedLeg {
            run: leg.leg.clone(),
            attempt,
            why: Invalid {
                reason: InvalidReason::from_label(&first.reason)?,
                detail: first.detail.clone(),
            },
        })
    });
    refused.collect()
}

/// The metric in every valid run, by rising test and run.
fn values(report: &Report, metric: Metric) -> Vec<RunValue> {
    let mut values = Vec::new();
    for test in &report.tests {
        // A report of ours numbers its tests; the text is for those that are imported.
        let Ok(id) = test.id.parse() else { continue };
        values.extend(test.runs.iter().filter_map(|run| {
            Some(RunValue {
                test: id,
                run: run.run,
                value: metric.of_run(run)?,
            })
        }));
    }
    values
}

#[tonic::async_trait]
impl chimera_wire::analysis_server::Analysis for AnalysisService {
    async fn get_report(
        &self,
        request: Request<pb::GetReportRequest>,
    ) -> Result<Response<pb::ReportDocument>, Status> {
        let request = ReportRequest::try_from(request.into_inner())?;
        let finished = self.find(&request.experiment, request.wait).await?;
        let json = report_json(&finished.report).map_err(|e| Status::internal(e.to_string()))?;
        let json = String::from_utf8(json).map_err(|e| Status::internal(e.to_string()))?;
        let schema_version = SCHEMA_VERSION.to_string();
        Ok(Response::new(
            ReportDocument {
                schema_version,
                json,
            }
            .into(),
        ))
    }

    async fn get_evidence(
        &self,
        request: Request<pb::GetEvidenceRequest>,
    ) -> Result<Response<pb::Evidence>, Status> {
        let request = EvidenceRequest::try_from(request.into_inner())?;
        let span = tracing::info_span!("analyzer.evidence.get", experiment = %request.experiment);
        let records = self
            .so_far(&request.experiment, request.verdicts, request.wait)
            .instrument(span)
            .await?;
        let found = computed(move || evidence(&records, &request.metrics)).await?;
        Ok(Response::new(found.into()))
    }

    async fn list_reports(
        &self,
        _request: Request<pb::ListReportsRequest>,
    ) -> Result<Response<pb::ListReportsResponse>, Status> {
        let all = self.store.list();
        Ok(Response::new(
            all.iter().map(|finished| summary(finished)).collect(),
        ))
    }
}

fn summary(finished: &Finished) -> ReportSummary {
    let tests = &finished.report.tests;
    ReportSummary {
        experiment: finished.report.experiment.clone(),
        name: finished.report.name.clone(),
        runs_total: tests.iter().map(|t| t.runs_attempted).sum(),
        runs_valid: tests.iter().map(|t| t.runs_valid).sum(),
    }
}

#[cfg(test)]
mod tests;
