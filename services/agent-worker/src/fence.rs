//! The highest epoch obeyed so far, kept on disk: a coordinator that was replaced while this
//! worker was away must not be obeyed by it after a restart either.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the epoch could not be kept.
#[derive(Debug, Error)]
#[error("cannot {action} the epoch file {path}")]
pub struct FenceError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The fence.
#[derive(Debug)]
pub(crate) struct Fence {
    path: PathBuf,
    highest: u64,
}

impl Fence {
    /// Reads the epoch of an earlier life, if there was one.
    ///
    /// # Errors
    /// When the file is there but cannot be read as a number.
    pub(crate) fn open(dir: &Path) -> Result<Self, FenceError> {
        let path = dir.join("epoch");
        let fail = |action, source| FenceError {
            action,
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(|e| fail("make the folder of", e))?;
        let highest = match std::fs::read_to_string(&path) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|e| fail("understand", io::Error::new(io::ErrorKind::InvalidData, e)))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(fail("read", e)),
        };
        Ok(Self { path, highest })
    }

    /// Whether a command of this epoch may be obeyed; a higher one is remembered first.
    ///
    /// # Errors
    /// When the epoch cannot be written down.
    pub(crate) fn admits(&mut self, epoch: u64) -> Result<bool, FenceError> {
        if epoch > self.highest {
            self.write(epoch).map_err(|source| FenceError {
                action: "write",
                path: self.path.clone(),
                source,
            })?;
            self.highest = epoch;
        }
        Ok(epoch == self.highest)
    }

    /// Whole or not at all: a torn number would fence everyone out.
    fn write(&self, epoch: u64) -> io::Result<()> {
        let draft = self.path.with_extension("partial");
        let mut file = std::fs::File::create(&draft)?;
        write!(file, "{epoch}")?;
        file.sync_data()?;
        std::fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_epoch_is_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut fence = Fence::open(dir.path()).unwrap();
        assert!(fence.admits(7).unwrap());
        assert!(fence.admits(7).unwrap());
        assert!(!fence.admits(6).unwrap());
        let mut again = Fence::open(dir.path()).unwrap();
        assert!(!again.admits(6).unwrap());
        assert!(again.admits(8).unwrap());
    }

    #[test]
    fn a_damaged_file_is_an_error_not_epoch_zero() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("epoch"), "x").unwrap();
        assert!(Fence::open(dir.path()).is_err());
    }
}
