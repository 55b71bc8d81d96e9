//! From the streams to records: a pure replay of what the bus holds.

use std::time::Duration;

use chimera_domain::control::{ControlEvent, ControlRecord};
use chimera_domain::ids::ExperimentId;
use chimera_domain::telemetry::TelemetryBatch;
use chimera_domain::units::{BootId, MonoNs};
use chimera_runtime::bus::{Bus, PublishError, Publisher, ReadError, StoredMessage};
use chimera_wire::WireError;
use chimera_wire::codec;
use chimera_wire::subject::{Filter, StreamName, Subject};
use futures::StreamExt as _;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::records::{DeadLetter, Records};

/// How long a dead letter may take to be kept.
const DEAD_LETTER_PATIENCE: Duration = Duration::from_secs(10);
/// How long after the end of an experiment its last telemetry may come: a batch closes every
/// second.
const TELEMETRY_WAIT: Duration = Duration::from_millis(2_500);

/// Why the streams could not be read.
#[derive(Debug, Error)]
pub enum IngestError {
    /// The bus failed.
    #[error("a stream could not be read")]
    Read(#[from] ReadError),
    /// What could not be decoded could not be kept either.
    #[error("a dead letter could not be kept")]
    DeadLetter(#[from] PublishError),
}

/// Reads what the bus holds.
#[derive(Debug, Clone)]
pub struct Ingest {
    bus: Bus,
    publisher: Publisher,
}

impl Ingest {
    /// Reads from this bus.
    #[must_use]
    pub fn new(bus: Bus) -> Self {
        let publisher = bus.publisher(DEAD_LETTER_PATIENCE, CancellationToken::new());
        Self { bus, publisher }
    }

    /// Everything about one experiment that has ended.
    ///
    /// # Errors
    /// When a stream cannot be read to its end, or a dead letter cannot be kept.
    pub async fn collect(&self, experiment: &ExperimentId) -> Result<Records, IngestError> {
        let (mut records, unreadable) = self.read(experiment).await?;
        for (message, error) in &unreadable {
            self.bury(message, error).await?;
        }
        self.telemetry(&mut records).await?;
        Ok(records)
    }

    /// Decisions and agents' records of one experiment that goes on, without telemetry. What cannot
    /// be decoded is counted, and kept when the experiment has ended.
    ///
    /// # Errors
    /// When a stream cannot be read to its end.
    pub async fn so_far(&self, experiment: &ExperimentId) -> Result<Records, IngestError> {
        Ok(self.read(experiment).await?.0)
    }

    async fn read(
        &self,
        experiment: &ExperimentId,
    ) -> Result<(Records, Vec<(StoredMessage, WireError)>), IngestError> {
        let mut records = Records::default();
        let mut unreadable = Vec::new();
        // Decisions first: a leg that they close has all its records in the other stream already.
        for (stream, filter) in [
            (StreamName::Ctrl, Filter::CtrlOf(experiment.clone())),
            (StreamName::Ev, Filter::EvOf(experiment.clone())),
        ] {
            let mut messages = self.bus.replay(stream, &filter, 0);
            while let Some(message) = messages.next().await {
                let message = message?;
                if let Err(error) = take(&message, &mut records) {
                    records.dead.push(dead_letter(&message, &error));
                    unreadable.push((message, error));
                }
            }
        }
        Ok((records, unreadable))
    }

    /// Keeps what could not be decoded, once.
    async fn bury(&self, message: &StoredMessage, error: &WireError) -> Result<(), IngestError> {
        tracing::warn!(
            subject = %message.subject,
            sequence = message.sequence,
            %error,
            "a message cannot be decoded and goes to the dead letters"
        );
        self.publisher
            .dead_letter(message, &error.to_string())
            .await?;
        Ok(())
    }

    /// Telemetry of the experiment's time, waiting a little for the batch that covers its end.
    async fn telemetry(&self, records: &mut Records) -> Result<(), IngestError> {
        let Some(span) = Span::of(&records.control) else {
            return Ok(());
        };
        let mut last = 0;
        let mut ended = false;
        let mut held = self.bus.replay(StreamName::Tel, &Filter::Tel, 0);
        while let Some(message) = held.next().await {
            let message = message?;
            last = message.sequence;
            ended |= self.take_batch(&message, &span, records).await?;
        }
        if ended {
            return Ok(());
        }
        let give_up = tokio::time::sleep(TELEMETRY_WAIT);
        tokio::pin!(give_up);
        let mut coming = self.bus.follow(StreamName::Tel, &Filter::Tel, last + 1);
        loop {
            let message = tokio::select! {
                message = coming.next() => message,
                () = &mut give_up => None,
            };
            let Some(message) = message else {
                return Ok(());
            };
            if self.take_batch(&message?, &span, records).await? {
                return Ok(());
            }
        }
    }

    /// Keeps a batch of the experiment's time; says whether it reaches the experiment's end.
    async fn take_batch(
        &self,
        message: &StoredMessage,
        span: &Span,
        records: &mut Records,
    ) -> Result<bool, IngestError> {
        match decode_batch(message) {
            Ok(Some(batch)) => {
                let reaches_end = span.is_covered_by(&batch);
                if span.overlaps(&batch) {
                    records.telemetry.push(batch);
                }
                Ok(reaches_end)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                records.dead.push(dead_letter(message, &error));
                self.bury(message, &error).await?;
                Ok(false)
            }
        }
    }
}

/// Takes in a control record or an agent's.
fn take(message: &StoredMessage, records: &mut Records) -> Result<(), WireError> {
    if let Subject::Ev(key) = message.subject.parse()? {
        let event = codec::decode_agent_event(&key, &message.payload)?;
        records.events.push(event);
    } else if let Some(event) = decode_control(message)? {
        records.control.push(event);
    }
    Ok(())
}

fn dead_letter(message: &StoredMessage, error: &WireError) -> DeadLetter {
    DeadLetter {
        subject: message.subject.clone(),
        key: match message.subject.parse() {
            Ok(Subject::Ev(key)) => Some(key),
            _ => None,
        },
        reason: error.to_string(),
    }
}

/// A control record of the log; `None` for a claim of an epoch.
pub(crate) fn decode_control(message: &StoredMessage) -> Result<Option<ControlEvent>, WireError> {
    match message.subject.parse()? {
        Subject::Ctrl { experiment, run } => {
            codec::decode_control_event(&experiment, run.as_ref(), &message.payload).map(Some)
        }
        _ => Ok(None),
    }
}

fn decode_batch(message: &StoredMessage) -> Result<Option<TelemetryBatch>, WireError> {
    match message.subject.parse()? {
        Subject::Tel(node) => {
            chimera_wire::telemetry::decode_batch(&node, &message.payload).map(Some)
        }
        _ => Ok(None),
    }
}

/// When the experiment ran, by the wall clock: nodes of several boots take part.
struct Span {
    from_unix_ns: u64,
    until_unix_ns: u64,
    boot: BootId,
    until: MonoNs,
}

impl Span {
    fn of(control: &[ControlEvent]) -> Option<Self> {
        let first = control.iter().map(|e| e.at.wall_unix_ns).min()?;
        let last = control.iter().max_by_key(|e| e.at.wall_unix_ns)?;
        let closed = control
            .iter()
            .find(|e| matches!(e.record, ControlRecord::ExperimentClosed { .. }))
            .unwrap_or(last);
        Some(Self {
            from_unix_ns: first,
            until_unix_ns: last.at.wall_unix_ns,
            boot: closed.at.boot_id.clone(),
            until: closed.at.mono_ns,
        })
    }

    /// A batch covers the time since the batch before it; ten seconds are far more.
    fn overlaps(&self, batch: &TelemetryBatch) -> bool {
        const SLACK_NS: u64 = 10_000_000_000;
        let at = batch.clock.wall_unix_ns;
        at >= self.from_unix_ns.saturating_sub(SLACK_NS)
            && at <= self.until_unix_ns.saturating_add(SLACK_NS)
    }

    fn is_covered_by(&self, batch: &TelemetryBatch) -> bool {
        batch.clock.boot_id == self.boot && batch.clock.mono_ns >= self.until
    }
}
