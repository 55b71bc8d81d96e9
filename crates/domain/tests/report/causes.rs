//! Where the time went and whose fault it is, over the runs of a test, as people read it.

use chimera_domain::render::{
    nothing_slow, report_html, report_markdown, runs_csv, tr110_line, why_line,
};
use chimera_domain::report::Report;

use crate::support::{MS, Pace, World, planned_test};

const RUNS: u32 = 5;

fn pace(run: u32) -> Pace {
    let jitter = [0, 120, 40, 200, 80][run as usize - 1];
    Pace::new(200 * MS + 50_000 * jitter, 20 * MS + 1_000 * jitter, 40)
}

/// Two different agents, `slower` times as slow together as alone.
fn report(slower: u64) -> Report {
    let mut test = planned_test(1, &["a", "b"], RUNS);
    test.agents[1].options.num_ctx = 4096;
    let mut world = World::new(vec![test]);
    for run in 1..=RUNS {
        let mut together = pace(run);
        together.gap *= slower;
        let together = [together.clone(), together];
        world.run(1, run, &[pace(run), pace(run)], &together);
    }
    world.close();
    world.report()
}

#[test]
fn every_document_names_the_cause_and_says_what_tr110_would() {
    let report = report(2);
    let test = &report.tests[0];
    let slow = test.slow.unwrap();
    assert_eq!((slow.runs_slow, slow.runs_compared), (RUNS, RUNS));
    let first = test.causes.iter().find(|cause| cause.is_named()).unwrap();
    let line = why_line(test).unwrap();
    assert!(line.starts_with(&format!("{} (", first.cause)), "{line}");
    assert!(line.contains(&first.sentence), "{line}");
    assert!(!nothing_slow(&report));
    let rule = tr110_line(test).unwrap();
    assert!(
        rule.contains("contended in 0 of 5 runs; ours: slow in 5 of 5 runs, "),
        "{rule}"
    );
    assert!(rule.ends_with("They disagree about 5 of 5 runs."), "{rule}");
    let document = report_markdown(&report);
    let section = document.split("**Why it was slow**\n\n").nth(1).unwrap();
    assert!(section.contains("Slow beyond chance in 5 of 5 runs."));
    assert!(section.contains("| decode | "), "{section}");
    assert!(section.contains("| residual | 0 | 0 % |"), "{section}");
    let page = report_html(&report).unwrap();
    assert!(page.contains("class=\"cause\"") && page.contains("id=\"parts-1\""));
    let csv = String::from_utf8(runs_csv(&report).unwrap()).unwrap();
    let mut rows = csv.lines();
    assert!(rows.next().unwrap().ends_with(",causes"));
    let cell = format!("{}=", first.cause);
    assert!(rows.all(|row| row.rsplit(',').next().unwrap().contains(&cell)));
}

#[test]
fn where_nothing_is_slow_one_sentence_says_so() {
    let report = report(1);
    assert!(nothing_slow(&report));
    assert_eq!(why_line(&report.tests[0]), None);
    let document = report_markdown(&report);
    assert!(document.contains("\nNothing is slow beyond chance.\n"));
    assert!(document.contains("Nothing is slow beyond chance in 5 of 5 runs."));
    assert!(
        report_html(&report)
            .unwrap()
            .contains("Nothing is slow beyond chance.")
    );
    let rule = tr110_line(&report.tests[0]).unwrap();
    assert!(rule.ends_with("They agree."), "{rule}");
}

#[test]
fn the_means_of_an_agents_parts_sum_to_its_wall_time() {
    let report = report(2);
    let times = &report.tests[0].times;
    assert_eq!(times.len(), 2);
    for time in times {
        assert_eq!(time.runs, RUNS);
        let sum: f64 = chimera_domain::render::wall_pieces(&time.together)
            .into_iter()
            .filter_map(|(_, ms)| ms)
            .sum();
        assert!((sum - time.wall_ms).abs() < 1e-6, "{time:?}");
        let (together, alone) = (time.together.requests.decode_ms, time.alone.decode_ms);
        let ratio = together.unwrap() / alone.unwrap();
        assert!((ratio - 2.0).abs() < 0.01, "{ratio}");
    }
}
