//! The same work on several instances, on one with slots, and on one that queues.

use chimera_domain::metric::Metric;
use chimera_domain::plan::{PlannedTest, Topology};
use chimera_domain::render::report_markdown;
use chimera_domain::report::{DifferenceMethod, TopologyGroup};
use chimera_domain::stats;

use crate::golden::near;
use crate::support::{MS, Pace, World, planned_test};

const AGENTS: [&str; 2] = ["collector", "insight"];

/// Alone 4.5 s each. Pinned: as alone. Sharing two slots: half as fast. Queueing: one after the other.
/// `jitter` is added to each agent's TTFT, by test and run.
fn world(runs: u32, jitter: impl Fn(u32, u32) -> u64) -> World {
    world_of(runs, jitter, |_| {})
}

/// The same with tests that differ in more.
fn world_of(
    runs: u32,
    jitter: impl Fn(u32, u32) -> u64,
    change: impl Fn(&mut PlannedTest),
) -> World {
    let mut tests = Vec::new();
    for (id, topology) in [
        (1, Topology::Shared { slots: 1 }),
        (2, Topology::Pinned),
        (3, Topology::Shared { slots: 2 }),
    ] {
        let mut test = planned_test(id, &AGENTS, runs);
        test.topology = topology;
        change(&mut test);
        tests.push(test);
    }
    let mut world = World::new(tests);
    for run in 1..=runs {
        for test in 1..=3 {
            let more = jitter(test, run);
            let pace = |ttft: u64, gap: u64| Pace::new(ttft * MS + more, gap * MS, 101);
            let alone = pace(200, 20);
            let together = match test {
                1 => pace(2_400, 20),
                2 => alone.clone(),
                _ => pace(400, 40),
            };
            world.run(
                test,
                run,
                &[alone.clone(), alone],
                &[together.clone(), together],
            );
        }
    }
    world.close();
    world
}

fn group(world: &World) -> TopologyGroup {
    let verdict = world.report().topology.unwrap();
    assert_eq!(verdict.groups.len(), 1);
    verdict.groups[0].clone()
}

#[test]
fn one_verdict_with_its_intervals() {
    let world = world(4, |test, run| u64::from(test * run % 3) * 10 * MS);
    let group = group(&world);
    let order: Vec<&str> = group.arms.iter().map(|arm| arm.test.as_str()).collect();
    assert_eq!(order, ["2", "3", "1"], "pinned, two slots, one slot");
    assert_eq!(
        group
            .arms
            .iter()
            .map(|arm| arm.instances)
            .collect::<Vec<_>>(),
        [2, 1, 1]
    );
    assert!(group.same_work);
    assert_eq!(group.judged_by, Metric::WallS);
    let pairs: Vec<_> = group
        .pairs
        .iter()
        .map(|pair| (pair.test.as_str(), pair.other.as_str()))
        .collect();
    assert_eq!(pairs, [("2", "3"), ("2", "1"), ("3", "1")]);
    let first = &group.pairs[0].wall_s;
    assert_eq!(first.method, DifferenceMethod::PairedByRun);
    assert_eq!(first.shown, Some(true));
    // Two requests of 20 ms more each for the jitter's unit.
    near(
        first.value,
        group.arms[0].wall_s.value.unwrap() - group.arms[1].wall_s.value.unwrap(),
    );
    near(
        first.relative,
        first.value.unwrap() / group.arms[1].wall_s.value.unwrap(),
    );
    // Three pairs: each interval at 1 - 0.05 / 3, so that all hold together with 95 %.
    let report = world.report();
    let wall = |id: &str| -> Vec<f64> {
        let test = report.tests.iter().find(|test| test.id == id).unwrap();
        test.runs.iter().map(|run| run.wall_s.unwrap()).collect()
    };
    let (ones, others) = (wall("2"), wall("3"));
    let differences: Vec<f64> = ones.iter().zip(&others).map(|(a, b)| a - b).collect();
    let [low, high] = stats::t_interval(&differences, 1.0 - 0.05 / 3.0).unwrap();
    near(first.ci95.map(|ends| ends[0]), low);
    near(first.ci95.map(|ends| ends[1]), high);
    let found = stats::paired_t(&ones, &others).unwrap();
    let least = stats::minimum_detectable(found.error, found.freedom, 0.05 / 3.0, 0.8).unwrap();
    near(first.detectable, least);
    assert!(
        least > (high - low) / 2.0,
        "a true difference of half the interval is shown in about half of all experiments only"
    );
    assert_eq!(
        group.sentence,
        "2 agents on 2 instances finish the same work in 4.52 s (95 % 4.49 to 4.56): 49.2 % less time \
         than on one instance with 2 slots (8.90 s; 48.6 to 49.7 %); 49.3 % less time than on one \
         instance that queues (8.92 s; 48.8 to 49.8 %). The intervals of the differences of all 3 pairs \
         hold together with 95 %."
    );
}

#[test]
fn where_nothing_is_shown_the_smallest_difference_that_would_have_been_is_named() {
    // Two slots and the queue take equally long but for noise of seconds.
    let mut world = world(3, |test, run| u64::from(test * run * 7 % 5) * 400 * MS);
    world.plan.tests.remove(1);
    world.plan.legs.retain(|leg| leg.test != 2);
    world.submit();
    let group = group(&world);
    let pair = &group.pairs[0].wall_s;
    assert_eq!(pair.shown, Some(false));
    assert!(pair.detectable.unwrap() > pair.value.unwrap().abs());
    assert!(
        group
            .sentence
            .contains("no difference is shown to one instance that queues")
            && group.sentence.contains("in four of five experiments"),
        "{}",
        group.sentence
    );
}

#[test]
fn without_the_same_runs_the_interval_is_welchs() {
    let mut world = world(3, |test, run| u64::from(test + run) * MS);
    world.plan.legs.retain(|leg| leg.test != 3 || leg.run != 3);
    world.submit();
    let group = group(&world);
    let methods: Vec<_> = group.pairs.iter().map(|pair| pair.wall_s.method).collect();
    assert_eq!(
        methods,
        [
            DifferenceMethod::Welch,
            DifferenceMethod::PairedByRun,
            DifferenceMethod::Welch
        ]
    );
}

#[test]
fn one_run_has_a_difference_and_claims_no_interval() {
    let world = world(1, |_, _| 0);
    let sentence = group(&world).sentence;
    assert!(
        sentence
            .starts_with("2 agents on 2 instances finish the same work in 4.50 s (one valid run)"),
        "{sentence}"
    );
    assert!(sentence.contains("too few valid runs"), "{sentence}");
}

#[test]
fn other_work_is_compared_by_its_rate() {
    let mut tests = vec![planned_test(1, &AGENTS, 2), planned_test(2, &AGENTS, 2)];
    tests[1].topology = Topology::Shared { slots: 2 };
    let mut world = World::new(tests);
    for run in 1..=2 {
        for (test, tokens) in [(1, 101), (2, 61)] {
            let pace = Pace::new(200 * MS, 20 * MS + u64::from(run), tokens);
            let paces = [pace.clone(), pace];
            world.run(test, run, &paces, &paces);
        }
    }
    world.close();
    let group = group(&world);
    assert!(!group.same_work);
    assert_eq!(group.judged_by, Metric::AggregateTokensPerS);
    assert!(
        group
            .sentence
            .contains("more per second than on one instance")
            && group.sentence.contains("did not process equally many"),
        "{}",
        group.sentence
    );
}

#[test]
fn tests_that_differ_in_more_than_their_topology_are_not_compared() {
    let mut tests = vec![planned_test(1, &AGENTS, 1), planned_test(2, &AGENTS, 1)];
    tests[1].topology = Topology::Shared { slots: 2 };
    tests[1].agents[0].think_ms = 50;
    let mut world = World::new(tests);
    let paces = [Pace::new(MS, MS, 5), Pace::new(MS, MS, 5)];
    for test in 1..=2 {
        world.run(test, 1, &paces, &paces);
    }
    let report = world.report();
    assert_eq!(report.topology, None);
    assert_eq!(report.tests[1].agents[0].think_ms, 50);
    assert_eq!(report.tests[1].topology, Topology::Shared { slots: 2 });
    assert!(!report_markdown(&report).contains("One instance or several"));
}

#[test]
fn the_section_of_the_report() {
    let world = world(3, |test, run| u64::from(test * run % 3) * 10 * MS);
    let text = report_markdown(&world.report());
    let from = text.find("## One instance or several").unwrap();
    let to = text[from + 3..].find("\n## ").unwrap() + from + 3;
    insta::assert_snapshot!(&text[from..to]);
}

#[test]
fn a_topology_may_have_threads_of_its_own() {
    let threads = |shared: u32, pinned_too: bool| {
        let jitter = |test, run| u64::from(test * run % 3) * 10 * MS;
        let world = world_of(3, jitter, |test| {
            let pinned = test.topology == Topology::Pinned;
            for agent in &mut test.agents {
                agent.options.num_thread = Some(if pinned { 1 } else { shared });
            }
            if pinned_too && test.id == 3 {
                test.topology = Topology::Pinned;
            }
        });
        world.report().topology
    };
    let verdict = threads(2, false).unwrap();
    assert_eq!((verdict.groups.len(), verdict.groups[0].arms.len()), (1, 3));
    let sentence = &verdict.groups[0].sentence;
    assert!(
        sentence.starts_with("2 agents on 2 instances with 1 thread per engine finish")
            && sentence.contains("one instance with 2 slots with 2 threads per engine (")
            && sentence.contains("one instance that queues with 2 threads per engine ("),
        "{sentence}"
    );
    let alike = threads(1, false).unwrap();
    assert!(!alike.groups[0].sentence.contains("thread"));
    // A topology that both have is a difference of threads, not of topologies.
    let both = threads(2, true).unwrap();
    let arms: Vec<usize> = both.groups.iter().map(|g| g.arms.len()).collect();
    assert_eq!(arms, [2]);
}

#[test]
fn the_farthest_apart_of_three_have_an_interval_for_any_pair_of_them() {
    let report = world(4, |test, run| u64::from(test * run % 3) * 10 * MS).report();
    let contrast = report.contrast.unwrap();
    let gains = |id: &str| -> Vec<f64> {
        let test = report.tests.iter().find(|test| test.id == id).unwrap();
        let gains = test.runs.iter().map(|run| run.concurrency_gain.unwrap());
        gains.collect()
    };
    let (best, worst) = (gains(&contrast.best), gains(&contrast.worst));
    let (_, expected) = stats::welch_interval(&best, &worst, 1.0 - 0.05 / 3.0).unwrap();
    assert_eq!(contrast.ci95, Some(expected));
    assert!(
        contrast
            .sentence
            .contains("at 95 %, widened for being the farthest apart of 3 tests)"),
        "{}",
        contrast.sentence
    );
}
