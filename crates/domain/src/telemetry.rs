//! What a node can sample: its GPUs, its host, its engine processes, and what it could not.
//!
//! A node publishes one [`TelemetryBatch`] per second. A reading that was not taken is `None`, never
//! zero, and the batch says why in [`TelemetryBatch::probes`]; an interval in which a source should
//! have been read and was not is a [`Gap`]. [`series::Series`] puts the batches of a node in order
//! and answers questions about intervals; it never interpolates over a gap.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::units::{ClockReading, MonoNs};

mod gpu;
pub mod series;

pub use gpu::{GpuError, GpuFacts, GpuProcess, GpuProcessKind, GpuSample, GpuUuid, ThrottleReason};
pub use series::{Coverage, Series, coverage, cpu_cores_used};

/// One second of a node, as published to the bus. As JSON it is one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TelemetryBatch {
    /// Whose samples. On the bus the subject says the same.
    pub node: NodeId,
    /// When this sampler started; tells its batches from those of one that ran before it.
    pub sampler_started: MonoNs,
    /// Counts the batches of this sampler from 1. One that is missing was lost on the way.
    pub seq: u64,
    /// The clock of all instants in this batch, read when it was closed.
    pub clock: ClockReading,
    /// Intended distance of two samples, ns.
    pub period_ns: u64,
    /// What does not change from sample to sample; one per GPU known to this sampler.
    pub gpus: Vec<GpuFacts>,
    /// What is measured here, and what is not and why. One per kind of source.
    pub probes: Vec<ProbeStatus>,
    /// In order of time.
    pub samples: Vec<Sample>,
    /// Intervals without readings that end in this batch, or are still open at its close.
    pub gaps: Vec<Gap>,
    /// Errors that GPUs reported since the batch before, in order of time.
    #[serde(default)]
    pub gpu_errors: Vec<GpuError>,
}

/// Everything read at one tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The instant before the first reading of this tick. The readings follow within
    /// [`Sample::took_ns`].
    pub at: MonoNs,
    /// How long all readings of this tick took, ns: the error bound of `at`.
    pub took_ns: u64,
    /// The host.
    pub host: HostSample,
    /// Engine processes and ours ([`ProcessSample::part`]) alive at this tick, by rising pid.
    pub processes: Vec<ProcessSample>,
    /// GPUs that could be read at this tick, in the order of their facts.
    pub gpus: Vec<GpuSample>,
}

/// Processor, memory and pressure of the host.
///
/// Fractions are over the time since the sampler's previous sample and therefore `None` in its
/// first. *Source*: Linux `/proc`; its processor times have a resolution of 10 ms, so that over one
/// period of 50 ms a fraction moves in steps of 0.2. Cumulative values average exactly.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HostSample {
    /// Part of all cores' time spent working (user, nice, system, interrupts), 0 to 1.
    pub cpu_busy_fraction: Option<f64>,
    /// The same per core. Empty: not measured.
    pub core_busy_fractions: Vec<f64>,
    /// Part of all cores' time that the hypervisor gave to others, 0 to 1.
    pub cpu_steal_fraction: Option<f64>,
    /// Core-seconds of work since boot.
    pub cpu_busy_core_seconds: Option<f64>,
    /// Memory of the host.
    pub memory_total_bytes: Option<u64>,
    /// Of it, what new work could have without swapping.
    pub memory_available_bytes: Option<u64>,
    /// Load average over one minute: tasks running, runnable or in uninterruptible sleep.
    pub load1: Option<f64>,
    /// Part of the last 10 s in which some task waited for a core, 0 to 1. *Source*: PSI.
    pub cpu_pressure_some_avg10: Option<f64>,
    /// Seconds since boot in which some task waited for a core. *Source*: PSI.
    pub cpu_pressure_some_seconds: Option<f64>,
    /// Seconds since boot in which some task waited for memory. *Source*: PSI.
    #[serde(default)]
    pub memory_pressure_some_seconds: Option<f64>,
    /// Seconds since boot in which some task waited for a disk. *Source*: PSI.
    #[serde(default)]
    pub io_pressure_some_seconds: Option<f64>,
    /// Tasks that ran or wanted to at this instant, on all cores; the sampler itself is one of them.
    #[serde(default)]
    pub tasks_runnable: Option<u32>,
    /// Context switches since boot, all cores.
    #[serde(default)]
    pub context_switches: Option<u64>,
    /// Bytes moved between memory and processor, where the machine counts them. Use its differences:
    /// it begins anywhere, and falls only when the sampler was started again. *Source*: resctrl.
    #[serde(default)]
    pub memory_traffic_bytes: Option<u64>,
    /// Processes that are neither engines nor ours and kept at least a tenth of a core busy over the
    /// last second, the busiest first, at most [`MAX_BUSY_OTHERS`]. `None`: not looked at; it is
    /// looked at once a second.
    #[serde(default)]
    pub busy_others: Option<Vec<BusyProcess>>,
}

/// How many busy processes of others a sample names.
pub const MAX_BUSY_OTHERS: usize = 5;

/// A process of somebody else that uses the processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BusyProcess {
    /// Process id, as this node sees it.
    pub pid: u32,
    /// Command name.
    pub name: String,
    /// Cores in use on average over the second before.
    pub cores_used: f64,
}

/// One engine process, or one of ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessSample {
    /// Process id, as this node sees it.
    pub pid: u32,
    /// The process that started it.
    pub parent_pid: Option<u32>,
    /// Start time in the kernel's clock ticks since boot; with `pid` it tells a process from a later
    /// one of the same number.
    pub start_ticks: u64,
    /// What matched the list of names: a command name, or the script of an interpreter.
    pub name: String,
    /// Processor time used since its start by all its threads, ended ones included; children not.
    pub cpu_seconds: Option<f64>,
    /// Cores in use since the previous sample of this process; `None` in its first.
    pub cores_used: Option<f64>,
    /// Memory resident in RAM.
    pub rss_bytes: Option<u64>,
    /// Page faults since its start that needed no disk.
    pub minor_faults: Option<u64>,
    /// Page faults since its start that waited for a disk: a model file read while it is used.
    pub major_faults: Option<u64>,
    /// Its threads.
    pub threads: Option<u32>,
    /// Seconds since its start in which its threads could have run and no core was free for them,
    /// all threads together. A thread that ended counts with its last reading, one that ended before
    /// the sampler knew the process is left out: use its differences. With very many threads it is
    /// read at some ticks only. *Source*: `/proc/PID/task/*/schedstat`.
    #[serde(default)]
    pub run_delay_seconds: Option<f64>,
    /// Switches away from a core that it gave up by itself, threads as in `run_delay_seconds`. Read
    /// once a second; `None` in between.
    #[serde(default)]
    pub voluntary_switches: Option<u64>,
    /// Switches away from a core that was taken from it; as `voluntary_switches`.
    #[serde(default)]
    pub involuntary_switches: Option<u64>,
    /// What the process is to us.
    #[serde(default)]
    pub part: ProcessPart,
}

impl ProcessSample {
    /// A sample of a process of which nothing was measured yet.
    #[must_use]
    pub fn unmeasured(pid: u32, start_ticks: u64, name: impl Into<String>) -> Self {
        Self {
            pid,
            parent_pid: None,
            start_ticks,
            name: name.into(),
            cpu_seconds: None,
            cores_used: None,
            rss_bytes: None,
            minor_faults: None,
            major_faults: None,
            threads: None,
            run_delay_seconds: None,
            voluntary_switches: None,
            involuntary_switches: None,
            part: ProcessPart::Engine,
        }
    }
}

/// What a sampled process is to the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessPart {
    /// It serves a model.
    #[default]
    Engine,
    /// It is one of ours: a worker, the coordinator, the bus.
    Harness,
}

/// Who was to be read.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(tag = "kind", content = "uuid", rename_all = "snake_case")]
pub enum Source {
    /// All of them: the sampler itself did not run, or its batch was lost.
    Sampler,
    /// The host's processor and memory.
    Host,
    /// The engine processes.
    Processes,
    /// Every GPU: the driver was away.
    Gpus,
    /// One GPU.
    Gpu(GpuUuid),
}

impl Source {
    /// Whether a gap of `self` leaves `other` unread.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match self {
            Self::Sampler => true,
            Self::Gpus => matches!(other, Self::Gpus | Self::Gpu(_)),
            one => one == other,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sampler => f.write_str("sampler"),
            Self::Host => f.write_str("host"),
            Self::Processes => f.write_str("engine processes"),
            Self::Gpus => f.write_str("all GPUs"),
            Self::Gpu(uuid) => write!(f, "{uuid}"),
        }
    }
}

/// An interval in which a source should have been read and was not.
///
/// One absence may be told as several adjoining gaps, one per batch it spans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Last good reading, or the instant from which there should have been one.
    pub from: MonoNs,
    /// Next good reading, or the close of the batch while it lasts.
    pub to: MonoNs,
    /// Who.
    pub source: Source,
    /// Why, by class.
    pub reason: GapReason,
    /// Why, in words.
    pub detail: String,
}

/// Why a source was not read.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The GPU fell off the bus.
    GpuLost,
    /// The GPU needs a reset.
    ResetRequired,
    /// The driver was reset, unloaded or replaced.
    DriverReset,
    /// The driver answered with an error that says no more.
    DriverError,
    /// The source could not be read.
    ReadFailed,
    /// The sampler came to its tick too late: stopped, starved, or a reading took too long.
    Stalled,
    /// The publisher could not keep up, a batch was dropped.
    QueueFull,
    /// The bus did not take a batch.
    PublishFailed,
}

impl GapReason {
    /// The closed label used in logs, metrics and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GpuLost => "gpu_lost",
            Self::ResetRequired => "reset_required",
            Self::DriverReset => "driver_reset",
            Self::DriverError => "driver_error",
            Self::ReadFailed => "read_failed",
            Self::Stalled => "stalled",
            Self::QueueFull => "queue_full",
            Self::PublishFailed => "publish_failed",
        }
    }
}

/// What is measured of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeStatus {
    /// Who: `Host`, `Processes`, `Gpus` (there is no GPU to name) or one `Gpu`.
    pub source: Source,
    /// What of it.
    pub state: ProbeState,
}

/// Whether a source is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ProbeState {
    /// It is, but for these fields.
    Measured {
        /// By rising field.
        missing: Vec<MissingField>,
    },
    /// It is not.
    NotMeasured {
        /// Why, by class.
        reason: Absence,
        /// Why, in words for a person.
        detail: String,
    },
}

/// A field that a source cannot give.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct MissingField {
    /// Which.
    pub field: TelemetryField,
    /// Why.
    pub reason: Absence,
}

/// A reading that can be missing by itself.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TelemetryField {
    /// Processor times of the host.
    Cpu,
    /// Memory of the host.
    Memory,
    /// Load average.
    Load,
    /// PSI.
    Pressure,
    /// `utilisation` and `memory_utilisation`.
    GpuUtilisation,
    /// `memory_used_bytes`.
    GpuMemory,
    /// `processes`.
    GpuProcesses,
    /// `power_watts`.
    Power,
    /// `energy_joules`.
    Energy,
    /// `sm_clock_mhz`.
    SmClock,
    /// `memory_clock_mhz`.
    MemoryClock,
    /// `throttle_reasons`.
    ThrottleReasons,
    /// `pcie_rx_bytes_per_s`.
    PcieRx,
    /// `pcie_tx_bytes_per_s`.
    PcieTx,
    /// `temperature_celsius`.
    Temperature,
    /// `memory_free_bytes` and `memory_reserved_bytes`.
    GpuMemoryDetail,
    /// `utilisation` and `memory_utilisation` of each process.
    GpuProcessUtilisation,
    /// `ecc_corrected` and `ecc_uncorrected`.
    Ecc,
    /// Xid errors.
    GpuErrors,
    /// `run_delay_seconds` and switches of processes.
    RunDelay,
    /// `memory_traffic_bytes`.
    MemoryTraffic,
    /// `busy_others`.
    BusyOthers,
}

/// Why something is not measured here.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// The driver's library was not found: there is no NVIDIA driver on this node.
    NoLibrary,
    /// The library is there, the driver does not answer.
    NoDriver,
    /// The driver knows no GPU.
    NoDevice,
    /// The device cannot give it.
    NotSupported,
    /// This user may not read it.
    NoPermission,
    /// The installed driver is too old to have the call.
    TooOld,
    /// It cannot be read, for another reason.
    Unreadable,
    /// Switched off by configuration.
    Disabled,
}

impl Absence {
    /// The closed label used in logs, metrics and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoLibrary => "no_library",
            Self::NoDriver => "no_driver",
            Self::NoDevice => "no_device",
            Self::NotSupported => "not_supported",
            Self::NoPermission => "no_permission",
            Self::TooOld => "too_old",
            Self::Unreadable => "unreadable",
            Self::Disabled => "disabled",
        }
    }
}
