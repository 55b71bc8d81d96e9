//! NVIDIA GPUs through NVML: the only module that names nvml-wrapper.
//!
//! The library is loaded at run time, so one binary serves machines with and without a GPU. It heals
//! itself: when the driver was reset, or a GPU fell off the bus, NVML is shut down and initialised
//! again, at once the first time and then with growing pauses, because initialising is slow and
//! stops the readings of the GPUs that are well. GPUs are known by their UUID; their index and handle
//! are looked up anew each time NVML is initialised.
//!
//! Not done here: MIG instances are not listed by themselves (the whole GPU then answers "not
//! supported" for its utilisation).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use chimera_domain::telemetry::{
    Absence, GapReason, GpuFacts, GpuSample, GpuUuid, MissingField, ProbeState, ProbeStatus,
    Source, TelemetryField,
};
use chimera_domain::units::MonoNs;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::PcieUtilCounter;
use nvml_wrapper::error::NvmlError;

use crate::probe::{Away, GpuProbe, GpuReadings};

mod device;
mod map;

use device::{Gone, Reader, facts};
use map::{Trouble, driver_trouble, trouble};

/// Where the driver puts its library. The name without a version belongs to the development
/// package and is often missing, in containers above all.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];
/// Pause after a first failed attempt to initialise.
const FIRST_PAUSE_NS: u64 = 1_000_000_000;
/// Longest pause between two attempts.
const MAX_PAUSE_NS: u64 = 30_000_000_000;

type Missing = BTreeMap<TelemetryField, Absence>;

/// Reads GPUs through NVML.
pub struct NvmlProbe {
    libraries: Vec<OsString>,
    pcie: bool,
    state: State,
    facts: Vec<GpuFacts>,
    /// What the last reading of each GPU could not give.
    missing: BTreeMap<GpuUuid, Missing>,
    retry: Retry,
    /// Whose turn it is to have its PCIe traffic measured.
    turn: usize,
}

enum State {
    /// Initialised. A GPU of the facts that is not in the list is away.
    Open {
        nvml: Box<Nvml>,
        present: Vec<(u32, GpuUuid)>,
        absent: BTreeMap<GpuUuid, (GapReason, String)>,
    },
    /// Not initialised, and to be tried again.
    Away {
        reason: GapReason,
        absence: Absence,
        detail: String,
    },
    /// There is nothing to try.
    Never { absence: Absence, detail: String },
}

/// When to initialise again. Back to "at once" only when all GPUs were read, not when NVML was
/// initialised: a GPU that is listed and cannot be read would cost an initialisation per tick.
#[derive(Debug, Clone, Copy, Default)]
struct Retry {
    at: MonoNs,
    pause_ns: u64,
}

impl Retry {
    fn tried(&mut self, now: MonoNs) {
        self.pause_ns = self
            .pause_ns
            .saturating_mul(2)
            .clamp(FIRST_PAUSE_NS, MAX_PAUSE_NS);
        self.at = now.plus(self.pause_ns);
    }
}

impl NvmlProbe {
    /// Loads and initialises NVML. Never fails: [`GpuProbe::status`] says what came of it.
    ///
    /// `library`: where it is, if not where the driver puts it. `pcie`: whether to measure PCIe
    /// traffic, which takes 20 ms of every tick.
    #[must_use]
    pub fn open(library: Option<PathBuf>, pcie: bool, now: MonoNs) -> Self {
        let libraries = match library {
            Some(path) => vec![path.into_os_string()],
            None => LIBRARIES.map(OsString::from).to_vec(),
        };
        let mut probe = Self {
            libraries,
            pcie,
            state: State::Never {
                absence: Absence::NoLibrary,
                detail: String::new(),
            },
            facts: Vec::new(),
            missing: BTreeMap::new(),
            retry: Retry::default(),
            turn: 0,
        };
        probe.init(now);
        probe
    }

    /// Initialises; the next attempt must wait, unless all GPUs are read before (see [`Retry`]).
    fn init(&mut self, now: MonoNs) {
        self.state = self.load();
        self.retry.tried(now);
    }

    fn load(&mut self) -> State {
        let mut last: Option<NvmlError> = None;
        for library in &self.libraries {
            match Nvml::builder().lib_path(library).init() {
                Ok(nvml) => return self.enumerate(Box::new(nvml)),
                // The next name may be another library; a driver that does not answer is the same.
                Err(error @ (NvmlError::LibloadingError(_) | NvmlError::FailedToLoadSymbol(_))) => {
                    last = Some(error);
                }
                Err(error) => {
                    let (reason, absence) = driver_trouble(&error);
                    let detail = format!(
                        "NVML cannot be initialised ({error}): no GPU figures are recorded until it \
                         can; is the NVIDIA driver loaded, and of the library's version?"
                    );
                    return State::Away {
                        reason,
                        absence,
                        detail,
                    };
                }
            }
        }
        let why = last.map_or_else(String::new, |error| format!(" ({error})"));
        State::Never {
            absence: Absence::NoLibrary,
            detail: format!(
                "NVML not found: no GPU figures will be recorded; host and engine-process figures are{why}"
            ),
        }
    }

    /// Lists the GPUs, reads their facts, and notes which known ones are not there.
    fn enumerate(&mut self, nvml: Box<Nvml>) -> State {
        let count = match nvml.device_count() {
            Ok(count) => count,
            Err(error) => {
                let (reason, absence) = driver_trouble(&error);
                let detail = format!("NVML does not list its devices ({error})");
                return State::Away {
                    reason,
                    absence,
                    detail,
                };
            }
        };
        let driver_version = nvml.sys_driver_version().ok();
        let mut present = Vec::new();
        let mut reason = (
            GapReason::GpuLost,
            "the driver no longer lists it".to_owned(),
        );
        for index in 0..count {
            let found = nvml
                .device_by_index(index)
                .and_then(|gpu| Ok((gpu.uuid()?, gpu)));
            match found {
                Ok((uuid, gpu)) => {
                    let uuid = GpuUuid(uuid);
                    let facts = facts(uuid.clone(), index, &gpu, driver_version.clone());
                    match self.facts.iter_mut().find(|known| known.uuid == uuid) {
                        Some(known) => *known = facts,
                        None => self.facts.push(facts),
                    }
                    present.push((index, uuid));
                }
                // It has no name to say; a known one that is missing below is this one.
                Err(error) => {
                    if let Trouble::Device(class) = trouble(&error) {
                        reason = (class, error.to_string());
                    }
                    tracing::warn!(index, %error, "a GPU cannot be opened");
                }
            }
        }
        let absent = self
            .facts
            .iter()
            .filter(|known| !present.iter().any(|(_, uuid)| *uuid == known.uuid))
            .map(|known| (known.uuid.clone(), reason.clone()))
            .collect();
        State::Open {
            nvml,
            present,
            absent,
        }
    }

    /// Initialises again if it is time and something is away.
    fn heal(&mut self, now: MonoNs) {
        let wanting = match &self.state {
            State::Open { absent, .. } => !absent.is_empty(),
            State::Away { .. } => true,
            State::Never { .. } => false,
        };
        if wanting && now >= self.retry.at {
            self.reopen(now);
        }
    }

    fn reopen(&mut self, now: MonoNs) {
        // The old session must be shut down first: dropping it does so.
        self.state = State::Away {
            reason: GapReason::DriverReset,
            absence: Absence::NoDriver,
            detail: "NVML is being initialised again".to_owned(),
        };
        self.init(now);
        match &self.state {
            State::Open { absent, .. } if absent.is_empty() => {
                tracing::info!(
                    gpus = self.facts.len(),
                    "NVML was initialised again; all GPUs answer"
                );
            }
            State::Open { absent, .. } => {
                tracing::debug!(
                    away = absent.len(),
                    "NVML was initialised again; GPUs are away"
                );
            }
            State::Away { detail, .. } | State::Never { detail, .. } => {
                tracing::debug!(%detail, "NVML could not be initialised again");
            }
        }
    }

    /// One reading of all GPUs present; `Err` if the driver is gone.
    fn read(&mut self) -> Result<GpuReadings, (GapReason, NvmlError)> {
        let mut readings = GpuReadings::default();
        let State::Open {
            nvml,
            present,
            absent,
        } = &mut self.state
        else {
            return Ok(readings);
        };
        for (index, uuid) in present.iter() {
            let missing = self.missing.entry(uuid.clone()).or_default();
            let sample = match nvml.device_by_index(*index) {
                Ok(gpu) => Reader { gpu: &gpu, missing }.sample(uuid),
                Err(error) => match trouble(&error) {
                    Trouble::Driver(reason) => Err(Gone {
                        driver: true,
                        reason,
                        error,
                    }),
                    Trouble::Device(reason) => Err(Gone {
                        driver: false,
                        reason,
                        error,
                    }),
                    Trouble::Field(_) => Err(Gone {
                        driver: false,
                        reason: GapReason::DriverError,
                        error,
                    }),
                },
            };
            match sample {
                Ok(sample) if sample.is_unmeasured() => {
                    let detail = "not one of its values could be read".to_owned();
                    absent.insert(uuid.clone(), (GapReason::ReadFailed, detail));
                }
                Ok(sample) => readings.gpus.push(sample),
                Err(gone) if gone.driver => return Err((gone.reason, gone.error)),
                Err(gone) => {
                    tracing::warn!(gpu = %uuid, error = %gone.error, "a GPU is away; it is looked for");
                    absent.insert(uuid.clone(), (gone.reason, gone.error.to_string()));
                }
            }
        }
        present.retain(|(_, uuid)| !absent.contains_key(uuid));
        for (uuid, (reason, detail)) in absent.iter() {
            readings.away.push(Away {
                source: Source::Gpu(uuid.clone()),
                reason: *reason,
                detail: detail.clone(),
            });
        }
        Ok(readings)
    }

    fn all_away(&self) -> GpuReadings {
        let mut readings = GpuReadings::default();
        if let State::Away { reason, detail, .. } = &self.state
            && !self.facts.is_empty()
        {
            readings.away.push(Away {
                source: Source::Gpus,
                reason: *reason,
                detail: detail.clone(),
            });
        }
        readings
    }
}

impl GpuProbe for NvmlProbe {
    fn sample(&mut self, now: MonoNs) -> GpuReadings {
        self.heal(now);
        match self.read() {
            Ok(readings) if matches!(self.state, State::Open { .. }) => {
                if readings.away.is_empty() {
                    self.retry = Retry::default();
                }
                readings
            }
            Ok(_) => self.all_away(),
            Err((reason, error)) => {
                tracing::warn!(%error, "the driver was reset or unloaded; NVML is initialised again");
                self.state = State::Away {
                    reason,
                    absence: Absence::NoDriver,
                    detail: error.to_string(),
                };
                let lost = self.all_away();
                self.heal(now);
                lost
            }
        }
    }

    fn sample_slow(&mut self, gpus: &mut [GpuSample]) {
        let State::Open { nvml, present, .. } = &self.state else {
            return;
        };
        if !self.pcie || present.is_empty() {
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let Some((index, uuid)) = present.get((self.turn / 2) % present.len()) else {
            return;
        };
        let Some(sample) = gpus.iter_mut().find(|sample| sample.uuid == *uuid) else {
            return;
        };
        let receive = self.turn.is_multiple_of(2);
        let (field, counter) = if receive {
            (TelemetryField::PcieRx, PcieUtilCounter::Receive)
        } else {
            (TelemetryField::PcieTx, PcieUtilCounter::Send)
        };
        let missing = self.missing.entry(uuid.clone()).or_default();
        let rate = nvml
            .device_by_index(*index)
            .and_then(|gpu| gpu.pcie_throughput(counter));
        // A lost device or driver is noticed, and told as such, by the next `sample`.
        let rate = match rate {
            Ok(kilobytes) => {
                missing.remove(&field);
                Some(u64::from(kilobytes).saturating_mul(1000))
            }
            Err(error) => {
                if let Trouble::Field(absence) = trouble(&error) {
                    missing.insert(field, absence);
                }
                None
            }
        };
        if receive {
            sample.pcie_rx_bytes_per_s = rate;
        } else {
            sample.pcie_tx_bytes_per_s = rate;
        }
    }

    fn facts(&self) -> &[GpuFacts] {
        &self.facts
    }

    fn status(&self) -> Vec<ProbeStatus> {
        let of_all = |reason: Absence, detail: &str| {
            vec![ProbeStatus {
                source: Source::Gpus,
                state: ProbeState::NotMeasured {
                    reason,
                    detail: detail.to_owned(),
                },
            }]
        };
        match &self.state {
            State::Never { absence, detail } => of_all(*absence, detail),
            State::Away {
                absence, detail, ..
            } if self.facts.is_empty() => of_all(*absence, detail),
            State::Open { .. } if self.facts.is_empty() => of_all(
                Absence::NoDevice,
                "the NVIDIA driver lists no GPU: no GPU figures will be recorded",
            ),
            State::Open { .. } | State::Away { .. } => self
                .facts
                .iter()
                .map(|facts| self.status_of(&facts.uuid))
                .collect(),
        }
    }
}

impl NvmlProbe {
    fn status_of(&self, uuid: &GpuUuid) -> ProbeStatus {
        let mut missing = self.missing.get(uuid).cloned().unwrap_or_default();
        if !self.pcie {
            missing.insert(TelemetryField::PcieRx, Absence::Disabled);
            missing.insert(TelemetryField::PcieTx, Absence::Disabled);
        }
        let missing = missing
            .into_iter()
            .map(|(field, reason)| MissingField { field, reason })
            .collect();
        ProbeStatus {
            source: Source::Gpu(uuid.clone()),
            state: ProbeState::Measured { missing },
        }
    }
}
