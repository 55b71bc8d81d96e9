//! The coordinator's log on the bus. It is written before anything follows from it, and read back
//! when a coordinator starts.
//!
//! Fencing: a starting coordinator appends to the epoch subject with compare-and-set, and the
//! place it gets in the stream is its epoch, so that epochs only rise. The claim and every later
//! append state the last message of the whole stream: nothing is claimed past a record that was not
//! read, and whatever a coordinator writes that was replaced meanwhile, it loses that comparison.
//! On a subject of its own it would win, and could close an experiment that goes on elsewhere.

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
/// Tries at a place in the stream. Each that fails has read one record more of somebody else.
const TRIES: u32 = 8;

/// Why the log could not be written or read.
#[derive(Debug, Error)]
pub enum LogError {
    /// Another coordinator wrote: this one has been replaced.
    #[error(
        "another coordinator has taken over this bus; this one stops: run one at a time, or give each \
         a bus of its own"
    )]
    Replaced,
    /// Somebody else writes all the time.
    #[error(
        "something else writes to the control log without a pause: stop the other coordinator, or \
         whatever publishes there"
    )]
    Crowded(#[source] PublishError),
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
    bus: Bus,
    publisher: Publisher,
    epoch: u64,
    written: Arc<Mutex<Written>>,
    replaced: CancellationToken,
}

/// What is known to be in the stream. Held over an append, so that two appends cannot state the
/// same predecessor.
#[derive(Debug, Default)]
struct Written {
    /// Last sequence of the stream.
    last: u64,
    /// Counts this epoch's records, for their message ids.
    count: u64,
}

impl ControlLog {
    /// Takes the log over: reads it, then claims the next epoch.
    ///
    /// # Errors
    /// When the bus cannot be read or written, or somebody writes all the time.
    pub(crate) async fn open(bus: &Bus) -> Result<(Self, Vec<ControlEvent>), LogError> {
        // Not tied to the shutdown: the last record of a leg is written while the process stops.
        let publisher = bus.publisher(PATIENCE, CancellationToken::new());
        let (mut last, mut events) = (0, Vec::new());
        let mut tries = 0;
        let epoch = loop {
            let mut stored = bus.replay(StreamName::Ctrl, &Filter::Ctrl, last + 1);
            while let Some(message) = stored.next().await {
                let message = message?;
                last = message.sequence;
                match decode(&message) {
                    Ok((_, event)) => events.extend(event),
                    // The analyzer keeps dead letters; a decision that cannot be read cannot count.
                    Err(error) => {
                        tracing::error!(sequence = message.sequence, %error, "a control record cannot be read");
                    }
                }
            }
            let id = format!("ctrl.epoch.{last}.{}", clock::wall_unix_ns());
            let expect = Expect::LastInStream(last);
            let claimed = publisher
                .publish_cas(&Subject::Epoch, &id, Bytes::new(), expect)
                .await;
            tries += 1;
            match claimed {
                Ok(ack) => break ack.sequence,
                // Written by one that is being replaced, after we read: that counts too.
                Err(PublishError::Conflict { .. }) if tries < TRIES => {}
                Err(error) => return Err(crowded(error)),
            }
        };
        let written = Written {
            last: epoch,
            count: 0,
        };
        Ok((
            Self {
                bus: bus.clone(),
                publisher,
                epoch,
                written: Arc::new(Mutex::new(written)),
                replaced: CancellationToken::new(),
            },
            events,
        ))
    }

    /// The fencing token.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Tripped once another coordinator has been found to have taken over.
    pub(crate) fn replaced(&self) -> &CancellationToken {
        &self.replaced
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
        let payload = Bytes::from(codec::encode_control_event(&event)?);
        let mut written = self.written.lock().await;
        if self.replaced.is_cancelled() {
            return Err(LogError::Replaced);
        }
        written.count += 1;
        let id = subject::msg_id_ctrl(&event.experiment, self.epoch, written.count);
        let mut tries = 0;
        loop {
            let expect = Expect::LastInStream(written.last);
            let appended = self
                .publisher
                .publish_cas(&subject, &id, payload.clone(), expect)
                .await;
            tries += 1;
            match appended {
                Ok(ack) => {
                    written.last = ack.sequence;
                    return Ok(event);
                }
                Err(PublishError::Conflict { .. }) if tries < TRIES => {
                    written.last = self.read_on(written.last).await?;
                }
                Err(error) => return Err(crowded(error)),
            }
        }
    }

    /// The last place in the stream, if nothing after `last` is of another coordinator. What is there
    /// may be a record of ours whose ack never came, or no record at all.
    async fn read_on(&self, mut last: u64) -> Result<u64, LogError> {
        let mut stored = self.bus.replay(StreamName::Ctrl, &Filter::Ctrl, last + 1);
        while let Some(message) = stored.next().await {
            let message = message?;
            last = message.sequence;
            let of_another = match decode(&message) {
                Ok((Subject::Epoch, _)) => true,
                Ok((_, Some(event))) => event.epoch != self.epoch,
                Ok((_, None)) | Err(_) => false,
            };
            if of_another {
                self.replaced.cancel();
                return Err(LogError::Replaced);
            }
        }
        Ok(last)
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

fn crowded(error: PublishError) -> LogError {
    match error {
        PublishError::Conflict { .. } => LogError::Crowded(error),
        other => LogError::Publish(other),
    }
}

#[cfg(test)]
mod tests;
