//! The page: well-formed, harmless, bounded, alone in the world.

use chimera_domain::control::InvalidReason;
use chimera_domain::plan::LegKind;
use chimera_domain::render::report_html;
use chimera_domain::report::Report;
use roxmltree::{Document, ParsingOptions};

use crate::golden::{contended, two_tests};
use crate::support::{MS, Pace, World, against, agent_id, planned_test};

const HOSTILE: &str =
    "</script></style></title><img src=x onerror=alert(1)>\"'&{{ 7777*7 }}\u{0}\u{202e}";

fn page(report: &Report) -> String {
    report_html(report).unwrap()
}

fn parsed(html: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(html, options).unwrap_or_else(|error| panic!("{error}"))
}

/// Everything on a page that a browser would fetch, run or follow.
fn reaches_out(document: &Document<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        if [
            "script", "img", "link", "iframe", "object", "embed", "image", "use", "base",
        ]
        .contains(&name)
        {
            found.push(name.to_owned());
        }
        for attribute in node.attributes() {
            let key = attribute.name();
            if key.starts_with("on")
                || ["src", "href", "srcset", "action", "data", "style"].contains(&key)
            {
                found.push(format!("{name}.{key}={}", attribute.value()));
            }
        }
        let text = node.text().unwrap_or_default();
        if name == "style" && (text.contains("url(") || text.contains("@import")) {
            found.push("style".to_owned());
        }
    }
    found
}

#[test]
fn the_page_is_well_formed_and_asks_nothing_of_anyone() {
    let html = page(&two_tests().report());
    assert!(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\""));
    let document = parsed(&html);
    assert_eq!(reaches_out(&document), Vec::<String>::new());
    let policy = document
        .descendants()
        .find(|node| node.attribute("http-equiv") == Some("Content-Security-Policy"))
        .unwrap();
    assert!(
        policy
            .attribute("content")
            .unwrap()
            .starts_with("default-src 'none'")
    );
}

#[test]
fn every_picture_is_told_in_words_and_has_its_numbers() {
    let html = page(&two_tests().report());
    let document = parsed(&html);
    let drawings: Vec<_> = document
        .descendants()
        .filter(|n| n.has_tag_name("svg"))
        .collect();
    assert!(drawings.len() >= 10, "{}", drawings.len());
    for drawing in &drawings {
        assert_eq!(drawing.attribute("role"), Some("img"));
        assert!(drawing.attribute("aria-label").unwrap().len() > 20);
        let figure = drawing
            .ancestors()
            .find(|n| n.tag_name().name() == "figure")
            .unwrap();
        assert!(figure.descendants().any(|n| n.tag_name().name() == "table"));
    }
    let ids: Vec<&str> = document
        .descendants()
        .filter_map(|n| n.attribute("id"))
        .collect();
    let distinct: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "ids repeat: {ids:?}");
}

#[test]
fn hostile_words_stay_words() {
    let mut report = contended().report();
    report.name = HOSTILE.to_owned();
    report.spec = Some(format!("name = '{HOSTILE}'"));
    report.environment.cpu = Some(HOSTILE.to_owned());
    report.outcome.detail = Some(HOSTILE.to_owned());
    report.outcome.state = chimera_domain::report::OutcomeState::Failed;
    for test in &mut report.tests {
        test.label = HOSTILE.to_owned();
        test.verdict = HOSTILE.to_owned();
        test.scenario = HOSTILE.to_owned();
        for run in &mut test.runs {
            for agent in &mut run.agents {
                for request in &mut agent.requests {
                    request.step = HOSTILE.to_owned();
                }
            }
        }
    }
    let html = page(&report);
    let document = parsed(&html);
    assert_eq!(reaches_out(&document), Vec::<String>::new());
    assert!(!html.contains("<img") && !html.contains("<script"));
    assert!(!html.contains("54439"), "a template inside a label was run");
    let title = document
        .descendants()
        .find(|n| n.tag_name().name() == "title")
        .unwrap();
    assert!(
        title
            .text()
            .unwrap()
            .contains("<img src=x onerror=alert(1)>")
    );
}

/// 150 tests of 5 runs with every request.
fn large() -> Report {
    let tests: Vec<_> = (1..=150)
        .map(|id| planned_test(id, &["collector", "insight"], 5))
        .collect();
    let mut world = World::new(tests);
    for test in 1..=150 {
        for run in 1..=5 {
            let solo = [
                Pace::new(200 * MS, 20 * MS, 31),
                Pace::new(210 * MS, 21 * MS, 31),
            ];
            let slow = u64::from(20 + test % 25 + run);
            let together = [
                Pace::new(300 * MS, slow * MS, 31),
                Pace::new(310 * MS, slow * MS, 31),
            ];
            world.run(test, run, &solo, &together);
        }
    }
    world.close();
    world.report()
}

#[test]
fn a_large_report_stays_small_and_says_what_it_leaves_out() {
    let report = large();
    let html = page(&report);
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
    parsed(&html);
    for said in [
        "40 of 150 tests are drawn: half with the highest, half with the lowest gain.",
        "12 of 750 runs are drawn",
        "With more than 40 tests",
    ] {
        assert!(html.contains(said), "{said}");
    }
    // What is drawn is chosen; what is told is everything.
    for test in &report.tests {
        assert!(html.contains(&format!("id=\"test-{}\"", test.id)));
    }
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    let report = two_tests().report();
    assert_eq!(page(&report), page(&report));
}

#[test]
fn invalid_runs_and_missing_figures_are_told_with_their_reasons() {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 2)]);
    let pace = Pace::new(200 * MS, 20 * MS, 30);
    world.run(
        1,
        1,
        &[pace.clone(), pace.clone()],
        &[pace.clone(), pace.clone()],
    );
    let gang = ["a", "b"].map(|name| (agent_id(name), pace.clone()));
    world.attempt(
        1,
        2,
        &LegKind::Together,
        &gang,
        (1, 1),
        against(InvalidReason::Reload),
    );
    world.close();
    let html = page(&world.report());
    let document = parsed(&html);
    assert!(html.contains("What was not counted") && html.contains("reload"));
    assert!(html.contains("GPU memory was not measured"));
    assert!(html.contains("one valid run, no interval") || html.contains("no interval"));
    assert!(
        document
            .descendants()
            .any(|n| n.attribute("class") == Some("cross"))
    );
}

#[test]
fn an_experiment_without_a_run_is_still_a_page() {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 2)]);
    world.close();
    let html = page(&world.report());
    parsed(&html);
    assert!(html.contains("Nothing to draw"));
}

#[test]
fn a_small_page_is_as_it_was_seen() {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 2)]);
    let pace = Pace::new(200 * MS, 20 * MS, 30);
    let slow = Pace::new(400 * MS, 40 * MS, 30);
    for run in 1..=2 {
        world.run(
            1,
            run,
            &[pace.clone(), pace.clone()],
            &[slow.clone(), slow.clone()],
        );
    }
    world.close();
    let html = page(&world.report());
    // The style sheet is looked at, not compared; the words and drawings are.
    let (head, rest) = html.split_once("<style>").unwrap();
    let (_, body) = rest.split_once("</style>").unwrap();
    insta::assert_snapshot!(format!("{head}<style></style>{body}"));
}
