//! What a probe amounts to.

use std::collections::BTreeMap;

use chimera_domain::event::{RequestErrorKind, RequestRecord};
use chimera_domain::latency::{e2e_ns, itl_ns, output_tokens, tpot_ns, ttft_ns};
use chimera_domain::stats::quantile;
use chimera_domain::units::{ns_to_ms, ns_to_s};
use serde::Serialize;

/// A distribution in three numbers, over `n` values. *Units*: milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Values.
    pub n: usize,
    /// Median.
    pub p50: f64,
    /// 90 % lie at or below.
    pub p90: f64,
    /// 99 % lie at or below.
    pub p99: f64,
}

impl Quantiles {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self {
            n: values.len(),
            p50: quantile(&values, 0.50)?,
            p90: quantile(&values, 0.90)?,
            p99: quantile(&values, 0.99)?,
        })
    }
}

/// What a probe found. Latencies are over the requests that succeeded; `None`: there was none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbeSummary {
    /// Requests asked.
    pub requests: u64,
    /// Of these, whole.
    pub succeeded: u64,
    /// The others, by class.
    pub errors: BTreeMap<RequestErrorKind, u64>,
    /// The first failure in words.
    pub first_error: Option<String>,
    /// First send to the end of the last answer, seconds.
    pub wall_s: Option<f64>,
    /// Output tokens of the successful requests.
    pub output_tokens: u64,
    /// Output tokens of the successful requests / wall time, tokens per second.
    pub tokens_per_s: Option<f64>,
    /// Send to first content.
    pub ttft_ms: Option<Quantiles>,
    /// (E2E - TTFT) / (tokens - 1), one value per request.
    pub tpot_ms: Option<Quantiles>,
    /// Every gap between two chunks.
    pub itl_ms: Option<Quantiles>,
    /// Send to last content.
    pub e2e_ms: Option<Quantiles>,
    /// CPU time that this process spent, seconds: near the wall time, the client is the bottleneck.
    pub client_cpu_s: f64,
}

/// A summary in the making.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: u64,
    succeeded: u64,
    errors: BTreeMap<RequestErrorKind, u64>,
    first_error: Option<String>,
    output_tokens: u64,
    /// First send and last end among the successful.
    span: Option<(u64, u64)>,
    ttft: Vec<f64>,
    tpot: Vec<f64>,
    itl: Vec<f64>,
    e2e: Vec<f64>,
}

impl Tally {
    pub(super) fn take(&mut self, record: &RequestRecord) {
        self.requests += 1;
        if let Some(error) = &record.error {
            *self.errors.entry(error.kind).or_default() += 1;
            if self.first_error.is_none() {
                self.first_error = Some(error.detail.clone());
            }
            return;
        }
        self.succeeded += 1;
        if let Some((tokens, _)) = output_tokens(record) {
            self.output_tokens += u64::from(tokens);
        }
        if let Some(done) = record.done_ns {
            let (sent, end) = (record.sent.0, record.sent.plus(done).0);
            let (first, last) = self.span.unwrap_or((sent, end));
            self.span = Some((first.min(sent), last.max(end)));
        }
        self.ttft.extend(ttft_ns(record).map(ns_to_ms));
        self.tpot.extend(tpot_ns(record).map(|ns| ns / 1e6));
        self.itl.extend(itl_ns(record).into_iter().map(ns_to_ms));
        self.e2e.extend(e2e_ns(record).map(ns_to_ms));
    }

    pub(super) fn summary(self, client_cpu_s: f64) -> ProbeSummary {
        let wall_s = self
            .span
            .map(|(first, last)| ns_to_s(last.saturating_sub(first)));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 tokens")]
        let tokens = self.output_tokens as f64;
        ProbeSummary {
            requests: self.requests,
            succeeded: self.succeeded,
            errors: self.errors,
            first_error: self.first_error,
            wall_s,
            output_tokens: self.output_tokens,
            tokens_per_s: wall_s.filter(|wall| *wall > 0.0).map(|wall| tokens / wall),
            ttft_ms: Quantiles::of(self.ttft),
            tpot_ms: Quantiles::of(self.tpot),
            itl_ms: Quantiles::of(self.itl),
            e2e_ms: Quantiles::of(self.e2e),
            client_cpu_s,
        }
    }
}
