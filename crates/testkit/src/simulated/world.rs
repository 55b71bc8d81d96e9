//! The virtual time of a case: its legs one after another, every millisecond of each.

use std::collections::BTreeMap;

use chimera_domain::attribution::Cause;
use chimera_domain::event::{EngineState, ResidentModel};
use chimera_domain::ids::IdError;

use super::case::Case;
use super::client::{Client, Doing};
use super::device::{Balance, Conditions, Pace, Phase, balance};
use super::dice::Dice;
use super::engine::{Engine, MS, Step};
use super::meter::Meters;
use super::records::{Book, Leg, Ran};
use super::sampler::{Sampler, mono, whole};
use super::scenario::{Product, Scenario, as_f64};
use super::trouble::Trouble;

/// One step of virtual time while somebody works, ns.
const STEP: f64 = MS;
/// One step while nobody does.
const IDLE_STEP: f64 = 5.0 * MS;
/// From the reservation of a leg to its start.
const LEAD: f64 = 300.0 * MS;
/// From the end of a leg to the next reservation.
const REST: f64 = 700.0 * MS;
/// How often the state of an engine is read.
const WATCH: f64 = 500.0 * MS;
/// Longest leg: a guard against a fault of the simulation, never reached by one that works.
const LONGEST: f64 = 600_000.0 * MS;

/// Time that each cause took in a together leg, as only the simulation knows it, ms.
pub type Ledger = BTreeMap<Cause, f64>;

/// The machine as it stands.
pub(super) struct World<'s> {
    scenario: &'s Scenario,
    dice: Dice,
    now: f64,
    engines: Vec<Engine>,
    resident: Vec<bool>,
    meters: Meters,
    sampler: Sampler,
    balance: Balance,
    phases: Vec<Phase>,
    book: Book,
}

/// What a case left behind.
pub(super) struct Past {
    pub(super) book: Book,
    pub(super) sampler: Sampler,
    /// By run: what each cause cost.
    pub(super) ledgers: Vec<Ledger>,
}

/// Which runs the causes act in: all, but for a single one that comes and goes.
pub(super) fn struck(case: &Case, runs: u32, dice: &mut Dice) -> Vec<bool> {
    let comes_and_goes = [
        Cause::Reload,
        Cause::ThermalOrPowerThrottle,
        Cause::ForeignProcess,
        Cause::HostCpu,
        Cause::ClientOverload,
        Cause::Network,
    ];
    let sometimes = case.injections.len() == 1 && case.has_any(&comes_and_goes);
    (0..runs)
        .map(|run| !sometimes || run == 0 || dice.chance(0.8))
        .collect()
}

impl<'s> World<'s> {
    pub(super) fn run(
        scenario: &'s Scenario,
        case: &Case,
        struck: &[bool],
    ) -> Result<Past, IdError> {
        let mut dice = Dice::new(case.seed ^ 0x5eed_0000_0000_0001);
        let begin = 1e12;
        let order = order(scenario, &mut dice);
        let book = Book::open(scenario, &order, case.seed, begin)?;
        let mut world = World {
            scenario,
            now: begin,
            engines: vec![Engine::default(); scenario.instances.len()],
            resident: vec![scenario.product == Product::LlamaCpp; scenario.instances.len()],
            meters: Meters::new(scenario),
            sampler: Sampler::new(book.node.clone(), begin),
            balance: Balance::default(),
            phases: Vec::new(),
            book,
            dice,
        };
        let mut ledgers = Vec::new();
        for ((run, order), struck) in (1_u32..).zip(&order).zip(struck) {
            let drift = world.dice.factor(scenario.noise.run);
            for solo in order {
                let ledger = world.leg(run, *solo, drift, *struck)?;
                if solo.is_none() {
                    ledgers.push(ledger);
                }
            }
        }
        let quiet = world.conditions(None, 1.0, false);
        world.rest(&quiet, world.now + 200.0 * MS);
        world.book.close(world.now);
        world.sampler.close(scenario);
        Ok(Past {
            book: world.book,
            sampler: world.sampler,
            ledgers,
        })
    }

    /// What holds in a leg.
    fn conditions(&mut self, solo: Option<usize>, drift: f64, struck: bool) -> Conditions {
        let scenario = self.scenario;
        let trouble = if solo.is_none() && struck {
            scenario.trouble.clone()
        } else {
            Trouble::default()
        };
        let speed = scenario
            .instances
            .iter()
            .map(|_| drift * self.dice.factor(scenario.noise.leg))
            .collect();
        let mut conditions = Conditions {
            trouble,
            speed,
            full: Vec::new(),
        };
        let full = scenario.gpus.iter().enumerate().map(|(place, gpu)| {
            let held: f64 = scenario
                .instances
                .iter()
                .zip(&self.resident)
                .enumerate()
                .filter(|(_, (instance, resident))| instance.gpu == Some(place) && **resident)
                .map(|(at, (instance, _))| instance.size_bytes * (1.0 - conditions.offloaded(at)))
                .sum();
            let foreign = conditions
                .foreign(place)
                .map_or(0.0, |_| Trouble::FOREIGN_BYTES);
            (gpu.base_bytes + held + foreign) / gpu.memory_bytes
        });
        conditions.full = full.collect();
        conditions
    }

    fn leg(
        &mut self,
        run: u32,
        solo: Option<usize>,
        drift: f64,
        struck: bool,
    ) -> Result<Ledger, IdError> {
        let scenario = self.scenario;
        let begun = self.now;
        let gang: Vec<usize> = match solo {
            Some(agent) => vec![agent],
            None => (0..scenario.agents.len()).collect(),
        };
        self.load_models(&gang);
        let conditions = self.conditions(solo, drift, struck);
        let start = begun + LEAD;
        self.rest(&conditions, start);
        let mut clients: Vec<Client> = gang
            .iter()
            .map(|agent| {
                let late = self.dice.exponential(0.08) * MS;
                Client::new(
                    *agent,
                    scenario,
                    &conditions.trouble,
                    start + late,
                    &mut self.dice,
                )
            })
            .collect();
        self.engines
            .iter_mut()
            .for_each(|engine| engine.lost.clear());
        let mut states: Vec<Vec<EngineState>> = vec![Vec::new(); clients.len()];
        let mut watch = start + self.dice.between(20.0, 400.0) * MS;
        while clients.iter().any(|client| client.doing != Doing::Finished)
            && self.now < start + LONGEST
        {
            let to = self.now + STEP;
            self.clients(&mut clients, &conditions, to);
            self.step(&mut clients, &conditions, to);
            if to >= watch {
                for (client, states) in clients.iter().zip(&mut states) {
                    states.extend(self.state(client, &conditions, to));
                }
                watch += WATCH;
            }
        }
        let ended = clients
            .iter()
            .map(Client::finished)
            .fold(self.now, f64::max);
        let ran: Vec<Ran<'_>> = clients
            .iter()
            .zip(&states)
            .map(|(client, states)| Ran { client, states })
            .collect();
        let leg = Leg {
            planned: self.book.leg(run, solo)?,
            begun,
            start,
            ended: ended + 6.0 * MS,
            agents: &ran,
        };
        self.book
            .write(scenario, &conditions, &leg, &mut self.dice)?;
        let ledger = ledger(&self.engines, &clients);
        let quiet = self.conditions(solo, 1.0, false);
        let rest = REST * self.dice.between(0.8, 1.2);
        self.rest(&quiet, ended + rest);
        Ok(ledger)
    }

    /// Warming: the gang's models are in memory; Ollama drops the others.
    fn load_models(&mut self, gang: &[usize]) {
        if self.scenario.product == Product::LlamaCpp {
            return;
        }
        let wanted: Vec<usize> = gang
            .iter()
            .filter_map(|agent| Some(self.scenario.agents.get(*agent)?.instance))
            .collect();
        for (place, (resident, engine)) in
            self.resident.iter_mut().zip(&mut self.engines).enumerate()
        {
            let now = wanted.contains(&place);
            if now && !*resident {
                engine.loads += 1;
                if let Some(process) = self.meters.engines.get_mut(place) {
                    *process = super::meter::Process::default();
                }
            }
            *resident = now;
        }
    }

    /// Agents whose step ends before `to` ask.
    fn clients(&mut self, clients: &mut [Client], conditions: &Conditions, to: f64) {
        for client in clients {
            if client.doing != Doing::Local || client.at > to {
                continue;
            }
            let Some(plan) = self.scenario.agents.get(client.agent) else {
                continue;
            };
            let asked = client.ask(plan, self.scenario, &conditions.trouble, &mut self.dice);
            if let (Some(job), Some(engine)) = (asked, self.engines.get_mut(plan.instance)) {
                let place = engine
                    .queue
                    .iter()
                    .position(|other| other.arrived > job.arrived);
                engine
                    .queue
                    .insert(place.unwrap_or(engine.queue.len()), job);
            }
        }
    }

    /// One step of all engines and counters.
    fn step(&mut self, clients: &mut [Client], conditions: &Conditions, to: f64) {
        let scenario = self.scenario;
        for engine in &mut self.engines {
            engine.admit(to, &mut self.dice);
        }
        self.phases.clear();
        self.phases.extend(self.engines.iter().map(Engine::phase));
        let others = self.meters.background
            + scenario.host.daemon.map_or(0.0, |(_, cores)| cores)
            + 0.02 * as_f64(clients.len());
        balance(
            scenario,
            conditions,
            &self.phases,
            others,
            &mut self.balance,
        );
        let from = self.now;
        let mut ended = Vec::new();
        for (place, (engine, instance)) in
            self.engines.iter_mut().zip(&scenario.instances).enumerate()
        {
            let loads = engine.loads;
            let step = Step {
                instance,
                noise: &scenario.noise,
                pace: self
                    .balance
                    .engines
                    .get(place)
                    .copied()
                    .unwrap_or(Pace::STILL),
                speed: conditions.speed.get(place).copied().unwrap_or(1.0),
                full: instance.gpu.map_or(0.0, |gpu| conditions.full(gpu)),
                from,
                to,
            };
            ended.extend(engine.work(&step, &mut self.dice));
            if engine.loads != loads
                && let Some(process) = self.meters.engines.get_mut(place)
            {
                *process = super::meter::Process::default();
            }
        }
        for job in ended {
            if let Some(client) = clients.iter_mut().find(|client| client.agent == job.agent) {
                client.receive(job, self.balance.share, &mut self.dice);
            }
        }
        self.count(conditions, to);
    }

    /// Lets time pass in which no agent works.
    fn rest(&mut self, conditions: &Conditions, until: f64) {
        self.phases.clear();
        self.phases.resize(self.engines.len(), Phase::Idle);
        let others =
            self.meters.background + self.scenario.host.daemon.map_or(0.0, |(_, cores)| cores);
        balance(
            self.scenario,
            conditions,
            &self.phases,
            others,
            &mut self.balance,
        );
        while self.now < until {
            let to = (self.now + IDLE_STEP).min(until);
            self.count(conditions, to);
        }
    }

    fn count(&mut self, conditions: &Conditions, to: f64) {
        let dt = to - self.now;
        self.meters.count(
            self.scenario,
            conditions,
            &self.engines,
            &self.resident,
            &self.balance,
            (to, dt),
        );
        self.now = to;
        while self.sampler.due <= to {
            let usual = self.scenario.host.background;
            let was = self.meters.background;
            self.meters.background = was + (usual * self.dice.factor(0.8) - was) * 0.05;
            self.sampler.tick(
                self.scenario,
                conditions,
                &self.engines,
                &self.resident,
                &self.meters,
                &mut self.dice,
            );
        }
    }

    /// What an agent's engine says of its state.
    fn state(&self, client: &Client, conditions: &Conditions, at: f64) -> Option<EngineState> {
        if client.doing == Doing::Finished {
            return None;
        }
        let place = self.scenario.agents.get(client.agent)?.instance;
        let (engine, instance) = (
            self.engines.get(place)?,
            self.scenario.instances.get(place)?,
        );
        let mut state = EngineState {
            at: mono(at),
            ..EngineState::default()
        };
        match self.scenario.product {
            Product::LlamaCpp => {
                let waiting = engine.queue.iter().filter(|job| job.arrived <= at).count();
                state.requests_running = Some(u32::from(engine.active.is_some()));
                state.requests_waiting = u32::try_from(waiting).ok();
            }
            Product::Ollama if engine.phase() == Phase::Load => state.resident = Some(Vec::new()),
            Product::Ollama => {
                let on_gpu = instance.gpu.map_or(0.0, |_| {
                    instance.size_bytes * (1.0 - conditions.offloaded(place))
                });
                state.resident = Some(vec![ResidentModel {
                    model: "llama3.2:3b".to_owned(),
                    size_bytes: Some(whole(instance.size_bytes)),
                    size_vram_bytes: Some(whole(on_gpu)),
                    context_length: Some(4_096),
                }]);
            }
        }
        Some(state)
    }
}

/// Each run's legs in a random order: `None` is the together leg.
fn order(scenario: &Scenario, dice: &mut Dice) -> Vec<Vec<Option<usize>>> {
    (0..scenario.runs)
        .map(|_| {
            let mut legs: Vec<Option<usize>> =
                (0..scenario.agents.len()).map(Some).chain([None]).collect();
            dice.shuffle(&mut legs);
            legs
        })
        .collect()
}

/// What the engines and clients say of whose fault the time was.
fn ledger(engines: &[Engine], clients: &[Client]) -> Ledger {
    let mut ledger = Ledger::new();
    let lost = engines.iter().flat_map(|engine| &engine.lost);
    for (cause, ns) in lost.chain(clients.iter().flat_map(|client| &client.lost)) {
        *ledger.entry(*cause).or_default() += ns / MS;
    }
    for asked in clients.iter().flat_map(|client| &client.asked) {
        let job = &asked.job;
        if let Some(load) = job.reload {
            *ledger.entry(Cause::Reload).or_default() += load / MS;
        }
        let queued = job.prefill_began - job.arrived - job.load;
        if queued > 10.0 * MS {
            *ledger.entry(Cause::Queueing).or_default() += queued / MS;
        }
    }
    let finished = || clients.iter().map(Client::finished);
    let tail = finished().fold(0.0, f64::max) - finished().fold(f64::MAX, f64::min);
    if clients.len() > 1 {
        *ledger.entry(Cause::LengthImbalance).or_default() += tail / MS;
    }
    ledger
}
