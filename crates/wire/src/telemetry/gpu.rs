//! The GPUs of a batch.

use chimera_domain::telemetry as d;
use chimera_domain::units::MonoNs;

use super::{all, finite_opt};
use crate::common::{enum_twins, enumeration, number};
use crate::error::WireError;
use crate::pb;

enum_twins!(d::GpuProcessKind { Compute, Graphics });
enum_twins!(d::ThrottleReason {
    GpuIdle,
    ApplicationClocks,
    SoftwarePowerCap,
    HardwareSlowdown,
    SyncBoost,
    SoftwareThermal,
    HardwareThermal,
    HardwarePowerBrake,
    DisplayClocks,
    Other,
});
impl From<&d::GpuError> for pb::GpuError {
    fn from(v: &d::GpuError) -> Self {
        Self {
            at_mono_ns: v.at.0,
            uuid: v.uuid.0.clone(),
            xid: v.xid,
        }
    }
}

impl From<pb::GpuError> for d::GpuError {
    fn from(v: pb::GpuError) -> Self {
        Self {
            at: MonoNs(v.at_mono_ns),
            uuid: d::GpuUuid(v.uuid),
            xid: v.xid,
        }
    }
}

impl From<&d::GpuFacts> for pb::GpuFacts {
    fn from(v: &d::GpuFacts) -> Self {
        Self {
            uuid: v.uuid.0.clone(),
            index: v.index,
            name: v.name.clone(),
            driver_version: v.driver_version.clone(),
            memory_total_bytes: v.memory_total_bytes,
            power_limit_watts: v.power_limit_watts,
            sm_clock_max_mhz: v.sm_clock_max_mhz,
            library_version: v.library_version.clone(),
            cuda_version: v.cuda_version.clone(),
            mig_enabled: v.mig_enabled,
            mps_active: v.mps_active,
            ecc_enabled: v.ecc_enabled,
            slowdown_celsius: v.slowdown_celsius,
        }
    }
}

impl TryFrom<pb::GpuFacts> for d::GpuFacts {
    type Error = WireError;
    fn try_from(v: pb::GpuFacts) -> Result<Self, WireError> {
        Ok(Self {
            uuid: d::GpuUuid(v.uuid),
            index: v.index,
            name: v.name,
            driver_version: v.driver_version,
            memory_total_bytes: v.memory_total_bytes,
            power_limit_watts: finite_opt(v.power_limit_watts, "GpuFacts.power_limit_watts")?,
            sm_clock_max_mhz: v.sm_clock_max_mhz,
            library_version: v.library_version,
            cuda_version: v.cuda_version,
            mig_enabled: v.mig_enabled,
            mps_active: v.mps_active,
            ecc_enabled: v.ecc_enabled,
            slowdown_celsius: v.slowdown_celsius,
        })
    }
}

impl From<&d::GpuSample> for pb::GpuSample {
    fn from(v: &d::GpuSample) -> Self {
        let reasons = |list: &Vec<d::ThrottleReason>| pb::ThrottleReasons {
            reasons: list
                .iter()
                .map(|r| number::<pb::ThrottleReason, _>(*r))
                .collect(),
        };
        let processes = |list: &Vec<d::GpuProcess>| pb::GpuProcesses {
            processes: list.iter().map(Into::into).collect(),
        };
        Self {
            uuid: v.uuid.0.clone(),
            utilisation: v.utilisation,
            memory_utilisation: v.memory_utilisation,
            memory_used_bytes: v.memory_used_bytes,
            memory_free_bytes: v.memory_free_bytes,
            memory_reserved_bytes: v.memory_reserved_bytes,
            power_watts: v.power_watts,
            energy_joules: v.energy_joules,
            sm_clock_mhz: v.sm_clock_mhz,
            memory_clock_mhz: v.memory_clock_mhz,
            throttle_reasons: v.throttle_reasons.as_ref().map(reasons),
            pcie_rx_bytes_per_s: v.pcie_rx_bytes_per_s,
            pcie_tx_bytes_per_s: v.pcie_tx_bytes_per_s,
            temperature_celsius: v.temperature_celsius,
            ecc_corrected: v.ecc_corrected,
            ecc_uncorrected: v.ecc_uncorrected,
            processes: v.processes.as_ref().map(processes),
        }
    }
}

impl TryFrom<pb::GpuSample> for d::GpuSample {
    type Error = WireError;
    fn try_from(v: pb::GpuSample) -> Result<Self, WireError> {
        let reasons = |list: pb::ThrottleReasons| {
            let named = |r| enumeration::<pb::ThrottleReason, _>(r, "GpuSample.throttle_reasons");
            list.reasons
                .into_iter()
                .map(named)
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            uuid: d::GpuUuid(v.uuid),
            utilisation: finite_opt(v.utilisation, "GpuSample.utilisation")?,
            memory_utilisation: finite_opt(v.memory_utilisation, "GpuSample.memory_utilisation")?,
            memory_used_bytes: v.memory_used_bytes,
            memory_free_bytes: v.memory_free_bytes,
            memory_reserved_bytes: v.memory_reserved_bytes,
            power_watts: finite_opt(v.power_watts, "GpuSample.power_watts")?,
            energy_joules: finite_opt(v.energy_joules, "GpuSample.energy_joules")?,
            sm_clock_mhz: v.sm_clock_mhz,
            memory_clock_mhz: v.memory_clock_mhz,
            throttle_reasons: v.throttle_reasons.map(reasons).transpose()?,
            pcie_rx_bytes_per_s: v.pcie_rx_bytes_per_s,
            pcie_tx_bytes_per_s: v.pcie_tx_bytes_per_s,
            temperature_celsius: v.temperature_celsius,
            ecc_corrected: v.ecc_corrected,
            ecc_uncorrected: v.ecc_uncorrected,
            processes: v.processes.map(|list| all(list.processes)).transpose()?,
        })
    }
}

impl From<&d::GpuProcess> for pb::GpuProcess {
    fn from(v: &d::GpuProcess) -> Self {
        Self {
            pid: v.pid,
            memory_used_bytes: v.memory_used_bytes,
            kind: number::<pb::GpuProcessKind, _>(v.kind),
            utilisation: v.utilisation,
            memory_utilisation: v.memory_utilisation,
        }
    }
}

impl TryFrom<pb::GpuProcess> for d::GpuProcess {
    type Error = WireError;
    fn try_from(v: pb::GpuProcess) -> Result<Self, WireError> {
        Ok(Self {
            pid: v.pid,
            memory_used_bytes: v.memory_used_bytes,
            utilisation: finite_opt(v.utilisation, "GpuProcess.utilisation")?,
            memory_utilisation: finite_opt(v.memory_utilisation, "GpuProcess.memory_utilisation")?,
            kind: enumeration::<pb::GpuProcessKind, _>(v.kind, "GpuProcess.kind")?,
        })
    }
}
