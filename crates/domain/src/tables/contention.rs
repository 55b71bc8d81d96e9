//! Sections 4.1, 4.2 and 6.5: how often TR110's contention flag is set.

use std::collections::BTreeSet;

use super::group::{self, of_scenario, over};
use super::memory;
use super::{By, Cell, Draft, Form, Table};
use crate::report::{Report, TestReport};
use crate::stats::Provenance;
use crate::tr110::figures::{self, valid};

const NOTE: &str = "TR110's flag is 'speed-up below 1.5', so it counts unequal durations, not contention; \
    ours counts the runs in which the agents need longer together than one after the other, and says how \
    much longer each takes than alone.";
const GB: f64 = 1e9;

/// Flags over tests: runs with it, runs that say.
fn flags<'t>(tests: impl IntoIterator<Item = &'t TestReport>) -> Cell {
    let (mut count, mut of, mut provenance) = (0_u32, 0_u32, Provenance::Measured);
    for test in tests {
        let theirs = figures::of_test(test);
        count = count.saturating_add(theirs.contention.0);
        of = of.saturating_add(theirs.contention.1);
        provenance = provenance.max(theirs.speedup.provenance);
    }
    Cell::Share {
        count,
        of,
        provenance,
    }
}

/// Runs that cost time, of those with a gain.
fn losses(tests: &[&TestReport]) -> Cell {
    let gains: Vec<f64> = tests
        .iter()
        .flat_map(|test| valid(test))
        .filter_map(|run| run.concurrency_gain)
        .collect();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Cell::Share {
        count: number(gains.iter().filter(|gain| **gain < 1.0).count()),
        of: number(gains.len()),
        provenance: group::over(tests.iter().copied(), group::gain).provenance,
    }
}

fn contended(test: &TestReport) -> bool {
    figures::of_test(test).contention.0 > 0
}

/// Section 4.1.
pub(super) fn by_scenario(report: &Report) -> Table {
    let mut draft = Draft::new("4.1", "Contention by scenario", NOTE)
        .columns(By::Row, &["Scenario"])
        .columns(
            By::Tr110,
            &[
                "Tests with contention",
                "Contention runs",
                "Mean TTFT delta ms (first - second)",
            ],
        )
        .columns(By::Ours, &["Runs with a gain below 1", "Slowdown"]);
    for scenario in group::scenarios(report) {
        let tests: Vec<&TestReport> = of_scenario(report, scenario)
            .filter(|test| test.runs_valid > 0)
            .collect();
        if tests.is_empty() {
            continue;
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let ttft = over(tests.iter().copied(), |test| {
            figures::of_test(test).ttft_delta_ms
        });
        draft.row([
            Cell::text(scenario),
            Cell::Share {
                count: number(tests.iter().filter(|test| contended(test)).count()),
                of: number(tests.len()),
                provenance: over(tests.iter().copied(), group::balance).provenance,
            },
            flags(tests.iter().copied()),
            Cell::mean(&ttft, Form::Signed(0)),
            losses(&tests),
            Cell::interval(&over(tests.iter().copied(), |test| {
                test.aggregate.slowdown.clone()
            })),
        ]);
    }
    draft.finish("no test has a valid run")
}

/// Section 4.2.
pub(super) fn by_layers(report: &Report) -> Table {
    let scenarios = group::scenarios(report);
    let mut draft = Draft::new(
        "4.2",
        "Contention by layers asked onto the GPU",
        format!(
            "{NOTE} A test counts under the num_gpu of its first agent, beside a baseline agent under the \
             last one's."
        ),
    )
    .columns(By::Row, &["num_gpu"])
    .columns(By::Tr110, &scenarios)
    .columns(By::Ours, &["Runs with a gain below 1", "Concurrency gain"]);
    let asked: BTreeSet<u32> = report.tests.iter().filter_map(layers).collect();
    for value in asked {
        let tests: Vec<&TestReport> = report
            .tests
            .iter()
            .filter(|test| layers(test) == Some(value))
            .collect();
        let of = scenarios.iter().map(|scenario| {
            let own = tests.iter().filter(|test| test.scenario == **scenario);
            flags(own.copied())
        });
        let mut row = vec![Cell::text(value.to_string())];
        row.extend(of);
        row.push(losses(&tests));
        row.push(Cell::interval(&over(tests.iter().copied(), group::gain)));
        draft.row(row);
    }
    draft.finish("no test sets num_gpu: where layers go was left to the engine")
}

fn layers(test: &TestReport) -> Option<u32> {
    group::reference(test)?.num_gpu
}

/// Section 6.5. Bands are TR110's: below 8 GB, 8 to 10 GB and above, in all agents together.
pub(super) fn by_memory(report: &Report) -> Table {
    let mut draft = Draft::new(
        "6.5",
        "Contention by GPU memory",
        "TR110 saw a phase transition over memory that it had estimated, and its printed estimates do not \
         follow from its printed formula; here each test stands in the band of the formula (B.2), and in \
         that of the memory that the engines state, where they do, and those of what telemetry saw at its \
         highest while the agents ran.",
    )
    .columns(By::Row, &["Memory of all agents", "By", "Tests"])
    .columns(
        By::Tr110,
        &["Contention runs", "Mean TTFT delta ms (first - second)"],
    )
    .columns(By::Ours, &["Runs with a gain below 1", "Slowdown"]);
    let bands = [
        ("below 8 GB", 0.0, 8.0),
        ("8 to 10 GB", 8.0, 10.0),
        ("above 10 GB", 10.0, f64::INFINITY),
    ];
    type Memory = fn(&TestReport) -> Option<f64>;
    let ways: [(&str, Memory); 4] = [
        ("TR110's formula (estimated)", memory::estimated_bytes),
        ("the engines (measured)", memory::measured_bytes),
        (
            "telemetry, engines' processes (measured)",
            memory::engines_bytes,
        ),
        ("telemetry, all in use (measured)", memory::in_use_bytes),
    ];
    for (way, bytes) in ways {
        for (band, low, high) in bands {
            let tests: Vec<&TestReport> = report
                .tests
                .iter()
                .filter(|test| test.runs_valid > 0)
                .filter(|test| bytes(test).is_some_and(|b| (low..high).contains(&(b / GB))))
                .collect();
            if tests.is_empty() {
                continue;
            }
            draft.row([
                Cell::text(band),
                Cell::text(way),
                Cell::text(group::ids(tests.iter().copied())),
                flags(tests.iter().copied()),
                Cell::mean(
                    &over(tests.iter().copied(), |test| {
                        figures::of_test(test).ttft_delta_ms
                    }),
                    Form::Signed(0),
                ),
                losses(&tests),
                Cell::interval(&over(tests.iter().copied(), |test| {
                    test.aggregate.slowdown.clone()
                })),
            ]);
        }
    }
    draft.finish(
        "no engine stated GPU memory, telemetry sampled none, and no test states both num_gpu and num_ctx for all its agents, \
         which TR110's formula needs",
    )
}
