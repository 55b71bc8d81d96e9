//! Sections 6.3 and 6.4: context, length of the answers, and the idle tail.

use std::collections::BTreeMap;

use super::group::{self, Varied};
use super::{By, Cell, Draft, Form, Table};
use crate::report::{Report, RunReport, TestReport};
use crate::stats::{Provenance, Summary};
use crate::tr110::figures::{self, valid};

fn provenance<'t>(tests: impl IntoIterator<Item = &'t TestReport>) -> Provenance {
    let imported = tests
        .into_iter()
        .flat_map(valid)
        .any(|run| run.tr110.is_some());
    if imported {
        Provenance::Imported
    } else {
        Provenance::Measured
    }
}

/// Output tokens of each agent in each valid run.
fn lengths<'t>(tests: impl IntoIterator<Item = &'t TestReport>) -> Vec<f64> {
    tests
        .into_iter()
        .flat_map(valid)
        .flat_map(|run| &run.agents)
        .filter_map(|agent| agent.output_tokens.map(|tokens| tokens as f64))
        .collect()
}

/// Section 6.3.
pub(super) fn context(report: &Report) -> Table {
    let mut draft = Draft::new(
        "6.3",
        "Context length",
        "TR110 compares tests of different temperatures and explains the difference by longer answers at \
         larger contexts; here tests of equal agents differ in num_ctx alone, and the length of the answers \
         stands beside them.",
    )
    .columns(By::Row, &["Test", "num_gpu", "Temperature", "num_ctx"])
    .columns(By::Tr110, &["Speed-up", "Efficiency"])
    .columns(
        By::Ours,
        &[
            "Output tokens of an agent",
            "Wall s",
            "Concurrency gain (95 %)",
        ],
    );
    for group in group::series(report, Varied::Context) {
        for (value, test) in group {
            let theirs = figures::of_test(test);
            let tokens = Summary::of(
                &lengths([test]),
                provenance([test]),
                "tokens were not counted",
            );
            draft.row([
                Cell::text(group::name(report, test)),
                Cell::text(group::layers(test)),
                Cell::text(group::temperature(test)),
                Cell::text(value.to_string()),
                Cell::mean(&theirs.speedup, Form::Fixed(3)),
                Cell::mean(&theirs.efficiency, Form::Percent(1)),
                Cell::mean(&tokens, Form::Fixed(0)),
                Cell::mean(&test.aggregate.wall_s, Form::Significant),
                Cell::interval(&test.aggregate.concurrency_gain),
            ]);
        }
    }
    draft.finish("no two tests of equal agents differ in num_ctx alone")
}

/// Section 6.4.
pub(super) fn idle_tail(report: &Report) -> Table {
    let mut draft = Draft::new(
        "6.4",
        "Spread of the answers' lengths, and the idle tail",
        "TR110 calls the idle tail over the wall time a loss of efficiency; with two agents its own formula \
         loses half of it. Lengths vary between single runs, so tests of one temperature are pooled. Our \
         gain does not count a longer answer as a loss: it compares equal work.",
    )
    .columns(By::Row, &["Temperature", "Tests", "Agents in runs"])
    .columns(
        By::Tr110,
        &[
            "Std dev of length, tokens",
            "CV of length",
            "Idle tail s",
            "Idle tail of wall",
            "Efficiency",
        ],
    )
    .columns(By::Ours, &["Efficiency"]);
    let mut by_temperature: BTreeMap<String, Vec<&TestReport>> = BTreeMap::new();
    for test in report.tests.iter().filter(|test| test.agents.len() > 1) {
        if group::is_alike(test)
            && test.runs_valid > 0
            && let Some(temperature) = group::reference(test).and_then(|o| o.temperature)
        {
            // Keyed as text: it is how the spec writes it, and floats have no order of their own.
            by_temperature
                .entry(format!("{temperature:08.3}"))
                .or_default()
                .push(test);
        }
    }
    for tests in by_temperature.into_values() {
        let lengths = lengths(tests.iter().copied());
        let own = provenance(tests.iter().copied());
        let spread = Summary::of(&lengths, own, "tokens were not counted");
        let idle = |of: fn(&RunReport) -> Option<f64>| {
            let runs = tests.iter().flat_map(|test| valid(test));
            let values: Vec<f64> = runs.filter_map(of).collect();
            let provenance = if own == Provenance::Imported {
                // That all agents started at once is not in the files.
                Provenance::Estimated
            } else {
                own
            };
            Summary::of(&values, provenance, "durations are not known")
        };
        draft.row([
            Cell::text(
                tests
                    .first()
                    .map_or_else(String::new, |t| group::temperature(t)),
            ),
            Cell::text(group::ids(tests.iter().copied())),
            Cell::text(lengths.len().to_string()),
            Cell::number(spread.sd, Form::Fixed(0), own, "needs two counted answers"),
            Cell::number(
                spread.cv,
                Form::Percent(1),
                own,
                "needs two counted answers",
            ),
            Cell::mean(&idle(|run| run.idle_tail_s), Form::Significant),
            Cell::mean(
                &idle(|run| Some(run.idle_tail_s? / run.wall_s?)),
                Form::Percent(1),
            ),
            Cell::mean(
                &group::over(tests.iter().copied(), group::balance),
                Form::Percent(1),
            ),
            Cell::mean(
                &group::over(tests.iter().copied(), group::efficiency),
                Form::Percent(1),
            ),
        ]);
    }
    draft.finish("no test of two or more equal agents states a temperature")
}
