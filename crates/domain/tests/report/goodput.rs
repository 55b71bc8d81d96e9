//! Which requests of a report are good, in figures computed by hand.

use chimera_domain::event::{AgentRecord, RequestError, RequestErrorKind};
use chimera_domain::metric::Metric;
use chimera_domain::plan::LegKind;
use chimera_domain::report::Report;
use chimera_domain::slo::Slo;
use chimera_domain::stats::Provenance;

use crate::golden::{contended, near, two_tests};
use crate::support::{MS, Pace, World, agent_id, planned_test, run_id};

const NONE: Slo = Slo {
    ttft_ms: None,
    tpot_ms: None,
    itl_ms: None,
    e2e_ms: None,
};

/// The world with these limits in its plan.
pub(crate) fn under(mut world: World, slo: Slo) -> World {
    world.plan.slo = Some(slo);
    world.submit();
    world
}

fn report(world: World, slo: Slo) -> Report {
    under(world, slo).report()
}

#[test]
fn goodput_of_a_contended_run() {
    // Alone TTFT 200 ms and TPOT 20 ms; together 300 and 40. E2E together: 4.3 s and 2.3 s.
    let slo = Slo {
        tpot_ms: Some(40.0),
        e2e_ms: Some(2_500.0),
        ..NONE
    };
    let found = report(contended(), slo);
    assert_eq!(found.slo, Some(slo));
    let test = &found.tests[0];
    let goodput = test.runs[0].goodput.clone().unwrap();
    assert_eq!(
        (goodput.requests, goodput.good, goodput.undefined),
        (4, 2, 0)
    );
    near(Some(goodput.goodput_rps), 2.0 / 8.7);
    near(Some(goodput.good_ratio), 0.5);
    // Alone every request of both takes 2.2 s or less.
    assert_eq!((goodput.solo_requests, goodput.solo_good), (4, 4));
    near(goodput.good_solo_ratio, 1.0);
    let [collector, insight] = [0, 1].map(|agent: usize| &test.runs[0].agents[agent]);
    assert!(collector.requests.iter().all(|r| r.good == Some(false)));
    assert!(insight.requests.iter().all(|r| r.good == Some(true)));
    assert!(collector.solo_requests.iter().all(|r| r.good == Some(true)));
    let aggregate = &test.aggregate;
    near(aggregate.goodput_rps.value, 2.0 / 8.7);
    near(aggregate.good_ratio.value, 0.5);
    near(aggregate.good_solo_ratio.value, 1.0);
    assert_eq!(
        (
            aggregate.good_ratio.n,
            aggregate.good_ratio.reason.as_deref()
        ),
        (3, None)
    );
    assert_eq!(aggregate.goodput_rps.provenance, Provenance::Measured);
    for (metric, value) in [(Metric::GoodputRps, 2.0 / 8.7), (Metric::GoodRatio, 0.5)] {
        near(metric.of_test(aggregate).value, value);
        near(metric.of_run(&test.runs[0]), value);
        assert!(metric.higher_is_better() && metric.needs_slo() && !metric.needs_solo());
    }
}

#[test]
fn without_limits_nothing_is_said_of_good_requests() {
    let found = contended().report();
    let test = &found.tests[0];
    assert_eq!((found.slo, &test.runs[0].goodput), (None, &None));
    assert_eq!(test.runs[0].agents[0].requests[0].good, None);
    for summary in [
        &test.aggregate.goodput_rps,
        &test.aggregate.good_ratio,
        &test.aggregate.good_solo_ratio,
    ] {
        assert_eq!((summary.value, summary.n), (None, 0));
        assert_eq!(summary.reason.as_deref(), Some("the spec states no [slo]"));
    }
    let json = serde_json::to_string(&found.tests[0].runs).unwrap();
    assert!(!json.contains("goodput") && !json.contains("\"good\""));
}

#[test]
fn an_interval_comes_of_the_runs() {
    // Test 1 is at 100 ms plus its run's number: run 3 is too slow for 102.5 ms.
    let slo = Slo {
        ttft_ms: Some(102.5),
        ..NONE
    };
    let found = report(two_tests(), slo);
    let [first, second] = [0, 1].map(|test: usize| &found.tests[test].aggregate);
    near(first.good_ratio.value, 2.0 / 3.0);
    assert_eq!(first.good_ratio.n, 3);
    // Student's t of three runs would reach from -0.8 to 2.1: a share cannot.
    assert_eq!(first.good_ratio.ci95, Some([0.0, 1.0]));
    let [low, high] = first.goodput_rps.ci95.unwrap();
    assert!(low.abs() < 1e-12 && high > first.goodput_rps.value.unwrap());
    near(first.good_solo_ratio.value, 1.0);
    near(second.good_ratio.value, 0.0);
    near(second.goodput_rps.value, 0.0);
}

#[test]
fn an_answer_of_one_token_keeps_no_limit_per_token() {
    let world = || {
        let mut world = World::new(vec![planned_test(1, &["a", "b"], 1)]);
        let pace = Pace::new(200 * MS, 20 * MS, 1);
        world.run(1, 1, &[pace.clone(), pace.clone()], &[pace.clone(), pace]);
        world
    };
    for slo in [
        Slo {
            tpot_ms: Some(1e6),
            ..NONE
        },
        Slo {
            itl_ms: Some(1e6),
            ..NONE
        },
    ] {
        let found = report(world(), slo);
        let goodput = found.tests[0].runs[0].goodput.clone().unwrap();
        assert_eq!(
            (goodput.requests, goodput.good, goodput.undefined),
            (4, 0, 4)
        );
    }
    let by_first_token = Slo {
        ttft_ms: Some(200.0),
        ..NONE
    };
    let found = report(world(), by_first_token);
    near(found.tests[0].aggregate.good_ratio.value, 1.0);
}

#[test]
fn one_long_gap_breaks_the_limit_of_gaps_and_not_that_of_the_mean() {
    let mut world = World::new(vec![planned_test(1, &["a"], 1)]);
    let pace = Pace::new(200 * MS, 20 * MS, 11);
    world.run(
        1,
        1,
        std::slice::from_ref(&pace),
        std::slice::from_ref(&pace),
    );
    world.change(&run_id(1, 1, &LegKind::Together), "a", |record| {
        if let AgentRecord::Request(request) = record
            && let Some(chunk) = request.chunk_ns.get_mut(1)
        {
            // The second token comes 15 ms late: gaps of 35 and 5 ms, the same mean.
            *chunk += 15 * MS;
        }
    });
    let mean = Slo {
        tpot_ms: Some(25.0),
        ..NONE
    };
    near(
        report(world.clone(), mean).tests[0]
            .aggregate
            .good_ratio
            .value,
        1.0,
    );
    let gap = Slo {
        itl_ms: Some(25.0),
        ..NONE
    };
    let found = report(world, gap);
    near(found.tests[0].aggregate.good_ratio.value, 0.0);
    near(found.tests[0].aggregate.good_solo_ratio.value, 1.0);
}

#[test]
fn a_run_with_a_failed_request_has_no_goodput_and_the_request_is_not_good() {
    let mut world = contended();
    world.change(&run_id(1, 1, &LegKind::Together), "insight", |record| {
        if let AgentRecord::Request(request) = record {
            request.error = Some(RequestError {
                kind: RequestErrorKind::Connect,
                detail: "refused".to_owned(),
            });
        }
    });
    let slo = Slo {
        e2e_ms: Some(1e6),
        ..NONE
    };
    let found = report(world, slo);
    let test = &found.tests[0];
    assert!(!test.runs[0].valid);
    assert_eq!(test.runs[0].goodput, None);
    let requests = &test.runs[0].agents[1].requests;
    assert!(!requests.is_empty() && requests.iter().all(|r| r.good == Some(false)));
    assert_eq!(test.aggregate.good_ratio.n, 2);
}

#[test]
fn a_shared_solo_leg_counts_once() {
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
    let slo = Slo {
        ttft_ms: Some(200.0),
        ..NONE
    };
    let found = report(world, slo);
    let goodput = found.tests[0].runs[0].goodput.clone().unwrap();
    assert_eq!((goodput.requests, goodput.solo_requests), (4, 2));
}

#[test]
fn without_solo_legs_the_share_alone_says_why_it_is_missing() {
    let mut world = World::new(vec![planned_test(1, &["a"], 1)]);
    world.plan.legs.retain(|leg| leg.kind == LegKind::Together);
    world.submit();
    let pace = Pace::new(200 * MS, 20 * MS, 50);
    world.leg(1, 1, &LegKind::Together, &[(agent_id("a"), pace)]);
    let slo = Slo {
        ttft_ms: Some(200.0),
        ..NONE
    };
    let aggregate = report(world, slo).tests[0].aggregate.clone();
    near(aggregate.good_ratio.value, 1.0);
    assert_eq!(
        aggregate.good_solo_ratio.reason.as_deref(),
        Some("the plan has no solo leg for every agent")
    );
}

#[test]
fn chunks_taken_for_tokens_weaken_a_limit_per_token_and_no_other() {
    let uncounted = || {
        let mut world = contended();
        for event in &mut world.events {
            if let AgentRecord::Request(request) = &mut event.record {
                request.output_tokens = None;
            }
        }
        world
    };
    let provenance = |slo| {
        report(uncounted(), slo).tests[0]
            .aggregate
            .good_ratio
            .provenance
    };
    let first = Slo {
        ttft_ms: Some(500.0),
        ..NONE
    };
    assert_eq!(provenance(first), Provenance::Measured);
    let each = Slo {
        tpot_ms: Some(500.0),
        ..NONE
    };
    assert_eq!(provenance(each), Provenance::Estimated);
}

#[test]
fn a_report_with_limits_keeps_its_schema_and_survives_its_json() {
    let slo = Slo {
        ttft_ms: Some(102.5),
        itl_ms: Some(30.0),
        ..NONE
    };
    let found = report(two_tests(), slo);
    let value = serde_json::to_value(&found).unwrap();
    let schema = chimera_domain::report::schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(serde_json::from_value::<Report>(value).unwrap(), found);
}

#[test]
fn a_report_of_before_is_still_read() {
    let found = contended().report();
    let mut value = serde_json::to_value(&found).unwrap();
    let aggregate = value["tests"][0]["aggregate"].as_object_mut().unwrap();
    for name in ["goodput_rps", "good_ratio", "good_solo_ratio"] {
        assert!(aggregate.remove(name).is_some(), "{name}");
    }
    assert_eq!(serde_json::from_value::<Report>(value).unwrap(), found);
}

/// Test 1 keeps 102.5 ms in two of three runs together, test 2 never; both do alone.
fn limited() -> World {
    let slo = Slo {
        ttft_ms: Some(102.5),
        ..NONE
    };
    under(two_tests(), slo)
}

#[test]
fn a_person_reads_which_requests_keep_the_limits() {
    let text = chimera_domain::render::report_markdown(&limited().report());
    let (_, section) = text
        .split_once("## Requests that keep the limits\n")
        .unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    insta::assert_snapshot!(section);
    assert!(
        !chimera_domain::render::report_markdown(&two_tests().report()).contains("keep the limits")
    );
}

#[test]
fn the_page_shows_the_same_and_only_where_there_are_limits() {
    let page = |world: World| chimera_domain::render::report_html(&world.report()).unwrap();
    let html = page(limited());
    let (_, section) = html
        .split_once("<h2>Requests that keep the limits</h2>")
        .unwrap();
    let (section, _) = section.split_once("</section>").unwrap();
    for shown in [
        "TTFT &lt;= 102.5 ms",
        "67",
        "8 of 12",
        "0 of 12",
        "Good alone",
    ] {
        assert!(section.contains(shown), "{shown}: {section}");
    }
    assert!(!page(two_tests()).contains("keep the limits"));
}

#[test]
fn a_spreadsheet_has_goodput_of_each_run_and_good_requests_of_each_agent() {
    let rows = |world: &World| -> Vec<Vec<String>> {
        let bytes = chimera_domain::render::runs_csv(&world.report()).unwrap();
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(bytes.as_slice());
        let row = |row: Result<csv::StringRecord, csv::Error>| {
            row.unwrap().iter().map(str::to_owned).collect()
        };
        reader.records().map(row).collect()
    };
    let with = rows(&limited());
    let names = [
        "goodput_rps",
        "good_ratio",
        "good_solo_ratio",
        "agent_good_requests",
    ];
    let cells = |rows: &[Vec<String>], row: usize| {
        names.map(|name| {
            let column = rows[0].iter().position(|head| head == name).unwrap();
            rows[row][column].clone()
        })
    };
    let first = cells(&with, 1);
    assert_eq!(first[1..], ["1", "1", "2"]);
    assert!(first[0].parse::<f64>().unwrap() > 0.0);
    // Run 3 of test 1: every request is late together.
    assert_eq!(cells(&with, 5), ["0", "0", "1", "0"]);
    assert_eq!(cells(&rows(&two_tests()), 1), ["", "", "", ""]);
}
