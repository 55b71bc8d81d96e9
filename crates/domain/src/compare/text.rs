//! What a comparison says, in sentences. A sentence never says more than its p value.

use super::{Comparison, MetricComparison, Options, Verdict};
use crate::report::number::{opt, text};

/// Findings named in the sentence of a whole comparison; the tables have them all.
const NAMED: usize = 3;

/// A part as a signed percentage with one decimal.
pub(crate) fn signed_percent(part: f64) -> String {
    format!("{:+.1} %", part * 100.0)
}

/// A probability as people write it.
pub(crate) fn probability(p: f64) -> String {
    if p < 0.0001 {
        "< 0.0001".to_owned()
    } else {
        format!("{p:.4}")
    }
}

/// How far a figure moved, with unit and interval.
fn moved(metric: &MetricComparison) -> String {
    let unit = metric.metric.unit();
    let unit = if unit.is_empty() {
        String::new()
    } else {
        format!(" {unit}")
    };
    let from_to = format!("{} to {}{unit}", opt(metric.mean_a), opt(metric.mean_b));
    match (metric.relative, metric.relative_interval) {
        (Some(part), Some([low, high])) => format!(
            "{} went from {from_to}, {} ({} to {})",
            metric.metric.name(),
            signed_percent(part),
            signed_percent(low),
            signed_percent(high)
        ),
        _ => format!("{} went from {from_to}", metric.metric.name()),
    }
}

/// Why a figure could not be compared.
pub(super) fn not_measurable(metric: &MetricComparison) -> String {
    let side = |which: &str, n: u32| match n {
        0 => Some(format!("{which} has no run with it")),
        1 => Some(format!(
            "{which} has one run with it, and one has no spread"
        )),
        _ => None,
    };
    let why: Vec<String> = [side("a", metric.n_a), side("b", metric.n_b)]
        .into_iter()
        .flatten()
        .collect();
    format!("{}: {}.", metric.metric.name(), why.join("; "))
}

/// What a verdict rests on.
pub(super) fn evidence(metric: &MetricComparison, paired: bool, options: &Options) -> String {
    let test = if paired { "paired t" } else { "Welch's t" };
    let runs = if paired {
        format!("{} pairs of runs", metric.n_a)
    } else {
        format!("{} and {} runs", metric.n_a, metric.n_b)
    };
    let adjusted = metric
        .p_adjusted
        .map_or_else(String::new, |p| format!(", adjusted {}", probability(p)));
    let p = metric.p.map_or_else(String::new, |p| {
        format!("{test} p {}{adjusted}, {runs}", probability(p))
    });
    let ranks = metric.p_wilcoxon.map_or_else(String::new, |p| {
        format!(", signed ranks p {}", probability(p))
    });
    let effect = metric
        .effect
        .zip(metric.magnitude)
        .map_or_else(String::new, |(effect, magnitude)| {
            format!(", effect {} ({})", text(effect), magnitude.as_str())
        });
    let by = metric.same_as.map_or_else(String::new, |other| {
        format!(
            " It is {} times a constant and judged by that.",
            other.name()
        )
    });
    match metric.verdict {
        Verdict::NoDifferenceShown => {
            let detectable = metric
                .relative_detectable
                .map(|part| format!("{:.1} %", part * 100.0))
                .or_else(|| metric.detectable.map(text));
            let rest = detectable.map_or_else(
                || "so few runs of this spread show no change of any size".to_owned(),
                |size| {
                    format!(
                        "a change of {size} would have been found with a probability of {:.0} %",
                        options.power * 100.0
                    )
                },
            );
            format!("{}; {p}; {rest}.{by}", moved(metric))
        }
        _ => format!("{}; {p}{ranks}{effect}.{by}", moved(metric)),
    }
}

/// The verdict on everything.
pub(super) fn sentence(comparison: &Comparison) -> String {
    if comparison.tests.is_empty() {
        return "No test of the one report has a partner in the other: nothing can be compared."
            .to_owned();
    }
    let tests = comparison.tests.len();
    let scope = format!(
        "{tests} matched test{}, {} hypotheses, at most {:.0} % risk of any false find",
        if tests == 1 { "" } else { "s" },
        comparison.family,
        comparison.options.alpha * 100.0
    );
    let named = |verdict: Verdict| {
        let found: Vec<String> = comparison
            .metrics()
            .filter(|(_, metric)| metric.verdict == verdict && metric.same_as.is_none())
            .map(|(test, metric)| {
                let part = metric
                    .relative
                    .map_or_else(String::new, |part| format!(" {}", signed_percent(part)));
                format!("{}{part} in test {}", metric.metric.name(), test.b)
            })
            .collect();
        let more = found.len().saturating_sub(NAMED);
        let mut list: Vec<String> = found.into_iter().take(NAMED).collect();
        if more > 0 {
            list.push(format!("{more} more"));
        }
        list.join(", ")
    };
    match comparison.verdict {
        Verdict::Better => format!("b is better: {} ({scope}).", named(Verdict::Better)),
        Verdict::Worse => format!("b is worse: {} ({scope}).", named(Verdict::Worse)),
        Verdict::Mixed => format!(
            "b is better in some figures and worse in others: worse {}; better {} ({scope}).",
            named(Verdict::Worse),
            named(Verdict::Better)
        ),
        Verdict::NoDifferenceShown => format!("No difference is shown ({scope})."),
        Verdict::NotMeasurable => {
            "No figure has two valid runs on both sides: nothing can be compared.".to_owned()
        }
    }
}
