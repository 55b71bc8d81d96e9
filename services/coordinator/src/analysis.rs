//! The analyzer, asked what the runs so far show.

use std::time::Duration;

use chimera_domain::ids::ExperimentId;
use chimera_domain::metric::Metric;
use chimera_runtime::clock;
use chimera_runtime::context::TraceInterceptor;
use chimera_wire::analysis_client::AnalysisClient;
use chimera_wire::api::{
    MetricValues, Refusals, RefusalsRequest, RefusedLeg, RunValue, ValuesRequest,
};
use chimera_wire::pb;
use futures::future::BoxFuture;
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

    /// A metric in every valid run so far, after this many verdicts.
    ///
    /// # Errors
    /// In words, when the analyzer stays away, stays behind, or refuses.
    pub(crate) async fn values(
        &self,
        experiment: &ExperimentId,
        metric: Metric,
        verdicts: u32,
    ) -> Result<Vec<RunValue>, String> {
        let request = pb::GetValuesRequest::from(ValuesRequest {
            experiment: experiment.clone(),
            metric,
            verdicts,
            wait: WAIT,
        });
        self.patiently(verdicts, || {
            let (mut client, call) = (self.client.clone(), limited(request.clone()));
            Box::pin(async move {
                let answer = client.get_values(call).await?;
                let answer = MetricValues::from(answer.into_inner());
                Ok((answer.verdicts, answer.values))
            })
        })
        .await
    }

    /// Legs that were closed as valid and do not stand up to its check, after this many verdicts.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub(crate) async fn refusals(
        &self,
        experiment: &ExperimentId,
        verdicts: u32,
    ) -> Result<Vec<RefusedLeg>, String> {
        let request = pb::GetRefusalsRequest::from(RefusalsRequest {
            experiment: experiment.clone(),
            verdicts,
            wait: WAIT,
        });
        self.patiently(verdicts, || {
            let (mut client, call) = (self.client.clone(), limited(request.clone()));
            Box::pin(async move {
                let answer = client.get_refusals(call).await?;
                let answer = Refusals::try_from(answer.into_inner())?;
                Ok((answer.verdicts, answer.legs))
            })
        })
        .await
    }

    /// Asks until the answer has taken in all verdicts.
    async fn patiently<T>(
        &self,
        verdicts: u32,
        ask: impl Fn() -> BoxFuture<'static, Result<(u32, T), Status>>,
    ) -> Result<T, String> {
        let deadline = clock::deadline(PATIENCE);
        loop {
            let status = match ask().await {
                Ok((known, answer)) if known >= verdicts => return Ok(answer),
                Ok((known, _)) => {
                    Status::unavailable(format!("it has read {known} of {verdicts} verdicts"))
                }
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
}

fn limited<T>(message: T) -> Request<T> {
    let mut call = Request::new(message);
    call.set_timeout(ANSWER_LIMIT);
    call
}
