//! Times and rates of one request: one function each.
//!
//! Two sources are kept apart and never mixed in a figure. *Client*: stamps taken by the worker on
//! receipt, before parsing. *Engine*: durations that the engine states of itself.
//! All times count from the instant just before the request was handed to the connection.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::RequestRecord;
use crate::units::ns_to_s;

/// Where a count of output tokens comes from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The engine stated it.
    Engine,
    /// The engine stated none; chunks with content were counted, each taken as one token.
    Chunks,
}

/// Time to first token, ns.
///
/// *Undefined when* no content arrived. *Source*: client. Holds everything before the first token:
/// connection, queue, model load, prefill, and the first decode step.
#[must_use]
pub fn ttft_ns(request: &RequestRecord) -> Option<u64> {
    request.chunk_ns.first().copied()
}

/// End-to-end latency: to the last content token, ns.
///
/// *Undefined when* no content arrived. *Source*: client. The engine's closing record comes later
/// and is not part of it ([`RequestRecord::done_ns`]).
#[must_use]
pub fn e2e_ns(request: &RequestRecord) -> Option<u64> {
    request.chunk_ns.last().copied()
}

/// Output tokens, and who counted them. *Undefined when* nobody can say.
#[must_use]
pub fn output_tokens(request: &RequestRecord) -> Option<(u32, TokenSource)> {
    if let Some(stated) = request.output_tokens {
        return Some((stated, TokenSource::Engine));
    }
    let counted = u32::try_from(request.chunk_ns.len())
        .ok()
        .filter(|count| *count > 0)?;
    Some((counted, TokenSource::Chunks))
}

/// Prompt tokens that the engine had to prefill: all but those it took from its prefix cache.
///
/// *Undefined when* the engine does not count prompts. Where it does not say how many were cached
/// (Ollama) none are taken off; prompts that open with a nonce have none.
#[must_use]
pub fn prefilled_tokens(request: &RequestRecord) -> Option<u32> {
    Some(
        request
            .prompt_tokens?
            .saturating_sub(request.cached_tokens.unwrap_or(0)),
    )
}

/// Time of the decode phase: first to last token, ns. *Undefined when* no content arrived.
/// *Source*: client.
#[must_use]
pub fn decode_ns(request: &RequestRecord) -> Option<u64> {
    e2e_ns(request)?.checked_sub(ttft_ns(request)?)
}

/// Time per output token after the first: (E2E - TTFT) / (output tokens - 1), ns.
///
/// *Undefined when* below two tokens, and when all tokens came in one chunk, because then no time
/// between them was seen. *Source*: client times. AIPerf prints this value as "ITL".
#[must_use]
pub fn tpot_ns(request: &RequestRecord) -> Option<f64> {
    let gaps = output_tokens(request)?
        .0
        .checked_sub(1)
        .filter(|gaps| *gaps > 0)?;
    (request.chunk_ns.len() > 1).then_some(())?;
    Some(decode_ns(request)? as f64 / f64::from(gaps))
}

/// Inter-token latency: each gap between consecutive content chunks, ns.
///
/// *Shape*: one less than the chunks; empty below two. A chunk is one token with the engines we
/// drive, unless the token count differs from the chunk count. *Source*: client.
#[must_use]
pub fn itl_ns(request: &RequestRecord) -> Vec<u64> {
    let later = request.chunk_ns.iter().skip(1);
    request
        .chunk_ns
        .iter()
        .zip(later)
        .map(|(a, b)| b.saturating_sub(*a))
        .collect()
}

/// Decode rate as the client saw it: (output tokens - 1) / (E2E - TTFT), tokens per second.
///
/// *Undefined when* [`tpot_ns`] is, or no time passed. *Source*: client.
#[must_use]
pub fn decode_tokens_per_s(request: &RequestRecord) -> Option<f64> {
    let tpot = tpot_ns(request)?;
    (tpot > 0.0).then(|| 1e9 / tpot)
}

/// Decode rate by the engine's account: output tokens / `eval` duration, tokens per second.
///
/// *Undefined when* the engine states either not. *Source*: engine.
#[must_use]
pub fn engine_tokens_per_s(request: &RequestRecord) -> Option<f64> {
    let time = request.engine_times.eval_ns.filter(|time| *time > 0)?;
    Some(f64::from(request.output_tokens?) / ns_to_s(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EngineTimes;
    use crate::ids::RequestId;
    use crate::units::MonoNs;

    fn request(chunks: &[u64], tokens: Option<u32>) -> RequestRecord {
        RequestRecord {
            request_id: RequestId::try_new("r1").unwrap(),
            step: "analysis".to_owned(),
            sent: MonoNs(1_000),
            head_ns: Some(5),
            chunk_ns: chunks.to_vec(),
            done_ns: chunks.last().map(|last| last + 7),
            prompt_sha256: String::new(),
            prompt_tokens: Some(100),
            cached_tokens: None,
            output_tokens: tokens,
            output_sha256: String::new(),
            finish: None,
            engine_times: EngineTimes {
                eval_ns: Some(2_000_000_000),
                ..EngineTimes::default()
            },
            client_wait_ns: None,
            error: None,
        }
    }

    #[test]
    fn times_of_a_plain_request() {
        let plain = request(&[200, 220, 240, 260], Some(4));
        assert_eq!(ttft_ns(&plain), Some(200));
        assert_eq!(e2e_ns(&plain), Some(260));
        assert_eq!(tpot_ns(&plain), Some(20.0));
        assert_eq!(itl_ns(&plain), vec![20, 20, 20]);
        assert_eq!(decode_tokens_per_s(&plain), Some(5e7));
        assert_eq!(engine_tokens_per_s(&plain), Some(2.0));
    }

    #[test]
    fn one_token_has_no_time_per_token() {
        let one = request(&[200], Some(1));
        assert_eq!(tpot_ns(&one), None);
        assert_eq!(decode_tokens_per_s(&one), None);
        assert!(itl_ns(&one).is_empty());
        assert_eq!(e2e_ns(&one), Some(200));
    }

    #[test]
    fn tokens_in_one_chunk_were_not_seen_apart() {
        assert_eq!(tpot_ns(&request(&[200], Some(8))), None);
        // Two tokens per chunk: the count of the engine divides, not the count of chunks.
        assert_eq!(tpot_ns(&request(&[200, 260], Some(4))), Some(20.0));
    }

    #[test]
    fn nothing_received_is_undefined() {
        let none = request(&[], None);
        assert_eq!(ttft_ns(&none), None);
        assert_eq!(e2e_ns(&none), None);
        assert_eq!(output_tokens(&none), None);
        assert_eq!(
            output_tokens(&request(&[1, 2], None)),
            Some((2, TokenSource::Chunks))
        );
    }

    #[test]
    fn cached_tokens_need_no_prefill() {
        let mut cached = request(&[1], Some(1));
        assert_eq!(prefilled_tokens(&cached), Some(100));
        cached.cached_tokens = Some(90);
        assert_eq!(prefilled_tokens(&cached), Some(10));
        cached.prompt_tokens = None;
        assert_eq!(prefilled_tokens(&cached), None);
    }
}
