//! What the server does not take, at once and with words that help.

use std::time::Duration;

use bytes::Bytes;
use chimera_runtime::bus::{Auth, Bus, BusError, PublishError, StreamLimits};
use chimera_runtime::clock;
use chimera_runtime::config::Secret;
use chimera_testkit::nats::TestNats;
use chimera_wire::subject::{StreamName, Subject, msg_id_agent};

use crate::{LIMIT, all, control, key, publish, publisher};

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
