use super::*;
use chimera_domain::control::{Invalid as Why, InvalidReason};
use chimera_domain::ids::{AgentId, ExperimentId, RunId};
use chimera_domain::plan::PlannedLeg;
use chimera_domain::session::{AgentRate, LegInWords, Tally};

fn agent(name: &str) -> AgentId {
    AgentId::try_new(name).unwrap()
}

fn progress(closed: u32, valid: u32, stage: &str) -> Progress {
    let run_id = RunId::try_new("t1-r2-solo-insight").unwrap();
    Progress {
        experiment: ExperimentId::try_new("e-1").unwrap(),
        name: "e".to_owned(),
        legs_total: 6,
        legs_closed: closed,
        legs_valid: valid,
        phase: format!("{run_id}: {stage}"),
        leg: Some(PlannedLeg {
            run_id,
            test: 1,
            run: 2,
            kind: LegKind::Solo {
                agent: agent("insight"),
            },
        }),
        about: Some(LegInWords {
            label: "num_gpu=60".to_owned(),
            phase: 1,
            runs: 2,
            attempt: 1,
        }),
        members: Vec::new(),
        agents_done: Vec::new(),
        last_invalid: None,
        tally: Tally {
            phases: 1,
            tests: 1,
            runs: 2,
            ..Tally::default()
        },
        rates: Vec::new(),
        outcome: None,
    }
}

fn at(mut picture: Progress, elapsed_s: u64, left_s: Option<u64>) -> Progress {
    picture.tally.elapsed_ms = elapsed_s * 1_000;
    picture.tally.left_ms = left_s.map(|s| s * 1_000);
    picture
}

fn kept(view: &ProgressView) -> &[String] {
    match &view.sink {
        Sink::Lines(Lines::Kept(lines)) => lines,
        _ => panic!("another sink"),
    }
}

fn view() -> ProgressView {
    ProgressView::with(Sink::Lines(Lines::Kept(Vec::new())))
}

#[test]
fn a_line_per_change_with_what_is_left_once_it_is_known() {
    let mut view = view();
    view.update(&at(progress(0, 0, "warming"), 0, None));
    view.update(&at(progress(0, 0, "warming"), 1, None));
    view.update(&at(progress(1, 1, "running"), 10, None));
    view.update(&at(progress(2, 2, "running"), 20, Some(40)));
    view.update(&at(progress(2, 2, "draining"), 60, Some(0)));
    view.finish();
    assert_eq!(
        kept(&view),
        [
            "[0:00] 0 of 6 legs, 0 valid: test 1 (num_gpu=60), run 2 of 2, insight alone: warming",
            "[0:10] 1 of 6 legs, 1 valid: test 1 (num_gpu=60), run 2 of 2, insight alone: running",
            "[0:20, about 0:40 left] 2 of 6 legs, 2 valid: test 1 (num_gpu=60), run 2 of 2, \
             insight alone: running",
            "[1:00] 2 of 6 legs, 2 valid: test 1 (num_gpu=60), run 2 of 2, insight alone: draining",
        ]
    );
}

#[test]
fn what_may_be_repeated_makes_what_is_left_a_range() {
    let said = |left_s, at_most_s: Option<u64>| {
        let mut picture = at(progress(2, 2, "running"), 20, left_s);
        picture.tally.left_at_most_ms = at_most_s.map(|s| s * 1_000);
        left(&picture)
    };
    let words = |text: &str| Some(text.to_owned());
    assert_eq!(said(Some(720), None), words("about 12:00 left"));
    assert_eq!(
        said(Some(720), Some(1_860)),
        words("about 12:00 left, up to 31:00 if intervals stay wide")
    );
    // All that is planned is measured, and the analyzer is asked.
    assert_eq!(
        said(Some(0), Some(1_140)),
        words("up to 19:00 left if intervals stay wide")
    );
    assert_eq!(said(Some(0), None), None);
    assert_eq!(said(None, None), None);
}

#[test]
fn a_study_says_phase_test_attempt_and_speed() {
    let mut picture = at(progress(3, 2, "running"), 3_725, Some(7_300));
    picture.tally.phases = 3;
    picture.tally.tests = 30;
    picture.tally.tests_done = 4;
    picture.tally.retried = 1;
    picture.about.as_mut().unwrap().attempt = 2;
    picture.rates = vec![
        AgentRate {
            agent: agent("collector"),
            tokens_per_s: 41.26,
        },
        AgentRate {
            agent: agent("insight"),
            tokens_per_s: 39.0,
        },
    ];
    let mut shown = view();
    shown.update(&picture);
    assert_eq!(
        kept(&shown),
        [
            "[1:02:05, about 2:01:40 left] 3 of 6 legs (4 of 30 tests), 2 valid, 1 tried again: \
             phase 1 of 3, test 1 (num_gpu=60), run 2 of 2, insight alone, attempt 2: running"
        ]
    );
    assert_eq!(
        rates(&picture).unwrap(),
        "last leg: collector 41.3 tokens/s, insight 39.0 tokens/s"
    );
}

#[test]
fn each_invalid_attempt_is_a_line_once_and_the_unseen_are_counted() {
    let mut view = view();
    let invalid = |count| {
        let mut picture = progress(1, 0, "closed");
        let why = Why {
            reason: InvalidReason::WorkerLost,
            detail: "w1 went away".to_owned(),
        };
        picture.last_invalid = Some((RunId::try_new("t1-r2-together").unwrap(), why));
        picture.tally.invalid_attempts = count;
        picture
    };
    view.update(&invalid(1));
    view.update(&invalid(1));
    view.update(&invalid(2));
    let mut end = progress(4, 0, "closed");
    end.tally.invalid_attempts = 4;
    view.update(&end);
    view.finish();
    let lines = kept(&view);
    let told = "invalid: t1-r2-together: worker_lost (w1 went away)";
    assert_eq!(lines.iter().filter(|line| *line == told).count(), 2);
    assert_eq!(
        lines.last().unwrap(),
        "2 more attempts were invalid; the report says why"
    );
}

#[test]
fn what_was_invalid_before_somebody_looked_is_not_told_as_missed() {
    let mut view = view();
    let mut picture = progress(2, 1, "running");
    picture.tally.invalid_attempts = 3;
    view.update(&picture);
    view.finish();
    assert_eq!(kept(&view).len(), 1);
}

#[test]
fn the_end_is_said_and_a_disabled_view_is_silent() {
    let mut picture = progress(6, 6, "closed");
    picture.outcome = Some(ExperimentOutcome::Failed {
        detail: "no disk".to_owned(),
    });
    let mut shown = view();
    shown.update(&picture);
    assert_eq!(
        kept(&shown),
        ["[0:00] 6 of 6 legs, 6 valid: failed: no disk"]
    );
    let mut silent = ProgressView::new(false);
    silent.update(&picture);
    silent.note("nothing");
    silent.finish();
    assert!(matches!(silent.sink, Sink::Silent));
    assert_eq!(clock_text(Duration::from_secs(3_725)), "1:02:05");
}

#[test]
fn the_bars_have_valid_templates() {
    let bars = Bars::new(ProgressDrawTarget::hidden());
    bars.legs.disable_steady_tick();
    let mut view = ProgressView::with(Sink::Bars(bars));
    view.update(&at(progress(2, 1, "running"), 20, Some(60)));
    let Sink::Bars(bars) = &view.sink else {
        panic!("another sink")
    };
    assert_eq!(bars.legs.position(), 2);
    assert_eq!(bars.legs.message(), "2 of 6 legs, 1 valid, about 1:00 left");
    assert_eq!(
        bars.now.message(),
        "test 1 (num_gpu=60), run 2 of 2, insight alone: running"
    );
    view.finish();
    for template in [LEGS_TEMPLATE, LINE_TEMPLATE] {
        ProgressStyle::with_template(template).unwrap();
    }
}
