//! Calls that give lists of processes.

use std::ffi::{c_uint, c_ulonglong};

use crate::Handle;
use crate::driver::with;
use crate::script::{ErrorName, Process};

const SUCCESS: c_uint = 0;
const INSUFFICIENT_SIZE: c_uint = 7;
/// `NVML_VALUE_NOT_AVAILABLE` as the unsigned number that structures hold.
const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;
/// "No MIG instance", in `nvmlProcessInfo_t`.
const NO_INSTANCE: c_uint = c_uint::MAX;

/// `nvmlProcessInfo_t` of the `_v3` calls.
#[repr(C)]
pub struct ProcessInfo {
    pid: c_uint,
    used_gpu_memory: c_ulonglong,
    gpu_instance_id: c_uint,
    compute_instance_id: c_uint,
}

/// `nvmlProcessUtilizationSample_t`.
#[repr(C)]
pub struct ProcessUtilization {
    pid: c_uint,
    timestamp: c_ulonglong,
    sm: c_uint,
    memory: c_uint,
    encoder: c_uint,
    decoder: c_uint,
}

/// Writes a list, or only its length.
///
/// # Safety
/// `count` is null or valid for reads and writes; `out` is null or valid for `*count` writes.
unsafe fn put_list<T>(list: Result<Vec<T>, ErrorName>, count: *mut c_uint, out: *mut T) -> c_uint {
    let list = match list {
        Ok(list) => list,
        Err(error) => return error.code(),
    };
    if count.is_null() {
        return ErrorName::InvalidArgument.code();
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let room = unsafe { count.read() };
    let length = c_uint::try_from(list.len()).unwrap_or(c_uint::MAX);
    // SAFETY: as above.
    unsafe { count.write(length) };
    if room < length || (out.is_null() && length > 0) {
        return INSUFFICIENT_SIZE;
    }
    for (position, value) in list.into_iter().enumerate() {
        // SAFETY: `position < length <= room`, for which the caller vouches.
        let place = unsafe { out.add(position) };
        // SAFETY: as above.
        unsafe { place.write(value) };
    }
    SUCCESS
}

fn infos(list: &[Process]) -> Vec<ProcessInfo> {
    list.iter()
        .map(|process| ProcessInfo {
            pid: process.pid,
            used_gpu_memory: process.memory_bytes.unwrap_or(NOT_AVAILABLE),
            gpu_instance_id: NO_INSTANCE,
            compute_instance_id: NO_INSTANCE,
        })
        .collect()
}

/// `nvmlDeviceGetComputeRunningProcesses_v3`.
///
/// # Safety
/// `count` is null or valid for reads and writes; `out` is null or valid for `*count` writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    out: *mut ProcessInfo,
) -> c_uint {
    let list = with(|driver| driver.compute(device.addr()).map(infos));
    // SAFETY: the caller vouches for both.
    unsafe { put_list(list, count, out) }
}

/// `nvmlDeviceGetGraphicsRunningProcesses_v3`.
///
/// # Safety
/// `count` is null or valid for reads and writes; `out` is null or valid for `*count` writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    out: *mut ProcessInfo,
) -> c_uint {
    let list = with(|driver| driver.graphics(device.addr()).map(infos));
    // SAFETY: the caller vouches for both.
    unsafe { put_list(list, count, out) }
}

/// `nvmlDeviceGetMPSComputeRunningProcesses_v3`.
///
/// # Safety
/// `count` is null or valid for reads and writes; `out` is null or valid for `*count` writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    out: *mut ProcessInfo,
) -> c_uint {
    let list = with(|driver| driver.mps(device.addr()).map(infos));
    // SAFETY: the caller vouches for both.
    unsafe { put_list(list, count, out) }
}

/// `nvmlDeviceGetProcessUtilization`.
///
/// # Safety
/// `count` is null or valid for reads and writes; `out` is null or valid for `*count` writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Handle,
    out: *mut ProcessUtilization,
    count: *mut c_uint,
    since: c_ulonglong,
) -> c_uint {
    let list = with(|driver| driver.utilisation(device.addr(), since));
    let list = list.map(|list| {
        list.iter()
            .map(|one| ProcessUtilization {
                pid: one.pid,
                timestamp: one.timestamp,
                sm: one.sm_percent,
                memory: one.memory_percent,
                encoder: 0,
                decoder: 0,
            })
            .collect()
    });
    // SAFETY: the caller vouches for both.
    unsafe { put_list(list, count, out) }
}
