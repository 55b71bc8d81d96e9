#![expect(clippy::float_cmp, reason = "whole milliseconds are exact in a double")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::parts::{Around, take_apart};
use super::super::view::{AgentView, RequestScene};
use super::*;
use crate::control::Member;
use crate::event::{
    Begin, EngineTimes, Finished, LocalStep, RequestError, RequestErrorKind, RequestRecord, Started,
};
use crate::ids::{
    AgentId, AgentKey, ExperimentId, InstanceId, NodeId, RequestId, Role, RunId, WorkerId,
};
use crate::options::{EngineKind, EngineOptions};
use crate::plan::{LegKind, PlannedAgent, PlannedLeg, Topology};
use crate::timeline::{LegLog, StreamId};
use crate::units::{BootId, ClockReading};

const MS: u64 = 1_000_000;

/// One agent's stamps, ms.
#[derive(Debug, Clone, Default)]
struct Stamps {
    start: u64,
    finish: u64,
    /// Name, start, end.
    local: Vec<(&'static str, u64, u64)>,
    /// Sent; first chunk, last chunk and end of the stream after it. No end: it failed there.
    requests: Vec<(u64, [u64; 2], Option<u64>)>,
    /// Whether the cap held it back.
    queued: bool,
}

fn clock(boot: &str) -> ClockReading {
    ClockReading {
        boot_id: BootId(boot.to_owned()),
        mono_ns: MonoNs(0),
        wall_unix_ns: 0,
    }
}

fn name(at: usize) -> AgentId {
    AgentId::try_new(format!("a{at}")).unwrap()
}

fn record(sent: u64, chunks: [u64; 2], done: Option<u64>) -> RequestRecord {
    RequestRecord {
        request_id: RequestId::try_new("r").unwrap(),
        step: "analysis".to_owned(),
        sent: MonoNs(sent * MS),
        head_ns: None,
        chunk_ns: chunks.iter().map(|at| at * MS).collect(),
        done_ns: done.map(|at| at * MS),
        prompt_sha256: String::new(),
        prompt_tokens: None,
        cached_tokens: None,
        output_tokens: None,
        output_sha256: String::new(),
        finish: None,
        engine_times: EngineTimes::default(),
        client_wait_ns: None,
        error: done.is_none().then(|| RequestError {
            kind: RequestErrorKind::CutStream,
            detail: String::new(),
        }),
    }
}

/// Lays out a together leg of agents with these stamps.
fn laid_out(agents: &[Stamps], cap: u32) -> Option<Decomposition> {
    laid_out_with(agents, cap, |_| true)
}

fn laid_out_with(
    agents: &[Stamps],
    cap: u32,
    has_finished: impl Fn(usize) -> bool,
) -> Option<Decomposition> {
    let planned: Vec<PlannedAgent> = (0..agents.len())
        .map(|at| PlannedAgent {
            id: name(at),
            role: Role::try_new("collector").unwrap(),
            engine: EngineKind::Openai,
            model: "m".to_owned(),
            options: EngineOptions::default(),
            instance: None,
            think_ms: 0,
        })
        .collect();
    let test = PlannedTest {
        id: 1,
        phase: 1,
        scenario: "custom".to_owned(),
        label: String::new(),
        agents: planned.clone(),
        max_concurrent: cap,
        runs: 1,
        topology: Topology::Pinned,
        until: None,
    };
    let leg = PlannedLeg {
        run_id: RunId::try_new("t1-r1-together").unwrap(),
        test: 1,
        run: 1,
        kind: LegKind::Together,
    };
    let members: Vec<Member> = (0..agents.len())
        .map(|at| Member {
            agent: name(at),
            worker: WorkerId::try_new(format!("w{at}")).unwrap(),
            instance: InstanceId::try_new(format!("i{at}")).unwrap(),
            node: NodeId::try_new("node").unwrap(),
            clock: clock("boot"),
            clock_offset_ns: 0,
            clock_error_ns: 0,
        })
        .collect();
    let queued: Vec<AgentId> = (0..agents.len())
        .filter(|at| agents[*at].queued)
        .map(name)
        .collect();
    let log = LegLog {
        leg: &leg,
        attempt: 1,
        epoch: Some(1),
        members: &members,
        ready: BTreeMap::new(),
        start_at: BTreeMap::new(),
        queued: &queued,
        admission: None,
        verdict: None,
        earlier: Vec::new(),
    };
    let begins: Vec<Begin> = members
        .iter()
        .map(|member| Begin {
            worker: member.worker.clone(),
            instance: member.instance.clone(),
            role: Role::try_new("collector").unwrap(),
            clock: clock("boot"),
            options: EngineOptions::default(),
        })
        .collect();
    let starts: Vec<Started> = agents
        .iter()
        .map(|agent| Started {
            planned: MonoNs(agent.start * MS),
            actual: MonoNs(agent.start * MS),
        })
        .collect();
    let finishes: Vec<Finished> = agents
        .iter()
        .map(|agent| Finished {
            at: MonoNs(agent.finish * MS),
            failure: None,
        })
        .collect();
    let locals: Vec<Vec<LocalStep>> = agents
        .iter()
        .map(|agent| {
            agent
                .local
                .iter()
                .map(|(step, start, end)| LocalStep {
                    step: (*step).to_owned(),
                    start: MonoNs(start * MS),
                    end: MonoNs(end * MS),
                    detail: String::new(),
                })
                .collect()
        })
        .collect();
    let requests: Vec<Vec<RequestRecord>> = agents
        .iter()
        .map(|agent| {
            let requests = agent.requests.iter();
            requests
                .map(|(sent, chunks, done)| record(*sent, *chunks, *done))
                .collect()
        })
        .collect();
    let timelines: Vec<AgentTimeline<'_>> = (0..agents.len())
        .map(|at| AgentTimeline {
            stream: StreamId {
                key: AgentKey {
                    experiment: ExperimentId::try_new("e").unwrap(),
                    run: leg.run_id.clone(),
                    attempt: 1,
                    agent: name(at),
                },
                epoch: 1,
            },
            begin: Some(&begins[at]),
            pin_before: None,
            pin_after: None,
            started: Some(&starts[at]),
            local: locals[at].iter().collect(),
            requests: requests[at].iter().collect(),
            outputs: Vec::new(),
            engine: None,
            finished: has_finished(at).then_some(&finishes[at]),
            end: None,
            hash_ok: None,
            flaws: Vec::new(),
            duplicates: 0,
        })
        .collect();
    let views: Vec<AgentView<'_>> = planned
        .iter()
        .zip(&timelines)
        .map(|(planned, timeline)| AgentView {
            planned,
            timeline,
            telemetry: None,
        })
        .collect();
    let scenes: Vec<AgentScene<'_>> = views
        .iter()
        .map(|view| AgentScene {
            view: *view,
            solo: None,
            requests: view
                .timeline
                .requests
                .iter()
                .map(|record| RequestScene {
                    record,
                    parts: take_apart(record, &Around::default()),
                    usual: BTreeMap::new(),
                })
                .collect(),
            excess: Vec::new(),
        })
        .collect();
    let leg = LegView {
        log: &log,
        agents: views.clone(),
        one_host: true,
    };
    decompose(&test, &leg, &scenes)
}

/// All parts of an agent's time but the residual.
fn held(time: &AgentTime) -> f64 {
    time.start_ms
        + time.local_ms
        + time.think_ms
        + time.requests.total_ms()
        + time.closing_ms
        + time.idle_tail_ms
        + time.harness_ms
}

#[test]
fn each_stretch_has_its_place() {
    let first = Stamps {
        start: 1_000,
        finish: 1_400,
        local: vec![("ingest", 1_000, 1_050), (THINK_STEP, 1_210, 1_240)],
        requests: vec![(1_060, [40, 140], Some(150)), (1_245, [40, 140], Some(142))],
        queued: false,
    };
    let second = Stamps {
        start: 1_003,
        finish: 1_300,
        requests: vec![(1_003, [97, 297], Some(297))],
        ..Stamps::default()
    };
    let got = laid_out(&[first, second], 2).unwrap();
    assert_eq!(got.wall_ms, 400.0);
    assert_eq!(got.overlap_ms, 297.0);
    assert_eq!(got.idle_tail_ms, 100.0);
    assert_eq!(got.barrier_ms, 3.0);
    let a = &got.agents[0];
    assert_eq!((a.start_ms, a.idle_tail_ms), (0.0, 0.0));
    assert_eq!((a.local_ms, a.think_ms), (50.0, 30.0));
    assert_eq!(a.requests.total_ms(), 280.0);
    assert_eq!(a.closing_ms, 12.0);
    // 10 before the first request, 0 after it, 5 after the thinking, 13 at the end.
    assert_eq!(a.harness_ms, 28.0);
    let b = &got.agents[1];
    assert_eq!((b.start_ms, b.idle_tail_ms), (3.0, 100.0));
    assert!(got.residual_share < 1e-12);
}

#[test]
fn a_request_without_an_end_leaves_its_time_in_the_residual() {
    let cut = Stamps {
        start: 0,
        finish: 1_000,
        requests: vec![(100, [50, 150], None)],
        ..Stamps::default()
    };
    let got = laid_out(&[cut], 1).unwrap();
    assert_eq!(got.agents[0].harness_ms, 100.0);
    assert_eq!(got.agents[0].residual_ms, 750.0);
    assert!((got.residual_share - 0.75).abs() < 1e-12);
}

#[test]
fn an_agent_without_an_end_leaves_the_run_untold() {
    let agent = Stamps {
        finish: 10,
        ..Stamps::default()
    };
    let both = [agent.clone(), agent];
    assert!(laid_out(&both, 2).is_some());
    assert_eq!(laid_out_with(&both, 2, |at| at == 0), None);
}

#[test]
fn an_agent_that_the_cap_held_back_is_no_loss_of_the_barrier() {
    let first = Stamps {
        start: 0,
        finish: 100,
        ..Stamps::default()
    };
    let second = Stamps {
        start: 100,
        finish: 180,
        queued: true,
        ..Stamps::default()
    };
    let got = laid_out(&[first, second], 1).unwrap();
    assert_eq!(got.barrier_ms, 0.0);
    assert_eq!(got.agents[1].start_ms, 100.0);
    assert_eq!(got.agents[0].idle_tail_ms, 80.0);
    assert_eq!(got.idle_tail_ms, 0.0);
}

/// An agent whose steps and requests follow each other, with pauses between them.
fn in_order() -> impl Strategy<Value = Stamps> {
    let stretch = (0_u64..50, any::<bool>(), 0_u64..200, 0_u64..200, 0_u64..20);
    (0_u64..50, prop::collection::vec(stretch, 0..8), 0_u64..50).prop_map(
        |(start, stretches, after)| {
            let mut stamps = Stamps {
                start,
                ..Stamps::default()
            };
            let mut at = start;
            for (pause, asks, first, more, closing) in stretches {
                at += pause;
                if asks {
                    let last = first + more;
                    stamps
                        .requests
                        .push((at, [first, last], Some(last + closing)));
                    at += last + closing;
                } else {
                    let step = if first % 2 == 0 { THINK_STEP } else { "ingest" };
                    stamps.local.push((step, at, at + more));
                    at += more;
                }
            }
            stamps.finish = at + after;
            stamps
        },
    )
}

/// Any stamps at all: steps that overlap, that lie outside the agent's time, or have no end.
fn in_disorder() -> impl Strategy<Value = Stamps> {
    let request = (0_u64..900, 0_u64..300, 0_u64..300, any::<bool>());
    let local = (0_u64..900, 0_u64..900);
    (
        0_u64..400,
        0_u64..600,
        prop::collection::vec(request, 0..5),
        prop::collection::vec(local, 0..5),
    )
        .prop_map(|(start, took, requests, local)| Stamps {
            start,
            finish: start + took,
            local: local.into_iter().map(|(a, b)| ("ingest", a, b)).collect(),
            requests: requests
                .into_iter()
                .map(|(sent, first, more, done)| {
                    (
                        sent,
                        [first, first + more],
                        done.then_some(first + more + 7),
                    )
                })
                .collect(),
            queued: false,
        })
}

proptest! {
    #[test]
    fn stamps_in_order_leave_no_residual(agents in prop::collection::vec(in_order(), 1..4)) {
        let got = laid_out(&agents, 4).unwrap();
        for time in &got.agents {
            prop_assert!((held(time) - got.wall_ms).abs() <= 1e-6 * got.wall_ms.max(1e-3), "{time:?}");
        }
        prop_assert!(got.residual_share <= 1e-6);
    }

    #[test]
    fn any_stamps_sum_to_the_wall_with_the_residual(
        agents in prop::collection::vec(in_disorder(), 1..4),
    ) {
        let got = laid_out(&agents, 4).unwrap();
        for time in &got.agents {
            let sum = held(time) + time.residual_ms;
            prop_assert!((sum - got.wall_ms).abs() <= 1e-6 * got.wall_ms.max(1e-3));
            prop_assert!(time.harness_ms >= 0.0 && time.start_ms >= 0.0 && time.idle_tail_ms >= 0.0);
            let own = got.wall_ms - time.start_ms - time.idle_tail_ms;
            prop_assert!(time.harness_ms <= own + 1e-9, "{time:?}");
        }
    }
}
