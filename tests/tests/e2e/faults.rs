//! Engines that fail: each failure by its own name, in its own run, and never as a success.

use std::time::Duration;

use chimera_domain::control::ExperimentOutcome;
use chimera_domain::event::RequestErrorKind as Class;
use chimera_domain::options::EngineKind;
use chimera_domain::report::Reason;
use chimera_testkit::fake_engine::{Cut, Ended, Fault, Script};
use chimera_tests::spec::Spec;
use chimera_tests::stack::{Stack, WorkerOptions};
use chimera_tests::{gate, measured, oracle};

use crate::support::{LIMIT, attach, engines, ms, reasons, run, until, worker};

fn faults() -> Vec<(Fault, Class)> {
    let status = |status, body: &str| Fault::Status {
        status,
        body: body.to_owned(),
    };
    let error_line = |after| Fault::ErrorLine {
        after,
        message: "CUDA out of memory".to_owned(),
    };
    vec![
        (
            status(503, r#"{"error":"server busy, please try again"}"#),
            Class::Status,
        ),
        (
            status(404, r#"{"error":"model 'fake' not found"}"#),
            Class::ModelNotFound,
        ),
        (Fault::CloseBeforeHead, Class::Connect),
        (Fault::HangBeforeHead, Class::FirstByteTimeout),
        (Fault::HangAfter { after: 3 }, Class::GapTimeout),
        (error_line(3), Class::StreamError),
        (
            Fault::CutAfter {
                after: 3,
                how: Cut::Rst,
            },
            Class::CutStream,
        ),
        (
            Fault::CutAfter {
                after: 3,
                how: Cut::Fin,
            },
            Class::CutStream,
        ),
        (Fault::EofWithoutDone { after: 3 }, Class::NoDone),
        (Fault::TwoDone, Class::AfterDone),
        (Fault::Garbage { after: 3 }, Class::Malformed),
        (Fault::BadUtf8 { after: 3 }, Class::Malformed),
        (
            Fault::LongLine {
                after: 3,
                bytes: 9 << 20,
            },
            Class::LineTooLong,
        ),
    ]
}

/// Requests with which a worker warms: an engine that states load durations is asked twice.
fn warm_requests(kind: EngineKind) -> usize {
    match kind {
        EngineKind::Ollama => 2,
        EngineKind::Openai => 1,
    }
}

/// Odd runs meet a fault, even ones do not.
async fn every_fault_costs_its_run(test: &str, kind: EngineKind) {
    let _shared = gate::shared().await;
    let engines = engines(kind, 2, &Script::timed(ms(10), ms(1)));
    let Some(mut stack) = Stack::start_with(test, &["--start-lead", "20ms"])
        .await
        .unwrap()
    else {
        return;
    };
    let limits = ["--gap-limit", "400ms", "--first-byte-limit", "800ms"].map(str::to_owned);
    let options = WorkerOptions {
        args: limits.to_vec(),
        ..WorkerOptions::default()
    };
    for (index, engine) in engines.iter().enumerate() {
        stack
            .start_worker_with(&worker(index), kind, &engine.url(), &options)
            .await
            .unwrap();
    }
    stack.until_workers(|all| all.len() == 2).await.unwrap();
    let faults = faults();
    let (sick, well) = (&engines[0], &engines[1]);
    for (index, (fault, _)) in faults.iter().enumerate() {
        // The first or the second of the agent's two requests.
        let good_before = warm_requests(kind) + index % 2;
        (0..good_before).for_each(|_| sick.fault_next(None));
        sick.fault_next(Some(fault.clone()));
        (0..warm_requests(kind) + 2).for_each(|_| sick.fault_next(None));
    }
    let runs = u32::try_from(2 * faults.len()).unwrap();
    let spec = Spec {
        runs,
        ..Spec::on(test, kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    assert_eq!(
        stack.outcome(&experiment, LIMIT).await.unwrap(),
        ExperimentOutcome::Completed
    );
    // Among others: nothing is reported as a success that the engine did not end as one.
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();

    for (number, (fault, class)) in (1_u32..).step_by(2).zip(&faults) {
        let bad = run(&report, number);
        let what = format!("{} {fault:?}: {:?}", kind.as_str(), bad.invalid);
        assert_eq!(
            bad.invalid_reason.as_deref(),
            Some("request_failed"),
            "{what}"
        );
        // The coordinator's word and the analyzer's own finding both name agent and class.
        let named = |text: &str| text.contains("collector") && text.contains(class.as_str());
        assert!(
            bad.invalid.iter().filter(|why| named(&why.detail)).count() >= 2,
            "{what}"
        );
        let agent = &bad.agents[0];
        let failed: Vec<_> = agent
            .requests
            .iter()
            .filter_map(|r| r.error.as_ref())
            .collect();
        assert_eq!(failed.len(), 1, "{what}");
        assert_eq!(failed[0].kind, *class, "{what}");
        assert_eq!(bad.concurrency_gain, None, "{what}");
        // Asked once: a retry would be another measurement under the same name.
        let of_run = |t: &&chimera_testkit::fake_engine::RequestTruth| {
            t.request_id
                .as_deref()
                .is_some_and(|id| id.starts_with(&format!("t1-r{number}-")))
        };
        let asked: Vec<_> = sick.truth().iter().filter(of_run).cloned().collect();
        assert_eq!(asked.len(), agent.requests.len(), "{what}");
        assert_ne!(asked.last().unwrap().ended, Ended::Whole, "{what}");
        assert!(well.truth().iter().filter(of_run).count() <= 2, "{what}");
    }
    for number in (2..=runs).step_by(2) {
        let good = run(&report, number);
        assert!(good.valid, "run {number}: {:?}", good.invalid);
    }
    let test = &report.tests[0];
    assert_eq!((test.runs_valid, test.runs_attempted), (runs / 2, runs));
    assert_eq!(test.aggregate.tr110_speedup.n, runs / 2);
    measured(
        &format!("engine_faults.{}.classes", kind.as_str()),
        faults.len(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_engine_fault_costs_its_run_ollama() {
    every_fault_costs_its_run("faults-ollama", EngineKind::Ollama).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_engine_fault_costs_its_run_openai() {
    every_fault_costs_its_run("faults-openai", EngineKind::Openai).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_during_the_run_makes_it_invalid() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let script = Script {
        load: Duration::from_secs(2),
        ..Script::timed(ms(100), ms(10))
    };
    let engines = engines(kind, 2, &script);
    let Some(mut stack) = Stack::start("reload").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: 3,
        tokens: 40,
        ..Spec::on("reload", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    // While the first request of run 2 is answered, the model is thrown out: the second one loads
    // it again. Nothing fails; it only takes two seconds more.
    let analysis = "t1-r2-together-a1-collector-analysis";
    until(|| engines[0].truth_of(analysis).is_some()).await;
    engines[0].unload();
    stack.outcome(&experiment, LIMIT).await.unwrap();
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [None, Some("reload"), None]);
    let bad = run(&report, 2);
    // The request says so; a look at the engine may have met it without a model, too.
    assert!(
        bad.invalid.iter().all(|why| why.reason == "reload"),
        "{:?}",
        bad.invalid
    );
    let said = |why: &Reason| why.detail.contains("collector, report");
    assert!(bad.invalid.iter().any(said), "{:?}", bad.invalid);
    let load = bad.agents[0].requests[1].load_ms.unwrap();
    measured("reload.load_ms", load);
    assert!((load - 2000.0).abs() < 1e-6, "{load}");
    assert!(
        engines[0]
            .truth_of("t1-r2-together-a1-collector-report")
            .unwrap()
            .loaded
    );
    // The load of the very first warm-up was asked for, and counts against nobody.
    assert!(report.tests[0].runs[0].valid);
}
