//! NVML's answers as ours: pure, so that each of them is tested without a driver.

use chimera_domain::telemetry::{Absence, GapReason, ThrottleReason};
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::error::NvmlError;

/// How far an error reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// This value cannot be had; the device is well.
    Field(Absence),
    /// The device cannot be read.
    Device(GapReason),
    /// No device can be read until NVML is initialised again.
    Driver(GapReason),
}

/// What an error of a call on a device means.
pub(super) fn trouble(error: &NvmlError) -> Trouble {
    match error {
        NvmlError::NotSupported | NvmlError::NoData | NvmlError::NotFound => {
            Trouble::Field(Absence::NotSupported)
        }
        NvmlError::NoPermission => Trouble::Field(Absence::NoPermission),
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
            Trouble::Field(Absence::TooOld)
        }
        NvmlError::GpuLost | NvmlError::IrqIssue | NvmlError::InsufficientPower => {
            Trouble::Device(GapReason::GpuLost)
        }
        NvmlError::ResetRequired => Trouble::Device(GapReason::ResetRequired),
        // A handle from before the driver was reset is an invalid argument.
        NvmlError::Uninitialized
        | NvmlError::InvalidArg
        | NvmlError::DriverNotLoaded
        | NvmlError::LibRmVersionMismatch => Trouble::Driver(GapReason::DriverReset),
        _ => Trouble::Field(Absence::Unreadable),
    }
}

/// What an error of a call means that may be missing or broken by itself: whether more than it is
/// lost, the next call for a value that every device has will tell.
pub(super) fn optional(error: &NvmlError) -> Absence {
    match trouble(error) {
        Trouble::Field(absence) => absence,
        Trouble::Device(_) | Trouble::Driver(_) => Absence::Unreadable,
    }
}

/// What an error of a call on NVML as a whole means.
pub(super) fn driver_trouble(error: &NvmlError) -> (GapReason, Absence) {
    let reason = match trouble(error) {
        Trouble::Driver(reason) | Trouble::Device(reason) => reason,
        Trouble::Field(_) => GapReason::DriverError,
    };
    let absence = match error {
        NvmlError::NoPermission => Absence::NoPermission,
        NvmlError::LibraryNotFound => Absence::NoLibrary,
        _ => Absence::NoDriver,
    };
    (reason, absence)
}

/// The reasons in the order of their bits; `unknown`: there were others.
pub(super) fn throttle_reasons(known: ThrottleReasons, unknown: bool) -> Vec<ThrottleReason> {
    use ThrottleReason as Reason;
    let table = [
        (ThrottleReasons::GPU_IDLE, Reason::GpuIdle),
        (
            ThrottleReasons::APPLICATIONS_CLOCKS_SETTING,
            Reason::ApplicationClocks,
        ),
        (ThrottleReasons::SW_POWER_CAP, Reason::SoftwarePowerCap),
        (ThrottleReasons::HW_SLOWDOWN, Reason::HardwareSlowdown),
        (ThrottleReasons::SYNC_BOOST, Reason::SyncBoost),
        (
            ThrottleReasons::SW_THERMAL_SLOWDOWN,
            Reason::SoftwareThermal,
        ),
        (
            ThrottleReasons::HW_THERMAL_SLOWDOWN,
            Reason::HardwareThermal,
        ),
        (
            ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN,
            Reason::HardwarePowerBrake,
        ),
        (
            ThrottleReasons::DISPLAY_CLOCK_SETTING,
            Reason::DisplayClocks,
        ),
    ];
    let mut reasons: Vec<Reason> = table
        .into_iter()
        .filter(|(bit, _)| known.contains(*bit))
        .map(|(_, r)| r)
        .collect();
    if unknown {
        reasons.push(Reason::Other);
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reaches_as_far_as_it_should() {
        let cases = [
            (
                NvmlError::NotSupported,
                Trouble::Field(Absence::NotSupported),
            ),
            (
                NvmlError::NoPermission,
                Trouble::Field(Absence::NoPermission),
            ),
            (
                NvmlError::FailedToLoadSymbol("x".into()),
                Trouble::Field(Absence::TooOld),
            ),
            (NvmlError::Timeout, Trouble::Field(Absence::Unreadable)),
            (
                NvmlError::UnexpectedVariant(7),
                Trouble::Field(Absence::Unreadable),
            ),
            (NvmlError::Unknown, Trouble::Field(Absence::Unreadable)),
            (NvmlError::GpuLost, Trouble::Device(GapReason::GpuLost)),
            (
                NvmlError::ResetRequired,
                Trouble::Device(GapReason::ResetRequired),
            ),
            (
                NvmlError::Uninitialized,
                Trouble::Driver(GapReason::DriverReset),
            ),
            (
                NvmlError::LibRmVersionMismatch,
                Trouble::Driver(GapReason::DriverReset),
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(trouble(&error), expected, "{error}");
        }
        assert_eq!(optional(&NvmlError::InvalidArg), Absence::Unreadable);
        assert_eq!(optional(&NvmlError::FunctionNotFound), Absence::TooOld);
        assert_eq!(
            driver_trouble(&NvmlError::DriverNotLoaded),
            (GapReason::DriverReset, Absence::NoDriver)
        );
        assert_eq!(
            driver_trouble(&NvmlError::Unknown),
            (GapReason::DriverError, Absence::NoDriver)
        );
    }

    #[test]
    fn every_bit_has_its_reason_and_none_is_lost() {
        assert_eq!(throttle_reasons(ThrottleReasons::NONE, false), []);
        assert_eq!(
            throttle_reasons(
                ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_THERMAL_SLOWDOWN,
                true
            ),
            [
                ThrottleReason::SoftwarePowerCap,
                ThrottleReason::HardwareThermal,
                ThrottleReason::Other
            ]
        );
        assert_eq!(throttle_reasons(ThrottleReasons::all(), false).len(), 9);
    }
}
