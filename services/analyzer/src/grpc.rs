//! The query API: reports of experiments that have ended.

use std::sync::Arc;
use std::time::Duration;

use chimera_domain::ids::ExperimentId;
use chimera_domain::render::report_json;
use chimera_domain::report::SCHEMA_VERSION;
use chimera_wire::api::{ReportDocument, ReportRequest, ReportSummary};
use chimera_wire::pb;
use tonic::{Request, Response, Status};

use crate::store::{Finished, Store};

/// Longest wait that a caller may ask for in one call; a caller that wants more calls again.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The service.
pub(crate) struct AnalysisService {
    pub(crate) store: Arc<Store>,
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
