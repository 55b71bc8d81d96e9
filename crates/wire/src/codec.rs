//! Bus payloads to bytes and back.
//!
//! Encoding is deterministic: fields go out in the order of their numbers and no message holds a
//! map, so the same value always gives the same bytes. That is what lets the analyzer, or a replay
//! from a bundle, encode an event again and arrive at the worker's hash.

use chimera_domain::control::{ControlEvent, ControlRecord};
use chimera_domain::event::{AgentEvent, AgentRecord};
use chimera_domain::ids::{AgentKey, ExperimentId, RunId};
use chimera_domain::session::Progress;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::common::convert;
use crate::error::WireError;
use crate::pb;

fn decode<M: Message + Default>(payload: &[u8], message: &'static str) -> Result<M, WireError> {
    M::decode(payload).map_err(|source| WireError::Malformed { message, source })
}

/// The payload of record number `n` of an agent's stream, written under `epoch`.
///
/// Whose stream it is goes into the subject ([`crate::subject::Subject::Ev`]), not in here.
#[must_use]
pub fn encode_agent_record(epoch: u64, n: u64, record: &AgentRecord) -> Vec<u8> {
    pb::AgentEvent {
        epoch,
        n,
        record: Some(record.into()),
    }
    .encode_to_vec()
}

/// The payload of an event: what [`encode_agent_record`] gave when it was first written.
#[must_use]
pub fn encode_agent_event(event: &AgentEvent) -> Vec<u8> {
    encode_agent_record(event.epoch, event.n, &event.record)
}

/// Reads a payload of stream EV; `key` comes from the message's subject.
///
/// # Errors
/// When the bytes are no such message, or an id, enumeration or required field in it is bad. The
/// payload then belongs in the dead-letter stream.
pub fn decode_agent_event(key: &AgentKey, payload: &[u8]) -> Result<AgentEvent, WireError> {
    let event: pb::AgentEvent = decode(payload, "AgentEvent")?;
    Ok(AgentEvent {
        key: key.clone(),
        epoch: event.epoch,
        n: event.n,
        record: convert(event.record, "AgentEvent.record")?,
    })
}

/// What concerns a leg has an attempt; what concerns the whole experiment has none.
fn check_attempt(run: Option<&RunId>, attempt: u32) -> Result<(), WireError> {
    if run.is_some() == (attempt > 0) {
        return Ok(());
    }
    Err(WireError::OutOfRange {
        field: "ControlEvent.attempt",
        why: "must be 1 or more for a leg, and 0 for what concerns the whole experiment",
    })
}

/// The payload of a control event. Its subject is [`crate::subject::Subject::of_control`].
///
/// # Errors
/// When the attempt does not fit the run, or a plan cannot be written as JSON that reads back.
pub fn encode_control_event(event: &ControlEvent) -> Result<Vec<u8>, WireError> {
    check_attempt(event.run.as_ref(), event.attempt)?;
    let record = pb::ControlRecord::try_from(&event.record)?;
    Ok(pb::ControlEvent {
        attempt: event.attempt,
        epoch: event.epoch,
        at: Some((&event.at).into()),
        record: Some(record),
    }
    .encode_to_vec())
}

/// Reads a payload of stream CTRL; experiment and run come from the message's subject.
///
/// # Errors
/// When the bytes are no such message, or an id, enumeration or required field in it is bad.
pub fn decode_control_event(
    experiment: &ExperimentId,
    run: Option<&RunId>,
    payload: &[u8],
) -> Result<ControlEvent, WireError> {
    let event: pb::ControlEvent = decode(payload, "ControlEvent")?;
    check_attempt(run, event.attempt)?;
    Ok(ControlEvent {
        experiment: experiment.clone(),
        run: run.cloned(),
        attempt: event.attempt,
        epoch: event.epoch,
        at: convert(event.at, "ControlEvent.at")?,
        record: convert::<_, ControlRecord>(event.record, "ControlEvent.record")?,
    })
}

/// The payload on `chimera.live.<experiment>`: for display only, may be lost.
#[must_use]
pub fn encode_progress(progress: &Progress) -> Vec<u8> {
    pb::Progress::from(progress).encode_to_vec()
}

/// Reads a payload of `chimera.live.<experiment>`.
///
/// # Errors
/// When the bytes are no such message, or an id, enumeration or required field in it is bad.
pub fn decode_progress(payload: &[u8]) -> Result<Progress, WireError> {
    decode::<pb::Progress>(payload, "Progress")?.try_into()
}

/// The hash that ends an agent's stream: SHA-256 over the payloads of `Begin` and of records
/// `1..=n`, in this order, joined without a separator.
///
/// No separator is needed: every payload states its own number, so no other cut of the same bytes
/// is a stream. `End` is not part of it.
///
/// ```
/// use chimera_wire::codec::StreamHash;
/// let mut hash = StreamHash::new();
/// hash.push_payload(b"a");
/// hash.push_payload(b"bc");
/// assert_eq!(hash.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
/// ```
#[derive(Debug, Clone, Default)]
pub struct StreamHash(Sha256);

impl StreamHash {
    /// The hash over nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next payload, as it was published.
    pub fn push_payload(&mut self, payload: &[u8]) {
        self.0.update(payload);
    }

    /// Takes in the next event by encoding it again.
    pub fn push_event(&mut self, event: &AgentEvent) {
        self.push_payload(&encode_agent_event(event));
    }

    /// The hash so far, in lower-case hex; more may follow.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0.clone().finalize())
    }
}
