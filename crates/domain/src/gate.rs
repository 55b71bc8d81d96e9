//! Whether a report is good enough: thresholds, and a baseline that it must not fall behind.
//!
//! A figure that was not measured **fails** the gate, unless its rule says `optional`: a gate that
//! passes because nothing was measured is worse than none. For the same reason an experiment that did
//! not complete fails, and so does a gate in which nothing could be judged. Rules about running
//! together skip tests with one agent, where there is nothing to judge.

mod measure;
mod preset;
mod quantity;
mod threshold;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compare::{Comparison, Options, Verdict, compare};
use crate::report::{OutcomeState, Report, TestReport, number};
use crate::stats::Provenance;

use measure::{Found, measure};
pub use preset::Preset;
pub use quantity::Quantity;
pub use threshold::{Operator, Threshold};

/// What a gate found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// Name of the report's experiment.
    pub name: String,
    /// Whether every rule was met that had to be, and at least one was judged.
    pub passed: bool,
    /// Rule by rule and test by test, in the order of the rules.
    pub results: Vec<GateResult>,
    /// What the rules against a baseline rest on. `null`: there was no baseline.
    pub comparison: Option<Comparison>,
    /// What it comes to, in a sentence.
    pub sentence: String,
}

/// One rule at one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateResult {
    /// Id of the test; `null`: the rule is about the whole experiment.
    pub test: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// The rule as written, or what is asked against the baseline.
    pub rule: String,
    /// The figure judged. `null`: not measured.
    pub value: Option<f64>,
    /// Its 95 % interval. `null`: there is none.
    pub interval: Option<[f64; 2]>,
    /// How the figure came about.
    pub provenance: Provenance,
    /// Whether the rule was met.
    pub state: GateState,
    /// Why, in a sentence.
    pub detail: String,
}

/// Whether a rule was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// It was.
    Met,
    /// It was not, or what it must be judged by was not measured.
    Missed,
    /// It was not judged, and did not have to be.
    Skipped,
}

impl GateState {
    /// The word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Skipped => "skipped",
        }
    }
}

/// Judges a report by thresholds, and by a baseline if there is one: no metric of `options` may be
/// worse than there by more than noise.
#[must_use]
pub fn judge(
    report: &Report,
    baseline: Option<&Report>,
    thresholds: &[Threshold],
    options: &Options,
) -> Gate {
    let comparison = baseline.map(|baseline| compare(baseline, report, options));
    let partner = |test: &TestReport| {
        let mut matched = comparison.as_ref()?.tests.iter();
        let id = &matched.find(|pair| pair.b == test.id)?.a;
        baseline?.tests.iter().find(|other| other.id == *id)
    };
    let mut results = vec![completed(report)];
    for threshold in thresholds {
        results.extend(by_threshold(report, threshold, &partner));
    }
    if let Some(comparison) = &comparison {
        results.extend(by_baseline(comparison));
    }
    let count = |state: GateState| results.iter().filter(|r| r.state == state).count();
    let (missed, skipped) = (count(GateState::Missed), count(GateState::Skipped));
    // The first result is about the outcome and judges no figure.
    let judged = results.len() - 1 - skipped;
    let passed = missed == 0 && judged > 0;
    let sentence = if passed {
        format!("Passed: {judged} met, {skipped} skipped.")
    } else if missed == 0 {
        "Failed: no rule could be judged.".to_owned()
    } else {
        format!("Failed: {missed} missed of {judged} judged, {skipped} skipped.")
    };
    Gate {
        name: report.name.clone(),
        passed,
        results,
        comparison,
        sentence,
    }
}

fn completed(report: &Report) -> GateResult {
    let (state, detail) = match report.outcome.state {
        OutcomeState::Completed => (GateState::Met, "The experiment completed.".to_owned()),
        OutcomeState::Running => (
            GateState::Missed,
            "The experiment had not ended when this report was made.".to_owned(),
        ),
        OutcomeState::Cancelled => (
            GateState::Missed,
            "The experiment was cancelled.".to_owned(),
        ),
        OutcomeState::Failed => (
            GateState::Missed,
            format!(
                "The experiment failed: {}.",
                report
                    .outcome
                    .detail
                    .as_deref()
                    .unwrap_or("no reason is known")
            ),
        ),
    };
    GateResult {
        test: None,
        label: None,
        rule: "the experiment completed".to_owned(),
        value: None,
        interval: None,
        provenance: Provenance::Measured,
        state,
        detail,
    }
}

/// Finds the test of the baseline that belongs to one of the report.
type Partner<'a> = dyn Fn(&TestReport) -> Option<&'a TestReport> + 'a;

fn by_threshold(report: &Report, threshold: &Threshold, partner: &Partner<'_>) -> Vec<GateResult> {
    let wanted = |test: &&TestReport| match &threshold.test {
        Some(name) => test.id == *name || test.label == *name,
        None => true,
    };
    let found: Vec<GateResult> = report
        .tests
        .iter()
        .filter(wanted)
        .map(|test| at_test(test, threshold, partner(test)))
        .collect();
    if !found.is_empty() {
        return found;
    }
    let detail = threshold.test.as_ref().map_or_else(
        || "The report has no test.".to_owned(),
        |name| format!("No test has the id or the label '{name}'."),
    );
    vec![GateResult {
        test: threshold.test.clone(),
        label: None,
        rule: threshold.to_string(),
        value: None,
        interval: None,
        provenance: Provenance::NotMeasured,
        state: GateState::Missed,
        detail,
    }]
}

fn at_test(test: &TestReport, threshold: &Threshold, baseline: Option<&TestReport>) -> GateResult {
    let quantity = threshold.quantity;
    let absent = if threshold.required {
        GateState::Missed
    } else {
        GateState::Skipped
    };
    let mut result = GateResult {
        test: Some(test.id.clone()),
        label: Some(test.label.clone()),
        rule: threshold.to_string(),
        value: None,
        interval: None,
        provenance: Provenance::NotMeasured,
        state: GateState::Skipped,
        detail: String::new(),
    };
    if quantity.needs_two_agents() && test.agents.len() < 2 {
        result.detail = "One agent by itself: there is nothing to judge.".to_owned();
        return result;
    }
    let Found {
        value,
        interval,
        n,
        provenance,
    } = match measure(quantity, test, baseline) {
        Ok(found) => found,
        Err(reason) => {
            result.state = absent;
            result.detail = format!("{} was not measured: {reason}.", quantity.name());
            return result;
        }
    };
    result.value = Some(value);
    result.interval = interval;
    result.provenance = provenance;
    let (judged, what) = if threshold.by_interval {
        let Some(interval) = interval else {
            result.state = absent;
            result.detail = format!(
                "{} has no interval: it needs two valid runs, and has {n}.",
                quantity.name()
            );
            return result;
        };
        let end = threshold.operator.weak_end(interval);
        (end, "the end of its 95 % interval")
    } else {
        (value, quantity.kind())
    };
    let met = threshold.operator.holds(judged, threshold.limit);
    result.state = if met {
        GateState::Met
    } else {
        GateState::Missed
    };
    let unit = quantity.unit();
    result.detail = format!(
        "{} is {}{}{unit} over {n} valid runs ({}): {what}, {}, is {}{} {}.",
        quantity.name(),
        number::with_interval(Some(value), interval),
        if unit.is_empty() { "" } else { " " },
        provenance.as_str(),
        number::text(judged),
        if met { "" } else { "not " },
        threshold.operator.as_str(),
        threshold.limit,
    );
    result
}

fn by_baseline(comparison: &Comparison) -> Vec<GateResult> {
    let gone = comparison.only_in_a.iter().map(|id| GateResult {
        test: Some(id.clone()),
        label: None,
        rule: "the baseline's test was run".to_owned(),
        value: None,
        interval: None,
        provenance: Provenance::NotMeasured,
        state: GateState::Missed,
        detail: format!("Test {id} of the baseline has no partner in this report."),
    });
    let judged = comparison.metrics().filter_map(|(test, metric)| {
        let state = match metric.verdict {
            Verdict::Worse | Verdict::Mixed => GateState::Missed,
            Verdict::Better | Verdict::NoDifferenceShown => GateState::Met,
            // What the baseline had and this report has not is a loss; what neither has is not.
            Verdict::NotMeasurable if metric.n_a >= 2 => GateState::Missed,
            Verdict::NotMeasurable if metric.n_a == 1 || metric.n_b > 0 => GateState::Skipped,
            Verdict::NotMeasurable => return None,
        };
        Some(GateResult {
            test: Some(test.b.clone()),
            label: Some(test.label.clone()),
            rule: format!("{} not shown worse than the baseline", metric.metric.name()),
            value: metric.mean_b,
            interval: None,
            provenance: metric.provenance,
            state,
            detail: metric.evidence.clone(),
        })
    });
    gone.chain(judged).collect()
}
