//! Tests of means by Student's t.

use super::interval::Welch;
use super::student::t_above;
use super::summary::{mean, sd};

/// What a t test found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TTest {
    /// The estimate minus what the null hypothesis says: in the unit of the values.
    pub difference: f64,
    /// Standard error of `difference`.
    pub error: f64,
    /// `difference` in standard errors. Infinite where the values have no spread and yet differ;
    /// 0 where they do not differ.
    pub t: f64,
    /// Degrees of freedom.
    pub freedom: f64,
    /// Probability of a |t| at least this large if the null hypothesis holds.
    pub p_two_sided: f64,
    /// Probability of a t at least this large: against "not greater".
    pub p_greater: f64,
    /// Probability of a t at most this large: against "not less".
    pub p_less: f64,
}

impl TTest {
    fn new(difference: f64, error: f64, freedom: f64) -> Option<Self> {
        let t = if difference.abs() <= f64::MIN_POSITIVE {
            0.0
        } else {
            difference / error
        };
        Some(Self {
            difference,
            error,
            t,
            freedom,
            p_two_sided: (2.0 * t_above(t.abs(), freedom)?).min(1.0),
            p_greater: t_above(t, freedom)?,
            p_less: t_above(-t, freedom)?,
        })
    }
}

/// Whether the mean differs from `expected`; by [`TTest::p_greater`] the test of "mean <= expected".
///
/// TR110's hypothesis (speed-up <= 1.5) is this test with `expected` 1.5.
///
/// *Undefined* below two values. *Source*: Student (1908).
///
/// ```
/// use chimera_domain::stats::one_sample_t;
/// let test = one_sample_t(&[1.96, 1.98, 1.97, 1.99, 1.95], 1.5).unwrap();
/// assert!(test.p_greater < 0.001);
/// ```
#[must_use]
pub fn one_sample_t(values: &[f64], expected: f64) -> Option<TTest> {
    let count = values.len() as f64;
    TTest::new(
        mean(values)? - expected,
        sd(values)? / count.sqrt(),
        count - 1.0,
    )
}

/// Whether the means of two independent samples differ, `a - b`, without assuming equal spreads.
///
/// *Undefined* below two values on either side. Where neither side has any spread, the degrees of
/// freedom are those of equal spreads, n_a + n_b - 2. *Source*: Welch (1947).
#[must_use]
pub fn welch_t(a: &[f64], b: &[f64]) -> Option<TTest> {
    let Welch { error, freedom } = Welch::of(a, b)?;
    let pooled = (a.len() + b.len()) as f64 - 2.0;
    TTest::new(mean(a)? - mean(b)?, error, freedom.unwrap_or(pooled))
}

/// Whether the mean difference of pairs is zero, `a - b`.
///
/// *Shape*: `a` and `b` of one length, pair by pair. *Undefined* below two pairs, or for unequal
/// lengths. *Source*: Student (1908).
#[must_use]
pub fn paired_t(a: &[f64], b: &[f64]) -> Option<TTest> {
    one_sample_t(&differences(a, b)?, 0.0)
}

/// Whether one new value lies above what `values` were drawn from: by [`TTest::p_greater`] the test of
/// "drawn from the same".
///
/// The upper prediction limit of one further draw, as a test: t = (new - mean) / (spread sqrt(1 + 1/n)).
/// *Shape*: `spread` is the standard deviation of a draw, and `freedom` the degrees of freedom it was
/// estimated with: [`sd`] of the values and n - 1, or a pooled one. *Undefined* without a value, or
/// with no degree of freedom. *Source*: Hahn and Meeker, Statistical Intervals (1991), 4.8.
///
/// ```
/// use chimera_domain::stats::prediction_t;
/// let test = prediction_t(&[10.0, 12.0, 11.0], 1.0, 2.0, 15.0).unwrap();
/// assert!((test.t - 4.0 / (4.0_f64 / 3.0).sqrt()).abs() < 1e-12);
/// ```
#[must_use]
pub fn prediction_t(values: &[f64], spread: f64, freedom: f64, new: f64) -> Option<TTest> {
    let count = values.len() as f64;
    TTest::new(
        new - mean(values)?,
        spread * (1.0 + 1.0 / count).sqrt(),
        freedom,
    )
}

/// `a - b` pair by pair. *Undefined* for unequal lengths.
pub(super) fn differences(a: &[f64], b: &[f64]) -> Option<Vec<f64>> {
    (a.len() == b.len()).then(|| a.iter().zip(b).map(|(a, b)| a - b).collect())
}
