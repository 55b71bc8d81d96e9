//! Processes and connections that stand still, and go on later.

use std::time::Duration;

use chimera_domain::control::{ControlRecord, ExperimentOutcome, InvalidReason, LegVerdict};
use chimera_domain::options::EngineKind;
use chimera_runtime::clock;
use chimera_testkit::fake_engine::{RequestTruth, Script};
use chimera_tests::proxy::Proxy;
use chimera_tests::spec::Spec;
use chimera_tests::stack::{Stack, WorkerOptions};
use chimera_tests::{gate, measured, observe, oracle};
use rustix::process::Signal;

use crate::support::{LIMIT, attach, engines, ms, reasons, run, until, worker};

fn of_run<'a>(truth: &'a [RequestTruth], run: &'a str) -> impl Iterator<Item = &'a RequestTruth> {
    truth.iter().filter(move |t| {
        t.request_id
            .as_deref()
            .is_some_and(|id| id.starts_with(run))
    })
}

/// The hard case: the answer that was under way is whole in the socket when the worker wakes up, so
/// the agent could go on to its next request before anyone tells it that its lease is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn frozen_worker_loses_its_lease_and_asks_nothing_afterwards() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let engines = engines(kind, 2, &Script::timed(ms(100), ms(30)));
    let Some(mut stack) = Stack::start("frozen-worker").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: 2,
        tokens: 30,
        ..Spec::on("frozen-worker", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    let first = "t1-r1-together-a1-insight-analysis";
    until(|| {
        engines[1]
            .truth_of(first)
            .is_some_and(|t| t.tokens.len() >= 3)
    })
    .await;

    stack.worker("w02").unwrap().signal(Signal::STOP).unwrap();
    let frozen = clock::mono();
    let (close, verdict) = observe::until_closed(&stack.bus, &experiment, "t1-r1-together", LIMIT)
        .await
        .unwrap();
    let LegVerdict::Invalid(why) = verdict else {
        panic!("valid")
    };
    assert_eq!(why.reason, InvalidReason::LeaseLost, "{}", why.detail);
    let took = Duration::from_nanos(close.at.mono_ns.since(frozen).unwrap());
    measured("frozen_worker.invalid_after_ms", took.as_millis());
    // A lease of 5 s, renewed at most 1 s before the freeze.
    assert!(
        took > ms(3_500) && took < Duration::from_secs(7),
        "{took:?}"
    );

    // The fault itself lasts 8 s.
    clock::sleep_until(frozen.plus(8_000_000_000)).await;
    assert!(
        engines[1].truth_of(first).unwrap().done.is_some(),
        "the answer is whole in the socket"
    );
    let thawed = clock::mono();
    stack.worker("w02").unwrap().signal(Signal::CONT).unwrap();

    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [Some("lease_lost"), None]);
    let late: Vec<_> = of_run(&engines[1].truth(), "t1-r1-")
        .filter(|t| t.received > thawed)
        .map(|t| t.request_id.clone())
        .collect();
    measured("frozen_worker.requests_after_resume", late.len());
    assert!(
        late.is_empty(),
        "asked for the old leg after the resume: {late:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_commit_that_comes_late_is_a_start_skew() {
    const HELD_MS: u64 = 300;
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let engines = engines(kind, 2, &Script::timed(ms(150), ms(1)));
    let Some(mut stack) = Stack::start("start-skew").await.unwrap() else {
        return;
    };
    let proxy = Proxy::start(stack.coordinator_address()).await.unwrap();
    for (index, engine) in engines.iter().enumerate() {
        let through = (index == 1).then(|| proxy.address());
        let options = WorkerOptions {
            through,
            ..WorkerOptions::default()
        };
        stack
            .start_worker_with(&worker(index), kind, &engine.url(), &options)
            .await
            .unwrap();
    }
    stack.until_workers(|all| all.len() == 2).await.unwrap();
    // Above the noise of a busy machine, below what is held.
    let spec = Spec {
        runs: 2,
        start_skew_ms: 100,
        ..Spec::on("start-skew", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();

    // The worker was told to warm and has begun; the next word to it will be the commit.
    until(|| !engines[1].truth().is_empty()).await;
    proxy.hold();
    let committed = observe::until_committed(&stack.bus, &experiment, "t1-r1-together", LIMIT)
        .await
        .unwrap();
    let ControlRecord::Committed { start_at, .. } = committed.record else {
        panic!()
    };
    let (_, instant) = start_at
        .iter()
        .find(|(agent, _)| agent.as_str() == "insight")
        .unwrap();
    // One boot, one clock: the worker's instants are ours. The fault lasts this long.
    clock::sleep_until(instant.plus(HELD_MS * 1_000_000)).await;
    proxy.release();

    stack.outcome(&experiment, LIMIT).await.unwrap();
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [Some("start_skew"), None]);
    let bad = run(&report, 1);
    let skew = bad.start_skew_ms.unwrap();
    measured("start_skew.held_ms", HELD_MS);
    measured("start_skew.reported_ms", format!("{skew:.3}"));
    assert!(skew >= 250.0, "{skew}");
    // Said by the coordinator from the agents' own words and found again in the records.
    assert_eq!(
        bad.invalid
            .iter()
            .filter(|why| why.reason == "start_skew")
            .count(),
        2
    );
    // As the engines saw it: the first request of one came that much later than of the other.
    let sent = |index: usize| {
        of_run(&engines[index].truth(), "t1-r1-")
            .map(|t| t.received)
            .min()
            .unwrap()
    };
    assert!(sent(1).since(sent(0)).unwrap() >= 250_000_000);
}
