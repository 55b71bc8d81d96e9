//! Where the time of a run went, in reports of records whose truth is known.

use chimera_domain::attribution::{Attribution, Part};
use chimera_domain::control::InvalidReason;
use chimera_domain::event::AgentRecord;
use chimera_domain::ids::InstanceId;
use chimera_domain::plan::{LegKind, Topology};
use chimera_domain::report::Report;

use crate::support::{MS, Pace, World, against, agent_id, planned_test, run_id};

const RUNS: u32 = 5;

/// A pace that differs a little from run to run.
fn pace(run: u32) -> Pace {
    let jitter = [0, 120, 40, 200, 80][run as usize - 1];
    Pace::new(200 * MS + 50_000 * jitter, 20 * MS + 1_000 * jitter, 40)
}

fn world(together: impl Fn(u32) -> [Pace; 2]) -> World {
    let mut test = planned_test(1, &["a", "b"], RUNS);
    test.agents[1].options.num_ctx = 4096;
    let mut world = World::new(vec![test]);
    for run in 1..=RUNS {
        world.run(1, run, &[pace(run), pace(run)], &together(run));
    }
    world.close();
    world
}

fn of(report: &Report, run: usize) -> &Attribution {
    report.tests[0].runs[run].attribution.as_ref().unwrap()
}

#[test]
fn agents_that_disturb_each_other_are_slow_where_they_are() {
    let report = world(|run| {
        let mut slow = pace(run);
        slow.gap *= 2;
        [slow.clone(), slow]
    })
    .report();
    let run = &report.tests[0].runs[2];
    let found = of(&report, 2);
    assert_eq!(found.slow, Some(true));
    let slow: Vec<_> = found.excess.iter().filter(|e| e.beyond_chance).collect();
    assert_eq!(slow.len(), 2, "{slow:#?}");
    for excess in slow {
        assert_eq!(excess.part, Part::Decode);
        assert_eq!(excess.usual_n, RUNS);
        // Two requests of 39 gaps, each 20 ms longer.
        assert!((excess.excess_ms - 1_560.0).abs() < 20.0, "{excess:?}");
    }
    let time = found.decomposition.as_ref().unwrap();
    assert!((time.wall_ms / 1e3 - run.wall_s.unwrap()).abs() < 1e-9);
    assert!(time.residual_share < 1e-9);
    assert_eq!(found.requests.len(), 4);
    // Both are equally slow: by TR110's rule nothing is wrong.
    assert_eq!(found.tr110_contention, Some(false));
}

#[test]
fn agents_that_do_not_disturb_each_other_are_not_slow() {
    let report = world(|run| [pace(RUNS + 1 - run), pace(run)]).report();
    for run in 0..RUNS as usize {
        let found = of(&report, run);
        assert_eq!(found.slow, Some(false), "{:#?}", found.excess);
        assert!(found.named().next().is_none());
    }
}

#[test]
fn an_invalid_run_is_explained_too() {
    let mut world = world(|run| [pace(run), pace(run)]);
    let leg = run_id(1, 1, &LegKind::Together);
    let mut slow = pace(1);
    slow.ttft *= 3;
    let gang = [(agent_id("a"), slow.clone()), (agent_id("b"), slow)];
    let verdict = against(InvalidReason::PinChanged);
    world.attempt(1, 1, &LegKind::Together, &gang, (2, 2), verdict);
    let report = world.report();
    let run = &report.tests[0].runs[0];
    assert!(!run.valid);
    let found = of(&report, 0);
    assert_eq!(found.leg, leg);
    assert_eq!(found.slow, Some(true));
    assert!(found.decomposition.is_some());
    assert_eq!(of(&report, 1).slow, Some(false));
}

#[test]
fn an_invalid_solo_leg_does_not_say_what_is_usual() {
    let mut world = world(|run| [pace(run), pace(run)]);
    let kind = LegKind::Solo {
        agent: agent_id("a"),
    };
    let gang = [(agent_id("a"), Pace::new(9_000 * MS, 90 * MS, 40))];
    let verdict = against(InvalidReason::PinChanged);
    world.attempt(1, 1, &kind, &gang, (2, 2), verdict);
    let report = world.report();
    let found = of(&report, 1);
    let of_agent = |name: &str| {
        let decode = found
            .excess
            .iter()
            .find(|excess| excess.agent == agent_id(name) && excess.part == Part::Decode);
        decode.unwrap().clone()
    };
    assert_eq!(of_agent("a").usual_n, RUNS - 1);
    assert_eq!(of_agent("b").usual_n, RUNS);
    assert!(of_agent("a").usual_ms < 2_000.0);
}

#[test]
fn a_wait_for_the_other_agent_of_a_shared_instance_is_queue() {
    let mut world = {
        let mut test = planned_test(1, &["a", "b"], RUNS);
        test.topology = Topology::Shared { slots: 1 };
        let mut world = World::new(vec![test]);
        world.engine_states_times = true;
        for run in 1..=RUNS {
            let mut late = pace(run);
            late.ttft += 400 * MS;
            world.run(1, run, &[pace(run), pace(run)], &[pace(run), late]);
        }
        world
    };
    for run in 1..=RUNS {
        world.change(
            &run_id(1, run, &LegKind::Together),
            "b",
            |record| match record {
                AgentRecord::Begin(begin) => {
                    begin.instance = InstanceId::try_new("instance-a").unwrap();
                }
                AgentRecord::Request(request) => {
                    request.engine_times.prompt_eval_ns = Some(100 * MS);
                }
                _ => {}
            },
        );
    }
    let report = world.report();
    let found = of(&report, 0);
    let slow: Vec<_> = found.excess.iter().filter(|e| e.beyond_chance).collect();
    assert!(
        slow.iter().all(|excess| excess.part == Part::Queue),
        "{slow:#?}"
    );
    assert_eq!(slow[0].agent, agent_id("b"));
    assert!(slow[0].usual_ms.abs() < 1e-9);
}

#[test]
fn without_solo_legs_nothing_is_said_of_slowness() {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 1)]);
    world.plan.legs.retain(|leg| leg.kind == LegKind::Together);
    world.submit();
    let gang = [(agent_id("a"), pace(1)), (agent_id("b"), pace(2))];
    world.leg(1, 1, &LegKind::Together, &gang);
    world.close();
    let report = world.report();
    let found = of(&report, 0);
    assert_eq!((found.slow, found.excess.len()), (None, 0));
    assert!(found.decomposition.is_some());
}
