//! Values to look at. They are pointed at and stay in every figure.

use super::quantile::median;
use super::summary::{mean, sd};

/// Standard deviations from the mean beyond which a value is flagged.
pub const SIGMA_LIMIT: f64 = 3.0;
/// Scaled median absolute deviations from the median beyond which a value is flagged.
/// *Source*: Iglewicz and Hoaglin (1993).
pub const MAD_LIMIT: f64 = 3.5;
/// Makes the median absolute deviation of normal values their standard deviation: 1 over the
/// normal's 75th percentile.
const MAD_TO_SD: f64 = 1.482_602_218_505_602;

/// Which of some values stand out, by two rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outliers {
    /// Indices beyond [`SIGMA_LIMIT`] standard deviations. Of fewer than 11 values none can be: a
    /// value drags mean and spread along, and lies at most (n - 1) / sqrt(n) deviations off.
    pub by_sigma: Vec<usize>,
    /// Indices beyond [`MAD_LIMIT`] scaled median absolute deviations, which a few wild values cannot
    /// drag along. Empty where more than half of the values are equal: there is no scale then.
    pub by_mad: Vec<usize>,
}

/// Points at the values that stand out. *Undefined* below three values: there nothing can.
#[must_use]
pub fn outliers(values: &[f64]) -> Option<Outliers> {
    (values.len() >= 3).then_some(())?;
    let beyond = |centre: f64, scale: f64, limit: f64| -> Vec<usize> {
        let far = |value: &f64| (value - centre).abs() > limit * scale;
        let flagged = values.iter().enumerate().filter(|(_, value)| far(value));
        flagged.map(|(at, _)| at).collect()
    };
    let middle = median(values)?;
    let away: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let mad = median(&away)? * MAD_TO_SD;
    let by_mad = if mad > 0.0 {
        beyond(middle, mad, MAD_LIMIT)
    } else {
        Vec::new()
    };
    Some(Outliers {
        by_sigma: beyond(mean(values)?, sd(values)?, SIGMA_LIMIT),
        by_mad,
    })
}
