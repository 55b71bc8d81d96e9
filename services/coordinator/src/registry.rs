//! Who is connected: sessions, their leases, their clocks, and which leg each one holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chimera_domain::control::Member;
use chimera_domain::ids::{AgentId, RunId, WorkerId};
use chimera_domain::plan::{PlannedAgent, Topology};
use chimera_domain::session::{CoordinatorMessage, Hello, WorkerInfo, WorkerMessage};
use chimera_domain::units::{BootId, ClockReading, MonoNs};
use tokio::sync::mpsc;

use crate::lifecycle::Seat;

/// Commands a worker may have unread. A leg sends at most five for each of its agents here; more
/// means that it hangs, and the sender then waits (control path) until the lease runs out.
pub(crate) const COMMAND_CAPACITY: usize = 256;

/// What the runner hears from a session.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message of the run protocol.
    Message(WorkerId, Box<WorkerMessage>),
    /// The session ended.
    Lost(WorkerId, String),
    /// The lease ran out.
    Expired(WorkerId, String),
    /// A worker came.
    Joined,
}

/// One exchange with a worker's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClockExchange {
    offset_ns: i64,
    rtt_ns: u64,
}

#[derive(Debug)]
struct Session {
    serial: u64,
    hello: Hello,
    commands: mpsc::Sender<CoordinatorMessage>,
    last_heard: MonoNs,
    clock: Option<ClockExchange>,
    busy_with: Option<RunId>,
}

impl Session {
    /// Whether the agent may run here: its engine's protocol, and its instance if it names one.
    fn serves(&self, agent: &PlannedAgent) -> bool {
        let named = agent.instance.as_ref();
        self.hello.engine == agent.engine
            && named.is_none_or(|url| same_address(url, &self.hello.url))
    }
}

/// The instance that an agent names, as a part of a sentence.
fn pinned_to(agent: &PlannedAgent) -> String {
    let url = agent.instance.as_ref();
    url.map(|url| format!(" pinned to {url}"))
        .unwrap_or_default()
}

/// The sessions. Locked only for look-ups and updates, never across an await.
#[derive(Debug)]
pub(crate) struct Registry {
    boot_id: BootId,
    lease_ns: u64,
    heard: mpsc::Sender<Heard>,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    next_serial: u64,
    by_worker: BTreeMap<WorkerId, Session>,
}

impl Registry {
    pub(crate) fn new(boot_id: BootId, lease_ns: u64, heard: mpsc::Sender<Heard>) -> Self {
        Self {
            boot_id,
            lease_ns,
            heard,
            sessions: Mutex::default(),
        }
    }

    /// No panic happens under this lock, and the map is whole after every statement.
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session in, with an exclusive claim on its instance.
    ///
    /// # Errors
    /// In words for the worker, when its name or its instance is taken by a live session.
    pub(crate) async fn join(
        &self,
        hello: Hello,
        commands: mpsc::Sender<CoordinatorMessage>,
        now: MonoNs,
    ) -> Result<u64, String> {
        let serial = {
            let mut sessions = self.lock();
            for (worker, other) in &sessions.by_worker {
                if *worker == hello.worker {
                    return Err(format!("a worker named '{worker}' is connected already"));
                }
                let same_url = !hello.url.is_empty() && same_address(&other.hello.url, &hello.url);
                if other.hello.instance == hello.instance || same_url {
                    return Err(format!(
                        "instance '{}' ({}) is claimed by worker '{worker}'; \
                         an instance serves one worker at a time",
                        hello.instance, other.hello.url
                    ));
                }
            }
            sessions.next_serial += 1;
            let serial = sessions.next_serial;
            sessions.by_worker.insert(
                hello.worker.clone(),
                Session {
                    serial,
                    hello,
                    commands,
                    last_heard: now,
                    clock: None,
                    busy_with: None,
                },
            );
            serial
        };
        self.tell(Heard::Joined).await;
        Ok(serial)
    }

    /// The session ended; forgets it unless a newer one took its name.
    pub(crate) async fn leave(&self, worker: &WorkerId, serial: u64, detail: &str) {
        if self.remove(worker, serial) {
            self.tell(Heard::Lost(worker.clone(), detail.to_owned()))
                .await;
        }
    }

    fn remove(&self, worker: &WorkerId, serial: u64) -> bool {
        let mut sessions = self.lock();
        let current = sessions
            .by_worker
            .get(worker)
            .is_some_and(|s| s.serial == serial);
        if current {
            sessions.by_worker.remove(worker);
        }
        current
    }

    /// A sign of life; `false` when the session is no longer known (its lease ran out).
    pub(crate) fn renew(&self, worker: &WorkerId, serial: u64, now: MonoNs) -> bool {
        match self.lock().by_worker.get_mut(worker) {
            Some(session) if session.serial == serial => {
                session.last_heard = now;
                true
            }
            _ => false,
        }
    }

    /// Passes a message of the run protocol on to the runner.
    pub(crate) async fn forward(&self, worker: &WorkerId, message: WorkerMessage) {
        self.tell(Heard::Message(worker.clone(), Box::new(message)))
            .await;
    }

    async fn tell(&self, heard: Heard) {
        if self.heard.send(heard).await.is_err() {
            tracing::debug!("the runner has stopped; a session's message was dropped");
        }
    }

    /// Drops every session whose lease has run out.
    pub(crate) async fn expire(&self, now: MonoNs) {
        let expired: Vec<_> = {
            let mut sessions = self.lock();
            let late: Vec<_> = sessions
                .by_worker
                .iter()
                .filter_map(|(worker, s)| {
                    let silent = now.since(s.last_heard)?;
                    (silent > self.lease_ns).then(|| (worker.clone(), silent))
                })
                .collect();
            for (worker, _) in &late {
                sessions.by_worker.remove(worker);
            }
            late
        };
        for (worker, silent) in expired {
            let detail = format!("no heartbeat for {} ms", silent / 1_000_000);
            self.tell(Heard::Expired(worker, detail)).await;
        }
    }

    /// Takes in a clock exchange: the best (shortest) round trip wins, its middle is the offset.
    pub(crate) fn clock_exchange(
        &self,
        worker: &WorkerId,
        sent: MonoNs,
        received: MonoNs,
        theirs: &ClockReading,
    ) {
        let Some(rtt_ns) = received.since(sent) else {
            return;
        };
        let mut sessions = self.lock();
        let Some(session) = sessions.by_worker.get_mut(worker) else {
            return;
        };
        if session.clock.is_some_and(|best| best.rtt_ns <= rtt_ns) {
            return;
        }
        let middle = i128::from(sent.0) + i128::from(rtt_ns / 2);
        let offset = middle - i128::from(theirs.mono_ns.0);
        let Ok(offset_ns) = i64::try_from(offset) else {
            return;
        };
        session.clock = Some(ClockExchange { offset_ns, rtt_ns });
    }

    /// Chooses the workers of a test's agents. Pinned: agent `i` gets the i-th eligible worker by
    /// name. Shared: all agents get the first eligible one. Where agents had a worker `before`, in an
    /// earlier leg of the test, they get it again, whoever came meanwhile: an agent has the same
    /// instance in its solo legs and together.
    ///
    /// # Errors
    /// In words, which agent finds no worker.
    pub(crate) fn seats(
        &self,
        agents: &[PlannedAgent],
        topology: Topology,
        before: &BTreeMap<AgentId, WorkerId>,
    ) -> Result<Vec<Seat>, String> {
        let sessions = self.lock();
        match topology {
            Topology::Pinned => self.pinned(&sessions, agents, before),
            Topology::Shared { .. } => self.shared(&sessions, agents, before),
        }
    }

    /// Every seat that one of these agents could take, by the worker's name, with the places in
    /// `agents` of those that could.
    pub(crate) fn everyone(&self, agents: &[PlannedAgent]) -> Vec<(Seat, Vec<usize>)> {
        let sessions = self.lock();
        let mut found = Vec::new();
        for session in sessions.by_worker.values() {
            let serves = agents.iter().enumerate();
            let serves: Vec<(usize, &PlannedAgent)> =
                serves.filter(|(_, agent)| session.serves(agent)).collect();
            if let Some((_, agent)) = serves.first() {
                let seat = self.seat(session, agent.id.clone());
                found.push((seat, serves.iter().map(|(index, _)| *index).collect()));
            }
        }
        found
    }

    fn pinned(
        &self,
        sessions: &Sessions,
        agents: &[PlannedAgent],
        before: &BTreeMap<AgentId, WorkerId>,
    ) -> Result<Vec<Seat>, String> {
        let mut taken: Vec<&WorkerId> = Vec::with_capacity(agents.len());
        let mut seats: Vec<(usize, Seat)> = Vec::with_capacity(agents.len());
        // Agents that name their instance choose first: nobody else may take it from them.
        // So do, after them, those that had a worker before and find it again.
        let earlier = |agent: &PlannedAgent| {
            let session = sessions.by_worker.get(before.get(&agent.id)?)?;
            session.serves(agent).then_some(session)
        };
        let mut order: Vec<(usize, &PlannedAgent)> = agents.iter().enumerate().collect();
        order.sort_by_key(|(_, agent)| (agent.instance.is_none(), earlier(agent).is_none()));
        for (index, agent) in order {
            let is_free = |s: &&Session| !taken.contains(&&s.hello.worker);
            let mut by_name = sessions.by_worker.values();
            let chosen = earlier(agent)
                .filter(is_free)
                .or_else(|| by_name.find(|s| s.serves(agent) && is_free(s)));
            let Some(session) = chosen else {
                return Err(format!(
                    "agent {} needs a free {} worker{}; {} of {} agents have one",
                    agent.id,
                    agent.engine.as_str(),
                    pinned_to(agent),
                    seats.len(),
                    agents.len()
                ));
            };
            taken.push(&session.hello.worker);
            seats.push((index, self.seat(session, agent.id.clone())));
        }
        seats.sort_by_key(|(index, _)| *index);
        Ok(seats.into_iter().map(|(_, seat)| seat).collect())
    }

    fn shared(
        &self,
        sessions: &Sessions,
        agents: &[PlannedAgent],
        before: &BTreeMap<AgentId, WorkerId>,
    ) -> Result<Vec<Seat>, String> {
        let for_all = |s: &&Session| agents.iter().all(|agent| s.serves(agent));
        let mut earlier = agents
            .iter()
            .filter_map(|agent| sessions.by_worker.get(before.get(&agent.id)?));
        let mut by_name = sessions.by_worker.values();
        let chosen = earlier.find(for_all).or_else(|| by_name.find(for_all));
        if let Some(session) = chosen {
            let seat = |agent: &PlannedAgent| self.seat(session, agent.id.clone());
            return Ok(agents.iter().map(seat).collect());
        }
        let wanted: BTreeSet<String> = agents
            .iter()
            .map(|agent| format!("{} worker{}", agent.engine.as_str(), pinned_to(agent)))
            .collect();
        let wanted: Vec<String> = wanted.into_iter().collect();
        Err(format!(
            "{} agents share one instance and need one {} that serves them all",
            agents.len(),
            wanted.join(" and ")
        ))
    }

    fn seat(&self, session: &Session, agent: AgentId) -> Seat {
        // Within one boot both processes read the same clock: no exchange can be as exact as that.
        let same_clock = session.hello.clock.boot_id == self.boot_id;
        let (offset, error) = match session.clock {
            Some(c) if !same_clock => (c.offset_ns, c.rtt_ns / 2),
            _ => (0, 0),
        };
        Seat {
            member: Member {
                agent,
                worker: session.hello.worker.clone(),
                instance: session.hello.instance.clone(),
                node: session.hello.node.clone(),
                clock: session.hello.clock.clone(),
                clock_offset_ns: offset,
                clock_error_ns: error,
            },
            rtt_ns: session.clock.map_or(0, |c| c.rtt_ns),
            gpu: session.hello.gpu.clone(),
            appraises: session.hello.appraises,
            size_bytes: 0,
        }
    }

    /// Notes which leg a worker holds, for the control API.
    pub(crate) fn set_busy(&self, worker: &WorkerId, run: Option<RunId>) {
        if let Some(session) = self.lock().by_worker.get_mut(worker) {
            session.busy_with = run;
        }
    }

    /// Sends a command; waits while the worker's queue is full.
    ///
    /// # Errors
    /// In words, when the session is gone.
    pub(crate) async fn send(
        &self,
        worker: &WorkerId,
        message: CoordinatorMessage,
    ) -> Result<(), String> {
        let commands = self
            .lock()
            .by_worker
            .get(worker)
            .map(|s| s.commands.clone())
            .ok_or_else(|| format!("worker {worker} is not connected"))?;
        commands
            .send(message)
            .await
            .map_err(|_| format!("worker {worker}'s session has ended"))
    }

    /// Everyone connected, by name.
    pub(crate) fn list(&self) -> Vec<WorkerInfo> {
        self.lock()
            .by_worker
            .values()
            .map(|s| WorkerInfo {
                worker: s.hello.worker.clone(),
                instance: s.hello.instance.clone(),
                url: s.hello.url.clone(),
                engine: s.hello.engine,
                node: s.hello.node.clone(),
                busy_with: s.busy_with.clone(),
                rtt_ns: s.clock.map(|c| c.rtt_ns),
            })
            .collect()
    }
}

/// Whether two texts name one instance: a spec holds origins (`http://127.0.0.1:11434`), a worker
/// says its URL with a path (`http://localhost:11434/`).
fn same_address(one: &str, other: &str) -> bool {
    plain(one) == plain(other)
}

fn plain(url: &str) -> String {
    let url = url.trim_end_matches('/');
    match url.split_once("://localhost") {
        Some((scheme, rest)) if rest.is_empty() || rest.starts_with([':', '/']) => {
            format!("{scheme}://127.0.0.1{rest}")
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
