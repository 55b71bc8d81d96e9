//! How large a difference is, in spreads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hypothesis::differences;
use super::summary::{mean, sd};

/// Cohen's words for an effect size.
///
/// They come from psychology. Runs of one machine scatter by a few percent, so that here an effect
/// far beyond "large" may still be a small part of the mean: the relative difference stands beside it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Magnitude {
    /// Below 0.2.
    Negligible,
    /// From 0.2.
    Small,
    /// From 0.5.
    Medium,
    /// From 0.8.
    Large,
}

impl Magnitude {
    /// The word for an effect of this size, whatever its sign. *Source*: Cohen (1988).
    #[must_use]
    pub fn of(effect: f64) -> Self {
        match effect.abs() {
            size if size >= 0.8 => Self::Large,
            size if size >= 0.5 => Self::Medium,
            size if size >= 0.2 => Self::Small,
            _ => Self::Negligible,
        }
    }

    /// The word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Negligible => "negligible",
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

/// Difference of the means of two independent samples, `a - b`, in pooled standard deviations.
///
/// *Undefined* below two values on either side, or without any spread. *Source*: Cohen (1988).
#[must_use]
pub fn cohens_d(a: &[f64], b: &[f64]) -> Option<f64> {
    let (free_a, free_b) = (a.len() as f64 - 1.0, b.len() as f64 - 1.0);
    let squares = free_a * sd(a)?.powi(2) + free_b * sd(b)?.powi(2);
    let pooled = (squares / (free_a + free_b)).sqrt();
    Some((mean(a)? - mean(b)?) / pooled).filter(|d| d.is_finite())
}

/// [`cohens_d`] without its upward bias in small samples: times 1 - 3 / (4 (n_a + n_b) - 9).
///
/// At five runs each, d overstates by a tenth. *Undefined* as [`cohens_d`]. *Source*: Hedges (1981).
#[must_use]
pub fn hedges_g(a: &[f64], b: &[f64]) -> Option<f64> {
    let count = (a.len() + b.len()) as f64;
    Some(cohens_d(a, b)? * (1.0 - 3.0 / (4.0 * count - 9.0)))
}

/// Mean difference of pairs, `a - b`, in standard deviations of the differences.
///
/// *Undefined* below two pairs, for unequal lengths, or if all differences are equal. Not comparable
/// with [`cohens_d`]: pairing takes out what both runs of a pair share. *Source*: Cohen (1988), d_z.
#[must_use]
pub fn cohens_dz(a: &[f64], b: &[f64]) -> Option<f64> {
    let pairs = differences(a, b)?;
    Some(mean(&pairs)? / sd(&pairs)?).filter(|d| d.is_finite())
}
