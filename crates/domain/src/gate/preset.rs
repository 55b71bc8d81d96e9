//! Sets of thresholds that others have published.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Quantity;
use super::threshold::{Operator, Threshold};
use crate::metric::Metric;

/// A named set of thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// TR110 7.2, the targets and alerts of its monitoring.
    Tr110,
    /// TR110 7.3, the assertions of its test for continuous integration.
    Tr110Ci,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 2] = [Self::Tr110, Self::Tr110Ci];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tr110 => "tr110",
            Self::Tr110Ci => "tr110-ci",
        }
    }

    /// The preset of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// What the preset judges, for who reads its results.
    #[must_use]
    pub fn note(self) -> &'static str {
        "TR110's speed-up, efficiency and contention measure how evenly long the agents run (balance), \
         not whether running together gains anything: judge that by concurrency_gain."
    }

    /// Its thresholds. What a report may lack is optional: GPU memory, quality without a baseline, and
    /// the TTFT alone, which an experiment without solo legs has not.
    #[must_use]
    pub fn thresholds(self) -> Vec<Threshold> {
        use Operator::{AtLeast, AtMost};
        let speedup = Quantity::Metric(Metric::Tr110Speedup);
        let efficiency = Quantity::Metric(Metric::Tr110Efficiency);
        let rule = |quantity, operator, limit, required| Threshold {
            quantity,
            operator,
            limit,
            by_interval: false,
            required,
            test: None,
        };
        match self {
            Self::Tr110 => vec![
                rule(speedup, AtLeast, 1.95, true),
                rule(efficiency, AtLeast, 0.95, true),
                rule(Quantity::Tr110ContentionRate, AtMost, 0.1, true),
                rule(Quantity::TtftDeltaMs, AtMost, 10_000.0, false),
                rule(Quantity::VramUsedRatio, AtMost, 0.8, false),
            ],
            Self::Tr110Ci => vec![
                rule(speedup, AtLeast, 1.95, true),
                rule(efficiency, AtLeast, 0.99, true),
                rule(Quantity::Tr110ContentionRate, AtMost, 0.0, true),
                rule(Quantity::QualityDelta, AtLeast, -3.0, false),
            ],
        }
    }
}
