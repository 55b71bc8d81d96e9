//! What the worker holds: the agents of one leg, each with a driver of its own.
//!
//! A pinned instance has one agent, a shared one all agents of the leg. Nothing here waits but
//! [`Hold::stop`]: the session calls the rest between two heartbeats.

use std::collections::BTreeMap;

use chimera_domain::ids::AgentId;
use chimera_domain::plan::{PlannedAgent, Topology};
use chimera_domain::session::{Assignment, LegRef};
use chimera_domain::units::MonoNs;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Questions that are answered at once: one for each agent that may share an instance.
const MAX_QUESTIONS: usize = 64;

/// What the session tells the driver of one agent.
pub(crate) struct Orders {
    /// Load and check.
    pub(crate) warm: oneshot::Receiver<()>,
    /// Go at this instant.
    pub(crate) commit: oneshot::Receiver<MonoNs>,
    /// Sent once the coordinator has closed the leg: the spool may go. Dropped: it may not.
    pub(crate) closed: oneshot::Receiver<()>,
    /// Stop.
    pub(crate) cancel: CancellationToken,
}

/// The agents of the one leg that a worker may hold.
#[derive(Default)]
pub(crate) struct Hold {
    held: Option<Held>,
    /// Questions being answered.
    questions: JoinSet<()>,
}

struct Held {
    leg: LegRef,
    topology: Topology,
    places: BTreeMap<AgentId, Place>,
    /// Tripped once the agents of the leg before have let go of the engine.
    engine_free: CancellationToken,
    tasks: JoinSet<()>,
}

struct Place {
    agent: PlannedAgent,
    cancel: CancellationToken,
    warm: Option<oneshot::Sender<()>>,
    commit: Option<oneshot::Sender<MonoNs>>,
    closed: Option<oneshot::Sender<()>>,
}

impl Hold {
    /// Whether the assignment may be taken beside what is held; `Ok(false)`: it is held already.
    ///
    /// # Errors
    /// In words for the coordinator: another leg is held, or the instance is another agent's alone.
    pub(crate) fn admits(&self, assignment: &Assignment) -> Result<bool, String> {
        let Some(held) = &self.held else {
            return Ok(true);
        };
        let (leg, agent) = (&assignment.leg_ref, &assignment.agent.id);
        if held.leg != *leg {
            // A newer coordinator's word ends what an older one had given out.
            return if held.is_let_go() || leg.epoch > held.leg.epoch {
                Ok(true)
            } else {
                Err(format!(
                    "this worker holds {} (attempt {}) for {}; it takes another leg once that is \
                     released",
                    held.leg.run,
                    held.leg.attempt,
                    held.names()
                ))
            };
        }
        match held.places.get(agent) {
            Some(place) if place.cancel.is_cancelled() => Err(format!(
                "{agent} was released from attempt {} at {} already",
                leg.attempt, leg.run
            )),
            Some(_) => Ok(false),
            None if held.topology == Topology::Pinned => Err(format!(
                "the instance is pinned to {} in {}; agents may share one only where the test's \
                 topology is 'shared'",
                held.names(),
                leg.run
            )),
            None if held.topology != assignment.topology => Err(format!(
                "{agent} is to share its instance otherwise than {} in {}",
                held.names(),
                leg.run
            )),
            None => Ok(true),
        }
    }

    /// The agents that an agent of this leg would share the instance with.
    pub(crate) fn company(&self, leg: &LegRef) -> impl Iterator<Item = &PlannedAgent> {
        let held = self.held.as_ref().filter(|held| held.leg == *leg);
        held.into_iter()
            .flat_map(|held| held.places.values().map(|place| &place.agent))
    }

    /// Takes an assignment that [`Self::admits`]: a task that runs `drive` once the agents of the
    /// leg before have let go of the engine, for which nobody else waits. With the bus away that
    /// takes long, and heartbeats must go on.
    pub(crate) fn take<Drive: Future<Output = ()> + Send + 'static>(
        &mut self,
        assignment: Assignment,
        drive: impl FnOnce(Assignment, Orders) -> Drive,
    ) {
        let before = self.held.take_if(|held| held.leg != assignment.leg_ref);
        let held = self
            .held
            .get_or_insert_with(|| Held::after(before, &assignment));
        let cancel = CancellationToken::new();
        let (warm_tx, warm) = oneshot::channel();
        let (commit_tx, commit) = oneshot::channel();
        let (closed_tx, closed) = oneshot::channel();
        let agent = assignment.agent.clone();
        let orders = Orders {
            warm,
            commit,
            closed,
            cancel: cancel.clone(),
        };
        let driven = drive(assignment, orders);
        let engine_free = held.engine_free.clone();
        held.tasks.spawn(async move {
            engine_free.cancelled().await;
            driven.await;
        });
        let place = Place {
            agent: agent.clone(),
            cancel,
            warm: Some(warm_tx),
            commit: Some(commit_tx),
            closed: Some(closed_tx),
        };
        held.places.insert(agent.id, place);
    }

    /// Answers a question beside whatever is held; it ends with the session. A coordinator that asks
    /// more at once than is sensible is not answered.
    pub(crate) fn answer(&mut self, answer: impl Future<Output = ()> + Send + 'static) {
        while self.questions.try_join_next().is_some() {}
        if self.questions.len() < MAX_QUESTIONS {
            self.questions.spawn(answer);
        }
    }

    fn place(&mut self, leg: &LegRef, agent: &AgentId) -> Option<&mut Place> {
        let held = self.held.as_mut().filter(|held| held.leg == *leg)?;
        held.places.get_mut(agent)
    }

    /// Lets the agent load and check.
    pub(crate) fn warm(&mut self, leg: &LegRef, agent: &AgentId) {
        if let Some(place) = self.place(leg, agent)
            && let Some(warm) = place.warm.take()
            && warm.send(()).is_err()
        {
            tracing::debug!(run_id = %leg.run, %agent, "the agent had ended before it could warm");
        }
    }

    /// Lets the agent go at an instant.
    pub(crate) fn commit(&mut self, leg: &LegRef, agent: &AgentId, start_at: MonoNs) {
        if let Some(place) = self.place(leg, agent)
            && let Some(commit) = place.commit.take()
            && commit.send(start_at).is_err()
        {
            tracing::debug!(run_id = %leg.run, %agent, "the agent had ended before it could start");
        }
    }

    /// The coordinator closed the leg for this agent; `false` when it is not held.
    pub(crate) fn release(&mut self, leg: &LegRef, agent: &AgentId) -> bool {
        let Some(place) = self.place(leg, agent) else {
            return false;
        };
        place.cancel.cancel();
        if let Some(closed) = place.closed.take()
            && closed.send(()).is_err()
        {
            tracing::debug!(run_id = %leg.run, %agent, "the agent had ended already");
        }
        true
    }

    /// Stops whatever runs and waits until it has let go of the engine.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut held) = self.held.take() {
            held.cancel();
            held.join().await;
        }
    }
}

impl Held {
    /// A leg whose agents wait for those of the leg before it.
    fn after(before: Option<Self>, assignment: &Assignment) -> Self {
        let engine_free = CancellationToken::new();
        let mut tasks = JoinSet::new();
        // Dropped when the agents before have ended, whatever they ended of.
        let free = engine_free.clone().drop_guard();
        if let Some(mut before) = before {
            before.cancel();
            tasks.spawn(async move {
                before.join().await;
                drop(free);
            });
        }
        Self {
            leg: assignment.leg_ref.clone(),
            topology: assignment.topology,
            places: BTreeMap::new(),
            engine_free,
            tasks,
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.places.keys().map(AgentId::as_str).collect();
        names.join(", ")
    }

    fn is_let_go(&self) -> bool {
        self.places
            .values()
            .all(|place| place.cancel.is_cancelled())
    }

    /// Asks whatever runs to stop; the spools stay.
    fn cancel(&mut self) {
        for place in self.places.values_mut() {
            place.cancel.cancel();
            drop(place.closed.take());
        }
    }

    async fn join(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "an agent's driver panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
