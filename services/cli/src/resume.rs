//! What a `chimera bench` that was cut short leaves behind, and how it goes on.
//!
//! ```text
//! <folder of OUT>/.<name of OUT>.unfinished/
//!     job.json       what is measured, and on what; written whole or not at all
//!     lock           held by the chimera that works here; the kernel lets go of it
//!     bus/           the bus's store: every decision and every record so far
//!     workers/       spools and logs of the engines
//! ```
//!
//! The bus's store is the truth: the coordinator that is started on it again goes on with the next
//! leg. The folder is removed when the results are written.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chimera_domain::ids::ExperimentId;
use chimera_domain::options::EngineKind;
use chimera_domain::plan::Plan;
use chimera_runtime::exit::UsageError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engines::Wanted;

/// Version of `job.json`.
const VERSION: u32 = 1;
const JOB: &str = "job.json";
const LOCK: &str = "lock";

/// `job.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) version: u32,
    /// What began it.
    pub(crate) software: String,
    pub(crate) experiment: ExperimentId,
    /// The spec with everything settled, TOML.
    pub(crate) spec: String,
    /// Of the plan that the spec unfolded to.
    pub(crate) plan_sha256: String,
    /// What was asked for, to find the engines again.
    pub(crate) wanted: Wanted,
    /// What was found.
    pub(crate) engine: EngineKind,
    /// What was found.
    pub(crate) model: String,
    pub(crate) data_root: Option<PathBuf>,
    /// Size of the bus's store; its streams were made to fit it. `None`: it was not started yet.
    pub(crate) max_file_store: Option<u64>,
}

impl Saved {
    pub(crate) const VERSION: u32 = VERSION;
}

/// What tells two plans apart.
pub(crate) fn plan_hash(plan: &Plan) -> anyhow::Result<String> {
    Ok(hex::encode(Sha256::digest(serde_json::to_vec(plan)?)))
}

/// The folder of one `chimera bench`, ours alone as long as this lives.
#[derive(Debug)]
pub(crate) struct Workplace {
    path: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Begins anew.
    ///
    /// # Errors
    /// When another chimera works here, or an earlier one left something to go on with.
    pub(crate) fn create(out: &Path) -> anyhow::Result<Self> {
        let place = Self::at(out)?;
        if place.path.join(JOB).exists() {
            return Err(UsageError(format!(
                "{out} was begun before and not finished: go on with `chimera bench --resume {out}`, \
                 or remove {path} to begin anew",
                out = out.display(),
                path = place.path.display()
            ))
            .into());
        }
        // Whoever was here did not get as far as a job; the store could be half made.
        for rest in ["bus", "workers"] {
            let rest = place.path.join(rest);
            if rest.exists() {
                fs::remove_dir_all(&rest)
                    .with_context(|| format!("cannot clear {}", rest.display()))?;
            }
        }
        Ok(place)
    }

    /// Goes on; `None`: nothing was begun.
    ///
    /// # Errors
    /// When another chimera works here, or what was left cannot be read.
    pub(crate) fn open(out: &Path) -> anyhow::Result<Option<(Self, Saved)>> {
        let path = folder(out)?;
        let file = path.join(JOB);
        if !file.is_file() {
            return Ok(None);
        }
        let place = Self::at(out)?;
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let saved: Saved = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what chimera wrote", file.display()))?;
        if saved.version > VERSION {
            return Err(UsageError(format!(
                "{} was begun by {}, which this {} cannot go on with",
                out.display(),
                saved.software,
                chimera_runtime::version::software()
            ))
            .into());
        }
        Ok(Some((place, saved)))
    }

    fn at(out: &Path) -> anyhow::Result<Self> {
        let path = folder(out)?;
        fs::create_dir_all(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        let name = path.join(LOCK);
        let lock = File::create(&name)
            .with_context(|| format!("cannot make the file {}", name.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(UsageError(format!(
                "another chimera is making {} right now: wait for it, or choose another folder",
                out.display()
            ))
            .into()),
            Err(TryLockError::Error(error)) => {
                Err(anyhow::Error::from(error).context(format!("cannot lock {}", name.display())))
            }
        }
    }

    /// Where store, spools and logs go.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes what is measured here: whole or not at all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn save(&self, saved: &Saved) -> anyhow::Result<()> {
        let mut draft = tempfile::NamedTempFile::new_in(&self.path)
            .with_context(|| format!("cannot write into {}", self.path.display()))?;
        let target = self.path.join(JOB);
        serde_json::to_writer_pretty(&mut draft, saved)
            .map_err(std::io::Error::from)
            .and_then(|()| draft.flush())
            .and_then(|()| draft.as_file().sync_all())
            .and_then(|()| draft.persist(&target).map_err(|e| e.error))
            .and_then(|_| File::open(&self.path)?.sync_all())
            .with_context(|| format!("cannot write {}", target.display()))
    }

    /// There is nothing to go on with; what is left is for a look.
    pub(crate) fn keep_for_a_look(self) -> PathBuf {
        if let Err(error) = fs::remove_file(self.path.join(JOB)) {
            tracing::debug!(%error, "there was no job");
        }
        self.path
    }

    /// The results are written.
    pub(crate) fn remove(self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a work folder stays behind");
        }
    }
}

/// Beside the results and not in them: results have their name only once they are whole.
fn folder(out: &Path) -> anyhow::Result<PathBuf> {
    let name = out.file_name().ok_or_else(|| {
        UsageError(format!(
            "{} names no folder that could be made",
            out.display()
        ))
    })?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".unfinished");
    Ok(out.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved {
            version: VERSION,
            software: "chimera test".to_owned(),
            experiment: ExperimentId::try_new("e-1").unwrap(),
            spec: "name = \"e\"".to_owned(),
            plan_sha256: "00".to_owned(),
            wanted: Wanted::default(),
            engine: EngineKind::Openai,
            model: "m".to_owned(),
            data_root: None,
            max_file_store: Some(1 << 30),
        }
    }

    fn usage(error: &anyhow::Error) -> bool {
        chimera_runtime::exit::code(error) == chimera_runtime::exit::USAGE
    }

    #[test]
    fn what_was_saved_is_found_and_a_second_beginning_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        assert!(Workplace::open(&out).unwrap().is_none());
        let place = Workplace::create(&out).unwrap();
        assert_eq!(place.path(), dir.path().join(".out.unfinished"));
        // Nothing saved yet: there is nothing to go on with.
        assert!(Workplace::open(&out).unwrap().is_none());
        place.save(&saved()).unwrap();
        let other = Workplace::open(&out).unwrap_err();
        assert!(usage(&other), "{other:#}");
        assert!(other.to_string().contains("another chimera"), "{other}");
        drop(place);
        let again = Workplace::create(&out).unwrap_err();
        assert!(usage(&again), "{again:#}");
        assert!(again.to_string().contains("--resume"), "{again}");
        let (place, read) = Workplace::open(&out).unwrap().unwrap();
        assert_eq!(read, saved());
        place.remove();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_beginning_without_a_job_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let place = Workplace::create(&out).unwrap();
        let store = place.path().join("bus/store");
        fs::create_dir_all(&store).unwrap();
        drop(place);
        let place = Workplace::create(&out).unwrap();
        assert!(!store.exists());
        place.save(&saved()).unwrap();
        let left = place.keep_for_a_look();
        assert!(left.exists());
        assert!(Workplace::open(&out).unwrap().is_none());
    }

    #[test]
    fn a_job_of_a_newer_chimera_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let place = Workplace::create(&out).unwrap();
        let newer = Saved {
            version: VERSION + 1,
            ..saved()
        };
        place.save(&newer).unwrap();
        drop(place);
        let error = Workplace::open(&out).unwrap_err();
        assert!(usage(&error) && error.to_string().contains("chimera test"));
    }

    #[test]
    fn the_root_is_no_folder_for_results() {
        assert!(usage(&Workplace::create(Path::new("/")).unwrap_err()));
    }
}
