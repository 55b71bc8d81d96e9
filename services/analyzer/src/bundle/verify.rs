//! Whether a bundle is as it was written, whole, and as its records compute.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use chimera_domain::control::ControlRecord;
use serde_json::Value;

use super::values::{Change, Comparison};
use super::{Bundle, BundleError, CONTROL, DEAD, EVENTS, FileHash, Manifest, TELEMETRY};
use crate::records::StreamCount;

/// What was found of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// The software that wrote it.
    pub written_by: String,
    /// The software that looked.
    pub computed_by: String,
    /// Files that are listed.
    pub files: usize,
    /// Of these, those with the listed size and SHA-256.
    pub files_unchanged: usize,
    /// What was damaged, each with its file.
    pub damage: Vec<String>,
    /// The agents' streams; `None`: the records are damaged or are not read by this version.
    pub streams: Option<StreamCount>,
    /// What the records compute to; `None`: there was no point in computing.
    pub recomputed: Option<Recomputed>,
}

/// What the records of a bundle compute to, beside its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recomputed {
    /// Files that come out as other bytes.
    pub differ: Vec<String>,
    /// Files that the bundle lacks.
    pub new: Vec<String>,
    /// Files that the records do not compute to any more.
    pub gone: Vec<String>,
    /// Places that only the computed documents have, each with its file.
    pub added: Vec<String>,
    /// Sentences of the documents that are put otherwise, each with its file.
    pub reworded: Vec<String>,
    /// Values of the documents that differ, each with its file, `report.json` first.
    pub changed: Vec<(String, Change)>,
}

/// The verdict on a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it was written and as it computes.
    Same,
    /// Undamaged; another version wrote it, and this one says more and the same figures.
    Grown,
    /// Undamaged; another version wrote it, and this one finds other figures.
    Changed,
    /// Damaged, or this very version computes other bytes.
    Faulty,
}

impl State {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Grown => "grown",
            Self::Changed => "changed",
            Self::Faulty => "faulty",
        }
    }
}

impl Verification {
    /// The verdict.
    #[must_use]
    pub fn state(&self) -> State {
        if !self.faults().is_empty() {
            return State::Faulty;
        }
        match &self.recomputed {
            Some(found) if found.is_same() => State::Same,
            Some(found) if found.has_only_grown() => State::Grown,
            _ => State::Changed,
        }
    }

    /// What is wrong, in words: damage, and where the version that wrote it now computes other bytes.
    /// What another version computes otherwise is no fault of the bundle.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.damage.clone();
        if self.is_of_another_version() {
            return faults;
        }
        if let Some(found) = &self.recomputed {
            let told = |paths: &[String], what: &str| -> Vec<String> {
                paths.iter().map(|path| format!("{path}: {what}")).collect()
            };
            faults.extend(told(&found.differ, "the records compute to other bytes"));
            faults.extend(told(
                &found.new,
                "the records compute to it, the bundle lacks it",
            ));
            faults.extend(told(&found.gone, "the records do not compute to it"));
        }
        faults
    }

    /// Whether other software wrote the bundle than looked at it, by version or git revision.
    #[must_use]
    pub fn is_of_another_version(&self) -> bool {
        self.written_by != self.computed_by
    }
}

impl Recomputed {
    fn of(manifest: &Manifest, folder: &Path, files: &[(String, Vec<u8>)]) -> Self {
        let mut found = Self::default();
        for (path, bytes) in files {
            match manifest.files.get(path) {
                None => found.new.push(path.clone()),
                Some(hash) if FileHash::of(bytes) == *hash => {}
                Some(_) => {
                    found.differ.push(path.clone());
                    found.compare(folder, path, bytes);
                }
            }
        }
        let computed: BTreeSet<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        let listed = manifest
            .files
            .keys()
            .filter(|path| !RECORDS.contains(&path.as_str()) && !computed.contains(path.as_str()));
        found.gone.extend(listed.cloned());
        // What it is all about stands first.
        found.changed.sort_by_key(|(path, _)| path != REPORT);
        found
    }

    /// Documents hold the figures; pages, tables for people and Parquet are written from them. The
    /// schema has no figures.
    fn compare(&mut self, folder: &Path, path: &str, bytes: &[u8]) {
        if !has_extension(path, "json") || path == SCHEMA {
            return;
        }
        let old = std::fs::read(folder.join(path))
            .ok()
            .and_then(|old| serde_json::from_slice::<Value>(&old).ok());
        let new = serde_json::from_slice::<Value>(bytes).ok();
        let (Some(mut old), Some(new)) = (old, new) else {
            self.changed.push((
                path.to_owned(),
                Change {
                    place: "the document".to_owned(),
                    was: "no JSON".to_owned(),
                    is: "JSON".to_owned(),
                },
            ));
            return;
        };
        let version = new.get(SCHEMA_VERSION).filter(|_| path == REPORT);
        if let (Some(version), Some(was)) = (version, old.get_mut(SCHEMA_VERSION))
            && was != version
        {
            // The number of the schema is no figure.
            self.added
                .push(format!("{path}: {SCHEMA_VERSION} {was} -> {version}"));
            *was = version.clone();
        }
        let found = Comparison::of(&old, &new);
        let told = |places: BTreeSet<String>| {
            let told = places.into_iter().map(|place| format!("{path}: {place}"));
            told.collect::<Vec<_>>()
        };
        self.added.extend(told(found.added));
        self.reworded.extend(told(found.reworded));
        self.changed
            .extend(found.changed.into_iter().map(|c| (path.to_owned(), c)));
    }

    fn is_same(&self) -> bool {
        self.differ.is_empty() && self.new.is_empty() && self.gone.is_empty()
    }

    fn has_only_grown(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }
}

const RECORDS: [&str; 4] = [CONTROL, EVENTS, TELEMETRY, DEAD];
const REPORT: &str = "report.json";
const SCHEMA: &str = "report.schema.json";
const SCHEMA_VERSION: &str = "schema_version";

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == extension)
}

/// Checks a bundle: every file by its hash, the records by themselves, then what they compute to.
///
/// `software` is the version that looks ([`chimera_runtime::version::software`]). A later step is left
/// out where an earlier one found damage.
///
/// # Errors
/// When it cannot be read as a bundle at all.
pub fn verify(folder: &Path, software: &str) -> Result<Verification, BundleError> {
    let manifest = super::manifest(folder)?;
    let damage = damaged_files(&manifest, folder);
    let files = manifest.files.len();
    let mut found = Verification {
        written_by: manifest.software.clone(),
        computed_by: software.to_owned(),
        files,
        files_unchanged: files.saturating_sub(damage.len()),
        damage,
        streams: None,
        recomputed: None,
    };
    let lacks = RECORDS
        .iter()
        .filter(|path| !manifest.files.contains_key(**path));
    found
        .damage
        .extend(lacks.map(|path| format!("{path}: the manifest does not list it")));
    if !found.damage.is_empty() {
        return Ok(found);
    }
    let foreign = |found: &Verification, error: BundleError| {
        if !found.is_of_another_version() {
            return error;
        }
        BundleError::Foreign {
            written_by: found.written_by.clone(),
            computed_by: found.computed_by.clone(),
            source: Box::new(error),
        }
    };
    let bundle = super::read(folder).map_err(|error| foreign(&found, error))?;
    found.streams = Some(bundle.records.streams());
    found.damage.extend(open_end(&bundle));
    if found.damage.is_empty() {
        let rendered = bundle.replay().map_err(|error| foreign(&found, error))?;
        found.recomputed = Some(Recomputed::of(&manifest, folder, &rendered.files));
    }
    Ok(found)
}

fn damaged_files(manifest: &Manifest, folder: &Path) -> Vec<String> {
    let damaged = manifest.files.iter().filter_map(|(path, expected)| {
        let plain = Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
        if !plain {
            return Some(format!(
                "{path}: the manifest names a path outside the bundle"
            ));
        }
        match std::fs::read(folder.join(path)) {
            Ok(bytes) if FileHash::of(&bytes) == *expected => None,
            Ok(bytes) => Some(format!(
                "{path}: changed ({} bytes, {} when it was written, or other content)",
                bytes.len(),
                expected.bytes
            )),
            Err(error) => Some(format!("{path}: cannot be read: {error}")),
        }
    });
    damaged.collect()
}

/// A bundle is written once its experiment has ended.
fn open_end(bundle: &Bundle) -> Option<String> {
    let mut control = bundle.records.control.iter();
    let ended = control.any(|e| matches!(e.record, ControlRecord::ExperimentClosed { .. }));
    (!ended).then(|| format!("{CONTROL}: the end of the experiment is missing"))
}
