use chimera_domain::ids::{InstanceId, NodeId, RunId};
use chimera_domain::plan::LegKind;
use chimera_domain::units::{BootId, ClockReading};
use proptest::prelude::*;

use super::*;

fn agent(i: usize) -> AgentId {
    AgentId::try_new(format!("a{i}")).unwrap()
}

fn worker(i: usize) -> WorkerId {
    WorkerId::try_new(format!("w{i}")).unwrap()
}

fn seat(i: usize) -> Seat {
    Seat {
        member: Member {
            agent: agent(i),
            worker: worker(i),
            instance: InstanceId::try_new(format!("i{i}")).unwrap(),
            node: NodeId::try_new("n").unwrap(),
            clock: ClockReading {
                boot_id: BootId("b".into()),
                mono_ns: MonoNs(0),
                wall_unix_ns: 0,
            },
            clock_offset_ns: 1_000 * i64::try_from(i).unwrap(),
            clock_error_ns: 0,
        },
        rtt_ns: 100_000,
        gpu: None,
        appraises: false,
        size_bytes: 0,
    }
}

fn open(n: usize, cap: usize) -> LegMachine {
    open_with((0..n).map(seat).collect(), cap)
}

fn open_with(seats: Vec<Seat>, cap: usize) -> LegMachine {
    let n = seats.len();
    let leg = PlannedLeg {
        run_id: RunId::try_new("t1-r1-together").unwrap(),
        test: 1,
        run: 1,
        kind: LegKind::Together,
    };
    let (machine, effects) = LegMachine::open(leg, seats, cap, LegLimits::default(), MonoNs(0));
    assert_eq!(
        effects,
        (0..n)
            .map(|i| Effect::Reserve(agent(i)))
            .collect::<Vec<_>>()
    );
    machine
}

fn to_running(n: usize, cap: usize) -> (LegMachine, Vec<Effect>) {
    to_running_with((0..n).map(seat).collect(), cap)
}

fn to_running_with(seats: Vec<Seat>, cap: usize) -> (LegMachine, Vec<Effect>) {
    let n = seats.len();
    let mut m = open_with(seats, cap);
    for i in 0..n {
        m.step(
            Input::LeaseReply {
                agent: agent(i),
                refused: None,
            },
            MonoNs(10),
        );
    }
    let mut last = Vec::new();
    for i in 0..n {
        last = m.step(
            Input::Ready {
                agent: agent(i),
                pin: Box::default(),
                warm_ns: 5,
            },
            MonoNs(1_000_000_000),
        );
    }
    (m, last)
}

fn verdict(effects: &[Effect]) -> Option<LegVerdict> {
    effects.iter().find_map(|e| match e {
        Effect::Close(v) => Some(v.clone()),
        _ => None,
    })
}

fn reason(effects: &[Effect]) -> Option<InvalidReason> {
    match verdict(effects)? {
        LegVerdict::Valid => None,
        LegVerdict::Invalid(i) => Some(i.reason),
    }
}

#[test]
fn a_gang_starts_at_one_instant_on_every_clock_and_closes_valid() {
    let (mut m, effects) = to_running(2, 2);
    // 250 ms of lead; agent 1's clock is 1000 ns behind ours.
    assert!(effects.contains(&Effect::Commit(agent(0), MonoNs(1_250_000_000))));
    assert!(effects.contains(&Effect::Commit(agent(1), MonoNs(1_249_999_000))));
    for i in 0..2 {
        let planned = MonoNs(1_250_000_000);
        m.step(
            Input::Started {
                agent: agent(i),
                planned,
                actual: planned.plus(1_000_000),
            },
            MonoNs(1_300_000_000),
        );
    }
    assert_eq!(
        verdict(&m.step(
            Input::Finished {
                agent: agent(0),
                failure: None
            },
            MonoNs(2)
        )),
        None
    );
    let end = m.step(
        Input::Finished {
            agent: agent(1),
            failure: None,
        },
        MonoNs(3),
    );
    assert_eq!(verdict(&end), Some(LegVerdict::Valid));
    assert!(m.is_closed());
}

#[test]
fn nothing_warms_before_all_are_reserved() {
    let mut m = open(3, 3);
    for i in 0..2 {
        assert!(
            m.step(
                Input::LeaseReply {
                    agent: agent(i),
                    refused: None
                },
                MonoNs(1)
            )
            .is_empty()
        );
    }
    let all = m.step(
        Input::LeaseReply {
            agent: agent(2),
            refused: None,
        },
        MonoNs(1),
    );
    assert!(
        matches!(all.first(), Some(Effect::Record(r)) if matches!(**r, ControlRecord::Reserved { .. }))
    );
    assert_eq!(all.len(), 4);
}

#[test]
fn one_refusal_releases_everyone() {
    let mut m = open(2, 2);
    let refused = Some("busy".to_owned());
    let effects = m.step(
        Input::LeaseReply {
            agent: agent(1),
            refused,
        },
        MonoNs(1),
    );
    assert_eq!(reason(&effects), Some(InvalidReason::NoGang));
    assert_eq!(
        effects
            .iter()
            .filter(|e| matches!(e, Effect::Release(..)))
            .count(),
        2
    );
}

#[test]
fn a_cap_holds_agents_back_in_order() {
    let (mut m, effects) = to_running(4, 2);
    let committed = effects
        .iter()
        .filter(|e| matches!(e, Effect::Commit(..)))
        .count();
    assert_eq!(committed, 2);
    // An agent that was never let go cannot free a place.
    assert!(
        m.step(Input::Idle { agent: agent(3) }, MonoNs(5))
            .is_empty()
    );
    let next = m.step(Input::Idle { agent: agent(1) }, MonoNs(2_000_000_000));
    assert!(
        next.contains(&Effect::Commit(agent(2), MonoNs(1_999_998_000))),
        "{next:?}"
    );
    assert!(
        m.step(Input::Idle { agent: agent(1) }, MonoNs(6))
            .is_empty(),
        "once only"
    );
    let next = m.step(Input::Idle { agent: agent(0) }, MonoNs(2_000_000_000));
    assert!(matches!(next.get(1), Some(Effect::Commit(a, _)) if *a == agent(3)));
}

#[test]
fn a_start_out_of_bounds_makes_the_run_invalid() {
    let (mut m, _) = to_running(2, 2);
    for (i, late) in [(0, 0), (1, 10_000_001)] {
        let planned = MonoNs(1_250_000_000);
        m.step(
            Input::Started {
                agent: agent(i),
                planned,
                actual: planned.plus(late),
            },
            MonoNs(2),
        );
    }
    m.step(
        Input::Finished {
            agent: agent(0),
            failure: None,
        },
        MonoNs(3),
    );
    let end = m.step(
        Input::Finished {
            agent: agent(1),
            failure: None,
        },
        MonoNs(3),
    );
    assert_eq!(reason(&end), Some(InvalidReason::StartSkew));
}

#[test]
fn every_stage_has_a_deadline_and_names_who_is_missing() {
    let mut m = open(2, 2);
    m.step(
        Input::LeaseReply {
            agent: agent(0),
            refused: None,
        },
        MonoNs(1),
    );
    let at = m.deadline();
    assert!(m.step(Input::Tick, MonoNs(at.0 - 1)).is_empty());
    let effects = m.step(Input::Tick, at);
    let Some(LegVerdict::Invalid(why)) = verdict(&effects) else {
        panic!("{effects:?}")
    };
    assert_eq!(why.reason, InvalidReason::Timeout);
    assert_eq!(
        why.detail,
        "reserving took longer than 5 s; still waiting for a1"
    );
}

#[test]
fn a_lost_worker_is_fatal_until_its_agent_is_finished() {
    let (mut m, _) = to_running(2, 2);
    m.step(
        Input::Finished {
            agent: agent(0),
            failure: None,
        },
        MonoNs(3),
    );
    let lost = |i| Input::WorkerLost {
        worker: worker(i),
        detail: "gone".into(),
    };
    assert!(
        m.step(lost(0), MonoNs(4)).is_empty(),
        "its records are all stored"
    );
    assert!(m.step(lost(7), MonoNs(4)).is_empty(), "not of this gang");
    assert_eq!(
        reason(&m.step(lost(1), MonoNs(4))),
        Some(InvalidReason::WorkerLost)
    );
}

#[test]
fn a_lost_worker_takes_every_agent_of_a_shared_instance_with_it() {
    let on_one_worker = |i| {
        let mut seat = seat(i);
        seat.member.worker = worker(0);
        seat
    };
    for (finished, expected) in [
        (0, Some("a0, a1, a2")),
        (1, Some("a1, a2")),
        (2, Some("a2")),
    ] {
        let (mut m, _) = to_running_with((0..3).map(on_one_worker).collect(), 3);
        for i in 0..finished {
            m.step(
                Input::Finished {
                    agent: agent(i),
                    failure: None,
                },
                MonoNs(3),
            );
        }
        let lost = Input::LeaseLost {
            worker: worker(0),
            detail: "silent".into(),
        };
        let effects = m.step(lost, MonoNs(4));
        let Some(LegVerdict::Invalid(why)) = verdict(&effects) else {
            panic!("{effects:?}")
        };
        assert_eq!(why.reason, InvalidReason::LeaseLost);
        let named = why.detail.split(" on worker").next();
        assert_eq!(named, expected, "{}", why.detail);
        let released = effects.iter().filter(|e| matches!(e, Effect::Release(..)));
        assert_eq!(released.count(), 3, "each agent is let go of by name");
    }
}

#[test]
fn an_agents_failure_keeps_its_class() {
    for (label, expected) in [
        ("request:gap_timeout", InvalidReason::RequestFailed),
        ("request:truncated", InvalidReason::Truncated),
        ("storage", InvalidReason::Storage),
        ("data", InvalidReason::AgentFailed),
    ] {
        let (mut m, _) = to_running(2, 2);
        let failure = Some(AgentFailure {
            label: label.into(),
            detail: "x".into(),
        });
        let effects = m.step(
            Input::Finished {
                agent: agent(0),
                failure,
            },
            MonoNs(3),
        );
        assert_eq!(reason(&effects), Some(expected), "{label}");
    }
}

fn any_input(n: usize) -> impl Strategy<Value = Input> {
    let a = (0..n).prop_map(agent);
    prop_oneof![
        8 => a.clone().prop_map(|agent| Input::LeaseReply { agent, refused: None }),
        8 => a.clone().prop_map(|agent| Input::Ready { agent, pin: Box::default(), warm_ns: 1 }),
        8 => a.clone().prop_map(|agent| Input::Idle { agent }),
        8 => a.clone().prop_map(|agent| Input::Finished { agent, failure: None }),
        8 => (a, 0u64..12_000_000).prop_map(|(agent, late)| Input::Started {
            agent,
            planned: MonoNs(1),
            actual: MonoNs(1 + late)
        }),
        1 => (0..n).prop_map(|i| Input::WorkerLost { worker: worker(i), detail: "x".into() }),
        1 => Just(Input::Cancel),
        1 => Just(Input::Tick),
    ]
}

proptest! {
    /// Whatever is heard in whatever order: at most one close, it is recorded first, nobody is
    /// let go before all were ready, and never more at once than the cap.
    #[test]
    fn no_order_of_messages_breaks_the_protocol(
        inputs in proptest::collection::vec(any_input(3), 0..80),
        cap in 1usize..4,
    ) {
        let mut m = open(3, cap);
        let (mut closes, mut ready, mut running) = (0, 0, 0usize);
        for (t, input) in inputs.into_iter().enumerate() {
            let frees = m.agents_done().count();
            let effects = m.step(input, MonoNs(t as u64));
            running -= m.agents_done().count() - frees;
            for (i, e) in effects.iter().enumerate() {
                match e {
                    Effect::Record(r) if matches!(**r, ControlRecord::Ready { .. }) => ready += 1,
                    Effect::Commit(..) => {
                        prop_assert_eq!(ready, 3);
                        running += 1;
                    }
                    Effect::Close(v) => {
                        closes += 1;
                        let closed = Effect::record(ControlRecord::Closed { verdict: v.clone() });
                        prop_assert_eq!(&effects[i - 1], &closed);
                    }
                    _ => {}
                }
            }
            prop_assert!(running <= cap);
        }
        prop_assert!(closes <= 1);
        prop_assert_eq!(closes == 1, m.is_closed());
    }
}

#[test]
fn nobody_warms_or_starts_on_a_record_that_was_not_written() {
    let log_failed = || Input::LogFailed {
        detail: "the disk is full".to_owned(),
    };
    let begins = |effect: &Effect| matches!(effect, Effect::Warm(_) | Effect::Commit(..));
    let mut m = open(2, 2);
    let leased = |i| Input::LeaseReply {
        agent: agent(i),
        refused: None,
    };
    m.step(leased(0), MonoNs(10));
    let mut todo: VecDeque<Effect> = m.step(leased(1), MonoNs(10)).into();
    assert!(todo.iter().any(begins), "{todo:?}");
    todo.pop_front().unwrap();
    m.failed(log_failed(), &mut todo, MonoNs(11));
    assert!(!todo.iter().any(begins), "{todo:?}");
    let released = todo.iter().filter(|e| matches!(e, Effect::Release(..)));
    assert_eq!(released.count(), 2);
    assert!(matches!(todo.back(), Some(Effect::Close(_))));

    // The close itself cannot be written: what is left of it is done all the same.
    let close = todo.iter().position(|e| matches!(e, Effect::Record(_)));
    todo.drain(..=close.unwrap());
    m.failed(log_failed(), &mut todo, MonoNs(12));
    assert!(
        matches!(todo.make_contiguous(), [Effect::Close(_)]),
        "{todo:?}"
    );
}

#[test]
fn the_largest_agent_is_told_to_warm_first() {
    let sizes = [3, 0, 7, 7];
    let seats: Vec<Seat> = sizes
        .iter()
        .enumerate()
        .map(|(i, size)| Seat {
            size_bytes: *size,
            ..seat(i)
        })
        .collect();
    let agents: Vec<AgentId> = seats.iter().map(|s| s.member.agent.clone()).collect();
    let mut machine = open_with(seats, 4);
    let mut effects = Vec::new();
    for agent in &agents {
        let reply = Input::LeaseReply {
            agent: agent.clone(),
            refused: None,
        };
        effects = machine.step(reply, MonoNs(1));
    }
    let warm: Vec<&AgentId> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Warm(agent) => Some(agent),
            _ => None,
        })
        .collect();
    assert_eq!(warm, [&agents[2], &agents[3], &agents[0], &agents[1]]);
}
