//! Sections 3.1 to 3.3: every test of a scenario.

use super::group::{self, of_scenario};
use super::{By, Cell, Draft, Form, Table};
use crate::report::{Report, TestReport};
use crate::stats::{Provenance, Summary};
use crate::tr110::figures::{self, valid};

const NOTE: &str = "TR110's speed-up sums durations taken while the agents run together, so it is balance; \
    the concurrency gain divides the time alone by the time together. TR110's TTFT delta is first agent \
    minus second and its throughput delta second minus first; our TTFT delta is second minus first.";

/// The tables of the three scenarios, and one of any other tests.
pub(super) fn tables(report: &Report) -> Vec<Table> {
    let known = [
        (
            "3.1",
            "baseline_vs_chimera",
            "Baseline beside optimised agents",
        ),
        ("3.2", "chimera_hetero", "Optimised agents that differ"),
        ("3.3", "chimera_homo", "Optimised agents that are alike"),
    ];
    let mut tables: Vec<Table> = known
        .iter()
        .map(|(id, scenario, title)| {
            let tests: Vec<&TestReport> = of_scenario(report, scenario).collect();
            table(report, id, title, &tests).finish(&format!(
                "no test of the scenario {scenario} in this report"
            ))
        })
        .collect();
    let others: Vec<&TestReport> = report
        .tests
        .iter()
        .filter(|test| {
            known
                .iter()
                .all(|(_, scenario, _)| *scenario != test.scenario)
        })
        .collect();
    if !others.is_empty() {
        let mut other = table(report, "3.x", "Tests of other scenarios", &others).finish("");
        "3".clone_into(&mut other.tr110_section);
        tables.push(other);
    }
    tables
}

fn table(report: &Report, id: &str, title: &str, tests: &[&TestReport]) -> Draft {
    let mut draft = Draft::new(id, title, NOTE)
        .columns(By::Row, &["Test", "num_gpu", "num_ctx", "Temperature"])
        .columns(
            By::Tr110,
            &[
                "Speed-up",
                "Efficiency",
                "TTFT delta ms (first - second)",
                "Throughput delta tokens/s (second - first)",
                "Contention runs",
            ],
        )
        .columns(
            By::Ours,
            &[
                "Concurrency gain (95 %)",
                "Efficiency",
                "TTFT delta ms (second - first)",
                "Tokens/s together",
            ],
        );
    for test in tests {
        let theirs = figures::of_test(test);
        let (count, of) = theirs.contention;
        draft.row([
            Cell::text(group::name(report, test)),
            Cell::text(group::layers(test)),
            Cell::text(group::context(test)),
            Cell::text(group::temperature(test)),
            Cell::mean(&theirs.speedup, Form::Fixed(3)),
            Cell::mean(&theirs.efficiency, Form::Percent(1)),
            Cell::mean(&theirs.ttft_delta_ms, Form::Signed(0)),
            Cell::mean(&theirs.throughput_delta, Form::Signed(2)),
            Cell::Share {
                count,
                of,
                provenance: theirs.speedup.provenance,
            },
            Cell::interval(&test.aggregate.concurrency_gain),
            Cell::mean(&test.aggregate.parallel_efficiency, Form::Percent(1)),
            Cell::mean(&ttft_delta(test), Form::Signed(0)),
            Cell::mean(&test.aggregate.aggregate_tokens_per_s, Form::Significant),
        ]);
    }
    draft
}

/// Second agent minus first, over the valid runs.
fn ttft_delta(test: &TestReport) -> Summary {
    let values: Vec<f64> = valid(test)
        .filter_map(|run| run.agents.get(1)?.delta.as_ref()?.ttft_ms)
        .collect();
    let provenance = if valid(test).any(|run| run.tr110.is_some()) {
        Provenance::Imported
    } else {
        Provenance::Measured
    };
    Summary::of(&values, provenance, "needs two agents")
}
