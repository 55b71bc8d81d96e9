//! From an agent's records to the bus: numbered, spooled and synced, published in order, each
//! publish acknowledged, and at the end the count and the hash of all of it.
//!
//! Two stages with a bounded queue between them, so that records reach the disk also while the
//! bus is away.

use std::path::PathBuf;

use chimera_domain::event::{AgentEvent, AgentRecord, End};
use chimera_domain::ids::AgentKey;
use chimera_runtime::bus::{PublishError, Publisher};
use chimera_wire::codec::{self, StreamHash};
use chimera_wire::subject::{self, Subject};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::job::RECORD_CAPACITY;
use crate::spool::{Spool, SpoolError};

/// What the stream amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// Records between begin and end.
    pub(crate) records: u64,
    /// Hash over the payloads of begin and all records.
    pub(crate) sha256: String,
}

/// Why a stream could not be kept.
#[derive(Debug, Error)]
pub(crate) enum RecordError {
    /// The local disk refused.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The bus refused, or did not come back in time.
    #[error("record {n} could not be published; it is kept in {spool}")]
    Publish {
        /// Which.
        n: u64,
        /// Where it is.
        spool: PathBuf,
        /// Why.
        #[source]
        source: PublishError,
    },
    /// The disk's thread is gone.
    #[error("the spool's thread ended early")]
    Lost,
}

/// A recorded stream; its spool is kept until the leg is closed.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// Count and hash.
    pub(crate) end: StreamEnd,
    /// The local copy.
    pub(crate) spool: Spool,
}

struct Payload {
    n: u64,
    bytes: Vec<u8>,
}

/// Records one stream from its begin to its end: until `records` is closed and empty.
///
/// # Errors
/// When a record could be kept neither here nor there. The rest is then not published: the stream
/// has no end and cannot pass for whole.
pub(crate) async fn record(
    publisher: Publisher,
    spool_dir: PathBuf,
    key: AgentKey,
    epoch: u64,
    records: mpsc::Receiver<AgentRecord>,
) -> Result<Recorded, RecordError> {
    let (queue, spooled) = mpsc::channel(RECORD_CAPACITY);
    let disk = {
        let key = key.clone();
        // Syncing blocks, so it has a thread; it ends with the agent's queue.
        tokio::task::spawn_blocking(move || spool_all(&spool_dir, &key, epoch, records, &queue))
    };
    let published = publish_all(&publisher, &key, spooled).await;
    let (end, spool) = disk.await.map_err(|_| RecordError::Lost)??;
    published.map_err(|(n, source)| RecordError::Publish {
        n,
        spool: spool.path().to_owned(),
        source,
    })?;
    Ok(Recorded { end, spool })
}

fn spool_all(
    dir: &std::path::Path,
    key: &AgentKey,
    epoch: u64,
    mut records: mpsc::Receiver<AgentRecord>,
    queue: &mpsc::Sender<Payload>,
) -> Result<(StreamEnd, Spool), SpoolError> {
    let mut spool = Spool::create(dir, key)?;
    let mut hash = StreamHash::new();
    let mut n = 0u64;
    let mut keep = |n: u64, record: AgentRecord, hash: Option<&mut StreamHash>| {
        let event = AgentEvent {
            key: key.clone(),
            epoch,
            n,
            record,
        };
        let bytes = codec::encode_agent_event(&event);
        if let Some(hash) = hash {
            hash.push_payload(&bytes);
        }
        spool.append(&bytes)?;
        // The publisher is gone only after it failed; the spool is then the only copy.
        if queue.blocking_send(Payload { n, bytes }).is_err() {
            tracing::debug!(n, "kept in the spool only");
        }
        Ok::<(), SpoolError>(())
    };
    while let Some(record) = records.blocking_recv() {
        keep(n, record, Some(&mut hash))?;
        n += 1;
    }
    let end = StreamEnd {
        records: n.saturating_sub(1),
        sha256: hash.to_hex(),
    };
    let record = End {
        records: end.records,
        sha256: end.sha256.clone(),
    };
    keep(n, AgentRecord::End(record), None)?;
    Ok((end, spool))
}

async fn publish_all(
    publisher: &Publisher,
    key: &AgentKey,
    mut spooled: mpsc::Receiver<Payload>,
) -> Result<(), (u64, PublishError)> {
    let subject = Subject::Ev(key.clone());
    while let Some(Payload { n, bytes }) = spooled.recv().await {
        let id = subject::msg_id_agent(key, n);
        publisher
            .publish(&subject, &id, bytes.into())
            .await
            .map_err(|source| (n, source))?;
        // What a lost acknowledged record would be proved by.
        tracing::debug!(%subject, n, "acknowledged");
    }
    Ok(())
}
