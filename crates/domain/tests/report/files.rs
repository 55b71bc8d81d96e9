//! The files of a report.

use std::collections::BTreeMap;

use chimera_domain::render::{files, report_markdown};
use chimera_domain::report::{Report, outputs};
use serde_json::Value;

use crate::golden::{contended, two_tests};
use crate::support::World;

fn rendered(world: &World) -> BTreeMap<String, String> {
    let texts = outputs(&world.control, &world.events).unwrap();
    let files = files(&world.report(), &texts).unwrap();
    files
        .into_iter()
        .map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap()))
        .collect()
}

#[test]
fn the_layout_is_tr110s_with_ours_beside_it() {
    let paths: Vec<String> = rendered(&contended()).into_keys().collect();
    let run = |run: u32| {
        [
            "collector_report.md",
            "combined_report.md",
            "insight_report.md",
            "metrics.json",
        ]
        .map(|file| format!("phase_1_test_001/run_{run}/{file}"))
    };
    let mut expected: Vec<String> = (1..=3).flat_map(run).collect();
    expected.extend(["summary.json", "summary.md"].map(|file| format!("phase_1_test_001/{file}")));
    expected.extend(
        [
            "report.html",
            "report.json",
            "report.md",
            "report.schema.json",
            "runs.csv",
            "tables.json",
        ]
        .map(str::to_owned),
    );
    assert_eq!(paths, expected);
}

#[test]
fn metrics_json_has_every_field_of_tr110_and_its_signs() {
    let files = rendered(&contended());
    let metrics: Value =
        serde_json::from_str(&files["phase_1_test_001/run_1/metrics.json"]).unwrap();
    for field in [
        "run_number",
        "collector_ollama_url",
        "insight_ollama_url",
        "baseline_throughput",
        "chimera_throughput",
        "throughput_delta",
        "baseline_ttft_ms",
        "chimera_ttft_ms",
        "ttft_delta_ms",
        "baseline_duration",
        "chimera_duration",
        "concurrent_wall_time",
        "sequential_estimated_time",
        "concurrency_speedup",
        "gpu_memory_peak",
        "resource_contention_detected",
    ] {
        assert!(metrics["summary"].get(field).is_some(), "summary.{field}");
    }
    for agent in ["collector", "insight"] {
        for field in [
            "agent_type",
            "model",
            "configuration",
            "aggregate_metrics",
            "execution_summary",
        ] {
            assert!(metrics[agent].get(field).is_some(), "{agent}.{field}");
        }
        for field in [
            "total_requests",
            "total_duration_ms",
            "total_tokens_generated",
            "average_ttft_ms",
            "average_tokens_per_second",
            "p95_ttft_ms",
            "p95_tokens_per_second",
            "average_gpu_utilization",
            "peak_gpu_memory_gb",
            "peak_gpu_temperature_c",
        ] {
            assert!(
                metrics[agent]["aggregate_metrics"].get(field).is_some(),
                "{agent}.{field}"
            );
        }
        assert!(metrics[format!("{agent}_execution_time")].is_f64());
    }
    let summary = &metrics["summary"];
    let number = |name: &str| summary[name].as_f64().unwrap();
    assert!((number("sequential_estimated_time") - 13.4).abs() < 1e-9);
    assert!((number("concurrency_speedup") - 13.4 / 8.7).abs() < 1e-9);
    assert!((number("concurrency_gain") - 7.0 / 8.7).abs() < 1e-9);
    let delta = |name: &str, of: &str, minus: &str| {
        assert!(
            (number(name) - (number(of) - number(minus))).abs() < 1e-9,
            "{name}"
        );
    };
    delta(
        "throughput_delta",
        "chimera_throughput",
        "baseline_throughput",
    );
    delta("ttft_delta_ms", "baseline_ttft_ms", "chimera_ttft_ms");
    assert_eq!(summary["resource_contention_detected"], Value::Bool(false));
}

#[test]
fn the_csv_has_a_row_per_run_and_agent() {
    let files = rendered(&two_tests());
    let csv = &files["runs.csv"];
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 2 * 3 * 2);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()));
}

#[test]
fn the_agents_words_are_in_their_reports() {
    let files = rendered(&contended());
    for file in ["insight_report.md", "combined_report.md"] {
        let text = &files[&format!("phase_1_test_001/run_2/{file}")];
        assert!(text.contains("All is well, says insight."), "{text}");
        assert!(
            text.contains("| analysis | 0.100 | 2300 | 300 | 40.0 | 51 |"),
            "{text}"
        );
    }
}

#[test]
fn the_report_of_two_tests_for_a_person() {
    insta::assert_snapshot!(report_markdown(&two_tests().report()));
}

#[test]
fn the_report_read_back_gives_the_same_files() {
    let world = two_tests();
    let files = rendered(&world);
    let read: Report = serde_json::from_str(&files["report.json"]).unwrap();
    let texts = outputs(&world.control, &world.events).unwrap();
    let again = chimera_domain::render::files(&read, &texts).unwrap();
    let again: BTreeMap<String, String> = again
        .into_iter()
        .map(|(path, b)| (path, String::from_utf8(b).unwrap()))
        .collect();
    assert_eq!(again, files);
}
