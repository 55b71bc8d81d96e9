//! Sleeping to absolute instants.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};

use chimera_domain::units::MonoNs;
use chimera_runtime::clock::mono;
use rustix::thread::{ClockId, clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::Timespec;

/// A long sleep is cut into pieces of this length, to see a stop.
const PIECE_NS: u64 = 50_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// Makes this thread's sleeps end within microseconds of their instant. The kernel's default slack
/// of 50 us would be most of the error of the fake's timing.
pub(super) fn sharpen() {
    if let Err(error) = set_current_timer_slack(NonZeroU64::new(1)) {
        // Some sandboxes refuse it; sleeps are then up to 50 us late.
        tracing::debug!(%error, "timer slack stays at the kernel's default");
    }
}

/// Sleeps to an instant of the monotonic clock; false if `stop` was set.
pub(super) fn sleep_until(instant: MonoNs, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let now = mono();
        if now >= instant {
            return true;
        }
        let piece = instant.min(now.plus(PIECE_NS)).0;
        let until = Timespec {
            tv_sec: i64::try_from(piece / NS_PER_S).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(piece % NS_PER_S).unwrap_or_default(),
        };
        // Interrupted by a signal: the loop goes on with what is left.
        if clock_nanosleep_absolute(ClockId::Monotonic, &until).is_err() {
            std::thread::yield_now();
        }
    }
}
