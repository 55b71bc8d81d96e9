//! What is chosen on measured values, and what is repeated for want of them.

use super::super::*;
use super::study::example;
use crate::metric::Metric;

fn select(by: Metric, scenario: Option<&str>) -> Select {
    Select {
        from_phase: 1,
        scenario: scenario.map(str::to_owned),
        by,
        options: vec!["num_gpu".to_owned(), "temperature".to_owned()],
    }
}

#[test]
fn the_best_test_is_chosen_with_its_evidence() {
    let plan = build(&example("tr110")).unwrap();
    let gains = |id: u32| match id {
        10 => vec![1.9, 1.91, 1.92],
        17 => vec![1.8, 1.7, 1.9],
        4 => vec![2.5, f64::NAN],
        _ => vec![],
    };
    let values: Vec<Vec<f64>> = plan.tests.iter().map(|t| gains(t.id)).collect();
    let tests: Vec<(&PlannedTest, &[f64])> = plan
        .tests
        .iter()
        .zip(&values)
        .map(|(t, v)| (t, v.as_slice()))
        .collect();
    let best = choose(&select(Metric::ConcurrencyGain, None), &tests).unwrap();
    assert_eq!(
        (best.test, best.runner_up, best.clear),
        (4, Some((10, 1.91)), None)
    );
    // The second agent of a baseline pair has the grid's options.
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        best.options,
        [option("num_gpu", "80"), option("temperature", "0.8")]
    );
    // The first of a heterogeneous one.
    let hetero = choose(
        &select(Metric::ConcurrencyGain, Some("chimera_hetero")),
        &tests,
    )
    .unwrap();
    assert_eq!(
        (hetero.test, hetero.runner_up, hetero.clear),
        (10, None, None)
    );
    assert_eq!(hetero.options[0], option("num_gpu", "80"));
    // Less is better.
    let quick = choose(&select(Metric::WallS, None), &tests).unwrap();
    assert_eq!((quick.test, quick.clear), (17, Some(false)));
    assert_eq!(choose(&select(Metric::WallS, Some("custom")), &tests), None);
    assert_eq!(choose(&select(Metric::WallS, None), &[]), None);
}

#[test]
fn an_option_that_is_not_sent_is_not_taken_over() {
    let mut plan = build(&example("tr110")).unwrap();
    for agent in &mut plan.tests[12].agents {
        agent.options.num_gpu = None;
    }
    let choice = choose(&select(Metric::WallS, None), &[(&plan.tests[12], &[1.0])]).unwrap();
    assert_eq!(
        choice.options,
        [("temperature".to_owned(), "0.8".to_owned())]
    );
}

#[test]
fn a_difference_is_clear_when_its_interval_leaves_out_zero() {
    let plan = build(&example("tr110")).unwrap();
    let clear = |a: &[f64], b: &[f64]| {
        let tests = [(&plan.tests[0], a), (&plan.tests[1], b)];
        choose(&select(Metric::ConcurrencyGain, None), &tests).unwrap()
    };
    assert_eq!(clear(&[1.0, 1.1, 0.9], &[2.0, 2.1, 1.9]).clear, Some(true));
    assert_eq!(
        clear(&[1.0, 1.1, 0.9], &[1.05, 1.15, 0.9]).clear,
        Some(false)
    );
    assert_eq!(clear(&[1.0], &[2.0, 2.1]).clear, None);
    let tie = clear(&[1.5, 1.5], &[1.5, 1.5]);
    assert_eq!(
        (tie.test, tie.runner_up, tie.clear),
        (1, Some((2, 1.5)), Some(false))
    );
}

#[test]
fn a_test_is_repeated_until_its_interval_is_narrow_or_the_cap_is_reached() {
    let goal = Goal {
        metric: Metric::WallS,
        relative_half_width: 0.1,
        max_runs: 6,
    };
    assert!(wants_more(&goal, &[], 3));
    assert!(wants_more(&goal, &[1.0], 3));
    assert!(wants_more(&goal, &[1.0, 2.0, 3.0], 3));
    assert!(!wants_more(&goal, &[1.0, 2.0, 3.0], 6));
    assert!(!wants_more(&goal, &[10.0, 10.1, 9.9], 3));
    assert!(wants_more(&goal, &[-1.0, 1.0], 3));
    assert!(!wants_more(&goal, &[5.0, 5.0], 2));
    // 3 values: t(0.975, 2) = 4.303; sd 1, so half of it is 4.303 / sqrt(3) = 2.484 around 2.
    let half = relative_half_width(&[1.0, 2.0, 3.0]).unwrap();
    assert!((half - 2.484 / 2.0).abs() < 1e-3, "{half}");
    assert_eq!(relative_half_width(&[1.0]), None);
    assert_eq!(relative_half_width(&[0.0, 0.0]), None);
}

#[test]
fn a_repeat_is_the_next_run_and_the_same_whenever_it_is_planned() {
    let spec = example("quick");
    let mut plan = build(&spec).unwrap();
    let fourth = repeat(&plan, &spec, 1).unwrap();
    assert_eq!(fourth, repeat(&plan, &spec, 1).unwrap());
    let mut names: Vec<&str> = fourth.iter().map(|l| l.run_id.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "t1-r4-solo-collector",
            "t1-r4-solo-insight",
            "t1-r4-together"
        ]
    );
    let why = Extension::Repeated {
        test: 1,
        relative_half_width: None,
    };
    plan.extend(&why, &[], &fourth);
    assert_eq!(
        (plan.test(1).unwrap().runs, plan.test(2).unwrap().runs),
        (4, 3)
    );
    assert!(repeat(&plan, &spec, 1).unwrap().iter().all(|l| l.run == 5));
    assert_eq!(repeat(&plan, &spec, 3), Err(PlanError::NoTest(3)));
    // Orders differ between repeats and between tests.
    let orders: std::collections::BTreeSet<Vec<String>> = (0..40)
        .map(|n| {
            let mut at = plan.clone();
            at.tests[0].runs = n;
            let legs = repeat(&at, &spec, 1).unwrap();
            legs.iter().map(|l| format!("{:?}", l.kind)).collect()
        })
        .collect();
    assert_eq!(orders.len(), 6);
}
