//! One device: its facts, and one reading of its fields.

use chimera_domain::telemetry::{
    GapReason, GpuFacts, GpuProcess, GpuProcessKind, GpuSample, GpuUuid, TelemetryField,
    ThrottleReason,
};
use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::{Bits, NvmlError};
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::Missing;
use super::map::{Trouble, throttle_reasons, trouble};

pub(super) fn facts(
    uuid: GpuUuid,
    index: u32,
    gpu: &Device<'_>,
    driver_version: Option<String>,
) -> GpuFacts {
    GpuFacts {
        name: gpu.name().ok(),
        driver_version,
        memory_total_bytes: gpu.memory_info().ok().map(|memory| memory.total),
        power_limit_watts: gpu
            .enforced_power_limit()
            .ok()
            .map(|milli| f64::from(milli) / 1e3),
        sm_clock_max_mhz: gpu.max_clock_info(Clock::SM).ok(),
        ..GpuFacts::unknown(uuid, index)
    }
}

/// A reading showed that more than a field is missing.
pub(super) struct Gone {
    /// The driver, not only this device.
    pub(super) driver: bool,
    pub(super) reason: GapReason,
    pub(super) error: NvmlError,
}

/// Reads the fields of one device, keeping book of those that are missing.
pub(super) struct Reader<'a, 'nvml> {
    pub(super) gpu: &'a Device<'nvml>,
    pub(super) missing: &'a mut Missing,
}

impl Reader<'_, '_> {
    pub(super) fn sample(mut self, uuid: &GpuUuid) -> Result<GpuSample, Gone> {
        use TelemetryField as Field;
        let gpu = self.gpu;
        let rates = self.take(Field::GpuUtilisation, gpu.utilization_rates())?;
        let compute = self.take(Field::GpuProcesses, gpu.running_compute_processes())?;
        // Asked only if the first list was had: half a list would look like a whole one.
        let processes = match compute {
            None => None,
            Some(compute) => self
                .take(Field::GpuProcesses, gpu.running_graphics_processes())?
                .map(|graphics| processes(&compute, &graphics)),
        };
        Ok(GpuSample {
            utilisation: rates.as_ref().map(|rates| f64::from(rates.gpu) / 100.0),
            memory_utilisation: rates.as_ref().map(|rates| f64::from(rates.memory) / 100.0),
            memory_used_bytes: self
                .take(Field::GpuMemory, gpu.memory_info())?
                .map(|memory| memory.used),
            power_watts: self
                .take(Field::Power, gpu.power_usage())?
                .map(|milliwatts| f64::from(milliwatts) / 1e3),
            energy_joules: self
                .take(Field::Energy, gpu.total_energy_consumption())?
                .map(joules),
            sm_clock_mhz: self.take(Field::SmClock, gpu.clock_info(Clock::SM))?,
            memory_clock_mhz: self.take(Field::MemoryClock, gpu.clock_info(Clock::Memory))?,
            throttle_reasons: self.take(Field::ThrottleReasons, reasons(gpu))?,
            temperature_celsius: self
                .take(Field::Temperature, gpu.temperature(TemperatureSensor::Gpu))?,
            processes,
            ..GpuSample::unmeasured(uuid.clone())
        })
    }

    fn take<T>(
        &mut self,
        field: TelemetryField,
        result: Result<T, NvmlError>,
    ) -> Result<Option<T>, Gone> {
        let error = match result {
            Ok(value) => {
                self.missing.remove(&field);
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        match trouble(&error) {
            Trouble::Field(absence) => {
                self.missing.insert(field, absence);
                Ok(None)
            }
            Trouble::Device(reason) => Err(Gone {
                driver: false,
                reason,
                error,
            }),
            Trouble::Driver(reason) => Err(Gone {
                driver: true,
                reason,
                error,
            }),
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

fn processes(compute: &[ProcessInfo], graphics: &[ProcessInfo]) -> Vec<GpuProcess> {
    let of = |list: &[ProcessInfo], kind: GpuProcessKind| -> Vec<GpuProcess> {
        list.iter()
            .map(|process| GpuProcess {
                pid: process.pid,
                memory_used_bytes: match process.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Some(bytes),
                    UsedGpuMemory::Unavailable => None,
                },
                utilisation: None,
                memory_utilisation: None,
                kind,
            })
            .collect()
    };
    let mut all = of(compute, GpuProcessKind::Compute);
    all.extend(of(graphics, GpuProcessKind::Graphics));
    all.sort_by_key(|process| (process.pid, process.kind));
    all
}
