//! What the report shows of attribution.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, RequestId, RunId};

/// A part of a request's time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The agent's own thread waited for a core while the request was under way.
    Client,
    /// Between client and engine: connecting, sending, receiving.
    Transport,
    /// Waiting in the engine for others' requests.
    Queue,
    /// The engine loaded a model.
    Load,
    /// Processing the uncached part of the prompt.
    Prefill,
    /// Writing tokens at the usual pace.
    Decode,
    /// Gaps between tokens far above the usual pace.
    Stall,
    /// Time that cannot be told apart with what engine and system state.
    Unsplit,
}

impl Part {
    /// Every part, in the order in which they occur.
    pub const ALL: [Self; 8] = [
        Self::Client,
        Self::Transport,
        Self::Queue,
        Self::Load,
        Self::Prefill,
        Self::Decode,
        Self::Stall,
        Self::Unsplit,
    ];

    /// The name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Transport => "transport",
            Self::Queue => "queue",
            Self::Load => "load",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Stall => "stall",
            Self::Unsplit => "unsplit",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One request's time, taken apart. All that is set sums to E2E (sent to the last token).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Parts {
    /// See [`Part::Client`]. `null`: the system does not tell.
    pub client_ms: Option<f64>,
    /// See [`Part::Transport`]. `null`: the engine states no total.
    pub transport_ms: Option<f64>,
    /// See [`Part::Queue`]. `null`: it cannot be told from other waits.
    pub queue_ms: Option<f64>,
    /// See [`Part::Load`]. `null`: the engine states none.
    pub load_ms: Option<f64>,
    /// See [`Part::Prefill`]. `null`: the engine states none.
    pub prefill_ms: Option<f64>,
    /// See [`Part::Decode`]. `null` below two chunks.
    pub decode_ms: Option<f64>,
    /// See [`Part::Stall`]. `null` below three chunks.
    pub stall_ms: Option<f64>,
    /// See [`Part::Unsplit`].
    pub unsplit_ms: f64,
}

impl Parts {
    /// Parts from what each of them is; what is not split is 0 where it is nothing.
    #[must_use]
    pub fn of(part: impl Fn(Part) -> Option<f64>) -> Self {
        Self {
            client_ms: part(Part::Client),
            transport_ms: part(Part::Transport),
            queue_ms: part(Part::Queue),
            load_ms: part(Part::Load),
            prefill_ms: part(Part::Prefill),
            decode_ms: part(Part::Decode),
            stall_ms: part(Part::Stall),
            unsplit_ms: part(Part::Unsplit).unwrap_or(0.0),
        }
    }

    /// One part. `None`: not told apart.
    #[must_use]
    pub fn get(&self, part: Part) -> Option<f64> {
        match part {
            Part::Client => self.client_ms,
            Part::Transport => self.transport_ms,
            Part::Queue => self.queue_ms,
            Part::Load => self.load_ms,
            Part::Prefill => self.prefill_ms,
            Part::Decode => self.decode_ms,
            Part::Stall => self.stall_ms,
            Part::Unsplit => Some(self.unsplit_ms),
        }
    }

    /// All that is set.
    #[must_use]
    pub fn total_ms(&self) -> f64 {
        Part::ALL.iter().filter_map(|part| self.get(*part)).sum()
    }
}

/// A request and its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestParts {
    /// Which.
    pub request_id: RequestId,
    /// Its parts.
    pub parts: Parts,
}

/// A part of an agent's time beyond what the agent takes alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Excess {
    /// Whose.
    pub agent: AgentId,
    /// Which part.
    pub part: Part,
    /// Together, all requests of the agent in this run.
    pub together_ms: f64,
    /// What the same work takes alone.
    pub usual_ms: f64,
    /// Standard deviation of that from run to run.
    pub usual_sd_ms: Option<f64>,
    /// Solo legs behind it.
    pub usual_n: u32,
    /// `together_ms - usual_ms`.
    pub excess_ms: f64,
    /// Probability of an excess as large by chance, one-sided. `null`: too few solo legs.
    pub p: Option<f64>,
    /// Whether it is beyond chance at the stated rate of false alarms, and large enough to matter.
    pub beyond_chance: bool,
}

/// Why requests were slow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A model was loaded that should have been in memory.
    Reload,
    /// Requests waited in the engine for other requests.
    Queueing,
    /// Layers ran on the processor that belong on the GPU.
    CpuOffload,
    /// GPU memory was near its limit, and the engine paid for it.
    VramPressure,
    /// Agents shared the memory's bandwidth.
    BandwidthContention,
    /// Agents shared the compute units, or the cores, of one machine.
    ComputeContention,
    /// Clocks were held down by heat or power.
    ThermalOrPowerThrottle,
    /// Other processes took the host's cores.
    HostCpu,
    /// Another process used the GPU.
    ForeignProcess,
    /// The measuring side could not keep up.
    ClientOverload,
    /// The way between agent and engine.
    Network,
    /// An agent stood idle because its peer wrote more.
    LengthImbalance,
    /// Slow beyond chance, and nothing above has evidence.
    Unexplained,
}

impl Cause {
    /// Every cause, in the order in which reports list them.
    pub const ALL: [Self; 13] = [
        Self::Reload,
        Self::Queueing,
        Self::CpuOffload,
        Self::VramPressure,
        Self::BandwidthContention,
        Self::ComputeContention,
        Self::ThermalOrPowerThrottle,
        Self::HostCpu,
        Self::ForeignProcess,
        Self::ClientOverload,
        Self::Network,
        Self::LengthImbalance,
        Self::Unexplained,
    ];

    /// The name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Queueing => "queueing",
            Self::CpuOffload => "cpu_offload",
            Self::VramPressure => "vram_pressure",
            Self::BandwidthContention => "bandwidth_contention",
            Self::ComputeContention => "compute_contention",
            Self::ThermalOrPowerThrottle => "thermal_or_power_throttle",
            Self::HostCpu => "host_cpu",
            Self::ForeignProcess => "foreign_process",
            Self::ClientOverload => "client_overload",
            Self::Network => "network",
            Self::LengthImbalance => "length_imbalance",
            Self::Unexplained => "unexplained",
        }
    }

    /// The cause of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How good the evidence for a cause is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The cause's own evidence was read, and its effect is in the part of the time where it belongs.
    Supported,
    /// The effect is where the cause would put it; its own evidence could not be read.
    Consistent,
    /// Neither for nor against: what the test needs was not measured.
    NotTested,
}

impl Grade {
    /// The name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Consistent => "consistent",
            Self::NotTested => "not tested",
        }
    }
}

/// A reading that speaks for a cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// What was read, in words (`load duration of request 2`).
    pub what: String,
    /// Its value.
    pub value: f64,
    /// Unit, empty for a ratio or a count.
    pub unit: String,
    /// What it is held against (alone, a limit); `null`: it speaks for itself.
    pub against: Option<f64>,
    /// Where it is: request ids, `telemetry 12.3-14.0 s`, `pin after`, `engine states`.
    pub source: String,
}

/// A cause that was found, or could not be tested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CauseFinding {
    /// Which.
    pub cause: Cause,
    /// How good its evidence is.
    pub grade: Grade,
    /// Agents that it struck, in pin order. Empty: all, or not tested.
    pub agents: Vec<AgentId>,
    /// Time lost to it, as far as it can be told apart. `null`: it cannot.
    pub cost_ms: Option<f64>,
    /// What speaks for it. Empty: not tested.
    pub evidence: Vec<Evidence>,
    /// In a sentence a person can repeat.
    pub sentence: String,
    /// What would settle it, or make it go away. `null`: nothing is open.
    pub settle: Option<String>,
}

/// An agent's share of a run's wall time. The parts sum to `wall_ms` but for `residual_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentTime {
    /// Who.
    pub agent: AgentId,
    /// From the first start of the run to its own: the barrier's loss, or its place in the queue.
    pub start_ms: f64,
    /// Steps without the model.
    pub local_ms: f64,
    /// Think time that the spec asked for.
    pub think_ms: f64,
    /// Requests, taken apart.
    pub requests: Parts,
    /// From the last token to the end of the stream, all requests.
    pub closing_ms: f64,
    /// From its finish to the last agent's.
    pub idle_tail_ms: f64,
    /// Own time outside steps, think time and requests: the harness.
    pub harness_ms: f64,
    /// Wall time minus all of the above; not 0 only where stamps are missing.
    pub residual_ms: f64,
}

/// Where the wall time of a run went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decomposition {
    /// First start to last finish.
    pub wall_ms: f64,
    /// Of it, with two or more agents active.
    pub overlap_ms: f64,
    /// Of it, at the end, with fewer agents active than may be.
    pub idle_tail_ms: f64,
    /// Largest distance of two starts.
    pub barrier_ms: f64,
    /// Per agent, in pin order.
    pub agents: Vec<AgentTime>,
    /// Largest share of `wall_ms` that no part holds, over the agents.
    pub residual_share: f64,
}

/// Where the time of a run went, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attribution {
    /// The together leg.
    pub leg: RunId,
    /// Where the wall time went. `null`: an agent has no start or no end.
    pub decomposition: Option<Decomposition>,
    /// Each request together, taken apart, by agent and order.
    pub requests: Vec<RequestParts>,
    /// Whether anything is slow beyond chance. `null`: there is nothing to compare with.
    pub slow: Option<bool>,
    /// Parts that were compared, those beyond chance first.
    pub excess: Vec<Excess>,
    /// What was found, the costliest first; then what could not be tested.
    pub causes: Vec<CauseFinding>,
    /// TR110's rule on the same run: whether its speed-up is below 1.5. `null`: no speed-up, or one
    /// agent.
    pub tr110_contention: Option<bool>,
}

impl Attribution {
    /// The causes that were found, by whatever evidence.
    pub fn named(&self) -> impl Iterator<Item = &CauseFinding> {
        self.causes
            .iter()
            .filter(|finding| finding.grade != Grade::NotTested)
    }
}
