//! `[slo]`: which limits are let in, and who may name goodput.

use super::study::{faults, round_trip};
use super::*;
use crate::slo::Slo;

fn with_slo(lines: &str) -> String {
    with_phase(&format!("[slo]\n{lines}"))
}

#[test]
fn limits_are_kept_as_written_and_travel_in_the_plan() {
    assert_eq!(round_trip(SMALL).slo(), None);
    let spec = round_trip(&with_slo(
        "ttft_ms = 2000\ntpot_ms = 12.5\nitl_ms = 0.001\ne2e_ms = 86_400_000",
    ));
    let expected = Slo {
        ttft_ms: Some(2_000.0),
        tpot_ms: Some(12.5),
        itl_ms: Some(0.001),
        e2e_ms: Some(86_400_000.0),
    };
    assert_eq!(spec.slo(), Some(expected));
    let settled = spec.with_engine(EngineKind::Openai);
    let plan = crate::plan::build(&settled).unwrap();
    assert_eq!(plan.slo, Some(expected));
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["slo"]["tpot_ms"], 12.5);
    let one = round_trip(&with_slo("tpot_ms = 50"));
    let only = Slo {
        tpot_ms: Some(50.0),
        ..Slo::default()
    };
    assert_eq!(one.slo(), Some(only));
}

#[test]
fn a_plan_of_before_has_no_limits() {
    let spec = toml(SMALL).unwrap().with_engine(EngineKind::Openai);
    let plan = crate::plan::build(&spec).unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json.get("slo"), None);
    assert_eq!(
        serde_json::from_value::<crate::plan::Plan>(json).unwrap(),
        plan
    );
}

#[test]
fn a_limit_that_cannot_be_kept_or_missed_is_refused() {
    let cases = [
        (
            "ttft_ms = 0",
            "0 is out of bounds (allowed: 0.001 to 86400000)",
        ),
        ("tpot_ms = -1", "-1 is out of bounds"),
        ("itl_ms = inf", "inf is not a number to measure with"),
        ("e2e_ms = nan", "NaN is not a number to measure with"),
        ("e2e_ms = 1e9", "allowed: 0.001 to 86400000"),
        ("ttft_ms = \"2 s\"", "expected a number"),
        ("ttft = 2000", "unknown key (did you mean ttft_ms?)"),
        (
            "",
            "slo: states no limit, so that every request would be good (one or more of ttft_ms, \
             tpot_ms, itl_ms, e2e_ms)",
        ),
    ];
    faults(&cases, with_slo);
}

#[test]
fn every_wrong_limit_is_told_at_once_with_its_line() {
    let errors = toml(&with_slo("ttft_ms = 0\ntpot_ms = true\nitl = 3")).unwrap_err();
    let told: Vec<(Option<u32>, &str)> = errors
        .as_slice()
        .iter()
        .map(|e| (e.line, e.key.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some(7), "slo.ttft_ms"),
            (Some(8), "slo.tpot_ms"),
            (Some(9), "slo.itl"),
        ]
    );
}

#[test]
fn goodput_without_limits_is_refused_where_it_is_named() {
    let until = |metric: &str| {
        format!("[phase.until]\nmetric = \"{metric}\"\nrelative_half_width = 0.1\nmax_runs = 9\n")
    };
    let select = "num_ctx = [512, 1024]\n[[phase]]\nscenario = \"chimera_homo\"\n\
                  num_ctx = \"best\"\nselect = \"best of previous by good_ratio\"\n";
    let uses = [
        (
            "[gate]\ngoodput_rps = \">= 1\"\n".to_owned(),
            "line 7: gate.goodput_rps: goodput_rps counts requests that keep an [slo], and there is \
             none (state the limits, as in [slo] ttft_ms = 2000, or name another metric)",
        ),
        (
            until("good_ratio"),
            "phase[0].until.metric: good_ratio counts requests that keep an [slo]",
        ),
        (
            select.to_owned(),
            "phase[1].select: good_ratio counts requests that keep an [slo]",
        ),
    ];
    for (lines, expected) in uses {
        let said = fault(&with_phase(&lines));
        assert!(said.contains(expected), "{said}");
        round_trip(&with_phase(&format!("{lines}[slo]\ne2e_ms = 9000\n")));
        // A table that is wrong is told once: whether it would have done is not known.
        let said = fault(&with_phase(&format!("{lines}[slo]\ne2e_ms = 0\n")));
        assert!(said.contains("slo.e2e_ms: 0 is out of bounds"), "{said}");
    }
}
