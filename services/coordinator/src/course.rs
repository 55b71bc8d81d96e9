//! Where an experiment stands: a fold of its log, record by record, and what follows from it.
//!
//! The coordinator that writes a record and the one that reads it back after a crash take it in by
//! the same function, so that both go on in the same way. Nothing here waits, sends or reads a
//! clock.
//!
//! Rules: an invalid attempt is followed by another one while the budget allows, at once, so that
//! the legs of a run stay together; one that only the analyzer's check refuses, after all others. An attempt that went down with its coordinator costs no budget.
//! A leg that stays invalid does not keep the others of its run from being executed: they are shown.

mod stop;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chimera_domain::control::{
    ControlEvent, ControlRecord, ExperimentOutcome, Invalid, InvalidReason, LegVerdict,
};
use chimera_domain::ids::{AgentId, RunId, WorkerId};
use chimera_domain::memory::admission::Decision;
use chimera_domain::plan::{Extension, Plan, PlannedLeg, PlannedTest};
use chimera_domain::session::Tally;
use chimera_domain::units::MonoNs;

use times::{Kind, Times};

/// Attempts at one leg that may go down with their coordinator before it counts as a failure: a leg
/// that kills its coordinator each time must not do so for ever.
const MAX_RESTARTS: u32 = 3;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    /// This attempt at this leg.
    Leg(PlannedLeg, u32),
    /// All that is planned is executed; the plan may grow.
    Grow,
    /// End the experiment.
    End(ExperimentOutcome),
    /// Nothing: it has ended.
    Over,
}

/// The state of one experiment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Course {
    plan: Arc<Plan>,
    /// Legs of which the log says anything.
    legs: BTreeMap<RunId, LegCourse>,
    /// Attempts closed as invalid.
    invalid_attempts: u32,
    /// Of these, those after which the leg is tried again.
    retried: u32,
    /// Of these, those that the budget pays for.
    paid: u32,
    /// Attempts with a verdict.
    verdicts: u32,
    /// Invalid attempts since the last valid one.
    in_a_row: u32,
    /// Legs that stay invalid.
    failed: u32,
    /// The last invalid attempt.
    last_invalid: Option<(RunId, Invalid)>,
    cancelled: bool,
    outcome: Option<ExperimentOutcome>,
    /// How many of the plan's tests, the first ones, will not be repeated.
    settled: usize,
    /// Which worker each agent of a test had last.
    seats: BTreeMap<u32, BTreeMap<AgentId, WorkerId>>,
    times: Times,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct LegCourse {
    /// The highest attempt of which anything is known.
    attempt: u32,
    /// Whether that attempt is under way.
    open: bool,
    /// Attempts beyond the first that the budget paid for.
    paid: u32,
    /// Attempts that went down with their coordinator.
    restarts: u32,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Valid,
    Failed,
}

impl Course {
    /// An experiment of which nothing but the plan is known.
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan: Arc::new(plan),
            legs: BTreeMap::new(),
            invalid_attempts: 0,
            retried: 0,
            paid: 0,
            verdicts: 0,
            in_a_row: 0,
            failed: 0,
            last_invalid: None,
            cancelled: false,
            outcome: None,
            settled: 0,
            seats: BTreeMap::new(),
            times: Times::default(),
        }
    }

    /// The plan as it has grown so far.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.clone()
    }

    /// Which worker each agent of a test had, in the legs that were reserved or are to be.
    pub(crate) fn seats(&self, test: u32) -> BTreeMap<AgentId, WorkerId> {
        self.seats.get(&test).cloned().unwrap_or_default()
    }

    /// How it ended.
    pub(crate) fn outcome(&self) -> Option<&ExperimentOutcome> {
        self.outcome.as_ref()
    }

    /// Attempts with a verdict so far.
    pub(crate) fn verdicts(&self) -> u32 {
        self.verdicts
    }

    /// Takes in a record of the log. Records come in the order of the log.
    pub(crate) fn take(&mut self, event: &ControlEvent) {
        self.times.seen(event.epoch, event.at.mono_ns);
        match (&event.record, &event.run) {
            (ControlRecord::Extended { why, tests, legs }, _) => {
                // A phase is chosen once no test before it is to be repeated.
                if matches!(why, Extension::Selected { .. }) {
                    self.settled = self.plan.tests.len();
                }
                Arc::make_mut(&mut self.plan).extend(why, tests, legs);
            }
            (ControlRecord::ExperimentClosed { outcome }, _) => {
                self.outcome = Some(outcome.clone());
            }
            (ControlRecord::Closed { verdict }, Some(run)) => {
                self.closed(event, run, verdict);
            }
            (record, Some(run)) => {
                let leg = self.legs.entry(run.clone()).or_default();
                if event.attempt > leg.attempt {
                    leg.attempt = event.attempt;
                    leg.open = true;
                }
                match record {
                    ControlRecord::Reserved { leg, members } => {
                        self.times.begun(leg, event.epoch, event.at.mono_ns);
                        let seats = members.iter().map(|m| (m.agent.clone(), m.worker.clone()));
                        self.seats.entry(leg.test).or_default().extend(seats);
                    }
                    ControlRecord::Admission { admission }
                        if admission.decision != Decision::Refused =>
                    {
                        let planned = self.plan.legs.iter().find(|leg| leg.run_id == *run);
                        if let Some(leg) = planned {
                            let seats = admission.seats.clone();
                            self.seats.entry(leg.test).or_default().extend(seats);
                        }
                    }
                    _ => {}
                }
            }
            (_, None) => {}
        }
    }

    fn closed(&mut self, event: &ControlEvent, run: &RunId, verdict: &LegVerdict) {
        let budget = self.plan.budget;
        let leg = self.legs.entry(run.clone()).or_default();
        let again = event.attempt == leg.attempt && !leg.open;
        // What was closed as valid may not stand up to the analyzer's check. No other verdict on an
        // attempt that has one changes anything.
        let overruled = again && leg.end == Some(End::Valid) && *verdict != LegVerdict::Valid;
        if event.attempt < leg.attempt || (again && !overruled) {
            return;
        }
        leg.attempt = event.attempt;
        leg.open = false;
        leg.end = None;
        if !overruled {
            self.verdicts = self.verdicts.saturating_add(1);
        }
        let LegVerdict::Invalid(why) = verdict else {
            leg.end = Some(End::Valid);
            self.in_a_row = 0;
            self.times.closed(run, event.epoch, event.at.mono_ns);
            return;
        };
        self.times.dropped();
        self.invalid_attempts = self.invalid_attempts.saturating_add(1);
        self.last_invalid = Some((run.clone(), why.clone()));
        match why.reason {
            InvalidReason::Cancelled => {
                leg.end = Some(End::Failed);
                self.cancelled = true;
            }
            InvalidReason::CoordinatorRestart if leg.restarts < MAX_RESTARTS => {
                leg.restarts += 1;
                self.retried += 1;
            }
            _ => {
                // It was not the last thing that happened.
                if !overruled {
                    self.in_a_row += 1;
                }
                if leg.paid < budget.retries_per_leg && self.paid < budget.retries_total {
                    leg.paid += 1;
                    self.paid += 1;
                    self.retried += 1;
                } else {
                    leg.end = Some(End::Failed);
                    self.failed += 1;
                }
            }
        }
    }

    /// Whether this attempt decides the leg as a valid one, and another may follow it all the same.
    pub(crate) fn may_retry(&self, run: &RunId, attempt: u32) -> bool {
        let budget = &self.plan.budget;
        self.paid < budget.retries_total
            && self.legs.get(run).is_some_and(|leg| {
                leg.attempt == attempt
                    && leg.end == Some(End::Valid)
                    && leg.paid < budget.retries_per_leg
            })
    }

    /// Attempts that the log leaves open: their coordinator went away.
    pub(crate) fn open_legs(&self) -> Vec<(RunId, u32)> {
        let open = self.legs.iter().filter(|(_, leg)| leg.open);
        open.map(|(run, leg)| (run.clone(), leg.attempt)).collect()
    }

    /// What is to be done next. An open leg is closed first.
    pub(crate) fn next(&self) -> Next {
        if self.outcome.is_some() {
            return Next::Over;
        }
        if self.cancelled {
            return Next::End(ExperimentOutcome::Cancelled);
        }
        if let Some(detail) = self.hopeless() {
            return Next::End(ExperimentOutcome::Failed { detail });
        }
        let open = self.plan.legs.iter().find_map(|leg| {
            let course = self.legs.get(&leg.run_id);
            match course {
                Some(course) if course.end.is_some() => None,
                Some(course) => Some((leg, course.attempt.saturating_add(1))),
                None => Some((leg, 1)),
            }
        });
        match open {
            Some((leg, attempt)) => Next::Leg(leg.clone(), attempt),
            None if self.may_grow() => Next::Grow,
            None => Next::End(ExperimentOutcome::Completed),
        }
    }

    /// Whether what the runs show could change what is to be done.
    fn may_grow(&self) -> bool {
        let budget = &self.plan.budget;
        !self.plan.later.is_empty()
            || self.plan.tests.iter().any(|test| test.until.is_some())
            || (budget.retries_per_leg > 0 && self.paid < budget.retries_total)
    }

    /// Why it should not go on; `None`: it should.
    fn hopeless(&self) -> Option<String> {
        let budget = &self.plan.budget;
        let (run, why) = self.last_invalid.as_ref()?;
        if budget.consecutive_failures > 0 && self.in_a_row >= budget.consecutive_failures {
            let what = match self.in_a_row {
                1 => "the last attempt at a leg was invalid".to_owned(),
                n => format!("the last {n} attempts at legs were all invalid"),
            };
            let limit = "budget.consecutive_failures";
            return Some(stop::sentence(&what, run, why, limit));
        }
        let allowed = budget.failures?;
        if self.failed <= allowed {
            return None;
        }
        let what = match (self.failed, allowed) {
            (1, _) => "1 leg stays invalid and none may".to_owned(),
            (n, 0) => format!("{n} legs stay invalid and none may"),
            (n, _) => format!("{n} legs stay invalid and {allowed} may"),
        };
        Some(stop::sentence(&what, run, why, "budget.failures"))
    }

    /// The count for people. It changes with verdicts and with the plan, and walks all legs: it is
    /// not for the time in which something is measured.
    pub(crate) fn count(&self) -> Count {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let end_of = |leg: &PlannedLeg| self.legs.get(&leg.run_id).and_then(|course| course.end);
        let mut runs: BTreeMap<(u32, u32), Vec<Option<End>>> = BTreeMap::new();
        for leg in &self.plan.legs {
            runs.entry((leg.test, leg.run))
                .or_default()
                .push(end_of(leg));
        }
        let unfinished: BTreeSet<u32> = runs
            .iter()
            .filter(|(_, ends)| ends.contains(&None))
            .map(|((test, _), _)| *test)
            .collect();
        let later = &self.plan.later;
        let valid = |ends: &&Vec<Option<End>>| ends.iter().all(|e| *e == Some(End::Valid));
        let failed = |ends: &&Vec<Option<End>>| ends.contains(&Some(End::Failed));
        let phases = self.plan.tests.iter().map(|test| test.phase);
        let phases = phases.chain(later.iter().map(|later| later.phase));
        let ends = || self.plan.legs.iter().filter_map(end_of);
        Count {
            legs_total: later
                .iter()
                .fold(number(self.plan.legs.len()), |sum, later| {
                    sum.saturating_add(later.legs)
                }),
            legs_closed: number(ends().count()),
            legs_valid: number(ends().filter(|end| *end == End::Valid).count()),
            left_ns: self.left_ns(),
            left_at_most_ns: self.left_at_most_ns(),
            tally: Tally {
                phases: phases.max().unwrap_or(0),
                tests: number(
                    self.plan.tests.len() + later.iter().map(|l| l.tests.len()).sum::<usize>(),
                ),
                tests_done: number(self.plan.tests.len() - unfinished.len()),
                runs: number(runs.len()),
                runs_valid: number(runs.values().filter(valid).count()),
                runs_invalid: number(runs.values().filter(failed).count()),
                invalid_attempts: self.invalid_attempts,
                retried: self.retried,
                elapsed_ms: 0,
                left_ms: None,
                left_at_most_ms: None,
            },
        }
    }

    /// How long the legs that are left will take, each with the pause before it.
    fn left_ns(&self) -> Option<u64> {
        if self.outcome.is_some() {
            return None;
        }
        let mut left_ns = 0_u64;
        for leg in &self.plan.legs {
            let course = self.legs.get(&leg.run_id);
            if course.is_some_and(|course| course.end.is_some()) {
                continue;
            }
            let takes = self.times.expected_ns(Kind::of(leg))?;
            left_ns = left_ns
                .saturating_add(takes)
                .saturating_add(self.pause_ns());
        }
        for later in &self.plan.later {
            let takes = self.times.mean_ns()?.saturating_add(self.pause_ns());
            left_ns = left_ns.saturating_add(takes.saturating_mul(u64::from(later.legs)));
        }
        Some(left_ns)
    }

    /// The same with every repeat that tests may still ask for.
    ///
    /// *Undefined when* [`Self::left_ns`] is, or there is none.
    fn left_at_most_ns(&self) -> Option<u64> {
        let mut more_ns = 0_u64;
        for test in self.plan.tests.iter().skip(self.settled) {
            let Some(goal) = &test.until else { continue };
            let repeats = u64::from(goal.max_runs.saturating_sub(test.runs));
            if repeats == 0 || self.is_narrow(test) {
                continue;
            }
            // A repeat has the legs of the first run.
            let legs = self.plan.legs.iter();
            for leg in legs.filter(|leg| leg.test == test.id && leg.run == 1) {
                let takes = self.times.expected_ns(Kind::of(leg))?;
                let each = takes.saturating_add(self.pause_ns());
                more_ns = more_ns.saturating_add(each.saturating_mul(repeats));
            }
        }
        for later in &self.plan.later {
            let most = later.legs_at_most.unwrap_or(later.legs);
            let takes = self.times.mean_ns()?.saturating_add(self.pause_ns());
            let repeats = u64::from(most.saturating_sub(later.legs));
            more_ns = more_ns.saturating_add(takes.saturating_mul(repeats));
        }
        let left_ns = self.left_ns()?;
        (more_ns > 0).then(|| left_ns.saturating_add(more_ns))
    }

    /// Whether the evidence has shown a test to need no repeat: each step gives one to every test of a
    /// phase that does, so that it has fallen behind.
    fn is_narrow(&self, test: &PlannedTest) -> bool {
        let peers = self.plan.tests.iter();
        let mut peers = peers.filter(|peer| peer.phase == test.phase && peer.until.is_some());
        peers.any(|peer| peer.runs > test.runs)
    }

    fn pause_ns(&self) -> u64 {
        u64::from(self.plan.budget.cool_down_s) * 1_000_000_000
    }

    /// A count as it is at an instant of this host: with the time, and what the leg under way has
    /// had of its own.
    pub(crate) fn tally(&self, count: &Count, epoch: u64, now: MonoNs) -> Tally {
        // A leg that takes longer than its likes did leaves nothing to foretell of it.
        let had_ns = self.times.under_way(epoch, now).map_or(0, |(kind, had)| {
            let takes = self.times.expected_ns(kind).unwrap_or(0);
            had.min(takes).saturating_add(self.pause_ns())
        });
        let without_had = |left: u64| left.saturating_sub(had_ns) / 1_000_000;
        Tally {
            elapsed_ms: self.times.elapsed_ns(epoch, now) / 1_000_000,
            left_ms: count.left_ns.map(without_had),
            left_at_most_ms: count.left_at_most_ns.map(without_had),
            ..count.tally.clone()
        }
    }
}

/// What there is to count of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    /// Legs planned, those of later phases included.
    pub(crate) legs_total: u32,
    /// Legs that will not be tried again.
    pub(crate) legs_closed: u32,
    /// Of these, the valid ones.
    pub(crate) legs_valid: u32,
    /// What the open legs will take; `None`: it is not known.
    left_ns: Option<u64>,
    /// The same with every repeat that may be added; `None`: none may be.
    left_at_most_ns: Option<u64>,
    /// Without the times.
    tally: Tally,
}

#[cfg(test)]
mod tests;
