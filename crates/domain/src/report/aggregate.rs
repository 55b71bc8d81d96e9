//! Statistics over the valid runs of a test.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::goodput::no_slo;
use super::memory::not_sampled;
use super::types::{AgentRun, RunReport};
use crate::efficiency::{AgentMeasure, RunMeasure, SoloSum};
use crate::event::RequestRecord;
use crate::ids::AgentId;
use crate::latency::{
    TokenSource, decode_tokens_per_s, e2e_ns, engine_tokens_per_s, itl_ns, tpot_ns, ttft_ns,
};
use crate::quality;
use crate::stats::{Distribution, Provenance, Summary, mean};
use crate::units::ns_to_ms;

/// Over the valid runs: n counts runs. Times of requests are averaged within each run first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Aggregate {
    /// Solo time of the agents' work over the wall time together.
    pub concurrency_gain: Summary,
    /// Measured solo durations over wall, whatever the work.
    pub raw_gain: Summary,
    /// Solo time per unit of work over wall.
    pub work_gain: Summary,
    /// Gain over the number of agents.
    pub parallel_efficiency: Summary,
    /// All output tokens over wall.
    pub aggregate_tokens_per_s: Summary,
    /// Mean of the agents' throughputs alone.
    pub solo_tokens_per_s: Summary,
    /// Aggregate throughput over N times the solo throughput.
    pub throughput_ratio: Summary,
    /// Wall time together, seconds.
    pub wall_s: Summary,
    /// Sum of the measured solo durations, seconds.
    pub solo_total_s: Summary,
    /// Mean of the agents' slowdowns.
    pub slowdown: Summary,
    /// Part of wall with two or more agents active.
    pub overlap_fraction: Summary,
    /// Time at the end in which fewer agents are active than may be, seconds.
    pub idle_tail_s: Summary,
    /// Jain's index of the agents' progress.
    pub fairness: Summary,
    /// TR110's "concurrency speedup": the mean number of active agents; balance, not gain.
    pub tr110_speedup: Summary,
    /// TR110's "parallel efficiency": the former over N; balance.
    pub tr110_efficiency: Summary,
    /// How far apart the agents started.
    pub start_skew_ms: Summary,
    /// Wall minus the longest agent.
    pub harness_overhead_ms: Summary,
    /// Time that the cap held agents back, mean of the queued ones, seconds.
    pub queue_wait_s: Summary,
    /// Requests that keep every limit of the `slo` per second of the wall time together.
    #[serde(default = "no_slo")]
    pub goodput_rps: Summary,
    /// Requests that keep every limit of the `slo` over all, together.
    #[serde(default = "no_slo")]
    pub good_ratio: Summary,
    /// The same alone: what running together costs shows beside it.
    #[serde(default = "no_slo")]
    pub good_solo_ratio: Summary,
    /// Client TTFT together.
    pub ttft_ms: Summary,
    /// Client TTFT alone.
    pub ttft_solo_ms: Summary,
    /// Client E2E latency together.
    pub e2e_ms: Summary,
    /// Client E2E latency alone.
    pub e2e_solo_ms: Summary,
    /// Client time per output token together.
    pub tpot_ms: Summary,
    /// Client time per output token alone.
    pub tpot_solo_ms: Summary,
    /// Client decode rate per request together.
    pub decode_tokens_per_s: Summary,
    /// Client decode rate per request alone.
    pub decode_solo_tokens_per_s: Summary,
    /// Engine's load duration together.
    pub engine_load_ms: Summary,
    /// Engine's prefill duration together.
    pub engine_prompt_eval_ms: Summary,
    /// Engine's prefill duration alone.
    pub engine_prompt_eval_solo_ms: Summary,
    /// Engine's decode duration together.
    pub engine_eval_ms: Summary,
    /// Engine's decode duration alone.
    pub engine_eval_solo_ms: Summary,
    /// Engine's decode rate together.
    pub engine_tokens_per_s: Summary,
    /// Engine's decode rate alone.
    pub engine_solo_tokens_per_s: Summary,
    /// Mean quality of the reports that the agents wrote, 0 to 1.
    #[serde(default = "not_judged")]
    pub quality: Summary,
    /// Sum of the agents' output tokens per second, each times the quality of its report.
    #[serde(default = "not_judged")]
    pub quality_adjusted_tokens_per_s: Summary,
    /// GPU memory in use at its highest, summed over the GPUs, whoever held it.
    #[serde(default = "not_sampled")]
    pub gpu_memory_peak_bytes: Summary,
    /// GPU memory in use on average, summed over the GPUs.
    #[serde(default = "not_sampled")]
    pub gpu_memory_mean_bytes: Summary,
    /// Highest part in use of what a GPU has.
    #[serde(default = "not_sampled")]
    pub gpu_memory_peak_ratio: Summary,
    /// Of it, what the engines' processes held at the most.
    #[serde(default = "not_sampled")]
    pub gpu_engines_peak_bytes: Summary,
    /// Of it, what the engines' processes held on average.
    #[serde(default = "not_sampled")]
    pub gpu_engines_mean_bytes: Summary,
    /// Per agent, in pin order.
    pub agents: Vec<AgentAggregate>,
}

fn not_judged() -> Summary {
    Summary::not_measured(quality::UNKNOWN)
}

/// One agent over the valid runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentAggregate {
    /// Who.
    pub agent: AgentId,
    /// Its duration together, seconds.
    pub duration_s: Summary,
    /// Its duration alone, seconds.
    pub solo_duration_s: Summary,
    /// Its slowdown.
    pub slowdown: Summary,
    /// Its output tokens over its duration.
    pub tokens_per_s: Summary,
    /// The same alone.
    pub solo_tokens_per_s: Summary,
    /// Its client TTFT together.
    pub ttft_ms: Summary,
    /// The same alone.
    pub ttft_solo_ms: Summary,
    /// Its client time per output token together.
    pub tpot_ms: Summary,
    /// The same alone.
    pub tpot_solo_ms: Summary,
    /// Time from its finish to the last agent's, seconds.
    pub idle_tail_s: Summary,
    /// Quality of the reports that it wrote, 0 to 1.
    #[serde(default = "not_judged")]
    pub quality: Summary,
}

/// Over all requests of the valid runs, milliseconds. Requests of one run are not independent: these
/// describe, they do not test.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Distributions {
    /// Client TTFT together.
    pub ttft_ms: Option<Distribution>,
    /// Client TTFT alone.
    pub ttft_solo_ms: Option<Distribution>,
    /// Client E2E latency together.
    pub e2e_ms: Option<Distribution>,
    /// Client E2E latency alone.
    pub e2e_solo_ms: Option<Distribution>,
    /// Client time per output token together.
    pub tpot_ms: Option<Distribution>,
    /// Client time per output token alone.
    pub tpot_solo_ms: Option<Distribution>,
    /// Client gaps between chunks together.
    pub itl_ms: Option<Distribution>,
    /// Client gaps between chunks alone.
    pub itl_solo_ms: Option<Distribution>,
}

type Measures<'m, 'a> = &'m [RunMeasure<'a>];
type OfRequest = fn(&RequestRecord) -> Option<f64>;

pub(super) fn ttft_ms(request: &RequestRecord) -> Option<f64> {
    ttft_ns(request).map(ns_to_ms)
}
pub(super) fn e2e_ms(request: &RequestRecord) -> Option<f64> {
    e2e_ns(request).map(ns_to_ms)
}
pub(super) fn tpot_ms(request: &RequestRecord) -> Option<f64> {
    tpot_ns(request).map(|ns| ns / 1e6)
}
fn load_ms(request: &RequestRecord) -> Option<f64> {
    request.engine_times.load_ns.map(ns_to_ms)
}
fn prompt_eval_ms(request: &RequestRecord) -> Option<f64> {
    request.engine_times.prompt_eval_ns.map(ns_to_ms)
}
fn eval_ms(request: &RequestRecord) -> Option<f64> {
    request.engine_times.eval_ns.map(ns_to_ms)
}

/// Mean over requests that have the quantity. *Undefined when* none has.
pub(super) fn mean_of(requests: &[&RequestRecord], of: OfRequest) -> Option<f64> {
    mean(
        &requests
            .iter()
            .filter_map(|request| of(request))
            .collect::<Vec<_>>(),
    )
}

fn together<'m, 'a>(run: &'m RunMeasure<'a>) -> impl Iterator<Item = &'a RequestRecord> + 'm {
    run.agents
        .iter()
        .flat_map(|agent| agent.agent.requests())
        .copied()
}

/// Requests alone; a leg that several agents share counts once.
fn alone<'m, 'a>(run: &'m RunMeasure<'a>) -> impl Iterator<Item = &'a RequestRecord> + 'm {
    let own = run.agents.iter().filter_map(|agent| agent.solo.as_ref());
    own.filter(|solo| solo.shared_with.is_none())
        .flat_map(|solo| solo.requests)
        .copied()
}

/// Values of the runs that have one, and the weakest provenance among these runs.
fn over<'m, 'a>(
    runs: Measures<'m, 'a>,
    otherwise: &str,
    of: impl Fn(&'m RunMeasure<'a>) -> Option<(f64, Provenance)>,
) -> Summary {
    let found: Vec<(f64, Provenance)> = runs.iter().filter_map(of).collect();
    let provenance = found
        .iter()
        .map(|(_, provenance)| *provenance)
        .max()
        .unwrap_or(Provenance::Measured);
    let values: Vec<f64> = found.into_iter().map(|(value, _)| value).collect();
    let reason = if runs.is_empty() {
        "no valid run"
    } else {
        otherwise
    };
    Summary::of(&values, provenance, reason)
}

fn counted(run: &RunMeasure<'_>) -> Provenance {
    match run.counted_by {
        TokenSource::Engine => Provenance::Measured,
        TokenSource::Chunks => Provenance::Estimated,
    }
}

pub(super) const NO_SOLO: &str = "the plan has no solo leg for every agent";
const NOT_COUNTED: &str = "the engine does not count tokens";
const NOT_STATED: &str = "the engine does not state it";
const TOO_SHORT: &str = "no request had two tokens apart";
const ONE_AGENT: &str = "undefined for one agent";

fn measured(value: Option<f64>) -> Option<(f64, Provenance)> {
    Some((value?, Provenance::Measured))
}

fn against_solo(
    runs: Measures<'_, '_>,
    otherwise: &str,
    of: fn(&SoloSum) -> Option<(f64, Provenance)>,
) -> Summary {
    let planned = runs.iter().any(|run| run.solo.is_some());
    over(runs, if planned { otherwise } else { NO_SOLO }, |run| {
        of(run.solo.as_ref()?)
    })
}

fn of_requests(
    runs: Measures<'_, '_>,
    (is_solo, counts_tokens): (bool, bool),
    otherwise: &str,
    of: OfRequest,
) -> Summary {
    over(runs, otherwise, |run| {
        let requests: Vec<&RequestRecord> = if is_solo {
            alone(run).collect()
        } else {
            together(run).collect()
        };
        let provenance = if counts_tokens {
            counted(run)
        } else {
            Provenance::Measured
        };
        Some((mean_of(&requests, of)?, provenance))
    })
}

/// Plain times, and times per token, together and alone.
const TIME: (bool, bool) = (false, false);
const TIME_SOLO: (bool, bool) = (true, false);
const PER_TOKEN: (bool, bool) = (false, true);
const PER_TOKEN_SOLO: (bool, bool) = (true, true);

impl Aggregate {
    /// Aggregates the valid runs of a test; `agents` in pin order.
    pub(super) fn of(runs: Measures<'_, '_>, agents: &[AgentId]) -> Self {
        let no = "undefined";
        Self {
            concurrency_gain: against_solo(runs, no, |s| Some((s.gain, s.provenance))),
            raw_gain: against_solo(runs, no, |s| measured(Some(s.raw_gain))),
            work_gain: against_solo(runs, NOT_COUNTED, |s| {
                // Equal work needs no model.
                let modelled = s.work_difference.is_none_or(|part| part > 0.0);
                let own = if modelled {
                    Provenance::Derived
                } else {
                    Provenance::Measured
                };
                Some((s.work_gain?, own.max(s.provenance)))
            }),
            parallel_efficiency: against_solo(runs, no, |s| {
                Some((s.parallel_efficiency, s.provenance))
            }),
            aggregate_tokens_per_s: over(runs, NOT_COUNTED, |run| {
                Some((run.aggregate_tokens_per_s?, counted(run)))
            }),
            solo_tokens_per_s: over(runs, NOT_COUNTED, |run| {
                Some((run.solo.as_ref()?.tokens_per_s?, counted(run)))
            }),
            throughput_ratio: over(runs, NOT_COUNTED, |run| {
                Some((run.solo.as_ref()?.throughput_ratio?, counted(run)))
            }),
            wall_s: over(runs, no, |run| measured(Some(run.wall_s))),
            solo_total_s: against_solo(runs, no, |s| measured(Some(s.total_s))),
            slowdown: over(runs, NO_SOLO, |run| {
                let all: Option<Vec<f64>> = run.agents.iter().map(|agent| agent.slowdown).collect();
                Some((mean(&all?)?, run.solo.as_ref()?.provenance))
            }),
            overlap_fraction: over(runs, ONE_AGENT, |run| measured(run.overlap_fraction)),
            idle_tail_s: over(runs, no, |run| measured(Some(run.idle_tail_s))),
            fairness: against_solo(runs, no, |s| Some((s.fairness?, s.provenance))),
            tr110_speedup: over(runs, no, |run| measured(Some(run.tr110_speedup))),
            tr110_efficiency: over(runs, no, |run| measured(Some(run.tr110_efficiency))),
            start_skew_ms: over(runs, ONE_AGENT, |run| {
                measured(run.skew.map(|s| ns_to_ms(s.ns)))
            }),
            harness_overhead_ms: over(runs, "the cap holds agents back", |run| {
                measured(run.harness_overhead_s.map(|s| s * 1e3))
            }),
            queue_wait_s: over(runs, "no agent was queued", |run| {
                let waits: Vec<f64> = run.agents.iter().filter_map(|a| a.queue_wait_s).collect();
                measured(mean(&waits))
            }),
            goodput_rps: no_slo(),
            good_ratio: no_slo(),
            good_solo_ratio: no_slo(),
            ttft_ms: of_requests(runs, TIME, no, ttft_ms),
            ttft_solo_ms: of_requests(runs, TIME_SOLO, NO_SOLO, ttft_ms),
            e2e_ms: of_requests(runs, TIME, no, e2e_ms),
            e2e_solo_ms: of_requests(runs, TIME_SOLO, NO_SOLO, e2e_ms),
            tpot_ms: of_requests(runs, PER_TOKEN, TOO_SHORT, tpot_ms),
            tpot_solo_ms: of_requests(runs, PER_TOKEN_SOLO, TOO_SHORT, tpot_ms),
            decode_tokens_per_s: of_requests(runs, PER_TOKEN, TOO_SHORT, decode_tokens_per_s),
            decode_solo_tokens_per_s: of_requests(
                runs,
                PER_TOKEN_SOLO,
                TOO_SHORT,
                decode_tokens_per_s,
            ),
            engine_load_ms: of_requests(runs, TIME, NOT_STATED, load_ms),
            engine_prompt_eval_ms: of_requests(runs, TIME, NOT_STATED, prompt_eval_ms),
            engine_prompt_eval_solo_ms: of_requests(runs, TIME_SOLO, NOT_STATED, prompt_eval_ms),
            engine_eval_ms: of_requests(runs, TIME, NOT_STATED, eval_ms),
            engine_eval_solo_ms: of_requests(runs, TIME_SOLO, NOT_STATED, eval_ms),
            engine_tokens_per_s: of_requests(runs, TIME, NOT_STATED, engine_tokens_per_s),
            engine_solo_tokens_per_s: of_requests(runs, TIME_SOLO, NOT_STATED, engine_tokens_per_s),
            quality: not_judged(),
            quality_adjusted_tokens_per_s: not_judged(),
            gpu_memory_peak_bytes: not_sampled(),
            gpu_memory_mean_bytes: not_sampled(),
            gpu_memory_peak_ratio: not_sampled(),
            gpu_engines_peak_bytes: not_sampled(),
            gpu_engines_mean_bytes: not_sampled(),
            agents: agents
                .iter()
                .map(|agent| AgentAggregate::of(runs, agent))
                .collect(),
        }
    }
}

impl AgentAggregate {
    fn of(runs: Measures<'_, '_>, who: &AgentId) -> Self {
        let each =
            |otherwise: &str,
             of: fn(&AgentMeasure<'_>, &RunMeasure<'_>) -> Option<(f64, Provenance)>| {
                over(runs, otherwise, |run| {
                    of(
                        run.agents.iter().find(|agent| agent.agent.id() == who)?,
                        run,
                    )
                })
            };
        let no = "undefined";
        Self {
            agent: who.clone(),
            duration_s: each(no, |agent, _| measured(Some(agent.duration_s))),
            solo_duration_s: each(NO_SOLO, |agent, _| {
                measured(agent.solo.as_ref().map(|solo| solo.duration_s))
            }),
            slowdown: each(NO_SOLO, |agent, run| {
                Some((agent.slowdown?, run.solo.as_ref()?.provenance))
            }),
            tokens_per_s: each(NOT_COUNTED, |agent, run| {
                Some((agent.tokens_per_s?, counted(run)))
            }),
            solo_tokens_per_s: each(NOT_COUNTED, |agent, run| {
                Some((agent.solo.as_ref()?.tokens_per_s?, counted(run)))
            }),
            ttft_ms: each(no, |agent, _| {
                measured(mean_of(agent.agent.requests(), ttft_ms))
            }),
            ttft_solo_ms: each(NO_SOLO, |agent, _| {
                measured(mean_of(agent.solo.as_ref()?.requests, ttft_ms))
            }),
            tpot_ms: each(TOO_SHORT, |agent, run| {
                Some((mean_of(agent.agent.requests(), tpot_ms)?, counted(run)))
            }),
            tpot_solo_ms: each(TOO_SHORT, |agent, run| {
                Some((
                    mean_of(agent.solo.as_ref()?.requests, tpot_ms)?,
                    counted(run),
                ))
            }),
            idle_tail_s: each(no, |agent, _| measured(Some(agent.idle_tail_s))),
            quality: not_judged(),
        }
    }
}

impl Aggregate {
    /// Adds what the valid runs' reports are worth. A run in which an agent's report was not judged
    /// has no quality, and says why.
    pub(crate) fn with_quality(mut self, runs: &[RunReport]) -> Self {
        let valid = || runs.iter().filter(|run| run.valid);
        let all = |of: fn(&AgentRun) -> Option<f64>| -> Vec<Vec<f64>> {
            valid()
                .filter_map(|run| run.agents.iter().map(of).collect())
                .collect()
        };
        let why = valid()
            .flat_map(|run| &run.agents)
            .find_map(|agent| agent.quality.reason.as_deref())
            .unwrap_or("no valid run");
        let composite: Vec<f64> = all(AgentRun::quality)
            .iter()
            .filter_map(|v| mean(v))
            .collect();
        let adjusted = all(|agent| agent.quality.adjusted_tokens_per_s);
        let adjusted: Vec<f64> = adjusted.iter().map(|values| values.iter().sum()).collect();
        let without_rate = if composite.is_empty() {
            why
        } else {
            NOT_COUNTED
        };
        self.quality = Summary::of(&composite, Provenance::Measured, why);
        // A count of chunks taken for tokens weakens this as it does the rate.
        let rate = self
            .aggregate_tokens_per_s
            .provenance
            .min(Provenance::Estimated);
        self.quality_adjusted_tokens_per_s = Summary::of(&adjusted, rate, without_rate);
        for agent in &mut self.agents {
            let own: Vec<f64> = valid()
                .flat_map(|run| &run.agents)
                .filter(|run| run.agent == agent.agent)
                .filter_map(AgentRun::quality)
                .collect();
            agent.quality = Summary::of(&own, Provenance::Measured, why);
        }
        self
    }
}

impl AgentRun {
    /// The composite quality of its report. *Undefined when* there is no text.
    fn quality(&self) -> Option<f64> {
        Some(self.quality.value.as_ref()?.composite)
    }
}

impl Distributions {
    /// Describes the requests of the valid runs of a test.
    pub(super) fn of(runs: Measures<'_, '_>) -> Self {
        let among: Vec<&RequestRecord> = runs.iter().flat_map(together).collect();
        let solo: Vec<&RequestRecord> = runs.iter().flat_map(alone).collect();
        let each = |requests: &[&RequestRecord], of: OfRequest| {
            Distribution::of(requests.iter().filter_map(|request| of(request)).collect())
        };
        let gaps = |requests: &[&RequestRecord]| {
            Distribution::of(
                requests
                    .iter()
                    .flat_map(|r| itl_ns(r))
                    .map(ns_to_ms)
                    .collect(),
            )
        };
        Self {
            ttft_ms: each(&among, ttft_ms),
            ttft_solo_ms: each(&solo, ttft_ms),
            e2e_ms: each(&among, e2e_ms),
            e2e_solo_ms: each(&solo, e2e_ms),
            tpot_ms: each(&among, tpot_ms),
            tpot_solo_ms: each(&solo, tpot_ms),
            itl_ms: gaps(&among),
            itl_solo_ms: gaps(&solo),
        }
    }
}
