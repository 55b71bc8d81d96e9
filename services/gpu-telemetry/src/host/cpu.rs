//! What `/proc/stat` says.

use crate::proc::number;

/// Time of one core, or of all, in ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ticks {
    pub(super) busy: u64,
    pub(super) steal: u64,
    pub(super) total: u64,
}

impl Ticks {
    /// From the columns of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal (guest
    /// times are inside user and nice).
    fn parse<'a>(mut columns: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut next = || columns.next()?.parse::<u64>().ok();
        let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
        let (iowait, irq, softirq, steal) = (next()?, next()?, next()?, next()?);
        let busy = user + nice + system + irq + softirq;
        Some(Self {
            busy,
            steal,
            total: busy + idle + iowait + steal,
        })
    }

    fn part(part: u64, last: u64, all: u64) -> Option<f64> {
        // Counters of some kernels step back by a tick; over no time there is no fraction.
        (all > 0)
            .then(|| number(part.saturating_sub(last)) / number(all))
            .map(|x| x.min(1.0))
    }

    pub(super) fn busy_since(&self, last: &Self) -> Option<f64> {
        Self::part(self.busy, last.busy, self.total.saturating_sub(last.total))
    }

    pub(super) fn steal_since(&self, last: &Self) -> Option<f64> {
        Self::part(
            self.steal,
            last.steal,
            self.total.saturating_sub(last.total),
        )
    }
}

/// Processor times of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CpuTimes {
    pub(super) all: Ticks,
    /// By core number; offline cores are not listed.
    pub(super) cores: Vec<(u32, Ticks)>,
}

impl CpuTimes {
    pub(super) fn parse(stat: &str) -> Option<Self> {
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
    pub(super) fn cores_since(&self, last: &Self) -> Vec<f64> {
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

/// What all cores count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tasks {
    /// Context switches since boot.
    pub(super) switches: Option<u64>,
    /// Tasks that run or could, at this instant.
    pub(super) runnable: Option<u32>,
}

impl Tasks {
    pub(super) fn parse(stat: &str) -> Self {
        let mut found = Self::default();
        // From the end: the line of interrupts, by far the longest, comes before these.
        for line in stat.lines().rev().take(LINES_AT_THE_END) {
            let Some((key, value)) = line.split_once(' ') else {
                continue;
            };
            match key {
                "procs_running" => found.runnable = value.trim().parse().ok(),
                "ctxt" => {
                    found.switches = value.trim().parse().ok();
                    break;
                }
                _ => {}
            }
        }
        found
    }
}

/// Lines of `/proc/stat` from its end up to `ctxt`, with room for what later kernels add.
const LINES_AT_THE_END: usize = 16;
