//! What a report has of an experiment that another tool measured: figures as its files state them,
//! and nothing in place of what they do not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aggregate::{AgentAggregate, Aggregate};
use super::goodput::no_slo;
use super::memory::not_sampled;
use super::types::{AgentRun, RunReport};
use crate::ids::AgentId;
use crate::options::EngineOptions;
use crate::stats::{Provenance, Summary};

/// Where the figures of an imported report come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportedFrom {
    /// Layout of the files (`tr110`).
    pub layout: String,
    /// Files that were read.
    pub files: u32,
    /// What was found about the files themselves, a sentence each.
    pub notes: Vec<String>,
}

/// Options of an agent as a report knows them.
///
/// In a report of our own the options frozen in the plan, where `null` is "the engine's default: not
/// sent". In an imported one also "the files do not say".
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AgentOptions {
    /// Layers asked onto the GPU.
    pub num_gpu: Option<u32>,
    /// Context length in tokens.
    pub num_ctx: Option<u32>,
    /// Prompt batch size in tokens.
    pub num_batch: Option<u32>,
    /// Most output tokens per request.
    pub num_predict: Option<u32>,
    /// Threads of the engine.
    pub num_thread: Option<u32>,
    /// Sampling temperature; 0 is greedy.
    pub temperature: Option<f64>,
    /// Nucleus sampling mass.
    pub top_p: Option<f64>,
    /// Sampling candidates.
    pub top_k: Option<u32>,
    /// Penalty on repeated tokens.
    pub repeat_penalty: Option<f64>,
    /// Sampling seed.
    pub seed: Option<u64>,
    /// How long Ollama keeps the model loaded after a request.
    pub keep_alive: Option<String>,
}

impl From<&EngineOptions> for AgentOptions {
    fn from(options: &EngineOptions) -> Self {
        Self {
            num_gpu: options.num_gpu,
            num_ctx: Some(options.num_ctx),
            num_batch: Some(options.num_batch),
            num_predict: Some(options.num_predict),
            num_thread: options.num_thread,
            temperature: Some(options.temperature),
            top_p: options.top_p,
            top_k: options.top_k,
            repeat_penalty: options.repeat_penalty,
            seed: Some(options.seed),
            keep_alive: options.keep_alive.clone(),
        }
    }
}

/// What TR110's `metrics.json` states of a run, beside what its own fields hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tr110Run {
    /// `summary.throughput_delta`, tokens per second: second agent minus first.
    pub throughput_delta_tokens_per_s: Option<f64>,
    /// `summary.ttft_delta_ms`: **first agent minus second**.
    pub ttft_delta_ms: Option<f64>,
    /// `summary.sequential_estimated_time`: durations while together, summed.
    pub sequential_estimated_s: Option<f64>,
    /// `summary.concurrency_speedup` as stated.
    pub concurrency_speedup: Option<f64>,
    /// `summary.resource_contention_detected` as stated.
    pub contention: Option<bool>,
    /// `summary.gpu_memory_peak`; TR110 never measured it.
    pub gpu_memory_peak_gb: Option<f64>,
}

/// What TR110's `metrics.json` states of an agent, beside what its own fields hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tr110Agent {
    /// Requests it made; none of them is recorded by itself.
    pub requests: Option<u32>,
    /// Time that its requests took in all.
    pub requests_ms: Option<f64>,
    /// Mean over its requests of the time to first token.
    pub ttft_ms: Option<f64>,
    /// 95th percentile of the same, by TR110's rule.
    pub ttft_p95_ms: Option<f64>,
    /// Mean over its requests of the token rate.
    pub tokens_per_s: Option<f64>,
    /// 95th percentile of the same, by TR110's rule.
    pub tokens_per_s_p95: Option<f64>,
    /// Whether its execution summary says that it was completed.
    pub completed: Option<bool>,
}

const NO_TEXT: &str = "the files hold no reports to judge";
const NO_SOLO: &str = "no agent was run alone";
const NOT_RECORDED: &str = "the files do not record single requests";
const NOT_STATED: &str = "the files do not state the engine's own times";
const ABSENT: &str = "the files do not state it";
const NOT_SYNCHRONISED: &str = "the files do not say when each agent started";
const AS_STATED: &str = "as the files state it, whatever their tool called so";
const SAME_START: &str = "rests on all agents having started at once, which the files do not show";

/// A figure of imported runs, with what it rests on.
fn imported<T>(of: impl Iterator<Item = Option<T>>, otherwise: &str) -> Summary
where
    T: Into<f64>,
{
    let values: Vec<f64> = of.flatten().map(Into::into).collect();
    Summary::of(&values, Provenance::Imported, otherwise)
}

/// The same summary, resting on something.
fn resting_on(mut summary: Summary, provenance: Provenance, premise: &str) -> Summary {
    if summary.value.is_some() {
        summary.provenance = provenance;
        summary.reason = Some(premise.to_owned());
    }
    summary
}

/// Mean of a stated figure over the agents of a run, each counting as many requests as it made.
fn over_agents(run: &RunReport, of: fn(&Tr110Agent) -> Option<f64>) -> Option<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    for agent in &run.agents {
        let stated = agent.tr110.as_ref()?;
        let requests = f64::from(stated.requests.unwrap_or(1));
        sum += of(stated)? * requests;
        weight += requests;
    }
    (weight > 0.0).then(|| sum / weight)
}

impl Aggregate {
    /// Aggregates imported runs that count; `agents` in their order.
    pub(crate) fn of_imported(runs: &[&RunReport], agents: &[AgentId]) -> Self {
        let no = Summary::not_measured;
        let each = |of: fn(&RunReport) -> Option<f64>, otherwise: &str| {
            imported(runs.iter().map(|run| of(run)), otherwise)
        };
        let idle = each(|run| run.idle_tail_s, ABSENT);
        let ttft = imported(
            runs.iter().map(|run| over_agents(run, |a| a.ttft_ms)),
            ABSENT,
        );
        let rate = imported(
            runs.iter().map(|run| over_agents(run, |a| a.tokens_per_s)),
            ABSENT,
        );
        Self {
            concurrency_gain: each(|run| run.concurrency_gain, NO_SOLO),
            raw_gain: no(NO_SOLO),
            work_gain: no(NO_SOLO),
            parallel_efficiency: each(|run| run.parallel_efficiency, NO_SOLO),
            aggregate_tokens_per_s: each(|run| run.aggregate_tokens_per_s, ABSENT),
            solo_tokens_per_s: no(NO_SOLO),
            throughput_ratio: no(NO_SOLO),
            wall_s: each(|run| run.wall_s, ABSENT),
            solo_total_s: each(|run| run.solo_total_s, NO_SOLO),
            slowdown: no(NO_SOLO),
            overlap_fraction: no(NOT_SYNCHRONISED),
            idle_tail_s: resting_on(idle, Provenance::Estimated, SAME_START),
            fairness: no(NO_SOLO),
            tr110_speedup: each(|run| run.tr110_speedup, ABSENT),
            tr110_efficiency: each(|run| run.tr110_efficiency, ABSENT),
            start_skew_ms: no(NOT_SYNCHRONISED),
            harness_overhead_ms: each(|run| run.harness_overhead_ms, ABSENT),
            queue_wait_s: no(NOT_SYNCHRONISED),
            goodput_rps: no_slo(),
            good_ratio: no_slo(),
            good_solo_ratio: no_slo(),
            ttft_ms: resting_on(ttft, Provenance::Imported, AS_STATED),
            ttft_solo_ms: no(NO_SOLO),
            e2e_ms: no(NOT_RECORDED),
            e2e_solo_ms: no(NO_SOLO),
            tpot_ms: no(NOT_RECORDED),
            tpot_solo_ms: no(NO_SOLO),
            decode_tokens_per_s: resting_on(rate, Provenance::Imported, AS_STATED),
            decode_solo_tokens_per_s: no(NO_SOLO),
            engine_load_ms: no(NOT_STATED),
            engine_prompt_eval_ms: no(NOT_STATED),
            engine_prompt_eval_solo_ms: no(NO_SOLO),
            engine_eval_ms: no(NOT_STATED),
            engine_eval_solo_ms: no(NO_SOLO),
            engine_tokens_per_s: no(NOT_STATED),
            engine_solo_tokens_per_s: no(NO_SOLO),
            quality: no(NO_TEXT),
            quality_adjusted_tokens_per_s: no(NO_TEXT),
            gpu_memory_peak_bytes: not_sampled(),
            gpu_memory_mean_bytes: not_sampled(),
            gpu_memory_peak_ratio: not_sampled(),
            gpu_engines_peak_bytes: not_sampled(),
            gpu_engines_mean_bytes: not_sampled(),
            agents: agents
                .iter()
                .map(|agent| AgentAggregate::of_imported(runs, agent))
                .collect(),
        }
    }
}

impl AgentAggregate {
    fn of_imported(runs: &[&RunReport], who: &AgentId) -> Self {
        let no = Summary::not_measured;
        let each = |of: fn(&AgentRun) -> Option<f64>| {
            let own = runs
                .iter()
                .filter_map(|run| run.agents.iter().find(|agent| agent.agent == *who));
            imported(own.map(of), ABSENT)
        };
        Self {
            agent: who.clone(),
            duration_s: each(|agent| agent.duration_s),
            solo_duration_s: no(NO_SOLO),
            slowdown: no(NO_SOLO),
            tokens_per_s: each(|agent| agent.tokens_per_s),
            solo_tokens_per_s: no(NO_SOLO),
            ttft_ms: resting_on(each(|agent| agent.ttft_ms), Provenance::Imported, AS_STATED),
            ttft_solo_ms: no(NO_SOLO),
            tpot_ms: no(NOT_RECORDED),
            tpot_solo_ms: no(NO_SOLO),
            idle_tail_s: resting_on(
                each(|agent| agent.idle_tail_s),
                Provenance::Estimated,
                SAME_START,
            ),
            quality: no(NO_TEXT),
        }
    }
}
