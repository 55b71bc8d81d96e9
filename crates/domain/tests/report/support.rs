//! Builds the records of an experiment from the times its agents take: the truth a report must find.

#![allow(
    dead_code,
    reason = "shared by the tests and the bench, neither of which uses all of it"
)]

use chimera_domain::control::{
    ControlEvent, ControlRecord, ExperimentOutcome, Invalid, InvalidReason, LegVerdict, Member,
};
use chimera_domain::event::{
    AgentEvent, AgentRecord, Begin, End, EngineTimes, FinishReason, Finished, LocalStep, Output,
    PinCheck, PinFacts, PinMoment, RequestRecord, Started,
};
use chimera_domain::ids::{
    AgentId, AgentKey, ExperimentId, InstanceId, NodeId, RequestId, Role, RunId, WorkerId,
};
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::plan::{
    Budget, LegKind, Limits, Plan, PlannedAgent, PlannedLeg, PlannedTest, Topology, Workload,
};
use chimera_domain::report::{Environment, Input, Report, build};
use chimera_domain::units::{BootId, ClockReading, MonoNs};

/// One millisecond, ns.
pub(crate) const MS: u64 = 1_000_000;

/// What one agent takes in one leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Steps before the first request, ns.
    pub(crate) local: u64,
    /// Client TTFT of every request, ns.
    pub(crate) ttft: u64,
    /// Time between tokens, ns.
    pub(crate) gap: u64,
    /// Prompt and output tokens of each request.
    pub(crate) requests: Vec<(u32, u32)>,
    /// Start after the planned instant, ns.
    pub(crate) late: u64,
}

impl Pace {
    /// Two requests of 100 prompt tokens each.
    pub(crate) fn new(ttft: u64, gap: u64, tokens: u32) -> Self {
        Self {
            local: 100 * MS,
            ttft,
            gap,
            requests: vec![(100, tokens); 2],
            late: 0,
        }
    }

    /// Start to finish, ns.
    pub(crate) fn duration(&self) -> u64 {
        let asking =
            |(_, out): &(u32, u32)| self.ttft + self.gap * u64::from(out.saturating_sub(1));
        self.local + self.requests.iter().map(asking).sum::<u64>()
    }
}

/// The records of an experiment under construction.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) control: Vec<ControlEvent>,
    pub(crate) events: Vec<AgentEvent>,
    pub(crate) plan: Plan,
    /// The clock all instants count on, ns.
    pub(crate) now: u64,
    /// Whether the engine states its own durations.
    pub(crate) engine_states_times: bool,
}

pub(crate) fn agent_id(name: &str) -> AgentId {
    AgentId::try_new(name).unwrap()
}

pub(crate) fn run_id(test: u32, run: u32, kind: &LegKind) -> RunId {
    RunId::try_new(match kind {
        LegKind::Together => format!("t{test}-r{run}-together"),
        LegKind::Solo { agent } => format!("t{test}-r{run}-solo-{agent}"),
    })
    .unwrap()
}

pub(crate) fn planned_agent(name: &str) -> PlannedAgent {
    PlannedAgent {
        id: agent_id(name),
        role: Role::try_new(name.split('-').next().unwrap()).unwrap(),
        engine: EngineKind::Openai,
        model: "gemma3:270m".to_owned(),
        options: EngineOptions {
            num_ctx: 8192,
            ..EngineOptions::default()
        },
        instance: None,
        think_ms: 0,
    }
}

pub(crate) fn planned_test(id: u32, agents: &[&str], runs: u32) -> PlannedTest {
    PlannedTest {
        id,
        phase: 1,
        scenario: "custom".to_owned(),
        label: format!("test {id}"),
        agents: agents.iter().map(|name| planned_agent(name)).collect(),
        max_concurrent: u32::try_from(agents.len()).unwrap(),
        runs,
        topology: Topology::Pinned,
        until: None,
    }
}

impl World {
    /// An experiment with solo legs for every agent.
    pub(crate) fn new(tests: Vec<PlannedTest>) -> Self {
        let mut legs = Vec::new();
        for test in &tests {
            for run in 1..=test.runs {
                let solos = test.agents.iter().map(|a| LegKind::Solo {
                    agent: a.id.clone(),
                });
                for kind in solos.chain([LegKind::Together]) {
                    legs.push(PlannedLeg {
                        run_id: run_id(test.id, run, &kind),
                        test: test.id,
                        run,
                        kind,
                    });
                }
            }
        }
        let plan = Plan {
            name: "example".to_owned(),
            seed: 7,
            workload: Workload {
                template: "tr110-report".to_owned(),
                data: None,
            },
            limits: Limits::default(),
            model_digests: std::collections::BTreeMap::new(),
            budget: Budget::default(),
            schedule: chimera_domain::memory::admission::Schedule::default(),
            slo: None,
            tests,
            legs,
            later: Vec::new(),
        };
        let mut world = Self {
            control: Vec::new(),
            events: Vec::new(),
            plan,
            now: 1_000_000 * MS,
            engine_states_times: false,
        };
        world.submit();
        world
    }

    /// States the plan anew, after a change to it.
    pub(crate) fn submit(&mut self) {
        self.control
            .retain(|event| !matches!(event.record, ControlRecord::Submitted { .. }));
        let plan = self.plan.clone();
        let spec_text = "name = \"example\"\n".to_owned();
        self.decide(
            None,
            0,
            1,
            ControlRecord::Submitted {
                spec_text,
                plan,
                software: "0.1.0 (test)".to_owned(),
            },
        );
    }

    /// Executes one whole run: each agent alone, then all together.
    pub(crate) fn run(&mut self, test: u32, run: u32, solo: &[Pace], together: &[Pace]) {
        let names: Vec<AgentId> = self
            .test(test)
            .agents
            .iter()
            .map(|a| a.id.clone())
            .collect();
        for (name, pace) in names.iter().zip(solo) {
            let kind = LegKind::Solo {
                agent: name.clone(),
            };
            self.leg(test, run, &kind, &[(name.clone(), pace.clone())]);
        }
        let gang: Vec<(AgentId, Pace)> = names.into_iter().zip(together.to_vec()).collect();
        self.leg(test, run, &LegKind::Together, &gang);
    }

    /// Executes one leg as its first attempt under epoch 1.
    pub(crate) fn leg(&mut self, test: u32, run: u32, kind: &LegKind, gang: &[(AgentId, Pace)]) {
        self.attempt(test, run, kind, gang, (1, 1), LegVerdict::Valid);
    }

    /// Executes one attempt at a leg. Agents over the cap follow one by one, as places become free.
    pub(crate) fn attempt(
        &mut self,
        test: u32,
        run: u32,
        kind: &LegKind,
        gang: &[(AgentId, Pace)],
        (attempt, epoch): (u32, u64),
        verdict: LegVerdict,
    ) {
        let leg = run_id(test, run, kind);
        let planned = self
            .plan
            .legs
            .iter()
            .find(|planned| planned.run_id == leg)
            .unwrap()
            .clone();
        let members: Vec<Member> = gang
            .iter()
            .map(|(agent, _)| member(agent, self.now))
            .collect();
        let id = Some(leg.clone());
        let reserved = ControlRecord::Reserved {
            leg: planned,
            members,
        };
        self.decide(id.clone(), attempt, epoch, reserved);
        for (agent, _) in gang {
            let ready = ControlRecord::Ready {
                agent: agent.clone(),
                pin: pin(agent),
                warm_ns: 50 * MS,
            };
            self.decide(id.clone(), attempt, epoch, ready);
        }
        let start = self.now + 2_000 * MS;
        let cap = usize::try_from(self.test(test).max_concurrent).unwrap();
        let released = gang.iter().take(cap);
        let committed = ControlRecord::Committed {
            start_at: released
                .map(|(agent, _)| (agent.clone(), MonoNs(start)))
                .collect(),
            queued: gang
                .iter()
                .skip(cap)
                .map(|(agent, _)| agent.clone())
                .collect(),
        };
        self.decide(id.clone(), attempt, epoch, committed);
        let mut free: Vec<u64> = vec![start; cap];
        let mut end = start;
        for (agent, pace) in gang {
            free.sort_unstable();
            let planned = free.first().copied().unwrap();
            if planned > start {
                let record = ControlRecord::Dequeued {
                    agent: agent.clone(),
                    start_at: MonoNs(planned),
                };
                self.decide(id.clone(), attempt, epoch, record);
            }
            let finish = self.agent(test, &leg, agent, pace, planned, (attempt, epoch));
            *free.first_mut().unwrap() = finish;
            end = end.max(finish);
        }
        self.now = end + 10 * MS;
        self.decide(id, attempt, epoch, ControlRecord::Closed { verdict });
    }

    fn agent(
        &mut self,
        test: u32,
        leg: &RunId,
        agent: &AgentId,
        pace: &Pace,
        planned: u64,
        (attempt, epoch): (u32, u64),
    ) -> u64 {
        let asked = self
            .test(test)
            .agents
            .iter()
            .find(|a| a.id == *agent)
            .unwrap()
            .clone();
        let begin = planned - 1_500 * MS;
        let start = planned + pace.late;
        let mut at = start;
        let mut records = vec![
            AgentRecord::Begin(Begin {
                worker: member(agent, 0).worker,
                instance: member(agent, 0).instance,
                role: asked.role,
                clock: clock(begin),
                options: asked.options,
            }),
            AgentRecord::Pin(PinCheck {
                moment: PinMoment::Before,
                at: MonoNs(begin),
                facts: pin(agent),
            }),
            AgentRecord::Started(Started {
                planned: MonoNs(planned),
                actual: MonoNs(start),
            }),
        ];
        if pace.local > 0 {
            records.push(AgentRecord::Local(LocalStep {
                step: "ingest".to_owned(),
                start: MonoNs(at),
                end: MonoNs(at + pace.local),
                detail: "3 files, 120 rows".to_owned(),
            }));
            at += pace.local;
        }
        for (index, (prompt, output)) in pace.requests.iter().enumerate() {
            let request = self.request(leg, agent, index, at, pace, (*prompt, *output));
            at += request.chunk_ns.last().copied().unwrap_or(pace.ttft);
            records.push(AgentRecord::Request(request));
        }
        records.push(AgentRecord::Output(Output {
            name: "report".to_owned(),
            media_type: "text/markdown".to_owned(),
            text: format!("All is well, says {agent}."),
        }));
        records.push(AgentRecord::Finished(Finished {
            at: MonoNs(at),
            failure: None,
        }));
        records.push(AgentRecord::Pin(PinCheck {
            moment: PinMoment::After,
            at: MonoNs(at + MS),
            facts: pin(agent),
        }));
        let count = records.len() as u64 - 1;
        records.push(AgentRecord::End(End {
            records: count,
            sha256: "00".repeat(32),
        }));
        let key = AgentKey {
            experiment: experiment(),
            run: leg.clone(),
            attempt,
            agent: agent.clone(),
        };
        self.events
            .extend(records.into_iter().zip(0..).map(|(record, n)| AgentEvent {
                key: key.clone(),
                epoch,
                n,
                record,
            }));
        at
    }

    fn request(
        &self,
        leg: &RunId,
        agent: &AgentId,
        index: usize,
        at: u64,
        pace: &Pace,
        (prompt, output): (u32, u32),
    ) -> RequestRecord {
        let chunk_ns: Vec<u64> = (0..output)
            .map(|token| pace.ttft + pace.gap * u64::from(token))
            .collect();
        let stated = |ns: u64| self.engine_states_times.then_some(ns);
        RequestRecord {
            request_id: RequestId::try_new(format!("{leg}-{agent}-{index}")).unwrap(),
            step: if index == 0 { "analysis" } else { "report" }.to_owned(),
            sent: MonoNs(at),
            head_ns: Some(pace.ttft),
            done_ns: chunk_ns.last().copied(),
            chunk_ns,
            prompt_sha256: "11".repeat(32),
            prompt_tokens: Some(prompt),
            cached_tokens: Some(0),
            output_tokens: Some(output),
            output_sha256: "22".repeat(32),
            finish: Some(FinishReason::Length),
            engine_times: EngineTimes {
                total_ns: stated(pace.duration()),
                load_ns: stated(5 * MS),
                prompt_eval_ns: stated(pace.ttft / 2),
                eval_ns: stated(pace.gap * u64::from(output)),
            },
            client_wait_ns: None,
            error: None,
        }
    }

    /// Ends the experiment.
    pub(crate) fn close(&mut self) {
        let outcome = ExperimentOutcome::Completed;
        self.decide(None, 0, 1, ControlRecord::ExperimentClosed { outcome });
    }

    pub(crate) fn decide(
        &mut self,
        run: Option<RunId>,
        attempt: u32,
        epoch: u64,
        record: ControlRecord,
    ) {
        self.now += 1;
        let at = clock(self.now);
        self.control.push(ControlEvent {
            experiment: experiment(),
            run,
            attempt,
            epoch,
            at,
            record,
        });
    }

    pub(crate) fn test(&self, id: u32) -> &PlannedTest {
        self.plan.tests.iter().find(|test| test.id == id).unwrap()
    }

    pub(crate) fn report(&self) -> Report {
        build(&Input::new(&self.control, &self.events, environment())).unwrap()
    }

    /// Applies a change to the records of one agent in one leg.
    pub(crate) fn change(
        &mut self,
        leg: &RunId,
        agent: &str,
        mut change: impl FnMut(&mut AgentRecord),
    ) {
        let of =
            |event: &&mut AgentEvent| event.key.run == *leg && event.key.agent == agent_id(agent);
        self.events
            .iter_mut()
            .filter(of)
            .for_each(|event| change(&mut event.record));
    }
}

pub(crate) fn environment() -> Environment {
    Environment {
        host: Some("bench-1".to_owned()),
        cores: Some(2),
        git_revision: Some("0000000".to_owned()),
        ..Environment::default()
    }
}

pub(crate) fn experiment() -> ExperimentId {
    ExperimentId::try_new("exp-1").unwrap()
}

pub(crate) fn clock(mono: u64) -> ClockReading {
    ClockReading {
        boot_id: BootId("boot-1".to_owned()),
        mono_ns: MonoNs(mono),
        wall_unix_ns: 1_700_000_000_000_000_000 + mono,
    }
}

pub(crate) fn member(agent: &AgentId, now: u64) -> Member {
    Member {
        agent: agent.clone(),
        worker: WorkerId::try_new(format!("worker-{agent}")).unwrap(),
        instance: InstanceId::try_new(format!("instance-{agent}")).unwrap(),
        node: NodeId::try_new("node-1").unwrap(),
        clock: clock(now),
        clock_offset_ns: 0,
        clock_error_ns: 0,
    }
}

pub(crate) fn pin(agent: &AgentId) -> PinFacts {
    PinFacts {
        url: format!("http://127.0.0.1:9000/{agent}"),
        engine: Some(EngineKind::Openai),
        product: Some("llama.cpp".to_owned()),
        version: Some("b1".to_owned()),
        model: Some("gemma3:270m".to_owned()),
        model_digest: Some("33".repeat(32)),
        context_length: Some(8192),
        parallel_slots: Some(1),
        pid: Some(77),
        instance_epoch: Some("1".to_owned()),
        warm_load_ns: None,
        ..PinFacts::default()
    }
}

pub(crate) fn against(reason: InvalidReason) -> LegVerdict {
    LegVerdict::Invalid(Invalid {
        reason,
        detail: "as the coordinator saw it".to_owned(),
    })
}
