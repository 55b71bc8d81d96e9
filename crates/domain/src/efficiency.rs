//! What running together gains, costs and shares out.
//!
//! **Concurrency gain** is the time that the same agents need one after the other, each alone on its
//! instance, over the wall time they need together. 1 is no gain; N agents that do not disturb each
//! other and are equally long reach N; below 1 running together costs time. The solo times are
//! measured in the same session ([`crate::validity::ValidRun::solo`]), never guessed from the
//! concurrent leg.
//!
//! Rule of the numerator. If both legs did the *same work*, the sum of the measured solo durations
//! stands. Else the numerator is the solo time of the tokens that were really prefilled and decoded
//! together ([`work`]), the result is labelled derived, and the raw ratio and the model's residual
//! stand beside it.
//!
//! TR110's "concurrency speedup" is the sum of the agents' durations *while all run* over the wall
//! time. It is the mean number of active agents, a measure of balance: two agents that start together
//! give 1 + min/max whatever they gain. It is computed here under the name `tr110_*` for comparison.
//!
//! Time is that of one clock per boot; with several boots the wall time carries the bound of the
//! offsets' error. Everything here takes a
//! [`crate::validity::ValidRun`] and nothing else.

pub mod activity;
mod measure;
pub mod work;

pub use measure::{AgentMeasure, GainRule, RunMeasure, SoloMeasure, SoloSum, measure};

/// Jain's index of how evenly `rates` are shared, from 1/n (one has all) to 1 (all alike).
///
/// *Undefined when* there are none, or all are zero. *Source*: Jain, Chiu, Hawe (1984).
///
/// ```
/// use chimera_domain::efficiency::jain;
/// assert_eq!(jain(&[1.0, 1.0]), Some(1.0));
/// assert_eq!(jain(&[1.0, 0.0]), Some(0.5));
/// ```
#[must_use]
pub fn jain(rates: &[f64]) -> Option<f64> {
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    (squares > 0.0).then_some(())?;
    Some(rates.iter().sum::<f64>().powi(2) / (rates.len() as f64 * squares))
}
