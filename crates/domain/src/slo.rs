//! Service level objectives: what a request must keep to be good, and how much of a run is good.
//!
//! Rule. A request is *good* if it did not fail and **every** stated limit holds; a limit holds if the
//! figure is at most it. *Goodput* is good requests per second of the wall time together.
//!
//! Gaps. A figure that is not defined (TPOT below two tokens, the gap of a single chunk) keeps no
//! limit: nobody saw it kept, so the request is not good, and it is counted as undefined so that a
//! reader can tell it from a slow one. AIPerf does the same; vLLM's benchmark takes such a TPOT for 0
//! and the request for good. Whoever expects answers of one token leaves `tpot_ms` and `itl_ms` out.
//!
//! Non-goals. No percentile of a run is limited here: "the 99th percentile of TTFT is at most 2 s" is
//! `good_ratio >= 99 %` in a gate, which counts the requests that keep *all* limits at once.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a limit is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Objective {
    /// Client TTFT.
    Ttft,
    /// Client time per output token after the first.
    Tpot,
    /// The longest client gap between two chunks.
    Itl,
    /// Client E2E latency.
    E2e,
}

impl Objective {
    /// Every objective, in the order in which a spec lists them.
    pub const ALL: [Self; 4] = [Self::Ttft, Self::Tpot, Self::Itl, Self::E2e];

    /// The key in a spec.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Ttft => "ttft_ms",
            Self::Tpot => "tpot_ms",
            Self::Itl => "itl_ms",
            Self::E2e => "e2e_ms",
        }
    }

    /// The words for a person.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Ttft => "TTFT",
            Self::Tpot => "TPOT",
            Self::Itl => "longest gap",
            Self::E2e => "E2E",
        }
    }
}

/// Limits that a request must keep. *Shape*: in a valid spec one or more, each positive. `None`: not
/// limited.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Slo {
    /// Longest client TTFT, milliseconds.
    pub ttft_ms: Option<f64>,
    /// Longest client time per output token after the first, milliseconds: a mean over the request.
    pub tpot_ms: Option<f64>,
    /// Longest client gap between two chunks, milliseconds: not one of the request may be longer.
    pub itl_ms: Option<f64>,
    /// Longest client E2E latency, milliseconds.
    pub e2e_ms: Option<f64>,
}

/// What a request is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Whether it failed.
    pub failed: bool,
    /// Client TTFT.
    pub ttft_ms: Option<f64>,
    /// Client time per output token after the first.
    pub tpot_ms: Option<f64>,
    /// Longest client gap between two chunks.
    pub itl_ms: Option<f64>,
    /// Client E2E latency.
    pub e2e_ms: Option<f64>,
}

/// How a request stands to the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It keeps every one.
    Good,
    /// It failed, or exceeds one.
    Missed,
    /// It exceeds none, and lacks a figure that one of them needs: not good.
    Undefined,
}

impl Slo {
    /// The limit of an objective.
    #[must_use]
    pub fn limit(&self, of: Objective) -> Option<f64> {
        match of {
            Objective::Ttft => self.ttft_ms,
            Objective::Tpot => self.tpot_ms,
            Objective::Itl => self.itl_ms,
            Objective::E2e => self.e2e_ms,
        }
    }

    /// The limits that are stated, in the order of [`Objective::ALL`].
    pub fn limits(&self) -> impl Iterator<Item = (Objective, f64)> {
        let each = |of| Some((of, self.limit(of)?));
        Objective::ALL.into_iter().filter_map(each)
    }

    /// How a request stands to the limits. A failed one never keeps them, however fast it was.
    #[must_use]
    pub fn judge(&self, request: &Figures) -> Standing {
        if request.failed {
            return Standing::Missed;
        }
        let mut standing = Standing::Good;
        for (of, limit) in self.limits() {
            let figure = match of {
                Objective::Ttft => request.ttft_ms,
                Objective::Tpot => request.tpot_ms,
                Objective::Itl => request.itl_ms,
                Objective::E2e => request.e2e_ms,
            };
            match figure {
                Some(figure) if figure <= limit => {}
                Some(_) => return Standing::Missed,
                None => standing = Standing::Undefined,
            }
        }
        standing
    }
}

impl fmt::Display for Slo {
    /// `TTFT <= 2000 ms, TPOT <= 100 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (of, limit)) in self.limits().enumerate() {
            let between = if at > 0 { ", " } else { "" };
            write!(f, "{between}{} <= {limit} ms", of.words())?;
        }
        Ok(())
    }
}

/// How many requests of a run are good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Goodput {
    /// Requests together.
    pub requests: u32,
    /// Of these, such that keep every limit.
    pub good: u32,
    /// Of these, such that exceed no limit and lack a figure that one needs: not good.
    pub undefined: u32,
    /// Good requests over the wall time together, per second.
    pub goodput_rps: f64,
    /// Good requests over all, together.
    pub good_ratio: f64,
    /// Requests alone. A leg that several agents share counts once.
    pub solo_requests: u32,
    /// Of these, such that keep every limit.
    pub solo_good: u32,
    /// Good requests over all, alone. `null`: the run has no solo requests.
    pub good_solo_ratio: Option<f64>,
}

impl Goodput {
    /// Counts the requests of a run, together and alone.
    ///
    /// *Undefined when* no limit is stated, no request was made together, or the run took no time.
    #[must_use]
    pub fn of(
        slo: &Slo,
        together: impl IntoIterator<Item = Figures>,
        alone: impl IntoIterator<Item = Figures>,
        wall_s: f64,
    ) -> Option<Self> {
        slo.limits().next()?;
        let among = Count::of(slo, together);
        let solo = Count::of(slo, alone);
        (wall_s.is_finite() && wall_s > 0.0).then_some(())?;
        Some(Self {
            requests: among.requests,
            good: among.good,
            undefined: among.undefined,
            goodput_rps: f64::from(among.good) / wall_s,
            good_ratio: among.ratio()?,
            solo_requests: solo.requests,
            solo_good: solo.good,
            good_solo_ratio: solo.ratio(),
        })
    }
}

#[derive(Default)]
struct Count {
    requests: u32,
    good: u32,
    undefined: u32,
}

impl Count {
    fn of(slo: &Slo, requests: impl IntoIterator<Item = Figures>) -> Self {
        let mut count = Self::default();
        for request in requests {
            count.requests = count.requests.saturating_add(1);
            match slo.judge(&request) {
                Standing::Good => count.good = count.good.saturating_add(1),
                Standing::Undefined => count.undefined = count.undefined.saturating_add(1),
                Standing::Missed => {}
            }
        }
        count
    }

    fn ratio(&self) -> Option<f64> {
        (self.requests > 0).then(|| f64::from(self.good) / f64::from(self.requests))
    }
}

#[cfg(test)]
mod tests;
