//! Calls about events: only Xid errors ever happen.

use std::ffi::{c_uint, c_ulonglong, c_void};
use std::ptr::without_provenance_mut;

use crate::driver::with;
use crate::{Handle, code, put, put_ulonglong};

/// `nvmlEventTypeXidCriticalError`.
const XID: c_ulonglong = 8;
/// "No MIG instance", in `nvmlEventData_t`.
const NO_INSTANCE: c_uint = c_uint::MAX;

/// An event set as the client holds it. Never an address: nothing is behind it.
type Set = *mut c_void;

/// `nvmlEventData_t`.
#[repr(C)]
pub struct EventData {
    device: Handle,
    event_type: c_ulonglong,
    event_data: c_ulonglong,
    gpu_instance_id: c_uint,
    compute_instance_id: c_uint,
}

/// `nvmlDeviceGetSupportedEventTypes`, bits.
///
/// # Safety
/// `out` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: Handle,
    out: *mut c_ulonglong,
) -> c_uint {
    // SAFETY: the caller vouches for `out`.
    unsafe { put_ulonglong(device, "event_types", out) }
}

/// `nvmlEventSetCreate`.
///
/// # Safety
/// `set` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(set: *mut Set) -> c_uint {
    code(with(|driver| {
        let handle = without_provenance_mut(driver.new_set()?);
        // SAFETY: the caller vouches for `set`.
        unsafe { put(set, handle) }
    }))
}

/// `nvmlEventSetFree`.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: Set) -> c_uint {
    code(with(|driver| driver.free_set(set.addr())))
}

/// `nvmlDeviceRegisterEvents`.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    device: Handle,
    events: c_ulonglong,
    set: Set,
) -> c_uint {
    code(with(|driver| {
        driver.register(device.addr(), events, set.addr())
    }))
}

/// `nvmlEventSetWait_v2`; without an event it is a timeout at once, whatever the client would wait.
///
/// # Safety
/// `data` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    set: Set,
    data: *mut EventData,
    _timeout_ms: c_uint,
) -> c_uint {
    code(with(|driver| {
        let (device, xid) = driver.next_event(set.addr())?;
        let event = EventData {
            device: without_provenance_mut(device),
            event_type: XID,
            event_data: xid,
            gpu_instance_id: NO_INSTANCE,
            compute_instance_id: NO_INSTANCE,
        };
        // SAFETY: the caller vouches for `data`.
        unsafe { put(data, event) }
    }))
}
