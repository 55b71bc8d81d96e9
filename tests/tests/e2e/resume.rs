//! What is cut short and goes on.

use std::collections::BTreeSet;
use std::path::Path;

use chimera_domain::control::{ControlEvent, ControlRecord, LegVerdict};
use chimera_domain::ids::RunId;
use chimera_domain::options::EngineKind;
use chimera_domain::plan::Plan;
use chimera_domain::report::{OutcomeState, Report};
use chimera_runtime::clock;
use chimera_testkit::fake_engine::{FakeEngine, Script};
use chimera_tests::process::{self, Service};
use chimera_tests::{cli, gate, oracle};
use rustix::process::Signal;

use crate::growth::two_phases;
use crate::study::verdicts;
use crate::support::{LIMIT, bench, engines, ms, nats_or_skip, until};

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
