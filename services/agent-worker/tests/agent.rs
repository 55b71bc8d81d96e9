//! The agent loop against the scripted engine: what it emits, in which order, and how it ends.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use std::path::Path;
use std::time::Duration;

use agent_worker::LeaseEnd;
use agent_worker::agent::{AgentContext, run_agent};
use agent_worker::engine::{EngineClient, EngineConfig, Limits};
use agent_worker::workload::Aggregates;
use chimera_domain::event::{AgentFailure, AgentRecord, Output, RequestErrorKind, RequestRecord};
use chimera_domain::ids::{AgentId, ExperimentId, Role, RunId};
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::plan::{LegKind, PlannedAgent, PlannedLeg, Topology, Workload};
use chimera_domain::session::{Assignment, LegRef};
use chimera_testkit::fake_engine::{Cut, FakeConfig, FakeEngine, Fault, Script};
use tokio_util::sync::CancellationToken;

fn assignment(role: &str, kind: EngineKind) -> Assignment {
    let run = RunId::try_new("t1-r1-together").unwrap();
    Assignment {
        leg_ref: LegRef {
            experiment: ExperimentId::try_new("e1").unwrap(),
            run: run.clone(),
            attempt: 1,
            epoch: 1,
        },
        leg: PlannedLeg {
            run_id: run,
            test: 1,
            run: 1,
            kind: LegKind::Together,
        },
        agent: PlannedAgent {
            id: AgentId::try_new(role).unwrap(),
            role: Role::try_new(role).unwrap(),
            engine: kind,
            model: "fake".to_owned(),
            options: EngineOptions {
                num_predict: 8,
                ..EngineOptions::default()
            },
            instance: None,
            think_ms: 0,
        },
        workload: Workload {
            template: "tr110-report".to_owned(),
            data: None,
        },
        topology: Topology::Pinned,
        plan_seed: 42,
    }
}

fn engine(kind: EngineKind) -> FakeEngine {
    let script = Script::timed(Duration::from_millis(5), Duration::from_millis(1));
    FakeEngine::start(FakeConfig {
        script,
        ..FakeConfig::new(kind)
    })
    .unwrap()
}

async fn run(
    engine: &FakeEngine,
    assignment: &Assignment,
    data_root: Option<&Path>,
    cancel: &CancellationToken,
) -> (Vec<AgentRecord>, Result<(), AgentFailure>) {
    run_until(engine, assignment, data_root, LeaseEnd::never(), cancel).await
}

async fn run_until(
    engine: &FakeEngine,
    assignment: &Assignment,
    data_root: Option<&Path>,
    lease: LeaseEnd,
    cancel: &CancellationToken,
) -> (Vec<AgentRecord>, Result<(), AgentFailure>) {
    let agent = &assignment.agent;
    let config = EngineConfig {
        limits: Limits {
            first_byte: Duration::from_secs(5),
            gap: Duration::from_secs(5),
            ..Limits::default()
        },
        ..EngineConfig::new(
            engine.url().parse().unwrap(),
            agent.engine,
            agent.model.clone(),
            agent.options.clone(),
        )
    };
    let client = EngineClient::new(config).unwrap();
    let context = AgentContext {
        assignment,
        engine: &client,
        data_root,
        templates_dir: None,
        lease,
        cancel: cancel.clone(),
    };
    let mut records = Vec::new();
    let result = run_agent(&context, &mut |record| records.push(record)).await;
    (records, result)
}

/// One word per record.
fn outline(records: &[AgentRecord]) -> Vec<String> {
    records
        .iter()
        .map(|record| match record {
            AgentRecord::Local(step) => format!("local {}", step.step),
            AgentRecord::Request(request) => format!("request {}", request.step),
            AgentRecord::Output(output) => format!("output {}", output.name),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn outputs(records: &[AgentRecord]) -> Vec<&Output> {
    records
        .iter()
        .filter_map(|record| match record {
            AgentRecord::Output(output) => Some(output),
            _ => None,
        })
        .collect()
}

fn requests(records: &[AgentRecord]) -> Vec<&RequestRecord> {
    records
        .iter()
        .filter_map(|record| match record {
            AgentRecord::Request(request) => Some(request),
            _ => None,
        })
        .collect()
}

/// The prompt texts that the engine received.
fn prompts(engine: &FakeEngine) -> Vec<String> {
    engine
        .truth()
        .iter()
        .map(|request| {
            request.body["messages"][0]["content"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn an_agent_goes_from_data_to_report() {
    for kind in [EngineKind::Ollama, EngineKind::Openai] {
        let engine = engine(kind);
        let (records, result) = run(
            &engine,
            &assignment("collector", kind),
            None,
            &CancellationToken::new(),
        )
        .await;
        assert_eq!(result, Ok(()));
        assert_eq!(
            outline(&records),
            [
                "local scan",
                "local ingest",
                "local aggregate",
                "output aggregates",
                "local templates",
                "local prompt",
                "request analysis",
                "output analysis",
                "local prompt",
                "request report",
                "output report_text",
                "local write",
                "output report",
            ]
        );
        let out = outputs(&records);
        let aggregates: Aggregates = serde_json::from_str(&out[0].text).unwrap();
        assert_eq!((aggregates.rows, aggregates.files.len()), (264, 4));
        assert!(!out[1].text.is_empty());
        assert_eq!(out[3].media_type, "text/markdown");

        let seen = prompts(&engine);
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|prompt| prompt.starts_with("[session ")));
        let quote = out[1].text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(seen[1].contains(&quote), "{} in {}", quote, seen[1]);
        let ids: Vec<_> = requests(&records)
            .iter()
            .map(|request| request.request_id.to_string())
            .collect();
        for (id, step) in ids.iter().zip(["analysis", "report"]) {
            let readable = format!("t1-r1-together-a1-collector-{step}-");
            assert!(id.starts_with(&readable), "{id}");
            let seen = engine.truth_of(&readable).unwrap();
            assert_eq!(seen.request_id.as_deref(), Some(id.as_str()));
        }
    }
}

#[tokio::test]
async fn stamps_follow_each_other() {
    let engine = engine(EngineKind::Openai);
    let (records, _) = run(
        &engine,
        &assignment("insight", EngineKind::Openai),
        None,
        &CancellationToken::new(),
    )
    .await;
    let mut last = 0;
    for record in &records {
        match record {
            AgentRecord::Local(step) => {
                assert!(last <= step.start.0 && step.start <= step.end, "{step:?}");
                last = step.end.0;
            }
            AgentRecord::Request(request) => {
                assert!(last <= request.sent.0, "{request:?}");
                last = request.sent.0 + request.done_ns.unwrap();
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn any_role_works_and_the_report_shows_what_was_not_measured() {
    let engine = engine(EngineKind::Openai);
    let (records, result) = run(
        &engine,
        &assignment("auditor-7", EngineKind::Openai),
        None,
        &CancellationToken::new(),
    )
    .await;
    assert_eq!(result, Ok(()));
    assert!(prompts(&engine)[0].contains("You are the auditor-7"));
    let out = outputs(&records);
    let report = &out.last().unwrap().text;
    for part in [
        "# Report of auditor-7 (auditor-7)",
        "## Configuration",
        "| num_gpu | engine's default |",
        "## Data",
        "| parameter_sweep.csv | 108 | 10 |",
        "## Analysis\n\n> ",
        "## Report\n\n> ",
        "## Metrics",
        "| measure | source | analysis | report |",
        "| load | engine | not measured | not measured |",
        "| scan | ",
    ] {
        assert!(report.contains(part), "{part} in\n{report}");
    }
}

#[tokio::test]
async fn a_failed_request_ends_the_agent_and_stays_on_record() {
    let engine = engine(EngineKind::Ollama);
    engine.set_fault(Some(Fault::CutAfter {
        after: 3,
        how: Cut::Rst,
    }));
    let (records, result) = run(
        &engine,
        &assignment("collector", EngineKind::Ollama),
        None,
        &CancellationToken::new(),
    )
    .await;
    let failure = result.unwrap_err();
    assert_eq!(failure.label, "request:cut_stream");
    assert!(failure.detail.starts_with("the analysis request failed: "));
    let sent = requests(&records);
    assert_eq!(sent.len(), 1);
    assert_eq!(
        sent[0].error.as_ref().unwrap().kind,
        RequestErrorKind::CutStream
    );
    assert_eq!(outline(&records).last().unwrap(), "request analysis");
}

#[tokio::test]
async fn bad_data_and_unknown_work_end_it_before_the_engine_is_asked() {
    let engine = engine(EngineKind::Ollama);
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("empty")).unwrap();
    let mut wrong: Vec<(Assignment, Option<&Path>, &str)> = Vec::new();
    let base = assignment("collector", EngineKind::Ollama);
    let with = |data: &str| {
        let mut changed = base.clone();
        changed.workload.data = Some(data.to_owned());
        changed
    };
    wrong.push((with("empty"), Some(root.path()), "is empty"));
    wrong.push((with("../x"), Some(root.path()), "leads out of"));
    wrong.push((with("empty"), None, "without a data root"));
    let mut unknown = base.clone();
    unknown.workload.template = "other".to_owned();
    wrong.push((unknown, None, "the workload 'other' is not known"));
    for (assignment, data_root, message) in wrong {
        let (_, result) = run(&engine, &assignment, data_root, &CancellationToken::new()).await;
        let failure = result.unwrap_err();
        assert_eq!(failure.label, "data");
        assert!(failure.detail.contains(message), "{}", failure.detail);
    }
    assert!(engine.truth().is_empty());
}

#[tokio::test]
async fn a_prompt_that_cannot_fit_is_a_truncation_and_is_not_sent() {
    let engine = engine(EngineKind::Ollama);
    let mut tight = assignment("collector", EngineKind::Ollama);
    tight.agent.options.num_ctx = 64;
    let (_, result) = run(&engine, &tight, None, &CancellationToken::new()).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.label, "request:truncated");
    assert!(
        failure.detail.contains("raise num_ctx"),
        "{}",
        failure.detail
    );
    assert!(engine.truth().is_empty());
}

#[tokio::test]
async fn stopping_ends_it_before_and_during_a_request() {
    let engine = engine(EngineKind::Openai);
    let assignment = assignment("collector", EngineKind::Openai);
    let cancel = CancellationToken::new();
    cancel.cancel();
    let (records, result) = run(&engine, &assignment, None, &cancel).await;
    assert_eq!(result.unwrap_err().label, "stopped");
    assert!(records.is_empty());

    engine.set_script(Script::timed(
        Duration::from_secs(4),
        Duration::from_millis(1),
    ));
    let cancel = CancellationToken::new();
    let stop = async {
        // Until the request is under way, then at once.
        for _ in 0..2_000 {
            if !engine.truth().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cancel.cancel();
    };
    let ((records, result), ()) = tokio::join!(run(&engine, &assignment, None, &cancel), stop);
    let failure = result.unwrap_err();
    assert_eq!(failure.label, "stopped");
    assert!(failure.detail.contains("during the analysis request"));
    assert_eq!(
        requests(&records)[0].error.as_ref().unwrap().kind,
        RequestErrorKind::Cancelled
    );
}

#[tokio::test]
async fn an_agent_pauses_between_its_requests_and_no_request_holds_the_pause() {
    let engine = engine(EngineKind::Ollama);
    let mut thinks = assignment("collector", EngineKind::Ollama);
    thinks.agent.think_ms = 80;
    let (records, result) = run(&engine, &thinks, None, &CancellationToken::new()).await;
    assert_eq!(result, Ok(()));
    let order = outline(&records);
    let thought = order.iter().position(|r| r == "local think").unwrap();
    assert_eq!(
        order[thought - 2..thought + 3],
        [
            "request analysis",
            "output analysis",
            "local think",
            "local prompt",
            "request report"
        ]
    );
    let steps = |name: &str| -> Vec<_> {
        let local = records.iter().filter_map(|record| match record {
            AgentRecord::Local(step) if step.step == name => Some(step.clone()),
            _ => None,
        });
        local.collect()
    };
    let pauses = steps("think");
    assert_eq!(pauses.len(), 1, "not before the first request");
    let paused_ns = pauses[0].end.since(pauses[0].start).unwrap();
    assert!(paused_ns >= 80_000_000, "{paused_ns}");
    // By the engine's own stamps: it heard nothing for that long, and then answered at once.
    let truth = engine.truth();
    let silent_ns = truth[1].received.since(truth[0].done.unwrap()).unwrap();
    assert!(silent_ns >= 80_000_000, "{silent_ns}");
    let asked = requests(&records);
    let sent_after = asked[1].sent.since(pauses[0].end);
    assert!(sent_after.is_some(), "the pause is over before it is sent");
}

#[tokio::test]
async fn a_pause_can_be_stopped() {
    let engine = engine(EngineKind::Openai);
    let mut thinks = assignment("collector", EngineKind::Openai);
    thinks.agent.think_ms = 600_000;
    let cancel = CancellationToken::new();
    let stop = async {
        for _ in 0..2_000 {
            if engine.truth().iter().any(|request| request.done.is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        cancel.cancel();
    };
    let ((records, result), ()) = tokio::join!(run(&engine, &thinks, None, &cancel), stop);
    let failure = result.unwrap_err();
    assert_eq!(failure.label, "stopped");
    assert_eq!(requests(&records).len(), 1);
}

#[tokio::test]
async fn an_agent_whose_lease_has_run_out_asks_nothing() {
    let engine = engine(EngineKind::Ollama);
    let assignment = assignment("collector", EngineKind::Ollama);
    let over = LeaseEnd::at(chimera_runtime::clock::mono());
    let cancel = CancellationToken::new();
    let (records, result) = run_until(&engine, &assignment, None, over, &cancel).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.label, "fenced");
    assert!(
        failure.detail.contains("analysis request"),
        "{}",
        failure.detail
    );
    assert!(requests(&records).is_empty() && engine.truth().is_empty());
}
