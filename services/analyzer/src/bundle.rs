//! The bundle: an experiment's records, report and hashes in one folder that can be checked and
//! replayed without any service.
//!
//! ```text
//! bundle.json          what is here: environment, and bytes and SHA-256 of every other file
//! records/*.ndjson     control, agent, telemetry and dead-letter records, one JSON a line
//! report.json, report.md, runs.csv, phase_*/...    computed from the records alone
//! ```
//!
//! It is written into `<folder>.partial`, synced and renamed: a folder that has its name is whole.

mod values;
mod verify;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use chimera_domain::ids::ExperimentId;
use chimera_domain::report::Environment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::records::{Records, Rendered, ReportError};

pub use values::{Change, Comparison};
pub use verify::{Recomputed, State, Verification, verify};

/// Version of the bundle's layout.
pub const BUNDLE_VERSION: u32 = 1;
/// Name of the manifest.
pub const MANIFEST: &str = "bundle.json";

const CONTROL: &str = "records/control.ndjson";
const EVENTS: &str = "records/events.ndjson";
const TELEMETRY: &str = "records/telemetry.ndjson";
const DEAD: &str = "records/dead_letters.ndjson";

/// Why a bundle could not be written or read.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The target is there already.
    #[error("{0} exists already; choose another folder")]
    Exists(PathBuf),
    /// The folder is no bundle.
    #[error("{path} is no bundle: it has no {MANIFEST}")]
    NoManifest {
        /// Which folder.
        path: PathBuf,
    },
    /// A line or the manifest is not what it should be.
    #[error("{path}, line {line}: not a record of this version")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A newer layout.
    #[error("bundle layout {found} is newer than this chimera, which reads {BUNDLE_VERSION}")]
    Version {
        /// Of the bundle.
        found: u32,
    },
    /// Nothing is damaged, and another version's records cannot be used.
    #[error(
        "every file is as {written_by} wrote it, but this chimera, {computed_by}, cannot use its \
         records: check it with that version"
    )]
    Foreign {
        /// What wrote the bundle.
        written_by: String,
        /// What looked.
        computed_by: String,
        /// Why.
        #[source]
        source: Box<BundleError>,
    },
    /// A record has no JSON.
    #[error("a record cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The records make no report.
    #[error(transparent)]
    Report(#[from] ReportError),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io {
        action,
        path,
        source,
    }
}

/// `bundle.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`BUNDLE_VERSION`] when it was written.
    pub bundle_version: u32,
    /// Which experiment.
    pub experiment: ExperimentId,
    /// What wrote it.
    pub software: String,
    /// What the report says of the host; an input of the report that no record carries.
    pub environment: Environment,
    /// Every other file of the folder, by path.
    pub files: BTreeMap<String, FileHash>,
}

/// One file's size and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Size.
    pub bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

impl FileHash {
    fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(bytes)),
        }
    }
}

/// A bundle read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// What is here.
    pub manifest: Manifest,
    /// The records.
    pub records: Records,
}

/// Writes a bundle. Nothing has the target's name until everything is on disk.
///
/// # Errors
/// When the target exists, or the disk refuses.
pub fn write(
    target: &Path,
    experiment: &ExperimentId,
    software: &str,
    environment: &Environment,
    records: &Records,
    rendered: &Rendered,
) -> Result<(), BundleError> {
    if target.exists() {
        return Err(BundleError::Exists(target.to_owned()));
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let draft = target.with_file_name(name);
    if draft.exists() {
        std::fs::remove_dir_all(&draft).map_err(io_error("clear", &draft))?;
    }
    let mut files: Vec<(String, Vec<u8>)> = vec![
        (CONTROL.to_owned(), ndjson(&records.control)?),
        (EVENTS.to_owned(), ndjson(&records.events)?),
        (TELEMETRY.to_owned(), ndjson(&records.telemetry)?),
        (DEAD.to_owned(), ndjson(&records.dead)?),
    ];
    files.extend(rendered.files.iter().cloned());
    let manifest = Manifest {
        bundle_version: BUNDLE_VERSION,
        experiment: experiment.clone(),
        software: software.to_owned(),
        environment: environment.clone(),
        files: files
            .iter()
            .map(|(path, bytes)| (path.clone(), FileHash::of(bytes)))
            .collect(),
    };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    files.push((MANIFEST.to_owned(), text));
    for (path, bytes) in &files {
        write_synced(&draft.join(path), bytes)?;
    }
    std::fs::rename(&draft, target).map_err(io_error("rename to", target))?;
    if let Some(parent) = target.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(parent)
            .and_then(|d| d.sync_all())
            .map_err(io_error("sync", parent))?;
    }
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io_error("make", parent))?;
    }
    let mut file = File::create(path).map_err(io_error("create", path))?;
    file.write_all(bytes).map_err(io_error("write", path))?;
    file.sync_all().map_err(io_error("sync", path))
}

fn ndjson<T: Serialize>(items: &[T]) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    for item in items {
        serde_json::to_writer(&mut bytes, item)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads a bundle's manifest and records; checks no hash, see [`verify`].
///
/// # Errors
/// When it is no bundle of this version, or a record cannot be read.
pub fn read(folder: &Path) -> Result<Bundle, BundleError> {
    let manifest = manifest(folder)?;
    let records = Records {
        control: lines(&folder.join(CONTROL))?,
        events: lines(&folder.join(EVENTS))?,
        telemetry: lines(&folder.join(TELEMETRY))?,
        dead: lines(&folder.join(DEAD))?,
    };
    Ok(Bundle { manifest, records })
}

/// Reads a bundle's manifest alone.
///
/// # Errors
/// When the folder is no bundle of this version.
pub fn manifest(folder: &Path) -> Result<Manifest, BundleError> {
    let path = folder.join(MANIFEST);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(BundleError::NoManifest {
                path: folder.to_owned(),
            });
        }
        Err(e) => return Err(io_error("read", &path)(e)),
    };
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|source| BundleError::Parse {
            path,
            line: source.line(),
            source,
        })?;
    if manifest.bundle_version > BUNDLE_VERSION {
        return Err(BundleError::Version {
            found: manifest.bundle_version,
        });
    }
    Ok(manifest)
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, BundleError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let mut items = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(io_error("read", path))?;
        let item = serde_json::from_str(&line).map_err(|source| BundleError::Parse {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        items.push(item);
    }
    Ok(items)
}

impl Bundle {
    /// Computes the report again, from the records alone.
    ///
    /// # Errors
    /// When the records make no report.
    pub fn replay(&self) -> Result<Rendered, BundleError> {
        Ok(self.records.render(&self.manifest.environment)?)
    }
}
