//! What is there: GPUs, and the instances of those in MIG mode.

use std::collections::BTreeMap;
use std::sync::Arc;

use chimera_domain::telemetry::{GapReason, GpuFacts, GpuUuid};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::device::{Versions, facts, instance_facts};
use super::ledger::Ledger;
use super::map::{Trouble, trouble};
use super::{NvmlProbe, State};

/// Most instances of one GPU: a bound, far above the seven of today's products.
const MAX_INSTANCES: u32 = 64;

/// GPUs that should be there and are not, and why.
pub(super) type Absent = BTreeMap<GpuUuid, (GapReason, String)>;

/// Where a device is found, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: u32,
    /// Of which MIG instance, if of one.
    pub(super) instance: Option<u32>,
    pub(super) uuid: GpuUuid,
}

impl Place {
    pub(super) fn open<'nvml>(&self, nvml: &'nvml Nvml) -> Result<Device<'nvml>, NvmlError> {
        let gpu = nvml.device_by_index(self.index)?;
        match self.instance {
            None => Ok(gpu),
            Some(instance) => gpu.mig_device_by_index(instance),
        }
    }

    /// Whether `error` of [`Self::open`] says that somebody took the instance down.
    pub(super) fn is_taken_down(&self, error: &NvmlError) -> bool {
        self.instance.is_some()
            && matches!(
                error,
                NvmlError::NotFound | NvmlError::NotSupported | NvmlError::InvalidArg
            )
    }
}

/// What NVML lists.
struct Listing {
    /// By index; the instances of a GPU follow it.
    devices: Vec<(Place, GpuFacts)>,
    /// Each instance and the GPU that it is part of.
    instances: Vec<(GpuUuid, GpuUuid)>,
    /// Why a known GPU may not be listed.
    lost: (GapReason, String),
}

impl NvmlProbe {
    /// Lists what is there and notes which known ones are not.
    pub(super) fn list(&mut self, nvml: &Nvml) -> Result<(Vec<Place>, Absent), NvmlError> {
        let Listing {
            devices,
            instances,
            lost,
        } = listed(nvml, &self.facts)?;
        let is_there = |uuid: &GpuUuid| devices.iter().any(|(place, _)| place.uuid == *uuid);
        // An instance that its GPU does not list was taken down.
        let gone: Vec<GpuFacts> = std::mem::take(&mut self.facts)
            .into_iter()
            .filter(|known| !is_there(&known.uuid))
            .filter(|known| {
                self.instances
                    .get(&known.uuid)
                    .is_none_or(|parent| !is_there(parent))
            })
            .collect();
        let absent = gone
            .iter()
            .map(|known| (known.uuid.clone(), lost.clone()))
            .collect();
        self.instances.extend(instances);
        let (present, facts): (Vec<Place>, Vec<GpuFacts>) = devices.into_iter().unzip();
        self.facts = facts;
        self.facts.extend(gone);
        self.instances
            .retain(|uuid, _| self.facts.iter().any(|known| known.uuid == *uuid));
        self.ledgers
            .retain(|uuid, _| self.facts.iter().any(|known| known.uuid == *uuid));
        for place in present.iter().filter(|place| place.instance.is_some()) {
            self.ledgers
                .entry(place.uuid.clone())
                .or_insert_with(Ledger::of_instance);
        }
        Ok((present, absent))
    }

    /// Lists again, without a new initialisation.
    pub(super) fn list_again(&mut self) {
        self.relist = false;
        let State::Open { nvml, .. } = &self.state else {
            return;
        };
        let nvml = Arc::clone(nvml);
        // A driver that does not answer is noticed by the reading that follows.
        if let Ok(anew) = self.list(&nvml)
            && let State::Open {
                present, absent, ..
            } = &mut self.state
        {
            (*present, *absent) = anew;
        }
    }
}

/// Lists everything.
///
/// # Errors
/// If NVML does not even say how many GPUs there are.
fn listed(nvml: &Nvml, known: &[GpuFacts]) -> Result<Listing, NvmlError> {
    let count = nvml.device_count()?;
    let versions = Versions::read(nvml);
    let mut listing = Listing {
        devices: Vec::new(),
        instances: Vec::new(),
        lost: (
            GapReason::GpuLost,
            "the driver no longer lists it".to_owned(),
        ),
    };
    for index in 0..count {
        let found = nvml
            .device_by_index(index)
            .and_then(|gpu| Ok((gpu.uuid()?, gpu)));
        let (uuid, gpu) = match found {
            Ok((uuid, gpu)) => (GpuUuid(uuid), gpu),
            // It has no name to say; a known one that is not listed is this one.
            Err(error) => {
                if let Trouble::Device(class) = trouble(&error) {
                    listing.lost = (class, error.to_string());
                }
                tracing::warn!(index, %error, "a GPU cannot be opened");
                continue;
            }
        };
        let before = known.iter().find(|known| known.uuid == uuid);
        let of_gpu = facts(uuid.clone(), index, &gpu, &versions, before);
        let mig_enabled = of_gpu.mig_enabled;
        let whole = Place {
            index,
            instance: None,
            uuid: uuid.clone(),
        };
        listing.devices.push((whole, of_gpu));
        for (number, instance, device) in instances(&gpu, mig_enabled) {
            let facts = instance_facts(instance.clone(), index, &device, &versions);
            listing.instances.push((instance.clone(), uuid.clone()));
            let place = Place {
                index,
                instance: Some(number),
                uuid: instance,
            };
            listing.devices.push((place, facts));
        }
    }
    Ok(listing)
}

/// The instances of a GPU: number, identity, device. None if it is not in MIG mode.
pub(super) fn instances<'nvml>(
    gpu: &Device<'nvml>,
    mig_enabled: Option<bool>,
) -> Vec<(u32, GpuUuid, Device<'nvml>)> {
    if mig_enabled != Some(true) {
        return Vec::new();
    }
    let most = gpu.mig_device_count().unwrap_or(0).min(MAX_INSTANCES);
    // Numbers may have holes.
    (0..most)
        .filter_map(|number| {
            let device = gpu.mig_device_by_index(number).ok()?;
            Some((number, GpuUuid(device.uuid().ok()?), device))
        })
        .collect()
}
