//! How long the measuring thread could have run and no core was free for it.
//!
//! A request runs on one thread from its send to its end: an agent has a current-thread runtime of
//! its own, and reqwest spawns the task of its connection on that same runtime. Only the lookup of a
//! host's name goes to another thread, and an address needs none. On a runtime with several threads
//! a request may move; then nothing is said.
//!
//! The descriptor stays open for the thread's life: reading it takes 2 us, opening the path each time
//! 15 us (measured with 2 cores under load). *Source*: the kernel's `Documentation/scheduler/sched-stats.rst`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread::ThreadId;

thread_local! {
    /// Resolved when it is opened, hence this thread's own for good.
    static SCHEDSTAT: Option<File> = File::open("/proc/thread-self/schedstat").ok();
}

/// The waiting of one thread, as it stood at an instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThreadWait {
    thread: ThreadId,
    ns: u64,
}

impl ThreadWait {
    /// Reads it now. `None`: the system does not tell.
    pub(super) fn now() -> Option<Self> {
        let ns = SCHEDSTAT
            .try_with(|file| {
                // Three decimal numbers of at most 20 digits.
                let mut text = [0_u8; 96];
                let length = file.as_ref()?.read_at(&mut text, 0).ok()?;
                run_delay(text.get(..length)?)
            })
            .ok()??;
        Some(Self {
            thread: std::thread::current().id(),
            ns,
        })
    }

    /// What the thread waited since, ns. `None`: not told, or asked on another thread.
    pub(super) fn since(self) -> Option<u64> {
        let now = Self::now().filter(|now| now.thread == self.thread)?;
        now.ns.checked_sub(self.ns)
    }
}

/// The second of the file's numbers. A thread that reads has been put on a core: a kernel that counts
/// nothing says so by a third number, of times on a core, of 0. The first, time on a core, is 0 for a
/// young thread too.
fn run_delay(text: &[u8]) -> Option<u64> {
    let mut numbers = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let waited = numbers.nth(1)?.parse().ok()?;
    let times: u64 = numbers.next()?.parse().ok()?;
    (times > 0).then_some(waited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_the_wait_and_a_kernel_that_counts_nothing_says_nothing() {
        assert_eq!(run_delay(b"162878408 163867004 45\n"), Some(163_867_004));
        assert_eq!(run_delay(b"5 0 1\n"), Some(0), "it never waited");
        assert_eq!(run_delay(b"0 7 1\n"), Some(7), "a thread not ticked yet");
        assert_eq!(run_delay(b"0 0 0\n"), None);
        assert_eq!(run_delay(b"5 7"), None);
        assert_eq!(run_delay(b"12"), None);
        assert_eq!(run_delay(b""), None);
    }

    #[test]
    fn what_one_thread_waited_is_not_said_of_another() {
        let Some(here) = ThreadWait::now() else {
            return;
        };
        assert!(here.since().is_some());
        let there = std::thread::spawn(move || here.since()).join().unwrap();
        assert_eq!(there, None);
    }

    #[test]
    fn a_thread_that_has_to_share_a_core_waits() {
        if ThreadWait::now().is_none() {
            return;
        }
        // Both on the one core: each has to wait for the other.
        let core = rustix::thread::sched_getaffinity(None).unwrap();
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|n| core.is_set(*n));
        let spin = move || {
            let mut one = rustix::thread::CpuSet::new();
            one.set(first.unwrap());
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            let before = ThreadWait::now().unwrap();
            let from = chimera_runtime::clock::mono();
            while chimera_runtime::clock::mono().since(from).unwrap_or(0) < 100_000_000 {
                std::hint::spin_loop();
            }
            before.since().unwrap()
        };
        let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(spin)).collect();
        let waited: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert!(waited > 10_000_000, "{waited} ns");
    }
}
