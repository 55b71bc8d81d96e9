//! Folders like those of phase 1: baselines beside optimised agents, with all that files may lack.

use chimera_domain::report::Report;
use chimera_domain::stats::Provenance;
use serde_json::{Value, json};

use crate::support::{metrics, of_test_one, row, table};

/// Five runs as TR110's test 1 has them: three flagged, TTFTs of half a minute.
fn contended() -> Vec<Value> {
    [
        [30.0, 90.0],
        [60.0, 62.0],
        [25.0, 95.0],
        [61.0, 60.0],
        [28.0, 92.0],
    ]
    .into_iter()
    .zip(1..)
    .map(|(durations, run)| metrics(run, durations, [30_000.0, 400.0], [42.0, 40.0]))
    .collect()
}

fn only(values: &[Value]) -> Report {
    let report = of_test_one(values).unwrap();
    assert_eq!(report.tests.len(), 1);
    report
}

#[test]
fn contention_is_counted_and_shown_for_what_it_is() {
    let report = only(&contended());
    assert_eq!(report.tests[0].scenario, "baseline_vs_chimera");
    let row = row(&table(&report, "3.1"), "1");
    assert_eq!(row[1], "default / 60");
    assert_eq!(row[6], "+29600");
    assert_eq!(row[7], "-2.00");
    assert_eq!(row[8], "3/5 (60 %)");
    // Ours has one sign everywhere: this agent minus the first.
    assert_eq!(row[11], "-29600");
    let of = |id: &str| {
        let table = table(&report, id);
        table
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| cell.shown()).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("4.1")[0][1..4], ["1/1 (100 %)", "3/5 (60 %)", "+29600"]);
    assert_eq!(of("4.2")[0][..2], ["60", "3/5 (60 %)"]);
    let sentence = |id: &str| {
        let found = report.findings.iter().find(|finding| finding.id == id);
        found
            .map(|finding| finding.sentence.clone())
            .unwrap_or_default()
    };
    assert!(sentence("contention_flag").contains("5 of 5 runs (it is set in 3)"));
    assert!(sentence("contention_flag").contains("without the flag is 45000 ms"));
    assert!(sentence("balance_identity").contains("in 5 of 5 runs"));
}

#[test]
fn long_ttfts_are_told_by_scenario() {
    let mut values = contended();
    for value in &mut values[1..] {
        value["collector"]["aggregate_metrics"]["p95_ttft_ms"] = json!(450.0);
    }
    let report = only(&values);
    let found = report
        .findings
        .iter()
        .find(|finding| finding.id == "reload_like_ttft")
        .unwrap();
    assert!(
        found.sentence.starts_with("1 of 10 agents in runs")
            && found.sentence.contains("1 of 10 in baseline_vs_chimera")
            && found.sentence.contains("test 1, run 1, collector"),
        "{}",
        found.sentence
    );
}

#[test]
fn a_baseline_may_be_called_anything_and_state_nothing() {
    let variants: [fn(&mut Value); 7] = [
        |value| value["collector"]["configuration"] = Value::Null,
        |value| value["collector"]["agent_type"] = json!("baseline_ollama"),
        |value| value["collector"]["agent_type"] = json!("ollama_default"),
        |value| {
            value["collector"]
                .as_object_mut()
                .unwrap()
                .remove("configuration");
        },
        |value| {
            value["collector"]
                .as_object_mut()
                .unwrap()
                .remove("agent_type");
        },
        |value| {
            value["collector"]["configuration"] =
                json!({"num_ctx": 4096, "num_gpu": -1, "new": [1]})
        },
        |value| value["collector"] = Value::Null,
    ];
    for (at, change) in variants.iter().enumerate() {
        let mut values = contended();
        values.iter_mut().for_each(change);
        let report = only(&values);
        let test = &report.tests[0];
        assert_eq!(test.scenario, "baseline_vs_chimera", "variant {at}");
        assert_eq!((test.runs_valid, test.agents.len()), (5, 2), "variant {at}");
        assert_eq!(test.agents[0].options.num_gpu, None, "variant {at}");
        assert!(test.aggregate.tr110_speedup.value.is_some(), "variant {at}");
    }
}

#[test]
fn scenarios_follow_from_the_agents() {
    let cases = [
        (
            json!({"num_gpu": 60, "num_ctx": 512, "temperature": 0.8}),
            "chimera_homo",
        ),
        (
            json!({"num_gpu": 60, "num_ctx": 1024, "temperature": 0.8}),
            "chimera_hetero",
        ),
        (json!({"num_gpu": 60}), "chimera_hetero"),
    ];
    for (configuration, scenario) in cases {
        let mut values = contended();
        for value in &mut values {
            value["collector"]["agent_type"] = json!("chimera_optimized");
            value["collector"]["configuration"] = configuration.clone();
        }
        assert_eq!(only(&values).tests[0].scenario, scenario, "{configuration}");
    }
    let mut values = contended();
    for value in &mut values {
        value["insight"]["agent_type"] = json!("baseline");
    }
    assert_eq!(only(&values).tests[0].scenario, "custom");
}

#[test]
fn absent_fields_stay_absent_and_say_why() {
    let mut values = contended();
    for value in &mut values {
        let summary = value["summary"].as_object_mut().unwrap();
        for field in [
            "concurrency_speedup",
            "ttft_delta_ms",
            "throughput_delta",
            "resource_contention_detected",
            "gpu_memory_peak",
        ] {
            summary.remove(field);
        }
        let agent = value["insight"]["aggregate_metrics"]
            .as_object_mut()
            .unwrap();
        agent.remove("total_tokens_generated");
    }
    let report = only(&values);
    let test = &report.tests[0];
    // What follows from what is there by its definition is computed; a flag is no figure.
    assert!((test.runs[0].tr110_speedup.unwrap() - 120.0 / 90.0).abs() < 1e-12);
    let row = row(&table(&report, "3.1"), "1");
    assert_eq!((row[6].as_str(), row[8].as_str()), ("+29600", "-"));
    let tokens = &test.aggregate.aggregate_tokens_per_s;
    assert_eq!(
        (tokens.value, tokens.provenance),
        (None, Provenance::NotMeasured)
    );
    assert_eq!(tokens.reason.as_deref(), Some("the files do not state it"));
    let run = &test.runs[0];
    assert_eq!(
        (
            run.concurrency_gain,
            run.start_skew_ms,
            run.overlap_fraction
        ),
        (None, None, None)
    );
    assert!(run.agents[0].requests.is_empty() && run.legs.is_empty());
    assert_eq!(
        test.aggregate.e2e_ms.reason.as_deref(),
        Some("the files do not record single requests")
    );

    // With no durations there is no speed-up; the run still counts for what it states.
    let mut values = contended();
    for value in &mut values {
        let root = value.as_object_mut().unwrap();
        root.retain(|name, _| !name.ends_with("_execution_time"));
        let summary = root["summary"].as_object_mut().unwrap();
        summary.retain(|name, _| name.contains("ttft"));
    }
    let test = only(&values).tests.remove(0);
    assert_eq!(test.aggregate.tr110_speedup.value, None);
    assert_eq!(test.aggregate.wall_s.value, None);
    assert!((test.aggregate.ttft_ms.value.unwrap() - 15_200.0).abs() < 1e-6);
}

#[test]
fn a_run_of_another_configuration_is_shown_and_not_averaged() {
    let mut values = contended();
    values[2]["insight"]["configuration"]["num_gpu"] = json!(80);
    let test = only(&values).tests.remove(0);
    assert_eq!((test.runs_valid, test.runs_attempted), (4, 5));
    assert_eq!(test.runs[2].invalid_reason.as_deref(), Some("option_drift"));
    assert!(
        test.runs[2].invalid[0]
            .detail
            .contains("other options for insight")
    );
    assert_eq!(test.aggregate.tr110_speedup.n, 4);
}

#[test]
fn files_that_disagree_with_themselves_are_told() {
    let mut values = contended();
    values[0]["summary"]["run_number"] = json!(7);
    values[1]["summary"]["concurrency_speedup"] = json!(1.2);
    let report = only(&values);
    let notes = &report.source.as_ref().unwrap().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("run_1/metrics.json") && notes[1].contains("run_2/metrics.json"));
}

#[test]
fn equal_configurations_that_disagree_are_found_with_their_p() {
    use chimera_domain::tr110;
    let spread = |base: f64| {
        (1..=5).map(move |run| {
            let shorter = base + f64::from(run) * 0.2;
            metrics(run, [shorter, 60.0], [500.0, 480.0], [42.0, 41.0])
        })
    };
    let mut runs = Vec::new();
    for (test, base) in [(1, 40.0), (2, 58.0)] {
        let numbered = spread(base).zip(1..);
        runs.extend(numbered.map(|(value, run)| crate::support::parsed(test, run, &value)));
    }
    let report = tr110::report(runs, crate::support::about()).unwrap();
    let found = report
        .findings
        .iter()
        .find(|finding| finding.id == "same_configuration")
        .unwrap();
    assert!(
        found.sentence.contains("asked for the same and disagrees")
            && found
                .sentence
                .contains("tests 1 and 2 differ by 0.300 (Welch p < 0.001"),
        "{}",
        found.sentence
    );
}
