//! One GPU: its identity, its facts, and one reading of its files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chimera_domain::telemetry::{
    Absence, GpuFacts, GpuSample, GpuUuid, MissingField, TelemetryField as Field,
};
use chimera_domain::units::MonoNs;
use nix::errno::Errno;

use super::kfd::Kfd;
use crate::proc::{ProcFile, number};

/// AMD, in the table of PCI.
const VENDOR: &str = "0x1002";
/// Time between two lists of processes, and two readings of memory errors.
const SELDOM_NS: u64 = 250_000_000;

/// Who a GPU is and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uuid: GpuUuid,
    /// The number of its card.
    number: u32,
    folder: PathBuf,
}

impl Identity {
    /// That of card `number`, if it is one of AMD's.
    pub(super) fn read(sys: &Path, number: u32) -> Option<Self> {
        let folder = sys.join(format!("class/drm/card{number}/device"));
        if text(&folder.join("vendor"))? != VENDOR {
            return None;
        }
        let unique = text(&folder.join("unique_id")).filter(|id| !id.trim_matches('0').is_empty());
        let name = unique.or_else(|| uevent(&folder, "PCI_SLOT_NAME"))?;
        Some(Self {
            uuid: GpuUuid(format!("AMD-{name}")),
            number,
            folder,
        })
    }
}

/// A GPU whose files are open.
#[derive(Debug)]
pub(super) struct Card {
    identity: Identity,
    files: Files,
    kfd: Result<Kfd, Absence>,
    seldom_due: MonoNs,
    missing: BTreeMap<Field, Absence>,
}

#[derive(Debug)]
struct Files {
    busy: Value,
    memory_busy: Value,
    memory_used: Value,
    memory_total: Value,
    power: Value,
    energy: Value,
    temperature: Value,
    clock: Value,
    memory_clock: Value,
    errors: Value,
}

impl Card {
    /// Opens all files of a GPU; also its facts.
    pub(super) fn open(sys: &Path, identity: Identity) -> (Self, GpuFacts) {
        let folder = &identity.folder;
        let monitor = monitor(folder);
        let at = |name: &str| Value::open(&folder.join(name));
        // Without a monitor its files are missing like any other.
        let monitored = |name: &str| Value::open(&monitor.join(name));
        let files = Files {
            busy: at("gpu_busy_percent"),
            memory_busy: at("mem_busy_percent"),
            memory_used: at("mem_info_vram_used"),
            memory_total: at("mem_info_vram_total"),
            power: monitored("power1_average").or(monitored("power1_input")),
            energy: monitored("energy1_input"),
            temperature: monitored("temp1_input"),
            clock: monitored("freq1_input").or(at("pp_dpm_sclk")),
            memory_clock: monitored("freq2_input").or(at("pp_dpm_mclk")),
            errors: at("ras/umc_err_count"),
        };
        let known = |name: &str| text(&folder.join(name)).filter(|text| !text.is_empty());
        let limit = text(&monitor.join("power1_cap")).and_then(|watts| watts.parse().ok());
        let slowdown = text(&monitor.join("temp1_crit")).and_then(|text| text.parse().ok());
        let facts = GpuFacts {
            name: known("product_name").or_else(|| {
                let id = uevent(folder, "PCI_ID")?;
                Some(format!("AMD GPU {id}"))
            }),
            driver_version: text(&sys.join("module/amdgpu/version")),
            memory_total_bytes: known("mem_info_vram_total").and_then(|total| total.parse().ok()),
            power_limit_watts: limit.map(|microwatts| number(microwatts) / 1e6),
            sm_clock_max_mhz: known("pp_dpm_sclk").as_deref().and_then(highest_level),
            ecc_enabled: files.errors.is_there().then_some(true),
            slowdown_celsius: slowdown.and_then(degrees),
            ..GpuFacts::unknown(identity.uuid.clone(), identity.number)
        };
        let kfd = Kfd::find(sys, folder).ok_or(Absence::NotSupported);
        let card = Self {
            identity,
            files,
            kfd,
            seldom_due: MonoNs(0),
            missing: BTreeMap::new(),
        };
        (card, facts)
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn missing(&self) -> Vec<MissingField> {
        self.missing
            .iter()
            .map(|(&field, &reason)| MissingField { field, reason })
            .collect()
    }

    /// Reads everything.
    ///
    /// # Errors
    /// If the files answer that there is no such device any more.
    pub(super) fn sample(&mut self, now: MonoNs) -> io::Result<GpuSample> {
        let Self {
            files,
            missing,
            seldom_due,
            kfd,
            ..
        } = self;
        // Memory errors and processes keep what was said of them, until they are read again.
        missing.retain(|field, _| matches!(field, Field::Ecc | Field::GpuProcesses));
        for field in [
            Field::GpuMemoryDetail,
            Field::GpuProcessUtilisation,
            Field::ThrottleReasons,
            Field::PcieRx,
            Field::PcieTx,
            Field::GpuErrors,
        ] {
            missing.insert(field, Absence::NotSupported);
        }
        let mut sample = GpuSample::unmeasured(self.identity.uuid.clone());
        let part = |percent: &str| Some(number(percent.parse().ok()?) / 100.0);
        sample.utilisation = files.busy.read(Field::GpuUtilisation, missing, part)?;
        sample.memory_utilisation = files
            .memory_busy
            .read(Field::GpuUtilisation, missing, part)?;
        let bytes = |text: &str| text.parse::<u64>().ok();
        sample.memory_used_bytes = files.memory_used.read(Field::GpuMemory, missing, bytes)?;
        let total = files.memory_total.read(Field::GpuMemory, missing, bytes)?;
        sample.memory_free_bytes = total
            .zip(sample.memory_used_bytes)
            .and_then(|(total, used)| total.checked_sub(used));
        let micro = |text: &str| Some(number(text.parse().ok()?) / 1e6);
        sample.power_watts = files.power.read(Field::Power, missing, micro)?;
        sample.energy_joules = files.energy.read(Field::Energy, missing, micro)?;
        sample.temperature_celsius =
            files
                .temperature
                .read(Field::Temperature, missing, |text| {
                    degrees(text.parse().ok()?)
                })?;
        sample.sm_clock_mhz = files.clock.read(Field::SmClock, missing, megahertz)?;
        sample.memory_clock_mhz =
            files
                .memory_clock
                .read(Field::MemoryClock, missing, megahertz)?;
        if now < *seldom_due {
            return Ok(sample);
        }
        *seldom_due = now.plus(SELDOM_NS);
        missing.remove(&Field::Ecc);
        missing.remove(&Field::GpuProcesses);
        let errors = files.errors.read(Field::Ecc, missing, memory_errors)?;
        sample.ecc_corrected = errors.map(|(corrected, _)| corrected);
        sample.ecc_uncorrected = errors.map(|(_, uncorrected)| uncorrected);
        let listed = match kfd {
            Ok(kfd) => kfd.processes().map_err(|error| absence(&error)),
            Err(absence) => Err(*absence),
        };
        match listed {
            Ok(processes) => sample.processes = Some(processes),
            Err(absence) => {
                missing.insert(Field::GpuProcesses, absence);
            }
        }
        Ok(sample)
    }
}

/// A file that holds one value, or why there is none.
#[derive(Debug)]
struct Value(Result<ProcFile, Absence>);

impl Value {
    fn open(path: &Path) -> Self {
        Self(ProcFile::open_line(path).map_err(|error| absence(&error)))
    }

    /// This one, or the other if this one is not there.
    fn or(self, other: Self) -> Self {
        if self.is_there() { self } else { other }
    }

    fn is_there(&self) -> bool {
        self.0.is_ok()
    }

    /// Its value now; `None` goes into `missing`.
    ///
    /// # Errors
    /// If there is no such device any more.
    fn read<T>(
        &mut self,
        field: Field,
        missing: &mut BTreeMap<Field, Absence>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let why = match &mut self.0 {
            Err(absence) => *absence,
            Ok(file) => match file.read() {
                Ok(text) => match parse(text.trim()) {
                    Some(value) => return Ok(Some(value)),
                    None => Absence::Unreadable,
                },
                Err(error) if is_gone(&error) => return Err(error),
                Err(error) => absence(&error),
            },
        };
        missing.insert(field, why);
        Ok(None)
    }
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::ENODEV, Errno::ENXIO].map(|errno| Some(errno as i32));
    gone.contains(&error.raw_os_error())
}

fn absence(error: &io::Error) -> Absence {
    if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) {
        return Absence::NotSupported;
    }
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::Unsupported => Absence::NotSupported,
        io::ErrorKind::PermissionDenied => Absence::NoPermission,
        _ => Absence::Unreadable,
    }
}

/// The content of a small file, without the space around it.
pub(super) fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A value of the device's `uevent`.
fn uevent(folder: &Path, key: &str) -> Option<String> {
    let all = text(&folder.join("uevent"))?;
    let mut pairs = all.lines().filter_map(|line| line.split_once('='));
    pairs.find_map(|(name, value)| (name == key).then(|| value.to_owned()))
}

/// The folder of its monitor: there is one, with a number of its own.
fn monitor(folder: &Path) -> PathBuf {
    let all = folder.join("hwmon");
    let mut found: Vec<PathBuf> = fs::read_dir(&all)
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect()
        })
        .unwrap_or_default();
    found.sort();
    found.into_iter().next().unwrap_or(all)
}

/// Thousandths of a degree as degrees.
fn degrees(thousandths: i64) -> Option<u32> {
    u32::try_from(thousandths / 1000).ok()
}

/// Hertz of the monitor, or the level in force of a table of levels ("1: 2100Mhz *").
fn megahertz(text: &str) -> Option<u32> {
    if let Ok(hertz) = text.parse::<u64>() {
        return u32::try_from(hertz / 1_000_000).ok();
    }
    let chosen = text.lines().find(|line| line.trim_end().ends_with('*'))?;
    level(chosen)
}

fn highest_level(table: &str) -> Option<u32> {
    table.lines().filter_map(level).max()
}

/// "1: 2100Mhz *" as 2100.
fn level(line: &str) -> Option<u32> {
    let (_, speed) = line.split_once(':')?;
    let speed = speed.trim().trim_end_matches('*').trim();
    let digits = speed.len().checked_sub(3)?;
    let (number, unit) = speed.split_at_checked(digits)?;
    unit.eq_ignore_ascii_case("mhz")
        .then(|| number.parse().ok())
        .flatten()
}

/// (corrected, uncorrected) of "ue: 0" and "ce: 3".
fn memory_errors(text: &str) -> Option<(u64, u64)> {
    let count = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(key))?;
        line.trim().parse::<u64>().ok()
    };
    Some((count("ce:")?, count("ue:")?))
}
