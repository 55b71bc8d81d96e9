//! What a gate can judge.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metric::Metric;

/// A figure that a gate can judge: every [`Metric`], and what only makes sense over a whole test.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Quantity {
    /// The mean of a metric over the valid runs.
    Metric(Metric),
    /// Part of the valid runs with a concurrency gain below 1: running together cost time.
    ContentionRate,
    /// Part of the valid runs with TR110's speed-up below 1.5: what TR110's data flags as
    /// "contention". It is imbalance.
    Tr110ContentionRate,
    /// Valid runs over attempted ones.
    ValidRate,
    /// Client TTFT together minus alone, mean over the runs of their differences.
    TtftDeltaMs,
    /// Memory of a GPU in use over what it has, the highest that telemetry saw in any valid run. It
    /// has no interval.
    VramUsedRatio,
    /// Quality score minus that of the baseline report, in points of 100.
    QualityDelta,
}

impl Quantity {
    /// What is not a metric.
    const OTHERS: [Self; 6] = [
        Self::ContentionRate,
        Self::Tr110ContentionRate,
        Self::ValidRate,
        Self::TtftDeltaMs,
        Self::VramUsedRatio,
        Self::QualityDelta,
    ];

    /// Every quantity, metrics first.
    pub fn all() -> impl Iterator<Item = Self> {
        Metric::ALL
            .into_iter()
            .map(Self::Metric)
            .chain(Self::OTHERS)
    }

    /// The name in rules and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Metric(metric) => metric.name(),
            Self::ContentionRate => "contention_rate",
            Self::Tr110ContentionRate => "tr110_contention_rate",
            Self::ValidRate => "valid_rate",
            Self::TtftDeltaMs => "ttft_delta_ms",
            Self::VramUsedRatio => "vram_used_ratio",
            Self::QualityDelta => "quality_delta",
        }
    }

    /// The quantity of this name.
    ///
    /// # Errors
    /// When there is none; the text names the nearest, and all.
    pub fn from_name(name: &str) -> Result<Self, String> {
        if let Some(found) = Self::all().find(|quantity| quantity.name() == name) {
            return Ok(found);
        }
        let near = Self::all()
            .map(|quantity| (strsim::jaro_winkler(name, quantity.name()), quantity.name()))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = near.map_or_else(String::new, |(_, near)| format!("; did you mean '{near}'?"));
        let known: Vec<&str> = Self::all().map(Self::name).collect();
        Err(format!(
            "'{name}' is no figure that a gate can judge{hint} (there are {})",
            known.join(", ")
        ))
    }

    /// Unit, empty for a ratio.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Metric(metric) => metric.unit(),
            Self::TtftDeltaMs => "ms",
            Self::QualityDelta => "points",
            Self::ContentionRate
            | Self::Tr110ContentionRate
            | Self::ValidRate
            | Self::VramUsedRatio => "",
        }
    }

    /// Whether a percentage may stand for it.
    #[must_use]
    pub fn is_ratio(self) -> bool {
        self.unit().is_empty()
    }

    /// How it sums up the runs of a test.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Metric(_) | Self::TtftDeltaMs => "the mean",
            Self::ContentionRate | Self::Tr110ContentionRate | Self::ValidRate => "the share",
            Self::VramUsedRatio => "the highest",
            Self::QualityDelta => "the difference",
        }
    }

    /// Whether an interval can be told for it.
    pub(super) fn has_interval(self) -> bool {
        self != Self::VramUsedRatio
    }

    /// Whether it says something only where two or more agents run at once.
    pub(super) fn needs_two_agents(self) -> bool {
        match self {
            Self::ContentionRate | Self::Tr110ContentionRate | Self::TtftDeltaMs => true,
            Self::Metric(metric) => matches!(
                metric,
                Metric::ConcurrencyGain
                    | Metric::ParallelEfficiency
                    | Metric::ThroughputRatio
                    | Metric::Slowdown
                    | Metric::Fairness
                    | Metric::Tr110Speedup
                    | Metric::Tr110Efficiency
            ),
            Self::ValidRate | Self::VramUsedRatio | Self::QualityDelta => false,
        }
    }
}

impl TryFrom<String> for Quantity {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Self::from_name(&name)
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.name().to_owned()
    }
}
