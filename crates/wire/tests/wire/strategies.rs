//! Arbitrary domain values, every variant and both states of every option among them.

use std::fmt::Debug;

use chimera_domain::control::{
    ControlEvent, ControlRecord, ExperimentOutcome, Invalid, InvalidReason, LegVerdict, Member,
};
use chimera_domain::event::{
    AgentEvent, AgentFailure, AgentRecord, Begin, End, EngineState, EngineTimes, EngineWatch,
    FinishReason, Finished, LocalStep, Output, PinCheck, PinFacts, PinMoment, RequestError,
    RequestErrorKind, RequestRecord, ResidentModel, Started,
};
use chimera_domain::ids::{AgentKey, IdError};
use chimera_domain::memory::admission::{Account, Admission, Decision};
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::units::{BootId, ClockReading, MonoNs};
use proptest::collection::{btree_map, vec};
use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::plan_strategies::{extension, leg, plan, planned_test};

pub(crate) fn id<T>() -> impl Strategy<Value = T>
where
    T: TryFrom<String, Error = IdError> + Debug,
{
    "[A-Za-z0-9_-]{1,64}".prop_map(|text| T::try_from(text).unwrap())
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    any::<String>()
}

fn finite() -> impl Strategy<Value = f64> {
    NORMAL | SUBNORMAL | ZERO | POSITIVE | NEGATIVE
}

pub(crate) fn mono() -> impl Strategy<Value = MonoNs> {
    any::<u64>().prop_map(MonoNs)
}

pub(crate) fn clock() -> impl Strategy<Value = ClockReading> {
    (text(), mono(), any::<u64>()).prop_map(|(boot, mono_ns, wall_unix_ns)| ClockReading {
        boot_id: BootId(boot),
        mono_ns,
        wall_unix_ns,
    })
}

pub(crate) fn engine() -> impl Strategy<Value = EngineKind> {
    select(vec![EngineKind::Ollama, EngineKind::Openai])
}

pub(crate) fn options() -> impl Strategy<Value = EngineOptions> {
    (
        of(any::<u32>()),
        any::<[u32; 3]>(),
        of(any::<u32>()),
        finite(),
        of(finite()),
        of(any::<u32>()),
        of(finite()),
        any::<u64>(),
        of(text()),
    )
        .prop_map(
            |(
                num_gpu,
                sizes,
                num_thread,
                temperature,
                top_p,
                top_k,
                repeat_penalty,
                seed,
                keep,
            )| {
                EngineOptions {
                    num_gpu,
                    num_ctx: sizes[0],
                    num_batch: sizes[1],
                    num_predict: sizes[2],
                    num_thread,
                    temperature,
                    top_p,
                    top_k,
                    repeat_penalty,
                    seed,
                    keep_alive: keep,
                }
            },
        )
}

pub(crate) fn pin() -> impl Strategy<Value = PinFacts> {
    let named = (
        text(),
        of(engine()),
        of(text()),
        of(text()),
        of(text()),
        of(text()),
        of(text()),
    );
    let counted = (
        of(any::<u32>()),
        of(any::<u32>()),
        of(any::<u32>()),
        of(any::<u64>()),
        of(any::<u64>()),
        of(any::<u32>()),
        of(any::<u32>()),
    );
    (named, counted).prop_map(|(named, counted)| PinFacts {
        url: named.0,
        engine: named.1,
        product: named.2,
        version: named.3,
        model: named.4,
        model_digest: named.5,
        instance_epoch: named.6,
        warm_load_ns: None,
        train_context: counted.6,
        context_length: counted.0,
        parallel_slots: counted.1,
        model_layers: counted.2,
        size_bytes: counted.3,
        size_vram_bytes: counted.4,
        pid: counted.5,
    })
}

pub(crate) fn failure() -> impl Strategy<Value = AgentFailure> {
    (text(), text()).prop_map(|(label, detail)| AgentFailure { label, detail })
}

/// Every kind of failure of a request.
pub(crate) const REQUEST_ERRORS: [RequestErrorKind; 15] = [
    RequestErrorKind::Connect,
    RequestErrorKind::ConnectTimeout,
    RequestErrorKind::FirstByteTimeout,
    RequestErrorKind::GapTimeout,
    RequestErrorKind::TotalTimeout,
    RequestErrorKind::Status,
    RequestErrorKind::ModelNotFound,
    RequestErrorKind::StreamError,
    RequestErrorKind::CutStream,
    RequestErrorKind::NoDone,
    RequestErrorKind::AfterDone,
    RequestErrorKind::Malformed,
    RequestErrorKind::LineTooLong,
    RequestErrorKind::Truncated,
    RequestErrorKind::Cancelled,
];

fn request_error() -> impl Strategy<Value = RequestError> {
    (select(REQUEST_ERRORS.to_vec()), text())
        .prop_map(|(kind, detail)| RequestError { kind, detail })
}

fn engine_times() -> impl Strategy<Value = EngineTimes> {
    any::<[Option<u64>; 4]>().prop_map(|[total_ns, load_ns, prompt_eval_ns, eval_ns]| EngineTimes {
        total_ns,
        load_ns,
        prompt_eval_ns,
        eval_ns,
    })
}

fn chunk_times() -> impl Strategy<Value = Vec<u64>> {
    vec(any::<u64>(), 0..40).prop_map(|mut times| {
        times.sort_unstable();
        times
    })
}

fn request() -> impl Strategy<Value = RequestRecord> {
    let identity = (id(), text(), text(), text());
    let times = (
        mono(),
        of(any::<u64>()),
        chunk_times(),
        of(any::<u64>()),
        engine_times(),
    );
    let outcome = (
        any::<[Option<u32>; 3]>(),
        of(select(vec![
            FinishReason::Stop,
            FinishReason::Length,
            FinishReason::Other,
        ])),
        of(request_error()),
        of(any::<u64>()),
    );
    (identity, times, outcome).prop_map(|(identity, times, outcome)| RequestRecord {
        request_id: identity.0,
        step: identity.1,
        prompt_sha256: identity.2,
        output_sha256: identity.3,
        sent: times.0,
        head_ns: times.1,
        chunk_ns: times.2,
        done_ns: times.3,
        engine_times: times.4,
        prompt_tokens: outcome.0[0],
        cached_tokens: outcome.0[1],
        output_tokens: outcome.0[2],
        finish: outcome.1,
        error: outcome.2,
        client_wait_ns: outcome.3,
    })
}

fn resident() -> impl Strategy<Value = ResidentModel> {
    (text(), any::<[Option<u64>; 2]>(), of(any::<u32>())).prop_map(
        |(model, [size_bytes, size_vram_bytes], context_length)| ResidentModel {
            model,
            size_bytes,
            size_vram_bytes,
            context_length,
        },
    )
}

fn engine_state() -> impl Strategy<Value = EngineState> {
    (
        mono(),
        of(vec(resident(), 0..3)),
        any::<[Option<u32>; 2]>(),
        of(finite()),
    )
        .prop_map(
            |(at, resident, [requests_running, requests_waiting], kv_cache_used)| EngineState {
                at,
                resident,
                requests_running,
                requests_waiting,
                kv_cache_used,
            },
        )
}

pub(crate) fn agent_record() -> impl Strategy<Value = AgentRecord> {
    prop_oneof![
        (id(), id(), id(), clock(), options()).prop_map(
            |(worker, instance, role, clock, options)| {
                AgentRecord::Begin(Begin {
                    worker,
                    instance,
                    role,
                    clock,
                    options,
                })
            }
        ),
        (
            select(vec![PinMoment::Before, PinMoment::After]),
            mono(),
            pin()
        )
            .prop_map(|(moment, at, facts)| AgentRecord::Pin(PinCheck {
                moment,
                at,
                facts
            })),
        (mono(), mono())
            .prop_map(|(planned, actual)| AgentRecord::Started(Started { planned, actual })),
        (text(), mono(), mono(), text()).prop_map(|(step, start, end, detail)| {
            AgentRecord::Local(LocalStep {
                step,
                start,
                end,
                detail,
            })
        }),
        request().prop_map(AgentRecord::Request),
        (text(), text(), text()).prop_map(|(name, media_type, text)| {
            AgentRecord::Output(Output {
                name,
                media_type,
                text,
            })
        }),
        (vec(engine_state(), 0..4), any::<u32>())
            .prop_map(|(states, missed)| AgentRecord::Engine(EngineWatch { states, missed })),
        (mono(), of(failure()))
            .prop_map(|(at, failure)| AgentRecord::Finished(Finished { at, failure })),
        (any::<u64>(), text())
            .prop_map(|(records, sha256)| AgentRecord::End(End { records, sha256 })),
    ]
}

pub(crate) fn agent_key() -> impl Strategy<Value = AgentKey> {
    (id(), id(), 1..=u32::MAX, id()).prop_map(|(experiment, run, attempt, agent)| AgentKey {
        experiment,
        run,
        attempt,
        agent,
    })
}

pub(crate) fn agent_event() -> impl Strategy<Value = AgentEvent> {
    (agent_key(), any::<u64>(), any::<u64>(), agent_record()).prop_map(|(key, epoch, n, record)| {
        AgentEvent {
            key,
            epoch,
            n,
            record,
        }
    })
}

/// Every reason against a leg.
pub(crate) const REASONS: [InvalidReason; 19] = [
    InvalidReason::NoGang,
    InvalidReason::NoRoom,
    InvalidReason::WorkerLost,
    InvalidReason::LeaseLost,
    InvalidReason::NotReady,
    InvalidReason::StartSkew,
    InvalidReason::RequestFailed,
    InvalidReason::AgentFailed,
    InvalidReason::Reload,
    InvalidReason::PinChanged,
    InvalidReason::DataLoss,
    InvalidReason::Storage,
    InvalidReason::OptionDrift,
    InvalidReason::Truncated,
    InvalidReason::SoloInvalid,
    InvalidReason::Missing,
    InvalidReason::Cancelled,
    InvalidReason::Timeout,
    InvalidReason::CoordinatorRestart,
];

pub(crate) fn invalid() -> impl Strategy<Value = Invalid> {
    (select(REASONS.to_vec()), text()).prop_map(|(reason, detail)| Invalid { reason, detail })
}

pub(crate) fn outcome() -> impl Strategy<Value = ExperimentOutcome> {
    prop_oneof![
        Just(ExperimentOutcome::Completed),
        Just(ExperimentOutcome::Cancelled),
        text().prop_map(|detail| ExperimentOutcome::Failed { detail }),
    ]
}

pub(crate) fn member() -> impl Strategy<Value = Member> {
    (id(), id(), id(), id(), clock(), any::<i64>(), any::<u64>()).prop_map(
        |(agent, worker, instance, node, clock, clock_offset_ns, clock_error_ns)| Member {
            agent,
            worker,
            instance,
            node,
            clock,
            clock_offset_ns,
            clock_error_ns,
        },
    )
}

fn admission() -> impl Strategy<Value = Admission> {
    let decision = select(vec![
        Decision::Admitted,
        Decision::Unchecked,
        Decision::Overridden,
        Decision::Refused,
    ]);
    let account = (
        id(),
        of(text()),
        vec(id(), 0..3),
        any::<u64>(),
        any::<bool>(),
        of(any::<u64>()),
        of(text()),
    )
        .prop_map(
            |(node, gpu, agents, needed_bytes, estimated, available_bytes, unknown)| Account {
                node,
                gpu,
                agents,
                needed_bytes,
                estimated,
                available_bytes,
                unknown,
            },
        );
    let seats = btree_map(id(), id(), 0..3);
    (
        decision,
        vec(account, 0..3),
        any::<u64>(),
        seats,
        any::<bool>(),
    )
        .prop_map(|(decision, accounts, waited_ms, seats, moved)| Admission {
            decision,
            accounts,
            waited_ms,
            seats,
            moved,
        })
}

fn control_record() -> impl Strategy<Value = ControlRecord> {
    prop_oneof![
        (text(), plan(), text()).prop_map(|(spec_text, plan, software)| {
            ControlRecord::Submitted {
                spec_text,
                plan,
                software,
            }
        }),
        (leg(), vec(member(), 0..4))
            .prop_map(|(leg, members)| ControlRecord::Reserved { leg, members }),
        (id(), pin(), any::<u64>()).prop_map(|(agent, pin, warm_ns)| ControlRecord::Ready {
            agent,
            pin,
            warm_ns
        }),
        (vec((id(), mono()), 0..4), vec(id(), 0..4))
            .prop_map(|(start_at, queued)| ControlRecord::Committed { start_at, queued }),
        (id(), mono()).prop_map(|(agent, start_at)| ControlRecord::Dequeued { agent, start_at }),
        admission().prop_map(|admission| ControlRecord::Admission { admission }),
        prop_oneof![
            Just(LegVerdict::Valid),
            invalid().prop_map(LegVerdict::Invalid)
        ]
        .prop_map(|verdict| ControlRecord::Closed { verdict }),
        (extension(), vec(planned_test(), 0..3), vec(leg(), 0..4))
            .prop_map(|(why, tests, legs)| ControlRecord::Extended { why, tests, legs }),
        outcome().prop_map(|outcome| ControlRecord::ExperimentClosed { outcome }),
    ]
}

pub(crate) fn control_event() -> impl Strategy<Value = ControlEvent> {
    (
        id(),
        of((id(), 1..=u32::MAX)),
        any::<u64>(),
        clock(),
        control_record(),
    )
        .prop_map(|(experiment, leg, epoch, at, record)| {
            let (run, attempt) = leg.map_or((None, 0), |(run, attempt)| (Some(run), attempt));
            ControlEvent {
                experiment,
                run,
                attempt,
                epoch,
                at,
                record,
            }
        })
}
