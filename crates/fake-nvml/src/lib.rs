//! A fake `libnvidia-ml.so`, for tests only: it lets the real `nvml-wrapper` be driven through every
//! answer that a real driver gives seldom and a test needs often.
//!
//! It exports the calls of NVML that `gpu-telemetry` makes, with their names and structures as in
//! `nvml.h`. What they answer is a JSON script, read again whenever the file changes, so that a test
//! moves the device by replacing the file (write beside, then rename). Where the script is: the
//! environment variable `FAKE_NVML_SCRIPT`, else `fake-nvml.json` beside the library. A copy of the
//! library in another folder is another driver, with a state of its own, so tests need not share.
//!
//! ```json
//! {
//!   "driver_version": "570.00",
//!   "library_version": "12.570.00",
//!   "cuda_version": 12080,
//!   "generation": 0,
//!   "init": null,
//!   "gpus": [{
//!     "uuid": "GPU-1",
//!     "name": "Fake H100",
//!     "state": null,
//!     "fields": {
//!       "utilisation_percent": [10, 20, {"error": "TIMEOUT"}, 30],
//!       "memory_utilisation_percent": 5,
//!       "memory_total_bytes": 85899345920,
//!       "memory_used_bytes": 1073741824,
//!       "memory_reserved_bytes": 524288000,
//!       "power_milliwatts": 350000,
//!       "power_limit_milliwatts": 700000,
//!       "energy_millijoules": [1000, 36000, 71000],
//!       "sm_clock_mhz": 1980,
//!       "sm_clock_max_mhz": 1980,
//!       "memory_clock_mhz": 2619,
//!       "throttle_bits": 4,
//!       "pcie_rx_kb_per_s": 100,
//!       "pcie_tx_kb_per_s": 50,
//!       "temperature_celsius": {"error": "NOT_SUPPORTED"},
//!       "slowdown_celsius": 87,
//!       "ecc_mode": 1,
//!       "ecc_corrected": 3,
//!       "ecc_uncorrected": 0,
//!       "mig_mode": 0,
//!       "event_types": 8
//!     },
//!     "compute": [{"pid": 42, "memory_bytes": 1048576}],
//!     "graphics": {"error": "NO_PERMISSION"},
//!     "mps": [],
//!     "process_utilisation": [{"pid": 42, "timestamp": 1000, "sm_percent": 50, "memory_percent": 9}],
//!     "mig": [{"uuid": "MIG-1", "fields": {"memory_total_bytes": 10737418240}}],
//!     "xids": [31]
//!   }]
//! }
//! ```
//!
//! - A value in a list is given once, then the next; the last one stays. A field that is absent
//!   answers `NOT_SUPPORTED`.
//! - `state` (`GPU_IS_LOST`, `RESET_REQUIRED`) is the answer to every call on that device.
//! - A new `generation` is a driver reset: every call answers `UNINITIALIZED` until the client shuts
//!   down and initialises again; handles from before are refused then. `init` is what initialising
//!   answers meanwhile.
//! - `mig` turns MIG mode on; without it the mode is what the field `mig_mode` says. An instance
//!   answers the same calls as a device.
//! - `xids` are reported once each time the script is read, to an event set that listens (the field
//!   `event_types` says for what it can: 8 are Xid errors).

#![cfg(unix)]

mod driver;
pub mod events;
pub mod mig;
pub mod processes;
mod script;

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::ptr::without_provenance_mut;

use driver::with;
use script::ErrorName;

const SUCCESS: c_uint = 0;

/// A device as the client holds it. Never an address: nothing is behind it.
type Handle = *mut c_void;

/// `nvmlMemory_v2_t`.
#[repr(C)]
pub struct MemoryV2 {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlUtilization_t`.
#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

fn code(result: Result<(), ErrorName>) -> c_uint {
    result.map_or_else(ErrorName::code, |()| SUCCESS)
}

/// Writes `value` to `out`, or says that it is no place to write to.
///
/// # Safety
/// `out` is null, or valid for a write of `T`.
unsafe fn put<T>(out: *mut T, value: T) -> Result<(), ErrorName> {
    if out.is_null() {
        return Err(ErrorName::InvalidArgument);
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { out.write(value) };
    Ok(())
}

/// Writes a text with its final zero; one that does not fit is refused.
///
/// # Safety
/// `out` is null, or valid for writes of `length` characters.
unsafe fn put_text(out: *mut c_char, length: c_uint, text: &str) -> Result<(), ErrorName> {
    let length = usize::try_from(length).map_err(|_| ErrorName::InvalidArgument)?;
    if out.is_null() || text.len() >= length {
        return Err(ErrorName::InvalidArgument);
    }
    // SAFETY: `text.len() < length`, so all of it lies inside what the caller vouches for; a Rust
    // text and a C buffer of the caller cannot overlap.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), out.cast::<u8>(), text.len()) };
    // SAFETY: as above, `text.len()` is the last place inside the buffer or before it.
    let end = unsafe { out.add(text.len()) };
    // SAFETY: as above.
    unsafe { end.write(0) };
    Ok(())
}

/// Writes the next value of a field that is a `c_uint`.
///
/// # Safety
/// `out` is null, or valid for a write.
unsafe fn put_uint(device: Handle, field: &str, out: *mut c_uint) -> c_uint {
    let value = with(|driver| driver.value(device.addr(), field));
    code(value.and_then(|value| {
        let value = c_uint::try_from(value).map_err(|_| ErrorName::Unknown)?;
        // SAFETY: the caller vouches for `out`.
        unsafe { put(out, value) }
    }))
}

/// Writes the next value of a field that is a `c_ulonglong`.
///
/// # Safety
/// `out` is null, or valid for a write.
unsafe fn put_ulonglong(device: Handle, field: &str, out: *mut c_ulonglong) -> c_uint {
    let value = with(|driver| driver.value(device.addr(), field));
    // SAFETY: the caller vouches for `out`.
    code(value.and_then(|value| unsafe { put(out, value) }))
}

/// `nvmlInit_v2`.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    code(with(driver::Driver::init))
}

/// `nvmlInitWithFlags`; the flags change nothing here.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> c_uint {
    nvmlInit_v2()
}

/// `nvmlShutdown`.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    code(with(driver::Driver::shutdown))
}

/// `nvmlSystemGetDriverVersion`.
///
/// # Safety
/// `version` is null, or valid for writes of `length` characters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(
    version: *mut c_char,
    length: c_uint,
) -> c_uint {
    code(with(|driver| {
        // SAFETY: the caller vouches for the buffer.
        unsafe { put_text(version, length, driver.driver_version()?) }
    }))
}

/// `nvmlSystemGetNVMLVersion`.
///
/// # Safety
/// `version` is null, or valid for writes of `length` characters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> c_uint {
    code(with(|driver| {
        // SAFETY: the caller vouches for the buffer.
        unsafe { put_text(version, length, driver.library_version()?) }
    }))
}

/// `nvmlSystemGetCudaDriverVersion_v2`.
///
/// # Safety
/// `version` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> c_uint {
    code(with(|driver| {
        let value = driver.cuda_version()?;
        // SAFETY: the caller vouches for `version`.
        unsafe { put(version, value) }
    }))
}

/// `nvmlDeviceGetCount_v2`.
///
/// # Safety
/// `count` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_uint {
    code(with(|driver| {
        let value = c_uint::try_from(driver.count()?).map_err(|_| ErrorName::Unknown)?;
        // SAFETY: the caller vouches for `count`.
        unsafe { put(count, value) }
    }))
}

/// `nvmlDeviceGetHandleByIndex_v2`.
///
/// # Safety
/// `device` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: *mut Handle,
) -> c_uint {
    code(with(|driver| {
        let index = usize::try_from(index).map_err(|_| ErrorName::InvalidArgument)?;
        let handle = without_provenance_mut(driver.handle(index)?);
        // SAFETY: the caller vouches for `device`.
        unsafe { put(device, handle) }
    }))
}

/// `nvmlDeviceGetUUID`.
///
/// # Safety
/// `uuid` is null, or valid for writes of `length` characters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: Handle,
    uuid: *mut c_char,
    length: c_uint,
) -> c_uint {
    code(with(|driver| {
        let gpu = driver.gpu(device.addr())?;
        // SAFETY: the caller vouches for the buffer.
        unsafe { put_text(uuid, length, &gpu.uuid) }
    }))
}

/// `nvmlDeviceGetName`.
///
/// # Safety
/// `name` is null, or valid for writes of `length` characters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: Handle,
    name: *mut c_char,
    length: c_uint,
) -> c_uint {
    code(with(|driver| {
        let gpu = driver.gpu(device.addr())?;
        let text = gpu.name.as_deref().ok_or(ErrorName::NotSupported)?;
        // SAFETY: the caller vouches for the buffer.
        unsafe { put_text(name, length, text) }
    }))
}

/// `nvmlDeviceGetMemoryInfo_v2`.
///
/// # Safety
/// `memory` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: Handle,
    memory: *mut MemoryV2,
) -> c_uint {
    code(with(|driver| {
        let total = driver.value(device.addr(), "memory_total_bytes")?;
        let used = driver.value(device.addr(), "memory_used_bytes")?;
        let reserved = match driver.value(device.addr(), "memory_reserved_bytes") {
            Err(ErrorName::NotSupported) => 0,
            reserved => reserved?,
        };
        let info = MemoryV2 {
            version: 2,
            total,
            reserved,
            free: total.saturating_sub(used).saturating_sub(reserved),
            used,
        };
        // SAFETY: the caller vouches for `memory`.
        unsafe { put(memory, info) }
    }))
}

/// `nvmlDeviceGetUtilizationRates`.
///
/// # Safety
/// `rates` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: Handle,
    rates: *mut Utilization,
) -> c_uint {
    code(with(|driver| {
        let mut percent = |field| {
            let value = driver.value(device.addr(), field)?;
            c_uint::try_from(value).map_err(|_| ErrorName::Unknown)
        };
        let gpu = percent("utilisation_percent")?;
        let memory = percent("memory_utilisation_percent")?;
        // SAFETY: the caller vouches for `rates`.
        unsafe { put(rates, Utilization { gpu, memory }) }
    }))
}

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident($field:literal, $out:ty, $put:ident);)+) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// `out` is null, or valid for a write.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(device: Handle, out: *mut $out) -> c_uint {
            // SAFETY: the caller vouches for `out`.
            unsafe { $put(device, $field, out) }
        }
    )+};
}

number! {
    /// `nvmlDeviceGetPowerUsage`, mW.
    nvmlDeviceGetPowerUsage("power_milliwatts", c_uint, put_uint);
    /// `nvmlDeviceGetEnforcedPowerLimit`, mW.
    nvmlDeviceGetEnforcedPowerLimit("power_limit_milliwatts", c_uint, put_uint);
    /// `nvmlDeviceGetTotalEnergyConsumption`, mJ.
    nvmlDeviceGetTotalEnergyConsumption("energy_millijoules", c_ulonglong, put_ulonglong);
    /// `nvmlDeviceGetCurrentClocksThrottleReasons`, bits.
    nvmlDeviceGetCurrentClocksThrottleReasons("throttle_bits", c_ulonglong, put_ulonglong);
}

/// `nvmlDeviceGetClockInfo`, MHz: the clock of the multiprocessors or of the memory.
///
/// # Safety
/// `out` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetClockInfo(
    device: Handle,
    kind: c_uint,
    out: *mut c_uint,
) -> c_uint {
    let field = match kind {
        1 => "sm_clock_mhz",
        2 => "memory_clock_mhz",
        _ => return ErrorName::NotSupported.code(),
    };
    // SAFETY: the caller vouches for `out`.
    unsafe { put_uint(device, field, out) }
}

/// `nvmlDeviceGetMaxClockInfo`, MHz: that of the multiprocessors.
///
/// # Safety
/// `out` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxClockInfo(
    device: Handle,
    kind: c_uint,
    out: *mut c_uint,
) -> c_uint {
    if kind != 1 {
        return ErrorName::NotSupported.code();
    }
    // SAFETY: the caller vouches for `out`.
    unsafe { put_uint(device, "sm_clock_max_mhz", out) }
}

/// `nvmlDeviceGetPcieThroughput`, KB/s.
///
/// # Safety
/// `out` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPcieThroughput(
    device: Handle,
    counter: c_uint,
    out: *mut c_uint,
) -> c_uint {
    let field = match counter {
        0 => "pcie_tx_kb_per_s",
        1 => "pcie_rx_kb_per_s",
        _ => return ErrorName::InvalidArgument.code(),
    };
    // SAFETY: the caller vouches for `out`.
    unsafe { put_uint(device, field, out) }
}

/// `nvmlDeviceGetTemperature`, degrees Celsius.
///
/// # Safety
/// `out` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: Handle,
    sensor: c_uint,
    out: *mut c_uint,
) -> c_uint {
    if sensor != 0 {
        return ErrorName::InvalidArgument.code();
    }
    // SAFETY: the caller vouches for `out`.
    unsafe { put_uint(device, "temperature_celsius", out) }
}

/// `nvmlDeviceGetTemperatureThreshold`, degrees Celsius: that of the slowdown.
///
/// # Safety
/// `out` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperatureThreshold(
    device: Handle,
    threshold: c_uint,
    out: *mut c_uint,
) -> c_uint {
    if threshold != 1 {
        return ErrorName::NotSupported.code();
    }
    // SAFETY: the caller vouches for `out`.
    unsafe { put_uint(device, "slowdown_celsius", out) }
}

/// `nvmlDeviceGetEccMode`; what is pending is what is.
///
/// # Safety
/// `current` and `pending` are null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEccMode(
    device: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_uint {
    code(with(|driver| {
        let mode = c_uint::from(driver.value(device.addr(), "ecc_mode")? != 0);
        // SAFETY: the caller vouches for `current`.
        unsafe { put(current, mode) }?;
        // SAFETY: the caller vouches for `pending`.
        unsafe { put(pending, mode) }
    }))
}

/// `nvmlDeviceGetTotalEccErrors`: those since the driver was loaded.
///
/// # Safety
/// `out` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Handle,
    kind: c_uint,
    counter: c_uint,
    out: *mut c_ulonglong,
) -> c_uint {
    let field = match (kind, counter) {
        (0, 0) => "ecc_corrected",
        (1, 0) => "ecc_uncorrected",
        _ => return ErrorName::NotSupported.code(),
    };
    // SAFETY: the caller vouches for `out`.
    unsafe { put_ulonglong(device, field, out) }
}
