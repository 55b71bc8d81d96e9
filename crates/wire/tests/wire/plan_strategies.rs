//! Arbitrary plans, and how they grow.

use chimera_domain::memory::admission::{Admit, Schedule};
use chimera_domain::metric::Metric;
use chimera_domain::plan::{
    Budget, Choice, Extension, Goal, LaterPhase, LegKind, Limits, Plan, PlannedAgent, PlannedLeg,
    PlannedTest, Select, Topology, Workload,
};
use chimera_domain::slo::Slo;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use crate::strategies::{engine, id, options, text};

pub(crate) fn leg() -> impl Strategy<Value = PlannedLeg> {
    let kind = prop_oneof![
        id().prop_map(|agent| LegKind::Solo { agent }),
        Just(LegKind::Together),
    ];
    (id(), any::<u32>(), any::<u32>(), kind).prop_map(|(run_id, test, run, kind)| PlannedLeg {
        run_id,
        test,
        run,
        kind,
    })
}

pub(crate) fn planned_agent() -> impl Strategy<Value = PlannedAgent> {
    (
        id(),
        id(),
        engine(),
        text(),
        options(),
        of(text()),
        any::<u32>(),
    )
        .prop_map(
            |(id, role, engine, model, options, instance, think_ms)| PlannedAgent {
                id,
                role,
                engine,
                model,
                options,
                instance,
                think_ms,
            },
        )
}

pub(crate) fn workload() -> impl Strategy<Value = Workload> {
    (text(), of(text())).prop_map(|(template, data)| Workload { template, data })
}

fn limits() -> impl Strategy<Value = Limits> {
    any::<[u32; 5]>().prop_map(
        |[gang_wait_s, warm_s, run_s, drain_s, start_skew_ms]| Limits {
            gang_wait_s,
            warm_s,
            run_s,
            drain_s,
            start_skew_ms,
        },
    )
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let admit = prop_oneof![Just(Admit::Fits), Just(Admit::Warn), Just(Admit::Always)];
    (admit, any::<u32>()).prop_map(|(admit, wait_s)| Schedule { admit, wait_s })
}

fn budget() -> impl Strategy<Value = Budget> {
    (any::<[u32; 4]>(), of(any::<u32>())).prop_map(
        |(
            [
                retries_per_leg,
                retries_total,
                consecutive_failures,
                cool_down_s,
            ],
            failures,
        )| Budget {
            retries_per_leg,
            retries_total,
            failures,
            consecutive_failures,
            cool_down_s,
        },
    )
}

fn slo() -> impl Strategy<Value = Slo> {
    let limit = || of(0.001_f64..1e9);
    [limit(), limit(), limit(), limit()].prop_map(|[ttft_ms, tpot_ms, itl_ms, e2e_ms]| Slo {
        ttft_ms,
        tpot_ms,
        itl_ms,
        e2e_ms,
    })
}

pub(crate) fn topology() -> impl Strategy<Value = Topology> {
    of(any::<u32>())
        .prop_map(|slots| slots.map_or(Topology::Pinned, |slots| Topology::Shared { slots }))
}

fn metric() -> impl Strategy<Value = Metric> {
    proptest::sample::select(Metric::ALL.to_vec())
}

fn goal() -> impl Strategy<Value = Goal> {
    (metric(), 0_u32..1000, any::<u32>()).prop_map(|(metric, per_mille, max_runs)| Goal {
        metric,
        relative_half_width: f64::from(per_mille) / 1024.0,
        max_runs,
    })
}

fn later_phase() -> impl Strategy<Value = LaterPhase> {
    (
        any::<[u32; 4]>(),
        of(text()),
        metric(),
        vec(text(), 0..3),
        vec((any::<u32>(), text()), 0..3),
    )
        .prop_map(
            |([phase, from_phase, legs, at_most], scenario, by, options, tests)| LaterPhase {
                phase,
                select: Select {
                    from_phase,
                    scenario,
                    by,
                    options,
                },
                tests,
                legs,
                legs_at_most: (at_most > legs).then_some(at_most),
            },
        )
}

pub(crate) fn extension() -> impl Strategy<Value = Extension> {
    let binary = 0_u32..1000;
    prop_oneof![
        (
            any::<[u32; 2]>(),
            binary.clone(),
            of((any::<u32>(), binary.clone())),
            of(any::<bool>()),
            vec((text(), text()), 0..3),
        )
            .prop_map(|([phase, test], value, runner_up, clear, options)| {
                Extension::Selected {
                    phase,
                    choice: Choice {
                        test,
                        value: f64::from(value) / 64.0,
                        runner_up: runner_up.map(|(id, value)| (id, f64::from(value) / 64.0)),
                        clear,
                        options,
                    },
                }
            }),
        (any::<u32>(), of(binary)).prop_map(|(test, width)| Extension::Repeated {
            test,
            relative_half_width: width.map(|w| f64::from(w) / 64.0),
        }),
    ]
}

pub(crate) fn planned_test() -> impl Strategy<Value = PlannedTest> {
    (
        any::<[u32; 4]>(),
        text(),
        text(),
        vec(planned_agent(), 1..4),
        topology(),
        of(goal()),
    )
        .prop_map(
            |([id, phase, max_concurrent, runs], scenario, label, agents, topology, until)| {
                PlannedTest {
                    id,
                    phase,
                    scenario,
                    label,
                    agents,
                    max_concurrent,
                    runs,
                    topology,
                    until,
                }
            },
        )
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let identity = (text(), any::<u64>(), workload());
    let judged = (limits(), budget(), of(slo()), schedule());
    let digests = btree_map(text(), text(), 0..3);
    (
        identity,
        judged,
        digests,
        vec(planned_test(), 0..3),
        vec(leg(), 0..4),
        vec(later_phase(), 0..3),
    )
        .prop_map(
            |(
                (name, seed, workload),
                (limits, budget, slo, schedule),
                model_digests,
                tests,
                legs,
                later,
            )| {
                Plan {
                    name,
                    seed,
                    workload,
                    limits,
                    model_digests,
                    budget,
                    schedule,
                    slo,
                    tests,
                    legs,
                    later,
                }
            },
        )
}
