//! The bus against a real nats-server, killed and restarted under it.
//!
//! - `stored`: what is kept, once and in order. `restarts`: a server that dies or stands still.
//! - `refused`: what the server does not take, and what the error says.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use bytes::Bytes;
use chimera_domain::ids::{AgentId, AgentKey, ExperimentId, RunId};
use chimera_runtime::bus::{Bus, PublishError, Publisher, StoredMessage, StreamLimits};
use chimera_testkit::nats::TestNats;
use chimera_wire::subject::{StreamName, Subject, msg_id_agent};
use futures::TryStreamExt as _;
use tokio_util::sync::CancellationToken;

mod refused;
mod restarts;
mod stored;

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
