//! Which test of one report is which test of the other.

use super::MatchedBy;
use crate::report::{AgentConfig, Engine, Report, TestReport};

/// Tests of two reports, matched.
pub(super) struct Matched<'a> {
    /// Tests that both have, in the order of the first report.
    pub(super) pairs: Vec<Pair<'a>>,
    /// Ids that only the first has.
    pub(super) only_in_a: Vec<String>,
    /// Ids that only the second has.
    pub(super) only_in_b: Vec<String>,
}

/// One test in both reports.
pub(super) struct Pair<'a> {
    /// In the first.
    pub(super) a: &'a TestReport,
    /// In the second.
    pub(super) b: &'a TestReport,
    /// How it was found.
    pub(super) by: MatchedBy,
}

type Like = fn(&TestReport, &TestReport) -> bool;

/// Matches by the strongest likeness first; at each, only tests that are unambiguous on both sides.
pub(super) fn match_tests<'a>(a: &'a Report, b: &'a Report) -> Matched<'a> {
    let alike: [(MatchedBy, Like); 4] = [
        (MatchedBy::Configuration, same_configuration),
        (MatchedBy::IdAndLabel, |x, y| {
            x.id == y.id && x.label == y.label
        }),
        (MatchedBy::Label, |x, y| x.label == y.label),
        (MatchedBy::Id, |x, y| x.id == y.id),
    ];
    let mut left: Vec<&TestReport> = a.tests.iter().collect();
    let mut right: Vec<&TestReport> = b.tests.iter().collect();
    let mut pairs = Vec::new();
    for (by, like) in alike {
        let found: Vec<Pair<'a>> = left
            .iter()
            .filter_map(|x| {
                let mut partners = right.iter().filter(|y| like(x, y));
                let partner = partners.next()?;
                let rivals = left.iter().filter(|other| like(other, partner)).count();
                (partners.next().is_none() && rivals == 1).then_some(Pair {
                    a: x,
                    b: partner,
                    by,
                })
            })
            .collect();
        left.retain(|x| !found.iter().any(|pair| pair.a.id == x.id));
        right.retain(|y| !found.iter().any(|pair| pair.b.id == y.id));
        pairs.extend(found);
    }
    let place = |test: &TestReport| a.tests.iter().position(|t| t.id == test.id);
    pairs.sort_by_key(|pair: &Pair<'_>| place(pair.a));
    Matched {
        pairs,
        only_in_a: left.iter().map(|test| test.id.clone()).collect(),
        only_in_b: right.iter().map(|test| test.id.clone()).collect(),
    }
}

/// Whether two tests ask the same of the same agents.
fn same_configuration(a: &TestReport, b: &TestReport) -> bool {
    a.max_concurrent == b.max_concurrent
        && a.topology == b.topology
        && a.agents.len() == b.agents.len()
        && a.agents.iter().zip(&b.agents).all(|(x, y)| asks_like(x, y))
}

/// Whether two agents are asked the same: all of their configuration counts but what names an agent
/// (`x` takes over the name of `y`) and which instance it is pinned to, since a port says nothing about
/// the work.
fn asks_like(x: &AgentConfig, y: &AgentConfig) -> bool {
    let renamed = AgentConfig {
        agent: y.agent.clone(),
        instance: y.instance.clone(),
        ..x.clone()
    };
    renamed == *y
}

/// Whether two experiments ran the same plan, so that run k of the one belongs to run k of the other.
///
/// # Errors
/// Why not.
pub(super) fn same_plan(a: &Report, b: &Report, matched: &Matched<'_>) -> Result<(), String> {
    match (a.seed, b.seed) {
        (Some(a), Some(b)) if a == b => {}
        (Some(a), Some(b)) => return Err(format!("the seeds differ ({a} and {b})")),
        _ => return Err("an experiment without a seed has no order to pair by".to_owned()),
    }
    if a.workload != b.workload {
        return Err("the workloads differ".to_owned());
    }
    let whole = matched.only_in_a.is_empty() && matched.only_in_b.is_empty();
    let alike = |pair: &Pair<'_>| pair.by == MatchedBy::Configuration && pair.a.id == pair.b.id;
    // Configurations that occur twice are told apart by id and label; the plan is still the same.
    let twin =
        |pair: &Pair<'_>| pair.by == MatchedBy::IdAndLabel && same_configuration(pair.a, pair.b);
    if !whole || !matched.pairs.iter().all(|pair| alike(pair) || twin(pair)) {
        return Err("the plans differ".to_owned());
    }
    Ok(())
}

/// What differs besides the tests.
pub(super) fn caveats(a: &Report, b: &Report) -> Vec<String> {
    let (x, y) = (&a.environment, &b.environment);
    let engine = |e: &crate::report::Environment| e.engine.as_ref().map(Engine::in_words);
    let facts = [
        ("hosts", x.host.clone(), y.host.clone()),
        ("processors", x.cpu.clone(), y.cpu.clone()),
        (
            "numbers of cores",
            x.cores.map(|cores| cores.to_string()),
            y.cores.map(|cores| cores.to_string()),
        ),
        ("engines", engine(x), engine(y)),
        ("models", x.model.clone(), y.model.clone()),
        (
            "model digests",
            x.model_digest.clone(),
            y.model_digest.clone(),
        ),
        (
            "workloads",
            a.workload.as_ref().map(|w| w.template.clone()),
            b.workload.as_ref().map(|w| w.template.clone()),
        ),
    ];
    let limits = a.slo.zip(b.slo).filter(|(a, b)| a != b);
    let limits = limits.map(|(a, b)| {
        format!("The limits of [slo] differ, so that goodput is not compared: {a}; and {b}.")
    });
    facts
        .into_iter()
        .filter_map(|(what, a, b)| match (a, b) {
            (Some(a), Some(b)) if a != b => Some(format!("The {what} differ: {a} and {b}.")),
            _ => None,
        })
        .chain(limits)
        .collect()
}
