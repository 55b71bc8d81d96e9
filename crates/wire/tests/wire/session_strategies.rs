//! Arbitrary values of what workers, the coordinator and its clients say to each other.

use chimera_domain::memory::Amount;
use chimera_domain::memory::admission::{Appraisal, Mapped};
use chimera_domain::session::{
    AgentRate, Assignment, CoordinatorMessage, Hello, LegInWords, LegRef, Progress, Tally,
    WorkerInfo, WorkerMessage,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::plan_strategies::{leg, planned_agent, topology, workload};
use crate::strategies::{clock, engine, failure, id, invalid, member, mono, outcome, pin, text};

fn leg_ref() -> impl Strategy<Value = LegRef> {
    (id(), id(), 1..=u32::MAX, any::<u64>()).prop_map(|(experiment, run, attempt, epoch)| LegRef {
        experiment,
        run,
        attempt,
        epoch,
    })
}

fn amount() -> impl Strategy<Value = Amount> {
    (any::<u64>(), any::<bool>()).prop_map(|(bytes, estimated)| {
        if estimated {
            Amount::estimated(bytes)
        } else {
            Amount::derived(bytes)
        }
    })
}

fn appraisal() -> impl Strategy<Value = Appraisal> {
    let mapped = (text(), any::<u64>()).prop_map(|(file, bytes)| Mapped { file, bytes });
    (amount(), amount(), amount(), of(mapped), any::<[u64; 2]>()).prop_map(
        |(device, host, host_only, mapped, [held_device_bytes, held_host_bytes])| Appraisal {
            device,
            host,
            host_only,
            mapped,
            held_device_bytes,
            held_host_bytes,
        },
    )
}

pub(crate) fn worker_message() -> impl Strategy<Value = WorkerMessage> {
    use WorkerMessage as M;
    prop_oneof![
        (
            id(),
            id(),
            text(),
            engine(),
            id(),
            clock(),
            text(),
            of(text()),
            any::<bool>()
        )
            .prop_map(
                |(worker, instance, url, engine, node, clock, software, gpu, appraises)| {
                    M::Hello(Hello {
                        worker,
                        instance,
                        url,
                        engine,
                        node,
                        clock,
                        software,
                        gpu,
                        appraises,
                    })
                }
            ),
        any::<u64>().prop_map(|seq| M::Heartbeat { seq }),
        (any::<u64>(), clock()).prop_map(|(id, clock)| M::Pong { id, clock }),
        (any::<u64>(), prop::result::maybe_ok(appraisal(), text())).prop_map(|(id, known)| {
            M::Appraisal {
                id,
                appraisal: known.map(Box::new),
            }
        }),
        (leg_ref(), id(), of(text())).prop_map(|(leg, agent, refused)| M::LeaseReply {
            leg,
            agent,
            refused
        }),
        (leg_ref(), id(), pin(), any::<u64>()).prop_map(|(leg, agent, pin, warm_ns)| {
            M::Ready {
                leg,
                agent,
                pin: Box::new(pin),
                warm_ns,
            }
        }),
        (leg_ref(), id(), invalid()).prop_map(|(leg, agent, why)| M::NotReady { leg, agent, why }),
        (leg_ref(), id(), mono(), mono()).prop_map(|(leg, agent, planned, actual)| M::Started {
            leg,
            agent,
            planned,
            actual
        }),
        (leg_ref(), id(), mono(), of(failure()), any::<u64>(), text()).prop_map(
            |(leg, agent, at, failure, records, sha256)| {
                M::Finished {
                    leg,
                    agent,
                    at,
                    failure,
                    records,
                    sha256,
                }
            }
        ),
        (leg_ref(), id()).prop_map(|(leg, agent)| M::Idle { leg, agent }),
    ]
}

pub(crate) fn coordinator_message() -> impl Strategy<Value = CoordinatorMessage> {
    use CoordinatorMessage as M;
    prop_oneof![
        any::<[u64; 3]>().prop_map(|[epoch, heartbeat_ms, fence_ms]| M::Welcome {
            epoch,
            heartbeat_ms,
            fence_ms
        }),
        text().prop_map(|reason| M::Refused { reason }),
        any::<u64>().prop_map(|seq| M::HeartbeatAck { seq }),
        any::<u64>().prop_map(|id| M::Ping { id }),
        (any::<u64>(), planned_agent(), topology()).prop_map(|(id, agent, topology)| {
            M::Appraise {
                id,
                agent: Box::new(agent),
                topology,
            }
        }),
        (
            leg_ref(),
            leg(),
            planned_agent(),
            workload(),
            topology(),
            any::<u64>()
        )
            .prop_map(|(leg_ref, leg, agent, workload, topology, plan_seed)| {
                M::Reserve(Box::new(Assignment {
                    leg_ref,
                    leg,
                    agent,
                    workload,
                    topology,
                    plan_seed,
                }))
            }),
        (leg_ref(), id()).prop_map(|(leg, agent)| M::Warm { leg, agent }),
        (leg_ref(), id(), mono()).prop_map(|(leg, agent, start_at)| M::Commit {
            leg,
            agent,
            start_at
        }),
        (leg_ref(), id(), text()).prop_map(|(leg, agent, reason)| M::Release {
            leg,
            agent,
            reason
        }),
    ]
}

pub(crate) fn worker_info() -> impl Strategy<Value = WorkerInfo> {
    (
        id(),
        id(),
        text(),
        engine(),
        id(),
        of(id()),
        of(any::<u64>()),
    )
        .prop_map(
            |(worker, instance, url, engine, node, busy_with, rtt_ns)| WorkerInfo {
                worker,
                instance,
                url,
                engine,
                node,
                busy_with,
                rtt_ns,
            },
        )
}

pub(crate) fn progress() -> impl Strategy<Value = Progress> {
    let counts = any::<[u32; 3]>();
    let leg = (
        of(leg()),
        vec(member(), 0..3),
        vec(id(), 0..3),
        of((id(), invalid())),
    );
    (id(), text(), counts, text(), leg, of(outcome()), study()).prop_map(
        |(experiment, name, [total, closed, valid], phase, leg, outcome, study)| Progress {
            experiment,
            name,
            legs_total: total,
            legs_closed: closed,
            legs_valid: valid,
            phase,
            leg: leg.0,
            members: leg.1,
            agents_done: leg.2,
            last_invalid: leg.3,
            outcome,
            about: study.0,
            tally: study.1,
            rates: study.2,
        },
    )
}

fn study() -> impl Strategy<Value = (Option<LegInWords>, Tally, Vec<AgentRate>)> {
    let about =
        (text(), any::<[u32; 3]>()).prop_map(|(label, [phase, runs, attempt])| LegInWords {
            label,
            phase,
            runs,
            attempt,
        });
    let tally = (any::<[u32; 8]>(), any::<u64>(), any::<[Option<u64>; 2]>()).prop_map(
        |(n, elapsed_ms, [left_ms, left_at_most_ms])| Tally {
            phases: n[0],
            tests: n[1],
            tests_done: n[2],
            runs: n[3],
            runs_valid: n[4],
            runs_invalid: n[5],
            invalid_attempts: n[6],
            retried: n[7],
            elapsed_ms,
            left_ms,
            left_at_most_ms,
        },
    );
    let rate = (id(), 0.0..1e6_f64).prop_map(|(agent, tokens_per_s)| AgentRate {
        agent,
        tokens_per_s,
    });
    (of(about), tally, vec(rate, 0..3))
}
