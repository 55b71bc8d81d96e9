//! Two reports side by side: what differs, by how much, and whether it is more than noise.
//!
//! `a` is the older or the reference, `b` the newer: every difference is *b minus a*. [`compare`] is
//! pure and draws no random number, so that the same two reports always give the same comparison.
//!
//! How it judges. Tests are matched by their configuration. For each metric of each matched test the
//! runs of both sides are tested by Welch's t, or by a paired t where the two experiments ran the
//! same plan from the same seed. All these tests together are one family: their p values are
//! adjusted by Holm, so that of many comparisons of equal experiments at most a part
//! [`Options::alpha`] finds anything at all. A difference that is not shown is not the same as none:
//! the smallest change that would have been found stands beside it.

mod judge;
mod matching;
mod text;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::ExperimentId;
use crate::metric::Metric;
use crate::report::Report;
use crate::stats::{Magnitude, Provenance};

pub(crate) use text::{probability, signed_percent};

/// How to compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Options {
    /// Part of comparisons of equal experiments that may find anything.
    pub alpha: f64,
    /// Probability with which [`MetricComparison::detectable`] would have been found.
    pub power: f64,
    /// What is compared, in the order in which it is listed.
    pub metrics: Vec<Metric>,
}

impl Default for Options {
    /// 5 %, 80 %, and every metric but TR110's, which show balance and neither better nor worse.
    fn default() -> Self {
        let balance = [Metric::Tr110Speedup, Metric::Tr110Efficiency];
        Self {
            alpha: 0.05,
            power: 0.8,
            metrics: Metric::ALL
                .into_iter()
                .filter(|metric| !balance.contains(metric))
                .collect(),
        }
    }
}

impl Options {
    /// Without what counts good requests, where the two do not mean the same by good, or neither says
    /// what good is and it is not all that was asked for. Where one says so, the other's lack is told.
    fn for_limits(&self, a: &Report, b: &Report) -> Self {
        let nothing_else = || self.metrics.iter().all(|metric| metric.needs_slo());
        let keep = match (a.slo, b.slo) {
            (Some(a), Some(b)) => a == b,
            (None, None) => nothing_else(),
            (Some(_), None) | (None, Some(_)) => true,
        };
        let mut options = self.clone();
        options.metrics.retain(|metric| keep || !metric.needs_slo());
        options
    }
}

/// Two reports side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The older, or the reference.
    pub a: Side,
    /// The newer.
    pub b: Side,
    /// How it was compared.
    pub options: Options,
    /// Hypotheses tested: the size of the family that Holm's adjustment is over.
    pub family: u32,
    /// Tests that both have, in the order of `a`.
    pub tests: Vec<TestComparison>,
    /// Ids of tests that only `a` has.
    pub only_in_a: Vec<String>,
    /// Ids of tests that only `b` has.
    pub only_in_b: Vec<String>,
    /// What differs besides the tests and makes the figures hard to compare (host, model, engine,
    /// workload), one sentence each.
    pub caveats: Vec<String>,
    /// Over all metrics of all tests.
    pub verdict: Verdict,
    /// The verdict in a sentence, with what it rests on.
    pub sentence: String,
}

/// Which report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// Identity of the experiment.
    pub experiment: ExperimentId,
    /// Its name in the spec.
    pub name: String,
    /// Seed of its order. `null`: an imported experiment had none.
    pub seed: Option<u64>,
    /// Version of Chimera that measured it.
    pub software: Option<String>,
}

/// What a comparison found.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// `b` is better by more than noise.
    Better,
    /// `b` is worse by more than noise.
    Worse,
    /// Some of it is better and some is worse.
    Mixed,
    /// Whatever difference there is, these runs do not show it.
    NoDifferenceShown,
    /// One side lacks the figure, or has it in one run only.
    NotMeasurable,
}

impl Verdict {
    /// The words used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Mixed => "mixed",
            Self::NoDifferenceShown => "no difference shown",
            Self::NotMeasurable => "not measurable",
        }
    }
}

/// How a test of one report was found in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchedBy {
    /// Agents, models, options, topology and cap are the same, and only these two tests have them.
    Configuration,
    /// The configuration occurs more than once or not at all in the other; id and label are the same.
    IdAndLabel,
    /// Only the label is the same.
    Label,
    /// Only the id is the same: the configurations differ.
    Id,
}

/// How the runs of a matched test were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Pairing {
    /// Run by run.
    Paired {
        /// Runs that are valid on both sides.
        pairs: u32,
    },
    /// As two independent samples.
    Independent {
        /// Why not run by run.
        reason: String,
    },
}

/// One configuration in both reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestComparison {
    /// Its id in `a`.
    pub a: String,
    /// Its id in `b`.
    pub b: String,
    /// Its label in `b`.
    pub label: String,
    /// How it was found.
    pub matched_by: MatchedBy,
    /// How its runs were compared.
    pub pairing: Pairing,
    /// Figure by figure, in the order of [`Options::metrics`].
    pub metrics: Vec<MetricComparison>,
}

/// One metric of one configuration in both reports.
///
/// All optional figures are `null` where the verdict is `not_measurable`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricComparison {
    /// Which.
    pub metric: Metric,
    /// Mean over the valid runs of `a`.
    pub mean_a: Option<f64>,
    /// Mean over the valid runs of `b`.
    pub mean_b: Option<f64>,
    /// Runs of `a` that have it.
    pub n_a: u32,
    /// Runs of `b` that have it.
    pub n_b: u32,
    /// The weaker provenance of the two.
    pub provenance: Provenance,
    /// `b` minus `a`, in the unit of the metric; of the pairs, where runs are paired.
    pub difference: Option<f64>,
    /// Its 95 % interval, or that of 1 - [`Options::alpha`]. Of this one figure: it takes no account
    /// of the family.
    pub interval: Option<[f64; 2]>,
    /// The difference as a part of `mean_a`. `null` at a mean of zero.
    pub relative: Option<f64>,
    /// The interval as parts of `mean_a`, whose own error is not in it.
    pub relative_interval: Option<[f64; 2]>,
    /// Probability of a difference at least this large if there were none (two-sided t test).
    pub p: Option<f64>,
    /// The same, adjusted for the family.
    pub p_adjusted: Option<f64>,
    /// The same by Wilcoxon's signed ranks, not adjusted. `null` unless paired.
    pub p_wilcoxon: Option<f64>,
    /// Difference in standard deviations: Hedges' g, or d_z of pairs. `null` without spread.
    pub effect: Option<f64>,
    /// Cohen's word for it.
    pub magnitude: Option<Magnitude>,
    /// Smallest true difference that these runs would show with probability [`Options::power`], with
    /// alpha divided by the family. `null` where no difference of any size would be.
    pub detectable: Option<f64>,
    /// The same as a part of `mean_a`.
    pub relative_detectable: Option<f64>,
    /// Set if the figure is another one times a constant: judged by that, and not a hypothesis of
    /// its own.
    pub same_as: Option<Metric>,
    /// How far the difference may be off. `null` as [`Self::difference`].
    pub spread: Option<Spread>,
    /// What it comes to.
    pub verdict: Verdict,
    /// What the verdict rests on, in a sentence.
    pub evidence: String,
}

/// How far a difference may be off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Its standard error.
    pub error: f64,
    /// Degrees of freedom of its t.
    pub freedom: f64,
}

/// Compares two reports.
///
/// Comparing a report with itself finds nothing. Tests without a partner are listed, never compared.
#[must_use]
pub fn compare(a: &Report, b: &Report, options: &Options) -> Comparison {
    let options = &options.for_limits(a, b);
    let matched = matching::match_tests(a, b);
    let same_plan = matching::same_plan(a, b, &matched);
    let mut tests: Vec<TestComparison> = matched
        .pairs
        .iter()
        .map(|pair| judge::test(pair, &same_plan, options))
        .collect();
    let family = judge::settle(&mut tests, options);
    let verdict = overall(&tests);
    let mut comparison = Comparison {
        a: Side::of(a),
        b: Side::of(b),
        options: options.clone(),
        family,
        tests,
        only_in_a: matched.only_in_a,
        only_in_b: matched.only_in_b,
        caveats: matching::caveats(a, b),
        verdict,
        sentence: String::new(),
    };
    comparison.sentence = text::sentence(&comparison);
    comparison
}

impl Side {
    fn of(report: &Report) -> Self {
        Self {
            experiment: report.experiment.clone(),
            name: report.name.clone(),
            seed: report.seed,
            software: report.environment.software.clone(),
        }
    }
}

impl Comparison {
    /// Every metric of every test, with its test.
    pub fn metrics(&self) -> impl Iterator<Item = (&TestComparison, &MetricComparison)> {
        self.tests
            .iter()
            .flat_map(|test| test.metrics.iter().map(move |metric| (test, metric)))
    }
}

fn overall(tests: &[TestComparison]) -> Verdict {
    let has = |verdict: Verdict| {
        let mut all = tests.iter().flat_map(|test| &test.metrics);
        all.any(|metric| metric.verdict == verdict)
    };
    match (has(Verdict::Better), has(Verdict::Worse)) {
        (true, true) => Verdict::Mixed,
        (true, false) => Verdict::Better,
        (false, true) => Verdict::Worse,
        (false, false) if has(Verdict::NoDifferenceShown) => Verdict::NoDifferenceShown,
        (false, false) => Verdict::NotMeasurable,
    }
}
