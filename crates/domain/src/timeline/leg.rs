//! The control log folded into what was decided for each leg.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::control::{ControlEvent, ControlRecord, ExperimentOutcome, Invalid, LegVerdict, Member};
use crate::event::PinFacts;
use crate::ids::{AgentId, ExperimentId, RunId};
use crate::memory::admission::Admission;
use crate::plan::{Plan, PlannedLeg};
use crate::units::MonoNs;

/// The last attempt at a leg, and what became of those before it.
#[derive(Debug, Clone)]
pub struct LegLog<'a> {
    /// The leg.
    pub leg: &'a PlannedLeg,
    /// The attempt that counts: the highest.
    pub attempt: u32,
    /// The epoch under which that attempt's gang was reserved; its agents' records bear it. `None`:
    /// no gang was ever complete.
    pub epoch: Option<u64>,
    /// Who ran what. Empty: no gang was ever complete.
    pub members: &'a [Member],
    /// What each instance was when it voted ready, and how long warming took, ns.
    pub ready: BTreeMap<&'a AgentId, (&'a PinFacts, u64)>,
    /// Start instants given, on the workers' own clocks; queued agents once they were let go.
    pub start_at: BTreeMap<&'a AgentId, MonoNs>,
    /// Agents that the cap held back, in their order.
    pub queued: &'a [AgentId],
    /// What was decided of the gang's memory. `None`: nobody asked.
    pub admission: Option<&'a Admission>,
    /// The coordinator's verdict. `None`: the leg was not closed.
    pub verdict: Option<&'a LegVerdict>,
    /// Attempts before this one, rising.
    pub earlier: Vec<EarlierAttempt<'a>>,
}

/// An attempt that was given up for a later one.
#[derive(Debug, Clone)]
pub struct EarlierAttempt<'a> {
    /// Its number.
    pub attempt: u32,
    /// Why it was given up; `None`: it was not closed, or closed as valid.
    pub why: Option<&'a Invalid>,
}

/// The control log of one experiment.
#[derive(Debug, Clone)]
pub struct Log<'a> {
    /// The experiment.
    pub experiment: &'a ExperimentId,
    /// The spec as written.
    pub spec_text: &'a str,
    /// What it unfolds to.
    pub plan: &'a Plan,
    /// The coordinator that accepted it.
    pub software: &'a str,
    /// How it ended; `None`: it has not.
    pub outcome: Option<&'a ExperimentOutcome>,
    /// Legs of which the log says anything.
    pub legs: BTreeMap<&'a RunId, LegLog<'a>>,
    /// Further copies of records that were dropped.
    pub duplicates: u64,
}

/// Why a control log cannot be folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Without a plan nothing has a meaning.
    #[error(
        "the control log has no record of the submission: export it from the start of the stream"
    )]
    NoPlan,
    /// Two plans.
    #[error(
        "the control log holds two different submissions of '{0}': pass one experiment's records"
    )]
    TwoPlans(ExperimentId),
    /// Records of several experiments.
    #[error("the control log mixes '{0}' and '{1}': pass one experiment's records")]
    Mixed(ExperimentId, ExperimentId),
}

impl<'a> Log<'a> {
    /// Folds a control log, in any order, with any duplicates.
    ///
    /// Order within the log is by epoch, then by the coordinator's clock: an epoch is one coordinator
    /// process, so that its stamps compare.
    ///
    /// # Errors
    /// When the plan is missing, or records of several experiments are mixed.
    pub fn fold(control: &'a [ControlEvent]) -> Result<Self, LogError> {
        let mut events: Vec<&'a ControlEvent> = control.iter().collect();
        events.sort_by(|a, b| log_order(a, b));
        let before = events.len();
        events.dedup_by(|a, b| a == b);
        let duplicates = (before - events.len()) as u64;

        let submitted = events.iter().filter_map(|event| match &event.record {
            ControlRecord::Submitted {
                spec_text,
                plan,
                software,
            } => Some((
                &event.experiment,
                spec_text.as_str(),
                plan,
                software.as_str(),
            )),
            _ => None,
        });
        let mut submitted = submitted.collect::<Vec<_>>().into_iter();
        let (experiment, spec_text, plan, software) = submitted.next().ok_or(LogError::NoPlan)?;
        if submitted.any(|(_, _, other, _)| other != plan) {
            return Err(LogError::TwoPlans(experiment.clone()));
        }
        if let Some(other) = events.iter().find(|event| event.experiment != *experiment) {
            let mut both = [experiment.clone(), other.experiment.clone()];
            both.sort();
            let [first, second] = both;
            return Err(LogError::Mixed(first, second));
        }
        let outcome = events.iter().rev().find_map(|event| match &event.record {
            ControlRecord::ExperimentClosed { outcome } => Some(outcome),
            _ => None,
        });
        let mut by_run: BTreeMap<&'a RunId, Vec<&'a ControlEvent>> = BTreeMap::new();
        for event in events {
            if let Some(run) = &event.run {
                by_run.entry(run).or_default().push(event);
            }
        }
        let legs = plan
            .legs
            .iter()
            .filter_map(|leg| Some((&leg.run_id, LegLog::fold(leg, by_run.get(&leg.run_id)?))))
            .collect();
        Ok(Self {
            experiment,
            spec_text,
            plan,
            software,
            outcome,
            legs,
            duplicates,
        })
    }
}

impl<'a> LegLog<'a> {
    /// Folds the records of one leg, which are in log order.
    fn fold(leg: &'a PlannedLeg, events: &[&'a ControlEvent]) -> Self {
        let attempt = events.iter().map(|event| event.attempt).max().unwrap_or(0);
        let mut log = Self {
            leg,
            attempt,
            epoch: None,
            members: &[],
            ready: BTreeMap::new(),
            start_at: BTreeMap::new(),
            queued: &[],
            admission: None,
            verdict: None,
            earlier: Vec::new(),
        };
        let mut earlier: BTreeMap<u32, Option<&'a LegVerdict>> = BTreeMap::new();
        for event in events {
            if event.attempt == attempt {
                log.take(event);
            } else {
                let known = earlier.entry(event.attempt).or_default();
                if let ControlRecord::Closed { verdict } = &event.record {
                    *known = Some(harsher(*known, verdict));
                }
            }
        }
        log.earlier = earlier
            .into_iter()
            .map(|(attempt, verdict)| EarlierAttempt {
                attempt,
                why: verdict.and_then(|verdict| match verdict {
                    LegVerdict::Valid => None,
                    LegVerdict::Invalid(why) => Some(why),
                }),
            })
            .collect();
        log
    }

    fn take(&mut self, event: &'a ControlEvent) {
        match &event.record {
            ControlRecord::Reserved { members, .. } => {
                self.epoch = Some(event.epoch);
                self.members = members;
            }
            ControlRecord::Ready {
                agent,
                pin,
                warm_ns,
            } => {
                self.ready.insert(agent, (pin, *warm_ns));
            }
            ControlRecord::Committed { start_at, queued } => {
                self.start_at
                    .extend(start_at.iter().map(|(agent, at)| (agent, *at)));
                self.queued = queued;
            }
            ControlRecord::Dequeued { agent, start_at } => {
                self.start_at.insert(agent, *start_at);
            }
            ControlRecord::Admission { admission } => self.admission = Some(admission),
            ControlRecord::Closed { verdict } => {
                self.verdict = Some(harsher(self.verdict, verdict))
            }
            ControlRecord::Submitted { .. }
            | ControlRecord::Extended { .. }
            | ControlRecord::ExperimentClosed { .. } => {}
        }
    }
}

/// A leg is closed once. Should a log hold two verdicts, the one against the leg stands.
fn harsher<'a>(known: Option<&'a LegVerdict>, new: &'a LegVerdict) -> &'a LegVerdict {
    match known {
        Some(known @ LegVerdict::Invalid(_)) => known,
        _ => new,
    }
}

fn log_order(a: &ControlEvent, b: &ControlEvent) -> Ordering {
    (a.epoch, a.at.mono_ns, &a.run, a.attempt)
        .cmp(&(b.epoch, b.at.mono_ns, &b.run, b.attempt))
        // Two decisions in one nanosecond: any order will do if it is always the same.
        .then_with(|| format!("{a:?}").cmp(&format!("{b:?}")))
}
