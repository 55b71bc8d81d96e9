//! The worker's own copy of what it reports: appended and synced before anything is published.
//!
//! One file per agent stream, `<experiment>.<run>.<attempt>.<agent>.spool`: frames of a 4-byte
//! big-endian length and an encoded record, in stream order. A file is removed when the
//! coordinator closes the leg; one that is found later belongs to a run that never closed here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use chimera_domain::ids::AgentKey;
use thiserror::Error;

/// A spool frame is one record; the bus takes no larger message.
const MAX_FRAME_BYTES: usize = 8 << 20;

/// Why the spool could not be kept.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The file system refused.
    #[error("cannot {action} the spool file {path}")]
    Io {
        /// `create`, `write`, `sync`, ...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record larger than the bus takes.
    #[error("a record of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
}

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
}

impl Spool {
    /// Creates the spool of one stream; an older one of the same stream is replaced.
    ///
    /// # Errors
    /// When the folder or the file cannot be made.
    pub fn create(dir: &Path, key: &AgentKey) -> Result<Self, SpoolError> {
        let name = format!(
            "{}.{}.{}.{}.spool",
            key.experiment, key.run, key.attempt, key.agent
        );
        let path = dir.join(name);
        let fail = |action, source| SpoolError::Io {
            action,
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(|e| fail("create the folder of", e))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)
            .map_err(|e| fail("create", e))?;
        // The name must survive a power cut too, not only the bytes.
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(|e| fail("sync the folder of", e))?;
        Ok(Self { file, path })
    }

    /// Appends one record and waits until it is on disk.
    ///
    /// # Errors
    /// When the record is too large or the disk refuses it.
    pub fn append(&mut self, record: &[u8]) -> Result<(), SpoolError> {
        let len = u32::try_from(record.len())
            .ok()
            .filter(|_| record.len() <= MAX_FRAME_BYTES)
            .ok_or(SpoolError::TooLarge(record.len()))?;
        let mut frame = Vec::with_capacity(record.len() + 4);
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(record);
        let fail = |action, source| SpoolError::Io {
            action,
            path: self.path.clone(),
            source,
        };
        self.file.write_all(&frame).map_err(|e| fail("write", e))?;
        self.file.sync_data().map_err(|e| fail("sync", e))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The leg is closed: the bus has everything.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(self) -> Result<(), SpoolError> {
        std::fs::remove_file(&self.path).map_err(|source| SpoolError::Io {
            action: "remove",
            path: self.path.clone(),
            source,
        })
    }
}

/// Reads the whole records of a spool file; a torn last frame is left out.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>, SpoolError> {
    let fail = |action, source| SpoolError::Io {
        action,
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(|e| fail("open", e))?;
    let mut records = Vec::new();
    let mut head = [0u8; 4];
    while file.read_exact(&mut head).is_ok() {
        let len = u32::from_be_bytes(head) as usize;
        if len > MAX_FRAME_BYTES {
            break;
        }
        let mut record = vec![0; len];
        if file.read_exact(&mut record).is_err() {
            break;
        }
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_domain::ids::{AgentId, ExperimentId, RunId};

    fn key() -> AgentKey {
        AgentKey {
            experiment: ExperimentId::try_new("e").unwrap(),
            run: RunId::try_new("r").unwrap(),
            attempt: 1,
            agent: AgentId::try_new("a").unwrap(),
        }
    }

    #[test]
    fn whole_records_survive_a_torn_tail() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), &key()).unwrap();
        for record in [&b"one"[..], b"", b"three"] {
            spool.append(record).unwrap();
        }
        let bytes = std::fs::read(spool.path()).unwrap();
        std::fs::write(spool.path(), &bytes[..bytes.len() - 2]).unwrap();
        assert_eq!(read(spool.path()).unwrap(), [b"one".to_vec(), b"".to_vec()]);
        spool.remove().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_or_missing_disk_is_said_with_its_path() {
        let error = Spool::create(Path::new("/proc/no/such"), &key()).unwrap_err();
        assert!(error.to_string().contains("/proc/no/such"), "{error}");
    }
}
