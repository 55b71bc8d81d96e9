//! What a fake engine plays.

use std::time::Duration;

/// How one answer goes when nothing goes wrong. Times are at full speed; see
/// [`Capacity`](super::Capacity).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Request received (and a slot and the model had) to first token.
    pub ttft: Duration,
    /// Between two tokens.
    pub gap: Duration,
    /// The natural length of the answer. `None`: exactly as many tokens as asked for. A request
    /// with `ignore_eos` gets what it asks for in any case.
    pub tokens: Option<u32>,
    /// Of the tokens, this many come first as thinking.
    pub thinking: u32,
    /// Prompt tokens reported. `None`: one per word of the prompt.
    pub prompt_tokens: Option<u32>,
    /// Of the prompt tokens, reported as cached (OpenAI only, as in reality).
    pub cached_tokens: u32,
    /// Time to load the model on the first request and whenever a runner option changes (Ollama).
    pub load: Duration,
    /// `load_duration` reported when nothing was loaded (Ollama reports its health ping there).
    pub warm_load: Duration,
    /// The response head goes out on receipt (vLLM) instead of with the first token (Ollama).
    pub early_head: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            ttft: Duration::from_millis(20),
            gap: Duration::from_millis(2),
            tokens: None,
            thinking: 0,
            prompt_tokens: None,
            cached_tokens: 0,
            load: Duration::ZERO,
            warm_load: Duration::from_millis(1),
            early_head: false,
        }
    }
}

impl Script {
    /// A script with these times and the asked-for length.
    #[must_use]
    pub fn timed(ttft: Duration, gap: Duration) -> Self {
        Self {
            ttft,
            gap,
            ..Self::default()
        }
    }
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A reset.
    Rst,
    /// An orderly close of the connection, in the middle of the chunked body.
    Fin,
}

/// What goes wrong. `after` counts the tokens written before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A refusal instead of a stream; `body` is sent as JSON.
    Status {
        /// The HTTP status.
        status: u16,
        /// The whole body.
        body: String,
    },
    /// Bytes that are no HTTP instead of a head.
    NoHttp,
    /// The connection is reset when the request is in.
    CloseBeforeHead,
    /// Nothing at all comes; the connection stays open.
    HangBeforeHead,
    /// A head with status 200, then nothing.
    HangBeforeFirstByte,
    /// The stream stands still.
    HangAfter {
        /// Tokens before it.
        after: u32,
    },
    /// The final record is written, but the body does not end.
    HangAfterDone,
    /// The protocol's error inside the stream, then a clean end.
    ErrorLine {
        /// Tokens before it.
        after: u32,
        /// The engine's words.
        message: String,
    },
    /// The connection breaks.
    CutAfter {
        /// Tokens before it.
        after: u32,
        /// How.
        how: Cut,
    },
    /// The body ends cleanly without the final record.
    EofWithoutDone {
        /// Tokens before it.
        after: u32,
    },
    /// The body ends cleanly in the middle of a line.
    EofInsideLine {
        /// Tokens before it.
        after: u32,
    },
    /// The final record, twice.
    TwoDone,
    /// A token after the final record.
    DataAfterDone,
    /// A line that is no JSON.
    Garbage {
        /// Tokens before it.
        after: u32,
    },
    /// A line whose text is no UTF-8.
    BadUtf8 {
        /// Tokens before it.
        after: u32,
    },
    /// A line of at least this many bytes, that never ends.
    LongLine {
        /// Tokens before it.
        after: u32,
        /// Its length.
        bytes: usize,
    },
    /// A chunk of the HTTP body whose size is no number.
    BadChunk {
        /// Tokens before it.
        after: u32,
    },
    /// `OpenAI` only: `[DONE]` without a `finish_reason`.
    DoneWithoutFinish,
}

impl Fault {
    /// Tokens written before it strikes; `None`: all of them, or none since there is no stream.
    pub(super) fn after(&self) -> Option<u32> {
        match self {
            Self::HangAfter { after }
            | Self::ErrorLine { after, .. }
            | Self::CutAfter { after, .. }
            | Self::EofWithoutDone { after }
            | Self::EofInsideLine { after }
            | Self::Garbage { after }
            | Self::BadUtf8 { after }
            | Self::LongLine { after, .. }
            | Self::BadChunk { after } => Some(*after),
            Self::HangBeforeFirstByte => Some(0),
            Self::Status { .. }
            | Self::NoHttp
            | Self::CloseBeforeHead
            | Self::HangBeforeHead
            | Self::HangAfterDone
            | Self::TwoDone
            | Self::DataAfterDone
            | Self::DoneWithoutFinish => None,
        }
    }
}
