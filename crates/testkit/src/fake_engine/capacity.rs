//! What engines share: a fluid model of one machine's compute.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chimera_domain::units::MonoNs;
use chimera_runtime::clock::mono;

use super::sleep::sleep_until;

/// A waiting stream looks this often whether its engine was stopped.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// The compute that streams draw on, in prefill and in decode.
///
/// Clones share: give clones of one capacity to several engines, and they contend.
///
/// - independent: every stream runs at full speed, whatever else runs;
/// - shared: with `m` streams active each advances at the rate `min(1, k/m)` (processor sharing).
///
/// The shared model is exact, not stepped. All streams advance at the same rate, hence one virtual
/// clock serves them all, and an instant of work is an instant of that clock. Where each stream
/// ends is known when it joins, so the rate is known at every moment up to the next arrival; how
/// late a thread wakes changes when its own token is written, and nobody else's.
#[derive(Debug, Clone)]
pub struct Capacity(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    k: f64,
    fluid: Mutex<Fluid>,
    changed: Condvar,
}

/// The virtual clock, anchored at a real instant.
#[derive(Debug, Default)]
struct Fluid {
    at_ns: f64,
    virtual_ns: f64,
    /// Where the active streams end, in virtual time, rising.
    ends: Vec<f64>,
}

impl Capacity {
    /// Perfectly parallel.
    #[must_use]
    pub fn independent() -> Self {
        Self(None)
    }

    /// Room for `k` streams at full speed; more than that share it equally.
    ///
    /// *Undefined when*: `k` is not above 0; it is then taken as 1.
    #[must_use]
    pub fn shared(k: f64) -> Self {
        let k = if k > 0.0 && k.is_finite() { k } else { 1.0 };
        Self(Some(Arc::new(Shared {
            k,
            fluid: Mutex::default(),
            changed: Condvar::new(),
        })))
    }

    /// Begins `work` (full-speed time) at the instant `from`.
    pub(super) fn begin(&self, from: MonoNs, work: Duration) -> Work {
        let Some(shared) = &self.0 else {
            return Work {
                from,
                shared: None,
                origin: 0.0,
                end: 0.0,
            };
        };
        let mut fluid = shared.lock();
        fluid.advance(to_f64(from.0), shared.k);
        let origin = fluid.virtual_ns;
        let end = origin + to_f64(nanos(work));
        let at = fluid.ends.partition_point(|e| *e <= end);
        fluid.ends.insert(at, end);
        drop(fluid);
        shared.changed.notify_all();
        Work {
            from,
            shared: Some(Arc::clone(shared)),
            origin,
            end,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Fluid> {
        self.fluid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fluid {
    /// Moves the anchor to the real instant `to_ns`, passing the ends in between one by one.
    fn advance(&mut self, to_ns: f64, k: f64) {
        while let Some(end) = self.ends.first().copied() {
            let rate = rate(k, self.ends.len());
            let ends_at = self.at_ns + (end - self.virtual_ns).max(0.0) / rate;
            if ends_at > to_ns {
                break;
            }
            self.at_ns = ends_at;
            self.virtual_ns = self.virtual_ns.max(end);
            self.ends.remove(0);
        }
        if to_ns > self.at_ns {
            self.virtual_ns += (to_ns - self.at_ns) * rate(k, self.ends.len());
            self.at_ns = to_ns;
        }
    }

    /// The real instant at which the virtual clock shows `target`, if nobody else joins or leaves.
    fn due(&self, target: f64, k: f64) -> f64 {
        let (mut at, mut now, mut active) = (self.at_ns, self.virtual_ns, self.ends.len());
        for end in self.ends.iter().copied().take_while(|e| *e < target) {
            at += (end - now).max(0.0) / rate(k, active);
            now = now.max(end);
            active = active.saturating_sub(1);
        }
        at + (target - now).max(0.0) / rate(k, active)
    }
}

/// One stream's work. Dropped before its end (the client went), it frees its share at once.
#[derive(Debug)]
pub(super) struct Work {
    from: MonoNs,
    shared: Option<Arc<Shared>>,
    origin: f64,
    end: f64,
}

impl Work {
    /// Waits until `done` of the work is done; false if `stop` was set.
    pub(super) fn wait(&self, done: Duration, stop: &AtomicBool) -> bool {
        let Some(shared) = &self.shared else {
            return sleep_until(self.from.plus(nanos(done)), stop);
        };
        let target = self.origin + to_f64(nanos(done));
        let mut fluid = shared.lock();
        loop {
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = fluid.due(target, shared.k) - to_f64(mono().0);
            if left <= 0.0 {
                return true;
            }
            let left = Duration::from_secs_f64(left / 1e9).min(STOP_CHECK);
            let woken = shared.changed.wait_timeout(fluid, left);
            fluid = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        let mut fluid = shared.lock();
        fluid.advance(to_f64(mono().0), shared.k);
        // Still there only if its end has not come: then it was cut short.
        if let Some(at) = fluid
            .ends
            .iter()
            .position(|e| e.to_bits() == self.end.to_bits())
        {
            fluid.ends.remove(at);
            drop(fluid);
            shared.changed.notify_all();
        }
    }
}

fn rate(k: f64, active: usize) -> f64 {
    let active = u32::try_from(active.max(1)).unwrap_or(u32::MAX);
    (k / f64::from(active)).min(1.0)
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
fn to_f64(ns: u64) -> f64 {
    ns as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fluid(k: f64, joins: &[(f64, f64)]) -> (Fluid, Vec<f64>) {
        let mut fluid = Fluid::default();
        let mut ends = Vec::new();
        for (at, work) in joins {
            fluid.advance(*at, k);
            let end = fluid.virtual_ns + work;
            let place = fluid.ends.partition_point(|e| *e <= end);
            fluid.ends.insert(place, end);
            ends.push(end);
        }
        (fluid, ends)
    }

    #[test]
    fn two_equal_streams_on_one_share_take_twice_as_long() {
        let (fluid, ends) = fluid(1.0, &[(0.0, 100.0), (0.0, 100.0)]);
        assert!((fluid.due(ends[0], 1.0) - 200.0).abs() < 1e-9);
        assert!((fluid.due(ends[1], 1.0) - 200.0).abs() < 1e-9);
    }

    #[test]
    fn a_departure_speeds_up_the_rest_at_the_exact_instant() {
        // A has 100, B 50, together from 0: B ends at 100 (half speed), A has 50 left, alone: 150.
        let (fluid, ends) = fluid(1.0, &[(0.0, 100.0), (0.0, 50.0)]);
        assert!((fluid.due(ends[1], 1.0) - 100.0).abs() < 1e-9);
        assert!((fluid.due(ends[0], 1.0) - 150.0).abs() < 1e-9);
    }

    #[test]
    fn a_late_arrival_slows_down_only_what_is_left() {
        // A alone until 60 with 40 left; then both at half speed: A ends at 140, B (100) at 200.
        let (fluid, ends) = fluid(1.0, &[(0.0, 100.0), (60.0, 100.0)]);
        assert!((fluid.due(ends[0], 1.0) - 140.0).abs() < 1e-9);
        assert!((fluid.due(ends[1], 1.0) - 200.0).abs() < 1e-9);
    }

    #[test]
    fn below_k_nobody_waits_and_an_idle_time_moves_nothing() {
        let (fluid, ends) = fluid(2.0, &[(0.0, 10.0), (1000.0, 10.0), (1000.0, 20.0)]);
        assert_eq!(fluid.ends.len(), 2);
        assert!((fluid.due(ends[1], 2.0) - 1010.0).abs() < 1e-9);
        assert!((fluid.due(ends[2], 2.0) - 1020.0).abs() < 1e-9);
    }

    #[test]
    fn work_cut_short_frees_its_share() {
        let capacity = Capacity::shared(1.0);
        let now = mono();
        let short = capacity.begin(now, Duration::from_secs(60));
        let long = capacity.begin(now, Duration::from_millis(20));
        drop(short);
        assert!(long.wait(Duration::from_millis(20), &AtomicBool::new(false)));
        assert!(mono().since(now).unwrap() < 5_000_000_000);
    }
}
