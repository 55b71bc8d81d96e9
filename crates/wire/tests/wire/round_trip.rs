//! Whatever the domain can say arrives unchanged, and is written with the same bytes each time.

use std::collections::BTreeSet;
use std::time::Duration;

use chimera_domain::control::ExperimentOutcome;
use chimera_domain::ids::ExperimentId;
use chimera_domain::metric::Metric;
use chimera_domain::session::{CoordinatorMessage, WorkerInfo, WorkerMessage};
use chimera_wire::api::{
    Evidence, EvidenceRequest, ExperimentSummary, RefusedLeg, ReportDocument, ReportRequest,
    ReportSummary, RunValue, SpecDocument, SpecFormat, Submission,
};
use chimera_wire::{codec, pb};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;

use crate::session_strategies::{coordinator_message, progress, worker_info, worker_message};
use crate::strategies::{agent_event, agent_record, control_event, id, invalid, outcome};

/// To bytes and back through the generated type, as gRPC does it.
fn through<M: Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn agent_events(event in agent_event()) {
        let payload = codec::encode_agent_event(&event);
        let read = codec::decode_agent_event(&event.key, &payload).unwrap();
        prop_assert_eq!(&read, &event);
        prop_assert_eq!(codec::encode_agent_event(&read), payload);
    }

    #[test]
    fn control_events(event in control_event()) {
        let payload = codec::encode_control_event(&event).unwrap();
        let read =
            codec::decode_control_event(&event.experiment, event.run.as_ref(), &payload).unwrap();
        prop_assert_eq!(&read, &event);
        prop_assert_eq!(codec::encode_control_event(&read).unwrap(), payload);
    }

    #[test]
    fn a_replay_arrives_at_the_hash_of_the_worker(records in vec(agent_record(), 0..8)) {
        let key: chimera_domain::ids::AgentKey = super::bytes::key();
        let mut worker = codec::StreamHash::new();
        let mut replay = codec::StreamHash::new();
        for (n, record) in (0u64..).zip(&records) {
            let payload = codec::encode_agent_record(7, n, record);
            worker.push_payload(&payload);
            replay.push_event(&codec::decode_agent_event(&key, &payload).unwrap());
        }
        prop_assert_eq!(replay.to_hex(), worker.to_hex());
    }

    #[test]
    fn worker_messages(message in worker_message()) {
        let read: WorkerMessage =
            through(pb::WorkerMessage::from(message.clone())).try_into().unwrap();
        prop_assert_eq!(read, message);
    }

    #[test]
    fn coordinator_messages(message in coordinator_message()) {
        let read: CoordinatorMessage =
            through(pb::CoordinatorMessage::from(message.clone())).try_into().unwrap();
        prop_assert_eq!(read, message);
    }

    #[test]
    fn progress_of_an_experiment(progress in progress()) {
        let payload = codec::encode_progress(&progress);
        prop_assert_eq!(codec::decode_progress(&payload).unwrap(), progress);
    }

    #[test]
    fn workers(workers in vec(worker_info(), 0..4)) {
        let response: pb::WorkersResponse = workers.iter().cloned().collect();
        prop_assert_eq!(Vec::<WorkerInfo>::try_from(through(response)).unwrap(), workers);
    }

    #[test]
    fn submissions(
        format in select(vec![SpecFormat::Toml, SpecFormat::Json]),
        text in any::<String>(),
        experiment in of(id()),
    ) {
        let submission = Submission { spec: SpecDocument { format, text }, experiment };
        let read: Submission =
            through(pb::SubmitRequest::from(submission.clone())).try_into().unwrap();
        prop_assert_eq!(read, submission);
    }

    #[test]
    fn messages_that_name_an_experiment(experiment in id::<ExperimentId>()) {
        let submitted = through(pb::SubmitResponse::from(experiment.clone()));
        let get = through(pb::GetRequest::from(experiment.clone()));
        let watch = through(pb::WatchRequest::from(experiment.clone()));
        let cancel = through(pb::CancelRequest::from(experiment.clone()));
        prop_assert_eq!(ExperimentId::try_from(submitted).unwrap(), experiment.clone());
        prop_assert_eq!(ExperimentId::try_from(get).unwrap(), experiment.clone());
        prop_assert_eq!(ExperimentId::try_from(watch).unwrap(), experiment.clone());
        prop_assert_eq!(ExperimentId::try_from(cancel).unwrap(), experiment);
    }

    #[test]
    fn answers_to_cancel(already in of(outcome())) {
        let read: Option<ExperimentOutcome> =
            through(pb::CancelResponse::from(already.clone())).try_into().unwrap();
        prop_assert_eq!(read, already);
    }

    #[test]
    fn lists_of_experiments(items in vec((id(), any::<String>(), any::<[u32; 3]>(), of(outcome())), 0..4)) {
        let items: Vec<ExperimentSummary> = items
            .into_iter()
            .map(|(experiment, name, counts, outcome)| ExperimentSummary {
                experiment,
                name,
                legs_total: counts[0],
                legs_closed: counts[1],
                legs_valid: counts[2],
                outcome,
            })
            .collect();
        let response: pb::ListResponse = items.iter().cloned().collect();
        prop_assert_eq!(Vec::<ExperimentSummary>::try_from(through(response)).unwrap(), items);
    }

    #[test]
    fn reports(experiment in id::<ExperimentId>(), wait_ms in any::<u64>(), text in any::<String>(), runs in any::<[u32; 2]>()) {
        let request =
            ReportRequest { experiment: experiment.clone(), wait: Duration::from_millis(wait_ms) };
        let read: ReportRequest =
            through(pb::GetReportRequest::from(request.clone())).try_into().unwrap();
        prop_assert_eq!(read, request);

        let report = ReportDocument { schema_version: "1".to_owned(), json: text.clone() };
        let read = ReportDocument::from(through(pb::ReportDocument::from(report.clone())));
        prop_assert_eq!(read, report);

        let line =
            ReportSummary { experiment, name: text, runs_total: runs[0], runs_valid: runs[1] };
        let response: pb::ListReportsResponse = [line.clone()].into_iter().collect();
        prop_assert_eq!(Vec::<ReportSummary>::try_from(through(response)).unwrap(), vec![line]);
    }
}

proptest! {
    #[test]
    fn evidence(
        experiment in id::<ExperimentId>(),
        picks in prop::collection::btree_set(0..Metric::ALL.len(), 0..4),
        run in id(),
        why in invalid(),
        n in any::<[u32; 4]>(),
        value in -1e9..1e9_f64,
    ) {
        let metrics: BTreeSet<Metric> = picks.into_iter().map(|pick| Metric::ALL[pick]).collect();
        let request = EvidenceRequest {
            experiment,
            metrics: metrics.clone(),
            verdicts: n[0],
            wait: Duration::from_millis(u64::from(n[1])),
        };
        let read: EvidenceRequest =
            through(pb::GetEvidenceRequest::from(request.clone())).try_into().unwrap();
        prop_assert_eq!(read, request);
        let values = vec![RunValue { test: n[1], run: n[2], value }];
        let evidence = Evidence {
            verdicts: n[0],
            metrics: metrics.into_iter().map(|metric| (metric, values.clone())).collect(),
            refused: vec![RefusedLeg { run, attempt: n[3], why }],
        };
        let read: Evidence = through(pb::Evidence::from(evidence.clone())).try_into().unwrap();
        prop_assert_eq!(read, evidence);
    }
}

#[test]
fn a_metric_that_nobody_knows_is_refused() {
    let request = pb::GetEvidenceRequest {
        experiment: "e".to_owned(),
        metrics: vec!["happiness".to_owned()],
        verdicts: 0,
        wait_ms: 0,
    };
    let error = EvidenceRequest::try_from(request).unwrap_err();
    assert!(
        error.to_string().contains("GetEvidenceRequest.metrics"),
        "{error}"
    );
    let answer = pb::Evidence {
        metrics: vec![pb::MetricValues {
            metric: "happiness".to_owned(),
            values: Vec::new(),
        }],
        ..pb::Evidence::default()
    };
    let error = Evidence::try_from(answer).unwrap_err();
    assert!(error.to_string().contains("MetricValues.metric"), "{error}");
}

#[test]
fn a_wait_without_end_becomes_the_longest_that_can_be_said() {
    let request = ReportRequest {
        experiment: ExperimentId::try_new("e").unwrap(),
        wait: Duration::MAX,
    };
    assert_eq!(pb::GetReportRequest::from(request).wait_ms, u64::MAX);
}
