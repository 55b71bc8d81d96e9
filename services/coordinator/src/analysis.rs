//! The analyzer, asked what the runs so far show.

use std::collections::BTreeSet;
use std::time::Duration;

use chimera_domain::ids::ExperimentId;
use chimera_domain::metric::Metric;
use chimera_runtime::clock;
use chimera_runtime::context::TraceInterceptor;
use chimera_wire::analysis_client::AnalysisClient;
use chimera_wire::api::{Evidence, EvidenceRequest};
use chimera_wire::pb;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::error::CoordinatorError;

/// How long an analyzer that is away or behind is waited for; a restart of it fits in.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the analyzer may wait for what we know to be in the log.
const WAIT: Duration = Duration::from_secs(10);
/// How long one answer may take: a study of thousands of runs is read again for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Largest answer: a number for each of a hundred thousand runs is far smaller.
const MAX_ANSWER: usize = 16 << 20;

/// The analyzer. Connects when it is first asked, and again when it went away.
#[derive(Debug, Clone)]
pub(crate) struct Analysis {
    client: AnalysisClient<InterceptedService<Channel, TraceInterceptor>>,
    url: String,
}

impl Analysis {
    /// # Errors
    /// When the URL is none.
    pub(crate) fn new(url: &str) -> Result<Self, CoordinatorError> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|source| {
            CoordinatorError::AnalyzerUrl {
                url: url.to_owned(),
                source,
            }
        })?;
        let channel = endpoint.connect_lazy();
        let client = AnalysisClient::with_interceptor(channel, TraceInterceptor)
            .max_decoding_message_size(MAX_ANSWER);
        Ok(Self {
            client,
            url: url.to_owned(),
        })
    }

    /// These metrics in every valid run so far, and legs that were closed as valid and do not stand up
    /// to its check, after this many verdicts: one call, answered from one reading of the records.
    ///
    /// # Errors
    /// In words, when the analyzer stays away, stays behind, or refuses.
    pub(crate) async fn evidence(
        &self,
        experiment: &ExperimentId,
        metrics: &BTreeSet<Metric>,
        verdicts: u32,
    ) -> Result<Evidence, String> {
        let request = pb::GetEvidenceRequest::from(EvidenceRequest {
            experiment: experiment.clone(),
            metrics: metrics.clone(),
            verdicts,
            wait: WAIT,
        });
        let deadline = clock::deadline(PATIENCE);
        loop {
            let status = match self.ask(request.clone()).await {
                Ok(answer) if answer.verdicts >= verdicts => return Ok(answer),
                Ok(Evidence {
                    verdicts: known, ..
                }) => Status::unavailable(format!("it has read {known} of {verdicts} verdicts")),
                Err(status) => status,
            };
            let again = matches!(
                status.code(),
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
            );
            if !again || clock::mono() >= deadline {
                return Err(format!(
                    "the analyzer at {} did not say what the runs show: {}",
                    self.url,
                    status.message()
                ));
            }
            tracing::debug!(url = %self.url, %status, "the analyzer is asked again");
            tokio::time::sleep(PAUSE).await;
        }
    }
    async fn ask(&self, request: pb::GetEvidenceRequest) -> Result<Evidence, Status> {
        let mut call = Request::new(request);
        call.set_timeout(ANSWER_LIMIT);
        let answer = self.client.clone().get_evidence(call).await?;
        Ok(Evidence::try_from(answer.into_inner())?)
    }
}
