//! The exclusive claim on an instance, on this host: two workers on one engine would each measure
//! the other. The coordinator refuses a second claim too, but two local stacks have two
//! coordinators and one Ollama.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use chimera_domain::ids::InstanceId;
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// Why an instance could not be claimed.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Another worker has it.
    #[error(
        "instance {instance} is claimed by another worker on this host (lock {path}); \
         stop that worker, or give each worker its own instance"
    )]
    Taken {
        /// Which instance.
        instance: InstanceId,
        /// The lock that says so.
        path: PathBuf,
    },
    /// The lock file could not be made.
    #[error("cannot make the claim file {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Held as long as the value lives; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: File,
}

impl Claim {
    /// Claims an instance.
    ///
    /// # Errors
    /// When another process (or another worker of this one) holds it, or no lock can be made.
    pub(crate) fn take(dir: &Path, instance: &InstanceId) -> Result<Self, ClaimError> {
        let path = dir.join(format!("{instance}.lock"));
        let fail = |source| ClaimError::Io {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(fail)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(fail)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(ClaimError::Taken {
                instance: instance.clone(),
                path,
            }),
            Err(errno) => Err(fail(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_claim_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let instance = InstanceId::try_new("127-0-0-1-11434").unwrap();
        let first = Claim::take(dir.path(), &instance).unwrap();
        let second = Claim::take(dir.path(), &instance).unwrap_err();
        assert!(matches!(second, ClaimError::Taken { .. }), "{second}");
        drop(first);
        Claim::take(dir.path(), &instance).unwrap();
    }
}
