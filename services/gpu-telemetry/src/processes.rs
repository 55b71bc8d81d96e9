//! Finds engine processes, our own, and busy ones of others, and reads what they use.
//!
//! A process is an engine if one of its names begins with one of the configured ones, whatever the
//! case: its command name, the base name of the program it was started as, or, for an interpreter
//! (`python3 .../vllm serve`, `python -m sglang.launch_server`), that of its script or module. It is
//! one of ours if it is called exactly as a program of this project or the bus, or is this process.
//!
//! Looking for them means reading every process of the host, so it is done once per second, not
//! per tick. A process that was looked at twice is left alone until all are looked at again, every
//! 10 s (a process may change its name while it starts); of its processor time alone more is asked.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use chimera_domain::telemetry::{
    Absence, BusyProcess, MissingField, ProbeState, ProbeStatus, ProcessPart, ProcessSample,
    Source, TelemetryField,
};
use chimera_domain::units::{MonoNs, ns_to_s};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::proc::{ProcFile, Roots, number, ticks_per_second};

mod busy;
mod names;
mod stat;
mod threads;

use busy::BusyOthers;
use names::{engine_name, our_name, shortened};
use stat::Stat;
use threads::Threads;

/// Time between two searches.
const SEARCH_NS: u64 = 1_000_000_000;
/// Every so many searches, processes that were left alone are looked at again.
const SEARCHES_PER_REVIEW: u32 = 10;
/// How often a process is looked at before it is left alone: once may be between its fork and its
/// exec, where it still has its parent's name.
const LOOKS: u8 = 2;
/// Processes followed at once. More than any host runs; a bound against a name that matches all.
const MAX_FOLLOWED: usize = 256;
/// Processes of one host that are looked at: a bound, far above what a host runs.
const MAX_LISTED: usize = 65_536;
/// Threads read in one tick, on average. With more in all, they are read at every second tick, or
/// every third: what one tick costs has a bound.
const THREADS_PER_TICK: usize = 96;
/// Threads whose files are held open, in all: a reading then costs a quarter, and a process may
/// have 1024 files as a rule.
const MAX_HELD: usize = 256;
/// Most threads, in all, whose switches are read.
const MAX_SWITCHES: usize = 1024;

/// Follows the engine processes of this host, and ours.
#[derive(Debug)]
pub(crate) struct ProcessWatch {
    roots: Roots,
    /// In lower case.
    names: Vec<String>,
    own_pid: u32,
    followed: BTreeMap<u32, Followed>,
    others: HashMap<u32, u8>,
    /// `None`: not wanted.
    busy: Option<BusyOthers>,
    next_search: MonoNs,
    searches: u32,
    ticks: usize,
    readable: bool,
    /// Why run delay is missing in the last reading of some process.
    no_run_delay: Option<Absence>,
    ticks_per_second: f64,
    page_bytes: Option<u64>,
}

/// What one tick found.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ProcessReadings {
    /// Engines and ours, by rising pid.
    pub(crate) processes: Vec<ProcessSample>,
    /// Busy processes of others, at the ticks at which they were looked for.
    pub(crate) busy_others: Option<Vec<BusyProcess>>,
}

#[derive(Debug)]
struct Followed {
    name: String,
    part: ProcessPart,
    start_ticks: u64,
    /// Held open: it belongs to this process for ever, its number may not.
    stat: ProcFile,
    clock: Option<ClockId>,
    threads: Threads,
    /// How many it had at its last reading.
    thread_count: u32,
    last: Option<(MonoNs, f64)>,
    /// Processor time and run delay when the threads were read last.
    last_delay: Option<(f64, f64)>,
}

/// What is read of a process at a tick.
struct Turn {
    at: MonoNs,
    /// Whether it is the turn of all threads' run delay.
    delay: bool,
    /// Whether it is the turn of their switches.
    switches: bool,
    /// Files that may be opened for good.
    may_hold: usize,
    ticks_per_second: f64,
    page_bytes: Option<u64>,
}

impl ProcessWatch {
    /// `names`: how engines are called; `busy_others`: whether to look for busy processes of others.
    pub(crate) fn new(roots: Roots, names: &[String], busy_others: bool) -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        Self {
            roots,
            names: names.iter().map(|name| name.to_lowercase()).collect(),
            own_pid: std::process::id(),
            followed: BTreeMap::new(),
            others: HashMap::new(),
            busy: busy_others.then(BusyOthers::default),
            next_search: MonoNs(0),
            searches: 0,
            ticks: 0,
            readable: true,
            no_run_delay: None,
            ticks_per_second: ticks_per_second(),
            page_bytes: page.and_then(|bytes| u64::try_from(bytes).ok()),
        }
    }

    /// Reads everything.
    pub(crate) fn sample(&mut self, now: MonoNs) -> ProcessReadings {
        let searching = now >= self.next_search;
        let mut busy_others = None;
        if searching {
            busy_others = self.search(now);
            self.next_search = now.plus(SEARCH_NS);
        }
        let counts = self.followed.values();
        let threads: usize = counts
            .map(|process| usize::try_from(process.thread_count).unwrap_or(usize::MAX))
            .fold(0, usize::saturating_add);
        let held: usize = self.followed.values().map(|p| p.threads.held()).sum();
        let mut turn = Turn {
            at: now,
            delay: self
                .ticks
                .is_multiple_of(threads.div_ceil(THREADS_PER_TICK).max(1)),
            switches: searching && threads <= MAX_SWITCHES,
            may_hold: MAX_HELD.saturating_sub(held),
            ticks_per_second: self.ticks_per_second,
            page_bytes: self.page_bytes,
        };
        self.ticks = self.ticks.wrapping_add(1);
        if turn.delay {
            self.no_run_delay = None;
        }
        let mut processes = Vec::with_capacity(self.followed.len());
        let no_run_delay = &mut self.no_run_delay;
        self.followed.retain(|pid, process| {
            let sample = process.sample(*pid, &mut turn, no_run_delay);
            let alive = sample.is_some();
            if !alive {
                tracing::debug!(pid, name = %process.name, "a followed process has ended");
            }
            processes.extend(sample);
            alive
        });
        ProcessReadings {
            processes,
            busy_others,
        }
    }

    /// Why busy processes of others are not looked for, if so.
    pub(crate) fn no_busy_others(&self) -> Option<Absence> {
        match (&self.busy, self.readable) {
            (None, _) => Some(Absence::Disabled),
            (Some(_), false) => Some(Absence::Unreadable),
            (Some(_), true) => None,
        }
    }

    pub(crate) fn status(&self) -> ProbeStatus {
        let state = if self.readable {
            let missing = self.no_run_delay.map(|reason| MissingField {
                field: TelemetryField::RunDelay,
                reason,
            });
            ProbeState::Measured {
                missing: missing.into_iter().collect(),
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

    fn search(&mut self, now: MonoNs) -> Option<Vec<BusyProcess>> {
        if self.searches.is_multiple_of(SEARCHES_PER_REVIEW) {
            self.others.clear();
        }
        self.searches = self.searches.wrapping_add(1);
        let Ok(entries) = fs::read_dir(self.roots.proc("")) else {
            self.readable = false;
            return None;
        };
        self.readable = true;
        for pid in entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .take(MAX_LISTED)
        {
            if self.followed.contains_key(&pid) {
                continue;
            }
            let looks = self.others.entry(pid).or_insert(0);
            if *looks < LOOKS && self.followed.len() < MAX_FOLLOWED {
                *looks += 1;
                if let Some(process) = look(&self.roots, pid, &self.names, self.own_pid) {
                    tracing::debug!(pid, name = %process.name, "following a process");
                    self.followed.insert(pid, process);
                    continue;
                }
            }
            if let Some(busy) = &mut self.busy
                && let Some(used) = cpu_seconds_of(&self.roots, pid, self.ticks_per_second)
            {
                busy.look(pid, used);
            }
        }
        let roots = &self.roots;
        let name = |pid| {
            let command = fs::read(roots.process(pid).join("comm")).ok()?;
            let command = String::from_utf8_lossy(&command);
            Some(shortened(command.trim_end()))
        };
        self.busy.as_mut()?.finish(now, name)
    }
}

impl Followed {
    /// `None` once the process has ended.
    fn sample(
        &mut self,
        pid: u32,
        turn: &mut Turn,
        no_run_delay: &mut Option<Absence>,
    ) -> Option<ProcessSample> {
        let stat = Stat::parse(&self.stat.read().ok()?)?;
        if stat.is_ended() {
            return None;
        }
        let cpu_seconds = self
            .clock
            .and_then(seconds)
            .unwrap_or_else(|| number(stat.cpu_ticks) / turn.ticks_per_second);
        let cores_used = self.last.and_then(|(at, before)| {
            let elapsed = ns_to_s(turn.at.since(at)?);
            (elapsed > 0.0).then(|| (cpu_seconds - before).max(0.0) / elapsed)
        });
        self.last = Some((turn.at, cpu_seconds));
        self.thread_count = stat.threads;
        let delay = turn.delay.then(|| self.run_delay(cpu_seconds, turn));
        if let Some(Err(reason)) = delay {
            *no_run_delay = Some(reason);
        }
        let switches = turn
            .switches
            .then(|| self.threads.switches(stat.threads))
            .flatten();
        Some(ProcessSample {
            pid,
            parent_pid: Some(stat.parent),
            start_ticks: self.start_ticks,
            name: self.name.clone(),
            cpu_seconds: Some(cpu_seconds),
            cores_used,
            rss_bytes: turn
                .page_bytes
                .and_then(|bytes| stat.rss_pages.checked_mul(bytes)),
            minor_faults: Some(stat.minor_faults),
            major_faults: Some(stat.major_faults),
            threads: Some(stat.threads),
            run_delay_seconds: delay.and_then(Result::ok),
            voluntary_switches: switches.map(|s| s.voluntary),
            involuntary_switches: switches.map(|s| s.involuntary),
            part: self.part,
        })
    }
}

impl Followed {
    /// The kernel books a wait when it ends, on a core: of a process that used none since its
    /// threads were read, no thread has to be read again. Most engines of a solo leg are idle.
    fn run_delay(&mut self, cpu_seconds: f64, turn: &mut Turn) -> Result<f64, Absence> {
        // A time that moves in steps of 10 ms does not tell.
        if self.clock.is_some()
            && let Some((used, delay)) = self.last_delay
            && used.total_cmp(&cpu_seconds).is_eq()
        {
            return Ok(delay);
        }
        let delay = self
            .threads
            .run_delay_seconds(self.thread_count, &mut turn.may_hold)?;
        self.last_delay = Some((cpu_seconds, delay));
        Ok(delay)
    }
}

/// The process, if it is an engine or one of ours.
fn look(roots: &Roots, pid: u32, names: &[String], own_pid: u32) -> Option<Followed> {
    let folder = roots.process(pid);
    let command = fs::read(folder.join("comm")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command);
    let command = command.trim_end();
    let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments);
    // This process is no engine, whatever it is called.
    let (name, part) = if roots.live && pid == own_pid {
        (shortened(command), ProcessPart::Harness)
    } else if let Some(name) = engine_name(command, &arguments, names) {
        (name, ProcessPart::Engine)
    } else {
        (our_name(command, &arguments)?, ProcessPart::Harness)
    };
    let mut stat = ProcFile::open(folder.join("stat")).ok()?;
    let first = Stat::parse(&stat.read().ok()?)?;
    Some(Followed {
        name,
        part,
        start_ticks: first.start_ticks,
        stat,
        clock: roots.live.then(|| cpu_clock(pid)).flatten(),
        threads: Threads::new(folder),
        thread_count: first.threads,
        last: None,
        last_delay: None,
    })
}

/// Processor time of any process: by its clock, which costs no file, else by its line.
fn cpu_seconds_of(roots: &Roots, pid: u32, ticks_per_second: f64) -> Option<f64> {
    if roots.live
        && let Some(used) = cpu_clock(pid).and_then(seconds)
    {
        return Some(used);
    }
    let line = fs::read(roots.process(pid).join("stat")).ok()?;
    let stat = Stat::parse(&String::from_utf8_lossy(&line))?;
    Some(number(stat.cpu_ticks) / ticks_per_second)
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

#[cfg(test)]
mod tests;
