use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chimera_domain::event::RequestErrorKind;
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_testkit::fake_engine::{FakeConfig, FakeEngine, Fault, Script};
use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn fake(kind: EngineKind) -> FakeEngine {
    let script = Script::timed(Duration::from_millis(10), Duration::from_millis(2));
    FakeEngine::start(FakeConfig {
        script,
        ..FakeConfig::new(kind)
    })
    .unwrap()
}

fn config(engine: &FakeEngine, kind: EngineKind, concurrency: u32, requests: u32) -> ProbeConfig {
    let options = EngineOptions {
        num_predict: 5,
        ..EngineOptions::default()
    };
    let engine = EngineConfig::new(engine.url().parse().unwrap(), kind, "fake", options);
    ProbeConfig {
        engine,
        concurrency,
        requests,
        prompt: None,
        warm: true,
    }
}

#[tokio::test]
async fn every_request_gives_a_line_with_the_agreed_members() {
    for kind in [EngineKind::Ollama, EngineKind::Openai] {
        let engine = fake(kind);
        let out = Shared::default();
        let config = config(&engine, kind, 3, 10);
        let summary = run(config, out.clone(), &CancellationToken::new())
            .await
            .unwrap();
        assert_eq!((summary.requests, summary.succeeded), (10, 10));
        assert_eq!(summary.output_tokens, 50);
        assert_eq!(summary.ttft_ms.unwrap().n, 10);
        assert_eq!(summary.itl_ms.unwrap().n, 40);
        assert!(summary.ttft_ms.unwrap().p50 >= 10.0);
        assert!(summary.tokens_per_s.unwrap() > 0.0);
        let lines = out.lines();
        assert_eq!(lines.len(), 10);
        for line in &lines {
            let truth = engine
                .truth_of(line["x_request_id"].as_str().unwrap())
                .unwrap();
            assert!(line["start_mono_ns"].as_u64().unwrap() <= truth.received.0);
            assert_eq!(line["token_us"].as_array().unwrap().len(), 5);
            assert_eq!(line["tokens"], 5);
            assert!(line["ttft_ns"].as_u64().unwrap() <= line["e2e_ns"].as_u64().unwrap());
            assert!(line["error"].is_null());
        }
        // Warm-up is a request of its own and in no line.
        assert_eq!(engine.truth().len(), 11);
        // No prompt begins like another, and all are of one length.
        let mut prompts: Vec<String> = engine.truth()[1..]
            .iter()
            .map(|t| {
                t.body["messages"][0]["content"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert!(prompts.iter().all(|p| p.len() == prompts[0].len()));
        prompts.sort();
        prompts.dedup_by_key(|p| p[..8].to_owned());
        assert_eq!(prompts.len(), 10);
    }
}

#[tokio::test]
async fn failures_are_counted_by_class_and_measured_by_none() {
    let engine = fake(EngineKind::Ollama);
    engine.fault_next(None);
    engine.fault_next(Some(Fault::EofWithoutDone { after: 2 }));
    engine.fault_next(Some(Fault::Status {
        status: 503,
        body: "{}".to_owned(),
    }));
    let out = Shared::default();
    let config = config(&engine, EngineKind::Ollama, 1, 4);
    let summary = run(config, out.clone(), &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!((summary.requests, summary.succeeded), (4, 2));
    assert_eq!(summary.errors[&RequestErrorKind::NoDone], 1);
    assert_eq!(summary.errors[&RequestErrorKind::Status], 1);
    assert_eq!(summary.ttft_ms.unwrap().n, 2);
    let lines = out.lines();
    assert_eq!(lines[0]["error"], "no_done");
    assert_eq!(lines[0]["token_us"].as_array().unwrap().len(), 2);
    assert!(lines[0]["e2e_ns"].is_null() && lines[0]["ttft_ns"].is_u64());
    assert!(lines[1]["ttft_ns"].is_null() && lines[1]["tokens"].is_null());
}

#[tokio::test]
async fn a_stop_ends_the_probe_with_what_it_has() {
    let engine = fake(EngineKind::Ollama);
    engine.set_fault(Some(Fault::HangBeforeHead));
    let mut config = config(&engine, EngineKind::Ollama, 2, 100);
    config.warm = false;
    let shutdown = CancellationToken::new();
    let (summary, ()) = tokio::join!(run(config, Shared::default(), &shutdown), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        shutdown.cancel();
    });
    let summary = summary.unwrap();
    assert_eq!(
        (
            summary.requests,
            summary.errors[&RequestErrorKind::Cancelled]
        ),
        (2, 2)
    );
    assert_eq!(summary.ttft_ms, None);
    assert_eq!(summary.tokens_per_s, None);
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let engine = fake(EngineKind::Ollama);
    let config = config(&engine, EngineKind::Ollama, 1, 50);
    let error = run(config, Full, &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(error, ProbeError::Write(_)), "{error}");
}

#[tokio::test]
async fn numbers_out_of_bounds_are_refused_before_anything_is_sent() {
    let engine = fake(EngineKind::Ollama);
    for (concurrency, requests) in [(0, 1), (1, 0), (5000, 1), (1, 1_000_000_000)] {
        let config = config(&engine, EngineKind::Ollama, concurrency, requests);
        let error = run(config, Shared::default(), &CancellationToken::new())
            .await
            .unwrap_err();
        assert!(matches!(error, ProbeError::OutOfBounds { .. }));
    }
    assert!(engine.truth().is_empty());
}

#[test]
fn nonces_do_not_repeat() {
    let mut all: Vec<u64> = (0..100_000)
        .map(|n| nonce(MonoNs(123_456_789_012), n))
        .collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100_000);
    assert!(all.iter().all(|n| *n < NONCES));
}
