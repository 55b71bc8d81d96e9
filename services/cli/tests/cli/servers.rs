use std::net::SocketAddr;
use std::pin::Pin;

use chimera_domain::control::{ExperimentOutcome, Invalid, InvalidReason};
use chimera_domain::ids::{ExperimentId, InstanceId, NodeId, RunId, WorkerId};
use chimera_domain::options::EngineKind;
use chimera_domain::session::{Progress, Tally, WorkerInfo};
use chimera_wire::analysis_server::{Analysis, AnalysisServer};
use chimera_wire::api::{ExperimentSummary, ReportDocument, ReportRequest, Submission};
use chimera_wire::control_server::{Control, ControlServer};
use chimera_wire::pb;
use futures::Stream;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::support::{Told, chimera, nobody, told};

/// Plays a coordinator and an analyzer with one experiment, `e-1`.
#[derive(Clone)]
struct Fake {
    outcome: Option<ExperimentOutcome>,
}

fn id(text: &str) -> ExperimentId {
    ExperimentId::try_new(text).unwrap()
}

fn known(experiment: &ExperimentId) -> Result<(), Status> {
    if experiment.as_str() == "e-1" {
        return Ok(());
    }
    Err(Status::not_found(format!(
        "no experiment '{experiment}'; `chimera list` shows those there are"
    )))
}

fn picture(closed: u32, valid: u32, phase: &str) -> Progress {
    Progress {
        experiment: id("e-1"),
        name: "e".to_owned(),
        legs_total: 3,
        legs_closed: closed,
        legs_valid: valid,
        phase: phase.to_owned(),
        leg: None,
        about: None,
        members: Vec::new(),
        agents_done: Vec::new(),
        last_invalid: None,
        tally: Tally {
            invalid_attempts: closed - valid,
            ..Tally::default()
        },
        rates: Vec::new(),
        outcome: None,
    }
}

impl Fake {
    fn pictures(&self) -> Vec<Progress> {
        let mut invalid = picture(2, 1, "t1-r1-together: closed");
        invalid.last_invalid = Some((
            RunId::try_new("t1-r1-together").unwrap(),
            Invalid {
                reason: InvalidReason::Reload,
                detail: "the model was loaded again".to_owned(),
            },
        ));
        let mut end = picture(3, 2, "ended");
        end.outcome = self.outcome.clone();
        let mut pictures = vec![
            picture(0, 0, "waiting its turn"),
            picture(1, 1, "t1-r1-together: running"),
            invalid,
        ];
        if self.outcome.is_some() {
            pictures.push(end);
        }
        pictures
    }
}

#[tonic::async_trait]
impl Control for Fake {
    async fn submit(
        &self,
        request: Request<pb::SubmitRequest>,
    ) -> Result<Response<pb::SubmitResponse>, Status> {
        assert!(
            request.metadata().contains_key("traceparent"),
            "the trace is passed on"
        );
        let submission = Submission::try_from(request.into_inner()).unwrap();
        if submission.spec.text.contains("refuse me") {
            return Err(Status::invalid_argument(
                "line 1: name: refused by the coordinator",
            ));
        }
        Ok(Response::new(id("e-1").into()))
    }

    async fn get(&self, _: Request<pb::GetRequest>) -> Result<Response<pb::Progress>, Status> {
        Err(Status::unimplemented("no command asks for it"))
    }

    async fn list(
        &self,
        _: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        let summary = ExperimentSummary {
            experiment: id("e-1"),
            name: "e".to_owned(),
            legs_total: 3,
            legs_closed: 1,
            legs_valid: 1,
            outcome: self.outcome.clone(),
        };
        Ok(Response::new([summary].into_iter().collect()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::Progress, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        known(&ExperimentId::try_from(request.into_inner()).unwrap())?;
        let pictures: Vec<_> = self.pictures().into_iter().map(|p| Ok(p.into())).collect();
        Ok(Response::new(Box::pin(futures::stream::iter(pictures))))
    }

    async fn cancel(
        &self,
        request: Request<pb::CancelRequest>,
    ) -> Result<Response<pb::CancelResponse>, Status> {
        known(&ExperimentId::try_from(request.into_inner()).unwrap())?;
        Ok(Response::new(self.outcome.clone().into()))
    }

    async fn workers(
        &self,
        _: Request<pb::WorkersRequest>,
    ) -> Result<Response<pb::WorkersResponse>, Status> {
        let worker = WorkerInfo {
            worker: WorkerId::try_new("w01").unwrap(),
            instance: InstanceId::try_new("i01").unwrap(),
            url: String::new(),
            engine: EngineKind::Openai,
            node: NodeId::try_new("node").unwrap(),
            busy_with: None,
            rtt_ns: Some(123_456),
        };
        Ok(Response::new([worker].into_iter().collect()))
    }
}

/// Larger than what gRPC clients take unless told otherwise (4 MiB).
fn large_json() -> String {
    format!(
        "{{\"schema_version\": 1, \"padding\": \"{}\"}}\n",
        "x".repeat(6 << 20)
    )
}

#[tonic::async_trait]
impl Analysis for Fake {
    async fn get_report(
        &self,
        request: Request<pb::GetReportRequest>,
    ) -> Result<Response<pb::ReportDocument>, Status> {
        known(
            &ReportRequest::try_from(request.into_inner())
                .unwrap()
                .experiment,
        )?;
        let document = ReportDocument {
            schema_version: "1".to_owned(),
            json: large_json(),
        };
        Ok(Response::new(document.into()))
    }

    async fn get_evidence(
        &self,
        _: Request<pb::GetEvidenceRequest>,
    ) -> Result<Response<pb::Evidence>, Status> {
        Err(Status::unimplemented("no command asks for it"))
    }

    async fn list_reports(
        &self,
        _: Request<pb::ListReportsRequest>,
    ) -> Result<Response<pb::ListReportsResponse>, Status> {
        Err(Status::unimplemented("no command asks for it"))
    }
}

/// Serves until dropped.
struct Served {
    url: String,
    _tasks: JoinSet<()>,
}

async fn serve(outcome: Option<ExperimentOutcome>) -> Served {
    let fake = Fake { outcome };
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        tonic::transport::Server::builder()
            .add_service(ControlServer::new(fake.clone()))
            .add_service(AnalysisServer::new(fake).max_encoding_message_size(64 << 20))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    Served { url, _tasks: tasks }
}

/// Runs the binary beside the server.
async fn ask(arguments: Vec<String>) -> Told {
    let run = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        told(&arguments)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

macro_rules! ask {
    ($($argument:expr),+ $(,)?) => { ask(vec![$($argument.to_string()),+]).await };
}

const SPEC: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/two-agents.toml"
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submitted_spec_gives_its_id_and_nothing_else() {
    let server = serve(None).await;
    let submitted = ask!("submit", SPEC, "--server", server.url).expect(0);
    assert_eq!(submitted.out, "e-1\n");
    assert!(
        submitted.err.contains("chimera watch e-1"),
        "{}",
        submitted.err
    );
    let json = ask!("submit", SPEC, "--json", "--server", server.url)
        .expect(0)
        .json();
    assert_eq!(json, serde_json::json!({ "experiment": "e-1" }));
    // What the coordinator finds is the person's mistake too.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.toml");
    let text = std::fs::read_to_string(SPEC).unwrap();
    std::fs::write(&path, format!("{text}\n# refuse me\n")).unwrap();
    let refused = ask!("submit", path.display(), "--server", server.url).expect(64);
    assert!(
        refused.err.contains("refused by the coordinator"),
        "{}",
        refused.err
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_tables_for_people_and_arrays_for_programs() {
    let server = serve(None).await;
    let list = ask!("list", "--server", server.url).expect(0).out;
    assert_eq!(
        list,
        "EXPERIMENT  NAME  LEGS    VALID  STATE\ne-1         e     1 of 3  1      under way\n"
    );
    let list = ask!("list", "--json", "--server", server.url)
        .expect(0)
        .json();
    assert_eq!(list[0]["legs_total"], 3);
    assert!(list[0]["outcome"].is_null());
    let workers = ask!("workers", "--server", server.url).expect(0).out;
    assert!(
        workers.contains("w01") && workers.contains("not started yet"),
        "{workers}"
    );
    let workers = ask!("workers", "--json", "--server", server.url)
        .expect(0)
        .json();
    assert_eq!(workers[0]["rtt_ns"], 123_456);
    assert!(workers[0]["url"].is_null() && workers[0]["busy_with"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_gives_a_line_per_change_and_the_outcome_as_exit_code() {
    let server = serve(Some(ExperimentOutcome::Completed)).await;
    let watched = ask!("watch", "e-1", "--server", server.url).expect(0);
    let shown: Vec<&str> = watched
        .out
        .lines()
        .map(|line| line.trim_start_matches(|c| c != ']' && c != 'i'))
        .collect();
    assert_eq!(
        shown,
        [
            "] 0 of 3 legs, 0 valid: waiting its turn",
            "] 1 of 3 legs, 1 valid: t1-r1-together: running",
            "invalid: t1-r1-together: reload (the model was loaded again)",
            "] 2 of 3 legs, 1 valid: t1-r1-together: closed",
            "] 3 of 3 legs, 2 valid: completed",
        ]
    );
    let lines = ask!("watch", "e-1", "--json", "--server", server.url)
        .expect(0)
        .out;
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[2]["last_invalid"]["reason"], "reload");
    assert_eq!(lines[3]["outcome"]["outcome"], "completed");

    let failed = ExperimentOutcome::Failed {
        detail: "no disk".to_owned(),
    };
    let server = serve(Some(failed)).await;
    assert!(
        ask!("watch", "e-1", "--server", server.url)
            .expect(1)
            .err
            .contains("failed: no disk")
    );
    // A coordinator that stops ends its streams without an outcome.
    let server = serve(None).await;
    let cut = ask!("watch", "e-1", "--server", server.url).expect(1);
    assert!(
        cut.err.contains("stopped before the experiment had ended"),
        "{}",
        cut.err
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_says_what_it_met() {
    let server = serve(None).await;
    let cancelled = ask!("cancel", "e-1", "--server", server.url).expect(0);
    assert!(
        cancelled.out.contains("is being cancelled"),
        "{}",
        cancelled.out
    );
    let server = serve(Some(ExperimentOutcome::Completed)).await;
    let late = ask!("cancel", "e-1", "--json", "--server", server.url)
        .expect(0)
        .json();
    assert_eq!(late["already"]["outcome"], "completed");
    let unknown = ask!("cancel", "e-2", "--server", server.url).expect(1);
    assert!(
        unknown.err.contains("`chimera list` shows"),
        "{}",
        unknown.err
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_report_comes_whole_from_the_analyzer_and_the_environment_names_it() {
    let server = serve(None).await;
    let url = server.url.clone();
    let run = move || {
        let mut command = chimera(&["report", "e-1", "--format", "json"]);
        Told::of(&command.env("CHIMERA_ANALYZER_URL", url).output().unwrap())
    };
    let report = tokio::task::spawn_blocking(run).await.unwrap().expect(0);
    assert!(report.out == large_json());
    let unknown = ask!("report", "e-2", "--analyzer", server.url).expect(1);
    assert!(
        unknown.err.contains("no experiment 'e-2'"),
        "{}",
        unknown.err
    );
    let table = ask!("report", "e-1", "--analyzer", server.url).expect(1);
    assert!(table.err.contains("no whole report"), "{}", table.err);
}

#[test]
fn a_server_that_is_away_is_named_with_the_way_out() {
    let url = nobody();
    for call in [
        &["list", "--server", &url][..],
        &["workers", "--server", &url],
        &["watch", "e-1", "--server", &url],
        &["cancel", "e-1", "--server", &url],
        &["submit", SPEC, "--server", &url],
        &["report", "e-1", "--analyzer", &url],
    ] {
        let away = told(call).expect(1);
        assert!(
            away.err.contains(&url) && away.err.contains("`chimera up`"),
            "{}",
            away.err
        );
        assert!(away.out.is_empty());
    }
}
