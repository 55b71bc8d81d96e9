//! The streams and what they must keep.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use chimera_wire::subject::StreamName;

use super::{Bus, BusError};

const MIB: u64 = 1024 * 1024;
/// Within this time the server itself drops a message whose id it has seen. Only an optimisation:
/// readers know a copy by its place in the agent's record for ever.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);
/// What a dead letter's headers add to the message that it holds.
const DLQ_HEADROOM: u64 = 16 * 1024;

/// How large the streams may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLimits {
    /// Control log, bytes.
    pub ctrl_bytes: u64,
    /// Agent records, bytes.
    pub ev_bytes: u64,
    /// Telemetry, bytes.
    pub tel_bytes: u64,
    /// Dead letters, bytes.
    pub dlq_bytes: u64,
    /// Largest message, headers included, bytes.
    pub message_bytes: u64,
    /// Copies in a cluster: 1, 3 or 5.
    pub replicas: usize,
}

impl StreamLimits {
    /// Shares out 70 % of a server's `max_file_store`, so that a stream's clean refusal comes
    /// before the server's, and that before a full disk.
    #[must_use]
    pub fn within(max_file_store: u64) -> Self {
        let percent = |n: u64| max_file_store / 100 * n;
        Self {
            ctrl_bytes: percent(10),
            ev_bytes: percent(35),
            tel_bytes: percent(20),
            dlq_bytes: percent(5),
            message_bytes: 4 * MIB,
            replicas: 1,
        }
    }

    fn bytes(&self, stream: StreamName) -> u64 {
        match stream {
            StreamName::Ctrl => self.ctrl_bytes,
            StreamName::Ev => self.ev_bytes,
            StreamName::Tel => self.tel_bytes,
            StreamName::Dlq => self.dlq_bytes,
        }
    }

    fn config(&self, stream: StreamName) -> Config {
        let message_bytes = match stream {
            StreamName::Dlq => self.message_bytes + DLQ_HEADROOM,
            _ => self.message_bytes,
        };
        Config {
            name: stream.as_str().to_owned(),
            subjects: vec![stream.filter().to_string()],
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            // The default (old) acks new messages and silently forgets old ones.
            discard: DiscardPolicy::New,
            max_bytes: i64::try_from(self.bytes(stream)).unwrap_or(i64::MAX),
            max_message_size: i32::try_from(message_bytes).unwrap_or(i32::MAX),
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            duplicate_window: DUPLICATE_WINDOW,
            num_replicas: self.replicas,
            allow_direct: true,
            ..Config::default()
        }
    }
}

impl Default for StreamLimits {
    /// For a server with a `max_file_store` of 1 GiB.
    fn default() -> Self {
        Self::within(1024 * MIB)
    }
}

/// What [`Bus::ensure_streams`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Which stream.
    pub stream: StreamName,
    /// Whether it was created just now.
    pub created: bool,
    /// Settings that differ from what was asked for without putting records at risk (sizes,
    /// copies), each as `setting: found X, asked Y`.
    pub differences: Vec<String>,
}

impl Bus {
    /// Creates the streams that are missing and checks those that exist. Never changes one.
    ///
    /// # Errors
    /// When a stream cannot be created, or exists with settings that would lose records.
    pub async fn ensure_streams(
        &self,
        limits: &StreamLimits,
    ) -> Result<Vec<StreamState>, BusError> {
        let mut states = Vec::with_capacity(StreamName::ALL.len());
        for stream in StreamName::ALL {
            let state = self.ensure_stream(stream, limits).await?;
            if state.created {
                tracing::info!(%stream, "stream created");
            }
            for difference in &state.differences {
                tracing::warn!(%stream, %difference, "the stream differs from what is asked for");
            }
            states.push(state);
        }
        Ok(states)
    }

    async fn ensure_stream(
        &self,
        stream: StreamName,
        limits: &StreamLimits,
    ) -> Result<StreamState, BusError> {
        let wanted = limits.config(stream);
        let failed = |error: &dyn std::error::Error| BusError::Stream {
            stream,
            reason: error.to_string(),
        };
        // Two processes may come here at once: what counts is what exists afterwards.
        let before = self.jetstream.get_stream(stream.as_str()).await;
        let created = match &before {
            Ok(_) => false,
            Err(error) if super::read::is_missing(error) => true,
            Err(error) => return Err(failed(error)),
        };
        let found = match before {
            Ok(found) => found,
            Err(_) => self
                .jetstream
                .get_or_create_stream(wanted.clone())
                .await
                .map_err(|error| failed(&error))?,
        };
        let (fatal, differences) = compare(&found.cached_info().config, &wanted);
        if !fatal.is_empty() {
            return Err(BusError::StreamDiffers {
                stream,
                differences: fatal,
            });
        }
        Ok(StreamState {
            stream,
            created,
            differences,
        })
    }
}

/// (settings that would lose records, others).
fn compare(found: &Config, wanted: &Config) -> (Vec<String>, Vec<String>) {
    let mut fatal = Vec::new();
    let mut other = Vec::new();
    macro_rules! same {
        ($list:ident, $field:ident) => {
            if found.$field != wanted.$field {
                let (found, wanted) = (&found.$field, &wanted.$field);
                $list.push(format!(
                    "{}: found {found:?}, need {wanted:?}",
                    stringify!($field)
                ));
            }
        };
    }
    same!(fatal, subjects);
    same!(fatal, storage);
    same!(fatal, retention);
    same!(fatal, discard);
    same!(fatal, no_ack);
    same!(fatal, max_age);
    same!(fatal, max_messages);
    same!(fatal, max_messages_per_subject);
    same!(other, max_bytes);
    same!(other, max_message_size);
    same!(other, duplicate_window);
    same!(other, num_replicas);
    (fatal, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_leave_room_below_the_servers_limit() {
        let limits = StreamLimits::within(1_000 * MIB);
        let sum: u64 = StreamName::ALL
            .iter()
            .map(|stream| limits.bytes(*stream))
            .sum();
        assert!(sum <= 700 * MIB, "{sum}");
    }

    #[test]
    fn what_loses_records_is_fatal_and_sizes_are_not() {
        let wanted = StreamLimits::default().config(StreamName::Ev);
        let found = Config {
            discard: DiscardPolicy::Old,
            max_age: Duration::from_secs(60),
            max_bytes: 1,
            ..wanted.clone()
        };
        let (fatal, other) = compare(&found, &wanted);
        assert_eq!(fatal.len(), 2, "{fatal:?}");
        assert!(
            other.len() == 1 && other[0].starts_with("max_bytes: found 1"),
            "{other:?}"
        );
        assert_eq!(compare(&wanted, &wanted), (vec![], vec![]));
    }
}
