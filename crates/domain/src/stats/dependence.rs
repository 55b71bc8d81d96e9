//! Values that depend on their neighbours: how strongly, and what they are worth.

use super::summary::mean;

/// Fewest values from which dependence is judged.
const FEWEST: usize = 8;

/// Correlation of the values with themselves at each distance, from 0 (where it is 1) to `most`.
///
/// *Shape*: values in the order of measurement. *Undefined* below two values or without any spread.
/// *Source*: Box and Jenkins (1976), divisor n at every distance.
#[must_use]
pub fn autocorrelation(values: &[f64], most: usize) -> Option<Vec<f64>> {
    let covariances = autocovariance(values, most)?;
    let variance = *covariances.first()?;
    (variance > 0.0).then(|| covariances.iter().map(|c| c / variance).collect())
}

fn autocovariance(values: &[f64], most: usize) -> Option<Vec<f64>> {
    (values.len() >= 2).then_some(())?;
    let centre = mean(values)?;
    let away: Vec<f64> = values.iter().map(|value| value - centre).collect();
    let at = |distance: usize| -> f64 {
        let later = away.get(distance..).unwrap_or_default();
        away.iter().zip(later).map(|(a, b)| a * b).sum::<f64>() / values.len() as f64
    };
    Some((0..=most.min(values.len() - 1)).map(at).collect())
}

/// How many independent values would tell as much about the mean: n / (1 + 2 sum of the
/// autocorrelations).
///
/// The sum stops where two neighbouring correlations together are no longer positive, since further
/// ones are noise. At most n: values that alternate are not counted as more than they are.
///
/// *Shape*: values in the order of measurement. *Undefined* below eight values or without any spread.
/// *Source*: Geyer (1992), initial positive sequence.
#[must_use]
pub fn effective_n(values: &[f64]) -> Option<f64> {
    (values.len() >= FEWEST).then_some(())?;
    let correlations = autocorrelation(values, values.len() - 1)?;
    let pairs = correlations.chunks_exact(2).map(|pair| pair.iter().sum());
    let sum: f64 = pairs.take_while(|pair: &f64| *pair > 0.0).sum();
    let count = values.len() as f64;
    Some((count / (2.0 * sum - 1.0).max(1.0)).max(1.0))
}

/// The block length at which a circular block bootstrap of the mean errs least.
///
/// *Shape*: values in the order of measurement; from 1 (independent) to min(3 sqrt(n), n / 3).
/// *Undefined* below eight values or without any spread. *Source*: Politis and White (2004), with the
/// constant as corrected by Patton, Politis and White (2009): flat-top lag window, bandwidth twice the
/// last correlation beyond 2 sqrt(log10(n) / n) before a quiet stretch.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, positive, and at most the number of values"
)]
pub fn block_length(values: &[f64]) -> Option<usize> {
    (values.len() >= FEWEST).then_some(())?;
    let count = values.len() as f64;
    let quiet = (count.log10().sqrt().ceil() as usize).max(5);
    let last = (count.sqrt().ceil() as usize + quiet).min(values.len() - 1);
    let covariances = autocovariance(values, last)?;
    let variance = covariances.first().copied().filter(|v| *v > 0.0)?;
    let loud = |c: &f64| (c / variance).abs() >= 2.0 * (count.log10() / count).sqrt();
    let beyond = covariances.get(1..).unwrap_or_default();
    // The first distance after which `quiet` correlations in a row are noise; failing that, the last
    // loud one.
    let end = beyond
        .windows(quiet)
        .position(|window| !window.iter().any(loud))
        .or_else(|| Some(beyond.iter().rposition(loud)? + 1))
        .unwrap_or(0);
    let bandwidth = (2 * end.max(1)).min(last);
    let (mut spectrum, mut slope) = (variance, 0.0);
    for (distance, covariance) in covariances.iter().enumerate().take(bandwidth + 1).skip(1) {
        let weight = (2.0 * (1.0 - distance as f64 / bandwidth as f64)).min(1.0);
        spectrum += 2.0 * weight * covariance;
        slope += 2.0 * weight * distance as f64 * covariance;
    }
    let best = (1.5 * (slope / spectrum).powi(2)).cbrt() * count.cbrt();
    let most = (3.0 * count.sqrt()).min(count / 3.0).floor().max(1.0);
    let best = if best.is_finite() { best } else { most };
    Some(best.round().clamp(1.0, most) as usize)
}
