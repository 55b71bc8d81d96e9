//! The coordinator's log on the bus. It is written before anything follows from it, and read back
//! when a coordinator starts.
//!
//! Fencing: a starting coordinator appends to the epoch subject with compare-and-set, and the
//! place it gets in the stream is its epoch, so that epochs only rise. Every later append states
//! the last message of its subject; a coordinator that was replaced loses that comparison.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chimera_domain::control::{ControlEvent, ControlRecord};
use chimera_domain::ids::{ExperimentId, RunId};
use chimera_runtime::bus::{Bus, Expect, PublishError, Publisher, ReadError, StoredMessage};
use chimera_runtime::clock;
use chimera_wire::WireError;
use chimera_wire::codec;
use chimera_wire::subject::{self, Filter, StreamName, Subject};
use futures::StreamExt as _;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How long an append may take: a bus that restarts is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the log could not be written or read.
#[derive(Debug, Error)]
pub enum LogError {
    /// Another coordinator wrote: this one has been replaced.
    #[error("another coordinator has taken over; this one stops")]
    Replaced(#[source] PublishError),
    /// The bus refused it or did not answer in time.
    #[error("the bus did not take a control record")]
    Publish(#[from] PublishError),
    /// The log could not be read back.
    #[error("the control log could not be read")]
    Read(#[from] ReadError),
    /// A record of ours has no encoding.
    #[error("a control record could not be encoded")]
    Encode(#[from] WireError),
}

/// Which part of the log a record belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Thread {
    experiment: ExperimentId,
    run: Option<RunId>,
    attempt: u32,
}

impl Thread {
    /// What concerns the whole experiment.
    pub(crate) fn experiment(id: &ExperimentId) -> Self {
        Self {
            experiment: id.clone(),
            run: None,
            attempt: 0,
        }
    }

    /// What concerns one attempt at one leg.
    pub(crate) fn leg(id: &ExperimentId, run: &RunId, attempt: u32) -> Self {
        Self {
            experiment: id.clone(),
            run: Some(run.clone()),
            attempt,
        }
    }
}

/// The log under one epoch. Clones write to the same log.
#[derive(Debug, Clone)]
pub(crate) struct ControlLog {
    publisher: Publisher,
    epoch: u64,
    written: Arc<Mutex<Written>>,
}

/// What is known to be in the stream. Held over an append, so that two appends to one subject
/// cannot state the same predecessor.
#[derive(Debug, Default)]
struct Written {
    /// Last sequence of each subject.
    last: BTreeMap<Subject, u64>,
    /// Counts this epoch's records, for their message ids.
    count: u64,
}

impl ControlLog {
    /// Takes the log over: reads it, then claims the next epoch.
    ///
    /// # Errors
    /// When the bus cannot be read or written, or another coordinator claims at the same moment.
    pub(crate) async fn open(bus: &Bus) -> Result<(Self, Vec<ControlEvent>), LogError> {
        // Not tied to the shutdown: the last record of a leg is written while the process stops.
        let publisher = bus.publisher(PATIENCE, CancellationToken::new());
        let mut written = Written::default();
        let mut events = Vec::new();
        let mut stored = bus.replay(StreamName::Ctrl, &Filter::Ctrl, 0);
        while let Some(message) = stored.next().await {
            let message = message?;
            match decode(&message) {
                Ok((subject, event)) => {
                    written.last.insert(subject, message.sequence);
                    events.extend(event);
                }
                // The analyzer keeps dead letters; a decision that cannot be read cannot count.
                Err(error) => {
                    tracing::error!(sequence = message.sequence, %error, "a control record cannot be read");
                }
            }
        }
        let last = written.last.get(&Subject::Epoch).copied().unwrap_or(0);
        let id = format!("ctrl.epoch.{last}.{}", clock::wall_unix_ns());
        let ack = publisher
            .publish_cas(
                &Subject::Epoch,
                &id,
                Bytes::new(),
                Expect::LastOnSubject(last),
            )
            .await
            .map_err(replaced)?;
        written.last.insert(Subject::Epoch, ack.sequence);
        let epoch = ack.sequence;
        Ok((
            Self {
                publisher,
                epoch,
                written: Arc::new(Mutex::new(written)),
            },
            events,
        ))
    }

    /// The fencing token.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Appends one record; when this returns, it is on the server's disk. Gives the record with its
    /// place in the log, as a reader will find it.
    pub(crate) async fn append(
        &self,
        thread: &Thread,
        record: ControlRecord,
    ) -> Result<ControlEvent, LogError> {
        let event = ControlEvent {
            experiment: thread.experiment.clone(),
            run: thread.run.clone(),
            attempt: thread.attempt,
            epoch: self.epoch,
            at: clock::reading(),
            record,
        };
        let subject = Subject::of_control(&event);
        let payload = codec::encode_control_event(&event)?;
        let mut written = self.written.lock().await;
        written.count += 1;
        let id = subject::msg_id_ctrl(&event.experiment, self.epoch, written.count);
        let last = written.last.get(&subject).copied().unwrap_or(0);
        let ack = self
            .publisher
            .publish_cas(&subject, &id, payload.into(), Expect::LastOnSubject(last))
            .await
            .map_err(replaced)?;
        written.last.insert(subject, ack.sequence);
        Ok(event)
    }
}

fn decode(message: &StoredMessage) -> Result<(Subject, Option<ControlEvent>), WireError> {
    let subject: Subject = message.subject.parse()?;
    let event = match &subject {
        Subject::Ctrl { experiment, run } => Some(codec::decode_control_event(
            experiment,
            run.as_ref(),
            &message.payload,
        )?),
        _ => None,
    };
    Ok((subject, event))
}

fn replaced(error: PublishError) -> LogError {
    match error {
        PublishError::Conflict { .. } => LogError::Replaced(error),
        other => LogError::Publish(other),
    }
}
