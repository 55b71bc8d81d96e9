//! Quantities with their units in the type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An instant: nanoseconds of one host's monotonic clock (`CLOCK_MONOTONIC`).
///
/// Two instants compare only within one [`BootId`]: within a boot every process of the host reads
/// the same clock, so worker stamps and telemetry samples need no conversion.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub struct MonoNs(pub u64);

impl MonoNs {
    /// Nanoseconds from `earlier` to `self`; `None` when `self` is before it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// This instant, `ns` later (saturating at the end of time).
    #[must_use]
    pub fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

/// Which boot of which host an instant belongs to.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct BootId(pub String);

/// One reading of both clocks of a host, as close together as could be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockReading {
    /// The boot in which `mono_ns` counts.
    pub boot_id: BootId,
    /// Monotonic clock.
    pub mono_ns: MonoNs,
    /// Wall clock, nanoseconds since 1970-01-01 UTC.
    pub wall_unix_ns: u64,
}

/// Nanoseconds as seconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
pub fn ns_to_s(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Nanoseconds as milliseconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
pub fn ns_to_ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
