//! The tables of the page: results, each test, what is invalid, where it was measured.

use serde::Serialize;

use super::view::{Cell, Table, clean, stamps};
use crate::render::statistics::{DISTRIBUTION, distributions_of, measured_and_missing};
use crate::report::number::{opt, text};
use crate::report::{Engine, Environment, Report, RunReport, TestReport};
use crate::stats::Summary;

/// A name and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    name: String,
    text: String,
}

/// A test with its tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct TestView {
    id: String,
    title: String,
    scenario: String,
    verdict: String,
    runs_text: String,
    folder: String,
    agents: Option<Table>,
    runs: Option<Table>,
    means: Option<Table>,
    statistics: Option<Table>,
    /// What was not measured, a line for each reason.
    missing: Vec<String>,
    distributions: Option<Table>,
}

/// Every test in a row.
pub(super) fn results(tests: &[TestReport]) -> Option<Table> {
    let mut table = Table::new(
        1,
        &[
            "Configuration",
            "Valid runs",
            "Gain",
            "Efficiency",
            "TR110 balance",
            "TTFT alone ms",
            "TTFT together ms",
            "Tokens/s of one alone",
            "Tokens/s together",
        ],
    );
    for test in tests {
        let a = &test.aggregate;
        let short = |summary: &Summary| Cell::number(summary.value, summary.provenance);
        table.row([
            Cell::words(&test.label),
            Cell::plain(format!("{} of {}", test.runs_valid, test.runs_attempted)),
            Cell::summary(&a.concurrency_gain).strong(),
            Cell::part(
                a.parallel_efficiency.value,
                a.parallel_efficiency.provenance,
            ),
            short(&a.tr110_speedup),
            short(&a.ttft_solo_ms),
            short(&a.ttft_ms),
            short(&a.solo_tokens_per_s),
            short(&a.aggregate_tokens_per_s),
        ]);
    }
    table.filled()
}

/// One test; `full` with its agents and statistics.
pub(super) fn test_view(test: &TestReport, full: bool) -> TestView {
    let (statistics, missing) = if full {
        statistics(test)
    } else {
        (None, Vec::new())
    };
    TestView {
        id: clean(&test.id),
        title: clean(&test.label),
        scenario: format!("phase {}, {}", test.phase, clean(&test.scenario)),
        verdict: clean(&test.verdict),
        runs_text: format!(
            "{} valid of {} attempted, {} planned",
            test.runs_valid, test.runs_attempted, test.runs_planned
        ),
        folder: clean(&test.folder),
        agents: full.then(|| agents(test)).flatten(),
        runs: runs(test),
        means: full.then(|| means(test)).flatten(),
        statistics,
        missing,
        distributions: full.then(|| distributions(test)).flatten(),
    }
}

fn agents(test: &TestReport) -> Option<Table> {
    let mut table = Table::new(
        4,
        &[
            "Agent",
            "Role",
            "Engine",
            "Model",
            "num_gpu",
            "num_ctx",
            "num_predict",
            "num_thread",
            "Temperature",
            "Seed",
        ],
    );
    for agent in &test.agents {
        let options = &agent.options;
        let asked = |value: Option<String>| {
            Cell::plain(value.unwrap_or_else(|| "engine\u{2019}s".to_owned()))
        };
        let count = |value: Option<u32>| asked(value.map(|value| value.to_string()));
        table.row([
            Cell::words(agent.agent.as_str()),
            Cell::words(agent.role.as_str()),
            Cell::words(agent.engine.as_str()),
            Cell::words(agent.model.as_deref().unwrap_or("not stated")),
            count(options.num_gpu),
            count(options.num_ctx),
            count(options.num_predict),
            count(options.num_thread),
            asked(options.temperature.map(|value| value.to_string())),
            asked(options.seed.map(|value| value.to_string())),
        ]);
    }
    table.filled()
}

fn runs(test: &TestReport) -> Option<Table> {
    let mut table = Table::new(
        1,
        &[
            "Run",
            "Gain",
            "Efficiency",
            "Wall s",
            "Alone, summed s",
            "Tokens/s together",
            "Slowdown per agent",
            "Overlap",
            "Idle tail s",
            "TR110 balance",
        ],
    );
    for run in &test.runs {
        let (own, stamps) = (run.gain_provenance, stamps(run));
        let name = Cell::words(run.run.to_string());
        let slowdowns: Vec<String> = run.agents.iter().map(|agent| opt(agent.slowdown)).collect();
        let slowdown = Cell::number(run.concurrency_gain, own).with_text(&slowdowns.join(" / "));
        table.row([
            match &run.invalid_reason {
                Some(reason) => name.with_more(format!("invalid: {reason}")),
                None => name,
            },
            Cell::number(run.concurrency_gain, own),
            Cell::part(run.parallel_efficiency, own),
            Cell::number(run.wall_s, stamps),
            Cell::number(run.solo_total_s, stamps),
            Cell::number(run.aggregate_tokens_per_s, stamps),
            slowdown,
            Cell::part(run.overlap_fraction, stamps),
            Cell::number(run.idle_tail_s, stamps),
            Cell::number(run.tr110_speedup, stamps),
        ]);
    }
    table.filled()
}

fn means(test: &TestReport) -> Option<Table> {
    let mut table = Table::new(
        1,
        &[
            "Agent",
            "Slowdown",
            "Together s",
            "Alone s",
            "TTFT together ms",
            "TTFT alone ms",
            "TPOT together ms",
            "TPOT alone ms",
            "Tokens/s together",
            "Tokens/s alone",
            "Quality",
        ],
    );
    for agent in test
        .aggregate
        .agents
        .iter()
        .filter(|agent| agent.duration_s.n > 0)
    {
        let figures = [
            &agent.slowdown,
            &agent.duration_s,
            &agent.solo_duration_s,
            &agent.ttft_ms,
            &agent.ttft_solo_ms,
            &agent.tpot_ms,
            &agent.tpot_solo_ms,
            &agent.tokens_per_s,
            &agent.solo_tokens_per_s,
            &agent.quality,
        ];
        let cells = figures.map(Cell::summary);
        table.row([Cell::words(agent.agent.as_str())].into_iter().chain(cells));
    }
    table.filled()
}

fn statistics(test: &TestReport) -> (Option<Table>, Vec<String>) {
    let (measured, missing) = measured_and_missing(&test.aggregate);
    let mut table = Table::new(1, &["Statistic", "Mean and 95 % interval", "sd", "n", "CV"]);
    for (name, summary) in measured {
        table.row([
            Cell::words(name),
            Cell::summary(summary),
            Cell::plain(opt(summary.sd)),
            Cell::plain(summary.n.to_string()),
            Cell::plain(
                summary
                    .cv
                    .map_or_else(|| "-".to_owned(), |cv| format!("{} %", text(cv * 100.0))),
            ),
        ]);
    }
    let missing = missing.iter().map(|line| clean(line)).collect();
    (table.filled(), missing)
}

fn distributions(test: &TestReport) -> Option<Table> {
    let mut table = Table::new(1, &DISTRIBUTION);
    for (name, n, figures) in distributions_of(&test.distributions) {
        let cells = figures.map(|value| Cell::measured(Some(value)));
        table.row(
            [Cell::words(name), Cell::plain(n.to_string())]
                .into_iter()
                .chain(cells),
        );
    }
    table.filled()
}

/// Every reason against a run, attempts given up for a later one included.
pub(super) fn invalid(tests: &[TestReport]) -> Option<Table> {
    let mut table = Table::new(4, &["Configuration", "Run", "Reason", "What was found"]);
    for test in tests {
        for run in &test.runs {
            invalid_run(&mut table, test, run);
        }
    }
    table.filled()
}

fn invalid_run(table: &mut Table, test: &TestReport, run: &RunReport) {
    for reason in &run.invalid {
        table.row([
            Cell::words(&test.label),
            Cell::words(run.run.to_string()),
            Cell::words(&reason.reason),
            Cell::words(&reason.detail),
        ]);
    }
    for leg in &run.legs {
        for earlier in &leg.earlier {
            let (reason, detail) = earlier.invalid.as_ref().map_or(
                ("not closed", "the attempt was given up without a verdict"),
                |why| (why.reason.as_str(), why.detail.as_str()),
            );
            table.row([
                Cell::words(&test.label),
                Cell::words(format!("{}, try {}", run.run, earlier.attempt))
                    .with_more(leg.leg.to_string()),
                Cell::words(reason),
                Cell::words(detail),
            ]);
        }
    }
}

/// What was found of the data itself.
pub(super) fn data_lines(report: &Report) -> Vec<Line> {
    let v = &report.validity;
    let line = |name: &str, text: String| Line {
        name: name.to_owned(),
        text,
    };
    vec![
        line(
            "Legs",
            format!(
                "{} valid of {} executed, {} planned",
                v.legs_valid, v.legs_attempted, v.legs_planned
            ),
        ),
        line(
            "Agent streams",
            format!(
                "{} of {} with every record; {} compared with their closing hash",
                v.streams_complete, v.streams, v.streams_hash_checked
            ),
        ),
        line(
            "Not counted",
            format!(
                "{} records of older attempts, {} of legs that were never planned, {} messages that could \
                 not be decoded",
                v.stale_dropped, v.stray_dropped, v.dead_letters
            ),
        ),
        line("Experiment", report.experiment.to_string()),
        line(
            "Seed",
            report
                .seed
                .map_or_else(|| "not known".to_owned(), |seed| seed.to_string()),
        ),
        line(
            "Workload",
            report
                .workload
                .as_ref()
                .map_or_else(|| "not known".to_owned(), |work| clean(&work.template)),
        ),
    ]
}

/// The machine and the software.
pub(super) fn environment(environment: &Environment) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: Option<String>| {
        lines.push(Line {
            name: name.to_owned(),
            text: value.map_or_else(|| "not known".to_owned(), |value| clean(&value)),
        });
    };
    line("Host", environment.host.clone());
    line("System", environment.os.clone());
    line("Processor", environment.cpu.clone());
    line("Cores", environment.cores.map(|cores| cores.to_string()));
    line(
        "Memory",
        environment
            .memory_bytes
            .map(|bytes| format!("{} GiB", gib(bytes))),
    );
    line("Engine", environment.engine.as_ref().map(Engine::in_words));
    line("Model", environment.model.clone());
    line("Model digest", environment.model_digest.clone());
    let gpu = environment.gpu.as_ref().map(|gpus| {
        let names = gpus.iter().map(|gpu| {
            let name = gpu.name.as_deref().unwrap_or("unnamed GPU");
            match gpu.memory_total_bytes {
                Some(bytes) => format!("{name} ({} GiB)", gib(bytes)),
                None => name.to_owned(),
            }
        });
        names.collect::<Vec<_>>().join(", ")
    });
    let none = environment
        .gpu_absent
        .as_ref()
        .map(|why| format!("none seen: {why}"));
    line("GPU", gpu.or(none));
    line("Chimera", environment.software.clone());
    line("Git revision", environment.git_revision.clone());
    lines
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn gib(bytes: u64) -> String {
    text(bytes as f64 / (1_u64 << 30) as f64)
}

/// Every instance in every state in which it was found.
pub(super) fn instances(environment: &Environment) -> Option<Table> {
    let mut table = Table::new(
        4,
        &[
            "Instance", "Address", "Node", "Model", "Context", "Slots", "Layers", "Process",
        ],
    );
    let known =
        |value: Option<u32>| Cell::plain(value.map_or_else(|| "-".to_owned(), |v| v.to_string()));
    for instance in &environment.instances {
        let facts = &instance.facts;
        table.row([
            Cell::words(instance.instance.as_str()),
            Cell::words(&facts.url),
            Cell::words(instance.node.as_str()),
            Cell::words(facts.model.as_deref().unwrap_or("-")),
            known(facts.context_length),
            known(facts.parallel_slots),
            known(facts.model_layers),
            known(facts.pid),
        ]);
    }
    table.filled()
}
