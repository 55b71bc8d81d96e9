//! Phase 1 as TR110 prints it: its raw runs are not at hand, so they are made from its tables.

use chimera_domain::report::Report;
use chimera_domain::tr110;
use serde_json::{Value, json};

use crate::support::{about, metrics, of_test_one, parsed, row, table};

/// Options of an agent: `num_gpu` and `num_ctx`; `None`: the engine's defaults.
type Asked = Option<(u32, u32)>;
/// Section, test, both agents; printed speed-up, efficiency, TTFT delta, throughput delta and flags.
type Printed = (
    &'static str,
    u32,
    [Asked; 2],
    (&'static str, &'static str),
    (&'static str, &'static str),
    u32,
);

/// TR110 sections 3.1 to 3.3, tests 1 to 18. `1.454` and `72.7`: the report rounds both from more digits.
#[rustfmt::skip]
const PRINTED: [Printed; 18] = [
    ("3.1",  1, [None, Some((60, 512))],    ("1.598", "79.9"), ("+29659", "-1.64"), 3),
    ("3.1",  2, [None, Some((60, 1024))],   ("1.463", "73.1"), ("+31727", "-10.93"), 5),
    ("3.1",  3, [None, Some((80, 512))],    ("1.707", "85.4"), ("+13649", "+0.29"), 1),
    ("3.1",  4, [None, Some((80, 1024))],   ("1.722", "86.1"), ("+14740", "+0.26"), 0),
    ("3.1",  5, [None, Some((120, 512))],   ("1.781", "89.1"), ("+9317",  "+0.30"), 0),
    ("3.1",  6, [None, Some((120, 1024))],  ("1.694", "84.7"), ("+15521", "-1.15"), 1),
    ("3.2",  7, [Some((60, 512)),   Some((80, 1024))],  ("1.700", "85.0"), ("-26597", "+1.56"), 2),
    ("3.2",  8, [Some((60, 1024)),  Some((80, 2048))],  ("1.455", "72.7"), ("-32671", "+14.42"), 5),
    ("3.2",  9, [Some((80, 512)),   Some((100, 1024))], ("1.869", "93.4"), ("-7190",  "-0.26"), 0),
    ("3.2", 10, [Some((80, 1024)),  Some((100, 2048))], ("1.946", "97.3"), ("+30",    "-0.16"), 0),
    ("3.2", 11, [Some((120, 512)),  Some((140, 1024))], ("1.797", "89.9"), ("+11098", "+0.05"), 0),
    ("3.2", 12, [Some((120, 1024)), Some((140, 2048))], ("1.811", "90.6"), ("+12894", "-5.10"), 0),
    ("3.3", 13, [Some((60, 512)),   Some((60, 512))],   ("1.972", "98.6"), ("-12",    "-0.88"), 0),
    ("3.3", 14, [Some((60, 1024)),  Some((60, 1024))],  ("1.970", "98.5"), ("-106",   "+1.02"), 0),
    ("3.3", 15, [Some((80, 512)),   Some((80, 512))],   ("1.929", "96.5"), ("-5",     "+2.81"), 0),
    ("3.3", 16, [Some((80, 1024)),  Some((80, 1024))],  ("1.931", "96.5"), ("-109",   "+6.55"), 0),
    ("3.3", 17, [Some((120, 512)),  Some((120, 512))],  ("1.981", "99.1"), ("-23",    "+0.33"), 0),
    ("3.3", 18, [Some((120, 1024)), Some((120, 1024))], ("1.981", "99.1"), ("-111",   "+0.69"), 0),
];

/// Five runs around what a row prints, with so many flags.
fn runs(printed: &Printed) -> Vec<Value> {
    let (_, id, asked, (speedup, efficiency), (ttft, rate), flags) = *printed;
    let number = |text: &str| text.parse::<f64>().unwrap();
    // Within both roundings: the printed efficiency narrows the speed-up to a fortieth of a thousandth.
    let (low, high) = (number(efficiency) - 0.05, number(efficiency) + 0.05);
    let (least, most) = (number(speedup) - 0.0005, number(speedup) + 0.0005);
    let speedup = least.max(low / 50.0).midpoint(most.min(high / 50.0));
    let (ttft, rate) = (number(ttft), number(rate));
    let around = [-2.0, -1.0, 0.0, 1.0, 2.0];
    let each = around.iter().zip(1..).map(|(step, run)| {
        let shorter = 60.0 * (speedup - 1.0 + step * 0.001);
        let durations = if ttft > 0.0 {
            [60.0, shorter]
        } else {
            [shorter, 60.0]
        };
        let ttfts = [40_000.0 + ttft + step * 7.0, 40_000.0];
        let mut value = metrics(run, durations, ttfts, [42.0, 42.0 + rate + step * 0.1]);
        for (agent, asked) in ["collector", "insight"].iter().zip(asked) {
            let (kind, options) = match asked {
                None => ("baseline", json!({})),
                Some((gpu, ctx)) => (
                    "chimera_optimized",
                    json!({"num_gpu": gpu, "num_ctx": ctx, "temperature": 0.8, "top_p": 0.9}),
                ),
            };
            value[*agent]["agent_type"] = json!(kind);
            value[*agent]["configuration"] = options;
        }
        value["summary"]["resource_contention_detected"] = json!(run <= flags);
        assert!(id > 0);
        value
    });
    each.collect()
}

fn report() -> Report {
    let files = PRINTED.iter().flat_map(|printed| {
        let each = runs(printed).into_iter().zip(1..);
        each.map(|(value, run)| parsed(printed.1, run, &value))
            .collect::<Vec<_>>()
    });
    tr110::report(files.collect(), about()).unwrap()
}

#[test]
fn eighteen_tests_to_the_digits_that_are_printed() {
    let report = report();
    assert_eq!(report.tests.len(), 18);
    for (section, id, asked, (speedup, efficiency), (ttft, rate), flags) in PRINTED {
        let test = report
            .tests
            .iter()
            .find(|t| t.id == id.to_string())
            .unwrap();
        let scenario = match section {
            "3.1" => "baseline_vs_chimera",
            "3.2" => "chimera_hetero",
            _ => "chimera_homo",
        };
        assert_eq!(
            (test.scenario.as_str(), test.phase, test.runs_valid),
            (scenario, 1, 5)
        );
        let shown = row(&table(&report, section), &id.to_string());
        let both = |of: fn((u32, u32)) -> u32| {
            let mut words = asked
                .map(|a| a.map_or("default".to_owned(), |a| of(a).to_string()))
                .to_vec();
            words.dedup();
            words.join(" / ")
        };
        assert_eq!(
            (&shown[1], &shown[2]),
            (&both(|a| a.0), &both(|a| a.1)),
            "options of {id}"
        );
        assert_eq!(shown[4], speedup, "speed-up of {id}");
        assert_eq!(shown[5], format!("{efficiency} %"), "efficiency of {id}");
        assert_eq!(
            (shown[6].as_str(), shown[7].as_str()),
            (ttft, rate),
            "deltas of {id}"
        );
        assert!(
            shown[8].starts_with(&format!("{flags}/5 ")),
            "flags of {id}: {}",
            shown[8]
        );
    }
}

fn good() -> Value {
    metrics(1, [30.0, 60.0], [500.0, 480.0], [42.0, 41.0])
}

/// The one test of four good runs and one that is changed.
fn with_one(change: impl Fn(&mut Value)) -> chimera_domain::report::TestReport {
    let mut values = vec![good(); 5];
    change(&mut values[1]);
    of_test_one(&values).unwrap().tests.remove(0)
}

#[test]
fn a_run_that_failed_is_shown_with_its_reason_and_not_averaged() {
    type Change = fn(&mut Value);
    let failures: [(Change, &str); 5] = [
        (
            |v| v["error"] = json!("connection\nrefused"),
            "states the error 'connection refused'",
        ),
        (
            |v| v["insight"]["error"] = json!("timeout"),
            "states the error 'timeout' of insight",
        ),
        (
            |v| {
                v["collector"]["aggregate_metrics"]["total_requests"] = json!(0);
                v["collector"]["aggregate_metrics"]["average_ttft_ms"] = json!(0.0);
                v["summary"]["baseline_ttft_ms"] = json!(0.0);
            },
            "states that collector made no request",
        ),
        (
            |v| v["summary"]["chimera_duration"] = json!(0),
            "states that insight took no time",
        ),
        (
            |v| {
                let root = v.as_object_mut().unwrap();
                root.retain(|name, _| !name.ends_with("_execution_time"));
                root["summary"] = json!({"run_number": 2});
                for agent in ["collector", "insight"] {
                    root[agent]["aggregate_metrics"] = Value::Null;
                }
            },
            "states no figure",
        ),
    ];
    for (change, told) in failures {
        let test = with_one(change);
        assert_eq!((test.runs_valid, test.runs_attempted), (4, 5), "{told}");
        let run = &test.runs[1];
        assert_eq!(run.invalid_reason.as_deref(), Some("agent_failed"));
        let detail = &run.invalid[0].detail;
        assert!(
            detail.starts_with("phase_1_test_001/run_2/metrics.json ") && detail.contains(told),
            "{detail}"
        );
        // What it states as zero is in no mean.
        assert!(
            (test.aggregate.ttft_ms.value.unwrap() - 490.0).abs() < 1e-9,
            "{told}"
        );
        assert_eq!(test.aggregate.tr110_speedup.n, 4, "{told}");
    }
    // An error that is none is no failure.
    for none in [Value::Null, json!(""), json!(false)] {
        assert_eq!(with_one(|v| v["error"] = none.clone()).runs_valid, 5);
    }
}

#[test]
fn a_file_with_an_error_alone_is_refused_by_name() {
    let path = tr110::RunPath {
        test: 1,
        run: 2,
        phase: 1,
    };
    let file = crate::support::file(path);
    let faults = tr110::parse(&file, path, br#"{"error": "out of memory"}"#).unwrap_err();
    let told = faults[0].to_string();
    assert!(
        told.starts_with("phase_1_test_001/run_2/metrics.json: summary: is missing")
            && told.contains("'out of memory'"),
        "{told}"
    );
}

#[test]
fn agents_under_other_names_keep_the_order_of_the_summary() {
    let renamed = |names: [&str; 2]| {
        let Value::Object(mut root) = good() else {
            unreachable!()
        };
        for (old, new) in ["collector", "insight"].iter().zip(names) {
            for suffix in ["", "_execution_time"] {
                let value = root.remove(&format!("{old}{suffix}")).unwrap();
                root.insert(format!("{new}{suffix}"), value);
            }
        }
        of_test_one(&[Value::Object(root)]).unwrap().tests.remove(0)
    };
    // The first is the shorter one (30 s) and the baseline, whatever it is called.
    for names in [
        ["baseline", "chimera"],
        ["chimera_1", "chimera_2"],
        ["data_collector", "insight"],
        ["zeta", "alpha"],
        ["collector", "aggregator"],
    ] {
        let test = renamed(names);
        let got: Vec<&str> = test
            .agents
            .iter()
            .map(|agent| agent.agent.as_str())
            .collect();
        assert_eq!(got, names);
        assert_eq!(test.scenario, "baseline_vs_chimera", "{names:?}");
        assert_eq!(test.runs[0].agents[0].duration_s, Some(30.0), "{names:?}");
        assert_eq!(test.runs[0].agents[0].ttft_ms, Some(500.0), "{names:?}");
    }
}

#[test]
fn windows_marks_extra_keys_and_nulls_do_no_harm() {
    let path = tr110::RunPath {
        test: 1,
        run: 1,
        phase: 1,
    };
    let mut value = good();
    value["gpu_metrics"] = json!({"samples": [1, 2, {"x": null}]});
    value["summary"]["notes"] = json!(["anything"]);
    value["summary"]["gpu_memory_peak"] = json!(7.5);
    value["insight"]["aggregate_metrics"]["peak_gpu_memory_gb"] = json!("n/a");
    value["insight"]["chimera_config"] = Value::Null;
    let bytes = [b"\xef\xbb\xbf", value.to_string().as_bytes()].concat();
    let run = tr110::parse("x", path, &bytes).unwrap();
    assert_eq!((run.agents.len(), run.wall_s), (2, Some(60.0)));
    // A number in quotes is refused, not guessed at.
    value["summary"]["baseline_ttft_ms"] = json!("500.0");
    let faults = tr110::parse("x", path, value.to_string().as_bytes()).unwrap_err();
    assert_eq!(faults[0].field.as_deref(), Some("summary.baseline_ttft_ms"));
}

#[test]
fn a_test_with_fewer_runs_than_the_others_is_told() {
    let mut files: Vec<_> = (1..=5).map(|run| parsed(1, run, &good())).collect();
    files.extend((1..=4).map(|run| parsed(2, run, &good())));
    let report = tr110::report(files, about()).unwrap();
    let notes = report.source.unwrap().notes;
    assert!(
        notes
            .iter()
            .any(|note| note.contains("fewer runs than the 5") && note.contains("4 of test 2")),
        "{notes:?}"
    );
}

#[test]
fn texts_beside_the_figures_are_judged_for_what_can_be() {
    let mut file = parsed(1, 1, &good());
    assert_eq!(
        file.text_files(),
        ["collector_report.md", "insight_report.md"]
    );
    let text =
        "# Findings\n\nMean TTFT is 512.3 ms over 40 requests [1].\n\n- GPU memory is full\n";
    file.judge(0, text);
    let report = tr110::report(vec![file], about()).unwrap();
    let agents = &report.tests[0].runs[0].agents;
    let judged = agents[0].quality.value.as_ref().unwrap();
    assert_eq!(
        (judged.structure.headings, judged.structure.list_items),
        (1, 1)
    );
    assert!(judged.words > 10 && judged.citations >= 1 && judged.numbers_stated >= 1);
    // The data it was written from is not there.
    assert_eq!((judged.numbers_in_data, judged.scores.facts), (None, None));
    let rate = agents[0].tokens_per_s.unwrap();
    let adjusted = agents[0].quality.adjusted_tokens_per_s.unwrap();
    assert!((adjusted - rate * judged.composite).abs() < 1e-9);
    let why = agents[1].quality.reason.as_deref().unwrap();
    assert!(why.starts_with("not in the raw data"), "{why}");
    // A run with one text of two has no quality as a whole, and says why.
    let whole = &report.tests[0].aggregate.quality;
    assert_eq!((whole.value, whole.reason.as_deref()), (None, Some(why)));
    assert!(report.source.unwrap().notes[0].contains("no figure in them was checked"));
}
