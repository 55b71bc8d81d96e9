//! Figure by figure: the tests of one matched configuration, and the family of all.

use std::collections::BTreeMap;

use super::matching::Pair;
use super::{MetricComparison, Options, Pairing, Spread, TestComparison, Verdict, text};
use crate::metric::Metric;
use crate::report::TestReport;
use crate::stats::{
    Magnitude, Provenance, TTest, cohens_dz, hedges_g, holm, mean, minimum_detectable, paired_t,
    t_interval, welch_interval, welch_t, wilcoxon_signed_rank,
};

/// Fewest pairs that are tested as pairs: with two, the t has one degree of freedom and finds next to
/// nothing.
const FEWEST_PAIRS: usize = 3;

/// Compares the runs of one matched test; p values are adjusted, and verdicts given, by [`settle`].
pub(super) fn test(
    pair: &Pair<'_>,
    same_plan: &Result<(), String>,
    options: &Options,
) -> TestComparison {
    let common = common_runs(pair.a, pair.b);
    let pairing = match same_plan {
        Err(reason) => Pairing::Independent {
            reason: reason.clone(),
        },
        Ok(()) if common.len() < FEWEST_PAIRS => Pairing::Independent {
            reason: format!(
                "{} runs are valid on both sides, and pairs need {FEWEST_PAIRS}",
                common.len()
            ),
        },
        Ok(()) => Pairing::Paired {
            pairs: u32::try_from(common.len()).unwrap_or(u32::MAX),
        },
    };
    let metrics = options.metrics.iter().map(|metric| {
        let values = match pairing {
            // A figure that one side lacks altogether has no pairs; what the other has of it is told.
            Pairing::Paired { .. } => Some(Values::paired(pair, *metric, &common))
                .filter(|values| !values.a.is_empty())
                .unwrap_or_else(|| Values::independent(pair, *metric)),
            Pairing::Independent { .. } => Values::independent(pair, *metric),
        };
        values.compare(pair, *metric, options)
    });
    TestComparison {
        a: pair.a.id.clone(),
        b: pair.b.id.clone(),
        label: pair.b.label.clone(),
        matched_by: pair.by,
        metrics: metrics.collect(),
        pairing,
    }
}

/// Adjusts the p values of all metrics of all tests as one family, and gives the verdicts. Returns the
/// size of the family.
pub(super) fn settle(tests: &mut [TestComparison], options: &Options) -> u32 {
    let own = |metric: &MetricComparison| metric.p.filter(|_| metric.same_as.is_none());
    let of_family: Vec<f64> = tests
        .iter()
        .flat_map(|test| test.metrics.iter().filter_map(own))
        .collect();
    let mut adjusted = holm(&of_family).into_iter();
    let family = of_family.len();
    for test in tests {
        let paired = matches!(test.pairing, Pairing::Paired { .. });
        let mut by_metric: BTreeMap<Metric, f64> = BTreeMap::new();
        for metric in &mut test.metrics {
            if own(metric).is_some() {
                metric.p_adjusted = adjusted.next();
                if let Some(p) = metric.p_adjusted {
                    by_metric.insert(metric.metric, p);
                }
            }
        }
        for metric in &mut test.metrics {
            if let Some(original) = metric.same_as {
                metric.p_adjusted = by_metric.get(&original).copied();
            }
            conclude(metric, family, paired, options);
        }
    }
    u32::try_from(family).unwrap_or(u32::MAX)
}

fn conclude(metric: &mut MetricComparison, family: usize, paired: bool, options: &Options) {
    let (Some(p), Some(difference)) = (metric.p_adjusted, metric.difference) else {
        metric.verdict = Verdict::NotMeasurable;
        metric.evidence = text::not_measurable(metric);
        return;
    };
    metric.verdict = if p > options.alpha {
        Verdict::NoDifferenceShown
    } else if (difference > 0.0) == metric.metric.higher_is_better() {
        Verdict::Better
    } else {
        Verdict::Worse
    };
    metric.detectable = metric.spread.and_then(|spread| {
        let alpha = options.alpha / family.max(1) as f64;
        minimum_detectable(spread.error, spread.freedom, alpha, options.power)
    });
    let base = metric.mean_a.map(f64::abs).filter(|mean| *mean > 0.0);
    metric.relative_detectable = metric.detectable.and_then(|d| Some(d / base?));
    metric.evidence = text::evidence(metric, paired, options);
}

/// Run numbers that are valid on both sides, rising.
fn common_runs(a: &TestReport, b: &TestReport) -> Vec<u32> {
    let valid = |test: &TestReport, number: u32| {
        let mut runs = test.runs.iter();
        runs.any(|run| run.run == number && run.valid)
    };
    let mut numbers: Vec<u32> = a.runs.iter().map(|run| run.run).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.retain(|number| valid(a, *number) && valid(b, *number));
    numbers
}

/// Metrics that are another metric times a constant of the test.
fn multiple_of(metric: Metric) -> Option<Metric> {
    match metric {
        Metric::ParallelEfficiency => Some(Metric::ConcurrencyGain),
        Metric::Tr110Efficiency => Some(Metric::Tr110Speedup),
        _ => None,
    }
}

/// The runs of both sides that have a figure.
struct Values {
    a: Vec<f64>,
    b: Vec<f64>,
    paired: bool,
}

impl Values {
    fn independent(pair: &Pair<'_>, metric: Metric) -> Self {
        let of = |test: &TestReport| -> Vec<f64> {
            let runs = test.runs.iter();
            runs.filter_map(|run| metric.of_run(run)).collect()
        };
        Self {
            a: of(pair.a),
            b: of(pair.b),
            paired: false,
        }
    }

    fn paired(pair: &Pair<'_>, metric: Metric, common: &[u32]) -> Self {
        let of = |test: &TestReport, number: u32| {
            let run = test.runs.iter().find(|run| run.run == number)?;
            metric.of_run(run)
        };
        let both = common
            .iter()
            .filter_map(|number| Some((of(pair.a, *number)?, of(pair.b, *number)?)));
        let (a, b) = both.unzip();
        Self { a, b, paired: true }
    }

    /// The t test of b minus a, and its interval.
    fn tested(&self, options: &Options) -> Option<(TTest, [f64; 2])> {
        let level = 1.0 - options.alpha;
        if self.paired {
            let differences: Vec<f64> = self.b.iter().zip(&self.a).map(|(b, a)| b - a).collect();
            Some((
                paired_t(&self.b, &self.a)?,
                t_interval(&differences, level)?,
            ))
        } else {
            let (_, interval) = welch_interval(&self.b, &self.a, level)?;
            Some((welch_t(&self.b, &self.a)?, interval))
        }
    }

    fn effect(&self) -> Option<f64> {
        if self.paired {
            cohens_dz(&self.b, &self.a)
        } else {
            hedges_g(&self.b, &self.a)
        }
    }

    fn compare(&self, pair: &Pair<'_>, metric: Metric, options: &Options) -> MetricComparison {
        let count = |values: &[f64]| u32::try_from(values.len()).unwrap_or(u32::MAX);
        let mean_a = mean(&self.a);
        let base = mean_a.map(f64::abs).filter(|mean| *mean > 0.0);
        let tested = self.tested(options);
        let test = tested.map(|(test, _)| test);
        let interval = tested.map(|(_, interval)| interval);
        let difference = test.map(|test| test.difference);
        let effect = test.and_then(|_| self.effect());
        let ranks = self.paired.then(|| wilcoxon_signed_rank(&self.b, &self.a));
        let in_parts = |value: f64| base.map(|base| value / base);
        MetricComparison {
            metric,
            mean_a,
            mean_b: mean(&self.b),
            n_a: count(&self.a),
            n_b: count(&self.b),
            provenance: weaker(
                metric.of_test(&pair.a.aggregate).provenance,
                metric.of_test(&pair.b.aggregate).provenance,
            ),
            difference,
            interval,
            relative: difference.and_then(in_parts),
            relative_interval: interval
                .and_then(|[low, high]| Some([in_parts(low)?, in_parts(high)?])),
            p: test.map(|test| test.p_two_sided),
            p_adjusted: None,
            p_wilcoxon: ranks.flatten().map(|ranks| ranks.p_two_sided),
            effect,
            magnitude: effect.map(Magnitude::of),
            detectable: None,
            relative_detectable: None,
            same_as: multiple_of(metric).filter(|other| options.metrics.contains(other)),
            spread: test.map(|test| Spread {
                error: test.error,
                freedom: test.freedom,
            }),
            verdict: Verdict::NotMeasurable,
            evidence: String::new(),
        }
    }
}

fn weaker(a: Provenance, b: Provenance) -> Provenance {
    a.max(b)
}
