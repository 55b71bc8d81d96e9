//! Finds engine processes and reads what they use.
//!
//! A process is an engine if one of its names begins with one of the configured ones, whatever the
//! case: its command name, the base name of the program it was started as, or, for an interpreter
//! (`python3 .../vllm serve`, `python -m sglang.launch_server`), that of its script or module. This
//! process itself is none.
//!
//! Looking for engines means reading every process of the host, so it is done once per second, not
//! per tick. A process that was looked at twice is left alone until all are looked at again, every
//! 10 s (a process may change its name while it starts).

use std::collections::{BTreeMap, HashMap};
use std::fs;

use chimera_domain::telemetry::{Absence, ProbeState, ProbeStatus, ProcessSample, Source};
use chimera_domain::units::{MonoNs, ns_to_s};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::host::{ProcFile, ticks_per_second};

/// Time between two searches.
const SEARCH_NS: u64 = 1_000_000_000;
/// Every so many searches, processes that were left alone are looked at again.
const SEARCHES_PER_REVIEW: u32 = 10;
/// How often a process is looked at before it is left alone: once may be between its fork and its
/// exec, where it still has its parent's name.
const LOOKS: u8 = 2;
/// Engines followed at once. More than any host runs; a bound against a name that matches all.
const MAX_FOLLOWED: usize = 256;
/// Longest name reported, characters.
const MAX_NAME: usize = 64;

/// Follows the engine processes of this host.
#[derive(Debug)]
pub(crate) struct ProcessWatch {
    /// In lower case.
    names: Vec<String>,
    own_pid: u32,
    followed: BTreeMap<u32, Followed>,
    others: HashMap<u32, u8>,
    next_search: MonoNs,
    searches: u32,
    readable: bool,
    ticks_per_second: f64,
    page_bytes: Option<u64>,
}

#[derive(Debug)]
struct Followed {
    name: String,
    start_ticks: u64,
    /// Held open: it belongs to this process for ever, its number may not.
    stat: ProcFile,
    clock: Option<ClockId>,
    last: Option<(MonoNs, f64)>,
}

impl ProcessWatch {
    pub(crate) fn new(names: &[String]) -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        Self {
            names: names.iter().map(|name| name.to_lowercase()).collect(),
            own_pid: std::process::id(),
            followed: BTreeMap::new(),
            others: HashMap::new(),
            next_search: MonoNs(0),
            searches: 0,
            readable: true,
            ticks_per_second: ticks_per_second(),
            page_bytes: page.and_then(|bytes| u64::try_from(bytes).ok()),
        }
    }

    /// Reads every engine process, by rising pid.
    pub(crate) fn sample(&mut self, now: MonoNs) -> Vec<ProcessSample> {
        if now >= self.next_search {
            self.search();
            self.next_search = now.plus(SEARCH_NS);
        }
        let mut samples = Vec::with_capacity(self.followed.len());
        let (ticks_per_second, page_bytes) = (self.ticks_per_second, self.page_bytes);
        self.followed.retain(|pid, process| {
            let sample = process.sample(*pid, now, ticks_per_second, page_bytes);
            let alive = sample.is_some();
            if !alive {
                tracing::debug!(pid, name = %process.name, "an engine process has ended");
            }
            samples.extend(sample);
            alive
        });
        samples
    }

    pub(crate) fn status(&self) -> ProbeStatus {
        let state = if self.readable {
            ProbeState::Measured {
                missing: Vec::new(),
            }
        } else {
            ProbeState::NotMeasured {
                reason: Absence::Unreadable,
                detail: "/proc cannot be listed: no engine-process figures are recorded".to_owned(),
            }
        };
        ProbeStatus {
            source: Source::Processes,
            state,
        }
    }

    fn search(&mut self) {
        if self.searches.is_multiple_of(SEARCHES_PER_REVIEW) {
            self.others.clear();
        }
        self.searches = self.searches.wrapping_add(1);
        let Ok(entries) = fs::read_dir("/proc") else {
            self.readable = false;
            return;
        };
        self.readable = true;
        for pid in entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        {
            if pid == self.own_pid || self.followed.contains_key(&pid) {
                continue;
            }
            let looks = self.others.entry(pid).or_insert(0);
            if *looks >= LOOKS || self.followed.len() >= MAX_FOLLOWED {
                continue;
            }
            *looks += 1;
            if let Some(process) = look(pid, &self.names) {
                tracing::debug!(pid, name = %process.name, "following an engine process");
                self.followed.insert(pid, process);
            }
        }
    }
}

impl Followed {
    /// `None` once the process has ended.
    fn sample(
        &mut self,
        pid: u32,
        now: MonoNs,
        ticks_per_second: f64,
        page_bytes: Option<u64>,
    ) -> Option<ProcessSample> {
        let stat = Stat::parse(&self.stat.read().ok()?)?;
        if stat.is_ended() {
            return None;
        }
        let cpu_seconds = self
            .clock
            .and_then(seconds)
            .unwrap_or_else(|| number(stat.cpu_ticks) / ticks_per_second);
        let cores_used = self.last.and_then(|(at, before)| {
            let elapsed = ns_to_s(now.since(at)?);
            (elapsed > 0.0).then(|| (cpu_seconds - before).max(0.0) / elapsed)
        });
        self.last = Some((now, cpu_seconds));
        Some(ProcessSample {
            parent_pid: Some(stat.parent),
            cpu_seconds: Some(cpu_seconds),
            cores_used,
            rss_bytes: page_bytes.and_then(|bytes| stat.rss_pages.checked_mul(bytes)),
            minor_faults: Some(stat.minor_faults),
            major_faults: Some(stat.major_faults),
            threads: Some(stat.threads),
            ..ProcessSample::unmeasured(pid, self.start_ticks, self.name.clone())
        })
    }
}

/// The process, if it is an engine.
fn look(pid: u32, names: &[String]) -> Option<Followed> {
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments);
    let name = engine_name(command.trim_end(), &arguments, names)?;
    let mut stat = ProcFile::open(format!("/proc/{pid}/stat")).ok()?;
    let start_ticks = Stat::parse(&stat.read().ok()?)?.start_ticks;
    Some(Followed {
        name,
        start_ticks,
        stat,
        clock: cpu_clock(pid),
        last: None,
    })
}

/// The processor-time clock of a process: all its threads, ended ones included, to the nanosecond.
/// `/proc/PID/stat` has the same to 10 ms only.
fn cpu_clock(pid: u32) -> Option<ClockId> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    clock.now().is_ok().then_some(clock)
}

fn seconds(clock: ClockId) -> Option<f64> {
    let time = clock.now().ok()?;
    let whole = u32::try_from(time.tv_sec()).ok()?;
    let part = u32::try_from(time.tv_nsec()).ok()?;
    Some(f64::from(whole) + f64::from(part) / 1e9)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "ticks of one process are far below 2^53"
)]
fn number(count: u64) -> f64 {
    count as f64
}

/// What of a process begins with a name of `names` (lower case).
///
/// `arguments`: its command line, parts ended by zero bytes.
fn engine_name(command: &str, arguments: &str, names: &[String]) -> Option<String> {
    let mut parts = arguments.split('\0').filter(|part| !part.is_empty());
    let program = parts.next().map(base);
    let script = program
        .filter(|program| program.starts_with("python"))
        .and_then(|_| script(parts));
    [Some(command), program, script]
        .into_iter()
        .flatten()
        .find(|candidate| {
            let candidate = candidate.to_lowercase();
            names
                .iter()
                .any(|name| candidate.starts_with(name.as_str()))
        })
        .map(|name| name.chars().take(MAX_NAME).collect())
}

/// What an interpreter runs: the module after `-m`, else the first argument that is no option.
fn script<'a>(mut arguments: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    loop {
        match arguments.next()? {
            "-m" => return arguments.next(),
            // Code on the command line has no name; -W and -X take a value.
            "-c" => return None,
            "-W" | "-X" => {
                arguments.next()?;
            }
            option if option.starts_with('-') => {}
            path => return Some(base(path)),
        }
    }
}

fn base(path: &str) -> &str {
    // `ollama runner --model ...` may stand in one argument where a program rewrote its title.
    let program = path.split_once(' ').map_or(path, |(program, _)| program);
    program.rsplit('/').next().unwrap_or(program)
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: u32,
    minor_faults: u64,
    major_faults: u64,
    cpu_ticks: u64,
    threads: u32,
    start_ticks: u64,
    rss_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The command name may hold blanks and brackets; it ends at the last bracket.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts from 1 and has pid and command before these.
        let number = |field: usize| -> Option<u64> { fields.get(field - 3)?.parse().ok() };
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: u32::try_from(number(4)?).ok()?,
            minor_faults: number(10)?,
            major_faults: number(12)?,
            cpu_ticks: number(14)?.checked_add(number(15)?)?,
            threads: u32::try_from(number(20)?).ok()?,
            start_ticks: number(22)?,
            rss_pages: number(24)?,
        })
    }

    /// A zombie has ended, though nobody has asked for its exit code yet.
    fn is_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests;
