//! Publishing durable facts: acked, or a typed error; never a guess.

use std::error::Error as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use chimera_wire::subject::{
    DLQ_REASON_HEADER, DLQ_SEQUENCE_HEADER, DLQ_SUBJECT_HEADER, StreamName, Subject, msg_id_dlq,
};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Bus, PublishError, StoredMessage};
use crate::context;

/// First pause before a message is sent again; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// Longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Longest reason that a dead letter carries, in characters.
const REASON_CHARS: usize = 1_000;

/// The server's promise that a fact is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// In which stream.
    pub stream: StreamName,
    /// At which place. For a duplicate: the place of the first copy.
    pub sequence: u64,
    /// Whether the server had it already, from an earlier attempt.
    pub duplicate: bool,
}

/// What the log must look like for a message to be appended (compare and set).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The last message on the same subject has this sequence number (0: there is none).
    LastOnSubject(u64),
    /// The last message of the whole stream has this sequence number. The strongest fence: any
    /// other writer's append makes ours fail.
    LastInStream(u64),
}

/// Publishes durable facts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    bus: Bus,
    limit: Duration,
    cancel: CancellationToken,
}

/// Why an attempt failed.
enum Trouble {
    /// It may help to send it again.
    Again(String),
    /// It will not.
    Final(PublishError),
}

impl Publisher {
    pub(super) fn new(bus: Bus, limit: Duration, cancel: CancellationToken) -> Self {
        Self { bus, limit, cancel }
    }

    /// Stores a fact; returns when the server has acked it.
    ///
    /// Whatever leaves the outcome open (no ack in time, a broken connection, a server that is
    /// still starting) is answered by sending the same message with the same id again, with growing
    /// pauses, until this publisher's limit is over. The trace context of the current span travels
    /// along. At most 256 acks are outstanding per connection; more callers wait.
    ///
    /// Cancel-safe in the sense of [`PublishError::Cancelled`]: the outcome is unknown.
    ///
    /// # Errors
    /// See [`PublishError`]; after `TimedOut` and `Cancelled` the message may still be stored.
    pub async fn publish(
        &self,
        subject: &Subject,
        msg_id: &str,
        payload: Bytes,
    ) -> Result<Ack, PublishError> {
        self.send(subject, msg_id, payload, None, HeaderMap::new())
            .await
    }

    /// Stores a fact only if the log is as expected. A repeated attempt whose first copy was stored
    /// is acked as a duplicate, it is no conflict with itself.
    ///
    /// # Errors
    /// [`PublishError::Conflict`] if another writer was faster; else as [`Self::publish`].
    pub async fn publish_cas(
        &self,
        subject: &Subject,
        msg_id: &str,
        payload: Bytes,
        expect: Expect,
    ) -> Result<Ack, PublishError> {
        self.send(subject, msg_id, payload, Some(expect), HeaderMap::new())
            .await
    }

    /// Keeps a message that could not be decoded, once, with the reason, and where it came from.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn dead_letter(
        &self,
        message: &StoredMessage,
        reason: &str,
    ) -> Result<Ack, PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(DLQ_SUBJECT_HEADER, message.subject.as_str());
        headers.insert(DLQ_SEQUENCE_HEADER, message.sequence.to_string());
        headers.insert(DLQ_REASON_HEADER, one_line(reason));
        let subject = Subject::Dlq(message.stream);
        let id = msg_id_dlq(message.stream, message.sequence);
        self.send(&subject, &id, message.payload.clone(), None, headers)
            .await
    }

    async fn send(
        &self,
        subject: &Subject,
        msg_id: &str,
        payload: Bytes,
        expect: Option<Expect>,
        mut headers: HeaderMap,
    ) -> Result<Ack, PublishError> {
        let text = subject.to_string();
        let Some(stream) = subject.stream() else {
            return Err(PublishError::NotDurable(text));
        };
        context::inject(&mut headers);
        let mut message = PublishMessage::build()
            .payload(payload.clone())
            .headers(headers)
            .message_id(msg_id)
            .expected_stream(stream.as_str());
        match expect {
            None => {}
            Some(Expect::LastOnSubject(n)) => message = message.expected_last_subject_sequence(n),
            Some(Expect::LastInStream(n)) => message = message.expected_last_sequence(n),
        }
        let outgoing = Outgoing {
            stream,
            subject: text,
            msg_id: msg_id.to_owned(),
            expect,
            message,
            bytes: payload.len(),
        };

        let deadline = Instant::now() + self.limit;
        let mut attempts = 0;
        let mut last = "the connection is down".to_owned();
        let mut pause = FIRST_PAUSE;
        loop {
            let timed_out = |attempts, last| PublishError::TimedOut {
                subject: outgoing.subject.clone(),
                limit: self.limit,
                attempts,
                last,
            };
            let cancelled = |attempts| PublishError::Cancelled {
                subject: outgoing.subject.clone(),
                attempts,
            };
            // Every arm may be cut: an attempt that is dropped leaves its outcome open, which is
            // what the errors of the other arms say.
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(cancelled(attempts)),
                () = tokio::time::sleep_until(deadline) => return Err(timed_out(attempts, last)),
                outcome = self.attempt(&outgoing, &mut attempts) => match outcome {
                    Ok(ack) => return Ok(ack),
                    Err(Trouble::Final(error)) => return Err(error),
                    Err(Trouble::Again(why)) => last = why,
                },
            }
            tracing::debug!(subject = %outgoing.subject, msg_id, attempts, %last, "sending again");
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(cancelled(attempts)),
                () = tokio::time::sleep_until(deadline) => return Err(timed_out(attempts, last)),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    async fn attempt(&self, outgoing: &Outgoing, attempts: &mut u32) -> Result<Ack, Trouble> {
        // While it is down the client would take the message, say Ok, and deliver it after the
        // reconnect, however often we send it.
        let link = self.bus.connected().await;
        let mut denials = self.bus.monitor.denials.subscribe();
        *attempts += 1;
        let acked = async {
            self.bus
                .jetstream
                .send_publish(outgoing.subject.clone(), outgoing.message.clone())
                .await?
                .await
        };
        let result = tokio::select! {
            biased;
            result = acked => result,
            reason = denied(&mut denials, &outgoing.subject) => {
                let subject = outgoing.subject.clone();
                return Err(Trouble::Final(PublishError::Denied { subject, reason }));
            }
            // No ack can come over a new connection; waiting for the timeout is time lost.
            () = self.bus.broken_since(link) => {
                return Err(Trouble::Again("the connection broke before the ack".to_owned()));
            }
        };
        let outcome = match result {
            Ok(ack) => Ok(Ack {
                stream: outgoing.stream,
                sequence: ack.sequence,
                duplicate: ack.duplicate,
            }),
            Err(error) => match classify(outgoing, &error) {
                Trouble::Final(conflict @ PublishError::Conflict { .. }) => self
                    .own_copy(outgoing)
                    .await?
                    .ok_or(Trouble::Final(conflict)),
                trouble => Err(trouble),
            },
        };
        let full = matches!(outcome, Err(Trouble::Final(PublishError::Storage { .. })));
        if full || outcome.is_ok() {
            self.bus.monitor.storage_full.store(full, Ordering::Relaxed);
        }
        outcome
    }

    /// The place of our own message, if it is what stands where we wanted to append.
    ///
    /// The server looks at the expectation before the message id, so a repeated attempt whose first
    /// copy was stored is answered with a conflict: with itself.
    async fn own_copy(&self, outgoing: &Outgoing) -> Result<Option<Ack>, Trouble> {
        let again = |error: &dyn std::error::Error| Trouble::Again(error.to_string());
        let stream = self
            .bus
            .jetstream
            .get_stream_no_info(outgoing.stream.as_str())
            .await
            .map_err(|error| again(&error))?;
        let place = stream.raw_message_builder();
        let found = match outgoing.expect {
            None => return Ok(None),
            Some(Expect::LastInStream(n)) => place.sequence(n + 1).send().await,
            Some(Expect::LastOnSubject(n)) => {
                place
                    .sequence(n + 1)
                    .next_by_subject(&outgoing.subject)
                    .send()
                    .await
            }
        };
        match found {
            Ok(message) => {
                let id = message.headers.get(NATS_MESSAGE_ID);
                let ours = id.is_some_and(|id| id.as_str() == outgoing.msg_id);
                Ok(ours.then_some(Ack {
                    stream: outgoing.stream,
                    sequence: message.sequence,
                    duplicate: true,
                }))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(again(&error)),
        }
    }
}

/// A message with all that is needed to send it again.
struct Outgoing {
    stream: StreamName,
    subject: String,
    msg_id: String,
    expect: Option<Expect>,
    message: PublishMessage,
    bytes: usize,
}

/// Waits for the server's refusal of this very subject. It comes beside the ack, as an event.
async fn denied(denials: &mut broadcast::Receiver<String>, subject: &str) -> String {
    let quoted = format!("\"{subject}\"");
    loop {
        match denials.recv().await {
            Ok(words) if words.contains(&quoted) => return words,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn classify(outgoing: &Outgoing, error: &jetstream::context::PublishError) -> Trouble {
    let stream = outgoing.stream;
    let reason = error.to_string();
    match error.kind() {
        PublishErrorKind::WrongLastSequence => {
            return Trouble::Final(PublishError::Conflict { stream, reason });
        }
        PublishErrorKind::MaxPayloadExceeded => {
            let bytes = outgoing.bytes;
            return Trouble::Final(PublishError::TooLarge {
                stream,
                bytes,
                reason,
            });
        }
        // Nobody takes the subject: the server is still opening its streams, or has none.
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => return Trouble::Again(reason),
        PublishErrorKind::WrongLastMessageId | PublishErrorKind::Other => {}
    }
    let Some(answer) = error
        .source()
        .and_then(|s| s.downcast_ref::<jetstream::Error>())
    else {
        return Trouble::Again(reason);
    };
    match answer.error_code() {
        ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => {
            Trouble::Final(PublishError::Storage { stream, reason })
        }
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
            let bytes = outgoing.bytes;
            Trouble::Final(PublishError::TooLarge {
                stream,
                bytes,
                reason,
            })
        }
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            Trouble::Final(PublishError::Conflict { stream, reason })
        }
        // 5xx says "not now" (no leader, starting, shutting down).
        _ if answer.code() >= 500 => Trouble::Again(reason),
        _ => Trouble::Final(PublishError::Refused { stream, reason }),
    }
}

/// A header value may hold no line break.
fn one_line(text: &str) -> String {
    text.chars()
        .take(REASON_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
