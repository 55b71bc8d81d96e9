//! Files to import: TR110's where they are there, else made here.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use chimera_domain::ids::ExperimentId;
use chimera_domain::report::{Report, TestReport};
use chimera_domain::tables::{self, Table};
use chimera_domain::tr110::{self, About, ImportError, RunFile, RunPath};
use serde_json::{Value, json};

pub(crate) fn about() -> About {
    About {
        experiment: ExperimentId::try_new("tr110-test").unwrap(),
        name: "tr110".to_owned(),
        software: Some("0.1.0 (test)".to_owned()),
        git_revision: None,
    }
}

/// TR110's own files, where this checkout has them beside it.
pub(crate) fn raw() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tr110");
    if folder.is_dir() {
        return Some(folder);
    }
    // Written past the test harness, which keeps what a passing test prints.
    let words = format!(
        "skipped: {} is not there; TR110's raw runs are no part of this repository\n",
        folder.display()
    );
    std::io::stderr().write_all(words.as_bytes()).unwrap();
    None
}

/// TR110's files as a report.
pub(crate) fn imported() -> Option<Report> {
    let folder = raw()?;
    let mut runs = Vec::new();
    for test in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = test.file_name().into_string().unwrap();
        let Some((phase, number)) = RunPath::of_test(&name) else {
            continue;
        };
        for run in std::fs::read_dir(test.path()).unwrap().map(Result::unwrap) {
            let own = run.file_name().into_string().unwrap();
            let path = RunPath {
                test: number,
                run: RunPath::of_run(&own).unwrap(),
                phase,
            };
            let file = format!("{name}/{own}/metrics.json");
            let bytes = std::fs::read(run.path().join("metrics.json")).unwrap();
            runs.push(tr110::parse(&file, path, &bytes).unwrap());
        }
    }
    Some(tr110::report(runs, about()).unwrap())
}

pub(crate) fn test<'r>(report: &'r Report, id: &str) -> &'r TestReport {
    report.tests.iter().find(|test| test.id == id).unwrap()
}

pub(crate) fn table(report: &Report, id: &str) -> Table {
    tables::all(report)
        .into_iter()
        .find(|table| table.id == id)
        .unwrap_or_else(|| panic!("no table {id}"))
}

/// The row of a table whose first cell reads so, as it is shown.
pub(crate) fn row(table: &Table, first: &str) -> Vec<String> {
    let rows = table
        .rows
        .iter()
        .map(|row| row.iter().map(|cell| cell.shown()));
    rows.map(|row| row.collect::<Vec<_>>())
        .find(|row| row[0] == first)
        .unwrap_or_else(|| panic!("no row '{first}' in {}: {:?}", table.id, table.rows))
}

/// A file in TR110's layout: durations, TTFTs and rates of both agents.
pub(crate) fn metrics(run: u32, durations: [f64; 2], ttft_ms: [f64; 2], rates: [f64; 2]) -> Value {
    let wall = durations[0].max(durations[1]);
    let total = durations[0] + durations[1];
    let agent = |at: usize, kind: &str, configuration: Value| {
        json!({
            "agent_type": kind,
            "model": "gemma3:latest",
            "configuration": configuration,
            "aggregate_metrics": {
                "total_requests": 2,
                "total_duration_ms": durations[at] * 990.0,
                "total_tokens_generated": 2000,
                "average_ttft_ms": ttft_ms[at],
                "average_tokens_per_second": rates[at],
                "p95_ttft_ms": ttft_ms[at] * 1.5,
                "p95_tokens_per_second": rates[at] * 1.2,
            },
            "execution_summary": "Agent Execution Summary:",
        })
    };
    json!({
        "collector": agent(0, "baseline", json!({})),
        "insight": agent(1, "chimera_optimized", json!({"num_gpu": 60, "num_ctx": 512, "temperature": 0.8})),
        "summary": {
            "run_number": run,
            "baseline_throughput": rates[0],
            "chimera_throughput": rates[1],
            "throughput_delta": rates[1] - rates[0],
            "baseline_ttft_ms": ttft_ms[0],
            "chimera_ttft_ms": ttft_ms[1],
            "ttft_delta_ms": ttft_ms[0] - ttft_ms[1],
            "baseline_duration": durations[0],
            "chimera_duration": durations[1],
            "concurrent_wall_time": wall,
            "sequential_estimated_time": total,
            "concurrency_speedup": total / wall,
            "gpu_memory_peak": null,
            "resource_contention_detected": total / wall < 1.5,
        },
        "collector_execution_time": durations[0],
        "insight_execution_time": durations[1],
    })
}

pub(crate) fn file(path: RunPath) -> String {
    format!(
        "phase_{}_test_{:03}/run_{}/metrics.json",
        path.phase, path.test, path.run
    )
}

pub(crate) fn parsed(test: u32, run: u32, value: &Value) -> RunFile {
    let path = RunPath {
        test,
        run,
        phase: 1,
    };
    tr110::parse(&file(path), path, value.to_string().as_bytes()).unwrap()
}

/// Runs 1.. of test 1 as a report.
pub(crate) fn of_test_one(values: &[Value]) -> Result<Report, ImportError> {
    let runs = values.iter().zip(1..);
    tr110::report(
        runs.map(|(value, run)| parsed(1, run, value)).collect(),
        about(),
    )
}
