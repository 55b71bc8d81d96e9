//! What a stream amounts to.

use chimera_domain::event::{EngineTimes, FinishReason, RequestError, RequestErrorKind};

/// Room made before the send for at most this many chunks; more grow the buffer (rare).
const MAX_ROOM: u32 = 1 << 16;
/// Longest detail kept of an error, in characters.
const DETAIL_CHARS: usize = 400;

/// Everything a request collects while its stream runs.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) thinking: String,
    pub(super) head_ns: Option<u64>,
    pub(super) chunk_ns: Vec<u64>,
    /// Receipt of the final record.
    pub(super) done_ns: Option<u64>,
    pub(super) finish: Option<FinishReason>,
    pub(super) prompt_tokens: Option<u32>,
    pub(super) cached_tokens: Option<u32>,
    pub(super) output_tokens: Option<u32>,
    pub(super) times: EngineTimes,
}

impl Answer {
    /// Makes room for `tokens` before the clock starts, so that no chunk waits for the allocator.
    pub(super) fn with_room_for(tokens: u32) -> Self {
        let room = usize::try_from(tokens.min(MAX_ROOM)).unwrap_or_default();
        Self {
            // Six bytes: a common English token with its space.
            text: String::with_capacity(room.saturating_mul(6)),
            chunk_ns: Vec::with_capacity(room.saturating_add(16)),
            ..Self::default()
        }
    }

    /// Takes content received `at_ns` after the send.
    ///
    /// Thinking counts: the first token of *any* content ends the prefill, and a decode rate that
    /// left thinking out would divide by the wrong number. An empty text is no chunk (`OpenAI`'s
    /// role delta, Ollama's final record).
    pub(super) fn content(&mut self, text: &str, thinking: &str, at_ns: u64) {
        if text.is_empty() && thinking.is_empty() {
            return;
        }
        self.chunk_ns.push(at_ns);
        self.text.push_str(text);
        self.thinking.push_str(thinking);
    }
}

/// An error of a class, with its words shortened.
pub(super) fn failure(kind: RequestErrorKind, detail: &str) -> RequestError {
    RequestError {
        kind,
        detail: shorten(detail),
    }
}

/// The first [`DETAIL_CHARS`] characters.
pub(super) fn shorten(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(DETAIL_CHARS) {
        None => text.to_owned(),
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or(text)),
    }
}

/// A JSON line that is none, described by what is wrong and its beginning.
pub(super) fn malformed(line: &[u8], reason: &dyn std::fmt::Display) -> RequestError {
    let begin = String::from_utf8_lossy(line.get(..120).unwrap_or(line));
    failure(
        RequestErrorKind::Malformed,
        &format!("{reason} in '{begin}'"),
    )
}

/// A count as the protocol states it; nonsense is "not measured".
pub(super) fn count(n: Option<i64>) -> Option<u32> {
    n.and_then(|n| u32::try_from(n).ok())
}

/// Nanoseconds as the protocol states them; nonsense is "not measured".
pub(super) fn nanos(n: Option<i64>) -> Option<u64> {
    n.and_then(|n| u64::try_from(n).ok())
}

/// Milliseconds with a fraction as nanoseconds; nonsense is "not measured".
pub(super) fn millis(ms: Option<f64>) -> Option<u64> {
    let ns = ms? * 1e6;
    // 1e18 ns are 31 years: beyond lies a mistake of the engine.
    if !(0.0..1e18).contains(&ns) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie within 0..1e18"
    )]
    Some(ns.round() as u64)
}
