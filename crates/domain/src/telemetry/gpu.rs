//! What is read of a GPU.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::MonoNs;

/// What NVIDIA's driver calls a GPU (`GPU-8f6c...`); stable over reboots.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct GpuUuid(pub String);

impl fmt::Display for GpuUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What does not change while a driver is loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuFacts {
    /// Identity.
    pub uuid: GpuUuid,
    /// Position in the driver's list; may differ after a reboot.
    pub index: u32,
    /// Product name.
    pub name: Option<String>,
    /// Version of the driver.
    pub driver_version: Option<String>,
    /// Installed memory.
    pub memory_total_bytes: Option<u64>,
    /// Power limit in force when the facts were read.
    pub power_limit_watts: Option<f64>,
    /// Highest SM clock the product can have.
    pub sm_clock_max_mhz: Option<u32>,
    /// Version of the management library, where it differs from the driver's.
    #[serde(default)]
    pub library_version: Option<String>,
    /// Highest CUDA version that the driver serves (`12.4`).
    #[serde(default)]
    pub cuda_version: Option<String>,
    /// Whether the GPU is cut into MIG instances. `None`: it cannot be, or it was not told.
    #[serde(default)]
    pub mig_enabled: Option<bool>,
    /// Whether an MPS daemon shares it. `None`: not told.
    #[serde(default)]
    pub mps_active: Option<bool>,
    /// Whether its memory corrects errors.
    #[serde(default)]
    pub ecc_enabled: Option<bool>,
    /// Temperature at which it slows down.
    #[serde(default)]
    pub slowdown_celsius: Option<u32>,
}

impl GpuFacts {
    /// A GPU of which only the identity is known.
    #[must_use]
    pub fn unknown(uuid: GpuUuid, index: u32) -> Self {
        Self {
            uuid,
            index,
            name: None,
            driver_version: None,
            memory_total_bytes: None,
            power_limit_watts: None,
            sm_clock_max_mhz: None,
            library_version: None,
            cuda_version: None,
            mig_enabled: None,
            mps_active: None,
            ecc_enabled: None,
            slowdown_celsius: None,
        }
    }
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuSample {
    /// Which.
    pub uuid: GpuUuid,
    /// Part of the driver's last sampling window (1/6 s to 1 s by product) in which a kernel ran,
    /// 0 to 1. Says nothing of how much of the GPU the kernel filled.
    pub utilisation: Option<f64>,
    /// Part of that window in which device memory was read or written, 0 to 1.
    pub memory_utilisation: Option<f64>,
    /// Device memory in use, without what the driver reserves for itself.
    pub memory_used_bytes: Option<u64>,
    /// Device memory that nobody holds.
    #[serde(default)]
    pub memory_free_bytes: Option<u64>,
    /// Device memory that the driver keeps for itself.
    #[serde(default)]
    pub memory_reserved_bytes: Option<u64>,
    /// Power draw; on most products since Ampere the driver's mean over one second.
    pub power_watts: Option<f64>,
    /// Energy since the driver was loaded. Use its differences for the energy of an interval.
    pub energy_joules: Option<f64>,
    /// Clock of the streaming multiprocessors.
    pub sm_clock_mhz: Option<u32>,
    /// Clock of the device memory.
    pub memory_clock_mhz: Option<u32>,
    /// What holds the clocks down. Empty: nothing does. `None`: not measured.
    pub throttle_reasons: Option<Vec<ThrottleReason>>,
    /// From the host to the GPU, mean over the 20 ms that the driver takes to measure it. Measured
    /// in turn with `pcie_tx_bytes_per_s` and the other GPUs', one per tick; `None` in between.
    pub pcie_rx_bytes_per_s: Option<u64>,
    /// From the GPU to the host; as `pcie_rx_bytes_per_s`.
    pub pcie_tx_bytes_per_s: Option<u64>,
    /// Temperature of the chip.
    pub temperature_celsius: Option<u32>,
    /// Memory errors corrected since the driver was loaded.
    #[serde(default)]
    pub ecc_corrected: Option<u64>,
    /// Memory errors not corrected since the driver was loaded.
    #[serde(default)]
    pub ecc_uncorrected: Option<u64>,
    /// Who holds memory on it, by rising pid. `None`: not measured.
    pub processes: Option<Vec<GpuProcess>>,
}

impl GpuSample {
    /// A sample of `uuid` in which nothing was measured.
    #[must_use]
    pub fn unmeasured(uuid: GpuUuid) -> Self {
        Self {
            uuid,
            utilisation: None,
            memory_utilisation: None,
            memory_used_bytes: None,
            memory_free_bytes: None,
            memory_reserved_bytes: None,
            power_watts: None,
            energy_joules: None,
            sm_clock_mhz: None,
            memory_clock_mhz: None,
            throttle_reasons: None,
            pcie_rx_bytes_per_s: None,
            pcie_tx_bytes_per_s: None,
            temperature_celsius: None,
            ecc_corrected: None,
            ecc_uncorrected: None,
            processes: None,
        }
    }

    /// Whether not one reading was taken.
    #[must_use]
    pub fn is_unmeasured(&self) -> bool {
        *self == Self::unmeasured(self.uuid.clone())
    }
}

/// A process with a context on a GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuProcess {
    /// Its id in the driver's pid namespace, which inside a container is not the sampler's.
    pub pid: u32,
    /// Device memory it holds, where the driver knows.
    pub memory_used_bytes: Option<u64>,
    /// Part of the driver's last sampling window in which its kernels ran, 0 to 1.
    #[serde(default)]
    pub utilisation: Option<f64>,
    /// Part of that window in which it read or wrote device memory, 0 to 1.
    #[serde(default)]
    pub memory_utilisation: Option<f64>,
    /// Whether it computes or draws.
    pub kind: GpuProcessKind,
}

/// What a process does on a GPU.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GpuProcessKind {
    /// A CUDA or OpenCL context.
    Compute,
    /// An OpenGL, Vulkan or display context.
    Graphics,
}

/// Why a GPU's clocks are below what they could be. *Source*: `nvmlClocksEventReasons`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleReason {
    /// Nothing runs.
    GpuIdle,
    /// A person set application clocks.
    ApplicationClocks,
    /// The power limit, enforced by software.
    SoftwarePowerCap,
    /// Hardware slowdown by half or more: heat, power or an external brake.
    HardwareSlowdown,
    /// Another GPU of its sync boost group.
    SyncBoost,
    /// Too hot, by the driver's limit.
    SoftwareThermal,
    /// Too hot, by the hardware's limit.
    HardwareThermal,
    /// The power supply asked for it.
    HardwarePowerBrake,
    /// The setting of the display clocks.
    DisplayClocks,
    /// One that this version does not know.
    Other,
}

impl ThrottleReason {
    /// The closed label used in metrics and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GpuIdle => "gpu_idle",
            Self::ApplicationClocks => "application_clocks",
            Self::SoftwarePowerCap => "software_power_cap",
            Self::HardwareSlowdown => "hardware_slowdown",
            Self::SyncBoost => "sync_boost",
            Self::SoftwareThermal => "software_thermal",
            Self::HardwareThermal => "hardware_thermal",
            Self::HardwarePowerBrake => "hardware_power_brake",
            Self::DisplayClocks => "display_clocks",
            Self::Other => "other",
        }
    }
}

/// An error that a GPU reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpuError {
    /// When it was told.
    pub at: MonoNs,
    /// By which GPU.
    pub uuid: GpuUuid,
    /// The driver's number for it. *Source*: NVIDIA's table of Xid errors.
    pub xid: u64,
}
