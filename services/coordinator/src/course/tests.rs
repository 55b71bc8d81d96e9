use std::collections::BTreeMap;

use chimera_domain::ids::ExperimentId;
use chimera_domain::plan::{self, Budget, Choice, Extension, LegKind};
use chimera_domain::spec::{self, SpecFormat};
use chimera_domain::units::{BootId, ClockReading};
use proptest::prelude::*;

use super::*;

mod left;

const S: u64 = 1_000_000_000;

/// Two tests of two runs with solo legs: twelve legs.
fn plan(budget: Budget) -> Plan {
    let text = "name = \"x\"\nmodel.name = \"m\"\nbackend.kind = \"openai\"\n\
                [[phase]]\nscenario = \"custom\"\nagents = 2\nruns = 2\nnum_ctx = [512, 1024]\n";
    let spec = spec::parse(text, SpecFormat::Toml).unwrap();
    Plan {
        budget,
        ..plan::build(&spec).unwrap()
    }
}

fn budget(per_leg: u32, total: u32) -> Budget {
    Budget {
        retries_per_leg: per_leg,
        retries_total: total,
        failures: None,
        consecutive_failures: 0,
        cool_down_s: 0,
    }
}

fn invalid(reason: InvalidReason) -> LegVerdict {
    LegVerdict::Invalid(Invalid {
        reason,
        detail: "it broke".to_owned(),
    })
}

/// Writes records as a coordinator does, and takes them in.
struct Writer {
    course: Course,
    log: Vec<ControlEvent>,
    epoch: u64,
    at: u64,
}

impl Writer {
    fn new(plan: Plan) -> Self {
        Self {
            course: Course::new(plan),
            log: Vec::new(),
            epoch: 1,
            at: 0,
        }
    }

    /// A coordinator that finds this log.
    fn found(plan: Plan, log: &[ControlEvent], epoch: u64) -> Self {
        let mut writer = Self::new(plan);
        for event in log {
            writer.course.take(event);
        }
        writer.log = log.to_vec();
        writer.epoch = epoch;
        for (run, attempt) in writer.course.open_legs() {
            let verdict = invalid(InvalidReason::CoordinatorRestart);
            writer.write(Some(&run), attempt, ControlRecord::Closed { verdict });
        }
        writer
    }

    fn write(&mut self, run: Option<&RunId>, attempt: u32, record: ControlRecord) {
        self.at += S;
        let event = ControlEvent {
            experiment: ExperimentId::try_new("e").unwrap(),
            run: run.cloned(),
            attempt,
            epoch: self.epoch,
            at: ClockReading {
                boot_id: BootId("b".to_owned()),
                mono_ns: MonoNs(self.at),
                wall_unix_ns: self.at,
            },
            record,
        };
        self.course.take(&event);
        self.log.push(event);
    }

    fn begin(&mut self, leg: &PlannedLeg, attempt: u32) {
        let record = ControlRecord::Reserved {
            leg: leg.clone(),
            members: Vec::new(),
        };
        self.write(Some(&leg.run_id), attempt, record);
    }

    fn close(&mut self, leg: &PlannedLeg, attempt: u32, verdict: LegVerdict) {
        self.write(
            Some(&leg.run_id),
            attempt,
            ControlRecord::Closed { verdict },
        );
    }

    /// The next leg, which must be one.
    fn leg(&self) -> (PlannedLeg, u32) {
        match self.course.next() {
            Next::Leg(leg, attempt) => (leg, attempt),
            other => panic!("{other:?}"),
        }
    }

    /// Executes the next leg.
    fn run(&mut self, verdict: LegVerdict) -> (RunId, u32) {
        let (leg, attempt) = self.leg();
        self.begin(&leg, attempt);
        self.close(&leg, attempt, verdict);
        (leg.run_id, attempt)
    }

    fn tally(&self, now: u64) -> Tally {
        self.course
            .tally(&self.course.count(), self.epoch, MonoNs(now))
    }

    fn legs_closed(&self) -> (u32, u32) {
        let count = self.course.count();
        (count.legs_closed, count.legs_valid)
    }

    fn failed(&self) -> String {
        match self.course.next() {
            Next::End(ExperimentOutcome::Failed { detail }) => detail,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_invalid_leg_is_tried_again_at_once_and_counted() {
    let mut w = Writer::new(plan(budget(2, 20)));
    let first = w.run(invalid(InvalidReason::RequestFailed));
    let second = w.run(invalid(InvalidReason::WorkerLost));
    let third = w.run(LegVerdict::Valid);
    assert_eq!((first.1, second.1, third.1), (1, 2, 3));
    assert!(first.0 == second.0 && second.0 == third.0);
    assert_ne!(w.leg().0.run_id, first.0);
    let tally = w.tally(0);
    assert_eq!((tally.invalid_attempts, tally.retried), (2, 2));
    assert_eq!(w.legs_closed(), (1, 1));
    assert_eq!(w.course.verdicts(), 3);
}

#[test]
fn a_leg_stays_invalid_when_its_budget_or_the_whole_one_is_spent() {
    let mut w = Writer::new(plan(budget(1, 2)));
    let bad = || invalid(InvalidReason::RequestFailed);
    let legs: Vec<(RunId, u32)> = (0..6).map(|_| w.run(bad())).collect();
    // Two legs get their second attempt, then nothing is left to pay with.
    let attempts: Vec<u32> = legs.iter().map(|(_, attempt)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 1, 2, 1, 1]);
    assert_eq!(w.legs_closed(), (4, 0));
    // The others of a lost run are executed all the same.
    let rest = std::iter::from_fn(|| match w.course.next() {
        Next::Leg(..) => Some(w.run(LegVerdict::Valid)),
        _ => None,
    });
    assert_eq!(rest.count(), 8);
    assert_eq!(w.course.next(), Next::End(ExperimentOutcome::Completed));
    let tally = w.tally(0);
    assert_eq!((tally.runs, tally.tests, tally.tests_done), (4, 2, 2));
    assert_eq!(tally.runs_valid + tally.runs_invalid, 4);
}

#[test]
fn a_restart_costs_nothing_but_not_for_ever() {
    let mut w = Writer::new(plan(budget(0, 0)));
    let restart = || invalid(InvalidReason::CoordinatorRestart);
    let legs: Vec<(RunId, u32)> = (0..=MAX_RESTARTS).map(|_| w.run(restart())).collect();
    assert!(legs.windows(2).all(|two| two[0].0 == two[1].0));
    assert_ne!(w.leg().0.run_id, legs[0].0, "given up after that many");
    assert_eq!(w.legs_closed(), (1, 0));
}

#[test]
fn a_row_of_failures_stops_it_with_the_reason_and_the_remedy() {
    let mut w = Writer::new(plan(Budget {
        consecutive_failures: 3,
        ..budget(1, 20)
    }));
    w.run(invalid(InvalidReason::NoGang));
    w.run(invalid(InvalidReason::NoGang));
    w.run(LegVerdict::Valid);
    w.run(invalid(InvalidReason::RequestFailed));
    w.run(invalid(InvalidReason::RequestFailed));
    w.leg();
    w.run(invalid(InvalidReason::NoGang));
    let detail = w.failed();
    for part in [
        "the last 3 attempts at legs were all invalid",
        "budget.consecutive_failures",
        "no_gang: it broke",
        "start the workers",
    ] {
        assert!(detail.contains(part), "{detail}");
    }
}

#[test]
fn legs_that_stay_invalid_stop_it_once_more_than_may() {
    let mut w = Writer::new(plan(Budget {
        failures: Some(1),
        ..budget(0, 0)
    }));
    w.run(invalid(InvalidReason::Timeout));
    w.run(LegVerdict::Valid);
    w.run(invalid(InvalidReason::NotReady));
    let detail = w.failed();
    for part in [
        "2 legs stay invalid and 1 may",
        "budget.failures",
        "not_ready",
    ] {
        assert!(detail.contains(part), "{detail}");
    }
    let mut none = Writer::new(plan(Budget {
        failures: Some(0),
        ..budget(0, 0)
    }));
    none.run(invalid(InvalidReason::Timeout));
    assert!(none.failed().contains("1 leg stays invalid and none may"));
}

#[test]
fn a_cancelled_leg_ends_the_experiment_as_cancelled() {
    let mut w = Writer::new(plan(budget(5, 20)));
    w.run(invalid(InvalidReason::Cancelled));
    assert_eq!(w.course.next(), Next::End(ExperimentOutcome::Cancelled));
    let closed = ControlRecord::ExperimentClosed {
        outcome: ExperimentOutcome::Cancelled,
    };
    w.write(None, 0, closed);
    assert_eq!(w.course.next(), Next::Over);
}

#[test]
fn what_the_analyzer_refuses_is_tried_again_last_and_once() {
    let mut w = Writer::new(plan(budget(1, 20)));
    let legs: Vec<PlannedLeg> = (0..12)
        .map(|_| {
            let (leg, _) = w.leg();
            w.run(LegVerdict::Valid);
            leg
        })
        .collect();
    assert_eq!(w.course.next(), Next::Grow, "the analyzer may refuse some");
    let refused = || invalid(InvalidReason::Reload);
    assert!(w.course.may_retry(&legs[3].run_id, 1));
    w.close(&legs[3], 1, refused());
    assert!(!w.course.may_retry(&legs[3].run_id, 1));
    w.close(&legs[3], 1, refused());
    assert_eq!(w.leg(), (legs[3].clone(), 2));
    assert_eq!(w.course.verdicts(), 12, "attempts are counted, not records");
    w.run(LegVerdict::Valid);
    assert!(!w.course.may_retry(&legs[3].run_id, 2));
    w.close(&legs[3], 2, refused());
    assert_eq!(w.course.next(), Next::Grow);
    assert_eq!(w.legs_closed(), (12, 11), "its budget is spent");
    let again = Writer::found(plan(budget(1, 20)), &w.log, 2);
    assert_eq!(again.course, w.course);
}

#[test]
fn a_plan_grows_by_its_records_and_only_once() {
    let mut w = Writer::new(plan(budget(0, 0)));
    let repeat = |run: u32| {
        let leg = PlannedLeg {
            run_id: RunId::try_new(format!("t1-r{run}-together")).unwrap(),
            test: 1,
            run,
            kind: LegKind::Together,
        };
        ControlRecord::Extended {
            why: Extension::Repeated {
                test: 1,
                relative_half_width: Some(0.5),
            },
            tests: Vec::new(),
            legs: vec![leg],
        }
    };
    w.write(None, 0, repeat(3));
    w.write(None, 0, repeat(3));
    assert_eq!(w.course.count().legs_total, 13);
    assert_eq!(w.course.plan().test(1).unwrap().runs, 3);
}

/// What happens to the next leg.
#[derive(Debug, Clone, Copy)]
enum Event {
    Valid,
    Fails(InvalidReason),
    /// The coordinator dies before this many more records are written.
    Killed(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => Just(Event::Valid),
        2 => Just(Event::Fails(InvalidReason::RequestFailed)),
        1 => Just(Event::Fails(InvalidReason::NoGang)),
        3 => (0_u8..2).prop_map(Event::Killed),
    ];
    proptest::collection::vec(event, 0..60)
}

fn budgets() -> impl Strategy<Value = Budget> {
    (0_u32..3, 0_u32..8, proptest::option::of(0_u32..4), 0_u32..5).prop_map(
        |(retries_per_leg, retries_total, failures, consecutive_failures)| Budget {
            retries_per_leg,
            retries_total,
            failures,
            consecutive_failures,
            cool_down_s: 0,
        },
    )
}

/// A phase that a plan grows by when all before it is done: its legs, twice as many as `at`.
fn later(at: usize) -> ControlRecord {
    let run = u32::try_from(at).unwrap() + 3;
    let legs = [1, 2].map(|test| PlannedLeg {
        run_id: RunId::try_new(format!("t{test}-r{run}-together")).unwrap(),
        test,
        run,
        kind: LegKind::Together,
    });
    ControlRecord::Extended {
        why: Extension::Selected {
            phase: 2,
            choice: Choice {
                test: 1,
                value: 1.0,
                runner_up: None,
                clear: None,
                options: Vec::new(),
            },
        },
        tests: Vec::new(),
        legs: legs.to_vec(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whenever a coordinator dies, the next one goes on as it would have: no attempt is made
    /// twice, no leg that ended is begun again, none is left out, and the plan is the same.
    #[test]
    fn kills_at_any_moment_repeat_nothing_and_lose_nothing(budget in budgets(), events in events()) {
        let submitted = plan(budget);
        let mut w = Writer::new(submitted.clone());
        let mut grown = 0;
        let mut script = events.into_iter();
        // Bounded: the script, then only valid legs.
        for _ in 0..300 {
            let event = script.next().unwrap_or(Event::Valid);
            if let Event::Killed(after) = event {
                if after > 0 && let Next::Leg(leg, attempt) = w.course.next() {
                    w.begin(&leg, attempt);
                }
                let live = w.course.clone();
                let at = w.at;
                let epoch = w.epoch + 1;
                let mut fold = Course::new(submitted.clone());
                w.log.iter().for_each(|event| fold.take(event));
                prop_assert_eq!(&fold, &live, "the log says all that there is to know");
                w = Writer::found(submitted.clone(), &w.log, epoch);
                w.at = w.at.max(at);
                prop_assert!(w.course.open_legs().is_empty());
                continue;
            }
            match w.course.next() {
                Next::Leg(leg, attempt) => {
                    w.begin(&leg, attempt);
                    w.close(&leg, attempt, match event {
                        Event::Fails(reason) => invalid(reason),
                        Event::Valid | Event::Killed(_) => LegVerdict::Valid,
                    });
                }
                Next::End(ExperimentOutcome::Completed) | Next::Grow if grown < 2 => {
                    w.write(None, 0, later(grown));
                    grown += 1;
                }
                Next::End(outcome) => {
                    w.write(None, 0, ControlRecord::ExperimentClosed { outcome });
                }
                Next::Grow => {
                    let outcome = ExperimentOutcome::Completed;
                    w.write(None, 0, ControlRecord::ExperimentClosed { outcome });
                }
                Next::Over => break,
            }
        }
        prop_assert_eq!(w.course.next(), Next::Over);

        let mut begun: BTreeMap<(&RunId, u32), u32> = BTreeMap::new();
        let mut verdicts: BTreeMap<&RunId, Vec<(u32, bool)>> = BTreeMap::new();
        for event in &w.log {
            let Some(run) = &event.run else { continue };
            match &event.record {
                ControlRecord::Reserved { .. } => {
                    prop_assert!(
                        !verdicts.get(run).is_some_and(|all| all.iter().any(|(_, valid)| *valid)),
                        "a valid leg was begun again"
                    );
                    *begun.entry((run, event.attempt)).or_default() += 1;
                }
                ControlRecord::Closed { verdict } => {
                    verdicts.entry(run).or_default().push((event.attempt, *verdict == LegVerdict::Valid));
                }
                _ => {}
            }
        }
        prop_assert!(begun.values().all(|count| *count == 1));
        for all in verdicts.values() {
            let attempts: Vec<u32> = all.iter().map(|(attempt, _)| *attempt).collect();
            let expected: Vec<u32> = (1..=u32::try_from(all.len()).unwrap()).collect();
            prop_assert_eq!(attempts, expected, "attempts are numbered without a gap");
        }
        let plan = w.course.plan();
        prop_assert_eq!(plan.legs.len(), submitted.legs.len() + 2 * grown);
        if w.course.outcome() == Some(&ExperimentOutcome::Completed) {
            for leg in &plan.legs {
                prop_assert!(verdicts.contains_key(&leg.run_id), "{} was left out", leg.run_id);
            }
        }
        let paid = w.course.paid;
        prop_assert!(paid <= budget.retries_total);
    }
}
