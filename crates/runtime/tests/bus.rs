//! The bus against a real nats-server, killed and restarted under it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chimera_domain::ids::{AgentId, AgentKey, ExperimentId, RunId};
use chimera_runtime::bus::{
    Auth, Bus, BusError, Expect, PublishError, Publisher, ReadError, StoredMessage, StreamLimits,
};
use chimera_runtime::clock;
use chimera_runtime::config::Secret;
use chimera_testkit::nats::TestNats;
use chimera_wire::subject::{Filter, StreamName, Subject, msg_id_agent};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);

fn key(agent: &str) -> AgentKey {
    AgentKey {
        experiment: ExperimentId::try_new("e1").unwrap(),
        run: RunId::try_new("r1").unwrap(),
        attempt: 1,
        agent: AgentId::try_new(agent).unwrap(),
    }
}

fn control() -> Subject {
    Subject::Ctrl {
        experiment: ExperimentId::try_new("e1").unwrap(),
        run: None,
    }
}

fn publisher(bus: &Bus, limit: Duration) -> Publisher {
    bus.publisher(limit, CancellationToken::new())
}

async fn publish(to: &Publisher, agent: &str, n: u64) -> Result<u64, PublishError> {
    let key = key(agent);
    let id = msg_id_agent(&key, n);
    let body = Bytes::from(format!("{agent} {n}"));
    to.publish(&Subject::Ev(key), &id, body)
        .await
        .map(|ack| ack.sequence)
}

async fn all(bus: &Bus, stream: StreamName, from: u64) -> Vec<StoredMessage> {
    bus.replay(stream, &stream.filter(), from)
        .try_collect()
        .await
        .unwrap()
}

async fn started(test: &str) -> Option<(TestNats, Bus)> {
    let nats = TestNats::start_or_skip(test).await?;
    let bus = nats.connect(test).await.unwrap();
    bus.ensure_streams(&StreamLimits::default()).await.unwrap();
    Some((nats, bus))
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_created_once_and_checked() {
    let Some((nats, bus)) = started("streams").await else {
        return;
    };
    let again = bus.ensure_streams(&StreamLimits::default()).await.unwrap();
    assert!(
        again
            .iter()
            .all(|state| !state.created && state.differences.is_empty()),
        "{again:?}"
    );

    let larger = StreamLimits {
        ev_bytes: 400 << 20,
        ..StreamLimits::default()
    };
    let differing = bus.ensure_streams(&larger).await.unwrap();
    assert_eq!(
        differing
            .iter()
            .map(|state| state.differences.len())
            .sum::<usize>(),
        1
    );

    let raw = async_nats::connect(nats.url().unwrap()).await.unwrap();
    let raw = async_nats::jetstream::new(raw);
    let mut config = raw
        .get_stream("EV")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    config.discard = async_nats::jetstream::stream::DiscardPolicy::Old;
    raw.update_stream(config).await.unwrap();
    let error = bus
        .ensure_streams(&StreamLimits::default())
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            BusError::StreamDiffers {
                stream: StreamName::Ev,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("discard: found Old, need New"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_id_is_stored_once_and_the_replay_is_in_order() {
    let Some((_nats, bus)) = started("repeat").await else {
        return;
    };
    let to = publisher(&bus, LIMIT);
    for n in 0..200 {
        publish(&to, if n % 2 == 0 { "a" } else { "b" }, n)
            .await
            .unwrap();
    }
    let key_a = key("a");
    let again = to
        .publish(
            &Subject::Ev(key_a.clone()),
            &msg_id_agent(&key_a, 0),
            Bytes::from_static(b"x"),
        )
        .await
        .unwrap();
    assert!(again.duplicate && again.sequence == 1, "{again:?}");

    let stored = all(&bus, StreamName::Ev, 0).await;
    assert_eq!(stored.len(), 200);
    assert!(
        stored
            .windows(2)
            .all(|pair| pair[0].sequence < pair[1].sequence)
    );
    assert_eq!(
        stored[7].msg_id.as_deref(),
        Some(msg_id_agent(&key("b"), 7).as_str())
    );
    assert_eq!(stored[7].payload, "b 7");
    assert_eq!(stored[7].subject, Subject::Ev(key("b")).to_string());
    assert_eq!(all(&bus, StreamName::Ev, 150).await.len(), 51);
    assert!(all(&bus, StreamName::Ev, 201).await.is_empty());
    assert!(all(&bus, StreamName::Tel, 0).await.is_empty());

    let experiment = ExperimentId::try_new("other").unwrap();
    let none = bus
        .replay(StreamName::Ev, &Filter::EvOf(experiment), 0)
        .count()
        .await;
    assert_eq!(none, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_and_restart_lose_nothing_acked_and_store_nothing_twice() {
    let Some((mut nats, bus)) = started("kill9").await else {
        return;
    };
    const WRITERS: u64 = 4;
    const EACH: u64 = 120;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let to = publisher(&bus, LIMIT);
        writers.spawn(async move {
            let agent = format!("agent-{writer}");
            let mut acked = Vec::new();
            for n in 0..EACH {
                acked.push((agent.clone(), n, publish(&to, &agent, n).await.unwrap()));
            }
            acked
        });
    }
    for pause_ms in [50, 120] {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        nats.kill9().await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        nats.restart().await.unwrap();
    }
    let acked: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(acked.len() as u64, WRITERS * EACH);
    assert!(
        bus.health().disconnects >= 1,
        "the writers were faster than the kill"
    );

    let stored = all(&bus, StreamName::Ev, 0).await;
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for message in &stored {
        *times.entry(message.msg_id.clone().unwrap()).or_default() += 1;
    }
    for (agent, n, sequence) in acked {
        let id = msg_id_agent(&key(&agent), n);
        assert_eq!(times.get(&id), Some(&1), "{id}");
        let at = stored
            .iter()
            .find(|message| message.sequence == sequence)
            .unwrap();
        assert_eq!(at.payload, format!("{agent} {n}"));
    }
    assert_eq!(stored.len() as u64, WRITERS * EACH);
    assert!(bus.healthy());
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_survives_a_restart_without_a_gap_or_a_copy() {
    let Some((mut nats, bus)) = started("follow").await else {
        return;
    };
    let to = publisher(&bus, LIMIT);
    for n in 0..5 {
        publish(&to, "a", n).await.unwrap();
    }
    // Starts in the middle: the library's own recreation would start over at the first message.
    let mut messages = bus.follow(StreamName::Ev, &Filter::Ev, 4);
    let next = |messages: futures::stream::BoxStream<'static, Result<StoredMessage, ReadError>>| async {
        let mut messages = messages;
        let item = tokio::time::timeout(LIMIT, messages.next())
            .await
            .expect("in time");
        (item.expect("goes on").expect("no error"), messages)
    };
    let mut seen = Vec::new();
    for restart in [false, true, true] {
        if restart {
            nats.restart().await.unwrap();
        }
        let first = 5 + seen.len() as u64;
        for n in first..first + 2 {
            publish(&to, "a", n).await.unwrap();
        }
        let expected = if restart { 2 } else { 4 };
        for _ in 0..expected {
            let (message, rest) = next(messages).await;
            messages = rest;
            seen.push(message.sequence);
        }
    }
    let count = seen.len() as u64;
    assert_eq!(seen, (4..4 + count).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_has_seen_nothing_does_not_start_over_at_the_beginning() {
    let Some((mut nats, bus)) = started("follow-fresh").await else {
        return;
    };
    let to = publisher(&bus, LIMIT);
    for n in 0..3 {
        publish(&to, "a", n).await.unwrap();
    }
    let mut messages = bus.follow(StreamName::Ev, &Filter::Ev, 4);
    // Lets the consumer come into being before the server goes.
    assert!(
        tokio::time::timeout(Duration::from_millis(300), messages.next())
            .await
            .is_err()
    );
    nats.restart().await.unwrap();
    publish(&to, "a", 3).await.unwrap();
    let message = tokio::time::timeout(LIMIT, messages.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        (message.sequence, message.payload),
        (4, Bytes::from_static(b"a 3"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_store_is_not_taken_for_an_empty_stream() {
    let Some((mut nats, bus)) = started("lost").await else {
        return;
    };
    let to = publisher(&bus, LIMIT);
    for n in 0..3 {
        publish(&to, "a", n).await.unwrap();
    }
    let mut messages = bus.follow(StreamName::Ev, &Filter::Ev, 0);
    for _ in 0..3 {
        messages.next().await.unwrap().unwrap();
    }
    nats.kill9().await.unwrap();
    std::fs::remove_dir_all(nats.dir().join("store")).unwrap();
    nats.restart().await.unwrap();
    let repairer = nats.connect("repairer").await.unwrap();
    repairer
        .ensure_streams(&StreamLimits::default())
        .await
        .unwrap();
    let end = tokio::time::timeout(LIMIT, messages.next())
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(
            end,
            Err(ReadError::HistoryLost {
                read: 3,
                last: 0,
                ..
            })
        ),
        "{end:?}"
    );
    assert!(messages.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_a_storage_error_and_shows_in_health() {
    let Some(nats) = TestNats::start_or_skip("storage").await else {
        return;
    };
    let bus = nats.connect("storage").await.unwrap();
    let limits = StreamLimits {
        ev_bytes: 256 * 1024,
        ..StreamLimits::default()
    };
    bus.ensure_streams(&limits).await.unwrap();
    let to = publisher(&bus, LIMIT);
    let subject = Subject::Ev(key("a"));
    let body = Bytes::from(vec![b'x'; 64 * 1024]);
    let mut stored = 0;
    let error = loop {
        let id = msg_id_agent(&key("a"), stored);
        match to.publish(&subject, &id, body.clone()).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 10, "the limit was not enforced");
    };
    assert!(matches!(error, PublishError::Storage { .. }), "{error}");
    assert!(stored >= 1 && !bus.healthy() && bus.health().storage_full);
    assert_eq!(all(&bus, StreamName::Ev, 0).await.len() as u64, stored);

    let huge = Bytes::from(vec![b'x'; 5 << 20]);
    let error = to.publish(&control(), "huge", huge).await.unwrap_err();
    assert!(
        matches!(
            error,
            PublishError::TooLarge {
                bytes: 5_242_880,
                ..
            }
        ),
        "{error}"
    );
    to.publish(&control(), "small", Bytes::from_static(b"x"))
        .await
        .unwrap();
    assert!(bus.healthy());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_writer_appends_at_a_place() {
    let Some((_nats, bus)) = started("cas").await else {
        return;
    };
    let to = publisher(&bus, LIMIT);
    let append = |id: &'static str, expect| {
        let to = to.clone();
        async move {
            to.publish_cas(&control(), id, Bytes::from_static(b"epoch"), expect)
                .await
        }
    };
    let first = append("one", Expect::LastInStream(0)).await.unwrap();
    let second = append("two", Expect::LastInStream(first.sequence))
        .await
        .unwrap();
    let lost = append("zombie", Expect::LastInStream(first.sequence))
        .await
        .unwrap_err();
    assert!(matches!(lost, PublishError::Conflict { .. }), "{lost}");
    // A repeated attempt is a duplicate of itself, not a conflict with itself.
    let again = append("two", Expect::LastInStream(first.sequence))
        .await
        .unwrap();
    assert!(
        again.duplicate && again.sequence == second.sequence,
        "{again:?}"
    );

    let on_subject = append("three", Expect::LastOnSubject(second.sequence))
        .await
        .unwrap();
    let late = append("four", Expect::LastOnSubject(second.sequence))
        .await
        .unwrap_err();
    assert!(matches!(late, PublishError::Conflict { .. }), "{late}");
    let again = append("three", Expect::LastOnSubject(second.sequence))
        .await
        .unwrap();
    assert!(
        again.duplicate && again.sequence == on_subject.sequence,
        "{again:?}"
    );
    assert!(
        bus.last(StreamName::Tel, &Filter::Tel)
            .await
            .unwrap()
            .is_none()
    );
    let last = bus
        .last(StreamName::Ctrl, &Filter::Ctrl)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(last.sequence, on_subject.sequence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_kept_once_with_its_origin() {
    let Some((_nats, bus)) = started("dlq").await else {
        return;
    };
    let to = publisher(&bus, LIMIT);
    publish(&to, "a", 0).await.unwrap();
    let poison = all(&bus, StreamName::Ev, 0).await.remove(0);
    to.dead_letter(&poison, "not a\nrecord").await.unwrap();
    assert!(
        to.dead_letter(&poison, "not a record")
            .await
            .unwrap()
            .duplicate
    );
    let letters = all(&bus, StreamName::Dlq, 0).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].payload, poison.payload);
    let header = |name: &str| letters[0].headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(header("Chimera-Dlq-Subject"), poison.subject);
    assert_eq!(header("Chimera-Dlq-Sequence"), "1");
    assert_eq!(header("Chimera-Dlq-Reason"), "not a record");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_fail_fast_and_say_so() {
    if TestNats::start_or_skip("auth").await.is_none() {
        return;
    }
    let token = Secret::new("right");
    let nats = TestNats::start_with(|config| config.token = Some(token))
        .await
        .unwrap();
    nats.connect("welcome").await.unwrap();
    for auth in [Auth::None, Auth::Token(Secret::new("wrong"))] {
        let mut config = nats.bus_config("stranger").unwrap();
        config.auth = auth;
        config.connect_limit = LIMIT;
        let before = clock::mono();
        let error = Bus::connect(config).await.unwrap_err();
        assert!(matches!(error, BusError::Unauthorized { .. }), "{error}");
        assert!(clock::elapsed(before) < Duration::from_secs(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_an_error_at_once_and_not_a_timeout() {
    if TestNats::start_or_skip("rights").await.is_none() {
        return;
    }
    let users = r#"
        authorization { users: [
            { user: "admin", password: "a@b" }
            { user: "agent", password: "b", permissions: {
                publish: ["chimera.ev.*.*.*.a"], subscribe: ["_INBOX_agent.>"]
            } }
        ] }"#;
    let nats = TestNats::start_with(|config| config.extra = users.to_owned())
        .await
        .unwrap();
    let config = |user: &str| {
        let mut config = nats.bus_config(user).unwrap();
        config.url = config.url.replace("//", &format!("//{user}@"));
        config.inbox_prefix = Some(format!("_INBOX_{}", user.split(':').next().unwrap()));
        config
    };
    let admin = Bus::connect(config("admin:a%40b")).await.unwrap();
    admin
        .ensure_streams(&StreamLimits::default())
        .await
        .unwrap();
    let agent = publisher(&Bus::connect(config("agent:b")).await.unwrap(), LIMIT);
    publish(&agent, "a", 0).await.unwrap();
    let before = clock::mono();
    let error = publish(&agent, "b", 0).await.unwrap_err();
    assert!(matches!(error, PublishError::Denied { .. }), "{error}");
    assert!(clock::elapsed(before) < Duration::from_secs(1), "{error}");
    publish(&agent, "a", 1).await.unwrap();
    assert_eq!(all(&admin, StreamName::Ev, 0).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_address_is_an_error_with_the_remedy() {
    let mut config = chimera_runtime::bus::BusConfig::new("nats://127.0.0.1:9", "alone");
    config.connect_limit = Duration::from_millis(300);
    let error = Bus::connect(config).await.unwrap_err().to_string();
    assert!(
        error.contains("nats://127.0.0.1:9") && error.contains("--nats-url"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_a_publish_ends_at_its_limit_or_by_cancellation() {
    let Some((mut nats, bus)) = started("limits").await else {
        return;
    };
    nats.kill9().await.unwrap();
    let error = publish(&publisher(&bus, Duration::from_millis(300)), "a", 0)
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::TimedOut { .. }), "{error}");
    assert!(!bus.healthy());

    let cancel = CancellationToken::new();
    let to = bus.publisher(LIMIT, cancel.clone());
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { publish(&to, "a", 1).await });
    cancel.cancel();
    let error = waiting.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, PublishError::Cancelled { .. }), "{error}");

    let live = Subject::Live(ExperimentId::try_new("e1").unwrap());
    bus.live(&live, Bytes::from_static(b"dropped")).await;
    let error = publisher(&bus, LIMIT)
        .publish(&live, "x", Bytes::new())
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::NotDurable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_costs_time_and_no_copy() {
    let Some((mut nats, bus)) = started("frozen").await else {
        return;
    };
    nats.freeze().unwrap();
    let to = publisher(&bus, LIMIT);
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { publish(&to, "a", 0).await });
    // Longer than one ack timeout of the test (2 s), so that it is sent at least twice.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    nats.thaw().unwrap();
    waiting.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(all(&bus, StreamName::Ev, 0).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn display_messages_arrive_and_a_missing_stream_is_named() {
    let Some(nats) = TestNats::start_or_skip("live").await else {
        return;
    };
    let bus = nats.connect("live").await.unwrap();
    let mut shown = bus.live_messages(&Filter::Live).await.unwrap();
    let subject = Subject::Live(ExperimentId::try_new("e1").unwrap());
    bus.live(&subject, Bytes::from_static(b"50 %")).await;
    let (on, body) = tokio::time::timeout(LIMIT, shown.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (on, body),
        (subject.to_string(), Bytes::from_static(b"50 %"))
    );

    let end = bus
        .replay(StreamName::Ev, &Filter::Ev, 0)
        .next()
        .await
        .unwrap();
    assert!(
        matches!(end, Err(ReadError::NoStream(StreamName::Ev))),
        "{end:?}"
    );
    bus.close(Duration::from_secs(5)).await;
}
