//! What we write in TR110's layout can be imported again: imported reports, and our own.

use std::collections::BTreeMap;

use chimera_domain::render::files;
use chimera_domain::report::{Report, schema};
use chimera_domain::stats::Provenance;
use chimera_domain::tr110::{self, RunPath};

use crate::support::{about, imported, metrics, of_test_one};

#[path = "../report/support.rs"]
pub(crate) mod world;

/// Every `metrics.json` that a report is written as, read back.
fn again(report: &Report) -> Report {
    let written: BTreeMap<String, Vec<u8>> = files(report, &[]).unwrap().into_iter().collect();
    let runs = written.iter().filter_map(|(path, bytes)| {
        let (folder, rest) = path.split_once('/')?;
        let run = RunPath::of_run(rest.strip_suffix("/metrics.json")?)?;
        let (phase, test) = RunPath::of_test(folder)?;
        Some(tr110::parse(path, RunPath { test, run, phase }, bytes).unwrap())
    });
    tr110::report(runs.collect(), about()).unwrap()
}

fn synthetic() -> Report {
    let values: Vec<_> = (1..=3)
        .map(|run| {
            metrics(
                run,
                [30.0 + f64::from(run), 60.0],
                [500.0, 480.0],
                [42.0, 41.0],
            )
        })
        .collect();
    of_test_one(&values).unwrap()
}

/// Files that state half of everything.
fn sparse() -> Report {
    let values: Vec<_> = (1..=3)
        .map(|run| {
            let mut value = metrics(run, [30.0, 60.0], [500.0, 480.0], [42.0, 41.0]);
            let summary = value["summary"].as_object_mut().unwrap();
            for absent in [
                "throughput_delta",
                "ttft_delta_ms",
                "sequential_estimated_time",
                "concurrency_speedup",
            ] {
                summary.remove(absent);
            }
            value["insight"]
                .as_object_mut()
                .unwrap()
                .remove("execution_summary");
            value["insight"]["aggregate_metrics"] = serde_json::json!({});
            value
        })
        .collect();
    of_test_one(&values).unwrap()
}

#[test]
fn an_imported_report_comes_back_as_it_was() {
    for report in [Some(synthetic()), Some(sparse()), imported()]
        .into_iter()
        .flatten()
    {
        let mut back = again(&report);
        // A configuration that was empty is written with every option as null, which is the same.
        assert_eq!(back.tests.len(), report.tests.len());
        back.experiment = report.experiment.clone();
        assert_eq!(back, report);
    }
}

#[test]
fn an_imported_report_keeps_its_schema_and_survives_its_json() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for report in [Some(synthetic()), imported()].into_iter().flatten() {
        let value = serde_json::to_value(&report).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}

#[test]
fn our_own_runs_can_be_imported() {
    use world::{MS, Pace, World, planned_test};
    let mut own = World::new(vec![planned_test(1, &["insight", "collector"], 2)]);
    for run in 1..=2 {
        let solo = [
            Pace::new(200 * MS, 20 * MS, 101),
            Pace::new(200 * MS, 20 * MS, 51),
        ];
        let together = [
            Pace::new(300 * MS, 40 * MS, 101),
            Pace::new(300 * MS, 40 * MS, 51),
        ];
        own.run(1, run, &solo, &together);
    }
    own.close();
    let report = own.report();
    let back = again(&report);
    let (ours, theirs) = (&report.tests[0], &back.tests[0]);
    assert_eq!(
        (&ours.id, &ours.scenario, &ours.label),
        (&theirs.id, &theirs.scenario, &theirs.label)
    );
    let names = |test: &chimera_domain::report::TestReport| -> Vec<String> {
        test.agents
            .iter()
            .map(|agent| agent.agent.to_string())
            .collect()
    };
    assert_eq!(names(ours), names(theirs), "pin order is kept");
    let near = |a: Option<f64>, b: Option<f64>| assert!((a.unwrap() - b.unwrap()).abs() < 1e-9);
    for (ours, theirs) in ours.runs.iter().zip(&theirs.runs) {
        near(ours.wall_s, theirs.wall_s);
        near(ours.tr110_speedup, theirs.tr110_speedup);
        near(ours.concurrency_gain, theirs.concurrency_gain);
        near(ours.aggregate_tokens_per_s, theirs.aggregate_tokens_per_s);
        assert_eq!(theirs.gain_provenance, Provenance::Imported);
        for (ours, theirs) in ours.agents.iter().zip(&theirs.agents) {
            near(ours.duration_s, theirs.duration_s);
            near(ours.ttft_ms, theirs.ttft_ms);
            assert_eq!(ours.output_tokens, theirs.output_tokens);
        }
    }
    assert!(
        theirs
            .verdict
            .contains("The files state a concurrency gain"),
        "{}",
        theirs.verdict
    );
}
