//! Files that nobody should trust: each is refused with its name, its field and what is wrong.

use chimera_domain::tr110::{self, MAX_FILE_BYTES, RunPath};
use serde_json::{Value, json};

use crate::support::{about, file, metrics, of_test_one, parsed};

const PATH: RunPath = RunPath {
    test: 1,
    run: 1,
    phase: 1,
};

fn good() -> Value {
    metrics(1, [30.0, 60.0], [500.0, 480.0], [42.0, 41.0])
}

fn refused(bytes: &[u8]) -> Vec<String> {
    let faults = tr110::parse(&file(PATH), PATH, bytes).unwrap_err();
    assert!(!faults.is_empty());
    faults.iter().map(ToString::to_string).collect()
}

fn refused_value(value: &Value) -> Vec<String> {
    refused(value.to_string().as_bytes())
}

#[test]
fn what_is_no_json_says_where() {
    let name = "phase_1_test_001/run_1/metrics.json: ";
    for bytes in [
        &b""[..],
        b"not json",
        b"{",
        b"[1, 2]",
        b"\"text\"",
        b"\xff\xfe",
        b"null",
    ] {
        let faults = refused(bytes);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with(name), "{faults:?}");
    }
    let deep = "[".repeat(100_000);
    assert!(
        refused(deep.as_bytes())[0].contains("recursion limit"),
        "deep"
    );
    let nested = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    assert!(
        refused(nested.as_bytes())[0].contains("recursion limit"),
        "nested"
    );
    let huge = vec![b' '; MAX_FILE_BYTES + 1];
    assert!(refused(&huge)[0].contains("bytes are more than a metrics.json has"));
    // Python writes these; the line names the field.
    for word in ["NaN", "Infinity", "-Infinity", "1e999"] {
        let text = serde_json::to_string_pretty(&good()).unwrap();
        let text = text.replacen(
            "\"baseline_ttft_ms\": 500.0",
            &format!("\"baseline_ttft_ms\": {word}"),
            1,
        );
        let fault = refused(text.as_bytes()).remove(0);
        assert!(fault.contains("baseline_ttft_ms"), "{word}: {fault}");
        let compact = good().to_string().replacen(
            "\"baseline_ttft_ms\":500.0",
            &format!("\"baseline_ttft_ms\":{word}"),
            1,
        );
        let fault = refused(compact.as_bytes()).remove(0);
        assert!(fault.contains("baseline_ttft_ms"), "{word}: {fault}");
    }
}

#[test]
fn numbers_that_cannot_be_are_all_named() {
    let mut value = good();
    value["summary"]["baseline_duration"] = json!(-3.5);
    value["summary"]["chimera_ttft_ms"] = json!("fast");
    value["summary"]["concurrent_wall_time"] = json!(0.0);
    value["summary"]["resource_contention_detected"] = json!(1);
    value["collector"]["aggregate_metrics"]["total_tokens_generated"] = json!(-1);
    value["collector"]["aggregate_metrics"]["total_requests"] = json!(1.5);
    value["insight"]["configuration"]["temperature"] = json!(-0.1);
    value["insight"]["configuration"]["num_ctx"] = json!(1e300);
    value["insight"]["model"] = json!({"a": "b"});
    let faults = refused_value(&value);
    for part in [
        "summary.baseline_duration: -3.5 is negative",
        "summary.chimera_ttft_ms: \"fast\" is no finite number",
        "summary.concurrent_wall_time: 0: a run takes time",
        "summary.resource_contention_detected: 1 is neither true nor false",
        "collector.aggregate_metrics.total_tokens_generated: -1 is negative",
        "collector.aggregate_metrics.total_requests: 1.5 is no whole number",
        "insight.configuration.temperature: -0.1 is negative",
        "insight.configuration.num_ctx: ",
        "insight.model: {\"a\":\"b\"} is no text",
    ] {
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{part}: {faults:#?}"
        );
    }
    assert_eq!(faults.len(), 9, "{faults:#?}");
    // Differences may be negative.
    let mut value = good();
    value["summary"]["ttft_delta_ms"] = json!(-5.0);
    assert!(tr110::parse("f", PATH, value.to_string().as_bytes()).is_ok());
}

#[test]
fn objects_that_are_none_and_names_that_escape_are_refused() {
    for value in [
        json!({}),
        json!({"summary": 1}),
        json!({"summary": null}),
        json!({"summary": {}}),
    ] {
        assert!(!refused_value(&value).is_empty(), "{value}");
    }
    let mut value = good();
    value["../../etc/x"] = json!({"agent_type": "chimera"});
    let faults = refused_value(&value);
    assert!(faults[0].contains("../../etc/x"), "{faults:?}");
    let mut value = good();
    for at in 0..100 {
        value[format!("agent-{at}")] = json!({"agent_type": "chimera"});
    }
    assert!(refused_value(&value)[0].contains("102 agents"), "{value}");
}

#[test]
fn long_and_odd_texts_do_no_harm() {
    let mut value = good();
    value["insight"]["agent_type"] = json!(format!("chimera|{}\n# heading", "x".repeat(100_000)));
    value["insight"]["model"] = json!("</script><b>|\u{0}");
    value["chimera"] = json!({"label": "a | b\n## c", "scenario": "chimera_homo"});
    let report = of_test_one(&[value]).unwrap();
    let markdown = chimera_domain::render::report_markdown(&report);
    assert!(markdown.len() < 60_000, "{}", markdown.len());
    assert!(!markdown.contains("\n## c") && !markdown.contains("\n# heading"));
    assert!(chimera_domain::render::files(&report, &[]).is_ok());
}

#[test]
fn runs_that_are_no_experiment_are_refused_by_name() {
    let none = tr110::report(Vec::new(), about()).unwrap_err();
    assert!(
        none.to_string().contains("holds no runs of TR110"),
        "{none}"
    );
    let twice =
        tr110::report(vec![parsed(1, 1, &good()), parsed(1, 1, &good())], about()).unwrap_err();
    assert!(
        twice
            .to_string()
            .contains("run 1 of test 1 is in phase_1_test_001/run_1/metrics.json already"),
        "{twice}"
    );
    let mut other = parsed(1, 2, &good());
    other.path.phase = 2;
    other.file = "phase_2_test_001/run_2/metrics.json".to_owned();
    let clash = tr110::report(vec![parsed(1, 1, &good()), other], about()).unwrap_err();
    assert!(
        clash.to_string().contains("a number names one test"),
        "{clash}"
    );
    assert_eq!(clash.faults().len(), 1);
}

#[test]
fn only_numbered_folders_are_tests_and_runs() {
    for bad in [
        "phase_1_test_",
        "phase__test_1",
        "phase_-1_test_2",
        "phase_1_test_+2",
        "phase_1_test_99999999999",
        "test_1",
        "phase_1_test_1_test_2",
    ] {
        assert_eq!(RunPath::of_test(bad), None, "{bad}");
    }
    assert_eq!(RunPath::of_run("run_"), None);
    assert_eq!(RunPath::of_run("run_12"), Some(12));
}
