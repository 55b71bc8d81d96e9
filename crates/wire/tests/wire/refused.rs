//! What is not as it should be is refused with the field's name, and nothing makes a reader panic.

use chimera_domain::control::{
    ControlEvent, ControlRecord, ExperimentOutcome, Invalid, InvalidReason, LegVerdict,
};
use chimera_domain::event::{
    AgentRecord, EngineState, EngineWatch, FinishReason, MAX_ENGINE_STATES, PinCheck,
    RequestErrorKind, RequestRecord,
};
use chimera_domain::ids::{ExperimentId, RunId};
use chimera_domain::options::EngineOptions;
use chimera_domain::plan::PlannedLeg;
use chimera_domain::session::{
    CoordinatorMessage, Hello, LegRef, Progress, WorkerInfo, WorkerMessage,
};
use chimera_domain::units::{BootId, ClockReading, MonoNs};
use chimera_wire::api::{SpecDocument, Submission};
use chimera_wire::{WireError, codec, pb};
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;

use crate::bytes::{key, request, started};
use crate::session_strategies::{coordinator_message, progress, worker_message};
use crate::strategies::{REASONS, REQUEST_ERRORS, agent_event, control_event};

/// Reads bytes as every message there is. Not panicking is the test.
fn read_as_everything(bytes: &[u8]) {
    let experiment = ExperimentId::try_new("e").unwrap();
    let run = RunId::try_new("r").unwrap();
    drop(codec::decode_agent_event(&key(), bytes));
    drop(codec::decode_control_event(&experiment, None, bytes));
    drop(codec::decode_control_event(&experiment, Some(&run), bytes));
    drop(codec::decode_progress(bytes));
    drop(pb::WorkerMessage::decode(bytes).map(WorkerMessage::try_from));
    drop(pb::CoordinatorMessage::decode(bytes).map(CoordinatorMessage::try_from));
    drop(pb::SubmitRequest::decode(bytes).map(Submission::try_from));
    drop(pb::WorkersResponse::decode(bytes).map(Vec::<WorkerInfo>::try_from));
}

/// A valid payload with one byte changed and its end cut off.
fn damage(mut payload: Vec<u8>, at: Index, with: u8, keep: Index) -> Vec<u8> {
    if !payload.is_empty() {
        let at = at.index(payload.len());
        payload[at] = with;
        payload.truncate(keep.index(payload.len() + 1));
    }
    payload
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        read_as_everything(&bytes);
    }

    #[test]
    fn damaged_events_never_panic(
        event in agent_event(), control in control_event(),
        at in any::<Index>(), with in any::<u8>(), keep in any::<Index>(),
    ) {
        read_as_everything(&damage(codec::encode_agent_event(&event), at, with, keep));
        read_as_everything(&damage(codec::encode_control_event(&control).unwrap(), at, with, keep));
    }

    #[test]
    fn damaged_sessions_never_panic(
        up in worker_message(), down in coordinator_message(), progress in progress(),
        at in any::<Index>(), with in any::<u8>(), keep in any::<Index>(),
    ) {
        read_as_everything(&damage(pb::WorkerMessage::from(up).encode_to_vec(), at, with, keep));
        read_as_everything(&damage(pb::CoordinatorMessage::from(down).encode_to_vec(), at, with, keep));
        read_as_everything(&damage(codec::encode_progress(&progress), at, with, keep));
    }

    #[test]
    fn falling_chunk_times_are_refused_by_the_reader(times in any::<Vec<u64>>()) {
        let rising = times.is_sorted();
        let payload = codec::encode_agent_record(1, 1, &AgentRecord::Request(request(times)));
        prop_assert_eq!(codec::decode_agent_event(&key(), &payload).is_ok(), rising);
    }
}

#[track_caller]
fn missing<T: std::fmt::Debug>(result: Result<T, WireError>, expected: &str) {
    match result.unwrap_err() {
        WireError::MissingField { field } => assert_eq!(field, expected),
        other => assert_eq!(other.to_string(), format!("{expected} is missing")),
    }
}

#[track_caller]
fn unknown<T: std::fmt::Debug>(result: Result<T, WireError>, expected: &str) {
    match result.unwrap_err() {
        WireError::UnknownEnum { field, .. } => assert_eq!(field, expected),
        other => assert_eq!(
            other.to_string(),
            format!("{expected} holds an unknown value")
        ),
    }
}

#[test]
fn an_empty_payload_is_no_event() {
    missing(codec::decode_agent_event(&key(), &[]), "AgentEvent.record");
    missing(
        codec::decode_control_event(&ExperimentId::try_new("e").unwrap(), None, &[]),
        "ControlEvent.at",
    );
    assert_eq!(codec::decode_progress(&[]).unwrap_err().kind(), "bad_id");
}

#[test]
fn a_choice_without_an_alternative_is_refused() {
    missing(
        AgentRecord::try_from(pb::AgentRecord::default()),
        "AgentRecord.record",
    );
    missing(
        ControlRecord::try_from(pb::ControlRecord::default()),
        "ControlRecord.record",
    );
    missing(
        WorkerMessage::try_from(pb::WorkerMessage::default()),
        "WorkerMessage.message",
    );
    missing(
        CoordinatorMessage::try_from(pb::CoordinatorMessage::default()),
        "CoordinatorMessage.message",
    );
    missing(
        LegVerdict::try_from(pb::LegVerdict::default()),
        "LegVerdict.verdict",
    );
    missing(
        ExperimentOutcome::try_from(pb::ExperimentOutcome::default()),
        "ExperimentOutcome.outcome",
    );
    missing(
        PlannedLeg::try_from(pb::PlannedLeg {
            run_id: "r".to_owned(),
            ..Default::default()
        }),
        "PlannedLeg.kind",
    );
}

#[test]
fn a_missing_part_is_refused_by_name() {
    missing(
        RequestRecord::try_from(pb::RequestRecord {
            engine_times: None,
            ..pb::RequestRecord::from(&request(Vec::new()))
        }),
        "RequestRecord.engine_times",
    );
    missing(
        PinCheck::try_from(pb::PinCheck {
            moment: 1,
            at_mono_ns: 1,
            facts: None,
        }),
        "PinCheck.facts",
    );
    missing(
        Submission::try_from(pb::SubmitRequest::default()),
        "SubmitRequest.spec",
    );
    let warm = pb::coordinator_message::Message::Warm(pb::Warm::default());
    missing(
        CoordinatorMessage::try_from(pb::CoordinatorMessage {
            message: Some(warm),
        }),
        "Warm.leg",
    );
}

#[test]
fn an_unknown_or_unspecified_enumeration_is_refused() {
    for value in [0, -1, 99, i32::MAX] {
        unknown(
            PinCheck::try_from(pb::PinCheck {
                moment: value,
                ..Default::default()
            }),
            "PinCheck.moment",
        );
        unknown(
            Invalid::try_from(pb::Invalid {
                reason: value,
                ..Default::default()
            }),
            "Invalid.reason",
        );
        unknown(
            RequestRecord::try_from(pb::RequestRecord {
                finish: Some(value),
                ..pb::RequestRecord::from(&request(Vec::new()))
            }),
            "RequestRecord.finish",
        );
        unknown(
            RequestRecord::try_from(pb::RequestRecord {
                error: Some(pb::RequestError {
                    kind: value,
                    ..Default::default()
                }),
                ..pb::RequestRecord::from(&request(Vec::new()))
            }),
            "RequestError.kind",
        );
        unknown(
            Hello::try_from(pb::Hello {
                worker: "w".to_owned(),
                instance: "i".to_owned(),
                engine: value,
                ..Default::default()
            }),
            "Hello.engine",
        );
        unknown(
            SpecDocument::try_from(pb::SpecDocument {
                format: value,
                ..Default::default()
            }),
            "SpecDocument.format",
        );
    }
}

#[test]
fn enumerations_of_the_wire_bear_the_labels_of_the_reports() {
    for kind in REQUEST_ERRORS {
        let name = pb::RequestErrorKind::from(kind).as_str_name();
        assert_eq!(
            name,
            format!("REQUEST_ERROR_KIND_{}", kind.as_str().to_uppercase())
        );
    }
    for reason in REASONS {
        let name = pb::InvalidReason::from(reason).as_str_name();
        assert_eq!(
            name,
            format!("INVALID_REASON_{}", reason.as_str().to_uppercase())
        );
    }
    // One more number on the wire would be a variant that the lists above lack.
    assert!(
        pb::RequestErrorKind::try_from(i32::try_from(REQUEST_ERRORS.len()).unwrap() + 1).is_err()
    );
    assert!(pb::InvalidReason::try_from(i32::try_from(REASONS.len()).unwrap() + 1).is_err());
    assert_eq!(
        pb::FinishReason::from(FinishReason::Other).as_str_name(),
        "FINISH_REASON_OTHER"
    );
    assert_eq!(
        pb::RequestErrorKind::from(RequestErrorKind::Connect).as_str_name(),
        "REQUEST_ERROR_KIND_CONNECT"
    );
}

#[test]
fn a_bad_id_is_refused_by_name() {
    for bad in ["", "a.b", "a b", "~", ">", &"x".repeat(65)] {
        let leg = pb::LegRef {
            experiment: "e".to_owned(),
            run: bad.to_owned(),
            attempt: 1,
            epoch: 1,
        };
        let error = LegRef::try_from(leg).unwrap_err();
        assert_eq!(error.kind(), "bad_id");
        assert!(error.to_string().starts_with("LegRef.run: "), "{error}");
    }
    let progress = pb::Progress {
        experiment: "e".to_owned(),
        agents_done: vec!["a.b".to_owned()],
        ..Default::default()
    };
    assert_eq!(Progress::try_from(progress).unwrap_err().kind(), "bad_id");
}

#[test]
fn text_that_is_no_utf_8_is_refused() {
    // AgentEvent{record: AgentRecord{output: Output{name: ff fe}}}
    let payload = [0x1a, 6, 0x32, 4, 0x0a, 2, 0xff, 0xfe];
    let error = codec::decode_agent_event(&key(), &payload).unwrap_err();
    assert_eq!(error.kind(), "malformed");
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn a_cut_payload_is_refused() {
    let payload = codec::encode_agent_event(&started());
    for length in 0..payload.len() {
        assert!(
            codec::decode_agent_event(&key(), &payload[..length]).is_err(),
            "{length} bytes"
        );
    }
}

#[test]
fn a_number_that_no_engine_can_be_asked_for_is_refused() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let options = pb::EngineOptions::from(&EngineOptions::default());
        let cases = [
            pb::EngineOptions {
                temperature: bad,
                ..options.clone()
            },
            pb::EngineOptions {
                top_p: Some(bad),
                ..options.clone()
            },
            pb::EngineOptions {
                repeat_penalty: Some(bad),
                ..options
            },
        ];
        for case in cases {
            assert_eq!(
                EngineOptions::try_from(case).unwrap_err().kind(),
                "out_of_range"
            );
        }
    }
}

#[test]
fn more_engine_states_than_a_record_holds_are_refused() {
    let read = |n| {
        EngineWatch::try_from(pb::EngineWatch {
            states: vec![pb::EngineState::default(); n],
            missed: 0,
        })
    };
    assert!(read(MAX_ENGINE_STATES).is_ok());
    let error = read(MAX_ENGINE_STATES + 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "EngineWatch.states: holds more than 3600 readings"
    );
    let state = pb::EngineState {
        kv_cache_used: Some(f64::NAN),
        ..Default::default()
    };
    assert_eq!(
        EngineState::try_from(state).unwrap_err().kind(),
        "out_of_range"
    );
}

fn closed(run: Option<&str>, attempt: u32) -> ControlEvent {
    ControlEvent {
        experiment: ExperimentId::try_new("e").unwrap(),
        run: run.map(|run| RunId::try_new(run).unwrap()),
        attempt,
        epoch: 1,
        at: ClockReading {
            boot_id: BootId("b".to_owned()),
            mono_ns: MonoNs(1),
            wall_unix_ns: 2,
        },
        record: ControlRecord::Closed {
            verdict: LegVerdict::Invalid(Invalid {
                reason: InvalidReason::WorkerLost,
                detail: "w1".to_owned(),
            }),
        },
    }
}

#[test]
fn an_attempt_belongs_to_a_leg_and_to_nothing_else() {
    assert_eq!(
        codec::encode_control_event(&closed(None, 1))
            .unwrap_err()
            .kind(),
        "out_of_range"
    );
    assert_eq!(
        codec::encode_control_event(&closed(Some("r"), 0))
            .unwrap_err()
            .kind(),
        "out_of_range"
    );
    let event = closed(Some("r"), 1);
    let payload = codec::encode_control_event(&event).unwrap();
    let moved = codec::decode_control_event(&event.experiment, None, &payload);
    assert_eq!(moved.unwrap_err().kind(), "out_of_range");
    let leg = pb::LegRef {
        experiment: "e".to_owned(),
        run: "r".to_owned(),
        attempt: 0,
        epoch: 1,
    };
    assert_eq!(LegRef::try_from(leg).unwrap_err().kind(), "out_of_range");
}

#[test]
fn a_plan_that_is_no_plan_is_refused() {
    for bad in ["", "{", "[]", "{\"name\":1}"] {
        let submitted = pb::Submitted {
            plan_json: bad.to_owned(),
            ..Default::default()
        };
        let record = pb::control_record::Record::Submitted(submitted);
        let error = ControlRecord::try_from(pb::ControlRecord {
            record: Some(record),
        })
        .unwrap_err();
        assert_eq!(error.kind(), "bad_json", "{bad}");
    }
}

#[test]
fn a_peer_is_told_which_argument_is_bad() {
    let status = tonic::Status::from(WireError::MissingField { field: "Warm.leg" });
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(
        status.message().starts_with("Warm.leg is missing"),
        "{status}"
    );
}
