//! What is asked of a coordinator or an analyzer that runs elsewhere.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use chimera_domain::control::ExperimentOutcome;
use chimera_domain::ids::ExperimentId;
use chimera_domain::session::{Progress, WorkerInfo};
use chimera_domain::spec::{self, SpecFormat};
use chimera_runtime::context::TraceInterceptor;
use chimera_runtime::exit::UsageError;
use chimera_wire::analysis_client::AnalysisClient;
use chimera_wire::api::{self, ExperimentSummary, ReportDocument, ReportRequest, Submission};
use chimera_wire::control_client::ControlClient;
use chimera_wire::pb;
use serde_json::json;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Instrument as _;
use url::Url;

use crate::args::{ExperimentArgs, ServerArgs, SubmitArgs};
use crate::output::{self, Reader};
use crate::progress::{ProgressView, outcome_text};
use crate::table;

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
            Code::NotFound | Code::AlreadyExists | Code::ResourceExhausted => {
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

    /// Hands a spec in.
    pub(crate) async fn submit(&self, spec: api::SpecDocument) -> anyhow::Result<ExperimentId> {
        let call = request(
            pb::SubmitRequest::from(Submission {
                spec,
                experiment: None,
            }),
            ANSWER_LIMIT,
        );
        let span = tracing::info_span!("cli.experiment.submit");
        let answer = self.answer(self.control().submit(call).instrument(span).await)?;
        Ok(ExperimentId::try_from(answer)?)
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

/// The text of a spec; `-` is standard input. Longer texts than a spec may have are cut, so that the
/// check refuses them by their length.
pub(crate) fn read_spec(path: &Path) -> anyhow::Result<String> {
    let limit = spec::MAX_TEXT_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| UsageError(format!("cannot read the spec {}: {error}", path.display())))?;
    // A cut may fall into a character; the length is the fault to be told then.
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if error.as_bytes().len() > spec::MAX_TEXT_BYTES => {
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        Err(_) => Err(UsageError(format!("{} is not UTF-8 text", path.display())).into()),
    }
}

/// Every fault of a spec, as an error that blames the person's input.
pub(crate) fn spec_faults(path: &Path, errors: &spec::SpecErrors) -> UsageError {
    let count = errors.as_slice().len() + errors.unlisted();
    let plural = if count == 1 { "" } else { "s" };
    let mut text = format!("{count} mistake{plural} in {}:", path.display());
    for line in errors.to_string().lines() {
        text.push_str("\n  ");
        text.push_str(line);
    }
    UsageError(text)
}

/// `chimera submit`.
pub(crate) async fn submit(args: &SubmitArgs, json: bool) -> anyhow::Result<()> {
    let text = read_spec(&args.spec)?;
    let notation = SpecFormat::of(&text);
    spec::parse(&text, notation).map_err(|errors| spec_faults(&args.spec, &errors))?;
    let format = match notation {
        SpecFormat::Toml => api::SpecFormat::Toml,
        SpecFormat::Json => api::SpecFormat::Json,
    };
    let client = Client::connect(args.server.url()).await?;
    let id = client.submit(api::SpecDocument { format, text }).await?;
    if json {
        return output::print_json(&json!({ "experiment": id }));
    }
    output::print(format!("{id}\n").as_bytes())?;
    output::hint(&format!("submitted; follow it with: chimera watch {id}"));
    Ok(())
}

/// `chimera list`.
pub(crate) async fn list(args: &ServerArgs, json: bool) -> anyhow::Result<()> {
    let all = Client::connect(args.url()).await?.list().await?;
    if json {
        let all: Vec<_> = all
            .iter()
            .map(|e| {
                json!({
                    "experiment": e.experiment,
                    "name": e.name,
                    "legs_total": e.legs_total,
                    "legs_closed": e.legs_closed,
                    "legs_valid": e.legs_valid,
                    "outcome": e.outcome,
                })
            })
            .collect();
        return output::print_json(&all);
    }
    if all.is_empty() {
        output::hint("no experiments yet; `chimera submit SPEC` hands one in");
        return Ok(());
    }
    let rows = all.into_iter().map(|e| {
        let state = e
            .outcome
            .as_ref()
            .map_or_else(|| "under way".to_owned(), outcome_text);
        let legs = format!("{} of {}", e.legs_closed, e.legs_total);
        vec![
            e.experiment.to_string(),
            e.name,
            legs,
            e.legs_valid.to_string(),
            state,
        ]
    });
    let text = table::plain(&["EXPERIMENT", "NAME", "LEGS", "VALID", "STATE"], rows);
    output::print(text.as_bytes()).map(|_| ())
}

/// `chimera workers`.
pub(crate) async fn workers(args: &ServerArgs, json: bool) -> anyhow::Result<()> {
    let all = Client::connect(args.url()).await?.workers().await?;
    if json {
        let all: Vec<_> = all
            .iter()
            .map(|w| {
                json!({
                    "worker": w.worker,
                    "instance": w.instance,
                    "url": Some(&w.url).filter(|url| !url.is_empty()),
                    "engine": w.engine,
                    "node": w.node,
                    "busy_with": w.busy_with,
                    "rtt_ns": w.rtt_ns,
                })
            })
            .collect();
        return output::print_json(&all);
    }
    if all.is_empty() {
        output::hint("no workers; `agent-worker --coordinator-url URL` joins one");
        return Ok(());
    }
    let rows = all.into_iter().map(|w| {
        let rtt = w
            .rtt_ns
            .map_or_else(|| "-".to_owned(), |ns| format!("{} us", ns / 1000));
        let url = if w.url.is_empty() {
            "not started yet".to_owned()
        } else {
            w.url
        };
        let busy = w
            .busy_with
            .map_or_else(|| "free".to_owned(), |run| run.to_string());
        let instance = w.instance.to_string();
        let (worker, node) = (w.worker.to_string(), w.node.to_string());
        vec![
            worker,
            node,
            instance,
            w.engine.as_str().to_owned(),
            url,
            busy,
            rtt,
        ]
    });
    let header = [
        "WORKER",
        "NODE",
        "INSTANCE",
        "ENGINE",
        "URL",
        "BUSY WITH",
        "ROUND TRIP",
    ];
    output::print(table::plain(&header, rows).as_bytes()).map(|_| ())
}

/// `chimera cancel`.
pub(crate) async fn cancel(args: &ExperimentArgs, json: bool) -> anyhow::Result<()> {
    let id = experiment_id(&args.experiment)?;
    let already = Client::connect(args.server.url())
        .await?
        .cancel(&id)
        .await?;
    if json {
        return output::print_json(&json!({ "experiment": id, "already": already }));
    }
    let text = match already {
        None => format!("{id} is being cancelled; its closed runs are kept\n"),
        Some(outcome) => format!("{id} had ended before: {}\n", outcome_text(&outcome)),
    };
    output::print(text.as_bytes()).map(|_| ())
}

/// `chimera watch`: until the experiment has ended; well if it was completed.
pub(crate) async fn watch(args: &ExperimentArgs, json: bool) -> anyhow::Result<()> {
    let id = experiment_id(&args.experiment)?;
    let client = Client::connect(args.server.url()).await?;
    let mut pictures = client.watch(&id).await?;
    let mut view = (!json).then(ProgressView::on_stdout);
    let outcome = loop {
        let Some(picture) = pictures.next().await? else {
            break None;
        };
        let reader = match &mut view {
            Some(view) => {
                view.update(&picture);
                view.reader()
            }
            None => output::print_json_line(&progress_json(&picture))?,
        };
        if reader == Reader::Gone {
            return Ok(());
        }
        if picture.outcome.is_some() {
            break picture.outcome;
        }
    };
    if let Some(view) = &mut view {
        view.finish();
    }
    match outcome {
        Some(ExperimentOutcome::Completed) => {
            output::hint(&format!("completed; read it with: chimera report {id}"));
            Ok(())
        }
        Some(other) => anyhow::bail!("the experiment was not completed: {}", outcome_text(&other)),
        None => anyhow::bail!(
            "the coordinator at {} stopped before the experiment had ended; it goes on when the \
             coordinator is back: watch it again then",
            args.server.url()
        ),
    }
}

/// A picture as NDJSON has it.
fn progress_json(p: &Progress) -> serde_json::Value {
    json!({
        "experiment": p.experiment,
        "name": p.name,
        "legs_total": p.legs_total,
        "legs_closed": p.legs_closed,
        "legs_valid": p.legs_valid,
        "phase": p.phase,
        "leg": p.leg,
        "members": p.members,
        "agents_done": p.agents_done,
        "last_invalid": p.last_invalid.as_ref().map(|(run, why)| {
            json!({ "leg": run, "reason": why.reason, "detail": why.detail })
        }),
        "outcome": p.outcome,
    })
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

    #[test]
    fn a_text_that_is_too_long_is_still_read_far_enough_to_be_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long.toml");
        std::fs::write(&path, "# é\n".repeat(100_000)).unwrap();
        let text = read_spec(&path).unwrap();
        let errors = spec::parse(&text, SpecFormat::of(&text)).unwrap_err();
        let told = spec_faults(&path, &errors).to_string();
        assert!(
            told.starts_with("1 mistake in ") && told.contains("262144"),
            "{told}"
        );
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read_spec(&path).unwrap_err().to_string().contains("UTF-8"));
    }
}
