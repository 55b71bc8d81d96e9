//! What coordinator and workers would write of a leg.

use chimera_domain::control::{ControlEvent, ControlRecord, ExperimentOutcome, LegVerdict, Member};
use chimera_domain::event::{
    AgentEvent, AgentRecord, Begin, End, EngineState, EngineTimes, EngineWatch, FinishReason,
    Finished, LocalStep, Output, PinCheck, PinFacts, PinMoment, RequestRecord, Started,
};
use chimera_domain::ids::{
    AgentId, AgentKey, ExperimentId, IdError, InstanceId, NodeId, RequestId, Role, RunId, WorkerId,
};
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::plan::{
    Budget, LegKind, Limits, Plan, PlannedAgent, PlannedLeg, PlannedTest, Topology, Workload,
};
use chimera_domain::units::{BootId, ClockReading, MonoNs};

use super::client::{Asked, Client};
use super::device::Conditions;
use super::dice::Dice;
use super::engine::MS;
use super::sampler::{FIRST_SERVER, mono, whole};
use super::scenario::{Agent, Product, Scenario};

/// The test that a case consists of.
const TEST: u32 = 1;
/// Context of every instance, tokens.
const CONTEXT: u32 = 4_096;
/// What the two requests of an agent are for.
const STEPS: [&str; 2] = ["analysis", "report"];

/// Both clocks of the one host.
pub(super) fn clock(at: MonoNs) -> ClockReading {
    ClockReading {
        boot_id: BootId("boot-1".to_owned()),
        mono_ns: at,
        wall_unix_ns: 1_700_000_000_000_000_000_u64.saturating_add(at.0),
    }
}

/// Everything that was written.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) control: Vec<ControlEvent>,
    pub(super) events: Vec<AgentEvent>,
    experiment: ExperimentId,
    pub(super) node: NodeId,
    agents: Vec<AgentId>,
}

impl Book {
    /// Opens the log of an experiment with its plan.
    pub(super) fn open(
        scenario: &Scenario,
        order: &[Vec<Option<usize>>],
        seed: u64,
        at: f64,
    ) -> Result<Self, IdError> {
        let agents = scenario
            .agents
            .iter()
            .map(|agent| AgentId::try_new(agent.name.as_str()));
        let mut book = Self {
            control: Vec::new(),
            events: Vec::new(),
            experiment: ExperimentId::try_new("simulated")?,
            node: NodeId::try_new("node-1")?,
            agents: agents.collect::<Result<_, _>>()?,
        };
        let plan = book.plan(scenario, order, seed)?;
        let submitted = ControlRecord::Submitted {
            spec_text: "name = \"simulated\"\n".to_owned(),
            plan,
            software: "simulated".to_owned(),
        };
        book.decide(None, 0, at, submitted);
        Ok(book)
    }

    fn plan(
        &self,
        scenario: &Scenario,
        order: &[Vec<Option<usize>>],
        seed: u64,
    ) -> Result<Plan, IdError> {
        let mut legs = Vec::new();
        for (run, order) in (1_u32..).zip(order) {
            for agent in order {
                legs.push(self.leg(run, *agent)?);
            }
        }
        let agents = scenario
            .agents
            .iter()
            .zip(&self.agents)
            .map(|(agent, id)| planned(scenario, agent, id));
        let agents: Vec<PlannedAgent> = agents.collect::<Result<_, _>>()?;
        let test = PlannedTest {
            id: TEST,
            phase: 1,
            scenario: "custom".to_owned(),
            label: scenario.words.clone(),
            max_concurrent: u32::try_from(agents.len()).unwrap_or(u32::MAX),
            agents,
            runs: scenario.runs,
            topology: if scenario.shared {
                Topology::Shared { slots: 1 }
            } else {
                Topology::Pinned
            },
            until: None,
        };
        Ok(Plan {
            name: "simulated".to_owned(),
            seed,
            workload: Workload {
                template: "tr110-report".to_owned(),
                data: None,
            },
            limits: Limits::default(),
            model_digests: std::collections::BTreeMap::new(),
            budget: Budget::default(),
            schedule: chimera_domain::memory::admission::Schedule::default(),
            slo: None,
            tests: vec![test],
            legs,
            later: Vec::new(),
        })
    }

    /// The leg of a run: of one agent alone, or of all.
    pub(super) fn leg(&self, run: u32, solo: Option<usize>) -> Result<PlannedLeg, IdError> {
        let alone = solo.and_then(|place| self.agents.get(place));
        Ok(PlannedLeg {
            run_id: RunId::try_new(alone.map_or_else(
                || format!("t{TEST}-r{run}-together"),
                |agent| format!("t{TEST}-r{run}-solo-{agent}"),
            ))?,
            test: TEST,
            run,
            kind: alone.map_or(LegKind::Together, |agent| LegKind::Solo {
                agent: agent.clone(),
            }),
        })
    }

    fn decide(&mut self, run: Option<RunId>, attempt: u32, at: f64, record: ControlRecord) {
        // Decisions of one instant keep their order.
        let at = mono(at).plus(self.control.len() as u64);
        self.control.push(ControlEvent {
            experiment: self.experiment.clone(),
            run,
            attempt,
            epoch: 1,
            at: clock(at),
            record,
        });
    }

    /// Writes a leg that ended at `at`: decisions, and the streams of its agents.
    pub(super) fn write(
        &mut self,
        scenario: &Scenario,
        conditions: &Conditions,
        leg: &Leg<'_>,
        dice: &mut Dice,
    ) -> Result<(), IdError> {
        let run = Some(leg.planned.run_id.clone());
        let mut members = Vec::new();
        let mut pins = Vec::new();
        for ran in leg.agents {
            members.push(self.member(scenario, ran.client.agent, leg.begun)?);
            pins.push(pin(scenario, conditions, ran, dice));
        }
        let reserved = ControlRecord::Reserved {
            leg: leg.planned.clone(),
            members: members.clone(),
        };
        self.decide(run.clone(), 1, leg.begun, reserved);
        let ids: Vec<AgentId> = leg
            .agents
            .iter()
            .filter_map(|ran| self.agents.get(ran.client.agent))
            .cloned()
            .collect();
        for (agent, facts) in ids.iter().zip(&pins) {
            let ready = ControlRecord::Ready {
                agent: agent.clone(),
                pin: facts.clone(),
                warm_ns: whole(dice.between(50.0, 90.0) * MS),
            };
            self.decide(run.clone(), 1, leg.begun + 100.0 * MS, ready);
        }
        let committed = ControlRecord::Committed {
            start_at: ids
                .iter()
                .map(|agent| (agent.clone(), mono(leg.start)))
                .collect(),
            queued: Vec::new(),
        };
        self.decide(run.clone(), 1, leg.begun + 150.0 * MS, committed);
        for (((ran, agent), facts), member) in leg.agents.iter().zip(&ids).zip(pins).zip(members) {
            self.stream(scenario, leg, ran, agent, facts, member)?;
        }
        self.decide(
            run,
            1,
            leg.ended,
            ControlRecord::Closed {
                verdict: LegVerdict::Valid,
            },
        );
        Ok(())
    }

    /// Ends the log.
    pub(super) fn close(&mut self, at: f64) {
        self.decide(
            None,
            0,
            at,
            ControlRecord::ExperimentClosed {
                outcome: ExperimentOutcome::Completed,
            },
        );
    }

    fn member(&self, scenario: &Scenario, agent: usize, at: f64) -> Result<Member, IdError> {
        let plan = scenario.agents.get(agent);
        let instance = plan.map_or(0, |plan| plan.instance);
        Ok(Member {
            agent: self
                .agents
                .get(agent)
                .cloned()
                .map_or_else(|| AgentId::try_new("unknown"), Ok)?,
            worker: WorkerId::try_new(format!("worker-{agent}"))?,
            instance: InstanceId::try_new(format!("instance-{instance}"))?,
            node: self.node.clone(),
            clock: clock(mono(at)),
            clock_offset_ns: 0,
            clock_error_ns: 0,
        })
    }

    fn stream(
        &mut self,
        scenario: &Scenario,
        leg: &Leg<'_>,
        ran: &Ran<'_>,
        agent: &AgentId,
        facts: PinFacts,
        member: Member,
    ) -> Result<(), IdError> {
        let client = ran.client;
        let plan = scenario.agents.get(client.agent);
        let mut records = vec![
            AgentRecord::Begin(Begin {
                worker: member.worker,
                instance: member.instance,
                role: Role::try_new(plan.map_or("agent", |plan| plan.role))?,
                clock: clock(mono(leg.begun + 60.0 * MS)),
                options: options(scenario, client.agent),
            }),
            AgentRecord::Pin(PinCheck {
                moment: PinMoment::Before,
                at: mono(leg.begun + 95.0 * MS),
                facts: facts.clone(),
            }),
            AgentRecord::Started(Started {
                planned: mono(leg.start),
                actual: mono(client.started),
            }),
            AgentRecord::Local(LocalStep {
                step: "ingest".to_owned(),
                start: mono(client.local.0),
                end: mono(client.local.1),
                detail: "3 files, 120 rows".to_owned(),
            }),
        ];
        for (place, asked) in client.asked.iter().enumerate() {
            let id =
                RequestId::try_new(format!("{}-{}-{place}", leg.planned.run_id, client.agent))?;
            records.push(AgentRecord::Request(request(scenario, id, place, asked)));
        }
        records.push(AgentRecord::Output(Output {
            name: "report".to_owned(),
            media_type: "text/markdown".to_owned(),
            text: "All is well.".to_owned(),
        }));
        records.push(AgentRecord::Engine(EngineWatch {
            states: ran.states.to_vec(),
            missed: 0,
        }));
        records.push(AgentRecord::Finished(Finished {
            at: mono(client.finished()),
            failure: None,
        }));
        records.push(AgentRecord::Pin(PinCheck {
            moment: PinMoment::After,
            at: mono(client.finished() + 3.0 * MS),
            facts: PinFacts {
                warm_load_ns: None,
                ..facts
            },
        }));
        let count = records.len() as u64 - 1;
        records.push(AgentRecord::End(End {
            records: count,
            sha256: "00".repeat(32),
        }));
        let key = AgentKey {
            experiment: self.experiment.clone(),
            run: leg.planned.run_id.clone(),
            attempt: 1,
            agent: agent.clone(),
        };
        self.events
            .extend(records.into_iter().zip(0..).map(|(record, n)| AgentEvent {
                key: key.clone(),
                epoch: 1,
                n,
                record,
            }));
        Ok(())
    }
}

/// A leg that was simulated.
pub(super) struct Leg<'a> {
    pub(super) planned: PlannedLeg,
    pub(super) begun: f64,
    pub(super) start: f64,
    pub(super) ended: f64,
    pub(super) agents: &'a [Ran<'a>],
}

/// An agent of it, and what its engine said of its state meanwhile.
pub(super) struct Ran<'a> {
    pub(super) client: &'a Client,
    pub(super) states: &'a [EngineState],
}

fn options(scenario: &Scenario, agent: usize) -> EngineOptions {
    let on_gpu = scenario
        .agents
        .get(agent)
        .and_then(|agent| scenario.instances.get(agent.instance)?.gpu);
    EngineOptions {
        num_gpu: on_gpu.map(|_| 99),
        num_ctx: CONTEXT,
        ..EngineOptions::default()
    }
}

fn planned(scenario: &Scenario, agent: &Agent, id: &AgentId) -> Result<PlannedAgent, IdError> {
    let place = scenario
        .agents
        .iter()
        .position(|other| other.name == agent.name)
        .unwrap_or(0);
    Ok(PlannedAgent {
        id: id.clone(),
        role: Role::try_new(agent.role)?,
        engine: kind(scenario.product),
        model: "llama3.2:3b".to_owned(),
        options: options(scenario, place),
        instance: None,
        think_ms: 0,
    })
}

fn kind(product: Product) -> EngineKind {
    match product {
        Product::Ollama => EngineKind::Ollama,
        Product::LlamaCpp => EngineKind::Openai,
    }
}

fn pin(scenario: &Scenario, conditions: &Conditions, ran: &Ran<'_>, dice: &mut Dice) -> PinFacts {
    let place = scenario
        .agents
        .get(ran.client.agent)
        .map_or(0, |agent| agent.instance);
    let instance = scenario.instances.get(place);
    let port = u32::try_from(place).unwrap_or(0);
    let ollama = scenario.product == Product::Ollama;
    let size = instance
        .map(|instance| instance.size_bytes)
        .filter(|_| ollama);
    let on_gpu = instance.is_some_and(|instance| instance.gpu.is_some());
    let warm = scenario.warm_load_ms * dice.factor(0.35) * MS;
    PinFacts {
        url: format!("http://127.0.0.1:{}", 11_434 + port),
        engine: Some(kind(scenario.product)),
        product: Some(if ollama { "ollama" } else { "llama.cpp" }.to_owned()),
        version: Some(if ollama { "0.13.0" } else { "b7000" }.to_owned()),
        model: Some("llama3.2:3b".to_owned()),
        model_digest: Some("33".repeat(32)),
        context_length: Some(CONTEXT),
        parallel_slots: (!ollama).then_some(1),
        model_layers: ollama.then_some(32),
        size_bytes: size.map(whole),
        size_vram_bytes: size.map(|size| {
            if on_gpu {
                whole(size * (1.0 - conditions.offloaded(place)))
            } else {
                0
            }
        }),
        pid: Some(FIRST_SERVER + port),
        instance_epoch: Some("1".to_owned()),
        warm_load_ns: ollama.then(|| whole(warm)),
        train_context: None,
    }
}

fn request(scenario: &Scenario, id: RequestId, place: usize, asked: &Asked) -> RequestRecord {
    let job = &asked.job;
    let since = |at: f64| whole(at - asked.sent);
    let ollama = scenario.product == Product::Ollama;
    let last = job.tokens.last().copied().unwrap_or(job.arrived);
    let tokens = job.output;
    RequestRecord {
        request_id: id,
        step: STEPS.get(place).copied().unwrap_or("report").to_owned(),
        sent: mono(asked.sent),
        head_ns: asked
            .chunks
            .first()
            .map(|at| since(*at).saturating_sub(20_000)),
        chunk_ns: asked.chunks.iter().map(|at| since(*at)).collect(),
        done_ns: Some(since(asked.done)),
        prompt_sha256: "11".repeat(32),
        prompt_tokens: Some(u32::try_from(whole(job.prompt)).unwrap_or(u32::MAX)),
        cached_tokens: (!ollama).then_some(0),
        output_tokens: Some(tokens),
        output_sha256: "22".repeat(32),
        finish: Some(FinishReason::Length),
        engine_times: EngineTimes {
            total_ns: ollama.then(|| whole(last - job.arrived + 0.3 * MS)),
            load_ns: ollama.then(|| whole(job.load)),
            prompt_eval_ns: Some(whole(job.prefill_ended - job.prefill_began)),
            eval_ns: Some(whole(last - job.prefill_ended)),
        },
        client_wait_ns: scenario
            .host
            .tells_client_wait
            .then(|| whole(asked.client_wait)),
        error: None,
    }
}
