//! The host's processor, memory and pressure, from Linux `/proc`.
//!
//! Files stay open and are read again from their beginning, which makes the kernel write them anew:
//! a tick costs four reads and no search for a path.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use chimera_domain::telemetry::{
    Absence, HostSample, MissingField, ProbeState, ProbeStatus, Source, TelemetryField,
};

/// Room for a file of `/proc` to begin with: `/proc/stat` of some 100 cores.
const FIRST_ROOM: usize = 16 * 1024;
/// Most that is read of one file: far above `/proc/stat` of 4096 cores.
const MAX_ROOM: usize = 4 * 1024 * 1024;

/// A file of `/proc` that is read again and again.
#[derive(Debug)]
pub(crate) struct ProcFile {
    file: File,
    room: Vec<u8>,
}

impl ProcFile {
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            room: vec![0; FIRST_ROOM],
        })
    }

    /// Its content now.
    ///
    /// # Errors
    /// As the kernel answers: for a file of a process that has ended, `ESRCH`.
    pub(crate) fn read(&mut self) -> io::Result<String> {
        // The kernel makes these files whole at each read from their beginning: what fits the room
        // came in one read and is of one instant.
        loop {
            let length = self.file.read_at(&mut self.room, 0)?;
            if length == self.room.len() && length < MAX_ROOM {
                self.room.resize(length.saturating_mul(2), 0);
                continue;
            }
            let content = self.room.get(..length).unwrap_or_default();
            return Ok(String::from_utf8_lossy(content).into_owned());
        }
    }
}

/// Reads the host.
#[derive(Debug)]
pub(crate) struct HostReader {
    stat: Option<ProcFile>,
    meminfo: Option<ProcFile>,
    loadavg: Option<ProcFile>,
    pressure: Option<ProcFile>,
    ticks_per_second: f64,
    last: Option<CpuTimes>,
    missing: Vec<TelemetryField>,
}

impl HostReader {
    pub(crate) fn open() -> Self {
        Self {
            stat: ProcFile::open("/proc/stat").ok(),
            meminfo: ProcFile::open("/proc/meminfo").ok(),
            loadavg: ProcFile::open("/proc/loadavg").ok(),
            pressure: ProcFile::open("/proc/pressure/cpu").ok(),
            ticks_per_second: ticks_per_second(),
            last: None,
            missing: Vec::new(),
        }
    }

    /// Reads everything; what cannot be read is `None`.
    pub(crate) fn sample(&mut self) -> HostSample {
        let times = text(&mut self.stat).and_then(|stat| CpuTimes::parse(&stat));
        let (total, available) =
            text(&mut self.meminfo).map_or((None, None), |meminfo| memory(&meminfo));
        let load1 = text(&mut self.loadavg).and_then(|text| load1(&text));
        let pressure = text(&mut self.pressure).and_then(|text| pressure(&text));

        let mut sample = HostSample {
            memory_total_bytes: total,
            memory_available_bytes: available,
            load1,
            cpu_pressure_some_avg10: pressure.map(|(avg10, _)| avg10),
            cpu_pressure_some_seconds: pressure.map(|(_, seconds)| seconds),
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
        self.missing = [
            (TelemetryField::Cpu, times.is_none()),
            (
                TelemetryField::Memory,
                total.is_none() || available.is_none(),
            ),
            (TelemetryField::Load, load1.is_none()),
            (TelemetryField::Pressure, pressure.is_none()),
        ]
        .into_iter()
        .filter_map(|(field, missing)| missing.then_some(field))
        .collect();
        self.last = times;
        sample
    }

    /// What the last sample held.
    pub(crate) fn status(&self) -> ProbeStatus {
        let missing = self
            .missing
            .iter()
            .map(|field| MissingField {
                field: *field,
                reason: Absence::Unreadable,
            })
            .collect();
        ProbeStatus {
            source: Source::Host,
            state: ProbeState::Measured { missing },
        }
    }
}

fn text(file: &mut Option<ProcFile>) -> Option<String> {
    file.as_mut()?.read().ok()
}

/// The unit of the kernel's processor times, per second.
pub(crate) fn ticks_per_second() -> f64 {
    use nix::unistd::{SysconfVar, sysconf};
    // Fixed at 100 in the kernel's interface to programs on every platform that we build for.
    let ticks = sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .filter(|ticks| *ticks > 0);
    number(ticks.map_or(100, i64::unsigned_abs))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "ticks and bytes of one host are far below 2^53"
)]
fn number(count: u64) -> f64 {
    count as f64
}

/// Time of one core, or of all, in ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ticks {
    busy: u64,
    steal: u64,
    total: u64,
}

impl Ticks {
    /// From the columns of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal (guest
    /// times are inside user and nice).
    fn parse<'a>(columns: impl Iterator<Item = &'a str>) -> Option<Self> {
        let values: Vec<u64> = columns
            .take(8)
            .map_while(|value| value.parse().ok())
            .collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal] = values.as_slice() else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        Some(Self {
            busy,
            steal: *steal,
            total: busy + idle + iowait + steal,
        })
    }

    fn part(part: u64, last: u64, all: u64) -> Option<f64> {
        // Counters of some kernels step back by a tick; over no time there is no fraction.
        (all > 0)
            .then(|| number(part.saturating_sub(last)) / number(all))
            .map(|x| x.min(1.0))
    }

    fn busy_since(&self, last: &Self) -> Option<f64> {
        Self::part(self.busy, last.busy, self.total.saturating_sub(last.total))
    }

    fn steal_since(&self, last: &Self) -> Option<f64> {
        Self::part(
            self.steal,
            last.steal,
            self.total.saturating_sub(last.total),
        )
    }
}

/// Processor times of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CpuTimes {
    all: Ticks,
    /// By core number; offline cores are not listed.
    cores: Vec<(u32, Ticks)>,
}

impl CpuTimes {
    fn parse(stat: &str) -> Option<Self> {
        let mut all = None;
        let mut cores = Vec::new();
        for line in stat.lines().take_while(|line| line.starts_with("cpu")) {
            let mut columns = line.split_ascii_whitespace();
            let name = columns.next()?;
            let ticks = Ticks::parse(columns)?;
            match name.strip_prefix("cpu") {
                Some("") => all = Some(ticks),
                Some(core) => cores.push((core.parse().ok()?, ticks)),
                None => {}
            }
        }
        Some(Self { all: all?, cores })
    }

    /// Per core since `last`; empty if a core came or went, or no time passed.
    fn cores_since(&self, last: &Self) -> Vec<f64> {
        let same = self
            .cores
            .iter()
            .map(|(core, _)| core)
            .eq(last.cores.iter().map(|(c, _)| c));
        if !same {
            return Vec::new();
        }
        let pairs = self.cores.iter().zip(&last.cores);
        pairs
            .map(|((_, now), (_, before))| now.busy_since(before))
            .collect::<Option<_>>()
            .unwrap_or_default()
    }
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

/// (part of the last 10 s, seconds since boot) of `/proc/pressure/cpu`'s line `some`.
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
