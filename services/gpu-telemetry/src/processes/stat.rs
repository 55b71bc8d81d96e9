//! What the kernel says of a process in one line.

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: u32,
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    pub(super) cpu_ticks: u64,
    pub(super) threads: u32,
    pub(super) start_ticks: u64,
    pub(super) rss_pages: u64,
}

impl Stat {
    pub(super) fn parse(text: &str) -> Option<Self> {
        // The command name may hold blanks and brackets; it ends at the last bracket.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        // proc(5) counts from 1 and has pid and command before these: 3, 4, then 10, 12, 14, 15, 20,
        // 22 and 24.
        let state = fields.next()?.chars().next()?;
        let mut after = |skipped| fields.nth(skipped)?.parse::<u64>().ok();
        Some(Self {
            state,
            parent: u32::try_from(after(0)?).ok()?,
            minor_faults: after(5)?,
            major_faults: after(1)?,
            cpu_ticks: after(1)?.checked_add(after(0)?)?,
            threads: u32::try_from(after(4)?).ok()?,
            start_ticks: after(1)?,
            rss_pages: after(1)?,
        })
    }

    /// A zombie has ended, though nobody has asked for its exit code yet.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}
