//! Who may run, and how many at once.

use std::time::Duration;

use chimera_domain::control::{ControlRecord, ExperimentOutcome};
use chimera_domain::options::EngineKind;
use chimera_domain::units::MonoNs;
use chimera_testkit::fake_engine::Script;
use chimera_tests::process::PATIENCE;
use chimera_tests::spec::Spec;
use chimera_tests::stack::{Stack, WorkerOptions};
use chimera_tests::{gate, measured, observe, oracle};

use crate::support::{LIMIT, attach, engines, ms, reasons, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_cap_on_agents_at_once_holds_and_the_wait_is_reported() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 3, &Script::timed(ms(50), ms(5)));
    let Some(mut stack) = Stack::start("cap").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        tokens: 40,
        max_concurrent: Some(2),
        ..Spec::on("cap", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    stack.outcome(&experiment, LIMIT).await.unwrap();
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [None]);

    let control = observe::control(&stack.bus, &experiment).await.unwrap();
    let queued: Vec<_> = control
        .iter()
        .filter_map(|event| match &event.record {
            ControlRecord::Committed { queued, start_at } => Some((start_at.len(), queued.len())),
            ControlRecord::Dequeued { .. } => Some((1, 0)),
            _ => None,
        })
        .collect();
    assert_eq!(queued, [(2, 1), (1, 0)]);

    // By the engines' own stamps: from the first request of an agent to the end of its last.
    let spans: Vec<(MonoNs, MonoNs)> = engines
        .iter()
        .map(|engine| {
            let truth = engine.truth();
            let of_run = || {
                truth.iter().filter(|t| {
                    t.request_id
                        .as_deref()
                        .is_some_and(|id| id.starts_with("t1-r1-"))
                })
            };
            (
                of_run().map(|t| t.received).min().unwrap(),
                of_run().filter_map(|t| t.done).max().unwrap(),
            )
        })
        .collect();
    let most = spans
        .iter()
        .map(|(begin, _)| {
            spans
                .iter()
                .filter(|(b, e)| b <= begin && begin < e)
                .count()
        })
        .max()
        .unwrap();
    measured("cap.most_at_once", most);
    assert_eq!(most, 2);
    let first_end = spans[0].1.min(spans[1].1);
    assert!(
        spans[2].0 >= first_end,
        "the third began before a place was free"
    );

    let run = run(&report, 1);
    let waits: Vec<Option<f64>> = run.agents.iter().map(|agent| agent.queue_wait_s).collect();
    assert_eq!((waits[0], waits[1]), (None, None));
    let wait = waits[2].unwrap();
    let first_place = run.agents[0]
        .duration_s
        .unwrap()
        .min(run.agents[1].duration_s.unwrap());
    measured("cap.queue_wait_s", format!("{wait:.4}"));
    measured(
        "cap.handover_ms",
        format!("{:.3}", (wait - first_place) * 1e3),
    );
    assert!(wait >= first_place, "{wait} {first_place}");
    assert!(wait < first_place + 0.5, "{wait} {first_place}");
    let aggregate = &report.tests[0].aggregate;
    assert!((aggregate.queue_wait_s.value.unwrap() - wait).abs() < 1e-9);
    // What the cap holds back is no overhead of the harness, and none is claimed.
    assert_eq!(run.harness_overhead_ms, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_instance_serves_one_worker() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let engines = engines(kind, 1, &Script::timed(ms(10), ms(1)));
    let url = engines[0].url();
    let Some(mut stack) = Stack::start("claim").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;

    // On this host the lock says so before anything is asked of the coordinator.
    stack
        .start_worker_with("second", kind, &url, &WorkerOptions::default())
        .await
        .unwrap();
    let second = stack.worker("second").unwrap();
    assert_eq!(second.ended(PATIENCE).await.unwrap().code(), Some(1));
    let words = second.log().unwrap();
    assert!(
        words.contains("is claimed by another worker on this host"),
        "{words}"
    );
    assert!(
        words.contains("give each worker its own instance"),
        "{words}"
    );

    // A worker that cannot see the lock (another host) is refused by the coordinator, under every
    // spelling of the address.
    let apart = WorkerOptions {
        own_cache: true,
        ..WorkerOptions::default()
    };
    for (name, url) in [
        ("third", url.clone()),
        ("fourth", url.replace("127.0.0.1", "localhost")),
    ] {
        stack
            .start_worker_with(name, kind, &url, &apart)
            .await
            .unwrap();
        let refused = stack
            .worker(name)
            .unwrap()
            .says("refused; trying again", PATIENCE)
            .await
            .unwrap();
        let reason = refused["reason"].as_str().unwrap();
        assert!(reason.contains("claimed by worker 'w01'"), "{reason}");
        assert!(reason.contains("serves one worker at a time"), "{reason}");
        assert_eq!(stack.workers().await.unwrap().len(), 1);
        if name == "third" {
            stack.kill_worker(name).await.unwrap();
        }
    }

    // The one that has it works undisturbed.
    let spec = Spec::on("claim", kind, &engines);
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [None]);
    assert_eq!(
        run(&report, 1).agents[0].worker.as_ref().unwrap().as_str(),
        "w01"
    );

    // Once it is gone, whoever has waited gets it.
    stack.kill_worker("w01").await.unwrap();
    let freed = tokio::time::timeout(
        Duration::from_secs(10),
        stack.until_workers(|all| all.iter().any(|w| w.worker.as_str() == "fourth")),
    );
    freed.await.unwrap().unwrap();
}
