use serde_json::json;

use super::*;

fn cause(supported: u32, consistent: u32) -> CauseSummary {
    let summary = json!({
        "cause": "reload", "grade": if supported > 0 { "supported" } else { "consistent" },
        "runs_supported": supported, "runs_consistent": consistent, "runs_not_tested": 0, "runs": 3,
        "agents": [], "cost_ms": 12.0, "run": 2, "evidence": [], "sentence": "b|c waited.",
        "settle": "look",
    });
    serde_json::from_value(summary).unwrap()
}

#[test]
fn a_cause_says_how_often_and_how_well_it_was_found() {
    assert_eq!(standing(&cause(3, 0)), "supported, 3 of 3 runs");
    assert_eq!(standing(&cause(0, 1)), "consistent, 1 of 3 runs");
    assert_eq!(
        standing(&cause(1, 2)),
        "supported in 1 and consistent in 2 of 3 runs"
    );
    let text = cause_text(&cause(0, 1));
    assert!(text.contains("What would settle it: look"), "{text}");
    assert!(text.contains("b\\|c waited."), "{text}");
}

#[test]
fn evidence_shows_what_it_is_held_against() {
    let mut evidence = Evidence {
        what: "load of b".to_owned(),
        value: 2310.4,
        unit: "ms".to_owned(),
        against: Some(300.0),
        source: "request b-1".to_owned(),
    };
    assert_eq!(
        evidence_text(&evidence),
        "load of b: 2310 ms, against 300 ms (request b-1)"
    );
    evidence.unit = String::new();
    evidence.value = 2.0;
    evidence.against = None;
    assert_eq!(evidence_text(&evidence), "load of b: 2 (request b-1)");
}

#[test]
fn small_parts_keep_a_digit() {
    assert_eq!(milliseconds(0.01), "0");
    assert_eq!(milliseconds(3.12), "3.1");
    assert_eq!(milliseconds(1234.4), "1234");
    assert_eq!(share(5.0, 1_000.0), "0.5 %");
    assert_eq!(share(500.0, 1_000.0), "50 %");
    assert_eq!(share(1.0, 0.0), "-");
}
