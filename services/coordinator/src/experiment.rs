//! Experiments as the coordinator holds them: plan, progress, and the wish to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chimera_domain::control::{
    ControlEvent, ControlRecord, ExperimentOutcome, Invalid, LegVerdict, Member,
};
use chimera_domain::ids::{AgentId, ExperimentId, RunId};
use chimera_domain::plan::{Plan, PlannedLeg};
use chimera_domain::session::Progress;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::LegLimits;
use crate::planning;

/// One submitted experiment.
#[derive(Debug)]
pub(crate) struct Experiment {
    pub(crate) id: ExperimentId,
    pub(crate) plan: Plan,
    pub(crate) limits: LegLimits,
    /// Tripped by `cancel`.
    pub(crate) cancel: CancellationToken,
    progress: watch::Sender<Progress>,
    closed: Mutex<BTreeSet<RunId>>,
}

impl Experiment {
    pub(crate) fn new(id: ExperimentId, plan: Plan, limits: LegLimits) -> Self {
        let progress = Progress {
            experiment: id.clone(),
            name: plan.name.clone(),
            legs_total: u32::try_from(plan.legs.len()).unwrap_or(u32::MAX),
            legs_closed: 0,
            legs_valid: 0,
            phase: "waiting its turn".to_owned(),
            leg: None,
            members: Vec::new(),
            agents_done: Vec::new(),
            last_invalid: None,
            outcome: None,
        };
        Self {
            id,
            plan,
            limits,
            cancel: CancellationToken::new(),
            progress: watch::channel(progress).0,
            closed: Mutex::default(),
        }
    }

    /// Legs that are still to be executed, in order.
    pub(crate) fn remaining(&self) -> Vec<PlannedLeg> {
        let closed = self.closed();
        self.plan
            .legs
            .iter()
            .filter(|leg| !closed.contains(&leg.run_id))
            .cloned()
            .collect()
    }

    fn closed(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leg's place in the picture changed.
    pub(crate) fn show(&self, leg: &PlannedLeg, phase: &str, members: &[Member], done: &[AgentId]) {
        self.progress.send_modify(|p| {
            p.phase = format!("{}: {phase}", leg.run_id);
            p.leg = Some(leg.clone());
            p.members = members.to_vec();
            p.agents_done = done.to_vec();
            p.last_invalid = None;
        });
    }

    /// A leg is over. Hearing so twice changes nothing.
    pub(crate) fn leg_closed(&self, run: &RunId, verdict: &LegVerdict) {
        if !self.closed().insert(run.clone()) {
            return;
        }
        self.progress.send_modify(|p| {
            p.legs_closed += 1;
            p.phase = format!("{run}: closed");
            p.last_invalid = match verdict {
                LegVerdict::Valid => {
                    p.legs_valid += 1;
                    None
                }
                LegVerdict::Invalid(Invalid { reason, detail }) => Some((
                    run.clone(),
                    Invalid {
                        reason: *reason,
                        detail: detail.clone(),
                    },
                )),
            };
        });
    }

    /// The experiment is over.
    pub(crate) fn ended(&self, outcome: ExperimentOutcome) {
        self.progress.send_modify(|p| {
            p.phase = "ended".to_owned();
            p.leg = None;
            p.members.clear();
            p.agents_done.clear();
            p.outcome = Some(outcome);
        });
    }

    /// The picture now.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// The picture now and whenever it changes; a slow watcher skips pictures.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.progress.borrow().outcome.is_some()
    }
}

/// All experiments of this coordinator's log.
#[derive(Debug, Default)]
pub(crate) struct Experiments {
    by_id: Mutex<BTreeMap<ExperimentId, Arc<Experiment>>>,
}

impl Experiments {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ExperimentId, Arc<Experiment>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one in; `false` when the id is taken.
    pub(crate) fn insert(&self, experiment: Arc<Experiment>) -> bool {
        let mut all = self.lock();
        if all.contains_key(&experiment.id) {
            return false;
        }
        all.insert(experiment.id.clone(), experiment);
        true
    }

    /// Gives an id back that was inserted but could not be recorded.
    pub(crate) fn remove(&self, id: &ExperimentId) {
        self.lock().remove(id);
    }

    pub(crate) fn get(&self, id: &ExperimentId) -> Option<Arc<Experiment>> {
        self.lock().get(id).cloned()
    }

    pub(crate) fn list(&self) -> Vec<Arc<Experiment>> {
        self.lock().values().cloned().collect()
    }
}

/// What a replay of the log leaves to do.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Every experiment of the log, in the order of submission.
    pub(crate) experiments: Vec<Arc<Experiment>>,
    /// Legs that were open when the log ends: experiment, leg, attempt.
    pub(crate) open_legs: Vec<(Arc<Experiment>, RunId, u32)>,
}

/// Rebuilds the state from the log.
///
/// A leg that was open when the coordinator went away is not taken up again: its agents were
/// stopped by their fence, and a second COMMIT for one attempt must never be.
pub(crate) fn replay(events: &[ControlEvent], start_lead_ms: u64) -> Replayed {
    let mut state = Replayed::default();
    let mut by_id: BTreeMap<ExperimentId, Arc<Experiment>> = BTreeMap::new();
    let mut open: BTreeMap<(ExperimentId, RunId), u32> = BTreeMap::new();
    for event in events {
        if let ControlRecord::Submitted { plan, .. } = &event.record {
            let limits = planning::leg_limits(&plan.limits, start_lead_ms);
            let experiment = Arc::new(Experiment::new(
                event.experiment.clone(),
                plan.clone(),
                limits,
            ));
            by_id.insert(event.experiment.clone(), experiment.clone());
            state.experiments.push(experiment);
            continue;
        }
        let Some(experiment) = by_id.get(&event.experiment) else {
            continue;
        };
        match (&event.record, &event.run) {
            (ControlRecord::Closed { verdict }, Some(run)) => {
                open.remove(&(event.experiment.clone(), run.clone()));
                experiment.leg_closed(run, verdict);
            }
            (ControlRecord::ExperimentClosed { outcome }, _) => experiment.ended(outcome.clone()),
            (_, Some(run)) => {
                open.insert((event.experiment.clone(), run.clone()), event.attempt);
            }
            _ => {}
        }
    }
    for ((id, run), attempt) in open {
        if let Some(experiment) = by_id.get(&id) {
            state.open_legs.push((experiment.clone(), run, attempt));
        }
    }
    state
}
