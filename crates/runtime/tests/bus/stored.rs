//! What is kept: once, in order, where it belongs.

use std::time::Duration;

use bytes::Bytes;
use chimera_domain::ids::ExperimentId;
use chimera_runtime::bus::{BusError, Expect, PublishError, ReadError, StreamLimits};
use chimera_testkit::nats::TestNats;
use chimera_wire::subject::{Filter, StreamName, Subject, msg_id_agent};
use futures::StreamExt as _;

use crate::{LIMIT, all, control, key, publish, publisher, started};

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
