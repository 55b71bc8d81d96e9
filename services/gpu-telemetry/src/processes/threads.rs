//! How long the threads of a process waited for a core, and how often they left one.
//!
//! Rule: the sum over the threads alive, and the last reading of those that ended since the process
//! is followed. It never falls. What a thread waited between its last reading and its end is not
//! seen, nor a thread that lived between two readings.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use chimera_domain::telemetry::Absence;

use crate::proc::{ProcFile, number};

/// Threads of one process that are read: a bound, far above what an engine has.
const MAX_THREADS: usize = 2048;

/// The threads of one process.
#[derive(Debug)]
pub(super) struct Threads {
    task: PathBuf,
    alive: BTreeMap<u32, Thread>,
    ended_wait_ns: u64,
    ended_switches: Switches,
    /// Whether the list of threads is no longer right.
    stale: bool,
}

/// How often a core was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Switches {
    pub(super) voluntary: u64,
    pub(super) involuntary: u64,
}

impl Switches {
    fn plus(self, other: Self) -> Self {
        Self {
            voluntary: self.voluntary.saturating_add(other.voluntary),
            involuntary: self.involuntary.saturating_add(other.involuntary),
        }
    }
}

#[derive(Debug, Default)]
struct Thread {
    /// `None`: it is opened for every reading, because too many are open already.
    held: Option<ProcFile>,
    wait_ns: u64,
    switches: Switches,
}

impl Threads {
    /// The threads of the process with this folder.
    pub(super) fn new(process: PathBuf) -> Self {
        Self {
            task: process.join("task"),
            alive: BTreeMap::new(),
            ended_wait_ns: 0,
            ended_switches: Switches::default(),
            stale: true,
        }
    }

    /// Files held open.
    pub(super) fn held(&self) -> usize {
        self.alive.values().filter(|t| t.held.is_some()).count()
    }

    /// Seconds waited for a core. `count`: threads the process has by its own account; `may_hold`:
    /// how many more files may be held open.
    ///
    /// # Errors
    /// Why it is not known.
    pub(super) fn run_delay_seconds(
        &mut self,
        count: u32,
        may_hold: &mut usize,
    ) -> Result<f64, Absence> {
        self.list(count)?;
        let mut sum = self.ended_wait_ns;
        let mut failed = None;
        for (id, thread) in &mut self.alive {
            let path = || self.task.join(id.to_string()).join("schedstat");
            match thread.read_wait(path, may_hold) {
                Ok(wait_ns) => thread.wait_ns = wait_ns,
                Err(error) => match ended_or(&error) {
                    None => self.stale = true,
                    why => failed = why,
                },
            }
            sum = sum.saturating_add(thread.wait_ns);
        }
        failed.map_or(Ok(number(sum) / 1e9), Err)
    }

    /// Switches away from a core. Dearer than [`Self::run_delay_seconds`], hence read less often.
    pub(super) fn switches(&mut self, count: u32) -> Option<Switches> {
        self.list(count).ok()?;
        let mut sum = self.ended_switches;
        for (id, thread) in &mut self.alive {
            match fs::read_to_string(self.task.join(id.to_string()).join("status")) {
                Ok(status) => thread.switches = switches(&status)?,
                Err(error) => match ended_or(&error) {
                    None => self.stale = true,
                    Some(_) => return None,
                },
            }
            sum = sum.plus(thread.switches);
        }
        Some(sum)
    }

    /// Lists the threads again, if they are others than before.
    fn list(&mut self, count: u32) -> Result<(), Absence> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > MAX_THREADS {
            return Err(Absence::NotSupported);
        }
        if !self.stale && self.alive.len() == count {
            return Ok(());
        }
        let entries = fs::read_dir(&self.task).map_err(|error| absence(&error))?;
        let mut before = std::mem::take(&mut self.alive);
        for id in entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .take(MAX_THREADS)
        {
            let thread = before.remove(&id).unwrap_or_default();
            self.alive.insert(id, thread);
        }
        for ended in before.into_values() {
            self.ended_wait_ns = self.ended_wait_ns.saturating_add(ended.wait_ns);
            self.ended_switches = self.ended_switches.plus(ended.switches);
        }
        self.stale = false;
        Ok(())
    }
}

impl Thread {
    fn read_wait(&mut self, path: impl Fn() -> PathBuf, may_hold: &mut usize) -> io::Result<u64> {
        if let Some(file) = &mut self.held {
            return wait_ns(&file.read()?);
        }
        let mut file = ProcFile::open_line(path())?;
        let waited = wait_ns(&file.read()?)?;
        if *may_hold > 0 {
            *may_hold -= 1;
            self.held = Some(file);
        }
        Ok(waited)
    }
}

/// The second number of `schedstat`: time on a core, time waiting for one, turns on one.
fn wait_ns(schedstat: &str) -> io::Result<u64> {
    let mut columns = schedstat.split_ascii_whitespace();
    columns
        .nth(1)
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn switches(status: &str) -> Option<Switches> {
    let mut lines = status.lines().rev();
    let mut value = |key: &str| {
        let text = lines.find_map(|line| line.strip_prefix(key))?;
        text.trim().parse().ok()
    };
    // In the order of the file's end.
    let involuntary = value("nonvoluntary_ctxt_switches:")?;
    let voluntary = value("voluntary_ctxt_switches:")?;
    Some(Switches {
        voluntary,
        involuntary,
    })
}

/// `None`: the thread has ended. Otherwise why it cannot be read.
fn ended_or(error: &io::Error) -> Option<Absence> {
    const ESRCH: i32 = 3;
    let ended = error.raw_os_error() == Some(ESRCH) || error.kind() == io::ErrorKind::NotFound;
    (!ended).then(|| absence(error))
}

fn absence(error: &io::Error) -> Absence {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Absence::NoPermission,
        // A kernel built without SCHED_INFO writes nothing here.
        io::ErrorKind::InvalidData | io::ErrorKind::NotFound => Absence::NotSupported,
        _ => Absence::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn thread(process: &Path, id: u32, wait_ns: u64, switches: (u64, u64)) {
        let folder = process.join("task").join(id.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("schedstat"), format!("5 {wait_ns} 1\n")).unwrap();
        let status = format!(
            "Name:\tx\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n",
            switches.0, switches.1
        );
        fs::write(folder.join("status"), status).unwrap();
    }

    fn end(process: &Path, id: u32) {
        fs::remove_dir_all(process.join("task").join(id.to_string())).unwrap();
    }

    #[test]
    fn waits_are_added_up_and_never_fall_when_a_thread_ends() {
        let folder = tempfile::tempdir().unwrap();
        let process = folder.path();
        thread(process, 7, 1_000_000_000, (10, 1));
        thread(process, 8, 500_000_000, (20, 2));
        let mut threads = Threads::new(process.to_owned());
        let mut may_hold = 0;
        assert_eq!(threads.run_delay_seconds(2, &mut may_hold), Ok(1.5));
        let both = Switches {
            voluntary: 30,
            involuntary: 3,
        };
        assert_eq!(threads.switches(2), Some(both));

        end(process, 8);
        thread(process, 7, 1_250_000_000, (11, 1));
        thread(process, 9, 250_000_000, (1, 0));
        // The count is the same: the failed reading is what shows that the threads are others.
        assert_eq!(threads.run_delay_seconds(2, &mut may_hold), Ok(1.75));
        assert_eq!(threads.run_delay_seconds(2, &mut may_hold), Ok(2.0));
        let all = Switches {
            voluntary: 32,
            involuntary: 3,
        };
        assert_eq!(threads.switches(2), Some(all));
    }

    #[test]
    fn only_so_many_files_are_held() {
        let folder = tempfile::tempdir().unwrap();
        for id in 1..=5 {
            thread(folder.path(), id, 1_000_000_000, (0, 0));
        }
        let mut threads = Threads::new(folder.path().to_owned());
        let mut may_hold = 3;
        assert_eq!(threads.run_delay_seconds(5, &mut may_hold), Ok(5.0));
        assert_eq!((threads.held(), may_hold), (3, 0));
        thread(folder.path(), 1, 2_000_000_000, (0, 0));
        thread(folder.path(), 5, 2_000_000_000, (0, 0));
        assert_eq!(threads.run_delay_seconds(5, &mut may_hold), Ok(7.0));
    }

    #[test]
    fn what_cannot_be_told_has_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let process = folder.path();
        let read = |count| Threads::new(process.to_owned()).run_delay_seconds(count, &mut 9);
        assert_eq!(read(1), Err(Absence::NotSupported), "no such process");
        thread(process, 7, 1, (0, 0));
        assert_eq!(read(2049), Err(Absence::NotSupported), "too many threads");
        fs::write(process.join("task/7/schedstat"), "").unwrap();
        assert_eq!(read(1), Err(Absence::NotSupported), "no SCHED_INFO");
    }
}
