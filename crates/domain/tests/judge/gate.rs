use chimera_domain::compare::Options;
use chimera_domain::gate::{Gate, GateState, Preset, Quantity, Threshold, judge};
use chimera_domain::render::{gate_junit, gate_markdown};
use chimera_domain::report::{OutcomeState, Report};
use chimera_domain::stats::{Provenance, Summary};

use crate::world::Truth;

fn gate(report: &Report, rules: &[&str]) -> Gate {
    let thresholds: Vec<Threshold> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    judge(report, None, &thresholds, &Options::default())
}

/// States of the results about tests, in order.
fn states(gate: &Gate) -> Vec<GateState> {
    let about_tests = gate.results.iter().filter(|r| r.test.is_some());
    about_tests.map(|result| result.state).collect()
}

#[test]
fn a_rule_is_read_and_written_the_same() {
    for text in [
        "concurrency_gain >= 1.5",
        "parallel_efficiency > 0.75 ci",
        "ttft_delta_ms <= 10000 optional",
        "contention_rate < 0.1 ci optional in 2 threads each",
        "quality_delta >= -3",
    ] {
        let rule: Threshold = text.parse().unwrap();
        assert_eq!(rule.to_string(), text);
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<Threshold>(&json).unwrap(), rule);
    }
    let percent = Threshold::parse("valid_rate", ">=90%ci").unwrap();
    assert_eq!(percent.to_string(), "valid_rate >= 0.9 ci");
    assert_eq!(
        "wall_s<30".parse::<Threshold>().unwrap().to_string(),
        "wall_s < 30"
    );
    for quantity in Quantity::all() {
        assert_eq!(Quantity::from_name(quantity.name()), Ok(quantity));
    }
}

#[test]
fn a_rule_that_cannot_be_read_says_what_would_be_right() {
    for (name, rule, says) in [
        ("concurency_gain", ">= 1", "did you mean 'concurrency_gain'"),
        ("speed", ">= 1", "there are concurrency_gain, "),
        ("wall_s", "= 1", "does not begin with >="),
        ("wall_s", "30", "does not begin with >="),
        ("wall_s", "<= fast", "has 'fast' where a number"),
        ("wall_s", "<= nan", "has 'nan' where a number"),
        ("wall_s", "<=", "has '' where a number"),
        ("wall_s", "<= 10 %", "but the figure is in s"),
        ("wall_s", "<= 10 s", "has 's' after the number"),
        ("wall_s", "<= 10 in ", "names no test"),
    ] {
        let said = Threshold::parse(name, rule).unwrap_err();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn the_mean_or_the_end_of_the_interval_decides() {
    // Two agents at a contention of 1.3 gain 2 / 1.3 = 1.54.
    let report = Truth::default().report();
    assert!(gate(&report, &["concurrency_gain >= 1.5"]).passed);
    assert!(!gate(&report, &["concurrency_gain >= 1.6"]).passed);
    let mean = report.tests[0].aggregate.concurrency_gain.value.unwrap();
    // A hair below the mean is met by it, and not by its interval.
    let hair = format!("concurrency_gain >= {}", mean - 1e-6);
    assert!(gate(&report, &[&hair]).passed);
    let sure = gate(&report, &[&format!("{hair} ci")]);
    assert!(!sure.passed);
    assert!(
        sure.results[1]
            .detail
            .contains("the end of its 95 % interval")
    );
    // One agent by itself has no gain to judge.
    assert_eq!(states(&sure), [GateState::Missed, GateState::Skipped]);
}

#[test]
fn a_rule_may_be_for_one_test() {
    let report = Truth::default().report();
    let found = gate(&report, &["wall_s <= 100 in 2", "wall_s <= 100 in test 1"]);
    assert_eq!(states(&found), [GateState::Met, GateState::Met]);
    let found = gate(&report, &["wall_s <= 100 in 9"]);
    assert!(!found.passed);
    assert!(found.results[1].detail.contains("'9'"));
}

#[test]
fn rates_and_deltas() {
    let report = Truth::default().report();
    let found = gate(
        &report,
        &[
            "contention_rate <= 0",
            "valid_rate >= 100 %",
            "ttft_delta_ms <= 80",
            "ttft_delta_ms >= 40",
        ],
    );
    assert!(found.passed, "{found:#?}");
    // The rate of an event that was never seen in ten runs may still be 28 %.
    assert_eq!(found.results[1].interval.unwrap()[0].to_bits(), 0);
    assert!(!gate(&report, &["contention_rate <= 10 % ci in 1"]).passed);
    let crowded = Truth {
        contention: 2.5,
        ..Truth::default()
    }
    .report();
    assert!(!gate(&crowded, &["contention_rate <= 0.5"]).passed);
    // TR110's flag sees balance only, and there is balance.
    assert!(gate(&crowded, &["tr110_contention_rate <= 0"]).passed);
}

#[test]
fn what_was_not_measured_fails_unless_it_is_optional() {
    let mut report = Truth::default().report();
    let found = gate(&report, &["vram_used_ratio <= 0.8"]);
    assert!(!found.passed && found.results[1].value.is_none());
    let found = gate(
        &report,
        &["vram_used_ratio <= 0.8 optional", "wall_s <= 100"],
    );
    assert!(found.passed);
    // Nothing judged is nothing passed.
    assert!(!gate(&report, &["vram_used_ratio <= 0.8 optional"]).passed);
    assert!(!gate(&report, &[]).passed);
    report.outcome.state = OutcomeState::Failed;
    report.outcome.detail = Some("every request failed".to_owned());
    let found = gate(&report, &["wall_s <= 100"]);
    assert!(!found.passed && found.results[0].detail.contains("every request failed"));
    report.tests.clear();
    assert!(!gate(&report, &["wall_s <= 100"]).passed);
}

#[test]
fn a_baseline_must_not_be_fallen_behind() {
    let baseline = Truth {
        seed: 21,
        ..Truth::default()
    }
    .report();
    let same = Truth {
        seed: 22,
        ..Truth::default()
    }
    .report();
    let slow = Truth {
        seed: 22,
        slower: 1.1,
        ..Truth::default()
    }
    .report();
    let options = Options::default();
    assert!(judge(&same, Some(&baseline), &[], &options).passed);
    let found = judge(&slow, Some(&baseline), &[], &options);
    assert!(!found.passed && found.comparison.is_some());
    assert!(judge(&baseline, Some(&slow), &[], &options).passed);
    let mut fewer = same.clone();
    fewer.tests.remove(0);
    let found = judge(&fewer, Some(&baseline), &[], &options);
    assert!(!found.passed && found.results[1].detail.contains("no partner"));
}

#[test]
fn quality_is_held_against_the_baseline() {
    let (mut baseline, mut report) = (Truth::default().report(), Truth::default().report());
    let quality = |values: &[f64]| Summary::of(values, Provenance::Measured, "no text");
    baseline.tests[0].aggregate.quality = quality(&[0.70, 0.74]);
    report.tests[0].aggregate.quality = quality(&[0.66, 0.70]);
    let delta = |rule: &str, baseline: Option<&Report>| {
        let rules = [rule.parse::<Threshold>().unwrap()];
        let found = judge(&report, baseline, &rules, &Options::default());
        let mut about = found.results.into_iter();
        about.find(|r| r.rule.starts_with("quality_delta")).unwrap()
    };
    let found = delta("quality_delta >= -5 in 1", Some(&baseline));
    assert_eq!(found.state, GateState::Met, "{}", found.detail);
    assert!((found.value.unwrap() + 4.0).abs() < 1e-9);
    let found = delta("quality_delta >= -3 in 1", Some(&baseline));
    assert_eq!(found.state, GateState::Missed, "{}", found.detail);
    // The other test's texts were not judged, and without a baseline there is no delta.
    let found = delta("quality_delta >= -3 in 2", Some(&baseline));
    assert_eq!((found.state, found.value), (GateState::Missed, None));
    let found = delta("quality_delta >= -3 optional in 1", None);
    assert_eq!(found.state, GateState::Skipped);
}

#[test]
fn tr110s_thresholds_pass_what_costs_time() {
    // Together slower than one after the other, and evenly so: balance is all that TR110 asks for.
    let crowded = Truth {
        contention: 2.5,
        cv: 0.005,
        ..Truth::default()
    }
    .report();
    for preset in Preset::ALL {
        assert_eq!(Preset::from_name(preset.name()), Some(preset));
        let found = judge(&crowded, None, &preset.thresholds(), &Options::default());
        assert!(found.passed, "{found:#?}");
    }
    assert!(!gate(&crowded, &["concurrency_gain >= 1"]).passed);
}

#[test]
fn machines_and_people_can_read_it() {
    let mut report = Truth::default().report();
    report.name = "a <b> & \"c\"".to_owned();
    let found = gate(
        &report,
        &[
            "concurrency_gain >= 1.6 ci in 1",
            "vram_used_ratio <= 0.8 optional",
            "wall_s <= 100",
        ],
    );
    insta::assert_snapshot!("gate_markdown", gate_markdown(&found));
    insta::assert_snapshot!("gate_junit", gate_junit(&found));
}
