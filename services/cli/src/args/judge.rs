//! The command lines of `compare` and `gate`.

use std::path::PathBuf;

use chimera_domain::compare::Options;
use chimera_domain::gate::{Preset, Threshold};
use chimera_domain::metric::Metric;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// The name of a metric.
fn metric() -> impl TypedValueParser<Value = Metric> {
    PossibleValuesParser::new(Metric::ALL.map(Metric::name)).try_map(|name| {
        Metric::from_name(&name).ok_or_else(|| format!("there is no metric '{name}'"))
    })
}

/// The name of a preset.
fn preset() -> impl TypedValueParser<Value = Preset> {
    PossibleValuesParser::new(Preset::ALL.map(Preset::name)).try_map(|name| {
        Preset::from_name(&name).ok_or_else(|| format!("there is no preset '{name}'"))
    })
}

/// `chimera compare`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera compare results/monday results/tuesday
  chimera compare a/report.json b/report.json --metric concurrency_gain --metric ttft_ms
  chimera compare results/monday results/tuesday --out comparison.md
  chimera compare results/monday results/tuesday --json | jq .verdict

Differences are B minus A. Runs are paired where both ran the same plan from the same seed; p values
are adjusted for the number of figures compared. Finding a difference is no failure: see `chimera gate`.")]
pub struct CompareArgs {
    /// The older result, or the reference: a report.json, or the folder of one
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// The newer result
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Compare this figure only; repeatable [default: all but TR110's, which show balance]
    #[arg(long = "metric", value_name = "METRIC", value_parser = metric(), hide_possible_values = true)]
    pub metrics: Vec<Metric>,
    /// Write the comparison as Markdown to a file instead of to standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `chimera gate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera gate results/quick --rule 'concurrency_gain >= 1.2'
  chimera gate results/quick --rule 'parallel_efficiency >= 75 % ci in 108' --rule 'valid_rate >= 90 %'
  chimera gate results/quick --baseline results/last-week --junit gate.xml --markdown gate.md
  chimera gate results/quick --preset tr110
  chimera gate results/quick                  by the [gate] table of its own spec

Exit code 1 if a rule is missed, or if what it must be judged by was not measured (unless the rule says
`optional`). A rule is a figure, an operator and a number; `ci` asks the whole 95 % interval to keep the
limit, `in TEST` is for one test. With a baseline no figure may be worse there by more than noise.")]
pub struct GateArgs {
    /// The result: a report.json, or the folder of one
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
    /// A result that this one must not fall behind
    #[arg(long, value_name = "REPORT")]
    pub baseline: Option<PathBuf>,
    /// A rule that every test must meet; repeatable
    #[arg(long = "rule", value_name = "RULE")]
    pub rules: Vec<Threshold>,
    /// Take the `[gate]` table of this spec
    #[arg(long, value_name = "SPEC")]
    pub spec: Option<PathBuf>,
    /// Take a published set of rules: tr110 (its alerts) or tr110-ci (its test); both judge balance
    #[arg(long, value_name = "PRESET", value_parser = preset(), hide_possible_values = true)]
    pub preset: Option<Preset>,
    /// Hold this figure only against the baseline; repeatable [default: all but TR110's]
    #[arg(long = "metric", value_name = "METRIC", value_parser = metric(), hide_possible_values = true, requires = "baseline")]
    pub metrics: Vec<Metric>,
    /// Write JUnit XML to a file
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write a Markdown summary to a file
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// How to compare, by the metrics that a person asked for.
pub(crate) fn options(metrics: &[Metric]) -> Options {
    let default = Options::default();
    if metrics.is_empty() {
        return default;
    }
    let mut asked: Vec<Metric> = Vec::new();
    for metric in metrics {
        // Twice the same figure would be two hypotheses.
        if !asked.contains(metric) {
            asked.push(*metric);
        }
    }
    Options {
        metrics: asked,
        ..default
    }
}
