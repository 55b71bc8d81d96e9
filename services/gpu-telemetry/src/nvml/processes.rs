//! Who is on a device: lists of processes, and what each used.
//!
//! The driver measures the utilisation of processes in windows of 1/6 s to 1 s and keeps the last
//! ones; we ask for those since the last that we saw. It names only processes that used something in
//! a window. So one that is on the device and not named in any new window used nothing; without a
//! new window, nothing is known (`None`), unless the whole device was idle.

use std::collections::BTreeMap;

use chimera_domain::telemetry::{Absence, GpuProcess, GpuProcessKind, TelemetryField as Field};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::{ProcessInfo, ProcessUtilizationSample};

use super::device::{Gone, Reader};
use super::map::{Trouble, optional, trouble};

impl Reader<'_, '_> {
    /// Who is on it. `idle`: nothing at all ran in the device's last window.
    pub(super) fn processes(&mut self, idle: bool) -> Result<Option<Vec<GpuProcess>>, Gone> {
        let Some(compute) =
            self.take(Field::GpuProcesses, |gpu| gpu.running_compute_processes())?
        else {
            return Ok(None);
        };
        // Half a list would look like a whole one.
        let Some(graphics) =
            self.take(Field::GpuProcesses, |gpu| gpu.running_graphics_processes())?
        else {
            return Ok(None);
        };
        let through_mps = self.through_mps();
        let mut all = merged(&compute, &graphics, &through_mps);
        if self.ledger.asks(Field::GpuProcessUtilisation) {
            self.utilisation(&mut all, idle);
        }
        Ok(Some(all))
    }

    /// Clients of an MPS daemon. They may be missing in the list of compute processes, where the
    /// daemon's server stands for them.
    fn through_mps(&mut self) -> Vec<ProcessInfo> {
        if self.ledger.no_mps {
            return Vec::new();
        }
        match self.gpu.mps_running_compute_processes() {
            Ok(clients) => {
                self.ledger.mps_active = Some(!clients.is_empty());
                clients
            }
            Err(error) => {
                let lasting = matches!(
                    trouble(&error),
                    Trouble::Field(Absence::NotSupported | Absence::NoPermission | Absence::TooOld)
                );
                if lasting {
                    self.ledger.no_mps = true;
                    self.ledger.mps_active = None;
                }
                Vec::new()
            }
        }
    }

    fn utilisation(&mut self, processes: &mut [GpuProcess], idle: bool) {
        let since = self.ledger.window_seen;
        let windows = match self.gpu.process_utilization_stats(since) {
            Ok(windows) => windows,
            // There is no new window, or nobody did anything in it.
            Err(NvmlError::NotFound) => Vec::new(),
            Err(error) => {
                self.ledger
                    .lacks(Field::GpuProcessUtilisation, optional(&error));
                return;
            }
        };
        self.ledger.had(Field::GpuProcessUtilisation);
        let seen = since.unwrap_or_default();
        let newest = windows.iter().map(|window| window.timestamp).max();
        self.ledger.window_seen = Some(newest.unwrap_or_default().max(seen));
        // What the driver had kept when we came is of a time before our samples.
        if since.is_some() {
            share(processes, &windows, seen, idle);
        }
    }
}

/// Gives each process its part of the windows after `seen`: the mean over them.
fn share(
    processes: &mut [GpuProcess],
    windows: &[ProcessUtilizationSample],
    seen: u64,
    idle: bool,
) {
    let mut used: BTreeMap<u32, (u32, u32, u32)> = BTreeMap::new();
    let sound = |window: &&ProcessUtilizationSample| {
        // Some drivers fill the list up with entries that are none.
        window.pid != 0
            && window.timestamp > seen
            && window.sm_util <= 100
            && window.mem_util <= 100
    };
    for window in windows.iter().filter(sound) {
        let (sm, memory, count) = used.entry(window.pid).or_default();
        *sm = sm.saturating_add(window.sm_util);
        *memory = memory.saturating_add(window.mem_util);
        *count = count.saturating_add(1);
    }
    if used.is_empty() && !idle {
        return;
    }
    let mut last = None;
    for process in processes {
        // A process that computes and draws stands there twice; what it used is told once.
        if last.replace(process.pid) == Some(process.pid) {
            continue;
        }
        let (sm, memory, count) = used.get(&process.pid).copied().unwrap_or((0, 0, 1));
        let mean = |percent: u32| f64::from(percent) / f64::from(count.max(1)) / 100.0;
        process.utilisation = Some(mean(sm));
        process.memory_utilisation = Some(mean(memory));
    }
}

/// All lists as one, by rising pid.
fn merged(
    compute: &[ProcessInfo],
    graphics: &[ProcessInfo],
    through_mps: &[ProcessInfo],
) -> Vec<GpuProcess> {
    let of = |process: &ProcessInfo, kind: GpuProcessKind| GpuProcess {
        pid: process.pid,
        memory_used_bytes: match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        },
        utilisation: None,
        memory_utilisation: None,
        kind,
    };
    // A client may be in both lists.
    let only_mps = through_mps
        .iter()
        .filter(|client| compute.iter().all(|process| process.pid != client.pid));
    let mut all: Vec<GpuProcess> = compute
        .iter()
        .chain(only_mps)
        .map(|process| of(process, GpuProcessKind::Compute))
        .collect();
    all.extend(
        graphics
            .iter()
            .map(|process| of(process, GpuProcessKind::Graphics)),
    );
    all.sort_by_key(|process| (process.pid, process.kind));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(pid: u32, timestamp: u64, sm_util: u32, mem_util: u32) -> ProcessUtilizationSample {
        ProcessUtilizationSample {
            pid,
            timestamp,
            sm_util,
            mem_util,
            enc_util: 0,
            dec_util: 0,
        }
    }

    fn on(pid: u32, kind: GpuProcessKind) -> GpuProcess {
        GpuProcess {
            pid,
            memory_used_bytes: None,
            utilisation: None,
            memory_utilisation: None,
            kind,
        }
    }

    fn shares(windows: &[ProcessUtilizationSample], idle: bool) -> Vec<Option<f64>> {
        let mut list = [
            on(1, GpuProcessKind::Compute),
            on(2, GpuProcessKind::Compute),
            on(2, GpuProcessKind::Graphics),
        ];
        share(&mut list, windows, 10, idle);
        list.iter().map(|process| process.utilisation).collect()
    }

    #[test]
    fn a_process_has_the_mean_of_its_new_windows_told_once() {
        let windows = [
            window(2, 10, 100, 0),
            window(2, 20, 40, 10),
            window(2, 30, 60, 10),
        ];
        assert_eq!(shares(&windows, false), [Some(0.0), Some(0.5), None]);
    }

    #[test]
    fn without_a_new_window_nothing_is_known_unless_the_device_was_idle() {
        assert_eq!(shares(&[], false), [None, None, None]);
        assert_eq!(shares(&[], true), [Some(0.0), Some(0.0), None]);
    }

    #[test]
    fn entries_that_are_none_are_left_out() {
        let nonsense = [window(0, 20, 5, 5), window(1, 20, 4_000_000, 5)];
        assert_eq!(shares(&nonsense, false), [None, None, None]);
    }
}
