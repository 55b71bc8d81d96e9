use super::*;

#[test]
fn what_is_left_is_known_once_each_kind_was_measured() {
    let mut w = Writer::new(plan(Budget {
        cool_down_s: 10,
        ..budget(0, 0)
    }));
    assert_eq!(w.tally(0).left_ms, None);
    // Records are one second apart, and so each leg takes one.
    for _ in 0..3 {
        w.run(LegVerdict::Valid);
    }
    let tally = w.tally(w.at);
    assert_eq!(tally.left_ms, Some(9 * (1_000 + 10_000)));
    assert_eq!(tally.elapsed_ms, 5_000, "since the first record");
    // Under way: its pause is over and half of it too.
    let (leg, attempt) = w.leg();
    w.begin(&leg, attempt);
    assert_eq!(w.tally(w.at + S / 2).left_ms, Some(8 * 11_000 + 500));
    // The next coordinator counts from its own first record on.
    let again = Writer::found(plan(Budget::default()), &w.log, 2);
    assert_eq!(again.tally(S).elapsed_ms, 6_000);
}

/// Two tests of two runs that may come to four, and a later phase of one test.
fn watched() -> Plan {
    let text = "name = \"x\"\nmodel.name = \"m\"\nbackend.kind = \"openai\"\n\
                budget.cool_down_s = 10\n\
                [[phase]]\nscenario = \"custom\"\nagents = 2\nruns = 2\nnum_ctx = [512, 1024]\n\
                until = { metric = \"wall_s\", relative_half_width = 0.1, max_runs = 4 }\n\
                [[phase]]\nscenario = \"custom\"\nagents = 2\nruns = 2\nnum_ctx = \"best\"\n\
                select = \"best of previous by wall_s\"\n\
                until = { metric = \"wall_s\", relative_half_width = 0.1, max_runs = 5 }\n";
    plan::build(&spec::parse(text, SpecFormat::Toml).unwrap()).unwrap()
}

fn repeated(test: u32, run: u32) -> ControlRecord {
    let leg = |name: &str, kind| PlannedLeg {
        run_id: RunId::try_new(format!("t{test}-r{run}-{name}")).unwrap(),
        test,
        run,
        kind,
    };
    ControlRecord::Extended {
        why: Extension::Repeated {
            test,
            relative_half_width: Some(0.5),
        },
        tests: Vec::new(),
        legs: vec![leg("together", LegKind::Together)],
    }
}

#[test]
fn what_is_left_is_a_range_while_tests_may_be_repeated() {
    let mut w = Writer::new(watched());
    assert_eq!(w.tally(0).left_at_most_ms, None, "nothing is measured yet");
    for _ in 0..12 {
        w.run(LegVerdict::Valid);
    }
    // A leg takes a second and the pause before it ten. Two runs of three legs are left of the later
    // phase; each of the two tests may have two more, and the later one three.
    let planned = 6 * 11_000;
    let tally = w.tally(w.at);
    assert_eq!(tally.left_ms, Some(planned));
    assert_eq!(
        tally.left_at_most_ms,
        Some(planned + (2 * 2 + 3) * 3 * 11_000)
    );
    // The first is repeated; the second was not, so that its interval is narrow.
    w.write(None, 0, repeated(1, 3));
    let tally = w.tally(w.at);
    assert_eq!(tally.left_ms, Some(planned + 11_000));
    assert_eq!(
        tally.left_at_most_ms,
        Some(planned + 11_000 + (1 + 3) * 3 * 11_000)
    );
    // The later phase is chosen: nothing before it is repeated, and it is planned here without a goal.
    w.run(LegVerdict::Valid);
    w.write(None, 0, later(2));
    assert_eq!(w.tally(w.at).left_at_most_ms, None);
}

#[test]
fn where_no_interval_is_watched_what_is_left_is_no_range() {
    let mut w = Writer::new(plan(budget(0, 0)));
    for _ in 0..3 {
        w.run(LegVerdict::Valid);
    }
    assert!(w.tally(w.at).left_ms.is_some());
    assert_eq!(w.tally(w.at).left_at_most_ms, None);
}
