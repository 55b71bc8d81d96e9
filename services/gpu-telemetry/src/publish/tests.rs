use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use chimera_domain::ids::NodeId;
use chimera_domain::units::{BootId, ClockReading, MonoNs};
use chimera_wire::subject::StreamName;

use super::*;

/// Answers as told, then takes everything.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<PublishError>>>,
    stored: Arc<Mutex<Vec<u64>>>,
}

impl BatchSink for Scripted {
    async fn store(&self, batch: &TelemetryBatch) -> Result<(), PublishError> {
        if let Some(error) = self.answers.lock().unwrap().pop_front() {
            return Err(error);
        }
        self.stored.lock().unwrap().push(batch.seq);
        Ok(())
    }
}

fn timed_out() -> PublishError {
    PublishError::TimedOut {
        subject: "chimera.tel.n1".to_owned(),
        limit: PUBLISHED_WITHIN,
        attempts: 3,
        last: "no ack".to_owned(),
    }
}

const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);

fn storage() -> PublishError {
    PublishError::Storage {
        stream: StreamName::Tel,
        reason: "full".to_owned(),
    }
}

fn batch(seq: u64) -> TelemetryBatch {
    TelemetryBatch {
        node: NodeId::try_new("n1").unwrap(),
        sampler_started: MonoNs(1),
        seq,
        clock: ClockReading {
            boot_id: BootId("b".to_owned()),
            mono_ns: MonoNs(seq * 1000),
            wall_unix_ns: 0,
        },
        period_ns: 100,
        gpus: Vec::new(),
        probes: Vec::new(),
        samples: Vec::new(),
        gaps: Vec::new(),
        gpu_errors: Vec::new(),
    }
}

async fn publish(answers: Vec<PublishError>) -> (Result<(), TelemetryError>, Vec<u64>, Losses) {
    let (out, queue) = mpsc::channel(4);
    for seq in 1..=2 {
        out.send(batch(seq)).await.unwrap();
    }
    drop(out);
    let sink = Scripted {
        answers: Arc::new(Mutex::new(answers.into())),
        ..Scripted::default()
    };
    let losses = Losses::default();
    let result = publish_all(queue, sink.clone(), losses.clone()).await;
    let stored = sink.stored.lock().unwrap().clone();
    (result, stored, losses)
}

#[tokio::test(start_paused = true)]
async fn what_may_yet_be_stored_is_offered_again_and_in_order() {
    let (result, stored, losses) = publish(vec![timed_out(), storage(), timed_out()]).await;
    assert!(result.is_ok());
    assert_eq!(stored, [1, 2]);
    assert!(losses.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_lost_and_told_and_the_next_one_goes() {
    let refused = PublishError::Refused {
        stream: StreamName::Tel,
        reason: "no".to_owned(),
    };
    let (result, stored, losses) = publish(vec![refused]).await;
    assert!(result.is_ok());
    assert_eq!(stored, [2]);
    assert!(!losses.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_publish_the_service_ends() {
    let denied = PublishError::Denied {
        subject: "chimera.tel.n1".to_owned(),
        reason: "acl".to_owned(),
    };
    let (result, stored, _) = publish(vec![denied]).await;
    assert!(matches!(
        result,
        Err(TelemetryError::Publish(PublishError::Denied { .. }))
    ));
    assert!(stored.is_empty());
}
