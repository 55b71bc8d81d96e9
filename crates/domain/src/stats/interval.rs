//! Intervals of means by Student's t, and of probabilities.

use super::student::{normal_quantile, t_quantile};
use super::summary::{mean, sd};

/// Interval of the mean at any level: mean -+ t(1 - (1 - level)/2, n - 1) sd / sqrt(n).
///
/// *Shape*: `level` inside (0, 1), 0.95 for 95 %. *Undefined* below two values, or for another level.
/// *Source*: Student (1908); not the normal's 1.96, which at five repeats is a third too narrow.
///
/// ```
/// use chimera_domain::stats::t_interval;
/// let [low, high] = t_interval(&[1.0, 2.0, 3.0], 0.90).unwrap();
/// assert!((low - 0.3141).abs() < 1e-4 && (high - 3.6859).abs() < 1e-4);
/// ```
#[must_use]
pub fn t_interval(values: &[f64], level: f64) -> Option<[f64; 2]> {
    let centre = mean(values)?;
    let error = sd(values)? / (values.len() as f64).sqrt();
    let half = t_two_sided(level, values.len() as f64 - 1.0)? * error;
    Some([centre - half, centre + half])
}

/// [`t_interval`] at 95 %.
///
/// *Undefined* below two values.
#[must_use]
pub fn t_interval_95(values: &[f64]) -> Option<[f64; 2]> {
    t_interval(values, 0.95)
}

/// Difference of two means and its interval at `level`, `a - b`, without assuming equal spreads.
///
/// *Undefined* below two values on either side. *Source*: Welch (1947), with Satterthwaite's degrees
/// of freedom.
#[must_use]
pub fn welch_interval(a: &[f64], b: &[f64], level: f64) -> Option<(f64, [f64; 2])> {
    let difference = mean(a)? - mean(b)?;
    let Welch { error, freedom } = Welch::of(a, b)?;
    let Some(freedom) = freedom else {
        return Some((difference, [difference, difference]));
    };
    let half = t_two_sided(level, freedom)? * error;
    Some((difference, [difference - half, difference + half]))
}

/// [`welch_interval`] at 95 %.
///
/// *Undefined* below two values on either side.
#[must_use]
pub fn welch_95(a: &[f64], b: &[f64]) -> Option<(f64, [f64; 2])> {
    welch_interval(a, b, 0.95)
}

/// Interval, at `level`, of a sum of weighted means of independent samples.
///
/// With the weights of a function's gradient it is the delta method's interval of that function.
/// *Undefined* below two values of a sample whose weight is not 0. *Source*: Satterthwaite (1946) for
/// the degrees of freedom; [`welch_interval`] is the case of the weights 1 and -1.
#[must_use]
pub fn weighted_interval(parts: &[(f64, &[f64])], level: f64) -> Option<[f64; 2]> {
    let (mut centre, mut variance, mut denominator) = (0.0, 0.0, 0.0);
    for (weight, values) in parts.iter().filter(|(weight, _)| weight.abs() > 0.0) {
        let count = values.len() as f64;
        let part = (weight * sd(values)?).powi(2) / count;
        centre += weight * mean(values)?;
        variance += part;
        denominator += part.powi(2) / (count - 1.0);
    }
    let freedom = variance.powi(2) / denominator;
    if !(freedom.is_finite() && freedom > 0.0) {
        return Some([centre, centre]);
    }
    let half = t_two_sided(level, freedom)? * variance.sqrt();
    Some([centre - half, centre + half])
}

/// Standard error of a difference of means, and the degrees of freedom of its t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Welch {
    /// Standard error.
    pub(super) error: f64,
    /// Satterthwaite's degrees of freedom; `None` where neither side has any spread.
    pub(super) freedom: Option<f64>,
}

impl Welch {
    /// *Undefined* below two values on either side.
    pub(super) fn of(a: &[f64], b: &[f64]) -> Option<Self> {
        let (count_a, count_b) = (a.len() as f64, b.len() as f64);
        let (part_a, part_b) = (sd(a)?.powi(2) / count_a, sd(b)?.powi(2) / count_b);
        let variance = part_a + part_b;
        let freedom = variance.powi(2)
            / (part_a.powi(2) / (count_a - 1.0) + part_b.powi(2) / (count_b - 1.0));
        Some(Self {
            error: variance.sqrt(),
            // Spreads so small that their squares vanish have no degrees of freedom either.
            freedom: Some(freedom).filter(|freedom| freedom.is_finite() && *freedom > 0.0),
        })
    }
}

/// How many standard errors an interval of this level reaches to either side.
pub(super) fn t_two_sided(level: f64, freedom: f64) -> Option<f64> {
    (level > 0.0 && level < 1.0).then_some(())?;
    t_quantile(0.5 + level / 2.0, freedom)
}

/// Interval of a probability of which `hits` of `n` independent tries were seen.
///
/// Never leaves 0 to 1, and is of use where all or none hit. *Shape*: `hits` at most `n`; `level`
/// inside (0, 1). *Undefined* without a try. *Source*: Wilson (1927), without continuity correction.
///
/// ```
/// use chimera_domain::stats::wilson_interval;
/// let [low, high] = wilson_interval(0, 20, 0.95).unwrap();
/// assert!(low.abs() < 1e-12 && (high - 0.1611).abs() < 1e-4);
/// ```
#[must_use]
pub fn wilson_interval(hits: usize, n: usize, level: f64) -> Option<[f64; 2]> {
    (n > 0 && hits <= n && level > 0.0 && level < 1.0).then_some(())?;
    let (tries, z) = (n as f64, normal_quantile(0.5 + level / 2.0)?);
    let part = hits as f64 / tries;
    let scale = 1.0 + z * z / tries;
    let centre = (part + z * z / (2.0 * tries)) / scale;
    let half = z * (part * (1.0 - part) / tries + (z / (2.0 * tries)).powi(2)).sqrt() / scale;
    // Where none or all hit, the end is 0 or 1 but for rounding.
    let low = if hits == 0 {
        0.0
    } else {
        (centre - half).max(0.0)
    };
    let high = if hits == n {
        1.0
    } else {
        (centre + half).min(1.0)
    };
    Some([low, high])
}
