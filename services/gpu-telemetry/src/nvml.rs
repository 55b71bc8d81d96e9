//! NVIDIA GPUs through NVML: the only module that names nvml-wrapper.
//!
//! The library is loaded at run time, so one binary serves machines with and without a GPU. It heals
//! itself: when the driver was reset, or a GPU fell off the bus, NVML is shut down and initialised
//! again, at once the first time and then with growing pauses, because initialising is slow and
//! stops the readings of the GPUs that are well. GPUs are known by their UUID; their index and handle
//! are looked up anew each time NVML is initialised.
//!
//! What is read when: at every tick what is cheap; lists of processes every 250 ms; memory errors,
//! power limit and mode of one GPU at a time, each once a second; PCIe traffic in turn; errors (Xid)
//! on a thread of their own. What a device says it cannot give is asked again after a minute.
//!
//! A GPU in MIG mode says "not supported" to its utilisation. Each of its instances is a device of its
//! own here, known by its UUID (`MIG-...`), with its memory and its processes; one that is taken down
//! is forgotten, which is no gap.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use chimera_domain::telemetry::{
    Absence, GapReason, GpuError, GpuFacts, GpuSample, GpuUuid, MissingField, ProbeState,
    ProbeStatus, Source, TelemetryField,
};
use chimera_domain::units::MonoNs;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::probe::{Away, GpuProbe, GpuReadings};

mod device;
mod events;
mod ledger;
mod listing;
mod map;
mod processes;
mod turns;

use device::{Gone, Reader};
use events::{Told, Watch};
use ledger::Ledger;
use listing::{Absent, Place};
use map::driver_trouble;

/// Where the driver puts its library. The name without a version belongs to the development
/// package and is often missing, in containers above all.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];
/// Pause after a first failed attempt to initialise.
const FIRST_PAUSE_NS: u64 = 1_000_000_000;
/// Longest pause between two attempts.
const MAX_PAUSE_NS: u64 = 30_000_000_000;

/// Reads GPUs through NVML.
pub struct NvmlProbe {
    libraries: Vec<OsString>,
    pcie: bool,
    state: State,
    facts: Vec<GpuFacts>,
    /// The instances among them, and the GPUs that they are part of.
    instances: BTreeMap<GpuUuid, GpuUuid>,
    /// What the last readings of each GPU could not give, and what is due.
    ledgers: BTreeMap<GpuUuid, Ledger>,
    retry: Retry,
    /// The instances are not those that we know.
    relist: bool,
    /// Errors that GPUs reported and no reading has told of yet.
    errors: Vec<GpuError>,
    /// Whose turn it is to have its PCIe traffic measured.
    turn: usize,
}

enum State {
    /// Initialised. A GPU of the facts that is not in the list is away.
    Open {
        // Before `nvml`: it ends before NVML is shut down.
        watch: Option<Watch>,
        nvml: Arc<Nvml>,
        present: Vec<Place>,
        absent: Absent,
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
            instances: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            retry: Retry::default(),
            relist: false,
            errors: Vec::new(),
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
                Ok(nvml) => return self.begin(Arc::new(nvml)),
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

    /// Lists the GPUs of a new initialisation, and listens to them.
    fn begin(&mut self, nvml: Arc<Nvml>) -> State {
        self.ledgers.clear();
        let (present, absent) = match self.list(&nvml) {
            Ok(listed) => listed,
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
        let whole: Vec<(u32, GpuUuid)> = present
            .iter()
            .filter(|place| place.instance.is_none())
            .map(|place| (place.index, place.uuid.clone()))
            .collect();
        let watch = if whole.is_empty() {
            None
        } else {
            self.watch(&nvml, whole)
        };
        State::Open {
            watch,
            nvml,
            present,
            absent,
        }
    }

    fn watch(&mut self, nvml: &Arc<Nvml>, gpus: Vec<(u32, GpuUuid)>) -> Option<Watch> {
        let all: Vec<GpuUuid> = gpus.iter().map(|(_, uuid)| uuid.clone()).collect();
        let (watch, cannot) = match Watch::start(nvml, gpus) {
            Ok((watch, cannot)) => (Some(watch), cannot),
            Err(error) => {
                tracing::warn!(%error, "no thread to listen to GPUs: raise the limit on threads (ulimit -u)");
                let deaf = |uuid| (uuid, Absence::Unreadable);
                (None, all.into_iter().map(deaf).collect())
            }
        };
        for (uuid, reason) in cannot {
            let ledger = self.ledgers.entry(uuid).or_default();
            ledger.never(TelemetryField::GpuErrors, reason);
        }
        watch
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
        // The old session must be shut down first: leaving it does so.
        self.leave(State::Away {
            reason: GapReason::DriverReset,
            absence: Absence::NoDriver,
            detail: "NVML is being initialised again".to_owned(),
        });
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
    fn read(&mut self, now: MonoNs) -> Result<GpuReadings, (GapReason, NvmlError)> {
        let mut readings = GpuReadings::default();
        let State::Open {
            nvml,
            present,
            absent,
            ..
        } = &mut self.state
        else {
            return Ok(readings);
        };
        for place in present.iter() {
            let uuid = &place.uuid;
            let ledger = self.ledgers.entry(uuid.clone()).or_default();
            ledger.tick(now);
            let sample = match place.open(nvml) {
                Ok(gpu) => Reader { gpu: &gpu, ledger }.sample(uuid),
                Err(error) if place.is_taken_down(&error) => {
                    self.relist = true;
                    continue;
                }
                Err(error) => Err(Gone::at_once(error)),
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
            if let Some(facts) = self.facts.iter_mut().find(|known| known.uuid == *uuid) {
                facts.mps_active = ledger.mps_active.or(facts.mps_active);
            }
        }
        present.retain(|place| !absent.contains_key(&place.uuid));
        for (uuid, (reason, detail)) in absent.iter() {
            readings.away.push(Away {
                source: Source::Gpu(uuid.clone()),
                reason: *reason,
                detail: detail.clone(),
            });
        }
        Ok(readings)
    }

    /// Shuts NVML down, with whatever was still to be heard.
    fn leave(&mut self, away: State) {
        if let State::Open {
            watch: Some(watch), ..
        } = std::mem::replace(&mut self.state, away)
        {
            self.hear(watch.finish());
        }
    }

    /// Takes what GPUs reported since the tick before.
    fn listen(&mut self) {
        if let State::Open {
            watch: Some(watch), ..
        } = &self.state
        {
            self.hear(watch.take());
        }
    }

    fn hear(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Error(error) => self.errors.push(error),
                Told::Deaf(uuid) => self
                    .ledgers
                    .entry(uuid)
                    .or_default()
                    .never(TelemetryField::GpuErrors, Absence::Unreadable),
            }
        }
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
        self.listen();
        self.heal(now);
        if self.relist {
            self.list_again();
        }
        let mut readings = match self.read(now) {
            Ok(readings) if matches!(self.state, State::Open { .. }) => {
                if readings.away.is_empty() {
                    self.retry = Retry::default();
                }
                readings
            }
            Ok(_) => self.all_away(),
            Err((reason, error)) => {
                tracing::warn!(%error, "the driver was reset or unloaded; NVML is initialised again");
                self.leave(State::Away {
                    reason,
                    absence: Absence::NoDriver,
                    detail: error.to_string(),
                });
                let lost = self.all_away();
                self.heal(now);
                lost
            }
        };
        readings.errors = std::mem::take(&mut self.errors);
        readings
    }

    fn sample_slow(&mut self, gpus: &mut [GpuSample]) {
        self.seldom(gpus);
        self.traffic(gpus);
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
        let mut missing: BTreeMap<TelemetryField, Absence> = self
            .ledgers
            .get(uuid)
            .into_iter()
            .flat_map(Ledger::missing)
            .map(|missing| (missing.field, missing.reason))
            .collect();
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
