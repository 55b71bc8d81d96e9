//! A coordinator or an analyzer that runs elsewhere, asked over gRPC.

mod commands;

use std::time::Duration;

use anyhow::Context as _;
use chimera_domain::control::ExperimentOutcome;
use chimera_domain::ids::ExperimentId;
use chimera_domain::session::{Progress, WorkerInfo};
use chimera_runtime::context::TraceInterceptor;
use chimera_runtime::exit::UsageError;
use chimera_wire::analysis_client::AnalysisClient;
use chimera_wire::api::{self, ExperimentSummary, ReportDocument, ReportRequest, Submission};
use chimera_wire::control_client::ControlClient;
use chimera_wire::pb;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Instrument as _;
use url::Url;

pub(crate) use commands::{cancel, list, submit, watch, workers};

/// A host that is there answers within that.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How often a silent stream is checked, and how long the check may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Largest answer: a report of thousands of runs fits in.
const MAX_ANSWER: usize = 64 << 20;

type Traced = InterceptedService<Channel, TraceInterceptor>;

/// Who is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Coordinator,
    Analyzer,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Analyzer => "analyzer",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Coordinator => "--server or CHIMERA_COORDINATOR_URL",
            Self::Analyzer => "--analyzer or CHIMERA_ANALYZER_URL",
        }
    }
}

/// A connection, and where it leads: every error names it.
struct Server {
    service: Service,
    url: String,
    channel: Channel,
}

impl Server {
    async fn connect(service: Service, url: &str) -> anyhow::Result<Self> {
        let name = service.name();
        let parsed = Url::parse(url)
            .ok()
            .filter(|u| u.scheme() == "http" && u.has_host());
        let Some(parsed) = parsed else {
            return Err(UsageError(format!(
                "'{url}' is no address of a {name}: give one like http://127.0.0.1:7070 with {} \
                 (TLS is left to a proxy)",
                service.option()
            ))
            .into());
        };
        let channel = Endpoint::from_shared(parsed.to_string())?
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .connect()
            .await
            .with_context(|| {
                format!(
                    "no {name} answers at {url}; is it running? `chimera up` starts one here, {} \
                     names another",
                    service.option()
                )
            })?;
        Ok(Self {
            service,
            url: url.to_owned(),
            channel,
        })
    }

    /// What a refusal means to a person.
    fn explain(&self, status: Status) -> anyhow::Error {
        let (name, url, words) = (self.service.name(), &self.url, status.message());
        match status.code() {
            Code::InvalidArgument => UsageError(words.to_owned()).into(),
            Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition => {
                anyhow::anyhow!("{words}")
            }
            Code::DeadlineExceeded | Code::Cancelled => {
                anyhow::anyhow!("the {name} at {url} did not answer in time: {words}")
            }
            Code::Unavailable => anyhow::Error::from(status).context(format!(
                "the {name} at {url} went away or is stopping; start it again and repeat"
            )),
            Code::Unimplemented => anyhow::anyhow!(
                "what answers at {url} is no {name}, or one of another version: correct {}",
                self.service.option()
            ),
            _ => anyhow::Error::from(status).context(format!("the {name} at {url} failed")),
        }
    }
}

/// A coordinator.
pub(crate) struct Client(Server);

impl Client {
    /// Connects at once, so that a wrong address is told before anything is asked.
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        Server::connect(Service::Coordinator, url).await.map(Self)
    }

    fn control(&self) -> ControlClient<Traced> {
        ControlClient::with_interceptor(self.0.channel.clone(), TraceInterceptor)
            .max_decoding_message_size(MAX_ANSWER)
    }

    fn answer<T>(&self, answer: Result<Response<T>, Status>) -> anyhow::Result<T> {
        answer
            .map(Response::into_inner)
            .map_err(|status| self.0.explain(status))
    }

    /// Hands a spec in, under a name of ours or one that the coordinator chooses.
    pub(crate) async fn submit(
        &self,
        spec: api::SpecDocument,
        experiment: Option<ExperimentId>,
    ) -> anyhow::Result<ExperimentId> {
        let submission = Submission { spec, experiment };
        let call = request(pb::SubmitRequest::from(submission), ANSWER_LIMIT);
        let span = tracing::info_span!("cli.experiment.submit");
        let answer = self.answer(self.control().submit(call).instrument(span).await)?;
        Ok(ExperimentId::try_from(answer)?)
    }

    /// How far an experiment is; `None`: the coordinator does not know it.
    pub(crate) async fn progress(
        &self,
        experiment: &ExperimentId,
    ) -> anyhow::Result<Option<Progress>> {
        let call = request(pb::GetRequest::from(experiment.clone()), ANSWER_LIMIT);
        let span = tracing::info_span!("cli.experiment.get");
        let answer = self.control().get(call).instrument(span).await;
        if matches!(&answer, Err(status) if status.code() == Code::NotFound) {
            return Ok(None);
        }
        Ok(Some(self.answer(answer)?.try_into()?))
    }

    /// All experiments.
    async fn list(&self) -> anyhow::Result<Vec<ExperimentSummary>> {
        let call = request(pb::ListRequest {}, ANSWER_LIMIT);
        let span = tracing::info_span!("cli.experiment.list");
        let answer = self.answer(self.control().list(call).instrument(span).await)?;
        Ok(answer.try_into()?)
    }

    /// All workers with a session.
    async fn workers(&self) -> anyhow::Result<Vec<WorkerInfo>> {
        let call = request(pb::WorkersRequest {}, ANSWER_LIMIT);
        let span = tracing::info_span!("cli.worker.list");
        let answer = self.answer(self.control().workers(call).instrument(span).await)?;
        Ok(answer.try_into()?)
    }

    /// Stops an experiment; how it had ended before, if it had.
    pub(crate) async fn cancel(
        &self,
        experiment: &ExperimentId,
    ) -> anyhow::Result<Option<ExperimentOutcome>> {
        let call = request(pb::CancelRequest::from(experiment.clone()), ANSWER_LIMIT);
        let span = tracing::info_span!("cli.experiment.cancel");
        let answer = self.answer(self.control().cancel(call).instrument(span).await)?;
        Ok(answer.try_into()?)
    }

    /// Follows an experiment.
    pub(crate) async fn watch(&self, experiment: &ExperimentId) -> anyhow::Result<Pictures<'_>> {
        // No limit on a stream: a server that has gone away is noticed by the keep-alive.
        let call = Request::new(pb::WatchRequest::from(experiment.clone()));
        let span = tracing::info_span!("cli.experiment.watch");
        let stream = self.answer(self.control().watch(call).instrument(span).await)?;
        Ok(Pictures {
            stream,
            server: &self.0,
        })
    }
}

/// How an experiment goes on.
pub(crate) struct Pictures<'a> {
    stream: Streaming<pb::Progress>,
    server: &'a Server,
}

impl Pictures<'_> {
    /// The next picture; `None` when the coordinator has ended the stream, which it does after the
    /// picture that holds the outcome. Cancel-safe: a message that is half read stays in the stream.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Progress>> {
        let picture = self
            .stream
            .message()
            .await
            .map_err(|status| self.server.explain(status))?;
        Ok(picture.map(Progress::try_from).transpose()?)
    }
}

fn request<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

fn experiment_id(text: &str) -> Result<ExperimentId, UsageError> {
    ExperimentId::try_new(text)
        .map_err(|error| UsageError(format!("'{text}' is no id of an experiment: {error}")))
}

/// The report of an experiment, from the analyzer.
pub(crate) async fn fetch_report(
    url: &str,
    experiment: &str,
    wait: Duration,
) -> anyhow::Result<ReportDocument> {
    let experiment = experiment_id(experiment)?;
    let server = Server::connect(Service::Analyzer, url).await?;
    let message = pb::GetReportRequest::from(ReportRequest { experiment, wait });
    let call = request(message, wait.saturating_add(ANSWER_LIMIT));
    let span = tracing::info_span!("cli.report.get");
    let mut analysis = AnalysisClient::with_interceptor(server.channel.clone(), TraceInterceptor)
        .max_decoding_message_size(MAX_ANSWER);
    let answer = analysis.get_report(call).instrument(span).await;
    Ok(answer.map_err(|s| server.explain(s))?.into_inner().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_that_cannot_be_are_the_persons_mistake() {
        for bad in ["127.0.0.1:7070", "https://host:7070", "", "http://"] {
            let error = Server::connect(Service::Coordinator, bad)
                .await
                .err()
                .unwrap();
            assert_eq!(
                chimera_runtime::exit::code(&error),
                chimera_runtime::exit::USAGE,
                "{bad}"
            );
            assert!(error.to_string().contains("--server"), "{error}");
        }
    }
}
