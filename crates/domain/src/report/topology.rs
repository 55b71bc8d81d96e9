//! The same work on instances of one's own, on a shared one, and on one that queues: which is sooner
//! done.
//!
//! Tests are compared that differ in nothing but their topology, and in the threads of their engines
//! where a topology has its own: one engine for all may get the cores that several had. Each pair has a
//! difference with an interval: paired by run number where both tests have the same valid runs, since
//! the runs of one number are neighbours in time, and by Welch's interval where they have not. The
//! intervals of a group are widened for their number, so that all of them hold together with 95 %.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AgentOptions;
use super::number::{text, with_interval};
use super::types::{AgentConfig, RunReport, TestReport};
use crate::metric::Metric;
use crate::plan::Topology;
use crate::stats::{
    Summary, mean, minimum_detectable, paired_t, t_interval, welch_interval, welch_t,
};

/// Two tests did the same work if their mean counts of prompt and output tokens differ by at most
/// this part.
const SAME_WORK: f64 = 0.01;

/// Chance of claiming any difference in a group whose arms do not differ.
const ALPHA: f64 = 0.05;

/// Chance of finding a difference as large as the one named as detectable.
const POWER: f64 = 0.8;

/// What tests show that differ in nothing but how agents and instances belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyVerdict {
    /// One for each work that was placed in several ways. *Shape*: one or more.
    pub groups: Vec<TopologyGroup>,
}

/// One work, placed in several ways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyGroup {
    /// The ways: pinned first, then shared by falling slots. *Shape*: two or more.
    pub arms: Vec<TopologyArm>,
    /// Whether all of them processed equally many tokens, prompt and output, within 1 %.
    pub same_work: bool,
    /// What they are judged by: the wall time of the same work, else tokens per second.
    pub judged_by: Metric,
    /// Every two of them. *Shape*: the earlier arm first. Their intervals of one figure are a family:
    /// all of them hold together with 95 %.
    pub pairs: Vec<TopologyPair>,
    /// What it comes to, to be quoted.
    pub sentence: String,
}

/// One way of placing the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyArm {
    /// Number of the test.
    pub test: String,
    /// In words (`2 agents on 2 instances`).
    pub name: String,
    /// Its instances, in words (`one instance with 2 slots`).
    pub place: String,
    /// How agents and instances belong together.
    pub topology: Topology,
    /// How many instances that takes.
    pub instances: u32,
    /// First start to last finish, over the valid runs.
    pub wall_s: Summary,
    /// All output tokens over the wall time.
    pub aggregate_tokens_per_s: Summary,
    /// Against the agents alone on the same instances.
    pub concurrency_gain: Summary,
    /// Client TTFT, with any wait for the instance in it.
    pub ttft_ms: Summary,
}

/// Two ways side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyPair {
    /// Number of the one test.
    pub test: String,
    /// Number of the other test.
    pub other: String,
    /// Of the wall times, s.
    pub wall_s: Difference,
    /// Of the tokens per second.
    pub aggregate_tokens_per_s: Difference,
}

/// The one minus the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// How the interval came about.
    pub method: DifferenceMethod,
    /// Difference of the means. `null`: one of them has no value.
    pub value: Option<f64>,
    /// Its interval, at 1 - 0.05 / m for the m pairs of the group (Bonferroni): the intervals of all
    /// pairs hold together with 95 %. `null` below two runs of either.
    pub ci95: Option<[f64; 2]>,
    /// The difference as a part of the other's mean.
    pub relative: Option<f64>,
    /// The interval as parts of the other's mean.
    pub relative_ci95: Option<[f64; 2]>,
    /// Whether the interval leaves out zero. `null`: there is none.
    pub shown: Option<bool>,
    /// The smallest true difference that this many runs of this spread show in four of five
    /// experiments (power 0.8, two-sided at 0.05 / m for the m pairs of the group). `null`: there is no
    /// interval.
    #[serde(default)]
    pub detectable: Option<f64>,
}

/// How the interval of a difference came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceMethod {
    /// Student's t on the differences of the runs of one number.
    PairedByRun,
    /// Welch's t on the runs of both.
    Welch,
}

impl DifferenceMethod {
    /// In words for a table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PairedByRun => "paired by run",
            Self::Welch => "Welch",
        }
    }
}

/// Finds the tests that differ in nothing but their topology and compares them.
///
/// *Undefined when* there are no two such tests with a valid run and more than one agent.
#[must_use]
pub fn topology_verdict(tests: &[TestReport]) -> Option<TopologyVerdict> {
    let mut groups: Vec<Vec<&TestReport>> = Vec::new();
    let comparable = tests
        .iter()
        .filter(|test| test.agents.len() > 1 && test.aggregate.wall_s.value.is_some());
    for test in comparable {
        match groups
            .iter_mut()
            .find(|group| group.iter().all(|known| same_but_for_topology(known, test)))
        {
            // A second test of one topology says nothing about topologies: the first stands.
            Some(group) if group.iter().any(|known| known.topology == test.topology) => {}
            Some(group) => group.push(test),
            None => groups.push(vec![test]),
        }
    }
    let groups: Vec<TopologyGroup> = joined(groups)
        .into_iter()
        .filter(|group| group.len() > 1)
        .map(TopologyGroup::of)
        .collect();
    (!groups.is_empty()).then_some(TopologyVerdict { groups })
}

/// Joins groups that differ in their engines' threads only and have no topology in common, so that
/// each lacks what the other has.
fn joined(groups: Vec<Vec<&TestReport>>) -> Vec<Vec<&TestReport>> {
    let mut joined: Vec<Vec<&TestReport>> = Vec::with_capacity(groups.len());
    for group in groups {
        let lacks = |known: &Vec<&TestReport>| {
            let fits = |a: &TestReport, b: &TestReport| {
                a.topology != b.topology && same_but_for(a, b, without_threads)
            };
            known.iter().all(|a| group.iter().all(|b| fits(a, b)))
        };
        match joined.iter_mut().find(|known| lacks(known)) {
            Some(known) => known.extend(group),
            None => joined.push(group),
        }
    }
    joined
}

fn without_threads(options: &AgentOptions) -> AgentOptions {
    AgentOptions {
        num_thread: None,
        ..options.clone()
    }
}

fn same_but_for_topology(one: &TestReport, other: &TestReport) -> bool {
    same_but_for(one, other, AgentOptions::clone)
}

/// Whether the agents of both do the same, as far as `looked_at` leaves of their options.
fn same_but_for(
    one: &TestReport,
    other: &TestReport,
    looked_at: fn(&AgentOptions) -> AgentOptions,
) -> bool {
    let alike = |(a, b): (&AgentConfig, &AgentConfig)| {
        (a.role == b.role && a.engine == b.engine && a.model == b.model)
            && (looked_at(&a.options) == looked_at(&b.options) && a.think_ms == b.think_ms)
    };
    one.agents.len() == other.agents.len()
        && one.max_concurrent == other.max_concurrent
        && one.agents.iter().zip(&other.agents).all(alike)
}

impl TopologyGroup {
    fn of(mut tests: Vec<&TestReport>) -> Self {
        tests.sort_by_key(|test| match test.topology {
            Topology::Pinned => 0,
            Topology::Shared { slots } => u32::MAX - slots,
        });
        let mut arms: Vec<TopologyArm> = tests.iter().map(|test| TopologyArm::of(test)).collect();
        let threads = |test: &TestReport| test.agents.first().map(|a| a.options.num_thread);
        if tests
            .iter()
            .any(|t| threads(t) != tests.first().copied().and_then(threads))
        {
            for (arm, test) in arms.iter_mut().zip(&tests) {
                arm.tell_threads(threads(test).flatten());
            }
        }
        let family = tests.len() * tests.len().saturating_sub(1) / 2;
        let mut pairs = Vec::with_capacity(family);
        for (index, test) in tests.iter().enumerate() {
            let others = tests.iter().skip(index + 1);
            pairs.extend(others.map(|other| TopologyPair::of(test, other, family)));
        }
        let same_work = same_work(&tests);
        let judged_by = if same_work {
            Metric::WallS
        } else {
            Metric::AggregateTokensPerS
        };
        let mut group = Self {
            arms,
            same_work,
            judged_by,
            pairs,
            sentence: String::new(),
        };
        group.sentence = group.say();
        group
    }

    fn say(&self) -> String {
        let Some((lead, others)) = self.arms.split_first() else {
            return String::new();
        };
        let (does, unit) = if self.same_work {
            ("finish the same work in", "s")
        } else {
            ("write", "tokens/s")
        };
        let own = lead.judged(self.judged_by);
        let interval = own.ci95.map_or_else(
            || " (one valid run)".to_owned(),
            |[low, high]| format!(" (95 % {} to {})", text(low), text(high)),
        );
        let clauses: Vec<String> = others
            .iter()
            .filter_map(|other| self.against(lead, other, unit))
            .collect();
        let intervals = self.pairs.iter();
        let intervals = intervals.filter(|pair| pair.judged(self.judged_by).ci95.is_some());
        let together = match (self.pairs.len(), intervals.count()) {
            (_, 0) => String::new(),
            (1, _) => " The interval of the difference holds with 95 %.".to_owned(),
            (pairs, _) => {
                format!(
                    " The intervals of the differences of all {pairs} pairs hold together with 95 %."
                )
            }
        };
        let work = if self.same_work {
            ""
        } else {
            " They did not process equally many tokens, so their rates are compared and not their times."
        };
        format!(
            "{} {does} {} {unit}{interval}: {}.{together}{work}",
            lead.name,
            own.value.map_or_else(String::new, text),
            clauses.join("; ")
        )
    }

    fn against(&self, lead: &TopologyArm, other: &TopologyArm, unit: &str) -> Option<String> {
        let pair = self
            .pairs
            .iter()
            .find(|pair| pair.test == lead.test && pair.other == other.test)?;
        let difference = pair.judged(self.judged_by);
        let relative = difference.relative?;
        let theirs = other.judged(self.judged_by).value.map(text)?;
        let (place, what) = (
            &other.place,
            if self.same_work { "time" } else { "per second" },
        );
        let direction = if relative < 0.0 { "less" } else { "more" };
        let by = part(relative.abs());
        Some(match (difference.shown, difference.relative_ci95) {
            (Some(true), Some([low, high])) => {
                let (near, far) = (low.abs().min(high.abs()), low.abs().max(high.abs()));
                format!(
                    "{by} {direction} {what} than on {place} ({theirs} {unit}; {} to {} %)",
                    text(near * 100.0),
                    text(far * 100.0)
                )
            }
            (Some(false), _) => {
                let detectable = difference.detectable.map_or_else(
                    || "so few runs show next to none".to_owned(),
                    |least| {
                        let base = other.judged(self.judged_by).value.map(f64::abs);
                        let of_theirs = base
                            .filter(|base| *base > 0.0)
                            .map_or_else(String::new, |base| format!(", {}", part(least / base)));
                        format!(
                            "as many runs of this spread show one of {} {unit}{of_theirs}, in four of \
                             five experiments",
                            text(least)
                        )
                    },
                );
                format!("no difference is shown to {place} ({theirs} {unit}; {detectable})")
            }
            _ => format!(
                "{by} {direction} {what} than on {place} ({theirs} {unit}; too few valid runs for an \
                 interval)"
            ),
        })
    }
}

impl TopologyArm {
    fn of(test: &TestReport) -> Self {
        let agents = test.agents.len();
        let a = &test.aggregate;
        Self {
            test: test.id.clone(),
            name: format!("{agents} agents on {}", place(agents, test.topology)),
            place: place(agents, test.topology),
            topology: test.topology,
            instances: match test.topology {
                Topology::Pinned => u32::try_from(agents).unwrap_or(u32::MAX),
                Topology::Shared { .. } => 1,
            },
            wall_s: a.wall_s.clone(),
            aggregate_tokens_per_s: a.aggregate_tokens_per_s.clone(),
            concurrency_gain: a.concurrency_gain.clone(),
            ttft_ms: a.ttft_ms.clone(),
        }
    }

    /// Says the threads of an engine, where the arms differ in them.
    fn tell_threads(&mut self, threads: Option<u32>) {
        let told = match threads {
            Some(1) => " with 1 thread per engine".to_owned(),
            Some(n) => format!(" with {n} threads per engine"),
            None => " with the engine's own threads".to_owned(),
        };
        self.name.push_str(&told);
        self.place.push_str(&told);
    }

    fn judged(&self, by: Metric) -> &Summary {
        match by {
            Metric::AggregateTokensPerS => &self.aggregate_tokens_per_s,
            _ => &self.wall_s,
        }
    }
}

/// A part as a percentage with three digits: an interval of half a percent must not read `49 to 49`.
pub(crate) fn part(fraction: f64) -> String {
    format!("{} %", text(fraction * 100.0))
}

/// The instances of a topology, in words.
fn place(agents: usize, topology: Topology) -> String {
    match topology {
        Topology::Pinned => format!("{agents} instances"),
        Topology::Shared { slots: 1 } => "one instance that queues".to_owned(),
        Topology::Shared { slots } => format!("one instance with {slots} slots"),
    }
}

impl TopologyPair {
    fn of(one: &TestReport, other: &TestReport, family: usize) -> Self {
        let difference = |metric| Difference::of(one, other, metric, family);
        Self {
            test: one.id.clone(),
            other: other.id.clone(),
            wall_s: difference(Metric::WallS),
            aggregate_tokens_per_s: difference(Metric::AggregateTokensPerS),
        }
    }

    fn judged(&self, by: Metric) -> &Difference {
        match by {
            Metric::AggregateTokensPerS => &self.aggregate_tokens_per_s,
            _ => &self.wall_s,
        }
    }
}

impl Difference {
    fn of(one: &TestReport, other: &TestReport, metric: Metric, family: usize) -> Self {
        let by_run = |test: &TestReport| -> Vec<(u32, f64)> {
            let value = |run: &RunReport| Some((run.run, metric.of_run(run)?));
            test.runs.iter().filter_map(value).collect()
        };
        let (one, other) = (by_run(one), by_run(other));
        let values = |runs: &[(u32, f64)]| -> Vec<f64> { runs.iter().map(|(_, v)| *v).collect() };
        let paired = one
            .iter()
            .map(|(run, _)| run)
            .eq(other.iter().map(|(run, _)| run));
        let (ones, others) = (values(&one), values(&other));
        let value = mean(&ones).zip(mean(&others)).map(|(a, b)| a - b);
        let alpha = ALPHA / family.max(1) as f64;
        let (method, ci95, found) = if paired {
            let differences: Vec<f64> = ones.iter().zip(&others).map(|(a, b)| a - b).collect();
            (
                DifferenceMethod::PairedByRun,
                t_interval(&differences, 1.0 - alpha),
                paired_t(&ones, &others),
            )
        } else {
            let welch = welch_interval(&ones, &others, 1.0 - alpha);
            (
                DifferenceMethod::Welch,
                welch.map(|(_, interval)| interval),
                welch_t(&ones, &others),
            )
        };
        let base = mean(&others).filter(|base| *base > 0.0);
        Self {
            method,
            value,
            ci95,
            relative: value.zip(base).map(|(value, base)| value / base),
            relative_ci95: ci95
                .zip(base)
                .map(|(ends, base)| ends.map(|end| end / base)),
            shown: ci95.map(|[low, high]| low > 0.0 || high < 0.0),
            detectable: found
                .and_then(|found| minimum_detectable(found.error, found.freedom, alpha, POWER)),
        }
    }

    /// With its interval, for a table.
    #[must_use]
    pub fn text(&self) -> String {
        with_interval(self.value, self.ci95)
    }
}

/// Whether the tests processed equally many tokens. A count that is missing is no equality.
fn same_work(tests: &[&TestReport]) -> bool {
    let of_run = |run: &RunReport, count: fn(&super::RequestReport) -> Option<u32>| {
        let requests = run.agents.iter().flat_map(|agent| &agent.requests);
        requests
            .map(|r| count(r).map(f64::from))
            .sum::<Option<f64>>()
    };
    let of_test = |test: &TestReport, count: fn(&super::RequestReport) -> Option<u32>| {
        let valid = test.runs.iter().filter(|run| run.valid);
        let sums: Option<Vec<f64>> = valid.map(|run| of_run(run, count)).collect();
        mean(&sums?)
    };
    let alike = |count: fn(&super::RequestReport) -> Option<u32>| {
        let all: Option<Vec<f64>> = tests.iter().map(|test| of_test(test, count)).collect();
        all.is_some_and(|all| {
            let most = all.iter().copied().fold(0.0, f64::max);
            let least = all.iter().copied().fold(f64::INFINITY, f64::min);
            most - least <= SAME_WORK * most
        })
    };
    alike(|r| r.output_tokens) && alike(|r| r.prompt_tokens)
}
