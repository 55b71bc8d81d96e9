//! What was submitted: the course of each experiment, and the picture of it for people.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chimera_domain::control::{ControlEvent, ControlRecord, ExperimentOutcome, LegVerdict, Member};
use chimera_domain::ids::{AgentId, ExperimentId, RunId, WorkerId};
use chimera_domain::plan::{Plan, PlannedLeg};
use chimera_domain::session::{AgentRate, LegInWords, Progress, Tally};
use chimera_runtime::clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::course::{Count, Course, Next};
use crate::lifecycle::LegLimits;
use crate::planning;

/// One submitted experiment.
#[derive(Debug)]
pub(crate) struct Experiment {
    pub(crate) id: ExperimentId,
    /// The spec as the person wrote it.
    pub(crate) spec_text: String,
    pub(crate) limits: LegLimits,
    /// Tripped by `cancel`.
    pub(crate) cancel: CancellationToken,
    /// Of the coordinator that drives it.
    epoch: u64,
    progress: watch::Sender<Progress>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    course: Course,
    /// As of the last verdict or growth.
    count: Count,
}

impl Experiment {
    /// An experiment that stands where its course does, driven by the coordinator of this epoch.
    pub(crate) fn new(
        id: ExperimentId,
        spec_text: String,
        course: Course,
        start_lead_ms: u64,
        epoch: u64,
    ) -> Self {
        let plan = course.plan();
        let limits = planning::leg_limits(&plan.limits, start_lead_ms);
        let progress = Progress {
            experiment: id.clone(),
            name: plan.name.clone(),
            legs_total: 0,
            legs_closed: 0,
            legs_valid: 0,
            phase: "waiting its turn".to_owned(),
            leg: None,
            about: None,
            members: Vec::new(),
            agents_done: Vec::new(),
            last_invalid: None,
            tally: Tally::default(),
            rates: Vec::new(),
            outcome: None,
        };
        let count = course.count();
        let outcome = course.outcome().cloned();
        let experiment = Self {
            id,
            spec_text,
            limits,
            cancel: CancellationToken::new(),
            epoch,
            progress: watch::channel(progress).0,
            state: Mutex::new(State { course, count }),
        };
        experiment.picture(|p, _| {
            if let Some(outcome) = &outcome {
                ended(p, outcome);
            }
        });
        experiment
    }

    /// No panic happens under this lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan as it has grown so far.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.state().course.plan()
    }

    /// Which worker each agent of a test had, as far as the log says.
    pub(crate) fn seats(&self, test: u32) -> BTreeMap<AgentId, WorkerId> {
        self.state().course.seats(test)
    }

    /// What is to be done next.
    pub(crate) fn next(&self) -> Next {
        self.state().course.next()
    }

    /// Whether this attempt decides the leg as a valid one, and another may follow it all the same.
    pub(crate) fn may_retry(&self, run: &RunId, attempt: u32) -> bool {
        self.state().course.may_retry(run, attempt)
    }

    /// Attempts with a verdict so far.
    pub(crate) fn verdicts(&self) -> u32 {
        self.state().course.verdicts()
    }

    /// Takes in a record that is in the log.
    pub(crate) fn take(&self, event: &ControlEvent) {
        let counts = matches!(
            event.record,
            ControlRecord::Closed { .. }
                | ControlRecord::Extended { .. }
                | ControlRecord::ExperimentClosed { .. }
        );
        let mut state = self.state();
        state.course.take(event);
        if counts {
            state.count = state.course.count();
        }
        drop(state);
        self.picture(|p, _| match (&event.record, &event.run) {
            (ControlRecord::Closed { verdict }, Some(run)) => {
                p.phase = format!("{run}: closed");
                p.last_invalid = match verdict {
                    LegVerdict::Valid => None,
                    LegVerdict::Invalid(why) => Some((run.clone(), why.clone())),
                };
            }
            (ControlRecord::ExperimentClosed { outcome }, _) => ended(p, outcome),
            _ => {}
        });
    }

    /// A leg's place in the picture changed.
    pub(crate) fn show(
        &self,
        leg: &PlannedLeg,
        attempt: u32,
        phase: &str,
        members: &[Member],
        done: &[AgentId],
    ) {
        self.picture(|p, plan| {
            p.phase = format!("{}: {phase}", leg.run_id);
            p.leg = Some(leg.clone());
            p.about = plan.test(leg.test).map(|test| LegInWords {
                label: test.label.clone(),
                phase: test.phase,
                runs: test.runs,
                attempt,
            });
            p.members = members.to_vec();
            p.agents_done = done.to_vec();
            p.last_invalid = None;
        });
    }

    /// What happens between legs.
    pub(crate) fn say(&self, phase: &str) {
        self.picture(|p, _| {
            phase.clone_into(&mut p.phase);
            p.leg = None;
            p.about = None;
            p.members.clear();
            p.agents_done.clear();
            p.last_invalid = None;
        });
    }

    /// How fast the agents of the leg that just ended wrote.
    pub(crate) fn rates(&self, rates: Vec<AgentRate>) {
        self.picture(|p, _| p.rates = rates);
    }

    /// The experiment is over, though the log could not be told.
    pub(crate) fn ended(&self, outcome: &ExperimentOutcome) {
        self.picture(|p, _| ended(p, outcome));
    }

    /// Changes the picture; the figures in it are always those of now.
    fn picture(&self, change: impl FnOnce(&mut Progress, &Plan)) {
        let state = self.state();
        let tally = state.course.tally(&state.count, self.epoch, clock::mono());
        let (total, closed, valid) = (
            state.count.legs_total,
            state.count.legs_closed,
            state.count.legs_valid,
        );
        let plan = state.course.plan();
        drop(state);
        self.progress.send_modify(|p| {
            p.tally = tally;
            p.legs_total = total;
            p.legs_closed = closed;
            p.legs_valid = valid;
            change(p, &plan);
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

fn ended(p: &mut Progress, outcome: &ExperimentOutcome) {
    p.phase = "ended".to_owned();
    p.leg = None;
    p.about = None;
    p.members.clear();
    p.agents_done.clear();
    p.outcome = Some(outcome.clone());
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
/// stopped by their fence, and a second COMMIT for one attempt must never be. It is closed, and the
/// next attempt at it begins anew.
pub(crate) fn replay(events: &[ControlEvent], start_lead_ms: u64, epoch: u64) -> Replayed {
    // In the order of submission, each with the text of its spec.
    let mut all: Vec<(&ExperimentId, &str, Course)> = Vec::new();
    let mut places: BTreeMap<&ExperimentId, usize> = BTreeMap::new();
    for event in events {
        if let ControlRecord::Submitted {
            plan, spec_text, ..
        } = &event.record
        {
            places.entry(&event.experiment).or_insert_with(|| {
                all.push((&event.experiment, spec_text, Course::new(plan.clone())));
                all.len() - 1
            });
        }
        let place = places.get(&event.experiment);
        if let Some((_, _, course)) = place.and_then(|place| all.get_mut(*place)) {
            course.take(event);
        }
    }
    let mut replayed = Replayed::default();
    for (id, spec_text, course) in all {
        let open = course.open_legs();
        let experiment = Experiment::new(
            id.clone(),
            spec_text.to_owned(),
            course,
            start_lead_ms,
            epoch,
        );
        let experiment = Arc::new(experiment);
        let open = open.into_iter();
        replayed
            .open_legs
            .extend(open.map(|(run, attempt)| (experiment.clone(), run, attempt)));
        replayed.experiments.push(experiment);
    }
    replayed
}
