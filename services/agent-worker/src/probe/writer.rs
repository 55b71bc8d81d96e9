//! One JSON line per request, written by a thread of its own.

use std::io::{self, BufWriter, Write};
use std::thread::JoinHandle;

use chimera_domain::event::RequestRecord;
use chimera_domain::latency::{e2e_ns, output_tokens, ttft_ns};
use chimera_domain::units::MonoNs;
use serde::{Serialize, Serializer};
use tokio::sync::mpsc;

use super::summary::Tally;

/// One request as other tools read it; `null`: not measured.
#[derive(Debug, Serialize)]
pub(super) struct ProbeLine<'a> {
    x_request_id: &'a str,
    /// Send to first content.
    ttft_ns: Option<u64>,
    /// Send to last content; null if the request failed, since its last content then is not its end.
    e2e_ns: Option<u64>,
    /// By the engine's count; where it states none, chunks with content.
    tokens: Option<u32>,
    /// Each chunk's receipt, microseconds after the send, rounded down.
    #[serde(serialize_with = "micros")]
    token_us: &'a [u64],
    /// The send, on this host's monotonic clock.
    start_mono_ns: MonoNs,
    /// Class of the failure.
    error: Option<&'static str>,
    /// The failure in words.
    error_detail: Option<&'a str>,
}

impl<'a> ProbeLine<'a> {
    pub(super) fn of(record: &'a RequestRecord) -> Self {
        let failed = record.error.as_ref();
        Self {
            x_request_id: record.request_id.as_str(),
            ttft_ns: ttft_ns(record),
            e2e_ns: e2e_ns(record).filter(|_| failed.is_none()),
            tokens: output_tokens(record).map(|(count, _)| count),
            token_us: &record.chunk_ns,
            start_mono_ns: record.sent,
            error: failed.map(|e| e.kind.as_str()),
            error_detail: failed.map(|e| e.detail.as_str()),
        }
    }
}

fn micros<S: Serializer>(ns: &&[u64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ns.iter().map(|ns| ns / 1000))
}

/// Starts the thread; it ends when all senders are gone, or with the first failed write.
pub(super) fn start(
    sink: impl Write + Send + 'static,
    mut records: mpsc::Receiver<RequestRecord>,
) -> io::Result<JoinHandle<io::Result<Tally>>> {
    std::thread::Builder::new()
        .name("probe-writer".to_owned())
        .spawn(move || {
            let mut out = BufWriter::new(sink);
            let mut tally = Tally::default();
            while let Some(record) = records.blocking_recv() {
                serde_json::to_writer(&mut out, &ProbeLine::of(&record))?;
                out.write_all(b"\n")?;
                tally.take(&record);
                if records.is_empty() {
                    // Nothing waits: let a reader of the file see whole lines.
                    out.flush()?;
                }
            }
            out.flush()?;
            Ok(tally)
        })
}
