//! Processes of others that use the processor.
//!
//! Rule: the growth of a process's time between two searches, a second apart, divided by the time
//! between them; a process that is new counts from its start. One that lived only between two
//! searches is not seen.

use std::collections::HashMap;

use chimera_domain::telemetry::{BusyProcess, MAX_BUSY_OTHERS};
use chimera_domain::units::{MonoNs, ns_to_s};

/// From how many cores on a process is named.
const MIN_CORES: f64 = 0.1;

/// What every process of others had used when it was looked at last.
#[derive(Debug, Default)]
pub(super) struct BusyOthers {
    before: HashMap<u32, f64>,
    now: HashMap<u32, f64>,
    searched: Option<MonoNs>,
}

impl BusyOthers {
    /// Takes the processor time of one process, seconds.
    pub(super) fn look(&mut self, pid: u32, cpu_seconds: f64) {
        self.now.insert(pid, cpu_seconds);
    }

    /// Ends a search: who was busy, the busiest first. `None` after the first search. `name` is
    /// asked for those only; a process that ended meanwhile has none and is left out.
    pub(super) fn finish(
        &mut self,
        at: MonoNs,
        name: impl Fn(u32) -> Option<String>,
    ) -> Option<Vec<BusyProcess>> {
        let before = std::mem::replace(&mut self.before, std::mem::take(&mut self.now));
        let seconds = self
            .searched
            .replace(at)
            .and_then(|last| at.since(last))
            .map(ns_to_s)
            .filter(|seconds| *seconds > 0.0);
        let busy = seconds.map(|seconds| {
            let mut busy: Vec<(f64, u32)> = self
                .before
                .iter()
                .filter_map(|(pid, used)| {
                    // A counter that fell belongs to a later process of the same number.
                    let grown = match before.get(pid) {
                        Some(last) if last <= used => used - last,
                        _ => *used,
                    };
                    let cores = grown / seconds;
                    (cores >= MIN_CORES).then_some((cores, *pid))
                })
                .collect();
            busy.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            busy.into_iter()
                .filter_map(|(cores_used, pid)| {
                    let name = name(pid)?;
                    Some(BusyProcess {
                        pid,
                        name,
                        cores_used,
                    })
                })
                .take(MAX_BUSY_OTHERS)
                .collect()
        });
        // The emptied table keeps its room.
        self.now = before;
        self.now.clear();
        busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn named(pid: u32) -> Option<String> {
        (pid != 66).then(|| format!("p{pid}"))
    }

    #[test]
    fn the_busiest_are_named_first_and_the_idle_never() {
        let mut busy = BusyOthers::default();
        for pid in 1..=9 {
            busy.look(pid, 100.0);
        }
        busy.look(66, 0.0);
        assert_eq!(busy.finish(MonoNs(SECOND), named), None, "nothing before");
        for (pid, used) in (1_u32..=9).zip([0.0, 0.09, 0.1, 0.5, 0.25, 2.0, 0.75, 1.0, 0.3]) {
            busy.look(pid, 100.0 + used * 2.0);
        }
        busy.look(66, 9.0);
        let found = busy.finish(MonoNs(3 * SECOND), named).unwrap();
        let pids: Vec<u32> = found.iter().map(|p| p.pid).collect();
        assert_eq!(pids, [6, 8, 7, 4, 9], "five; 66 has ended");
        assert!((found[0].cores_used - 2.0).abs() < 1e-9);
        assert_eq!(found[0].name, "p6");
    }

    #[test]
    fn a_new_process_counts_from_its_start_and_a_reused_number_is_new() {
        let mut busy = BusyOthers::default();
        busy.look(1, 50.0);
        assert_eq!(busy.finish(MonoNs(SECOND), named), None);
        busy.look(1, 0.25);
        busy.look(2, 0.5);
        let found = busy.finish(MonoNs(2 * SECOND), named).unwrap();
        let cores: Vec<_> = found.iter().map(|p| (p.pid, p.cores_used)).collect();
        assert_eq!(cores, [(2, 0.5), (1, 0.25)]);
        // Gone, and nobody else busy: looked at, and nothing found.
        assert_eq!(busy.finish(MonoNs(3 * SECOND), named), Some(Vec::new()));
    }
}
