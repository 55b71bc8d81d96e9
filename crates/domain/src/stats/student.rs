//! The distributions behind the tests: normal, Student's t, and the noncentral t.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::beta::beta_reg;
use statrs::function::gamma::ln_gamma;

/// Terms of the series of the noncentral t. Half the squared noncentrality, plus a wide margin, are
/// needed; [`noncentral_t_cdf`] refuses what would need more.
const MOST_TERMS: u32 = 4000;
/// Noncentrality beyond which the series would underflow at its first term: exp(-37.6^2 / 2) is the
/// smallest positive double.
const MOST_NONCENTRALITY: f64 = 37.0;

/// Student's t with `freedom` degrees of freedom. *Undefined when* these are not positive.
fn student(freedom: f64) -> Option<StudentsT> {
    (freedom.is_finite() && freedom > 0.0).then_some(())?;
    StudentsT::new(0.0, 1.0, freedom).ok()
}

/// The value below which a part `p` of Student's t lies. *Undefined when* `p` is not inside (0, 1).
pub(super) fn t_quantile(p: f64, freedom: f64) -> Option<f64> {
    (p > 0.0 && p < 1.0).then_some(())?;
    // By the tail, so that p near 1 loses no digits.
    let t = -student(freedom)?.inverse_cdf(p.min(1.0 - p));
    Some(if p < 0.5 { -t } else { t }).filter(|t| t.is_finite())
}

/// The part of Student's t above `t`; infinite `t` allowed.
pub(super) fn t_above(t: f64, freedom: f64) -> Option<f64> {
    let student = student(freedom)?;
    if t.is_nan() {
        None
    } else if t.is_infinite() {
        Some(if t > 0.0 { 0.0 } else { 1.0 })
    } else {
        Some(student.sf(t).clamp(0.0, 1.0))
    }
}

/// The part of the standard normal above `z`.
pub(super) fn normal_above(z: f64) -> f64 {
    Normal::standard().sf(z).clamp(0.0, 1.0)
}

/// The part of the standard normal below `z`.
pub(super) fn normal_below(z: f64) -> f64 {
    normal_above(-z)
}

/// The value below which a part `p` of the standard normal lies. *Undefined when* `p` is not inside
/// (0, 1).
pub(super) fn normal_quantile(p: f64) -> Option<f64> {
    (p > 0.0 && p < 1.0).then(|| Normal::standard().inverse_cdf(p))
}

/// The part of the noncentral t below `t`.
///
/// *Undefined when* the degrees of freedom are not positive or the noncentrality is beyond +-37.
/// *Source*: Lenth (1989), algorithm AS 243, with the stopping rule that R's `pt` uses.
pub(super) fn noncentral_t_cdf(t: f64, freedom: f64, noncentrality: f64) -> Option<f64> {
    student(freedom)?;
    if t.is_nan() || noncentrality.is_nan() || noncentrality.abs() > MOST_NONCENTRALITY {
        return None;
    }
    let negative = t < 0.0;
    let delta = if negative {
        -noncentrality
    } else {
        noncentrality
    };
    let x = t * t / (t * t + freedom);
    let mut sum = 0.0;
    if x > 0.0 {
        let lambda = delta * delta;
        let mut p = 0.5 * (-0.5 * lambda).exp();
        let mut q = (2.0 / std::f64::consts::PI).sqrt() * p * delta;
        let mut rest = -0.5 * (-0.5 * lambda).exp_m1();
        let (mut a, b) = (0.5, 0.5 * freedom);
        let rxb = (freedom / (t * t + freedom)).powf(b);
        let ln_beta = 0.5 * std::f64::consts::PI.ln() + ln_gamma(b) - ln_gamma(0.5 + b);
        let mut odd = beta_reg(a, b, x);
        let mut odd_step = 2.0 * rxb * (a * x.ln() - ln_beta).exp();
        let mut even = 1.0 - rxb;
        let mut even_step = b * x * rxb;
        sum = p * odd + q * even;
        for term in 1..=MOST_TERMS {
            a += 1.0;
            odd -= odd_step;
            even -= even_step;
            odd_step *= x * (a + b - 1.0) / a;
            even_step *= x * (a + b - 0.5) / (a + 0.5);
            p *= lambda / (2.0 * f64::from(term));
            q *= lambda / (2.0 * f64::from(term) + 1.0);
            sum += p * odd + q * even;
            rest -= p;
            let bound = 2.0 * rest * (odd - odd_step);
            if rest < -1e-10 || (rest <= 0.0 && term > 1) || bound.abs() < 1e-12 {
                break;
            }
        }
    }
    sum += normal_below(-delta);
    let below = sum.clamp(0.0, 1.0);
    Some(if negative { 1.0 - below } else { below })
}
