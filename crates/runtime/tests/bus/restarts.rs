//! A server that is killed, restarted or frozen: nothing acked is lost, nothing is stored twice.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chimera_domain::ids::ExperimentId;
use chimera_runtime::bus::{PublishError, ReadError, StoredMessage, StreamLimits};
use chimera_wire::subject::{Filter, StreamName, Subject, msg_id_agent};
use futures::StreamExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{LIMIT, all, key, publish, publisher, started};

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
