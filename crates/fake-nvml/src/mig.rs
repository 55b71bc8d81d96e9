//! Calls about MIG instances.

use std::ffi::c_uint;
use std::ptr::without_provenance_mut;

use crate::driver::with;
use crate::script::ErrorName;
use crate::{Handle, code, put};

/// `nvmlDeviceGetMigMode`; what is pending is what is.
///
/// # Safety
/// `current` and `pending` are null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_uint {
    code(with(|driver| {
        let mode = c_uint::from(driver.mig_mode(device.addr())?);
        // SAFETY: the caller vouches for `current`.
        unsafe { put(current, mode) }?;
        // SAFETY: the caller vouches for `pending`.
        unsafe { put(pending, mode) }
    }))
}

/// `nvmlDeviceGetMaxMigDeviceCount`: as many as there are.
///
/// # Safety
/// `out` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: Handle,
    out: *mut c_uint,
) -> c_uint {
    code(with(|driver| {
        let count = driver.instances(device.addr())?;
        let count = c_uint::try_from(count).map_err(|_| ErrorName::Unknown)?;
        // SAFETY: the caller vouches for `out`.
        unsafe { put(out, count) }
    }))
}

/// `nvmlDeviceGetMigDeviceHandleByIndex`.
///
/// # Safety
/// `instance` is null, or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    index: c_uint,
    instance: *mut Handle,
) -> c_uint {
    code(with(|driver| {
        let index = usize::try_from(index).map_err(|_| ErrorName::InvalidArgument)?;
        let handle = without_provenance_mut(driver.instance(device.addr(), index)?);
        // SAFETY: the caller vouches for `instance`.
        unsafe { put(instance, handle) }
    }))
}
