//! The service on a real bus.

use std::time::Duration;

use chimera_domain::ids::NodeId;
use chimera_domain::telemetry::{GapReason, Series, TelemetryBatch};
use chimera_runtime::bus::{Bus, StreamLimits};
use chimera_testkit::nats::TestNats;
use chimera_wire::subject::{Filter, StreamName, Subject};
use chimera_wire::telemetry::decode_batch;
use futures::TryStreamExt as _;
use gpu_telemetry::run;
use tokio_util::sync::CancellationToken;

use crate::service::config;

async fn stored(bus: &Bus) -> Vec<TelemetryBatch> {
    let messages: Vec<_> = bus
        .replay(StreamName::Tel, &Filter::Tel, 0)
        .try_collect()
        .await
        .unwrap();
    let decoded = messages.iter().map(|message| {
        let Ok(Subject::Tel(node)) = message.subject.parse() else {
            panic!("{}", message.subject)
        };
        decode_batch(&node, &message.payload).unwrap()
    });
    decoded.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_survive_a_kill_of_the_server_each_once_and_in_order() {
    let Some(mut nats) = TestNats::start_or_skip("telemetry on a real bus").await else {
        return;
    };
    let bus = nats.connect("telemetry-test").await.unwrap();
    bus.ensure_streams(&StreamLimits::within(
        nats.server().unwrap().max_file_store(),
    ))
    .await
    .unwrap();

    let shutdown = CancellationToken::new();
    let service = run(config(), &bus, shutdown.clone());
    let (ended, ()) = tokio::join!(service, async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        nats.kill9().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        nats.restart().await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        shutdown.cancel();
    });
    ended.unwrap();

    let batches = stored(&bus).await;
    let numbers: Vec<u64> = batches.iter().map(|batch| batch.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(numbers.len() >= 6, "{numbers:?}");
    assert!(
        batches
            .iter()
            .all(|batch| batch.node == NodeId::try_new("n1").unwrap())
    );
    let lost = |reason| matches!(reason, GapReason::QueueFull | GapReason::PublishFailed);
    assert!(
        batches
            .iter()
            .flat_map(|batch| &batch.gaps)
            .all(|gap| !lost(gap.reason))
    );
    let samples: Vec<_> = batches.iter().flat_map(|batch| &batch.samples).collect();
    let (from, to) = (samples[0].at, samples.last().unwrap().at);
    assert!(Series::new(&batches).host_cores_used(from, to).is_some());
}
