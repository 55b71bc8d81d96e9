//! What agents take of memory, as workers tell it.

use chimera_domain::memory::admission as d;
use chimera_domain::memory::{Amount, Provenance};

use crate::common::convert;
use crate::error::WireError;
use crate::pb;

impl From<&Amount> for pb::MemoryAmount {
    fn from(v: &Amount) -> Self {
        Self {
            bytes: v.bytes,
            estimated: v.provenance == Provenance::Estimated,
        }
    }
}

impl TryFrom<pb::MemoryAmount> for Amount {
    type Error = WireError;
    fn try_from(v: pb::MemoryAmount) -> Result<Self, WireError> {
        Ok(if v.estimated {
            Self::estimated(v.bytes)
        } else {
            Self::derived(v.bytes)
        })
    }
}

impl From<&d::Appraisal> for pb::MemoryNeed {
    fn from(v: &d::Appraisal) -> Self {
        Self {
            device: Some((&v.device).into()),
            host: Some((&v.host).into()),
            host_only: Some((&v.host_only).into()),
            mapped: v.mapped.as_ref().map(|mapped| pb::MappedFile {
                file: mapped.file.clone(),
                bytes: mapped.bytes,
            }),
            held_device_bytes: v.held_device_bytes,
            held_host_bytes: v.held_host_bytes,
        }
    }
}

impl TryFrom<pb::MemoryNeed> for d::Appraisal {
    type Error = WireError;
    fn try_from(v: pb::MemoryNeed) -> Result<Self, WireError> {
        Ok(Self {
            device: convert(v.device, "MemoryNeed.device")?,
            host: convert(v.host, "MemoryNeed.host")?,
            host_only: convert(v.host_only, "MemoryNeed.host_only")?,
            mapped: v.mapped.map(|mapped| d::Mapped {
                file: mapped.file,
                bytes: mapped.bytes,
            }),
            held_device_bytes: v.held_device_bytes,
            held_host_bytes: v.held_host_bytes,
        })
    }
}
