//! What makes a plan grow: `select`, by which a phase takes over what an earlier one shows to be
//! best, and `until`, by which a test is repeated until an interval is narrow.

use super::super::error::Sink;
use super::super::node::{Kind, quote};
use super::super::phase::{AgentSpec, Agents, Phase, Scenario};
use super::super::reader::{Item, Table};
use super::MAX_RUNS;
use super::phase::Context;
use super::slo;
use crate::metric::Metric;
use crate::plan::{Goal, Select};

/// Narrowest and widest interval that may be asked for, half of it over the mean.
const HALF_WIDTHS: std::ops::RangeInclusive<f64> = 0.001..=1.0;

const EXAMPLE: &str = "select = \"best of previous by concurrency_gain\"";

/// Where the parts of a selection stand.
pub(super) struct SelectAt<'n> {
    whole: Item<'n>,
    by: Item<'n>,
    scenario: Option<Item<'n>>,
}

/// Reads `select`, a text or a table. The options are not yet filled in.
pub(super) fn select<'n>(
    item: &Item<'n>,
    context: &Context<'_>,
    sink: &mut Sink,
) -> Option<(Select, SelectAt<'n>)> {
    let previous = context.number.saturating_sub(1);
    if previous == 0 {
        item.fault(
            "the first phase has none before it to take anything from",
            "move select to a later phase",
            sink,
        );
        return None;
    }
    let (from, by, by_at, scenario, scenario_at) = match &item.node.kind {
        Kind::Text(text) => {
            let (from, by) = sentence(item, text, previous, sink)?;
            (from, by, item.clone(), None, None)
        }
        _ => {
            let mut table = item.table(sink)?;
            let from = match table.take("from") {
                Some(from) => from.whole(1..=previous, sink),
                None => Some(previous),
            };
            let by_at = table.need("by", "\"concurrency_gain\"", sink);
            let by = by_at.as_ref().and_then(|i| metric(i, sink));
            let scenario_at = table.take("scenario");
            let scenario = match &scenario_at {
                Some(i) => Some(i.one_of(&Scenario::ALL, sink)?),
                None => None,
            };
            table.finish(sink);
            (from?, by?, by_at?, scenario, scenario_at)
        }
    };
    let select = Select {
        from_phase: from,
        scenario: scenario.map(|s| s.as_str().to_owned()),
        by,
        options: Vec::new(),
    };
    let at = SelectAt {
        whole: item.clone(),
        by: by_at,
        scenario: scenario_at,
    };
    Some((select, at))
}

/// `best of previous by METRIC`, `best of phase N by METRIC`.
fn sentence(item: &Item<'_>, text: &str, previous: u32, sink: &mut Sink) -> Option<(u32, Metric)> {
    let words: Vec<&str> = text.split_whitespace().take(7).collect();
    let (from, by) = match words.as_slice() {
        ["best", "of", "previous", "by", by] => (previous, *by),
        ["best", "of", "phase", number, "by", by] => {
            let from = number.parse().ok().filter(|n| (1..=previous).contains(n));
            if from.is_none() {
                let hint = format!("allowed: 1 to {previous}");
                let problem = format!("{} is not an earlier phase", quote(number));
                item.fault(problem, &hint, sink);
            }
            (from?, *by)
        }
        _ => {
            let problem = format!("{} cannot be read", quote(text));
            let hint =
                "as in \"best of previous by concurrency_gain\" or \"best of phase 1 by wall_s\"";
            item.fault(problem, hint, sink);
            return None;
        }
    };
    Some((from, item.known_word(by, &metrics(), sink)?))
}

fn metrics() -> Vec<(&'static str, Metric)> {
    Metric::ALL.into_iter().map(|m| (m.name(), m)).collect()
}

fn metric(item: &Item<'_>, sink: &mut Sink) -> Option<Metric> {
    item.one_of(&metrics(), sink)
}

/// Reads `until` for tests that have this many runs anyway.
pub(super) fn until(
    mut table: Table<'_>,
    runs: Option<u32>,
    context: &Context<'_>,
    sink: &mut Sink,
) -> Option<Goal> {
    let by = table.need("metric", "\"concurrency_gain\"", sink);
    let metric = by.as_ref().and_then(|i| self::metric(i, sink));
    let half = table.need("relative_half_width", "0.05", sink);
    let half = half.and_then(|i| i.real(HALF_WIDTHS, sink));
    let most_at = table.need("max_runs", "20", sink);
    let most = most_at.as_ref().and_then(|i| i.whole(2..=MAX_RUNS, sink));
    table.finish(sink);
    if let (Some(item), Some(metric)) = (&by, metric) {
        needs_solo(item, metric, context, sink);
        slo::needs(item, metric, context.slo, sink);
    }
    if let (Some(item), Some(most), Some(runs)) = (&most_at, most, runs)
        && most <= runs
    {
        let problem = format!("max_runs = {most} leaves nothing to repeat after runs = {runs}");
        item.fault(problem, "raise max_runs or lower runs", sink);
    }
    Some(Goal {
        metric: metric?,
        relative_half_width: half?,
        max_runs: most?,
    })
}

fn needs_solo(item: &Item<'_>, metric: Metric, context: &Context<'_>, sink: &mut Sink) {
    if context.solo == Some(false) && metric.needs_solo() {
        let problem = format!("{} compares with solo legs", metric.name());
        let hint = "set [solo] enabled = true, or name another metric";
        item.fault(problem, hint, sink);
    }
}

/// Notes what a phase asks of an earlier one that it does not have.
///
/// `best_at` is the first option of the phase that is `best`.
pub(super) fn check(
    phase: &Phase,
    at: Option<&SelectAt<'_>>,
    best_at: Option<&Item<'_>>,
    context: &Context<'_>,
    sink: &mut Sink,
) {
    let (select, at) = match (phase.select(), at, best_at) {
        (None, _, Some(item)) => {
            let hint = format!("say it in the phase, as in {EXAMPLE}");
            item.fault("best of which phase, by which metric?", &hint, sink);
            return;
        }
        (Some(_), Some(at), None) => {
            let hint =
                "write \"best\" for each option that is to be taken over, as in num_gpu = \"best\"";
            at.whole
                .fault("no option of this phase is \"best\"", hint, sink);
            return;
        }
        (Some(select), Some(at), Some(_)) => (select, at),
        _ => return,
    };
    needs_solo(&at.by, select.by, context, sink);
    slo::needs(&at.by, select.by, context.slo, sink);
    let Some(from) = context.phase(select.from_phase) else {
        return;
    };
    let number = select.from_phase;
    if let (Some(item), Some(scenario)) = (&at.scenario, &select.scenario)
        && !from.scenarios().iter().any(|s| s.as_str() == scenario)
    {
        let has: Vec<&str> = from.scenarios().iter().map(|s| s.as_str()).collect();
        let hint = format!("it has: {}", has.join(", "));
        item.fault(format!("phase {number} has no {scenario:?}"), &hint, sink);
    }
    for axis in phase.grid().iter().filter(|axis| axis.is_best()) {
        let key = axis.key();
        let name = key.as_str();
        if !from.grid().iter().any(|a| a.key() == key) {
            let problem = format!("phase {number} neither varies nor sets {name}");
            let hint = format!("list values of {name} there, or give one here");
            at.whole.fault(problem, &hint, sink);
        } else if read_from(from).is_some_and(|a| a.options().iter().any(|s| s.key() == key)) {
            let problem =
                format!("the agent of phase {number} that {name} is read from overrides it");
            let hint =
                "the last agent is read, the first of \"chimera_hetero\": drop its own value";
            at.whole.fault(problem, hint, sink);
        }
    }
}

/// The listed agent that [`crate::plan::choose`] reads options from.
fn read_from(from: &Phase) -> Option<&AgentSpec> {
    match from.agents() {
        Agents::Alike(_) => None,
        Agents::Listed(list) if from.scenarios().contains(&Scenario::ChimeraHetero) => list.first(),
        Agents::Listed(list) => list.last(),
    }
}
