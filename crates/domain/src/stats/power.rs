//! What a test could have found.

use super::student::{noncentral_t_cdf, t_quantile};

/// Probability that a two-sided t test at `alpha` finds a true difference of `noncentrality`
/// standard errors, on either side.
///
/// *Undefined when* `alpha` is not inside (0, 1), the degrees of freedom are not positive, or the
/// noncentrality is beyond +-37. *Source*: Cohen (1988), by the noncentral t (Lenth 1989); R's
/// `power.t.test` with `strict = TRUE`.
#[must_use]
pub fn power_of_t(noncentrality: f64, freedom: f64, alpha: f64) -> Option<f64> {
    (alpha > 0.0 && alpha < 1.0).then_some(())?;
    let critical = t_quantile(1.0 - alpha / 2.0, freedom)?;
    let above = 1.0 - noncentral_t_cdf(critical, freedom, noncentrality)?;
    let below = noncentral_t_cdf(-critical, freedom, noncentrality)?;
    Some((above + below).clamp(0.0, 1.0))
}

/// The smallest true difference that a two-sided t test at `alpha` finds with probability `power`:
/// the minimum detectable effect, in the unit of `error`.
///
/// *Shape*: `error` is the standard error of the difference. *Undefined when* `alpha` is not inside
/// (0, 1), `power` not above `alpha` and below 1, or so few repeats would need more than 37 standard
/// errors. *Source*: as [`power_of_t`], solved by bisection. It says what this many runs of this
/// spread can show, not what they did show.
///
/// ```
/// use chimera_domain::stats::minimum_detectable;
/// // Ten runs each of spread 1: R's power.t.test(n = 10, power = 0.8) says 1.32.
/// let found = minimum_detectable((2.0_f64 / 10.0).sqrt(), 18.0, 0.05, 0.8).unwrap();
/// assert!((found - 1.325).abs() < 0.001);
/// ```
#[must_use]
pub fn minimum_detectable(error: f64, freedom: f64, alpha: f64, power: f64) -> Option<f64> {
    (error.is_finite() && error >= 0.0 && power > alpha && power < 1.0).then_some(())?;
    let (mut low, mut high) = (0.0_f64, 37.0_f64);
    (power_of_t(high, freedom, alpha)? >= power).then_some(())?;
    // 60 halvings of 37 leave less than 1e-16.
    for _ in 0..60 {
        let middle = low.midpoint(high);
        if power_of_t(middle, freedom, alpha)? < power {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high * error)
}
