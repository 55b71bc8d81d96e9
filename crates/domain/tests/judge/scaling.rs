use chimera_domain::metric::Metric;
use chimera_domain::report::Report;
use chimera_domain::scaling::{Law, Settings, fit, series};

use crate::support::{MS, Pace, World, planned_test};

/// One to four agents, of which two can work at once: the others' time grows with their number.
fn report() -> Report {
    let gangs = [
        &["collector"][..],
        &["collector", "insight"],
        &["collector", "insight", "collector-2"],
        &["collector", "insight", "collector-2", "insight-2"],
    ];
    let runs = 3;
    let tests = (1..)
        .zip(gangs)
        .map(|(id, gang)| planned_test(id, gang, runs));
    let mut world = World::new(tests.collect());
    for run in 1..=runs {
        for (id, gang) in (1..).zip(gangs) {
            let pace = |agents: u64| Pace {
                local: 0,
                ..Pace::new(
                    (100 + u64::from(run)) * MS * agents.max(2) / 2,
                    20 * MS * agents.max(2) / 2,
                    40,
                )
            };
            let (alone, among) = (pace(1), pace(gang.len() as u64));
            world.run(id, run, &vec![alone; gang.len()], &vec![among; gang.len()]);
        }
    }
    world.close();
    world.report()
}

#[test]
fn tests_that_differ_in_the_number_of_agents_are_a_series() {
    let mut report = report();
    for metric in [Metric::AggregateTokensPerS, Metric::ConcurrencyGain] {
        let found = series(&report, metric);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].tests, ["1", "2", "3", "4"]);
        let levels: Vec<(u32, usize)> = found[0]
            .points
            .iter()
            .map(|point| (point.agents, point.values.len()))
            .collect();
        assert_eq!(levels, [(1, 3), (2, 3), (3, 3), (4, 3)]);
        let scaling = fit(&found[0].points, Settings::default()).unwrap();
        assert_eq!((scaling.law, scaling.worth.agents), (Law::ClosedQueue, 2));
        assert_eq!(scaling.plateau.from_agents, Some(2));
    }
    // Another context length is another configuration, and two numbers of agents are no series.
    for test in &mut report.tests[2..] {
        for agent in &mut test.agents {
            agent.options.num_ctx = Some(512);
        }
    }
    assert!(series(&report, Metric::ConcurrencyGain).is_empty());
}
