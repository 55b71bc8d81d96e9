//! The two clocks of a host, and the only place that reads them.
//!
//! Durations and orders come from `CLOCK_MONOTONIC`, which every process of a host shares within
//! one boot. The wall clock is read only to say *when* something happened to a person.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::time::Duration;

use chimera_domain::units::{BootId, ClockReading, MonoNs};
use rustix::thread::{clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// How many readings [`reading`] takes; it keeps the one whose two clocks lie closest together.
const READING_TRIES: u32 = 5;
/// [`sleep_until`] leaves tokio's timer this long before the instant: the timer's wheel has a
/// resolution of 1 ms and rounds up, and on a busy machine the task is polled late.
const BLOCK_NS: u64 = 3_000_000;
/// How long before the instant [`sleep_until`] is awake: above the kernel's wake-up latency, and
/// short, because whoever gives way to a busy process gets the core back a time slice later.
const YIELD_NS: u64 = 300_000;
const NS_PER_S: u64 = 1_000_000_000;

/// Now, on the host's monotonic clock.
///
/// *Units*: nanoseconds since an origin that is fixed within one boot. Costs some 25 ns (vDSO).
#[must_use]
pub fn mono() -> MonoNs {
    MonoNs(to_ns(clock_gettime(ClockId::Monotonic)))
}

/// Now, on the wall clock: nanoseconds since 1970-01-01 UTC. May step; never subtract two of them.
#[must_use]
pub fn wall_unix_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Realtime))
}

/// The boot of this host, read once. Every process of the host gets the same text.
///
/// *Source*: `/proc/sys/kernel/random/boot_id`. Where that cannot be read (no procfs), a text that
/// is unique to this process stands in, so that instants of two processes are never compared.
#[must_use]
pub fn boot_id() -> BootId {
    static BOOT: OnceLock<BootId> = OnceLock::new();
    BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        match text.trim() {
            "" => BootId(format!("process-{}-{}", std::process::id(), wall_unix_ns())),
            id => BootId(id.to_owned()),
        }
    })
    .clone()
}

/// One reading of both clocks, the wall clock taken between two monotonic stamps.
///
/// The best of a few tries is kept; its error (half the distance of the two monotonic stamps) is
/// below a microsecond unless the machine is overloaded.
#[must_use]
pub fn reading() -> ClockReading {
    let mut best = bracket();
    for _ in 1..READING_TRIES {
        let next = bracket();
        if next.0 < best.0 {
            best = next;
        }
    }
    ClockReading {
        boot_id: boot_id(),
        mono_ns: MonoNs(best.1),
        wall_unix_ns: best.2,
    }
}

/// (width of the bracket, its middle, wall clock inside it).
fn bracket() -> (u64, u64, u64) {
    let before = mono().0;
    let wall = wall_unix_ns();
    let width = mono().0.saturating_sub(before);
    (width, before.saturating_add(width / 2), wall)
}

/// Time from now until `instant`; zero if it has passed.
#[must_use]
pub fn until(instant: MonoNs) -> Duration {
    Duration::from_nanos(instant.0.saturating_sub(mono().0))
}

/// Time since `instant`; zero if it lies ahead.
#[must_use]
pub fn elapsed(instant: MonoNs) -> Duration {
    Duration::from_nanos(mono().0.saturating_sub(instant.0))
}

/// The instant `after` from now.
#[must_use]
pub fn deadline(after: Duration) -> MonoNs {
    mono().plus(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

/// Waits for an instant of the monotonic clock, precisely; returns the instant at which it really
/// went on, never before `instant`.
///
/// In three parts: tokio's timer until 3 ms before the instant, a sleep in the kernel until 300 us
/// before it, and then looks at the clock between which it gives way to other *threads*. The last
/// two **block the thread**, so it is for a runtime of one's own, as an agent has.
///
/// Why so: where more agents than cores wait for one instant, a busy wait keeps the others from
/// their own way to it, and they start whole time slices apart; a plain sleep to the instant leaves
/// them in line behind whoever was woken first and began to work. Giving way until the instant, and
/// once after it, lets all that share a core pass before any of them works. Measured on 2 cores that
/// also compiled (C, 60 starts, p50 of the skew): 4 threads 10 ms by busy wait, 3.9 ms by sleep,
/// 0.005 ms so; 8 threads 26 ms, 3.8 ms, 0.011 ms.
///
/// Use it for start barriers, not for pacing. Cancel-safe: dropping it leaves nothing behind. Needs
/// a real (not paused) tokio clock.
pub async fn sleep_until(instant: MonoNs) -> MonoNs {
    doze_until(instant, YIELD_NS).await;
    let went = loop {
        let now = mono();
        if now >= instant {
            break now;
        }
        std::thread::yield_now();
    };
    std::thread::yield_now();
    went
}

/// Waits for an instant of the monotonic clock without a busy wait; returns the instant at which it
/// really went on, never before `instant` and some 50 us after it on an idle machine.
///
/// For pauses: nobody races for the processor at their end, so the core is others' until then. The
/// last 3 ms **block the thread**, as in [`sleep_until`]. Cancel-safe. Needs a real tokio clock.
pub async fn rest_until(instant: MonoNs) -> MonoNs {
    loop {
        doze_until(instant, 0).await;
        let now = mono();
        // A signal may have ended the sleep early.
        if now >= instant {
            return now;
        }
    }
}

/// Tokio's timer until 3 ms before `instant`, then a sleep in the kernel until `before_ns` before it.
async fn doze_until(instant: MonoNs, before_ns: u64) {
    let coarse = until(instant).saturating_sub(Duration::from_nanos(BLOCK_NS));
    if !coarse.is_zero() {
        tokio::time::sleep(coarse).await;
    }
    let eve = MonoNs(instant.0.saturating_sub(before_ns));
    if mono() < eve {
        if let Err(error) = set_current_timer_slack(NonZeroU64::new(1)) {
            // Some sandboxes refuse it; the kernel's default then adds up to 50 us.
            tracing::debug!(%error, "the timer slack stays at the kernel's default");
        }
        // An error means that a signal came early: whoever waits looks at the clock again.
        if let Err(error) = clock_nanosleep_absolute(ClockId::Monotonic, &to_timespec(eve)) {
            tracing::trace!(%error, "a signal ended the sleep");
        }
    }
}

fn to_timespec(instant: MonoNs) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(instant.0 / NS_PER_S).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(instant.0 % NS_PER_S).unwrap_or_default(),
    }
}

fn to_ns(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(NS_PER_S).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_fall() {
        let mut last = mono();
        for _ in 0..10_000 {
            let now = mono();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn a_reading_is_of_now_and_of_this_boot() {
        let before = mono();
        let one = reading();
        let two = reading();
        assert!(before <= one.mono_ns && one.mono_ns <= two.mono_ns);
        assert_eq!(one.boot_id, two.boot_id);
        assert!(!one.boot_id.0.is_empty());
        // 2020-01-01, so that a clock in the wrong unit is seen.
        assert!(one.wall_unix_ns > 1_577_836_800_000_000_000);
    }

    #[tokio::test]
    async fn sleep_until_is_never_early_and_seldom_late() {
        let mut late_ns: Vec<u64> = Vec::new();
        for _ in 0..20 {
            let instant = deadline(Duration::from_millis(5));
            let went = sleep_until(instant).await;
            late_ns.push(went.since(instant).expect("never early"));
        }
        late_ns.sort_unstable();
        // The median, and 5 ms, since the test machine may be busy; alone it is well below 10 us.
        assert!(
            late_ns[late_ns.len() / 2] < 5_000_000,
            "late by {late_ns:?} ns"
        );
    }

    #[tokio::test]
    async fn a_rest_is_never_early_and_can_be_cut_short() {
        let instant = deadline(Duration::from_millis(20));
        assert!(rest_until(instant).await >= instant);
        let long = deadline(Duration::from_secs(3600));
        let cut = tokio::time::timeout(Duration::from_millis(10), rest_until(long)).await;
        assert!(cut.is_err());
    }

    #[tokio::test]
    async fn a_passed_instant_returns_at_once() {
        let before = mono();
        rest_until(MonoNs(1)).await;
        sleep_until(MonoNs(1)).await;
        assert!(elapsed(before) < Duration::from_secs(1));
        assert_eq!(until(MonoNs(1)), Duration::ZERO);
    }
}
