//! Batches to the bus, one message each, until each is stored or known to be refused.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use chimera_domain::telemetry::{GapReason, TelemetryBatch};
use chimera_runtime::bus::{PublishError, Publisher};
use chimera_wire::subject::{Subject, msg_id_tel};
use chimera_wire::telemetry::{encode_batch, sampler_session};
use tokio::sync::mpsc;

use crate::batch::span_of;
use crate::error::TelemetryError;
use crate::sampler::Losses;

/// Pause before a batch is offered again to a bus that has no room or does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Where batches go. A trait because tests collect them.
pub trait BatchSink: Send + Sync + 'static {
    /// Stores a batch; storing the same one again has no effect.
    fn store(
        &self,
        batch: &TelemetryBatch,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// The stream TEL.
#[derive(Debug, Clone)]
pub struct BusSink {
    publisher: Publisher,
}

impl BusSink {
    /// Publishes through `publisher`.
    #[must_use]
    pub fn new(publisher: Publisher) -> Self {
        Self { publisher }
    }
}

impl BatchSink for BusSink {
    async fn store(&self, batch: &TelemetryBatch) -> Result<(), PublishError> {
        let subject = Subject::Tel(batch.node.clone());
        let id = msg_id_tel(&batch.node, &sampler_session(batch), batch.seq);
        let payload = Bytes::from(encode_batch(batch));
        self.publisher
            .publish(&subject, &id, payload)
            .await
            .map(drop)
    }
}

/// Stores batches in their order until there are no more.
///
/// # Errors
/// When the bus will never take one: we have no right to publish there.
pub(crate) async fn publish_all(
    mut batches: mpsc::Receiver<TelemetryBatch>,
    sink: impl BatchSink,
    losses: Losses,
) -> Result<(), TelemetryError> {
    while let Some(batch) = batches.recv().await {
        publish_one(&batch, &sink, &losses).await?;
    }
    Ok(())
}

/// Offers a batch until it is stored or refused. Waiting is safe: the queue behind has a bound.
async fn publish_one(
    batch: &TelemetryBatch,
    sink: &impl BatchSink,
    losses: &Losses,
) -> Result<(), TelemetryError> {
    let mut tries: u64 = 0;
    loop {
        let Err(error) = sink.store(batch).await else {
            losses.board.stored();
            return Ok(());
        };
        losses.board.publish_failed();
        tries += 1;
        match error {
            // Unknown whether it is stored: the same again, which the server knows by its id.
            PublishError::TimedOut { .. } | PublishError::Storage { .. } => {
                if tries == 1 {
                    tracing::warn!(seq = batch.seq, %error, "a telemetry batch is not stored yet");
                }
                tokio::time::sleep(PAUSE).await;
            }
            PublishError::Denied { .. } | PublishError::NotDurable(_) => {
                return Err(TelemetryError::Publish(error));
            }
            PublishError::Cancelled { .. } => {
                tracing::warn!(
                    seq = batch.seq,
                    "stopped before a telemetry batch was stored"
                );
                losses.note(span_of(batch), GapReason::PublishFailed);
                return Ok(());
            }
            PublishError::TooLarge { .. }
            | PublishError::Refused { .. }
            | PublishError::Conflict { .. } => {
                tracing::error!(seq = batch.seq, %error, "a telemetry batch is lost");
                losses.note(span_of(batch), GapReason::PublishFailed);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
