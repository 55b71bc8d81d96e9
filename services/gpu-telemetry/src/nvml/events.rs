//! Errors that a GPU reports by itself (Xid), listened for on a thread of their own.
//!
//! A set of events borrows the NVML that it came from, so both live on the stack of the thread; the
//! thread also says which GPU an event is of, even where that GPU has just fallen off the bus: each
//! has a set of its own.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use chimera_domain::telemetry::{Absence, GpuError, GpuUuid};
use chimera_runtime::clock;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;

use super::map::optional;

/// Time between two looks: the error bound of an event's instant.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one look waits at most, ms. The sets are looked at one after the other.
const WAIT_MS: u32 = 1;
/// Most events of one GPU taken in one look.
const MAX_AT_ONCE: usize = 16;
/// Events that may wait for a tick. A GPU that reports more in one has been lost; the rest is dropped
/// and logged, since the first ones name the cause.
const QUEUE: usize = 256;
/// How long to wait for the thread to begin, or to end: it never waits longer than its pause.
const LIMIT: Duration = Duration::from_millis(500);
/// What NVML calls an error without a number.
const UNKNOWN_XID: u64 = 999;

/// What the thread says.
#[derive(Debug)]
pub(super) enum Told {
    /// A GPU reported an error.
    Error(GpuError),
    /// Errors of this GPU are no longer heard of.
    Deaf(GpuUuid),
}

/// The thread; it ends when this is dropped.
pub(super) struct Watch {
    /// Dropped to stop it.
    stop: Option<SyncSender<()>>,
    told: Receiver<Told>,
    /// Closes when it has let go of NVML.
    ended: Receiver<()>,
}

impl Watch {
    /// Listens to `gpus` (index and identity); also why some cannot be listened to.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(
        nvml: &Arc<Nvml>,
        gpus: Vec<(u32, GpuUuid)>,
    ) -> io::Result<(Self, BTreeMap<GpuUuid, Absence>)> {
        let (stop, stopped) = sync_channel(0);
        let (first, began) = sync_channel(1);
        let (out, told) = sync_channel(QUEUE);
        let (done, ended) = sync_channel(0);
        let all: Vec<GpuUuid> = gpus.iter().map(|(_, uuid)| uuid.clone()).collect();
        let nvml = Arc::clone(nvml);
        std::thread::Builder::new()
            .name("gpu-events".to_owned())
            .spawn(move || {
                listen(&nvml, gpus, &first, &out, &stopped);
                // In this order: who waits for the end is about to shut NVML down.
                drop(nvml);
                drop::<SyncSender<()>>(done);
            })?;
        let cannot = began.recv_timeout(LIMIT).unwrap_or_else(|_| {
            let deaf = |uuid| (uuid, Absence::Unreadable);
            all.into_iter().map(deaf).collect()
        });
        let watch = Self {
            stop: Some(stop),
            told,
            ended,
        };
        Ok((watch, cannot))
    }

    /// What was told since the last time, in order.
    pub(super) fn take(&self) -> Vec<Told> {
        self.told.try_iter().take(QUEUE).collect()
    }

    /// Ends it, and gives what it heard last: why a GPU was lost is told as it is lost, and looking
    /// for that GPU ends this.
    pub(super) fn finish(mut self) -> Vec<Told> {
        self.end();
        self.take()
    }

    fn end(&mut self) {
        let running = self.stop.take().is_some();
        if running && self.ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the thread that listens to GPUs hangs in the driver; NVML stays initialised until it ends"
            );
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

fn listen(
    nvml: &Nvml,
    gpus: Vec<(u32, GpuUuid)>,
    first: &SyncSender<BTreeMap<GpuUuid, Absence>>,
    out: &SyncSender<Told>,
    stop: &Receiver<()>,
) {
    let mut sets = Vec::new();
    let mut cannot = BTreeMap::new();
    for (index, uuid) in gpus {
        match register(nvml, index) {
            Ok(set) => sets.push((uuid, set)),
            Err(error) => {
                tracing::debug!(gpu = %uuid, %error, "errors of a GPU cannot be listened for");
                cannot.insert(uuid, optional(&error));
            }
        }
    }
    if first.try_send(cannot).is_err() {
        return;
    }
    while !sets.is_empty() {
        sets.retain(|(uuid, set)| look(uuid, set, out));
        match stop.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                sets.retain(|(uuid, set)| look(uuid, set, out));
                return;
            }
        }
    }
}

fn register(nvml: &Nvml, index: u32) -> Result<EventSet<'_>, NvmlError> {
    let gpu = nvml.device_by_index(index)?;
    if !gpu
        .supported_event_types()?
        .contains(EventTypes::CRITICAL_XID_ERROR)
    {
        return Err(NvmlError::NotSupported);
    }
    let set = nvml.create_event_set()?;
    gpu.register_events(EventTypes::CRITICAL_XID_ERROR, set)
        .map_err(|error| error.error)
}

/// Takes what one GPU has reported; whether to look again.
fn look(uuid: &GpuUuid, set: &EventSet<'_>, out: &SyncSender<Told>) -> bool {
    for _ in 0..MAX_AT_ONCE {
        let told = match set.wait(WAIT_MS) {
            Ok(event) => {
                let Some(xid) = event.event_data else {
                    continue;
                };
                let xid = match xid {
                    XidError::Value(number) => number,
                    XidError::Unknown => UNKNOWN_XID,
                };
                tracing::warn!(gpu = %uuid, xid, "a GPU reported an error");
                Told::Error(GpuError {
                    at: clock::mono(),
                    uuid: uuid.clone(),
                    xid,
                })
            }
            Err(NvmlError::Timeout) => return true,
            Err(error) => {
                tracing::debug!(gpu = %uuid, %error, "errors of a GPU are no longer heard of");
                Told::Deaf(uuid.clone())
            }
        };
        let goes_on = matches!(told, Told::Error(_));
        match out.try_send(told) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(gpu = %uuid, "too many errors of GPUs at once; one was dropped");
            }
            Err(TrySendError::Disconnected(_)) => return false,
        }
        if !goes_on {
            return false;
        }
    }
    true
}
