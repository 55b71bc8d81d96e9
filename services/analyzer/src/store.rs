//! Reports by experiment, and whoever waits for one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chimera_domain::ids::ExperimentId;
use chimera_domain::report::Report;
use tokio::sync::watch;

/// An experiment that has ended and whose report is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The report.
    pub report: Report,
    /// Its bundle.
    pub folder: PathBuf,
}

/// What there is of an experiment.
type Entry = Result<Arc<Finished>, String>;

/// The reports of this analyzer. The files are the archive; this is the index.
#[derive(Debug)]
pub struct Store {
    entries: Mutex<BTreeMap<ExperimentId, Entry>>,
    changed: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ExperimentId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what became of an experiment.
    pub(crate) fn put(&self, id: ExperimentId, entry: Entry) {
        self.lock().insert(id, entry);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Whether there is a word on it.
    pub(crate) fn has(&self, id: &ExperimentId) -> bool {
        self.lock().contains_key(id)
    }

    /// Waits until the experiment has ended and its report is written.
    ///
    /// # Errors
    /// In words, when its report could not be made.
    pub async fn wait_for(&self, id: &ExperimentId) -> Entry {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(entry) = self.lock().get(id) {
                return entry.clone();
            }
            if changed.changed().await.is_err() {
                // The sender lives in self, so this cannot be; waiting is what was asked for.
                std::future::pending::<()>().await;
            }
        }
    }

    /// All reports, by id.
    pub(crate) fn list(&self) -> Vec<Arc<Finished>> {
        self.lock()
            .values()
            .filter_map(|entry| entry.as_ref().ok().cloned())
            .collect()
    }
}
