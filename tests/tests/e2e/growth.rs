//! Plans that grow on what was measured: a phase that takes over the best, a test that is repeated.

use chimera_domain::control::{ControlRecord, ExperimentOutcome};
use chimera_domain::options::EngineKind;
use chimera_domain::plan::Extension;
use chimera_testkit::fake_engine::{FakeEngine, Script};
use chimera_tests::spec::Spec;
use chimera_tests::stack::Stack;
use chimera_tests::{gate, measured, observe, oracle};

use crate::study::broken;
use crate::support::{LIMIT, attach, engines, ms};

/// Two phases: which length takes the shortest, then the same again with it.
pub(crate) fn two_phases(name: &str, engines: &[FakeEngine], solo: bool, runs: u32) -> String {
    let spec = Spec {
        runs,
        solo,
        ..Spec::on(name, EngineKind::Openai, engines)
    };
    let first = spec
        .toml()
        .replace("num_predict = 5", "num_predict = [20, 5]");
    format!(
        "{first}\n[[phase]]\nscenario = \"chimera_homo\"\norder = \"fixed\"\nagents = {}\n\
         runs = {runs}\nselect = \"best of previous by wall_s\"\nnum_predict = \"best\"\n\
         temperature = [0.0, 0.5]\n",
        engines.len()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_phase_takes_over_the_best_of_the_one_before() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 1, &Script::timed(ms(10), ms(4)));
    let Some(mut stack) = Stack::start("study-select").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = two_phases("study-select", &engines, false, 2);
    let experiment = stack.submit(&spec).await.unwrap();
    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    let control = observe::control(&stack.bus, &experiment).await.unwrap();
    let grown: Vec<_> = control
        .iter()
        .filter_map(|event| match &event.record {
            ControlRecord::Extended { why, tests, legs } => Some((why, tests, legs)),
            _ => None,
        })
        .collect();
    let [(Extension::Selected { phase: 2, choice }, tests, legs)] = grown.as_slice() else {
        panic!("{grown:?}")
    };
    assert_eq!(
        choice.options,
        [("num_predict".to_owned(), "5".to_owned())],
        "{choice:?}"
    );
    assert!(choice.value < choice.runner_up.unwrap().1);
    assert_eq!((tests.len(), legs.len()), (2, 4));
    assert!(
        tests
            .iter()
            .all(|test| test.agents[0].options.num_predict == 5)
    );
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(report.tests.len(), 4);
    assert!(report.tests.iter().all(|test| test.runs_valid == 2));
    let tally = stack.progress(&experiment).await.unwrap().tally;
    assert_eq!((tally.phases, tally.tests, tally.tests_done), (2, 4, 4));

    // Nothing to choose by: it ends, and says why.
    engines[0].set_fault(Some(broken()));
    let experiment = stack.submit(&spec).await.unwrap();
    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    let ExperimentOutcome::Failed { detail } = outcome else {
        panic!("{outcome:?}")
    };
    for part in ["phase 2 takes over num_predict", "wall_s", "valid run"] {
        assert!(detail.contains(part), "{detail}");
    }

    // Nobody to ask: it is not taken.
    stack.kill_coordinator().await.unwrap();
    stack.asks_analyzer = false;
    stack.start_coordinator().await.unwrap();
    let error = stack.submit(&spec).await.unwrap_err();
    let status = error.downcast_ref::<tonic::Status>().unwrap();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("--analyzer"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_test_is_repeated_until_its_interval_is_narrow_or_its_runs_are_spent() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 1, &Script::timed(ms(10), ms(1)));
    let Some(mut stack) = Stack::start("study-until").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let until = |half: &str| Spec {
        runs: 2,
        phase: format!(
            "until = {{ metric = \"aggregate_tokens_per_s\", relative_half_width = {half}, \
             max_runs = 5 }}\n"
        ),
        ..Spec::on("study-until", kind, &engines)
    };
    // Whatever the machine does: a thousandth is never reached with so few runs of milliseconds...
    let experiment = stack.submit(&until("0.001").toml()).await.unwrap();
    let outcome = stack.outcome(&experiment, LIMIT).await.unwrap();
    assert_eq!(outcome, ExperimentOutcome::Completed);
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    let test = &report.tests[0];
    assert_eq!((test.runs_planned, test.runs_valid), (5, 5));
    let control = observe::control(&stack.bus, &experiment).await.unwrap();
    let halves: Vec<Option<f64>> = control
        .iter()
        .filter_map(|event| match &event.record {
            ControlRecord::Extended {
                why:
                    Extension::Repeated {
                        test: 1,
                        relative_half_width,
                    },
                ..
            } => Some(*relative_half_width),
            _ => None,
        })
        .collect();
    assert_eq!(halves.len(), 3, "{halves:?}");
    assert!(halves.iter().all(|half| half.is_some_and(|h| h > 0.001)));

    // ... and the whole mean is, after a run or two.
    let experiment = stack.submit(&until("1.0").toml()).await.unwrap();
    stack.outcome(&experiment, LIMIT).await.unwrap();
    let runs = stack.report(&experiment).await.unwrap().tests[0].runs_planned;
    measured("study_until.runs_for_a_wide_goal", runs);
    assert!(runs < 5, "{runs}");
}
