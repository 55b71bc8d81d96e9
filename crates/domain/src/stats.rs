//! The only statistics in the product: one quantile, one spread, one interval.
//!
//! Rules. A quantity that was not measured is left out and the count says so; it is never taken as
//! zero. Spread and interval describe *runs*, which are independent repeats; the requests inside a
//! run are not, so they are averaged within their run first. Nothing is trimmed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// How a number came about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Computed from stamps and counts of this session alone, by the formula of its definition.
    Measured,
    /// Passed through a model that was fitted to measurements of this session.
    Derived,
    /// Rests on a premise that this session could not check.
    Estimated,
    /// There is no number; the reason stands beside it.
    NotMeasured,
}

impl Provenance {
    /// The label used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Derived => "derived",
            Self::Estimated => "estimated",
            Self::NotMeasured => "not measured",
        }
    }
}

/// A quantity over repeats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Arithmetic mean. `null` when nothing was measured.
    pub value: Option<f64>,
    /// Standard deviation of the repeats, with n - 1. `null` below two repeats.
    pub sd: Option<f64>,
    /// Repeats that had the quantity.
    pub n: u32,
    /// Coefficient of variation, sd / |value|. `null` below two repeats, or at a mean of zero.
    pub cv: Option<f64>,
    /// 95 % interval of the mean by Student's t, lower and upper end. `null` below two repeats.
    pub ci95: Option<[f64; 2]>,
    /// The weakest provenance among the repeats.
    pub provenance: Provenance,
    /// Why there is no number, or what it rests on.
    pub reason: Option<String>,
}

impl Summary {
    /// Summarises repeats. Empty repeats give [`Provenance::NotMeasured`] with `otherwise` as reason.
    #[must_use]
    pub fn of(values: &[f64], provenance: Provenance, otherwise: &str) -> Self {
        if values.is_empty() {
            return Self::not_measured(otherwise);
        }
        Self {
            value: mean(values),
            sd: sd(values),
            n: u32::try_from(values.len()).unwrap_or(u32::MAX),
            cv: cv(values),
            ci95: t_interval_95(values),
            provenance,
            reason: None,
        }
    }

    /// No number, and why.
    #[must_use]
    pub fn not_measured(reason: &str) -> Self {
        Self {
            value: None,
            sd: None,
            n: 0,
            cv: None,
            ci95: None,
            provenance: Provenance::NotMeasured,
            reason: Some(reason.to_owned()),
        }
    }
}

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

/// Arithmetic mean. *Undefined when* there are no values.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of the population that the values are a sample of (divisor n - 1).
///
/// *Undefined* below two values.
#[must_use]
pub fn sd(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    let free = values.len().checked_sub(1).filter(|free| *free > 0)?;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    Some((squares / free as f64).sqrt())
}

/// Coefficient of variation: [`sd`] over the absolute [`mean`].
///
/// *Undefined* below two values, and at a mean of zero.
#[must_use]
pub fn cv(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?.abs();
    (centre > 0.0).then_some(())?;
    Some(sd(values)? / centre)
}

/// 95 % interval of the mean: mean -+ t(0.975, n - 1) sd / sqrt(n).
///
/// *Undefined* below two values. *Source*: Student (1908); not the normal's 1.96, which at five
/// repeats is a third too narrow.
#[must_use]
pub fn t_interval_95(values: &[f64]) -> Option<[f64; 2]> {
    let centre = mean(values)?;
    let error = sd(values)? / (values.len() as f64).sqrt();
    let half = t_975(values.len() as f64 - 1.0)? * error;
    Some([centre - half, centre + half])
}

/// Difference of two means and its 95 % interval, `a - b`, without assuming equal spreads.
///
/// *Undefined* below two values on either side. *Source*: Welch (1947), with Satterthwaite's degrees
/// of freedom.
#[must_use]
pub fn welch_95(a: &[f64], b: &[f64]) -> Option<(f64, [f64; 2])> {
    let difference = mean(a)? - mean(b)?;
    let (count_a, count_b) = (a.len() as f64, b.len() as f64);
    let (part_a, part_b) = (sd(a)?.powi(2) / count_a, sd(b)?.powi(2) / count_b);
    let variance = part_a + part_b;
    if variance <= 0.0 {
        return Some((difference, [difference, difference]));
    }
    let freedom =
        variance.powi(2) / (part_a.powi(2) / (count_a - 1.0) + part_b.powi(2) / (count_b - 1.0));
    let half = t_975(freedom)? * variance.sqrt();
    Some((difference, [difference - half, difference + half]))
}

/// The 97.5th percentile of Student's t. *Undefined when* `freedom` is not positive.
fn t_975(freedom: f64) -> Option<f64> {
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(student.inverse_cdf(0.975)).filter(|t| t.is_finite())
}

#[cfg(test)]
mod tests;
