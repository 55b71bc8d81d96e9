//! A subject is read back as it was written, and nothing else is taken for one.

use chimera_domain::ids::{AgentKey, ExperimentId, RunId};
use chimera_wire::WireError;
use chimera_wire::error::SubjectError;
use chimera_wire::subject::{
    Filter, StreamName, Subject, msg_id_agent, msg_id_ctrl, msg_id_dlq, msg_id_tel,
};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::strategies::{agent_key, id};

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        (id(), of(id())).prop_map(|(experiment, run)| Subject::Ctrl { experiment, run }),
        Just(Subject::Epoch),
        agent_key().prop_map(Subject::Ev),
        id().prop_map(Subject::Tel),
        select(StreamName::ALL.to_vec()).prop_map(Subject::Dlq),
        id().prop_map(Subject::Live),
    ]
}

/// Whether the server would hand a message on `subject` to a consumer with `filter`.
fn matches(filter: &str, subject: &str) -> bool {
    filter.strip_suffix('>').is_some_and(|prefix| {
        subject
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty())
    })
}

proptest! {
    #[test]
    fn every_subject_parses_back(subject in subject()) {
        let text = subject.to_string();
        prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>'), "{}", text);
        prop_assert_eq!(text.parse::<Subject>().unwrap(), subject);
    }

    #[test]
    fn a_stream_keeps_its_own_subjects_only(subject in subject()) {
        for stream in StreamName::ALL {
            prop_assert_eq!(
                matches(&stream.filter().to_string(), &subject.to_string()),
                subject.stream() == Some(stream)
            );
        }
    }

    #[test]
    fn filters_narrow_step_by_step(key in agent_key(), other in agent_key()) {
        let subject = |key: &AgentKey| Subject::Ev(key.clone()).to_string();
        let AgentKey { experiment, run, attempt, .. } = key.clone();
        let filters = [
            Filter::Ev,
            Filter::EvOf(experiment.clone()),
            Filter::EvOfRun(experiment.clone(), run.clone()),
            Filter::EvOfAttempt(experiment.clone(), run.clone(), attempt),
        ];
        for filter in &filters {
            prop_assert!(matches(&filter.to_string(), &subject(&key)));
        }
        let same = [
            true,
            other.experiment == key.experiment,
            other.experiment == key.experiment && other.run == key.run,
        ];
        for (filter, same) in filters.iter().zip(same) {
            prop_assert_eq!(matches(&filter.to_string(), &subject(&other)), same);
        }
        let control = Filter::CtrlOf(experiment.clone()).to_string();
        for run in [None, Some(run)] {
            let subject = Subject::Ctrl { experiment: experiment.clone(), run }.to_string();
            prop_assert!(matches(&control, &subject));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), tail in "[a-z0-9.*>~]{0,40}") {
        prop_assert!(text.parse::<Subject>().is_err());
        if let Ok(subject) = format!("chimera.{tail}").parse::<Subject>() {
            prop_assert_eq!(subject.to_string(), format!("chimera.{tail}"));
        }
    }

    #[test]
    fn records_that_differ_have_ids_that_differ(a in agent_key(), b in agent_key(), n in 0u64..4, m in 0u64..4) {
        prop_assert_eq!(msg_id_agent(&a, n) == msg_id_agent(&b, m), a == b && n == m);
    }
}

#[test]
fn the_subjects_of_the_design() {
    for text in [
        "chimera.ctrl.e1.t1-r2-together",
        "chimera.ctrl.e1.~",
        "chimera.ctrl.epoch",
        "chimera.ev.e1.t1-r2-together.1.collector",
        "chimera.tel.node-1",
        "chimera.dlq.EV",
        "chimera.live.e1",
    ] {
        assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
    }
}

#[test]
fn the_token_for_no_run_is_no_run() {
    assert!(RunId::try_new("~").is_err());
    let underscore: Subject = "chimera.ctrl.e1._".parse().unwrap();
    let Subject::Ctrl { run, .. } = underscore else {
        unreachable!("a control subject")
    };
    assert_eq!(run, Some(RunId::try_new("_").unwrap()));
}

#[test]
fn foreign_subjects_are_refused() {
    let long = "x".repeat(65);
    let cases = [
        ("", "foreign"),
        ("chimera", "foreign"),
        ("other.ev.e1.r1.1.a", "foreign"),
        ("chimera.other.e1", "foreign"),
        ("$JS.API.INFO", "foreign"),
        ("CHIMERA.tel.n", "foreign"),
        ("chimera.ev.e1.r1.1", "count"),
        ("chimera.ev.e1.r1.1.a.b", "count"),
        ("chimera.tel.n.n", "count"),
        ("chimera.tel", "count"),
        ("chimera.ctrl.e1", "count"),
        ("chimera.ev.e1.r1.0.a", "attempt"),
        ("chimera.ev.e1.r1.01.a", "attempt"),
        ("chimera.ev.e1.r1.+1.a", "attempt"),
        ("chimera.ev.e1.r1.-1.a", "attempt"),
        ("chimera.ev.e1.r1.4294967296.a", "attempt"),
        ("chimera.ev.e1.r1.x.a", "attempt"),
        ("chimera.ev.e1.~.1.a", "id"),
        ("chimera.ev.e1.*.1.a", "id"),
        ("chimera.ctrl.e1.>", "id"),
        ("chimera.ctrl..r1", "id"),
        ("chimera.tel.", "id"),
        ("chimera.tel.a b", "id"),
        (&format!("chimera.tel.{long}"), "id"),
        ("chimera.dlq.XX", "stream"),
        ("chimera.dlq.ev", "stream"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<Subject>().unwrap_err();
        assert_eq!(error.kind(), "subject");
        let WireError::Subject { why, .. } = error else {
            unreachable!("a subject error")
        };
        let found = match why {
            SubjectError::Foreign => "foreign",
            SubjectError::TokenCount => "count",
            SubjectError::Id(_) => "id",
            SubjectError::Attempt => "attempt",
            SubjectError::Stream => "stream",
        };
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn an_error_does_not_repeat_an_endless_subject() {
    let error = "chimera.".repeat(100_000).parse::<Subject>().unwrap_err();
    assert!(error.to_string().len() < 300);
}

#[test]
fn message_ids_are_the_same_for_a_retry_and_never_shared_by_kinds() {
    let experiment = ExperimentId::try_new("e1").unwrap();
    assert_eq!(msg_id_ctrl(&experiment, 2, 7), "ctrl.e1.2.7");
    assert_eq!(
        msg_id_agent(&super::bytes::key(), 7),
        "ev.e1.t1-r1-together.1.collector.7"
    );
    assert_eq!(msg_id_tel(&"n1".parse().unwrap(), "s1", 7), "tel.n1.s1.7");
    assert_eq!(msg_id_dlq(StreamName::Ev, 7), "dlq.EV.7");
}
