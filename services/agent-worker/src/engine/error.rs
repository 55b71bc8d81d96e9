//! Why an instance could not be asked what it is.

use thiserror::Error;

/// A failed look at an engine instance. A failed *request* is a
/// [`RequestError`](chimera_domain::event::RequestError) inside its record instead.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The base URL cannot name an instance.
    #[error("'{url}' is no engine URL ({reason}); give one like http://127.0.0.1:11434")]
    BadUrl {
        /// The refused text.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client could not be set up.
    #[error("the HTTP client could not be set up (for https, are CA certificates installed?)")]
    Setup(#[source] reqwest::Error),
    /// Nothing answers at the URL.
    #[error("no engine answers at {url}: {reason}; is it running, and is the URL right?")]
    Unreachable {
        /// What was asked.
        url: String,
        /// The transport's words.
        reason: String,
    },
    /// The instance took too long.
    #[error("{url} did not answer within {seconds} s")]
    Timeout {
        /// What was asked.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// The instance refused.
    #[error("{url} answered with status {status}: {message}")]
    Status {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The engine's words, shortened.
        message: String,
    },
    /// The instance has no such model.
    #[error("the engine at {url} has no model '{model}' ({offered}); {remedy}")]
    ModelNotFound {
        /// The instance.
        url: String,
        /// What was asked for.
        model: String,
        /// What it offers, as far as known.
        offered: String,
        /// What to do.
        remedy: String,
    },
    /// The answer is not that of the protocol.
    #[error(
        "{url} answered with something that is not the protocol's: {reason}; is --engine right?"
    )]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

impl EngineError {
    /// The closed label used in logs and metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "bad_url",
            Self::Setup(_) => "setup",
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Status { .. } => "status",
            Self::ModelNotFound { .. } => "model_not_found",
            Self::Malformed { .. } => "malformed",
        }
    }
}
