//! What stops the service.

use std::time::Duration;

use chimera_runtime::bus::PublishError;
use chimera_runtime::server::ServerError;
use thiserror::Error;

/// Why telemetry ended. What cannot be *measured* never does: it is told in the batches.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The sampling thread could not be started.
    #[error("cannot start the sampling thread: raise the limit on threads (ulimit -u)")]
    Thread(#[source] std::io::Error),
    /// The sampling thread ended by itself. This is a fault of this program.
    #[error("the sampling thread died: {0}")]
    SamplerDied(String),
    /// The bus will never take a batch.
    #[error("telemetry cannot be published")]
    Publish(#[source] PublishError),
    /// The endpoint for metrics could not be opened.
    #[error("cannot serve metrics (--metrics-listen)")]
    Metrics(#[source] ServerError),
    /// The last batches were not stored in time.
    #[error("the last telemetry batches were not stored within {0:?} after the stop")]
    GraceExpired(Duration),
}
