//! A small report for the tests of this crate.

use chimera_domain::ids::ExperimentId;
use chimera_domain::report::Report;
use chimera_domain::stats::{Provenance, Summary};
use chimera_domain::tr110::{About, RunPath, parse, report as import};
use serde_json::json;

/// A report of two agents with one test of one run per gain.
pub(crate) fn report(experiment: &str, gains: &[f64]) -> Report {
    let agent = json!({
        "agent_type": "chimera",
        "model": "gemma3",
        "configuration": {"num_gpu": 80, "num_ctx": 512},
        "aggregate_metrics": {"total_requests": 2, "total_tokens_generated": 100},
    });
    let file = json!({
        "collector": agent,
        "insight": agent,
        "summary": {"run_number": 1, "concurrent_wall_time": 10.0, "concurrency_speedup": 1.9},
        "collector_execution_time": 10.0,
        "insight_execution_time": 9.0,
    });
    let runs = (1..).zip(gains).map(|(test, _)| {
        let path = RunPath {
            test,
            run: 1,
            phase: 1,
        };
        parse("metrics.json", path, file.to_string().as_bytes()).unwrap()
    });
    let about = About {
        experiment: ExperimentId::try_new(experiment).unwrap(),
        name: "sample".to_owned(),
        software: Some("0.1.0 (test)".to_owned()),
        git_revision: Some("abc1234".to_owned()),
    };
    let mut report = import(runs.collect(), about).unwrap();
    for (test, gain) in report.tests.iter_mut().zip(gains) {
        test.aggregate.concurrency_gain = Summary::of(&[*gain], Provenance::Measured, "");
    }
    report
}
