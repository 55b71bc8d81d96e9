//! A quantity over repeats: mean, spread, interval, and how it came about.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::interval::t_interval_95;

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
    /// Stated by another tool's files, or computed from them by the formula of its definition.
    Imported,
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
            Self::Imported => "imported",
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

/// Arithmetic mean. *Undefined when* there are no values.
///
/// Of equal values it is that value: the sum of ten times 0.1 is not 1, and a rounding error of the
/// mean would be all the spread that such values have, and tests would find a difference in it.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    let first = *values.first()?;
    if values.iter().all(|value| value.total_cmp(&first).is_eq()) {
        return Some(first);
    }
    Some(values.iter().sum::<f64>() / values.len() as f64)
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
