//! One case per failure, in both protocols, against the scripted fake: each has its exact class,
//! nothing is retried, and what is read stays bounded.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::time::Duration;

use agent_worker::engine::{
    ChatOutcome, ChatRequest, EngineClient, EngineConfig, EngineError, Limits, Message,
};
use chimera_domain::event::{FinishReason, RequestErrorKind as Kind};
use chimera_domain::ids::RequestId;
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_testkit::fake_engine::{
    Cut, DeafListener, Ended, FakeConfig, FakeEngine, Fault, Script,
};
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

const BOTH: [EngineKind; 2] = [EngineKind::Ollama, EngineKind::Openai];
const TOKENS: u32 = 8;

fn limits() -> Limits {
    Limits {
        connect: Duration::from_millis(300),
        first_byte: Duration::from_millis(800),
        gap: Duration::from_millis(500),
        total: Duration::from_secs(20),
        line_cap: 8 << 20,
        ..Limits::default()
    }
}

fn engine(kind: EngineKind) -> FakeEngine {
    let script = Script::timed(Duration::from_millis(5), Duration::from_millis(1));
    FakeEngine::start(FakeConfig {
        script,
        ..FakeConfig::new(kind)
    })
    .unwrap()
}

fn config(url: &str, kind: EngineKind) -> EngineConfig {
    let options = EngineOptions {
        num_predict: TOKENS,
        ..EngineOptions::default()
    };
    let config = EngineConfig::new(url.parse().unwrap(), kind, "fake", options);
    EngineConfig {
        limits: limits(),
        ..config
    }
}

fn client(url: &str, kind: EngineKind) -> EngineClient {
    EngineClient::new(config(url, kind)).unwrap()
}

fn request(id: &str) -> ChatRequest {
    let mut headers = HeaderMap::new();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent", trace.parse().unwrap());
    ChatRequest {
        request_id: RequestId::try_new(id).unwrap(),
        step: "analysis".to_owned(),
        messages: vec![
            Message::system("Be brief."),
            Message::user("What rises with load?"),
        ],
        headers,
    }
}

async fn ask(client: &EngineClient, id: &str) -> ChatOutcome {
    client.chat(&request(id), &CancellationToken::new()).await
}

/// The class of the failure, or none.
fn class(outcome: &ChatOutcome) -> Option<Kind> {
    outcome.record.error.as_ref().map(|e| e.kind)
}

fn assert_failed(outcome: &ChatOutcome, expected: Kind, what: &str) {
    assert_eq!(
        class(outcome),
        Some(expected),
        "{what}: {:?}",
        outcome.record.error
    );
    assert_eq!(
        outcome.record.done_ns, None,
        "{what}: a failed request has no end"
    );
    let detail = &outcome.record.error.as_ref().unwrap().detail;
    assert!(
        !detail.is_empty() && detail.len() < 2000,
        "{what}: {detail}"
    );
}

#[tokio::test]
async fn a_good_stream_is_a_whole_record() {
    for kind in BOTH {
        let engine = engine(kind);
        let client = client(&engine.url(), kind);
        let outcome = ask(&client, "good").await;
        let record = &outcome.record;
        assert_eq!(record.error, None);
        assert_eq!(record.chunk_ns.len(), 8);
        assert!(record.chunk_ns.is_sorted());
        assert!(record.head_ns.unwrap() <= record.chunk_ns[0]);
        assert!(record.done_ns.unwrap() >= *record.chunk_ns.last().unwrap());
        assert_eq!(record.output_tokens, Some(TOKENS));
        assert_eq!(record.prompt_tokens, Some(6));
        assert_eq!(record.finish, Some(FinishReason::Length));
        assert!(record.engine_times.prompt_eval_ns.unwrap() >= 5_000_000);
        assert!(outcome.text.starts_with("load rises with each agent,"));
        // What the engine got.
        let truth = engine.truth_of("good").unwrap();
        assert_eq!(truth.ended, Ended::Whole);
        assert!(truth.header("traceparent").unwrap().starts_with("00-0af7"));
        assert!(
            truth.received >= record.sent,
            "sent is stamped before the engine has it"
        );
        assert_eq!(truth.body["messages"][0]["role"], "system");
        match kind {
            EngineKind::Ollama => {
                assert_eq!(truth.body["options"]["num_ctx"], 2048);
                assert_eq!(truth.body["options"]["num_predict"], TOKENS);
                assert_eq!(truth.body["truncate"], false);
                assert_eq!(truth.body["shift"], false);
                assert_eq!(truth.body["keep_alive"], -1);
                assert!(
                    truth.body["options"].get("num_gpu").is_none(),
                    "unset is not sent"
                );
            }
            EngineKind::Openai => {
                assert_eq!(truth.body["max_tokens"], TOKENS);
                assert_eq!(truth.body["ignore_eos"], true);
                assert_eq!(truth.body["stream_options"]["include_usage"], true);
            }
        }
    }
}

#[tokio::test]
async fn every_bad_stream_has_its_class() {
    let faults: Vec<(Fault, Kind)> = vec![
        (
            status(404, r#"{"error":"model 'x' not found"}"#),
            Kind::ModelNotFound,
        ),
        (status(404, "404 page not found"), Kind::Status),
        (
            status(400, r#"{"error":{"message":"unknown field ignore_eos"}}"#),
            Kind::Status,
        ),
        (
            status(
                400,
                r#"{"error":{"code":400,"message":"the request exceeds the available context size"}}"#,
            ),
            Kind::Truncated,
        ),
        (status(429, r#"{"message":"slow down"}"#), Kind::Status),
        (
            status(500, r#"{"error":"model runner has unexpectedly stopped"}"#),
            Kind::Status,
        ),
        (
            status(503, r#"{"error":"server busy, please try again"}"#),
            Kind::Status,
        ),
        (status(204, ""), Kind::Status),
        (Fault::NoHttp, Kind::Malformed),
        (Fault::CloseBeforeHead, Kind::Connect),
        (Fault::HangBeforeHead, Kind::FirstByteTimeout),
        (Fault::HangBeforeFirstByte, Kind::FirstByteTimeout),
        (Fault::HangAfter { after: 0 }, Kind::FirstByteTimeout),
        (Fault::HangAfter { after: 3 }, Kind::GapTimeout),
        (Fault::HangAfterDone, Kind::GapTimeout),
        (
            Fault::ErrorLine {
                after: 0,
                message: "CUDA out of memory".into(),
            },
            Kind::StreamError,
        ),
        (
            Fault::ErrorLine {
                after: 3,
                message: "CUDA out of memory".into(),
            },
            Kind::StreamError,
        ),
        (
            Fault::CutAfter {
                after: 0,
                how: Cut::Rst,
            },
            Kind::CutStream,
        ),
        (
            Fault::CutAfter {
                after: 3,
                how: Cut::Rst,
            },
            Kind::CutStream,
        ),
        (
            Fault::CutAfter {
                after: 3,
                how: Cut::Fin,
            },
            Kind::CutStream,
        ),
        (Fault::EofWithoutDone { after: 0 }, Kind::NoDone),
        (Fault::EofWithoutDone { after: 3 }, Kind::NoDone),
        (Fault::EofInsideLine { after: 3 }, Kind::NoDone),
        (Fault::TwoDone, Kind::AfterDone),
        (Fault::DataAfterDone, Kind::AfterDone),
        (Fault::Garbage { after: 3 }, Kind::Malformed),
        (Fault::BadUtf8 { after: 3 }, Kind::Malformed),
        (Fault::BadChunk { after: 3 }, Kind::Malformed),
        (
            Fault::LongLine {
                after: 3,
                bytes: 9 << 20,
            },
            Kind::LineTooLong,
        ),
        (Fault::DoneWithoutFinish, Kind::NoDone),
    ];
    for kind in BOTH {
        let engine = engine(kind);
        let client = client(&engine.url(), kind);
        for (n, (fault, expected)) in faults.iter().enumerate() {
            engine.fault_next(Some(fault.clone()));
            let id = format!("f{n}");
            let outcome = ask(&client, &id).await;
            let what = format!("{} {fault:?}", kind.as_str());
            assert_failed(&outcome, *expected, &what);
            if let Fault::ErrorLine { message, .. } = fault {
                assert!(outcome.record.error.unwrap().detail.contains(message));
            }
            // Tokens before the fault are kept, and none is made up.
            let truth = engine.truth_of(&id).unwrap();
            assert_eq!(outcome.record.chunk_ns.len(), truth.tokens.len(), "{what}");
        }
        assert_eq!(
            engine.truth().len(),
            faults.len(),
            "no request was sent twice"
        );
        // The client is as good as new.
        assert_eq!(class(&ask(&client, "after").await), None);
    }
}

fn status(status: u16, body: &str) -> Fault {
    Fault::Status {
        status,
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn connecting_fails_in_two_ways() {
    let deaf = DeafListener::start().unwrap();
    // A port that was just free: nobody listens.
    let gone = engine(EngineKind::Ollama).url();
    for kind in BOTH {
        let outcome = ask(&client(&deaf.url(), kind), "deaf").await;
        assert_failed(&outcome, Kind::ConnectTimeout, "deaf");
        let outcome = ask(&client(&gone, kind), "gone").await;
        assert_failed(&outcome, Kind::Connect, "gone");
        assert!(outcome.record.error.unwrap().detail.contains("refused"));
    }
}

#[tokio::test]
async fn the_total_limit_holds_against_a_stream_that_never_pauses() {
    for kind in BOTH {
        let engine = engine(kind);
        let mut config = config(&engine.url(), kind);
        config.options.num_predict = 1_000_000;
        config.limits.total = Duration::from_millis(300);
        let outcome = ask(&EngineClient::new(config).unwrap(), "endless").await;
        assert_failed(&outcome, Kind::TotalTimeout, "endless");
        assert!(!outcome.record.chunk_ns.is_empty());
    }
}

#[tokio::test]
async fn an_answer_over_the_body_cap_is_refused() {
    for kind in BOTH {
        let engine = engine(kind);
        let mut config = config(&engine.url(), kind);
        config.options.num_predict = 1_000;
        config.limits.body_cap = 10_000;
        let outcome = ask(&EngineClient::new(config).unwrap(), "large").await;
        assert_failed(&outcome, Kind::LineTooLong, "large");
        assert!(outcome.text.len() < 10_000);
    }
}

#[tokio::test]
async fn cancelling_closes_the_connection() {
    for kind in BOTH {
        let engine = engine(kind);
        engine.set_script(Script::timed(
            Duration::from_millis(5),
            Duration::from_millis(20),
        ));
        let mut config = config(&engine.url(), kind);
        config.options.num_predict = 10_000;
        let client = EngineClient::new(config).unwrap();
        for (id, delay) in [("early", 0), ("late", 60)] {
            let cancel = CancellationToken::new();
            let question = request(id);
            let (outcome, ()) = tokio::join!(client.chat(&question, &cancel), async {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                cancel.cancel();
            });
            assert_failed(&outcome, Kind::Cancelled, id);
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while engine.truth_of("late").unwrap().ended != Ended::ClientGone {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the engine works on for nobody"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn the_pin_is_what_the_engine_says() {
    let ollama = engine(EngineKind::Ollama);
    ollama.edit_facts(|facts| facts.size_vram_bytes = 7);
    let client = client(&ollama.url(), EngineKind::Ollama);
    let before = client.pin_facts().await.unwrap();
    assert_eq!(before.model, None, "not loaded yet");
    assert_eq!(before.model_layers, Some(18));
    assert_eq!(before.train_context, Some(32_768));
    let warm = client
        .warm(
            RequestId::try_new("warm").unwrap(),
            &CancellationToken::new(),
        )
        .await;
    assert!(warm.unwrap().load.is_some());
    let after = client.pin_facts().await.unwrap();
    assert_eq!(after.model.as_deref(), Some("fake"));
    assert_eq!(after.product.as_deref(), Some("ollama"));
    assert_eq!(after.version.as_deref(), Some("0.0.0-fake"));
    assert_eq!(after.context_length, Some(2048));
    assert_eq!(after.size_vram_bytes, Some(7));
    assert!(after.model_digest.unwrap().starts_with("sha256:"));
}

#[tokio::test]
async fn a_llama_cpp_pin_tells_slots_and_context() {
    let config = FakeConfig {
        slots: Some(2),
        ..FakeConfig::new(EngineKind::Openai)
    };
    let engine = FakeEngine::start(config).unwrap();
    let facts = client(&engine.url(), EngineKind::Openai)
        .pin_facts()
        .await
        .unwrap();
    assert_eq!(facts.product.as_deref(), Some("llama.cpp"));
    assert_eq!(facts.parallel_slots, Some(2));
    assert_eq!(facts.context_length, Some(4096));
    assert_eq!(facts.train_context, Some(32_768));
    assert_eq!(facts.size_bytes, Some(300 << 20));
    assert_eq!(facts.size_vram_bytes, None, "llama.cpp does not say");
}

#[tokio::test]
async fn looking_at_an_instance_fails_by_name() {
    let engine = engine(EngineKind::Ollama);
    let mut other = config(&engine.url(), EngineKind::Ollama);
    other.model = "nobody".to_owned();
    let error = EngineClient::new(other)
        .unwrap()
        .pin_facts()
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::ModelNotFound { .. }));
    assert!(error.to_string().contains("ollama pull nobody"), "{error}");
    let url = engine.url();
    drop(engine);
    let error = client(&url, EngineKind::Ollama)
        .pin_facts()
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn changed_options_reload_and_are_seen_in_the_load_time() {
    let engine = engine(EngineKind::Ollama);
    let load = Duration::from_millis(100);
    engine.set_script(Script {
        load,
        ..Script::timed(Duration::from_millis(5), Duration::from_millis(1))
    });
    let first = client(&engine.url(), EngineKind::Ollama);
    let mut changed = config(&engine.url(), EngineKind::Ollama);
    changed.options.num_ctx = 4096;
    let second = EngineClient::new(changed).unwrap();
    let mut loads = Vec::new();
    for (n, client) in [&first, &first, &second, &first].iter().enumerate() {
        let outcome = ask(client, &format!("r{n}")).await;
        assert_eq!(class(&outcome), None);
        loads.push(outcome.record.engine_times.load_ns.unwrap() >= 100_000_000);
    }
    assert_eq!(loads, [true, false, true, true]);
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

#[tokio::test]
async fn a_line_without_end_takes_bounded_memory() {
    // The fake lives in this process too, but writes the line in pieces.
    let engine = engine(EngineKind::Ollama);
    let client = client(&engine.url(), EngineKind::Ollama);
    let before = resident();
    for n in 0..8 {
        engine.fault_next(Some(Fault::LongLine {
            after: 1,
            bytes: 9 << 20,
        }));
        let outcome = ask(&client, &format!("long{n}")).await;
        assert_failed(&outcome, Kind::LineTooLong, "long");
    }
    let grown = resident().saturating_sub(before);
    assert!(
        grown < 96 << 20,
        "eight lines of 9 MiB grew the process by {grown} bytes"
    );
}
