//! Which requests of a report are good, run by run and over the runs of a test.
//!
//! It is computed from the figures that the report itself shows, so that a reader can count again.

use super::aggregate::{Aggregate, NO_SOLO};
use super::types::{AgentRun, RequestReport, RunReport};
use crate::latency::TokenSource;
use crate::slo::{Figures, Goodput, Slo, Standing};
use crate::stats::{Provenance, Summary};

/// Why a report has no goodput.
pub(crate) const NO_SLO: &str = "the spec states no [slo]";

/// A statistic of good requests where nothing says which are good.
pub(super) fn no_slo() -> Summary {
    Summary::not_measured(NO_SLO)
}

impl From<&RequestReport> for Figures {
    fn from(request: &RequestReport) -> Self {
        Self {
            failed: request.error.is_some(),
            ttft_ms: request.ttft_ms,
            tpot_ms: request.tpot_ms,
            itl_ms: request.itl_max_ms,
            e2e_ms: request.e2e_ms,
        }
    }
}

impl RunReport {
    /// Marks the requests that are good, and counts them if the run is valid.
    pub(super) fn judge_by(&mut self, slo: &Slo) {
        for agent in &mut self.agents {
            let both = agent.requests.iter_mut().chain(&mut agent.solo_requests);
            for request in both {
                request.good = Some(slo.judge(&Figures::from(&*request)) == Standing::Good);
            }
        }
        let wall_s = self.wall_s.filter(|_| self.valid);
        self.goodput = wall_s.and_then(|wall_s| {
            let together = self.requests().map(Figures::from);
            Goodput::of(slo, together, self.alone().map(Figures::from), wall_s)
        });
    }

    fn requests(&self) -> impl Iterator<Item = &RequestReport> {
        self.agents.iter().flat_map(|agent| &agent.requests)
    }

    /// Requests alone; a leg that several agents share counts once.
    fn alone(&self) -> impl Iterator<Item = &RequestReport> {
        let own = |agent: &&AgentRun| agent.solo_shared_with.is_none();
        let agents = self.agents.iter().filter(own);
        agents.flat_map(|agent| &agent.solo_requests)
    }
}

impl Aggregate {
    /// Adds how many requests of the valid runs are good.
    pub(super) fn with_goodput(mut self, runs: &[RunReport], slo: Option<&Slo>) -> Self {
        let Some(slo) = slo else { return self };
        let valid = || runs.iter().filter(|run| run.valid);
        // A count of chunks taken for tokens weakens a limit per token, and no other.
        let by_chunks = |request: &RequestReport| {
            slo.tpot_ms.is_some() && request.output_tokens_source == Some(TokenSource::Chunks)
        };
        let mut counted = valid().flat_map(RunReport::requests);
        let provenance = if counted.any(by_chunks) {
            Provenance::Estimated
        } else {
            Provenance::Measured
        };
        let over = |of: fn(&Goodput) -> Option<f64>, most: f64, otherwise: &str| {
            let found = valid().filter_map(|run| of(run.goodput.as_ref()?));
            let reason = if valid().next().is_none() {
                "no valid run"
            } else {
                otherwise
            };
            let mut summary = Summary::of(&found.collect::<Vec<f64>>(), provenance, reason);
            // Of few runs Student's t reaches beyond what the figure can be, where the mean is not.
            summary.ci95 = summary
                .ci95
                .map(|ends| ends.map(|end| end.clamp(0.0, most)));
            summary
        };
        let none = "no request was made";
        self.goodput_rps = over(|found| Some(found.goodput_rps), f64::INFINITY, none);
        self.good_ratio = over(|found| Some(found.good_ratio), 1.0, none);
        self.good_solo_ratio = over(|found| found.good_solo_ratio, 1.0, NO_SOLO);
        self
    }
}
