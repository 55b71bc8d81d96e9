//! Goodput named by gates and comparisons.

use chimera_domain::compare::{Options, Verdict, compare};
use chimera_domain::gate::{GateState, Threshold, judge};
use chimera_domain::metric::Metric;
use chimera_domain::slo::Slo;

use crate::world::Truth;

/// Together TTFT is about 260 ms, alone 200.
fn under(ttft_ms: f64) -> Truth {
    let slo = Slo {
        ttft_ms: Some(ttft_ms),
        ..Slo::default()
    };
    Truth {
        slo: Some(slo),
        ..Truth::default()
    }
}

fn rule(text: &str) -> Threshold {
    text.parse().unwrap()
}

#[test]
fn a_gate_may_ask_for_good_requests() {
    let report = under(320.0).report();
    let rules = [
        rule("good_ratio >= 99 %"),
        rule("goodput_rps > 0.1 ci"),
        rule("goodput_rps > 1000"),
    ];
    let gate = judge(&report, None, &rules, &Options::default());
    let states: Vec<GateState> = gate.results.iter().skip(1).map(|r| r.state).collect();
    let [met, missed] = [GateState::Met, GateState::Missed];
    assert_eq!(states, [met, met, met, met, missed, missed]);
}

#[test]
fn a_gate_on_goodput_fails_where_nothing_says_what_is_good() {
    let report = Truth::default().report();
    let gate = judge(
        &report,
        None,
        &[rule("good_ratio >= 0")],
        &Options::default(),
    );
    assert!(!gate.passed);
    assert_eq!(
        gate.results[1].detail,
        "good_ratio was not measured: the spec states no [slo]."
    );
}

#[test]
fn goodput_is_compared_under_the_same_limits() {
    let slower = Truth {
        slower: 1.4,
        seed: 2,
        ..under(320.0)
    };
    let found = compare(
        &under(320.0).report(),
        &slower.report(),
        &Options::default(),
    );
    assert!(found.caveats.is_empty(), "{:?}", found.caveats);
    let of = |metric| {
        let mut of_first = found.tests[0].metrics.iter();
        of_first.find(|m| m.metric == metric).unwrap().verdict
    };
    assert_eq!(of(Metric::GoodputRps), Verdict::Worse);
}

#[test]
fn under_different_limits_it_is_another_quantity() {
    let [a, b] = [320.0, 400.0].map(|limit| under(limit).report());
    let found = compare(&a, &b, &Options::default());
    assert!(found.metrics().all(|(_, m)| !m.metric.needs_slo()));
    assert_eq!(
        found.caveats,
        [
            "The limits of [slo] differ, so that goodput is not compared: TTFT <= 320 ms; and \
          TTFT <= 400 ms."
        ]
    );
}

#[test]
fn without_limits_it_is_not_mentioned_unless_asked_for() {
    let report = Truth::default().report();
    let found = compare(&report, &report, &Options::default());
    assert!(found.metrics().all(|(_, m)| !m.metric.needs_slo()));
    let only = Options {
        metrics: vec![Metric::GoodRatio],
        ..Options::default()
    };
    let found = compare(&report, &report, &only);
    assert_eq!(found.verdict, Verdict::NotMeasurable);
    assert_eq!(found.tests[0].metrics.len(), 1);
}

#[test]
fn limits_that_were_given_up_are_a_loss_against_the_baseline() {
    let (baseline, report) = (under(320.0).report(), Truth::default().report());
    let gate = judge(&report, Some(&baseline), &[], &Options::default());
    let of_goodput = |r: &&chimera_domain::gate::GateResult| r.rule.starts_with("good");
    let mut lost = gate.results.iter().filter(of_goodput);
    assert!(lost.clone().count() > 0);
    assert!(lost.all(|r| r.state == GateState::Missed));
}
