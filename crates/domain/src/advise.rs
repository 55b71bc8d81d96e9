//! Which configuration to take for which goal, from measured results only.
//!
//! A recipe picks the best test of a report by the figure that its goal asks for, says whether it is
//! shown to be better than the next best, and gives the interval of the gain to expect. Where a report
//! cannot answer, it says "not measured" and why; nothing is extrapolated, and TR110's speed-up picks
//! nothing.

mod phase;
mod write;

use serde::{Deserialize, Serialize};

use crate::metric::Metric;
use crate::report::{Finding, Report, RunReport, TestReport};
use crate::stats::{Provenance, Summary, welch_95};

pub use phase::PhaseTable;
pub use write::{toml, yaml};

/// What somebody wants of several agents at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Most tokens per second of all agents.
    Throughput,
    /// Shortest time to the first token.
    Latency,
    /// Least GPU memory.
    Memory,
    /// An agent with the engine's defaults beside optimised ones.
    Mixed,
    /// Agents that differ.
    Heterogeneous,
}

impl Goal {
    /// Every goal, in TR110's order.
    pub const ALL: [Self; 5] = [
        Self::Throughput,
        Self::Latency,
        Self::Memory,
        Self::Mixed,
        Self::Heterogeneous,
    ];

    /// The name in playbooks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Memory => "memory_constrained",
            Self::Mixed => "mixed",
            Self::Heterogeneous => "heterogeneous",
        }
    }

    /// Whether a test can serve this goal at all.
    #[must_use]
    pub fn admits(self, test: &TestReport) -> bool {
        let mixed = test.scenario == "baseline_vs_chimera";
        match self {
            Self::Throughput | Self::Latency | Self::Memory => true,
            Self::Mixed => mixed,
            Self::Heterogeneous => {
                let differ = |pair: &[crate::report::AgentConfig]| matches!(pair, [a, b] if a.options != b.options || a.model != b.model);
                !mixed && test.agents.windows(2).any(differ)
            }
        }
    }

    fn lacks(self) -> &'static str {
        match self {
            Self::Throughput | Self::Latency | Self::Memory => {
                "no test of two or more agents has a valid run"
            }
            Self::Mixed => "no test of the scenario baseline_vs_chimera has a valid run",
            Self::Heterogeneous => "no test of optimised agents that differ has a valid run",
        }
    }
}

/// The recipes of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Playbook {
    /// Name of the experiment.
    pub name: String,
    /// Its identity.
    pub experiment: String,
    /// Model of all agents. `null`: they differ, or it is not known.
    pub model: Option<String>,
    /// What `[model]` of a spec must name that takes the phases: agents with another state their own.
    /// `null`: it is not known.
    #[serde(default)]
    pub spec_model: Option<String>,
    /// One for every goal, in TR110's order.
    pub recipes: Vec<Recipe>,
}

/// What to take for a goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The goal.
    pub goal: Goal,
    /// Name of the figure that picked.
    pub by: String,
    /// What it picked. `null`: the report cannot answer.
    pub pick: Option<Pick>,
    /// Why the report cannot answer.
    pub not_measured: Option<String>,
}

/// The test that a goal picks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pick {
    /// Its id.
    pub test: String,
    /// Its label.
    pub label: String,
    /// The figure that picked it.
    pub value: Summary,
    /// Gain to expect.
    pub gain: Summary,
    /// Gain over the number of agents.
    pub efficiency: Summary,
    /// Id and mean of the next best test. `null`: there is no other.
    pub runner_up: Option<(String, f64)>,
    /// Whether the 95 % interval of the difference to the next best leaves out zero. `null`: there is no
    /// interval.
    pub clear: Option<bool>,
    /// What the data show of this test that speaks against it: sentences of the report's findings.
    pub caveats: Vec<String>,
    /// What to write into a spec.
    pub phase: PhaseTable,
    /// Why no spec takes the phase as it is. `null`: a spec takes it.
    #[serde(default)]
    pub refused: Option<String>,
}

/// Reads a figure of a run.
type OfRun = Box<dyn Fn(&RunReport) -> Option<f64>>;

/// A figure that can pick: over a test, and of one of its runs.
struct Figure {
    name: &'static str,
    of_run: OfRun,
    higher_is_better: bool,
    provenance: Box<dyn Fn(&TestReport) -> Provenance>,
}

impl Figure {
    fn metric(metric: Metric) -> Self {
        Self {
            name: metric.name(),
            of_run: Box::new(move |run| metric.of_run(run)),
            higher_is_better: metric.higher_is_better(),
            provenance: Box::new(move |test| metric.of_test(&test.aggregate).provenance),
        }
    }

    /// GPU memory of all agents' loaded models, as their engines state it.
    fn memory() -> Self {
        Self {
            name: "gpu_memory_bytes",
            of_run: Box::new(gpu_memory_bytes),
            higher_is_better: false,
            provenance: Box::new(|_| Provenance::Measured),
        }
    }

    fn values(&self, test: &TestReport) -> Vec<f64> {
        let valid = test.runs.iter().filter(|run| run.valid);
        valid.filter_map(|run| (self.of_run)(run)).collect()
    }

    fn summary(&self, test: &TestReport) -> Summary {
        let provenance = (self.provenance)(test);
        Summary::of(&self.values(test), provenance, "no valid run has it")
    }
}

/// *Undefined when* an engine does not state it, or nothing of the models lies on a GPU.
fn gpu_memory_bytes(run: &RunReport) -> Option<f64> {
    let together = run.legs.iter().find(|leg| leg.solo.is_none())?;
    let bytes: Option<u64> = together
        .ready
        .iter()
        .map(|ready| ready.facts.size_vram_bytes)
        .sum();
    bytes.filter(|bytes| *bytes > 0).map(|bytes| bytes as f64)
}

/// The playbook of a report.
#[must_use]
pub fn playbook(report: &Report) -> Playbook {
    let spec_model = commonest(report);
    let model = spec_model
        .clone()
        .filter(|model| models(report).all(|other| other == Some(model)));
    let mut recipes: Vec<Recipe> = Goal::ALL
        .iter()
        .map(|goal| recipe(report, *goal, spec_model.as_deref()))
        .collect();
    one_baseline(report, &mut recipes, spec_model.as_deref());
    Playbook {
        name: report.name.clone(),
        experiment: report.experiment.to_string(),
        model,
        spec_model,
        recipes,
    }
}

/// A spec has one `[baseline]`: picks with another than the first list their agents.
fn one_baseline(report: &Report, recipes: &mut [Recipe], model: Option<&str>) {
    let mut picks = recipes
        .iter_mut()
        .filter_map(|recipe| recipe.pick.as_mut())
        .filter(|pick| pick.phase.reads_baseline());
    let Some(first) = picks.next() else {
        return;
    };
    for pick in picks.filter(|pick| pick.phase.baseline != first.phase.baseline) {
        if let Some(test) = report.tests.iter().find(|test| test.id == pick.test) {
            pick.phase = PhaseTable::listing(test, model);
            pick.refused = pick.phase.fault(model);
        }
    }
}

fn models(report: &Report) -> impl Iterator<Item = Option<&String>> {
    let agents = report.tests.iter().flat_map(|test| &test.agents);
    agents.map(|agent| agent.model.as_ref())
}

/// The model of most agents; of equals the one that comes first.
fn commonest(report: &Report) -> Option<String> {
    let mut counts: Vec<(&String, usize)> = Vec::new();
    for model in models(report).flatten() {
        match counts.iter_mut().find(|(known, _)| *known == model) {
            Some((_, count)) => *count += 1,
            None => counts.push((model, 1)),
        }
    }
    // The last of equal maxima wins: so the first is looked at last.
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    most.map(|(model, _)| model.clone())
}

fn recipe(report: &Report, goal: Goal, model: Option<&str>) -> Recipe {
    let candidates: Vec<&TestReport> = report
        .tests
        .iter()
        .filter(|test| test.agents.len() > 1 && test.runs_valid > 0 && goal.admits(test))
        .collect();
    let has_gain = candidates
        .iter()
        .any(|test| test.aggregate.concurrency_gain.value.is_some());
    let (figure, lacking) = match goal {
        Goal::Throughput => (
            Figure::metric(Metric::AggregateTokensPerS),
            "output tokens were not counted",
        ),
        Goal::Latency => (
            Figure::metric(Metric::TtftMs),
            "no time to first token is known",
        ),
        Goal::Memory => (
            Figure::memory(),
            "no engine stated memory on a GPU, and estimates pick nothing",
        ),
        Goal::Mixed | Goal::Heterogeneous if has_gain => (
            Figure::metric(Metric::ConcurrencyGain),
            "no solo leg was run",
        ),
        Goal::Mixed | Goal::Heterogeneous => (
            Figure::metric(Metric::AggregateTokensPerS),
            "neither a gain nor output tokens are known",
        ),
    };
    let pick = pick(report, &candidates, &figure, model);
    let why = if candidates.is_empty() {
        goal.lacks()
    } else {
        lacking
    };
    Recipe {
        goal,
        by: figure.name.to_owned(),
        not_measured: pick.is_none().then(|| why.to_owned()),
        pick,
    }
}

fn pick(
    report: &Report,
    candidates: &[&TestReport],
    figure: &Figure,
    model: Option<&str>,
) -> Option<Pick> {
    let sign = if figure.higher_is_better { -1.0 } else { 1.0 };
    let mut ranked: Vec<(f64, &TestReport)> = candidates
        .iter()
        .filter_map(|test| Some((figure.summary(test).value?, *test)))
        .collect();
    // Stable: of equals the test with the lower number comes first.
    ranked.sort_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)));
    let (_, best) = ranked.first()?;
    let next = ranked.get(1);
    // Not corrected for the number of tests: the nearest two of many are closer than any two.
    let clear = next
        .and_then(|(_, next)| welch_95(&figure.values(best), &figure.values(next)))
        .map(|(_, [low, high])| low > 0.0 || high < 0.0);
    let phase = PhaseTable::of(best, model);
    Some(Pick {
        test: best.id.clone(),
        label: best.label.clone(),
        value: figure.summary(best),
        gain: best.aggregate.concurrency_gain.clone(),
        efficiency: best.aggregate.parallel_efficiency.clone(),
        runner_up: next.map(|(value, test)| (test.id.clone(), *value)),
        clear,
        caveats: caveats(report, best),
        refused: phase.fault(model),
        phase,
    })
}

/// Findings about the data of single runs that have evidence from this test.
fn caveats(report: &Report, test: &TestReport) -> Vec<String> {
    const OF_RUNS: [&str; 2] = ["reload_like_ttft", "zeroed_requests"];
    let prefix = format!("test {},", test.id);
    let about = |finding: &&Finding| {
        OF_RUNS.contains(&finding.id.as_str())
            && finding
                .evidence
                .iter()
                .filter_map(|evidence| evidence.place.as_ref())
                .any(|place| place.starts_with(&prefix))
    };
    let found = report.findings.iter().filter(about);
    let found = found.map(|finding| finding.sentence.clone());
    found.chain(unstated(report, test)).collect()
}

/// What the files of an imported test leave open and a spec of ours sets all the same.
fn unstated(report: &Report, test: &TestReport) -> Option<String> {
    report.source.as_ref()?;
    let names = phase::left_open(&test.agents);
    (!names.is_empty()).then(|| {
        format!(
            "the imported files do not state {} of every agent, so the spec's defaults hold and need not \
             be what was measured.",
            names.join(", ")
        )
    })
}
