//! Sections 5.1 to 5.3 and 6.1: how TR110's speed-up is distributed.

use super::group::{self, Varied, balance, of_scenario, over};
use super::{By, Cell, Draft, Form, Table};
use crate::report::{Report, TestReport};
use crate::tr110::figures;

/// Edges of TR110's bands of the speed-up of two agents, as parts of the number of agents.
const EDGES: [(f64, f64); 6] = [
    (f64::NEG_INFINITY, 0.70),
    (0.70, 0.80),
    (0.80, 0.90),
    (0.90, 0.975),
    (0.975, 1.0),
    (1.0, f64::INFINITY),
];
/// Efficiency above which TR110 counts a configuration.
const HIGH: f64 = 0.95;
/// Smallest over largest `num_gpu` from which agents that differ count as balanced.
const BALANCED: f64 = 0.8;
/// TR110's "simple" configurations ask for at most this many layers.
const SIMPLE_LAYERS: u32 = 80;

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Section 5.1.
pub(super) fn distribution(report: &Report) -> Table {
    let mut draft = Draft::new(
        "5.1",
        "Distribution of the speed-up over tests",
        "Bands are TR110's for two agents (1.40, 1.60, 1.80, 1.95, 2.00), in proportion for other numbers; \
         2.00 is no ceiling of the hardware but of the formula, which cannot exceed the number of agents, \
         and the gain beside it can lie in any band.",
    )
    .columns(By::Row, &["Of two agents", "Efficiency"])
    .columns(By::Tr110, &["Tests", "Which"])
    .columns(By::Ours, &["Tests by concurrency gain", "Which"]);
    type Of = fn(&TestReport) -> crate::stats::Summary;
    let with = |of: Of| -> Vec<(f64, &TestReport)> {
        let tests = report.tests.iter().filter(|test| test.agents.len() > 1);
        tests
            .filter_map(|test| Some((of(test).value?, test)))
            .collect()
    };
    let (theirs, ours) = (with(group::balance), with(group::efficiency));
    if theirs.is_empty() && ours.is_empty() {
        return draft.finish("no test of two or more agents has a valid run");
    }
    let inside = |all: &[(f64, &TestReport)], of: Of, low: f64, high: f64| {
        let provenance = over(all.iter().map(|(_, test)| *test), of).provenance;
        let own: Vec<&TestReport> = all
            .iter()
            // 1.0 itself is the best that the formula can give, and belongs to the band below it.
            .filter(|(value, _)| {
                let above = if low >= 1.0 {
                    *value > low
                } else {
                    *value >= low
                };
                above && (*value < high || (high - 1.0).abs() < f64::EPSILON && *value <= high)
            })
            .map(|(_, test)| *test)
            .collect();
        let share = Cell::Share {
            count: number(own.len()),
            of: number(all.len()),
            provenance,
        };
        (share, Cell::text(group::ids(own)))
    };
    for (low, high) in EDGES {
        let band = |scale: f64, decimals: usize| match (low.is_finite(), high.is_finite()) {
            (false, _) => format!("below {:.decimals$}", high * scale),
            (_, false) => format!("above {:.decimals$}", low * scale),
            _ => format!("{:.decimals$} to {:.decimals$}", low * scale, high * scale),
        };
        let (count, which) = inside(&theirs, group::balance, low, high);
        let (gain_count, gain_which) = inside(&ours, group::efficiency, low, high);
        draft.row([
            Cell::text(band(2.0, 2)),
            Cell::text(format!("{} %", band(100.0, 1))),
            count,
            which,
            gain_count,
            gain_which,
        ]);
    }
    draft.finish("")
}

/// What TR110 calls the complexity of a configuration, and the rule behind it.
fn complexity_of(test: &TestReport) -> &'static str {
    if test.scenario == "baseline_vs_chimera" {
        return "mixed: baseline beside optimised";
    }
    if group::is_alike(test) {
        let layers = group::reference(test).and_then(|options| options.num_gpu);
        return match layers {
            Some(layers) if layers > SIMPLE_LAYERS => "alike, num_gpu above 80",
            _ => "simple: alike, num_gpu up to 80 or not set",
        };
    }
    let layers: Vec<u32> = test
        .agents
        .iter()
        .filter_map(|agent| agent.options.num_gpu)
        .collect();
    match (layers.iter().min(), layers.iter().max()) {
        (Some(low), Some(high)) if f64::from(*low) < BALANCED * f64::from(*high) => {
            "complex: different, imbalanced"
        }
        _ => "moderate: different, balanced",
    }
}

/// Section 5.2.
pub(super) fn complexity(report: &Report) -> Table {
    let mut draft = Draft::new(
        "5.2",
        "Efficiency by complexity of the configuration",
        "TR110 does not say when agents that differ are balanced; here they are where the smallest num_gpu \
         is at least 0.8 of the largest. Mean and spread are over tests, as in TR110; its efficiency is \
         balance, ours is the gain over the number of agents.",
    )
    .columns(By::Row, &["Configurations", "Tests"])
    .columns(By::Tr110, &["Mean efficiency", "Std dev"])
    .columns(By::Ours, &["Mean efficiency", "Std dev"]);
    for name in [
        "simple: alike, num_gpu up to 80 or not set",
        "alike, num_gpu above 80",
        "moderate: different, balanced",
        "complex: different, imbalanced",
        "mixed: baseline beside optimised",
    ] {
        let tests: Vec<&TestReport> = report
            .tests
            .iter()
            .filter(|test| test.agents.len() > 1 && test.runs_valid > 0)
            .filter(|test| complexity_of(test) == name)
            .collect();
        if tests.is_empty() {
            continue;
        }
        let theirs = over(tests.iter().copied(), balance);
        let ours = over(tests.iter().copied(), group::efficiency);
        let spread = |summary: &crate::stats::Summary| {
            Cell::number(
                summary.sd,
                Form::Percent(1),
                summary.provenance,
                "needs two tests",
            )
        };
        draft.row([
            Cell::text(name),
            Cell::text(group::ids(tests)),
            Cell::mean(&theirs, Form::Percent(1)),
            spread(&theirs),
            Cell::mean(&ours, Form::Percent(1)),
            spread(&ours),
        ]);
    }
    draft.finish("no test of two or more agents has a valid run")
}

/// Section 5.3.
pub(super) fn temperature(report: &Report) -> Table {
    let mut draft = Draft::new(
        "5.3",
        "Temperature",
        "TR110 shows one context only; here is every group of tests of equal agents that differ in \
         temperature alone. Temperature changes how much agents write, and unequal lengths lower its \
         speed-up; the gain is per unit of work where lengths differ.",
    )
    .columns(By::Row, &["Test", "num_gpu", "num_ctx", "Temperature"])
    .columns(
        By::Tr110,
        &[
            "Speed-up",
            "Efficiency",
            "Throughput delta tokens/s (second - first)",
        ],
    )
    .columns(By::Ours, &["Concurrency gain (95 %)", "Tokens/s together"]);
    for group in group::series(report, Varied::Temperature) {
        for (value, test) in group {
            let theirs = figures::of_test(test);
            draft.row([
                Cell::text(group::name(report, test)),
                Cell::text(group::layers(test)),
                Cell::text(group::context(test)),
                Cell::text(value.to_string()),
                Cell::mean(&theirs.speedup, Form::Fixed(3)),
                Cell::mean(&theirs.efficiency, Form::Percent(1)),
                Cell::mean(&theirs.throughput_delta, Form::Signed(2)),
                Cell::interval(&test.aggregate.concurrency_gain),
                Cell::mean(&test.aggregate.aggregate_tokens_per_s, Form::Significant),
            ]);
        }
    }
    draft.finish("no two tests of equal agents differ in temperature alone")
}

/// Section 6.1.
pub(super) fn hierarchy(report: &Report) -> Table {
    let mut draft = Draft::new(
        "6.1",
        "Efficiency by scenario",
        "Agents that are alike write equally much and end together, so TR110's efficiency is high for them \
         by construction; ours compares with the same agents alone.",
    )
    .columns(By::Row, &["Scenario"])
    .columns(
        By::Tr110,
        &["Mean efficiency", "Std dev", "Peak", "Tests above 95 %"],
    )
    .columns(By::Ours, &["Mean efficiency", "Peak", "Tests above 95 %"]);
    for scenario in group::scenarios(report) {
        let tests: Vec<&TestReport> = of_scenario(report, scenario)
            .filter(|test| test.agents.len() > 1 && test.runs_valid > 0)
            .collect();
        if tests.is_empty() {
            continue;
        }
        type Of = fn(&TestReport) -> crate::stats::Summary;
        let peak = |of: Of| -> (Cell, Cell) {
            let values: Vec<f64> = tests.iter().filter_map(|test| of(test).value).collect();
            let provenance = over(tests.iter().copied(), of).provenance;
            let peak = values.iter().copied().max_by(f64::total_cmp);
            let high = values.iter().filter(|value| **value > HIGH).count();
            (
                Cell::number(peak, Form::Percent(1), provenance, "no test has it"),
                Cell::Share {
                    count: number(high),
                    of: number(values.len()),
                    provenance,
                },
            )
        };
        let theirs = over(tests.iter().copied(), balance);
        let ours = over(tests.iter().copied(), group::efficiency);
        let (their_peak, their_high) = peak(balance);
        let (our_peak, our_high) = peak(group::efficiency);
        draft.row([
            Cell::text(scenario),
            Cell::mean(&theirs, Form::Percent(1)),
            Cell::number(
                theirs.sd,
                Form::Percent(1),
                theirs.provenance,
                "needs two tests",
            ),
            their_peak,
            their_high,
            Cell::interval(&ours),
            our_peak,
            our_high,
        ]);
    }
    draft.finish("no test of two or more agents has a valid run")
}
