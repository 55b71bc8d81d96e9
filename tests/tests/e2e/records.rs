//! Records that cannot be read.

use chimera_domain::control::ExperimentOutcome;
use chimera_domain::ids::{AgentId, AgentKey, RunId};
use chimera_domain::options::EngineKind;
use chimera_testkit::fake_engine::Script;
use chimera_tests::spec::Spec;
use chimera_tests::stack::Stack;
use chimera_tests::{gate, measured, observe, oracle};
use chimera_wire::subject::{DLQ_REASON_HEADER, DLQ_SUBJECT_HEADER, Filter, StreamName, Subject};
use tokio_util::sync::CancellationToken;

use crate::support::{LIMIT, attach, engines, ms, reasons, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_poison_message_is_kept_apart_and_costs_its_run_alone() {
    const GARBAGE: &[u8] = b"\xff\xfe this was never a record";
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 2, &Script::timed(ms(50), ms(5)));
    let Some(mut stack) = Stack::start("poison").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: 3,
        tokens: 20,
        ..Spec::on("poison", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    observe::until_committed(&stack.bus, &experiment, "t1-r2-together", LIMIT)
        .await
        .unwrap();
    let subject = Subject::Ev(AgentKey {
        experiment: experiment.clone(),
        run: RunId::try_new("t1-r2-together").unwrap(),
        attempt: 1,
        agent: AgentId::try_new("insight").unwrap(),
    });
    let publisher = stack.bus.publisher(LIMIT, CancellationToken::new());
    publisher
        .publish(&subject, "poison-1", GARBAGE.into())
        .await
        .unwrap();

    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [None, Some("data_loss"), None]);
    let why = &run(&report, 2).invalid;
    assert!(
        why.iter().all(|why| why.detail.starts_with("insight: ")),
        "{why:?}"
    );
    assert!(why[0].detail.contains("could not be decoded"), "{why:?}");
    assert_eq!(report.validity.dead_letters, 1);

    let dead = observe::stored(&stack.bus, StreamName::Dlq, &Filter::Dlq)
        .await
        .unwrap();
    measured("poison.injected", 1);
    measured("poison.dead_letters", dead.len());
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].payload, GARBAGE);
    let header = |name| {
        dead[0]
            .headers
            .get(name)
            .map(|value| value.as_str().to_owned())
    };
    assert_eq!(header(DLQ_SUBJECT_HEADER), Some(subject.to_string()));
    assert!(header(DLQ_REASON_HEADER).is_some_and(|reason| reason.contains("AgentEvent")));
}
