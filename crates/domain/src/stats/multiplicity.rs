//! Many tests at once.

/// Adjusts p values so that the chance of any false find among them stays below the level to which
/// the adjusted ones are compared.
///
/// *Shape*: one adjusted value for each given, in the same order; at most 1. Nothing is assumed about
/// how the tests depend on each other. *Source*: Holm (1979).
///
/// ```
/// use chimera_domain::stats::holm;
/// assert_eq!(holm(&[0.03, 0.01]), [0.03, 0.02]);
/// ```
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut so_far = 0.0_f64;
    for (rank, (at, p)) in order.into_iter().enumerate() {
        let left = (p_values.len() - rank) as f64;
        so_far = so_far.max((left * p).min(1.0));
        if let Some(slot) = adjusted.get_mut(at) {
            *slot = so_far;
        }
    }
    adjusted
}
