//! What a worker as a whole can fail at.

use thiserror::Error;

use crate::claim::ClaimError;
use crate::fence::FenceError;

/// Why a worker could not start or go on.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The instance is not ours.
    #[error("the engine instance cannot be used")]
    Claim(#[from] ClaimError),
    /// The epoch could not be kept.
    #[error("the fence could not be kept")]
    Fence(#[from] FenceError),
    /// The coordinator will not have this worker.
    #[error("the coordinator refused this worker: {0}")]
    Refused(String),
    /// No HTTP client.
    #[error("no HTTP client for the engine's health checks")]
    Http(#[from] reqwest::Error),
    /// The coordinator's address.
    #[error("'{url}' is no address of a coordinator; it looks like http://127.0.0.1:7070")]
    Coordinator {
        /// As given.
        url: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}
