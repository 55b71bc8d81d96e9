//! What an agent worker reports: the records of one agent in one attempt at one leg.
//!
//! A stream of records is `Begin`, then records numbered `1..=n` without a gap, then `End` that
//! states `n` and the hash of them all. The stream is complete only if all of that is there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentKey, InstanceId, RequestId, Role, WorkerId};
use crate::options::{EngineKind, EngineOptions};
use crate::units::{ClockReading, MonoNs};

/// A record with its place in its stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentEvent {
    /// Whose stream. Taken from the subject, never from a message body.
    pub key: AgentKey,
    /// The coordinator's fencing token under which the record was written.
    pub epoch: u64,
    /// 0 for `Begin`, then 1, 2, ..., and `n + 1` for `End`.
    pub n: u64,
    /// What happened.
    pub record: AgentRecord,
}

/// What can happen to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AgentRecord {
    /// The worker took the assignment.
    Begin(Begin),
    /// The instance was looked at, before or after the work.
    Pin(PinCheck),
    /// The agent left the barrier.
    Started(Started),
    /// A step of the agent that asks no model: scan, ingest, aggregate, write.
    Local(LocalStep),
    /// One request to the engine, whole.
    Request(RequestRecord),
    /// A text that the agent produced.
    Output(Output),
    /// What the engine said of its state while the agent worked.
    Engine(EngineWatch),
    /// The agent ended.
    Finished(Finished),
    /// Nothing follows.
    End(End),
}

/// First record of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// The worker that runs the agent.
    pub worker: WorkerId,
    /// The instance it is pinned to.
    pub instance: InstanceId,
    /// What the agent is.
    pub role: Role,
    /// The clock of all instants in this stream.
    pub clock: ClockReading,
    /// What the engine is asked for in every request of this run.
    pub options: EngineOptions,
}

/// When an instance was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinMoment {
    /// After warming, before the ready vote.
    Before,
    /// After the agent's last step.
    After,
}

/// What the engine said of itself. `None`: the engine has no way to say it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinCheck {
    /// Before or after the work.
    pub moment: PinMoment,
    /// When the answers were in.
    pub at: MonoNs,
    /// What was found.
    pub facts: PinFacts,
}

/// Identity and placement of the loaded model, as the engine states them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PinFacts {
    /// Base URL the worker is pinned to.
    pub url: String,
    /// The wire protocol.
    pub engine: Option<EngineKind>,
    /// Product behind the protocol (`ollama`, `llama.cpp`, `vllm`).
    pub product: Option<String>,
    /// Version of the engine.
    pub version: Option<String>,
    /// Model name as loaded.
    pub model: Option<String>,
    /// Digest of the model (Ollama), or the SHA-256 of the GGUF of a spawned llama.cpp server.
    pub model_digest: Option<String>,
    /// Context length that the loaded model has, in tokens, per slot.
    pub context_length: Option<u32>,
    /// Context length that the model was trained with, tokens. More is memory without a use: Ollama
    /// loads no more, whatever is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_context: Option<u32>,
    /// Requests served at once.
    pub parallel_slots: Option<u32>,
    /// Layers that the model has.
    pub model_layers: Option<u32>,
    /// Bytes of the loaded model.
    pub size_bytes: Option<u64>,
    /// Of these, bytes in GPU memory.
    pub size_vram_bytes: Option<u64>,
    /// Process of the engine, where the worker owns or can see it.
    pub pid: Option<u32>,
    /// Changes when the instance is another one than before (start time of the process).
    pub instance_epoch: Option<String>,
    /// Load duration that the engine states for a request when nothing is to be loaded, ns: what
    /// tells a reload from the engine's ordinary overhead. Known before the work only.
    #[serde(default)]
    pub warm_load_ns: Option<u64>,
}

/// The agent left the barrier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The instant that the coordinator had set.
    pub planned: MonoNs,
    /// The instant at which the agent really went.
    pub actual: MonoNs,
}

/// A step without the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalStep {
    /// Name of the step (`scan`, `ingest`, `aggregate`).
    pub step: String,
    /// Begin of the step.
    pub start: MonoNs,
    /// End of the step.
    pub end: MonoNs,
    /// One line on what it did (`3 files, 1200 rows`).
    pub detail: String,
}

/// Why a request failed. Each is a class of its own: the remedy differs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RequestErrorKind {
    /// No connection: refused, reset before a byte, name not found.
    Connect,
    /// No connection within the connect limit.
    ConnectTimeout,
    /// Connected, but no first byte within the limit.
    FirstByteTimeout,
    /// The stream stood still for longer than the gap limit.
    GapTimeout,
    /// The request took longer than the total limit.
    TotalTimeout,
    /// An HTTP status other than 200, before any token; 429 and 503 included.
    Status,
    /// The engine has no such model (404).
    ModelNotFound,
    /// An error reported inside a stream that had begun with status 200.
    StreamError,
    /// The connection broke inside the stream.
    CutStream,
    /// The stream ended cleanly without its final record.
    NoDone,
    /// Data after the final record, or a second one.
    AfterDone,
    /// A line that is no JSON of the protocol, or no UTF-8.
    Malformed,
    /// A line over the cap.
    LineTooLong,
    /// The prompt did not fit, or was cut by the engine.
    Truncated,
    /// The run was stopped while the request was under way.
    Cancelled,
}

impl RequestErrorKind {
    /// The closed label used in reports and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::GapTimeout => "gap_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::Status => "status",
            Self::ModelNotFound => "model_not_found",
            Self::StreamError => "stream_error",
            Self::CutStream => "cut_stream",
            Self::NoDone => "no_done",
            Self::AfterDone => "after_done",
            Self::Malformed => "malformed",
            Self::LineTooLong => "line_too_long",
            Self::Truncated => "truncated",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A failed request's class and words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestError {
    /// What failed.
    pub kind: RequestErrorKind,
    /// The engine's or the transport's own words, shortened.
    pub detail: String,
}

/// Why the engine stopped writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its answer.
    Stop,
    /// The token budget was spent.
    Length,
    /// Anything else that the engine named.
    Other,
}

/// The engine's own account of one request, as it states it. Never mixed with client times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EngineTimes {
    /// Whole request (Ollama `total_duration`), ns.
    pub total_ns: Option<u64>,
    /// Load and scheduler wait (Ollama `load_duration`), ns.
    pub load_ns: Option<u64>,
    /// Prefill of the uncached part of the prompt, ns.
    pub prompt_eval_ns: Option<u64>,
    /// Decode, ns.
    pub eval_ns: Option<u64>,
}

/// One request, as the client saw it and as the engine accounts for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Also sent as `X-Request-ID`.
    pub request_id: RequestId,
    /// The agent's step that asked (`analysis`, `report`).
    pub step: String,
    /// Just before the request was handed to the connection.
    pub sent: MonoNs,
    /// Response head received, ns after `sent`.
    pub head_ns: Option<u64>,
    /// Each content chunk's receipt, ns after `sent`. *Shape*: not falling; one entry per chunk
    /// with content; usually one token each, see `output_tokens`.
    pub chunk_ns: Vec<u64>,
    /// End of the stream, ns after `sent`.
    pub done_ns: Option<u64>,
    /// SHA-256 of the prompt (all messages), hex.
    pub prompt_sha256: String,
    /// Prompt tokens, by the engine's count; includes cached ones.
    pub prompt_tokens: Option<u32>,
    /// Of these, tokens that the engine took from its prefix cache.
    pub cached_tokens: Option<u32>,
    /// Output tokens, by the engine's count.
    pub output_tokens: Option<u32>,
    /// SHA-256 of the text received, hex.
    pub output_sha256: String,
    /// Why the engine stopped; `None` if it did not say.
    pub finish: Option<FinishReason>,
    /// The engine's own durations.
    pub engine_times: EngineTimes,
    /// Time between `sent` and the end of the stream in which the agent's own thread could have run
    /// and no core was free for it, ns: what the client added. `None`: the system does not tell.
    /// *Source*: `/proc/thread-self/schedstat`.
    #[serde(default)]
    pub client_wait_ns: Option<u64>,
    /// Set if the request failed.
    pub error: Option<RequestError>,
}

/// An engine's state as it was read beside the agent's work, never between two of its stamps.
///
/// Written once, before `Finished`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EngineWatch {
    /// Readings in order of time, at most [`MAX_ENGINE_STATES`].
    pub states: Vec<EngineState>,
    /// Readings that failed or were left out because there were too many.
    pub missed: u32,
}

/// Readings of an engine's state that one record holds: an hour at one a second.
pub const MAX_ENGINE_STATES: usize = 3_600;

/// An engine's state at an instant. `None`: the engine has no way to say it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EngineState {
    /// When the answer was in.
    pub at: MonoNs,
    /// Models in memory (Ollama `/api/ps`).
    pub resident: Option<Vec<ResidentModel>>,
    /// Requests being served (llama.cpp `/metrics` or `/slots`, vLLM `/metrics`).
    pub requests_running: Option<u32>,
    /// Requests waiting for a slot.
    pub requests_waiting: Option<u32>,
    /// Part of the KV cache in use, 0 to 1.
    pub kv_cache_used: Option<f64>,
}

/// A model in an engine's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResidentModel {
    /// Name.
    pub model: String,
    /// Bytes it takes.
    pub size_bytes: Option<u64>,
    /// Of these, bytes in GPU memory.
    pub size_vram_bytes: Option<u64>,
    /// Context length it was loaded with, tokens.
    pub context_length: Option<u32>,
}

/// A text that the agent produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// `report` for the agent's report file, `aggregates` for its JSON, else the step's name.
    pub name: String,
    /// `text/markdown` or `application/json`.
    pub media_type: String,
    /// The text.
    pub text: String,
}

/// How an agent ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The instant its last step ended.
    pub at: MonoNs,
    /// `None` if all steps were done.
    pub failure: Option<AgentFailure>,
}

/// Why an agent could not finish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentFailure {
    /// Closed label: `request:<kind>`, `data`, `storage`, `stopped`, `fenced`, `option_drift`, `pin`.
    pub label: String,
    /// In words.
    pub detail: String,
}

/// Last record of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How many records lie between `Begin` and this.
    pub records: u64,
    /// SHA-256 over the encoded payloads of `Begin` and records `1..=n`, in order, hex.
    pub sha256: String,
}
