//! The worker's right to act for its coordinator, and until when it lasts.
//!
//! It is renewed by acknowledged heartbeats and counts from when such a heartbeat was *sent*: an
//! acknowledgement may have lain in the socket for as long as this process was frozen, and says
//! nothing about the time after it was written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chimera_domain::units::MonoNs;
use chimera_runtime::clock;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Heartbeats whose acknowledgement is waited for. The fence ends a session long before.
const UNACKNOWLEDGED: usize = 64;

/// The end of a lease, for threads that do not hear the coordinator.
///
/// A worker that was frozen wakes up on all its threads at once; an agent that looks here before it
/// asks the engine does not depend on the session's thread being the first.
#[derive(Debug, Clone)]
pub struct LeaseEnd(Arc<AtomicU64>);

impl LeaseEnd {
    /// A lease that does not end: for agents that run without a coordinator.
    #[must_use]
    pub fn never() -> Self {
        Self::at(MonoNs(u64::MAX))
    }

    /// A lease that ends at this instant.
    #[must_use]
    pub fn at(end: MonoNs) -> Self {
        Self(Arc::new(AtomicU64::new(end.0)))
    }

    /// Whether the lease still holds.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        clock::mono() < self.get()
    }

    fn get(&self) -> MonoNs {
        MonoNs(self.0.load(Ordering::Acquire))
    }

    fn set(&self, at: MonoNs) {
        self.0.store(at.0, Ordering::Release);
    }
}

/// The lease as its session keeps it.
#[derive(Debug)]
pub(crate) struct Lease {
    beat: Interval,
    fence: Duration,
    last_seq: u64,
    sent: VecDeque<(u64, MonoNs)>,
    end: LeaseEnd,
}

impl Lease {
    /// A lease that begins with the coordinator's welcome, whose hello was sent at `asked`.
    pub(crate) fn new(heartbeat_ms: u64, fence_ms: u64, asked: MonoNs) -> Self {
        let mut beat = interval(Duration::from_millis(heartbeat_ms.max(10)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let fence = Duration::from_millis(fence_ms.max(100));
        Self {
            beat,
            fence,
            last_seq: 0,
            sent: VecDeque::new(),
            end: LeaseEnd::at(after(asked, fence)),
        }
    }

    /// Waits until a heartbeat is due. Cancel-safe.
    pub(crate) async fn due(&mut self) {
        self.beat.tick().await;
    }

    /// The number of a heartbeat that is sent at `now`.
    pub(crate) fn heartbeat(&mut self, now: MonoNs) -> u64 {
        self.last_seq += 1;
        if self.sent.len() == UNACKNOWLEDGED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.last_seq, now));
        self.last_seq
    }

    /// The coordinator has heard heartbeat `seq`, and all before it.
    pub(crate) fn acknowledged(&mut self, seq: u64) {
        while let Some((known, sent)) = self.sent.front().copied()
            && known <= seq
        {
            self.sent.pop_front();
            self.end.set(after(sent, self.fence));
        }
    }

    /// When the worker must have stopped, unless another heartbeat is acknowledged.
    pub(crate) fn end(&self) -> &LeaseEnd {
        &self.end
    }

    /// Time until then.
    pub(crate) fn left(&self) -> Duration {
        clock::until(self.end.get())
    }

    /// How long it lasts without an acknowledgement.
    pub(crate) fn fence(&self) -> Duration {
        self.fence
    }
}

fn after(instant: MonoNs, time: Duration) -> MonoNs {
    instant.plus(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[tokio::test]
    async fn it_counts_from_when_the_acknowledged_heartbeat_was_sent() {
        let start = MonoNs(1_000_000 * MS);
        let mut lease = Lease::new(1_000, 3_000, start);
        assert_eq!(lease.end().get(), start.plus(3_000 * MS));
        let first = lease.heartbeat(start.plus(100 * MS));
        let second = lease.heartbeat(start.plus(1_100 * MS));
        let third = lease.heartbeat(start.plus(2_100 * MS));
        lease.acknowledged(second);
        assert_eq!(lease.end().get(), start.plus(4_100 * MS));
        lease.acknowledged(first);
        lease.acknowledged(99 + third);
        assert_eq!(lease.end().get(), start.plus(5_100 * MS));
        lease.acknowledged(third);
        assert_eq!(lease.end().get(), start.plus(5_100 * MS), "once only");
    }

    #[tokio::test]
    async fn a_late_acknowledgement_of_an_old_heartbeat_brings_nothing_back() {
        let long_ago = MonoNs(clock::mono().0.saturating_sub(8_000 * MS));
        let mut lease = Lease::new(1_000, 3_000, long_ago);
        let seq = lease.heartbeat(long_ago.plus(10 * MS));
        lease.acknowledged(seq);
        assert!(!lease.end().is_ahead());
        assert_eq!(lease.left(), Duration::ZERO);
        let seq = lease.heartbeat(clock::mono());
        lease.acknowledged(seq);
        assert!(lease.end().is_ahead() && LeaseEnd::never().is_ahead());
    }

    #[tokio::test]
    async fn heartbeats_that_nobody_acknowledges_take_no_room() {
        let mut lease = Lease::new(1_000, 3_000, MonoNs(0));
        for n in 0..10_000 {
            lease.heartbeat(MonoNs(n));
        }
        assert_eq!(lease.sent.len(), UNACKNOWLEDGED);
    }
}
