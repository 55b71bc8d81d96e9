//! One quantile, and the shape of many values by it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shape of many values, such as the times of all requests of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// How many values.
    pub n: u32,
    /// Smallest.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile. With fewer than 100 values it is close to the largest.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl Distribution {
    /// Describes values in any order. *Undefined when* there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self {
            n: u32::try_from(values.len()).unwrap_or(u32::MAX),
            min: quantile(&values, 0.0)?,
            p50: quantile(&values, 0.5)?,
            p90: quantile(&values, 0.9)?,
            p95: quantile(&values, 0.95)?,
            p99: quantile(&values, 0.99)?,
            max: quantile(&values, 1.0)?,
        })
    }
}

/// The value below which a part `p` of `sorted` lies.
///
/// *Shape*: `sorted` rises; `p` from 0 to 1. *Undefined when* `sorted` is empty or `p` is outside.
/// *Source*: Hyndman and Fan (1996), type 7: linear between order statistics, as R and `NumPy` do by
/// default.
///
/// ```
/// use chimera_domain::stats::quantile;
/// assert_eq!(quantile(&[10.0, 20.0, 40.0], 0.75), Some(30.0));
/// assert_eq!(quantile(&[], 0.5), None);
/// ```
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the position lies between 0 and the length"
)]
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&p) {
        return None;
    }
    let position = (sorted.len().checked_sub(1)?) as f64 * p;
    let below = *sorted.get(position.floor() as usize)?;
    let above = *sorted.get(position.ceil() as usize)?;
    Some(below + (above - below) * position.fract())
}

/// The [`quantile`] at one half, of values in any order. *Undefined when* there are none.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}
