//! The metrics that a person may name: to choose by, to stop at, to compare, to gate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{Aggregate, RunReport};
use crate::stats::{Summary, mean};

/// A figure that every run of a test has, or says why not.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Solo time of the agents' work over the wall time together.
    ConcurrencyGain,
    /// Gain over the number of agents.
    ParallelEfficiency,
    /// All output tokens over wall.
    AggregateTokensPerS,
    /// Mean of the agents' throughputs alone.
    SoloTokensPerS,
    /// Aggregate throughput over N times the solo throughput.
    ThroughputRatio,
    /// Wall time together.
    WallS,
    /// Mean of the agents' slowdowns.
    Slowdown,
    /// Jain's index of the agents' progress.
    Fairness,
    /// Time at the end in which fewer agents are active than may be.
    IdleTailS,
    /// Mean client TTFT together.
    TtftMs,
    /// Mean client E2E latency together.
    E2eMs,
    /// Mean client time per output token together.
    TpotMs,
    /// Requests that keep every limit of the `[slo]`, per second of the wall time together.
    GoodputRps,
    /// Requests that keep every limit of the `[slo]` over all, together.
    GoodRatio,
    /// TR110's "concurrency speedup": balance.
    Tr110Speedup,
    /// TR110's "parallel efficiency": balance.
    Tr110Efficiency,
}

impl Metric {
    /// Every metric, in the order in which reports list them.
    pub const ALL: [Self; 16] = [
        Self::ConcurrencyGain,
        Self::ParallelEfficiency,
        Self::AggregateTokensPerS,
        Self::SoloTokensPerS,
        Self::ThroughputRatio,
        Self::WallS,
        Self::Slowdown,
        Self::Fairness,
        Self::IdleTailS,
        Self::TtftMs,
        Self::E2eMs,
        Self::TpotMs,
        Self::GoodputRps,
        Self::GoodRatio,
        Self::Tr110Speedup,
        Self::Tr110Efficiency,
    ];

    /// The name in specs and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConcurrencyGain => "concurrency_gain",
            Self::ParallelEfficiency => "parallel_efficiency",
            Self::AggregateTokensPerS => "aggregate_tokens_per_s",
            Self::SoloTokensPerS => "solo_tokens_per_s",
            Self::ThroughputRatio => "throughput_ratio",
            Self::WallS => "wall_s",
            Self::Slowdown => "slowdown",
            Self::Fairness => "fairness",
            Self::IdleTailS => "idle_tail_s",
            Self::TtftMs => "ttft_ms",
            Self::E2eMs => "e2e_ms",
            Self::TpotMs => "tpot_ms",
            Self::GoodputRps => "goodput_rps",
            Self::GoodRatio => "good_ratio",
            Self::Tr110Speedup => "tr110_speedup",
            Self::Tr110Efficiency => "tr110_efficiency",
        }
    }

    /// The metric of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }

    /// Unit, empty for a ratio.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::AggregateTokensPerS | Self::SoloTokensPerS => "tokens/s",
            Self::GoodputRps => "requests/s",
            Self::WallS | Self::IdleTailS => "s",
            Self::TtftMs | Self::E2eMs | Self::TpotMs => "ms",
            Self::ConcurrencyGain
            | Self::ParallelEfficiency
            | Self::ThroughputRatio
            | Self::Slowdown
            | Self::Fairness
            | Self::GoodRatio
            | Self::Tr110Speedup
            | Self::Tr110Efficiency => "",
        }
    }

    /// Whether more of it is better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        match self {
            Self::WallS
            | Self::Slowdown
            | Self::IdleTailS
            | Self::TtftMs
            | Self::E2eMs
            | Self::TpotMs => false,
            Self::ConcurrencyGain
            | Self::ParallelEfficiency
            | Self::AggregateTokensPerS
            | Self::SoloTokensPerS
            | Self::ThroughputRatio
            | Self::Fairness
            | Self::GoodputRps
            | Self::GoodRatio
            | Self::Tr110Speedup
            | Self::Tr110Efficiency => true,
        }
    }

    /// Whether it compares with solo legs, so that without them nobody can tell it.
    #[must_use]
    pub fn needs_solo(self) -> bool {
        match self {
            Self::ConcurrencyGain
            | Self::ParallelEfficiency
            | Self::SoloTokensPerS
            | Self::ThroughputRatio
            | Self::Slowdown
            | Self::Fairness => true,
            Self::AggregateTokensPerS
            | Self::WallS
            | Self::IdleTailS
            | Self::TtftMs
            | Self::E2eMs
            | Self::TpotMs
            | Self::GoodputRps
            | Self::GoodRatio
            | Self::Tr110Speedup
            | Self::Tr110Efficiency => false,
        }
    }

    /// Whether it counts good requests, so that without an `[slo]` nobody can tell it, and under two
    /// different ones it is not the same figure.
    #[must_use]
    pub fn needs_slo(self) -> bool {
        matches!(self, Self::GoodputRps | Self::GoodRatio)
    }

    /// The metric over the valid runs of a test.
    #[must_use]
    pub fn of_test(self, aggregate: &Aggregate) -> &Summary {
        match self {
            Self::ConcurrencyGain => &aggregate.concurrency_gain,
            Self::ParallelEfficiency => &aggregate.parallel_efficiency,
            Self::AggregateTokensPerS => &aggregate.aggregate_tokens_per_s,
            Self::SoloTokensPerS => &aggregate.solo_tokens_per_s,
            Self::ThroughputRatio => &aggregate.throughput_ratio,
            Self::WallS => &aggregate.wall_s,
            Self::Slowdown => &aggregate.slowdown,
            Self::Fairness => &aggregate.fairness,
            Self::IdleTailS => &aggregate.idle_tail_s,
            Self::TtftMs => &aggregate.ttft_ms,
            Self::E2eMs => &aggregate.e2e_ms,
            Self::TpotMs => &aggregate.tpot_ms,
            Self::GoodputRps => &aggregate.goodput_rps,
            Self::GoodRatio => &aggregate.good_ratio,
            Self::Tr110Speedup => &aggregate.tr110_speedup,
            Self::Tr110Efficiency => &aggregate.tr110_efficiency,
        }
    }

    /// The metric in one run, averaged as [`Aggregate`] averages it: over the requests of the run
    /// or over its agents. *Undefined when* the run is invalid or has no such figure.
    #[must_use]
    pub fn of_run(self, run: &RunReport) -> Option<f64> {
        if !run.valid {
            return None;
        }
        let agents = |of: fn(&crate::report::AgentRun) -> Option<f64>| -> Option<f64> {
            mean(&run.agents.iter().filter_map(of).collect::<Vec<_>>())
        };
        let requests = |of: fn(&crate::report::RequestReport) -> Option<f64>| -> Option<f64> {
            let all = run.agents.iter().flat_map(|a| &a.requests);
            mean(&all.filter_map(of).collect::<Vec<_>>())
        };
        match self {
            Self::ConcurrencyGain => run.concurrency_gain,
            Self::ParallelEfficiency => run.parallel_efficiency,
            Self::AggregateTokensPerS => run.aggregate_tokens_per_s,
            Self::SoloTokensPerS => run.solo_tokens_per_s,
            Self::ThroughputRatio => run.throughput_ratio,
            Self::WallS => run.wall_s,
            Self::Slowdown => agents(|a| a.slowdown),
            Self::Fairness => run.fairness,
            Self::IdleTailS => run.idle_tail_s,
            // An imported run has the agents' means only.
            Self::TtftMs => requests(|r| r.ttft_ms).or_else(|| agents(|a| a.ttft_ms)),
            Self::E2eMs => requests(|r| r.e2e_ms),
            Self::TpotMs => requests(|r| r.tpot_ms),
            Self::GoodputRps => run.goodput.as_ref().map(|found| found.goodput_rps),
            Self::GoodRatio => run.goodput.as_ref().map(|found| found.good_ratio),
            Self::Tr110Speedup => run.tr110_speedup,
            Self::Tr110Efficiency => run.tr110_efficiency,
        }
    }
}
