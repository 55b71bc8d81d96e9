//! Agent records. Identity is not part of a message: it comes from the subject.

use chimera_domain::event as d;
use chimera_domain::units::MonoNs;

use crate::common::{convert, enum_twins, enumeration, id, number, opt_enumeration, required};
use crate::error::WireError;
use crate::pb;
use crate::pb::agent_record::Record;

mod engine;

enum_twins!(d::PinMoment { Before, After });
enum_twins!(d::FinishReason {
    Stop,
    Length,
    Other
});
enum_twins!(d::RequestErrorKind {
    Connect,
    ConnectTimeout,
    FirstByteTimeout,
    GapTimeout,
    TotalTimeout,
    Status,
    ModelNotFound,
    StreamError,
    CutStream,
    NoDone,
    AfterDone,
    Malformed,
    LineTooLong,
    Truncated,
    Cancelled,
});

impl From<&d::AgentRecord> for pb::AgentRecord {
    fn from(v: &d::AgentRecord) -> Self {
        Self {
            record: Some(match v {
                d::AgentRecord::Begin(v) => Record::Begin(v.into()),
                d::AgentRecord::Pin(v) => Record::Pin(v.into()),
                d::AgentRecord::Started(v) => Record::Started(v.into()),
                d::AgentRecord::Local(v) => Record::Local(v.into()),
                d::AgentRecord::Request(v) => Record::Request(v.into()),
                d::AgentRecord::Output(v) => Record::Output(v.into()),
                d::AgentRecord::Engine(v) => Record::Engine(v.into()),
                d::AgentRecord::Finished(v) => Record::Finished(v.into()),
                d::AgentRecord::End(v) => Record::End(v.into()),
            }),
        }
    }
}

impl TryFrom<pb::AgentRecord> for d::AgentRecord {
    type Error = WireError;
    fn try_from(v: pb::AgentRecord) -> Result<Self, WireError> {
        Ok(match required(v.record, "AgentRecord.record")? {
            Record::Begin(v) => Self::Begin(v.try_into()?),
            Record::Pin(v) => Self::Pin(v.try_into()?),
            Record::Started(v) => Self::Started(v.into()),
            Record::Local(v) => Self::Local(v.into()),
            Record::Request(v) => Self::Request(v.try_into()?),
            Record::Output(v) => Self::Output(v.into()),
            Record::Engine(v) => Self::Engine(v.try_into()?),
            Record::Finished(v) => Self::Finished(v.try_into()?),
            Record::End(v) => Self::End(v.into()),
        })
    }
}

impl From<&d::Begin> for pb::Begin {
    fn from(v: &d::Begin) -> Self {
        Self {
            worker: v.worker.to_string(),
            instance: v.instance.to_string(),
            role: v.role.to_string(),
            clock: Some((&v.clock).into()),
            options: Some((&v.options).into()),
        }
    }
}

impl TryFrom<pb::Begin> for d::Begin {
    type Error = WireError;
    fn try_from(v: pb::Begin) -> Result<Self, WireError> {
        Ok(Self {
            worker: id(v.worker, "Begin.worker")?,
            instance: id(v.instance, "Begin.instance")?,
            role: id(v.role, "Begin.role")?,
            clock: convert(v.clock, "Begin.clock")?,
            options: convert(v.options, "Begin.options")?,
        })
    }
}

impl From<&d::PinCheck> for pb::PinCheck {
    fn from(v: &d::PinCheck) -> Self {
        Self {
            moment: number::<pb::PinMoment, _>(v.moment),
            at_mono_ns: v.at.0,
            facts: Some((&v.facts).into()),
        }
    }
}

impl TryFrom<pb::PinCheck> for d::PinCheck {
    type Error = WireError;
    fn try_from(v: pb::PinCheck) -> Result<Self, WireError> {
        Ok(Self {
            moment: enumeration::<pb::PinMoment, _>(v.moment, "PinCheck.moment")?,
            at: MonoNs(v.at_mono_ns),
            facts: convert(v.facts, "PinCheck.facts")?,
        })
    }
}

impl From<&d::Started> for pb::Started {
    fn from(v: &d::Started) -> Self {
        Self {
            planned_mono_ns: v.planned.0,
            actual_mono_ns: v.actual.0,
        }
    }
}

impl From<pb::Started> for d::Started {
    fn from(v: pb::Started) -> Self {
        Self {
            planned: MonoNs(v.planned_mono_ns),
            actual: MonoNs(v.actual_mono_ns),
        }
    }
}

impl From<&d::LocalStep> for pb::LocalStep {
    fn from(v: &d::LocalStep) -> Self {
        Self {
            step: v.step.clone(),
            start_mono_ns: v.start.0,
            end_mono_ns: v.end.0,
            detail: v.detail.clone(),
        }
    }
}

impl From<pb::LocalStep> for d::LocalStep {
    fn from(v: pb::LocalStep) -> Self {
        Self {
            step: v.step,
            start: MonoNs(v.start_mono_ns),
            end: MonoNs(v.end_mono_ns),
            detail: v.detail,
        }
    }
}

impl From<&d::RequestError> for pb::RequestError {
    fn from(v: &d::RequestError) -> Self {
        Self {
            kind: number::<pb::RequestErrorKind, _>(v.kind),
            detail: v.detail.clone(),
        }
    }
}

impl TryFrom<pb::RequestError> for d::RequestError {
    type Error = WireError;
    fn try_from(v: pb::RequestError) -> Result<Self, WireError> {
        Ok(Self {
            kind: enumeration::<pb::RequestErrorKind, _>(v.kind, "RequestError.kind")?,
            detail: v.detail,
        })
    }
}

impl From<&d::EngineTimes> for pb::EngineTimes {
    fn from(v: &d::EngineTimes) -> Self {
        Self {
            total_ns: v.total_ns,
            load_ns: v.load_ns,
            prompt_eval_ns: v.prompt_eval_ns,
            eval_ns: v.eval_ns,
        }
    }
}

impl From<pb::EngineTimes> for d::EngineTimes {
    fn from(v: pb::EngineTimes) -> Self {
        Self {
            total_ns: v.total_ns,
            load_ns: v.load_ns,
            prompt_eval_ns: v.prompt_eval_ns,
            eval_ns: v.eval_ns,
        }
    }
}

/// Chunk times to differences. A falling sequence, which breaks [`d::RequestRecord::chunk_ns`],
/// wraps round and is thereby refused by every reader instead of being altered silently.
fn to_deltas(times: &[u64]) -> Vec<u64> {
    let before = std::iter::once(&0).chain(times);
    times
        .iter()
        .zip(before)
        .map(|(now, before)| now.wrapping_sub(*before))
        .collect()
}

fn from_deltas(deltas: &[u64]) -> Result<Vec<u64>, WireError> {
    let mut now = 0u64;
    deltas
        .iter()
        .map(|delta| {
            now = now.checked_add(*delta).ok_or(WireError::OutOfRange {
                field: "RequestRecord.chunk_delta_ns",
                why: "chunk times may not fall",
            })?;
            Ok(now)
        })
        .collect()
}

impl From<&d::RequestRecord> for pb::RequestRecord {
    fn from(v: &d::RequestRecord) -> Self {
        Self {
            request_id: v.request_id.to_string(),
            step: v.step.clone(),
            sent_mono_ns: v.sent.0,
            head_ns: v.head_ns,
            chunk_delta_ns: to_deltas(&v.chunk_ns),
            done_ns: v.done_ns,
            prompt_sha256: v.prompt_sha256.clone(),
            prompt_tokens: v.prompt_tokens,
            cached_tokens: v.cached_tokens,
            output_tokens: v.output_tokens,
            output_sha256: v.output_sha256.clone(),
            finish: v.finish.map(number::<pb::FinishReason, _>),
            engine_times: Some((&v.engine_times).into()),
            error: v.error.as_ref().map(Into::into),
            client_wait_ns: v.client_wait_ns,
        }
    }
}

impl TryFrom<pb::RequestRecord> for d::RequestRecord {
    type Error = WireError;
    fn try_from(v: pb::RequestRecord) -> Result<Self, WireError> {
        Ok(Self {
            request_id: id(v.request_id, "RequestRecord.request_id")?,
            step: v.step,
            sent: MonoNs(v.sent_mono_ns),
            head_ns: v.head_ns,
            chunk_ns: from_deltas(&v.chunk_delta_ns)?,
            done_ns: v.done_ns,
            prompt_sha256: v.prompt_sha256,
            prompt_tokens: v.prompt_tokens,
            cached_tokens: v.cached_tokens,
            output_tokens: v.output_tokens,
            output_sha256: v.output_sha256,
            finish: opt_enumeration::<pb::FinishReason, _>(v.finish, "RequestRecord.finish")?,
            engine_times: required(v.engine_times, "RequestRecord.engine_times")?.into(),
            client_wait_ns: v.client_wait_ns,
            error: v.error.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&d::Output> for pb::Output {
    fn from(v: &d::Output) -> Self {
        Self {
            name: v.name.clone(),
            media_type: v.media_type.clone(),
            text: v.text.clone(),
        }
    }
}

impl From<pb::Output> for d::Output {
    fn from(v: pb::Output) -> Self {
        Self {
            name: v.name,
            media_type: v.media_type,
            text: v.text,
        }
    }
}

impl From<&d::Finished> for pb::Finished {
    fn from(v: &d::Finished) -> Self {
        Self {
            at_mono_ns: v.at.0,
            failure: v.failure.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::Finished> for d::Finished {
    type Error = WireError;
    fn try_from(v: pb::Finished) -> Result<Self, WireError> {
        Ok(Self {
            at: MonoNs(v.at_mono_ns),
            failure: v.failure.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&d::End> for pb::End {
    fn from(v: &d::End) -> Self {
        Self {
            records: v.records,
            sha256: v.sha256.clone(),
        }
    }
}

impl From<pb::End> for d::End {
    fn from(v: pb::End) -> Self {
        Self {
            records: v.records,
            sha256: v.sha256,
        }
    }
}
