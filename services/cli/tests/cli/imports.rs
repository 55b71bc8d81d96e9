//! `chimera import tr110` and `chimera advise`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{text, told};

/// A file in TR110's layout.
fn metrics(run: u32, first_s: f64, second_s: f64) -> Value {
    let wall = first_s.max(second_s);
    let agent = |kind: &str, configuration: Value| {
        json!({
            "agent_type": kind,
            "model": "gemma3:latest",
            "configuration": configuration,
            "aggregate_metrics": {
                "total_requests": 2,
                "total_tokens_generated": 2000,
                "average_ttft_ms": 500.0,
                "average_tokens_per_second": 40.0,
            },
        })
    };
    json!({
        "collector": agent("baseline", json!({})),
        "insight": agent("chimera_optimized", json!({"num_gpu": 60, "num_ctx": 512, "temperature": 0.8})),
        "summary": {
            "run_number": run,
            "baseline_duration": first_s,
            "chimera_duration": second_s,
            "concurrent_wall_time": wall,
            "concurrency_speedup": (first_s + second_s) / wall,
            "resource_contention_detected": (first_s + second_s) / wall < 1.5,
        },
    })
}

fn put(folder: &Path, test: &str, run: &str, content: &[u8]) {
    let run = folder.join(test).join(run);
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("metrics.json"), content).unwrap();
}

/// Three runs of test 1, one of them contended.
fn study(dir: &Path) -> PathBuf {
    let folder = dir.join("raw");
    for (run, first_s) in [(1, 50.0), (2, 55.0), (3, 20.0)] {
        let content = metrics(run, first_s, 60.0).to_string();
        put(
            &folder,
            "phase_1_test_001",
            &format!("run_{run}"),
            content.as_bytes(),
        );
    }
    // What TR110 keeps beside its runs is none of them.
    std::fs::write(folder.join("comprehensive_test_summary.json"), "{}").unwrap();
    std::fs::write(folder.join("phase_1_test_001/summary.md"), "# x").unwrap();
    folder
}

#[test]
fn an_import_writes_what_a_run_of_ours_does() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (study(dir.path()), dir.path().join("results/tr110"));
    let shown = told(&["import", "tr110", &text(&raw), "--out", &text(&out)]).expect(0);
    assert!(shown.out.contains("What the data show:"), "{}", shown.out);
    assert!(shown.out.contains("it is set in 1"), "{}", shown.out);
    for file in [
        "report.json",
        "report.md",
        "report.schema.json",
        "runs.csv",
        "tables.json",
        "phase_1_test_001/summary.json",
        "phase_1_test_001/run_3/metrics.json",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let report: Value =
        serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["tests"][0]["id"], "1");
    assert_eq!(report["tests"][0]["scenario"], "baseline_vs_chimera");
    // The same files give the same report, wherever they lie; and it can be read as any other.
    let again = told(&["import", "tr110", &text(&raw), "--json"]).expect(0);
    assert_eq!(again.json(), report);
    assert_eq!(
        told(&["report", &text(&out), "--json"]).expect(0).json(),
        report
    );
    told(&["report", &text(&out)]).expect(0);
    // What was written can be imported.
    let back = told(&["import", "tr110", &text(&out), "--json"])
        .expect(0)
        .json();
    assert_eq!(back["tests"], report["tests"]);
    // Never over what is there.
    let refused = told(&["import", "tr110", &text(&raw), "--out", &text(&out)]).expect(64);
    assert!(
        refused.err.contains("exists") && refused.out.is_empty(),
        "{}",
        refused.err
    );
}

#[test]
fn every_bad_file_is_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (study(dir.path()), dir.path().join("out"));
    let mut negative = metrics(4, 50.0, 60.0);
    negative["summary"]["baseline_duration"] = json!(-1);
    put(
        &raw,
        "phase_1_test_001",
        "run_4",
        negative.to_string().as_bytes(),
    );
    put(
        &raw,
        "phase_1_test_001",
        "run_5",
        b"{\"summary\": {\"baseline_ttft_ms\": NaN}}",
    );
    put(&raw, "phase_1_test_001", "run_six", b"{}");
    put(&raw, "phase_1_test_one", "run_1", b"{}");
    std::fs::create_dir_all(raw.join("phase_1_test_002/run_1")).unwrap();
    std::fs::create_dir_all(raw.join("phase_1_test_002/run_2/metrics.json")).unwrap();
    put(
        &raw,
        "phase_1_test_003",
        "run_1",
        "[".repeat(1_000_000).as_bytes(),
    );
    let refused = told(&["import", "tr110", &text(&raw), "--out", &text(&out)]).expect(64);
    for part in [
        "7 faults in 7 files",
        "phase_1_test_001/run_4/metrics.json: summary.baseline_duration: -1 is negative",
        "phase_1_test_001/run_5/metrics.json: no JSON",
        "baseline_ttft_ms",
        "phase_1_test_001/run_six: is no run_R",
        "phase_1_test_one: is no phase_P_test_TTT",
        "phase_1_test_002/run_1/metrics.json: cannot be read",
        "phase_1_test_002/run_2/metrics.json: is no file",
        "phase_1_test_003/run_1/metrics.json: no JSON: recursion limit",
    ] {
        assert!(refused.err.contains(part), "{part}:\n{}", refused.err);
    }
    assert!(refused.out.is_empty() && !out.exists());
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "something was left behind");
}

#[test]
fn texts_beside_the_figures_are_judged_and_half_tests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let raw = study(dir.path());
    let run = raw.join("phase_1_test_001/run_1");
    let before = told(&["import", "tr110", &text(&raw), "--json"])
        .expect(0)
        .json();
    let quality = |report: &Value, agent: usize| {
        report["tests"][0]["runs"][0]["agents"][agent]["quality"].clone()
    };
    let why = quality(&before, 0)["reason"].as_str().unwrap().to_owned();
    assert!(why.starts_with("not in the raw data"), "{why}");
    std::fs::write(
        run.join("collector_report.md"),
        "# Findings\n\nMean TTFT is 512.3 ms over 40 requests [1].\n",
    )
    .unwrap();
    std::fs::write(run.join("combined_report.md"), "# Both\n").unwrap();
    let after = told(&["import", "tr110", &text(&raw), "--json"])
        .expect(0)
        .json();
    assert_eq!(quality(&after, 0)["value"]["structure"]["headings"], 1);
    assert_eq!(quality(&after, 0)["value"]["numbers_in_data"], Value::Null);
    assert_eq!(quality(&after, 1)["value"], Value::Null);
    assert_ne!(before["experiment"], after["experiment"], "other files");
    std::fs::write(run.join("insight_report.md"), b"\xff\xfe").unwrap();
    std::fs::create_dir_all(raw.join("phase_1_test_009")).unwrap();
    let refused = told(&["import", "tr110", &text(&raw)]).expect(64);
    for part in [
        "2 faults in 2 files",
        "phase_1_test_001/run_1/insight_report.md: is no text in UTF-8",
        "phase_1_test_009: holds no run_R",
    ] {
        assert!(refused.err.contains(part), "{part}:\n{}", refused.err);
    }
}

#[test]
fn folders_that_hold_no_runs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let empty = told(&["import", "tr110", &text(dir.path())]).expect(64);
    assert!(
        empty.err.contains("holds no runs of TR110"),
        "{}",
        empty.err
    );
    let missing = told(&["import", "tr110", "no/such/folder"]).expect(64);
    assert!(
        missing.err.contains("cannot read the folder"),
        "{}",
        missing.err
    );
    for bad in [
        &["import"][..],
        &["import", "tr110"],
        &["import", "tr999", "x"],
    ] {
        told(bad).expect(64);
    }
    let twice = study(dir.path());
    put(
        &twice,
        "phase_1_test_1",
        "run_1",
        metrics(1, 50.0, 60.0).to_string().as_bytes(),
    );
    let twice = told(&["import", "tr110", &text(&twice)]).expect(64);
    assert!(
        twice
            .err
            .contains("run 1 of test 1 is in phase_1_test_001/run_1"),
        "{}",
        twice.err
    );
    let help = told(&["import", "tr110", "--help"]).expect(0);
    assert!(
        help.out.contains("Examples:\n  chimera import tr110"),
        "{}",
        help.out
    );
}

#[test]
fn advice_is_read_from_a_folder_or_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (study(dir.path()), dir.path().join("out"));
    told(&["import", "tr110", &text(&raw), "--out", &text(&out)]).expect(0);
    let yaml = told(&["advise", &text(&out)]).expect(0);
    assert!(
        yaml.out.contains("mixed:\n") && yaml.out.contains("not measured"),
        "{}",
        yaml.out
    );
    let file = text(&out.join("report.json"));
    assert_eq!(told(&["advise", &file]).expect(0).out, yaml.out);
    let toml = told(&["advise", &file, "--format", "toml"]).expect(0);
    assert!(toml.out.contains("[[phase]]\n"), "{}", toml.out);
    let json = told(&["advise", &file, "--json"]).expect(0).json();
    assert_eq!(json["recipes"].as_array().unwrap().len(), 5);
    let missing = told(&["advise", "no/such"]).expect(64);
    assert!(
        missing.err.contains("neither a folder nor a file"),
        "{}",
        missing.err
    );
    std::fs::write(dir.path().join("x.json"), "[]").unwrap();
    told(&["advise", &text(&dir.path().join("x.json"))]).expect(1);
}

#[test]
fn tr110s_own_runs_are_imported() {
    let raw = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tr110");
    if !raw.is_dir() {
        println!(
            "skipped: {} is not there; TR110's raw runs are no part of this repository",
            raw.display()
        );
        return;
    }
    let report = told(&["import", "tr110", &text(&raw), "--json"])
        .expect(0)
        .json();
    let ids: Vec<&str> = report["tests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|test| test["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        [
            "100", "101", "102", "103", "104", "105", "106", "107", "108", "200", "201", "202"
        ]
    );
}
