//! The engine's state beside an agent's work: what is seen, what is asked, and that nobody waits.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use agent_worker::engine::{
    ChatOutcome, ChatRequest, EngineClient, EngineConfig, Look, Message, StateReader,
};
use agent_worker::watch::{LOOK_LIMIT, pair};
use chimera_domain::event::{EngineState, EngineWatch};
use chimera_domain::ids::RequestId;
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::units::MonoNs;
use chimera_runtime::clock::mono;
use chimera_testkit::fake_engine::{DeafListener, FakeConfig, FakeEngine, Script, StateRoute};
use http::HeaderMap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_millis(50);
const SHORT: Duration = Duration::from_millis(200);

fn engine(kind: EngineKind, slots: Option<u32>, ttft: Duration) -> FakeEngine {
    FakeEngine::start(FakeConfig {
        script: Script::timed(ttft, Duration::from_millis(1)),
        slots,
        ..FakeConfig::new(kind)
    })
    .unwrap()
}

fn reader(url: &str, kind: EngineKind, limit: Duration) -> Arc<StateReader> {
    Arc::new(StateReader::new(&url.parse().unwrap(), kind, limit).unwrap())
}

async fn ask(engine: &FakeEngine, kind: EngineKind, id: &str) -> ChatOutcome {
    let options = EngineOptions {
        num_predict: 4,
        ..EngineOptions::default()
    };
    let config = EngineConfig::new(engine.url().parse().unwrap(), kind, "fake", options);
    let request = ChatRequest {
        request_id: RequestId::try_new(id).unwrap(),
        step: "analysis".to_owned(),
        messages: vec![Message::user("What rises with load?")],
        headers: HeaderMap::new(),
    };
    let client = EngineClient::new(config).unwrap();
    client.chat(&request, &CancellationToken::new()).await
}

/// Watches while `work` runs, as a job does: the looks are made by a task of their own.
async fn watched<T>(
    reader: Arc<StateReader>,
    work: impl Future<Output = T>,
) -> (T, Option<EngineWatch>) {
    let (mut watching, looks) = pair(reader, PERIOD);
    let mut elsewhere = JoinSet::new();
    elsewhere.spawn(looks);
    watching.begin(mono());
    let done = work.await;
    (done, watching.end(mono()).await)
}

fn state(look: Look) -> EngineState {
    match look {
        Look::State(state) => Some(state),
        Look::Missed | Look::Nothing => None,
    }
    .unwrap()
}

#[tokio::test]
async fn ollama_says_which_models_are_in_memory() {
    let kind = EngineKind::Ollama;
    let engine = engine(kind, None, Duration::from_millis(150));
    engine.edit_facts(|facts| facts.size_vram_bytes = 100 << 20);
    let work = ask(&engine, kind, "one");
    let (outcome, watch) = watched(reader(&engine.url(), kind, LOOK_LIMIT), work).await;
    assert_eq!(outcome.record.error, None);
    let watch = watch.unwrap();
    assert_eq!(watch.missed, 0);
    assert!(
        watch.states.len() >= 2,
        "some meanwhile, one at the end: {watch:?}"
    );
    assert!(watch.states.is_sorted_by_key(|state| state.at));
    let last = watch.states.last().unwrap();
    let resident = last.resident.as_ref().unwrap();
    assert_eq!(resident.len(), 1);
    assert_eq!(resident[0].model, "fake");
    assert_eq!(resident[0].size_bytes, Some(300 << 20));
    assert_eq!(resident[0].size_vram_bytes, Some(100 << 20));
    let asked = EngineOptions::default().num_ctx;
    assert_eq!(resident[0].context_length, Some(asked));
    assert_eq!((last.requests_running, last.requests_waiting), (None, None));

    engine.unload();
    let empty = state(reader(&engine.url(), kind, LOOK_LIMIT).look(mono()).await);
    assert_eq!(empty.resident, Some(Vec::new()), "none is not unknown");
}

#[tokio::test]
async fn llama_cpp_says_what_runs_and_what_waits() {
    let kind = EngineKind::Openai;
    let engine = engine(kind, Some(1), Duration::from_millis(200));
    let work = async {
        tokio::join!(
            ask(&engine, kind, "one"),
            ask(&engine, kind, "two"),
            ask(&engine, kind, "three")
        )
    };
    let (_, watch) = watched(reader(&engine.url(), kind, LOOK_LIMIT), work).await;
    let watch = watch.unwrap();
    let most = |of: fn(&EngineState) -> Option<u32>| watch.states.iter().filter_map(of).max();
    assert_eq!(most(|s| s.requests_running), Some(1), "one slot: {watch:?}");
    assert_eq!(most(|s| s.requests_waiting), Some(2), "{watch:?}");
    let last = watch.states.last().unwrap();
    assert_eq!(
        (last.requests_running, last.requests_waiting),
        (Some(0), Some(0)),
        "the last look is after the work"
    );
    assert_eq!(last.resident, None);
    assert_eq!(engine.asked("/slots"), 0, "metrics say it all");
}

#[tokio::test]
async fn without_metrics_the_slots_are_counted_and_metrics_are_asked_for_once() {
    let kind = EngineKind::Openai;
    let engine = engine(kind, Some(2), Duration::from_millis(250));
    engine.edit_facts(|facts| facts.metrics = StateRoute::Refuses(501));
    let work = ask(&engine, kind, "one");
    let (_, watch) = watched(reader(&engine.url(), kind, LOOK_LIMIT), work).await;
    let watch = watch.unwrap();
    let busy: Vec<_> = watch.states.iter().map(|s| s.requests_running).collect();
    assert!(busy.contains(&Some(1)), "{busy:?}");
    assert_eq!(busy.last(), Some(&Some(0)));
    assert!(watch.states.iter().all(|s| s.requests_waiting.is_none()));
    assert_eq!(engine.asked("/metrics"), 1);
    assert!(engine.asked("/slots") >= 3);
    assert_eq!(watch.missed, 0, "what is not offered is not missed");
}

#[tokio::test]
async fn an_engine_that_says_nothing_is_asked_once_and_leaves_no_record() {
    let kind = EngineKind::Openai;
    let engine = engine(kind, None, Duration::from_millis(250));
    engine.edit_facts(|facts| {
        facts.metrics = StateRoute::Refuses(404);
        facts.slots = StateRoute::Refuses(501);
    });
    let reader = reader(&engine.url(), kind, LOOK_LIMIT);
    let work = ask(&engine, kind, "one");
    let (outcome, watch) = watched(Arc::clone(&reader), work).await;
    assert_eq!(outcome.record.error, None);
    assert_eq!(watch, None);
    assert_eq!(reader.look(mono()).await, Look::Nothing);
    for path in ["/metrics", "/slots", "/api/ps"] {
        assert_eq!(engine.asked(path), 1, "{path}");
    }
}

#[tokio::test]
async fn a_hung_route_delays_neither_the_agent_nor_its_end_and_is_counted() {
    for kind in [EngineKind::Ollama, EngineKind::Openai] {
        let engine = engine(kind, None, Duration::from_millis(300));
        engine.edit_facts(|facts| {
            facts.resident = StateRoute::Hangs;
            facts.metrics = StateRoute::Hangs;
        });
        let begin = mono();
        let work = async {
            let outcome = ask(&engine, kind, "one").await;
            (outcome, mono())
        };
        let ((outcome, worked), watch) = watched(reader(&engine.url(), kind, SHORT), work).await;
        assert_eq!(outcome.record.error, None);
        let truth = engine.truth_of("one").unwrap();
        let late = worked.since(truth.done.unwrap()).unwrap();
        assert!(late < 100_000_000, "the agent went on after {late} ns");
        let watch = watch.unwrap();
        assert!(watch.states.is_empty());
        assert!((1..=3).contains(&watch.missed), "{}", watch.missed);
        let whole = mono().since(begin).unwrap();
        assert!(whole < 1_500_000_000, "{whole} ns in all");
    }
}

#[tokio::test]
async fn a_failure_is_missed_and_asked_again() {
    let kind = EngineKind::Openai;
    let engine = engine(kind, None, Duration::ZERO);
    let reader = reader(&engine.url(), kind, LOOK_LIMIT);
    engine.edit_facts(|facts| facts.metrics = StateRoute::Refuses(503));
    assert_eq!(reader.look(mono()).await, Look::Missed);
    engine.edit_facts(|facts| facts.metrics = StateRoute::Answers);
    assert_eq!(state(reader.look(mono()).await).requests_running, Some(0));

    let deaf = DeafListener::start().unwrap();
    let nobody = self::reader(&deaf.url(), kind, SHORT);
    assert_eq!(nobody.look(mono()).await, Look::Missed);
}

#[tokio::test]
async fn agents_that_share_an_instance_share_its_looks() {
    let kind = EngineKind::Openai;
    let engine = engine(kind, None, Duration::ZERO);
    let reader = reader(&engine.url(), kind, LOOK_LIMIT);
    let from = mono();
    let (one, two) = tokio::join!(reader.look(from), reader.look(from));
    assert_eq!(one, two);
    assert_eq!(engine.asked("/metrics"), 1);
    let later = state(reader.look(mono()).await);
    assert!(
        later.at > state(one).at,
        "an old look does not pass for a new one"
    );
    assert_eq!(engine.asked("/metrics"), 2);
    assert_eq!(state(reader.look(MonoNs(0)).await), later);
}

#[tokio::test]
async fn a_watch_whose_agent_never_starts_asks_nothing() {
    let engine = engine(EngineKind::Ollama, None, Duration::ZERO);
    let (watching, looks) = pair(reader(&engine.url(), EngineKind::Ollama, SHORT), PERIOD);
    drop(watching);
    looks.await;
    assert_eq!(engine.asked("/api/ps"), 0);
}

#[tokio::test]
async fn a_request_states_what_its_thread_waited_and_less_than_it_took() {
    if std::fs::metadata("/proc/thread-self/schedstat").is_err() {
        return;
    }
    let engine = engine(EngineKind::Ollama, None, Duration::from_millis(20));
    // Not to its last stamp: a busy machine may take the core away just after it.
    let begin = mono();
    let record = ask(&engine, EngineKind::Ollama, "one").await.record;
    let whole = mono().since(begin).unwrap();
    if let Some(waited) = record.client_wait_ns {
        assert!(waited <= whole, "{waited} of {whole} ns");
    }
    let refused = ask(&engine, EngineKind::Ollama, "two");
    engine.edit_facts(|facts| facts.context_length = Some(1));
    let refused = refused.await.record;
    assert!(refused.error.is_some());
    assert_eq!(
        refused.client_wait_ns.is_some(),
        record.client_wait_ns.is_some(),
        "a failed request waited too"
    );
}
