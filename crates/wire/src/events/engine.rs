//! What an engine said of its state while an agent worked.

use chimera_domain::event as d;
use chimera_domain::units::MonoNs;

use crate::common::finite;
use crate::error::WireError;
use crate::pb;

impl From<&d::EngineWatch> for pb::EngineWatch {
    fn from(v: &d::EngineWatch) -> Self {
        Self {
            states: v.states.iter().map(Into::into).collect(),
            missed: v.missed,
        }
    }
}

impl TryFrom<pb::EngineWatch> for d::EngineWatch {
    type Error = WireError;
    fn try_from(v: pb::EngineWatch) -> Result<Self, WireError> {
        if v.states.len() > d::MAX_ENGINE_STATES {
            return Err(WireError::OutOfRange {
                field: "EngineWatch.states",
                why: "holds more than 3600 readings",
            });
        }
        Ok(Self {
            states: v
                .states
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            missed: v.missed,
        })
    }
}

impl From<&d::EngineState> for pb::EngineState {
    fn from(v: &d::EngineState) -> Self {
        Self {
            at_mono_ns: v.at.0,
            resident: v.resident.as_ref().map(|models| pb::ResidentModels {
                models: models.iter().map(Into::into).collect(),
            }),
            requests_running: v.requests_running,
            requests_waiting: v.requests_waiting,
            kv_cache_used: v.kv_cache_used,
        }
    }
}

impl TryFrom<pb::EngineState> for d::EngineState {
    type Error = WireError;
    fn try_from(v: pb::EngineState) -> Result<Self, WireError> {
        Ok(Self {
            at: MonoNs(v.at_mono_ns),
            resident: v
                .resident
                .map(|list| list.models.into_iter().map(Into::into).collect()),
            requests_running: v.requests_running,
            requests_waiting: v.requests_waiting,
            kv_cache_used: v
                .kv_cache_used
                .map(|used| finite(used, "EngineState.kv_cache_used"))
                .transpose()?,
        })
    }
}

impl From<&d::ResidentModel> for pb::ResidentModel {
    fn from(v: &d::ResidentModel) -> Self {
        Self {
            model: v.model.clone(),
            size_bytes: v.size_bytes,
            size_vram_bytes: v.size_vram_bytes,
            context_length: v.context_length,
        }
    }
}

impl From<pb::ResidentModel> for d::ResidentModel {
    fn from(v: pb::ResidentModel) -> Self {
        Self {
            model: v.model,
            size_bytes: v.size_bytes,
            size_vram_bytes: v.size_vram_bytes,
            context_length: v.context_length,
        }
    }
}
