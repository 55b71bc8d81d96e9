use chimera_domain::control::{InvalidReason, LegVerdict};
use chimera_domain::plan::{LegKind, Topology};

use super::*;

#[path = "../../../../crates/domain/tests/report/support.rs"]
mod support;

use support::{MS, Pace, World, against, agent_id, planned_test};

const PAPER: Paper = Paper {
    width: 100,
    colour: false,
};

/// Two agents that do not disturb each other, and two that do: the product's first picture.
fn contrast() -> World {
    let agents = ["collector", "insight"];
    let mut fits = planned_test(1, &agents, 3);
    fits.label = "threads fit: 1 thread each on 2 cores".to_owned();
    let mut fights = planned_test(2, &agents, 3);
    fights.label = "threads oversubscribed: 2 threads each on 2 cores".to_owned();
    let mut world = World::new(vec![fits, fights]);
    for run in 1..=3 {
        let jitter = u64::from(run) * MS;
        let alone = [
            Pace::new(100 * MS + jitter, 20 * MS, 40),
            Pace::new(110 * MS, 21 * MS, 40),
        ];
        let together = [
            Pace::new(105 * MS, 21 * MS, 40),
            Pace::new(115 * MS + jitter, 22 * MS, 40),
        ];
        world.run(1, run, &alone, &together);
        let alone = [
            Pace::new(60 * MS, 12 * MS + jitter / 10, 40),
            Pace::new(62 * MS, 12 * MS, 40),
        ];
        let together = [
            Pace::new(900 * MS, 60 * MS, 40),
            Pace::new(880 * MS, 61 * MS + jitter, 40),
        ];
        world.run(2, run, &alone, &together);
    }
    world
}

#[test]
fn the_first_picture() {
    let mut world = contrast();
    world.close();
    insta::assert_snapshot!(render(&world.report(), None, PAPER));
}

#[test]
fn with_limits_the_good_requests_stand_below() {
    let mut world = contrast();
    world.plan.slo = Some(chimera_domain::slo::Slo {
        ttft_ms: Some(500.0),
        tpot_ms: Some(50.0),
        ..chimera_domain::slo::Slo::default()
    });
    world.submit();
    world.close();
    let text = render(&world.report(), None, PAPER);
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap();
    let good = line("good requests");
    assert!(
        good.contains("100 % -> 100 %") && good.contains("100 % -> 0 %"),
        "{text}"
    );
    assert!(text.contains("A request is good within TTFT <= 500 ms, TPOT <= 50 ms."));
    let rate = line("goodput");
    assert!(
        rate.contains(" to ") && rate.contains(" 0 (0 to 0)"),
        "{rate}"
    );
}

#[test]
fn what_is_missing_is_a_dash_with_a_reason_and_what_is_invalid_is_told() {
    let mut world = World::new(vec![planned_test(1, &["collector", "insight"], 2)]);
    let pace = Pace::new(100 * MS, 20 * MS, 40);
    let names = [agent_id("collector"), agent_id("insight")];
    for name in &names {
        let kind = LegKind::Solo {
            agent: name.clone(),
        };
        world.leg(1, 1, &kind, &[(name.clone(), pace.clone())]);
    }
    let gang: Vec<_> = names
        .iter()
        .map(|name| (name.clone(), pace.clone()))
        .collect();
    let lost: LegVerdict = against(InvalidReason::WorkerLost);
    world.attempt(1, 1, &LegKind::Together, &gang, (1, 1), lost);
    insta::assert_snapshot!(render(&world.report(), None, PAPER));
}

#[test]
fn the_verdict_on_topologies_comes_first() {
    let mut tests = vec![
        planned_test(1, &["a", "b"], 2),
        planned_test(2, &["a", "b"], 2),
    ];
    tests[1].topology = Topology::Shared { slots: 2 };
    let mut world = World::new(tests);
    for run in 1..=2 {
        for (test, slower) in [(1, 1), (2, 2)] {
            let alone = Pace::new(100 * MS, 20 * MS, 40);
            let together = Pace::new(100 * MS * slower, 20 * MS * slower + run, 40);
            let run = u32::try_from(run).unwrap();
            world.run(
                test,
                run,
                &[alone.clone(), alone],
                &[together.clone(), together],
            );
        }
    }
    world.close();
    let text = render(&world.report(), None, PAPER);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let verdict = words.find("2 agents on 2 instances finish the same work in 1.86 s");
    let contrast = words.find("'test 1' finishes").unwrap();
    assert!(verdict.unwrap() < contrast, "{text}");
    assert!(
        words.contains("less time than on one instance with 2 slots"),
        "{text}"
    );
}

#[test]
fn one_run_has_a_value_and_no_interval() {
    let mut world = World::new(vec![planned_test(1, &["collector", "insight"], 1)]);
    let paces = [
        Pace::new(100 * MS, 20 * MS, 40),
        Pace::new(100 * MS, 20 * MS, 40),
    ];
    world.run(1, 1, &paces, &paces);
    world.close();
    let text = render(&world.report(), None, PAPER);
    assert!(text.contains("2.00 [1]"), "{text}");
    assert!(
        text.contains("[1] no interval: that needs two valid runs"),
        "{text}"
    );
}

#[test]
fn many_tests_stand_in_rows_and_no_line_is_wider_than_the_paper() {
    let agents = ["collector", "insight"];
    let mut world = World::new((1..=6).map(|id| planned_test(id, &agents, 2)).collect());
    for test in 1..=6 {
        for run in 1..=2 {
            let paces = [
                Pace::new(100 * MS, 20 * MS, 40),
                Pace::new(100 * MS, 20 * MS, 40),
            ];
            world.run(test, run, &paces, &paces);
        }
    }
    world.close();
    for width in [80, 100, 160] {
        let text = render(
            &world.report(),
            None,
            Paper {
                width,
                colour: false,
            },
        );
        for line in text.lines() {
            assert!(
                line.chars().count() <= usize::from(width),
                "{width}: {line}"
            );
        }
        assert!(text.contains("test 6"), "{text}");
        assert!(!text.contains('\u{1b}'), "no colour was asked for");
    }
}

#[test]
fn colour_only_where_the_interval_decides() {
    let mut world = contrast();
    world.close();
    let text = render(
        &world.report(),
        None,
        Paper {
            width: 100,
            colour: true,
        },
    );
    assert_eq!(
        text.matches("\u{1b}[38;5;10m").count(),
        1,
        "one gain is green: {text:?}"
    );
    assert_eq!(
        text.matches("\u{1b}[38;5;9m").count(),
        1,
        "one gain is red: {text:?}"
    );
}

#[test]
fn sentences_break_between_words() {
    assert_eq!(wrap("  one two three", 8), "  one\n  two\n  three");
    assert_eq!(
        wrap("a-word-that-is-longer-than-the-line", 8),
        "a-word-that-is-longer-than-the-line"
    );
    assert_eq!(wrap("", 8), "");
}

#[test]
fn lists_have_no_lines_and_no_trailing_blanks() {
    let rows = [
        vec!["a".to_owned(), "1".to_owned()],
        vec!["long name".to_owned(), "2".to_owned()],
    ];
    assert_eq!(
        plain(&["NAME", "N"], rows),
        "NAME       N\na          1\nlong name  2\n"
    );
}
