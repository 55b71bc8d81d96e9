//! Bytes between memory and processor, where the processor counts them (Linux resctrl, with memory
//! bandwidth monitoring: `mount -t resctrl resctrl /sys/fs/resctrl`).
//!
//! Rule: the growth of every counter since it was first read, added up: one per memory domain of the
//! root group and of every control group (a group's counter holds what its monitoring groups have,
//! not what other groups have). A counter that came later begins with nothing, one that went away
//! keeps what it had: groups that come and go are no traffic. Counters are looked for anew now and
//! then; traffic of a group made since is not seen until then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chimera_domain::telemetry::Absence;

use crate::proc::ProcFile;

/// Readings between two searches for counters: ten seconds at the usual period.
const READINGS_PER_SEARCH: u32 = 200;
/// Most counters read: a bound. Two sockets and a few control groups have a dozen.
const MAX_COUNTERS: usize = 128;

/// Reads the counters of memory traffic.
#[derive(Debug)]
pub(super) struct Traffic {
    root: PathBuf,
    counters: Vec<Counter>,
    total: u64,
    /// Why there are no counters.
    absent: Absence,
    until_search: u32,
}

#[derive(Debug)]
struct Counter {
    path: PathBuf,
    file: ProcFile,
    last: Option<u64>,
}

impl Traffic {
    pub(super) fn open(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            counters: Vec::new(),
            total: 0,
            absent: Absence::NotSupported,
            until_search: 0,
        }
    }

    /// Bytes since the first reading.
    ///
    /// # Errors
    /// Why they are not known: nothing counts them here, we may not read them, or a counter has no
    /// value at this moment.
    pub(super) fn sample(&mut self) -> Result<u64, Absence> {
        if self.until_search == 0 {
            self.search();
            self.until_search = READINGS_PER_SEARCH;
        }
        self.until_search -= 1;
        if self.counters.is_empty() {
            return Err(self.absent);
        }
        let mut whole = true;
        let total = &mut self.total;
        self.counters.retain_mut(|counter| {
            let Ok(text) = counter.file.read() else {
                // Its group is gone.
                return false;
            };
            // "Unavailable" or "Error" where the hardware has no value now.
            let Ok(now) = text.trim().parse::<u64>() else {
                whole = false;
                return true;
            };
            let before = counter.last.replace(now).unwrap_or(now);
            *total = total.saturating_add(now.saturating_sub(before));
            true
        });
        if whole && !self.counters.is_empty() {
            Ok(self.total)
        } else {
            Err(Absence::Unreadable)
        }
    }

    fn search(&mut self) {
        let mut found = Vec::new();
        self.absent = match counters_of(&self.root, &mut found) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Absence::NoPermission,
            _ => Absence::NotSupported,
        };
        // Control groups are the folders beside those that the kernel itself makes.
        for group in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = group.file_name();
            if found.len() < MAX_COUNTERS && name != "info" && name != "mon_groups" {
                // A folder without counters is no control group.
                drop(counters_of(&group.path(), &mut found));
            }
        }
        found.truncate(MAX_COUNTERS);
        self.counters.retain(|known| found.contains(&known.path));
        for path in found {
            if self.counters.iter().any(|known| known.path == path) {
                continue;
            }
            match ProcFile::open_line(&path) {
                Ok(file) => self.counters.push(Counter {
                    path,
                    file,
                    last: None,
                }),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.absent = Absence::NoPermission;
                }
                Err(error) => tracing::debug!(path = %path.display(), %error, "no traffic counter"),
            }
        }
    }
}

/// Adds the counters of one group, one per memory domain.
fn counters_of(group: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for domain in fs::read_dir(group.join("mon_data"))?.flatten() {
        let path = domain.path().join("mbm_total_bytes");
        if path.exists() {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(root: &Path, group: &str, domain: &str, text: &str) {
        let folder = root.join(group).join("mon_data").join(domain);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("mbm_total_bytes"), text).unwrap();
    }

    #[test]
    fn every_domain_and_group_counts_from_its_first_reading() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        set(root, "", "mon_L3_00", "100\n");
        set(root, "", "mon_L3_01", "7\n");
        set(root, "engines", "mon_L3_00", "50\n");
        // A monitoring group is inside its control group's counter already.
        set(root, "mon_groups", "mon_L3_00", "9\n");
        let mut traffic = Traffic::open(root);
        assert_eq!(traffic.sample(), Ok(0));
        set(root, "", "mon_L3_00", "130\n");
        set(root, "engines", "mon_L3_00", "55\n");
        set(root, "mon_groups", "mon_L3_00", "1000\n");
        assert_eq!(traffic.sample(), Ok(35));
        set(root, "", "mon_L3_01", "Unavailable\n");
        assert_eq!(traffic.sample(), Err(Absence::Unreadable));
        set(root, "", "mon_L3_01", "9\n");
        assert_eq!(traffic.sample(), Ok(37));
    }

    #[test]
    fn groups_that_come_and_go_are_no_traffic() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        set(root, "", "mon_L3_00", "100\n");
        set(root, "gone", "mon_L3_00", "5000\n");
        let mut traffic = Traffic::open(root);
        assert_eq!(traffic.sample(), Ok(0));
        fs::remove_dir_all(root.join("gone")).unwrap();
        set(root, "new", "mon_L3_00", "9000\n");
        traffic.until_search = 0;
        assert_eq!(traffic.sample(), Ok(0));
        set(root, "new", "mon_L3_00", "9001\n");
        assert_eq!(traffic.sample(), Ok(1));
    }

    #[test]
    fn a_processor_that_does_not_count_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut traffic = Traffic::open(&folder.path().join("resctrl"));
        assert_eq!(traffic.sample(), Err(Absence::NotSupported));
        fs::create_dir_all(folder.path().join("resctrl/mon_data/mon_L3_00")).unwrap();
        traffic.until_search = 0;
        assert_eq!(traffic.sample(), Err(Absence::NotSupported));
    }
}
