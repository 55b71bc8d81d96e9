use std::process::Stdio;
use std::time::Duration;

use chimera_domain::options::EngineKind;
use chimera_testkit::fake_engine::{FakeConfig, FakeEngine, Fault, Script};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Told, chimera, nobody, text, told};

fn engine(kind: EngineKind) -> FakeEngine {
    let script = Script::timed(Duration::from_millis(10), Duration::from_millis(1));
    FakeEngine::start(FakeConfig {
        script,
        ..FakeConfig::new(kind)
    })
    .unwrap()
}

fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_line_agrees_with_what_the_engine_did() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [EngineKind::Ollama, EngineKind::Openai] {
        let engine = engine(kind);
        let out = dir.path().join(format!("{}.ndjson", kind.as_str()));
        let call = [
            "probe",
            &engine.url(),
            "--engine",
            kind.as_str(),
            "--model",
            "fake",
            "-c",
            "3",
            "-n",
            "12",
            "--tokens",
            "7",
            "--prompt",
            "Say something.",
            "--out",
            &text(&out),
        ];
        let told = told(&call).expect(0);
        for word in [
            "TTFT",
            "TPOT",
            "ITL",
            "E2E",
            "p99",
            "12 whole, 0 failed",
            "84 tokens",
        ] {
            assert!(told.out.contains(word), "{word}: {}", told.out);
        }
        let lines = lines(&std::fs::read_to_string(&out).unwrap());
        assert_eq!(lines.len(), 12);
        for line in &lines {
            let id = line["x_request_id"].as_str().unwrap();
            let truth = engine
                .truth_of(id)
                .expect("the id was sent as X-Request-ID");
            assert_eq!(truth.tokens.len(), 7);
            let sent = line["start_mono_ns"].as_u64().unwrap();
            assert!(sent <= truth.received.0, "sent before it was received");
            let ttft = line["ttft_ns"].as_u64().unwrap();
            // Just before the write is earlier than the receipt, whatever the machine does.
            assert!(sent + ttft >= truth.tokens[0].0);
            let e2e = line["e2e_ns"].as_u64().unwrap();
            assert!(sent + e2e >= truth.tokens[6].0);
            assert_eq!(line["tokens"], 7);
            let offsets: Vec<u64> = line["token_us"]
                .as_array()
                .unwrap()
                .iter()
                .map(|us| us.as_u64().unwrap())
                .collect();
            assert!(offsets.is_sorted() && !offsets.is_empty());
            assert_eq!(offsets[0], ttft / 1000);
            assert_eq!(*offsets.last().unwrap(), e2e / 1000);
            assert!(line["error"].is_null());
        }
        assert_eq!(
            std::fs::read_dir(dir.path())
                .unwrap()
                .filter(partial)
                .count(),
            0
        );
    }
}

fn partial(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    entry
        .as_ref()
        .unwrap()
        .path()
        .extension()
        .is_some_and(|e| e == "partial")
}

#[test]
fn a_failed_request_fails_the_probe_and_is_told_by_class() {
    let engine = engine(EngineKind::Openai);
    engine.fault_next(None);
    engine.fault_next(Some(Fault::Status {
        status: 503,
        body: r#"{"error":"busy"}"#.to_owned(),
    }));
    let call = [
        "probe",
        &engine.url(),
        "--engine",
        "openai",
        "--model",
        "fake",
        "-n",
        "3",
        "--json",
    ];
    let told = told(&call).expect(1);
    let summary = told.json();
    assert_eq!(
        (&summary["requests"], &summary["succeeded"]),
        (&3.into(), &2.into())
    );
    assert_eq!(summary["errors"]["status"], 1);
    assert_eq!(summary["ttft_ms"]["n"], 2);
    assert!(
        told.err.contains("1 of 3 requests failed (status: 1)"),
        "{}",
        told.err
    );
}

#[test]
fn an_engine_that_is_away_or_lacks_the_model_is_told_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("p.ndjson");
    let call = |url: &str, model: &str| {
        told(&[
            "probe",
            url,
            "--engine",
            "ollama",
            "--model",
            model,
            "--out",
            &text(&out),
        ])
        .expect(1)
    };
    let away = call(&nobody(), "fake");
    assert!(
        away.err.contains("cannot be measured") && away.err.contains("ollama serve"),
        "{}",
        away.err
    );
    let lacking = call(&engine(EngineKind::Ollama).url(), "other");
    assert!(lacking.err.contains("ollama pull other"), "{}", lacking.err);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
    let full = [
        "probe",
        &nobody(),
        "--engine",
        "ollama",
        "--model",
        "m",
        "--out",
        "/no/such/f",
    ];
    assert!(told(&full).expect(1).err.contains("--out: cannot create"));
}

#[test]
fn ctrl_c_ends_it_with_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("p.ndjson");
    let engine = engine(EngineKind::Ollama);
    // Warming and one request go well, the next one never ends.
    engine.fault_next(None);
    engine.fault_next(None);
    engine.set_fault(Some(Fault::HangBeforeHead));
    let (url, file) = (engine.url(), text(&out));
    let call = [
        "probe", &url, "--engine", "ollama", "--model", "fake", "-n", "9", "--out", &file,
    ];
    let child = chimera(&call)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = std::time::Duration::from_secs(60);
    let begin = chimera_runtime::clock::mono();
    while engine.truth().len() < 3 {
        assert!(
            chimera_runtime::clock::elapsed(begin) < deadline,
            "the probe does not ask"
        );
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let told = Told::of(&child.wait_with_output().unwrap()).expect(1);
    assert!(
        told.err.contains("stopped after 2 of 9 requests"),
        "{}",
        told.err
    );
    let lines = lines(&std::fs::read_to_string(&out).unwrap());
    assert_eq!(lines.len(), 2);
    assert!(lines[0]["error"].is_null());
    assert_eq!(lines[1]["error"], "cancelled");
}
