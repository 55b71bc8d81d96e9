//! The layout of `report.json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aggregate::{Aggregate, Distributions};
use super::causes::{CauseSummary, MeanTime, SlowRuns};
use super::environment::Environment;
use super::findings::Finding;
use super::imported::{AgentOptions, ImportedFrom, Tr110Agent, Tr110Run};
use super::memory::RunGpuMemory;
use super::topology::TopologyVerdict;
use crate::attribution::Attribution;
use crate::efficiency::GainRule;
use crate::event::{AgentFailure, FinishReason, PinFacts, RequestError};
use crate::ids::{AgentId, ExperimentId, InstanceId, RequestId, Role, RunId, WorkerId};
use crate::latency::TokenSource;
use crate::memory::admission::Admission;
use crate::options::EngineKind;
use crate::plan::{Topology, Workload};
use crate::quality::Judged;
use crate::slo::{Goodput, Slo};
use crate::stats::Provenance;

/// One experiment, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Identity of the experiment.
    pub experiment: ExperimentId,
    /// Its name in the spec.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Seed of the order and of every derived seed. `null`: an imported experiment had none.
    pub seed: Option<u64>,
    /// What the agents worked on. `null`: an imported experiment does not say.
    pub workload: Option<Workload>,
    /// The spec as the person wrote it. `null`: an imported experiment had none.
    pub spec: Option<String>,
    /// What a request must keep to be good, as the spec states it. Absent: it states nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// Set if another tool measured it and this report only reads its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ImportedFrom>,
    /// Where it was measured.
    pub environment: Environment,
    /// Flags and counters on the data behind this report.
    pub validity: Validity,
    /// Configurations, by rising number.
    pub tests: Vec<TestReport>,
    /// What the tests show side by side. `null` below two tests with a gain.
    pub contrast: Option<Contrast>,
    /// What tests show that differ in nothing but their topology. `null`: there are no two.
    #[serde(default)]
    pub topology: Option<TopologyVerdict>,
    /// What the data show of themselves, each with its evidence. Absent: nothing worth a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// How an experiment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// In one word.
    pub state: OutcomeState,
    /// Why, where there is something to say.
    pub detail: Option<String>,
}

/// How an experiment ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeState {
    /// It has not: this report is a view of a part.
    Running,
    /// Every leg was executed.
    Completed,
    /// A person stopped it.
    Cancelled,
    /// It could not go on.
    Failed,
}

/// Flags and counters on the data behind a report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Validity {
    /// Legs closed as valid and confirmed by the check.
    pub legs_valid: u32,
    /// Legs executed.
    pub legs_attempted: u32,
    /// Legs planned.
    pub legs_planned: u32,
    /// Agent streams that count.
    pub streams: u32,
    /// Of these, streams with every record and an agreeing count.
    pub streams_complete: u32,
    /// Of these, streams whose payloads were compared with their closing hash.
    pub streams_hash_checked: u32,
    /// Distinct records of an older epoch or attempt; not counted in any figure.
    pub stale_dropped: u64,
    /// Distinct records of legs that the plan does not have.
    pub stray_dropped: u64,
    /// Messages that could not be decoded.
    pub dead_letters: u64,
}

/// One configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestReport {
    /// Number of the test, as text.
    pub id: String,
    /// Phase number.
    pub phase: u32,
    /// Scenario name.
    pub scenario: String,
    /// What a person calls it.
    pub label: String,
    /// Folder of its files (`phase_1_test_001`).
    pub folder: String,
    /// The agents, in pin order. Differences between agents are against the first.
    pub agents: Vec<AgentConfig>,
    /// How many agents may run at once.
    pub max_concurrent: u32,
    /// How agents and instances belong together.
    #[serde(default)]
    pub topology: Topology,
    /// Repeats planned.
    pub runs_planned: u32,
    /// Attempts made, those given up for a later one included.
    pub runs_attempted: u32,
    /// Runs that enter the aggregate.
    pub runs_valid: u32,
    /// Runs of which at least one leg was executed, by rising number.
    pub runs: Vec<RunReport>,
    /// Over the valid runs.
    pub aggregate: Aggregate,
    /// Over all requests of the valid runs.
    pub distributions: Distributions,
    /// What the figures mean, in a sentence.
    pub verdict: String,
    /// How many runs are slow, by our rule and by TR110's. Absent: no run was attributed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowRuns>,
    /// Why, over the runs: what was found in most of them first, then what could not be tested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CauseSummary>,
    /// Where the agents' time went, mean over the runs, in pin order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<MeanTime>,
}

/// An agent as configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentConfig {
    /// Unique within the test.
    pub agent: AgentId,
    /// What it is.
    pub role: Role,
    /// Protocol of its engine.
    pub engine: EngineKind,
    /// Model asked for. `null`: an imported experiment does not say.
    pub model: Option<String>,
    /// Options, frozen. `null` in them: the engine's default, or not stated in an imported experiment.
    pub options: AgentOptions,
    /// Instance it must be pinned to; `null`: any.
    pub instance: Option<String>,
    /// Pause before each of its requests but the first, ms.
    #[serde(default)]
    pub think_ms: u32,
    /// What the files of an imported experiment call its kind (`baseline`, `chimera_optimized`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated_type: Option<String>,
}

/// Why something is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// Closed label.
    pub reason: String,
    /// In words.
    pub detail: String,
}

/// One run: a together leg and the solo legs of its agents.
///
/// In an invalid run everything that compares legs or agents is `null`; durations and requests are
/// shown as far as they are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// Number within the test, from 1.
    pub run: u32,
    /// Whether it enters the aggregate.
    pub valid: bool,
    /// Closed label of the weightiest reason; `null` if valid.
    pub invalid_reason: Option<String>,
    /// Every reason, the weightiest first. Empty if valid.
    pub invalid: Vec<Reason>,
    /// First agent's start to last agent's finish, seconds.
    pub wall_s: Option<f64>,
    /// Bound on the error of `wall_s` from clock offsets; 0 on one host.
    pub wall_error_ms: Option<f64>,
    /// Sum of the agents' measured solo durations.
    pub solo_total_s: Option<f64>,
    /// The numerator of the gain; differs from `solo_total_s` where the work differed.
    pub solo_reference_s: Option<f64>,
    /// `solo_reference_s / wall_s`: above 1 running together saves time, below 1 it costs.
    pub concurrency_gain: Option<f64>,
    /// Of the gain and all that is computed from it.
    pub gain_provenance: Provenance,
    /// How the numerator came about.
    pub gain_rule: Option<GainRule>,
    /// `solo_total_s / wall_s`, whatever the work.
    pub raw_gain: Option<f64>,
    /// Gain per unit of work, whether or not it is the one reported.
    pub work_gain: Option<f64>,
    /// Largest difference of the work alone and together among the agents, as a part of solo time.
    pub work_difference: Option<f64>,
    /// Error of the model behind `work_gain` on the solo requests themselves, as a part of their time.
    pub work_residual: Option<f64>,
    /// Gain over the number of agents.
    pub parallel_efficiency: Option<f64>,
    /// All output tokens over `wall_s`.
    pub aggregate_tokens_per_s: Option<f64>,
    /// Mean of the agents' throughputs alone: output tokens over solo duration.
    pub solo_tokens_per_s: Option<f64>,
    /// `aggregate_tokens_per_s` over N times `solo_tokens_per_s`.
    pub throughput_ratio: Option<f64>,
    /// Part of `wall_s` with two or more agents active. `null` for one agent.
    pub overlap_fraction: Option<f64>,
    /// Time at the end in which fewer agents are active than may be.
    pub idle_tail_s: Option<f64>,
    /// Jain's index of the agents' progress (1 / slowdown), from 1/N to 1.
    pub fairness: Option<f64>,
    /// TR110's "concurrency speedup": durations while together, summed, over `wall_s`. It is the mean
    /// number of active agents: a measure of balance, not of gain.
    pub tr110_speedup: Option<f64>,
    /// TR110's "parallel efficiency": `tr110_speedup / N`. Balance.
    pub tr110_efficiency: Option<f64>,
    /// What TR110's formula must give when all start at once, whatever they gain: durations summed
    /// over the longest; with two agents 1 + min/max.
    pub balance_identity: Option<f64>,
    /// How far apart agents started that were released together. `null` below two.
    pub start_skew_ms: Option<f64>,
    /// Bound on its error; 0 on one host.
    pub start_skew_error_ms: Option<f64>,
    /// `wall_s` minus the longest agent. `null` when the cap holds agents back.
    pub harness_overhead_ms: Option<f64>,
    /// Processor use during the together leg, by telemetry. `null`: not measured.
    pub host: Option<RunHost>,
    /// How many of its requests keep the report's `slo`. Absent: there is none, or the run is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodput: Option<Goodput>,
    /// Memory of the GPUs during the together leg, by telemetry. `null` in a run that is not valid.
    #[serde(default)]
    pub gpu_memory: Option<RunGpuMemory>,
    /// The agents, in pin order.
    pub agents: Vec<AgentRun>,
    /// The legs, together first. Empty in an imported run.
    pub legs: Vec<LegReport>,
    /// Where the time of the together leg went, and why; in an invalid run, too. Absent: it left no
    /// records, or the run is imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Attribution>,
    /// What TR110's file states of the run, with its signs. Set in an imported run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tr110: Option<Tr110Run>,
}

/// Processor use of the host during a together leg.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunHost {
    /// Cores busy on average, all processes. `null`: telemetry does not cover both ends.
    pub cores_used: Option<f64>,
    /// Whether telemetry read the host throughout, without a gap.
    pub complete: bool,
    /// Per engine process that a pin names.
    pub engines: Vec<EngineHost>,
}

/// Processor use of one engine, its process and those below it, during a together leg.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EngineHost {
    /// Whose engine.
    pub agent: AgentId,
    /// Its process.
    pub pid: u32,
    /// Cores busy on average.
    pub cores_used: Option<f64>,
}

/// One agent in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentRun {
    /// Who.
    pub agent: AgentId,
    /// What it is.
    pub role: Role,
    /// Who ran it.
    pub worker: Option<WorkerId>,
    /// Where.
    pub instance: Option<InstanceId>,
    /// Its own start to its own finish, together, seconds.
    pub duration_s: Option<f64>,
    /// The same alone.
    pub solo_duration_s: Option<f64>,
    /// Solo time that the run's gain takes for it; differs from `solo_duration_s` where the work did.
    pub solo_reference_s: Option<f64>,
    /// Set if the solo leg is that of an identical agent.
    pub solo_shared_with: Option<AgentId>,
    /// `duration_s / solo_reference_s`: 2 is half as fast as alone.
    pub slowdown: Option<f64>,
    /// `duration_s / solo_duration_s`, whatever the work.
    pub raw_slowdown: Option<f64>,
    /// From the run's first start to its own.
    pub start_offset_s: Option<f64>,
    /// How late it left the barrier; negative is early.
    pub start_late_ms: Option<f64>,
    /// Time that the cap held it back. `null`: it was released with the first.
    pub queue_wait_s: Option<f64>,
    /// From its finish to the last agent's.
    pub idle_tail_s: Option<f64>,
    /// Steps without the model.
    pub local_s: Option<f64>,
    /// Own time outside steps and requests.
    pub other_s: Option<f64>,
    /// Output tokens of all its requests.
    pub output_tokens: Option<u64>,
    /// `output_tokens / duration_s`.
    pub tokens_per_s: Option<f64>,
    /// The same alone.
    pub solo_tokens_per_s: Option<f64>,
    /// Mean client TTFT of its requests. In an imported run the mean that its file states, whatever
    /// its tool called a TTFT.
    pub ttft_ms: Option<f64>,
    /// This agent minus the first. `null` for the first.
    pub delta: Option<AgentDelta>,
    /// Why it failed.
    pub failure: Option<AgentFailure>,
    /// Its requests together, in order.
    pub requests: Vec<RequestReport>,
    /// Its requests alone, in order.
    pub solo_requests: Vec<RequestReport>,
    /// Its steps without the model, together, in order.
    pub local_steps: Vec<LocalReport>,
    /// How good the report is that it wrote, together.
    #[serde(default = "Judged::unknown")]
    pub quality: Judged,
    /// What TR110's file states of it. Set in an imported run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tr110: Option<Tr110Agent>,
}

/// One agent minus the first agent of the test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentDelta {
    /// Of `duration_s`.
    pub duration_s: Option<f64>,
    /// Of `tokens_per_s`.
    pub tokens_per_s: Option<f64>,
    /// Of `ttft_ms`.
    pub ttft_ms: Option<f64>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestReport {
    /// As sent to the engine in `X-Request-ID`.
    pub request_id: RequestId,
    /// The step that asked.
    pub step: String,
    /// From the agent's start to the sending.
    pub sent_s: Option<f64>,
    /// Client: sent to first content token.
    pub ttft_ms: Option<f64>,
    /// Client: sent to last content token.
    pub e2e_ms: Option<f64>,
    /// Client: (E2E - TTFT) / (output tokens - 1). `null` below two tokens.
    pub tpot_ms: Option<f64>,
    /// Client: median gap between chunks. `null` below two chunks.
    pub itl_p50_ms: Option<f64>,
    /// Client: longest gap between chunks.
    pub itl_max_ms: Option<f64>,
    /// Client: sent to response head.
    pub head_ms: Option<f64>,
    /// Client: sent to end of stream.
    pub done_ms: Option<f64>,
    /// Client: 1 / TPOT.
    pub decode_tokens_per_s: Option<f64>,
    /// Engine: output tokens / eval duration.
    pub engine_tokens_per_s: Option<f64>,
    /// Engine: load and scheduler wait.
    pub load_ms: Option<f64>,
    /// Engine: prefill of the uncached part of the prompt.
    pub prompt_eval_ms: Option<f64>,
    /// Engine: decode.
    pub eval_ms: Option<f64>,
    /// Engine: the whole request.
    pub total_ms: Option<f64>,
    /// Engine: prompt tokens, cached ones included.
    pub prompt_tokens: Option<u32>,
    /// Engine: of these, from its prefix cache.
    pub cached_tokens: Option<u32>,
    /// Output tokens.
    pub output_tokens: Option<u32>,
    /// Who counted them.
    pub output_tokens_source: Option<TokenSource>,
    /// Chunks with content received.
    pub chunks: u32,
    /// Why the engine stopped.
    pub finish: Option<FinishReason>,
    /// SHA-256 of the prompt, hex.
    pub prompt_sha256: String,
    /// SHA-256 of the text received, hex.
    pub output_sha256: String,
    /// Whether it keeps every limit of the report's `slo`. Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<bool>,
    /// Set if it failed.
    pub error: Option<RequestError>,
}

/// A step without the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LocalReport {
    /// Name of the step.
    pub step: String,
    /// From the agent's start to the step's.
    pub start_s: Option<f64>,
    /// How long it took.
    pub duration_ms: Option<f64>,
    /// One line on what it did.
    pub detail: String,
}

/// One leg: what the run protocol executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LegReport {
    /// Identity on the bus.
    pub leg: RunId,
    /// The agent, in a solo leg; `null` in the together leg.
    pub solo: Option<AgentId>,
    /// The attempt that counts. `null`: the leg was not executed.
    pub attempt: Option<u32>,
    /// Fencing token of its records.
    pub epoch: Option<u64>,
    /// Whether it may count.
    pub valid: bool,
    /// Every reason against it, the weightiest first.
    pub invalid: Vec<Reason>,
    /// Attempts given up for this one.
    pub earlier: Vec<Attempt>,
    /// What was decided of the memory that its agents need. Absent: nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// What each instance was when it voted ready, by rising agent.
    pub ready: Vec<ReadyReport>,
}

/// An instance when it voted ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReadyReport {
    /// Whose.
    pub agent: AgentId,
    /// How long loading and checking took.
    pub warm_ms: f64,
    /// What it said of itself.
    pub facts: PinFacts,
}

/// An attempt that was given up for a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Its number.
    pub attempt: u32,
    /// Why it was given up; `null`: it was never closed.
    pub invalid: Option<Reason>,
}

/// Two tests side by side: that with the highest and that with the lowest gain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contrast {
    /// Id of the test with the highest gain.
    pub best: String,
    /// Id of the test with the lowest gain.
    pub worst: String,
    /// Gain of the best minus gain of the worst.
    pub difference: f64,
    /// Interval of the difference (Welch), at 1 - 0.05 / m for the m pairs that the tests with a gain
    /// make: the two were chosen for being farthest apart. `null` below two valid runs in either.
    pub ci95: Option<[f64; 2]>,
    /// What it means, in a sentence.
    pub sentence: String,
}
