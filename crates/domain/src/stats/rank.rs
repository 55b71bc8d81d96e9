//! A test of pairs that assumes no normal distribution.

use super::hypothesis::differences;
use super::student::normal_above;

/// Most pairs for which every arrangement of signs is counted.
const EXACT_UP_TO: usize = 50;

/// What Wilcoxon's signed-rank test found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignedRank {
    /// Sum of the ranks of the positive differences (R's `V`).
    pub w_plus: f64,
    /// Pairs that differ.
    pub n: usize,
    /// Pairs that do not, and are left out.
    pub zeros: usize,
    /// Whether all arrangements of signs were counted; otherwise the normal approximates them.
    pub exact: bool,
    /// Probability of ranks at least this uneven if neither side is larger.
    pub p_two_sided: f64,
    /// The same, against "`a` is not greater".
    pub p_greater: f64,
    /// The same, against "`a` is not less".
    pub p_less: f64,
}

/// Whether one side of the pairs tends to be larger, `a - b`.
///
/// Exact for up to 50 pairs without equal or zero differences; otherwise the normal approximation
/// with corrections for ties and for continuity, as R's `wilcox.test` does. Pairs without a
/// difference are left out and counted.
///
/// *Undefined* for unequal lengths, a difference that is not a number, or if no pair differs.
/// *Source*: Wilcoxon (1945). With n pairs no exact two-sided p is below 2^(1 - n): five pairs can
/// never reach 0.05.
#[must_use]
pub fn wilcoxon_signed_rank(a: &[f64], b: &[f64]) -> Option<SignedRank> {
    let all = differences(a, b)?;
    (all.iter().all(|d| d.is_finite())).then_some(())?;
    let mut sizes: Vec<(f64, bool)> = all
        .iter()
        .filter(|d| d.abs() > 0.0)
        .map(|d| (d.abs(), *d > 0.0))
        .collect();
    let n = sizes.len();
    (n > 0).then_some(())?;
    sizes.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut w_plus, mut ties, mut before) = (0.0, 0.0, 0_usize);
    for group in sizes.chunk_by(|x, y| x.0.total_cmp(&y.0).is_eq()) {
        let count = group.len() as f64;
        let rank = before as f64 + (count + 1.0) / 2.0;
        w_plus += rank * group.iter().filter(|(_, positive)| *positive).count() as f64;
        ties += count.powi(3) - count;
        before += group.len();
    }
    let zeros = all.len() - n;
    let exact = n <= EXACT_UP_TO && zeros == 0 && ties <= 0.0;
    let (p_greater, p_less) = if exact {
        exact_tails(n, w_plus)
    } else {
        normal_tails(n as f64, w_plus, ties)
    };
    Some(SignedRank {
        w_plus,
        n,
        zeros,
        exact,
        p_two_sided: (2.0 * p_greater.min(p_less)).min(1.0),
        p_greater,
        p_less,
    })
}

/// Parts of all 2^n arrangements of signs whose sum is at least, and at most, `w_plus`.
fn exact_tails(n: usize, w_plus: f64) -> (f64, f64) {
    let most = n * (n + 1) / 2;
    // ways[s]: subsets of the ranks 1..=n with sum s. Below 2^50, so that every count is exact.
    let mut ways = vec![0.0_f64; most + 1];
    if let Some(none) = ways.first_mut() {
        *none = 1.0;
    }
    for rank in 1..=n {
        for sum in (rank..=most).rev() {
            let more = ways.get(sum - rank).copied().unwrap_or(0.0);
            if let Some(slot) = ways.get_mut(sum) {
                *slot += more;
            }
        }
    }
    let total: f64 = ways.iter().sum();
    let part = |keep: &dyn Fn(f64) -> bool| -> f64 {
        let kept = ways.iter().enumerate().filter(|(s, _)| keep(*s as f64));
        kept.map(|(_, count)| count).sum::<f64>() / total
    };
    (part(&|sum| sum >= w_plus), part(&|sum| sum <= w_plus))
}

fn normal_tails(n: f64, w_plus: f64, ties: f64) -> (f64, f64) {
    let centre = n * (n + 1.0) / 4.0;
    let deviation = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - ties / 48.0).sqrt();
    let away = w_plus - centre;
    (
        normal_above((away - 0.5) / deviation),
        normal_above((-away - 0.5) / deviation),
    )
}
