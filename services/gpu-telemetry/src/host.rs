//! The host's processor, memory and pressure, from Linux `/proc` and resctrl.

use chimera_domain::telemetry::{
    Absence, HostSample, MissingField, ProbeState, ProbeStatus, Source, TelemetryField,
};

use crate::proc::{ProcFile, Roots, number, ticks_per_second};

mod cpu;
mod traffic;

use cpu::{CpuTimes, Tasks};
use traffic::Traffic;

/// Reads the host.
#[derive(Debug)]
pub(crate) struct HostReader {
    stat: Option<ProcFile>,
    meminfo: Option<ProcFile>,
    loadavg: Option<ProcFile>,
    cpu_pressure: Option<ProcFile>,
    memory_pressure: Option<ProcFile>,
    io_pressure: Option<ProcFile>,
    traffic: Traffic,
    ticks_per_second: f64,
    last: Option<CpuTimes>,
    missing: Vec<MissingField>,
}

impl HostReader {
    pub(crate) fn open(roots: &Roots) -> Self {
        let open = |path| ProcFile::open(roots.proc(path)).ok();
        Self {
            stat: open("stat"),
            meminfo: open("meminfo"),
            loadavg: open("loadavg"),
            cpu_pressure: open("pressure/cpu"),
            memory_pressure: open("pressure/memory"),
            io_pressure: open("pressure/io"),
            traffic: Traffic::open(&roots.resctrl),
            ticks_per_second: ticks_per_second(),
            last: None,
            missing: Vec::new(),
        }
    }

    /// Reads everything; what cannot be read is `None`.
    pub(crate) fn sample(&mut self) -> HostSample {
        let (times, tasks) = read(&mut self.stat, |stat| {
            Some((CpuTimes::parse(stat), Tasks::parse(stat)))
        })
        .unwrap_or_default();
        let (total, available) =
            read(&mut self.meminfo, |text| Some(memory(text))).unwrap_or_default();
        let load1 = read(&mut self.loadavg, load1);
        let cpu = read(&mut self.cpu_pressure, pressure);
        let memory = read(&mut self.memory_pressure, pressure);
        let io = read(&mut self.io_pressure, pressure);
        let traffic = self.traffic.sample();

        let mut sample = HostSample {
            memory_total_bytes: total,
            memory_available_bytes: available,
            load1,
            cpu_pressure_some_avg10: cpu.map(|(avg10, _)| avg10),
            cpu_pressure_some_seconds: cpu.map(|(_, seconds)| seconds),
            memory_pressure_some_seconds: memory.map(|(_, seconds)| seconds),
            io_pressure_some_seconds: io.map(|(_, seconds)| seconds),
            tasks_runnable: tasks.runnable,
            context_switches: tasks.switches,
            memory_traffic_bytes: traffic.ok(),
            ..HostSample::default()
        };
        if let Some(times) = &times {
            sample.cpu_busy_core_seconds = Some(number(times.all.busy) / self.ticks_per_second);
            if let Some(last) = &self.last {
                sample.cpu_busy_fraction = times.all.busy_since(&last.all);
                sample.cpu_steal_fraction = times.all.steal_since(&last.all);
                sample.core_busy_fractions = times.cores_since(last);
            }
        }
        let unreadable = |missing: bool| missing.then_some(Absence::Unreadable);
        self.missing.clear();
        self.missing.extend(
            [
                (TelemetryField::Cpu, unreadable(times.is_none())),
                (
                    TelemetryField::Memory,
                    unreadable(total.is_none() || available.is_none()),
                ),
                (TelemetryField::Load, unreadable(load1.is_none())),
                (
                    TelemetryField::Pressure,
                    unreadable(cpu.is_none() || memory.is_none() || io.is_none()),
                ),
                (TelemetryField::MemoryTraffic, traffic.err()),
            ]
            .into_iter()
            .filter_map(|(field, reason)| reason.map(|reason| MissingField { field, reason })),
        );
        self.last = times;
        sample
    }

    /// What the last sample held; `busy_others` is why nobody looked for busy processes, if so.
    pub(crate) fn status(&self, busy_others: Option<Absence>) -> ProbeStatus {
        let mut missing = self.missing.clone();
        missing.extend(busy_others.map(|reason| MissingField {
            field: TelemetryField::BusyOthers,
            reason,
        }));
        ProbeStatus {
            source: Source::Host,
            state: ProbeState::Measured { missing },
        }
    }
}

/// What `parse` finds in the file, if there is one and it can be read.
fn read<T>(file: &mut Option<ProcFile>, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    parse(&file.as_mut()?.read().ok()?)
}

/// (total, available) of `/proc/meminfo`, bytes.
fn memory(meminfo: &str) -> (Option<u64>, Option<u64>) {
    let bytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    };
    (bytes("MemTotal:"), bytes("MemAvailable:"))
}

fn load1(loadavg: &str) -> Option<f64> {
    loadavg
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
        .filter(|load: &f64| load.is_finite())
}

/// (part of the last 10 s, seconds since boot) of the line `some` of a file of `/proc/pressure`.
fn pressure(text: &str) -> Option<(f64, f64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = |key: &str| line.split(' ').find_map(|pair| pair.strip_prefix(key));
    let percent: f64 = value("avg10=")?.parse().ok()?;
    let microseconds: u64 = value("total=")?.parse().ok()?;
    percent
        .is_finite()
        .then(|| (percent / 100.0, number(microseconds) / 1e6))
}

#[cfg(test)]
mod tests;
