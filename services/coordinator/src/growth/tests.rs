use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chimera_domain::control::{Invalid, InvalidReason};
use chimera_domain::ids::ExperimentId;
use chimera_domain::plan::build;
use chimera_wire::analysis_server::{self, AnalysisServer};
use chimera_wire::api::EvidenceRequest;
use chimera_wire::pb;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;
use crate::course::Course;

/// Two tests that may be repeated, and a phase that takes over the better one by another metric.
const STUDY: &str = r#"
name = "x"
model.name = "m"
backend.kind = "openai"
budget.retries_per_leg = 1
[[phase]]
scenario = "custom"
agents = 2
runs = 2
num_ctx = [512, 1024]
[phase.until]
metric = "concurrency_gain"
relative_half_width = 0.1
max_runs = 3
[[phase]]
scenario = "custom"
agents = 2
num_ctx = "best"
select = "best of previous by wall_s"
"#;

const PLAIN: &str = "name = \"x\"\nmodel.name = \"m\"\nbackend.kind = \"openai\"\n\
                     budget.retries_per_leg = 1\n\
                     [[phase]]\nscenario = \"custom\"\nagents = 2\nruns = 2\n";

fn plan(text: &str) -> Plan {
    build(&read(text).unwrap()).unwrap()
}

fn of_runs(tests: [[f64; 2]; 2]) -> Vec<RunValue> {
    let of_test = |(test, values): (u32, [f64; 2])| {
        (1..)
            .zip(values)
            .map(move |(run, value)| RunValue { test, run, value })
    };
    (1..).zip(tests).flat_map(of_test).collect()
}

fn evidence(gains: [[f64; 2]; 2]) -> Evidence {
    Evidence {
        verdicts: 0,
        metrics: BTreeMap::from([
            (Metric::ConcurrencyGain, of_runs(gains)),
            (Metric::WallS, of_runs([[9.0, 9.1], [5.0, 5.1]])),
        ]),
        refused: Vec::new(),
    }
}

const NARROW: [f64; 2] = [1.500, 1.501];
const WIDE: [f64; 2] = [1.2, 1.8];

fn refused(plan: &Plan) -> RefusedLeg {
    RefusedLeg {
        run: plan.legs[0].run_id.clone(),
        attempt: 1,
        why: Invalid {
            reason: InvalidReason::Reload,
            detail: "it loaded the model again".to_owned(),
        },
    }
}

#[test]
fn what_may_decide_is_asked_for_and_nothing_else() {
    let mut study = plan(STUDY);
    let both = BTreeSet::from([Metric::ConcurrencyGain, Metric::WallS]);
    assert_eq!(metrics(&study), both);
    // Tests that have all the runs they may have are not waited for any more.
    study.tests.iter_mut().for_each(|test| test.runs = 3);
    assert_eq!(metrics(&study), BTreeSet::from([Metric::WallS]));
    assert_eq!(metrics(&plan(PLAIN)), BTreeSet::new());
}

#[test]
fn refused_legs_come_before_repeats_and_repeats_before_the_next_phase() {
    let study = plan(STUDY);
    let mut found = evidence([WIDE, NARROW]);
    found.refused.push(refused(&study));
    let decided = decide(&study, STUDY, &found, |_| true).unwrap();
    let leg = (study.legs[0].run_id.clone(), 1);
    assert!(
        matches!(&decided[..], [(Some(about), ControlRecord::Closed { .. })] if *about == leg),
        "{decided:?}"
    );
    // No budget is left for it.
    let decided = decide(&study, STUDY, &found, |_| false).unwrap();
    let [(None, ControlRecord::Extended { why, legs, .. })] = &decided[..] else {
        panic!("{decided:?}");
    };
    assert!(matches!(why, Extension::Repeated { test: 1, .. }));
    assert_eq!(legs.len(), 3, "together and each agent alone");
    let decided = decide(&study, STUDY, &evidence([NARROW, NARROW]), |_| true).unwrap();
    let [(None, ControlRecord::Extended { why, .. })] = &decided[..] else {
        panic!("{decided:?}");
    };
    assert!(
        matches!(why, Extension::Selected { phase: 2, choice } if choice.test == 2),
        "{why:?}"
    );
}

#[test]
fn evidence_that_lacks_what_was_asked_for_decides_nothing() {
    let mut found = evidence([WIDE, NARROW]);
    found.metrics.remove(&Metric::ConcurrencyGain);
    let error = decide(&plan(STUDY), STUDY, &found, |_| true).unwrap_err();
    assert!(error.contains("concurrency_gain"), "{error}");
}

/// An analyzer that keeps what it is asked and answers the next of these.
struct Fake {
    asked: Arc<Mutex<Vec<EvidenceRequest>>>,
    answers: Mutex<Vec<Evidence>>,
}

#[tonic::async_trait]
impl analysis_server::Analysis for Fake {
    async fn get_evidence(
        &self,
        request: Request<pb::GetEvidenceRequest>,
    ) -> Result<Response<pb::Evidence>, Status> {
        let request = EvidenceRequest::try_from(request.into_inner())?;
        self.asked.lock().unwrap().push(request);
        Ok(Response::new(self.answers.lock().unwrap().remove(0).into()))
    }

    async fn get_report(
        &self,
        _: Request<pb::GetReportRequest>,
    ) -> Result<Response<pb::ReportDocument>, Status> {
        Err(Status::unimplemented("nobody asks for it"))
    }

    async fn list_reports(
        &self,
        _: Request<pb::ListReportsRequest>,
    ) -> Result<Response<pb::ListReportsResponse>, Status> {
        Err(Status::unimplemented("nobody asks for it"))
    }
}

struct Served {
    analysis: Analysis,
    asked: Arc<Mutex<Vec<EvidenceRequest>>>,
    _tasks: JoinSet<()>,
}

async fn serve(answers: Vec<Evidence>) -> Served {
    let asked = Arc::default();
    let fake = Fake {
        asked: Arc::clone(&asked),
        answers: Mutex::new(answers),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        tonic::transport::Server::builder()
            .add_service(AnalysisServer::new(fake))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    Served {
        analysis: Analysis::new(&url).unwrap(),
        asked,
        _tasks: tasks,
    }
}

fn experiment(text: &str) -> Experiment {
    let id = ExperimentId::try_new("e").unwrap();
    Experiment::new(id, text.to_owned(), Course::new(plan(text)), 100, 1)
}

#[tokio::test]
async fn a_step_is_one_call() {
    let study = experiment(STUDY);
    let mut found = evidence([NARROW, NARROW]);
    // Nothing of this leg is in the log, so that nothing of it may be tried again.
    found.refused.push(refused(&study.plan()));
    let served = serve(vec![found]).await;
    let decided = grow(&study, Some(&served.analysis)).await.unwrap();
    assert_eq!(decided.len(), 1);
    let asked = served.asked.lock().unwrap();
    let metrics: Vec<_> = asked.iter().map(|request| &request.metrics).collect();
    assert_eq!(
        metrics,
        [&BTreeSet::from([Metric::ConcurrencyGain, Metric::WallS])]
    );
}

#[tokio::test]
async fn a_final_plan_asks_for_refused_legs_alone_and_goes_on_without_an_analyzer() {
    let served = serve(vec![Evidence::default()]).await;
    let plain = experiment(PLAIN);
    assert_eq!(grow(&plain, Some(&served.analysis)).await.unwrap().len(), 0);
    assert_eq!(served.asked.lock().unwrap()[0].metrics, BTreeSet::new());
    assert_eq!(grow(&plain, None).await.unwrap().len(), 0);
    let error = grow(&experiment(STUDY), None).await.unwrap_err();
    assert!(error.contains("--analyzer URL"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_behind_is_not_used() {
    let behind = evidence([WIDE, WIDE]);
    let ahead = Evidence {
        verdicts: 12,
        ..evidence([NARROW, NARROW])
    };
    let served = serve(vec![behind, ahead.clone()]).await;
    let id = ExperimentId::try_new("e").unwrap();
    let metrics = metrics(&plan(STUDY));
    let found = served.analysis.evidence(&id, &metrics, 12).await.unwrap();
    assert_eq!(found, ahead);
    assert_eq!(served.asked.lock().unwrap().len(), 2);
}
