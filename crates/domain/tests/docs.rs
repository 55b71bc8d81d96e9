//! The documents say what the code does: every figure of a report stands in `docs/metrics.md`.
use chimera_domain::gate::Quantity;
use chimera_domain::metric::Metric;
use chimera_domain::report::schema;
use chimera_domain::scaling::Law;
use serde_json::Value;

const METRICS: &str = include_str!("../../../docs/metrics.md");

/// Whether a property is a figure: a number, or a statistic of one.
fn is_figure(property: &Value) -> bool {
    let text = property.to_string();
    ["\"number\"", "\"integer\"", "/Summary\"", "/Distribution\""]
        .iter()
        .any(|kind| text.contains(kind))
}

#[test]
fn every_figure_of_a_report_is_explained() {
    let schema = schema();
    let mut missing = Vec::new();
    for part in [
        "Aggregate",
        "AgentAggregate",
        "Distributions",
        "RunReport",
        "AgentRun",
        "RequestReport",
        "TopologyArm",
        "TopologyPair",
        "Difference",
        "Attribution",
        "Decomposition",
        "AgentTime",
        "Parts",
        "Excess",
        "CauseFinding",
        "CauseSummary",
        "SlowRuns",
        "MeanTime",
        "Goodput",
    ] {
        for (name, property) in schema["$defs"][part]["properties"].as_object().unwrap() {
            let known = METRICS.contains(&format!("`{name}`"));
            if name != "run" && is_figure(property) && !known {
                missing.push(format!("{part}.{name}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "docs/metrics.md does not explain {missing:?}"
    );
}

#[test]
fn everything_that_can_be_named_is_explained() {
    let laws = Law::ALL.map(|law| serde_json::to_value(law).unwrap());
    let mut names: Vec<&str> = Quantity::all().map(Quantity::name).collect();
    names.extend(Metric::ALL.map(Metric::name));
    names.extend(laws.iter().filter_map(Value::as_str));
    names.retain(|name| !METRICS.contains(&format!("`{name}`")));
    assert!(
        names.is_empty(),
        "docs/metrics.md does not explain {names:?}"
    );
}
