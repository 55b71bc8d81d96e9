//! Files that the kernel writes anew at every read, and where they are.
//!
//! Files stay open and are read again from their beginning: a reading costs one call, no search for
//! a path and no memory.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Room for a file of `/proc` to begin with: `/proc/stat` of some 100 cores.
const FIRST_ROOM: usize = 16 * 1024;
/// Room for a file of one line, one per thread of an engine.
const LINE_ROOM: usize = 512;
/// Most that is read of one file: far above `/proc/stat` of 4096 cores.
const MAX_ROOM: usize = 4 * 1024 * 1024;

/// Where the kernel's files are. Another place than usual only in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roots {
    proc: PathBuf,
    /// Where memory traffic is counted, if it is.
    pub(crate) resctrl: PathBuf,
    /// Whether the processes below `proc` are those that system calls know by the same numbers.
    pub(crate) live: bool,
}

impl Roots {
    /// This host's.
    pub(crate) fn system() -> Self {
        Self {
            proc: PathBuf::from("/proc"),
            resctrl: PathBuf::from("/sys/fs/resctrl"),
            live: true,
        }
    }

    /// Files laid out below `folder` as below `/`.
    #[cfg(test)]
    pub(crate) fn below(folder: &Path) -> Self {
        Self {
            proc: folder.join("proc"),
            resctrl: folder.join("sys/fs/resctrl"),
            live: false,
        }
    }

    /// A path below `/proc`; empty for `/proc` itself.
    pub(crate) fn proc(&self, path: &str) -> PathBuf {
        self.proc.join(path)
    }

    /// The folder of a process.
    pub(crate) fn process(&self, pid: u32) -> PathBuf {
        self.proc.join(pid.to_string())
    }
}

/// A file that is read again and again.
#[derive(Debug)]
pub(crate) struct ProcFile {
    file: File,
    room: Vec<u8>,
}

impl ProcFile {
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::with_room(path, FIRST_ROOM)
    }

    /// A file of one short line.
    pub(crate) fn open_line(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::with_room(path, LINE_ROOM)
    }

    fn with_room(path: impl AsRef<Path>, room: usize) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            room: vec![0; room],
        })
    }

    /// Its content now. Copied only where it is no UTF-8 (the name of a process may be anything).
    ///
    /// # Errors
    /// As the kernel answers: for a file of a process that has ended, `ESRCH`.
    pub(crate) fn read(&mut self) -> io::Result<Cow<'_, str>> {
        // The kernel makes these files whole at each read from their beginning: what fits the room
        // came in one read and is of one instant.
        let length = loop {
            let length = self.file.read_at(&mut self.room, 0)?;
            if length < self.room.len() || length >= MAX_ROOM {
                break length;
            }
            self.room.resize(length.saturating_mul(2), 0);
        };
        Ok(String::from_utf8_lossy(
            self.room.get(..length).unwrap_or_default(),
        ))
    }
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

/// A count of the kernel as a number to divide.
#[expect(
    clippy::cast_precision_loss,
    reason = "ticks, bytes and ns of one host are far below 2^53"
)]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_larger_than_the_room_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        std::fs::write(&path, "x".repeat(FIRST_ROOM * 3)).unwrap();
        for open in [ProcFile::open(&path), ProcFile::open_line(&path)] {
            let mut file = open.unwrap();
            std::fs::write(&path, "x".repeat(FIRST_ROOM * 3)).unwrap();
            assert_eq!(file.read().unwrap().len(), FIRST_ROOM * 3);
            std::fs::write(&path, "y").unwrap();
            assert_eq!(file.read().unwrap(), "y", "and again from its beginning");
        }
    }
}
