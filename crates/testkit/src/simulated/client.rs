//! An agent: its steps, the way to its engine and back, and the thread that stamps what comes.

use chimera_domain::attribution::Cause;

use super::dice::Dice;
use super::engine::{Job, MS};
use super::scenario::{Agent, Scenario};
use super::trouble::{Network, Stall, Trouble};

/// One request as its agent saw it, and as the engine knows it. Instants are ns of the host's clock.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) sent: f64,
    /// Receipt of each chunk.
    pub(super) chunks: Vec<f64>,
    pub(super) done: f64,
    /// Time in which the agent's thread waited for a core.
    pub(super) client_wait: f64,
    pub(super) job: Job,
}

/// What an agent is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// A step without the model; then it asks.
    Local,
    /// It waits for its engine.
    Waiting,
    /// All is done.
    Finished,
}

/// An agent in a leg.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Its place in the scenario.
    pub(super) agent: usize,
    pub(super) doing: Doing,
    /// When what it is at ends, while it does not wait.
    pub(super) at: f64,
    pub(super) started: f64,
    pub(super) local: (f64, f64),
    pub(super) asked: Vec<Asked>,
    sent: f64,
    path: Path,
    thread: Thread,
    /// Time lost to whom, ns.
    pub(super) lost: Vec<(Cause, f64)>,
}

impl Client {
    pub(super) fn new(
        agent: usize,
        scenario: &Scenario,
        trouble: &Trouble,
        start: f64,
        dice: &mut Dice,
    ) -> Self {
        let local_ms = scenario
            .agents
            .get(agent)
            .map_or(100.0, |agent| agent.local_ms);
        let stall = trouble
            .stall
            .clone()
            .filter(|stall| stall.agents.contains(&agent));
        let slow = stall.as_ref().map_or(1.0, |stall| 1.0 / (1.0 - stall.duty));
        let local_end = start + local_ms * slow * dice.factor(0.03) * MS;
        Self {
            agent,
            doing: Doing::Local,
            at: local_end,
            started: start,
            local: (start, local_end - 0.05 * MS),
            asked: Vec::new(),
            sent: 0.0,
            path: Path {
                base_ms: scenario.loopback_ms,
                network: trouble
                    .network
                    .clone()
                    .filter(|network| network.agents.contains(&agent)),
            },
            thread: Thread {
                stall,
                from: start,
                to: start,
            },
            lost: Vec::new(),
        }
    }

    /// Asks the next thing; the request, as it arrives at the engine.
    pub(super) fn ask(
        &mut self,
        plan: &Agent,
        scenario: &Scenario,
        trouble: &Trouble,
        dice: &mut Dice,
    ) -> Option<Job> {
        let place = self.asked.len();
        let Some((prompt, output)) = plan.requests.get(place).copied() else {
            self.doing = Doing::Finished;
            return None;
        };
        self.sent = self.thread.runs_at(self.at, dice);
        let arrived = self.sent + self.path.request(dice);
        let warm = match scenario.product {
            super::scenario::Product::Ollama => {
                (scenario.warm_load_ms * dice.factor(0.35)).clamp(0.5, 200.0) * MS
            }
            super::scenario::Product::LlamaCpp => 0.0,
        };
        let due = trouble
            .reload
            .as_ref()
            .filter(|reload| reload.agent == self.agent && reload.request == place);
        let reload = due.map(|reload| reload.load_ms * dice.factor(0.08) * MS + warm);
        self.doing = Doing::Waiting;
        Some(Job {
            agent: self.agent,
            prompt,
            output: count((output * (1.0 + scenario.noise.length * dice.normal())).max(8.0)),
            arrived,
            ready: if reload.is_some() {
                arrived
            } else {
                arrived + warm
            },
            load: warm,
            reload,
            work: super::engine::Work::Prepare(0.0),
            prefill_began: arrived,
            prefill_ended: arrived,
            tokens: Vec::new(),
        })
    }

    /// Receives the answer; it goes on when the last of it is in. `share`: what a thread of the host
    /// gets of the cores that it wants.
    pub(super) fn receive(&mut self, job: Job, share: f64, dice: &mut Dice) {
        let mut last_packet = job.arrived;
        let mut last = self.sent;
        let mut wait = dice.between(0.005, 0.04) * MS;
        let crowd = 0.12 * (1.0 / share.max(0.05) - 1.0);
        let mut chunks = Vec::with_capacity(job.tokens.len());
        for written in &job.tokens {
            last_packet = (written + self.path.packet(dice)).max(last_packet);
            let mut woken = last_packet + dice.exponential(0.002) * MS;
            if crowd > 1e-6 {
                woken += dice.exponential(crowd) * MS;
            }
            let stamped = self.thread.runs_at(woken, dice).max(last + 0.01 * MS);
            wait += (stamped - last_packet.max(last)).max(0.0);
            last = stamped;
            chunks.push(stamped);
        }
        let done = self
            .thread
            .runs_at(last + dice.between(0.1, 0.8) * MS, dice);
        if let Some(network) = &self.path.network {
            self.lost
                .push((Cause::Network, 2.0 * network.one_way_ms * MS));
        }
        if self.thread.stall.is_some() {
            self.lost.push((Cause::ClientOverload, wait));
        }
        self.asked.push(Asked {
            sent: self.sent,
            chunks,
            done,
            client_wait: wait,
            job,
        });
        self.at = done + dice.between(0.3, 1.5) * MS;
        self.doing = Doing::Local;
    }

    /// When it ended.
    pub(super) fn finished(&self) -> f64 {
        self.at
    }
}

/// The way between agent and engine.
#[derive(Debug, Clone)]
struct Path {
    base_ms: f64,
    network: Option<Network>,
}

impl Path {
    fn one_way(&self, dice: &mut Dice) -> f64 {
        let far = self.network.as_ref().map_or(0.0, |network| {
            network.one_way_ms + dice.exponential(network.jitter_ms)
        });
        (self.base_ms * dice.factor(0.3) + far) * MS
    }

    /// A request on its way; half of them open a connection first.
    fn request(&self, dice: &mut Dice) -> f64 {
        let handshake = if dice.chance(0.5) {
            self.one_way(dice) * 2.0
        } else {
            0.0
        };
        handshake + self.one_way(dice)
    }

    fn packet(&self, dice: &mut Dice) -> f64 {
        let lost = self
            .network
            .as_ref()
            .filter(|network| dice.chance(network.loss));
        self.one_way(dice) + lost.map_or(0.0, |network| network.resend_ms * MS)
    }
}

/// The agent's thread.
#[derive(Debug, Clone)]
struct Thread {
    stall: Option<Stall>,
    /// The stall that was looked at last.
    from: f64,
    to: f64,
}

impl Thread {
    /// The first instant from `at` on at which it has a core. Instants do not fall from call to call
    /// by more than a stall.
    fn runs_at(&mut self, at: f64, dice: &mut Dice) -> f64 {
        let Some(stall) = &self.stall else { return at };
        while self.to <= at {
            let free = stall.ms * (1.0 - stall.duty) / stall.duty;
            self.from = self.to + dice.exponential(free).max(1.0) * MS;
            self.to = self.from + stall.ms * dice.between(0.6, 1.4) * MS;
        }
        if at >= self.from { self.to } else { at }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of tokens"
)]
fn count(tokens: f64) -> u32 {
    tokens.round().max(1.0) as u32
}
