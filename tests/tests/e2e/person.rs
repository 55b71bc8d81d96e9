//! What a person does: wrong input, and Ctrl-C.

use std::path::Path;
use std::time::Duration;

use chimera_domain::options::EngineKind;
use chimera_domain::report::{OutcomeState, Report};
use chimera_runtime::clock;
use chimera_testkit::fake_engine::{FakeEngine, Script};
use chimera_tests::process::{self, Service};
use chimera_tests::spec::Spec;
use chimera_tests::stack::Stack;
use chimera_tests::{cli, gate, measured, observe};
use chimera_wire::subject::{Filter, StreamName, Subject};
use rustix::process::Signal;

use crate::support::{LIMIT, bench, engines, ms, nats_or_skip, until};

/// Specs that no one may accept, and what must be said of each.
fn bad_specs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = Spec {
        instances: vec!["http://127.0.0.1:1".to_owned()],
        ..Spec::on("bad", EngineKind::Ollama, &[])
    }
    .toml();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to).into_bytes()
    };
    let phase = |lines: &str| format!("{good}{lines}\n").into_bytes();
    vec![
        (
            "unknown key",
            phase("num_context = 5"),
            "did you mean num_ctx?",
        ),
        (
            "NaN",
            phase("temperature = nan"),
            "NaN is not a number to measure with",
        ),
        ("infinity", phase("top_p = inf"), "phase[0].top_p"),
        (
            "no agents",
            with("agents = 1", "agents = 0"),
            "0 is out of bounds (allowed: 1 to 64)",
        ),
        (
            "10^9 agents",
            with("agents = 1", "agents = 1_000_000_000"),
            "1000000000 is out of bounds (allowed: 1 to 64)",
        ),
        ("no runs", with("runs = 1", "runs = 0"), "phase[0].runs"),
        (
            "a negative number",
            with("runs = 1", "runs = -3"),
            "phase[0].runs",
        ),
        (
            "no room for a prompt",
            phase("num_ctx = 5"),
            "leaves no room for a prompt",
        ),
        (
            "more agents than instances",
            with("agents = 1", "agents = 2"),
            "instances",
        ),
        (
            "a path that escapes",
            phase("[workload]\ndata = \"../../etc\""),
            "workload.data",
        ),
        (
            "an absolute path",
            phase("[workload]\ndata = \"/etc\""),
            "workload.data",
        ),
        (
            "a password in a URL",
            with("http://", "http://me:pw@"),
            "user information",
        ),
        (
            "no URL",
            with("http://127.0.0.1:1", "ftp://x"),
            "does not start with http",
        ),
        (
            "an unknown engine",
            with("\"ollama\"", "\"olama\""),
            "did you mean \"ollama\"?",
        ),
        (
            "an unknown scenario",
            with("chimera_homo", "chimera_homogen"),
            "scenario",
        ),
        ("nothing", Vec::new(), "name: is required"),
        ("no TOML", b"name = = 3".to_vec(), "line 1: not valid TOML"),
        (
            "no JSON",
            b"{\"name\": x}".to_vec(),
            "line 1: not valid JSON",
        ),
        ("no text", b"name = \"\xff\xfe\"".to_vec(), "UTF-8"),
        ("too long", b"# padding\n".repeat(40_000), "262144"),
        (
            "too deep",
            format!("x = {}{}", "[".repeat(2_000), "]".repeat(2_000)).into_bytes(),
            "",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bad_specs_are_refused_before_anything() {
    let _shared = gate::shared().await;
    let Some(stack) = Stack::start("bad-specs").await.unwrap() else {
        return;
    };
    let server = stack.server();
    let file = stack.dir().join("bad.toml");
    let out = stack.dir().join("out");
    let path = file.to_str().unwrap();
    let mut slowest = Duration::ZERO;
    let specs = bad_specs();
    for (what, text, said) in &specs {
        std::fs::write(&file, text).unwrap();
        let begun = clock::mono();
        let told = cli::chimera(stack.dir(), &["submit", path, "--server", &server])
            .await
            .unwrap();
        slowest = slowest.max(clock::elapsed(begun));
        refused(what, &told, said);
        assert_eq!(told.out, "", "{what}: nothing was submitted");
        let arguments = ["bench", path, "--out", out.to_str().unwrap()];
        let told = cli::chimera(stack.dir(), &arguments).await.unwrap();
        refused(what, &told, said);
        assert!(!out.exists(), "{what}");
        // Past the command line's own check: the coordinator has its own door.
        if let Ok(text) = std::str::from_utf8(text) {
            let error = stack.submit(text).await.unwrap_err();
            let status = error.downcast_ref::<tonic::Status>().unwrap();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{what}");
            assert!(
                status.message().contains(said),
                "{what}: {}",
                status.message()
            );
        }
    }
    // What only a coordinator cannot know: which engine there is.
    let open = "name = \"open\"\n[model]\nname = \"m\"\n[[phase]]\nscenario = \"chimera_homo\"\n";
    std::fs::write(&file, open).unwrap();
    let told = cli::chimera(stack.dir(), &["submit", path, "--server", &server])
        .await
        .unwrap();
    refused("an open engine", &told, "backend.kind");

    measured("bad_specs.refused", specs.len());
    measured("bad_specs.slowest_ms", slowest.as_millis());
    // The only message is the coordinator's own claim.
    let ctrl = observe::stored(&stack.bus, StreamName::Ctrl, &Filter::Ctrl)
        .await
        .unwrap();
    let subjects: Vec<_> = ctrl.iter().map(|m| m.subject.clone()).collect();
    assert_eq!(subjects, [Subject::Epoch.to_string()]);
    for stream in [StreamName::Ev, StreamName::Dlq] {
        let held = observe::stored(&stack.bus, stream, &stream.filter())
            .await
            .unwrap();
        assert!(held.is_empty(), "{stream}");
    }
    assert!(
        !stack.dir().join("results").exists(),
        "no report of nothing"
    );
}

fn refused(what: &str, told: &cli::Told, said: &str) {
    assert_eq!(told.code, Some(64), "{what}: {}{}", told.out, told.err);
    assert!(told.err.contains(said), "{what}: {}", told.err);
    assert!(!told.err.contains("panicked"), "{what}: {}", told.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bench_refuses_what_it_cannot_measure_and_starts_nothing() {
    let _shared = gate::shared().await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let kind = EngineKind::Ollama;
    let engines = engines(kind, 2, &Script::default());
    let gone = FakeEngine::start(chimera_testkit::fake_engine::FakeConfig::new(kind))
        .unwrap()
        .url();
    std::fs::create_dir_all(at("empty")).unwrap();
    std::fs::create_dir_all(at("binary")).unwrap();
    std::fs::write(at("binary").join("a.csv"), b"x,y\n\xff\xfe,1\n").unwrap();
    std::fs::create_dir_all(at("taken")).unwrap();
    let (a, b) = (engines[0].url(), engines[1].url());
    let attached = ["--instance", &a, "--instance", &b, "--model", "fake"];
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["--agents", "0"], 64, "--agents"),
        (vec!["--agents", "1000000000"], 64, "--agents"),
        (vec!["--agents", "-1"], 64, "--agents"),
        (vec!["--runs", "0"], 64, "--runs"),
        (vec!["--temperature", "nan"], 64, "--temperature"),
        (vec!["--num-predict", "0"], 64, "--num-predict"),
        (vec!["--num-ctx", "64"], 64, "leaves no room for a prompt"),
        (vec!["--data", "empty"], 64, "empty"),
        (vec!["--data", "binary"], 64, "UTF-8"),
        (vec!["--data", "missing"], 64, "missing"),
        (vec!["--agents", "3"], 64, "3 agents for 2 instances"),
        (vec!["--out", "taken"], 64, "exists already"),
        (vec!["--instance", &a], 64, "listed twice"),
        (vec!["--quick"], 64, "--quick"),
        (vec!["--model", "other"], 1, "lacks the model 'other'"),
        (vec!["--instance", &gone], 1, "engine answers at"),
    ];
    for (extra, code, said) in cases {
        let mut arguments = vec!["bench"];
        // A flag that may stand once only is replaced, not repeated.
        if extra.first() == Some(&"--model") {
            arguments.extend(&attached[..4]);
        } else {
            arguments.extend(attached);
        }
        arguments.extend(&extra);
        if extra.first() != Some(&"--out") {
            arguments.extend(["--out", "out"]);
        }
        let told = cli::chimera(dir.path(), &arguments).await.unwrap();
        assert_eq!(told.code, Some(code), "{extra:?}: {}", told.err);
        assert!(told.err.contains(said), "{extra:?}: {}", told.err);
        assert!(!told.err.contains("panicked"), "{extra:?}: {}", told.err);
        assert!(!at("out").exists(), "{extra:?}");
        assert!(!at(".out.unfinished").exists(), "{extra:?}");
    }
    for engine in &engines {
        assert_eq!(engine.truth().len(), 0, "nothing was asked of a model");
    }
}

/// A `chimera bench` on two slow engines, struck while a request is under way.
async fn running_bench(dir: &Path, engines: &[FakeEngine]) -> Option<Service> {
    let nats = nats_or_skip("ctrl-c")?;
    let instances = engines
        .iter()
        .flat_map(|e| ["--instance".to_owned(), e.url()]);
    let mut arguments: Vec<String> = instances.collect();
    arguments.extend(
        [
            "--engine",
            "openai",
            "--model",
            "fake",
            "--runs",
            "3",
            "--num-predict",
            "60",
        ]
        .map(str::to_owned),
    );
    arguments.extend(["--out".to_owned(), "out".to_owned()]);
    let spec = bench(dir, &nats, &arguments);
    let service = Service::start("bench", spec).await.unwrap();
    let measured = |engine: &FakeEngine| {
        engine.truth().iter().any(|t| {
            t.request_id
                .as_deref()
                .is_some_and(|id| id.starts_with("t1-"))
                && t.tokens.len() > 5
        })
    };
    until(|| engines.iter().any(measured)).await;
    Some(service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ctrl_c_closes_the_experiment_and_leaves_no_child() {
    let _shared = gate::shared().await;
    let dir = tempfile::tempdir().unwrap();
    let engines = engines(EngineKind::Openai, 2, &Script::timed(ms(100), ms(50)));
    let Some(mut bench) = running_bench(dir.path(), &engines).await else {
        return;
    };
    let children = process::below(bench.pid());
    assert!(
        children.iter().any(|child| child.name == "nats-server"),
        "{children:?}"
    );

    let asked = clock::mono();
    bench.signal(Signal::INT).unwrap();
    let status = bench.ended(LIMIT).await.unwrap();
    measured("ctrl_c.ended_after_ms", clock::elapsed(asked).as_millis());
    let words = bench.log().unwrap();
    assert_eq!(status.code(), Some(1), "{words}");
    assert!(words.contains("stopped; the runs so far are in"), "{words}");
    let left = process::still_running(&children);
    measured("ctrl_c.children_left", left.len());
    assert!(left.is_empty(), "{left:?}");

    // What is there is whole and says what it is.
    let out = dir.path().join("out");
    let text = std::fs::read(out.join("report.json")).unwrap();
    let report: Report = serde_json::from_slice(&text).unwrap();
    assert_eq!(report.outcome.state, OutcomeState::Cancelled);
    let test = &report.tests[0];
    assert!(test.runs_valid < test.runs_planned);
    let closed: Vec<_> = test.runs.iter().flat_map(|run| &run.legs).collect();
    assert!(
        closed
            .iter()
            .any(|leg| leg.invalid.iter().any(|why| why.reason == "cancelled"))
    );
    let markdown = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(markdown.to_lowercase().contains("cancelled"), "{markdown}");
    cli::chimera(dir.path(), &["verify", "out"])
        .await
        .unwrap()
        .expect(0)
        .unwrap();
    // Nothing else stays behind, neither a work folder nor a draft.
    let names = process_names(dir.path());
    let left = |name: &&String| name.ends_with(".partial") || name.ends_with(".unfinished");
    assert_eq!(names.iter().filter(left).count(), 0, "{names:?}");
}

fn process_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_ctrl_c_ends_at_once() {
    let _shared = gate::shared().await;
    let dir = tempfile::tempdir().unwrap();
    let engines = engines(EngineKind::Openai, 2, &Script::timed(ms(100), ms(50)));
    let Some(mut bench) = running_bench(dir.path(), &engines).await else {
        return;
    };
    let children = process::below(bench.pid());
    assert!(
        children.iter().any(|child| child.name == "nats-server"),
        "{children:?}"
    );
    bench.signal(Signal::INT).unwrap();
    bench.writes("stopping", LIMIT).await.unwrap();
    let asked = clock::mono();
    bench.signal(Signal::INT).unwrap();
    let status = bench.ended(LIMIT).await.unwrap();
    let took = clock::elapsed(asked);
    measured("second_ctrl_c.ended_after_ms", took.as_millis());
    assert_eq!(status.code(), Some(130), "{}", bench.log().unwrap());
    assert!(took < Duration::from_secs(1), "{took:?}");
    // Killed, and reaped by whoever inherits them.
    until(|| process::still_running(&children).is_empty()).await;
    assert!(
        !dir.path().join("out").exists(),
        "no report that looks whole"
    );
}
