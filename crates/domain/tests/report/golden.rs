//! Runs whose every metric was computed by hand.

use chimera_domain::efficiency::GainRule;
use chimera_domain::plan::LegKind;
use chimera_domain::report::{RunReport, schema};
use chimera_domain::stats::Provenance;

use crate::support::{MS, Pace, World, agent_id, planned_test};

pub(crate) fn near(got: Option<f64>, want: f64) {
    let got = got.unwrap();
    assert!((got - want).abs() < 1e-6, "{got} is not {want}");
}

/// Alone: collector 4.5 s (0.1 + 2 x (0.2 + 100 x 0.02)), insight 2.5 s. Together: 8.7 s and 4.7 s.
pub(crate) fn contended() -> World {
    let mut world = World::new(vec![planned_test(1, &["collector", "insight"], 3)]);
    let solo = [
        Pace::new(200 * MS, 20 * MS, 101),
        Pace::new(200 * MS, 20 * MS, 51),
    ];
    let together = [
        Pace::new(300 * MS, 40 * MS, 101),
        Pace::new(300 * MS, 40 * MS, 51),
    ];
    for run in 1..=3 {
        world.run(1, run, &solo, &together);
    }
    world.close();
    world
}

fn only(world: &World) -> RunReport {
    let report = world.report();
    let run = report.tests[0].runs[0].clone();
    assert!(run.valid, "{:?}", run.invalid);
    run
}

#[test]
fn the_gain_of_a_contended_run() {
    let run = only(&contended());
    near(run.wall_s, 8.7);
    near(run.solo_total_s, 7.0);
    near(run.concurrency_gain, 7.0 / 8.7);
    near(run.raw_gain, 7.0 / 8.7);
    near(run.work_gain, 7.0 / 8.7);
    near(run.parallel_efficiency, 3.5 / 8.7);
    assert_eq!(run.gain_rule, Some(GainRule::SameWork));
    assert_eq!(run.gain_provenance, Provenance::Measured);
    near(run.tr110_speedup, 13.4 / 8.7);
    near(run.tr110_efficiency, 6.7 / 8.7);
    near(run.balance_identity, 1.0 + 4.7 / 8.7);
    near(run.overlap_fraction, 4.7 / 8.7);
    near(run.idle_tail_s, 4.0);
    near(run.harness_overhead_ms, 0.0);
    near(run.start_skew_ms, 0.0);
    near(run.aggregate_tokens_per_s, 304.0 / 8.7);
    near(run.solo_tokens_per_s, (202.0 / 4.5 + 102.0 / 2.5) / 2.0);
    near(
        run.throughput_ratio,
        304.0 / 8.7 / (202.0 / 4.5 + 102.0 / 2.5),
    );
    let [slow_a, slow_b] = [8.7 / 4.5, 4.7 / 2.5];
    near(run.agents[0].slowdown, slow_a);
    near(run.agents[1].slowdown, slow_b);
    let [a, b] = [1.0 / slow_a, 1.0 / slow_b];
    near(run.fairness, (a + b).powi(2) / (2.0 * (a * a + b * b)));
    // This agent minus the first.
    assert_eq!(run.agents[0].delta, None);
    let delta = run.agents[1].delta.clone().unwrap();
    near(delta.duration_s, -4.0);
    near(delta.ttft_ms, 0.0);
    near(delta.tokens_per_s, 102.0 / 4.7 - 202.0 / 8.7);
    let request = &run.agents[0].requests[0];
    near(request.ttft_ms, 300.0);
    near(request.e2e_ms, 4300.0);
    near(request.tpot_ms, 40.0);
    near(run.agents[0].solo_requests[1].tpot_ms, 20.0);
}

#[test]
fn equal_runs_have_an_interval_of_no_width() {
    let report = contended().report();
    let test = &report.tests[0];
    assert_eq!(
        (test.runs_valid, test.runs_attempted, test.runs_planned),
        (3, 3, 3)
    );
    let gain = &test.aggregate.concurrency_gain;
    near(gain.value, 7.0 / 8.7);
    assert_eq!(gain.n, 3);
    let [low, high] = gain.ci95.unwrap();
    assert!((high - low).abs() < 1e-9);
    near(test.aggregate.ttft_solo_ms.value, 200.0);
    near(test.aggregate.ttft_ms.value, 300.0);
    assert_eq!(test.distributions.ttft_ms.as_ref().unwrap().n, 12);
    assert!(test.verdict.contains("costs time"), "{}", test.verdict);
    assert!(
        test.verdict
            .contains("TR110's formula would have said 1.54"),
        "{}",
        test.verdict
    );
}

#[test]
fn an_engine_that_halves_its_speed_gains_nothing_and_tr110_says_two() {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 2)]);
    let [alone, halved] = [(200, 20), (400, 40)].map(|(ttft, gap)| Pace {
        local: 0,
        ..Pace::new(ttft * MS, gap * MS, 100)
    });
    world.run(
        1,
        1,
        &[alone.clone(), alone.clone()],
        &[halved.clone(), halved.clone()],
    );
    world.run(1, 2, &[alone.clone(), alone], &[halved.clone(), halved]);
    let run = only(&world);
    near(run.concurrency_gain, 1.0);
    near(run.tr110_speedup, 2.0);
}

#[test]
fn unequal_work_is_compared_per_token() {
    // Together the collector writes 51 instead of 101 tokens, at twice the time per token.
    let mut world = World::new(vec![planned_test(1, &["collector", "insight"], 1)]);
    let solo = [
        Pace::new(200 * MS, 20 * MS, 101),
        Pace::new(200 * MS, 20 * MS, 51),
    ];
    let together = [
        Pace::new(300 * MS, 40 * MS, 51),
        Pace::new(300 * MS, 40 * MS, 51),
    ];
    world.run(1, 1, &solo, &together);
    let run = only(&world);
    near(run.wall_s, 4.7);
    near(run.raw_gain, 7.0 / 4.7);
    near(run.concurrency_gain, 5.0 / 4.7);
    near(run.solo_reference_s, 5.0);
    near(run.agents[0].slowdown, 4.7 / 2.5);
    near(run.agents[0].raw_slowdown, 4.7 / 4.5);
    near(run.work_difference, 2.0 / 4.5);
    near(run.work_residual, 0.0);
    assert_eq!(run.gain_rule, Some(GainRule::PerUnitOfWork));
    assert_eq!(run.gain_provenance, Provenance::Derived);
    let test = &world.report().tests[0];
    assert_eq!(
        test.aggregate.concurrency_gain.provenance,
        Provenance::Derived
    );
    assert_eq!(test.aggregate.raw_gain.provenance, Provenance::Measured);
    assert!(
        test.verdict.contains("per unit of work"),
        "{}",
        test.verdict
    );
}

#[test]
fn a_longer_prompt_is_work_too_and_the_engine_says_what_it_costs() {
    // Of 200 ms TTFT the engine states 100 ms for 100 prompt tokens: 1 ms per token, 100 ms fixed.
    let mut world = World::new(vec![planned_test(1, &["a"], 1)]);
    world.engine_states_times = true;
    let alone = Pace::new(200 * MS, 20 * MS, 11);
    let mut among = Pace::new(300 * MS, 20 * MS, 11);
    among.requests = vec![(200, 11); 2];
    world.run(1, 1, &[alone], &[among]);
    let run = only(&world);
    near(run.solo_total_s, 0.9);
    near(run.solo_reference_s, 1.1);
    near(run.concurrency_gain, 1.0);
}

#[test]
fn a_difference_within_the_tolerance_stays_measured() {
    let mut world = World::new(vec![planned_test(1, &["a"], 1)]);
    let alone = Pace::new(200 * MS, 20 * MS, 201);
    let mut among = alone.clone();
    among.requests = vec![(100, 201), (104, 201)];
    world.run(1, 1, &[alone], &[among]);
    let run = only(&world);
    assert_eq!(run.gain_rule, Some(GainRule::SameWork));
    assert!(run.work_difference.unwrap() > 0.0);
}

#[test]
fn uncounted_tokens_leave_an_estimate() {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 1)]);
    let pace = Pace::new(200 * MS, 20 * MS, 50);
    world.run(1, 1, &[pace.clone(), pace.clone()], &[pace.clone(), pace]);
    for event in &mut world.events {
        if let chimera_domain::event::AgentRecord::Request(request) = &mut event.record {
            request.prompt_tokens = None;
            request.output_tokens = None;
        }
    }
    let run = only(&world);
    near(run.concurrency_gain, 2.0);
    assert_eq!(run.gain_rule, Some(GainRule::WorkUnknown));
    assert_eq!(run.gain_provenance, Provenance::Estimated);
    assert_eq!(run.work_gain, None);
}

#[test]
fn a_cap_queues_and_the_wait_is_told() {
    let mut test = planned_test(1, &["a", "b", "c"], 1);
    test.max_concurrent = 1;
    let mut world = World::new(vec![test]);
    let pace = Pace {
        local: 0,
        ..Pace::new(200 * MS, 20 * MS, 41)
    };
    world.run(1, 1, &vec![pace.clone(); 3], &vec![pace; 3]);
    let run = only(&world);
    near(run.concurrency_gain, 1.0);
    near(run.tr110_speedup, 1.0);
    near(run.overlap_fraction, 0.0);
    near(run.agents[2].queue_wait_s, 4.0);
    assert_eq!(run.agents[0].queue_wait_s, None);
    assert_eq!(run.harness_overhead_ms, None);
    near(run.idle_tail_s, 0.0);
    assert_eq!(run.start_skew_ms, None);
}

#[test]
fn identical_agents_may_share_a_solo_leg_and_it_is_labelled() {
    let mut world = World::new(vec![planned_test(1, &["a-1", "a-2"], 1)]);
    let second = LegKind::Solo {
        agent: agent_id("a-2"),
    };
    world.plan.legs.retain(|leg| leg.kind != second);
    world.submit();
    let pace = Pace::new(200 * MS, 20 * MS, 50);
    let first = LegKind::Solo {
        agent: agent_id("a-1"),
    };
    world.leg(1, 1, &first, &[(agent_id("a-1"), pace.clone())]);
    let gang = [(agent_id("a-1"), pace.clone()), (agent_id("a-2"), pace)];
    world.leg(1, 1, &LegKind::Together, &gang);
    let run = only(&world);
    near(run.concurrency_gain, 2.0);
    assert_eq!(run.agents[0].solo_shared_with, None);
    assert_eq!(run.agents[1].solo_shared_with, Some(agent_id("a-1")));
    // The shared leg's two requests describe TTFT alone once.
    assert_eq!(
        world.report().tests[0]
            .distributions
            .ttft_solo_ms
            .as_ref()
            .unwrap()
            .n,
        2
    );
}

#[test]
fn without_solo_legs_there_is_no_gain() {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 1)]);
    world.plan.legs.retain(|leg| leg.kind == LegKind::Together);
    world.submit();
    let pace = Pace::new(200 * MS, 20 * MS, 50);
    world.leg(
        1,
        1,
        &LegKind::Together,
        &[(agent_id("a"), pace.clone()), (agent_id("b"), pace)],
    );
    let run = only(&world);
    assert_eq!(run.concurrency_gain, None);
    assert_eq!(run.solo_total_s, None);
    near(run.tr110_speedup, 2.0);
    let gain = world.report().tests[0].aggregate.concurrency_gain.clone();
    assert_eq!(gain.provenance, Provenance::NotMeasured);
    assert_eq!(
        gain.reason.as_deref(),
        Some("the plan has no solo leg for every agent")
    );
}

/// Test 1: gain 2; test 2: gain 0.5; both balanced.
pub(crate) fn two_tests() -> World {
    let mut world = World::new(vec![
        planned_test(1, &["collector", "insight"], 3),
        planned_test(2, &["collector", "insight"], 3),
    ]);
    world.plan.tests[0].label = "1 thread each".to_owned();
    world.plan.tests[1].label = "2 threads each".to_owned();
    world.submit();
    let pace = |ttft, gap| Pace {
        local: 0,
        ..Pace::new(ttft * MS, gap * MS, 21)
    };
    for run in 1..=3 {
        // A little noise, so that intervals have a width.
        let noise = u64::from(run);
        let alone = [pace(100, 10), pace(100, 10)];
        world.run(
            1,
            run,
            &alone,
            &[pace(100 + noise, 10), pace(100 + noise, 10)],
        );
        world.run(
            2,
            run,
            &alone,
            &[pace(400 + noise, 40), pace(400 + noise, 40)],
        );
    }
    world.close();
    world
}

#[test]
fn the_contrast_is_one_sentence() {
    let report = two_tests().report();
    let contrast = report.contrast.unwrap();
    assert_eq!(
        (contrast.best.as_str(), contrast.worst.as_str()),
        ("1", "2")
    );
    assert!(contrast.ci95.unwrap()[0] > 1.4);
    insta::assert_snapshot!(contrast.sentence, @"'1 thread each' finishes 1.99x as fast together as one after the other, '2 threads each' 0.499x (difference 1.47 to 1.50 at 95 %): running together saves time in the first and costs time in the second; TR110's formula says 2.00 and 2.00 and does not see it.");
    insta::assert_snapshot!(report.tests[0].verdict, @"Two agents together finish 1.99x as fast as one after the other (95 % interval 1.97 to 2.00, 3 valid runs): running them together saves time, 99 % of what two undisturbed agents would gain; TR110's formula would have said 2.00.");
    insta::assert_snapshot!(report.tests[1].verdict, @"Two agents together finish 0.499x as fast as one after the other (95 % interval 0.498 to 0.500, 3 valid runs): running them together costs time; TR110's formula would have said 2.00.");
}

#[test]
fn a_built_report_keeps_its_schema() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for world in [contended(), two_tests()] {
        let value = serde_json::to_value(world.report()).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
    let mut broken = serde_json::to_value(contended().report()).unwrap();
    broken["tests"][0]["runs"][0]["wall_s"] = "long".into();
    assert!(!validator.is_valid(&broken));
}

#[test]
fn a_report_survives_its_own_json() {
    let report = two_tests().report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(
        serde_json::from_str::<chimera_domain::report::Report>(&text).unwrap(),
        report
    );
}

#[test]
fn the_layout_of_a_small_report() {
    let mut world = World::new(vec![planned_test(1, &["collector"], 1)]);
    let pace = Pace {
        local: MS,
        ttft: 200 * MS,
        gap: 20 * MS,
        requests: vec![(10, 3)],
        late: 0,
    };
    world.run(
        1,
        1,
        std::slice::from_ref(&pace),
        std::slice::from_ref(&pace),
    );
    world.close();
    insta::assert_json_snapshot!(world.report());
}
