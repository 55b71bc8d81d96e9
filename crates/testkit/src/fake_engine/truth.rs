//! What really happened, by the fake's own stamps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chimera_domain::units::MonoNs;
use serde::Serialize;

/// How a request ended, as the fake saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Still under way.
    Open,
    /// The whole answer was written.
    Whole,
    /// Refused by the fake's own checks (unknown model, over-length prompt, no JSON).
    Refused,
    /// The scripted fault struck.
    Fault,
    /// The client closed the connection.
    ClientGone,
    /// The engine was stopped.
    Stopped,
}

/// One chat request, by the clock of this host (the same that a client on it reads).
#[derive(Debug, Clone, Serialize)]
pub struct RequestTruth {
    /// The `X-Request-ID` header.
    pub request_id: Option<String>,
    /// Route.
    pub path: String,
    /// All headers, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The request's JSON body; null if it was none.
    pub body: serde_json::Value,
    /// The request was read whole.
    pub received: MonoNs,
    /// A slot was free and the model loaded: prefill began.
    pub started: Option<MonoNs>,
    /// Just before each token was written.
    pub tokens: Vec<MonoNs>,
    /// Just before the final record was written.
    pub done: Option<MonoNs>,
    /// The model was (re)loaded for this request.
    pub loaded: bool,
    /// How it ended.
    pub ended: Ended,
}

impl RequestTruth {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }
}

/// The truth of a request under way, readable at any time.
#[derive(Debug, Clone)]
pub(super) struct Live(Arc<Mutex<RequestTruth>>);

impl Live {
    pub(super) fn new(truth: RequestTruth) -> Self {
        Self(Arc::new(Mutex::new(truth)))
    }

    pub(super) fn edit(&self) -> MutexGuard<'_, RequestTruth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn copy(&self) -> RequestTruth {
        self.edit().clone()
    }
}
