//! Telemetry batches.
//!
//! The node in the message and the one in the subject must agree; [`decode_batch`] checks it, and
//! the subject is right.

use chimera_domain::ids::NodeId;
use chimera_domain::telemetry as d;
use chimera_domain::units::MonoNs;
use prost::Message as _;

use crate::common::{convert, enum_twins, enumeration, finite, id, number, required};
use crate::error::WireError;
use crate::pb;
use crate::pb::probe_status::State;
use crate::pb::telemetry_source::Source;

mod gpu;
mod host;

enum_twins!(d::GapReason {
    GpuLost,
    ResetRequired,
    DriverReset,
    DriverError,
    ReadFailed,
    Stalled,
    QueueFull,
    PublishFailed,
});
enum_twins!(d::Absence {
    NoLibrary,
    NoDriver,
    NoDevice,
    NotSupported,
    NoPermission,
    TooOld,
    Unreadable,
    Disabled,
});

enum_twins!(d::TelemetryField {
    Cpu,
    Memory,
    Load,
    Pressure,
    GpuUtilisation,
    GpuMemory,
    GpuProcesses,
    Power,
    Energy,
    SmClock,
    MemoryClock,
    ThrottleReasons,
    PcieRx,
    PcieTx,
    Temperature,
    GpuMemoryDetail,
    GpuProcessUtilisation,
    Ecc,
    GpuErrors,
    RunDelay,
    MemoryTraffic,
    BusyOthers,
});

/// A batch as the payload of a bus message. The same batch always gives the same bytes.
#[must_use]
pub fn encode_batch(batch: &d::TelemetryBatch) -> Vec<u8> {
    pb::TelemetryBatch::from(batch).encode_to_vec()
}

/// A batch from the payload of a message that came on the subject of `node`.
///
/// # Errors
/// When the bytes are no batch, or one of another node.
pub fn decode_batch(node: &NodeId, payload: &[u8]) -> Result<d::TelemetryBatch, WireError> {
    let message = pb::TelemetryBatch::decode(payload).map_err(|source| WireError::Malformed {
        message: "TelemetryBatch",
        source,
    })?;
    let batch = d::TelemetryBatch::try_from(message)?;
    if batch.node != *node {
        return Err(WireError::OutOfRange {
            field: "TelemetryBatch.node_id",
            why: "is not the node of the subject it came on",
        });
    }
    Ok(batch)
}

/// What names a sampler's run in [`crate::subject::msg_id_tel`]: new for every start of a sampler.
#[must_use]
pub fn sampler_session(batch: &d::TelemetryBatch) -> String {
    format!("{}-{}", batch.clock.boot_id.0, batch.sampler_started.0)
}

fn finite_opt(value: Option<f64>, field: &'static str) -> Result<Option<f64>, WireError> {
    value.map(|value| finite(value, field)).transpose()
}

fn all<P, D>(list: Vec<P>) -> Result<Vec<D>, WireError>
where
    D: TryFrom<P, Error = WireError>,
{
    list.into_iter().map(D::try_from).collect()
}

impl From<&d::TelemetryBatch> for pb::TelemetryBatch {
    fn from(v: &d::TelemetryBatch) -> Self {
        Self {
            node_id: v.node.to_string(),
            sampler_started_mono_ns: v.sampler_started.0,
            seq: v.seq,
            clock: Some((&v.clock).into()),
            period_ns: v.period_ns,
            gpus: v.gpus.iter().map(Into::into).collect(),
            probes: v.probes.iter().map(Into::into).collect(),
            samples: v.samples.iter().map(Into::into).collect(),
            gaps: v.gaps.iter().map(Into::into).collect(),
            gpu_errors: v.gpu_errors.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::TelemetryBatch> for d::TelemetryBatch {
    type Error = WireError;
    fn try_from(v: pb::TelemetryBatch) -> Result<Self, WireError> {
        Ok(Self {
            node: id(v.node_id, "TelemetryBatch.node_id")?,
            sampler_started: MonoNs(v.sampler_started_mono_ns),
            seq: v.seq,
            clock: convert(v.clock, "TelemetryBatch.clock")?,
            period_ns: v.period_ns,
            gpus: all(v.gpus)?,
            probes: all(v.probes)?,
            samples: all(v.samples)?,
            gaps: all(v.gaps)?,
            gpu_errors: v.gpu_errors.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&d::Sample> for pb::TelemetrySample {
    fn from(v: &d::Sample) -> Self {
        Self {
            at_mono_ns: v.at.0,
            took_ns: v.took_ns,
            host: Some((&v.host).into()),
            processes: v.processes.iter().map(Into::into).collect(),
            gpus: v.gpus.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::TelemetrySample> for d::Sample {
    type Error = WireError;
    fn try_from(v: pb::TelemetrySample) -> Result<Self, WireError> {
        Ok(Self {
            at: MonoNs(v.at_mono_ns),
            took_ns: v.took_ns,
            host: convert(v.host, "TelemetrySample.host")?,
            processes: all(v.processes)?,
            gpus: all(v.gpus)?,
        })
    }
}

impl From<&d::Source> for pb::TelemetrySource {
    fn from(v: &d::Source) -> Self {
        let nothing = pb::Nothing {};
        Self {
            source: Some(match v {
                d::Source::Sampler => Source::Sampler(nothing),
                d::Source::Host => Source::Host(nothing),
                d::Source::Processes => Source::Processes(nothing),
                d::Source::Gpus => Source::Gpus(nothing),
                d::Source::Gpu(uuid) => Source::GpuUuid(uuid.0.clone()),
            }),
        }
    }
}

impl TryFrom<pb::TelemetrySource> for d::Source {
    type Error = WireError;
    fn try_from(v: pb::TelemetrySource) -> Result<Self, WireError> {
        Ok(match required(v.source, "TelemetrySource.source")? {
            Source::Sampler(_) => Self::Sampler,
            Source::Host(_) => Self::Host,
            Source::Processes(_) => Self::Processes,
            Source::Gpus(_) => Self::Gpus,
            Source::GpuUuid(uuid) => Self::Gpu(d::GpuUuid(uuid)),
        })
    }
}

impl From<&d::Gap> for pb::TelemetryGap {
    fn from(v: &d::Gap) -> Self {
        Self {
            from_mono_ns: v.from.0,
            to_mono_ns: v.to.0,
            source: Some((&v.source).into()),
            reason: number::<pb::GapReason, _>(v.reason),
            detail: v.detail.clone(),
        }
    }
}

impl TryFrom<pb::TelemetryGap> for d::Gap {
    type Error = WireError;
    fn try_from(v: pb::TelemetryGap) -> Result<Self, WireError> {
        Ok(Self {
            from: MonoNs(v.from_mono_ns),
            to: MonoNs(v.to_mono_ns),
            source: convert(v.source, "TelemetryGap.source")?,
            reason: enumeration::<pb::GapReason, _>(v.reason, "TelemetryGap.reason")?,
            detail: v.detail,
        })
    }
}

impl From<&d::ProbeStatus> for pb::ProbeStatus {
    fn from(v: &d::ProbeStatus) -> Self {
        let state = match &v.state {
            d::ProbeState::Measured { missing } => State::Measured(pb::ProbeMeasured {
                missing: missing
                    .iter()
                    .map(|missing| pb::MissingTelemetryField {
                        field: number::<pb::TelemetryField, _>(missing.field),
                        reason: number::<pb::Absence, _>(missing.reason),
                    })
                    .collect(),
            }),
            d::ProbeState::NotMeasured { reason, detail } => {
                State::NotMeasured(pb::ProbeNotMeasured {
                    reason: number::<pb::Absence, _>(*reason),
                    detail: detail.clone(),
                })
            }
        };
        Self {
            source: Some((&v.source).into()),
            state: Some(state),
        }
    }
}

impl TryFrom<pb::ProbeStatus> for d::ProbeStatus {
    type Error = WireError;
    fn try_from(v: pb::ProbeStatus) -> Result<Self, WireError> {
        let state = match required(v.state, "ProbeStatus.state")? {
            State::Measured(v) => d::ProbeState::Measured {
                missing: all(v.missing)?,
            },
            State::NotMeasured(v) => d::ProbeState::NotMeasured {
                reason: enumeration::<pb::Absence, _>(v.reason, "ProbeNotMeasured.reason")?,
                detail: v.detail,
            },
        };
        Ok(Self {
            source: convert(v.source, "ProbeStatus.source")?,
            state,
        })
    }
}

impl TryFrom<pb::MissingTelemetryField> for d::MissingField {
    type Error = WireError;
    fn try_from(v: pb::MissingTelemetryField) -> Result<Self, WireError> {
        Ok(Self {
            field: enumeration::<pb::TelemetryField, _>(v.field, "MissingTelemetryField.field")?,
            reason: enumeration::<pb::Absence, _>(v.reason, "MissingTelemetryField.reason")?,
        })
    }
}

#[cfg(test)]
mod tests;
