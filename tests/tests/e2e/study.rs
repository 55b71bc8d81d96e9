//! Studies: what is tried again, what is stopped, and what is refused before it begins.

use std::collections::BTreeMap;
use std::time::Duration;

use chimera_domain::control::{ControlEvent, ControlRecord, ExperimentOutcome, LegVerdict};
use chimera_domain::ids::{AgentKey, RunId};
use chimera_domain::options::EngineKind;
use chimera_domain::report::OutcomeState;
use chimera_runtime::clock;
use chimera_testkit::fake_engine::{Fault, Script};
use chimera_tests::spec::Spec;
use chimera_tests::stack::Stack;
use chimera_tests::{gate, observe, oracle};
use chimera_wire::subject::{Filter, StreamName, Subject};
use tokio_util::sync::CancellationToken;

use crate::support::{LIMIT, attach, engines, ms, reasons, run};

pub(crate) fn broken() -> Fault {
    Fault::Status {
        status: 500,
        body: r#"{"error":"out of memory"}"#.to_owned(),
    }
}

fn budget(spec: &Spec, lines: &str) -> String {
    format!("{}\n[budget]\n{lines}\n", spec.toml())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_retry_makes_a_leg_valid_and_is_counted() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 1, &Script::timed(ms(10), ms(1)));
    let Some(mut stack) = Stack::start("study-retry").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    // One request warms; the first that counts fails. Once.
    engines[0].fault_next(None);
    engines[0].fault_next(Some(broken()));
    let spec = Spec {
        runs: 2,
        ..Spec::on("study-retry", kind, &engines)
    };
    let spec = budget(&spec, "retries_per_leg = 2\ncool_down_s = 1");
    let begun = clock::mono();
    let experiment = stack.submit(&spec).await.unwrap();
    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    // A pause before the second attempt and one before the second run.
    assert!(clock::elapsed(begun) >= Duration::from_secs(2));
    let progress = stack.progress(&experiment).await.unwrap();
    let tally = &progress.tally;
    assert_eq!((tally.invalid_attempts, tally.retried), (1, 1));
    assert_eq!(
        (tally.runs, tally.runs_valid, tally.runs_invalid),
        (2, 2, 0)
    );
    assert_eq!((tally.tests, tally.tests_done), (1, 1));
    assert!(tally.elapsed_ms >= 2_000, "{tally:?}");
    let rate = &progress.rates[0];
    assert!(rate.tokens_per_s > 1.0, "{rate:?}");

    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [None, None]);
    let test = &report.tests[0];
    assert_eq!((test.runs_valid, test.runs_attempted), (2, 3));
    let leg = &run(&report, 1).legs[0];
    assert_eq!(leg.attempt, Some(2));
    let why = leg.earlier[0].invalid.as_ref().unwrap();
    assert_eq!(why.reason, "request_failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hopeless_experiment_is_stopped_with_reason_and_remedy() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 1, &Script::timed(ms(10), ms(1)));
    let Some(mut stack) = Stack::start("study-hopeless").await.unwrap() else {
        return;
    };
    let spec = Spec {
        runs: 9,
        ..Spec::on("study-hopeless", kind, &engines)
    };
    let failed = |outcome: ExperimentOutcome| match outcome {
        ExperimentOutcome::Failed { detail } => detail,
        other => panic!("{other:?}"),
    };

    // Nobody is there to do it.
    let alone = budget(&spec, "consecutive_failures = 2");
    let alone = alone.replace("[limits]\n", "[limits]\ngang_wait_s = 1\n");
    let experiment = stack.submit(&alone).await.unwrap();
    let detail = failed(stack.outcome(&experiment, LIMIT).await.unwrap());
    for part in ["2 attempts", "no_gang", "start the workers"] {
        assert!(detail.contains(part), "{detail}");
    }

    // The engine fails whatever it is asked.
    attach(&mut stack, kind, &engines).await;
    engines[0].set_fault(Some(broken()));
    let row = budget(&spec, "retries_per_leg = 1\nconsecutive_failures = 3");
    let experiment = stack.submit(&row).await.unwrap();
    let detail = failed(stack.outcome(&experiment, LIMIT).await.unwrap());
    assert!(detail.contains("the last 3 attempts"), "{detail}");
    assert!(detail.contains("budget.consecutive_failures"), "{detail}");
    let report = stack.report(&experiment).await.unwrap();
    assert_eq!(report.outcome.state, OutcomeState::Failed);
    assert_eq!(report.outcome.detail.as_deref(), Some(detail.as_str()));
    let control = observe::control(&stack.bus, &experiment).await.unwrap();
    assert_eq!(verdicts(&control).values().map(Vec::len).sum::<usize>(), 3);

    let legs = budget(&spec, "failures = 1");
    let experiment = stack.submit(&legs).await.unwrap();
    let detail = failed(stack.outcome(&experiment, LIMIT).await.unwrap());
    assert!(detail.contains("2 legs stay invalid and 1 may"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_leg_that_only_the_analyzer_refuses_is_tried_again_too() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 1, &Script::timed(ms(50), ms(5)));
    let Some(mut stack) = Stack::start("study-refused").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: 2,
        tokens: 20,
        ..Spec::on("study-refused", kind, &engines)
    };
    let spec = budget(&spec, "retries_per_leg = 1");
    let experiment = stack.submit(&spec).await.unwrap();
    let committed = observe::until_committed(&stack.bus, &experiment, "t1-r1-together", LIMIT)
        .await
        .unwrap();
    // The coordinator does not read it; to whoever does, the leg has lost a record.
    let ControlRecord::Committed { start_at, .. } = &committed.record else {
        panic!("{committed:?}")
    };
    let subject = Subject::Ev(AgentKey {
        experiment: experiment.clone(),
        run: committed.run.clone().unwrap(),
        attempt: 1,
        agent: start_at[0].0.clone(),
    });
    let publisher = stack.bus.publisher(LIMIT, CancellationToken::new());
    let garbage = b"\xff\xfe no record".as_slice();
    publisher
        .publish(&subject, "poison", garbage.into())
        .await
        .unwrap();
    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [None, None]);
    let leg = &run(&report, 1).legs[0];
    assert_eq!(leg.attempt, Some(2));
    let why = leg.earlier[0].invalid.as_ref().unwrap();
    assert_eq!(why.reason, "data_loss");
    assert_eq!(report.tests[0].runs_attempted, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_coordinator_that_is_stopped_leaves_its_leg_to_the_next_one() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let engines = engines(kind, 1, &Script::timed(ms(100), ms(10)));
    let Some(mut stack) = Stack::start("study-stopped").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: 2,
        tokens: 40,
        ..Spec::on("study-stopped", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    observe::until_committed(&stack.bus, &experiment, "t1-r1-together", LIMIT)
        .await
        .unwrap();
    stack.stop_coordinator().await.unwrap();
    let control = observe::control(&stack.bus, &experiment).await.unwrap();
    let LegVerdict::Invalid(why) = verdicts(&control).into_values().next().unwrap()[0] else {
        panic!("valid")
    };
    assert_eq!(why.reason.as_str(), "coordinator_restart");
    assert!(why.detail.contains("was stopped"), "{}", why.detail);
    stack.start_coordinator().await.unwrap();
    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [None, None]);
    assert_eq!(report.tests[0].runs_attempted, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_plan_larger_than_a_message_of_the_bus_is_refused_with_its_size() {
    let _shared = gate::shared().await;
    let Some(stack) = Stack::start("study-large").await.unwrap() else {
        return;
    };
    let values: Vec<String> = (1..=50).map(|n| n.to_string()).collect();
    let values = values.join(", ");
    let spec = format!(
        "name = \"large\"\nmodel.name = \"m\"\nbackend.kind = \"openai\"\n[[phase]]\n\
         scenario = \"custom\"\nagents = 19\nruns = 1\nnum_gpu = [{values}]\n\
         top_k = [{values}]\n"
    );
    let error = stack.submit(&spec).await.unwrap_err();
    let status = error.downcast_ref::<tonic::Status>().unwrap();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    for part in ["50000 legs", "several experiments"] {
        assert!(status.message().contains(part), "{status}");
    }
    // Nothing of it stays.
    let all = observe::stored(&stack.bus, StreamName::Ctrl, &Filter::Ctrl);
    assert_eq!(all.await.unwrap().len(), 1, "the coordinator's own claim");
}

/// Verdicts on each leg, in the order of the log.
pub(crate) fn verdicts(control: &[ControlEvent]) -> BTreeMap<&RunId, Vec<&LegVerdict>> {
    let mut found: BTreeMap<&RunId, Vec<&LegVerdict>> = BTreeMap::new();
    for event in control {
        if let (Some(run), ControlRecord::Closed { verdict }) = (&event.run, &event.record) {
            found.entry(run).or_default().push(verdict);
        }
    }
    found
}
