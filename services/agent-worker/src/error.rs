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

/// An error and its causes on one line, for a message that crosses a process.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words.push_str(": ");
            words.push_str(&cause_words);
        }
        source = cause.source();
    }
    words
}
