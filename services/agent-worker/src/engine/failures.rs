//! How a connection and an answer fail, in the classes of a record.

use std::error::Error as _;
use std::io;

use chimera_domain::event::{RequestError, RequestErrorKind};
use http::StatusCode;

use super::answer::{failure, shorten};
use super::text::ErrorMember;

pub(super) fn cancelled() -> RequestError {
    failure(
        RequestErrorKind::Cancelled,
        "the run was stopped while the request was under way",
    )
}

/// No response head came.
pub(super) fn before_head(error: &reqwest::Error) -> RequestError {
    let kind = if error.is_connect() {
        if error.is_timeout() {
            RequestErrorKind::ConnectTimeout
        } else {
            RequestErrorKind::Connect
        }
    } else if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        RequestErrorKind::Malformed
    } else {
        RequestErrorKind::Connect
    };
    failure(kind, &words(error))
}

/// The body broke.
pub(super) fn inside_body(error: &reqwest::Error) -> RequestError {
    // hyper reports a chunk size that is none as invalid input; everything else is the connection.
    let framing = find::<io::Error>(error).is_some_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
        )
    });
    let kind = if framing {
        RequestErrorKind::Malformed
    } else {
        RequestErrorKind::CutStream
    };
    failure(kind, &words(error))
}

/// The first error of a type among the causes.
fn find<T: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(e) = cause {
        if let Some(found) = e.downcast_ref::<T>() {
            return Some(found);
        }
        cause = e.source();
    }
    None
}

/// The error with its causes, which hold what matters ("connection refused").
pub(super) fn words(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

pub(super) fn refusal_kind(status: StatusCode, error: &ErrorMember) -> RequestErrorKind {
    let words = error.message.to_ascii_lowercase();
    let has = |part: &str| words.contains(part);
    let client = matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST);
    if client
        && (error.code.as_deref() == Some("model_not_found")
            || (has("model") && (has("not found") || has("not exist"))))
    {
        return RequestErrorKind::ModelNotFound;
    }
    // Ollama: "the input length exceeds the context length"; llama.cpp: "the request exceeds the
    // available context size"; vLLM: "maximum context length is ...".
    if status.is_client_error()
        && has("context")
        && (has("exceed") || has("maximum context length") || has("too long") || has("larger"))
    {
        return RequestErrorKind::Truncated;
    }
    RequestErrorKind::Status
}

/// What a refusal says: `{"error": ...}`, `{"message": ...}`, `{"detail": ...}`, or plain text.
pub(super) fn error_text(body: &[u8]) -> ErrorMember {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: Option<ErrorMember>,
        message: Option<String>,
        detail: Option<serde_json::Value>,
    }
    let plain = || ErrorMember {
        message: match String::from_utf8_lossy(body).trim() {
            "" => "no message".to_owned(),
            text => shorten(text),
        },
        code: None,
    };
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else {
        return plain();
    };
    match refusal {
        Refusal {
            error: Some(error), ..
        } => error,
        Refusal {
            message: Some(message),
            ..
        } => ErrorMember {
            message,
            code: None,
        },
        Refusal {
            detail: Some(detail),
            ..
        } => ErrorMember {
            message: detail.to_string(),
            code: None,
        },
        Refusal { .. } => plain(),
    }
}
