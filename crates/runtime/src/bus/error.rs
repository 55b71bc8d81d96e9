//! What can go wrong on the bus, by what a caller can do about it.

use std::path::PathBuf;
use std::time::Duration;

use chimera_wire::subject::StreamName;
use thiserror::Error;

/// Why the bus cannot be used at all.
#[derive(Debug, Error)]
pub enum BusError {
    /// Nothing answered.
    #[error(
        "no NATS server answered at {url} within {limit:?}: start one (`chimera up`), or give \
         another address with --nats-url"
    )]
    Unreachable {
        /// Where, without credentials.
        url: String,
        /// How long was tried.
        limit: Duration,
        /// The last error.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server knows us not.
    #[error(
        "the NATS server at {url} refused our credentials: check --nats-creds-file, \
         --nats-nkey-seed-file or --nats-token-file"
    )]
    Unauthorized {
        /// Where, without credentials.
        url: String,
        /// The server's words.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The address cannot be right.
    #[error("'{url}' is not usable as a NATS address: write it like nats://127.0.0.1:4222")]
    BadServer {
        /// What was given, without credentials.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The credentials file cannot be read.
    #[error("cannot read the NATS credentials file '{}'", path.display())]
    Credentials {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A subscription was refused.
    #[error("cannot subscribe")]
    Subscribe(#[source] async_nats::SubscribeError),
    /// A stream could not be created or looked up.
    #[error(
        "cannot set up the stream {stream}: {reason}; the server needs JetStream enabled and a \
         max_file_store that holds the streams' sizes"
    )]
    Stream {
        /// Which stream.
        stream: StreamName,
        /// The server's words.
        reason: String,
    },
    /// A stream exists, but would not keep what we rely on.
    #[error(
        "the stream {stream} exists with settings that would lose or refuse records ({}): delete it \
         or correct it with the nats tool",
        differences.join("; ")
    )]
    StreamDiffers {
        /// Which stream.
        stream: StreamName,
        /// Each as `setting: found X, need Y`.
        differences: Vec<String>,
    },
}

/// Why a fact was not stored, or may not have been.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The server has no room (limit of the stream or of the server, error 10077, 10023 or 10047).
    /// Nothing was stored. Trying again helps only after space was made.
    #[error(
        "the bus has no room on {stream} ({reason}): free space, or raise the stream's max_bytes \
         and the server's max_file_store"
    )]
    Storage {
        /// Which stream.
        stream: StreamName,
        /// The server's words.
        reason: String,
    },
    /// Another writer was faster ([`super::Expect`]). Nothing was stored.
    #[error("the log on {stream} has moved on: another writer is active ({reason})")]
    Conflict {
        /// Which stream.
        stream: StreamName,
        /// The server's words.
        reason: String,
    },
    /// Larger than the stream or the server takes. Nothing was stored; trying again is useless.
    #[error("a message of {bytes} bytes is too large for {stream} ({reason})")]
    TooLarge {
        /// Which stream.
        stream: StreamName,
        /// Size of the payload.
        bytes: usize,
        /// The limit, in words.
        reason: String,
    },
    /// We have no right to publish there. Nothing was stored.
    #[error("not allowed to publish on {subject}: {reason}")]
    Denied {
        /// Where.
        subject: String,
        /// The server's words.
        reason: String,
    },
    /// Refused for another reason. Nothing was stored.
    #[error("the server refused a message for {stream}: {reason}")]
    Refused {
        /// Which stream.
        stream: StreamName,
        /// The server's words.
        reason: String,
    },
    /// No ack within the limit. Whether it was stored is **unknown**: send it again with the same
    /// id, or treat it as not known; never count it as lost or as stored.
    #[error(
        "no ack from the bus for {subject} within {limit:?} ({attempts} attempts; last: {last}): \
         is the NATS server up, and does the stream exist?"
    )]
    TimedOut {
        /// Where.
        subject: String,
        /// The caller's limit.
        limit: Duration,
        /// How often it was sent.
        attempts: u32,
        /// Why the last attempt failed.
        last: String,
    },
    /// The caller cancelled. Whether it was stored is **unknown** if `attempts` is above 0.
    #[error("publishing on {subject} was cancelled after {attempts} attempts")]
    Cancelled {
        /// Where.
        subject: String,
        /// How often it was sent.
        attempts: u32,
    },
    /// The subject is for display and kept by no stream: use [`super::Bus::live`].
    #[error("{0} is kept by no stream")]
    NotDurable(String),
}

impl PublishError {
    /// Closed label for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Storage { .. } => "storage",
            Self::Conflict { .. } => "conflict",
            Self::TooLarge { .. } => "too_large",
            Self::Denied { .. } => "denied",
            Self::Refused { .. } => "refused",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
            Self::NotDurable(_) => "not_durable",
        }
    }
}

/// Why reading a stream ended.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The server could not be read from for too long.
    #[error("the stream {stream} could not be read for {limit:?} (last: {last}): is NATS up?")]
    Unavailable {
        /// Which stream.
        stream: StreamName,
        /// How long was tried.
        limit: Duration,
        /// Why the last try failed.
        last: String,
    },
    /// The stream does not exist.
    #[error("the stream {0} does not exist: start the coordinator, which creates it")]
    NoStream(StreamName),
    /// The stream is shorter than what was already read from it: the server lost data.
    #[error(
        "the stream {stream} lost data: {read} was read already, but it now ends at {last}; restore \
         the server's store, or treat the runs concerned as lost"
    )]
    HistoryLost {
        /// Which stream.
        stream: StreamName,
        /// The last sequence number that was read.
        read: u64,
        /// Where the stream ends now.
        last: u64,
    },
}
