//! How much work a leg did, and what that work costs an agent alone.
//!
//! Rule. An agent's solo leg gives it four constants: time per prefilled prompt token, fixed time per
//! request before the first token, time per decoded token after the first, and the rest of its own
//! time (local steps, writing, the engine's closing records). The prefill time is the engine's own
//! where it states one for every request, and then what is left of the client's TTFT is the fixed
//! part; else the client's TTFT is taken as proportional to the prompt. Constants are ratios of sums,
//! so that the solo leg's total is met exactly; the residual therefore compares request by request.
//! Non-goals: no dependence of the decode rate on context length, no batching effects.

use crate::event::RequestRecord;
use crate::latency::{TokenSource, decode_ns, e2e_ns, output_tokens, prefilled_tokens, ttft_ns};
use crate::validity::ValidAgent;

/// Two legs did the same work if their token counts are equal, or differ by so little that it
/// changes no agent's solo time by more than this part.
pub const SAME_WORK_TOLERANCE: f64 = 0.01;

/// What one leg of one agent did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Per request, in order: tokens prefilled and tokens written.
    pub requests: Vec<(u32, u32)>,
    /// The weakest source among the counts of output tokens.
    pub source: TokenSource,
}

impl Work {
    /// Counts the work of requests. *Undefined when* a request's prompt or output was not counted.
    #[must_use]
    pub fn of(requests: &[&RequestRecord]) -> Option<Self> {
        let mut source = TokenSource::Engine;
        let mut counts = Vec::with_capacity(requests.len());
        for request in requests {
            let (output, counted_by) = output_tokens(request)?;
            source = source.max(counted_by);
            counts.push((prefilled_tokens(request)?, output));
        }
        Some(Self {
            requests: counts,
            source,
        })
    }

    fn prefilled(&self) -> f64 {
        self.requests
            .iter()
            .map(|(prompt, _)| f64::from(*prompt))
            .sum()
    }

    fn decoded(&self) -> f64 {
        self.requests
            .iter()
            .map(|(_, output)| f64::from(output.saturating_sub(1)))
            .sum()
    }
}

/// What work costs an agent alone, ns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Per prefilled prompt token.
    pub prefill_ns: f64,
    /// Per request, before its first token, independent of the prompt.
    pub fixed_ns: f64,
    /// Per output token after the first.
    pub decode_ns: f64,
    /// Once per leg: everything that is neither TTFT nor decode.
    pub rest_ns: f64,
    /// Whether prefill is by the engine's own account.
    pub engine_prefill: bool,
    /// Mean absolute error of the model on the solo requests' E2E times, as a part of their sum.
    pub residual: f64,
}

impl Rates {
    /// Fits the constants to a solo leg.
    ///
    /// *Undefined when* a request lacks a count or a first token, or nothing was decoded.
    #[must_use]
    pub fn fit(solo: &ValidAgent<'_>) -> Option<Self> {
        let requests = solo.requests();
        let work = Work::of(requests)?;
        let count = requests.len() as f64;
        let sum = |of: fn(&RequestRecord) -> Option<u64>| -> Option<f64> {
            requests
                .iter()
                .map(|request| of(request).map(|ns| ns as f64))
                .sum()
        };
        let (ttft, decode) = (sum(ttft_ns)?, sum(decode_ns)?);
        let stated = sum(|request| request.engine_times.prompt_eval_ns);
        let prefilled = work.prefilled();
        let (prefill_ns, fixed_ns) = match stated {
            _ if prefilled <= 0.0 => (0.0, ttft / count),
            Some(stated) => (stated / prefilled, (ttft - stated) / count),
            None => (ttft / prefilled, 0.0),
        };
        let decoded = work.decoded();
        (decoded > 0.0).then_some(())?;
        let mut rates = Self {
            prefill_ns,
            fixed_ns,
            decode_ns: decode / decoded,
            rest_ns: solo.duration_ns() as f64 - ttft - decode,
            engine_prefill: stated.is_some(),
            residual: 0.0,
        };
        let misses: Option<f64> = requests
            .iter()
            .zip(&work.requests)
            .map(|(request, work)| Some((rates.request_ns(*work) - e2e_ns(request)? as f64).abs()))
            .sum();
        rates.residual = misses? / (ttft + decode);
        rates.residual.is_finite().then_some(rates)
    }

    /// Time that the agent alone needs for `work`, ns.
    #[must_use]
    pub fn predict_ns(&self, work: &Work) -> f64 {
        self.rest_ns
            + work
                .requests
                .iter()
                .map(|request| self.request_ns(*request))
                .sum::<f64>()
    }

    fn request_ns(&self, (prompt, output): (u32, u32)) -> f64 {
        self.fixed_ns
            + self.prefill_ns * f64::from(prompt)
            + self.decode_ns * f64::from(output.saturating_sub(1))
    }
}
