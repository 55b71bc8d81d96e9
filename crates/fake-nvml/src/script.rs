//! What the fake driver is to do, as a test writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole script; see the crate's documentation for an example.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Script {
    /// Version that the driver states.
    pub(crate) driver_version: Option<String>,
    /// Version that the library states.
    pub(crate) library_version: Option<String>,
    /// CUDA version as the driver counts it: 12040 is 12.4.
    pub(crate) cuda_version: Option<i32>,
    /// Changes when the driver has been reset: until the client initialises again, every call of it
    /// answers `UNINITIALIZED`.
    pub(crate) generation: u64,
    /// What `nvmlInit_v2` answers, if not success.
    pub(crate) init: Option<ErrorName>,
    /// The devices, by index.
    pub(crate) gpus: Vec<Gpu>,
}

/// One device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gpu {
    /// Its UUID.
    pub(crate) uuid: String,
    /// What every call on it answers, if not its values (`GPU_IS_LOST`).
    #[serde(default)]
    pub(crate) state: Option<ErrorName>,
    /// Answers by field; a field that is absent answers `NOT_SUPPORTED`.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, Answer>,
    /// Product name.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Compute processes.
    #[serde(default)]
    pub(crate) compute: Processes,
    /// Graphics processes.
    #[serde(default)]
    pub(crate) graphics: Processes,
    /// Compute processes that go through an MPS server; absent: `NOT_SUPPORTED`.
    #[serde(default = "not_supported")]
    pub(crate) mps: Processes,
    /// What processes used; absent: `NOT_SUPPORTED`.
    #[serde(default)]
    pub(crate) process_utilisation: Utilisations,
    /// MIG instances, by index. Absent: MIG mode is off, or is as the field `mig_mode` says.
    #[serde(default)]
    pub(crate) mig: Option<Vec<Gpu>>,
    /// Xid errors that the device reports once, when the script is read, in this order.
    #[serde(default)]
    pub(crate) xids: Vec<u64>,
}

fn not_supported() -> Processes {
    Processes::Fails {
        error: ErrorName::NotSupported,
    }
}

/// What a call for a number answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// The same each time.
    Always(u64),
    /// One after the other, one per call; the last one stays.
    InTurn(Vec<Step>),
    /// Never a value.
    Fails {
        /// The error.
        error: ErrorName,
    },
}

/// One answer of several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Step {
    /// A value.
    Value(u64),
    /// An error.
    Fails {
        /// The error.
        error: ErrorName,
    },
}

/// What a call for processes answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Processes {
    /// These.
    List(Vec<Process>),
    /// Never a list.
    Fails {
        /// The error.
        error: ErrorName,
    },
}

impl Default for Processes {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// What a call for the utilisation of processes answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Utilisations {
    /// Those of these that are newer than the client asks for; if none is, `NOT_FOUND`.
    List(Vec<Utilisation>),
    /// Never a list.
    Fails {
        /// The error.
        error: ErrorName,
    },
}

impl Default for Utilisations {
    fn default() -> Self {
        Self::Fails {
            error: ErrorName::NotSupported,
        }
    }
}

/// What one process used in one of the driver's windows.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Utilisation {
    /// Its id.
    pub(crate) pid: u32,
    /// When the window ended, microseconds.
    pub(crate) timestamp: u64,
    /// Of the multiprocessors.
    pub(crate) sm_percent: u32,
    /// Of the memory.
    pub(crate) memory_percent: u32,
}

/// A process on a device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// Memory it holds; absent: "not available".
    #[serde(default)]
    pub(crate) memory_bytes: Option<u64>,
}

/// An `nvmlReturn_t`, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ErrorName {
    /// 1
    Uninitialized,
    /// 2
    InvalidArgument,
    /// 3
    NotSupported,
    /// 4
    NoPermission,
    /// 6
    NotFound,
    /// 9
    DriverNotLoaded,
    /// 10
    Timeout,
    /// 13
    FunctionNotFound,
    /// 15
    GpuIsLost,
    /// 16
    ResetRequired,
    /// 18
    LibRmVersionMismatch,
    /// 999
    Unknown,
}

impl ErrorName {
    /// The number in `nvml.h`.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Uninitialized => 1,
            Self::InvalidArgument => 2,
            Self::NotSupported => 3,
            Self::NoPermission => 4,
            Self::NotFound => 6,
            Self::DriverNotLoaded => 9,
            Self::Timeout => 10,
            Self::FunctionNotFound => 13,
            Self::GpuIsLost => 15,
            Self::ResetRequired => 16,
            Self::LibRmVersionMismatch => 18,
            Self::Unknown => 999,
        }
    }
}
