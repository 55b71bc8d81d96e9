//! One device: its facts, and one reading of its fields.

use chimera_domain::telemetry::{
    GapReason, GpuFacts, GpuSample, GpuUuid, TelemetryField as Field, ThrottleReason,
};
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::error::{Bits, NvmlError};
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::ledger::Ledger;
use super::map::{Trouble, optional, throttle_reasons, trouble};

/// What is the same for every device of one initialisation.
#[derive(Debug, Clone, Default)]
pub(super) struct Versions {
    driver: Option<String>,
    library: Option<String>,
    cuda: Option<String>,
}

impl Versions {
    pub(super) fn read(nvml: &Nvml) -> Self {
        let driver = nvml.sys_driver_version().ok();
        // The library's is the driver's behind the CUDA version ("12.570.00"), where they fit.
        let differs = |library: &String| {
            driver
                .as_ref()
                .is_none_or(|driver| !library.ends_with(driver.as_str()))
        };
        let library = nvml.sys_nvml_version().ok().filter(differs);
        let cuda = nvml.sys_cuda_driver_version().ok().map(|version| {
            let (major, minor) = (
                cuda_driver_version_major(version),
                cuda_driver_version_minor(version),
            );
            format!("{major}.{minor}")
        });
        Self {
            driver,
            library,
            cuda,
        }
    }
}

pub(super) fn facts(
    uuid: GpuUuid,
    index: u32,
    gpu: &Device<'_>,
    versions: &Versions,
    known: Option<&GpuFacts>,
) -> GpuFacts {
    let ecc = gpu.is_ecc_enabled().ok();
    let slowdown = gpu.temperature_threshold(TemperatureThreshold::Slowdown);
    GpuFacts {
        uuid,
        index,
        name: gpu.name().ok(),
        driver_version: versions.driver.clone(),
        memory_total_bytes: gpu.memory_info().ok().map(|memory| memory.total),
        power_limit_watts: power_limit(gpu),
        sm_clock_max_mhz: gpu.max_clock_info(Clock::SM).ok(),
        library_version: versions.library.clone(),
        cuda_version: versions.cuda.clone(),
        mig_enabled: mig_enabled(gpu),
        // Told by the first list of processes.
        mps_active: known.and_then(|known| known.mps_active),
        ecc_enabled: ecc.map(|mode| mode.currently_enabled),
        slowdown_celsius: slowdown.ok(),
    }
}

/// The facts of a MIG instance: what is the whole GPU's is left out.
pub(super) fn instance_facts(
    uuid: GpuUuid,
    index: u32,
    gpu: &Device<'_>,
    versions: &Versions,
) -> GpuFacts {
    GpuFacts {
        name: gpu.name().ok(),
        driver_version: versions.driver.clone(),
        library_version: versions.library.clone(),
        cuda_version: versions.cuda.clone(),
        memory_total_bytes: gpu.memory_info().ok().map(|memory| memory.total),
        mig_enabled: Some(true),
        ..GpuFacts::unknown(uuid, index)
    }
}

fn power_limit(gpu: &Device<'_>) -> Option<f64> {
    let milliwatts = gpu.enforced_power_limit().ok()?;
    Some(f64::from(milliwatts) / 1e3)
}

fn mig_enabled(gpu: &Device<'_>) -> Option<bool> {
    gpu.mig_mode().ok().map(|mode| mode.current == 1)
}

/// A reading showed that more than a field is missing.
pub(super) struct Gone {
    /// The driver, not only this device.
    pub(super) driver: bool,
    pub(super) reason: GapReason,
    pub(super) error: NvmlError,
}

impl Gone {
    /// A device could not even be named: a field's trouble is the device's then.
    pub(super) fn at_once(error: NvmlError) -> Self {
        let (driver, reason) = match trouble(&error) {
            Trouble::Driver(reason) => (true, reason),
            Trouble::Device(reason) => (false, reason),
            Trouble::Field(_) => (false, GapReason::DriverError),
        };
        Self {
            driver,
            reason,
            error,
        }
    }
}

/// Reads the fields of one device, keeping book of those that are missing.
pub(super) struct Reader<'a, 'nvml> {
    pub(super) gpu: &'a Device<'nvml>,
    pub(super) ledger: &'a mut Ledger,
}

impl<'nvml> Reader<'_, 'nvml> {
    /// What is read at every tick, and processes when they are due.
    pub(super) fn sample(mut self, uuid: &GpuUuid) -> Result<GpuSample, Gone> {
        let rates = self.take(Field::GpuUtilisation, Device::utilization_rates)?;
        let memory = self.take(Field::GpuMemory, Device::memory_info)?;
        self.ledger.same(Field::GpuMemoryDetail, Field::GpuMemory);
        let mut sample = GpuSample {
            utilisation: rates.as_ref().map(|rates| f64::from(rates.gpu) / 100.0),
            memory_utilisation: rates.as_ref().map(|rates| f64::from(rates.memory) / 100.0),
            memory_used_bytes: memory.as_ref().map(|memory| memory.used),
            memory_free_bytes: memory.as_ref().map(|memory| memory.free),
            memory_reserved_bytes: memory.as_ref().map(|memory| memory.reserved),
            power_watts: self
                .take(Field::Power, Device::power_usage)?
                .map(|milliwatts| f64::from(milliwatts) / 1e3),
            energy_joules: self
                .take(Field::Energy, Device::total_energy_consumption)?
                .map(joules),
            sm_clock_mhz: self.take(Field::SmClock, |gpu| gpu.clock_info(Clock::SM))?,
            memory_clock_mhz: self.take(Field::MemoryClock, |gpu| gpu.clock_info(Clock::Memory))?,
            throttle_reasons: self.take(Field::ThrottleReasons, reasons)?,
            temperature_celsius: self.take(Field::Temperature, |gpu| {
                gpu.temperature(TemperatureSensor::Gpu)
            })?,
            ..GpuSample::unmeasured(uuid.clone())
        };
        // A device that gives nothing else is well if it gives these.
        if self.ledger.processes_due() || sample.is_unmeasured() {
            let idle = rates.is_some_and(|rates| rates.gpu == 0);
            sample.processes = self.processes(idle)?;
        }
        Ok(sample)
    }

    /// What changes seldom: errors of its memory, its limit of power, its mode.
    pub(super) fn seldom(&mut self, sample: Option<&mut GpuSample>, facts: &mut GpuFacts) {
        self.ledger.seldom_read();
        if self.ledger.asks(Field::Ecc)
            && let Some(sample) = sample
        {
            let count = |kind| self.gpu.total_ecc_errors(kind, EccCounter::Volatile);
            match (
                count(MemoryError::Corrected),
                count(MemoryError::Uncorrected),
            ) {
                (Ok(corrected), Ok(uncorrected)) => {
                    self.ledger.had(Field::Ecc);
                    sample.ecc_corrected = Some(corrected);
                    sample.ecc_uncorrected = Some(uncorrected);
                }
                (Err(error), _) | (_, Err(error)) => {
                    self.ledger.lacks(Field::Ecc, optional(&error));
                }
            }
        }
        // A limit that cannot be read just now is still in force.
        facts.power_limit_watts = power_limit(self.gpu).or(facts.power_limit_watts);
        facts.mig_enabled = mig_enabled(self.gpu).or(facts.mig_enabled);
    }

    pub(super) fn take<T>(
        &mut self,
        field: Field,
        call: impl FnOnce(&Device<'nvml>) -> Result<T, NvmlError>,
    ) -> Result<Option<T>, Gone> {
        if !self.ledger.asks(field) {
            return Ok(None);
        }
        let error = match call(self.gpu) {
            Ok(value) => {
                self.ledger.had(field);
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        match trouble(&error) {
            Trouble::Field(absence) => {
                self.ledger.lacks(field, absence);
                Ok(None)
            }
            Trouble::Device(_) | Trouble::Driver(_) => Err(Gone::at_once(error)),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 mJ are 285 years at 1 kW")]
fn joules(millijoules: u64) -> f64 {
    millijoules as f64 / 1e3
}

/// The reasons in force; a bit that the wrapper does not know is kept as "other".
fn reasons(gpu: &Device<'_>) -> Result<Vec<ThrottleReason>, NvmlError> {
    match gpu.current_throttle_reasons_strict() {
        Ok(known) => Ok(throttle_reasons(known, false)),
        Err(NvmlError::IncorrectBits(Bits::U64(bits))) => Ok(throttle_reasons(
            ThrottleReasons::from_bits_truncate(bits),
            true,
        )),
        Err(error) => Err(error),
    }
}
