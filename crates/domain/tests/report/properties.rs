//! What must hold whatever the agents do.

use chimera_domain::control::ControlRecord;
use chimera_domain::event::AgentRecord;
use chimera_domain::render::report_json;
use chimera_domain::report::{Input, RunReport, build};
use chimera_domain::units::MonoNs;
use proptest::prelude::*;

use crate::support::{MS, Pace, World, environment, planned_test};

const NAMES: [&str; 5] = ["a-1", "a-2", "a-3", "a-4", "a-5"];

prop_compose! {
    fn any_pace()(
        local in 0_u64..300,
        ttft in 1_u64..800,
        gap in 1_u64..60,
        requests in prop::collection::vec((10_u32..400, 2_u32..60), 2..3),
    ) -> Pace {
        Pace { local: local * MS, ttft: ttft * MS, gap: gap * MS, requests, late: 0 }
    }
}

/// Solo and together paces of one run of 1 to 5 agents, with their own work each.
fn any_run() -> impl Strategy<Value = (Vec<Pace>, Vec<Pace>)> {
    (1_usize..=5).prop_flat_map(|count| {
        (
            prop::collection::vec(any_pace(), count),
            prop::collection::vec(any_pace(), count),
        )
    })
}

fn world(solo: &[Pace], together: &[Pace]) -> World {
    let mut world = World::new(vec![planned_test(1, &NAMES[..solo.len()], 1)]);
    world.run(1, 1, solo, together);
    world.close();
    world
}

fn only(world: &World) -> RunReport {
    let run = world.report().tests[0].runs[0].clone();
    assert!(run.valid, "{:?}", run.invalid);
    run
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn undisturbed_identical_agents_gain_their_number(pace in any_pace(), count in 1_usize..=5) {
        let paces = vec![pace; count];
        let run = only(&world(&paces, &paces));
        prop_assert!(close(run.concurrency_gain.unwrap(), count as f64));
        prop_assert!(close(run.parallel_efficiency.unwrap(), 1.0));
        prop_assert!(close(run.throughput_ratio.unwrap(), 1.0));
        prop_assert!(close(run.fairness.unwrap(), 1.0));
    }

    #[test]
    fn agents_slowed_by_their_number_gain_nothing_and_tr110_says_n(
        pace in any_pace(),
        count in 1_usize..=5,
    ) {
        let alone = vec![pace.clone(); count];
        let by = count as u64;
        let slowed = Pace { local: pace.local * by, ttft: pace.ttft * by, gap: pace.gap * by, ..pace };
        let run = only(&world(&alone, &vec![slowed; count]));
        prop_assert!(close(run.concurrency_gain.unwrap(), 1.0));
        prop_assert!(close(run.tr110_speedup.unwrap(), count as f64));
        prop_assert!(close(run.agents[0].slowdown.unwrap(), count as f64));
    }

    #[test]
    fn one_after_the_other_gains_nothing_by_either_formula(pace in any_pace(), count in 2_usize..=5) {
        let mut test = planned_test(1, &NAMES[..count], 1);
        test.max_concurrent = 1;
        let mut world = World::new(vec![test]);
        let paces = vec![pace; count];
        world.run(1, 1, &paces, &paces);
        let run = only(&world);
        prop_assert!(close(run.concurrency_gain.unwrap(), 1.0));
        prop_assert!(close(run.tr110_speedup.unwrap(), 1.0));
        prop_assert!(close(run.overlap_fraction.unwrap(), 0.0));
    }

    #[test]
    fn bounds_and_identities((solo, together) in any_run()) {
        let run = only(&world(&solo, &together));
        let count = solo.len() as f64;
        let fairness = run.fairness.unwrap();
        prop_assert!(fairness > 0.0 && fairness <= 1.0 + 1e-12 && fairness >= 1.0 / count - 1e-12);
        prop_assert!(run.overlap_fraction.is_none_or(|part| (0.0..=1.0 + 1e-12).contains(&part)));
        prop_assert_eq!(run.overlap_fraction.is_none(), solo.len() == 1);
        // All start at once: TR110's formula is the balance identity and says nothing else.
        prop_assert!(close(run.tr110_speedup.unwrap(), run.balance_identity.unwrap()));
        prop_assert!(run.tr110_speedup.unwrap() <= count + 1e-9);
        prop_assert!(close(run.parallel_efficiency.unwrap() * count, run.concurrency_gain.unwrap()));
        prop_assert!(close(run.raw_gain.unwrap(), run.solo_total_s.unwrap() / run.wall_s.unwrap()));
        prop_assert!(
            close(run.concurrency_gain.unwrap(), run.solo_reference_s.unwrap() / run.wall_s.unwrap())
        );
        prop_assert!(run.harness_overhead_ms.unwrap().abs() < 1e-6);
        for agent in &run.agents {
            prop_assert!(agent.other_s.unwrap().abs() < 1e-6);
            prop_assert!(
                close(agent.slowdown.unwrap(), agent.duration_s.unwrap() / agent.solo_reference_s.unwrap())
            );
        }
    }

    #[test]
    fn the_work_model_recovers_a_slowdown_whatever_was_written(
        pace in any_pace(),
        outputs in prop::collection::vec(2_u32..60, 2),
        by in 1_u64..5,
    ) {
        // One agent whose decode and prefill are `by` times as slow together, writing other lengths to
        // the same prompts: alone the work would take exactly a `by`-th. Local steps are slowed too.
        let alone = Pace { requests: vec![(100, 30), (100, 30)], ..pace };
        let slowed = Pace {
            local: alone.local * by,
            ttft: alone.ttft * by,
            gap: alone.gap * by,
            requests: outputs.into_iter().map(|out| (100, out)).collect(),
            ..alone.clone()
        };
        let run = only(&world(&[alone], &[slowed]));
        prop_assert!(close(run.work_gain.unwrap() * by as f64, 1.0), "{:?}", run.work_gain);
    }

    #[test]
    fn order_and_repetition_change_no_byte(
        (solo, together) in any_run(),
        seed in any::<u64>(),
        copies in 0_usize..40,
    ) {
        let world = world(&solo, &together);
        let expected = report_json(&world.report()).unwrap();
        let (mut control, mut events) = (world.control.clone(), world.events.clone());
        for copy in 0..copies {
            events.push(world.events[(copy * 7) % world.events.len()].clone());
            control.push(world.control[(copy * 3) % world.control.len()].clone());
        }
        shuffle(&mut control, seed);
        shuffle(&mut events, seed.rotate_left(17));
        let again = build(&Input::new(&control, &events, environment())).unwrap();
        prop_assert_eq!(report_json(&again).unwrap(), expected);
    }

    #[test]
    fn shifting_every_clock_changes_no_figure((solo, together) in any_run(), by in 0_u64..1_000_000_000_000) {
        let world = world(&solo, &together);
        let mut shifted = world.clone();
        shift(&mut shifted, by);
        prop_assert_eq!(shifted.report(), world.report());
    }

    #[test]
    fn hosts_with_their_own_clocks_give_the_same_figures(
        (solo, together) in any_run(),
        apart in 0_u64..1_000_000_000,
        error in 1_u64..2_000_000,
    ) {
        // The first agent's worker sits on a second host whose clock lags by `apart`.
        let world = world(&solo, &together);
        let mut two = world.clone();
        for event in &mut two.control {
            if let ControlRecord::Reserved { members, .. } = &mut event.record {
                for member in members.iter_mut().filter(|m| m.agent.as_str() == NAMES[0]) {
                    member.clock.boot_id.0 = "boot-2".to_owned();
                    member.clock_offset_ns = i64::try_from(apart).unwrap();
                    member.clock_error_ns = error;
                }
            }
        }
        for event in two.events.iter_mut().filter(|e| e.key.agent.as_str() == NAMES[0]) {
            move_record(&mut event.record, &|at: &mut MonoNs| at.0 -= apart);
            if let AgentRecord::Begin(begin) = &mut event.record {
                begin.clock.boot_id.0 = "boot-2".to_owned();
            }
        }
        let (one, two) = (only(&world), only(&two));
        prop_assert_eq!(one.concurrency_gain, two.concurrency_gain);
        prop_assert_eq!(one.wall_s, two.wall_s);
        prop_assert_eq!(one.start_skew_ms, two.start_skew_ms);
        prop_assert!(two.wall_error_ms.unwrap() <= error as f64 / 1e6 + 1e-9);
        if solo.len() > 1 {
            prop_assert!(two.start_skew_error_ms.unwrap() > 0.0);
        }
    }
}

/// Fisher and Yates with a small generator: the order is a function of the seed.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for last in (1..items.len()).rev() {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, usize::try_from(seed >> 33).unwrap() % (last + 1));
    }
}

fn shift(world: &mut World, by: u64) {
    for event in &mut world.control {
        event.at.mono_ns.0 += by;
        match &mut event.record {
            ControlRecord::Reserved { members, .. } => {
                members
                    .iter_mut()
                    .for_each(|member| member.clock.mono_ns.0 += by);
            }
            ControlRecord::Committed { start_at, .. } => {
                start_at.iter_mut().for_each(|(_, at)| at.0 += by);
            }
            ControlRecord::Dequeued { start_at, .. } => start_at.0 += by,
            _ => {}
        }
    }
    for event in &mut world.events {
        move_record(&mut event.record, &|at: &mut MonoNs| at.0 += by);
    }
}

fn move_record(record: &mut AgentRecord, by: &impl Fn(&mut MonoNs)) {
    match record {
        AgentRecord::Begin(begin) => by(&mut begin.clock.mono_ns),
        AgentRecord::Pin(pin) => by(&mut pin.at),
        AgentRecord::Started(started) => {
            by(&mut started.planned);
            by(&mut started.actual);
        }
        AgentRecord::Local(step) => {
            by(&mut step.start);
            by(&mut step.end);
        }
        AgentRecord::Request(request) => by(&mut request.sent),
        AgentRecord::Finished(finished) => by(&mut finished.at),
        AgentRecord::Engine(watch) => watch.states.iter_mut().for_each(|state| by(&mut state.at)),
        AgentRecord::Output(_) | AgentRecord::End(_) => {}
    }
}
