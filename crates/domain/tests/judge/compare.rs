use chimera_domain::compare::{MatchedBy, Options, Pairing, Verdict, compare};
use chimera_domain::metric::Metric;
use chimera_domain::render::comparison_markdown;
use chimera_domain::report::Report;
use chimera_domain::stats::power_of_t;

use crate::world::Truth;

/// The same experiment from another seed of its order: its runs do not belong pairwise.
fn unpaired(truth: Truth) -> Report {
    let mut report = truth.report();
    report.seed = Some(8);
    report
}

#[test]
fn a_report_is_no_different_from_itself() {
    let report = Truth::default().report();
    let found = compare(&report, &report, &Options::default());
    assert_eq!(
        found.verdict,
        Verdict::NoDifferenceShown,
        "{}",
        found.sentence
    );
    assert!(found.only_in_a.is_empty() && found.only_in_b.is_empty() && found.caveats.is_empty());
    assert_eq!(found.tests.len(), 2);
    for (test, metric) in found.metrics() {
        assert_eq!(test.matched_by, MatchedBy::Configuration);
        assert_eq!(test.pairing, Pairing::Paired { pairs: 10 });
        assert!(
            metric
                .difference
                .is_none_or(|difference| difference.abs() < f64::EPSILON)
        );
        assert!(metric.p_adjusted.is_none_or(|p| p >= 1.0));
    }
    assert_eq!(found, compare(&report, &report, &Options::default()));
}

#[test]
fn equal_experiments_differ_no_more_often_than_stated() {
    // 100 pairs of equal experiments compared run by run, and 100 as independent samples. At a family
    // error rate of 5 % ten of 200 find something on average, and more than 19 with probability 0.003.
    let mut finds = 0;
    for seed in 0..100 {
        let a = Truth {
            seed: 2 * seed,
            ..Truth::default()
        }
        .report();
        let truth = Truth {
            seed: 2 * seed + 1,
            ..Truth::default()
        };
        for b in [truth.report(), unpaired(truth)] {
            let found = compare(&a, &b, &Options::default());
            assert!(found.family >= 15, "{}", found.family);
            finds += u32::from(found.verdict != Verdict::NoDifferenceShown);
        }
    }
    assert!(finds <= 19, "{finds} of 200");
}

#[test]
fn a_slowdown_of_a_tenth_is_found() {
    // Pairs of a spread of 3 % each differ by 4.2 %; ten of them show a tenth at a twentieth of 5 %,
    // which is less than Holm asks of the weightiest of these, with this power.
    let power = power_of_t(0.1 / (0.03 * (2.0_f64 / 10.0).sqrt()), 9.0, 0.05 / 20.0).unwrap();
    assert!(power > 0.98, "{power}");
    let mut gains = 0;
    for seed in 0..10 {
        let a = Truth {
            cv: 0.03,
            seed: 1000 + seed,
            ..Truth::default()
        }
        .report();
        let slow = Truth {
            cv: 0.03,
            seed: 2000 + seed,
            slower: 1.1,
            ..Truth::default()
        };
        for b in [slow.report(), unpaired(slow)] {
            let found = compare(&a, &b, &Options::default());
            assert_eq!(found.verdict, Verdict::Worse, "{seed}: {}", found.sentence);
            let of = |metric: Metric| {
                let test = &found.tests[0];
                test.metrics.iter().find(|m| m.metric == metric).unwrap()
            };
            let wall = of(Metric::WallS);
            assert_eq!(wall.verdict, Verdict::Worse, "{}", wall.evidence);
            assert!((wall.relative.unwrap() - 0.1).abs() < 0.05);
            assert!(
                wall.relative_detectable.unwrap() < 0.15,
                "{}",
                wall.evidence
            );
            // Everything is slower alike: the gain is what it was.
            let gain = of(Metric::ConcurrencyGain).verdict;
            gains += u32::from(gain != Verdict::NoDifferenceShown);
            // And the other way round it is an improvement.
            let back = compare(&b, &a, &Options::default());
            assert_eq!(back.verdict, Verdict::Better);
        }
    }
    // At most 5 % of comparisons may say anything false: of 20, three or more with probability 0.08.
    assert!(gains <= 2, "{gains} of 20");
}

#[test]
fn contention_alone_shows_in_the_gain_and_not_alone() {
    let a = Truth::default().report();
    let b = Truth {
        seed: 3,
        contention: 1.6,
        ..Truth::default()
    }
    .report();
    let found = compare(&a, &b, &Options::default());
    let verdicts: Vec<(Metric, Verdict)> = found.tests[0]
        .metrics
        .iter()
        .map(|m| (m.metric, m.verdict))
        .collect();
    assert!(
        verdicts.contains(&(Metric::ConcurrencyGain, Verdict::Worse)),
        "{verdicts:?}"
    );
    assert!(verdicts.contains(&(Metric::SoloTokensPerS, Verdict::NoDifferenceShown)));
    // The efficiency is the gain over N: the same p, and no hypothesis of its own.
    let of = |metric| {
        found.tests[0]
            .metrics
            .iter()
            .find(|m| m.metric == metric)
            .unwrap()
    };
    let (gain, efficiency) = (of(Metric::ConcurrencyGain), of(Metric::ParallelEfficiency));
    assert_eq!(efficiency.same_as, Some(Metric::ConcurrencyGain));
    assert_eq!(efficiency.p_adjusted, gain.p_adjusted);
    assert!(verdicts.contains(&(Metric::ParallelEfficiency, Verdict::Worse)));
    // One agent by itself is not concerned.
    assert!(
        found.tests[1]
            .metrics
            .iter()
            .all(|m| m.verdict != Verdict::Worse)
    );
}

#[test]
fn tests_are_matched_by_what_they_ask() {
    let a = Truth {
        runs: 3,
        ..Truth::default()
    }
    .report();
    // Numbered anew: still the same configurations, but no longer the same plan.
    let mut b = a.clone();
    for (test, id) in b.tests.iter_mut().zip(["7", "8"]) {
        test.id = id.to_owned();
    }
    let found = compare(&a, &b, &Options::default());
    assert_eq!(found.tests[0].b, "7");
    assert_eq!(found.tests[0].matched_by, MatchedBy::Configuration);
    assert!(matches!(
        found.tests[0].pairing,
        Pairing::Independent { .. }
    ));
    // Other options, the same id and label.
    let mut b = a.clone();
    b.tests[0].agents[0].options.num_ctx = Some(512);
    let found = compare(&a, &b, &Options::default());
    assert_eq!(found.tests[0].matched_by, MatchedBy::IdAndLabel);
    // A test that the other never had is not compared.
    let mut b = a.clone();
    b.tests.remove(0);
    let found = compare(&a, &b, &Options::default());
    assert_eq!(
        (found.tests.len(), found.only_in_a),
        (1, vec!["1".to_owned()])
    );
    b.tests.clear();
    let found = compare(&a, &b, &Options::default());
    assert_eq!(found.verdict, Verdict::NotMeasurable);
}

#[test]
fn one_run_shows_nothing_and_says_so() {
    let a = Truth {
        runs: 1,
        ..Truth::default()
    }
    .report();
    let b = Truth {
        runs: 1,
        slower: 2.0,
        ..Truth::default()
    }
    .report();
    let found = compare(&a, &b, &Options::default());
    assert_eq!((found.verdict, found.family), (Verdict::NotMeasurable, 0));
    assert!(
        found.tests[0].metrics[0]
            .evidence
            .contains("one has no spread")
    );
}

#[test]
fn what_differs_besides_the_tests_is_said() {
    let a = Truth {
        runs: 3,
        ..Truth::default()
    }
    .report();
    let mut b = a.clone();
    b.environment.host = Some("bench-2".to_owned());
    b.environment.model_digest = Some("44".repeat(32));
    let found = compare(&a, &b, &Options::default());
    assert_eq!(found.caveats.len(), 2);
    assert!(found.caveats[0].contains("bench-1 and bench-2"));
}

#[test]
fn a_person_can_read_it() {
    let a = Truth {
        seed: 11,
        ..Truth::default()
    }
    .report();
    let b = Truth {
        seed: 12,
        slower: 1.1,
        ..Truth::default()
    }
    .report();
    let options = Options {
        metrics: vec![Metric::WallS, Metric::ConcurrencyGain],
        ..Options::default()
    };
    insta::assert_snapshot!(comparison_markdown(&compare(&a, &b, &options)));
}
