//! Processes that die without a word (kill -9) in the middle of a run, and come back.

use std::collections::BTreeSet;
use std::time::Duration;

use chimera_domain::control::{ControlRecord, ExperimentOutcome, InvalidReason, LegVerdict};
use chimera_domain::event::AgentRecord;
use chimera_domain::ids::{AgentId, AgentKey, ExperimentId, RunId};
use chimera_domain::options::EngineKind;
use chimera_runtime::clock;
use chimera_testkit::fake_engine::Script;
use chimera_tests::spec::Spec;
use chimera_tests::stack::Stack;
use chimera_tests::{gate, measured, observe, oracle};
use chimera_wire::subject::{Filter, StreamName, Subject, msg_id_agent};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::{LIMIT, attach, engines, ms, reasons, run, until};

/// Tokens and times of a request long enough to be struck in its middle: half a second.
fn slow() -> Script {
    Script::timed(ms(100), ms(10))
}
const TOKENS: u32 = 40;

/// The reason of an invalid verdict.
fn reason(verdict: &LegVerdict) -> Option<(InvalidReason, &str)> {
    match verdict {
        LegVerdict::Valid => None,
        LegVerdict::Invalid(why) => Some((why.reason, &why.detail)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn killed_worker_costs_its_run_and_no_other() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let engines = engines(kind, 2, &slow());
    let Some(mut stack) = Stack::start("killed-worker").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: 3,
        tokens: TOKENS,
        ..Spec::on("killed-worker", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();

    // In the middle of the second request: the first one is on the bus.
    observe::until_record(
        &stack.bus,
        &experiment,
        "request of the worker",
        LIMIT,
        |event| {
            event.key.agent.as_str() == "insight" && matches!(event.record, AgentRecord::Request(_))
        },
    )
    .await
    .unwrap();
    let killed = clock::mono();
    stack.kill_worker("w02").await.unwrap();
    let (close, verdict) = observe::until_closed(&stack.bus, &experiment, "t1-r1-together", LIMIT)
        .await
        .unwrap();
    let (why, detail) = reason(&verdict).unwrap();
    assert_eq!(why, InvalidReason::WorkerLost, "{detail}");
    assert!(
        detail.contains("w02") && detail.contains("insight"),
        "{detail}"
    );
    let took = Duration::from_nanos(close.at.mono_ns.since(killed).unwrap());
    measured("killed_worker.invalid_after_ms", took.as_millis());
    assert!(took < Duration::from_secs(6), "{took:?}");

    // The same name on the same instance: the dead one holds neither any more.
    stack
        .start_worker("w02", kind, &engines[1].url())
        .await
        .unwrap();
    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [Some("worker_lost"), None, None]);

    // The survivor was told to stop: its request was cut, not played to its end.
    let cut = engines[0]
        .truth()
        .iter()
        .filter(|t| is_measured_in(t, "t1-r1-"))
        .count();
    assert!(cut <= 2, "{cut} requests");
    // Only valid runs are counted, and it is said how many of how many those are.
    let test = &report.tests[0];
    assert_eq!(
        (test.runs_valid, test.runs_attempted, test.runs_planned),
        (2, 3, 3)
    );
    assert_eq!(test.aggregate.tr110_speedup.n, 2);
    let mean = (2..=3)
        .map(|n| run(&report, n).tr110_speedup.unwrap())
        .sum::<f64>()
        / 2.0;
    assert!((test.aggregate.tr110_speedup.value.unwrap() - mean).abs() < 1e-9);
    assert_eq!(run(&report, 1).tr110_speedup, None);
    let folder = stack.bundle(&experiment);
    let summary = std::fs::read_to_string(folder.join(&test.folder).join("summary.md")).unwrap();
    assert!(summary.contains("2 valid of 3 attempted"), "{summary}");
    let markdown = std::fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(markdown.contains("2 of 3"), "{markdown}");
}

fn is_measured_in(truth: &chimera_testkit::fake_engine::RequestTruth, run: &str) -> bool {
    truth
        .request_id
        .as_deref()
        .is_some_and(|id| id.starts_with(run))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn killed_nats_loses_nothing_that_was_acknowledged() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 2, &slow());
    let Some(mut stack) = Stack::start("killed-nats").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: 2,
        tokens: TOKENS,
        ..Spec::on("killed-nats", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();

    // A writer of our own beside the workers, so that acknowledgements come at every moment.
    let stop = CancellationToken::new();
    let mut writers = tokio::task::JoinSet::new();
    writers.spawn(write_until(
        stack.nats.connect("writer").await.unwrap(),
        stop.clone(),
    ));

    observe::until_record(&stack.bus, &experiment, "first request", LIMIT, |event| {
        matches!(event.record, AgentRecord::Request(_))
    })
    .await
    .unwrap();
    stack.nats.kill9().await.unwrap();
    // Long enough for the second request's records to meet a bus that is away.
    let killed = clock::mono();
    until(|| {
        engines
            .iter()
            .all(|e| e.truth().iter().filter(|t| t.done.is_some()).count() >= 3)
    })
    .await;
    stack.nats.restart().await.unwrap();
    measured("killed_nats.away_ms", clock::elapsed(killed).as_millis());

    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    stop.cancel();
    let (written, acknowledged) = writers.join_next().await.unwrap().unwrap();
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(
        reasons(&report),
        [None, None],
        "the spools drained, so the runs are valid"
    );
    assert_eq!(report.validity.streams_complete, report.validity.streams);
    assert_eq!(report.validity.streams_hash_checked, 2 * 2);

    // Of our own writer: whatever it saw acknowledged is there.
    let filter = Filter::EvOf(experiment_id("foreign"));
    let stored = observe::stored(&stack.bus, StreamName::Ev, &filter)
        .await
        .unwrap();
    let stored: BTreeSet<String> = stored.into_iter().filter_map(|m| m.msg_id).collect();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    measured("killed_nats.writer_written", written);
    measured("killed_nats.writer_acknowledged", acknowledged.len());
    measured("killed_nats.writer_lost", lost.len());
    assert!(lost.is_empty(), "{lost:?}");
    assert!(acknowledged.len() > 20, "the writer did not write");
    // Of the workers: by their own word.
    let streams = observe::agent_streams(&stack.bus, &experiment)
        .await
        .unwrap();
    let mut count = 0;
    for name in ["w01", "w02"] {
        for (subject, n) in worker_acknowledged(&stack.worker(name).unwrap().log().unwrap()) {
            let Ok(Subject::Ev(key)) = subject.parse() else {
                panic!("{subject}")
            };
            let stream = streams.iter().find(|((k, _), _)| *k == key).unwrap().1;
            assert!(
                stream.records.contains_key(&n),
                "{subject} {n} was acknowledged and is lost"
            );
            count += 1;
        }
    }
    measured("killed_nats.workers_acknowledged", count);
    let total: usize = streams.values().map(|stream| stream.records.len()).sum();
    assert_eq!(count, total, "every record was acknowledged in the end");
    // Spools go once a leg is closed.
    for name in ["w01", "w02"] {
        let spool = stack.dir().join("workers").join(name).join("spool");
        until(|| std::fs::read_dir(&spool).unwrap().next().is_none()).await;
    }
}

fn experiment_id(text: &str) -> ExperimentId {
    ExperimentId::try_new(text).unwrap()
}

/// Publishes records of an experiment that nobody knows, one after the other; how many it tried and
/// which of them were acknowledged.
async fn write_until(
    bus: chimera_runtime::bus::Bus,
    stop: CancellationToken,
) -> (u64, BTreeSet<String>) {
    let publisher = bus.publisher(Duration::from_secs(30), CancellationToken::new());
    let key = AgentKey {
        experiment: experiment_id("foreign"),
        run: RunId::try_new("r").unwrap(),
        attempt: 1,
        agent: AgentId::try_new("a").unwrap(),
    };
    let subject = Subject::Ev(key.clone());
    let mut acknowledged = BTreeSet::new();
    let mut n = 0;
    while !stop.is_cancelled() {
        let id = msg_id_agent(&key, n);
        let payload = format!("record {n} of nobody").into_bytes();
        if publisher
            .publish(&subject, &id, payload.into())
            .await
            .is_ok()
        {
            acknowledged.insert(id);
        }
        n += 1;
        tokio::time::sleep(ms(2)).await;
    }
    (n, acknowledged)
}

/// Subject and number of every record that a worker's log says was acknowledged.
fn worker_acknowledged(log: &str) -> Vec<(String, u64)> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "acknowledged")
        .map(|line| {
            (
                line["subject"].as_str().unwrap().to_owned(),
                line["n"].as_u64().unwrap(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn killed_coordinator_closes_what_was_open_and_goes_on() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let engines = engines(kind, 2, &slow());
    let Some(mut stack) = Stack::start("killed-coordinator").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: 3,
        tokens: TOKENS,
        ..Spec::on("killed-coordinator", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();

    // While the second run runs: the first one is closed, the third not begun.
    observe::until_record(
        &stack.bus,
        &experiment,
        "request of run 2",
        LIMIT,
        |event| {
            event.key.run.as_str() == "t1-r2-together"
                && matches!(event.record, AgentRecord::Request(_))
        },
    )
    .await
    .unwrap();
    let killed = clock::mono();
    stack.kill_coordinator().await.unwrap();
    stack.start_coordinator().await.unwrap();
    measured(
        "killed_coordinator.back_after_ms",
        clock::elapsed(killed).as_millis(),
    );

    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(
        reasons(&report),
        [None, None, None],
        "run 2 was tried again"
    );
    let legs = &run(&report, 2).legs;
    assert_eq!(legs[0].attempt, Some(2));
    let earlier = legs[0].earlier[0].invalid.as_ref().unwrap();
    assert_eq!(earlier.reason, "coordinator_restart");
    let test = &report.tests[0];
    assert_eq!((test.runs_valid, test.runs_attempted), (3, 4));

    let control = observe::control(&stack.bus, &experiment).await.unwrap();
    let epochs = |run: &str, attempt: u32, wanted: fn(&ControlRecord) -> bool| -> Vec<u64> {
        let of_attempt = control.iter().filter(|event| {
            event.run.as_ref().is_some_and(|id| id.as_str() == run) && event.attempt == attempt
        });
        let wanted = of_attempt.filter(|event| wanted(&event.record));
        wanted.map(|event| event.epoch).collect()
    };
    let commits = |run, attempt| {
        epochs(run, attempt, |r| {
            matches!(r, ControlRecord::Committed { .. })
        })
    };
    let closes = |run, attempt| epochs(run, attempt, |r| matches!(r, ControlRecord::Closed { .. }));
    let (before, after) = (
        commits("t1-r1-together", 1)[0],
        commits("t1-r3-together", 1)[0],
    );
    assert!(after > before, "the epoch rises: {before}, {after}");
    assert_eq!(
        commits("t1-r2-together", 1),
        [before],
        "attempt 1 was started once, by the first coordinator"
    );
    assert_eq!(
        closes("t1-r2-together", 1),
        [after],
        "and closed by the second"
    );
    assert_eq!(commits("t1-r2-together", 2), [after]);
    assert_eq!(closes("t1-r2-together", 2), [after]);
    // The workers obeyed nobody meanwhile: what ran for attempt 1 was cut, and asked for again by
    // attempt 2 alone, in two requests each.
    for engine in &engines {
        let asked = engine
            .truth()
            .iter()
            .filter(|t| is_measured_in(t, "t1-r2-"))
            .count();
        assert!((2..=4).contains(&asked), "{asked} requests for run 2");
    }
}
