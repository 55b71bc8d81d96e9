//! Studies: what is tried again, what is stopped, plans that grow on what was measured, and what
//! is cut short and goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use chimera_domain::control::{ControlEvent, ControlRecord, ExperimentOutcome, LegVerdict};
use chimera_domain::ids::{AgentKey, RunId};
use chimera_domain::options::EngineKind;
use chimera_domain::plan::{Extension, Plan};
use chimera_domain::report::{OutcomeState, Report};
use chimera_runtime::clock;
use chimera_testkit::fake_engine::{FakeEngine, Fault, Script};
use chimera_tests::process::{self, Service};
use chimera_tests::spec::Spec;
use chimera_tests::stack::Stack;
use chimera_tests::{cli, gate, measured, observe, oracle};
use chimera_wire::subject::{Filter, StreamName, Subject};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use crate::support::{LIMIT, attach, bench, engines, ms, nats_or_skip, reasons, run, until};

fn broken() -> Fault {
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

/// Two phases: which length takes the shortest, then the same again with it.
fn two_phases(name: &str, engines: &[FakeEngine], solo: bool, runs: u32) -> String {
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

/// Verdicts on each leg, in the order of the log.
fn verdicts(control: &[ControlEvent]) -> BTreeMap<&RunId, Vec<&LegVerdict>> {
    let mut found: BTreeMap<&RunId, Vec<&LegVerdict>> = BTreeMap::new();
    for event in control {
        if let (Some(run), ControlRecord::Closed { verdict }) = (&event.run, &event.record) {
            found.entry(run).or_default().push(verdict);
        }
    }
    found
}

/// The plan as it grew.
fn grown(control: &[ControlEvent]) -> Plan {
    let log = chimera_domain::control::grown(control);
    let mut plans = log.iter().filter_map(|event| match &event.record {
        ControlRecord::Submitted { plan, .. } => Some(plan.clone()),
        _ => None,
    });
    let plan = plans.next().unwrap();
    assert!(plans.next().is_none(), "it was submitted once");
    plan
}

fn control_of(bundle: &Path) -> Vec<ControlEvent> {
    let text = std::fs::read_to_string(bundle.join("records/control.ndjson")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A `chimera bench`, struck dead when an engine has begun a measured request of this leg.
async fn struck(
    dir: &Path,
    nats: &Path,
    engines: &[FakeEngine],
    arguments: &[&str],
    leg: &str,
) -> String {
    let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
    let service = Service::start("bench", bench(dir, nats, &arguments))
        .await
        .unwrap();
    let id = service.pid();
    let begun = |engine: &FakeEngine| {
        let of_leg = |t: &chimera_testkit::fake_engine::RequestTruth| {
            let id = t.request_id.as_deref();
            id.is_some_and(|id| id.starts_with(leg)) && !t.tokens.is_empty()
        };
        engine.truth().iter().any(of_leg)
    };
    let deadline = clock::deadline(LIMIT);
    while !engines.iter().any(begun) {
        assert!(
            clock::mono() < deadline,
            "no request of {leg}:\n{}",
            service.log().unwrap()
        );
        tokio::time::sleep(ms(5)).await;
    }
    let children = process::below(id);
    assert!(children.iter().any(|child| child.name == "nats-server"));
    service.signal(Signal::KILL).unwrap();
    let words = service.log().unwrap();
    service.kill9().await.unwrap();
    // The kernel takes the children with it.
    until(|| process::still_running(&children).is_empty()).await;
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_killed_goes_on_with_the_next_leg_and_repeats_nothing() {
    let _shared = gate::shared().await;
    let Some(nats) = nats_or_skip("study-resume") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let kind = EngineKind::Openai;
    let engines = engines(kind, 2, &Script::timed(ms(40), ms(10)));
    let spec = two_phases("study-resume", &engines, true, 2);
    std::fs::write(dir.path().join("spec.toml"), &spec).unwrap();
    let left = dir.path().join(".out.unfinished");
    let out = dir.path().join("out");
    let resume = ["--resume", "out"];

    // In the first phase, in its second round, and in the phase that was chosen after it.
    let fresh = ["spec.toml", "--out", "out"];
    let words = struck(dir.path(), &nats, &engines, &fresh, "t1-r1-together").await;
    assert!(words.contains("chimera bench --resume out"), "{words}");
    assert!(left.join("job.json").is_file() && !out.exists());
    // Beginning anew would lose what was measured.
    let told = cli::chimera(dir.path(), &["bench", "spec.toml", "--out", "out"])
        .await
        .unwrap()
        .expect(64)
        .unwrap();
    assert!(told.err.contains("--resume out"), "{}", told.err);
    let words = struck(dir.path(), &nats, &engines, &resume, "t2-r2-together").await;
    assert!(words.contains("going on with study-resume-"), "{words}");
    struck(dir.path(), &nats, &engines, &resume, "t100-r1-together").await;

    // A changed spec is another experiment.
    let changed = spec.replace("runs = 2", "runs = 3");
    std::fs::write(dir.path().join("changed.toml"), changed).unwrap();
    let arguments = ["bench", "changed.toml", "--resume", "out"];
    let told = cli::chimera(dir.path(), &arguments).await.unwrap();
    let told = told.expect(64).unwrap();
    assert!(told.err.contains("has changed since"), "{}", told.err);

    let last: Vec<String> = resume.iter().map(|&a| a.to_owned()).collect();
    let mut last = Service::start("bench", bench(dir.path(), &nats, &last))
        .await
        .unwrap();
    let status = last.ended(LIMIT).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", last.log().unwrap());
    assert!(!left.exists(), "the work folder is gone with the work");

    let text = std::fs::read(out.join("report.json")).unwrap();
    let report: Report = serde_json::from_slice(&text).unwrap();
    assert_eq!(report.outcome.state, OutcomeState::Completed);
    assert_eq!(report.tests.len(), 4);
    for test in &report.tests {
        let against: Vec<_> = test.runs.iter().flat_map(|run| &run.invalid).collect();
        assert_eq!(
            (test.runs_valid, test.runs_planned),
            (2, 2),
            "{}: {against:?}",
            test.id
        );
    }
    cli::chimera(dir.path(), &["verify", "out"])
        .await
        .unwrap()
        .expect(0)
        .unwrap();

    let control = control_of(&out);
    oracle::one_close_per_attempt(&control).unwrap();
    let plan = grown(&control);
    let (planned, executed): (BTreeSet<&RunId>, _) = (
        plan.legs.iter().map(|leg| &leg.run_id).collect(),
        verdicts(&control),
    );
    assert_eq!(planned.len(), 4 * 2 * 3);
    assert_eq!(planned, executed.keys().copied().collect());
    let mut cut = 0;
    for (run, verdicts) in &executed {
        let (last, earlier) = verdicts.split_last().unwrap();
        assert_eq!(**last, LegVerdict::Valid, "{run}");
        cut += earlier.len();
        for verdict in earlier {
            let LegVerdict::Invalid(why) = verdict else {
                panic!("{run} was valid and tried again")
            };
            assert_eq!(why.reason.as_str(), "coordinator_restart", "{run}: {why:?}");
        }
    }
    assert_eq!(cut, 3, "each kill cost the one attempt that it struck");
    let grew = control
        .iter()
        .filter(|event| matches!(event.record, ControlRecord::Extended { .. }));
    assert_eq!(grew.count(), 1, "the choice was made once");

    // What is done is done.
    let told = cli::chimera(dir.path(), &["bench", "--resume", "out"])
        .await
        .unwrap()
        .expect(0)
        .unwrap();
    assert!(told.err.contains("is finished"), "{}", told.err);
    let told = cli::chimera(dir.path(), &["bench", "--resume", "elsewhere"]).await;
    let told = told.unwrap().expect(64).unwrap();
    assert!(told.err.contains("never begun"), "{}", told.err);
}
