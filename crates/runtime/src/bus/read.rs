//! Reading streams in order, without acks: for replays and for followers.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use chimera_wire::subject::{Filter, StreamName};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::time::Instant;

use super::{Bus, Link, ReadError};

/// Messages asked for at once. With 4 MiB messages at most, and kilobytes in practice, this bounds
/// what lies in memory.
const BATCH: i64 = 64;
/// First pause before a broken read starts over; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// A replay that hears nothing for so long, though messages are pending, starts over.
const STALL: Duration = Duration::from_secs(10);

/// A message as a stream keeps it.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// In which stream.
    pub stream: StreamName,
    /// Its place there. Rises from message to message, with gaps where a filter leaves some out.
    pub sequence: u64,
    /// Where it was published. Identity is read from here, never from the payload.
    pub subject: String,
    /// The id under which it was published.
    pub msg_id: Option<String>,
    /// Its content.
    pub payload: Bytes,
    /// Its headers; trace context among them, see [`crate::context::adopt`].
    pub headers: HeaderMap,
}

impl Bus {
    /// Everything that a stream holds now on `filter`, from sequence `from` (0 or 1: the start), in
    /// order; then the end. What is published after the call is left out.
    ///
    /// Survives a restart of the server. Dropping the stream ends the read.
    ///
    /// *Shape*: at most one `Err`, and then it is the last item.
    #[must_use]
    pub fn replay(
        &self,
        stream: StreamName,
        filter: &Filter,
        from: u64,
    ) -> BoxStream<'static, Result<StoredMessage, ReadError>> {
        self.read(stream, filter, from, true)
    }

    /// As [`Self::replay`], but goes on with what is published from now on, for ever.
    #[must_use]
    pub fn follow(
        &self,
        stream: StreamName,
        filter: &Filter,
        from: u64,
    ) -> BoxStream<'static, Result<StoredMessage, ReadError>> {
        self.read(stream, filter, from, false)
    }

    fn read(
        &self,
        name: StreamName,
        filter: &Filter,
        from: u64,
        finite: bool,
    ) -> BoxStream<'static, Result<StoredMessage, ReadError>> {
        let reader = Reader {
            bus: self.clone(),
            name,
            filter: filter.to_string(),
            next: from.max(1),
            read: None,
            end: if finite { End::AtCall } else { End::Never },
            source: None,
            failing_since: None,
            pause: FIRST_PAUSE,
        };
        stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next_message().await {
                Ok(Some(message)) => Some((Ok(message), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    /// The last message that a stream holds on `filter`; `None` if there is none. One request,
    /// without retry.
    ///
    /// # Errors
    /// When the server does not answer or has no such stream.
    pub async fn last(
        &self,
        name: StreamName,
        filter: &Filter,
    ) -> Result<Option<StoredMessage>, ReadError> {
        let failed = |last: String| ReadError::Unavailable {
            stream: name,
            limit: self.config.ack_timeout,
            last,
        };
        let stream = match self.jetstream.get_stream(name.as_str()).await {
            Ok(stream) => stream,
            Err(error) if is_missing(&error) => return Err(ReadError::NoStream(name)),
            Err(error) => return Err(failed(error.to_string())),
        };
        match stream
            .get_last_raw_message_by_subject(&filter.to_string())
            .await
        {
            Ok(message) => Ok(Some(StoredMessage {
                stream: name,
                sequence: message.sequence,
                subject: message.subject.to_string(),
                msg_id: message_id(&message.headers),
                payload: message.payload,
                headers: message.headers,
            })),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

fn message_id(headers: &HeaderMap) -> Option<String> {
    headers
        .get(NATS_MESSAGE_ID)
        .map(|id| id.as_str().to_owned())
}

/// Whether the server says that it has no such stream.
pub(super) fn is_missing(error: &GetStreamError) -> bool {
    matches!(
        error.kind(),
        GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND
    )
}

#[derive(Debug, Clone, Copy)]
enum End {
    Never,
    /// At what is the stream's last sequence number when the first request is answered.
    AtCall,
    At(u64),
}

struct Source {
    messages: Ordered,
    /// The link over which it reads. An ordered consumer that has not yet delivered anything would,
    /// when the library recreates it, start over from the *first* message of the stream; so we
    /// recreate it ourselves when the link breaks.
    link: Link,
}

struct Reader {
    bus: Bus,
    name: StreamName,
    filter: String,
    next: u64,
    read: Option<u64>,
    end: End,
    source: Option<Box<Source>>,
    failing_since: Option<Instant>,
    pause: Duration,
}

enum Trouble {
    Again(String),
    Final(ReadError),
}

impl Reader {
    async fn next_message(&mut self) -> Result<Option<StoredMessage>, ReadError> {
        if matches!(self.end, End::At(last) if self.next > last) {
            return Ok(None);
        }
        loop {
            let why = match self.try_next().await {
                Ok(found) => {
                    self.failing_since = None;
                    self.pause = FIRST_PAUSE;
                    return Ok(found);
                }
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Again(why)) => why,
            };
            self.source = None;
            let since = *self.failing_since.get_or_insert_with(Instant::now);
            let limit = self.bus.config.read_limit;
            if since.elapsed() >= limit {
                return Err(ReadError::Unavailable {
                    stream: self.name,
                    limit,
                    last: why,
                });
            }
            tracing::debug!(stream = %self.name, next = self.next, %why, "the read starts over");
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(MAX_PAUSE);
        }
    }

    async fn try_next(&mut self) -> Result<Option<StoredMessage>, Trouble> {
        loop {
            if self.source.is_none() {
                match self.open().await? {
                    Some(source) => self.source = Some(source),
                    None => return Ok(None),
                }
            }
            let Some(source) = self.source.as_mut() else {
                continue;
            };
            let stall = match self.end {
                // A follower may hear nothing for days.
                End::Never => None,
                End::AtCall | End::At(_) => Some(STALL),
            };
            let item = tokio::select! {
                biased;
                item = source.messages.next() => item,
                () = self.bus.broken_since(source.link) => {
                    return Err(Trouble::Again("the connection broke".to_owned()));
                }
                () = pause_or_never(stall) => {
                    return Err(Trouble::Again(format!("no message for {STALL:?}")));
                }
            };
            let message = match item {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(Trouble::Again(error.to_string())),
                None => return Err(Trouble::Again("the consumer ended".to_owned())),
            };
            let place = message
                .info()
                .map(|info| (info.stream_sequence, info.pending))
                .map_err(|error| Trouble::Again(format!("a message without its place: {error}")))?;
            let (sequence, pending) = place;
            if let End::At(last) = self.end {
                if sequence > last {
                    return Ok(None);
                }
                if pending == 0 {
                    self.end = End::At(sequence);
                }
            }
            // Delivered before: the library's own recreation may start too early.
            if sequence < self.next {
                continue;
            }
            self.next = sequence + 1;
            self.read = Some(sequence);
            return Ok(Some(self.stored(message, sequence)));
        }
    }

    /// A consumer from where we stand; `None` when there is nothing (more) to read.
    async fn open(&mut self) -> Result<Option<Box<Source>>, Trouble> {
        let link = tokio::time::timeout(self.bus.config.ack_timeout, self.bus.connected())
            .await
            .map_err(|_| Trouble::Again("the connection is down".to_owned()))?;
        let stream = match self.bus.jetstream.get_stream(self.name.as_str()).await {
            Ok(stream) => stream,
            // A server that is still opening its store may not know the stream yet; it is truly
            // missing only if it was never there for us.
            Err(error) if is_missing(&error) && self.read.is_none() => {
                return Err(Trouble::Final(ReadError::NoStream(self.name)));
            }
            Err(error) => return Err(Trouble::Again(error.to_string())),
        };
        let last = stream.cached_info().state.last_sequence;
        if let Some(read) = self.read
            && last < read
        {
            return Err(Trouble::Final(ReadError::HistoryLost {
                stream: self.name,
                read,
                last,
            }));
        }
        if matches!(self.end, End::AtCall) {
            self.end = End::At(last);
        }
        if matches!(self.end, End::At(last) if self.next > last) {
            return Ok(None);
        }
        let config = OrderedConfig {
            description: Some(format!("read by {}", self.bus.config.name)),
            filter_subject: self.filter.clone(),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.next,
            },
            max_batch: BATCH,
            ..OrderedConfig::default()
        };
        let consumer = stream
            .create_consumer(config)
            .await
            .map_err(|error| Trouble::Again(error.to_string()))?;
        let pending = consumer.cached_info().num_pending;
        if matches!(self.end, End::At(_)) && pending == 0 {
            return Ok(None);
        }
        let messages = consumer
            .messages()
            .await
            .map_err(|error| Trouble::Again(error.to_string()))?;
        Ok(Some(Box::new(Source { messages, link })))
    }

    fn stored(&self, message: jetstream::Message, sequence: u64) -> StoredMessage {
        let async_nats::Message {
            subject,
            payload,
            headers,
            ..
        } = message.message;
        let headers = headers.unwrap_or_default();
        StoredMessage {
            stream: self.name,
            sequence,
            subject: subject.to_string(),
            msg_id: message_id(&headers),
            payload,
            headers,
        }
    }
}

async fn pause_or_never(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}
